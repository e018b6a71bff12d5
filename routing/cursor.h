/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cursor.h - cursors of SCAN and its like that know which run of a server they belong to.
 *
 * A cursor is a place in a hash table that one process has, with a hash seed of its own: after a failover, or
 * a restart, the same number names another place, and a scan that went on from there would miss elements. So
 * what a client is given carries a mark of the run that made it, in bits that no real cursor has:
 *
 *      bit 63..52   51..40   39..0
 *            0       mark    the node's cursor
 *
 * Below 2^53, so that languages whose numbers are doubles keep it exact. The mark is made of the run_id
 * alone: all proxies give the same. A cursor of another run begins again at 0: elements may come twice, as
 * SCAN allows, and none is missed.
 *
 * Cursors that carry no mark (0, 2^52 and above, or what a transaction returned) pass as they are. A real
 * cursor of 2^40 or more would need a table of as many buckets.
 *
 * Pure: no state.
 */
#ifndef ROUTING_CURSOR_H
#define ROUTING_CURSOR_H

#include "routing/slice.h"

#include <stdint.h>

/* From 1 to 4095; 0, which marks nothing, if the run_id is empty. */
uint32_t cursor_mark(struct slice run_id);

/* Reads a plain decimal number. False if it is none, or beyond 64 bits: the node shall say what it thinks of
 * it. */
bool cursor_read(struct slice word, uint64_t *cursor);

/* The mark that a client's cursor carries; 0 = none. */
uint32_t cursor_mark_of(uint64_t cursor);

/* What a client is given for a node's cursor. */
uint64_t cursor_for_client(uint64_t cursor, uint32_t mark);

/* What a node whose run has that mark is given for a client's cursor. */
uint64_t cursor_for_node(uint64_t cursor, uint32_t mark);

/* Writes the number over the word, with zeros before it; it must not have more digits than the word. */
void cursor_write(char *word, size_t size, uint64_t cursor);

#endif
