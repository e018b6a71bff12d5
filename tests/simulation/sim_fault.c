/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/simulation/sim_fault.h"

#include "tests/simulation/sim_node.h"
#include "tests/simulation/sim_sentinel.h"
#include "tests/simulation/sim_worker.h"

enum {
    BEGIN_MS = 3000, /* by then all is known */
    CATCH_UP_MS = 100, /* with what has come while it was slow */
    USUAL_SERVICE_US = 20,
    STORM_SERVICE_US = 15000,
    ROLLING_DOWN_MS = 3000,
};

typedef void fault(struct sim *sim, uint64_t for_us);

static fault kill_node, freeze_node, slow_node, lag_node, cut_connection, cut_replicas, order_failover, freeze_sentinel;
static fault deafen_sentinel, freeze_sentinels;
static sim_handler strike, roll, kill_masters, blow, start_node, heal_node, heal_sentinel, heal_all;
static struct sim_node *any_node(struct sim *sim);
static struct sim_node *victim(struct sim *sim);

/* So many in a hundred; the longest. */
static const struct {
    fault *strike;
    uint32_t percent, most_ms;
} faults[] = {
    {kill_node, 15, 6000},     {freeze_node, 14, 5000},     {slow_node, 8, 3000},     {lag_node, 14, 4000},
    {cut_connection, 12, 1},   {cut_replicas, 8, 1},        {order_failover, 16, 1},  {freeze_sentinel, 6, 4000},
    {deafen_sentinel, 4, 5000}, {freeze_sentinels, 3, 7000},
};

void sim_faults_start(struct sim *sim)
{
    sim->faults_end_us = sim->now_us + BEGIN_MS * SIM_MS + sim->setup.faults_us;
    sim_after(sim, BEGIN_MS * SIM_MS, sim->setup.weather == SIM_WEATHER_ROLLING ? roll : strike, sim, 0);
    if (sim->setup.weather == SIM_WEATHER_STORM) sim_after(sim, BEGIN_MS * SIM_MS, blow, sim, 0);
    sim_at(sim, sim->faults_end_us, heal_all, sim, 0);
    if (sim->setup.weather == SIM_WEATHER_ROLLING) sim_at(sim, sim->faults_end_us, kill_masters, sim, 0);
}

static void strike(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    uint64_t drawn = sim_between(sim, 0, 99);
    if (sim->now_us >= sim->faults_end_us) return;
    sim_after(sim, sim_between(sim, 20, sim_chance(sim, 20) ? 4000 : 600) * SIM_MS, strike, subject, 0);
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        if (drawn < faults[i].percent) {
            uint64_t most_ms = sim_chance(sim, 50) ? faults[i].most_ms : faults[i].most_ms / 10 + 60;
            faults[i].strike(sim, sim_between(sim, 60, most_ms > 60 ? most_ms : 60) * SIM_MS);
            return;
        }
        drawn -= faults[i].percent;
    }
}

/* One node after the other: every second one dies, the next one freezes, and now and then a failover is ordered. */
static void roll(struct sim *sim, void *subject, uint64_t index)
{
    struct sim_nodes *nodes = sim->nodes;
    if (sim->now_us >= sim->faults_end_us || index >= nodes->count) return;
    struct sim_node *node = &nodes->nodes[index];
    sim_sentinel_disturb(sim, node->shard);
    if (index % 2)
        sim_node_kill(sim, node);
    else
        sim_node_freeze(sim, node);
    sim_after(sim, sim_between(sim, 100, ROLLING_DOWN_MS) * SIM_MS, heal_node, node, 0);
    if (index % 9 == 0) order_failover(sim, 0);
    sim_after(sim, sim->setup.faults_us / nodes->count, roll, subject, index + 1);
}

/* At once, of every third shard. */
static void kill_masters(struct sim *sim, void *subject, uint64_t detail)
{
    (void)subject;
    (void)detail;
    for (uint32_t i = 0; i < sim->nodes->shard_count; i += 3) {
        struct sim_node *node = &sim->nodes->nodes[sim->nodes->shards[i].master];
        sim_sentinel_disturb(sim, i);
        sim_node_kill(sim, node);
        sim_after(sim, ROLLING_DOWN_MS * SIM_MS, heal_node, node, 0);
    }
}

/* Much is on its way to slow nodes whenever they are cut off. */
static void blow(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    if (sim->now_us >= sim->faults_end_us) return;
    for (uint32_t i = 0; i < sim->nodes->count; i++) {
        struct sim_node *node = &sim->nodes->nodes[i];
        node->service_us = STORM_SERVICE_US;
        sim_sentinel_disturb(sim, node->shard);
        sim_workers_node_lost(sim, i);
    }
    sim_after(sim, sim_between(sim, 20, 200) * SIM_MS, blow, subject, 0);
}

