/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/scatter.h"

#include "proxy/backend.h"
#include "proxy/handler.h"
#include "proxy/scan.h"
#include "proxy/touch.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#include <stdlib.h>

enum {
    INTAKE_MOST = 16 * 1024,       /* bytes of pieces that lie where what comes from sockets does */
    SMALL_BYTES = 1024,            /* of a scatter that comes from the pool: up to a dozen keys */
    MERGED_KEPT = 4 * 1024 * 1024, /* bytes of memory for replies that are kept for the next one */
    SCRIPT_MS = 6000, /* by then a node says that a script runs (busy-reply-threshold, 5 s where nobody has changed it) */
};

struct scatter {
    struct request *whole;
    enum merge_policy policy;
    bool is_write;
    bool is_small;  /* of the pool */
    uint32_t count; /* of pieces */
    uint32_t left;  /* ... that are not answered */
    uint32_t limit; /* of entries; see plan.h */
    uint32_t shard_count; /* there were when it began */
    uint64_t began_ms;
    uint32_t *order;
    struct merge_piece *replies; /* while merging only */
    size_t *sizes;               /* of the pieces' bytes; of what goes to all nodes one. While sending only */
    struct scattered {
        struct request *request; /* NULL: not made yet */
        struct chunk *joined;    /* its reply, where that came in several parts; while merging only */
        uint32_t first, count;   /* of its keys, in order */
        uint32_t shard;          /* that it is for, whatever keys it has */
        uint32_t replica;        /* that it is for; TOPOLOGY_NO_NODE: it is for a master */
    } pieces[];
};

static void send_pieces(struct client *client, const struct command_at_hand *at_hand, const struct request *traits,
                        const struct plan *plan, struct request *piece, struct scatter *scatter, uint32_t count);
static uint32_t piece_in_turn(const struct plan *plan, uint32_t turn, uint32_t count);
static struct scatter *create(struct worker *worker, const struct plan *plan, uint32_t count, uint32_t room);
static void destroy(struct worker *worker, struct scatter *scatter);
static uint32_t find_nodes(const struct client *client, const struct request *traits, const struct plan *plan,
                           struct scattered *pieces);
static bool may_be_missing(const struct client *client, const struct plan *plan, uint32_t shard);
static bool is_missing(const struct upstream *upstream, uint16_t shard);
static bool is_there(const struct upstream *upstream, uint32_t node);
static bool is_busy(const struct upstream *upstream, uint32_t node);
static void direct(const struct client *client, const struct request *traits, const struct plan *plan,
                   const struct scattered *scattered, struct request *piece);
static struct request traits_of_piece(const struct request *traits, const struct plan *plan, uint32_t index);
static void place_piece(struct request *piece, const struct plan *plan, uint32_t index);
static void direct_to_replica(const struct upstream *upstream, struct request *piece, uint32_t replica);
static bool may_go(const struct client *client, const struct request *traits, const struct plan *plan);
static bool encode(struct client *client, const struct command_at_hand *at_hand, const struct plan *plan,
                   struct scatter *scatter, struct request *piece);
static void merge(struct scatter *scatter);
static struct slice reply_of(struct scattered *piece);
static void release_pieces(struct client *client, struct scatter *scatter);

bool scatter_take(struct client *client, const struct command_at_hand *at_hand, const struct request *traits,
                  const struct plan *plan)
{
    if (!may_go(client, traits, plan))
        return client_stall(client, STALL_DRAINED);
    uint32_t shard_count = client->upstream->topology->shard_count;
    bool is_check = traits->inspection == INSPECT_SCAN_CHECK;
    uint32_t count = plan->kind == PLAN_SPLIT ? plan->piece_count : find_nodes(client, traits, plan, NULL);
    struct scatter *scatter = create(client->worker, plan, count, is_check ? shard_count : count);
    struct request piece = traits_of_piece(traits, plan, 0);
    bool is_encoded = scatter && encode(client, at_hand, plan, scatter, &piece);
    struct request *whole = is_encoded ? client_append(client, traits) : NULL;
    if (!whole) {
        destroy(client->worker, scatter);
        chunk_release(&client->worker->chunks, piece.chunk);
        client_close(client, "out of memory");
        return false;
    }
    whole->scatter = scatter;
    whole->state = REQUEST_SCATTERED;
    scatter->whole = whole;
    scatter->began_ms = client->worker->now_ms;
    scatter->shard_count = shard_count;
    scatter->is_write = !traits->is_read;
    if (plan->kind != PLAN_SPLIT)
        find_nodes(client, traits, plan, scatter->pieces);
    send_pieces(client, at_hand, traits, plan, &piece, scatter, count);
    chunk_release(&client->worker->chunks, piece.chunk);
    return !client->is_closed;
}

