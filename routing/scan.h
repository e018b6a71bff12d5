/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scan.h - the cursor of a SCAN over several masters.
 *
 *      bit 63..52   51...    ...     30       29..0
 *            0      state    rank    again    the cursor of one master
 *
 * Below 2^53, so that languages whose numbers are doubles keep it exact. rank is the place of the master's shard in the
 * order of their names, in as many bits as their number needs; SCAN_CHECK, all of these set: all have been scanned.
 * What is read with another number of masters is of another state, most likely, as after any other change.
 *
 * state is a hash of what all masters say of their slots, of which run each is, and of their epochs, when the round begins:
 * so a master or a slot that was elsewhere in between is noticed when it is back. When all
 * have been scanned they are asked once more: if that has changed, keys may have gone from one that was not scanned yet to
 * one that was, and another round begins. If it is the same but slots are on their way, keys may have gone with them
 * all the time: one more round finds those, and is the last if nothing changes in it. So no key is missed that was there
 * all the time; keys may come more than once, as SCAN allows. The cursor carries all of this: any proxy can go on.
 *
 * Pure: no state.
 */
#ifndef ROUTING_SCAN_H
#define ROUTING_SCAN_H

#include "routing/slice.h"

#include <stdint.h>

enum {
    SCAN_CHECK = 0xffff, /* a rank that no master has */
};

struct scan_cursor {
    uint64_t place; /* the master's own */
    uint32_t rank;
    uint32_t state;
    bool is_again;  /* the round for keys that may have gone with slots on their way */
};

/* False if it is not one of ours. */
bool scan_read(uint64_t cursor, uint32_t masters, struct scan_cursor *scan);

/* False if the master's cursor is too large to be carried. Never 0. */
bool scan_write(const struct scan_cursor *scan, uint32_t masters, uint64_t *cursor);

/* Where the scan goes on when the master's page came with this cursor. */
struct scan_cursor scan_after_page(const struct scan_cursor *scan, uint64_t place, uint32_t masters);

/* ... when all have been scanned, or to begin with (NULL). is_over: the client gets 0. */
struct scan_cursor scan_after_check(const struct scan_cursor *scan, uint32_t state, bool has_moving, bool *is_over);

/* Adds what a master says (a reply to CLUSTER NODES) to the hash: its epoch, its own slots and those on their way; and how many
 * are its own to *slots. Returns true if any are on their way. Begin with 0; scan_state() makes the state of it, of 21 bits with
 * one master and 11 with a thousand. */
bool scan_add(uint64_t *hash, uint32_t *slots, struct slice name, uint32_t run_mark, struct slice nodes);
uint32_t scan_state(uint64_t hash, uint32_t masters);

#endif
