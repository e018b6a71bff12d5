/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/upstream.h"

#include "proxy/clock.h"
#include "proxy/log.h"
#include "routing/roles.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define UPSTREAM_ASK_GAP_US     10000U
#define UPSTREAM_HURRY_FIRST_S  0.02
#define UPSTREAM_HURRY_LAST_S   0.1
#define UPSTREAM_JUDGEMENTS_MAX 4

static const struct discovery_kind *const kinds[] = {
    [UPSTREAM_AUTO] = &detect_discovery,
    [UPSTREAM_SENTINEL] = &sentinel_discovery,
    [UPSTREAM_STATIC] = &roster_discovery,
};

static void upstream_node_changed(void *owner, struct probe *probe);
static void upstream_learn_commands(void *owner, struct slice reply);
static void upstream_switch_kind(struct upstream *upstream);
static void upstream_start_hurry(struct upstream *upstream, double wait_s);
static void upstream_hurry(struct ev_loop *loop, ev_timer *watcher, int events);
static void upstream_set_hurry(struct upstream *upstream);
static void upstream_judge_nodes(struct upstream *upstream);
static void upstream_judge_node(struct upstream *upstream, struct probe *probe);
static bool is_fit_master(struct probe *probe);
static bool is_fit_replica(struct upstream *upstream, struct probe *probe);
static bool follows(const struct upstream *upstream, const struct probe *probe);
static void node_log(const struct upstream *upstream, struct probe *probe, bool is_fit);
static void upstream_want_commands(struct upstream *upstream);
static void upstream_offer(struct upstream *upstream);
static struct topology *upstream_snapshot(const struct upstream *upstream);
static const char *upstream_version(const struct upstream *upstream);

struct upstream *upstream_create(const struct config_upstream *config, uint32_t index, struct ev_loop *loop,
                                 struct resolver *resolver, upstream_publish *publish, void *owner)
{
    struct upstream *upstream = calloc(1, sizeof(*upstream));
    if (!upstream) return NULL;

    upstream->config = config;
    upstream->index = index;
    upstream->loop = loop;
    upstream->resolver = resolver;
    upstream->publish = publish;
    upstream->owner = owner;
    upstream->hurry_s = UPSTREAM_HURRY_FIRST_S;
    upstream->setup = (struct probe_setup){
        .loop = loop,
        .resolver = resolver,
        .username = config->username ? config->username : "",
        .password = config->password ? config->password : "",
        .connect_timeout_ms = (uint64_t)config->connect_timeout_ms,
        .interval_ms = (uint64_t)config->pool_health_interval_ms,
        .changed = upstream_node_changed,
        .commands = upstream_learn_commands,
        .owner = upstream,
    };
    ev_init(&upstream->hurry, upstream_hurry);
    upstream->hurry.data = upstream;
    upstream_become(upstream, kinds[config->kind]);
    return upstream;
}

void upstream_destroy(struct upstream *upstream)
{
    if (!upstream) return;
    if (upstream->discovery) upstream->kind->stop(upstream->discovery);
    ev_timer_stop(upstream->loop, &upstream->hurry);
    while (upstream->probes) {
        struct probe *next = upstream->probes->next;
        probe_destroy(upstream->probes);
        upstream->probes = next;
    }
    topology_release(upstream->last);
    command_set_release(upstream->commands);
    free(upstream->command_bytes);
    free(upstream);
}

void upstream_touch(struct upstream *upstream)
{
    upstream->is_touched = true;
}

void upstream_run(struct upstream *upstream)
{
    for (int i = 0; upstream->is_touched && i < UPSTREAM_JUDGEMENTS_MAX; i++) {
        upstream->is_touched = false;
        if (upstream->next_kind) upstream_switch_kind(upstream);
        if (!upstream->discovery) return;
        upstream->kind->judge(upstream->discovery, clock_us());
        upstream_judge_nodes(upstream);
        upstream_want_commands(upstream);
        upstream_offer(upstream);
    }
    upstream_set_hurry(upstream);
}

void upstream_report_master(struct upstream *upstream)
{
    upstream->reported_us = clock_us();
    upstream->hurry_s = UPSTREAM_HURRY_FIRST_S;
    upstream_ask(upstream);
    upstream_touch(upstream);
}

void upstream_report_node(struct upstream *upstream, const char *node_name)
{
    for (struct probe *probe = upstream->probes; probe; probe = probe->next) {
        if (strcmp(probe->name, node_name) == 0) probe_hurry(probe, UPSTREAM_ASK_GAP_US);
    }
}

void upstream_ask(struct upstream *upstream)
{
    uint64_t gap_us = clock_us() - upstream->asked_us;
    if (!upstream->discovery) return;
    if (gap_us < UPSTREAM_ASK_GAP_US) {
        upstream_start_hurry(upstream, (double)(UPSTREAM_ASK_GAP_US - gap_us) / 1e6);
        return;
    }
    upstream->asked_us += gap_us;
    upstream->kind->ask(upstream->discovery);
}

void upstream_become(struct upstream *upstream, const struct discovery_kind *kind)
{
    upstream->next_kind = kind;
    upstream_touch(upstream);
}

