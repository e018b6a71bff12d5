/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/topology.h"

#include "routing/distribution.h"
#include "routing/slot.h"

#include <assert.h>
#include <stdlib.h>

static bool topology_copy(struct topology *topology, const struct topology_draft *draft);
static bool topology_copy_node(struct topology_node *to, const struct topology_node *from);
static bool topology_make_shards(struct topology *topology, const struct topology_draft *draft);
static void topology_find_rivals(struct topology *topology);
static bool topology_list_replicas(struct topology *topology);
static bool topology_rank_shards(struct topology *topology);
static int compare_ranks(const void *a, const void *b);
static bool is_fit_replica(const struct topology *topology, uint32_t index);
static void topology_map_places(struct topology *topology, const uint16_t *slots);
static void topology_find_spare(struct topology *topology);
static void topology_free(struct topology *topology);
static bool nodes_are_same(const struct topology_node *a, const struct topology_node *b);
static bool shards_are_same(const struct topology_shard *a, const struct topology_shard *b);

struct topology *topology_create(const struct topology_draft *draft)
{
    struct topology *topology = calloc(1, sizeof(*topology));
    if (!topology) return NULL;

    atomic_init(&topology->references, 1);
    topology->version = draft->version;
    topology->epoch = draft->epoch;
    topology->commands = draft->commands ? command_set_take(draft->commands) : command_set_builtin();
    topology->is_cluster = draft->is_cluster;
    topology->distribution = draft->distribution;
    if (!topology_copy(topology, draft) || !topology_make_shards(topology, draft)) {
        topology_free(topology);
        return NULL;
    }
    topology_map_places(topology, draft->slots);
    return topology;
}

uint32_t topology_place_of(const struct topology *topology, struct slice key)
{
    return topology->distribution ? distribution_place_of(topology->distribution, key) : slot_of(key);
}

struct topology *topology_take(struct topology *topology)
{
    atomic_fetch_add_explicit(&topology->references, 1, memory_order_relaxed);
    return topology;
}

void topology_release(struct topology *topology)
{
    if (!topology) return;
    if (atomic_fetch_sub_explicit(&topology->references, 1, memory_order_acq_rel) == 1)
        topology_free(topology);
}

struct node_gauge *node_gauge_create(void)
{
    struct node_gauge *gauge = calloc(1, sizeof(*gauge));
    if (!gauge) return NULL;
    atomic_init(&gauge->references, 1);
    return gauge;
}

struct node_gauge *node_gauge_take(struct node_gauge *gauge)
{
    atomic_fetch_add_explicit(&gauge->references, 1, memory_order_relaxed);
    return gauge;
}

void node_gauge_release(struct node_gauge *gauge)
{
    if (!gauge) return;
    if (atomic_fetch_sub_explicit(&gauge->references, 1, memory_order_acq_rel) == 1) free(gauge);
}

bool topology_is_same(const struct topology *a, const struct topology *b)
{
    if (strcmp(a->kind, b->kind) != 0 || strcmp(a->server_version, b->server_version) != 0) return false;
    if (a->commands != b->commands || a->is_cluster != b->is_cluster || a->distribution != b->distribution)
        return false;
    if (a->node_count != b->node_count || a->shard_count != b->shard_count) return false;
    for (uint32_t i = 0; i < a->node_count; i++) {
        if (!nodes_are_same(&a->nodes[i], &b->nodes[i])) return false;
    }
    for (uint32_t i = 0; i < a->shard_count; i++) {
        if (!shards_are_same(&a->shards[i], &b->shards[i])) return false;
    }
    return memcmp(a->slots, b->slots, sizeof(a->slots)) == 0;
}

/* ---- building ---- */

