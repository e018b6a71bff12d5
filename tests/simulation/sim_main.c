/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_main.c - many seeds, or one, or worlds that grow. One line for each seed in which a promise was broken.
 */
#include "tests/simulation/sim_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    uint64_t seeds, seed;
    uint32_t nodes, clients;
    bool grows, tells;
    enum sim_mutation mutation;
};

static bool read_option(struct options *options, const char *text);
static enum sim_mutation mutation_of(const char *name);
static int run_seeds(const struct options *options);
static bool run_seed(const struct options *options, uint64_t seed, struct sim_outcome *sum);
static int run_sizes(const struct options *options);
static bool run_size(uint64_t seed, uint32_t nodes, uint32_t clients);
static void print_broken(const struct options *options, uint64_t seed, const struct sim_outcome *outcome);

static const char usage[] =
    "simulation [--seeds=N] [--seed=N] [--nodes=N --clients=N] [--grow] [--tell] [--mutation=NAME]\n";

static const char *const mutations[] = {
#define SIM_MUTATION_NAME(name, text) #name,
    SIM_MUTATION_TABLE(SIM_MUTATION_NAME)
#undef SIM_MUTATION_NAME
};

int main(int argc, char **argv)
{
    struct options options = {.seeds = 2000};
    for (int i = 1; i < argc; i++) {
        if (read_option(&options, argv[i])) continue;
        fputs(usage, stderr);
        return 2;
    }
    if (options.grows || options.nodes) return run_sizes(&options);
    return run_seeds(&options);
}

static bool read_option(struct options *options, const char *text)
{
    const char *value = strchr(text, '=');
    uint64_t number = value ? strtoull(value + 1, NULL, 10) : 0;
    if (strncmp(text, "--seeds=", 8) == 0 && number)
        options->seeds = number;
    else if (strncmp(text, "--seed=", 7) == 0 && number)
        options->seed = number;
    else if (strncmp(text, "--nodes=", 8) == 0 && number >= 2 && number <= 12000)
        options->nodes = (uint32_t)number;
    else if (strncmp(text, "--clients=", 10) == 0 && number && number <= 10000000)
        options->clients = (uint32_t)number;
    else if (strcmp(text, "--grow") == 0)
        options->grows = true;
    else if (strcmp(text, "--tell") == 0)
        options->tells = true;
    else if (strncmp(text, "--mutation=", 11) == 0)
        options->mutation = mutation_of(text + 11);
    else
        return false;
    return options->mutation < SIM_MUTATION_COUNT;
}

static enum sim_mutation mutation_of(const char *name)
{
    int mutation = 0;
    while (mutation < SIM_MUTATION_COUNT && strcmp(name, mutations[mutation]) != 0)
        mutation++;
    return (enum sim_mutation)mutation;
}

/* ---- many small worlds ---- */

static int run_seeds(const struct options *options)
{
    struct sim_outcome sum = {.is_broken = false};
    uint64_t first = options->seed ? options->seed : 1, count = options->seed ? 1 : options->seeds, broken = 0;
    for (uint64_t seed = first; seed < first + count; seed++)
        broken += !run_seed(options, seed, &sum);
    printf("%llu seeds, %llu failed; %llu events, %llu requests, %.2f %% failed, %.1f %% of the reads by replicas, "
           "converged after %.1f s at the latest\n",
           (unsigned long long)count, (unsigned long long)broken, (unsigned long long)sum.events,
           (unsigned long long)sum.requests, 100. * (double)sum.failures / (double)(sum.requests ? sum.requests : 1),
           100. * (double)sum.from_replicas / (double)(sum.reads ? sum.reads : 1), (double)sum.converged_us / 1e6);
    return broken > 0;
}

static bool run_seed(const struct options *options, uint64_t seed, struct sim_outcome *sum)
{
    struct sim_setup setup = sim_setup_of(seed, options->mutation);
    setup.is_told = options->tells;
    struct sim_outcome outcome = sim_run(&setup, false);
    sum->events += outcome.events;
    sum->requests += outcome.requests;
    sum->failures += outcome.failures;
    sum->reads += outcome.reads;
    sum->from_replicas += outcome.from_replicas;
    if (outcome.converged_us > sum->converged_us) sum->converged_us = outcome.converged_us;
    if (outcome.is_broken) print_broken(options, seed, &outcome);
    return !outcome.is_broken;
}

static void print_broken(const struct options *options, uint64_t seed, const struct sim_outcome *outcome)
{
    printf("seed %llu: after %.6f s %s; again: make simulation SEED=%llu%s%s\n", (unsigned long long)seed,
           (double)outcome->broken_us / 1e6, sim_promise_text(outcome->broken), (unsigned long long)seed,
           options->mutation ? " MUTATION=" : "", options->mutation ? mutations[options->mutation] : "");
}

/* ---- worlds that grow ---- */

static int run_sizes(const struct options *options)
{
    static const struct {
        uint32_t nodes, clients;
    } sizes[] = {{3, 1000}, {30, 10000}, {300, 30000}, {1000, 100000}};
    uint64_t seed = options->seed ? options->seed : 1;
    bool is_good = true;
    puts("nodes  clients     events   requests  failed  converged s  read ns  write ns  quorum ns  snapshot us");
    if (options->nodes) return !run_size(seed, options->nodes, options->clients ? options->clients : 1000);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        is_good &= run_size(seed, sizes[i].nodes, sizes[i].clients);
    return !is_good;
}

static bool run_size(uint64_t seed, uint32_t nodes, uint32_t clients)
{
    struct sim_setup setup = sim_setup_sized(seed, nodes, clients);
    struct sim_outcome outcome = sim_run(&setup, true);
    printf("%5u %8u %10llu %10llu %6.2f%% %12.1f %8.1f %9.1f %10.1f %12.1f\n", nodes, clients,
           (unsigned long long)outcome.events, (unsigned long long)outcome.requests,
           100. * (double)outcome.failures / (double)(outcome.requests ? outcome.requests : 1),
           (double)outcome.converged_us / 1e6, outcome.read_ns, outcome.write_ns, outcome.quorum_ns,
           outcome.snapshot_us);
    if (outcome.is_broken)
        printf("after %.6f s %s; again: make simulation SEED=%llu NODES=%u CLIENTS=%u\n",
               (double)outcome.broken_us / 1e6, sim_promise_text(outcome.broken), (unsigned long long)seed, nodes,
               clients);
    return !outcome.is_broken;
}
