/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The drawing of session.h, arrow by arrow, and what is no arrow. Frames are the bytes of a
 * redis-server 7.0.15.
 */
#include "routing/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

enum { PINS = PIN_SYNC + 1 };

static const char *const pin_names[PINS] = {
    [PIN_NONE] = "GET",
    [PIN_MULTI] = "MULTI",
    [PIN_EXEC] = "EXEC",
    [PIN_DISCARD] = "DISCARD",
    [PIN_WATCH] = "WATCH",
    [PIN_UNWATCH] = "UNWATCH",
    [PIN_BLOCK] = "BLPOP",
    [PIN_BLOCK_OPTION] = "XREAD",
    [PIN_SUBSCRIBE] = "SUBSCRIBE",
    [PIN_UNSUBSCRIBE] = "UNSUBSCRIBE",
    [PIN_MONITOR] = "MONITOR",
    [PIN_SYNC] = "SYNC",
};

static enum command_pin pin_of(const char *word, size_t size)
{
    for (int pin = 0; pin < PINS; pin++) {
        if (slice_is((struct slice){word, size}, pin_names[pin])) return (enum command_pin)pin;
    }
    fail_msg("no such command: %s", word);
    return PIN_NONE;
}

/* Words for a state: "shared", "multi:2 watching", "broken watching", "monitoring", "subscribed:2/1/0". */
static const char *state_of(const struct session *session)
{
    static char text[120];
    size_t size = 0;
    uint32_t counts[SESSION_KINDS];
    for (int kind = 0; kind < SESSION_KINDS; kind++)
        counts[kind] = subscriptions_count(&session->subscriptions[kind]);
    text[0] = '\0';
#define SAY(...) size += (size_t)snprintf(text + size, sizeof text - size, __VA_ARGS__)
    if (session->is_lost) SAY(" lost");
    if (session->is_broken) SAY(session->is_void ? " void" : " broken");
    if (session->in_multi) SAY(" multi:%u", session->queued);
    if (session->is_watching) SAY(" watching");
    if (session->is_monitoring) SAY(" monitoring");
    if (counts[0] || counts[1] || counts[2]) SAY(" subscribed:%u/%u/%u", counts[0], counts[1], counts[2]);
#undef SAY
    return size ? text + 1 : "shared";
}

/* Subscribes to so many names of each kind: "a", "b" ..., "x*", "y*" ... and "s", "t" .... */
static void subscribe(struct session *session, const uint32_t counts[SESSION_KINDS])
{
    static const char firsts[SESSION_KINDS] = {'a', 'x', 's'};
    for (int kind = 0; kind < SESSION_KINDS; kind++) {
        subscriptions_clear(&session->subscriptions[kind]);
        for (uint32_t i = 0; i < counts[kind]; i++) {
            char name[] = {(char)(firsts[kind] + (char)i), '*'};
            struct slice whole = {name, kind == SESSION_PATTERNS ? 2 : 1};
            assert_true(subscriptions_add(&session->subscriptions[kind], whole));
        }
    }
}

/* A session that has been given these words: commands, "lost" for the end of its connection, "restored", "void", and
 * ":a/b/c" for confirmations that leave that many subscriptions of each kind. Broken ones answer first, as the
 * proxy does. To be finished. */
static struct session session_after(const char *words)
{
    struct session session = {0};
    while (*words) {
        size_t size = strcspn(words, " ");
        uint32_t counts[SESSION_KINDS];
        if (sscanf(words, ":%u/%u/%u", &counts[0], &counts[1], &counts[2]) == 3)
            subscribe(&session, counts);
        else if (slice_is((struct slice){words, size}, "restored"))
            session_restored(&session);
        else if (slice_is((struct slice){words, size}, "lost"))
            session_lost_connection(&session);
        else if (slice_is((struct slice){words, size}, "void"))
            session_void(&session);
        else if (session_answer_broken(&session, pin_of(words, size)) == SESSION_FORWARD)
            session_sent(&session, pin_of(words, size));
        words += size + strspn(words + size, " ");
    }
    return session;
}

struct steps {
    const char *given, *expected;
};

static void expect_states(const struct steps *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct session session = session_after(samples[i].given);
        if (strcmp(state_of(&session), samples[i].expected) != 0) print_error("after %s\n", samples[i].given);
        assert_string_equal(state_of(&session), samples[i].expected);
        session_finish(&session);
    }
}

/* ---- commands ---- */

static void commands_draw_the_arrows_of_the_drawing(void **unused)
{
    (void)unused;
    static const struct steps samples[] = {
        {"", "shared"},
        {"MULTI", "multi:0"},
        {"MULTI EXEC", "shared"},
        {"MULTI DISCARD", "shared"},
        {"MULTI GET GET EXEC", "shared"},
        {"WATCH", "watching"},
        {"WATCH WATCH", "watching"},
        {"WATCH UNWATCH", "shared"},
        {"WATCH GET GET", "watching"},
        {"WATCH MULTI", "multi:0 watching"},
        {"WATCH MULTI GET EXEC", "shared"},
        {"WATCH MULTI DISCARD", "shared"},
        {"MONITOR", "monitoring"},
        {"MONITOR GET UNSUBSCRIBE", "monitoring"},
    };
    expect_states(samples, COUNT_OF(samples));
}

