/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/ranges.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

static size_t sum_of(const struct iovec *ranges, size_t count)
{
    size_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ranges[i].iov_len;
    return sum;
}

static void ranges_are_cut_to_any_number_of_bytes_and_begin_as_before(void **unused)
{
    (void)unused;
    static char bytes[60];
    for (size_t wanted = 1; wanted <= sizeof bytes; wanted++) {
        struct iovec ranges[] = {{bytes, 10}, {bytes + 10, 20}, {bytes + 30, 29}, {bytes + 59, 1}};
        size_t count = ranges_cut(ranges, COUNT_OF(ranges), wanted);
        assert_int_equal(sum_of(ranges, count), wanted);
        assert_true(ranges[count - 1].iov_len > 0);
        for (size_t i = 1; i < count; i++)
            assert_ptr_equal(ranges[i].iov_base, (char *)ranges[i - 1].iov_base + ranges[i - 1].iov_len);
    }
}

static void ranges_that_have_no_more_stay_as_they_are(void **unused)
{
    (void)unused;
    static char bytes[30];
    struct iovec ranges[] = {{bytes, 10}, {bytes + 10, 20}};
    assert_int_equal(ranges_cut(ranges, 2, 30), 2);
    assert_int_equal(ranges_cut(ranges, 2, 31), 2);
    assert_int_equal(sum_of(ranges, 2), 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_cut_to_any_number_of_bytes_and_begin_as_before),
        cmocka_unit_test(ranges_that_have_no_more_stay_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
