/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/switchover.h"

#include "proxy/clock.h"
#include "proxy/info.h"
#include "proxy/log.h"
#include "proxy/survey.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SWITCHOVER_TICK_S       0.005
#define ANSWER_SHOWN_MAX        ((size_t)200)
#define SWITCHOVER_ANSWER_MS    2000U
#define SWITCHOVER_HURRY_GAP_US 10000U
#define SWITCHOVER_HOLD_MAX_MS  5000U /* writes wait no longer than this, nor than half of failover.hold_time, ... */
#define SWITCHOVER_HOLD_MIN_MS  500U  /* ... which may be too short for anything */
#define SWITCHOVER_PAUSE_MORE_MS 1000U /* by which the pause at the master outlasts that, should we die */

enum step {
    STEP_CHOOSE,
    STEP_READ_PRIORITY,
    STEP_SET_PRIORITY,
    STEP_AWAIT_PRIORITY,
    STEP_HOLD,
    STEP_QUIET,
    STEP_PAUSE,
    STEP_MEASURE,
    STEP_CATCH_UP,
    STEP_PROMOTE,
    STEP_CONFIRM,
    STEP_DEMOTE,
    STEP_UNPAUSE,
    STEP_RESTORE_PRIORITY,
    STEP_KEEP_PRIORITY,
    STEP_END,
};

/* A question to a node, one at a time. */
enum talk {
    TALK_IDLE,
    TALK_ASKED,
    TALK_GOOD,
    TALK_REFUSED,
    TALK_LOST,
};

struct node {
    char name[SWITCHOVER_NAME_SIZE]; /* probes come and go */
    char host[SWITCHOVER_NAME_SIZE];
    uint16_t port;
};

struct switchover {
    struct survey *survey;
    struct switchover_order *order; /* NULL while it is elsewhere */
    uint64_t number;
    ev_timer tick;

    enum step step;
    uint64_t began_us, step_us;
    uint64_t held_us;     /* since when writes are held; 0 = they are not yet */
    uint64_t released_us; /* until when they were */
    bool is_promoted;     /* somebody was asked to promote, or may have been */
    bool is_confirmed;    /* the new master is: what fails from then on is told, and changes nothing about that */
    bool is_paused;       /* the master was asked to pause, so it may be */
    char fault[SWITCHOVER_LINE_SIZE];

    struct node master, heirs[SWITCHOVER_HEIRS_MAX];
    size_t heir_count;
    size_t heir; /* the one that is looked at; in the end the new master */
    char replid[PROBE_RUN_ID_SIZE];
    int64_t offset;
    int64_t priority;        /* to be set at the only heir */
    char priority_before[24]; /* "" while it is as it was */

    enum talk talk;
    uint64_t asked_us;
    char trouble[SWITCHOVER_LINE_SIZE]; /* what it will be told to have failed of, if it does not pass */
    char value[24];                    /* the last line of a good answer, if it is no longer than this */
    char told_replid[PROBE_RUN_ID_SIZE], told_offset[24], told_link[16];
};

typedef void step_go(struct switchover *switchover);