static void what_redis_refuses_or_queues_is_no_arrow(void **unused)
{
    (void)unused;
    static const struct steps samples[] = {
        {"EXEC", "shared"},
        {"DISCARD", "shared"},
        {"UNWATCH", "shared"},
        {"WATCH EXEC", "watching"},    /* ERR EXEC without MULTI: the keys stay watched */
        {"WATCH DISCARD", "watching"}, /* ERR DISCARD without MULTI: as well */
        {"MULTI MULTI", "multi:0"},    /* ERR MULTI calls can not be nested */
        {"MULTI GET MULTI", "multi:1"},
        {"MULTI MULTI EXEC", "shared"},
        {"MULTI WATCH", "multi:0"}, /* ERR WATCH inside MULTI is not allowed */
        {"MULTI WATCH EXEC", "shared"},
        {"WATCH MULTI WATCH", "multi:0 watching"},
        {"MULTI UNWATCH", "multi:1"}, /* +QUEUED */
        {"WATCH MULTI UNWATCH", "multi:1 watching"},
        {"MULTI MONITOR", "multi:1"}, /* +QUEUED; EXEC says that it is not allowed */
        {"MULTI MONITOR EXEC", "shared"},
        {"GET", "shared"},
        {"BLPOP", "shared"},
        {"XREAD", "shared"},
        {"SYNC", "shared"},
        {"SUBSCRIBE", "shared"}, /* only its confirmation counts */
        {"UNSUBSCRIBE", "shared"},
    };
    expect_states(samples, COUNT_OF(samples));
}

static void commands_queued_by_multi_are_counted_anew_each_time(void **unused)
{
    (void)unused;
    static const struct steps samples[] = {
        {"MULTI GET", "multi:1"},
        {"MULTI GET BLPOP XREAD SUBSCRIBE UNSUBSCRIBE", "multi:5"},
        {"MULTI GET GET EXEC MULTI", "multi:0"},
        {"MULTI GET GET DISCARD MULTI GET", "multi:1"},
    };
    expect_states(samples, COUNT_OF(samples));
}

/* "Can't execute 'multi': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed" */
static void nothing_begins_while_subscribed(void **unused)
{
    (void)unused;
    static const struct steps samples[] = {
        {":1/0/0 MULTI", "subscribed:1/0/0"},
        {":0/1/0 WATCH", "subscribed:0/1/0"},
        {":0/0/1 MONITOR", "subscribed:0/0/1"},
        {"WATCH :1/0/0 UNWATCH", "watching subscribed:1/0/0"},
        {"WATCH :1/0/0 MULTI EXEC", "watching subscribed:1/0/0"},
        {"WATCH :1/0/0 DISCARD :0/0/0", "watching"},
        {"MONITOR :1/0/0 MULTI GET", "monitoring subscribed:1/0/0"},
    };
    expect_states(samples, COUNT_OF(samples));
}

static void database_asked_for_inside_multi_is_forgotten_by_the_next_one(void **unused)
{
    (void)unused;
    struct session session = session_after("MULTI");
    struct slice reply = SLICE("*1\r\n+OK\r\n");
    assert_int_equal(session_database_after(&session, reply), -1);
    session_queues_select(&session, 3);
    session.queues_write = session.queues_effects = true;
    session_sent(&session, PIN_NONE);
    session_sent(&session, PIN_MULTI); /* nested: an error, nothing begins */
    assert_int_equal(session_database_after(&session, reply), 3);
    assert_true(session.queues_write);
    session_sent(&session, PIN_EXEC);
    session_sent(&session, PIN_MULTI);
    assert_int_equal(session_database_after(&session, reply), -1);
    assert_false(session.queues_write || session.queues_effects);
}

static void transaction_leaves_the_database_of_its_last_select_that_succeeded(void **unused)
{
    (void)unused;
    static const struct {
        const char *databases; /* one digit for a SELECT, a dot for another command */
        const char *reply;
        int64_t after;
    } samples[] = {
        {".3.", "*3\r\n*1\r\n:1\r\n+OK\r\n$-1\r\n", 3},
        {"3.9", "*3\r\n+OK\r\n*2\r\n+OK\r\n+OK\r\n-ERR DB index is out of range\r\n", 3},
        {"9", "*1\r\n-ERR DB index is out of range\r\n", -1},
        {"1", "*-1\r\n", -1},
        {"1", "_\r\n", -1},
        {"1", "-EXECABORT Transaction discarded because of previous errors.\r\n", -1},
        {"12", "*2\r\n+OK\r\n", 1}, /* a SELECT that was refused before it was queued */
        {"123456789",
         "*9\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n-ERR DB index is out of range\r\n"
         "-ERR DB index is out of range\r\n",
         7},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct session session = {0};
        session_sent(&session, PIN_MULTI);
        for (const char *database = samples[i].databases; *database; database++) {
            if (*database != '.')
                session_queues_select(&session, (uint32_t)(*database - '0'));
            session_sent(&session, PIN_NONE);
        }
        assert_int_equal(session_database_after(&session, slice_of(samples[i].reply)), samples[i].after);
    }
}

