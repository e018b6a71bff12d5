/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/client.h"

#include "proxy/again.h"
#include "proxy/arrival.h"
#include "proxy/backend.h"
#include "proxy/connection.h"
#include "proxy/cursors.h"
#include "proxy/ears.h"
#include "proxy/handler.h"
#include "proxy/large.h"
#include "proxy/local.h"
#include "proxy/log.h"
#include "proxy/persona.h"
#include "proxy/placement.h"
#include "proxy/ranges.h"
#include "proxy/redirect.h"
#include "proxy/scan.h"
#include "proxy/scatter.h"
#include "proxy/scripts.h"
#include "proxy/tally.h"
#include "proxy/touch.h"
#include "proxy/tracking.h"
#include "proxy/transaction.h"
#include "proxy/tunnel.h"
#include "proxy/upstream.h"
#include "proxy/waits.h"
#include "proxy/worker.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    READ_ROOM = 16 * 1024,          /* least free room in the intake before a read */
    INPUT_LEAST = 4096,             /* smallest input buffer of its own */
    INPUT_FIRST = 32 * 1024,        /* largest that is trusted to an announced size */
    INPUT_WHILE_STALLED = 64 * 1024,/* no more is read from a stalled client */
    BURST_GAP_MS = 100,             /* what comes after less than that was sent in one go with what came before */
    WINDOW_HIGH = 1024,             /* unanswered requests of one client */
    WINDOW_LOW = 512,
    WINDOW_SHARED = 128,            /* ... where it shares a connection on which very many are: */
    CROWDED = 4096,                 /* so many */
    OUTPUT_HIGH = 1024 * 1024,      /* a client that does not read: its input is left alone */
    OUTPUT_LOW = 256 * 1024,
    STREAM_ABOVE = LANE_BULK_BYTES, /* part of a reply is sent on before it is complete */
};


static void client_event(struct ev_loop *loop, ev_io *io, int events);
static void client_receive(struct client *client);
static void note_burst(struct client *client, bool may_be_more);
static struct chunk *input_with_room(struct client *client);
static void consume(struct client *client, struct chunk *chunk, size_t start);
static size_t parse(struct client *client, struct chunk *chunk, size_t start, size_t end);
static uint64_t output_high(const struct client *client);
static bool has_room(struct client *client);
static bool may_change_lane(const struct client *client);
static bool is_crowding(const struct client *client);
static bool keep_input(struct client *client, struct chunk *chunk, size_t start, size_t end);
static void end_of_input(struct client *client);
static void protocol_error(struct client *client, const char *error);
static void send_request(struct client *client, struct chunk *chunk, struct slice bytes, const struct request *traits,
                         bool is_silent);
static void take_off(struct client *client, struct request *request);
static struct request *append_request(struct client *client, const struct request *traits);
static void take_part(struct request *request, size_t size, bool is_next);
static void completed(struct request *request);
static void drained(struct client *client);
static void answered(struct request *request);
static struct slice reply_of_lost(const struct request *request);
static bool has_transaction_to_come(const struct client *client);
static void limit_output(struct client *client, size_t unfinished);
static void deliver_answered(struct client *client);
static void selected(struct client *client, uint32_t database);
static void inspect(struct request *request);
static void inspect_exec(struct request *request);
static void inspect_void(struct request *request);
static void reply_instead(struct request *request, struct slice reply);
static void finish_input(struct client *client);
static void watch(struct client *client);
static void detach_requests(struct client *client);
static bool next_is_silent(struct client *client);

static const struct config *config_of(const struct client *client) { return client->worker->group->config; }

/* ---- life ---- */

bool client_accept(struct worker *worker, struct upstream *upstream, int fd, const struct listener *listener, uint64_t id)
{
    struct client *client = slab_take(&worker->client_slabs, sizeof *client);
    if (!client)
        return false;
    *client = (struct client){.worker = worker, .upstream = upstream, .id = id};
    client->is_unix = listener->is_unix;
    client->persona = listener->persona;
    client->is_authenticated = worker->group->config->password[0] == '\0';
    client->created_ms = client->active_ms = client->burst_ms = worker->now_ms;
    client->last_command = "NULL";
    client->next = worker->clients;
    if (client->next)
        client->next->previous = client;
    worker->clients = client;
    ev_io_init(&client->io, client_event, fd, EV_READ);
    client->io.data = client;
    ev_io_start(worker->loop, &client->io);
    return true;
}

