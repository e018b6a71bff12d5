/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim.h - a world in which the decisions of routing/ are made, with a clock of its own and all chance from one seed.
 *
 *      sim_client.c ---> sim_worker.c ---> sim_node.c       clients, workers of one proxy, nodes that replicate
 *                             ^                ^
 *                             | topology       | promotes
 *      sim_control.c ---------'           sim_sentinel.c    the control thread; Sentinels
 *             asks nodes and Sentinels
 *
 *      sim_fault.c breaks things, sim_check.c watches what the proxy promises, sim_run.c puts it all together
 *
 * Nodes, Sentinels and networks are as they were measured to be; workers and the control thread do what proxy/ does,
 * with everything that is a matter of sockets, bytes and sessions left out, and ask the real routing/. One seed is one
 * course of events: whatever fails is seen again with the same seed.
 *
 * Owner:   a sim owns all that is in it.
 * Threads: one.
 */
#ifndef SIMULATION_SIM_H
#define SIMULATION_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_MS UINT64_C(1000)
#define SIM_S  UINT64_C(1000000)
#define SIM_NONE UINT32_MAX

/* Decisions that can be broken on purpose, each of which must be found out. */
#define SIM_MUTATION_TABLE(X)                                                                                          \
    X(NONE, "nothing is broken")                                                                                       \
    X(IGNORE_FRESHNESS, "reads go to any replica")                                                                     \
    X(IGNORE_FLIGHT, "a write marks its key when it is sent, and not when it is answered")                             \
    X(IGNORE_RESTARTS, "a replica stays fresh when another process is behind its address")                             \
    X(IGNORE_VERSION, "a worker reads by its topology though another has written by a newer one")                      \
    X(MOVE_SESSIONS, "a session reads from any replica that is fresh enough for what it knows")                        \
    X(FORGET_SESSIONS, "a session does not remember what it wrote")                                                    \
    X(RESEND_WRITES, "a lost write is sent again")                                                                     \
    X(LOWER_EPOCH, "the first Sentinel that answers is believed, whatever its epoch")                                  \
    X(KEEP_OLD_MASTER, "a worker goes on with the master that it has")                                                 \
    X(DEAF, "what a Sentinel says of its failover is not listened to")                                                 \
    X(HOLD_ALL, "requests are held beyond the bound")                                                                  \
    X(HOLD_FOREVER, "nobody looks at the deadlines of held requests")                                                  \
    X(WAIT_FOREVER, "nobody looks at the deadlines of requests that a node has")                                       \
    X(RETRY_FOREVER, "a lost read is sent again however often it was lost")                                            \
    X(SPEND_ALL, "what was lost is sent again though the budget is used up")                                           \
    X(TRY_TOGETHER, "each worker makes trials of its own")                                                             \
    X(EJECT_ALL, "all replicas may lose their reads at once")                                                          \
    X(NEVER_CONFIRM, "a master that was lost is not asked for again")

enum sim_mutation {
#define SIM_MUTATION_ENUM(name, text) SIM_MUTATION_##name,
    SIM_MUTATION_TABLE(SIM_MUTATION_ENUM)
#undef SIM_MUTATION_ENUM
        SIM_MUTATION_COUNT,
};

enum sim_consistency {
    SIM_CONSISTENCY_PROXY,
    SIM_CONSISTENCY_SESSION,
};

enum sim_weather {
    SIM_WEATHER_CHANCE,  /* faults come by chance */
    SIM_WEATHER_STORM,   /* and nodes are slow, and cut off again and again */
    SIM_WEATHER_ROLLING, /* every node is killed or frozen in its turn, and then masters of every third shard at once */
};

struct sim_setup {
    uint64_t seed; /* from 1 */
    uint32_t nodes, clients, workers;
    enum sim_consistency consistency;
    enum sim_mutation mutation;
    bool is_told;        /* what happens is printed */
    enum sim_weather weather;
    uint64_t faults_us;  /* for so long */
    uint64_t think_us;   /* of a client, between two requests, in the mean */
    uint32_t write_percent;
    uint32_t hold_requests;
    uint32_t breaker_failures, breaker_ratio;
};

/* What the proxy is configured to, as long as nothing else is said. */
enum {
    SIM_HOLD_MS = 2000, /* less than usual, so that it matters */
    SIM_REQUEST_TIMEOUT_MS = 2000,
    SIM_CONNECT_TIMEOUT_MS = 1000,
    SIM_ATTEMPTS = 3,
    SIM_HEALTH_INTERVAL_MS = 1000,
    SIM_POLL_INTERVAL_MS = 1000,
    SIM_FRESHNESS_INTERVAL_MS = 2,
    SIM_RETRY_BASE_MS = 50,
    SIM_RETRY_MAX_MS = 1000,
    SIM_TICK_MS = 100,
};

struct sim;
typedef void sim_handler(struct sim *sim, void *subject, uint64_t detail);

struct sim_event {
    uint64_t at_us, order; /* of two at one time the one that was asked for first */
    sim_handler *handler;
    void *subject;
    uint64_t detail;
};

struct sim {
    struct sim_setup setup;
    uint64_t now_us;
    uint64_t random;
    uint64_t faults_end_us;
    struct sim_event *events; /* a binary heap */
    size_t event_count, event_room;
    uint64_t event_order, events_done;
    struct sim_nodes *nodes;
    struct sim_sentinels *sentinels;
    struct sim_control *control;
    struct sim_workers *workers;
    struct sim_clients *clients;
    struct sim_check *check;
};

/* Calls the handler at that time, or now if that is over. */
void sim_at(struct sim *sim, uint64_t at_us, sim_handler *handler, void *subject, uint64_t detail);
void sim_after(struct sim *sim, uint64_t wait_us, sim_handler *handler, void *subject, uint64_t detail);

/* Runs the next event, if it is due by then. */
bool sim_step(struct sim *sim, uint64_t until_us);

/* Evenly from least .. most, and true in so many of a hundred cases. */
uint64_t sim_between(struct sim *sim, uint64_t least, uint64_t most);
bool sim_chance(struct sim *sim, uint32_t percent);

/* One line of the story, where it is told. */
void sim_tell(const struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Zeroed; never NULL. */
void *sim_allocate(size_t count, size_t size);
void *sim_grow(void *list, size_t *room, size_t count, size_t size);

static inline uint64_t sim_now_ms(const struct sim *sim)
{
    return sim->now_us / SIM_MS;
}

static inline bool sim_is_broken(const struct sim *sim, enum sim_mutation mutation)
{
    return sim->setup.mutation == mutation;
}

/* On its way over the network. */
static inline uint64_t sim_latency_us(struct sim *sim)
{
    return sim_between(sim, 100, 400);
}

#endif
