/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * local_client.h - what subcommands of CLIENT have in common, and the short ones of them.
 *
 * The large ones have rooms of their own: census.h (LIST, KILL), unblock.h, pause.h.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_LOCAL_CLIENT_H
#define PROXY_LOCAL_CLIENT_H

#include "proxy/client.h"

/* Handlers as local.h has them. */
bool local_client_getredir(struct client *client, const struct command_at_hand *at_hand);
bool local_client_trackinginfo(struct client *client, const struct command_at_hand *at_hand);

/* The error for too many words behind a subcommand. Returns true, as a handler. */
bool local_client_bad_count(struct client *client, const struct command_at_hand *at_hand);

#endif
