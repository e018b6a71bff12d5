/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looks which kind of upstream the configured nodes are, for kind = auto: all are asked at once, and the
 * first that tells its redis_mode decides. Has nothing to say about masters; its table of functions is
 * detect_discovery of discovery.h.
 *
 * Which password a seed wants is not known before it is known what it is, so where nodes and Sentinels have
 * different ones each seed is asked twice, with either.
 *
 * Threads: the control thread only.
 */
#include "proxy/discovery.h"

#include "proxy/log.h"
#include "proxy/survey.h"

#include <stdlib.h>

enum login { LOGIN_NODE, LOGIN_SENTINEL, LOGIN_COUNT };

struct detect {
    struct survey *survey;
    struct probe_setup setups[LOGIN_COUNT];
    struct probe *probes;
    bool is_silence_logged, is_misfit_logged;
};

static void *detect_start(struct survey *survey);
static void detect_stop(void *discovery);
static void detect_judge(void *discovery, uint64_t now_us);
static void detect_ask(void *discovery);
static void detect_add(struct detect *detect, const struct probe_setup *setup);
static bool detect_needs_both(const struct detect *detect);
static const struct discovery_kind *detect_kind(const struct probe *probe);
static bool detect_fits(struct detect *detect, const struct probe *probe, const struct discovery_kind *kind);
static void detect_log_silence(struct detect *detect);
static void detect_changed(void *owner, struct probe *probe);
static void detect_commands(void *owner, struct slice reply);

const struct discovery_kind detect_discovery = {
    .name = "",
    .start = detect_start,
    .stop = detect_stop,
    .judge = detect_judge,
    .ask = detect_ask,
};

static void *detect_start(struct survey *survey)
{
    struct detect *detect = calloc(1, sizeof(*detect));
    if (!detect) return NULL;

    const struct config_upstream *config = survey->config;
    struct probe_setup *setups = detect->setups;
    detect->survey = survey;
    setups[LOGIN_NODE] = survey->setup;
    setups[LOGIN_NODE].changed = detect_changed;
    setups[LOGIN_NODE].commands = detect_commands;
    setups[LOGIN_NODE].owner = detect;
    setups[LOGIN_NODE].is_quiet = true;
    setups[LOGIN_SENTINEL] = setups[LOGIN_NODE];
    setups[LOGIN_SENTINEL].username = config->sentinel_username ? config->sentinel_username : "";
    setups[LOGIN_SENTINEL].password = config->sentinel_password ? config->sentinel_password : "";

    detect_add(detect, &setups[LOGIN_NODE]);
    if (detect_needs_both(detect)) detect_add(detect, &setups[LOGIN_SENTINEL]);
    return detect;
}

static void detect_stop(void *discovery)
{
    struct detect *detect = discovery;
    while (detect->probes) {
        struct probe *next = detect->probes->next;
        probe_destroy(detect->probes);
        detect->probes = next;
    }
    free(detect);
}

static void detect_judge(void *discovery, uint64_t now_us)
{
    (void)now_us;
    struct detect *detect = discovery;
    for (struct probe *probe = detect->probes; probe; probe = probe->next) {
        const struct discovery_kind *kind = detect_kind(probe);
        if (!kind || !detect_fits(detect, probe, kind)) continue;
        log_info("%s: %s is a %s, so kind is %s", survey_label(detect->survey), probe->name,
                 kind == &sentinel_discovery  ? "Sentinel"
                 : kind == &cluster_discovery ? "node of a Redis Cluster"
                                              : "plain Redis",
                 kind->name);
        survey_become(detect->survey, kind);
        return;
    }
    detect_log_silence(detect);
}

static void detect_ask(void *discovery)
{
    struct detect *detect = discovery;
    for (struct probe *probe = detect->probes; probe; probe = probe->next)
        probe_hurry(probe, 0);
}

static void detect_add(struct detect *detect, const struct probe_setup *setup)
{
    const struct config_address_list *nodes = &detect->survey->config->nodes;
    for (size_t i = 0; i < nodes->count; i++) {
        struct probe *probe = probe_create(setup, nodes->items[i].host, nodes->items[i].port);
        if (!probe) continue;
        probe->next = detect->probes;
        detect->probes = probe;
    }
}

static bool detect_needs_both(const struct detect *detect)
{
    const struct probe_setup *node = &detect->setups[LOGIN_NODE], *sentinel = &detect->setups[LOGIN_SENTINEL];
    return strcmp(node->username, sentinel->username) != 0 || strcmp(node->password, sentinel->password) != 0;
}

/* NULL while it has not told, or is of no use. */
static const struct discovery_kind *detect_kind(const struct probe *probe)
{
    if (strcmp(probe->mode, "sentinel") == 0) return &sentinel_discovery;
    if (strcmp(probe->mode, "standalone") == 0) return &roster_discovery;
    if (strcmp(probe->mode, "cluster") == 0) return &cluster_discovery;
    return NULL;
}

/* A distribution needs the masters that Sentinels name: one node, or a cluster with slots of its own, is not
 * meant. */
static bool detect_fits(struct detect *detect, const struct probe *probe, const struct discovery_kind *kind)
{
    if (!detect->survey->config->distribution || kind == &sentinel_discovery) return true;
    if (!detect->is_misfit_logged)
        log_error("%s: %s is no Sentinel, but upstream.distribution is for masters that Sentinels watch; set "
                  "upstream.nodes to Sentinels",
                  survey_label(detect->survey), probe->name);
    detect->is_misfit_logged = true;
    return false;
}

/* Once, when every seed has been tried in vain. */
static void detect_log_silence(struct detect *detect)
{
    if (detect->is_silence_logged) return;
    for (struct probe *probe = detect->probes; probe; probe = probe->next) {
        bool is_nameless = probe->tried_us && !probe_address(probe)[0]; /* its name is not known */
        if (probe->answers || (probe->reconnect.failures == 0 && !is_nameless)) return;
    }
    for (struct probe *probe = detect->probes; probe; probe = probe->next)
        log_warning("%s: %s: not reachable%s: %s", survey_label(detect->survey), probe->name,
                    probe->setup == &detect->setups[LOGIN_SENTINEL] ? ", with the login for Sentinels" : "",
                    probe->fault);
    detect->is_silence_logged = true;
}

static void detect_changed(void *owner, struct probe *probe)
{
    (void)probe;
    struct detect *detect = owner;
    survey_touch(detect->survey);
}

static void detect_commands(void *owner, struct slice reply)
{
    (void)owner;
    (void)reply;
}
