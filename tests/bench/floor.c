/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * floor PORT SERVER-PORT: the least that a proxy can do which puts many clients on one connection. What any other costs is
 * seen beside it: what it costs itself is the kernel's, for moving bytes.
 *
 * It looks at the first request of a client and at the first reply to it, and takes all others to be as long: no bytes
 * are parsed after that. So it is good for one thing, requests of one length that get replies of one length, and ends with
 * a message where it sees that it was used for another. Loopback, one thread, nothing retried, nothing bounded but by
 * its buffers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CLIENTS = 65536, /* by descriptor */
    TURNS = 1 << 20, /* a power of two */
    EVENTS = 2048,
    BACKLOG = 4096,
    READ_BYTES = 64 * 1024,
    BUFFER_BYTES = 4 * 1024 * 1024,
};

struct client {
    size_t request_bytes, reply_bytes; /* 0: not known yet */
    size_t reply_begin, reply_end;     /* in `replies`: what came for it in this turn of the loop */
    uint32_t waits;                    /* turns of it */
    bool is_dirty, is_gone;
};

/* Requests that came in one go: their replies come in one go, or in parts. */
struct turn {
    int fd;
    uint32_t requests;
};

static struct client clients[CLIENTS];
static struct turn turns[TURNS];
static uint32_t turns_begin, turns_end;
static size_t head_bytes; /* of the replies to the oldest turn that have been passed on */
static int dirty[CLIENTS], dirty_count;
static char requests[BUFFER_BYTES], replies[BUFFER_BYTES];
static size_t request_bytes, reply_bytes;
static int loop, server;

static int listen_at(uint16_t port);
static int connect_to(uint16_t port);
static void watch(int fd);
static void accept_all(int listener);
static void read_requests(int fd);
static void close_when_answered(int fd);
static void read_replies(void);
static size_t pass_replies(void);
static void give(int fd, size_t at, size_t bytes);
static void flush_client(int fd);
static void flush_clients(size_t passed);
static void flush_server(void);
static size_t length_of_request(const char *bytes, size_t size);
static size_t length_of_reply(const char *bytes, size_t size);
static size_t length_of_bulk(const char *bytes, size_t size);
static size_t length_of_line(const char *bytes, size_t size);
static void end(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

int main(int count, char **words)
{
    if (count != 3) end("usage: floor PORT SERVER-PORT");
    loop = epoll_create1(EPOLL_CLOEXEC);
    server = connect_to((uint16_t)strtoul(words[2], NULL, 10));
    int listener = listen_at((uint16_t)strtoul(words[1], NULL, 10));
    watch(listener);
    watch(server);
    static struct epoll_event events[EVENTS];
    for (;;) {
        size_t passed = 0;
        int ready = epoll_wait(loop, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(listener);
            } else if (fd == server) {
                read_replies();
                passed = pass_replies();
            } else {
                read_requests(fd);
            }
        }
        flush_clients(passed);
        flush_server();
    }
}

static int listen_at(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* passed on to what is accepted */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0)
        end("listening: %s", strerror(errno));
    return fd;
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) end("connecting: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) end("epoll: %s", strerror(errno));
}

/* Their sockets block: who does not read holds all others up. */
static void accept_all(int listener)
{
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        if (fd >= CLIENTS) end("too many clients");
        clients[fd] = (struct client){0};
        watch(fd);
    }
}

static void read_requests(int fd)
{
    struct client *client = &clients[fd];
    char *bytes = requests + request_bytes;
    ssize_t got = recv(fd, bytes, READ_BYTES, 0);
    if (got <= 0) {
        close_when_answered(fd);
        return;
    }
    if (client->request_bytes == 0) client->request_bytes = length_of_request(bytes, (size_t)got);
    if (client->request_bytes == 0 || (size_t)got % client->request_bytes != 0) {
        fprintf(stderr, "floor: a client sends requests of several lengths, or in parts\n");
        close_when_answered(fd);
        return;
    }
    request_bytes += (size_t)got;
    if (turns_end - turns_begin == TURNS) end("too many requests are unanswered");
    turns[turns_end++ % TURNS] = (struct turn){fd, (uint32_t)((size_t)got / client->request_bytes)};
    client->waits++;
    if (request_bytes > BUFFER_BYTES - READ_BYTES) flush_server();
}

