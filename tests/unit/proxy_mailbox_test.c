/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

enum { SENDERS = 4, LETTERS = 2000 };

/* A receiver that writes down what it got. */
struct reader {
    struct ev_loop *loop;
    struct mailbox mailbox;
    int read[16];
    size_t count;
    size_t awaited; /* breaks the loop when it has so many */
};

struct note {
    struct letter letter;
    struct reader *reader;
    int number;
};

static void reader_init(struct reader *reader)
{
    *reader = (struct reader){.loop = ev_loop_new(EVFLAG_AUTO)};
    assert_non_null(reader->loop);
    mailbox_init(&reader->mailbox, reader->loop, reader);
}

static void reader_finish(struct reader *reader)
{
    mailbox_finish(&reader->mailbox);
    ev_loop_destroy(reader->loop);
}

static void write_down(struct letter *letter, void *receiver)
{
    struct note *note = (struct note *)letter;
    struct reader *reader = receiver;
    assert_ptr_equal(reader, note->reader);
    reader->read[reader->count++] = note->number;
}

static void write_down_and_free(struct letter *letter, void *receiver)
{
    write_down(letter, receiver);
    free(letter);
}

static void post(struct reader *reader, struct note *note, int number)
{
    *note = (struct note){{NULL, write_down}, reader, number};
    mailbox_post(&reader->mailbox, &note->letter);
}

/* Lets the loop turn until what is pending has come. */
static void run(struct reader *reader)
{
    ev_run(reader->loop, EVRUN_NOWAIT);
}

static void assert_read(const struct reader *reader, const int *numbers, size_t count)
{
    assert_int_equal(reader->count, count);
    assert_memory_equal(reader->read, numbers, count * sizeof *numbers);
}

static void letters_arrive_in_order_when_the_loop_runs_and_not_before(void **unused)
{
    (void)unused;
    struct reader reader;
    struct note notes[3];
    reader_init(&reader);
    for (int i = 0; i < 3; i++)
        post(&reader, &notes[i], i);
    assert_int_equal(reader.count, 0);
    run(&reader);
    assert_read(&reader, (const int[]){0, 1, 2}, 3);
    run(&reader);
    assert_int_equal(reader.count, 3);
    post(&reader, &notes[0], 7);
    run(&reader);
    assert_read(&reader, (const int[]){0, 1, 2, 7}, 4);
    reader_finish(&reader);
}

static void a_mailbox_does_not_keep_its_loop_alive(void **unused)
{
    (void)unused;
    struct reader reader;
    reader_init(&reader);
    assert_false(ev_run(reader.loop, 0)); /* else this test would not end */
    reader_finish(&reader);
}

static void a_letter_may_be_freed_by_who_receives_it(void **unused)
{
    (void)unused;
    struct reader reader;
    reader_init(&reader);
    for (int i = 0; i < 3; i++) {
        struct note *note = malloc(sizeof *note);
        assert_non_null(note);
        *note = (struct note){{NULL, write_down_and_free}, &reader, i};
        mailbox_post(&reader.mailbox, &note->letter);
    }
    run(&reader);
    assert_read(&reader, (const int[]){0, 1, 2}, 3);
    reader_finish(&reader);
}

static void post_again_once(struct letter *letter, void *receiver)
{
    struct reader *reader = receiver;
    write_down(letter, receiver);
    letter->deliver = write_down;
    mailbox_post(&reader->mailbox, letter);
}

static void a_letter_posted_while_letters_are_delivered_comes_after_them(void **unused)
{
    (void)unused;
    struct reader reader;
    struct note first, second;
    reader_init(&reader);
    post(&reader, &first, 1);
    first.letter.deliver = post_again_once;
    post(&reader, &second, 2);
    mailbox_drain(&reader.mailbox);
    assert_read(&reader, (const int[]){1, 2}, 2);
    run(&reader);
    assert_read(&reader, (const int[]){1, 2, 1}, 3);
    reader_finish(&reader);
}

static void what_is_left_is_delivered_at_the_end(void **unused)
{
    (void)unused;
    struct reader reader;
    struct note notes[4];
    reader_init(&reader);
    mailbox_drain(&reader.mailbox);
    assert_int_equal(reader.count, 0);
    post(&reader, &notes[0], 5);
    mailbox_drain(&reader.mailbox);
    assert_read(&reader, (const int[]){5}, 1);
    post(&reader, &notes[1], 6);
    post(&reader, &notes[2], 7);
    reader_finish(&reader);
    assert_read(&reader, (const int[]){5, 6, 7}, 3);
}

/* ---- several threads ---- */

struct sender {
    struct letter letters[LETTERS];
    struct reader *reader;
    pthread_t thread;
    size_t received;
};

static struct sender senders[SENDERS];

static void expect_next_of_its_sender(struct letter *letter, void *receiver)
{
    struct reader *reader = receiver;
    for (int i = 0; i < SENDERS; i++) {
        struct sender *sender = &senders[i];
        if ((uintptr_t)letter < (uintptr_t)sender->letters ||
            (uintptr_t)letter >= (uintptr_t)(sender->letters + LETTERS))
            continue;
        assert_ptr_equal(letter, &sender->letters[sender->received]);
        sender->received++;
    }
    if (++reader->count == reader->awaited) ev_break(reader->loop, EVBREAK_ALL);
}

static void *send_all(void *argument)
{
    struct sender *sender = argument;
    for (int i = 0; i < LETTERS; i++) {
        sender->letters[i].deliver = expect_next_of_its_sender;
        mailbox_post(&sender->reader->mailbox, &sender->letters[i]);
    }
    return NULL;
}

static void too_late(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)timer;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

static void none_is_lost_and_each_sender_keeps_its_order(void **unused)
{
    (void)unused;
    struct reader reader;
    ev_timer patience;
    reader_init(&reader);
    reader.awaited = (size_t)SENDERS * LETTERS;
    for (int i = 0; i < SENDERS; i++) {
        senders[i].reader = &reader;
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    ev_timer_init(&patience, too_late, 60, 0);
    ev_timer_start(reader.loop, &patience);
    ev_run(reader.loop, 0);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    assert_int_equal(reader.count, reader.awaited); /* without a drain: each post has woken the loop */
    for (int i = 0; i < SENDERS; i++)
        assert_int_equal(senders[i].received, LETTERS);
    ev_timer_stop(reader.loop, &patience);
    reader_finish(&reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_arrive_in_order_when_the_loop_runs_and_not_before),
        cmocka_unit_test(a_mailbox_does_not_keep_its_loop_alive),
        cmocka_unit_test(a_letter_may_be_freed_by_who_receives_it),
        cmocka_unit_test(a_letter_posted_while_letters_are_delivered_comes_after_them),
        cmocka_unit_test(what_is_left_is_delivered_at_the_end),
        cmocka_unit_test(none_is_lost_and_each_sender_keeps_its_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
