/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which shard has a key. Shards were measured: keys were written through nutcracker 0.5 to five redis-servers
 * named as here. Hashes of ASCII are those that the authors of the functions publish, or what they give in
 * other implementations; tests/integration/test_distribution.py compares all of them with nutcracker.
 */
#include "routing/distribution.h"
#include "routing/md5.h"
#include "routing/slot.h"
#include "routing/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct distribution_server five[] = {{"delta", 1}, {"b", 3}, {"alpha", 2}, {"c2", 1}, {"zz", 5}};

static struct distribution *make(enum distribution_kind kind, enum hash hash, const char *tag,
                                 const struct distribution_server *servers, size_t count)
{
    struct distribution_setup setup = {.kind = kind,
                                       .hash = hash,
                                       .tag = {tag[0], tag[0] ? tag[1] : '\0'},
                                       .servers = servers,
                                       .count = (uint32_t)count,
                                       .is_by_name = true};
    struct distribution *distribution = distribution_create(&setup);
    assert_non_null(distribution);
    return distribution;
}

static void md5_is_that_of_the_rfc(void **state)
{
    (void)state;
    static const struct {
        const char *text, *digest;
    } cases[] = {
        {"", "d41d8cd98f00b204e9800998ecf8427e"},
        {"abc", "900150983cd24fb0d6963f7d28e17f72"},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
         "d174ab98d277d9f5a5611c2c9f419d9f"},
        {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
         "57edf4a22be3c955ac49da2e2107b67a"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t digest[MD5_WORDS];
        char text[33];
        md5(slice_of(cases[i].text), digest);
        for (size_t byte = 0; byte < 16; byte++)
            snprintf(text + 2 * byte, 3, "%02x", digest[byte / 4] >> 8 * (byte % 4) & 0xff);
        assert_string_equal(text, cases[i].digest);
    }
}

