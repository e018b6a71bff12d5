/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of verdict.h: given on the left, expected on the right. ANY stands for each value of a column;
 * the last test makes sure that every combination there is meets exactly one row.
 */
#include "routing/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

enum { ANY = -1, NO, YES };
/* The column of commands that block; NO and ANY are as above. */
enum { FOR_DATA = 1, FOR_DATA_A_WHILE, ELSE, ELSE_A_WHILE, BLOCKS_COUNT, BUT_FOR_DATA, BUT_A_WHILE, ANY_ELSE };
enum { OUTCOMES = OUTCOME_CUT + 1, REFUSALS = REFUSAL_COUNT, MAX_ATTEMPTS = 3 };

static const struct row {
    int outcome, refusal, is_read, was_sent, needs_master, has_attempts_left, blocks;
    enum verdict verdict;
    enum error error;
} rows[] = {
    /* answered         refusal             read  sent  master left blocks */
    {OUTCOME_ANSWERED, REFUSAL_NONE, ANY, ANY, ANY, ANY, ANY, VERDICT_DELIVER, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_READONLY, ANY, ANY, ANY, ANY, ANY, VERDICT_HOLD, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_UNBLOCKED, ANY, ANY, ANY, ANY, FOR_DATA, VERDICT_HOLD, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_UNBLOCKED, ANY, ANY, ANY, ANY, FOR_DATA_A_WHILE, VERDICT_HOLD, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_UNBLOCKED, ANY, ANY, ANY, ANY, BUT_FOR_DATA, VERDICT_DELIVER, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_MOVED, ANY, ANY, ANY, ANY, ANY, VERDICT_AGAIN, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_ASK, ANY, ANY, ANY, ANY, ANY, VERDICT_AGAIN, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_TRYAGAIN, ANY, ANY, ANY, ANY, ANY, VERDICT_HOLD, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_CLUSTERDOWN, ANY, ANY, ANY, ANY, ANY, VERDICT_HOLD, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_LOADING, ANY, ANY, YES, ANY, ANY, VERDICT_HOLD, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_LOADING, ANY, ANY, NO, ANY, ANY, VERDICT_AGAIN, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_MASTERDOWN, ANY, ANY, YES, ANY, ANY, VERDICT_HOLD, ERROR_NONE},
    {OUTCOME_ANSWERED, REFUSAL_MASTERDOWN, ANY, ANY, NO, ANY, ANY, VERDICT_AGAIN, ERROR_NONE},
    /* never left this process */
    {OUTCOME_LOST, ANY, ANY, NO, ANY, ANY, ANY, VERDICT_AGAIN, ERROR_NONE},
    {OUTCOME_TIMED_OUT, ANY, ANY, NO, ANY, ANY, ANY, VERDICT_AGAIN, ERROR_NONE},
    {OUTCOME_CUT, ANY, ANY, NO, ANY, ANY, ANY, VERDICT_AGAIN, ERROR_NONE},
    /* lost or cut after it was sent */
    {OUTCOME_LOST, ANY, YES, YES, ANY, YES, BUT_A_WHILE, VERDICT_AGAIN, ERROR_NONE},
    {OUTCOME_LOST, ANY, YES, YES, ANY, NO, BUT_A_WHILE, VERDICT_FAIL, ERROR_READ_LOST},
    {OUTCOME_LOST, ANY, NO, YES, ANY, ANY, NO, VERDICT_FAIL, ERROR_WRITE_LOST},
    {OUTCOME_CUT, ANY, YES, YES, ANY, YES, BUT_A_WHILE, VERDICT_AGAIN, ERROR_NONE},
    {OUTCOME_CUT, ANY, YES, YES, ANY, NO, BUT_A_WHILE, VERDICT_FAIL, ERROR_READ_LOST},
    {OUTCOME_CUT, ANY, NO, YES, ANY, ANY, NO, VERDICT_FAIL, ERROR_WRITE_ABANDONED},
    /* its deadline passed after it was sent */
    {OUTCOME_TIMED_OUT, ANY, YES, YES, ANY, ANY, ANY, VERDICT_FAIL, ERROR_READ_TIMED_OUT},
    {OUTCOME_TIMED_OUT, ANY, NO, YES, ANY, ANY, NO, VERDICT_FAIL, ERROR_WRITE_TIMED_OUT},
    /* blocking: however it ended */
    {OUTCOME_LOST, ANY, ANY, YES, ANY, ANY, FOR_DATA_A_WHILE, VERDICT_AGAIN, ERROR_NONE},
    {OUTCOME_CUT, ANY, ANY, YES, ANY, ANY, FOR_DATA_A_WHILE, VERDICT_AGAIN, ERROR_NONE},
    {OUTCOME_TIMED_OUT, ANY, NO, YES, ANY, ANY, FOR_DATA_A_WHILE, VERDICT_FAIL, ERROR_SESSION_LOST},
    {OUTCOME_LOST, ANY, NO, YES, ANY, ANY, ANY_ELSE, VERDICT_FAIL, ERROR_SESSION_LOST},
    {OUTCOME_CUT, ANY, NO, YES, ANY, ANY, ANY_ELSE, VERDICT_FAIL, ERROR_SESSION_LOST},
    {OUTCOME_TIMED_OUT, ANY, NO, YES, ANY, ANY, ANY_ELSE, VERDICT_FAIL, ERROR_SESSION_LOST},
};

