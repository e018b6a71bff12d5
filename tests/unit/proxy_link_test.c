/* SPDX-License-Identifier: BSD-2-Clause */
/* A link against a server that the test plays itself, on a loopback socket in the same thread. */
#include "proxy/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct ev_loop *loop;
static struct link *tested;
static int listener, server;
static uint16_t port;
static unsigned opened, closed, pushed;
static enum link_end last_end;
static char last_reason[256];
static char answers[4096]; /* one word each, in order; "lost" for NULL */

static void on_opened(struct link *link, void *owner)
{
    (void)link;
    (void)owner;
    opened++;
}

static void on_closed(struct link *link, void *owner, enum link_end end, const char *reason)
{
    (void)link;
    (void)owner;
    closed++;
    last_end = end;
    snprintf(last_reason, sizeof(last_reason), "%s", reason);
}

static void on_pushed(struct link *link, void *owner, const redisReply *message)
{
    (void)link;
    (void)owner;
    assert_string_equal(message->element[message->elements - 1]->str, "news");
    pushed++;
}

static void on_answer(void *owner, const redisReply *reply, uint64_t asked_us)
{
    (void)owner;
    assert_true(asked_us > 0);
    strcat(answers, reply ? reply->type == REDIS_REPLY_ARRAY ? "array" : reply->str : "lost");
    strcat(answers, " ");
}

static void on_raw(void *owner, struct slice reply, uint64_t asked_us)
{
    (void)owner;
    (void)asked_us;
    snprintf(answers + strlen(answers), 64, "raw%zu ", reply.size);
}

static const struct link_handlers handlers = {.opened = on_opened, .closed = on_closed, .pushed = on_pushed};

static int begin(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 8)) return -1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    port = ntohs(address.sin_port);
    loop = ev_loop_new(EVFLAG_AUTO);
    tested = link_create(loop, &handlers, NULL);
    opened = closed = pushed = 0;
    answers[0] = '\0';
    server = -1;
    return 0;
}

static int end(void **state)
{
    (void)state;
    link_destroy(tested);
    ev_loop_destroy(loop);
    close(listener);
    if (server >= 0) close(server);
    return 0;
}

static void stop_turning(struct ev_loop *turned, ev_timer *watcher, int events)
{
    (void)watcher;
    (void)events;
    ev_break(turned, EVBREAK_ALL);
}

static void turn(double seconds)
{
    ev_timer limit;
    ev_timer_init(&limit, stop_turning, seconds, 0.);
    ev_now_update(loop);
    ev_timer_start(loop, &limit);
    ev_run(loop, 0);
    ev_timer_stop(loop, &limit);
}

static void open_link(const char *username, const char *password)
{
    struct link_target target = {"127.0.0.1", port, username, password, 200};
    link_open(tested, &target);
    server = accept(listener, NULL, NULL);
    turn(0.02);
}

static void say(const char *text)
{
    assert_int_equal(write(server, text, strlen(text)), strlen(text));
    turn(0.02);
}

static const char *hear(void)
{
    static char text[4096];
    ssize_t got = recv(server, text, sizeof(text) - 1, MSG_DONTWAIT);
    text[got > 0 ? got : 0] = '\0';
    return text;
}

static void ask(uint64_t timeout_ms)
{
    const char *words[] = {"PING", NULL};
    assert_true(link_ask(tested, words, timeout_ms, on_answer));
}

static void answers_come_in_the_order_of_the_questions(void **state)
{
    (void)state;
    const char *words[] = {"COMMAND", NULL};
    open_link("", "");
    assert_int_equal(opened, 1);
    ask(1000);
    assert_true(link_ask_raw(tested, words, 1000, on_raw));
    ask(1000);
    turn(0.02);
    assert_string_equal(hear(), "*1\r\n$4\r\nPING\r\n*1\r\n$7\r\nCOMMAND\r\n*1\r\n$4\r\nPING\r\n");
    const char *reply =
        "+a\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n$1\r\nx\r\n$1\r\nb\r\n";
    for (const char *byte = reply; *byte; byte++) {
        assert_int_equal(write(server, byte, 1), 1);
        turn(0.001);
    }
    assert_string_equal(answers, "a raw47 b ");
    assert_int_equal(link_questions(tested), 0);
}

