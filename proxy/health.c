/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/health.h"

#include "proxy/backend.h"
#include "proxy/log.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum {
    TRIAL_LANE = UINT16_MAX, /* beyond any of pool.shared_connections, and of no lane */
    TRIAL_GRACE_MS = 1000,       /* a trial that has not ended by its deadlines and this has been forgotten */
};

static void tell(struct backend *backend, enum breaker_event event);
static void tell_failure(struct backend *backend);
static struct breaker_limits limits_of(const struct backend *backend);
static uint32_t take_answered(struct backend *backend);
static void try_if_due(struct backend *backend);
static void trial_answered(struct inquiry *inquiry, struct slice reply);
static void note_return(struct backend *backend);

static struct worker *worker_of(const struct backend *backend) { return backend->upstream->worker; }

bool health_is_broken(const struct backend *backend)
{
    return breaker_state_of(breaker_word(&backend->gauge->breaker)) != BREAKER_CLOSED;
}

void health_forget(struct backend *backend)
{
    backend->is_failing = backend->is_spared = backend->is_ejected = backend->was_open = false;
    backend->gray = (struct gray){0};
    backend->load->is_gray = false;
    backend->load->held_back = 0;
    backend->returned_ms = 0;
    tell(backend, BREAKER_RESET);
}

/* One that is fit for the first time does not come back. */
void health_is_fit_again(struct backend *backend)
{
    if (backend->was_fit)
        backend->returned_ms = worker_of(backend)->now_ms;
    backend->was_fit = true;
    tell(backend, BREAKER_SEEN);
}

static void tell(struct backend *backend, enum breaker_event event)
{
    struct worker *worker = worker_of(backend);
    struct breaker_limits limits = limits_of(backend);
    enum breaker_state was;
    if (!breaker_tell(&backend->gauge->breaker, event, &limits, worker->now_ms, &worker->seed, &was) ||
        was != BREAKER_CLOSED)
        return;
    stats_add(&worker->stats, STAT_BREAKER_OPENINGS, 1);
    if (breaker_failures_of(breaker_word(&backend->gauge->breaker)) > 1)
        return; /* it has answered trials in between, and nothing else */
    log_warning("node %s: breaker open, since %s; %s", backend->name,
                event == BREAKER_OVERRUN ? "too many of its last requests failed" : "it failed too often in a row",
                backend->role == NODE_ROLE_MASTER ? "writes wait" : "reads go to other nodes");
}

/* A master is tried soon: nobody can take its place. So is what is spared. */
static struct breaker_limits limits_of(const struct backend *backend)
{
    const struct config_upstream *config = backend->upstream->config;
    bool is_wanted = backend->role == NODE_ROLE_MASTER || backend->is_spared;
    return (struct breaker_limits){
        .failures = (uint32_t)config->breaker_failures,
        .ratio = (uint32_t)config->breaker_failure_ratio,
        .base_ms = (uint64_t)config->retry_base_delay_ms,
        .rest_max_ms = (uint64_t)config->retry_max_delay_ms,
        .open_max_ms = (uint64_t)(is_wanted ? config->retry_max_delay_ms : config->breaker_open_time_ms),
        .trial_max_ms = 2 * (uint64_t)config->connect_timeout_ms + TRIAL_GRACE_MS,
    };
}

uint64_t health_due_ms(const struct backend *backend)
{
    struct breaker_limits limits = limits_of(backend);
    return breaker_due_ms(breaker_word(&backend->gauge->breaker), &limits);
}

/* While it is closed, only who has failed to reach it waits. */
bool health_admits(const struct backend *backend)
{
    enum breaker_state state = breaker_state_of(breaker_word(&backend->gauge->breaker));
    if (state != BREAKER_CLOSED && !backend->is_spared)
        return false;
    if (state == BREAKER_HALF_OPEN)
        return true; /* it has rested */
    return !backend->is_failing || worker_of(backend)->now_ms >= health_due_ms(backend);
}

/* Requests that were answered since this was asked last. */
static uint32_t take_answered(struct backend *backend)
{
    uint32_t answered = backend->answered;
    backend->answered = 0;
    for (struct connection *connection = backend->connections; connection; connection = connection->next) {
        if (connection->lane_index != TRIAL_LANE)
            answered += connection->taken - connection->told;
        connection->told = connection->taken;
    }
    return answered;
}

/* Of a connection that never came to be, there is no request to be counted but the one that was not possible. */
void health_failed(struct backend *backend)
{
    struct breaker_limits limits = limits_of(backend);
    uint32_t answered = take_answered(backend), failed = backend->lost ? backend->lost : 1;
    backend->lost = 0;
    if (breaker_count(&backend->gauge->breaker, answered + failed, failed, &limits, worker_of(backend)->now_ms))
        tell(backend, BREAKER_OVERRUN);
    tell_failure(backend);
}

void health_refused(struct backend *backend)
{
    take_answered(backend);
    tell_failure(backend);
}

