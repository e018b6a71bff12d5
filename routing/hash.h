/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hash.h - the functions by which proxies before us spread keys over servers.
 *
 * Each gives the numbers that twemproxy 0.5 gives on x86-64, whose chars are signed: several of its functions
 * differ from what their names mean elsewhere, and keys stay where they are only if ours differ alike. What
 * is different stands beside each function; tests/integration/test_distribution.py compares them with
 * nutcracker. atol and crc16_predixy are those of predixy.
 *
 * Pure: no state.
 */
#ifndef ROUTING_HASH_H
#define ROUTING_HASH_H

#include "routing/slice.h"

#include <stdint.h>

enum hash {
    HASH_ONE_AT_A_TIME,
    HASH_MD5,
    HASH_CRC16,
    HASH_CRC32,
    HASH_CRC32A,
    HASH_FNV1_64,
    HASH_FNV1A_64,
    HASH_FNV1_32,
    HASH_FNV1A_32,
    HASH_HSIEH,
    HASH_MURMUR,
    HASH_JENKINS,
    HASH_CRC16_PREDIXY,
    HASH_ATOL,
};

/* As users write them, in the order of enum hash; ends with NULL. */
extern const char *const hash_names[];

/* All but HASH_ATOL give 32 bits. */
uint64_t hash_of(enum hash hash, struct slice key);

#endif
