/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const struct command *row_of(const char *name)
{
    struct slice word = slice_of(name);
    const struct command *command = command_find(command_set_builtin(), &word, 1);
    assert_non_null(command);
    return command;
}

static void the_kind_of_a_command_decides_where_its_reply_or_its_time_has_no_bound(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        enum lane lane;
    } rows[] = {
        {"GET", LANE_ORDINARY},      {"SET", LANE_ORDINARY},   {"MGET", LANE_ORDINARY},   {"HGETALL", LANE_ORDINARY},
        {"LRANGE", LANE_ORDINARY},   {"SCAN", LANE_ORDINARY},  {"SMEMBERS", LANE_ORDINARY}, {"SINTER", LANE_ORDINARY},
        {"ZRANGE", LANE_ORDINARY},   {"DUMP", LANE_ORDINARY},  {"RESTORE", LANE_ORDINARY}, {"UNLINK", LANE_ORDINARY},
        {"KEYS", LANE_BULK},         {"SORT", LANE_BULK},      {"SORT_RO", LANE_BULK},    {"FLUSHALL", LANE_BULK},
        {"FLUSHDB", LANE_BULK},      {"SAVE", LANE_BULK},      {"DEBUG", LANE_BULK},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(lane_needed(row_of(rows[i].name), false, 100, 3), rows[i].lane);
}

static void a_large_request_of_any_kind_needs_the_bulk_lane(void **unused)
{
    (void)unused;
    const struct command *set = row_of("SET"), *mget = row_of("MGET");
    assert_int_equal(lane_needed(set, false, LANE_BULK_BYTES, 3), LANE_ORDINARY);
    assert_int_equal(lane_needed(set, false, LANE_BULK_BYTES + 1, 3), LANE_BULK);
    assert_int_equal(lane_needed(mget, false, 20000, LANE_BULK_WORDS), LANE_ORDINARY);
    assert_int_equal(lane_needed(mget, false, 20000, LANE_BULK_WORDS + 1), LANE_BULK);
    assert_int_equal(lane_needed(NULL, false, 100, 3), LANE_ORDINARY);
    assert_int_equal(lane_needed(NULL, false, LANE_BULK_BYTES + 1, 3), LANE_BULK);
}

/* So that who has the size at hand need not ask. A word takes at least "$0\r\n\r\n", the head "*1024\r\n". */
static void a_request_of_ordinary_size_has_few_words(void **unused)
{
    (void)unused;
    assert_true(LANE_ORDINARY_BYTES < LANE_BULK_WORDS * 6);
    assert_true(LANE_ORDINARY_BYTES < LANE_BULK_BYTES);
}

static void a_script_keeps_to_the_lane_of_scripts_however_large_it_is(void **unused)
{
    (void)unused;
    struct lane_habit habit = {0};
    assert_int_equal(lane_needed(row_of("EVAL"), true, 100, 3), LANE_SCRIPTS);
    assert_int_equal(lane_needed(row_of("EVAL"), true, LANE_BULK_BYTES + 1, 3), LANE_SCRIPTS);
    lane_note_large(&habit);
    assert_int_equal(lane_choose(LANE_SCRIPTS, &habit), LANE_SCRIPTS);
}

static void a_client_that_was_sent_something_large_is_on_the_bulk_lane_for_some_turns(void **unused)
{
    (void)unused;
    struct lane_habit habit = {0};
    assert_int_equal(lane_choose(LANE_ORDINARY, &habit), LANE_ORDINARY);
    lane_note_large(&habit);
    for (int i = 0; i < LANE_HABIT_TURNS; i++)
        assert_int_equal(lane_choose(LANE_ORDINARY, &habit), LANE_BULK);
    assert_int_equal(lane_choose(LANE_ORDINARY, &habit), LANE_ORDINARY);
}

static void a_client_that_goes_on_being_sent_large_replies_stays_on_the_bulk_lane(void **unused)
{
    (void)unused;
    struct lane_habit habit = {0};
    for (int i = 0; i < 10 * LANE_HABIT_TURNS; i++) {
        if (i % LANE_HABIT_TURNS == 0)
            lane_note_large(&habit);
        assert_int_equal(lane_choose(LANE_ORDINARY, &habit), LANE_BULK);
    }
}

struct asked {
    const struct command *command;
    struct slice words[4];
    size_t count;
};

