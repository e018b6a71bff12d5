/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What measures must be right itself: percentiles, the times at which requests are due, where replies end.
 */
#include "tests/bench/openloop/histogram.h"
#include "tests/bench/openloop/options.h"
#include "tests/bench/openloop/reply.h"
#include "tests/bench/openloop/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

static void assert_near(uint64_t value, uint64_t wanted)
{
    assert_in_range(value, wanted, wanted + wanted / 100);
}

static void percentiles_are_within_one_per_cent(void **unused)
{
    (void)unused;
    static struct histogram histogram;
    for (uint64_t value = 1; value <= 1000000; value++)
        histogram_add(&histogram, value);
    assert_near(histogram_percentile(&histogram, 0.5), 500000);
    assert_near(histogram_percentile(&histogram, 0.99), 990000);
    assert_near(histogram_percentile(&histogram, 0.999), 999000);
    assert_int_equal(histogram_percentile(&histogram, 1), 1000000);
    assert_int_equal(histogram.highest, 1000000);
    assert_near((uint64_t)histogram_mean(&histogram), 500000);
}

static void values_of_any_size_have_a_bucket(void **unused)
{
    (void)unused;
    static const uint64_t values[] = {0,         1, 127, 128, 129, 255, 256, 1000, 1ULL << 40, UINT64_MAX / 2,
                                      UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        static struct histogram histogram;
        histogram = (struct histogram){0};
        histogram_add(&histogram, values[i]);
        assert_int_equal(histogram_percentile(&histogram, 0.5), values[i]);
        histogram_add(&histogram, UINT64_MAX);
        uint64_t half = histogram_percentile(&histogram, 0.5);
        assert_true(half >= values[i] && half - values[i] <= values[i] / 100);
    }
}

static void empty_histogram_says_nothing(void **unused)
{
    (void)unused;
    static struct histogram histogram;
    assert_int_equal(histogram_percentile(&histogram, 0.99), 0);
    assert_true(histogram_mean(&histogram) == 0);
}

static uint64_t due_after(struct schedule *schedule, int count)
{
    for (int i = 0; i < count; i++)
        schedule_advance(schedule);
    return schedule_due_ns(schedule);
}

static void constant_rate_has_equal_gaps_from_the_start(void **unused)
{
    (void)unused;
    struct schedule schedule;
    schedule_init(&schedule, 1000, false, 7);
    assert_int_equal(schedule_due_ns(&schedule), 0);
    assert_int_equal(due_after(&schedule, 1), 1000000);
    assert_int_equal(due_after(&schedule, 999), 1000000000);
}

static void poisson_arrivals_have_the_rate_and_depend_on_the_seed_alone(void **unused)
{
    (void)unused;
    struct schedule one, same, other;
    schedule_init(&one, 1000, true, 7);
    schedule_init(&same, 1000, true, 7);
    schedule_init(&other, 1000, true, 8);
    assert_int_equal(due_after(&one, 100), due_after(&same, 100));
    assert_int_not_equal(schedule_due_ns(&one), due_after(&other, 100));
    assert_in_range(due_after(&one, 99900), 98000000000,
                    102000000000); /* 100 seconds, and six times the deviation */
}

struct reply_case {
    const char *bytes;
    char kind;
    int64_t elements;
    uint64_t missing;
    uint64_t value_bytes;
};

static const struct reply_case reply_cases[] = {
    {"+OK\r\n", '+', 0, 0, 0},
    {"-ERR no\r\n", '-', 0, 0, 0},
    {":12\r\n", ':', 0, 0, 0},
    {"$5\r\nhello\r\n", '$', 0, 0, 5},
    {"$2\r\n\r\n\r\n", '$', 0, 0, 2},
    {"$0\r\n\r\n", '$', 0, 0, 0},
    {"$-1\r\n", '$', 0, 1, 0},
    {"*0\r\n", '*', 0, 0, 0},
    {"*3\r\n$1\r\na\r\n$-1\r\n$2\r\nbb\r\n", '*', 3, 1, 3},
};

static void check_reply(const struct reply_case *wanted, size_t step)
{
    struct reply_reader reader = {0};
    size_t size = strlen(wanted->bytes), at = 0, used;
    for (int time = 0; time < 2; time++, at = 0) { /* a reader begins anew by itself */
        while (at < size) {
            size_t piece = size - at < step ? size - at : step;
            enum reply_progress progress = reply_read(&reader, wanted->bytes + at, piece, &used);
            assert_int_equal(progress, at + piece == size ? REPLY_DONE : REPLY_MORE);
            assert_int_equal(used, piece);
            at += used;
        }
        assert_int_equal(reader.reply.kind, wanted->kind);
        assert_int_equal(reader.reply.elements, wanted->elements);
        assert_int_equal(reader.reply.missing, wanted->missing);
        assert_int_equal(reader.reply.value_bytes, wanted->value_bytes);
    }
}

