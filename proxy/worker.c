/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/worker.h"

#include "proxy/again.h"
#include "proxy/client.h"
#include "proxy/clock.h"
#include "proxy/connection.h"
#include "proxy/ears.h"
#include "proxy/log.h"
#include "proxy/quiet.h"
#include "proxy/tunnel.h"
#include "routing/backoff.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define TICK_S 0.1

enum {
    CLIENT_TICKS = 10,      /* each client is looked at once in so many ticks, and in each tick a part of them: very
                               many at once would keep all others waiting */
    LARGE_TICKS = 300,      /* so long, and as long again, it is remembered what has brought large replies */
    UNPAUSE_MOST_S = 86400, /* a pause may be longer than a timer can be */
};

struct topology_letter {
    struct letter letter;
    uint32_t upstream;
    struct topology *topology;
};

void worker_await_unpause(struct worker *worker, uint64_t end_ms)
{
    if (ev_is_active(&worker->unpause))
        return; /* should it come too early, they are stalled again */
    uint64_t after_ms = end_ms > worker->now_ms ? end_ms - worker->now_ms : 0;
    double after_s = (double)after_ms / 1000. + 0.0005;
    ev_timer_set(&worker->unpause, after_s < UNPAUSE_MOST_S ? after_s : UNPAUSE_MOST_S, 0.);
    ev_timer_start(worker->loop, &worker->unpause);
}

static void *worker_run(void *argument);
static void turn_begins(struct ev_loop *loop, ev_check *watcher, int events);
static void turn_ends(struct ev_loop *loop, ev_prepare *watcher, int events);
static bool has_work(const struct worker *worker);
static void reroute_requests(struct worker *worker);
static void clear_marks(struct worker *worker);
static void resume_clients(struct worker *worker);
static void flush_connections(struct worker *worker);
static void flush_clients(struct worker *worker);
static void bury_the_dead(struct worker *worker);
static void tick(struct ev_loop *loop, ev_timer *watcher, int events);
static void tick_clients(struct worker *worker);
static void drain_tick(struct worker *worker);
static void unpaused(struct ev_loop *loop, ev_timer *timer, int events);
static void publish(void *subscriber, uint32_t upstream, struct topology *topology);
static void adopt(struct letter *letter, void *receiver);
static void begin_drain(struct letter *letter, void *receiver);
static void end_now(struct letter *letter, void *receiver);

struct worker *worker_create(struct worker_group *group, uint32_t index, struct listener *listeners,
                             uint32_t listener_count)
{
    const struct config *config = group->config;
    struct worker *worker = aligned_alloc(_Alignof(struct worker), sizeof *worker); /* no line is another's as well */
    if (!worker)
        return NULL;
    memset(worker, 0, sizeof *worker);
    worker->group = group;
    worker->index = index;
    worker->listeners = listeners;
    worker->listener_count = listener_count;
    clear_marks(worker);
    worker->now_us = clock_us();
    worker->now_ms = worker->now_us / 1000;
    worker->gauge.looked_us = worker->now_us;
    worker->seed = clock_us() * 2654435761U + index + 1;
    worker->scripts.seed = worker->seed * 0x9e3779b97f4a7c15U;
    worker->limits = (struct resp_limits){
        .max_arguments = config->max_arguments,
        .max_bulk_bytes = config->max_bulk_length,
        .max_command_bytes = (size_t)config->client_input_limit,
    };
    lane_marks_init(&worker->large, random_next(&worker->seed));
    chunk_pool_init(&worker->chunks);
    worker->client_slabs.is_apart = true;
    worker->loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
    worker->upstreams = calloc(config->upstream_count, sizeof *worker->upstreams);
    if (!worker->loop || !worker->upstreams) {
        if (worker->loop)
            ev_loop_destroy(worker->loop);
        free(worker->upstreams);
        free(worker);
        return NULL;
    }
    mailbox_init(&worker->mailbox, worker->loop, worker);
    for (uint32_t i = 0; i < config->upstream_count; i++) {
        if (!upstream_init(&worker->upstreams[i], worker, i, &config->upstreams[i]))
            abort(); /* at start, before anything is served: nothing to save */
    }
    ev_check_init(&worker->turn, turn_begins);
    ev_set_priority(&worker->turn, EV_MAXPRI);
    worker->turn.data = worker;
    ev_check_start(worker->loop, &worker->turn);
    ev_prepare_init(&worker->flush, turn_ends);
    worker->flush.data = worker;
    ev_prepare_start(worker->loop, &worker->flush);
    ev_timer_init(&worker->tick, tick, TICK_S, TICK_S);
    worker->tick.data = worker;
    ev_timer_start(worker->loop, &worker->tick);
    ev_timer_init(&worker->unpause, unpaused, 0., 0.);
    worker->unpause.data = worker;
    for (uint32_t i = 0; i < listener_count; i++)
        listener_start(&worker->listeners[i], worker);
    control_subscribe(group->control, publish, worker);
    return worker;
}

