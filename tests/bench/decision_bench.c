/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What it costs to decide where a command goes - its row, its plan, its node - by the number of nodes that there are.
 * The sizes take turns, and the best of several rounds counts, since everything else that runs on the machine only adds.
 */
#include "routing/freshness.h"
#include "routing/pick.h"
#include "routing/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZES = 4, NODES_MOST = 1000, KEYS = 1024, PASSES = 20000, ROUNDS = 61, WORDS = 3 };

static const uint32_t sizes[SIZES] = {3, 30, 300, NODES_MOST};

enum kind { ONE_SHARD, MANY_SHARDS };

/* A command over and over, with a key of many, by many clients. */
static const struct scenario {
    const char *name;
    enum kind kind;
    const char *command;
    enum pick_policy policy;
    bool keeps_sessions;
} scenarios[] = {
    {"one shard: SET", ONE_SHARD, "SET", PICK_MASTER, false},
    {"one shard: GET, master", ONE_SHARD, "GET", PICK_MASTER, false},
    {"one shard: GET, prefer_replica", ONE_SHARD, "GET", PICK_PREFER_REPLICA, false},
    {"one shard: GET, nearest", ONE_SHARD, "GET", PICK_NEAREST, false},
    {"one shard: GET, prefer_replica, consistency of sessions", ONE_SHARD, "GET", PICK_PREFER_REPLICA, true},
    {"one node a shard: GET, SET", MANY_SHARDS, "GET", PICK_MASTER, false},
};

struct world {
    struct topology_node nodes[NODES_MOST];
    struct topology_draft_shard shards[NODES_MOST];
    struct pick_load loads[NODES_MOST];
    char names[NODES_MOST][24];
    struct topology *topology;
};

static struct world worlds[SIZES];
static char keys[KEYS][16];
static struct pick_memo memos[KEYS]; /* of as many clients */
static struct pick_near near;
static uint64_t now_ms; /* stands: each look for what is near is paid for by many reads */

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void world_init(struct world *world, uint32_t count, enum kind kind)
{
    for (uint32_t i = 0; i < count; i++) {
        bool is_master = kind == MANY_SHARDS || i == 0;
        snprintf(world->names[i], sizeof world->names[i], "10.0.%u.%u:6379", i / 250, i % 250);
        world->nodes[i] = (struct topology_node){.name = world->names[i],
                                                 .address = "10.0.0.1",
                                                 .port = 6379,
                                                 .role = is_master ? NODE_ROLE_MASTER : NODE_ROLE_REPLICA,
                                                 .shard = kind == MANY_SHARDS ? (uint16_t)i : 0,
                                                 .is_fit = true,
                                                 .reason = ""};
        world->shards[i] = (struct topology_draft_shard){.master = i};
        world->loads[i] = (struct pick_load){.is_usable = true};
    }
    struct topology_draft draft = {.kind = "",
                                   .server_version = "",
                                   .version = count,
                                   .nodes = world->nodes,
                                   .node_count = count,
                                   .master = 0,
                                   .shards = kind == MANY_SHARDS ? world->shards : NULL,
                                   .shard_count = kind == MANY_SHARDS ? count : 0,
                                   .is_cluster = kind == MANY_SHARDS};
    world->topology = topology_create(&draft);
    if (!world->topology) abort();
}

static uint32_t decide(const struct world *world, const struct scenario *scenario, struct planner *planner,
                       const struct slice *words, size_t count, uint64_t client_id, uint64_t *seed)
{
    const struct topology *topology = world->topology;
    const struct command *command = command_find(topology->commands, words, count);
    uint32_t place = 0;
    if (topology->is_cluster) {
        struct plan plan;
        if (!plan_make(planner, topology, command, words, count, true, &plan)) abort();
        place = plan.place;
    }
    const struct topology_shard *shard = &topology->shards[topology_shard_of(topology, place)];
    if (command->access != COMMAND_READ) return pick_write(topology, shard, world->loads);
    if (scenario->keeps_sessions)
        return pick_session_read(topology, shard, world->loads, scenario->policy, FRESHNESS_ANY, client_id,
                                 &memos[client_id]);
    if (scenario->policy == PICK_NEAREST)
        return pick_near_read(topology, shard, world->loads, FRESHNESS_ANY, seed, &near, now_ms);
    return pick_read(topology, shard, world->loads, scenario->policy, FRESHNESS_ANY, PICK_NONE, seed);
}

static double each_ns(const struct world *world, const struct scenario *scenario, struct planner *planner)
{
    static uint64_t seed = 4711;
    memset(memos, 0, sizeof memos);
    for (uint64_t id = 0; scenario->keeps_sessions && id < KEYS; id++) /* what each pays once a topology */
        pick_own_replica(world->topology, world->topology->shards, world->loads, id, &memos[id]);
    struct slice words[WORDS] = {slice_of(scenario->command), {0}, SLICE("v")};
    size_t count = scenario->command[0] == 'S' ? 3 : 2;
    uint64_t answers = 0;
    double start_ns = now_ns();
    for (int pass = 0; pass < PASSES; pass++) {
        words[1] = (struct slice){keys[pass % KEYS], sizeof keys[0]};
        answers += decide(world, scenario, planner, words, count, (uint64_t)(pass % KEYS), &seed);
    }
    double each = (now_ns() - start_ns) / PASSES;
    if (answers >= (uint64_t)PASSES * PICK_NONE) abort();
    return each;
}

static void measure(const struct scenario *scenario, struct planner *planner)
{
    double best_ns[SIZES] = {0};
    for (int i = 0; i < SIZES; i++)
        world_init(&worlds[i], sizes[i], scenario->kind);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < SIZES; i++) {
            double ns = each_ns(&worlds[i], scenario, planner);
            if (round == 0 || ns < best_ns[i]) best_ns[i] = ns;
        }
    }
    printf("%s:", scenario->name);
    for (int i = 0; i < SIZES; i++)
        printf(" %u nodes %.1f ns%s", sizes[i], best_ns[i], i + 1 < SIZES ? "," : "\n");
    printf("%s: 1000 nodes / 3 nodes %.2f\n", scenario->name, best_ns[SIZES - 1] / best_ns[0]);
    for (int i = 0; i < SIZES; i++)
        topology_release(worlds[i].topology);
}

int main(void)
{
    struct planner planner = {0};
    for (int i = 0; i < KEYS; i++)
        snprintf(keys[i], sizeof keys[i], "key:%011d", i * 97);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        measure(&scenarios[i], &planner);
    planner_finish(&planner);
    return 0;
}
