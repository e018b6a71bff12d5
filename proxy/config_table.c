/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/config_key.h"

#include "routing/hash.h"

#include <string.h>

#define FIELD(name)          .home = HOME_CONFIG, .field = offsetof(struct config, name)
#define UPSTREAM_FIELD(name) .home = HOME_UPSTREAM, .field = offsetof(struct config_upstream, name)

#define SECOND   INT64_C(1000)
#define MINUTE   (60 * SECOND)
#define HOUR     (60 * MINUTE)
#define KIBIBYTE INT64_C(1024)
#define GIBIBYTE (KIBIBYTE * KIBIBYTE * KIBIBYTE)
#define TEBIBYTE (KIBIBYTE * GIBIBYTE)

static const char *const kinds[] = {"auto", "sentinel", "static", "cluster", NULL};  /* enum upstream_kind */
static const char *const policies[] = {"master",         "prefer-master", "replica", /* enum reads_policy */
                                       "prefer-replica", "nearest",       NULL};
static const char *const consistencies[] = {"eventual", "session", "proxy", NULL}; /* enum reads_consistency */
static const char *const commands[] = {"off", "local", "on", NULL};              /* enum admin_commands */
static const char *const levels[] = {"error", "warning", "info", "debug", NULL}; /* enum log_level_name */

static const char *const distributions[] = {"none", "slots", "modula", "ketama",
                                            NULL}; /* enum distribution_kind */

const struct config_section config_sections[] = {
    {"proxy", "What clients of Pointsman meet."},
    {"upstream", "The Redis behind it: one master, its replicas, and the Sentinels that watch them."},
    {"reads", "Where commands that only read go. Writes always go to the master."},
    {"retry",
     "Sending again what is safe to send again. A write whose outcome is unknown is never sent again."},
    {"breaker",
     "A node that fails gets no requests until a trial finds that it answers again: reads go to others, writes wait."},
    {"pool", "Connections from Pointsman to the nodes."},
    {"failover", "Requests that need the master are held while there is none."},
    {"admin", "What those who look after the nodes may do through Pointsman."},
    {"log", "One event, one line."},
};
const size_t config_section_count = sizeof config_sections / sizeof *config_sections;