void client_close(struct client *client, const char *reason)
{
    if (client->is_closed)
        return;
    struct worker *worker = client->worker;
    client->is_closed = true;
    log_debug("client %llu: closed: %s", (unsigned long long)client->id, reason);
    ev_io_stop(worker->loop, &client->io);
    if (client->io.fd >= 0)
        close(client->io.fd);
    if (client->previous)
        client->previous->next = client->next;
    else
        worker->clients = client->next;
    if (client->next)
        client->next->previous = client->previous;
    if (worker->next_ticked == client)
        worker->next_ticked = client->next;
    if (client->stall == STALL_PAUSED)
        pause_unstall(client);
    arrival_leave(worker);

    detach_requests(client);
    ears_forget(client);
    if (client->dedicated)
        connection_abandon(client->dedicated);
    client->dedicated = NULL;
    chunk_release(&worker->chunks, client->input);
    client->input = NULL;
    spans_clear(&worker->chunks, &client->output);
    spans_clear(&worker->chunks, &client->pushed);
    client->next_dead = worker->dead_clients;
    worker->dead_clients = client;
}

int client_take_descriptor(struct client *client)
{
    int fd = client->io.fd;
    ev_io_stop(client->worker->loop, &client->io);
    ev_io_set(&client->io, -1, 0);
    return fd;
}

void client_destroy(struct client *client)
{
    session_finish(&client->session);
    free(client->name);
    free(client->library_name);
    free(client->library_version);
    free(client->routes);
    scripts_forget_queued(client);
    placement_forget(client);
    touch_forget(client);
    free(client->reading);
    slab_give(&client->worker->client_slabs, client);
}

/* What is on a connection stays there until it is answered; a command that was received is carried out. */
static void detach_requests(struct client *client)
{
    struct worker *worker = client->worker;
    client_cancel_restoration(client);
    again_forget(client);
    tally_destroy(client);
    while (client->first) {
        struct request *request = client->first;
        client->first = request->next_of_client;
        request->client = NULL;
        switch ((enum request_state)request->state) {
        case REQUEST_HELD:
        case REQUEST_WAITING:
            upstream_forget(client->upstream, request);
            request_destroy(&worker->requests, &worker->chunks, request);
            break;
        case REQUEST_ANSWERED:
            request_destroy(&worker->requests, &worker->chunks, request);
            break;
        case REQUEST_SCATTERED:
            if (client->waits)
                waits_abandon(client);
            else
                scatter_abandon(client, request);
            break;
        case REQUEST_NEW: /* to be sent again (again.h), or being ended by its connection */
        case REQUEST_QUEUED:
            break;
        }
    }
    client->last = NULL;
}

void client_tick(struct client *client)
{
    int64_t idle_timeout_ms = config_of(client)->client_idle_timeout_ms;
    bool is_listening = session_is_pinned(&client->session) || session_is_pushed_to(&client->session);
    if (idle_timeout_ms > 0 && !client->first && client->stall != STALL_PAUSED && !is_listening &&
        client->worker->now_ms - client->active_ms > (uint64_t)idle_timeout_ms) {
        client_close(client, "idle for proxy.client_idle_timeout");
        return;
    }
    bool is_deaf = (client->blocking || client->stall == STALL_PAUSED) && !(client->io.events & EV_READ);
    struct pollfd hangup = {.fd = client->io.fd, .events = POLLRDHUP};
    if (is_deaf && poll(&hangup, 1, 0) == 1)
        client_close(client, "gone while it was blocked or paused");
    if (!client->is_closed && client->stall == STALL_OUTPUT && !client->has_read) {
        client->sends_first = true;
        client_unstall(client);
    }
    client->has_read = false;
}

void client_drain(struct client *client)
{
    bool is_waiting = client->blocking || session_is_pushed_to(&client->session);
    bool is_quiet = client->pending == 0 && !client->session.in_multi && client->stall != STALL_GATHER;
    if (is_waiting || (is_quiet && client->output.bytes == 0))
        client_close(client, "the proxy shuts down");
}

/* ---- input ---- */

static void client_event(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    struct client *client = io->data;
    if (events & EV_READ)
        client_receive(client);
    if ((events & EV_WRITE) && !client->is_closed)
        client_flush(client);
}

static void client_receive(struct client *client)
{
    struct chunk_pool *pool = &client->worker->chunks;
    struct chunk *chunk = input_with_room(client);
    if (!chunk) {
        client_close(client, "out of memory");
        return;
    }
    size_t room = chunk_room(chunk) < BYTES_PER_TURN ? chunk_room(chunk) : BYTES_PER_TURN;
    ssize_t size = recv(client->io.fd, chunk->bytes + chunk->filled, room, 0);
    if (size > 0) {
        note_burst(client, (size_t)size == room);
        size_t start = chunk == client->input ? client->input_start : chunk->filled;
        chunk->filled += (size_t)size;
        client->active_ms = client->worker->now_ms;
        chunk_take(chunk);
        consume(client, chunk, start);
        chunk_release(pool, chunk);
    } else if (size == 0) {
        end_of_input(client);
    } else if (errno != EAGAIN && errno != EINTR) {
        client_close(client, strerror(errno));
    }
}

