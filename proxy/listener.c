/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/listener.h"

#include "proxy/arrival.h"
#include "proxy/log.h"
#include "proxy/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PAUSE_S 0.1 /* until accepting is tried again where it failed */

enum {
    BACKLOG = 4096,           /* all clients of many may come at once; net.core.somaxconn bounds it */
    ACCEPTS_PER_EVENT = 64,   /* so that a storm of connections does not stop the loop */
    KEEPALIVE_S = 300,        /* Redis' tcp-keepalive */
};

/* Of all threads: else one would accept a client of its own with the descriptor that another has given up for a moment to
 * refuse one, and that could refuse none any more. */
static pthread_mutex_t accepting = PTHREAD_MUTEX_INITIALIZER;

static int bind_tcp(const struct config_address *address, char *error, size_t size);
static int bind_unix(const char *path, char *error, size_t size);
static bool is_living_socket(const struct sockaddr_un *address);
static void listener_event(struct ev_loop *loop, ev_io *io, int events);
static bool accept_one(struct listener *listener);
static bool refuse_one(struct listener *listener);
static void listener_go_on(struct ev_loop *loop, ev_timer *timer, int events);

bool listener_open(struct listener *listener, const struct config_address *address, int shared_fd, char *error,
                   size_t size)
{
    bool is_unix = address->port == 0;
    char name[300];
    snprintf(name, sizeof name, strchr(address->host, ':') ? "[%s]:%u" : is_unix ? "unix:%s" : "%s:%u",
             address->host[0] || is_unix ? address->host : "*", address->port);
    *listener = (struct listener){
        .is_unix = is_unix, .persona = address->persona, .name = strdup(name), .reserve_fd = -1};
    if (shared_fd >= 0)
        listener->fd = fcntl(shared_fd, F_DUPFD_CLOEXEC, 0);
    else
        listener->fd = is_unix ? bind_unix(address->host, error, size) : bind_tcp(address, error, size);
    listener->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    socklen_t bound_size = sizeof listener->bound;
    if (listener->fd >= 0 && listener->name &&
        getsockname(listener->fd, (struct sockaddr *)&listener->bound, &bound_size) == 0)
        return true;
    if (shared_fd >= 0 || listener->fd >= 0)
        snprintf(error, size, "%s", strerror(errno));
    listener_close(listener);
    return false;
}

void listener_start(struct listener *listener, struct worker *worker)
{
    listener->worker = worker;
    ev_io_init(&listener->io, listener_event, listener->fd, EV_READ);
    listener->io.data = listener;
    ev_timer_init(&listener->pause, listener_go_on, PAUSE_S, 0.);
    listener->pause.data = listener;
    ev_io_start(worker->loop, &listener->io);
}

void listener_stop(struct listener *listener)
{
    if (listener->worker)
        ev_timer_stop(listener->worker->loop, &listener->pause);
    if (listener->worker && ev_is_active(&listener->io)) {
        ev_io_stop(listener->worker->loop, &listener->io);
        while (accept_one(listener))
            ;
    }
    if (listener->fd >= 0)
        close(listener->fd);
    listener->fd = -1;
}

void listener_close(struct listener *listener)
{
    listener_stop(listener);
    if (listener->reserve_fd >= 0)
        close(listener->reserve_fd);
    listener->reserve_fd = -1;
    free(listener->name);
    listener->name = NULL;
}

void listener_unlink(const struct config_address *address)
{
    if (address->port == 0)
        unlink(address->host);
}

/* The host is numeric or a name; an empty one means every address, IPv6 and IPv4. */
static int bind_tcp(const struct config_address *address, char *error, size_t size)
{
    char port[8];
    snprintf(port, sizeof port, "%u", address->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(address->host[0] ? address->host : NULL, port, &hints, &found);
    if (status != 0 || !found) {
        snprintf(error, size, "%s", gai_strerror(status));
        return -1;
    }
    struct addrinfo *chosen = found;
    for (struct addrinfo *each = found; !address->host[0] && each; each = each->ai_next) {
        if (each->ai_family == AF_INET6)
            chosen = each; /* one socket for both families */
    }
    int fd = socket(chosen->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 && chosen != found) { /* no IPv6 on this machine */
        chosen = found;
        fd = socket(chosen->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    }
    int off = 0, on = 1, idle_s = KEEPALIVE_S;
    bool is_bound = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
                    (chosen->ai_family != AF_INET6 ||
                     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, address->host[0] ? &on : &off, sizeof on) == 0) &&
                    bind(fd, chosen->ai_addr, chosen->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    if (!is_bound) {
        snprintf(error, size, "%s", strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    /* Linux gives these to each socket that is accepted. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    return fd;
}

static int bind_unix(const char *path, char *error, size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(error, size, "the path is longer than %zu bytes", sizeof address.sun_path - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && is_living_socket(&address)) {
        snprintf(error, size, "another process listens there");
        close(fd);
        return -1;
    }
    struct stat status;
    if (stat(path, &status) == 0 && S_ISSOCK(status.st_mode))
        unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0) {
        snprintf(error, size, "%s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static bool is_living_socket(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool is_living = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    if (fd >= 0)
        close(fd);
    return is_living;
}

static void listener_event(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    (void)events;
    struct listener *listener = io->data;
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        if (!accept_one(listener))
            return;
    }
}

/* False when there is none to accept. */
static bool accept_one(struct listener *listener)
{
    struct worker *worker = listener->worker;
    pthread_mutex_lock(&accepting);
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    pthread_mutex_unlock(&accepting);
    if (fd >= 0) {
        listener->is_refusing = false;
        arrival_take(listener, fd);
        return true;
    }
    if (errno == ECONNABORTED || errno == EINTR)
        return true;
    bool is_short = errno == EMFILE || errno == ENFILE;
    if (errno != EAGAIN && !(is_short && refuse_one(listener)) && ev_is_active(&listener->io)) {
        ev_io_stop(worker->loop, &listener->io); /* it would be tried again at once, and in vain */
        ev_timer_start(worker->loop, &listener->pause);
    }
    return false;
}

static void listener_go_on(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    struct listener *listener = timer->data;
    ev_timer_set(&listener->pause, PAUSE_S, 0.);
    if (listener->reserve_fd < 0)
        listener->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ev_io_start(loop, &listener->io);
}

/* Uses the reserved descriptor to take one connection and tell it why it is closed. False if that fails too. */
static bool refuse_one(struct listener *listener)
{
    static const char full[] = "-ERR max number of clients reached\r\n";
    if (!listener->is_refusing)
        log_warning("%s: no file descriptor left, clients are refused", listener->name);
    listener->is_refusing = true;
    if (listener->reserve_fd < 0)
        return false;
    pthread_mutex_lock(&accepting);
    close(listener->reserve_fd);
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        ssize_t ignored = send(fd, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)ignored;
        close(fd);
    }
    listener->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pthread_mutex_unlock(&accepting);
    return fd >= 0;
}
