/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/simulation/sim_sentinel.h"

#include "tests/simulation/sim_check.h"
#include "tests/simulation/sim_control.h"
#include "tests/simulation/sim_node.h"

#include <stdlib.h>

enum {
    WATCH_MS = 250,
    AGAIN_MS = 3000,   /* between two tries to fail over */
    PATIENCE_MS = 8000, /* with a node that is not what it should be */
};

static sim_handler watch, promote, announce, gossip, give_up;
static const struct sim_view *newest_view(const struct sim *sim, uint32_t shard);
static uint32_t count_working(const struct sim *sim);
static uint32_t choose_leader(struct sim *sim);
static uint32_t choose_heir(const struct sim *sim, uint32_t shard, uint32_t master);
static bool is_quiet(const struct sim *sim, uint32_t shard, uint32_t heir);
static void begin(struct sim *sim, struct sim_failover *failover, bool is_planned);
static void correct(struct sim *sim, uint32_t shard, uint32_t master);
static void correct_node(struct sim *sim, struct sim_node *node, uint32_t master);
static void dispute(struct sim *sim, struct sim_failover *failover);
static void tell_followers(struct sim *sim, const struct sim_failover *failover);
static void learn(struct sim *sim, struct sim_sentinel *sentinel, uint32_t shard, const struct sim_view *view);

void sim_sentinels_create(struct sim *sim)
{
    struct sim_sentinels *sentinels = sim->sentinels = sim_allocate(1, sizeof(*sentinels));
    uint32_t shards = sim->nodes->shard_count;
    sentinels->down_after_us = sim->setup.weather == SIM_WEATHER_ROLLING ? SIM_S : sim_between(sim, 500, 2000) * SIM_MS;
    sentinels->failovers = sim_allocate(shards, sizeof(*sentinels->failovers));
    for (uint32_t i = 0; i < SIM_SENTINELS; i++) {
        struct sim_sentinel *sentinel = &sentinels->items[i];
        sentinel->views = sim_allocate(shards, sizeof(*sentinel->views));
        for (uint32_t shard = 0; shard < shards; shard++)
            sentinel->views[shard] = (struct sim_view){.node = sim->nodes->shards[shard].master, .epoch = 1};
    }
    for (uint32_t shard = 0; shard < shards; shard++) {
        sentinels->failovers[shard].shard = shard;
        sim_after(sim, sim_between(sim, 0, WATCH_MS * SIM_MS), watch, &sentinels->failovers[shard], 0);
    }
}

void sim_sentinels_destroy(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_SENTINELS; i++)
        free(sim->sentinels->items[i].views);
    free(sim->sentinels->failovers);
    free(sim->sentinels);
}

void sim_sentinel_freeze(struct sim *sim, uint32_t index)
{
    sim_tell(sim, "sentinel %u freezes", index);
    sim->sentinels->items[index].is_frozen = true;
}

void sim_sentinel_deafen(struct sim *sim, uint32_t index)
{
    sim_tell(sim, "sentinel %u hears nothing", index);
    sim->sentinels->items[index].is_deaf = true;
}

void sim_sentinel_heal(struct sim *sim, uint32_t index)
{
    struct sim_sentinel *sentinel = &sim->sentinels->items[index];
    if (sentinel->is_frozen) sentinel->heard_since_us = sim->now_us;
    sentinel->is_frozen = sentinel->is_deaf = false;
    for (uint32_t shard = 0; shard < sim->nodes->shard_count; shard++)
        sim_after(sim, sim_between(sim, 0, 2 * SIM_S), gossip, &sim->sentinels->failovers[shard], index);
}

uint64_t sim_sentinels_epoch(const struct sim *sim, uint32_t shard, uint64_t for_us)
{
    uint32_t heard = 0;
    uint64_t newest = 0;
    for (uint32_t i = 0; i < SIM_SENTINELS; i++) {
        const struct sim_sentinel *sentinel = &sim->sentinels->items[i];
        const struct sim_view *view = &sentinel->views[shard];
        if (sentinel->is_frozen || sim->now_us < sentinel->heard_since_us + for_us) continue;
        heard++;
        if (sim->now_us >= view->since_us + for_us && view->epoch > newest) newest = view->epoch;
    }
    return heard >= SIM_MAJORITY ? newest : 0;
}

/* ---- watching ---- */

static void watch(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_failover *failover = subject;
    uint32_t master = newest_view(sim, failover->shard)->node;
    sim_after(sim, WATCH_MS * SIM_MS, watch, subject, 0);
    if (sim->nodes->nodes[master].health == SIM_ALIVE)
        failover->down_since_us = 0;
    else if (!failover->down_since_us)
        failover->down_since_us = sim->now_us;
    if (failover->is_active || count_working(sim) < SIM_MAJORITY) return;
    correct(sim, failover->shard, master);
    bool is_down = failover->down_since_us && sim->now_us - failover->down_since_us >= sim->sentinels->down_after_us;
    bool may_try = !failover->tried_us || sim->now_us - failover->tried_us >= AGAIN_MS * SIM_MS;
    if (is_down && may_try) begin(sim, failover, false);
}

