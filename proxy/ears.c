/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/ears.h"

#include "proxy/backend.h"
#include "proxy/log.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/keyspace.h"

#include <stdlib.h>

enum {
    CHANNELS,
    PATTERNS,
    KINDS,
    WAIT_MS = 2000, /* for an ear; a client is not kept longer by a master that says nothing */
};

struct ear {
    struct ear *next;
    struct ears *ears;
    struct connection *connection; /* NULL: to be opened */
    const struct backend *backend;
    uint32_t owed; /* confirmations */
};

struct ears {
    struct client *client;
    struct ear *first;
    struct subscriptions names[KINDS]; /* those that may be notifications */
    uint64_t waits_until_ms;           /* the client is stalled; 0 = it is not */
    bool is_short;                     /* no connection was free: said so in the log */
};

static const struct slice words_of_kind[KINDS] = {{"SUBSCRIBE", 9}, {"PSUBSCRIBE", 10}};

static bool is_wanted(struct slice name, int kind);
static struct ears *ears_of(struct client *client);
static void refresh(struct ears *ears);
static bool has_place(const struct ears *ears, const struct ear *ear);
static struct ear *ear_at(const struct ears *ears, const struct backend *backend);
static void add_ear(struct ears *ears, const struct backend *backend);
static void drop_ear(struct ears *ears, struct ear *ear);
static void open_ear(struct ear *ear, struct backend *backend);
static void say(struct ear *ear, struct slice word, struct slice name);
static bool is_ready(const struct ears *ears);
static void go_on(struct ears *ears);
static bool is_notification(struct slice frame);
static bool is_message(struct slice frame, struct slice *channel);

bool ears_ready(struct client *client, const struct command_at_hand *at_hand)
{
    int kind = (int)session_kind_of(at_hand->words[0]);
    struct ears *ears = client->ears;
    bool is_new = false;
    for (size_t i = 1; kind < KINDS && i < at_hand->count; i++) {
        if (!is_wanted(at_hand->words[i], kind))
            continue;
        ears = ears_of(client);
        uint32_t before = ears ? subscriptions_count(&ears->names[kind]) : 0;
        if (!ears || !subscriptions_add(&ears->names[kind], at_hand->words[i])) {
            client_close(client, "out of memory");
            return false;
        }
        if (subscriptions_count(&ears->names[kind]) == before)
            continue;
        is_new = true;
        for (struct ear *ear = ears->first; ear; ear = ear->next) {
            if (ear->connection)
                say(ear, words_of_kind[kind], at_hand->words[i]);
        }
    }
    if (is_new)
        refresh(ears);
    if (!ears || is_ready(ears) || (ears->waits_until_ms && client->worker->now_ms >= ears->waits_until_ms)) {
        if (ears)
            ears->waits_until_ms = 0;
        return true;
    }
    if (!ears->waits_until_ms)
        ears->waits_until_ms = client->worker->now_ms + WAIT_MS;
    client_stall(client, STALL_EARS);
    return false;
}

/* What the node has not confirmed, or no longer has, the ears need not have either; while a subscription is on its way
 * nobody knows. */
void ears_follow(struct client *client)
{
    static const struct slice undoing[KINDS] = {{"UNSUBSCRIBE", 11}, {"PUNSUBSCRIBE", 12}};
    struct ears *ears = client->ears;
    bool is_any = false;
    if (!ears || client->subscribing > 0 || ears->waits_until_ms)
        return;
    refresh(ears);
    for (int kind = 0; kind < KINDS; kind++) {
        const struct subscriptions *held = &client->session.subscriptions[kind];
        const struct subscription *name = subscriptions_next(&ears->names[kind], NULL);
        while (name) {
            const struct subscription *next = subscriptions_next(&ears->names[kind], name);
            if (subscriptions_has(held, subscription_name(name))) {
                is_any = true;
            } else {
                for (struct ear *ear = ears->first; ear; ear = ear->next) {
                    if (ear->connection)
                        say(ear, undoing[kind], subscription_name(name));
                }
                subscriptions_remove(&ears->names[kind], subscription_name(name));
            }
            name = next;
        }
    }
    if (!is_any)
        ears_forget(client);
}

void ears_take(struct connection *connection, struct slice frame)
{
    struct ear *ear = connection->ear;
    struct ears *ears = ear->ears;
    struct client *client = ears->client;
    struct slice channel;
    if (is_message(frame, &channel)) {
        if (keyspace_is_channel(channel) && session_is_subscribed(&client->session))
            client_push(client, &connection->frame);
        return;
    }
    if (frame.bytes[0] == '>' && !is_notification(frame))
        return;
    if (frame.bytes[0] == '-')
        log_debug("client %llu: node %s: an ear is told %.*s", (unsigned long long)client->id, connection->backend->name,
                  (int)(frame.size < 100 ? frame.size - 2 : 98), frame.bytes);
    if (ear->owed > 0)
        ear->owed--;
    connection_done(connection);
    if (connection->state != CONNECTION_CLOSED)
        go_on(ears);
}

void ears_lost(struct connection *connection)
{
    struct ear *ear = connection->ear;
    connection->ear = NULL;
    ear->connection = NULL;
    ear->owed = 0;
    go_on(ear->ears);
}

