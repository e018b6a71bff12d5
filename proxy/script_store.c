/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/script_store.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { BUCKETS = 1024, USES = 2 };

struct script {
    struct script *next_in_bucket;
    struct script *newer, *older; /* of the same use */
    struct script_sha sha;
    enum script_use use;
    size_t size;
    char body[];
};

struct script_list {
    struct script *newest, *oldest;
};

struct script_store {
    pthread_mutex_t mutex;
    struct script *buckets[BUCKETS];
    struct script_list lists[USES];
    size_t count, count_most;
    size_t bytes, bytes_most;
    _Atomic uint64_t flushes, additions;
};

static struct script **find(struct script_store *store, const struct script_sha *sha);
static void used(struct script_store *store, struct script *script, enum script_use use);
static void make_room(struct script_store *store, size_t bytes);
static void drop(struct script_store *store, struct script *script);
static void list_push(struct script_list *list, struct script *script);
static void list_remove(struct script_list *list, struct script *script);

bool script_sha_read(struct slice word, struct script_sha *sha)
{
    if (word.size != 2 * (size_t)SCRIPT_SHA_SIZE) return false;
    for (size_t i = 0; i < word.size; i++) {
        unsigned char letter = (unsigned char)word.bytes[i];
        unsigned digit = letter - (unsigned)'0';
        if (digit > 9) {
            digit = (letter | 0x20U) - (unsigned)'a' + 10;
            if (digit < 10 || digit > 15) return false;
        }
        sha->bytes[i / 2] = (unsigned char)(i % 2 ? (unsigned)sha->bytes[i / 2] << 4 | digit : digit);
    }
    return true;
}

void script_sha_of(struct slice body, struct script_sha *sha)
{
    SHA1((const unsigned char *)body.bytes, body.size, sha->bytes);
}

struct script_store *script_store_create(size_t count_most, size_t bytes_most)
{
    struct script_store *store = calloc(1, sizeof *store);
    if (!store) return NULL;
    store->count_most = count_most;
    store->bytes_most = bytes_most;
    pthread_mutex_init(&store->mutex, NULL);
    return store;
}

void script_store_destroy(struct script_store *store)
{
    if (!store) return;
    script_store_flush(store);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

void script_store_add(struct script_store *store, const struct script_sha *sha, struct slice body,
                      enum script_use use)
{
    if (body.size > SCRIPT_BODY_MOST || body.size > store->bytes_most) return;
    pthread_mutex_lock(&store->mutex);
    struct script *script = *find(store, sha);
    if (script) {
        used(store, script, use);
    } else if ((script = malloc(sizeof *script + body.size))) {
        make_room(store, body.size);
        *script = (struct script){.sha = *sha, .use = use, .size = body.size};
        memcpy(script->body, body.bytes, body.size);
        *find(store, sha) = script;
        list_push(&store->lists[use], script);
        store->count++;
        store->bytes += body.size;
        atomic_fetch_add_explicit(&store->additions, 1, memory_order_release);
    }
    pthread_mutex_unlock(&store->mutex);
}

bool script_store_has(struct script_store *store, const struct script_sha *sha)
{
    pthread_mutex_lock(&store->mutex);
    struct script *script = *find(store, sha);
    if (script) used(store, script, SCRIPT_CALLED);
    pthread_mutex_unlock(&store->mutex);
    return script != NULL;
}

struct chunk *script_store_copy(struct script_store *store, const struct script_sha *sha)
{
    pthread_mutex_lock(&store->mutex);
    const struct script *script = *find(store, sha);
    struct chunk *copy = script ? chunk_copy((struct slice){script->body, script->size}) : NULL;
    pthread_mutex_unlock(&store->mutex);
    return copy;
}

void script_store_flush(struct script_store *store)
{
    pthread_mutex_lock(&store->mutex);
    for (int use = 0; use < USES; use++) {
        while (store->lists[use].oldest)
            drop(store, store->lists[use].oldest);
    }
    script_store_doubt(store);
    pthread_mutex_unlock(&store->mutex);
}

void script_store_doubt(struct script_store *store)
{
    atomic_fetch_add_explicit(&store->flushes, 1, memory_order_release);
}

uint64_t script_store_flushes(const struct script_store *store)
{
    return atomic_load_explicit(&store->flushes, memory_order_acquire);
}

uint64_t script_store_additions(const struct script_store *store)
{
    return atomic_load_explicit(&store->additions, memory_order_acquire);
}

/* The link that leads to it, or the one where it would be put. */
static struct script **find(struct script_store *store, const struct script_sha *sha)
{
    size_t bucket = ((size_t)sha->bytes[0] << 8 | sha->bytes[1]) % BUCKETS;
    struct script **link = &store->buckets[bucket];
    while (*link && !script_sha_equals(&(*link)->sha, sha))
        link = &(*link)->next_in_bucket;
    return link;
}

/* What was called once is not thought of less because it is evaluated again. */
static void used(struct script_store *store, struct script *script, enum script_use use)
{
    list_remove(&store->lists[script->use], script);
    if (use == SCRIPT_CALLED) script->use = use;
    list_push(&store->lists[script->use], script);
}

static void make_room(struct script_store *store, size_t bytes)
{
    while (store->count > 0 &&
           (store->count >= store->count_most || store->bytes + bytes > store->bytes_most)) {
        struct script *oldest = store->lists[SCRIPT_EVALUATED].oldest;
        drop(store, oldest ? oldest : store->lists[SCRIPT_CALLED].oldest);
    }
}

static void drop(struct script_store *store, struct script *script)
{
    *find(store, &script->sha) = script->next_in_bucket;
    list_remove(&store->lists[script->use], script);
    store->count--;
    store->bytes -= script->size;
    free(script);
}

static void list_push(struct script_list *list, struct script *script)
{
    script->newer = NULL;
    script->older = list->newest;
    if (list->newest)
        list->newest->newer = script;
    else
        list->oldest = script;
    list->newest = script;
}

static void list_remove(struct script_list *list, struct script *script)
{
    if (script->newer)
        script->newer->older = script->older;
    else
        list->newest = script->older;
    if (script->older)
        script->older->newer = script->newer;
    else
        list->oldest = script->newer;
}
