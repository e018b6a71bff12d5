/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/roster.h"

#include "proxy/clock.h"
#include "proxy/link.h"
#include "proxy/log.h"
#include "proxy/survey.h"
#include "routing/roles.h"

#include <stdio.h>
#include <stdlib.h>

#define ROSTER_NODES_MAX    64
#define ROSTER_HURRY_GAP_US 10000U

struct roster {
    struct survey *survey;
    struct probe *nodes[ROSTER_NODES_MAX];
    size_t count;
    struct probe *accepted; /* the last master */
    enum roster_stance stance;
    uint64_t masterless_us; /* since when there is no master; 0 = there is one */
};

static void *roster_start(struct survey *survey);
static void roster_stop(void *discovery);
static void roster_judge(void *discovery, uint64_t now_us);
static void roster_ask(void *discovery);
static void roster_add(struct roster *roster, const struct config_address *address);
static size_t roster_describe(const struct roster *roster, struct roles_node *nodes);
static uint32_t roster_replicas(const struct roster *roster, const struct probe *master);
static enum roster_stance roster_stance(const struct roster *roster, const struct roles_answer *answer);
static void roster_accept(struct roster *roster, struct probe *master, const char *reason, uint64_t now_us);
static uint64_t roster_asked_us(const struct roster *roster);
static void roster_set_stance(struct roster *roster, enum roster_stance stance,
                              const struct roles_answer *answer);
static const char *roster_claimants(const struct roster *roster, char *out, size_t size);
static bool is_told(const struct probe *probe);

const struct discovery_kind roster_discovery = {
    .name = "static",
    .start = roster_start,
    .stop = roster_stop,
    .judge = roster_judge,
    .ask = roster_ask,
};

static void *roster_start(struct survey *survey)
{
    struct roster *roster = calloc(1, sizeof(*roster));
    if (!roster) return NULL;
    roster->survey = survey;
    roster->masterless_us = clock_us();
    for (size_t i = 0; i < survey->config->nodes.count; i++)
        roster_add(roster, &survey->config->nodes.items[i]);
    return roster;
}

static void roster_stop(void *discovery)
{
    free(discovery);
}

static void roster_judge(void *discovery, uint64_t now_us)
{
    struct roster *roster = discovery;
    struct survey_shard *shard = &roster->survey->only;
    struct roles_node nodes[ROSTER_NODES_MAX];
    size_t accepted = roster_describe(roster, nodes);
    struct roles_answer answer = roles_decide(nodes, roster->count, accepted);

    enum roster_stance stance = roster_stance(roster, &answer);
    roster_set_stance(roster, stance, &answer);
    shard->master = NULL;
    if (answer.master != ROLES_NONE)
        roster_accept(roster, roster->nodes[answer.master], answer.reason, now_us);
    if (shard->master && shard->master->answers)
        roster->masterless_us = 0;
    else if (!roster->masterless_us)
        roster->masterless_us = now_us;
    roster->survey->verdict.is_unsettled =
        stance == ROSTER_NONE || stance == ROSTER_DISPUTED || (shard->master && !shard->master->answers);
}

static void roster_ask(void *discovery)
{
    struct roster *roster = discovery;
    for (size_t i = 0; i < roster->count; i++)
        probe_hurry(roster->nodes[i], ROSTER_HURRY_GAP_US);
}

static void roster_add(struct roster *roster, const struct config_address *address)
{
    if (roster->count == ROSTER_NODES_MAX) {
        log_error("%s: upstream.nodes has more than %d nodes; the rest is not used",
                  survey_label(roster->survey), ROSTER_NODES_MAX);
        return;
    }
    struct probe *probe = survey_node(roster->survey, address->host, address->port);
    if (!probe) return;
    for (size_t i = 0; i < roster->count; i++) {
        if (roster->nodes[i] == probe) return; /* listed twice */
    }
    probe->wants_replication = true;
    roster->nodes[roster->count++] = probe;
}

/* Returns the index of the accepted master. */
static size_t roster_describe(const struct roster *roster, struct roles_node *nodes)
{
    size_t accepted = ROLES_NONE;
    for (size_t i = 0; i < roster->count; i++) {
        const struct probe *probe = roster->nodes[i];
        if (probe == roster->accepted) accepted = i;
        nodes[i] = (struct roles_node){.is_heard = is_told(probe),
                                       .claims_master = probe->role == NODE_ROLE_MASTER,
                                       .replid = probe->replid,
                                       .replid2 = probe->replid2,
                                       .offset = probe->offset,
                                       .our_replicas = roster_replicas(roster, probe)};
    }
    return accepted;
}

