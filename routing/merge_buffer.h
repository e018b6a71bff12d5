/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * merge_buffer.h - the inside of a merge_buffer. For routing/merge*.c alone.
 *
 * Owner:   see merge.h. What is put is appended; false if memory is short.
 */
#ifndef ROUTING_MERGE_BUFFER_H
#define ROUTING_MERGE_BUFFER_H

#include "routing/merge.h"

/* Something that is being sorted, placed or read on; what exactly is said where it is used. */
struct merge_item {
    struct slice bytes;
    int64_t number;
    size_t position;
};

bool merge_buffer_put(struct merge_buffer *buffer, struct slice bytes);
bool merge_buffer_put_number(struct merge_buffer *buffer, int64_t number);

/* type, number, CR LF */
bool merge_buffer_put_header(struct merge_buffer *buffer, char type, int64_t number);

/* Makes what was put from `start` on a bulk string, or a verbatim string where type is '='. */
bool merge_buffer_close_text(struct merge_buffer *buffer, size_t start, char type);

/* Makes sure that there are so many items. */
bool merge_buffer_reserve_items(struct merge_buffer *buffer, size_t count);

#endif