static void every_state_tells_what_it_needs(void **unused)
{
    (void)unused;
    static const struct {
        const char *given;
        bool is_pinned, is_pushed_to, forwards_all, is_subscribed;
    } samples[] = {
        {"", false, false, false, false},         {"MULTI", true, false, true, false},
        {"WATCH", true, false, false, false},     {"MONITOR", true, true, false, false},
        {":1/0/0", true, true, true, true},       {":0/1/0", true, true, true, true},
        {":0/0/1", true, true, true, true},       {"WATCH lost", true, false, false, false},
        {"MULTI lost", true, false, true, false},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct session session = session_after(samples[i].given);
        assert_int_equal(session_is_pinned(&session), samples[i].is_pinned);
        assert_int_equal(session_is_pushed_to(&session), samples[i].is_pushed_to);
        assert_int_equal(session_forwards_all(&session), samples[i].forwards_all);
        assert_int_equal(session_is_subscribed(&session), samples[i].is_subscribed);
        session_finish(&session);
    }
}

/* ---- broken ---- */

static void a_lost_connection_breaks_what_had_begun_on_it(void **unused)
{
    (void)unused;
    static const struct steps samples[] = {
        {"lost", "shared"},
        {"MULTI GET lost", "broken multi:1"},
        {"WATCH lost", "broken watching"},
        {"WATCH MULTI lost", "broken multi:0 watching"},
        {"MULTI lost lost", "broken multi:0"},
        {"MULTI EXEC lost", "shared"},
        {"WATCH UNWATCH lost", "shared"},
        {"MONITOR lost", "lost monitoring"},
        {":2/1/4 lost", "lost subscribed:2/1/4"},
        {"WATCH :1/0/0 lost", "lost broken watching subscribed:1/0/0"},
        {"WATCH MONITOR lost", "lost broken watching monitoring"},
        {":1/0/0 lost restored", "subscribed:1/0/0"},
        {":1/0/0 lost lost", "lost subscribed:1/0/0"},
        {"WATCH :1/0/0 lost restored", "broken watching subscribed:1/0/0"},
        {"MONITOR lost restored lost", "lost monitoring"},
    };
    expect_states(samples, COUNT_OF(samples));
}

