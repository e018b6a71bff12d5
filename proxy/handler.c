/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/handler.h"

#include "proxy/again.h"
#include "proxy/backend.h"
#include "proxy/local.h"
#include "proxy/persona.h"
#include "proxy/placement.h"
#include "proxy/scripts.h"
#include "proxy/touch.h"
#include "proxy/tracking.h"
#include "proxy/transaction.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

static bool take_plain(struct client *client, const struct command_at_hand *at_hand);
static enum lane lane_of(const struct client *client, const struct command_at_hand *at_hand, bool runs_script);
static bool client_is_plain(const struct client *client);
static bool is_subscription(const struct command *command);
static bool refuse_stranger(struct client *client, const struct command_at_hand *at_hand);
static bool answer_broken(struct client *client, enum command_pin pin);
static bool is_let_through(const struct client *client, const struct command_at_hand *at_hand);
static bool refuse_dangerous(struct client *client, enum command_pin pin);
static bool become_replica(struct client *client);
static void follow_transaction(struct client *client, const struct command_at_hand *at_hand, struct request *traits);
static bool spoil_multi(struct client *client, enum command_pin pin, enum request_inspection inspection);
static enum command_pin pin_of(const struct command_at_hand *at_hand);
static struct request traits_of(const struct client *client, const struct command_at_hand *at_hand);
static void note_special(const struct client *client, const struct command_at_hand *at_hand,
                         struct request *traits);
static bool has_keys(const struct command_at_hand *at_hand);
static bool is_flush(const struct command_at_hand *at_hand);
static void follow_flush(struct client *client, enum command_pin pin);
static bool leaves_traces(const struct client *client, const struct command *command);
static bool begins_pin(enum command_pin pin);
static void note_queued(struct client *client, const struct command_at_hand *at_hand, struct request *traits);
static inline bool may_follow(const struct client *client, const struct request *traits);
static inline bool fits(const struct connection *route, const struct request *traits, const struct upstream *upstream);
static bool may_follow_sharded(const struct client *client, const struct request *traits);
static bool is_for_no_transaction(const struct client *client, const struct command_at_hand *at_hand);
static void note_subscription(struct request *traits, const struct command_at_hand *at_hand);

bool handler_take(struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (command && command_is_plain(command) && client_is_plain(client))
        return take_plain(client, at_hand);
    if (client->persona == PERSONA_SENTINEL)
        return persona_sentinel_take(client, at_hand);
    if (!client->is_authenticated && refuse_stranger(client, at_hand))
        return true;
    if (client->subscribing > 0 && !is_subscription(command))
        return client_stall(client, STALL_DRAINED); /* whether it is subscribed is not known yet */
    client->last_command = command && !(command->flags & COMMAND_LEARNED) ? command->full_name : "unknown";

    if (atomic_load_explicit(&client->worker->group->pause.until, memory_order_relaxed) && pause_holds(client, at_hand)) {
        pause_stall(client);
        return false;
    }

    bool is_right = command && command_arity_is_right(command, at_hand->count);
    enum command_pin pin = pin_of(at_hand);
    if (client->session.is_broken && answer_broken(client, pin)) {
        if (!client->is_closed)
            client_settle(client);
        return true;
    }
    if (is_right && client->session.in_multi && is_for_no_transaction(client, at_hand))
        return spoil_multi(client, PIN_NONE, INSPECT_BARRED);
    if (is_right && (command->flags & COMMAND_DANGEROUS) && !is_let_through(client, at_hand))
        return refuse_dangerous(client, pin);
    enum request_inspection barred = is_right ? persona_bars(client, at_hand) : INSPECT_NOTHING;
    if (barred != INSPECT_NOTHING && client->session.in_multi)
        return spoil_multi(client, pin, barred);
    if (barred != INSPECT_NOTHING) {
        client_reply(client, client_text_of(barred, pin));
        return true;
    }
    if (is_right && client->persona == PERSONA_REPLICA && command->block == BLOCK_REPLICAS && !client->session.in_multi) {
        client_reply(client, PERSONA_NO_WAIT);
        return true;
    }
    if (pin == PIN_SYNC && !session_is_confined(&client->session))
        return become_replica(client);
    bool spoils_multi = client->session.in_multi && !is_right; /* the node must know of it, so that EXEC fails */
    if (is_right && stats_handles(client, at_hand))
        return stats_answer(client);
    if (command && !spoils_multi && local_handles(client, command))
        return local_answer(client, at_hand);
    return handler_forward(client, at_hand);
}

