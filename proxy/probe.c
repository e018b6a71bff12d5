/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/probe.h"

#include "proxy/clock.h"
#include "proxy/info.h"
#include "proxy/log.h"

#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PROBE_SILENCE_MIN_MS 250U
#define PROBE_COMMAND_MS     5000U
#define PROBE_SLOW_EVERY_US  60000000U /* INFO server and COMMAND again */
#define PROBE_WATCHED_MS     200U
#define PROBE_QUESTIONS_MAX  16 /* none are added while so many are open */

static void probe_resolved(void *follower);
static void probe_move(struct probe *probe);
static void probe_tick(struct ev_loop *loop, ev_timer *watcher, int events);
static void probe_connect(struct probe *probe);
static void probe_wait(struct probe *probe, double seconds);
static void probe_opened(struct link *link, void *owner);
static void probe_closed(struct link *link, void *owner, enum link_end end, const char *reason);
static void probe_ask(struct probe *probe);
static void probe_ask_slow(struct probe *probe, uint64_t now_us);
static uint64_t silence_ms(const struct probe *probe);
static uint64_t asking_interval_ms(const struct probe *probe);
static void probe_pong(void *owner, const redisReply *reply, uint64_t asked_us);
static bool is_busy(const redisReply *reply);
static void probe_role(void *owner, const redisReply *reply, uint64_t asked_us);
static int64_t role_offset_of(const redisReply *reply, enum node_role role);
static void probe_role_of_replica(struct probe *probe, const redisReply *reply);
static void probe_master_resolved(void *follower);
static void probe_replication(void *owner, const redisReply *reply, uint64_t asked_us);
static void probe_server(void *owner, const redisReply *reply, uint64_t asked_us);
static void probe_commands(void *owner, struct slice reply, uint64_t asked_us);
static void probe_measure(struct probe *probe, uint64_t round_trip_us);
static void probe_fail(struct probe *probe, const char *format, ...) __attribute__((format(printf, 2, 3)));

static const struct link_handlers probe_handlers = {.opened = probe_opened, .closed = probe_closed};

struct probe *probe_create(const struct probe_setup *setup, const char *host, uint16_t port)
{
    char name[300];
    probe_format_name(name, sizeof(name), host, port);

    struct probe *probe = calloc(1, sizeof(*probe));
    if (!probe) return NULL;
    probe->setup = setup;
    probe->port = port;
    ev_init(&probe->tick, probe_tick);
    probe->tick.data = probe;
    probe->reconnect.seed = clock_us() ^ (uint64_t)(uintptr_t)probe;
    if (!probe->reconnect.seed) probe->reconnect.seed = 1;
    probe->name = strdup(name);
    probe->host = strdup(host);
    probe->gauge = node_gauge_create();
    probe->link = link_create(setup->loop, &probe_handlers, probe);
    probe->resolved = resolver_follow(setup->resolver, host, probe_resolved, probe);
    if (!probe->name || !probe->host || !probe->gauge || !probe->link || !probe->resolved) {
        probe_destroy(probe);
        return NULL;
    }
    probe_fail(probe, "has not answered yet");
    probe_wait(probe, 0);
    return probe;
}

void probe_destroy(struct probe *probe)
{
    if (!probe) return;
    ev_timer_stop(probe->setup->loop, &probe->tick);
    link_destroy(probe->link);
    resolver_forget(probe->resolved);
    resolver_forget(probe->master_resolved);
    node_gauge_release(probe->gauge);
    free(probe->samples);
    free(probe->name);
    free(probe->host);
    free(probe);
}

void probe_hurry(struct probe *probe, uint64_t min_gap_us)
{
    enum link_state state = link_state(probe->link);
    if (clock_us() - probe->tried_us < min_gap_us) return;
    if (state == LINK_CLOSED) probe_connect(probe);
    if (state == LINK_READY && link_questions(probe->link) < PROBE_QUESTIONS_MAX) probe_ask(probe);
}

bool probe_question(struct probe *probe, const char *const *words, uint64_t timeout_ms, link_answered_raw *answered)
{
    return link_questions(probe->link) < PROBE_QUESTIONS_MAX &&
           link_ask_raw(probe->link, words, timeout_ms, answered);
}

const char *probe_address(const struct probe *probe)
{
    if (probe->address[0]) return probe->address;
    return resolver_count(probe->resolved) ? resolver_address(probe->resolved, 0) : "";
}

bool probe_is_at(const struct probe *probe, const char *host, uint16_t port)
{
    if (probe->port != port) return false;
    return strcasecmp(probe->host, host) == 0 || resolver_has(probe->resolved, host);
}

