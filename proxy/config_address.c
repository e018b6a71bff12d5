/* SPDX-License-Identifier: BSD-2-Clause */
/* Lists of addresses and maps between them. */
#include "proxy/config_key.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { HOST_MAX = 253 };

static bool set_addresses(const struct config_key *key, const char *text, void *field,
                          struct config_wrong *wrong);
static bool set_mappings(const struct config_key *key, const char *text, void *field,
                         struct config_wrong *wrong);
static void release_addresses(void *field);
static void release_mappings(void *field);

const struct config_type config_addresses = {
    .noun = "addresses",
    .syntax = "host:port, [IPv6 address]:port or unix:/path, several separated by commas",
    .set = set_addresses,
    .release = release_addresses,
};
const struct config_type config_listen_addresses = {
    .noun = "listeners",
    .syntax = "host:port, [IPv6 address]:port or unix:/path, each perhaps with as plain, as cluster, as replica or as "
              "sentinel behind it, several separated by commas",
    .set = set_addresses,
    .release = release_addresses,
};
const struct config_type config_mappings = {
    .noun = "address map",
    .syntax = "announced:port = reachable:port, several separated by commas",
    .set = set_mappings,
    .release = release_mappings,
};

const char *const config_personas[] = {"plain", "cluster", "replica", "sentinel", NULL}; /* enum persona */

static const char TERMS[] = "write host:port, [IPv6 address]:port or unix:/path";

static char *copy_trimmed(const char *begin, const char *end)
{
    while (begin < end && isblank((unsigned char)*begin))
        begin++;
    while (end > begin && isblank((unsigned char)end[-1]))
        end--;
    return config_copy_range(begin, end);
}

static bool is_ipv4_shaped(const char *host)
{
    return host[strspn(host, "0123456789.")] == '\0';
}

static bool is_host_name(const char *host)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    return *host != '\0' && *host != '-' && *host != '.' && strlen(host) <= HOST_MAX &&
           host[strspn(host, letters)] == '\0';
}

static bool is_ipv6(const char *host)
{
    struct in6_addr address;
    char bare[INET6_ADDRSTRLEN];
    size_t size = strcspn(host, "%"); /* a zone may follow: fe80::1%eth0 */
    if (size >= sizeof bare || (host[size] == '%' && !is_host_name(host + size + 1))) return false;
    memcpy(bare, host, size);
    bare[size] = '\0';
    return inet_pton(AF_INET6, bare, &address) == 1;
}

static bool read_port(const char *text, uint16_t *port)
{
    int64_t number;
    const char *rest;
    if (!config_read_digits(text, &number, &rest) || *rest != '\0' || number < 1 || number > UINT16_MAX)
        return false;
    *port = (uint16_t)number;
    return true;
}

static bool read_unix(const char *text, struct config_address *address, struct config_wrong *wrong)
{
    const char *path = text + strlen("unix:");
    if (*path != '/')
        return config_say_bad(wrong, text, "is not a socket's path", "write unix:/path, from the root");
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return config_say_bad(wrong, text, "is too long for a socket's path", "107 bytes are allowed");
    if (strpbrk(path, ";#"))
        return config_say_bad(wrong, text, "is not a socket's path", "; and # are not allowed in it");
    *address = (struct config_address){.host = config_copy(path), .port = 0};
    return true;
}

/* [::1]:6380 */
static bool read_bracketed(const char *text, struct config_address *address, struct config_wrong *wrong)
{
    const char *close = strchr(text, ']');
    if (!close) return config_say_bad(wrong, text, "has no ]", "write [::1]:6379");
    char *host = config_copy_range(text + 1, close);
    uint16_t port;
    bool is_good = false;
    if (!is_ipv6(host))
        config_say_bad(wrong, text, "has no IPv6 address between [ and ]", TERMS);
    else if (close[1] != ':')
        config_say_bad(wrong, text, "has no port", "write [::1]:6379");
    else if (!read_port(close + 2, &port))
        config_say_bad(wrong, text, "has no good port", "a port is a number from 1 to 65535");
    else
        is_good = true;
    if (is_good)
        *address = (struct config_address){.host = host, .port = port};
    else
        free(host);
    return is_good;
}

