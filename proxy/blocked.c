/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/blocked.h"

#include "proxy/client.h"
#include "proxy/connection.h"
#include "proxy/worker.h"
#include "routing/resp.h"

#include <assert.h>

static void renew(struct request *request);
static struct chunk *encode_with_timeout(struct worker *worker, const struct request *request,
                                         uint64_t left_ms);

uint32_t blocked_begin(struct client *client, const struct command_at_hand *at_hand)
{
    client->blocked = (struct blocked){
        .timeout = blocking_timeout_of(at_hand->command, at_hand->words, at_hand->count),
        .end = blocking_reply_of_end(at_hand->command, session_protocol(&client->session)),
        .block = at_hand->command->block,
    };
    uint64_t own_ms = client->blocked.timeout.timeout_ms;
    uint64_t any_ms = (uint64_t)client->worker->group->config->request_timeout_ms;
    bool is_bounded = own_ms > 0 && any_ms > 0 && own_ms <= UINT32_MAX && own_ms + any_ms <= UINT32_MAX;
    return is_bounded ? (uint32_t)(own_ms + any_ms) : 0;
}

void blocked_start_time(struct request *request)
{
    struct client *client = request->client;
    struct blocked *blocked = &client->blocked;
    if (blocked->timeout.timeout_ms && !blocked->until_ms)
        blocked->until_ms = client->worker->now_ms + blocked->timeout.timeout_ms;
}

void blocked_note_sent(struct connection *connection)
{
    struct request *oldest = connection->queue.first;
    if (!oldest || !oldest->is_blocking || !oldest->client) return;
    if (oldest == connection->unsent || connection->state != CONNECTION_READY) return;
    struct client *client = oldest->client;
    if (client->blocked.since_ms) return;
    client->blocked.since_ms = client->worker->now_ms;
    blocked_start_time(oldest);
}

uint64_t blocked_waited_ms(const struct request *request)
{
    const struct client *client = request->client;
    uint64_t since_ms = client->blocked.since_ms;
    return since_ms ? client->worker->now_ms - since_ms : 0;
}

bool blocked_is_over(const struct request *request)
{
    const struct client *client = request->client;
    return client->blocked.until_ms && client->worker->now_ms >= client->blocked.until_ms;
}

void blocked_end(struct request *request)
{
    client_answer(request, request->client->blocked.end);
}

bool blocked_prepare(struct connection *connection, struct request *request)
{
    struct client *client = request->client;
    assert(client->blocking == request);
    client->blocked.since_ms = 0;
    if (client->blocked.until_ms) renew(request);
    if (!blocked_is_wait(&client->blocked) || !client->written_epoch) return true;
    if (!client->has_unmarked_writes && connection->marked_for == client->id) return true;
    if (!connection_mark(connection)) {
        client_fail(request, ERROR_MEMORY);
        return false;
    }
    connection->marked_for = client->id;
    client->has_unmarked_writes = false;
    return true;
}

/* Its bytes say the time that is left. Should memory be short, it waits for longer than it was told to. */
static void renew(struct request *request)
{
    struct client *client = request->client;
    struct worker *worker = client->worker;
    uint64_t until_ms = client->blocked.until_ms;
    uint64_t left_ms = until_ms > worker->now_ms ? until_ms - worker->now_ms : 1;
    struct chunk *chunk = encode_with_timeout(worker, request, left_ms);
    if (!chunk) return;
    client->inflight_bytes += chunk->filled;
    client->inflight_bytes -= request->size;
    chunk_release(&worker->chunks, request->chunk);
    request->chunk = chunk;
    request->bytes = chunk->bytes;
    request->size = chunk->filled;
}

static struct chunk *encode_with_timeout(struct worker *worker, const struct request *request,
                                         uint64_t left_ms)
{
    const struct blocked *blocked = &request->client->blocked;
    char text[BLOCKING_TEXT_SIZE];
    struct resp_arguments words = {0};
    struct resp_command parser = {0};
    struct resp_limits limits = worker->limits; /* it was within them when it came */
    limits.is_unauthenticated = false;
    const char *error;
    size_t used;
    struct chunk *chunk = NULL;
    if (resp_command_scan(&parser, &limits, request->bytes, request->size, &words, &used, &error) ==
            RESP_DONE &&
        blocked->timeout.position < words.count) {
        words.items[blocked->timeout.position] =
            blocking_write_timeout((enum command_block)blocked->block, left_ms, text);
        chunk = chunk_create_sized(resp_encoded_size(words.items, words.count));
        if (chunk) chunk->filled = resp_encode(chunk->bytes, words.items, words.count);
    }
    resp_arguments_finish(&words);
    return chunk;
}
