/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/breaker.h"

#include "routing/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

static const struct breaker_limits limits = {
    .failures = 3, .ratio = 50, .base_ms = 20, .rest_max_ms = 1000, .open_max_ms = 60000, .trial_max_ms = 3000};

/* A breaker in a history: its word, the time, and chance. */
struct scene {
    uint64_t word, now_ms, seed;
};

static struct scene begin(void) { return (struct scene){.now_ms = 1000000, .seed = 77}; }

static void happens(struct scene *scene, enum breaker_event event)
{
    scene->word = breaker_next(scene->word, event, &limits, scene->now_ms, &scene->seed);
}

static enum breaker_state state(const struct scene *scene) { return breaker_state_of(scene->word); }

static void pass_until_due(struct scene *scene)
{
    uint64_t due_ms = breaker_due_ms(scene->word, &limits);
    scene->now_ms = due_ms > scene->now_ms ? due_ms : scene->now_ms;
}

static void fail_and_rest(struct scene *scene)
{
    happens(scene, BREAKER_FAILED);
    pass_until_due(scene);
}

static struct scene closed_after(uint32_t failures)
{
    struct scene scene = begin();
    for (uint32_t i = 0; i < failures; i++)
        fail_and_rest(&scene);
    return scene;
}

static struct scene opened(void)
{
    struct scene scene = closed_after(limits.failures - 1);
    happens(&scene, BREAKER_FAILED);
    return scene;
}

static struct scene tried(void)
{
    struct scene scene = opened();
    pass_until_due(&scene);
    happens(&scene, BREAKER_TRY);
    return scene;
}

static void it_opens_with_the_last_of_so_many_failures_in_a_row(void **unused)
{
    (void)unused;
    struct scene scene = begin();
    for (uint32_t i = 1; i < limits.failures; i++) {
        fail_and_rest(&scene);
        assert_int_equal(state(&scene), BREAKER_CLOSED);
        assert_int_equal(breaker_failures_of(scene.word), i);
    }
    happens(&scene, BREAKER_FAILED);
    assert_int_equal(state(&scene), BREAKER_OPEN);
}

static void an_answer_between_failures_makes_them_begin_anew(void **unused)
{
    (void)unused;
    struct scene scene = begin();
    for (int i = 0; i < 100; i++) {
        fail_and_rest(&scene);
        fail_and_rest(&scene);
        happens(&scene, BREAKER_SUCCEEDED);
        assert_int_equal(breaker_failures_of(scene.word), 0);
    }
    assert_int_equal(state(&scene), BREAKER_CLOSED);
}

static void connections_that_break_together_are_one_failure(void **unused)
{
    (void)unused;
    struct scene scene = begin();
    for (int i = 0; i < 50; i++)
        happens(&scene, BREAKER_FAILED);
    assert_int_equal(state(&scene), BREAKER_CLOSED);
    assert_int_equal(breaker_failures_of(scene.word), 1);
    pass_until_due(&scene);
    happens(&scene, BREAKER_FAILED);
    assert_int_equal(breaker_failures_of(scene.word), 2);
}

