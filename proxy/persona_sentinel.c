/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A Sentinel that watches one master, which is our plain address: that never changes and is never down, whatever
 * happens to the master behind it. Its replicas are our addresses `as replica`, other Sentinels our other addresses
 * `as sentinel`. Nothing is ever published, since nothing ever happens.
 */
#include "proxy/persona.h"

#include "proxy/local.h"
#include "proxy/reply.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    ADDRESSES_MAX = 64, /* of one persona that are told */
    DOWN_AFTER_MS = 30000,
    FAILOVER_TIMEOUT_MS = 180000,
    SUBCOMMANDS_MAX = 32, /* of one command */
};

/* A command, or one of SENTINEL's. */
struct row {
    const char *name, *full_name;
    int arity;
    local_handler *answer;
};

/* Of an instance; text is NULL where it is a number. */
struct field {
    const char *name, *text;
    int64_t number;
};

static local_handler answer_shared, answer_ping, answer_info, answer_role, answer_container, answer_subscribe,
    answer_unsubscribe, answer_publish, answer_shutdown, answer_commands, answer_command_count, answer_command_info,
    answer_command_list;
static local_handler answer_masters, answer_master, answer_replicas, answer_sentinels, answer_address, answer_quorum,
    answer_my_id, answer_is_down, answer_no_scripts, answer_help;

/* All that COMMAND lists; those of answer_shared are found in the command table. */
static const struct row commands[] = {
    {"HELLO", "hello", -1, answer_shared},
    {"AUTH", "auth", -2, answer_shared},
    {"COMMAND", "command", -1, answer_commands},
    {"PING", "ping", -1, answer_ping},
    {"INFO", "info", -1, answer_info},
    {"ROLE", "role", 1, answer_role},
    {"SENTINEL", "sentinel", -2, answer_container},
    {"CLIENT", "client", -2, answer_container},
    {"ACL", "acl", -2, answer_container},
    {"SUBSCRIBE", "subscribe", -2, answer_subscribe},
    {"PSUBSCRIBE", "psubscribe", -2, answer_subscribe},
    {"UNSUBSCRIBE", "unsubscribe", -1, answer_unsubscribe},
    {"PUNSUBSCRIBE", "punsubscribe", -1, answer_unsubscribe},
    {"PUBLISH", "publish", 3, answer_publish},
    {"SHUTDOWN", "shutdown", -1, answer_shutdown},
};

static const struct row subcommands[] = {
    {"MASTERS", "sentinel|masters", 2, answer_masters},
    {"MASTER", "sentinel|master", 3, answer_master},
    {"REPLICAS", "sentinel|replicas", 3, answer_replicas},
    {"SLAVES", "sentinel|slaves", 3, answer_replicas},
    {"SENTINELS", "sentinel|sentinels", 3, answer_sentinels},
    {"GET-MASTER-ADDR-BY-NAME", "sentinel|get-master-addr-by-name", 3, answer_address},
    {"CKQUORUM", "sentinel|ckquorum", 3, answer_quorum},
    {"MYID", "sentinel|myid", 2, answer_my_id},
    {"IS-MASTER-DOWN-BY-ADDR", "sentinel|is-master-down-by-addr", 6, answer_is_down},
    {"PENDING-SCRIPTS", "sentinel|pending-scripts", 2, answer_no_scripts},
    {"HELP", "sentinel|help", 2, answer_help},
};

