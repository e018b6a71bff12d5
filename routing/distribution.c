/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/distribution.h"

#include "routing/md5.h"
#include "routing/slot.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define SLOTS                    16384
#define KETAMA_POINTS_PER_SHARD  160
#define KETAMA_POINTS_PER_DIGEST MD5_WORDS

struct point {
    uint32_t value;
    uint16_t shard;
};

struct distribution {
    enum hash hash;
    char tag[2];
    uint32_t modulus;     /* of what the hash is; 0: of nothing */
    struct point *points; /* by rising value */
    uint32_t count;
};

static void distribution_cut_slots(struct distribution *distribution, const struct distribution_setup *setup);
static void distribution_weigh(struct distribution *distribution, const struct distribution_setup *setup);
static void distribution_scatter(struct distribution *distribution, const struct distribution_setup *setup);
static void distribution_add(struct distribution *distribution, uint32_t value, uint32_t shard);
static uint32_t sum_of_weights(const struct distribution_setup *setup);
static uint32_t ketama_points(const struct distribution_setup *setup, uint32_t shard);
static int compare_points(const void *a, const void *b);
static int compare_names(const void *a, const void *b);

struct distribution *distribution_create(const struct distribution_setup *setup)
{
    assert(setup->count >= 1 && setup->count <= DISTRIBUTION_SHARDS_MAX);
    uint32_t room = setup->count;
    struct distribution *distribution = calloc(1, sizeof(*distribution));
    if (!distribution) return NULL;
    distribution->hash = setup->hash;
    memcpy(distribution->tag, setup->tag, sizeof(distribution->tag));
    for (uint32_t i = 0; setup->kind == DISTRIBUTION_KETAMA && i < setup->count; i++)
        room += ketama_points(setup, i);
    distribution->points = calloc(room, sizeof(*distribution->points));
    if (!distribution->points) {
        distribution_destroy(distribution);
        return NULL;
    }
    switch (setup->kind) {
    case DISTRIBUTION_NONE:
        break;
    case DISTRIBUTION_SLOTS:
        distribution_cut_slots(distribution, setup);
        break;
    case DISTRIBUTION_MODULA:
        distribution_weigh(distribution, setup);
        break;
    case DISTRIBUTION_KETAMA:
        distribution_scatter(distribution, setup);
        break;
    }
    return distribution;
}

void distribution_destroy(struct distribution *distribution)
{
    if (!distribution) return;
    free(distribution->points);
    free(distribution);
}

uint32_t distribution_place_of(const struct distribution *distribution, struct slice key)
{
    uint64_t number;
    if (distribution->tag[0]) key = slot_tag(key, distribution->tag[0], distribution->tag[1]);
    number = key.size ? hash_of(distribution->hash, key) : 0;
    if (distribution->modulus) number %= distribution->modulus;

    uint32_t low = 0, high = distribution->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (distribution->points[middle].value < number)
            low = middle + 1;
        else
            high = middle;
    }
    return distribution->points[low < distribution->count ? low : 0].shard;
}

bool distribution_is_fixed(const struct distribution *distribution, struct slice pattern)
{
    if (!distribution->tag[0]) return false;
    struct slice tag = slot_tag(pattern, distribution->tag[0], distribution->tag[1]);
    return tag.size < pattern.size && !memchr(tag.bytes, '*', tag.size);
}

/* ---- points ---- */

/* As `redis-cli --cluster create` cuts them. */
static void distribution_cut_slots(struct distribution *distribution, const struct distribution_setup *setup)
{
    distribution->hash = HASH_CRC16_PREDIXY;
    distribution->modulus = SLOTS;
    distribution->tag[0] = '{';
    distribution->tag[1] = '}';
    for (uint32_t i = 0; i < setup->count; i++) {
        uint32_t end = (2 * (i + 1) * SLOTS + setup->count) / (2 * setup->count); /* rounded */
        distribution_add(distribution, end - 1, i);
    }
}

static void distribution_weigh(struct distribution *distribution, const struct distribution_setup *setup)
{
    const struct distribution_server *order[DISTRIBUTION_SHARDS_MAX];
    for (uint32_t i = 0; i < setup->count; i++)
        order[i] = &setup->servers[i];
    if (setup->is_by_name) qsort(order, setup->count, sizeof(*order), compare_names);
    for (uint32_t i = 0; i < setup->count; i++) {
        distribution->modulus += order[i]->weight;
        distribution_add(distribution, distribution->modulus - 1, (uint32_t)(order[i] - setup->servers));
    }
}

static void distribution_scatter(struct distribution *distribution, const struct distribution_setup *setup)
{
    for (uint32_t i = 0; i < setup->count; i++) {
        uint32_t count = ketama_points(setup, i);
        for (uint32_t at = 0; at < count; at += KETAMA_POINTS_PER_DIGEST) {
            char text[DISTRIBUTION_NAME_MAX + 16];
            uint32_t digest[MD5_WORDS];
            snprintf(text, sizeof(text), "%s-%u", setup->servers[i].name, at / KETAMA_POINTS_PER_DIGEST);
            md5(slice_of(text), digest);
            for (uint32_t word = 0; word < MD5_WORDS; word++)
                distribution_add(distribution, digest[word], i);
        }
    }
    qsort(distribution->points, distribution->count, sizeof(*distribution->points), compare_points);
}

static void distribution_add(struct distribution *distribution, uint32_t value, uint32_t shard)
{
    distribution->points[distribution->count++] = (struct point){.value = value, .shard = (uint16_t)shard};
}

/* In floats and in this order, as twemproxy has it: else some weights give four points more or fewer. */
static uint32_t ketama_points(const struct distribution_setup *setup, uint32_t shard)
{
    float share = (float)setup->servers[shard].weight / (float)sum_of_weights(setup);
    float digests = share * KETAMA_POINTS_PER_SHARD / KETAMA_POINTS_PER_DIGEST * (float)setup->count;
    return (uint32_t)(float)((double)digests + 0.0000000001) * KETAMA_POINTS_PER_DIGEST;
}

static uint32_t sum_of_weights(const struct distribution_setup *setup)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < setup->count; i++)
        sum += setup->servers[i].weight;
    return sum;
}

/* Of equal points the first in the order of shards comes first. */
static int compare_points(const void *a, const void *b)
{
    const struct point *one = a, *other = b;
    if (one->value != other->value) return one->value < other->value ? -1 : 1;
    return (int)one->shard - (int)other->shard;
}

static int compare_names(const void *a, const void *b)
{
    const char *one = (*(const struct distribution_server *const *)a)->name;
    const char *other = (*(const struct distribution_server *const *)b)->name;
    size_t size = strlen(one), other_size = strlen(other);
    if (size != other_size) return size < other_size ? -1 : 1;
    return strcmp(one, other);
}