static bool topology_copy(struct topology *topology, const struct topology_draft *draft)
{
    topology->kind = strdup(draft->kind ? draft->kind : "");
    topology->server_version = strdup(draft->server_version ? draft->server_version : "");
    topology->nodes = calloc(draft->node_count ? draft->node_count : 1, sizeof(*topology->nodes));
    if (!topology->kind || !topology->server_version || !topology->nodes) return false;

    for (uint32_t i = 0; i < draft->node_count; i++) {
        topology->node_count++; /* counted first: a node copied in part is freed too */
        if (!topology_copy_node(&topology->nodes[i], &draft->nodes[i])) return false;
    }
    return true;
}

static bool topology_copy_node(struct topology_node *to, const struct topology_node *from)
{
    to->name = strdup(from->name);
    to->address = strdup(from->address ? from->address : "");
    to->reason = strdup(from->reason ? from->reason : "");
    to->port = from->port;
    to->role = from->role;
    to->is_new = from->is_new;
    to->is_silent = from->is_silent;
    to->says_master = from->says_master;
    to->is_rival = from->is_rival;
    to->shard = from->shard;
    to->is_fit = from->is_fit;
    to->gauge = from->gauge ? node_gauge_take(from->gauge) : node_gauge_create();
    return to->name && to->address && to->reason && to->gauge;
}

static bool topology_make_shards(struct topology *topology, const struct topology_draft *draft)
{
    const struct topology_draft_shard only = {.master = draft->master, .confirmed_us = draft->confirmed_us};
    const struct topology_draft_shard *drafts = draft->shards ? draft->shards : &only;
    uint32_t count = draft->shards ? draft->shard_count : 1;
    assert(count >= 1 && count <= TOPOLOGY_SHARDS_MAX);
    topology->shards = calloc(count, sizeof(*topology->shards));
    if (!topology->shards) return false;

    for (uint32_t i = 0; !draft->shards && i < topology->node_count; i++)
        topology->nodes[i].shard = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct topology_shard *shard = &topology->shards[i];
        shard->master = drafts[i].master < draft->node_count ? drafts[i].master : TOPOLOGY_NO_NODE;
        shard->is_master_fit = shard->master != TOPOLOGY_NO_NODE && topology->nodes[shard->master].is_fit;
        shard->confirmed_us = drafts[i].confirmed_us;
        shard->epoch = drafts[i].epoch;
        shard->is_yielding = drafts[i].is_yielding;
        shard->rival = TOPOLOGY_NO_NODE;
        topology->shard_count++;
    }
    topology_find_rivals(topology);
    return topology_list_replicas(topology) && topology_rank_shards(topology);
}

static void topology_find_rivals(struct topology *topology)
{
    for (uint32_t i = 0; i < topology->node_count; i++) {
        const struct topology_node *node = &topology->nodes[i];
        if (!node->is_rival || node->shard >= topology->shard_count || i == topology->shards[node->shard].master) continue;
        uint32_t *rival = &topology->shards[node->shard].rival;
        if (*rival != TOPOLOGY_NO_NODE) continue;
        *rival = i;
        topology->disputed++;
    }
}

static bool topology_list_replicas(struct topology *topology)
{
    for (uint32_t i = 0; i < topology->node_count; i++) {
        if (is_fit_replica(topology, i)) topology->shards[topology->nodes[i].shard].replica_count++;
    }
    for (uint32_t i = 0; i < topology->shard_count; i++) {
        struct topology_shard *shard = &topology->shards[i];
        shard->replicas = calloc(shard->replica_count ? shard->replica_count : 1, sizeof(*shard->replicas));
        if (!shard->replicas) return false;
        shard->replica_count = 0;
    }
    for (uint32_t i = 0; i < topology->node_count; i++) {
        if (!is_fit_replica(topology, i)) continue;
        struct topology_shard *shard = &topology->shards[topology->nodes[i].shard];
        ((uint32_t *)shard->replicas)[shard->replica_count++] = i;
    }
    return true;
}

