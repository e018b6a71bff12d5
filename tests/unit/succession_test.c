/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/succession.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { MOST = 3 };

#define REPLICA(number) {.priority = (number), .is_well = true, .is_fit = true}
#define UNWELL(number)  {.priority = (number), .is_fit = true}
#define UNFIT(number)   {.priority = (number), .is_well = true}
#define ANY             SUCCESSION_NONE

static const struct {
    struct succession_replica replicas[MOST];
    size_t count, wanted;
    enum succession_verdict verdict;
    size_t about;
    int64_t priority;
    bool heirs[MOST]; /* where it is READY */
} cases[] = {
    {{REPLICA(100)}, 1, ANY, SUCCESSION_READY, 0, 0, {true}},
    {{REPLICA(100), REPLICA(100)}, 2, ANY, SUCCESSION_READY, 0, 0, {true, true}},
    {{REPLICA(100), REPLICA(10), REPLICA(10)}, 3, ANY, SUCCESSION_READY, 1, 0, {false, true, true}},
    {{REPLICA(0), REPLICA(100)}, 2, ANY, SUCCESSION_READY, 1, 0, {false, true}},
    {{UNWELL(1), REPLICA(100)}, 2, ANY, SUCCESSION_READY, 1, 0, {false, true}},
    {{UNFIT(200), REPLICA(100)}, 2, ANY, SUCCESSION_READY, 1, 0, {false, true}},
    {{REPLICA(100), UNFIT(100)}, 2, ANY, SUCCESSION_UNFIT, 1, 0, {false}},
    {{REPLICA(0), UNWELL(100)}, 2, ANY, SUCCESSION_NOBODY, SUCCESSION_NONE, 0, {false}},
    {{{0}}, 0, ANY, SUCCESSION_NOBODY, SUCCESSION_NONE, 0, {false}},

    {{REPLICA(100)}, 1, 0, SUCCESSION_READY, 0, 0, {true}},
    {{REPLICA(100), REPLICA(101)}, 2, 0, SUCCESSION_READY, 0, 0, {true, false}},
    {{REPLICA(100), REPLICA(0)}, 2, 0, SUCCESSION_READY, 0, 0, {true, false}},
    {{REPLICA(100), UNWELL(1)}, 2, 0, SUCCESSION_READY, 0, 0, {true, false}},
    {{REPLICA(100), REPLICA(100)}, 2, 0, SUCCESSION_RAISE, 0, 99, {false}},
    {{REPLICA(100), REPLICA(100), REPLICA(50)}, 3, 1, SUCCESSION_RAISE, 1, 49, {false}},
    {{REPLICA(100), REPLICA(2)}, 2, 0, SUCCESSION_RAISE, 0, 1, {false}},
    {{REPLICA(100), REPLICA(1)}, 2, 0, SUCCESSION_OVERRULED, 1, 0, {false}},
    {{REPLICA(1), REPLICA(1)}, 2, 0, SUCCESSION_OVERRULED, 1, 0, {false}},
    {{REPLICA(100), UNFIT(100)}, 2, 0, SUCCESSION_RAISE, 0, 99, {false}}, /* a Sentinel might take it all the same */
    {{REPLICA(0), REPLICA(100)}, 2, 0, SUCCESSION_BARRED, 0, 0, {false}},
    {{UNWELL(100), REPLICA(100)}, 2, 0, SUCCESSION_UNWELL, 0, 0, {false}},
    {{UNFIT(100), REPLICA(100)}, 2, 0, SUCCESSION_UNFIT, 0, 0, {false}},
};

static void it_is_known_whom_a_sentinel_may_promote(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool is_heir[MOST] = {false};
        struct succession_answer answer =
            succession_decide(cases[i].replicas, cases[i].count, cases[i].wanted, is_heir);
        if (answer.verdict != cases[i].verdict || answer.about != cases[i].about)
            fail_msg("case %zu: verdict %d about %zu", i, (int)answer.verdict, answer.about);
        if (answer.verdict == SUCCESSION_RAISE) assert_int_equal(answer.priority, cases[i].priority);
        for (size_t n = 0; n < cases[i].count && answer.verdict == SUCCESSION_READY; n++)
            assert_int_equal(is_heir[n], cases[i].heirs[n]);
    }
}

/* What RAISE asks for is enough, whatever the others have. */
static void a_priority_that_was_raised_is_enough(void **state)
{
    (void)state;
    for (int64_t one = 1; one < 6; one++) {
        for (int64_t other = 1; other < 6; other++) {
            struct succession_replica replicas[] = {REPLICA(3), REPLICA(one), REPLICA(other)};
            bool is_heir[3];
            struct succession_answer answer = succession_decide(replicas, 3, 0, is_heir);
            if (answer.verdict != SUCCESSION_RAISE) continue;
            assert_in_range(answer.priority, 1, 2);
            replicas[0].priority = answer.priority;
            assert_int_equal(succession_decide(replicas, 3, 0, is_heir).verdict, SUCCESSION_READY);
            assert_int_equal(succession_decide(replicas, 3, SUCCESSION_NONE, is_heir).about, 0);
            assert_true(is_heir[0] && !is_heir[1] && !is_heir[2]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_known_whom_a_sentinel_may_promote),
        cmocka_unit_test(a_priority_that_was_raised_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
