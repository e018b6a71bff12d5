/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/hold.h"

#include "routing/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

static void bounds_are_shared_evenly_and_rounded_up(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t max_requests, max_bytes, workers, requests, bytes;
    } samples[] = {
        {1000, 4096, 1, 1000, 4096},
        {1000, 4096, 4, 250, 1024},
        {10, 10, 3, 4, 4},
        {1, 1, 8, 1, 1},
        {8, 8, 8, 1, 1},
        {9, 9, 8, 2, 2},
        {0, 0, 4, 0, 0},
        {0, 100, 1, 0, 100},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct hold hold = hold_share(samples[i].max_requests, samples[i].max_bytes, samples[i].workers);
        assert_int_equal(hold.max_requests, samples[i].requests);
        assert_int_equal(hold.max_bytes, samples[i].bytes);
        assert_int_equal(hold.requests, 0);
        assert_int_equal(hold.bytes, 0);
    }
}

static void request_may_wait_unless_a_bound_would_be_passed(void **unused)
{
    (void)unused;
    static const struct {
        struct hold held;
        size_t bytes;
        bool expected;
    } samples[] = {
        /* requests, bytes, max_requests, max_bytes */
        {{0, 0, 3, 100}, 0, true},        {{0, 0, 3, 100}, 100, true},
        {{0, 0, 3, 100}, 101, true}, /* larger than the bound, but alone */
        {{0, 0, 3, 100}, 1 << 30, true},  {{0, 0, 1, 0}, 10, true},
        {{1, 10, 3, 100}, 90, true},      {{1, 10, 3, 100}, 91, false},
        {{1, 100, 3, 100}, 0, true},      {{1, 100, 3, 100}, 1, false},
        {{1, 1 << 30, 3, 100}, 1, false}, /* behind the large one */
        {{1, 1 << 30, 3, 100}, 0, false}, {{2, 20, 3, 100}, 10, true},
        {{3, 30, 3, 100}, 10, false},     {{3, 30, 3, 100}, 0, false},
        {{1, 10, 1, 100}, 10, false},     {{0, 0, 0, 100}, 0, false}, /* nothing may wait */
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct hold hold = samples[i].held;
        assert_int_equal(hold_enter(&hold, samples[i].bytes), samples[i].expected);
        assert_int_equal(hold.requests, samples[i].held.requests + samples[i].expected);
        assert_int_equal(hold.bytes, samples[i].held.bytes + (samples[i].expected ? samples[i].bytes : 0));
    }
}

static void one_that_leaves_makes_room_for_one_that_waits(void **unused)
{
    (void)unused;
    struct hold hold = hold_share(2, 100, 1);
    assert_true(hold_enter(&hold, 60));
    assert_true(hold_enter(&hold, 40));
    assert_false(hold_enter(&hold, 1));
    hold_leave(&hold, 60);
    assert_false(hold_enter(&hold, 61));
    assert_true(hold_enter(&hold, 60));
    hold_leave(&hold, 40);
    hold_leave(&hold, 60);
    assert_int_equal(hold.requests, 0);
    assert_int_equal(hold.bytes, 0);
}

/* Whatever comes and goes, the counts are those of what is inside, and the bounds hold. */
static void counts_follow_any_coming_and_going(void **unused)
{
    (void)unused;
    uint64_t seed = 20240611;
    struct hold hold = hold_share(20, 1000, 1);
    size_t held[20], count = 0;
    uint64_t bytes = 0;
    unsigned refused = 0, taken = 0;
    for (int step = 0; step < 100000; step++) {
        if (count > 0 && random_below(&seed, 100) < 45) {
            uint32_t which = random_below(&seed, (uint32_t)count);
            hold_leave(&hold, held[which]);
            bytes -= held[which];
            held[which] = held[--count];
        } else {
            size_t size = random_below(&seed, random_below(&seed, 50) == 0 ? 3000 : 90);
            bool has_room = count < 20 && (count == 0 || bytes + size <= 1000);
            assert_int_equal(hold_enter(&hold, size), has_room);
            if (has_room) {
                held[count++] = size;
                bytes += size;
            }
            taken += has_room;
            refused += !has_room;
        }
        assert_int_equal(hold.requests, count);
        assert_int_equal(hold.bytes, bytes);
    }
    assert_true(taken > 1000 && refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_are_shared_evenly_and_rounded_up),
        cmocka_unit_test(request_may_wait_unless_a_bound_would_be_passed),
        cmocka_unit_test(one_that_leaves_makes_room_for_one_that_waits),
        cmocka_unit_test(counts_follow_any_coming_and_going),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
