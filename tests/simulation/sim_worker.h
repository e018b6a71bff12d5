/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_worker.h - workers: each sends the requests of its clients to nodes, holds them, sends them again, and has
 * breakers, a retry budget and a judgement of slow nodes.
 *
 * What proxy/upstream.c, backend.c, connection.c, health.c, outliers.c and touch.c do, by the real routing/pick,
 * verdict, hold, backoff, freshness, breaker, budget, gray and ejection. A client has one request at a time, so that
 * there is no order to be kept.
 *
 * Owner: the sim. A request belongs to its client.
 */
#ifndef SIMULATION_SIM_WORKER_H
#define SIMULATION_SIM_WORKER_H

#include "routing/breaker.h"
#include "routing/budget.h"
#include "routing/gray.h"
#include "routing/hold.h"
#include "routing/pick.h"
#include "routing/topology.h"
#include "tests/simulation/sim_node.h"

struct sim_client;

enum sim_state { SIM_IDLE, SIM_NEW, SIM_HELD, SIM_IN_FLIGHT };

struct sim_request {
    struct sim_request *next;
    struct sim_client *client;
    enum sim_state state;
    bool is_read, was_sent;
    uint32_t key, cell;
    uint64_t write;          /* its number, of a write */
    uint64_t fresh_after_us; /* of a read */
    uint32_t replicas_epoch;
    uint32_t attempts, losses;
    uint64_t began_us, sent_us;
    uint64_t hold_deadline_ms, not_before_ms, deadline_ms;
};

struct sim_queue {
    struct sim_request *first, **end;
    uint32_t count;
};

enum sim_connection { SIM_CLOSED, SIM_CONNECTING, SIM_READY };

struct sim_backend {
    enum sim_connection state;
    uint64_t generation; /* of its connection */
    uint64_t established_us, connect_by_ms;
    struct sim_wire wire, trial_wire;
    struct sim_queue queue;
    enum node_role role;
    uint64_t lost_us, unfit_since_ms, returned_ms;
    uint32_t answered; /* and not told to the budget yet */
    uint32_t latency_us;
    struct gray gray;
    bool is_failing, is_spared, is_out, was_fit, is_trying;
    uint64_t trial;
};

struct sim_worker {
    uint32_t index;
    uint64_t random;
    struct topology *topology;
    struct pick_load *loads;
    struct pick_batch batch;
    struct sim_backend *backends; /* by node */
    struct hold hold;
    struct sim_queue held;
    struct budget budget;
    uint64_t release_us;
    bool has_marked;
    uint32_t replicas_epoch;
    uint64_t replicas_changed_us;
    uint32_t earned[BUDGET_SLICES + 1], spent[BUDGET_SLICES + 1]; /* by second, as the check counts them */
    uint64_t second;
};

struct sim_workers {
    struct sim_worker *items;
    uint32_t count;
    struct breaker *breakers; /* by node: of the process */
    uint32_t *trials;         /* on their way, by node */
};

void sim_workers_create(struct sim *sim);
void sim_workers_destroy(struct sim *sim);

/* All get the topology, one after the other. Borrows it. */
void sim_workers_publish(struct sim *sim, struct topology *topology);

/* The node's process is gone. */
void sim_workers_node_lost(struct sim *sim, uint32_t node);

/* The network has cut this worker off from the node; it may connect anew. */
void sim_worker_cut(struct sim *sim, struct sim_worker *worker, uint32_t node);

/* A request of a client: it ends by sim_client_done(). */
void sim_worker_submit(struct sim *sim, struct sim_worker *worker, struct sim_request *request);

#endif
