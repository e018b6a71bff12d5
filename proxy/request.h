/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * request.h - one command on its way, from its client's socket to the last byte of its reply.
 *
 *                 no master, bound not reached
 *      NEW --------------------------------------> HELD
 *       |   no free dedicated connection            | topology changed
 *       |------------------------> WAITING ----.    |
 *       v                                      v    v
 *     QUEUED (on a connection, sent or not) <-------'
 *       |            refused, or lost and safe to send again: back to NEW
 *       v
 *    ANSWERED (reply complete; waits for those before it)
 *
 * A command that concerns several shards is SCATTERED instead: its pieces, requests of their own that are not in the
 * client's queue, go that way each, and their replies become its reply (scatter.h).
 *
 * A request keeps its bytes until it is answered, so that it can be sent again. It is in its client's queue from
 * the moment it is created until its reply has left in order, and in at most one other queue: of a connection,
 * of the held, or of those that wait for a dedicated connection.
 *
 * Owner:   its client; once that is gone (client == NULL) the connection it is queued on.
 * Threads: one worker only.
 */
#ifndef PROXY_REQUEST_H
#define PROXY_REQUEST_H

#include "proxy/chunk.h"
#include "routing/command.h"

#include <stdbool.h>
#include <stdint.h>

struct client;
struct connection;
struct inquiry;
struct touches;

/* What it may write, or reads (touch.h). */
enum touch { TOUCH_NOTHING, TOUCH_KEY, TOUCH_KEYS, TOUCH_ALL };

enum request_state {
    REQUEST_NEW,
    REQUEST_HELD,
    REQUEST_WAITING,
    REQUEST_QUEUED,
    REQUEST_SCATTERED,
    REQUEST_ANSWERED,
};

/* What must be seen in the reply before it may go to the client. */
enum request_inspection {
    INSPECT_NOTHING,
    INSPECT_SELECT, /* +OK changes the client's database */
    INSPECT_INFO,   /* lines are rewritten */
    INSPECT_ROLE,   /* replicas are taken out */
    INSPECT_TRACKING_ON,  /* +OK: the client's connection is its own from now on */
    INSPECT_TRACKING_OPTIN, /* the same, with OPTIN */
    INSPECT_TRACKING_BCAST, /* with BCAST */
    INSPECT_TRACKING_OFF, /* +OK: no longer */
    INSPECT_EXEC,   /* an array carries out a SELECT, or scripts, queued in the transaction */
    INSPECT_REFUSED,/* whatever the node says, the proxy refuses the command */
    INSPECT_BARRED, /* the same; it is not for transactions */
    INSPECT_READONLY, /* the same; its client takes us for a replica */
    INSPECT_NO_MOVE, /* the same; its client takes us for a Redis Cluster, which has one database */
    INSPECT_NO_SWAPDB,
    INSPECT_NO_COPY,
    INSPECT_MONITOR,/* an error: it is not monitoring */
    INSPECT_CURSOR, /* the cursor at its head is marked */
    INSPECT_FLUSH,  /* +OK: the node has forgotten its scripts */
    INSPECT_SCAN,   /* the cursor at its head becomes one of several masters (scan.h) */
    INSPECT_SCAN_CHECK, /* a whole: what all masters say of their slots */
    INSPECT_REDIRECTED, /* in a transaction: the client is not told where the node would have it go */
    INSPECT_VOID,   /* in a transaction that has become void (transaction.h) */
    INSPECT_CROSSED,/* whatever the node says, its keys are in another slot than those of its transaction */
};

/* What the proxy asks itself, by a request without a client. */
enum request_question {
    QUESTION_NONE,
    QUESTION_RUN_ID,      /* INFO: which run of the node a connection leads to */
    QUESTION_SCRIPT_LOAD, /* ahead of an EVALSHA */
    QUESTION_ASKING,      /* ahead of what a node of a cluster has sent elsewhere for once */
    QUESTION_OPENING,     /* what was said before in a transaction (transaction.h) */
};

enum {
    REQUEST_PLACE_NONE = UINT16_MAX, /* names no key: upstream_meeting_shard() */
    REQUEST_LEAST_MS = 250,          /* see request_least_ms() */
};

