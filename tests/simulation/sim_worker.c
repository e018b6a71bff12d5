/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/simulation/sim_worker.h"

#include "routing/backoff.h"
#include "routing/ejection.h"
#include "routing/freshness.h"
#include "routing/verdict.h"
#include "tests/simulation/sim_check.h"
#include "tests/simulation/sim_client.h"
#include "tests/simulation/sim_control.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    LETTER_MS = 20, /* by then a letter of the control thread is read, mostly much earlier */
    UNFIT_GRACE_MS = 1000,
    REQUEST_BYTES = 64,
    BREAKER_OPEN_MS = 60000,
    SLOW_START_MS = 10000,
    MAX_EJECTED = 50,
    BUDGET_PERCENT = 20,
    REPLICAS_MOST = GRAY_SIBLINGS_MOST,
    TURN_US = 100, /* a turn of a loop, as far as picks know */
};

static sim_handler adopt, tick, release_now, connected, connection_lost, trial_over;
static sim_receiver hear_reply, hear_trial;
static void bind_roles(struct sim *sim, struct sim_worker *worker, struct sim_queue *again);
static void follow_replicas(struct sim *sim, struct sim_worker *worker, const struct topology *topology);
static bool has_same_replicas(const struct topology_shard *a, const struct topology_shard *b);
static void dispatch(struct sim *sim, struct sim_worker *worker, struct sim_request *request);
static void dispatch_all(struct sim *sim, struct sim_worker *worker, struct sim_queue *queue);
static uint64_t asked_us(const struct sim *sim, const struct sim_worker *worker, const struct sim_request *request);
static uint32_t choose(struct sim *sim, struct sim_worker *worker, struct sim_request *request);
static uint32_t pick_node(struct sim *sim, struct sim_worker *worker, const struct sim_request *request,
                          enum pick_policy policy);
static bool is_proven(const struct sim *sim, const struct sim_worker *worker, const struct sim_request *request,
                      uint32_t node);
static bool has_replica_behind(const struct sim_worker *worker, const struct sim_request *request,
                               const struct topology_shard *shard);
static bool is_behind_others(const struct sim *sim, const struct sim_worker *worker, const struct sim_request *request);
static void hold(struct sim *sim, struct sim_worker *worker, struct sim_request *request);
static bool may_be_held(struct sim *sim, struct sim_worker *worker);
static struct sim_queue take_held(struct sim *sim, struct sim_worker *worker, uint64_t until_ms);
static void retry_at(struct sim *sim, struct sim_worker *worker, uint64_t at_ms);
static void queue_on(struct sim *sim, struct sim_worker *worker, uint32_t node, struct sim_request *request);
static void open_connection(struct sim *sim, struct sim_worker *worker, uint32_t node);
static void send_request(struct sim *sim, struct sim_worker *worker, uint32_t node, struct sim_request *request);
static void close_connection(struct sim *sim, struct sim_worker *worker, uint32_t node, enum outcome outcome,
                             struct sim_queue *again);
static void close_and_go_on(struct sim *sim, struct sim_worker *worker, uint32_t node, enum outcome outcome);
static void end_request(struct sim *sim, struct sim_worker *worker, struct sim_request *request, enum outcome outcome,
                        struct sim_queue *again);
static bool may_repeat(struct sim *sim, struct sim_worker *worker, struct sim_request *request);
static void count_budget(struct sim *sim, struct sim_worker *worker, uint32_t earned, uint32_t spent);
static void answered(struct sim *sim, struct sim_worker *worker, uint32_t node, struct sim_request *request,
                     const struct sim_message *message);
static void refused(struct sim *sim, struct sim_worker *worker, uint32_t node, struct sim_request *request);
static void remember(struct sim *sim, const struct sim_worker *worker, const struct sim_request *request,
                     uint32_t node);
static void failed(struct sim *sim, struct sim_worker *worker, uint32_t node, uint32_t lost);
static void suspect(struct sim *sim, struct sim_worker *worker, uint32_t node);
static void refresh(struct sim *sim, struct sim_worker *worker, uint32_t node);
static void look(struct sim *sim, struct sim_worker *worker, uint32_t node);
static struct breaker_limits limits_of(const struct sim *sim, const struct sim_worker *worker, uint32_t node);
static bool tell(struct sim *sim, struct sim_worker *worker, uint32_t node, enum breaker_event event);
static void tell_failed(struct sim *sim, struct sim_worker *worker, uint32_t node);
static uint64_t due_ms(const struct sim *sim, const struct sim_worker *worker, uint32_t node);
static bool is_broken(const struct sim *sim, uint32_t node);
static bool admits(const struct sim *sim, const struct sim_worker *worker, uint32_t node);
static uint32_t take_answered(struct sim_worker *worker, uint32_t node);
static void try_if_due(struct sim *sim, struct sim_worker *worker, uint32_t node);
static void tick_node(struct sim *sim, struct sim_worker *worker, uint32_t node);
static void tick_outliers(struct sim *sim, struct sim_worker *worker, const struct topology_shard *shard);
static void measure(struct sim *sim, struct sim_worker *worker, uint32_t node);
static uint32_t siblings_us(const uint32_t *latencies_us, uint32_t count, uint32_t which, uint32_t master_us);
static uint32_t latency_us(const struct sim *sim, const struct sim_worker *worker, uint32_t node);
static void check_ejected(struct sim *sim, const struct ejection *decided, uint32_t count, bool has_other);
static void tick_held(struct sim *sim, struct sim_worker *worker);

/* ---- queues ---- */

