/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/blocking.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

enum { MAX_WORDS = 16 };

struct words {
    struct slice items[MAX_WORDS];
    size_t count;
};

/* Words between single spaces; two in a row enclose an empty one. */
static struct words split(const char *text)
{
    struct words words = {.count = 0};
    for (const char *start = text;; start++) {
        size_t size = strcspn(start, " ");
        assert_true(words.count < MAX_WORDS);
        words.items[words.count++] = (struct slice){start, size};
        start += size;
        if (!*start) return words;
    }
}

static const struct command *find(const struct words *words)
{
    const struct command *command = command_find(command_set_builtin(), words->items, words->count);
    assert_non_null(command);
    assert_true(command_is_blocking(command, words->items, words->count));
    return command;
}

static void timeout_is_found_where_the_command_has_it(void **unused)
{
    (void)unused;
    static const struct {
        const char *command;
        uint32_t position;
        uint64_t timeout_ms;
    } samples[] = {
        {"BLPOP key 5", 2, 5000},
        {"blpop a b c 0.5", 4, 500},
        {"BRPOP key 0", 2, 0},
        {"BLMOVE a b LEFT RIGHT 7", 5, 7000},
        {"BRPOPLPUSH a b 0.001", 3, 1},
        {"BZPOPMIN key 1", 2, 1000},
        {"BZPOPMAX key 1", 2, 1000},
        {"BLMPOP 3 2 9 8 LEFT COUNT 4", 1, 3000},
        {"BZMPOP 1.5 1 key MIN", 1, 1500},
        {"XREAD BLOCK 250 STREAMS s $", 2, 250},
        {"XREAD COUNT 9 block 250 STREAMS s $", 4, 250},
        {"XREAD BLOCK 1 BLOCK 2 STREAMS s $", 4, 2},
        {"XREAD BLOCK 5 STREAMS BLOCK 7", 2, 5},
        {"XREADGROUP GROUP BLOCK BLOCK BLOCK 60 NOACK STREAMS s >", 5, 60},
        {"WAIT 2 300", 2, 300},
        {"WAITAOF 1 2 0", 3, 0},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct words words = split(samples[i].command);
        struct blocking_timeout timeout = blocking_timeout_of(find(&words), words.items, words.count);
        assert_int_equal(timeout.position, samples[i].position);
        assert_int_equal(timeout.timeout_ms, samples[i].timeout_ms);
    }
}

/* As a redis-server 7.0.15 takes them, or answers "timeout is not a float", "is negative", "out of range". */
static void seconds_are_read_as_redis_reads_them(void **unused)
{
    (void)unused;
    static const struct {
        const char *command;
        bool is_good;
        uint64_t timeout_ms;
    } samples[] = {
        {"BLPOP a 0.0000000001", true, 1},
        {"BLPOP a 1e-2", true, 10},
        {"BLPOP a +0.01", true, 10},
        {"BLPOP a .01", true, 10},
        {"BLPOP a 0x1", true, 1000},
        {"BLPOP a 0.00", true, 0},
        {"BLPOP a -0.0", true, 0},
        {"BLPOP a 0.0011", true, 2},
        {"BLPOP a 4.000", true, 4000},
        {"BLPOP a abc", false, 0},
        {"BLPOP a -1", false, 0},
        {"BLPOP a nan", false, 0},
        {"BLPOP a inf", false, 0},
        {"BLPOP a 0.1e", false, 0},
        {"BLPOP a ", false, 0},
        {"BLPOP a \t1", false, 0},
        {"BLPOP a 1x", false, 0},
        {"BLPOP a 9999999999999999", false, 0},
        {"BLPOP a 1e5000", false, 0},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct words words = split(samples[i].command);
        struct blocking_timeout timeout = blocking_timeout_of(find(&words), words.items, words.count);
        assert_int_equal(timeout.position > 0, samples[i].is_good);
        if (samples[i].is_good) assert_int_equal(timeout.timeout_ms, samples[i].timeout_ms);
    }
}

static void milliseconds_are_digits_alone(void **unused)
{
    (void)unused;
    static const char *const bad[] = {
        "WAIT 1 abc",
        "WAIT 1 -1",
        "WAIT 1 +1",
        "WAIT 1 01",
        "WAIT 1 0.5",
        "WAIT 1 ",
        "WAIT 1 99999999999999999999",
        "XREAD BLOCK 0.5 STREAMS a $",
        "XREAD COUNT 1 BLOCK",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct words words = split(bad[i]);
        assert_int_equal(blocking_timeout_of(find(&words), words.items, words.count).position, 0);
    }
}

