/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/cluster.h"

#include "proxy/clock.h"
#include "proxy/cluster_refresh.h"
#include "proxy/log.h"
#include "proxy/survey.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define CLUSTER_GAP_US           2000000U /* between refreshes, for redirects and slots without owner */
#define CLUSTER_QUICK_GAP_US     20000U   /* ... while a master is missing */
#define CLUSTER_PERIOD_MIN_US    8000000U /* ... while all is well, drawn anew each time */
#define CLUSTER_PERIOD_SPREAD_US 4000000U
#define CLUSTER_TROUBLE_MAX_US   30000000U /* trouble that lasts longer is asked about every CLUSTER_GAP_US */
#define CLUSTER_RETRY_US         100000U   /* after a refresh in vain; doubles up to CLUSTER_GAP_US */
#define CLUSTER_SILENT_AFTER     5U        /* refreshes in vain, before the log tells */
#define CLUSTER_HURRY_GAP_US     10000U
#define CLUSTER_STRANGER_US                                                                                  \
    1000000U /* a node that was named so lately is not forgotten for not being listed */
#define CLUSTER_SPARE_ROUNDS 5U /* rounds that end before all asked have answered */
#define CLUSTER_NOBODY       UINT32_MAX

/* What the accepted view says of a shard; beside the survey's, at the same index. */
struct cluster_claim {
    struct probe *named; /* the master; NULL if it cannot be reached at all */
    struct cluster_node node;
    bool has_slots;
    uint32_t first_slot;
    uint64_t since_us;      /* when the refresh began that first named it */
    uint64_t named_us;      /* ... and the last one in which most of the nodes asked named it */
    uint64_t masterless_us; /* since when there is no master; 0 = there is one */
    uint64_t denied_us;     /* until when it said that it is no master, having been the master; 0 = it has not, or most
                               have named it since */
};

struct cluster {
    struct survey *survey;
    uint64_t seed;

    struct cluster_refresh refresh;
    bool is_map_doubted;  /* by a redirect: one more refresh follows, as news takes a moment to reach most
                             nodes */
    bool is_wanted_again; /* somebody doubts what the refresh under way may have heard already */
    uint64_t next_us;     /* when the next one begins */
    uint32_t failures;    /* refreshes in a row that nobody has answered */
    uint64_t rounds;      /* refreshes whose views were of use */
    ev_timer due;

    struct cluster_vote vote;
    struct cluster_view *accepted;
    struct survey_shard *shards; /* the verdict's; NULL before the first view */
    struct cluster_claim *claims;
    uint32_t shard_count;
    uint16_t slots[TOPOLOGY_SLOTS];

    uint32_t troubled;   /* shards in trouble, strangers and the like */
    uint64_t trouble_us; /* since when that has not grown; 0 = there is none */
    bool is_silence_logged;
    uint32_t uncovered_logged;
    uint32_t shards_logged;
};

static void *cluster_start(struct survey *survey);
static void cluster_stop(void *discovery);
static void cluster_judge(void *discovery, uint64_t now_us);
static void cluster_ask(void *discovery);
static void cluster_map_is_wrong(void *discovery, const char *moved_to);
static bool cluster_plan(void *discovery, struct switchover_plan *plan);
static struct probe *best_replica(const struct cluster *cluster, uint32_t index);
static bool split_address(const char *moved_to, char *host, size_t size, uint16_t *port);
static void cluster_due(struct ev_loop *loop, ev_timer *watcher, int events);
static void cluster_set_due(struct cluster *cluster, uint64_t now_us);
static void cluster_want(struct cluster *cluster, uint64_t gap_us);
static bool cluster_is_reached(const struct cluster *cluster, bool must_be_listed);
static void cluster_add_seeds(struct cluster *cluster);
static void cluster_begin(struct cluster *cluster, uint64_t now_us);
static void cluster_conclude(struct cluster *cluster, uint64_t now_us);
static size_t most_asked(const struct cluster *cluster);
static void cluster_plan_next(struct cluster *cluster, size_t heard);
static void cluster_log_silence(struct cluster *cluster);
static void cluster_note_names(struct cluster *cluster, const struct cluster_view *const *views,
                               size_t count);
static void cluster_note_failing(struct cluster *cluster, const struct cluster_view *const *views, size_t count,
                                 const struct cluster_choice *choice);
static void note_failing_nodes(struct cluster *cluster, const struct cluster_view *view, const struct probe *asked,
                               const struct probe *elected);
static const struct probe *elected_one(const struct cluster *cluster, const struct cluster_view *const *views,
                                       size_t count, const struct cluster_choice *choice);
