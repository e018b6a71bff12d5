/* SPDX-License-Identifier: BSD-2-Clause */
/* Slots as Redis computes them; the numbers are those of CLUSTER KEYSLOT. */
#include "routing/slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void slots_are_those_of_redis(void **state)
{
    (void)state;
    assert_int_equal(slot_crc16(SLICE("123456789")), 0x31c3);
    assert_int_equal(slot_of(SLICE("foo")), 12182);
    assert_int_equal(slot_of(SLICE("bar")), 5061);
    assert_int_equal(slot_of(SLICE("")), 0);
}

static void only_the_first_hash_tag_counts_and_only_if_it_is_not_empty(void **state)
{
    (void)state;
    assert_int_equal(slot_of(SLICE("x{foo}y")), slot_of(SLICE("foo")));
    assert_int_equal(slot_of(SLICE("{foo}{bar}")), slot_of(SLICE("foo")));
    assert_int_equal(slot_of(SLICE("a{{foo}}b")), slot_of(SLICE("{foo")));
    assert_int_equal(slot_of(SLICE("foo{}{bar}")), slot_crc16(SLICE("foo{}{bar}")) & 16383);
    assert_int_equal(slot_of(SLICE("foo{bar")), slot_crc16(SLICE("foo{bar")) & 16383);
    assert_int_equal(slot_of(SLICE("foo}bar{")), slot_crc16(SLICE("foo}bar{")) & 16383);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_those_of_redis),
        cmocka_unit_test(only_the_first_hash_tag_counts_and_only_if_it_is_not_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
