/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/simulation/sim_node.h"

#include "tests/simulation/sim_check.h"
#include "tests/simulation/sim_control.h"
#include "tests/simulation/sim_sentinel.h"
#include "tests/simulation/sim_worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEYS_PER_SHARD = 6,
    NODES_PER_SHARD = 3,
    FORGOTTEN_MOST = 8, /* writes that a node which was killed has not saved */
};

static void make_node(struct sim *sim, uint32_t index);
static uint32_t make_history(struct sim *sim, uint32_t parent, uint64_t start);
static sim_handler arrive, come_back, synchronize, pull;
static void carry_out(struct sim *sim, struct sim_node *node, struct sim_message *message);
static void write_key(struct sim *sim, struct sim_node *node, const struct sim_message *message);
static void feed(struct sim *sim, const struct sim_node *master, struct sim_node *replica);
static uint64_t write_at(const struct sim_nodes *nodes, uint32_t history, uint64_t offset);
static bool may_continue(const struct sim_nodes *nodes, const struct sim_node *replica, const struct sim_node *master);
static void unlink_replicas(struct sim *sim, const struct sim_node *master);
static void restore(struct sim *sim, struct sim_node *node, uint64_t offset);
static void set_value(const struct sim *sim, struct sim_node *node, uint64_t write);

void sim_nodes_create(struct sim *sim)
{
    struct sim_nodes *nodes = sim->nodes = sim_allocate(1, sizeof(*nodes));
    nodes->count = sim->setup.nodes;
    nodes->shard_count = nodes->count / NODES_PER_SHARD ? nodes->count / NODES_PER_SHARD : 1;
    nodes->keys_per_shard = KEYS_PER_SHARD;
    nodes->nodes = sim_allocate(nodes->count, sizeof(*nodes->nodes));
    nodes->shards = sim_allocate(nodes->shard_count, sizeof(*nodes->shards));
    for (uint32_t i = 0; i < nodes->shard_count; i++) {
        struct sim_shard *shard = &nodes->shards[i];
        shard->first_node = (uint32_t)((uint64_t)nodes->count * i / nodes->shard_count);
        shard->node_count = (uint32_t)((uint64_t)nodes->count * (i + 1) / nodes->shard_count) - shard->first_node;
        shard->master = shard->first_node;
        shard->truth = make_history(sim, SIM_NONE, 0);
        shard->other = SIM_NONE;
        for (uint32_t node = 0; node < shard->node_count; node++) {
            make_node(sim, shard->first_node + node);
            nodes->nodes[shard->first_node + node].shard = i;
            nodes->nodes[shard->first_node + node].history = shard->truth;
            if (node > 0) nodes->nodes[shard->first_node + node].follows = shard->master;
            nodes->nodes[shard->first_node + node].is_master = node == 0;
        }
    }
}

static void make_node(struct sim *sim, uint32_t index)
{
    struct sim_node *node = &sim->nodes->nodes[index];
    *node = (struct sim_node){.index = index, .follows = SIM_NONE, .is_linked = true, .run = 1, .elected_epoch = 1};
    snprintf(node->name, sizeof(node->name), "n%04u:6379", index);
    node->values = sim_allocate(sim->nodes->keys_per_shard, sizeof(*node->values));
    node->inbox_end = &node->inbox;
    node->lag_us = sim_between(sim, 200, 3000);
    node->service_us = 20;
}

void sim_nodes_destroy(struct sim *sim)
{
    struct sim_nodes *nodes = sim->nodes;
    for (uint32_t i = 0; i < nodes->count; i++)
        free(nodes->nodes[i].values);
    for (size_t i = 0; i < nodes->history_count; i++)
        free(nodes->histories[i].writes);
    while (nodes->spare) {
        struct sim_message *next = nodes->spare->next;
        free(nodes->spare);
        nodes->spare = next;
    }
    for (uint32_t i = 0; i < nodes->count; i++) {
        for (struct sim_message *message = nodes->nodes[i].inbox, *next; message; message = next) {
            next = message->next;
            free(message);
        }
    }
    for (size_t i = 0; i < sim->event_count; i++) {
        if (sim->events[i].handler == arrive || sim->events[i].handler == come_back) free(sim->events[i].subject);
    }
    free(nodes->histories);
    free(nodes->nodes);
    free(nodes->shards);
    free(nodes);
}

