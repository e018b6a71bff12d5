/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/ears.h"

#include "proxy/backend.h"
#include "proxy/control.h"
#include "proxy/local.h"
#include "proxy/log.h"
#include "proxy/redirect.h"
#include "proxy/reply.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/keyspace.h"

#include <stdlib.h>

enum {
    KINDS = SESSION_SHARD_CHANNELS, /* of names that the home has as well */
    WAIT_MS = 2000,  /* for notifications; a client is not kept longer by a master that says nothing */
    PAUSE_MS = 50,   /* before a master is asked again that refused */
    HOPS_MOST = 5,   /* redirects in a row that are followed at once */
};

struct ear {
    struct ear *next;
    struct ears *ears;
    struct connection *connection; /* NULL: to be opened */
    const struct backend *backend;
    uint16_t shard;                          /* whose master that is */
    struct subscriptions said[SESSION_KINDS]; /* what it is subscribed to, or will be when all is answered */
};

struct ears {
    struct client *client;
    struct ear *first;
    struct subscriptions names[KINDS]; /* what every other master is to tell: what may be notifications */
    struct subscriptions asked;        /* shard channels of the command at hand; the session has the others */
    char *refusal;                     /* what a node has against one of these; NULL = nothing */
    uint64_t waits_until_ms;           /* the client is stalled; 0 = it is not */
    uint64_t arrange_ms;               /* not all is as it should be: looked at again then; 0 = it is */
    uint16_t home;                     /* shard of the home when last looked at */
    uint8_t hops;
    bool carries_all;                  /* messages too, since the home is not where these are heard */
    bool is_short;                     /* no connection was free: said so in the log */
};

/* What a node says to a subscriber, or the words of a command; one name each. */
struct saying {
    struct slice name, channel; /* channel: of a message */
    enum session_channel_kind kind;
    bool is_message, is_undoing;
};

static const struct slice subscribe_words[SESSION_KINDS] = {
    {"SUBSCRIBE", 9}, {"PSUBSCRIBE", 10}, {"SSUBSCRIBE", 10}};
static const struct slice unsubscribe_words[SESSION_KINDS] = {
    {"UNSUBSCRIBE", 11}, {"PUNSUBSCRIBE", 12}, {"SUNSUBSCRIBE", 12}};

static struct ears *ears_of(struct client *client);
static bool refuse_before_node(struct client *client, const struct command_at_hand *at_hand);
static bool is_wanted(const struct ears *ears, struct slice name, enum session_channel_kind kind);
static bool wait_for(struct ears *ears, uint64_t wait_ms);
static bool want_channels(struct ears *ears, const struct command_at_hand *at_hand);
static void subscribe(struct ears *ears, const struct command_at_hand *at_hand);
static void unsubscribe(struct client *client, const struct command_at_hand *at_hand);
static void confirm(struct reply *reply, const char *word, struct slice name);
static void reply_always(struct reply *reply);
static void refuse(struct ears *ears, const struct command_at_hand *at_hand);
static bool drop_undone(struct ears *ears);
static void arrange_soon(struct ears *ears);
static void arrange(struct ears *ears);
static void drop_misplaced(struct ears *ears);
static bool belongs(const struct ears *ears, const struct ear *ear, enum session_channel_kind kind, struct slice name);
static bool place_names(struct ears *ears);
static bool place_name(struct ears *ears, enum session_channel_kind kind, struct slice name);
static bool place_channels(struct ears *ears, const struct subscriptions *channels);
static bool place_channel(struct ears *ears, struct slice name);
static void leave_channel(struct ears *ears, struct slice name);
static void drop_idle(struct ears *ears);
static bool hear(struct ears *ears, uint16_t shard, enum session_channel_kind kind, struct slice name);
static uint16_t shard_of_channel(const struct ears *ears, struct slice name);
static uint16_t home_of(const struct client *client);
static struct backend *master_of(const struct upstream *upstream, uint16_t shard);
static struct ear *ear_at(struct ears *ears, uint16_t shard);
static void drop_ear(struct ears *ears, struct ear *ear);
static bool open_ear(struct ear *ear);
static bool say(struct ear *ear, struct slice word, struct slice name);
static bool is_ready(const struct ears *ears);
static bool is_heard(const struct ears *ears, struct slice name);
static void go_on(struct ears *ears);
static void look_again(struct ears *ears, uint64_t after_ms);
static bool read_saying(struct slice frame, struct saying *saying);
static void pass_on(struct ear *ear, const struct saying *saying);
static void take_answer(struct ear *ear, const struct saying *saying);
static void take_refusal(struct ear *ear, struct slice error);
static bool is_about_to_leave(const struct ear *ear, const struct saying *command);
static bool refused(struct ear *ear, const struct saying *command, struct slice error);
static bool was_asked(const struct connection *connection, struct saying *command);

