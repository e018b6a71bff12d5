/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab.h - many things of one size, without asking the allocator for each, and without keeping all that a burst took.
 *
 * Things lie in slabs of 32 KiB at addresses that are multiples of that, so that a thing's address tells its slab. A slab
 * of which nothing is in use goes back to the allocator, but for a few that are kept:
 *
 *      open    [x.xx] [....] [x...]    something free; the first is taken from
 *      full    [xxxx] [xxxx]
 *
 * Owner:   slab_pool belongs to whoever embeds it; zeroed memory is an empty pool. Things of one pool have one size.
 * Threads: one at a time.
 */
#ifndef PROXY_SLAB_H
#define PROXY_SLAB_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLAB_BYTES ((size_t)32 * 1024)

struct slab_thing {
    struct slab_thing *next;
};

struct slab {
    struct slab *next, *previous;
    struct slab_thing *free;
    uint32_t used;
};

struct slab_pool {
    struct slab *open, *full;
    uint32_t empty_count; /* slabs among the open ones of which nothing is in use */
    bool is_apart;        /* not among what requests and replies take (memory.h) */
};

/* Frees all slabs, whatever is still in use. */
void slab_pool_finish(struct slab_pool *pool);

/* The slow parts of taking and giving. */
struct slab *slab_pool_open(struct slab_pool *pool, size_t size);
void slab_became_full(struct slab_pool *pool, struct slab *slab);
void slab_became_open(struct slab_pool *pool, struct slab *slab);
void slab_became_empty(struct slab_pool *pool, struct slab *slab);

/* Memory for one thing of this size, with any content; NULL if memory is short. */
static inline void *slab_take(struct slab_pool *pool, size_t size)
{
    struct slab *slab = pool->open ? pool->open : slab_pool_open(pool, size);
    if (!slab)
        return NULL;
    struct slab_thing *thing = slab->free;
    slab->free = thing->next;
    if (slab->used++ == 0)
        pool->empty_count--;
    if (!slab->free)
        slab_became_full(pool, slab);
    return thing;
}

static inline void slab_give(struct slab_pool *pool, void *memory)
{
    struct slab_thing *thing = memory;
    struct slab *slab = (struct slab *)((uintptr_t)memory & ~(uintptr_t)(SLAB_BYTES - 1));
    assert(slab);
    if (!slab->free)
        slab_became_open(pool, slab);
    thing->next = slab->free;
    slab->free = thing;
    if (--slab->used == 0)
        slab_became_empty(pool, slab);
}

#endif
