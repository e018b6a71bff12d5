/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/transaction.h"

#include "proxy/client.h"
#include "proxy/connection_own.h"
#include "proxy/redirect.h"
#include "proxy/script_store.h"
#include "proxy/scripts.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#include <stdlib.h>

enum {
    KEPT_MOST = 1024 * 1024, /* once the place is known */
    SCRIPTS_MOST = 16,
    ROOM_LEAST = 512,
    ROOM_LEFT = 1024,        /* is not freed when the transaction has ended */
};

struct transaction {
    char *bytes; /* from MULTI on, as they were sent */
    size_t size, room;
    uint32_t commands;
    bool is_whole;  /* nothing of it is missing */
    bool is_flawed; /* a node has refused to queue a command of it, so that EXEC must fail */
    bool leaves_traces; /* its connection is not as before when it is carried out */
    uint32_t script_count;
    struct script_sha scripts[SCRIPTS_MOST]; /* of its EVALSHA */
};

static bool make_room(struct transaction *transaction, size_t size);
static bool is_whole(const struct client *client);
static bool may_leave(const struct client *client, const struct request *request);
static bool exec_was_sent(const struct connection *connection);
static struct request *held_of(const struct client *client);

void transaction_begin(struct client *client)
{
    struct transaction *transaction = client->transaction;
    if (!transaction)
        transaction = client->transaction = calloc(1, sizeof *transaction);
    if (!transaction)
        return;
    transaction->size = 0;
    transaction->commands = transaction->script_count = 0;
    transaction->is_flawed = transaction->leaves_traces = false;
    transaction->is_whole = !client->session.is_watching && client->inflight == 0; /* else there may be one before it */
}

bool transaction_add(struct client *client, const struct slice *words, size_t count)
{
    struct transaction *transaction = client->transaction;
    if (!transaction || !make_room(transaction, resp_encoded_size(words, count)))
        return false;
    transaction->size += resp_encode(transaction->bytes + transaction->size, words, count);
    transaction->commands++;
    return true;
}

size_t transaction_bytes(const struct client *client)
{
    return client->transaction ? client->transaction->size : 0;
}

void transaction_note(struct request *request)
{
    struct transaction *transaction = request->client->transaction;
    if (!transaction)
        return;
    request->client->defers_multi = false;
    request->opening_bytes = (uint32_t)transaction->size;
    request->opening_commands = transaction->commands;
    bool is_end = request->pin == PIN_EXEC || request->pin == PIN_DISCARD;
    if (is_end || !transaction->is_whole)
        return;
    transaction->is_whole = transaction->size + request->size <= KEPT_MOST && make_room(transaction, request->size);
    if (!transaction->is_whole)
        return;
    memcpy(transaction->bytes + transaction->size, request->bytes, request->size);
    transaction->size += request->size;
    transaction->commands++;
    transaction->leaves_traces |= request->leaves_traces;
}

void transaction_needs_script(struct client *client, struct slice word)
{
    struct transaction *transaction = client->transaction;
    struct script_sha sha;
    if (!transaction || !transaction->is_whole)
        return;
    transaction->is_whole = scripts_has(client->worker, word) && script_sha_read(word, &sha);
    for (uint32_t i = 0; transaction->is_whole && i < transaction->script_count; i++) {
        if (script_sha_equals(&transaction->scripts[i], &sha))
            return;
    }
    transaction->is_whole &= transaction->script_count < SCRIPTS_MOST;
    if (transaction->is_whole)
        transaction->scripts[transaction->script_count++] = sha;
}

void transaction_flaw(const struct request *request)
{
    bool is_queued = request->in_multi && request->pin != PIN_MULTI && request->pin != PIN_WATCH && !transaction_ends_with(request);
    if (is_queued && request->client && request->client->transaction)
        request->client->transaction->is_flawed = true;
}

