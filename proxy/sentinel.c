/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/sentinel.h"

#include "proxy/clock.h"
#include "proxy/log.h"
#include "proxy/sentinel_peer.h"
#include "proxy/survey.h"
#include "routing/handover.h"
#include "routing/quorum.h"
#include "routing/succession.h"

#include <stdio.h>
#include <stdlib.h>

#define SENTINEL_PEERS_MAX      64
#define SENTINEL_FORGET_US      30000000U /* a learned Sentinel, or a node, that nobody has listed for so long */
#define SENTINEL_TROUBLE_MAX_US 60000000U /* trouble that lasts longer is polled for at the ordinary pace */
#define SENTINEL_VIEW_AGES      3         /* a view older than so many polls is not heard ... */
#define SENTINEL_VIEW_MIN_US    3000000U  /* ... and than this */
#define SENTINEL_LATE_US        3000000U  /* so long without a majority at the start is worth a line */
#define SENTINEL_HURRY_GAP_US   10000U
#define SENTINEL_LIST_GAP_US    100000U
#define SENTINEL_LABEL_SIZE     512

/* One master, and what the Sentinels say of it. */
struct sentinel {
    struct survey *survey;
    struct survey_shard *shard; /* its verdict */
    uint16_t shard_index;
    struct peer_setup setup;
    char label[SENTINEL_LABEL_SIZE];
    char master_name[PEER_HOST_SIZE];
    struct sentinel_peer *peers; /* seeds first, in their order */

    enum sentinel_stance stance;
    struct quorum quorum;
    struct probe *accepted;  /* the last master */
    bool is_refuted;         /* another was named since: not to be fallen back on */
    struct probe *candidate; /* named, and not accepted yet */
    uint64_t candidate_us;   /* since when */
    struct handover handover;
    struct probe *heir;      /* the replica that takes over; while a handover is on its way */
    bool is_ahead;           /* the heir is accepted, and most of the Sentinels are still to name it */
    char carried_out_by[PEER_HOST_SIZE]; /* the Sentinel that promotes the heir */
    uint64_t masterless_us;  /* since when there is no master; 0 = there is one */
    uint64_t troubled_us;    /* since when the Sentinels disagree or call the master down; 0 = they do not */
    uint64_t heard_us;       /* when any Sentinel was last heard */
    bool is_unsettled;       /* wants to be asked again soon */
    bool has_news;           /* an event spoke of this master, and it has not been asked for since */
    char choice_logged[PEER_HOST_SIZE];
};

/* All masters of the upstream, each with Sentinels of its own: they need not be watched by the same ones. */
struct sentinels {
    struct survey_shard *shards;
    struct sentinel **items;
    uint32_t count;
};

struct poll { /* what the peers say at one moment */
    struct quorum_view views[SENTINEL_PEERS_MAX];
    const struct sentinel_peer *peers[SENTINEL_PEERS_MAX];
    char names[SENTINEL_PEERS_MAX][QUORUM_NAME_SIZE];
    size_t count;
};

static void *sentinels_start(struct survey *survey);
static void sentinels_stop(void *discovery);
static void sentinels_judge(void *discovery, uint64_t now_us);
static void sentinels_ask(void *discovery);
static bool sentinels_plan(void *discovery, struct switchover_plan *plan);
static bool sentinels_fail_over(void *discovery, const struct probe *master);
static void sentinels_drop_nodes(struct sentinels *sentinels, struct survey *survey);
static bool is_needed(const struct sentinels *sentinels, const struct probe *probe);
static struct sentinel *sentinel_create(struct survey *survey, struct survey_shard *shard,
                                        uint16_t shard_index);
static void sentinel_destroy(struct sentinel *sentinel);
static void sentinel_judge(struct sentinel *sentinel, uint64_t now_us);
static void sentinel_ask(struct sentinel *sentinel);
static bool sentinel_is_open(const struct sentinel *sentinel);
static void sentinel_changed(void *owner);
static void sentinel_event(void *owner, const char *teller, const char *channel, const char *message);
static void sentinel_follow(struct sentinel *sentinel, const char *teller, const struct handover_event *event);
static struct probe *sentinel_node_at(const struct sentinel *sentinel, const struct handover_address *address);
static bool sentinel_plan(struct sentinel *sentinel, struct switchover_plan *plan);
static bool sentinel_choose_heirs(struct sentinel *sentinel, const struct sentinel_peer *peer, struct switchover_plan *plan);
static struct probe *sentinel_listed_node(const struct sentinel *sentinel, const struct peer_listed *listed);
static struct sentinel_peer *sentinel_sane_peer(const struct sentinel *sentinel);
static void sentinel_told_failover(void *owner, struct slice reply, uint64_t asked_us);
static void sentinel_brace(struct sentinel *sentinel, const char *teller);
static void sentinel_await_heir(struct sentinel *sentinel, uint64_t now_us);
static void sentinel_forget_heir(struct sentinel *sentinel);
static void sentinel_hand_over(struct sentinel *sentinel, uint64_t now_us);
static bool sentinel_add(struct sentinel *sentinel, const char *host, uint16_t port, bool is_seed,
                         const char *run_id);
static void sentinel_mark_twins(struct sentinel *sentinel);
static void sentinel_learn(struct sentinel *sentinel, uint64_t now_us);
static void sentinel_learn_from(struct sentinel *sentinel, const struct sentinel_peer *teller,
                                uint64_t now_us);
static struct sentinel_peer *sentinel_find(struct sentinel *sentinel, const char *host, uint16_t port,
                                           const char *run_id);