static struct switchover *create(struct survey *survey, struct switchover_order *order);
static void refuse(struct switchover_order *order, const char *fault);
static void tick(struct ev_loop *loop, ev_timer *watcher, int events);
static void go_on(struct switchover *switchover);
static void next(struct switchover *switchover, enum step step);
static bool is_late(const struct switchover *switchover);
static uint64_t hold_limit_ms(const struct switchover *switchover);
static void release_writes(struct switchover *switchover);
static void fail(struct switchover *switchover, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct switchover *switchover, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void clean_up(struct switchover *switchover);
static enum talk ask(struct switchover *switchover, const char *name, const char *const *words);
static enum talk answer_of(struct switchover *switchover);
static void node_answered(void *owner, struct slice reply, uint64_t asked_us);
static void take_answer(struct switchover *switchover, struct slice reply);
static void keep_trouble(struct switchover *switchover, struct slice text);
static struct slice last_line(struct slice reply);
static struct probe *probe_of(const struct switchover *switchover, const char *name);
static bool adopt_plan(struct switchover *switchover, const struct switchover_plan *plan);
static bool make_plan(const struct switchover *switchover, const char *wanted, struct switchover_plan *plan);
static const char *heirs_of(const struct switchover *switchover, char *out, size_t size);
static step_go choose, read_priority, set_priority, await_priority, hold_writes, quieten, pause_master, measure, catch_up,
    promote, confirm, demote, unpause, restore_priority, keep_priority, finish;

static const struct {
    const char *name;
    uint32_t limit_ms;
    step_go *go;
} steps[] = {
    [STEP_CHOOSE] = {"choosing a replica", 3000, choose},
    [STEP_READ_PRIORITY] = {"reading its replica-priority", 2000, read_priority},
    [STEP_SET_PRIORITY] = {"setting its replica-priority", 2000, set_priority},
    [STEP_AWAIT_PRIORITY] = {"waiting until the Sentinel knows its replica-priority", 20000, await_priority},
    [STEP_HOLD] = {"holding writes", 1000, hold_writes},
    [STEP_QUIET] = {"waiting for writes under way", 5000, quieten},
    [STEP_PAUSE] = {"CLIENT PAUSE at the master", 2000, pause_master},
    [STEP_MEASURE] = {"asking the master for its offset", 2000, measure},
    [STEP_CATCH_UP] = {"waiting until the replica has every byte", 2000, catch_up},
    [STEP_PROMOTE] = {"asking for the failover", 2000, promote},
    [STEP_CONFIRM] = {"waiting for the new master", 15000, confirm},
    [STEP_DEMOTE] = {"making the old master a replica", 1000, demote},
    [STEP_UNPAUSE] = {"CLIENT UNPAUSE at the old master", 5000, unpause},
    [STEP_RESTORE_PRIORITY] = {"restoring its replica-priority", 10000, restore_priority},
    [STEP_KEEP_PRIORITY] = {"CONFIG REWRITE", 2000, keep_priority},
    [STEP_END] = {"the end", 0, finish},
};

void switchover_take(struct survey *survey, struct switchover_order *order)
{
    struct switchover *switchover = survey->switchover;
    if (order->number && switchover && switchover->number == order->number) {
        switchover->order = order;
        go_on(switchover);
    } else if (order->number) {
        refuse(order, "the switchover has ended meanwhile");
    } else if (switchover) {
        refuse(order, "a switchover is under way already; nothing was changed");
    } else if (!survey->kind->plan) {
        refuse(order, "switchover needs Sentinels or a Redis Cluster: of nodes that are listed by hand nobody else would "
                      "hear who the master is; nothing was changed");
    } else if (!create(survey, order)) {
        refuse(order, "out of memory; nothing was changed");
    }
}

void switchover_destroy(struct switchover *switchover)
{
    if (!switchover) return;
    if (switchover->priority_before[0])
        log_error("%s: switchover: ends while %s has replica-priority %" PRId64 "; set it to %s again",
                  survey_label(switchover->survey), switchover->heirs[0].name, switchover->priority,
                  switchover->priority_before);
    ev_timer_stop(switchover->survey->loop, &switchover->tick);
    if (switchover->order) switchover->order->events->drop(switchover->order);
    switchover->survey->switchover = NULL;
    free(switchover);
}

bool switchover_holds(const struct switchover *switchover, const struct probe *master)
{
    return switchover && master && switchover->held_us && !switchover->released_us &&
           strcmp(master->name, switchover->master.name) == 0;
}

void switchover_answered(struct survey *survey, struct slice reply, uint64_t asked_us)
{
    struct switchover *switchover = survey->switchover;
    if (!switchover || switchover->talk != TALK_ASKED || asked_us < switchover->asked_us) return;
    take_answer(switchover, reply);
    go_on(switchover);
}

bool switchover_add_heir(struct switchover_plan *plan, struct probe *probe, const char *host, uint16_t port)
{
    if (plan->heir_count == SWITCHOVER_HEIRS_MAX) return false;
    struct switchover_heir *heir = &plan->heirs[plan->heir_count++];
    heir->probe = probe;
    heir->port = port;
    snprintf(heir->host, sizeof(heir->host), "%s", host);
    return true;
}

bool switchover_refuse(struct switchover_plan *plan, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(plan->fault, sizeof(plan->fault), format, arguments);
    va_end(arguments);
    return false;
}

bool switchover_defer(struct switchover_plan *plan, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(plan->fault, sizeof(plan->fault), format, arguments);
    va_end(arguments);
    plan->may_pass = true;
    return false;
}

/* ---- the way ---- */

static struct switchover *create(struct survey *survey, struct switchover_order *order)
{
    static uint64_t numbers; /* the control thread's */
    struct switchover *switchover = calloc(1, sizeof(*switchover));
    if (!switchover) return NULL;
    switchover->survey = survey;
    switchover->order = order;
    switchover->number = order->number = ++numbers;
    switchover->began_us = switchover->step_us = clock_us();
    ev_timer_init(&switchover->tick, tick, 0., SWITCHOVER_TICK_S);
    switchover->tick.data = switchover;
    ev_timer_start(survey->loop, &switchover->tick);
    survey->switchover = switchover;
    return switchover;
}

static void refuse(struct switchover_order *order, const char *fault)
{
    snprintf(order->fault, sizeof(order->fault), "%s", fault);
    order->events->done(order);
}

static void tick(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    go_on(watcher->data);
}

/* The switchover may be gone after it. */
static void go_on(struct switchover *switchover)
{
    enum step step = switchover->step;
    if (step < STEP_END && is_late(switchover))
        fail(switchover, "%s", switchover->trouble[0] ? switchover->trouble : "it takes too long");
    else
        steps[step].go(switchover);
}

static void next(struct switchover *switchover, enum step step)
{
    switchover->step = step;
    switchover->step_us = clock_us();
    switchover->talk = TALK_IDLE;
    switchover->trouble[0] = '\0';
}

static bool is_late(const struct switchover *switchover)
{
    uint64_t now_us = clock_us();
    bool holds = switchover->held_us && !switchover->released_us;
    if (holds && now_us - switchover->held_us > hold_limit_ms(switchover) * 1000) return true;
    return now_us - switchover->step_us > steps[switchover->step].limit_ms * UINT64_C(1000);
}

static uint64_t hold_limit_ms(const struct switchover *switchover)
{
    uint64_t half_ms = (uint64_t)switchover->survey->config->failover_hold_time_ms / 2;
    if (half_ms > SWITCHOVER_HOLD_MAX_MS) return SWITCHOVER_HOLD_MAX_MS;
    return half_ms < SWITCHOVER_HOLD_MIN_MS ? SWITCHOVER_HOLD_MIN_MS : half_ms;
}

static void release_writes(struct switchover *switchover)
{
    if (!switchover->held_us || switchover->released_us) return;
    switchover->released_us = clock_us();
    survey_touch(switchover->survey);
}

/* The first failure is the one that is told; on the way back there may be more. */
static void fail(struct switchover *switchover, const char *format, ...)
{
    char reason[SWITCHOVER_LINE_SIZE / 2];
    enum step step = switchover->step;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    log_warning("%s: switchover: %s: %s", survey_label(switchover->survey), steps[step].name, reason);
    if (step == STEP_RESTORE_PRIORITY)
        log_error("%s: switchover: %s still has replica-priority %" PRId64 "; set it to %s again",
                  survey_label(switchover->survey), switchover->heirs[0].name, switchover->priority,
                  switchover->priority_before);
    if (switchover->is_confirmed)
        note(switchover, "not done, %s: %.200s", steps[step].name, reason);
    else if (!switchover->fault[0])
        snprintf(switchover->fault, sizeof(switchover->fault), "switchover failed, %s: %s", steps[step].name, reason);
    release_writes(switchover);
    if (step == STEP_UNPAUSE) switchover->is_paused = false; /* it ends by itself */
    if (step >= STEP_RESTORE_PRIORITY) switchover->priority_before[0] = '\0';
    clean_up(switchover);
}

/* Whatever has to be undone before the end, in the order in which it hurts. */
static void clean_up(struct switchover *switchover)
{
    next(switchover, switchover->is_paused            ? STEP_UNPAUSE
                     : switchover->priority_before[0] ? STEP_RESTORE_PRIORITY
                                                      : STEP_END);
}

/* One line of the report and of the log, with the time that the step has taken. */
static void note(struct switchover *switchover, const char *format, ...)
{
    char text[SWITCHOVER_LINE_SIZE - 40];
    struct switchover_order *order = switchover->order;
    uint64_t took_ms = (clock_us() - switchover->step_us) / 1000;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    log_info("%s: switchover: %s, %" PRIu64 " ms", survey_label(switchover->survey), text, took_ms);
    if (!order || order->line_count == SWITCHOVER_LINES_MAX) return;
    snprintf(order->lines[order->line_count++], SWITCHOVER_LINE_SIZE, "%s, %" PRIu64 " ms", text, took_ms);
}

static void finish(struct switchover *switchover)
{
    struct switchover_order *order = switchover->order;
    uint64_t held_ms = (switchover->released_us - switchover->held_us) / 1000;
    switchover->step_us = switchover->began_us;
    if (!switchover->fault[0] && switchover->held_us)
        note(switchover, "done: writes were held for %" PRIu64 " ms; in all", held_ms);
    else if (!switchover->fault[0])
        note(switchover, "done");
    if (order && switchover->fault[0])
        snprintf(order->fault, sizeof(order->fault), "%.300s; %s", switchover->fault,
                 switchover->is_promoted ? "who was asked for it may still carry it out" : "the master is the one before");
    switchover->order = NULL;
    if (order) order->events->done(order);
    switchover_destroy(switchover);
}

/* ---- talking to nodes ---- */

/* Asks, once, and tells what has come of it, once. What cannot be sent yet is tried again. */
static enum talk ask(struct switchover *switchover, const char *name, const char *const *words)
{
    struct probe *probe = probe_of(switchover, name);
    if (switchover->talk != TALK_IDLE) return answer_of(switchover);
    switchover->asked_us = clock_us();
    if (probe && probe_question(probe, words, SWITCHOVER_ANSWER_MS, node_answered)) switchover->talk = TALK_ASKED;
    return TALK_ASKED;
}

static enum talk answer_of(struct switchover *switchover)
{
    enum talk talk = switchover->talk;
    if (talk != TALK_ASKED) switchover->talk = TALK_IDLE;
    return talk;
}

static void node_answered(void *owner, struct slice reply, uint64_t asked_us)
{
    const struct probe *probe = owner;
    switchover_answered(probe->setup->owner, reply, asked_us);
}

static void take_answer(struct switchover *switchover, struct slice reply)
{
    while (reply.bytes && reply.size > 0 && (reply.bytes[reply.size - 1] == '\r' || reply.bytes[reply.size - 1] == '\n'))
        reply.size--;
    if (!reply.bytes || reply.size == 0) {
        switchover->talk = TALK_LOST;
        keep_trouble(switchover, SLICE("connection lost"));
        return;
    }
    bool is_error = reply.bytes[0] == '-';
    switchover->talk = is_error ? TALK_REFUSED : TALK_GOOD;
    if (is_error) {
        keep_trouble(switchover, (struct slice){reply.bytes + 1, reply.size - 1});
        return;
    }
    struct slice value = last_line(reply);
    snprintf(switchover->value, sizeof(switchover->value), "%.*s",
             value.size < sizeof(switchover->value) ? (int)value.size : 0, value.bytes);
    info_copy(reply, "master_replid", switchover->told_replid, sizeof(switchover->told_replid));
    info_copy(reply, "master_repl_offset", switchover->told_offset, sizeof(switchover->told_offset));
    info_copy(reply, "master_link_status", switchover->told_link, sizeof(switchover->told_link));
}

static void keep_trouble(struct switchover *switchover, struct slice text)
{
    size_t size = text.size < ANSWER_SHOWN_MAX ? text.size : ANSWER_SHOWN_MAX;
    snprintf(switchover->trouble, sizeof(switchover->trouble), "%.*s", (int)size, text.bytes);
}

/* Of CONFIG GET that is the value. */
static struct slice last_line(struct slice reply)
{
    const char *before = memrchr(reply.bytes, '\n', reply.size);
    const char *line = before ? before + 1 : reply.bytes;
    return (struct slice){line, (size_t)(reply.bytes + reply.size - line)};
}

static struct probe *probe_of(const struct switchover *switchover, const char *name)
{
    struct probe *probe = switchover->survey->probes;
    while (probe && strcmp(probe->name, name) != 0)
        probe = probe->next;
    return probe;
}

/* ---- whom ---- */

static bool make_plan(const struct switchover *switchover, const char *wanted, struct switchover_plan *plan)
{
    const struct survey *survey = switchover->survey;
    *plan = (struct switchover_plan){.wanted = wanted,
                                     .since_us = switchover->step == STEP_CHOOSE ? switchover->began_us : 0};
    if (!survey->kind->plan || !survey->discovery) return switchover_refuse(plan, "the kind of upstream has changed");
    return survey->kind->plan(survey->discovery, plan);
}

static void choose(struct switchover *switchover)
{
    struct switchover_plan plan;
    char names[SWITCHOVER_LINE_SIZE / 2];
    if (!make_plan(switchover, switchover->order->wanted, &plan)) {
        snprintf(switchover->trouble, sizeof(switchover->trouble), "%s", plan.fault); /* in the end, should it not pass */
        if (!plan.may_pass) fail(switchover, "%s", plan.fault);
        return;
    }
    if (!adopt_plan(switchover, &plan)) {
        fail(switchover, "there are too many replicas");
        return;
    }
    log_info("%s: switchover: from %s to %s", survey_label(switchover->survey), switchover->master.name,
             heirs_of(switchover, names, sizeof(names)));
    note(switchover, "chosen: %s", heirs_of(switchover, names, sizeof(names)));
    bool is_cluster = switchover->survey->verdict.is_cluster;
    next(switchover, is_cluster ? STEP_PROMOTE : switchover->priority ? STEP_READ_PRIORITY : STEP_HOLD);
}

static bool adopt_plan(struct switchover *switchover, const struct switchover_plan *plan)
{
    switchover->heir_count = plan->heir_count;
    switchover->priority = plan->priority;
    snprintf(switchover->master.name, sizeof(switchover->master.name), "%s", plan->master->name);
    for (size_t i = 0; i < plan->heir_count; i++) {
        struct node *heir = &switchover->heirs[i];
        snprintf(heir->name, sizeof(heir->name), "%s", plan->heirs[i].probe->name);
        snprintf(heir->host, sizeof(heir->host), "%s", plan->heirs[i].host);
        heir->port = plan->heirs[i].port;
    }
    return plan->heir_count > 0;
}

static const char *heirs_of(const struct switchover *switchover, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < switchover->heir_count && used < size; i++) {
        int printed = snprintf(out + used, size - used, "%s%s", i ? " or " : "", switchover->heirs[i].name);
        if (printed > 0) used += (size_t)printed;
    }
    return out;
}

