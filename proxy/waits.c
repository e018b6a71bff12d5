/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/waits.h"

#include "proxy/backend.h"
#include "proxy/connection.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/backoff.h"
#include "routing/blocking.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    NUMBERS_MOST = 2, /* WAITAOF answers with two */
    PAUSE_MS = 10,    /* before all are asked again; doubles up to ... */
    PAUSE_MOST_MS = 200,
    GRACE_MS = 500,   /* after the command's own time, for nodes to say so */
};

struct waits {
    struct worker *worker;
    struct client *client; /* NULL: it has gone */
    struct request *whole;
    uint32_t since; /* upstream->master_epoch at the first of the writes */
    uint32_t reign; /* backend->reign of the only master that is asked; 0: all are */
    enum command_block block;
    uint32_t timeout_at; /* the word that says for how long */
    char timeout[BLOCKING_TEXT_SIZE];
    uint64_t until_ms; /* when that is over; 0 = never */
    uint64_t give_up_ms;
    struct slice end; /* the reply when that is over and not all have answered */
    struct slice ended; /* the reply whatever they answer; empty: nobody wanted it to end */
    ev_timer again, over;
    uint32_t pauses;

    /* Of this round. */
    struct wait_for *each;
    uint32_t count, left;
    bool is_incomplete;
    int64_t least[NUMBERS_MOST];
    uint32_t numbers;
    struct chunk *refusal; /* what one of them has against the command; NULL: nothing */

    size_t word_count;
    struct slice words[];
};

struct wait_for {
    struct inquiry inquiry;
    struct waits *waits;
    struct connection *connection; /* NULL: answered */
};

static struct waits *create(struct client *client, const struct command_at_hand *at_hand);
static void destroy(struct waits *waits);
static void ask_again(struct ev_loop *loop, ev_timer *timer, int events);
static void time_is_over(struct ev_loop *loop, ev_timer *timer, int events);
static void cut_all(struct waits *waits);
static void ask_all(struct waits *waits);
static bool ask(struct waits *waits, uint32_t index);
static void answered(struct inquiry *inquiry, struct slice reply);
static bool take_numbers(struct waits *waits, struct slice reply);
static void settle(struct waits *waits);
static struct slice judge(const struct waits *waits, char *text, size_t size);
static struct slice write_numbers(const struct waits *waits, char *text, size_t size);

void waits_begin(struct client *client, const struct command_at_hand *at_hand, const struct request *traits)
{
    struct waits *waits = create(client, at_hand);
    struct request *whole = waits ? client_append(client, traits) : NULL;
    if (!whole) {
        if (waits) destroy(waits);
        client_close(client, "out of memory");
        return;
    }
    whole->state = REQUEST_SCATTERED;
    whole->inspection = INSPECT_NOTHING;
    waits->whole = whole;
    client->waits = waits;
    client_stall(client, STALL_WAITS);
    ask_all(waits);
}

void waits_abandon(struct client *client)
{
    struct waits *waits = client->waits;
    struct worker *worker = client->worker;
    client->waits = NULL;
    ev_timer_stop(worker->loop, &waits->again);
    request_destroy(&worker->requests, &worker->chunks, waits->whole);
    waits->client = NULL;
    cut_all(waits);
}

void waits_end(struct client *client, struct slice reply)
{
    struct waits *waits = client->waits;
    waits->ended = reply.size ? reply : waits->end;
    ev_timer_stop(client->worker->loop, &waits->again);
    cut_all(waits);
}

static void cut_all(struct waits *waits)
{
    waits->left++; /* it must not end in the midst of this */
    for (uint32_t i = 0; i < waits->count; i++) {
        if (waits->each[i].connection) connection_close(waits->each[i].connection, OUTCOME_CUT, NULL);
    }
    waits->left--;
    settle(waits);
}

