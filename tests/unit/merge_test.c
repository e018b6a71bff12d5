/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/merge.h"

#include "routing/error.h"
#include "routing/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define LENGTH(array)     (sizeof(array) / sizeof((array)[0]))
#define DIFFERENT         "-ERR pointsman: nodes answered in ways that cannot be made one reply\r\n"
#define CARRIED_OUT(text) " (" text " parts of the command were carried out)\r\n"

enum { MOST_PIECES = 4 };

static struct merge_buffer buffer;
static uint64_t seed = 4711;

static int finish_buffer(void **state)
{
    (void)state;
    merge_buffer_finish(&buffer);
    return 0;
}

/* What becomes of these replies, up to the first NULL. It is a whole reply. */
static struct slice merged(enum merge_policy policy, const char *const *replies, bool is_write)
{
    struct merge_piece pieces[MOST_PIECES] = {{.count = 0}};
    struct resp_reply state = {0};
    uint32_t count = 0;
    size_t used = 0;
    for (; count < MOST_PIECES && replies[count]; count++)
        pieces[count].reply = slice_of(replies[count]);
    assert_true(merge_replies(policy, pieces, count, is_write, &seed, &buffer));
    assert_int_equal(resp_reply_scan(&state, buffer.bytes, buffer.size, &used), RESP_DONE);
    assert_int_equal(used, buffer.size);
    return (struct slice){buffer.bytes, buffer.size};
}

static void assert_text(struct slice text, const char *expected)
{
    if (!slice_equals(text, slice_of(expected)))
        fail_msg("\n%.*s--- not ---\n%s", (int)text.size, text.bytes, expected);
}

struct example {
    enum merge_policy policy;
    const char *replies[MOST_PIECES];
    const char *expected;
};

static void assert_examples(const struct example *examples, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_text(merged(examples[i].policy, examples[i].replies, false), examples[i].expected);
}

static void what_all_say_is_said_once(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {MERGE_OK, {"+OK\r\n", "+OK\r\n", "+OK\r\n"}, "+OK\r\n"},
        {MERGE_FIRST, {"$3\r\nsha\r\n", "$3\r\nsha\r\n"}, "$3\r\nsha\r\n"},
        {MERGE_OK, {"+Background saving started\r\n"}, "+Background saving started\r\n"},
    };
    assert_examples(examples, LENGTH(examples));
}

static void integers_are_added_up_or_compared(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {MERGE_SUM, {":1\r\n", ":0\r\n", ":41\r\n"}, ":42\r\n"},
        {MERGE_SUM, {":7\r\n"}, ":7\r\n"},
        {MERGE_SUM, {":-3\r\n", ":1\r\n"}, ":-2\r\n"},
        {MERGE_SUM, {":9223372036854775807\r\n", ":0\r\n"}, ":9223372036854775807\r\n"},
        {MERGE_SUM, {":9223372036854775807\r\n", ":1\r\n"}, DIFFERENT},
        {MERGE_MIN, {":2\r\n", ":1\r\n", ":3\r\n"}, ":1\r\n"},
        {MERGE_MIN, {"*2\r\n:1\r\n:2\r\n", "*2\r\n:0\r\n:3\r\n"}, "*2\r\n:0\r\n:2\r\n"}, /* WAITAOF */
        {MERGE_MAX, {":0\r\n", ":2\r\n", ":1\r\n"}, ":2\r\n"},
        {MERGE_AND, {"*3\r\n:1\r\n:1\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n:0\r\n"}, "*3\r\n:1\r\n:0\r\n:0\r\n"},
        {MERGE_AND, {":1\r\n", ":1\r\n"}, ":1\r\n"},
        {MERGE_OR, {":0\r\n", ":1\r\n", ":0\r\n"}, ":1\r\n"},
        {MERGE_OR, {"*2\r\n:0\r\n:0\r\n", "*2\r\n:1\r\n:0\r\n"}, "*2\r\n:1\r\n:0\r\n"},
        {MERGE_AND, {"#t\r\n", "#f\r\n"}, "#f\r\n"},
        {MERGE_OR, {"#f\r\n", "#t\r\n"}, "#t\r\n"},
        {MERGE_SUM, {"#t\r\n", "#t\r\n"}, ":2\r\n"},
        {MERGE_AND, {"*0\r\n", "*0\r\n"}, "*0\r\n"},
    };
    assert_examples(examples, LENGTH(examples));
}

