/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of masters, lines of twemproxy's servers, and the distribution that is made of them. */
#include "proxy/config_loader.h"

#include "routing/distribution.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool set_names(const struct config_key *key, const char *text, void *field,
                      struct config_wrong *wrong);
static bool set_servers(const struct config_key *key, const char *text, void *field,
                        struct config_wrong *wrong);
static bool set_hash_tag(const struct config_key *key, const char *text, void *field,
                         struct config_wrong *wrong);
static void release_names(void *field);
static void release_servers(void *field);
static void release_hash_tag(void *field);

const struct config_type config_names = {
    .noun = "names",
    .syntax = "words without blanks, several separated by commas",
    .set = set_names,
    .release = release_names,
};
const struct config_type config_servers = {
    .noun = "servers",
    .syntax =
        "host:port:weight name or host:port:weight, as in twemproxy's file, several separated by commas",
    .set = set_servers,
    .release = release_servers,
};
const struct config_type config_hash_tag = {
    .noun = "hash tag",
    .syntax = "two characters, the opening and the closing one, or nothing",
    .set = set_hash_tag,
    .release = release_hash_tag,
};

static const char TERMS[] = "write host:port:weight name, as in twemproxy's file";

void config_make_distribution(struct config_upstream *upstream)
{
    struct distribution_server servers[DISTRIBUTION_SHARDS_MAX];
    struct distribution_setup setup = {.kind = (enum distribution_kind)upstream->distribution_kind,
                                       .hash = (enum hash)upstream->hash,
                                       .servers = servers,
                                       .count = (uint32_t)upstream->master_names.count,
                                       .is_by_name = upstream->servers.count > 0};
    if (setup.kind == DISTRIBUTION_NONE) return;
    if (*upstream->hash_tag) memcpy(setup.tag, upstream->hash_tag, sizeof(setup.tag));
    for (size_t i = 0; i < setup.count; i++) {
        bool is_given = i < upstream->servers.count;
        servers[i].name = is_given ? upstream->servers.items[i].name : upstream->master_names.items[i];
        servers[i].weight = is_given ? upstream->servers.items[i].weight : 1;
    }
    upstream->distribution = distribution_create(&setup);
    if (!upstream->distribution) abort();
}

/* ---- names ---- */

static bool has_space_or_control(const char *text)
{
    for (const char *c = text; *c; c++)
        if (isspace((unsigned char)*c) || iscntrl((unsigned char)*c)) return true;
    return false;
}

static bool check_name(const char *name, struct config_wrong *wrong)
{
    if (*name == '\0') return config_say(wrong, "has a comma with no name beside it; remove the comma");
    if (has_space_or_control(name))
        return config_say_bad(wrong, name, "has a blank or a control character in it",
                              "several names are separated by commas");
    if (strlen(name) > DISTRIBUTION_NAME_MAX)
        return config_say_bad(wrong, name, "is too long", "a name has 79 bytes at most");
    return true;
}

static bool append_name(struct config_name_list *list, const char *name, struct config_wrong *wrong)
{
    if (!check_name(name, wrong)) return false;
    if (list->count == DISTRIBUTION_SHARDS_MAX)
        return config_say(wrong, "has more than %d names", DISTRIBUTION_SHARDS_MAX);
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], name) == 0)
            return config_say_bad(wrong, name, "is given twice", "keep one of them");
    list->items = config_resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = config_copy(name);
    return true;
}

static bool set_names(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    (void)key;
    struct config_name_list list = {NULL, 0};
    bool is_good = true;
    const char *rest = *text ? text : NULL;
    for (char *item; is_good && (item = config_next_item(&rest)) != NULL; free(item))
        is_good = append_name(&list, item, wrong);
    if (!is_good) {
        release_names(&list);
        return false;
    }
    release_names(field);
    memcpy(field, &list, sizeof list);
    return true;
}

static void release_names(void *field)
{
    struct config_name_list *list = field;
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct config_name_list){NULL, 0};
}