static void hashes_are_those_of_twemproxy_and_predixy(void **state)
{
    (void)state;
    static const struct slice keys[] = {
        {"a", 1}, {"user:1000", 9}, {"\xe4\xf6\xfc", 3}, {"\x00\x80\xff\x7f\x81\xfe\x01", 7}};
    static const struct {
        enum hash hash;
        uint32_t values[COUNT(keys)];
    } cases[] = {
        {HASH_ONE_AT_A_TIME, {0xca2e9442, 0xb563b74f, 0xa8838b84, 0xb25a8172}},
        {HASH_MD5, {0xb975c10c, 0x2e986207, 0x51588a76, 0x7db38c7a}},
        {HASH_CRC16, {0x7c87, 0xe1644671, 0xbd53eb05, 0x8bbb3491}},
        {HASH_CRC32, {0x68b7, 0x1f74, 0x2747, 0x672b}},
        {HASH_CRC32A, {0xe8b7be43, 0x9f7417e3, 0xa7475962, 0x672b31f2}},
        {HASH_FNV1_64, {0x8601b7be, 0xd39e3d21, 0x943bf009, 0x61e488b7}},
        {HASH_FNV1A_64, {0x8601ec8c, 0xae7b4289, 0x14780f99, 0xeb08ce13}},
        {HASH_FNV1_32, {0x050c5d7e, 0xa6affca1, 0x998f8389, 0xe623b6d7}},
        {HASH_FNV1A_32, {0xe40c292c, 0x507c1d89, 0x83f4a919, 0xd35755b3}},
        {HASH_HSIEH, {0x93642e87, 0xddec1969, 0xcc18e089, 0x6500c360}},
        {HASH_MURMUR, {0x4b41757c, 0x8e24aec7, 0x44b29d3d, 0xc6071111}},
        {HASH_JENKINS, {0xe0a38690, 0x048c4d84, 0xeb42844c, 0x3074f5fd}},
        {HASH_CRC16_PREDIXY, {0x7c87, 0x4671, 0xeb05, 0x3491}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (size_t k = 0; k < COUNT(keys); k++)
            assert_int_equal(hash_of(cases[i].hash, keys[k]), cases[i].values[k]);
    }
}

static void atol_reads_the_number_that_a_key_begins_with(void **state)
{
    (void)state;
    assert_int_equal(hash_of(HASH_ATOL, SLICE("123:profile")), 123);
    assert_int_equal(hash_of(HASH_ATOL, SLICE("+7")), 7);
    assert_int_equal(hash_of(HASH_ATOL, SLICE("-1")), UINT64_MAX);
    assert_int_equal(hash_of(HASH_ATOL, SLICE("user:7")), 0);
    assert_int_equal(hash_of(HASH_ATOL, SLICE("")), 0);
    assert_int_equal(hash_of(HASH_ATOL, SLICE("-")), 0);
}

static void keys_are_where_nutcracker_puts_them(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "",   "a",  "user:1000", "session:7f3a",   "cart:{42}:items", "{42}", "{}x", "\xe4\xf6\xfc",
        "k1", "k2", "k3",        "order:2024:0001"};
    static const struct {
        enum distribution_kind kind;
        enum hash hash;
        const char *tag;
        uint32_t shards[COUNT(keys)];
    } cases[] = {
        {DISTRIBUTION_MODULA, HASH_FNV1A_64, "", {1, 4, 4, 4, 0, 3, 4, 4, 1, 4, 4, 4}},
        {DISTRIBUTION_MODULA, HASH_FNV1A_64, "{}", {1, 4, 4, 4, 4, 4, 4, 4, 1, 4, 4, 4}},
        {DISTRIBUTION_MODULA, HASH_MURMUR, "", {1, 1, 0, 4, 4, 4, 2, 4, 1, 4, 4, 1}},
        {DISTRIBUTION_MODULA, HASH_CRC32, "", {1, 0, 1, 0, 2, 1, 1, 0, 4, 4, 1, 1}},
        {DISTRIBUTION_MODULA, HASH_CRC32, "{}", {1, 0, 1, 0, 4, 4, 1, 0, 4, 4, 1, 1}},
        {DISTRIBUTION_KETAMA, HASH_FNV1A_64, "", {0, 4, 4, 3, 4, 4, 2, 1, 0, 0, 0, 4}},
        {DISTRIBUTION_KETAMA, HASH_MURMUR, "", {0, 1, 4, 1, 4, 4, 4, 4, 1, 4, 4, 1}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct distribution *distribution =
            make(cases[i].kind, cases[i].hash, cases[i].tag, five, COUNT(five));
        for (size_t k = 0; k < COUNT(keys); k++)
            assert_int_equal(distribution_place_of(distribution, slice_of(keys[k])), cases[i].shards[k]);
        distribution_destroy(distribution);
    }
}

static void modula_counts_in_the_given_order_unless_by_name(void **state)
{
    (void)state;
    static const struct distribution_server servers[] = {{"orders", 1}, {"b", 1}, {"a", 1}};
    struct distribution_setup setup = {
        .kind = DISTRIBUTION_MODULA, .hash = HASH_ATOL, .servers = servers, .count = COUNT(servers)};
    static const uint32_t by_name[] = {2, 1, 0}, given[] = {0, 1, 2};
    for (int is_by_name = 0; is_by_name < 2; is_by_name++) {
        setup.is_by_name = is_by_name;
        struct distribution *distribution = distribution_create(&setup);
        const uint32_t *wanted = is_by_name ? by_name : given;
        assert_int_equal(distribution_place_of(distribution, SLICE("3")), wanted[0]);
        assert_int_equal(distribution_place_of(distribution, SLICE("4")), wanted[1]);
        assert_int_equal(distribution_place_of(distribution, SLICE("5")), wanted[2]);
        assert_int_equal(distribution_place_of(distribution, SLICE("-1")), wanted[UINT64_MAX % 3]);
        distribution_destroy(distribution);
    }
}

/* Slots of CLUSTER KEYSLOT; ranges of redis-cli --cluster create: 0-5460, 5461-10922, 10923-16383. */
static void slots_are_cut_into_the_ranges_that_redis_cli_makes(void **state)
{
    (void)state;
    struct distribution *distribution = make(DISTRIBUTION_SLOTS, HASH_FNV1A_64, "", five, 3);
    assert_int_equal(distribution_place_of(distribution, SLICE("bar")), 0); /* 5061 */
    assert_int_equal(distribution_place_of(distribution, SLICE("foo")), 2); /* 12182 */
    assert_int_equal(distribution_place_of(distribution, SLICE("{foo}bar")), 2);
    assert_int_equal(distribution_place_of(distribution, SLICE("key:6902")), 0);  /* 5460 */
    assert_int_equal(distribution_place_of(distribution, SLICE("key:42151")), 1); /* 5461 */
    assert_int_equal(distribution_place_of(distribution, SLICE("key:6449")), 1);  /* 10922 */
    assert_int_equal(distribution_place_of(distribution, SLICE("key:8724")), 2);  /* 10923 */
    distribution_destroy(distribution);
}

/* The first and the last slot, and each that two shards divide, whatever their number. */
static void every_slot_has_a_shard_and_ranges_are_equal(void **state)
{
    (void)state;
    static struct distribution_server servers[DISTRIBUTION_SHARDS_MAX];
    static const uint32_t numbers[] = {1, 2, 3, 5, 7, 64, 255, DISTRIBUTION_SHARDS_MAX};
    static uint32_t slots[TOPOLOGY_SLOTS], shards[TOPOLOGY_SLOTS];
    for (size_t i = 0; i < COUNT(numbers); i++) {
        uint32_t counts[DISTRIBUTION_SHARDS_MAX] = {0}, seen = 0;
        struct distribution *distribution = make(DISTRIBUTION_SLOTS, HASH_MD5, "", servers, numbers[i]);
        memset(slots, 0, sizeof(slots));
        for (int key = 0; seen < TOPOLOGY_SLOTS; key++) {
            char text[16];
            snprintf(text, sizeof(text), "%d", key);
            uint32_t slot = slot_of(slice_of(text));
            if (slots[slot]++) continue;
            seen++;
            shards[slot] = distribution_place_of(distribution, slice_of(text));
            assert_true(shards[slot] < numbers[i]);
            counts[shards[slot]]++;
        }
        assert_int_equal(shards[0], 0);
        assert_int_equal(shards[TOPOLOGY_SLOTS - 1], numbers[i] - 1);
        for (uint32_t slot = 1; slot < TOPOLOGY_SLOTS; slot++)
            assert_true(shards[slot] - shards[slot - 1] <= 1);
        for (uint32_t shard = 0; shard < numbers[i]; shard++)
            assert_in_range(counts[shard], TOPOLOGY_SLOTS / numbers[i], TOPOLOGY_SLOTS / numbers[i] + 1);
        distribution_destroy(distribution);
    }
}

static void a_topology_with_a_distribution_asks_it_and_one_without_asks_the_slot(void **state)
{
    (void)state;
    static const uint16_t slots[TOPOLOGY_SLOTS];
    struct distribution *distribution = make(DISTRIBUTION_MODULA, HASH_FNV1A_64, "", five, COUNT(five));
    struct topology_draft_shard shards[COUNT(five)];
    for (size_t i = 0; i < COUNT(shards); i++)
        shards[i] = (struct topology_draft_shard){.master = TOPOLOGY_NO_NODE};
    struct topology_draft draft = {
        .shards = shards, .shard_count = COUNT(shards), .distribution = distribution};
    struct topology *topology = topology_create(&draft);
    uint32_t place = topology_place_of(topology, SLICE("k1"));
    assert_int_equal(place, 1);
    assert_int_equal(topology_shard_of(topology, place), 1);
    assert_int_equal(topology_shard_of(topology, topology_place_of(topology, SLICE("cart:{42}:items"))), 0);
    topology_release(topology);

    draft.distribution = NULL;
    draft.slots = slots;
    topology = topology_create(&draft);
    assert_int_equal(topology_place_of(topology, SLICE("foo")), 12182);
    topology_release(topology);
    distribution_destroy(distribution);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(md5_is_that_of_the_rfc),
        cmocka_unit_test(hashes_are_those_of_twemproxy_and_predixy),
        cmocka_unit_test(atol_reads_the_number_that_a_key_begins_with),
        cmocka_unit_test(keys_are_where_nutcracker_puts_them),
        cmocka_unit_test(modula_counts_in_the_given_order_unless_by_name),
        cmocka_unit_test(slots_are_cut_into_the_ranges_that_redis_cli_makes),
        cmocka_unit_test(every_slot_has_a_shard_and_ranges_are_equal),
        cmocka_unit_test(a_topology_with_a_distribution_asks_it_and_one_without_asks_the_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
