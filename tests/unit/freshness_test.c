/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/freshness.h"

#include "routing/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define HISTORY "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ANOTHER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* ---- marks ---- */

static void a_key_that_nobody_has_written_asks_for_nothing(void **state)
{
    (void)state;
    struct freshness_cell cell = {0};
    assert_int_equal(freshness_asked(&cell), 0);
}

static void while_any_write_is_in_flight_the_master_alone_may_answer(void **state)
{
    (void)state;
    struct freshness_cell cell = {0};
    freshness_begin(&cell);
    freshness_begin(&cell);
    assert_true(freshness_asked(&cell) == FRESHNESS_OF_MASTER);
    freshness_end(&cell, 100);
    assert_true(freshness_asked(&cell) == FRESHNESS_OF_MASTER);
    freshness_end(&cell, 120);
    assert_int_equal(freshness_asked(&cell), 120);
}

static void an_answer_that_is_noted_late_takes_nothing_back(void **state)
{
    (void)state;
    struct freshness_cell cell = {0};
    freshness_begin(&cell);
    freshness_begin(&cell);
    freshness_end(&cell, 120);
    freshness_end(&cell, 100);
    assert_int_equal(freshness_asked(&cell), 120);
}

static void a_write_that_never_left_leaves_no_mark(void **state)
{
    (void)state;
    struct freshness_cell cell = {0};
    freshness_begin(&cell);
    freshness_cancel(&cell);
    assert_int_equal(freshness_asked(&cell), 0);
}

static void keys_spread_over_all_cells_and_each_keeps_its_own(void **state)
{
    (void)state;
    enum { KEYS = 4 * FRESHNESS_CELLS };
    static uint8_t hits[FRESHNESS_CELLS];
    struct freshness *freshness = freshness_create(42);
    assert_non_null(freshness);
    uint32_t most = 0;
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        int size = snprintf(key, sizeof(key), "user:%d:session", i);
        uint32_t cell = freshness_cell_of(freshness, (struct slice){key, (size_t)size});
        assert_true(cell < FRESHNESS_CELLS);
        assert_int_equal(cell, freshness_cell_of(freshness, (struct slice){key, (size_t)size}));
        if (++hits[cell] > most) most = hits[cell];
    }
    assert_in_range(most, 5, 24); /* 4 on average; chance alone gives about 17 at most */
    freshness_destroy(freshness);
}

static void every_byte_of_a_key_counts_and_so_does_its_length(void **state)
{
    (void)state;
    struct freshness *freshness = freshness_create(7);
    char bytes[40] = {0};
    for (size_t size = 1; size <= sizeof(bytes); size++) {
        uint32_t cell = freshness_cell_of(freshness, (struct slice){bytes, size});
        assert_int_not_equal(cell, freshness_cell_of(freshness, (struct slice){bytes, size - 1}));
        for (size_t i = 0; i < size; i++) {
            bytes[i] = 'x';
            assert_int_not_equal(cell, freshness_cell_of(freshness, (struct slice){bytes, size}));
            bytes[i] = 0;
        }
    }
    freshness_destroy(freshness);
}

static void a_worker_with_an_older_topology_than_the_last_write_is_behind(void **state)
{
    (void)state;
    struct freshness *freshness = freshness_create(1);
    freshness_note_version(freshness, 5);
    freshness_note_version(freshness, 4);
    assert_true(freshness_is_behind(freshness, 4));
    assert_false(freshness_is_behind(freshness, 5));
    freshness_destroy(freshness);
}

/* ---- sessions ---- */

static void a_client_asks_for_what_it_knows_of_the_key_alone(void **state)
{
    (void)state;
    struct freshness_session session = {0};
    freshness_session_saw(&session, 1, 100);
    freshness_session_saw(&session, 2, 200);
    freshness_session_saw(&session, 1, 300);
    assert_int_equal(freshness_session_asked(&session, 1), 300);
    assert_int_equal(freshness_session_asked(&session, 2), 200);
    assert_int_equal(freshness_session_asked(&session, 3), 0);
}