bool ears_ready(struct client *client, const struct command_at_hand *at_hand)
{
    enum session_channel_kind kind = session_kind_of(at_hand->words[0]);
    struct ears *ears = client->ears;
    bool is_whole = true;
    for (size_t i = 1; i < at_hand->count; i++) {
        struct slice name = at_hand->words[i];
        if (!is_wanted(ears, name, kind) || (ears && subscriptions_has(&ears->names[kind], name)))
            continue;
        ears = ears_of(client);
        if (!ears || !subscriptions_add(&ears->names[kind], name)) {
            client_close(client, "out of memory");
            return false;
        }
        if (ears->home == home_of(client))
            is_whole &= place_name(ears, kind, name);
    }
    if (ears && ears->home != home_of(client))
        arrange(ears);
    else if (!is_whole)
        look_again(ears, PAUSE_MS);
    return !ears || wait_for(ears, WAIT_MS);
}

bool ears_hear(struct client *client, const struct command_at_hand *at_hand)
{
    if (client->inflight > 0)
        return client_stall(client, STALL_DRAINED); /* what is heard comes behind the replies to what was sent before */
    if (at_hand->command->pin == PIN_UNSUBSCRIBE) {
        unsubscribe(client, at_hand);
        return true;
    }
    struct ears *ears = ears_of(client);
    client->session.has_shards_apart = true;
    if (!ears || !want_channels(ears, at_hand)) {
        client_close(client, "out of memory");
        return true;
    }
    const struct config_upstream *config = client->upstream->config;
    int64_t wait_ms = ears->is_short ? config->pool_wait_ms : config->failover_hold_time_ms;
    if (!wait_for(ears, wait_ms > WAIT_MS ? (uint64_t)wait_ms : WAIT_MS))
        return false;
    if (is_ready(ears))
        subscribe(ears, at_hand);
    else
        refuse(ears, at_hand);
    return true;
}

bool ears_refuse(struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (!session_is_confined(&client->session))
        return false;
    if (session_is_subscribed_here(&client->session))
        return refuse_before_node(client, at_hand);
    if (!command || command->local == LOCAL_UNKNOWN)
        return local_answer_unknown(client, at_hand);
    if ((command->flags & COMMAND_CONTAINER) && at_hand->count > 1)
        return local_answer_unknown_subcommand(client, at_hand);
    if (!command_arity_is_right(command, at_hand->count))
        client_reply_error(client, "-ERR wrong number of arguments for '%s' command", command->full_name);
    else if (command->local == LOCAL_PING)
        local_answer_confined_ping(client, at_hand);
    else if (command->flags & COMMAND_WHILE_SUBSCRIBED)
        return false;
    else
        local_refuse_confined(client, command->full_name);
    return true;
}

/* A node of a cluster says first where the keys are, of what it would not do there either. */
static bool refuse_before_node(struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    bool has_keys = command && command->keys.finder != KEYS_NONE && command_arity_is_right(command, at_hand->count);
    if (!has_keys || !client->upstream->topology->is_cluster || (command->flags & COMMAND_WHILE_SUBSCRIBED))
        return false;
    local_refuse_confined(client, command->full_name);
    return true;
}

