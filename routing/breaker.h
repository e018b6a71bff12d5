/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * breaker.h - may this node be sent requests now?
 *
 *                   FAILED, the last of breaker.failures in a row,
 *                   or OVERRUN: too many of the last requests failed
 *          .--------------------------------------------------------.
 *          |                                                        v
 *       CLOSED <--------- PROVEN --------- HALF_OPEN <---- TRY --- OPEN <--.
 *        |  ^                                | |  ^   (once due)    ^      |
 *        '--'                                | '--'                 |      |
 *    FAILED: the next one; rests a moment    | TRY: the trial is    '------'
 *    SUCCEEDED: none in a row any more       | given up, another    FAILED: waits longer
 *                                            | begins               SEEN: due at once
 *                                            '--- FAILED, ABANDONED ---> OPEN
 *
 *    PROVEN, it is closed on probation: the next failure opens it again, and then it waits longer, until SUCCEEDED.
 *    RESET leads from everywhere to CLOSED: the node has another role, so what was is no matter.
 *
 * CLOSED, it gets requests; whose own connection has failed waits until it is due before it opens another. OPEN, it gets
 * none. HALF_OPEN, one trial is under way for the whole process: whoever has changed the state makes it.
 *
 * Waits grow from base_ms with each failure, doubling, with full jitter (backoff.h). The state carries when the last one was
 * and where in the range of possible waits the chance fell; the bounds are brought by who asks. So the same state
 * means a short wait to one that must be tried soon, such as a master, and a long one to another.
 *
 * The ratio of failures is kept beside it, in a window that begins anew when it is over.
 *
 * Owner:   the node's gauge (topology.h), for all workers. Each transition is one compare-and-swap: of several that see the
 *          same, one makes it.
 * Time:    every call is given now_ms; no clock is read here, chance comes as a seed.
 */
#ifndef ROUTING_BREAKER_H
#define ROUTING_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum breaker_state {
    BREAKER_CLOSED,
    BREAKER_OPEN,
    BREAKER_HALF_OPEN,
};

enum breaker_event {
    BREAKER_FAILED,    /* a connection to it broke, was refused, or an answer did not come in time */
    BREAKER_OVERRUN,   /* breaker_window_is_over() */
    BREAKER_SUCCEEDED, /* it has answered a request */
    BREAKER_RELEASED,  /* a new connection to it is ready: the rest after a failure is over */
    BREAKER_TRY,       /* somebody would make the trial */
    BREAKER_PROVEN,    /* the trial was answered */
    BREAKER_ABANDONED, /* the trial came to nothing, and that was not the node's fault */
    BREAKER_SEEN,      /* others find that it is well again */
    BREAKER_RESET,     /* it has another role */
    BREAKER_EVENT_COUNT,
};

struct breaker_limits {
    uint32_t failures;     /* in a row, that open it */
    uint32_t ratio;        /* percent of the requests of a window that open it when they fail */
    uint64_t base_ms;      /* bound of the first wait */
    uint64_t rest_max_ms;  /* no wait of one that is closed is longer */
    uint64_t open_max_ms;  /* ... of one that is open */
    uint64_t trial_max_ms; /* by then a trial has ended, or nobody makes it */
};

enum {
    BREAKER_WINDOW_MS = 10000,
    BREAKER_WINDOW_LEAST = 20, /* requests in a window, below which their ratio says nothing */
};

struct breaker {
    _Atomic uint64_t word;   /* state, failures in a row, how often it opened, chance, time */
    _Atomic uint64_t window; /* requests, failed ones, and when it began */
};

/* What the word of a breaker says. */
enum breaker_state breaker_state_of(uint64_t word);
uint32_t breaker_failures_of(uint64_t word); /* CLOSED: in a row; else openings and failed trials without a success */

/* When one that has failed may be tried again; HALF_OPEN: when the trial is given up. 0 if it has not failed. */
uint64_t breaker_due_ms(uint64_t word, const struct breaker_limits *limits);

/* The whole of the drawing above. */
uint64_t breaker_next(uint64_t word, enum breaker_event event, const struct breaker_limits *limits, uint64_t now_ms,
                      uint64_t *seed);

/* The window with so many requests more, of which so many have failed. */
uint64_t breaker_window_next(uint64_t window, uint32_t requests, uint32_t failed, uint64_t now_ms);
bool breaker_window_is_over(uint64_t window, uint32_t ratio);

/* The same on a breaker that others change as well. Returns true if this call has changed the state, and then sets
 * which it was. */
bool breaker_tell(struct breaker *breaker, enum breaker_event event, const struct breaker_limits *limits, uint64_t now_ms,
                  uint64_t *seed, enum breaker_state *was);

/* Counts requests; true if their ratio says that the breaker should open. */
bool breaker_count(struct breaker *breaker, uint32_t requests, uint32_t failed, const struct breaker_limits *limits,
                   uint64_t now_ms);

static inline uint64_t breaker_word(const struct breaker *breaker)
{
    return atomic_load_explicit(&breaker->word, memory_order_relaxed);
}

#endif
