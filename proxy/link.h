/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * link.h - one connection of the control thread to a node or a Sentinel.
 *
 *             link_open()            connected             AUTH answered
 *    CLOSED -------------> CONNECTING ---------> LOGGING_IN ------------> READY
 *       ^                      |                     |                      |
 *       '----------------------+---------------------+----------------------'
 *            refused, end of file, a deadline passed, link_close(), not the Redis protocol
 *
 * Nothing here blocks: connecting has a deadline and so has every question. Answers come in the order of the
 * questions; when the link ends, each question still open is answered with NULL and then closed() is called.
 * A link does not reopen itself.
 *
 * Owner:   whoever created it. Handlers may call link_ask(), link_close() and link_open(), but never
 *          link_destroy().
 * Threads: the control thread only.
 */
#ifndef PROXY_LINK_H
#define PROXY_LINK_H

#include "routing/slice.h"

#include <ev.h>
#include <stdint.h>

#define LINK_INPUT_MAX ((size_t)16 * 1024 * 1024)

struct redisReply;
struct link;

enum link_state {
    LINK_CLOSED,
    LINK_CONNECTING,
    LINK_LOGGING_IN,
    LINK_READY,
};

/* How a link ended. */
enum link_end {
    LINK_ENDED_IDLE,    /* end of file while nothing was asked: servers do that to idle clients */
    LINK_ENDED_LOST,    /* end of file or reset while an answer was owed */
    LINK_ENDED_REFUSED, /* could not connect */
    LINK_ENDED_SILENT,  /* a deadline passed */
    LINK_ENDED_LOGIN,   /* wrong password, or one is needed */
    LINK_ENDED_GARBLED, /* not the Redis protocol, or too much of it */
};

/* All borrowed until link_open() returns. */
struct link_target {
    const char *address; /* numeric IP address, or the path of a unix socket when port is 0 */
    uint16_t port;
    const char *username; /* "" = AUTH with the password alone */
    const char *password; /* "" = no AUTH */
    uint64_t timeout_ms;  /* for connecting, and again for AUTH */
};

struct link_handlers {
    void (*opened)(struct link *link, void *owner);
    void (*closed)(struct link *link, void *owner, enum link_end end, const char *reason);
    /* A published message: message, pmessage. NULL: none are expected. */
    void (*pushed)(struct link *link, void *owner, const struct redisReply *message);
};

/* reply is NULL if the link ended first; it is freed by the link. asked_us: when the question was asked. */
typedef void link_answered(void *owner, const struct redisReply *reply, uint64_t asked_us);
/* The same with the reply's own bytes (bytes NULL if the link ended first). */
typedef void link_answered_raw(void *owner, struct slice reply, uint64_t asked_us);

struct link *link_create(struct ev_loop *loop, const struct link_handlers *handlers, void *owner);
void link_destroy(struct link *link);

/* Begins to connect; the outcome is told from the loop, never from here. The link must be CLOSED. */
void link_open(struct link *link, const struct link_target *target);

/* Ends the link now; questions still open are answered with NULL, closed() is not called. */
void link_close(struct link *link);

enum link_state link_state(const struct link *link);
size_t link_questions(const struct link *link); /* still to be answered */

/* True if a password was given but the server has none and let us in all the same. */
bool link_password_was_needless(const struct link *link);

/* Asks; only while READY (false else, or if memory is short, and answered is not called). words ends with
 * NULL. */
bool link_ask(struct link *link, const char *const *words, uint64_t timeout_ms, link_answered *answered);
bool link_ask_raw(struct link *link, const char *const *words, uint64_t timeout_ms,
                  link_answered_raw *answered);

#endif