static const struct broken_sample {
    const char *given, *command;
    enum session_answer answer;
    const char *expected;
} broken_samples[] = {
    /* not broken: nothing is answered here, whatever it is */
    {"", "MULTI", SESSION_FORWARD, "shared"},
    {"MULTI", "EXEC", SESSION_FORWARD, "multi:0"},
    {"WATCH", "UNWATCH", SESSION_FORWARD, "watching"},
    /* broken in a transaction: all is refused until its end */
    {"MULTI lost", "GET", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "MULTI", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "WATCH", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "UNWATCH", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "BLPOP", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "XREAD", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "SUBSCRIBE", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "UNSUBSCRIBE", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "MONITOR", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "SYNC", SESSION_ERROR, "broken multi:0"},
    {"MULTI lost", "EXEC", SESSION_EXEC_ABORTED, "shared"},
    {"MULTI lost", "DISCARD", SESSION_OK, "shared"},
    {"WATCH MULTI lost", "EXEC", SESSION_EXEC_ABORTED, "shared"},
    {"WATCH MULTI lost", "DISCARD", SESSION_OK, "shared"},
    /* broken while watching: the next transaction must fail, all else goes its way */
    {"WATCH lost", "GET", SESSION_FORWARD, "broken watching"},
    {"WATCH lost", "BLPOP", SESSION_FORWARD, "broken watching"},
    {"WATCH lost", "XREAD", SESSION_FORWARD, "broken watching"},
    {"WATCH lost", "SUBSCRIBE", SESSION_FORWARD, "broken watching"},
    {"WATCH lost", "UNSUBSCRIBE", SESSION_FORWARD, "broken watching"},
    {"WATCH lost", "MONITOR", SESSION_FORWARD, "broken watching"},
    {"WATCH lost", "SYNC", SESSION_FORWARD, "broken watching"},
    {"WATCH lost", "EXEC", SESSION_FORWARD, "broken watching"},
    {"WATCH lost", "DISCARD", SESSION_FORWARD, "broken watching"},
    {"WATCH lost", "WATCH", SESSION_OK, "broken watching"},
    {"WATCH lost", "UNWATCH", SESSION_OK, "shared"},
    {"WATCH lost", "MULTI", SESSION_OK, "broken multi:0 watching"},
    {"WATCH lost MULTI", "GET", SESSION_ERROR, "broken multi:0 watching"},
    {"WATCH lost MULTI", "UNWATCH", SESSION_ERROR, "broken multi:0 watching"},
    {"WATCH lost MULTI", "EXEC", SESSION_EXEC_ABORTED, "shared"},
    {"WATCH lost MULTI", "DISCARD", SESSION_OK, "shared"},
    {"WATCH lost EXEC lost", "MULTI", SESSION_OK, "broken multi:0 watching"},
    /* void: nobody is told before EXEC, and then as of a watched key that was changed */
    {"WATCH void", "GET", SESSION_FORWARD, "void watching"},
    {"WATCH void", "WATCH", SESSION_OK, "void watching"},
    {"WATCH void", "UNWATCH", SESSION_OK, "shared"},
    {"WATCH void", "MULTI", SESSION_OK, "void multi:0 watching"},
    {"WATCH void MULTI", "GET", SESSION_QUEUED, "void multi:0 watching"},
    {"WATCH void MULTI", "EXEC", SESSION_EXEC_VOID, "shared"},
    {"WATCH void MULTI", "DISCARD", SESSION_OK, "shared"},
    {"WATCH MULTI void", "GET", SESSION_QUEUED, "void multi:0 watching"},
    {"WATCH MULTI void", "EXEC", SESSION_EXEC_VOID, "shared"},
    {"WATCH MULTI void lost", "EXEC", SESSION_EXEC_VOID, "shared"},
    {"WATCH MULTI EXEC void", "MULTI", SESSION_FORWARD, "shared"},
    {"WATCH void MULTI EXEC WATCH lost MULTI", "EXEC", SESSION_EXEC_ABORTED, "shared"},
    /* what goes on beside it on the new connection outlives it */
    {"WATCH lost MONITOR", "UNWATCH", SESSION_OK, "monitoring"},
    {"WATCH lost MONITOR MULTI", "EXEC", SESSION_EXEC_ABORTED, "monitoring"},
    {"WATCH lost MONITOR MULTI", "DISCARD", SESSION_OK, "monitoring"},
    /* while subscribed the node refuses to begin or end anything */
    {"WATCH lost :2/0/1", "UNWATCH", SESSION_FORWARD, "broken watching subscribed:2/0/1"},
    {"WATCH lost :2/0/1", "MULTI", SESSION_FORWARD, "broken watching subscribed:2/0/1"},
    {"WATCH lost :2/0/1", "WATCH", SESSION_FORWARD, "broken watching subscribed:2/0/1"},
    {"WATCH lost :2/0/1", "EXEC", SESSION_FORWARD, "broken watching subscribed:2/0/1"},
};

/* In RESP2 it is confined by them all the same. */
static void shard_channels_that_others_hear_need_no_connection(void **unused)
{
    (void)unused;
    struct session session = session_after(":0/0/2");
    session.has_shards_apart = true;
    assert_true(session_is_subscribed(&session));
    assert_true(session_is_confined(&session));
    assert_false(session_is_subscribed_here(&session));
    assert_false(session_is_pinned(&session));
    session_lost_connection(&session);
    assert_false(session.is_lost);
    assert_int_equal(session_restore(&session, true, NULL).replies, 0);

    subscribe(&session, (const uint32_t[]){1, 0, 2});
    assert_true(session_is_pinned(&session));
    session_lost_connection(&session);
    assert_true(session.is_lost);
    assert_int_equal(session_restore(&session, true, NULL).replies, 1);
    session_finish(&session);
    assert_false(session.has_shards_apart);
}

static void a_broken_transaction_is_answered_until_the_client_has_ended_it(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(broken_samples); i++) {
        const struct broken_sample *sample = &broken_samples[i];
        struct session session = session_after(sample->given);
        enum session_answer answer =
            session_answer_broken(&session, pin_of(sample->command, strlen(sample->command)));
        if (answer != sample->answer || strcmp(state_of(&session), sample->expected) != 0)
            print_error("after %s, %s\n", sample->given, sample->command);
        assert_int_equal(answer, sample->answer);
        assert_string_equal(state_of(&session), sample->expected);
        session_finish(&session);
    }
}

static void a_session_that_ended_its_broken_transaction_is_as_good_as_new(void **unused)
{
    (void)unused;
    static const char *const ends[] = {"MULTI GET lost EXEC", "MULTI lost DISCARD", "WATCH lost UNWATCH",
                                       "WATCH lost MULTI EXEC"};
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        struct session session = session_after(ends[i]);
        assert_false(session_is_pinned(&session));
        assert_int_equal(session.select_count, 0);
        session_sent(&session, PIN_MULTI);
        session_sent(&session, PIN_NONE);
        assert_string_equal(state_of(&session), "multi:1");
    }
}

