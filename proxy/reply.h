/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reply.h - a reply of ours of several parts, in the protocol that its client speaks.
 *
 *      struct reply reply;
 *      reply_begin(&reply, client);
 *      reply_map(&reply, 1);
 *      reply_text(&reply, "port");
 *      reply_number(&reply, 6380);
 *      reply_end(&reply);
 *
 * Memory that is short is told to the client at the end; what is written meanwhile goes nowhere.
 *
 * Owner:   whoever began it must end it. Threads: one worker only.
 */
#ifndef PROXY_REPLY_H
#define PROXY_REPLY_H

#include "proxy/client.h"

#include <stdio.h>

struct reply {
    struct client *client;
    FILE *stream; /* NULL: memory is short */
    char *bytes;
    size_t size;
};

void reply_begin(struct reply *reply, struct client *client);
void reply_array(struct reply *reply, size_t count);
void reply_map(struct reply *reply, size_t count); /* in RESP2 an array of twice as many */
void reply_push(struct reply *reply, size_t count);/* in RESP2 an array */
void reply_set(struct reply *reply, size_t count); /* in RESP2 an array */
void reply_bulk(struct reply *reply, struct slice text);
void reply_text(struct reply *reply, const char *text);
void reply_number(struct reply *reply, int64_t number);
void reply_line(struct reply *reply, const char *line); /* a simple string */
void reply_words(struct reply *reply, const char *words); /* a set of simple strings, from a text with blanks between them */
void reply_null(struct reply *reply);
void reply_null_array(struct reply *reply);

/* Replies it in the place of the command at hand. */
void reply_end(struct reply *reply);

#endif
