/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/ejection.h"

static size_t bound_of(size_t count, uint32_t max_percent, bool has_other);

void ejection_decide(struct ejection *replicas, size_t count, uint32_t max_percent, bool has_other)
{
    size_t left = bound_of(count, max_percent, has_other);
    for (size_t i = 0; i < count; i++) {
        replicas[i].is_out = replicas[i].is_broken && left > 0;
        left -= replicas[i].is_out;
    }
    for (size_t i = 0; i < count; i++) {
        bool goes = replicas[i].is_gray && !replicas[i].is_broken && left > 0;
        replicas[i].is_out |= goes;
        left -= goes;
    }
}

static size_t bound_of(size_t count, uint32_t max_percent, bool has_other)
{
    size_t bound = count * max_percent / 100;
    if (bound == 0 && max_percent > 0)
        bound = 1;
    size_t most = has_other || count == 0 ? count : count - 1;
    return bound < most ? bound : most;
}
