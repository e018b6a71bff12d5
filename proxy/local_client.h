/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * local_client.h - what subcommands of CLIENT have in common.
 *
 * They have rooms of their own: census.h (LIST, KILL), unblock.h, pause.h, tracking.h; the short ones are in local.c.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_LOCAL_CLIENT_H
#define PROXY_LOCAL_CLIENT_H

#include "proxy/client.h"

/* The error for too many words behind a subcommand. Returns true, as a handler. */
bool local_client_bad_count(struct client *client, const struct command_at_hand *at_hand);

#endif
