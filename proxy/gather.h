/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gather.h - a question of one client that all workers answer together: CLIENT LIST, KILL, UNBLOCK, UNPAUSE.
 *
 * Workers share nothing, so one letter goes from worker to worker. Each does its part (visit), then the
 * letter goes home, and the client that asked, which is stalled meanwhile, gets its reply (conclude). If that
 * client has gone by then, what was gathered is dropped.
 *
 *      gather_send() -> visit -> visit -> ... -> conclude
 *                         |        ^
 *                         '- kept -' gather_again()
 *
 * Owner:   the worker that has the letter. Threads: each worker in its turn.
 */
#ifndef PROXY_GATHER_H
#define PROXY_GATHER_H

#include "proxy/client.h"
#include "proxy/mailbox.h"

struct gather;

/* Where the letter goes when a worker has done its part. */
enum gather_way {
    GATHER_ON,   /* to the next worker, or home after the last */
    GATHER_HOME, /* nobody else need be asked */
    GATHER_KEPT, /* nowhere: somebody in this worker has it, and calls gather_again() or gather_home() */
};

struct gather_kind {
    enum gather_way (*visit)(struct gather *gather, struct worker *worker);
    void (*conclude)(struct gather *gather, struct client *client); /* replies */
    void (*destroy)(struct gather *gather);
};

/* First in the struct of each kind. */
struct gather {
    struct letter letter;
    const struct gather_kind *kind;
    struct worker *origin;
    uint64_t client_id;
    uint32_t visited;
};

/* Sends it on its way (takes it) and stalls the client. Returns true, as a handler of local.h. */
bool gather_send(struct gather *gather, const struct gather_kind *kind, struct client *client);

/* Visits this worker once more, in another turn of its loop. */
void gather_again(struct gather *gather, struct worker *worker);
void gather_home(struct gather *gather);

#endif
