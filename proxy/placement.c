/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/placement.h"

#include "proxy/backend.h"
#include "proxy/ears.h"
#include "proxy/handler.h"
#include "proxy/local.h"
#include "proxy/scan.h"
#include "proxy/scatter.h"
#include "proxy/scripts.h"
#include "proxy/tracking.h"
#include "proxy/transaction.h"
#include "proxy/upstream.h"
#include "proxy/waits.h"
#include "proxy/worker.h"
#include "routing/plan.h"

#include <stdlib.h>

static enum placement place_alone(struct client *client, const struct command_at_hand *at_hand,
                                  struct request *traits, const struct plan *plan);
static bool is_for_shard_channels(const struct command *command, const struct command_at_hand *at_hand);
static enum placement place_shard_channels(struct client *client, const struct command_at_hand *at_hand,
                                           const struct plan *plan);
static enum placement move_home(struct client *client, uint16_t place);
static bool is_at_dedicated(const struct client *client, const struct request *request);
static enum placement place_wait(struct client *client, const struct command_at_hand *at_hand, struct request *traits);
static enum placement place_watch(struct client *client, struct request *traits, const struct plan *plan);
static enum placement place_queued(struct client *client, const struct command_at_hand *at_hand,
                                   struct request *traits, const struct plan *plan);
static enum placement place_multi(struct client *client, const struct command_at_hand *at_hand, struct request *traits);
static bool may_be_kept(const struct command_at_hand *at_hand, const struct request *traits);
static enum placement place_unbound(struct client *client, const struct command_at_hand *at_hand,
                                    const struct request *traits, bool is_crossed);
static enum placement keep(struct client *client, const struct command_at_hand *at_hand, const struct request *traits,
                           struct slice reply);
static bool is_bound(const struct client *client);
static bool is_refused(const struct client *client, const struct command_at_hand *at_hand);
static void refuse_crossed(struct client *client);

enum placement placement_of(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    struct worker *worker = client->worker;
    const struct command *command = at_hand->command;
    const struct session *session = &client->session;
    bool is_right = command && command_arity_is_right(command, at_hand->count);
    struct plan plan = {.kind = PLAN_ANYWHERE};
    traits->place = REQUEST_PLACE_NONE;
    if (is_right && !plan_make(&worker->planner, client->upstream->topology, command, at_hand->words, at_hand->count,
                               !session->in_multi, &plan)) {
        client_close(client, "out of memory");
        return PLACEMENT_TAKEN;
    }
    if (plan.kind == PLAN_PLACE) {
        traits->place = (uint16_t)plan.place;
        traits->has_several_keys = plan.has_several_keys && client->upstream->topology->is_cluster;
    }
    if (session->in_multi || (traits->in_multi && traits->pin == PIN_MULTI))
        return place_queued(client, at_hand, traits, &plan);
    bool may_go_elsewhere = session->is_watching || transaction_bytes(client) > 0; /* EXEC, with its transaction */
    if (may_go_elsewhere && traits->needs_dedicated && client->inflight > 0) {
        client_stall(client, STALL_DRAINED); /* what is behind it would overtake it */
        return PLACEMENT_STALLED;
    }
    if (ears_refuse(client, at_hand))
        return PLACEMENT_TAKEN;
    if (is_right && is_for_shard_channels(command, at_hand))
        return place_shard_channels(client, at_hand, &plan);
    if (traits->pin == PIN_WATCH)
        return place_watch(client, traits, &plan);
    return place_alone(client, at_hand, traits, &plan);
}

enum placement placement_of_plain(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    const struct command *command = at_hand->command;
    uint32_t position = command_only_key(command);
    bool is_right = command_arity_is_right(command, at_hand->count) && at_hand->count > position;
    if (!position || !is_right || command->keys.has_patterns)
        return placement_of(client, at_hand, traits);
    traits->place = (uint16_t)topology_place_of(client->upstream->topology, at_hand->words[position]);
    return PLACEMENT_GOES;
}

void placement_bind(const struct client *client, struct request *traits)
{
    traits->place = is_bound(client) ? client->bound_place : REQUEST_PLACE_NONE;
}

void placement_forget(struct client *client)
{
    transaction_forget(client);
    client->defers_multi = false;
    client->is_bound = false;
}

/* Outside of a transaction. What the client's own connection is there for keeps that at one shard; its other
 * commands go where their keys are. */
