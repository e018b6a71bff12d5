/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * merge_info.h - the texts of several masters' INFO become one. For routing/merge.c.
 *
 * The first one's lines, in its order. What counts or measures is added up; what cannot be added is the
 * greatest, the least, or worked out anew from what was added up; what the table does not have is the first
 * one's. Lines that only others have (a database, the calls of a command) stand at the end of their section.
 *
 * Pure.
 */
#ifndef ROUTING_MERGE_INFO_H
#define ROUTING_MERGE_INFO_H

#include "routing/merge_buffer.h"

/* bytes of each item is a text; position is used for finding. False if memory is short. */
bool merge_info(struct merge_item *texts, uint32_t count, struct merge_buffer *buffer);

#endif
