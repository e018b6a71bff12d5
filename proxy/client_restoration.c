/* SPDX-License-Identifier: BSD-2-Clause */
/* A client whose connection of its own is gone, and with it what the session had begun there. */
#include "proxy/client.h"

#include "proxy/again.h"
#include "proxy/connection.h"
#include "proxy/ears.h"
#include "proxy/log.h"
#include "proxy/placement.h"
#include "proxy/tracking.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#include <stdlib.h>

static void restore(struct client *client);
static bool awaits_monitor(const struct client *client);

void client_lost_dedicated(struct client *client, bool had_session, bool transaction_survives)
{
    struct session *session = &client->session;
    if (had_session && !tracking_lost(client))
        return;
    bool in_multi = session->in_multi;
    session->in_multi &= !transaction_survives;
    if (had_session)
        session_lost_connection(session);
    session->in_multi = in_multi;
    if (transaction_survives && client->is_bound) {
        client->home_place = client->bound_place;
        client->has_home = client->bound_place != REQUEST_PLACE_NONE;
    }
    client_cancel_restoration(client);
    if (client->session.is_lost)
        restore(client);
    else
        client_unstall(client); /* what the proxy itself asked there is over, too */
    if (client->aside > 0)
        again_look(client);
}

/* Ahead of all that the client has sent: it goes to the front of each queue that it comes to. */
static void restore(struct client *client)
{
    struct worker *worker = client->worker;
    const struct session *session = &client->session;
    bool has_monitor = !awaits_monitor(client);
    struct session_restoration restoration = session_restore(session, has_monitor, NULL);
    if (restoration.replies == 0) {
        session_restored(&client->session);
        client_unstall(client);
        return;
    }
    struct chunk *chunk = chunk_create_sized(restoration.bytes);
    struct request *request = chunk ? request_create(&worker->requests) : NULL;
    if (!request) {
        chunk_release(&worker->chunks, chunk);
        client_close(client, "out of memory");
        return;
    }
    session_restore(session, has_monitor, chunk->bytes);
    chunk->filled = restoration.bytes;
    request->client = client;
    request->chunk = chunk;
    request->bytes = chunk->bytes;
    request->size = chunk->filled;
    request->subscriptions = restoration.replies;
    request->timeout_ms = (uint32_t)client->worker->group->config->request_timeout_ms;
    request->database = client->database;
    request->place = client->upstream->is_sharded && client->has_home ? client->home_place : REQUEST_PLACE_NONE;
    request->needs_dedicated = true;
    request->is_restoring = true;
    request->is_read = true;
    client->restoring = request;
    request_queue_push_front(&worker->reroute, request);
}

/* MONITOR that was not answered is sent again itself: its reply is the client's. */
static bool awaits_monitor(const struct client *client)
{
    const struct request *request = client->first;
    while (request && (request->inspection != INSPECT_MONITOR || request->state == REQUEST_ANSWERED))
        request = request->next_of_client;
    return request != NULL;
}

void client_cancel_restoration(struct client *client)
{
    struct worker *worker = client->worker;
    struct request *request = client->restoring;
    client->restoring = NULL;
    if (!request)
        return;
    if (request->state == REQUEST_HELD || request->state == REQUEST_WAITING) {
        upstream_forget(client->upstream, request);
        client_unheld(client);
        request_destroy(&worker->requests, &worker->chunks, request);
    } else {
        request->client = NULL; /* whoever has it in a queue frees it */
    }
}

void client_restored(struct client *client)
{
    log_debug("client %llu: its subscriptions are restored", (unsigned long long)client->id);
    client->restoring = NULL;
    session_restored(&client->session);
    client_unstall(client);
    if (client->aside > 0)
        again_look(client); /* it may have waited for this connection to have nothing on it */
}

void client_reset_session(struct client *client)
{
    scripts_forget_queued(client);
    placement_forget(client);
    ears_forget(client);
    client->has_home = false;
    client_cancel_restoration(client);
    if (client->dedicated) {
        struct connection *dedicated = client->dedicated;
        client->dedicated = NULL;
        connection_abandon(dedicated);
    }
    session_finish(&client->session);
}