static void lists_stand_one_behind_the_other(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {MERGE_CONCAT,
         {"*1\r\n$1\r\na\r\n", "*0\r\n", "*2\r\n$1\r\nb\r\n$1\r\na\r\n"},
         "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\na\r\n"},
        {MERGE_CONCAT, {"*0\r\n", "*0\r\n"}, "*0\r\n"},
        {MERGE_CONCAT,
         {"*1\r\n*2\r\n:1\r\n:2\r\n", "*1\r\n*2\r\n:3\r\n:4\r\n"},
         "*2\r\n*2\r\n:1\r\n:2\r\n*2\r\n:3\r\n:4\r\n"},
        {MERGE_CONCAT,
         {"%1\r\n+a\r\n:1\r\n", "%2\r\n+b\r\n:2\r\n+c\r\n:3\r\n"},
         "%3\r\n+a\r\n:1\r\n+b\r\n:2\r\n+c\r\n:3\r\n"},
        {MERGE_CONCAT, {"~1\r\n+a\r\n", "~1\r\n+b\r\n"}, "~2\r\n+a\r\n+b\r\n"},
        {MERGE_CONCAT, {"*-1\r\n", "*1\r\n:1\r\n"}, "*1\r\n:1\r\n"},
        {MERGE_CONCAT, {"_\r\n", "_\r\n"}, "_\r\n"},
        {MERGE_CONCAT, {"+OK\r\n", "+OK\r\n"}, "+OK\r\n"}, /* ACL LOG RESET */
        {MERGE_CONCAT, {"+OK\r\n", "+NO\r\n"}, DIFFERENT},
        {MERGE_CONCAT, {"*1\r\n:1\r\n", "~1\r\n:1\r\n"}, DIFFERENT},
        {MERGE_UNION,
         {"*2\r\n$1\r\nb\r\n$1\r\na\r\n", "*2\r\n$1\r\na\r\n$2\r\naa\r\n", "*0\r\n"},
         "*3\r\n$1\r\nb\r\n$1\r\na\r\n$2\r\naa\r\n"},
        {MERGE_UNION, {"~1\r\n+a\r\n", "~1\r\n+a\r\n"}, "~1\r\n+a\r\n"},
        {MERGE_UNION, {"*0\r\n", "*0\r\n"}, "*0\r\n"},
        {MERGE_UNION, {"%1\r\n+a\r\n+b\r\n", "%0\r\n"}, DIFFERENT},
    };
    assert_examples(examples, LENGTH(examples));
}

static void numbers_of_each_name_are_added_up(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {MERGE_PAIRS,
         {"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:0\r\n", "*4\r\n$1\r\na\r\n:2\r\n$1\r\nb\r\n:5\r\n"},
         "*4\r\n$1\r\na\r\n:3\r\n$1\r\nb\r\n:5\r\n"},
        {MERGE_PAIRS,
         {"*4\r\n$1\r\na\r\n:1\r\n$1\r\na\r\n:1\r\n", "*4\r\n$1\r\na\r\n:2\r\n$1\r\na\r\n:2\r\n"},
         "*4\r\n$1\r\na\r\n:3\r\n$1\r\na\r\n:3\r\n"}, /* asked for twice */
        {MERGE_PAIRS, {"%1\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n"}, "%1\r\n$1\r\na\r\n:2\r\n"},
        {MERGE_PAIRS, {"*0\r\n", "*0\r\n"}, "*0\r\n"},
        {MERGE_PAIRS, {"*2\r\n$1\r\na\r\n:1\r\n", "*2\r\n$1\r\nb\r\n:1\r\n"}, DIFFERENT},
        {MERGE_PAIRS, {"*2\r\n$1\r\na\r\n:1\r\n", "*0\r\n"}, DIFFERENT},
        {MERGE_PAIRS, {"*1\r\n:1\r\n", "*1\r\n:1\r\n"}, DIFFERENT},
    };
    assert_examples(examples, LENGTH(examples));
}

