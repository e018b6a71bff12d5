/* SPDX-License-Identifier: BSD-2-Clause */
/* A SCAN over masters between which slots move: no key that is there all the time may be missed. */
#include "routing/scan.h"

#include "routing/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { MASTERS = 4, SLOTS = 12, PAGES = 5, STEPS_MOST = 100000 };

static void cursors_come_back_as_they_went(void **state)
{
    (void)state;
    const struct {
        uint32_t masters;
        struct scan_cursor scan;
    } rows[] = {
        {3, {.place = 0, .rank = 0, .state = 1}},
        {3, {.place = (1U << 30) - 1, .rank = SCAN_CHECK, .state = (1U << 19) - 1, .is_again = true}},
        {4, {.place = 0, .rank = 3, .state = 1}},
        {1000, {.place = 12345, .rank = 999, .state = (1U << 11) - 1, .is_again = true}},
        {1024, {.place = 1, .rank = 1023, .state = 5}},
        {1, {.place = 0, .rank = SCAN_CHECK, .state = 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t cursor;
        struct scan_cursor scan;
        assert_true(scan_write(&rows[i].scan, rows[i].masters, &cursor));
        assert_true(cursor < (uint64_t)1 << 53);
        assert_true(scan_read(cursor, rows[i].masters, &scan));
        assert_int_equal(scan.place, rows[i].scan.place);
        assert_int_equal(scan.rank, rows[i].scan.rank);
        assert_int_equal(scan.state, rows[i].scan.state);
        assert_int_equal(scan.is_again, rows[i].scan.is_again);
    }
}

static void what_cannot_be_carried_is_refused(void **state)
{
    (void)state;
    uint64_t cursor;
    struct scan_cursor scan = {.place = 1U << 30, .state = 1};
    assert_false(scan_write(&scan, 3, &cursor));
    assert_false(scan_read((uint64_t)1 << 52, 3, &scan));
}

static void states_are_as_many_as_there_is_room_for(void **state)
{
    (void)state;
    const uint32_t masters[] = {1, 3, 4, 1000};
    for (size_t i = 0; i < sizeof masters / sizeof *masters; i++) {
        uint64_t cursor, hash = UINT64_MAX;
        uint32_t most = 0;
        for (uint32_t turn = 0; turn < 100000; turn++) {
            hash = hash * 6364136223846793005U + 1442695040888963407U;
            struct scan_cursor scan = {.rank = SCAN_CHECK, .state = scan_state(hash, masters[i])};
            assert_true(scan.state > 0 && scan_write(&scan, masters[i], &cursor));
            most = scan.state > most ? scan.state : most;
        }
        assert_true(most > (i < 3 ? 100000U : 2000U));
    }
}

static void what_a_master_says_of_itself_makes_the_state(void **state)
{
    (void)state;
    static const char other[] = "b 127.0.0.1:2@12 master - 0 0 2 connected 5-9\n";
    char settled[256], moved[256], moving[256], older[256], elected[256];
    snprintf(settled, sizeof settled, "%sa 127.0.0.1:1@11 myself,master - 0 0 1 connected 0-4 10\n", other);
    snprintf(moved, sizeof moved, "%sa 127.0.0.1:1@11 myself,master - 0 0 1 connected 0-4\n", other);
    snprintf(moving, sizeof moving, "%sa 127.0.0.1:1@11 myself,master - 0 0 1 connected 0-4 10 [10->-b]\n", other);
    snprintf(elected, sizeof elected, "%sa 127.0.0.1:1@11 myself,master - 0 0 3 connected 0-4 10\n", other);
    snprintf(older, sizeof older, "a 127.0.0.1:1@11 myself,master - 7 9 1 connected 0-4 10\n%s", other);
    struct {
        const char *text;
        uint64_t hash;
        bool has_moving;
        uint32_t slots;
    } rows[] = {{.text = settled}, {.text = moved}, {.text = moving}, {.text = older}, {.text = elected}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        rows[i].has_moving = scan_add(&rows[i].hash, &rows[i].slots, SLICE("name"), 7, slice_of(rows[i].text));
    assert_int_equal(rows[0].hash, rows[3].hash); /* pings and what it says of others do not count */
    assert_int_not_equal(rows[0].hash, rows[1].hash);
    assert_int_not_equal(rows[0].hash, rows[2].hash);
    assert_int_not_equal(rows[0].hash, rows[4].hash); /* it was not the master all the time, or a slot came back */
    assert_true(rows[2].has_moving && !rows[0].has_moving && !rows[1].has_moving);
    assert_int_equal(rows[0].slots, 6);
    assert_int_equal(rows[1].slots, 5);
    assert_int_equal(rows[2].slots, 6);
    uint64_t restarted = 0;
    scan_add(&restarted, &(uint32_t){0}, SLICE("name"), 8, slice_of(settled));
    assert_int_not_equal(rows[0].hash, restarted);
    assert_int_not_equal(scan_state(0, 3), 0);
}

/* Each slot has one key for each page of a master; a master's page n shows the keys n of those that are there. */
struct world {
    uint32_t owner[SLOTS];
    uint32_t moving_to[SLOTS];         /* MASTERS: it is not */
    uint32_t keys_at[SLOTS][PAGES];
    bool seen[SLOTS][PAGES];
};

static void disturb(struct world *world, uint64_t *seed)
{
    uint32_t slot = random_below(seed, SLOTS);
    uint32_t key = random_below(seed, PAGES);
    if (world->moving_to[slot] == MASTERS) {
        world->moving_to[slot] = random_below(seed, MASTERS);
        if (world->moving_to[slot] == world->owner[slot]) world->moving_to[slot] = MASTERS;
    } else if (random_below(seed, 3) > 0) {
        world->keys_at[slot][key] = world->moving_to[slot];
    } else {
        for (uint32_t i = 0; i < PAGES; i++)
            world->keys_at[slot][i] = world->moving_to[slot];
        world->owner[slot] = world->moving_to[slot];
        world->moving_to[slot] = MASTERS;
    }
}

static uint32_t ask(const struct world *world, bool *has_moving)
{
    uint64_t hash = 0;
    *has_moving = false;
    for (uint32_t master = 0; master < MASTERS; master++) {
        char text[1024];
        int size = snprintf(text, sizeof text, "%u a myself,master - 0 0 1 connected", master);
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            if (world->owner[slot] == master) size += snprintf(text + size, sizeof text - (size_t)size, " %u", slot);
            if (world->owner[slot] == master && world->moving_to[slot] != MASTERS)
                size += snprintf(text + size, sizeof text - (size_t)size, " [%u->-%u]", slot, world->moving_to[slot]);
        }
        *has_moving |= scan_add(&hash, &(uint32_t){0}, SLICE("m"), 1, (struct slice){text, (size_t)size});
    }
    return scan_state(hash, MASTERS);
}

static void no_key_is_missed_while_slots_move(void **state)
{
    (void)state;
    uint64_t seed = 4711;
    uint32_t missed = 0, disturbed = 0;
    for (uint32_t run = 0; run < 3000; run++) {
        struct world world = {0};
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            world.owner[slot] = slot % MASTERS;
            world.moving_to[slot] = MASTERS;
            for (uint32_t key = 0; key < PAGES; key++)
                world.keys_at[slot][key] = world.owner[slot];
        }
        uint32_t calm_after = 40 + random_below(&seed, 60);
        struct scan_cursor scan;
        bool is_over = false, has_begun = false;
        for (uint32_t step = 0; !is_over && step < STEPS_MOST; step++) {
            /* afterwards only keys go, with slots that stay on their way */
            for (uint32_t i = random_below(&seed, 3); step < calm_after && i > 0; i--, disturbed++)
                disturb(&world, &seed);
            uint32_t slot = random_below(&seed, SLOTS);
            if (world.moving_to[slot] != MASTERS)
                world.keys_at[slot][random_below(&seed, PAGES)] = world.moving_to[slot];
            if (!has_begun || scan.rank == SCAN_CHECK) {
                bool has_moving;
                uint32_t now = ask(&world, &has_moving);
                scan = scan_after_check(has_begun ? &scan : NULL, now, has_moving, &is_over);
                has_begun = true;
                continue;
            }
            for (uint32_t each = 0; each < SLOTS; each++)
                world.seen[each][scan.place] |= world.keys_at[each][scan.place] == scan.rank;
            scan = scan_after_page(&scan, scan.place + 1 < PAGES ? scan.place + 1 : 0, MASTERS);
        }
        assert_true(is_over);
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            for (uint32_t key = 0; key < PAGES; key++)
                missed += !world.seen[slot][key];
        }
    }
    assert_true(disturbed > 10000);
    assert_int_equal(missed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursors_come_back_as_they_went),
        cmocka_unit_test(what_cannot_be_carried_is_refused),
        cmocka_unit_test(states_are_as_many_as_there_is_room_for),
        cmocka_unit_test(what_a_master_says_of_itself_makes_the_state),
        cmocka_unit_test(no_key_is_missed_while_slots_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
