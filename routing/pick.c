/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/pick.h"

#include "routing/backoff.h"
#include "routing/freshness.h"

enum {
    NEAREST_SLACK_US = 100,     /* round trips that differ by less are equal */
    NEAREST_SLACK_DIVISOR = 4,  /* ... or by less than a quarter of the best */
    NEAR_FROM_REPLICAS = 8,     /* fewer are looked at each time */
    NEAR_FOR_MS = 100,
    HELD_BACK_MOST = 230,       /* of 256: one that came back gets some reads at once */
};

struct pick_context {
    const struct topology *topology;
    const struct topology_shard *shard;
    const struct pick_load *loads;
    uint64_t fresh_after_us;
    uint32_t avoid;
    uint64_t *seed;
    bool takes_gray;
};

typedef uint32_t pick_step(const struct pick_context *context);

static pick_step pick_the_master, pick_a_replica, pick_the_nearest;

static pick_step *const steps[PICK_POLICY_COUNT][2] = {
    [PICK_MASTER] = {pick_the_master},
    [PICK_PREFER_MASTER] = {pick_the_master, pick_a_replica},
    [PICK_REPLICA] = {pick_a_replica},
    [PICK_PREFER_REPLICA] = {pick_a_replica, pick_the_master},
    [PICK_NEAREST] = {pick_the_nearest},
};

#define UNMEASURED_US (UINT32_MAX / 2)

static uint32_t pick_drawn(const struct pick_context *context, uint64_t client_id, struct pick_memo *memo);
static uint32_t pick_of_client(const struct pick_context *context, uint64_t client_id, bool must_be_open);
static uint64_t draw(const char *name, uint64_t client_id);
static uint32_t find_near(const struct pick_context *context, uint32_t *nodes, uint32_t room);
static uint32_t less_loaded_of_two(const struct pick_context *context, const uint32_t *nodes, uint32_t count);
static bool is_open(const struct pick_context *context, uint32_t node);
static bool is_free(const struct pick_context *context, uint32_t node);
static bool is_fresh(const struct pick_context *context, uint32_t node);
static uint32_t less_loaded(const struct pick_context *context, uint32_t a, uint32_t b);
static uint32_t unless_held_back(const struct pick_context *context, uint32_t node, uint32_t other);
static uint32_t round_trip_us(const struct pick_context *context, uint32_t node);

uint32_t pick_read(const struct topology *topology, const struct topology_shard *shard,
                   const struct pick_load *loads, enum pick_policy policy, uint64_t fresh_after_us, uint32_t avoid,
                   uint64_t *seed)
{
    struct pick_context context = {topology, shard, loads, fresh_after_us, avoid, seed, false};
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < 2 && steps[policy][i]; i++) {
            uint32_t node = steps[policy][i](&context);
            if (node != PICK_NONE)
                return node;
        }
        context.avoid = PICK_NONE;
        context.takes_gray = true;
    }
    return PICK_NONE;
}

uint32_t pick_batched_read(const struct topology *topology, const struct topology_shard *shard,
                           const struct pick_load *loads, enum pick_policy policy, uint64_t fresh_after_us,
                           struct pick_batch *batch, uint64_t turn, uint64_t *seed)
{
    if (policy == PICK_MASTER || policy == PICK_PREFER_MASTER)
        return pick_read(topology, shard, loads, policy, fresh_after_us, PICK_NONE, seed);
    const struct pick_context context = {topology, shard, loads, fresh_after_us, PICK_NONE, seed, false};
    if (batch->turn == turn && batch->shard == shard && batch->left > 0 && is_open(&context, batch->node)) {
        batch->left--;
        return batch->node;
    }
    uint32_t node = pick_read(topology, shard, loads, policy, fresh_after_us, PICK_NONE, seed);
    bool has_more = node != PICK_NONE && node != shard->master && loads[node].is_quick && loads[node].held_back == 0;
    *batch = (struct pick_batch){turn, shard, node, has_more ? PICK_BATCH - 1 : 0};
    return node;
}