/* The words are copied, behind it. */
static struct waits *create(struct client *client, const struct command_at_hand *at_hand)
{
    size_t bytes = 0;
    for (size_t i = 0; i < at_hand->count; i++)
        bytes += at_hand->words[i].size;
    struct waits *waits = calloc(1, sizeof *waits + at_hand->count * sizeof *waits->words + bytes);
    if (!waits) return NULL;
    char *text = (char *)&waits->words[at_hand->count];
    for (size_t i = 0; i < at_hand->count; i++) {
        waits->words[i] = (struct slice){text, at_hand->words[i].size};
        memcpy(text, at_hand->words[i].bytes, at_hand->words[i].size);
        text += at_hand->words[i].size;
    }
    const struct blocking_timeout timeout =
        blocking_timeout_of(at_hand->command, at_hand->words, at_hand->count);
    uint64_t now_ms = client->worker->now_ms;
    waits->client = client;
    waits->worker = client->worker;
    waits->since = client->wrote_since;
    waits->reign = client->wrote_several ? 0 : client->written_epoch;
    waits->word_count = at_hand->count;
    waits->block = at_hand->command->block;
    waits->timeout_at = timeout.position;
    waits->until_ms = timeout.timeout_ms ? now_ms + timeout.timeout_ms : 0;
    waits->give_up_ms = now_ms + (uint64_t)client->upstream->config->failover_hold_time_ms;
    waits->end = blocking_reply_of_end(at_hand->command, session_protocol(&client->session));
    ev_init(&waits->again, ask_again);
    waits->again.data = waits;
    ev_timer_init(&waits->over, time_is_over, (double)(timeout.timeout_ms + GRACE_MS) / 1000., 0.);
    waits->over.data = waits;
    if (waits->until_ms) ev_timer_start(client->worker->loop, &waits->over);
    return waits;
}

static void destroy(struct waits *waits)
{
    ev_timer_stop(waits->worker->loop, &waits->over);
    chunk_release(&waits->worker->chunks, waits->refusal);
    free(waits->each);
    free(waits);
}

static void ask_again(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    ask_all(timer->data);
}

/* A master that hangs does not say so itself. */
static void time_is_over(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    struct waits *waits = timer->data;
    ev_timer_stop(loop, &waits->again);
    cut_all(waits);
}

/* A round: all masters that there are now, or the one. */
static void ask_all(struct waits *waits)
{
    const struct client *client = waits->client;
    const struct backend *written = waits->reign ? upstream_written_master(client->upstream, client) : NULL;
    uint32_t count = client->upstream->topology->shard_count;
    free(waits->each);
    waits->each = calloc(count, sizeof *waits->each);
    waits->count = waits->each ? count : 0;
    waits->is_incomplete = !waits->each;
    waits->numbers = 0;
    waits->left = 1; /* until all have been asked */
    for (uint32_t i = 0; i < waits->count; i++) {
        bool is_asked = waits->reign ? written && written->shard == i : !client->upstream->topology->shards[i].is_spare;
        if (is_asked)
            waits->is_incomplete |= !ask(waits, i);
    }
    waits->left--;
    settle(waits);
}

/* With what is left of the command's time. False if there is no master, or no connection. */
static bool ask(struct waits *waits, uint32_t index)
{
    struct wait_for *wait = &waits->each[index];
    struct backend *backend = upstream_master(waits->client->upstream, (uint16_t)index);
    struct connection *connection = backend ? backend_open_ear(backend, 2) : NULL;
    if (!connection) return false;
    uint64_t now_ms = waits->worker->now_ms;
    uint64_t left_ms = waits->until_ms > now_ms ? waits->until_ms - now_ms : 1;
    if (waits->until_ms)
        waits->words[waits->timeout_at] = blocking_write_timeout(waits->block, left_ms, waits->timeout);
    *wait = (struct wait_for){.inquiry.answered = answered, .waits = waits, .connection = connection};
    bool is_asked = connection_mark(connection) &&
                    connection_inquire(connection, waits->words, waits->word_count, 0, &wait->inquiry);
    if (!is_asked) {
        wait->connection = NULL;
        connection_close(connection, OUTCOME_CUT, NULL);
        return false;
    }
    connection->is_retiring = true; /* it is for nothing else */
    waits->left++;
    return true;
}

