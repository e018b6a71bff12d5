/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/script_book.h"

#include <stdlib.h>

enum { SETS = 256, WAYS = 8 };

struct entry {
    struct script_sha sha;
    enum script_place place;
    const struct connection *connection; /* while LOADING */
};

struct script_book {
    uint64_t flushes;
    uint32_t turn; /* whose place is taken next in a full set */
    struct entry entries[SETS][WAYS];
};

static struct entry *find(const struct script_book *book, const struct script_sha *sha);
static struct entry *make_room(struct script_book *book, const struct script_sha *sha);

struct script_book *script_book_create(void)
{
    return calloc(1, sizeof(struct script_book));
}

void script_book_destroy(struct script_book *book)
{
    free(book);
}

void script_book_follow(struct script_book *book, uint64_t flushes)
{
    if (book->flushes == flushes) return;
    book->flushes = flushes;
    script_book_clear(book);
}

enum script_place script_book_find(const struct script_book *book, const struct script_sha *sha,
                                   const struct connection *connection)
{
    const struct entry *entry = find(book, sha);
    if (!entry || (entry->place == SCRIPT_LOADING && entry->connection != connection)) return SCRIPT_ABSENT;
    return entry->place;
}

void script_book_loading(struct script_book *book, const struct script_sha *sha,
                         const struct connection *connection)
{
    struct entry *entry = find(book, sha);
    if (!entry) entry = make_room(book, sha);
    *entry = (struct entry){.sha = *sha, .place = SCRIPT_LOADING, .connection = connection};
}

void script_book_loaded(struct script_book *book, const struct script_sha *sha,
                        const struct connection *connection)
{
    struct entry *entry = find(book, sha);
    if (entry && entry->connection == connection)
        *entry = (struct entry){.sha = *sha, .place = SCRIPT_LOADED};
}

void script_book_drop(struct script_book *book, const struct script_sha *sha)
{
    struct entry *entry = find(book, sha);
    if (entry) *entry = (struct entry){.place = SCRIPT_ABSENT};
}

void script_book_drop_connection(struct script_book *book, const struct connection *connection)
{
    for (size_t i = 0; i < (size_t)SETS * WAYS; i++) {
        struct entry *entry = &book->entries[i / WAYS][i % WAYS];
        if (entry->connection == connection) *entry = (struct entry){.place = SCRIPT_ABSENT};
    }
}

void script_book_clear(struct script_book *book)
{
    memset(book->entries, 0, sizeof book->entries);
}

static struct entry *find(const struct script_book *book, const struct script_sha *sha)
{
    const struct entry *set = book->entries[sha->bytes[2] % SETS];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].place != SCRIPT_ABSENT && script_sha_equals(&set[i].sha, sha))
            return (struct entry *)&set[i];
    }
    return NULL;
}

static struct entry *make_room(struct script_book *book, const struct script_sha *sha)
{
    struct entry *set = book->entries[sha->bytes[2] % SETS];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].place == SCRIPT_ABSENT) return &set[i];
    }
    return &set[book->turn++ % WAYS];
}
