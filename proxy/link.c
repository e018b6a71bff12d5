/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/link.h"

#include "proxy/clock.h"
#include "routing/resp.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINK_WORDS_MAX         8
#define LINK_READ_BYTES        ((size_t)64 * 1024)
#define LINK_READS_PER_TURN    16
#define LINK_KEEPALIVE_IDLE_S  5
#define LINK_KEEPALIVE_EVERY_S 2
#define LINK_KEEPALIVE_COUNT   3
#define LINK_UNACKED_MAX_MS    5000U

struct question {
    struct question *next;
    link_answered *answered; /* one of the two */
    link_answered_raw *answered_raw;
    uint64_t asked_us, deadline_us;
};

/* Bytes in [used .. size) are still to be worked on. */
struct bytes {
    char *data;
    size_t used, size, capacity;
};

struct link {
    struct ev_loop *loop;
    const struct link_handlers *handlers;
    void *owner;
    enum link_state state;
    unsigned
        opening; /* counts link_open(), so that a loop over input notices that the link was closed under it */
    int descriptor;
    ev_io io;
    ev_timer deadline; /* of connecting, of AUTH, or of the oldest question */
    uint64_t timeout_ms;
    char *username, *password;
    bool is_needless;
    int connect_error; /* found in link_open(), told from the loop */
    struct bytes in, out;
    size_t scanned; /* bytes of `in` up to here have been seen by the scanner */
    struct resp_reply scan;
    redisReader *reader;
    struct question *first, **last;
    size_t questions;
};

static int connect_to(const struct link_target *target, int *descriptor);
static int connect_unix(const char *path, int *descriptor);
static int connect_socket(const struct sockaddr *address, socklen_t size, int *descriptor);
static void set_socket_options(int descriptor);
static void link_io(struct ev_loop *loop, ev_io *watcher, int events);
static void link_deadline(struct ev_loop *loop, ev_timer *watcher, int events);
static void link_watch(struct link *link);
static void link_connected(struct link *link);
static void link_login(struct link *link);
static void link_login_answered(void *owner, const redisReply *reply, uint64_t asked_us);
static void link_is_ready(struct link *link);
static void link_read(struct link *link);
static void link_parse(struct link *link);
static void link_deliver(struct link *link, struct slice bytes);
static void link_answer(struct link *link, struct slice bytes);
static redisReply *link_reply(struct link *link, struct slice bytes);
static bool is_push(struct slice bytes);
static bool is_error(struct slice bytes, const char *word);
static void link_write(struct link *link);
static void link_set_deadline(struct link *link);
static struct question *link_enqueue(struct link *link, const char *const *words, uint64_t timeout_ms);
static struct question *link_dequeue(struct link *link);
static void link_end(struct link *link, enum link_end end, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool bytes_reserve(struct bytes *bytes, size_t room);
static void bytes_compact(struct bytes *bytes);

struct link *link_create(struct ev_loop *loop, const struct link_handlers *handlers, void *owner)
{
    struct link *link = calloc(1, sizeof(*link));
    if (!link) return NULL;

    link->loop = loop;
    link->handlers = handlers;
    link->owner = owner;
    link->descriptor = -1;
    link->last = &link->first;
    ev_init(&link->io, link_io);
    ev_init(&link->deadline, link_deadline);
    link->io.data = link->deadline.data = link;
    return link;
}

void link_destroy(struct link *link)
{
    if (!link) return;
    link_close(link);
    if (link->reader) redisReaderFree(link->reader);
    free(link->in.data);
    free(link->out.data);
    free(link->username);
    free(link->password);
    free(link);
}

void link_open(struct link *link, const struct link_target *target)
{
    assert(link->state == LINK_CLOSED);
    free(link->username);
    free(link->password);
    link->username = strdup(target->username ? target->username : "");
    link->password = strdup(target->password ? target->password : "");
    link->timeout_ms = target->timeout_ms;
    link->is_needless = false;
    link->opening++;
    memset(&link->scan, 0, sizeof(link->scan));
    if (link->reader) redisReaderFree(link->reader);
    link->reader = redisReaderCreate();

    bool has_memory = link->username && link->password && link->reader;
    link->connect_error = has_memory ? connect_to(target, &link->descriptor) : ENOMEM;
    link->state = LINK_CONNECTING;
    if (!link->connect_error) ev_io_set(&link->io, link->descriptor, EV_WRITE);
    link_watch(link);
    link_set_deadline(link);
}

void link_close(struct link *link)
{
    if (link->state == LINK_CLOSED) return;
    link->state = LINK_CLOSED;
    ev_io_stop(link->loop, &link->io);
    ev_timer_stop(link->loop, &link->deadline);
    if (link->descriptor >= 0) close(link->descriptor);
    link->descriptor = -1;
    link->in.used = link->in.size = link->scanned = 0;
    link->out.used = link->out.size = 0;

    struct question *question = link->first; /* taken off first: an answer may open the link again */
    link->first = NULL;
    link->last = &link->first;
    link->questions = 0;
    while (question) {
        struct question *next = question->next;
        if (question->answered_raw)
            question->answered_raw(link->owner, (struct slice){NULL, 0}, question->asked_us);
        if (question->answered && question->answered != link_login_answered)
            question->answered(link->owner, NULL, question->asked_us);
        free(question);
        question = next;
    }
}

enum link_state link_state(const struct link *link)
{
    return link->state;
}

size_t link_questions(const struct link *link)
{
    return link->questions;
}

bool link_password_was_needless(const struct link *link)
{
    return link->is_needless;
}

bool link_ask(struct link *link, const char *const *words, uint64_t timeout_ms, link_answered *answered)
{
    if (link->state != LINK_READY) return false;
    struct question *question = link_enqueue(link, words, timeout_ms);
    if (question) question->answered = answered;
    return question != NULL;
}

bool link_ask_raw(struct link *link, const char *const *words, uint64_t timeout_ms,
                  link_answered_raw *answered)
{
    if (link->state != LINK_READY) return false;
    struct question *question = link_enqueue(link, words, timeout_ms);
    if (question) question->answered_raw = answered;
    return question != NULL;
}

/* ---- connecting ---- */

/* 0, or an errno. */
static int connect_to(const struct link_target *target, int *descriptor)
{
    if (target->port == 0) return connect_unix(target->address, descriptor);

    /* AI_NUMERICHOST: never asks a name server; it is getaddrinfo() for the sake of fe80::1%eth0 */
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char port[8];
    snprintf(port, sizeof(port), "%u", target->port);
    if (getaddrinfo(target->address, port, &hints, &found)) return EINVAL;

    int error = connect_socket(found->ai_addr, found->ai_addrlen, descriptor);
    freeaddrinfo(found);
    return error;
}

static int connect_unix(const char *path, int *descriptor)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) return ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    return connect_socket((const struct sockaddr *)&address, sizeof(address), descriptor);
}

