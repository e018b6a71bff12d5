/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c - the program: configuration, sockets, threads, signals, in that order.
 *
 * The main thread loads the configuration, binds, starts the control thread and the workers, and then only waits
 * for signals. Exit status: 0 fine, 1 run-time failure, 2 configuration or usage, 3 cannot bind.
 */
#include "proxy/arrival.h"
#include "proxy/clock.h"
#include "proxy/config.h"
#include "proxy/control.h"
#include "proxy/cores.h"
#include "proxy/listener.h"
#include "proxy/log.h"
#include "proxy/worker.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef POINTSMAN_VERSION
#define POINTSMAN_VERSION "0.1.0"
#endif

enum exit_status {
    EXIT_FINE,
    EXIT_RUN_TIME,
    EXIT_CONFIGURATION,
    EXIT_CANNOT_BIND,
};

enum {
    DESCRIPTORS_FOR_OTHERS = 64, /* besides clients: log, epoll, listeners, control connections */
    CLIENTS_AT_LEAST = 16,
    ENDING_POLL_NS = 10000000,
};

#define MEMORY_PER_WORKER (UINT64_C(4) << 20)

extern char **environ;

static int act(enum config_action action, const struct config *config);
static int run(const struct config *config);
static uint32_t count_workers(const struct config *config);
static uint32_t raise_file_limit(const struct config *config, uint32_t workers);
static uint64_t max_memory_of(const struct config *config, uint32_t workers);
static bool open_listeners(const struct config *config, struct listener **lists, uint32_t workers);
static int serve(struct worker_group *group, const sigset_t *signals);
static void wait_for_end(struct worker_group *group, const sigset_t *signals);
static void *allocate(size_t count, size_t size);

int main(int argc, char **argv)
{
    enum config_action action = CONFIG_RUN;
    struct config *config = config_load(argc, argv, environ, &action, stderr);
    int status = act(action, config);
    config_destroy(config);
    return status;
}

static int act(enum config_action action, const struct config *config)
{
    switch (action) {
    case CONFIG_HELP:
        config_print_usage(stdout);
        return EXIT_FINE;
    case CONFIG_HELP_CONFIG:
        config_print_help(stdout);
        return EXIT_FINE;
    case CONFIG_EXAMPLE:
        config_print_example(stdout);
        return EXIT_FINE;
    case CONFIG_HELP_ROFF:
        config_print_roff(stdout);
        return EXIT_FINE;
    case CONFIG_VERSION:
        printf("pointsman %s (libev %d.%d)\n", POINTSMAN_VERSION, ev_version_major(), ev_version_minor());
        return EXIT_FINE;
    case CONFIG_CHECK:
        if (config)
            printf("configuration is fine\n");
        return config ? EXIT_FINE : EXIT_CONFIGURATION;
    case CONFIG_RUN:
        return config ? run(config) : EXIT_CONFIGURATION;
    }
    return EXIT_CONFIGURATION;
}

static int run(const struct config *config)
{
    if (!log_open(config->log_target, (enum log_level)config->log_level)) {
        fprintf(stderr, "log.target: %s: %s\n", config->log_target, strerror(errno));
        return EXIT_RUN_TIME;
    }
    /* Threads are born with these blocked; the main thread alone takes them, one at a time. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);

    uint32_t workers = count_workers(config);
    struct worker_group group = {
        .config = config,
        .count = workers,
        .started_us = clock_us(),
        .next_client_id = 1,
        .max_clients = raise_file_limit(config, workers),
        .max_memory = max_memory_of(config, workers),
    };
    struct listener **lists = allocate(workers, sizeof *lists);
    if (!open_listeners(config, lists, workers)) {
        for (uint32_t i = 0; i < workers; i++) {
            for (size_t j = 0; lists[i] && j < config->listen.count; j++) {
                if (lists[i][j].name)
                    listener_close(&lists[i][j]);
            }
            free(lists[i]);
        }
        free(lists);
        log_close();
        return EXIT_CANNOT_BIND;
    }

    int status = EXIT_RUN_TIME;
    group.workers = allocate(workers, sizeof(struct worker *));
    group.control = control_create(config);
    group.scripts = script_store_create(SCRIPT_COUNT_MOST, SCRIPT_BYTES_MOST);
    bool is_complete = group.control != NULL && group.scripts != NULL;
    for (uint32_t i = 0; is_complete && i < workers; i++) {
        group.workers[i] = worker_create(&group, i, lists[i], (uint32_t)config->listen.count);
        is_complete = group.workers[i] != NULL;
    }
    if (is_complete)
        status = serve(&group, &signals);
    else
        log_error("cannot start: %s", strerror(errno));

    control_stop(group.control);
    atomic_store(&group.is_ending, true);
    for (uint32_t i = 0; i < workers; i++) {
        if (group.workers[i])
            arrival_close(group.workers[i]); /* whoever is destroyed first must not be handed anything */
    }
    for (uint32_t i = 0; i < workers; i++)
        worker_destroy(group.workers[i]);
    control_destroy(group.control); /* workers report to it to the last */
    for (size_t i = 0; i < config->listen.count; i++)
        listener_unlink(&config->listen.items[i]);
    free(group.workers);
    free(lists);
    script_store_destroy(group.scripts);
    log_info("ended");
    log_close();
    return status;
}

