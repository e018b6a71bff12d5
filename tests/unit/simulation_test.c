/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is promised, in simulated worlds; and that each promise would be seen broken if a decision were wrong. More
 * seeds: make simulation.
 */
#include "tests/simulation/sim_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

enum { SEEDS_MOST = 400 }; /* by then a broken decision is found; most are by the tenth */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SEEDS = 30, LARGE_NODES = 60, LARGE_CLIENTS = 2000 };
#else
enum { SEEDS = 200, LARGE_NODES = 300, LARGE_CLIENTS = 20000 };
#endif

static bool finds(enum sim_mutation mutation, enum sim_promise promise);

static void promises_are_kept_whatever_happens(void **unused)
{
    (void)unused;
    uint64_t requests = 0, failures = 0, from_replicas = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim_setup setup = sim_setup_of(seed, SIM_MUTATION_NONE);
        struct sim_outcome outcome = sim_run(&setup, false);
        if (outcome.is_broken)
            fail_msg("after %.6f s %s; again: make simulation SEED=%llu", (double)outcome.broken_us / 1e6,
                     sim_promise_text(outcome.broken), (unsigned long long)seed);
        requests += outcome.requests;
        failures += outcome.failures;
        from_replicas += outcome.from_replicas;
    }
    assert_true(failures > 0 && failures * 10 < requests); /* something went wrong, and most went well */
    assert_true(from_replicas * 2 > requests);
}

static void many_nodes_that_fail_one_after_the_other_are_no_different(void **unused)
{
    (void)unused;
    struct sim_setup setup = sim_setup_sized(1, LARGE_NODES, LARGE_CLIENTS);
    struct sim_outcome outcome = sim_run(&setup, false);
    if (outcome.is_broken)
        fail_msg("after %.6f s %s; again: make simulation NODES=%d CLIENTS=%d", (double)outcome.broken_us / 1e6,
                 sim_promise_text(outcome.broken), LARGE_NODES, LARGE_CLIENTS);
    assert_true(outcome.failures * 100 < outcome.requests);
    assert_true(outcome.converged_us > 0);
}

static void same_seed_is_the_same_course_of_events(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct sim_setup setup = sim_setup_of(seed, SIM_MUTATION_NONE);
        struct sim_outcome first = sim_run(&setup, false), second = sim_run(&setup, false);
        assert_int_equal(first.mark, second.mark);
        assert_int_equal(first.events, second.events);
        struct sim_setup other = sim_setup_of(seed + 1, SIM_MUTATION_NONE);
        assert_int_not_equal(first.mark, sim_run(&other, false).mark);
    }
}

/* Within a few hundred seeds, and as what it is. */
static void each_broken_decision_is_found(void **unused)
{
    (void)unused;
    static const struct {
        enum sim_mutation mutation;
        enum sim_promise promise;
    } samples[] = {
        {SIM_MUTATION_IGNORE_FRESHNESS, SIM_PROMISE_FRESH},
        {SIM_MUTATION_IGNORE_FRESHNESS, SIM_PROMISE_SESSION},
        {SIM_MUTATION_IGNORE_FLIGHT, SIM_PROMISE_FRESH},
        {SIM_MUTATION_IGNORE_RESTARTS, SIM_PROMISE_FRESH},
        {SIM_MUTATION_IGNORE_VERSION, SIM_PROMISE_FRESH},
        {SIM_MUTATION_MOVE_SESSIONS, SIM_PROMISE_SESSION},
        {SIM_MUTATION_FORGET_SESSIONS, SIM_PROMISE_SESSION},
        {SIM_MUTATION_RESEND_WRITES, SIM_PROMISE_ONCE},
        {SIM_MUTATION_LOWER_EPOCH, SIM_PROMISE_MAJORITY},
        {SIM_MUTATION_KEEP_OLD_MASTER, SIM_PROMISE_MAJORITY},
        {SIM_MUTATION_DEAF, SIM_PROMISE_PLANNED},
        {SIM_MUTATION_HOLD_ALL, SIM_PROMISE_HELD},
        {SIM_MUTATION_HOLD_FOREVER, SIM_PROMISE_DEADLINE},
        {SIM_MUTATION_WAIT_FOREVER, SIM_PROMISE_DEADLINE},
        {SIM_MUTATION_NEVER_CONFIRM, SIM_PROMISE_CONVERGED},
        {SIM_MUTATION_RETRY_FOREVER, SIM_PROMISE_ATTEMPTS},
        {SIM_MUTATION_SPEND_ALL, SIM_PROMISE_BUDGET},
        {SIM_MUTATION_TRY_TOGETHER, SIM_PROMISE_TRIAL},
        {SIM_MUTATION_EJECT_ALL, SIM_PROMISE_EJECTED},
    };
    bool is_sampled[SIM_MUTATION_COUNT] = {true}, is_breakable[SIM_PROMISE_COUNT] = {false};
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        if (!finds(samples[i].mutation, samples[i].promise))
            fail_msg("sample %zu: not found that %s", i, sim_promise_text(samples[i].promise));
        is_sampled[samples[i].mutation] = is_breakable[samples[i].promise] = true;
    }
    for (int i = 0; i < SIM_MUTATION_COUNT; i++)
        assert_true(is_sampled[i]);
    for (int i = 0; i < SIM_PROMISE_COUNT; i++)
        assert_true(is_breakable[i]);
}

static bool finds(enum sim_mutation mutation, enum sim_promise promise)
{
    for (uint64_t seed = 1; seed <= SEEDS_MOST; seed++) {
        struct sim_setup setup = sim_setup_of(seed, mutation);
        struct sim_outcome outcome = sim_run(&setup, false);
        if (outcome.is_broken && outcome.broken == promise) return true;
    }
    return false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promises_are_kept_whatever_happens),
        cmocka_unit_test(many_nodes_that_fail_one_after_the_other_are_no_different),
        cmocka_unit_test(same_seed_is_the_same_course_of_events),
        cmocka_unit_test(each_broken_decision_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