static uint32_t make_history(struct sim *sim, uint32_t parent, uint64_t start)
{
    struct sim_nodes *nodes = sim->nodes;
    nodes->histories =
        sim_grow(nodes->histories, &nodes->history_room, nodes->history_count, sizeof(*nodes->histories));
    nodes->histories[nodes->history_count] =
        (struct sim_history){.parent = parent, .start = start, .cut_at = UINT64_MAX};
    return (uint32_t)nodes->history_count++;
}

/* ---- messages ---- */

struct sim_message *sim_message_take(struct sim *sim)
{
    struct sim_message *message = sim->nodes->spare;
    if (!message) return sim_allocate(1, sizeof(*message));
    sim->nodes->spare = message->next;
    *message = (struct sim_message){.next = NULL};
    return message;
}

void sim_message_give(struct sim *sim, struct sim_message *message)
{
    message->next = sim->nodes->spare;
    sim->nodes->spare = message;
}

void sim_message_send(struct sim *sim, struct sim_message *message)
{
    uint64_t at_us = sim->now_us + sim_latency_us(sim);
    if (at_us <= message->wire->there_us) at_us = message->wire->there_us + 1;
    message->wire->there_us = at_us;
    sim_at(sim, at_us, arrive, message, 0);
}

static void arrive(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_message *message = subject;
    struct sim_node *node = &sim->nodes->nodes[message->node];
    message->next = NULL;
    if (node->health == SIM_FROZEN) {
        *node->inbox_end = message;
        node->inbox_end = &message->next;
        return;
    }
    carry_out(sim, node, message);
}

static void carry_out(struct sim *sim, struct sim_node *node, struct sim_message *message)
{
    message->run = node->run;
    message->answer = SIM_DONE;
    if (node->health == SIM_DEAD)
        message->answer = SIM_GONE;
    else if (message->question == SIM_WRITE && !node->is_master)
        message->answer = SIM_READONLY;
    else if (message->question == SIM_WRITE)
        write_key(sim, node, message);
    message->history = node->history;
    message->offset = node->offset;
    message->is_master = node->is_master;
    message->is_linked = node->is_linked;
    message->follows = node->follows;
    if (message->question == SIM_READ) message->value = node->values[message->key / sim->nodes->shard_count];

    uint64_t done_us = (node->busy_until_us > sim->now_us ? node->busy_until_us : sim->now_us) + node->service_us;
    if (message->question != SIM_PROBE) node->busy_until_us = done_us;
    uint64_t at_us = done_us + sim_latency_us(sim);
    if (at_us <= message->wire->back_us) at_us = message->wire->back_us + 1;
    message->wire->back_us = at_us;
    sim_at(sim, at_us, come_back, message, 0);
}

static void come_back(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_message *message = subject;
    message->receiver(sim, message);
    sim_message_give(sim, message);
}

static void write_key(struct sim *sim, struct sim_node *node, const struct sim_message *message)
{
    struct sim_history *history = &sim->nodes->histories[node->history];
    history->writes = sim_grow(history->writes, &history->room, history->count, sizeof(*history->writes));
    history->writes[history->count++] = message->write;
    node->offset++;
    sim_check_carried_out(sim, message->write, node->history, node->offset - 1);
    set_value(sim, node, message->write);
    const struct sim_shard *shard = &sim->nodes->shards[node->shard];
    for (uint32_t i = 0; i < shard->node_count; i++) {
        struct sim_node *replica = &sim->nodes->nodes[shard->first_node + i];
        if (replica->follows == node->index && replica->is_linked) feed(sim, node, replica);
    }
}