struct probe *upstream_node(struct upstream *upstream, const char *host, uint16_t port)
{
    struct probe **end = &upstream->probes;
    for (; *end; end = &(*end)->next) {
        if (probe_is_at(*end, host, port)) return *end;
    }
    *end = probe_create(&upstream->setup, host, port); /* at the end: the order of nodes does not change */
    if (*end) upstream_touch(upstream);
    return *end;
}

void upstream_drop(struct upstream *upstream, struct probe *probe)
{
    assert(probe != upstream->verdict.master && probe != upstream->verdict.followed);
    for (struct probe **at = &upstream->probes; *at; at = &(*at)->next) {
        if (*at != probe) continue;
        *at = probe->next;
        log_info("%s: node %s: forgotten, nobody lists it any more", upstream_label(upstream), probe->name);
        probe_destroy(probe);
        upstream_touch(upstream);
        return;
    }
}

void upstream_map(const struct upstream *upstream, const char **host, uint16_t *port)
{
    const struct config_mapping_list *map = &upstream->config->map;
    for (size_t i = 0; i < map->count; i++) {
        const struct config_mapping *mapping = &map->items[i];
        if (mapping->from.port != *port || strcasecmp(mapping->from.host, *host)) continue;
        *host = mapping->to.host;
        *port = mapping->to.port;
        return;
    }
}

const char *upstream_label(const struct upstream *upstream)
{
    return upstream->config->name && upstream->config->name[0] ? upstream->config->name : "upstream";
}

/* ---- what comes from outside ---- */

static void upstream_node_changed(void *owner, struct probe *probe)
{
    (void)probe;
    upstream_touch(owner);
}

static void upstream_learn_commands(void *owner, struct slice reply)
{
    struct upstream *upstream = owner;
    if (upstream->command_size == reply.size && memcmp(upstream->command_bytes, reply.bytes, reply.size) == 0) return;

    struct command_set *set = command_set_create(reply);
    char *bytes = malloc(reply.size);
    if (!set || !bytes) {
        log_warning("%s: the master's answer to COMMAND is of no use; commands it added are treated as unknown",
                    upstream_label(upstream));
        command_set_release(set);
        free(bytes);
        return;
    }
    memcpy(bytes, reply.bytes, reply.size);
    free(upstream->command_bytes);
    command_set_release(upstream->commands);
    upstream->command_bytes = bytes;
    upstream->command_size = reply.size;
    upstream->commands = set;
    upstream_touch(upstream);
}

/* ---- asking in a hurry ---- */

static void upstream_hurry(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct upstream *upstream = watcher->data;
    upstream_ask(upstream);
    upstream_touch(upstream);
}

static void upstream_set_hurry(struct upstream *upstream)
{
    if (!upstream->reported_us && !upstream->verdict.is_unsettled) {
        upstream->hurry_s = UPSTREAM_HURRY_FIRST_S;
    } else if (!ev_is_active(&upstream->hurry)) {
        upstream_start_hurry(upstream, upstream->hurry_s);
        upstream->hurry_s *= 1.5;
        if (upstream->hurry_s > UPSTREAM_HURRY_LAST_S) upstream->hurry_s = UPSTREAM_HURRY_LAST_S;
    }
}

static void upstream_start_hurry(struct upstream *upstream, double wait_s)
{
    ev_timer_stop(upstream->loop, &upstream->hurry);
    ev_now_update(upstream->loop);
    ev_timer_set(&upstream->hurry, wait_s, 0.);
    ev_timer_start(upstream->loop, &upstream->hurry);
}

static void upstream_switch_kind(struct upstream *upstream)
{
    if (upstream->discovery) upstream->kind->stop(upstream->discovery);
    upstream->verdict = (struct upstream_verdict){.master = NULL};
    upstream->kind = upstream->next_kind;
    upstream->discovery = upstream->kind->start(upstream);
    upstream->next_kind = NULL;
    if (!upstream->discovery) log_error("%s: out of memory, no discovery", upstream_label(upstream));
}

/* ---- which nodes are fit ---- */

static void upstream_judge_nodes(struct upstream *upstream)
{
    for (struct probe *probe = upstream->probes; probe; probe = probe->next)
        upstream_judge_node(upstream, probe);
}

static void upstream_judge_node(struct upstream *upstream, struct probe *probe)
{
    bool is_master = probe == upstream->verdict.master;
    bool is_fit = is_master ? is_fit_master(probe) : is_fit_replica(upstream, probe);
    node_log(upstream, probe, is_fit);
    probe->was_fit = is_fit;
}

static bool is_fit_master(struct probe *probe)
{
    probe->was_linked = false;
    snprintf(probe->reason, sizeof(probe->reason), "%s", probe->answers ? "" : probe->fault);
    return probe->answers;
}

