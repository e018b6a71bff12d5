/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/simulation/sim_run.h"

#include "tests/simulation/sim_client.h"
#include "tests/simulation/sim_control.h"
#include "tests/simulation/sim_fault.h"
#include "tests/simulation/sim_node.h"
#include "tests/simulation/sim_sentinel.h"
#include "tests/simulation/sim_worker.h"

#include "routing/backoff.h"

#include <stdlib.h>
#include <time.h>

#define EPOCH_US (1000 * (uint64_t)SIM_S)

enum {
    DECISIONS = 200000,
    SNAPSHOTS = 20,
    MEASUREMENTS = 10,
    STORMS = 12, /* one world of so many has one */
    REQUESTS_PER_SECOND = 10000, /* of all clients of a large world */
};

static struct sim *create(const struct sim_setup *setup);
static void destroy(struct sim *sim);
static void run_until(struct sim *sim, uint64_t until_us);
static void check_all_have_ended(struct sim *sim);
static void measure(struct sim *sim, struct sim_outcome *outcome);
static void keep_least(double *least, double measured);
static double nanoseconds(void);

struct sim_setup sim_setup_of(uint64_t seed, enum sim_mutation mutation)
{
    uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15);
    struct sim_setup setup = {.seed = seed, .mutation = mutation, .breaker_failures = 5, .breaker_ratio = 50};
    setup.nodes = 3 + random_below(&random, 5);
    setup.clients = 4 + random_below(&random, 20);
    setup.workers = 1 + random_below(&random, 4);
    setup.consistency = random_below(&random, 3) ? SIM_CONSISTENCY_PROXY : SIM_CONSISTENCY_SESSION;
    setup.faults_us = (4 + random_below(&random, 12)) * (uint64_t)SIM_S;
    setup.think_us = (2 + random_below(&random, 60)) * SIM_MS;
    setup.write_percent = 2 + random_below(&random, 50);
    setup.hold_requests = random_below(&random, 2) ? 10000 : 1 + random_below(&random, setup.clients);
    if (random_below(&random, STORMS) > 0) return setup;
    setup.weather = SIM_WEATHER_STORM;
    setup.clients = 300;
    setup.write_percent = 2;
    setup.think_us = 200 * SIM_MS;
    setup.faults_us = 5 * (uint64_t)SIM_S;
    if (random_below(&random, 2)) return setup;
    setup.breaker_failures = 63; /* then the budget is all that there is */
    setup.breaker_ratio = 100;
    setup.clients = 2000;
    setup.think_us = SIM_S;
    return setup;
}

struct sim_setup sim_setup_sized(uint64_t seed, uint32_t nodes, uint32_t clients)
{
    return (struct sim_setup){.seed = seed,
                              .nodes = nodes,
                              .clients = clients,
                              .workers = 4,
                              .weather = SIM_WEATHER_ROLLING,
                              .faults_us = 20 * (uint64_t)SIM_S,
                              .think_us = (uint64_t)clients * SIM_S / REQUESTS_PER_SECOND + SIM_MS,
                              .write_percent = 10,
                              .hold_requests = 10000,
                              .breaker_failures = 5,
                              .breaker_ratio = 50};
}

struct sim_outcome sim_run(const struct sim_setup *setup, bool measures_cost)
{
    struct sim *sim = create(setup);
    run_until(sim, sim->faults_end_us + SIM_CONVERGED_US + 2 * SIM_S);
    sim->clients->have_stopped = true;
    run_until(sim, sim->now_us + 2 * (uint64_t)SIM_HOLD_MS * SIM_MS);
    check_all_have_ended(sim);
    const struct sim_check *check = sim->check;
    struct sim_outcome outcome = {.is_broken = check->is_broken,
                                  .broken = check->broken,
                                  .broken_us = check->broken_us - EPOCH_US,
                                  .mark = sim->random ^ check->order << 32 ^ check->requests,
                                  .events = sim->events_done,
                                  .requests = check->requests,
                                  .failures = check->failures,
                                  .reads = check->reads,
                                  .from_replicas = check->from_replicas};
    if (check->last_trouble_us > sim->faults_end_us) outcome.converged_us = check->last_trouble_us - sim->faults_end_us;
    for (int i = 0; measures_cost && i < MEASUREMENTS; i++)
        measure(sim, &outcome);
    destroy(sim);
    return outcome;
}

static struct sim *create(const struct sim_setup *setup)
{
    struct sim *sim = sim_allocate(1, sizeof(*sim));
    sim->setup = *setup;
    sim->now_us = EPOCH_US;
    sim->random = (setup->seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    sim_nodes_create(sim);
    sim_check_create(sim);
    sim_sentinels_create(sim);
    sim_control_create(sim);
    sim_workers_create(sim);
    sim_clients_create(sim);
    sim_faults_start(sim);
    return sim;
}

static void destroy(struct sim *sim)
{
    sim_clients_destroy(sim);
    sim_workers_destroy(sim);
    sim_control_destroy(sim);
    sim_sentinels_destroy(sim);
    sim_check_destroy(sim);
    sim_nodes_destroy(sim);
    free(sim->events);
    free(sim);
}

/* What happens after a promise was broken is of no interest. */
static void run_until(struct sim *sim, uint64_t until_us)
{
    while (!sim->check->is_broken && sim_step(sim, until_us)) {
    }
    if (!sim->check->is_broken) sim->now_us = until_us;
}

static void check_all_have_ended(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->clients->count; i++)
        sim_check_that(sim, sim->clients->items[i].request.state == SIM_IDLE, SIM_PROMISE_DEADLINE);
}

/* The same calls as on the way of a request, in the world as it is at the end. */
static void measure(struct sim *sim, struct sim_outcome *outcome)
{
    struct sim_worker *worker = &sim->workers->items[0];
    const struct topology *topology = worker->topology;
    struct freshness *freshness = sim->control->freshness;
    uint64_t sum = 0;
    double began = nanoseconds();
    for (uint32_t i = 0; i < DECISIONS; i++) {
        const struct topology_shard *shard = &topology->shards[topology_shard_of(topology, i % TOPOLOGY_SLOTS)];
        uint64_t asked_us = freshness_asked(&freshness->cells[i % FRESHNESS_CELLS]) | FRESHNESS_KNOWN;
        sum += pick_read(topology, shard, worker->loads, PICK_PREFER_REPLICA, asked_us, PICK_NONE, &worker->random);
    }
    double read = nanoseconds();
    for (uint32_t i = 0; i < DECISIONS; i++)
        sum += pick_write(topology, &topology->shards[topology_shard_of(topology, i % TOPOLOGY_SLOTS)], worker->loads);
    double written = nanoseconds();
    uint32_t rounds = DECISIONS / sim->nodes->shard_count;
    sum += sim_control_judge_all(sim, rounds);
    double judged = nanoseconds();
    for (uint32_t i = 0; i < SNAPSHOTS; i++)
        sum += sim_control_snapshot_once(sim);
    double ended = nanoseconds();
    keep_least(&outcome->read_ns, (read - began) / DECISIONS);
    keep_least(&outcome->write_ns, (written - read) / DECISIONS);
    keep_least(&outcome->quorum_ns, (judged - written) / (double)(rounds * sim->nodes->shard_count));
    keep_least(&outcome->snapshot_us, (ended - judged) / SNAPSHOTS / 1000);
    if (sum == 1) outcome->read_ns = 0; /* so that the compiler leaves nothing of it out */
}

/* Others use the machine as well. */
static void keep_least(double *least, double measured)
{
    if (*least == 0 || measured < *least) *least = measured;
}

static double nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}
