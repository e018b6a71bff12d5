/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/request.h"

#include "proxy/touch.h"

#include <assert.h>

enum {
    SETTLE_BELOW_BYTES = 16384,
};

void request_pool_finish(struct request_pool *pool)
{
    slab_pool_finish(&pool->slabs);
    slab_pool_finish(&pool->touches);
    slab_pool_finish(&pool->scatters);
}

struct request *request_create(struct request_pool *pool) { return request_create_as(pool, &(struct request){0}); }

struct request *request_create_as(struct request_pool *pool, const struct request *traits)
{
    struct request *request = slab_take(&pool->slabs, sizeof *request);
    if (request)
        *request = *traits;
    return request;
}

void request_destroy(struct request_pool *pool, struct chunk_pool *chunks, struct request *request)
{
    chunk_release(chunks, request->chunk);
    if (request->reply.first)
        spans_clear(chunks, &request->reply);
    if (request->touches)
        request_give_touches(pool, request->touches);
    slab_give(&pool->slabs, request);
}

struct touches *request_take_touches(struct request_pool *pool)
{
    struct touches *touches = slab_take(&pool->touches, sizeof *touches);
    if (touches) {
        touches->next = NULL;
        touches->count = 0;
    }
    return touches;
}

void request_give_touches(struct request_pool *pool, struct touches *touches)
{
    while (touches) {
        struct touches *next = touches->next;
        slab_give(&pool->touches, touches);
        touches = next;
    }
}

bool request_settle(struct chunk_pool *chunks, struct request *request)
{
    if (!request->chunk || request->chunk->is_private || request->size >= SETTLE_BELOW_BYTES)
        return true;
    struct chunk *copy = chunk_copy((struct slice){request->bytes, request->size});
    if (!copy)
        return false;
    chunk_release(chunks, request->chunk);
    request->chunk = copy;
    request->bytes = copy->bytes;
    return true;
}

/* The names that are undone already are not among those that an undoing of all is confirmed for. */
void request_restart_subscription(struct request *request)
{
    if (request->undoes_all)
        request->subscriptions = 0;
    else if (request->known_confirmations < request->confirmations)
        request->known_confirmations = request->confirmations;
    request->confirmations = 0;
}

void request_queue_push(struct request_queue *queue, struct request *request)
{
    request->next = NULL;
    if (queue->last)
        queue->last->next = request;
    else
        queue->first = request;
    queue->last = request;
}

void request_queue_push_front(struct request_queue *queue, struct request *request)
{
    request->next = queue->first;
    queue->first = request;
    if (!queue->last)
        queue->last = request;
}

void request_queue_insert(struct request_queue *queue, struct request *request)
{
    struct request *previous = NULL, *next = queue->first;
    while (next && (next->client != request->client || !request_is_older(request, next))) {
        previous = next;
        next = next->next;
    }
    if (!next) {
        request_queue_push(queue, request);
    } else if (!previous) {
        request_queue_push_front(queue, request);
    } else {
        request->next = next;
        previous->next = request;
    }
}

void request_queue_append(struct request_queue *queue, struct request_queue *more)
{
    if (!more->first)
        return;
    if (queue->last)
        queue->last->next = more->first;
    else
        queue->first = more->first;
    queue->last = more->last;
    *more = (struct request_queue){0};
}

struct request *request_queue_pop(struct request_queue *queue)
{
    struct request *request = queue->first;
    if (request) {
        queue->first = request->next;
        if (!queue->first)
            queue->last = NULL;
        request->next = NULL;
    }
    return request;
}

void request_queue_replace(struct request_queue *queue, struct request *request, struct request *by)
{
    struct request **link = &queue->first;
    while (*link != request) {
        assert(*link);
        link = &(*link)->next;
    }
    *link = by;
    by->next = request->next;
    if (queue->last == request)
        queue->last = by;
    request->next = NULL;
}

void request_queue_remove(struct request_queue *queue, struct request *request)
{
    struct request **link = &queue->first;
    struct request *previous = NULL;
    while (*link != request) {
        assert(*link);
        previous = *link;
        link = &previous->next;
    }
    *link = request->next;
    if (queue->last == request)
        queue->last = previous;
    request->next = NULL;
}
