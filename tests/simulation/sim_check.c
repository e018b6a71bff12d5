/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/simulation/sim_check.h"

#include "tests/simulation/sim_node.h"
#include "tests/simulation/sim_sentinel.h"

#include <stdlib.h>

enum {
    KNOWN_MS = 1500, /* what a majority says is known by then: it is asked every second */
    LONG_MS = 200,   /* a request that takes longer was in trouble */
};

static void check_kept(struct sim *sim, uint64_t number);
static bool is_lost(const struct sim *sim, uint64_t write);

void sim_check_create(struct sim *sim)
{
    struct sim_check *check = sim->check = sim_allocate(1, sizeof(*check));
    check->acknowledged = sim_allocate((size_t)sim->nodes->keys_per_shard * sim->nodes->shard_count,
                                       sizeof(*check->acknowledged));
    check->write_count = 1;
    check->writes = sim_grow(NULL, &check->write_room, 0, sizeof(*check->writes));
}

void sim_check_destroy(struct sim *sim)
{
    free(sim->check->writes);
    free(sim->check->acknowledged);
    free(sim->check);
}

uint64_t sim_check_new_write(struct sim *sim, uint32_t key)
{
    struct sim_check *check = sim->check;
    check->writes = sim_grow(check->writes, &check->write_room, check->write_count, sizeof(*check->writes));
    check->writes[check->write_count] = (struct sim_write){.key = key, .history = SIM_NONE};
    return check->write_count++;
}

void sim_check_carried_out(struct sim *sim, uint64_t number, uint32_t history, uint64_t offset)
{
    struct sim_write *write = &sim->check->writes[number];
    sim_check_that(sim, write->order == 0, SIM_PROMISE_ONCE);
    write->order = ++sim->check->order;
    write->history = history;
    write->offset = offset;
}

void sim_check_acknowledged(struct sim *sim, uint64_t number)
{
    struct sim_write *write = &sim->check->writes[number];
    uint64_t *newest = &sim->check->acknowledged[write->key];
    write->is_acknowledged = true;
    sim_check_that(sim, write->offset < sim->nodes->histories[write->history].cut_at, SIM_PROMISE_PLANNED);
    if (write->order < sim->check->writes[*newest].order) return;
    write->before = *newest;
    *newest = number;
}

uint64_t sim_check_newest(struct sim *sim, uint32_t key)
{
    uint64_t *newest = &sim->check->acknowledged[key];
    while (*newest && is_lost(sim, *newest))
        *newest = sim->check->writes[*newest].before;
    return *newest;
}

static bool is_lost(const struct sim *sim, uint64_t number)
{
    const struct sim_write *write = &sim->check->writes[number];
    const struct sim_shard *shard = &sim->nodes->shards[sim_shard_of_key(sim->nodes, write->key)];
    if (write->order == 0 || write->is_lost || !sim_history_has(sim, shard->truth, UINT64_MAX, number)) return true;
    return shard->other != SIM_NONE &&
           !sim_history_has(sim, sim->nodes->nodes[shard->other].history, UINT64_MAX, number);
}

void sim_check_shows(struct sim *sim, const struct sim_message *reply, uint64_t write, enum sim_promise promise)
{
    if (!write || sim_history_has(sim, reply->history, reply->offset, write)) return;
    if (!is_lost(sim, write))
        sim_tell(sim, "%s, history %u, shows %llu writes; not number %llu of history %u",
                 sim->nodes->nodes[reply->node].name, reply->history, (unsigned long long)reply->offset,
                 (unsigned long long)sim->check->writes[write].offset + 1, sim->check->writes[write].history);
    sim_check_that(sim, is_lost(sim, write), promise);
}

void sim_check_planned(struct sim *sim, uint32_t index, uint64_t offset)
{
    struct sim_history *history = &sim->nodes->histories[index];
    if (offset < history->cut_at) history->cut_at = offset;
    for (size_t i = 0; i < history->count; i++) {
        if (history->start + i >= offset)
            check_kept(sim, history->writes[i]);
    }
}

static void check_kept(struct sim *sim, uint64_t number)
{
    const struct sim_write *write = &sim->check->writes[number];
    if (write->is_acknowledged)
        sim_tell(sim, "write %llu of history %u is lost", (unsigned long long)write->offset + 1, write->history);
    sim_check_that(sim, !write->is_acknowledged, SIM_PROMISE_PLANNED);
}

void sim_check_sent(struct sim *sim, uint32_t index)
{
    const struct sim_node *node = &sim->nodes->nodes[index];
    uint64_t epoch = sim_sentinels_epoch(sim, node->shard, KNOWN_MS * SIM_MS);
    sim_check_that(sim, node->elected_epoch >= epoch, SIM_PROMISE_MAJORITY);
}

void sim_check_that(struct sim *sim, bool is_true, enum sim_promise promise)
{
    struct sim_check *check = sim->check;
    if (is_true || check->is_broken || check->has_ended) return;
    check->is_broken = true;
    check->broken = promise;
    check->broken_us = sim->now_us;
}

void sim_check_ended(struct sim *sim, uint64_t began_us, bool is_good)
{
    struct sim_check *check = sim->check;
    bool is_troubled = !is_good || sim->now_us - began_us > LONG_MS * SIM_MS;
    check->requests++;
    check->failures += !is_good;
    if (!is_troubled) return;
    check->last_trouble_us = sim->now_us;
    sim_check_that(sim, began_us < sim->faults_end_us + SIM_CONVERGED_US, SIM_PROMISE_CONVERGED);
}

const char *sim_promise_text(enum sim_promise promise)
{
    static const char *const texts[] = {
#define SIM_PROMISE_TEXT(name, text) text,
        SIM_PROMISE_TABLE(SIM_PROMISE_TEXT)
#undef SIM_PROMISE_TEXT
    };
    return texts[promise];
}
