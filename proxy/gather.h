/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gather.h - what is known to all workers together: CLIENT LIST.
 *
 * Workers share nothing, so one letter goes from worker to worker; each adds a line for each of its clients, and
 * the last one sends it home to the client that asked, which is stalled meanwhile.
 *
 * Owner:   the worker that has the letter. Threads: each worker in its turn.
 */
#ifndef PROXY_GATHER_H
#define PROXY_GATHER_H

#include "proxy/client.h"

/* CLIENT LIST with its options; replies now if they are wrong, else later. As a handler of local.h. */
bool gather_clients(struct client *client, const struct command_at_hand *at_hand);

/* Writes the line that CLIENT INFO and CLIENT LIST have for a client, with its line end. Returns its length,
 * below size. */
size_t gather_describe(const struct client *client, char *line, size_t size);

#endif
