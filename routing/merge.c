/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/merge.h"

#include "routing/backoff.h"
#include "routing/error.h"
#include "routing/merge_buffer.h"
#include "routing/merge_info.h"
#include "routing/resp.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum outcome {
    MERGED,
    UNFIT, /* the replies are not what the policy needs */
    NO_MEMORY,
};

struct merge {
    enum merge_policy policy;
    const struct merge_piece *pieces;
    uint32_t count;
    uint64_t *seed;
    struct merge_buffer *buffer;
};

#define LIST_OF_ONE SLICE("*1\r\n")

/* A reply that is being read. */
struct reader {
    struct slice reply;
    size_t position; /* behind the head */
    struct resp_value head;
};

typedef enum outcome merger(const struct merge *merge);

static merger merge_first, merge_any, merge_integers, merge_places, merge_concat, merge_latest, merge_union,
    merge_pairs, merge_text, merge_fields;

static merger *const mergers[MERGE_POLICY_COUNT] = {
    [MERGE_FIRST] = merge_first,   [MERGE_OK] = merge_first,      [MERGE_SUM] = merge_integers,
    [MERGE_MIN] = merge_integers,  [MERGE_MAX] = merge_integers,  [MERGE_AND] = merge_integers,
    [MERGE_OR] = merge_integers,   [MERGE_ONE_OK] = merge_first,  [MERGE_PLACES] = merge_places,
    [MERGE_CONCAT] = merge_concat, [MERGE_LATEST] = merge_latest, [MERGE_UNION] = merge_union,
    [MERGE_PAIRS] = merge_pairs,   [MERGE_ANY] = merge_any,       [MERGE_TEXT] = merge_text,
    [MERGE_INFO] = merge_fields,
};

static bool read_element(struct reader *reader, struct resp_value *value);
static bool skip_element(struct reader *reader, struct slice *bytes);
static bool is_error(const struct resp_value *head);
static bool is_list(const struct resp_value *head);
static bool is_text(const struct resp_value *head);
static bool is_list_of_one_text(struct slice reply);
static const struct merge_piece *one_that_matters(const struct merge_piece *pieces, uint32_t count,
                                                  enum merge_policy policy, uint32_t *good);
static bool has_failed(struct slice reply);
static bool is_better_error(const struct merge_piece *piece, const struct merge_piece *than);
static bool put_failure(struct merge_buffer *buffer, struct slice reply, uint32_t good, uint32_t count);
static bool put_one_line(struct merge_buffer *buffer, struct slice text);
static enum outcome merge_next_integers(const struct merge *merge);
static bool fold(enum merge_policy policy, int64_t *result, int64_t number);
static bool start_reading(const struct merge *merge, struct reader *first);
static bool read_next(const struct merge *merge, uint32_t piece, struct resp_value *value);
static bool skip_next(const struct merge *merge, uint32_t piece, struct slice *bytes);
static enum outcome put_integer(const struct merge *merge, char type, int64_t number);
static enum outcome merge_status(const struct merge *merge);
static enum outcome list_elements(const struct merge *merge, char *type, size_t *count);
static enum outcome put_items(const struct merge *merge, char type, size_t count);
static bool read_time(struct slice entry, int64_t *time);
static int compare_times(const void *a, const void *b);
static int compare_bytes(const void *a, const void *b);
static int compare_positions(const void *a, const void *b);
static bool all_texts_are_equal(const struct merge *merge);
static enum outcome outcome_of(bool is_put);

/* Reads the head of a whole reply, passing attributes. */
static bool open_reply(struct reader *reader, struct slice reply)
{
    *reader = (struct reader){.reply = reply};
    return read_element(reader, &reader->head);
}

