/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pause.h - CLIENT PAUSE and PROXY PAUSE: for a while, commands of this proxy's clients wait. Nothing is sent to a node.
 *
 *                PAUSE ms WRITE             PAUSE ms ALL
 *      none ------------------> writes wait ------------> everything waits
 *        ^                          |                          |
 *        '--------------------------'--------------------------'   the time is over, UNPAUSE, or PROXY RESUME
 *
 * A later PAUSE may make it longer or wider, never shorter or narrower. Its end and mode are one atomic
 * number, so that every worker sees both at once; it is zero mostly, which is all that a plain command looks
 * at. A client that has to wait is stalled; each worker lets its own go on when the time is over, or when the
 * letter of UNPAUSE comes by. PROXY commands never wait, so that who has paused can resume.
 *
 * Threads: any worker.
 */
#ifndef PROXY_PAUSE_H
#define PROXY_PAUSE_H

#include "proxy/client.h"

#include <stdatomic.h>

struct worker;

struct pause {
    _Alignas(64) _Atomic uint64_t until; /* its end in ms of the workers' clock, times 2, plus 1 for ALL; 0 =
                                            none. Nothing that is often written lies beside it. */
    _Alignas(64) _Atomic uint32_t waiting; /* clients that wait for its end */
};

/* CLIENT PAUSE and UNPAUSE, as handlers of local.h. */
bool pause_begin(struct client *client, const struct command_at_hand *at_hand);
bool pause_end(struct client *client, const struct command_at_hand *at_hand);

/* What the number was, and what it is now. */
struct pause_change {
    uint64_t before, after;
};

/* Makes it as long and as wide as that, if it is not yet. */
struct pause_change pause_extend(struct pause *pause, uint64_t end_ms, bool is_for_all, uint64_t now_ms);

/* As it was before, if nobody has changed it since; who waits has then to be released. */
void pause_undo(struct pause *pause, const struct pause_change *change);

/* True if the command has to wait; the worker will then let the client go on. To be asked if until is not
 * zero. */
bool pause_holds(struct client *client, const struct command_at_hand *at_hand);

/* The client is stalled until then, or is so no more. */
void pause_stall(struct client *client);
void pause_unstall(struct client *client);

/* Lets this worker's clients look again. */
void pause_release(struct worker *worker);

#endif
