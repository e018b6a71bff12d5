/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/backend.h"

#include "proxy/client.h"
#include "proxy/clock.h"
#include "proxy/control.h"
#include "proxy/health.h"
#include "proxy/log.h"
#include "proxy/overdue.h"
#include "proxy/pool.h"
#include "proxy/scripts.h"
#include "proxy/tunnel.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/pooling.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/un.h>

enum {
    UNFIT_GRACE_MS = 1000,    /* reads on a node that turned unfit are sent elsewhere after this */
    SCRIPT_GRACE_MS = 6000,   /* ... behind a script: by then a node says that it is busy (busy-reply-threshold) */
    LANE_INDEX = UINT16_MAX - LANE_COUNT, /* beyond any of pool.shared_connections: of the lane of that number */
    SPARE_IDLE_MS = 200,      /* at the bound, an idle dedicated connection is closed so that others may open one */
};

static bool set_address(struct backend *backend, const struct topology_node *node);
static uint16_t lane_index_of(const struct backend *backend, const struct client *client, enum lane lane);
static bool reads_as_replica(const struct backend *backend);
static struct connection *shared(struct backend *backend, uint32_t database, uint8_t protocol, uint16_t lane_index,
                                 bool is_readonly);
static bool reserve_dedicated(struct backend *backend);
static struct connection *pop_idle(struct backend *backend, uint32_t database, uint8_t protocol);
static struct connection *take_idle(struct connection **link);
static struct connection *pop_idle_for_wait(struct backend *backend, const struct client *client);
static bool is_over(const struct request *request);
static bool may_be_served(const struct backend *backend);
static void serve_waiting(struct backend *backend);
static void release_behind(struct backend *backend, const struct client *client);
static void tick_connection(struct backend *backend, struct connection *connection);
static void tick_waiting(struct backend *backend);
static bool may_be_closed(const struct backend *backend, const struct connection *connection);
static bool is_given_up(const struct backend *backend, const struct connection *connection);
static bool has_ready_connection(const struct backend *backend);
static void report(struct backend *backend, enum control_report_kind if_master, enum control_report_kind if_replica);

static struct worker *worker_of(const struct backend *backend) { return backend->upstream->worker; }

struct backend *backend_create(struct upstream *upstream, const struct topology_node *node)
{
    struct backend *backend = calloc(1, sizeof *backend);
    if (!backend)
        return NULL;
    backend->upstream = upstream;
    backend->name = strdup(node->name);
    backend->gauge = node_gauge_take(node->gauge);
    backend->node = TOPOLOGY_NO_NODE;
    backend->shard = TOPOLOGY_NO_SHARD;
    backend->load = &backend->own_load;
    backend->wants_lanes = true;
    if (!backend->name || !set_address(backend, node)) {
        free(backend->name);
        node_gauge_release(backend->gauge);
        free(backend);
        return NULL;
    }
    return backend;
}

void backend_destroy(struct backend *backend, enum outcome outcome, const char *reason)
{
    backend_cut(backend, outcome, reason);
    node_gauge_release(backend->gauge);
    script_book_destroy(backend->scripts);
    free(backend->name);
    free(backend);
}

bool backend_is_node(const struct backend *backend, const struct topology_node *node)
{
    struct backend other = {0};
    return strcmp(backend->name, node->name) == 0 && backend->gauge == node->gauge && set_address(&other, node) &&
           other.address_size == backend->address_size &&
           memcmp(&other.address, &backend->address, other.address_size) == 0;
}

bool backend_is_busy(const struct backend *backend)
{
    const struct topology *topology = backend->upstream->topology;
    return backend->node != TOPOLOGY_NO_NODE && strstr(topology->nodes[backend->node].reason, ": BUSY ") != NULL;
}

void backend_cut(struct backend *backend, enum outcome outcome, const char *reason)
{
    struct worker *worker = worker_of(backend);
    tunnels_cut(worker, backend);
    while (backend->connections)
        connection_close(backend->connections, outcome, reason);
}

