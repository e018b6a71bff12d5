/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/plan.h"

#include "routing/distribution.h"
#include "routing/number.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FEW_KEYS = 16,       /* so many are looked at without a list, and one by one */
    HEADER_MOST = 24,    /* bytes of a type, a number and a line end */
    LATEST_COUNT_AT = 2, /* where SLOWLOG GET and COMMANDLOG GET have the number of entries ... */
    LATEST_DEFAULT = 10, /* ... and what it is without */
};

static void plan_without_keys(const struct topology *topology, const struct command *command,
                              const struct slice *words, size_t count, bool may_split, struct plan *plan);
static uint32_t limit_of(const struct slice *words, size_t count);
static size_t keys_of_first_place(const struct topology *topology, const struct slice *words,
                                  const uint32_t *positions, size_t key_count, uint32_t *place);
static bool have_patterns(const struct topology *topology, const struct slice *words, size_t count, uint32_t place);
static bool lacks_a_word(const struct command_keys *keys, size_t count);
static bool plan_pieces(struct planner *planner, const struct topology *topology, const struct slice *words,
                        const uint32_t *positions, size_t count, size_t in_first, struct plan *plan);
static void plan_sequence(struct planner *planner, const struct topology *topology, uint32_t piece_count);
static uint32_t group_at(struct planner *planner, uint16_t shard, uint32_t *group_count, bool is_few);
static uint32_t piece_at(struct planner *planner, uint32_t place, uint32_t *piece_count, bool is_few);
static bool planner_reserve(struct planner *planner, size_t room);
static bool grow(void *list, size_t room, size_t item_size);
static char *put_head(const struct plan *plan, const struct plan_piece *piece, const struct command *command,
                      const struct slice *words, char *at);
static char *put_keys(const struct plan *plan, const struct plan_piece *piece, const struct command *command,
                      const struct slice *words, char *at);
static size_t piece_words(const struct plan *plan, const struct plan_piece *piece,
                          const struct command_keys *keys, size_t *tail);
