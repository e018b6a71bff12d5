/* SPDX-License-Identifier: BSD-2-Clause */
/* Replies of several nodes become one. */
#include "routing/merge.h"

#include "routing/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define TOGETHER "-ERR pointsman: the replies of the nodes to this command do not go together\r\n"

static struct merge_buffer buffer;
static uint64_t seed = 7;

/* Replies stand one behind the other in copies made to measure, so that a byte beyond is noticed. */
static const char *merged(enum merge_policy policy, bool is_write, const char *const *replies)
{
    struct merge_piece pieces[8] = {{{NULL, 0}, NULL, 0}};
    char *copies[8];
    static char text[4096];
    uint32_t count = 0;
    for (; replies[count]; count++) {
        size_t size = strlen(replies[count]);
        copies[count] = malloc(size ? size : 1);
        memcpy(copies[count], replies[count], size);
        pieces[count] = (struct merge_piece){.reply = {copies[count], size}};
    }
    assert_true(merge_replies(policy, pieces, count, is_write, &seed, &buffer));
    assert_true(buffer.size < sizeof text);
    memcpy(text, buffer.bytes, buffer.size);
    text[buffer.size] = '\0';
    for (uint32_t i = 0; i < count; i++)
        free(copies[i]);
    return text;
}

static void each_policy_makes_one_of_many(void **state)
{
    (void)state;
    static const struct {
        enum merge_policy policy;
        const char *replies[4];
        const char *expected;
    } rows[] = {
        {MERGE_SUM, {":1\r\n", ":0\r\n", ":41\r\n"}, ":42\r\n"},
        {MERGE_SUM, {":-1\r\n", ":1\r\n"}, ":0\r\n"},
        {MERGE_SUM, {":9223372036854775807\r\n", ":1\r\n"}, TOGETHER},
        {MERGE_SUM, {":1\r\n", "$1\r\n1\r\n"}, TOGETHER},
        {MERGE_MIN, {":3\r\n", ":1\r\n", ":2\r\n"}, ":1\r\n"},
        {MERGE_OK, {"+OK\r\n", "+OK\r\n"}, "+OK\r\n"},
        {MERGE_FIRST, {"$1\r\nx\r\n", "$1\r\nx\r\n"}, "$1\r\nx\r\n"},
        {MERGE_ONE_OK, {"-NOTBUSY a\r\n", "+OK\r\n"}, "+OK\r\n"},
        {MERGE_ONE_OK, {"-NOTBUSY a\r\n", "-NOTBUSY b\r\n"}, "-NOTBUSY a\r\n"},
        {MERGE_CONCAT, {"*1\r\n$1\r\na\r\n", "*0\r\n", "*2\r\n:1\r\n*1\r\n+x\r\n"}, "*3\r\n$1\r\na\r\n:1\r\n*1\r\n+x\r\n"},
        {MERGE_CONCAT, {"%1\r\n+a\r\n:1\r\n", "%1\r\n+b\r\n:2\r\n"}, "%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n"},
        {MERGE_CONCAT, {"*1\r\n:1\r\n", "+OK\r\n"}, TOGETHER},
        {MERGE_UNION, {"*2\r\n$1\r\nb\r\n$1\r\na\r\n", "*2\r\n$1\r\na\r\n$1\r\nc\r\n"},
         "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"},
        {MERGE_UNION, {"*0\r\n", "*0\r\n"}, "*0\r\n"},
        {MERGE_AND, {"*3\r\n:1\r\n:1\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n:0\r\n"}, "*3\r\n:1\r\n:0\r\n:0\r\n"},
        {MERGE_AND, {"*1\r\n:1\r\n", "*2\r\n:1\r\n:0\r\n"}, TOGETHER},
        {MERGE_PAIRS, {"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:0\r\n", "*4\r\n$1\r\na\r\n:2\r\n$1\r\nb\r\n:5\r\n"},
         "*4\r\n$1\r\na\r\n:3\r\n$1\r\nb\r\n:5\r\n"},
        {MERGE_PAIRS, {"%1\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:2\r\n"}, "%1\r\n$1\r\na\r\n:3\r\n"},
        {MERGE_PAIRS, {"*2\r\n$1\r\na\r\n:1\r\n", "*2\r\n$1\r\nb\r\n:2\r\n"}, TOGETHER},
        {MERGE_PAIRS, {"*0\r\n", "*0\r\n"}, "*0\r\n"},
        {MERGE_ANY, {"$-1\r\n", "$1\r\nk\r\n", "$-1\r\n"}, "$1\r\nk\r\n"},
        {MERGE_ANY, {"_\r\n", "_\r\n"}, "_\r\n"},
        {MERGE_TEXT, {"$2\r\nhi\r\n", "$0\r\n\r\n", "$1\r\n!\r\n"}, "$5\r\nhi\n\n!\r\n"},
        {MERGE_TEXT, {"=6\r\ntxt:hi\r\n", "=5\r\ntxt:!\r\n"}, "=8\r\ntxt:hi\n!\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(merged(rows[i].policy, false, rows[i].replies), rows[i].expected);
}

static void an_error_is_told_and_how_much_was_done(void **state)
{
    (void)state;
    static const char *const one_failed[] = {"+OK\r\n", "-OOM no memory\r\n", "-ERR later\r\n", "+OK\r\n", NULL};
    static const char *const all_failed[] = {"-OOM no memory\r\n", "-ERR later\r\n", NULL};
    for (int policy = MERGE_FIRST; policy < MERGE_POLICY_COUNT; policy++) {
        if (policy == MERGE_ONE_OK) continue;
        assert_string_equal(merged((enum merge_policy)policy, true, one_failed),
                            "-OOM no memory (2 of 4 parts of the command were carried out)\r\n");
        assert_string_equal(merged((enum merge_policy)policy, false, one_failed), "-OOM no memory\r\n");
        assert_string_equal(merged((enum merge_policy)policy, true, all_failed), "-OOM no memory\r\n");
    }
}

static void elements_stand_where_their_keys_stood(void **state)
{
    (void)state;
    static const uint32_t first[] = {0, 3, 4}, second[] = {2, 1};
    struct merge_piece pieces[] = {
        {SLICE("*3\r\n$1\r\na\r\n$-1\r\n*1\r\n:7\r\n"), first, 3},
        {SLICE("*2\r\n$3\r\n\r\n.\r\n_\r\n"), second, 2},
    };
    assert_true(merge_replies(MERGE_PLACES, pieces, 2, false, &seed, &buffer));
    static const char expected[] = "*5\r\n$1\r\na\r\n_\r\n$3\r\n\r\n.\r\n$-1\r\n*1\r\n:7\r\n";
    assert_int_equal(buffer.size, sizeof expected - 1);
    assert_memory_equal(buffer.bytes, expected, sizeof expected - 1);
    pieces[1].count = 1; /* the node has told of more than it was asked for */
    assert_true(merge_replies(MERGE_PLACES, pieces, 2, false, &seed, &buffer));
    assert_int_equal(buffer.bytes[0], '-');
}

static const char info_a[] = "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:5\r\n\r\n"
                             "# Memory\r\nused_memory:1048576\r\nused_memory_human:1.00M\r\nused_memory_rss:2097152\r\n"
                             "total_system_memory_human:23.59G\r\nmem_fragmentation_ratio:2.00\r\n\r\n"
                             "# Stats\r\ntotal_commands_processed:10\r\ninstantaneous_input_kbps:0.25\r\n"
                             "latest_fork_usec:3\r\n\r\n"
                             "# Commandstats\r\ncmdstat_get:calls=2,usec=10,usec_per_call=5.00,failed_calls=0\r\n\r\n"
                             "# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=100\r\n";
static const char info_b[] = "# Server\r\nredis_version:7.2.0\r\nuptime_in_seconds:9\r\n\r\n"
                             "# Memory\r\nused_memory:524288\r\nused_memory_human:512.00K\r\nused_memory_rss:1048576\r\n"
                             "total_system_memory_human:23.59G\r\nmem_fragmentation_ratio:9.00\r\n\r\n"
                             "# Stats\r\ntotal_commands_processed:32\r\ninstantaneous_input_kbps:0.50\r\n"
                             "latest_fork_usec:8\r\n\r\n"
                             "# Commandstats\r\ncmdstat_get:calls=2,usec=30,usec_per_call=15.00,failed_calls=1\r\n"
                             "cmdstat_set:calls=1,usec=1,usec_per_call=1.00,failed_calls=0\r\n\r\n"
                             "# Keyspace\r\ndb0:keys=4,expires=3,avg_ttl=200\r\ndb2:keys=1,expires=0,avg_ttl=0\r\n";

static void info_is_that_of_all_together(void **state)
{
    (void)state;
    static char a[2048], b[2048];
    snprintf(a, sizeof a, "$%zu\r\n%s\r\n", sizeof info_a - 1, info_a);
    snprintf(b, sizeof b, "$%zu\r\n%s\r\n", sizeof info_b - 1, info_b);
    const char *replies[] = {a, b, NULL};
    static const char expected[] =
        "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:5\r\n\r\n"
        "# Memory\r\nused_memory:1572864\r\nused_memory_human:1.50M\r\nused_memory_rss:3145728\r\n"
        "total_system_memory_human:23.59G\r\nmem_fragmentation_ratio:2.00\r\n\r\n"
        "# Stats\r\ntotal_commands_processed:42\r\ninstantaneous_input_kbps:0.75\r\nlatest_fork_usec:8\r\n\r\n"
        "# Commandstats\r\ncmdstat_get:calls=4,usec=40,usec_per_call=10.00,failed_calls=1\r\n"
        "cmdstat_set:calls=1,usec=1,usec_per_call=1.00,failed_calls=0\r\n\r\n"
        "# Keyspace\r\ndb0:keys=7,expires=4,avg_ttl=175\r\ndb2:keys=1,expires=0,avg_ttl=0\r\n";
    char whole[4096];
    snprintf(whole, sizeof whole, "$%zu\r\n%s\r\n", sizeof expected - 1, expected);
    assert_string_equal(merged(MERGE_INFO, false, replies), whole);
}

static void one_of_the_keys_is_chosen_by_chance(void **state)
{
    (void)state;
    static const char *const replies[] = {"$1\r\na\r\n", "$1\r\nb\r\n", NULL};
    int seen_a = 0, seen_b = 0;
    for (int i = 0; i < 200; i++) {
        const char *key = merged(MERGE_ANY, false, replies);
        seen_a += key[4] == 'a';
        seen_b += key[4] == 'b';
    }
    assert_in_range(seen_a, 40, 160);
    assert_int_equal(seen_a + seen_b, 200);
}

static int finish(void **state)
{
    (void)state;
    merge_buffer_finish(&buffer);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_policy_makes_one_of_many),
        cmocka_unit_test(an_error_is_told_and_how_much_was_done),
        cmocka_unit_test(elements_stand_where_their_keys_stood),
        cmocka_unit_test(info_is_that_of_all_together),
        cmocka_unit_test(one_of_the_keys_is_chosen_by_chance),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
