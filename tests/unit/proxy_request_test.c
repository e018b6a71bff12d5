/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/request.h"

#include "routing/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

static void requests_are_zeroed_also_when_they_are_used_again(void **unused)
{
    (void)unused;
    struct request_pool pool = {0};
    struct chunk_pool chunks;
    chunk_pool_init(&chunks);
    static const struct request zeroed;
    struct request *request = request_create(&pool);
    assert_memory_equal(request, &zeroed, sizeof zeroed);
    memset(request, 0x5a, sizeof *request);
    request->chunk = NULL;
    request->touches = NULL;
    request->reply = (struct spans){0};
    request_destroy(&pool, &chunks, request);
    struct request *again = request_create(&pool);
    assert_ptr_equal(again, request);
    assert_memory_equal(again, &zeroed, sizeof zeroed);
    request_destroy(&pool, &chunks, again);
    request_pool_finish(&pool);
    chunk_pool_finish(&chunks);
}

static void a_pool_gives_as_many_as_are_asked_for_each_its_own(void **unused)
{
    (void)unused;
    enum { MANY = 1000 };
    struct request_pool pool = {0};
    struct request *requests[MANY];
    for (uint32_t i = 0; i < MANY; i++) {
        requests[i] = request_create(&pool);
        assert_non_null(requests[i]);
        requests[i]->database = i;
    }
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(requests[i]->database, i);
    request_pool_finish(&pool);
    assert_null(pool.slabs.open);
    assert_null(pool.slabs.full);
}

static void a_request_that_ends_lets_go_of_its_bytes_and_of_its_reply(void **unused)
{
    (void)unused;
    struct request_pool pool = {0};
    struct chunk_pool chunks;
    chunk_pool_init(&chunks);
    struct chunk *bytes = chunk_copy(SLICE("GET a")), *reply = chunk_copy(SLICE("$1\r\nx\r\n"));
    struct request *request = request_create(&pool);
    request->chunk = chunk_take(bytes);
    spans_add(&chunks, &request->reply, reply, reply->bytes, 4);
    spans_add(&chunks, &request->reply, NULL, "\r\n", 2);
    assert_int_equal(bytes->references, 2);
    assert_int_equal(reply->references, 2);
    request_destroy(&pool, &chunks, request);
    assert_int_equal(bytes->references, 1);
    assert_int_equal(reply->references, 1);
    chunk_release(&chunks, bytes);
    chunk_release(&chunks, reply);
    request_pool_finish(&pool);
    chunk_pool_finish(&chunks);
}

/* ---- settling ---- */

static void a_small_request_is_copied_out_of_a_shared_chunk_and_no_other(void **unused)
{
    (void)unused;
    static const struct {
        size_t size;
        bool is_private, is_copied;
    } samples[] = {
        {1, false, true}, {16383, false, true}, {16384, false, false}, {1, true, false}, {20000, true, false},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct chunk_pool chunks;
        chunk_pool_init(&chunks);
        struct chunk *chunk = samples[i].is_private ? chunk_create_sized(30000) : chunk_create(&chunks);
        memset(chunk->bytes, 'a', 30000);
        chunk->filled = 30000;
        struct request request = {
            .chunk = chunk_take(chunk), .bytes = chunk->bytes + 7, .size = samples[i].size};
        assert_true(request_settle(&chunks, &request));
        assert_int_equal(request.chunk != chunk, samples[i].is_copied);
        assert_int_equal(chunk->references, samples[i].is_copied ? 1 : 2);
        assert_int_equal(request.size, samples[i].size);
        memset(chunk->bytes, samples[i].is_copied ? 'b' : 'a', 30000);
        for (size_t at = 0; at < request.size; at++)
            assert_int_equal(request.bytes[at], 'a');
        const struct chunk *settled = request.chunk;
        assert_true(request_settle(&chunks, &request));
        assert_ptr_equal(request.chunk, settled);
        chunk_release(&chunks, request.chunk);
        chunk_release(&chunks, chunk);
        chunk_pool_finish(&chunks);
    }
}

static void a_request_without_a_chunk_has_nothing_to_settle(void **unused)
{
    (void)unused;
    struct chunk_pool chunks;
    chunk_pool_init(&chunks);
    struct request request = {.bytes = "PING", .size = 4};
    assert_true(request_settle(&chunks, &request));
    assert_null(request.chunk);
    assert_string_equal(request.bytes, "PING");
    chunk_pool_finish(&chunks);
}

static void only_commands_that_change_subscriptions_are_answered_by_several_frames(void **unused)
{
    (void)unused;
    for (int pin = PIN_NONE; pin <= PIN_SYNC; pin++) {
        struct request request = {.pin = (uint8_t)pin};
        assert_int_equal(request_is_subscription(&request), pin == PIN_SUBSCRIBE || pin == PIN_UNSUBSCRIBE);
    }
}