/* ---- frames ---- */

/* "a SUBSCRIBE is being answered" is the head in the middle column. */
struct frame_sample {
    const char *given; /* as for session_after() */
    struct slice frame;
    bool head_is_subscription;
    enum session_frame expected;
    const char *state;
};

static void expect_frames(const struct frame_sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct frame_sample *sample = &samples[i];
        struct session session = session_after(sample->given);
        char *copy = malloc(sample->frame.size); /* to measure: AddressSanitizer sees what reads beyond it */
        assert_non_null(copy);
        memcpy(copy, sample->frame.bytes, sample->frame.size);
        enum session_frame frame = session_received(&session, (struct slice){copy, sample->frame.size},
                                                    sample->head_is_subscription);
        free(copy);
        if (frame != sample->expected || strcmp(state_of(&session), sample->state) != 0)
            print_error("after \"%s\": %.*s\n", sample->given, (int)sample->frame.size, sample->frame.bytes);
        assert_int_equal(frame, sample->expected);
        assert_string_equal(state_of(&session), sample->state);
        session_finish(&session);
    }
}

#define SUBSCRIBED_A   SLICE("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")
#define MONITORED_LINE SLICE("+1795202992.339012 [0 127.0.0.1:33516] \"SET\" \"a\" \"1\"\r\n")

