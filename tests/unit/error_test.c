/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The words are documented: applications match them. A change here is a change of the manual.
 */
#include "routing/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

enum promise {
    PROMISES_NOTHING, /* a read, or what can never be executed: it need not be said */
    PROMISES_NOT_EXECUTED,
    PROMISES_UNKNOWN,
};

static const struct {
    enum error error;
    enum promise promise;
    const char *reply;
} wordings[] = {
    {ERROR_WRITE_LOST, PROMISES_UNKNOWN,
     "-ERR pointsman: connection to master lost after the write was sent; outcome unknown\r\n"},
    {ERROR_WRITE_TIMED_OUT, PROMISES_UNKNOWN,
     "-ERR pointsman: no reply from master within proxy.request_timeout after the write was sent; "
     "outcome unknown\r\n"},
    {ERROR_WRITE_ABANDONED, PROMISES_UNKNOWN,
     "-ERR pointsman: master changed after the write was sent; outcome unknown\r\n"},
    {ERROR_READ_LOST, PROMISES_NOTHING,
     "-ERR pointsman: connection lost while reading, retry.attempts used up\r\n"},
    {ERROR_BUDGET, PROMISES_NOTHING,
     "-ERR pointsman: connection lost while reading, and not sent again since retry.budget is used up\r\n"},
    {ERROR_READ_TIMED_OUT, PROMISES_NOTHING, "-ERR pointsman: no reply within proxy.request_timeout\r\n"},
    {ERROR_NO_MASTER, PROMISES_NOT_EXECUTED,
     "-ERR pointsman: no master within failover.hold_time; not executed\r\n"},
    {ERROR_NO_NODE, PROMISES_NOTHING, "-ERR pointsman: no node to read from within failover.hold_time\r\n"},
    {ERROR_NO_REPLICA, PROMISES_NOTHING,
     "-ERR pointsman: no replica is fit for reads and reads.policy = replica forbids the master\r\n"},
    {ERROR_NO_REPLICA_HERE, PROMISES_NOT_EXECUTED,
     "-ERR pointsman: no replica is fit, and this address is one of replicas; not executed\r\n"},
    {ERROR_HOLD_FULL, PROMISES_NOT_EXECUTED,
     "-ERR pointsman: no master, and failover.hold_requests or failover.hold_bytes is used up; "
     "not executed\r\n"},
    {ERROR_POOL_EMPTY, PROMISES_NOT_EXECUTED,
     "-ERR pointsman: no dedicated connection to the master free within pool.wait; "
     "see pool.dedicated_connections; not executed\r\n"},
    {ERROR_TRANSACTION_LOST, PROMISES_NOT_EXECUTED,
     "-ERR pointsman: no connection to master for this transaction, end it with EXEC or DISCARD; nothing of it was executed\r\n"},
    {ERROR_SESSION_LOST, PROMISES_UNKNOWN,
     "-ERR pointsman: connection to master lost while the command was waiting; outcome unknown\r\n"},
    {ERROR_WRITES_ELSEWHERE, PROMISES_NOTHING,
     "-ERR pointsman: master changed after the last write of this client and may lack it\r\n"},
    {ERROR_WAIT_REFUSED, PROMISES_NOT_EXECUTED,
     "-ERR pointsman: upstream.username may not SPUBLISH to __pointsman:wait, which WAIT needs; "
     "not executed\r\n"},
    {ERROR_DANGEROUS, PROMISES_NOTHING,
     "-ERR pointsman: refused by the proxy, since it would end the master or change its role; "
     "admin.allow_dangerous can let it through\r\n"},
    {ERROR_REPLICATION, PROMISES_NOTHING,
     "-ERR pointsman: replication through the proxy is refused; admin.allow_dangerous can let it through\r\n"},
    {ERROR_PROXY_FOREIGN, PROMISES_NOTHING,
     "-ERR pointsman: PROXY commands are for clients on this machine; admin.commands = on lets others send them\r\n"},
    {ERROR_PAUSE_UNQUIET, PROMISES_NOTHING,
     "-ERR pointsman: requests under way were not answered within admin.pause_wait; nothing is paused by this\r\n"},
    {ERROR_PAUSE_RESUMED, PROMISES_NOTHING,
     "-ERR pointsman: PROXY RESUME came before all requests under way were answered; nothing is paused\r\n"},
    {ERROR_KEYS_IN_SLOT, PROMISES_NOTHING,
     "-ERR pointsman: the servers behind this address are no Redis Cluster and do not know which keys are in a slot\r\n"},
    {ERROR_SCRIPT_DEBUG, PROMISES_NOTHING,
     "-ERR pointsman: debugging of scripts through the proxy is not supported\r\n"},
    {ERROR_CLIENT_UNBLOCK, PROMISES_NOT_EXECUTED,
     "-ERR pointsman: the node does not answer CLIENT ID, without which CLIENT UNBLOCK cannot be passed on; "
     "not executed\r\n"},
    {ERROR_REPLIES_DIFFER, PROMISES_NOTHING,
     "-ERR pointsman: nodes answered in ways that cannot be made one reply\r\n"},
    {ERROR_MERGE, PROMISES_UNKNOWN,
     "-ERR pointsman: out of memory for the replies of several nodes; outcome unknown\r\n"},
    {ERROR_OVERTAKEN, PROMISES_NOT_EXECUTED,
     "-ERR pointsman: the node refused this and carried out what came behind it; not executed\r\n"},
    {ERROR_WAIT_SEVERAL, PROMISES_UNKNOWN,
     "-ERR pointsman: WAIT asked several masters and not all of them have answered; outcome unknown\r\n"},
    {ERROR_NOT_SHARDED, PROMISES_NOT_EXECUTED,
     "-ERR pointsman: not supported where keys are spread over several masters; not executed\r\n"},
    {ERROR_MEMORY, PROMISES_NOT_EXECUTED, "-ERR pointsman: out of memory; not executed\r\n"},
    {ERROR_SHUTTING_DOWN, PROMISES_NOT_EXECUTED, "-ERR pointsman: shutting down; not executed\r\n"},
};

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

