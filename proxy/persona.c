/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/persona.h"

#include "proxy/worker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/sha.h>
#include <stdio.h>

/* What INFO and HELLO call us. */
static const struct {
    const char *mode, *role;
} words[PERSONA_COUNT] = {
    [PERSONA_PLAIN] = {"standalone", "master"},
    [PERSONA_CLUSTER] = {"cluster", "master"},
    [PERSONA_REPLICA] = {"standalone", "replica"},
    [PERSONA_SENTINEL] = {"sentinel", NULL},
};

/* How each reach into another database is refused. */
static const enum request_inspection refusals[] = {
    [REACH_NONE] = INSPECT_NOTHING,
    [REACH_MOVE] = INSPECT_NO_MOVE,
    [REACH_SWAPDB] = INSPECT_NO_SWAPDB,
    [REACH_COPY] = INSPECT_NO_COPY,
};

static void write_address(const struct sockaddr_storage *bound, struct persona_address *address);
static bool is_wildcard(const struct sockaddr_storage *bound);
static bool leaves_database(const struct client *client, const struct command_at_hand *at_hand);

void persona_reached(const struct client *client, struct persona_address *address)
{
    struct sockaddr_storage local = {0};
    socklen_t size = sizeof local;
    *address = (struct persona_address){.host = "127.0.0.1"};
    if (!client->is_unix && getsockname(client->io.fd, (struct sockaddr *)&local, &size) == 0)
        write_address(&local, address);
}

/* In numbers; an IPv4 address in the clothes of IPv6 is one of IPv4. */
static void write_address(const struct sockaddr_storage *bound, struct persona_address *address)
{
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)bound;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)bound;
    if (bound->ss_family == AF_INET) {
        inet_ntop(AF_INET, &ipv4->sin_addr, address->host, sizeof address->host);
        address->port = ntohs(ipv4->sin_port);
    } else if (bound->ss_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr))
            inet_ntop(AF_INET, &ipv6->sin6_addr.s6_addr[12], address->host, sizeof address->host);
        else
            inet_ntop(AF_INET6, &ipv6->sin6_addr, address->host, sizeof address->host);
        address->port = ntohs(ipv6->sin6_port);
    }
}

size_t persona_addresses(const struct client *client, enum persona persona, struct persona_address *addresses,
                         size_t room)
{
    const struct worker *worker = client->worker;
    struct persona_address own, each;
    size_t count = 0;
    persona_reached(client, &own);
    for (uint32_t i = 0; i < worker->listener_count; i++) {
        const struct listener *listener = &worker->listeners[i];
        if (listener->persona != persona || listener->is_unix)
            continue;
        write_address(&listener->bound, &each);
        if (is_wildcard(&listener->bound))
            memcpy(each.host, own.host, sizeof each.host);
        bool is_like_own = strcmp(each.host, own.host) == 0;
        if (is_like_own && count > 0 && room > 0 && strcmp(addresses[0].host, own.host) != 0) {
            struct persona_address before = addresses[0];
            addresses[0] = each;
            each = before;
        }
        if (count < room)
            addresses[count] = each;
        count++;
    }
    return count;
}

static bool is_wildcard(const struct sockaddr_storage *bound)
{
    if (bound->ss_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)bound)->sin6_addr);
    return ((const struct sockaddr_in *)bound)->sin_addr.s_addr == htonl(INADDR_ANY);
}

void persona_master(const struct client *client, struct persona_address *address)
{
    if (persona_addresses(client, PERSONA_PLAIN, address, 1) == 0 &&
        persona_addresses(client, PERSONA_CLUSTER, address, 1) == 0)
        persona_reached(client, address);
}

void persona_id(const char *kind, const struct persona_address *address, char id[PERSONA_ID_SIZE])
{
    char text[PERSONA_HOST_MAX + 64];
    unsigned char hash[SHA_DIGEST_LENGTH];
    int size = snprintf(text, sizeof text, "pointsman %s %s %u", kind, address->host, (unsigned)address->port);
    SHA1((const unsigned char *)text, (size_t)size, hash);
    for (size_t i = 0; i < sizeof hash; i++)
        snprintf(id + 2 * i, 3, "%02x", hash[i]);
}

const char *persona_mode(const struct client *client) { return words[client->persona].mode; }
const char *persona_role(const struct client *client) { return words[client->persona].role; }

enum request_inspection persona_bars(const struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    bool is_of_cluster = command->local == LOCAL_CLUSTER || command->local == LOCAL_SELECT;
    if (client->persona == PERSONA_REPLICA && command_is_write(command))
        return INSPECT_READONLY;
    if (client->persona == PERSONA_CLUSTER && client->session.in_multi && is_of_cluster)
        return INSPECT_BARRED;
    return client->persona == PERSONA_CLUSTER && leaves_database(client, at_hand) ? refusals[command->reach]
                                                                                  : INSPECT_NOTHING;
}

/* What would be out of reach there, since SELECT is refused. A node of a cluster says so itself; one that is subscribed to
 * in RESP2 refuses it for that. */
static bool leaves_database(const struct client *client, const struct command_at_hand *at_hand)
{
    return !client->upstream->topology->is_cluster && !session_is_confined(&client->session) &&
           command_reaches(at_hand->command, at_hand->words, at_hand->count);
}
