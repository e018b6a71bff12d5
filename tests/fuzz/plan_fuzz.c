/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes as the words of a client's command. Whatever a client sends, a piece is a whole command of the same
 * name whose keys are all in its slot, and all pieces together have each key once, with its value, in the
 * client's order.
 */
#include "routing/plan.h"
#include "routing/resp.h"
#include "routing/slot.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_WORDS = 128, SHARDS = 2 };

static const struct resp_limits limits = {
    .max_arguments = INT32_MAX, .max_bulk_bytes = 1 << 20, .max_command_bytes = 1 << 24};

static void expect(bool is_true, const char *promise)
{
    if (is_true) return;
    fprintf(stderr, "broken: %s\n", promise);
    abort();
}

static struct topology *cluster_of(uint32_t shards)
{
    struct topology_node nodes[SHARDS] = {{.name = "a:1"}, {.name = "b:2", .shard = 1}};
    static const struct topology_draft_shard draft_shards[SHARDS] = {{.master = 0}, {.master = 1}};
    struct topology *topology = topology_create(&(struct topology_draft){.nodes = nodes,
                                                                         .node_count = shards,
                                                                         .shards = draft_shards,
                                                                         .shard_count = shards,
                                                                         .is_cluster = true});
    if (!topology) abort();
    return topology;
}

/* The words of the text, each of which ends with a byte below '!'. */
static size_t split(struct slice text, struct slice *words)
{
    size_t count = 0, start = 0;
    for (size_t i = 0; i <= text.size && count < MAX_WORDS; i++) {
        if (i < text.size && (unsigned char)text.bytes[i] >= '!') continue;
        words[count++] = (struct slice){text.bytes + start, i - start};
        start = i + 1;
    }
    return count;
}

/* Looks at one piece; returns how many words of keys and values it has. */
static size_t check_piece(const struct plan *plan, const struct plan_piece *piece, const struct command *row,
                          const struct slice *words, const char *bytes, size_t size)
{
    size_t used;
    struct resp_command state = {0};
    struct resp_arguments arguments = {0};
    uint32_t positions[MAX_WORDS];
    const char *error;

    expect(resp_command_scan(&state, &limits, bytes, size, &arguments, &used, &error) == RESP_DONE &&
               used == size,
           "a piece is a whole command");
    expect(slice_equals(arguments.items[0], words[0]), "of the same name");
    int keys = command_keys(row, arguments.items, arguments.count, positions, MAX_WORDS);
    expect(keys == (int)piece->count && keys > 0, "with as many keys as planned");
    for (int i = 0; i < keys; i++) {
        uint32_t key = plan->order[piece->first + (uint32_t)i];
        expect(i == 0 || plan->order[piece->first + (uint32_t)i - 1] < key, "keys keep their order");
        for (uint32_t k = 0; k < (uint32_t)row->keys.step; k++)
            expect(slice_equals(arguments.items[positions[i] + k],
                                words[(uint32_t)row->keys.first + key * (uint32_t)row->keys.step + k]),
                   "a key has its value");
        expect(slot_of(arguments.items[positions[i]]) == piece->place, "a piece is in its slot");
    }
    size_t count = arguments.count;
    resp_arguments_finish(&arguments);
    return count - (size_t)row->keys.first;
}

static void check(struct planner *planner, const struct topology *topology, const struct slice *words,
                  size_t count)
{
    const struct command *row = command_find(command_set_builtin(), words, count);
    struct plan plan;
    size_t parts = 0;
    uint32_t next = 0;

    expect(plan_make(planner, topology, row, words, count, true, &plan), "there is memory");
    expect(row || plan.kind == PLAN_ANYWHERE, "what nobody knows goes anywhere");
    expect(plan.kind != PLAN_MASTERS || topology->shard_count > 1, "several masters, if there are several");
    if (plan.kind != PLAN_SPLIT) return;
    expect(plan.piece_count > 1, "what is split has several pieces");
    for (uint32_t i = 0; i < plan.piece_count; i++) {
        expect(plan.pieces[i].first == next, "pieces lie behind each other");
        next += plan.pieces[i].count;
    }
    size_t sizes[MAX_WORDS], most = plan_most_bytes(&plan, row, words), used = 0;
    char *bytes = malloc(most);
    if (!bytes) abort();
    plan_encode(&plan, row, words, bytes, sizes);
    for (uint32_t turn = 0; turn < plan.piece_count; turn++) {
        uint32_t i = plan.sequence[turn];
        parts += check_piece(&plan, &plan.pieces[i], row, words, bytes + used, sizes[i]);
        used += sizes[i];
    }
    expect(used <= most, "no more bytes than announced");
    free(bytes);
    expect(next == plan.key_count && parts == count - (size_t)row->keys.first, "nothing is lost");
    expect(plan_make(planner, topology, row, words, count, false, &plan) && plan.kind == PLAN_CROSS,
           "nothing is split in a transaction");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct topology *topologies[SHARDS];
    static struct planner planner; /* kept: no plan may show what came before it */
    static const char *const names[] = {"MGET", "MSET", "DEL"};
    struct slice words[MAX_WORDS];
    size_t count = split((struct slice){(const char *)data, size}, words);

    for (uint32_t i = 0; i < SHARDS; i++) {
        if (!topologies[i]) topologies[i] = cluster_of(i + 1);
        check(&planner, topologies[i], words, count);
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
            struct slice renamed[MAX_WORDS];
            memcpy(renamed, words, count * sizeof(*words));
            renamed[0] = slice_of(names[k]);
            check(&planner, topologies[i], renamed, count);
        }
    }
    return 0;
}