static bool contains(struct slice text, const char *words)
{
    return memmem(text.bytes, text.size, words, strlen(words)) != NULL;
}

static void every_error_has_its_documented_words(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(wordings); i++) {
        struct slice reply = error_reply(wordings[i].error);
        assert_int_equal(reply.size, strlen(wordings[i].reply));
        assert_memory_equal(reply.bytes, wordings[i].reply, reply.size);
    }
}

static void every_error_is_listed_here_once(void **unused)
{
    (void)unused;
    unsigned listed[ERROR_COUNT] = {0};
    for (size_t i = 0; i < COUNT_OF(wordings); i++)
        listed[wordings[i].error]++;
    assert_int_equal(listed[ERROR_NONE], 0);
    for (int error = ERROR_NONE + 1; error < ERROR_COUNT; error++)
        assert_int_equal(listed[error], 1);
}

static void every_error_is_one_line_of_resp(void **unused)
{
    (void)unused;
    for (int error = ERROR_NONE + 1; error < ERROR_COUNT; error++) {
        struct slice reply = error_reply((enum error)error);
        assert_true(slice_starts_with(reply, SLICE("-ERR pointsman: ")));
        assert_true(reply.size > sizeof("-ERR pointsman: \r\n") - 1);
        assert_memory_equal(reply.bytes + reply.size - 2, "\r\n", 2);
        assert_null(memchr(reply.bytes, '\r', reply.size - 2));
        assert_null(memchr(reply.bytes, '\n', reply.size - 2));
        assert_null(memchr(reply.bytes, '\0', reply.size));
    }
}

static void no_two_errors_have_the_same_words(void **unused)
{
    (void)unused;
    for (int a = ERROR_NONE + 1; a < ERROR_COUNT; a++) {
        for (int b = a + 1; b < ERROR_COUNT; b++)
            assert_false(slice_equals(error_reply((enum error)a), error_reply((enum error)b)));
    }
}

static void every_error_says_what_it_promises_and_nothing_else(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(wordings); i++) {
        struct slice reply = error_reply(wordings[i].error);
        bool is_denied =
            contains(reply, "; not executed\r\n") || contains(reply, "; nothing of it was executed\r\n");
        bool is_unknown = contains(reply, "; outcome unknown\r\n");
        assert_int_equal(is_denied, wordings[i].promise == PROMISES_NOT_EXECUTED);
        assert_int_equal(is_unknown, wordings[i].promise == PROMISES_UNKNOWN);
        assert_int_equal(contains(reply, "executed"), is_denied);
        assert_int_equal(contains(reply, "unknown"), is_unknown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_its_documented_words),
        cmocka_unit_test(every_error_is_listed_here_once),
        cmocka_unit_test(every_error_is_one_line_of_resp),
        cmocka_unit_test(no_two_errors_have_the_same_words),
        cmocka_unit_test(every_error_says_what_it_promises_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
