/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/session.h"

#include <stdlib.h>

enum {
    NAMES_PER_COMMAND = 256,
    TRACKING_MAX_BYTES = 64 * 1024, /* commands kept of one client: each may add prefixes */
};

/* The commands by which each kind is subscribed to. */
static const struct slice subscribe_words[SESSION_KINDS] = {
    [SESSION_CHANNELS] = {"SUBSCRIBE", 9},
    [SESSION_PATTERNS] = {"PSUBSCRIBE", 10},
    [SESSION_SHARD_CHANNELS] = {"SSUBSCRIBE", 10},
};

/* What the first elements of an array are, in a frame that may be a confirmation. */
struct announcement {
    struct slice word, name;
    bool has_count; /* three elements, the last of them a number; name.bytes is NULL where the second is null */
};

static void end_transaction(struct session *session);
static void say(struct session_restoration *restoration, char *out, const struct slice *words, size_t count);
static bool read_announcement(struct slice frame, struct announcement *announcement);
static bool is_confirmation(const struct announcement *announcement, bool *is_undoing);

void session_finish(struct session *session)
{
    for (int kind = 0; kind < SESSION_KINDS; kind++)
        subscriptions_clear(&session->subscriptions[kind]);
    session_tracks_not(session);
    *session = (struct session){0};
}

bool session_tracks(struct session *session, struct slice command)
{
    size_t have = session->tracking_bytes;
    session->is_tracking = true;
    if (have >= command.size && memcmp(session->tracking + have - command.size, command.bytes, command.size) == 0)
        return true; /* the same once more adds nothing */
    char *longer = have + command.size <= TRACKING_MAX_BYTES ? realloc(session->tracking, have + command.size) : NULL;
    if (!longer)
        return false;
    memcpy(longer + have, command.bytes, command.size);
    session->tracking = longer;
    session->tracking_bytes += command.size;
    session->tracking_commands++;
    return true;
}

void session_tracks_not(struct session *session)
{
    free(session->tracking);
    session->tracking = NULL;
    session->tracking_bytes = session->tracking_commands = 0;
    session->is_tracking = session->tracks_by_option = session->tracks_by_prefix = false;
}

