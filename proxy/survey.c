/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/survey.h"

#include "proxy/clock.h"
#include "proxy/log.h"
#include "routing/roles.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define SURVEY_ASK_GAP_US     10000U
#define SURVEY_HURRY_FIRST_S  0.02
#define SURVEY_HURRY_LAST_S   0.1
#define SURVEY_JUDGEMENTS_MAX 4

static const struct discovery_kind *const kinds[] = {
    [UPSTREAM_AUTO] = &detect_discovery,
    [UPSTREAM_SENTINEL] = &sentinel_discovery,
    [UPSTREAM_STATIC] = &roster_discovery,
    [UPSTREAM_CLUSTER] = &cluster_discovery,
};

static void survey_node_changed(void *owner, struct probe *probe);
static void survey_node_replicated(void *owner, struct probe *probe);
static void survey_check_mode(struct survey *survey, const struct probe *probe);
static void survey_learn_commands(void *owner, struct slice reply);
static bool is_in_verdict(const struct survey *survey, const struct probe *probe);
static bool is_reported(const struct survey *survey);
static bool answer_reports(struct survey *survey);
static void survey_reset_verdict(struct survey *survey);
static void survey_switch_kind(struct survey *survey);
static void survey_start_hurry(struct survey *survey, double wait_s);
static void survey_hurry(struct ev_loop *loop, ev_timer *watcher, int events);
static void survey_set_hurry(struct survey *survey);
static void survey_judge_nodes(struct survey *survey);
static void survey_judge_node(struct survey *survey, struct probe *probe);
static bool is_fit_master(struct probe *probe);
static bool is_fit_replica(struct survey *survey, struct probe *probe);
static void node_log(const struct survey *survey, struct probe *probe, bool is_fit);
static bool is_being_asked(const struct survey *survey, const struct probe *probe);
static void survey_find_rivals(struct survey *survey, uint64_t now_us);
static bool is_rival(const struct survey *survey, const struct probe *probe);
static void shard_log_rivals(const struct survey *survey, struct survey_shard *shard, const struct probe *rival);
static const struct probe *rival_of(const struct survey *survey, const struct survey_shard *shard);
static void survey_want_commands(struct survey *survey);
static void survey_offer(struct survey *survey);
static struct topology *survey_snapshot(const struct survey *survey);
static void survey_draft_shards(const struct survey *survey, struct topology_draft *draft,
                                struct topology_draft_shard *shards);
static void survey_draft_nodes(const struct survey *survey, struct topology_draft *draft,
                               struct topology_node *nodes, struct topology_draft_shard *shards);
static struct probe *survey_first_master(const struct survey *survey);
static const char *survey_version(const struct survey *survey);

struct survey *survey_create(const struct config_upstream *config, uint32_t index, struct ev_loop *loop,
                             struct resolver *resolver, survey_publish *publish, void *owner)
{
    struct survey *survey = calloc(1, sizeof(*survey));
    if (!survey) return NULL;

    survey->config = config;
    survey->index = index;
    survey->loop = loop;
    survey->resolver = resolver;
    survey->publish = publish;
    survey->owner = owner;
    survey->hurry_s = SURVEY_HURRY_FIRST_S;
    survey->setup = (struct probe_setup){
        .loop = loop,
        .resolver = resolver,
        .username = config->username ? config->username : "",
        .password = config->password ? config->password : "",
        .connect_timeout_ms = (uint64_t)config->connect_timeout_ms,
        .interval_ms = (uint64_t)config->pool_health_interval_ms,
        .silence_ms = (uint64_t)config->pool_health_timeout_ms,
        .changed = survey_node_changed,
        .replicated = survey_node_replicated,
        .commands = survey_learn_commands,
        .owner = survey,
    };
    survey_reset_verdict(survey);
    ev_init(&survey->hurry, survey_hurry);
    survey->hurry.data = survey;
    if (!freshening_init(&survey->freshening, survey)) {
        survey_destroy(survey);
        return NULL;
    }
    survey_become(survey, kinds[config->kind]);
    return survey;
}

