/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/mailbox.h"

#include <stddef.h>

static void mailbox_woken(struct ev_loop *loop, ev_async *watcher, int events);

void mailbox_init(struct mailbox *mailbox, struct ev_loop *loop, void *receiver)
{
    pthread_mutex_init(&mailbox->mutex, NULL);
    mailbox->first = NULL;
    mailbox->last = &mailbox->first;
    mailbox->receiver = receiver;
    mailbox->loop = loop;
    ev_async_init(&mailbox->wake, mailbox_woken);
    mailbox->wake.data = mailbox;
    ev_async_start(loop, &mailbox->wake);
    ev_unref(loop);
}

void mailbox_post(struct mailbox *mailbox, struct letter *letter)
{
    letter->next = NULL;
    pthread_mutex_lock(&mailbox->mutex);
    *mailbox->last = letter;
    mailbox->last = &letter->next;
    pthread_mutex_unlock(&mailbox->mutex);
    ev_async_send(mailbox->loop, &mailbox->wake);
}

void mailbox_drain(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    struct letter *letter = mailbox->first;
    mailbox->first = NULL;
    mailbox->last = &mailbox->first;
    pthread_mutex_unlock(&mailbox->mutex);

    while (letter) {
        struct letter *next = letter->next; /* deliver() may free its letter */
        letter->deliver(letter, mailbox->receiver);
        letter = next;
    }
}

void mailbox_finish(struct mailbox *mailbox)
{
    mailbox_drain(mailbox);
    ev_ref(mailbox->loop);
    ev_async_stop(mailbox->loop, &mailbox->wake);
    pthread_mutex_destroy(&mailbox->mutex);
}

static void mailbox_woken(struct ev_loop *loop, ev_async *watcher, int events)
{
    (void)loop;
    (void)events;
    mailbox_drain(watcher->data);
}
