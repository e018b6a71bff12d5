/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/sentinel_peer.h"

#include "proxy/clock.h"
#include "proxy/log.h"
#include "proxy/probe.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

#define PEER_SILENCE_MAX_MS 2000U /* a question unanswered for so long, or for two polls, is no answer */
#define PEER_SILENCE_MIN_MS 300U

static void peer_resolved(void *follower);
static void peer_tick(struct ev_loop *loop, ev_timer *watcher, int events);
static void peer_events_tick(struct ev_loop *loop, ev_timer *watcher, int events);
static void peer_connect(struct sentinel_peer *peer, struct peer_channel *channel);
static void channel_wait(struct sentinel_peer *peer, struct peer_channel *channel, double seconds);
static void peer_opened(struct link *link, void *owner);
static void peer_closed(struct link *link, void *owner, enum link_end end, const char *reason);
static void peer_events_opened(struct link *link, void *owner);
static void peer_events_closed(struct link *link, void *owner, enum link_end end, const char *reason);
static void peer_pushed(struct link *link, void *owner, const redisReply *message);
static void peer_is_up(struct sentinel_peer *peer);
static void peer_is_down(struct sentinel_peer *peer, const char *reason);
static bool peer_asks(struct sentinel_peer *peer, const char *what, bool with_name, link_answered *answered);
static void peer_pong(void *owner, const redisReply *reply, uint64_t asked_us);
static void peer_told_id(void *owner, const redisReply *reply, uint64_t asked_us);
static void peer_told_masters(void *owner, const redisReply *reply, uint64_t asked_us);
static void peer_told_master(void *owner, const redisReply *reply, uint64_t asked_us);
static void peer_told_address(void *owner, const redisReply *reply, uint64_t asked_us);
static bool peer_check(struct sentinel_peer *peer, const redisReply *reply);
static void peer_told_replicas(void *owner, const redisReply *reply, uint64_t asked_us);
static void peer_told_failover(void *owner, struct slice reply, uint64_t asked_us);
static void peer_told_others(void *owner, const redisReply *reply, uint64_t asked_us);
static bool list_read(struct peer_list *list, const redisReply *reply);
static const char *field(const redisReply *reply, const char *key);
static bool has_flag(const char *flags, const char *flag);
static uint16_t port_of(const char *text);
static uint64_t silence_ms(const struct sentinel_peer *peer);

static const struct link_handlers question_handlers = {.opened = peer_opened, .closed = peer_closed};
static const struct link_handlers event_handlers = {
    .opened = peer_events_opened, .closed = peer_events_closed, .pushed = peer_pushed};

struct sentinel_peer *peer_create(const struct peer_setup *setup, const char *host, uint16_t port,
                                  bool is_seed, const char *run_id)
{
    char name[300];
    probe_format_name(name, sizeof(name), host, port);

    struct sentinel_peer *peer = calloc(1, sizeof(*peer));
    if (!peer) return NULL;
    peer->setup = setup;
    peer->port = port;
    peer->is_seed = is_seed;
    peer->knows_replicas = true;
    snprintf(peer->run_id, sizeof(peer->run_id), "%s", run_id);
    ev_init(&peer->questions.tick, peer_tick);
    ev_init(&peer->events.tick, peer_events_tick);
    peer->questions.tick.data = peer->events.tick.data = peer;
    peer->questions.reconnect.seed = (clock_us() ^ (uint64_t)(uintptr_t)peer) | 1;
    peer->events.reconnect.seed = (clock_us() * 3 ^ (uint64_t)(uintptr_t)peer) | 1;
    peer->name = strdup(name);
    peer->host = strdup(host);
    peer->questions.link = link_create(setup->loop, &question_handlers, peer);
    peer->events.link = link_create(setup->loop, &event_handlers, peer);
    peer->resolved = resolver_follow(setup->resolver, host, peer_resolved, peer);
    if (!peer->name || !peer->host || !peer->questions.link || !peer->events.link || !peer->resolved) {
        peer_destroy(peer);
        return NULL;
    }
    channel_wait(peer, &peer->questions, 0);
    return peer;
}