bool merge_replies(enum merge_policy policy, const struct merge_piece *pieces, uint32_t count, bool is_write,
                   uint64_t *seed, struct merge_buffer *buffer)
{
    const struct merge merge = {policy, pieces, count, seed, buffer};
    uint32_t good;

    assert(count > 0 && policy < MERGE_POLICY_COUNT);
    buffer->size = 0;
    const struct merge_piece *matters = one_that_matters(pieces, count, policy, &good);
    if (matters && policy == MERGE_ONE_OK) return merge_buffer_put(buffer, matters->reply);
    if (matters) return put_failure(buffer, matters->reply, is_write ? good : 0, count);

    enum outcome outcome = mergers[policy](&merge);
    if (outcome != UNFIT) return outcome == MERGED;
    buffer->size = 0;
    return put_failure(buffer, error_reply(ERROR_REPLIES_DIFFER), is_write ? count : 0, count);
}

/* ---- errors ---- */

/* The piece whose reply is that of the whole: the first that failed; where one that succeeds is enough, the
 * first that did, or else the error that says most. NULL if there is none. *good: how many did not fail. */
static const struct merge_piece *one_that_matters(const struct merge_piece *pieces, uint32_t count,
                                                  enum merge_policy policy, uint32_t *good)
{
    const struct merge_piece *failed = NULL, *succeeded = NULL;
    bool is_one_enough = policy == MERGE_ONE_OK;

    *good = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!has_failed(pieces[i].reply)) {
            if (!succeeded) succeeded = &pieces[i];
            ++*good;
        } else if (!failed || (is_one_enough && is_better_error(&pieces[i], failed))) {
            failed = &pieces[i];
        }
    }
    return is_one_enough && succeeded ? succeeded : failed;
}

/* Mostly its first byte tells; behind attributes there may be anything. */
static bool has_failed(struct slice reply)
{
    struct reader reader;
    bool may_be_error = reply.size == 0 || memchr("-!|>", reply.bytes[0], 4);
    return may_be_error && open_reply(&reader, reply) && is_error(&reader.head);
}

/* A node without a script that runs says NOTBUSY; the one that has it says why it goes on. */
static bool is_better_error(const struct merge_piece *piece, const struct merge_piece *than)
{
    static const struct slice idle = {"-NOTBUSY", 8};
    return slice_starts_with(than->reply, idle) && !slice_starts_with(piece->reply, idle);
}

/* A text of more than one line (RESP3's bulk errors) stays as it is if nothing is added to it. "Not executed" is said of one
 * part, and would be an untruth about all. */
static bool put_failure(struct merge_buffer *buffer, struct slice reply, uint32_t good, uint32_t count)
{
    static const struct slice promise = {"; not executed", 14};
    struct reader reader;
    char told[96];

    if (good == 0) return merge_buffer_put(buffer, reply);
    if (!open_reply(&reader, reply)) return false;
    struct slice text = reader.head.text;
    if (text.size > promise.size && memcmp(text.bytes + text.size - promise.size, promise.bytes, promise.size) == 0)
        text.size -= promise.size;
    int size =
        snprintf(told, sizeof(told), " (%u of %u parts of the command were carried out)\r\n", good, count);
    return merge_buffer_put(buffer, SLICE("-")) && put_one_line(buffer, text) &&
           merge_buffer_put(buffer, (struct slice){told, (size_t)size});
}

static bool put_one_line(struct merge_buffer *buffer, struct slice text)
{
    size_t start = buffer->size;
    if (!merge_buffer_put(buffer, text)) return false;
    for (char *at = buffer->bytes + start; at < buffer->bytes + buffer->size; at++) {
        if (*at == '\r' || *at == '\n') *at = ' ';
    }
    return true;
}

/* ---- one of them ---- */

static enum outcome merge_first(const struct merge *merge)
{
    return outcome_of(merge_buffer_put(merge->buffer, merge->pieces[0].reply));
}

static enum outcome merge_any(const struct merge *merge)
{
    const struct merge_piece *chosen = &merge->pieces[0];
    uint32_t seen = 0;