static void what_is_known_of_no_key_holds_for_all(void **state)
{
    (void)state;
    struct freshness_session session = {0};
    freshness_session_saw(&session, 1, 300);
    freshness_session_raise(&session, 200);
    freshness_session_raise(&session, 150);
    assert_int_equal(freshness_session_asked(&session, 1), 300);
    assert_int_equal(freshness_session_asked(&session, 9), 200);
}

static void what_is_forgotten_is_the_oldest_and_holds_for_all_keys_from_then_on(void **state)
{
    (void)state;
    struct freshness_session session = {0};
    for (uint32_t i = 0; i < FRESHNESS_SEEN_MAX; i++)
        freshness_session_saw(&session, i, 100 + i);
    freshness_session_saw(&session, 0, 500); /* no longer the oldest */
    assert_int_equal(freshness_session_asked(&session, 777), 0);
    freshness_session_saw(&session, 1000, 600);
    assert_int_equal(freshness_session_asked(&session, 777), 101);
    assert_int_equal(freshness_session_asked(&session, 0), 500);
}

/* Beside a session that forgets nothing. */
static void whatever_a_session_forgets_it_never_asks_for_less_than_it_knows(void **state)
{
    (void)state;
    enum { CELLS = 100, STEPS = 20000 };
    uint64_t seed = 99, known[CELLS] = {0};
    struct freshness_session session = {0};
    for (uint64_t now_us = 1; now_us < STEPS; now_us++) {
        uint32_t cell = random_below(&seed, 2) ? random_below(&seed, 10) : random_below(&seed, CELLS);
        if (random_below(&seed, 2)) {
            freshness_session_saw(&session, cell, now_us);
            known[cell] = now_us;
        }
        uint32_t asked = random_below(&seed, CELLS);
        assert_true(freshness_session_asked(&session, asked) >= known[asked]);
        assert_true(freshness_session_asked(&session, asked) < now_us + 1);
    }
}

/* ---- samples ---- */

static void a_replica_is_fresh_as_of_the_newest_sample_that_it_has_reached(void **state)
{
    (void)state;
    struct freshness_samples samples = {0};
    freshness_sample(&samples, HISTORY, 1000, 10);
    freshness_sample(&samples, HISTORY, 2000, 20);
    freshness_sample(&samples, HISTORY, 3000, 30);
    static const struct {
        int64_t applied;
        uint64_t fresh_us;
    } examples[] = {{0, 0}, {999, 0}, {1000, 10}, {1999, 10}, {2000, 20}, {2999, 20}, {3000, 30}, {9999, 30}};
    for (size_t i = 0; i < sizeof(examples) / sizeof(*examples); i++)
        assert_int_equal(freshness_of(&samples, HISTORY, examples[i].applied), examples[i].fresh_us);
}

static void a_replica_of_another_history_is_not_fresh_at_all(void **state)
{
    (void)state;
    struct freshness_samples samples = {0};
    assert_int_equal(freshness_of(&samples, "", 5000), 0);
    freshness_sample(&samples, HISTORY, 1000, 10);
    assert_int_equal(freshness_of(&samples, ANOTHER, 5000), 0);
    assert_int_equal(freshness_of(&samples, "", 5000), 0);
}

static void while_nothing_is_written_the_same_offset_gets_fresher(void **state)
{
    (void)state;
    struct freshness_samples samples = {0};
    for (uint64_t at_us = 10; at_us < 10000; at_us += 10)
        freshness_sample(&samples, HISTORY, 1000, at_us);
    assert_int_equal(samples.count, 1);
    assert_int_equal(freshness_of(&samples, HISTORY, 1000), 9990);
}

