/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outliers.h - which replicas lose their reads, since they fail or are slow, and which are spared.
 *
 * Each worker decides for itself, by the latency that its own requests have: what a node takes for one worker's
 * connection it may not take for another's, and nothing need be shared. In short: one request at a time is timed on each
 * shared connection, from the end of the loop turn in which it was written to the turn in which it is answered; no clock
 * is read for it. A gray node has no reads to be timed, so it is sent PING.
 *
 * Owner:   nobody; it looks at an upstream. Threads: one worker only.
 */
#ifndef PROXY_OUTLIERS_H
#define PROXY_OUTLIERS_H

struct upstream;

/* Every 100 ms. */
void outliers_tick(struct upstream *upstream);

#endif
