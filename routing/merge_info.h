/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * merge_info.h - what INFO says of several masters, as if they were one.
 *
 * The first one's lines stay in their order. Counts of what was done and sizes of what is there are added up, peaks and
 * delays are the highest, what is for people is made anew from the number it stands for, ratios from their parts; the
 * rest is the first one's. Lines that only others have (a database, a command) follow in the section they are in.
 *
 * Pure: no state.
 */
#ifndef ROUTING_MERGE_INFO_H
#define ROUTING_MERGE_INFO_H

#include "routing/merge.h"

/* Appends the text. texts are those of the nodes. */
void merge_info(const struct slice *texts, uint32_t count, struct merge_buffer *buffer);

/* Appends bytes; notes in the buffer if memory is short. */
void merge_append(struct merge_buffer *buffer, struct slice bytes);

#endif
