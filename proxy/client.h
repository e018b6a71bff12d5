/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client.h - one application's connection.
 *
 * Reads and frames commands, decides for each whether it is answered here, travels on a shared connection or
 * needs one of its own, and writes replies in the order of the commands.
 *
 *      socket -> intake or input -> command -> request -> upstream_dispatch()
 *                                                 |
 *      socket <- output <- replies in order <-----'
 *
 * One client's commands take effect in its order. While requests are unanswered, the next command goes to the
 * same connection or the client stalls: its input stays where it is until what it waits for has happened.
 *
 * Owner:   its worker; requests of a client that has gone lose their pointer to it.
 * Threads: one worker only.
 */
#ifndef PROXY_CLIENT_H
#define PROXY_CLIENT_H

#include "proxy/blocked.h"
#include "proxy/request.h"
#include "routing/error.h"
#include "routing/lane.h"
#include "routing/pick.h"
#include "routing/resp.h"
#include "routing/session.h"

#include <ev.h>

struct worker;
struct upstream;
struct connection;
struct listener;

/* The command being looked at: its bytes as received, and its words. */
struct command_at_hand {
    const struct command *command; /* NULL if nobody knows it */
    struct chunk *chunk;
    struct slice bytes;
    const struct slice *words;
    size_t count;
};

/* Why a client's input is not looked at. */
enum client_stall {
    STALL_NONE,
    STALL_DRAINED, /* until none of its requests is unanswered */
    STALL_RESTORED,/* until its session is restored */
    STALL_WINDOW,  /* until fewer are unanswered */
    STALL_OUTPUT,  /* until it has read some of what waits for it */
    STALL_GATHER,  /* until all workers have told of their clients */
    STALL_PAUSED,  /* until CLIENT PAUSE is over */
    STALL_TUNNEL,  /* it has become a replica: goes on as a tunnel at once */
    STALL_EARS,    /* until other masters have confirmed what it subscribes to */
    STALL_WAITS,   /* until all masters have answered its WAIT */
    STALL_TOPOLOGY,/* until it is known what there is behind us */
    STALL_SCRIPT,  /* until the master has the script that its transaction calls */
};

/* Requests of a client on a shared connection. */
struct client_route {
    struct connection *connection; /* NULL: none */
    uint32_t count;
};

enum client_reply_mode { REPLY_ON, REPLY_OFF, REPLY_SKIP_NEXT };

/* Of very many clients each is cold when its turn comes: what any request needs stands first, in few cache lines. */
struct client {
    ev_io io;
    struct worker *worker;
    struct upstream *upstream;

    struct client *next_dirty;
    struct chunk *input; /* what came and is not taken yet, from input_start on; NULL mostly */
    size_t input_start;
    struct request *first, *last; /* in the order of the commands */
    uint64_t inflight_bytes;      /* of those not ANSWERED */
    uint32_t order;               /* of the last */
    uint32_t pending;             /* requests in that queue */
    uint32_t inflight;            /* ... of them not ANSWERED */
    uint32_t held;                /* ... of them HELD or WAITING, or */

    uint32_t aside;               /* ... to be sent again, not before all on its way is answered */
    uint32_t subscribing;         /* ... of them (un)subscriptions that are not confirmed */
    uint32_t routed;              /* ... of them on shared connections: */
    uint32_t route_count;
    struct client_route route;    /* one of these, the only one where there is but one shard ... */
    struct client_route *routes;  /* ... and the others; the list is kept */
    struct connection *dedicated; /* borrowed; NULL mostly */
    uint32_t database;
    uint8_t stall; /* enum client_stall */
    uint8_t reply_mode;
    uint8_t touch;   /* enum touch, of its transaction */
    uint8_t persona; /* enum persona: what it takes us for */
    bool is_mixed : 1; /* two of its routes are to one shard, until all that is routed is answered */
    bool has_home : 1;
    bool is_bound : 1; /* bound_place is known */
    bool defers_multi : 1; /* no node has been told of its MULTI yet */
    bool is_dirty : 1;
    bool is_resumable : 1;
    bool is_authenticated : 1;
    bool is_ending : 1;      /* no more input: closed when all is answered and written */
    bool is_closed : 1;
    bool follows_master : 1; /* one of its requests that was rerouted must go to the master, so all unanswered do; or what
                                is at hand had to wait for a write */
    bool has_written : 1;    /* a request since it had nothing in flight, and nothing waited for that */
    bool is_unix : 1;
    bool is_quitting : 1;       /* after QUIT or a protocol error: what follows is not looked at */
    bool is_backlogged : 1;     /* when it was last read from, or since, it may have sent more */
    bool is_blocked_output : 1; /* the socket takes no more for now */
    bool has_read : 1;          /* any of its replies since the last tick */
    bool sends_first : 1;       /* reads nothing while its input is left alone: it may read when it has sent all */
    bool is_not_evicted : 1;    /* CLIENT NO-EVICT */
    bool script_is_missing : 1; /* waited for it in vain; the command at hand goes as it is */
    bool is_looked_at : 1;      /* among worker->again_clients */
    bool is_unarranged : 1;     /* among worker->unarranged_clients */
    bool is_served : 1;         /* the last of its requests that went alone was answered: the others may go together */
    bool has_waited : 1;        /* for the topology, in vain: the command at hand is answered with an error */
    bool flushes_scripts : 1;   /* SCRIPT FLUSH is queued in its transaction */