static void push(struct sim_queue *queue, struct sim_request *request)
{
    request->next = NULL;
    if (!queue->first) queue->end = &queue->first;
    *queue->end = request;
    queue->end = &request->next;
    queue->count++;
}

static struct sim_request *pop(struct sim_queue *queue)
{
    struct sim_request *request = queue->first;
    if (!request) return NULL;
    queue->first = request->next;
    queue->count--;
    return request;
}

/* ---- life ---- */

void sim_workers_create(struct sim *sim)
{
    struct sim_workers *workers = sim->workers = sim_allocate(1, sizeof(*workers));
    workers->count = sim->setup.workers;
    workers->items = sim_allocate(workers->count, sizeof(*workers->items));
    workers->breakers = sim_allocate(sim->nodes->count, sizeof(*workers->breakers));
    workers->trials = sim_allocate(sim->nodes->count, sizeof(*workers->trials));
    for (uint32_t i = 0; i < workers->count; i++) {
        struct sim_worker *worker = &workers->items[i];
        worker->index = i;
        worker->random = sim_between(sim, 1, UINT32_MAX);
        worker->loads = sim_allocate(sim->nodes->count, sizeof(*worker->loads));
        worker->backends = sim_allocate(sim->nodes->count, sizeof(*worker->backends));
        worker->hold = hold_share(sim->setup.hold_requests, UINT32_MAX, workers->count);
        worker->budget = budget_share(BUDGET_PERCENT, workers->count);
        sim_after(sim, sim_between(sim, 0, SIM_TICK_MS * SIM_MS), tick, worker, 0);
    }
}

void sim_workers_destroy(struct sim *sim)
{
    for (size_t i = 0; i < sim->event_count; i++) {
        if (sim->events[i].handler == adopt) topology_release((struct topology *)(uintptr_t)sim->events[i].detail);
    }
    for (uint32_t i = 0; i < sim->workers->count; i++) {
        topology_release(sim->workers->items[i].topology);
        free(sim->workers->items[i].loads);
        free(sim->workers->items[i].backends);
    }
    free(sim->workers->items);
    free(sim->workers->breakers);
    free(sim->workers->trials);
    free(sim->workers);
}

/* ---- topologies ---- */

void sim_workers_publish(struct sim *sim, struct topology *topology)
{
    for (uint32_t i = 0; i < sim->workers->count; i++) {
        uint64_t wait_us = sim_chance(sim, 90) ? sim_between(sim, 10, 300) : sim_between(sim, 0, LETTER_MS * SIM_MS);
        sim_after(sim, wait_us, adopt, &sim->workers->items[i], (uint64_t)(uintptr_t)topology_take(topology));
    }
}

static void adopt(struct sim *sim, void *subject, uint64_t letter)
{
    struct sim_worker *worker = subject;
    struct topology *topology = (struct topology *)(uintptr_t)letter;
    bool keeps_old = sim_is_broken(sim, SIM_MUTATION_KEEP_OLD_MASTER) && worker->topology &&
                     worker->topology->shards[0].confirmed_us;
    if (keeps_old || (worker->topology && worker->topology->version >= topology->version)) {
        topology_release(topology);
        return;
    }
    struct sim_queue again = {0};
    follow_replicas(sim, worker, topology);
    topology_release(worker->topology);
    worker->topology = topology;
    worker->batch = (struct pick_batch){0};
    sim_tell(sim, "worker %u: topology %llu", worker->index, (unsigned long long)topology->version);
    bind_roles(sim, worker, &again);
    dispatch_all(sim, worker, &again);
    struct sim_queue held = take_held(sim, worker, UINT64_MAX);
    dispatch_all(sim, worker, &held);
}

static void follow_replicas(struct sim *sim, struct sim_worker *worker, const struct topology *topology)
{
    bool is_same = worker->topology != NULL;
    for (uint32_t i = 0; is_same && i < topology->shard_count; i++)
        is_same = has_same_replicas(&worker->topology->shards[i], &topology->shards[i]);
    if (is_same) return;
    worker->replicas_epoch++;
    worker->replicas_changed_us = sim->now_us;
}

static bool has_same_replicas(const struct topology_shard *a, const struct topology_shard *b)
{
    return a->replica_count == b->replica_count &&
           memcmp(a->replicas, b->replicas, a->replica_count * sizeof(*a->replicas)) == 0;
}

/* What is no longer the master gets nothing more, and what was sent to it has an unknown outcome: at once. */
static void bind_roles(struct sim *sim, struct sim_worker *worker, struct sim_queue *again)
{
    const struct topology *topology = worker->topology;
    for (uint32_t i = 0; i < topology->node_count; i++) {
        struct sim_backend *backend = &worker->backends[i];
        const struct topology_node *node = &topology->nodes[i];
        enum node_role was = backend->role;
        backend->role = node->role;
        if (was == NODE_ROLE_MASTER && node->role != NODE_ROLE_MASTER)
            close_connection(sim, worker, i, OUTCOME_CUT, again);
        if (was != node->role) {
            backend->is_failing = backend->is_spared = backend->is_out = false;
            backend->gray = (struct gray){0};
            backend->returned_ms = 0;
            worker->loads[i].is_gray = false;
            worker->loads[i].held_back = 0;
            tell(sim, worker, i, BREAKER_RESET);
        }
        if (!node->is_fit && !backend->unfit_since_ms) backend->unfit_since_ms = sim_now_ms(sim);
        if (node->is_fit && backend->unfit_since_ms) tell(sim, worker, i, BREAKER_SEEN);
        if (node->is_fit && backend->unfit_since_ms && backend->was_fit) backend->returned_ms = sim_now_ms(sim);
        backend->was_fit |= node->is_fit;
        if (node->is_fit) backend->unfit_since_ms = 0;
        bool is_doubted = backend->role == NODE_ROLE_MASTER && backend->lost_us &&
                          backend->lost_us >= topology->shards[node->shard].confirmed_us;
        if (is_doubted) sim_control_report(sim, i);
        look(sim, worker, i);
    }
}

