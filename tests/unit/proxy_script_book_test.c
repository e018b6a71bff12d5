/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/script_book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static char here, there; /* two connections, of which only the address matters */
static const struct connection *const one = (const void *)&here;
static const struct connection *const two = (const void *)&there;

static struct script_sha number(unsigned value)
{
    return (struct script_sha){{(unsigned char)(value >> 8), (unsigned char)value}};
}

static int make(void **state)
{
    *state = script_book_create();
    return *state ? 0 : -1;
}

static int drop(void **state)
{
    script_book_destroy(*state);
    return 0;
}

static void script_on_its_way_is_there_for_its_connection_alone(void **state)
{
    struct script_book *book = *state;
    struct script_sha sha = number(1);
    assert_int_equal(script_book_find(book, &sha, one), SCRIPT_ABSENT);
    script_book_loading(book, &sha, one);
    assert_int_equal(script_book_find(book, &sha, one), SCRIPT_LOADING);
    assert_int_equal(script_book_find(book, &sha, two), SCRIPT_ABSENT);
    assert_int_equal(script_book_find(book, &sha, NULL), SCRIPT_ABSENT);
    script_book_loaded(book, &sha, one);
    assert_int_equal(script_book_find(book, &sha, one), SCRIPT_LOADED);
    assert_int_equal(script_book_find(book, &sha, two), SCRIPT_LOADED);
}

static void answer_that_comes_after_all_was_forgotten_means_nothing(void **state)
{
    struct script_book *book = *state;
    struct script_sha sha = number(1);
    script_book_follow(book, 7);
    script_book_loading(book, &sha, one);
    script_book_follow(book, 7);
    assert_int_equal(script_book_find(book, &sha, one), SCRIPT_LOADING);
    script_book_follow(book, 8);
    script_book_loaded(book, &sha, one);
    assert_int_equal(script_book_find(book, &sha, one), SCRIPT_ABSENT);
    script_book_loading(book, &sha, one);
    script_book_clear(book);
    script_book_loaded(book, &sha, one);
    assert_int_equal(script_book_find(book, &sha, one), SCRIPT_ABSENT);
}

static void closed_connection_takes_with_it_what_was_on_its_way(void **state)
{
    struct script_book *book = *state;
    struct script_sha loaded = number(1), lost = number(2), other = number(3), failed = number(4);
    script_book_loading(book, &loaded, one);
    script_book_loaded(book, &loaded, one);
    script_book_loading(book, &lost, one);
    script_book_loading(book, &other, two);
    script_book_loading(book, &failed, two);
    script_book_drop_connection(book, one);
    script_book_drop(book, &failed);
    assert_int_equal(script_book_find(book, &loaded, two), SCRIPT_LOADED);
    assert_int_equal(script_book_find(book, &lost, one), SCRIPT_ABSENT);
    assert_int_equal(script_book_find(book, &other, two), SCRIPT_LOADING);
    assert_int_equal(script_book_find(book, &failed, two), SCRIPT_ABSENT);
}

/* All in one set: their third byte is the same. */
static void full_set_makes_room_and_loses_no_more_than_it_must(void **state)
{
    struct script_book *book = *state;
    unsigned known = 0;
    for (unsigned i = 1; i <= 20; i++) {
        struct script_sha sha = number(i);
        script_book_loading(book, &sha, one);
        script_book_loaded(book, &sha, one);
        assert_int_equal(script_book_find(book, &sha, two), SCRIPT_LOADED);
    }
    for (unsigned i = 1; i <= 20; i++) {
        struct script_sha sha = number(i);
        known += script_book_find(book, &sha, two) == SCRIPT_LOADED;
    }
    assert_int_equal(known, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(script_on_its_way_is_there_for_its_connection_alone, make, drop),
        cmocka_unit_test_setup_teardown(answer_that_comes_after_all_was_forgotten_means_nothing, make, drop),
        cmocka_unit_test_setup_teardown(closed_connection_takes_with_it_what_was_on_its_way, make, drop),
        cmocka_unit_test_setup_teardown(full_set_makes_room_and_loses_no_more_than_it_must, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
