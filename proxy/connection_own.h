/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * connection_own.h - what becomes of requests on a connection that no client waits for.
 *
 * Those whose client has gone, whose replies are dropped; and those of the proxy's own, which stand in the queue in
 * their places among clients' requests: a name, a mark ahead of WAIT, a question (enum request_question), or an inquiry
 * of somebody who wants the reply. connection.h has the functions that queue them, connection.c the queue.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_CONNECTION_OWN_H
#define PROXY_CONNECTION_OWN_H

#include "proxy/connection.h"

/* The reply to a question, complete. */
void connection_own_answered(struct connection *connection, const struct request *request, struct slice reply);

/* Bytes of the reply to any request without a client. */
void connection_own_fragment(struct connection *connection, struct request *request, struct chunk *chunk,
                             const char *bytes, size_t size, bool is_complete);

/* Ends such a request, with what there is of a reply. */
void connection_own_end(struct connection *connection, struct request *request);

#endif