static void close_when_answered(int fd)
{
    struct client *client = &clients[fd];
    if (!client->is_gone && client->waits > 0) {
        client->is_gone = true;
        epoll_ctl(loop, EPOLL_CTL_DEL, fd, NULL);
    }
    if (client->waits == 0) close(fd);
}

static void read_replies(void)
{
    if (reply_bytes == BUFFER_BYTES) end("a reply is larger than %d bytes", BUFFER_BYTES);
    ssize_t got = recv(server, replies + reply_bytes, BUFFER_BYTES - reply_bytes, 0);
    if (got <= 0) end("the server has closed");
    reply_bytes += (size_t)got;
}

/* What there is, to those whose turn it is; how many bytes that were. */
static size_t pass_replies(void)
{
    size_t at = 0;
    while (at < reply_bytes) {
        if (turns_begin == turns_end) end("a reply that nobody has asked for");
        const struct turn *turn = &turns[turns_begin % TURNS];
        struct client *client = &clients[turn->fd];
        if (client->reply_bytes == 0) client->reply_bytes = length_of_reply(replies + at, reply_bytes - at);
        if (client->reply_bytes == 0) break; /* its first line is not all there yet */
        size_t owed = turn->requests * client->reply_bytes - head_bytes;
        size_t bytes = owed < reply_bytes - at ? owed : reply_bytes - at;
        give(turn->fd, at, bytes);
        at += bytes;
        head_bytes += bytes;
        if (bytes < owed) break;
        head_bytes = 0;
        turns_begin++;
        client->waits--;
    }
    return at;
}

static void give(int fd, size_t at, size_t bytes)
{
    struct client *client = &clients[fd];
    if (client->is_dirty && client->reply_end != at) flush_client(fd);
    if (!client->is_dirty) {
        client->is_dirty = true;
        client->reply_begin = at;
        dirty[dirty_count++] = fd;
    } else if (client->reply_begin == client->reply_end) {
        client->reply_begin = at;
    }
    client->reply_end = at + bytes;
}

static void flush_client(int fd)
{
    struct client *client = &clients[fd];
    while (client->reply_begin < client->reply_end && !client->is_gone) {
        size_t bytes = client->reply_end - client->reply_begin;
        ssize_t sent = send(fd, replies + client->reply_begin, bytes, MSG_NOSIGNAL);
        if (sent < 0) break; /* it has gone; reading will tell */
        client->reply_begin += (size_t)sent;
    }
    client->reply_begin = client->reply_end;
}

static void flush_clients(size_t passed)
{
    for (int i = 0; i < dirty_count; i++) {
        struct client *client = &clients[dirty[i]];
        flush_client(dirty[i]);
        client->is_dirty = false;
        if (client->is_gone) close_when_answered(dirty[i]);
    }
    dirty_count = 0;
    memmove(replies, replies + passed, reply_bytes - passed);
    reply_bytes -= passed;
}

static void flush_server(void)
{
    for (size_t at = 0; at < request_bytes;) {
        ssize_t sent = send(server, requests + at, request_bytes - at, MSG_NOSIGNAL);
        if (sent < 0) end("sending: %s", strerror(errno));
        at += (size_t)sent;
    }
    request_bytes = 0;
}

/* ---- lengths in RESP; 0: that is not all there ---- */

static size_t length_of_request(const char *bytes, size_t size)
{
    size_t length = length_of_reply(bytes, size);
    return bytes[0] == '*' && length <= size ? length : 0;
}

/* Of an array, only where all of it is there. */
static size_t length_of_reply(const char *bytes, size_t size)
{
    if (bytes[0] == '$') return length_of_bulk(bytes, size);
    size_t length = length_of_line(bytes, size);
    if (length == 0 || bytes[0] != '*') return length;
    for (long elements = strtol(bytes + 1, NULL, 10); elements > 0; elements--) {
        size_t one = length < size ? length_of_reply(bytes + length, size - length) : 0;
        if (one == 0 || one > size - length) return 0;
        length += one;
    }
    return length;
}

static size_t length_of_bulk(const char *bytes, size_t size)
{
    size_t line = length_of_line(bytes, size);
    long value = line > 0 ? strtol(bytes + 1, NULL, 10) : -1;
    return value < 0 ? line : line + (size_t)value + 2;
}

static size_t length_of_line(const char *bytes, size_t size)
{
    const char *line_end = memchr(bytes, '\n', size);
    return line_end ? (size_t)(line_end - bytes) + 1 : 0;
}

static void end(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("floor: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}
