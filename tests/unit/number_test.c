/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/number.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

static void numbers_of_64_bits_are_read_as_redis_reads_them(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        int64_t number;
    } samples[] = {
        {"0", 0},
        {"7", 7},
        {"-1", -1},
        {"1234567890", 1234567890},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        int64_t number = 99;
        assert_true(number_read(slice_of(samples[i].text), &number));
        assert_int_equal(number, samples[i].number);
    }
}

static void anything_else_is_no_number(void **unused)
{
    (void)unused;
    static const char *const samples[] = {
        "",
        "-",
        "+1",
        "01",
        "-0",
        "-01",
        " 1",
        "1 ",
        "1.5",
        "x",
        "1x",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        int64_t number = 99;
        assert_false(number_read(slice_of(samples[i]), &number));
        assert_int_equal(number, 99);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_64_bits_are_read_as_redis_reads_them),
        cmocka_unit_test(anything_else_is_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
