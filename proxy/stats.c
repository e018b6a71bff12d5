/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/stats.h"

#include "proxy/client.h"
#include "proxy/clock.h"
#include "proxy/handler.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const names[STAT_COUNT] = {
#define STAT_NAME(name, text) [STAT_##name] = text,
    STATS_TABLE(STAT_NAME)
#undef STAT_NAME
};

static const enum stats_row of_refusal[REFUSAL_COUNT] = {
    [REFUSAL_READONLY] = STAT_RETRIES_READONLY,     [REFUSAL_LOADING] = STAT_RETRIES_LOADING,
    [REFUSAL_MASTERDOWN] = STAT_RETRIES_MASTERDOWN, [REFUSAL_UNBLOCKED] = STAT_RETRIES_UNBLOCKED,
    [REFUSAL_MOVED] = STAT_RETRIES_MOVED,           [REFUSAL_ASK] = STAT_RETRIES_ASK,
    [REFUSAL_TRYAGAIN] = STAT_RETRIES_TRYAGAIN,     [REFUSAL_CLUSTERDOWN] = STAT_RETRIES_CLUSTERDOWN,
};

static void write_numbers(FILE *stream, const struct worker_group *group);
static void write_threads(FILE *stream, const struct worker_group *group);
static void write_nodes(FILE *stream, const struct upstream *upstream);
static void reply_info(struct client *client, struct slice text);

void stats_add_refusal(struct stats *stats, enum refusal refusal)
{
    if (refusal != REFUSAL_NONE)
        stats_add(stats, of_refusal[refusal], 1);
}

void stats_add_failure(struct stats *stats, enum error error)
{
    static const struct {
        enum error error;
        enum stats_row row;
    } rows[] = {
        {ERROR_WRITE_LOST, STAT_FAILURES_OUTCOME_UNKNOWN},
        {ERROR_WRITE_TIMED_OUT, STAT_FAILURES_OUTCOME_UNKNOWN},
        {ERROR_WRITE_ABANDONED, STAT_FAILURES_OUTCOME_UNKNOWN},
        {ERROR_SESSION_LOST, STAT_FAILURES_OUTCOME_UNKNOWN},
        {ERROR_READ_TIMED_OUT, STAT_FAILURES_TIMED_OUT},
        {ERROR_READ_LOST, STAT_FAILURES_ATTEMPTS},
        {ERROR_BUDGET, STAT_FAILURES_BUDGET},
        {ERROR_HOLD_FULL, STAT_FAILURES_HOLD_FULL},
        {ERROR_NO_MASTER, STAT_FAILURES_HOLD_TIME},
        {ERROR_NO_NODE, STAT_FAILURES_HOLD_TIME},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].error == error) {
            stats_add(stats, rows[i].row, 1);
            return;
        }
    }
    stats_add(stats, STAT_FAILURES_OTHER, 1);
}

bool stats_handles(const struct client *client, const struct command_at_hand *at_hand)
{
    return at_hand->command->local == LOCAL_INFO && at_hand->count == 2 && slice_is(at_hand->words[1], "PROXY") &&
           !session_forwards_all(&client->session);
}

bool stats_answer(struct client *client)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream) {
        fputs("# Proxy\r\n", stream);
        write_numbers(stream, client->worker->group);
        write_threads(stream, client->worker->group);
        write_nodes(stream, client->upstream);
    }
    if (stream && fclose(stream) == 0)
        reply_info(client, (struct slice){text, size});
    else
        client_reply(client, error_reply(ERROR_MEMORY));
    free(text);
    return true;
}

static void write_numbers(FILE *stream, const struct worker_group *group)
{
    for (size_t i = 0; i < STAT_COUNT; i++) {
        uint64_t sum = 0;
        for (uint32_t k = 0; k < group->count; k++)
            sum += atomic_load_explicit(&group->workers[k]->stats.values[i], memory_order_relaxed);
        fprintf(stream, "%s:%" PRIu64 "\r\n", names[i], sum);
    }
}

static void write_threads(FILE *stream, const struct worker_group *group)
{
    for (uint32_t i = 0; i < group->count; i++) {
        const struct arrival_gauge *gauge = &group->workers[i]->gauge;
        fprintf(stream, "thread%" PRIu32 ":clients=%" PRIu32 ",busy_percent=%" PRIu32 "\r\n", i,
                atomic_load_explicit(&gauge->clients, memory_order_relaxed),
                atomic_load_explicit(&gauge->busy_percent, memory_order_relaxed));
    }
}

static void write_nodes(FILE *stream, const struct upstream *upstream)
{
    static const char *const roles[] = {"unknown", "master", "replica"};
    static const char *const states[] = {"closed", "open", "half-open"};
    const struct topology *topology = upstream->topology;
    uint64_t now_us = clock_us();
    fprintf(stream, "shards_with_two_masters:%" PRIu32 "\r\n", topology->disputed);
    for (uint32_t i = 0; i < topology->node_count; i++) {
        const struct topology_node *node = &topology->nodes[i];
        uint64_t fresh_us = topology_fresh_us(node);
        fprintf(stream, "node%" PRIu32 ":name=%s,role=%s,fit=%d,breaker=%s,slow=%d,latency_us=%" PRIu32, i, node->name,
                roles[node->role], node->is_fit, states[breaker_state_of(breaker_word(&node->gauge->breaker))],
                upstream->loads[i].is_gray, atomic_load_explicit(&node->gauge->latency_us, memory_order_relaxed));
        if (node->role == NODE_ROLE_REPLICA && fresh_us)
            fprintf(stream, ",behind_ms=%" PRIu64, now_us > fresh_us ? (now_us - fresh_us) / 1000 : 0);
        fputs("\r\n", stream);
    }
}

/* As Redis replies to INFO: in RESP3 as a text. */
static void reply_info(struct client *client, struct slice text)
{
    bool is_resp3 = client->session.is_resp3;
    size_t size = text.size + 64;
    char *whole = malloc(size);
    if (!whole) {
        client_reply(client, error_reply(ERROR_MEMORY));
        return;
    }
    int used = snprintf(whole, size, "%c%zu\r\n%s%.*s\r\n", is_resp3 ? '=' : '$', text.size + (is_resp3 ? 4 : 0),
                        is_resp3 ? "txt:" : "", (int)text.size, text.bytes);
    client_reply(client, (struct slice){whole, (size_t)used});
    free(whole);
}
