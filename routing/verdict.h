/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * verdict.h - a request has come to something: deliver, send again, hold, or fail?
 *
 * This is section 7 of the design, "what may be sent again", and nothing else:
 *
 *   what happened                       | read                     | write
 *   ------------------------------------+--------------------------+-------------------------------
 *   never left this process             | again                    | again
 *   refused: LOADING MASTERDOWN         | again, elsewhere         | hold until the master is known
 *   refused: READONLY UNBLOCKED         | hold (only what needs the master is refused so)
 *   refused: MOVED ASK                  | again, where the node says
 *   refused: TRYAGAIN CLUSTERDOWN       | hold for a short while, then again
 *   connection lost after it was sent   | again, elsewhere         | fail: outcome unknown
 *   its deadline passed after it was    | fail                     | fail: outcome unknown
 *     sent                              |                          |
 *
 * A command that blocks has rows of its own. It "was waiting" if it was the oldest on its connection for at least
 * VERDICT_WAITED_MS when that ended:
 *
 *   what happened                       | waits for data           | WAIT, WAITAOF, a module's
 *   ------------------------------------+--------------------------+-------------------------------
 *   refused: UNBLOCKED                  | hold                     | deliver
 *   connection lost, it was waiting     | again                    | fail: outcome unknown
 *   connection lost before that, or its | write: fail: outcome     | fail: outcome unknown
 *     deadline passed                   | unknown; read: as above  |
 *
 * One that was waiting had found nothing to take: what was there would have been answered by then. If something was
 * given to it in the very moment in which its master died, that is lost with the master like any write that it had
 * not acknowledged. But a node that says nothing long after the command's own time is over may not have looked at it yet.
 * WAIT asks about writes that another master may not have, so it is asked of no other.
 *
 * A connection with an unanswered request past its deadline is closed, so what else waits on it is "lost".
 * "Again" of what was sent and lost is bounded by attempts; what did not run may go again as often as its deadline
 * and the bounds of holding allow. Pure: no state, no clock.
 */
#ifndef ROUTING_VERDICT_H
#define ROUTING_VERDICT_H

#include "routing/error.h"

#include <stdint.h>

/* What a node says when it will not run a command that belongs elsewhere, or not yet. */
enum refusal {
    REFUSAL_NONE,
    REFUSAL_READONLY,   /* a replica, or a master that became one */
    REFUSAL_LOADING,    /* reading its data from disk or from its master */
    REFUSAL_MASTERDOWN, /* a replica without its master, replica-serve-stale-data no */
    REFUSAL_UNBLOCKED,  /* a blocking command ended by a change of role, not by CLIENT UNBLOCK; it did not run */
    REFUSAL_MOVED,      /* a Redis Cluster: another node has the slot (redirect.h) */
    REFUSAL_ASK,        /* ... has it for this once */
    REFUSAL_TRYAGAIN,   /* ... the slot is on its way, and of several keys some have gone */
    REFUSAL_CLUSTERDOWN,/* ... nobody has the slot, or the cluster is down */
    REFUSAL_COUNT,
};

/* A node of a Redis Cluster says that the request does not belong there now: nothing is wrong with the node. */
static inline bool refusal_is_of_cluster(enum refusal refusal)
{
    return refusal >= REFUSAL_MOVED && refusal < REFUSAL_COUNT;
}

/* Reads the first words of an error reply ("-READONLY You can't write ..."). */
enum refusal refusal_of(struct slice reply);

/* The same for the reply to a script, which may well answer an error of its own that begins with such a word: it has run
 * then, and is not sent again. Only Redis' own sentences count (https://github.com/redis/redis, src/server.c). */
enum refusal refusal_of_script(struct slice reply);

enum outcome {
    OUTCOME_ANSWERED, /* with a reply; refusal tells which kind */
    OUTCOME_LOST,     /* the connection broke */
    OUTCOME_TIMED_OUT,
    OUTCOME_CUT,      /* we cut the connection because the node lost its role */
};

/* Much longer than a node takes to answer what it can answer at once. */
enum { VERDICT_WAITED_MS = 100 };

enum verdict {
    VERDICT_DELIVER,
    VERDICT_AGAIN, /* pick a node once more, not the same one if there is another */
    VERDICT_HOLD,  /* wait for the topology, then dispatch again */
    VERDICT_FAIL,  /* with the error given */
};

struct request_history {
    enum outcome outcome;
    enum refusal refusal; /* where answered */
    bool is_read;         /* safe to send again */
    bool was_sent;        /* a byte of it may have reached the node */
    bool needs_master;
    bool is_blocking;
    bool is_for_data;     /* blocking, and another master can answer it as well (blocking_is_for_data) */
    uint64_t waited_ms;   /* blocking: how long it was the oldest on its connection */
    uint32_t attempts;    /* times it was sent so far */
    uint32_t max_attempts;
};

/* True if "again" means that nodes get more work than clients give them: the request was sent and lost, and is no
 * command that waits. The retry budget is for these. What did not run is not: that must not fail for want of it. */
bool verdict_is_repeat(const struct request_history *history);

/* error is set where the verdict is VERDICT_FAIL. */
enum verdict verdict_of(const struct request_history *history, enum error *error);

#endif