void peer_destroy(struct sentinel_peer *peer)
{
    if (!peer) return;
    ev_timer_stop(peer->setup->loop, &peer->questions.tick);
    ev_timer_stop(peer->setup->loop, &peer->events.tick);
    link_destroy(peer->questions.link);
    link_destroy(peer->events.link);
    resolver_forget(peer->resolved);
    free(peer->replicas.items);
    free(peer->others.items);
    free(peer->name);
    free(peer->host);
    free(peer);
}

void peer_ask_all(struct sentinel_peer *peer)
{
    peer_ask(peer);
    if (!peer->setup->master_name[0]) return;
    peer->replicas_wanted_us = clock_us();
    peer_asks(peer, peer->knows_replicas ? "REPLICAS" : "SLAVES", true, peer_told_replicas);
    peer_asks(peer, "SENTINELS", true, peer_told_others);
}

void peer_ask(struct sentinel_peer *peer)
{
    if (link_state(peer->questions.link) != LINK_READY) return;
    if (!peer->setup->master_name[0]) {
        peer_asks(peer, "MASTERS", false, peer_told_masters);
    } else if (peer->is_asking) {
        peer->is_wanted_again = true;
    } else {
        /* The Sentinel that leads a failover gives the promoted replica to GET-MASTER-ADDR-BY-NAME, together
         * with the new epoch in MASTER, about a second before MASTER has the new address: so address and
         * epoch come from two questions, which it answers in one go. */
        peer->is_asking = peer_asks(peer, "MASTER", true, peer_told_master) &&
                          peer_asks(peer, "GET-MASTER-ADDR-BY-NAME", true, peer_told_address);
    }
}

bool peer_fail_over(struct sentinel_peer *peer)
{
    const char *const words[] = {"SENTINEL", "FAILOVER", peer->setup->master_name, NULL};
    return link_ask_raw(peer->questions.link, words, silence_ms(peer), peer_told_failover);
}

bool peer_is_at(const struct sentinel_peer *peer, const char *host, uint16_t port)
{
    if (peer->port != port) return false;
    return strcasecmp(peer->host, host) == 0 || resolver_has(peer->resolved, host);
}

const char *peer_address(const struct sentinel_peer *peer)
{
    return peer->address;
}

/* ---- connections ---- */

static void peer_resolved(void *follower)
{
    struct sentinel_peer *peer = follower;
    if (link_state(peer->questions.link) == LINK_CLOSED) peer_connect(peer, &peer->questions);
    peer->setup->changed(peer->setup->owner);
}

static void peer_tick(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct sentinel_peer *peer = watcher->data;
    if (link_state(peer->questions.link) == LINK_CLOSED) {
        peer_connect(peer, &peer->questions);
        return;
    }
    peer_ask_all(peer);
    channel_wait(peer, &peer->questions, (double)peer->setup->poll_interval_ms / 1000.0);
    peer->setup->changed(peer->setup->owner); /* time has passed: views have grown older */
}

static void peer_events_tick(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    static const char *const ping[] = {"PING", NULL};
    struct sentinel_peer *peer = watcher->data;
    enum link_state state = link_state(peer->events.link);
    if (state == LINK_CLOSED) {
        if (link_state(peer->questions.link) == LINK_READY) peer_connect(peer, &peer->events);
        return; /* else peer_is_up() goes on */
    }
    if (state == LINK_READY && link_questions(peer->events.link) == 0)
        link_ask(peer->events.link, ping, silence_ms(peer), peer_pong);
    channel_wait(peer, &peer->events, (double)peer->setup->poll_interval_ms / 1000.0);
}

static void peer_connect(struct sentinel_peer *peer, struct peer_channel *channel)
{
    const struct peer_setup *setup = peer->setup;
    size_t count = resolver_count(peer->resolved);
    if (!count) {
        if (resolver_fault(peer->resolved)) peer_is_down(peer, resolver_fault(peer->resolved));
        return; /* peer_resolved() goes on */
    }
    if (channel == &peer->questions)
        snprintf(peer->address, sizeof(peer->address), "%s",
                 resolver_address(peer->resolved, peer->address_index % count));
    struct link_target target = {.address = peer->address,
                                 .port = peer->port,
                                 .username = setup->username,
                                 .password = setup->password,
                                 .timeout_ms = setup->connect_timeout_ms};
    channel->has_answered = false;
    link_open(channel->link, &target);
    channel_wait(peer, channel, (double)setup->poll_interval_ms / 1000.0);
}

