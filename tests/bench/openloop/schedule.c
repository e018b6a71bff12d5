/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/bench/openloop/schedule.h"

#include "tests/bench/openloop/chance.h"

#include <math.h>

void schedule_init(struct schedule *schedule, double per_second, bool is_poisson, uint64_t seed)
{
    *schedule = (struct schedule){.interval_ns = 1e9 / per_second, .chance = seed, .is_poisson = is_poisson};
}

uint64_t schedule_due_ns(const struct schedule *schedule)
{
    return (uint64_t)schedule->due_ns;
}

void schedule_advance(struct schedule *schedule)
{
    double gap = schedule->is_poisson ? -log(1.0 - chance_share(&schedule->chance)) : 1.0;
    schedule->due_ns += gap * schedule->interval_ns;
}