    for (uint32_t i = 0; i < merge->count; i++) {
        struct reader reader;
        if (!open_reply(&reader, merge->pieces[i].reply)) return UNFIT;
        if (!reader.head.is_null && random_below(merge->seed, ++seen) == 0) chosen = &merge->pieces[i];
    }
    return outcome_of(merge_buffer_put(merge->buffer, chosen->reply));
}

/* ---- integers ---- */

static enum outcome merge_integers(const struct merge *merge)
{
    struct reader first;
    if (!open_reply(&first, merge->pieces[0].reply)) return UNFIT;
    if (!merge_buffer_reserve_items(merge->buffer, merge->count)) return NO_MEMORY;
    if (!is_list(&first.head)) {
        for (uint32_t i = 0; i < merge->count; i++)
            merge->buffer->items[i].position = 0;
        return merge_next_integers(merge);
    }
    if (first.head.type == '%' || !start_reading(merge, &first)) return UNFIT;
    if (!merge_buffer_put_header(merge->buffer, first.head.type, first.head.integer)) return NO_MEMORY;
    for (int64_t k = 0; k < first.head.integer; k++) {
        enum outcome outcome = merge_next_integers(merge);
        if (outcome != MERGED) return outcome;
    }
    return MERGED;
}

/* One of each reply. */
static enum outcome merge_next_integers(const struct merge *merge)
{
    struct resp_value first, value;
    if (!read_next(merge, 0, &first) || (first.type != ':' && first.type != '#')) return UNFIT;
    int64_t result = first.integer;
    for (uint32_t i = 1; i < merge->count; i++) {
        if (!read_next(merge, i, &value) || value.type != first.type ||
            !fold(merge->policy, &result, value.integer))
            return UNFIT;
    }
    return put_integer(merge, first.type, result);
}

/* False where the sum is beyond what an integer can be. */
static bool fold(enum merge_policy policy, int64_t *result, int64_t number)
{
    switch (policy) {
    case MERGE_SUM:
        return !__builtin_add_overflow(*result, number, result);
    case MERGE_MIN:
        if (number < *result) *result = number;
        return true;
    case MERGE_MAX:
        if (number > *result) *result = number;
        return true;
    case MERGE_AND:
        *result = *result && number;
        return true;
    case MERGE_OR:
        *result = *result || number;
        return true;
    default:
        return false;
    }
}

static enum outcome put_integer(const struct merge *merge, char type, int64_t number)
{
    if (type == '#' && merge->policy != MERGE_SUM)
        return outcome_of(merge_buffer_put(merge->buffer, number ? SLICE("#t\r\n") : SLICE("#f\r\n")));
    return outcome_of(merge_buffer_put_header(merge->buffer, ':', number));
}

/* Opens all replies, lists of as many elements and of the same type as the first, to be read side by side:
 * the items say where in each. */
static bool start_reading(const struct merge *merge, struct reader *first)
{
    for (uint32_t i = 0; i < merge->count; i++) {
        struct reader reader;
        if (!open_reply(&reader, merge->pieces[i].reply) || reader.head.type != first->head.type ||
            reader.head.is_null || reader.head.integer != first->head.integer)
            return false;
        merge->buffer->items[i].position = reader.position;
    }
    return true;
}

static bool read_next(const struct merge *merge, uint32_t piece, struct resp_value *value)
{
    struct reader reader = {merge->pieces[piece].reply, merge->buffer->items[piece].position, {0}};
    bool is_good = read_element(&reader, value);
    merge->buffer->items[piece].position = reader.position;
    return is_good;
}

static bool skip_next(const struct merge *merge, uint32_t piece, struct slice *bytes)
{
    struct reader reader = {merge->pieces[piece].reply, merge->buffer->items[piece].position, {0}};
    bool is_good = skip_element(&reader, bytes);
    merge->buffer->items[piece].position = reader.position;
    return is_good;
}

