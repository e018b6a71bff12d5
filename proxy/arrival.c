/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/arrival.h"

#include "proxy/client.h"
#include "proxy/log.h"
#include "proxy/worker.h"
#include "routing/spread.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS_LOOKED_AT = 32 }; /* of many: each looks at those that come after it, so none is left out */

struct arrival {
    struct letter letter; /* first: the letter is the arrival */
    int fd;
    uint32_t listener; /* by number: each worker has the same */
    uint64_t id;
};

static bool admit(struct worker_group *group);
static void refuse(struct worker_group *group, int fd);
static void begin(struct worker *worker, const struct listener *listener, int fd, uint64_t id);
static struct worker *choose(struct worker *worker);
static bool hand_over(struct worker *to, const struct listener *listener, int fd, uint64_t id);
static void deliver(struct letter *letter, void *receiver);

void arrival_take(struct listener *listener, int fd)
{
    struct worker *worker = listener->worker;
    struct worker_group *group = worker->group;
    if (!admit(group)) {
        refuse(group, fd);
        return;
    }
    uint64_t id = atomic_fetch_add_explicit(&group->next_client_id, 1, memory_order_relaxed);
    struct worker *to = choose(worker);
    if (to != worker && hand_over(to, listener, fd, id))
        return;
    atomic_fetch_add_explicit(&worker->gauge.clients, 1, memory_order_relaxed);
    begin(worker, listener, fd, id);
}

void arrival_leave(struct worker *worker)
{
    atomic_fetch_sub_explicit(&worker->gauge.clients, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&worker->group->client_count, 1, memory_order_relaxed);
}

/* In one order with hand_over(), for all threads: either it sees that this worker is closed, or arrival_is_over() sees that
 * one is on its way. */
void arrival_close(struct worker *worker) { atomic_store(&worker->gauge.is_closed, true); }

bool arrival_is_over(const struct worker *worker) { return atomic_load(&worker->gauge.clients) == 0; }

void arrival_tick(struct worker *worker)
{
    struct arrival_gauge *gauge = &worker->gauge;
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    uint64_t cpu_us = (uint64_t)used.tv_sec * 1000000U + (uint64_t)used.tv_nsec / 1000U;
    if (worker->now_us > gauge->looked_us) {
        uint64_t percent = (cpu_us - gauge->cpu_us) * 100 / (worker->now_us - gauge->looked_us);
        atomic_store_explicit(&gauge->busy_percent, (uint32_t)(percent < 100 ? percent : 100), memory_order_relaxed);
    }
    gauge->cpu_us = cpu_us;
    gauge->looked_us = worker->now_us;
}

/* ---- room for it ---- */

static bool admit(struct worker_group *group)
{
    uint32_t others = atomic_fetch_add_explicit(&group->client_count, 1, memory_order_relaxed);
    bool is_full = others >= group->max_clients;
    if (is_full && !atomic_exchange_explicit(&group->is_full, true, memory_order_relaxed))
        log_warning("%u clients are connected, more are refused (proxy.max_clients)", others);
    else if (!is_full && atomic_load_explicit(&group->is_full, memory_order_relaxed))
        atomic_store_explicit(&group->is_full, false, memory_order_relaxed);
    return !is_full;
}

static void refuse(struct worker_group *group, int fd)
{
    static const char full[] = "-ERR max number of clients reached\r\n";
    atomic_fetch_sub_explicit(&group->client_count, 1, memory_order_relaxed);
    ssize_t ignored = send(fd, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)ignored;
    close(fd);
}

/* The worker has it counted. */
static void begin(struct worker *worker, const struct listener *listener, int fd, uint64_t id)
{
    if (client_accept(worker, &worker->upstreams[0], fd, listener, id))
        return;
    atomic_fetch_sub_explicit(&worker->gauge.clients, 1, memory_order_relaxed);
    refuse(worker->group, fd); /* memory is short */
}

/* ---- who gets it ---- */

static struct worker *choose(struct worker *worker)
{
    const struct worker_group *group = worker->group;
    struct spread_load loads[WORKERS_LOOKED_AT];
    uint32_t count = group->count < WORKERS_LOOKED_AT ? group->count : WORKERS_LOOKED_AT;
    if (count <= 1 || atomic_load_explicit(&worker->gauge.is_closed, memory_order_relaxed))
        return worker; /* where one drains, all do */
    for (uint32_t i = 0; i < count; i++) {
        const struct arrival_gauge *gauge = &group->workers[(worker->index + i) % group->count]->gauge;
        loads[i] = (struct spread_load){
            .clients = atomic_load_explicit(&gauge->clients, memory_order_relaxed),
            .busy_percent = atomic_load_explicit(&gauge->busy_percent, memory_order_relaxed),
            .is_closed = atomic_load_explicit(&gauge->is_closed, memory_order_relaxed),
        };
    }
    return group->workers[(worker->index + spread_choose(loads, count)) % group->count];
}

/* False, and nothing has happened, if memory is short or that worker takes none. */
static bool hand_over(struct worker *to, const struct listener *listener, int fd, uint64_t id)
{
    struct arrival *arrival = malloc(sizeof *arrival);
    if (!arrival)
        return false;
    atomic_fetch_add(&to->gauge.clients, 1);
    if (atomic_load(&to->gauge.is_closed)) {
        atomic_fetch_sub(&to->gauge.clients, 1);
        free(arrival);
        return false;
    }
    *arrival = (struct arrival){
        .letter.deliver = deliver,
        .fd = fd,
        .listener = (uint32_t)(listener - listener->worker->listeners),
        .id = id,
    };
    mailbox_post(&to->mailbox, &arrival->letter);
    return true;
}

static void deliver(struct letter *letter, void *receiver)
{
    struct arrival *arrival = (struct arrival *)letter;
    struct worker *worker = receiver;
    assert(arrival->listener < worker->listener_count);
    if (atomic_load(&worker->group->is_ending)) /* the loop has ended: nobody would serve it */
        close(arrival->fd);
    else
        begin(worker, &worker->listeners[arrival->listener], arrival->fd, arrival->id);
    free(arrival);
}
