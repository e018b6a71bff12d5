/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scripts.h - EVALSHA finds its script on whatever node it is sent to.
 *
 *      EVAL, SCRIPT LOAD   -> the script is kept, for all workers (script_store.h)
 *      EVALSHA             -> does this node have it (script_book.h)? If not, SCRIPT LOAD goes ahead of it,
 *                             on the same connection: so nothing waits, and order is kept
 *      ... inside MULTI    -> that SCRIPT LOAD would be queued, too: it goes over a shared connection to the
 *                             node, and the client waits until it has been answered; or it goes ahead of MULTI,
 *                             where that is said by transaction.h
 *      NOSCRIPT all the same (somebody has flushed the node's scripts)
 *                          -> loaded and sent once more, if no later command of this client may have run
 *                             meanwhile
 *      SCRIPT FLUSH        -> all is forgotten, so EVALSHA is answered NOSCRIPT as a plain Redis would
 *
 * A script that nobody has sent through this process is asked of the master, as it is.
 *
 * Threads: one worker only; what it shares with others is in the store.
 */
#ifndef PROXY_SCRIPTS_H
#define PROXY_SCRIPTS_H

#include "proxy/client.h"
#include "proxy/connection.h"
#include "proxy/script_book.h"

enum {
    SCRIPTS_SEEN = 64,
    SCRIPTS_ASKED = 256,
    SCRIPTS_QUEUED_MOST = 16, /* in one transaction; what is beyond counts at once */
};

/* What a worker remembers of the store, so that a script in steady use costs neither a lock nor its SHA1.
 * Each entry holds for a second, after which the store is told that the script is still in use. */
struct scripts {
    uint64_t seed;
    bool has_waiters; /* clients that are stalled by STALL_SCRIPT */
    struct script_seen {
        uint64_t hash; /* of the body, with the seed */
        uint64_t flushes, until_ms;
        size_t size;
        struct script_sha sha;
    } seen[SCRIPTS_SEEN];
    struct script_asked {
        uint64_t flushes, additions, until_ms;
        struct script_sha sha;
        bool is_there;
    } asked[SCRIPTS_ASKED];
};

/* A client has sent a script. Inside MULTI it counts when EXEC has carried it out, as nobody can call it before. */
void scripts_sent(struct client *client, struct slice body, enum script_use use, bool is_queued);

/* The request, EXEC, has been answered. */
void scripts_carried_out(struct client *client, const struct request *request);

/* The transaction ends without it. */
void scripts_forget_queued(struct client *client);

/* True if the script with the SHA1 in this word is kept. */
bool scripts_has(struct worker *worker, struct slice word);

/* SCRIPT FLUSH is on its way to the node: nothing is kept. */
void scripts_flush(struct worker *worker);

/* It has been carried out: whatever was loaded meanwhile is gone. */
void scripts_flushed(struct worker *worker);

/* True if an EVALSHA inside MULTI may go; else the client is stalled, and goes on when the script is loaded.
 */
bool scripts_ready(struct client *client, struct slice word);

/* The request, an EVALSHA, is about to be appended to the connection's queue. */
void scripts_prepare(struct connection *connection, const struct request *request);

/* The same for any script that is kept; not inside MULTI. */
void scripts_bring(struct connection *connection, const struct script_sha *sha);

/* The node has answered a SCRIPT LOAD of ours. */
void scripts_loaded(struct connection *connection, const struct request *request, struct slice reply);

/* The node has answered the request, an EVALSHA, with an error. True if it is to be sent once more. */
bool scripts_should_repeat(struct connection *connection, struct request *request, struct slice error);

/* What is known of the node no longer holds, or not for this connection. */
void scripts_lost(struct backend *backend);
void scripts_connection_closed(struct connection *connection, enum outcome outcome);

#endif
