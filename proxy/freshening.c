/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/freshening.h"

#include "proxy/clock.h"
#include "proxy/survey.h"

#include <stdlib.h>

#define REGULAR_SHARE 4     /* rounds per reads.max_staleness */
#define SOON_US       10000 /* after something was written */

static void start_timer(struct freshening *freshening, double after_s);
static void begin(struct freshening *freshening);
static void next_round(struct ev_loop *loop, ev_timer *timer, int events);
static void regular_round(struct ev_loop *loop, ev_timer *timer, int events);
static bool begin_round(struct freshening *freshening, bool is_for_all);
static void take_sample(struct freshening *freshening, struct probe *master);
static void judge_replica(struct freshening *freshening, struct probe *replica);

bool freshening_init(struct freshening *freshening, struct survey *survey)
{
    const struct config_upstream *config = survey->config;
    *freshening = (struct freshening){.survey = survey};
    ev_init(&freshening->next, next_round);
    ev_init(&freshening->regular, regular_round);
    freshening->next.data = freshening->regular.data = freshening;
    freshening->freshness = freshness_create(clock_us() * UINT64_C(0x9e3779b97f4a7c15));
    freshening->is_wanted = freshness_is_asked(config);
    int64_t regular_ms = config->reads_max_staleness_ms / REGULAR_SHARE;
    if (freshening->freshness && freshening->is_wanted && regular_ms > 0 && regular_ms < config->pool_health_interval_ms) {
        if (regular_ms < config->reads_freshness_interval_ms) regular_ms = config->reads_freshness_interval_ms;
        ev_timer_set(&freshening->regular, (double)regular_ms / 1000.0, (double)regular_ms / 1000.0);
        ev_timer_start(survey->loop, &freshening->regular);
    }
    return freshening->freshness != NULL;
}

bool freshness_is_asked(const struct config_upstream *config)
{
    bool asks = config->reads_consistency != CONSISTENCY_EVENTUAL || config->reads_max_staleness_ms > 0;
    return asks && config->reads_policy != READS_MASTER;
}

void freshening_finish(struct freshening *freshening)
{
    ev_timer_stop(freshening->survey->loop, &freshening->next);
    ev_timer_stop(freshening->survey->loop, &freshening->regular);
    freshness_destroy(freshening->freshness);
}

bool freshening_is_wanted(const struct freshening *freshening)
{
    return freshening->is_wanted;
}

void freshening_want(struct freshening *freshening)
{
    bool is_urgent = atomic_load(&freshening->freshness->is_wanted);
    uint64_t gap_us = (uint64_t)freshening->survey->config->reads_freshness_interval_ms * 1000;
    uint64_t since_us = clock_us() - freshening->round_us;
    uint64_t least_us = is_urgent || gap_us > SOON_US ? gap_us : SOON_US;
    if (since_us < least_us)
        start_timer(freshening, (double)(least_us - since_us) / 1e6);
    else if (!is_urgent && !ev_is_active(&freshening->next))
        start_timer(freshening, (double)SOON_US / 1e6); /* there will be more */
    else
        begin(freshening);
}

static void begin(struct freshening *freshening)
{
    ev_timer_stop(freshening->survey->loop, &freshening->next);
    if (!begin_round(freshening, false))
        start_timer(freshening, (double)freshening->survey->config->reads_freshness_interval_ms / 1e3);
}

/* Not later than it is to be already. */
static void start_timer(struct freshening *freshening, double after_s)
{
    struct ev_loop *loop = freshening->survey->loop;
    ev_now_update(loop);
    if (ev_is_active(&freshening->next) && ev_timer_remaining(loop, &freshening->next) <= after_s) return;
    ev_timer_stop(loop, &freshening->next);
    ev_timer_set(&freshening->next, after_s, 0.);
    ev_timer_start(loop, &freshening->next);
}

static void next_round(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    begin(timer->data);
}

static void regular_round(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    begin_round(timer->data, true);
}

/* Asks masters whose replicas were found behind, or all. False if one of these has not answered the last time yet. The marks
 * go first: a read that comes while they are being asked wants the next round. */
static bool begin_round(struct freshening *freshening, bool is_for_all)
{
    struct survey *survey = freshening->survey;
    bool has_asked_all = true;
    freshening->round_us = clock_us();
    atomic_store(&freshening->freshness->is_wanted, false);
    atomic_store(&freshening->freshness->is_due, false);
    for (uint32_t i = 0; i < survey->verdict.shard_count; i++) {
        struct probe *master = survey->verdict.shards[i].master;
        if (!master || !master->answers) continue;
        if (!is_for_all && !atomic_load(&master->gauge->is_behind)) continue;
        if (master->owes_replication) {
            master->is_sampled = true; /* its replicas are asked when it answers */
            has_asked_all = false;
            continue;
        }
        atomic_store(&master->gauge->is_behind, false);
        master->is_sampled = probe_ask_replication(master);
    }
    return has_asked_all;
}

void freshening_heard(struct freshening *freshening, struct probe *probe)
{
    if (!freshening->is_wanted) return;
    if (survey_is_master(freshening->survey, probe))
        take_sample(freshening, probe);
    else
        judge_replica(freshening, probe);
}

static void take_sample(struct freshening *freshening, struct probe *master)
{
    if (!master->samples) master->samples = calloc(1, sizeof(*master->samples));
    if (!master->samples || master->role != NODE_ROLE_MASTER) return;
    freshness_sample(master->samples, master->replid, master->offset, master->replication_asked_us);
    atomic_store_explicit(&master->gauge->fresh_us, 0, memory_order_relaxed); /* should it become a replica */
    freshening->has_samples |= master->is_sampled;
}

static void judge_replica(struct freshening *freshening, struct probe *replica)
{
    const struct survey_shard *shard = survey_shard_of(freshening->survey, replica);
    const struct probe *master = shard ? shard->master : NULL;
    if (!master || !master->samples || replica->applied < 0 || replica->role != NODE_ROLE_REPLICA) return;
    uint64_t fresh_us = freshness_of(master->samples, replica->replid, replica->applied);
    if (fresh_us > atomic_load_explicit(&replica->gauge->fresh_us, memory_order_relaxed))
        atomic_store_explicit(&replica->gauge->fresh_us, fresh_us, memory_order_relaxed);
}

uint64_t freshening_lag_us(const struct probe *master, const struct probe *replica)
{
    const struct freshness_samples *samples = master->samples;
    uint64_t fresh_us = atomic_load_explicit(&replica->gauge->fresh_us, memory_order_relaxed);
    uint64_t newest_us = samples && samples->count ? samples->samples[samples->count - 1].asked_us : 0;
    return fresh_us && newest_us > fresh_us ? newest_us - fresh_us : 0;
}

/* All replicas of the masters that have answered in this turn, in one pass. */
void freshening_run(struct freshening *freshening)
{
    struct survey *survey = freshening->survey;
    if (!freshening->has_samples) return;
    freshening->has_samples = false;
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        const struct survey_shard *shard = survey_shard_of(survey, probe);
        const struct probe *master = shard ? shard->master : NULL;
        if (master && master != probe && master->is_sampled && !master->owes_replication)
            probe_ask_replication(probe);
    }
    for (uint32_t i = 0; i < survey->verdict.shard_count; i++) {
        struct probe *master = survey->verdict.shards[i].master;
        if (master && !master->owes_replication) master->is_sampled = false;
    }
}