/* ---- dispatching ---- */

void sim_worker_submit(struct sim *sim, struct sim_worker *worker, struct sim_request *request)
{
    if (request->is_read) request->fresh_after_us = asked_us(sim, worker, request);
    if (worker->topology)
        dispatch(sim, worker, request);
    else
        sim_client_done(sim, request->client, NULL);
}

static uint64_t asked_us(const struct sim *sim, const struct sim_worker *worker, const struct sim_request *request)
{
    uint64_t by_key_us = FRESHNESS_KNOWN, by_all_us = 0;
    if (sim_is_broken(sim, SIM_MUTATION_IGNORE_FRESHNESS)) return FRESHNESS_ANY;
    if (sim->setup.consistency == SIM_CONSISTENCY_SESSION) {
        by_key_us = freshness_session_asked(request->client->reading, request->cell);
        by_all_us = worker->replicas_changed_us;
    } else {
        by_key_us = freshness_asked(&sim->control->freshness->cells[request->cell]);
        by_all_us = freshness_asked(&sim->control->freshness->all);
    }
    uint64_t most_us = by_key_us > by_all_us ? by_key_us : by_all_us;
    return most_us > FRESHNESS_KNOWN ? most_us : FRESHNESS_KNOWN;
}

static void dispatch_all(struct sim *sim, struct sim_worker *worker, struct sim_queue *queue)
{
    for (struct sim_request *request; (request = pop(queue));)
        dispatch(sim, worker, request);
}

static void dispatch(struct sim *sim, struct sim_worker *worker, struct sim_request *request)
{
    uint64_t now_ms = sim_now_ms(sim);
    assert(worker->topology);
    request->state = SIM_NEW;
    if (is_behind_others(sim, worker, request)) request->not_before_ms = now_ms + 1;
    uint32_t node = request->not_before_ms > now_ms ? PICK_NONE : choose(sim, worker, request);
    if (node == PICK_NONE)
        hold(sim, worker, request);
    else
        queue_on(sim, worker, node, request);
}

static bool is_behind_others(const struct sim *sim, const struct sim_worker *worker, const struct sim_request *request)
{
    return request->is_read && request->fresh_after_us != FRESHNESS_ANY &&
           !sim_is_broken(sim, SIM_MUTATION_IGNORE_VERSION) &&
           freshness_is_behind(sim->control->freshness, worker->topology->version);
}

/* A connection made since its node was found to be fresh may lead to another process there: the master then. */
static uint32_t choose(struct sim *sim, struct sim_worker *worker, struct sim_request *request)
{
    uint32_t index = topology_shard_of(worker->topology, request->key);
    const struct topology_shard *shard = &worker->topology->shards[index];
    if (!request->is_read) return pick_write(worker->topology, shard, worker->loads);
    uint32_t node = pick_node(sim, worker, request, PICK_PREFER_REPLICA);
    bool is_for_master = node == PICK_NONE || node == shard->master;
    if (is_for_master && request->fresh_after_us != FRESHNESS_OF_MASTER && has_replica_behind(worker, request, shard))
        sim_control_want(sim, index);
    request->client->replicas_epoch = worker->replicas_epoch;
    if (is_for_master) return node;
    if (worker->backends[node].state == SIM_CLOSED) open_connection(sim, worker, node);
    if (is_proven(sim, worker, request, node)) return node;
    sim_control_want(sim, index);
    return pick_node(sim, worker, request, PICK_MASTER);
}

static uint32_t pick_node(struct sim *sim, struct sim_worker *worker, const struct sim_request *request,
                          enum pick_policy policy)
{
    const struct topology_shard *shard =
        &worker->topology->shards[topology_shard_of(worker->topology, request->key)];
    bool keeps_sessions =
        sim->setup.consistency == SIM_CONSISTENCY_SESSION && !sim_is_broken(sim, SIM_MUTATION_MOVE_SESSIONS);
    if (keeps_sessions && request->fresh_after_us != FRESHNESS_ANY)
        return pick_session_read(worker->topology, shard, worker->loads, policy, request->fresh_after_us,
                                 request->client->index, &request->client->own_replica);
    return pick_batched_read(worker->topology, shard, worker->loads, policy, request->fresh_after_us, &worker->batch,
                             1 + sim->now_us / TURN_US, &worker->random);
}

static bool is_proven(const struct sim *sim, const struct sim_worker *worker, const struct sim_request *request,
                      uint32_t node)
{
    const struct sim_backend *backend = &worker->backends[node];
    uint64_t fresh_us = topology_fresh_us(&worker->topology->nodes[node]);
    if (request->fresh_after_us == FRESHNESS_ANY) return true;
    if (sim_is_broken(sim, SIM_MUTATION_IGNORE_RESTARTS)) return fresh_us > request->fresh_after_us;
    return fresh_us > request->fresh_after_us && backend->state == SIM_READY && fresh_us > backend->established_us;
}

static bool has_replica_behind(const struct sim_worker *worker, const struct sim_request *request,
                               const struct topology_shard *shard)
{
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        uint32_t node = shard->replicas[i];
        const struct sim_backend *backend = &worker->backends[node];
        uint64_t needed_us = request->fresh_after_us;
        if (backend->state == SIM_READY && backend->established_us > needed_us) needed_us = backend->established_us;
        if (worker->loads[node].is_usable && topology_fresh_us(&worker->topology->nodes[node]) <= needed_us)
            return true;
    }
    return false;
}

