/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/plan.h"

#include <stdlib.h>

enum {
    KEYS_AT_HAND = 8, /* looked at without a list of their own */
    NOWHERE = UINT32_MAX,
};

/* What is not in this table goes where its keys are, or anywhere. */
static const struct plan_row {
    const char *name; /* command->full_name */
    enum plan_kind kind;
    enum merge_policy merge;
} rows[] = {
    {"mget", PLAN_SPLIT, MERGE_PLACES},
    {"mset", PLAN_SPLIT, MERGE_OK},
    {"del", PLAN_SPLIT, MERGE_SUM},
    {"unlink", PLAN_SPLIT, MERGE_SUM},
    {"exists", PLAN_SPLIT, MERGE_SUM},
    {"touch", PLAN_SPLIT, MERGE_SUM},

    {"dbsize", PLAN_MASTERS, MERGE_SUM},
    {"keys", PLAN_MASTERS, MERGE_CONCAT},
    {"randomkey", PLAN_MASTERS, MERGE_ANY},
    {"flushall", PLAN_MASTERS, MERGE_OK},
    {"flushdb", PLAN_MASTERS, MERGE_OK},
    {"script|load", PLAN_MASTERS, MERGE_FIRST},
    {"script|exists", PLAN_MASTERS, MERGE_AND},
    {"script|flush", PLAN_MASTERS, MERGE_OK},
    {"script|kill", PLAN_MASTERS, MERGE_ONE_OK},
    {"function|load", PLAN_MASTERS, MERGE_FIRST},
    {"function|delete", PLAN_MASTERS, MERGE_OK},
    {"function|flush", PLAN_MASTERS, MERGE_OK},
    {"function|restore", PLAN_MASTERS, MERGE_OK},
    {"function|kill", PLAN_MASTERS, MERGE_ONE_OK},
    {"config|set", PLAN_MASTERS, MERGE_OK},
    {"config|resetstat", PLAN_MASTERS, MERGE_OK},
    {"config|rewrite", PLAN_MASTERS, MERGE_OK},
    {"info", PLAN_MASTERS, MERGE_INFO},
    {"memory|doctor", PLAN_MASTERS, MERGE_TEXT},
    {"memory|malloc-stats", PLAN_MASTERS, MERGE_TEXT},
    {"memory|purge", PLAN_MASTERS, MERGE_OK},
    {"slowlog|get", PLAN_MASTERS, MERGE_CONCAT},
    {"slowlog|len", PLAN_MASTERS, MERGE_SUM},
    {"slowlog|reset", PLAN_MASTERS, MERGE_OK},
    {"latency|doctor", PLAN_MASTERS, MERGE_TEXT},
    {"latency|latest", PLAN_MASTERS, MERGE_CONCAT},
    {"latency|history", PLAN_MASTERS, MERGE_CONCAT},
    {"latency|reset", PLAN_MASTERS, MERGE_SUM},
    {"pubsub|channels", PLAN_MASTERS, MERGE_UNION},
    {"pubsub|numsub", PLAN_MASTERS, MERGE_PAIRS},
    {"pubsub|numpat", PLAN_MASTERS, MERGE_SUM},
    {"pubsub|shardchannels", PLAN_MASTERS, MERGE_UNION},
    {"pubsub|shardnumsub", PLAN_MASTERS, MERGE_PAIRS},
    {"acl|setuser", PLAN_MASTERS, MERGE_OK},
    {"acl|deluser", PLAN_MASTERS, MERGE_FIRST},
    {"acl|load", PLAN_MASTERS, MERGE_OK},
    {"acl|save", PLAN_MASTERS, MERGE_OK},
    {"save", PLAN_MASTERS, MERGE_OK},
    {"bgsave", PLAN_MASTERS, MERGE_OK},
    {"bgrewriteaof", PLAN_MASTERS, MERGE_OK},
};

static const struct plan_row *row_of(const struct command *command);
static bool plan_pieces(struct planner *planner, const struct topology *topology, const struct slice *words,
                        size_t key_count, struct plan *plan);
static bool make_room(struct planner *planner, size_t keys);
static uint32_t piece_of(struct planner *planner, uint32_t place, uint32_t *piece_count);
static uint32_t words_per_key(const struct command *command);

void planner_finish(struct planner *planner)
{
    free(planner->positions);
    free(planner->pieces);
    free(planner->order);
    free(planner->next);
    free(planner->seen);
    free(planner->words);
    *planner = (struct planner){0};
}