bool ears_carry(struct client *client)
{
    struct ears *ears = ears_of(client);
    bool is_kept = ears != NULL;
    for (int kind = 0; is_kept && kind < KINDS; kind++) {
        const struct subscriptions *held = &client->session.subscriptions[kind];
        const struct subscription *name = subscriptions_next(held, NULL);
        for (; is_kept && name; name = subscriptions_next(held, name))
            is_kept = subscriptions_add(&ears->names[kind], subscription_name(name));
    }
    if (!is_kept) {
        client_close(client, "out of memory");
        return false;
    }
    if (!ears->carries_all) {
        ears->carries_all = true;
        arrange(ears);
    }
    return wait_for(ears, WAIT_MS);
}

/* What the node has not confirmed, or no longer has, the ears need not have either; while a subscription is on its way
 * nobody knows. */
void ears_follow(struct client *client, bool is_undone)
{
    struct ears *ears = client->ears;
    if (!ears || client->subscribing > 0 || ears->waits_until_ms || (!is_undone && ears->home == home_of(client)))
        return;
    ears->carries_all &= session_is_subscribed_here(&client->session);
    bool is_any = drop_undone(ears);
    if (is_any || client->session.subscriptions[SESSION_SHARD_CHANNELS].first)
        arrange(ears);
    else
        ears_forget(client);
}

void ears_take(struct connection *connection, struct slice frame)
{
    struct ear *ear = connection->ear;
    struct saying saying;
    if (frame.bytes[0] == '-')
        take_refusal(ear, frame);
    else if (!read_saying(frame, &saying))
        connection_close(connection, OUTCOME_CUT, NULL);
    else if (saying.is_message)
        pass_on(ear, &saying);
    else
        take_answer(ear, &saying);
}

void ears_lost(struct connection *connection)
{
    struct ear *ear = connection->ear;
    connection->ear = NULL;
    ear->connection = NULL;
    for (int kind = 0; kind < SESSION_KINDS; kind++)
        subscriptions_clear(&ear->said[kind]);
    look_again(ear->ears, 0);
    go_on(ear->ears);
}

void ears_arrange_all(struct worker *worker)
{
    while (worker->unarranged_clients) {
        struct client *client = worker->unarranged_clients;
        worker->unarranged_clients = client->next_unarranged;
        client->is_unarranged = false;
        if (!client->ears)
            continue;
        arrange(client->ears);
        go_on(client->ears);
    }
}

void ears_refresh(struct upstream *upstream, bool is_new)
{
    uint64_t now_ms = upstream->worker->now_ms;
    if (upstream->with_ears == 0)
        return;
    for (struct client *client = upstream->worker->clients; client; client = client->next) {
        struct ears *ears = client->ears;
        if (!ears || client->upstream != upstream)
            continue;
        bool is_due = ears->arrange_ms && now_ms >= ears->arrange_ms;
        if (is_new || is_due || ears->home != home_of(client))
            arrange(ears);
        go_on(ears);
    }
}

void ears_forget(struct client *client)
{
    struct ears *ears = client->ears;
    if (!ears)
        return;
    client->ears = NULL;
    client->upstream->with_ears--;
    while (ears->first)
        drop_ear(ears, ears->first);
    for (int kind = 0; kind < KINDS; kind++)
        subscriptions_clear(&ears->names[kind]);
    subscriptions_clear(&ears->asked);
    free(ears->refusal);
    free(ears);
}

size_t ears_bytes(const struct client *client)
{
    const struct ears *ears = client->ears;
    if (!ears)
        return 0;
    size_t bytes = ears->asked.bytes;
    for (int kind = 0; kind < KINDS; kind++)
        bytes += ears->names[kind].bytes;
    for (const struct ear *ear = ears->first; ear; ear = ear->next) {
        for (int kind = 0; kind < SESSION_KINDS; kind++)
            bytes += ear->said[kind].bytes;
    }
    return bytes;
}

static struct ears *ears_of(struct client *client)
{
    if (client->ears)
        return client->ears;
    client->ears = calloc(1, sizeof *client->ears);
    if (client->ears) {
        client->ears->client = client;
        client->ears->home = TOPOLOGY_NO_SHARD;
        client->upstream->with_ears++;
    }
    return client->ears;
}

/* ---- commands ---- */

static bool is_wanted(const struct ears *ears, struct slice name, enum session_channel_kind kind)
{
    if (ears && ears->carries_all)
        return true;
    return kind == SESSION_CHANNELS ? keyspace_is_channel(name) : keyspace_may_match(name);
}