static void channel_wait(struct sentinel_peer *peer, struct peer_channel *channel, double seconds)
{
    ev_timer_stop(peer->setup->loop, &channel->tick);
    ev_timer_set(&channel->tick, seconds, 0.);
    ev_timer_start(peer->setup->loop, &channel->tick);
}

static void peer_opened(struct link *link, void *owner)
{
    struct sentinel_peer *peer = owner;
    bool is_needless = link_password_was_needless(link);
    if (is_needless && !peer->is_password_noted)
        log_warning(
            "%s: sentinel %s: has no password, but upstream.sentinel_password is set; going on without",
            peer->setup->label, peer->name);
    peer->is_password_noted = is_needless;
    peer->is_asking = peer->is_wanted_again = false;
    peer_asks(peer, "MYID", false, peer_told_id);
    peer_ask_all(peer);
}

static void peer_closed(struct link *link, void *owner, enum link_end end, const char *reason)
{
    (void)link;
    struct sentinel_peer *peer = owner;
    bool has_worked = peer->questions.has_answered;
    peer->is_asking = peer->is_wanted_again = false;
    if (has_worked && end == LINK_ENDED_IDLE) { /* its view stands until a new connection says otherwise */
        peer_connect(peer, &peer->questions);
        return;
    }

    peer->has_view = false;
    peer_is_down(peer, reason);
    peer->setup->changed(peer->setup->owner);
    if (!has_worked) {
        peer->address_index++;
        resolver_refresh(peer->resolved);
    }
    bool has_another = !has_worked && ++peer->addresses_tried < resolver_count(peer->resolved);
    channel_wait(peer, &peer->questions, has_another ? 0 : reconnect_wait_s(&peer->questions.reconnect));
}

static void peer_events_opened(struct link *link, void *owner)
{
    static const char *const subscribe[] = {"PSUBSCRIBE", "*", NULL};
    struct sentinel_peer *peer = owner;
    link_ask(link, subscribe, silence_ms(peer), peer_pong);
    peer_ask(peer); /* what was announced before the subscription */
}

static void peer_events_closed(struct link *link, void *owner, enum link_end end, const char *reason)
{
    (void)link;
    struct sentinel_peer *peer = owner;
    bool has_worked = peer->events.has_answered;
    log_debug("%s: sentinel %s: subscription lost: %s", peer->setup->label, peer->name, reason);
    peer_ask(peer);
    channel_wait(peer, &peer->events,
                 has_worked && end == LINK_ENDED_IDLE ? 0 : reconnect_wait_s(&peer->events.reconnect));
}

static void peer_pushed(struct link *link, void *owner, const redisReply *message)
{
    (void)link;
    struct sentinel_peer *peer = owner;
    const redisReply *channel = message->element[message->elements - 2];
    const redisReply *text = message->element[message->elements - 1];
    if (channel->type != REDIS_REPLY_STRING || text->type != REDIS_REPLY_STRING) return;
    if (channel->str[0] != '+' && channel->str[0] != '-') return;
    log_debug("%s: sentinel %s: event %s %.200s", peer->setup->label, peer->name, channel->str, text->str);
    peer->setup->heard_event(peer->setup->owner, peer->name, channel->str, text->str);
}

static void peer_is_up(struct sentinel_peer *peer)
{
    peer->questions.has_answered = true;
    peer->addresses_tried = 0;
    reconnect_reset(&peer->questions.reconnect);
    if (link_state(peer->events.link) == LINK_CLOSED && !ev_is_active(&peer->events.tick))
        channel_wait(peer, &peer->events, 0);
    if (!peer->was_up) log_info("%s: sentinel %s: connected", peer->setup->label, peer->name);
    peer->was_up = peer->is_logged = true;
}

