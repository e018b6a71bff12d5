/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The wording of errors is Redis' own, taken byte for byte from a redis-server 7.0.15.
 */
#include "tests/resp_transcript.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct resp_limits redis_limits = {
    .max_arguments = INT32_MAX,
    .max_bulk_bytes = 512 << 20,
    .max_command_bytes = 1 << 30,
};

struct sample {
    struct slice given;
    const char *expected;
};

#define GIVEN(bytes, expected)                                                                               \
    {                                                                                                        \
        {(bytes), sizeof(bytes) - 1}, (expected)                                                             \
    }
#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

#define WHOLE(stream) ((struct pieces){(stream).size, 1})
#define BYTE_BY_BYTE  ((struct pieces){1, 1})

/* Scans each sample whole, byte by byte and cut in two at every place: the outcome must always be the same.
 */
static void expect_commands(struct slice given, const struct resp_limits *limits, const char *expected,
                            struct pieces pieces)
{
    char *transcript = transcript_of_commands(given, limits, pieces);
    if (strcmp(transcript, expected) != 0)
        print_error("pieces of %zu, then %zu\n", pieces.first, pieces.step);
    assert_string_equal(transcript, expected);
    free(transcript);
}

static void expect_commands_however_cut(const struct sample *samples, size_t count,
                                        const struct resp_limits *limits)
{
    for (size_t i = 0; i < count; i++) {
        struct slice given = samples[i].given;
        expect_commands(given, limits, samples[i].expected, BYTE_BY_BYTE);
        for (size_t cut = 1; cut <= given.size; cut++)
            expect_commands(given, limits, samples[i].expected, (struct pieces){cut, given.size});
    }
}

static void expect_replies(struct slice given, const char *expected, struct pieces pieces)
{
    char *transcript = transcript_of_replies(given, pieces);
    if (strcmp(transcript, expected) != 0)
        print_error("pieces of %zu, then %zu\n", pieces.first, pieces.step);
    assert_string_equal(transcript, expected);
    free(transcript);
}

static void expect_replies_however_cut(const struct sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct slice given = samples[i].given;
        expect_replies(given, samples[i].expected, BYTE_BY_BYTE);
        for (size_t cut = 1; cut <= given.size; cut++)
            expect_replies(given, samples[i].expected, (struct pieces){cut, given.size});
    }
}

/* `size` bytes: begin, then as many fill bytes as fit, then end. */
static struct slice long_line(const char *begin, char fill, const char *end, size_t size)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    memset(bytes, fill, size);
    memcpy(bytes, begin, strlen(begin));
    memcpy(bytes + size - strlen(end), end, strlen(end));
    return (struct slice){bytes, size};
}

static void expect_commands_of_long_line(const char *begin, char fill, const char *end, size_t size,
                                         const char *expected)
{
    struct slice line = long_line(begin, fill, end, size);
    expect_commands(line, &redis_limits, expected, WHOLE(line));
    expect_commands(line, &redis_limits, expected, (struct pieces){1, 1000});
    expect_commands(line, &redis_limits, expected, (struct pieces){64 * 1024 - 10, 1});
    free((char *)line.bytes);
}

/* ---- commands ---- */

static void arrays_of_bulks_are_commands(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("*1\r\n$4\r\nPING\r\n", "[PING] "),
        GIVEN("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n",
              "[GET][a] [SET][a][] "),
        GIVEN("*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\0\n\r\n", "[ECHO][\\x0d\\x0a\\x00\\x0a] "),
        GIVEN("*1\r\n$10\r\n0123456789\r\n*1\r\n$1\r\n*\r\n", "[0123456789] [*] "),
        GIVEN(
            "*12\r\n$1\r\n0\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n$1\r\n6\r\n$1\r\n7\r\n"
            "$1\r\n8\r\n$1\r\n9\r\n$1\r\na\r\n$1\r\nb\r\n",
            "[0][1][2][3][4][5][6][7][8][9][a][b] "),
        GIVEN("*2\r\n$3\r\nGET\r\n$1\r\na\r", "..."),
    };
    expect_commands_however_cut(samples, COUNT_OF(samples), &redis_limits);
}

