/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * md5.h - MD5 as RFC 1321 has it, to spread keys and never to protect anything.
 *
 * Pure: no state.
 */
#ifndef ROUTING_MD5_H
#define ROUTING_MD5_H

#include "routing/slice.h"

#include <stdint.h>

#define MD5_WORDS 4

/* The digest as four numbers, each of four bytes of it, the lowest byte first. */
void md5(struct slice bytes, uint32_t digest[MD5_WORDS]);

#endif