/* How many of our nodes replicate from it, by their own words. */
static uint32_t roster_replicas(const struct roster *roster, const struct probe *master)
{
    uint32_t number = 0;
    for (size_t i = 0; i < roster->count; i++) {
        const struct probe *probe = roster->nodes[i];
        if (!is_told(probe) || probe->role != NODE_ROLE_REPLICA || !probe->is_linked) continue;
        const char *host = probe->master_host;
        uint16_t port = probe->master_port;
        survey_map(roster->survey, &host, &port);
        number += probe_follows(probe, master, host, port);
    }
    return number;
}

static enum roster_stance roster_stance(const struct roster *roster, const struct roles_answer *answer)
{
    if (answer->claims > 1) return answer->master == ROLES_NONE ? ROSTER_DISPUTED : ROSTER_RIVALS;
    if (answer->master != ROLES_NONE) return ROSTER_SETTLED;
    bool is_anyone_told = false;
    for (size_t i = 0; i < roster->count; i++) {
        const struct probe *probe = roster->nodes[i];
        if (is_told(probe))
            is_anyone_told = true;
        else if (link_state(probe->link) != LINK_CLOSED)
            return roster->stance; /* its answer is on its way */
    }
    return is_anyone_told ? ROSTER_NONE : roster->stance; /* nobody answers: what was said stands */
}

static void roster_accept(struct roster *roster, struct probe *master, const char *reason, uint64_t now_us)
{
    struct survey_shard *shard = &roster->survey->only;
    struct probe *before = roster->accepted;
    roster->accepted = shard->master = shard->followed = master;
    if (before != master) {
        uint64_t gap_ms = roster->masterless_us ? (now_us - roster->masterless_us) / 1000 : 0;
        log_info("%s: master is %s (was %s)%s%s, after %llu ms without a master",
                 survey_label(roster->survey), master->name, before ? before->name : "none",
                 reason[0] ? ": " : "", reason, (unsigned long long)gap_ms);
        shard->confirmed_us = 0;
    }
    uint64_t asked_us = roster_asked_us(roster);
    if (master->answers && asked_us > shard->confirmed_us) shard->confirmed_us = asked_us;
}

/* The master is confirmed as of when all that answer, rivals to be, were asked for their roles. */
static uint64_t roster_asked_us(const struct roster *roster)
{
    uint64_t oldest_us = UINT64_MAX;
    for (size_t i = 0; i < roster->count; i++) {
        const struct probe *probe = roster->nodes[i];
        if (is_told(probe) && probe->role_asked_us < oldest_us) oldest_us = probe->role_asked_us;
    }
    return oldest_us == UINT64_MAX ? 0 : oldest_us;
}

/* Logs what the new stance means, once. */
static void roster_set_stance(struct roster *roster, enum roster_stance stance,
                              const struct roles_answer *answer)
{
    const char *label = survey_label(roster->survey);
    enum roster_stance before = roster->stance;
    char claimants[512];
    roster->stance = stance;
    if (before == stance) return;

    switch (stance) {
    case ROSTER_UNKNOWN:
        break;
    case ROSTER_SETTLED:
        if (before == ROSTER_RIVALS || before == ROSTER_DISPUTED) log_info("%s: one master again", label);
        break;
    case ROSTER_NONE:
        log_error("%s: no master: every node that answers says it is a replica; writes are held", label);
        break;
    case ROSTER_RIVALS:
        log_error("%s: two masters: %s; using %s, since %s; make the others its replicas", label,
                  roster_claimants(roster, claimants, sizeof(claimants)), roster->nodes[answer->master]->name,
                  answer->reason);
        break;
    case ROSTER_DISPUTED:
        log_error("%s: no master: %s say they are, and %s; writes are held", label,
                  roster_claimants(roster, claimants, sizeof(claimants)), answer->reason);
        break;
    }
}

static const char *roster_claimants(const struct roster *roster, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < roster->count && used < size; i++) {
        const struct probe *probe = roster->nodes[i];
        if (!is_told(probe) || probe->role != NODE_ROLE_MASTER) continue;
        int printed = snprintf(out + used, size - used, "%s%s", used ? ", " : "", probe->name);
        if (printed > 0) used += (size_t)printed;
    }
    return out;
}

/* It answers, and has told its role and its history. */
static bool is_told(const struct probe *probe)
{
    return probe->answers && probe->role != NODE_ROLE_UNKNOWN && probe->replication_asked_us;
}