static void empty_commands_are_passed_over(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("*0\r\n", ""),
        GIVEN("*-1\r\n", ""),
        GIVEN("*-9223372036854775808\r\n", ""),
        GIVEN("\r\n\n", ""),
        GIVEN(" \t\v\f \r\n", ""),
        GIVEN("\r\n*0\r\n\n*-5\r\n*1\r\n$1\r\nx\r\n\r\n", "[x] "),
    };
    expect_commands_however_cut(samples, COUNT_OF(samples), &redis_limits);
}

static void broken_arrays_get_the_words_of_redis(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("*abc\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*00\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*01\r\n$1\r\nz\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*+1\r\n$1\r\nz\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*-0\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*-\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("* 1\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*1\n$1\nz\n\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*2147483648\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*99999999999999999999\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*-9223372036854775809\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*1\r\nx\r\n", "!Protocol error: expected '$', got 'x'"),
        GIVEN("*1\r\n*1\r\n", "!Protocol error: expected '$', got '*'"),
        GIVEN("*1\r\n\xff\r\n", "!Protocol error: expected '$', got '\xff'"),
        GIVEN("*1\r\n'\r\n", "!Protocol error: expected '$', got '''"),
        GIVEN("*1\r\n\r\n\r\n", "!Protocol error: expected '$', got ' '"),
        GIVEN("*1\r\n\nfoo\r\n", "!Protocol error: expected '$', got ' '"),
        GIVEN("*2\r\n$1\r\na\r\nb\r\n", "!Protocol error: expected '$', got 'b'"),
        GIVEN("*1\r\n$-1\r\n", "!Protocol error: invalid bulk length"),
        GIVEN("*1\r\n$-0\r\n", "!Protocol error: invalid bulk length"),
        GIVEN("*1\r\n$\r\n", "!Protocol error: invalid bulk length"),
        GIVEN("*1\r\n$abc\r\n", "!Protocol error: invalid bulk length"),
        GIVEN("*1\r\n$01\r\nz\r\n", "!Protocol error: invalid bulk length"),
        GIVEN("*1\r\n$536870913\r\n", "!Protocol error: invalid bulk length"),
        GIVEN("*1\r\n$9223372036854775808\r\n", "!Protocol error: invalid bulk length"),
        GIVEN("*3\r\n$1\r\na\r\n$1\r\nb\r\n$1a\r\n", "!Protocol error: invalid bulk length"),
        GIVEN("*1\r\n$1\r\nx\r\n*x\r\n", "[x] !Protocol error: invalid multibulk length"),
    };
    expect_commands_however_cut(samples, COUNT_OF(samples), &redis_limits);
}

static void a_broken_line_is_judged_only_when_its_end_is_there(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("*abc", "..."),       GIVEN("*abc\r", "..."),   GIVEN("*1\r\nx\r", "..."),
        GIVEN("*1\r\n$-1", "..."),  GIVEN("*1\0\r\n", "..."), GIVEN("*1\r\n$1\0\r\n", "..."),
        GIVEN("\0PING\r\n", "..."),
    };
    expect_commands_however_cut(samples, COUNT_OF(samples), &redis_limits);
}

static void line_ends_that_redis_overlooks_make_a_command_not_forwardable(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("*1\rX$1\r\nz\r\n", "[z]~ "),
        GIVEN("*1\r\n$1\rXz\r\n", "[z]~ "),
        GIVEN("*1\r\n$1\r\nzXY", "[z]~ "),
        GIVEN("*1\r\n$1\r\nz\r\r", "[z]~ "),
        GIVEN("*2\r\n$1\r\nz\r\n$1\r\ny\n\n*1\r\n$1\r\nz\r\n", "[z][y]~ [z] "),
    };
    expect_commands_however_cut(samples, COUNT_OF(samples), &redis_limits);
}