void backend_retire_connections(struct backend *backend)
{
    tunnels_cut(worker_of(backend), backend);
    for (struct connection *connection = backend->connections, *next; connection; connection = next) {
        next = connection->next;
        const struct client *owner = connection->owner;
        bool only_listens = owner && session_is_pushed_to(&owner->session) && !owner->session.in_multi;
        connection->is_retiring = true;
        if (!connection->queue.first && (!owner || only_listens))
            connection_close(connection, OUTCOME_CUT, NULL); /* a subscriber goes on at the next master */
    }
}

void backend_take_waiting(struct backend *backend, struct request_queue *queue)
{
    for (struct request *request; (request = request_queue_pop(&backend->waiting));) {
        client_unheld(request->client);
        request->state = REQUEST_NEW;
        request->deadline_ms = 0;
        request_queue_push(queue, request);
    }
}

struct connection *backend_lane(struct backend *backend, uint32_t database, const struct client *client, enum lane lane)
{
    return shared(backend, database, session_protocol(&client->session), lane_index_of(backend, client, lane),
                  reads_as_replica(backend));
}

struct connection *backend_redirected_lane(struct backend *backend, const struct request *request)
{
    const struct client *client = request->client;
    return shared(backend, request->database, session_protocol(&client->session),
                  lane_index_of(backend, client, (enum lane)request->lane), false);
}

struct connection *backend_open_lane(struct backend *backend, uint16_t lane_index)
{
    return shared(backend, 0, backend->lane_protocol ? backend->lane_protocol : 2, lane_index, reads_as_replica(backend));
}

static uint16_t lane_index_of(const struct backend *backend, const struct client *client, enum lane lane)
{
    if (lane != LANE_ORDINARY)
        return (uint16_t)(LANE_INDEX + lane);
    uint64_t shared = (uint64_t)backend->upstream->config->pool_shared_connections;
    return (uint16_t)(shared > 1 ? client->id % shared : 0);
}

/* A node that lost the role of a master would answer reads on such a connection, with what is old by then. */
static bool reads_as_replica(const struct backend *backend)
{
    return backend->upstream->topology->is_cluster && backend->role == NODE_ROLE_REPLICA;
}

static struct connection *shared(struct backend *backend, uint32_t database, uint8_t protocol, uint16_t lane_index,
                                 bool is_readonly)
{
    backend->lane_protocol = protocol;
    for (struct connection *connection = backend->connections; connection; connection = connection->next) {
        if (!connection->is_dedicated && connection->target_database == database &&
            connection->target_protocol == protocol && connection->lane_index == lane_index &&
            connection->is_readonly == is_readonly && !connection->is_retiring)
            return connection;
    }
    struct connection *connection = connection_open(backend, database, protocol, false);
    if (!connection) {
        backend_failed(backend, strerror(errno));
        return NULL;
    }
    connection->lane_index = lane_index;
    connection->is_readonly = is_readonly;
    connection->lane = lane_index > LANE_INDEX ? (uint8_t)(lane_index - LANE_INDEX) : LANE_ORDINARY;
    if (connection->lane == LANE_SCRIPTS) /* whether the node serves the connection is known before any script speaks on it */
        connection_ask(connection, &SLICE("PING"), 1, QUESTION_NONE);
    return connection;
}

uint64_t backend_established_us(const struct backend *backend)
{
    uint64_t since_us = 0;
    for (const struct connection *connection = backend->connections; connection; connection = connection->next) {
        if (connection->established_us && (!since_us || connection->established_us < since_us))
            since_us = connection->established_us;
    }
    return since_us;
}

