/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/upstream.h"

#include "proxy/again.h"
#include "proxy/client.h"
#include "proxy/clock.h"
#include "proxy/ears.h"
#include "proxy/freshening.h"
#include "proxy/health.h"
#include "proxy/log.h"
#include "proxy/outliers.h"
#include "proxy/redirect.h"
#include "proxy/scatter.h"
#include "proxy/transaction.h"
#include "proxy/worker.h"

#include <assert.h>
#include <stdlib.h>

enum {
    UNSETTLED_BY_MAP_MS = 1000, /* by then all nodes know what most of them say */
    ADOPTED_BY_US = 2000000,    /* by then all workers and nodes know of a new map */
    IN_VAIN_MS = 1000,          /* so long after one was held in vain those sent in one go with it are not held */
    DRAIN_MS = 500,             /* in which an old master hears that it is none */
};

static struct backend *backend_for(struct upstream *upstream, const struct topology_node *node, uint32_t place);
static void follow_places(struct upstream *upstream, const struct topology *topology, struct backend *const *by_node);
static void follow_shards(struct upstream *upstream, const struct topology *topology, struct backend *const *by_node,
                          uint16_t *after);
static bool bind_backends(struct upstream *upstream, struct topology *topology);
static uint16_t first_shard_of(const struct topology *topology);
static void cut_changed_roles(struct upstream *upstream, struct request_queue *waiting);
static void drop_retired(struct upstream *upstream, struct request_queue *waiting);
static void close_hearers_of_one(struct upstream *upstream);
static void release(struct upstream *upstream, struct request_queue *waiting);
static void tell_end_of_holding(struct upstream *upstream);
static void note_write(const struct upstream *upstream, const struct connection *connection,
                       const struct request *request);
static void note_reign(struct upstream *upstream, struct backend *backend);
static bool has_deposed(const struct upstream *upstream);
static bool has_heir(const struct upstream *upstream, const struct backend *backend);
static bool wrote_elsewhere(const struct upstream *upstream, const struct request *request);
static bool may_be_sharded(const struct config_upstream *config);
static void end_waiting_for_topology(struct upstream *upstream, bool is_known);
static void dispatch_dedicated(struct upstream *upstream, struct request *request);
static bool cannot_wait(const struct upstream *upstream, struct request *request);
static struct backend *backend_for_dedicated(const struct upstream *upstream, struct request *request);
static void drain_or_cut(struct upstream *upstream, struct backend *backend, const struct topology_node *node);
static uint64_t hold_until_ms(const struct client *client);
static bool is_in_vain(const struct client *client);
static void note_in_vain(struct client *client);
static void end_of_wait(struct request *request);
static void skip(struct request *request);
static bool is_barred(const struct upstream *upstream, const struct request *request);
static bool dispatch_redirected(struct upstream *upstream, struct request *request);
static struct connection *route_to(const struct backend *backend, const struct request *request);
static struct backend *redirected_to(const struct upstream *upstream, struct request *request);
static struct connection *route_of(struct upstream *upstream, const struct request *request, uint16_t shard);
static struct backend *backend_for_replicas_client(const struct upstream *upstream, const struct request *request,
                                                   uint16_t shard);
static bool is_for_replicas_only(const struct upstream *upstream, const struct request *request);
static bool knows_replicas(const struct upstream *upstream);
static bool lacks_replica(const struct upstream *upstream, const struct request *request);
static bool is_of_unsettled_place(const struct upstream *upstream, const struct request *request);
static struct backend *named_master(const struct upstream *upstream, uint16_t shard);
static struct connection *connection_for(struct upstream *upstream, struct request *request, uint16_t shard);
static struct connection *lane_of(struct backend *backend, const struct request *request);
static struct backend *choose(struct upstream *upstream, struct request *request, uint16_t shard);
static uint32_t pick_node(struct upstream *upstream, const struct request *request, const struct topology_shard *shard,
                          enum pick_policy policy);
static void ask_for_more(const struct upstream *upstream, struct request *request);
static bool keeps_to_replica(const struct client *client);
static void note_behind(struct upstream *upstream, struct request *request, const struct topology_shard *shard);
static void want_fresher(struct upstream *upstream, const struct topology_shard *shard);
static void count_read(struct upstream *upstream, const struct connection *connection, const struct request *request);
static bool is_behind_others(const struct upstream *upstream, const struct request *request);
static bool has_replica_behind(const struct upstream *upstream, const struct request *request,
                               const struct topology_shard *shard);
static bool lacks_fresh_replica(const struct upstream *upstream, const struct request *request, uint16_t shard);
static void follow_replicas(struct upstream *upstream, const struct topology *topology);
static bool has_same_replicas(const struct topology *a, const struct topology *b);
static bool forbids_the_only_node(const struct upstream *upstream, const struct request *request);
static void hold(struct upstream *upstream, struct request *request);
static void tell_of_holding(struct upstream *upstream, const struct request *request);
static void leave_hold(struct upstream *upstream, const struct request *request);
static bool waits_forever(const struct request *request);
static void release_now(struct ev_loop *loop, ev_timer *timer, int events);
static enum error error_of_wait(const struct request *request);
static void earn(struct upstream *upstream);
static void hear_word(struct letter *letter, void *receiver);
static void tick_held(struct upstream *upstream);
static void leave_out_silent(struct upstream *upstream);
static struct request *spare_piece(const struct backend *backend);
static uint64_t held_until_ms(const struct request *request);
static struct request_queue take_held(struct upstream *upstream, uint64_t deadline_ms);
static struct request *pop_of_client(struct upstream *upstream, struct request_queue *queue);

bool upstream_init(struct upstream *upstream, struct worker *worker, uint32_t index,
                   const struct config_upstream *config)
{
    *upstream = (struct upstream){.worker = worker, .index = index, .config = config, .master_epoch = 1};
    upstream->hold = hold_share((uint64_t)config->failover_hold_requests, (uint64_t)config->failover_hold_bytes,
                                worker->group->count);
    upstream->budget = budget_share((uint32_t)config->retry_budget, worker->group->count);
    struct topology_draft nothing = {.kind = "", .server_version = "", .master = TOPOLOGY_NO_NODE};
    upstream->topology = topology_create(&nothing);
    upstream->freshness = control_freshness(worker->group->control, index);
    upstream->asks_freshness = freshness_is_asked(config);
    ev_timer_init(&upstream->release, release_now, 0., 0.);
    upstream->release.data = upstream;
    return upstream->topology != NULL;
}

void upstream_finish(struct upstream *upstream)
{
    ev_timer_stop(upstream->worker->loop, &upstream->release);
    while (upstream->backends) {
        struct backend *backend = upstream->backends;
        upstream->backends = backend->next;
        backend_destroy(backend, OUTCOME_CUT, NULL);
    }
    topology_release(upstream->topology);
    free(upstream->by_node);
    free(upstream->loads);
    free(upstream->moved);
    free(upstream->unsettled_ms);
}

