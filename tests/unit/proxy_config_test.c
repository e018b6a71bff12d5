/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/config.h"
#include "proxy/config_key.h"
#include "proxy/log.h"
#include "routing/distribution.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What a load ended with; finish_loaded() frees it. */
struct loaded {
    struct config *config;
    enum config_action action;
    char *errors;
    size_t size;
};

static struct loaded load_text(const char *text)
{
    struct loaded loaded = {.config = NULL};
    FILE *errors = open_memstream(&loaded.errors, &loaded.size);
    loaded.config = config_load_text(text, strlen(text), "x.ini", errors);
    fclose(errors);
    return loaded;
}

enum { ARGUMENTS_MAX = 8 };

/* Both lists end with NULL. */
static struct loaded load(const char *const *arguments, const char *const *environment)
{
    char *argv[ARGUMENTS_MAX + 2] = {"pointsman"};
    int argc = 1;
    for (; arguments[argc - 1]; argc++)
        argv[argc] = (char *)arguments[argc - 1];
    struct loaded loaded = {.config = NULL};
    FILE *errors = open_memstream(&loaded.errors, &loaded.size);
    loaded.config = config_load(argc, argv, (char **)environment, &loaded.action, errors);
    fclose(errors);
    return loaded;
}

static void finish_loaded(struct loaded *loaded)
{
    config_destroy(loaded->config);
    free(loaded->errors);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
static const char *const NONE[] = {NULL};

static void assert_good(const struct loaded *loaded)
{
    if (!loaded->config) fail_msg("not loaded: %s", loaded->errors);
    assert_string_equal(loaded->errors, "");
}

/* Loads text that must be refused with exactly these words. */
static void assert_refused(const char *text, const char *errors)
{
    struct loaded loaded = load_text(text);
    assert_string_equal(loaded.errors, errors);
    assert_null(loaded.config);
    finish_loaded(&loaded);
}

static char *path_of_temporary(const char *content, size_t size)
{
    static char path[64];
    strcpy(path, "/tmp/pointsman-config-test-XXXXXX");
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, content, size), (ssize_t)size);
    close(descriptor);
    return path;
}

/* Prints to memory; the caller frees it. */
static char *printed(void (*print)(FILE *out))
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    print(out);
    fclose(out);
    return text;
}

/* ---- values ---- */

static void nothing_given_is_the_defaults(void **state)
{
    (void)state;
    struct loaded loaded = load_text("");
    assert_good(&loaded);
    const struct config *config = loaded.config;
    const struct config_upstream *upstream = &config->upstreams[0];
    assert_int_equal(config->listen.count, 1);
    assert_string_equal(config->listen.items[0].host, "127.0.0.1");
    assert_int_equal(config->listen.items[0].port, 6380);
    assert_int_equal(config->upstream_count, 1);
    assert_string_equal(upstream->name, "");
    assert_string_equal(upstream->nodes.items[0].host, "127.0.0.1");
    assert_int_equal(upstream->nodes.items[0].port, 26379);
    assert_int_equal(upstream->kind, UPSTREAM_AUTO);
    assert_int_equal(upstream->reads_policy, READS_PREFER_REPLICA);
    assert_int_equal(config->log_level, LOG_LEVEL_INFO);

    const struct {
        int64_t value, expected;
    } numbers[] = {
        {config->threads, 0},
        {config->max_clients, 10000},
        {config->client_idle_timeout_ms, 0},
        {config->client_output_limit, 512 << 20},
        {config->client_input_limit, 1 << 30},
        {config->max_bulk_length, 512 << 20},
        {config->max_arguments, 1048576},
        {config->request_timeout_ms, 30000},
        {config->drain_time_ms, 10000},
        {upstream->connect_timeout_ms, 1000},
        {upstream->poll_interval_ms, 1000},
        {upstream->retry_attempts, 3},
        {upstream->retry_base_delay_ms, 20},
        {upstream->retry_max_delay_ms, 1000},
        {upstream->pool_shared_connections, 1},
        {upstream->pool_dedicated_connections, 50},
        {upstream->pool_wait_ms, 5000},
        {upstream->pool_idle_time_ms, 60000},
        {upstream->pool_health_interval_ms, 1000},
        {upstream->failover_hold_time_ms, 10000},
        {upstream->failover_hold_requests, 10000},
        {upstream->failover_hold_bytes, 64 << 20},
    };
    for (size_t i = 0; i < COUNT(numbers); i++)
        assert_int_equal(numbers[i].value, numbers[i].expected);

    const char *texts[] = {config->password,   upstream->hash_tag,          upstream->username,
                           upstream->password, upstream->sentinel_username, upstream->sentinel_password};
    for (size_t i = 0; i < COUNT(texts); i++)
        assert_string_equal(texts[i], "");
    assert_int_equal(upstream->map.count, 0);
    assert_string_equal(config->log_target, "stderr");
    finish_loaded(&loaded);
}

static void durations_have_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t expected_ms; /* -1: refused */
    } cases[] = {
        {"0", 0},
        {"250ms", 250},
        {"5s", 5000},
        {"2m", 120000},
        {"1h", 3600000},
        {"0s", 0},
        {"24h", 86400000},
        {"86400s", 86400000},
        {"007s", 7000},
        {"30", -1},
        {"5S", -1},
        {"5 s", -1},
        {"s", -1},
        {"", -1},
        {"-5s", -1},
        {"1.5s", -1},
        {"1m30s", -1},
        {"5d", -1},
        {"25h", -1},
        {"86400001ms", -1},
        {"9223372036854775807h", -1},
        {"99999999999999999999s", -1},
        {"+5s", -1},
        {"0x5s", -1},
        {"5s ; five", -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[128];
        snprintf(text, sizeof text, "[proxy]\nrequest_timeout = %s\n", cases[i].text);
        struct loaded loaded = load_text(text);
        assert_int_equal(loaded.config ? loaded.config->request_timeout_ms : -1, cases[i].expected_ms);
        assert_int_equal(*loaded.errors != '\0', cases[i].expected_ms < 0);
        finish_loaded(&loaded);
    }
}

static void sizes_are_of_1024(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t expected; /* -1: refused */
    } cases[] = {
        {"0", 0},          {"1", 1},         {"64k", 65536},    {"64kb", 65536}, {"64KiB", 65536},
        {"1m", 1 << 20},   {"1MB", 1 << 20}, {"1mib", 1 << 20}, {"1g", 1 << 30}, {"1gb", 1 << 30},
        {"1GiB", 1 << 30}, {"512x", -1},     {"1t", -1},        {"", -1},        {"-1", -1},
        {"1.5m", -1},      {"1 m", -1},      {"k", -1},         {"2000g", -1},   {"9223372036854775807g", -1},
        {"1b", -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[128];
        snprintf(text, sizeof text, "[failover]\nhold_bytes = %s\n", cases[i].text);
        struct loaded loaded = load_text(text);
        assert_int_equal(loaded.config ? loaded.config->upstreams[0].failover_hold_bytes : -1,
                         cases[i].expected);
        finish_loaded(&loaded);
    }
}

