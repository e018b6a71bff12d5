/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * load.h - connections, what is sent on them and when, and what comes back.
 *
 *               due, or all answered            reply framed and checked
 *     schedule ---------------------> output -> socket -> reader -> histogram
 *                                     pending (a ring: what each reply must be, since when it is waited for)
 *
 * Everything is allocated before the first request. A turn writes what is due into outputs, sends them, and reads
 * what has come.
 *
 * Owner: main. Threads: one.
 */
#ifndef OPENLOOP_LOAD_H
#define OPENLOOP_LOAD_H

#include "tests/bench/openloop/histogram.h"
#include "tests/bench/openloop/options.h"

#include <stdbool.h>
#include <stdint.h>

enum { OUTCOME_TEXT_MAX = 200 };

/* Of what was measured, but for `sent` and the texts. */
struct outcome {
    uint64_t sent; /* with those of the warm-up */
    uint64_t requests;
    uint64_t writes;     /* of them */
    uint64_t answered;   /* rightly or not */
    uint64_t errors;     /* replies that are errors */
    uint64_t missing;    /* keys that had no value */
    uint64_t wrong;      /* replies of another kind or size than asked for */
    uint64_t unanswered; /* when it was given up */
    uint64_t unsent;     /* due, and no connection had room for it before it was given up */
    uint64_t held;       /* sent after they were due, as no connection had room then */
    uint64_t late; /* sent more than --late-us after they were due for no such reason: we did not run */
    uint64_t worst_late_ns;
    uint64_t disturbed; /* a tenth of their latency or more is time when we did not run, for more than --late-us */
    double seconds;     /* from the first request to the last reply */
    double cpu_seconds; /* of this program, meanwhile */
    struct histogram latency_ns;
    struct histogram undisturbed_ns; /* of all others: what a machine that has other things to do has not lengthened */
    char first_complaint[OUTCOME_TEXT_MAX]; /* the first error or wrong reply */
    char failure[OUTCOME_TEXT_MAX];         /* why it ended before its time; empty: it did not */
};

struct load;

/* Connects. NULL: *failure says why, in static memory. */
struct load *load_create(const struct options *options, const char **failure);

/* The outcome belongs to the load. */
const struct outcome *load_run(struct load *load);

void load_destroy(struct load *load);

#endif