static void texts_for_people_follow_each_other(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {MERGE_TEXT, {"$3\r\none\r\n", "$4\r\ntwo\n\r\n", "$3\r\nsix\r\n"}, "$11\r\none\ntwo\nsix\r\n"},
        {MERGE_TEXT, {"$3\r\none\r\n", "$3\r\none\r\n"}, "$3\r\none\r\n"},
        {MERGE_TEXT, {"=7\r\ntxt:one\r\n", "=7\r\ntxt:two\r\n"}, "=11\r\ntxt:one\ntwo\r\n"},
        {MERGE_TEXT, {"$3\r\none\r\n", "$-1\r\n"}, DIFFERENT},
    };
    assert_examples(examples, LENGTH(examples));
}

/* ---- MGET ---- */

static void elements_stand_where_their_keys_stood(void **state)
{
    (void)state;
    static const uint32_t of_first[] = {0, 3}, of_second[] = {1}, of_third[] = {2, 4, 5};
    struct merge_piece pieces[] = {
        {SLICE("*2\r\n$1\r\na\r\n$1\r\nd\r\n"), of_first, 2},
        {SLICE("*1\r\n$-1\r\n"), of_second, 1},
        {SLICE("*3\r\n$2\r\n\r\n\r\n*1\r\n:7\r\n_\r\n"), of_third, 3},
    };
    assert_true(merge_replies(MERGE_PLACES, pieces, 3, false, &seed, &buffer));
    assert_text((struct slice){buffer.bytes, buffer.size},
                "*6\r\n$1\r\na\r\n$-1\r\n$2\r\n\r\n\r\n$1\r\nd\r\n*1\r\n:7\r\n_\r\n");

    static const char *const bad[] = {"*1\r\n:1\r\n", "*3\r\n:1\r\n:2\r\n:3\r\n", "*-1\r\n", "$1\r\na\r\n",
                                      ":2\r\n"};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        pieces[0].reply = slice_of(bad[i]);
        assert_true(merge_replies(MERGE_PLACES, pieces, 3, false, &seed, &buffer));
        assert_text((struct slice){buffer.bytes, buffer.size}, DIFFERENT);
    }
}

static void large_elements_arrive_whole(void **state)
{
    (void)state;
    enum { SIZE = 3 << 20 };
    static const uint32_t of_first[] = {1}, of_second[] = {0};
    char *reply = malloc(SIZE + 64);
    assert_non_null(reply);
    int head = sprintf(reply, "*1\r\n$%d\r\n", SIZE);
    memset(reply + head, 'x', SIZE);
    memcpy(reply + head + SIZE, "\r\n", 2);
    const struct slice large = {reply, (size_t)head + SIZE + 2};

    const struct merge_piece pieces[] = {{large, of_first, 1}, {SLICE("*1\r\n:1\r\n"), of_second, 1}};
    assert_true(merge_replies(MERGE_PLACES, pieces, 2, false, &seed, &buffer));
    assert_int_equal(buffer.size, large.size + 4);
    assert_memory_equal(buffer.bytes, "*2\r\n:1\r\n$", 9);
    assert_memory_equal(buffer.bytes + 8, large.bytes + 4, large.size - 4);
    free(reply);
}

/* ---- SLOWLOG GET ---- */

#define ENTRY(id, time) "*3\r\n:" #id "\r\n:" #time "\r\n*1\r\n$4\r\nPING\r\n"

