/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/redirect.h"

#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/clock.h"
#include "proxy/control.h"
#include "proxy/transaction.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/backoff.h"
#include "routing/redirect.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    HOPS_MOST = 5,          /* redirects that are followed at once */
    UNSETTLED_MS = 10000,   /* after the last redirect; a place on its way causes more of them */
    ON_ITS_WAY_US = 600000000, /* a slot counts as on its way for all workers, unless a new map says that it has come */
};

static bool may_go_again(const struct connection *connection, const struct request *request);
static void leave(struct connection *connection, struct request *request);
static void follow(struct connection *connection, struct request *request, enum refusal refusal, struct slice error);
static uint32_t hear(struct connection *connection, enum refusal refusal, struct slice error, struct redirect *redirect);
static void try_later(struct upstream *upstream, struct request *request);
static uint32_t node_at(const struct connection *connection, const struct redirect *redirect);
static void report_moved(const struct connection *connection, const struct redirect *redirect);
static bool is_succeeded(const struct backend *backend, uint32_t node);
static bool learn(struct upstream *upstream, uint32_t place, uint32_t node);

bool redirect_take(struct connection *connection, struct request *request, enum refusal refusal, struct slice error)
{
    struct upstream *upstream = connection->backend->upstream;
    struct redirect redirect;
    uint32_t place = redirect_read(error, &redirect) ? redirect.slot : request->place;
    if (place < TOPOLOGY_SLOTS && !request->is_for_shard)
        upstream_unsettle(upstream, place, UNSETTLED_MS);
    if (place < TOPOLOGY_SLOTS && (refusal == REFUSAL_ASK || refusal == REFUSAL_TRYAGAIN))
        freshness_unsettle(upstream->freshness, place, clock_us() + ON_ITS_WAY_US);
    request->refusal = (uint8_t)refusal;
    request->down = (uint8_t)redirect_down_of(error);
    bool restarts = transaction_may_restart(connection, request);
    if (!restarts && !may_go_again(connection, request)) {
        if (request->client && !transaction_make_void(connection, request))
            request->inspection = INSPECT_REDIRECTED;
        hear(connection, refusal, error, &redirect);
        return false;
    }
    stats_add_refusal(&upstream->worker->stats, refusal);
    follow(connection, request, refusal, error);
    if (restarts)
        transaction_restart(connection, request);
    else
        leave(connection, request);
    return true;
}

bool redirect_is_for(struct slice error, uint32_t place)
{
    struct redirect redirect;
    return redirect_read(error, &redirect) && redirect.slot == place;
}

bool redirect_note(struct connection *connection, struct slice error)
{
    struct upstream *upstream = connection->backend->upstream;
    struct redirect redirect;
    if (!redirect_read(error, &redirect))
        return false;
    uint32_t node = node_at(connection, &redirect);
    report_moved(connection, &redirect);
    upstream_unsettle(upstream, redirect.slot, UNSETTLED_MS);
    return node != TOPOLOGY_NO_NODE && refusal_of(error) == REFUSAL_MOVED && learn(upstream, redirect.slot, node);
}

void redirect_wait(struct connection *connection, struct request *wait)
{
    struct client *client = wait->client;
    bool is_void = client->session.is_watching && connection->has_watched;
    try_later(connection->backend->upstream, wait);
    client->has_unmarked_writes = true;
    connection_send_again(connection, wait);
    connection_close(connection, OUTCOME_CUT, NULL);
    if (is_void)
        session_void(&client->session);
}

void redirect_ask(struct connection *connection, struct request *request)
{
    request->is_asking = false;
    connection_ask(connection, &SLICE("ASKING"), 1, QUESTION_ASKING);
}

void redirect_uncovered(const struct upstream *upstream, struct request *request)
{
    request->refusal = REFUSAL_CLUSTERDOWN;
    request->down = DOWN_SLOT;
    control_report(upstream->worker->group->control, upstream->index, REPORT_UNCOVERED, "");
}