static void inline_commands_are_split_like_redis_does(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("PING\r\n", "[PING]~ "),
        GIVEN("PING\n", "[PING]~ "),
        GIVEN("  GET\t a \r\nGET b\n", "[GET][a]~ [GET][b]~ "),
        GIVEN("SET a \"x y\"\r\n", "[SET][a][x y]~ "),
        GIVEN("SET \"\" ''\r\n", "[SET][][]~ "),
        GIVEN("zz a\"b c\"\n", "[zz][ab c]~ "),
        GIVEN("zz \"a\\x41\\x4g\\n\\r\\t\\b\\a\\q\\\\\\\"\"\r\n",
              "[zz][aAx4g\\x0a\\x0d\\x09\\x08\\x07q\\x5c\"]~ "),
        GIVEN("zz \"\\xff\\xFf\\x00\\x4\"\n", "[zz][\\xff\\xff\\x00x4]~ "),
        GIVEN("zz 'it\\'s \\n \"ok\"'\r\n", "[zz][it's \\x5cn \"ok\"]~ "),
        GIVEN("zz \"'\" '\"'\r\n", "[zz]['][\"]~ "),
        GIVEN("zz \\x41\\n\r\n", "[zz][\\x5cx41\\x5cn]~ "),
        GIVEN("zz a\rb\r\r\n", "[zz][a][b]~ "),
        GIVEN("zz \va\vb \v c\f\r\n", "[zz][a\\x0bb][c\\x0c]~ "),
        GIVEN("zz \xc3\xa9\xff\r\n", "[zz][\\xc3\\xa9\\xff]~ "),
        GIVEN("zz 'a'\v\"b\"\n", "[zz][a][b]~ "),
        GIVEN("$1\r\n", "[$1]~ "),
        GIVEN("PING", "..."),
        GIVEN("PING\r", "..."),
    };
    expect_commands_however_cut(samples, COUNT_OF(samples), &redis_limits);
}

static void unbalanced_quotes_are_refused(void **unused)
{
    (void)unused;
    static const char words[] = "!Protocol error: unbalanced quotes in request";
    static const struct sample samples[] = {
        GIVEN("zz \"abc\r\n", words),    GIVEN("zz 'abc\r\n", words),
        GIVEN("zz \"abc\"d\r\n", words), GIVEN("zz 'a'b\r\n", words),
        GIVEN("zz \"a\"'b'\r\n", words), GIVEN("zz \"\\\"\r\n", words),
        GIVEN("zz '\\'\r\n", words),     GIVEN("\"\n", words),
        GIVEN("zz \"\\\n", words),       GIVEN("zz \"\\x4\r\n", words),
    };
    expect_commands_however_cut(samples, COUNT_OF(samples), &redis_limits);
}

static void a_line_has_64_kib_and_no_more(void **unused)
{
    (void)unused;
    const size_t most = (size_t)64 * 1024;
    expect_commands_of_long_line("x", 'x', "x", most, "...");
    expect_commands_of_long_line("x", 'x', "x", most + 1, "!Protocol error: too big inline request");
    expect_commands_of_long_line("", '\0', "", most + 1, "!Protocol error: too big inline request");
    expect_commands_of_long_line("", ' ', "\n", most + 1, "");
    expect_commands_of_long_line("", ' ', "\n", most + 2, "!Protocol error: too big inline request");
    expect_commands_of_long_line("*", '1', "1", most, "...");
    expect_commands_of_long_line("*", '1', "1", most + 1, "!Protocol error: too big mbulk count string");
    expect_commands_of_long_line("*", '1', "\r\n", most + 2, "!Protocol error: invalid multibulk length");
    expect_commands_of_long_line("*", '\0', "\r\n", most + 1, "!Protocol error: too big mbulk count string");
    expect_commands_of_long_line("*1\r\n$", '1', "1", most + 4, "...");
    expect_commands_of_long_line("*1\r\n$", '1', "1", most + 5, "!Protocol error: too big bulk count string");
    expect_commands_of_long_line("*1\r\n", 'x', "x", most + 5, "!Protocol error: too big bulk count string");
}