void upstream_adopt(struct upstream *upstream, struct topology *topology)
{
    bool had_one_shard = upstream->topology->kind[0] && upstream->topology->shard_count == 1;
    if (!bind_backends(upstream, topology)) {
        log_error("out of memory: a new topology is not acted on");
        topology_release(topology);
        return;
    }
    struct request_queue waiting = {0};
    cut_changed_roles(upstream, &waiting);
    drop_retired(upstream, &waiting);
    if (had_one_shard && topology->shard_count > 1)
        close_hearers_of_one(upstream);
    for (struct backend *backend = upstream->backends; backend; backend = backend->next)
        backend_adopted(backend);
    end_waiting_for_topology(upstream, true);
    ears_refresh(upstream, true);
    release(upstream, &waiting);
}

/* Who began while there was one master would hear but that one, and could not know. */
static void close_hearers_of_one(struct upstream *upstream)
{
    for (struct client *client = upstream->worker->clients, *next; client; client = next) {
        next = client->next;
        if (client->upstream != upstream || !(client->session.is_monitoring || client->session.is_tracking))
            continue;
        log_warning("client %llu: closed, since there are several masters now, and %s is not supported over these",
                    (unsigned long long)client->id, client->session.is_monitoring ? "MONITOR" : "CLIENT TRACKING");
        client_close(client, "several masters now");
    }
}

bool upstream_awaits_topology(struct upstream *upstream, struct client *client, const struct request *traits)
{
    if (upstream->topology->kind[0] || !may_be_sharded(upstream->config) || upstream->worker->is_draining)
        return false;
    uint64_t now_ms = upstream->worker->now_ms;
    client->stalled_until_ms = hold_until_ms(client);
    if (client->has_waited || client->stalled_until_ms <= now_ms) {
        client->has_waited = false;
        note_in_vain(client);
        client_reply(client, error_reply(error_of_wait(traits)));
        return true;
    }
    upstream->is_awaited = true;
    client_stall(client, STALL_TOPOLOGY);
    return true;
}

/* Of these kinds it is known that a key has but one place to be. */
static bool may_be_sharded(const struct config_upstream *config)
{
    bool has_one_master = config->kind == UPSTREAM_STATIC || config->kind == UPSTREAM_SENTINEL;
    return !has_one_master || config->master_names.count > 1;
}

static void end_waiting_for_topology(struct upstream *upstream, bool is_known)
{
    struct worker *worker = upstream->worker;
    bool is_awaited = false;
    for (struct client *client = upstream->is_awaited ? worker->clients : NULL; client; client = client->next) {
        if (client->upstream != upstream || client->stall != STALL_TOPOLOGY)
            continue;
        bool is_over = is_known || worker->is_draining || worker->now_ms >= client->stalled_until_ms;
        is_awaited |= !is_over;
        if (!is_over)
            continue;
        client->has_waited = !is_known;
        client->stall = STALL_NONE;
        worker_resume_client(worker, client);
    }
    upstream->is_awaited = is_awaited;
}

void upstream_dispatch(struct upstream *upstream, struct request *request)
{
    assert(request->client && request->state == REQUEST_NEW);
    bool is_late = request->hold_deadline_ms && request->hold_deadline_ms <= upstream->worker->now_ms;
    if (request->goes_alone && is_late) {
        end_of_wait(request);
        return;
    }
    if (request->needs_dedicated) {
        dispatch_dedicated(upstream, request);
        return;
    }
    if (request->not_before_ms > upstream->worker->now_ms || is_barred(upstream, request)) {
        hold(upstream, request);
        return;
    }
    if (request->redirect_version && dispatch_redirected(upstream, request))
        return;
    if (request->is_for_replica) {
        skip(request);
        return;
    }
    uint16_t shard = upstream_shard_of(upstream, request);
    if (is_behind_others(upstream, request)) {
        request->not_before_ms = upstream->worker->now_ms + 1;
        hold(upstream, request);
        return;
    }
    if (request->fresh_after_us != FRESHNESS_ANY)
        ask_for_more(upstream, request);
    for (int tries = 0; tries < 3 && shard != TOPOLOGY_NO_SHARD; tries++) {
        struct connection *connection = route_of(upstream, request, shard);
        if (!connection && !again_is_behind(request))
            connection = connection_for(upstream, request, shard);
        if (connection) {
            note_write(upstream, connection, request);
            request->replicas_epoch = upstream->replicas_epoch;
            count_read(upstream, connection, request);
            client_routed(request->client, connection);
            connection_queue(connection, request);
            return;
        }
    }
    if (request->is_spare) {
        skip(request);
        return;
    }
    if (shard == TOPOLOGY_NO_SHARD)
        redirect_uncovered(upstream, request);
    if (shard != TOPOLOGY_NO_SHARD && lacks_fresh_replica(upstream, request, shard)) {
        request->not_before_ms = upstream->worker->now_ms + (uint64_t)upstream->config->reads_freshness_interval_ms;
        hold(upstream, request);
    } else if (lacks_replica(upstream, request))
        client_fail(request, ERROR_NO_REPLICA_HERE);
    else if (forbids_the_only_node(upstream, request))
        client_fail(request, ERROR_NO_REPLICA);
    else
        hold(upstream, request);
}

/* Of the reads that a replica may answer. */
static void count_read(struct upstream *upstream, const struct connection *connection, const struct request *request)
{
    struct stats *stats = &upstream->worker->stats;
    if (!request->is_read || request->needs_master)
        return;
    bool is_on_master = connection->backend->role == NODE_ROLE_MASTER;
    stats_add(stats, is_on_master ? STAT_READS_ON_MASTERS : STAT_READS_ON_REPLICAS, 1);
    if (is_on_master && request->is_unfresh)
        stats_add(stats, STAT_READS_FOR_FRESHNESS, 1);
}

/* Its node is not there, and nobody waits for that. */
static void skip(struct request *request)
{
    request->is_skipped = true;
    client_finish(request);
}

void upstream_forget(struct upstream *upstream, struct request *request)
{
    if (request->state == REQUEST_HELD) {
        request_queue_remove(&upstream->held, request);
        leave_hold(upstream, request);
        return;
    }
    for (struct backend *backend = upstream->backends; backend; backend = backend->next) {
        for (struct request *each = backend->waiting.first; each; each = each->next) {
            if (each == request) {
                request_queue_remove(&backend->waiting, request);
                return;
            }
        }
    }
}

void upstream_release_held(struct upstream *upstream)
{
    release(upstream, &(struct request_queue){0});
}

void upstream_release_waiting(struct upstream *upstream, struct backend *backend)
{
    struct request_queue waiting = {0};
    backend_take_waiting(backend, &waiting);
    release(upstream, &waiting);
}

/* Those that have waited for a connection go first: of the same client, they are the older ones. */
static void release(struct upstream *upstream, struct request_queue *waiting)
{
    struct request_queue held = take_held(upstream, UINT64_MAX);
    for (struct request *request; (request = pop_of_client(upstream, waiting));)
        upstream_dispatch(upstream, request);
    for (struct request *request; (request = pop_of_client(upstream, &held));)
        upstream_dispatch(upstream, request);
    tell_end_of_holding(upstream);
}