static enum placement place_alone(struct client *client, const struct command_at_hand *at_hand,
                                  struct request *traits, const struct plan *plan)
{
    bool needs_ears = traits->pin == PIN_SUBSCRIBE && client->upstream->topology->shard_count > 1;
    if (needs_ears && !ears_ready(client, at_hand))
        return client->is_closed ? PLACEMENT_TAKEN : PLACEMENT_STALLED;
    if (session_is_confined(&client->session))
        return PLACEMENT_GOES; /* the node refuses it whatever it is */
    if (is_refused(client, at_hand)) {
        client_reply(client, error_reply(ERROR_NOT_SHARDED));
        return PLACEMENT_TAKEN;
    }
    if (plan->kind == PLAN_CROSS) {
        refuse_crossed(client);
        return PLACEMENT_TAKEN;
    }
    if (plan->kind == PLAN_ANYWHERE && plan->key_count > 0) { /* it lacks a word */
        client_reply_error(client, "-ERR wrong number of arguments for '%s' command", at_hand->command->full_name);
        return PLACEMENT_TAKEN;
    }
    bool is_at_home = plan->kind == PLAN_ANYWHERE || (is_bound(client) && plan->kind == PLAN_PLACE &&
                                                      traits->place == client->bound_place);
    bool has_several = client->upstream->topology->shard_count > 1;
    bool is_free = has_several && session_is_pinned(&client->session) && !traits->is_blocking &&
                   traits->pin == PIN_NONE && !is_at_home;
    if (is_free)
        traits->needs_dedicated = at_hand->command->flags & (COMMAND_STATEFUL | COMMAND_WHILE_BUSY);
    if (traits->is_blocking && at_hand->command && at_hand->command->block == BLOCK_REPLICAS)
        return place_wait(client, at_hand, traits);
    if (traits->is_blocking && plan->kind == PLAN_PLACE) {
        if (is_bound(client) && !is_at_dedicated(client, traits)) {
            refuse_crossed(client); /* who goes there loses sight of what it watches */
            return PLACEMENT_TAKEN;
        }
        enum placement placement = move_home(client, traits->place);
        if (placement != PLACEMENT_GOES)
            return placement;
    }
    bool is_scan = at_hand->command && at_hand->command->special == SPECIAL_SCAN && traits->special;
    if (is_scan && client->upstream->topology->shard_count > 1) {
        traits->needs_dedicated = false;
        return scan_place(client, at_hand, traits);
    }
    if (is_bound(client) && plan->kind == PLAN_ANYWHERE)
        placement_bind(client, traits);
    if (plan->kind != PLAN_SPLIT && plan->kind != PLAN_MASTERS && plan->kind != PLAN_NODES)
        return PLACEMENT_GOES;
    uint64_t bytes = client->inflight_bytes + at_hand->bytes.size;
    if (client->inflight > 0 && bytes > (uint64_t)client->worker->group->config->client_input_limit) {
        client_stall(client, STALL_DRAINED);
        return PLACEMENT_STALLED;
    }
    traits->needs_dedicated = false;
    if (at_hand->command->special)
        handler_note(client, at_hand, traits);
    return scatter_take(client, at_hand, traits, plan) || client->is_closed ? PLACEMENT_TAKEN : PLACEMENT_STALLED;
}

static bool is_for_shard_channels(const struct command *command, const struct command_at_hand *at_hand)
{
    return (command->pin == PIN_SUBSCRIBE || command->pin == PIN_UNSUBSCRIBE) &&
           session_kind_of(at_hand->words[0]) == SESSION_SHARD_CHANNELS;
}

static enum placement place_shard_channels(struct client *client, const struct command_at_hand *at_hand,
                                           const struct plan *plan)
{
    if (plan->kind == PLAN_CROSS) {
        refuse_crossed(client);
        return PLACEMENT_TAKEN;
    }
    return ears_hear(client, at_hand) ? PLACEMENT_TAKEN : PLACEMENT_STALLED;
}

/* Watched keys and transactions need the client's own connection at the master of their slot. What it is subscribed to
 * goes along: any node of a cluster tells of that, and elsewhere an ear does. */
static enum placement move_home(struct client *client, uint16_t place)
{
    const struct request wanted = {.place = place};
    if (place == REQUEST_PLACE_NONE || is_at_dedicated(client, &wanted))
        return PLACEMENT_GOES;
    if (client->inflight > 0 || client->restoring) {
        client_stall(client, client->restoring ? STALL_RESTORED : STALL_DRAINED);
        return PLACEMENT_STALLED;
    }
    bool is_deaf = !client->upstream->topology->is_cluster && session_is_subscribed_here(&client->session);
    if (is_deaf && !ears_carry(client))
        return client->is_closed ? PLACEMENT_TAKEN : PLACEMENT_STALLED;
    client->home_place = place;
    client->has_home = true;
    connection_close(client->dedicated, OUTCOME_CUT, NULL);
    if (!client->is_closed && client->restoring)
        client_stall(client, STALL_RESTORED);
    return client->is_closed ? PLACEMENT_TAKEN : client->stall == STALL_NONE ? PLACEMENT_GOES : PLACEMENT_STALLED;
}

