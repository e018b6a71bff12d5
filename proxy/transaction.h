/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * transaction.h - a transaction that can begin again on another node: where its slot is, or at the next master.
 *
 * Until EXEC is carried out nothing of a transaction has happened. So what a client says from MULTI on is kept, and when
 * a node refuses a command of it because the slot is elsewhere, or on its way, all of it is said again where the slot is;
 * and where the next master is, if the connection is lost before EXEC was sent.
 *
 *      kept:        MULTI  SET k 1  INCR n
 *      connection:  [opening: MULTI, SET k 1] [INCR n] [EXEC]        the opening is the proxy's own request, with as
 *                                     |                              many replies as commands
 *                                     '-- MOVED: nothing of it happened
 *      another:     [opening: MULTI, SET k 1] [INCR n] [EXEC]
 *
 * That is also how a transaction begins whose place is not known at MULTI (placement.h).
 *
 * What it cannot do is told truthfully (redirect_refusal()): with scripts that nobody has sent through this proxy, with
 * more than SCRIPTS_MOST others, or more than KEPT_MOST bytes. What its client watches is of no worth once the slot or the
 * master is another: such a transaction is void. Its commands are answered QUEUED and its EXEC nil, as where somebody else
 * has changed a watched key.
 *
 * Owner:   what is kept belongs to the client, which calls transaction_forget().
 * Threads: one worker only.
 */
#ifndef PROXY_TRANSACTION_H
#define PROXY_TRANSACTION_H

#include "proxy/connection.h"
#include "routing/verdict.h"

struct client;
struct transaction;

/* MULTI is going to be added; whatever there was is over. */
void transaction_begin(struct client *client);

/* A command of the transaction that no node has been told of yet. False if memory is short. */
bool transaction_add(struct client *client, const struct slice *words, size_t count);

/* Bytes of what is kept. */
size_t transaction_bytes(const struct client *client);

/* The request is the next command of the transaction; what has to be said before it is all that is kept by now. */
void transaction_note(struct request *request);

/* The next command is EVALSHA with this word: the script has to be on whatever node the transaction begins at. If it is not
 * kept, or one of too many, the transaction cannot begin again from here on. */
void transaction_needs_script(struct client *client, struct slice word);

/* The request was answered with an error. Where that means that it is not queued, EXEC will fail, wherever it is sent to. */
void transaction_flaw(const struct request *request);

/* Ahead of a request that opens_transaction, each time that it is queued. False, and the request has failed, if memory
 * is short. */
bool transaction_open(struct connection *connection, struct request *request);

/* A reply to the opening, which is the oldest request of the connection. */
void transaction_take_opening(struct connection *connection, struct slice frame);

/* A node of a cluster has refused the request. True if its transaction can begin again: transaction_restart() closes the
 * connection, and the request and all behind it go elsewhere. */
bool transaction_may_restart(const struct connection *connection, const struct request *request);
void transaction_restart(struct connection *connection, struct request *request);

/* A client's own connection is being closed. True if the transaction on it can begin again, since no EXEC was sent: what
 * there is of it in the queue is taken along, or else the next command opens it. */
bool transaction_survives(const struct connection *connection, enum outcome outcome);
void transaction_take_along(struct connection *connection, struct request_queue *taken);

/* It cannot: what is held of it, and would go elsewhere without the rest, must not run. */
void transaction_strand(const struct client *client);

/* True if its client watches keys, so that the transaction is void now. */
bool transaction_make_void(const struct connection *connection, struct request *request);

/* What the client of a void transaction is told: *reply changes where the node's own will not do. */
struct slice transaction_void_reply(const struct request *request, struct slice reply);

/* The same for one whose connection is being closed, before EXEC was sent; and the end of what was on it: unanswered as it
 * is, the client is told of it what it is told of the rest. */
bool transaction_is_void(const struct connection *connection, enum outcome outcome);
void transaction_end_void(struct request *request);

/* One of its commands has failed. Without that EXEC would carry out a part of it, and without MULTI each would run at once:
 * what is still to be sent of it must not run. */
void transaction_spoil(const struct request *request);

/* True for its EXEC, or DISCARD. */
bool transaction_ends_with(const struct request *request);

/* The transaction has ended, or its client. */
void transaction_forget(struct client *client);

#endif
