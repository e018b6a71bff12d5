/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arrival.h - a connection that was accepted: is there room for it, and which worker gets it?
 *
 * The kernel spreads connections over the workers' sockets by a hash, and those to a unix socket by who is first: of forty, one
 * of four workers may get twenty and another none. So who accepts one looks at what others have, and may hand the descriptor
 * over (routing/spread.h).
 *
 *      accepted --> counted by the process --> counted by its worker --> client_accept()
 *                        |                          |                        ^
 *                        '--> refused               '------> letter ---------'
 *
 * A client counts where it goes to from then on, not from when it is there: so others that come meanwhile go elsewhere, and
 * a worker that drains does not end while one is on its way. What it sends meanwhile waits in its socket.
 *
 * Owner:   a descriptor belongs to the worker that has accepted it, to the letter while that travels, and to its client then.
 * Threads: the worker's own; the atomics of its gauge are read by all, and clients is counted up by others.
 */
#ifndef PROXY_ARRIVAL_H
#define PROXY_ARRIVAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct listener;
struct worker;

/* What a worker shows others, so that they know what it has to do. On lines of its own. */
struct arrival_gauge {
    _Alignas(64) _Atomic uint32_t clients; /* that it has, or that are on their way to it */
    _Atomic uint32_t busy_percent;         /* CPU time of its thread in the last tenth of a second or so */
    atomic_bool is_closed;                 /* it drains: nothing is to be handed over to it */
    uint64_t cpu_us, looked_us;            /* its own: the CPU time of its thread until then */
};

/* Takes the descriptor. */
void arrival_take(struct listener *listener, int fd);

/* A client of the worker is gone. */
void arrival_leave(struct worker *worker);

/* Nothing is handed over to the worker any more, nor by it; but for what is on its way. */
void arrival_close(struct worker *worker);

/* True if it has no client, and none is on its way. */
bool arrival_is_over(const struct worker *worker);

/* Every 100 ms. */
void arrival_tick(struct worker *worker);

#endif