static void before_authentication_commands_must_be_small(void **unused)
{
    (void)unused;
    struct resp_limits limits = redis_limits;
    limits.is_unauthenticated = true;
    static const struct sample samples[] = {
        GIVEN("*11\r\n", "!Protocol error: unauthenticated multibulk length"),
        GIVEN("*10\r\n", "..."),
        GIVEN("*2147483648\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*2\r\n$16385\r\n", "!Protocol error: unauthenticated bulk length"),
        GIVEN("*2\r\n$16384\r\n", "..."),
        GIVEN("*2\r\n$536870913\r\n", "!Protocol error: invalid bulk length"),
    };
    expect_commands_however_cut(samples, COUNT_OF(samples), &limits);
}

static void limits_hold_exactly(void **unused)
{
    (void)unused;
    const struct resp_limits limits = {.max_arguments = 3, .max_bulk_bytes = 5, .max_command_bytes = 30};
    static const struct sample samples[] = {
        GIVEN("*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", "[a][b][c] "),
        GIVEN("*4\r\n$1\r\na\r\n", "!Protocol error: invalid multibulk length"),
        GIVEN("*1\r\n$5\r\n12345\r\n", "[12345] "),
        GIVEN("*1\r\n$6\r\n", "!Protocol error: invalid bulk length"),
        GIVEN("*3\r\n$5\r\n12345\r\n$4\r\n1234\r\n$0\r\n\r\n", "!Protocol error: too big request"),
        GIVEN("*3\r\n$4\r\n1234\r\n$4\r\n1234\r\n$0\r\n\r\n", "[1234][1234][] "),
        GIVEN("12345678901234567890123456789\n", "[12345678901234567890123456789]~ "),
        GIVEN("123456789012345678901234567890\n", "!Protocol error: too big request"),
        GIVEN("a b c\n", "[a][b][c]~ "),
        GIVEN("a b c d\n", "!Protocol error: too big inline request"),
    };
    expect_commands_however_cut(samples, COUNT_OF(samples), &limits);
}

static void the_announced_number_of_arguments_costs_no_memory(void **unused)
{
    (void)unused;
    static const char bytes[] = "*2147483647\r\n$1\r\na\r\n";
    struct resp_command state = {0};
    struct resp_arguments arguments = {0};
    size_t used;
    const char *error;
    assert_int_equal(
        resp_command_scan(&state, &redis_limits, bytes, sizeof bytes - 1, &arguments, &used, &error),
        RESP_MORE);
    assert_in_range(arguments.capacity, 1, 64);
    resp_arguments_finish(&arguments);
    assert_null(arguments.items);
    assert_int_equal(arguments.capacity, 0);
}

static void an_argument_that_is_being_read_is_wanted_to_its_end(void **unused)
{
    (void)unused;
    static const char bytes[] = "*2\r\n$3\r\nGET\r\n$1000\r\nabc";
    struct resp_command state = {0};
    struct resp_arguments arguments = {0};
    size_t used;
    const char *error;
    assert_int_equal(resp_command_wanted(&state), 1);
    assert_int_equal(
        resp_command_scan(&state, &redis_limits, bytes, sizeof bytes - 1, &arguments, &used, &error),
        RESP_MORE);
    assert_int_equal(resp_command_wanted(&state), 20 + 1000 + 2);
    resp_arguments_finish(&arguments);
}

static void many_arguments_byte_by_byte_are_listed_once(void **unused)
{
    (void)unused;
    enum { ARGUMENTS = 10000 };
    char *bytes = malloc((size_t)ARGUMENTS * 16 + 16);
    assert_non_null(bytes);
    size_t size = (size_t)sprintf(bytes, "*%d\r\n", ARGUMENTS);
    for (int i = 0; i < ARGUMENTS; i++)
        size += (size_t)sprintf(bytes + size, "$4\r\n%04d\r\n", i);

    struct resp_command state = {0};
    struct resp_arguments arguments = {0};
    size_t used = 0;
    const char *error;
    for (size_t there = 1; there < size; there++) {
        assert_int_equal(resp_command_scan(&state, &redis_limits, bytes, there, &arguments, &used, &error),
                         RESP_MORE);
        assert_true(state.scanned + 8 >= there || state.has_bulk);
    }
    assert_int_equal(resp_command_scan(&state, &redis_limits, bytes, size, &arguments, &used, &error),
                     RESP_DONE);
    assert_int_equal(used, size);
    assert_int_equal(arguments.count, ARGUMENTS);
    assert_true(arguments.items[ARGUMENTS - 1].bytes == bytes + size - 6);
    assert_memory_equal(arguments.items[1234].bytes, "1234", 4);
    resp_arguments_finish(&arguments);
    free(bytes);
}