typedef void history_check(const struct request_history *history, const struct row *row);

static bool matches(int given, int column)
{
    return column == ANY || given == column;
}

static int blocks_of(const struct request_history *history)
{
    if (!history->is_blocking) return NO;
    int after_a_while = history->waited_ms >= VERDICT_WAITED_MS;
    return (history->is_for_data ? FOR_DATA : ELSE) + after_a_while;
}

static bool matches_blocks(int given, int column)
{
    if (column == BUT_FOR_DATA) return given != FOR_DATA && given != FOR_DATA_A_WHILE;
    if (column == BUT_A_WHILE) return given != FOR_DATA_A_WHILE;
    if (column == ANY_ELSE) return given == FOR_DATA || given == ELSE || given == ELSE_A_WHILE;
    return matches(given, column);
}

static bool row_speaks_of(const struct row *row, const struct request_history *history)
{
    return matches((int)history->outcome, row->outcome) && matches((int)history->refusal, row->refusal) &&
           matches(history->is_read, row->is_read) && matches(history->was_sent, row->was_sent) &&
           matches(history->needs_master, row->needs_master) &&
           matches(history->attempts < history->max_attempts, row->has_attempts_left) &&
           matches_blocks(blocks_of(history), row->blocks);
}

static const struct row *row_of(const struct request_history *history)
{
    const struct row *found = NULL;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (!row_speaks_of(&rows[i], history)) continue;
        assert_null(found);
        found = &rows[i];
    }
    assert_non_null(found);
    return found;
}

/* Every combination of the columns, with each number of attempts around the bound. */
static void for_each_history(history_check *check)
{
    for (unsigned i = 0; i < OUTCOMES * REFUSALS * 8 * BLOCKS_COUNT * (MAX_ATTEMPTS + 2); i++) {
        unsigned rest = i;
        struct request_history history = {.max_attempts = MAX_ATTEMPTS};
        history.outcome = (enum outcome)(rest % OUTCOMES);
        rest /= OUTCOMES;
        history.refusal = (enum refusal)(rest % REFUSALS);
        rest /= REFUSALS;
        history.is_read = rest & 1;
        history.was_sent = rest & 2;
        history.needs_master = rest & 4;
        rest /= 8;
        unsigned blocks = rest % BLOCKS_COUNT;
        history.is_blocking = blocks != NO;
        history.is_for_data = blocks == FOR_DATA || blocks == FOR_DATA_A_WHILE;
        history.waited_ms = blocks == FOR_DATA_A_WHILE || blocks == ELSE_A_WHILE ? 100 : 99;
        history.attempts = rest / BLOCKS_COUNT;
        check(&history, row_of(&history));
    }
}

static void expect_row(const struct request_history *history, const struct row *row)
{
    enum error error = ERROR_COUNT;
    enum verdict verdict = verdict_of(history, &error);
    if (verdict != row->verdict || error != row->error)
        print_error("outcome %d refusal %d read %d sent %d master %d attempts %u\n", (int)history->outcome,
                    (int)history->refusal, history->is_read, history->was_sent, history->needs_master,
                    history->attempts);
    assert_int_equal(verdict, row->verdict);
    assert_int_equal(error, row->error);
}

