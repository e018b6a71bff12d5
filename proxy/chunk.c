/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/chunk.h"

#include "proxy/memory.h"

#include <assert.h>
#include <stdlib.h>

enum {
    FREE_CHUNKS_KEPT = 64,     /* 4 MiB a worker; more goes back to the allocator */
    FREE_CHUNKS_AT_REST = 8,
    SETTLE_BELOW_BYTES = 8192, /* a shared chunk is not kept alive for less than this */
    KEPT_BYTES = 16384,        /* what is kept piece by piece is put into chunks of so many bytes */
};

static struct chunk *pop_free(struct chunk_pool *pool);
static size_t size_of(const struct chunk *chunk);
static struct span *span_create(struct chunk_pool *pool);
static void span_destroy(struct chunk_pool *pool, struct span *span);
static struct span *settle_run(struct chunk_pool *pool, struct span *first, size_t bytes, const struct span *end);
static bool is_settled(const struct span *span);

void chunk_pool_init(struct chunk_pool *pool) { *pool = (struct chunk_pool){0}; }

void chunk_pool_finish(struct chunk_pool *pool)
{
    chunk_release(pool, pool->intake);
    while (pool->free_chunks) {
        struct chunk *next = pool->free_chunks->next_free;
        free(pool->free_chunks);
        pool->free_chunks = next;
    }
    slab_pool_finish(&pool->spans);
    *pool = (struct chunk_pool){0};
}

void chunk_pool_rest(struct chunk_pool *pool)
{
    for (uint32_t left = pool->least_free; left > 0 && pool->free_chunk_count > FREE_CHUNKS_AT_REST; left--)
        free(pop_free(pool));
    pool->least_free = pool->free_chunk_count;
}

struct chunk *chunk_create(struct chunk_pool *pool)
{
    struct chunk *chunk = pool->free_chunks ? pop_free(pool) : NULL;
    if (chunk) {
        chunk->references = 1;
        chunk->filled = 0;
        memory_taken(size_of(chunk));
        return chunk;
    }
    chunk = chunk_create_sized(CHUNK_SIZE - sizeof(struct chunk));
    if (chunk)
        chunk->is_private = false;
    return chunk;
}

static struct chunk *pop_free(struct chunk_pool *pool)
{
    struct chunk *chunk = pool->free_chunks;
    pool->free_chunks = chunk->next_free;
    if (--pool->free_chunk_count < pool->least_free)
        pool->least_free = pool->free_chunk_count;
    return chunk;
}

struct chunk *chunk_create_sized(size_t capacity)
{
    struct chunk *chunk = malloc(sizeof *chunk + capacity);
    if (chunk) {
        memory_taken(sizeof *chunk + capacity);
        chunk->references = 1;
        chunk->is_private = true;
        chunk->capacity = capacity;
        chunk->filled = 0;
        chunk->next_free = NULL;
    }
    return chunk;
}

static size_t size_of(const struct chunk *chunk) { return sizeof *chunk + chunk->capacity; }

struct chunk *chunk_copy(struct slice bytes)
{
    struct chunk *chunk = chunk_create_sized(bytes.size);
    if (chunk && bytes.size) {
        memcpy(chunk->bytes, bytes.bytes, bytes.size);
        chunk->filled = bytes.size;
    }
    return chunk;
}

void chunk_free(struct chunk_pool *pool, struct chunk *chunk)
{
    memory_given(size_of(chunk));
    if (chunk->is_private || pool->free_chunk_count >= FREE_CHUNKS_KEPT) {
        free(chunk);
        return;
    }
    chunk->next_free = pool->free_chunks;
    pool->free_chunks = chunk;
    pool->free_chunk_count++;
}

struct chunk *chunk_pool_intake(struct chunk_pool *pool, size_t room)
{
    if (pool->intake && pool->intake->references == 1)
        pool->intake->filled = 0;
    if (pool->intake && chunk_room(pool->intake) >= room)
        return pool->intake;

    struct chunk *fresh = chunk_create(pool);
    if (!fresh)
        return NULL;
    chunk_release(pool, pool->intake);
    pool->intake = fresh;
    return fresh;
}

bool spans_add(struct chunk_pool *pool, struct spans *spans, struct chunk *chunk, const char *bytes, size_t size)
{
    if (size == 0)
        return true;
    struct span *last = spans->last;
    if (last && chunk && last->chunk == chunk && last->bytes + last->size == bytes) {
        last->size += size;
        spans->bytes += size;
        return true;
    }
    struct span *span = span_create(pool);
    if (!span)
        return false;
    span->next = NULL;
    span->chunk = chunk ? chunk_take(chunk) : NULL;
    span->bytes = bytes;
    span->size = size;
    if (last)
        last->next = span;
    else
        spans->first = span;
    spans->last = span;
    spans->bytes += size;
    return true;
}