/* ---- so that the Sentinel chooses the same ---- */

static void read_priority(struct switchover *switchover)
{
    static const char *const words[] = {"CONFIG", "GET", "replica-priority", NULL};
    char *end;
    switch (ask(switchover, switchover->heirs[0].name, words)) {
    case TALK_IDLE:
    case TALK_ASKED:
        return;
    case TALK_GOOD:
        if (strtol(switchover->value, &end, 10) > 0 && !*end) {
            memcpy(switchover->priority_before, switchover->value, sizeof(switchover->priority_before));
            next(switchover, STEP_SET_PRIORITY);
            return;
        }
        fail(switchover, "it does not tell it");
        return;
    case TALK_REFUSED:
    case TALK_LOST:
        fail(switchover, "%s", switchover->trouble);
    }
}

static void set_priority(struct switchover *switchover)
{
    char number[24];
    const char *const words[] = {"CONFIG", "SET", "replica-priority", number, NULL};
    snprintf(number, sizeof(number), "%" PRId64, switchover->priority);
    switch (ask(switchover, switchover->heirs[0].name, words)) {
    case TALK_IDLE:
    case TALK_ASKED:
        return;
    case TALK_GOOD:
        note(switchover, "replica-priority of %s set from %s to %s", switchover->heirs[0].name,
             switchover->priority_before, number);
        next(switchover, STEP_AWAIT_PRIORITY);
        return;
    case TALK_REFUSED:
        switchover->priority_before[0] = '\0';
        fail(switchover, "%s", switchover->trouble);
        return;
    case TALK_LOST:
        fail(switchover, "%s", switchover->trouble);
    }
}