static struct sim_node *any_node(struct sim *sim)
{
    return &sim->nodes->nodes[sim_between(sim, 0, sim->nodes->count - 1)];
}

static struct sim_node *victim(struct sim *sim)
{
    struct sim_node *node = any_node(sim);
    sim_sentinel_disturb(sim, node->shard);
    return node;
}

static void kill_node(struct sim *sim, uint64_t for_us)
{
    struct sim_node *node = victim(sim);
    sim_node_kill(sim, node);
    sim_after(sim, for_us, start_node, node, 0);
}

/* It may be a while until it has what it has missed. */
static void start_node(struct sim *sim, void *subject, uint64_t detail)
{
    struct sim_node *node = subject;
    heal_node(sim, subject, detail);
    if (sim_chance(sim, 50)) return;
    sim_sentinel_disturb(sim, node->shard);
    node->lag_us = sim_between(sim, 50, 1500) * SIM_MS;
    sim_after(sim, 2 * SIM_S, heal_node, node, 0);
}

static void freeze_node(struct sim *sim, uint64_t for_us)
{
    struct sim_node *node = victim(sim);
    sim_node_freeze(sim, node);
    sim_after(sim, for_us, heal_node, node, 0);
}

static void slow_node(struct sim *sim, uint64_t for_us)
{
    struct sim_node *node = victim(sim);
    node->service_us = sim_between(sim, 1000, 30000);
    sim_tell(sim, "%s takes %llu us for each request", node->name, (unsigned long long)node->service_us);
    sim_after(sim, for_us, heal_node, node, 0);
}

static void lag_node(struct sim *sim, uint64_t for_us)
{
    struct sim_node *node = victim(sim);
    node->lag_us = sim_between(sim, 20, 2000) * SIM_MS;
    sim_tell(sim, "%s lags by %llu ms", node->name, (unsigned long long)node->lag_us / SIM_MS);
    sim_after(sim, for_us, heal_node, node, 0);
}

static void heal_node(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_node *node = subject;
    if (node->service_us > USUAL_SERVICE_US) node->busy_until_us = sim->now_us + CATCH_UP_MS * SIM_MS;
    node->service_us = USUAL_SERVICE_US;
    node->lag_us = sim_between(sim, 200, 3000);
    sim_node_start(sim, node);
    sim_node_thaw(sim, node);
}

static void cut_connection(struct sim *sim, uint64_t for_us)
{
    (void)for_us;
    struct sim_worker *worker = &sim->workers->items[sim_between(sim, 0, sim->workers->count - 1)];
    const struct sim_node *node = any_node(sim);
    sim_tell(sim, "worker %u is cut off from %s", worker->index, node->name);
    sim_worker_cut(sim, worker, node->index);
}

static void cut_replicas(struct sim *sim, uint64_t for_us)
{
    (void)for_us;
    const struct sim_shard *shard = &sim->nodes->shards[any_node(sim)->shard];
    for (uint32_t i = 0; i < shard->node_count; i++) {
        if (shard->first_node + i != shard->master) sim_workers_node_lost(sim, shard->first_node + i);
    }
}

static void order_failover(struct sim *sim, uint64_t for_us)
{
    (void)for_us;
    sim_sentinel_failover(sim, any_node(sim)->shard);
}

static void freeze_sentinel(struct sim *sim, uint64_t for_us)
{
    uint64_t index = sim_between(sim, 0, SIM_SENTINELS - 1);
    sim_sentinel_freeze(sim, (uint32_t)index);
    sim_after(sim, for_us, heal_sentinel, sim, index);
}

static void deafen_sentinel(struct sim *sim, uint64_t for_us)
{
    uint64_t index = sim_between(sim, 0, SIM_SENTINELS - 1);
    sim_sentinel_deafen(sim, (uint32_t)index);
    sim_after(sim, for_us, heal_sentinel, sim, index);
}

static void freeze_sentinels(struct sim *sim, uint64_t for_us)
{
    for (uint32_t i = 0; i < SIM_SENTINELS; i++) {
        sim_sentinel_freeze(sim, i);
        sim_after(sim, for_us, heal_sentinel, sim, i);
    }
}

static void heal_sentinel(struct sim *sim, void *subject, uint64_t index)
{
    (void)subject;
    sim_sentinel_heal(sim, (uint32_t)index);
}

static void heal_all(struct sim *sim, void *subject, uint64_t detail)
{
    (void)subject;
    (void)detail;
    for (uint32_t i = 0; i < sim->nodes->count; i++)
        heal_node(sim, &sim->nodes->nodes[i], 0);
    for (uint32_t i = 0; i < SIM_SENTINELS; i++)
        sim_sentinel_heal(sim, i);
}