static void every_history_gets_the_verdict_of_its_row(void **unused)
{
    (void)unused;
    for_each_history(expect_row);
}

/* The promise that matters most, said once more without the table. */
static void expect_no_second_write(const struct request_history *history, const struct row *row)
{
    (void)row;
    enum error error;
    enum verdict verdict = verdict_of(history, &error);
    bool may_have_run = history->was_sent && history->outcome != OUTCOME_ANSWERED;
    bool was_waiting = history->is_for_data && history->waited_ms >= VERDICT_WAITED_MS;
    if (may_have_run && !history->is_read && !was_waiting) {
        assert_int_equal(verdict, VERDICT_FAIL);
        struct slice reply = error_reply(error);
        assert_non_null(memmem(reply.bytes, reply.size, "outcome unknown", 15));
    }
    if (!may_have_run) assert_int_not_equal(verdict, VERDICT_FAIL);
}

static void write_that_may_have_run_is_never_sent_again(void **unused)
{
    (void)unused;
    for_each_history(expect_no_second_write);
}

static void expect_error_with_failure_only(const struct request_history *history, const struct row *row)
{
    (void)row;
    enum error error = ERROR_COUNT;
    enum verdict verdict = verdict_of(history, &error);
    assert_int_equal(verdict == VERDICT_FAIL, error != ERROR_NONE);
}

static void error_is_set_with_a_failure_and_only_then(void **unused)
{
    (void)unused;
    for_each_history(expect_error_with_failure_only);
}

/* Errors of a redis-server 7.0.15, and what only looks like them. */
static void refusals_are_known_by_the_first_word(void **unused)
{
    (void)unused;
    static const struct {
        struct slice reply;
        enum refusal refusal;
    } samples[] = {
        {SLICE("-READONLY You can't write against a read only replica.\r\n"), REFUSAL_READONLY},
        {SLICE("-LOADING Redis is loading the dataset in memory\r\n"), REFUSAL_LOADING},
        {SLICE("-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"),
         REFUSAL_MASTERDOWN},
        {SLICE("-UNBLOCKED force unblock from blocking operation, instance state changed (master -> "
               "replica?)\r\n"),
         REFUSAL_UNBLOCKED},
        {SLICE("-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"), REFUSAL_NONE}, /* an answer */
        {SLICE("-UNBLOCKED the stream key no longer exists\r\n"), REFUSAL_NONE},
        {SLICE("-ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica "
               "is configured to be writable (which is not the default) writes to replicas are just local and are "
               "not propagated.\r\n"),
         REFUSAL_READONLY},
        {SLICE("-ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are "
               "just local and are not propagated.\r\n"),
         REFUSAL_READONLY},
        {SLICE("-ERR WAIT cannot be used when numlocal is set but appendonly is disabled.\r\n"), REFUSAL_NONE},
        {SLICE("-READONLY "), REFUSAL_READONLY},
        {SLICE("-ERR unknown command 'READONLY'\r\n"), REFUSAL_NONE},
        {SLICE("-NOREPLICAS Not enough good replicas to write.\r\n"), REFUSAL_NONE},
        {SLICE("-MISCONF Redis is configured to save RDB snapshots\r\n"), REFUSAL_NONE},
        {SLICE("-OOM command not allowed when used memory > 'maxmemory'.\r\n"), REFUSAL_NONE},
        {SLICE("-BUSY Redis is busy running a script.\r\n"), REFUSAL_NONE},
        {SLICE("-NOAUTH Authentication required.\r\n"), REFUSAL_NONE},
        {SLICE("-EXECABORT Transaction discarded because of previous errors.\r\n"), REFUSAL_NONE},
        {SLICE("-MOVED 3999 127.0.0.1:6381\r\n"), REFUSAL_MOVED},
        {SLICE("-ASK 3999 127.0.0.1:6381\r\n"), REFUSAL_ASK},
        {SLICE("-TRYAGAIN Multiple keys request during rehashing of slot\r\n"), REFUSAL_TRYAGAIN},
        {SLICE("-CLUSTERDOWN Hash slot not served\r\n"), REFUSAL_CLUSTERDOWN},
        {SLICE("-CROSSSLOT Keys in request don't hash to the same slot\r\n"), REFUSAL_NONE},
        {SLICE("-READONLYX\r\n"), REFUSAL_NONE},
        {SLICE("-READONLY\r\n"), REFUSAL_NONE},
        {SLICE("-LOADING\r\n"), REFUSAL_NONE},
        {SLICE("-readonly You can't\r\n"), REFUSAL_NONE},
        {SLICE("+READONLY You can't\r\n"), REFUSAL_NONE},
        {SLICE("$9\r\nREADONLY \r\n"), REFUSAL_NONE},
        {SLICE("-READONL"), REFUSAL_NONE},
        {SLICE("-"), REFUSAL_NONE},
        {SLICE(""), REFUSAL_NONE},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++)
        assert_int_equal(refusal_of(samples[i].reply), samples[i].refusal);
}

