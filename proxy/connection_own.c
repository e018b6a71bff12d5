/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/connection_own.h"

#include "proxy/backend.h"
#include "proxy/cursors.h"
#include "proxy/scripts.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/slot.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAMES_MOST = 200000 }; /* names of keys that are tried */

/* How much of what a shard has stays where it is. */
enum holding { HAS_NO_SLOT, HAS_UNSETTLED_SLOTS, HAS_SETTLED_SLOT };

static void take_identity(struct inquiry *inquiry, struct slice reply);
static size_t name_key_of(struct backend *backend, char *key, size_t size);
static enum holding holding_of(const struct backend *backend);
static enum holding holding_in(const struct backend *backend, uint32_t slot);
static struct request *own_request(struct connection *connection, const struct slice *words, size_t count);
static struct request *request_of(struct connection *connection, struct chunk *chunk);
static uint32_t timeout_ms_of(const struct connection *connection);
static void queue_question(struct connection *connection, struct request *request, enum request_question question);

static struct worker *worker_of(const struct connection *connection) { return connection->backend->upstream->worker; }

/* A request without a client: its reply is dropped. Should memory be short, the node does not learn the name. */
void connection_name(struct connection *connection, const char *name, uint32_t timeout_ms)
{
    if (strcmp(connection->name ? connection->name : "", name) == 0)
        return;
    char *copy = strdup(name);
    const struct slice words[] = {SLICE("CLIENT"), SLICE("SETNAME"), slice_of(name)};
    struct request *request = copy ? own_request(connection, words, 3) : NULL;
    if (!request) {
        free(copy);
        return;
    }
    free(connection->name);
    connection->name = copy;
    request->timeout_ms = timeout_ms;
    connection_queue(connection, request);
}

void connection_identify(struct connection *connection)
{
    if (connection->identity != CONNECTION_UNASKED)
        return;
    connection->identifying.answered = take_identity;
    if (connection_inquire(connection, (struct slice[]){SLICE("CLIENT"), SLICE("ID")}, 2, timeout_ms_of(connection),
                           &connection->identifying))
        connection->identity = CONNECTION_ASKED;
}

void connection_await_identity(struct connection *connection, struct inquiry *inquiry)
{
    inquiry->next = connection->awaiting_identity;
    connection->awaiting_identity = inquiry;
}

static void take_identity(struct inquiry *inquiry, struct slice reply)
{
    struct connection *connection = (struct connection *)((char *)inquiry - offsetof(struct connection, identifying));
    size_t position = 0;
    struct resp_value value;
    bool is_told = resp_value_next(reply, &position, &value) && value.type == ':';
    connection->identity = is_told ? CONNECTION_IDENTIFIED : CONNECTION_NAMELESS;
    connection->node_client_id = is_told ? (uint64_t)value.integer : 0;
    while (connection->awaiting_identity) {
        struct inquiry *next = connection->awaiting_identity;
        connection->awaiting_identity = next->next;
        next->answered(next, reply);
    }
}

bool connection_inquire(struct connection *connection, const struct slice *words, size_t count, uint32_t timeout_ms,
                        struct inquiry *inquiry)
{
    struct request *request = own_request(connection, words, count);
    if (!request)
        return false;
    request->inquiry = inquiry;
    request->timeout_ms = timeout_ms;
    connection_queue(connection, request);
    return true;
}

bool connection_ask(struct connection *connection, const struct slice *words, size_t count,
                    enum request_question question)
{
    struct request *request = own_request(connection, words, count);
    if (request)
        queue_question(connection, request, question);
    return request != NULL;
}

bool connection_say(struct connection *connection, struct slice commands, uint32_t replies,
                    enum request_question question)
{
    struct chunk *chunk = chunk_create_sized(commands.size);
    if (chunk) {
        memcpy(chunk->bytes, commands.bytes, commands.size);
        chunk->filled = commands.size;
    }
    struct request *request = request_of(connection, chunk);
    if (!request)
        return false;
    request->subscriptions = replies;
    queue_question(connection, request, question);
    return true;
}

static void queue_question(struct connection *connection, struct request *request, enum request_question question)
{
    request->timeout_ms = timeout_ms_of(connection);
    request->question = (uint8_t)question;
    connection_queue(connection, request);
}

/* What any command may take; 0 = as long as it takes. */
static uint32_t timeout_ms_of(const struct connection *connection)
{
    int64_t timeout_ms = worker_of(connection)->group->config->request_timeout_ms;
    return timeout_ms > 0 ? (uint32_t)timeout_ms : 0;
}

/* Outside of Redis Cluster a message to a shard channel goes to all replicas, and nobody listens to this one.
 * A Redis before 7.0 does not know it, but lets WAIT speak of the moment of the last command, whatever it was.
 * In a Redis Cluster messages do not go that way. There a script writes a key of a slot that the node has, and takes it
 * away again, of which replicas are told as well; nobody can see the key. */