static int connect_socket(const struct sockaddr *address, socklen_t size, int *descriptor)
{
    int created = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (created < 0) return errno;
    if (address->sa_family != AF_UNIX) set_socket_options(created);
    if (connect(created, address, size) && errno != EINPROGRESS) {
        int error = errno;
        close(created);
        return error;
    }
    *descriptor = created;
    return 0;
}

/* Best effort: a kernel without one of these is still spoken to, with the deadlines alone. */
static void set_socket_options(int descriptor)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, LINK_KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, LINK_KEEPALIVE_EVERY_S},
        {IPPROTO_TCP, TCP_KEEPCNT, LINK_KEEPALIVE_COUNT},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, LINK_UNACKED_MAX_MS},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        setsockopt(descriptor, options[i].level, options[i].name, &options[i].value,
                   sizeof(options[i].value));
}

/* ---- events ---- */

static void link_io(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct link *link = watcher->data;
    if (link->state == LINK_CONNECTING) {
        link_connected(link);
        return;
    }
    unsigned opening = link->opening;
    if (events & EV_READ) link_read(link);
    if (link->state != LINK_CLOSED && link->opening == opening && (events & EV_WRITE)) link_write(link);
}

static void link_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct link *link = watcher->data;
    if (link->connect_error) {
        link_end(link, LINK_ENDED_REFUSED, "cannot connect: %s", strerror(link->connect_error));
    } else if (link->state == LINK_CONNECTING) {
        link_end(link, LINK_ENDED_REFUSED, "cannot connect: no answer within %llu ms",
                 (unsigned long long)link->timeout_ms);
    } else if (link->first && link->first->deadline_us <= clock_us()) {
        link_end(link, LINK_ENDED_SILENT, "no answer within %llu ms",
                 (unsigned long long)((link->first->deadline_us - link->first->asked_us) / 1000));
    } else {
        link_set_deadline(link);
    }
}

/* What to wait for follows from the state. */
static void link_watch(struct link *link)
{
    int events = EV_READ;
    if (link->state == LINK_CONNECTING)
        events = EV_WRITE;
    else if (link->out.used < link->out.size)
        events = EV_READ | EV_WRITE;

    if (link->descriptor < 0) return;
    if (ev_is_active(&link->io) && link->io.events == events) return;
    ev_io_stop(link->loop, &link->io);
    ev_io_set(&link->io, link->descriptor, events);
    ev_io_start(link->loop, &link->io);
}

