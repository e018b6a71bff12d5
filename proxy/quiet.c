/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/quiet.h"

#include "proxy/upstream.h"
#include "proxy/worker.h"

static bool is_over(const struct quiet *quiet, const struct worker *worker);
static uint32_t count_left(const struct quiet *quiet, const struct worker *worker);
static uint32_t count_of_client(const struct quiet *quiet, const struct client *client);
static uint32_t count_sent(const struct quiet *quiet, const struct worker *worker);
static uint32_t count_on(const struct quiet *quiet, const struct connection *connection);
static bool concerns(const struct quiet *quiet, const struct request *request);
static bool is_own(const struct request *request);

enum gather_way quiet_visit(struct quiet *quiet, struct worker *worker)
{
    quiet->left = count_left(quiet, worker);
    if (quiet->left == 0) return GATHER_ON;
    if (is_over(quiet, worker)) return GATHER_HOME;
    quiet->looked_ms = worker->now_ms;
    quiet->next = worker->quiets;
    worker->quiets = quiet;
    return GATHER_KEPT;
}

/* Counting costs, so once a millisecond is often enough. */
void quiet_look(struct worker *worker)
{
    for (struct quiet **at = &worker->quiets; *at;) {
        struct quiet *quiet = *at;
        bool is_due =
            worker->now_ms > quiet->looked_ms && (is_over(quiet, worker) || count_left(quiet, worker) == 0);
        quiet->looked_ms = worker->now_ms;
        if (is_due) {
            *at = quiet->next;
            gather_again(&quiet->gather, worker);
        } else {
            at = &quiet->next;
        }
    }
}

void quiet_drop_all(struct worker *worker)
{
    while (worker->quiets) {
        struct quiet *quiet = worker->quiets;
        worker->quiets = quiet->next;
        quiet->gather.kind->destroy(&quiet->gather);
    }
}

static bool is_over(const struct quiet *quiet, const struct worker *worker)
{
    return worker->now_ms >= quiet->deadline_ms || (quiet->is_void && quiet->is_void(quiet, worker));
}

static uint32_t count_left(const struct quiet *quiet, const struct worker *worker)
{
    uint32_t left = count_sent(quiet, worker);
    for (const struct client *client = worker->clients; client && !quiet->master; client = client->next)
        left += count_of_client(quiet, client);
    return left;
}

/* Wherever they are: sent, held, or waiting. */
static uint32_t count_of_client(const struct quiet *quiet, const struct client *client)
{
    uint32_t left = 0;
    if (client->inflight == 0) return 0;
    for (const struct request *request = client->first; request; request = request->next_of_client)
        left += request->state != REQUEST_ANSWERED && concerns(quiet, request);
    return left;
}

/* What was sent for clients that have gone meanwhile is carried out, too. */
static uint32_t count_sent(const struct quiet *quiet, const struct worker *worker)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < worker->group->config->upstream_count; i++) {
        for (const struct backend *backend = worker->upstreams[i].backends; backend; backend = backend->next) {
            if (quiet->master && strcmp(backend->name, quiet->master) != 0) continue;
            for (const struct connection *each = backend->connections; each; each = each->next)
                left += count_on(quiet, each);
        }
    }
    return left;
}

static uint32_t count_on(const struct quiet *quiet, const struct connection *connection)
{
    uint32_t left = 0;
    for (const struct request *request = connection->queue.first; request; request = request->next) {
        bool is_counted = !quiet->master && request->client; /* with its client's */
        left += !is_counted && !is_own(request) && concerns(quiet, request);
    }
    return left;
}

static bool concerns(const struct quiet *quiet, const struct request *request)
{
    return !request->is_blocking && (quiet->is_about_reads || !request->is_read);
}

static bool is_own(const struct request *request)
{
    return request->question != QUESTION_NONE || request->inquiry || request->is_mark || request->is_restoring;
}
