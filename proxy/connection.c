/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/connection.h"

#include "proxy/again.h"
#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/clock.h"
#include "proxy/connection_own.h"
#include "proxy/cursors.h"
#include "proxy/ears.h"
#include "proxy/health.h"
#include "proxy/log.h"
#include "proxy/ranges.h"
#include "proxy/redirect.h"
#include "proxy/scripts.h"
#include "proxy/tally.h"
#include "proxy/touch.h"
#include "proxy/transaction.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/pooling.h"
#include "routing/backoff.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    READ_ROOM = 16 * 1024,        /* least free room in the intake before a read */
    READ_PER_TURN = 256 * 1024,   /* of one node, so that many small replies do not make a turn long */
    FRAME_LIMIT = 512 * 1024 * 1024, /* what must be seen whole; Redis' own limit for one bulk */
    KEEPALIVE_IDLE_S = 5,
    KEEPALIVE_INTERVAL_S = 2,
    KEEPALIVE_PROBES = 3,
    UNACKNOWLEDGED_MS = 10000,    /* sent bytes that the peer's kernel does not confirm: the host is gone */
};

static void prepare(struct connection *connection, struct request *request);
static bool is_done(const struct connection *connection);
static void set_socket_options(int fd, sa_family_t family);
static void connection_event(struct ev_loop *loop, ev_io *io, int events);
static void connection_watch(struct connection *connection, int events);
static void begin_timing(struct connection *connection);
static void end_timing(struct connection *connection);
static void connection_connected(struct connection *connection);
static uint64_t established_us(const struct connection *connection);
static bool is_alive(const struct connection *connection);
static bool has_unproven(const struct connection *connection);
static void connection_authenticate(struct connection *connection);
static void connection_negotiate(struct connection *connection);
static void connection_select(struct connection *connection);
static void connection_read_only(struct connection *connection);
static void connection_ready(struct connection *connection);
static void is_new_no_more(struct connection *connection);
static void send_greeting(struct connection *connection, const struct slice *words, size_t count);
static void connection_readable(struct connection *connection);
static size_t receive(struct connection *connection, struct chunk *intake);
static void take_bytes(struct connection *connection, struct chunk *chunk, const char *bytes, size_t size);
static void take_fragment(struct connection *connection, struct chunk *chunk, const char *bytes, size_t size,
                          bool is_complete);
static void take_greeting(struct connection *connection, struct slice reply);
static void take_protocol(struct connection *connection, struct slice reply);
static void take_database(struct connection *connection, struct slice reply);
static void close_unwelcome(struct connection *connection, const char *command, struct slice reply);
static void note_pin(struct connection *connection, const struct request *request);
static bool must_see_frame(const struct connection *connection);
static void take_frame(struct connection *connection, struct slice frame);
static void take_confirmation(struct connection *connection, struct request *request);
static void take_restoring(struct connection *connection, struct request *request, struct slice frame);
static void restoration_refused(struct connection *connection, struct slice error);
static void finish_request(struct connection *connection, struct request *request);
static bool was_refused(struct connection *connection, struct request *request, struct slice error);
static enum refusal refusal_of_request(const struct request *request, struct slice error);
static bool has_pushes(const struct connection *connection);
static void retry_refused(struct connection *connection, struct request *request, enum refusal refusal, bool is_held);
static uint32_t sent_count(const struct connection *connection);
static inline struct request *take_oldest(struct connection *connection, bool may_have_run);
static void end_requests(struct connection *connection, enum outcome outcome, bool is_void);
static void end_request(struct connection *connection, struct request *request, enum outcome outcome, bool was_sent,
                        bool exec_was_sent);
static enum error prepare_repeat(struct connection *connection, struct request *request);
static bool refuses_everything(struct connection *connection, struct slice error);
static bool refuses_mark(struct connection *connection, const struct request *request, struct slice error);

static struct worker *worker_of(const struct connection *connection) { return connection->backend->upstream->worker; }

