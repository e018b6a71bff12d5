/* SPDX-License-Identifier: BSD-2-Clause */
/* Where each command goes when there are several shards. */
#include "routing/plan.h"

#include "routing/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { WORDS_MOST = 32 };

static struct topology *topology_of(uint32_t shards, bool is_cluster)
{
    struct topology_draft_shard list[8] = {{0}};
    struct topology_draft draft = {.shards = list, .shard_count = shards, .is_cluster = is_cluster};
    for (uint32_t i = 0; i < shards; i++)
        list[i].master = TOPOLOGY_NO_NODE;
    return topology_create(&draft);
}

static size_t words_of(const char *text, char *copy, struct slice *words)
{
    size_t count = 0;
    strcpy(copy, text);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        words[count++] = slice_of(word);
    return count;
}

static struct planner planner;

static struct plan plan_of(const struct topology *topology, const char *text, bool may_split)
{
    static char copy[512];
    static struct slice words[WORDS_MOST];
    size_t count = words_of(text, copy, words);
    struct plan plan;
    const struct command *command = command_find(command_set_builtin(), words, count);
    assert_true(plan_make(&planner, topology, command, words, count, may_split, &plan));
    return plan;
}

/* Keys with the tags a and b are in different slots, and x{a}, y{a} in the same. */
static void each_command_has_its_way_in_a_cluster(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum plan_kind kind;
    } rows[] = {
        {"GET a", PLAN_PLACE},
        {"MGET a", PLAN_PLACE},
        {"MGET x{a} y{a} x{a}", PLAN_PLACE},
        {"MGET a b", PLAN_SPLIT},
        {"MSET a 1 b 2", PLAN_SPLIT},
        {"MSET a 1 b", PLAN_ANYWHERE}, /* the node says what is wrong */
        {"DEL a b", PLAN_SPLIT},
        {"UNLINK a b", PLAN_SPLIT},
        {"EXISTS a b a", PLAN_SPLIT},
        {"TOUCH a b", PLAN_SPLIT},
        {"MSETNX a 1 b 2", PLAN_CROSS},
        {"MSETNX x{a} 1 y{a} 2", PLAN_PLACE},
        {"RENAME a b", PLAN_CROSS},
        {"SUNION a b", PLAN_CROSS},
        {"SUNIONSTORE x{a} y{a} b", PLAN_CROSS},
        {"BITOP AND a b a", PLAN_CROSS},
        {"PFCOUNT a b", PLAN_CROSS},
        {"BLPOP a b 0", PLAN_CROSS},
        {"LMOVE a b LEFT LEFT", PLAN_CROSS},
        {"XREAD STREAMS a b 0 0", PLAN_CROSS},
        {"XREAD STREAMS x{a} y{a} 0 0", PLAN_PLACE},
        {"SORT a STORE b", PLAN_CROSS},
        {"EVAL return 2 a b", PLAN_CROSS},
        {"EVAL return 2 x{a} y{a}", PLAN_PLACE},
        {"EVAL return 0 a b", PLAN_ANYWHERE},
        {"EVAL return x a b", PLAN_ANYWHERE},
        {"SPUBLISH a text", PLAN_PLACE},
        {"SSUBSCRIBE a", PLAN_PLACE},
        {"SSUBSCRIBE a b", PLAN_CROSS},
        {"PUBLISH a text", PLAN_ANYWHERE},
        {"SUBSCRIBE a b", PLAN_ANYWHERE},
        {"TIME", PLAN_ANYWHERE},
        {"SCAN 0", PLAN_ANYWHERE},
        {"FUNCTION LIST", PLAN_ANYWHERE},
        {"CONFIG GET x", PLAN_ANYWHERE},
        {"NOSUCH a b", PLAN_ANYWHERE},
        {"OBJECT ENCODING a", PLAN_PLACE},
    };
    struct topology *topology = topology_of(3, true);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct plan plan = plan_of(topology, rows[i].text, true);
        if (plan.kind != rows[i].kind) fail_msg("%s: %d", rows[i].text, (int)plan.kind);
    }
    topology_release(topology);
}

