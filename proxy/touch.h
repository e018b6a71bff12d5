/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * touch.h - what a request touches, for the sake of reads from replicas (routing/freshness.h).
 *
 * A read is told, when its client sends it, how fresh a replica must be that answers it (request->fresh_after_us). A write
 * marks its keys while it is with a node and when it is answered:
 *
 *      connection_queue()        touch_begin()    reads of the key go to the master
 *      connection_take_oldest()  touch_end()      ... or to who is fresh as of later than now
 *
 * Between MULTI and EXEC what is touched is gathered at the client, and goes with the EXEC. Scripts and functions, and
 * commands that nobody knows, may write anything: they touch all keys.
 *
 * Owner:   lists of keys belong to a request, or to a client in a transaction, and come from the worker's pool.
 * Threads: one worker only; the marks are everybody's.
 */
#ifndef PROXY_TOUCH_H
#define PROXY_TOUCH_H

#include "proxy/client.h"
#include "routing/plan.h"

struct connection;

enum { TOUCHES_ROOM = 60 };

/* Cells of freshness.h. */
struct touches {
    struct touches *next;
    uint32_t count;
    uint32_t cells[TOUCHES_ROOM];
};

/* Sets what the traits of a read ask for, if it may go to a replica at all. */
void touch_read(struct client *client, const struct command_at_hand *at_hand, struct request *traits);

/* The request is the command at hand, on its way: finds out which keys it may write. False if memory is short. */
bool touch_write(struct client *client, const struct command_at_hand *at_hand, struct request *request);

/* The same for a piece of it, by its number; the plan is the worker's last. */
bool touch_piece(struct client *client, const struct command_at_hand *at_hand, const struct plan *plan, uint32_t index,
                 struct request *piece);

/* A command of a transaction of which no node is told yet. */
void touch_queued(struct client *client, const struct command_at_hand *at_hand);

void touch_begin(const struct request *request, const struct connection *connection);
/* It was answered, or lost. */
void touch_end(const struct request *request, const struct connection *connection);
/* It has changed nothing: not a byte of it was sent, or the node refused it. */
void touch_cancel(const struct request *request, const struct connection *connection);

/* Nothing is to be written any more by the transaction that its client was in. */
void touch_forget(struct client *client);

#endif
