/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/large.h"

#include "proxy/client.h"
#include "proxy/connection.h"
#include "proxy/worker.h"

static void mark(const struct request *request);

/* Where that was not foreseen, its client goes on over the lane for such as soon as nothing of it is on its way: once, it waits
 * for that. */
void large_note_reply(const struct request *request)
{
    struct client *client = request->client;
    const struct connection *connection = request->connection;
    if (connection->is_dedicated)
        return;
    mark(request);
    if (request->lane != LANE_ORDINARY)
        return;
    lane_note_large(&client->habit);
    if (connection->lane != LANE_BULK && client->stall == STALL_NONE)
        client_stall(client, STALL_DRAINED);
}

/* Many small requests at once are as much as a large one, and the node reads what is behind them later. */
void large_note_flood(struct client *client)
{
    if (client->inflight > 1 && client->inflight_bytes > LANE_BULK_BYTES)
        lane_note_large(&client->habit);
}

/* The same goes over that lane from now on, whoever asks for it. */
static void mark(const struct request *request)
{
    struct worker *worker = request->client->worker;
    struct resp_arguments *arguments = &worker->arguments;
    struct resp_limits limits = worker->limits;
    struct resp_command parser = {0};
    size_t used = 0;
    const char *error = NULL;
    limits.is_unauthenticated = false;
    if (resp_command_scan(&parser, &limits, request->bytes, request->size, arguments, &used, &error) != RESP_DONE)
        return;
    const struct command_set *commands = request->client->upstream->topology->commands;
    const struct command *command = command_find(commands, arguments->items, arguments->count);
    lane_marks_note(&worker->large, command, arguments->items, arguments->count);
}