const struct config_key config_keys[] = {
    {.section = "proxy",
     .name = "listen",
     .type = &config_listen_addresses,
     FIELD(listen),
     .fallback = "127.0.0.1:6380",
     .is_listen = true,
     .help = "Where clients connect to. :6380 or *:6380 is every interface. Behind an address stands, if anything, "
             "what clients are to take it for: as plain (one Redis), as cluster (a Redis Cluster), as sentinel (a "
             "Sentinel that watches the plain address), as replica (a replica of it)."},
    {.section = "proxy",
     .name = "peers",
     .type = &config_addresses,
     FIELD(peers),
     .fallback = "",
     .help = "Where clients reach the addresses that are listened on as cluster, of this and of other processes, which "
             "then have equal shares of the slots; the same list for all of them. Empty: the address that a client "
             "is connected to has all slots."},
    {.section = "proxy",
     .name = "threads",
     .type = &config_integer,
     FIELD(threads),
     .fallback = "0",
     .min = 0,
     .max = 1024,
     .help = "Worker threads. 0 is one for each CPU that this process may run on, but no more than the CPU quota of its "
             "control group is worth; a part of one counts as one."},
    {.section = "proxy",
     .name = "max_clients",
     .type = &config_integer,
     FIELD(max_clients),
     .fallback = "10000",
     .min = 1,
     .max = 10000000,
     .at_reload = true,
     .help = "Clients at one time, over all threads. One more is told so and closed."},
    {.section = "proxy",
     .name = "password",
     .type = &config_secret,
     FIELD(password),
     .fallback = "",
     .at_reload = true,
     .help = "What clients must give to AUTH. Empty: no password is asked for."},
    {.section = "proxy",
     .name = "client_idle_timeout",
     .type = &config_duration,
     FIELD(client_idle_timeout_ms),
     .fallback = "0",
     .min = 0,
     .max = 10000 * HOUR,
     .at_reload = true,
     .help = "A client that has been silent for so long, and waits for nothing, is closed. 0 is never."},
    {.section = "proxy",
     .name = "client_output_limit",
     .type = &config_size,
     FIELD(client_output_limit),
     .fallback = "512m",
     .min = KIBIBYTE,
     .max = TEBIBYTE,
     .at_reload = true,
     .help =
         "Bytes of replies and messages that may wait for one client that does not read them; above it the "
         "client is closed."},
    {.section = "proxy",
     .name = "client_input_limit",
     .type = &config_size,
     FIELD(client_input_limit),
     .fallback = "1g",
     .min = KIBIBYTE,
     .max = 2 * GIBIBYTE,
     .at_reload = true,
     .help =
         "Bytes of requests that one client may have in flight; more wait unread. A single command longer "
         "than "
         "this is a protocol error. A client is closed if the names of its subscriptions take more memory."},
    {.section = "proxy",
     .name = "max_memory",
     .type = &config_size,
     FIELD(max_memory),
     .fallback = "0",
     .min = 0,
     .max = TEBIBYTE,
     .at_reload = true,
     .help =
         "Bytes that requests and replies of all clients may take together. Above it clients have one request at a "
         "time, and those that have most waiting are closed. 0 is half of the memory that the machine, or the "
         "control group, lets this process have."},
    {.section = "proxy",
     .name = "max_bulk_length",
     .type = &config_size,
     FIELD(max_bulk_length),
     .fallback = "512m",
     .min = 1,
     .max = TEBIBYTE,
     .at_reload = true,
     .help = "Bytes in one argument of a command (proto-max-bulk-len of Redis)."},
    {.section = "proxy",
     .name = "max_arguments",
     .type = &config_integer,
     FIELD(max_arguments),
     .fallback = "1048576",
     .min = 1,
     .max = INT32_MAX,
     .at_reload = true,
     .help = "Arguments of one command, its name included."},
    {.section = "proxy",
     .name = "request_timeout",
     .type = &config_duration,
     FIELD(request_timeout_ms),
     .fallback = "30s",
     .min = 0,
     .max = 24 * HOUR,
     .at_reload = true,
     .help =
         "A request without an answer after so long is answered with an error. For one that blocks by intent its own "
         "timeout comes on top; without one it may take as long as it takes. 0 is never."},
    {.section = "proxy",
     .name = "read_timeout",
     .type = &config_duration,
     FIELD(read_timeout_ms),
     .fallback = "0",
     .min = 0,
     .max = 24 * HOUR,
     .at_reload = true,
     .help = "The same for commands that only read, where it is to be another. 0 is request_timeout."},
    {.section = "proxy",
     .name = "write_timeout",
     .type = &config_duration,
     FIELD(write_timeout_ms),
     .fallback = "0",
     .min = 0,
     .max = 24 * HOUR,
     .at_reload = true,
     .help = "The same for all other commands, scripts and transactions among them. 0 is request_timeout."},
    {.section = "proxy",
     .name = "drain_time",
     .type = &config_duration,
     FIELD(drain_time_ms),
     .fallback = "10s",
     .min = 0,
     .max = 24 * HOUR,
     .at_reload = true,
     .help = "After SIGTERM, how long requests in flight may take before the process ends anyway."},

    {.section = "upstream",
     .name = "kind",
     .type = &config_enum,
     UPSTREAM_FIELD(kind),
     .fallback = "auto",
     .choices = kinds,
     .help =
         "What nodes names: sentinel is Sentinels, static is a master and its replicas, cluster is nodes of a "
         "Redis Cluster, auto asks the first that answers."},
    {.section = "upstream",
     .name = "nodes",
     .type = &config_addresses,
     UPSTREAM_FIELD(nodes),
     .fallback = "127.0.0.1:26379",
     .help = "Sentinels, or for kind static the master and its replicas in any order, or for kind cluster any of "
             "its nodes. Further Sentinels, replicas and nodes are found through these. unix:/path is for kind "
             "static only."},
    {.section = "upstream",
     .name = "master_name",
     .type = &config_names,
     UPSTREAM_FIELD(master_names),
     .fallback = "",
     .help =
         "The master's name in the Sentinels' configuration. Empty: the only one that they watch. Several "
         "names "
         "are masters that share the keys by upstream.distribution; all are watched by the same Sentinels."},
    {.section = "upstream",
     .name = "distribution",
     .type = &config_enum,
     UPSTREAM_FIELD(distribution_kind),
     .fallback = "none",
     .choices = distributions,
     .help =
         "How keys are spread over several masters. slots: 16384 slots by CRC16 and hash tags as in Redis "
         "Cluster, in equal ranges in the order of master_name. modula, ketama: as twemproxy spreads them, "
         "by "
         "upstream.hash. All proxies in front of these masters need the same rule: it is all that says where "
         "a "
         "key is."},
    {.section = "upstream",
     .name = "hash",
     .type = &config_enum,
     UPSTREAM_FIELD(hash),
     .fallback = "fnv1a_64",
     .choices = hash_names,
     .help =
         "What modula and ketama compute of a key: hash of twemproxy's pool. crc16_predixy and atol are Hash "
         "crc16 and Hash atol of predixy, and are for modula only."},
    {.section = "upstream",
     .name = "hash_tag",
     .type = &config_hash_tag,
     UPSTREAM_FIELD(hash_tag),
     .fallback = "",
     .help = "For modula and ketama, the two characters between which the part of a key stands that alone "
             "counts: "
             "hash_tag of twemproxy, HashTag of predixy. Empty: all of a key counts. slots always has {}."},
    {.section = "upstream",
     .name = "twemproxy_servers",
     .type = &config_servers,
     UPSTREAM_FIELD(servers),
     .fallback = "",
     .help = "For modula and ketama, the lines under servers: of twemproxy's pool, one for each name of "
             "master_name in the same order. Only their names and weights are used: ketama places masters by "
             "them, "
             "and modula counts masters in the order in which twemproxy sorts them. Empty: the names are "
             "those of master_name, the order too, and all weigh the same."},
    {.section = "upstream",
     .name = "username",
     .type = &config_word,
     UPSTREAM_FIELD(username),
     .fallback = "",
     .help = "ACL user for the nodes. It needs +ping +role +info +command +select +client|setname besides "
             "what clients send, and for kind cluster +cluster +asking +readonly. PROXY SWITCHOVER needs +client|pause "
             "+client|unpause +config +replicaof. Empty: the default user."},
    {.section = "upstream",
     .name = "password",
     .type = &config_secret,
     UPSTREAM_FIELD(password),
     .fallback = "",
     .help = "Password for the nodes. Empty: none is sent."},
    {.section = "upstream",
     .name = "sentinel_username",
     .type = &config_word,
     UPSTREAM_FIELD(sentinel_username),
     .fallback = "",
     .help = "ACL user for the Sentinels. Empty: the default user."},
    {.section = "upstream",
     .name = "sentinel_password",
     .type = &config_secret,
     UPSTREAM_FIELD(sentinel_password),
     .fallback = "",
     .help = "Password for the Sentinels. Empty: none is sent."},
    {.section = "upstream",
     .name = "map",
     .type = &config_mappings,
     UPSTREAM_FIELD(map),
     .fallback = "",
     .help =
         "Addresses that the Sentinels or nodes announce, and where each is reached from here, for networks "
         "that translate addresses."},
    {.section = "upstream",
     .name = "connect_timeout",
     .type = &config_duration,
     UPSTREAM_FIELD(connect_timeout_ms),
     .fallback = "1s",
     .min = 1,
     .max = HOUR,
     .at_reload = true,
     .help = "A connection to a node or Sentinel that is not made after so long has failed."},
    {.section = "upstream",
     .name = "poll_interval",
     .type = &config_duration,
     UPSTREAM_FIELD(poll_interval_ms),
     .fallback = "1s",
     .min = 10,
     .max = HOUR,
     .at_reload = true,
     .help = "How often Sentinels and nodes are asked for the topology, besides listening to the Sentinels' "
             "events."},

    {.section = "reads",
     .name = "policy",
     .type = &config_enum,
     UPSTREAM_FIELD(reads_policy),
     .fallback = "prefer-replica",
     .choices = policies,
     .at_reload = true,
     .help =
         "master: the master only. prefer-master: a replica only while there is no master. replica: replicas "
         "only, an error if none is fit. prefer-replica: the master only if no replica is fit. nearest: "
         "whichever of them answers fastest."},

    {.section = "reads",
     .name = "consistency",
     .type = &config_enum,
     UPSTREAM_FIELD(reads_consistency),
     .fallback = "proxy",
     .choices = consistencies,
     .at_reload = false,
     .help = "What a replica must show to be read from. proxy: every write to the key that any client has had "
             "answered through this process. session: every write to the key that the same client has had "
             "answered, and nothing of it that is older than what it has read. eventual: any replica will do that is fit. When none is fresh "
             "enough, the master answers."},
    {.section = "reads",
     .name = "max_staleness",
     .type = &config_duration,
     UPSTREAM_FIELD(reads_max_staleness_ms),
     .fallback = "0",
     .min = 0,
     .max = HOUR,
     .at_reload = true,
     .help = "A replica is read from only if it shows all that the master had so long ago, whoever wrote it. 0 "
             "sets no bound."},
    {.section = "reads",
     .name = "freshness_interval",
     .type = &config_duration,
     UPSTREAM_FIELD(reads_freshness_interval_ms),
     .fallback = "2ms",
     .min = 1,
     .max = HOUR,
     .at_reload = true,
     .help = "While reads go to the master since replicas are not known to be fresh enough, a master and its "
             "replicas are asked at most so often how far they are; else every pool.health_interval."},

    {.section = "retry",
     .name = "attempts",
     .type = &config_integer,
     UPSTREAM_FIELD(retry_attempts),
     .fallback = "3",
     .min = 1,
     .max = 100,
     .at_reload = true,
     .help = "How often a request is sent at most, the first time included. 1 is never again."},
    {.section = "retry",
     .name = "base_delay",
     .type = &config_duration,
     UPSTREAM_FIELD(retry_base_delay_ms),
     .fallback = "20ms",
     .min = 1,
     .max = HOUR,
     .at_reload = true,
     .help =
         "Bound of the first wait before a node that failed or refused is tried again. Each further failure "
         "doubles it; the wait is random within the bound."},
    {.section = "retry",
     .name = "max_delay",
     .type = &config_duration,
     UPSTREAM_FIELD(retry_max_delay_ms),
     .fallback = "1s",
     .min = 1,
     .max = HOUR,
     .at_reload = true,
     .help = "The bound grows no further than this."},
    {.section = "retry",
     .name = "budget",
     .type = &config_integer,
     UPSTREAM_FIELD(retry_budget),
     .fallback = "20",
     .min = 0,
     .max = 1000,
     .at_reload = true,
     .help =
         "Of the requests of the last ten seconds, so many percent may be sent again after they were lost on a broken "
         "connection, and 100 a second besides. 0: none. What a node did not carry out is always sent again."},

    {.section = "breaker",
     .name = "failures",
     .type = &config_integer,
     UPSTREAM_FIELD(breaker_failures),
     .fallback = "5",
     .min = 1,
     .max = 63,
     .at_reload = true,
     .help = "So many failures of a node in a row open its breaker. Connections that break together are one failure; "
             "one that is closed while it is idle is none."},
    {.section = "breaker",
     .name = "failure_ratio",
     .type = &config_integer,
     UPSTREAM_FIELD(breaker_failure_ratio),
     .fallback = "50",
     .min = 1,
     .max = 100,
     .at_reload = true,
     .help = "So does a failure of more than so many percent of the requests of ten seconds, if they are 20 or more. "
             "100: never."},
    {.section = "breaker",
     .name = "open_time",
     .type = &config_duration,
     UPSTREAM_FIELD(breaker_open_time_ms),
     .fallback = "60s",
     .min = 1,
     .max = HOUR,
     .at_reload = true,
     .help = "The longest wait before a replica is tried again. The first is at most retry.base_delay, each further one "
             "twice that, at random within the bound; for a master at most retry.max_delay. One that was found "
             "unfit, and is fit again, is tried at once."},
    {.section = "breaker",
     .name = "max_ejected",
     .type = &config_integer,
     UPSTREAM_FIELD(breaker_max_ejected),
     .fallback = "50",
     .min = 0,
     .max = 100,
     .at_reload = true,
     .help = "Of the fit replicas of a shard no more than so many percent lose their reads by open breakers or since "
             "they are slow, but one always may unless this is 0; never the last node that could answer."},
    {.section = "breaker",
     .name = "slow_start",
     .type = &config_duration,
     UPSTREAM_FIELD(breaker_slow_start_ms),
     .fallback = "10s",
     .min = 0,
     .max = HOUR,
     .at_reload = true,
     .help = "The share of reads of a replica that comes back grows for so long. 0: it gets its full share at once."},

    {.section = "pool",
     .name = "shared_connections",
     .type = &config_integer,
     UPSTREAM_FIELD(pool_shared_connections),
     .fallback = "1",
     .min = 1,
     .max = 1024,
     .help = "Connections of each thread to each node that all clients share, for each database in use."},
    {.section = "pool",
     .name = "dedicated_connections",
     .type = &config_integer,
     UPSTREAM_FIELD(pool_dedicated_connections),
     .fallback = "50",
     .min = 1,
     .max = 1000000,
     .at_reload = true,
     .help = "Connections to each node, over all threads, that one client has to itself while it is in a "
             "transaction, blocks or subscribes."},
    {.section = "pool",
     .name = "wait",
     .type = &config_duration,
     UPSTREAM_FIELD(pool_wait_ms),
     .fallback = "5s",
     .min = 0,
     .max = 24 * HOUR,
     .at_reload = true,
     .help = "How long a client waits for a dedicated connection before it is answered with an error."},
    {.section = "pool",
     .name = "idle_time",
     .type = &config_duration,
     UPSTREAM_FIELD(pool_idle_time_ms),
     .fallback = "60s",
     .min = 1,
     .max = 10000 * HOUR,
     .at_reload = true,
     .help = "A connection to a node that nobody has used for so long is closed."},
    {.section = "pool",
     .name = "lifetime",
     .type = &config_duration,
     UPSTREAM_FIELD(pool_lifetime_ms),
     .fallback = "1h",
     .min = 0,
     .max = 10000 * HOUR,
     .at_reload = true,
     .help = "A connection to a node that is older than this, give or take a fifth, is replaced when what is on it is "
             "answered; one that a client has to itself, when that gives it back. 0 is never."},
    {.section = "pool",
     .name = "warm_connections",
     .type = &config_integer,
     UPSTREAM_FIELD(pool_warm_connections),
     .fallback = "0",
     .min = 0,
     .max = 1000000,
     .at_reload = true,
     .help = "Dedicated connections to each master, over all threads, that are kept open also while nobody needs them. No "
             "more than dedicated_connections."},
    {.section = "pool",
     .name = "health_interval",
     .type = &config_duration,
     UPSTREAM_FIELD(pool_health_interval_ms),
     .fallback = "1s",
     .min = 10,
     .max = HOUR,
     .at_reload = true,
     .help = "How often each node is asked whether it is well."},
    {.section = "pool",
     .name = "health_timeout",
     .type = &config_duration,
     UPSTREAM_FIELD(pool_health_timeout_ms),
     .fallback = "2s",
     .min = 10,
     .max = HOUR,
     .at_reload = true,
     .help = "A node that freezes is found to be out of reach within this time: it is asked at least twice in it, and "
             "has the rest for an answer, but no longer than two intervals (or 250ms, if these are less)."},

    {.section = "failover",
     .name = "hold_time",
     .type = &config_duration,
     UPSTREAM_FIELD(failover_hold_time_ms),
     .fallback = "10s",
     .min = 0,
     .max = 24 * HOUR,
     .at_reload = true,
     .help = "How long a request waits for a master before it is answered with an error. 0 holds none."},
    {.section = "failover",
     .name = "hold_requests",
     .type = &config_integer,
     UPSTREAM_FIELD(failover_hold_requests),
     .fallback = "10000",
     .min = 0,
     .max = 100000000,
     .at_reload = true,
     .help = "Requests that may be held at one time, in equal shares for the threads. 0 holds none."},
    {.section = "failover",
     .name = "hold_bytes",
     .type = &config_size,
     UPSTREAM_FIELD(failover_hold_bytes),
     .fallback = "64m",
     .min = 0,
     .max = TEBIBYTE,
     .at_reload = true,
     .help = "Bytes of requests that may be held at one time, in equal shares for the threads."},

    {.section = "admin",
     .name = "commands",
     .type = &config_enum,
     FIELD(admin_commands),
     .fallback = "local",
     .choices = commands,
     .at_reload = true,
     .help = "Who may send PROXY PAUSE and the like. local: clients on a unix socket or a loopback address, which is "
             "whoever comes through a relay on this machine, too. on: every client that may send commands. off: "
             "nobody; PROXY is then a word that Redis does not know."},
    {.section = "admin",
     .name = "pause_limit",
     .type = &config_duration,
     FIELD(admin_pause_limit_ms),
     .fallback = "10m",
     .min = 1,
     .max = 24 * HOUR,
     .at_reload = true,
     .help = "A PROXY PAUSE that nobody ends is over after so long, and none may be longer."},
    {.section = "admin",
     .name = "pause_wait",
     .type = &config_duration,
     FIELD(admin_pause_wait_ms),
     .fallback = "10s",
     .min = 1,
     .max = HOUR,
     .at_reload = true,
     .help = "How long PROXY PAUSE waits for requests that are under way. If some are not answered by then, it fails "
             "and nothing is paused."},

    {.section = "admin",
     .name = "allow_dangerous",
     .type = &config_dangers,
     FIELD(allow_dangerous),
     .fallback = "",
     .at_reload = true,
     .help = "Commands that would end the master or change its role, and are let through to it all the same. "
             "Empty: all of them are refused."},

    {.section = "log",
     .name = "level",
     .type = &config_enum,
     FIELD(log_level),
     .fallback = "info",
     .choices = levels,
     .at_reload = true,
     .help = "error: a human must act. warning: something went wrong and is being handled. info: something "
             "changed. debug: for finding faults. Each has those before it, too."},
    {.section = "log",
     .name = "target",
     .type = &config_log_target,
     FIELD(log_target),
     .fallback = "stderr",
     .help = "stderr, syslog, or the path of a file to append to."},
};
const size_t config_key_count = sizeof config_keys / sizeof *config_keys;