static enum outcome merge_pairs(const struct merge *merge)
{
    struct reader first;
    if (!open_reply(&first, merge->pieces[0].reply) || !is_list(&first.head) || first.head.is_null ||
        first.head.integer % 2 != 0)
        return UNFIT;
    if (!merge_buffer_reserve_items(merge->buffer, merge->count)) return NO_MEMORY;
    if (!start_reading(merge, &first)) return UNFIT;

    int64_t announced = first.head.type == '%' ? first.head.integer / 2 : first.head.integer;
    if (!merge_buffer_put_header(merge->buffer, first.head.type, announced)) return NO_MEMORY;
    for (int64_t pair = 0; pair < first.head.integer / 2; pair++) {
        struct slice name = SLICE(""), other;
        struct resp_value value;
        int64_t sum = 0;
        for (uint32_t i = 0; i < merge->count; i++) {
            if (!skip_next(merge, i, i == 0 ? &name : &other) || !read_next(merge, i, &value)) return UNFIT;
            if (value.type != ':' || (i > 0 && !slice_equals(name, other))) return UNFIT;
            if (!fold(MERGE_SUM, &sum, value.integer)) return UNFIT;
        }
        if (!merge_buffer_put(merge->buffer, name) || !merge_buffer_put_header(merge->buffer, ':', sum))
            return NO_MEMORY;
    }
    return MERGED;
}

/* ---- lists ---- */

static enum outcome merge_places(const struct merge *merge)
{
    size_t total = 0;
    for (uint32_t i = 0; i < merge->count; i++)
        total += merge->pieces[i].count;
    if (!merge_buffer_reserve_items(merge->buffer, total)) return NO_MEMORY;
    for (size_t i = 0; i < total; i++)
        merge->buffer->items[i].bytes = (struct slice){NULL, 0};

    for (uint32_t i = 0; i < merge->count; i++) {
        const struct merge_piece *piece = &merge->pieces[i];
        struct reader reader;
        if (piece->count == 1 && is_list_of_one_text(piece->reply)) {
            assert(piece->order[0] < total);
            merge->buffer->items[piece->order[0]].bytes =
                (struct slice){piece->reply.bytes + LIST_OF_ONE.size, piece->reply.size - LIST_OF_ONE.size};
            continue;
        }
        if (!open_reply(&reader, piece->reply) || reader.head.type != '*' || reader.head.is_null ||
            reader.head.integer != piece->count)
            return UNFIT;
        for (uint32_t k = 0; k < piece->count; k++) {
            assert(piece->order[k] < total);
            if (!skip_element(&reader, &merge->buffer->items[piece->order[k]].bytes)) return UNFIT;
        }
    }
    return put_items(merge, '*', total);
}

/* What is behind its head is that text, since the reply is whole: most of MGET's pieces are of one key. */
static bool is_list_of_one_text(struct slice reply)
{
    return slice_starts_with(reply, LIST_OF_ONE) && reply.size > LIST_OF_ONE.size &&
           reply.bytes[LIST_OF_ONE.size] == '$';
}

/* Lists are copied as they are, without a look at their elements. Null is an empty one. */
static enum outcome merge_concat(const struct merge *merge)
{
    struct reader reader;
    int64_t total = 0;
    char type = 0;

    if (!open_reply(&reader, merge->pieces[0].reply)) return UNFIT;
    if (reader.head.type == '+') return merge_status(merge);
    for (uint32_t i = 0; i < merge->count; i++) {
        if (!open_reply(&reader, merge->pieces[i].reply)) return UNFIT;
        if (reader.head.is_null) continue;
        if (!is_list(&reader.head) || (type && type != reader.head.type)) return UNFIT;
        type = reader.head.type;
        total += reader.head.integer;
    }
    if (!type) return merge_first(merge);

