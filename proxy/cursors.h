/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cursors.h - what SCAN, SSCAN, HSCAN and ZSCAN need besides being sent: cursors that know their run.
 *
 * A connection leads to one process of a server, so the run_id is asked on the connection itself (INFO
 * server), once, before the first scan on it. A request whose cursor carries a mark is not written before the
 * answer has come; its cursor is then put in place, or 0 if it belongs to another run. What is sent to
 * another connection later is looked at again there. Replies get the mark of the connection they came from.
 * See routing/cursor.h.
 *
 * Inside MULTI cursors are passed as they are: EXEC's reply is not looked into.
 *
 * Threads: one worker only.
 */
#ifndef PROXY_CURSORS_H
#define PROXY_CURSORS_H

#include "proxy/connection.h"

/* The request is about to be appended to the connection's queue. */
void cursors_prepare(struct connection *connection, struct request *request);

/* The node has told its run_id, or an error. */
void cursors_told(struct connection *connection, struct slice reply);

/* The cursor at the head of a complete reply, and the bytes that head takes; 0 if it is something else. */
size_t cursors_read_reply(const struct request *request, uint64_t *cursor);

/* Another cursor in place of that head. The client is closed if memory is short. */
void cursors_write_reply(struct request *request, size_t head, uint64_t cursor);

/* Marks the cursor at the head of its complete reply. The request has a client. */
void cursors_mark_reply(struct request *request);

#endif