/* Says what is wrong with the host of text, or returns true. */
static bool check_host(const char *text, const char *host, bool is_listen, struct config_wrong *wrong)
{
    struct in_addr ipv4;
    if (*host == '\0') {
        if (is_listen) return true;
        return config_say_bad(wrong, text, "has no host", "write host:port, for instance 127.0.0.1:6379");
    }
    if (is_ipv4_shaped(host) && inet_pton(AF_INET, host, &ipv4) != 1)
        return config_say_bad(wrong, text, "has no good IPv4 address",
                              "it has four numbers up to 255: 10.0.0.1");
    if (!is_host_name(host)) return config_say_bad(wrong, text, "is not an address", TERMS);
    return true;
}

static bool read_address(const char *text, bool is_listen, struct config_address *address,
                         struct config_wrong *wrong)
{
    if (strncmp(text, "unix:", 5) == 0) return read_unix(text, address, wrong);
    if (*text == '[') return read_bracketed(text, address, wrong);
    if (*text == '/')
        return config_say_bad(wrong, text, "is not an address", "a socket's path is written unix:/path");
    if (text[strcspn(text, " \t")] != '\0')
        return config_say_bad(wrong, text, "has a blank in it",
                              is_listen ? "several addresses are separated by commas, and what one is taken for stands "
                                          "behind as: 127.0.0.1:7000 as cluster"
                                        : "several addresses are separated by commas");

    const char *colon = strrchr(text, ':');
    if (colon && strchr(text, ':') != colon)
        return config_say_bad(wrong, text, "is not an address",
                              "an IPv6 address stands in brackets: [::1]:6379");
    if (!colon)
        return config_say_bad(wrong, text, "has no port",
                              is_listen ? "write host:port, for instance 127.0.0.1:6380"
                                        : "add it: Redis listens mostly on :6379, Sentinel on :26379");
    uint16_t port;
    if (!read_port(colon + 1, &port))
        return config_say_bad(wrong, text, "has no good port", "a port is a number from 1 to 65535");
    char *host = config_copy_range(text, colon);
    if (is_listen && strcmp(host, "*") == 0) *host = '\0';
    if (!check_host(text, host, is_listen, wrong)) {
        free(host);
        return false;
    }
    *address = (struct config_address){.host = host, .port = port};
    return true;
}

char *config_next_item(const char **rest)
{
    if (!*rest) return NULL;
    const char *begin = *rest, *comma = strchr(begin, ',');
    *rest = comma ? comma + 1 : NULL;
    return copy_trimmed(begin, comma ? comma : begin + strlen(begin));
}

static bool is_empty(const char *text)
{
    return text[strspn(text, " \t")] == '\0';
}

static bool read_persona(const char *word, uint8_t *persona, struct config_wrong *wrong)
{
    static const char choices[] = "plain, cluster, replica or sentinel";
    struct config_guess guess;
    config_guess_begin(&guess, word);
    for (uint8_t i = 0; config_personas[i]; i++) {
        *persona = i;
        if (strcmp(config_personas[i], word) == 0) return true;
        config_guess_offer(&guess, config_personas[i]);
    }
    char right[256];
    if (config_guess_end(&guess))
        snprintf(right, sizeof right, "did you mean %s? It is one of %s", config_guess_end(&guess), choices);
    else
        snprintf(right, sizeof right, "write %s behind as", choices);
    return config_say_bad(wrong, word, "is nothing that an address can be taken for", right);
}

static bool check_persona(const char *text, const struct config_address *address, struct config_wrong *wrong)
{
    bool is_named = address->persona == PERSONA_CLUSTER || address->persona == PERSONA_SENTINEL;
    if (is_named && config_address_is_unix(address))
        return config_say_bad(wrong, text, "is no address of a Cluster or a Sentinel", "those have a host and a port");
    return true;
}

/* "127.0.0.1:7000 as cluster" */
static bool read_listen(const char *text, struct config_address *address, struct config_wrong *wrong)
{
    const char *end = text + strlen(text), *word = end, *before;
    while (word > text && !isblank((unsigned char)word[-1]))
        word--;
    for (before = word; before > text && isblank((unsigned char)before[-1]);)
        before--;
    bool has_persona = before - text > 2 && strncmp(before - 2, "as", 2) == 0 && isblank((unsigned char)before[-3]);
    if (!has_persona) return read_address(text, true, address, wrong);

    uint8_t persona;
    if (!read_persona(word, &persona, wrong)) return false;
    char *bare = copy_trimmed(text, before - 2);
    bool is_good = read_address(bare, true, address, wrong);
    free(bare);
    if (!is_good) return false;
    address->persona = persona;
    if (check_persona(text, address, wrong)) return true;
    free(address->host);
    return false;
}

