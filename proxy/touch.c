/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/touch.h"

#include "proxy/backend.h"
#include "proxy/clock.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/freshness.h"

#include <stdlib.h>

enum {
    KEYS_MOST = 1024, /* a command with more counts as one that touches all */
};

static bool is_of_interest(const struct client *client, const struct request *traits);
static uint64_t asked_by_keys(struct client *client, const struct command_at_hand *at_hand, struct request *traits);
static bool reads_beyond_its_keys(const struct command_at_hand *at_hand);
static uint64_t asked(const struct client *client, uint32_t cell);
static bool has_one_key(const struct command_at_hand *at_hand);
static enum touch kind_of(const struct command *command);
static bool add_cells(struct request_pool *pool, struct touches **list, const uint32_t *cells, uint32_t count);
static uint32_t cells_of(const struct client *client, const struct command_at_hand *at_hand, uint32_t *cells);
static void widen(uint8_t *touch, enum touch by);
static bool give_list(struct client *client, struct request *request, const uint32_t *cells, uint32_t count);
static bool must_remember(struct client *client);
static void remember(const struct request *request, const struct connection *connection, uint64_t now_us);
static uint64_t answered_us(const struct worker *worker);

typedef void on_cell(struct freshness_cell *cell, uint64_t now_us);
static void each_cell(const struct request *request, struct freshness *freshness, uint64_t now_us, on_cell *done);
static on_cell begin, end, mark, cancel;

/* NULL where no read asks for anything. */
static struct freshness *marks_of(const struct upstream *upstream)
{
    return upstream->asks_freshness ? upstream->freshness : NULL;
}

static struct freshness *freshness_of_client(const struct client *client) { return marks_of(client->upstream); }

static bool keeps_sessions(const struct upstream *upstream)
{
    return upstream->config->reads_consistency == CONSISTENCY_SESSION;
}

/* ---- reads ---- */

void touch_read(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    if (!freshness_of_client(client))
        return;
    bool is_remembered = must_remember(client); /* what the master alone may answer, too */
    if (!is_of_interest(client, traits))
        return;
    uint64_t asked_us = FRESHNESS_OF_MASTER;
    if (client->upstream->has_replicas && is_remembered && !reads_beyond_its_keys(at_hand))
        asked_us = asked_by_keys(client, at_hand, traits);
    if (asked_us == FRESHNESS_OF_MASTER && client->upstream->config->reads_policy == READS_REPLICA)
        asked_us = clock_us(); /* the master does not answer: who is fresh as of now shows all that was answered */
    traits->fresh_after_us = asked_us > FRESHNESS_KNOWN ? asked_us : FRESHNESS_KNOWN;
    traits->client = client;
}

/* One that is for the client's own connection may still be sent elsewhere (placement.h). */
static inline bool is_of_interest(const struct client *client, const struct request *traits)
{
    return !traits->needs_master && client->persona != PERSONA_REPLICA;
}

static uint64_t asked_by_keys(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    const struct freshness *freshness = freshness_of_client(client);
    if (client->upstream->config->reads_consistency == CONSISTENCY_EVENTUAL)
        return FRESHNESS_KNOWN;
    if (has_one_key(at_hand)) {
        traits->touch = TOUCH_KEY;
        traits->touched = freshness_cell_of(freshness, at_hand->words[at_hand->command->keys.first]);
        return asked(client, traits->touched);
    }
    uint32_t cells[KEYS_MOST];
    uint32_t count = cells_of(client, at_hand, cells);
    uint64_t asked_us = count > 0 ? FRESHNESS_KNOWN : FRESHNESS_OF_MASTER;
    traits->touch = TOUCH_KEYS;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t by_key_us = asked(client, cells[i]);
        if (by_key_us > asked_us)
            asked_us = by_key_us;
    }
    return asked_us;
}

/* SORT_RO with a pattern reads keys that it does not name. */
static bool reads_beyond_its_keys(const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    return command->keys.has_patterns && command_sort_pattern(at_hand->words, at_hand->count, 2) > 0;
}

static uint64_t asked(const struct client *client, uint32_t cell)
{
    const struct freshness *freshness = freshness_of_client(client);
    const struct upstream *upstream = client->upstream;
    uint64_t by_key_us, by_all_us;
    if (keeps_sessions(upstream)) {
        by_key_us = freshness_session_asked(client->reading, cell);
        by_all_us = upstream->replicas_changed_us;
    } else {
        by_key_us = freshness_asked(&freshness->cells[cell]);
        by_all_us = freshness_asked(&freshness->all);
    }
    return by_key_us > by_all_us ? by_key_us : by_all_us;
}