static void numbers_stay_within_their_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t expected; /* -1: refused */
    } cases[] = {
        {"0", 0},
        {"1024", 1024},
        {"1025", -1},
        {"-1", -1},
        {"4k", -1},
        {"", -1},
        {"four", -1},
        {"4 5", -1},
        {"99999999999999999999", -1},
        {"-99999999999999999999", -1},
        {"-", -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[128];
        snprintf(text, sizeof text, "[proxy]\nthreads = %s\n", cases[i].text);
        struct loaded loaded = load_text(text);
        assert_int_equal(loaded.config ? loaded.config->threads : -1, cases[i].expected);
        finish_loaded(&loaded);
    }
}

static void choices_are_in_the_order_of_their_enums(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int kind, policy, level;
    } cases[] = {
        {"[upstream]\nkind=auto\n[reads]\npolicy=master\n[log]\nlevel=error\n", UPSTREAM_AUTO, READS_MASTER,
         LOG_LEVEL_ERROR},
        {"[upstream]\nkind=sentinel\n[reads]\npolicy=prefer-master\n[log]\nlevel=warning\n",
         UPSTREAM_SENTINEL, READS_PREFER_MASTER, LOG_LEVEL_WARNING},
        {"[upstream]\nkind=static\n[reads]\npolicy=replica\n[log]\nlevel=info\n", UPSTREAM_STATIC,
         READS_REPLICA, LOG_LEVEL_INFO},
        {"[reads]\npolicy=prefer-replica\n[log]\nlevel=debug\n", UPSTREAM_AUTO, READS_PREFER_REPLICA,
         LOG_LEVEL_DEBUG},
        {"[reads]\npolicy=nearest\n", UPSTREAM_AUTO, READS_NEAREST, LOG_LEVEL_INFO},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct loaded loaded = load_text(cases[i].text);
        assert_good(&loaded);
        assert_int_equal(loaded.config->upstreams[0].kind, cases[i].kind);
        assert_int_equal(loaded.config->upstreams[0].reads_policy, cases[i].policy);
        assert_int_equal(loaded.config->log_level, cases[i].level);
        finish_loaded(&loaded);
    }
}

static void levels_of_the_config_are_those_of_the_log(void **state)
{
    (void)state;
    assert_int_equal(LOG_LEVEL_ERROR, LOG_ERROR_LEVEL);
    assert_int_equal(LOG_LEVEL_WARNING, LOG_WARNING_LEVEL);
    assert_int_equal(LOG_LEVEL_INFO, LOG_INFO_LEVEL);
    assert_int_equal(LOG_LEVEL_DEBUG, LOG_DEBUG_LEVEL);
}

static void listen_addresses_are_hosts_wildcards_ipv6_and_sockets(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host; /* host NULL: refused */
        int port;
    } cases[] = {
        {"127.0.0.1:6380", "127.0.0.1", 6380},
        {"localhost:1", "localhost", 1},
        {"redis-0.redis_x.svc:65535", "redis-0.redis_x.svc", 65535},
        {":6380", "", 6380},
        {"*:6380", "", 6380},
        {"0.0.0.0:6380", "0.0.0.0", 6380},
        {"[::1]:6380", "::1", 6380},
        {"[::]:6380", "::", 6380},
        {"[fe80::1%eth0]:6380", "fe80::1%eth0", 6380},
        {"unix:/run/pointsman.sock", "/run/pointsman.sock", 0},
        {"unix:/run/with blank", "/run/with blank", 0},
        {"127.0.0.1", NULL, 0},
        {"6380", NULL, 0},
        {"::1", NULL, 0},
        {"::1:6380", NULL, 0},
        {"[::1]", NULL, 0},
        {"[::1]6380", NULL, 0},
        {"[::1]:", NULL, 0},
        {"[::1", NULL, 0},
        {"[127.0.0.1]:6380", NULL, 0},
        {"[fe80::1%]:6380", NULL, 0},
        {"127.0.0.1:0", NULL, 0},
        {"127.0.0.1:65536", NULL, 0},
        {"127.0.0.1:-1", NULL, 0},
        {"127.0.0.1:63a", NULL, 0},
        {"127.0.0.1:", NULL, 0},
        {"127.0.0.256:6380", NULL, 0},
        {"127.0.1:6380", NULL, 0},
        {"-x:6380", NULL, 0},
        {"a/b:6380", NULL, 0},
        {"redis://h:6380", NULL, 0},
        {"/run/pointsman.sock", NULL, 0},
        {"unix:run/pointsman.sock", NULL, 0},
        {"unix:", NULL, 0},
        {"unix:/run/x ; comment", NULL, 0},
        {"127.0.0.1:6380 [::1]:6380", NULL, 0},
        {"127.0.0.1:6380 ; comment", NULL, 0},
        {"", NULL, 0},
        {",", NULL, 0},
        {"127.0.0.1:6380,", NULL, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[256];
        snprintf(text, sizeof text, "[proxy]\nlisten = %s\n", cases[i].text);
        struct loaded loaded = load_text(text);
        assert_int_equal(loaded.config != NULL, cases[i].host != NULL);
        if (loaded.config) {
            assert_int_equal(loaded.config->listen.count, 1);
            assert_string_equal(loaded.config->listen.items[0].host, cases[i].host);
            assert_int_equal(loaded.config->listen.items[0].port, cases[i].port);
        } else {
            assert_ptr_equal(strstr(loaded.errors, "x.ini:2: proxy.listen: "), loaded.errors);
        }
        finish_loaded(&loaded);
    }
}

static void each_listen_address_has_its_persona(void **state)
{
    (void)state;
    struct loaded loaded = load_text("[proxy]\nlisten = :1, [::1]:2 as cluster, a:3  as\tsentinel, "
                                     "unix:/with blank as replica, unix:/plain as x as plain, b:6 as replica\n"
                                     "peers = 10.0.0.1:7000, [::1]:7000, name:7000\n");
    static const struct {
        const char *host;
        enum persona persona;
    } expected[] = {
        {"", PERSONA_PLAIN},
        {"::1", PERSONA_CLUSTER},
        {"a", PERSONA_SENTINEL},
        {"/with blank", PERSONA_REPLICA},
        {"/plain as x", PERSONA_PLAIN},
        {"b", PERSONA_REPLICA},
    };
    assert_good(&loaded);
    assert_int_equal(loaded.config->listen.count, COUNT(expected));
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_string_equal(loaded.config->listen.items[i].host, expected[i].host);
        assert_int_equal(loaded.config->listen.items[i].persona, expected[i].persona);
    }
    assert_int_equal(loaded.config->peers.count, 3);
    assert_string_equal(loaded.config->peers.items[2].host, "name");
    finish_loaded(&loaded);
}