/* Not before the master has answered: what is on its way may be held again at once. */
static void tell_end_of_holding(struct upstream *upstream)
{
    if (!upstream->is_holding || upstream->held.first)
        return;
    const struct backend *master = upstream->is_sharded ? NULL : upstream_master(upstream, 0);
    if (upstream->is_sharded || (master && !master->is_failing)) {
        log_info("held requests are on their way; %llu had to be answered with an error meanwhile",
                 (unsigned long long)upstream->failed_held);
        upstream->is_holding = false;
        upstream->failed_held = 0;
    }
}

void upstream_fail_held(struct upstream *upstream, enum error error)
{
    struct request_queue waiting = {0}, held = take_held(upstream, UINT64_MAX);
    for (struct backend *backend = upstream->backends; backend; backend = backend->next)
        backend_take_waiting(backend, &waiting);
    for (struct request *request; (request = pop_of_client(upstream, &waiting));)
        client_fail(request, error);
    for (struct request *request; (request = pop_of_client(upstream, &held));)
        client_fail(request, error);
}

void upstream_retry_at(struct upstream *upstream, uint64_t at_ms)
{
    struct worker *worker = upstream->worker;
    double after = at_ms > worker->now_ms ? (double)(at_ms - worker->now_ms) / 1000. + 0.0005 : 0.0005;
    if (ev_is_active(&upstream->release) && ev_timer_remaining(worker->loop, &upstream->release) <= after)
        return;
    ev_timer_stop(worker->loop, &upstream->release);
    ev_timer_set(&upstream->release, after, 0.);
    ev_timer_start(worker->loop, &upstream->release);
}

bool upstream_may_repeat(struct upstream *upstream)
{
    earn(upstream);
    return budget_spend(&upstream->budget, upstream->worker->now_ms);
}

static void earn(struct upstream *upstream)
{
    budget_earn(&upstream->budget, upstream->unearned, upstream->worker->now_ms);
    upstream->unearned = 0;
}

struct word_letter {
    struct letter letter;
    uint32_t upstream;
};

/* Should memory be short, they see it at their next tick. */
void upstream_spread_word(struct upstream *upstream)
{
    const struct worker_group *group = upstream->worker->group;
    if (atomic_load(&group->is_ending))
        return;
    for (uint32_t i = 0; i < group->count; i++) {
        struct word_letter *letter = group->workers[i] == upstream->worker ? NULL : malloc(sizeof *letter);
        if (!letter)
            continue;
        *letter = (struct word_letter){.letter.deliver = hear_word, .upstream = upstream->index};
        mailbox_post(&group->workers[i]->mailbox, &letter->letter);
    }
}

static void hear_word(struct letter *letter, void *receiver)
{
    struct worker *worker = receiver;
    struct upstream *upstream = &worker->upstreams[((struct word_letter *)letter)->upstream];
    free(letter);
    if (atomic_load(&worker->group->is_ending))
        return;
    for (struct backend *backend = upstream->backends; backend; backend = backend->next)
        backend_look(backend);
    upstream_release_held(upstream);
}

void upstream_tick(struct upstream *upstream)
{
    for (struct backend *backend = upstream->backends; backend; backend = backend->next)
        backend_tick(backend);
    earn(upstream);
    outliers_tick(upstream);
    tick_held(upstream);
    if (upstream->is_sharded)
        leave_out_silent(upstream);
    end_waiting_for_topology(upstream, false);
    ears_refresh(upstream, false);
    tell_end_of_holding(upstream);
}

/* What was sent to a node before it was known to say nothing, and need not be waited for. */
static void leave_out_silent(struct upstream *upstream)
{
    const struct topology *topology = upstream->topology;
    for (uint32_t i = 0; i < topology->node_count; i++) {
        struct request *piece = NULL;
        while (topology->nodes[i].is_silent && (piece = spare_piece(upstream->by_node[i]))) {
            if (!scatter_leave_out(piece))
                return;
        }
    }
}

static struct request *spare_piece(const struct backend *backend)
{
    for (const struct connection *connection = backend->connections; connection; connection = connection->next) {
        for (struct request *request = connection->queue.first; request; request = request->next) {
            if (scatter_may_leave_out(request))
                return request;
        }
    }
    return NULL;
}

struct backend *upstream_master(const struct upstream *upstream, uint16_t shard)
{
    uint32_t node = pick_write(upstream->topology, &upstream->topology->shards[shard], upstream->loads);
    return node == PICK_NONE ? NULL : upstream->by_node[node];
}

bool upstream_is_master(const struct upstream *upstream, const struct connection *connection)
{
    const struct backend *backend = connection->backend;
    return backend->shard != TOPOLOGY_NO_SHARD && backend->node != TOPOLOGY_NO_NODE &&
           backend->node == upstream->topology->shards[backend->shard].master;
}

bool upstream_suits(const struct upstream *upstream, const struct connection *connection, const struct request *request)
{
    if (!request->needs_master && !upstream_is_master(upstream, connection))
        return upstream_is_proven(connection, request);
    if (!request->needs_master)
        return true;
    return upstream_is_master(upstream, connection) &&
           (request->is_read || !upstream->topology->shards[connection->backend->shard].is_yielding);
}

bool upstream_spares(const struct upstream *upstream, const struct connection *connection, const struct request *request)
{
    uint16_t shard = connection->backend->shard;
    return !request->is_read && shard != TOPOLOGY_NO_SHARD && upstream->topology->shards[shard].is_yielding &&
           upstream_is_master(upstream, connection);
}

uint16_t upstream_shard_of(const struct upstream *upstream, const struct request *request)
{
    if (!upstream->is_sharded)
        return 0;
    if (request->is_for_shard)
        return request->place < upstream->topology->shard_count ? request->place : TOPOLOGY_NO_SHARD;
    if (request->place == REQUEST_PLACE_NONE)
        return upstream_meeting_shard(upstream);
    if (upstream->has_moved && upstream->moved[request->place])
        return (uint16_t)(upstream->moved[request->place] - 1);
    return topology_shard_of(upstream->topology, request->place);
}

/* In a Redis Cluster another node will do while that is lost. */
uint16_t upstream_meeting_shard(const struct upstream *upstream)
{
    const struct topology *topology = upstream->topology;
    uint16_t first = upstream->first_shard;
    for (uint32_t i = 0; topology->is_cluster && i < topology->shard_count; i++) {
        uint16_t shard = (uint16_t)((first + i) % topology->shard_count);
        if (upstream_master(upstream, shard))
            return shard;
    }
    return first;
}

void upstream_unsettle(struct upstream *upstream, uint32_t place, uint64_t for_ms)
{
    if (!upstream->unsettled_ms)
        upstream->unsettled_ms = calloc(TOPOLOGY_SLOTS, sizeof *upstream->unsettled_ms);
    if (!upstream->unsettled_ms || place >= TOPOLOGY_SLOTS)
        return;
    uint64_t until_ms = upstream->worker->now_ms + for_ms;
    if (upstream->unsettled_ms[place] < until_ms)
        upstream->unsettled_ms[place] = until_ms;
    if (upstream->unsettled_until_ms < until_ms)
        upstream->unsettled_until_ms = until_ms;
}