static uint64_t rounds_for_all(const struct cluster *cluster);
static bool is_any_forgiven(const struct cluster *cluster);
static bool cluster_accept(struct cluster *cluster, size_t winner);
static bool cluster_adopt(struct cluster *cluster, const struct cluster_view *view);
static bool find_probes(struct survey *survey, const struct cluster_view *view, struct probe **probes);
static uint32_t match_shards(const struct cluster *cluster, const struct cluster_view *view,
                             struct probe *const *probes, uint32_t *from, uint32_t *at);
static bool is_spare(const struct cluster_view *view, uint32_t shard);
static uint32_t shard_followed_by(const struct cluster *cluster, const struct cluster_view *view,
                                  struct probe *const *probes, uint32_t shard, bool by_master);
static void claim_set(struct cluster *cluster, uint32_t index, const struct cluster_view *view,
                      uint32_t shard, struct probe *named);
static void cluster_list_nodes(struct cluster *cluster, const struct cluster_view *view,
                               struct probe *const *probes, const uint32_t *at);
static void cluster_drop_nodes(struct cluster *cluster);
static void cluster_log_extent(struct cluster *cluster, const struct cluster_view *view);
static bool is_denied(const struct cluster_claim *claim, uint64_t now_us);
static bool is_failing(const struct cluster *cluster, uint32_t index);
static void shard_judge(struct cluster *cluster, uint32_t index, uint64_t now_us);
static void shard_lose(struct cluster *cluster, uint32_t index);
static void shard_accept(struct cluster *cluster, uint32_t index, uint64_t now_us);
static void cluster_compare_histories(struct cluster *cluster, struct probe *probe);
static bool shard_is_troubled(const struct cluster *cluster, uint32_t index);
static void cluster_watch_trouble(struct cluster *cluster, uint64_t now_us);
static bool is_usurper(const struct cluster *cluster, const struct probe *probe);
static bool is_misplaced(const struct cluster *cluster, const struct probe *probe);

const struct discovery_kind cluster_discovery = {
    .name = "cluster",
    .start = cluster_start,
    .stop = cluster_stop,
    .judge = cluster_judge,
    .ask = cluster_ask,
    .map_is_wrong = cluster_map_is_wrong,
    .plan = cluster_plan,
};

struct cluster_refresh *cluster_refresh_of(void *discovery)
{
    struct cluster *cluster = discovery;
    return &cluster->refresh;
}

static void *cluster_start(struct survey *survey)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    if (!cluster) return NULL;
    cluster->survey = cluster->refresh.survey = survey;
    cluster->seed = (clock_us() ^ (uint64_t)(uintptr_t)cluster) | 1;
    ev_init(&cluster->due, cluster_due);
    cluster->due.data = cluster;
    survey->verdict.is_cluster = true; /* of one shard without a master, until more is known */
    survey->verdict.is_unsettled = true;
    cluster_add_seeds(cluster);
    return cluster;
}

static void cluster_stop(void *discovery)
{
    struct cluster *cluster = discovery;
    ev_timer_stop(cluster->survey->loop, &cluster->due);
    cluster_refresh_clear(&cluster->refresh);
    cluster_view_destroy(cluster->accepted);
    free(cluster->shards);
    free(cluster->claims);
    free(cluster);
}

static void cluster_judge(void *discovery, uint64_t now_us)
{
    struct cluster *cluster = discovery;
    bool is_over = cluster->refresh.is_under_way && cluster_refresh_is_over(&cluster->refresh, now_us);
    if (is_over) cluster_conclude(cluster, now_us);
    if (!cluster->refresh.asked && cluster_is_reached(cluster, false)) cluster_want(cluster, 0);
    if (!cluster->refresh.is_under_way && now_us >= cluster->next_us) cluster_begin(cluster, now_us);
    for (uint32_t i = 0; i < cluster->shard_count; i++)
        shard_judge(cluster, i, now_us);
    for (struct probe *probe = cluster->survey->probes; probe; probe = probe->next)
        cluster_compare_histories(cluster, probe);
    cluster_watch_trouble(cluster, now_us);
    cluster_set_due(cluster, now_us);
}

/* Somebody doubts a master, or one is missing. */
static void cluster_ask(void *discovery)
{
    struct cluster *cluster = discovery;
    uint64_t now_us = clock_us();
    bool is_old = cluster->trouble_us && now_us - cluster->trouble_us > CLUSTER_TROUBLE_MAX_US;
    cluster_want(cluster, is_old ? CLUSTER_GAP_US : CLUSTER_QUICK_GAP_US);
    cluster->is_wanted_again = cluster->refresh.is_under_way && !is_old;
    if (!cluster->refresh.is_under_way && now_us >= cluster->next_us) cluster_begin(cluster, now_us);
    cluster_set_due(cluster, now_us);

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct probe *named = cluster->claims[i].named;
        bool is_doubted = cluster->shards[i].reported_us || !cluster->shards[i].master;
        if (named && is_doubted) probe_hurry(named, CLUSTER_HURRY_GAP_US);
    }
}