int connection_begin(const struct backend *backend)
{
    int fd = socket(backend->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    set_socket_options(fd, backend->address.ss_family);
    if (connect(fd, (const struct sockaddr *)&backend->address, backend->address_size) == 0 || errno == EINPROGRESS)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

struct connection *connection_open(struct backend *backend, uint32_t database, uint8_t protocol, bool is_dedicated)
{
    struct worker *worker = backend->upstream->worker;
    int fd = connection_begin(backend);
    if (fd < 0)
        return NULL;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        errno = ENOMEM;
        return NULL;
    }
    connection->backend = backend;
    connection->is_dedicated = is_dedicated;
    connection->target_database = database;
    connection->protocol = 2;
    connection->target_protocol = protocol;
    connection->give_up_ms = worker->now_ms + (uint64_t)backend->upstream->config->connect_timeout_ms;
    connection->retire_at_ms =
        pooling_retire_at_ms(worker->now_ms, (uint64_t)backend->upstream->config->pool_lifetime_ms, &worker->seed);
    connection->is_new = true;
    atomic_fetch_add_explicit(&backend->gauge->connecting, 1, memory_order_relaxed);
    backend->dedicated_count += is_dedicated;
    connection->next = backend->connections;
    if (connection->next)
        connection->next->previous = connection;
    backend->connections = connection;
    backend->connection_count++;
    ev_io_init(&connection->io, connection_event, fd, EV_WRITE);
    connection->io.data = connection;
    ev_io_start(worker->loop, &connection->io);
    return connection;
}

void connection_queue(struct connection *connection, struct request *request)
{
    assert(connection->state != CONNECTION_CLOSED);
    if (request->special)
        prepare(connection, request);
    if (request->is_asking)
        redirect_ask(connection, request);
    request->state = REQUEST_QUEUED;
    request->connection = connection;
    if (request->timeout_ms && !request->deadline_ms)
        request->deadline_ms = worker_of(connection)->now_ms + request->timeout_ms;
    if (request->client && request->client->tally && !request->is_restoring)
        tally_take(request);
    touch_begin(request, connection);
    request_queue_push(&connection->queue, request);
    connection->is_marked |= request->leaves_traces;
    if (!connection->unsent) {
        connection->unsent = request;
        connection->unsent_offset = 0;
    }
    connection->count++;
    connection->backend->load->outstanding++;
    worker_mark_connection(worker_of(connection), connection);
}

void connection_prepare(struct connection *connection, uint32_t database, uint8_t protocol, bool must_ask)
{
    connection->target_database = database;
    connection->was_used = false;
    connection->has_watched = connection->in_multi = false;
    connection->must_ask = must_ask;
    connection_speak(connection, protocol);
}

void connection_speak(struct connection *connection, uint8_t protocol)
{
    connection->target_protocol = protocol;
    if (connection->state == CONNECTION_READY) {
        connection->give_up_ms = worker_of(connection)->now_ms +
                                 (uint64_t)connection->backend->upstream->config->connect_timeout_ms;
        connection_negotiate(connection);
    }
}

/* What must be known or done on this connection before the request; questions of ours go ahead of it. */
static void prepare(struct connection *connection, struct request *request)
{
    switch ((enum command_special)request->special) {
    case SPECIAL_SCAN:
    case SPECIAL_SCAN_KEY:
        cursors_prepare(connection, request);
        return;
    case SPECIAL_EVALSHA:
        scripts_prepare(connection, request);
        return;
    case SPECIAL_NONE:
    case SPECIAL_EVAL:
    case SPECIAL_SCRIPT_LOAD:
    case SPECIAL_SCRIPT_FLUSH:
    case SPECIAL_FCALL:
        return;
    }
}

bool connection_take_back(struct connection *connection, struct request *request)
{
    const struct request *unsent = connection->unsent;
    while (unsent && unsent != request)
        unsent = unsent->next;
    if (!unsent || (connection->unsent == request && connection->unsent_offset > 0))
        return false;
    if (connection->unsent == request)
        connection->unsent = request->next;
    request_queue_remove(&connection->queue, request);
    tally_release(request);
    touch_cancel(request, connection);
    request->connection = NULL;
    connection->count--;
    connection->backend->load->outstanding--;
    if (!connection->is_dedicated)
        client_unrouted(request->client, connection);
    return true;
}

void connection_free(struct connection *connection)
{
    free(connection->name);
    free(connection);
}

void connection_flush(struct connection *connection)
{
    bool has_written = false;
    if (connection->state != CONNECTION_READY)
        return;
    size_t moved = 0;
    while (connection->unsent != connection->gate && moved < BYTES_PER_TURN) { /* without a gate: as long as there is any */
        struct iovec ranges[RANGES_PER_WRITE];
        size_t count = 0;
        size_t total = 0;
        size_t offset = connection->unsent_offset;
        for (struct request *request = connection->unsent; request != connection->gate;
             request = request->next, offset = 0) {
            const char *bytes = request->bytes + offset;
            size_t size = request->size - offset;
            if (count > 0 && (const char *)ranges[count - 1].iov_base + ranges[count - 1].iov_len == bytes)
                ranges[count - 1].iov_len += size;
            else if (count == RANGES_PER_WRITE || total >= BYTES_PER_TURN)
                break;
            else
                ranges[count++] = (struct iovec){(void *)(uintptr_t)bytes, size};
            total += size;
        }
        if (total > BYTES_PER_TURN)
            count = ranges_cut(ranges, count, BYTES_PER_TURN); /* total is what is not all written, then */
        ssize_t written = ranges_send(connection->io.fd, ranges, count);
        if (written < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                connection_watch(connection, EV_READ | EV_WRITE);
                return;
            }
            connection_close(connection, OUTCOME_LOST, strerror(errno));
            return;
        }
        uint32_t fresh = 0; /* sent for the first time */
        connection->was_used = has_written = true;
        size_t left = (size_t)written;
        while (left > 0) {
            struct request *request = connection->unsent;
            assert(request);
            size_t rest = request->size - connection->unsent_offset;
            if (left < rest) {
                connection->unsent_offset += left;
                break;
            }
            left -= rest;
            fresh += request->attempts++ == 0;
            connection->unsent = request->next;
            connection->unsent_offset = 0;
        }
        connection->backend->upstream->unearned += fresh;
        moved += (size_t)written;
        if ((size_t)written < total)
            break;
    }
    if (connection->unsent != connection->gate) {
        connection_watch(connection, EV_READ | EV_WRITE);
        return;
    }
    connection_watch(connection, EV_READ);
    if (has_written && connection->timed_us == 0)
        begin_timing(connection);
    if (connection->is_dedicated)
        blocked_note_sent(connection);
}

/* Until all that is on it now is answered. Not where clients wait for something, scripts run, or much is to be moved. */
static void begin_timing(struct connection *connection)
{
    if (connection->is_dedicated || connection->lane != LANE_ORDINARY)
        return;
    connection->timed_us = worker_of(connection)->now_us;
    connection->timed_until = connection->taken + connection->count;
}

static void end_timing(struct connection *connection)
{
    if (connection->state != CONNECTION_READY || (int32_t)(connection->taken - connection->timed_until) < 0)
        return;
    health_timed(connection->backend, worker_of(connection)->now_us - connection->timed_us);
    connection->timed_us = 0;
}