/* The short way of most commands: what the long one below makes of it where nothing is special about the command and
 * nothing about the client. */
static bool take_plain(struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    const struct config *config = client->worker->group->config;
    struct request traits = {.database = client->database};
    traits.is_read = command->access == COMMAND_READ;
    traits.timeout_ms = config_timeout_ms(config, traits.is_read);
    traits.needs_master =
        !traits.is_read || (command->flags & COMMAND_MASTER_ONLY) || command->keys.finder == KEYS_NONE;
    if (at_hand->bytes.size > client->worker->large.ordinary_bytes)
        traits.lane = (uint8_t)lane_of(client, at_hand, false);
    touch_read(client, at_hand, &traits);
    enum placement placement =
        client->upstream->is_sharded ? placement_of_plain(client, at_hand, &traits) : PLACEMENT_GOES;
    if (placement != PLACEMENT_GOES)
        return placement != PLACEMENT_STALLED;
    if (client->inflight > 0 && (client->inflight_bytes + at_hand->bytes.size > (uint64_t)config->client_input_limit ||
                                 !may_follow(client, &traits)))
        return client_stall(client, STALL_DRAINED);
    client->last_command = command->flags & COMMAND_LEARNED ? "unknown" : command->full_name;
    client_submit(client, at_hand, &traits);
    return true;
}

/* By what the command is, or by what the same has brought before. */
static enum lane lane_of(const struct client *client, const struct command_at_hand *at_hand, bool runs_script)
{
    enum lane lane = lane_needed(at_hand->command, runs_script, at_hand->bytes.size, at_hand->count);
    bool brings_much = lane == LANE_ORDINARY &&
                       lane_marks_has(&client->worker->large, at_hand->command, at_hand->words, at_hand->count);
    return brings_much ? LANE_BULK : lane;
}

/* No state, no connection of its own, and nobody is paused. A session with state that no connection carries is broken or
 * lost; a client that is being let into one has something in flight there. */
static bool client_is_plain(const struct client *client)
{
    const struct session *session = &client->session;
    return client->is_authenticated && client->persona <= PERSONA_CLUSTER && !client->dedicated &&
           !client->ears && !client->subscribing && !client->restoring && !session->in_multi && !session->is_watching &&
           !session->is_broken && !session->is_lost &&
           !session->is_monitoring && !client->blocking && client->upstream->topology->kind[0] &&
           !atomic_load_explicit(&client->worker->group->pause.until, memory_order_relaxed);
}

static bool is_subscription(const struct command *command)
{
    return command && (command->pin == PIN_SUBSCRIBE || command->pin == PIN_UNSUBSCRIBE);
}

/* True if the command was answered with what Redis tells a client that has not authenticated: what is wrong with
 * the command comes before that it is not allowed. */
static bool refuse_stranger(struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (!command || command->local == LOCAL_UNKNOWN)
        return local_answer_unknown(client, at_hand);
    if ((command->flags & COMMAND_CONTAINER) && at_hand->count > 1)
        return local_answer_unknown_subcommand(client, at_hand);
    if (command->flags & COMMAND_WITHOUT_AUTH)
        return false;
    bool is_exec = command->pin == PIN_EXEC;
    if (!command_arity_is_right(command, at_hand->count))
        client_reply_error(client, "-%s wrong number of arguments for '%s' command",
                           is_exec ? "EXECABORT Transaction discarded because of:" : "ERR", command->full_name);
    else
        client_reply_error(client, "-%sNOAUTH Authentication required.",
                           is_exec ? "EXECABORT Transaction discarded because of: " : "");
    return true;
}