static void sentinel_forget(struct sentinel *sentinel);
static bool sentinel_choose_master_name(struct sentinel *sentinel);
static bool peer_is_heard(const struct sentinel_peer *peer, uint64_t now_us);
static void sentinel_poll(struct sentinel *sentinel, struct poll *poll, uint64_t now_us);
static size_t sentinel_known(const struct sentinel *sentinel, uint64_t now_us);
static void sentinel_decide(struct sentinel *sentinel, const struct poll *poll,
                            const struct quorum_answer *answer, uint64_t now_us);
static void sentinel_stand_alone(struct sentinel *sentinel, const struct quorum_answer *answer);
static void sentinel_keep(struct sentinel *sentinel, const struct poll *poll,
                          const struct quorum_answer *answer);
static void sentinel_consider(struct sentinel *sentinel, const struct poll *poll,
                              const struct quorum_answer *answer, uint64_t now_us);
static void sentinel_accept(struct sentinel *sentinel, const struct quorum_answer *answer,
                            const char *named_by);
static void sentinel_confirm(struct sentinel *sentinel, uint64_t sentinels_asked_us);
static void sentinel_set_stance(struct sentinel *sentinel, enum sentinel_stance stance,
                                const struct quorum_answer *answer);
static void sentinel_watch_trouble(struct sentinel *sentinel, const struct poll *poll, uint64_t now_us);
static bool sentinel_claim(struct sentinel *sentinel, struct probe *probe, bool is_named, uint64_t now_us);
static bool sentinel_is_followed_by(const struct sentinel *sentinel, const struct probe *probe);
static void sentinel_list_nodes(struct sentinel *sentinel, uint64_t now_us);
static bool is_outdated(const struct sentinel *sentinel, uint64_t listed_us);
static void sentinel_warn_loopback(const struct sentinel *sentinel, struct sentinel_peer *peer);

const struct discovery_kind sentinel_discovery = {
    .name = "sentinel",
    .start = sentinels_start,
    .stop = sentinels_stop,
    .judge = sentinels_judge,
    .ask = sentinels_ask,
    .plan = sentinels_plan,
    .fail_over = sentinels_fail_over,
};

/* ---- all masters ---- */

/* One without a name where none is configured. */
static void *sentinels_start(struct survey *survey)
{
    size_t names = survey->config->master_names.count;
    uint32_t count = names ? (uint32_t)names : 1;
    struct sentinels *sentinels = calloc(1, sizeof(*sentinels));
    if (!sentinels) return NULL;
    sentinels->shards = calloc(count, sizeof(*sentinels->shards));
    sentinels->items = calloc(count, sizeof(struct sentinel *));
    bool is_good = sentinels->shards && sentinels->items;
    while (is_good && sentinels->count < count) {
        uint32_t i = sentinels->count++;
        sentinels->items[i] = sentinel_create(survey, &sentinels->shards[i], (uint16_t)i);
        is_good = sentinels->items[i] != NULL;
    }
    if (!is_good) {
        sentinels_stop(sentinels);
        return NULL;
    }
    survey->verdict.shards = sentinels->shards;
    survey->verdict.shard_count = count;
    survey->verdict.distribution = survey->config->distribution;
    return sentinels;
}

static void sentinels_stop(void *discovery)
{
    struct sentinels *sentinels = discovery;
    for (uint32_t i = 0; i < sentinels->count; i++)
        sentinel_destroy(sentinels->items[i]);
    free(sentinels->items);
    free(sentinels->shards);
    free(sentinels);
}

static void sentinels_judge(void *discovery, uint64_t now_us)
{
    struct sentinels *sentinels = discovery;
    bool is_unsettled = false, is_urgent = false;
    struct survey *survey = sentinels->items[0]->survey;
    for (uint32_t i = 0; i < sentinels->count; i++) {
        sentinel_judge(sentinels->items[i], now_us);
        is_unsettled |= sentinels->items[i]->is_unsettled;
        is_urgent |= sentinels->items[i]->shard->is_yielding;
    }
    survey->verdict.is_unsettled = is_unsettled;
    survey->verdict.is_urgent = is_urgent;
    sentinels_drop_nodes(sentinels, survey);
}

/* Those that are in doubt, if any is; else all. */
static void sentinels_ask(void *discovery)
{
    struct sentinels *sentinels = discovery;
    bool is_any_open = false;
    for (uint32_t i = 0; i < sentinels->count; i++)
        is_any_open |= sentinel_is_open(sentinels->items[i]);
    for (uint32_t i = 0; i < sentinels->count; i++) {
        if (!is_any_open || sentinel_is_open(sentinels->items[i])) sentinel_ask(sentinels->items[i]);
    }
}

/* The wanted node tells which master; without one there has to be only one. */
static bool sentinels_plan(void *discovery, struct switchover_plan *plan)
{
    struct sentinels *sentinels = discovery;
    const struct probe *wanted = sentinels->items[0]->survey->probes;
    while (wanted && strcmp(wanted->name, plan->wanted) != 0)
        wanted = wanted->next;
    if (plan->wanted[0] && !wanted) return switchover_refuse(plan, "no node %.200s is known", plan->wanted);
    if (!wanted && sentinels->count > 1) return switchover_refuse(plan, "there are several masters: name the replica");
    return sentinel_plan(sentinels->items[wanted ? wanted->shard : 0], plan);
}

static bool sentinels_fail_over(void *discovery, const struct probe *master)
{
    struct sentinels *sentinels = discovery;
    struct sentinel_peer *peer = sentinel_sane_peer(sentinels->items[master->shard]);
    return peer && peer_fail_over(peer);
}

/* A node that nobody has listed for long. */
static void sentinels_drop_nodes(struct sentinels *sentinels, struct survey *survey)
{
    for (struct probe *probe = survey->probes, *next; probe; probe = next) {
        const struct sentinel *sentinel = sentinels->items[probe->shard];
        next = probe->next;
        if (is_needed(sentinels, probe))
            probe->listed_us = sentinel->heard_us;
        else if (is_outdated(sentinel, probe->listed_us))
            survey_drop(survey, probe);
    }
}

