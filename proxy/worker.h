/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * worker.h - one thread with one loop, its clients and its connections to nodes.
 *
 * A loop turn: sockets are read, commands are parsed and queued on connections, replies are queued on clients;
 * then, just before the loop would sleep (ev_prepare), requests to be sent elsewhere are dispatched, clients
 * that had to wait go on, and every connection and client with something to write is written to once.
 *
 * Handlers mark, one place closes: clients and connections that ended during the turn are freed at its end.
 *
 * Threads: worker_create/start/... from main; all else from the worker's own thread. Other threads reach a
 *          worker through its mailbox only.
 */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include "proxy/arrival.h"
#include "proxy/config.h"
#include "proxy/control.h"
#include "proxy/listener.h"
#include "proxy/mailbox.h"
#include "proxy/memory.h"
#include "proxy/pause.h"
#include "proxy/scripts.h"
#include "proxy/slab.h"
#include "proxy/stats.h"
#include "proxy/upstream.h"
#include "routing/lane.h"
#include "routing/plan.h"

#include <pthread.h>
#include <stdatomic.h>

struct worker;

/* What the workers of one process share. Created by main before them, immutable but for the atomics. */
struct worker_group {
    const struct config *config;
    struct control *control;
    struct script_store *scripts;
    struct worker **workers;
    uint32_t count;
    uint32_t max_clients;       /* proxy.max_clients, or less if the limit on open files is low */
    uint64_t max_memory;        /* proxy.max_memory, or what 0 means (memory.h) */
    uint64_t started_us;
    _Atomic uint32_t running;   /* workers whose thread has not ended */
    atomic_bool is_ending;      /* letters that still travel are dropped */
    atomic_bool is_memory_over; /* max_memory is exceeded, as the log was told last */
    /* Written with each client that comes or goes, so not beside what is read with each command. */
    _Alignas(64) _Atomic uint32_t client_count;
    atomic_bool is_full;        /* the last client that came was refused */
    _Atomic uint64_t next_client_id;
    struct pause pause;       /* CLIENT PAUSE */
};

struct worker {
    struct worker_group *group;
    uint32_t index;
    pthread_t thread;
    struct ev_loop *loop;
    struct mailbox mailbox;
    ev_check turn;    /* first in each loop turn: reads the clock */
    ev_prepare flush; /* last in each loop turn */
    ev_timer tick;
    ev_timer unpause; /* when clients that CLIENT PAUSE has stalled may go on */

    uint64_t now_ms; /* monotonic, read once a loop turn */
    uint64_t now_us; /* the same */
    uint64_t received_us; /* while what a node has sent is looked at: when that was, or later; 0 else */
    uint64_t seed;
    struct chunk_pool chunks;
    struct request_pool requests;
    struct resp_arguments arguments;
    struct resp_limits limits;
    struct scripts scripts;
    struct stats stats;
    struct planner planner;
    struct lane_marks large; /* what has brought large replies */
    struct merge_buffer merged;
    char scan_word[24]; /* in the command at hand, instead of the client's cursor */

    struct upstream *upstreams;
    struct listener *listeners;
    uint32_t listener_count;

    struct client *clients;
    struct client *next_ticked;  /* of those that are to be looked at this second; NULL: none are left */
    struct slab_pool client_slabs;
    struct client *dirty_clients, **dirty_clients_end;         /* something to write; first marked, first written */
    struct client *resumable_clients, **resumable_clients_end; /* may go on with their input */
    struct client *dead_clients;
    struct connection *dirty_connections, **dirty_connections_end; /* what came first reaches the node first */
    struct connection *dead_connections;
    struct backend *dead_backends;
    struct tunnel *tunnels;
    struct request_queue reroute;      /* to be dispatched once more (again.h) */
    struct client *again_clients;      /* whose requests that are aside may go now, perhaps */
    struct client *unarranged_clients; /* whose ears are to be arranged (ears.h) */
    struct quiet *quiets;              /* letters that stay until all is answered (quiet.h) */

    struct memory_share memory;
    uint32_t ticks;
    uint32_t clients_per_tick;
    bool is_draining;
    bool has_told_held; /* what was still held at the end of draining has been answered */
    uint64_t drain_deadline_ms;

    struct arrival_gauge gauge;
};

/* NULL if memory, descriptors or a loop are short. Takes the listeners' descriptors. */
struct worker *worker_create(struct worker_group *group, uint32_t index, struct listener *listeners,
                             uint32_t listener_count);
bool worker_start(struct worker *worker);

/* From any thread: stop accepting, answer what is in flight, end within proxy.drain_time; or end now. */
void worker_drain(struct worker *worker);
void worker_stop(struct worker *worker);

/* Waits for the thread and frees everything. */
void worker_join(struct worker *worker);
void worker_destroy(struct worker *worker);

/* Within the worker's thread: it has something to write at the end of this loop turn. */
void worker_mark_connection(struct worker *worker, struct connection *connection);
void worker_mark_client(struct worker *worker, struct client *client);

/* A client is stalled until CLIENT PAUSE is over. */
void worker_await_unpause(struct worker *worker, uint64_t end_ms);

/* ... and it may look at its input again. */
void worker_resume_client(struct worker *worker, struct client *client);

#endif
