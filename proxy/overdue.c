/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/overdue.h"

#include "proxy/backend.h"
#include "proxy/connection.h"
#include "proxy/worker.h"

#include <assert.h>

static bool must_close(const struct connection *connection, uint64_t now_ms);
static void give_up(struct connection *connection, uint64_t now_ms);
static bool is_anybodys(const struct connection *connection);

static bool is_due(const struct request *request, uint64_t now_ms)
{
    return request->deadline_ms && now_ms >= request->deadline_ms;
}

void overdue_look(struct connection *connection, const char *reason)
{
    const struct worker *worker = connection->backend->upstream->worker;
    const struct config *config = worker->group->config;
    assert(connection->queue.first);
    bool is_mixed = config_timeout_ms(config, true) != config_timeout_ms(config, false);
    if (!is_mixed || connection->is_dedicated) {
        if (is_due(connection->queue.first, worker->now_ms))
            connection_close(connection, OUTCOME_TIMED_OUT, reason);
        return;
    }
    if (!must_close(connection, worker->now_ms))
        give_up(connection, worker->now_ms);
    if (connection->state != CONNECTION_CLOSED && (must_close(connection, worker->now_ms) || !is_anybodys(connection)))
        connection_close(connection, OUTCOME_TIMED_OUT, reason);
}

/* The oldest is due and no write of another client is spared by going on; or what is due cannot be taken out: part of
 * its reply has come, or it is not written. */
static bool must_close(const struct connection *connection, uint64_t now_ms)
{
    const struct request *oldest = connection->queue.first;
    bool is_sent = true, spares_write = false, is_stuck = false;
    for (const struct request *request = oldest; request; request = request->next) {
        is_sent &= request != connection->unsent;
        bool request_is_due = is_due(request, now_ms);
        spares_write |= is_sent && !request->is_read && request->client && !request_is_due;
        is_stuck |= request_is_due && (!is_sent || request->is_streaming || request->reply.first);
    }
    return is_stuck || (is_due(oldest, now_ms) && !spares_write);
}

static void give_up(struct connection *connection, uint64_t now_ms)
{
    for (struct request *request = connection->queue.first, *next; request; request = next) {
        if (connection->state == CONNECTION_CLOSED)
            return;
        next = request->next;
        if (!request->client || !is_due(request, now_ms))
            continue;
        connection->is_retiring = true;
        connection_give_up(connection, request);
    }
}

static bool is_anybodys(const struct connection *connection)
{
    for (const struct request *request = connection->queue.first; request; request = request->next) {
        if (request->deadline_ms != UINT64_MAX)
            return true;
    }
    return false;
}
