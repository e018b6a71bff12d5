/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blocked.h - a client that waits in a blocking command: since when, until when, and for whose writes.
 *
 * A client is in one blocking command at a time (client->blocking), so what is known of it lies in the
 * client:
 *
 *      begin --> sent: its time starts -----------------------------> answered by the node
 *        |         |  lost, cut or UNBLOCKED (routing/verdict.h)
 *        |         v
 *        '------> held: its time starts, or goes on ----------------> over: nil, by us
 *                  |  there is a master
 *                  '-> sent again, with the time that is left
 *
 * While it waits for a connection from the pool its time has not begun: a nil then would be a lie about data
 * that nobody looked at, and would hide that the pool is too small.
 *
 * WAIT speaks of what was written on its own connection, but this client's writes travelled on shared ones.
 * So a command that every replica is sent and nobody notices goes before it (connection_mark): then it waits
 * for all that the master had by then. A client that has written nothing since its last WAIT needs no new one
 * if that connection is still free.
 *
 * Owner:   embedded in a client. Threads: one worker only.
 */
#ifndef PROXY_BLOCKED_H
#define PROXY_BLOCKED_H

#include "routing/blocking.h"

struct client;
struct command_at_hand;
struct connection;
struct request;

struct blocked {
    struct blocking_timeout timeout;
    struct slice end;  /* the reply when its time is over; static text */
    uint64_t since_ms; /* it is the oldest on its connection, and written; 0 = not yet */
    uint64_t until_ms; /* 0 = forever, or its time has not begun */
    uint8_t block;     /* enum command_block */
};

/* The client is about to wait in this command. Returns within how many ms a node that is well answers it: its own time and
 * what any command may take; 0 = it may take as long as it takes. */
uint32_t blocked_begin(struct client *client, const struct command_at_hand *at_hand);

/* Its time goes on from now if it has not begun. */
void blocked_start_time(struct request *request);

/* The oldest request on the connection may be one that waits there from now on. */
void blocked_note_sent(struct connection *connection);

/* How long its node has had it without an answer. */
uint64_t blocked_waited_ms(const struct request *request);

/* True if its time is over. */
bool blocked_is_over(const struct request *request);

/* Answers as Redis does when the time is over. */
void blocked_end(struct request *request);

/* Makes it ready for the connection: its bytes say how much time is left, and before WAIT goes the mark.
 * False, and ended with an error, if memory is short. */
bool blocked_prepare(struct connection *connection, struct request *request);

static inline bool blocked_is_wait(const struct blocked *blocked)
{
    return blocked->block == BLOCK_REPLICAS;
}

static inline bool blocked_is_for_data(const struct blocked *blocked)
{
    return blocking_is_for_data((enum command_block)blocked->block);
}

#endif
