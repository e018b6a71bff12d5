/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session.h - which state of its own does a client's connection have, and may it go back to the shared ones?
 *
 *            MULTI             EXEC, DISCARD
 *   SHARED ---------> in MULTI --------------> SHARED
 *      |     WATCH                EXEC, DISCARD, UNWATCH
 *      |------------> watching --------------------------> SHARED
 *      |     SUBSCRIBE ...        the last one undone
 *      |------------> subscribed ------------------------> SHARED
 *      |     MONITOR
 *      '------------> monitoring, until RESET or the end
 *
 * Transactions are followed by what the client sends (its commands take effect in order, so that is what the
 * node will be in); subscriptions by what the node confirms, name by name.
 * When the connection of a transaction is lost, nothing of it can be carried on: the session is broken until
 * the client has ended it, and EXEC then fails, on no node. Subscriptions, MONITOR and tracking can: the session is
 * lost until all of that is begun anew on another connection (session_restore()), of which the client sees nothing
 * but that what was said meanwhile is missing. A client that is subscribed in RESP2 is confined: the
 * node refuses all but (un)subscribing, so nothing begins or ends another state. In RESP3 what nobody asked for
 * comes in frames of their own type, so everything is allowed beside subscriptions, and tracking needs a connection
 * of its own as well.
 *
 * Owner:   embedded in a client, which calls session_finish(). Pure: no I/O, no clock.
 */
#ifndef ROUTING_SESSION_H
#define ROUTING_SESSION_H

#include "routing/command.h"
#include "routing/resp.h"
#include "routing/subscriptions.h"

#include <stdbool.h>
#include <stdint.h>

enum session_channel_kind { SESSION_CHANNELS, SESSION_PATTERNS, SESSION_SHARD_CHANNELS, SESSION_KINDS };

/* A SELECT inside MULTI: what it asked for, and the place of its answer in that of EXEC. */
struct session_select {
    uint32_t database;
    uint32_t place;
};

enum { SESSION_SELECTS = 8 };

struct session {
    bool in_multi;
    bool is_watching;
    bool is_broken; /* the connection of its transaction or its watched keys was lost */
    bool is_void;   /* ... since these keys are on another node now: EXEC is answered nil */
    bool is_monitoring;
    bool is_tracking; /* CLIENT TRACKING ON: the node tells this connection which keys have changed */
    bool is_resp3;
    bool has_shards_apart; /* other connections hear its shard channels (proxy/ears.h): they need none here */
    bool is_lost;         /* no connection carries its subscriptions, MONITOR or tracking until they are restored */
    bool queues_write;    /* EXEC may change something: it waits while CLIENT PAUSE WRITE holds */
    bool queues_effects;  /* ... or have other effects than to answer: it is no read */
    uint32_t queued;      /* commands sent since MULTI */
    struct session_select selects[SESSION_SELECTS]; /* queued since MULTI, the last ones */
    uint32_t select_count;
    struct subscriptions subscriptions[SESSION_KINDS];
    char *tracking;       /* the commands that switched tracking on, one after the other; NULL = it is off */
    size_t tracking_bytes;
    uint32_t tracking_commands;
    bool tracks_by_prefix; /* BCAST: what others write is told of, whether it was read here or not */
    bool tracks_by_option; /* OPTIN: CLIENT CACHING YES concerns the next command, on the same connection only */
};

/* Frees what it holds; the session is then as new. */
void session_finish(struct session *session);

static inline bool session_is_subscribed(const struct session *session)
{
    return session->subscriptions[SESSION_CHANNELS].first || session->subscriptions[SESSION_PATTERNS].first ||
           session->subscriptions[SESSION_SHARD_CHANNELS].first;
}

/* ... on its own connection. */
static inline bool session_is_subscribed_here(const struct session *session)
{
    return session->subscriptions[SESSION_CHANNELS].first || session->subscriptions[SESSION_PATTERNS].first ||
           (session->subscriptions[SESSION_SHARD_CHANNELS].first && !session->has_shards_apart);
}

/* The version of the protocol, as HELLO has it. */
static inline uint8_t session_protocol(const struct session *session) { return session->is_resp3 ? 3 : 2; }