/* ---- holding ---- */

static void hold(struct sim *sim, struct sim_worker *worker, struct sim_request *request)
{
    uint64_t now_ms = sim_now_ms(sim);
    if (!request->hold_deadline_ms) request->hold_deadline_ms = now_ms + SIM_HOLD_MS;
    if (request->hold_deadline_ms <= now_ms || !may_be_held(sim, worker)) {
        sim_client_done(sim, request->client, NULL);
        return;
    }
    request->state = SIM_HELD;
    request->deadline_ms = 0;
    push(&worker->held, request);
    uint64_t bound = (sim->setup.hold_requests + sim->workers->count - 1) / sim->workers->count;
    sim_check_that(sim, worker->held.count <= bound, SIM_PROMISE_HELD);
    if (request->not_before_ms > now_ms) retry_at(sim, worker, request->not_before_ms);
}

static bool may_be_held(struct sim *sim, struct sim_worker *worker)
{
    return sim_is_broken(sim, SIM_MUTATION_HOLD_ALL) || hold_enter(&worker->hold, REQUEST_BYTES);
}

static struct sim_queue take_held(struct sim *sim, struct sim_worker *worker, uint64_t until_ms)
{
    struct sim_queue held = worker->held, taken = {0};
    worker->held = (struct sim_queue){0};
    for (struct sim_request *request; (request = pop(&held));) {
        bool is_taken = request->hold_deadline_ms <= until_ms;
        push(is_taken ? &taken : &worker->held, request);
        if (is_taken && !sim_is_broken(sim, SIM_MUTATION_HOLD_ALL)) hold_leave(&worker->hold, REQUEST_BYTES);
    }
    return taken;
}

static void tick_held(struct sim *sim, struct sim_worker *worker)
{
    if (sim_is_broken(sim, SIM_MUTATION_HOLD_FOREVER)) return;
    struct sim_queue due = take_held(sim, worker, sim_now_ms(sim));
    for (struct sim_request *request; (request = pop(&due));)
        sim_client_done(sim, request->client, NULL);
}

static void retry_at(struct sim *sim, struct sim_worker *worker, uint64_t at_ms)
{
    uint64_t at_us = at_ms * SIM_MS > sim->now_us ? at_ms * SIM_MS : sim->now_us + SIM_MS / 2;
    if (worker->release_us && worker->release_us <= at_us) return;
    worker->release_us = at_us;
    sim_at(sim, at_us, release_now, worker, at_us);
}

static void release_now(struct sim *sim, void *subject, uint64_t at_us)
{
    struct sim_worker *worker = subject;
    if (worker->release_us != at_us) return;
    worker->release_us = 0;
    for (uint32_t i = 0; worker->topology && i < worker->topology->node_count; i++)
        look(sim, worker, i);
    struct sim_queue held = take_held(sim, worker, UINT64_MAX);
    dispatch_all(sim, worker, &held);
}

/* ---- connections ---- */

static void queue_on(struct sim *sim, struct sim_worker *worker, uint32_t node, struct sim_request *request)
{
    struct sim_backend *backend = &worker->backends[node];
    struct freshness_cell *cell = &sim->control->freshness->cells[request->cell];
    if (backend->state == SIM_CLOSED) open_connection(sim, worker, node);
    request->state = SIM_IN_FLIGHT;
    request->was_sent = false;
    request->replicas_epoch = worker->replicas_epoch;
    request->deadline_ms = sim_now_ms(sim) + SIM_REQUEST_TIMEOUT_MS;
    worker->loads[node].outstanding++;
    push(&backend->queue, request);
    if (!request->is_read) {
        freshness_note_version(sim->control->freshness, worker->topology->version);
        worker->has_marked = true;
        freshness_begin(cell);
        if (sim_is_broken(sim, SIM_MUTATION_IGNORE_FLIGHT)) freshness_end(cell, sim->now_us);
    }
    if (backend->state == SIM_READY) send_request(sim, worker, node, request);
}

static void open_connection(struct sim *sim, struct sim_worker *worker, uint32_t node)
{
    struct sim_backend *backend = &worker->backends[node];
    backend->state = SIM_CONNECTING;
    backend->connect_by_ms = sim_now_ms(sim) + SIM_CONNECT_TIMEOUT_MS;
    sim_after(sim, 2 * sim_latency_us(sim), connected, worker, backend->generation << 32 | node);
}

/* The kernel of a frozen process accepts. */
static void connected(struct sim *sim, void *subject, uint64_t which)
{
    struct sim_worker *worker = subject;
    uint32_t node = (uint32_t)which;
    struct sim_backend *backend = &worker->backends[node];
    if (backend->generation != which >> 32 || backend->state != SIM_CONNECTING) return;
    if (sim->nodes->nodes[node].health == SIM_DEAD) {
        close_and_go_on(sim, worker, node, OUTCOME_LOST);
        return;
    }
    backend->state = SIM_READY;
    backend->established_us = sim->now_us;
    sim_tell(sim, "worker %u: connected to %s", worker->index, sim->nodes->nodes[node].name);
    for (struct sim_request *request = backend->queue.first; request; request = request->next)
        send_request(sim, worker, node, request);
    if (!backend->is_failing) return;
    tell(sim, worker, node, BREAKER_RELEASED);
    refresh(sim, worker, node);
    retry_at(sim, worker, sim_now_ms(sim));
}