/* What names a node may be the error text of a client's script: nobody else's password goes to strangers, so
 * only nodes that the cluster lists are asked. */
static void cluster_map_is_wrong(void *discovery, const char *moved_to)
{
    struct cluster *cluster = discovery;
    char text[CLUSTER_HOST_SIZE];
    const char *host = text;
    uint16_t port;
    cluster_want(cluster, CLUSTER_GAP_US);
    cluster->is_map_doubted = true;
    if (split_address(moved_to, text, sizeof(text), &port)) {
        survey_map(cluster->survey, &host, &port);
        struct probe *named = survey_known_node(cluster->survey, host, port);
        if (named && !survey_is_master(cluster->survey, named)) probe_hurry(named, CLUSTER_QUICK_GAP_US);
        cluster->refresh.hint = named;
    }
    survey_touch(cluster->survey);
}

/* The replica sees to it itself that it has every byte, and that the others hear of it. */
static bool cluster_plan(void *discovery, struct switchover_plan *plan)
{
    struct cluster *cluster = discovery;
    struct probe *heir = cluster->survey->probes;
    while (heir && strcmp(heir->name, plan->wanted) != 0)
        heir = heir->next;
    if (plan->wanted[0] && !heir) return switchover_refuse(plan, "no node %.200s is known", plan->wanted);
    if (!plan->wanted[0] && cluster->shard_count != 1)
        return switchover_refuse(plan, "there are several masters: name the replica");
    if (!heir) heir = best_replica(cluster, 0);
    if (!heir) return switchover_defer(plan, "there is no replica that could be promoted");
    if (survey_is_master(cluster->survey, heir))
        return switchover_refuse(plan, "%s is the master already", heir->name);
    struct survey_shard *shard = survey_shard_of(cluster->survey, heir);
    if (!shard || !shard->master) return switchover_defer(plan, "its shard has no master");
    if (!heir->was_fit || heir->role != NODE_ROLE_REPLICA)
        return switchover_defer(plan, "%s is not fit: %.150s", heir->name, heir->reason);
    plan->master = shard->master;
    return switchover_add_heir(plan, heir, heir->host, heir->port);
}

/* That which has most. */
static struct probe *best_replica(const struct cluster *cluster, uint32_t index)
{
    struct probe *best = NULL;
    for (struct probe *probe = cluster->survey->probes; probe; probe = probe->next) {
        bool is_one = probe->shard == index && probe->was_fit && probe->role == NODE_ROLE_REPLICA;
        if (is_one && (!best || probe->role_offset > best->role_offset)) best = probe;
    }
    return best;
}

/* An address as MOVED gives it: IPv6 without brackets, so what follows the last colon is the port. False
 * where no host is named: then it is the one that answered, which is asked anyway. */
static bool split_address(const char *moved_to, char *host, size_t size, uint16_t *port)
{
    const char *colon = strrchr(moved_to, ':');
    if (!colon || colon == moved_to) return false;
    struct slice name = {moved_to, (size_t)(colon - moved_to)};
    if (name.bytes[0] == '[' && name.bytes[name.size - 1] == ']') {
        name.bytes++;
        name.size -= 2;
    }
    char *end;
    unsigned long number = strtoul(colon + 1, &end, 10);
    if (*end || !number || number > UINT16_MAX) return false;
    if (!name.size || name.size >= size || slice_equals(name, SLICE("?"))) return false;
    memcpy(host, name.bytes, name.size);
    host[name.size] = '\0';
    *port = (uint16_t)number;
    return true;
}

/* ---- when ---- */

static void cluster_due(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct cluster *cluster = watcher->data;
    survey_touch(cluster->survey);
}

static void cluster_set_due(struct cluster *cluster, uint64_t now_us)
{
    struct ev_loop *loop = cluster->survey->loop;
    const struct cluster_refresh *refresh = &cluster->refresh;
    uint64_t at_us = refresh->is_under_way ? refresh->began_us + refresh->patience_us : cluster->next_us;
    ev_timer_stop(loop, &cluster->due);
    ev_now_update(loop);
    ev_timer_set(&cluster->due, at_us > now_us ? (double)(at_us - now_us) / 1e6 : 0., 0.);
    ev_timer_start(loop, &cluster->due);
}

/* The next refresh begins so long after the last, or at once. */
static void cluster_want(struct cluster *cluster, uint64_t gap_us)
{
    uint64_t at_us = cluster->refresh.began_us + gap_us;
    if (at_us < cluster->next_us) cluster->next_us = at_us;
}

