/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * connection.h - one connection to a node, with the requests that are on it.
 *
 *   CONNECTING --> AUTHENTICATING --> NEGOTIATING --> SELECTING --> READONLY --> READY --> CLOSED
 *        |          (if configured)    (HELLO, for     (database     (replica in   ^   |
 *        |                              RESP3)          not 0)        a cluster)   '---' a dedicated connection does
 *        '-----------> CLOSED                                                            so again for its next borrower
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
struct config_upstream;

/* Somebody in the proxy who waits for what a node says. */
struct inquiry {
    struct inquiry *next;
    void (*answered)(struct inquiry *inquiry, struct slice reply); /* one complete reply; empty: there is none */
};

/* Whether the id that the connection has at its node is known. */
enum connection_identity {
    CONNECTION_UNASKED,
    CONNECTION_ASKED,
    CONNECTION_IDENTIFIED,
    CONNECTION_NAMELESS, /* the node does not tell */
};

enum connection_state {
    CONNECTION_CONNECTING,
    CONNECTION_AUTHENTICATING,
    CONNECTION_NEGOTIATING,
    CONNECTION_SELECTING,
    CONNECTION_READONLY,
    CONNECTION_READY,
    CONNECTION_CLOSED,
};

/* Does it know which run of the server it leads to? Asked when first needed; see cursors.h. */
enum connection_run { RUN_UNKNOWN, RUN_ASKED, RUN_TOLD };

struct connection {
    ev_io io;
    struct backend *backend;
    struct connection *next, *previous; /* all of its backend */
    struct connection *next_idle;       /* dedicated, not borrowed */
    struct connection *next_dirty;      /* something to write */
    struct connection *next_dead;       /* closed, to be freed at the end of the loop turn */
    struct ear *ear;                    /* dedicated, and no client's but for what it hears (ears.h); NULL mostly */
    struct client *owner;               /* dedicated and borrowed */
    struct request_queue queue;
    struct request *unsent;
    size_t unsent_offset; /* bytes of unsent that are written */
    struct request *gate; /* not written, nor what is behind it, before the run is told; NULL mostly */
    uint32_t count;       /* requests in the queue */
    uint32_t taken;       /* requests that were answered; may wrap */
    uint32_t told;        /* ... as far as the backend knows */
    uint32_t timed_until; /* taken, when what is timed now is answered */
    uint64_t timed_us;    /* since when that is; 0 = nothing is timed */
    struct resp_reply reply;
    struct spans frame;     /* a frame that must be seen whole: greeting, pub/sub, monitor */
    uint64_t established_us; /* a time at which the process that it leads to was there, or later; 0 = it leads nowhere yet */
    uint64_t retire_at_ms;  /* it has lived long enough then (pool.h); 0 = never */
    uint64_t give_up_ms;    /* connecting and greeting must be done by then */
    uint64_t marked_for;    /* id of the client whose writes are all before the last mark on it; 0 = none */
    uint64_t idle_since_ms; /* dedicated and idle; shared: when it last became empty */
    char *name;             /* set on the node; NULL = none */
    uint64_t node_client_id;/* its id at the node, where identified */
    struct inquiry identifying;
    struct inquiry *awaiting_identity;
    uint32_t database;      /* selected on the node */
    uint32_t target_database;
    uint8_t protocol;       /* spoken on the node: 2 or 3 */
    uint8_t target_protocol;
    uint8_t state;          /* enum connection_state */
    uint8_t identity;       /* enum connection_identity */
    uint16_t lane_index;    /* which of the shared ones of its database */
    uint8_t lane;           /* enum lane */
    uint8_t run;            /* enum connection_run */
    uint16_t run_mark;      /* once told; 0 = the node does not say */
    bool is_dedicated : 1;
    bool is_dirty : 1;
    bool is_new : 1;      /* it was not ready yet: counted in node_gauge.connecting */
    bool is_retiring : 1; /* gets no new requests and is closed when its queue is empty */
    bool was_used : 1;    /* something of the present borrower was written to it */
    bool was_answered : 1;/* the node has answered anything at all */
    bool must_ask : 1;    /* selects even if the database is the right one */
    bool has_written : 1; /* WAIT on it speaks of something that was written on it */
    bool loads_scripts : 1; /* SCRIPT LOAD of ours was queued on it */
    bool is_refused : 1;  /* it closes since the transaction on it was refused, of which nothing is done */
    bool in_multi : 1;    /* a MULTI was answered on it, and nothing that ends it */
    bool has_watched : 1; /* by its borrower; a WATCH was answered, and nothing that ends it */
    bool is_readonly : 1; /* READONLY goes with its greeting: a replica in a Redis Cluster, for reads */
    bool was_readonly : 1; /* ... and was answered */
    bool is_marked : 1;   /* a command left traces on it (AUTH in a transaction): not lent to anybody else */
};