/* What every event does in every state: once it is due, and before. */
static void each_event_leads_from_each_state_where_the_drawing_says(void **unused)
{
    (void)unused;
    static const struct {
        enum breaker_event event;
        enum breaker_state from_closed, from_last, from_open, from_open_due, from_half, from_half_due;
    } rows[] = {
        {BREAKER_FAILED, BREAKER_CLOSED, BREAKER_OPEN, BREAKER_OPEN, BREAKER_OPEN, BREAKER_OPEN, BREAKER_OPEN},
        {BREAKER_OVERRUN, BREAKER_OPEN, BREAKER_OPEN, BREAKER_OPEN, BREAKER_OPEN, BREAKER_HALF_OPEN, BREAKER_HALF_OPEN},
        {BREAKER_SUCCEEDED, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_OPEN, BREAKER_OPEN, BREAKER_HALF_OPEN,
         BREAKER_HALF_OPEN},
        {BREAKER_RELEASED, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_OPEN, BREAKER_OPEN, BREAKER_HALF_OPEN,
         BREAKER_HALF_OPEN},
        {BREAKER_TRY, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN, BREAKER_HALF_OPEN,
         BREAKER_HALF_OPEN},
        {BREAKER_PROVEN, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_OPEN, BREAKER_OPEN, BREAKER_CLOSED, BREAKER_CLOSED},
        {BREAKER_ABANDONED, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_OPEN, BREAKER_OPEN, BREAKER_OPEN, BREAKER_OPEN},
        {BREAKER_SEEN, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_OPEN, BREAKER_OPEN, BREAKER_HALF_OPEN, BREAKER_HALF_OPEN},
        {BREAKER_RESET, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_CLOSED, BREAKER_CLOSED},
    };
    assert_int_equal(COUNT_OF(rows), BREAKER_EVENT_COUNT);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scene scenes[] = {begin(), closed_after(limits.failures - 1), opened(), opened(), tried(), tried()};
        const enum breaker_state expected[] = {rows[i].from_closed,   rows[i].from_last, rows[i].from_open,
                                               rows[i].from_open_due, rows[i].from_half, rows[i].from_half_due};
        pass_until_due(&scenes[3]);
        pass_until_due(&scenes[5]);
        for (size_t k = 0; k < COUNT_OF(scenes); k++) {
            happens(&scenes[k], rows[i].event);
            assert_int_equal(state(&scenes[k]), expected[k]);
        }
    }
}

static void the_first_wait_is_short_and_each_failed_trial_doubles_its_bound_up_to_the_cap(void **unused)
{
    (void)unused;
    uint64_t most_ms[16] = {0};
    for (uint64_t chance = 1; chance < 3000; chance++) {
        struct scene scene = opened();
        scene.seed = chance * 0x9e3779b97f4a7c15U;
        happens(&scene, BREAKER_RESET);
        happens(&scene, BREAKER_OVERRUN);
        for (size_t trial = 0; trial < COUNT_OF(most_ms); trial++) {
            uint64_t wait_ms = breaker_due_ms(scene.word, &limits) - scene.now_ms;
            assert_true(wait_ms >= 1);
            most_ms[trial] = wait_ms > most_ms[trial] ? wait_ms : most_ms[trial];
            pass_until_due(&scene);
            happens(&scene, BREAKER_TRY);
            assert_int_equal(state(&scene), BREAKER_HALF_OPEN);
            happens(&scene, BREAKER_FAILED);
        }
    }
    for (size_t trial = 0; trial < COUNT_OF(most_ms); trial++) {
        uint64_t ceiling_ms = limits.base_ms << trial;
        ceiling_ms = ceiling_ms < limits.open_max_ms ? ceiling_ms : limits.open_max_ms;
        assert_in_range(most_ms[trial], ceiling_ms * 95 / 100, ceiling_ms);
    }
}

/* One that answers PING and nothing else. */
static void after_a_trial_the_next_failure_opens_it_for_longer_unless_a_request_was_answered(void **unused)
{
    (void)unused;
    struct scene scene = tried();
    for (uint32_t round = 1; round < 10; round++) {
        assert_int_equal(breaker_failures_of(scene.word), round);
        happens(&scene, BREAKER_PROVEN);
        assert_int_equal(state(&scene), BREAKER_CLOSED);
        pass_until_due(&scene);
        happens(&scene, BREAKER_FAILED);
        assert_int_equal(state(&scene), BREAKER_OPEN);
        pass_until_due(&scene);
        happens(&scene, BREAKER_TRY);
    }
    happens(&scene, BREAKER_PROVEN);
    happens(&scene, BREAKER_SUCCEEDED);
    fail_and_rest(&scene);
    assert_int_equal(state(&scene), BREAKER_CLOSED);
    fail_and_rest(&scene);
    happens(&scene, BREAKER_FAILED);
    assert_int_equal(state(&scene), BREAKER_OPEN);
    assert_int_equal(breaker_failures_of(scene.word), 1);
}