const struct config_option config_options[] = {
    {'c', "config", "FILE", false, CONFIG_RUN, "Read keys from FILE. Without it no file is read."},
    {'t', "check-config", NULL, false, CONFIG_CHECK,
     "Read and check the configuration, say every error in it, and end."},
    {'h', "help", NULL, false, CONFIG_HELP, "Print this and end."},
    {0, "help-config", "ini|roff", true, CONFIG_HELP_CONFIG,
     "Print every key with its type, default and meaning, and end; as ini a commented configuration file, as "
     "roff "
     "the keys of the manual page."},
    {'V', "version", NULL, false, CONFIG_VERSION, "Print the version and end."},
};
const size_t config_option_count = sizeof config_options / sizeof *config_options;

void *config_field(const struct config_key *key, struct config *config)
{
    char *home = key->home == HOME_CONFIG ? (char *)config : (char *)&config->upstreams[0];
    return home + key->field;
}

/* True if name is "NAME_file" of a secret key. */
static bool is_file_of(const struct config_key *key, const char *name)
{
    size_t size = strlen(key->name);
    return key->type->is_secret && strncmp(name, key->name, size) == 0 && strcmp(name + size, "_file") == 0;
}

const struct config_key *config_find_key(const char *section, const char *name, bool *by_file)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (strcmp(key->section, section) != 0) continue;
        *by_file = is_file_of(key, name);
        if (*by_file || strcmp(key->name, name) == 0) return key;
    }
    return NULL;
}
