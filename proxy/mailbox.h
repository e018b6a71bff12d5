/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mailbox.h - how one thread's loop tells another's to do something.
 *
 * Letters are delivered in order, in the receiver's loop, between two of its events. Many may be posted for one
 * wake-up. Posting allocates nothing: the letter is embedded in what is sent and belongs to the receiver from
 * then on.
 *
 * Threads: mailbox_post() from any; the rest from the thread that runs the loop (init before it runs).
 */
#ifndef PROXY_MAILBOX_H
#define PROXY_MAILBOX_H

#include <ev.h>
#include <pthread.h>

struct letter {
    struct letter *next;
    void (*deliver)(struct letter *letter, void *receiver);
};

struct mailbox {
    struct ev_loop *loop;
    ev_async wake;
    pthread_mutex_t mutex;
    struct letter *first, **last;
    void *receiver;
};

/* receiver is handed to each letter's deliver(). Does not keep the loop alive by itself. */
void mailbox_init(struct mailbox *mailbox, struct ev_loop *loop, void *receiver);
void mailbox_post(struct mailbox *mailbox, struct letter *letter);

/* Delivers what is there now, as the loop would; for the end of a thread, when the loop no longer runs. */
void mailbox_drain(struct mailbox *mailbox);
void mailbox_finish(struct mailbox *mailbox);

#endif