static void no_bytes_are_no_command(void **unused)
{
    (void)unused;
    struct resp_command state = {0};
    struct resp_arguments arguments = {0};
    size_t used;
    const char *error;
    assert_int_equal(resp_command_scan(&state, &redis_limits, NULL, 0, &arguments, &used, &error), RESP_MORE);
    assert_int_equal(used, 0);
    assert_int_equal(resp_command_wanted(&state), 1);
}

static void the_bytes_of_arrays_are_not_inline(void **unused)
{
    (void)unused;
    assert_false(resp_is_inline("*1\r\n"));
    assert_true(resp_is_inline("PING\r\n"));
    assert_true(resp_is_inline("$4\r\n"));
}

static void arguments_are_encoded_as_an_array(void **unused)
{
    (void)unused;
    static const struct slice items[] = {{"SET", 3}, {"a", 1}, {"0123456789", 10}, {NULL, 0}};
    static const char expected[] = "*4\r\n$3\r\nSET\r\n$1\r\na\r\n$10\r\n0123456789\r\n$0\r\n\r\n";
    char out[sizeof expected];
    assert_int_equal(resp_encoded_size(items, COUNT_OF(items)), sizeof expected - 1);
    assert_int_equal(resp_encode(out, items, COUNT_OF(items)), sizeof expected - 1);
    assert_memory_equal(out, expected, sizeof expected - 1);
    assert_int_equal(resp_encoded_size(items, 0), 4);
    assert_int_equal(resp_encode(out, items, 0), 4);
    assert_memory_equal(out, "*0\r\n", 4);
}

/* ---- replies ---- */

static void replies_of_resp2_are_passed_over(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("+OK\r\n", "+OK | "),
        GIVEN("+\r\n", "+ | "),
        GIVEN("-ERR no \n such\r\n+PONG\r\n", "-ERR no \\x0a such | +PONG | "),
        GIVEN(":0\r\n:-1\r\n:9223372036854775807\r\n:-9223372036854775808\r\n",
              ":0 | :-1 | :9223372036854775807 | :-9223372036854775808 | "),
        GIVEN("$0\r\n\r\n$3\r\nfoo\r\n$-1\r\n$2\r\n\r\n\r\n", "$0= | $3=foo | $null | $2=\\x0d\\x0a | "),
        GIVEN("$12\r\n0123456789ab\r\n", "$12=0123456789ab | "),
        GIVEN("*0\r\n*-1\r\n*2\r\n$1\r\na\r\n:1\r\n", "*0 | *null | *2 $1=a :1 | "),
        GIVEN("*2\r\n*2\r\n+a\r\n$-1\r\n*1\r\n*0\r\n+b\r\n", "*2 *2 +a $null *1 *0 | +b | "),
        GIVEN("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", "*3 $9=subscribe $1=c :1 | "),
        GIVEN("$3\r\nfo", "..."),
        GIVEN("*2\r\n+a\r\n", "..."),
        GIVEN("+OK\r", "..."),
    };
    expect_replies_however_cut(samples, COUNT_OF(samples));
}

