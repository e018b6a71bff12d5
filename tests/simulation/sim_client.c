/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/simulation/sim_client.h"

#include "tests/simulation/sim_check.h"
#include "tests/simulation/sim_control.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOOK_MS = 500, KEY_SIZE = 24 };

static sim_handler wake, look;
static void go_on(struct sim *sim, struct sim_client *client);
static uint32_t cell_of(const struct sim *sim, uint32_t key);
static void check_reply(struct sim *sim, struct sim_client *client, const struct sim_message *reply);
static bool is_in_time(const struct sim *sim, const struct sim_request *request);

void sim_clients_create(struct sim *sim)
{
    struct sim_clients *clients = sim->clients = sim_allocate(1, sizeof(*clients));
    uint32_t keys = sim->nodes->keys_per_shard * sim->nodes->shard_count;
    clients->count = sim->setup.clients;
    clients->items = sim_allocate(clients->count, sizeof(*clients->items));
    for (uint32_t i = 0; i < clients->count; i++) {
        struct sim_client *client = &clients->items[i];
        client->index = i;
        client->worker = &sim->workers->items[i % sim->workers->count];
        client->request.client = client;
        if (sim->setup.consistency == SIM_CONSISTENCY_SESSION)
            client->reading = sim_allocate(1, sizeof(*client->reading));
        for (uint32_t key = 0; key < SIM_CLIENT_KEYS; key++)
            client->keys[key] = (uint32_t)sim_between(sim, 0, keys - 1);
        sim_after(sim, 300 * SIM_MS + sim_between(sim, 0, 2 * sim->setup.think_us), wake, client, 0);
    }
    sim_after(sim, LOOK_MS * SIM_MS, look, clients, 0);
}

void sim_clients_destroy(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->clients->count; i++)
        free(sim->clients->items[i].reading);
    free(sim->clients->items);
    free(sim->clients);
}

static void go_on(struct sim *sim, struct sim_client *client)
{
    client->request.state = SIM_IDLE;
    sim_after(sim, sim_between(sim, 1, 2 * sim->setup.think_us), wake, client, 0);
}

static void wake(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_client *client = subject;
    struct sim_request *request = &client->request;
    if (sim->clients->have_stopped) return;
    client->at = (uint32_t)sim_between(sim, 0, SIM_CLIENT_KEYS - 1);
    uint32_t key = client->keys[client->at];
    *request = (struct sim_request){.client = client, .key = key, .began_us = sim->now_us, .state = SIM_NEW};
    request->is_read = !sim_chance(sim, sim->setup.write_percent);
    request->cell = cell_of(sim, key);
    if (request->is_read)
        client->required = sim_check_newest(sim, key);
    else
        request->write = sim_check_new_write(sim, key);
    sim_worker_submit(sim, client->worker, request);
}

static uint32_t cell_of(const struct sim *sim, uint32_t key)
{
    char text[KEY_SIZE];
    int size = snprintf(text, sizeof(text), "key:%u", key);
    return freshness_cell_of(sim->control->freshness, (struct slice){text, (size_t)size});
}

void sim_client_done(struct sim *sim, struct sim_client *client, const struct sim_message *reply)
{
    const struct sim_request *request = &client->request;
    sim_check_ended(sim, request->began_us, reply != NULL);
    if (reply && request->is_read) check_reply(sim, client, reply);
    if (reply && !request->is_read) {
        sim_check_acknowledged(sim, request->write);
        client->known[client->at] = request->write;
    }
    go_on(sim, client);
}

static void check_reply(struct sim *sim, struct sim_client *client, const struct sim_message *reply)
{
    bool keeps_sessions = sim->setup.consistency == SIM_CONSISTENCY_SESSION;
    sim->check->reads++;
    sim->check->from_replicas += !reply->is_master;
    if (!keeps_sessions) sim_check_shows(sim, reply, client->required, SIM_PROMISE_FRESH);
    if (keeps_sessions) sim_check_shows(sim, reply, client->known[client->at], SIM_PROMISE_SESSION);
    client->known[client->at] = reply->value;
}

/* Nobody is forgotten. */
static void look(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    const struct sim_clients *clients = subject;
    for (uint32_t i = 0; i < clients->count; i++)
        sim_check_that(sim, is_in_time(sim, &clients->items[i].request), SIM_PROMISE_DEADLINE);
    sim_after(sim, LOOK_MS * SIM_MS, look, subject, 0);
}

static bool is_in_time(const struct sim *sim, const struct sim_request *request)
{
    uint64_t now_ms = sim_now_ms(sim), grace_ms = SIM_TICK_MS + SIM_TICK_MS;
    uint64_t once_ms = SIM_REQUEST_TIMEOUT_MS + SIM_CONNECT_TIMEOUT_MS + grace_ms;
    uint64_t longest_ms = SIM_HOLD_MS + SIM_ATTEMPTS * once_ms;
    switch (request->state) {
    case SIM_IDLE:
        return true;
    case SIM_NEW:
        return false;
    case SIM_HELD:
        if (now_ms > request->hold_deadline_ms + grace_ms) return false;
        break;
    case SIM_IN_FLIGHT:
        if (request->deadline_ms && now_ms > request->deadline_ms + grace_ms) return false;
        break;
    }
    return now_ms < request->began_us / SIM_MS + longest_ms;
}