/* Before active_ms is set. */
static void note_burst(struct client *client, bool may_be_more)
{
    uint64_t now_ms = client->worker->now_ms;
    if (!client->is_backlogged && now_ms - client->active_ms >= BURST_GAP_MS)
        client->burst_ms = now_ms;
    client->is_backlogged = may_be_more;
    if (may_be_more)
        large_note_flood(client);
}

/* The chunk to receive into: the intake, or the client's own input with room for more of the command that has
 * begun. That grows with what has really come, not with what was announced, and only when it is full and by a
 * share of itself, so that a byte is copied but a few times however slowly or in how many words it comes. */
static struct chunk *input_with_room(struct client *client)
{
    struct chunk_pool *pool = &client->worker->chunks;
    struct chunk *input = client->input;
    if (!input)
        return chunk_pool_intake(pool, READ_ROOM);
    if (chunk_room(input) > 0)
        return input;

    size_t have = input->filled - client->input_start;
    size_t wanted = client->stall == STALL_NONE ? resp_command_wanted(&client->parser) : 0;
    size_t least = have + have / 2 + INPUT_LEAST;
    size_t most = 4 * have > READ_ROOM ? 4 * have : READ_ROOM;
    size_t capacity = wanted <= least ? least : wanted < most ? wanted : most;
    struct chunk *larger = chunk_create_sized(capacity);
    if (!larger)
        return NULL;
    memcpy(larger->bytes, input->bytes + client->input_start, have);
    larger->filled = have;
    chunk_release(pool, input);
    client->input = larger;
    client->input_start = 0;
    return larger;
}

/* Takes all commands that can be taken from chunk[start, filled), keeps the rest. */
static void consume(struct client *client, struct chunk *chunk, size_t start)
{
    size_t end = chunk->filled; /* replies of ours may be appended to the intake meanwhile */
    start = parse(client, chunk, start, end);
    if (client->is_closed)
        return;
    if (client->is_ending && client->stall == STALL_NONE)
        start = end; /* after QUIT, a protocol error or the end of input, what is left is nothing */
    if (!keep_input(client, chunk, start, end)) {
        client_close(client, "out of memory");
        return;
    }
    if (client->stall == STALL_TUNNEL) {
        tunnel_begin(client);
        return;
    }
    watch(client);
    finish_input(client);
}

static size_t parse(struct client *client, struct chunk *chunk, size_t start, size_t end)
{
    struct worker *worker = client->worker;
    struct resp_arguments *arguments = &worker->arguments;
    while (start < end && client->stall == STALL_NONE && !client->is_closed && !client->is_quitting) {
        struct command_at_hand at_hand = {.chunk = chunk};
        const char *error = NULL;
        size_t used = 0;
        worker->limits.is_unauthenticated = !client->is_authenticated;
        enum resp_status status = resp_command_scan(&client->parser, &worker->limits, chunk->bytes + start,
                                                    end - start, arguments, &used, &error);
        if (status == RESP_MORE)
            break;
        if (status == RESP_BAD) {
            protocol_error(client, error);
            break;
        }
        if (arguments->count > 0) {
            at_hand.bytes = (struct slice){chunk->bytes + start, used};
            at_hand.words = arguments->items;
            at_hand.count = arguments->count;
            at_hand.command = command_recall(&client->upstream->memo, client->upstream->topology->commands,
                                             at_hand.words, at_hand.count);
            if (!has_room(client) || !handler_take(client, &at_hand))
                break;
        }
        start += used;
    }
    return start;
}

static bool keep_input(struct client *client, struct chunk *chunk, size_t start, size_t end)
{
    struct chunk_pool *pool = &client->worker->chunks;
    if (chunk == client->input) {
        client->input_start = start;
        if (start == end) {
            client->input = NULL;
            chunk_release(pool, chunk);
        }
        return true;
    }
    if (start == end)
        return true;
    size_t size = end - start;
    size_t wanted = client->stall == STALL_NONE ? resp_command_wanted(&client->parser) : size;
    size_t capacity = size + INPUT_LEAST;
    if (wanted > capacity)
        capacity = wanted < INPUT_FIRST ? wanted : INPUT_FIRST > size ? INPUT_FIRST : capacity;
    client->input = chunk_create_sized(capacity);
    if (!client->input)
        return false;
    memcpy(client->input->bytes, chunk->bytes + start, size);
    client->input->filled = size;
    client->input_start = 0;
    return true;
}

/* A client that has sent all it wanted still gets its replies; one that waits in a blocking command or for
 * messages is gone. */
static void end_of_input(struct client *client)
{
    client->is_ending = true;
    bool is_paused = client->stall == STALL_PAUSED && !client->first; /* as in Redis, what waits is not carried out */
    if (client->blocking || client->waits || is_paused || session_is_pushed_to(&client->session)) {
        client_close(client, "closed by the client");
        return;
    }
    watch(client);
    finish_input(client);
}