static void personas_that_cannot_be_are_told(void **state)
{
    (void)state;
    static const char of_words[] = "plain, cluster, replica or sentinel";
    static const struct {
        const char *listen, *error;
    } cases[] = {
        {":1 as clutser", "\"clutser\" is nothing that an address can be taken for; did you mean cluster? It is one of %s"},
        {":1 as xyz", "\"xyz\" is nothing that an address can be taken for; write %s behind as"},
        {":1 as", "\":1 as\" has a blank in it; several addresses are separated by commas, and what one is taken for "
                  "stands behind as: 127.0.0.1:7000 as cluster"},
        {":1 cluster", "\":1 cluster\" has a blank in it; several addresses are separated by commas, and what one is "
                       "taken for stands behind as: 127.0.0.1:7000 as cluster"},
        {":1 as cluster as replica", "\":1 as cluster\" has a blank in it; several addresses are separated by commas, and "
                                     "what one is taken for stands behind as: 127.0.0.1:7000 as cluster"},
        {"unix:/a as cluster", "\"unix:/a as cluster\" is no address of a Cluster or a Sentinel; those have a host and a "
                               "port"},
        {"unix:/a as sentinel, :1", "\"unix:/a as sentinel\" is no address of a Cluster or a Sentinel; those have a host "
                                    "and a port"},
        {":1 as sentinel, :2 as cluster, unix:/a",
         "has an address as sentinel, but none of a master that it could tell; add a plain host:port"},
        {":1, :1 as cluster", ":1 is given twice; keep one of them"},
        {"xas cluster", "\"xas cluster\" has a blank in it; several addresses are separated by commas, and what one is "
                        "taken for stands behind as: 127.0.0.1:7000 as cluster"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[256], error[512], expected[600];
        snprintf(text, sizeof text, "[proxy]\nlisten = %s\n", cases[i].listen);
        snprintf(error, sizeof error, cases[i].error, of_words); /* NOLINT: our own formats */
        snprintf(expected, sizeof expected, "x.ini:2: proxy.listen: %s\n", error);
        assert_refused(text, expected);
    }
    assert_refused("[proxy]\nlisten = :1 as cluster\npeers = a:1, A:1\n",
                   "x.ini:3: proxy.peers: A:1 is given twice; keep one of them\n");
    assert_refused("[proxy]\nlisten = :1 as cluster\npeers = 0.0.0.0:7\n",
                   "x.ini:3: proxy.peers: 0.0.0.0 is no address that clients can connect to; write that of the host\n");
    assert_refused("[proxy]\nlisten = :1 as cluster\npeers = [::]:7\n",
                   "x.ini:3: proxy.peers: :: is no address that clients can connect to; write that of the host\n");
    assert_refused("[proxy]\npeers = a:1\n",
                   "x.ini:2: proxy.peers: is for addresses as cluster, and proxy.listen has none; write host:port as "
                   "cluster there, or remove this key\n");
    assert_refused("[proxy]\nlisten = :1 as cluster\npeers = unix:/a\n",
                   "x.ini:3: proxy.peers: unix:/a cannot be reached by clients of a Cluster; write host:port\n");
    assert_refused("[upstream]\nnodes = a:1 as cluster\n",
                   "x.ini:2: upstream.nodes: \"a:1 as cluster\" has a blank in it; several addresses are separated by "
                   "commas\n");
}

static void a_socket_path_must_fit_the_system(void **state)
{
    (void)state;
    for (int size = 106; size <= 109; size++) {
        char path[128], text[256];
        memset(path, 'x', sizeof path);
        path[0] = '/';
        path[size] = '\0';
        snprintf(text, sizeof text, "[proxy]\nlisten = unix:%s\n", path);
        struct loaded loaded = load_text(text);
        assert_int_equal(loaded.config != NULL, size <= 107);
        finish_loaded(&loaded);
    }
}

static void lists_and_maps_are_separated_by_commas(void **state)
{
    (void)state;
    struct loaded loaded = load_text("[upstream]\nnodes = a:1,b:2 ,\t[::3]:3\n"
                                     "map = 10.0.0.1:6379 = 127.0.0.1:7001, [::2]:2=host:3\n");
    assert_good(&loaded);
    const struct config_upstream *upstream = &loaded.config->upstreams[0];
    assert_int_equal(upstream->nodes.count, 3);
    assert_string_equal(upstream->nodes.items[1].host, "b");
    assert_string_equal(upstream->nodes.items[2].host, "::3");
    assert_int_equal(upstream->map.count, 2);
    assert_string_equal(upstream->map.items[0].from.host, "10.0.0.1");
    assert_int_equal(upstream->map.items[0].to.port, 7001);
    assert_string_equal(upstream->map.items[1].from.host, "::2");
    assert_string_equal(upstream->map.items[1].to.host, "host");
    finish_loaded(&loaded);
}

static void several_masters_have_a_distribution(void **state)
{
    (void)state;
    struct loaded loaded = load_text("[upstream]\nmaster_name = a , b,c\ndistribution = slots\n");
    assert_good(&loaded);
    const struct config_upstream *upstream = &loaded.config->upstreams[0];
    assert_int_equal(upstream->master_names.count, 3);
    assert_string_equal(upstream->master_names.items[1], "b");
    assert_int_equal(distribution_place_of(upstream->distribution, SLICE("{foo}x")), 2);
    finish_loaded(&loaded);

    loaded = load_text("[upstream]\nmaster_name = a\n");
    assert_good(&loaded);
    assert_null(loaded.config->upstreams[0].distribution);
    finish_loaded(&loaded);

    /* Without servers in the order of the names. */
    loaded = load_text("[upstream]\nmaster_name = b, a\ndistribution = modula\nhash = atol\nhash_tag = {}\n");
    assert_good(&loaded);
    assert_int_equal(distribution_place_of(loaded.config->upstreams[0].distribution, SLICE("x{7}")), 1);
    finish_loaded(&loaded);
}

static void servers_are_written_as_in_the_file_of_twemproxy(void **state)
{
    (void)state;
    struct loaded loaded = load_text(
        "[upstream]\nmaster_name = a, b, c, d, e\ndistribution = ketama\n"
        "twemproxy_servers = 10.0.0.1:6379:1 alpha, h:1:1000,h:11211:2, /tmp/x:3 \t x-y , /tmp/x:1\n");
    assert_good(&loaded);
    static const struct {
        const char *name;
        uint32_t weight;
    } expected[] = {{"alpha", 1}, {"h:1", 1000}, {"h", 2}, {"x-y", 3}, {"/tmp/x:", 1}};
    const struct config_server_list *servers = &loaded.config->upstreams[0].servers;
    assert_int_equal(servers->count, COUNT(expected));
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_string_equal(servers->items[i].name, expected[i].name);
        assert_int_equal(servers->items[i].weight, expected[i].weight);
    }
    finish_loaded(&loaded);

    static const struct {
        const char *value, *error;
    } wrong[] = {
        {"h:1:0 a", "\"h:1:0 a\" has no good weight; write host:port:weight, with a weight from 1 to 1000"},
        {"h:1:1001", "\"h:1:1001\" has no good weight; write host:port:weight, with a weight from 1 to 1000"},
        {"h:1", "\"h:1\" has no good weight; write host:port:weight, with a weight from 1 to 1000"},
        {"h:1:x", "\"h:1:x\" has no good weight; write host:port:weight, with a weight from 1 to 1000"},
        {"h", "\"h\" is not a server of twemproxy; write host:port:weight name, as in twemproxy's file"},
        {":", "\":\" is not a server of twemproxy; write host:port:weight name, as in twemproxy's file"},
        {"h:1:1 a,", "has a comma with no server beside it; remove the comma"},
        {"h:1:1 a b",
         "\"a b\" has a blank or a control character in it; several names are separated by commas"},
        {"h:1:1 a, h:2:1 a", "\"h:2:1 a\" has a name that is given twice; give each server its own"},
        {"h:1:1 a, h:2:1", "has 2 servers, but upstream.master_name has 1 names; give one for each, in the "
                           "same order"},
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        char text[256], error[256];
        snprintf(text, sizeof text,
                 "[upstream]\nmaster_name = m\ndistribution = modula\ntwemproxy_servers = %s\n",
                 wrong[i].value);
        snprintf(error, sizeof error, "x.ini:4: upstream.twemproxy_servers: %s\n", wrong[i].error);
        assert_refused(text, error);
    }
}