/* The connection of its transaction was lost: what is left of the transaction is answered here. */
static bool answer_broken(struct client *client, enum command_pin pin)
{
    switch (session_answer_broken(&client->session, pin)) {
    case SESSION_FORWARD:
        return false;
    case SESSION_OK:
        client_reply(client, SLICE("+OK\r\n"));
        return true;
    case SESSION_ERROR:
        client_reply(client, error_reply(ERROR_TRANSACTION_LOST));
        return true;
    case SESSION_EXEC_ABORTED:
        client_reply(client, CLIENT_EXEC_ABORTED);
        return true;
    case SESSION_QUEUED:
        client_reply(client, SLICE("+QUEUED\r\n"));
        return true;
    case SESSION_EXEC_VOID:
        client_reply(client, client->session.is_resp3 ? SLICE("_\r\n") : SLICE("*-1\r\n"));
        return true;
    }
    return false;
}

static bool is_let_through(const struct client *client, const struct command_at_hand *at_hand)
{
    int danger = command_danger(at_hand->command, at_hand->words, at_hand->count);
    return danger == DANGER_NONE || (client->worker->group->config->allow_dangerous >> danger & 1);
}

static bool refuse_dangerous(struct client *client, enum command_pin pin)
{
    if (client->session.in_multi)
        return spoil_multi(client, pin, INSPECT_REFUSED);
    client_reply(client, error_reply(pin == PIN_SYNC ? ERROR_REPLICATION : ERROR_DANGEROUS));
    return true;
}

/* Inside MULTI the node must know that something was refused, so that EXEC is answered EXECABORT as after any other
 * bad command: it gets a word in its place that no Redis knows. */
static bool spoil_multi(struct client *client, enum command_pin pin, enum request_inspection inspection)
{
    if (client->defers_multi) {
        placement_refuse(client, inspection, pin);
        return true;
    }
    static const struct slice unknown = {"POINTSMAN-REFUSED", 17};
    struct command_at_hand instead = {.words = &unknown, .count = 1};
    struct request traits = traits_of(client, &instead);
    if (!handler_may_go(client, &traits))
        return client_stall(client, STALL_DRAINED);
    traits.pin = (uint8_t)pin;
    traits.inspection = (uint8_t)inspection;
    if (client->upstream->is_sharded)
        placement_bind(client, &traits);
    client->worker->arguments.is_canonical = false; /* these words are not the client's */
    client_submit(client, &instead, &traits);
    return true;
}

/* Its command stays where it is, and goes to the master as it came. */
static bool become_replica(struct client *client)
{
    if (client->inflight > 0 || client->restoring)
        return client_stall(client, STALL_DRAINED);
    if (client->upstream->topology->shard_count > 1) {
        client_reply(client, error_reply(ERROR_NOT_SHARDED));
        return true;
    }
    if (upstream_master(client->upstream, 0))
        return client_stall(client, STALL_TUNNEL);
    client_reply(client, error_reply(ERROR_NO_MASTER));
    return true;
}

/* So that the transaction can begin again at another master; placement_of() does the same where keys are spread. */
static void follow_transaction(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    if (traits->pin == PIN_MULTI && !client->session.in_multi)
        transaction_begin(client);
    if (at_hand->command && at_hand->command->special == SPECIAL_EVALSHA && at_hand->count > 1)
        transaction_needs_script(client, at_hand->words[1]);
    traits->opens_transaction = client->defers_multi;
}