static const struct row command_subcommands[] = {
    {"COUNT", "command|count", 2, answer_command_count},
    {"INFO", "command|info", -2, answer_command_info},
    {"LIST", "command|list", -2, answer_command_list},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What has subcommands of this persona. */
static const struct {
    const char *name;
    const struct row *rows;
    size_t count;
} containers[] = {
    {"SENTINEL", subcommands, COUNT(subcommands)},
    {"COMMAND", command_subcommands, COUNT(command_subcommands)},
};

static struct row row_of(const struct command_at_hand *at_hand);
static const struct row *find(const struct row *rows, size_t count, struct slice word);
static bool is_shared(const struct command *command);
static void reply_commands(struct reply *reply);
static void reply_row(struct reply *reply, const struct row *row);
static size_t subcommands_of(const struct row *row, struct row *found);
static const struct command *known_as(const char *full_name);
static bool find_listed(struct slice full_name, struct row *found);
static bool is_allowed_while_subscribed(const struct command_at_hand *at_hand);
static size_t master_count(const struct client *client);
static const char *master_name(const struct client *client, size_t index);
static bool is_master_name(const struct client *client, struct slice name);
static bool knows(struct client *client, struct slice name);
static size_t other_sentinels(const struct client *client, struct persona_address *others);
static size_t count_of(const struct client *client, enum persona persona);
static void reply_master(struct reply *reply, struct slice name);
static void reply_replica(struct reply *reply, const struct persona_address *address);
static void reply_sentinel(struct reply *reply, const struct persona_address *address);
static void reply_instance(struct reply *reply, const struct persona_address *address, struct slice name,
                           const char *flags, const struct field *fields, size_t count);
static void reply_fields(struct reply *reply, const struct field *fields, size_t count);
static int64_t uptime_ms(const struct client *client);
static bool wants(const struct command_at_hand *at_hand, const char *section);
static void write_server(FILE *out, const struct client *client);
static void write_clients(FILE *out, const struct client *client);
static void write_sentinel(FILE *out, const struct client *client);
static struct subscriptions *names_of(struct client *client, struct slice word);
static uint32_t subscription_count(const struct client *client);
static void confirm(struct reply *reply, struct slice word, const struct slice *name);

bool persona_sentinel_take(struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    struct row row = row_of(at_hand);
    if (!row.answer)
        return local_answer_unknown(client, at_hand);
    client->last_command = row.full_name;
    bool is_right = row.arity >= 0 ? at_hand->count == (size_t)row.arity : at_hand->count >= (size_t)-row.arity;
    if (!is_right)
        client_reply_error(client, "-ERR wrong number of arguments for '%s' command", row.full_name);
    else if (!client->is_authenticated && !(command && command->flags & COMMAND_WITHOUT_AUTH))
        client_reply_error(client, "-NOAUTH Authentication required.");
    else if (session_is_confined(&client->session) && !is_allowed_while_subscribed(at_hand))
        local_refuse_confined(client, row.full_name);
    else
        return row.answer(client, at_hand);
    return true;
}

/* What the command at hand comes to; one without an answer is unknown to a Sentinel. */
static struct row row_of(const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (command && is_shared(command))
        return (struct row){command->name, command->full_name, command->arity, answer_shared};
    const struct row *row = find(commands, COUNT(commands), at_hand->words[0]);
    if (!row)
        return (struct row){0};
    for (size_t i = 0; i < COUNT(containers) && at_hand->count > 1; i++) {
        if (!slice_is(at_hand->words[0], containers[i].name))
            continue;
        const struct row *sub = find(containers[i].rows, containers[i].count, at_hand->words[1]);
        return sub ? *sub : *row;
    }
    return *row;
}

static const struct row *find(const struct row *rows, size_t count, struct slice word)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_is(word, rows[i].name))
            return &rows[i];
    }
    return NULL;
}

/* What concerns the client's connection and nothing else is the same for all personas. */
static bool is_shared(const struct command *command)
{
    switch ((enum command_local)command->local) {
    case LOCAL_QUIT:
    case LOCAL_RESET:
    case LOCAL_AUTH:
    case LOCAL_HELLO:
    case LOCAL_HTTP:
    case LOCAL_CLIENT_ID:
    case LOCAL_CLIENT_SETNAME:
    case LOCAL_CLIENT_GETNAME:
    case LOCAL_CLIENT_SETINFO:
    case LOCAL_CLIENT_INFO:
    case LOCAL_CLIENT_LIST:
    case LOCAL_CLIENT_KILL:
    case LOCAL_CLIENT_NO_EVICT:
    case LOCAL_CLIENT_NO_TOUCH:
    case LOCAL_CLIENT_REPLY:
    case LOCAL_ACL_WHOAMI:
        return true;
    default:
        return false;
    }
}

static bool is_allowed_while_subscribed(const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    return command && (command->flags & COMMAND_WHILE_SUBSCRIBED || command->local == LOCAL_QUIT ||
                       command->local == LOCAL_RESET);
}

/* ---- commands ---- */

static bool answer_shared(struct client *client, const struct command_at_hand *at_hand)
{
    return local_answer(client, at_hand);
}

/* To a subscriber in RESP2 the answer looks like a message. */
static bool answer_ping(struct client *client, const struct command_at_hand *at_hand)
{
    if (!session_is_confined(&client->session) || at_hand->count > 2)
        return local_answer(client, at_hand);
    local_answer_confined_ping(client, at_hand);
    return true;
}

