/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_client.h - clients that write and read a few keys each, one request after the other.
 *
 * Owner: the sim.
 */
#ifndef SIMULATION_SIM_CLIENT_H
#define SIMULATION_SIM_CLIENT_H

#include "routing/freshness.h"
#include "tests/simulation/sim_worker.h"

enum { SIM_CLIENT_KEYS = 3 };

struct sim_client {
    uint32_t index;
    struct sim_worker *worker;
    struct sim_request request;
    uint32_t replicas_epoch;
    struct pick_memo own_replica;
    struct freshness_session *reading; /* NULL unless sessions are kept */
    uint32_t keys[SIM_CLIENT_KEYS];
    uint64_t known[SIM_CLIENT_KEYS];   /* the newest write to each that it has made or seen */
    uint32_t at;                       /* the key of its request */
    uint64_t required;                 /* what its read must show */
};

struct sim_clients {
    struct sim_client *items;
    uint32_t count;
    bool have_stopped;
};

void sim_clients_create(struct sim *sim);
void sim_clients_destroy(struct sim *sim);

/* It was answered (then the reply is there, of a write too), or failed. */
void sim_client_done(struct sim *sim, struct sim_client *client, const struct sim_message *reply);

#endif