static void all_masters_are_asked_what_concerns_them_all(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum merge_policy merge;
    } rows[] = {
        {"DBSIZE", MERGE_SUM}, {"KEYS *", MERGE_CONCAT}, {"RANDOMKEY", MERGE_ANY}, {"FLUSHALL", MERGE_OK},
        {"FLUSHDB ASYNC", MERGE_OK}, {"SCRIPT LOAD x", MERGE_FIRST}, {"SCRIPT EXISTS x", MERGE_AND},
        {"SCRIPT FLUSH", MERGE_OK}, {"SCRIPT KILL", MERGE_ONE_OK}, {"FUNCTION LOAD x", MERGE_FIRST},
        {"FUNCTION DELETE x", MERGE_OK}, {"FUNCTION FLUSH", MERGE_OK}, {"FUNCTION RESTORE x", MERGE_OK},
        {"FUNCTION KILL", MERGE_ONE_OK}, {"CONFIG SET x y", MERGE_OK}, {"CONFIG RESETSTAT", MERGE_OK},
        {"CONFIG REWRITE", MERGE_OK}, {"INFO", MERGE_INFO}, {"INFO keyspace", MERGE_INFO},
        {"MEMORY DOCTOR", MERGE_TEXT}, {"MEMORY MALLOC-STATS", MERGE_TEXT}, {"MEMORY PURGE", MERGE_OK},
        {"SLOWLOG GET", MERGE_CONCAT}, {"SLOWLOG LEN", MERGE_SUM}, {"SLOWLOG RESET", MERGE_OK},
        {"LATENCY DOCTOR", MERGE_TEXT}, {"LATENCY LATEST", MERGE_CONCAT}, {"LATENCY HISTORY x", MERGE_CONCAT},
        {"LATENCY RESET", MERGE_SUM}, {"PUBSUB CHANNELS", MERGE_UNION}, {"PUBSUB NUMSUB a", MERGE_PAIRS},
        {"PUBSUB NUMPAT", MERGE_SUM}, {"PUBSUB SHARDCHANNELS", MERGE_UNION}, {"PUBSUB SHARDNUMSUB a", MERGE_PAIRS},
        {"ACL SETUSER x", MERGE_OK}, {"ACL DELUSER x", MERGE_FIRST}, {"ACL LOAD", MERGE_OK}, {"ACL SAVE", MERGE_OK},
        {"SAVE", MERGE_OK}, {"BGSAVE", MERGE_OK}, {"BGREWRITEAOF", MERGE_OK},
    };
    struct topology *several = topology_of(3, true), *one = topology_of(1, true);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct plan plan = plan_of(several, rows[i].text, true);
        if (plan.kind != PLAN_MASTERS || plan.merge != rows[i].merge)
            fail_msg("%s: %d %d", rows[i].text, (int)plan.kind, (int)plan.merge);
        assert_int_equal(plan_of(one, rows[i].text, true).kind, PLAN_ANYWHERE);
    }
    topology_release(several);
    topology_release(one);
}

static void a_piece_has_the_keys_of_one_place_in_the_order_of_the_client(void **state)
{
    (void)state;
    struct topology *topology = topology_of(3, true);
    struct slice words[WORDS_MOST];
    char copy[128];
    size_t count = words_of("MSET 1{a} v1 1{b} v2 2{a} v3 1{a} v4 3{c} v5", copy, words);
    static const char *const expected[] = {"MSET 1{a} v1 2{a} v3 1{a} v4", "MSET 1{b} v2", "MSET 3{c} v5"};
    static const uint32_t order[] = {0, 2, 3, 1, 4};
    struct plan plan;
    const struct command *command = command_find(command_set_builtin(), words, count);
    assert_true(plan_make(&planner, topology, command, words, count, true, &plan));
    assert_int_equal(plan.kind, PLAN_SPLIT);
    assert_int_equal(plan.piece_count, 3);
    assert_int_equal(plan.key_count, 5);
    assert_memory_equal(plan.order, order, sizeof order);
    for (uint32_t i = 0; i < plan.piece_count; i++) {
        const struct slice *piece;
        struct slice wanted[WORDS_MOST];
        char wanted_copy[128];
        size_t wanted_count = words_of(expected[i], wanted_copy, wanted);
        assert_int_equal(plan_piece_words(&plan, &plan.pieces[i], command, words, &piece), wanted_count);
        for (size_t j = 0; j < wanted_count; j++)
            assert_true(slice_equals(piece[j], wanted[j]));
    }
    topology_release(topology);
}

