/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/gray.h"

#include "routing/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

enum { TICK_MS = 100 };

/* Ticks until it changes; 0 if it does not within so many. */
static int ticks_until_change(struct gray *gray, uint64_t *now_ms, uint32_t latency_us, uint32_t siblings_us, int most)
{
    for (int tick = 1; tick <= most; tick++) {
        *now_ms += TICK_MS;
        if (gray_update(gray, latency_us, siblings_us, *now_ms))
            return tick;
    }
    return 0;
}

static void the_median_leaves_out_what_was_not_measured(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t latencies_us[6];
        size_t count;
        uint32_t median_us;
    } rows[] = {
        {{0}, 0, 0},
        {{0, 0, 0}, 3, 0},
        {{7}, 1, 7},
        {{0, 7, 0}, 3, 7},
        {{9, 1, 5}, 3, 5},
        {{9, 1}, 2, 9},
        {{4, 3, 2, 1}, 4, 3},
        {{100, 0, 1, 100000, 0, 3}, 6, 100},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint32_t latencies_us[6];
        for (size_t k = 0; k < COUNT_OF(latencies_us); k++)
            latencies_us[k] = rows[i].latencies_us[k];
        assert_int_equal(gray_median_us(latencies_us, rows[i].count), rows[i].median_us);
    }
}

static void a_node_is_gray_when_it_is_much_slower_in_both_measures(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t latency_us, siblings_us;
        bool becomes_gray;
    } rows[] = {
        {20000, 1000, true},   {6100, 1000, true},   {6000, 1000, false}, /* not 5 ms more */
        {30000, 20000, false}, {60000, 20000, false}, {61000, 20000, true}, /* more than three times */
        {900, 100, false},     {0, 1000, false},     {20000, 0, false},
        {UINT32_MAX, 1, true}, {UINT32_MAX, UINT32_MAX, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct gray gray = {0};
        uint64_t now_ms = 5000;
        ticks_until_change(&gray, &now_ms, rows[i].latency_us, rows[i].siblings_us, 1000);
        assert_int_equal(gray.is_gray, rows[i].becomes_gray);
    }
}

static void it_takes_a_second_to_become_gray_and_five_to_be_believed_again(void **unused)
{
    (void)unused;
    struct gray gray = {0};
    uint64_t now_ms = 5000;
    assert_int_equal(ticks_until_change(&gray, &now_ms, 50000, 1000, 1000), 1 + GRAY_AFTER_MS / TICK_MS);
    assert_true(gray.is_gray);
    assert_int_equal(ticks_until_change(&gray, &now_ms, 1000, 1000, 1000), 1 + GRAY_UNTIL_MS / TICK_MS);
    assert_false(gray.is_gray);
}

static void one_good_moment_makes_the_time_begin_anew(void **unused)
{
    (void)unused;
    struct gray gray = {0};
    uint64_t now_ms = 5000;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ticks_until_change(&gray, &now_ms, 50000, 1000, GRAY_AFTER_MS / TICK_MS), 0);
        assert_int_equal(ticks_until_change(&gray, &now_ms, 1000, 1000, 1), 0);
    }
    assert_false(gray.is_gray);
}

static void between_the_two_bounds_it_stays_what_it_is(void **unused)
{
    (void)unused;
    struct gray gray = {0};
    uint64_t now_ms = 5000;
    assert_int_equal(ticks_until_change(&gray, &now_ms, 5500, 1000, 1000), 0);
    gray.is_gray = true;
    assert_int_equal(ticks_until_change(&gray, &now_ms, 5500, 1000, 1000), 0);
}

static void noise_that_is_no_more_than_that_makes_nobody_gray(void **unused)
{
    (void)unused;
    struct gray gray = {0};
    uint64_t now_ms = 5000, seed = 3;
    uint32_t average_us = 0;
    for (int i = 0; i < 100000; i++) {
        uint32_t sample_us = random_below(&seed, 100) ? 300 + random_below(&seed, 600) : 20000;
        average_us = gray_average_us(average_us, sample_us);
        assert_false(gray_update(&gray, average_us, 500, now_ms += TICK_MS));
    }
}

static void an_average_follows_what_it_is_told(void **unused)
{
    (void)unused;
    uint32_t average_us = gray_average_us(0, 800);
    assert_int_equal(average_us, 800);
    average_us = gray_average_us(average_us, 1600);
    assert_int_equal(average_us, 900);
    for (int i = 0; i < 100; i++)
        average_us = gray_average_us(average_us, 0);
    assert_in_range(average_us, 1, 8); /* measured, however quick */
    for (int i = 0; i < 300; i++)
        average_us = gray_average_us(average_us, UINT32_MAX);
    assert_true(average_us > UINT32_MAX / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_median_leaves_out_what_was_not_measured),
        cmocka_unit_test(a_node_is_gray_when_it_is_much_slower_in_both_measures),
        cmocka_unit_test(it_takes_a_second_to_become_gray_and_five_to_be_believed_again),
        cmocka_unit_test(one_good_moment_makes_the_time_begin_anew),
        cmocka_unit_test(between_the_two_bounds_it_stays_what_it_is),
        cmocka_unit_test(noise_that_is_no_more_than_that_makes_nobody_gray),
        cmocka_unit_test(an_average_follows_what_it_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
