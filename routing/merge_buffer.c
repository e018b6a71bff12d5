/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/merge_buffer.h"

#include <stdio.h>
#include <stdlib.h>

static bool reserve(struct merge_buffer *buffer, size_t more);

void merge_buffer_finish(struct merge_buffer *buffer)
{
    free(buffer->bytes);
    free(buffer->items);
    *buffer = (struct merge_buffer){0};
}

bool merge_buffer_put(struct merge_buffer *buffer, struct slice bytes)
{
    if (!reserve(buffer, bytes.size)) return false;
    if (bytes.size > 0) memcpy(buffer->bytes + buffer->size, bytes.bytes, bytes.size);
    buffer->size += bytes.size;
    return true;
}

bool merge_buffer_put_number(struct merge_buffer *buffer, int64_t number)
{
    char text[24];
    char *at = text + sizeof(text);
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        *--at = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (number < 0) *--at = '-';
    return merge_buffer_put(buffer, (struct slice){at, (size_t)(text + sizeof(text) - at)});
}

bool merge_buffer_put_header(struct merge_buffer *buffer, char type, int64_t number)
{
    return merge_buffer_put(buffer, (struct slice){&type, 1}) && merge_buffer_put_number(buffer, number) &&
           merge_buffer_put(buffer, SLICE("\r\n"));
}

bool merge_buffer_close_text(struct merge_buffer *buffer, size_t start, char type)
{
    static const char format[] = "txt:";
    bool is_verbatim = type == '=';
    char header[32];
    size_t size = buffer->size - start;
    int header_size = is_verbatim
                          ? snprintf(header, sizeof(header), "=%zu\r\n%s", size + sizeof(format) - 1, format)
                          : snprintf(header, sizeof(header), "$%zu\r\n", size);

    if (!reserve(buffer, (size_t)header_size)) return false;
    memmove(buffer->bytes + start + header_size, buffer->bytes + start, size);
    memcpy(buffer->bytes + start, header, (size_t)header_size);
    buffer->size += (size_t)header_size;
    return merge_buffer_put(buffer, SLICE("\r\n"));
}

bool merge_buffer_reserve_items(struct merge_buffer *buffer, size_t count)
{
    if (count <= buffer->item_room) return true;
    if (count > SIZE_MAX / 2 / sizeof(*buffer->items)) return false;
    size_t room = count + count / 2;
    struct merge_item *items = realloc(buffer->items, room * sizeof(*items));
    if (!items) return false;
    buffer->items = items;
    buffer->item_room = room;
    return true;
}

static bool reserve(struct merge_buffer *buffer, size_t more)
{
    if (buffer->bytes && more <= buffer->room - buffer->size) return true;
    size_t room = buffer->size + more + (buffer->size + more) / 2 + 64;
    char *bytes = realloc(buffer->bytes, room);
    if (!bytes) return false;
    buffer->bytes = bytes;
    buffer->room = room;
    return true;
}
