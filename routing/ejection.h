/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ejection.h - how many replicas of a shard may lose their reads at the same time?
 *
 * A breaker or a judgement of slowness takes reads from a node and gives them to those that are left. If too many lost
 * them, the rest would drown: so no more than breaker.max_ejected percent of a shard's fit replicas do (but one always
 * may, unless that is 0), and never the last node that could answer. Those that are broken go first. A broken node
 * beyond the bound is spared: it is tried with requests as if its breaker were closed.
 *
 * Pure: the caller owns the list.
 */
#ifndef ROUTING_EJECTION_H
#define ROUTING_EJECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ejection {
    bool is_broken; /* its breaker is not closed */
    bool is_gray;   /* gray.h */
    bool is_out;    /* the decision */
};

/* has_other: there is a node besides these, the master, that may answer their reads. */
void ejection_decide(struct ejection *replicas, size_t count, uint32_t max_percent, bool has_other);

#endif
