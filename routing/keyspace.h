/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keyspace.h - channels of keyspace notifications, which only the node tells where the key is
 * (https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/).
 *
 * Pure: no state.
 */
#ifndef ROUTING_KEYSPACE_H
#define ROUTING_KEYSPACE_H

#include "routing/slice.h"

/* __keyspace@0__:key, __keyevent@0__:event */
bool keyspace_is_channel(struct slice channel);

/* True if a pattern of PSUBSCRIBE may match such a channel; when in doubt. */
bool keyspace_may_match(struct slice pattern);

#endif