/* True if the command at hand may go on: all is ready, or there is no use in waiting. */
static bool wait_for(struct ears *ears, uint64_t wait_ms)
{
    struct client *client = ears->client;
    uint64_t now_ms = client->worker->now_ms;
    bool is_over = ears->refusal || (ears->waits_until_ms && now_ms >= ears->waits_until_ms);
    if (is_over || is_ready(ears)) {
        ears->waits_until_ms = 0;
        return true;
    }
    if (!ears->waits_until_ms)
        ears->waits_until_ms = now_ms + wait_ms;
    return client_stall(client, STALL_EARS);
}

/* False if memory is short. */
static bool want_channels(struct ears *ears, const struct command_at_hand *at_hand)
{
    const struct subscriptions *held = &ears->client->session.subscriptions[SESSION_SHARD_CHANNELS];
    bool is_whole = true;
    for (size_t i = 1; i < at_hand->count; i++) {
        struct slice name = at_hand->words[i];
        if (subscriptions_has(held, name) || subscriptions_has(&ears->asked, name))
            continue;
        if (!subscriptions_add(&ears->asked, name))
            return false;
        is_whole &= place_channel(ears, name);
    }
    if (!is_whole)
        look_again(ears, PAUSE_MS);
    return true;
}

static void subscribe(struct ears *ears, const struct command_at_hand *at_hand)
{
    struct client *client = ears->client;
    struct subscriptions *held = &client->session.subscriptions[SESSION_SHARD_CHANNELS];
    struct reply reply;
    bool is_kept = true;
    subscriptions_clear(&ears->asked);
    reply_begin(&reply, client);
    for (size_t i = 1; i < at_hand->count; i++) {
        is_kept &= subscriptions_add(held, at_hand->words[i]);
        confirm(&reply, "ssubscribe", at_hand->words[i]);
    }
    reply_always(&reply);
    if (is_kept)
        client_limit_subscriptions(client);
    else
        client_close(client, "out of memory");
}

/* From now on nothing of these is passed on; the nodes are told at once, and nobody waits for what they say. */
static void unsubscribe(struct client *client, const struct command_at_hand *at_hand)
{
    struct subscriptions *held = &client->session.subscriptions[SESSION_SHARD_CHANNELS];
    struct reply reply;
    reply_begin(&reply, client);
    for (size_t i = 1; i < at_hand->count; i++) {
        subscriptions_remove(held, at_hand->words[i]);
        leave_channel(client->ears, at_hand->words[i]);
        confirm(&reply, "sunsubscribe", at_hand->words[i]);
    }
    bool undoes_all = at_hand->count == 1;
    if (undoes_all && subscriptions_are_none(held))
        confirm(&reply, "sunsubscribe", (struct slice){0});
    uint32_t left = undoes_all ? subscriptions_count(held) : 0;
    const struct subscription *name = undoes_all ? subscriptions_next(held, NULL) : NULL;
    for (; name; name = subscriptions_next(held, name)) {
        reply_push(&reply, 3);
        reply_text(&reply, "sunsubscribe");
        reply_bulk(&reply, subscription_name(name));
        reply_number(&reply, --left);
    }
    if (undoes_all)
        subscriptions_clear(held);
    reply_always(&reply);
    if (undoes_all || subscriptions_are_none(held))
        ears_follow(client, true);
    else if (client->ears)
        drop_idle(client->ears);
}

/* [ssubscribe, name, number of shard channels]; null if there is none to undo. */
static void confirm(struct reply *reply, const char *word, struct slice name)
{
    reply_push(reply, 3);
    reply_text(reply, word);
    if (name.bytes)
        reply_bulk(reply, name);
    else
        reply_null(reply);
    reply_number(reply, subscriptions_count(&reply->client->session.subscriptions[SESSION_SHARD_CHANNELS]));
}

/* To Redis these are no replies, that CLIENT REPLY could switch off. */
static void reply_always(struct reply *reply)
{
    struct client *client = reply->client;
    uint8_t mode = client->reply_mode;
    client->reply_mode = REPLY_ON;
    reply_end(reply);
    client->reply_mode = mode == REPLY_OFF ? REPLY_OFF : REPLY_ON;
}