static void set_value(const struct sim *sim, struct sim_node *node, uint64_t write)
{
    node->values[sim->check->writes[write].key / sim->nodes->shard_count] = write;
}

/* ---- replication ---- */

static void feed(struct sim *sim, const struct sim_node *master, struct sim_node *replica)
{
    if (replica->is_pulling || replica->offset >= master->offset) return;
    replica->is_pulling = true;
    replica->pull_us = sim->now_us + sim_between(sim, replica->lag_us / 2, replica->lag_us);
    sim_at(sim, replica->pull_us, pull, replica,
              replica->link << 32 | (uint32_t)master->offset);
}

static void pull(struct sim *sim, void *subject, uint64_t detail)
{
    struct sim_node *replica = subject;
    if (detail >> 32 != (replica->link & UINT32_MAX)) return;
    if (replica->health == SIM_FROZEN) {
        sim_after(sim, replica->lag_us + SIM_MS, pull, replica, detail);
        return;
    }
    replica->is_pulling = false;
    while (replica->offset < (uint32_t)detail)
        set_value(sim, replica, write_at(sim->nodes, replica->history, replica->offset++));
    feed(sim, &sim->nodes->nodes[replica->follows], replica);
}

static uint64_t write_at(const struct sim_nodes *nodes, uint32_t history, uint64_t offset)
{
    while (offset < nodes->histories[history].start)
        history = nodes->histories[history].parent;
    return nodes->histories[history].writes[offset - nodes->histories[history].start];
}

void sim_node_follow(struct sim *sim, struct sim_node *node, uint32_t master)
{
    if (node->is_master) unlink_replicas(sim, node);
    node->is_master = false;
    node->follows = master;
    node->is_linked = node->is_pulling = false;
    node->link++;
    sim_after(sim, sim_between(sim, 1000, 5000), synchronize, node, node->link << 1);
}

static void unlink_replicas(struct sim *sim, const struct sim_node *master)
{
    const struct sim_shard *shard = &sim->nodes->shards[master->shard];
    for (uint32_t i = 0; i < shard->node_count; i++) {
        struct sim_node *replica = &sim->nodes->nodes[shard->first_node + i];
        bool is_its_own = replica->follows == master->index && replica->health != SIM_DEAD;
        if (is_its_own) sim_node_follow(sim, replica, master->index);
    }
}

/* By what is missing; else, and that takes a while, by all that the master has. */
static void synchronize(struct sim *sim, void *subject, uint64_t detail)
{
    struct sim_node *node = subject;
    if (detail >> 1 != node->link || node->health == SIM_DEAD) return;
    const struct sim_node *master = &sim->nodes->nodes[node->follows];
    if (node->health != SIM_ALIVE || master->health != SIM_ALIVE || !master->is_master) {
        sim_after(sim, 100 * SIM_MS, synchronize, node, node->link << 1);
        return;
    }
    bool is_copied = detail & 1;
    if (!is_copied && !may_continue(sim->nodes, node, master)) {
        sim_after(sim, sim_between(sim, 50, 800) * SIM_MS, synchronize, node, node->link << 1 | 1);
        return;
    }
    if (is_copied) {
        memcpy(node->values, master->values, sim->nodes->keys_per_shard * sizeof(*node->values));
        node->offset = master->offset;
    }
    node->history = master->history;
    node->is_linked = true;
    sim_tell(sim, "%s follows %s, history %u, with %llu of its %llu writes", node->name, master->name, node->history,
             (unsigned long long)node->offset, (unsigned long long)master->offset);
    feed(sim, master, node);
}

static bool may_continue(const struct sim_nodes *nodes, const struct sim_node *replica, const struct sim_node *master)
{
    const struct sim_history *history = &nodes->histories[master->history];
    if (replica->history == master->history) return replica->offset <= master->offset;
    return replica->history == history->parent && replica->offset <= history->start;
}