struct request {
    struct request *next;           /* in the queue of its state */
    struct request *next_of_client; /* in the client's order */
    struct client *client;          /* NULL once it has gone */
    struct connection *connection;  /* while QUEUED */
    struct chunk *chunk;            /* what its bytes lie in; one reference */
    const char *bytes;
    size_t size;
    struct scatter *scatter;      /* SCATTERED, or a piece of one; NULL mostly */
    struct inquiry *inquiry;      /* of the proxy's own: who waits for the reply; NULL mostly, and with a client */
    struct spans reply;           /* what came of it so far and is not with the client yet */
    uint64_t deadline_ms;         /* for its reply, from when it was first queued on a connection; 0 = none yet. WAITING:
                                     for the connection */
    uint32_t timeout_ms;          /* 0 = it may take as long as it takes */
    uint64_t hold_deadline_ms;    /* set when first held */
    uint32_t database;
    uint32_t subscriptions;       /* (un)subscribe: confirmations expected; 0 = one per subscription of its kind.
                                     QUESTION_OPENING: replies */
    uint32_t confirmations;       /* ... and seen */
    uint32_t known_confirmations; /* ... and with the client since the command was sent before */
    uint64_t not_before_ms;       /* held: not to be tried earlier, since a node said so or lost it; 0 = no matter */
    uint64_t redirect_version;    /* of the topology in which redirect_node is meant; 0 = goes where it belongs */
    union {
        uint64_t scan;            /* the cursor that a SCAN over several masters came with */
        struct {
            uint32_t opening_bytes;    /* in a transaction: what was said before (transaction.h) */
            uint32_t opening_commands;
        };
    };
    uint64_t fresh_after_us;      /* a read: replicas that may answer it are fresh as of later than this (freshness.h) */
    struct touches *touches;      /* the keys of TOUCH_KEYS that it writes */
    uint32_t touched;             /* the key of TOUCH_KEY */
    uint32_t replicas_epoch;      /* upstream->replicas_epoch when its node was chosen */
    uint32_t redirect_node;
    uint32_t order;               /* among its client's commands, parts of one alike; may wrap */
    uint16_t place;               /* of its keys (topology.h), or REQUEST_PLACE_NONE; the shard itself if is_for_shard.
                                     Of no interest where there is but one */
    uint16_t attempts;
    uint8_t hops;                 /* redirects in a row */
    uint8_t pauses;               /* times it was told to try again later */
    uint8_t refusal;              /* enum refusal: the last that a node of a cluster had for it */
    uint8_t down;                 /* enum redirect_down: which, if that is CLUSTERDOWN */
    uint8_t state;                /* enum request_state */
    uint8_t inspection;           /* enum request_inspection */
    uint8_t question;             /* enum request_question */
    uint8_t effect;               /* enum again_effect, of it or of any piece that is for a shard */
    uint8_t pin;                  /* enum command_pin */
    uint8_t channel_kind;         /* enum session_channel_kind, of an (un)subscribe */
    uint8_t touch;                /* enum touch */
    uint8_t lane;                 /* enum lane: that it needs */
    uint8_t special;              /* enum command_special; 0 where it need not be looked at before it is queued */
    uint16_t cursor_mark;         /* the mark that its cursor came with and that was taken off; 0 = none */
    bool is_read : 1;             /* safe to send again */
    bool needs_master : 1;
    bool needs_dedicated : 1;
    bool is_unfresh : 1;          /* a read that no replica was fresh enough for */
    bool is_blocking : 1;
    bool in_multi : 1;            /* queued by the node until EXEC; MULTI and EXEC themselves included */
    bool is_spoiled : 1;          /* another command of its transaction has failed: it must not run without that */
    bool is_urgent : 1;           /* must be the first thing on its connection: SCRIPT KILL */
    bool is_silent : 1;           /* CLIENT REPLY OFF or SKIP: its reply is dropped */
    bool is_streaming : 1;        /* part of its reply is already with the client */
    bool is_tallied : 1;          /* counted as QUEUED (tally.h) */
    bool is_overtaken : 1;        /* refused, when one behind it was done already: it must not be done any more */
    bool goes_alone : 1;          /* a node was not ready for it: what is behind it waits until it is answered */
    bool runs_script : 1;         /* now, not at EXEC: its error may be the script's own words */
    bool is_mark : 1;             /* of ours, before a WAIT; no client's */
    bool ends_node : 1;           /* SHUTDOWN: the node answers by closing the connection, and so does the proxy */
    bool undoes_all : 1;          /* an undoing of subscriptions without names */
    bool is_restoring : 1;        /* the proxy's own: brings a connection into its client's state; not in the
                                     client's queue, answered to nobody, waits as long as it takes */
    bool leaves_traces : 1;       /* its connection is not as before and must not be lent again */
    bool was_repeated : 1;        /* answered NOSCRIPT, and sent once more with its script */
    bool is_piece : 1;            /* of scatter; not in its client's queue */
    bool is_for_shard : 1;        /* a piece for the master of one shard, whatever keys it has */
    bool is_for_nodes : 1;        /* ... which does not tell its replicas of it: they have pieces of their own */
    bool is_for_replica : 1;      /* a piece for a replica, as its redirect says */
    bool is_spare : 1;            /* a piece for a master that may be missing: not waited for, but ... */
    bool is_skipped : 1;          /* ... left out of the reply */
    bool is_asking : 1;           /* its redirect is an ASK: ASKING goes before it */
    bool opens_transaction : 1;   /* what was said before goes ahead of it on its connection */
    bool has_several_keys : 1;    /* in one place: while that is on its way they may be on two nodes */
};