bool transaction_open(struct connection *connection, struct request *request)
{
    const struct transaction *transaction = request->client->transaction;
    struct slice opening = {transaction->bytes, request->opening_bytes};
    for (uint32_t i = 0; i < transaction->script_count; i++)
        scripts_bring(connection, &transaction->scripts[i]);
    if (request->is_asking)
        redirect_ask(connection, request);
    connection->is_marked |= transaction->leaves_traces;
    bool is_said = connection_say(connection, opening, request->opening_commands, QUESTION_OPENING);
    if (is_said && transaction->is_flawed) /* what was refused before may be queued now */
        is_said = connection_say(connection, SLICE("*1\r\n$17\r\nPOINTSMAN-REFUSED\r\n"), 1, QUESTION_OPENING);
    if (is_said)
        return true;
    client_fail(request, ERROR_MEMORY);
    return false;
}

/* Whatever else is wrong with a command of it, EXEC fails for that. */
void transaction_take_opening(struct connection *connection, struct slice frame)
{
    struct request *opening = connection->queue.first;
    struct request *request = opening->next;
    enum refusal refusal = frame.bytes[0] == '-' ? refusal_of(frame) : REFUSAL_NONE;
    bool is_redirect = refusal_is_of_cluster(refusal) && request && request->client;
    if (is_redirect && redirect_take(connection, request, refusal, frame))
        return;
    connection->in_multi = true;
    if (++opening->confirmations == opening->subscriptions)
        connection_done(connection);
}

bool transaction_may_restart(const struct connection *connection, const struct request *request)
{
    const struct client *client = request->client;
    return client && client == connection->owner && is_whole(client) && may_leave(client, request);
}

static bool is_whole(const struct client *client)
{
    return client->transaction && client->transaction->is_whole && !client->session.is_broken;
}

/* From this one on all are of the transaction: what is not may have been carried out. */
static bool may_leave(const struct client *client, const struct request *request)
{
    const struct request *each = request;
    while (each && each->client == client && each->in_multi && !each->is_spoiled)
        each = each->next;
    return !each;
}

void transaction_restart(struct connection *connection, struct request *request)
{
    request->opens_transaction = true;
    connection->is_refused = true;
    connection_close(connection, OUTCOME_CUT, NULL);
}

bool transaction_survives(const struct connection *connection, enum outcome outcome)
{
    struct client *client = connection->owner;
    if (!client || client->is_closed || outcome == OUTCOME_TIMED_OUT)
        return false;
    struct request *first = connection->queue.first;
    while (first && !first->client)
        first = first->next;
    if (connection->is_refused || (!first && client->defers_multi))
        return true;
    struct request *held = held_of(client), *next = first ? first : held;
    bool is_open = next ? next->in_multi : client->session.in_multi;
    if (!is_open || !is_whole(client) || !may_leave(client, first) || exec_was_sent(connection))
        return false;
    if (first && first->attempts > connection->backend->upstream->config->retry_attempts)
        return false;
    if (next)
        next->opens_transaction = next->opening_commands > 0; /* else it is MULTI itself */
    else
        client->defers_multi = true;
    return true;
}

/* What is held follows nothing that is on its way, so it is the only one. */
static struct request *held_of(const struct client *client)
{
    struct request *each = client->held ? client->first : NULL;
    while (each && each->state != REQUEST_HELD)
        each = each->next_of_client;
    return each;
}

void transaction_strand(const struct client *client)
{
    struct request *held = held_of(client);
    if (held)
        held->is_spoiled |= held->in_multi;
}

static bool exec_was_sent(const struct connection *connection)
{
    const struct request *unsent = connection->unsent;
    for (const struct request *each = connection->queue.first; each; each = each->next) {
        if (each == unsent && connection->unsent_offset == 0)
            return false;
        if (each->pin == PIN_EXEC)
            return true;
        if (each == unsent)
            return false;
    }
    return false;
}