static void replies_of_resp3_are_passed_over(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("_\r\n#t\r\n#f\r\n", "_null | #1 | #0 | "),
        GIVEN(",1.5\r\n,inf\r\n,-nan\r\n(3492890328409238509324850943850943825024385\r\n",
              ",1.5 | ,inf | ,-nan | (3492890328409238509324850943850943825024385 | "),
        GIVEN("!5\r\nERR x\r\n=7\r\ntxt:a\r\n\r\n=4\r\nmkd:\r\n", "!5=ERR x | =3=a\\x0d\\x0a | =0= | "),
        GIVEN("%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n", "%4 +a :1 +b *1 :2 | "),
        GIVEN("%0\r\n~0\r\n~1\r\n_\r\n", "%0 | ~0 | ~1 _null | "),
        GIVEN(">2\r\n+message\r\n$1\r\nx\r\n+OK\r\n", ">2 +message $1=x | +OK | "),
    };
    expect_replies_however_cut(samples, COUNT_OF(samples));
}

static void an_attribute_is_part_of_the_reply_behind_it(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("|1\r\n+ttl\r\n:5\r\n-ERR x\r\n+OK\r\n", "|2 +ttl :5 -ERR x | +OK | "),
        GIVEN("|0\r\n$1\r\na\r\n", "|0 $1=a | "),
        GIVEN("|1\r\n+a\r\n*1\r\n:1\r\n|1\r\n+b\r\n+c\r\n*1\r\n+d\r\n", "|2 +a *1 :1 |2 +b +c *1 +d | "),
        GIVEN("*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", "*2 |2 +a +b :1 :2 | "),
        GIVEN("|1\r\n+a\r\n:1\r\n", "..."),
    };
    expect_replies_however_cut(samples, COUNT_OF(samples));
}

static void a_push_inside_an_array_is_none_of_its_elements(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("*2\r\n>2\r\n+message\r\n$1\r\nx\r\n:1\r\n:2\r\n+OK\r\n", "*2 >2 +message $1=x :1 :2 | +OK | "),
        GIVEN("*1\r\n>1\r\n+a\r\n*1\r\n>1\r\n+b\r\n:1\r\n>1\r\n+c\r\n", "*1 >1 +a *1 >1 +b :1 | >1 +c | "),
        GIVEN("*1\r\n>1\r\n+a\r\n", "..."),
    };
    expect_replies_however_cut(samples, COUNT_OF(samples));
}

static void what_is_no_reply_is_refused(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("x\r\n", "!"),
        GIVEN("\r\n", "!"),
        GIVEN("\0", "!"),
        GIVEN("+a\rb\r\n", "!"),
        GIVEN("+a\r\r\n", "!"),
        GIVEN(":\r\n", "!"),
        GIVEN(":-\r\n", "!"),
        GIVEN(":1x\r\n", "!"),
        GIVEN(":+1\r\n", "!"),
        GIVEN(":-0\r\n", "!"),
        GIVEN(":01\r\n", "!"),
        GIVEN(":--1\r\n", "!"),
        GIVEN(":1-\r\n", "!"),
        GIVEN(":9223372036854775808\r\n", "!"),
        GIVEN(":-9223372036854775809\r\n", "!"),
        GIVEN("$abc\r\n", "!"),
        GIVEN("$\r\n", "!"),
        GIVEN("$-2\r\n", "!"),
        GIVEN("$-10\r\n", "!"),
        GIVEN("$03\r\nfoo\r\n", "!"),
        GIVEN("$3\rfoo\r\n", "!"),
        GIVEN("$3\nfoo\r\n", "!"),
        GIVEN("$3\r\nfooo\r\n", "!"),
        GIVEN("$3\r\nfoo\n\r", "!"),
        GIVEN("$3\r\nfoo\rx", "!"),
        GIVEN("$4294967297\r\n", "!"),
        GIVEN("$99999999999\r\n", "!"),
        GIVEN("$?\r\n", "!"),
        GIVEN("*?\r\n", "!"),
        GIVEN("*-2\r\n", "!"),
        GIVEN("*1099511627777\r\n", "!"),
        GIVEN("*9223372036854775807\r\n", "!"),
        GIVEN("*2\r\n*1099511627775\r\n", "!"),
        GIVEN("%549755813889\r\n", "!"),
        GIVEN("%9223372036854775807\r\n", "!"),
        GIVEN("%-1\r\n", "!"),
        GIVEN("~-1\r\n", "!"),
        GIVEN(">-1\r\n", "!"),
        GIVEN("|-1\r\n", "!"),
        GIVEN("=-1\r\n", "!"),
        GIVEN("!-1\r\n", "!"),
        GIVEN("=3\r\ntxt\r\n", "!"),
        GIVEN("#x\r\n", "!"),
        GIVEN("#tt\r\n", "!"),
        GIVEN("#\r\n", "!"),
        GIVEN("_x\r\n", "!"),
        GIVEN("+OK\r\n*2\r\n+a\r\nb", "+OK | !"),
    };
    expect_replies_however_cut(samples, COUNT_OF(samples));
}