struct connection *backend_borrow(struct backend *backend, const struct request *request)
{
    struct client *client = request->client;
    uint8_t protocol = session_protocol(&client->session);
    bool is_wait = request->is_blocking && blocked_is_wait(&client->blocked);
    struct connection *connection =
        is_wait ? pop_idle_for_wait(backend, client) : pop_idle(backend, request->database, protocol);
    if (!connection) {
        if ((!pool_may_connect(backend) && !request->is_urgent) || !reserve_dedicated(backend))
            return NULL;
        connection = connection_open(backend, request->database, protocol, true);
        if (!connection) {
            atomic_fetch_sub_explicit(&backend->gauge->dedicated, 1, memory_order_relaxed);
            backend_failed(backend, strerror(errno));
            return NULL;
        }
        connection->is_readonly = client->persona == PERSONA_REPLICA && reads_as_replica(backend);
    }
    uint64_t idle_ms = worker_of(backend)->now_ms - connection->idle_since_ms;
    bool is_doubtful = idle_ms > (uint64_t)backend->upstream->config->pool_health_interval_ms;
    bool is_marked = connection->marked_for == client->id;
    if (!is_marked)
        connection->marked_for = 0;
    bool must_ask = is_doubtful && !request->is_urgent && connection->state == CONNECTION_READY;
    uint32_t database = request->is_urgent ? connection->database : request->database; /* a busy node selects none */
    connection_prepare(connection, database, protocol, must_ask);
    if (connection->state == CONNECTION_CLOSED)
        return NULL;
    connection->owner = client;
    client->dedicated = connection;
    if (!request->is_urgent)
        connection_name(connection, client->name ? client->name : "", request->timeout_ms);
    return connection;
}

void backend_open_idle(struct backend *backend)
{
    if (!reserve_dedicated(backend))
        return;
    struct connection *connection = connection_open(backend, 0, 2, true);
    if (!connection) {
        atomic_fetch_sub_explicit(&backend->gauge->dedicated, 1, memory_order_relaxed);
        backend_failed(backend, strerror(errno));
        return;
    }
    connection->next_idle = backend->idle;
    backend->idle = connection;
}

struct connection *backend_open_ear(struct backend *backend, uint8_t protocol)
{
    bool has_room = reserve_dedicated(backend);
    if (!has_room && backend->idle) {
        connection_close(take_idle(&backend->idle), OUTCOME_CUT, NULL);
        has_room = reserve_dedicated(backend);
    }
    if (!has_room)
        return NULL;
    struct connection *connection = connection_open(backend, 0, protocol, true);
    if (!connection) {
        atomic_fetch_sub_explicit(&backend->gauge->dedicated, 1, memory_order_relaxed);
        backend_failed(backend, strerror(errno));
    }
    return connection;
}

void backend_give_back(struct connection *connection)
{
    struct backend *backend = connection->backend;
    connection->owner->dedicated = NULL;
    connection->owner = NULL;
    if (connection->is_retiring || connection->is_marked || connection->in_multi || connection->state != CONNECTION_READY ||
        backend->role != NODE_ROLE_MASTER || pool_is_old(connection)) {
        connection_close(connection, OUTCOME_CUT, NULL);
        return;
    }
    connection->idle_since_ms = worker_of(backend)->now_ms;
    connection->next_idle = backend->idle;
    backend->idle = connection;
    serve_waiting(backend);
}

/* A node at its maxclients accepts connections and then refuses to serve them: the failure is over when something on one
 * of them was answered, which backend_tick() sees. */
void backend_connected(struct backend *backend)
{
    health_connected(backend);
    backend_refresh(backend);
    if (backend->is_failing)
        upstream_retry_at(backend->upstream, worker_of(backend)->now_ms);
}

void backend_may_connect(struct backend *backend) { serve_waiting(backend); }

void backend_failed(struct backend *backend, const char *reason)
{
    if (!backend->is_reported)
        log_warning("node %s: %s; %s", backend->name, reason,
                    backend->role == NODE_ROLE_MASTER ? "writes wait until it is confirmed or replaced"
                                                      : "reads go to other nodes");
    backend->is_reported = true;
    backend->is_failing = true;
    backend->wants_lanes = true;
    health_failed(backend);
    backend_suspect(backend);
}