/* ---- adopting a topology ---- */

/* All or nothing: the lists are made before anything is changed. */
static bool bind_backends(struct upstream *upstream, struct topology *topology)
{
    size_t count = topology->node_count ? topology->node_count : 1;
    struct backend **by_node = calloc(count, sizeof *by_node);
    struct pick_load *loads = calloc(count, sizeof *loads);
    bool is_complete = by_node && loads;
    for (uint32_t i = 0; is_complete && i < topology->node_count; i++) {
        by_node[i] = backend_for(upstream, &topology->nodes[i], i);
        is_complete = by_node[i] != NULL;
    }
    if (!is_complete) {
        free(by_node);
        free(loads);
        return false;
    }

    follow_places(upstream, topology, by_node);
    follow_replicas(upstream, topology);
    for (struct backend *backend = upstream->backends; backend; backend = backend->next) {
        backend->own_load = *backend->load;
        backend->load = &backend->own_load;
        backend->node = TOPOLOGY_NO_NODE;
        backend->shard = TOPOLOGY_NO_SHARD;
    }
    for (uint32_t i = 0; i < topology->node_count; i++) {
        loads[i] = by_node[i]->own_load;
        by_node[i]->load = &loads[i];
        by_node[i]->node = i;
        by_node[i]->shard = topology->nodes[i].shard;
    }
    free(upstream->by_node);
    free(upstream->loads);
    upstream->by_node = by_node;
    upstream->loads = loads;
    topology_release(upstream->topology);
    upstream->topology = topology;
    upstream->memo = (struct command_memo){0};
    memset(upstream->batches, 0, sizeof upstream->batches);
    upstream->is_sharded = topology->is_cluster || topology->shard_count > 1;
    upstream->first_shard = upstream->is_sharded ? first_shard_of(topology) : 0;
    return true;
}

/* Who keeps to one of several replicas may find it to be another now (pick_session_read()). */
static void follow_replicas(struct upstream *upstream, const struct topology *topology)
{
    upstream->has_replicas = false;
    for (uint32_t i = 0; i < topology->shard_count; i++)
        upstream->has_replicas |= topology->shards[i].replica_count > 0;
    if (has_same_replicas(upstream->topology, topology))
        return;
    upstream->replicas_epoch++;
    upstream->replicas_changed_us = clock_us();
}

static bool has_same_replicas(const struct topology *a, const struct topology *b)
{
    bool is_same = a->shard_count == b->shard_count;
    for (uint32_t i = 0; is_same && i < a->shard_count; i++) {
        const struct topology_shard *in_a = &a->shards[i], *in_b = &b->shards[i];
        is_same = in_a->replica_count == in_b->replica_count;
        for (uint32_t j = 0; is_same && j < in_a->replica_count; j++)
            is_same = strcmp(a->nodes[in_a->replicas[j]].name, b->nodes[in_b->replicas[j]].name) == 0;
    }
    return is_same;
}

static uint16_t first_shard_of(const struct topology *topology)
{
    uint32_t place = 0;
    while (place < TOPOLOGY_SLOTS && topology_shard_of(topology, place) == TOPOLOGY_NO_SHARD)
        place++;
    return place < TOPOLOGY_SLOTS ? topology_shard_of(topology, place) : 0;
}

/* A place that another shard has now. */
static void follow_places(struct upstream *upstream, const struct topology *topology, struct backend *const *by_node)
{
    const struct topology *before = upstream->topology;
    uint16_t after[TOPOLOGY_SHARDS_MAX];
    if (upstream->has_moved)
        memset(upstream->moved, 0, TOPOLOGY_SLOTS * sizeof *upstream->moved);
    upstream->has_moved = false;
    if (!upstream->is_sharded || !topology->is_cluster)
        return;
    upstream->map_count++;
    follow_shards(upstream, topology, by_node, after);
    for (uint32_t place = 0; place < TOPOLOGY_SLOTS; place++) {
        uint16_t shard = before->slots[place];
        if (shard == TOPOLOGY_NO_SHARD || after[shard] == topology->slots[place])
            continue;
        upstream_unsettle(upstream, place, UNSETTLED_BY_MAP_MS);
        freshness_unsettle(upstream->freshness, place, clock_us() + ADOPTED_BY_US);
    }
}

/* Shards have no names: each is the one that its master belongs to now, or else any of its nodes. */
static void follow_shards(struct upstream *upstream, const struct topology *topology, struct backend *const *by_node,
                          uint16_t *after)
{
    const struct topology *before = upstream->topology;
    for (struct backend *backend = upstream->backends; backend; backend = backend->next)
        backend->next_shard = TOPOLOGY_NO_SHARD;
    for (uint32_t i = 0; i < topology->node_count; i++)
        by_node[i]->next_shard = topology->nodes[i].shard;
    for (uint32_t shard = 0; shard < before->shard_count; shard++)
        after[shard] = TOPOLOGY_NO_SHARD;
    for (uint32_t i = 0; i < before->node_count; i++) {
        uint16_t shard = before->nodes[i].shard;
        if (shard == TOPOLOGY_NO_SHARD)
            continue;
        if (after[shard] == TOPOLOGY_NO_SHARD || before->shards[shard].master == i)
            after[shard] = upstream->by_node[i]->next_shard;
    }
}

/* Nodes mostly keep their places. */
static struct backend *backend_for(struct upstream *upstream, const struct topology_node *node, uint32_t place)
{
    if (place < upstream->topology->node_count && backend_is_node(upstream->by_node[place], node))
        return upstream->by_node[place];
    for (struct backend *backend = upstream->backends; backend; backend = backend->next) {
        if (backend_is_node(backend, node))
            return backend;
    }
    struct backend *backend = backend_create(upstream, node);
    if (backend) {
        backend->next = upstream->backends;
        upstream->backends = backend;
    }
    return backend;
}

/* What is no longer the master gets nothing more, and what was sent to it has an unknown outcome: at once. */
static void cut_changed_roles(struct upstream *upstream, struct request_queue *waiting)
{
    const struct topology *topology = upstream->topology;
    uint64_t now_ms = upstream->worker->now_ms;
    for (struct backend *backend = upstream->backends; backend; backend = backend->next) {
        enum node_role was = backend->role;
        if (backend->node == TOPOLOGY_NO_NODE)
            continue;
        const struct topology_node *node = &topology->nodes[backend->node];
        backend->role = node->role;
        if (node->role == NODE_ROLE_MASTER && backend != upstream->last_master && !upstream->is_sharded) {
            upstream->last_master = backend;
            upstream->master_epoch++;
        }
        if (upstream->is_sharded)
            note_reign(upstream, backend);
        if (was == NODE_ROLE_REPLICA && node->role == NODE_ROLE_MASTER && topology->is_cluster)
            backend_retire_connections(backend); /* they read as from a replica */
        if (was == NODE_ROLE_MASTER && node->role != NODE_ROLE_MASTER) {
            drain_or_cut(upstream, backend, node);
            backend_take_waiting(backend, waiting);
        }
        if (node->role != NODE_ROLE_UNKNOWN)
            backend->drained_by_ms = 0;
        if (was != node->role)
            health_forget(backend);
        if (node->is_fit && backend->unfit_since_ms)
            health_is_fit_again(backend);
        if (node->is_fit)
            backend->unfit_since_ms = 0;
        else if (!backend->unfit_since_ms)
            backend->unfit_since_ms = now_ms;
    }
}

