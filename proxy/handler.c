/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/handler.h"

#include "proxy/connection.h"
#include "proxy/local.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

static bool is_subscription(const struct command *command);
static bool refuse_stranger(struct client *client, const struct command_at_hand *at_hand);
static bool answer_broken(struct client *client, enum command_pin pin);
static struct request traits_of(const struct client *client, const struct command_at_hand *at_hand);
static bool leaves_traces(const struct client *client, const struct command *command);
static bool begins_pin(enum command_pin pin);
static void note_queued(struct client *client, const struct command_at_hand *at_hand, struct request *traits);
static bool may_go_now(const struct client *client, const struct request *traits);
static bool is_refused_in_multi(const struct session *session, const struct command_at_hand *at_hand);
static bool refuse_in_multi(struct client *client, struct request traits);
static void note_subscription(struct request *traits, const struct command_at_hand *at_hand);

bool handler_take(struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (!client->is_authenticated && refuse_stranger(client, at_hand))
        return true;
    if (client->subscribing > 0 && !is_subscription(command))
        return client_stall(client, STALL_DRAINED); /* whether it is subscribed is not known yet */
    client->last_command = command && !(command->flags & COMMAND_LEARNED) ? command->full_name : "unknown";

    bool is_right = command && command_arity_is_right(command, at_hand->count);
    enum command_pin pin = is_right ? (enum command_pin)command->pin : PIN_NONE;
    if (client->session.is_broken && answer_broken(client, pin)) {
        if (!client->is_closed)
            client_settle(client);
        return true;
    }
    if (command && local_handles(client, command))
        return local_answer(client, at_hand);
    return handler_forward(client, at_hand);
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
    if (!command)
        return local_answer_unknown(client, at_hand);
    if (command->flags & COMMAND_WITHOUT_AUTH)
        return false;
    if (!command_arity_is_right(command, at_hand->count))
        client_reply_error(client, "-ERR wrong number of arguments for '%s' command", command->full_name);
    else
        client_reply_error(client, "-NOAUTH Authentication required.");
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
        client_reply(client, SLICE("-EXECABORT Transaction discarded because of previous errors.\r\n"));
        return true;
    }
    return false;
}

bool handler_forward(struct client *client, const struct command_at_hand *at_hand)
{
    struct request traits = traits_of(client, at_hand);
    if (client->dedicated && client->dedicated->target_database == traits.database)
        traits.needs_dedicated = true; /* it follows what is on its way there */
    uint64_t bytes = client->inflight_bytes + at_hand->bytes.size;
    bool is_too_much = client->inflight > 0 && bytes > (uint64_t)client->worker->group->config->client_input_limit;
    if (is_too_much || !may_go_now(client, &traits))
        return client_stall(client, STALL_DRAINED);
    if (traits.pin == PIN_SYNC) {
        client_reply(client, error_reply(ERROR_REPLICATION));
        return true;
    }
    if (is_refused_in_multi(&client->session, at_hand))
        return refuse_in_multi(client, traits);
    if (traits.inspection == INSPECT_MONITOR && client->session.is_monitoring)
        return true; /* the node would not answer it either */
    if (traits.in_multi)
        note_queued(client, at_hand, &traits);
    session_sent(&client->session, (enum command_pin)traits.pin);
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
    if (client->inflight > 0 && (!traits.needs_dedicated || client->blocking))
        return client_stall(client, STALL_DRAINED);
    client_submit(client, at_hand, &traits);
    if (client->inflight > 0)
        client_stall(client, STALL_DRAINED); /* what follows depends on the answer */
    return true;
}

/* Commands that are else answered here but queued by the node inside MULTI: a SELECT takes effect when EXEC carries
 * it out; a name is taken at once, since a discarded transaction that names its client is not worth more. */