static void the_largest_lengths_are_still_replies(void **unused)
{
    (void)unused;
    static const struct sample samples[] = {
        GIVEN("$4294967296\r\n", "..."),
        GIVEN("*1099511627775\r\n:1\r\n", "..."),
        GIVEN("%549755813887\r\n", "..."),
        GIVEN("*1000000\r\n:1\r\n", "..."),
    };
    expect_replies_however_cut(samples, COUNT_OF(samples));
}

static void expect_reply_line(size_t payload, const char *expected)
{
    struct slice line = long_line("+", 'x', "\r\n", payload + 3);
    expect_replies(line, expected, WHOLE(line));
    expect_replies(line, expected, (struct pieces){1, 1000});
    free((char *)line.bytes);
}

static void a_status_line_has_one_mib_and_no_more(void **unused)
{
    (void)unused;
    struct slice line = long_line("+", 'x', "\r\n", (1 << 20) + 3);
    char *expected = transcript_of_replies(line, WHOLE(line));
    assert_memory_equal(expected, "+<1048576 bytes, ", 17);
    expect_reply_line(1 << 20, expected);
    expect_reply_line((1 << 20) + 1, "!");
    free(expected);
    free((char *)line.bytes);
}

static void nesting_is_as_deep_as_it_likes(void **unused)
{
    (void)unused;
    enum { DEPTH = 100000 };
    char *bytes = malloc((size_t)DEPTH * 4 + 4);
    assert_non_null(bytes);
    for (size_t i = 0; i < DEPTH; i++)
        memcpy(bytes + i * 4, "*1\r\n", 4);
    memcpy(bytes + (size_t)DEPTH * 4, ":1\r\n", 4);

    struct resp_reply state = {0};
    size_t used;
    assert_int_equal(resp_reply_scan(&state, bytes, (size_t)DEPTH * 4, &used), RESP_MORE);
    assert_int_equal(state.owed, 1);
    assert_int_equal(resp_reply_scan(&state, bytes + (size_t)DEPTH * 4, 4, &used), RESP_DONE);
    assert_int_equal(used, 4);
    assert_true(resp_reply_is_idle(&state));

    size_t position = 0;
    assert_true(resp_value_skip((struct slice){bytes, DEPTH * 4 + 4}, &position));
    assert_int_equal(position, DEPTH * 4 + 4);
    free(bytes);
}

static void the_type_of_a_reply_is_known_from_its_first_byte_on(void **unused)
{
    (void)unused;
    struct resp_reply state = {0};
    size_t used;
    assert_int_equal(resp_reply_scan(&state, "-", 1, &used), RESP_MORE);
    assert_int_equal(state.type, '-');
    assert_int_equal(resp_reply_scan(&state, "ERR\r\n*1\r\n", 9, &used), RESP_DONE);
    assert_int_equal(used, 5);
    assert_int_equal(state.type, '-');
    assert_int_equal(resp_reply_scan(&state, "*1\r\n:1\r\n", 8, &used), RESP_DONE);
    assert_int_equal(state.type, '*');
    assert_int_equal(resp_reply_scan(&state, "|1\r\n+a\r\n:1\r\n", 12, &used), RESP_MORE);
    assert_int_equal(resp_reply_scan(&state, "$", 1, &used), RESP_MORE);
    assert_int_equal(state.type, '$');
}

/* ---- values ---- */