/* One that was a replica in between may lack what it had as a master before. One that nobody knew may have been a replica
 * of a master that is none any more. */
static void note_reign(struct upstream *upstream, struct backend *backend)
{
    backend->was_replica |= backend->role == NODE_ROLE_REPLICA;
    if (backend->role != NODE_ROLE_MASTER || (backend->reign && !backend->was_replica))
        return;
    bool replaces_another = backend->was_replica || has_deposed(upstream);
    backend->reign = ++upstream->master_epoch;
    if (replaces_another)
        upstream->replaced_epoch = backend->reign;
    backend->was_replica = false;
}

/* True if a master is none any more, of which nobody is known to have come after it. */
static bool has_deposed(const struct upstream *upstream)
{
    const struct topology *topology = upstream->topology;
    for (const struct backend *backend = upstream->backends; backend; backend = backend->next) {
        bool is_master = backend->node != TOPOLOGY_NO_NODE && topology->nodes[backend->node].role == NODE_ROLE_MASTER;
        if (backend->reign && !is_master && !has_heir(upstream, backend))
            return true;
    }
    return false;
}

static bool has_heir(const struct upstream *upstream, const struct backend *backend)
{
    const struct topology *topology = upstream->topology;
    uint32_t heir = backend->shard == TOPOLOGY_NO_SHARD ? TOPOLOGY_NO_NODE : topology->shards[backend->shard].master;
    return heir != TOPOLOGY_NO_NODE && upstream->by_node[heir]->reign > backend->reign;
}

/* A node of a Redis Cluster that is a replica now answers what it still has with MOVED, which is better than not to know.
 * One that answers, and does not know yet that it is none, will in a moment; elsewhere it may never. */
static void drain_or_cut(struct upstream *upstream, struct backend *backend, const struct topology_node *node)
{
    bool is_about_to_know = node->role == NODE_ROLE_UNKNOWN && node->says_master;
    if (!upstream->topology->is_cluster || (node->role != NODE_ROLE_REPLICA && !is_about_to_know)) {
        backend_cut(backend, OUTCOME_CUT, NULL);
        return;
    }
    backend_retire_connections(backend);
    if (is_about_to_know)
        backend->drained_by_ms = upstream->worker->now_ms + DRAIN_MS;
}

static void drop_retired(struct upstream *upstream, struct request_queue *waiting)
{
    for (struct backend **link = &upstream->backends; *link;) {
        struct backend *backend = *link;
        if (backend->node != TOPOLOGY_NO_NODE) {
            link = &backend->next;
            continue;
        }
        *link = backend->next;
        if (backend == upstream->last_master)
            upstream->last_master = NULL;
        backend_cut(backend, OUTCOME_CUT, NULL);
        backend_take_waiting(backend, waiting);
        backend->next = upstream->worker->dead_backends; /* its closed connections still point to it */
        upstream->worker->dead_backends = backend;
    }
}

/* ---- dispatching ---- */

/* On which master this client wrote, for its WAIT. */
static void note_write(const struct upstream *upstream, const struct connection *connection,
                       const struct request *request)
{
    bool is_nowhere = upstream->is_sharded && request->place == REQUEST_PLACE_NONE; /* PUBLISH */
    if (request->is_read || is_nowhere || request->is_for_nodes)
        return;
    struct client *client = request->client;
    uint32_t epoch = upstream->is_sharded ? connection->backend->reign : upstream->master_epoch;
    if (!client->written_epoch)
        client->wrote_since = upstream->master_epoch;
    client->wrote_several |= upstream->is_sharded && client->written_epoch && client->written_epoch != epoch;
    client->written_epoch = epoch;
    client->has_unmarked_writes = true;
    freshness_note_version(upstream->freshness, upstream->topology->version);
}

/* The client's own connection; else one borrowed from the master; else wait for either. */
static void dispatch_dedicated(struct upstream *upstream, struct request *request)
{
    struct client *client = request->client;
    if (request->is_spoiled) {
        client_fail(request, ERROR_TRANSACTION_LOST);
        return;
    }
    if (request->is_blocking && cannot_wait(upstream, request))
        return;
    if (client->dedicated) {
        if (upstream_spares(upstream, client->dedicated, request))
            hold(upstream, request);
        else
            upstream_send_dedicated(upstream, client->dedicated, request);
        return;
    }
    bool is_behind = !request->is_restoring && (again_is_behind(request) || client->restoring);
    bool is_early = request->not_before_ms > upstream->worker->now_ms;
    struct backend *backend = is_behind || is_early ? NULL : backend_for_dedicated(upstream, request);
    if (!backend) {
        if (!is_behind && !is_early && lacks_replica(upstream, request))
            client_fail(request, ERROR_NO_REPLICA_HERE);
        else
            hold(upstream, request);
        return;
    }
    struct connection *connection = backend->waiting.first ? NULL : backend_borrow(backend, request);
    if (connection) {
        upstream_send_dedicated(upstream, connection, request);
        if (client->held > 0)
            upstream_retry_at(upstream, upstream->worker->now_ms); /* what is held behind it follows */
        return;
    }
    request_settle(&upstream->worker->chunks, request);
    request_stop_clock(request, upstream->worker->now_ms);
    request->state = REQUEST_WAITING;
    request->deadline_ms =
        waits_forever(request) ? UINT64_MAX : upstream->worker->now_ms + (uint64_t)upstream->config->pool_wait_ms;
    request_queue_push(&backend->waiting, request);
    client_held(client);
}

/* True, and ended, if its time is over, or if it asks for replicas of another master than its client wrote to;
 * that is told once. */
static bool cannot_wait(const struct upstream *upstream, struct request *request)
{
    struct client *client = request->client;
    if (blocked_is_over(request)) {
        blocked_end(request);
        return true;
    }
    if (!blocked_is_wait(&client->blocked) || !wrote_elsewhere(upstream, request))
        return false;
    client->written_epoch = 0;
    client_fail(request, ERROR_WRITES_ELSEWHERE);
    return true;
}

static bool wrote_elsewhere(const struct upstream *upstream, const struct request *request)
{
    const struct client *client = request->client;
    if (!upstream->is_sharded)
        return client->written_epoch && client->written_epoch != upstream->master_epoch;
    return client->written_epoch && !upstream_written_master(upstream, client);
}

const struct backend *upstream_written_master(const struct upstream *upstream, const struct client *client)
{
    for (uint32_t i = 0; i < upstream->topology->node_count; i++) {
        const struct backend *backend = upstream->by_node[i];
        if (backend->reign == client->written_epoch && backend->role == NODE_ROLE_MASTER)
            return backend;
    }
    return NULL;
}