static void answered(struct inquiry *inquiry, struct slice reply)
{
    struct wait_for *wait = (struct wait_for *)((char *)inquiry - offsetof(struct wait_for, inquiry));
    struct waits *waits = wait->waits;
    wait->connection = NULL;
    bool is_refusal = reply.size > 0 && reply.bytes[0] == '-' && refusal_of(reply) == REFUSAL_NONE;
    if (is_refusal && !waits->refusal)
        waits->refusal = chunk_copy(reply);
    else if (!take_numbers(waits, reply))
        waits->is_incomplete = true;
    waits->left--;
    settle(waits);
}

/* One, or an array. */
static bool take_numbers(struct waits *waits, struct slice reply)
{
    size_t position = 0;
    struct resp_value value;
    if (!resp_value_next(reply, &position, &value)) return false;
    bool is_array = value.type == '*';
    uint32_t count = is_array ? (uint32_t)value.integer : 1;
    for (uint32_t i = 0; i < count; i++) {
        bool is_number = (!is_array || resp_value_next(reply, &position, &value)) && value.type == ':';
        if (!is_number || i == NUMBERS_MOST) return false;
        if (i >= waits->numbers || value.integer < waits->least[i]) waits->least[i] = value.integer;
    }
    waits->numbers = count;
    return count > 0;
}

/* When all of the round have answered. */
static void settle(struct waits *waits)
{
    struct client *client = waits->client;
    if (waits->left > 0) return;
    if (!client) {
        destroy(waits);
        return;
    }
    struct worker *worker = waits->worker;
    char text[64];
    struct slice reply = judge(waits, text, sizeof text);
    if (reply.size == 0) {
        waits->pauses++;
        double pause_s = (double)backoff_ms(waits->pauses, PAUSE_MS, PAUSE_MOST_MS, &worker->seed) / 1000.;
        ev_timer_set(&waits->again, pause_s, 0.);
        ev_timer_start(worker->loop, &waits->again);
        return;
    }
    spans_add_copy(&worker->chunks, &waits->whole->reply, reply);
    client->waits = NULL;
    client->stall = STALL_NONE;
    client_finish_whole(waits->whole);
    worker_resume_client(worker, client);
    destroy(waits);
}

/* The answer, written to text where need be; empty: all are to be asked again. */
static struct slice judge(const struct waits *waits, char *text, size_t size)
{
    struct client *client = waits->client;
    uint64_t now_ms = client->worker->now_ms;
    bool is_replaced = waits->reign ? !upstream_written_master(client->upstream, client)
                                    : client->upstream->replaced_epoch > waits->since;
    if (is_replaced) { /* that is told once */
        client->wrote_several = false;
        client->written_epoch = 0;
        return error_reply(ERROR_WRITES_ELSEWHERE);
    }
    if (waits->ended.size) return waits->ended;
    if (waits->refusal) return (struct slice){waits->refusal->bytes, waits->refusal->filled};
    if (!waits->is_incomplete) return write_numbers(waits, text, size);
    if (waits->until_ms && now_ms >= waits->until_ms) return waits->end;
    return now_ms >= waits->give_up_ms ? error_reply(ERROR_WAIT_SEVERAL) : SLICE("");
}

static struct slice write_numbers(const struct waits *waits, char *text, size_t size)
{
    int written = waits->numbers == 1 ? snprintf(text, size, ":%" PRId64 "\r\n", waits->least[0])
                                      : snprintf(text, size, "*2\r\n:%" PRId64 "\r\n:%" PRId64 "\r\n",
                                                 waits->least[0], waits->least[1]);
    return (struct slice){text, (size_t)written};
}