static bool is_needed(const struct sentinels *sentinels, const struct probe *probe)
{
    for (uint32_t i = 0; i < sentinels->count; i++) {
        const struct sentinel *sentinel = sentinels->items[i];
        if (probe == sentinel->accepted || probe == sentinel->candidate || probe == sentinel->heir ||
            probe == sentinel->shard->followed)
            return true;
    }
    return false;
}

/* ---- one master ---- */

static struct sentinel *sentinel_create(struct survey *survey, struct survey_shard *shard,
                                        uint16_t shard_index)
{
    const struct config_upstream *config = survey->config;
    struct sentinel *sentinel = calloc(1, sizeof(*sentinel));
    if (!sentinel) return NULL;

    const char *name = config->master_names.count ? config->master_names.items[shard_index] : "";
    bool has_others = config->master_names.count > 1;
    sentinel->survey = survey;
    sentinel->shard = shard;
    sentinel->shard_index = shard_index;
    sentinel->masterless_us = clock_us();
    snprintf(sentinel->master_name, sizeof(sentinel->master_name), "%s", name);
    snprintf(sentinel->label, sizeof(sentinel->label), "%s%s%s", survey_label(survey),
             has_others ? ", master " : "", has_others ? name : "");
    sentinel->setup = (struct peer_setup){
        .loop = survey->loop,
        .resolver = survey->resolver,
        .label = sentinel->label,
        .username = config->sentinel_username ? config->sentinel_username : "",
        .password = config->sentinel_password ? config->sentinel_password : "",
        .connect_timeout_ms = (uint64_t)config->connect_timeout_ms,
        .poll_interval_ms = (uint64_t)config->poll_interval_ms,
        .master_name = sentinel->master_name,
        .changed = sentinel_changed,
        .told_failover = sentinel_told_failover,
        .heard_event = sentinel_event,
        .owner = sentinel,
    };
    for (size_t i = 0; i < config->nodes.count; i++)
        sentinel_add(sentinel, config->nodes.items[i].host, config->nodes.items[i].port, true, "");
    return sentinel;
}

static void sentinel_destroy(struct sentinel *sentinel)
{
    if (!sentinel) return;
    while (sentinel->peers) {
        struct sentinel_peer *next = sentinel->peers->next;
        peer_destroy(sentinel->peers);
        sentinel->peers = next;
    }
    free(sentinel);
}

static void sentinel_judge(struct sentinel *sentinel, uint64_t now_us)
{
    sentinel_mark_twins(sentinel);
    if (!sentinel->master_name[0] && !sentinel_choose_master_name(sentinel)) return;
    sentinel_learn(sentinel, now_us);

    struct poll poll;
    sentinel_hand_over(sentinel, now_us);
    sentinel_poll(sentinel, &poll, now_us);
    struct quorum_answer answer = quorum_decide(&sentinel->quorum, poll.views, poll.count,
                                                sentinel_known(sentinel, now_us), now_us / 1000);
    sentinel_decide(sentinel, &poll, &answer, now_us);
    sentinel->shard->is_yielding = sentinel->handover.state == HANDOVER_HOLDING;
    sentinel_watch_trouble(sentinel, &poll, now_us);
    sentinel_list_nodes(sentinel, now_us);
    if (poll.count) sentinel->heard_us = now_us;
    sentinel_forget(sentinel);
}

static void sentinel_ask(struct sentinel *sentinel)
{
    sentinel->has_news = false;
    for (struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next)
        peer_ask(peer);
    if (sentinel->heir) probe_hurry(sentinel->heir, SENTINEL_HURRY_GAP_US);
    if (sentinel->candidate) probe_hurry(sentinel->candidate, SENTINEL_HURRY_GAP_US);
    if (sentinel->accepted) probe_hurry(sentinel->accepted, SENTINEL_HURRY_GAP_US);
}

static bool sentinel_is_open(const struct sentinel *sentinel)
{
    return sentinel->is_unsettled || sentinel->heir || sentinel->handover.state == HANDOVER_HOLDING ||
           sentinel->has_news || sentinel->shard->reported_us;
}

static void sentinel_changed(void *owner)
{
    struct sentinel *sentinel = owner;
    survey_touch(sentinel->survey);
}

/* An event is never believed, it only makes us ask, and hold writes for a while. Its text names our master somewhere, or
 * none at all. */
static void sentinel_event(void *owner, const char *teller, const char *channel, const char *message)
{
    struct sentinel *sentinel = owner;
    if (!sentinel->master_name[0] || !strstr(message, sentinel->master_name)) return;
    struct handover_event event = handover_read(slice_of(channel), slice_of(message));
    if (event.kind != HANDOVER_EVENT_NONE && slice_equals(event.master_name, slice_of(sentinel->master_name)))
        sentinel_follow(sentinel, teller, &event);
    sentinel->has_news = true;
    survey_ask(sentinel->survey);
}

/* ---- the Sentinels ---- */

/* ---- a failover on its way ---- */