/* ---- asking ---- */

static bool cluster_is_reached(const struct cluster *cluster, bool must_be_listed)
{
    for (const struct probe *probe = cluster->survey->probes; probe; probe = probe->next) {
        if (probe->answers && (probe->is_listed || !must_be_listed)) return true;
    }
    return false;
}

/* What is known already is not added again. */
static void cluster_add_seeds(struct cluster *cluster)
{
    const struct config_address_list *nodes = &cluster->survey->config->nodes;
    for (size_t i = 0; i < nodes->count; i++) {
        struct probe *probe = survey_node(cluster->survey, nodes->items[i].host, nodes->items[i].port);
        if (!probe || probe->is_listed) continue;
        probe->shard = TOPOLOGY_NO_SHARD;
        if (cluster->accepted) probe->listed_us = clock_us();
    }
}

static void cluster_begin(struct cluster *cluster, uint64_t now_us)
{
    cluster->next_us =
        now_us + CLUSTER_PERIOD_MIN_US + random_below(&cluster->seed, CLUSTER_PERIOD_SPREAD_US);
    cluster->is_wanted_again = false;
    cluster_refresh_begin(&cluster->refresh, now_us);
    if (!cluster->refresh.asked) cluster_conclude(cluster, now_us);
}

/* ---- the end of a refresh ---- */

static void cluster_conclude(struct cluster *cluster, uint64_t now_us)
{
    const struct cluster_view *views[CLUSTER_ASKED_MAX];
    size_t count = cluster_refresh_views(&cluster->refresh, views);
    struct cluster_choice choice =
        cluster_vote_decide(&cluster->vote, views, count, cluster->accepted, now_us / 1000);
    cluster->refresh.is_under_way = false;

    bool is_accepted = choice.winner != CLUSTER_VOTE_NOBODY && cluster_accept(cluster, choice.winner);
    if (is_accepted && choice.is_elected) cluster->refresh.elected = cluster->refresh.questions[choice.winner].probe;
    if (is_accepted) cluster_note_failing(cluster, views, count, &choice);
    cluster_note_names(cluster, views, count);
    bool is_whole = is_accepted && cluster->accepted->slot_count; /* else its nodes may not have met yet */
    if (is_whole)
        cluster_drop_nodes(cluster);
    else
        cluster_add_seeds(cluster);
    cluster_plan_next(cluster, choice.heard);
}

/* How many nodes are asked where all can be. */
static size_t most_asked(const struct cluster *cluster)
{
    size_t known = cluster->accepted ? cluster->accepted->node_count : 1;
    return known < CLUSTER_ASKED_MAX ? known : CLUSTER_ASKED_MAX;
}

static void cluster_plan_next(struct cluster *cluster, size_t heard)
{
    bool is_poor = !heard || cluster->refresh.asked < most_asked(cluster);
    if (heard) cluster->is_silence_logged = false;
    if (!heard && cluster->failures >= CLUSTER_SILENT_AFTER) cluster_log_silence(cluster);
    if (is_poor) {
        uint64_t wait_us = cluster->failures < 4 ? CLUSTER_RETRY_US << cluster->failures : CLUSTER_GAP_US;
        cluster->failures++;
        cluster_want(cluster, wait_us);
    } else {
        cluster->failures = 0;
    }
    if (cluster->is_wanted_again || is_any_forgiven(cluster)) cluster_want(cluster, CLUSTER_QUICK_GAP_US);
    bool is_uncovered = cluster->accepted && cluster->accepted->slot_count < TOPOLOGY_SLOTS;
    if (is_uncovered || cluster->is_map_doubted) cluster_want(cluster, CLUSTER_GAP_US);
    cluster->is_map_doubted = false;
}

/* Once, until somebody answers again. Nodes that were known before have a line of their own. */
static void cluster_log_silence(struct cluster *cluster)
{
    if (cluster->is_silence_logged) return;
    cluster->is_silence_logged = true;
    log_error("%s: no node of the cluster answers", survey_label(cluster->survey));
    for (const struct probe *probe = cluster->survey->probes; probe; probe = probe->next) {
        if (!probe->is_listed && !probe->answers)
            log_warning("%s: %s: not reachable: %s", survey_label(cluster->survey), probe->name,
                        probe->fault);
    }
}

static void cluster_note_names(struct cluster *cluster, const struct cluster_view *const *views, size_t count)
{
    uint64_t began_us = cluster->refresh.began_us;
    bool are_many = cluster->accepted && count >= most_asked(cluster);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct cluster_claim *claim = &cluster->claims[i];
        if (!claim->named || !cluster_vote_confirms(views, count, &claim->node, claim->has_slots)) continue;
        claim->named_us = began_us;
        if (are_many && began_us > claim->denied_us) claim->denied_us = 0;
    }
}