/* True if a was sent by their client before b; not for parts of one command. */
static inline bool request_is_older(const struct request *a, const struct request *b)
{
    return (int32_t)(a->order - b->order) < 0;
}

struct request_pool {
    struct slab_pool slabs;
    struct slab_pool touches;  /* lists of keys (touch.h) */
    struct slab_pool scatters; /* ... most of them (scatter.h) */
};

struct request_queue {
    struct request *first, *last;
};

void request_pool_finish(struct request_pool *pool);

/* A zeroed request, or one that is as these traits say (what they hold of chunks is not counted); NULL if memory is short. */
struct request *request_create(struct request_pool *pool);
struct request *request_create_as(struct request_pool *pool, const struct request *traits);

/* Frees the request and what it holds of chunks. It must be in no queue. */
void request_destroy(struct request_pool *pool, struct chunk_pool *chunks, struct request *request);

/* An empty list, or NULL if memory is short; takes back one and all behind it. */
struct touches *request_take_touches(struct request_pool *pool);
void request_give_touches(struct request_pool *pool, struct touches *touches);

/* Copies its bytes out of a shared chunk, for a request that is kept for long. False if memory is short (it
 * stays as it was). */
bool request_settle(struct chunk_pool *chunks, struct request *request);

/* (P|S)SUBSCRIBE or its undoing: answered by several frames, which only a connection of its own can carry. */
static inline bool request_is_subscription(const struct request *request)
{
    return request->pin == PIN_SUBSCRIBE || request->pin == PIN_UNSUBSCRIBE;
}

static inline bool request_is_script(const struct request *request)
{
    return request->special == SPECIAL_EVAL || request->special == SPECIAL_EVALSHA ||
           request->special == SPECIAL_FCALL;
}

/* Before an (un)subscription is sent again: what its client has seen of the answer must not come twice. */
void request_restart_subscription(struct request *request);

/* With less than this left it is not sent again: who is late closes the connection that others are on as well. */
static inline uint32_t request_least_ms(const struct request *request)
{
    return request->timeout_ms / 8 < REQUEST_LEAST_MS ? request->timeout_ms / 8 + 1 : REQUEST_LEAST_MS;
}

static inline bool request_is_late(const struct request *request, uint64_t now_ms)
{
    return request->deadline_ms && request->deadline_ms < now_ms + request_least_ms(request);
}

/* Before it waits: what is left of its time for a reply is what it has when it is sent again. */
static inline void request_stop_clock(struct request *request, uint64_t now_ms)
{
    if (request->deadline_ms && request->timeout_ms && !request->is_blocking)
        request->timeout_ms = request_is_late(request, now_ms) ? request_least_ms(request)
                                                               : (uint32_t)(request->deadline_ms - now_ms);
    request->deadline_ms = 0;
}

void request_queue_push(struct request_queue *queue, struct request *request);
void request_queue_push_front(struct request_queue *queue, struct request *request);
/* Behind those of its client that are older, before those that are newer. */
void request_queue_insert(struct request_queue *queue, struct request *request);
void request_queue_append(struct request_queue *queue, struct request_queue *more);
struct request *request_queue_pop(struct request_queue *queue);

/* Puts another request, of no queue, where it stands; costs its position. */
void request_queue_replace(struct request_queue *queue, struct request *request, struct request *by);

/* Takes it out from wherever it stands in the queue; costs its position. */
void request_queue_remove(struct request_queue *queue, struct request *request);

#endif
