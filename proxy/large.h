/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * large.h - notes who asks for much, and what brings it, so that it goes over a lane of its own from then on (routing/lane.h).
 *
 * Owner:   the marks are the worker's, the habit is the client's.
 * Threads: one worker only.
 */
#ifndef PROXY_LARGE_H
#define PROXY_LARGE_H

struct client;
struct request;

/* So much of a request's reply has come that it is large, and more is to come. The request has a client and is on a connection. */
void large_note_reply(const struct request *request);

/* More has come from the client than is read of it at once, perhaps. */
void large_note_flood(struct client *client);

#endif
