/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spread.h - which worker gets a client that has just come?
 *
 * The one that has accepted it, unless another has markedly less to do: less by more than one client, and by more than an
 * eighth. So few clients are spread evenly, and of very many, which the kernel has spread well enough, hardly one is
 * handed over, which costs two wake-ups.
 *
 * Clients are counted, for that is known at once and most are alike. But one may keep a thread busy alone: so from half a CPU on
 * each client of a worker counts for more, up to four times as much. No more than that, since how busy a thread has been says
 * little of how busy it will be, and clients stay where they are.
 *
 * Pure: no state.
 */
#ifndef ROUTING_SPREAD_H
#define ROUTING_SPREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spread_load {
    uint32_t clients;      /* that it has, or that are on their way to it */
    uint32_t busy_percent; /* of one CPU */
    bool is_closed;        /* takes none */
};

/* The first load is of the worker that has accepted. Returns an index; 0, where all take none. */
size_t spread_choose(const struct spread_load *loads, size_t count);

#endif