static void the_newest_entries_of_all_come_first_and_no_more_than_were_asked_for(void **state)
{
    (void)state;
    struct merge_piece pieces[] = {
        {.reply = SLICE("*2\r\n" ENTRY(7, 100) ENTRY(6, 50))},
        {.reply = SLICE("*0\r\n")},
        {.reply = SLICE("*3\r\n" ENTRY(9, 120) ENTRY(8, 100) ENTRY(7, 10))},
    };
    static const struct {
        uint32_t limit;
        const char *expected;
    } cases[] = {
        {0, "*5\r\n" ENTRY(9, 120) ENTRY(7, 100) ENTRY(8, 100) ENTRY(6, 50) ENTRY(7, 10)},
        {10, "*5\r\n" ENTRY(9, 120) ENTRY(7, 100) ENTRY(8, 100) ENTRY(6, 50) ENTRY(7, 10)},
        {3, "*3\r\n" ENTRY(9, 120) ENTRY(7, 100) ENTRY(8, 100)},
        {1, "*1\r\n" ENTRY(9, 120)},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        pieces[0].count = cases[i].limit;
        assert_true(merge_replies(MERGE_LATEST, pieces, 3, false, &seed, &buffer));
        assert_text((struct slice){buffer.bytes, buffer.size}, cases[i].expected);
    }
    static const char *const odd[] = {"*1\r\n:1\r\n", "*1\r\n*1\r\n:1\r\n", "*1\r\n*2\r\n:1\r\n+x\r\n",
                                      "+OK\r\n"};
    for (size_t i = 0; i < LENGTH(odd); i++) {
        const char *const replies[MOST_PIECES] = {"*0\r\n", odd[i]};
        assert_text(merged(MERGE_LATEST, replies, false), DIFFERENT);
    }
}

/* ---- RANDOMKEY ---- */

static void any_that_is_not_nil_is_chosen_and_each_in_its_turn(void **state)
{
    (void)state;
    static const char *const replies[MOST_PIECES] = {"$-1\r\n", "$1\r\na\r\n", "_\r\n", "$1\r\nb\r\n"};
    static const char *const none[MOST_PIECES] = {"$-1\r\n", "$-1\r\n"};
    unsigned a = 0, b = 0;
    for (int i = 0; i < 1000; i++) {
        struct slice reply = merged(MERGE_ANY, replies, false);
        a += slice_equals(reply, SLICE("$1\r\na\r\n"));
        b += slice_equals(reply, SLICE("$1\r\nb\r\n"));
    }
    assert_int_equal(a + b, 1000);
    assert_in_range(a, 400, 600);
    assert_text(merged(MERGE_ANY, none, false), "$-1\r\n");
}

/* ---- failures ---- */

static void the_first_error_is_the_reply_word_for_word(void **state)
{
    (void)state;
    static const char oom[] = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    for (int policy = 0; policy < MERGE_POLICY_COUNT; policy++) {
        static const char *const replies[MOST_PIECES] = {"*1\r\n:1\r\n", oom, "-ERR other\r\n"};
        static const char *const in_bulk[MOST_PIECES] = {"+OK\r\n", "!8\r\nERR a\r\nb\r\n"};
        if (policy == MERGE_ONE_OK) continue;
        assert_text(merged((enum merge_policy)policy, replies, false), oom);
        assert_text(merged((enum merge_policy)policy, in_bulk, false), "!8\r\nERR a\r\nb\r\n");
    }
}