uint32_t pick_near_read(const struct topology *topology, const struct topology_shard *shard,
                        const struct pick_load *loads, uint64_t fresh_after_us, uint64_t *seed,
                        struct pick_near *near, uint64_t now_ms)
{
    struct pick_context context = {topology, shard, loads, FRESHNESS_ANY, PICK_NONE, seed, false};
    uint32_t index = (uint32_t)(shard - topology->shards);
    bool is_known = near->version && near->version == topology->version && near->shard == index && now_ms < near->until_ms;
    bool are_many = shard->replica_count >= NEAR_FROM_REPLICAS;
    if (are_many && !is_known) {
        *near = (struct pick_near){.version = topology->version, .until_ms = now_ms + NEAR_FOR_MS, .shard = index};
        near->count = find_near(&context, near->nodes, sizeof near->nodes / sizeof *near->nodes);
    }
    context.fresh_after_us = fresh_after_us;
    uint32_t node = are_many && near->count ? less_loaded_of_two(&context, near->nodes, near->count) : PICK_NONE;
    return node != PICK_NONE ? node : pick_read(topology, shard, loads, PICK_NEAREST, fresh_after_us, PICK_NONE, seed);
}

uint32_t pick_session_read(const struct topology *topology, const struct topology_shard *shard,
                           const struct pick_load *loads, enum pick_policy policy, uint64_t fresh_after_us,
                           uint64_t client_id, struct pick_memo *memo)
{
    struct pick_context context = {topology, shard, loads, fresh_after_us, PICK_NONE, NULL, true};
    bool is_master_first = policy == PICK_MASTER || policy == PICK_PREFER_MASTER;
    uint32_t master = policy == PICK_REPLICA ? PICK_NONE : pick_the_master(&context);
    if (policy == PICK_MASTER || (is_master_first && master != PICK_NONE))
        return master;
    context.takes_gray = master == PICK_NONE;
    uint32_t replica = pick_drawn(&context, client_id, memo);
    return replica != PICK_NONE && is_open(&context, replica) ? replica : master;
}

uint32_t pick_own_replica(const struct topology *topology, const struct topology_shard *shard,
                          const struct pick_load *loads, uint64_t client_id, struct pick_memo *memo)
{
    struct pick_context context = {topology, shard, loads, FRESHNESS_ANY, PICK_NONE, NULL, false};
    uint32_t drawn = pick_drawn(&context, client_id, memo);
    if (drawn != PICK_NONE && is_open(&context, drawn))
        return drawn;
    uint32_t chosen = pick_of_client(&context, client_id, true);
    context.takes_gray = true;
    return chosen == PICK_NONE ? pick_of_client(&context, client_id, true) : chosen;
}

static uint32_t pick_drawn(const struct pick_context *context, uint64_t client_id, struct pick_memo *memo)
{
    const struct topology *topology = context->topology;
    uint32_t shard = (uint32_t)(context->shard - topology->shards);
    if (memo && topology->version && memo->version == topology->version && memo->shard == shard)
        return memo->node;
    uint32_t node = pick_of_client(context, client_id, false);
    if (memo)
        *memo = (struct pick_memo){topology->version, shard, node};
    return node;
}

/* Rendezvous hashing (Thaler and Ravishankar 1998): of all replicas the one that this client and its name draw the
 * highest number for. */
static uint32_t pick_of_client(const struct pick_context *context, uint64_t client_id, bool must_be_open)
{
    const struct topology_shard *shard = context->shard;
    uint32_t chosen = PICK_NONE;
    uint64_t highest = 0;
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        uint32_t node = shard->replicas[i];
        uint64_t drawn = draw(context->topology->nodes[node].name, client_id);
        bool is_candidate = !must_be_open || is_open(context, node);
        if (is_candidate && (chosen == PICK_NONE || drawn > highest)) {
            chosen = node;
            highest = drawn;
        }
    }
    return chosen;
}

/* FNV-1a, then the mixing of splitmix64. */
static uint64_t draw(const char *name, uint64_t client_id)
{
    uint64_t hash = 0xcbf29ce484222325U ^ client_id;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3U;
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9U;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebU;
    return hash ^ (hash >> 31);
}

uint32_t pick_write(const struct topology *topology, const struct topology_shard *shard,
                    const struct pick_load *loads)
{
    struct pick_context context = {topology, shard, loads, FRESHNESS_ANY, PICK_NONE, NULL, true};
    return shard->is_yielding ? PICK_NONE : pick_the_master(&context);
}

static uint32_t pick_the_master(const struct pick_context *context)
{
    uint32_t master = context->shard->master;
    return context->shard->is_master_fit && is_free(context, master) ? master : PICK_NONE;
}