void connection_close(struct connection *connection, enum outcome outcome, const char *reason)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    struct backend *backend = connection->backend;
    struct worker *worker = worker_of(connection);
    bool had_failed = outcome == OUTCOME_TIMED_OUT ||
                      (outcome == OUTCOME_LOST &&
                       (connection->state != CONNECTION_READY || (connection->queue.first && connection->was_used)));
    ev_io_stop(worker->loop, &connection->io);
    close(connection->io.fd);
    connection->state = CONNECTION_CLOSED;
    is_new_no_more(connection);
    backend_unlink(connection);
    scripts_connection_closed(connection, outcome);
    if (connection->ear)
        ears_lost(connection);
    spans_clear(&worker->chunks, &connection->frame);

    if (had_failed) {
        backend->lost = sent_count(connection);
        health_connection_fails(connection);
        backend_failed(backend, reason ? reason : "connection closed");
    } else if (outcome == OUTCOME_LOST) {
        backend_suspect(backend);
    }

    struct client *owner = connection->owner;
    bool session_is_lost = owner && connection->was_used;
    bool survives = transaction_survives(connection, outcome);
    bool is_void = !survives && transaction_is_void(connection, outcome);
    struct request_queue again = {0};
    if (survives)
        transaction_take_along(connection, &again);
    else if (owner)
        transaction_strand(owner);
    connection->owner = NULL;
    if (owner)
        owner->dedicated = NULL;
    if (owner && !owner->is_closed)
        client_lost_dedicated(owner, session_is_lost, survives); /* what it restores goes ahead of these: */
    if (is_void)
        session_void(&owner->session);
    request_queue_append(&worker->reroute, &again);
    end_requests(connection, outcome, is_void);

    connection->next_dead = worker->dead_connections;
    worker->dead_connections = connection;
}

/* Requests of which a byte may have reached the node. */
static uint32_t sent_count(const struct connection *connection)
{
    uint32_t count = 0;
    for (const struct request *request = connection->queue.first; request && request != connection->unsent;
         request = request->next)
        count++;
    return count;
}

void connection_abandon(struct connection *connection)
{
    struct client *owner = connection->owner;
    bool streams = owner && session_is_pushed_to(&owner->session);
    bool blocks = owner && owner->blocking;
    connection->owner = NULL;
    connection->is_retiring = true;
    if (streams || blocks || connection->state == CONNECTION_CLOSED || is_done(connection))
        connection_close(connection, OUTCOME_CUT, NULL);
}

/* True if it is to be closed and nothing that anybody sent to it is left; once its borrower has gone, nobody wants
 * to be told of subscriptions any more. */
static bool is_done(const struct connection *connection)
{
    const struct request *head = connection->queue.first;
    if (!connection->is_retiring)
        return false;
    bool is_abandoned = connection->is_dedicated && !connection->owner;
    return !head || (is_abandoned && (request_is_subscription(head) || head->is_restoring));
}

uint64_t connection_deadline_ms(const struct connection *connection)
{
    if (connection->state != CONNECTION_READY)
        return connection->give_up_ms;
    const struct request *oldest = connection->queue.first;
    return oldest ? oldest->deadline_ms : 0;
}

/* ---- connecting and greeting ---- */

