/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/bench/openloop/reply.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { END_BYTES = 2 };

static const int64_t value_bytes_max = 512 << 20, elements_max = 1 << 20;

static bool take_body(struct reply_reader *reader, const char *bytes, size_t size, size_t *used);
static bool take_line(struct reply_reader *reader, const char *bytes, size_t size, size_t *used,
                      bool *is_whole);
static bool take_header(struct reply_reader *reader);
static bool take_bulk(struct reply_reader *reader);
static bool take_array(struct reply_reader *reader);
static bool number_of(const struct reply_reader *reader, int64_t most, int64_t *number);
static bool is_complete(const struct reply_reader *reader);

enum reply_progress reply_read(struct reply_reader *reader, const char *bytes, size_t size, size_t *used)
{
    if (!reader->has_begun) reader->reply = (struct reply){0};
    for (*used = 0; *used < size;) {
        bool is_whole = true;
        if (reader->body_left > 0) {
            if (!take_body(reader, bytes, size, used)) return REPLY_BAD;
        } else if (!take_line(reader, bytes, size, used, &is_whole) || (is_whole && !take_header(reader))) {
            return REPLY_BAD;
        }
        if (is_whole && is_complete(reader)) {
            reader->has_begun = false;
            return REPLY_DONE;
        }
    }
    return REPLY_MORE;
}

static bool take_body(struct reply_reader *reader, const char *bytes, size_t size, size_t *used)
{
    uint64_t value_left = reader->body_left > END_BYTES ? reader->body_left - END_BYTES : 0;
    if (value_left > 0) {
        uint64_t taken = value_left < size - *used ? value_left : size - *used;
        *used += taken;
        reader->body_left -= taken;
        return true;
    }
    return bytes[(*used)++] == (reader->body_left-- == END_BYTES ? '\r' : '\n');
}

static bool take_line(struct reply_reader *reader, const char *bytes, size_t size, size_t *used,
                      bool *is_whole)
{
    const char *begin = bytes + *used, *end = memchr(begin, '\n', size - *used);
    *is_whole = end != NULL;
    size_t length = end ? (size_t)(end - begin) : size - *used;
    size_t room = REPLY_LINE_MAX - reader->line_bytes, kept = length < room ? length : room;
    memcpy(reader->line + reader->line_bytes, begin, kept);
    reader->line_bytes += (uint32_t)kept;
    if (length > 0) reader->last = begin[length - 1];
    *used += length + *is_whole;
    return !*is_whole || (reader->line_bytes > 1 && reader->last == '\r');
}

static bool take_header(struct reply_reader *reader)
{
    if (reader->line[reader->line_bytes - 1] == '\r') reader->line_bytes--;
    reader->line[reader->line_bytes] = '\0';
    reader->line_bytes = 0;
    char kind = reader->line[0];
    if (reader->has_begun && kind != '$') return false;
    if (!reader->has_begun) {
        reader->has_begun = true;
        reader->reply.kind = kind;
        memcpy(reader->reply.line, reader->line + 1, strlen(reader->line));
    } else {
        reader->elements_left--;
    }
    switch (kind) {
    case '+':
    case '-':
    case ':':
        return true;
    case '$':
        return take_bulk(reader);
    case '*':
        return take_array(reader);
    default:
        return false;
    }
}

static bool take_bulk(struct reply_reader *reader)
{
    int64_t length;
    if (!number_of(reader, value_bytes_max, &length)) return false;
    if (length < 0) {
        reader->reply.missing++;
        return true;
    }
    reader->reply.value_bytes += (uint64_t)length;
    reader->body_left = (uint64_t)length + END_BYTES;
    return true;
}

static bool take_array(struct reply_reader *reader)
{
    int64_t elements;
    if (!number_of(reader, elements_max, &elements) || elements < 0) return false;
    reader->reply.elements = reader->elements_left = elements;
    return true;
}

/* -1 is nil. */
static bool number_of(const struct reply_reader *reader, int64_t most, int64_t *number)
{
    char *end;
    *number = strtoimax(reader->line + 1, &end, 10);
    return end != reader->line + 1 && *end == '\0' && *number >= -1 && *number <= most;
}

static bool is_complete(const struct reply_reader *reader)
{
    return reader->has_begun && reader->body_left == 0 && reader->elements_left == 0;
}
