/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * placement.h - where a client's command goes when there are several shards.
 *
 * Commands go to the shard of their keys, in pieces to several, or to all masters (routing/plan.h). What has a state
 * stays in one place: a transaction and watched keys are bound to the place of their first key.
 *
 *      MULTI             +OK from us: nobody knows yet where it will be
 *      PING, PUBLISH ... +QUEUED from us, kept
 *      SET key ...       bound: MULTI, what was kept and this go to the key's master, on a connection of the client's own
 *      GET other-slot    CROSSSLOT, and the node is told, so that EXEC fails
 *      EXEC              to that master; to any if no key was named
 *
 * Should the slot be elsewhere by then, the transaction begins again there (transaction.h).
 *
 * Owner:   what is kept is the client's transaction (transaction.h).
 * Threads: one worker only.
 */
#ifndef PROXY_PLACEMENT_H
#define PROXY_PLACEMENT_H

#include "proxy/client.h"

enum placement {
    PLACEMENT_GOES,    /* on its usual way, with the place that is in its traits now */
    PLACEMENT_TAKEN,   /* answered, or sent in pieces */
    PLACEMENT_CROSSED, /* to be refused inside its transaction */
    PLACEMENT_STALLED,
};

/* Only where upstream->is_sharded. May change what traits say of a connection of its own. */
enum placement placement_of(struct client *client, const struct command_at_hand *at_hand, struct request *traits);

/* The same for a command and a client about which nothing is special (handler.c): where it names one key, that is all there is
 * to know. */
enum placement placement_of_plain(struct client *client, const struct command_at_hand *at_hand, struct request *traits);

/* Something is refused in a transaction of which no node has heard yet (client->defers_multi): the client is told, and EXEC fails. */
enum placement placement_refuse(struct client *client, enum request_inspection inspection, enum command_pin pin);

/* For what goes on a connection of its own beside the command at hand: the place that the client is bound to. */
void placement_bind(const struct client *client, struct request *traits);

/* The transaction ends, or its client. */
void placement_forget(struct client *client);

#endif
