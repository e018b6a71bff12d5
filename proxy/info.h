/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * info.h - one field of a reply to INFO.
 *
 * Threads: any.
 */
#ifndef PROXY_INFO_H
#define PROXY_INFO_H

#include "routing/slice.h"

/* Copies the value of "key:value" into out, cut to its size and NUL-terminated; "" if the key is not there.
 * Returns whether it is. */
bool info_copy(struct slice text, const char *key, char *out, size_t size);

#endif