bool probe_follows(const struct probe *probe, const struct probe *master, const char *host, uint16_t port)
{
    if (probe_is_at(master, host, port)) return true;
    if (!probe->master_resolved || port != master->port || strcmp(host, probe->master_host) != 0) return false;
    for (size_t i = 0; i < resolver_count(probe->master_resolved); i++) {
        if (resolver_has(master->resolved, resolver_address(probe->master_resolved, i))) return true;
    }
    return false;
}

void probe_format_name(char *out, size_t size, const char *host, uint16_t port)
{
    if (port == 0)
        snprintf(out, size, "unix:%s", host);
    else
        snprintf(out, size, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

/* ---- the connection ---- */

static void probe_resolved(void *follower)
{
    struct probe *probe = follower;
    bool has_moved = link_state(probe->link) != LINK_CLOSED && !resolver_has(probe->resolved, probe->address);
    if (has_moved) probe_move(probe);
    if (link_state(probe->link) == LINK_CLOSED) probe_connect(probe);
    probe->setup->changed(probe->setup->owner, probe);
}

/* Its name leads elsewhere, though what is at the old address answers still. */
static void probe_move(struct probe *probe)
{
    probe_fail(probe, "its name has another address now");
    probe->role = NODE_ROLE_UNKNOWN;
    probe->address_index = probe->addresses_tried = 0;
    atomic_store_explicit(&probe->gauge->fresh_us, 0, memory_order_relaxed);
    link_close(probe->link);
}

void probe_doubt_address(struct probe *probe)
{
    resolver_refresh(probe->resolved);
}

static void probe_tick(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct probe *probe = watcher->data;
    if (link_state(probe->link) == LINK_CLOSED) {
        probe_connect(probe);
    } else {
        if (link_state(probe->link) == LINK_READY && link_questions(probe->link) < PROBE_QUESTIONS_MAX)
            probe_ask(probe);
        uint64_t interval_ms = asking_interval_ms(probe);
        if (probe->is_watched && interval_ms > PROBE_WATCHED_MS) interval_ms = PROBE_WATCHED_MS;
        probe_wait(probe, (double)interval_ms / 1000.0);
    }
}

static void probe_connect(struct probe *probe)
{
    const struct probe_setup *setup = probe->setup;
    size_t count = resolver_count(probe->resolved);
    const char *fault = resolver_fault(probe->resolved);
    if (count || fault) probe->tried_us = clock_us();
    if (!count) {
        probe_fail(probe, "cannot resolve its name: %s", fault ? fault : "no answer yet");
        return; /* probe_resolved() goes on */
    }

    snprintf(probe->address, sizeof(probe->address), "%s",
             resolver_address(probe->resolved, probe->address_index % count));
    struct link_target target = {.address = probe->address,
                                 .port = probe->port,
                                 .username = setup->username,
                                 .password = setup->password,
                                 .timeout_ms = setup->connect_timeout_ms};
    probe->has_answered = probe->has_refused = false;
    link_open(probe->link, &target);
    probe_wait(probe, (double)asking_interval_ms(probe) / 1000.0);
}

static void probe_wait(struct probe *probe, double seconds)
{
    ev_timer_stop(probe->setup->loop, &probe->tick);
    ev_timer_set(&probe->tick, seconds, 0.);
    ev_timer_start(probe->setup->loop, &probe->tick);
}

static void probe_opened(struct link *link, void *owner)
{
    struct probe *probe = owner;
    if (link_password_was_needless(link) && !probe->is_password_noted && !probe->setup->is_quiet)
        log_warning("node %s: has no password, but upstream.password is set; going on without", probe->name);
    probe->is_password_noted = link_password_was_needless(link);
    probe->info_asked_us = probe->commands_asked_us = 0;
    probe_ask(probe);
}

static void probe_closed(struct link *link, void *owner, enum link_end end, const char *reason)
{
    (void)link;
    struct probe *probe = owner;
    bool has_worked = probe->has_answered;
    atomic_store_explicit(&probe->gauge->fresh_us, 0, memory_order_relaxed); /* the next may be another process */
    if (end != LINK_ENDED_IDLE || !has_worked) probe_fail(probe, "%s", reason);
    probe->setup->changed(probe->setup->owner, probe);

    if (has_worked && (end == LINK_ENDED_IDLE || end == LINK_ENDED_LOST)) {
        probe_connect(probe);
        return;
    }
    if (!has_worked) {
        probe->address_index++;
        resolver_refresh(probe->resolved);
    }
    bool has_another = !has_worked && ++probe->addresses_tried < resolver_count(probe->resolved);
    probe_wait(probe, has_another ? 0 : reconnect_wait_s(&probe->reconnect));
}

/* ---- questions ---- */

static void probe_ask(struct probe *probe)
{
    static const char *const ping[] = {"PING", NULL};
    static const char *const role[] = {"ROLE", NULL};

    uint64_t now_us = clock_us();
    probe->tried_us = now_us;
    link_ask(probe->link, ping, silence_ms(probe), probe_pong);
    link_ask(probe->link, role, silence_ms(probe), probe_role);
    if (probe->wants_replication) probe_ask_replication(probe);
    probe_ask_slow(probe, now_us);
}

bool probe_ask_replication(struct probe *probe)
{
    static const char *const replication[] = {"INFO", "replication", NULL};
    if (probe->owes_replication || link_questions(probe->link) >= PROBE_QUESTIONS_MAX) return false;
    probe->owes_replication = link_ask(probe->link, replication, silence_ms(probe), probe_replication);
    return probe->owes_replication;
}

static void probe_ask_slow(struct probe *probe, uint64_t now_us)
{
    static const char *const server[] = {"INFO", "server", NULL};
    static const char *const command[] = {"COMMAND", NULL};

    if (!probe->info_asked_us || now_us - probe->info_asked_us > PROBE_SLOW_EVERY_US) {
        probe->info_asked_us = now_us;
        link_ask(probe->link, server, silence_ms(probe), probe_server);
    }
    if (!probe->wants_commands) return;
    if (!probe->commands_asked_us || now_us - probe->commands_asked_us > PROBE_SLOW_EVERY_US) {
        probe->commands_asked_us = now_us;
        link_ask_raw(probe->link, command, PROBE_COMMAND_MS, probe_commands);
    }
}

static uint64_t silence_ms(const struct probe *probe)
{
    uint64_t two_intervals_ms = 2 * probe->setup->interval_ms;
    uint64_t left_ms = probe->setup->silence_ms - asking_interval_ms(probe); /* it may freeze just after it has answered */
    if (two_intervals_ms < PROBE_SILENCE_MIN_MS) two_intervals_ms = PROBE_SILENCE_MIN_MS;
    return two_intervals_ms < left_ms ? two_intervals_ms : left_ms;
}

static uint64_t asking_interval_ms(const struct probe *probe)
{
    uint64_t most_ms = probe->setup->silence_ms / 2;
    return probe->setup->interval_ms < most_ms ? probe->setup->interval_ms : most_ms;
}

/* ---- answers ---- */

static void probe_pong(void *owner, const redisReply *reply, uint64_t asked_us)
{
    struct probe *probe = owner;
    if (!reply) return; /* probe_closed() tells why */

    probe->is_busy = is_busy(reply);
    probe->has_refused = reply->type == REDIS_REPLY_ERROR && !probe->is_busy;
    if (reply->type == REDIS_REPLY_ERROR) probe_fail(probe, "answers PING with: %.150s", reply->str);
    if (probe->is_busy) {
        probe->answers = true;
    } else if (reply->type != REDIS_REPLY_ERROR) {
        probe->answers = true;
        probe->fault[0] = '\0';
        probe->pong_asked_us = asked_us;
        probe->has_answered = true;
        probe->addresses_tried = 0;
        reconnect_reset(&probe->reconnect);
        probe_measure(probe, clock_us() - asked_us);
    }
    probe->setup->changed(probe->setup->owner, probe);
}

/* A script runs, and the node answers nothing else. */
static bool is_busy(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "BUSY ", 5) == 0;
}

/* ROLE: ["master", offset, replicas] or ["slave", host, port, state of the link, offset]. */
static void probe_role(void *owner, const redisReply *reply, uint64_t asked_us)
{
    struct probe *probe = owner;
    if (!reply || is_busy(reply)) return; /* while a script runs it is what it was */

    enum node_role role = NODE_ROLE_UNKNOWN;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements >= 1 &&
        reply->element[0]->type == REDIS_REPLY_STRING) {
        const char *word = reply->element[0]->str;
        if (strcmp(word, "master") == 0) role = NODE_ROLE_MASTER;
        if (strcmp(word, "slave") == 0 && reply->elements >= 5) role = NODE_ROLE_REPLICA;
    }
    snprintf(probe->role_fault, sizeof(probe->role_fault), "does not tell its role: %.150s",
             reply->type == REDIS_REPLY_ERROR ? reply->str : "an odd reply to ROLE");
    probe->role = role;
    probe->role_asked_us = asked_us;
    probe->role_offset = role_offset_of(reply, role);
    if (role == NODE_ROLE_REPLICA) probe_role_of_replica(probe, reply);
    probe->setup->changed(probe->setup->owner, probe);
}