/* Closes a client that has ended and has got everything. */
static void finish_input(struct client *client)
{
    if (client->is_ending && client->pending == 0 && client->output.bytes == 0 && client->stall != STALL_GATHER &&
        (client->stall == STALL_NONE || !client->input) && !client->is_resumable)
        client_close(client, "closed by the client");
}

static void protocol_error(struct client *client, const char *error)
{
    client_reply_error(client, "-ERR %s", error);
    client->is_quitting = true;
    client->is_ending = true;
}

void client_resume(struct client *client)
{
    if (client->is_closed || client->stall != STALL_NONE)
        return;
    struct chunk *input = client->input;
    if (input) {
        chunk_take(input);
        consume(client, input, client->input_start);
        chunk_release(&client->worker->chunks, input);
    } else {
        watch(client);
        finish_input(client);
    }
}

/* What to wait for follows from the state, here and nowhere else. */
static void watch(struct client *client)
{
    if (client->is_closed)
        return;
    size_t kept = client->input ? client->input->filled - client->input_start : 0;
    bool is_full = client->stall != STALL_NONE &&
                   (kept >= INPUT_WHILE_STALLED || memory_is_over(client->worker->group->max_memory));
    client->is_backlogged |= is_full;
    int events = 0;
    if (!client->is_ending && !is_full && client->stall != STALL_OUTPUT)
        events |= EV_READ;
    if (client->is_blocked_output)
        events |= EV_WRITE;
    if ((client->io.events & (EV_READ | EV_WRITE)) == events)
        return;
    struct ev_loop *loop = client->worker->loop;
    ev_io_stop(loop, &client->io);
    ev_io_set(&client->io, client->io.fd, events);
    if (events)
        ev_io_start(loop, &client->io);
}

/* One that sends all of a pipeline before it reads, as Redis lets it, would wait for us as we for it. */
static uint64_t output_high(const struct client *client)
{
    uint64_t limit = (uint64_t)config_of(client)->client_output_limit;
    return client->sends_first && limit / 2 > OUTPUT_HIGH ? limit / 2 : OUTPUT_HIGH;
}

/* False, and stalled, while too much of what it asked for is unanswered or unread. */
static bool has_room(struct client *client)
{
    if (client->output.bytes > output_high(client))
        return client_stall(client, STALL_OUTPUT);
    if (client->stored_bytes > OUTPUT_HIGH)
        return client_stall(client, STALL_DRAINED);
    if (client->pending >= WINDOW_SHARED && (client->pending >= WINDOW_HIGH || is_crowding(client)))
        return client_stall(client, may_change_lane(client) ? STALL_DRAINED : STALL_WINDOW);
    if (client->inflight > 0 && memory_is_over(client->worker->group->max_memory))
        return client_stall(client, STALL_DRAINED);
    return true;
}

/* One that never stops would never have nothing on its way. */
static bool may_change_lane(const struct client *client)
{
    const struct connection *route = client->route.connection;
    return client->habit.turns > 0 && route && route->lane == LANE_ORDINARY;
}

/* Whoever sends but one request waits for all that is before it there: those who send many must not fill the queue. */
static bool is_crowding(const struct client *client)
{
    const struct connection *connection = client->route.connection;
    return connection && connection->count >= CROWDED;
}

bool client_stall(struct client *client, enum client_stall stall)
{
    client->stall = (uint8_t)stall;
    return false;
}

void client_unstall(struct client *client)
{
    switch ((enum client_stall)client->stall) {
    case STALL_NONE:
    case STALL_GATHER:
    case STALL_PAUSED:
    case STALL_TUNNEL:
    case STALL_EARS:
    case STALL_WAITS:
    case STALL_TOPOLOGY:
    case STALL_SCRIPT:
        return;
    case STALL_DRAINED:
        if (client->inflight > 0)
            return;
        break;
    case STALL_RESTORED:
        if (client->restoring)
            return;
        break;
    case STALL_WINDOW:
        if (client->pending > (is_crowding(client) ? WINDOW_SHARED / 2 : WINDOW_LOW))
            return;
        break;
    case STALL_OUTPUT:
        if (client->output.bytes > (client->sends_first ? output_high(client) : OUTPUT_LOW))
            return;
        break;
    }
    client->stall = STALL_NONE;
    worker_resume_client(client->worker, client);
}

/* ---- commands ---- */

void client_submit(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    if (!touch_write(client, at_hand, traits)) {
        request_give_touches(&client->worker->requests, traits->touches);
        client_close(client, "out of memory");
        return;
    }
    bool must_encode = !client->worker->arguments.is_canonical;
    struct chunk *chunk = must_encode ? chunk_create_sized(resp_encoded_size(at_hand->words, at_hand->count))
                                      : chunk_take(at_hand->chunk);
    struct slice bytes = at_hand->bytes;
    if (chunk && must_encode) {
        chunk->filled = resp_encode(chunk->bytes, at_hand->words, at_hand->count);
        bytes = (struct slice){chunk->bytes, chunk->filled};
    }
    send_request(client, chunk, bytes, traits, next_is_silent(client));
}