void backend_refused(struct backend *backend, enum refusal refusal)
{
    static const char *const words[REFUSAL_COUNT] = {"", "READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED",
                                                     "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"};
    if (!backend->is_reported)
        log_warning("node %s: answered %s; asking who is master", backend->name, words[refusal]);
    backend->is_reported = true;
    backend->is_failing = true;
    health_refused(backend);
    backend->lost_us = clock_us();
    scripts_lost(backend);
    report(backend, REPORT_MASTER_REFUSED, REPORT_REPLICA_REFUSED);
    backend_refresh(backend);
    upstream_retry_at(backend->upstream, health_due_ms(backend));
}

void backend_suspect(struct backend *backend)
{
    backend->lost_us = clock_us();
    report(backend, REPORT_MASTER_LOST, REPORT_REPLICA_LOST);
    backend_refresh(backend);
    if (backend->is_failing)
        upstream_retry_at(backend->upstream, health_due_ms(backend));
}

void backend_unlink(struct connection *connection)
{
    struct backend *backend = connection->backend;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        backend->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    backend->connection_count--;
    health_connection_ended(connection);
    if (!connection->is_dedicated)
        return;
    backend->dedicated_count--;
    for (struct connection **link = &backend->idle; *link; link = &(*link)->next_idle) {
        if (*link == connection) {
            *link = connection->next_idle;
            break;
        }
    }
    atomic_fetch_sub_explicit(&backend->gauge->dedicated, 1, memory_order_relaxed);
}

/* Not while a trial is under way. */
bool backend_may_be_tried(const struct backend *backend)
{
    bool is_on_trial = backend->is_failing && backend->connections && !has_ready_connection(backend);
    if (backend->address_size == 0)
        return false;
    return backend->node != TOPOLOGY_NO_NODE && health_admits(backend) && !is_on_trial;
}

void backend_refresh(struct backend *backend)
{
    const struct upstream *upstream = backend->upstream;
    bool is_usable = backend_may_be_tried(backend);
    if (is_usable && backend->role == NODE_ROLE_MASTER)
        is_usable = backend->shard != TOPOLOGY_NO_SHARD &&
                    backend->lost_us < upstream->topology->shards[backend->shard].confirmed_us;
    backend->load->is_usable = is_usable;
}

void backend_adopted(struct backend *backend)
{
    const struct topology *topology = backend->upstream->topology;
    bool is_master = backend->role == NODE_ROLE_MASTER && backend->shard != TOPOLOGY_NO_SHARD;
    if (is_master && backend->lost_us && backend->lost_us >= topology->shards[backend->shard].confirmed_us)
        report(backend, REPORT_MASTER_LOST, REPORT_REPLICA_LOST);
    if (!backend->lanes_at_ms)
        backend->lanes_at_ms =
            pooling_open_at_ms(worker_of(backend)->now_ms, topology->node_count, &worker_of(backend)->seed);
    backend_look(backend);
    pool_fill(backend);
}

void backend_tick(struct backend *backend)
{
    if (backend->drained_by_ms && worker_of(backend)->now_ms >= backend->drained_by_ms) {
        backend->drained_by_ms = 0;
        backend_cut(backend, OUTCOME_CUT, NULL);
    }
    for (struct connection *connection = backend->connections, *next; connection; connection = next) {
        next = connection->next;
        tick_connection(backend, connection);
    }
    pool_retire(backend);
    health_tick(backend);
    tick_waiting(backend);
    backend_look(backend);
    pool_fill(backend);
}

void backend_look(struct backend *backend)
{
    health_look(backend);
    backend_refresh(backend);
    uint64_t at_ms = health_due_ms(backend);
    if ((backend->is_failing || backend->was_open) && at_ms > worker_of(backend)->now_ms)
        upstream_retry_at(backend->upstream, at_ms);
}