/* Sentinels ask for it every ten seconds. */
static void await_priority(struct switchover *switchover)
{
    struct switchover_plan plan;
    if (!make_plan(switchover, switchover->heirs[0].name, &plan)) {
        snprintf(switchover->trouble, sizeof(switchover->trouble), "%s", plan.fault);
        if (!plan.may_pass) fail(switchover, "%s", plan.fault);
        return;
    }
    switchover->trouble[0] = '\0';
    if (strcmp(plan.master->name, switchover->master.name) != 0) {
        fail(switchover, "the master is another one now");
        return;
    }
    if (plan.priority > 0) return;
    note(switchover, "the Sentinel knows that");
    next(switchover, STEP_HOLD);
}

/* ---- the writes ---- */

/* Once held, the workers hear of it at the end of the loop turn: the next step is for the next. */
static void hold_writes(struct switchover *switchover)
{
    const struct probe *master = probe_of(switchover, switchover->master.name);
    if (!switchover->held_us) {
        if (!master || !survey_is_master(switchover->survey, master)) {
            fail(switchover, "the master is another one now");
            return;
        }
        switchover->held_us = clock_us();
        survey_touch(switchover->survey);
        return;
    }
    next(switchover, STEP_QUIET);
    struct switchover_order *order = switchover->order;
    switchover->order = NULL;
    order->is_quiet = false;
    memcpy(order->master, switchover->master.name, sizeof(order->master));
    order->events->quieten(order);
}

