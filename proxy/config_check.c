/* SPDX-License-Identifier: BSD-2-Clause */
/* What must be right between keys, after each is right by itself. */
#include "proxy/config_loader.h"

#include "routing/distribution.h"

#include <string.h>

static struct setting *setting_named(struct loader *loader, const char *section, const char *name)
{
    bool by_file;
    return config_setting(loader, config_find_key(section, name, &by_file));
}

/* Keys whose own value is wrong are not compared with others. */
static bool is_sound(struct loader *loader, const char *section, const char *name)
{
    return !setting_named(loader, section, name)->is_bad;
}

__attribute__((format(printf, 4, 5))) static void fault_of(struct loader *loader, const char *section,
                                                          const char *name, const char *format, ...)
{
    char what[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    config_fault(loader, setting_named(loader, section, name)->place, "%s.%s: %s", section, name, what);
}

static void check_addresses(struct loader *loader, const char *section, const char *name,
                            const struct config_address_list *list)
{
    if (list->count == 0) fault_of(loader, section, name, "is empty; give at least one address");
    for (size_t i = 0; i < list->count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (!config_address_equals(&list->items[i], &list->items[k])) continue;
            char text[CONFIG_ADDRESS_SIZE];
            config_address_write(&list->items[i], text, sizeof text);
            fault_of(loader, section, name, "%s is given twice; keep one of them", text);
            break;
        }
    }
}

static void check_peers(struct loader *loader, const struct config_address_list *peers,
                        const struct config_address_list *listen)
{
    bool has_cluster = false;
    if (peers->count == 0) return;
    check_addresses(loader, "proxy", "peers", peers);
    for (size_t i = 0; i < listen->count; i++)
        has_cluster |= listen->items[i].persona == PERSONA_CLUSTER;
    if (!has_cluster && is_sound(loader, "proxy", "listen"))
        fault_of(loader, "proxy", "peers",
                 "is for addresses as cluster, and proxy.listen has none; write host:port as cluster there, or "
                 "remove this key");
    for (size_t i = 0; i < peers->count; i++) {
        const char *host = peers->items[i].host;
        if (config_address_is_unix(&peers->items[i]))
            fault_of(loader, "proxy", "peers", "unix:%s cannot be reached by clients of a Cluster; write host:port", host);
        else if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
            fault_of(loader, "proxy", "peers", "%s is no address that clients can connect to; write that of the host", host);
    }
}

/* A Sentinel is asked for the address of a master: it must have one to tell. */
static void check_sentinels(struct loader *loader, const struct config_address_list *listen)
{
    bool is_asked = false, has_answer = false;
    for (size_t i = 0; i < listen->count; i++) {
        const struct config_address *address = &listen->items[i];
        is_asked |= address->persona == PERSONA_SENTINEL;
        has_answer |= address->persona == PERSONA_PLAIN && !config_address_is_unix(address);
    }
    if (is_asked && !has_answer)
        fault_of(loader, "proxy", "listen",
                 "has an address as sentinel, but none of a master that it could tell; add a plain host:port");
}

static void check_unix_nodes(struct loader *loader, const struct config_upstream *upstream)
{
    if (upstream->kind == UPSTREAM_STATIC) return;
    for (size_t i = 0; i < upstream->nodes.count; i++)
        if (config_address_is_unix(&upstream->nodes.items[i]))
            fault_of(loader, "upstream", "nodes",
                     "unix:%s cannot be %s; write host:port, or set upstream.kind = static",
                     upstream->nodes.items[i].host,
                     upstream->kind == UPSTREAM_CLUSTER ? "a node of a cluster" : "a Sentinel");
}

static void check_map(struct loader *loader, const struct config_mapping_list *map)
{
    for (size_t i = 0; i < map->count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (!config_address_equals(&map->items[i].from, &map->items[k].from)) continue;
            char text[CONFIG_ADDRESS_SIZE];
            config_address_write(&map->items[i].from, text, sizeof text);
            fault_of(loader, "upstream", "map", "%s is mapped twice; keep one of them", text);
            break;
        }
    }
}

static void check_user(struct loader *loader, const char *name, const char *username,
                       const char *password_name, const char *password)
{
    if (is_sound(loader, "upstream", password_name) && *username && !*password)
        fault_of(loader, "upstream", name, "is given without a password; set upstream.%s, too",
                 password_name);
}

