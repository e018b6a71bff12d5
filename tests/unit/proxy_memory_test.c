/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/memory.h"
#include "proxy/slab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

enum { TICKS_OF_SECOND = 10, MANY = 5000, THING_BYTES = 200 };

/* Ticks of so many seconds with this much in use; how often memory was to be given back. */
static int trims_in(struct memory_trim *trim, int seconds, uint64_t used_bytes)
{
    int count = 0;
    for (int i = 0; i < seconds * TICKS_OF_SECOND; i++)
        count += memory_should_trim(trim, used_bytes);
    return count;
}

static void memory_is_given_back_once_after_a_burst(void **unused)
{
    (void)unused;
    struct memory_trim trim = {0};
    assert_int_equal(trims_in(&trim, 5, MIB), 0);
    assert_int_equal(trims_in(&trim, 5, 200 * MIB), 0);
    assert_int_equal(trims_in(&trim, 3, MIB), 1);
    assert_int_equal(trims_in(&trim, 60, MIB), 0);
}

static void a_burst_of_one_tick_counts(void **unused)
{
    (void)unused;
    struct memory_trim trim = {0};
    assert_int_equal(trims_in(&trim, 5, MIB), 0);
    assert_false(memory_should_trim(&trim, 200 * MIB));
    assert_int_equal(trims_in(&trim, 4, MIB), 1);
}

static void what_comes_every_second_is_kept_for(void **unused)
{
    (void)unused;
    struct memory_trim trim = {0};
    int count = 0;
    for (int i = 0; i < 300; i++)
        count += memory_should_trim(&trim, i % 10 == 0 ? 200 * MIB : MIB);
    assert_int_equal(count, 0);
}

static void little_is_not_worth_it(void **unused)
{
    (void)unused;
    struct memory_trim trim = {0};
    assert_int_equal(trims_in(&trim, 5, 2 * MIB), 0);
    assert_int_equal(trims_in(&trim, 5, MIB), 0);
}

static void memory_that_goes_step_by_step_is_given_back_too(void **unused)
{
    (void)unused;
    struct memory_trim trim = {0};
    int count = 0;
    for (uint64_t used = 200 * MIB; used > 0; used -= MIB)
        count += trims_in(&trim, 1, used);
    assert_in_range(count, 80, 100);
}

static void half_of_the_machine_is_the_bound_where_none_is_given(void **unused)
{
    (void)unused;
    assert_in_range(memory_default_max(), MIB, UINT64_MAX / 2);
}

static uint64_t used(void) { return atomic_load(&memory_used_bytes); }

static void things_of_a_slab_are_apart_and_aligned(void **unused)
{
    (void)unused;
    static char *things[MANY];
    struct slab_pool pool = {0};
    for (int i = 0; i < MANY; i++) {
        things[i] = slab_take(&pool, THING_BYTES);
        assert_non_null(things[i]);
        assert_int_equal((uintptr_t)things[i] % _Alignof(max_align_t), 0);
        memset(things[i], i & 0x7f, THING_BYTES);
    }
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(things[i][0], i & 0x7f);
        assert_int_equal(things[i][THING_BYTES - 1], i & 0x7f);
    }
    slab_pool_finish(&pool);
}

static void slabs_that_are_empty_go_back_but_for_a_few(void **unused)
{
    (void)unused;
    static void *things[MANY];
    struct slab_pool pool = {0};
    uint64_t before = used();
    for (int i = 0; i < MANY; i++)
        things[i] = slab_take(&pool, THING_BYTES);
    assert_true(used() - before >= (uint64_t)MANY * THING_BYTES);
    for (int i = 0; i < MANY; i += 2)
        slab_give(&pool, things[i]);
    for (int i = 1; i < MANY; i += 2)
        slab_give(&pool, things[i]);
    assert_in_range(used() - before, SLAB_BYTES, 16 * SLAB_BYTES);
    assert_null(pool.full);
    slab_pool_finish(&pool);
    assert_int_equal(used(), before);
}

static void a_pool_that_is_apart_is_not_counted(void **unused)
{
    (void)unused;
    struct slab_pool pool = {.is_apart = true};
    uint64_t before = used();
    void *thing = slab_take(&pool, THING_BYTES);
    assert_non_null(thing);
    assert_int_equal(used(), before);
    slab_give(&pool, thing);
    slab_pool_finish(&pool);
    assert_int_equal(used(), before);
}

static void one_thing_taken_and_given_again_and_again_is_the_same_memory(void **unused)
{
    (void)unused;
    struct slab_pool pool = {0};
    void *first = slab_take(&pool, THING_BYTES);
    slab_give(&pool, first);
    uint64_t before = used();
    for (int i = 0; i < MANY; i++) {
        void *thing = slab_take(&pool, THING_BYTES);
        assert_ptr_equal(thing, first);
        slab_give(&pool, thing);
    }
    assert_int_equal(used(), before);
    slab_pool_finish(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_given_back_once_after_a_burst),
        cmocka_unit_test(a_burst_of_one_tick_counts),
        cmocka_unit_test(what_comes_every_second_is_kept_for),
        cmocka_unit_test(little_is_not_worth_it),
        cmocka_unit_test(memory_that_goes_step_by_step_is_given_back_too),
        cmocka_unit_test(half_of_the_machine_is_the_bound_where_none_is_given),
        cmocka_unit_test(things_of_a_slab_are_apart_and_aligned),
        cmocka_unit_test(slabs_that_are_empty_go_back_but_for_a_few),
        cmocka_unit_test(a_pool_that_is_apart_is_not_counted),
        cmocka_unit_test(one_thing_taken_and_given_again_and_again_is_the_same_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