static void sentinel_follow(struct sentinel *sentinel, const char *teller, const struct handover_event *event)
{
    const char *label = sentinel->setup.label;
    if (!sentinel->accepted || sentinel_node_at(sentinel, &event->master) != sentinel->accepted) return;
    if (event->kind == HANDOVER_EVENT_GIVE_UP) {
        if (sentinel->heir) log_info("%s: sentinel %s has given up its failover", label, teller);
        sentinel_forget_heir(sentinel);
        return;
    }

    if (event->kind == HANDOVER_EVENT_NEAR) {
        sentinel_brace(sentinel, teller);
        return;
    }

    struct probe *heir = sentinel_node_at(sentinel, &event->heir);
    if (!heir || heir == sentinel->accepted || heir->shard != sentinel->shard_index) return;
    log_info("%s: sentinel %s is about to make %s the master in place of %s; writes are held", label, teller, heir->name,
             sentinel->accepted->name);
    sentinel->heir = heir;
    snprintf(sentinel->carried_out_by, sizeof(sentinel->carried_out_by), "%s", teller);
    handover_begin(&sentinel->handover, clock_us());
    survey_touch(sentinel->survey);
}

/* What the replicas have not heard yet would be lost with whichever is chosen. */
static void sentinel_brace(struct sentinel *sentinel, const char *teller)
{
    uint64_t lag_us = 0;
    for (const struct probe *probe = sentinel->survey->probes; probe; probe = probe->next) {
        bool is_replica = probe->shard == sentinel->shard_index && probe != sentinel->accepted && probe->was_fit;
        uint64_t its_lag_us = is_replica ? freshening_lag_us(sentinel->accepted, probe) : 0;
        if (its_lag_us > lag_us) lag_us = its_lag_us;
    }
    if (sentinel->heir || lag_us < HANDOVER_LAG_US) return;
    log_info("%s: sentinel %s is about to choose a replica in place of %s, and these are %llu ms behind; writes are held",
             sentinel->setup.label, teller, sentinel->accepted->name, (unsigned long long)(lag_us / 1000));
    handover_begin(&sentinel->handover, clock_us());
    survey_touch(sentinel->survey);
}

/* The node there, after the address map; NULL if it is not known. */
static struct probe *sentinel_node_at(const struct sentinel *sentinel, const struct handover_address *address)
{
    char text[PEER_HOST_SIZE];
    const char *host = text;
    uint16_t port = address->port;
    snprintf(text, sizeof(text), "%.*s", (int)address->host.size, address->host.bytes);
    survey_map(sentinel->survey, &host, &port);
    return survey_known_node(sentinel->survey, host, port);
}

static void sentinel_forget_heir(struct sentinel *sentinel)
{
    handover_end(&sentinel->handover);
    sentinel->heir = NULL;
    survey_touch(sentinel->survey);
}

/* Once the heir says that it is the master nothing is left that could make another one of it: the Sentinels will name it. */
static void sentinel_hand_over(struct sentinel *sentinel, uint64_t now_us)
{
    struct probe *heir = sentinel->heir;
    if (!heir) {
        sentinel_await_heir(sentinel, now_us);
        return;
    }
    uint64_t age_ms = (now_us - sentinel->handover.since_us) / 1000;
    bool was_held = sentinel->handover.state == HANDOVER_HOLDING;
    handover_hear_master(&sentinel->handover, sentinel->accepted->role_offset, sentinel->accepted->role_asked_us);
    struct handover_heir said = {.is_master = heir->role == NODE_ROLE_MASTER, .role_asked_us = heir->role_asked_us};
    bool is_done = handover_is_done(&sentinel->handover, &said, now_us);
    if (was_held && sentinel->handover.state == HANDOVER_LATE)
        log_warning("%s: %s has not become the master in %llu ms; writes go on at %s meanwhile", sentinel->setup.label,
                    heir->name, (unsigned long long)age_ms, sentinel->accepted->name);
    if (sentinel->handover.state == HANDOVER_NONE) sentinel->heir = NULL;
    if (!is_done || !sentinel_claim(sentinel, heir, true, now_us)) return;

    struct quorum_answer answer = {.name = heir->name, .epoch = sentinel->quorum.epoch + 1, .asked_us = heir->role_asked_us};
    log_info("%s: %s has become the master, %llu ms after that was announced", sentinel->setup.label, heir->name,
             (unsigned long long)age_ms);
    int64_t missing = handover_missing(&sentinel->handover, heir->role_offset);
    if (missing > 0)
        log_error("%s: %s had not been told all by %s when it was promoted: the last %lld bytes of writes are lost",
                  sentinel->setup.label, heir->name, sentinel->accepted->name, (long long)missing);
    quorum_accept(&sentinel->quorum, heir->name, answer.epoch);
    sentinel->accepted = heir;
    sentinel->candidate = NULL;
    sentinel->is_refuted = false;
    sentinel->is_ahead = true;
    sentinel_accept(sentinel, &answer, sentinel->carried_out_by);
}

/* Should none be chosen after all, writes go on. */
static void sentinel_await_heir(struct sentinel *sentinel, uint64_t now_us)
{
    static const struct handover_heir nobody;
    handover_is_done(&sentinel->handover, &nobody, now_us);
    if (sentinel->handover.state == HANDOVER_LATE) handover_end(&sentinel->handover);
}

/* ---- a failover that we ask for ---- */

static bool sentinel_plan(struct sentinel *sentinel, struct switchover_plan *plan)
{
    struct sentinel_peer *peer = sentinel_sane_peer(sentinel);
    bool is_settled = sentinel->stance == STANCE_SETTLED && sentinel->shard->master && sentinel->shard->master->answers;
    if (!is_settled || sentinel->heir) return switchover_defer(plan, "the master is in doubt, or about to be replaced");
    if (!peer) return switchover_defer(plan, "no Sentinel is heard that finds all well with the master");
    if (peer->replicas_us < plan->since_us) {
        if (clock_us() - peer->replicas_wanted_us > SENTINEL_LIST_GAP_US) peer_ask_all(peer);
        return switchover_defer(plan, "Sentinel %s has not told its replicas", peer->name);
    }
    plan->master = sentinel->shard->master;
    if (strcmp(plan->wanted, plan->master->name) == 0)
        return switchover_refuse(plan, "%.200s is the master already", plan->wanted);
    return sentinel_choose_heirs(sentinel, peer, plan);
}

