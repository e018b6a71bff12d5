/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handler.h - what becomes of one command of a client?
 *
 *      client.c frames it
 *         -> refused (AUTH missing), or answered here (local.c)
 *         -> or a request with its traits: read or write, which database, a connection of its own, blocking
 *         -> or not yet: the client stalls, so that its commands take effect in its order
 *
 * Threads: one worker only.
 */
#ifndef PROXY_HANDLER_H
#define PROXY_HANDLER_H

#include "proxy/client.h"

/* Takes the command at hand. False if it cannot be taken now: the client is stalled then, and its bytes stay. So do
 * the next two and handler_ask_place(). */
bool handler_take(struct client *client, const struct command_at_hand *at_hand);

/* Sends the command at hand to a node. */
bool handler_forward(struct client *client, const struct command_at_hand *at_hand);

/* One client's commands take effect in its order: while some are unanswered, the next may only follow them on the
 * same connection, shard by shard. A script waits until they are answered; what comes behind it follows it on the lane
 * of scripts. False if what has these traits must wait. */
bool handler_may_go(const struct client *client, const struct request *traits);

/* What the proxy notes of the command at hand (command->special) when it goes. False if the client is stalled
 * instead. */
bool handler_note(struct client *client, const struct command_at_hand *at_hand, struct request *traits);

/* Sends a SELECT of a database that nobody has tried yet to a node; its answer decides. */
bool handler_try_database(struct client *client, const struct command_at_hand *at_hand, uint32_t database);

/* A SELECT is about to be queued in the transaction; other commands are no matter. */
void handler_note_select(struct client *client, const struct command_at_hand *at_hand);

/* Sends a command that concerns a place without a key of it to its master. */
bool handler_ask_place(struct client *client, const struct command_at_hand *at_hand, uint16_t place);

#endif