static void send_request(struct sim *sim, struct sim_worker *worker, uint32_t node, struct sim_request *request)
{
    struct sim_backend *backend = &worker->backends[node];
    struct sim_message *message = sim_message_take(sim);
    message->question = request->is_read ? SIM_READ : SIM_WRITE;
    message->node = node;
    message->asker = worker->index;
    message->generation = backend->generation;
    message->key = request->key;
    message->write = request->write;
    message->wire = &backend->wire;
    message->receiver = hear_reply;
    request->was_sent = true;
    if (request->attempts++ == 0) {
        budget_earn(&worker->budget, 1, sim_now_ms(sim));
        count_budget(sim, worker, 1, 0);
    }
    request->sent_us = sim->now_us;
    if (!request->is_read) sim_check_sent(sim, node);
    sim_message_send(sim, message);
}

void sim_workers_node_lost(struct sim *sim, uint32_t node)
{
    for (uint32_t i = 0; i < sim->workers->count; i++)
        sim_worker_cut(sim, &sim->workers->items[i], node);
}

void sim_worker_cut(struct sim *sim, struct sim_worker *worker, uint32_t node)
{
    const struct sim_backend *backend = &worker->backends[node];
    if (backend->state != SIM_CLOSED)
        sim_after(sim, sim_latency_us(sim), connection_lost, worker, backend->generation << 32 | node);
}

static void connection_lost(struct sim *sim, void *subject, uint64_t which)
{
    struct sim_worker *worker = subject;
    if (worker->backends[(uint32_t)which].generation == which >> 32)
        close_and_go_on(sim, worker, (uint32_t)which, OUTCOME_LOST);
}

static void close_and_go_on(struct sim *sim, struct sim_worker *worker, uint32_t node, enum outcome outcome)
{
    struct sim_queue again = {0};
    close_connection(sim, worker, node, outcome, &again);
    dispatch_all(sim, worker, &again);
}

static void close_connection(struct sim *sim, struct sim_worker *worker, uint32_t node, enum outcome outcome,
                             struct sim_queue *again)
{
    struct sim_backend *backend = &worker->backends[node];
    if (backend->state == SIM_CLOSED) return;
    bool is_harm = backend->state != SIM_READY || backend->queue.first;
    bool had_failed = outcome == OUTCOME_TIMED_OUT || (outcome == OUTCOME_LOST && is_harm);
    uint32_t sent = backend->state == SIM_READY ? backend->queue.count : 0;
    struct sim_queue queue = backend->queue;
    backend->queue = (struct sim_queue){0};
    backend->state = SIM_CLOSED;
    backend->generation++;
    backend->wire = (struct sim_wire){0};
    if (had_failed)
        failed(sim, worker, node, sent);
    else if (outcome == OUTCOME_LOST)
        suspect(sim, worker, node);
    for (struct sim_request *request; (request = pop(&queue));) {
        worker->loads[node].outstanding--;
        end_request(sim, worker, request, outcome, again);
        if (outcome == OUTCOME_TIMED_OUT) outcome = OUTCOME_LOST; /* only the oldest was due */
    }
}

static void end_request(struct sim *sim, struct sim_worker *worker, struct sim_request *request, enum outcome outcome,
                        struct sim_queue *again)
{
    struct freshness_cell *cell = &sim->control->freshness->cells[request->cell];
    if (!request->is_read && !sim_is_broken(sim, SIM_MUTATION_IGNORE_FLIGHT)) {
        if (request->was_sent)
            freshness_end(cell, sim->now_us);
        else
            freshness_cancel(cell);
    }
    bool resends = sim_is_broken(sim, SIM_MUTATION_RESEND_WRITES);
    uint32_t attempts_most = sim_is_broken(sim, SIM_MUTATION_RETRY_FOREVER) ? UINT32_MAX : SIM_ATTEMPTS;
    struct request_history history = {.outcome = outcome,
                                      .is_read = request->is_read || resends,
                                      .was_sent = request->was_sent,
                                      .needs_master = !request->is_read,
                                      .attempts = request->attempts,
                                      .max_attempts = attempts_most};
    enum error error;
    request->losses += request->was_sent;
    request->state = SIM_NEW;
    request->not_before_ms = 0;
    bool is_again = verdict_of(&history, &error) == VERDICT_AGAIN;
    sim_check_that(sim, request->losses <= SIM_ATTEMPTS, SIM_PROMISE_ATTEMPTS);
    if (is_again && (!verdict_is_repeat(&history) || may_repeat(sim, worker, request)))
        push(again, request);
    else
        sim_client_done(sim, request->client, NULL);
}

/* Sent once, it goes elsewhere at once; sent more often, it waits. */
static bool may_repeat(struct sim *sim, struct sim_worker *worker, struct sim_request *request)
{
    uint64_t now_ms = sim_now_ms(sim);
    if (!budget_spend(&worker->budget, now_ms) && !sim_is_broken(sim, SIM_MUTATION_SPEND_ALL)) return false;
    count_budget(sim, worker, 0, 1);
    if (request->attempts >= 2)
        request->not_before_ms =
            now_ms + backoff_ms(request->attempts - 1U, SIM_RETRY_BASE_MS, SIM_RETRY_MAX_MS, &worker->random);
    return true;
}

