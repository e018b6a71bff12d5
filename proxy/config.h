/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config.h - everything a user can set, typed and checked.
 *
 * One table (config_table.c) declares each key once: section, name, type, unit, default, bounds, whether a
 * reload may change it, its help. Parsing, defaults, --help-config, proxy.ini.example and the manual follow
 * from it. Order of precedence: command line, environment, file, default.
 *
 * Owner:   a struct config owns its strings and lists; immutable once loaded.
 * Threads: loaded by main before threads start; any thread may read it then.
 */
#ifndef PROXY_CONFIG_H
#define PROXY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What clients of an address take us for: "127.0.0.1:7000 as cluster". */
enum persona {
    PERSONA_PLAIN,    /* one Redis */
    PERSONA_CLUSTER,  /* a node of a Redis Cluster */
    PERSONA_REPLICA,  /* a replica of the plain address */
    PERSONA_SENTINEL, /* a Sentinel that watches the plain address */
    PERSONA_COUNT,
};
extern const char *const config_personas[]; /* their names, and NULL */

/*
 * host:port, or unix:/path with port 0 and the path as host, which then begins with '/'. IPv6 hosts are
 * without brackets, perhaps with a zone (fe80::1%eth0). In listen the host "" means all interfaces (written
 * :6380 or *:6380); elsewhere it is never empty. Names are not resolved yet.
 */
struct config_address {
    char *host;
    uint16_t port;
    uint8_t persona; /* enum persona; in listen only */
};

struct config_address_list {
    struct config_address *items;
    size_t count;
};

/* upstream.map: an announced address and the one to use instead. */
struct config_mapping {
    struct config_address from, to;
};

struct config_mapping_list {
    struct config_mapping *items;
    size_t count;
};

/* upstream.master_name */
struct config_name_list {
    char **items;
    size_t count;
};

/* upstream.twemproxy_servers: what of a server's line the distribution needs. */
struct config_server {
    char *name;
    uint32_t weight;
};

struct config_server_list {
    struct config_server *items;
    size_t count;
};

struct distribution;

enum upstream_kind { UPSTREAM_AUTO, UPSTREAM_SENTINEL, UPSTREAM_STATIC, UPSTREAM_CLUSTER };
enum reads_policy { READS_MASTER, READS_PREFER_MASTER, READS_REPLICA, READS_PREFER_REPLICA, READS_NEAREST };
enum reads_consistency { CONSISTENCY_EVENTUAL, CONSISTENCY_SESSION, CONSISTENCY_PROXY };
enum admin_commands { ADMIN_COMMANDS_OFF, ADMIN_COMMANDS_LOCAL, ADMIN_COMMANDS_ON };
enum log_level_name { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Where requests go: one upstream and its policies. Durations are milliseconds, sizes bytes. */
struct config_upstream {
    char *name; /* "" for the section [upstream] */
    int kind;   /* enum upstream_kind */
    struct config_address_list nodes;
    struct config_name_list master_names; /* none = the only one that the Sentinels know */
    int distribution_kind;                /* enum distribution_kind */
    int hash;                             /* enum hash */
    char *hash_tag;                       /* "" or two characters */
    struct config_server_list servers;    /* none, or one for each of master_names */
    struct distribution *distribution;    /* made of these five; NULL if there is none */
    char *username, *password;
    char *sentinel_username, *sentinel_password;
    struct config_mapping_list map;
    int64_t connect_timeout_ms;
    int64_t poll_interval_ms;

    int reads_policy;      /* enum reads_policy */
    int reads_consistency; /* enum reads_consistency */
    int64_t reads_max_staleness_ms; /* 0 = no bound */
    int64_t reads_freshness_interval_ms;

    int64_t retry_attempts;
    int64_t retry_base_delay_ms, retry_max_delay_ms;
    int64_t retry_budget; /* percent */

    int64_t breaker_failures;
    int64_t breaker_failure_ratio; /* percent */
    int64_t breaker_open_time_ms;
    int64_t breaker_max_ejected;   /* percent */
    int64_t breaker_slow_start_ms;

    int64_t pool_shared_connections;
    int64_t pool_dedicated_connections;
    int64_t pool_wait_ms;
    int64_t pool_idle_time_ms;
    int64_t pool_lifetime_ms; /* 0 = for ever */
    int64_t pool_warm_connections;
    int64_t pool_health_interval_ms;
    int64_t pool_health_timeout_ms;

    int64_t failover_hold_time_ms;
    int64_t failover_hold_requests;
    int64_t failover_hold_bytes;
};

struct config {
    struct config_address_list listen;
    struct config_address_list peers; /* whom a client of `as cluster` is told of; none: the address it came to */
    int64_t threads; /* 0 = one per core */
    int64_t max_clients;
    char *password;
    int64_t client_idle_timeout_ms; /* 0 = never */
    int64_t client_output_limit;
    int64_t client_input_limit;
    int64_t max_memory; /* 0 = memory_default_max() */
    int64_t max_bulk_length;
    int64_t max_arguments;
    int64_t request_timeout_ms; /* 0 = never */
    int64_t read_timeout_ms, write_timeout_ms; /* 0 = request_timeout_ms; see config_timeout_ms() */
    int64_t drain_time_ms;

    struct config_upstream *upstreams;
    size_t upstream_count; /* 1 until named upstreams come */

    int admin_commands; /* enum admin_commands */
    int64_t admin_pause_limit_ms, admin_pause_wait_ms;
    int64_t allow_dangerous; /* bit i: command_dangers[i] of routing/command.h is let through */

    int log_level;    /* enum log_level_name */
    char *log_target; /* stderr, syslog, or a path */
};

/* How long a request of this class may take; 0 = as long as it takes. */
static inline uint32_t config_timeout_ms(const struct config *config, bool is_read)
{
    int64_t own_ms = is_read ? config->read_timeout_ms : config->write_timeout_ms;
    return (uint32_t)(own_ms ? own_ms : config->request_timeout_ms);
}

/* What the command line asks for. */
enum config_action {
    CONFIG_RUN,
    CONFIG_CHECK,       /* -t, --check-config */
    CONFIG_HELP,        /* --help */
    CONFIG_HELP_CONFIG, /* --help-config */
    CONFIG_EXAMPLE,     /* --help-config=ini: the text of proxy.ini.example */
    CONFIG_HELP_ROFF,   /* --help-config=roff: the options of the manual page */
    CONFIG_VERSION,     /* --version */
};

/*
 * Reads command line, environment and file into a new config. Every error found is written to errors, one a
 * line: "FILE:LINE: section.key: what is wrong, what would be right"; for other origins FILE:LINE is
 * "command line" or "environment". Returns NULL if there was any error. *action is set in any case where the
 * command line itself could be read; for actions that need no config (HELP ...) nothing is loaded and NULL is
 * returned with *action set and nothing written to errors.
 */
struct config *config_load(int argc, char **argv, char **environment, enum config_action *action,
                           FILE *errors);

/* The same from a file's text alone, over the defaults; for tests and fuzzing. name stands for FILE. */
struct config *config_load_text(const char *text, size_t size, const char *name, FILE *errors);

/* upstream.map applied: the address to use instead of an announced one, as it is where the map has none. */
void config_map_address(const struct config_upstream *config, const char **host, uint16_t *port);

void config_destroy(struct config *config);

void config_print_usage(FILE *out);
void config_print_help(FILE *out);    /* every key, one paragraph each */
void config_print_example(FILE *out); /* proxy.ini.example, byte for byte */
void config_print_roff(FILE *out);    /* man page section */

#endif
