/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/chunk.h"

#include "routing/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))
#define ROOM            (CHUNK_SIZE - sizeof(struct chunk)) /* of a shared chunk */

/* Walks the list: its order, its end and its count of bytes must be right, and so must be what it says. */
static void assert_spans(const struct spans *spans, struct slice expected)
{
    size_t bytes = 0;
    const struct span *last = NULL;
    for (const struct span *span = spans->first; span; span = span->next) {
        assert_true(span->size > 0);
        assert_true(bytes + span->size <= expected.size);
        assert_memory_equal(span->bytes, expected.bytes + bytes, span->size);
        if (span->chunk) {
            assert_true(span->chunk->references > 0);
            assert_true(span->bytes >= span->chunk->bytes);
            assert_true(span->bytes + span->size <= span->chunk->bytes + span->chunk->filled);
        }
        bytes += span->size;
        last = span;
    }
    assert_int_equal(bytes, expected.size);
    assert_int_equal(spans->bytes, expected.size);
    assert_ptr_equal(spans->last, last);
}

static size_t count_spans(const struct spans *spans)
{
    size_t count = 0;
    for (const struct span *span = spans->first; span; span = span->next)
        count++;
    return count;
}

/* Appends bytes to a chunk as a read from a socket does. */
static const char *receive(struct chunk *chunk, const char *bytes, size_t size)
{
    assert_true(chunk_room(chunk) >= size);
    char *at = chunk->bytes + chunk->filled;
    memcpy(at, bytes, size);
    chunk->filled += size;
    return at;
}

/* ---- chunks ---- */

static void freed_chunks_are_used_again_and_those_to_measure_are_not(void **unused)
{
    (void)unused;
    struct chunk_pool pool;
    chunk_pool_init(&pool);
    struct chunk *chunk = chunk_create(&pool);
    assert_int_equal(chunk->references, 1);
    assert_int_equal(chunk_room(chunk), ROOM);
    chunk_take(chunk);
    receive(chunk, "x", 1);
    chunk_release(&pool, chunk);
    assert_int_equal(pool.free_chunk_count, 0);
    chunk_release(&pool, chunk);
    assert_int_equal(pool.free_chunk_count, 1);
    struct chunk *again = chunk_create(&pool);
    assert_ptr_equal(again, chunk);
    assert_int_equal(again->references, 1);
    assert_int_equal(again->filled, 0);
    assert_int_equal(pool.free_chunk_count, 0);

    struct chunk *measured = chunk_create_sized(10);
    assert_int_equal(chunk_room(measured), 10);
    chunk_release(&pool, measured);
    assert_int_equal(pool.free_chunk_count, 0);
    chunk_release(&pool, again);
    chunk_release(&pool, NULL);
    chunk_pool_finish(&pool);
}

static void a_pool_keeps_a_bounded_number_of_free_chunks(void **unused)
{
    (void)unused;
    enum { MANY = 100, KEPT = 64 };
    struct chunk_pool pool;
    struct chunk *chunks[MANY];
    chunk_pool_init(&pool);
    for (int i = 0; i < MANY; i++)
        chunks[i] = chunk_create(&pool);
    for (int i = 0; i < MANY; i++)
        chunk_release(&pool, chunks[i]);
    assert_int_equal(pool.free_chunk_count, KEPT);
    chunk_pool_finish(&pool);
    assert_null(pool.free_chunks);
}

static void free_chunks_that_were_not_needed_for_a_while_go_but_for_a_few(void **unused)
{
    (void)unused;
    enum { MANY = 50, NEEDED = 20, AT_REST = 8 };
    struct chunk_pool pool;
    struct chunk *chunks[MANY];
    chunk_pool_init(&pool);
    for (int i = 0; i < MANY; i++)
        chunks[i] = chunk_create(&pool);
    chunk_pool_rest(&pool);
    for (int i = 0; i < MANY; i++)
        chunk_release(&pool, chunks[i]);
    chunk_pool_rest(&pool);
    assert_int_equal(pool.free_chunk_count, MANY); /* all of them were in use since the last time */
    for (int i = 0; i < NEEDED; i++)
        chunks[i] = chunk_create(&pool);
    for (int i = 0; i < NEEDED; i++)
        chunk_release(&pool, chunks[i]);
    chunk_pool_rest(&pool);
    assert_int_equal(pool.free_chunk_count, NEEDED);
    chunk_pool_rest(&pool);
    assert_int_equal(pool.free_chunk_count, AT_REST);
    chunk_pool_rest(&pool);
    assert_int_equal(pool.free_chunk_count, AT_REST);
    chunk_pool_finish(&pool);
}