static void elements_are_skipped_with_their_children(void **unused)
{
    (void)unused;
    struct slice reply =
        SLICE("*4\r\n*2\r\n+a\r\n%1\r\n+b\r\n$1\r\nc\r\n|1\r\n+d\r\n+e\r\n:1\r\n$-1\r\n+last\r\n");
    size_t position = 0;
    struct resp_value value;
    assert_true(resp_value_next(reply, &position, &value));
    assert_int_equal(value.integer, 4);
    for (int i = 0; i < 3; i++)
        assert_true(resp_value_skip(reply, &position));
    assert_true(resp_value_next(reply, &position, &value));
    assert_true(slice_is(value.text, "last"));
    assert_int_equal(position, reply.size);
    assert_false(resp_value_next(reply, &position, &value));
    assert_false(resp_value_skip(reply, &position));
    assert_int_equal(position, reply.size);
}

static void values_that_are_not_good_leave_the_position(void **unused)
{
    (void)unused;
    static const struct slice replies[] = {
        {"", 0},
        {"x\r\n", 3},
        {"+a", 2},
        {"+a\r", 3},
        {"+a\rb", 4},
        {":x\r\n", 4},
        {":\r\n", 3},
        {"$3\r\nfoo", 7},
        {"$3\r\nfoo\r", 8},
        {"$3\r\nfooxx", 9},
        {"$-2\r\n", 5},
        {"$9\r\n\r\n", 6},
        {"=3\r\ntxt\r\n", 9},
        {"*-2\r\n", 5},
        {"#x\r\n", 4},
        {"_x\r\n", 4},
        {"%-1\r\n", 5},
        {"$9223372036854775807\r\n\r\n", 24},
        {"%9223372036854775807\r\n", 22},
    };
    for (size_t i = 0; i < COUNT_OF(replies); i++) {
        char *copy = copy_exactly(replies[i].bytes, replies[i].size);
        size_t position = 0;
        struct resp_value value;
        assert_false(resp_value_next((struct slice){copy, replies[i].size}, &position, &value));
        assert_int_equal(position, 0);
        assert_false(resp_value_skip((struct slice){copy, replies[i].size}, &position));
        assert_int_equal(position, 0);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_of_bulks_are_commands),
        cmocka_unit_test(empty_commands_are_passed_over),
        cmocka_unit_test(broken_arrays_get_the_words_of_redis),
        cmocka_unit_test(a_broken_line_is_judged_only_when_its_end_is_there),
        cmocka_unit_test(line_ends_that_redis_overlooks_make_a_command_not_forwardable),
        cmocka_unit_test(inline_commands_are_split_like_redis_does),
        cmocka_unit_test(unbalanced_quotes_are_refused),
        cmocka_unit_test(a_line_has_64_kib_and_no_more),
        cmocka_unit_test(before_authentication_commands_must_be_small),
        cmocka_unit_test(limits_hold_exactly),
        cmocka_unit_test(the_announced_number_of_arguments_costs_no_memory),
        cmocka_unit_test(an_argument_that_is_being_read_is_wanted_to_its_end),
        cmocka_unit_test(many_arguments_byte_by_byte_are_listed_once),
        cmocka_unit_test(no_bytes_are_no_command),
        cmocka_unit_test(the_bytes_of_arrays_are_not_inline),
        cmocka_unit_test(arguments_are_encoded_as_an_array),
        cmocka_unit_test(replies_of_resp2_are_passed_over),
        cmocka_unit_test(replies_of_resp3_are_passed_over),
        cmocka_unit_test(an_attribute_is_part_of_the_reply_behind_it),
        cmocka_unit_test(a_push_inside_an_array_is_none_of_its_elements),
        cmocka_unit_test(what_is_no_reply_is_refused),
        cmocka_unit_test(the_largest_lengths_are_still_replies),
        cmocka_unit_test(a_status_line_has_one_mib_and_no_more),
        cmocka_unit_test(nesting_is_as_deep_as_it_likes),
        cmocka_unit_test(the_type_of_a_reply_is_known_from_its_first_byte_on),
        cmocka_unit_test(elements_are_skipped_with_their_children),
        cmocka_unit_test(values_that_are_not_good_leave_the_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
