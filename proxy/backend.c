/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/backend.h"

#include "proxy/client.h"
#include "proxy/clock.h"
#include "proxy/control.h"
#include "proxy/log.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/backoff.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/un.h>

enum {
    UNFIT_GRACE_MS = 1000,    /* reads on a node that turned unfit are sent elsewhere after this */
    SPARE_IDLE_MS = 200,      /* at the bound, an idle dedicated connection is closed so that others may open one */
};

static bool set_address(struct backend *backend, const struct topology_node *node);
static bool reserve_dedicated(struct backend *backend);
static struct connection *pop_idle(struct backend *backend);
static void serve_waiting(struct backend *backend);
static void tick_connection(struct backend *backend, struct connection *connection);
static void tick_waiting(struct backend *backend);
static bool may_be_closed(const struct backend *backend, const struct connection *connection);
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
    backend->load = &backend->own_load;
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
    free(backend->name);
    free(backend);
}

bool backend_is_node(const struct backend *backend, const struct topology_node *node)
{
    struct backend other = {0};
    return strcmp(backend->name, node->name) == 0 && set_address(&other, node) &&
           other.address_size == backend->address_size &&
           memcmp(&other.address, &backend->address, other.address_size) == 0;
}

void backend_cut(struct backend *backend, enum outcome outcome, const char *reason)
{
    while (backend->connections)
        connection_close(backend->connections, outcome, reason);
    struct worker *worker = worker_of(backend);
    for (struct request *request; (request = request_queue_pop(&backend->waiting));) {
        client_unheld(request->client);
        request->state = REQUEST_NEW;
        request_queue_push(&worker->reroute, request);
    }
}

struct connection *backend_lane(struct backend *backend, uint32_t database, const struct client *client)
{
    uint64_t shared = (uint64_t)backend->upstream->config->pool_shared_connections;
    uint8_t lane_index = (uint8_t)(shared > 1 ? client->id % shared : 0);
    uint8_t protocol = session_protocol(&client->session);
    for (struct connection *connection = backend->connections; connection; connection = connection->next) {
        if (!connection->is_dedicated && connection->target_database == database &&
            connection->target_protocol == protocol && connection->lane_index == lane_index &&
            !connection->is_retiring)
            return connection;
    }
    struct connection *connection = connection_open(backend, database, protocol, false);
    if (!connection) {
        backend_failed(backend, strerror(errno));
        return NULL;
    }
    connection->lane_index = lane_index;
    return connection;
}

struct connection *backend_borrow(struct backend *backend, const struct request *request)
{
    struct client *client = request->client;
    uint8_t protocol = session_protocol(&client->session);
    struct connection *connection = pop_idle(backend);
    if (!connection) {
        if (!reserve_dedicated(backend))
            return NULL;
        connection = connection_open(backend, request->database, protocol, true);
        if (!connection) {
            atomic_fetch_sub_explicit(&backend->gauge->dedicated, 1, memory_order_relaxed);
            backend_failed(backend, strerror(errno));
            return NULL;
        }
    }
    uint64_t idle_ms = worker_of(backend)->now_ms - connection->idle_since_ms;
    bool is_doubtful = idle_ms > (uint64_t)backend->upstream->config->pool_health_interval_ms;
    bool must_ask = !request->is_urgent && (request->is_blocking || is_doubtful);
    connection_prepare(connection, request->database, protocol, must_ask);
    if (connection->state == CONNECTION_CLOSED)
        return NULL;
    connection->owner = client;
    client->dedicated = connection;
    if (!request->is_urgent)
        connection_name(connection, client->name ? client->name : "");
    return connection;
}

void backend_give_back(struct connection *connection)
{
    struct backend *backend = connection->backend;
    connection->owner->dedicated = NULL;
    connection->owner = NULL;
    if (connection->is_retiring || connection->is_marked || connection->state != CONNECTION_READY ||
        backend->role != NODE_ROLE_MASTER) {
        connection_close(connection, OUTCOME_CUT, NULL);
        return;
    }
    connection->idle_since_ms = worker_of(backend)->now_ms;
    connection->next_idle = backend->idle;
    backend->idle = connection;
    serve_waiting(backend);
}

void backend_succeeded(struct backend *backend)
{
    if (backend->is_reported)
        log_info("node %s: reachable again", backend->name);
    bool was_on_trial = backend->failures > 0;
    backend->is_reported = false;
    backend->failures = 0;
    backend->retry_at_ms = 0;
    backend_refresh(backend);
    if (was_on_trial)
        upstream_retry_at(backend->upstream, worker_of(backend)->now_ms);
}

void backend_failed(struct backend *backend, const char *reason)
{
    struct worker *worker = worker_of(backend);
    const struct config_upstream *config = backend->upstream->config;
    if (worker->now_ms >= backend->retry_at_ms) { /* many connections that break together are one failure */
        backend->failures++;
        backend->retry_at_ms = worker->now_ms + backoff_ms(backend->failures, (uint64_t)config->retry_base_delay_ms,
                                                           (uint64_t)config->retry_max_delay_ms, &worker->seed);
    }
    if (!backend->is_reported)
        log_warning("node %s: %s; %s", backend->name, reason,
                    backend->role == NODE_ROLE_MASTER ? "writes wait until it is confirmed or replaced"
                                                      : "reads go to other nodes");
    backend->is_reported = true;
    backend_suspect(backend);
}

