/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/tunnel.h"

#include "proxy/log.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BUFFER_BYTES = 64 * 1024, /* of each direction; more only for what there was at the beginning */
    GREETING_MAX_BYTES = 256, /* the answer to AUTH */
};

enum tunnel_state { TUNNEL_CONNECTING, TUNNEL_AUTHENTICATING, TUNNEL_RELAYING };

/* bytes[start, end) are received and not sent on. */
struct flow {
    ev_io *source, *sink;
    char *bytes;
    size_t start, end, room;
    bool is_ending; /* the source has no more */
};

struct tunnel {
    ev_io client_io, node_io;
    struct worker *worker;
    struct backend *backend;
    struct tunnel *next, *previous;
    enum tunnel_state state;
    uint64_t give_up_ms; /* connecting and AUTH must be done by then */
    struct flow upwards, downwards;
    char greeting[GREETING_MAX_BYTES];
    size_t greeting_size;
};

static struct tunnel *create(struct client *client, struct backend *backend);
static bool init_flow(struct flow *flow, ev_io *source, ev_io *sink, size_t kept);
static void keep_output(struct flow *flow, const struct spans *output);
static void close_tunnel(struct tunnel *tunnel, const char *reason);
static void tunnel_event(struct ev_loop *loop, ev_io *io, int events);
static void connected(struct tunnel *tunnel);
static void authenticate(struct tunnel *tunnel);
static void take_greeting(struct tunnel *tunnel);
static void relay(struct tunnel *tunnel);
static bool move(struct tunnel *tunnel, struct flow *flow);
static bool failed(void);
static void watch(struct tunnel *tunnel);
static void set_events(struct tunnel *tunnel, ev_io *io, int events);

void tunnel_begin(struct client *client)
{
    struct backend *backend = upstream_master(client->upstream, 0);
    struct tunnel *tunnel = backend ? create(client, backend) : NULL;
    if (!tunnel) {
        client_close(client, "no replication link for it");
        return;
    }
    log_info("client %llu: is a replica from now on, of node %s", (unsigned long long)client->id, backend->name);
    client_close(client, "went on as a replica");
}

static struct tunnel *create(struct client *client, struct backend *backend)
{
    struct worker *worker = client->worker;
    struct tunnel *tunnel = calloc(1, sizeof *tunnel);
    int node_fd = connection_begin(backend);
    size_t sent = client->input ? client->input->filled - client->input_start : 0;
    bool is_good = tunnel && node_fd >= 0 &&
                   init_flow(&tunnel->upwards, &tunnel->client_io, &tunnel->node_io, sent) &&
                   init_flow(&tunnel->downwards, &tunnel->node_io, &tunnel->client_io, client->output.bytes);
    if (!is_good) {
        if (node_fd >= 0)
            close(node_fd);
        if (tunnel)
            free(tunnel->upwards.bytes);
        free(tunnel);
        return NULL;
    }
    if (sent)
        memcpy(tunnel->upwards.bytes, client->input->bytes + client->input_start, sent);
    tunnel->upwards.end = sent;
    keep_output(&tunnel->downwards, &client->output);
    tunnel->worker = worker;
    tunnel->backend = backend;
    tunnel->give_up_ms = worker->now_ms + (uint64_t)backend->upstream->config->connect_timeout_ms;
    ev_io_init(&tunnel->client_io, tunnel_event, client_take_descriptor(client), 0);
    ev_io_init(&tunnel->node_io, tunnel_event, node_fd, EV_WRITE);
    tunnel->client_io.data = tunnel->node_io.data = tunnel;
    ev_io_start(worker->loop, &tunnel->node_io);
    tunnel->next = worker->tunnels;
    if (tunnel->next)
        tunnel->next->previous = tunnel;
    worker->tunnels = tunnel;
    atomic_fetch_add_explicit(&worker->group->client_count, 1, memory_order_relaxed);
    return tunnel;
}

static bool init_flow(struct flow *flow, ev_io *source, ev_io *sink, size_t kept)
{
    size_t room = kept > BUFFER_BYTES ? kept : BUFFER_BYTES;
    *flow = (struct flow){.source = source, .sink = sink, .bytes = malloc(room), .room = room};
    return flow->bytes != NULL;
}

static void keep_output(struct flow *flow, const struct spans *output)
{
    for (const struct span *span = output->first; span; span = span->next) {
        memcpy(flow->bytes + flow->end, span->bytes, span->size);
        flow->end += span->size;
    }
}

static void close_tunnel(struct tunnel *tunnel, const char *reason)
{
    struct worker *worker = tunnel->worker;
    log_info("replication link to node %s: closed: %s", tunnel->backend->name, reason);
    ev_io_stop(worker->loop, &tunnel->client_io);
    ev_io_stop(worker->loop, &tunnel->node_io);
    close(tunnel->client_io.fd);
    close(tunnel->node_io.fd);
    if (tunnel->previous)
        tunnel->previous->next = tunnel->next;
    else
        worker->tunnels = tunnel->next;
    if (tunnel->next)
        tunnel->next->previous = tunnel->previous;
    atomic_fetch_sub_explicit(&worker->group->client_count, 1, memory_order_relaxed);
    free(tunnel->upwards.bytes);
    free(tunnel->downwards.bytes);
    free(tunnel);
}

void tunnels_cut(struct worker *worker, const struct backend *backend)
{
    for (struct tunnel *tunnel = worker->tunnels, *next; tunnel; tunnel = next) {
        next = tunnel->next;
        if (tunnel->backend == backend)
            close_tunnel(tunnel, "the node is no longer the master");
    }
}

