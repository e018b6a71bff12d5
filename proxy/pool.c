/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/pool.h"

#include "proxy/backend.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/pooling.h"

static void note_change(struct backend *backend);
static bool is_fit(const struct backend *backend);
static bool is_of_use(const struct backend *backend);
static void fill_lanes(struct backend *backend);
static void fill_warm(struct backend *backend);
static void retire(struct backend *backend, struct connection *connection);

static struct worker *worker_of(const struct backend *backend) { return backend->upstream->worker; }

void pool_fill(struct backend *backend)
{
    note_change(backend);
    if (worker_of(backend)->is_draining || !backend->load->is_usable || !is_of_use(backend))
        return;
    if (backend->wants_lanes && worker_of(backend)->now_ms >= backend->lanes_at_ms)
        fill_lanes(backend);
    if (backend->role == NODE_ROLE_MASTER && backend->dedicated_count < pool_warm_share(backend))
        fill_warm(backend);
}

void pool_retire(struct backend *backend)
{
    for (struct connection *connection = backend->connections, *next; connection; connection = next) {
        next = connection->next;
        if (connection->state == CONNECTION_READY && !connection->is_retiring && !connection->owner && !connection->ear &&
            pool_is_old(connection))
            retire(backend, connection);
    }
}

bool pool_may_connect(const struct backend *backend)
{
    return pooling_may_connect(atomic_load_explicit(&backend->gauge->connecting, memory_order_relaxed));
}

bool pool_is_old(const struct connection *connection)
{
    return connection->retire_at_ms && worker_of(connection->backend)->now_ms >= connection->retire_at_ms;
}

uint32_t pool_warm_share(const struct backend *backend)
{
    const struct worker *worker = worker_of(backend);
    uint32_t total = (uint32_t)backend->upstream->config->pool_warm_connections;
    return total ? pooling_share(total, worker->group->count, worker->index) : 0;
}

/* A node that was out of reach, or has another role, has most likely lost those that it had. */
static void note_change(struct backend *backend)
{
    backend->wants_lanes |= !is_fit(backend) || backend->role != backend->lanes_role;
    backend->lanes_role = backend->role;
}

static bool is_fit(const struct backend *backend)
{
    return backend->node != TOPOLOGY_NO_NODE && backend->upstream->topology->nodes[backend->node].is_fit;
}

static bool is_of_use(const struct backend *backend)
{
    return is_fit(backend) &&
           (backend->role == NODE_ROLE_MASTER || backend->upstream->config->reads_policy != READS_MASTER);
}

/* One alone while it is not known whether the node is well again; a node at its maxclients says so when it is asked. */
static void fill_lanes(struct backend *backend)
{
    bool is_on_trial = backend->is_failing;
    uint32_t count = is_on_trial ? 1 : (uint32_t)backend->upstream->config->pool_shared_connections;
    backend->wants_lanes = is_on_trial;
    for (uint32_t i = 0; i < count && backend->load->is_usable; i++) {
        struct connection *connection = backend_open_lane(backend, (uint16_t)i);
        if (connection && connection->state != CONNECTION_READY && !connection->queue.first)
            connection_ask(connection, &SLICE("PING"), 1, QUESTION_NONE);
    }
    backend_refresh(backend);
}

/* One at a time, so that clients come first. */
static void fill_warm(struct backend *backend)
{
    if (pool_may_connect(backend))
        backend_open_idle(backend);
}

static void retire(struct backend *backend, struct connection *connection)
{
    bool is_lane = !connection->is_dedicated && connection->target_database == 0 && connection->lane == LANE_ORDINARY;
    bool is_in_use = connection->queue.first != NULL ||
                     worker_of(backend)->now_ms - connection->idle_since_ms < (uint64_t)backend->upstream->config->pool_idle_time_ms;
    backend->wants_lanes |= is_lane && is_in_use;
    connection->is_retiring = true;
    if (!connection->queue.first)
        connection_close(connection, OUTCOME_CUT, NULL);
}