/* ---- queues ---- */

static void assert_queue(const struct request_queue *queue, struct request *const *expected, size_t count)
{
    const struct request *request = queue->first, *last = NULL;
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(request, expected[i]);
        last = request;
        request = request->next;
    }
    assert_null(request);
    assert_ptr_equal(queue->last, last);
}

static void a_request_can_be_taken_out_from_any_place(void **unused)
{
    (void)unused;
    enum { LENGTH = 4 };
    for (size_t place = 0; place < LENGTH; place++) {
        struct request requests[LENGTH + 1] = {0};
        struct request *expected[LENGTH];
        struct request_queue queue = {0};
        size_t left = 0;
        for (size_t i = 0; i < LENGTH; i++) {
            request_queue_push(&queue, &requests[i]);
            if (i != place) expected[left++] = &requests[i];
        }
        request_queue_remove(&queue, &requests[place]);
        assert_null(requests[place].next);
        assert_queue(&queue, expected, left);
        expected[left++] = &requests[LENGTH];
        request_queue_push(&queue, &requests[LENGTH]);
        assert_queue(&queue, expected, left);
    }
}

static void a_request_can_be_replaced_in_any_place(void **unused)
{
    (void)unused;
    enum { LENGTH = 4 };
    for (size_t place = 0; place < LENGTH; place++) {
        struct request requests[LENGTH + 2] = {0};
        struct request *expected[LENGTH + 1];
        struct request_queue queue = {0};
        for (size_t i = 0; i < LENGTH; i++) {
            request_queue_push(&queue, &requests[i]);
            expected[i] = i == place ? &requests[LENGTH] : &requests[i];
        }
        request_queue_replace(&queue, &requests[place], &requests[LENGTH]);
        assert_null(requests[place].next);
        assert_queue(&queue, expected, LENGTH);
        expected[LENGTH] = &requests[LENGTH + 1];
        request_queue_push(&queue, &requests[LENGTH + 1]);
        assert_queue(&queue, expected, LENGTH + 1);
    }
}

static void an_emptied_queue_is_as_good_as_new(void **unused)
{
    (void)unused;
    struct request request = {.next = &request}; /* what another queue has left behind */
    struct request *const alone[] = {&request};
    struct request_queue queue = {0};
    assert_null(request_queue_pop(&queue));
    request_queue_push(&queue, &request);
    assert_queue(&queue, alone, 1);
    assert_ptr_equal(request_queue_pop(&queue), &request);
    assert_queue(&queue, NULL, 0);
    request_queue_push(&queue, &request);
    request_queue_remove(&queue, &request);
    assert_queue(&queue, NULL, 0);
    assert_null(request_queue_pop(&queue));
}

/* Against an array, with two queues between which requests move. */
static void queues_keep_their_order_through_any_sequence(void **unused)
{
    (void)unused;
    enum { COUNT = 40 };
    struct request requests[COUNT] = {0};
    struct request *model[2][COUNT];
    struct request_queue queues[2] = {{0}, {0}};
    size_t sizes[2] = {0, 0};
    uint64_t seed = 31415;
    for (size_t i = 0; i < COUNT; i++) {
        request_queue_push(&queues[0], &requests[i]);
        model[0][sizes[0]++] = &requests[i];
    }
    for (int step = 0; step < 20000; step++) {
        uint32_t from = random_below(&seed, 2), to = random_below(&seed, 2);
        bool is_pop = random_below(&seed, 2);
        uint32_t place = is_pop ? 0 : random_below(&seed, (uint32_t)sizes[from]);
        if (sizes[from] == 0) {
            assert_null(request_queue_pop(&queues[from]));
            continue;
        }
        struct request *request = model[from][place];
        if (is_pop)
            assert_ptr_equal(request_queue_pop(&queues[from]), request);
        else
            request_queue_remove(&queues[from], request);
        sizes[from]--;
        memmove(&model[from][place], &model[from][place + 1], (sizes[from] - place) * sizeof *model[from]);
        request_queue_push(&queues[to], request);
        model[to][sizes[to]++] = request;
        for (int i = 0; i < 2; i++)
            assert_queue(&queues[i], model[i], sizes[i]);
    }
}

static void what_is_queued_in_front_comes_first(void **unused)
{
    (void)unused;
    struct request requests[3] = {0};
    struct request_queue queue = {0};
    request_queue_push_front(&queue, &requests[1]);
    request_queue_push(&queue, &requests[2]);
    request_queue_push_front(&queue, &requests[0]);
    for (size_t i = 0; i < 3; i++)
        assert_ptr_equal(request_queue_pop(&queue), &requests[i]);
    assert_null(request_queue_pop(&queue));
    assert_null(queue.last);
}