void session_sent(struct session *session, enum command_pin pin)
{
    if (session_is_confined(session) && !session->in_multi)
        return; /* the node refuses all but (un)subscribing */
    switch (pin) {
    case PIN_MULTI:
        if (!session->in_multi) {
            session->queued = 0;
            session->queues_write = session->queues_effects = false;
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
    enum session_answer refused = session->is_void ? SESSION_QUEUED : SESSION_ERROR;
    switch (pin) {
    case PIN_MULTI:
        if (session->in_multi)
            return refused;
        session->in_multi = true;
        return SESSION_OK;
    case PIN_EXEC:
        if (!session->in_multi)
            return SESSION_FORWARD;
        end_transaction(session);
        return refused == SESSION_QUEUED ? SESSION_EXEC_VOID : SESSION_EXEC_ABORTED;
    case PIN_DISCARD:
        if (!session->in_multi)
            return SESSION_FORWARD;
        end_transaction(session);
        return SESSION_OK;
    case PIN_UNWATCH:
        if (session->in_multi)
            return refused;
        end_transaction(session);
        return SESSION_OK;
    case PIN_WATCH:
        if (session->in_multi)
            return refused;
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
    return session->in_multi ? refused : SESSION_FORWARD;
}

/* Subscriptions and monitoring have gone on since on another connection. */
static void end_transaction(struct session *session)
{
    session->in_multi = false;
    session->is_watching = false;
    session->is_broken = false;
    session->is_void = false;
    session->queued = 0;
    session->select_count = 0;
}

void session_void(struct session *session)
{
    session->is_broken = session->is_void = session->in_multi || session->is_watching;
}

void session_lost_connection(struct session *session)
{
    session->is_broken = session->in_multi || session->is_watching;
    session->is_lost = session->is_monitoring || session_is_subscribed_here(session) || session->is_tracking;
}

/* Whatever else begins on a connection by a command has its place here. MONITOR comes last, so that it does not tell
 * of the others; unless they would confine the client, which MONITOR must come before. */
struct session_restoration session_restore(const struct session *session, bool has_monitor, char *out)
{
    struct session_restoration restoration = {0};
    bool is_monitor_due = session->is_monitoring && has_monitor;
    bool is_monitor_first = is_monitor_due && session_is_confined(session);
    if (session->tracking_bytes && out)
        memcpy(out, session->tracking, session->tracking_bytes);
    restoration.bytes += session->tracking_bytes;
    restoration.replies += session->tracking_commands;
    if (is_monitor_first)
        say(&restoration, out, &SLICE("MONITOR"), 1);
    for (int kind = 0; kind < SESSION_KINDS; kind++) {
        const struct subscriptions *names = &session->subscriptions[kind];
        const struct subscription *name = subscriptions_next(names, NULL);
        if (kind == SESSION_SHARD_CHANNELS && session->has_shards_apart)
            continue;
        while (name) {
            struct slice words[1 + NAMES_PER_COMMAND] = {subscribe_words[kind]};
            size_t count = 1;
            for (; name && count <= NAMES_PER_COMMAND; name = subscriptions_next(names, name))
                words[count++] = subscription_name(name);
            say(&restoration, out, words, count);
            restoration.replies += (uint32_t)count - 1;
        }
    }
    if (is_monitor_due && !is_monitor_first)
        say(&restoration, out, &SLICE("MONITOR"), 1);
    restoration.replies += is_monitor_due;
    return restoration;
}

static void say(struct session_restoration *restoration, char *out, const struct slice *words, size_t count)
{
    if (out)
        resp_encode(out + restoration->bytes, words, count);
    restoration->bytes += resp_encoded_size(words, count);
}

void session_restored(struct session *session) { session->is_lost = false; }

size_t session_bytes(const struct session *session)
{
    size_t bytes = 0;
    for (int kind = 0; kind < SESSION_KINDS; kind++)
        bytes += session->subscriptions[kind].bytes;
    return bytes + session->tracking_bytes;
}

enum session_frame session_received(struct session *session, struct slice frame, bool head_is_subscription)
{
    struct announcement announcement;
    bool is_undoing;
    if (session->is_monitoring && frame.size > 1 && frame.bytes[0] == '+' && frame.bytes[1] >= '0' &&
        frame.bytes[1] <= '9')
        return SESSION_PUSH; /* "+1700000000.123456 [0 127.0.0.1:1234] ..." */
    bool is_push = frame.bytes[0] == '>';
    if (!read_announcement(frame, &announcement))
        return is_push ? SESSION_PUSH : SESSION_REPLY;
    struct slice word = announcement.word;
    if (slice_is(word, "message") || slice_is(word, "pmessage") || slice_is(word, "smessage"))
        return SESSION_PUSH;
    if (!is_confirmation(&announcement, &is_undoing))
        return is_push ? SESSION_PUSH : SESSION_REPLY; /* [invalidate [key]], or [pong ""] */

    struct subscriptions *names = &session->subscriptions[session_kind_of(word)];
    if (is_undoing && announcement.name.bytes)
        subscriptions_remove(names, announcement.name);
    else if (!is_undoing && !subscriptions_add(names, announcement.name))
        return SESSION_NO_MEMORY;
    return head_is_subscription ? SESSION_CONFIRMATION : SESSION_PUSH;
}

uint32_t session_confirmations(const struct session *session, enum session_channel_kind kind, uint32_t channels)
{
    if (channels > 0)
        return channels;
    uint32_t count = subscriptions_count(&session->subscriptions[kind]);
    return count ? count : 1;
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

/* An array (or push) that begins with a word. */
static bool read_announcement(struct slice frame, struct announcement *announcement)
{
    size_t position = 0;
    struct resp_value value;
    *announcement = (struct announcement){0};
    if (!resp_value_next(frame, &position, &value) || (value.type != '*' && value.type != '>') || value.is_null ||
        value.integer < 2)
        return false;
    int64_t elements = value.integer;
    if (!resp_value_next(frame, &position, &value) || value.type != '$' || value.is_null)
        return false;
    announcement->word = value.text;
    if (elements != 3 || !resp_value_next(frame, &position, &value))
        return true;
    bool is_name = value.type == '$' && !value.is_null;
    announcement->name = is_name ? value.text : (struct slice){0};
    announcement->has_count = (is_name || value.is_null) && resp_value_next(frame, &position, &value) &&
                              value.type == ':' && value.integer >= 0;
    return true;
}

/* [subscribe name count], or its undoing, where the name may be null. */
static bool is_confirmation(const struct announcement *announcement, bool *is_undoing)
{
    struct slice word = announcement->word;
    *is_undoing = slice_is(word, "unsubscribe") || slice_is(word, "punsubscribe") || slice_is(word, "sunsubscribe");
    if (!announcement->has_count)
        return false;
    bool is_doing = slice_is(word, "subscribe") || slice_is(word, "psubscribe") || slice_is(word, "ssubscribe");
    return *is_undoing || (is_doing && announcement->name.bytes);
}