/* Where it stands; a client may have sent too few words for that. */
static inline bool has_one_key(const struct command_at_hand *at_hand)
{
    uint32_t position = command_only_key(at_hand->command);
    return position && at_hand->count > position;
}

/* ---- writes ---- */

bool touch_write(struct client *client, const struct command_at_hand *at_hand, struct request *request)
{
    if (!freshness_of_client(client) || (request->is_read && request->pin != PIN_EXEC))
        return true;
    if (!must_remember(client))
        return false;
    if (request->pin == PIN_EXEC) {
        request->touch = client->touch;
        request->touches = client->touches;
        client->touches = NULL;
        client->touch = TOUCH_NOTHING;
        return true;
    }
    enum touch kind = kind_of(at_hand->command);
    if (kind != TOUCH_KEYS) {
        widen(request->in_multi ? &client->touch : &request->touch, kind);
        return true;
    }
    if (has_one_key(at_hand) && !request->in_multi) {
        request->touch = TOUCH_KEY;
        request->touched = freshness_cell_of(freshness_of_client(client), at_hand->words[at_hand->command->keys.first]);
        return true;
    }
    uint32_t cells[KEYS_MOST];
    return give_list(client, request, cells, cells_of(client, at_hand, cells));
}

bool touch_piece(struct client *client, const struct command_at_hand *at_hand, const struct plan *plan, uint32_t index,
                 struct request *piece)
{
    const struct freshness *freshness = freshness_of_client(client);
    if (!freshness || piece->is_read)
        return true;
    if (!must_remember(client))
        return false;
    if (plan->kind != PLAN_SPLIT) {
        piece->touch = (uint8_t)(kind_of(at_hand->command) == TOUCH_NOTHING ? TOUCH_NOTHING : TOUCH_ALL);
        return true;
    }
    const struct plan_piece *planned = &plan->pieces[index];
    piece->touch = TOUCH_KEYS;
    for (uint32_t i = 0; i < planned->count; i++) {
        const struct slice *key = plan_piece_key(plan, planned, at_hand->command, at_hand->words, i);
        uint32_t cell = freshness_cell_of(freshness, *key);
        if (!add_cells(&client->worker->requests, &piece->touches, &cell, 1))
            return false;
    }
    return true;
}

void touch_queued(struct client *client, const struct command_at_hand *at_hand)
{
    if (freshness_of_client(client) && kind_of(at_hand->command) == TOUCH_ALL)
        client->touch = TOUCH_ALL;
}

static enum touch kind_of(const struct command *command)
{
    if (!command || command->special == SPECIAL_EVAL || command->special == SPECIAL_EVALSHA ||
        command->special == SPECIAL_FCALL || (command->flags & COMMAND_UNKEYED_WRITE))
        return TOUCH_ALL;
    if (command->access == COMMAND_OTHER && command_is_write(command)) /* FUNCTION LOAD */
        return TOUCH_ALL;
    if (command->access != COMMAND_WRITE)
        return TOUCH_NOTHING;
    return command->keys.finder == KEYS_NONE ? TOUCH_ALL : TOUCH_KEYS;
}

/* Without a cell it has none, or too many. */
static bool give_list(struct client *client, struct request *request, const uint32_t *cells, uint32_t count)
{
    struct touches **list = request->in_multi ? &client->touches : &request->touches;
    uint8_t *touch = request->in_multi ? &client->touch : &request->touch;
    widen(touch, count > 0 ? TOUCH_KEYS : TOUCH_ALL);
    return add_cells(&client->worker->requests, list, cells, count);
}

static void widen(uint8_t *touch, enum touch by)
{
    if (by > (enum touch)*touch)
        *touch = (uint8_t)by;
}

static bool add_cells(struct request_pool *pool, struct touches **list, const uint32_t *cells, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!*list || (*list)->count == TOUCHES_ROOM) {
            struct touches *more = request_take_touches(pool);
            if (!more)
                return false;
            more->next = *list;
            *list = more;
        }
        (*list)->cells[(*list)->count++] = cells[i];
    }
    return true;
}

/* Of all keys of the command at hand; 0 if it has none, or more than KEYS_MOST. */
static uint32_t cells_of(const struct client *client, const struct command_at_hand *at_hand, uint32_t *cells)
{
    int found = command_keys(at_hand->command, at_hand->words, at_hand->count, cells, KEYS_MOST);
    if (found <= 0 || found > KEYS_MOST)
        return 0;
    for (int i = 0; i < found; i++)
        cells[i] = freshness_cell_of(freshness_of_client(client), at_hand->words[cells[i]]);
    return (uint32_t)found;
}