static void a_list_has_a_bound(void **state)
{
    (void)state;
    for (int count = CONFIG_ADDRESSES_MAX; count <= CONFIG_ADDRESSES_MAX + 1; count++) {
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        fputs("[upstream]\nnodes = ", out);
        for (int i = 0; i < count; i++)
            fprintf(out, "%sa:%d", i > 0 ? "," : "", i + 1);
        fclose(out);
        struct loaded loaded = load_text(text);
        assert_int_equal(loaded.config != NULL, count <= CONFIG_ADDRESSES_MAX);
        finish_loaded(&loaded);
        free(text);
    }
}

static void passwords_may_have_any_characters(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"a;b", "a;b"},         {"a ; b", "a ; b"}, {"a # b", "a # b"},       {";a", ";a"},
        {"#a", "#a"},           {"a=b", "a=b"},     {"a\"", "a\""},           {"\"\"a\"\"", "\"a\""},
        {"\" a \"", " a "},     {"a, b", "a, b"},   {"%s%n$x\\", "%s%n$x\\"}, {"[proxy]", "[proxy]"},
        {"unix:/x", "unix:/x"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[256];
        snprintf(text, sizeof text, "[proxy]\npassword = %s\n", cases[i].text);
        struct loaded loaded = load_text(text);
        assert_good(&loaded);
        assert_string_equal(loaded.config->password, cases[i].expected);
        finish_loaded(&loaded);
    }
}

static void a_password_may_be_as_long_as_a_line(void **state)
{
    (void)state;
    enum { SIZE = 60000 };
    char *text = malloc(SIZE + 64);
    assert_non_null(text);
    int head = sprintf(text, "[proxy]\npassword = ");
    memset(text + head, 'p', SIZE);
    strcpy(text + head + SIZE, "\nthreads = 3\n");
    struct loaded loaded = load_text(text);
    assert_good(&loaded);
    assert_int_equal(strlen(loaded.config->password), SIZE);
    assert_int_equal(loaded.config->threads, 3);
    finish_loaded(&loaded);
    free(text);
}

/* ---- errors ---- */