static void quieten(struct switchover *switchover)
{
    if (!switchover->order) return; /* it goes from worker to worker */
    if (!switchover->order->is_quiet) {
        fail(switchover, "some were not answered");
        return;
    }
    note(switchover, "writes are held, those under way answered");
    next(switchover, STEP_PAUSE);
    go_on(switchover);
}

static void pause_master(struct switchover *switchover)
{
    char number[24];
    const char *const words[] = {"CLIENT", "PAUSE", number, "WRITE", NULL};
    snprintf(number, sizeof(number), "%" PRIu64, hold_limit_ms(switchover) + SWITCHOVER_PAUSE_MORE_MS);
    switch (ask(switchover, switchover->master.name, words)) {
    case TALK_IDLE:
    case TALK_ASKED:
        switchover->is_paused |= switchover->talk == TALK_ASKED;
        return;
    case TALK_GOOD:
        note(switchover, "writes of all others paused at %s", switchover->master.name);
        next(switchover, STEP_MEASURE);
        go_on(switchover);
        return;
    case TALK_REFUSED:
        switchover->is_paused = false;
        fail(switchover, "%s", switchover->trouble);
        return;
    case TALK_LOST:
        fail(switchover, "%s", switchover->trouble);
    }
}

/* ---- every byte ---- */