/* The word alone has no subcommand that is known here. */
static bool answer_container(struct client *client, const struct command_at_hand *at_hand)
{
    struct slice word = at_hand->words[1];
    client_reply_error(client, "-ERR unknown subcommand '%.*s'. Try %s HELP.",
                       (int)(word.size < 128 ? word.size : 128), word.bytes,
                       find(commands, COUNT(commands), at_hand->words[0])->name);
    return true;
}

static bool answer_role(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct reply reply;
    reply_begin(&reply, client);
    reply_array(&reply, 2);
    reply_text(&reply, "sentinel");
    reply_array(&reply, master_count(client));
    for (size_t i = 0; i < master_count(client); i++)
        reply_text(&reply, master_name(client, i));
    reply_end(&reply);
    return true;
}

static bool answer_publish(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    client_reply_error(client, "-ERR Only HELLO messages are accepted by Sentinel instances.");
    return true;
}

static bool answer_shutdown(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    client_reply(client, error_reply(ERROR_DANGEROUS));
    return true;
}

/* ---- COMMAND: of what is answered here, and of nothing else ---- */

static bool answer_commands(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    if (at_hand->count > 1)
        return answer_container(client, at_hand);
    reply_begin(&reply, client);
    reply_commands(&reply);
    reply_end(&reply);
    return true;
}

static void reply_commands(struct reply *reply)
{
    reply_array(reply, COUNT(commands));
    for (size_t i = 0; i < COUNT(commands); i++)
        reply_row(reply, &commands[i]);
}

static bool answer_command_count(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct reply reply;
    reply_begin(&reply, client);
    reply_number(&reply, COUNT(commands));
    reply_end(&reply);
    return true;
}

static bool answer_command_info(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    struct row row;
    reply_begin(&reply, client);
    if (at_hand->count == 2)
        reply_commands(&reply);
    else
        reply_array(&reply, at_hand->count - 2);
    for (size_t i = 2; i < at_hand->count; i++) {
        if (find_listed(at_hand->words[i], &row))
            reply_row(&reply, &row);
        else
            reply_null(&reply);
    }
    reply_end(&reply);
    return true;
}

static bool answer_command_list(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    struct row found[SUBCOMMANDS_MAX];
    size_t count = COUNT(commands);
    if (at_hand->count > 2) { /* FILTERBY is not known here */
        client_reply_error(client, "-ERR syntax error");
        return true;
    }
    for (size_t i = 0; i < COUNT(commands); i++)
        count += subcommands_of(&commands[i], found);
    reply_begin(&reply, client);
    reply_array(&reply, count);
    for (size_t i = 0; i < COUNT(commands); i++) {
        reply_text(&reply, commands[i].full_name);
        size_t subs = subcommands_of(&commands[i], found);
        for (size_t k = 0; k < subs; k++)
            reply_text(&reply, found[k].full_name);
    }
    reply_end(&reply);
    return true;
}

/* Name, arity, flags, first, last and step of keys, categories, tips, keys, subcommands. There are no keys, and tips are for
 * clients of a cluster. What is SENTINEL's own, the command table does not have. */
static void reply_row(struct reply *reply, const struct row *row)
{
    struct row found[SUBCOMMANDS_MAX];
    size_t count = subcommands_of(row, found);
    const struct command *known = known_as(row->full_name);
    const char *flags = known->redis_flags, *categories = known->categories;
    if (row->answer == answer_help) {
        flags = "loading stale";
        categories = "@slow";
    } else if (known->local == LOCAL_UNKNOWN) {
        flags = "admin";
        categories = "@admin @slow @dangerous";
    }
    reply_array(reply, 10);
    reply_text(reply, row->full_name);
    reply_number(reply, row->arity);
    reply_words(reply, flags);
    for (int i = 0; i < 3; i++)
        reply_number(reply, 0);
    reply_words(reply, categories);
    reply_set(reply, 0);
    reply_set(reply, 0);
    if (count > 0)
        reply_array(reply, count);
    else
        reply_set(reply, 0);
    for (size_t i = 0; i < count; i++)
        reply_row(reply, &found[i]);
}