static const struct sim_view *newest_view(const struct sim *sim, uint32_t shard)
{
    const struct sim_view *newest = NULL;
    for (uint32_t i = 0; i < SIM_SENTINELS; i++) {
        const struct sim_sentinel *sentinel = &sim->sentinels->items[i];
        const struct sim_view *view = &sentinel->views[shard];
        if (!sentinel->is_frozen && (!newest || view->epoch > newest->epoch)) newest = view;
    }
    return newest ? newest : &sim->sentinels->items[0].views[shard];
}

static uint32_t count_working(const struct sim *sim)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SIM_SENTINELS; i++)
        count += !sim->sentinels->items[i].is_frozen && !sim->sentinels->items[i].is_deaf;
    return count;
}

/* Who should follow and does not, for long, is told to. */
static void correct(struct sim *sim, uint32_t shard, uint32_t master)
{
    const struct sim_shard *of = &sim->nodes->shards[shard];
    const struct sim_node *named = &sim->nodes->nodes[master];
    if (named->health != SIM_ALIVE || !named->is_master) return;
    for (uint32_t i = 0; i < of->node_count; i++) {
        if (of->first_node + i != master) correct_node(sim, &sim->nodes->nodes[of->first_node + i], master);
    }
}

static void correct_node(struct sim *sim, struct sim_node *node, uint32_t master)
{
    bool strays = node->health == SIM_ALIVE && (node->is_master || node->follows != master);
    if (!strays) {
        node->strayed_us = 0;
        return;
    }
    if (!node->strayed_us) node->strayed_us = sim->now_us;
    if (sim->now_us - node->strayed_us < PATIENCE_MS * SIM_MS) return;
    node->strayed_us = 0;
    struct sim_shard *shard = &sim->nodes->shards[node->shard];
    if (shard->master == node->index) { /* promoted, but who did it has told nobody */
        shard->master = master;
        sim_shard_set_truth(sim, shard, sim->nodes->nodes[master].history);
        shard->other = SIM_NONE;
        sim_tell(sim, "%s is made a replica again", node->name);
    }
    sim_node_follow(sim, node, master);
}

/* ---- failing over ---- */

void sim_sentinel_failover(struct sim *sim, uint32_t shard)
{
    struct sim_failover *failover = &sim->sentinels->failovers[shard];
    if (!failover->is_active && count_working(sim) >= SIM_MAJORITY) begin(sim, failover, true);
}

void sim_sentinel_disturb(struct sim *sim, uint32_t shard)
{
    sim->sentinels->failovers[shard].is_planned = false;
}

uint32_t sim_sentinels_master(const struct sim *sim, uint32_t shard)
{
    return newest_view(sim, shard)->node;
}

static void begin(struct sim *sim, struct sim_failover *failover, bool is_planned)
{
    const struct sim_view *view = newest_view(sim, failover->shard);
    failover->tried_us = sim->now_us;
    failover->leader = choose_leader(sim);
    failover->heir = choose_heir(sim, failover->shard, view->node);
    if (failover->heir == SIM_NONE) return;
    uint64_t after_us = failover->epoch > view->epoch ? failover->epoch : view->epoch;
    failover->epoch = after_us + 1;
    failover->is_active = true;
    failover->is_planned = is_planned && is_quiet(sim, failover->shard, failover->heir);
    sim_tell(sim, "sentinel %u is about to make %s the master of shard %u, epoch %llu%s", failover->leader,
             sim->nodes->nodes[failover->heir].name, failover->shard, (unsigned long long)failover->epoch,
             failover->is_planned ? ", as planned" : "");
    sim_control_hear_promotion(sim, failover->shard, view->node, failover->heir);
    sim_after(sim, sim_between(sim, 50, 100) * SIM_MS, promote, failover, failover->epoch);
}

static uint32_t choose_leader(struct sim *sim)
{
    uint32_t first = (uint32_t)sim_between(sim, 0, SIM_SENTINELS - 1);
    for (uint32_t i = 0; i < SIM_SENTINELS; i++) {
        const struct sim_sentinel *sentinel = &sim->sentinels->items[(first + i) % SIM_SENTINELS];
        if (!sentinel->is_frozen && !sentinel->is_deaf) return (first + i) % SIM_SENTINELS;
    }
    return first;
}

static uint32_t choose_heir(const struct sim *sim, uint32_t shard, uint32_t master)
{
    const struct sim_shard *of = &sim->nodes->shards[shard];
    uint32_t heir = SIM_NONE;
    for (uint32_t i = 0; i < of->node_count; i++) {
        const struct sim_node *node = &sim->nodes->nodes[of->first_node + i];
        bool is_fit = node->health == SIM_ALIVE && !node->is_master && node->follows == master;
        if (is_fit && (heir == SIM_NONE || node->offset > sim->nodes->nodes[heir].offset)) heir = node->index;
    }
    return heir;
}

