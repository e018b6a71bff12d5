/* SPDX-License-Identifier: BSD-2-Clause */
/* What a node of a Redis Cluster says of itself: a cluster of masters, which are proxy.peers or this address alone. */
#include "proxy/persona.h"

#include "proxy/handler.h"
#include "proxy/local.h"
#include "proxy/reply.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/number.h"
#include "routing/slot.h"

#include <stdio.h>
#include <stdlib.h>

enum { BUS_OFFSET = 10000 /* from a node's port to that of its bus, which we have not */ };

/* One node as it is told to a client. */
struct node {
    struct persona_address address;
    char id[PERSONA_ID_SIZE];
    uint32_t first_slot, last_slot;
};

static local_handler answer_slots, answer_shards, answer_nodes, answer_info, answer_my_id, answer_my_shard_id,
    answer_keyslot, answer_count_keys, answer_keys, answer_links, answer_replicas, answer_failure_reports, answer_help;

/* What each subcommand does; all others are unknown here. */
static const struct {
    const char *name;
    local_handler *answer;
} subcommands[] = {
    {"SLOTS", answer_slots},
    {"SHARDS", answer_shards},
    {"NODES", answer_nodes},
    {"INFO", answer_info},
    {"MYID", answer_my_id},
    {"MYSHARDID", answer_my_shard_id},
    {"KEYSLOT", answer_keyslot},
    {"COUNTKEYSINSLOT", answer_count_keys},
    {"GETKEYSINSLOT", answer_keys},
    {"LINKS", answer_links},
    {"REPLICAS", answer_replicas},
    {"SLAVES", answer_replicas},
    {"COUNT-FAILURE-REPORTS", answer_failure_reports},
    {"HELP", answer_help},
};

static const struct config_address_list *peers_of(const struct client *client);
static size_t node_count(const struct client *client);
static void read_node(const struct client *client, size_t index, struct node *node);
static size_t own_index(const struct client *client);
static void shard_id(const struct node *node, char id[PERSONA_ID_SIZE]);
static bool is_ip_address(const char *host);
static bool knows_node(const struct client *client, struct slice id);
static bool refuse_unknown_node(struct client *client, struct slice id);
static bool read_slot(struct client *client, struct slice word, int64_t *slot);
static bool ask_slot(struct client *client, const struct command_at_hand *at_hand, int64_t slot);

bool persona_cluster_answer(struct client *client, const struct command_at_hand *at_hand)
{
    if (at_hand->count == 1) { /* ASKING, READONLY, READWRITE: whatever stands behind, any slot is asked here */
        client_reply(client, SLICE("+OK\r\n"));
        return true;
    }
    struct slice word = at_hand->words[1];
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
        if (slice_is(word, subcommands[i].name))
            return subcommands[i].answer(client, at_hand);
    }
    client_reply_error(client, "-ERR unknown subcommand '%.*s'. Try CLUSTER HELP.",
                       (int)(word.size < 128 ? word.size : 128), word.bytes);
    return true;
}

/* ---- the nodes ---- */

static const struct config_address_list *peers_of(const struct client *client)
{
    return &client->worker->group->config->peers;
}

static size_t node_count(const struct client *client)
{
    size_t count = peers_of(client)->count;
    return count ? count : 1;
}

static void read_node(const struct client *client, size_t index, struct node *node)
{
    const struct config_address_list *peers = peers_of(client);
    size_t count = node_count(client);
    if (peers->count == 0) {
        persona_reached(client, &node->address);
    } else {
        node->address.port = peers->items[index].port;
        snprintf(node->address.host, sizeof node->address.host, "%s", peers->items[index].host);
    }
    persona_id("node", &node->address, node->id);
    node->first_slot = (uint32_t)(TOPOLOGY_SLOTS * index / count);
    node->last_slot = (uint32_t)(TOPOLOGY_SLOTS * (index + 1) / count - 1);
}

/* The one that the client is connected to. Where addresses are translated on the way it is taken for one that has the
 * same port, or for the first: nothing but redis-cli's --cluster looks for it. */
static size_t own_index(const struct client *client)
{
    const struct config_address_list *peers = peers_of(client);
    struct persona_address own;
    size_t like_own = 0;
    persona_reached(client, &own);
    for (size_t i = peers->count; i-- > 0;) {
        if (peers->items[i].port != own.port)
            continue;
        like_own = i;
        if (strcasecmp(peers->items[i].host, own.host) == 0)
            return i;
    }
    return like_own;
}