/* As coarse as the budget itself: a window, and the part of it that is not over. */
static void count_budget(struct sim *sim, struct sim_worker *worker, uint32_t earned, uint32_t spent)
{
    uint64_t second = sim->now_us / SIM_S, all_earned = 0, all_spent = 0;
    const uint32_t slices = BUDGET_SLICES + 1;
    for (; worker->second < second; worker->second++)
        worker->earned[(worker->second + 1) % slices] = worker->spent[(worker->second + 1) % slices] = 0;
    worker->earned[second % slices] += earned;
    worker->spent[second % slices] += spent;
    for (uint32_t i = 0; i < slices; i++) {
        all_earned += worker->earned[i];
        all_spent += i == (second + 1) % slices ? 0 : worker->spent[i];
    }
    uint64_t reserve = (uint64_t)BUDGET_FLOOR_PER_SECOND * BUDGET_WINDOW_MS / 1000 / sim->workers->count + 1;
    if (spent == 0) return; /* what was earned for it then may be forgotten by now */
    sim_check_that(sim, all_spent <= all_earned * BUDGET_PERCENT / 100 + reserve, SIM_PROMISE_BUDGET);
}

static void hear_reply(struct sim *sim, struct sim_message *message)
{
    struct sim_worker *worker = &sim->workers->items[message->asker];
    struct sim_backend *backend = &worker->backends[message->node];
    if (backend->generation != message->generation) return;
    if (message->answer == SIM_GONE) {
        close_and_go_on(sim, worker, message->node, OUTCOME_LOST);
        return;
    }
    struct sim_request *request = pop(&backend->queue);
    worker->loads[message->node].outstanding--;
    backend->answered++;
    backend->latency_us = gray_average_us(backend->latency_us, (uint32_t)(sim->now_us - request->sent_us));
    if (message->answer == SIM_READONLY)
        refused(sim, worker, message->node, request);
    else
        answered(sim, worker, message->node, request, message);
}

static void answered(struct sim *sim, struct sim_worker *worker, uint32_t node, struct sim_request *request,
                     const struct sim_message *message)
{
    bool is_marked = request->is_read || sim_is_broken(sim, SIM_MUTATION_IGNORE_FLIGHT);
    if (!is_marked) freshness_end(&sim->control->freshness->cells[request->cell], sim->now_us);
    remember(sim, worker, request, node);
    sim_client_done(sim, request->client, message);
}

/* What came from a replica does not count as long as the client keeps to that. */
static void remember(struct sim *sim, const struct sim_worker *worker, const struct sim_request *request,
                     uint32_t node)
{
    struct freshness_session *reading = request->client->reading;
    bool is_from_replica = worker->backends[node].role == NODE_ROLE_REPLICA;
    bool forgets = sim_is_broken(sim, SIM_MUTATION_FORGET_SESSIONS) && !request->is_read;
    if (!reading || forgets || (is_from_replica && request->replicas_epoch == worker->replicas_epoch)) return;
    if (is_from_replica)
        freshness_session_raise(reading, sim->now_us);
    else
        freshness_session_saw(reading, request->cell, sim->now_us);
}

/* It did not run, and goes to the master once that is known. */
static void refused(struct sim *sim, struct sim_worker *worker, uint32_t node, struct sim_request *request)
{
    struct request_history history = {.outcome = OUTCOME_ANSWERED,
                                      .refusal = REFUSAL_READONLY,
                                      .was_sent = true,
                                      .needs_master = true,
                                      .attempts = request->attempts,
                                      .max_attempts = SIM_ATTEMPTS};
    enum error error;
    struct sim_backend *backend = &worker->backends[node];
    if (!sim_is_broken(sim, SIM_MUTATION_IGNORE_FLIGHT))
        freshness_end(&sim->control->freshness->cells[request->cell], sim->now_us);
    take_answered(worker, node);
    tell_failed(sim, worker, node);
    backend->is_failing = true;
    suspect(sim, worker, node);
    if (verdict_of(&history, &error) != VERDICT_HOLD) {
        sim_client_done(sim, request->client, NULL);
        return;
    }
    request->not_before_ms = 0;
    dispatch(sim, worker, request);
}

/* ---- health ---- */

static void failed(struct sim *sim, struct sim_worker *worker, uint32_t node, uint32_t lost)
{
    struct breaker_limits limits = limits_of(sim, worker, node);
    uint32_t count = take_answered(worker, node), bad = lost ? lost : 1;
    if (breaker_count(&sim->workers->breakers[node], count + bad, bad, &limits, sim_now_ms(sim)))
        tell(sim, worker, node, BREAKER_OVERRUN);
    tell_failed(sim, worker, node);
    worker->backends[node].is_failing = true;
    suspect(sim, worker, node);
}

static void suspect(struct sim *sim, struct sim_worker *worker, uint32_t node)
{
    worker->backends[node].lost_us = sim->now_us;
    sim_control_report(sim, node);
    look(sim, worker, node);
}

static void refresh(struct sim *sim, struct sim_worker *worker, uint32_t node)
{
    const struct sim_backend *backend = &worker->backends[node];
    const struct topology_shard *shard = &worker->topology->shards[worker->topology->nodes[node].shard];
    bool is_on_trial = backend->is_failing && backend->state == SIM_CONNECTING;
    bool is_usable = admits(sim, worker, node) && !is_on_trial;
    if (backend->role == NODE_ROLE_MASTER) is_usable &= backend->lost_us < shard->confirmed_us;
    worker->loads[node].is_usable = is_usable;
}

static void look(struct sim *sim, struct sim_worker *worker, uint32_t node)
{
    try_if_due(sim, worker, node);
    refresh(sim, worker, node);
    uint64_t at_ms = due_ms(sim, worker, node);
    bool is_waiting = worker->backends[node].is_failing || is_broken(sim, node);
    if (is_waiting && at_ms > sim_now_ms(sim)) retry_at(sim, worker, at_ms);
}