static void link_set_deadline(struct link *link)
{
    ev_timer_stop(link->loop, &link->deadline);
    double wait_s;
    if (link->connect_error)
        wait_s = 0;
    else if (link->state == LINK_CONNECTING)
        wait_s = (double)link->timeout_ms / 1000.0;
    else if (link->first)
        wait_s = ((double)link->first->deadline_us - (double)clock_us()) / 1e6;
    else
        return;
    ev_now_update(link->loop);
    ev_timer_set(&link->deadline, wait_s > 0 ? wait_s : 0, 0.);
    ev_timer_start(link->loop, &link->deadline);
}

static void link_connected(struct link *link)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(link->descriptor, SOL_SOCKET, SO_ERROR, &error, &size)) error = errno;
    if (error) {
        link_end(link, LINK_ENDED_REFUSED, "cannot connect: %s", strerror(error));
        return;
    }
    link_login(link);
}

/* ---- logging in ---- */

/* AUTH goes first and alone: servers have been seen to drop its error reply when more was sent behind it. */
static void link_login(struct link *link)
{
    link->state = LINK_LOGGING_IN;
    if (!link->password[0]) {
        link_is_ready(link);
        return;
    }
    const char *with_user[] = {"AUTH", link->username, link->password, NULL};
    const char *without_user[] = {"AUTH", link->password, NULL};
    struct question *question =
        link_enqueue(link, link->username[0] ? with_user : without_user, link->timeout_ms);
    if (!question) {
        link_end(link, LINK_ENDED_LOST, "out of memory");
        return;
    }
    question->answered = link_login_answered;
}

static void link_login_answered(void *owner, const redisReply *reply, uint64_t asked_us)
{
    (void)asked_us;
    struct link *link = owner;
    bool is_refused = reply->type == REDIS_REPLY_ERROR;
    link->is_needless = is_refused && (strstr(reply->str, "no password is set") ||
                                       strstr(reply->str, "without any password configured"));
    if (is_refused && !link->is_needless)
        link_end(link, LINK_ENDED_LOGIN, "login refused: %.150s", reply->str);
    else
        link_is_ready(link);
}

static void link_is_ready(struct link *link)
{
    link->state = LINK_READY;
    link_watch(link);
    link_set_deadline(link);
    link->handlers->opened(link, link->owner);
}

/* ---- reading ---- */

static void link_read(struct link *link)
{
    unsigned opening = link->opening;
    for (int i = 0; i < LINK_READS_PER_TURN; i++) {
        if (!bytes_reserve(&link->in, LINK_READ_BYTES)) {
            link_end(link, LINK_ENDED_GARBLED, "out of memory");
            return;
        }
        size_t room = link->in.capacity - link->in.size;
        ssize_t got = read(link->descriptor, link->in.data + link->in.size, room);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            enum link_end end = link->first ? LINK_ENDED_LOST : LINK_ENDED_IDLE;
            link_end(link, end, "connection lost: %s",
                     got < 0 ? strerror(errno) : "closed by the other side");
            return;
        }

        link->in.size += (size_t)got;
        link_parse(link);
        if (link->state == LINK_CLOSED || link->opening != opening || (size_t)got < room) return;
    }
}

static void link_parse(struct link *link)
{
    unsigned opening = link->opening;
    while (link->scanned < link->in.size) {
        size_t used = 0;
        struct slice rest = {link->in.data + link->scanned, link->in.size - link->scanned};
        enum resp_status status = resp_reply_scan(&link->scan, rest.bytes, rest.size, &used);
        if (status == RESP_BAD) {
            link_end(link, LINK_ENDED_GARBLED, "does not speak the Redis protocol");
            return;
        }
        if (status == RESP_MORE) {
            link->scanned = link->in.size;
            break;
        }

        struct slice reply = {link->in.data + link->in.used, link->scanned + used - link->in.used};
        link->scanned += used;
        link->in.used = link->scanned;
        link_deliver(link, reply);
        if (link->state == LINK_CLOSED || link->opening != opening) return;
    }

    link->scanned -= link->in.used;
    bytes_compact(&link->in);
    if (link->in.size > LINK_INPUT_MAX) {
        link_end(link, LINK_ENDED_GARBLED, "sent a reply of more than %zu MiB", LINK_INPUT_MAX >> 20);
        return;
    }
    link_set_deadline(link);
}

