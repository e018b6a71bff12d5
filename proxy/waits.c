/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/waits.h"

#include "proxy/backend.h"
#include "proxy/connection.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct waits {
    struct client *client; /* NULL: it has gone */
    struct request *whole;
    uint32_t count, left;
    int64_t least;
    bool has_failed;
    struct wait_for {
        struct inquiry inquiry;
        struct waits *waits;
        struct connection *connection; /* NULL: answered */
    } each[];
};

static bool ask(struct waits *waits, uint32_t index, const struct command_at_hand *at_hand);
static void answered(struct inquiry *inquiry, struct slice reply);
static void settle(struct waits *waits);

void waits_begin(struct client *client, const struct command_at_hand *at_hand, const struct request *traits)
{
    uint32_t count = client->upstream->topology->shard_count;
    for (uint32_t shard = 0; shard < count; shard++) {
        if (!upstream_master(client->upstream, (uint16_t)shard)) {
            client_reply(client, error_reply(ERROR_NO_MASTER));
            return;
        }
    }
    struct waits *waits = calloc(1, sizeof *waits + count * sizeof *waits->each);
    struct request *whole = waits ? client_append(client, traits) : NULL;
    if (!whole) {
        free(waits);
        client_close(client, "out of memory");
        return;
    }
    whole->state = REQUEST_SCATTERED;
    whole->inspection = INSPECT_NOTHING;
    *waits = (struct waits){.client = client, .whole = whole, .count = count, .left = 1, .least = INT64_MAX};
    client->waits = waits;
    client_stall(client, STALL_WAITS);
    for (uint32_t i = 0; i < count; i++) {
        if (!ask(waits, i, at_hand))
            waits->has_failed = true;
    }
    waits->left--; /* it was held until all have been asked */
    settle(waits);
}

void waits_abandon(struct client *client)
{
    struct waits *waits = client->waits;
    struct worker *worker = client->worker;
    client->waits = NULL;
    request_destroy(&worker->requests, &worker->chunks, waits->whole);
    waits->client = NULL;
    waits->left++; /* it must not end in the midst of this */
    for (uint32_t i = 0; i < waits->count; i++) {
        if (waits->each[i].connection)
            connection_close(waits->each[i].connection, OUTCOME_CUT, NULL);
    }
    waits->left--;
    settle(waits);
}

/* False if there is no connection for it. */
static bool ask(struct waits *waits, uint32_t index, const struct command_at_hand *at_hand)
{
    struct wait_for *wait = &waits->each[index];
    struct backend *backend = upstream_master(waits->client->upstream, (uint16_t)index);
    struct connection *connection = backend ? backend_open_ear(backend, 2) : NULL;
    if (!connection)
        return false;
    *wait = (struct wait_for){.inquiry.answered = answered, .waits = waits, .connection = connection};
    bool is_asked = connection_mark(connection) &&
                    connection_inquire(connection, at_hand->words, at_hand->count, 0, &wait->inquiry);
    if (!is_asked) {
        wait->connection = NULL;
        connection_close(connection, OUTCOME_CUT, NULL);
        return false;
    }
    connection->is_retiring = true; /* it is for nothing else */
    waits->left++;
    return true;
}

static void answered(struct inquiry *inquiry, struct slice reply)
{
    struct wait_for *wait = (struct wait_for *)((char *)inquiry - offsetof(struct wait_for, inquiry));
    struct waits *waits = wait->waits;
    size_t position = 0;
    struct resp_value value;
    wait->connection = NULL;
    if (resp_value_next(reply, &position, &value) && value.type == ':')
        waits->least = value.integer < waits->least ? value.integer : waits->least;
    else
        waits->has_failed = true;
    waits->left--;
    settle(waits);
}

/* When all have answered. */
static void settle(struct waits *waits)
{
    struct client *client = waits->client;
    if (waits->left > 0)
        return;
    if (client) {
        struct chunk_pool *pool = &client->worker->chunks;
        char number[32];
        int size = snprintf(number, sizeof number, ":%" PRId64 "\r\n", waits->least);
        struct slice reply = {number, (size_t)size};
        spans_add_copy(pool, &waits->whole->reply, waits->has_failed ? error_reply(ERROR_WAIT_SEVERAL) : reply);
        client->waits = NULL;
        client->stall = STALL_NONE;
        client_finish_whole(waits->whole);
        worker_resume_client(client->worker, client);
    }
    free(waits);
}
