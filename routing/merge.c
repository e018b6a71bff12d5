/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/merge.h"

#include "routing/backoff.h"
#include "routing/merge_info.h"
#include "routing/resp.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* One set of replies on its way to one; put_* return false where a reply is not what the policy needs. */
struct merge {
    const struct merge_piece *pieces;
    uint32_t count;
    uint64_t *seed;
    struct merge_buffer *out;
};

typedef bool merge_step(struct merge *merge);

static merge_step put_first, put_sum, put_min, put_places, put_concat, put_union, put_and, put_pairs, put_any,
    put_text, put_info;

static merge_step *const steps[MERGE_POLICY_COUNT] = {
    [MERGE_FIRST] = put_first,   [MERGE_OK] = put_first,    [MERGE_ONE_OK] = put_first, [MERGE_SUM] = put_sum,
    [MERGE_MIN] = put_min,       [MERGE_PLACES] = put_places, [MERGE_CONCAT] = put_concat, [MERGE_UNION] = put_union,
    [MERGE_AND] = put_and,       [MERGE_PAIRS] = put_pairs, [MERGE_ANY] = put_any,      [MERGE_TEXT] = put_text,
    [MERGE_INFO] = put_info,
};

static bool put_one_ok(struct merge *merge);
static bool put_error(struct merge *merge, bool is_write);
static bool is_error(struct slice reply);
static bool head_of(struct slice reply, size_t *position, struct resp_value *head);
static bool integer_of(struct slice reply, int64_t *number);
static bool collect(struct merge *merge, size_t *total, char *type);
static bool skip_element(struct slice reply, size_t *position);
static bool make_room(struct merge_buffer *buffer, size_t elements);
static int compare(const void *a, const void *b);
static void put(struct merge_buffer *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool put_texts(struct merge *merge, void (*put_body)(struct merge *merge));
static void join_texts(struct merge *merge);
static void join_info(struct merge *merge);
static struct slice text_of(struct slice reply, char *type);

void merge_buffer_finish(struct merge_buffer *buffer)
{
    free(buffer->bytes);
    free(buffer->elements);
    *buffer = (struct merge_buffer){0};
}

bool merge_replies(enum merge_policy policy, const struct merge_piece *pieces, uint32_t count, bool is_write,
                   uint64_t *seed, struct merge_buffer *buffer)
{
    struct merge merge = {pieces, count, seed, buffer};
    buffer->size = 0;
    buffer->is_short = false;
    if (policy == MERGE_ONE_OK && put_one_ok(&merge)) return !buffer->is_short;
    if (put_error(&merge, is_write)) return !buffer->is_short;
    if (!steps[policy](&merge) && !buffer->is_short) {
        buffer->size = 0;
        put(buffer, "-ERR pointsman: the replies of the nodes to this command do not go together\r\n");
    }
    return !buffer->is_short;
}

void merge_append(struct merge_buffer *buffer, struct slice bytes)
{
    size_t needed = buffer->size + bytes.size;
    if (needed > buffer->room) {
        size_t room = buffer->room ? buffer->room : 1024;
        while (room < needed)
            room *= 2;
        char *larger = realloc(buffer->bytes, room);
        buffer->is_short |= !larger;
        if (!larger) return;
        buffer->bytes = larger;
        buffer->room = room;
    }
    if (bytes.size) memcpy(buffer->bytes + buffer->size, bytes.bytes, bytes.size);
    buffer->size = needed;
}

/* ---- errors ---- */

static bool put_one_ok(struct merge *merge)
{
    for (uint32_t i = 0; i < merge->count; i++) {
        if (is_error(merge->pieces[i].reply)) continue;
        merge_append(merge->out, merge->pieces[i].reply);
        return true;
    }
    return false;
}

/* False if there is none. */
static bool put_error(struct merge *merge, bool is_write)
{
    struct slice error = {NULL, 0};
    uint32_t failed = 0;
    for (uint32_t i = 0; i < merge->count; i++) {
        if (!is_error(merge->pieces[i].reply)) continue;
        if (failed++ == 0) error = merge->pieces[i].reply;
    }
    if (failed == 0) return false;
    uint32_t done = merge->count - failed;
    if (!is_write || done == 0 || error.bytes[0] != '-') {
        merge_append(merge->out, error);
        return true;
    }
    merge_append(merge->out, (struct slice){error.bytes, error.size - 2});
    put(merge->out, " (%u of %u parts of the command were carried out)\r\n", done, merge->count);
    return true;
}

static bool is_error(struct slice reply)
{
    return reply.size < 3 || reply.bytes[0] == '-' || reply.bytes[0] == '!';
}

/* ---- policies ---- */

static bool put_first(struct merge *merge)
{
    merge_append(merge->out, merge->pieces[0].reply);
    return true;
}

static bool put_sum(struct merge *merge)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < merge->count; i++) {
        int64_t number;
        if (!integer_of(merge->pieces[i].reply, &number) || __builtin_add_overflow(sum, number, &sum)) return false;
    }
    put(merge->out, ":%" PRId64 "\r\n", sum);
    return true;
}

