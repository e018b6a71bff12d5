/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/cursor.h"

#define MARK_SHIFT 40
#define MARK_END   52
#define MARKS      4095U

static const uint64_t place_mask = ((uint64_t)1 << MARK_SHIFT) - 1;

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/). */
uint32_t cursor_mark(struct slice run_id)
{
    uint64_t hash = 14695981039346656037U;
    if (run_id.size == 0) return 0;
    for (size_t i = 0; i < run_id.size; i++)
        hash = (hash ^ (unsigned char)run_id.bytes[i]) * 1099511628211U;
    return (uint32_t)((hash ^ hash >> 32) % MARKS) + 1;
}

bool cursor_read(struct slice word, uint64_t *cursor)
{
    *cursor = 0;
    if (word.size == 0) return false;
    for (size_t i = 0; i < word.size; i++) {
        unsigned digit = (unsigned)((unsigned char)word.bytes[i] - '0');
        if (digit > 9 || *cursor > (UINT64_MAX - digit) / 10) return false;
        *cursor = *cursor * 10 + digit;
    }
    return true;
}

uint32_t cursor_mark_of(uint64_t cursor)
{
    return cursor >> MARK_END ? 0 : (uint32_t)(cursor >> MARK_SHIFT);
}

uint64_t cursor_for_client(uint64_t cursor, uint32_t mark)
{
    return cursor == 0 || cursor > place_mask ? cursor : cursor | (uint64_t)mark << MARK_SHIFT;
}

uint64_t cursor_for_node(uint64_t cursor, uint32_t mark)
{
    uint32_t own_mark = cursor_mark_of(cursor);
    if (own_mark == 0) return cursor;
    return own_mark == mark ? cursor & place_mask : 0;
}

void cursor_write(char *word, size_t size, uint64_t cursor)
{
    while (size > 0) {
        word[--size] = (char)('0' + cursor % 10);
        cursor /= 10;
    }
}
