/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The same bytes as a stream of commands and as a stream of replies. Whatever way they are cut, the scanners
 * must find the same; and what they take for a whole RESP2 reply, hiredis must read as the very same values.
 */
#include "tests/resp_transcript.h"

#include <hiredis/hiredis.h>

/* At most so many cuts of one input are tried, all of them if it is shorter: the cost stays bounded. */
#define MOST_CUTS 64

static size_t cut_stride(size_t size)
{
    return size / MOST_CUTS + 1;
}

static void fail(const char *what, const char *one, const char *other)
{
    fprintf(stderr, "%s\n  %s\n  %s\n", what, one, other);
    abort();
}

/* ---- one way of cutting against another ---- */

static const struct resp_limits limits_tried[] = {
    {.max_arguments = INT32_MAX, .max_bulk_bytes = 512 << 20, .max_command_bytes = 1 << 30},
    {.max_arguments = 100, .max_bulk_bytes = 1000, .max_command_bytes = 60, .is_unauthenticated = true},
    {.max_arguments = 3, .max_bulk_bytes = 20, .max_command_bytes = 60},
};

static void check_commands(struct slice stream, const struct resp_limits *limits)
{
    char *whole = transcript_of_commands(stream, limits, (struct pieces){stream.size, 1});
    if (strchr(whole, '?') && !memchr(stream.bytes, '?', stream.size)) fail("broken promise", whole, "");
    for (size_t cut = 0; cut < stream.size; cut += cut_stride(stream.size)) {
        struct pieces pieces = cut == 0 ? (struct pieces){1, 1} : (struct pieces){cut, stream.size};
        char *pieced = transcript_of_commands(stream, limits, pieces);
        if (strcmp(whole, pieced) != 0) fail("commands depend on the cut", whole, pieced);
        free(pieced);
    }
    free(whole);
}

static void check_replies(struct slice stream)
{
    char *whole = transcript_of_replies(stream, (struct pieces){stream.size, 1});
    if (strchr(whole, '?') && !memchr(stream.bytes, '?', stream.size)) fail("broken promise", whole, "");
    for (size_t cut = 0; cut < stream.size; cut += cut_stride(stream.size)) {
        struct pieces pieces = cut == 0 ? (struct pieces){1, 1} : (struct pieces){cut, stream.size};
        char *pieced = transcript_of_replies(stream, pieces);
        if (strcmp(whole, pieced) != 0) fail("replies depend on the cut", whole, pieced);
        free(pieced);
    }
    free(whole);
}

/* ---- against hiredis ---- */

/* hiredis refuses deeper nesting, and allocates what an array announces. */
#define HIREDIS_DEPTH    6
#define HIREDIS_ELEMENTS 1000

/* True if hiredis knows all types in the reply and can be expected to read it. */
static bool is_for_hiredis(struct slice reply)
{
    size_t position = 0;
    size_t arrays = 0; /* the nesting is no deeper */
    struct resp_value value;
    while (resp_value_next(reply, &position, &value)) {
        if (!strchr("+-:$*", value.type)) return false;
        if (value.type == '*' && (++arrays > HIREDIS_DEPTH || value.integer > HIREDIS_ELEMENTS)) return false;
    }
    return true;
}

/* Feeds hiredis and returns what it makes of it; NULL if the reply is not complete or not good. */
static redisReply *read_by_hiredis(struct slice bytes)
{
    redisReader *reader = redisReaderCreate();
    void *reply = NULL;
    if (!reader || redisReaderFeed(reader, bytes.bytes, bytes.size) != REDIS_OK) abort();
    if (redisReaderGetReply(reader, &reply) != REDIS_OK) reply = NULL;
    redisReaderFree(reader);
    return reply;
}

static bool is_same_value(const struct resp_value *value, const redisReply *theirs)
{
    switch (theirs->type) {
    case REDIS_REPLY_NIL:
        return value->is_null;
    case REDIS_REPLY_INTEGER:
        return value->type == ':' && value->integer == theirs->integer;
    case REDIS_REPLY_ARRAY:
        return value->type == '*' && !value->is_null && (size_t)value->integer == theirs->elements;
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
    case REDIS_REPLY_STRING: {
        static const char types[] = {
            [REDIS_REPLY_STATUS] = '+', [REDIS_REPLY_ERROR] = '-', [REDIS_REPLY_STRING] = '$'};
        return value->type == types[theirs->type] &&
               slice_equals(value->text, (struct slice){theirs->str, (size_t)theirs->len});
    }
    default:
        return false;
    }
}

static bool is_same_reply(struct slice reply, size_t *position, const redisReply *theirs)
{
    struct resp_value value;
    if (!resp_value_next(reply, position, &value) || !is_same_value(&value, theirs)) return false;
    if (theirs->type != REDIS_REPLY_ARRAY) return true;
    for (size_t i = 0; i < theirs->elements; i++)
        if (!is_same_reply(reply, position, theirs->element[i])) return false;
    return true;
}

/* hiredis must read a reply that we found whole, and must not read one that we found to go on. */
static void check_against_hiredis(struct slice stream)
{
    for (size_t start = 0; start < stream.size;) {
        struct resp_reply state = {0};
        struct slice rest = {stream.bytes + start, stream.size - start};
        size_t used = 0;
        enum resp_status status = resp_reply_scan(&state, rest.bytes, rest.size, &used);
        if (status == RESP_BAD) return;

        struct slice reply = {rest.bytes, used};
        bool is_comparable = is_for_hiredis(reply);
        redisReply *theirs = is_comparable ? read_by_hiredis(reply) : NULL;
        size_t position = 0;
        if (theirs && status == RESP_MORE) fail("hiredis sees a whole reply", "", "");
        if (is_comparable && status == RESP_DONE) {
            if (!theirs) fail("hiredis sees no reply", "", "");
            if (!is_same_reply(reply, &position, theirs)) fail("hiredis sees other values", "", "");
        }
        if (theirs) freeReplyObject(theirs);
        start += used;
    }
}

/* ---- values of bytes that no scanner has seen ---- */

static void read_values_from_everywhere(struct slice bytes)
{
    char *copy = copy_exactly(bytes.bytes, bytes.size);
    struct slice reply = {copy, bytes.size};
    for (size_t start = 0; start <= bytes.size; start += cut_stride(bytes.size)) {
        struct resp_value value;
        size_t position = start;
        while (resp_value_next(reply, &position, &value)) {
            if (position > reply.size) fail("position beyond the end", "", "");
        }
        position = start;
        if (resp_value_skip(reply, &position) && position > reply.size)
            fail("skipped beyond the end", "", "");
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct slice stream = {(const char *)data, size};
    for (size_t i = 0; i < sizeof limits_tried / sizeof limits_tried[0]; i++)
        check_commands(stream, &limits_tried[i]);
    check_replies(stream);
    check_against_hiredis(stream);
    read_values_from_everywhere(stream);
    return 0;
}
