/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slice.h - bytes that belong to somebody else.
 *
 * A slice borrows: it is valid as long as the buffer it points into, and it is never NUL-terminated.
 */
#ifndef ROUTING_SLICE_H
#define ROUTING_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct slice {
    const char *bytes;
    size_t size;
};

/* A slice of a string literal. */
#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static inline bool slice_equals(struct slice a, struct slice b)
{
    return a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0;
}

/* Compares without regard to the case of ASCII letters, as Redis does with command names and options. */
static inline bool slice_is(struct slice a, const char *word)
{
    return a.size == strlen(word) && strncasecmp(a.bytes, word, a.size) == 0;
}

static inline bool slice_starts_with(struct slice a, struct slice prefix)
{
    return a.size >= prefix.size && memcmp(a.bytes, prefix.bytes, prefix.size) == 0;
}

#endif