static void confirmations_count_subscriptions_of_their_kind(void **unused)
{
    (void)unused;
    static const struct frame_sample samples[] = {
        {"", SUBSCRIBED_A, true, SESSION_CONFIRMATION, "subscribed:1/0/0"},
        {":1/0/0", SLICE("*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:2/0/0"},
        {":2/0/0", SLICE("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:2/0/0"},
        {":2/0/0", SLICE("*3\r\n$10\r\npsubscribe\r\n$2\r\nx*\r\n:3\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:2/1/0"},
        {":2/1/0", SLICE("*3\r\n$10\r\nssubscribe\r\n$1\r\ns\r\n:1\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:2/1/1"},
        {":2/1/1", SLICE("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:4\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:3/1/1"},
        {":2/1/1", SLICE("*3\r\n$11\r\nunsubscribe\r\n$4\r\nnope\r\n:3\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:2/1/1"},
        {":2/1/1", SLICE("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:1/1/1"},
        {":1/1/1", SLICE("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:0/1/1"},
        {":0/1/1", SLICE("*3\r\n$12\r\npunsubscribe\r\n$2\r\nx*\r\n:0\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:0/0/1"},
        {":0/0/1", SLICE("*3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:0\r\n"), true, SESSION_CONFIRMATION,
         "shared"},
        {"", SLICE("*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"), true, SESSION_CONFIRMATION, "shared"},
        {"", SLICE("*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n"), true, SESSION_CONFIRMATION, "shared"},
        {"", SLICE("*3\r\n$12\r\nsunsubscribe\r\n$-1\r\n:0\r\n"), true, SESSION_CONFIRMATION, "shared"},
        /* a name with anything in it, RESP3, and a shard channel that its node has given away unasked */
        {"", SLICE("*3\r\n$9\r\nsubscribe\r\n$4\r\n\r\n:9\r\n:1\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:1/0/0"},
        {"", SLICE("*3\r\n$9\r\nsubscribe\r\n$0\r\n\r\n:1\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:1/0/0"},
        {"", SLICE(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"), true, SESSION_CONFIRMATION,
         "subscribed:1/0/0"},
        {":1/0/0", SLICE(">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"), true, SESSION_CONFIRMATION,
         "shared"},
        {":0/0/2", SLICE("*3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:1\r\n"), false, SESSION_PUSH,
         "subscribed:0/0/1"},
    };
    expect_frames(samples, COUNT_OF(samples));
}

static void messages_are_pushes_whatever_they_say(void **unused)
{
    (void)unused;
    static const struct slice messages[] = {
        SLICE("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n"),
        SLICE("*3\r\n$7\r\nmessage\r\n$9\r\nsubscribe\r\n$1\r\n5\r\n"),
        SLICE("*3\r\n$7\r\nmessage\r\n$9\r\nsubscribe\r\n$2\r\n:5\r\n"),
        SLICE("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$0\r\n\r\n"),
        SLICE("*4\r\n$8\r\npmessage\r\n$2\r\nx*\r\n$3\r\nxyz\r\n$2\r\nhi\r\n"),
        SLICE("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$9\r\nsubscribe\r\n$1\r\n5\r\n"),
        SLICE("*3\r\n$8\r\nsmessage\r\n$1\r\ns\r\n$2\r\nyo\r\n"),
        SLICE(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"),
    };
    for (size_t i = 0; i < COUNT_OF(messages); i++) {
        struct frame_sample samples[] = {
            {":2/1/1", messages[i], false, SESSION_PUSH, "subscribed:2/1/1"},
            {":2/1/1", messages[i], true, SESSION_PUSH, "subscribed:2/1/1"},
        };
        expect_frames(samples, COUNT_OF(samples));
    }
}

static void replies_while_subscribed_are_replies(void **unused)
{
    (void)unused;
    static const struct slice replies[] = {
        SLICE("*2\r\n$4\r\npong\r\n$0\r\n\r\n"), /* PING in RESP2 */
        SLICE("*2\r\n$4\r\npong\r\n$2\r\nhi\r\n"),
        SLICE("+PONG\r\n"),
        SLICE("+RESET\r\n"),
        SLICE("+OK\r\n"),
        SLICE("-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
              "allowed in this context\r\n"),
        SLICE("-ERR wrong number of arguments for 'subscribe' command\r\n"),
        SLICE("*0\r\n"),
        SLICE("*-1\r\n"),
        SLICE("*1\r\n$7\r\nmessage\r\n"),
        SLICE("$7\r\nmessage\r\n"),
        SLICE("$-1\r\n"),
        SLICE(":3\r\n"),
        SLICE("*2\r\n:1\r\n:2\r\n"),
        SLICE("*2\r\n$-1\r\n$1\r\nx\r\n"),
        SLICE("*2\r\n*1\r\n$9\r\nsubscribe\r\n:1\r\n"),
        SLICE("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),                            /* ROLE */
        SLICE("*3\r\n$1\r\na\r\n$1\r\nb\r\n:3\r\n"),                            /* as a script may answer */
        SLICE("*3\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n+OK\r\n:1\r\n"), /* EXEC */
    };
    for (size_t i = 0; i < COUNT_OF(replies); i++) {
        struct frame_sample samples[] = {
            {":2/1/1", replies[i], false, SESSION_REPLY, "subscribed:2/1/1"},
            {":2/1/1", replies[i], true, SESSION_REPLY, "subscribed:2/1/1"},
            {"MONITOR", replies[i], false, SESSION_REPLY, "monitoring"},
        };
        expect_frames(samples, COUNT_OF(samples));
    }
}

static void lines_of_monitor_are_pushes_only_to_who_monitors(void **unused)
{
    (void)unused;
    static const struct frame_sample samples[] = {
        {"MONITOR", MONITORED_LINE, false, SESSION_PUSH, "monitoring"},
        {"MONITOR", SLICE("+1795202992.689754 [0 127.0.0.1:33508] \"PING\"\r\n"), true, SESSION_PUSH,
         "monitoring"},
        {"MONITOR", SLICE("+OK\r\n"), false, SESSION_REPLY, "monitoring"},
        {"MONITOR", SLICE("+PONG\r\n"), false, SESSION_REPLY, "monitoring"},
        {"MONITOR", SLICE("+RESET\r\n"), false, SESSION_REPLY, "monitoring"},
        {"MONITOR", SLICE("+\r\n"), false, SESSION_REPLY, "monitoring"},
        {"MONITOR", SLICE("+"), false, SESSION_REPLY, "monitoring"},
        {"MONITOR", SLICE(":1795202992\r\n"), false, SESSION_REPLY, "monitoring"},
        {"MONITOR", SLICE("-ERR Replica can't interact with the keyspace\r\n"), false, SESSION_REPLY,
         "monitoring"},
        {"MONITOR", SUBSCRIBED_A, true, SESSION_CONFIRMATION, "monitoring subscribed:1/0/0"},
        {":1/0/0", MONITORED_LINE, false, SESSION_REPLY, "subscribed:1/0/0"},
    };
    expect_frames(samples, COUNT_OF(samples));
}

static void broken_off_frames_are_read_no_further_than_their_bytes(void **unused)
{
    (void)unused;
    static const struct slice whole = SLICE("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    for (size_t size = 1; size < whole.size; size++) {
        struct frame_sample sample = {"", {whole.bytes, size}, true, SESSION_REPLY, "shared"};
        expect_frames(&sample, 1);
    }
}

/* ---- how many confirmations ---- */

static void each_channel_is_confirmed_and_none_means_all_of_its_kind(void **unused)
{
    (void)unused;
    static const struct {
        const char *given;
        enum session_channel_kind kind;
        uint32_t channels, expected;
    } samples[] = {
        {"", SESSION_CHANNELS, 1, 1},
        {"", SESSION_CHANNELS, 3, 3},
        {":2/0/0", SESSION_CHANNELS, 5, 5},
        {"", SESSION_CHANNELS, 0, 1}, /* UNSUBSCRIBE of nothing is confirmed with a null */
        {":2/3/4", SESSION_CHANNELS, 0, 2},
        {":2/3/4", SESSION_PATTERNS, 0, 3},
        {":2/3/4", SESSION_SHARD_CHANNELS, 0, 4},
        {":2/0/4", SESSION_PATTERNS, 0, 1},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct session session = session_after(samples[i].given);
        assert_int_equal(session_confirmations(&session, samples[i].kind, samples[i].channels),
                         samples[i].expected);
        session_finish(&session);
    }
}

static void command_names_tell_the_kind_of_channel(void **unused)
{
    (void)unused;
    static const struct {
        struct slice name;
        enum session_channel_kind kind;
    } samples[] = {
        {SLICE("SUBSCRIBE"), SESSION_CHANNELS},
        {SLICE("subscribe"), SESSION_CHANNELS},
        {SLICE("UNSUBSCRIBE"), SESSION_CHANNELS},
        {SLICE("unSubscribe"), SESSION_CHANNELS},
        {SLICE("PSUBSCRIBE"), SESSION_PATTERNS},
        {SLICE("pUNSUBSCRIBE"), SESSION_PATTERNS},
        {SLICE("SSUBSCRIBE"), SESSION_SHARD_CHANNELS},
        {SLICE("ssubscribe"), SESSION_SHARD_CHANNELS},
        {SLICE("SUNSUBSCRIBE"), SESSION_SHARD_CHANNELS},
        {SLICE("sunsubscribe"), SESSION_SHARD_CHANNELS},
        {SLICE(""), SESSION_CHANNELS},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++)
        assert_int_equal(session_kind_of(samples[i].name), samples[i].kind);
}

/* UNSUBSCRIBE, PUNSUBSCRIBE and SUNSUBSCRIBE without channels, as the node confirms them one by one. */
static void undoing_all_ends_with_as_many_confirmations_as_were_foretold(void **unused)
{
    (void)unused;
    static const struct {
        enum session_channel_kind kind;
        struct slice frames[3];
        uint32_t count;
    } commands[] = {
        {SESSION_CHANNELS,
         {SLICE("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n"),
          SLICE("*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n")},
         2},
        {SESSION_PATTERNS, {SLICE("*3\r\n$12\r\npunsubscribe\r\n$2\r\nx*\r\n:0\r\n")}, 1},
        {SESSION_SHARD_CHANNELS, {SLICE("*3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:0\r\n")}, 1},
    };
    struct session session = session_after(":2/1/1");
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        assert_true(session_is_subscribed(&session));
        assert_int_equal(session_confirmations(&session, commands[i].kind, 0), commands[i].count);
        for (uint32_t frame = 0; frame < commands[i].count; frame++)
            assert_int_equal(session_received(&session, commands[i].frames[frame], true),
                             SESSION_CONFIRMATION);
    }
    assert_string_equal(state_of(&session), "shared");
}

/* ---- restoring ---- */

static void expect_restoration(const char *given, bool has_monitor, const char *words, uint32_t replies)
{
    struct session session = session_after(given);
    session.is_resp3 = true;
    struct session_restoration restoration = session_restore(&session, has_monitor, NULL);
    assert_int_equal(restoration.replies, replies);
    char *bytes = malloc(restoration.bytes + 1);
    assert_non_null(bytes);
    struct session_restoration written = session_restore(&session, has_monitor, bytes);
    assert_int_equal(written.bytes, restoration.bytes);
    bytes[written.bytes] = '\0';
    assert_string_equal(bytes, words);
    free(bytes);
    session_finish(&session);
}

static void all_that_can_go_on_elsewhere_is_said_anew(void **unused)
{
    (void)unused;
    expect_restoration("", true, "", 0);
    expect_restoration("WATCH lost", true, "", 0);
    expect_restoration(":2/0/0 lost", true, "*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n", 2);
    expect_restoration(":1/1/1 lost", true,
                       "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n*2\r\n$10\r\nPSUBSCRIBE\r\n$2\r\nx*\r\n"
                       "*2\r\n$10\r\nSSUBSCRIBE\r\n$1\r\ns\r\n",
                       3);
    expect_restoration("MONITOR :0/1/0 lost", true,
                       "*2\r\n$10\r\nPSUBSCRIBE\r\n$2\r\nx*\r\n*1\r\n$7\r\nMONITOR\r\n", 2);
    expect_restoration("MONITOR :0/1/0 lost", false, "*2\r\n$10\r\nPSUBSCRIBE\r\n$2\r\nx*\r\n", 1);
    expect_restoration("MONITOR lost", false, "", 0);
}

/* "Can't execute 'monitor': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed" */
static void monitor_comes_before_what_would_forbid_it(void **unused)
{
    (void)unused;
    struct session session = session_after("MONITOR :1/0/0 lost");
    static const char expected[] = "*1\r\n$7\r\nMONITOR\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n";
    char bytes[sizeof expected];
    assert_int_equal(session_restore(&session, true, NULL).bytes, sizeof expected - 1);
    assert_int_equal(session_restore(&session, true, bytes).replies, 2);
    assert_memory_equal(bytes, expected, sizeof expected - 1);
    session_finish(&session);
}

/* No command of the proxy's is longer than need be: the node serves nobody else while it reads one. */
static void many_names_are_said_in_several_commands(void **unused)
{
    (void)unused;
    struct session session = {0};
    for (int i = 0; i < 1000; i++) {
        char name[16];
        int size = snprintf(name, sizeof name, "channel:%d", i);
        assert_true(subscriptions_add(&session.subscriptions[SESSION_CHANNELS], (struct slice){name, (size_t)size}));
    }
    struct session_restoration restoration = session_restore(&session, true, NULL);
    assert_int_equal(restoration.replies, 1000);
    char *bytes = malloc(restoration.bytes + 1);
    assert_non_null(bytes);
    session_restore(&session, true, bytes);
    bytes[restoration.bytes] = '\0';
    int commands = 0;
    for (const char *at = bytes; (at = strchr(at, '*')); at++)
        commands++;
    assert_int_equal(commands, 4);
    free(bytes);
    session_finish(&session);
}

/* As the node answers what was said anew: nothing is counted twice. */
static void confirmations_of_what_is_known_change_nothing(void **unused)
{
    (void)unused;
    static const struct frame_sample samples[] = {
        {":2/1/0 lost", SLICE("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"), true, SESSION_CONFIRMATION,
         "lost subscribed:2/1/0"},
        {":2/1/0 lost", SLICE("*3\r\n$10\r\npsubscribe\r\n$2\r\nx*\r\n:3\r\n"), true, SESSION_CONFIRMATION,
         "lost subscribed:2/1/0"},
        {"MONITOR lost", SLICE("+OK\r\n"), true, SESSION_REPLY, "lost monitoring"},
        {"MONITOR lost", MONITORED_LINE, true, SESSION_PUSH, "lost monitoring"},
        {":1/0/0 lost", SLICE("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"), true, SESSION_PUSH,
         "lost subscribed:1/0/0"},
    };
    expect_frames(samples, COUNT_OF(samples));
}

static void names_take_memory_until_they_are_undone(void **unused)
{
    (void)unused;
    struct session session = session_after("");
    assert_int_equal(session_bytes(&session), 0);
    assert_int_equal(session_received(&session, SUBSCRIBED_A, true), SESSION_CONFIRMATION);
    size_t one = session_bytes(&session);
    assert_true(one > 1);
    assert_int_equal(session_received(&session, SUBSCRIBED_A, true), SESSION_CONFIRMATION);
    assert_int_equal(session_bytes(&session), one);
    struct slice undone = SLICE("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n");
    assert_int_equal(session_received(&session, undone, true), SESSION_CONFIRMATION);
    assert_int_equal(session_bytes(&session), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_draw_the_arrows_of_the_drawing),
        cmocka_unit_test(what_redis_refuses_or_queues_is_no_arrow),
        cmocka_unit_test(commands_queued_by_multi_are_counted_anew_each_time),
        cmocka_unit_test(nothing_begins_while_subscribed),
        cmocka_unit_test(database_asked_for_inside_multi_is_forgotten_by_the_next_one),
        cmocka_unit_test(transaction_leaves_the_database_of_its_last_select_that_succeeded),
        cmocka_unit_test(every_state_tells_what_it_needs),
        cmocka_unit_test(a_lost_connection_breaks_what_had_begun_on_it),
        cmocka_unit_test(shard_channels_that_others_hear_need_no_connection),
        cmocka_unit_test(a_broken_transaction_is_answered_until_the_client_has_ended_it),
        cmocka_unit_test(a_session_that_ended_its_broken_transaction_is_as_good_as_new),
        cmocka_unit_test(confirmations_count_subscriptions_of_their_kind),
        cmocka_unit_test(messages_are_pushes_whatever_they_say),
        cmocka_unit_test(replies_while_subscribed_are_replies),
        cmocka_unit_test(lines_of_monitor_are_pushes_only_to_who_monitors),
        cmocka_unit_test(broken_off_frames_are_read_no_further_than_their_bytes),
        cmocka_unit_test(each_channel_is_confirmed_and_none_means_all_of_its_kind),
        cmocka_unit_test(command_names_tell_the_kind_of_channel),
        cmocka_unit_test(undoing_all_ends_with_as_many_confirmations_as_were_foretold),
        cmocka_unit_test(all_that_can_go_on_elsewhere_is_said_anew),
        cmocka_unit_test(monitor_comes_before_what_would_forbid_it),
        cmocka_unit_test(many_names_are_said_in_several_commands),
        cmocka_unit_test(confirmations_of_what_is_known_change_nothing),
        cmocka_unit_test(names_take_memory_until_they_are_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