bool handler_forward(struct client *client, const struct command_at_hand *at_hand)
{
    struct request traits = traits_of(client, at_hand);
    if (!client->upstream->topology->kind[0] && upstream_awaits_topology(client->upstream, client, &traits))
        return client->stall == STALL_NONE;
    touch_read(client, at_hand, &traits);
    if (traits.in_multi)
        touch_queued(client, at_hand);
    if (client->upstream->is_sharded) {
        enum placement placement = placement_of(client, at_hand, &traits);
        if (placement == PLACEMENT_CROSSED)
            return spoil_multi(client, (enum command_pin)traits.pin, INSPECT_CROSSED);
        if (placement != PLACEMENT_GOES)
            return placement != PLACEMENT_STALLED;
    } else if (traits.in_multi) {
        follow_transaction(client, at_hand, &traits);
    } else if (client->dedicated && client->dedicated->target_database == traits.database) {
        traits.needs_dedicated = true; /* it follows what is on its way there */
    }
    uint64_t bytes = client->inflight_bytes + at_hand->bytes.size;
    bool is_too_much = client->inflight > 0 && bytes > (uint64_t)client->worker->group->config->client_input_limit;
    if (is_too_much || !handler_may_go(client, &traits))
        return client_stall(client, STALL_DRAINED);
    if (at_hand->command && at_hand->command->special && !handler_note(client, at_hand, &traits))
        return false;
    if (traits.inspection == INSPECT_MONITOR && client->session.is_monitoring)
        return true; /* the node would not answer it either */
    if (traits.in_multi)
        note_queued(client, at_hand, &traits);
    session_sent(&client->session, (enum command_pin)traits.pin);
    if (traits.is_blocking)
        traits.timeout_ms = blocked_begin(client, at_hand);
    client_submit(client, at_hand, &traits);
    if (client->blocking || (traits.inspection == INSPECT_EXEC && client->inflight > 0))
        client_stall(client, STALL_DRAINED); /* the next command comes after it, in the database that it selects */
    return true;
}

bool handler_try_database(struct client *client, const struct command_at_hand *at_hand, uint32_t database)
{
    struct request traits = traits_of(client, at_hand);
    traits.is_read = true;
    traits.needs_master = false;
    traits.needs_dedicated = client->dedicated || client->restoring;
    traits.database = database;
    traits.inspection = INSPECT_SELECT;
    traits.place = REQUEST_PLACE_NONE;
    if (client->inflight > 0 && (!traits.needs_dedicated || client->blocking))
        return client_stall(client, STALL_DRAINED);
    client_submit(client, at_hand, &traits);
    if (client->inflight > 0)
        client_stall(client, STALL_DRAINED); /* what follows depends on the answer */
    return true;
}

bool handler_ask_place(struct client *client, const struct command_at_hand *at_hand, uint16_t place)
{
    struct request traits = traits_of(client, at_hand);
    traits.is_read = true;
    traits.needs_master = true;
    traits.needs_dedicated = false;
    traits.place = place;
    if (!handler_may_go(client, &traits))
        return client_stall(client, STALL_DRAINED);
    client_submit(client, at_hand, &traits);
    return true;
}

void handler_note_select(struct client *client, const struct command_at_hand *at_hand)
{
    bool is_select = at_hand->command && at_hand->command->local == LOCAL_SELECT && at_hand->count == 2;
    int64_t database = is_select ? local_read_database(at_hand->words[1]) : -1;
    if (database >= 0)
        session_queues_select(&client->session, (uint32_t)database);
}

/* Commands that are else answered here but queued by the node inside MULTI: a SELECT takes effect when EXEC carries
 * it out; a name is taken at once, since a discarded transaction that names its client is not worth more. */
static void note_queued(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    struct session *session = &client->session;
    const struct command *command = at_hand->command;
    session->queues_write |= command && command_may_change(command);
    handler_note_select(client, at_hand);
    if (command && command->local == LOCAL_CLIENT_SETNAME && at_hand->count == 3)
        local_set_name(client, at_hand->words[2]);
    if (traits->pin == PIN_DISCARD || (traits->pin == PIN_MULTI && !session->in_multi)) {
        scripts_forget_queued(client);
        touch_forget(client);
    }
    if (traits->pin == PIN_EXEC)
        traits->is_read = !session->queues_effects;
    session->queues_effects |= !traits->is_read;
    if (traits->pin == PIN_EXEC && (session->select_count > 0 || client->queued_scripts))
        traits->inspection = INSPECT_EXEC;
    if (client->flushes_scripts)
        follow_flush(client, (enum command_pin)traits->pin);
}