/* True if the client's own connection leads where this goes, or there is none. */
static bool is_at_dedicated(const struct client *client, const struct request *request)
{
    const struct connection *dedicated = client->dedicated;
    return !dedicated || dedicated->backend->shard == upstream_shard_of(client->upstream, request);
}

/* WAIT asks the master that this client wrote to, or all where these are several; on another connection than the client's
 * own, where that leads to another master. */
static enum placement place_wait(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    if (client->wrote_several && client->inflight > 0) {
        client_stall(client, STALL_DRAINED);
        return PLACEMENT_STALLED;
    }
    if (client->wrote_several) {
        waits_begin(client, at_hand, traits);
        return PLACEMENT_TAKEN;
    }
    if (!client->written_epoch)
        return PLACEMENT_GOES;
    const struct backend *master = upstream_written_master(client->upstream, client);
    if (!master) {
        client->written_epoch = 0;
        client_reply(client, error_reply(ERROR_WRITES_ELSEWHERE));
        return PLACEMENT_TAKEN;
    }
    client->wrote_since = client->upstream->master_epoch;
    traits->place = master->shard;
    traits->is_for_shard = true;
    if (is_at_dedicated(client, traits))
        return PLACEMENT_GOES;
    if (client->inflight > 0) {
        client_stall(client, STALL_DRAINED);
        return PLACEMENT_STALLED;
    }
    waits_begin(client, at_hand, traits);
    return PLACEMENT_TAKEN;
}

static enum placement place_watch(struct client *client, struct request *traits, const struct plan *plan)
{
    bool is_crossed = plan->kind == PLAN_CROSS || (is_bound(client) && plan->kind == PLAN_PLACE &&
                                                   client->bound_place != traits->place);
    if (is_crossed) {
        refuse_crossed(client);
        return PLACEMENT_TAKEN;
    }
    if (plan->kind != PLAN_PLACE)
        return PLACEMENT_GOES;
    enum placement placement = is_bound(client) ? PLACEMENT_GOES : move_home(client, traits->place);
    if (placement != PLACEMENT_GOES)
        return placement;
    client->bound_place = traits->place;
    client->is_bound = true;
    return PLACEMENT_GOES;
}

static enum placement place_queued(struct client *client, const struct command_at_hand *at_hand,
                                   struct request *traits, const struct plan *plan)
{
    if (!client->session.in_multi)
        return place_multi(client, at_hand, traits);
    bool is_unbound = client->defers_multi && !is_bound(client);
    bool has_several = client->upstream->topology->shard_count > 1;
    bool is_scan = has_several && at_hand->command && at_hand->command->special == SPECIAL_SCAN;
    bool is_crossed = is_scan || plan->kind == PLAN_CROSS || plan->kind == PLAN_SPLIT || plan->kind == PLAN_MASTERS;
    if (is_unbound && (is_crossed || plan->kind == PLAN_ANYWHERE)) {
        enum placement taken = place_unbound(client, at_hand, traits, is_crossed);
        if (taken != PLACEMENT_GOES)
            return taken;
    }
    if (is_unbound && client->inflight > 0) {
        client_stall(client, STALL_DRAINED);
        return PLACEMENT_STALLED;
    }
    enum placement placement = is_unbound && plan->kind == PLAN_PLACE ? move_home(client, traits->place) : PLACEMENT_GOES;
    if (placement != PLACEMENT_GOES)
        return placement;
    if (is_unbound) {
        client->bound_place = plan->kind == PLAN_PLACE ? traits->place : REQUEST_PLACE_NONE;
        client->is_bound = true;
    }
    if (at_hand->command && at_hand->command->special == SPECIAL_EVALSHA && at_hand->count > 1)
        transaction_needs_script(client, at_hand->words[1]);
    is_crossed |= plan->kind == PLAN_PLACE && traits->place != client->bound_place;
    placement_bind(client, traits);
    traits->opens_transaction = client->defers_multi;
    return is_crossed ? PLACEMENT_CROSSED : PLACEMENT_GOES;
}

/* Answered here, unless watched keys say where the transaction belongs. What is unanswered of the one before may have to
 * begin again. */