static void copies_own_their_bytes(void **unused)
{
    (void)unused;
    struct chunk_pool pool;
    chunk_pool_init(&pool);
    char bytes[] = "abc";
    struct chunk *copy = chunk_copy((struct slice){bytes, 3});
    bytes[0] = 'x';
    assert_int_equal(copy->filled, 3);
    assert_true(copy->is_private);
    assert_memory_equal(copy->bytes, "abc", 3);
    chunk_release(&pool, copy);
    copy = chunk_copy((struct slice){NULL, 0});
    assert_non_null(copy);
    assert_int_equal(copy->filled, 0);
    chunk_release(&pool, copy);
    chunk_pool_finish(&pool);
}

static void the_intake_goes_on_while_it_has_room_and_begins_again_when_nobody_holds_it(void **unused)
{
    (void)unused;
    struct chunk_pool pool;
    chunk_pool_init(&pool);
    struct chunk *intake = chunk_pool_intake(&pool, 100);
    assert_int_equal(intake->references, 1);
    receive(intake, "abc", 3);
    assert_ptr_equal(chunk_pool_intake(&pool, ROOM), intake);
    assert_int_equal(intake->filled, 0); /* nobody had kept them */

    receive(intake, "abc", 3);
    chunk_take(intake);
    assert_ptr_equal(chunk_pool_intake(&pool, ROOM - 3), intake);
    assert_int_equal(intake->filled, 3);
    struct chunk *next = chunk_pool_intake(&pool, ROOM - 2);
    assert_ptr_not_equal(next, intake);
    assert_int_equal(next->filled, 0);
    assert_int_equal(intake->references, 1); /* ours: what was kept lives on */
    assert_memory_equal(intake->bytes, "abc", 3);
    chunk_release(&pool, intake);
    chunk_pool_finish(&pool);
}

/* ---- spans ---- */

static void ranges_that_touch_become_one_and_others_do_not(void **unused)
{
    (void)unused;
    struct chunk_pool pool;
    chunk_pool_init(&pool);
    struct chunk *one = chunk_create(&pool), *two = chunk_create(&pool);
    const char *bytes = receive(one, "abcdefgh", 8);
    receive(two, "XY", 2);
    struct spans spans = {0};
    assert_true(spans_add(&pool, &spans, one, bytes, 2));
    assert_true(spans_add(&pool, &spans, one, bytes + 2, 3));
    assert_int_equal(count_spans(&spans), 1);
    assert_int_equal(one->references, 2);
    assert_true(spans_add(&pool, &spans, one, bytes + 6, 1)); /* a gap */
    assert_true(spans_add(&pool, &spans, two, two->bytes, 2));
    assert_true(spans_add(&pool, &spans, one, bytes + 7, 1)); /* touches the last but one */
    assert_true(spans_add(&pool, &spans, one, bytes, 0));     /* nothing is nothing */
    assert_int_equal(count_spans(&spans), 4);
    assert_int_equal(one->references, 4);
    assert_spans(&spans, SLICE("abcdegXYh"));
    spans_clear(&pool, &spans);
    assert_int_equal(one->references, 1);
    assert_int_equal(two->references, 1);
    chunk_release(&pool, one);
    chunk_release(&pool, two);
    chunk_pool_finish(&pool);
}

static void static_text_is_never_joined_nor_released(void **unused)
{
    (void)unused;
    static const char text[] = "+OK\r\n+OK\r\n";
    struct chunk_pool pool;
    chunk_pool_init(&pool);
    struct spans spans = {0};
    assert_true(spans_add(&pool, &spans, NULL, text, 5));
    assert_true(spans_add(&pool, &spans, NULL, text + 5, 5));
    assert_int_equal(count_spans(&spans), 2);
    spans_settle(&pool, &spans);
    assert_ptr_equal(spans.first->bytes, text);
    assert_spans(&spans, SLICE("+OK\r\n+OK\r\n"));
    spans_clear(&pool, &spans);
    assert_spans(&spans, SLICE(""));
    chunk_pool_finish(&pool);
}

