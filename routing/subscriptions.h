/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * subscriptions.h - the names of one kind (channels, patterns or shard channels) that one client is
 * subscribed to.
 *
 * Kept so that its subscriptions can be begun anew on another connection. All zero is the empty set, which
 * has no memory; a name costs its bytes and about a hundred more (bytes tells all of it, so that its owner
 * can bound it).
 *
 * Owner:   embedded in a session.
 * Threads: one worker only.
 */
#ifndef ROUTING_SUBSCRIPTIONS_H
#define ROUTING_SUBSCRIPTIONS_H

#include "routing/slice.h"

#include <stdint.h>

struct subscription;

struct subscriptions {
    struct subscription *first; /* in the order in which they were added; NULL = none */
    size_t bytes;               /* of memory that the names take */
};

static inline bool subscriptions_are_none(const struct subscriptions *names)
{
    return !names->first;
}

uint32_t subscriptions_count(const struct subscriptions *names);

/* Adds a name (copied) unless it is there. False if memory is short: the set is as before. */
bool subscriptions_add(struct subscriptions *names, struct slice name);

bool subscriptions_has(const struct subscriptions *names, struct slice name);

/* Takes a name out if it is there. */
void subscriptions_remove(struct subscriptions *names, struct slice name);
void subscriptions_clear(struct subscriptions *names);

/* The name that comes after this one (NULL: the first), and NULL at the end. */
const struct subscription *subscriptions_next(const struct subscriptions *names,
                                              const struct subscription *after);
struct slice subscription_name(const struct subscription *subscription);

#endif
