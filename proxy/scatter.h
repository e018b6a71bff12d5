/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scatter.h - one command that concerns several shards: its pieces go their ways, their replies become one.
 *
 *      client's queue:  ... [r4] [r5: SCATTERED] [r6] ...
 *                                   | pieces, in no client's queue, each a request like any other
 *                                   |--> [p0] lane of shard 2    each may be held, redirected, sent again, or fail
 *                                   |--> [p1] lane of shard 0
 *                                   '--> [p2] lane of shard 2
 *                                last answered: merge (routing/merge.h) -> r5 is ANSWERED
 *
 * The client counts the pieces as in flight, not the whole. Pieces for one node follow each other on one connection.
 *
 * Owner:   a scatter belongs to its whole (request->scatter); ends with it.
 * Threads: one worker only.
 */
#ifndef PROXY_SCATTER_H
#define PROXY_SCATTER_H

#include "proxy/again.h"
#include "proxy/client.h"
#include "routing/plan.h"

/* Sends the command at hand in pieces, as the plan (SPLIT or MASTERS) says. False if the client is stalled instead. */
bool scatter_take(struct client *client, const struct command_at_hand *at_hand, const struct request *traits,
                  const struct plan *plan);

/* A piece is answered; the client may be closed by it. */
void scatter_answered(struct request *piece);

/* True if the test holds for any piece and the other request. */
bool scatter_is_any(const struct request *whole, again_test *test, const struct request *other);

/* True if the piece is one that nobody waits for while its node says nothing; for longer than Redis lets a script run before
 * it says so, where it is to end one. scatter_leave_out() then has the command answered without it; false, and nothing is
 * changed, if memory is short. */
bool scatter_may_leave_out(const struct request *piece);
bool scatter_leave_out(struct request *piece);

/* All pieces that are made. */
void scatter_visit(const struct request *whole, void (*visit)(struct request *piece));

/* The client goes: what is on a connection stays there until it is answered, all else is freed, the whole too. */
void scatter_abandon(struct client *client, struct request *whole);

#endif