static void text_is_read_within_its_bytes(void **unused)
{
    (void)unused;
    char digits[400];
    memset(digits, '1', sizeof digits);
    const struct slice words[] = {SLICE("BLPOP"), SLICE("a"), {digits, sizeof digits}};
    const struct command *command = command_find(command_set_builtin(), words, 3);
    assert_int_equal(blocking_timeout_of(command, words, 3).position, 0);
    const struct slice short_words[] = {SLICE("BLPOP"), SLICE("a"), {digits, 1}};
    assert_int_equal(blocking_timeout_of(command, short_words, 3).timeout_ms, 1000);
}

static void time_left_is_written_as_the_command_takes_it(void **unused)
{
    (void)unused;
    static const struct {
        const char *command;
        uint64_t timeout_ms;
        const char *text;
    } samples[] = {
        {"BLPOP a 1", 1, "0.001"},
        {"BLPOP a 1", 12345, "12.345"},
        {"BLMPOP 1 1 a LEFT", 700, "0.700"},
        {"XREAD BLOCK 9 STREAMS a $", 12345, "12345"},
        {"WAIT 1 9", 5, "5"},
        {"BLPOP a 1", INT64_MAX / 4, "2305843009213693.951"},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct words words = split(samples[i].command);
        const struct command *command = find(&words);
        char text[BLOCKING_TEXT_SIZE];
        struct slice written =
            blocking_write_timeout((enum command_block)command->block, samples[i].timeout_ms, text);
        assert_true(slice_equals(written, slice_of(samples[i].text)));
        words.items[blocking_timeout_of(command, words.items, words.count).position] = written;
        assert_int_equal(blocking_timeout_of(command, words.items, words.count).timeout_ms,
                         samples[i].timeout_ms);
    }
}

static void end_of_the_time_is_answered_as_by_redis(void **unused)
{
    (void)unused;
    static const struct {
        const char *command;
        const char *resp2, *resp3;
        bool is_for_data;
    } samples[] = {
        {"BLPOP a 1", "*-1\r\n", "_\r\n", true},
        {"BLMOVE a b LEFT LEFT 1", "*-1\r\n", "_\r\n", true},
        {"BRPOPLPUSH a b 1", "*-1\r\n", "_\r\n", true},
        {"BZMPOP 1 1 a MIN", "*-1\r\n", "_\r\n", true},
        {"XREADGROUP GROUP g c BLOCK 1 STREAMS a >", "*-1\r\n", "_\r\n", true},
        {"WAIT 1 1", ":0\r\n", ":0\r\n", false},
        {"WAITAOF 0 1 1", "*2\r\n:0\r\n:0\r\n", "*2\r\n:0\r\n:0\r\n", false},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct words words = split(samples[i].command);
        const struct command *command = find(&words);
        assert_true(slice_equals(blocking_reply_of_end(command, 2), slice_of(samples[i].resp2)));
        assert_true(slice_equals(blocking_reply_of_end(command, 3), slice_of(samples[i].resp3)));
        assert_int_equal(blocking_is_for_data((enum command_block)command->block), samples[i].is_for_data);
    }
}

/* Else a command would be sent once only, and nobody would notice. */
static void every_row_that_blocks_says_how(void **unused)
{
    (void)unused;
    static const char *const names[] = {"BLMOVE",     "BLMPOP",     "BLPOP",    "BRPOP",
                                        "BRPOPLPUSH", "BZMPOP",     "BZPOPMAX", "BZPOPMIN",
                                        "XREAD",      "XREADGROUP", "WAIT",     "WAITAOF"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct slice name = slice_of(names[i]);
        assert_int_not_equal(command_find(command_set_builtin(), &name, 1)->block, BLOCK_UNKNOWN);
    }
}

static void command_that_nobody_knows_has_no_timeout(void **unused)
{
    (void)unused;
    static const struct command learned = {.name = "MODULE.POP", .full_name = "module.pop", .pin = PIN_BLOCK};
    struct words words = split("MODULE.POP key 5");
    assert_int_equal(blocking_timeout_of(&learned, words.items, words.count).position, 0);
    assert_false(blocking_is_for_data((enum command_block)learned.block));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeout_is_found_where_the_command_has_it),
        cmocka_unit_test(seconds_are_read_as_redis_reads_them),
        cmocka_unit_test(milliseconds_are_digits_alone),
        cmocka_unit_test(text_is_read_within_its_bytes),
        cmocka_unit_test(time_left_is_written_as_the_command_takes_it),
        cmocka_unit_test(end_of_the_time_is_answered_as_by_redis),
        cmocka_unit_test(every_row_that_blocks_says_how),
        cmocka_unit_test(command_that_nobody_knows_has_no_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
