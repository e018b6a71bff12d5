/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { THREADS = 4, LINES_OF_A_THREAD = 200 };

static char path[] = "/tmp/pointsman-log-test-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    strcpy(path + sizeof path - 7, "XXXXXX");
    int descriptor = mkstemp(path);
    if (descriptor < 0) return -1;
    return close(descriptor);
}

static int remove_file(void **state)
{
    (void)state;
    log_close();
    return unlink(path);
}

/* What is in the log; the caller frees it. */
static char *written(void)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1024, 1024);
    assert_non_null(text);
    size_t size = fread(text, 1, 1024 * 1024 - 1, file);
    text[size] = '\0';
    fclose(file);
    return text;
}

static void assert_written_matches(const char *pattern)
{
    char *text = written();
    regex_t expression;
    assert_int_equal(regcomp(&expression, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&expression, text, 0, NULL, 0) != 0) fail_msg("the log is: %s", text);
    regfree(&expression);
    free(text);
}

#define STAMP "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "

static void a_line_has_time_level_and_message(void **state)
{
    (void)state;
    assert_true(log_open(path, LOG_DEBUG_LEVEL));
    log_error("one %d", 1);
    log_warning("two");
    log_info("node %s: up", "10.0.0.3:6379");
    log_debug("four");
    assert_written_matches("^" STAMP "error one 1\n" STAMP "warning two\n" STAMP
                           "info node 10\\.0\\.0\\.3:6379: up\n" STAMP "debug four\n$");
}

static void each_level_writes_itself_and_those_above(void **state)
{
    (void)state;
    static const char *const expected[] = {
        [LOG_ERROR_LEVEL] = "^" STAMP "error e\n$",
        [LOG_WARNING_LEVEL] = "^" STAMP "error e\n" STAMP "warning w\n$",
        [LOG_INFO_LEVEL] = "^" STAMP "error e\n" STAMP "warning w\n" STAMP "info i\n$",
        [LOG_DEBUG_LEVEL] = "^" STAMP "error e\n" STAMP "warning w\n" STAMP "info i\n" STAMP "debug d\n$",
    };
    for (int level = LOG_ERROR_LEVEL; level <= LOG_DEBUG_LEVEL; level++) {
        assert_int_equal(truncate(path, 0), 0);
        assert_true(log_open(path, (enum log_level)level));
        log_error("e");
        log_warning("w");
        log_info("i");
        log_debug("d");
        assert_written_matches(expected[level]);
        for (int other = LOG_ERROR_LEVEL; other <= LOG_DEBUG_LEVEL; other++)
            assert_int_equal(log_has((enum log_level)other), other <= level);
    }
}

static void a_message_cannot_begin_another_line(void **state)
{
    (void)state;
    assert_true(log_open(path, LOG_INFO_LEVEL));
    log_info("client %s left", "a\n2026-01-01T00:00:00.000Z error forged\r\t\x1b[31m\x7f");
    assert_written_matches(
        "^" STAMP "info client a\\?2026-01-01T00:00:00\\.000Z error forged\\?\\?\\?\\[31m\\? left\n$");
}

static void a_long_message_ends_in_an_ellipsis(void **state)
{
    (void)state;
    for (size_t before = 0; before < 4; before++) { /* so that each byte of a character meets the bound */
        char text[8192];
        memset(text, 'x', before);
        for (size_t i = before; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4);
        assert_int_equal(truncate(path, 0), 0);
        assert_true(log_open(path, LOG_INFO_LEVEL));
        log_info("%s", text);
        char *line = written();
        size_t size = strlen(line);
        assert_in_range(size, 2040, 2048);
        assert_string_equal(line + size - 4, "...\n");
        size_t body = size - 4 - strlen("2026-11-20T18:30:43.123Z info ") - before;
        assert_int_equal(body % 3, 0);
        free(line);
    }
}

static void messages_up_to_the_bound_are_whole(void **state)
{
    (void)state;
    char text[4096];
    for (size_t size = 1990; size < 2030; size++) {
        memset(text, 'x', size);
        text[size] = '\0';
        assert_int_equal(truncate(path, 0), 0);
        assert_true(log_open(path, LOG_INFO_LEVEL));
        log_info("%s", text);
        char *line = written();
        size_t whole = strlen("2026-11-20T18:30:43.123Z info ") + size + 1;
        assert_int_equal(strlen(line), whole < 2047 ? whole : 2047);
        assert_int_equal(strstr(line, "...\n") != NULL, whole > 2047);
        free(line);
    }
}

