/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * resp_transcript.h - feeds a stream to a scanner in pieces and writes down what it found, so that tests and
 * the fuzzer can compare one way of cutting with another, and with what is expected.
 *
 *   commands: "[GET][key] "      one command; "~" behind it if its bytes may not be forwarded as they are
 *             "!Protocol error: invalid bulk length"
 *   replies:  "*2 $3=foo :7 | "  every element of one reply; "!" where it is none
 *   both:     "..."              the stream ends within a command or reply
 *             "?what"            a promise of resp.h was broken; expected by no test
 *
 * Every piece is handed over in a block of exactly its size, which is freed afterwards: a read beyond the end
 * or a pointer into earlier bytes is seen by AddressSanitizer.
 */
#ifndef TESTS_RESP_TRANSCRIPT_H
#define TESTS_RESP_TRANSCRIPT_H

#include "routing/resp.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* A stream arrives in pieces: the first of `first` bytes, all others of `step`. */
struct pieces {
    size_t first;
    size_t step;
};

static inline size_t pieces_next(struct pieces pieces, size_t there, size_t size)
{
    size_t more = there == 0 ? pieces.first : pieces.step;
    return more < size - there ? there + more : size;
}

static inline char *copy_exactly(const char *bytes, size_t size)
{
    char *copy = malloc(size > 0 ? size : 1);
    if (!copy) abort();
    if (size > 0) memcpy(copy, bytes, size);
    return copy;
}

#define TRANSCRIPT_SHOWN_BYTES 80

/* Short text as it is, long text as its size and a checksum (FNV-1a). */
static inline void write_text(FILE *out, struct slice text)
{
    if (text.size > TRANSCRIPT_SHOWN_BYTES) {
        uint64_t sum = 14695981039346656037u;
        for (size_t i = 0; i < text.size; i++)
            sum = (sum ^ (unsigned char)text.bytes[i]) * 1099511628211u;
        fprintf(out, "<%zu bytes, %016llx>", text.size, (unsigned long long)sum);
        return;
    }
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.bytes[i];
        fprintf(out, c >= ' ' && c <= '~' && c != '\\' ? "%c" : "\\x%02x", c);
    }
}

static inline void write_command(FILE *out, struct slice bytes, const struct resp_arguments *arguments)
{
    for (size_t i = 0; i < arguments->count; i++) {
        fputc('[', out);
        write_text(out, arguments->items[i]);
        fputc(']', out);
    }
    if (arguments->count == 0) return;
    fputs(arguments->is_canonical ? " " : "~ ", out);

    size_t size = resp_encoded_size(arguments->items, arguments->count);
    char *encoded = malloc(size);
    if (!encoded) abort();
    if (resp_encode(encoded, arguments->items, arguments->count) != size) fputs("?encoded size", out);
    if (arguments->is_canonical && !slice_equals(bytes, (struct slice){encoded, size}))
        fputs("?canonical", out);
    free(encoded);
}

/* The transcript of a stream of commands; free() it. */
static inline char *transcript_of_commands(struct slice stream, const struct resp_limits *limits,
                                           struct pieces pieces)
{
    char *text = NULL;
    size_t text_size;
    FILE *out = open_memstream(&text, &text_size);
    struct resp_command state = {0};
    struct resp_arguments arguments = {0};
    size_t start = 0;
    size_t there = pieces_next(pieces, 0, stream.size);
    size_t wanted = 1;
    for (;;) {
        char *piece = copy_exactly(stream.bytes + start, there - start);
        size_t used = 0;
        const char *error = NULL;
        enum resp_status status =
            resp_command_scan(&state, limits, piece, there - start, &arguments, &used, &error);
        if (status == RESP_DONE) {
            if (used < wanted) fputs("?wanted more than there is", out);
            write_command(out, (struct slice){piece, used}, &arguments);
            start += used;
            wanted = resp_command_wanted(&state);
            if (wanted != 1) fputs("?not reset", out);
        } else if (status == RESP_BAD) {
            fprintf(out, "!%s", error ? error : "?no error");
        } else {
            wanted = resp_command_wanted(&state);
            if (wanted <= there - start) fputs("?wanted too few", out);
        }
        free(piece);
        if (status == RESP_BAD) break;
        if (status == RESP_DONE) continue;
        if (there == stream.size) {
            if (start < there) fputs("...", out);
            break;
        }
        there = pieces_next(pieces, there, stream.size);
    }
    resp_arguments_finish(&arguments);
    fclose(out);
    return text;
}

static inline void write_value(FILE *out, const struct resp_value *value)
{
    fputc(value->type, out);
    if (value->is_null) {
        fputs("null ", out);
    } else if (strchr("+-$=!,(", value->type)) {
        if (strchr("$=!", value->type)) fprintf(out, "%zu=", value->text.size);
        write_text(out, value->text);
        fputc(' ', out);
    } else {
        fprintf(out, "%lld ", (long long)value->integer);
    }
}

static inline void write_reply(FILE *out, struct slice reply, char type)
{
    size_t position = 0;
    struct resp_value value;
    char top = '\0';
    while (resp_value_next(reply, &position, &value)) {
        if (top == '\0') top = value.type;
        write_value(out, &value);
    }
    if (position != reply.size) fputs("?values end early", out);
    if (top != '|' && top != type) fputs("?type", out);
    if (type == '|') fputs("?attribute alone", out);
    position = 0;
    if (!resp_value_skip(reply, &position) || position != reply.size) fputs("?skip", out);
    fputs("| ", out);
}

/* The transcript of a stream of replies; free() it. */
static inline char *transcript_of_replies(struct slice stream, struct pieces pieces)
{
    char *text = NULL;
    size_t text_size;
    FILE *out = open_memstream(&text, &text_size);
    struct resp_reply state = {0};
    enum resp_status status = RESP_MORE;
    size_t start = 0; /* of the reply */
    size_t passed = 0;
    for (size_t there = 0; status != RESP_BAD && there < stream.size;) {
        there = pieces_next(pieces, there, stream.size);
        while (status != RESP_BAD && passed < there) {
            char *piece = copy_exactly(stream.bytes + passed, there - passed);
            size_t used = 0;
            status = resp_reply_scan(&state, piece, there - passed, &used);
            free(piece);
            if (status == RESP_MORE && used != there - passed) fputs("?not all consumed", out);
            if (status != RESP_BAD && resp_reply_is_idle(&state) != (status == RESP_DONE))
                fputs("?idle", out);
            passed += used;
            if (status == RESP_DONE) {
                write_reply(out, (struct slice){stream.bytes + start, passed - start}, state.type);
                start = passed;
            }
        }
    }
    if (status == RESP_BAD) fputc('!', out);
    if (status == RESP_MORE && !resp_reply_is_idle(&state)) fputs("...", out);
    fclose(out);
    return text;
}

#endif
