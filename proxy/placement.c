/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/placement.h"

#include "proxy/backend.h"
#include "proxy/ears.h"
#include "proxy/handler.h"
#include "proxy/scan.h"
#include "proxy/scatter.h"
#include "proxy/scripts.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/plan.h"

#include <stdlib.h>

/* A command of a transaction that is bound to no place yet. */
struct placement_kept {
    struct placement_kept *next;
    struct request traits;
    size_t size;
    char bytes[];
};

static enum placement place_alone(struct client *client, const struct command_at_hand *at_hand,
                                  struct request *traits, const struct plan *plan);
static enum placement place_shard_channels(struct client *client, const struct request *traits);
static bool place_wait(struct client *client, struct request *traits);
static enum placement place_watch(struct client *client, struct request *traits, const struct plan *plan);
static enum placement place_queued(struct client *client, const struct command_at_hand *at_hand,
                                   struct request *traits, const struct plan *plan);
static bool may_be_kept(const struct command_at_hand *at_hand, const struct request *traits);
static enum placement keep(struct client *client, const struct command_at_hand *at_hand, const struct request *traits);
static void send_kept(struct client *client, uint16_t place);
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
    if (traits->pin == PIN_WATCH)
        return place_watch(client, traits, &plan);
    return place_alone(client, at_hand, traits, &plan);
}

void placement_bind(const struct client *client, struct request *traits)
{
    traits->place = is_bound(client) ? client->bound_place : REQUEST_PLACE_NONE;
}

void placement_forget(struct client *client)
{
    while (client->kept) {
        struct placement_kept *kept = client->kept;
        client->kept = kept->next;
        free(kept);
    }
    client->is_bound = false;
}

/* Outside of a transaction. What the client's own connection is there for keeps that at one shard; its other
 * commands go where their keys are. */
