/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tally.h - where a client's requests stand, counted by what their keys are in.
 *
 * again.h asks of each request whether another of its client is in its way. To look at all of them answers
 * that, but where many are lost at once, or sent again, each would look at each: pieces of pipelined commands
 * are a hundred thousand soon. The tally answers "none, for sure" at once; where it says "perhaps", one has to
 * look. It may say that once too often, since it keeps the newest that was done of each place, whether or not
 * that counts any more.
 *
 *      place 7    on connections: 2 reads, 1 write, all at backend B
 *                 aside: 1 write, none older than the 12th
 *                 done: the newest read is the 9th, the newest write the 4th
 *      shard 1, no place, all: the same
 *
 * It is begun when something is asked of a client that has many requests in flight, and ends when none is left.
 * Whoever moves a request tells it, which costs a look at client->tally mostly.
 *
 * Owner:   the client.
 * Threads: one worker only.
 */
#ifndef PROXY_TALLY_H
#define PROXY_TALLY_H

#include "proxy/client.h"

struct tally;

typedef bool tally_question(const struct client *client, const struct request *request);

/* Counts all that the client has. Should memory be short, there is none. */
void tally_create(struct client *client);
void tally_destroy(struct client *client);

/* The request, of a client with a tally, is on a connection now; is on none any more, if it was counted there;
 * is answered, and its effect is known; is aside; or no more. */
void tally_take(struct request *request);
void tally_release(struct request *request);
void tally_answer(struct request *request);
void tally_set_aside(const struct request *request);
void tally_take_up(const struct request *request);

/* False only if nothing is on a connection that must be done before or behind the request; or nothing of that
 * at another shard than the request's. */
bool tally_has_queued(const struct client *client, const struct request *request);
bool tally_has_elsewhere(const struct client *client, const struct request *request);

/* False only if nothing was done behind the request that must be done before it. */
bool tally_has_overtaken(const struct client *client, const struct request *request);

/* False only if nothing is aside that this one, answered now, has overtaken. */
bool tally_has_aside(const struct client *client, const struct request *by);

#endif