static void who_asks_for_a_shorter_cap_gets_an_earlier_trial_of_the_same_state(void **unused)
{
    (void)unused;
    struct breaker_limits of_master = limits;
    of_master.open_max_ms = 1000;
    struct scene scene = opened();
    for (int i = 0; i < 30; i++) {
        pass_until_due(&scene);
        happens(&scene, BREAKER_TRY);
        happens(&scene, BREAKER_FAILED);
    }
    assert_true(breaker_due_ms(scene.word, &of_master) <= scene.now_ms + 1000);
    assert_true(breaker_due_ms(scene.word, &of_master) <= breaker_due_ms(scene.word, &limits));
}

static void one_that_is_seen_well_again_is_due_at_once(void **unused)
{
    (void)unused;
    struct scene scene = opened();
    for (int i = 0; i < 30; i++) {
        pass_until_due(&scene);
        happens(&scene, BREAKER_TRY);
        happens(&scene, BREAKER_FAILED);
    }
    happens(&scene, BREAKER_SEEN);
    scene.now_ms++;
    happens(&scene, BREAKER_TRY);
    assert_int_equal(state(&scene), BREAKER_HALF_OPEN);
}

static void a_trial_whose_maker_forgets_it_is_made_by_another_when_its_time_is_over(void **unused)
{
    (void)unused;
    struct scene scene = tried();
    uint64_t before = scene.word;
    scene.now_ms += limits.trial_max_ms - 1;
    happens(&scene, BREAKER_TRY);
    assert_int_equal(scene.word, before);
    scene.now_ms++;
    happens(&scene, BREAKER_TRY);
    assert_int_not_equal(scene.word, before);
    assert_int_equal(state(&scene), BREAKER_HALF_OPEN);
}

/* Several workers that see the same: one of them makes the trial, one says that it opened. */
static void of_all_who_tell_the_same_one_changes_the_state(void **unused)
{
    (void)unused;
    struct breaker breaker = {0};
    uint64_t seed = 5, now_ms = 1000;
    enum breaker_state was;
    int openings = 0, trials = 0;
    for (int i = 0; i < 100; i++) {
        openings += breaker_tell(&breaker, BREAKER_FAILED, &limits, now_ms, &seed, &was);
        now_ms = breaker_due_ms(breaker_word(&breaker), &limits);
        if (breaker_state_of(breaker_word(&breaker)) == BREAKER_OPEN)
            break;
    }
    for (int worker = 0; worker < 8; worker++)
        trials += breaker_tell(&breaker, BREAKER_TRY, &limits, now_ms, &seed, &was);
    assert_int_equal(openings, 1);
    assert_int_equal(trials, 1);
    assert_int_equal(was, BREAKER_OPEN);
    assert_true(breaker_tell(&breaker, BREAKER_PROVEN, &limits, now_ms, &seed, &was));
    assert_int_equal(was, BREAKER_HALF_OPEN);
    assert_false(breaker_tell(&breaker, BREAKER_PROVEN, &limits, now_ms, &seed, &was));
    assert_false(breaker_tell(&breaker, BREAKER_SUCCEEDED, &limits, now_ms, &seed, &was));
    assert_int_equal(breaker_failures_of(breaker_word(&breaker)), 0);
}

static void a_window_is_over_its_ratio_only_with_enough_requests(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t requests, failed, ratio;
        bool is_over;
    } rows[] = {
        {0, 0, 50, false},    {19, 19, 50, false},  {20, 20, 50, true},     {20, 10, 50, false},
        {20, 11, 50, true},   {100, 50, 50, false}, {100, 51, 50, true},    {1000000, 600000, 50, true},
        {20, 20, 100, false}, {200, 3, 1, true},    {1000000, 1000, 50, false}, {5, 40, 50, true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint64_t window = breaker_window_next(0, rows[i].requests, rows[i].failed, 50000);
        assert_int_equal(breaker_window_is_over(window, rows[i].ratio), rows[i].is_over);
    }
}

