/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/plan.h"

#include "routing/distribution.h"
#include "routing/number.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FEW_KEYS = 16,       /* so many are looked at without a list */
    LATEST_COUNT_AT = 2, /* where SLOWLOG GET and COMMANDLOG GET have the number of entries ... */
    LATEST_DEFAULT = 10, /* ... and what it is without */
};

static void plan_without_keys(const struct topology *topology, const struct command *command,
                              const struct slice *words, size_t count, bool may_split, struct plan *plan);
static uint32_t limit_of(const struct slice *words, size_t count);
static bool have_one_place(const struct topology *topology, const struct slice *words,
                           const uint32_t *positions, size_t key_count, uint32_t *place);
static bool have_patterns(const struct topology *topology, const struct slice *words, size_t count, uint32_t place);
static bool lacks_a_word(const struct command_keys *keys, size_t count);
static bool plan_pieces(struct planner *planner, const struct topology *topology, const struct slice *words,
                        const uint32_t *positions, size_t count, struct plan *plan);
static uint32_t piece_at(struct planner *planner, uint32_t place, uint32_t *piece_count);
static bool planner_reserve(struct planner *planner, size_t room);
static bool grow(void *list, size_t room, size_t item_size);
static size_t piece_words(const struct plan *plan, const struct plan_piece *piece,
                          const struct command_keys *keys, size_t *tail);
static size_t bulk_size(struct slice word);
static char *put_number(char *out, char type, size_t number);
static char *put_bulk(char *out, struct slice word);

bool plan_make(struct planner *planner, const struct topology *topology, const struct command *command,
               const struct slice *words, size_t count, bool may_split, struct plan *plan)
{
    uint32_t few[FEW_KEYS];
    uint32_t *positions = few;

    *plan = (struct plan){.kind = PLAN_ANYWHERE};
    if (!command) return true;
    if (command->keys.finder == KEYS_NONE) {
        plan_without_keys(topology, command, words, count, may_split, plan);
        return true;
    }
    if (topology->shard_count == 1 && !topology->is_cluster) {
        plan->kind = PLAN_PLACE;
        return true;
    }
    int found = command_keys(command, words, count, few, FEW_KEYS);
    if (found <= 0) return true;
    if (found > FEW_KEYS) {
        if (!planner_reserve(planner, (size_t)found)) return false;
        positions = planner->positions;
        command_keys(command, words, count, positions, planner->room);
    }

    plan->key_count = (uint32_t)found;
    bool has_patterns = command->keys.has_patterns && !topology->is_cluster; /* else the node says what it has against it */
    if (have_one_place(topology, words, positions, (size_t)found, &plan->place)) {
        plan->kind = has_patterns && !have_patterns(topology, words, count, plan->place) ? PLAN_CROSS : PLAN_PLACE;
        plan->has_several_keys = found > 1;
    } else if (command->spread != SPREAD_KEYS || !may_split) {
        plan->kind = PLAN_CROSS;
    } else if (!lacks_a_word(&command->keys, count)) {
        plan->kind = PLAN_SPLIT;
        plan->merge = command->merge;
        return plan_pieces(planner, topology, words, positions, count, plan);
    }
    return true;
}

/* What has the wrong number of words fails at one node as it would at all. */
static void plan_without_keys(const struct topology *topology, const struct command *command,
                              const struct slice *words, size_t count, bool may_split, struct plan *plan)
{
    bool is_for_nodes = command->spread == SPREAD_NODES;
    bool is_spread =
        command->spread == SPREAD_MASTERS || (command->spread == SPREAD_APART && !topology->is_cluster);
    bool is_one_node = topology->shard_count == 1 && !is_for_nodes;
    if (!(is_spread || is_for_nodes) || is_one_node || !command_arity_is_right(command, count)) return;
    if (!may_split && topology->shard_count == 1) return;
    plan->kind = !may_split ? PLAN_CROSS : is_for_nodes ? PLAN_NODES : PLAN_MASTERS;
    plan->merge = command->merge;
    if (plan->merge == MERGE_LATEST) plan->limit = limit_of(words, count);
}

/* A number that Redis will not take makes each node fail, so that there is nothing to limit; -1 means all. */
static uint32_t limit_of(const struct slice *words, size_t count)
{
    int64_t number;
    if (count <= LATEST_COUNT_AT) return LATEST_DEFAULT;
    if (!number_read(words[LATEST_COUNT_AT], &number) || number < 0 || number > UINT32_MAX) return 0;
    return (uint32_t)number;
}

/* Puts down the place of the first key in any case. */
static bool have_one_place(const struct topology *topology, const struct slice *words,
                           const uint32_t *positions, size_t key_count, uint32_t *place)
{
    *place = topology_place_of(topology, words[positions[0]]);
    for (size_t i = 1; i < key_count; i++) {
        if (topology_place_of(topology, words[positions[i]]) != *place) return false;
    }
    return true;
}

/* True if all that the patterns of a SORT stand for is there too. */
static bool have_patterns(const struct topology *topology, const struct slice *words, size_t count, uint32_t place)
{
    const struct distribution *distribution = topology->distribution;
    for (size_t at = 0; (at = command_sort_pattern(words, count, at + 1));) {
        if (!distribution || !distribution_is_fixed(distribution, words[at]) ||
            distribution_place_of(distribution, words[at]) != place)
            return false;
    }
    return true;
}

/* True if the last key has not all of what belongs to a key. */
static bool lacks_a_word(const struct command_keys *keys, size_t count)
{
    int64_t end = keys->last < 0 ? (int64_t)count + keys->last + 1 : keys->last + 1;
    return (end - keys->first) % keys->step != 0;
}

