/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * script_store.h - the scripts that clients have sent, by their SHA1, so that a node that lacks one can be
 * given it.
 *
 * Bounded in number and bytes; a script larger than SCRIPT_BODY_MOST is not kept. When it is full, those go
 * first that were only ever evaluated, the longest unused of them first; then those that were loaded or
 * called by their SHA1.
 *
 * Two counters let others know cheaply whether what they remember still holds: `flushes` grows when nodes may
 * have forgotten their scripts (SCRIPT FLUSH), `additions` when a script is new here.
 *
 * Owner:   whoever created it.
 * Threads: any; a mutex inside, the counters without.
 */
#ifndef PROXY_SCRIPT_STORE_H
#define PROXY_SCRIPT_STORE_H

#include "proxy/chunk.h"

enum {
    SCRIPT_SHA_SIZE = 20,
    SCRIPT_BODY_MOST = 128 * 1024,
    SCRIPT_COUNT_MOST = 2048,
    SCRIPT_BYTES_MOST = 16 * 1024 * 1024,
};

struct script_sha {
    unsigned char bytes[SCRIPT_SHA_SIZE];
};

enum script_use { SCRIPT_EVALUATED, SCRIPT_CALLED /* loaded, or called by its SHA1 */ };

struct script_store;

/* Reads 40 hexadecimal digits in either case; false if the word is anything else. */
bool script_sha_read(struct slice word, struct script_sha *sha);
void script_sha_of(struct slice body, struct script_sha *sha);

static inline bool script_sha_equals(const struct script_sha *a, const struct script_sha *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* NULL if memory is short. */
struct script_store *script_store_create(size_t count_most, size_t bytes_most);
void script_store_destroy(struct script_store *store);

/* Keeps a copy of the body, or notes that it was used again. */
void script_store_add(struct script_store *store, const struct script_sha *sha, struct slice body,
                      enum script_use use);

/* True if it is there; it counts as called then. */
bool script_store_has(struct script_store *store, const struct script_sha *sha);

/* A copy of the body with one reference; NULL if it is not there or memory is short. */
struct chunk *script_store_copy(struct script_store *store, const struct script_sha *sha);

/* Drops all scripts. */
void script_store_flush(struct script_store *store);

/* Nodes may have forgotten scripts that are still here. */
void script_store_doubt(struct script_store *store);

uint64_t script_store_flushes(const struct script_store *store);
uint64_t script_store_additions(const struct script_store *store);

#endif