/* found has room for SUBCOMMANDS_MAX. */
static size_t subcommands_of(const struct row *row, struct row *found)
{
    const struct command *known = known_as(row->full_name);
    size_t count = 0;
    for (size_t i = 0; i < COUNT(containers); i++) {
        if (!slice_is(slice_of(row->full_name), containers[i].name))
            continue;
        memcpy(found, containers[i].rows, containers[i].count * sizeof *found);
        return containers[i].count;
    }
    for (size_t i = 0; i < known->subcommand_count && count < SUBCOMMANDS_MAX; i++) {
        const struct command *sub = &known->subcommands[i];
        if (is_shared(sub))
            found[count++] = (struct row){sub->name, sub->full_name, sub->arity, answer_shared};
    }
    return count;
}

/* The row of the command table; that of SENTINEL for all that is SENTINEL's. */
static const struct command *known_as(const char *full_name)
{
    size_t size = strcspn(full_name, "|");
    bool is_subcommand = full_name[size] == '|';
    const struct slice words[] = {{full_name, size}, slice_of(full_name + size + is_subcommand)};
    return command_find(command_set_builtin(), words, is_subcommand ? 2 : 1);
}

static bool find_listed(struct slice full_name, struct row *found)
{
    struct row subs[SUBCOMMANDS_MAX];
    for (size_t i = 0; i < COUNT(commands); i++) {
        *found = commands[i];
        if (slice_is(full_name, found->full_name))
            return true;
        size_t count = subcommands_of(&commands[i], subs);
        for (size_t k = 0; k < count; k++) {
            *found = subs[k];
            if (slice_is(full_name, found->full_name))
                return true;
        }
    }
    return false;
}

/* ---- subscriptions ---- */

static bool answer_subscribe(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    struct subscriptions *names = names_of(client, at_hand->words[0]);
    bool is_kept = true;
    reply_begin(&reply, client);
    for (size_t i = 1; i < at_hand->count; i++) {
        is_kept &= subscriptions_add(names, at_hand->words[i]);
        confirm(&reply, at_hand->words[0], &at_hand->words[i]);
    }
    reply_end(&reply);
    if (is_kept)
        client_limit_subscriptions(client);
    else
        client_close(client, "out of memory");
    return true;
}

static bool answer_unsubscribe(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    struct subscriptions *names = names_of(client, at_hand->words[0]);
    bool undoes_all = at_hand->count == 1;
    reply_begin(&reply, client);
    for (size_t i = 1; i < at_hand->count; i++) {
        subscriptions_remove(names, at_hand->words[i]);
        confirm(&reply, at_hand->words[0], &at_hand->words[i]);
    }
    if (undoes_all && subscriptions_are_none(names))
        confirm(&reply, at_hand->words[0], NULL);
    while (undoes_all && !subscriptions_are_none(names)) {
        struct slice name = subscription_name(subscriptions_next(names, NULL));
        char *copy = malloc(name.size ? name.size : 1);
        if (!copy)
            break;
        struct slice kept = {memcpy(copy, name.bytes, name.size), name.size};
        subscriptions_remove(names, kept);
        confirm(&reply, at_hand->words[0], &kept);
        free(copy);
    }
    reply_end(&reply);
    return true;
}

static struct subscriptions *names_of(struct client *client, struct slice word)
{
    return &client->session.subscriptions[session_kind_of(word)];
}

static uint32_t subscription_count(const struct client *client)
{
    const struct subscriptions *names = client->session.subscriptions;
    return subscriptions_count(&names[SESSION_CHANNELS]) + subscriptions_count(&names[SESSION_PATTERNS]);
}

/* [subscribe, name, number of subscriptions]; name is NULL if there is none to undo. */
static void confirm(struct reply *reply, struct slice word, const struct slice *name)
{
    reply_push(reply, 3);
    reply_text(reply, find(commands, COUNT(commands), word)->full_name);
    if (name)
        reply_bulk(reply, *name);
    else
        reply_null(reply);
    reply_number(reply, subscription_count(reply->client));
}

/* ---- SENTINEL ---- */

static size_t master_count(const struct client *client)
{
    size_t count = client->upstream->config->master_names.count;
    return count ? count : 1;
}

/* Several masters that are one keyspace behind us are, each by its name, the one address that leads to all of it. */
static const char *master_name(const struct client *client, size_t index)
{
    const struct config_name_list *names = &client->upstream->config->master_names;
    return names->count ? names->items[index] : "mymaster";
}

