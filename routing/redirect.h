/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redirect.h - where a node of a Redis Cluster says that a request belongs, and how it says that nobody may have it.
 *
 *      -MOVED 3999 127.0.0.1:6381      -ASK 3999 node3.example:6381      -MOVED 3999 ::1:6381      -MOVED 3999 :6381
 *
 * Without a host (or with "?") it means the host of the node that says so
 * (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/, "MOVED Redirection").
 *
 * Pure: no state.
 */
#ifndef ROUTING_REDIRECT_H
#define ROUTING_REDIRECT_H

#include "routing/slice.h"

#include <stdint.h>

struct redirect {
    uint32_t slot;
    struct slice host; /* empty: that of the node itself; without brackets */
    uint16_t port;
};

/* What CLUSTERDOWN is said for: Redis has words for each. */
enum redirect_down {
    DOWN_SLOT,    /* nobody has the slot */
    DOWN_CLUSTER, /* the node believes that of another slot, or is in a minority: it answers for no key */
    DOWN_WRITES,  /* ... only for those that are read */
};

/* Reads a complete error reply. False if it is not such a one. */
bool redirect_read(struct slice reply, struct redirect *redirect);

/* Which CLUSTERDOWN the complete error reply is; DOWN_SLOT if it has none of the other words. */
enum redirect_down redirect_down_of(struct slice reply);

/* The reply that says so. */
struct slice redirect_down_text(enum redirect_down down);

#endif
