/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chunk.h - counted memory that received bytes stay in, and lists of ranges of it.
 *
 * A socket is read into a chunk; requests and replies are ranges of that chunk and are written to the other
 * side from where they lie. A chunk lives while anybody holds a reference. Many clients' bytes share one chunk
 * (the worker's intake), so small requests cost neither an allocation nor a copy, and neighbours leave as one
 * range:
 *
 *      chunk   |GET a|SET b 1|GET c|............|
 *               ^     ^       ^     ^ filled     ^ capacity
 *               request ranges, each with one reference
 *
 * What is kept for long (held requests, output that a slow reader leaves behind) is copied out into a chunk of
 * its own size, so that a few bytes never keep 64 KiB alive.
 *
 * Owner:   a chunk_pool belongs to one worker; so do all its chunks and spans. No locks.
 */
#ifndef PROXY_CHUNK_H
#define PROXY_CHUNK_H

#include "proxy/slab.h"
#include "routing/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK_SIZE ((size_t)64 * 1024)

struct chunk {
    uint32_t references;
    bool is_private; /* made to measure by chunk_copy() or chunk_create_sized(): not recycled */
    size_t capacity;
    size_t filled; /* bytes [0, filled) are in use; a shared chunk is only ever appended to */
    struct chunk *next_free;
    char bytes[];
};

/* A range of a chunk; chunk is NULL for static text. */
struct span {
    struct span *next;
    struct chunk *chunk;
    const char *bytes;
    size_t size;
};

/* A queue of ranges. */
struct spans {
    struct span *first, *last;
    size_t bytes;
};

struct chunk_pool {
    struct chunk *free_chunks;
    uint32_t free_chunk_count;
    uint32_t least_free; /* the lowest that was since chunk_pool_rest() */
    struct slab_pool spans;
    struct chunk *intake; /* where the next bytes from any socket go */
};

void chunk_pool_init(struct chunk_pool *pool);
void chunk_pool_finish(struct chunk_pool *pool);

/* Each second or so: what was not needed since the last time goes back to the allocator, but for a few chunks. */
void chunk_pool_rest(struct chunk_pool *pool);

/* A chunk with one reference; NULL if memory is short. */
struct chunk *chunk_create(struct chunk_pool *pool);
struct chunk *chunk_create_sized(size_t capacity);
struct chunk *chunk_copy(struct slice bytes);

static inline struct chunk *chunk_take(struct chunk *chunk)
{
    chunk->references++;
    return chunk;
}

void chunk_free(struct chunk_pool *pool, struct chunk *chunk);

static inline void chunk_release(struct chunk_pool *pool, struct chunk *chunk)
{
    if (chunk && --chunk->references == 0)
        chunk_free(pool, chunk);
}

static inline size_t chunk_room(const struct chunk *chunk) { return chunk->capacity - chunk->filled; }

/* The intake with at least `room` free bytes (room <= CHUNK_SIZE); NULL if memory is short. No reference is
 * given: take one for what is kept. When nobody else holds it, it is used again from its start. */
struct chunk *chunk_pool_intake(struct chunk_pool *pool, size_t room);

/* Appends a range, joining it to the last one where they touch. Takes a reference of its own. False if memory
 * is short. */
bool spans_add(struct chunk_pool *pool, struct spans *spans, struct chunk *chunk, const char *bytes, size_t size);

/* Copies bytes into the pool (the intake, or a chunk to measure) and appends them. */
bool spans_add_copy(struct chunk_pool *pool, struct spans *spans, struct slice bytes);

/* Copies bytes that will stay for long, behind those that this has copied before, and appends them. */
bool spans_add_kept(struct chunk_pool *pool, struct spans *spans, struct slice bytes);

/* Moves all of `from` behind `to`. */
void spans_move(struct spans *to, struct spans *from);

/* Drops the first `count` bytes. */
void spans_consume(struct chunk_pool *pool, struct spans *spans, size_t count);
void spans_clear(struct chunk_pool *pool, struct spans *spans);

/* Copies small ranges of shared chunks out, so that what waits for long does not keep chunks alive. */
void spans_settle(struct chunk_pool *pool, struct spans *spans);

/* All bytes in one piece, for those who must look inside: a new chunk with one reference, filled; NULL if
 * memory is short. */
struct chunk *spans_join(const struct spans *spans);

#endif