static void small_copies_go_to_the_intake_and_large_ones_to_a_chunk_to_measure(void **unused)
{
    (void)unused;
    static char large[8193];
    memset(large, 'x', sizeof large);
    static const struct {
        size_t size;
        bool is_private;
    } samples[] = {{1, false}, {8192, false}, {8193, true}};
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct chunk_pool pool;
        chunk_pool_init(&pool);
        struct spans spans = {0};
        assert_true(spans_add_copy(&pool, &spans, (struct slice){large, samples[i].size}));
        assert_int_equal(spans.first->chunk->is_private, samples[i].is_private);
        assert_ptr_not_equal(spans.first->bytes, large);
        assert_int_equal(spans.first->chunk->references, samples[i].is_private ? 1 : 2);
        assert_spans(&spans, (struct slice){large, samples[i].size});
        spans_clear(&pool, &spans);
        chunk_pool_finish(&pool);
    }
}

static void what_is_kept_is_copied_behind_what_was_kept_before(void **unused)
{
    (void)unused;
    struct chunk_pool pool;
    chunk_pool_init(&pool);
    struct spans spans = {0};
    enum { PIECES = 3000, PIECE = 10 };
    char expected[PIECES * PIECE];
    for (size_t i = 0; i < PIECES; i++) {
        char *piece = expected + i * PIECE;
        memset(piece, 'a' + (int)(i % 26), PIECE);
        assert_true(spans_add_kept(&pool, &spans, (struct slice){piece, PIECE}));
    }
    assert_spans(&spans, (struct slice){expected, sizeof expected});
    assert_true(count_spans(&spans) <= 2); /* chunks of 16 KiB */
    spans_consume(&pool, &spans, 15);
    assert_true(spans_add_kept(&pool, &spans, SLICE("z")));
    assert_int_equal(spans.bytes, sizeof expected - 14);
    assert_int_equal(*(spans.last->bytes + spans.last->size - 1), 'z');
    static char large[100000];
    assert_true(spans_add_kept(&pool, &spans, (struct slice){large, sizeof large}));
    assert_int_equal(spans.last->size, sizeof large);
    assert_true(spans_add_kept(&pool, &spans, SLICE("after")));
    assert_null(pool.intake);
    spans_clear(&pool, &spans);
    chunk_pool_finish(&pool);
}

static void moving_leaves_nothing_behind(void **unused)
{
    (void)unused;
    struct chunk_pool pool;
    chunk_pool_init(&pool);
    struct spans to = {0}, from = {0};
    spans_move(&to, &from);
    assert_spans(&to, SLICE(""));
    spans_add(&pool, &from, NULL, "ab", 2);
    spans_add(&pool, &from, NULL, "cd", 2);
    spans_move(&to, &from);
    assert_spans(&to, SLICE("abcd"));
    assert_spans(&from, SLICE(""));
    spans_add(&pool, &from, NULL, "ef", 2);
    spans_move(&to, &from);
    spans_move(&to, &from);
    assert_spans(&to, SLICE("abcdef"));
    spans_clear(&pool, &to);
    chunk_pool_finish(&pool);
}

static void consuming_ends_at_any_byte(void **unused)
{
    (void)unused;
    for (size_t count = 0; count <= 9; count++) {
        struct chunk_pool pool;
        chunk_pool_init(&pool);
        struct spans spans = {0};
        for (int i = 0; i < 3; i++)
            spans_add(&pool, &spans, NULL, &"abcdefghi"[(size_t)i * 3], 3);
        spans_consume(&pool, &spans, count);
        assert_spans(&spans, (struct slice){"abcdefghi" + count, 9 - count});
        spans_add(&pool, &spans, NULL, "j", 1);
        assert_int_equal(spans.bytes, 10 - count);
        spans_clear(&pool, &spans);
        spans_clear(&pool, &spans);
        assert_null(spans.first);
        assert_null(spans.last);
        chunk_pool_finish(&pool);
    }
}

