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

/* As it is defined, bit by bit. */
static uint16_t plain_crc16(struct slice bytes)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        crc ^= (uint32_t)(unsigned char)bytes.bytes[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
    }
    return (uint16_t)crc;
}

static void every_byte_counts_in_every_position(void **state)
{
    (void)state;
    char key[11] = {0};
    for (size_t at = 0; at < sizeof(key); at++) {
        for (int byte = 0; byte < 256; byte++) {
            key[at] = (char)byte;
            for (size_t size = at; size <= sizeof(key); size++)
                assert_int_equal(slot_crc16((struct slice){key, size}), plain_crc16((struct slice){key, size}));
        }
        key[at] = (char)(0x5a + at);
    }
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
        cmocka_unit_test(every_byte_counts_in_every_position),
        cmocka_unit_test(only_the_first_hash_tag_counts_and_only_if_it_is_not_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