void upstream_send_dedicated(struct upstream *upstream, struct connection *connection, struct request *request)
{
    bool is_wait = request->is_blocking && blocked_is_wait(&request->client->blocked);
    if (request->is_blocking)
        connection_identify(connection);
    if (request->is_blocking && !blocked_prepare(connection, request))
        return;
    if (request->opens_transaction && !transaction_open(connection, request))
        return;
    if (!is_wait) {
        note_write(upstream, connection, request);
        connection->has_written |= !request->is_read;
    }
    connection_queue(connection, request);
}

/* The master; but SCRIPT KILL and its like go to a replica that is busy. */
static struct backend *backend_for_dedicated(const struct upstream *upstream, struct request *request)
{
    const struct topology *topology = upstream->topology;
    struct backend *redirected = redirected_to(upstream, request);
    if (redirected)
        return redirected;
    uint16_t shard = upstream_shard_of(upstream, request);
    for (uint32_t i = 0; request->is_urgent && i < topology->node_count; i++) {
        bool is_replica = topology->nodes[i].role != NODE_ROLE_MASTER;
        if (is_replica && backend_is_busy(upstream->by_node[i]))
            return upstream->by_node[i];
    }
    if (shard == TOPOLOGY_NO_SHARD) {
        redirect_uncovered(upstream, request);
        return NULL;
    }
    if (request->client->persona == PERSONA_REPLICA)
        return backend_for_replicas_client(upstream, request, shard);
    struct backend *master = upstream_master(upstream, shard);
    return !master && request->is_urgent ? named_master(upstream, shard) : master;
}

/* It may be that a script keeps it from saying that it is the master: who would end that is let through. */
static struct backend *named_master(const struct upstream *upstream, uint16_t shard)
{
    uint32_t node = upstream->topology->shards[shard].master;
    struct backend *backend = node == TOPOLOGY_NO_NODE ? NULL : upstream->by_node[node];
    return backend && backend_may_be_tried(backend) ? backend : NULL;
}

/* A client of an address `as replica` keeps to one replica, all to the same one for cursors, and reads from the master only while there is none, or
 * while the slot is on its way, of which a replica knows nothing. */
static struct backend *backend_for_replicas_client(const struct upstream *upstream, const struct request *request,
                                                   uint16_t shard)
{
    const struct topology *topology = upstream->topology;
    if (request->needs_master)
        return upstream_master(upstream, shard);
    bool is_only = is_for_replicas_only(upstream, request);
    bool is_scan = request->special == SPECIAL_SCAN || request->special == SPECIAL_SCAN_KEY;
    uint64_t drawn_by = is_scan ? 0 : request->client->id; /* a cursor is of one node, whoever goes on with it */
    struct pick_memo *memo = is_scan ? NULL : &request->client->own_replica;
    uint32_t node = is_of_unsettled_place(upstream, request) && !is_only
                        ? PICK_NONE
                        : pick_own_replica(topology, &topology->shards[shard], upstream->loads, drawn_by, memo);
    if (node != PICK_NONE)
        return upstream->by_node[node];
    return is_only ? NULL : upstream_master(upstream, shard);
}

/* What might write if a master let it, as scripts and transactions can; and all where the read policy says so. */
static bool is_for_replicas_only(const struct upstream *upstream, const struct request *request)
{
    return !request->is_read || request->needs_dedicated || upstream->config->reads_policy == READS_REPLICA;
}

/* Its keys were another shard's when its client sent what is still on its way there. */
static bool is_barred(const struct upstream *upstream, const struct request *request)
{
    const struct client *client = request->client;
    return client_has_unmapped(client, upstream->map_count) && again_is_barred(client, request);
}

/* Where a node of the cluster says, if that can be reached; it is done once. */
static bool dispatch_redirected(struct upstream *upstream, struct request *request)
{
    struct client *client = request->client;
    struct backend *backend = again_is_behind(request) ? NULL : redirected_to(upstream, request);
    struct connection *connection = backend ? route_to(backend, request) : NULL;
    if (backend && !connection)
        connection = backend_redirected_lane(backend, request);
    if (!connection)
        return false;
    note_write(upstream, connection, request);
    client_routed(client, connection);
    connection_queue(connection, request);
    return true;
}

/* What its client has sent there before it, a script perhaps, must not be overtaken. */
static struct connection *route_to(const struct backend *backend, const struct request *request)
{
    struct connection *route = client_route_to(request->client, backend->shard);
    bool is_there = route && route->backend == backend && !route->is_retiring;
    return is_there && route->target_database == request->database ? route : NULL;
}

/* The usable node that its redirect means; NULL if there is none, or it is of an older topology. */
static struct backend *redirected_to(const struct upstream *upstream, struct request *request)
{
    bool is_known = request->redirect_version && request->redirect_version == upstream->topology->version;
    struct backend *backend = is_known ? upstream->by_node[request->redirect_node] : NULL;
    request->redirect_version = 0;
    bool is_kept_out = backend && backend->role == NODE_ROLE_MASTER && request->client->persona == PERSONA_REPLICA &&
                       is_for_replicas_only(upstream, request);
    if (backend && backend->load->is_usable && !is_kept_out)
        return backend;
    request->is_asking = false;
    return NULL;
}

/* While a client has requests on a connection to a shard, the next one follows them, so that they stay in order. */
static struct connection *route_of(struct upstream *upstream, const struct request *request, uint16_t shard)
{
    const struct client *client = request->client;
    struct connection *route = upstream->is_sharded ? client_route_to(client, shard) : client->route.connection;
    if (!route || client->is_mixed || again_is_behind(request))
        return NULL;
    if (route->is_retiring || route->target_database != request->database || !upstream_suits(upstream, route, request))
        return NULL;
    return route;
}

/* A connection that was made since its node was found to be fresh may lead to another process there: the master then. */
static struct connection *connection_for(struct upstream *upstream, struct request *request, uint16_t shard)
{
    struct backend *backend = choose(upstream, request, shard);
    struct connection *connection = backend ? lane_of(backend, request) : NULL;
    if (!connection || backend->role == NODE_ROLE_MASTER || upstream_is_proven(connection, request))
        return connection;
    const struct topology_shard *among = &upstream->topology->shards[shard];
    request->is_unfresh = true;
    want_fresher(upstream, among);
    uint32_t master = upstream->config->reads_policy == READS_REPLICA ? PICK_NONE
                                                                      : pick_node(upstream, request, among, PICK_MASTER);
    return master == PICK_NONE ? NULL : lane_of(upstream->by_node[master], request);
}

static struct connection *lane_of(struct backend *backend, const struct request *request)
{
    struct client *client = request->client;
    return backend_lane(backend, request->database, client, lane_choose((enum lane)request->lane, &client->habit));
}

