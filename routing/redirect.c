/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/redirect.h"

enum { SLOTS = 16384 };

static const char *const down_texts[] = {
    [DOWN_SLOT] = "-CLUSTERDOWN Hash slot not served\r\n",
    [DOWN_CLUSTER] = "-CLUSTERDOWN The cluster is down\r\n",
    [DOWN_WRITES] = "-CLUSTERDOWN The cluster is down and only accepts read commands\r\n",
};

static bool read_number(struct slice text, uint32_t below, uint32_t *number);
static struct slice until(struct slice *text, char end);

bool redirect_read(struct slice reply, struct redirect *redirect)
{
    if (reply.size < 2 || memcmp(reply.bytes + reply.size - 2, "\r\n", 2) != 0) return false;
    struct slice rest = {reply.bytes, reply.size - 2};
    struct slice word = until(&rest, ' ');
    if (!slice_is(word, "-MOVED") && !slice_is(word, "-ASK")) return false;
    if (!read_number(until(&rest, ' '), SLOTS, &redirect->slot)) return false;

    const char *colon = rest.size ? memrchr(rest.bytes, ':', rest.size) : NULL;
    if (!colon) return false;
    size_t host_size = (size_t)(colon - rest.bytes);
    uint32_t port;
    if (!read_number((struct slice){colon + 1, rest.size - host_size - 1}, UINT16_MAX + 1, &port) || port == 0) return false;
    redirect->port = (uint16_t)port;
    redirect->host = (struct slice){rest.bytes, host_size};
    if (slice_is(redirect->host, "?")) redirect->host.size = 0;
    return true;
}

enum redirect_down redirect_down_of(struct slice reply)
{
    for (size_t i = 0; i < sizeof down_texts / sizeof *down_texts; i++) {
        if (slice_equals(reply, slice_of(down_texts[i]))) return (enum redirect_down)i;
    }
    return DOWN_SLOT;
}

struct slice redirect_down_text(enum redirect_down down)
{
    return slice_of(down_texts[down]);
}

static bool read_number(struct slice text, uint32_t below, uint32_t *number)
{
    *number = 0;
    if (text.size == 0 || text.size > 5) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9') return false;
        *number = *number * 10 + (uint32_t)(text.bytes[i] - '0');
    }
    return *number < below;
}

/* Takes what stands before the sign, and the sign, off the text; all of it where there is none. */
static struct slice until(struct slice *text, char end)
{
    const char *at = text->size ? memchr(text->bytes, end, text->size) : NULL;
    size_t size = at ? (size_t)(at - text->bytes) : text->size;
    struct slice word = {text->bytes, size};
    size_t taken = at ? size + 1 : size;
    *text = (struct slice){text->bytes + taken, text->size - taken};
    return word;
}
