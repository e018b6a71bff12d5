/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * local.h - commands that the proxy answers itself, with the words that Redis has for them.
 *
 * One handler for each enum command_local, in one table. A handler replies by client_reply(), or stalls the
 * client and returns false: the command is then looked at again later.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_LOCAL_H
#define PROXY_LOCAL_H

#include "proxy/client.h"

typedef bool local_handler(struct client *client, const struct command_at_hand *at_hand);

/* True if this command of this client is answered here: not if its connection is in a state in which the node
 * must queue or refuse it. */
bool local_handles(const struct client *client, const struct command *command);

/* Answers it. False if the client was stalled instead. */
bool local_answer(struct client *client, const struct command_at_hand *at_hand);

/* The error for a command or subcommand that a plain Redis does not know, in its words. Returns true, as a
 * handler. */
bool local_answer_unknown(struct client *client, const struct command_at_hand *at_hand);

/* The same for the second word of a container: CLIENT NOSUCH. */
bool local_answer_unknown_subcommand(struct client *client, const struct command_at_hand *at_hand);

/* What a client that is subscribed in RESP2 is told where no node tells it: that the command is not for it; to PING. */
void local_refuse_confined(struct client *client, const char *full_name);
void local_answer_confined_ping(struct client *client, const struct command_at_hand *at_hand);

/* Rewrites the complete reply to INFO or ROLE so that it is that of a plain master without replicas. */
void local_rewrite(struct request *request);

/* Takes a client's name; false if it is none that Redis allows. */
bool local_set_name(struct client *client, struct slice name);

/* The number in SELECT's argument; -1 if it is not one that could be a database. */
int64_t local_read_database(struct slice word);

#endif