/* Its node was found to be as fresh as the request asks when the connection led there already, or another did that still does. */
bool upstream_is_proven(const struct connection *connection, const struct request *request)
{
    if (request->fresh_after_us == FRESHNESS_ANY)
        return true;
    uint64_t fresh_us = atomic_load_explicit(&connection->backend->gauge->fresh_us, memory_order_relaxed);
    uint64_t since_us = connection->established_us;
    if (!since_us)
        since_us = backend_established_us(connection->backend);
    return fresh_us > request->fresh_after_us && since_us && fresh_us > since_us && keeps_to_replica(request->client);
}

static bool keeps_to_replica(const struct client *client)
{
    const struct upstream *upstream = client->upstream;
    return upstream->config->reads_consistency != CONSISTENCY_SESSION ||
           client->replicas_epoch == upstream->replicas_epoch;
}

/* Another worker has written to the master of a newer topology than this one has adopted yet, which may be another. */
static bool is_behind_others(const struct upstream *upstream, const struct request *request)
{
    return request->is_read && freshness_is_behind(upstream->freshness, upstream->topology->version);
}

/* Staleness is bounded as of when the request goes, however long it was held; meanwhile its client may have come to another
 * replica than the one that showed it what it knows. What was written where the slot was before has come to where it is now by
 * a way of its own. */
static void ask_for_more(const struct upstream *upstream, struct request *request)
{
    uint64_t bound_us = (uint64_t)upstream->config->reads_max_staleness_ms * 1000;
    uint64_t asked_us = bound_us ? clock_us() - bound_us : 0;
    if (upstream->config->reads_consistency == CONSISTENCY_SESSION && upstream->replicas_changed_us > asked_us)
        asked_us = upstream->replicas_changed_us;
    if (upstream->is_sharded && !request->is_for_shard) {
        uint64_t settled_us = freshness_settled_us(upstream->freshness, request->place);
        bool is_known = upstream->unsettled_until_ms && request->place < TOPOLOGY_SLOTS;
        uint64_t own_us = is_known ? upstream->unsettled_ms[request->place] * 1000 : 0;
        asked_us = settled_us > asked_us ? settled_us : asked_us;
        asked_us = own_us > asked_us ? own_us : asked_us;
    }
    if (request->fresh_after_us < asked_us)
        request->fresh_after_us = asked_us;
}

/* A replica does not know that a slot is on its way: it would say of keys that have gone that there are none. */
static struct backend *choose(struct upstream *upstream, struct request *request, uint16_t index)
{
    const struct topology *topology = upstream->topology;
    const struct topology_shard *shard = &topology->shards[index];
    struct client *client = request->client;
    if (client->persona == PERSONA_REPLICA)
        return backend_for_replicas_client(upstream, request, index);
    bool must_be_master = request->needs_master || client->follows_master || is_of_unsettled_place(upstream, request);
    enum pick_policy policy = must_be_master ? PICK_MASTER : (enum pick_policy)upstream->config->reads_policy;
    uint32_t node = request->is_read ? pick_node(upstream, request, shard, policy)
                                     : pick_write(topology, shard, upstream->loads);
    if (node == PICK_NONE && request->is_urgent)
        return named_master(upstream, index);
    if (!must_be_master && request->fresh_after_us != FRESHNESS_ANY && (node == PICK_NONE || node == shard->master))
        note_behind(upstream, request, shard);
    client->replicas_epoch = upstream->replicas_epoch;
    return node == PICK_NONE ? NULL : upstream->by_node[node];
}

static uint32_t pick_node(struct upstream *upstream, const struct request *request, const struct topology_shard *shard,
                          enum pick_policy policy)
{
    bool keeps_sessions = upstream->config->reads_consistency == CONSISTENCY_SESSION;
    if (keeps_sessions && request->fresh_after_us != FRESHNESS_ANY)
        return pick_session_read(upstream->topology, shard, upstream->loads, policy, request->fresh_after_us,
                                 request->client->id, &request->client->own_replica);
    size_t index = (size_t)(shard - upstream->topology->shards) % UPSTREAM_BATCHES;
    if (policy == PICK_NEAREST)
        return pick_near_read(upstream->topology, shard, upstream->loads, request->fresh_after_us,
                              &upstream->worker->seed, &upstream->near[index], upstream->worker->now_ms);
    return pick_batched_read(upstream->topology, shard, upstream->loads, policy, request->fresh_after_us,
                             &upstream->batches[index], upstream->worker->now_us, &upstream->worker->seed);
}

/* The master answers, or nobody, though there are replicas: were they asked how far they are, the next read might find one. No
 * matter while a write is on its way. */
static void note_behind(struct upstream *upstream, struct request *request, const struct topology_shard *shard)
{
    request->is_unfresh = upstream->config->reads_policy != READS_PREFER_MASTER && has_replica_behind(upstream, request, shard);
    if (request->is_unfresh && request->fresh_after_us != FRESHNESS_OF_MASTER)
        want_fresher(upstream, shard);
}

static void want_fresher(struct upstream *upstream, const struct topology_shard *shard)
{
    if (shard->master != TOPOLOGY_NO_NODE)
        upstream_want_fresher(upstream, upstream->topology->nodes[shard->master].gauge, true);
}

void upstream_want_fresher(struct upstream *upstream, struct node_gauge *master, bool is_urgent)
{
    if (!atomic_load(&master->is_behind))
        atomic_store(&master->is_behind, true);
    control_want_freshness(upstream->worker->group->control, upstream->index, is_urgent);
}

void upstream_refresh_replicas(struct upstream *upstream)
{
    for (uint32_t i = 0; upstream->freshness && i < upstream->topology->shard_count; i++) {
        if (upstream->topology->shards[i].replica_count > 0)
            want_fresher(upstream, &upstream->topology->shards[i]);
    }
}

static bool has_replica_behind(const struct upstream *upstream, const struct request *request,
                               const struct topology_shard *shard)
{
    const struct topology *topology = upstream->topology;
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        uint32_t node = shard->replicas[i];
        uint64_t needed_us = request->fresh_after_us;
        uint64_t since_us = backend_established_us(upstream->by_node[node]);
        if (since_us > needed_us)
            needed_us = since_us;
        if (upstream->loads[node].is_usable && topology_fresh_us(&topology->nodes[node]) <= needed_us)
            return true;
    }
    return false;
}

static bool is_of_unsettled_place(const struct upstream *upstream, const struct request *request)
{
    if (!upstream->is_sharded || request->is_for_shard)
        return false;
    return upstream_is_unsettled(upstream, request->place, upstream->worker->now_ms) ||
           freshness_settled_us(upstream->freshness, request->place) > upstream->worker->now_us;
}

/* The master must not answer, and there are replicas which will be fresh enough in a moment, perhaps. */
static bool lacks_fresh_replica(const struct upstream *upstream, const struct request *request, uint16_t shard)
{
    const struct topology_shard *among = &upstream->topology->shards[shard];
    return request->fresh_after_us != FRESHNESS_ANY && upstream->config->reads_policy == READS_REPLICA &&
           !request->client->follows_master && pick_read(upstream->topology, among, upstream->loads, PICK_REPLICA,
                                                         FRESHNESS_ANY, PICK_NONE, &upstream->worker->seed) != PICK_NONE;
}

