/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/handover.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))
#define NOONE           "+failover-state-send-slaveof-noone"

static void assert_slice(struct slice slice, const char *expected)
{
    assert_int_equal(slice.size, strlen(expected));
    assert_memory_equal(slice.bytes, expected, slice.size);
}

static void a_promotion_names_the_master_and_its_heir(void **unused)
{
    (void)unused;
    struct handover_event event =
        handover_read(SLICE(NOONE), SLICE("slave [::1]:6381 ::1 6381 @ my-master redis.example 65535"));
    assert_int_equal(event.kind, HANDOVER_EVENT_PROMOTE);
    assert_slice(event.master_name, "my-master");
    assert_slice(event.heir.host, "::1");
    assert_int_equal(event.heir.port, 6381);
    assert_slice(event.master.host, "redis.example");
    assert_int_equal(event.master.port, 65535);
}

static void every_way_of_giving_up_is_understood(void **unused)
{
    (void)unused;
    static const char *const channels[] = {"-failover-abort-no-good-slave", "-failover-abort-slave-timeout",
                                           "-failover-abort-not-elected", "-failover-abort-x-sdown"};
    for (size_t i = 0; i < COUNT_OF(channels); i++) {
        struct handover_event event = handover_read(slice_of(channels[i]), SLICE("master main 10.0.0.1 6379"));
        assert_int_equal(event.kind, HANDOVER_EVENT_GIVE_UP);
        assert_slice(event.master_name, "main");
        assert_slice(event.master.host, "10.0.0.1");
        assert_int_equal(event.master.port, 6379);
    }
}

static void that_a_replica_is_about_to_be_chosen_is_understood(void **unused)
{
    (void)unused;
    struct handover_event event =
        handover_read(SLICE("+failover-state-select-slave"), SLICE("master main 10.0.0.1 6379"));
    assert_int_equal(event.kind, HANDOVER_EVENT_NEAR);
    assert_slice(event.master_name, "main");
    assert_slice(event.master.host, "10.0.0.1");
    assert_int_equal(event.master.port, 6379);
}

static void what_makes_no_sense_is_of_no_interest(void **unused)
{
    (void)unused;
    static const struct {
        const char *channel, *message;
    } samples[] = {
        {NOONE, ""},
        {"+failover-state-select-slave", "slave a:1 a 1 @ main b 2"},
        {NOONE, " "},
        {NOONE, "slave a:1 a 1 @ main b"},
        {NOONE, "slave a:1 a 1 @ main b 2 3"},
        {NOONE, "slave a:1 a 1 % main b 2"},
        {NOONE, "master a:1 a 1 @ main b 2"},
        {NOONE, "slave a:1 a 0 @ main b 2"},
        {NOONE, "slave a:1 a 65536 @ main b 2"},
        {NOONE, "slave a:1 a x @ main b 2"},
        {NOONE, "slave a:1 a 1 @ main b -2"},
        {NOONE, "slave a:1  1 @ main b 2"},
        {NOONE, "slave a:1 a 1 @ main  2"},
        {NOONE, "slave a:1 a 99999999999999999999 @ main b 2"},
        {"+failover-state-wait-promotion", "slave a:1 a 1 @ main b 2"},
        {"+failover-end", "master main b 2"},
        {"-failover-abort-", "master main b"},
        {"-failover-abort-not-elected", "slave main b 2"},
        {"-failover", "master main b 2"},
        {"", "master main b 2"},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct handover_event event = handover_read(slice_of(samples[i].channel), slice_of(samples[i].message));
        assert_int_equal(event.kind, HANDOVER_EVENT_NONE);
    }
}

static void writes_are_held_until_the_heir_says_that_it_is_the_master(void **unused)
{
    (void)unused;
    struct handover handover = {0};
    struct handover_heir heir = {.is_master = false, .role_asked_us = 900};
    handover_begin(&handover, 1000);
    assert_int_equal(handover.state, HANDOVER_HOLDING);
    assert_false(handover_is_done(&handover, &heir, 1500));
    assert_int_equal(handover.state, HANDOVER_HOLDING);
    heir = (struct handover_heir){.is_master = true, .role_asked_us = 1000};
    assert_true(handover_is_done(&handover, &heir, 1600));
    assert_int_equal(handover.state, HANDOVER_NONE);
    assert_false(handover_is_done(&handover, &heir, 1700));
}

