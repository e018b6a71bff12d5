/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * merge.h - replies of several nodes to the pieces of one command become one reply.
 *
 * Where any piece failed, the whole is that error (the first in the order of the pieces), word for word, and
 * where others of a write took effect, behind it in brackets how many did. Where a node answers with
 * something of another type than the policy needs, or replies that should be alike are not, that is an error
 * too (ERROR_REPLIES_DIFFER).
 *
 * Pure: writes to a buffer that its owner keeps for the next time.
 */
#ifndef ROUTING_MERGE_H
#define ROUTING_MERGE_H

#include "routing/slice.h"

#include <stdint.h>

/* What is said of integers from SUM to OR holds as well for arrays of them that are of the same length:
 * element by element. Arrays may be RESP3's sets and maps: the first one's form is the form of the whole. */
enum merge_policy {
    MERGE_FIRST,  /* all say the same: the first one's */
    MERGE_OK,     /* all must succeed: the first one's (MSET, FLUSHALL, CONFIG SET) */
    MERGE_SUM,    /* integers are added up (DEL, EXISTS, DBSIZE) */
    MERGE_MIN,    /* the least integer (LASTSAVE) */
    MERGE_MAX,    /* the greatest (ACL DELUSER: all have the same users) */
    MERGE_AND,    /* 1 where all say so, else 0 (SCRIPT EXISTS) */
    MERGE_OR,     /* 1 where any says so, else 0 */
    MERGE_ONE_OK, /* one that succeeds is enough (SCRIPT KILL, where but one node has a script running) */
    MERGE_PLACES, /* elements of arrays are put where their keys stood (MGET) */
    MERGE_CONCAT, /* arrays, one behind the other (KEYS); a status that all agree on stays (ACL LOG RESET) */
    MERGE_LATEST, /* the same, sorted by the time that is each entry's second element, newest first, and cut
                     to the number that was asked for (SLOWLOG GET) */
    MERGE_UNION,  /* the same, each element once (PUBSUB CHANNELS) */
    MERGE_PAIRS,  /* arrays of names and numbers: the numbers of each name are added up (PUBSUB NUMSUB) */
    MERGE_ANY,    /* one that is not nil, by chance (RANDOMKEY) */
    MERGE_TEXT,   /* texts for people, one behind the other (MEMORY DOCTOR, LATENCY DOCTOR) */
    MERGE_INFO,   /* INFO: fields are added up, taken from the first, or as is right for each */
    MERGE_POLICY_COUNT,
};

struct merge_piece {
    struct slice reply;    /* one complete reply, RESP2 or RESP3 */
    const uint32_t *order; /* of PLACES: where its elements go */
    uint32_t count;        /* ... and how many there are. Of LATEST, in the first piece: plan->limit */
};

struct merge_buffer {
    char *bytes;
    size_t size, room;
    struct merge_item *items; /* scratch */
    size_t item_room;
};

void merge_buffer_finish(struct merge_buffer *buffer);

/* is_write: pieces that succeeded have changed something, which an error must tell. seed: chance, for ANY.
 * The reply is buffer->bytes[0, size). False if memory is short. */
bool merge_replies(enum merge_policy policy, const struct merge_piece *pieces, uint32_t count, bool is_write,
                   uint64_t *seed, struct merge_buffer *buffer);

#endif
