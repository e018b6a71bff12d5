/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/keyspace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void channels_of_notifications_are_known_by_their_beginning(void **state)
{
    (void)state;
    assert_true(keyspace_is_channel(SLICE("__keyspace@0__:key")));
    assert_true(keyspace_is_channel(SLICE("__keyevent@12__:del")));
    assert_false(keyspace_is_channel(SLICE("__keyspace")));
    assert_false(keyspace_is_channel(SLICE("news")));
    assert_false(keyspace_is_channel(SLICE("")));
}

static void patterns_that_may_match_them_are_found(void **state)
{
    (void)state;
    static const char *const may[] = {
        "*", "__key*__:*", "__keyspace@0__:*", "__keyevent@*__:expired", "??keyspace@0__:x", "_[_]key*", "\\__keyevent@0__:a",
        "__keyspace@", "__keyspace@?__:foo",
    };
    static const char *const may_not[] = {"", "news*", "__key", "__keyspac", "__keyspaceX*", "keyspace*", "?keyspace@*", "_x*"};
    for (size_t i = 0; i < sizeof may / sizeof *may; i++)
        assert_true(keyspace_may_match(slice_of(may[i])));
    for (size_t i = 0; i < sizeof may_not / sizeof *may_not; i++)
        assert_false(keyspace_may_match(slice_of(may_not[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channels_of_notifications_are_known_by_their_beginning),
        cmocka_unit_test(patterns_that_may_match_them_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