/* One for each CPU that can be used, unless it was said how many. */
static uint32_t count_workers(const struct config *config)
{
    if (config->threads > 0)
        return (uint32_t)config->threads;
    struct cores cores = cores_find("", cores_allowed());
    char reason[128];
    cores_describe(&cores, reason, sizeof reason);
    log_info("%u thread%s for this process: %s", cores.count, cores.count == 1 ? "" : "s", reason);
    return cores.count;
}

/* As many descriptors as the clients may need, or as many clients as there are descriptors. */
static uint32_t raise_file_limit(const struct config *config, uint32_t workers)
{
    uint64_t others = DESCRIPTORS_FOR_OTHERS + (uint64_t)workers * 8;
    for (size_t i = 0; i < config->upstream_count; i++)
        others += (uint64_t)config->upstreams[i].pool_dedicated_connections * 2;
    uint64_t wanted = (uint64_t)config->max_clients + others;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return (uint32_t)config->max_clients;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        limit.rlim_cur = before;
    if (limit.rlim_cur >= wanted)
        return (uint32_t)config->max_clients;
    uint64_t clients = limit.rlim_cur > others + CLIENTS_AT_LEAST ? limit.rlim_cur - others : CLIENTS_AT_LEAST;
    if (clients > (uint64_t)config->max_clients)
        clients = (uint64_t)config->max_clients;
    log_warning("the limit on open files is %llu: at most %llu clients instead of %lld",
                (unsigned long long)limit.rlim_cur, (unsigned long long)clients, (long long)config->max_clients);
    return (uint32_t)clients;
}

/* Not less than what the threads keep at hand for clients that do nothing. */
static uint64_t max_memory_of(const struct config *config, uint32_t workers)
{
    uint64_t least = workers * MEMORY_PER_WORKER;
    uint64_t most = config->max_memory ? (uint64_t)config->max_memory : memory_default_max();
    return most > least ? most : least;
}

static bool open_listeners(const struct config *config, struct listener **lists, uint32_t workers)
{
    for (uint32_t i = 0; i < workers; i++) {
        lists[i] = allocate(config->listen.count, sizeof(struct listener));
        for (size_t j = 0; j < config->listen.count; j++) {
            const struct config_address *address = &config->listen.items[j];
            int shared_fd = address->port == 0 && i > 0 ? lists[0][j].fd : -1;
            char error[256] = "";
            if (!listener_open(&lists[i][j], address, shared_fd, error, sizeof error)) {
                if (address->port)
                    log_error("proxy.listen: cannot listen on %s port %u: %s", address->host, address->port, error);
                else
                    log_error("proxy.listen: cannot listen on unix:%s: %s", address->host, error);
                return false;
            }
        }
    }
    assert(workers > 0);
    for (size_t j = 0; j < config->listen.count; j++)
        log_info("listening on %s as %s with %u thread%s", lists[0][j].name, config_personas[lists[0][j].persona],
                 workers, workers == 1 ? "" : "s");
    return true;
}

static int serve(struct worker_group *group, const sigset_t *signals)
{
    uint32_t started = 0;
    if (!control_start(group->control)) {
        log_error("cannot start the control thread: %s", strerror(errno));
        return EXIT_RUN_TIME;
    }
    while (started < group->count && worker_start(group->workers[started]))
        started++;
    if (started == group->count)
        wait_for_end(group, signals);
    else
        log_error("cannot start worker threads: %s", strerror(errno));
    for (uint32_t i = 0; i < started; i++) {
        worker_stop(group->workers[i]);
        worker_join(group->workers[i]);
    }
    return started == group->count ? EXIT_FINE : EXIT_RUN_TIME;
}

/* SIGTERM or SIGINT drains, a second one ends at once; SIGHUP is kept for reload. */
static void wait_for_end(struct worker_group *group, const sigset_t *signals)
{
    bool is_draining = false;
    while (atomic_load(&group->running) > 0) {
        const struct timespec poll = {.tv_nsec = ENDING_POLL_NS};
        int signal_number = sigtimedwait(signals, NULL, is_draining ? &poll : NULL);
        if (signal_number == SIGHUP) {
            log_warning("SIGHUP: reload is not supported by this version, the configuration stays as it is");
        } else if (signal_number > 0 && is_draining) {
            log_info("second signal: ending at once");
            return;
        } else if (signal_number > 0) {
            log_info("draining for at most %lld ms", (long long)group->config->drain_time_ms);
            is_draining = true;
            for (uint32_t i = 0; i < group->count; i++)
                worker_drain(group->workers[i]);
        }
    }
}

/* At start there is nothing to be saved by going on without memory. */
static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory) {
        log_error("out of memory at start");
        exit(EXIT_RUN_TIME);
    }
    return memory;
}