static void a_script_is_refused_in_the_words_of_redis_only(void **unused)
{
    (void)unused;
    static const struct {
        struct slice reply;
        enum refusal refusal;
    } samples[] = {
        {SLICE("-READONLY You can't write against a read only replica. script: 1, on @user_script:1.\r\n"),
         REFUSAL_READONLY},
        {SLICE("-LOADING Redis is loading the dataset in memory\r\n"), REFUSAL_LOADING},
        {SLICE("-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"),
         REFUSAL_MASTERDOWN},
        {SLICE("-MOVED 3999 127.0.0.1:6381\r\n"), REFUSAL_MOVED},
        {SLICE("-ASK 3999 127.0.0.1:6381\r\n"), REFUSAL_ASK},
        {SLICE("-TRYAGAIN Multiple keys request during rehashing of slot\r\n"), REFUSAL_TRYAGAIN},
        {SLICE("-CLUSTERDOWN Hash slot not served\r\n"), REFUSAL_CLUSTERDOWN},
        {SLICE("-CLUSTERDOWN The cluster is down\r\n"), REFUSAL_CLUSTERDOWN},
        {SLICE("-READONLY mode of this queue\r\n"), REFUSAL_NONE},
        {SLICE("-LOADING the ship\r\n"), REFUSAL_NONE},
        {SLICE("-TRYAGAIN later\r\n"), REFUSAL_NONE},
        {SLICE("-CLUSTERDOWN says the script\r\n"), REFUSAL_NONE},
        {SLICE("-ERR whatever\r\n"), REFUSAL_NONE},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++)
        assert_int_equal(refusal_of_script(samples[i].reply), samples[i].refusal);
}

/* The bytes behind the given ones are not looked at: under AddressSanitizer a copy to measure tells. */
static void refusal_is_found_within_the_bytes_given(void **unused)
{
    (void)unused;
    static const char text[] = "-MASTERDOWN Link";
    for (size_t size = 0; size < sizeof text; size++) {
        char *copy = malloc(size ? size : 1);
        assert_non_null(copy);
        memcpy(copy, text, size);
        enum refusal expected = size >= sizeof "-MASTERDOWN " - 1 ? REFUSAL_MASTERDOWN : REFUSAL_NONE;
        assert_int_equal(refusal_of((struct slice){copy, size}), expected);
        free(copy);
    }
}

static void only_what_was_sent_and_lost_and_does_not_wait_costs_of_the_budget(void **unused)
{
    (void)unused;
    for (int outcome = OUTCOME_ANSWERED; outcome <= OUTCOME_CUT; outcome++) {
        for (int bits = 0; bits < 4; bits++) {
            struct request_history history = {.outcome = (enum outcome)outcome, .was_sent = bits & 1, .is_blocking = bits & 2};
            assert_int_equal(verdict_is_repeat(&history), outcome == OUTCOME_LOST && bits == 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_was_sent_and_lost_and_does_not_wait_costs_of_the_budget),
        cmocka_unit_test(every_history_gets_the_verdict_of_its_row),
        cmocka_unit_test(write_that_may_have_run_is_never_sent_again),
        cmocka_unit_test(error_is_set_with_a_failure_and_only_then),
        cmocka_unit_test(refusals_are_known_by_the_first_word),
        cmocka_unit_test(a_script_is_refused_in_the_words_of_redis_only),
        cmocka_unit_test(refusal_is_found_within_the_bytes_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