static void errors_name_file_line_key_and_what_would_be_right(void **state)
{
    (void)state;
    static const struct {
        const char *text, *errors;
    } cases[] = {
        {"[proxy]\nthreads = 4 ; four\n",
         "x.ini:2: proxy.threads: \"4 ; four\" is not a whole number; a comment needs a line of its own\n"},
        {"[proxy]\nrequest_timeout = 30\n",
         "x.ini:2: proxy.request_timeout: 30 has no unit; write 30ms, 30s, 30m or 30h\n"},
        {"[proxy]\nthreads = 2000\n", "x.ini:2: proxy.threads: must be between 0 and 1024\n"},
        {"[retry]\nmax_delay = 2h\n", "x.ini:2: retry.max_delay: must be between 1ms and 1h\n"},
        {"[proxy]\nclient_input_limit = 1\n",
         "x.ini:2: proxy.client_input_limit: must be between 1k and 2g\n"},
        {"[proxy]\nmax_client = 1\n",
         "x.ini:2: proxy.max_client: there is no such key; did you mean max_clients?\n"},
        {"[proxy]\npolicy = master\n",
         "x.ini:2: proxy.policy: there is no such key; policy is a key of section [reads]\n"},
        {"[proxy]\nzzzzzz = 1\n",
         "x.ini:2: proxy.zzzzzz: there is no such key; --help-config lists the keys of [proxy]\n"},
        {"[proxi]\nthreads = 1\nfoo = 2\n", "x.ini:1: there is no section \"proxi\"; did you mean proxy?\n"},
        {"[zzzzzz]\n",
         "x.ini:1: there is no section \"zzzzzz\"; the sections are proxy, upstream, reads, retry, breaker, pool, "
         "failover, admin, log\n"},
        {"threads = 1\n",
         "x.ini:1: threads: stands before any section; write [proxy] or another section above it\n"},
        {"[proxy]\nthreads = 1\n\nthreads = 1\n",
         "x.ini:4: proxy.threads: is given twice, first on line 2; keep one of them\n"},
        {"[proxy]\nthreads = 1\n[log]\n[proxy]\nthreads = 1\n",
         "x.ini:5: proxy.threads: is given twice, first on line 2; keep one of them\n"},
        {"[upstream]\npassword = s3cret\npassword_file = /x\n",
         "x.ini:3: upstream.password_file: upstream.password is given as well, on line 2; keep one of "
         "them\n"},
        {"[log]\nlevel = inf\n",
         "x.ini:2: log.level: \"inf\" is not known here; did you mean info? It is one of error, "
         "warning, info, debug\n"},
        {"[log]\ntarget = stdout\n",
         "x.ini:2: log.target: \"stdout\" is no target; write stderr, syslog, or a path with a / in it\n"},
        {"[upstream]\nmaster_name = a ; b\n",
         "x.ini:2: upstream.master_name: \"a ; b\" has a blank or a control "
         "character in it; a comment needs a line of its own\n"},
        {"[upstream]\nmaster_name = a b\n",
         "x.ini:2: upstream.master_name: \"a b\" has a blank or a control character in it; several names are "
         "separated by commas\n"},
        {"[upstream]\nmaster_name = a, a\n",
         "x.ini:2: upstream.master_name: \"a\" is given twice; keep one of them\n"},
        {"[upstream]\nmaster_name = a,,b\n",
         "x.ini:2: upstream.master_name: has a comma with no name beside it; remove the comma\n"},
        {"[upstream]\nhash_tag = {\n",
         "x.ini:2: upstream.hash_tag: \"{\" is no hash tag; write the opening and the closing character, for "
         "instance {}\n"},
        {"[upstream]\nnodes = a\n",
         "x.ini:2: upstream.nodes: \"a\" has no port; add it: Redis listens mostly on :6379, "
         "Sentinel on :26379\n"},
        {"[upstream]\nnodes = :1\n",
         "x.ini:2: upstream.nodes: \":1\" has no host; write host:port, for instance 127.0.0.1:6379\n"},
        {"[upstream]\nmap = a:1\n",
         "x.ini:2: upstream.map: \"a:1\" has no second address; write announced:port = reachable:port\n"},
        {"[upstream]\nmap = a:1 = unix:/x\n",
         "x.ini:2: upstream.map: \"unix:/x\" cannot be mapped; only addresses with a port can\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_refused(cases[i].text, cases[i].errors);
}

static void keys_that_do_not_fit_together_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *text, *errors;
    } cases[] = {
        {"[retry]\nbase_delay = 2s\n",
         "x.ini:2: retry.base_delay: must not be more than retry.max_delay, which is 1000ms\n"},
        {"[retry]\nmax_delay = 1ms\n",
         "x.ini:2: retry.max_delay: must not be less than retry.base_delay, which is 20ms\n"},
        {"[proxy]\nlisten = :1, [::1]:2, *:1\n",
         "x.ini:2: proxy.listen: :1 is given twice; keep one of them\n"},
        {"[proxy]\nlisten = [::1]:2, [::1]:2\n",
         "x.ini:2: proxy.listen: [::1]:2 is given twice; keep one of them\n"},
        {"[proxy]\nlisten = unix:/a, unix:/a\n",
         "x.ini:2: proxy.listen: unix:/a is given twice; keep one of them\n"},
        {"[proxy]\nlisten =\n", "x.ini:2: proxy.listen: is empty; give at least one address\n"},
        {"[upstream]\nnodes =\n", "x.ini:2: upstream.nodes: is empty; give at least one address\n"},
        {"[upstream]\nnodes = A:1, a:1\n", "x.ini:2: upstream.nodes: a:1 is given twice; keep one of them\n"},
        {"[upstream]\nnodes = unix:/a\n",
         "x.ini:2: upstream.nodes: unix:/a cannot be a Sentinel; write host:port, or "
         "set upstream.kind = static\n"},
        {"[upstream]\nkind = sentinel\nnodes = unix:/a\n",
         "x.ini:3: upstream.nodes: unix:/a cannot be a Sentinel; "
         "write host:port, or set upstream.kind = static\n"},
        {"[upstream]\nmap = a:1 = b:1, a:1 = c:1\n",
         "x.ini:2: upstream.map: a:1 is mapped twice; keep one of them\n"},
        {"[upstream]\nusername = u\n",
         "x.ini:2: upstream.username: is given without a password; set upstream.password, too\n"},
        {"[upstream]\nsentinel_username = u\n",
         "x.ini:2: upstream.sentinel_username: is given without a password; set "
         "upstream.sentinel_password, too\n"},
        {"[upstream]\nmaster_name = a, b\n",
         "x.ini:2: upstream.master_name: has 2 names, but nothing says which of them has a key; set "
         "upstream.distribution to slots, modula or ketama\n"},
        {"[upstream]\ndistribution = slots\n",
         "x.ini:2: upstream.distribution: has no masters to spread keys over; name them in "
         "upstream.master_name\n"},
        {"[upstream]\nkind = static\nmaster_name = a, b\ndistribution = slots\n",
         "x.ini:4: upstream.distribution: is for masters that Sentinels watch; set upstream.kind to "
         "sentinel, "
         "or remove this key\n"},
        {"[upstream]\nmaster_name = a, b\ndistribution = slots\nhash = md5\nhash_tag = {}\n",
         "x.ini:4: upstream.hash: is not used with upstream.distribution = slots, which has the hash and the "
         "tag of Redis Cluster; remove it\n"
         "x.ini:5: upstream.hash_tag: is not used with upstream.distribution = slots, which has the hash and "
         "the "
         "tag of Redis Cluster; remove it\n"},
        {"[upstream]\nmaster_name = a\ntwemproxy_servers = h:1:1\n",
         "x.ini:3: upstream.twemproxy_servers: is used with upstream.distribution = modula or ketama only; "
         "set "
         "that, or remove this key\n"},
        {"[upstream]\nmaster_name = a, b\ndistribution = ketama\nhash = atol\n",
         "x.ini:4: upstream.hash: atol is for upstream.distribution = modula only; twemproxy has no such "
         "hash\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_refused(cases[i].text, cases[i].errors);

    struct loaded loaded =
        load_text("[upstream]\nkind = static\nnodes = unix:/a, unix:/b\nusername = u\npassword = p\n"
                  "[retry]\nbase_delay = 1s\n");
    assert_good(&loaded);
    finish_loaded(&loaded);
}

static void a_value_that_is_wrong_is_not_compared_with_others(void **state)
{
    (void)state;
    assert_refused("[retry]\nmax_delay = 10\nbase_delay = 5s\n",
                   "x.ini:2: retry.max_delay: 10 has no unit; write 10ms, 10s, 10m or 10h\n");
    assert_refused(
        "[upstream]\nusername = u\npassword_file = /nonexistent\n",
        "x.ini:3: upstream.password_file: \"/nonexistent\" cannot be opened: No such file or directory\n");
    assert_refused(
        "[upstream]\nkind = statik\nnodes = unix:/a\n",
        "x.ini:2: upstream.kind: \"statik\" is not known here; did you mean static? It is one of auto, "
        "sentinel, static, cluster\n");
}

static void all_errors_of_a_file_come_in_one_go(void **state)
{
    (void)state;
    assert_refused(
        "[proxy]\nthreads = x\nlisten = :1,:1\n  y = 2\n[pool\nwait = 5\n[pool]\nwait = 5\n[nosuch]\n",
        "x.ini:2: proxy.threads: \"x\" is not a whole number; write digits only\n"
        "x.ini:4: begins with a blank; remove it (a value ends with its line, it cannot continue on the "
        "next)\n"
        "x.ini:5: the section's name is not closed; write [name]\n"
        "x.ini:8: pool.wait: 5 has no unit; write 5ms, 5s, 5m or 5h\n"
        "x.ini:9: there is no section \"nosuch\"; the sections are proxy, upstream, reads, retry, breaker, pool, "
        "failover, admin, log\n"
        "x.ini:3: proxy.listen: :1 is given twice; keep one of them\n");
}

static void errors_without_end_are_counted(void **state)
{
    (void)state;
    char text[1001];
    memset(text, 'x', sizeof text);
    for (size_t i = 1; i < 1000; i += 2)
        text[i] = '\n';
    text[1000] = '\0';
    struct loaded loaded = load_text(text);
    size_t lines = 0;
    for (char *c = loaded.errors; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 101);
    assert_non_null(strstr(loaded.errors, "x.ini: and 400 more errors\n"));
    finish_loaded(&loaded);
}

static void strange_values_are_shown_short_and_on_one_line(void **state)
{
    (void)state;
    char text[1024] = "[log]\nlevel = \x1b[31m";
    memset(text + strlen(text), 'x', 500);
    struct loaded loaded = load_text(text);
    assert_null(strchr(loaded.errors, '\x1b'));
    assert_non_null(strstr(loaded.errors, "\"?[31mxxx"));
    assert_non_null(strstr(loaded.errors, "xxx...\" is not known here"));
    assert_true(strlen(loaded.errors) < 250);
    finish_loaded(&loaded);
}

static void secrets_never_appear_in_errors(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[upstream]\npassword = hunter2\npassword = hunter2\n",
        "[upstream]\npassword = \"hunter2\n",
        "[upstream]\npasword = hunter2\n",
        "[upstraem]\npassword = hunter2\n",
        "[upstream]\npassword hunter2\n",
        "[upstream]\n password = hunter2\n",
        "[upstream]\npassword = hunter2\xff\n",
        "[upstream]\npassword = hunter2\npassword_file = /nonexistent\n",
        "[upstream]\nusername = a b\npassword = hunter2\nthreads = 1\n",
        "password = hunter2\n",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct loaded loaded = load_text(texts[i]);
        assert_null(loaded.config);
        assert_null(strstr(loaded.errors, "hunter2"));
        finish_loaded(&loaded);
    }
    static const char *const arguments[][4] = {
        {"--upstream.pasword=hunter2", NULL},
        {"--upstream.pasword", "hunter2", NULL},
        {"--password=hunter2", NULL},
        {"--upstream.password", "my", "hunter2", NULL},
        {"--upstream.password=hunter2", "--upstream.password=hunter2", NULL},
    };
    for (size_t i = 0; i < COUNT(arguments); i++) {
        struct loaded loaded = load(arguments[i], LIST("POINTSMAN_UPSTREAM_PASWORD=hunter2"));
        assert_null(loaded.config);
        assert_true(loaded.size > 0);
        assert_null(strstr(loaded.errors, "hunter2"));
        finish_loaded(&loaded);
    }
}

/* ---- origins ---- */

static void command_line_comes_before_environment_before_file_before_default(void **state)
{
    (void)state;
    static const char file[] = "[retry]\nattempts = 4\n[pool]\nwait = 4s\n[proxy]\nthreads = 4\n";
    char *path = path_of_temporary(file, sizeof file - 1);
    struct loaded loaded = load(LIST("-c", path, "--retry.attempts=6"),
                                LIST("HOME=/", "POINTSMAN_RETRY_ATTEMPTS=5", "POINTSMAN_POOL_WAIT=5s"));
    unlink(path);
    assert_good(&loaded);
    assert_int_equal(loaded.action, CONFIG_RUN);
    assert_int_equal(loaded.config->upstreams[0].retry_attempts, 6);
    assert_int_equal(loaded.config->upstreams[0].pool_wait_ms, 5000);
    assert_int_equal(loaded.config->threads, 4);
    assert_int_equal(loaded.config->max_clients, 10000);
    finish_loaded(&loaded);
}

static void a_value_that_is_replaced_is_checked_too(void **state)
{
    (void)state;
    struct loaded loaded = load(LIST("--proxy.threads=6"), LIST("POINTSMAN_PROXY_THREADS=x"));
    assert_null(loaded.config);
    assert_string_equal(loaded.errors,
                        "environment: proxy.threads: \"x\" is not a whole number; write digits only\n");
    finish_loaded(&loaded);
}

static void keys_on_the_command_line_take_their_value_by_equals_or_next(void **state)
{
    (void)state;
    struct loaded loaded = load(LIST("--proxy.threads=2", "--upstream.master_name", "my",
                                     "--proxy.password==x", "--log.target", "-/x"),
                                NONE);
    assert_good(&loaded);
    assert_int_equal(loaded.config->threads, 2);
    assert_string_equal(loaded.config->upstreams[0].master_names.items[0], "my");
    assert_string_equal(loaded.config->password, "=x");
    assert_string_equal(loaded.config->log_target, "-/x");
    finish_loaded(&loaded);
}

static void options_say_what_is_wanted(void **state)
{
    (void)state;
    static const struct {
        const char *arguments[4];
        enum config_action action;
        bool has_config;
    } cases[] = {
        {{NULL}, CONFIG_RUN, true},
        {{"-t", NULL}, CONFIG_CHECK, true},
        {{"--check-config", NULL}, CONFIG_CHECK, true},
        {{"-c", "/dev/null", NULL}, CONFIG_RUN, true},
        {{"-c/dev/null", NULL}, CONFIG_RUN, true},
        {{"-tc", "/dev/null", NULL}, CONFIG_CHECK, true},
        {{"--config=/dev/null", "-t", NULL}, CONFIG_CHECK, true},
        {{"--config", "/dev/null", NULL}, CONFIG_RUN, true},
        {{"-h", NULL}, CONFIG_HELP, false},
        {{"--help", "--nonsense", NULL}, CONFIG_HELP, false},
        {{"--proxy.threads=x", "--help", NULL}, CONFIG_HELP, false},
        {{"--help-config", NULL}, CONFIG_HELP_CONFIG, false},
        {{"--help-config=ini", NULL}, CONFIG_EXAMPLE, false},
        {{"--help-config=roff", NULL}, CONFIG_HELP_ROFF, false},
        {{"-V", NULL}, CONFIG_VERSION, false},
        {{"--version", NULL}, CONFIG_VERSION, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct loaded loaded = load(cases[i].arguments, NONE);
        assert_int_equal(loaded.action, cases[i].action);
        assert_int_equal(loaded.config != NULL, cases[i].has_config);
        assert_string_equal(loaded.errors, "");
        finish_loaded(&loaded);
    }
}

static void a_wrong_command_line_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *arguments[4], *errors;
    } cases[] = {
        {{"--threads=4", NULL},
         "command line: there is no option \"--threads\"; did you mean --proxy.threads?\n"},
        {{"--chek-config", NULL},
         "command line: there is no option \"--chek-config\"; did you mean --check-config?\n"},
        {{"--zzzzzzzz", NULL}, "command line: there is no option \"--zzzzzzzz\"; --help lists them\n"},
        {{"-x", NULL}, "command line: there is no option -x; --help lists them\n"},
        {{"-c", NULL}, "command line: --config: needs a file; write --config=FILE\n"},
        {{"-c", "--proxy.threads=1", NULL}, "command line: --config: needs a file; write --config=FILE\n"},
        {{"--config=", NULL}, "command line: --config: needs a file; write --config=FILE\n"},
        {{"-c/dev/null", "-c/dev/null", NULL}, "command line: --config: is given twice; keep one of them\n"},
        {{"--version=1", NULL}, "command line: --version: takes no value; write --version\n"},
        {{"--help-config=x", NULL},
         "command line: --help-config: there is no such format; write --help-config, "
         "--help-config=ini or --help-config=roff\n"},
        {{"--proxy.threads", NULL},
         "command line: proxy.threads: needs a value; write --proxy.threads=VALUE\n"},
        {{"--proxy.threads", "--proxy.max_clients=1", NULL},
         "command line: proxy.threads: needs a value; write --proxy.threads=VALUE\n"},
        {{"--proxy.threads=1", "--proxy.threads=2", NULL},
         "command line: proxy.threads: is given twice; keep one of them\n"},
        {{"--proxi.threads=1", NULL}, "command line: there is no section \"proxi\"; did you mean proxy?\n"},
        {{"--proxy.thread=1", NULL},
         "command line: proxy.thread: there is no such key; did you mean threads?\n"},
        {{"--retry.max_delay=1ms", NULL},
         "command line: retry.max_delay: must not be less than retry.base_delay, which is 20ms\n"},
        {{"x.ini", NULL},
         "command line: argument 1 is not an option; give a configuration file with -c FILE, a key "
         "with --section.key=value\n"},
        {{"--bogus", "--help", NULL}, "command line: there is no option \"--bogus\"; --help lists them\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct loaded loaded = load(cases[i].arguments, NONE);
        assert_string_equal(loaded.errors, cases[i].errors);
        assert_null(loaded.config);
        assert_int_equal(loaded.action, CONFIG_RUN);
        finish_loaded(&loaded);
    }
}

static void every_key_has_its_variable(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_key_count; i++) {
        char entry[256],
            *end = entry + sprintf(entry, "POINTSMAN_%s_%s", config_keys[i].section, config_keys[i].name);
        for (char *c = entry; c < end; c++)
            if (*c >= 'a' && *c <= 'z') *c = (char)(*c - 'a' + 'A');
        snprintf(end, 128, "=%s", config_keys[i].fallback);
        struct loaded loaded = load(NONE, LIST(entry));
        assert_good(&loaded);
        finish_loaded(&loaded);
    }
}