void touch_forget(struct client *client)
{
    request_give_touches(&client->worker->requests, client->touches);
    client->touches = NULL;
    client->touch = TOUCH_NOTHING;
}

/* ---- marks ---- */

/* A blocking command may be with its node for hours before it writes; and all reads of all clients are not to wait behind
 * one script that takes long. */
static bool counts_in_flight(const struct request *request)
{
    return !request->is_blocking && request->touch != TOUCH_ALL;
}

void touch_begin(const struct request *request, const struct connection *connection)
{
    struct upstream *upstream = connection->backend->upstream;
    if (upstream->asks_freshness && request->touch != TOUCH_NOTHING && !request->is_read && counts_in_flight(request))
        each_cell(request, upstream->freshness, 0, begin);
}

void touch_end(const struct request *request, const struct connection *connection)
{
    struct upstream *upstream = connection->backend->upstream;
    if (!upstream->asks_freshness)
        return;
    bool is_remembered = keeps_sessions(upstream) && request->client && request->client->reading;
    bool is_write = request->touch != TOUCH_NOTHING && !request->is_read;
    if (!is_write && !is_remembered)
        return;
    uint64_t now_us = answered_us(upstream->worker);
    if (is_write)
        each_cell(request, upstream->freshness, now_us, counts_in_flight(request) ? end : mark);
    if (is_write && upstream->has_replicas)
        upstream_want_fresher(upstream, connection->backend->gauge, false);
    if (is_remembered)
        remember(request, connection, now_us);
    if (is_remembered && request->is_unfresh && connection->backend->role == NODE_ROLE_MASTER)
        upstream_want_fresher(upstream, connection->backend->gauge, true); /* the round that it began with was too early */
}

void touch_cancel(const struct request *request, const struct connection *connection)
{
    struct freshness *freshness = marks_of(connection->backend->upstream);
    if (freshness && request->touch != TOUCH_NOTHING && !request->is_read && counts_in_flight(request))
        each_cell(request, freshness, 0, cancel);
}

static void each_cell(const struct request *request, struct freshness *freshness, uint64_t now_us, on_cell *done)
{
    switch ((enum touch)request->touch) {
    case TOUCH_NOTHING:
        return;
    case TOUCH_KEY:
        done(&freshness->cells[request->touched], now_us);
        return;
    case TOUCH_KEYS:
        for (const struct touches *touches = request->touches; touches; touches = touches->next) {
            for (uint32_t i = 0; i < touches->count; i++)
                done(&freshness->cells[touches->cells[i]], now_us);
        }
        return;
    case TOUCH_ALL:
        done(&freshness->all, now_us);
        return;
    }
}

static void begin(struct freshness_cell *cell, uint64_t now_us)
{
    (void)now_us;
    freshness_begin(cell);
}

static void end(struct freshness_cell *cell, uint64_t now_us) { freshness_end(cell, now_us); }

static void mark(struct freshness_cell *cell, uint64_t now_us)
{
    freshness_begin(cell);
    freshness_end(cell, now_us);
}

static void cancel(struct freshness_cell *cell, uint64_t now_us)
{
    (void)now_us;
    freshness_cancel(cell);
}

/* ---- what a client has seen ---- */

/* Makes room for it, where it is to be remembered. False if memory is short. */
static bool must_remember(struct client *client)
{
    if (keeps_sessions(client->upstream) && !client->reading)
        client->reading = calloc(1, sizeof *client->reading);
    return client->reading || !keeps_sessions(client->upstream);
}

/* What came from a replica does not count as long as the client keeps to that. What a transaction has read is not known. */
static void remember(const struct request *request, const struct connection *connection, uint64_t now_us)
{
    struct freshness_session *reading = request->client->reading;
    const struct upstream *upstream = connection->backend->upstream;
    bool is_from_replica = connection->backend->role == NODE_ROLE_REPLICA;
    bool is_kept_to = is_from_replica && request->replicas_epoch == upstream->replicas_epoch;
    if (is_kept_to)
        return;
    bool has_read_others = request->pin == PIN_EXEC || (request->is_read && request->touch != TOUCH_KEY);
    if (is_from_replica || has_read_others || request->touch == TOUCH_ALL)
        freshness_session_raise(reading, now_us);
    else if (request->touch == TOUCH_KEY)
        freshness_session_saw(reading, request->touched, now_us);
    for (const struct touches *touches = request->touches; touches; touches = touches->next) {
        for (uint32_t i = 0; i < touches->count; i++)
            freshness_session_saw(reading, touches->cells[i], now_us);
    }
}

/* Later than when the node carried it out: one look at the clock for all that came in one go. */
static uint64_t answered_us(const struct worker *worker)
{
    return worker->received_us ? worker->received_us : clock_us();
}