bool spans_add_copy(struct chunk_pool *pool, struct spans *spans, struct slice bytes)
{
    if (bytes.size > SETTLE_BELOW_BYTES) {
        struct chunk *chunk = chunk_copy(bytes);
        bool is_added = chunk && spans_add(pool, spans, chunk, chunk->bytes, bytes.size);
        chunk_release(pool, chunk);
        return is_added;
    }
    struct chunk *intake = chunk_pool_intake(pool, bytes.size);
    if (!intake)
        return false;
    char *at = intake->bytes + intake->filled;
    memcpy(at, bytes.bytes, bytes.size);
    intake->filled += bytes.size;
    return spans_add(pool, spans, intake, at, bytes.size);
}

bool spans_add_kept(struct chunk_pool *pool, struct spans *spans, struct slice bytes)
{
    struct chunk *last = spans->last ? spans->last->chunk : NULL;
    bool has_room = last && last->is_private && last->references == 1 && chunk_room(last) >= bytes.size &&
                    spans->last->bytes + spans->last->size == last->bytes + last->filled;
    struct chunk *chunk = has_room ? chunk_take(last)
                                   : chunk_create_sized(bytes.size > KEPT_BYTES ? bytes.size : KEPT_BYTES);
    if (!chunk)
        return false;
    char *at = chunk->bytes + chunk->filled;
    memcpy(at, bytes.bytes, bytes.size);
    chunk->filled += bytes.size;
    bool is_added = spans_add(pool, spans, chunk, at, bytes.size);
    chunk_release(pool, chunk);
    return is_added;
}

void spans_move(struct spans *to, struct spans *from)
{
    if (!from->first)
        return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->bytes += from->bytes;
    *from = (struct spans){0};
}

void spans_consume(struct chunk_pool *pool, struct spans *spans, size_t count)
{
    assert(count <= spans->bytes);
    spans->bytes -= count;
    while (count > 0 && count >= spans->first->size) {
        struct span *span = spans->first;
        count -= span->size;
        spans->first = span->next;
        span_destroy(pool, span);
    }
    if (!spans->first) {
        spans->last = NULL;
        return;
    }
    spans->first->bytes += count;
    spans->first->size -= count;
}

void spans_clear(struct chunk_pool *pool, struct spans *spans) { spans_consume(pool, spans, spans->bytes); }

/* Finds runs of unsettled ranges and puts each run into one chunk to measure. */
void spans_settle(struct chunk_pool *pool, struct spans *spans)
{
    struct span **link = &spans->first;
    struct span *previous = NULL;
    while (*link) {
        struct span *end = *link;
        size_t bytes = 0;
        while (end && !is_settled(end)) {
            bytes += end->size;
            end = end->next;
        }
        if (bytes > 0)
            *link = settle_run(pool, *link, bytes, end);
        previous = *link;
        link = &previous->next;
    }
    spans->last = previous;
}

struct chunk *spans_join(const struct spans *spans)
{
    struct chunk *chunk = chunk_create_sized(spans->bytes);
    if (!chunk)
        return NULL;
    for (const struct span *span = spans->first; span; span = span->next) {
        memcpy(chunk->bytes + chunk->filled, span->bytes, span->size);
        chunk->filled += span->size;
    }
    return chunk;
}

static bool is_settled(const struct span *span)
{
    return !span->chunk || span->chunk->is_private || span->size >= SETTLE_BELOW_BYTES;
}

/* Returns what now stands for [first, end): one span, or the old ones where memory is short. */
static struct span *settle_run(struct chunk_pool *pool, struct span *first, size_t bytes, const struct span *end)
{
    struct chunk *chunk = chunk_create_sized(bytes);
    if (!chunk)
        return first;
    struct span *span = first;
    while (span != end) {
        memcpy(chunk->bytes + chunk->filled, span->bytes, span->size);
        chunk->filled += span->size;
        struct span *next = span->next;
        if (span == first)
            chunk_release(pool, span->chunk);
        else
            span_destroy(pool, span);
        span = next;
    }
    first->chunk = chunk;
    first->bytes = chunk->bytes;
    first->size = bytes;
    first->next = span;
    return first;
}

static struct span *span_create(struct chunk_pool *pool) { return slab_take(&pool->spans, sizeof(struct span)); }

static void span_destroy(struct chunk_pool *pool, struct span *span)
{
    chunk_release(pool, span->chunk);
    slab_give(&pool->spans, span);
}