static struct asked asked(const char *command, const char *key)
{
    return (struct asked){row_of(command), {slice_of(command), slice_of(key), SLICE("0"), SLICE("-1")}, 2};
}

static void note(struct lane_marks *marks, struct asked asked)
{
    lane_marks_note(marks, asked.command, asked.words, asked.count);
}

static bool has(const struct lane_marks *marks, struct asked asked)
{
    return lane_marks_has(marks, asked.command, asked.words, asked.count);
}

static void what_has_brought_a_large_reply_is_known_and_nothing_else(void **unused)
{
    (void)unused;
    static const char *const keys[] = {"k", "photo:7", "photo:1234", "a-key-that-is-longer-than-a-word-or-two", ""};
    static const char *const others[] = {"l", "photo:8", "photo:1235", "a-key-that-is-longer-than-a-word-or-too", "0"};
    struct lane_marks marks;
    lane_marks_init(&marks, 5);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_false(has(&marks, asked("GET", keys[i])));
        note(&marks, asked("GET", keys[i]));
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_true(has(&marks, asked("GET", keys[i])));
        assert_false(has(&marks, asked("GET", others[i])));
        assert_false(has(&marks, asked("STRLEN", keys[i])));
        assert_false(has(&marks, asked("APPEND", keys[i])));
    }
}

static void marks_are_forgotten_at_the_second_time_that_they_are_aged(void **unused)
{
    (void)unused;
    struct lane_marks marks;
    lane_marks_init(&marks, 5);
    note(&marks, asked("GET", "k"));
    lane_marks_age(&marks);
    assert_true(has(&marks, asked("GET", "k")));
    note(&marks, asked("GET", "k"));
    lane_marks_age(&marks);
    assert_true(has(&marks, asked("GET", "k")));
    lane_marks_age(&marks);
    assert_false(has(&marks, asked("GET", "k")));
}

static void requests_of_ordinary_size_are_looked_at_only_while_there_are_marks(void **unused)
{
    (void)unused;
    struct lane_marks marks;
    lane_marks_init(&marks, 5);
    assert_int_equal(marks.ordinary_bytes, LANE_ORDINARY_BYTES);
    note(&marks, asked("GET", "k"));
    assert_int_equal(marks.ordinary_bytes, 0);
    lane_marks_age(&marks);
    assert_int_equal(marks.ordinary_bytes, 0);
    lane_marks_age(&marks);
    assert_int_equal(marks.ordinary_bytes, LANE_ORDINARY_BYTES);
    lane_marks_age(&marks);
    assert_int_equal(marks.ordinary_bytes, LANE_ORDINARY_BYTES);
}

/* XREAD COUNT 5 STREAMS key id: all of them would be one. */
static void commands_whose_first_key_stands_elsewhere_or_that_have_none_are_not_marked(void **unused)
{
    (void)unused;
    struct lane_marks marks;
    lane_marks_init(&marks, 5);
    note(&marks, asked("XREAD", "COUNT"));
    note(&marks, asked("EVAL", "return 1"));
    note(&marks, asked("CLUSTER", "SLOTS"));
    lane_marks_note(&marks, row_of("GET"), &SLICE("GET"), 1);
    lane_marks_note(&marks, NULL, &SLICE("WHAT"), 1);
    assert_int_equal(marks.ordinary_bytes, LANE_ORDINARY_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kind_of_a_command_decides_where_its_reply_or_its_time_has_no_bound),
        cmocka_unit_test(a_large_request_of_any_kind_needs_the_bulk_lane),
        cmocka_unit_test(a_request_of_ordinary_size_has_few_words),
        cmocka_unit_test(a_script_keeps_to_the_lane_of_scripts_however_large_it_is),
        cmocka_unit_test(a_client_that_was_sent_something_large_is_on_the_bulk_lane_for_some_turns),
        cmocka_unit_test(a_client_that_goes_on_being_sent_large_replies_stays_on_the_bulk_lane),
        cmocka_unit_test(what_has_brought_a_large_reply_is_known_and_nothing_else),
        cmocka_unit_test(marks_are_forgotten_at_the_second_time_that_they_are_aged),
        cmocka_unit_test(requests_of_ordinary_size_are_looked_at_only_while_there_are_marks),
        cmocka_unit_test(commands_whose_first_key_stands_elsewhere_or_that_have_none_are_not_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