/* A node is called failing when most masters have agreed on that, and each takes it back in its own time, so those asked
 * in one round say it and those in the next do not. It is failing if any but itself says so, until all have been heard
 * once more and none did: what one round finds the next does not undo. */
static void cluster_note_failing(struct cluster *cluster, const struct cluster_view *const *views, size_t count,
                                 const struct cluster_choice *choice)
{
    const struct probe *elected = elected_one(cluster, views, count, choice);
    cluster->rounds++;
    for (size_t i = 0; i < count; i++) {
        if (cluster_vote_counts(views, count, i))
            note_failing_nodes(cluster, views[i], cluster->refresh.questions[i].probe, elected);
    }
    for (struct probe *probe = cluster->survey->probes; probe; probe = probe->next)
        probe->is_called_down = probe->is_listed && probe != elected && cluster->rounds < probe->called_down_until;
}

static void note_failing_nodes(struct cluster *cluster, const struct cluster_view *view, const struct probe *asked,
                               const struct probe *elected)
{
    for (uint32_t i = 0; i < view->node_count; i++) {
        const char *host = view->nodes[i].host;
        uint16_t port = view->nodes[i].port;
        if (!view->nodes[i].is_failing) continue;
        survey_map(cluster->survey, &host, &port);
        struct probe *probe = survey_known_node(cluster->survey, host, port);
        if (probe && probe != asked && probe != elected)
            probe->called_down_until = cluster->rounds + rounds_for_all(cluster);
    }
}

/* Who was elected last, by its own word, was called failing before that. NULL: nobody, or it is not heard to say so. */
static const struct probe *elected_one(const struct cluster *cluster, const struct cluster_view *const *views,
                                       size_t count, const struct cluster_choice *choice)
{
    const struct cluster_refresh *refresh = &cluster->refresh;
    for (size_t i = 0; i < count; i++) {
        if (refresh->elected && refresh->questions[i].probe == refresh->elected && views[i])
            return choice->is_elected && choice->winner == i ? refresh->elected : NULL;
    }
    return refresh->elected && refresh->elected->answers ? refresh->elected : NULL; /* its answer was not waited for */
}

/* How many it takes until each node was heard once; the one elected last is always asked. */
static uint64_t rounds_for_all(const struct cluster *cluster)
{
    uint32_t in_turn = CLUSTER_ASKED_MAX - 1;
    return (cluster->accepted->node_count + in_turn - 1) / in_turn + CLUSTER_SPARE_ROUNDS;
}

/* Nobody has called it failing in this round, and what the others say is to be heard soon. */
static bool is_any_forgiven(const struct cluster *cluster)
{
    for (const struct probe *probe = cluster->survey->probes; probe; probe = probe->next) {
        bool is_called_now = cluster->accepted && probe->called_down_until == cluster->rounds + rounds_for_all(cluster);
        if (probe->is_called_down && probe->answers && !is_called_now) return true;
    }
    return false;
}

/* ---- taking a view over ---- */

static bool cluster_accept(struct cluster *cluster, size_t winner)
{
    struct cluster_question *question = &cluster->refresh.questions[winner];
    if (cluster->accepted && cluster_view_is_same(cluster->accepted, question->view)) return true;
    if (!cluster_adopt(cluster, question->view)) {
        log_error("%s: out of memory, the cluster's topology is not taken over",
                  survey_label(cluster->survey));
        return false;
    }
    cluster_log_extent(cluster, question->view);
    cluster_view_destroy(cluster->accepted);
    cluster->accepted = question->view;
    cluster->refresh.had_slots = question->view->slot_count != 0;
    question->view = NULL;
    return true;
}

/* All or nothing. */
static bool cluster_adopt(struct cluster *cluster, const struct cluster_view *view)
{
    struct probe **probes = calloc(view->node_count + 1, sizeof(*probes));
    uint32_t *from = calloc(view->shard_count + 1, sizeof(*from));
    uint32_t *at = calloc(view->shard_count + 1, sizeof(*at));
    struct survey_shard *shards = NULL, *old_shards = cluster->shards;
    struct cluster_claim *claims = NULL, *old_claims = cluster->claims;
    bool is_done = false;
    if (!probes || !from || !at || !find_probes(cluster->survey, view, probes)) goto out;

    uint32_t count = match_shards(cluster, view, probes, from, at);
    shards = calloc(count ? count : 1, sizeof(*shards));
    claims = calloc(count ? count : 1, sizeof(*claims));
    if (!shards || !claims) goto out;

    for (uint32_t i = 0; i < view->shard_count; i++) {
        if (at[i] == CLUSTER_NOBODY || from[i] == CLUSTER_NOBODY) continue;
        shards[at[i]] = old_shards[from[i]];
        claims[at[i]] = old_claims[from[i]];
    }
    cluster->shards = shards;
    cluster->claims = claims;
    cluster->shard_count = count ? count : 1;
    shards = old_shards;
    claims = old_claims;
    for (uint32_t i = 0; i < view->shard_count; i++) {
        uint32_t master = view->shards[i].master;
        if (at[i] == CLUSTER_NOBODY) continue;
        claim_set(cluster, at[i], view, i, master == TOPOLOGY_NO_NODE ? NULL : probes[master]);
    }
    cluster_list_nodes(cluster, view, probes, at);
    is_done = true;
out:
    free(shards);
    free(claims);
    free(probes);
    free(from);
    free(at);
    return is_done;
}