static void login_goes_first_and_alone(void **state)
{
    (void)state;
    open_link("me", "pass word");
    assert_int_equal(opened, 0);
    assert_int_equal(link_state(tested), LINK_LOGGING_IN);
    const char *words[] = {"PING", NULL};
    assert_false(link_ask(tested, words, 100, on_answer));
    assert_string_equal(hear(), "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$9\r\npass word\r\n");
    say("+OK\r\n");
    assert_int_equal(opened, 1);
    assert_false(link_password_was_needless(tested));
}

static void login_ends_say_why(void **state)
{
    (void)state;
    static const struct {
        const char *password, *reply;
        bool is_open, is_needless;
    } rows[] = {
        {"x", "-WRONGPASS invalid username-password pair\r\n", false, false},
        {"x", "-ERR Client sent AUTH, but no password is set\r\n", true, true},
        {"x", "-ERR AUTH <password> called without any password configured for the default user.\r\n", true,
         true},
        {"x", "-ERR max number of clients reached\r\n", false, false},
        {"", "-DENIED Redis is running in protected mode\r\n", false, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        closed = 0;
        open_link("", rows[i].password);
        say(rows[i].reply);
        assert_int_equal(link_state(tested) == LINK_READY, rows[i].is_open);
        assert_int_equal(closed, !rows[i].is_open);
        assert_int_equal(link_password_was_needless(tested), rows[i].is_needless);
        link_close(tested);
        close(server);
        server = -1;
    }
}

static void every_question_is_answered_when_the_link_ends(void **state)
{
    (void)state;
    open_link("", "");
    ask(1000);
    ask(1000);
    turn(0.02);
    close(server);
    server = -1;
    turn(0.02);
    assert_string_equal(answers, "lost lost ");
    assert_int_equal(closed, 1);
    assert_int_equal(last_end, LINK_ENDED_LOST);
}

static void end_of_file_while_idle_is_told_apart(void **state)
{
    (void)state;
    open_link("", "");
    close(server);
    server = -1;
    turn(0.02);
    assert_int_equal(last_end, LINK_ENDED_IDLE);
}

static void silence_ends_at_the_deadline(void **state)
{
    (void)state;
    open_link("", "");
    ask(50);
    turn(0.03);
    assert_int_equal(closed, 0);
    turn(0.06);
    assert_int_equal(closed, 1);
    assert_int_equal(last_end, LINK_ENDED_SILENT);
    assert_string_equal(last_reason, "no answer within 50 ms");
}

static void refused_is_told_from_the_loop(void **state)
{
    (void)state;
    struct link_target target = {"/nowhere/at/all.sock", 0, "", "", 200};
    link_open(tested, &target);
    assert_int_equal(closed, 0);
    turn(0.02);
    assert_int_equal(closed, 1);
    assert_int_equal(last_end, LINK_ENDED_REFUSED);

    close(listener);
    struct link_target gone = {"127.0.0.1", port, "", "", 200};
    link_open(tested, &gone);
    turn(0.02);
    assert_int_equal(closed, 2);
    assert_int_equal(last_end, LINK_ENDED_REFUSED);
    listener = socket(AF_INET, SOCK_STREAM, 0);
}

static void messages_are_no_answers(void **state)
{
    (void)state;
    open_link("", "");
    ask(1000);
    say("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$5\r\n+news\r\n$4\r\nnews\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    assert_int_equal(pushed, 1);
    assert_string_equal(answers, "array ");
}

static void nonsense_ends_the_link(void **state)
{
    (void)state;
    static const char *const nonsense[] = {
        "HTTP/1.1 400 Bad Request\r\n\r\n", "+unasked\r\n", "-NOAUTH Authentication required.\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n$1\r\nx\r\n"};
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
        closed = 0;
        open_link("", "");
        if (i != 1) ask(1000);
        say(nonsense[i]);
        assert_int_equal(closed, 1);
        assert_int_equal(last_end, i == 2 ? LINK_ENDED_LOGIN : LINK_ENDED_GARBLED);
        close(server);
        server = -1;
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(answers_come_in_the_order_of_the_questions),
        TEST(login_goes_first_and_alone),
        TEST(login_ends_say_why),
        TEST(every_question_is_answered_when_the_link_ends),
        TEST(end_of_file_while_idle_is_told_apart),
        TEST(silence_ends_at_the_deadline),
        TEST(refused_is_told_from_the_loop),
        TEST(messages_are_no_answers),
        TEST(nonsense_ends_the_link),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