static inline size_t header_size(size_t number);
static inline char *put_number(char *out, char type, size_t number);
static inline char *put_bulk(char *out, struct slice word);

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
    size_t in_first = keys_of_first_place(topology, words, positions, (size_t)found, &plan->place);
    if (in_first == (size_t)found) {
        plan->kind = has_patterns && !have_patterns(topology, words, count, plan->place) ? PLAN_CROSS : PLAN_PLACE;
        plan->has_several_keys = found > 1;
    } else if (command->spread != SPREAD_KEYS || !may_split) {
        plan->kind = PLAN_CROSS;
    } else if (!lacks_a_word(&command->keys, count)) {
        plan->kind = PLAN_SPLIT;
        plan->merge = command->merge;
        return plan_pieces(planner, topology, words, positions, count, in_first, plan);
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

/* How many keys there are before the first that is in another place than they. */
static size_t keys_of_first_place(const struct topology *topology, const struct slice *words,
                                  const uint32_t *positions, size_t key_count, uint32_t *place)
{
    size_t count = 1;
    *place = topology_place_of(topology, words[positions[0]]);
    while (count < key_count && topology_place_of(topology, words[positions[count]]) == *place)
        count++;
    return count;
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
                        const uint32_t *positions, size_t count, size_t in_first, struct plan *plan)
{
    if (!planner_reserve(planner, plan->key_count)) return false;

    for (uint32_t key = 0; key < plan->key_count; key++) {
        uint32_t place = key < in_first ? plan->place : topology_place_of(topology, words[positions[key]]);
        planner->piece_of[key] = piece_at(planner, place, &plan->piece_count, plan->key_count <= FEW_KEYS);
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
    plan_sequence(planner, topology, plan->piece_count);
    plan->pieces = planner->pieces;
    plan->order = planner->order;
    plan->sequence = planner->sequence;
    plan->word_count = (uint32_t)count;
    return true;
}

/* Shards in the order in which they occur, and so are the pieces of each. */
static void plan_sequence(struct planner *planner, const struct topology *topology, uint32_t piece_count)
{
    struct plan_group *groups = planner->groups;
    uint32_t group_count = 0;
    for (uint32_t i = 0; i < piece_count; i++) {
        uint16_t shard = topology_shard_of(topology, planner->pieces[i].place);
        planner->group_of[i] = group_at(planner, shard, &group_count, piece_count <= FEW_KEYS);
        groups[planner->group_of[i]].end++;
    }
    for (uint32_t i = 0, first = 0; i < group_count; i++) {
        uint32_t count = groups[i].end;
        groups[i].end = first;
        first += count;
    }
    for (uint32_t i = 0; i < piece_count; i++)
        planner->sequence[groups[planner->group_of[i]].end++] = i;
}

/* As piece_at(). */
static uint32_t group_at(struct planner *planner, uint16_t shard, uint32_t *group_count, bool is_few)
{
    uint32_t group = is_few ? 0 : planner->at_shard[shard];
    while (is_few && group < *group_count && planner->groups[group].shard != shard)
        group++;
    if (group < *group_count && planner->groups[group].shard == shard) return group;
    if (!is_few) planner->at_shard[shard] = *group_count;
    planner->groups[*group_count] = (struct plan_group){.shard = shard};
    return (*group_count)++;
}

/* To look at a few pieces is less than to look into a list that is as large as a cache. at_place is never cleared: what it
 * says counts only if the piece says the same. */
static uint32_t piece_at(struct planner *planner, uint32_t place, uint32_t *piece_count, bool is_few)
{
    assert(place < TOPOLOGY_SLOTS);
    uint32_t piece = is_few ? 0 : planner->at_place[place];
    while (is_few && piece < *piece_count && planner->pieces[piece].place != place)
        piece++;
    if (piece < *piece_count && planner->pieces[piece].place == place) return piece;
    if (!is_few) planner->at_place[place] = *piece_count;
    planner->pieces[*piece_count] = (struct plan_piece){.place = place};
    return (*piece_count)++;
}

static bool planner_reserve(struct planner *planner, size_t room)
{
    if (!planner->at_place) planner->at_place = calloc(TOPOLOGY_SLOTS, sizeof(*planner->at_place));
    if (!planner->at_shard) planner->at_shard = calloc(TOPOLOGY_NO_SHARD + 1, sizeof(*planner->at_shard));
    if (!planner->at_place || !planner->at_shard) return false;
    if (room <= planner->room) return true;
    room += room / 2;
    if (!grow(&planner->positions, room, sizeof(*planner->positions)) ||
        !grow(&planner->pieces, room, sizeof(*planner->pieces)) ||
        !grow(&planner->order, room, sizeof(*planner->order)) ||
        !grow(&planner->piece_of, room, sizeof(*planner->piece_of)) ||
        !grow(&planner->sequence, room, sizeof(*planner->sequence)) ||
        !grow(&planner->group_of, room, sizeof(*planner->group_of)) ||
        !grow(&planner->groups, room, sizeof(*planner->groups)))
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
    free(planner->sequence);
    free(planner->group_of);
    free(planner->groups);
    free(planner->at_place);
    free(planner->at_shard);
    *planner = (struct planner){0};
}

/* ---- a piece as a command ---- */

/* Pieces with as many keys begin alike. */
void plan_encode(const struct plan *plan, const struct command *command, const struct slice *words, char *out,
                 size_t *sizes)
{
    const struct plan_piece *before = NULL;
    const char *head = NULL;
    size_t head_bytes = 0;
    for (uint32_t turn = 0; turn < plan->piece_count; turn++) {
        const struct plan_piece *piece = &plan->pieces[plan->sequence[turn]];
        char *start = out;
        if (before && before->count == piece->count) {
            memcpy(out, head, head_bytes);
            out += head_bytes;
        } else {
            out = put_head(plan, piece, command, words, out);
            head_bytes = (size_t)(out - start);
        }
        head = start;
        before = piece;
        out = put_keys(plan, piece, command, words, out);
        sizes[plan->sequence[turn]] = (size_t)(out - start);
    }
}

size_t plan_most_bytes(const struct plan *plan, const struct command *command, const struct slice *words)
{
    const struct command_keys *keys = &command->keys;
    size_t tail = (size_t)keys->first + plan->key_count * (size_t)keys->step;
    size_t in_each = HEADER_MOST, in_one = 0;
    for (size_t i = 0; i < plan->word_count; i++) {
        bool is_in_each = i < (size_t)keys->first || i >= tail;
        *(is_in_each ? &in_each : &in_one) += HEADER_MOST + words[i].size + 2;
    }
    return plan->piece_count * in_each + in_one;
}

static char *put_head(const struct plan *plan, const struct plan_piece *piece, const struct command *command,
                      const struct slice *words, char *at)
{
    size_t tail;
    at = put_number(at, '*', piece_words(plan, piece, &command->keys, &tail));
    for (size_t i = 0; i < (size_t)command->keys.first; i++)
        at = put_bulk(at, words[i]);
    return at;
}

/* And what comes behind them. */
static char *put_keys(const struct plan *plan, const struct plan_piece *piece, const struct command *command,
                      const struct slice *words, char *at)
{
    size_t tail;
    piece_words(plan, piece, &command->keys, &tail);
    for (uint32_t i = 0; i < piece->count; i++) {
        const struct slice *key = plan_piece_key(plan, piece, command, words, i);
        for (int k = 0; k < command->keys.step; k++)
            at = put_bulk(at, key[k]);
    }
    for (size_t i = tail; i < plan->word_count; i++)
        at = put_bulk(at, words[i]);
    return at;
}

/* How many words it has, and where the words behind the keys begin, which each piece repeats (JSON.MGET a b
 * path). */
static size_t piece_words(const struct plan *plan, const struct plan_piece *piece,
                          const struct command_keys *keys, size_t *tail)
{
    *tail = (size_t)keys->first + plan->key_count * (size_t)keys->step;
    return (size_t)keys->first + piece->count * (size_t)keys->step + (plan->word_count - *tail);
}

/* A type, the digits, a line end. */
static inline size_t header_size(size_t number)
{
    size_t size = 4;
    while (number >= 10) {
        number /= 10;
        size++;
    }
    return size;
}

static inline char *put_number(char *out, char type, size_t number)
{
    char *end = out + header_size(number);
    *out = type;
    memcpy(end - 2, "\r\n", 2);
    for (char *at = end - 3; at > out; at--) {
        *at = (char)('0' + number % 10);
        number /= 10;
    }
    return end;
}

static inline char *put_bulk(char *out, struct slice word)
{
    out = put_number(out, '$', word.size);
    memcpy(out, word.bytes, word.size);
    out += word.size;
    memcpy(out, "\r\n", 2);
    return out + 2;
}
