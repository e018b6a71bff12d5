/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scan.h - SCAN where keys are spread over several masters: one after the other, in the order of their shards' names.
 *
 *      SCAN 0        all masters are asked for their slots (CLUSTER NODES)   -> an empty page, the cursor of the first
 *      SCAN cursor   goes to the master that the cursor names                -> its page
 *      SCAN last     all masters are asked once more                         -> 0, or another round
 *
 * routing/scan.h says why, and what a cursor is made of. A master that cannot be asked is an error; the same cursor
 * goes on when it is back.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_SCAN_H
#define PROXY_SCAN_H

#include "proxy/placement.h"
#include "routing/merge.h"
#include "routing/scan.h"

/* Makes of the client's SCAN what goes to one master, or asks all. */
enum placement scan_place(struct client *client, const struct command_at_hand *at_hand, struct request *traits);

/* A master's page has come: its cursor becomes one of ours. */
void scan_page(struct request *request);

/* All masters have told of their slots, in the order of shards. The whole gets its reply. */
void scan_checked(struct request *whole, const struct merge_piece *pieces, uint32_t count);

#endif