/* While a trial is under way, it alone says what has come of it: else another might begin beside it. */
static void tell_failure(struct backend *backend)
{
    bool is_trial = backend->trial_has_failed;
    backend->trial_has_failed = false;
    if (is_trial || breaker_state_of(breaker_word(&backend->gauge->breaker)) != BREAKER_HALF_OPEN)
        tell(backend, BREAKER_FAILED);
}

void health_connected(struct backend *backend)
{
    if (backend->is_failing)
        tell(backend, BREAKER_RELEASED);
}

void health_connection_fails(struct connection *connection)
{
    connection->backend->trial_has_failed = connection->lane_index == TRIAL_LANE;
}

void health_connection_ended(struct connection *connection)
{
    if (connection->lane_index != TRIAL_LANE)
        connection->backend->answered += connection->taken - connection->told;
    connection->told = connection->taken;
}

void health_look(struct backend *backend)
{
    try_if_due(backend);
    note_return(backend);
}

/* Not one that the control thread finds unfit: that tells when it is well again. */
static void try_if_due(struct backend *backend)
{
    struct worker *worker = worker_of(backend);
    struct breaker_limits limits = limits_of(backend);
    enum breaker_state was;
    bool is_fit = backend->node != TOPOLOGY_NO_NODE && backend->upstream->topology->nodes[backend->node].is_fit;
    if (!is_fit || !health_is_broken(backend) || health_due_ms(backend) > worker->now_ms || worker->is_draining)
        return;
    if (!breaker_tell(&backend->gauge->breaker, BREAKER_TRY, &limits, worker->now_ms, &worker->seed, &was))
        return;
    struct connection *connection = connection_open(backend, 0, 2, false);
    if (!connection) {
        backend->trial_has_failed = true;
        backend_failed(backend, strerror(errno));
        return;
    }
    connection->lane_index = TRIAL_LANE;
    connection->is_retiring = true;
    backend->trial.answered = trial_answered;
    if (!connection_inquire(connection, &SLICE("PING"), 1, (uint32_t)backend->upstream->config->connect_timeout_ms,
                            &backend->trial)) {
        connection_close(connection, OUTCOME_CUT, NULL);
        tell(backend, BREAKER_ABANDONED);
    }
}

/* Without an answer the connection has failed, and said so, or was cut. */
static void trial_answered(struct inquiry *inquiry, struct slice reply)
{
    struct backend *backend = (struct backend *)((char *)inquiry - offsetof(struct backend, trial));
    backend->trial_has_failed = false;
    if (reply.size == 0 || refusal_of(reply) != REFUSAL_NONE) {
        tell(backend, reply.size == 0 ? BREAKER_ABANDONED : BREAKER_FAILED);
        return;
    }
    tell(backend, BREAKER_PROVEN);
    note_return(backend);
    backend_refresh(backend);
    upstream_retry_at(backend->upstream, worker_of(backend)->now_ms);
    upstream_spread_word(backend->upstream);
}

/* Its breaker is closed again, whoever has seen to it. */
static void note_return(struct backend *backend)
{
    bool is_open = health_is_broken(backend);
    if (backend->was_open && !is_open)
        backend->returned_ms = worker_of(backend)->now_ms;
    backend->was_open = is_open;
}

void health_timed(struct backend *backend, uint64_t took_us)
{
    uint32_t sample_us = took_us < UINT32_MAX ? (uint32_t)took_us : UINT32_MAX;
    backend->latency_us = gray_average_us(backend->latency_us, sample_us);
}

/* What is not answered yet has taken as long as it has. */
uint32_t health_latency_us(const struct backend *backend)
{
    uint64_t now_us = worker_of(backend)->now_us, latency_us = backend->latency_us;
    for (const struct connection *connection = backend->connections; connection; connection = connection->next) {
        if (connection->timed_us && now_us - connection->timed_us > latency_us)
            latency_us = now_us - connection->timed_us;
    }
    return latency_us < UINT32_MAX ? (uint32_t)latency_us : UINT32_MAX;
}

/* On a shared connection, where it is timed; one at a time. */
void health_measure(struct backend *backend)
{
    struct connection *connection = backend->connections;
    while (connection && (connection->is_dedicated || connection->lane != LANE_ORDINARY || connection->is_retiring))
        connection = connection->next;
    if (!connection && backend->load->is_usable)
        connection = connection_open(backend, 0, 2, false);
    if (connection && !connection->timed_us && !connection->queue.first)
        connection_ask(connection, &SLICE("PING"), 1, QUESTION_NONE);
}

/* What is answered ends its failure. */
void health_tick(struct backend *backend)
{
    uint64_t word = breaker_word(&backend->gauge->breaker);
    uint32_t answered = take_answered(backend);
    if (answered == 0)
        return;
    struct breaker_limits limits = limits_of(backend);
    atomic_store_explicit(&backend->gauge->latency_us, backend->latency_us, memory_order_relaxed);
    breaker_count(&backend->gauge->breaker, answered, 0, &limits, worker_of(backend)->now_ms);
    if (backend->is_reported)
        log_info("node %s: reachable again", backend->name);
    backend->is_failing = backend->is_reported = false;
    if (breaker_state_of(word) == BREAKER_CLOSED)
        tell(backend, BREAKER_SUCCEEDED);
}
