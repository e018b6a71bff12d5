/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unblock.h - CLIENT UNBLOCK, by the ids that the proxy hands out.
 *
 * Whether a client is unblocked or has just got what it waited for, only the node can tell, since an element
 * may be popped for it at that very moment. So the client's worker asks the node that it blocks on: CLIENT
 * UNBLOCK with the id that the dedicated connection has there, on a shared connection to the same node. What
 * the node answers is the answer. A command that has not been sent to a node yet is ended here.
 *
 *      asker's worker -> gather -> worker of the blocked client -> node -> back
 *
 * A command that was sent a moment ago may not block yet when the node is asked: while it is unanswered, the
 * node is asked again, a few times.
 *
 * Threads: each worker in its turn.
 */
#ifndef PROXY_UNBLOCK_H
#define PROXY_UNBLOCK_H

#include "proxy/client.h"

/* A handler as local.h has them. */
bool unblock_client(struct client *client, const struct command_at_hand *at_hand);

#endif
