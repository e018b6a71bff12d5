/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/again.h"

#include "proxy/client.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

static bool is_in_flight(const struct client *client);
static bool has_older_held(const struct request *request);
static void note_refusal(struct client *client, struct request *request);
static bool is_overtaken(const struct request *request, const struct request *by);
static void take_off(struct client *client, const struct request *request);
static void release(struct client *client, struct request_queue *ready);

void again_take(struct worker *worker, struct request *request)
{
    struct client *client = request->client;
    if (client && request->goes_alone)
        note_refusal(client, request);
    bool is_first = !client || (!client->again.first && !is_in_flight(client));
    if (is_first || request->is_restoring) {
        request_queue_push(&worker->reroute, request);
        return;
    }
    if (client->again.last && request_is_older(request, client->again.last))
        request_queue_insert(&client->again, request);
    else
        request_queue_push(&client->again, request);
    client->aside++;
    client->aside_writes += !request->is_read;
    client_held(client);
    again_look(client);
}

/* The time for which it may be held begins now, so that all of a pipeline end together. */
static void note_refusal(struct client *client, struct request *request)
{
    client->is_served = false;
    upstream_limit_holding(request);
}

static bool is_in_flight(const struct client *client)
{
    return client->routed > 0 || (client->dedicated && client->dedicated->queue.first);
}

bool again_is_behind(const struct request *request)
{
    const struct client *client = request->client;
    if (client->held == 0)
        return false;
    return (client->again.first && request_is_older(client->again.first, request)) || has_older_held(request);
}

/* Or may have: parts of a command do not stand in the client's list. */
static bool has_older_held(const struct request *request)
{
    const struct client *client = request->client;
    if (client->held == client->aside)
        return false;
    for (const struct request *each = client->first; each && request_is_older(each, request);
         each = each->next_of_client) {
        if (each->state == REQUEST_HELD || each->state == REQUEST_WAITING || each->state == REQUEST_SCATTERED)
            return true;
    }
    return false;
}

void again_overtaken_by(const struct request *by, enum again_effect effect)
{
    struct client *client = by->client;
    struct request_queue overtaken = {0};
    client->is_served |= by->goes_alone && effect != AGAIN_LOST;
    if (effect == AGAIN_NONE || (client->aside_writes == 0 && (by->is_read || effect == AGAIN_LOST)))
        return;
    for (struct request *request = client->again.first, *next; request && request_is_older(request, by); request = next) {
        next = request->next;
        if ((effect == AGAIN_LOST && request->is_read) || !is_overtaken(request, by))
            continue;
        request_queue_remove(&client->again, request);
        take_off(client, request);
        request_queue_push(&overtaken, request);
    }
    for (struct request *request; (request = request_queue_pop(&overtaken));) {
        if (request->client)
            client_fail(request, ERROR_OVERTAKEN);
        else
            request_destroy(&client->worker->requests, &client->worker->chunks, request);
    }
}

/* Where it matters which of them comes first. */
static bool is_overtaken(const struct request *request, const struct request *by)
{
    const struct upstream *upstream = request->client->upstream;
    if (request->is_read && by->is_read)
        return false;
    if (!upstream->is_sharded || request->place == REQUEST_PLACE_NONE || by->place == REQUEST_PLACE_NONE)
        return true;
    if (request->is_for_shard || by->is_for_shard)
        return upstream_shard_of(upstream, request) == upstream_shard_of(upstream, by);
    return request->place == by->place;
}

static void take_off(struct client *client, const struct request *request)
{
    client->aside--;
    client->aside_writes -= !request->is_read;
    client_unheld(client);
}

void again_look(struct client *client)
{
    struct worker *worker = client->worker;
    if (client->is_looked_at || client->is_closed)
        return;
    client->is_looked_at = true;
    client->next_again = worker->again_clients;
    worker->again_clients = client;
}

struct request_queue again_pop_all(struct worker *worker)
{
    struct request_queue ready = {0};
    while (worker->again_clients) {
        struct client *client = worker->again_clients;
        worker->again_clients = client->next_again;
        client->is_looked_at = false;
        release(client, &ready);
    }
    request_queue_append(&ready, &worker->reroute);
    worker->reroute = (struct request_queue){0};
    return ready;
}

/* The oldest, and those behind it that may follow it at once; not while others are on their way, or older ones held. */
static void release(struct client *client, struct request_queue *ready)
{
    bool has_one = false, is_alone = false;
    if (is_in_flight(client))
        return;
    for (struct request *request; (request = client->again.first) && !has_older_held(request);) {
        if (has_one && !client->is_served && (is_alone || request->goes_alone))
            return;
        has_one = true;
        is_alone |= request->goes_alone;
        take_off(client, request_queue_pop(&client->again));
        request_queue_push(ready, request);
    }
}

void again_fail(struct client *client, enum error error)
{
    while (!client->is_closed && client->again.first) {
        struct request *request = request_queue_pop(&client->again);
        take_off(client, request);
        client_fail(request, error);
    }
}

void again_forget(struct client *client)
{
    client->held -= client->aside;
    client->aside = client->aside_writes = 0;
    request_queue_append(&client->worker->reroute, &client->again);
}