static void note_queued(struct client *client, const struct command_at_hand *at_hand, struct request *traits)
{
    struct session *session = &client->session;
    const struct command *command = at_hand->command;
    if (command && command->local == LOCAL_SELECT && at_hand->count == 2) {
        session->selected = local_read_database(at_hand->words[1]);
        session->selected_at = session->queued;
    }
    if (command && command->local == LOCAL_CLIENT_SETNAME && at_hand->count == 3)
        local_set_name(client, at_hand->words[2]);
    if (traits->pin == PIN_EXEC && session->selected >= 0)
        traits->inspection = INSPECT_EXEC;
}

static struct request traits_of(const struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    bool is_right = command && command_arity_is_right(command, at_hand->count);
    enum command_pin pin = is_right ? (enum command_pin)command->pin : PIN_NONE;
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
    if (command && command->local == LOCAL_PING)
        traits.is_read = true;
    if (traits.pin == PIN_MONITOR && !session->in_multi && !session_is_confined(session)) {
        traits.is_read = true; /* may well be sent again */
        traits.inspection = INSPECT_MONITOR;
    }
    note_subscription(&traits, at_hand);
    if (command && (command->flags & COMMAND_WHILE_BUSY) && !session_is_pinned(session) && !begins_pin(pin)) {
        traits.is_urgent = true; /* the node takes nothing else now, SELECT included */
        traits.database = 0;
    }
    if (command && command->local == LOCAL_INFO && !session_forwards_all(session))
        traits.inspection = INSPECT_INFO;
    if (command && command->local == LOCAL_ROLE && !session_forwards_all(session))
        traits.inspection = INSPECT_ROLE;
    bool is_endless = traits.is_blocking || (command && (command->flags & COMMAND_NO_TIMEOUT));
    int64_t timeout_ms = client->worker->group->config->request_timeout_ms;
    if (timeout_ms > 0 && !is_endless)
        traits.timeout_ms = (uint32_t)timeout_ms;
    return traits;
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

/* One client's commands take effect in its order: while some are unanswered, the next may only follow them on
 * the same connection. */
static bool may_go_now(const struct client *client, const struct request *traits)
{
    if (client->inflight == 0)
        return true;
    if (client->held > 0 || client->blocking || traits->pin == PIN_MONITOR)
        return false;
    if (traits->needs_dedicated)
        return client->dedicated && client->dedicated->target_database == traits->database;
    const struct connection *route = client->route;
    return route && client->routed == client->inflight && !route->is_retiring &&
           route->target_database == traits->database && (!traits->needs_master || upstream_is_master(client->upstream, route));
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

/* Confirmations inside EXEC's array are more or fewer than the elements that it announces, so that no client could
 * tell where it ends. SSUBSCRIBE is an error there, and an element. */
static bool is_refused_in_multi(const struct session *session, const struct command_at_hand *at_hand)
{
    if (!session->in_multi || !is_subscription(at_hand->command) ||
        !command_arity_is_right(at_hand->command, at_hand->count))
        return false;
    return at_hand->command->pin == PIN_UNSUBSCRIBE || session_kind_of(at_hand->words[0]) != SESSION_SHARD_CHANNELS;
}

/* The transaction must fail on the node as well: one that it refuses to queue goes there instead. */
static bool refuse_in_multi(struct client *client, struct request traits)
{
    static const struct slice without_channel = {"SUBSCRIBE", 9};
    struct chunk *chunk = chunk_create_sized(resp_encoded_size(&without_channel, 1));
    if (!chunk) {
        client_close(client, "out of memory");
        return true;
    }
    chunk->filled = resp_encode(chunk->bytes, &without_channel, 1);
    const struct command_at_hand instead = {
        .chunk = chunk,
        .bytes = {chunk->bytes, chunk->filled},
        .words = &without_channel,
        .count = 1,
    };
    traits.inspection = INSPECT_REFUSED;
    client_submit(client, &instead, &traits);
    chunk_release(&client->worker->chunks, chunk);
    return true;
}
