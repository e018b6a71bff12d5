/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/cursors.h"

#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/info.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/cursor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum { HEAD_MOST = 64 /* "*2", the length of the cursor and the cursor, with their line ends */ };

static bool is_scan(const struct request *request);
static struct slice cursor_of(const struct request *request);
static bool is_marked(const struct request *request);
static void put_in_place(struct request *request, uint32_t mark);
static size_t copy_head(const struct spans *reply, char *head);

void cursors_prepare(struct connection *connection, struct request *request)
{
    if (connection->run == RUN_UNKNOWN) {
        static const struct slice words[] = {{"INFO", 4}, {"server", 6}};
        bool is_asked = connection_ask(connection, words, 2, QUESTION_RUN_ID);
        connection->run = is_asked ? RUN_ASKED : RUN_TOLD;
    }
    if (connection->run == RUN_TOLD)
        put_in_place(request, connection->run_mark);
    else if (!connection->gate && is_marked(request))
        connection->gate = request;
}

void cursors_told(struct connection *connection, struct slice reply)
{
    char run_id[64] = "";
    size_t position = 0;
    struct resp_value value;
    if (reply.bytes[0] != '-' && resp_value_next(reply, &position, &value) && !value.is_null)
        info_copy(value.text, "run_id", run_id, sizeof run_id);
    bool is_busy = slice_starts_with(reply, SLICE("-BUSY ")); /* a script runs; it will tell later */
    connection->run = is_busy ? RUN_UNKNOWN : RUN_TOLD;
    connection->run_mark = (uint16_t)cursor_mark(slice_of(run_id));
    connection->backend->run_mark = connection->run_mark;
    for (struct request *request = connection->gate; request; request = request->next) {
        if (is_scan(request)) put_in_place(request, connection->run_mark);
    }
    connection->gate = NULL;
    worker_mark_connection(connection->backend->upstream->worker, connection);
}

void cursors_mark_reply(struct request *request)
{
    const struct connection *connection = request->connection;
    uint32_t mark = connection ? connection->run_mark : 0;
    uint64_t cursor;
    size_t head = mark ? cursors_read_reply(request, &cursor) : 0;
    if (head > 0) cursors_write_reply(request, head, cursor_for_client(cursor, mark));
}

size_t cursors_read_reply(const struct request *request, uint64_t *cursor)
{
    char text[HEAD_MOST + 1];
    struct slice head = {text, copy_head(&request->reply, text)};
    size_t position = 0;
    struct resp_value array, word;
    bool is_page = resp_value_next(head, &position, &array) && array.type == '*' && array.integer == 2 &&
                   resp_value_next(head, &position, &word) && word.type == '$' && cursor_read(word.text, cursor);
    return is_page ? position : 0;
}

void cursors_write_reply(struct request *request, size_t head, uint64_t cursor)
{
    struct chunk_pool *pool = &request->client->worker->chunks;
    char number[24], written[HEAD_MOST];
    int digits = snprintf(number, sizeof number, "%" PRIu64, cursor);
    int size = snprintf(written, sizeof written, "*2\r\n$%d\r\n%s\r\n", digits, number);
    struct spans rest = request->reply;
    request->reply = (struct spans){0};
    spans_consume(pool, &rest, head);
    if (!spans_add_copy(pool, &request->reply, (struct slice){written, (size_t)size})) {
        spans_clear(pool, &rest);
        client_close(request->client, "out of memory");
        return;
    }
    spans_move(&request->reply, &rest);
}

static bool is_scan(const struct request *request)
{
    return request->special == SPECIAL_SCAN || request->special == SPECIAL_SCAN_KEY;
}

/* The word in the request's bytes. */
static struct slice cursor_of(const struct request *request)
{
    struct slice bytes = {request->bytes, request->size};
    size_t position = 0;
    struct resp_value value = {0};
    bool is_there = resp_value_next(bytes, &position, &value);
    for (int word = request->special == SPECIAL_SCAN ? 1 : 2; is_there && word >= 0; word--)
        is_there = resp_value_next(bytes, &position, &value);
    return is_there ? value.text : (struct slice){NULL, 0};
}

static bool is_marked(const struct request *request)
{
    uint64_t cursor;
    return request->cursor_mark || (cursor_read(cursor_of(request), &cursor) && cursor_mark_of(cursor));
}

/* Over the client's own digits, which are more, with zeros before: nothing moves. */
static void put_in_place(struct request *request, uint32_t mark)
{
    struct slice word = cursor_of(request);
    uint64_t cursor;
    if (!cursor_read(word, &cursor)) return;
    if (request->cursor_mark)
        cursor =
            cursor_for_client(cursor, request->cursor_mark); /* sent in vain; as it came from the client */
    if (cursor_mark_of(cursor) == 0) return;
    request->cursor_mark = (uint16_t)(cursor_mark_of(cursor) & 0xfff);
    cursor_write((char *)(uintptr_t)word.bytes, word.size, cursor_for_node(cursor, mark));
}

static size_t copy_head(const struct spans *reply, char *head)
{
    size_t size = 0;
    for (const struct span *span = reply->first; span && size < HEAD_MOST; span = span->next) {
        size_t part = span->size < HEAD_MOST - size ? span->size : HEAD_MOST - size;
        memcpy(head + size, span->bytes, part);
        size += part;
    }
    return size;
}