/* ---- servers ---- */

/* A server without a name has its address for one, with two peculiarities of twemproxy: the port of memcached
 * is left out, as libmemcached did, and a path keeps the colon behind it. colon is the one before the weight.
 */
static char *name_of_address(const char *text, const char *colon)
{
    static const char port[] = ":11211";
    size_t size = (size_t)(colon - text), port_size = strlen(port);
    if (*text == '/') return config_copy_range(text, colon + 1);
    if (size > port_size && strncmp(colon - port_size, port, port_size) == 0) colon -= port_size;
    return config_copy_range(text, colon);
}

static bool read_weight(const char *text, const char *address_end, const char *end, uint32_t *weight)
{
    int64_t number;
    const char *rest;
    if (!config_read_digits(address_end + 1, &number, &rest) || rest != end) return false;
    if (*text != '/' && !memchr(text, ':', (size_t)(address_end - text)))
        return false; /* host:port without */
    *weight = (uint32_t)number;
    return number >= 1 && number <= DISTRIBUTION_WEIGHT_MAX;
}

/* "host:port:weight name", "/path:weight name", both also without a name */
static bool read_server(const char *text, struct config_server *server, struct config_wrong *wrong)
{
    const char *blank = text + strcspn(text, " \t"), *name = blank + strspn(blank, " \t");
    const char *colon = blank;
    while (colon > text && *colon != ':')
        colon--;
    if (colon == text) return config_say_bad(wrong, text, "is not a server of twemproxy", TERMS);
    if (!read_weight(text, colon, blank, &server->weight)) {
        char right[80];
        snprintf(right, sizeof right, "write host:port:weight, with a weight from 1 to %d",
                 DISTRIBUTION_WEIGHT_MAX);
        return config_say_bad(wrong, text, "has no good weight", right);
    }
    server->name = *name ? config_copy(name) : name_of_address(text, colon);
    if (check_name(server->name, wrong)) return true;
    free(server->name);
    return false;
}

static bool append_server(struct config_server_list *list, const char *item, struct config_wrong *wrong)
{
    struct config_server server;
    if (list->count == DISTRIBUTION_SHARDS_MAX)
        return config_say(wrong, "has more than %d servers", DISTRIBUTION_SHARDS_MAX);
    if (*item == '\0') return config_say(wrong, "has a comma with no server beside it; remove the comma");
    if (!read_server(item, &server, wrong)) return false;
    list->items = config_resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = server;
    for (size_t i = 0; i + 1 < list->count; i++)
        if (strcmp(list->items[i].name, server.name) == 0)
            return config_say_bad(wrong, item, "has a name that is given twice", "give each server its own");
    return true;
}

static bool set_servers(const struct config_key *key, const char *text, void *field,
                        struct config_wrong *wrong)
{
    (void)key;
    struct config_server_list list = {NULL, 0};
    bool is_good = true;
    const char *rest = *text ? text : NULL;
    for (char *item; is_good && (item = config_next_item(&rest)) != NULL; free(item))
        is_good = append_server(&list, item, wrong);
    if (!is_good) {
        release_servers(&list);
        return false;
    }
    release_servers(field);
    memcpy(field, &list, sizeof list);
    return true;
}

static void release_servers(void *field)
{
    struct config_server_list *list = field;
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i].name);
    free(list->items);
    *list = (struct config_server_list){NULL, 0};
}

/* ---- hash tag ---- */

static bool set_hash_tag(const struct config_key *key, const char *text, void *field,
                         struct config_wrong *wrong)
{
    (void)key;
    if (*text && (strlen(text) != 2 || has_space_or_control(text)))
        return config_say_bad(wrong, text, "is no hash tag",
                              "write the opening and the closing character, for instance {}");
    char *copy = config_copy(text);
    release_hash_tag(field);
    memcpy(field, &copy, sizeof copy);
    return true;
}

static void release_hash_tag(void *field)
{
    char **text = field;
    free(*text);
    *text = NULL;
}
