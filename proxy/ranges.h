/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ranges.h - writing what lies in several places to a socket: how much by one system call, and in one turn of the loop.
 *
 * Who has much to send or to read gets his part of each turn, and the others theirs: a large value is written in parts, and what
 * is left waits for the next event.
 *
 * Owner:   none. Threads: any.
 */
#ifndef PROXY_RANGES_H
#define PROXY_RANGES_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum {
    RANGES_PER_WRITE = 128,
    BYTES_PER_TURN = 512 * 1024,
};

/* How many of these ranges, the last of them cut, are so many bytes: no more than they have. */
size_t ranges_cut(struct iovec *ranges, size_t count, size_t bytes);

/* As sendmsg(2) would, without SIGPIPE: the bytes written, or -1 and errno. The kernel need not copy and check a list that has one
 * range only. */
static inline ssize_t ranges_send(int fd, struct iovec *ranges, size_t count)
{
    if (count == 1)
        return send(fd, ranges[0].iov_base, ranges[0].iov_len, MSG_NOSIGNAL);
    struct msghdr message = {.msg_iov = ranges, .msg_iovlen = count};
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

#endif
