/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/scan.h"

#define PLACE_BITS  30
#define AGAIN_SHIFT PLACE_BITS
#define RANK_SHIFT  (AGAIN_SHIFT + 1)
#define CURSOR_END  52

static uint32_t rank_bits(uint32_t masters);
static void add_bytes(uint64_t *hash, struct slice bytes);
static struct slice next_line(struct slice *text);
static struct slice word_of(struct slice line, uint32_t index);
static uint32_t slots_of_range(struct slice word);

bool scan_read(uint64_t cursor, uint32_t masters, struct scan_cursor *scan)
{
    if (cursor >> CURSOR_END) return false;
    uint32_t bits = rank_bits(masters), check = (1U << bits) - 1;
    uint32_t rank = (uint32_t)(cursor >> RANK_SHIFT) & check;
    *scan = (struct scan_cursor){
        .place = cursor & (((uint64_t)1 << PLACE_BITS) - 1),
        .rank = rank == check ? SCAN_CHECK : rank,
        .state = (uint32_t)(cursor >> (RANK_SHIFT + bits)),
        .is_again = cursor >> AGAIN_SHIFT & 1,
    };
    return true;
}

bool scan_write(const struct scan_cursor *scan, uint32_t masters, uint64_t *cursor)
{
    uint32_t bits = rank_bits(masters), check = (1U << bits) - 1;
    uint64_t rank = scan->rank == SCAN_CHECK ? check : scan->rank;
    *cursor = scan->place | (uint64_t)scan->is_again << AGAIN_SHIFT | rank << RANK_SHIFT |
              (uint64_t)scan->state << (RANK_SHIFT + bits);
    return scan->place >> PLACE_BITS == 0 && *cursor >> CURSOR_END == 0 && *cursor != 0;
}

struct scan_cursor scan_after_page(const struct scan_cursor *scan, uint64_t place, uint32_t masters)
{
    struct scan_cursor next = *scan;
    next.place = place;
    if (place == 0) next.rank = scan->rank + 1 < masters ? scan->rank + 1 : SCAN_CHECK;
    return next;
}

struct scan_cursor scan_after_check(const struct scan_cursor *scan, uint32_t state, bool has_moving, bool *is_over)
{
    bool is_same = scan && scan->state == state;
    *is_over = is_same && (scan->is_again || !has_moving);
    return (struct scan_cursor){.state = state, .is_again = is_same};
}

/* A line of CLUSTER NODES: id address flags master ping pong epoch link slots...; slots on their way stand in brackets
 * (https://redis.io/docs/latest/commands/cluster-nodes/). */
bool scan_add(uint64_t *hash, uint32_t *slots, struct slice name, uint32_t run_mark, struct slice nodes)
{
    bool has_moving = false;
    const char mark[2] = {(char)(run_mark & 0xff), (char)(run_mark >> 8 & 0xff)};
    add_bytes(hash, name);
    add_bytes(hash, (struct slice){mark, sizeof mark});
    while (nodes.size > 0) {
        struct slice line = next_line(&nodes);
        struct slice flags = word_of(line, 2);
        if (!memmem(flags.bytes, flags.size, "myself", 6)) continue;
        add_bytes(hash, word_of(line, 0));
        add_bytes(hash, word_of(line, 6));
        struct slice word;
        for (uint32_t i = 8; (word = word_of(line, i)).size > 0; i++) {
            add_bytes(hash, word);
            bool is_moving = word.bytes[0] == '[';
            has_moving |= is_moving;
            *slots += is_moving ? 0 : slots_of_range(word);
        }
    }
    return has_moving;
}

/* Of "12-34" or "12". */
static uint32_t slots_of_range(struct slice word)
{
    uint32_t ends[2] = {0, 0}, end = 0;
    for (size_t i = 0; i < word.size; i++) {
        bool is_digit = word.bytes[i] >= '0' && word.bytes[i] <= '9';
        if (is_digit)
            ends[end] = ends[end] * 10 + (uint32_t)(word.bytes[i] - '0');
        else if (word.bytes[i] == '-' && end == 0)
            end = 1;
        else
            return 0;
    }
    return end == 0 ? 1 : ends[1] - ends[0] + 1;
}

/* Not 0, so that no cursor of a scan is. */
uint32_t scan_state(uint64_t hash, uint32_t masters)
{
    uint32_t states = 1U << (CURSOR_END - RANK_SHIFT - rank_bits(masters));
    return (uint32_t)((hash ^ hash >> 32 ^ hash >> 16) % (states - 1)) + 1;
}

/* So many that all ranks and one more fit. */
static uint32_t rank_bits(uint32_t masters)
{
    uint32_t bits = 1;
    while (masters >> bits)
        bits++;
    return bits;
}

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/), with an end after each. */
static void add_bytes(uint64_t *hash, struct slice bytes)
{
    uint64_t sum = *hash ^ 14695981039346656037U;
    for (size_t i = 0; i < bytes.size; i++)
        sum = (sum ^ (unsigned char)bytes.bytes[i]) * 1099511628211U;
    *hash = (sum ^ 0x100) * 1099511628211U;
}

static struct slice next_line(struct slice *text)
{
    const char *end = memchr(text->bytes, '\n', text->size);
    size_t size = end ? (size_t)(end - text->bytes) : text->size;
    struct slice line = {text->bytes, size};
    size_t taken = end ? size + 1 : size;
    *text = (struct slice){text->bytes + taken, text->size - taken};
    if (line.size > 0 && line.bytes[line.size - 1] == '\r') line.size--;
    return line;
}

/* Empty behind the last one. */
static struct slice word_of(struct slice line, uint32_t index)
{
    for (;; index--) {
        const char *space = line.size ? memchr(line.bytes, ' ', line.size) : NULL;
        size_t size = space ? (size_t)(space - line.bytes) : line.size;
        if (index == 0) return (struct slice){line.bytes, size};
        if (!space) return (struct slice){line.bytes + line.size, 0};
        line = (struct slice){line.bytes + size + 1, line.size - size - 1};
    }
}
