/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reply.h - where a reply ends and what it is, in pieces of any size.
 *
 * Knows what GET, MGET and SET are answered with: a status, an error, an integer, a bulk, nil, an array of
 * bulks. Anything else is bad. It is no part of the proxy, so that a mistake there is not made here as well.
 *
 * Owner: a reader is embedded in its connection. Threads: one.
 */
#ifndef OPENLOOP_REPLY_H
#define OPENLOOP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REPLY_LINE_MAX = 120 }; /* what follows in a longer line is read and forgotten */

enum reply_progress { REPLY_MORE, REPLY_DONE, REPLY_BAD };

struct reply {
    char kind;                     /* the first byte: + - : $ * */
    char line[REPLY_LINE_MAX + 1]; /* the first line, without kind and end */
    int64_t elements;              /* of an array */
    uint64_t missing;              /* nils */
    uint64_t value_bytes;          /* of all bulks */
};

struct reply_reader {
    struct reply reply;
    char line[REPLY_LINE_MAX + 1];
    uint32_t line_bytes; /* kept in line */
    char last;           /* byte of the line, which may be one that is not kept */
    uint64_t body_left;  /* with the two bytes of its end */
    int64_t elements_left;
    bool has_begun;
};

/* Takes bytes until the reply ends; *used says how many. After REPLY_DONE reader->reply stands until the next call. */
enum reply_progress reply_read(struct reply_reader *reader, const char *bytes, size_t size, size_t *used);

#endif