/* One for each node of the view, made where there is none. */
static bool find_probes(struct survey *survey, const struct cluster_view *view, struct probe **probes)
{
    for (uint32_t i = 0; i < view->node_count; i++) {
        const char *host = view->nodes[i].host;
        uint16_t port = view->nodes[i].port;
        survey_map(survey, &host, &port);
        probes[i] = survey_node(survey, host, port);
        if (!probes[i]) return false;
        if (!probes[i]->is_listed) probes[i]->shard = TOPOLOGY_NO_SHARD;
    }
    return true;
}

/* For each shard of the view: which of ours it was, and which it will be. Returns how many those are. The master
 * tells which one it was, then any of its nodes. A master without slots is one if it is well: it may be about to
 * get some, and who asks all masters must not miss them; but not one whose shard has another master now. */
static uint32_t match_shards(const struct cluster *cluster, const struct cluster_view *view,
                             struct probe *const *probes, uint32_t *from, uint32_t *at)
{
    static const struct {
        bool has_slots, by_master;
    } passes[] = {{true, true}, {true, false}, {false, true}};
    bool is_taken[TOPOLOGY_SHARDS_MAX] = {false}, is_kept[TOPOLOGY_SHARDS_MAX] = {false};
    uint32_t count = 0;
    for (uint32_t i = 0; i < view->shard_count; i++) {
        from[i] = at[i] = CLUSTER_NOBODY;
        if (view->shards[i].slot_count || is_spare(view, i)) at[i] = count++;
    }
    for (size_t pass = 0; pass < sizeof(passes) / sizeof(passes[0]); pass++) {
        for (uint32_t i = 0; i < view->shard_count; i++) {
            bool has_slots = view->shards[i].slot_count != 0;
            if (at[i] == CLUSTER_NOBODY || from[i] != CLUSTER_NOBODY || has_slots != passes[pass].has_slots) continue;
            uint32_t old = shard_followed_by(cluster, view, probes, i, passes[pass].by_master);
            if (old == CLUSTER_NOBODY) continue;
            if (!is_taken[old]) {
                is_taken[old] = true;
                from[i] = old;
            } else if (!has_slots) {
                at[i] = CLUSTER_NOBODY;
                count--;
            }
        }
    }
    for (uint32_t i = 0; i < view->shard_count; i++) {
        if (from[i] < count) is_kept[from[i]] = true;
    }
    uint32_t free_index = 0;
    for (uint32_t i = 0; i < view->shard_count; i++) {
        if (at[i] == CLUSTER_NOBODY) continue;
        if (from[i] < count) {
            at[i] = from[i];
            continue;
        }
        while (is_kept[free_index])
            free_index++;
        at[i] = free_index++;
    }
    return count;
}

static bool is_spare(const struct cluster_view *view, uint32_t shard)
{
    uint32_t master = view->shards[shard].master;
    return view->slot_count && master != TOPOLOGY_NO_NODE && !view->nodes[master].is_failing;
}

static uint32_t shard_followed_by(const struct cluster *cluster, const struct cluster_view *view,
                                  struct probe *const *probes, uint32_t shard, bool by_master)
{
    uint32_t master = view->shards[shard].master;
    if (by_master) {
        for (uint32_t i = 0; i < cluster->shard_count && master != TOPOLOGY_NO_NODE; i++) {
            if (cluster->shards[i].followed == probes[master] || cluster->claims[i].named == probes[master])
                return i;
        }
        return CLUSTER_NOBODY;
    }
    for (uint32_t i = 0; i < view->node_count; i++) {
        if (view->nodes[i].shard == shard && probes[i]->shard < cluster->shard_count) return probes[i]->shard;
    }
    return CLUSTER_NOBODY;
}