/* It could not be subscribed to: what the node said, or why none could be asked. */
static void refuse(struct ears *ears, const struct command_at_hand *at_hand)
{
    struct client *client = ears->client;
    bool is_uncovered = shard_of_channel(ears, at_hand->words[1]) == TOPOLOGY_NO_SHARD;
    struct slice reply = ears->refusal    ? slice_of(ears->refusal)
                         : is_uncovered   ? SLICE("-CLUSTERDOWN Hash slot not served\r\n")
                         : ears->is_short ? error_reply(ERROR_POOL_EMPTY)
                                          : error_reply(ERROR_NO_MASTER);
    client_reply(client, reply);
    free(ears->refusal);
    ears->refusal = NULL;
    subscriptions_clear(&ears->asked);
    ears_follow(client, true);
}

/* True if any name is left. */
static bool drop_undone(struct ears *ears)
{
    bool is_any = false;
    for (int kind = 0; kind < KINDS; kind++) {
        struct subscriptions *names = &ears->names[kind];
        const struct subscription *name = subscriptions_next(names, NULL);
        while (name) {
            const struct subscription *next = subscriptions_next(names, name);
            if (subscriptions_has(&ears->client->session.subscriptions[kind], subscription_name(name)))
                is_any = true;
            else
                subscriptions_remove(names, subscription_name(name));
            name = next;
        }
    }
    return is_any;
}

/* ---- which ear has which names ---- */

/* Arranging goes over all names: a node may have something to say of each of them in one turn. */
static void arrange_soon(struct ears *ears)
{
    struct client *client = ears->client;
    struct worker *worker = client->worker;
    if (client->is_unarranged)
        return;
    client->is_unarranged = true;
    client->next_unarranged = worker->unarranged_clients;
    worker->unarranged_clients = client;
}

/* Every name is where it should be, as far as that can be reached; else this is tried again. */
static void arrange(struct ears *ears)
{
    const struct subscriptions *held = &ears->client->session.subscriptions[SESSION_SHARD_CHANNELS];
    ears->arrange_ms = 0;
    ears->home = home_of(ears->client);
    drop_misplaced(ears);
    bool is_whole = place_names(ears);
    is_whole &= place_channels(ears, held);
    is_whole &= place_channels(ears, &ears->asked);
    drop_idle(ears);
    if (!is_whole)
        look_again(ears, PAUSE_MS);
}

static void drop_misplaced(struct ears *ears)
{
    const struct upstream *upstream = ears->client->upstream;
    for (struct ear *ear = ears->first, *next; ear; ear = next) {
        next = ear->next;
        ear->shard = 0;
        while (ear->shard < upstream->topology->shard_count && master_of(upstream, ear->shard) != ear->backend)
            ear->shard++;
        if (ear->shard == upstream->topology->shard_count) {
            drop_ear(ears, ear);
            continue;
        }
        for (int kind = 0; kind < SESSION_KINDS; kind++) {
            const struct subscription *name = subscriptions_next(&ear->said[kind], NULL);
            while (name) {
                const struct subscription *following = subscriptions_next(&ear->said[kind], name);
                if (!belongs(ears, ear, (enum session_channel_kind)kind, subscription_name(name)) &&
                    say(ear, unsubscribe_words[kind], subscription_name(name)))
                    subscriptions_remove(&ear->said[kind], subscription_name(name));
                name = following;
            }
        }
    }
}

static bool belongs(const struct ears *ears, const struct ear *ear, enum session_channel_kind kind, struct slice name)
{
    const struct subscriptions *held = &ears->client->session.subscriptions[SESSION_SHARD_CHANNELS];
    if (kind == SESSION_SHARD_CHANNELS)
        return (subscriptions_has(held, name) || subscriptions_has(&ears->asked, name)) &&
               shard_of_channel(ears, name) == ear->shard;
    return (ears->carries_all || ear->shard != ears->home) && subscriptions_has(&ears->names[kind], name);
}