static void measure(struct switchover *switchover)
{
    static const char *const words[] = {"INFO", "replication", NULL};
    switch (ask(switchover, switchover->master.name, words)) {
    case TALK_IDLE:
    case TALK_ASKED:
        return;
    case TALK_GOOD:
        memcpy(switchover->replid, switchover->told_replid, sizeof(switchover->replid));
        switchover->offset = strtoll(switchover->told_offset, NULL, 10);
        if (!switchover->replid[0] || !switchover->told_offset[0]) {
            fail(switchover, "it does not tell it");
            return;
        }
        next(switchover, STEP_CATCH_UP);
        go_on(switchover);
        return;
    case TALK_REFUSED:
    case TALK_LOST:
        fail(switchover, "%s", switchover->trouble);
    }
}

/* All that may be promoted, one after the other: what one has it keeps. */
static void catch_up(struct switchover *switchover)
{
    static const char *const words[] = {"INFO", "replication", NULL};
    const struct node *heir = &switchover->heirs[switchover->heir];
    enum talk talk = ask(switchover, heir->name, words);
    if (talk == TALK_REFUSED) fail(switchover, "%s: %.200s", heir->name, switchover->trouble);
    if (talk != TALK_GOOD) return;

    int64_t missing = switchover->offset - strtoll(switchover->told_offset, NULL, 10);
    bool has_history = strcmp(switchover->told_replid, switchover->replid) == 0;
    bool is_linked = strcmp(switchover->told_link, "up") == 0;
    if (!has_history || !is_linked || missing > 0) {
        snprintf(switchover->trouble, sizeof(switchover->trouble), "%s %s", heir->name,
                 !is_linked     ? "has lost its master"
                 : !has_history ? "has another history"
                                : "has not all of it");
        return;
    }
    if (++switchover->heir < switchover->heir_count) {
        go_on(switchover);
        return;
    }
    note(switchover, "%s every byte up to %" PRId64, switchover->heir_count > 1 ? "all of them have" : "it has",
         switchover->offset);
    next(switchover, STEP_PROMOTE);
    go_on(switchover);
}

