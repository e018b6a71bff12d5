/* SPDX-License-Identifier: BSD-2-Clause */
/* hiredis as programs in C use it: hiredis_client PORT. Status 0 if all was as expected, else what was not. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIPELINED = 20000, LARGE = 3000000 };

#define EXPECT(claim)                                                                                          \
    do {                                                                                                       \
        if (!(claim)) {                                                                                        \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #claim);                                        \
            exit(1);                                                                                           \
        }                                                                                                      \
    } while (0)

static void check(redisReply *reply, int type, const char *text, long long integer)
{
    EXPECT(reply);
    EXPECT(reply->type == type);
    if (text)
        EXPECT(strcmp(reply->str, text) == 0);
    else if (type == REDIS_REPLY_INTEGER)
        EXPECT(reply->integer == integer);
    freeReplyObject(reply);
}

static redisReply *next(redisContext *context)
{
    void *reply = NULL;
    EXPECT(redisGetReply(context, &reply) == REDIS_OK);
    return reply;
}

static void one_by_one(redisContext *context)
{
    check(redisCommand(context, "DEL hiredis hiredis:list"), REDIS_REPLY_INTEGER, NULL, 0);
    check(redisCommand(context, "SET hiredis %b", "a\0b", (size_t)3), REDIS_REPLY_STATUS, "OK", 0);
    redisReply *reply = redisCommand(context, "GET hiredis");
    EXPECT(reply && reply->len == 3 && memcmp(reply->str, "a\0b", 3) == 0);
    freeReplyObject(reply);
    check(redisCommand(context, "GET hiredis:none"), REDIS_REPLY_NIL, NULL, 0);
    check(redisCommand(context, "NOSUCH"), REDIS_REPLY_ERROR, "ERR unknown command 'NOSUCH', with args beginning with: ", 0);
    check(redisCommand(context, "LPUSH hiredis:list 1 2"), REDIS_REPLY_INTEGER, NULL, 2);
    reply = redisCommand(context, "LRANGE hiredis:list 0 -1");
    EXPECT(reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && strcmp(reply->element[1]->str, "1") == 0);
    freeReplyObject(reply);
    check(redisCommand(context, "BLPOP hiredis:none 0.01"), REDIS_REPLY_NIL, NULL, 0);
}

static void pipelined(redisContext *context)
{
    for (int i = 0; i < PIPELINED; i++)
        EXPECT(redisAppendCommand(context, "INCR hiredis:n") == REDIS_OK);
    EXPECT(redisAppendCommand(context, "LPUSH hiredis:n x") == REDIS_OK);
    EXPECT(redisAppendCommand(context, "DEL hiredis:n") == REDIS_OK);
    for (int i = 0; i < PIPELINED; i++)
        check(next(context), REDIS_REPLY_INTEGER, NULL, i + 1);
    check(next(context), REDIS_REPLY_ERROR, "WRONGTYPE Operation against a key holding the wrong kind of value", 0);
    check(next(context), REDIS_REPLY_INTEGER, NULL, 1);
}

static void in_a_transaction(redisContext *context)
{
    check(redisCommand(context, "MULTI"), REDIS_REPLY_STATUS, "OK", 0);
    check(redisCommand(context, "INCR hiredis:n"), REDIS_REPLY_STATUS, "QUEUED", 0);
    check(redisCommand(context, "DEL hiredis:n"), REDIS_REPLY_STATUS, "QUEUED", 0);
    redisReply *reply = redisCommand(context, "EXEC");
    EXPECT(reply && reply->elements == 2 && reply->element[0]->integer == 1 && reply->element[1]->integer == 1);
    freeReplyObject(reply);
}

static void with_large_values(redisContext *context)
{
    char *large = malloc(LARGE);
    EXPECT(large);
    memset(large, 'x', LARGE);
    check(redisCommand(context, "SET hiredis %b", large, (size_t)LARGE), REDIS_REPLY_STATUS, "OK", 0);
    redisReply *reply = redisCommand(context, "GET hiredis");
    EXPECT(reply && reply->len == LARGE && memcmp(reply->str, large, LARGE) == 0);
    freeReplyObject(reply);
    free(large);
}

static void with_subscriptions(redisContext *context, redisContext *other)
{
    check(redisCommand(context, "SUBSCRIBE hiredis:news"), REDIS_REPLY_ARRAY, NULL, 0);
    check(redisCommand(other, "PUBLISH hiredis:news hello"), REDIS_REPLY_INTEGER, NULL, 1);
    redisReply *reply = next(context);
    EXPECT(reply && reply->elements == 3 && strcmp(reply->element[2]->str, "hello") == 0);
    freeReplyObject(reply);
    check(redisCommand(context, "UNSUBSCRIBE"), REDIS_REPLY_ARRAY, NULL, 0);
    check(redisCommand(context, "PING"), REDIS_REPLY_STATUS, "PONG", 0);
}

int main(int count, char **arguments)
{
    int port = count == 2 ? (int)strtol(arguments[1], NULL, 10) : 0;
    redisContext *context = redisConnect("127.0.0.1", port), *other = redisConnect("127.0.0.1", port);
    EXPECT(context && !context->err && other && !other->err);
    struct timeval limit = {20, 0};
    EXPECT(redisSetTimeout(context, limit) == REDIS_OK && redisSetTimeout(other, limit) == REDIS_OK);
    one_by_one(context);
    pipelined(context);
    in_a_transaction(context);
    with_large_values(context);
    with_subscriptions(context, other);
    EXPECT(redisReconnect(context) == REDIS_OK);
    check(redisCommand(context, "PING"), REDIS_REPLY_STATUS, "PONG", 0);
    redisFree(context);
    redisFree(other);
    return 0;
}