/* Two random draws; if neither can be used, the first usable one after a random start. */
static uint32_t pick_a_replica(const struct pick_context *context)
{
    uint32_t count = context->shard->replica_count;
    const uint32_t *replicas = context->shard->replicas;
    if (count == 0)
        return PICK_NONE;
    uint32_t start = count > 1 ? random_below(context->seed, count) : 0;
    uint32_t second = count > 1 ? (start + 1 + random_below(context->seed, count - 1)) % count : 0;
    uint32_t node = less_loaded(context, replicas[start], replicas[second]);
    for (uint32_t i = 1; node == PICK_NONE && i < count; i++) {
        uint32_t next = replicas[(start + i) % count];
        node = less_loaded(context, next, next);
    }
    return node;
}

/* The lowest round trip, master included; among those about as near, the less loaded of two random ones. */
static uint32_t pick_the_nearest(const struct pick_context *context)
{
    uint32_t nodes[2];
    uint32_t count = find_near(context, nodes, 2);
    return count == 0 ? PICK_NONE : less_loaded_of_two(context, nodes, count);
}

/* Of all that are about as near as the nearest, so many at random; returns how many there are to pick from. */
static uint32_t find_near(const struct pick_context *context, uint32_t *nodes, uint32_t room)
{
    const struct topology_shard *shard = context->shard;
    uint32_t best_us = UINT32_MAX;
    uint32_t total = shard->replica_count + 1;
    for (uint32_t i = 0; i < total; i++) {
        uint32_t node = i < shard->replica_count ? shard->replicas[i] : shard->master;
        if (node != TOPOLOGY_NO_NODE && is_open(context, node) && round_trip_us(context, node) < best_us)
            best_us = round_trip_us(context, node);
    }
    if (best_us == UINT32_MAX)
        return 0;

    uint32_t slack = best_us / NEAREST_SLACK_DIVISOR;
    uint32_t limit_us = best_us + (slack > NEAREST_SLACK_US ? slack : NEAREST_SLACK_US);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < total; i++) { /* reservoir sampling */
        uint32_t node = i < shard->replica_count ? shard->replicas[i] : shard->master;
        if (node == TOPOLOGY_NO_NODE || !is_open(context, node) || round_trip_us(context, node) > limit_us)
            continue;
        uint32_t at = seen < room ? seen : random_below(context->seed, seen + 1);
        if (at < room)
            nodes[at] = node;
        seen++;
    }
    return seen < room ? seen : room;
}

static uint32_t less_loaded_of_two(const struct pick_context *context, const uint32_t *nodes, uint32_t count)
{
    uint32_t first = random_below(context->seed, count); /* the first of two wins where they are equal */
    uint32_t second = count > 1 ? (first + 1 + random_below(context->seed, count - 1)) % count : first;
    return less_loaded(context, nodes[first], nodes[second]);
}

static bool is_open(const struct pick_context *context, uint32_t node)
{
    return context->topology->nodes[node].is_fit && is_free(context, node);
}

/* Where it is fit. */
static bool is_free(const struct pick_context *context, uint32_t node)
{
    const struct pick_load *load = &context->loads[node];
    return node != context->avoid && load->is_usable && (!load->is_gray || context->takes_gray) &&
           (context->fresh_after_us == FRESHNESS_ANY || is_fresh(context, node));
}

/* The master shows all that there is. */
static bool is_fresh(const struct pick_context *context, uint32_t node)
{
    return node == context->shard->master || topology_fresh_us(&context->topology->nodes[node]) > context->fresh_after_us;
}

static uint32_t less_loaded(const struct pick_context *context, uint32_t a, uint32_t b)
{
    if (!is_open(context, a))
        return is_open(context, b) ? b : PICK_NONE;
    if (a == b || !is_open(context, b))
        return a;
    uint32_t load_a = context->loads[a].outstanding, load_b = context->loads[b].outstanding;
    return load_b < load_a ? unless_held_back(context, b, a) : unless_held_back(context, a, b);
}

static uint32_t unless_held_back(const struct pick_context *context, uint32_t node, uint32_t other)
{
    uint8_t held_back = context->loads[node].held_back;
    return held_back && random_below(context->seed, 256) < held_back ? other : node;
}

uint8_t pick_held_back(uint64_t since_ms, uint64_t slow_start_ms)
{
    if (since_ms >= slow_start_ms)
        return 0;
    return (uint8_t)(HELD_BACK_MOST * (slow_start_ms - since_ms) / slow_start_ms);
}

/* A node that was never measured counts as far, but not as unusable; nothing counts as farther. */
static uint32_t round_trip_us(const struct pick_context *context, uint32_t node)
{
    uint32_t us = atomic_load_explicit(&context->topology->nodes[node].gauge->round_trip_us, memory_order_relaxed);
    return us && us < UNMEASURED_US ? us : UNMEASURED_US;
}