    struct spans output;
    struct spans pushed; /* what goes behind the reply that is in part with the output; see client_push() */
    uint64_t stored_bytes; /* replies that wait for earlier ones */
    uint64_t active_ms;

    const char *last_command; /* static text */
    struct request *blocking; /* the command that it waits in */
    struct ears *ears;        /* at masters where it has no connection of its own; NULL mostly */
    struct request *restoring; /* begins what the session has lost on another connection; NULL mostly */
    struct tally *tally;      /* where its requests stand (tally.h); NULL mostly */
    uint32_t map_count;       /* upstream->map_count when the last was sent, and */
    uint32_t unmapped_order;  /* ... the last that was sent before it was that */
    uint32_t replicas_epoch;  /* upstream->replicas_epoch when a node was last chosen for a read of it */
    uint32_t barriers;        /* requests with several keys of one slot: these may have to go again */
    uint16_t barrier_place;   /* where, if it is one; else REQUEST_PLACE_NONE */
    uint16_t home_place;      /* where its subscriptions are to be, if has_home */
    uint16_t bound_place;     /* of its transaction or what it watches, once that is known */
    struct lane_habit habit;  /* of what size its replies are */

    struct session session;
    struct pick_memo own_replica; /* where it keeps to one (pick.h) */
    uint32_t route_room;
    uint32_t aside_writes;
    struct request_queue again;   /* those aside (again.h) */
    struct client *next_again;
    uint32_t held_oldest, held_newest; /* request->order: no other that is held is older, or newer */
    struct resp_command parser;   /* of a command that has come in part */
    struct blocked blocked;       /* all about the command that it waits in */
    uint32_t written_epoch;   /* upstream->master_epoch when it last wrote, or may have; where there are several
                                 shards, backend->reign of the master it wrote to; 0 = never */
    uint32_t wrote_since;     /* upstream->master_epoch when it wrote first */
    bool wrote_several;       /* masters */
    bool has_unmarked_writes; /* since then no mark went before a WAIT of it */
    struct script_queued *queued_scripts; /* sent in its transaction, the newest first; NULL mostly */
    struct touches *touches; /* keys that its transaction writes (touch.h); NULL mostly */
    struct freshness_session *reading; /* what it has seen, where that is remembered (freshness.h); NULL else */
    struct transaction *transaction; /* what it has said in one, so that it can begin again; NULL mostly */
    struct waits *waits;     /* in a WAIT that asks several masters; NULL mostly */

    struct client *next, *previous;
    struct client *next_resumable, *next_dead, *next_unarranged;
    uint64_t id;
    uint64_t stalled_until_ms; /* at most, by STALL_TOPOLOGY */
    uint64_t vain_ms;          /* when one of its requests last ended that was held in vain, the first of such in a row;
                                  0 = never */
    uint64_t created_ms;
    uint64_t burst_ms;         /* when the first bytes came of what it sent in one go, as far as we can tell */
    char *name, *library_name, *library_version; /* NULL = not set */
};

/* Takes the descriptor, which came from that listener; but if memory is short, it returns false and has taken nothing. */
bool client_accept(struct worker *worker, struct upstream *upstream, int fd, const struct listener *listener, uint64_t id);

/* The one place where a client ends; reason is logged at debug level. */
void client_close(struct client *client, const char *reason);

/* Takes the descriptor away from a client that is to be closed next: it goes on as something else. */
int client_take_descriptor(struct client *client);

void client_destroy(struct client *client);

/* Goes on with input that had to wait. */
void client_resume(struct client *client);
void client_flush(struct client *client);

