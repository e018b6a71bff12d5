/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * overdue.h - requests that have no reply by their deadline.
 *
 * Mostly the connection is closed with all that is on it: what is unanswered is never taken for the reply to something
 * else. But where reads and writes have different times, one whose time is over may stand on a shared connection among
 * others whose time is not. Closing would make the outcome of such a write unknown for no reason. So the request alone
 * is answered with an error, something nameless takes its place in the queue and swallows its reply should that come, and
 * the connection gets no new requests:
 *
 *      queue:   [read, overdue] [write] [read]   -->   [nobody's] [write] [read]   retiring
 *
 * Owner:   nobody; it looks at a connection. Threads: the connection's worker only.
 */
#ifndef PROXY_OVERDUE_H
#define PROXY_OVERDUE_H

struct connection;

/* Every 100 ms, for a connection that is READY and has requests; it may be closed by it. */
void overdue_look(struct connection *connection, const char *reason);

#endif
