/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes as the replies of several nodes, under each policy, and as texts of INFO. Whatever nodes say, the
 * client gets one whole reply; it is an error if any piece failed; and what MGET's pieces hold is all in the
 * whole.
 */
#include "routing/merge.h"
#include "routing/resp.h"
#include "routing/scan.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_PIECES = 6, MAX_ELEMENTS = 1024 };

struct replies {
    struct merge_piece pieces[MAX_PIECES];
    char *copies[MAX_PIECES]; /* exactly their bytes, so that the sanitizer sees what goes beyond */
    uint32_t count;
    uint32_t order[MAX_ELEMENTS];
};

static void expect(bool is_true, const char *promise)
{
    if (is_true) return;
    fprintf(stderr, "broken: %s\n", promise);
    abort();
}

static void add_reply(struct replies *replies, struct slice bytes)
{
    char *copy = malloc(bytes.size > 0 ? bytes.size : 1);
    if (!copy) abort();
    if (bytes.size > 0) memcpy(copy, bytes.bytes, bytes.size);
    replies->copies[replies->count] = copy;
    replies->pieces[replies->count++].reply = (struct slice){copy, bytes.size};
}

static void add_text(struct replies *replies, struct slice text)
{
    char *reply = malloc(text.size + 32);
    if (!reply) abort();
    int header = sprintf(reply, "$%zu\r\n", text.size);
    if (text.size > 0) memcpy(reply + header, text.bytes, text.size);
    memcpy(reply + header + text.size, "\r\n", 2);
    add_reply(replies, (struct slice){reply, (size_t)header + text.size + 2});
    free(reply);
}

/* One whole reply behind the other; what follows the last is left. Pushes are no replies to anything. */
static void read_replies(struct replies *replies, struct slice stream)
{
    for (size_t start = 0; start < stream.size && replies->count < MAX_PIECES;) {
        struct resp_reply state = {0};
        size_t used;
        if (resp_reply_scan(&state, stream.bytes + start, stream.size - start, &used) != RESP_DONE) break;
        if (state.type != '>') add_reply(replies, (struct slice){stream.bytes + start, used});
        start += used;
    }
}

/* Texts end with a NUL. */
static void read_texts(struct replies *replies, struct slice stream)
{
    for (size_t start = 0, i = 0; i <= stream.size && replies->count < MAX_PIECES; i++) {
        if (i < stream.size && stream.bytes[i]) continue;
        add_text(replies, (struct slice){stream.bytes + start, i - start});
        start = i + 1;
    }
}

/* As if each had been asked for as many keys as it has elements, the last key first. */
static uint32_t order_keys(struct replies *replies)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < replies->count; i++) {
        struct merge_piece *piece = &replies->pieces[i];
        struct resp_value head;
        size_t position = 0;
        bool is_list = resp_value_next(piece->reply, &position, &head) && head.type == '*';
        piece->count = is_list && head.integer < MAX_ELEMENTS - total ? (uint32_t)head.integer : 0;
        piece->order = replies->order + total;
        total += piece->count;
    }
    for (uint32_t i = 0; i < total; i++)
        replies->order[i] = total - 1 - i;
    return total;
}

/* A push is no element, wherever it stands. */
static void skip_element(struct slice reply, size_t *position)
{
    struct resp_reply state = {0};
    size_t used;
    do {
        expect(resp_reply_scan(&state, reply.bytes + *position, reply.size - *position, &used) == RESP_DONE,
               "elements are whole");
        *position += used;
    } while (state.type == '>');
}

/* Behind attributes, if there are any. */
static bool is_error(struct slice reply)
{
    struct resp_value head;
    size_t position = 0;
    while (resp_value_next(reply, &position, &head) && head.type == '|') {
        for (int64_t i = 0; i < head.integer; i++)
            skip_element(reply, &position);
    }
    return head.type == '-' || head.type == '!';
}

static void check(enum merge_policy policy, const struct replies *replies, uint32_t keys,
                  struct merge_buffer *buffer)
{
    uint64_t seed = 7;
    bool has_failed = false;
    for (uint32_t i = 0; i < replies->count; i++)
        has_failed |= is_error(replies->pieces[i].reply);

    expect(merge_replies(policy, replies->pieces, replies->count, true, &seed, buffer), "there is memory");
    struct slice whole = {buffer->bytes, buffer->size};
    struct resp_reply state = {0};
    struct resp_value head;
    size_t used = 0, position = 0;
    expect(resp_reply_scan(&state, whole.bytes, whole.size, &used) == RESP_DONE && used == whole.size,
           "one whole reply");
    if (has_failed && policy != MERGE_ONE_OK) expect(is_error(whole), "a piece that failed is told");
    if (policy != MERGE_PLACES || is_error(whole)) return;
    expect(resp_value_next(whole, &position, &head) && head.type == '*' && head.integer == keys,
           "as many elements as keys");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice stream = {(const char *)data, size};
    struct replies replies = {.count = 0}, texts = {.count = 0};
    struct merge_buffer buffer = {0};

    read_replies(&replies, stream);
    read_texts(&texts, stream);
    uint32_t keys = order_keys(&replies);
    for (int policy = 0; policy < MERGE_POLICY_COUNT && replies.count > 0; policy++)
        check((enum merge_policy)policy, &replies, keys, &buffer);
    check(MERGE_INFO, &texts, 0, &buffer);
    check(MERGE_TEXT, &texts, 0, &buffer);

    uint64_t hash = 0, cursor = 0;
    uint32_t slots = 0, masters = 1 + (uint32_t)(size % 1000);
    struct scan_cursor scan = {.rank = SCAN_CHECK}, again;
    scan_add(&hash, &slots, SLICE("node"), 1, stream);
    scan.state = scan_state(hash, masters);
    expect(scan_write(&scan, masters, &cursor) && scan_read(cursor, masters, &again) && again.state == scan.state,
           "a state fits into a cursor");

    for (uint32_t i = 0; i < replies.count; i++)
        free(replies.copies[i]);
    for (uint32_t i = 0; i < texts.count; i++)
        free(texts.copies[i]);
    merge_buffer_finish(&buffer);
    return 0;
}
