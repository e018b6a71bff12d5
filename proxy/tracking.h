/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracking.h - CLIENT TRACKING: a client that keeps copies of keys is told when they change
 * (https://redis.io/docs/latest/develop/reference/client-side-caching/).
 *
 * The node keeps account of what was read on a connection and sends invalidations there, so a tracking client has a
 * connection of its own to the master, from the node's +OK on until TRACKING OFF or RESET, and all its reads go
 * there. Where that connection is lost, changes may be missed: the client is told to forget all that it keeps, and tracking
 * goes on at the next master (session_restore()). With OPTIN it is disconnected instead, as by a Redis that dies: what
 * it had opted in for may be answered by a connection that knows nothing of that.
 *
 * Invalidations for another connection (REDIRECT) name it by an id of the node's, and those of the proxy's clients
 * are ids of the proxy's: answered as Redis does for an id that nobody has, rather than to redirect to a stranger.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_TRACKING_H
#define PROXY_TRACKING_H

#include "proxy/client.h"

/* A handler of local.h: on its way to the node, or refused. */
bool tracking_answer(struct client *client, const struct command_at_hand *at_hand);

/* True if it asks for invalidations: not OFF, nor what is wrong. */
bool tracking_begins(const struct command_at_hand *at_hand);

/* What must be seen of the answer: INSPECT_TRACKING_ON, _OPTIN, _BCAST, _OFF, or nothing. */
enum request_inspection tracking_inspection(const struct command_at_hand *at_hand);

/* The node has answered the request. */
void tracking_answered(struct request *request, bool is_good);

/* The connection is gone. False if the client is, too. */
bool tracking_lost(struct client *client);

#endif