bool connection_mark(struct connection *connection)
{
    static const struct slice message[] = {{"SPUBLISH", 8}, {"__pointsman:wait", 16}, {"", 0}};
    char key[64];
    bool is_cluster = connection->backend->upstream->topology->is_cluster;
    const struct slice script[] = {
        SLICE("EVAL"), SLICE("redis.call('SET', KEYS[1], '') return redis.call('DEL', KEYS[1])"), SLICE("1"),
        {key, is_cluster ? name_key_of(connection->backend, key, sizeof key) : 0}};
    struct request *request = is_cluster ? own_request(connection, script, 4) : own_request(connection, message, 3);
    if (!request)
        return false;
    request->is_mark = true;
    request->timeout_ms = timeout_ms_of(connection);
    connection->has_written = true;
    connection_queue(connection, request);
    return true;
}

/* A key whose slot is of the node's shard, and stays there if any does: one of so many names is, and it mostly still is when
 * the next mark is made, so that the search goes on there. Where the shard has no slot any more every key is refused, which
 * refuses_mark() sees to. Returns its bytes. */
static size_t name_key_of(struct backend *backend, char *key, size_t size)
{
    enum holding most = holding_of(backend);
    for (unsigned tries = 0;; tries++) {
        int length = snprintf(key, size, "__pointsman:wait{%u}", backend->mark_number);
        if (tries == NAMES_MOST || holding_in(backend, slot_of((struct slice){key, (size_t)length})) == most)
            return (size_t)length;
        backend->mark_number = (backend->mark_number + 1) % NAMES_MOST;
    }
}

static enum holding holding_of(const struct backend *backend)
{
    enum holding most = HAS_NO_SLOT;
    for (uint32_t slot = 0; slot < TOPOLOGY_SLOTS && most < HAS_SETTLED_SLOT; slot++) {
        enum holding holding = holding_in(backend, slot);
        if (holding > most)
            most = holding;
    }
    return most;
}

static enum holding holding_in(const struct backend *backend, uint32_t slot)
{
    const struct upstream *upstream = backend->upstream;
    if (topology_shard_of(upstream->topology, slot) != backend->shard)
        return HAS_NO_SLOT;
    return upstream_is_unsettled(upstream, slot, upstream->worker->now_ms) ? HAS_UNSETTLED_SLOTS : HAS_SETTLED_SLOT;
}

/* A request without a client. */
static struct request *own_request(struct connection *connection, const struct slice *words, size_t count)
{
    struct chunk *chunk = chunk_create_sized(resp_encoded_size(words, count));
    if (chunk)
        chunk->filled = resp_encode(chunk->bytes, words, count);
    return request_of(connection, chunk);
}

/* Takes the chunk; NULL: memory is short. */
static struct request *request_of(struct connection *connection, struct chunk *chunk)
{
    struct worker *worker = worker_of(connection);
    struct request *request = chunk ? request_create(&worker->requests) : NULL;
    if (!request) {
        chunk_release(&worker->chunks, chunk);
        return NULL;
    }
    request->chunk = chunk;
    request->bytes = chunk->bytes;
    request->size = chunk->filled;
    return request;
}

/* The answer to a question of ours. */
void connection_own_answered(struct connection *connection, const struct request *request, struct slice reply)
{
    switch ((enum request_question)request->question) {
    case QUESTION_NONE:
        return;
    case QUESTION_RUN_ID:
        cursors_told(connection, reply);
        return;
    case QUESTION_SCRIPT_LOAD:
        scripts_loaded(connection, request, reply);
        return;
    case QUESTION_ASKING:
    case QUESTION_OPENING: /* transaction_take_opening() */
        return;
    }
}

/* The reply to a request whose client has gone is dropped; somebody may wait for that of one of our own. */
void connection_own_fragment(struct connection *connection, struct request *request, struct chunk *chunk, const char *bytes,
                        size_t size, bool is_complete)
{
    if (request->inquiry && !spans_add(&worker_of(connection)->chunks, &request->reply, chunk, bytes, size))
        spans_clear(&worker_of(connection)->chunks, &request->reply);
    if (is_complete)
        connection_own_end(connection, request);
}

void connection_own_end(struct connection *connection, struct request *request)
{
    struct worker *worker = worker_of(connection);
    struct inquiry *inquiry = request->inquiry;
    struct chunk *whole = inquiry && request->reply.first ? spans_join(&request->reply) : NULL;
    request_destroy(&worker->requests, &worker->chunks, request);
    if (inquiry)
        inquiry->answered(inquiry, whole ? (struct slice){whole->bytes, whole->filled} : SLICE(""));
    chunk_release(&worker->chunks, whole);
    struct client *owner = connection->owner;
    if (owner && !connection->queue.first) { /* it may have waited for no more than this */
        client_settle(owner);
        client_unstall(owner);
    }
}