/* Takes the chunk; NULL: memory is short. */
static void send_request(struct client *client, struct chunk *chunk, struct slice bytes, const struct request *traits,
                         bool is_silent)
{
    struct request *request = chunk ? append_request(client, traits) : NULL;
    if (!request) {
        chunk_release(&client->worker->chunks, chunk);
        request_give_touches(&client->worker->requests, traits->touches);
        client_close(client, "out of memory");
        return;
    }
    request->order = ++client->order;
    request->is_silent = is_silent;
    request->chunk = chunk;
    request->bytes = bytes.bytes;
    request->size = bytes.size;
    client->subscribing += request_is_subscription(request);
    if (request->in_multi)
        transaction_note(request);
    if (request->is_blocking)
        client->blocking = request;
    take_off(client, request);
}

struct request *client_append(struct client *client, const struct request *traits)
{
    struct request *request = append_request(client, traits);
    if (!request)
        return NULL;
    request->order = ++client->order;
    request->is_silent = next_is_silent(client);
    return request;
}

void client_send_piece(struct client *client, const struct request *piece, struct request **request)
{
    *request = request_create_as(&client->worker->requests, piece);
    if (!*request) {
        request_give_touches(&client->worker->requests, piece->touches);
        client_close(client, "out of memory");
        return;
    }
    chunk_take(piece->chunk);
    (*request)->client = client;
    (*request)->order = client->order;
    take_off(client, *request);
}

static void take_off(struct client *client, struct request *request)
{
    if (client->map_count != client->upstream->map_count)
        client->unmapped_order = request->order - 1;
    client->map_count = client->upstream->map_count;
    client->inflight++;
    client->inflight_bytes += request->size;
    client->has_written |= !request->is_read;
    if (request->has_several_keys)
        client->barrier_place = client->barriers++ ? REQUEST_PLACE_NONE : request->place;
    upstream_dispatch(client->upstream, request);
}

static struct request *append_request(struct client *client, const struct request *traits)
{
    struct request *request = request_create_as(&client->worker->requests, traits);
    if (!request)
        return NULL;
    request->client = client;
    if (client->last)
        client->last->next_of_client = request;
    else
        client->first = request;
    client->last = request;
    client->pending++;
    return request;
}

/* CLIENT REPLY SKIP holds for the one command after it. */
static bool next_is_silent(struct client *client)
{
    bool is_silent = client->reply_mode != REPLY_ON;
    if (client->reply_mode == REPLY_SKIP_NEXT)
        client->reply_mode = REPLY_ON;
    return is_silent;
}

void client_reply(struct client *client, struct slice reply)
{
    struct worker *worker = client->worker;
    if (client->is_closed || next_is_silent(client))
        return;
    bool is_kept;
    if (client->first) {
        struct request *request = append_request(client, &(struct request){.state = REQUEST_ANSWERED});
        is_kept = request && spans_add_copy(&worker->chunks, &request->reply, reply);
        client->stored_bytes += reply.size;
    } else {
        is_kept = spans_add_copy(&worker->chunks, &client->output, reply);
        worker_mark_client(worker, client);
    }
    if (!is_kept)
        client_close(client, "out of memory");
}

void client_reply_parts(struct client *client, struct slice head, struct slice text)
{
    char small[512];
    size_t size = head.size + text.size + 2;
    char *reply = size <= sizeof small ? small : malloc(size);
    if (!reply) {
        client_close(client, "out of memory");
        return;
    }
    memcpy(reply, head.bytes, head.size);
    memcpy(reply + head.size, text.bytes, text.size);
    memcpy(reply + head.size + text.size, "\r\n", 2);
    client_reply(client, (struct slice){reply, size});
    if (reply != small)
        free(reply);
}

void client_reply_text(struct client *client, struct slice text)
{
    char head[32];
    int size = client->session.is_resp3 ? snprintf(head, sizeof head, "=%zu\r\ntxt:", text.size + 4)
                                        : snprintf(head, sizeof head, "$%zu\r\n", text.size);
    client_reply_parts(client, (struct slice){head, (size_t)size}, text);
}

void client_reply_error(struct client *client, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text - 2, format, arguments);
    va_end(arguments);
    size_t length = size < 0 ? 0 : (size_t)size < sizeof text - 3 ? (size_t)size : sizeof text - 3;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\r' || text[i] == '\n')
            text[i] = ' ';
    }
    memcpy(text + length, "\r\n", 2);
    client_reply(client, (struct slice){text, length + 2});
}

/* ---- replies ---- */