void survey_destroy(struct survey *survey)
{
    if (!survey) return;
    switchover_destroy(survey->switchover);
    if (survey->discovery) survey->kind->stop(survey->discovery);
    survey->discovery = NULL; /* questions of its that are still open end with the probes */
    ev_timer_stop(survey->loop, &survey->hurry);
    while (survey->probes) {
        struct probe *next = survey->probes->next;
        probe_destroy(survey->probes);
        survey->probes = next;
    }
    if (survey->freshening.survey) freshening_finish(&survey->freshening);
    topology_release(survey->last);
    command_set_release(survey->commands);
    free(survey->command_bytes);
    free(survey);
}

void survey_touch(struct survey *survey)
{
    survey->is_touched = true;
}

void survey_run(struct survey *survey)
{
    freshening_run(&survey->freshening);
    for (int i = 0; survey->is_touched && i < SURVEY_JUDGEMENTS_MAX; i++) {
        survey->is_touched = false;
        if (survey->next_kind) survey_switch_kind(survey);
        if (!survey->discovery) return;
        survey->kind->judge(survey->discovery, clock_us());
        survey_judge_nodes(survey);
        survey_find_rivals(survey, clock_us());
        survey_want_commands(survey);
        survey_offer(survey);
    }
    survey_set_hurry(survey);
}

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/). Should two names have one mark, two masters are asked. */
uint64_t survey_mark(const char *node_name)
{
    uint64_t mark = UINT64_C(14695981039346656037);
    if (!*node_name) return SURVEY_MARK_ALL;
    for (const char *at = node_name; *at; at++)
        mark = (mark ^ (unsigned char)*at) * UINT64_C(1099511628211);
    return mark ? mark : SURVEY_MARK_ALL;
}

void survey_report_master(struct survey *survey, uint64_t mark)
{
    const struct survey_verdict *verdict = &survey->verdict;
    uint64_t now_us = clock_us();
    bool is_any = false;
    for (uint32_t i = 0; i < verdict->shard_count; i++) {
        const struct probe *followed = verdict->shards[i].followed;
        if (!followed || survey_mark(followed->name) != mark) continue;
        verdict->shards[i].reported_us = now_us;
        probe_doubt_address(verdict->shards[i].followed);
        is_any = true;
    }
    for (uint32_t i = 0; i < verdict->shard_count && !is_any; i++)
        verdict->shards[i].reported_us = now_us;
    survey->hurry_s = SURVEY_HURRY_FIRST_S;
    survey_ask(survey);
    survey_touch(survey);
}

void survey_report_node(struct survey *survey, const char *node_name)
{
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        if (strcmp(probe->name, node_name) != 0) continue;
        probe_doubt_address(probe);
        probe_hurry(probe, SURVEY_ASK_GAP_US);
    }
}

void survey_report_map(struct survey *survey, const char *moved_to)
{
    if (survey->discovery && survey->kind->map_is_wrong)
        survey->kind->map_is_wrong(survey->discovery, moved_to);
}

void survey_ask(struct survey *survey)
{
    uint64_t gap_us = clock_us() - survey->asked_us;
    if (!survey->discovery) return;
    if (gap_us < SURVEY_ASK_GAP_US) {
        survey_start_hurry(survey, (double)(SURVEY_ASK_GAP_US - gap_us) / 1e6);
        return;
    }
    survey->asked_us += gap_us;
    survey->kind->ask(survey->discovery);
}

void survey_become(struct survey *survey, const struct discovery_kind *kind)
{
    survey->next_kind = kind;
    survey_touch(survey);
}

struct probe *survey_known_node(struct survey *survey, const char *host, uint16_t port)
{
    struct probe *probe = survey->probes;
    while (probe && !probe_is_at(probe, host, port))
        probe = probe->next;
    return probe;
}

struct probe *survey_node(struct survey *survey, const char *host, uint16_t port)
{
    struct probe *known = survey_known_node(survey, host, port);
    struct probe **end = &survey->probes;
    if (known) return known;
    while (*end)
        end = &(*end)->next;
    *end = probe_create(&survey->setup, host, port); /* at the end: the order of nodes does not change */
    if (*end) (*end)->wants_replication = freshening_is_wanted(&survey->freshening);
    if (*end) survey_touch(survey);
    return *end;
}