static void settling_frees_shared_chunks_of_small_ranges_alone(void **unused)
{
    (void)unused;
    static char large[8192];
    memset(large, 'L', sizeof large);
    struct chunk_pool pool;
    chunk_pool_init(&pool);
    struct chunk *one = chunk_create(&pool), *two = chunk_create(&pool), *mine = chunk_copy(SLICE("mine"));
    receive(one, "aXb", 3);
    receive(two, large, sizeof large);
    receive(two, "tail", 4);
    struct spans spans = {0};
    spans_add(&pool, &spans, one, one->bytes, 1); /* a run of two: into one chunk */
    spans_add(&pool, &spans, one, one->bytes + 2, 1);
    spans_add(&pool, &spans, mine, mine->bytes, 4);          /* stays */
    spans_add(&pool, &spans, two, two->bytes, sizeof large); /* large enough to stay */
    spans_add(&pool, &spans, one, one->bytes, 3);            /* a run of one, and the last */
    spans_settle(&pool, &spans);

    assert_int_equal(count_spans(&spans), 4);
    assert_int_equal(one->references, 1);
    assert_int_equal(two->references, 2);
    assert_int_equal(mine->references, 2);
    assert_true(spans.first->chunk->is_private);
    assert_int_equal(spans.first->chunk->capacity, 2);
    assert_ptr_equal(spans.first->next->chunk, mine);
    assert_ptr_equal(spans.first->next->next->chunk, two);
    assert_true(spans.last->chunk->is_private);
    assert_memory_equal(spans.first->bytes, "ab", 2);
    assert_memory_equal(spans.last->bytes, "aXb", 3);
    const struct chunk *settled = spans.first->chunk;
    spans_settle(&pool, &spans);
    assert_ptr_equal(spans.first->chunk, settled);

    spans_clear(&pool, &spans);
    chunk_release(&pool, one);
    chunk_release(&pool, two);
    chunk_release(&pool, mine);
    chunk_pool_finish(&pool);
}

static void joining_leaves_the_ranges_as_they_are(void **unused)
{
    (void)unused;
    struct chunk_pool pool;
    chunk_pool_init(&pool);
    struct spans spans = {0};
    struct chunk *none = spans_join(&spans);
    assert_int_equal(none->filled, 0);
    chunk_release(&pool, none);
    spans_add(&pool, &spans, NULL, "ab", 2);
    spans_add_copy(&pool, &spans, SLICE("cd"));
    struct chunk *joined = spans_join(&spans);
    assert_int_equal(joined->references, 1);
    assert_int_equal(joined->filled, 4);
    assert_memory_equal(joined->bytes, "abcd", 4);
    assert_spans(&spans, SLICE("abcd"));
    chunk_release(&pool, joined);
    spans_clear(&pool, &spans);
    chunk_pool_finish(&pool);
}

static void what_no_memory_can_hold_is_refused(void **unused)
{
    (void)unused;
    assert_null(chunk_create_sized(SIZE_MAX / 2));
}

/* ---- any sequence ---- */

enum { LISTS = 3, STEPS = 20000, MODEL_ROOM = 400000, SETTLE_BELOW = 8192 };

/* The same lists twice: as spans and as plain bytes. */
struct twin {
    struct spans spans;
    char *bytes;
    size_t size;
};

struct world {
    struct chunk_pool pool;
    struct twin twins[LISTS];
    uint64_t seed;
    char source[20000];
};

typedef void world_step(struct world *world, struct twin *twin);

static void model_append(struct twin *twin, const char *bytes, size_t size)
{
    assert_true(twin->size + size <= MODEL_ROOM);
    memcpy(twin->bytes + twin->size, bytes, size);
    twin->size += size;
}

/* Mostly small, at times beyond the size from which on bytes travel by reference. */
static struct slice some_bytes(struct world *world)
{
    uint32_t most = random_below(&world->seed, 20) ? 300 : sizeof world->source;
    uint32_t size = random_below(&world->seed, most);
    return (struct slice){world->source + random_below(&world->seed, (uint32_t)sizeof world->source - size),
                          size};
}

static void receive_into_intake(struct world *world, struct twin *twin)
{
    struct slice bytes = some_bytes(world);
    struct chunk *intake = chunk_pool_intake(&world->pool, bytes.size);
    const char *at = receive(intake, bytes.bytes, bytes.size);
    size_t cut =
        bytes.size ? random_below(&world->seed, (uint32_t)bytes.size) : 0; /* two requests in one read */
    assert_true(spans_add(&world->pool, &twin->spans, intake, at, cut));
    assert_true(spans_add(&world->pool, &twin->spans, intake, at + cut, bytes.size - cut));
    model_append(twin, bytes.bytes, bytes.size);
}

static void copy_in(struct world *world, struct twin *twin)
{
    struct slice bytes = some_bytes(world);
    assert_true(spans_add_copy(&world->pool, &twin->spans, bytes));
    model_append(twin, bytes.bytes, bytes.size);
}

