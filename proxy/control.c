/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/control.h"

#include "proxy/clock.h"
#include "proxy/log.h"
#include "proxy/mailbox.h"
#include "proxy/resolver.h"
#include "proxy/survey.h"

#include <ares.h>
#include <errno.h>
#include <ev.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define CONTROL_REPORTS_MAX 256 /* of nodes, posted and not read yet; more say nothing new */
#define CONTROL_MAP_GAP_US  10000U /* reports of the map of slots that come sooner say nothing new either */
#define CONTROL_NAME_SIZE   300

struct subscriber {
    struct subscriber *next;
    control_publish *publish;
    void *receiver;
};

struct control_upstream {
    struct control *control;
    struct survey *survey;
    _Atomic uint64_t doubted; /* survey_mark() of the master in the report that is on its way; 0 = none is */
    struct letter master_report;
    atomic_bool has_map_report;
    struct letter map_report;
    char moved_to[CONTROL_NAME_SIZE]; /* whoever raised has_map_report writes it, then the letter's reader has it */
    _Atomic uint64_t map_report_us;   /* when the last of them was read */
    ev_async freshness_wanted;
};

struct node_report {
    struct letter letter;
    uint32_t upstream;
    char node_name[];
};

struct control {
    const struct config *config;
    struct ev_loop *loop;
    ev_prepare before_wait;
    ev_async stop;
    struct mailbox mailbox;
    struct resolver *resolver;
    struct control_upstream *upstreams;
    struct subscriber *subscribers;
    atomic_uint node_reports; /* posted and not read yet */
    pthread_t thread;
    bool is_running;
};

static bool control_open(struct control *control);
static void *control_run(void *argument);
static void control_before_wait(struct ev_loop *loop, ev_prepare *watcher, int events);
static void control_stopped(struct ev_loop *loop, ev_async *watcher, int events);
static void control_spread(void *owner, uint32_t index, struct topology *topology);
static void control_report_master(struct control_upstream *to, const char *node_name);
static void control_report_node(struct control *control, uint32_t upstream, const char *node_name);
static void control_report_map(struct control_upstream *to, const char *moved_to);
static void freshness_wanted(struct ev_loop *loop, ev_async *watcher, int events);
static void deliver_master_report(struct letter *letter, void *receiver);
static void deliver_map_report(struct letter *letter, void *receiver);
static void deliver_node_report(struct letter *letter, void *receiver);
static void deliver_switchover(struct letter *letter, void *receiver);

struct control *control_create(const struct config *config)
{
    struct control *control = calloc(1, sizeof(*control));
    if (!control) return NULL;
    control->config = config;
    if (control_open(control)) return control;
    control_destroy(control);
    return NULL;
}

void control_subscribe(struct control *control, control_publish *publish, void *subscriber)
{
    struct subscriber *entry = calloc(1, sizeof(*entry));
    if (!entry) {
        log_error("control: out of memory, a worker is not told of the topology");
        return;
    }
    entry->publish = publish;
    entry->receiver = subscriber;
    entry->next = control->subscribers;
    control->subscribers = entry;
}

/* Signals are main's: the thread blocks them all. */
bool control_start(struct control *control)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&control->thread, NULL, control_run, control);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    control->is_running = !error;
    errno = error;
    return !error;
}

void control_report(struct control *control, uint32_t upstream, enum control_report_kind kind,
                    const char *node_name)
{
    if (upstream >= control->config->upstream_count) return;
    switch (kind) {
    case REPORT_MASTER_LOST:
    case REPORT_MASTER_REFUSED:
        control_report_master(&control->upstreams[upstream], node_name);
        break;
    case REPORT_REPLICA_LOST:
    case REPORT_REPLICA_REFUSED:
        control_report_node(control, upstream, node_name);
        break;
    case REPORT_MOVED:
    case REPORT_UNCOVERED:
        control_report_map(&control->upstreams[upstream], node_name);
        break;
    }
}

struct freshness *control_freshness(const struct control *control, uint32_t upstream)
{
    return control->upstreams[upstream].survey->freshening.freshness;
}

void control_want_freshness(struct control *control, uint32_t upstream, bool is_urgent)
{
    struct control_upstream *to = &control->upstreams[upstream];
    struct freshness *freshness = to->survey->freshening.freshness;
    atomic_bool *is_wanted = is_urgent ? &freshness->is_wanted : &freshness->is_due;
    if (!atomic_load(is_wanted) && !atomic_exchange(is_wanted, true)) ev_async_send(control->loop, &to->freshness_wanted);
}

void control_switchover(struct control *control, struct switchover_order *order)
{
    order->letter.deliver = deliver_switchover;
    mailbox_post(&control->mailbox, &order->letter);
}

void control_stop(struct control *control)
{
    if (!control || !control->is_running) return;
    ev_async_send(control->loop, &control->stop);
    pthread_join(control->thread, NULL);
    control->is_running = false;
}

void control_destroy(struct control *control)
{
    if (!control) return;
    control_stop(control);
    if (control->loop) {
        mailbox_finish(&control->mailbox); /* letters still on their way are read and freed */
        for (size_t i = 0; control->upstreams && i < control->config->upstream_count; i++) {
            survey_destroy(control->upstreams[i].survey);
            ev_async_stop(control->loop, &control->upstreams[i].freshness_wanted);
        }
        resolver_destroy(control->resolver);
        ev_prepare_stop(control->loop, &control->before_wait);
        ev_async_stop(control->loop, &control->stop);
        ev_loop_destroy(control->loop);
    }
    ares_library_cleanup();
    while (control->subscribers) {
        struct subscriber *next = control->subscribers->next;
        free(control->subscribers);
        control->subscribers = next;
    }
    free(control->upstreams);
    free(control);
}