static void an_unknown_variable_is_told_unless_kubernetes_made_it(void **state)
{
    (void)state;
    struct loaded loaded =
        load(NONE, LIST("POINTSMAN_PROXY_LISTN=:1", "POINTSMANX=1", "POINTSMAN_ZZZZZZZZZZZZZ=1"));
    assert_null(loaded.config);
    assert_string_equal(loaded.errors,
                        "environment: there is no variable \"POINTSMAN_PROXY_LISTN\"; did you mean "
                        "POINTSMAN_PROXY_LISTEN?\n"
                        "environment: there is no variable \"POINTSMAN_ZZZZZZZZZZZZZ\"; names are "
                        "POINTSMAN_SECTION_KEY\n");
    finish_loaded(&loaded);

    loaded = load(NONE, LIST("POINTSMAN_SERVICE_HOST=10.0.0.1", "POINTSMAN_SERVICE_PORT=6380",
                             "POINTSMAN_SERVICE_PORT_REDIS=6380", "POINTSMAN_PORT=tcp://10.0.0.1:6380",
                             "POINTSMAN_PORT_6380_TCP_ADDR=10.0.0.1", "POINTSMAN_CACHE_SERVICE_HOST=10.0.0.2",
                             "POINTSMAN_CACHE_PORT=tcp://10.0.0.2:1"));
    assert_good(&loaded);
    finish_loaded(&loaded);
}

