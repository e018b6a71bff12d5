/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

static void wait_is_drawn_evenly_below_a_ceiling_that_doubles_to_its_bound(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t failures;
        uint64_t base_ms, max_ms, ceiling_ms;
    } samples[] = {
        {1, 20, 1000, 20},
        {2, 20, 1000, 40},
        {3, 20, 1000, 80},
        {6, 20, 1000, 640},
        {7, 20, 1000, 1000},
        {8, 20, 1000, 1000},
        {UINT32_MAX, 20, 1000, 1000},
        {0, 20, 1000, 20},
        {1, 50, 30, 30},
        {9, 50, 30, 30},
        {1, 1, 1, 1},
        {5, 1, 16, 16},
    };
    uint64_t seed = 1;
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        uint64_t least = UINT64_MAX, most = 0, sum = 0;
        for (int draw = 0; draw < 20000; draw++) {
            uint64_t wait_ms = backoff_ms(samples[i].failures, samples[i].base_ms, samples[i].max_ms, &seed);
            least = wait_ms < least ? wait_ms : least;
            most = wait_ms > most ? wait_ms : most;
            sum += wait_ms;
        }
        assert_int_equal(least, 1);
        assert_int_equal(most, samples[i].ceiling_ms);
        uint64_t mean = sum / 20000, half = samples[i].ceiling_ms / 2;
        assert_in_range(mean, half * 95 / 100, half * 105 / 100 + 1);
    }
}

static void there_is_always_a_wait_even_where_none_is_configured(void **unused)
{
    (void)unused;
    uint64_t seed = 99;
    for (uint32_t failures = 1; failures < 100; failures++) {
        assert_int_equal(backoff_ms(failures, 0, 0, &seed), 1);
        assert_int_equal(backoff_ms(failures, 0, 1000, &seed), 1);
    }
}

static void two_that_failed_together_come_back_apart(void **unused)
{
    (void)unused;
    uint64_t one = 1, two = 2;
    unsigned together = 0;
    for (int i = 0; i < 1000; i++)
        together += backoff_ms(10, 20, 10000, &one) == backoff_ms(10, 20, 10000, &two);
    assert_true(together < 10);
}

static void one_seed_gives_one_sequence(void **unused)
{
    (void)unused;
    uint64_t one = 7, two = 7;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(random_next(&one), random_next(&two));
        assert_int_equal(one, two);
        assert_int_not_equal(one, 0);
    }
}

/* The first outputs for state 1, computed by hand from the paper's formula. */
static void generator_is_the_one_of_the_paper(void **unused)
{
    (void)unused;
    uint64_t seed = 1;
    assert_true(random_next(&seed) == UINT64_C(5180492295206395165));
    assert_true(random_next(&seed) == UINT64_C(12380297144915551517));
}

static void numbers_stay_below_their_bound_and_are_even(void **unused)
{
    (void)unused;
    static const uint32_t bounds[] = {1, 2, 3, 7, 10, 64};
    uint64_t seed = 12345;
    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        unsigned seen[64] = {0};
        for (unsigned draw = 0; draw < bounds[i] * 10000; draw++) {
            uint32_t number = random_below(&seed, bounds[i]);
            assert_true(number < bounds[i]);
            seen[number]++;
        }
        for (uint32_t number = 0; number < bounds[i]; number++)
            assert_in_range(seen[number], 9500, 10500);
    }
    assert_int_equal(random_below(&seed, 0), 0);
    bool has_high = false;
    for (int draw = 0; draw < 100; draw++)
        has_high |= random_below(&seed, UINT32_MAX) > UINT32_MAX / 2;
    assert_true(has_high);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait_is_drawn_evenly_below_a_ceiling_that_doubles_to_its_bound),
        cmocka_unit_test(there_is_always_a_wait_even_where_none_is_configured),
        cmocka_unit_test(two_that_failed_together_come_back_apart),
        cmocka_unit_test(one_seed_gives_one_sequence),
        cmocka_unit_test(generator_is_the_one_of_the_paper),
        cmocka_unit_test(numbers_stay_below_their_bound_and_are_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
