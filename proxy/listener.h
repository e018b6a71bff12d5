/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * listener.h - a socket that clients connect to.
 *
 * Each worker has its own socket for each TCP address (SO_REUSEPORT: the kernel spreads connections); a unix
 * socket is one socket that all workers accept from. Who accepts a client does not always keep it (arrival.h).
 *
 * When no descriptor is left, a reserved one is given up for a moment, so that the client is told why instead of
 * waiting; where even that fails, accepting pauses, so that the loop does not spin.
 *
 * Owner:   its worker once created. Threads: one worker only.
 */
#ifndef PROXY_LISTENER_H
#define PROXY_LISTENER_H

#include "proxy/config.h"

#include <ev.h>
#include <stdbool.h>
#include <sys/socket.h>

struct worker;

struct listener {
    ev_io io;
    ev_timer pause; /* runs where accepting failed, until it is tried again */
    struct worker *worker;
    int fd;
    int reserve_fd;
    bool is_refusing; /* since there was no descriptor left; the log was told */
    bool is_unix;
    uint8_t persona;               /* enum persona */
    struct sockaddr_storage bound; /* where it listens, in numbers */
    char *name; /* as configured, for the log */
};

/*
 * Binds and listens. For a unix socket, shared_fd is -1 for the first worker, which binds it (a stale file is
 * replaced, a living one is an error), and the first one's fd for the others. False with a message in
 * error[size].
 */
bool listener_open(struct listener *listener, const struct config_address *address, int shared_fd, char *error,
                   size_t size);
void listener_start(struct listener *listener, struct worker *worker);

/* Stops accepting; connections that wait to be accepted are accepted first, so that none is reset. */
void listener_stop(struct listener *listener);
void listener_close(struct listener *listener);

/* Removes the file of a unix socket; once, at the end. */
void listener_unlink(const struct config_address *address);

#endif