static bool sentinel_choose_heirs(struct sentinel *sentinel, const struct sentinel_peer *peer, struct switchover_plan *plan)
{
    struct succession_replica replicas[SWITCHOVER_HEIRS_MAX] = {{.priority = 0}};
    struct probe *probes[SWITCHOVER_HEIRS_MAX];
    bool is_heir[SWITCHOVER_HEIRS_MAX];
    size_t count = peer->replicas.count, wanted = SUCCESSION_NONE;
    if (count > SWITCHOVER_HEIRS_MAX) return switchover_refuse(plan, "there are too many replicas");
    for (size_t i = 0; i < count; i++) {
        const struct peer_listed *listed = &peer->replicas.items[i];
        probes[i] = sentinel_listed_node(sentinel, listed);
        replicas[i] = (struct succession_replica){.priority = listed->priority,
                                                  .is_well = !listed->is_down && !listed->is_disconnected,
                                                  .is_fit = probes[i] && probes[i]->was_fit};
        if (probes[i] && strcmp(probes[i]->name, plan->wanted) == 0) wanted = i;
    }
    if (plan->wanted[0] && wanted == SUCCESSION_NONE)
        return switchover_defer(plan, "Sentinel %s does not list %.150s as a replica", peer->name, plan->wanted);

    struct succession_answer answer = succession_decide(replicas, count, wanted, is_heir);
    const char *name = answer.about < count && probes[answer.about] ? probes[answer.about]->name : "a replica";
    switch (answer.verdict) {
    case SUCCESSION_NOBODY:
        return switchover_defer(plan, "there is no replica that Sentinel %s would promote", peer->name);
    case SUCCESSION_BARRED:
        return switchover_refuse(plan, "%s has replica-priority 0: it is never promoted", name);
    case SUCCESSION_UNWELL:
        return switchover_defer(plan, "Sentinel %s does not find %s well", peer->name, name);
    case SUCCESSION_UNFIT:
        return switchover_defer(plan, "%s, which could be promoted, is not fit: %.150s", name,
                                 probes[answer.about] ? probes[answer.about]->reason : "it is not known here");
    case SUCCESSION_OVERRULED:
        return switchover_refuse(plan, "%s has replica-priority 1, so that a Sentinel promotes no other; raise it first",
                                 name);
    case SUCCESSION_RAISE:
        plan->priority = answer.priority;
        break;
    case SUCCESSION_READY:
        break;
    }
    for (size_t i = 0; i < count; i++) {
        const struct peer_listed *listed = &peer->replicas.items[i];
        if (is_heir[i]) switchover_add_heir(plan, probes[i], listed->host, listed->port);
    }
    return true;
}

static struct probe *sentinel_listed_node(const struct sentinel *sentinel, const struct peer_listed *listed)
{
    const char *host = listed->host;
    uint16_t port = listed->port;
    survey_map(sentinel->survey, &host, &port);
    return survey_known_node(sentinel->survey, host, port);
}

/* Always the same, as long as it is well, since each has its own view of the replicas. */
static struct sentinel_peer *sentinel_sane_peer(const struct sentinel *sentinel)
{
    uint64_t now_us = clock_us();
    for (struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next) {
        if (peer->is_twin || !peer_is_heard(peer, now_us) || peer->view.is_troubled) continue;
        struct handover_address master = {slice_of(peer->view.host), peer->view.port};
        if (sentinel_node_at(sentinel, &master) == sentinel->accepted) return peer;
    }
    return NULL;
}

static void sentinel_told_failover(void *owner, struct slice reply, uint64_t asked_us)
{
    struct sentinel *sentinel = owner;
    switchover_answered(sentinel->survey, reply, asked_us);
}

static bool sentinel_add(struct sentinel *sentinel, const char *host, uint16_t port, bool is_seed,
                         const char *run_id)
{
    size_t count = 0;
    struct sentinel_peer **end = &sentinel->peers;
    for (; *end; end = &(*end)->next)
        count++;
    if (count == SENTINEL_PEERS_MAX) return false;
    *end = peer_create(&sentinel->setup, host, port, is_seed, run_id);
    return *end != NULL;
}

/* One Sentinel under two names counts once; the earlier entry does, so that seeds come before learned ones.
 */
static void sentinel_mark_twins(struct sentinel *sentinel)
{
    for (struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next) {
        peer->is_twin = false;
        for (struct sentinel_peer *other = sentinel->peers; other != peer && !peer->is_twin;
             other = other->next)
            peer->is_twin = peer->run_id[0] && strcmp(peer->run_id, other->run_id) == 0;
    }
}

static void sentinel_learn(struct sentinel *sentinel, uint64_t now_us)
{
    for (struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next) {
        if (peer_is_heard(peer, now_us)) sentinel_learn_from(sentinel, peer, now_us);
    }
}

static void sentinel_learn_from(struct sentinel *sentinel, const struct sentinel_peer *teller,
                                uint64_t now_us)
{
    for (size_t i = 0; i < teller->others.count; i++) {
        const struct peer_listed *listed = &teller->others.items[i];
        const char *host = listed->host;
        uint16_t port = listed->port;
        survey_map(sentinel->survey, &host, &port);
        struct sentinel_peer *known = sentinel_find(sentinel, host, port, listed->run_id);
        if (!known && sentinel_add(sentinel, host, port, false, listed->run_id))
            known = sentinel_find(sentinel, host, port, listed->run_id);
        if (known) known->listed_us = now_us;
    }
}

