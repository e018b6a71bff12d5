/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ears.h - keyspace notifications from all masters, for clients that have asked for them.
 *
 * A node tells only of its own keys. So besides the connection on which a client is subscribed, there is an ear
 * at each other master: a further connection of its own, subscribed to the same names. Of what it hears, only
 * notifications go to the client; other messages come over the client's own connection already.
 *
 *      SUBSCRIBE __keyevent@0__:expired   the client is stalled (STALL_EARS)
 *         each other master               SUBSCRIBE the same; what it confirms is for nobody
 *      all have confirmed                 the client's command goes on its usual way
 *
 * So whoever has got the confirmation hears of everything that happens from then on. An ear that is lost, or whose
 * master is another one now, is opened anew; a master that cannot be reached is not waited for.
 *
 * Owner:   struct ears belongs to its client; an ear's connection to its backend, and points back (connection->ear).
 *          They count as dedicated connections of their nodes.
 * Threads: one worker only.
 */
#ifndef PROXY_EARS_H
#define PROXY_EARS_H

#include "proxy/client.h"
#include "proxy/connection.h"

struct ears;
struct ear;

/* The command at hand subscribes. True if it may go now; else the client is stalled, and goes on when the ears are
 * ready. */
bool ears_ready(struct client *client, const struct command_at_hand *at_hand);

/* The client's own connection has confirmed something; ears follow when names are undone. */
void ears_follow(struct client *client);

/* A frame on an ear's connection, whole. */
void ears_take(struct connection *connection, struct slice frame);

/* An ear's connection is gone. */
void ears_lost(struct connection *connection);

/* The topology has changed, or time has passed: every client has the ears that it needs. */
void ears_refresh(struct upstream *upstream);

/* The client goes, or begins anew. */
void ears_forget(struct client *client);

#endif