/* Logged once per outage. */
static void peer_is_down(struct sentinel_peer *peer, const char *reason)
{
    if (peer->is_logged && !peer->was_up) return;
    log_warning("%s: sentinel %s: not reachable: %s", peer->setup->label, peer->name, reason);
    peer->was_up = false;
    peer->is_logged = true;
}

/* ---- questions ---- */

static bool peer_asks(struct sentinel_peer *peer, const char *what, bool with_name, link_answered *answered)
{
    const char *words[] = {"SENTINEL", what, with_name ? peer->setup->master_name : NULL, NULL};
    return link_ask(peer->questions.link, words, silence_ms(peer), answered);
}

static uint64_t silence_ms(const struct sentinel_peer *peer)
{
    uint64_t two_polls_ms = 2 * peer->setup->poll_interval_ms;
    if (two_polls_ms > PEER_SILENCE_MAX_MS) return PEER_SILENCE_MAX_MS;
    return two_polls_ms < PEER_SILENCE_MIN_MS ? PEER_SILENCE_MIN_MS : two_polls_ms;
}

/* ---- answers ---- */

static void peer_pong(void *owner, const redisReply *reply, uint64_t asked_us)
{
    (void)asked_us;
    struct sentinel_peer *peer = owner;
    if (!reply) return;
    peer->events.has_answered = true;
    reconnect_reset(&peer->events.reconnect);
}

/* Sentinels before 6.2 do not know MYID; they are told apart by their addresses alone. */
static void peer_told_id(void *owner, const redisReply *reply, uint64_t asked_us)
{
    (void)asked_us;
    struct sentinel_peer *peer = owner;
    if (!reply) return;
    peer_is_up(peer);
    if (reply->type == REDIS_REPLY_STRING) snprintf(peer->run_id, sizeof(peer->run_id), "%s", reply->str);
    peer->setup->changed(peer->setup->owner);
}

static void peer_told_masters(void *owner, const redisReply *reply, uint64_t asked_us)
{
    (void)asked_us;
    struct sentinel_peer *peer = owner;
    if (reply) peer_check(peer, reply);
    if (!reply || reply->type != REDIS_REPLY_ARRAY) return;

    peer->masters = reply->elements;
    peer->master_names[0] = '\0';
    size_t used = 0;
    for (size_t i = 0; i < reply->elements && used < sizeof(peer->master_names); i++) {
        const char *name = field(reply->element[i], "name");
        int printed = snprintf(peer->master_names + used, sizeof(peer->master_names) - used, "%s%s",
                               i ? ", " : "", name);
        if (printed > 0) used += (size_t)printed;
    }
    peer->setup->changed(peer->setup->owner);
}

static void peer_told_master(void *owner, const redisReply *reply, uint64_t asked_us)
{
    struct sentinel_peer *peer = owner;
    if (!reply) return;
    const char *flags = field(reply, "flags");
    peer->next_view.epoch = strtoull(field(reply, "config-epoch"), NULL, 10);
    peer->next_view.others = strtoull(field(reply, "num-other-sentinels"), NULL, 10);
    peer->next_view.is_troubled =
        has_flag(flags, "s_down") || has_flag(flags, "o_down") || has_flag(flags, "failover_in_progress");
    peer->next_view.asked_us = reply->type == REDIS_REPLY_ARRAY ? asked_us : 0;
}

static void peer_told_address(void *owner, const redisReply *reply, uint64_t asked_us)
{
    (void)asked_us;
    struct sentinel_peer *peer = owner;
    if (!reply) return;

    peer_is_up(peer);
    peer->is_asking = false;
    bool is_address = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
                      reply->element[0]->type == REDIS_REPLY_STRING &&
                      reply->element[1]->type == REDIS_REPLY_STRING;
    peer->has_view = is_address && peer->next_view.asked_us && port_of(reply->element[1]->str);
    if (peer->has_view) {
        peer->view = peer->next_view;
        snprintf(peer->view.host, sizeof(peer->view.host), "%s", reply->element[0]->str);
        peer->view.port = port_of(reply->element[1]->str);
    } else if (peer_check(peer, reply) && !peer->is_ignorance_noted) {
        log_error("%s: sentinel %s: does not know a master named '%s'; check upstream.master_name",
                  peer->setup->label, peer->name, peer->setup->master_name);
    }
    peer->is_ignorance_noted = !peer->has_view;

    if (peer->is_wanted_again) {
        peer->is_wanted_again = false;
        peer_ask(peer);
    }
    peer->setup->changed(peer->setup->owner);
}