static struct sentinel_peer *sentinel_find(struct sentinel *sentinel, const char *host, uint16_t port,
                                           const char *run_id)
{
    for (struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next) {
        if (run_id[0] && strcmp(peer->run_id, run_id) == 0) return peer;
    }
    for (struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next) {
        if (peer_is_at(peer, host, port)) return peer;
    }
    return NULL;
}

/* Learned ones go when a seed turns out to be the same, or when nobody lists them any more; seeds stay. */
static void sentinel_forget(struct sentinel *sentinel)
{
    for (struct sentinel_peer **at = &sentinel->peers; *at;) {
        struct sentinel_peer *peer = *at;
        bool is_gone = !peer->is_seed && (peer->is_twin || is_outdated(sentinel, peer->listed_us));
        if (!is_gone) {
            at = &peer->next;
            continue;
        }
        *at = peer->next;
        peer_destroy(peer);
    }
}

/* With no name configured, the only master that they monitor. */
static bool sentinel_choose_master_name(struct sentinel *sentinel)
{
    const char *name = NULL;
    const struct sentinel_peer *teller = NULL;
    for (struct sentinel_peer *peer = sentinel->peers; peer && !name; peer = peer->next) {
        if (peer->masters == 0) continue;
        name = peer->master_names;
        teller = peer;
    }
    if (!name) return false;

    if (teller->masters == 1) {
        memcpy(sentinel->master_name, teller->master_names, sizeof(sentinel->master_name));
        log_info("%s: the Sentinels monitor one master, '%s'", sentinel->setup.label, name);
        for (struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next)
            peer_ask_all(peer);
        return true;
    }
    if (strcmp(sentinel->choice_logged, name) != 0) {
        snprintf(sentinel->choice_logged, sizeof(sentinel->choice_logged), "%s", name);
        log_error("%s: sentinel %s monitors several masters: %s; set upstream.master_name to one of "
                  "them, or to several, with upstream.distribution",
                  sentinel->setup.label, teller->name, name);
    }
    return false;
}

static bool peer_is_heard(const struct sentinel_peer *peer, uint64_t now_us)
{
    uint64_t limit_us = peer->setup->poll_interval_ms * 1000 * SENTINEL_VIEW_AGES;
    if (limit_us < SENTINEL_VIEW_MIN_US) limit_us = SENTINEL_VIEW_MIN_US;
    return peer->has_view && !peer->is_twin && now_us - peer->view.asked_us < limit_us;
}

static void sentinel_poll(struct sentinel *sentinel, struct poll *poll, uint64_t now_us)
{
    poll->count = 0;
    for (struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next) {
        if (!peer_is_heard(peer, now_us)) continue;
        sentinel_warn_loopback(sentinel, peer);
        const char *host = peer->view.host;
        uint16_t port = peer->view.port;
        survey_map(sentinel->survey, &host, &port);

        size_t i = poll->count++;
        probe_format_name(poll->names[i], sizeof(poll->names[i]), host, port);
        for (struct probe *probe = sentinel->survey->probes; probe; probe = probe->next) {
            if (probe_is_at(probe, host, port))
                snprintf(poll->names[i], sizeof(poll->names[i]), "%s", probe->name);
        }
        poll->peers[i] = peer;
        poll->views[i] = (struct quorum_view){.is_heard = true,
                                              .name = poll->names[i],
                                              .epoch = peer->view.epoch,
                                              .asked_us = peer->view.asked_us};
    }
}

/* How many Sentinels there are: all told apart by their run ids, or as many as one of them counts. While at
 * most one is heard, seeds that have not answered count too: it may have been started this moment, knowing
 * nobody. */
static size_t sentinel_known(const struct sentinel *sentinel, uint64_t now_us)
{
    size_t told_apart = 0, seeds = 0, counted = 0, heard = 0;
    for (const struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next) {
        if (peer->is_twin) continue;
        told_apart += peer->run_id[0] != '\0';
        seeds += peer->is_seed;
        if (!peer_is_heard(peer, now_us)) continue;
        heard++;
        uint64_t others = peer->view.others < SENTINEL_PEERS_MAX ? peer->view.others : SENTINEL_PEERS_MAX;
        if (others + 1 > counted) counted = (size_t)others + 1;
    }
    size_t known = told_apart > counted ? told_apart : counted;
    return heard <= 1 && seeds > known ? seeds : known;
}

/* ---- the master ---- */

static void sentinel_decide(struct sentinel *sentinel, const struct poll *poll,
                            const struct quorum_answer *answer, uint64_t now_us)
{
    switch (answer->verdict) {
    case QUORUM_SILENT:
    case QUORUM_STALE:
        sentinel_stand_alone(sentinel, answer);
        break;
    case QUORUM_UNDECIDED:
        sentinel->shard->master = NULL;
        sentinel_set_stance(sentinel, STANCE_UNDECIDED, answer);
        break;
    case QUORUM_KEEPS:
        sentinel_keep(sentinel, poll, answer);
        break;
    case QUORUM_RESETS:
        if (!sentinel->candidate)
            log_warning("%s: the Sentinels have named %s at epoch %llu for %d s, below epoch %llu of %s: "
                        "taken as a reset",
                        sentinel->setup.label, answer->name, (unsigned long long)answer->epoch,
                        QUORUM_RESET_MS / 1000, (unsigned long long)sentinel->quorum.epoch,
                        sentinel->quorum.name);
        sentinel_consider(sentinel, poll, answer, now_us);
        break;
    case QUORUM_NAMES:
        sentinel_consider(sentinel, poll, answer, now_us);
        break;
    }
    const struct probe *master = sentinel->shard->master;
    if (master && master->answers)
        sentinel->masterless_us = 0;
    else if (!sentinel->masterless_us)
        sentinel->masterless_us = now_us;
}

