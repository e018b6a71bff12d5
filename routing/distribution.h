/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * distribution.h - to which of several masters does a key belong?
 *
 * The masters know nothing of each other; the rule alone says who has a key, so it never changes while it is
 * used.
 *
 *    key -> what of it counts (hash tag) -> hash -> number -> the first point that is not below it -> shard
 *
 *    slots    number = CRC16 of Redis Cluster modulo 16384    points: where the equal range of each shard
 * ends modula   number = hash modulo the sum of weights         points: as many in a row as the shard has
 * weight ketama   number = hash                                   points: about 160 of each shard, by MD5 of
 * its name
 *
 * Behind the last point the first follows. modula and ketama are those of twemproxy.
 *
 * Owner:   whoever created it; nothing in it changes.
 * Threads: any.
 */
#ifndef ROUTING_DISTRIBUTION_H
#define ROUTING_DISTRIBUTION_H

#include "routing/hash.h"

#define DISTRIBUTION_SHARDS_MAX 256
#define DISTRIBUTION_NAME_MAX   79
#define DISTRIBUTION_WEIGHT_MAX 1000

enum distribution_kind { DISTRIBUTION_NONE, DISTRIBUTION_SLOTS, DISTRIBUTION_MODULA, DISTRIBUTION_KETAMA };

/* One for each shard, in their order. */
struct distribution_server {
    const char *name; /* of DISTRIBUTION_NAME_MAX bytes at most; ketama makes points of it */
    uint32_t weight;  /* 1 to DISTRIBUTION_WEIGHT_MAX; slots asks neither */
};

struct distribution_setup {
    enum distribution_kind kind; /* not DISTRIBUTION_NONE */
    enum hash hash;              /* slots has its own */
    char tag[2];                 /* the signs around a hash tag; 0: all of a key counts. slots has {} */
    const struct distribution_server *servers;
    uint32_t count;  /* 1 to DISTRIBUTION_SHARDS_MAX */
    bool is_by_name; /* modula: counts servers in the order of their names, short ones first, as twemproxy
                        does, and not in the order given */
};

struct distribution;

/* Borrows the setup until it returns. NULL if memory is short. */
struct distribution *distribution_create(const struct distribution_setup *setup);
void distribution_destroy(struct distribution *distribution);

/* The index of the shard that has the key. */
uint32_t distribution_place_of(const struct distribution *distribution, struct slice key);

/* True if all keys of that pattern, whatever its star stands for, are in one place: that of the pattern. */
bool distribution_is_fixed(const struct distribution *distribution, struct slice pattern);

#endif