void survey_drop(struct survey *survey, struct probe *probe)
{
    assert(!is_in_verdict(survey, probe));
    for (struct probe **at = &survey->probes; *at; at = &(*at)->next) {
        if (*at != probe) continue;
        *at = probe->next;
        log_info("%s: node %s: forgotten, nobody lists it any more", survey_label(survey), probe->name);
        probe_destroy(probe);
        survey_touch(survey);
        return;
    }
}

struct survey_shard *survey_shard_of(struct survey *survey, const struct probe *probe)
{
    return probe->shard < survey->verdict.shard_count ? &survey->verdict.shards[probe->shard] : NULL;
}

bool survey_is_master(const struct survey *survey, const struct probe *probe)
{
    return probe->shard < survey->verdict.shard_count && survey->verdict.shards[probe->shard].master == probe;
}

static bool is_in_verdict(const struct survey *survey, const struct probe *probe)
{
    for (uint32_t i = 0; i < survey->verdict.shard_count; i++) {
        const struct survey_shard *shard = &survey->verdict.shards[i];
        if (probe == shard->master || probe == shard->followed) return true;
    }
    return false;
}

void survey_map(const struct survey *survey, const char **host, uint16_t *port)
{
    config_map_address(survey->config, host, port);
}

const char *survey_label(const struct survey *survey)
{
    return survey->config->name && survey->config->name[0] ? survey->config->name : "upstream";
}

/* ---- what comes from outside ---- */

static void survey_node_changed(void *owner, struct probe *probe)
{
    survey_check_mode(owner, probe);
    survey_touch(owner);
}

static void survey_node_replicated(void *owner, struct probe *probe)
{
    struct survey *survey = owner;
    freshening_heard(&survey->freshening, probe);
}

/* What has its slots only, or no keys, is of no use as one of a few nodes that have all. */
static void survey_check_mode(struct survey *survey, const struct probe *probe)
{
    bool is_cluster = strcmp(probe->mode, "cluster") == 0, is_sentinel = strcmp(probe->mode, "sentinel") == 0;
    bool is_open = survey->kind == &cluster_discovery || survey->kind == &detect_discovery;
    if (is_open || survey->is_mode_noted || (!is_cluster && !is_sentinel)) return;
    survey->is_mode_noted = true;
    log_error("%s: node %s is %s; %s: set upstream.kind = %s", survey_label(survey), probe->name,
              is_cluster ? "one of a Redis Cluster" : "a Sentinel",
              is_cluster ? "it refuses keys of other nodes, and clients see its redirects" : "it has no keys",
              probe->mode);
}

static void survey_learn_commands(void *owner, struct slice reply)
{
    struct survey *survey = owner;
    if (survey->command_size == reply.size && memcmp(survey->command_bytes, reply.bytes, reply.size) == 0)
        return;

    struct command_set *set = command_set_create(reply);
    char *bytes = malloc(reply.size);
    if (!set || !bytes) {
        log_warning(
            "%s: the master's answer to COMMAND is of no use; commands it added are treated as unknown",
            survey_label(survey));
        command_set_release(set);
        free(bytes);
        return;
    }
    memcpy(bytes, reply.bytes, reply.size);
    free(survey->command_bytes);
    command_set_release(survey->commands);
    survey->command_bytes = bytes;
    survey->command_size = reply.size;
    survey->commands = set;
    survey_touch(survey);
}

/* ---- asking in a hurry ---- */

static void survey_hurry(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct survey *survey = watcher->data;
    survey_ask(survey);
    survey_touch(survey);
}

static void survey_set_hurry(struct survey *survey)
{
    double gap_s = SURVEY_ASK_GAP_US / 1e6;
    if (survey->verdict.is_urgent) {
        bool is_due = ev_is_active(&survey->hurry) && ev_timer_remaining(survey->loop, &survey->hurry) <= gap_s;
        if (!is_due) survey_start_hurry(survey, gap_s);
    } else if (!is_reported(survey) && !survey->verdict.is_unsettled) {
        survey->hurry_s = SURVEY_HURRY_FIRST_S;
    } else if (!ev_is_active(&survey->hurry)) {
        survey_start_hurry(survey, survey->hurry_s);
        survey->hurry_s *= 1.5;
        if (survey->hurry_s > SURVEY_HURRY_LAST_S) survey->hurry_s = SURVEY_HURRY_LAST_S;
    }
}