/* No majority to ask, or one that knows less than we do: the last master, while it says so itself. */
static void sentinel_stand_alone(struct sentinel *sentinel, const struct quorum_answer *answer)
{
    struct survey_shard *shard = sentinel->shard;
    if (!sentinel->accepted) {
        bool is_late = answer->heard && clock_us() - sentinel->masterless_us > SENTINEL_LATE_US;
        if (is_late) sentinel_set_stance(sentinel, STANCE_ALONE, answer);
        return;
    }
    bool agrees = !sentinel->is_refuted && sentinel->accepted->role == NODE_ROLE_MASTER;
    shard->master = agrees ? sentinel->accepted : NULL;
    if (agrees) sentinel_confirm(sentinel, UINT64_MAX);
    bool is_ahead = sentinel->is_ahead && answer->verdict == QUORUM_STALE;
    sentinel_set_stance(sentinel, !agrees ? STANCE_VETOED : is_ahead ? STANCE_AHEAD : STANCE_ALONE, answer);
}

static void sentinel_keep(struct sentinel *sentinel, const struct poll *poll,
                          const struct quorum_answer *answer)
{
    sentinel->is_refuted = sentinel->is_ahead = false;
    sentinel->candidate = NULL;
    if (!sentinel->accepted || sentinel->accepted->role != NODE_ROLE_MASTER) {
        sentinel->shard->master = NULL;
        sentinel_set_stance(sentinel, STANCE_VETOED, answer);
        return;
    }
    if (answer->epoch != sentinel->quorum.epoch)
        quorum_accept(&sentinel->quorum, answer->name, answer->epoch);
    sentinel_accept(sentinel, answer, poll->peers[answer->winner]->name);
}

/* Another node is named: from now on the old one is not the master, and the new one is asked until it agrees.
 */
static void sentinel_consider(struct sentinel *sentinel, const struct poll *poll,
                              const struct quorum_answer *answer, uint64_t now_us)
{
    const struct sentinel_peer *teller = poll->peers[answer->winner];
    const char *host = teller->view.host;
    uint16_t port = teller->view.port;
    survey_map(sentinel->survey, &host, &port);
    struct probe *named = survey_node(sentinel->survey, host, port);
    if (!named) return;
    if (!sentinel_claim(sentinel, named, true, now_us)) {
        sentinel->candidate = NULL;
        sentinel->shard->master = NULL;
        sentinel_set_stance(sentinel, STANCE_TAKEN, answer);
        return;
    }

    if (named != sentinel->candidate) {
        sentinel->candidate = named;
        sentinel->candidate_us = now_us;
        probe_hurry(named, 0);
        log_info("%s: sentinel %s names %s as master (epoch %llu); asking it", sentinel->setup.label,
                 teller->name, named->name, (unsigned long long)answer->epoch);
    }
    sentinel->is_refuted = true;
    if (named->role != NODE_ROLE_MASTER || named->role_asked_us < sentinel->candidate_us) {
        sentinel->shard->master = NULL;
        sentinel_set_stance(sentinel, STANCE_ASKING, answer);
        return;
    }

    quorum_accept(&sentinel->quorum, named->name, answer->epoch);
    sentinel_forget_heir(sentinel);
    sentinel->accepted = named;
    sentinel->candidate = NULL;
    sentinel->is_refuted = sentinel->is_ahead = false;
    sentinel_accept(sentinel, answer, teller->name);
}

/* The accepted node is named and agrees. */
static void sentinel_accept(struct sentinel *sentinel, const struct quorum_answer *answer,
                            const char *named_by)
{
    struct survey_shard *shard = sentinel->shard;
    struct probe *before = shard->followed;
    shard->master = shard->followed = sentinel->accepted;
    shard->epoch = answer->epoch;
    if (before != sentinel->accepted) {
        uint64_t gap_ms = sentinel->masterless_us ? (clock_us() - sentinel->masterless_us) / 1000 : 0;
        log_info(
            "%s: master is %s (was %s), epoch %llu, named by sentinel %s, after %llu ms without a master",
            sentinel->setup.label, sentinel->accepted->name, before ? before->name : "none",
            (unsigned long long)answer->epoch, named_by, (unsigned long long)gap_ms);
        shard->confirmed_us = 0;
    }
    sentinel_confirm(sentinel, answer->asked_us);
    sentinel_set_stance(sentinel, STANCE_SETTLED, answer);
}

/* The check began when the earlier of its two questions was asked. */
static void sentinel_confirm(struct sentinel *sentinel, uint64_t sentinels_asked_us)
{
    uint64_t role_asked_us = sentinel->accepted->role_asked_us;
    uint64_t began_us = sentinels_asked_us < role_asked_us ? sentinels_asked_us : role_asked_us;
    uint64_t *confirmed_us = &sentinel->shard->confirmed_us;
    if (began_us > *confirmed_us) *confirmed_us = began_us;
}