static bool append_address(struct config_address_list *list, const char *item, bool is_listen,
                           struct config_wrong *wrong)
{
    struct config_address address;
    if (list->count == CONFIG_ADDRESSES_MAX)
        return config_say(wrong, "has more than %d entries", CONFIG_ADDRESSES_MAX);
    if (*item == '\0') return config_say(wrong, "has a comma with no address beside it; remove the comma");
    if (!(is_listen ? read_listen(item, &address, wrong) : read_address(item, false, &address, wrong))) return false;
    list->items = config_resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = address;
    return true;
}

static bool set_addresses(const struct config_key *key, const char *text, void *field,
                          struct config_wrong *wrong)
{
    struct config_address_list list = {NULL, 0};
    bool is_good = true;
    const char *rest = is_empty(text) ? NULL : text;
    for (char *item; is_good && (item = config_next_item(&rest)) != NULL; free(item))
        is_good = append_address(&list, item, key->is_listen, wrong);
    if (!is_good) {
        release_addresses(&list);
        return false;
    }
    release_addresses(field);
    memcpy(field, &list, sizeof list);
    return true;
}

static void release_addresses(void *field)
{
    struct config_address_list *list = field;
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i].host);
    free(list->items);
    *list = (struct config_address_list){NULL, 0};
}

static bool read_mapped(const char *begin, const char *end, struct config_address *address,
                        struct config_wrong *wrong)
{
    char *text = copy_trimmed(begin, end);
    bool is_good = read_address(text, false, address, wrong);
    if (is_good && config_address_is_unix(address)) {
        free(address->host);
        is_good = config_say_bad(wrong, text, "cannot be mapped", "only addresses with a port can");
    }
    free(text);
    return is_good;
}

static bool append_mapping(struct config_mapping_list *list, const char *item, struct config_wrong *wrong)
{
    struct config_mapping mapping;
    if (list->count == CONFIG_ADDRESSES_MAX)
        return config_say(wrong, "has more than %d entries", CONFIG_ADDRESSES_MAX);
    if (*item == '\0') return config_say(wrong, "has a comma with no mapping beside it; remove the comma");
    const char *equals = strchr(item, '=');
    if (!equals)
        return config_say_bad(wrong, item, "has no second address", "write announced:port = reachable:port");
    if (!read_mapped(item, equals, &mapping.from, wrong)) return false;
    if (!read_mapped(equals + 1, item + strlen(item), &mapping.to, wrong)) {
        free(mapping.from.host);
        return false;
    }
    list->items = config_resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = mapping;
    return true;
}

static bool set_mappings(const struct config_key *key, const char *text, void *field,
                         struct config_wrong *wrong)
{
    (void)key;
    struct config_mapping_list list = {NULL, 0};
    bool is_good = true;
    const char *rest = is_empty(text) ? NULL : text;
    for (char *item; is_good && (item = config_next_item(&rest)) != NULL; free(item))
        is_good = append_mapping(&list, item, wrong);
    if (!is_good) {
        release_mappings(&list);
        return false;
    }
    release_mappings(field);
    memcpy(field, &list, sizeof list);
    return true;
}

static void release_mappings(void *field)
{
    struct config_mapping_list *list = field;
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].from.host);
        free(list->items[i].to.host);
    }
    free(list->items);
    *list = (struct config_mapping_list){NULL, 0};
}

bool config_address_is_unix(const struct config_address *address)
{
    return address->host[0] == '/';
}

bool config_address_equals(const struct config_address *a, const struct config_address *b)
{
    if (a->port != b->port) return false;
    return config_address_is_unix(a) ? strcmp(a->host, b->host) == 0 : strcasecmp(a->host, b->host) == 0;
}

void config_address_write(const struct config_address *address, char *text, size_t size)
{
    const char *format = strchr(address->host, ':') ? "[%s]:%u" : "%s:%u";
    if (config_address_is_unix(address))
        snprintf(text, size, "unix:%s", address->host);
    else
        snprintf(text, size, format, address->host, (unsigned)address->port);
}

void config_map_address(const struct config_upstream *config, const char **host, uint16_t *port)
{
    const struct config_mapping_list *map = &config->map;
    for (size_t i = 0; i < map->count; i++) {
        const struct config_mapping *mapping = &map->items[i];
        if (mapping->from.port != *port || strcasecmp(mapping->from.host, *host) != 0) continue;
        *host = mapping->to.host;
        *port = mapping->to.port;
        return;
    }
}