static void link_deliver(struct link *link, struct slice bytes)
{
    if (link->handlers->pushed && is_push(bytes)) {
        redisReply *message = link_reply(link, bytes);
        if (!message) return;
        link->handlers->pushed(link, link->owner, message);
        freeReplyObject(message);
        return;
    }
    if (is_error(bytes, "-NOAUTH")) {
        link_end(link, LINK_ENDED_LOGIN, "%s",
                 link->password[0] ? "wants another login than the one configured"
                                   : "wants a password, and none is configured");
    } else if (!link->first && bytes.bytes[0] == '-') {
        size_t length = strcspn(bytes.bytes + 1, "\r"); /* a complete reply has one */
        link_end(link, LINK_ENDED_REFUSED, "turned us away: %.*s", length < 150 ? (int)length : 150,
                 bytes.bytes + 1);
    } else if (!link->first) {
        link_end(link, LINK_ENDED_GARBLED, "answers what it was not asked");
    } else {
        link_answer(link, bytes);
    }
}

static void link_answer(struct link *link, struct slice bytes)
{
    redisReply *reply = NULL;
    if (!link->first->answered_raw && !(reply = link_reply(link, bytes))) return;

    struct question *question = link_dequeue(link);
    if (question->answered_raw)
        question->answered_raw(link->owner, bytes, question->asked_us);
    else if (question->answered == link_login_answered)
        link_login_answered(link, reply, question->asked_us);
    else
        question->answered(link->owner, reply, question->asked_us);
    free(question);
    if (reply) freeReplyObject(reply);
}

/* NULL after link_end(). */
static redisReply *link_reply(struct link *link, struct slice bytes)
{
    void *reply = NULL;
    if (redisReaderFeed(link->reader, bytes.bytes, bytes.size) == REDIS_OK &&
        redisReaderGetReply(link->reader, &reply) == REDIS_OK && reply)
        return reply;
    link_end(link, LINK_ENDED_GARBLED, "sent a reply that makes no sense: %s", link->reader->errstr);
    return NULL;
}

static bool is_push(struct slice bytes)
{
    return slice_starts_with(bytes, SLICE("*3\r\n$7\r\nmessage\r\n")) ||
           slice_starts_with(bytes, SLICE("*4\r\n$8\r\npmessage\r\n"));
}

static bool is_error(struct slice bytes, const char *word)
{
    return slice_starts_with(bytes, slice_of(word));
}

/* ---- writing ---- */

static void link_write(struct link *link)
{
    struct bytes *out = &link->out;
    while (out->used < out->size) {
        ssize_t sent = send(link->descriptor, out->data + out->used, out->size - out->used, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN) break;
        if (sent < 0) {
            link_end(link, LINK_ENDED_LOST, "connection lost: %s", strerror(errno));
            return;
        }
        out->used += (size_t)sent;
    }
    bytes_compact(out);
    link_watch(link);
}

/* ---- questions ---- */

static struct question *link_enqueue(struct link *link, const char *const *words, uint64_t timeout_ms)
{
    const char *arguments[LINK_WORDS_MAX];
    int count = 0;
    for (; words[count]; count++) {
        assert(count < LINK_WORDS_MAX);
        arguments[count] = words[count];
    }

    char *text = NULL;
    long long size = redisFormatCommandArgv(&text, count, arguments, NULL);
    struct question *question = calloc(1, sizeof(*question));
    if (size < 0 || !question || !bytes_reserve(&link->out, (size_t)size)) {
        if (size >= 0) redisFreeCommand(text);
        free(question);
        return NULL;
    }
    memcpy(link->out.data + link->out.size, text, (size_t)size);
    link->out.size += (size_t)size;
    redisFreeCommand(text);

    question->asked_us = clock_us();
    question->deadline_us = question->asked_us + timeout_ms * 1000;
    *link->last = question;
    link->last = &question->next;
    link->questions++;
    if (link->first == question) link_set_deadline(link);
    link_watch(link);
    return question;
}

static struct question *link_dequeue(struct link *link)
{
    struct question *question = link->first;
    link->first = question->next;
    if (!link->first) link->last = &link->first;
    link->questions--;
    return question;
}

/* ---- the end ---- */

static void link_end(struct link *link, enum link_end end, const char *format, ...)
{
    char reason[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);

    link->connect_error = 0;
    link_close(link);
    link->handlers->closed(link, link->owner, end, reason);
}

/* ---- buffers ---- */

static bool bytes_reserve(struct bytes *bytes, size_t room)
{
    if (bytes->capacity - bytes->size >= room) return true;
    size_t capacity = bytes->capacity ? bytes->capacity : 4096;
    while (capacity - bytes->size < room)
        capacity *= 2;
    char *data = realloc(bytes->data, capacity);
    if (!data) return false;
    bytes->data = data;
    bytes->capacity = capacity;
    return true;
}

static void bytes_compact(struct bytes *bytes)
{
    if (bytes->used) memmove(bytes->data, bytes->data + bytes->used, bytes->size - bytes->used);
    bytes->size -= bytes->used;
    bytes->used = 0;
}
