/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/again.h"

#include "proxy/client.h"
#include "proxy/worker.h"

static bool is_overtaken(const struct request *request, const struct request *by);
static void take_off(struct request *request);
static void release(struct worker *worker, struct request_queue *ready);

void again_take(struct worker *worker, struct request *request)
{
    struct client *client = request->client;
    bool is_first = !client || (client->aside == 0 && client->routed == 0);
    if (is_first || request->is_restoring) {
        request_queue_push(&worker->reroute, request);
        return;
    }
    client->aside++;
    client_held(client);
    request_queue_push(&worker->aside, request);
    worker->is_aside_ready |= client->routed == 0;
}

void again_overtaken_by(const struct request *by)
{
    struct client *client = by->client;
    struct request_queue *aside = &client->worker->aside;
    struct request_queue overtaken = {0};
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

/* Parts of one command are in no order. */
static bool is_overtaken(const struct request *request, const struct request *by)
{
    if ((request->is_read && by->is_read) || (request->is_piece && by->is_piece && request->scatter == by->scatter))
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

static void release(struct worker *worker, struct request_queue *ready)
{
    struct request_queue all = worker->aside;
    worker->aside = (struct request_queue){0};
    worker->is_aside_ready = false;
    for (struct request *request; (request = request_queue_pop(&all));) {
        bool is_ready = !request->client || request->client->routed == 0;
        request_queue_push(is_ready ? ready : &worker->aside, request);
        if (is_ready && request->client)
            take_off(request);
    }
}