/* A SCRIPT FLUSH that was queued is carried out, or not; the transaction before may have ended without a word. */
static void follow_flush(struct client *client, enum command_pin pin)
{
    if (pin == PIN_EXEC)
        scripts_flush(client->worker);
    if (pin == PIN_EXEC || pin == PIN_DISCARD || (pin == PIN_MULTI && !client->session.in_multi))
        client->flushes_scripts = false;
}

/* A command with a wrong number of arguments does nothing, but for EXEC: that ends the transaction in any case. */
static enum command_pin pin_of(const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (!command || (command->pin != PIN_EXEC && !command_arity_is_right(command, at_hand->count)))
        return PIN_NONE;
    return (enum command_pin)command->pin;
}

static struct request traits_of(const struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    bool is_right = command && command_arity_is_right(command, at_hand->count);
    enum command_pin pin = pin_of(at_hand);
    const struct session *session = &client->session;
    struct request traits = {.database = client->database, .pin = (uint8_t)pin};

    traits.is_read = command && command->access == COMMAND_READ;
    traits.needs_master =
        !traits.is_read || (command->flags & COMMAND_MASTER_ONLY) || command->keys.finder == KEYS_NONE;
    traits.in_multi = session->in_multi || (pin == PIN_MULTI && !session_is_confined(session));
    traits.is_blocking = is_right && !session->in_multi && command_is_blocking(command, at_hand->words, at_hand->count);
    traits.needs_dedicated = session_is_pinned(session) || traits.is_blocking || begins_pin(pin) ||
                             (command && (command->flags & (COMMAND_STATEFUL | COMMAND_WHILE_BUSY)));
    traits.leaves_traces = leaves_traces(client, command);
    if (command && (command->flags & COMMAND_DANGEROUS) && !session->in_multi)
        traits.ends_node = command_danger_ends_node(command_danger(command, at_hand->words, at_hand->count));
    if (command && command->local == LOCAL_PING)
        traits.is_read = true;
    if (traits.pin == PIN_MONITOR && !session->in_multi && !session_is_confined(session)) {
        traits.is_read = true; /* may well be sent again */
        traits.inspection = INSPECT_MONITOR;
    }
    note_subscription(&traits, at_hand);
    if (command && (command->flags & COMMAND_WHILE_BUSY) && !session_is_pinned(session) && !begins_pin(pin)) {
        traits.is_urgent = true; /* the node takes nothing else now, SELECT included */
    }
    if (command && command->local == LOCAL_INFO && !session_forwards_all(session))
        traits.inspection = INSPECT_INFO;
    if (command && command->local == LOCAL_ROLE && !session_forwards_all(session))
        traits.inspection = INSPECT_ROLE;
    if (is_right && command->local == LOCAL_CLIENT_TRACKING && !session_forwards_all(session)) {
        traits.needs_dedicated = true;
        traits.inspection = (uint8_t)tracking_inspection(at_hand);
        traits.is_read = true; /* may well be sent again */
    }
    bool is_endless = traits.is_blocking || (command && (command->flags & COMMAND_NO_TIMEOUT));
    if (!is_endless)
        traits.timeout_ms = config_timeout_ms(client->worker->group->config, traits.is_read);
    if (is_right && command->special)
        note_special(client, at_hand, &traits);
    traits.lane = (uint8_t)lane_of(client, at_hand, request_is_script(&traits));
    if (client->persona == PERSONA_REPLICA)
        traits.needs_master = false;
    return traits;
}

/* Inside MULTI the node queues it, and while subscribed it refuses it: nothing may be sent ahead. A script that names
 * no key stays at the master, as does one that only the master may have. */
