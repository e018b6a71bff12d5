/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * persona.h - what clients of an address take us for: one Redis, a Redis Cluster, a replica, a Sentinel.
 *
 *      proxy.listen = 127.0.0.1:6380, 127.0.0.1:7000 as cluster, 127.0.0.1:26379 as sentinel, 127.0.0.1:6381 as replica
 *
 * A persona changes what we say of ourselves, and for a replica which nodes are asked; how commands travel it does not
 * change. persona.c has what all of them need: the addresses that a client is told, ids made of these, and what INFO,
 * ROLE and HELLO say. persona_cluster.c answers CLUSTER; persona_sentinel.c is all that a Sentinel can do.
 *
 * Addresses that are told are those under which the client that asks can reach us: where we listen on all interfaces
 * it is told the one that it is connected to.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_PERSONA_H
#define PROXY_PERSONA_H

#include "proxy/client.h"
#include "proxy/config.h"

enum {
    PERSONA_HOST_MAX = 256, /* with its NUL */
    PERSONA_ID_SIZE = 41,   /* 40 hexadecimal digits and NUL */
};

/* The words of a replica that is asked to WAIT. */
#define PERSONA_NO_WAIT                                                                                                \
    SLICE("-ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is "    \
          "configured to be writable (which is not the default) writes to replicas are just local and are not "        \
          "propagated.\r\n")

struct persona_address {
    char host[PERSONA_HOST_MAX]; /* an IP address in numbers, or a name from proxy.peers */
    uint16_t port;
};

/* Where the client is connected to; for one on a unix socket 127.0.0.1 and port 0. */
void persona_reached(const struct client *client, struct persona_address *address);

/* Those of our TCP addresses that have this persona, as this client reaches them, the one first that is most like its
 * own. Writes at most room of them and returns how many there are. */
size_t persona_addresses(const struct client *client, enum persona persona, struct persona_address *addresses,
                         size_t room);

/* The master that a replica or a Sentinel tells of: the first plain address, or another of ours where there is none. */
void persona_master(const struct client *client, struct persona_address *address);

/* An id that only the address and `kind` decide, so that all processes and connections tell the same. */
void persona_id(const char *kind, const struct persona_address *address, char id[PERSONA_ID_SIZE]);

/* What the server's mode and role are called. */
const char *persona_mode(const struct client *client);
const char *persona_role(const struct client *client); /* in HELLO; NULL: a Sentinel has none */

/* How the proxy refuses this command (with the right number of words) where Redis would do it and our nodes might not:
 * INSPECT_READONLY, INSPECT_BARRED, INSPECT_NO_MOVE and its like, or INSPECT_NOTHING. */
enum request_inspection persona_bars(const struct client *client, const struct command_at_hand *at_hand);

/* CLUSTER of a client that takes us for a node of a Redis Cluster, and ASKING, READONLY, READWRITE. A handler as those
 * in local.h. */
bool persona_cluster_answer(struct client *client, const struct command_at_hand *at_hand);

/* Whatever a client of a Sentinel sends. A handler as handler_take(). */
bool persona_sentinel_take(struct client *client, const struct command_at_hand *at_hand);

#endif
