/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cores.h - how many CPUs this process may use at a time.
 *
 * Two things bound it: the CPUs that it may run on (taskset, cpusets) and the CPU time that its control group is
 * granted (containers). A quota does not take CPUs away, it stops all threads together once they have used it up, for the rest
 * of a period of mostly 100 ms: with more threads than it is worth, that is what clients wait for.
 *
 * A quota holds for all groups beneath it, so the least one on the way from the process's group up to where the hierarchy is
 * mounted counts; what is above that, as seen from a container, is not to be known. Both kinds of hierarchy are
 * looked at, since a machine may have one of each.
 *
 * Threads: any; reads files, so only at start.
 */
#ifndef PROXY_CORES_H
#define PROXY_CORES_H

#include <stddef.h>
#include <stdint.h>

struct cores {
    uint32_t count;         /* to use: the lesser of both, a part of a CPU counts as one; at least 1 */
    uint32_t allowed;       /* it may run on so many */
    uint32_t quota_percent; /* of one CPU; 0 = there is no quota */
};

/* CPUs that the kernel lets this process run on, at least 1. */
uint32_t cores_allowed(void);

/* root is put in front of /proc and of the paths that are found there: "" for this machine. Where something is missing or
 * makes no sense, it bounds nothing. */
struct cores cores_find(const char *root, uint32_t allowed);

/* For the log: why it is that many. */
void cores_describe(const struct cores *cores, char *text, size_t size);

#endif