static void note_special(const struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    bool is_plain = !traits->in_multi && !session_has_hidden_pushes(&client->session);
    enum command_special special = (enum command_special)at_hand->command->special;
    switch (special) {
    case SPECIAL_SCAN:
    case SPECIAL_SCAN_KEY:
        if (is_plain) {
            traits->special = (uint8_t)special;
            traits->inspection = INSPECT_CURSOR;
        }
        return;
    case SPECIAL_EVAL:
    case SPECIAL_FCALL:
        if (is_plain)
            traits->special = (uint8_t)special;
        traits->runs_script = !traits->in_multi;
        traits->needs_master |= !has_keys(at_hand);
        return;
    case SPECIAL_EVALSHA:
        if (is_plain && scripts_has(client->worker, at_hand->words[1]))
            traits->special = (uint8_t)special;
        traits->runs_script = !traits->in_multi;
        traits->needs_master |= !traits->special || !has_keys(at_hand);
        return;
    case SPECIAL_NONE:
    case SPECIAL_SCRIPT_LOAD:
    case SPECIAL_SCRIPT_FLUSH:
        return;
    }
}

static bool has_keys(const struct command_at_hand *at_hand)
{
    return command_keys(at_hand->command, at_hand->words, at_hand->count, NULL, 0) > 0;
}

/* The command at hand goes now. False if the client is stalled instead. */
bool handler_note(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    const struct slice *words = at_hand->words;
    if (!command_arity_is_right(at_hand->command, at_hand->count) || session_has_hidden_pushes(&client->session))
        return true;
    switch ((enum command_special)at_hand->command->special) {
    case SPECIAL_EVAL: /* with a wrong number of keys the node does not look at the script */
        if (command_keys(at_hand->command, words, at_hand->count, NULL, 0) >= 0)
            scripts_sent(client, words[1], SCRIPT_EVALUATED, traits->in_multi);
        return true;
    case SPECIAL_SCRIPT_LOAD:
        scripts_sent(client, words[2], SCRIPT_CALLED, traits->in_multi);
        return true;
    case SPECIAL_EVALSHA:
        return !traits->in_multi || !scripts_has(client->worker, words[1]) || scripts_ready(client, words[1]);
    case SPECIAL_SCRIPT_FLUSH:
        if (!is_flush(at_hand))
            return true;
        scripts_flush(client->worker);
        scripts_forget_queued(client);
        if (traits->in_multi)
            client->flushes_scripts = true;
        else
            traits->inspection = INSPECT_FLUSH;
        return true;
    case SPECIAL_NONE:
    case SPECIAL_SCAN:
    case SPECIAL_SCAN_KEY:
    case SPECIAL_FCALL:
        return true;
    }
    return true;
}

/* SCRIPT FLUSH [ASYNC|SYNC] */
static bool is_flush(const struct command_at_hand *at_hand)
{
    return at_hand->count == 2 ||
           (at_hand->count == 3 && (slice_is(at_hand->words[2], "ASYNC") || slice_is(at_hand->words[2], "SYNC")));
}

/* What the proxy answers itself elsewhere is carried out by the node inside a transaction, and HELLO, AUTH or
 * CLIENT REPLY hold beyond its end; so does a subscription. */
static bool leaves_traces(const struct client *client, const struct command *command)
{
    if (!command)
        return false;
    switch ((enum command_local)command->local) {
    case LOCAL_PING:
    case LOCAL_ECHO:
    case LOCAL_SELECT: /* followed by note_queued() */
    case LOCAL_COMMAND:
    case LOCAL_ACL_WHOAMI:
    case LOCAL_ROLE:
    case LOCAL_INFO:
        return false;
    case LOCAL_NONE:
        if (command->flags & COMMAND_STATEFUL)
            return true;
        return client->session.in_multi && (command->pin == PIN_SUBSCRIBE || command->pin == PIN_MONITOR);
    default:
        return client->session.in_multi;
    }
}

