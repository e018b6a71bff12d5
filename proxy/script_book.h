/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * script_book.h - which scripts does a node have, as far as one worker knows?
 *
 *             SCRIPT LOAD queued on a connection          answered
 *   ABSENT --------------------------------------> LOADING ------> LOADED
 *      ^                                             |                |
 *      '----- that connection closed ----------------'                |
 *      '----- a connection broke, the node refused, SCRIPT FLUSH -----'
 *
 * While it is being loaded on one connection, it is there for what is queued behind on the same, and for
 * nobody else. ABSENT means no more than that it must be loaded to be sure: it is also what an entry becomes
 * that had to make room for another (8 of one set).
 *
 * Owner:   a backend. Threads: one worker only.
 */
#ifndef PROXY_SCRIPT_BOOK_H
#define PROXY_SCRIPT_BOOK_H

#include "proxy/script_store.h"

struct connection;
struct script_book;

enum script_place { SCRIPT_ABSENT, SCRIPT_LOADING, SCRIPT_LOADED };

/* NULL if memory is short. */
struct script_book *script_book_create(void);
void script_book_destroy(struct script_book *book);

/* Forgets all if scripts were flushed since the last call. */
void script_book_follow(struct script_book *book, uint64_t flushes);

/* Where it is for a command that is queued on that connection next. */
enum script_place script_book_find(const struct script_book *book, const struct script_sha *sha,
                                   const struct connection *connection);

/* It is on its way on that connection; it has come there, if it still counts as being on its way. */
void script_book_loading(struct script_book *book, const struct script_sha *sha,
                         const struct connection *connection);
void script_book_loaded(struct script_book *book, const struct script_sha *sha,
                        const struct connection *connection);

/* Loading it failed. */
void script_book_drop(struct script_book *book, const struct script_sha *sha);

/* What was on its way on that connection did not come. */
void script_book_drop_connection(struct script_book *book, const struct connection *connection);
void script_book_clear(struct script_book *book);

#endif
