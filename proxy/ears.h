/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ears.h - what a client is to hear from masters where it has no connection of its own: keyspace notifications, and
 * shard channels.
 *
 * A node tells only of its own keys. So besides the connection on which a client is subscribed (its home), there is an
 * ear at each other master: a further connection, subscribed to the same names. Of what it hears by these, only
 * notifications go to the client; other messages come over the home already.
 *
 *      SUBSCRIBE __keyevent@0__:expired   the client is stalled (STALL_EARS)
 *         each other master               SUBSCRIBE the same; what it confirms is for nobody
 *      all have confirmed                 the client's command goes on its usual way
 *
 * Shard channels are at the master of their slot, and those of one client may be at several: wherever places matter
 * (upstream->is_sharded), all of them are heard by ears, and the client's confirmations are ours.
 *
 *      SSUBSCRIBE channel                 the client is stalled
 *         master of its slot              SSUBSCRIBE channel; MOVED is followed
 *      it has confirmed                   the client is told, with the count of all of its shard channels
 *
 * So whoever has got the confirmation hears of everything that happens from then on. When a slot goes, its node says so
 * by a sunsubscribe that nobody asked for, one for each channel; all are then subscribed to where the slot is, at the end
 * of the loop turn, and the client does not learn of it. An ear that is lost, or whose master is another one now, is opened anew; for notifications, a master that
 * cannot be reached is not waited for.
 *
 * Masters that know nothing of each other do not pass messages on: there the ear at the first of them, to which all
 * PUBLISH goes, passes on all of them while the home is elsewhere for a transaction's sake (ears_carry()).
 *
 * Ears speak RESP2, in which frames differ from those of RESP3 by their first byte alone.
 *
 * Owner:   struct ears belongs to its client; an ear's connection to its backend, and points back (connection->ear).
 *          They count as dedicated connections of their nodes. The names of shard channels are in the session.
 * Threads: one worker only.
 */
#ifndef PROXY_EARS_H
#define PROXY_EARS_H

#include "proxy/client.h"
#include "proxy/connection.h"

struct ears;
struct ear;

/* The command at hand subscribes to channels or patterns. True if it may go now; else the client is stalled, and goes on
 * when the ears are ready. */
bool ears_ready(struct client *client, const struct command_at_hand *at_hand);

/* SSUBSCRIBE or SUNSUBSCRIBE, with channels of one place. True if it was answered; else the client is stalled. */
bool ears_hear(struct client *client, const struct command_at_hand *at_hand);

/* The client is confined, and no node knows of it, since it has no more than shard channels, or would say something else. True
 * if the command at hand was answered as a node would that has all slots. */
bool ears_refuse(struct client *client, const struct command_at_hand *at_hand);

/* The home of a client that is subscribed is about to leave the master that hears of messages. True if it may now; else
 * the client is stalled. */
bool ears_carry(struct client *client);

/* The client's own connection has confirmed something; ears follow where that undid names, or it is a new home. */
void ears_follow(struct client *client, bool is_undone);

/* A frame on an ear's connection, whole. */
void ears_take(struct connection *connection, struct slice frame);

/* An ear's connection is gone. */
void ears_lost(struct connection *connection);

/* At the end of a loop turn: what nodes have said in it of any number of names is acted upon once. */
void ears_arrange_all(struct worker *worker);

/* Time has passed, or the topology has changed (is_new): every client has the ears that it needs. */
void ears_refresh(struct upstream *upstream, bool is_new);

/* The client goes, or begins anew. */
void ears_forget(struct client *client);

/* Memory for names, beside what the session has. */
size_t ears_bytes(const struct client *client);

#endif