static bool put_min(struct merge *merge)
{
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < merge->count; i++) {
        int64_t number;
        if (!integer_of(merge->pieces[i].reply, &number)) return false;
        if (number < least) least = number;
    }
    put(merge->out, ":%" PRId64 "\r\n", least);
    return true;
}

static bool put_places(struct merge *merge)
{
    size_t total = 0;
    for (uint32_t i = 0; i < merge->count; i++)
        total += merge->pieces[i].count;
    if (!make_room(merge->out, total)) return false;
    for (uint32_t i = 0; i < merge->count; i++) {
        const struct merge_piece *piece = &merge->pieces[i];
        size_t position;
        struct resp_value head;
        if (!head_of(piece->reply, &position, &head) || head.integer != (int64_t)piece->count) return false;
        for (uint32_t j = 0; j < piece->count; j++) {
            size_t start = position;
            if (piece->order[j] >= total || !skip_element(piece->reply, &position)) return false;
            merge->out->elements[piece->order[j]] = (struct slice){piece->reply.bytes + start, position - start};
        }
    }
    put(merge->out, "*%zu\r\n", total);
    for (size_t i = 0; i < total; i++)
        merge_append(merge->out, merge->out->elements[i]);
    return true;
}

static bool put_concat(struct merge *merge)
{
    int64_t total = 0;
    char type = '*';
    for (uint32_t i = 0; i < merge->count; i++) {
        size_t position;
        struct resp_value head;
        if (!head_of(merge->pieces[i].reply, &position, &head)) return false;
        if (i == 0) type = head.type;
        if (head.type != type) return false;
        total += head.integer;
    }
    put(merge->out, "%c%" PRId64 "\r\n", type, type == '%' ? total / 2 : total);
    for (uint32_t i = 0; i < merge->count; i++) {
        struct slice reply = merge->pieces[i].reply;
        size_t position;
        struct resp_value head;
        head_of(reply, &position, &head);
        merge_append(merge->out, (struct slice){reply.bytes + position, reply.size - position});
    }
    return true;
}

static bool put_union(struct merge *merge)
{
    size_t total, kept = 0;
    char type;
    if (!collect(merge, &total, &type) || type == '%') return false;
    struct slice *elements = merge->out->elements;
    if (total > 0) qsort(elements, total, sizeof *elements, compare);
    for (size_t i = 0; i < total; i++) {
        if (kept == 0 || compare(&elements[kept - 1], &elements[i]) != 0) elements[kept++] = elements[i];
    }
    put(merge->out, "%c%zu\r\n", type, kept);
    for (size_t i = 0; i < kept; i++)
        merge_append(merge->out, elements[i]);
    return true;
}

static bool put_and(struct merge *merge)
{
    size_t total;
    char type;
    if (!collect(merge, &total, &type) || type == '%' || total % merge->count != 0) return false;
    size_t each = total / merge->count;
    put(merge->out, "%c%zu\r\n", type, each);
    for (size_t i = 0; i < each; i++) {
        bool is_set = true;
        for (uint32_t j = 0; j < merge->count; j++) {
            int64_t number;
            if (!integer_of(merge->out->elements[j * each + i], &number)) return false;
            is_set &= number != 0;
        }
        put(merge->out, ":%d\r\n", is_set);
    }
    return true;
}

/* The names are those that the client asked for, so all nodes have them in the same order. */
static bool put_pairs(struct merge *merge)
{
    size_t total;
    char type;
    if (!collect(merge, &total, &type) || total % (2 * (size_t)merge->count) != 0) return false;
    size_t each = total / merge->count;
    const struct slice *elements = merge->out->elements;
    put(merge->out, "%c%zu\r\n", type, type == '%' ? each / 2 : each);
    for (size_t i = 0; i < each; i += 2) {
        int64_t sum = 0;
        for (uint32_t j = 0; j < merge->count; j++) {
            const struct slice *pair = &elements[j * each + i];
            int64_t number;
            if (!slice_equals(pair[0], elements[i]) || !integer_of(pair[1], &number)) return false;
            sum += number;
        }
        merge_append(merge->out, elements[i]);
        put(merge->out, ":%" PRId64 "\r\n", sum);
    }
    return true;
}