static void what_the_heir_said_before_does_not_count(void **unused)
{
    (void)unused;
    struct handover handover = {0};
    const struct handover_heir heir = {.is_master = true, .role_asked_us = 999};
    handover_begin(&handover, 1000);
    assert_false(handover_is_done(&handover, &heir, 1001));
    assert_int_equal(handover.state, HANDOVER_HOLDING);
}

static void writes_are_not_held_for_longer_than_the_bound_but_the_heir_is_watched(void **unused)
{
    (void)unused;
    struct handover handover = {0};
    struct handover_heir heir = {.is_master = false, .role_asked_us = 2000};
    handover_begin(&handover, 1000);
    assert_false(handover_is_done(&handover, &heir, 1000 + HANDOVER_HOLD_US - 1));
    assert_int_equal(handover.state, HANDOVER_HOLDING);
    assert_false(handover_is_done(&handover, &heir, 1000 + HANDOVER_HOLD_US));
    assert_int_equal(handover.state, HANDOVER_LATE);
    heir.is_master = true;
    assert_true(handover_is_done(&handover, &heir, 1000 + HANDOVER_HOLD_US + 1));
    assert_int_equal(handover.state, HANDOVER_NONE);
}

static void after_a_while_it_is_not_watched_any_more(void **unused)
{
    (void)unused;
    struct handover handover = {0};
    const struct handover_heir heir = {.is_master = false, .role_asked_us = 2000};
    handover_begin(&handover, 1000);
    assert_false(handover_is_done(&handover, &heir, 1000 + HANDOVER_WATCH_US));
    assert_int_equal(handover.state, HANDOVER_NONE);
}

static void the_same_once_more_begins_anew_and_giving_up_ends_it(void **unused)
{
    (void)unused;
    struct handover handover = {0};
    const struct handover_heir heir = {.is_master = false, .role_asked_us = 2000};
    handover_begin(&handover, 1000);
    handover_is_done(&handover, &heir, 1000 + HANDOVER_HOLD_US);
    handover_begin(&handover, 1000 + HANDOVER_HOLD_US);
    assert_int_equal(handover.state, HANDOVER_HOLDING);
    handover_end(&handover);
    assert_int_equal(handover.state, HANDOVER_NONE);
}

static void what_the_heir_was_not_told_is_known(void **unused)
{
    (void)unused;
    struct handover handover = {0};
    const struct handover_heir heir = {.is_master = true, .role_asked_us = 900000};
    handover_begin(&handover, 1000);
    assert_int_equal(handover_missing(&handover, 0), 0);
    handover_hear_master(&handover, 500, 1000 + HANDOVER_SETTLE_US - 1); /* writes may still be on their way */
    assert_int_equal(handover_missing(&handover, 100), 0);
    handover_hear_master(&handover, 700, 1000 + HANDOVER_SETTLE_US);
    assert_true(handover_is_done(&handover, &heir, 950000));
    assert_int_equal(handover_missing(&handover, 600), 100);
    assert_int_equal(handover_missing(&handover, 700), 0);
    assert_int_equal(handover_missing(&handover, 701), 0);
    handover_hear_master(&handover, 9000, 999999); /* nothing is held any more */
    assert_int_equal(handover_missing(&handover, 700), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_promotion_names_the_master_and_its_heir),
        cmocka_unit_test(every_way_of_giving_up_is_understood),
        cmocka_unit_test(that_a_replica_is_about_to_be_chosen_is_understood),
        cmocka_unit_test(what_makes_no_sense_is_of_no_interest),
        cmocka_unit_test(writes_are_held_until_the_heir_says_that_it_is_the_master),
        cmocka_unit_test(what_the_heir_said_before_does_not_count),
        cmocka_unit_test(writes_are_not_held_for_longer_than_the_bound_but_the_heir_is_watched),
        cmocka_unit_test(after_a_while_it_is_not_watched_any_more),
        cmocka_unit_test(the_same_once_more_begins_anew_and_giving_up_ends_it),
        cmocka_unit_test(what_the_heir_was_not_told_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
