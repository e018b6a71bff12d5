/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quiet.h - has all been answered that was on its way to the nodes?
 *
 * A letter of gather.h that goes from worker to worker as soon as nothing of what it is about is left unanswered there.
 * Whoever sends it has seen to it that no more of that comes after: by a pause, or by a topology that holds it.
 *
 *     visit --- all is answered ---------------------------------> on, to the next worker
 *       | ^
 *       | '---- at the end of a loop turn: all is answered, or the time is over
 *       '------ the time is over: `left` says how much is not answered --------> home
 *
 * Commands that block by intent are not waited for, nor is what the proxy asks for itself.
 *
 * Owner:   whoever's struct begins with it. Threads: each worker in its turn.
 */
#ifndef PROXY_QUIET_H
#define PROXY_QUIET_H

#include "proxy/gather.h"

/* First in a struct of a gather_kind, so that the gather is first. */
struct quiet {
    struct gather gather;
    struct quiet *next;     /* of those that the worker keeps */
    const char *master;     /* NULL: whatever is on its way; else what was sent to this node */
    bool is_about_reads;    /* else about what may change something, alone */
    bool (*is_void)(const struct quiet *quiet, const struct worker *worker); /* it is over, whatever is unanswered; NULL:
                                                                                never */
    uint64_t deadline_ms;   /* of the workers' clock */
    uint64_t looked_ms;
    uint32_t left;          /* requests that were not answered in time, at the worker that was waited for */
};

/* GATHER_ON, GATHER_KEPT, or GATHER_HOME when the time is over, or it is void. */
enum gather_way quiet_visit(struct quiet *quiet, struct worker *worker);

/* At the end of a loop turn, while the worker keeps any. */
void quiet_look(struct worker *worker);

/* The worker ends. */
void quiet_drop_all(struct worker *worker);

#endif
