/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define BEGINNING "-ERR pointsman: "

static const char *const texts[ERROR_COUNT] = {
#define ERROR_TEXT(name, text) [ERROR_##name] = text,
    ERROR_TABLE(ERROR_TEXT)
#undef ERROR_TEXT
};

/* Reads a file named from the top of the repository, where `make` runs; the caller frees it. */
static char *content_of(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("%s cannot be opened; tests run at the top of the repository", path);
    char *text = NULL;
    size_t size = 0;
    ssize_t length = getdelim(&text, &size, '\0', file);
    assert_true(length > 0);
    fclose(file);
    return text;
}

/* As a whole line of the manual page, as a whole first cell of a table in the README: nothing more, nothing less. */
static void assert_has_every_wording(const char *path, const char *before, const char *after)
{
    char *page = content_of(path);
    for (int error = ERROR_NONE + 1; error < ERROR_COUNT; error++) {
        char wanted[512];
        int size = snprintf(wanted, sizeof wanted, "%s%s%s", before, texts[error], after);
        assert_in_range(size, 1, sizeof wanted - 1);
        if (!strstr(page, wanted))
            fail_msg("%s lacks the error of routing/error.h: %s", path, texts[error]);
    }
    free(page);
}

static void the_manual_page_has_every_wording(void **state)
{
    (void)state;
    assert_has_every_wording("packaging/man/pointsman.8", "\n.B ", "\n");
}

static void the_readme_has_every_wording(void **state)
{
    (void)state;
    assert_has_every_wording("README.md", "\n| ", " |");
}

static void a_reply_is_one_error_line_with_the_wording(void **state)
{
    (void)state;
    for (int error = ERROR_NONE + 1; error < ERROR_COUNT; error++) {
        char expected[512];
        snprintf(expected, sizeof expected, BEGINNING "%s\r\n", texts[error]);
        struct slice reply = error_reply((enum error)error);
        assert_int_equal(reply.size, strlen(expected));
        assert_memory_equal(reply.bytes, expected, reply.size);
        assert_ptr_equal(memchr(reply.bytes, '\r', reply.size), reply.bytes + reply.size - 2);
    }
}

static void no_two_causes_share_a_wording(void **state)
{
    (void)state;
    for (int error = ERROR_NONE + 1; error < ERROR_COUNT; error++) {
        for (int other = error + 1; other < ERROR_COUNT; other++)
            assert_string_not_equal(texts[error], texts[other]);
    }
}

/* "Not executed" is a promise, "outcome unknown" its opposite. */
static void no_wording_says_both_unknown_and_not_executed(void **state)
{
    (void)state;
    for (int error = ERROR_NONE + 1; error < ERROR_COUNT; error++)
        assert_false(strstr(texts[error], "not executed") && strstr(texts[error], "outcome unknown"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_manual_page_has_every_wording),
        cmocka_unit_test(the_readme_has_every_wording),
        cmocka_unit_test(a_reply_is_one_error_line_with_the_wording),
        cmocka_unit_test(no_two_causes_share_a_wording),
        cmocka_unit_test(no_wording_says_both_unknown_and_not_executed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