static void claim_set(struct cluster *cluster, uint32_t index, const struct cluster_view *view,
                      uint32_t shard, struct probe *named)
{
    struct cluster_claim *claim = &cluster->claims[index];
    uint32_t first_slot = 0;
    while (first_slot < TOPOLOGY_SLOTS && view->slots[first_slot] != shard)
        first_slot++;
    claim->has_slots = view->shards[shard].slot_count != 0;
    claim->first_slot = first_slot;
    if (named) claim->node = view->nodes[view->shards[shard].master];
    if (claim->named == named) return;
    claim->named = named;
    claim->named_us = claim->denied_us = 0;
    claim->since_us = cluster->refresh.began_us;
    if (named) probe_hurry(named, 0);
}

static void cluster_list_nodes(struct cluster *cluster, const struct cluster_view *view,
                               struct probe *const *probes, const uint32_t *at)
{
    struct survey *survey = cluster->survey;
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        probe->shard = TOPOLOGY_NO_SHARD;
        probe->is_listed = false;
    }
    for (uint32_t i = 0; i < view->node_count; i++) {
        uint16_t shard = view->nodes[i].shard;
        uint32_t index = shard < view->shard_count ? at[shard] : CLUSTER_NOBODY;
        probes[i]->is_listed = true;
        if (index != CLUSTER_NOBODY) probes[i]->shard = (uint16_t)index;
    }
    for (uint32_t slot = 0; slot < TOPOLOGY_SLOTS; slot++) {
        uint16_t shard = view->slots[slot];
        cluster->slots[slot] = shard == TOPOLOGY_NO_SHARD ? TOPOLOGY_NO_SHARD : (uint16_t)at[shard];
    }
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct survey_shard *shard = &cluster->shards[i];
        if (shard->followed && !shard->followed->is_listed) shard->master = shard->followed = NULL;
    }
    survey->verdict.shards = cluster->shards;
    survey->verdict.shard_count = cluster->shard_count;
    survey->verdict.slots = cluster->slots;
}

/* Not while none of those that it lists answers: then they are all there is to ask. */
static void cluster_drop_nodes(struct cluster *cluster)
{
    struct survey *survey = cluster->survey;
    if (!cluster_is_reached(cluster, true)) return;
    for (struct probe *probe = survey->probes, *next; probe; probe = next) {
        next = probe->next;
        if (probe->is_listed || cluster->refresh.began_us < probe->listed_us + CLUSTER_STRANGER_US) continue;
        cluster_refresh_forget(&cluster->refresh, probe);
        survey_drop(survey, probe);
    }
}

static void cluster_log_extent(struct cluster *cluster, const struct cluster_view *view)
{
    const char *label = survey_label(cluster->survey);
    uint32_t masters = 0, uncovered = TOPOLOGY_SLOTS - view->slot_count;
    for (uint32_t i = 0; i < view->node_count; i++)
        masters += view->nodes[i].is_master;
    bool is_changed = !cluster->accepted || cluster->accepted->node_count != view->node_count;
    if (is_changed || cluster->shards_logged != cluster->shard_count)
        log_info("%s: a cluster of %u shards, %u masters and %u replicas", label, cluster->shard_count,
                 masters, view->node_count - masters);
    cluster->shards_logged = cluster->shard_count;
    if (uncovered && !cluster->uncovered_logged)
        log_error("%s: nobody has %u of the %d slots; requests for them are held", label, uncovered,
                  TOPOLOGY_SLOTS);
    if (!uncovered && cluster->uncovered_logged) log_info("%s: all slots have an owner again", label);
    cluster->uncovered_logged = uncovered;
}

/* ---- masters ---- */

/* Not for ever, if there are not so many to be asked. */
static bool is_denied(const struct cluster_claim *claim, uint64_t now_us)
{
    return claim->denied_us && now_us - claim->denied_us < (uint64_t)CLUSTER_VOTE_RESET_MS * 1000;
}

/* Where no other node of the shard could be elected in its place, it is what it says it is although it is called failing:
 * the cluster takes that back only after twice its node timeout. */
static bool is_failing(const struct cluster *cluster, uint32_t index)
{
    const struct probe *named = cluster->claims[index].named;
    if (!named->is_called_down) return false;
    for (const struct probe *probe = cluster->survey->probes; probe; probe = probe->next) {
        if (probe != named && probe->is_listed && probe->shard == index && probe->answers) return true;
    }
    return !named->answers;
}

/* The master is who is named, is not failing, and says master itself; one newly named has to say so since. One that
 * has said otherwise may have been replaced without our knowledge: its own word is not enough any more. */
