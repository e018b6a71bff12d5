/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * schedule.h - when each request is due, whatever becomes of those before it.
 *
 * Times follow from rate and seed alone: at a constant rate, or as a Poisson process, as many independent users
 * arrive.
 *
 * Owner: embedded. Threads: one. Time: nanoseconds since the caller's own zero; no clock is read here.
 */
#ifndef OPENLOOP_SCHEDULE_H
#define OPENLOOP_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

struct schedule {
    double interval_ns;
    double due_ns;
    uint64_t chance;
    bool is_poisson;
};

void schedule_init(struct schedule *schedule, double per_second, bool is_poisson, uint64_t seed);

/* The next one is due at. */
uint64_t schedule_due_ns(const struct schedule *schedule);

void schedule_advance(struct schedule *schedule);

#endif
