/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/session.h"

static bool read_confirmation(struct slice frame, struct slice *word, int64_t *count);
static bool count_subscription(struct session *session, struct slice word, int64_t count);
static void end_transaction(struct session *session);

void session_sent(struct session *session, enum command_pin pin)
{
    if (session_is_confined(session) && !session->in_multi)
        return; /* the node refuses all but (un)subscribing */
    switch (pin) {
    case PIN_MULTI:
        if (!session->in_multi) {
            session->queued = 0;
            session->queues_write = false;
            session->select_count = 0;
        }
        session->in_multi = true;
        return;
    case PIN_EXEC:
    case PIN_DISCARD:
        if (session->in_multi)
            session->is_watching = false; /* without MULTI both are errors and change nothing */
        session->in_multi = false;
        return;
    case PIN_WATCH:
        if (!session->in_multi)
            session->is_watching = true;
        return;
    case PIN_UNWATCH:
        if (!session->in_multi)
            session->is_watching = false;
        break;
    case PIN_MONITOR:
        if (!session->in_multi)
            session->is_monitoring = true;
        break;
    case PIN_NONE:
    case PIN_BLOCK:
    case PIN_BLOCK_OPTION:
    case PIN_SUBSCRIBE:
    case PIN_UNSUBSCRIBE:
    case PIN_SYNC:
        break;
    }
    if (session->in_multi)
        session->queued++;
}

/* Of many, the last ones count: those are the likelier to be the last that succeeds. */
void session_queues_select(struct session *session, uint32_t database)
{
    if (session->select_count == SESSION_SELECTS)
        memmove(session->selects, session->selects + 1, --session->select_count * sizeof *session->selects);
    session->selects[session->select_count++] = (struct session_select){database, session->queued};
}

int64_t session_database_after(const struct session *session, struct slice reply)
{
    int64_t database = -1;
    size_t position = 0;
    struct resp_value value;
    if (!resp_value_next(reply, &position, &value) || value.type != '*' || value.is_null)
        return -1;
    uint32_t place = 0;
    for (uint32_t i = 0; i < session->select_count; i++) {
        for (; place < session->selects[i].place; place++) {
            if (!resp_value_skip(reply, &position))
                return database;
        }
        if (!resp_value_next(reply, &position, &value))
            return database;
        if (value.type == '+')
            database = session->selects[i].database;
        place++;
    }
    return database;
}

enum session_answer session_answer_broken(struct session *session, enum command_pin pin)
{
    if (!session->is_broken || session_is_confined(session))
        return SESSION_FORWARD;
    switch (pin) {
    case PIN_MULTI:
        if (session->in_multi)
            return SESSION_ERROR;
        session->in_multi = true;
        return SESSION_OK;
    case PIN_EXEC:
        if (!session->in_multi)
            return SESSION_FORWARD;
        end_transaction(session);
        return SESSION_EXEC_ABORTED;
    case PIN_DISCARD:
        if (!session->in_multi)
            return SESSION_FORWARD;
        end_transaction(session);
        return SESSION_OK;
    case PIN_UNWATCH:
        if (session->in_multi)
            return SESSION_ERROR;
        end_transaction(session);
        return SESSION_OK;
    case PIN_WATCH:
        if (session->in_multi)
            return SESSION_ERROR;
        return SESSION_OK; /* EXEC fails whatever else is watched */
    case PIN_NONE:
    case PIN_BLOCK:
    case PIN_BLOCK_OPTION:
    case PIN_SUBSCRIBE:
    case PIN_UNSUBSCRIBE:
    case PIN_MONITOR:
    case PIN_SYNC:
        break;
    }
    return session->in_multi ? SESSION_ERROR : SESSION_FORWARD;
}

/* Subscriptions and monitoring have gone on since on another connection. */
static void end_transaction(struct session *session)
{
    session->in_multi = false;
    session->is_watching = false;
    session->is_broken = false;
    session->queued = 0;
    session->select_count = 0;
}

void session_lost_connection(struct session *session)
{
    session->is_broken = session->in_multi || session->is_watching;
    session->is_monitoring = false;
    for (int kind = 0; kind < SESSION_KINDS; kind++)
        session->subscriptions[kind] = 0;
}

enum session_frame session_received(struct session *session, struct slice frame, bool head_is_subscription)
{
    struct slice word;
    int64_t count;
    if (session->is_monitoring && frame.size > 1 && frame.bytes[0] == '+' && frame.bytes[1] >= '0' &&
        frame.bytes[1] <= '9')
        return SESSION_PUSH; /* "+1700000000.123456 [0 127.0.0.1:1234] ..." */
    bool is_push = frame.bytes[0] == '>';
    if (!read_confirmation(frame, &word, &count))
        return is_push ? SESSION_PUSH : SESSION_REPLY;
    if (slice_is(word, "message") || slice_is(word, "pmessage") || slice_is(word, "smessage"))
        return SESSION_PUSH;
    if (count < 0 || !count_subscription(session, word, count))
        return is_push ? SESSION_PUSH : SESSION_REPLY; /* [invalidate [key]], or [pong ""] */
    return head_is_subscription ? SESSION_CONFIRMATION : SESSION_PUSH;
}

uint32_t session_confirmations(const struct session *session, enum session_channel_kind kind, uint32_t channels)
{
    if (channels > 0)
        return channels;
    return session->subscriptions[kind] ? session->subscriptions[kind] : 1;
}

enum session_channel_kind session_kind_of(struct slice command_name)
{
    switch (command_name.size ? command_name.bytes[0] | 0x20 : 0) {
    case 'p':
        return SESSION_PATTERNS;
    case 's': /* SUBSCRIBE or SSUBSCRIBE, SUNSUBSCRIBE */
        return slice_is(command_name, "SUBSCRIBE") ? SESSION_CHANNELS : SESSION_SHARD_CHANNELS;
    default:
        return SESSION_CHANNELS;
    }
}

/* An array (or push) that begins with a word; count is its third element if that is an integer, else -1. */
static bool read_confirmation(struct slice frame, struct slice *word, int64_t *count)
{
    size_t position = 0;
    struct resp_value value;
    *count = -1;
    if (!resp_value_next(frame, &position, &value) || (value.type != '*' && value.type != '>') || value.is_null ||
        value.integer < 2)
        return false;
    int64_t elements = value.integer;
    if (!resp_value_next(frame, &position, &value) || value.type != '$' || value.is_null)
        return false;
    *word = value.text;
    if (elements == 3 && resp_value_skip(frame, &position) && resp_value_next(frame, &position, &value) &&
        value.type == ':')
        *count = value.integer;
    return true;
}

/* The count is that of channels and patterns together, or of shard channels alone: the difference to the last
 * one tells whether this confirmation changed anything. False if the word is none of a confirmation. */
static bool count_subscription(struct session *session, struct slice word, int64_t count)
{
    bool is_undoing = slice_is(word, "unsubscribe") || slice_is(word, "punsubscribe") || slice_is(word, "sunsubscribe");
    if (!is_undoing && !slice_is(word, "subscribe") && !slice_is(word, "psubscribe") && !slice_is(word, "ssubscribe"))
        return false;
    enum session_channel_kind kind = session_kind_of(word);
    if (kind == SESSION_SHARD_CHANNELS) {
        session->subscriptions[kind] = (uint32_t)count;
        return true;
    }
    enum session_channel_kind other = kind == SESSION_CHANNELS ? SESSION_PATTERNS : SESSION_CHANNELS;
    uint32_t others = session->subscriptions[other];
    session->subscriptions[kind] = count >= others ? (uint32_t)count - others : 0;
    return true;
}