/* The scatter may be gone when the last is sent. */
static void send_pieces(struct client *client, const struct command_at_hand *at_hand, const struct request *traits,
                        const struct plan *plan, struct request *piece, struct scatter *scatter, uint32_t count)
{
    const char *bytes = piece->bytes;
    struct chunk *chunk = piece->chunk;
    for (uint32_t turn = 0; turn < count && !client->is_closed; turn++) {
        uint32_t i = piece_in_turn(plan, turn, count);
        struct scattered *scattered = &scatter->pieces[i];
        if (plan->kind == PLAN_SPLIT)
            place_piece(piece, plan, i);
        else
            direct(client, traits, plan, scattered, piece);
        piece->scatter = scatter;
        piece->chunk = chunk;
        piece->bytes = bytes;
        piece->size = scatter->sizes[plan->kind == PLAN_SPLIT ? i : 0];
        piece->touches = NULL;
        bytes += plan->kind == PLAN_SPLIT ? piece->size : 0;
        if (!touch_piece(client, at_hand, plan, i, piece)) {
            request_give_touches(&client->worker->requests, piece->touches);
            client_close(client, "out of memory");
            return;
        }
        client_send_piece(client, piece, &scattered->request);
    }
}

/* Those of one shard leave side by side; replicas go before masters, since these may have to be waited for. */
static uint32_t piece_in_turn(const struct plan *plan, uint32_t turn, uint32_t count)
{
    if (plan->kind == PLAN_SPLIT)
        return plan->sequence[turn];
    return plan->kind == PLAN_NODES ? count - 1 - turn : turn;
}

void scatter_answered(struct request *piece)
{
    struct scatter *scatter = piece->scatter;
    struct client *client = piece->client;
    struct request *whole = scatter->whole;
    client->stored_bytes += piece->reply.bytes;
    if (piece->is_for_shard && whole->effect != AGAIN_DONE && piece->effect != AGAIN_NONE)
        whole->effect = piece->effect;
    if (--scatter->left > 0)
        return;
    merge(scatter);
    release_pieces(client, scatter);
    whole->scatter = NULL;
    destroy(client->worker, scatter);
    client_finish_whole(whole);
}

bool scatter_is_any(const struct request *whole, again_test *test, const struct request *other)
{
    const struct scatter *scatter = whole->scatter;
    for (uint32_t i = 0; i < scatter->count; i++) {
        if (scatter->pieces[i].request && test(scatter->pieces[i].request, other))
            return true;
    }
    return false;
}

bool scatter_may_leave_out(const struct request *piece)
{
    const struct scatter *scatter = piece->is_spare ? piece->scatter : NULL;
    uint64_t patience_ms = scatter && scatter->policy == MERGE_ONE_OK ? SCRIPT_MS : 0;
    return scatter && piece->client && piece->client->worker->now_ms >= scatter->began_ms + patience_ms;
}

