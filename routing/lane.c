/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/lane.h"

#include <string.h>

static uint32_t mark_of(const struct lane_marks *marks, const struct command *command, const struct slice *words,
                        size_t count);
static uint64_t mix(uint64_t hash, uint64_t word);

void lane_marks_init(struct lane_marks *marks, uint64_t seed)
{
    memset(marks, 0, sizeof *marks);
    marks->seed = seed;
    marks->ordinary_bytes = LANE_ORDINARY_BYTES;
}

void lane_marks_note(struct lane_marks *marks, const struct command *command, const struct slice *words, size_t count)
{
    uint32_t mark = mark_of(marks, command, words, count);
    if (mark == 0)
        return;
    marks->recent[mark % LANE_MARKS] = mark;
    marks->ordinary_bytes = 0;
}

bool lane_marks_has(const struct lane_marks *marks, const struct command *command, const struct slice *words, size_t count)
{
    if (marks->ordinary_bytes > 0)
        return false;
    uint32_t mark = mark_of(marks, command, words, count);
    return mark && (marks->recent[mark % LANE_MARKS] == mark || marks->older[mark % LANE_MARKS] == mark);
}

void lane_marks_age(struct lane_marks *marks)
{
    if (marks->ordinary_bytes > 0)
        return;
    bool has_any = false;
    for (size_t i = 0; i < LANE_MARKS; i++)
        has_any |= marks->recent[i] != 0;
    memcpy(marks->older, marks->recent, sizeof marks->older);
    memset(marks->recent, 0, sizeof marks->recent);
    marks->ordinary_bytes = has_any ? 0 : LANE_ORDINARY_BYTES;
}

/* 0 where the first key does not stand behind the command. A command's other uses of the same key may well be small: its
 * row counts as much. */
static uint32_t mark_of(const struct lane_marks *marks, const struct command *command, const struct slice *words,
                        size_t count)
{
    if (!command || command->keys.finder != KEYS_RANGE || command->keys.first != 1 || count < 2)
        return 0;
    const char *at = words[1].bytes;
    size_t left = words[1].size;
    uint64_t hash = mix(marks->seed ^ left, (uintptr_t)command), word;
    for (; left >= sizeof word; at += sizeof word, left -= sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = mix(hash, word);
    }
    word = 0;
    if (left > 0)
        memcpy(&word, at, left);
    hash = mix(mix(hash, word), 0);
    return (uint32_t)(hash >> 32) | 1U << 31;
}

/* The same as for cells of written keys (routing/freshness.c). */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash ^= word;
    hash = (hash ^ (hash >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 29);
}