/* ---- the failover ---- */

static void promote(struct switchover *switchover)
{
    static const char *const words[] = {"CLUSTER", "FAILOVER", NULL};
    struct survey *survey = switchover->survey;
    const struct probe *master = probe_of(switchover, switchover->master.name);
    enum talk talk;
    if (!survey->verdict.is_cluster && switchover->talk == TALK_IDLE) {
        switchover->asked_us = clock_us();
        bool is_asked = master && survey->kind->fail_over && survey->kind->fail_over(survey->discovery, master);
        talk = switchover->talk = is_asked ? TALK_ASKED : TALK_IDLE;
    } else {
        talk = survey->verdict.is_cluster ? ask(switchover, switchover->heirs[0].name, words) : answer_of(switchover);
    }
    switchover->is_promoted = talk != TALK_IDLE && talk != TALK_REFUSED;
    if (talk == TALK_REFUSED || talk == TALK_LOST) fail(switchover, "%s", switchover->trouble);
    if (talk != TALK_GOOD) return;
    note(switchover, "failover begun");
    next(switchover, STEP_CONFIRM);
}

static void confirm(struct switchover *switchover)
{
    struct survey *survey = switchover->survey;
    for (size_t i = 0; i < switchover->heir_count; i++) {
        struct probe *heir = probe_of(switchover, switchover->heirs[i].name);
        if (!heir) continue;
        probe_hurry(heir, SWITCHOVER_HURRY_GAP_US);
        if (!survey_is_master(survey, heir)) continue;
        switchover->heir = i;
        switchover->is_confirmed = true;
        release_writes(switchover);
        note(switchover, "%s is the master", heir->name);
        next(switchover, switchover->is_paused ? STEP_DEMOTE : STEP_END);
        return;
    }
    survey_ask(survey);
}

/* The Sentinels do that as well, but after ten seconds: what others write to it meanwhile would be lost. */
static void demote(struct switchover *switchover)
{
    const struct node *heir = &switchover->heirs[switchover->heir];
    char port[8];
    const char *const words[] = {"REPLICAOF", heir->host, port, NULL};
    snprintf(port, sizeof(port), "%u", (unsigned)heir->port);
    enum talk talk = ask(switchover, switchover->master.name, words);
    if (talk == TALK_REFUSED || talk == TALK_LOST) fail(switchover, "%s", switchover->trouble);
    if (talk != TALK_GOOD) return;
    note(switchover, "%s is its replica", switchover->master.name);
    next(switchover, STEP_UNPAUSE);
    go_on(switchover);
}

/* ---- the end ---- */

/* As often as it takes: the connection may have been cut, as happens to a master that is made a replica. */
static void unpause(struct switchover *switchover)
{
    static const char *const words[] = {"CLIENT", "UNPAUSE", NULL};
    enum talk talk = ask(switchover, switchover->master.name, words);
    if (talk == TALK_REFUSED) fail(switchover, "%s", switchover->trouble);
    if (talk != TALK_GOOD) return;
    note(switchover, "writes of others go on");
    switchover->is_paused = false;
    clean_up(switchover);
}

static void restore_priority(struct switchover *switchover)
{
    const char *const words[] = {"CONFIG", "SET", "replica-priority", switchover->priority_before, NULL};
    enum talk talk = ask(switchover, switchover->heirs[0].name, words);
    if (talk == TALK_REFUSED) fail(switchover, "%s", switchover->trouble);
    if (talk != TALK_GOOD) return;
    note(switchover, "replica-priority of %s is %s again", switchover->heirs[0].name, switchover->priority_before);
    switchover->priority_before[0] = '\0';
    next(switchover, switchover->is_promoted ? STEP_KEEP_PRIORITY : STEP_END);
}

/* The Sentinel has had it write its configuration when it was promoted. Where there is no file it refuses. */
static void keep_priority(struct switchover *switchover)
{
    static const char *const words[] = {"CONFIG", "REWRITE", NULL};
    if (ask(switchover, switchover->heirs[0].name, words) == TALK_ASKED) return;
    next(switchover, STEP_END);
}