static bool is_reported(const struct survey *survey)
{
    for (uint32_t i = 0; i < survey->verdict.shard_count; i++) {
        if (survey->verdict.shards[i].reported_us) return true;
    }
    return false;
}

static void survey_start_hurry(struct survey *survey, double wait_s)
{
    ev_timer_stop(survey->loop, &survey->hurry);
    ev_now_update(survey->loop);
    ev_timer_set(&survey->hurry, wait_s, 0.);
    ev_timer_start(survey->loop, &survey->hurry);
}

static void survey_switch_kind(struct survey *survey)
{
    if (survey->discovery) survey->kind->stop(survey->discovery);
    survey_reset_verdict(survey);
    survey->kind = survey->next_kind;
    survey->discovery = survey->kind->start(survey);
    survey->next_kind = NULL;
    if (!survey->discovery) log_error("%s: out of memory, no discovery", survey_label(survey));
}

static void survey_reset_verdict(struct survey *survey)
{
    survey->only = (struct survey_shard){.master = NULL};
    survey->verdict = (struct survey_verdict){.shards = &survey->only, .shard_count = 1};
}

/* ---- which nodes are fit ---- */

static void survey_judge_nodes(struct survey *survey)
{
    for (struct probe *probe = survey->probes; probe; probe = probe->next)
        survey_judge_node(survey, probe);
}

static void survey_judge_node(struct survey *survey, struct probe *probe)
{
    bool is_master = survey_is_master(survey, probe);
    bool is_fit = is_master ? is_fit_master(probe) : is_fit_replica(survey, probe);
    node_log(survey, probe, is_fit);
    probe->was_fit = is_fit;
    probe->is_watched = !is_fit && probe->answers;
}

static bool is_fit_master(struct probe *probe)
{
    probe->was_linked = false;
    snprintf(probe->reason, sizeof(probe->reason), "%s", probe->answers ? "" : probe->fault);
    return probe->answers;
}

static bool is_fit_replica(struct survey *survey, struct probe *probe)
{
    const struct survey_shard *shard = survey_shard_of(survey, probe);
    struct probe *master = shard ? shard->master : NULL;
    struct roles_replica replica = {
        .is_heard = probe->answers && !probe->is_busy && probe->role != NODE_ROLE_UNKNOWN,
        .is_called_down = probe->is_called_down,
        .is_in_cluster = survey->verdict.is_cluster,
        .says_replica = probe->role == NODE_ROLE_REPLICA,
        .follows_master = shard && survey_follows(survey, shard->followed, probe),
        .is_linked = probe->is_linked,
        .was_linked = probe->was_linked,
        .master_works = master && master->answers && master->pong_asked_us >= probe->role_asked_us,
        .no_answer = !probe->answers || probe->is_busy ? probe->fault
                     : probe->role_asked_us            ? probe->role_fault
                                                       : "is being asked",
    };
    const char *fault = roles_replica_fault(&replica);

    if (replica.is_heard) probe->was_linked = !fault;
    bool is_doubtful =
        !fault && !probe->is_linked; /* serves only while the master is gone: make sure that it is */
    bool was_asked_since = master && master->tried_us >= probe->role_asked_us;
    if (is_doubtful && master && master->answers && !was_asked_since) probe_hurry(master, 0);
    snprintf(probe->reason, sizeof(probe->reason), "%s", fault ? fault : "");
    return !fault;
}

bool survey_follows(const struct survey *survey, const struct probe *followed, const struct probe *probe)
{
    if (!followed || probe->role != NODE_ROLE_REPLICA) return false;
    bool has_its_history = probe->replid[0] && strcmp(probe->replid, followed->replid) == 0;
    if (followed->port == 0) return has_its_history; /* named by a TCP address that we do not know */
    const char *host = probe->master_host;
    uint16_t port = probe->master_port;
    survey_map(survey, &host, &port);
    return probe_follows(probe, followed, host, port) || (survey->verdict.is_cluster && has_its_history);
}

