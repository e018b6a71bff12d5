/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/again.h"

#include "proxy/client.h"
#include "proxy/worker.h"

static bool is_overtaken(const struct request *request, const struct request *by);
static void take_off(struct request *request);
static void note_refusal(struct client *client, struct request *request);
static void release(struct worker *worker, struct request_queue *ready);
static bool may_go(const struct request *request);

void again_take(struct worker *worker, struct request *request)
{
    struct client *client = request->client;
    if (client && request->goes_alone)
        note_refusal(client, request);
    bool is_first = !client || (client->aside == 0 && client->routed == 0);
    if (is_first || request->is_restoring) {
        request_queue_push(&worker->reroute, request);
        return;
    }
    client_queue_held(&worker->aside, request);
    client_held(client);
    client->aside++;
    worker->is_aside_ready |= client->routed == 0;
}

/* The time for which it may be held begins now, so that all of a pipeline end together. */
static void note_refusal(struct client *client, struct request *request)
{
    client->is_served = false;
    if (!request->hold_deadline_ms)
        request->hold_deadline_ms =
            client->worker->now_ms + (uint64_t)client->upstream->config->failover_hold_time_ms;
}

void again_overtaken_by(const struct request *by)
{
    struct client *client = by->client;
    struct request_queue *aside = &client->worker->aside;
    struct request_queue overtaken = {0};
    client->is_served |= by->goes_alone;
    for (struct request *request = aside->first, *next; request; request = next) {
        next = request->next;
        if (request->client != client || !is_overtaken(request, by))
            continue;
        request_queue_remove(aside, request);
        take_off(request);
        request_queue_push(&overtaken, request);
    }
    for (struct request *request; (request = request_queue_pop(&overtaken));) {
        if (request->client)
            client_fail(request, ERROR_OVERTAKEN);
        else
            request_destroy(&client->worker->requests, &client->worker->chunks, request);
    }
}

static bool is_overtaken(const struct request *request, const struct request *by)
{
    if ((request->is_read && by->is_read) || !request_is_older(request, by))
        return false;
    bool is_anywhere = request->is_for_shard || by->is_for_shard || request->place == REQUEST_PLACE_NONE ||
                       by->place == REQUEST_PLACE_NONE;
    return is_anywhere || request->place == by->place || !request->client->upstream->is_sharded;
}

static void take_off(struct request *request)
{
    request->client->aside--;
    client_unheld(request->client);
}

bool again_is_behind(const struct request *request)
{
    const struct client *client = request->client;
    return client->held > client->aside ||
           (client->aside > 0 && (int32_t)(request->order - client->held_oldest) > 0);
}

void again_look(struct worker *worker) { worker->is_aside_ready = true; }

struct request_queue again_pop_all(struct worker *worker)
{
    struct request_queue ready = {0};
    if (worker->is_aside_ready)
        release(worker, &ready);
    request_queue_append(&ready, &worker->reroute);
    worker->reroute = (struct request_queue){0};
    return ready;
}

/* Of each client the oldest, and those behind it that may follow it at once. */
static void release(struct worker *worker, struct request_queue *ready)
{
    struct request_queue all = worker->aside;
    worker->aside = (struct request_queue){0};
    worker->is_aside_ready = false;
    for (struct request *request; (request = request_queue_pop(&all));) {
        bool is_ready = !request->client || may_go(request);
        request_queue_push(is_ready ? ready : &worker->aside, request);
        if (is_ready && request->client) {
            request->client->held_oldest = request->order; /* what is older has gone */
            take_off(request);
        }
    }
    for (struct request *request = ready->first; request; request = request->next) {
        if (request->client)
            request->client->is_led = request->client->is_led_alone = false;
    }
}

/* Not while others of its client are on their way, or held: these are older. */
static bool may_go(const struct request *request)
{
    struct client *client = request->client;
    if (client->routed > 0 || client->held > client->aside)
        return false;
    if (client->is_led && !client->is_served && (client->is_led_alone || request->goes_alone))
        return false;
    client->is_led = true;
    client->is_led_alone |= request->goes_alone;
    return true;
}