static bool place_names(struct ears *ears)
{
    bool is_whole = true;
    for (int kind = 0; kind < KINDS; kind++) {
        const struct subscription *name = subscriptions_next(&ears->names[kind], NULL);
        for (; name; name = subscriptions_next(&ears->names[kind], name))
            is_whole &= place_name(ears, (enum session_channel_kind)kind, subscription_name(name));
    }
    return is_whole;
}

static bool place_name(struct ears *ears, enum session_channel_kind kind, struct slice name)
{
    const struct upstream *upstream = ears->client->upstream;
    bool is_whole = true;
    for (uint32_t shard = 0; shard < upstream->topology->shard_count; shard++)
        is_whole &= (shard == ears->home && !ears->carries_all) || hear(ears, (uint16_t)shard, kind, name);
    return is_whole;
}

static bool place_channels(struct ears *ears, const struct subscriptions *channels)
{
    bool is_whole = true;
    const struct subscription *name = subscriptions_next(channels, NULL);
    for (; name; name = subscriptions_next(channels, name))
        is_whole &= place_channel(ears, subscription_name(name));
    return is_whole;
}

static bool place_channel(struct ears *ears, struct slice name)
{
    const struct upstream *upstream = ears->client->upstream;
    uint16_t shard = shard_of_channel(ears, name);
    if (shard == TOPOLOGY_NO_SHARD)
        control_report(upstream->worker->group->control, upstream->index, REPORT_UNCOVERED, "");
    return shard != TOPOLOGY_NO_SHARD && hear(ears, shard, SESSION_SHARD_CHANNELS, name);
}

/* ears: NULL if the client has none. */
static void leave_channel(struct ears *ears, struct slice name)
{
    for (struct ear *ear = ears ? ears->first : NULL, *next; ear; ear = next) {
        next = ear->next;
        struct subscriptions *said = &ear->said[SESSION_SHARD_CHANNELS];
        if (subscriptions_has(said, name) && say(ear, unsubscribe_words[SESSION_SHARD_CHANNELS], name))
            subscriptions_remove(said, name);
    }
}

static void drop_idle(struct ears *ears)
{
    for (struct ear *ear = ears->first, *next; ear; ear = next) {
        next = ear->next;
        bool is_idle = true;
        for (int kind = 0; kind < SESSION_KINDS; kind++)
            is_idle &= subscriptions_are_none(&ear->said[kind]);
        if (is_idle)
            drop_ear(ears, ear);
    }
}

/* True if the master of the shard has been told of the name. */
static bool hear(struct ears *ears, uint16_t shard, enum session_channel_kind kind, struct slice name)
{
    struct ear *ear = ear_at(ears, shard);
    if (ear && subscriptions_has(&ear->said[kind], name))
        return true;
    if (!ear || (!ear->connection && !open_ear(ear)) || !subscriptions_add(&ear->said[kind], name))
        return false;
    if (say(ear, subscribe_words[kind], name))
        return true;
    subscriptions_remove(&ear->said[kind], name);
    return false;
}

static uint16_t shard_of_channel(const struct ears *ears, struct slice name)
{
    const struct upstream *upstream = ears->client->upstream;
    const struct request wanted = {.place = (uint16_t)topology_place_of(upstream->topology, name)};
    return upstream_shard_of(upstream, &wanted);
}

/* The shard where the client itself is subscribed, or is going to be. */
static uint16_t home_of(const struct client *client)
{
    return client->dedicated ? client->dedicated->backend->shard : TOPOLOGY_NO_SHARD;
}

static struct backend *master_of(const struct upstream *upstream, uint16_t shard)
{
    uint32_t master = upstream->topology->shards[shard].master;
    return master == TOPOLOGY_NO_NODE ? NULL : upstream->by_node[master];
}

/* Made if need be; NULL if there is no master, or memory is short. */
static struct ear *ear_at(struct ears *ears, uint16_t shard)
{
    const struct backend *backend = master_of(ears->client->upstream, shard);
    struct ear *ear = ears->first;
    while (ear && ear->backend != backend)
        ear = ear->next;
    if (ear || !backend)
        return ear;
    ear = calloc(1, sizeof *ear);
    if (!ear)
        return NULL;
    *ear = (struct ear){.next = ears->first, .ears = ears, .backend = backend, .shard = shard};
    ears->first = ear;
    return ear;
}