static bool put_any(struct merge *merge)
{
    uint32_t start = random_below(merge->seed, merge->count);
    struct slice chosen = merge->pieces[start].reply;
    for (uint32_t i = 0; i < merge->count; i++) {
        struct slice reply = merge->pieces[(start + i) % merge->count].reply;
        size_t position = 0;
        struct resp_value value;
        if (!resp_value_next(reply, &position, &value)) return false;
        if (value.is_null) continue;
        chosen = reply;
        break;
    }
    merge_append(merge->out, chosen);
    return true;
}

static bool put_text(struct merge *merge)
{
    return put_texts(merge, join_texts);
}

static bool put_info(struct merge *merge)
{
    return put_texts(merge, join_info);
}

/* ---- texts ---- */

/* The length stands before the text and is known behind it: room for any is left, and the text moved up to it. */
static bool put_texts(struct merge *merge, void (*put_body)(struct merge *merge))
{
    struct merge_buffer *out = merge->out;
    static const char blank[32] = "";
    char type = '$';
    for (uint32_t i = merge->count; i-- > 0;) {
        text_of(merge->pieces[i].reply, &type);
        if (type != '$' && type != '=') return false;
    }
    merge_append(out, (struct slice){blank, sizeof blank});
    if (type == '=') merge_append(out, SLICE("txt:"));
    put_body(merge);
    merge_append(out, SLICE("\r\n"));
    if (out->is_short) return false;
    char head[sizeof blank];
    size_t body = out->size - sizeof blank;
    size_t head_size = (size_t)snprintf(head, sizeof head, "%c%zu\r\n", type, body - 2);
    memcpy(out->bytes, head, head_size);
    memmove(out->bytes + head_size, out->bytes + sizeof blank, body);
    out->size = head_size + body;
    return true;
}

static void join_texts(struct merge *merge)
{
    for (uint32_t i = 0; i < merge->count; i++) {
        char type;
        if (i > 0) merge_append(merge->out, SLICE("\n"));
        merge_append(merge->out, text_of(merge->pieces[i].reply, &type));
    }
}

static void join_info(struct merge *merge)
{
    if (!make_room(merge->out, merge->count)) return;
    for (uint32_t i = 0; i < merge->count; i++) {
        char type;
        merge->out->elements[i] = text_of(merge->pieces[i].reply, &type);
    }
    merge_info(merge->out->elements, merge->count, merge->out);
}

static struct slice text_of(struct slice reply, char *type)
{
    size_t position = 0;
    struct resp_value value;
    bool is_good = resp_value_next(reply, &position, &value);
    *type = is_good ? value.type : '\0';
    return is_good && !value.is_null ? value.text : SLICE("");
}

/* ---- reading ---- */

/* Of an array, a set or a map. */
static bool head_of(struct slice reply, size_t *position, struct resp_value *head)
{
    *position = 0;
    return resp_value_next(reply, position, head) && (head->type == '*' || head->type == '~' || head->type == '%') &&
           !head->is_null;
}

static bool integer_of(struct slice reply, int64_t *number)
{
    size_t position = 0;
    struct resp_value value;
    bool is_good = resp_value_next(reply, &position, &value) && value.type == ':';
    *number = is_good ? value.integer : 0;
    return is_good;
}

/* The elements of all replies, one behind the other. */
static bool collect(struct merge *merge, size_t *total, char *type)
{
    *total = 0;
    for (uint32_t i = 0; i < merge->count; i++) {
        struct slice reply = merge->pieces[i].reply;
        size_t position;
        struct resp_value head;
        if (!head_of(reply, &position, &head) || head.integer < 0) return false;
        if (i == 0) *type = head.type;
        for (int64_t j = 0; j < head.integer; j++) {
            size_t start = position;
            if (!make_room(merge->out, *total + 1) || !skip_element(reply, &position)) return false;
            merge->out->elements[(*total)++] = (struct slice){reply.bytes + start, position - start};
        }
    }
    return true;
}

/* A push or an attribute among the elements counts for none of them: no node has reason to send one there. */
static bool skip_element(struct slice reply, size_t *position)
{
    bool is_there = *position < reply.size;
    return is_there && reply.bytes[*position] != '>' && reply.bytes[*position] != '|' && resp_value_skip(reply, position);
}

static bool make_room(struct merge_buffer *buffer, size_t elements)
{
    if (elements <= buffer->element_room) return true;
    size_t room = buffer->element_room ? buffer->element_room : 64;
    while (room < elements)
        room *= 2;
    struct slice *larger = realloc(buffer->elements, room * sizeof *larger);
    buffer->is_short |= !larger;
    if (!larger) return false;
    buffer->elements = larger;
    buffer->element_room = room;
    return true;
}

static int compare(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? -1 : 1;
    return memcmp(x->bytes, y->bytes, x->size);
}

static void put(struct merge_buffer *out, const char *format, ...)
{
    char text[160];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    merge_append(out, (struct slice){text, size < (int)sizeof text ? (size_t)size : sizeof text - 1});
}