void backend_refused(struct backend *backend, enum refusal refusal)
{
    static const char *const words[] = {"", "READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED"};
    if (!backend->is_reported)
        log_warning("node %s: answered %s; asking who is master", backend->name, words[refusal]);
    backend->is_reported = true;
    backend->failures++;
    struct worker *worker = worker_of(backend);
    backend->retry_at_ms = worker->now_ms +
                           backoff_ms(backend->failures, (uint64_t)backend->upstream->config->retry_base_delay_ms,
                                      (uint64_t)backend->upstream->config->retry_max_delay_ms, &worker->seed);
    backend->lost_us = clock_us();
    report(backend, REPORT_MASTER_REFUSED, REPORT_REPLICA_REFUSED);
    backend_refresh(backend);
    upstream_retry_at(backend->upstream, backend->retry_at_ms);
}

void backend_suspect(struct backend *backend)
{
    backend->lost_us = clock_us();
    report(backend, REPORT_MASTER_LOST, REPORT_REPLICA_LOST);
    backend_refresh(backend);
    if (backend->retry_at_ms)
        upstream_retry_at(backend->upstream, backend->retry_at_ms);
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
    if (!connection->is_dedicated)
        return;
    for (struct connection **link = &backend->idle; *link; link = &(*link)->next_idle) {
        if (*link == connection) {
            *link = connection->next_idle;
            break;
        }
    }
    atomic_fetch_sub_explicit(&backend->gauge->dedicated, 1, memory_order_relaxed);
}

void backend_refresh(struct backend *backend)
{
    const struct upstream *upstream = backend->upstream;
    bool is_usable = backend->node != TOPOLOGY_NO_NODE && worker_of(backend)->now_ms >= backend->retry_at_ms;
    if (backend->failures > 0 && backend->connections && !has_ready_connection(backend))
        is_usable = false; /* a trial is under way */
    if (is_usable && backend->role == NODE_ROLE_MASTER)
        is_usable = backend->lost_us < upstream->topology->shards[0].confirmed_us;
    backend->load->is_usable = is_usable;
}

void backend_tick(struct backend *backend)
{
    for (struct connection *connection = backend->connections, *next; connection; connection = next) {
        next = connection->next;
        tick_connection(backend, connection);
    }
    tick_waiting(backend);
    backend_refresh(backend);
}

static bool set_address(struct backend *backend, const struct topology_node *node)
{
    memset(&backend->address, 0, sizeof backend->address);
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

static struct connection *pop_idle(struct backend *backend)
{
    struct connection *connection = backend->idle;
    if (connection) {
        backend->idle = connection->next_idle;
        connection->next_idle = NULL;
    }
    return connection;
}

static void serve_waiting(struct backend *backend)
{
    while (backend->waiting.first) {
        struct request *request = backend->waiting.first;
        struct client *client = request->client;
        struct connection *connection = backend_borrow(backend, request);
        if (!connection)
            return;
        request_queue_pop(&backend->waiting);
        client_unheld(client);
        connection_queue(connection, request);
        request->hold_deadline_ms = 0;
        if (client->held > 0)
            upstream_retry_at(backend->upstream, worker_of(backend)->now_ms); /* what is held behind it follows */
    }
}

static void tick_connection(struct backend *backend, struct connection *connection)
{
    uint64_t now_ms = worker_of(backend)->now_ms;
    uint64_t deadline_ms = connection_deadline_ms(connection);
    if (connection->state == CONNECTION_CLOSED)
        return;
    if (deadline_ms && now_ms >= deadline_ms) {
        if (connection->state == CONNECTION_READY)
            connection_close(connection, OUTCOME_TIMED_OUT, "no reply within proxy.request_timeout");
        else
            connection_close(connection, OUTCOME_LOST, "no connection within upstream.connect_timeout");
        return;
    }
    if (connection->queue.first) {
        if (backend->unfit_since_ms && now_ms - backend->unfit_since_ms > UNFIT_GRACE_MS &&
            backend->role == NODE_ROLE_REPLICA)
            connection_close(connection, OUTCOME_LOST, "does not answer and is no longer fit for reads");
        return;
    }
    if (may_be_closed(backend, connection))
        connection_close(connection, OUTCOME_CUT, NULL);
}

/* Nothing is on it and nobody has it. */
static bool may_be_closed(const struct backend *backend, const struct connection *connection)
{
    const struct config_upstream *config = backend->upstream->config;
    uint64_t idle_ms = worker_of(backend)->now_ms - connection->idle_since_ms;
    if (connection->state != CONNECTION_READY || connection->owner)
        return false;
    if (connection->is_dedicated && idle_ms > SPARE_IDLE_MS &&
        atomic_load_explicit(&backend->gauge->dedicated, memory_order_relaxed) >=
            (uint32_t)config->pool_dedicated_connections)
        return worker_of(backend)->group->count > 1;
    return idle_ms > (uint64_t)config->pool_idle_time_ms;
}

static void tick_waiting(struct backend *backend)
{
    uint64_t now_ms = worker_of(backend)->now_ms;
    serve_waiting(backend);
    struct request_queue waiting = backend->waiting;
    struct request_queue due = {0};
    backend->waiting = (struct request_queue){0};
    for (struct request *request; (request = request_queue_pop(&waiting));) {
        bool is_due = now_ms >= request->hold_deadline_ms;
        if (is_due) {
            client_unheld(request->client);
            request->state = REQUEST_NEW;
        }
        request_queue_push(is_due ? &due : &backend->waiting, request);
    }
    for (struct request *request; (request = request_queue_pop(&due));) {
        if (request->client)
            client_fail(request, ERROR_POOL_EMPTY);
        else
            request_destroy(&worker_of(backend)->requests, &worker_of(backend)->chunks, request);
    }
}

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
