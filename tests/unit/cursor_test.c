/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define BIT(number) ((uint64_t)1 << (number))

static void marks_are_made_of_the_run_id_alone_and_never_nothing(void **state)
{
    (void)state;
    char run_id[] = "0123456789abcdef0123456789abcdef01234567";
    uint32_t mark = cursor_mark(slice_of(run_id));
    unsigned same = 0;
    assert_int_equal(cursor_mark(slice_of(run_id)), mark);
    for (int i = 0; i < 20000; i++) {
        run_id[i % 40] = "0123456789abcdef"[i * 7 % 16];
        run_id[i * 3 % 40] = "0123456789abcdef"[i / 16 % 16];
        uint32_t other = cursor_mark(slice_of(run_id));
        assert_in_range(other, 1, 4095);
        same += other == mark;
    }
    assert_in_range(same, 0, 40);
    assert_int_equal(cursor_mark(SLICE("")), 0);
}

static void proxies_that_know_the_same_run_give_the_same_mark(void **state)
{
    (void)state; /* what one version has given, another must understand */
    assert_int_equal(cursor_mark(SLICE("a")), cursor_mark(SLICE("a")));
    assert_int_equal(cursor_mark(SLICE("0000000000000000000000000000000000000000")), 693);
}

static void cursor_comes_back_to_its_own_run_as_it_was(void **state)
{
    (void)state;
    static const uint64_t cursors[] = {1, 7, 1024, 917504, BIT(32) + 3, BIT(40) - 1};
    for (size_t i = 0; i < sizeof cursors / sizeof *cursors; i++) {
        for (uint32_t mark = 1; mark <= 4095; mark += 13) {
            uint64_t given = cursor_for_client(cursors[i], mark);
            assert_true(given < BIT(53));
            assert_int_equal(cursor_mark_of(given), mark);
            assert_int_equal(cursor_for_node(given, mark), cursors[i]);
            assert_int_equal(cursor_for_node(given, mark % 4095 + 1), 0);
            assert_int_equal(cursor_for_node(given, 0), 0);
        }
    }
}

static void end_and_cursors_without_a_mark_pass_as_they_are(void **state)
{
    (void)state;
    static const uint64_t unmarked[] = {0, 1, 77, BIT(40) - 1, BIT(52), BIT(63) + BIT(41), UINT64_MAX};
    for (size_t i = 0; i < sizeof unmarked / sizeof *unmarked; i++) {
        assert_int_equal(cursor_mark_of(unmarked[i]), 0);
        assert_int_equal(cursor_for_node(unmarked[i], 9), unmarked[i]);
    }
    assert_int_equal(cursor_for_client(0, 9), 0);
    assert_int_equal(cursor_for_client(5, 0), 5);
    assert_int_equal(cursor_for_client(BIT(40), 9), BIT(40));
    assert_int_equal(cursor_for_client(UINT64_MAX, 9), UINT64_MAX);
}

static void only_plain_numbers_of_64_bits_are_read(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", " 1", "1 ", "-1", "+1", "x", "0x10", "1.0", "18446744073709551616", "99999999999999999999999"};
    uint64_t cursor;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(cursor_read(slice_of(bad[i]), &cursor));
    assert_true(cursor_read(SLICE("0"), &cursor));
    assert_int_equal(cursor, 0);
    assert_true(cursor_read(SLICE("000042"), &cursor));
    assert_int_equal(cursor, 42);
    assert_true(cursor_read(SLICE("18446744073709551615"), &cursor));
    assert_int_equal(cursor, UINT64_MAX);
}

static void number_is_written_over_a_word_with_zeros_before_it(void **state)
{
    (void)state;
    char word[] = "1234567x";
    cursor_write(word, 7, 89);
    assert_string_equal(word, "0000089x");
    cursor_write(word, 1, 0);
    assert_string_equal(word, "0000089x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_are_made_of_the_run_id_alone_and_never_nothing),
        cmocka_unit_test(proxies_that_know_the_same_run_give_the_same_mark),
        cmocka_unit_test(cursor_comes_back_to_its_own_run_as_it_was),
        cmocka_unit_test(end_and_cursors_without_a_mark_pass_as_they_are),
        cmocka_unit_test(only_plain_numbers_of_64_bits_are_read),
        cmocka_unit_test(number_is_written_over_a_word_with_zeros_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