void client_take_reply(struct request *request, struct chunk *chunk, const char *bytes, size_t size, bool is_complete)
{
    struct client *client = request->client;
    struct worker *worker = client->worker;
    struct chunk_pool *pool = &worker->chunks;
    bool is_next = request == client->first && request->inspection == INSPECT_NOTHING && !request->is_silent;
    bool goes_straight = is_next && (request->is_streaming || (is_complete && !request->reply.first));
    if (!spans_add(pool, goes_straight ? &client->output : &request->reply, chunk, bytes, size)) {
        client_close(client, "out of memory");
        if (is_complete)
            request_destroy(&worker->requests, pool, request);
        return;
    }
    if (!is_complete) {
        take_part(request, size, is_next);
        return;
    }
    if (goes_straight)
        worker_mark_client(worker, client);
    client_finish(request);
}

/* More is to come. That it is large is noted once, when it becomes so: it may come in very many parts. */
static void take_part(struct request *request, size_t size, bool is_next)
{
    struct client *client = request->client;
    if (request->reply.bytes > STREAM_ABOVE) {
        if (request->reply.bytes - size <= STREAM_ABOVE)
            large_note_reply(request);
        request->is_streaming = is_next;
        if (is_next)
            spans_move(&client->output, &request->reply);
    }
    if (request->is_streaming)
        worker_mark_client(client->worker, client);
    limit_output(client, request->reply.bytes);
}

void client_fail(struct request *request, enum error error)
{
    struct client *client = request->client;
    if (request->is_restoring) {
        client->restoring = NULL;
        request_destroy(&client->worker->requests, &client->worker->chunks, request);
        client_close(client, "its subscriptions cannot be restored");
        return;
    }
    stats_add_failure(&client->worker->stats, error);
    client_break_session(request);
    client_answer(request, error == ERROR_TRANSACTION_LOST ? reply_of_lost(request) : error_reply(error));
}

/* What ends a transaction that was lost has the same answer where it was sent before that was known. */
static struct slice reply_of_lost(const struct request *request)
{
    if (request->pin == PIN_EXEC)
        return CLIENT_EXEC_ABORTED;
    return request->in_multi && request->pin == PIN_DISCARD ? SLICE("+OK\r\n") : error_reply(ERROR_TRANSACTION_LOST);
}

void client_break_session(const struct request *request)
{
    struct client *client = request->client;
    struct session *session = &client->session;
    if (!request->in_multi && request->pin != PIN_WATCH)
        return;
    if (request->pin != PIN_EXEC)
        session->is_broken = session->in_multi || session->is_watching;
    if (!request->is_spoiled)
        transaction_spoil(request);
    if (client->dedicated)
        client->dedicated->is_marked = true; /* the node may be in the midst of the transaction */
}

void client_answer(struct request *request, struct slice reply)
{
    struct chunk_pool *pool = &request->client->worker->chunks;
    spans_clear(pool, &request->reply);
    if (request->inspection == INSPECT_MONITOR)
        request->client->session.is_monitoring = false;
    request->inspection = INSPECT_NOTHING;
    spans_add_copy(pool, &request->reply, reply);
    client_finish(request);
}

void client_finish(struct request *request)
{
    struct client *client = request->client;
    if (request->inspection != INSPECT_NOTHING)
        inspect(request);
    if (request->is_silent)
        spans_clear(&client->worker->chunks, &request->reply);
    completed(request);
}

/* It is out of all counts of what is unanswered. */
static void completed(struct request *request)
{
    struct client *client = request->client;
    request->state = REQUEST_ANSWERED;
    request->connection = NULL;
    if (client->tally)
        tally_answer(request);
    client->inflight--;
    client->inflight_bytes -= request->size;
    client->subscribing -= request_is_subscription(request);
    client->barriers -= request->has_several_keys;
    if (client->inflight == 0)
        drained(client);
    if (client->aside > 0)
        again_look(client);
    if (client->held > client->aside) /* for this one, perhaps */
        upstream_retry_at(client->upstream, client->worker->now_ms);
    if (client->blocking == request)
        client->blocking = NULL;
    if (transaction_ends_with(request))
        transaction_forget(client);
    if (request->is_piece)
        scatter_answered(request);
    else
        answered(request);
    client_settle(client);
    client_unstall(client);
    limit_output(client, 0);
}

/* What waited for that may have been sent in one go with a write before it, and must see it wherever it goes. */
static void drained(struct client *client)
{
    client->has_written &= client->stall == STALL_DRAINED;
    client->follows_master = client->has_written;
}

/* In the client's order it may go now, or has to wait for those before. */
static void answered(struct request *request)
{
    struct client *client = request->client;
    if (request == client->first)
        deliver_answered(client);
    else
        client->stored_bytes += request->reply.bytes;
}

void client_finish_whole(struct request *whole)
{
    if (whole->inspection != INSPECT_NOTHING)
        inspect(whole);
    if (whole->is_silent)
        spans_clear(&whole->client->worker->chunks, &whole->reply);
    whole->state = REQUEST_ANSWERED;
    if (whole->client->tally)
        tally_answer(whole);
    if (!whole->client->is_closed)
        answered(whole);
}

