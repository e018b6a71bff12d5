/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/scan.h"

#include "proxy/backend.h"
#include "proxy/control.h"
#include "proxy/cursors.h"
#include "proxy/scatter.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/cursor.h"
#include "routing/number.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static enum placement check(struct client *client, const struct command_at_hand *at_hand, struct request *traits);
static bool has_odd_options(const struct command_at_hand *at_hand);
static struct slice text_of(struct slice reply);
static enum placement pass_over(struct client *client, const struct scan_cursor *scan);
static struct slice empty_page(char *reply, size_t room, const struct scan_cursor *next, uint32_t masters);
static void answer_empty(struct request *whole, const struct scan_cursor *next);
static void answer(struct request *request, struct slice reply);

enum placement scan_place(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    const struct topology *topology = client->upstream->topology;
    struct worker *worker = client->worker;
    struct scan_cursor scan = {.rank = 0};
    uint64_t cursor;
    if (!cursor_read(at_hand->words[1], &cursor))
        return PLACEMENT_GOES; /* any node says what is wrong with it */
    bool is_odd = cursor == 0 && has_odd_options(at_hand);
    if (!is_odd && (cursor == 0 || !scan_read(cursor, topology->shard_count, &scan) || scan.rank >= topology->shard_count))
        return check(client, at_hand, traits);
    int size = snprintf(worker->scan_word, sizeof worker->scan_word, "%" PRIu64, scan.place);
    worker->arguments.items[1] = (struct slice){worker->scan_word, (size_t)size};
    worker->arguments.is_canonical = false;
    traits->special = SPECIAL_NONE;
    traits->inspection = INSPECT_SCAN;
    traits->scan = cursor;
    traits->is_for_shard = true;
    traits->needs_master = true; /* replicas do not agree where in it a cursor is */
    traits->place = topology->ranked[scan.rank].shard;
    if (topology->shards[traits->place].is_spare && !upstream_master(client->upstream, traits->place))
        return pass_over(client, &scan);
    return PLACEMENT_GOES;
}

/* A master that has no slots, and is not there. */
static enum placement pass_over(struct client *client, const struct scan_cursor *scan)
{
    uint32_t masters = client->upstream->topology->shard_count;
    struct scan_cursor next = scan_after_page(scan, 0, masters);
    char reply[64];
    client_reply(client, empty_page(reply, sizeof reply, &next, masters));
    return PLACEMENT_TAKEN;
}

/* A node may have something against them, and is asked for a page at once; if it has not, another round will begin. */
static bool has_odd_options(const struct command_at_hand *at_hand)
{
    for (size_t i = 2; i < at_hand->count; i += 2) {
        const struct slice *option = &at_hand->words[i];
        bool is_count = slice_is(*option, "COUNT");
        int64_t number;
        if (i + 1 == at_hand->count || (!is_count && !slice_is(*option, "MATCH") && !slice_is(*option, "TYPE")))
            return true;
        if (is_count && (!number_read(option[1], &number) || number < 1))
            return true;
    }
    return false;
}

void scan_page(struct request *request)
{
    struct client *client = request->client;
    struct scan_cursor scan;
    uint64_t place, cursor;
    size_t head = cursors_read_reply(request, &place);
    uint32_t masters = client->upstream->topology->shard_count;
    if (head == 0 || !scan_read(request->scan, masters, &scan))
        return; /* an error */
    scan = scan_after_page(&scan, place, masters);
    if (scan_write(&scan, masters, &cursor))
        cursors_write_reply(request, head, cursor);
    else
        answer(request, SLICE("-ERR pointsman: the cursor of the node is too large to be carried\r\n"));
}

void scan_checked(struct request *whole, const struct merge_piece *pieces, uint32_t count)
{
    const struct upstream *upstream = whole->client->upstream;
    const struct topology *topology = upstream->topology;
    uint64_t hash = 0;
    bool has_moving = false, is_over = false;
    uint32_t slots = 0;
    for (uint32_t i = 0; topology->is_cluster && i < count; i++) {
        if (pieces[i].reply.size > 0 && pieces[i].reply.bytes[0] == '-') {
            answer(whole, pieces[i].reply);
            return;
        }
    }
    struct scan_cursor before = {.rank = SCAN_CHECK};
    bool has_before = whole->scan && scan_read(whole->scan, topology->shard_count, &before) && before.rank == SCAN_CHECK;
    if (topology->shard_count != count) { /* since they were asked: once more */
        answer_empty(whole, &before);
        return;
    }
    for (uint32_t rank = 0; rank < count; rank++) {
        uint32_t shard = topology->ranked[rank].shard;
        uint32_t master = topology->shards[shard].master;
        uint32_t mark = master == TOPOLOGY_NO_NODE ? 0 : upstream->by_node[master]->run_mark;
        struct slice nodes = topology->is_cluster ? text_of(pieces[shard].reply) : SLICE("");
        has_moving |= scan_add(&hash, &slots, slice_of(topology->ranked[rank].name), mark, nodes);
    }
    if (topology->is_cluster && slots < topology->slots_owned) { /* some have gone to a master that is not known yet */
        control_report(upstream->worker->group->control, upstream->index, REPORT_UNCOVERED, "");
        has_before = false;
    }
    struct scan_cursor next = scan_after_check(has_before ? &before : NULL, scan_state(hash, count), has_moving, &is_over);
    answer_empty(whole, is_over ? NULL : &next);
}

/* A page without keys. next: NULL if the scan is over. */
static void answer_empty(struct request *whole, const struct scan_cursor *next)
{
    char reply[64];
    answer(whole, empty_page(reply, sizeof reply, next, whole->client->upstream->topology->shard_count));
}

static struct slice empty_page(char *reply, size_t room, const struct scan_cursor *next, uint32_t masters)
{
    uint64_t cursor = 0;
    if (next)
        scan_write(next, masters, &cursor);
    char number[24];
    int digits = snprintf(number, sizeof number, "%" PRIu64, cursor);
    int size = snprintf(reply, room, "*2\r\n$%d\r\n%s\r\n*0\r\n", digits, number);
    return (struct slice){reply, (size_t)size};
}

static enum placement check(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    static const struct slice words[] = {{"CLUSTER", 7}, {"NODES", 5}};
    struct command_at_hand question = {.command = at_hand->command, .words = words, .count = 2, .bytes = at_hand->bytes};
    struct plan plan = {.kind = PLAN_MASTERS, .merge = MERGE_FIRST};
    cursor_read(at_hand->words[1], &traits->scan);
    traits->inspection = INSPECT_SCAN_CHECK;
    traits->special = SPECIAL_SCAN; /* so that connections learn which run they lead to (cursors.h) */
    traits->is_read = traits->needs_master = true;
    return scatter_take(client, &question, traits, &plan) || client->is_closed ? PLACEMENT_TAKEN : PLACEMENT_STALLED;
}

/* What a bulk or verbatim string says. */
static struct slice text_of(struct slice reply)
{
    size_t position = 0;
    struct resp_value value;
    return resp_value_next(reply, &position, &value) && !value.is_null ? value.text : SLICE("");
}

static void answer(struct request *request, struct slice reply)
{
    struct chunk_pool *pool = &request->client->worker->chunks;
    spans_clear(pool, &request->reply);
    spans_add_copy(pool, &request->reply, reply);
}