static void what_must_be_whole_is_not_split(void **state)
{
    (void)state;
    struct topology *topology = topology_of(3, true);
    assert_int_equal(plan_of(topology, "MGET a b", false).kind, PLAN_CROSS);
    assert_int_equal(plan_of(topology, "MGET x{a} y{a}", false).kind, PLAN_PLACE);
    topology_release(topology);
}

static void one_shard_of_plain_redis_takes_everything_whole(void **state)
{
    (void)state;
    struct topology *topology = topology_of(1, false);
    assert_int_equal(plan_of(topology, "MGET a b c d e f g h i j", true).kind, PLAN_PLACE);
    assert_int_equal(plan_of(topology, "RENAME a b", true).kind, PLAN_PLACE);
    topology_release(topology);
}

static void a_cluster_of_one_shard_still_wants_one_slot_at_a_time(void **state)
{
    (void)state;
    struct topology *topology = topology_of(1, true);
    assert_int_equal(plan_of(topology, "MGET a b", true).kind, PLAN_SPLIT);
    assert_int_equal(plan_of(topology, "RENAME a b", true).kind, PLAN_CROSS);
    topology_release(topology);
}

/* Many more keys than fit at hand; what was left by one plan must not be in the next. */
static void many_keys_are_planned_like_few(void **state)
{
    (void)state;
    enum { KEYS = 5000 };
    struct topology *topology = topology_of(3, true);
    struct slice *words = calloc(KEYS + 1, sizeof *words);
    char(*names)[16] = calloc(KEYS, sizeof *names);
    words[0] = SLICE("MGET");
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof names[i], "k%u", i % 3000);
        words[i + 1] = slice_of(names[i]);
    }
    const struct command *command = command_find(command_set_builtin(), words, KEYS + 1);
    for (int round = 0; round < 3; round++) {
        struct plan plan;
        uint32_t seen[KEYS] = {0};
        assert_true(plan_make(&planner, topology, command, words, KEYS + 1, true, &plan));
        assert_int_equal(plan.kind, PLAN_SPLIT);
        for (uint32_t i = 0; i < plan.piece_count; i++) {
            for (uint32_t j = 0; j < plan.pieces[i].count; j++) {
                uint32_t key = plan.order[plan.pieces[i].first + j];
                assert_int_equal(topology_place_of(topology, words[key + 1]), plan.pieces[i].place);
                seen[key]++;
            }
            if (i > 0) assert_int_not_equal(plan.pieces[i].place, plan.pieces[i - 1].place);
        }
        for (uint32_t i = 0; i < KEYS; i++)
            assert_int_equal(seen[i], 1);
    }
    free(words);
    free(names);
    topology_release(topology);
}

static int finish(void **state)
{
    (void)state;
    planner_finish(&planner);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_command_has_its_way_in_a_cluster),
        cmocka_unit_test(all_masters_are_asked_what_concerns_them_all),
        cmocka_unit_test(a_piece_has_the_keys_of_one_place_in_the_order_of_the_client),
        cmocka_unit_test(what_must_be_whole_is_not_split),
        cmocka_unit_test(one_shard_of_plain_redis_takes_everything_whole),
        cmocka_unit_test(a_cluster_of_one_shard_still_wants_one_slot_at_a_time),
        cmocka_unit_test(many_keys_are_planned_like_few),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