static int64_t role_offset_of(const redisReply *reply, enum node_role role)
{
    size_t at = role == NODE_ROLE_MASTER ? 1 : 4;
    bool has_offset = role != NODE_ROLE_UNKNOWN && reply->elements > at && reply->element[at]->type == REDIS_REPLY_INTEGER;
    return has_offset ? reply->element[at]->integer : -1;
}

static void probe_role_of_replica(struct probe *probe, const redisReply *reply)
{
    const redisReply *host = reply->element[1], *port = reply->element[2], *state = reply->element[3];
    bool makes_sense = host->type == REDIS_REPLY_STRING && port->type == REDIS_REPLY_INTEGER &&
                       port->integer > 0 && port->integer <= UINT16_MAX && state->type == REDIS_REPLY_STRING;
    probe->is_linked = makes_sense && strcmp(state->str, "connected") == 0;
    probe->master_port = makes_sense ? (uint16_t)port->integer : 0;
    const char *master_host = makes_sense ? host->str : "";
    if (probe->master_resolved && strcmp(probe->master_host, master_host) == 0) return;

    resolver_forget(probe->master_resolved);
    snprintf(probe->master_host, sizeof(probe->master_host), "%s", master_host);
    probe->master_resolved =
        resolver_follow(probe->setup->resolver, master_host, probe_master_resolved, probe);
}