/* One line per change of fitness; which of several reasons keeps a node unfit goes to debug. */
static void node_log(const struct survey *survey, struct probe *probe, bool is_fit)
{
    const char *label = survey_label(survey);
    bool is_new = !probe->is_logged;
    if (!is_new && is_fit == probe->was_fit) return;
    if (is_new && !is_fit && is_being_asked(survey, probe)) return;

    const char *role = survey_is_master(survey, probe) ? "master" : "replica";
    if (is_fit)
        log_info("%s: node %s: fit as %s", label, probe->name, role);
    else
        log_warning("%s: node %s: not fit: %s", label, probe->name, probe->reason);
    probe->is_logged = true;
}

/* It is too early to say that the node is not fit: answers are on their way. */
static bool is_being_asked(const struct survey *survey, const struct probe *probe)
{
    if (!probe->answers) return !probe->has_refused && (!probe->tried_us || link_state(probe->link) != LINK_CLOSED);
    if (probe->role == NODE_ROLE_UNKNOWN) return !probe->role_asked_us;
    return probe->shard >= survey->verdict.shard_count || !survey->verdict.shards[probe->shard].master;
}

/* ---- two masters ---- */

/* An old master came back, or nobody has told it yet. Writes go where discovery says, as always: this is for people. */
static void survey_find_rivals(struct survey *survey, uint64_t now_us)
{
    const struct survey_verdict *verdict = &survey->verdict;
    bool is_any = false;
    for (uint32_t i = 0; i < verdict->shard_count; i++) {
        struct survey_shard *shard = &verdict->shards[i];
        if (shard->master && shard->master != shard->reigning) {
            shard->reigning = shard->master;
            shard->reign_us = now_us;
        }
        is_any |= shard->is_disputed;
    }
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        probe->is_rival = is_rival(survey, probe);
        is_any |= probe->is_rival;
    }
    for (uint32_t i = 0; i < verdict->shard_count && is_any; i++)
        shard_log_rivals(survey, &verdict->shards[i], rival_of(survey, &verdict->shards[i]));
}

/* What it said before the present master became that is no news. While there is none, nothing new is found, but for nodes
 * listed by hand, of which several can be why. */
static bool is_rival(const struct survey *survey, const struct probe *probe)
{
    if (!probe->answers || probe->role != NODE_ROLE_MASTER || probe->shard >= survey->verdict.shard_count) return false;
    const struct survey_shard *shard = &survey->verdict.shards[probe->shard];
    if (!shard->master) return probe->is_rival || survey->kind == &roster_discovery;
    return probe != shard->master && shard->master->answers && probe->role_asked_us >= shard->reign_us;
}

static const struct probe *rival_of(const struct survey *survey, const struct survey_shard *shard)
{
    const struct probe *probe = survey->probes;
    while (probe && !(probe->is_rival && &survey->verdict.shards[probe->shard] == shard))
        probe = probe->next;
    return probe;
}

/* One line when it begins, and one when it ends. A set that is listed by hand has its own, which say why. */
static void shard_log_rivals(const struct survey *survey, struct survey_shard *shard, const struct probe *rival)
{
    bool was_disputed = shard->is_disputed;
    shard->is_disputed = rival != NULL;
    if (was_disputed == shard->is_disputed || survey->kind == &roster_discovery) return;
    if (rival && shard->master)
        log_warning("%s: two masters: %s says that it is one beside %s; writes go to %s alone", survey_label(survey),
                    rival->name, shard->master->name, shard->master->name);
    else if (!rival)
        log_info("%s: one master again: %s", survey_label(survey), shard->master ? shard->master->name : "none yet");
}

/* ---- snapshots ---- */

/* Of one master: the first there is. */
static void survey_want_commands(struct survey *survey)
{
    const struct probe *master = survey_first_master(survey);
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        bool is_wanted = probe == master;
        if (is_wanted && !probe->wants_commands) {
            probe->wants_commands = true;
            probe->commands_asked_us = 0;
            probe_hurry(probe, 0);
        }
        probe->wants_commands = is_wanted;
    }
}

static struct probe *survey_first_master(const struct survey *survey)
{
    for (uint32_t i = 0; i < survey->verdict.shard_count; i++) {
        if (survey->verdict.shards[i].master) return survey->verdict.shards[i].master;
    }
    return NULL;
}

