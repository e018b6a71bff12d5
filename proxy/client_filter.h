/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client_filter.h - which clients does CLIENT LIST or CLIENT KILL mean?
 *
 * One table has a row for each criterion: its word, how its value is read and how a client is held against
 * it. All criteria given must hold; NOT- before a word turns it round (NOT-TYPE pubsub). One that is given
 * twice holds as given last, as in Redis. Beyond those of Redis 7.0 (TYPE, ID, ADDR, LADDR, USER, SKIPME)
 * there are those of later versions and of Valkey.
 *
 * Owner:   whoever asks; allocates copies of what was given. Threads: one at a time.
 */
#ifndef PROXY_CLIENT_FILTER_H
#define PROXY_CLIENT_FILTER_H

#include "proxy/client.h"

enum client_criterion {
    CRITERION_ID,
    CRITERION_TYPE,
    CRITERION_ADDR,
    CRITERION_LADDR,
    CRITERION_USER,
    CRITERION_SKIPME,
    CRITERION_MAXAGE,
    CRITERION_IDLE,
    CRITERION_NAME,
    CRITERION_FLAGS,
    CRITERION_DB,
    CRITERION_LIB_NAME,
    CRITERION_LIB_VER,
    CRITERION_IP,
    CRITERION_COUNT,
};

/* What a criterion was given. */
struct client_criterion_value {
    bool is_set;
    int64_t number;
    char *text;   /* terminated copy; NULL where the value is a number */
    int64_t *ids; /* of CRITERION_ID, in the order given */
    size_t id_count;
};

struct client_filter {
    uint64_t asker_id;
    struct client_criterion_value values[2][CRITERION_COUNT]; /* as they are, and behind NOT- */
};

/* Whether ID takes one number (CLIENT KILL) or all that follow it (CLIENT LIST). */
enum client_filter_ids { FILTER_ONE_ID, FILTER_MANY_IDS };

/* Reads criteria into a zeroed filter. False, with Redis' words in error, if they are wrong;
 * client_filter_finish() is due in any case. */
bool client_filter_read(struct client_filter *filter, const struct slice *words, size_t count,
                        enum client_filter_ids ids, char *error, size_t error_size);

/* Only the client with this peer address: CLIENT KILL addr. False if memory is short. */
bool client_filter_address(struct client_filter *filter, struct slice address);

/* Leaves out the client that asks (or not). */
void client_filter_skip_asker(struct client_filter *filter, bool is_skipped);

bool client_filter_matches(const struct client_filter *filter, const struct client *client);
void client_filter_finish(struct client_filter *filter);

#endif
