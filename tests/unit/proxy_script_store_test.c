/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/script_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static struct script_sha sha_of(const char *text)
{
    struct script_sha sha;
    script_sha_of(slice_of(text), &sha);
    return sha;
}

static void add(struct script_store *store, const char *text, enum script_use use)
{
    struct script_sha sha = sha_of(text);
    script_store_add(store, &sha, slice_of(text), use);
}

/* Without using it. */
static bool is_there(struct script_store *store, const char *text)
{
    struct script_sha sha = sha_of(text);
    struct chunk *copy = script_store_copy(store, &sha);
    bool is_right = copy && slice_equals((struct slice){copy->bytes, copy->filled}, slice_of(text));
    free(copy);
    return is_right;
}

static void sha_is_that_of_redis_and_read_in_either_case(void **state)
{
    (void)state; /* of `SCRIPT LOAD "return 1"` */
    struct script_sha sha = sha_of("return 1"), read;
    assert_true(script_sha_read(SLICE("e0e1f9fabfc9d4800c877a703b823ac0578ff8db"), &read));
    assert_true(script_sha_equals(&sha, &read));
    assert_true(script_sha_read(SLICE("E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), &read));
    assert_true(script_sha_equals(&sha, &read));
}

static void words_that_are_no_sha_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "e0e1",
                                      "e0e1f9fabfc9d4800c877a703b823ac0578ff8d",
                                      "e0e1f9fabfc9d4800c877a703b823ac0578ff8db0",
                                      "g0e1f9fabfc9d4800c877a703b823ac0578ff8db",
                                      "e0e1f9fabfc9d4800c877a703b823ac0578ff8d`",
                                      "e0e1f9fabfc9d4800c877a703b823ac0578ff8d@",
                                      "e0e1f9fabfc9d4800c877a703b823ac0578ff8d\xc1",
                                      "e0e1f9fabfc9d4800c877a703b823ac0578ff8d/",
                                      "e0e1f9fabfc9d4800c877a703b823ac0578ff8d:"};
    struct script_sha sha;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(script_sha_read(slice_of(bad[i]), &sha));
}

static void what_was_added_is_there_until_a_flush(void **state)
{
    (void)state;
    struct script_store *store = script_store_create(10, 1000);
    struct script_sha sha = sha_of("return 1");
    uint64_t additions = script_store_additions(store), flushes = script_store_flushes(store);
    assert_false(script_store_has(store, &sha));
    add(store, "return 1", SCRIPT_EVALUATED);
    add(store, "return 1", SCRIPT_CALLED);
    add(store, "", SCRIPT_CALLED);
    assert_true(script_store_has(store, &sha));
    assert_true(is_there(store, "return 1"));
    assert_true(is_there(store, ""));
    assert_int_equal(script_store_additions(store), additions + 2);
    assert_int_equal(script_store_flushes(store), flushes);

    script_store_doubt(store);
    assert_int_equal(script_store_flushes(store), flushes + 1);
    assert_true(is_there(store, "return 1"));
    script_store_flush(store);
    assert_int_equal(script_store_flushes(store), flushes + 2);
    assert_false(is_there(store, "return 1"));
    add(store, "return 1", SCRIPT_EVALUATED);
    assert_true(is_there(store, "return 1"));
    script_store_destroy(store);
    script_store_destroy(NULL);
}

static void longest_unused_goes_first_when_the_number_is_reached(void **state)
{
    (void)state;
    struct script_store *store = script_store_create(3, 1000);
    add(store, "a", SCRIPT_EVALUATED);
    add(store, "b", SCRIPT_EVALUATED);
    add(store, "c", SCRIPT_EVALUATED);
    add(store, "a", SCRIPT_EVALUATED);
    add(store, "d", SCRIPT_EVALUATED);
    assert_true(is_there(store, "a") && !is_there(store, "b") && is_there(store, "c") &&
                is_there(store, "d"));
    script_store_destroy(store);
}

static void scripts_that_are_called_outlive_a_flood_of_those_only_evaluated(void **state)
{
    (void)state;
    struct script_store *store = script_store_create(4, 1000);
    struct script_sha sha = sha_of("by sha");
    add(store, "loaded", SCRIPT_CALLED);
    add(store, "by sha", SCRIPT_EVALUATED);
    assert_true(script_store_has(store, &sha));
    for (int i = 0; i < 100; i++) {
        char text[32];
        snprintf(text, sizeof text, "return %d", i);
        add(store, text, SCRIPT_EVALUATED);
        add(store, "loaded", SCRIPT_EVALUATED);
    }
    assert_true(is_there(store, "loaded") && is_there(store, "by sha"));
    for (int i = 0; i < 4; i++) {
        char text[32];
        snprintf(text, sizeof text, "call %d", i);
        add(store, text, SCRIPT_CALLED);
    }
    assert_false(is_there(store, "loaded") || is_there(store, "by sha"));
    assert_true(is_there(store, "call 0") && is_there(store, "call 3"));
    script_store_destroy(store);
}

static void bytes_are_bounded_and_what_is_too_large_is_not_kept(void **state)
{
    (void)state;
    struct script_store *store = script_store_create(100, 10);
    add(store, "12345", SCRIPT_CALLED);
    add(store, "67890", SCRIPT_CALLED);
    add(store, "12345678901", SCRIPT_CALLED);
    assert_true(is_there(store, "12345") && is_there(store, "67890") && !is_there(store, "12345678901"));
    add(store, "abcdefgh", SCRIPT_CALLED);
    assert_true(!is_there(store, "12345") && !is_there(store, "67890") && is_there(store, "abcdefgh"));
    script_store_destroy(store);

    store = script_store_create(100, SCRIPT_BYTES_MOST);
    char *large = calloc(1, SCRIPT_BODY_MOST + 2);
    memset(large, 'x', SCRIPT_BODY_MOST + 1);
    add(store, large, SCRIPT_CALLED);
    assert_false(is_there(store, large));
    large[SCRIPT_BODY_MOST] = '\0';
    add(store, large, SCRIPT_CALLED);
    assert_true(is_there(store, large));
    free(large);
    script_store_destroy(store);
}

static void *use_it(void *argument)
{
    struct script_store *store = argument;
    for (int i = 0; i < 3000; i++) {
        char text[32];
        snprintf(text, sizeof text, "return %d", i % 50);
        add(store, text, i % 3 ? SCRIPT_EVALUATED : SCRIPT_CALLED);
        struct script_sha sha = sha_of(text);
        script_store_has(store, &sha);
        if (i % 500 == 0) script_store_flush(store);
    }
    return NULL;
}

static void threads_share_it(void **state)
{
    (void)state;
    struct script_store *store = script_store_create(20, 1000);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_it, store), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    add(store, "last", SCRIPT_CALLED);
    assert_true(is_there(store, "last"));
    script_store_destroy(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha_is_that_of_redis_and_read_in_either_case),
        cmocka_unit_test(words_that_are_no_sha_are_refused),
        cmocka_unit_test(what_was_added_is_there_until_a_flush),
        cmocka_unit_test(longest_unused_goes_first_when_the_number_is_reached),
        cmocka_unit_test(scripts_that_are_called_outlive_a_flood_of_those_only_evaluated),
        cmocka_unit_test(bytes_are_bounded_and_what_is_too_large_is_not_kept),
        cmocka_unit_test(threads_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