void tunnels_tick(struct worker *worker)
{
    for (struct tunnel *tunnel = worker->tunnels, *next; tunnel; tunnel = next) {
        next = tunnel->next;
        if (tunnel->state != TUNNEL_RELAYING && worker->now_ms >= tunnel->give_up_ms)
            close_tunnel(tunnel, "no connection within upstream.connect_timeout");
    }
}

void tunnels_finish(struct worker *worker)
{
    for (struct tunnel *tunnel = worker->tunnels, *next; tunnel; tunnel = next) {
        next = tunnel->next;
        close_tunnel(tunnel, "the proxy ends");
    }
}

static void tunnel_event(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    (void)events;
    struct tunnel *tunnel = io->data;
    switch (tunnel->state) {
    case TUNNEL_CONNECTING:
        connected(tunnel);
        return;
    case TUNNEL_AUTHENTICATING:
        take_greeting(tunnel);
        return;
    case TUNNEL_RELAYING:
        relay(tunnel);
        return;
    }
}

static void connected(struct tunnel *tunnel)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(tunnel->node_io.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error) {
        close_tunnel(tunnel, strerror(error));
    } else if (tunnel->backend->upstream->config->password[0]) {
        authenticate(tunnel);
    } else {
        tunnel->state = TUNNEL_RELAYING;
        relay(tunnel);
    }
}

static void authenticate(struct tunnel *tunnel)
{
    struct slice words[3];
    size_t count = connection_auth(tunnel->backend->upstream->config, words);
    size_t size = resp_encoded_size(words, count);
    char *bytes = malloc(size);
    ssize_t sent = -1;
    if (bytes) {
        resp_encode(bytes, words, count);
        sent = send(tunnel->node_io.fd, bytes, size, MSG_NOSIGNAL);
    }
    free(bytes);
    if (sent != (ssize_t)size) {
        close_tunnel(tunnel, "cannot greet the node");
        return;
    }
    tunnel->state = TUNNEL_AUTHENTICATING;
    set_events(tunnel, &tunnel->node_io, EV_READ);
}

/* One line: nothing else was asked. */
static void take_greeting(struct tunnel *tunnel)
{
    size_t room = sizeof tunnel->greeting - tunnel->greeting_size;
    ssize_t size = recv(tunnel->node_io.fd, tunnel->greeting + tunnel->greeting_size, room, 0);
    if (size <= 0) {
        if (size == 0 || failed())
            close_tunnel(tunnel, "closed by the node");
        return;
    }
    tunnel->greeting_size += (size_t)size;
    struct slice line = {tunnel->greeting, tunnel->greeting_size};
    bool is_whole = line.bytes[line.size - 1] == '\n';
    if (!is_whole && line.size < sizeof tunnel->greeting)
        return;
    if (!is_whole || !connection_is_let_in(line)) {
        close_tunnel(tunnel, "AUTH refused by the node");
        return;
    }
    tunnel->state = TUNNEL_RELAYING;
    relay(tunnel);
}

static void relay(struct tunnel *tunnel)
{
    if (move(tunnel, &tunnel->upwards) && move(tunnel, &tunnel->downwards))
        watch(tunnel);
}

/* Receives once and sends on what there is; as often as the loop says that there is more. False if the tunnel has
 * ended. */
static bool move(struct tunnel *tunnel, struct flow *flow)
{
    if (flow->end < flow->room && !flow->is_ending) {
        ssize_t size = recv(flow->source->fd, flow->bytes + flow->end, flow->room - flow->end, 0);
        if (size > 0)
            flow->end += (size_t)size;
        else if (size == 0 || failed())
            flow->is_ending = true;
    }
    if (flow->start < flow->end) {
        ssize_t size = send(flow->sink->fd, flow->bytes + flow->start, flow->end - flow->start, MSG_NOSIGNAL);
        if (size > 0) {
            flow->start += (size_t)size;
        } else if (size < 0 && failed()) {
            close_tunnel(tunnel, strerror(errno));
            return false;
        }
    }
    if (flow->start == flow->end)
        flow->start = flow->end = 0; /* there is room again: it is watched for */
    if (flow->is_ending && flow->start == flow->end) {
        close_tunnel(tunnel, flow == &tunnel->upwards ? "closed by the replica" : "closed by the node");
        return false;
    }
    return true;
}

/* True unless the socket has nothing to give or take just now. */
static bool failed(void) { return errno != EAGAIN && errno != EINTR; }

static void watch(struct tunnel *tunnel)
{
    const struct flow *up = &tunnel->upwards, *down = &tunnel->downwards;
    bool reads_client = !up->is_ending && up->end < up->room;
    bool reads_node = !down->is_ending && down->end < down->room;
    set_events(tunnel, &tunnel->client_io, (reads_client ? EV_READ : 0) | (down->start < down->end ? EV_WRITE : 0));
    set_events(tunnel, &tunnel->node_io, (reads_node ? EV_READ : 0) | (up->start < up->end ? EV_WRITE : 0));
}

static void set_events(struct tunnel *tunnel, ev_io *io, int events)
{
    if ((io->events & (EV_READ | EV_WRITE)) == events && ev_is_active(io) == (events != 0))
        return;
    ev_io_stop(tunnel->worker->loop, io);
    ev_io_set(io, io->fd, events);
    if (events)
        ev_io_start(tunnel->worker->loop, io);
}
