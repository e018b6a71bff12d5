/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/outliers.h"

#include "proxy/backend.h"
#include "proxy/health.h"
#include "proxy/log.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/ejection.h"

enum {
    REPLICAS_MOST = GRAY_SIBLINGS_MOST, /* of one shard, that are compared */
    MEASURE_TICKS = 2,
};

static void look_at_shard(struct upstream *upstream, const struct topology_shard *shard);
static uint32_t siblings_us(const uint32_t *latencies_us, uint32_t count, uint32_t which, uint32_t master_us);
static bool master_may_read(const struct upstream *upstream, const struct topology_shard *shard);
static void carry_out(struct upstream *upstream, struct backend *backend, const struct ejection *decided);
static uint32_t latency_us(const struct upstream *upstream, uint32_t node);

void outliers_tick(struct upstream *upstream)
{
    const struct topology *topology = upstream->topology;
    for (uint32_t i = 0; i < topology->shard_count; i++) {
        if (topology->shards[i].replica_count > 0)
            look_at_shard(upstream, &topology->shards[i]);
    }
}

static void look_at_shard(struct upstream *upstream, const struct topology_shard *shard)
{
    uint32_t count = shard->replica_count < REPLICAS_MOST ? shard->replica_count : REPLICAS_MOST;
    uint32_t latencies_us[REPLICAS_MOST];
    struct ejection decided[REPLICAS_MOST];
    uint64_t now_ms = upstream->worker->now_ms;
    bool has_master = shard->master != TOPOLOGY_NO_NODE && upstream->topology->nodes[shard->master].is_fit;
    uint32_t master_us = has_master ? latency_us(upstream, shard->master) : 0;
    for (uint32_t i = 0; i < count; i++)
        latencies_us[i] = latency_us(upstream, shard->replicas[i]);
    for (uint32_t i = 0; i < count; i++) {
        struct backend *backend = upstream->by_node[shard->replicas[i]];
        gray_update(&backend->gray, latencies_us[i], siblings_us(latencies_us, count, i, master_us), now_ms);
        decided[i] = (struct ejection){.is_broken = health_is_broken(backend), .is_gray = backend->gray.is_gray};
    }
    ejection_decide(decided, count, (uint32_t)upstream->config->breaker_max_ejected, master_may_read(upstream, shard));
    for (uint32_t i = 0; i < count; i++)
        carry_out(upstream, upstream->by_node[shard->replicas[i]], &decided[i]);
}

/* The median of all but one; where few are left the master is among them. */
static uint32_t siblings_us(const uint32_t *latencies_us, uint32_t count, uint32_t which, uint32_t master_us)
{
    uint32_t others_us[REPLICAS_MOST];
    uint32_t others = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i != which)
            others_us[others++] = latencies_us[i];
    }
    if (others < 2)
        others_us[others++] = master_us;
    return gray_median_us(others_us, others);
}

static bool master_may_read(const struct upstream *upstream, const struct topology_shard *shard)
{
    return upstream->config->reads_policy != READS_REPLICA && shard->master != TOPOLOGY_NO_NODE &&
           upstream->topology->nodes[shard->master].is_fit && upstream->loads[shard->master].is_usable;
}

static void carry_out(struct upstream *upstream, struct backend *backend, const struct ejection *decided)
{
    struct worker *worker = upstream->worker;
    struct pick_load *load = backend->load;
    bool is_gray = decided->is_out && !decided->is_broken;
    if (decided->is_out && !backend->is_ejected)
        stats_add(&worker->stats, STAT_EJECTIONS, 1);
    if (is_gray != load->is_gray && is_gray)
        log_warning("node %s: takes %.1f ms, much longer than the other nodes; reads go to these", backend->name,
                    health_latency_us(backend) / 1000.);
    if (is_gray != load->is_gray && !is_gray && !decided->is_broken) {
        log_info("node %s: is as quick as the other nodes again", backend->name);
        backend->returned_ms = worker->now_ms;
    }
    backend->is_ejected = decided->is_out;
    backend->is_spared = decided->is_broken && !decided->is_out;
    load->is_gray = is_gray;
    uint32_t own_us = health_latency_us(backend);
    load->is_quick = own_us > 0 && own_us < PICK_QUICK_US;
    load->held_back = backend->returned_ms ? pick_held_back(worker->now_ms - backend->returned_ms,
                                                            (uint64_t)upstream->config->breaker_slow_start_ms)
                                           : 0;
    if (is_gray && worker->ticks % MEASURE_TICKS == 0)
        health_measure(backend);
}

/* By its requests, or where it has none by the PING of the control thread. */
static uint32_t latency_us(const struct upstream *upstream, uint32_t node)
{
    uint32_t own_us = health_latency_us(upstream->by_node[node]);
    const struct node_gauge *gauge = upstream->topology->nodes[node].gauge;
    return own_us ? own_us : atomic_load_explicit(&gauge->round_trip_us, memory_order_relaxed);
}