/* With reads.policy = replica a read fails at once where no replica is fit, rather than wait for one; unless
 * nothing at all is known yet. */
static bool forbids_the_only_node(const struct upstream *upstream, const struct request *request)
{
    return !request->needs_master && !request->client->follows_master && request->client->held == 0 &&
           upstream->config->reads_policy == READS_REPLICA && knows_replicas(upstream);
}

/* The same for what a client of an address `as replica` can have of a replica only. */
static bool lacks_replica(const struct upstream *upstream, const struct request *request)
{
    const struct client *client = request->client;
    return client->persona == PERSONA_REPLICA && is_for_replicas_only(upstream, request) && !request->is_restoring &&
           !request->needs_master &&
           client->held == 0 && knows_replicas(upstream);
}

/* Not in the first moments, when nodes are still being asked. */
static bool knows_replicas(const struct upstream *upstream)
{
    const struct topology *topology = upstream->topology;
    for (uint32_t i = 0; i < topology->node_count; i++) {
        if (topology->nodes[i].is_new)
            return false;
    }
    return topology->node_count > 0;
}

/* ---- holding ---- */

static void hold(struct upstream *upstream, struct request *request)
{
    struct worker *worker = upstream->worker;
    if (worker->is_draining) {
        client_fail(request, ERROR_SHUTTING_DOWN);
        return;
    }
    upstream_limit_holding(request);
    if (request->hold_deadline_ms <= worker->now_ms) {
        end_of_wait(request);
        return;
    }
    if (!request->is_restoring && !hold_enter(&upstream->hold, request->size)) {
        client_fail(request, ERROR_HOLD_FULL);
        return;
    }
    request_settle(&worker->chunks, request);
    request->state = REQUEST_HELD;
    bool is_paused = request->not_before_ms > worker->now_ms;
    request_stop_clock(request, is_paused ? request->not_before_ms : worker->now_ms); /* the rest is not the node's */
    if (!request->is_restoring)
        stats_add(&worker->stats, STAT_HELD_REQUESTS, 1);
    if (request->is_blocking)
        blocked_start_time(request);
    if (request->is_restoring)
        request_queue_push_front(&upstream->held, request);
    else
        client_queue_held(&upstream->held, request);
    client_held(request->client);
    if (is_paused)
        upstream_retry_at(upstream, request->not_before_ms);
    request->redirect_version = 0; /* by then the node may think otherwise */
    request->is_asking = false;
    if (!upstream->is_holding && !is_paused && !request->refusal && !is_barred(upstream, request))
        tell_of_holding(upstream, request);
}

static void tell_of_holding(struct upstream *upstream, const struct request *request)
{
    uint16_t shard = upstream_shard_of(upstream, request);
    upstream->is_holding = true;
    if (shard != TOPOLOGY_NO_SHARD && upstream->topology->shards[shard].is_yielding)
        log_info("writes are held: a replica is about to become the master");
    else
        log_warning("requests are held: there is no master that can be written to%s",
                    upstream->is_sharded ? " for some keys" : "");
}

void upstream_limit_holding(struct request *request)
{
    if (!request->hold_deadline_ms)
        request->hold_deadline_ms = waits_forever(request) ? UINT64_MAX : hold_until_ms(request->client);
}

/* What was sent in one go with another that was held in vain a moment ago has waited long enough: else a pipeline would
 * wait for each of its commands in turn. */
static uint64_t hold_until_ms(const struct client *client)
{
    uint64_t since_ms = is_in_vain(client) ? client->burst_ms : client->worker->now_ms;
    return since_ms + (uint64_t)client->upstream->config->failover_hold_time_ms;
}

static bool is_in_vain(const struct client *client)
{
    return client->vain_ms && client->worker->now_ms - client->vain_ms < IN_VAIN_MS;
}

static void note_in_vain(struct client *client)
{
    if (!is_in_vain(client))
        client->vain_ms = client->worker->now_ms;
}

/* What became of one that waited in vain for failover.hold_time. */
static enum error error_of_wait(const struct request *request)
{
    return request->needs_master || request->needs_dedicated ? ERROR_NO_MASTER : ERROR_NO_NODE;
}

/* In the words of a Redis Cluster, where it was one that had something against it. */
static void end_of_wait(struct request *request)
{
    struct client *client = request->client;
    struct slice reply = redirect_end(request);
    note_in_vain(client);
    client->upstream->failed_held += client->upstream->is_holding;
    if (reply.size == 0) {
        client_fail(request, error_of_wait(request));
        return;
    }
    stats_add(&client->worker->stats, STAT_FAILURES_HOLD_TIME, 1);
    client_break_session(request);
    client_answer(request, reply);
}

/* What restores a session is as little as its client had before, so it does not count as held. */
static void leave_hold(struct upstream *upstream, const struct request *request)
{
    if (request->is_restoring)
        return;
    hold_leave(&upstream->hold, request->size);
    stats_add(&upstream->worker->stats, STAT_HELD_REQUESTS, -1);
}

/* A subscriber waits for a master as long as it takes, and so does what it asked to be changed of that. */
static bool waits_forever(const struct request *request)
{
    return request->is_restoring || (request_is_subscription(request) && request->client->session.is_lost);
}

static void release_now(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct upstream *upstream = timer->data;
    for (struct backend *backend = upstream->backends; backend; backend = backend->next) {
        backend_look(backend); /* the timer was set for the first of several */
    }
    upstream_release_held(upstream);
}

static void tick_held(struct upstream *upstream)
{
    struct request_queue queue = take_held(upstream, upstream->worker->now_ms);
    for (struct request *request; (request = pop_of_client(upstream, &queue));) {
        if (request->is_blocking && blocked_is_over(request)) {
            blocked_end(request);
            continue;
        }
        end_of_wait(request);
    }
}

/* The end of its own time comes before that of holding. */
static uint64_t held_until_ms(const struct request *request)
{
    uint64_t until_ms = request->is_blocking ? request->client->blocked.until_ms : 0;
    return until_ms && until_ms < request->hold_deadline_ms ? until_ms : request->hold_deadline_ms;
}

/* Takes out those whose time is up, in order, before anything is done with them: that may end their clients. */
static struct request_queue take_held(struct upstream *upstream, uint64_t deadline_ms)
{
    struct request_queue held = upstream->held;
    struct request_queue taken = {0};
    upstream->held = (struct request_queue){0};
    for (struct request *request; (request = request_queue_pop(&held));) {
        bool is_taken = held_until_ms(request) <= deadline_ms;
        request_queue_push(is_taken ? &taken : &upstream->held, request);
        if (!is_taken)
            continue;
        leave_hold(upstream, request);
        client_unheld(request->client);
        request->state = REQUEST_NEW;
    }
    return taken;
}

/* The next whose client is still there; the others are freed. */
static struct request *pop_of_client(struct upstream *upstream, struct request_queue *queue)
{
    struct worker *worker = upstream->worker;
    struct request *request;
    while ((request = request_queue_pop(queue)) && !request->client)
        request_destroy(&worker->requests, &worker->chunks, request);
    return request;
}
