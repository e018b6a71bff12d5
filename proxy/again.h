/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * again.h - requests that are to be sent again, in their client's order.
 *
 * A node has refused a request and did nothing of it, but what its client sent behind it is on the way already. Mostly all
 * of that is refused as well. So none of a client's goes again before those that must come behind it are answered:
 *
 *      sent:        SET k 1   INCR k   GET k
 *      answered:    MOVED     MOVED    MOVED     all go again, one behind the other
 *      answered:    MOVED     8        8         INCR has overtaken SET, which must not happen after it: SET is answered
 *                                                with an error, which says that it was not done
 *
 * The same where INCR was answered before SET, by another node. What is on its way for other keys is not waited for.
 * Meanwhile they count as held, so that nothing else of the client goes. Reads overtake reads as they like. A node that
 * was not ready may be so again, and then not: so what it refused for that (goes_alone, where there was no other node to
 * go to) does not go together with what is behind it. The oldest goes, and when it is answered, the others.
 *
 * Owner:   the queue of those that are aside belongs to their client, what may go at once to the worker.
 * Threads: one worker only.
 */
#ifndef PROXY_AGAIN_H
#define PROXY_AGAIN_H

#include "proxy/request.h"
#include "routing/error.h"

struct client;
struct upstream;
struct worker;

/* What has become of a request, for those before it (request->effect). */
enum again_effect {
    AGAIN_NONE, /* answered with an error, so that nothing was done; or not answered */
    AGAIN_DONE, /* or, of a read, seen */
    AGAIN_LOST, /* nobody knows */
};

typedef bool again_test(const struct request *one, const struct request *other);

/* Takes a NEW request, which will be dispatched once more at the end of this loop turn, or when all is answered
 * that must not come before it. */
void again_take(struct worker *worker, struct request *request);

/* True if the request has to wait for older ones of its client that are held, or aside. */
bool again_is_behind(const struct request *request);

/* To be called before this one, of a client with some aside, is answered, when its effect is known. Ends those before it
 * that it has overtaken; that may close the client. */
void again_overtaken_by(const struct request *by);

/* True if it matters which of two requests of one client is done first. */
bool again_is_order(const struct upstream *upstream, const struct request *request, const struct request *other);

/* True if the request, or one with these traits, would overtake another that is on its way to another shard: to one that
 * had its keys when that was sent. May cost a look at all that the client has in flight. */
bool again_is_barred(const struct client *client, const struct request *request);

/* Something of the client has been answered: perhaps what is aside may go. */
void again_look(struct client *client);

/* All that may go now, in order. */
struct request_queue again_pop_all(struct worker *worker);

/* Ends all of the client that are aside with an error; that may close the client. */
void again_fail(struct client *client, enum error error);

/* The client goes: what is aside is freed like all that is to be dispatched without a client. */
void again_forget(struct client *client);

#endif