static void a_master_with_another_history_or_a_lower_offset_begins_anew(void **state)
{
    (void)state;
    struct freshness_samples samples = {0};
    freshness_sample(&samples, HISTORY, 1000, 10);
    freshness_sample(&samples, HISTORY, 500, 20); /* it has been started anew */
    assert_int_equal(freshness_of(&samples, HISTORY, 600), 20);
    freshness_sample(&samples, ANOTHER, 400, 30);
    assert_int_equal(freshness_of(&samples, HISTORY, 600), 0);
    assert_int_equal(freshness_of(&samples, ANOTHER, 400), 30);
}

/* Beside all samples: never fresher than true, and less only by what was thinned out. */
static void of_many_samples_enough_are_kept_for_replicas_that_lag_far(void **state)
{
    (void)state;
    enum { TAKEN = 5000 };
    struct freshness_samples samples = {0};
    for (int i = 1; i <= TAKEN; i++)
        freshness_sample(&samples, HISTORY, i * 100, (uint64_t)i * 2000);
    for (int lag = 0; lag < TAKEN; lag++) {
        int reached = TAKEN - lag;
        uint64_t fresh_us = freshness_of(&samples, HISTORY, reached * 100);
        assert_true(fresh_us <= (uint64_t)reached * 2000);
        if (lag < FRESHNESS_SAMPLES_MAX / 2 - 1) assert_int_equal(fresh_us, (uint64_t)reached * 2000);
    }
    assert_true(freshness_of(&samples, HISTORY, (TAKEN - 300) * 100) > 0);
}

static void a_place_settles_by_itself_and_says_nothing_of_others(void **state)
{
    (void)state;
    struct freshness *freshness = freshness_create(9);
    assert_non_null(freshness);
    assert_int_equal(freshness_settled_us(freshness, 7), 0);
    freshness_unsettle(freshness, FRESHNESS_PLACES, 500); /* of no place */
    freshness_unsettle(freshness, 7, 1000);
    freshness_unsettle(freshness, FRESHNESS_PLACES - 1, 2000);
    freshness_unsettle(freshness, 7, 3000);
    assert_int_equal(freshness_settled_us(freshness, 7), 3000);
    assert_int_equal(freshness_settled_us(freshness, FRESHNESS_PLACES - 1), 2000);
    assert_int_equal(freshness_settled_us(freshness, 8), 0);
    assert_int_equal(freshness_settled_us(freshness, FRESHNESS_PLACES), 0);
    freshness_destroy(freshness);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_that_nobody_has_written_asks_for_nothing),
        cmocka_unit_test(while_any_write_is_in_flight_the_master_alone_may_answer),
        cmocka_unit_test(an_answer_that_is_noted_late_takes_nothing_back),
        cmocka_unit_test(a_write_that_never_left_leaves_no_mark),
        cmocka_unit_test(keys_spread_over_all_cells_and_each_keeps_its_own),
        cmocka_unit_test(every_byte_of_a_key_counts_and_so_does_its_length),
        cmocka_unit_test(a_worker_with_an_older_topology_than_the_last_write_is_behind),
        cmocka_unit_test(a_client_asks_for_what_it_knows_of_the_key_alone),
        cmocka_unit_test(what_is_known_of_no_key_holds_for_all),
        cmocka_unit_test(what_is_forgotten_is_the_oldest_and_holds_for_all_keys_from_then_on),
        cmocka_unit_test(whatever_a_session_forgets_it_never_asks_for_less_than_it_knows),
        cmocka_unit_test(a_replica_is_fresh_as_of_the_newest_sample_that_it_has_reached),
        cmocka_unit_test(a_replica_of_another_history_is_not_fresh_at_all),
        cmocka_unit_test(while_nothing_is_written_the_same_offset_gets_fresher),
        cmocka_unit_test(a_master_with_another_history_or_a_lower_offset_begins_anew),
        cmocka_unit_test(a_place_settles_by_itself_and_says_nothing_of_others),
        cmocka_unit_test(of_many_samples_enough_are_kept_for_replicas_that_lag_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
