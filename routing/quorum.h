/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quorum.h - which node do the Sentinels name as master?
 *
 * A Sentinel's view is the pair (address, config epoch). The epoch is raised by the election that promotes a
 * replica, and only the Sentinel that won it can name the new pair first; the others take it over. So, of the
 * views of a majority, the one with the highest epoch is the truth, even while it is alone. What was accepted
 * is never given up for a lower epoch, with one exception: Sentinels that were reset and set up anew count
 * from 0 again; they are believed when a majority has said the same for QUORUM_RESET_MS and nobody names a
 * higher one.
 *
 * Names are compared as text: the caller gives one node one name.
 *
 * Owner:   struct quorum is embedded in the discovery of one upstream; allocates nothing.
 * Time:    every call is given now_ms; no clock is read here.
 * Threads: one only, no locks.
 */
#ifndef ROUTING_QUORUM_H
#define ROUTING_QUORUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUORUM_RESET_MS  5000
#define QUORUM_NAME_SIZE 300

/* What one Sentinel says. Those that do not answer, or know no such master, are not heard. */
struct quorum_view {
    bool is_heard;
    const char *name; /* the node it names */
    uint64_t epoch;
    uint64_t asked_us; /* when the question was sent that it has answered last */
};

enum quorum_verdict {
    QUORUM_SILENT,    /* fewer than a majority are heard: no news */
    QUORUM_UNDECIDED, /* a majority is heard, but at the highest epoch they name several nodes alike */
    QUORUM_STALE,     /* a majority is heard, but only older news than what was accepted */
    QUORUM_KEEPS,     /* the accepted node is named (perhaps with a newer epoch) */
    QUORUM_NAMES,     /* another node is named, with a newer epoch */
    QUORUM_RESETS,    /* another node is named with no newer epoch, long enough to be believed */
};

/* What has been accepted; all zero means nothing yet. */
struct quorum {
    char name[QUORUM_NAME_SIZE];
    uint64_t epoch;
    char older_name[QUORUM_NAME_SIZE]; /* named by a majority without a newer epoch ... */
    uint64_t older_since_ms;           /* ... since then; 0 = by none */
};

struct quorum_answer {
    enum quorum_verdict verdict;
    const char *name; /* of KEEPS, NAMES and RESETS; points into the winning view. NULL else */
    uint64_t epoch;
    size_t winner;     /* index of the view that named it */
    size_t heard;      /* views heard */
    size_t needed;     /* a majority */
    uint64_t asked_us; /* a majority has been asked at this time or later; 0 when it is not heard */
};

/* known: how many Sentinels there are, heard or not. Changes quorum only to remember how long it was told of
 * lower epochs. */
struct quorum_answer quorum_decide(struct quorum *quorum, const struct quorum_view *views, size_t count,
                                   size_t known, uint64_t now_ms);

/* Remembers a master once its own ROLE has said so. */
void quorum_accept(struct quorum *quorum, const char *name, uint64_t epoch);

#endif