/* Publishes what is new, and what a report waits for. */
static void survey_offer(struct survey *survey)
{
    bool is_blank = survey->verdict.is_cluster && !survey->verdict.slots; /* nobody has told of its slots yet */
    if (!survey->kind->name[0] || is_blank) return;
    struct topology *topology = survey_snapshot(survey);
    if (!topology) return;

    bool answers_report = answer_reports(survey);
    if (survey->last && !answers_report && topology_is_same(topology, survey->last)) {
        topology_release(topology);
        return;
    }
    survey->version++;
    topology_release(survey->last);
    survey->last = topology;
    survey->publish(survey->owner, survey->index, topology_take(topology));
}

/* True if one of the masters that were doubted has been confirmed since. */
static bool answer_reports(struct survey *survey)
{
    bool is_any = false;
    for (uint32_t i = 0; i < survey->verdict.shard_count; i++) {
        struct survey_shard *shard = &survey->verdict.shards[i];
        if (!shard->reported_us || !shard->master || shard->confirmed_us < shard->reported_us) continue;
        shard->reported_us = 0;
        is_any = true;
    }
    return is_any;
}

static struct topology *survey_snapshot(const struct survey *survey)
{
    const struct survey_verdict *verdict = &survey->verdict;
    uint32_t count = 0;
    for (struct probe *probe = survey->probes; probe; probe = probe->next)
        count++;
    struct topology_node *nodes = calloc(count ? count : 1, sizeof(*nodes));
    struct topology_draft_shard *shards = calloc(verdict->shard_count, sizeof(*shards));
    struct topology *topology = NULL;
    if (nodes && shards) {
        struct topology_draft draft = {.version = survey->version + 1,
                                       .kind = survey->kind->name,
                                       .server_version = survey_version(survey),
                                       .nodes = nodes,
                                       .shards = shards,
                                       .shard_count = verdict->shard_count,
                                       .slots = verdict->slots,
                                       .is_cluster = verdict->is_cluster,
                                       .distribution = verdict->distribution,
                                       .commands = survey->commands};
        survey_draft_shards(survey, &draft, shards);
        survey_draft_nodes(survey, &draft, nodes, shards);
        topology = topology_create(&draft);
    }
    free(nodes);
    free(shards);
    return topology;
}

static void survey_draft_shards(const struct survey *survey, struct topology_draft *draft,
                                struct topology_draft_shard *shards)
{
    for (uint32_t i = 0; i < survey->verdict.shard_count; i++) {
        const struct survey_shard *shard = &survey->verdict.shards[i];
        shards[i] = (struct topology_draft_shard){
            .master = TOPOLOGY_NO_NODE,
            .confirmed_us = shard->confirmed_us,
            .epoch = shard->epoch,
            .is_yielding = shard->is_yielding || switchover_holds(survey->switchover, shard->master)};
        if (shard->epoch > draft->epoch) draft->epoch = shard->epoch;
    }
}

static void survey_draft_nodes(const struct survey *survey, struct topology_draft *draft,
                               struct topology_node *nodes, struct topology_draft_shard *shards)
{
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        bool is_master = survey_is_master(survey, probe);
        if (is_master) shards[probe->shard].master = draft->node_count;
        nodes[draft->node_count++] = (struct topology_node){
            .name = probe->name,
            .address = probe_address(probe),
            .port = probe->port,
            .role = is_master                          ? NODE_ROLE_MASTER
                    : probe->role == NODE_ROLE_REPLICA ? NODE_ROLE_REPLICA
                                                       : NODE_ROLE_UNKNOWN,
            .shard = probe->shard < survey->verdict.shard_count ? probe->shard : TOPOLOGY_NO_SHARD,
            .is_fit = probe->was_fit,
            .is_new = !probe->is_logged && is_being_asked(survey, probe),
            .is_silent = !probe->answers,
            .is_rival = probe->is_rival,
            .says_master = !is_master && probe->answers && probe->role == NODE_ROLE_MASTER,
            .reason = probe->reason,
            .gauge = probe->gauge,
        };
    }
}

static const char *survey_version(const struct survey *survey)
{
    const struct probe *master = survey_first_master(survey);
    if (master && master->version[0]) return master->version;
    for (const struct probe *probe = survey->probes; probe; probe = probe->next) {
        if (probe->version[0]) return probe->version;
    }
    return "";
}
