/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redirect.h - a node of a Redis Cluster says that a request does not belong there, or not now.
 *
 *      MOVED       the place is that node's from now on, for this worker, until the next topology says what is so;
 *                  the control thread is told. The request goes there at once.
 *      ASK         this request goes there once, with ASKING before it. Nothing is learned.
 *      TRYAGAIN    of several keys some have gone already: once more after a short while.
 *      CLUSTERDOWN nobody has the place: the same, and the control thread looks who has it.
 *
 * A few redirects in a row are followed at once, then there is a pause before each. In all a request is kept no
 * longer than failover.hold_time, then its client is told what was said last, in Redis' own words, but never MOVED or ASK.
 *
 * Order. A request may have been sent behind the one that is redirected and find the place settled again. So once a
 * place is known to be on its way (unsettled), requests of one client for it go one by one.
 *
 * A transaction begins again where its slot is (transaction.h), or else the client is told that nothing of it was done.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_REDIRECT_H
#define PROXY_REDIRECT_H

#include "proxy/connection.h"

struct upstream;

/* The oldest request of a client on the connection was refused so. True if it goes on its way again; else its reply is changed
 * where it must not be seen. */
bool redirect_take(struct connection *connection, struct request *request, enum refusal refusal, struct slice error);

/* True if it speaks of that place. */
bool redirect_is_for(struct slice error, uint32_t place);

/* Takes note of a redirect that somebody else deals with. False if it says nothing new of the place. */
bool redirect_note(struct connection *connection, struct slice error);

/* The oldest request is a WAIT, whose mark was redirected: it goes again, in a while, on another connection. */
void redirect_wait(struct connection *connection, struct request *wait);

/* Queues ASKING, right ahead of the request, or of what opens its transaction: it holds for the next command only. Where memory
 * is short the node will send the request back. */
void redirect_ask(struct connection *connection, struct request *request);

/* Nobody is known to have the request's place: no node need be asked what it says to that. */
void redirect_uncovered(const struct upstream *upstream, struct request *request);

/* What the client is told when the time of such a request is over; empty if no node had anything against it. */
struct slice redirect_end(const struct request *request);

/* What is told of a request in a transaction instead of a redirect. */
struct slice redirect_refusal(const struct request *request);

#endif