static bool is_master_name(const struct client *client, struct slice name)
{
    for (size_t i = 0; i < master_count(client); i++) {
        if (slice_equals(name, slice_of(master_name(client, i))))
            return true;
    }
    return false;
}

/* False if an error was replied. */
static bool knows(struct client *client, struct slice name)
{
    if (is_master_name(client, name))
        return true;
    client_reply_error(client, "-ERR No such master with that name");
    return false;
}

static bool answer_address(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    struct persona_address master;
    char port[8];
    persona_master(client, &master);
    snprintf(port, sizeof port, "%u", (unsigned)master.port);
    reply_begin(&reply, client);
    if (is_master_name(client, at_hand->words[2])) {
        reply_array(&reply, 2);
        reply_text(&reply, master.host);
        reply_text(&reply, port);
    } else {
        reply_null_array(&reply);
    }
    reply_end(&reply);
    return true;
}

static bool answer_masters(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct reply reply;
    reply_begin(&reply, client);
    reply_array(&reply, master_count(client));
    for (size_t i = 0; i < master_count(client); i++)
        reply_master(&reply, slice_of(master_name(client, i)));
    reply_end(&reply);
    return true;
}

static bool answer_master(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    if (!knows(client, at_hand->words[2]))
        return true;
    reply_begin(&reply, client);
    reply_master(&reply, at_hand->words[2]);
    reply_end(&reply);
    return true;
}

static bool answer_replicas(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    struct persona_address replicas[ADDRESSES_MAX];
    if (!knows(client, at_hand->words[2]))
        return true;
    size_t count = persona_addresses(client, PERSONA_REPLICA, replicas, ADDRESSES_MAX);
    count = count < ADDRESSES_MAX ? count : ADDRESSES_MAX;
    reply_begin(&reply, client);
    reply_array(&reply, count);
    for (size_t i = 0; i < count; i++)
        reply_replica(&reply, &replicas[i]);
    reply_end(&reply);
    return true;
}

static bool answer_sentinels(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    struct persona_address others[ADDRESSES_MAX];
    if (!knows(client, at_hand->words[2]))
        return true;
    size_t count = other_sentinels(client, others);
    reply_begin(&reply, client);
    reply_array(&reply, count);
    for (size_t i = 0; i < count; i++)
        reply_sentinel(&reply, &others[i]);
    reply_end(&reply);
    return true;
}

/* Our addresses `as sentinel` but the one that the client is connected to; others has room for ADDRESSES_MAX. */
static size_t other_sentinels(const struct client *client, struct persona_address *others)
{
    struct persona_address own;
    size_t count = persona_addresses(client, PERSONA_SENTINEL, others, ADDRESSES_MAX), kept = 0;
    persona_reached(client, &own);
    for (size_t i = 0; i < count && i < ADDRESSES_MAX; i++) {
        if (others[i].port != own.port || strcmp(others[i].host, own.host) != 0)
            others[kept++] = others[i];
    }
    return kept;
}

static size_t count_of(const struct client *client, enum persona persona)
{
    struct persona_address addresses[ADDRESSES_MAX];
    if (persona == PERSONA_SENTINEL)
        return other_sentinels(client, addresses);
    size_t count = persona_addresses(client, persona, addresses, ADDRESSES_MAX);
    return count < ADDRESSES_MAX ? count : ADDRESSES_MAX;
}

static bool answer_quorum(struct client *client, const struct command_at_hand *at_hand)
{
    char text[128];
    if (!knows(client, at_hand->words[2]))
        return true;
    int size = snprintf(text, sizeof text,
                        "+OK %zu usable Sentinels. Quorum and failover authorization can be reached\r\n",
                        count_of(client, PERSONA_SENTINEL) + 1);
    client_reply(client, (struct slice){text, (size_t)size});
    return true;
}

static bool answer_my_id(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct reply reply;
    struct persona_address own;
    char id[PERSONA_ID_SIZE];
    persona_reached(client, &own);
    persona_id("sentinel", &own, id);
    reply_begin(&reply, client);
    reply_text(&reply, id);
    reply_end(&reply);
    return true;
}

/* Nothing is down, and nobody is elected. */
static bool answer_is_down(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    client_reply(client, SLICE("*3\r\n:0\r\n$1\r\n*\r\n:0\r\n"));
    return true;
}

