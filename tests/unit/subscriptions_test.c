/* SPDX-License-Identifier: BSD-2-Clause */
/* A set of names: each once, in order, with any bytes, and nothing left when the last one goes. */
#include "routing/subscriptions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct slice numbered(char *text, size_t size, int number)
{
    return (struct slice){text, (size_t)snprintf(text, size, "name:%d", number)};
}

static void a_name_is_in_the_set_once(void **unused)
{
    (void)unused;
    struct subscriptions names = {0};
    assert_true(subscriptions_are_none(&names));
    assert_int_equal(subscriptions_count(&names), 0);
    assert_true(subscriptions_add(&names, SLICE("a")));
    assert_true(subscriptions_add(&names, SLICE("a")));
    assert_true(subscriptions_add(&names, SLICE("b")));
    assert_int_equal(subscriptions_count(&names), 2);
    subscriptions_remove(&names, SLICE("a"));
    subscriptions_remove(&names, SLICE("never there"));
    assert_int_equal(subscriptions_count(&names), 1);
    subscriptions_remove(&names, SLICE("b"));
    assert_true(subscriptions_are_none(&names));
    assert_int_equal(names.bytes, 0);
}

static void names_may_have_any_bytes(void **unused)
{
    (void)unused;
    static const struct slice samples[] = {{"", 0},    {"\0", 1},   {"\0\0", 2}, {"a", 1},
                                           {"a\0", 2}, {"\r\n", 2}, {"A", 1}};
    struct subscriptions names = {0};
    size_t count = sizeof samples / sizeof *samples;
    for (size_t i = 0; i < count; i++)
        assert_true(subscriptions_add(&names, samples[i]));
    assert_int_equal(subscriptions_count(&names), count);
    const struct subscription *name = NULL;
    for (size_t i = 0; i < count; i++) {
        name = subscriptions_next(&names, name);
        assert_non_null(name);
        assert_true(slice_equals(subscription_name(name), samples[i]));
    }
    assert_null(subscriptions_next(&names, name));
    for (size_t i = 0; i < count; i++)
        subscriptions_remove(&names, samples[i]);
    assert_true(subscriptions_are_none(&names));
}

static void thousands_of_names_are_found_and_counted(void **unused)
{
    (void)unused;
    struct subscriptions names = {0};
    char text[32];
    for (int i = 0; i < 20000; i++)
        assert_true(subscriptions_add(&names, numbered(text, sizeof text, i)));
    assert_int_equal(subscriptions_count(&names), 20000);
    assert_true(names.bytes > (size_t)20000 * 9);
    for (int i = 0; i < 20000; i += 2)
        subscriptions_remove(&names, numbered(text, sizeof text, i));
    int expected = 1;
    for (const struct subscription *name = NULL; (name = subscriptions_next(&names, name)); expected += 2)
        assert_true(slice_equals(subscription_name(name), numbered(text, sizeof text, expected)));
    assert_int_equal(expected, 20001);
    subscriptions_clear(&names);
    assert_true(subscriptions_are_none(&names));
    assert_int_equal(names.bytes, 0);
    assert_true(subscriptions_add(&names, SLICE("again")));
    subscriptions_clear(&names);
    subscriptions_clear(&names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_in_the_set_once),
        cmocka_unit_test(names_may_have_any_bytes),
        cmocka_unit_test(thousands_of_names_are_found_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