static bool begins_pin(enum command_pin pin)
{
    switch (pin) {
    case PIN_MULTI:
    case PIN_WATCH:
    case PIN_SUBSCRIBE:
    case PIN_UNSUBSCRIBE: /* answers with several frames: only a connection of its own can carry that */
    case PIN_MONITOR:
        return true;
    case PIN_NONE:
    case PIN_EXEC:
    case PIN_DISCARD:
    case PIN_UNWATCH:
    case PIN_BLOCK:
    case PIN_BLOCK_OPTION:
    case PIN_SYNC:
        return false;
    }
    return false;
}

bool handler_may_go(const struct client *client, const struct request *traits)
{
    if (client->inflight == 0)
        return true;
    if (client->held > 0 || client->blocking || traits->pin == PIN_MONITOR)
        return false;
    if (traits->needs_dedicated)
        return client->routed == 0 && client->dedicated && client->dedicated->target_database == traits->database &&
               !upstream_spares(client->upstream, client->dedicated, traits);
    return may_follow(client, traits);
}

/* True if all that is in flight is on shared connections, and what of it is on its way to the same shard on one that is
 * right for this as well. */
static inline bool may_follow(const struct client *client, const struct request *traits)
{
    if (client->held > 0 || client->routed != client->inflight || client->is_mixed)
        return false;
    const struct upstream *upstream = client->upstream;
    return upstream->is_sharded ? may_follow_sharded(client, traits) : fits(client->route.connection, traits, upstream);
}

/* What needs a lane of its own would keep others waiting on another. */
static inline bool fits(const struct connection *route, const struct request *traits, const struct upstream *upstream)
{
    return !route->is_retiring && route->target_database == traits->database &&
           upstream_suits(upstream, route, traits) &&
           (traits->lane == LANE_ORDINARY || traits->lane == route->lane);
}

/* What may have to go again must not be overtaken by what follows, nor what is still where the key was before; what names
 * no key, by anything. */
static bool may_follow_sharded(const struct client *client, const struct request *traits)
{
    const struct upstream *upstream = client->upstream;
    bool is_barred = client->barriers > 0 &&
                     (client->barrier_place == REQUEST_PLACE_NONE || client->barrier_place == traits->place ||
                      traits->has_several_keys || traits->is_for_shard);
    if (is_barred || (!traits->is_for_shard &&
                      upstream_is_unsettled(upstream, traits->place, client->worker->now_ms)))
        return false;
    uint16_t shard = upstream_shard_of(upstream, traits);
    if (shard == TOPOLOGY_NO_SHARD)
        return false;
    if (client_has_unmapped(client, upstream->map_count) && again_is_barred(client, traits))
        return false;
    const struct connection *route = client_route_to(client, shard);
    if (!traits->is_for_shard && traits->place == REQUEST_PLACE_NONE && (!route || client->route_count > 0))
        return false;
    return !route || fits(route, traits, upstream);
}

static void note_subscription(struct request *traits, const struct command_at_hand *at_hand)
{
    if (traits->pin != PIN_SUBSCRIBE && traits->pin != PIN_UNSUBSCRIBE)
        return;
    traits->channel_kind = (uint8_t)session_kind_of(at_hand->words[0]);
    traits->subscriptions = (uint32_t)(at_hand->count - 1);
    traits->undoes_all = at_hand->count == 1;
    if (traits->in_multi)
        traits->pin = PIN_NONE; /* queued; an error when EXEC runs it */
    else
        traits->is_read = true; /* twice is as good as once */
}

/* What concerns the proxy, or would change the client's connection at EXEC; and subscriptions, since confirmations in
 * the midst of EXEC's array cannot be told from its elements. */
static bool is_for_no_transaction(const struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (command->flags & COMMAND_NOT_IN_MULTI)
        return true;
    if (command->local == LOCAL_CLUSTER && client->upstream->topology->is_cluster) /* the node would do it */
        return true;
    return command->pin == PIN_UNSUBSCRIBE ||
           (command->pin == PIN_SUBSCRIBE && session_kind_of(at_hand->words[0]) != SESSION_SHARD_CHANNELS);
}