static void a_write_that_failed_in_part_says_how_much_was_carried_out(void **state)
{
    (void)state;
    static const struct {
        const char *replies[MOST_PIECES];
        const char *expected;
    } cases[] = {
        {{"+OK\r\n", "-ERR no\r\n", "+OK\r\n"}, "-ERR no" CARRIED_OUT("2 of 3")},
        {{"+OK\r\n", "-ERR why; not executed\r\n"}, "-ERR why" CARRIED_OUT("1 of 2")},
        {{"-ERR no\r\n", "-ERR nor I\r\n", "+OK\r\n"}, "-ERR no" CARRIED_OUT("1 of 3")},
        {{"-ERR no\r\n", "-ERR nor I\r\n"}, "-ERR no\r\n"},
        {{"-ERR no\r\n"}, "-ERR no\r\n"},
        {{"+OK\r\n", "!8\r\nERR a\r\nb\r\n"}, "-ERR a  b" CARRIED_OUT("1 of 2")},
        {{"+OK\r\n", "|1\r\n+k\r\n+v\r\n-ERR no\r\n"}, "-ERR no" CARRIED_OUT("1 of 2")},
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_text(merged(MERGE_OK, cases[i].replies, true), cases[i].expected);

    static const char *const odd[MOST_PIECES] = {":1\r\n", "$1\r\n1\r\n"};
    assert_text(merged(MERGE_SUM, odd, true),
                "-ERR pointsman: nodes answered in ways that cannot be made one reply" CARRIED_OUT("2 of 2"));
}

static void one_that_succeeds_is_enough_for_kill(void **state)
{
    (void)state;
    static const char idle[] = "-NOTBUSY No scripts in execution right now.\r\n";
    static const struct {
        const char *replies[MOST_PIECES];
        const char *expected;
    } cases[] = {
        {{idle, "+OK\r\n", idle}, "+OK\r\n"},
        {{idle, idle}, idle},
        {{idle, "-UNKILLABLE it wrote\r\n", idle}, "-UNKILLABLE it wrote\r\n"},
        {{"-ERR first\r\n", "-ERR second\r\n"}, "-ERR first\r\n"},
        {{"-ERR first\r\n", "+OK\r\n"}, "+OK\r\n"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_text(merged(MERGE_ONE_OK, cases[i].replies, true), cases[i].expected);
}

static void a_reply_of_another_type_is_an_error_that_says_so(void **state)
{
    (void)state;
    static const struct {
        enum merge_policy policy;
        const char *replies[MOST_PIECES];
    } cases[] = {
        {MERGE_SUM, {":1\r\n", "+OK\r\n"}},
        {MERGE_SUM, {"$1\r\n1\r\n", "$1\r\n1\r\n"}},
        {MERGE_SUM, {":1\r\n", "$-1\r\n"}},
        {MERGE_SUM, {",1.5\r\n", ",1.5\r\n"}},
        {MERGE_SUM, {":1\r\n", "*1\r\n:1\r\n"}},
        {MERGE_AND, {"*2\r\n:1\r\n:1\r\n", "*1\r\n:1\r\n"}},
        {MERGE_AND, {"*1\r\n:1\r\n", "*1\r\n$-1\r\n"}},
        {MERGE_AND, {"*-1\r\n", "*-1\r\n"}},
        {MERGE_AND, {":1\r\n", "#t\r\n"}},
        {MERGE_MIN, {"+OK\r\n", ":1\r\n"}},
        {MERGE_CONCAT, {"*0\r\n", "$1\r\na\r\n"}},
        {MERGE_CONCAT, {":1\r\n", ":1\r\n"}},
        {MERGE_UNION, {"*0\r\n", ":1\r\n"}},
        {MERGE_TEXT, {":1\r\n", "$1\r\na\r\n"}},
        {MERGE_INFO, {"$1\r\na\r\n", "*0\r\n"}},
        {MERGE_INFO, {"$-1\r\n", "$1\r\na\r\n"}},
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_text(merged(cases[i].policy, cases[i].replies, false), DIFFERENT);
    assert_text(error_reply(ERROR_REPLIES_DIFFER), DIFFERENT);
}

static void attributes_before_a_reply_are_passed_over(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {MERGE_SUM, {"|1\r\n+ttl\r\n:3\r\n:1\r\n", ":2\r\n"}, ":3\r\n"},
        {MERGE_CONCAT, {"|1\r\n+a\r\n*1\r\n:3\r\n*1\r\n:1\r\n", "*1\r\n:2\r\n"}, "*2\r\n:1\r\n:2\r\n"},
        {MERGE_UNION, {"*1\r\n+a\r\n", "|1\r\n+k\r\n+v\r\n*1\r\n+a\r\n"}, "*1\r\n+a\r\n"},
    };
    assert_examples(examples, LENGTH(examples));
}

/* ---- INFO ---- */

/* Of texts with LF for line ends; the reply's text is compared so too. */
static void assert_info(const char *const *texts, const char *expected)
{
    char *replies[MOST_PIECES] = {NULL};
    const char *borrowed[MOST_PIECES] = {NULL};
    char *plain = NULL;
    size_t size;
    for (int i = 0; i < MOST_PIECES && texts[i]; i++) {
        char *lines = NULL;
        FILE *out = open_memstream(&lines, &size);
        for (const char *c = texts[i]; *c; c++)
            fprintf(out, *c == '\n' ? "\r\n" : "%c", *c);
        fclose(out);
        assert_true(asprintf(&replies[i], "$%zu\r\n%s\r\n", size, lines) > 0);
        borrowed[i] = replies[i];
        free(lines);
    }
    struct slice reply = merged(MERGE_INFO, borrowed, false);
    struct resp_value value;
    size_t position = 0;
    assert_true(resp_value_next(reply, &position, &value));
    FILE *out = open_memstream(&plain, &size);
    for (size_t i = 0; i < value.text.size; i++) {
        if (value.text.bytes[i] != '\r') fputc(value.text.bytes[i], out);
    }
    fclose(out);
    if (strcmp(plain, expected) != 0) fail_msg("\n%s--- not ---\n%s", plain, expected);
    free(plain);
    for (int i = 0; i < MOST_PIECES; i++)
        free(replies[i]);
}

#define ASSERT_INFO(expected, ...) assert_info((const char *const[MOST_PIECES]){__VA_ARGS__}, expected)

static void fields_are_added_up_compared_or_the_first_ones(void **state)
{
    (void)state;
    ASSERT_INFO("# Server\nredis_version:7.0.15\ntcp_port:1\nuptime_in_seconds:3\n\n"
                "# Clients\nconnected_clients:5\nclient_recent_max_input_buffer:20\n\n"
                "# Persistence\nloading:1\nrdb_last_save_time:100\nrdb_last_bgsave_status:err\n"
                "rdb_last_bgsave_time_sec:4\naof_enabled:0\n\n"
                "# Stats\ntotal_commands_processed:110\ninstantaneous_ops_per_sec:7\n"
                "instantaneous_input_kbps:2.05\nkeyspace_hits:3\nexpired_stale_perc:0.75\nsomething_new:1\n\n"
                "# CPU\nused_cpu_sys:3.000001\n",
                "# Server\nredis_version:7.0.15\ntcp_port:1\nuptime_in_seconds:9\n\n"
                "# Clients\nconnected_clients:2\nclient_recent_max_input_buffer:10\n\n"
                "# Persistence\nloading:0\nrdb_last_save_time:200\nrdb_last_bgsave_status:ok\n"
                "rdb_last_bgsave_time_sec:-1\naof_enabled:0\n\n"
                "# Stats\ntotal_commands_processed:10\ninstantaneous_ops_per_sec:3\n"
                "instantaneous_input_kbps:1.10\nkeyspace_hits:3\nexpired_stale_perc:0.75\nsomething_new:1\n\n"
                "# CPU\nused_cpu_sys:1.999999\n",
                "# Server\nredis_version:7.2.0\ntcp_port:2\nuptime_in_seconds:3\n\n"
                "# Clients\nconnected_clients:3\nclient_recent_max_input_buffer:20\n\n"
                "# Persistence\nloading:1\nrdb_last_save_time:100\nrdb_last_bgsave_status:err\n"
                "rdb_last_bgsave_time_sec:4\naof_enabled:1\n\n"
                "# Stats\ntotal_commands_processed:100\ninstantaneous_ops_per_sec:4\n"
                "instantaneous_input_kbps:0.95\nkeyspace_hits:0\nexpired_stale_perc:0.10\nsomething_new:2\n\n"
                "# CPU\nused_cpu_sys:1.000002\n");
}

static void what_is_said_of_memory_is_true_of_the_sum(void **state)
{
    (void)state;
    ASSERT_INFO(
        "# Memory\nused_memory:3072\nused_memory_human:3.00K\nused_memory_rss:4608\n"
        "used_memory_peak:4096\nused_memory_peak_perc:75.00%\nused_memory_startup:1024\n"
        "used_memory_dataset:512\nused_memory_dataset_perc:25.00%\nmaxmemory:0\nmaxmemory_human:0B\n"
        "total_system_memory:25769803776\ntotal_system_memory_human:24.00G\nmem_fragmentation_ratio:1.50\n"
        "mem_fragmentation_bytes:30\nmem_allocator:jemalloc-5.3.0\nused_memory_lua_human:1.00B\n",
        "# Memory\nused_memory:1024\nused_memory_human:1.00K\nused_memory_rss:1536\n"
        "used_memory_peak:2048\nused_memory_peak_perc:50.00%\nused_memory_startup:512\n"
        "used_memory_dataset:512\nused_memory_dataset_perc:100.00%\nmaxmemory:4096\nmaxmemory_human:4.00K\n"
        "total_system_memory:12884901888\ntotal_system_memory_human:12.00G\nmem_fragmentation_ratio:1.50\n"
        "mem_fragmentation_bytes:10\nmem_allocator:jemalloc-5.3.0\nused_memory_lua_human:1.00B\n",
        "# Memory\nused_memory:2048\nused_memory_human:2.00K\nused_memory_rss:3072\n"
        "used_memory_peak:2048\nused_memory_peak_perc:100.00%\nused_memory_startup:512\n"
        "used_memory_dataset:0\nused_memory_dataset_perc:0.00%\nmaxmemory:0\nmaxmemory_human:0B\n"
        "total_system_memory:12884901888\ntotal_system_memory_human:12.00G\nmem_fragmentation_ratio:1.50\n"
        "mem_fragmentation_bytes:20\nmem_allocator:libc\nused_memory_lua_human:2.00B\n");
    ASSERT_INFO("# Memory\nmaxmemory:300\nmaxmemory_human:300B\n",
                "# Memory\nmaxmemory:100\nmaxmemory_human:100B\n",
                "# Memory\nmaxmemory:200\nmaxmemory_human:200B\n");
    ASSERT_INFO("# Memory\nmem_fragmentation_ratio:9.99\n", "# Memory\nmem_fragmentation_ratio:9.99\n",
                "# Memory\nmem_fragmentation_ratio:1.00\n");
}

static void members_of_lists_are_added_up_one_by_one(void **state)
{
    (void)state;
    ASSERT_INFO("# Commandstats\n"
                "cmdstat_get:calls=4,usec=10,usec_per_call=2.50,rejected_calls=1,failed_calls=2\n"
                "cmdstat_ping:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0\n"
                "cmdstat_set:calls=3,usec=9,usec_per_call=3.00,rejected_calls=0,failed_calls=0\n\n"
                "# Errorstats\nerrorstat_ERR:count=5\nerrorstat_OOM:count=1\n\n"
                "# Latencystats\nlatency_percentiles_usec_get:p50=1.003,p99=7.007,p99.9=9.023\n\n"
                "# Keyspace\ndb0:keys=30,expires=4,avg_ttl=250\ndb1:keys=1,expires=0,avg_ttl=0\n",
                "# Commandstats\n"
                "cmdstat_get:calls=1,usec=4,usec_per_call=4.00,rejected_calls=1,failed_calls=2\n"
                "cmdstat_ping:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0\n\n"
                "# Errorstats\nerrorstat_ERR:count=2\n\n"
                "# Latencystats\nlatency_percentiles_usec_get:p50=1.003,p99=7.007,p99.9=8.000\n\n"
                "# Keyspace\ndb0:keys=10,expires=1,avg_ttl=1000\n",
                "# Commandstats\n"
                "cmdstat_set:calls=3,usec=9,usec_per_call=3.00,rejected_calls=0,failed_calls=0\n"
                "cmdstat_get:calls=3,usec=6,usec_per_call=2.00,rejected_calls=0,failed_calls=0\n\n"
                "# Errorstats\nerrorstat_OOM:count=1\nerrorstat_ERR:count=3\n\n"
                "# Latencystats\nlatency_percentiles_usec_get:p50=0.500,p99=6.000,p99.9=9.023\n\n"
                "# Keyspace\ndb0:keys=20,expires=3,avg_ttl=0\ndb1:keys=1,expires=0,avg_ttl=0\n");
    ASSERT_INFO("# Keysizes\ndb0_distrib_strings_sizes:1=3,4=2,2=1\n",
                "# Keysizes\ndb0_distrib_strings_sizes:1=1,4=2\n",
                "# Keysizes\ndb0_distrib_strings_sizes:1=2,2=1\n");
}

static void a_database_or_command_that_the_first_lacks_is_told_all_the_same(void **state)
{
    (void)state;
    ASSERT_INFO("# Errorstats\nerrorstat_A:count=3\nerrorstat_B:count=1\n\n# "
                "Keyspace\ndb0:keys=3,expires=0,avg_ttl=0\n",
                "# Errorstats\n\n# Keyspace\n",
                "# Errorstats\nerrorstat_A:count=1\n\n# Keyspace\ndb0:keys=1,expires=0,avg_ttl=0\n",
                "# Errorstats\nerrorstat_B:count=1\nerrorstat_A:count=2\n\n# "
                "Keyspace\ndb0:keys=2,expires=0,avg_ttl=0\n");
    /* But not what is of one server alone. */
    ASSERT_INFO("# Replication\nrole:master\nconnected_slaves:0\n",
                "# Replication\nrole:master\nconnected_slaves:0\n",
                "# Replication\nrole:master\nconnected_slaves:1\nslave0:ip=127.0.0.1,port=1,state=online\n");
}

static void numbers_that_are_none_leave_the_first_ones_line_as_it_is(void **state)
{
    (void)state;
    ASSERT_INFO("# Stats\ntotal_x:1\ntotal_y:a\ntotal_z:9000000000000000000\n# "
                "Keyspace\ndb0:keys=x,expires=2\ndb1:odd\n",
                "# Stats\ntotal_x:1\ntotal_y:a\ntotal_z:9000000000000000000\n# "
                "Keyspace\ndb0:keys=x,expires=1\ndb1:odd\n",
                "# Stats\ntotal_x:many\ntotal_y:1\ntotal_z:9000000000000000000\n# "
                "Keyspace\ndb0:keys=1,expires=1\ndb1:odd\n");
}

static void info_keeps_the_form_of_the_first(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {MERGE_INFO,
         {"=15\r\ntxt:total_x:1\r\n\r\n", "$11\r\ntotal_x:2\r\n\r\n"},
         "=15\r\ntxt:total_x:3\r\n\r\n"},
        {MERGE_INFO, {"$11\r\ntotal_x:1\r\n\r\n", "$11\r\ntotal_x:2\r\n\r\n"}, "$11\r\ntotal_x:3\r\n\r\n"},
        {MERGE_INFO, {"$0\r\n\r\n", "$0\r\n\r\n"}, "$0\r\n\r\n"},
    };
    assert_examples(examples, LENGTH(examples));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_all_say_is_said_once),
        cmocka_unit_test(integers_are_added_up_or_compared),
        cmocka_unit_test(lists_stand_one_behind_the_other),
        cmocka_unit_test(numbers_of_each_name_are_added_up),
        cmocka_unit_test(texts_for_people_follow_each_other),
        cmocka_unit_test(elements_stand_where_their_keys_stood),
        cmocka_unit_test(large_elements_arrive_whole),
        cmocka_unit_test(the_newest_entries_of_all_come_first_and_no_more_than_were_asked_for),
        cmocka_unit_test(any_that_is_not_nil_is_chosen_and_each_in_its_turn),
        cmocka_unit_test(the_first_error_is_the_reply_word_for_word),
        cmocka_unit_test(a_write_that_failed_in_part_says_how_much_was_carried_out),
        cmocka_unit_test(one_that_succeeds_is_enough_for_kill),
        cmocka_unit_test(a_reply_of_another_type_is_an_error_that_says_so),
        cmocka_unit_test(attributes_before_a_reply_are_passed_over),
        cmocka_unit_test(fields_are_added_up_compared_or_the_first_ones),
        cmocka_unit_test(what_is_said_of_memory_is_true_of_the_sum),
        cmocka_unit_test(members_of_lists_are_added_up_one_by_one),
        cmocka_unit_test(a_database_or_command_that_the_first_lacks_is_told_all_the_same),
        cmocka_unit_test(numbers_that_are_none_leave_the_first_ones_line_as_it_is),
        cmocka_unit_test(info_keeps_the_form_of_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, finish_buffer);
}