static void set_socket_options(int fd, sa_family_t family)
{
    if (family == AF_UNIX)
        return;
    /* Each is an improvement, none a condition: failures are of no interest. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){KEEPALIVE_IDLE_S}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){KEEPALIVE_INTERVAL_S}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){KEEPALIVE_PROBES}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &(int){UNACKNOWLEDGED_MS}, sizeof(int));
}

static void connection_event(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    struct connection *connection = io->data;
    if (connection->state == CONNECTION_CONNECTING) {
        connection_connected(connection);
        return;
    }
    if (events & EV_READ)
        connection_readable(connection);
    if ((events & EV_WRITE) && connection->state == CONNECTION_READY)
        connection_flush(connection);
}

static void connection_watch(struct connection *connection, int events)
{
    if ((connection->io.events & (EV_READ | EV_WRITE)) == events && ev_is_active(&connection->io))
        return;
    struct ev_loop *loop = worker_of(connection)->loop;
    ev_io_stop(loop, &connection->io);
    ev_io_set(&connection->io, connection->io.fd, events);
    if (events)
        ev_io_start(loop, &connection->io);
}

static void connection_connected(struct connection *connection)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(connection->io.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error) {
        connection_close(connection, OUTCOME_LOST, strerror(error));
        return;
    }
    connection->established_us = established_us(connection);
    if (has_unproven(connection)) {
        connection_close(connection, OUTCOME_CUT, NULL);
        return;
    }
    connection_watch(connection, EV_READ);
    if (connection->backend->upstream->config->password[0])
        connection_authenticate(connection);
    else
        connection_negotiate(connection);
}

/* As long as another connection to the node lives, so does the process that it leads to, which has the address. For
 * reads from replicas alone that is of interest. */
static uint64_t established_us(const struct connection *connection)
{
    const struct backend *backend = connection->backend;
    const struct connection *other = backend->role == NODE_ROLE_MASTER ? NULL : backend->connections;
    while (other && !(other->established_us && is_alive(other)))
        other = other->next;
    return other ? other->established_us : clock_us();
}

static bool is_alive(const struct connection *connection)
{
    struct pollfd its = {.fd = connection->io.fd, .events = POLLRDHUP};
    return poll(&its, 1, 0) == 0;
}

/* It was queued for a process that is gone. */
static bool has_unproven(const struct connection *connection)
{
    if (connection->backend->role == NODE_ROLE_MASTER)
        return false;
    for (const struct request *request = connection->queue.first; request; request = request->next) {
        if (request->client && !upstream_is_proven(connection, request))
            return true;
    }
    return false;
}

static void connection_authenticate(struct connection *connection)
{
    struct slice words[3];
    size_t count = connection_auth(connection->backend->upstream->config, words);
    connection->state = CONNECTION_AUTHENTICATING;
    send_greeting(connection, words, count);
}

size_t connection_auth(const struct config_upstream *config, struct slice words[3])
{
    size_t count = 0;
    words[count++] = SLICE("AUTH");
    if (config->username[0])
        words[count++] = slice_of(config->username);
    words[count++] = slice_of(config->password);
    return count;
}

bool connection_is_let_in(struct slice reply)
{
    static const struct slice needs_none[] = {
        {"-ERR AUTH <password> called without any password", 48},
        {"-ERR Client sent AUTH, but no password is set", 45},
    };
    return reply.bytes[0] == '+' || slice_starts_with(reply, needs_none[0]) || slice_starts_with(reply, needs_none[1]);
}

static void connection_negotiate(struct connection *connection)
{
    if (connection->target_protocol == connection->protocol) {
        connection_select(connection);
        return;
    }
    connection->state = CONNECTION_NEGOTIATING;
    struct slice version = connection->target_protocol == 3 ? SLICE("3") : SLICE("2");
    send_greeting(connection, (struct slice[]){SLICE("HELLO"), version}, 2);
}

static void connection_select(struct connection *connection)
{
    if (connection->target_database == connection->database && !connection->must_ask) {
        connection_read_only(connection);
        return;
    }
    char number[16];
    int size = snprintf(number, sizeof number, "%u", connection->target_database);
    connection->must_ask = false;
    connection->state = CONNECTION_SELECTING;
    send_greeting(connection, (struct slice[]){SLICE("SELECT"), {number, (size_t)size}}, 2);
}

/* Without it a replica in a Redis Cluster sends every read to its master. Once: a subscriber may not say it again. */
static void connection_read_only(struct connection *connection)
{
    if (!connection->is_readonly || connection->was_readonly) {
        connection_ready(connection);
        return;
    }
    connection->state = CONNECTION_READONLY;
    send_greeting(connection, &SLICE("READONLY"), 1);
}

static void connection_ready(struct connection *connection)
{
    connection->state = CONNECTION_READY;
    connection->idle_since_ms = worker_of(connection)->now_ms;
    bool was_new = connection->is_new;
    is_new_no_more(connection);
    struct backend *backend = connection->backend;
    backend_connected(backend);
    if (was_new && backend->role == NODE_ROLE_REPLICA)
        upstream_refresh_replicas(backend->upstream); /* what was known of it was known before */
    if (connection->unsent)
        connection_flush(connection);
    if (was_new && backend->waiting.first)
        backend_may_connect(backend);
}

static void is_new_no_more(struct connection *connection)
{
    if (connection->is_new)
        atomic_fetch_sub_explicit(&connection->backend->gauge->connecting, 1, memory_order_relaxed);
    connection->is_new = false;
}

/* A greeting is short and the first on its way: if the socket does not take it whole, something is wrong. */
static void send_greeting(struct connection *connection, const struct slice *words, size_t count)
{
    char text[2048];
    size_t size = resp_encoded_size(words, count);
    char *bytes = size <= sizeof text ? text : malloc(size);
    ssize_t sent = -1;
    if (bytes) {
        resp_encode(bytes, words, count);
        sent = send(connection->io.fd, bytes, size, MSG_NOSIGNAL);
    }
    if (bytes != text)
        free(bytes);
    if (sent != (ssize_t)size)
        connection_close(connection, OUTCOME_LOST, "cannot greet the node");
}

static void take_greeting(struct connection *connection, struct slice reply)
{
    switch (connection->state) {
    case CONNECTION_AUTHENTICATING:
        if (connection_is_let_in(reply))
            connection_negotiate(connection);
        else
            close_unwelcome(connection, "AUTH", reply);
        return;
    case CONNECTION_NEGOTIATING:
        take_protocol(connection, reply);
        return;
    case CONNECTION_SELECTING:
        take_database(connection, reply);
        return;
    case CONNECTION_READONLY:
        connection->was_readonly = reply.bytes[0] == '+';
        if (connection->was_readonly)
            connection_ready(connection);
        else
            close_unwelcome(connection, "READONLY", reply);
        return;
    case CONNECTION_CONNECTING:
    case CONNECTION_READY:
    case CONNECTION_CLOSED:
        assert(false);
    }
}

/* The answer to HELLO is a map (an array in RESP2); a borrower with subscriptions or in MONITOR may be sent other
 * frames before it. */
static void take_protocol(struct connection *connection, struct slice reply)
{
    bool is_push = reply.bytes[0] == '>' || reply.bytes[0] == '+';
    if (is_push && connection->owner) {
        client_push(connection->owner, &connection->frame);
    } else if (reply.bytes[0] == '-') {
        close_unwelcome(connection, "HELLO", reply);
    } else {
        connection->protocol = reply.bytes[0] == '%' ? 3 : 2;
        connection_negotiate(connection); /* meanwhile the borrower may have asked for another one */
    }
}

static void take_database(struct connection *connection, struct slice reply)
{
    if (reply.bytes[0] == '+') {
        connection->database = connection->target_database;
        connection_negotiate(connection);
        return;
    }
    if (refuses_everything(connection, reply)) {
        close_unwelcome(connection, "SELECT", reply);
        return;
    }
    /* The node has no such database: that is the answer to everything that was meant for it. */
    struct worker *worker = worker_of(connection);
    while (connection->queue.first) {
        if (connection->queue.first->is_restoring && connection->owner) {
            restoration_refused(connection, reply);
            return;
        }
        struct request *request = connection_take_oldest(connection);
        spans_add_copy(&worker->chunks, &request->reply, reply);
        if (request->client)
            client_break_session(request);
        finish_request(connection, request);
    }
    connection_close(connection, OUTCOME_CUT, NULL);
}

static void close_unwelcome(struct connection *connection, const char *command, struct slice reply)
{
    char reason[256];
    int size = (int)(reply.size < 200 ? reply.size - 2 : 200);
    if (refuses_everything(connection, reply))
        snprintf(reason, sizeof reason, "the node has reached its maxclients");
    else
        snprintf(reason, sizeof reason, "%s refused: %.*s", command, size, reply.bytes);
    connection_close(connection, OUTCOME_LOST, reason);
}

/* ---- replies ---- */

/* Until there is no more, so that as many replies as there are leave together, or others are to have their turn. But one turn
 * alone must not take a client over its limit, who reads what it gets. */
static void connection_readable(struct connection *connection)
{
    bool is_tight = worker_of(connection)->group->config->client_output_limit < 4 * READ_PER_TURN;
    size_t most = is_tight ? 0 : READ_PER_TURN;
    size_t moved = 0;
    do {
        struct chunk *intake = chunk_pool_intake(&worker_of(connection)->chunks, READ_ROOM);
        if (!intake) {
            connection_close(connection, OUTCOME_LOST, "out of memory");
            return;
        }
        size_t room = chunk_room(intake);
        size_t size = receive(connection, intake);
        if (size < room || connection->state == CONNECTION_CLOSED)
            return;
        moved += size;
    } while (moved < most);
}

/* 0: nothing, and perhaps it is closed. */
static size_t receive(struct connection *connection, struct chunk *intake)
{
    struct worker *worker = worker_of(connection);
    char *bytes = intake->bytes + intake->filled;
    ssize_t size = recv(connection->io.fd, bytes, chunk_room(intake), 0);
    if (size == 0) {
        connection_close(connection, OUTCOME_LOST, "closed by the node");
        return 0;
    }
    if (size < 0) {
        if (errno != EAGAIN && errno != EINTR)
            connection_close(connection, OUTCOME_LOST, strerror(errno));
        return 0;
    }
    intake->filled += (size_t)size;
    chunk_take(intake);
    worker->received_us = connection->backend->upstream->asks_freshness ? clock_us() : 0;
    take_bytes(connection, intake, bytes, (size_t)size);
    worker->received_us = 0;
    if (connection->timed_us)
        end_timing(connection);
    chunk_release(&worker->chunks, intake);
    return (size_t)size;
}

static void take_bytes(struct connection *connection, struct chunk *chunk, const char *bytes, size_t size)
{
    while (size > 0 && connection->state != CONNECTION_CLOSED && !is_done(connection)) {
        size_t used = size;
        enum resp_status status = resp_reply_scan(&connection->reply, bytes, size, &used);
        if (status == RESP_BAD) {
            connection_close(connection, OUTCOME_LOST, "sent bytes that are not the Redis protocol");
            return;
        }
        if (status == RESP_MORE)
            used = size;
        take_fragment(connection, chunk, bytes, used, status == RESP_DONE);
        bytes += used;
        size -= used;
    }
    if (is_done(connection))
        connection_close(connection, OUTCOME_CUT, NULL);
}

static void take_fragment(struct connection *connection, struct chunk *chunk, const char *bytes, size_t size,
                          bool is_complete)
{
    struct worker *worker = worker_of(connection);
    struct request *head = connection->queue.first;
    bool is_plain = connection->state == CONNECTION_READY && connection->reply.type != '-' &&
                    connection->reply.type != '>' && head && head != connection->unsent && !head->question &&
                    !connection->ear && !(connection->owner && must_see_frame(connection));
    if (is_plain) {
        if (is_complete)
            connection_take_oldest(connection);
        if (head->pin != PIN_NONE)
            note_pin(connection, head);
        if (is_complete)
            head->effect = AGAIN_DONE;
        if (head->client && head->client->aside > 0 && is_complete)
            again_overtaken_by(head);
        if (head->client)
            client_take_reply(head, chunk, bytes, size, is_complete);
        else
            connection_own_fragment(connection, head, chunk, bytes, size, is_complete);
        return;
    }

    struct spans *frame = &connection->frame;
    if (!spans_add(&worker->chunks, frame, chunk, bytes, size) || frame->bytes > FRAME_LIMIT) {
        connection_close(connection, OUTCOME_LOST, "reply too large to be kept");
        return;
    }
    if (!is_complete)
        return;
    struct chunk *joined = frame->first->next ? spans_join(frame) : chunk_take(frame->first->chunk);
    if (!joined) {
        connection_close(connection, OUTCOME_LOST, "out of memory");
        return;
    }
    struct slice whole = {frame->first->next ? joined->bytes : frame->first->bytes, frame->bytes};
    if (connection->state == CONNECTION_READY)
        take_frame(connection, whole);
    else
        take_greeting(connection, whole);
    if (connection->state != CONNECTION_CLOSED)
        spans_clear(&worker->chunks, frame);
    chunk_release(&worker->chunks, joined);
}

/* Whether its borrower watches keys, or has begun a transaction, by what the node has answered. */
static void note_pin(struct connection *connection, const struct request *request)
{
    enum command_pin pin = (enum command_pin)request->pin;
    bool is_over = pin == PIN_EXEC || pin == PIN_DISCARD || (pin == PIN_UNWATCH && !request->in_multi);
    connection->has_watched = pin == PIN_WATCH || (connection->has_watched && !is_over);
    connection->in_multi = pin == PIN_MULTI || (connection->in_multi && pin != PIN_EXEC && pin != PIN_DISCARD);
}

/* True if what comes next may be something that no command asked for, or answers a command in several frames; where
 * it has a type of its own (RESP3's push), that tells. */
static bool must_see_frame(const struct connection *connection)
{
    const struct request *head = connection->queue.first;
    return session_has_hidden_pushes(&connection->owner->session) ||
           (head && (head->is_restoring || (connection->protocol == 2 && request_is_subscription(head))));
}

/* An error, a push, or a frame on a connection with subscriptions; complete, and still in connection->frame. */
static void take_frame(struct connection *connection, struct slice frame)
{
    struct request *head = connection->queue.first == connection->unsent ? NULL : connection->queue.first;
    struct client *owner = connection->owner;
    bool is_push = frame.bytes[0] == '>';
    if (connection->ear) {
        if (frame.bytes[0] != '-' || !refuses_everything(connection, frame))
            ears_take(connection, frame);
        else
            was_refused(connection, head, frame);
        return;
    }
    if (!owner && is_push)
        return; /* its borrower has gone */
    if (owner && connection->queue.first && connection->queue.first->is_restoring) {
        take_restoring(connection, connection->queue.first, frame);
        return;
    }
    if (owner && (is_push || must_see_frame(connection))) {
        bool is_subscription = head && request_is_subscription(head);
        if (is_subscription && head->confirmations == 0 && head->subscriptions == 0)
            head->subscriptions = session_confirmations(
                &owner->session, (enum session_channel_kind)head->channel_kind, 0);
        switch (session_received(&owner->session, frame, is_subscription)) {
        case SESSION_PUSH:
            client_push(owner, &connection->frame);
            return;
        case SESSION_CONFIRMATION:
            assert(is_subscription);
            take_confirmation(connection, head);
            return;
        case SESSION_NO_MEMORY:
            client_close(owner, "out of memory");
            return;
        case SESSION_REPLY:
            break;
        }
    }
    if (!head) {
        char reason[160] = "sent a reply that nobody asked for";
        if (frame.bytes[0] == '-')
            snprintf(reason, sizeof reason, "sent %.*s", (int)(frame.size < 100 ? frame.size - 2 : 100), frame.bytes);
        connection_close(connection, OUTCOME_LOST, reason);
        return;
    }
    if (frame.bytes[0] == '-' && (was_refused(connection, head, frame) || refuses_mark(connection, head, frame)))
        return;
    if (head->question == QUESTION_OPENING) {
        transaction_take_opening(connection, frame);
        return;
    }
    if (head->question)
        connection_own_answered(connection, head, frame);
    if (head->in_multi && frame.bytes[0] == '-')
        transaction_flaw(head);
    if (head->is_mark && frame.bytes[0] == '-')
        connection->marked_for = 0; /* the next WAIT needs another */
    if (head->pin != PIN_NONE && (frame.bytes[0] != '-' || head->pin == PIN_EXEC))
        note_pin(connection, head);
    connection_take_oldest(connection);
    spans_move(&head->reply, &connection->frame);
    bool has_effect = frame.bytes[0] != '-' || head->runs_script || head->is_read; /* such as WRONGTYPE of a read */
    head->effect = has_effect ? AGAIN_DONE : AGAIN_NONE;
    if (head->client && head->client->aside > 0)
        again_overtaken_by(head);
    finish_request(connection, head);
}

/* Those that came before the command was sent again are with the client. */
static void take_confirmation(struct connection *connection, struct request *request)
{
    struct client *owner = connection->owner;
    if (request->confirmations >= request->known_confirmations)
        client_push(owner, &connection->frame);
    client_limit_subscriptions(owner);
    if (owner->is_closed)
        return; /* the connection is, too */
    if (++request->confirmations >= request->subscriptions) {
        bool is_undoing = request->pin == PIN_UNSUBSCRIBE;
        finish_request(connection, connection_take_oldest(connection));
        if (!owner->is_closed)
            ears_follow(owner, is_undoing);
    }
}

/* The session that its owner had on another connection begins on this one: nothing of that is for the owner, but
 * what comes in between is. It may come before all is written. */
static void take_restoring(struct connection *connection, struct request *request, struct slice frame)
{
    struct client *owner = connection->owner;
    struct worker *worker = worker_of(connection);
    if (frame.bytes[0] == '-') {
        restoration_refused(connection, frame);
        return;
    }
    if (session_received(&owner->session, frame, true) == SESSION_PUSH) {
        client_push(owner, &connection->frame);
        return;
    }
    if (++request->confirmations < request->subscriptions)
        return;
    request_destroy(&worker->requests, &worker->chunks, connection_take_oldest(connection));
    client_restored(owner);
}

/* Where the node does not serve anybody now, it goes elsewhere or waits. */
static void restoration_refused(struct connection *connection, struct slice error)
{
    struct client *owner = connection->owner;
    enum refusal refusal = refusal_of(error);
    if (refuses_everything(connection, error)) {
        was_refused(connection, connection->queue.first, error);
    } else if (refusal != REFUSAL_NONE) {
        backend_refused(connection->backend, refusal);
        connection_close(connection, OUTCOME_CUT, NULL);
    } else {
        log_warning("client %llu: closed, since its subscriptions cannot be restored: node %s says %.*s",
                    (unsigned long long)owner->id, connection->backend->name,
                    (int)(error.size < 202 ? error.size - 2 : 200), error.bytes);
        client_close(owner, "its subscriptions cannot be restored");
    }
}

static void finish_request(struct connection *connection, struct request *request)
{
    if (request->client)
        client_finish(request);
    else
        connection_own_end(connection, request);
}

/* True if the error was not an answer but a refusal, and the request goes on its way again. The request may be NULL, not wholly
 * written yet, where everybody is refused. */
static bool was_refused(struct connection *connection, struct request *request, struct slice error)
{
    if (refuses_everything(connection, error)) {
        connection->unsent = connection->queue.first; /* the node has not looked at any of them */
        connection->unsent_offset = 0;
        connection->was_used = false;
        health_connection_fails(connection);
        backend_failed(connection->backend, "the node has reached its maxclients");
        connection_close(connection, OUTCOME_LOST, NULL);
        return true;
    }
    assert(request);
    if (request->question == QUESTION_OPENING)
        return false;
    enum refusal refusal = refusal_of_request(request, error);
    if (request->special == SPECIAL_EVALSHA && scripts_should_repeat(connection, request, error)) {
        connection_send_again(connection, request);
        return true;
    }
    if (refusal_is_of_cluster(refusal) && connection->backend->upstream->topology->is_cluster)
        return redirect_take(connection, request, refusal, error);
    if (refusal == REFUSAL_NONE || refusal_is_of_cluster(refusal) || !request->client || has_pushes(connection))
        return false;
    if (refusal == REFUSAL_READONLY && request->client->persona == PERSONA_REPLICA)
        return false; /* it asked a replica, and this is what a replica says */
    struct request_history history = {
        .outcome = OUTCOME_ANSWERED,
        .refusal = refusal,
        .is_read = request->is_read,
        .was_sent = true,
        .needs_master = request->needs_master,
        .is_blocking = request->is_blocking,
        .is_for_data = request->is_blocking && blocked_is_for_data(&request->client->blocked),
        .attempts = request->attempts,
        .max_attempts = UINT32_MAX,
    };
    enum error cause;
    enum verdict verdict = verdict_of(&history, &cause);
    if (verdict == VERDICT_DELIVER)
        return false;
    stats_add_refusal(&worker_of(connection)->stats, refusal);
    backend_refused(connection->backend, refusal);
    retry_refused(connection, request, refusal, verdict == VERDICT_HOLD && !request->is_blocking);
    return true;
}

static enum refusal refusal_of_request(const struct request *request, struct slice error)
{
    enum refusal refusal = request->runs_script ? refusal_of_script(error) : refusal_of(error);
    bool names_node = refusal == REFUSAL_MOVED || refusal == REFUSAL_ASK;
    return request->runs_script && names_node && !redirect_is_for(error, request->place) ? REFUSAL_NONE : refusal;
}

/* True if it was the mark, which this user may not send or whose slot is on its way elsewhere: the WAIT behind it would be
 * answered with an untruth. */
static bool refuses_mark(struct connection *connection, const struct request *request, struct slice error)
{
    bool is_cluster = connection->backend->upstream->topology->is_cluster;
    if (!request->is_mark || (!is_cluster && !slice_starts_with(error, SLICE("-NOPERM "))))
        return false;
    bool is_redirect = is_cluster && refusal_is_of_cluster(refusal_of(error));
    bool has_wait = request->next != NULL;
    finish_request(connection, connection_take_oldest(connection));
    if (is_redirect)
        redirect_note(connection, error);
    if (!has_wait)
        return true;
    struct request *wait = connection->queue.first;
    if (is_redirect && wait->client) {
        redirect_wait(connection, wait);
        return true;
    }
    connection_take_oldest(connection);
    if (!wait->client)
        finish_request(connection, wait);
    else if (is_cluster)
        client_answer(wait, error);
    else
        client_fail(wait, ERROR_WAIT_REFUSED);
    connection_close(connection, OUTCOME_CUT, NULL);
    return true;
}

/* Frames that are no replies leave for the client at once: nothing before them may be sent elsewhere and come
 * late, but where they have a type of their own and may come at any time. */
static bool has_pushes(const struct connection *connection)
{
    const struct client *owner = connection->owner;
    return owner && (session_has_hidden_pushes(&owner->session) || owner->subscribing > 0);
}

/* The command did not run. On a shared connection it goes elsewhere alone, and those behind it will be told the
 * same; a transaction that has begun cannot go elsewhere. */
static void retry_refused(struct connection *connection, struct request *request, enum refusal refusal, bool is_held)
{
    struct client *owner = connection->owner;
    if (owner && (owner->session.in_multi || owner->session.is_watching || request->in_multi)) {
        connection_close(connection, OUTCOME_CUT, "the node refused a command of a transaction");
        return;
    }
    if (refusal == REFUSAL_UNBLOCKED)
        request->hold_deadline_ms = 0;
    request->goes_alone = is_held;
    connection_send_again(connection, request);
    if (owner && !connection->queue.first) {
        connection->was_used = session_is_pinned(&owner->session); /* else nothing of it is on the node */
        connection_close(connection, OUTCOME_CUT, NULL);
    } else if (!owner) {
        connection->is_retiring = true;
    }
}

void connection_done(struct connection *connection)
{
    if (connection->queue.first && connection->queue.first != connection->unsent)
        connection_own_end(connection, connection_take_oldest(connection));
}

void connection_send_again(struct connection *connection, struct request *request)
{
    take_oldest(connection, request->runs_script);
    connection->taken--; /* that was no answer */
    connection->timed_us = 0;
    request->state = REQUEST_NEW;
    request->connection = NULL;
    if (request->is_blocking && blocked_waited_ms(request) >= VERDICT_WAITED_MS)
        request->hold_deadline_ms = 0; /* that it was held before may be long ago */
    again_take(worker_of(connection), request);
}

/* What Redis sends instead of serving a new connection, before it reads anything from it. */
static bool refuses_everything(struct connection *connection, struct slice error)
{
    static const struct slice words[] = {
        {"-ERR max number of clients reached\r\n", 36},
        {"-ERR max number of clients + cluster connections reached\r\n", 58},
    };
    return !connection->was_answered && (slice_equals(error, words[0]) || slice_equals(error, words[1]));
}

struct request *connection_take_oldest(struct connection *connection) { return take_oldest(connection, true); }

struct request *connection_take_undone(struct connection *connection) { return take_oldest(connection, false); }

static inline struct request *take_oldest(struct connection *connection, bool may_have_run)
{
    struct request *request = request_queue_pop(&connection->queue);
    assert(request);
    if (connection->unsent == request)
        connection->unsent = request->next;
    connection->count--;
    connection->taken++;
    connection->backend->load->outstanding--;
    connection->was_answered = true;
    if (may_have_run)
        touch_end(request, connection);
    else
        touch_cancel(request, connection);
    if (request->is_tallied)
        tally_release(request);
    if (connection->is_dedicated)
        blocked_note_sent(connection);
    else if (request->client)
        client_unrouted(request->client, connection);
    if (!connection->queue.first)
        connection->idle_since_ms = worker_of(connection)->now_ms;
    return request;
}

/* ---- the end ---- */

void connection_give_up(struct connection *connection, struct request *request)
{
    struct request *nobodys = request_create(&worker_of(connection)->requests);
    if (!nobodys)
        return;
    *nobodys = (struct request){
        .state = REQUEST_QUEUED, .connection = connection, .is_read = request->is_read, .deadline_ms = UINT64_MAX};
    request_queue_replace(&connection->queue, request, nobodys);
    touch_end(request, connection);
    tally_release(request);
    client_unrouted(request->client, connection);
    end_request(connection, request, OUTCOME_TIMED_OUT, true, false);
}

static void end_requests(struct connection *connection, enum outcome outcome, bool is_void)
{
    bool exec_was_sent = false;
    for (struct request *request = connection->queue.first; request && request != connection->unsent;
         request = request->next)
        exec_was_sent |= request->pin == PIN_EXEC && !request->is_read;

    const struct request *unsent = connection->unsent;
    size_t unsent_offset = connection->unsent_offset;
    bool is_past_unsent = false;
    connection->unsent = connection->gate = NULL;
    while (connection->queue.first) {
        const struct request *oldest = connection->queue.first;
        bool was_sent = !is_past_unsent && (oldest != unsent || unsent_offset > 0);
        is_past_unsent |= oldest == unsent;
        struct request *request = take_oldest(connection, was_sent);
        if (is_void && request->client && (request->in_multi || request->pin == PIN_WATCH)) {
            transaction_end_void(request);
            continue;
        }
        end_request(connection, request, outcome, was_sent, exec_was_sent);
        if (outcome == OUTCOME_TIMED_OUT)
            outcome = OUTCOME_LOST; /* only the oldest was due */
    }
}

static void end_request(struct connection *connection, struct request *request, enum outcome outcome, bool was_sent,
                        bool exec_was_sent)
{
    struct worker *worker = worker_of(connection);
    request->connection = NULL;
    request->state = REQUEST_NEW;
    if (!request->client) {
        spans_clear(&worker->chunks, &request->reply);
        connection_own_end(connection, request);
        return;
    }
    if (request->is_streaming) {
        struct client *client = request->client;
        client_close(client, "connection to the node lost in the middle of a reply");
        request_destroy(&worker->requests, &worker->chunks, request);
        return;
    }
    spans_clear(&worker->chunks, &request->reply);
    if (request->ends_node && was_sent && outcome == OUTCOME_LOST) {
        request->client->is_quitting = request->client->is_ending = true;
        client_finish(request);
        return;
    }
    if (request_is_subscription(request))
        request_restart_subscription(request);
    if (request->pin == PIN_UNWATCH && !request->in_multi) {
        client_answer(request, SLICE("+OK\r\n")); /* nothing is watched there any more */
        return;
    }
    if (connection->was_used && (request->in_multi || request->pin == PIN_WATCH)) {
        client_fail(request, exec_was_sent ? ERROR_WRITE_LOST : ERROR_TRANSACTION_LOST);
        return;
    }
    struct request_history history = {
        .outcome = outcome,
        .is_read = request->is_read,
        .was_sent = was_sent,
        .needs_master = request->needs_master,
        .is_blocking = request->is_blocking,
        .is_for_data = request->is_blocking && blocked_is_for_data(&request->client->blocked),
        .waited_ms = request->is_blocking ? blocked_waited_ms(request) : 0,
        .attempts = request->attempts,
        .max_attempts = request_is_subscription(request)
                            ? UINT32_MAX /* a subscriber waits as long as it takes */
                            : (uint32_t)connection->backend->upstream->config->retry_attempts,
    };
    enum error error;
    enum verdict verdict = verdict_of(&history, &error);
    if (verdict == VERDICT_AGAIN && verdict_is_repeat(&history))
        error = prepare_repeat(connection, request);
    if (error != ERROR_NONE)
        verdict = VERDICT_FAIL;
    switch (verdict) {
    case VERDICT_FAIL:
        request->effect = was_sent && !request->is_read ? AGAIN_LOST : AGAIN_NONE;
        if (request->effect == AGAIN_LOST && request->client->aside > 0)
            again_overtaken_by(request);
        if (request->client)
            client_fail(request, error);
        else
            request_destroy(&worker->requests, &worker->chunks, request);
        return;
    case VERDICT_DELIVER:
    case VERDICT_AGAIN:
    case VERDICT_HOLD:
        break;
    }
    if (request->is_blocking && was_sent)
        request->hold_deadline_ms = 0; /* that it was held before may be long ago */
    stats_add(&worker->stats,
              !was_sent              ? STAT_RETRIES_NEVER_SENT
              : request->is_blocking ? STAT_RETRIES_LOST_WAIT
                                     : STAT_RETRIES_LOST_READ,
              1);
    again_take(worker, request);
}

/* What keeps it from being sent again: its time is over, or the budget has nothing for it. Sent once, it goes elsewhere at
 * once; sent more often, it waits, but never beyond its deadline. What restores a session is for what was there before. */
static enum error prepare_repeat(struct connection *connection, struct request *request)
{
    struct worker *worker = worker_of(connection);
    struct upstream *upstream = connection->backend->upstream;
    if (request_is_subscription(request) || request->is_restoring)
        return ERROR_NONE;
    if (request_is_late(request, worker->now_ms))
        return ERROR_READ_TIMED_OUT;
    if (!upstream_may_repeat(upstream))
        return ERROR_BUDGET;
    if (request->attempts < 2)
        return ERROR_NONE;
    uint64_t wait_ms = backoff_ms(request->attempts - 1U, (uint64_t)upstream->config->retry_base_delay_ms,
                                  (uint64_t)upstream->config->retry_max_delay_ms, &worker->seed);
    uint64_t left_ms = request->deadline_ms > worker->now_ms ? request->deadline_ms - worker->now_ms : 0;
    if (request->deadline_ms && wait_ms > left_ms / 2)
        wait_ms = left_ms / 2;
    request->not_before_ms = worker->now_ms + wait_ms;
    return ERROR_NONE;
}