static void limit_output(struct client *client, size_t unfinished)
{
    uint64_t waiting = client->output.bytes + client->pushed.bytes + client->stored_bytes + unfinished;
    if (client->is_closed || waiting <= (uint64_t)config_of(client)->client_output_limit)
        return;
    log_warning("client %llu: does not read its replies, proxy.client_output_limit reached: closed",
                (unsigned long long)client->id);
    client_close(client, "proxy.client_output_limit reached");
}

/* Moves the replies that are next in order to the output. */
static void deliver_answered(struct client *client)
{
    struct worker *worker = client->worker;
    bool is_first = true;
    while (client->first && client->first->state == REQUEST_ANSWERED) {
        struct request *request = client->first;
        client->first = request->next_of_client;
        client->pending--;
        if (!is_first)
            client->stored_bytes -= request->reply.bytes;
        is_first = false;
        spans_move(&client->output, &request->reply);
        spans_move(&client->output, &client->pushed);
        request_destroy(&worker->requests, &worker->chunks, request);
    }
    if (!client->first) {
        client->last = NULL;
        tally_destroy(client);
    }
    worker_mark_client(worker, client);
}

/* A SELECT took effect: on a connection of its own if it has one, where it travelled then. */
static void selected(struct client *client, uint32_t database)
{
    client->database = database;
    if (client->dedicated)
        client->dedicated->database = client->dedicated->target_database = database;
}

/* Replies that mean something to the proxy as well. */
static void inspect(struct request *request)
{
    struct client *client = request->client;
    const struct span *first = request->reply.first;
    char type = first ? first->bytes[0] : '-';
    switch ((enum request_inspection)request->inspection) {
    case INSPECT_NOTHING:
        return;
    case INSPECT_FLUSH:
        if (type == '+')
            scripts_flushed(client->worker);
        return;
    case INSPECT_CURSOR:
        cursors_mark_reply(request);
        return;
    case INSPECT_SELECT:
        if (type == '+') {
            selected(client, request->database);
            if (client->upstream->highest_database < request->database)
                client->upstream->highest_database = request->database;
        }
        return;
    case INSPECT_TRACKING_ON:
    case INSPECT_TRACKING_OPTIN:
    case INSPECT_TRACKING_BCAST:
    case INSPECT_TRACKING_OFF:
        tracking_answered(request, type == '+');
        return;
    case INSPECT_EXEC:
        inspect_exec(request);
        return;
    case INSPECT_MONITOR:
        if (type == '-')
            client->session.is_monitoring = false;
        return;
    case INSPECT_INFO:
    case INSPECT_ROLE:
        local_rewrite(request);
        return;
    case INSPECT_REFUSED:
        reply_instead(request, client_text_of(INSPECT_REFUSED, (enum command_pin)request->pin));
        return;
    case INSPECT_SCAN:
        scan_page(request);
        return;
    case INSPECT_SCAN_CHECK:
        return; /* scan_checked() has made its reply */
    case INSPECT_REDIRECTED:
        reply_instead(request, redirect_refusal(request));
        return;
    case INSPECT_VOID:
        inspect_void(request);
        return;
    case INSPECT_CROSSED:
    case INSPECT_BARRED:
    case INSPECT_READONLY:
    case INSPECT_NO_MOVE:
    case INSPECT_NO_SWAPDB:
    case INSPECT_NO_COPY:
        reply_instead(request, client_text_of((enum request_inspection)request->inspection, PIN_NONE));
        return;
    }
}

struct slice client_text_of(enum request_inspection inspection, enum command_pin pin)
{
    static const char *const texts[] = {
        [INSPECT_CROSSED] = "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        [INSPECT_READONLY] = "-READONLY You can't write against a read only replica.\r\n",
        [INSPECT_BARRED] = "-ERR Command not allowed inside a transaction\r\n",
        [INSPECT_NO_MOVE] = "-ERR MOVE is not allowed in cluster mode\r\n",
        [INSPECT_NO_SWAPDB] = "-ERR SWAPDB is not allowed in cluster mode\r\n",
        [INSPECT_NO_COPY] = "-ERR Copying to another database is not allowed in cluster mode\r\n",
    };
    if (inspection < sizeof texts / sizeof *texts && texts[inspection])
        return slice_of(texts[inspection]);
    return error_reply(pin == PIN_SYNC ? ERROR_REPLICATION : ERROR_DANGEROUS);
}

/* An error is one frame, and short. */
static void inspect_void(struct request *request)
{
    const struct span *first = request->reply.first;
    struct slice reply = first && !first->next ? (struct slice){first->bytes, first->size} : SLICE("");
    struct slice other = transaction_void_reply(request, reply);
    if (other.bytes != reply.bytes)
        reply_instead(request, other);
}