/* Several masters need a rule for their keys, and the rule needs masters. */
static void check_masters(struct loader *loader, const struct config_upstream *upstream)
{
    size_t count = upstream->master_names.count;
    if (upstream->distribution_kind == DISTRIBUTION_NONE) {
        if (count > 1)
            fault_of(loader, "upstream", "master_name",
                     "has %zu names, but nothing says which of them has a key; set upstream.distribution to "
                     "slots, "
                     "modula or ketama",
                     count);
        return;
    }
    if (upstream->kind != UPSTREAM_AUTO && upstream->kind != UPSTREAM_SENTINEL)
        fault_of(loader, "upstream", "distribution",
                 "is for masters that Sentinels watch; set upstream.kind to sentinel, or remove this key");
    else if (count == 0)
        fault_of(loader, "upstream", "distribution",
                 "has no masters to spread keys over; name them in upstream.master_name");
}

/* Keys that the kind of distribution does not ask are refused: they were meant for another one. */
static void check_distribution(struct loader *loader, const struct config_upstream *upstream)
{
    const struct {
        const char *name;
        bool is_set; /* to what is not its default */
    } keys[] = {{"hash", upstream->hash != HASH_FNV1A_64},
                {"hash_tag", *upstream->hash_tag != '\0'},
                {"twemproxy_servers", upstream->servers.count > 0}};
    bool is_slots = upstream->distribution_kind == DISTRIBUTION_SLOTS;
    if (is_slots || upstream->distribution_kind == DISTRIBUTION_NONE) {
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            if (keys[i].is_set && is_sound(loader, "upstream", keys[i].name))
                fault_of(
                    loader, "upstream", keys[i].name,
                    is_slots
                        ? "is not used with upstream.distribution = slots, which has the hash and the tag of "
                          "Redis Cluster; remove it"
                        : "is used with upstream.distribution = modula or ketama only; set that, or remove "
                          "this key");
        return;
    }
    bool is_of_predixy = upstream->hash == HASH_ATOL || upstream->hash == HASH_CRC16_PREDIXY;
    if (is_of_predixy && upstream->distribution_kind == DISTRIBUTION_KETAMA)
        fault_of(loader, "upstream", "hash",
                 "%s is for upstream.distribution = modula only; twemproxy has no such hash",
                 hash_names[upstream->hash]);
    size_t names = upstream->master_names.count, servers = upstream->servers.count;
    if (is_sound(loader, "upstream", "master_name") && is_sound(loader, "upstream", "twemproxy_servers") &&
        servers && names && servers != names)
        fault_of(
            loader, "upstream", "twemproxy_servers",
            "has %zu servers, but upstream.master_name has %zu names; give one for each, in the same order",
            servers, names);
}

/* Blames the one of the two that the user has set later in the order of precedence. */
static void check_delays(struct loader *loader, const struct config_upstream *upstream)
{
    if (!is_sound(loader, "retry", "base_delay") || !is_sound(loader, "retry", "max_delay")) return;
    if (upstream->retry_base_delay_ms <= upstream->retry_max_delay_ms) return;
    if (setting_named(loader, "retry", "base_delay")->place.origin >=
        setting_named(loader, "retry", "max_delay")->place.origin)
        fault_of(loader, "retry", "base_delay", "must not be more than retry.max_delay, which is %lldms",
                 (long long)upstream->retry_max_delay_ms);
    else
        fault_of(loader, "retry", "max_delay", "must not be less than retry.base_delay, which is %lldms",
                 (long long)upstream->retry_base_delay_ms);
}

void config_check(struct loader *loader)
{
    const struct config *config = loader->config;
    const struct config_upstream *upstream = &config->upstreams[0];
    if (is_sound(loader, "proxy", "listen")) {
        check_addresses(loader, "proxy", "listen", &config->listen);
        check_sentinels(loader, &config->listen);
    }
    if (is_sound(loader, "proxy", "peers")) check_peers(loader, &config->peers, &config->listen);
    if (is_sound(loader, "upstream", "nodes")) check_addresses(loader, "upstream", "nodes", &upstream->nodes);
    if (is_sound(loader, "upstream", "nodes") && is_sound(loader, "upstream", "kind"))
        check_unix_nodes(loader, upstream);
    if (is_sound(loader, "upstream", "map")) check_map(loader, &upstream->map);
    check_user(loader, "username", upstream->username, "password", upstream->password);
    check_user(loader, "sentinel_username", upstream->sentinel_username, "sentinel_password",
               upstream->sentinel_password);
    check_delays(loader, upstream);
    if (is_sound(loader, "upstream", "distribution")) {
        if (is_sound(loader, "upstream", "master_name") && is_sound(loader, "upstream", "kind"))
            check_masters(loader, upstream);
        check_distribution(loader, upstream);
    }
}