static enum placement place_alone(struct client *client, const struct command_at_hand *at_hand,
                                  struct request *traits, const struct plan *plan)
{
    if (traits->pin == PIN_SUBSCRIBE && traits->place != REQUEST_PLACE_NONE) {
        enum placement placement = place_shard_channels(client, traits);
        if (placement != PLACEMENT_GOES)
            return placement;
    }
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
    bool is_at_home = plan->kind == PLAN_ANYWHERE || (is_bound(client) && plan->kind == PLAN_PLACE &&
                                                      traits->place == client->bound_place);
    bool is_free = session_is_pinned(&client->session) && !traits->is_blocking && traits->pin == PIN_NONE && !is_at_home;
    if (is_free)
        traits->needs_dedicated = at_hand->command->flags & (COMMAND_STATEFUL | COMMAND_WHILE_BUSY);
    if (traits->is_blocking && at_hand->command->block == BLOCK_REPLICAS)
        return place_wait(client, traits) ? PLACEMENT_GOES : PLACEMENT_TAKEN;
    bool is_scan = at_hand->command && at_hand->command->special == SPECIAL_SCAN && traits->special;
    if (is_scan && client->upstream->topology->shard_count > 1)
        return scan_place(client, at_hand, traits);
    if (is_bound(client) && plan->kind == PLAN_ANYWHERE)
        placement_bind(client, traits);
    if (plan->kind != PLAN_SPLIT && plan->kind != PLAN_MASTERS)
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

/* Shard channels are heard of at the master of their slot only. What else the client is subscribed to goes along, since
 * any node tells of that; but shard channels of another master do not. */
static enum placement place_shard_channels(struct client *client, const struct request *traits)
{
    const struct connection *home = client->dedicated;
    bool has_others = client->session.subscriptions[SESSION_SHARD_CHANNELS].first;
    if (!home || home->backend->shard == upstream_shard_of(client->upstream, client, traits))
        return PLACEMENT_GOES;
    if (client->inflight > 0 || client->restoring) {
        client_stall(client, STALL_DRAINED);
        return PLACEMENT_STALLED;
    }
    if (has_others || client->session.in_multi || client->session.is_watching) {
        client_reply(client, error_reply(ERROR_SHARD_CHANNELS));
        return PLACEMENT_TAKEN;
    }
    client->home_place = traits->place;
    client->has_home = true;
    connection_close(client->dedicated, OUTCOME_CUT, NULL);
    if (!client->is_closed && client->restoring)
        client_stall(client, STALL_RESTORED);
    return client->is_closed ? PLACEMENT_TAKEN : client->stall == STALL_NONE ? PLACEMENT_GOES : PLACEMENT_STALLED;
}

/* WAIT asks the master that this client wrote to. False if it is answered. */
static bool place_wait(struct client *client, struct request *traits)
{
    if (client->wrote_several) {
        client->wrote_several = false;
        client->written_epoch = 0;
        client_reply(client, error_reply(ERROR_WAIT_SEVERAL));
        return false;
    }
    if (!client->written_epoch)
        return true;
    const struct backend *master = upstream_written_master(client->upstream, client);
    if (!master) {
        client->written_epoch = 0;
        client_reply(client, error_reply(ERROR_WRITES_ELSEWHERE));
        return false;
    }
    traits->place = master->shard;
    traits->is_for_shard = true;
    return true;
}

static enum placement place_watch(struct client *client, struct request *traits, const struct plan *plan)
{
    bool is_crossed = plan->kind == PLAN_CROSS || (is_bound(client) && plan->kind == PLAN_PLACE &&
                                                   client->bound_place != traits->place);
    if (is_crossed) {
        refuse_crossed(client);
        return PLACEMENT_TAKEN;
    }
    if (plan->kind == PLAN_PLACE) {
        client->bound_place = traits->place;
        client->is_bound = true;
    }
    return PLACEMENT_GOES;
}

static enum placement place_queued(struct client *client, const struct command_at_hand *at_hand,
                                   struct request *traits, const struct plan *plan)
{
    bool begins = !client->session.in_multi;
    if (begins && !client->session.is_watching)
        placement_forget(client);
    if (begins)
        scripts_forget_queued(client);
    if (begins && client->dedicated && !client->session.is_watching)
        return PLACEMENT_GOES; /* subscribed: the transaction is where that is */
    bool is_unbound = begins ? !is_bound(client) : client->kept != NULL;
    if (is_unbound && (begins || (plan->kind == PLAN_ANYWHERE && may_be_kept(at_hand, traits))))
        return keep(client, at_hand, traits);
    if (is_unbound && client->inflight > 0) {
        client_stall(client, STALL_DRAINED);
        return PLACEMENT_STALLED;
    }
    if (is_unbound) {
        send_kept(client, plan->kind == PLAN_PLACE ? traits->place : REQUEST_PLACE_NONE);
        if (client->is_closed)
            return PLACEMENT_TAKEN;
    }
    bool is_scan = at_hand->command && at_hand->command->special == SPECIAL_SCAN;
    bool is_crossed = is_scan || plan->kind == PLAN_CROSS || plan->kind == PLAN_SPLIT || plan->kind == PLAN_MASTERS ||
                      (plan->kind == PLAN_PLACE && is_bound(client) && traits->place != client->bound_place);
    placement_bind(client, traits);
    return is_crossed ? PLACEMENT_CROSSED : PLACEMENT_GOES;
}

/* The node would queue it for sure, and nothing follows from its being queued. */
static bool may_be_kept(const struct command_at_hand *at_hand, const struct request *traits)
{
    const struct command *command = at_hand->command;
    return command && command_arity_is_right(command, at_hand->count) && traits->pin == PIN_NONE &&
           !command->special && !traits->leaves_traces &&
           (command->local == LOCAL_NONE || command->local == LOCAL_PING || command->local == LOCAL_ECHO) &&
           !(command->flags & (COMMAND_IN_MULTI | COMMAND_DANGEROUS | COMMAND_NOT_IN_MULTI | COMMAND_STATEFUL));
}

static enum placement keep(struct client *client, const struct command_at_hand *at_hand, const struct request *traits)
{
    size_t size = resp_encoded_size(at_hand->words, at_hand->count);
    struct placement_kept *kept = client->kept_bytes + size <= (size_t)client->worker->group->config->client_input_limit
                                      ? malloc(sizeof *kept + size)
                                      : NULL;
    if (!kept) {
        client_close(client, "a transaction without a key beyond proxy.client_input_limit");
        return PLACEMENT_TAKEN;
    }
    *kept = (struct placement_kept){.traits = *traits, .size = size};
    resp_encode(kept->bytes, at_hand->words, at_hand->count);
    struct placement_kept **end = &client->kept;
    while (*end)
        end = &(*end)->next;
    *end = kept;
    client->kept_bytes = (kept == client->kept ? 0 : client->kept_bytes) + size;
    session_sent(&client->session, (enum command_pin)traits->pin);
    client->session.queues_write |= traits->pin == PIN_NONE && command_may_change(at_hand->command);
    client_reply(client, traits->pin == PIN_MULTI ? SLICE("+OK\r\n") : SLICE("+QUEUED\r\n"));
    return PLACEMENT_TAKEN;
}

static void send_kept(struct client *client, uint16_t place)
{
    struct placement_kept *kept = client->kept;
    client->kept = NULL;
    client->bound_place = place;
    client->is_bound = true;
    while (kept && !client->is_closed) {
        struct placement_kept *next = kept->next;
        kept->traits.place = place;
        client_submit_silently(client, (struct slice){kept->bytes, kept->size}, &kept->traits);
        free(kept);
        kept = next;
    }
    while (kept) {
        struct placement_kept *next = kept->next;
        free(kept);
        kept = next;
    }
}

/* By a transaction, or keys that it watches; what it was bound to before is of no interest. */
static bool is_bound(const struct client *client)
{
    return client->is_bound && (client->session.in_multi || client->session.is_watching);
}

/* One connection hears but one master. */
static bool is_refused(const struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (client->upstream->topology->shard_count == 1 || !command)
        return false;
    return command->pin == PIN_MONITOR || command->pin == PIN_SYNC || command->local == LOCAL_CLIENT_TRACKING;
}

static void refuse_crossed(struct client *client)
{
    client_reply(client, SLICE("-CROSSSLOT Keys in request don't hash to the same slot\r\n"));
}
