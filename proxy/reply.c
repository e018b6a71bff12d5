/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/reply.h"

#include <inttypes.h>
#include <stdlib.h>

static void head(struct reply *reply, char type, size_t count);

void reply_begin(struct reply *reply, struct client *client)
{
    *reply = (struct reply){.client = client};
    reply->stream = open_memstream(&reply->bytes, &reply->size);
}

void reply_array(struct reply *reply, size_t count) { head(reply, '*', count); }

void reply_map(struct reply *reply, size_t count)
{
    bool is_resp3 = reply->client->session.is_resp3;
    head(reply, is_resp3 ? '%' : '*', is_resp3 ? count : 2 * count);
}

void reply_set(struct reply *reply, size_t count) { head(reply, reply->client->session.is_resp3 ? '~' : '*', count); }

void reply_push(struct reply *reply, size_t count) { head(reply, reply->client->session.is_resp3 ? '>' : '*', count); }

static void head(struct reply *reply, char type, size_t count)
{
    if (reply->stream)
        fprintf(reply->stream, "%c%zu\r\n", type, count);
}

void reply_bulk(struct reply *reply, struct slice text)
{
    head(reply, '$', text.size);
    if (!reply->stream)
        return;
    fwrite(text.bytes, 1, text.size, reply->stream);
    fputs("\r\n", reply->stream);
}

void reply_text(struct reply *reply, const char *text) { reply_bulk(reply, slice_of(text)); }

void reply_number(struct reply *reply, int64_t number)
{
    if (reply->stream)
        fprintf(reply->stream, ":%" PRId64 "\r\n", number);
}

void reply_line(struct reply *reply, const char *line)
{
    if (reply->stream)
        fprintf(reply->stream, "+%s\r\n", line);
}

void reply_words(struct reply *reply, const char *words)
{
    size_t count = *words != '\0';
    for (const char *at = words; *at; at++)
        count += *at == ' ';
    reply_set(reply, count);
    while (reply->stream && *words) {
        size_t size = strcspn(words, " ");
        fprintf(reply->stream, "+%.*s\r\n", (int)size, words);
        words += size + (words[size] == ' ');
    }
}

void reply_null(struct reply *reply)
{
    if (reply->stream)
        fputs(reply->client->session.is_resp3 ? "_\r\n" : "$-1\r\n", reply->stream);
}

void reply_null_array(struct reply *reply)
{
    if (reply->stream)
        fputs(reply->client->session.is_resp3 ? "_\r\n" : "*-1\r\n", reply->stream);
}

void reply_end(struct reply *reply)
{
    bool is_whole = reply->stream && !ferror(reply->stream);
    if (reply->stream)
        is_whole &= fclose(reply->stream) == 0;
    if (is_whole)
        client_reply(reply->client, (struct slice){reply->bytes, reply->size});
    else
        client_reply(reply->client, error_reply(ERROR_MEMORY));
    free(reply->bytes);
}