bool worker_start(struct worker *worker)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&worker->thread, NULL, worker_run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        atomic_fetch_add(&worker->group->running, 1);
    return error == 0;
}

void worker_drain(struct worker *worker)
{
    struct letter *letter = malloc(sizeof *letter);
    if (!letter)
        return;
    letter->deliver = begin_drain;
    mailbox_post(&worker->mailbox, letter);
}

void worker_stop(struct worker *worker)
{
    struct letter *letter = malloc(sizeof *letter);
    if (!letter)
        return;
    letter->deliver = end_now;
    mailbox_post(&worker->mailbox, letter);
}

static void clear_marks(struct worker *worker)
{
    worker->dirty_clients = worker->resumable_clients = NULL;
    worker->dirty_connections = NULL;
    worker->unarranged_clients = NULL;
    worker->dirty_clients_end = &worker->dirty_clients;
    worker->resumable_clients_end = &worker->resumable_clients;
    worker->dirty_connections_end = &worker->dirty_connections;
}

void worker_join(struct worker *worker) { pthread_join(worker->thread, NULL); }

void worker_destroy(struct worker *worker)
{
    if (!worker)
        return;
    worker->is_draining = true; /* nothing is held any more */
    while (worker->clients)
        client_close(worker->clients, "the proxy ends");
    tunnels_finish(worker);
    quiet_drop_all(worker);
    mailbox_finish(&worker->mailbox);
    for (uint32_t i = 0; i < worker->group->config->upstream_count; i++)
        upstream_finish(&worker->upstreams[i]);
    reroute_requests(worker);
    clear_marks(worker); /* the loop was left in the middle of a turn */
    bury_the_dead(worker);
    for (uint32_t i = 0; i < worker->listener_count; i++)
        listener_close(&worker->listeners[i]);
    ev_loop_destroy(worker->loop);
    resp_arguments_finish(&worker->arguments);
    planner_finish(&worker->planner);
    merge_buffer_finish(&worker->merged);
    request_pool_finish(&worker->requests);
    slab_pool_finish(&worker->client_slabs);
    chunk_pool_finish(&worker->chunks);
    free(worker->upstreams);
    free(worker->listeners);
    free(worker);
}

void worker_mark_connection(struct worker *worker, struct connection *connection)
{
    if (connection->is_dirty)
        return;
    connection->is_dirty = true;
    connection->next_dirty = NULL;
    *worker->dirty_connections_end = connection;
    worker->dirty_connections_end = &connection->next_dirty;
}

void worker_mark_client(struct worker *worker, struct client *client)
{
    if (client->is_dirty || client->is_closed)
        return;
    client->is_dirty = true;
    client->next_dirty = NULL;
    *worker->dirty_clients_end = client;
    worker->dirty_clients_end = &client->next_dirty;
}

void worker_resume_client(struct worker *worker, struct client *client)
{
    if (client->is_resumable || client->is_closed)
        return;
    client->is_resumable = true;
    client->next_resumable = NULL;
    *worker->resumable_clients_end = client;
    worker->resumable_clients_end = &client->next_resumable;
}

static void *worker_run(void *argument)
{
    struct worker *worker = argument;
    ev_run(worker->loop, 0);
    atomic_fetch_sub(&worker->group->running, 1);
    return NULL;
}

/* ---- a loop turn ---- */

static void turn_begins(struct ev_loop *loop, ev_check *watcher, int events)
{
    (void)loop;
    (void)events;
    struct worker *worker = watcher->data;
    worker->now_us = clock_us();
    worker->now_ms = worker->now_us / 1000;
}

/* Writing may free room, failing may send requests elsewhere, both may let clients go on: until all is quiet. */
static void turn_ends(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    (void)loop;
    (void)events;
    struct worker *worker = watcher->data;
    memory_turn(worker);
    while (has_work(worker)) {
        ears_arrange_all(worker);
        reroute_requests(worker);
        resume_clients(worker);
        flush_connections(worker);
        flush_clients(worker);
    }
    bury_the_dead(worker);
    if (worker->quiets)
        quiet_look(worker);
}

static bool has_work(const struct worker *worker)
{
    return worker->unarranged_clients || worker->reroute.first || worker->again_clients || worker->resumable_clients ||
           worker->dirty_connections || worker->dirty_clients;
}

/* Where one request of a client must go to the master, all of that client do, so that they stay in order. */
static void reroute_requests(struct worker *worker)
{
    struct request_queue queue = again_pop_all(worker);
    for (struct request *request = queue.first; request; request = request->next) {
        if (request->client && request->needs_master)
            request->client->follows_master = true;
    }
    for (struct request *request; (request = request_queue_pop(&queue));) {
        struct client *client = request->client;
        if (client)
            upstream_dispatch(client->upstream, request);
        else
            request_destroy(&worker->requests, &worker->chunks, request);
    }
}