static void shard_id(const struct node *node, char id[PERSONA_ID_SIZE]) { persona_id("shard", &node->address, id); }

/* ---- subcommands ---- */

static bool answer_slots(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct reply reply;
    struct node node;
    reply_begin(&reply, client);
    reply_array(&reply, node_count(client));
    for (size_t i = 0; i < node_count(client); i++) {
        read_node(client, i, &node);
        reply_array(&reply, 3);
        reply_number(&reply, node.first_slot);
        reply_number(&reply, node.last_slot);
        reply_array(&reply, 4);
        reply_text(&reply, node.address.host);
        reply_number(&reply, node.address.port);
        reply_text(&reply, node.id);
        reply_map(&reply, 0);
    }
    reply_end(&reply);
    return true;
}

static bool answer_shards(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct reply reply;
    struct node node;
    reply_begin(&reply, client);
    reply_array(&reply, node_count(client));
    for (size_t i = 0; i < node_count(client); i++) {
        read_node(client, i, &node);
        bool has_name = !is_ip_address(node.address.host);
        reply_map(&reply, 2);
        reply_text(&reply, "slots");
        reply_array(&reply, 2);
        reply_number(&reply, node.first_slot);
        reply_number(&reply, node.last_slot);
        reply_text(&reply, "nodes");
        reply_array(&reply, 1);
        reply_map(&reply, has_name ? 8 : 7);
        reply_text(&reply, "id");
        reply_text(&reply, node.id);
        reply_text(&reply, "port");
        reply_number(&reply, node.address.port);
        reply_text(&reply, "ip");
        reply_text(&reply, node.address.host);
        reply_text(&reply, "endpoint");
        reply_text(&reply, node.address.host);
        if (has_name) {
            reply_text(&reply, "hostname");
            reply_text(&reply, node.address.host);
        }
        reply_text(&reply, "role");
        reply_text(&reply, "master");
        reply_text(&reply, "replication-offset");
        reply_number(&reply, 0);
        reply_text(&reply, "health");
        reply_text(&reply, "online");
    }
    reply_end(&reply);
    return true;
}

static bool is_ip_address(const char *host) { return strchr(host, ':') || host[strspn(host, "0123456789.")] == '\0'; }

static bool answer_nodes(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    char *text = NULL;
    size_t size = 0, own = own_index(client);
    struct node node;
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; out && i < node_count(client); i++) {
        read_node(client, i, &node);
        unsigned port = node.address.port, bus = port + BUS_OFFSET;
        fprintf(out, "%s %s:%u@%u%s%s %smaster - 0 0 %zu connected %u-%u\n", node.id, node.address.host, port,
                bus <= UINT16_MAX ? bus : port, is_ip_address(node.address.host) ? "" : ",",
                is_ip_address(node.address.host) ? "" : node.address.host, i == own ? "myself," : "", i + 1,
                node.first_slot, node.last_slot);
    }
    if (out && fclose(out) == 0)
        client_reply_text(client, (struct slice){text, size});
    else
        client_reply(client, error_reply(ERROR_MEMORY));
    free(text);
    return true;
}

static bool answer_info(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    char text[512];
    size_t count = node_count(client);
    int size = snprintf(text, sizeof text,
                        "cluster_state:ok\r\ncluster_slots_assigned:%d\r\ncluster_slots_ok:%d\r\n"
                        "cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:%zu\r\n"
                        "cluster_size:%zu\r\ncluster_current_epoch:%zu\r\ncluster_my_epoch:%zu\r\n"
                        "cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n"
                        "total_cluster_links_buffer_limit_exceeded:0\r\n",
                        TOPOLOGY_SLOTS, TOPOLOGY_SLOTS, count, count, count, own_index(client) + 1);
    client_reply_text(client, (struct slice){text, (size_t)size});
    return true;
}

static bool answer_my_id(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct reply reply;
    struct node node;
    read_node(client, own_index(client), &node);
    reply_begin(&reply, client);
    reply_text(&reply, node.id);
    reply_end(&reply);
    return true;
}

