/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tunnel.h - a client that has become a replica (SYNC, PSYNC, REPLCONF): bytes pass both ways as they are.
 *
 *      client of the proxy -- SYNC --> CONNECTING --> AUTHENTICATING --> RELAYING --> closed
 *                                         |           (if configured)
 *                                         '--> closed
 *
 * A replication stream is no sequence of replies, so neither client.c nor connection.c can carry it. The client's
 * descriptor, what it had sent from that command on and what it was still to be written move here; the client itself is
 * gone then, for CLIENT LIST too, but counts towards proxy.max_clients. Each direction has one buffer: while it is
 * full, its source is not read from.
 *
 * Such a connection leads to the master, and is cut when that loses its role. Only where admin.allow_dangerous names
 * the command.
 *
 * Owner:   its worker. Threads: one worker only.
 */
#ifndef PROXY_TUNNEL_H
#define PROXY_TUNNEL_H

#include "proxy/client.h"

struct backend;
struct worker;

/* The client, whose input begins with the command and whose requests are all answered, goes on as a tunnel to the
 * master. The client is closed in any case. */
void tunnel_begin(struct client *client);

/* Closes those that lead to this node. */
void tunnels_cut(struct worker *worker, const struct backend *backend);

/* Every 100 ms: gives up those that cannot connect. */
void tunnels_tick(struct worker *worker);

/* Closes all. */
void tunnels_finish(struct worker *worker);

#endif
