/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/spread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

#define IDLE(clients) {clients, 0, false}
#define BUSY(clients, percent) {clients, percent, false}
#define CLOSED(clients) {clients, 0, true}

enum { WORKERS_MOST = 8 };

/* The first is who has accepted. */
static const struct sample {
    const char *title;
    struct spread_load loads[4];
    size_t count, expected;
} samples[] = {
    {"alone", {BUSY(7, 100)}, 1, 0},
    {"nobody has any", {IDLE(0), IDLE(0), IDLE(0)}, 3, 0},
    {"as many as the other", {IDLE(5), IDLE(5)}, 2, 0},
    {"one more than the other", {IDLE(5), IDLE(4)}, 2, 0},
    {"two more than the other", {IDLE(5), IDLE(3)}, 2, 1},
    {"fewer than the others", {IDLE(1), IDLE(2), IDLE(3)}, 3, 0},
    {"the one with fewest gets it", {IDLE(9), IDLE(4), IDLE(3), IDLE(5)}, 4, 2},
    {"of two with fewest the first", {IDLE(9), IDLE(4), IDLE(3), IDLE(3)}, 4, 2},
    {"an eighth more of many", {IDLE(112), IDLE(100)}, 2, 0},
    {"more than an eighth more", {IDLE(114), IDLE(100)}, 2, 1},
    {"millions", {IDLE(4000000), IDLE(3000000)}, 2, 1},
    {"the other is closed", {IDLE(9), CLOSED(0)}, 2, 0},
    {"the one with fewest is closed", {IDLE(9), CLOSED(0), IDLE(5)}, 3, 2},
    {"closed itself", {CLOSED(0), IDLE(3)}, 2, 1},
    {"all are closed", {CLOSED(3), CLOSED(0)}, 2, 0},
    {"half a CPU is not busy", {BUSY(3, 50), IDLE(3)}, 2, 0},
    {"busy, the other is idle", {BUSY(3, 100), IDLE(3)}, 2, 1},
    {"busy with one client, the other idle with five", {BUSY(1, 100), IDLE(5)}, 2, 1},
    {"busy with one client, the other idle with more", {BUSY(1, 100), IDLE(6)}, 2, 0},
    {"busy, the other a little less", {BUSY(4, 100), BUSY(4, 90)}, 2, 0},
    {"busy, the other much less", {BUSY(4, 100), BUSY(4, 70)}, 2, 1},
    {"idle, the other is busy", {IDLE(6), BUSY(3, 100)}, 2, 0},
    {"idle, the other is busy, but has very few", {IDLE(20), BUSY(2, 100)}, 2, 1},
    {"more than 100 % is 100 %", {BUSY(1, 100000), IDLE(20)}, 2, 0},
};

static void it_stays_unless_another_has_markedly_less(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        size_t chosen = spread_choose(samples[i].loads, samples[i].count);
        if (chosen != samples[i].expected)
            fail_msg("%s: %zu instead of %zu", samples[i].title, chosen, samples[i].expected);
    }
}

/* Of workers that stand in a ring: what each sees begins with itself. Returns who got it. */
static size_t accept_at(struct spread_load *workers, size_t count, size_t at)
{
    struct spread_load seen[WORKERS_MOST];
    for (size_t i = 0; i < count; i++)
        seen[i] = workers[(at + i) % count];
    size_t chosen = (at + spread_choose(seen, count)) % count;
    workers[chosen].clients++;
    return chosen;
}

static void bounds_of(const struct spread_load *workers, size_t count, uint32_t *least, uint32_t *most)
{
    *least = UINT32_MAX;
    *most = 0;
    for (size_t i = 0; i < count; i++) {
        *least = workers[i].clients < *least ? workers[i].clients : *least;
        *most = workers[i].clients > *most ? workers[i].clients : *most;
    }
}

/* Whoever accepts, also if it is always the same one. */
static void few_clients_are_spread_evenly(void **unused)
{
    (void)unused;
    for (size_t count = 1; count <= WORKERS_MOST; count++) {
        for (uint32_t seed = 0; seed < 50; seed++) {
            struct spread_load workers[WORKERS_MOST] = {{0}};
            uint64_t state = seed;
            for (size_t i = 0; i < 10 * count; i++) {
                state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                accept_at(workers, count, seed == 0 ? 0 : (size_t)(state >> 33) % count);
                uint32_t least, most;
                bounds_of(workers, count, &least, &most);
                assert_in_range(most - least, 0, 2);
            }
        }
    }
}

/* Of ten thousand that a hash has spread, few are handed over, and none has an eighth more than another. */
static void a_storm_is_left_to_the_kernel(void **unused)
{
    (void)unused;
    struct spread_load workers[4] = {{0}};
    uint64_t state = 1;
    size_t handed_over = 0;
    for (size_t i = 0; i < 10000; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        size_t at = (size_t)(state >> 33) % COUNT_OF(workers);
        handed_over += accept_at(workers, COUNT_OF(workers), at) != at;
    }
    uint32_t least, most;
    bounds_of(workers, COUNT_OF(workers), &least, &most);
    assert_in_range(most, least, least + least / 8 + 1);
    assert_in_range(handed_over, 0, 200);
}

/* All clients of one worker have left: those that come then fill it up. */
static void who_has_lost_all_is_filled_up(void **unused)
{
    (void)unused;
    struct spread_load workers[2] = {IDLE(0), IDLE(20)};
    for (size_t i = 0; i < 18; i++)
        assert_int_equal(accept_at(workers, 2, 1), 0);
    assert_int_equal(accept_at(workers, 2, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_stays_unless_another_has_markedly_less),
        cmocka_unit_test(few_clients_are_spread_evenly),
        cmocka_unit_test(a_storm_is_left_to_the_kernel),
        cmocka_unit_test(who_has_lost_all_is_filled_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