struct slice redirect_end(const struct request *request)
{
    switch ((enum refusal)request->refusal) {
    case REFUSAL_TRYAGAIN:
    case REFUSAL_ASK:
        return SLICE("-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
    case REFUSAL_CLUSTERDOWN:
    case REFUSAL_MOVED:
        return redirect_down_text((enum redirect_down)request->down);
    case REFUSAL_NONE:
    case REFUSAL_READONLY:
    case REFUSAL_LOADING:
    case REFUSAL_MASTERDOWN:
    case REFUSAL_UNBLOCKED:
    case REFUSAL_COUNT:
        break;
    }
    return SLICE("");
}

struct slice redirect_refusal(const struct request *request)
{
    if (request->refusal == REFUSAL_CLUSTERDOWN)
        return redirect_down_text((enum redirect_down)request->down);
    if (request->pin == PIN_EXEC)
        return SLICE("-EXECABORT Transaction discarded because of: TRYAGAIN a slot is on its way to another node\r\n");
    return SLICE("-TRYAGAIN a slot is on its way to another node; not executed\r\n");
}

/* Frames that nobody asked for must not be overtaken (connection.c), nor what is behind it on the client's own
 * connection. */
static bool may_go_again(const struct connection *connection, const struct request *request)
{
    const struct client *owner = connection->owner;
    if (!request->client || request->in_multi)
        return false;
    if (!owner)
        return true;
    return !request->next && !owner->session.in_multi && !session_has_hidden_pushes(&owner->session) &&
           owner->subscribing == 0;
}

/* The request goes to the worker's reroute queue. A dedicated connection that has nothing more is given back; what was
 * watched on it is watched no more. */
static void leave(struct connection *connection, struct request *request)
{
    struct client *owner = connection->owner;
    connection_send_again(connection, request);
    if (!owner || connection->queue.first)
        return;
    if (owner->session.is_watching && connection->has_watched) {
        connection_close(connection, OUTCOME_CUT, NULL);
        session_void(&owner->session);
    } else if (!session_is_pushed_to(&owner->session) && !owner->session.is_tracking) {
        connection->is_marked |= request->leaves_traces;
        backend_give_back(connection);
    }
}

static void follow(struct connection *connection, struct request *request, enum refusal refusal, struct slice error)
{
    struct upstream *upstream = connection->backend->upstream;
    struct redirect redirect;
    uint32_t node = hear(connection, refusal, error, &redirect);
    if (node == TOPOLOGY_NO_NODE || ++request->hops > HOPS_MOST) {
        try_later(upstream, request);
        return;
    }
    request->goes_alone = false;
    request->redirect_node = node;
    request->redirect_version = upstream->topology->version;
    request->is_asking = refusal == REFUSAL_ASK;
}

/* What there is to be learned and reported. The node that is meant; TOPOLOGY_NO_NODE if none is, or it is not known. */
static uint32_t hear(struct connection *connection, enum refusal refusal, struct slice error, struct redirect *redirect)
{
    struct upstream *upstream = connection->backend->upstream;
    if (refusal == REFUSAL_CLUSTERDOWN)
        control_report(upstream->worker->group->control, upstream->index, REPORT_UNCOVERED, "");
    if ((refusal != REFUSAL_MOVED && refusal != REFUSAL_ASK) || !redirect_read(error, redirect))
        return TOPOLOGY_NO_NODE;
    uint32_t node = node_at(connection, redirect);
    if (refusal == REFUSAL_ASK)
        return node;
    if (is_succeeded(connection->backend, node))
        backend_refused(connection->backend, refusal);
    else
        report_moved(connection, redirect);
    if (node != TOPOLOGY_NO_NODE)
        learn(upstream, redirect->slot, node);
    return node;
}

static void try_later(struct upstream *upstream, struct request *request)
{
    struct worker *worker = upstream->worker;
    const struct config_upstream *config = upstream->config;
    if (request->pauses < UINT8_MAX)
        request->pauses++;
    request->goes_alone = !request->is_blocking;
    request->hops = 0;
    request->redirect_version = 0;
    request->is_asking = false;
    request->not_before_ms = worker->now_ms + 1 + backoff_ms(request->pauses, (uint64_t)config->retry_base_delay_ms,
                                                             (uint64_t)config->retry_max_delay_ms, &worker->seed);
}

/* The master of a shard names another node of it, or one of which that is not known yet: there was a failover, and what is
 * not redirected waits for the news. */
static bool is_succeeded(const struct backend *backend, uint32_t node)
{
    const struct topology *topology = backend->upstream->topology;
    return node != TOPOLOGY_NO_NODE && backend->shard != TOPOLOGY_NO_SHARD &&
           backend->node == topology->shards[backend->shard].master &&
           (topology->nodes[node].shard == backend->shard || topology->nodes[node].shard == TOPOLOGY_NO_SHARD) &&
           node != backend->node;
}

/* As it stands in the reply, but for the host of the node itself: the control thread knows what it means. */
static void report_moved(const struct connection *connection, const struct redirect *redirect)
{
    const struct upstream *upstream = connection->backend->upstream;
    const struct backend *here = connection->backend;
    struct slice host = redirect->host;
    char name[300];
    if (host.size == 0 && here->node != TOPOLOGY_NO_NODE)
        host = slice_of(upstream->topology->nodes[here->node].address);
    int size = snprintf(name, sizeof name, "%.*s:%u", (int)host.size, host.bytes, redirect->port);
    if (size > 0 && size < (int)sizeof name)
        control_report(upstream->worker->group->control, upstream->index, REPORT_MOVED, name);
}

/* Its index, by the name that it was announced with or by its address. */
static uint32_t node_at(const struct connection *connection, const struct redirect *redirect)
{
    const struct upstream *upstream = connection->backend->upstream;
    const struct topology *topology = upstream->topology;
    const struct backend *here = connection->backend;
    char host[256], name[300];
    if (redirect->host.size >= sizeof host)
        return TOPOLOGY_NO_NODE;
    memcpy(host, redirect->host.bytes, redirect->host.size);
    host[redirect->host.size] = '\0';
    const char *to_host = host;
    uint16_t to_port = redirect->port;
    if (!host[0])
        to_host = here->node == TOPOLOGY_NO_NODE ? "" : topology->nodes[here->node].address;
    else
        config_map_address(upstream->config, &to_host, &to_port);
    snprintf(name, sizeof name, strchr(to_host, ':') ? "[%s]:%u" : "%s:%u", to_host, to_port);
    for (uint32_t i = 0; i < topology->node_count; i++) {
        const struct topology_node *node = &topology->nodes[i];
        if (node->port == to_port && (strcmp(node->name, name) == 0 || strcmp(node->address, to_host) == 0))
            return i;
    }
    return TOPOLOGY_NO_NODE;
}

/* What comes next for the place goes to that shard; a new master of the same shard is the topology's to tell. */
static bool learn(struct upstream *upstream, uint32_t place, uint32_t node)
{
    const struct topology *topology = upstream->topology;
    uint16_t shard = topology->nodes[node].shard;
    if (shard == TOPOLOGY_NO_SHARD || topology->shards[shard].master != node)
        return false;
    if (!upstream->moved)
        upstream->moved = calloc(TOPOLOGY_SLOTS, sizeof *upstream->moved);
    if (!upstream->moved)
        return false;
    upstream->map_count += upstream->moved[place] != shard + 1;
    upstream->moved[place] = (uint16_t)(shard + 1);
    upstream->has_moved = true;
    return true;
}