static void a_window_that_has_passed_is_forgotten(void **unused)
{
    (void)unused;
    uint64_t window = breaker_window_next(0, 1000, 900, 50000);
    assert_true(breaker_window_is_over(breaker_window_next(window, 1, 0, 50000 + BREAKER_WINDOW_MS - 1), 50));
    assert_false(breaker_window_is_over(breaker_window_next(window, 1, 0, 50000 + BREAKER_WINDOW_MS), 50));
    assert_true(breaker_window_is_over(breaker_window_next(window, 1, 0, 49999), 50)); /* another worker's clock */
}

static void a_window_keeps_the_ratio_of_more_than_it_can_count(void **unused)
{
    (void)unused;
    uint64_t window = 0;
    for (int i = 0; i < 10000; i++)
        window = breaker_window_next(window, 100, 30, 50000);
    assert_true(breaker_window_is_over(window, 25));
    assert_false(breaker_window_is_over(window, 35));
}

/* Whatever happens in whatever order: an open breaker is due within its cap, never changes by an answer of somebody
 * else, is half-open only after somebody has tried, and always finds its way back. */
static void random_histories_keep_what_is_promised(void **unused)
{
    (void)unused;
    uint64_t chance = 12345;
    for (int history = 0; history < 2000; history++) {
        struct scene scene = begin();
        scene.seed = random_next(&chance) | 1;
        for (int step = 0; step < 200; step++) {
            enum breaker_event event = (enum breaker_event)random_below(&chance, BREAKER_EVENT_COUNT);
            enum breaker_state before = state(&scene);
            scene.now_ms += random_below(&chance, 2000);
            uint64_t due_ms = breaker_due_ms(scene.word, &limits);
            happens(&scene, event);
            enum breaker_state after = state(&scene);
            if (after == BREAKER_HALF_OPEN && before != BREAKER_HALF_OPEN)
                assert_true(before == BREAKER_OPEN && event == BREAKER_TRY && scene.now_ms >= due_ms);
            if (after == BREAKER_CLOSED && before != BREAKER_CLOSED)
                assert_true(event == BREAKER_RESET || (event == BREAKER_PROVEN && before == BREAKER_HALF_OPEN));
            if (after == BREAKER_OPEN && before == BREAKER_CLOSED)
                assert_true(event == BREAKER_FAILED || event == BREAKER_OVERRUN);
            assert_true(breaker_due_ms(scene.word, &limits) <= scene.now_ms + limits.open_max_ms);
            if (after == BREAKER_CLOSED)
                assert_true(breaker_failures_of(scene.word) < limits.failures);
        }
        for (int i = 0; i < 3 && state(&scene) != BREAKER_CLOSED; i++) {
            pass_until_due(&scene);
            happens(&scene, BREAKER_TRY);
            happens(&scene, BREAKER_PROVEN);
        }
        assert_int_equal(state(&scene), BREAKER_CLOSED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_with_the_last_of_so_many_failures_in_a_row),
        cmocka_unit_test(an_answer_between_failures_makes_them_begin_anew),
        cmocka_unit_test(connections_that_break_together_are_one_failure),
        cmocka_unit_test(each_event_leads_from_each_state_where_the_drawing_says),
        cmocka_unit_test(the_first_wait_is_short_and_each_failed_trial_doubles_its_bound_up_to_the_cap),
        cmocka_unit_test(after_a_trial_the_next_failure_opens_it_for_longer_unless_a_request_was_answered),
        cmocka_unit_test(who_asks_for_a_shorter_cap_gets_an_earlier_trial_of_the_same_state),
        cmocka_unit_test(one_that_is_seen_well_again_is_due_at_once),
        cmocka_unit_test(a_trial_whose_maker_forgets_it_is_made_by_another_when_its_time_is_over),
        cmocka_unit_test(of_all_who_tell_the_same_one_changes_the_state),
        cmocka_unit_test(a_window_is_over_its_ratio_only_with_enough_requests),
        cmocka_unit_test(a_window_that_has_passed_is_forgotten),
        cmocka_unit_test(a_window_keeps_the_ratio_of_more_than_it_can_count),
        cmocka_unit_test(random_histories_keep_what_is_promised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
