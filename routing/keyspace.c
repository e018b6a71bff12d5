/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/keyspace.h"

static bool may_begin(struct slice pattern, struct slice text);

bool keyspace_is_channel(struct slice channel)
{
    return slice_starts_with(channel, SLICE("__keyspace@")) || slice_starts_with(channel, SLICE("__keyevent@"));
}

bool keyspace_may_match(struct slice pattern)
{
    return may_begin(pattern, SLICE("__keyspace@")) || may_begin(pattern, SLICE("__keyevent@"));
}

/* Byte by byte up to the first sign that stands for more than one; a set of brackets is not looked into. */
static bool may_begin(struct slice pattern, struct slice text)
{
    size_t at = 0;
    for (size_t i = 0; i < text.size; i++, at++) {
        if (at == pattern.size) return false;
        if (pattern.bytes[at] == '*' || pattern.bytes[at] == '[') return true;
        if (pattern.bytes[at] == '?') continue;
        if (pattern.bytes[at] == '\\' && at + 1 < pattern.size) at++;
        if (pattern.bytes[at] != text.bytes[i]) return false;
    }
    return true;
}