/* ---- pieces ---- */

static bool plan_pieces(struct planner *planner, const struct topology *topology, const struct slice *words,
                        const uint32_t *positions, size_t count, struct plan *plan)
{
    if (!planner_reserve(planner, plan->key_count)) return false;

    for (uint32_t key = 0; key < plan->key_count; key++) {
        uint32_t place = topology_place_of(topology, words[positions[key]]);
        planner->piece_of[key] = piece_at(planner, place, &plan->piece_count);
        planner->pieces[planner->piece_of[key]].count++;
    }
    for (uint32_t i = 0, first = 0; i < plan->piece_count; i++) {
        planner->pieces[i].first = first;
        first += planner->pieces[i].count;
        planner->pieces[i].count = 0;
    }
    for (uint32_t key = 0; key < plan->key_count; key++) {
        struct plan_piece *piece = &planner->pieces[planner->piece_of[key]];
        planner->order[piece->first + piece->count++] = key;
    }
    plan->pieces = planner->pieces;
    plan->order = planner->order;
    plan->word_count = (uint32_t)count;
    return true;
}

/* at_place is never cleared: what it says counts only if the piece says the same. */
static uint32_t piece_at(struct planner *planner, uint32_t place, uint32_t *piece_count)
{
    assert(place < TOPOLOGY_SLOTS);
    uint32_t piece = planner->at_place[place];
    if (piece < *piece_count && planner->pieces[piece].place == place) return piece;
    planner->at_place[place] = *piece_count;
    planner->pieces[*piece_count] = (struct plan_piece){.place = place};
    return (*piece_count)++;
}

static bool planner_reserve(struct planner *planner, size_t room)
{
    if (!planner->at_place) planner->at_place = calloc(TOPOLOGY_SLOTS, sizeof(*planner->at_place));
    if (!planner->at_place) return false;
    if (room <= planner->room) return true;
    room += room / 2;
    if (!grow(&planner->positions, room, sizeof(*planner->positions)) ||
        !grow(&planner->pieces, room, sizeof(*planner->pieces)) ||
        !grow(&planner->order, room, sizeof(*planner->order)) ||
        !grow(&planner->piece_of, room, sizeof(*planner->piece_of)))
        return false;
    planner->room = room;
    return true;
}

/* list is the address of a pointer to items; where memory is short the list stays as it is. */
static bool grow(void *list, size_t room, size_t item_size)
{
    void *items;
    memcpy(&items, list, sizeof(items));
    items = realloc(items, room * item_size);
    if (items) memcpy(list, &items, sizeof(items));
    return items;
}

void planner_finish(struct planner *planner)
{
    free(planner->positions);
    free(planner->pieces);
    free(planner->order);
    free(planner->piece_of);
    free(planner->at_place);
    *planner = (struct planner){0};
}

/* ---- a piece as a command ---- */

size_t plan_piece_size(const struct plan *plan, const struct plan_piece *piece, const struct command *command,
                       const struct slice *words)
{
    const struct command_keys *keys = &command->keys;
    char header[24];
    size_t tail, number = piece_words(plan, piece, keys, &tail);
    size_t size = (size_t)(put_number(header, '*', number) - header);

    for (size_t i = 0; i < (size_t)keys->first; i++)
        size += bulk_size(words[i]);
    for (uint32_t i = 0; i < piece->count; i++) {
        const struct slice *key = plan_piece_key(plan, piece, command, words, i);
        for (int k = 0; k < keys->step; k++)
            size += bulk_size(key[k]);
    }
    for (size_t i = tail; i < plan->word_count; i++)
        size += bulk_size(words[i]);
    return size;
}

size_t plan_piece_encode(const struct plan *plan, const struct plan_piece *piece,
                         const struct command *command, const struct slice *words, char *out)
{
    const struct command_keys *keys = &command->keys;
    size_t tail, number = piece_words(plan, piece, keys, &tail);
    char *at = put_number(out, '*', number);

    for (size_t i = 0; i < (size_t)keys->first; i++)
        at = put_bulk(at, words[i]);
    for (uint32_t i = 0; i < piece->count; i++) {
        const struct slice *key = words + keys->first + plan->order[piece->first + i] * (size_t)keys->step;
        for (int k = 0; k < keys->step; k++)
            at = put_bulk(at, key[k]);
    }
    for (size_t i = tail; i < plan->word_count; i++)
        at = put_bulk(at, words[i]);
    return (size_t)(at - out);
}

/* How many words it has, and where the words behind the keys begin, which each piece repeats (JSON.MGET a b
 * path). */
static size_t piece_words(const struct plan *plan, const struct plan_piece *piece,
                          const struct command_keys *keys, size_t *tail)
{
    *tail = (size_t)keys->first + plan->key_count * (size_t)keys->step;
    return (size_t)keys->first + piece->count * (size_t)keys->step + (plan->word_count - *tail);
}

static size_t bulk_size(struct slice word)
{
    char header[24];
    return (size_t)(put_number(header, '$', word.size) - header) + word.size + 2;
}

static char *put_number(char *out, char type, size_t number)
{
    char digits[20];
    size_t size = 0;
    do {
        digits[size++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    *out++ = type;
    while (size > 0)
        *out++ = digits[--size];
    *out++ = '\r';
    *out++ = '\n';
    return out;
}

static char *put_bulk(char *out, struct slice word)
{
    out = put_number(out, '$', word.size);
    memcpy(out, word.bytes, word.size);
    out += word.size;
    memcpy(out, "\r\n", 2);
    return out + 2;
}