/* Nothing is wrong, so that the time until the promotion suffices for all that is on its way. */
static bool is_quiet(const struct sim *sim, uint32_t shard, uint32_t heir)
{
    const struct sim_node *master = &sim->nodes->nodes[sim->nodes->shards[shard].master];
    const struct sim_node *node = &sim->nodes->nodes[heir];
    bool is_well = master->health == SIM_ALIVE && master->is_master && node->is_linked &&
                   node->history == master->history && master->busy_until_us < sim->now_us + 5 * SIM_MS;
    bool is_near = node->pull_us < sim->now_us + 10 * SIM_MS && node->offset + 20 > master->offset;
    bool is_fast = is_near && node->lag_us < 10 * SIM_MS && master->service_us < SIM_MS;
    return is_well && is_fast && sim_control_is_settled(sim, shard, master->index);
}

static void promote(struct sim *sim, void *subject, uint64_t detail)
{
    struct sim_failover *failover = subject;
    struct sim_node *heir = &sim->nodes->nodes[failover->heir];
    if (failover->epoch != detail) return;
    if (sim->sentinels->items[failover->leader].is_frozen || heir->health != SIM_ALIVE) {
        sim_after(sim, SIM_S, give_up, failover, failover->epoch);
        return;
    }
    struct sim_shard *shard = &sim->nodes->shards[failover->shard];
    uint32_t before = shard->truth;
    sim_node_promote(sim, heir);
    heir->elected_epoch = failover->epoch;
    shard->master = heir->index;
    sim_shard_set_truth(sim, shard, heir->history);
    shard->other = SIM_NONE;
    if (failover->is_planned) sim_check_planned(sim, before, heir->offset);
    sim_after(sim, sim_between(sim, 10, 1000) * SIM_MS, announce, failover, failover->epoch);
}

static void give_up(struct sim *sim, void *subject, uint64_t detail)
{
    struct sim_failover *failover = subject;
    if (failover->epoch != detail) return;
    failover->is_active = false;
    if (!sim->sentinels->items[failover->leader].is_frozen) sim_control_hear_end(sim, failover->shard);
}

static void announce(struct sim *sim, void *subject, uint64_t detail)
{
    struct sim_failover *failover = subject;
    struct sim_sentinel *leader = &sim->sentinels->items[failover->leader];
    if (failover->epoch != detail || sim->nodes->shards[failover->shard].master != failover->heir) return;
    if (leader->is_frozen) {
        dispute(sim, failover);
        return;
    }
    struct sim_shard *shard = &sim->nodes->shards[failover->shard];
    failover->is_active = false;
    shard->master = failover->heir;
    sim_shard_set_truth(sim, shard, sim->nodes->nodes[failover->heir].history);
    shard->other = SIM_NONE;
    learn(sim, leader, failover->shard,
          &(struct sim_view){.node = failover->heir, .epoch = failover->epoch});
    tell_followers(sim, failover);
    for (uint32_t i = 0; i < SIM_SENTINELS; i++)
        sim_after(sim, sim_between(sim, 0, 2 * SIM_S), gossip, failover, i);
}

/* It goes on with it when it wakes up, unless the others have settled the matter in their way. */
static void dispute(struct sim *sim, struct sim_failover *failover)
{
    struct sim_shard *shard = &sim->nodes->shards[failover->shard];
    const struct sim_node *heir = &sim->nodes->nodes[failover->heir];
    failover->is_active = false;
    if (!heir->is_master || heir->elected_epoch != failover->epoch || shard->master != failover->heir) return;
    shard->other = newest_view(sim, failover->shard)->node;
    for (uint32_t history = heir->history; history != SIM_NONE; history = sim->nodes->histories[history].parent)
        sim->nodes->histories[history].cut_at = UINT64_MAX; /* that was not planned */
    sim_after(sim, SIM_S, announce, failover, failover->epoch);
}

static void tell_followers(struct sim *sim, const struct sim_failover *failover)
{
    const struct sim_shard *shard = &sim->nodes->shards[failover->shard];
    for (uint32_t i = 0; i < shard->node_count; i++) {
        struct sim_node *node = &sim->nodes->nodes[shard->first_node + i];
        if (node->index != failover->heir && node->health == SIM_ALIVE && !node->is_master)
            sim_node_follow(sim, node, failover->heir);
    }
}

static void gossip(struct sim *sim, void *subject, uint64_t detail)
{
    const struct sim_failover *failover = subject;
    struct sim_sentinel *sentinel = &sim->sentinels->items[detail];
    if (sentinel->is_frozen || sentinel->is_deaf) return;
    for (uint32_t i = 0; i < SIM_SENTINELS; i++) {
        const struct sim_sentinel *other = &sim->sentinels->items[i];
        if (!other->is_frozen && !other->is_deaf)
            learn(sim, sentinel, failover->shard, &other->views[failover->shard]);
    }
}

static void learn(struct sim *sim, struct sim_sentinel *sentinel, uint32_t shard, const struct sim_view *view)
{
    if (view->epoch <= sentinel->views[shard].epoch) return;
    sentinel->views[shard] = (struct sim_view){view->node, view->epoch, sim->now_us};
    sim_tell(sim, "sentinel %td names %s the master of shard %u, epoch %llu", sentinel - sim->sentinels->items,
             sim->nodes->nodes[view->node].name, shard, (unsigned long long)view->epoch);
    sim_control_hear_news(sim, shard);
}
