/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/budget.h"

#include "routing/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { RESERVE = BUDGET_FLOOR_PER_SECOND * BUDGET_WINDOW_MS / 1000, NOW_MS = 12345678 };

static uint32_t spend_all(struct budget *budget, uint64_t now_ms)
{
    uint32_t count = 0;
    while (budget_spend(budget, now_ms))
        count++;
    return count;
}

static void a_quiet_proxy_may_send_again_what_its_reserve_has(void **unused)
{
    (void)unused;
    struct budget budget = budget_share(20, 1);
    assert_int_equal(spend_all(&budget, NOW_MS), RESERVE);
    assert_int_equal(spend_all(&budget, NOW_MS + BUDGET_WINDOW_MS / 2), 0);
    assert_int_equal(spend_all(&budget, NOW_MS + 2 * BUDGET_WINDOW_MS), RESERVE);
}

static void workers_share_the_reserve(void **unused)
{
    (void)unused;
    struct budget budget = budget_share(20, 4);
    assert_int_equal(spend_all(&budget, NOW_MS), RESERVE / 4);
}

static void traffic_earns_its_share(void **unused)
{
    (void)unused;
    struct budget budget = budget_share(20, 1);
    budget_earn(&budget, 50000, NOW_MS);
    assert_int_equal(spend_all(&budget, NOW_MS), RESERVE + 10000);
}

static void what_was_earned_is_forgotten_after_the_window(void **unused)
{
    (void)unused;
    struct budget budget = budget_share(20, 1);
    for (uint64_t ms = 0; ms < 60000; ms += 100)
        budget_earn(&budget, 1000, NOW_MS + ms);
    uint32_t most = 20 * BUDGET_WINDOW_MS / 100 * 1000 / 100;
    assert_in_range(spend_all(&budget, NOW_MS + 60000), RESERVE + most * 85 / 100, RESERVE + most);
    assert_int_equal(spend_all(&budget, NOW_MS + 200000), RESERVE);
}

static void with_no_share_nothing_is_sent_again(void **unused)
{
    (void)unused;
    struct budget budget = budget_share(0, 1);
    budget_earn(&budget, 1000000, NOW_MS);
    assert_int_equal(spend_all(&budget, NOW_MS), 0);
}

/* In each second some requests, and some wishes to send again: in the window that ends where one is granted, no more are
 * than the share of what was sent in it, and the reserve. */
static void in_no_window_is_more_sent_again_than_the_share_of_its_traffic_and_the_reserve(void **unused)
{
    (void)unused;
    enum { SECONDS = 300, STEPS = BUDGET_WINDOW_MS / 1000 };
    uint64_t seed = 4711;
    for (int round = 0; round < 20; round++) {
        struct budget budget = budget_share(20, 1);
        uint64_t sent[SECONDS], again[SECONDS];
        for (uint64_t second = 0; second < SECONDS; second++) {
            uint64_t now_ms = NOW_MS + second * 1000;
            sent[second] = random_below(&seed, 5) ? random_below(&seed, 10000) : 0;
            again[second] = 0;
            budget_earn(&budget, sent[second], now_ms);
            uint32_t wishes = random_below(&seed, 3) ? random_below(&seed, 5000) : 0;
            for (uint32_t i = 0; i < wishes; i++)
                again[second] += budget_spend(&budget, now_ms);
            uint64_t sent_in_window = 0, again_in_window = 0;
            for (uint64_t back = 0; back < STEPS && back <= second; back++) {
                sent_in_window += sent[second - back];
                again_in_window += again[second - back];
            }
            if (again[second] > 0)
                assert_true(again_in_window <= sent_in_window / 5 + RESERVE);
        }
    }
}

static void time_that_stands_still_or_goes_back_between_threads_does_no_harm(void **unused)
{
    (void)unused;
    struct budget budget = budget_share(20, 1);
    budget_earn(&budget, 100, NOW_MS);
    budget_earn(&budget, 100, NOW_MS - 5000);
    assert_int_equal(spend_all(&budget, NOW_MS), RESERVE + 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_proxy_may_send_again_what_its_reserve_has),
        cmocka_unit_test(workers_share_the_reserve),
        cmocka_unit_test(traffic_earns_its_share),
        cmocka_unit_test(what_was_earned_is_forgotten_after_the_window),
        cmocka_unit_test(with_no_share_nothing_is_sent_again),
        cmocka_unit_test(in_no_window_is_more_sent_again_than_the_share_of_its_traffic_and_the_reserve),
        cmocka_unit_test(time_that_stands_still_or_goes_back_between_threads_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