/* Instead, where the socket takes no more: what waits does not keep shared chunks alive. */
void client_keep_output(struct client *client);

/* Bytes of a request's reply, complete or in part. The request has a client; that holds for the next two too. */
void client_take_reply(struct request *request, struct chunk *chunk, const char *bytes, size_t size, bool is_complete);

/* The request ends with an error of ours. */
void client_fail(struct request *request, enum error error);

/* ... with a reply of ours that is none. */
void client_answer(struct request *request, struct slice reply);

/* The request never reached its node: if it belongs to a transaction, nothing of that can be carried out, and what
 * is still on its way there is spoiled. */
void client_break_session(const struct request *request);

/* Its reply is request->reply, whatever was there. */
void client_finish(struct request *request);

/* A frame that belongs to the client and to no request; the client may be closed by it. */
void client_push(struct client *client, const struct spans *frame);

/* The same for a frame of our own; the text is copied. */
void client_push_text(struct client *client, struct slice frame);

/* A subscription was confirmed: closes the client if the names of all of them take too much memory. */
void client_limit_subscriptions(struct client *client);

/* Counts of requests by where they are; called by those who queue them. */
void client_routed(struct client *client, struct connection *connection);
void client_unrouted(struct client *client, const struct connection *connection);
void client_held(struct client *client);

/* Puts a request of a client into a queue of waiting ones, before it counts as held: those of one client stay in order. */
void client_queue_held(struct request_queue *queue, struct request *request);
void client_unheld(struct client *client);

/* The shared connection to a node of that shard that its requests are on; NULL = none are. Where is_mixed: one of
 * several. */
struct connection *client_route_to(const struct client *client, uint16_t shard);

/* True if some of its unanswered requests were sent before a place became another shard's, so that again_is_barred() has
 * to be asked. */
static inline bool client_has_unmapped(const struct client *client, uint32_t map_count)
{
    return client->first &&
           (client->map_count != map_count || (int32_t)(client->first->order - client->unmapped_order) <= 0);
}

/* The dedicated connection is gone. had_session: with the state of the session on it, but for a transaction that
 * survives. What can go on elsewhere is restored there, ahead of the client's requests. */
void client_lost_dedicated(struct client *client, bool had_session, bool transaction_survives);

/* Whatever is to be restored is not, any more: the client goes, or begins anew. */
void client_cancel_restoration(struct client *client);

/* The request that restores is answered in full; it is gone already. */
void client_restored(struct client *client);

/* The session is as new: RESET. */
void client_reset_session(struct client *client);

/* Gives the dedicated connection back if it is no longer needed. */
void client_settle(struct client *client);

/* Replies in the place of the command at hand; the text is copied. */
void client_reply(struct client *client, struct slice reply);

/* Replies head, text and a line end. */
void client_reply_parts(struct client *client, struct slice head, struct slice text);

/* Replies a text that is for people: a bulk string, in RESP3 a verbatim one. */
void client_reply_text(struct client *client, struct slice text);

/* Replies "-ERR ..." formatted as by printf. */
void client_reply_error(struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The command at hand cannot be taken now: its bytes stay, and it is looked at again later. Returns false, so
 * that a handler can return it. */
bool client_stall(struct client *client, enum client_stall stall);

/* What it waited for has happened, perhaps: goes on at the end of the loop turn if so. */
void client_unstall(struct client *client);

/* Sends the command at hand on its way, with these traits, to which it adds what the command touches. */
void client_submit(struct client *client, const struct command_at_hand *at_hand, struct request *traits);

/* Redis' answer to EXEC after a command that was not queued. */
#define CLIENT_EXEC_ABORTED SLICE("-EXECABORT Transaction discarded because of previous errors.\r\n")

/* What a client is told of what is refused: instead of the node's answer, where that was in its transaction. */
struct slice client_text_of(enum request_inspection inspection, enum command_pin pin);

/* Puts a request for a command that goes in pieces into the client's queue; NULL if memory is short. */
struct request *client_append(struct client *client, const struct request *traits);

/* Sends a piece, whose chunk and bytes are given, on its way; *request is set before that. The client may be closed by
 * it. */
void client_send_piece(struct client *client, const struct request *piece, struct request **request);

/* The reply to all pieces is in the request. */
void client_finish_whole(struct request *whole);

/* Every second or so: idle clients, blocked clients that are gone, those that read nothing. */
void client_tick(struct client *client);

/* The worker drains: close if nothing is in flight. */
void client_drain(struct client *client);

#endif