static void resume_clients(struct worker *worker)
{
    struct client *client = worker->resumable_clients;
    worker->resumable_clients = NULL;
    worker->resumable_clients_end = &worker->resumable_clients;
    while (client) {
        struct client *next = client->next_resumable;
        client->is_resumable = false;
        client_resume(client);
        client = next;
    }
}

static void flush_connections(struct worker *worker)
{
    struct connection *connection = worker->dirty_connections;
    worker->dirty_connections = NULL;
    worker->dirty_connections_end = &worker->dirty_connections;
    while (connection) {
        struct connection *next = connection->next_dirty;
        connection->is_dirty = false;
        connection_flush(connection);
        connection = next;
    }
}

static void flush_clients(struct worker *worker)
{
    struct client *client = worker->dirty_clients;
    worker->dirty_clients = NULL;
    worker->dirty_clients_end = &worker->dirty_clients;
    while (client) {
        struct client *next = client->next_dirty;
        client->is_dirty = false;
        if (!client->is_closed && client->is_blocked_output)
            client_keep_output(client);
        else if (!client->is_closed)
            client_flush(client);
        client = next;
    }
}

static void bury_the_dead(struct worker *worker)
{
    assert(!worker->dirty_clients && !worker->resumable_clients && !worker->dirty_connections);
    while (worker->dead_clients) {
        struct client *client = worker->dead_clients;
        worker->dead_clients = client->next_dead;
        client_destroy(client);
    }
    while (worker->dead_connections) {
        struct connection *connection = worker->dead_connections;
        worker->dead_connections = connection->next_dead;
        connection_free(connection);
    }
    while (worker->dead_backends) {
        struct backend *backend = worker->dead_backends;
        worker->dead_backends = backend->next;
        backend_destroy(backend, OUTCOME_CUT, NULL);
    }
}

static void tick(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct worker *worker = watcher->data;
    for (uint32_t i = 0; i < worker->group->config->upstream_count; i++)
        upstream_tick(&worker->upstreams[i]);
    tunnels_tick(worker);
    memory_tick(worker);
    arrival_tick(worker);
    if (worker->ticks % LARGE_TICKS == 0)
        lane_marks_age(&worker->large);
    tick_clients(worker);
    if (worker->is_draining)
        drain_tick(worker);
}

/* Those that come meanwhile stand before all others: they have their turn in the next round. */
static void tick_clients(struct worker *worker)
{
    if (worker->ticks++ % CLIENT_TICKS == 0) {
        worker->next_ticked = worker->clients;
        worker->clients_per_tick = atomic_load_explicit(&worker->gauge.clients, memory_order_relaxed) / CLIENT_TICKS + 1;
    }
    for (uint32_t i = 0; i < worker->clients_per_tick && worker->next_ticked; i++) {
        struct client *client = worker->next_ticked;
        worker->next_ticked = client->next;
        client_tick(client);
    }
}

static void unpaused(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    pause_release(timer->data);
}

/* ---- from other threads ---- */

static void publish(void *subscriber, uint32_t upstream, struct topology *topology)
{
    struct worker *worker = subscriber;
    struct topology_letter *letter = malloc(sizeof *letter);
    if (!letter) {
        topology_release(topology);
        return;
    }
    letter->letter.deliver = adopt;
    letter->upstream = upstream;
    letter->topology = topology;
    mailbox_post(&worker->mailbox, &letter->letter);
}

static void adopt(struct letter *letter, void *receiver)
{
    struct topology_letter *news = (struct topology_letter *)letter;
    struct worker *worker = receiver;
    upstream_adopt(&worker->upstreams[news->upstream], news->topology);
    free(news);
}

static void begin_drain(struct letter *letter, void *receiver)
{
    struct worker *worker = receiver;
    free(letter);
    if (worker->is_draining)
        return;
    arrival_close(worker);
    for (uint32_t i = 0; i < worker->listener_count; i++)
        listener_stop(&worker->listeners[i]);
    worker->is_draining = true;
    tunnels_finish(worker);
    worker->drain_deadline_ms = worker->now_ms + (uint64_t)worker->group->config->drain_time_ms;
    drain_tick(worker);
}

static void drain_tick(struct worker *worker)
{
    bool is_due = worker->now_ms >= worker->drain_deadline_ms;
    for (struct client *client = worker->clients, *next; client; client = next) {
        next = client->next;
        client_drain(client);
        if (is_due && !client->is_closed)
            again_fail(client, ERROR_SHUTTING_DOWN);
    }
    if (arrival_is_over(worker) || (is_due && worker->has_told_held))
        ev_break(worker->loop, EVBREAK_ALL);
    for (uint32_t i = 0; is_due && i < worker->group->config->upstream_count; i++)
        upstream_fail_held(&worker->upstreams[i], ERROR_SHUTTING_DOWN);
    worker->has_told_held = is_due; /* they get their answer at the end of this turn; the next tick ends */
}

static void end_now(struct letter *letter, void *receiver)
{
    struct worker *worker = receiver;
    free(letter);
    ev_break(worker->loop, EVBREAK_ALL);
}