/* Another stands in for it with the scatter; it stays in its connection's queue, as one without a client. */
bool scatter_leave_out(struct request *piece)
{
    struct scatter *scatter = piece->scatter;
    struct client *client = piece->client;
    struct request *instead = request_create(&client->worker->requests);
    if (!instead)
        return false;
    *instead = *piece;
    chunk_take(instead->chunk);
    instead->next = NULL;
    instead->connection = NULL;
    instead->reply = (struct spans){0};
    instead->state = REQUEST_NEW;
    instead->is_skipped = true;
    for (uint32_t i = 0; i < scatter->count; i++) {
        if (scatter->pieces[i].request == piece)
            scatter->pieces[i].request = instead;
    }
    client_unrouted(client, piece->connection);
    piece->client = NULL;
    piece->scatter = NULL;
    client_finish(instead);
    return true;
}

void scatter_visit(const struct request *whole, void (*visit)(struct request *piece))
{
    const struct scatter *scatter = whole->scatter;
    for (uint32_t i = 0; i < scatter->count; i++) {
        if (scatter->pieces[i].request)
            visit(scatter->pieces[i].request);
    }
}

void scatter_abandon(struct client *client, struct request *whole)
{
    struct worker *worker = client->worker;
    release_pieces(client, whole->scatter);
    destroy(worker, whole->scatter);
    request_destroy(&worker->requests, &worker->chunks, whole);
}

/* room: for replies to be merged. */
static struct scatter *create(struct worker *worker, const struct plan *plan, uint32_t count, uint32_t room)
{
    size_t keys = plan->kind == PLAN_SPLIT ? plan->key_count : 0;
    size_t size = sizeof(struct scatter) + count * sizeof(struct scattered) + room * sizeof(struct merge_piece) +
                  (count + 1) * sizeof(size_t) + keys * sizeof(uint32_t);
    bool is_small = size <= SMALL_BYTES;
    struct scatter *scatter = is_small ? slab_take(&worker->requests.scatters, SMALL_BYTES) : malloc(size);
    if (!scatter)
        return NULL;
    *scatter = (struct scatter){.policy = plan->merge, .count = count, .left = count, .limit = plan->limit};
    scatter->is_small = is_small;
    scatter->replies = (struct merge_piece *)&scatter->pieces[count];
    scatter->sizes = (size_t *)&scatter->replies[room];
    scatter->order = (uint32_t *)&scatter->sizes[count + 1];
    if (keys)
        memcpy(scatter->order, plan->order, keys * sizeof *scatter->order);
    for (uint32_t i = 0; i < count; i++) {
        scatter->pieces[i] = (struct scattered){.replica = TOPOLOGY_NO_NODE};
        if (keys) {
            scatter->pieces[i].first = plan->pieces[i].first;
            scatter->pieces[i].count = plan->pieces[i].count;
        }
    }
    return scatter;
}

static void destroy(struct worker *worker, struct scatter *scatter)
{
    if (scatter && scatter->is_small)
        slab_give(&worker->requests.scatters, scatter);
    else
        free(scatter);
}

/* The masters, all but those that may be missing and are; and the replicas that it is for: none for a client whose pieces for
 * masters go to replicas. pieces: written unless NULL. */
static uint32_t find_nodes(const struct client *client, const struct request *traits, const struct plan *plan,
                           struct scattered *pieces)
{
    const struct upstream *upstream = client->upstream;
    const struct topology *topology = upstream->topology;
    bool is_for_replicas = plan->kind == PLAN_NODES && client->persona != PERSONA_REPLICA;
    uint32_t count = 0;
    for (uint16_t shard = 0; shard < topology->shard_count; shard++) {
        bool is_looked_for = plan->merge == MERGE_ONE_OK; /* a script may keep it from saying that it is there */
        if (!is_looked_for && may_be_missing(client, plan, shard) && is_missing(upstream, shard))
            continue;
        if (pieces)
            pieces[count].shard = shard;
        count++;
    }
    for (uint32_t i = 0; i < topology->node_count; i++) {
        const struct topology_node *node = &topology->nodes[i];
        if (node->shard == TOPOLOGY_NO_SHARD || topology->shards[node->shard].master == i)
            continue;
        bool is_replica = node->role == NODE_ROLE_REPLICA; /* else a master that was replaced, since a script keeps it busy */
        bool is_for_it = is_for_replicas && is_replica && is_there(upstream, i);
        if (!is_for_it && !(traits->is_urgent && is_busy(upstream, i)))
            continue;
        if (pieces) {
            pieces[count].shard = node->shard;
            pieces[count].replica = i;
        }
        count++;
    }
    return count;
}

