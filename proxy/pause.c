/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/pause.h"

#include "proxy/gather.h"
#include "proxy/local_client.h"
#include "proxy/worker.h"
#include "routing/number.h"

#include <stdlib.h>

static struct pause *pause_of(struct client *client)
{
    return &client->worker->group->pause;
}

static uint64_t now_paused(struct pause *pause, uint64_t now_ms);
static bool is_error(const struct client *client, const struct command_at_hand *at_hand);
static enum gather_way unpause_visit(struct gather *gather, struct worker *worker);
static void unpause_conclude(struct gather *gather, struct client *client);
static void unpause_destroy(struct gather *gather);

static const struct gather_kind unpause_kind = {unpause_visit, unpause_conclude, unpause_destroy};

/* CLIENT PAUSE timeout [WRITE | ALL] (https://redis.io/docs/latest/commands/client-pause/) */
bool pause_begin(struct client *client, const struct command_at_hand *at_hand)
{
    const struct slice *words = at_hand->words;
    uint64_t now_ms = client->worker->now_ms;
    int64_t timeout_ms = 0;
    bool is_for_all = at_hand->count == 3 || slice_is(words[3], "ALL");
    if (at_hand->count > 4) return local_client_bad_count(client, at_hand);
    if (!is_for_all && !slice_is(words[3], "WRITE")) {
        client_reply_error(client, "-ERR CLIENT PAUSE mode must be WRITE or ALL");
    } else if (!number_read(words[2], &timeout_ms)) {
        client_reply_error(client, "-ERR timeout is not an integer or out of range");
    } else if (timeout_ms < 0) {
        client_reply_error(client, "-ERR timeout is negative");
    } else {
        uint64_t end_ms = now_ms + (uint64_t)timeout_ms;
        pause_extend(pause_of(client), end_ms < UINT64_MAX / 2 ? end_ms : UINT64_MAX / 2, is_for_all, now_ms);
        client_reply(client, SLICE("+OK\r\n"));
    }
    return true;
}

/* Everybody goes on before it is said. */
bool pause_end(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct gather *gather = calloc(1, sizeof *gather);
    if (!gather) {
        client_reply(client, error_reply(ERROR_MEMORY));
        return true;
    }
    atomic_store(&pause_of(client)->until, 0);
    return gather_send(gather, &unpause_kind, client);
}

struct pause_change pause_extend(struct pause *pause, uint64_t end_ms, bool is_for_all, uint64_t now_ms)
{
    struct pause_change change = {.before = now_paused(pause, now_ms)};
    do {
        uint64_t longer_ms = change.before / 2 > end_ms ? change.before / 2 : end_ms;
        change.after = longer_ms * 2 + (is_for_all || change.before & 1);
    } while (!atomic_compare_exchange_weak(&pause->until, &change.before, change.after));
    return change;
}

void pause_undo(struct pause *pause, const struct pause_change *change)
{
    uint64_t after = change->after;
    atomic_compare_exchange_strong(&pause->until, &after, change->before);
}

bool pause_holds(struct client *client, const struct command_at_hand *at_hand)
{
    struct worker *worker = client->worker;
    uint64_t until = now_paused(pause_of(client), worker->now_ms);
    if (!until || is_error(client, at_hand)) return false;
    const struct command *command = at_hand->command;
    if (command->local == LOCAL_PROXY) return false;
    bool is_for_all = until & 1;
    bool is_change =
        command_may_change(command) || (command->pin == PIN_EXEC && client->session.queues_write);
    if (!is_for_all && !is_change) return false;
    worker_await_unpause(worker, until / 2);
    return true;
}

void pause_stall(struct client *client)
{
    client_stall(client, STALL_PAUSED);
    atomic_fetch_add_explicit(&pause_of(client)->waiting, 1, memory_order_relaxed);
}

void pause_unstall(struct client *client)
{
    client_stall(client, STALL_NONE);
    atomic_fetch_sub_explicit(&pause_of(client)->waiting, 1, memory_order_relaxed);
}

void pause_release(struct worker *worker)
{
    ev_timer_stop(worker->loop, &worker->unpause); /* was set for this pause; another may end sooner */
    for (struct client *client = worker->clients; client; client = client->next) {
        if (client->stall != STALL_PAUSED) continue;
        pause_unstall(client);
        worker_resume_client(worker, client);
    }
}

/* What holds now: what is over is taken away, so that the next command need not ask. */
static uint64_t now_paused(struct pause *pause, uint64_t now_ms)
{
    uint64_t until = atomic_load(&pause->until);
    while (until && until / 2 <= now_ms) {
        if (atomic_compare_exchange_weak(&pause->until, &until, 0)) return 0;
    }
    return until;
}

/* What is wrong with a command is told at once. */
static bool is_error(const struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    return !command || !command_arity_is_right(command, at_hand->count) ||
           (session_is_confined(&client->session) && !(command->flags & COMMAND_WHILE_SUBSCRIBED));
}

static enum gather_way unpause_visit(struct gather *gather, struct worker *worker)
{
    (void)gather;
    pause_release(worker);
    return GATHER_ON;
}

static void unpause_conclude(struct gather *gather, struct client *client)
{
    (void)gather;
    client_reply(client, SLICE("+OK\r\n"));
}

static void unpause_destroy(struct gather *gather)
{
    free(gather);
}
