/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/slab.h"

#include "proxy/memory.h"

#include <stdalign.h>
#include <stdlib.h>

enum {
    EMPTY_SLABS_KEPT = 16, /* half a MiB */
    CACHE_LINE = 64,
    MANY_LINES = 8, /* things that take so many begin with one: their first fields are those that are needed most */
};

/* The allocator's own word before each stands where the slab before ends, instead of in a page of its own. */
#define SLAB_USED_BYTES (SLAB_BYTES - 2 * sizeof(size_t))

static void free_all(struct slab_pool *pool, struct slab *slab);
static void link_to(struct slab **list, struct slab *slab);
static void unlink_from(struct slab **list, struct slab *slab);
static void slab_free(struct slab_pool *pool, struct slab *slab);

void slab_pool_finish(struct slab_pool *pool)
{
    free_all(pool, pool->open);
    free_all(pool, pool->full);
    *pool = (struct slab_pool){0};
}

static size_t round_up(size_t size, size_t to) { return (size + to - 1) / to * to; }

struct slab *slab_pool_open(struct slab_pool *pool, size_t size)
{
    size_t alignment = size < MANY_LINES * CACHE_LINE ? alignof(max_align_t) : CACHE_LINE;
    size_t step = round_up(size, alignment);
    size_t begin = round_up(sizeof(struct slab), alignment);
    void *memory = NULL;
    if (posix_memalign(&memory, SLAB_BYTES, SLAB_USED_BYTES) != 0)
        return NULL;
    struct slab *slab = memory;
    if (!pool->is_apart)
        memory_taken(SLAB_BYTES);
    *slab = (struct slab){0};
    struct slab_thing **end = &slab->free;
    for (size_t at = begin; at + step <= SLAB_USED_BYTES; at += step) {
        struct slab_thing *thing = (struct slab_thing *)(void *)((char *)slab + at);
        *end = thing;
        end = &thing->next;
    }
    *end = NULL;
    link_to(&pool->open, slab);
    pool->empty_count++;
    return slab;
}

void slab_became_full(struct slab_pool *pool, struct slab *slab)
{
    unlink_from(&pool->open, slab);
    link_to(&pool->full, slab);
}

void slab_became_open(struct slab_pool *pool, struct slab *slab)
{
    unlink_from(&pool->full, slab);
    link_to(&pool->open, slab);
}

void slab_became_empty(struct slab_pool *pool, struct slab *slab)
{
    if (pool->empty_count < EMPTY_SLABS_KEPT) {
        pool->empty_count++;
        return;
    }
    unlink_from(&pool->open, slab);
    slab_free(pool, slab);
}

static void free_all(struct slab_pool *pool, struct slab *slab)
{
    while (slab) {
        struct slab *next = slab->next;
        slab_free(pool, slab);
        slab = next;
    }
}

static void link_to(struct slab **list, struct slab *slab)
{
    slab->previous = NULL;
    slab->next = *list;
    if (slab->next)
        slab->next->previous = slab;
    *list = slab;
}

static void unlink_from(struct slab **list, struct slab *slab)
{
    if (slab->previous)
        slab->previous->next = slab->next;
    else
        *list = slab->next;
    if (slab->next)
        slab->next->previous = slab->previous;
}

static void slab_free(struct slab_pool *pool, struct slab *slab)
{
    free(slab);
    if (!pool->is_apart)
        memory_given(SLAB_BYTES);
}