static void shard_judge(struct cluster *cluster, uint32_t index, uint64_t now_us)
{
    struct survey_shard *shard = &cluster->shards[index];
    struct cluster_claim *claim = &cluster->claims[index];
    struct probe *named = claim->named;
    if (named && named == shard->followed && named->role == NODE_ROLE_REPLICA) claim->denied_us = now_us;
    bool agrees = named && !is_failing(cluster, index) && named->role == NODE_ROLE_MASTER && !is_denied(claim, now_us) &&
                  (named == shard->followed || named->role_asked_us >= claim->since_us);
    if (agrees)
        shard_accept(cluster, index, now_us);
    else
        shard_lose(cluster, index);
    if (shard->master && shard->master->answers)
        claim->masterless_us = 0;
    else if (!claim->masterless_us)
        claim->masterless_us = now_us;
}

static void shard_lose(struct cluster *cluster, uint32_t index)
{
    struct survey_shard *shard = &cluster->shards[index];
    const struct cluster_claim *claim = &cluster->claims[index];
    if (shard->master && claim->has_slots)
        log_warning("%s: no master of the shard of slot %u: %s %s; its writes are held",
                    survey_label(cluster->survey), claim->first_slot, shard->master->name,
                    claim->named != shard->master   ? "is not named any more, and the one that is has to agree"
                    : shard->master->is_called_down ? "is called failing by the cluster"
                                                    : "does not say that it is the master");
    shard->master = NULL;
}

static void shard_accept(struct cluster *cluster, uint32_t index, uint64_t now_us)
{
    struct survey_shard *shard = &cluster->shards[index];
    struct cluster_claim *claim = &cluster->claims[index];
    struct probe *named = claim->named, *before = shard->followed;
    shard->master = shard->followed = named;
    if (before != named) {
        uint64_t gap_ms = claim->masterless_us ? (now_us - claim->masterless_us) / 1000 : 0;
        if (before && claim->has_slots)
            log_info("%s: master of the shard of slot %u is %s (was %s), after %llu ms without a master",
                     survey_label(cluster->survey), claim->first_slot, named->name, before->name,
                     (unsigned long long)gap_ms);
        shard->confirmed_us = 0;
        shard->epoch = cluster->vote.epoch;
    }
    uint64_t began_us = claim->named_us < named->role_asked_us ? claim->named_us : named->role_asked_us;
    if (named->answers && began_us > shard->confirmed_us) shard->confirmed_us = began_us;
}

/* A replica knows its master by an address of the cluster's own network, which may not be the one that we
 * use. Then their replication histories tell whether it follows this master. */
static void cluster_compare_histories(struct cluster *cluster, struct probe *probe)
{
    const struct survey_shard *shard = survey_shard_of(cluster->survey, probe);
    if (!probe->is_listed || probe->role != NODE_ROLE_REPLICA || !shard || !shard->followed) return;
    if (probe->wants_replication && shard->followed->wants_replication) return;
    if (survey_follows(cluster->survey, shard->followed, probe)) return;
    probe->wants_replication = shard->followed->wants_replication = true;
    probe_hurry(probe, 0);
    probe_hurry(shard->followed, 0);
}

/* ---- trouble ---- */

static void cluster_watch_trouble(struct cluster *cluster, uint64_t now_us)
{
    struct survey *survey = cluster->survey;
    uint32_t troubled = !cluster->accepted;
    for (uint32_t i = 0; i < cluster->shard_count; i++)
        troubled += shard_is_troubled(cluster, i);
    for (const struct probe *probe = survey->probes; probe; probe = probe->next) {
        troubled += is_usurper(cluster, probe);
        if (is_misplaced(cluster, probe)) cluster_want(cluster, CLUSTER_GAP_US);
    }

    if (!troubled)
        cluster->trouble_us = 0;
    else if (!cluster->trouble_us || troubled > cluster->troubled)
        cluster->trouble_us = now_us;
    cluster->troubled = troubled;
    survey->verdict.is_unsettled = troubled != 0;
}

static bool shard_is_troubled(const struct cluster *cluster, uint32_t index)
{
    const struct survey_shard *shard = &cluster->shards[index];
    const struct cluster_claim *claim = &cluster->claims[index];
    if (!claim->has_slots) return false;
    return !shard->master || !shard->master->answers || !shard->confirmed_us;
}

/* It is listed as a master that has lost its slots, and it is back as a replica, or well again. */
static bool is_misplaced(const struct cluster *cluster, const struct probe *probe)
{
    if (!probe->is_listed || !probe->answers) return false;
    if (probe->shard >= cluster->shard_count) return true;
    return cluster->claims[probe->shard].named == probe && probe->role == NODE_ROLE_REPLICA;
}

/* It is listed as a replica and says that it is a master: there has been a failover. */
static bool is_usurper(const struct cluster *cluster, const struct probe *probe)
{
    if (!probe->is_listed || !probe->answers || probe->role != NODE_ROLE_MASTER) return false;
    if (probe->shard >= cluster->shard_count) return false;
    return cluster->claims[probe->shard].named != probe;
}
