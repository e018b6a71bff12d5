/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * succession.h - whom would a Sentinel promote, and what has to be done so that it is the one that is wanted?
 *
 * A Sentinel takes, of the replicas that it finds well, those with the least replica-priority (0 is never promoted), and
 * of these the one that had most when it last asked, which may be ten seconds ago. So nobody but the Sentinel knows which
 * one of several equals it will be: all of them are heirs, and all need every byte before it is told to promote. Where one
 * is wanted by name, its priority has to be below all others.
 *
 * https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#replica-selection-and-priority
 *
 * Owner:   borrows everything; allocates nothing.
 * Threads: any.
 */
#ifndef ROUTING_SUCCESSION_H
#define ROUTING_SUCCESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUCCESSION_NONE SIZE_MAX

struct succession_replica {
    int64_t priority;  /* as the Sentinel knows it */
    bool is_well;      /* the Sentinel has it for well */
    bool is_fit;       /* and so do we */
};

enum succession_verdict {
    SUCCESSION_READY,      /* is_heir says which replicas it may be */
    SUCCESSION_RAISE,      /* the wanted one needs `priority` first */
    SUCCESSION_NOBODY,     /* there is no replica that may be promoted */
    SUCCESSION_BARRED,     /* replica `about`, which is wanted, has priority 0 */
    SUCCESSION_UNWELL,     /* the Sentinel does not have `about` for well, which is wanted */
    SUCCESSION_UNFIT,      /* we do not have `about` for fit, which is wanted or might be taken */
    SUCCESSION_OVERRULED,  /* `about` has priority 1: no other can be put before it */
};

struct succession_answer {
    enum succession_verdict verdict;
    size_t about;
    int64_t priority;
};

/* wanted: a replica's index, or SUCCESSION_NONE for whichever is best. is_heir has room for count. */
struct succession_answer succession_decide(const struct succession_replica *replicas, size_t count, size_t wanted,
                                           bool *is_heir);

#endif
