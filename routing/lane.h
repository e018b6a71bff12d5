/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lane.h - over which of the shared connections to a node does a request go?
 *
 * Replies come in the order of the requests on a connection, so what is behind 10 MiB waits until all of that has passed,
 * and what is behind a script until it ends. A node takes turns between connections; therefore
 *
 *      LANE_ORDINARY   nearly everything
 *      LANE_BULK       what is large: by itself, or with others in one go; by its kind, which may be large or slow (KEYS,
 *                      SORT, FLUSHALL); and what brings a large reply. That nobody knows before it comes, so it is
 *                      remembered (lane_marks); and who is sent large ones that were not foreseen is thought to want more
 *                      (lane_habit)
 *      LANE_SCRIPTS    what runs a script, small mostly, but nobody knows how long
 *
 * What needs a lane waits for what its client has on its way over another; what needs none follows to wherever that is. So
 * one client's requests stay in order whatever is decided here.
 *
 * Pure: no clock. Owner: a lane_habit is its client's, lane_marks are a worker's; no locks.
 */
#ifndef ROUTING_LANE_H
#define ROUTING_LANE_H

#include "routing/command.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lane { LANE_ORDINARY, LANE_BULK, LANE_SCRIPTS, LANE_COUNT };

enum {
    LANE_BULK_BYTES = 64 * 1024, /* of a request or a reply: more is large */
    LANE_BULK_WORDS = 1024,      /* of a request: its reply may be large where it is not */
    LANE_ORDINARY_BYTES = 4096,  /* a request with no more is large in no respect */
    LANE_HABIT_TURNS = 16,       /* so often a client is thought to go on with what is large */
    LANE_MARKS = 1024,           /* a power of two */
};

/* The lane that a request needs by what it is; the row may be NULL. */
static inline enum lane lane_needed(const struct command *command, bool runs_script, size_t bytes, size_t words)
{
    if (runs_script)
        return LANE_SCRIPTS;
    bool is_large = bytes > LANE_BULK_BYTES || words > LANE_BULK_WORDS;
    return is_large || (command && (command->flags & COMMAND_SLOW)) ? LANE_BULK : LANE_ORDINARY;
}

/* ---- what a client does ---- */

struct lane_habit {
    uint8_t turns; /* for so many the bulk lane; 0 = it is like most */
};

/* The lane for a request that may choose, since its client has nothing on its way. */
static inline enum lane lane_choose(enum lane needed, struct lane_habit *habit)
{
    if (habit->turns == 0 || needed != LANE_ORDINARY)
        return needed;
    habit->turns--;
    return LANE_BULK;
}

/* It was sent a large reply that was not foreseen, or has itself sent much at once. */
static inline void lane_note_large(struct lane_habit *habit) { habit->turns = LANE_HABIT_TURNS; }

/* ---- what brings much ---- */

/* Of commands with their first key. One takes the place of another that falls on it, which is then to be seen anew. */
struct lane_marks {
    uint64_t seed;               /* keeps clients from knowing which keys fall on each other */
    size_t ordinary_bytes;       /* a request with no more needs no look: LANE_ORDINARY_BYTES, or 0 while there are marks */
    uint32_t recent[LANE_MARKS]; /* since they were aged last; 0 = none */
    uint32_t older[LANE_MARKS];  /* ... and since before that */
};

void lane_marks_init(struct lane_marks *marks, uint64_t seed);

/* These words have brought a large reply. */
void lane_marks_note(struct lane_marks *marks, const struct command *command, const struct slice *words, size_t count);

/* True if they have, as far as is remembered. */
bool lane_marks_has(const struct lane_marks *marks, const struct command *command, const struct slice *words, size_t count);

/* At intervals: what was not noted anew for two of them is forgotten. */
void lane_marks_age(struct lane_marks *marks);

#endif