static bool answer_no_scripts(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    client_reply(client, SLICE("*0\r\n"));
    return true;
}

static bool answer_help(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    static const char *const lines[] = {
        "SENTINEL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CKQUORUM <master-name>",
        "    Check if the current Sentinel configuration is able to reach the quorum",
        "    needed to failover a master and the majority needed to authorize the",
        "    failover.",
        "GET-MASTER-ADDR-BY-NAME <master-name>",
        "    Return the ip and port number of the master with that name.",
        "IS-MASTER-DOWN-BY-ADDR <ip> <port> <current-epoch> <runid>",
        "    Check if the master specified by ip:port is down from current Sentinel's",
        "    point of view.",
        "MASTER <master-name>",
        "    Show the state and info of the specified master.",
        "MASTERS",
        "    Show a list of monitored masters and their state.",
        "MYID",
        "    Return the ID of the Sentinel instance.",
        "PENDING-SCRIPTS",
        "    Get pending scripts information.",
        "REPLICAS <master-name>",
        "    Show a list of replicas for this master and their state.",
        "SENTINELS <master-name>",
        "    Show a list of Sentinel instances for this master and their state.",
        "HELP",
        "    Prints this help.",
    };
    struct reply reply;
    reply_begin(&reply, client);
    reply_array(&reply, COUNT(lines));
    for (size_t i = 0; i < COUNT(lines); i++)
        reply_line(&reply, lines[i]);
    reply_end(&reply);
    return true;
}

/* ---- instances, field by field as Redis 7 has them; all values are text ---- */

static void reply_master(struct reply *reply, struct slice name)
{
    struct client *client = reply->client;
    struct persona_address address;
    size_t others = count_of(client, PERSONA_SENTINEL);
    persona_master(client, &address);
    const struct field fields[] = {
        {"info-refresh", NULL, 0},
        {"role-reported", "master", 0},
        {"role-reported-time", NULL, uptime_ms(client)},
        {"config-epoch", NULL, 0},
        {"num-slaves", NULL, (int64_t)count_of(client, PERSONA_REPLICA)},
        {"num-other-sentinels", NULL, (int64_t)others},
        {"quorum", NULL, (int64_t)(others + 1) / 2 + 1},
        {"failover-timeout", NULL, FAILOVER_TIMEOUT_MS},
        {"parallel-syncs", NULL, 1},
    };
    reply_instance(reply, &address, name, "master", fields, COUNT(fields));
}

static void reply_replica(struct reply *reply, const struct persona_address *address)
{
    struct persona_address master;
    char name[PERSONA_HOST_MAX + 8];
    snprintf(name, sizeof name, strchr(address->host, ':') ? "[%s]:%u" : "%s:%u", address->host,
             (unsigned)address->port);
    persona_master(reply->client, &master);
    const struct field fields[] = {
        {"info-refresh", NULL, 0},
        {"role-reported", "slave", 0},
        {"role-reported-time", NULL, uptime_ms(reply->client)},
        {"master-link-down-time", NULL, 0},
        {"master-link-status", "ok", 0},
        {"master-host", master.host, 0},
        {"master-port", NULL, master.port},
        {"slave-priority", NULL, 100},
        {"slave-repl-offset", NULL, 0},
        {"replica-announced", NULL, 1},
    };
    reply_instance(reply, address, slice_of(name), "slave", fields, COUNT(fields));
}

static void reply_sentinel(struct reply *reply, const struct persona_address *address)
{
    char id[PERSONA_ID_SIZE];
    const struct field fields[] = {
        {"last-hello-message", NULL, 0},
        {"voted-leader", "?", 0},
        {"voted-leader-epoch", NULL, 0},
    };
    persona_id("sentinel", address, id);
    reply_instance(reply, address, slice_of(id), "sentinel", fields, COUNT(fields));
}

/* What all kinds of instances have, then those fields. */
static void reply_instance(struct reply *reply, const struct persona_address *address, struct slice name,
                           const char *flags, const struct field *fields, size_t count)
{
    char id[PERSONA_ID_SIZE];
    persona_id(flags, address, id);
    const struct field common[] = {
        {"ip", address->host, 0},
        {"port", NULL, address->port},
        {"runid", id, 0},
        {"flags", flags, 0},
        {"link-pending-commands", NULL, 0},
        {"link-refcount", NULL, 1},
        {"last-ping-sent", NULL, 0},
        {"last-ok-ping-reply", NULL, 0},
        {"last-ping-reply", NULL, 0},
        {"down-after-milliseconds", NULL, DOWN_AFTER_MS},
    };
    reply_map(reply, 1 + COUNT(common) + count);
    reply_text(reply, "name");
    reply_bulk(reply, name);
    reply_fields(reply, common, COUNT(common));
    reply_fields(reply, fields, count);
}

