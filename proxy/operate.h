/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * operate.h - PROXY PAUSE, RESUME, SWITCHOVER: what those who look after the nodes ask of the proxy itself.
 *
 * PAUSE begins a pause of pause.h, and is answered when all requests that it concerns are answered (quiet.h): from then
 * on nothing of this proxy's clients is at a node, or comes there. If that takes too long, it is as before and an error
 * says so. RESUME ends the pause.
 *
 * SWITCHOVER is an order for the control thread (switchover.h), in a letter of gather.h that goes there first, once round all
 * workers when writes are held, and home when all is done. Its client waits meanwhile, and may go.
 *
 * Redis has no such command, so COMMAND does not tell of it, and admin.commands says who may send it.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_OPERATE_H
#define PROXY_OPERATE_H

#include "proxy/client.h"

/* PROXY, whatever comes behind it. A handler of local.h. */
bool operate_answer(struct client *client, const struct command_at_hand *at_hand);

#endif