static bool answer_my_shard_id(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct reply reply;
    struct node node;
    char id[PERSONA_ID_SIZE];
    read_node(client, own_index(client), &node);
    shard_id(&node, id);
    reply_begin(&reply, client);
    reply_text(&reply, id);
    reply_end(&reply);
    return true;
}

static bool answer_keyslot(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    reply_begin(&reply, client);
    reply_number(&reply, slot_of(at_hand->words[2]));
    reply_end(&reply);
    return true;
}

static bool answer_count_keys(struct client *client, const struct command_at_hand *at_hand)
{
    int64_t slot;
    if (!read_slot(client, at_hand->words[2], &slot))
        return true;
    if (slot < 0 || slot >= TOPOLOGY_SLOTS) {
        client_reply_error(client, "-ERR Invalid slot");
        return true;
    }
    return ask_slot(client, at_hand, slot);
}

static bool answer_keys(struct client *client, const struct command_at_hand *at_hand)
{
    int64_t slot, most;
    if (!read_slot(client, at_hand->words[2], &slot) || !read_slot(client, at_hand->words[3], &most))
        return true;
    if (slot < 0 || slot >= TOPOLOGY_SLOTS || most < 0) {
        client_reply_error(client, "-ERR Invalid slot or number of keys");
        return true;
    }
    return ask_slot(client, at_hand, slot);
}

/* False if an error was replied. */
static bool read_slot(struct client *client, struct slice word, int64_t *slot)
{
    if (number_read(word, slot))
        return true;
    client_reply_error(client, "-ERR value is not an integer or out of range");
    return false;
}

/* A server that is no node of a Redis Cluster has no index of its keys by slot, and a number is not made up. */
static bool ask_slot(struct client *client, const struct command_at_hand *at_hand, int64_t slot)
{
    if (client->upstream->topology->is_cluster)
        return handler_ask_place(client, at_hand, (uint16_t)slot);
    client_reply(client, error_reply(ERROR_KEYS_IN_SLOT));
    return true;
}

/* Nodes of ours have no bus between them. */
static bool answer_links(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    client_reply(client, SLICE("*0\r\n"));
    return true;
}

static bool answer_replicas(struct client *client, const struct command_at_hand *at_hand)
{
    if (!knows_node(client, at_hand->words[2]))
        return refuse_unknown_node(client, at_hand->words[2]);
    client_reply(client, SLICE("*0\r\n"));
    return true;
}

static bool answer_failure_reports(struct client *client, const struct command_at_hand *at_hand)
{
    if (!knows_node(client, at_hand->words[2]))
        return refuse_unknown_node(client, at_hand->words[2]);
    client_reply(client, SLICE(":0\r\n"));
    return true;
}

static bool knows_node(const struct client *client, struct slice id)
{
    struct node node;
    for (size_t i = 0; i < node_count(client); i++) {
        read_node(client, i, &node);
        if (slice_equals(id, slice_of(node.id)))
            return true;
    }
    return false;
}

static bool refuse_unknown_node(struct client *client, struct slice id)
{
    client_reply_error(client, "-ERR Unknown node %.*s", (int)(id.size < 128 ? id.size : 128), id.bytes);
    return true;
}

static bool answer_help(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    static const char *const lines[] = {
        "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "COUNT-FAILURE-REPORTS <node-id>",
        "    Return number of failure reports for <node-id>.",
        "COUNTKEYSINSLOT <slot>",
        "    Return the number of keys in <slot>.",
        "GETKEYSINSLOT <slot> <count>",
        "    Return key names stored by current node in a slot.",
        "INFO",
        "    Return information about the cluster.",
        "KEYSLOT <key>",
        "    Return the hash slot for <key>.",
        "LINKS",
        "    Return information about all network links between this node and its peers.",
        "MYID",
        "    Return the node id.",
        "MYSHARDID",
        "    Return the node's shard id.",
        "NODES",
        "    Return cluster configuration seen by node. Output format:",
        "    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
        "REPLICAS <node-id>",
        "    Return <node-id> replicas.",
        "SHARDS",
        "    Return information about slot range mappings and the nodes associated with them.",
        "SLOTS",
        "    Return information about slots range mappings.",
        "HELP",
        "    Prints this help.",
    };
    struct reply reply;
    reply_begin(&reply, client);
    reply_array(&reply, sizeof lines / sizeof *lines);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        reply_line(&reply, lines[i]);
    reply_end(&reply);
    return true;
}