static void probe_master_resolved(void *follower)
{
    struct probe *probe = follower;
    probe->setup->changed(probe->setup->owner, probe);
}

static void probe_replication(void *owner, const redisReply *reply, uint64_t asked_us)
{
    struct probe *probe = owner;
    probe->owes_replication = false;
    if (reply && reply->type == REDIS_REPLY_ERROR && !is_busy(reply) && !probe->is_history_noted) {
        log_warning("node %s: not read from as a replica, since it does not tell its replication history: %.150s",
                    probe->name, reply->str);
        probe->is_history_noted = true;
    }
    if (!reply || reply->type != REDIS_REPLY_STRING) return;
    probe->is_history_noted = false;
    struct slice text = {reply->str, (size_t)reply->len};
    char offset[24], link[8], replid[PROBE_RUN_ID_SIZE], replid2[PROBE_RUN_ID_SIZE];
    info_copy(text, "master_replid", replid, sizeof(replid));
    info_copy(text, "master_replid2", replid2, sizeof(replid2));
    bool is_news = !probe->replication_asked_us || strcmp(replid, probe->replid) != 0 ||
                   strcmp(replid2, probe->replid2) != 0;
    memcpy(probe->replid, replid, sizeof(replid));
    memcpy(probe->replid2, replid2, sizeof(replid2));
    info_copy(text, "master_repl_offset", offset, sizeof(offset));
    probe->offset = strtoll(offset, NULL, 10);
    info_copy(text, "master_link_status", link, sizeof(link));
    info_copy(text, "slave_repl_offset", offset, sizeof(offset));
    bool is_applied = strcmp(link, "up") == 0 && offset[0];
    probe->applied = is_applied ? strtoll(offset, NULL, 10) : -1;
    probe->replication_asked_us = asked_us;
    if (probe->setup->replicated) probe->setup->replicated(probe->setup->owner, probe);
    if (is_news) probe->setup->changed(probe->setup->owner, probe);
}

static void probe_server(void *owner, const redisReply *reply, uint64_t asked_us)
{
    (void)asked_us;
    struct probe *probe = owner;
    if (!reply || reply->type != REDIS_REPLY_STRING) return;
    struct slice text = {reply->str, (size_t)reply->len};
    info_copy(text, "redis_version", probe->version, sizeof(probe->version));
    info_copy(text, "redis_mode", probe->mode, sizeof(probe->mode));
    probe->setup->changed(probe->setup->owner, probe);
}

static void probe_commands(void *owner, struct slice reply, uint64_t asked_us)
{
    (void)asked_us;
    struct probe *probe = owner;
    if (reply.bytes && reply.bytes[0] == '*') probe->setup->commands(probe->setup->owner, reply);
}

/* Smoothed as TCP does it: one eighth of what is new (RFC 6298, section 2). */
static void probe_measure(struct probe *probe, uint64_t round_trip_us)
{
    uint64_t old_us = atomic_load_explicit(&probe->gauge->round_trip_us, memory_order_relaxed);
    uint64_t new_us = old_us ? (old_us * 7 + round_trip_us) / 8 : round_trip_us;
    if (new_us == 0) new_us = 1;
    if (new_us > UINT32_MAX) new_us = UINT32_MAX;
    atomic_store_explicit(&probe->gauge->round_trip_us, (uint32_t)new_us, memory_order_relaxed);
}

static void probe_fail(struct probe *probe, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(probe->fault, sizeof(probe->fault), format, arguments);
    va_end(arguments);
    probe->answers = false;
}
