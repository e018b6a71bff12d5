/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * waits.h - WAIT of a client whose writes went to several masters: all are asked, the least number is the answer, as
 * Redis' tips have it. Also of one whose own connection is there for something else, at another master than the one that it
 * wrote to: that one is asked.
 *
 * Each master is asked on a connection of its own for just this, behind a mark (connection_mark), so that it counts
 * replicas that have all that the master had by then. The client is stalled meanwhile (STALL_WAITS). While one is not
 * there, is lost before it has answered or has its slot on the way elsewhere, all are asked again, until the command's
 * own time is over (nobody is known to have it all, then), or failover.hold_time. Where a master was replaced since the
 * first of the writes, nobody can tell.
 *
 * Owner:   struct waits belongs to itself: ends when the last master has answered or is lost; client->waits points to it
 *          as long as there is a client.
 * Threads: one worker only.
 */
#ifndef PROXY_WAITS_H
#define PROXY_WAITS_H

#include "proxy/client.h"

/* Takes the command at hand, WAIT or WAITAOF; nothing of the client is in flight. */
void waits_begin(struct client *client, const struct command_at_hand *at_hand, const struct request *traits);

/* Ends with this reply, static text, or if it is empty as when its time is over. */
void waits_end(struct client *client, struct slice reply);

/* The client goes. */
void waits_abandon(struct client *client);

#endif