static void reply_fields(struct reply *reply, const struct field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char number[24];
        snprintf(number, sizeof number, "%" PRId64, fields[i].number);
        reply_text(reply, fields[i].name);
        reply_text(reply, fields[i].text ? fields[i].text : number);
    }
}

static int64_t uptime_ms(const struct client *client)
{
    return (int64_t)(client->worker->now_ms - client->worker->group->started_us / 1000);
}

/* ---- INFO ---- */

static bool answer_info(struct client *client, const struct command_at_hand *at_hand)
{
    static const struct {
        const char *name;
        void (*write)(FILE *out, const struct client *client);
    } sections[] = {{"server", write_server}, {"clients", write_clients}, {"sentinel", write_sentinel}};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; out && i < COUNT(sections); i++) {
        if (!wants(at_hand, sections[i].name))
            continue;
        if (ftell(out) > 0)
            fputs("\r\n", out);
        sections[i].write(out, client);
    }
    if (out && fclose(out) == 0) {
        struct reply reply;
        reply_begin(&reply, client);
        reply_bulk(&reply, (struct slice){text, size}); /* in RESP3, too, unlike Redis itself */
        reply_end(&reply);
    } else {
        client_reply(client, error_reply(ERROR_MEMORY));
    }
    free(text);
    return true;
}

static bool wants(const struct command_at_hand *at_hand, const char *section)
{
    static const char *const all[] = {"all", "default", "everything"};
    bool is_wanted = at_hand->count == 1;
    for (size_t i = 1; i < at_hand->count; i++) {
        is_wanted |= slice_is(at_hand->words[i], section);
        for (size_t k = 0; k < COUNT(all); k++)
            is_wanted |= slice_is(at_hand->words[i], all[k]);
    }
    return is_wanted;
}

static void write_server(FILE *out, const struct client *client)
{
    const char *version = client->upstream->topology->server_version;
    struct persona_address own;
    char id[PERSONA_ID_SIZE];
    int64_t uptime_s = uptime_ms(client) / 1000;
    persona_reached(client, &own);
    persona_id("sentinel", &own, id);
    fprintf(out, "# Server\r\nredis_version:%s\r\nredis_mode:%s\r\nprocess_id:%ld\r\nrun_id:%s\r\ntcp_port:%u\r\n",
            version[0] ? version : "7.0.0", persona_mode(client), (long)getpid(), id, (unsigned)own.port);
    fprintf(out, "uptime_in_seconds:%" PRId64 "\r\nuptime_in_days:%" PRId64 "\r\n", uptime_s, uptime_s / 86400);
}

static void write_clients(FILE *out, const struct client *client)
{
    const struct worker_group *group = client->worker->group;
    fprintf(out, "# Clients\r\nconnected_clients:%u\r\nmaxclients:%u\r\n",
            atomic_load_explicit(&group->client_count, memory_order_relaxed), group->max_clients);
}

static void write_sentinel(FILE *out, const struct client *client)
{
    struct persona_address master;
    persona_master(client, &master);
    fprintf(out,
            "# Sentinel\r\nsentinel_masters:%zu\r\nsentinel_tilt:0\r\nsentinel_tilt_since_seconds:-1\r\n"
            "sentinel_running_scripts:0\r\nsentinel_scripts_queue_length:0\r\nsentinel_simulate_failure_flags:0\r\n",
            master_count(client));
    bool is_ipv6 = strchr(master.host, ':') != NULL;
    for (size_t i = 0; i < master_count(client); i++)
        fprintf(out, "master%zu:name=%s,status=ok,address=%s%s%s:%u,slaves=%zu,sentinels=%zu\r\n", i,
                master_name(client, i), is_ipv6 ? "[" : "", master.host, is_ipv6 ? "]" : "", (unsigned)master.port,
                count_of(client, PERSONA_REPLICA), count_of(client, PERSONA_SENTINEL) + 1);
}