static bool control_open(struct control *control)
{
    size_t count = control->config->upstream_count;
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) return false;
    control->loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
    if (!control->loop) return false;

    mailbox_init(&control->mailbox, control->loop, control);
    ev_prepare_init(&control->before_wait, control_before_wait);
    control->before_wait.data = control;
    ev_prepare_start(control->loop, &control->before_wait);
    ev_async_init(&control->stop, control_stopped);
    ev_async_start(control->loop, &control->stop);

    control->resolver = resolver_create(control->loop);
    control->upstreams = calloc(count ? count : 1, sizeof(*control->upstreams));
    if (!control->resolver || !control->upstreams) return false;
    for (uint32_t i = 0; i < count; i++) {
        struct control_upstream *to = &control->upstreams[i];
        to->control = control;
        atomic_init(&to->doubted, 0);
        to->master_report.deliver = deliver_master_report;
        atomic_init(&to->has_map_report, false);
        to->map_report.deliver = deliver_map_report;
        ev_async_init(&to->freshness_wanted, freshness_wanted);
        to->freshness_wanted.data = to;
        ev_async_start(control->loop, &to->freshness_wanted);
        to->survey = survey_create(&control->config->upstreams[i], i, control->loop, control->resolver,
                                   control_spread, control);
        if (!to->survey) return false;
    }
    return true;
}

static void *control_run(void *argument)
{
    struct control *control = argument;
    ev_run(control->loop, 0);
    return NULL;
}

/* All that this turn has heard is judged together. */
static void control_before_wait(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    (void)loop;
    (void)events;
    struct control *control = watcher->data;
    for (size_t i = 0; i < control->config->upstream_count; i++)
        survey_run(control->upstreams[i].survey);
}

static void control_stopped(struct ev_loop *loop, ev_async *watcher, int events)
{
    (void)watcher;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

static void control_spread(void *owner, uint32_t index, struct topology *topology)
{
    struct control *control = owner;
    for (struct subscriber *subscriber = control->subscribers; subscriber; subscriber = subscriber->next)
        subscriber->publish(subscriber->receiver, index, topology_take(topology));
    topology_release(topology);
}

static void freshness_wanted(struct ev_loop *loop, ev_async *watcher, int events)
{
    (void)loop;
    (void)events;
    struct control_upstream *to = watcher->data;
    freshening_want(&to->survey->freshening);
}

/* ---- reports ---- */

/* One letter per upstream suffices: while it is on its way, reports of one master say the same, and those of several
 * make it one of all. */
static void control_report_master(struct control_upstream *to, const char *node_name)
{
    uint64_t mark = survey_mark(node_name), before = atomic_load(&to->doubted), after;
    do {
        after = !before || before == mark ? mark : SURVEY_MARK_ALL;
    } while (!atomic_compare_exchange_weak(&to->doubted, &before, after));
    if (!before) mailbox_post(&to->control->mailbox, &to->master_report);
}

static void control_report_node(struct control *control, uint32_t upstream, const char *node_name)
{
    if (atomic_load_explicit(&control->node_reports, memory_order_relaxed) >= CONTROL_REPORTS_MAX) return;
    size_t size = strlen(node_name) + 1;
    struct node_report *report = malloc(sizeof(*report) + size);
    if (!report) return; /* the next probe finds out */
    report->letter.deliver = deliver_node_report;
    report->upstream = upstream;
    memcpy(report->node_name, node_name, size);
    atomic_fetch_add_explicit(&control->node_reports, 1, memory_order_relaxed);
    mailbox_post(&control->mailbox, &report->letter);
}

/* Thousands a second may come while slots move. One that is passed over comes again as long as it matters. */
static void control_report_map(struct control_upstream *to, const char *moved_to)
{
    uint64_t read_us = atomic_load_explicit(&to->map_report_us, memory_order_relaxed);
    if (read_us && clock_us() - read_us < CONTROL_MAP_GAP_US) return;
    if (atomic_load_explicit(&to->has_map_report, memory_order_relaxed)) return;
    if (atomic_exchange(&to->has_map_report, true)) return;
    snprintf(to->moved_to, sizeof(to->moved_to), "%s", moved_to);
    mailbox_post(&to->control->mailbox, &to->map_report);
}

/* The mark goes first: a report that comes meanwhile posts the letter anew. */
static void deliver_master_report(struct letter *letter, void *receiver)
{
    (void)receiver;
    struct control_upstream *to =
        (struct control_upstream *)((char *)letter - offsetof(struct control_upstream, master_report));
    survey_report_master(to->survey, atomic_exchange(&to->doubted, 0));
}

static void deliver_map_report(struct letter *letter, void *receiver)
{
    (void)receiver;
    struct control_upstream *to =
        (struct control_upstream *)((char *)letter - offsetof(struct control_upstream, map_report));
    char moved_to[CONTROL_NAME_SIZE];
    memcpy(moved_to, to->moved_to, sizeof(moved_to));
    atomic_store_explicit(&to->map_report_us, clock_us(), memory_order_relaxed);
    atomic_store(&to->has_map_report, false);
    survey_report_map(to->survey, moved_to);
}

static void deliver_node_report(struct letter *letter, void *receiver)
{
    struct control *control = receiver;
    struct node_report *report = (struct node_report *)letter;
    atomic_fetch_sub_explicit(&control->node_reports, 1, memory_order_relaxed);
    survey_report_node(control->upstreams[report->upstream].survey, report->node_name);
    free(report);
}

static void deliver_switchover(struct letter *letter, void *receiver)
{
    struct control *control = receiver;
    struct switchover_order *order = (struct switchover_order *)letter;
    switchover_take(control->upstreams[order->upstream].survey, order);
}