static void a_secret_may_come_from_a_file_of_its_own(void **state)
{
    (void)state;
    static const struct {
        const char *content;
        size_t size;
        const char *expected; /* NULL: refused */
    } cases[] = {
        {"s3 cret;#\"", 10, "s3 cret;#\""},
        {"secret\n", 7, "secret"},
        {"secret\n\n", 8, "secret\n"},
        {"\xff\xfe", 2, "\xff\xfe"},
        {"", 0, NULL},
        {"\n", 1, NULL},
        {"a\0b", 3, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = path_of_temporary(cases[i].content, cases[i].size), argument[128];
        snprintf(argument, sizeof argument, "--proxy.password_file=%s", path);
        struct loaded loaded = load(LIST(argument), LIST("POINTSMAN_PROXY_PASSWORD=replaced"));
        unlink(path);
        assert_int_equal(loaded.config != NULL, cases[i].expected != NULL);
        if (loaded.config) assert_string_equal(loaded.config->password, cases[i].expected);
        finish_loaded(&loaded);
    }
}

static void a_secret_file_that_cannot_be_is_told(void **state)
{
    (void)state;
    assert_refused(
        "[proxy]\npassword_file = /nonexistent\n",
        "x.ini:2: proxy.password_file: \"/nonexistent\" cannot be opened: No such file or directory\n");
    assert_refused("[proxy]\npassword_file = /tmp\n",
                   "x.ini:2: proxy.password_file: \"/tmp\" is not a file; name a file "
                   "with the secret in it\n");
    assert_refused("[proxy]\npassword_file = /dev/zero\n",
                   "x.ini:2: proxy.password_file: \"/dev/zero\" is not a file; "
                   "name a file with the secret in it\n");
    assert_refused(
        "[proxy]\nthreads_file = /tmp\n",
        "x.ini:2: proxy.threads_file: there is no such key; --help-config lists the keys of [proxy]\n");
    static char large[64 * 1024 + 1];
    memset(large, 'x', sizeof large);
    char *path = path_of_temporary(large, sizeof large), argument[128];
    snprintf(argument, sizeof argument, "--proxy.password_file=%s", path);
    struct loaded loaded = load(LIST(argument), NONE);
    unlink(path);
    assert_null(loaded.config);
    assert_non_null(strstr(loaded.errors, "has more than 65536 bytes"));
    finish_loaded(&loaded);
}

static void a_file_that_cannot_be_read_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *path, *errors;
    } cases[] = {
        {"/nonexistent", "/nonexistent: cannot be opened: No such file or directory; give a configuration "
                         "file with -c FILE\n"},
        {"/tmp", "/tmp: is a directory; name a configuration file\n"},
        {"/dev/zero", "/dev/zero: has more than 1 MiB; that is no configuration\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct loaded loaded = load(LIST("-t", "-c", cases[i].path), NONE);
        assert_string_equal(loaded.errors, cases[i].errors);
        assert_null(loaded.config);
        assert_int_equal(loaded.action, CONFIG_CHECK);
        finish_loaded(&loaded);
    }
}

/* ---- what follows from the table ---- */

static char *content_of(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("%s cannot be opened; unit tests run from the top of the repository", path);
    char *text = calloc(256, 1024);
    assert_non_null(text);
    assert_true(fread(text, 1, 256 * 1024 - 1, file) > 0);
    fclose(file);
    return text;
}