/* False if it is no Sentinel, or does not let us ask: told once. */
static bool peer_check(struct sentinel_peer *peer, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ERROR) return true;
    if (!peer->is_ignorance_noted)
        log_error("%s: sentinel %s: does not answer as a Sentinel: %.200s; check upstream.nodes and upstream.kind",
                  peer->setup->label, peer->name, reply->str);
    peer->is_ignorance_noted = true;
    return false;
}

static void peer_told_replicas(void *owner, const redisReply *reply, uint64_t asked_us)
{
    struct sentinel_peer *peer = owner;
    if (!reply) return;
    if (reply->type == REDIS_REPLY_ERROR && peer->knows_replicas && strcasestr(reply->str, "unknown")) {
        peer->knows_replicas = false;
        peer_asks(peer, "SLAVES", true, peer_told_replicas);
    }
    if (!list_read(&peer->replicas, reply)) return;
    peer->replicas_us = asked_us;
    peer->setup->changed(peer->setup->owner);
}

static void peer_told_others(void *owner, const redisReply *reply, uint64_t asked_us)
{
    (void)asked_us;
    struct sentinel_peer *peer = owner;
    if (reply && list_read(&peer->others, reply)) peer->setup->changed(peer->setup->owner);
}

static void peer_told_failover(void *owner, struct slice reply, uint64_t asked_us)
{
    struct sentinel_peer *peer = owner;
    peer->setup->told_failover(peer->setup->owner, reply, asked_us);
}

/* ---- replies ---- */

/* A list of instances, each a list of keys and values. False, and the old list stays, if it is no such thing.
 */
static bool list_read(struct peer_list *list, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY) return false;
    size_t room = reply->elements < PEER_LIST_MAX ? reply->elements : PEER_LIST_MAX;
    struct peer_listed *items = calloc(room ? room : 1, sizeof(*items));
    if (!items) return false;

    size_t count = 0;
    for (size_t i = 0; i < room; i++) {
        const redisReply *entry = reply->element[i];
        struct peer_listed *item = &items[count];
        const char *flags = field(entry, "flags");
        snprintf(item->host, sizeof(item->host), "%s", field(entry, "ip"));
        snprintf(item->run_id, sizeof(item->run_id), "%s", field(entry, "runid"));
        item->port = port_of(field(entry, "port"));
        item->priority = strtoll(field(entry, "slave-priority"), NULL, 10);
        item->is_disconnected = has_flag(flags, "disconnected");
        item->is_down = has_flag(flags, "s_down") || has_flag(flags, "o_down");
        if (item->host[0] && item->port) count++;
    }
    free(list->items);
    list->items = items;
    list->count = count;
    return true;
}

/* The value of a key in a flat list of keys and values; "" if it is not there. */
static const char *field(const redisReply *reply, const char *key)
{
    if (reply->type != REDIS_REPLY_ARRAY) return "";
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        const redisReply *name = reply->element[i], *value = reply->element[i + 1];
        if (name->type != REDIS_REPLY_STRING || value->type != REDIS_REPLY_STRING) continue;
        if (strcmp(name->str, key) == 0) return value->str;
    }
    return "";
}

/* Flags are words between commas. */
static bool has_flag(const char *flags, const char *flag)
{
    size_t size = strlen(flag);
    for (const char *word = flags; word; word = strchr(word, ',')) {
        if (*word == ',') word++;
        if (strncmp(word, flag, size) == 0 && (word[size] == ',' || word[size] == '\0')) return true;
    }
    return false;
}

/* 0 if it is no port. */
static uint16_t port_of(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    return *text && !*end && port <= UINT16_MAX ? (uint16_t)port : 0;
}