void ears_refresh(struct upstream *upstream)
{
    if (upstream->with_ears == 0)
        return;
    for (struct client *client = upstream->worker->clients, *next; client; client = next) {
        next = client->next;
        if (!client->ears || client->upstream != upstream)
            continue;
        refresh(client->ears);
        go_on(client->ears);
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
    free(ears);
}

static bool is_wanted(struct slice name, int kind)
{
    return kind == CHANNELS ? keyspace_is_channel(name) : keyspace_may_match(name);
}

static struct ears *ears_of(struct client *client)
{
    if (client->ears)
        return client->ears;
    client->ears = calloc(1, sizeof *client->ears);
    if (client->ears) {
        client->ears->client = client;
        client->upstream->with_ears++;
    }
    return client->ears;
}

/* One ear at each master but the one where the client itself is subscribed. */
static void refresh(struct ears *ears)
{
    struct upstream *upstream = ears->client->upstream;
    const struct topology *topology = upstream->topology;
    for (struct ear *ear = ears->first, *next; ear; ear = next) {
        next = ear->next;
        if (!has_place(ears, ear))
            drop_ear(ears, ear);
    }
    for (uint32_t shard = 0; shard < topology->shard_count; shard++) {
        uint32_t master = topology->shards[shard].master;
        struct backend *backend = master == TOPOLOGY_NO_NODE ? NULL : upstream->by_node[master];
        bool is_home = ears->client->dedicated && ears->client->dedicated->backend == backend;
        if (!backend || is_home)
            continue;
        if (!ear_at(ears, backend))
            add_ear(ears, backend);
        struct ear *ear = ear_at(ears, backend);
        if (ear && !ear->connection && backend->load->is_usable)
            open_ear(ear, backend);
    }
}

static bool has_place(const struct ears *ears, const struct ear *ear)
{
    const struct upstream *upstream = ears->client->upstream;
    const struct connection *home = ears->client->dedicated;
    for (uint32_t shard = 0; shard < upstream->topology->shard_count; shard++) {
        uint32_t master = upstream->topology->shards[shard].master;
        if (master != TOPOLOGY_NO_NODE && upstream->by_node[master] == ear->backend)
            return !home || home->backend != ear->backend;
    }
    return false;
}

static struct ear *ear_at(const struct ears *ears, const struct backend *backend)
{
    struct ear *ear = ears->first;
    while (ear && ear->backend != backend)
        ear = ear->next;
    return ear;
}

static void add_ear(struct ears *ears, const struct backend *backend)
{
    struct ear *ear = calloc(1, sizeof *ear);
    if (!ear)
        return; /* the next refresh tries again */
    *ear = (struct ear){.next = ears->first, .ears = ears, .backend = backend};
    ears->first = ear;
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
    free(ear);
}

static void open_ear(struct ear *ear, struct backend *backend)
{
    struct ears *ears = ear->ears;
    struct connection *connection = backend_open_ear(backend, session_protocol(&ears->client->session));
    if (!connection) {
        if (!ears->is_short)
            log_warning("client %llu: node %s: no connection for keyspace notifications (pool.dedicated_connections?)",
                        (unsigned long long)ears->client->id, backend->name);
        ears->is_short = true;
        return;
    }
    ears->is_short = false;
    ear->connection = connection;
    connection->ear = ear;
    for (int kind = 0; kind < KINDS; kind++) {
        const struct subscription *name = subscriptions_next(&ears->names[kind], NULL);
        for (; name; name = subscriptions_next(&ears->names[kind], name))
            say(ear, words_of_kind[kind], subscription_name(name));
    }
}

/* One name at a time, so that each command has one reply. */
static void say(struct ear *ear, struct slice word, struct slice name)
{
    const struct slice words[] = {word, name};
    if (connection_ask(ear->connection, words, 2, QUESTION_NONE))
        ear->owed++;
}

static bool is_ready(const struct ears *ears)
{
    for (const struct ear *ear = ears->first; ear; ear = ear->next) {
        if (ear->connection && ear->owed > 0)
            return false;
    }
    return true;
}

static void go_on(struct ears *ears)
{
    struct client *client = ears->client;
    bool is_over = ears->waits_until_ms && client->worker->now_ms >= ears->waits_until_ms;
    if (client->stall != STALL_EARS || !(is_over || is_ready(ears)))
        return;
    client->stall = STALL_NONE;
    worker_resume_client(client->worker, client);
}

/* A confirmation, in RESP3 a push like the messages. */
static bool is_notification(struct slice frame)
{
    size_t position = 0;
    struct resp_value head, word;
    return resp_value_next(frame, &position, &head) && resp_value_next(frame, &position, &word) &&
           word.text.size >= 9 && memmem(word.text.bytes, word.text.size, "subscribe", 9);
}

static bool is_message(struct slice frame, struct slice *channel)
{
    size_t position = 0;
    struct resp_value head, word, first, second;
    if (!resp_value_next(frame, &position, &head) || head.integer < 3 || (head.type != '*' && head.type != '>') ||
        !resp_value_next(frame, &position, &word) || !resp_value_next(frame, &position, &first) ||
        !resp_value_next(frame, &position, &second))
        return false;
    *channel = slice_is(word.text, "pmessage") ? second.text : first.text;
    return slice_is(word.text, "message") || slice_is(word.text, "pmessage");
}
