/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/again.h"

#include "proxy/client.h"
#include "proxy/connection.h"
#include "proxy/scatter.h"
#include "proxy/tally.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

enum { TALLIED_FROM = 64 }; /* requests in flight, from which on it is less to count than to look at all */

static bool is_worth_looking(const struct client *client, tally_question *question, const struct request *request);
static bool is_in_flight(const struct client *client);
static bool has_older_held(const struct request *request);
static void note_refusal(struct client *client, struct request *request);
static bool was_overtaken(const struct request *request);
static bool has_overtaken(const struct request *by, const struct request *request);
static bool matters(const struct request *request, const struct request *by);
static bool is_in_its_way(const struct request *other, const struct request *request);
static bool is_elsewhere(const struct request *other, const struct request *request);
static bool is_any(const struct request *in_list, again_test *test, const struct request *request);
static void take_off(struct client *client, const struct request *request);
static bool may_go(const struct client *client, const struct request *request);
static void release(struct client *client, struct request_queue *ready);

void again_take(struct worker *worker, struct request *request)
{
    struct client *client = request->client;
    if (client && request->goes_alone)
        note_refusal(client, request);
    request->is_overtaken = client && was_overtaken(request);
    bool is_first = !client || (!client->again.first && !is_in_flight(client) && !request->is_overtaken);
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
    if (client->tally)
        tally_set_aside(request);
    client_held(client);
    again_look(client);
}

/* The time for which it may be held begins now, so that all of a pipeline end together. */
static void note_refusal(struct client *client, struct request *request)
{
    client->is_served = false;
    upstream_limit_holding(request);
}

/* False if nobody of the client can be what is looked for, as far as that is known without a look. */
static bool is_worth_looking(const struct client *client, tally_question *question, const struct request *request)
{
    if (!client->tally && client->inflight >= TALLIED_FROM && client->upstream->is_sharded)
        tally_create(client->first->client);
    return !client->tally || question(client, request);
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

bool again_is_barred(const struct client *client, const struct request *request)
{
    if (!is_worth_looking(client, tally_has_elsewhere, request))
        return false;
    for (const struct request *each = client->first; each; each = each->next_of_client) {
        if (is_any(each, is_elsewhere, request))
            return true;
    }
    return false;
}

/* In flight to another shard than the request goes to, though it ought to be done before that. */
static bool is_elsewhere(const struct request *other, const struct request *request)
{
    if (other->state != REQUEST_QUEUED || !other->connection)
        return false;
    const struct upstream *upstream = other->client->upstream;
    return other->connection->backend->shard != upstream_shard_of(upstream, request) &&
           again_is_order(upstream, other, request);
}

/* Before the request was refused: what came behind it was quicker, elsewhere. */
static bool was_overtaken(const struct request *request)
{
    if (!is_worth_looking(request->client, tally_has_overtaken, request))
        return false;
    for (const struct request *each = request->is_piece ? request->client->first : request->next_of_client; each;
         each = each->next_of_client) {
        if (request_is_older(request, each) && is_any(each, has_overtaken, request))
            return true;
    }
    return false;
}

static bool has_overtaken(const struct request *by, const struct request *request)
{
    return by->state == REQUEST_ANSWERED && matters(request, by);
}

/* A request of the client's list, or any of its pieces. */
static bool is_any(const struct request *in_list, again_test *test, const struct request *request)
{
    return in_list->scatter ? scatter_is_any(in_list, test, request) : test(in_list, request);
}

void again_overtaken_by(const struct request *by)
{
    struct client *client = by->client;
    struct request_queue overtaken = {0};
    enum again_effect effect = (enum again_effect)by->effect;
    client->is_served |= by->goes_alone && effect != AGAIN_LOST;
    if (effect == AGAIN_NONE || (client->aside_writes == 0 && (by->is_read || effect == AGAIN_LOST)))
        return;
    if (client->tally && !tally_has_aside(client, by))
        return;
    for (struct request *request = client->again.first, *next; request && request_is_older(request, by); request = next) {
        next = request->next;
        if (!matters(request, by))
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

/* That the one was done, or may have been, and the other was not: that a write is lost is of no interest to a read. */
static bool matters(const struct request *request, const struct request *by)
{
    if (by->effect == AGAIN_NONE || (by->effect == AGAIN_LOST && request->is_read))
        return false;
    return again_is_order(request->client->upstream, request, by);
}

bool again_is_order(const struct upstream *upstream, const struct request *request, const struct request *other)
{
    if (request->is_read && other->is_read)
        return false;
    if (!upstream->is_sharded || request->place == REQUEST_PLACE_NONE || other->place == REQUEST_PLACE_NONE)
        return true;
    if (request->is_for_shard || other->is_for_shard)
        return upstream_shard_of(upstream, request) == upstream_shard_of(upstream, other);
    return request->place == other->place;
}

static void take_off(struct client *client, const struct request *request)
{
    client->aside--;
    client->aside_writes -= !request->is_read;
    if (client->tally)
        tally_take_up(request);
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

/* The oldest, and those behind it that may follow it at once; not while older ones are held. */
static void release(struct client *client, struct request_queue *ready)
{
    bool has_one = false, is_alone = false;
    for (struct request *request; !client->is_closed && (request = client->again.first);) {
        if (request->is_overtaken) {
            take_off(client, request_queue_pop(&client->again));
            client_fail(request, ERROR_OVERTAKEN);
            continue;
        }
        if (has_older_held(request) || !may_go(client, request))
            return;
        if (has_one && !client->is_served && (is_alone || request->goes_alone))
            return;
        has_one = true;
        is_alone |= request->goes_alone;
        take_off(client, request_queue_pop(&client->again));
        request_queue_push(ready, request);
    }
}

/* Nothing on its way must come before it, nor what goes alone before any. */
static bool may_go(const struct client *client, const struct request *request)
{
    if (!is_in_flight(client))
        return true;
    if (request->goes_alone || request->needs_dedicated || client->dedicated)
        return false;
    if (!is_worth_looking(client, tally_has_queued, request))
        return true;
    for (const struct request *each = client->first; each; each = each->next_of_client) {
        if (is_any(each, is_in_its_way, request))
            return false;
    }
    return true;
}

static bool is_in_its_way(const struct request *other, const struct request *request)
{
    return other->state == REQUEST_QUEUED && again_is_order(other->client->upstream, other, request);
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