static bool is_fit_replica(struct upstream *upstream, struct probe *probe)
{
    struct probe *master = upstream->verdict.master;
    struct roles_replica replica = {
        .is_heard = probe->answers && probe->role != NODE_ROLE_UNKNOWN,
        .is_called_down = probe->is_called_down,
        .says_replica = probe->role == NODE_ROLE_REPLICA,
        .follows_master = follows(upstream, probe),
        .is_linked = probe->is_linked,
        .was_linked = probe->was_linked,
        .master_works = master && master->answers && master->pong_asked_us >= probe->role_asked_us,
        .no_answer = !probe->answers ? probe->fault : probe->role_asked_us ? probe->role_fault : "is being asked",
    };
    const char *fault = roles_replica_fault(&replica);

    if (replica.is_heard) probe->was_linked = !fault;
    bool is_doubtful = !fault && !probe->is_linked; /* serves only while the master is gone: make sure that it is */
    if (is_doubtful && master && master->answers) probe_hurry(master, UPSTREAM_ASK_GAP_US);
    snprintf(probe->reason, sizeof(probe->reason), "%s", fault ? fault : "");
    return !fault;
}

static bool follows(const struct upstream *upstream, const struct probe *probe)
{
    const struct probe *followed = upstream->verdict.followed;
    if (!followed || probe->role != NODE_ROLE_REPLICA) return false;
    if (followed->port == 0) /* its replicas name it by a TCP address that we do not know; its history tells */
        return probe->replid[0] && strcmp(probe->replid, followed->replid) == 0;
    const char *host = probe->master_host;
    uint16_t port = probe->master_port;
    upstream_map(upstream, &host, &port);
    return probe_follows(probe, followed, host, port);
}

/* One line per change of fitness; which of several reasons keeps a node unfit goes to debug. */
static void node_log(const struct upstream *upstream, struct probe *probe, bool is_fit)
{
    const char *label = upstream_label(upstream);
    bool is_new = !probe->is_logged;
    bool is_waiting = !probe->answers && probe->tried_us == 0;
    if (!is_new && is_fit == probe->was_fit) return;
    if (is_new && !is_fit && (is_waiting || link_state(probe->link) != LINK_CLOSED)) return;

    const char *role = probe == upstream->verdict.master ? "master" : "replica";
    if (is_fit) log_info("%s: node %s: fit as %s", label, probe->name, role);
    else log_warning("%s: node %s: not fit: %s", label, probe->name, probe->reason);
    probe->is_logged = true;
}

/* ---- snapshots ---- */

static void upstream_want_commands(struct upstream *upstream)
{
    struct probe *master = upstream->verdict.master;
    for (struct probe *probe = upstream->probes; probe; probe = probe->next) {
        bool is_wanted = probe == master;
        if (is_wanted && !probe->wants_commands) {
            probe->wants_commands = true;
            probe->commands_asked_us = 0;
            probe_hurry(probe, 0);
        }
        probe->wants_commands = is_wanted;
    }
}

/* Publishes what is new, and what a report waits for. */
static void upstream_offer(struct upstream *upstream)
{
    if (!upstream->kind->name[0]) return;
    struct topology *topology = upstream_snapshot(upstream);
    if (!topology) return;

    bool answers_report = upstream->reported_us && upstream->verdict.master &&
                          upstream->verdict.confirmed_us >= upstream->reported_us;
    if (upstream->last && !answers_report && topology_is_same(topology, upstream->last)) {
        topology_release(topology);
        return;
    }
    if (answers_report) upstream->reported_us = 0;
    upstream->version++;
    topology_release(upstream->last);
    upstream->last = topology;
    upstream->publish(upstream->owner, upstream->index, topology_take(topology));
}

static struct topology *upstream_snapshot(const struct upstream *upstream)
{
    uint32_t count = 0;
    for (struct probe *probe = upstream->probes; probe; probe = probe->next)
        count++;
    struct topology_node *nodes = calloc(count ? count : 1, sizeof(*nodes));
    if (!nodes) return NULL;

    struct topology_draft draft = {.version = upstream->version + 1,
                                   .epoch = upstream->verdict.epoch,
                                   .confirmed_us = upstream->verdict.confirmed_us,
                                   .kind = upstream->kind->name,
                                   .server_version = upstream_version(upstream),
                                   .nodes = nodes,
                                   .master = TOPOLOGY_NO_NODE,
                                   .commands = upstream->commands};
    for (struct probe *probe = upstream->probes; probe; probe = probe->next) {
        bool is_master = probe == upstream->verdict.master;
        if (is_master) draft.master = draft.node_count;
        nodes[draft.node_count++] = (struct topology_node){
            .name = probe->name,
            .address = probe_address(probe),
            .port = probe->port,
            .role = is_master                          ? NODE_ROLE_MASTER
                    : probe->role == NODE_ROLE_REPLICA ? NODE_ROLE_REPLICA
                                                       : NODE_ROLE_UNKNOWN,
            .is_fit = probe->was_fit,
            .reason = probe->reason,
            .gauge = probe->gauge,
        };
    }
    struct topology *topology = topology_create(&draft);
    free(nodes);
    return topology;
}

static const char *upstream_version(const struct upstream *upstream)
{
    const struct probe *master = upstream->verdict.master;
    if (master && master->version[0]) return master->version;
    for (const struct probe *probe = upstream->probes; probe; probe = probe->next) {
        if (probe->version[0]) return probe->version;
    }
    return "";
}