static bool topology_rank_shards(struct topology *topology)
{
    struct topology_rank *ranked = calloc(topology->shard_count, sizeof(*ranked));
    topology->ranked = ranked;
    if (!ranked) return false;
    for (uint32_t i = 0; i < topology->shard_count; i++)
        ranked[i] = (struct topology_rank){.name = "", .shard = (uint16_t)i};
    for (uint32_t i = 0; i < topology->node_count; i++) {
        const struct topology_node *node = &topology->nodes[i];
        if (node->shard >= topology->shard_count) continue;
        const char **name = &ranked[node->shard].name;
        if (!(*name)[0] || strcmp(node->name, *name) < 0) *name = node->name;
    }
    qsort(ranked, topology->shard_count, sizeof(*ranked), compare_ranks);
    return true;
}

static int compare_ranks(const void *a, const void *b)
{
    const struct topology_rank *one = a, *other = b;
    int order = strcmp(one->name, other->name);
    return order ? order : (int)one->shard - (int)other->shard;
}

static bool is_fit_replica(const struct topology *topology, uint32_t index)
{
    const struct topology_node *node = &topology->nodes[index];
    return node->shard < topology->shard_count && index != topology->shards[node->shard].master &&
           node->role == NODE_ROLE_REPLICA && node->is_fit;
}

static void topology_map_places(struct topology *topology, const uint16_t *slots)
{
    uint32_t count = topology->shard_count > 0 ? topology->shard_count : 1;
    for (uint32_t place = 0, next = 0; place < TOPOLOGY_SLOTS; place++) {
        uint32_t shard = slots ? slots[place] : next; /* a division for each place would be most of the time that this takes */
        topology->slots[place] = shard < topology->shard_count ? (uint16_t)shard : TOPOLOGY_NO_SHARD;
        next = next + 1 < count ? next + 1 : 0;
    }
    topology_find_spare(topology);
}

static void topology_find_spare(struct topology *topology)
{
    for (uint32_t i = 0; i < topology->shard_count; i++)
        topology->shards[i].is_spare = true;
    for (uint32_t place = 0; place < TOPOLOGY_SLOTS; place++) {
        if (topology->slots[place] == TOPOLOGY_NO_SHARD) continue;
        topology->shards[topology->slots[place]].is_spare = false;
        topology->slots_owned++;
    }
    for (uint32_t i = 0; i < topology->shard_count; i++)
        topology->shards[i].is_spare &= topology->slots_owned > 0;
}

static void topology_free(struct topology *topology)
{
    for (uint32_t i = 0; i < topology->node_count; i++) {
        struct topology_node *node = &topology->nodes[i];
        free((char *)node->name);
        free((char *)node->address);
        free((char *)node->reason);
        node_gauge_release(node->gauge);
    }
    for (uint32_t i = 0; i < topology->shard_count; i++)
        free((uint32_t *)topology->shards[i].replicas);
    free((struct topology_rank *)topology->ranked);
    free(topology->shards);
    free(topology->nodes);
    free((char *)topology->kind);
    free((char *)topology->server_version);
    command_set_release(topology->commands);
    free(topology);
}

/* ---- comparing ---- */

static bool nodes_are_same(const struct topology_node *a, const struct topology_node *b)
{
    return a->port == b->port && a->role == b->role && a->says_master == b->says_master && a->is_rival == b->is_rival &&
           a->is_silent == b->is_silent &&
           a->shard == b->shard && a->is_fit == b->is_fit && a->is_new == b->is_new &&
           a->gauge == b->gauge && strcmp(a->name, b->name) == 0 && strcmp(a->address, b->address) == 0 &&
           strcmp(a->reason, b->reason) == 0;
}

/* A master that is confirmed for the first time may be written to from then on. */
static bool shards_are_same(const struct topology_shard *a, const struct topology_shard *b)
{
    return a->master == b->master && a->is_yielding == b->is_yielding && !a->confirmed_us == !b->confirmed_us &&
           a->replica_count == b->replica_count &&
           memcmp(a->replicas, b->replicas, a->replica_count * sizeof(*a->replicas)) == 0;
}
