/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/tally.h"

#include "proxy/backend.h"
#include "proxy/connection.h"
#include "proxy/scatter.h"
#include "proxy/upstream.h"

#include <stdlib.h>

enum {
    ROOM_FIRST = 64, /* a power of two */

    KEY_NONE = 0,
    KEY_ALL,     /* every request, besides where else it belongs */
    KEY_NOWHERE, /* of no place: in the way of all */
    KEY_PLACES,  /* and on: of one place */
    KEY_SHARDS = KEY_PLACES + TOPOLOGY_SLOTS, /* and on: for one shard, whatever keys it has */
};

enum { KINDS = 2 }; /* [is_read] */

/* The order of the newest, or oldest, of some. */
struct mark {
    uint32_t order;
    bool is_set;
};

struct record {
    uint32_t key;
    uint32_t queued[KINDS];
    uint32_t aside[KINDS];
    struct mark oldest_aside[KINDS]; /* of those aside now, or older */
    struct mark newest_done[KINDS];
    struct mark newest_lost;
    const struct backend *backend; /* that all queued are at; NULL: at several */
};

struct tally {
    struct record *records; /* found by key; neighbours where that is taken */
    uint32_t count, room;
    bool is_short; /* of memory: it knows nothing any more */
};

typedef bool record_test(const struct record *record, const struct request *request, uint16_t shard);
typedef void record_change(struct record *record, const struct request *request);

static void count_request(struct request *request);
static void apply(record_change *change, const struct request *request);
static void add_queued(struct record *record, const struct request *request);
static void remove_queued(struct record *record, const struct request *request);
static void add_effect(struct record *record, const struct request *request);
static void add_aside(struct record *record, const struct request *request);
static void remove_aside(struct record *record, const struct request *request);
static void keep_newest(struct mark *mark, uint32_t order);
static bool is_any(const struct client *client, const struct request *request, record_test *test);
static bool is_at(const struct tally *tally, uint32_t key, record_test *test, const struct request *request,
                  uint16_t shard);
static bool is_queued(const struct record *record, const struct request *request, uint16_t shard);
static bool is_elsewhere(const struct record *record, const struct request *request, uint16_t shard);
static bool is_overtaking(const struct record *record, const struct request *request, uint16_t shard);
static bool is_overtaken(const struct record *record, const struct request *by, uint16_t shard);
static bool is_newer(const struct mark *mark, const struct request *request);
static uint32_t key_of(const struct request *request);
static struct record *record_of(struct tally *tally, uint32_t key);
static struct record *find(struct record *records, uint32_t room, uint32_t key);
static bool grow(struct tally *tally);

/* ---- counting ---- */

void tally_create(struct client *client)
{
    struct tally *tally = client->tally = calloc(1, sizeof *client->tally);
    if (!tally) return;
    tally->is_short = !grow(tally);
    for (struct request *each = client->first; each; each = each->next_of_client) {
        if (each->scatter)
            scatter_visit(each, count_request);
        else
            count_request(each);
    }
    for (const struct request *each = client->again.first; each; each = each->next)
        tally_set_aside(each);
}

static void count_request(struct request *request)
{
    if (request->state == REQUEST_QUEUED && request->connection)
        tally_take(request);
    else if (request->state == REQUEST_ANSWERED)
        tally_answer(request);
}

void tally_destroy(struct client *client)
{
    if (!client->tally) return;
    free(client->tally->records);
    free(client->tally);
    client->tally = NULL;
}

void tally_take(struct request *request)
{
    request->is_tallied = true;
    apply(add_queued, request);
}

void tally_release(struct request *request)
{
    if (!request->is_tallied) return;
    request->is_tallied = false;
    if (request->client && request->client->tally) apply(remove_queued, request);
}

void tally_answer(struct request *request)
{
    tally_release(request);
    if (request->effect != AGAIN_NONE) apply(add_effect, request);
}

void tally_set_aside(const struct request *request)
{
    apply(add_aside, request);
}

void tally_take_up(const struct request *request)
{
    apply(remove_aside, request);
}

static void apply(record_change *change, const struct request *request)
{
    struct tally *tally = request->client->tally;
    const uint32_t keys[] = {key_of(request), KEY_ALL};
    for (int i = 0; i < 2; i++) {
        struct record *record = record_of(tally, keys[i]);
        if (record) change(record, request);
    }
}

static void add_queued(struct record *record, const struct request *request)
{
    const struct backend *backend = request->connection->backend;
    bool is_first = record->queued[false] + record->queued[true] == 0;
    record->backend = is_first || record->backend == backend ? backend : NULL;
    record->queued[request->is_read]++;
}

static void remove_queued(struct record *record, const struct request *request)
{
    record->queued[request->is_read]--;
}

static void add_effect(struct record *record, const struct request *request)
{
    keep_newest(request->effect == AGAIN_LOST ? &record->newest_lost : &record->newest_done[request->is_read],
                request->order);
}

