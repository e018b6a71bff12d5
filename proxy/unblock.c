/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/unblock.h"

#include "proxy/connection.h"
#include "proxy/gather.h"
#include "proxy/local_client.h"
#include "proxy/upstream.h"
#include "proxy/waits.h"
#include "proxy/worker.h"
#include "routing/number.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ASKED_MOST = 20 };

struct unblock {
    struct gather gather;   /* first: the gather is the unblock */
    struct inquiry inquiry; /* what the node says */
    struct worker *worker;  /* of the blocked client, while the node is asked */
    int64_t target_id;
    bool is_error; /* the client gets an error instead of what a timeout would give */
    uint32_t asked;
    struct slice answer; /* static text, or `text` */
    char text[256];
};

static enum gather_way unblock_visit(struct gather *gather, struct worker *worker);
static void unblock_conclude(struct gather *gather, struct client *client);
static void unblock_destroy(struct gather *gather);

static const struct slice unblocked_by_error = {"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n", 48};

static const struct gather_kind unblock_kind = {unblock_visit, unblock_conclude, unblock_destroy};

static enum gather_way end_blocking(struct unblock *unblock, struct client *target);
static void end_here(struct unblock *unblock, struct client *target);
static enum gather_way ask_node(struct unblock *unblock, struct client *target);
static void node_answered(struct inquiry *inquiry, struct slice reply);
static void connection_identified(struct inquiry *inquiry, struct slice reply);

/* CLIENT UNBLOCK id [TIMEOUT | ERROR] (https://redis.io/docs/latest/commands/client-unblock/) */
bool unblock_client(struct client *client, const struct command_at_hand *at_hand)
{
    const struct slice *words = at_hand->words;
    int64_t id = 0;
    bool is_error = at_hand->count == 4 && slice_is(words[3], "ERROR");
    if (at_hand->count > 4) return local_client_bad_count(client, at_hand);
    if (at_hand->count == 4 && !is_error && !slice_is(words[3], "TIMEOUT")) {
        client_reply_error(client, "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        return true;
    }
    if (!number_read(words[2], &id)) {
        client_reply_error(client, "-ERR value is not an integer or out of range");
        return true;
    }
    if (client->inflight > 0)
        return client_stall(client, STALL_DRAINED); /* what it did before may concern the one who blocks */
    struct unblock *unblock = calloc(1, sizeof *unblock);
    if (!unblock) {
        client_reply(client, error_reply(ERROR_MEMORY));
        return true;
    }
    unblock->target_id = id;
    unblock->is_error = is_error;
    unblock->answer = SLICE(":0\r\n");
    return gather_send(&unblock->gather, &unblock_kind, client);
}

static void unblock_conclude(struct gather *gather, struct client *client)
{
    client_reply(client, ((struct unblock *)gather)->answer);
}

static void unblock_destroy(struct gather *gather)
{
    free(gather);
}

/* ---- in the worker of the blocked client ---- */

static enum gather_way unblock_visit(struct gather *gather, struct worker *worker)
{
    struct unblock *unblock = (struct unblock *)gather;
    struct client *target = worker->clients;
    while (target && (int64_t)target->id != unblock->target_id)
        target = target->next;
    if (!target) return GATHER_ON;
    if (target->waits) {
        unblock->answer = SLICE(":1\r\n");
        waits_end(target, unblock->is_error ? unblocked_by_error : SLICE(""));
        return GATHER_HOME;
    }
    if (!target->blocking) return GATHER_HOME;
    unblock->worker = worker;
    return end_blocking(unblock, target);
}

static enum gather_way end_blocking(struct unblock *unblock, struct client *target)
{
    struct request *request = target->blocking;
    switch ((enum request_state)request->state) {
    case REQUEST_NEW: /* about to be sent again, at the end of this turn */
        gather_again(&unblock->gather, unblock->worker);
        return GATHER_KEPT;
    case REQUEST_HELD:
    case REQUEST_WAITING:
        upstream_forget(target->upstream, request);
        client_unheld(target);
        break;
    case REQUEST_QUEUED:
        if (!connection_take_back(request->connection, request)) return ask_node(unblock, target);
        break;
    case REQUEST_SCATTERED:
    case REQUEST_ANSWERED:
        return GATHER_HOME;
    }
    end_here(unblock, target);
    return GATHER_HOME;
}

/* No node has seen the command. */
static void end_here(struct unblock *unblock, struct client *target)
{
    struct request *request = target->blocking;
    struct slice reply = unblock->is_error ? unblocked_by_error : target->blocked.end;
    unblock->answer = SLICE(":1\r\n");
    client_answer(request, reply);
}

/* ---- asking the node ---- */

static enum gather_way ask_node(struct unblock *unblock, struct client *target)
{
    struct connection *blocked = target->blocking->connection;
    struct backend *backend = blocked->backend;
    if (blocked->identity == CONNECTION_NAMELESS) {
        unblock->answer = error_reply(ERROR_CLIENT_UNBLOCK);
        return GATHER_HOME;
    }
    if (blocked->identity == CONNECTION_ASKED) {
        unblock->inquiry.answered = connection_identified;
        connection_await_identity(blocked, &unblock->inquiry);
        return GATHER_KEPT;
    }
    struct connection *shared = backend_lane(backend, 0, target, LANE_ORDINARY);
    char number[24];
    int size = snprintf(number, sizeof number, "%" PRIu64, blocked->node_client_id);
    const struct slice words[] = {SLICE("CLIENT"),
                                  SLICE("UNBLOCK"),
                                  {number, (size_t)size},
                                  unblock->is_error ? SLICE("ERROR") : SLICE("TIMEOUT")};
    unblock->inquiry.answered = node_answered;
    uint32_t timeout_ms = (uint32_t)target->worker->group->config->request_timeout_ms;
    unblock->asked++;
    if (shared && connection_inquire(shared, words, 4, timeout_ms, &unblock->inquiry)) return GATHER_KEPT;
    unblock->answer = error_reply(shared ? ERROR_MEMORY : ERROR_NO_MASTER);
    return GATHER_HOME;
}

/* Or never will be: the command that blocks is looked at once more. */
static void connection_identified(struct inquiry *inquiry, struct slice reply)
{
    (void)reply;
    struct unblock *unblock = (struct unblock *)((char *)inquiry - offsetof(struct unblock, inquiry));
    gather_again(&unblock->gather, unblock->worker);
}

static void node_answered(struct inquiry *inquiry, struct slice reply)
{
    struct unblock *unblock = (struct unblock *)((char *)inquiry - offsetof(struct unblock, inquiry));
    if (slice_equals(reply, SLICE(":0\r\n")) && unblock->asked < ASKED_MOST) {
        gather_again(&unblock->gather, unblock->worker);
        return;
    }
    bool is_whole = reply.size > 0 && reply.size <= sizeof unblock->text;
    if (is_whole) memcpy(unblock->text, reply.bytes, reply.size);
    unblock->answer = is_whole ? (struct slice){unblock->text, reply.size} : error_reply(ERROR_WRITE_LOST);
    gather_home(&unblock->gather);
}