/* INFO is what clients begin with, so it is answered by the masters that are there, if any are; who ends a script looks for
 * one. */
static bool may_be_missing(const struct client *client, const struct plan *plan, uint32_t shard)
{
    const struct upstream *upstream = client->upstream;
    const struct topology *topology = upstream->topology;
    if (topology->shards[shard].is_spare)
        return true;
    if ((plan->merge != MERGE_INFO && plan->merge != MERGE_ONE_OK) || client->persona == PERSONA_REPLICA)
        return false;
    for (uint16_t other = 0; other < topology->shard_count; other++) {
        if (!topology->shards[other].is_spare && !is_missing(upstream, other))
            return true;
    }
    return false;
}

static bool is_missing(const struct upstream *upstream, uint16_t shard)
{
    const struct topology *topology = upstream->topology;
    uint32_t master = topology->shards[shard].master;
    return master == TOPOLOGY_NO_NODE || !upstream->loads[master].is_usable || !topology->nodes[master].is_fit ||
           topology->nodes[master].is_silent;
}

/* One that cannot be reached is waited for by nobody. */
static bool is_there(const struct upstream *upstream, uint32_t node)
{
    return !upstream->topology->nodes[node].is_silent && upstream->loads[node].is_usable;
}

/* With a script, which the command is to end. */
static bool is_busy(const struct upstream *upstream, uint32_t node)
{
    return backend_is_busy(upstream->by_node[node]);
}

/* It goes there as after a redirect, or nowhere. */
static void direct_to_replica(const struct upstream *upstream, struct request *piece, uint32_t replica)
{
    piece->is_for_replica = true;
    piece->place = upstream->topology->nodes[replica].shard;
    piece->redirect_node = replica;
    piece->redirect_version = upstream->topology->version;
}

/* A piece that is for a node, whatever keys it has. */
static void direct(const struct client *client, const struct request *traits, const struct plan *plan,
                   const struct scattered *scattered, struct request *piece)
{
    *piece = traits_of_piece(traits, plan, scattered->shard);
    piece->is_spare = may_be_missing(client, plan, scattered->shard);
    if (scattered->replica != TOPOLOGY_NO_NODE)
        direct_to_replica(client->upstream, piece, scattered->replica);
}

static struct request traits_of_piece(const struct request *traits, const struct plan *plan, uint32_t index)
{
    struct request piece = *traits;
    piece.is_piece = true;
    piece.inspection = INSPECT_NOTHING;
    piece.is_for_shard = plan->kind != PLAN_SPLIT;
    piece.is_for_nodes = plan->kind == PLAN_NODES;
    if (piece.is_for_shard)
        piece.place = (uint16_t)index;
    else
        place_piece(&piece, plan, index);
    return piece;
}

static void place_piece(struct request *piece, const struct plan *plan, uint32_t index)
{
    piece->place = (uint16_t)plan->pieces[index].place;
    piece->has_several_keys = plan->pieces[index].count > 1;
}

static bool may_go(const struct client *client, const struct request *traits, const struct plan *plan)
{
    uint32_t count = plan->kind == PLAN_SPLIT ? plan->piece_count : client->upstream->topology->shard_count;
    if (plan->kind == PLAN_NODES)
        return client->inflight == 0;
    for (uint32_t i = 0; client->inflight > 0 && i < count; i++) {
        struct request piece = traits_of_piece(traits, plan, i);
        if (!handler_may_go(client, &piece))
            return false;
    }
    return true;
}

/* All pieces one behind the other in the order in which they are sent; what goes to all nodes once. The first piece is told
 * where. False if memory is short. */