static struct breaker_limits limits_of(const struct sim *sim, const struct sim_worker *worker, uint32_t node)
{
    const struct sim_backend *backend = &worker->backends[node];
    bool is_wanted = backend->role == NODE_ROLE_MASTER || backend->is_spared;
    return (struct breaker_limits){.failures = sim->setup.breaker_failures,
                                   .ratio = sim->setup.breaker_ratio,
                                   .base_ms = SIM_RETRY_BASE_MS,
                                   .rest_max_ms = SIM_RETRY_MAX_MS,
                                   .open_max_ms = is_wanted ? SIM_RETRY_MAX_MS : BREAKER_OPEN_MS,
                                   .trial_max_ms = UINT64_C(3) * SIM_CONNECT_TIMEOUT_MS};
}

static bool tell(struct sim *sim, struct sim_worker *worker, uint32_t node, enum breaker_event event)
{
    struct breaker_limits limits = limits_of(sim, worker, node);
    enum breaker_state was;
    if (event == BREAKER_RESET) sim->workers->trials[node] = 0; /* one on its way speaks of what was */
    return breaker_tell(&sim->workers->breakers[node], event, &limits, sim_now_ms(sim), &worker->random, &was);
}

/* While a trial is under way that alone tells: another one would begin beside it else. */
static void tell_failed(struct sim *sim, struct sim_worker *worker, uint32_t node)
{
    if (breaker_state_of(breaker_word(&sim->workers->breakers[node])) != BREAKER_HALF_OPEN)
        tell(sim, worker, node, BREAKER_FAILED);
}

static uint64_t due_ms(const struct sim *sim, const struct sim_worker *worker, uint32_t node)
{
    struct breaker_limits limits = limits_of(sim, worker, node);
    return breaker_due_ms(breaker_word(&sim->workers->breakers[node]), &limits);
}

static bool is_broken(const struct sim *sim, uint32_t node)
{
    return breaker_state_of(breaker_word(&sim->workers->breakers[node])) != BREAKER_CLOSED;
}

static bool admits(const struct sim *sim, const struct sim_worker *worker, uint32_t node)
{
    const struct sim_backend *backend = &worker->backends[node];
    enum breaker_state state = breaker_state_of(breaker_word(&sim->workers->breakers[node]));
    if (state != BREAKER_CLOSED && !backend->is_spared) return false;
    if (state == BREAKER_HALF_OPEN) return true;
    return !backend->is_failing || sim_now_ms(sim) >= due_ms(sim, worker, node);
}

static uint32_t take_answered(struct sim_worker *worker, uint32_t node)
{
    uint32_t count = worker->backends[node].answered;
    worker->backends[node].answered = 0;
    return count;
}

static void try_if_due(struct sim *sim, struct sim_worker *worker, uint32_t node)
{
    struct sim_backend *backend = &worker->backends[node];
    bool is_fit = worker->topology->nodes[node].is_fit;
    bool is_careless = sim_is_broken(sim, SIM_MUTATION_TRY_TOGETHER) && !backend->is_trying;
    if (!is_fit || !is_broken(sim, node) || due_ms(sim, worker, node) > sim_now_ms(sim)) {
        if (!is_fit || !is_careless || !is_broken(sim, node)) return;
    }
    if (!tell(sim, worker, node, BREAKER_TRY) && !is_careless) return;
    struct sim_message *message = sim_message_take(sim);
    message->question = SIM_PROBE;
    message->node = node;
    message->asker = worker->index;
    message->generation = ++backend->trial;
    message->wire = &backend->trial_wire;
    message->receiver = hear_trial;
    backend->trial_wire = (struct sim_wire){0};
    backend->is_trying = true;
    sim_tell(sim, "worker %u: tries %s", worker->index, sim->nodes->nodes[node].name);
    sim->workers->trials[node]++;
    sim_check_that(sim, sim->workers->trials[node] <= 1, SIM_PROMISE_TRIAL);
    sim_message_send(sim, message);
    sim_after(sim, (uint64_t)SIM_CONNECT_TIMEOUT_MS * SIM_MS, trial_over, worker, backend->trial << 32 | node);
}

static void end_trial(struct sim *sim, struct sim_worker *worker, uint32_t node, bool is_good)
{
    worker->backends[node].trial++;
    worker->backends[node].is_trying = false;
    sim->workers->trials[node] -= sim->workers->trials[node] > 0;
    tell(sim, worker, node, is_good ? BREAKER_PROVEN : BREAKER_FAILED);
    look(sim, worker, node);
    retry_at(sim, worker, sim_now_ms(sim));
}

static void hear_trial(struct sim *sim, struct sim_message *message)
{
    struct sim_worker *worker = &sim->workers->items[message->asker];
    if (worker->backends[message->node].trial == message->generation)
        end_trial(sim, worker, message->node, message->answer == SIM_DONE);
}

static void trial_over(struct sim *sim, void *subject, uint64_t which)
{
    struct sim_worker *worker = subject;
    if (worker->backends[(uint32_t)which].trial == which >> 32) end_trial(sim, worker, (uint32_t)which, false);
}

/* ---- every 100 ms ---- */

static void tick(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_worker *worker = subject;
    sim_after(sim, SIM_TICK_MS * SIM_MS, tick, worker, 0);
    if (!worker->topology) return;
    for (uint32_t i = 0; i < worker->topology->node_count; i++)
        tick_node(sim, worker, i);
    tick_held(sim, worker);
    for (uint32_t i = 0; i < worker->topology->shard_count; i++) {
        const struct topology_shard *shard = &worker->topology->shards[i];
        if (shard->replica_count == 0) continue;
        tick_outliers(sim, worker, shard);
        if (worker->has_marked) sim_control_want(sim, i);
    }
    worker->has_marked = false;
}