bool sim_history_has(const struct sim *sim, uint32_t history, uint64_t offset, uint64_t write)
{
    const struct sim_write *wanted = &sim->check->writes[write];
    for (; history != SIM_NONE; history = sim->nodes->histories[history].parent) {
        if (history == wanted->history) return wanted->offset < offset;
        if (sim->nodes->histories[history].start < offset) offset = sim->nodes->histories[history].start;
    }
    return false;
}

void sim_shard_set_truth(struct sim *sim, struct sim_shard *shard, uint32_t truth)
{
    for (uint32_t history = shard->truth; history != SIM_NONE; history = sim->nodes->histories[history].parent) {
        const struct sim_history *before = &sim->nodes->histories[history];
        for (size_t i = before->count; i-- > 0 && !sim_history_has(sim, truth, UINT64_MAX, before->writes[i]);)
            sim->check->writes[before->writes[i]].is_lost = true;
    }
    shard->truth = truth;
}

/* ---- what happens to them ---- */

void sim_node_kill(struct sim *sim, struct sim_node *node)
{
    if (node->health == SIM_DEAD) return;
    sim_tell(sim, "%s is killed", node->name);
    node->health = SIM_DEAD;
    node->is_linked = node->is_pulling = false;
    node->link++;
    for (struct sim_message *message = node->inbox, *next; message; message = next) {
        next = message->next;
        sim_message_give(sim, message);
    }
    node->inbox = NULL;
    node->inbox_end = &node->inbox;
    unlink_replicas(sim, node);
    sim_workers_node_lost(sim, node->index);
    sim_control_node_lost(sim, node->index);
}

void sim_node_start(struct sim *sim, struct sim_node *node)
{
    if (node->health != SIM_DEAD) return;
    uint64_t forgotten = sim_between(sim, 0, FORGOTTEN_MOST);
    node->health = SIM_ALIVE;
    node->run++;
    restore(sim, node, node->offset > forgotten ? node->offset - forgotten : 0);
    sim_tell(sim, "%s starts as a %s with %llu writes", node->name, node->is_master ? "master" : "replica",
             (unsigned long long)node->offset);
    if (!node->is_master) {
        sim_node_follow(sim, node, node->follows);
        return;
    }
    struct sim_shard *shard = &sim->nodes->shards[node->shard];
    node->history = make_history(sim, node->history, node->offset);
    if (shard->master == node->index)
        sim_shard_set_truth(sim, shard, node->history);
    else if (sim_sentinels_master(sim, node->shard) == node->index)
        shard->other = node->index;
}

static void restore(struct sim *sim, struct sim_node *node, uint64_t offset)
{
    memset(node->values, 0, sim->nodes->keys_per_shard * sizeof(*node->values));
    node->offset = offset;
    for (uint64_t i = 0; i < offset; i++)
        set_value(sim, node, write_at(sim->nodes, node->history, i));
}

void sim_node_freeze(struct sim *sim, struct sim_node *node)
{
    if (node->health != SIM_ALIVE) return;
    sim_tell(sim, "%s freezes", node->name);
    node->health = SIM_FROZEN;
}

void sim_node_thaw(struct sim *sim, struct sim_node *node)
{
    if (node->health != SIM_FROZEN) return;
    sim_tell(sim, "%s goes on", node->name);
    node->health = SIM_ALIVE;
    struct sim_message *message = node->inbox;
    node->inbox = NULL;
    node->inbox_end = &node->inbox;
    for (struct sim_message *next; message; message = next) {
        next = message->next;
        carry_out(sim, node, message);
    }
}

void sim_node_promote(struct sim *sim, struct sim_node *node)
{
    node->is_master = true;
    node->follows = SIM_NONE;
    node->is_linked = node->is_pulling = false;
    node->link++;
    node->history = make_history(sim, node->history, node->offset);
    sim_tell(sim, "%s is promoted with %llu writes, history %u", node->name, (unsigned long long)node->offset,
             node->history);
}