static bool encode(struct client *client, const struct command_at_hand *at_hand, const struct plan *plan,
                   struct scatter *scatter, struct request *piece)
{
    bool is_split = plan->kind == PLAN_SPLIT;
    size_t most = is_split ? plan_most_bytes(plan, at_hand->command, at_hand->words)
                           : resp_encoded_size(at_hand->words, at_hand->count);
    struct chunk *chunk =
        most <= INTAKE_MOST ? chunk_pool_intake(&client->worker->chunks, most) : chunk_create_sized(most);
    if (!chunk)
        return false;
    char *bytes = chunk->bytes + chunk->filled;
    piece->chunk = most <= INTAKE_MOST ? chunk_take(chunk) : chunk;
    piece->bytes = bytes;
    if (is_split)
        plan_encode(plan, at_hand->command, at_hand->words, bytes, scatter->sizes);
    else
        scatter->sizes[0] = resp_encode(bytes, at_hand->words, at_hand->count);
    for (uint32_t i = 0; i < (is_split ? scatter->count : 1); i++)
        chunk->filled += scatter->sizes[i];
    return true;
}

static void merge(struct scatter *scatter)
{
    struct request *whole = scatter->whole;
    struct worker *worker = whole->client->worker;
    bool is_check = whole->inspection == INSPECT_SCAN_CHECK;
    uint32_t count = 0;
    struct merge_piece *pieces = scatter->replies;
    bool is_good = true;
    if (is_check)
        memset(pieces, 0, scatter->shard_count * sizeof *pieces);
    for (uint32_t i = 0; is_good && i < scatter->count; i++) {
        struct scattered *piece = &scatter->pieces[i];
        if (piece->request->is_skipped)
            continue;
        struct slice reply = reply_of(piece);
        pieces[is_check ? piece->shard : count++] = (struct merge_piece){reply, scatter->order + piece->first, piece->count};
        is_good = reply.size > 0;
    }
    if (is_good && count == 0 && !is_check) {
        spans_add_copy(&worker->chunks, &whole->reply, error_reply(ERROR_NO_MASTER));
        return;
    }
    if (is_good && scatter->policy == MERGE_LATEST)
        pieces[0].count = scatter->limit;
    if (is_good && is_check)
        scan_checked(whole, pieces, scatter->shard_count);
    else if (is_good)
        is_good = merge_replies(scatter->policy, pieces, count, scatter->is_write, &worker->seed, &worker->merged) &&
                  spans_add_copy(&worker->chunks, &whole->reply,
                                 (struct slice){worker->merged.bytes, worker->merged.size});
    if (worker->merged.room > MERGED_KEPT)
        merge_buffer_finish(&worker->merged);
    for (uint32_t i = 0; i < scatter->count; i++)
        chunk_release(&worker->chunks, scatter->pieces[i].joined);
    if (!is_good)
        spans_add_copy(&worker->chunks, &whole->reply, error_reply(ERROR_MERGE));
}

/* In one part; empty if memory is short. */
static struct slice reply_of(struct scattered *piece)
{
    const struct spans *reply = &piece->request->reply;
    if (!reply->first)
        return SLICE("");
    if (!reply->first->next)
        return (struct slice){reply->first->bytes, reply->first->size};
    piece->joined = spans_join(reply);
    return piece->joined ? (struct slice){piece->joined->bytes, piece->joined->filled} : SLICE("");
}

static void release_pieces(struct client *client, struct scatter *scatter)
{
    struct worker *worker = client->worker;
    for (uint32_t i = 0; i < scatter->count; i++) {
        struct request *piece = scatter->pieces[i].request;
        if (!piece)
            continue;
        piece->scatter = NULL;
        piece->client = NULL;
        if (piece->state == REQUEST_ANSWERED)
            client->stored_bytes -= piece->reply.bytes;
        else if (piece->state == REQUEST_HELD || piece->state == REQUEST_WAITING)
            upstream_forget(client->upstream, piece);
        else
            continue; /* whoever has it in a queue frees it */
        request_destroy(&worker->requests, &worker->chunks, piece);
    }
}
