/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slot.h - the slot of a key, as the Redis Cluster specification has it
 * (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/, "Key distribution model"): CRC16 (XMODEM) modulo 16384, of what stands between the first { and the
 * first } behind it, where that is not empty, else of the whole key.
 *
 * Pure: no state.
 */
#ifndef ROUTING_SLOT_H
#define ROUTING_SLOT_H

#include "routing/slice.h"

#include <stdint.h>

uint32_t slot_of(struct slice key);

/* What of the key counts: its hash tag, or all of it. open and close are the tag's signs. */
struct slice slot_tag(struct slice key, char open, char close);

uint16_t slot_crc16(struct slice bytes);

#endif