/* SUBSCRIBE a b c, of which two confirmations came, then one, then none, before the connection broke. */
static void a_subscription_sent_again_keeps_in_mind_what_its_client_has_seen(void **unused)
{
    (void)unused;
    struct request request = {.pin = PIN_SUBSCRIBE, .subscriptions = 3};
    static const uint32_t seen[] = {2, 1, 0};
    for (size_t i = 0; i < COUNT_OF(seen); i++) {
        request.confirmations = seen[i];
        request_restart_subscription(&request);
        assert_int_equal(request.confirmations, 0);
        assert_int_equal(request.known_confirmations, 2);
        assert_int_equal(request.subscriptions, 3);
    }
}

/* Those that are undone already are not confirmed by the node a second time. */
static void an_undoing_of_all_sent_again_is_counted_anew(void **unused)
{
    (void)unused;
    struct request request = {.pin = PIN_UNSUBSCRIBE, .undoes_all = true, .subscriptions = 5, .confirmations = 3};
    request_restart_subscription(&request);
    assert_int_equal(request.confirmations, 0);
    assert_int_equal(request.known_confirmations, 0);
    assert_int_equal(request.subscriptions, 0);
}

/* Held and sent again any number of times, with pauses of any length: time at nodes adds up to its timeout, and no more than
 * what it must have to be sent at all. */
static void all_times_that_a_request_is_sent_have_its_timeout_together(void **unused)
{
    (void)unused;
    uint64_t seed = 4;
    for (int round = 0; round < 1000; round++) {
        uint64_t now_ms = 1000, at_nodes_ms = 0, timeout_ms = 100 + random_below(&seed, 30000);
        struct request request = {.timeout_ms = (uint32_t)timeout_ms};
        for (;;) {
            request.deadline_ms = now_ms + request.timeout_ms;
            if (request_is_late(&request, now_ms + 1))
                break;
            uint64_t took_ms = 1 + random_below(&seed, (uint32_t)timeout_ms / 2);
            at_nodes_ms += took_ms;
            now_ms += took_ms;
            if (now_ms >= request.deadline_ms)
                break;
            request_stop_clock(&request, now_ms);
            assert_int_equal(request.deadline_ms, 0);
            now_ms += random_below(&seed, 100000);
        }
        assert_true(at_nodes_ms <= timeout_ms + timeout_ms / 2 + REQUEST_LEAST_MS);
    }
}

static void a_request_without_a_timeout_or_that_blocks_is_never_short_of_time(void **unused)
{
    (void)unused;
    struct request endless = {0}, blocking = {.timeout_ms = 5000, .deadline_ms = 6000, .is_blocking = true};
    assert_false(request_is_late(&endless, UINT64_MAX / 2));
    request_stop_clock(&endless, 5000);
    assert_int_equal(endless.timeout_ms, 0);
    request_stop_clock(&blocking, 5990);
    assert_int_equal(blocking.timeout_ms, 5000);
}

static void a_request_is_not_sent_again_with_next_to_no_time(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t timeout_ms;
        uint64_t left_ms;
        bool is_late;
    } rows[] = {{30000, 30000, false}, {30000, 250, false}, {30000, 249, true}, {30000, 0, true},
                {400, 51, false},      {400, 50, true},     {1, 1, false},      {1, 0, true}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct request request = {.timeout_ms = rows[i].timeout_ms, .deadline_ms = 1000 + rows[i].left_ms};
        assert_int_equal(request_is_late(&request, 1000), rows[i].is_late);
        request_stop_clock(&request, 1000);
        assert_true(request.timeout_ms >= 1 && request.timeout_ms <= rows[i].timeout_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_zeroed_also_when_they_are_used_again),
        cmocka_unit_test(a_pool_gives_as_many_as_are_asked_for_each_its_own),
        cmocka_unit_test(a_request_that_ends_lets_go_of_its_bytes_and_of_its_reply),
        cmocka_unit_test(a_small_request_is_copied_out_of_a_shared_chunk_and_no_other),
        cmocka_unit_test(a_request_without_a_chunk_has_nothing_to_settle),
        cmocka_unit_test(only_commands_that_change_subscriptions_are_answered_by_several_frames),
        cmocka_unit_test(a_request_can_be_taken_out_from_any_place),
        cmocka_unit_test(a_request_can_be_replaced_in_any_place),
        cmocka_unit_test(an_emptied_queue_is_as_good_as_new),
        cmocka_unit_test(queues_keep_their_order_through_any_sequence),
        cmocka_unit_test(what_is_queued_in_front_comes_first),
        cmocka_unit_test(a_subscription_sent_again_keeps_in_mind_what_its_client_has_seen),
        cmocka_unit_test(an_undoing_of_all_sent_again_is_counted_anew),
        cmocka_unit_test(all_times_that_a_request_is_sent_have_its_timeout_together),
        cmocka_unit_test(a_request_without_a_timeout_or_that_blocks_is_never_short_of_time),
        cmocka_unit_test(a_request_is_not_sent_again_with_next_to_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