static void drop_ear(struct ears *ears, struct ear *ear)
{
    struct ear **link = &ears->first;
    while (*link != ear)
        link = &(*link)->next;
    *link = ear->next;
    if (ear->connection) {
        ear->connection->ear = NULL;
        connection_close(ear->connection, OUTCOME_CUT, NULL);
    }
    for (int kind = 0; kind < SESSION_KINDS; kind++)
        subscriptions_clear(&ear->said[kind]);
    free(ear);
}

static bool open_ear(struct ear *ear)
{
    struct ears *ears = ear->ears;
    struct backend *backend = master_of(ears->client->upstream, ear->shard);
    if (!backend->load->is_usable)
        return false;
    ear->connection = backend_open_ear(backend, 2);
    if (ear->connection)
        ear->connection->ear = ear;
    else if (!ears->is_short)
        log_warning("client %llu: node %s: no connection free for what it is to hear from there "
                    "(pool.dedicated_connections); tried again",
                    (unsigned long long)ears->client->id, backend->name);
    ears->is_short = !ear->connection;
    return ear->connection != NULL;
}

/* One name at a time, so that each command has one reply. False if memory is short. */
static bool say(struct ear *ear, struct slice word, struct slice name)
{
    const struct slice words[] = {word, name};
    return connection_ask(ear->connection, words, 2, QUESTION_NONE);
}

/* ---- waiting ---- */

static bool is_ready(const struct ears *ears)
{
    if (ears->client->is_unarranged)
        return false;
    const struct subscription *name = subscriptions_next(&ears->asked, NULL);
    if (!name) {
        const struct ear *ear = ears->first;
        while (ear && !(ear->connection && ear->connection->count > 0))
            ear = ear->next;
        return !ear;
    }
    while (name && is_heard(ears, subscription_name(name)))
        name = subscriptions_next(&ears->asked, name);
    return !name;
}

static bool is_heard(const struct ears *ears, struct slice name)
{
    const struct ear *ear = ears->first;
    while (ear && !subscriptions_has(&ear->said[SESSION_SHARD_CHANNELS], name))
        ear = ear->next;
    return ear && ear->connection->count == 0;
}

static void go_on(struct ears *ears)
{
    struct client *client = ears->client;
    bool is_over = ears->refusal || (ears->waits_until_ms && client->worker->now_ms >= ears->waits_until_ms);
    if (client->stall != STALL_EARS || !(is_over || is_ready(ears)))
        return;
    client->stall = STALL_NONE;
    worker_resume_client(client->worker, client);
}

static void look_again(struct ears *ears, uint64_t after_ms)
{
    ears->arrange_ms = ears->client->worker->now_ms + after_ms;
}

/* ---- what nodes say ---- */

static bool read_saying(struct slice frame, struct saying *saying)
{
    size_t position = 0;
    struct resp_value head, word, name, third;
    if (!resp_value_next(frame, &position, &head) || head.type != '*' || head.integer < 2 ||
        !resp_value_next(frame, &position, &word) || !resp_value_next(frame, &position, &name))
        return false;
    bool is_pattern = slice_is(word.text, "pmessage");
    *saying = (struct saying){.name = name.text, .channel = name.text, .kind = session_kind_of(word.text)};
    saying->is_message = is_pattern || slice_is(word.text, "message") || slice_is(word.text, "smessage");
    for (int kind = 0; kind < SESSION_KINDS; kind++)
        saying->is_undoing |= slice_is(word.text, unsubscribe_words[kind].bytes);
    if (is_pattern && !resp_value_next(frame, &position, &third))
        return false;
    if (is_pattern)
        saying->channel = third.text;
    return true;
}

/* To the client, if it is not told of it by its home, or no longer wants it. */
static void pass_on(struct ear *ear, const struct saying *saying)
{
    struct ears *ears = ear->ears;
    struct client *client = ears->client;
    struct spans *frame = &ear->connection->frame;
    bool is_told = saying->kind != SESSION_SHARD_CHANNELS &&
                   (ear->shard == home_of(client) || (!ears->carries_all && !keyspace_is_channel(saying->channel)));
    if (is_told || !subscriptions_has(&client->session.subscriptions[saying->kind], saying->name))
        return;
    if (client->session.is_resp3)
        *(char *)(uintptr_t)frame->first->bytes = '>'; /* nobody else has these bytes */
    client_push(client, frame);
}