static enum placement place_multi(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    if (client->inflight > 0) {
        client_stall(client, STALL_DRAINED);
        return PLACEMENT_STALLED;
    }
    bool is_watching = client->session.is_watching && is_bound(client);
    if (!is_watching)
        placement_forget(client);
    scripts_forget_queued(client);
    transaction_begin(client);
    if (!is_watching) {
        client->defers_multi = true;
        return keep(client, at_hand, traits, SLICE("+OK\r\n"));
    }
    placement_bind(client, traits);
    return PLACEMENT_GOES;
}

/* What a node would say to it at once is known: it is said here, and the node hears of the command when there is one.
 * GOES: nobody knows, so that the transaction is bound to any node now. */
static enum placement place_unbound(struct client *client, const struct command_at_hand *at_hand,
                                    const struct request *traits, bool is_crossed)
{
    const struct command *command = at_hand->command;
    if (is_crossed)
        return placement_refuse(client, INSPECT_CROSSED, PIN_NONE);
    if (traits->pin == PIN_MULTI) {
        client_reply(client, SLICE("-ERR MULTI calls can not be nested\r\n"));
        return PLACEMENT_TAKEN;
    }
    if (!command || !command_arity_is_right(command, at_hand->count)) {
        if (traits->pin != PIN_NONE)
            return PLACEMENT_GOES;
        enum placement placement = keep(client, at_hand, traits, SLICE(""));
        if (client->is_closed)
            return placement;
        if (command)
            client_reply_error(client, "-ERR wrong number of arguments for '%s' command", command->full_name);
        else
            local_answer_unknown(client, at_hand);
        return placement;
    }
    return may_be_kept(at_hand, traits) ? keep(client, at_hand, traits, SLICE("+QUEUED\r\n")) : PLACEMENT_GOES;
}

enum placement placement_refuse(struct client *client, enum request_inspection inspection, enum command_pin pin)
{
    static const struct slice unknown = {"POINTSMAN-REFUSED", 17};
    const struct command_at_hand instead = {.words = &unknown, .count = 1};
    const struct request traits = {.pin = PIN_NONE};
    return keep(client, &instead, &traits, client_text_of(inspection, pin));
}

/* The node would queue it for sure, and nothing follows from its being queued. */
static bool may_be_kept(const struct command_at_hand *at_hand, const struct request *traits)
{
    const struct command *command = at_hand->command;
    bool is_plain = command->local == LOCAL_NONE || command->local == LOCAL_PING || command->local == LOCAL_ECHO ||
                    command->local == LOCAL_SELECT;
    bool is_queued = traits->pin == PIN_NONE || traits->pin == PIN_UNWATCH;
    return is_queued && !command->special && !traits->leaves_traces && is_plain &&
           !(command->flags & (COMMAND_IN_MULTI | COMMAND_DANGEROUS | COMMAND_NOT_IN_MULTI | COMMAND_STATEFUL));
}

/* Empty reply: the caller gives it. */
static enum placement keep(struct client *client, const struct command_at_hand *at_hand, const struct request *traits,
                           struct slice reply)
{
    size_t size = resp_encoded_size(at_hand->words, at_hand->count);
    uint64_t limit = (uint64_t)client->worker->group->config->client_input_limit;
    if (transaction_bytes(client) + size > limit || !transaction_add(client, at_hand->words, at_hand->count)) {
        client_close(client, "a transaction without a key beyond proxy.client_input_limit");
        return PLACEMENT_TAKEN;
    }
    handler_note_select(client, at_hand);
    session_sent(&client->session, (enum command_pin)traits->pin);
    client->session.queues_effects |= traits->pin == PIN_NONE && !traits->is_read;
    client->session.queues_write |= traits->pin == PIN_NONE && at_hand->command && command_may_change(at_hand->command);
    if (reply.size > 0)
        client_reply(client, reply);
    return PLACEMENT_TAKEN;
}

/* By a transaction, or keys that it watches; what it was bound to before is of no interest. */
static bool is_bound(const struct client *client)
{
    return client->is_bound && (client->session.in_multi || client->session.is_watching);
}

/* One connection hears but one master. What is wrong with the command any node tells, and that TRACKING is OFF. */
static bool is_refused(const struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (client->upstream->topology->shard_count == 1 || !command || !command_arity_is_right(command, at_hand->count))
        return false;
    if (command->local == LOCAL_CLIENT_TRACKING)
        return tracking_begins(at_hand);
    return command->pin == PIN_MONITOR || command->pin == PIN_SYNC;
}

static void refuse_crossed(struct client *client)
{
    client_reply(client, SLICE("-CROSSSLOT Keys in request don't hash to the same slot\r\n"));
}