static void add_aside(struct record *record, const struct request *request)
{
    struct mark *oldest = &record->oldest_aside[request->is_read];
    if (record->aside[request->is_read]++ == 0 || (int32_t)(request->order - oldest->order) < 0)
        *oldest = (struct mark){request->order, true};
}

static void remove_aside(struct record *record, const struct request *request)
{
    if (--record->aside[request->is_read] == 0) record->oldest_aside[request->is_read].is_set = false;
}

static void keep_newest(struct mark *mark, uint32_t order)
{
    if (!mark->is_set || (int32_t)(order - mark->order) > 0) *mark = (struct mark){order, true};
}

/* ---- questions ---- */

bool tally_has_queued(const struct client *client, const struct request *request)
{
    return is_any(client, request, is_queued);
}

bool tally_has_elsewhere(const struct client *client, const struct request *request)
{
    return is_any(client, request, is_elsewhere);
}

bool tally_has_overtaken(const struct client *client, const struct request *request)
{
    return is_any(client, request, is_overtaking);
}

bool tally_has_aside(const struct client *client, const struct request *by)
{
    return is_any(client, by, is_overtaken);
}

/* Wherever there may be what again_is_order() says is not to be done in another order than the request. */
static bool is_any(const struct client *client, const struct request *request, record_test *test)
{
    const struct tally *tally = client->tally;
    const struct upstream *upstream = client->upstream;
    if (tally->is_short || !upstream->is_sharded) return true;
    uint16_t shard = upstream_shard_of(upstream, request);
    if (request->is_for_shard || request->place == REQUEST_PLACE_NONE || shard == TOPOLOGY_NO_SHARD)
        return is_at(tally, KEY_ALL, test, request, shard);
    return is_at(tally, key_of(request), test, request, shard) ||
           is_at(tally, KEY_NOWHERE, test, request, shard) ||
           is_at(tally, KEY_SHARDS + shard, test, request, shard);
}

static bool is_at(const struct tally *tally, uint32_t key, record_test *test, const struct request *request,
                  uint16_t shard)
{
    const struct record *record = find(tally->records, tally->room, key);
    return record->key == key && test(record, request, shard);
}

static bool is_queued(const struct record *record, const struct request *request, uint16_t shard)
{
    (void)shard;
    return record->queued[false] > 0 || (!request->is_read && record->queued[true] > 0);
}

static bool is_elsewhere(const struct record *record, const struct request *request, uint16_t shard)
{
    return is_queued(record, request, shard) && (!record->backend || record->backend->shard != shard);
}

/* That something is lost is of no interest to a read. */
static bool is_overtaking(const struct record *record, const struct request *request, uint16_t shard)
{
    (void)shard;
    if (is_newer(&record->newest_done[false], request)) return true;
    return !request->is_read &&
           (is_newer(&record->newest_done[true], request) || is_newer(&record->newest_lost, request));
}

static bool is_overtaken(const struct record *record, const struct request *by, uint16_t shard)
{
    (void)shard;
    for (int kind = 0; kind < KINDS; kind++) {
        const struct mark *oldest = &record->oldest_aside[kind];
        bool is_of_interest = !kind || (!by->is_read && by->effect != AGAIN_LOST);
        if (is_of_interest && oldest->is_set && (int32_t)(oldest->order - by->order) < 0) return true;
    }
    return false;
}

static bool is_newer(const struct mark *mark, const struct request *request)
{
    return mark->is_set && (int32_t)(mark->order - request->order) > 0;
}

/* ---- records ---- */

static uint32_t key_of(const struct request *request)
{
    if (request->place == REQUEST_PLACE_NONE) return KEY_NOWHERE;
    return (request->is_for_shard ? KEY_SHARDS : KEY_PLACES) + (uint32_t)request->place;
}

/* Made if need be; NULL if memory is short. */
static struct record *record_of(struct tally *tally, uint32_t key)
{
    if (tally->is_short) return NULL;
    struct record *record = find(tally->records, tally->room, key);
    if (record->key == key) return record;
    if (2 * (tally->count + 1) > tally->room) {
        tally->is_short = !grow(tally);
        return record_of(tally, key);
    }
    tally->count++;
    record->key = key;
    return record;
}

/* That of the key, or where it would be. */
static struct record *find(struct record *records, uint32_t room, uint32_t key)
{
    uint32_t at = key * 2654435761U >> 16;
    while (records[at & (room - 1)].key != KEY_NONE && records[at & (room - 1)].key != key)
        at++;
    return &records[at & (room - 1)];
}

static bool grow(struct tally *tally)
{
    uint32_t room = tally->room ? 2 * tally->room : ROOM_FIRST;
    struct record *records = calloc(room, sizeof *records);
    if (!records) return false;
    for (uint32_t i = 0; i < tally->room; i++) {
        if (tally->records[i].key != KEY_NONE)
            *find(records, room, tally->records[i].key) = tally->records[i];
    }
    free(tally->records);
    tally->records = records;
    tally->room = room;
    return true;
}