static void replies_end_where_they_end_whatever_the_pieces(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(reply_cases); i++)
        for (size_t step = 1; step < 40; step++)
            check_reply(&reply_cases[i], step);
}

static void reply_stops_before_the_next_one(void **unused)
{
    (void)unused;
    static const char bytes[] = "$1\r\na\r\n+OK\r\n";
    struct reply_reader reader = {0};
    size_t used;
    assert_int_equal(reply_read(&reader, bytes, sizeof bytes - 1, &used), REPLY_DONE);
    assert_int_equal(used, strlen("$1\r\na\r\n"));
    assert_int_equal(reply_read(&reader, bytes + used, sizeof bytes - 1 - used, &used), REPLY_DONE);
    assert_string_equal(reader.reply.line, "OK");
}

static void long_lines_are_cut_and_still_end(void **unused)
{
    (void)unused;
    char bytes[1003];
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, "-ERR ", 5);
    memcpy(bytes + sizeof bytes - 2, "\r\n", 2);
    struct reply_reader reader = {0};
    size_t used;
    assert_int_equal(reply_read(&reader, bytes, sizeof bytes, &used), REPLY_DONE);
    assert_int_equal(used, sizeof bytes);
    assert_true(strlen(reader.reply.line) < REPLY_LINE_MAX);
    assert_memory_equal(reader.reply.line, "ERR x", 5);
}

static void bytes_that_are_no_reply_are_bad(void **unused)
{
    (void)unused;
    static const char *const cases[] = {"\r\n",         "OK\r\n",       "+OK\n",       "$x\r\n",
                                        "$-2\r\n",      "$1\r\nab\r\n", "$1\r\na\n\n", "$99999999999\r\n",
                                        "*1\r\n:1\r\n", "*-1\r\n",      "$\r\n",       "%1\r\n"};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reply_reader reader = {0};
        size_t used;
        assert_int_equal(reply_read(&reader, cases[i], strlen(cases[i]), &used), REPLY_BAD);
    }
}

static bool reads(struct options *options, const char *problem_part, const char *const *words, int count)
{
    char *copies[16] = {(char *)"openloop"};
    for (int i = 0; i < count; i++)
        copies[i + 1] = (char *)words[i];
    const char *problem;
    bool is_fine = options_read(options, count + 1, copies, &problem);
    if (!is_fine) assert_non_null(strstr(problem, problem_part));
    return is_fine;
}

static void options_that_make_no_sense_are_told_why(void **unused)
{
    (void)unused;
    static const struct {
        const char *problem_part;
        const char *words[6];
        int count;
    } cases[] = {
        {"--port", {"--seconds", "1"}, 2},
        {"--seconds or --requests", {"--port", "1"}, 2},
        {"between 1 and 65535", {"--port", "65536", "--seconds", "1"}, 4},
        {"whole number", {"--port", "1.5", "--seconds", "1"}, 4},
        {"value is missing", {"--port", "1", "--seconds"}, 3},
        {"no such option", {"--port", "1", "--second", "1"}, 4},
        {"exclude", {"--port", "1", "--rate", "5", "--fill"}, 5},
        {"--poisson needs --rate", {"--port", "1", "--seconds", "1", "--poisson"}, 5},
        {"--by-hand", {"--port", "1", "--rate", "1", "--by-hand"}, 5},
    };
    struct options options;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_false(reads(&options, cases[i].problem_part, cases[i].words, cases[i].count));
}

static void options_say_what_load_to_make(void **unused)
{
    (void)unused;
    struct options options;
    assert_true(reads(&options, "", (const char *const[]){"--port", "7", "--seconds", "0.5"}, 4));
    assert_int_equal(options.mode, LOAD_CLOSED);
    assert_int_equal(options.pipeline, 1);
    assert_true(
        reads(&options, "", (const char *const[]){"--port", "7", "--requests", "5", "--rate", "9"}, 6));
    assert_int_equal(options.mode, LOAD_OPEN);
    assert_true(options.pipeline > 1);
    assert_true(reads(&options, "", (const char *const[]){"--port", "7", "--fill", "--keys", "30"}, 5));
    assert_int_equal(options.mode, LOAD_FILL);
    assert_int_equal(options.requests, 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_within_one_per_cent),
        cmocka_unit_test(values_of_any_size_have_a_bucket),
        cmocka_unit_test(empty_histogram_says_nothing),
        cmocka_unit_test(constant_rate_has_equal_gaps_from_the_start),
        cmocka_unit_test(poisson_arrivals_have_the_rate_and_depend_on_the_seed_alone),
        cmocka_unit_test(replies_end_where_they_end_whatever_the_pieces),
        cmocka_unit_test(reply_stops_before_the_next_one),
        cmocka_unit_test(long_lines_are_cut_and_still_end),
        cmocka_unit_test(bytes_that_are_no_reply_are_bad),
        cmocka_unit_test(options_that_make_no_sense_are_told_why),
        cmocka_unit_test(options_say_what_load_to_make),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