/* A confirmation, or a slot is taken from the node, and with it who listens to its channels. */
static void take_answer(struct ear *ear, const struct saying *saying)
{
    struct ears *ears = ear->ears;
    struct connection *connection = ear->connection;
    struct saying asked;
    bool is_answer = was_asked(connection, &asked) && asked.kind == saying->kind &&
                     asked.is_undoing == saying->is_undoing && slice_equals(asked.name, saying->name);
    if (is_answer) {
        ears->hops = 0;
        connection_done(connection);
        if (connection->state != CONNECTION_CLOSED)
            go_on(ears);
    } else if (saying->is_undoing && saying->kind == SESSION_SHARD_CHANNELS) {
        subscriptions_remove(&ear->said[SESSION_SHARD_CHANNELS], saying->name);
        arrange_soon(ears); /* the node says where the slot is now */
    } else {
        connection_close(connection, OUTCOME_CUT, NULL); /* nobody knows any more what is answered */
    }
}

/* A command on an ear was refused; of an undoing that is as good as done. */
static void take_refusal(struct ear *ear, struct slice error)
{
    struct ears *ears = ear->ears;
    struct connection *connection = ear->connection;
    struct saying command;
    char reason[160];
    if (!was_asked(connection, &command)) {
        snprintf(reason, sizeof reason, "sent %.*s", (int)(error.size < 100 ? error.size - 2 : 100), error.bytes);
        connection_close(connection, OUTCOME_LOST, reason);
        return;
    }
    bool is_of_interest = !command.is_undoing && subscriptions_has(&ear->said[command.kind], command.name);
    if (is_of_interest)
        subscriptions_remove(&ear->said[command.kind], command.name);
    is_of_interest &= !is_about_to_leave(ear, &command);
    if (is_of_interest && !refused(ear, &command, error))
        return; /* its client is gone */
    connection_done(connection);
    if (ears->arrange_ms && ears->client->worker->now_ms >= ears->arrange_ms)
        arrange_soon(ears);
    go_on(ears);
}

/* True if another refusal in this turn has told already that the name is elsewhere. */
static bool is_about_to_leave(const struct ear *ear, const struct saying *command)
{
    const struct ears *ears = ear->ears;
    return ears->client->is_unarranged && !belongs(ears, ear, command->kind, command->name);
}

/* Sees what is to be done about it. False if the client was closed. */
static bool refused(struct ear *ear, const struct saying *command, struct slice error)
{
    struct ears *ears = ear->ears;
    struct client *client = ears->client;
    const struct upstream *upstream = client->upstream;
    enum refusal refusal = refusal_of(error);
    if (refusal_is_of_cluster(refusal)) {
        bool is_learned = redirect_note(ear->connection, error) && ears->hops++ < HOPS_MOST;
        if (refusal == REFUSAL_CLUSTERDOWN)
            control_report(upstream->worker->group->control, upstream->index, REPORT_UNCOVERED, "");
        if (!is_learned)
            ears->hops = 0;
        look_again(ears, is_learned ? 0 : PAUSE_MS);
        return true;
    }
    if (refusal != REFUSAL_NONE) {
        look_again(ears, PAUSE_MS);
        return true;
    }
    if (subscriptions_has(&ears->asked, command->name)) {
        free(ears->refusal);
        ears->refusal = strndup(error.bytes, error.size);
        return ears->refusal != NULL;
    }
    log_warning("client %llu: closed, since it cannot be subscribed at node %s, which says %.*s",
                (unsigned long long)client->id, ear->backend->name,
                (int)(error.size < 202 ? error.size - 2 : 200), error.bytes);
    client_close(client, "its subscriptions cannot be restored");
    return false;
}

/* The oldest command on the connection, if it was sent. */
static bool was_asked(const struct connection *connection, struct saying *command)
{
    const struct request *head = connection->queue.first;
    return head && head != connection->unsent && read_saying((struct slice){head->bytes, head->size}, command);
}
