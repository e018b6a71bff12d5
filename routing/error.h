/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * error.h - every error that a client can get from the proxy itself, one fixed wording per cause.
 *
 * The same words stand in the manual (ERRORS). What plain Redis would say (NOAUTH, arity, protocol errors) is
 * not here: those have Redis' own words. An error that says "not executed" is a promise; one that says
 * "outcome unknown" is as well: the command was sent and nobody can tell whether it took effect.
 */
#ifndef ROUTING_ERROR_H
#define ROUTING_ERROR_H

#include "routing/slice.h"

#define ERROR_TABLE(X)                                                                                         \
    X(NONE, "")                                                                                                \
    X(WRITE_LOST, "connection to master lost after the write was sent; outcome unknown")                       \
    X(WRITE_TIMED_OUT, "no reply from master within proxy.request_timeout after the write was sent; "          \
                       "outcome unknown")                                                                      \
    X(WRITE_ABANDONED, "master changed after the write was sent; outcome unknown")                             \
    X(READ_LOST, "connection lost while reading, retry.attempts used up")                                      \
    X(BUDGET, "connection lost while reading, and not sent again since retry.budget is used up")                \
    X(READ_TIMED_OUT, "no reply within proxy.request_timeout")                                                 \
    X(NO_MASTER, "no master within failover.hold_time; not executed")                                          \
    X(NO_NODE, "no node to read from within failover.hold_time")                                               \
    X(NO_REPLICA, "no replica is fit for reads and reads.policy = replica forbids the master")                 \
    X(NO_REPLICA_HERE, "no replica is fit, and this address is one of replicas; not executed")                 \
    X(HOLD_FULL, "no master, and failover.hold_requests or failover.hold_bytes is used up; not executed")      \
    X(POOL_EMPTY, "no dedicated connection to the master free within pool.wait; "                              \
                  "see pool.dedicated_connections; not executed")                                              \
    X(TRANSACTION_LOST, "no connection to master for this transaction, end it with EXEC or DISCARD; "          \
                        "nothing of it was executed")                                                          \
    X(SESSION_LOST, "connection to master lost while the command was waiting; outcome unknown")                \
    X(WRITES_ELSEWHERE, "master changed after the last write of this client and may lack it")       \
    X(WAIT_REFUSED, "upstream.username may not SPUBLISH to __pointsman:wait, which WAIT needs; not executed")      \
    X(DANGEROUS, "refused by the proxy, since it would end the master or change its role; "                    \
                 "admin.allow_dangerous can let it through")                                                   \
    X(PROXY_FOREIGN, "PROXY commands are for clients on this machine; admin.commands = on lets others send them")    \
    X(PAUSE_UNQUIET, "requests under way were not answered within admin.pause_wait; nothing is paused by this")    \
    X(PAUSE_RESUMED, "PROXY RESUME came before all requests under way were answered; nothing is paused")           \
    X(REPLICATION, "replication through the proxy is refused; admin.allow_dangerous can let it through")       \
    X(KEYS_IN_SLOT, "the servers behind this address are no Redis Cluster and do not know which keys are in a slot") \
    X(SCRIPT_DEBUG, "debugging of scripts through the proxy is not supported")                                 \
    X(CLIENT_UNBLOCK, "the node does not answer CLIENT ID, without which CLIENT UNBLOCK cannot be passed on; " \
                      "not executed")                                                                          \
    X(OVERTAKEN, "the node refused this and carried out what came behind it; not executed")                    \
    X(REPLIES_DIFFER, "nodes answered in ways that cannot be made one reply")                                  \
    X(MERGE, "out of memory for the replies of several nodes; outcome unknown")                                \
    X(WAIT_SEVERAL, "WAIT asked several masters and not all of them have answered; outcome unknown")            \
    X(NOT_SHARDED, "not supported where keys are spread over several masters; not executed")                   \
    X(MEMORY, "out of memory; not executed")                                                                   \
    X(SHUTTING_DOWN, "shutting down; not executed")

enum error {
#define ERROR_ENUM(name, text) ERROR_##name,
    ERROR_TABLE(ERROR_ENUM)
#undef ERROR_ENUM
        ERROR_COUNT,
};

/* The reply as it goes to the client: "-ERR pointsman: ...\r\n". */
struct slice error_reply(enum error error);

#endif