    if (!merge_buffer_put_header(merge->buffer, type, type == '%' ? total / 2 : total)) return NO_MEMORY;
    for (uint32_t i = 0; i < merge->count; i++) {
        open_reply(&reader, merge->pieces[i].reply);
        struct slice elements = {reader.reply.bytes + reader.position, reader.reply.size - reader.position};
        if (!reader.head.is_null && !merge_buffer_put(merge->buffer, elements)) return NO_MEMORY;
    }
    return MERGED;
}

static enum outcome merge_status(const struct merge *merge)
{
    for (uint32_t i = 1; i < merge->count; i++) {
        if (!slice_equals(merge->pieces[0].reply, merge->pieces[i].reply)) return UNFIT;
    }
    return merge_first(merge);
}

static enum outcome merge_latest(const struct merge *merge)
{
    size_t count, limit = merge->pieces[0].count;
    char type;
    enum outcome outcome = list_elements(merge, &type, &count);
    if (outcome != MERGED) return outcome;

    struct merge_item *items = merge->buffer->items;
    for (size_t i = 0; i < count; i++) {
        if (!read_time(items[i].bytes, &items[i].number)) return UNFIT;
    }
    if (count > 1) qsort(items, count, sizeof(*items), compare_times);
    return put_items(merge, type, limit > 0 && limit < count ? limit : count);
}

/* The second element of an entry: a whole number of seconds. */
static bool read_time(struct slice entry, int64_t *time)
{
    struct reader reader;
    struct slice ignored;
    struct resp_value value;
    if (!open_reply(&reader, entry) || !is_list(&reader.head) || reader.head.integer < 2 ||
        !skip_element(&reader, &ignored) || !read_element(&reader, &value) || value.type != ':')
        return false;
    *time = value.integer;
    return true;
}

static enum outcome merge_union(const struct merge *merge)
{
    size_t count, kept = 0;
    char type;
    enum outcome outcome = list_elements(merge, &type, &count);
    if (outcome != MERGED) return outcome;

    struct merge_item *items = merge->buffer->items;
    if (count > 1) qsort(items, count, sizeof(*items), compare_bytes);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !slice_equals(items[i].bytes, items[kept - 1].bytes)) items[kept++] = items[i];
    }
    if (kept > 1) qsort(items, kept, sizeof(*items), compare_positions);
    return put_items(merge, type, kept);
}

/* Makes all elements of all replies, arrays or sets, items in the order in which they stand there. */
static enum outcome list_elements(const struct merge *merge, char *type, size_t *count)
{
    *count = 0;
    *type = 0;
    for (uint32_t i = 0; i < merge->count; i++) {
        struct reader reader;
        if (!open_reply(&reader, merge->pieces[i].reply)) return UNFIT;
        if (!is_list(&reader.head) || reader.head.type == '%' || (*type && *type != reader.head.type))
            return UNFIT;
        *type = reader.head.type;
        /* Each element has at least three bytes, whatever their number is said to be. */
        if ((uint64_t)reader.head.integer > reader.reply.size / 3) return UNFIT;
        if (!merge_buffer_reserve_items(merge->buffer, *count + (size_t)reader.head.integer))
            return NO_MEMORY;
        for (int64_t k = 0; k < reader.head.integer; k++) {
            struct merge_item *item = &merge->buffer->items[*count];
            item->position = (*count)++;
            if (!skip_element(&reader, &item->bytes)) return UNFIT;
        }
    }
    return MERGED;
}

static enum outcome put_items(const struct merge *merge, char type, size_t count)
{
    if (!merge_buffer_put_header(merge->buffer, type, (int64_t)count)) return NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        if (!merge_buffer_put(merge->buffer, merge->buffer->items[i].bytes)) return NO_MEMORY;
    }
    return MERGED;
}

/* The newest first, else as they came. */
static int compare_times(const void *a, const void *b)
{
    const struct merge_item *left = a, *right = b;
    if (left->number != right->number) return left->number > right->number ? -1 : 1;
    return compare_positions(a, b);
}