bool plan_make(struct planner *planner, const struct topology *topology, const struct command *command,
               const struct slice *words, size_t count, bool may_split, struct plan *plan)
{
    uint32_t at_hand[KEYS_AT_HAND];
    *plan = (struct plan){.kind = PLAN_ANYWHERE};
    if (!command) return true;
    int found = command->keys.finder == KEYS_NONE ? 0 : command_keys(command, words, count, at_hand, KEYS_AT_HAND);
    if (found <= 0) {
        const struct plan_row *row = topology->shard_count > 1 ? row_of(command) : NULL;
        if (row && row->kind == PLAN_MASTERS) {
            plan->kind = PLAN_MASTERS;
            plan->merge = row->merge;
        }
        return true;
    }

    const uint32_t *positions = at_hand;
    size_t key_count = (size_t)found;
    bool has_places = topology->is_cluster || topology->shard_count > 1;
    if (key_count > KEYS_AT_HAND && has_places) {
        if (!make_room(planner, key_count)) return false;
        command_keys(command, words, count, planner->positions, key_count);
        positions = planner->positions;
    }
    plan->kind = PLAN_PLACE;
    plan->has_several_keys = key_count > 1;
    plan->key_count = (uint32_t)key_count;
    if (!has_places) return true;
    plan->place = topology_place_of(topology, words[positions[0]]);
    bool is_one = true;
    for (size_t i = 1; i < key_count && is_one; i++)
        is_one = topology_place_of(topology, words[positions[i]]) == plan->place;
    if (is_one) return true;

    const struct plan_row *row = may_split ? row_of(command) : NULL;
    plan->kind = row && row->kind == PLAN_SPLIT ? PLAN_SPLIT : PLAN_CROSS;
    if (plan->kind == PLAN_CROSS) return true;
    if (words_per_key(command) * key_count + 1 != count) {
        plan->kind = PLAN_ANYWHERE; /* MSET with a key that has no value */
        return true;
    }
    plan->merge = row->merge;
    if (positions == at_hand) {
        if (!make_room(planner, key_count)) return false;
        memcpy(planner->positions, at_hand, key_count * sizeof *at_hand);
    }
    return plan_pieces(planner, topology, words, key_count, plan);
}

size_t plan_piece_words(const struct plan *plan, const struct plan_piece *piece, const struct command *command,
                        const struct slice *words, const struct slice **piece_words)
{
    uint32_t step = words_per_key(command);
    size_t count = 0;
    plan->words[count++] = words[0];
    for (uint32_t i = 0; i < piece->count; i++) {
        const struct slice *key = &words[1 + plan->order[piece->first + i] * step];
        for (uint32_t j = 0; j < step; j++)
            plan->words[count++] = key[j];
    }
    *piece_words = plan->words;
    return count;
}

static const struct plan_row *row_of(const struct command *command)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].name, command->full_name) == 0) return &rows[i];
    }
    return NULL;
}

/* Counts the keys of each place, then puts their numbers side by side, in the client's order. */
static bool plan_pieces(struct planner *planner, const struct topology *topology, const struct slice *words,
                        size_t key_count, struct plan *plan)
{
    uint32_t piece_count = 0;
    if (!planner->seen) {
        planner->seen = malloc(TOPOLOGY_SLOTS * sizeof *planner->seen);
        if (!planner->seen) return false;
        for (uint32_t i = 0; i < TOPOLOGY_SLOTS; i++)
            planner->seen[i] = NOWHERE;
    }
    for (size_t i = 0; i < key_count; i++) {
        uint32_t place = topology_place_of(topology, words[planner->positions[i]]);
        uint32_t piece = piece_of(planner, place, &piece_count);
        planner->pieces[piece].count++;
        planner->next[i] = piece;
    }
    uint32_t first = 0;
    for (uint32_t i = 0; i < piece_count; i++) {
        planner->seen[planner->pieces[i].place] = NOWHERE;
        planner->pieces[i].first = first;
        first += planner->pieces[i].count;
        planner->pieces[i].count = 0;
    }
    for (size_t i = 0; i < key_count; i++) {
        struct plan_piece *piece = &planner->pieces[planner->next[i]];
        planner->order[piece->first + piece->count++] = (uint32_t)i;
    }
    plan->pieces = planner->pieces;
    plan->piece_count = piece_count;
    plan->order = planner->order;
    plan->words = planner->words;
    return true;
}

static uint32_t piece_of(struct planner *planner, uint32_t place, uint32_t *piece_count)
{
    if (planner->seen[place] == NOWHERE) {
        planner->seen[place] = *piece_count;
        planner->pieces[(*piece_count)++] = (struct plan_piece){.place = place};
    }
    return planner->seen[place];
}

static bool make_room(struct planner *planner, size_t keys)
{
    if (planner->room >= keys) return true;
    size_t room = planner->room ? planner->room : 64;
    while (room < keys)
        room *= 2;
    struct planner larger = {.seen = planner->seen, .room = room};
    larger.positions = malloc(room * sizeof *larger.positions);
    larger.pieces = malloc(room * sizeof *larger.pieces);
    larger.order = malloc(room * sizeof *larger.order);
    larger.next = malloc(room * sizeof *larger.next);
    larger.words = malloc((2 * room + 1) * sizeof *larger.words);
    bool is_good = larger.positions && larger.pieces && larger.order && larger.next && larger.words;
    struct planner *loser = is_good ? planner : &larger;
    free(loser->positions);
    free(loser->pieces);
    free(loser->order);
    free(loser->next);
    free(loser->words);
    if (is_good) *planner = larger;
    return is_good;
}

/* The commands that are split name keys only, from word 1 on, or keys with a value each. */
static uint32_t words_per_key(const struct command *command)
{
    return command->keys.step > 1 ? (uint32_t)command->keys.step : 1;
}