static void reply_instead(struct request *request, struct slice reply)
{
    struct chunk_pool *pool = &request->client->worker->chunks;
    spans_clear(pool, &request->reply);
    spans_add_copy(pool, &request->reply, reply);
}

/* The scripts that were queued have been carried out, and the database is the one that the last good SELECT of the
 * transaction asked for. */
static void inspect_exec(struct request *request)
{
    struct client *client = request->client;
    scripts_carried_out(client, request);
    if (client->session.select_count == 0) return;
    struct chunk *whole = spans_join(&request->reply);
    if (!whole) {
        if (client->dedicated)
            client->dedicated->is_marked = true; /* nobody knows which database it has */
        return;
    }
    struct slice reply = {whole->bytes, whole->filled};
    int64_t database = session_database_after(&client->session, reply);
    if (database >= 0)
        selected(client, (uint32_t)database);
    chunk_release(&client->worker->chunks, whole);
}

/* A push may come over another connection than a reply of which a part is written already. */
static struct spans *output_for_push(struct client *client)
{
    return client->first && client->first->is_streaming ? &client->pushed : &client->output;
}

void client_push(struct client *client, const struct spans *frame)
{
    struct worker *worker = client->worker;
    struct spans *output = output_for_push(client);
    if (client->reply_mode == REPLY_OFF && frame->first && frame->first->bytes[0] == '+')
        return; /* to Redis the lines of MONITOR are replies, and messages are not */
    for (const struct span *span = frame->first; span; span = span->next) {
        bool is_added = client->is_blocked_output
                            ? spans_add_kept(&worker->chunks, output, (struct slice){span->bytes, span->size})
                            : spans_add(&worker->chunks, output, span->chunk, span->bytes, span->size);
        if (!is_added) {
            client_close(client, "out of memory");
            return;
        }
    }
    worker_mark_client(worker, client);
    limit_output(client, 0);
}

void client_limit_subscriptions(struct client *client)
{
    size_t bytes = session_bytes(&client->session) + ears_bytes(client);
    if (client->is_closed || bytes <= (uint64_t)config_of(client)->client_input_limit)
        return;
    log_warning("client %llu: the names that it is subscribed to are beyond proxy.client_input_limit: closed",
                (unsigned long long)client->id);
    client_close(client, "subscriptions beyond proxy.client_input_limit");
}

void client_push_text(struct client *client, struct slice frame)
{
    struct worker *worker = client->worker;
    if (spans_add_copy(&worker->chunks, output_for_push(client), frame))
        worker_mark_client(worker, client);
    else
        client_close(client, "out of memory");
}

void client_flush(struct client *client)
{
    struct worker *worker = client->worker;
    size_t moved = 0;
    while (client->output.first && moved < BYTES_PER_TURN) {
        struct iovec ranges[RANGES_PER_WRITE];
        size_t count = 0;
        size_t total = 0;
        for (struct span *span = client->output.first; span && count < RANGES_PER_WRITE; span = span->next) {
            ranges[count++] = (struct iovec){(void *)(uintptr_t)span->bytes, span->size};
            total += span->size;
        }
        if (total > BYTES_PER_TURN)
            count = ranges_cut(ranges, count, BYTES_PER_TURN); /* total is what is not all written, then */
        ssize_t written = ranges_send(client->io.fd, ranges, count);
        if (written < 0 && errno != EAGAIN && errno != EINTR) {
            client_close(client, strerror(errno));
            return;
        }
        if (written > 0) {
            client->has_read = true;
            moved += (size_t)written;
            spans_consume(&worker->chunks, &client->output, (size_t)written);
        }
        if (written < (ssize_t)total)
            break;
    }
    bool is_blocked = client->output.first != NULL;
    if (is_blocked)
        client_keep_output(client);
    if (is_blocked != client->is_blocked_output) {
        client->is_blocked_output = is_blocked;
        watch(client);
    }
    client->sends_first &= is_blocked;
    client_unstall(client);
    if (!is_blocked)
        finish_input(client);
}

void client_keep_output(struct client *client)
{
    if (client->output.bytes <= OUTPUT_HIGH)
        spans_settle(&client->worker->chunks, &client->output);
}

/* ---- its own connection ---- */

void client_settle(struct client *client)
{
    struct connection *dedicated = client->dedicated;
    bool is_free = dedicated && !dedicated->queue.first && !client->blocking && !session_is_pinned(&client->session);
    if (is_free && !has_transaction_to_come(client)) {
        client->has_home = false;
        backend_give_back(dedicated);
    }
}

/* EXEC was sent, so that the session is free again, but not all of its transaction is on the connection yet. */
static bool has_transaction_to_come(const struct client *client)
{
    for (const struct request *each = client->held ? client->first : NULL; each; each = each->next_of_client) {
        if (each->in_multi && each->state != REQUEST_ANSWERED)
            return true;
    }
    return false;
}