static void the_example_file_is_what_the_table_prints(void **state)
{
    (void)state;
    char *example = content_of("proxy.ini.example"), *expected = printed(config_print_example);
    assert_string_equal(example, expected);
    free(example);
    free(expected);
}

static void the_example_file_has_every_key_and_loads_to_the_defaults(void **state)
{
    (void)state;
    char *text = printed(config_print_example), line[256];
    for (size_t i = 0; i < config_key_count; i++) {
        snprintf(line, sizeof line, "\n;%s =%s%s\n", config_keys[i].name, *config_keys[i].fallback ? " " : "",
                 config_keys[i].fallback);
        assert_non_null(strstr(text, line));
    }
    size_t uncommented = 0;
    for (char *c = text; (c = strstr(c, "\n;")) != NULL; uncommented++)
        memmove(c + 1, c + 2, strlen(c + 2) + 1);
    assert_int_equal(uncommented, config_key_count);
    struct loaded loaded = load_text(text);
    assert_good(&loaded);
    assert_int_equal(loaded.config->drain_time_ms, 10000);
    assert_int_equal(loaded.config->upstreams[0].reads_policy, READS_PREFER_REPLICA);
    finish_loaded(&loaded);
    free(text);
}

static void the_manual_page_has_what_the_table_prints(void **state)
{
    (void)state;
    static const char begin[] = ".\\\" begin keys\n", end[] = ".\\\" end keys\n";
    char *page = content_of("packaging/man/pointsman.8"), *expected = printed(config_print_roff);
    char *from = strstr(page, begin), *to = strstr(page, end);
    assert_non_null(from);
    assert_non_null(to);
    *to = '\0';
    assert_string_equal(from + sizeof begin - 1, expected);
    free(page);
    free(expected);
}

static void the_manual_page_has_every_option(void **state)
{
    (void)state;
    char *page = content_of("packaging/man/pointsman.8");
    for (size_t i = 0; i < config_option_count; i++) {
        char option[64];
        size_t used = (size_t)sprintf(option, "\\-\\-");
        for (const char *c = config_options[i].name; *c; c++)
            used += (size_t)sprintf(option + used, "%s%c", *c == '-' ? "\\" : "", *c);
        if (!strstr(page, option)) fail_msg("the page lacks %s", option);
    }
    free(page);
}

static void every_form_of_help_has_every_key(void **state)
{
    (void)state;
    char *help = printed(config_print_help), *roff = printed(config_print_roff), text[128];
    for (size_t i = 0; i < config_key_count; i++) {
        snprintf(text, sizeof text, "\n  %s.%s = ", config_keys[i].section, config_keys[i].name);
        assert_non_null(strstr(help, text));
        snprintf(text, sizeof text, "\n.B %s = ", config_keys[i].name);
        assert_non_null(strstr(roff, text));
    }
    free(help);
    free(roff);
}

static void usage_has_every_option_and_fits_a_terminal(void **state)
{
    (void)state;
    char *usage = printed(config_print_usage), text[64];
    for (size_t i = 0; i < config_option_count; i++) {
        snprintf(text, sizeof text, " --%s", config_options[i].name);
        assert_non_null(strstr(usage, text));
    }
    for (char *line = strtok(usage, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 110);
    free(usage);
}

static void the_configuration_files_shipped_are_good(void **state)
{
    (void)state;
    struct loaded loaded = load(LIST("-c", "conf/demo.ini"), NONE);
    assert_good(&loaded);
    assert_int_equal(loaded.config->upstreams[0].nodes.count, 3);
    assert_int_equal(loaded.config->upstreams[0].kind, UPSTREAM_AUTO);
    finish_loaded(&loaded);
    loaded = load(LIST("-c", "proxy.ini.example"), NONE);
    assert_good(&loaded);
    finish_loaded(&loaded);
}

static void a_null_config_is_destroyed_without_harm(void **state)
{
    (void)state;
    config_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_is_the_defaults),
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(sizes_are_of_1024),
        cmocka_unit_test(numbers_stay_within_their_bounds),
        cmocka_unit_test(choices_are_in_the_order_of_their_enums),
        cmocka_unit_test(levels_of_the_config_are_those_of_the_log),
        cmocka_unit_test(listen_addresses_are_hosts_wildcards_ipv6_and_sockets),
        cmocka_unit_test(each_listen_address_has_its_persona),
        cmocka_unit_test(personas_that_cannot_be_are_told),
        cmocka_unit_test(a_socket_path_must_fit_the_system),
        cmocka_unit_test(lists_and_maps_are_separated_by_commas),
        cmocka_unit_test(several_masters_have_a_distribution),
        cmocka_unit_test(servers_are_written_as_in_the_file_of_twemproxy),
        cmocka_unit_test(a_list_has_a_bound),
        cmocka_unit_test(passwords_may_have_any_characters),
        cmocka_unit_test(a_password_may_be_as_long_as_a_line),
        cmocka_unit_test(errors_name_file_line_key_and_what_would_be_right),
        cmocka_unit_test(keys_that_do_not_fit_together_are_told),
        cmocka_unit_test(a_value_that_is_wrong_is_not_compared_with_others),
        cmocka_unit_test(all_errors_of_a_file_come_in_one_go),
        cmocka_unit_test(errors_without_end_are_counted),
        cmocka_unit_test(strange_values_are_shown_short_and_on_one_line),
        cmocka_unit_test(secrets_never_appear_in_errors),
        cmocka_unit_test(command_line_comes_before_environment_before_file_before_default),
        cmocka_unit_test(a_value_that_is_replaced_is_checked_too),
        cmocka_unit_test(keys_on_the_command_line_take_their_value_by_equals_or_next),
        cmocka_unit_test(options_say_what_is_wanted),
        cmocka_unit_test(a_wrong_command_line_is_told),
        cmocka_unit_test(every_key_has_its_variable),
        cmocka_unit_test(an_unknown_variable_is_told_unless_kubernetes_made_it),
        cmocka_unit_test(a_secret_may_come_from_a_file_of_its_own),
        cmocka_unit_test(a_secret_file_that_cannot_be_is_told),
        cmocka_unit_test(a_file_that_cannot_be_read_is_told),
        cmocka_unit_test(the_example_file_is_what_the_table_prints),
        cmocka_unit_test(the_example_file_has_every_key_and_loads_to_the_defaults),
        cmocka_unit_test(the_manual_page_has_what_the_table_prints),
        cmocka_unit_test(the_manual_page_has_every_option),
        cmocka_unit_test(every_form_of_help_has_every_key),
        cmocka_unit_test(usage_has_every_option_and_fits_a_terminal),
        cmocka_unit_test(the_configuration_files_shipped_are_good),
        cmocka_unit_test(a_null_config_is_destroyed_without_harm),
    };
    return cmocka_run_group_tests_name("proxy_config", tests, NULL, NULL);
}