static void add_static_text(struct world *world, struct twin *twin)
{
    assert_true(spans_add(&world->pool, &twin->spans, NULL, "+QUEUED\r\n", 9));
    model_append(twin, "+QUEUED\r\n", 9);
}

static void move_to_another(struct world *world, struct twin *twin)
{
    struct twin *from = &world->twins[random_below(&world->seed, LISTS)];
    if (from == twin || twin->size + from->size > MODEL_ROOM) return;
    spans_move(&twin->spans, &from->spans);
    model_append(twin, from->bytes, from->size);
    from->size = 0;
}

static void consume_some(struct world *world, struct twin *twin)
{
    size_t count = random_below(&world->seed, (uint32_t)twin->size + 1);
    if (random_below(&world->seed, 3) == 0 && twin->spans.first)
        count = twin->spans.first->size; /* exactly one range */
    spans_consume(&world->pool, &twin->spans, count);
    memmove(twin->bytes, twin->bytes + count, twin->size - count);
    twin->size -= count;
}

static void clear(struct world *world, struct twin *twin)
{
    spans_clear(&world->pool, &twin->spans);
    twin->size = 0;
}

static void settle(struct world *world, struct twin *twin)
{
    spans_settle(&world->pool, &twin->spans);
    for (const struct span *span = twin->spans.first; span; span = span->next)
        assert_true(!span->chunk || span->chunk->is_private || span->size >= SETTLE_BELOW);
}

static void join(struct world *world, struct twin *twin)
{
    struct chunk *joined = spans_join(&twin->spans);
    assert_int_equal(joined->filled, twin->size);
    assert_memory_equal(joined->bytes, twin->bytes, twin->size);
    chunk_release(&world->pool, joined);
}

static void ranges_say_what_plain_bytes_would_after_any_sequence(void **unused)
{
    (void)unused;
    static world_step *const steps[] = {
        receive_into_intake, receive_into_intake, receive_into_intake, copy_in, copy_in, add_static_text,
        move_to_another,     consume_some,        consume_some,        settle,  join,    clear};
    struct world *world = calloc(1, sizeof *world);
    chunk_pool_init(&world->pool);
    world->seed = 20240229;
    for (size_t i = 0; i < sizeof world->source; i++)
        world->source[i] = (char)random_next(&world->seed);
    for (int i = 0; i < LISTS; i++)
        world->twins[i].bytes = malloc(MODEL_ROOM);

    for (int step = 0; step < STEPS; step++) {
        struct twin *twin = &world->twins[random_below(&world->seed, LISTS)];
        if (twin->size > MODEL_ROOM / 2) clear(world, twin);
        steps[random_below(&world->seed, COUNT_OF(steps))](world, twin);
        for (int i = 0; i < LISTS; i++)
            assert_spans(&world->twins[i].spans, (struct slice){world->twins[i].bytes, world->twins[i].size});
    }

    for (int i = 0; i < LISTS; i++) {
        spans_clear(&world->pool, &world->twins[i].spans);
        free(world->twins[i].bytes);
    }
    assert_int_equal(world->pool.intake->references, 1); /* nobody holds anything any more */
    chunk_pool_finish(&world->pool);
    free(world);
}

/* What cannot be had is asked for once above. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(freed_chunks_are_used_again_and_those_to_measure_are_not),
        cmocka_unit_test(a_pool_keeps_a_bounded_number_of_free_chunks),
        cmocka_unit_test(free_chunks_that_were_not_needed_for_a_while_go_but_for_a_few),
        cmocka_unit_test(copies_own_their_bytes),
        cmocka_unit_test(the_intake_goes_on_while_it_has_room_and_begins_again_when_nobody_holds_it),
        cmocka_unit_test(ranges_that_touch_become_one_and_others_do_not),
        cmocka_unit_test(static_text_is_never_joined_nor_released),
        cmocka_unit_test(small_copies_go_to_the_intake_and_large_ones_to_a_chunk_to_measure),
        cmocka_unit_test(what_is_kept_is_copied_behind_what_was_kept_before),
        cmocka_unit_test(moving_leaves_nothing_behind),
        cmocka_unit_test(consuming_ends_at_any_byte),
        cmocka_unit_test(settling_frees_shared_chunks_of_small_ranges_alone),
        cmocka_unit_test(joining_leaves_the_ranges_as_they_are),
        cmocka_unit_test(what_no_memory_can_hold_is_refused),
        cmocka_unit_test(ranges_say_what_plain_bytes_would_after_any_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