/* None while its name is not resolved: it is another backend then. */
static bool set_address(struct backend *backend, const struct topology_node *node)
{
    memset(&backend->address, 0, sizeof backend->address);
    backend->address_size = 0;
    if (!node->address[0])
        return true;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&backend->address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&backend->address;
    struct sockaddr_un *local = (struct sockaddr_un *)&backend->address;
    if (node->port == 0) {
        if (strlen(node->address) >= sizeof local->sun_path)
            return false;
        local->sun_family = AF_UNIX;
        memcpy(local->sun_path, node->address, strlen(node->address) + 1);
        backend->address_size = sizeof *local;
        return true;
    }
    if (inet_pton(AF_INET, node->address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(node->port);
        backend->address_size = sizeof *v4;
        return true;
    }
    if (inet_pton(AF_INET6, node->address, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(node->port);
        backend->address_size = sizeof *v6;
        return true;
    }
    return false;
}

/* The bound holds over all workers, so it is one atomic count. */
static bool reserve_dedicated(struct backend *backend)
{
    uint32_t limit = (uint32_t)backend->upstream->config->pool_dedicated_connections;
    uint32_t count = atomic_load_explicit(&backend->gauge->dedicated, memory_order_relaxed);
    while (count < limit) {
        if (atomic_compare_exchange_weak_explicit(&backend->gauge->dedicated, &count, count + 1,
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
    return false;
}

/* The last one used that needs no greeting, else the last one used. */
static struct connection *pop_idle(struct backend *backend, uint32_t database, uint8_t protocol)
{
    for (struct connection **link = &backend->idle; *link; link = &(*link)->next_idle) {
        if ((*link)->database == database && (*link)->protocol == protocol)
            return take_idle(link);
    }
    return take_idle(&backend->idle);
}

static struct connection *take_idle(struct connection **link)
{
    struct connection *connection = *link;
    if (connection) {
        *link = connection->next_idle;
        connection->next_idle = NULL;
    }
    return connection;
}

/* The one that this client's last WAIT was on, so that a WAIT in a loop asks about the same moment each time.
 * For a client that has not written, one on which nobody else has; if there is none, one makes room for it. */
static struct connection *pop_idle_for_wait(struct backend *backend, const struct client *client)
{
    struct connection **found = NULL;
    for (struct connection **link = &backend->idle; *link && !found; link = &(*link)->next_idle) {
        if (client->written_epoch ? (*link)->marked_for == client->id : !(*link)->has_written)
            found = link;
    }
    if (found || client->written_epoch || !backend->idle)
        return take_idle(found ? found : &backend->idle);
    connection_close(take_idle(&backend->idle), OUTCOME_CUT, NULL);
    return NULL;
}

/* A master that may not be written to gets nothing, though connections to it may be idle. */
static bool may_be_served(const struct backend *backend)
{
    return backend->load->is_usable || backend->role != NODE_ROLE_MASTER;
}

static void serve_waiting(struct backend *backend)
{
    while (backend->waiting.first && may_be_served(backend)) {
        struct request *request = backend->waiting.first;
        struct client *client = request->client;
        struct connection *connection = request->is_spoiled ? NULL : backend_borrow(backend, request);
        if (!connection && !request->is_spoiled)
            return;
        request_queue_pop(&backend->waiting);
        client_unheld(client);
        request->deadline_ms = 0;
        if (connection) {
            upstream_send_dedicated(backend->upstream, connection, request);
        } else {
            request->state = REQUEST_NEW;
            client_fail(request, ERROR_TRANSACTION_LOST);
        }
        release_behind(backend, client);
    }
}

static void tick_connection(struct backend *backend, struct connection *connection)
{
    uint64_t now_ms = worker_of(backend)->now_ms;
    uint64_t deadline_ms = connection_deadline_ms(connection);
    if (connection->state == CONNECTION_CLOSED)
        return;
    if (connection->state != CONNECTION_READY && deadline_ms && now_ms >= deadline_ms) {
        connection_close(connection, OUTCOME_LOST, "no connection within upstream.connect_timeout");
        return;
    }
    if (connection->state == CONNECTION_READY && connection->queue.first)
        overdue_look(connection, "no reply in time (proxy.request_timeout, read_timeout, write_timeout)");
    if (connection->state == CONNECTION_CLOSED)
        return;
    if (connection->queue.first) {
        if (is_given_up(backend, connection))
            connection_close(connection, OUTCOME_LOST, "does not answer and is no longer fit for reads");
        return;
    }
    if (may_be_closed(backend, connection))
        connection_close(connection, OUTCOME_CUT, NULL);
}

/* A script that keeps a replica busy is let be: sent to another node, it would keep that busy as well. Where a redirect has
 * led to what was a replica it may be the master by now; but what all nodes get was meant for a replica. What was asked ahead
 * of a request may have been read with it, and is then answered with it. */
static bool is_given_up(const struct backend *backend, const struct connection *connection)
{
    const struct request *oldest = connection->queue.first;
    while (!oldest->client && oldest->next)
        oldest = oldest->next;
    if (backend->upstream->topology->is_cluster && !connection->is_readonly && !oldest->is_for_nodes)
        return false;
    bool is_script = request_is_script(oldest);
    uint64_t grace_ms = is_script ? SCRIPT_GRACE_MS : UNFIT_GRACE_MS;
    return backend->unfit_since_ms && worker_of(backend)->now_ms - backend->unfit_since_ms > grace_ms &&
           backend->role == NODE_ROLE_REPLICA && !(is_script && backend_is_busy(backend));
}

/* Nothing is on it and nobody has it. */
static bool may_be_closed(const struct backend *backend, const struct connection *connection)
{
    const struct config_upstream *config = backend->upstream->config;
    uint64_t idle_ms = worker_of(backend)->now_ms - connection->idle_since_ms;
    if (connection->state != CONNECTION_READY || connection->owner || connection->ear)
        return false;
    if (connection->is_dedicated && idle_ms > SPARE_IDLE_MS &&
        atomic_load_explicit(&backend->gauge->dedicated, memory_order_relaxed) >=
            (uint32_t)config->pool_dedicated_connections)
        return worker_of(backend)->group->count > 1;
    bool is_kept_warm = connection->is_dedicated && backend->role == NODE_ROLE_MASTER &&
                        backend->dedicated_count <= pool_warm_share(backend);
    return idle_ms > (uint64_t)config->pool_idle_time_ms && !is_kept_warm;
}

static void tick_waiting(struct backend *backend)
{
    uint64_t now_ms = worker_of(backend)->now_ms;
    if (backend->waiting.first && !may_be_served(backend)) {
        upstream_release_waiting(backend->upstream, backend);
        return;
    }
    serve_waiting(backend);
    struct request_queue waiting = backend->waiting;
    struct request_queue due = {0};
    backend->waiting = (struct request_queue){0};
    for (struct request *request; (request = request_queue_pop(&waiting));) {
        bool is_due = now_ms >= request->deadline_ms || is_over(request);
        if (is_due) {
            client_unheld(request->client);
            request->state = REQUEST_NEW;
        }
        request_queue_push(is_due ? &due : &backend->waiting, request);
    }
    for (struct request *request; (request = request_queue_pop(&due));) {
        struct client *client = request->client;
        if (!client)
            request_destroy(&worker_of(backend)->requests, &worker_of(backend)->chunks, request);
        else if (is_over(request))
            blocked_end(request);
        else
            client_fail(request, ERROR_POOL_EMPTY);
        if (client)
            release_behind(backend, client);
    }
}

/* What is held behind a request that has waited follows it. */
static void release_behind(struct backend *backend, const struct client *client)
{
    if (!client->is_closed && client->held > 0)
        upstream_retry_at(backend->upstream, worker_of(backend)->now_ms);
}

/* A blocking command that is to be sent again, and whose own time has passed. */
static bool is_over(const struct request *request) { return request->is_blocking && blocked_is_over(request); }

static bool has_ready_connection(const struct backend *backend)
{
    for (const struct connection *connection = backend->connections; connection; connection = connection->next) {
        if (connection->state == CONNECTION_READY)
            return true;
    }
    return false;
}

static void report(struct backend *backend, enum control_report_kind if_master, enum control_report_kind if_replica)
{
    struct control *control = worker_of(backend)->group->control;
    if (backend->node != TOPOLOGY_NO_NODE)
        control_report(control, backend->upstream->index, backend->role == NODE_ROLE_MASTER ? if_master : if_replica,
                       backend->name);
}