/* What a connection of another kind (tunnel.h) needs as well: a socket that connects, or -1 (errno); the words of AUTH,
 * and how many, where a password is configured; whether the answer to that lets us in. */
int connection_begin(const struct backend *backend);
size_t connection_auth(const struct config_upstream *config, struct slice words[3]);
bool connection_is_let_in(struct slice reply);

/* Begins to connect; the connection may be queued on at once. protocol is 2 or 3. NULL if it cannot even begin
 * (errno). */
struct connection *connection_open(struct backend *backend, uint32_t database, uint8_t protocol, bool is_dedicated);

/* Appends a request; it is written at the end of the loop turn, or when the connection is ready. */
void connection_queue(struct connection *connection, struct request *request);

/* Before the next use: agrees on the protocol and selects the database if it is another, or in any case if must_ask
 * (which also proves that the node answers). Requests may be queued at once. */
void connection_prepare(struct connection *connection, uint32_t database, uint8_t protocol, bool must_ask);

/* Its borrower has said HELLO: from what is queued next on, the node speaks this protocol. Nothing may be queued or
 * unanswered. */
void connection_speak(struct connection *connection, uint8_t protocol);

/* Lets the node know the borrower's name (CLIENT SETNAME) if it has another, ahead of what is queued next, whose
 * timeout it has, lest it hide that. */
void connection_name(struct connection *connection, const char *name, uint32_t timeout_ms);

/* Asks the node for the connection's id there (CLIENT ID) if that was not done yet, ahead of what is queued next. */
void connection_identify(struct connection *connection);

/* While its identity is CONNECTION_ASKED: to be called when that is over, one way or the other. */
void connection_await_identity(struct connection *connection, struct inquiry *inquiry);

/* Queues a command of the proxy's own. False, and nothing is queued, if memory is short. */
bool connection_inquire(struct connection *connection, const struct slice *words, size_t count, uint32_t timeout_ms,
                        struct inquiry *inquiry);

/* Takes a request out of the queue again; false if a byte of it was written already. */
bool connection_take_back(struct connection *connection, struct request *request);
/* Queues a command that every replica is sent and nobody notices: a WAIT behind it waits for all that the master
 * was sent before. False if memory is short. */
bool connection_mark(struct connection *connection);
/* Queues a question of our own, whose reply is given to whom it concerns. False if memory is short. */
bool connection_ask(struct connection *connection, const struct slice *words, size_t count,
                    enum request_question question);

/* Queues commands of ours, in bytes that are copied, with so many replies. False if memory is short. */
bool connection_say(struct connection *connection, struct slice commands, uint32_t replies,
                    enum request_question question);

/* Takes the oldest request off the queue, since it is answered, or lost; or since it has changed nothing and is to be sent
 * elsewhere, so that its keys are read where they were before. */
struct request *connection_take_oldest(struct connection *connection);
struct request *connection_take_undone(struct connection *connection);

/* The oldest request, one of the proxy's own, is answered. */
void connection_done(struct connection *connection);

/* Takes the oldest request off the queue, which is answered but to be sent again: to the worker's reroute queue. */
void connection_send_again(struct connection *connection, struct request *request);

/* A request that was sent, of a client, has no reply in time: it ends with an error, and its reply should it come is dropped
 * (overdue.h). Nothing happens if memory is short. */
void connection_give_up(struct connection *connection, struct request *request);

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
