/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blocking.h - where does a blocking command's own timeout stand, how long is it, and what does its end
 * answer?
 *
 *   command                                   timeout                            its end
 *   ------------------------------------------+-----------------------------------+--------------------------
 *   BLPOP BRPOP BLMOVE BRPOPLPUSH BZPOPMIN ... | seconds, the last word            | nil
 *   BLMPOP BZMPOP                              | seconds, behind the command word  | nil
 *   XREAD XREADGROUP                           | milliseconds, behind BLOCK        | nil
 *   WAIT WAITAOF                               | milliseconds, the last word       | how many: none
 *
 * The column is enum command_block in the command's row. 0 is forever. What is no timeout to Redis is none
 * here: the node says what is wrong with it.
 *
 * Pure: no state, no clock. Threads: any.
 */
#ifndef ROUTING_BLOCKING_H
#define ROUTING_BLOCKING_H

#include "routing/command.h"

/* Room for the text of any timeout. */
enum { BLOCKING_TEXT_SIZE = 24 };

struct blocking_timeout {
    uint32_t position;   /* of its word among the arguments; 0 = nobody can say */
    uint64_t timeout_ms; /* 0 = forever, or nobody can say */
};

/* The timeout of a command that blocks (command_is_blocking). */
struct blocking_timeout blocking_timeout_of(const struct command *command, const struct slice *arguments,
                                            size_t count);

/* Writes a timeout as this kind of command takes it; text has room for BLOCKING_TEXT_SIZE. */
struct slice blocking_write_timeout(enum command_block block, uint64_t timeout_ms, char *text);

/* True if it waits for data that any master has one day, and so may go on waiting on another one. */
bool blocking_is_for_data(enum command_block block);

/* The reply when its time is over and no node could be asked; protocol is 2 or 3. */
struct slice blocking_reply_of_end(const struct command *command, int protocol);

#endif
