/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/pooling.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define HOUR_MS (UINT64_C(3600) * 1000)

static void lives_are_within_a_fifth_of_the_nominal_one_and_spread_over_all_of_that(void **unused)
{
    (void)unused;
    enum { DRAWS = 10000, PARTS = 10 };
    uint32_t counts[PARTS] = {0};
    uint64_t seed = 7;
    for (int i = 0; i < DRAWS; i++) {
        uint64_t at_ms = pooling_retire_at_ms(5, HOUR_MS, &seed);
        assert_in_range(at_ms, 5 + HOUR_MS / 5 * 4, 5 + HOUR_MS / 5 * 6);
        counts[(at_ms - 5 - HOUR_MS / 5 * 4) * PARTS / (HOUR_MS / 5 * 2 + 1)]++;
    }
    for (int i = 0; i < PARTS; i++)
        assert_in_range(counts[i], DRAWS / PARTS * 8 / 10, DRAWS / PARTS * 12 / 10);
}

static void a_life_of_zero_never_ends_and_a_short_one_does(void **unused)
{
    (void)unused;
    uint64_t seed = 7;
    assert_int_equal(pooling_retire_at_ms(1000, 0, &seed), 0);
    for (uint64_t life_ms = 1; life_ms < 20; life_ms++)
        assert_in_range(pooling_retire_at_ms(1000, life_ms, &seed), 1000 + life_ms - life_ms / 5, 1000 + life_ms + life_ms / 5);
}

static void shares_of_all_workers_are_the_whole_and_differ_by_one_at_most(void **unused)
{
    (void)unused;
    for (uint32_t workers = 1; workers < 20; workers++) {
        for (uint32_t total = 0; total < 50; total++) {
            uint32_t sum = 0;
            for (uint32_t i = 0; i < workers; i++) {
                uint32_t share = pooling_share(total, workers, i);
                assert_in_range(share, total / workers, total / workers + 1);
                sum += share;
            }
            assert_int_equal(sum, total);
        }
    }
}

static void connections_on_their_way_are_bounded(void **unused)
{
    (void)unused;
    assert_true(pooling_may_connect(0));
    assert_true(pooling_may_connect(POOLING_CONNECTS_MOST - 1));
    assert_false(pooling_may_connect(POOLING_CONNECTS_MOST));
    assert_false(pooling_may_connect(UINT32_MAX));
}

static void a_few_nodes_are_connected_to_at_once_and_many_over_some_time(void **unused)
{
    (void)unused;
    uint64_t seed = 7;
    enum { NODES = 1000, SLICES = 5 };
    uint32_t counts[SLICES] = {0};
    assert_int_equal(pooling_open_at_ms(77, 1, &seed), 77);
    assert_int_equal(pooling_open_at_ms(77, POOLING_AT_ONCE_NODES, &seed), 77);
    for (int i = 0; i < NODES; i++) {
        uint64_t at_ms = pooling_open_at_ms(77, NODES, &seed);
        assert_in_range(at_ms, 77, 77 + NODES * POOLING_SPREAD_MS - 1);
        counts[(at_ms - 77) * SLICES / ((uint64_t)NODES * POOLING_SPREAD_MS)]++;
    }
    for (int i = 0; i < SLICES; i++)
        assert_in_range(counts[i], NODES / SLICES / 2, NODES / SLICES * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lives_are_within_a_fifth_of_the_nominal_one_and_spread_over_all_of_that),
        cmocka_unit_test(a_life_of_zero_never_ends_and_a_short_one_does),
        cmocka_unit_test(shares_of_all_workers_are_the_whole_and_differ_by_one_at_most),
        cmocka_unit_test(connections_on_their_way_are_bounded),
        cmocka_unit_test(a_few_nodes_are_connected_to_at_once_and_many_over_some_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