static void tick_node(struct sim *sim, struct sim_worker *worker, uint32_t node)
{
    struct sim_backend *backend = &worker->backends[node];
    uint64_t now_ms = sim_now_ms(sim);
    const struct sim_request *oldest = backend->queue.first;
    bool is_late = backend->state == SIM_READY && oldest && now_ms >= oldest->deadline_ms;
    bool is_slow = backend->state == SIM_CONNECTING && now_ms >= backend->connect_by_ms;
    bool is_given_up = oldest && backend->role == NODE_ROLE_REPLICA && backend->unfit_since_ms &&
                       now_ms - backend->unfit_since_ms > UNFIT_GRACE_MS;
    if (is_late && !sim_is_broken(sim, SIM_MUTATION_WAIT_FOREVER))
        close_and_go_on(sim, worker, node, OUTCOME_TIMED_OUT);
    else if ((is_slow || is_given_up) && !sim_is_broken(sim, SIM_MUTATION_WAIT_FOREVER))
        close_and_go_on(sim, worker, node, OUTCOME_LOST);

    bool was_closed = !is_broken(sim, node);
    uint32_t count = take_answered(worker, node);
    if (count > 0) {
        struct breaker_limits limits = limits_of(sim, worker, node);
        breaker_count(&sim->workers->breakers[node], count, 0, &limits, now_ms);
        backend->is_failing = false;
        if (was_closed) tell(sim, worker, node, BREAKER_SUCCEEDED);
    }
    look(sim, worker, node);
}

static void tick_outliers(struct sim *sim, struct sim_worker *worker, const struct topology_shard *shard)
{
    uint32_t count = shard->replica_count < REPLICAS_MOST ? shard->replica_count : REPLICAS_MOST;
    uint32_t latencies_us[REPLICAS_MOST];
    struct ejection decided[REPLICAS_MOST];
    bool has_master = shard->master != TOPOLOGY_NO_NODE && worker->topology->nodes[shard->master].is_fit;
    uint32_t master_us = has_master ? latency_us(sim, worker, shard->master) : 0;
    bool has_other = has_master && worker->loads[shard->master].is_usable;
    for (uint32_t i = 0; i < count; i++)
        latencies_us[i] = latency_us(sim, worker, shard->replicas[i]);
    for (uint32_t i = 0; i < count; i++) {
        struct sim_backend *backend = &worker->backends[shard->replicas[i]];
        gray_update(&backend->gray, latencies_us[i], siblings_us(latencies_us, count, i, master_us), sim_now_ms(sim));
        bool is_open = is_broken(sim, shard->replicas[i]);
        decided[i] = (struct ejection){.is_broken = is_open, .is_gray = backend->gray.is_gray};
    }
    ejection_decide(decided, count, MAX_EJECTED, has_other);
    for (uint32_t i = 0; i < count; i++) {
        struct sim_backend *backend = &worker->backends[shard->replicas[i]];
        bool ejects_all = sim_is_broken(sim, SIM_MUTATION_EJECT_ALL) && (decided[i].is_broken || decided[i].is_gray);
        decided[i].is_out |= ejects_all;
        backend->is_out = decided[i].is_out;
        backend->is_spared = decided[i].is_broken && !decided[i].is_out;
        bool is_gray = decided[i].is_out && !decided[i].is_broken;
        if (worker->loads[shard->replicas[i]].is_gray && !is_gray) backend->returned_ms = sim_now_ms(sim);
        worker->loads[shard->replicas[i]].is_gray = is_gray;
        worker->loads[shard->replicas[i]].is_quick = backend->latency_us > 0 && backend->latency_us < PICK_QUICK_US;
        worker->loads[shard->replicas[i]].held_back =
            backend->returned_ms ? pick_held_back(sim_now_ms(sim) - backend->returned_ms, SLOW_START_MS) : 0;
        if (is_gray) measure(sim, worker, shard->replicas[i]);
        refresh(sim, worker, shard->replicas[i]);
    }
    check_ejected(sim, decided, count, has_other);
}

/* A node without reads is asked how long that takes. */
static void measure(struct sim *sim, struct sim_worker *worker, uint32_t node)
{
    const struct sim_node *asked = &sim->nodes->nodes[node];
    if (asked->health != SIM_ALIVE) return;
    uint64_t took_us = asked->service_us + 2 * sim_latency_us(sim);
    worker->backends[node].latency_us = gray_average_us(worker->backends[node].latency_us, (uint32_t)took_us);
}

static uint32_t siblings_us(const uint32_t *latencies_us, uint32_t count, uint32_t which, uint32_t master_us)
{
    uint32_t others_us[REPLICAS_MOST + 1];
    uint32_t others = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i != which) others_us[others++] = latencies_us[i];
    }
    if (others < 2) others_us[others++] = master_us;
    return gray_median_us(others_us, others);
}

/* What is not answered yet has taken as long as it has. */
static uint32_t latency_us(const struct sim *sim, const struct sim_worker *worker, uint32_t node)
{
    const struct sim_backend *backend = &worker->backends[node];
    const struct sim_request *oldest = backend->state == SIM_READY ? backend->queue.first : NULL;
    uint64_t waits_us = oldest ? sim->now_us - oldest->sent_us : 0;
    return waits_us > backend->latency_us ? (uint32_t)waits_us : backend->latency_us;
}

static void check_ejected(struct sim *sim, const struct ejection *decided, uint32_t count, bool has_other)
{
    uint32_t out = 0, bound = count * MAX_EJECTED / 100 > 0 ? count * MAX_EJECTED / 100 : 1;
    for (uint32_t i = 0; i < count; i++)
        out += decided[i].is_out;
    sim_check_that(sim, out <= bound && (out < count || has_other), SIM_PROMISE_EJECTED);
}