/* Logs what the new stance means, once. */
static void sentinel_set_stance(struct sentinel *sentinel, enum sentinel_stance stance,
                                const struct quorum_answer *answer)
{
    enum sentinel_stance before = sentinel->stance;
    const char *label = sentinel->setup.label;
    const char *name = sentinel->accepted ? sentinel->accepted->name : "none";
    sentinel->stance = stance;
    if (before == stance) return;

    switch (stance) {
    case STANCE_UNKNOWN:
    case STANCE_ASKING:
    case STANCE_AHEAD:
        break;
    case STANCE_SETTLED:
        if (before == STANCE_ALONE)
            log_info("%s: a majority of the Sentinels is heard again, master is %s", label, name);
        if (before == STANCE_VETOED) log_info("%s: %s says master again", label, name);
        break;
    case STANCE_VETOED:
        log_error("%s: no master: %s is the last one that the Sentinels named (epoch %llu), but %s; writes "
                  "are held",
                  label, name, (unsigned long long)sentinel->quorum.epoch,
                  sentinel->is_refuted ? "one of them named another since" : "it says it is a replica");
        break;
    case STANCE_UNDECIDED:
        log_error("%s: no master: the Sentinels name different nodes at the same epoch; writes are held",
                  label);
        break;
    case STANCE_TAKEN:
        log_error(
            "%s: no master: the Sentinels name %s, which is the master of another name; writes are held; "
            "check upstream.master_name",
            label, answer->name);
        break;
    case STANCE_ALONE:
        if (!sentinel->accepted)
            log_warning("%s: no master yet: %zu Sentinels answer, %zu would be a majority", label,
                        answer->heard, answer->needed);
        else if (answer->verdict == QUORUM_STALE)
            log_warning(
                "%s: the Sentinels that answer know less than those before; keeping %s while it says master",
                label, name);
        else
            log_warning("%s: %zu Sentinels answer, %zu would be a majority; keeping %s while it says master",
                        label, answer->heard, answer->needed, name);
        break;
    }
}

/* While a switch is likely, everybody is asked several times a second. */
static void sentinel_watch_trouble(struct sentinel *sentinel, const struct poll *poll, uint64_t now_us)
{
    bool is_troubled = false;
    for (size_t i = 0; i < poll->count; i++) {
        const struct quorum_view *view = &poll->views[i], *first = &poll->views[0];
        is_troubled |= poll->peers[i]->view.is_troubled || view->epoch != first->epoch ||
                       strcmp(view->name, first->name) != 0;
    }
    if (!is_troubled)
        sentinel->troubled_us = 0;
    else if (!sentinel->troubled_us)
        sentinel->troubled_us = now_us;

    bool is_urgent = is_troubled && now_us - sentinel->troubled_us < SENTINEL_TROUBLE_MAX_US;
    bool is_open = sentinel->stance == STANCE_ASKING || sentinel->stance == STANCE_VETOED;
    sentinel->is_unsettled = is_urgent || is_open;
}

/* ---- the nodes ---- */

/* A node is of one shard, though Sentinels may list it under several names: a replica that was moved is
 * listed by its old name until SENTINEL RESET, and an address may come to another node. The first to list it
 * has it, unless another's master is whom it follows, or it is named as another's master. A master is nobody
 * else's. */
static bool sentinel_claim(struct sentinel *sentinel, struct probe *probe, bool is_named, uint64_t now_us)
{
    const struct survey_shard *holder = survey_shard_of(sentinel->survey, probe);
    bool is_free = !probe->listed_us || holder == sentinel->shard;
    bool is_masters = probe == holder->master || probe == holder->followed;
    if (!is_free && (is_masters || !(is_named || sentinel_is_followed_by(sentinel, probe)))) return false;
    if (holder != sentinel->shard) probe->listers = probe->listers_down = 0;
    probe->shard = sentinel->shard_index;
    probe->listed_us = now_us;
    return true;
}

static bool sentinel_is_followed_by(const struct sentinel *sentinel, const struct probe *probe)
{
    const struct probe *followed = sentinel->shard->followed;
    const char *host = probe->master_host;
    uint16_t port = probe->master_port;
    if (!followed || probe->role != NODE_ROLE_REPLICA) return false;
    survey_map(sentinel->survey, &host, &port);
    return probe_follows(probe, followed, host, port);
}

/* Notes which nodes are listed, and which most of their listers call down. */
static void sentinel_list_nodes(struct sentinel *sentinel, uint64_t now_us)
{
    struct survey *survey = sentinel->survey;
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        if (probe->shard == sentinel->shard_index) probe->listers = probe->listers_down = 0;
    }

    for (struct sentinel_peer *peer = sentinel->peers; peer; peer = peer->next) {
        if (!peer_is_heard(peer, now_us)) continue;
        for (size_t i = 0; i < peer->replicas.count; i++) {
            const struct peer_listed *listed = &peer->replicas.items[i];
            const char *host = listed->host;
            uint16_t port = listed->port;
            survey_map(survey, &host, &port);
            struct probe *probe = survey_node(survey, host, port);
            if (!probe || !sentinel_claim(sentinel, probe, false, now_us)) continue;
            probe->listers++;
            probe->listers_down += listed->is_down;
        }
    }
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        if (probe->shard == sentinel->shard_index)
            probe->is_called_down = probe->listers_down * 2 > probe->listers;
    }
}

/* Counted in time during which somebody could have listed it. */
static bool is_outdated(const struct sentinel *sentinel, uint64_t listed_us)
{
    return sentinel->heard_us > listed_us && sentinel->heard_us - listed_us > SENTINEL_FORGET_US;
}

/* A Sentinel elsewhere that announces 127.0.0.1 means its own machine, not ours. */
static void sentinel_warn_loopback(const struct sentinel *sentinel, struct sentinel_peer *peer)
{
    static const char *const loopback[] = {"127.", "::1", "localhost"};
    const char *host = peer->view.host, *own = peer_address(peer);
    uint16_t port = peer->view.port;
    survey_map(sentinel->survey, &host, &port);

    bool announces = false, is_local = own[0] == '/';
    for (size_t i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++) {
        announces |= strncmp(host, loopback[i], strlen(loopback[i])) == 0;
        is_local |= strncmp(own, loopback[i], strlen(loopback[i])) == 0;
    }
    if (announces && !is_local && !peer->is_warned)
        log_warning(
            "%s: sentinel %s at %s announces the master as %s:%u, which is this machine from here; set "
            "upstream.map or its sentinel announce-ip",
            sentinel->setup.label, peer->name, own, host, port);
    peer->is_warned = announces && !is_local;
}
