/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * connection.h - one connection to a node, with the requests that are on it.
 *
 *   CONNECTING --> AUTHENTICATING --> NEGOTIATING --> SELECTING --> READY --> CLOSED
 *        |          (if configured)    (HELLO, for     (database     ^   |
 *        |                              RESP3)          not 0)       '---' a dedicated connection does so again
 *        '-----------> CLOSED                                              for its next borrower
 *
 * The queue is both what waits to be written and what waits for a reply; nothing is copied to send it:
 *
 *      queue:   [r1] [r2] [r3] [r4] [r5]
 *               ^ the next reply is its   ^ unsent: the first not wholly written
 *
 * A shared connection carries requests of many clients. A dedicated one belongs to one client (owner) while
 * borrowed. AUTH goes first and alone: a node that refuses it may drop the replies of what came with it.
 *
 * Closing is one function; requests that were on the connection get their verdict there and are either failed
 * or put on the worker's reroute queue. The memory is freed at the end of the loop turn.
 *
 * Owner:   its backend. Threads: one worker only.
 */
#ifndef PROXY_CONNECTION_H
#define PROXY_CONNECTION_H

#include "proxy/request.h"
#include "routing/resp.h"
#include "routing/verdict.h"

#include <ev.h>

struct backend;
struct client;

enum connection_state {
    CONNECTION_CONNECTING,
    CONNECTION_AUTHENTICATING,
    CONNECTION_NEGOTIATING,
    CONNECTION_SELECTING,
    CONNECTION_READY,
    CONNECTION_CLOSED,
};

struct connection {
    ev_io io;
    struct backend *backend;
    struct connection *next, *previous; /* all of its backend */
    struct connection *next_idle;       /* dedicated, not borrowed */
    struct connection *next_dirty;      /* something to write */
    struct connection *next_dead;       /* closed, to be freed at the end of the loop turn */
    struct client *owner;               /* dedicated and borrowed */
    struct request_queue queue;
    struct request *unsent;
    size_t unsent_offset; /* bytes of unsent that are written */
    uint32_t count;       /* requests in the queue */
    struct resp_reply reply;
    struct spans frame;     /* a frame that must be seen whole: greeting, pub/sub, monitor */
    uint64_t give_up_ms;    /* connecting and greeting must be done by then */
    uint64_t idle_since_ms; /* dedicated and idle; shared: when it last became empty */
    char *name;             /* set on the node; NULL = none */
    uint32_t database;      /* selected on the node */
    uint32_t target_database;
    uint8_t protocol;       /* spoken on the node: 2 or 3 */
    uint8_t target_protocol;
    uint8_t state;          /* enum connection_state */
    uint8_t lane_index;     /* which of the shared ones of its database */
    bool is_dedicated : 1;
    bool is_dirty : 1;
    bool is_retiring : 1; /* gets no new requests and is closed when its queue is empty */
    bool was_used : 1;    /* something of the present borrower was written to it */
    bool was_answered : 1;/* the node has answered anything at all */
    bool must_ask : 1;    /* selects even if the database is the right one */
    bool is_marked : 1;   /* a command left traces on it (AUTH in a transaction): not lent to anybody else */
};

/* Begins to connect; the connection may be queued on at once. protocol is 2 or 3. NULL if it cannot even begin
 * (errno). */
struct connection *connection_open(struct backend *backend, uint32_t database, uint8_t protocol, bool is_dedicated);

/* Appends a request; it is written at the end of the loop turn, or when the connection is ready. */
void connection_queue(struct connection *connection, struct request *request);

/* Before the next use: agrees on the protocol and selects the database if it is another, or in any case if must_ask
 * (which also proves that the node answers and makes WAIT speak of all writes so far). Requests may be queued at
 * once. */
void connection_prepare(struct connection *connection, uint32_t database, uint8_t protocol, bool must_ask);

/* Its borrower has said HELLO: from what is queued next on, the node speaks this protocol. Nothing may be queued or
 * unanswered. */
void connection_speak(struct connection *connection, uint8_t protocol);

/* Lets the node know the borrower's name (CLIENT SETNAME) if it has another, ahead of what is queued next. */
void connection_name(struct connection *connection, const char *name);

/* Writes what is unsent, as far as the socket takes it. */
void connection_flush(struct connection *connection);

/* The one place where a connection ends. outcome says what its sent requests have come to; reason is for the
 * log and may be NULL when nobody needs to know. */
void connection_close(struct connection *connection, enum outcome outcome, const char *reason);

/* Frees a closed connection; at the end of the loop turn. */
void connection_free(struct connection *connection);

/* The client that owned it is gone: what was sent or queued is still carried out (unless it blocks or streams),
 * then it is closed. */
void connection_abandon(struct connection *connection);

/* Milliseconds of the worker's clock at which its oldest unanswered request is due; 0 = never. */
uint64_t connection_deadline_ms(const struct connection *connection);

#endif