static int compare_bytes(const void *a, const void *b)
{
    const struct merge_item *left = a, *right = b;
    size_t common = left->bytes.size < right->bytes.size ? left->bytes.size : right->bytes.size;
    int order = memcmp(left->bytes.bytes, right->bytes.bytes, common);
    if (order) return order;
    if (left->bytes.size != right->bytes.size) return left->bytes.size < right->bytes.size ? -1 : 1;
    return compare_positions(a, b);
}

static int compare_positions(const void *a, const void *b)
{
    const struct merge_item *left = a, *right = b;
    return (left->position > right->position) - (left->position < right->position);
}

/* ---- texts ---- */

/* What all say is said once. */
static enum outcome merge_text(const struct merge *merge)
{
    struct reader reader;
    char type = 0;
    uint32_t count = all_texts_are_equal(merge) ? 1 : merge->count;

    for (uint32_t i = 0; i < count; i++) {
        if (!open_reply(&reader, merge->pieces[i].reply) || !is_text(&reader.head)) return UNFIT;
        if (i == 0) type = reader.head.type;
        bool is_open = merge->buffer->size > 0 && merge->buffer->bytes[merge->buffer->size - 1] != '\n';
        if (is_open && !merge_buffer_put(merge->buffer, SLICE("\n"))) return NO_MEMORY;
        if (!merge_buffer_put(merge->buffer, reader.head.text)) return NO_MEMORY;
    }
    return outcome_of(merge_buffer_close_text(merge->buffer, 0, type));
}

static bool all_texts_are_equal(const struct merge *merge)
{
    for (uint32_t i = 1; i < merge->count; i++) {
        if (!slice_equals(merge->pieces[0].reply, merge->pieces[i].reply)) return false;
    }
    return true;
}

static enum outcome merge_fields(const struct merge *merge)
{
    char type = 0;

    if (!merge_buffer_reserve_items(merge->buffer, merge->count)) return NO_MEMORY;
    for (uint32_t i = 0; i < merge->count; i++) {
        struct reader reader;
        if (!open_reply(&reader, merge->pieces[i].reply) || !is_text(&reader.head)) return UNFIT;
        if (i == 0) type = reader.head.type;
        merge->buffer->items[i] = (struct merge_item){.bytes = reader.head.text};
    }
    return outcome_of(merge_info(merge->buffer->items, merge->count, merge->buffer) &&
                      merge_buffer_close_text(merge->buffer, 0, type));
}

/* ---- reading ---- */

/* Passes attributes, and pushes, which are no elements (see resp_reply_scan). */
static bool read_element(struct reader *reader, struct resp_value *value)
{
    struct slice ignored;
    while (resp_value_next(reader->reply, &reader->position, value)) {
        if (value->type != '|' && value->type != '>') return true;
        for (int64_t i = 0; i < value->integer; i++) {
            if (!skip_element(reader, &ignored)) return false;
        }
    }
    return false;
}

/* Passes over a whole element and tells its bytes, attributes included. */
static bool skip_element(struct reader *reader, struct slice *bytes)
{
    struct resp_reply scan = {0};
    do {
        *bytes =
            (struct slice){reader->reply.bytes + reader->position, reader->reply.size - reader->position};
        if (bytes->size == 0 || resp_reply_scan(&scan, bytes->bytes, bytes->size, &bytes->size) != RESP_DONE)
            return false;
        reader->position += bytes->size;
    } while (scan.type == '>');
    return true;
}

static bool is_error(const struct resp_value *head)
{
    return head->type == '-' || head->type == '!';
}

static bool is_list(const struct resp_value *head)
{
    return head->type == '*' || head->type == '~' || head->type == '%';
}

static bool is_text(const struct resp_value *head)
{
    return !head->is_null && (head->type == '$' || head->type == '=' || head->type == '+');
}

static enum outcome outcome_of(bool is_put)
{
    return is_put ? MERGED : NO_MEMORY;
}