/* An opening is the proxy's own, and goes again with whom it opens for. */
void transaction_take_along(struct connection *connection, struct request_queue *taken)
{
    while (connection->queue.first) {
        struct request *request = connection->queue.first;
        if (!request->client) {
            connection_own_end(connection, connection_take_oldest(connection));
            continue;
        }
        connection_take_undone(connection);
        request->state = REQUEST_NEW;
        request->connection = NULL;
        request_queue_push(taken, request);
    }
}

bool transaction_make_void(const struct connection *connection, struct request *request)
{
    struct client *client = request->client;
    bool is_watched = client && client == connection->owner && connection->has_watched && request->in_multi;
    if (!is_watched)
        return false;
    for (struct request *each = request; each && each->client == client && each->in_multi; each = each->next) {
        if (each->pin != PIN_DISCARD)
            each->inspection = INSPECT_VOID;
    }
    session_void(&client->session);
    client->dedicated->is_marked = true; /* in the midst of the transaction */
    return true;
}

bool transaction_is_void(const struct connection *connection, enum outcome outcome)
{
    const struct client *client = connection->owner;
    const struct request *first = connection->queue.first;
    if (!client || client->is_closed || !connection->backend->upstream->is_sharded || outcome == OUTCOME_TIMED_OUT)
        return false;
    bool is_watched = client->session.is_watching || (connection->has_watched && first && first->in_multi);
    return connection->was_used && is_watched && !client->session.is_broken && !exec_was_sent(connection);
}

void transaction_end_void(struct request *request)
{
    bool is_queued = request->pin != PIN_WATCH && request->pin != PIN_MULTI && request->pin != PIN_DISCARD;
    request->connection = NULL;
    request->state = REQUEST_NEW;
    spans_clear(&request->client->worker->chunks, &request->reply);
    client_answer(request, transaction_void_reply(request, is_queued ? SLICE("+QUEUED\r\n") : SLICE("+OK\r\n")));
}

struct slice transaction_void_reply(const struct request *request, struct slice reply)
{
    if (request->pin == PIN_EXEC)
        return request->client->session.is_resp3 ? SLICE("_\r\n") : SLICE("*-1\r\n");
    bool is_redirect = reply.size > 0 && reply.bytes[0] == '-' && refusal_is_of_cluster(refusal_of(reply));
    return is_redirect ? SLICE("+QUEUED\r\n") : reply;
}

void transaction_spoil(const struct request *request)
{
    struct request *begin = request->client->first;
    for (struct request *each = begin; each != request; each = each->next_of_client) {
        if (transaction_ends_with(each))
            begin = each->next_of_client;
    }
    for (struct request *each = begin; each; each = each->next_of_client) {
        bool is_to_come = each->state != REQUEST_QUEUED && each->state != REQUEST_ANSWERED;
        each->is_spoiled |= each->in_multi && is_to_come;
        if (transaction_ends_with(each))
            return;
    }
}

bool transaction_ends_with(const struct request *request)
{
    return request->in_multi && (request->pin == PIN_EXEC || request->pin == PIN_DISCARD);
}

void transaction_forget(struct client *client)
{
    struct transaction *transaction = client->transaction;
    if (!transaction)
        return;
    transaction->size = 0;
    transaction->is_whole = false;
    if (transaction->room <= ROOM_LEFT && !client->is_closed)
        return;
    client->transaction = NULL;
    free(transaction->bytes);
    free(transaction);
}

static bool make_room(struct transaction *transaction, size_t size)
{
    size_t wanted = transaction->size + size;
    if (wanted <= transaction->room)
        return true;
    size_t room = wanted + wanted / 2 < ROOM_LEAST ? ROOM_LEAST : wanted + wanted / 2;
    char *larger = wanted < UINT32_MAX ? realloc(transaction->bytes, room) : NULL;
    if (!larger)
        return false;
    transaction->bytes = larger;
    transaction->room = room;
    return true;
}
