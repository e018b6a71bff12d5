/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/roles.h"

#include <string.h>

/* Returns > 0 if the first wins, < 0 if the second does, 0 if the rule cannot tell. */
typedef int roles_rule(const struct roles_node *nodes, size_t a, size_t b, size_t accepted);

static roles_rule by_descent, by_acceptance, by_replicas, by_offset;

static const struct {
    roles_rule *rule;
    const char *reason;
} rules[] = {
    {by_descent, "it was promoted from being a replica of the other"},
    {by_acceptance, "it was the master before the other appeared"},
    {by_replicas, "replicas follow it"},
    {by_offset, "its replication offset is higher"},
};

static size_t roles_settle(const struct roles_node *nodes, size_t count, size_t accepted,
                           const char **reason);
static bool beats_all(const struct roles_node *nodes, size_t count, size_t candidate, size_t accepted,
                      const char **reason);
static int compare(const struct roles_node *nodes, size_t a, size_t b, size_t accepted, const char **reason);
static bool is_claimant(const struct roles_node *node);

struct roles_answer roles_decide(const struct roles_node *nodes, size_t count, size_t accepted)
{
    struct roles_answer answer = {.master = ROLES_NONE, .reason = ""};
    for (size_t i = 0; i < count; i++) {
        if (!is_claimant(&nodes[i])) continue;
        answer.claims++;
        answer.master = i;
    }

    if (answer.claims == 0 && accepted < count && !nodes[accepted].is_heard) answer.master = accepted;
    if (answer.claims > 1) answer.master = roles_settle(nodes, count, accepted, &answer.reason);
    return answer;
}

const char *roles_replica_fault(const struct roles_replica *replica)
{
    if (!replica->is_heard) return replica->no_answer;
    if (!replica->says_replica) return "says it is a master, but it is not the one accepted";
    if (replica->is_called_down)
        return replica->is_in_cluster ? "the cluster calls it failing" : "the Sentinels call it down";
    if (!replica->follows_master) return "follows another master";
    if (replica->is_linked) return NULL;
    if (replica->was_linked && !replica->master_works) return NULL;
    return "its link to the master is down";
}

static size_t roles_settle(const struct roles_node *nodes, size_t count, size_t accepted, const char **reason)
{
    for (size_t i = 0; i < count; i++) {
        if (is_claimant(&nodes[i]) && beats_all(nodes, count, i, accepted, reason)) return i;
    }
    *reason = "nothing tells which of them is newer";
    return ROLES_NONE;
}

static bool beats_all(const struct roles_node *nodes, size_t count, size_t candidate, size_t accepted,
                      const char **reason)
{
    for (size_t i = 0; i < count; i++) {
        if (i == candidate || !is_claimant(&nodes[i])) continue;
        if (compare(nodes, candidate, i, accepted, reason) <= 0) return false;
    }
    return true;
}

static int compare(const struct roles_node *nodes, size_t a, size_t b, size_t accepted, const char **reason)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        int order = rules[i].rule(nodes, a, b, accepted);
        if (order == 0) continue;
        *reason = rules[i].reason;
        return order;
    }
    return 0;
}

static bool is_claimant(const struct roles_node *node)
{
    return node->is_heard && node->claims_master;
}

static bool descends(const struct roles_node *child, const struct roles_node *parent)
{
    return child->replid2[0] && strcmp(child->replid2, parent->replid) == 0;
}

static int by_descent(const struct roles_node *nodes, size_t a, size_t b, size_t accepted)
{
    (void)accepted;
    return descends(&nodes[a], &nodes[b]) - descends(&nodes[b], &nodes[a]);
}

static int by_acceptance(const struct roles_node *nodes, size_t a, size_t b, size_t accepted)
{
    (void)nodes;
    return (a == accepted) - (b == accepted);
}

static int by_replicas(const struct roles_node *nodes, size_t a, size_t b, size_t accepted)
{
    (void)accepted;
    return (nodes[a].our_replicas > nodes[b].our_replicas) - (nodes[a].our_replicas < nodes[b].our_replicas);
}

static int by_offset(const struct roles_node *nodes, size_t a, size_t b, size_t accepted)
{
    (void)accepted;
    return (nodes[a].offset > nodes[b].offset) - (nodes[a].offset < nodes[b].offset);
}