static void a_file_is_appended_to_and_closed_on_exec(void **state)
{
    (void)state;
    assert_true(log_open(path, LOG_INFO_LEVEL));
    log_info("first");
    int next = open("/dev/null", O_RDONLY); /* the one after the log's */
    assert_true(next > 3);
    assert_true(fcntl(next - 1, F_GETFD) & FD_CLOEXEC);
    close(next);
    log_close();
    assert_true(log_open(path, LOG_INFO_LEVEL));
    log_info("second");
    assert_written_matches("^" STAMP "info first\n" STAMP "info second\n$");
}

static void a_file_that_cannot_be_opened_leaves_the_log_as_it_was(void **state)
{
    (void)state;
    assert_true(log_open(path, LOG_WARNING_LEVEL));
    assert_false(log_open("/nonexistent/log", LOG_DEBUG_LEVEL));
    assert_int_equal(errno, ENOENT);
    assert_false(log_open("/tmp", LOG_DEBUG_LEVEL));
    assert_int_equal(errno, EISDIR);
    assert_false(log_has(LOG_INFO_LEVEL));
    log_warning("still here");
    assert_written_matches("^" STAMP "warning still here\n$");
}

static void logging_leaves_errno_alone(void **state)
{
    (void)state;
    assert_true(log_open("/dev/full", LOG_INFO_LEVEL));
    errno = ECONNREFUSED;
    log_info("lost");
    assert_int_equal(errno, ECONNREFUSED);
}

static void before_it_is_opened_the_log_is_stderr_at_info(void **state)
{
    (void)state;
    log_close();
    assert_true(log_has(LOG_INFO_LEVEL));
    assert_false(log_has(LOG_DEBUG_LEVEL));
    int saved = dup(STDERR_FILENO), file = open(path, O_WRONLY | O_APPEND);
    assert_true(saved >= 0 && file >= 0);
    dup2(file, STDERR_FILENO);
    log_info("early");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(file);
    assert_written_matches("^" STAMP "info early\n$");
}

static void *write_many(void *name)
{
    for (int i = 0; i < LINES_OF_A_THREAD; i++)
        log_info("%s %03d %0100d", (char *)name, i, i);
    return NULL;
}

static void lines_of_threads_never_mix(void **state)
{
    (void)state;
    static char names[THREADS][2] = {"a", "b", "c", "d"};
    pthread_t threads[THREADS];
    assert_true(log_open(path, LOG_INFO_LEVEL));
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, names[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_written_matches("^(" STAMP "info [a-d] [0-9]{3} [0-9]{100}\n)+$");
    char *text = written();
    size_t lines = 0;
    for (char *c = text; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, THREADS * LINES_OF_A_THREAD);
    free(text);
}

static void syslog_can_be_opened_and_left(void **state)
{
    (void)state;
    assert_true(log_open("syslog", LOG_ERROR_LEVEL));
    log_info("not written");
    assert_true(log_open(path, LOG_INFO_LEVEL));
    log_info("back");
    assert_written_matches("^" STAMP "info back\n$");
}

int main(void)
{
#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, make_file, remove_file)
    const struct CMUnitTest tests[] = {
        WITH_FILE(a_line_has_time_level_and_message),
        WITH_FILE(each_level_writes_itself_and_those_above),
        WITH_FILE(a_message_cannot_begin_another_line),
        WITH_FILE(a_long_message_ends_in_an_ellipsis),
        WITH_FILE(messages_up_to_the_bound_are_whole),
        WITH_FILE(a_file_is_appended_to_and_closed_on_exec),
        WITH_FILE(a_file_that_cannot_be_opened_leaves_the_log_as_it_was),
        WITH_FILE(logging_leaves_errno_alone),
        WITH_FILE(before_it_is_opened_the_log_is_stderr_at_info),
        WITH_FILE(lines_of_threads_never_mix),
        WITH_FILE(syslog_can_be_opened_and_left),
    };
    return cmocka_run_group_tests_name("proxy_log", tests, NULL, NULL);
}