/* True while the node takes nothing from the client but (un)subscribing. */
static inline bool session_is_confined(const struct session *session)
{
    return !session->is_resp3 && session_is_subscribed(session);
}

/* True while the client needs a connection of its own. */
static inline bool session_is_pinned(const struct session *session)
{
    return session->in_multi || session->is_watching || session->is_monitoring || session->is_tracking ||
           session_is_subscribed_here(session);
}

/* True while frames that nobody asked for are what the client is there for. */
static inline bool session_is_pushed_to(const struct session *session)
{
    return session->is_monitoring || session_is_subscribed(session);
}

/* True while such a frame has the type of a reply, so that only its words tell. */
static inline bool session_has_hidden_pushes(const struct session *session)
{
    return session->is_monitoring || session_is_confined(session);
}

/* True while even commands that the proxy answers itself must go to the node, since it queues or refuses them. */
static inline bool session_forwards_all(const struct session *session)
{
    return session->in_multi || session_is_confined(session);
}

/* A command with the right arity goes to the node on the client's own connection; what it subscribed to before
 * has been confirmed. */
void session_sent(struct session *session, enum command_pin pin);

/* A SELECT is about to be queued in the transaction. */
void session_queues_select(struct session *session, uint32_t database);

/* Which database a transaction with SELECTs leaves the connection in, given the complete reply to EXEC; -1 if in the
 * one before: the transaction was not carried out, or none of them succeeded. */
int64_t session_database_after(const struct session *session, struct slice reply);

/* What the proxy answers while the session is broken. */
enum session_answer {
    SESSION_FORWARD,       /* not concerned: goes its usual way */
    SESSION_OK,            /* +OK: MULTI, DISCARD, UNWATCH */
    SESSION_ERROR,         /* the transaction's connection was lost */
    SESSION_EXEC_ABORTED,  /* -EXECABORT ... */
    SESSION_QUEUED,        /* +QUEUED, in what is void */
    SESSION_EXEC_VOID,     /* nil */
};
enum session_answer session_answer_broken(struct session *session, enum command_pin pin);

/* What it watches has gone to another node, where nobody watches it: broken, but told so only by EXEC, and in the way
 * that Redis tells of a watched key that was changed. */
void session_void(struct session *session);

/* The client's own connection is gone. A transaction becomes broken; subscriptions, monitoring and tracking stand,
 * but the session is lost until session_restored(). */
void session_lost_connection(struct session *session);

/* The commands that bring another connection into the session's state. */
struct session_restoration {
    size_t bytes;
    uint32_t replies; /* frames that answer them: none of them is for the client. 0 = there is nothing to say */
};

/* The node has switched tracking on by this command, which is kept until session_tracks_not(): one after the other
 * may add prefixes. False if it cannot be kept. */
bool session_tracks(struct session *session, struct slice command);
void session_tracks_not(struct session *session);

/* Writes them to out, which has room for as many bytes as the same call with NULL says. has_monitor: MONITOR is
 * among them; else the client's own is still on its way. */
struct session_restoration session_restore(const struct session *session, bool has_monitor, char *out);

/* All of them are answered. */
void session_restored(struct session *session);

/* Memory that the names of its subscriptions and what it tracks take. */
size_t session_bytes(const struct session *session);

/* What a frame on a connection with subscriptions is. */
enum session_frame {
    SESSION_REPLY,        /* answers the oldest unanswered command */
    SESSION_PUSH,         /* nobody asked */
    SESSION_CONFIRMATION, /* one of the confirmations of a SUBSCRIBE or its undoing */
    SESSION_NO_MEMORY,    /* such a one, but its name cannot be kept */
};

/* Looks at one complete frame and keeps the names of subscriptions. head_is_subscription: the oldest unanswered
 * command is one of (P|S)SUBSCRIBE or their undoing, or those of session_restore(). */
enum session_frame session_received(struct session *session, struct slice frame, bool head_is_subscription);

/* How many confirmations the command brings: one per channel; an undoing without channels one per subscription
 * of its kind, at least one. To be asked when all commands before it have been answered. */
uint32_t session_confirmations(const struct session *session, enum session_channel_kind kind, uint32_t channels);

/* Which kind a command name ("PUNSUBSCRIBE") speaks of. */
enum session_channel_kind session_kind_of(struct slice command_name);

#endif
