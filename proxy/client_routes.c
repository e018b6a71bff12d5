/* SPDX-License-Identifier: BSD-2-Clause */
/* Where a client's unanswered requests are: on which shared connections, and how many are held. */
#include "proxy/client.h"

#include "proxy/again.h"
#include "proxy/backend.h"
#include "proxy/connection.h"

#include <assert.h>
#include <stdlib.h>

static struct client_route *other_route(struct client *client, const struct connection *connection);

void client_routed(struct client *client, struct connection *connection)
{
    struct client_route *route = &client->route;
    client->routed++;
    if (route->connection && route->connection != connection)
        route = other_route(client, connection);
    if (!route) {
        client->is_mixed = true; /* nothing more goes before all is answered */
        return;
    }
    route->connection = connection;
    route->count++;
}

/* The one in the list, put there if need be; NULL if memory is short. */
static struct client_route *other_route(struct client *client, const struct connection *connection)
{
    uint16_t shard = connection->backend->shard;
    client->is_mixed |= client->route.connection->backend->shard == shard;
    for (uint32_t i = 0; i < client->route_count; i++) {
        if (client->routes[i].connection == connection)
            return &client->routes[i];
        client->is_mixed |= client->routes[i].connection->backend->shard == shard;
    }
    if (client->route_count == client->route_room) {
        uint32_t room = client->route_room ? 2 * client->route_room : 4;
        struct client_route *larger = realloc(client->routes, room * sizeof *larger);
        if (!larger)
            return NULL;
        client->routes = larger;
        client->route_room = room;
    }
    struct client_route *route = &client->routes[client->route_count++];
    route->count = 0;
    return route;
}

void client_unrouted(struct client *client, const struct connection *connection)
{
    assert(client->routed > 0);
    client->routed--;
    if (client->route.connection == connection) {
        if (--client->route.count == 0)
            client->route = client->route_count ? client->routes[--client->route_count] : (struct client_route){0};
    } else {
        for (uint32_t i = 0; i < client->route_count; i++) {
            if (client->routes[i].connection != connection)
                continue;
            if (--client->routes[i].count == 0)
                client->routes[i] = client->routes[--client->route_count];
            break;
        }
    }
    if (client->routed > 0)
        return;
    client->is_mixed = false;
    if (client->aside > 0)
        again_look(client);
}

struct connection *client_route_to(const struct client *client, uint16_t shard)
{
    if (client->route.connection && client->route.connection->backend->shard == shard)
        return client->route.connection;
    for (uint32_t i = 0; i < client->route_count; i++) {
        if (client->routes[i].connection->backend->shard == shard)
            return client->routes[i].connection;
    }
    return NULL;
}

void client_held(struct client *client) { client->held++; }

void client_queue_held(struct request_queue *queue, struct request *request)
{
    struct client *client = request->client;
    uint32_t order = request->order;
    if (client->held == client->aside)
        client->held_oldest = client->held_newest = order;
    if ((int32_t)(order - client->held_newest) >= 0) {
        client->held_newest = order;
        request_queue_push(queue, request);
    } else if ((int32_t)(order - client->held_oldest) <= 0) {
        client->held_oldest = order;
        request_queue_push_front(queue, request);
    } else {
        request_queue_insert(queue, request);
    }
}

void client_unheld(struct client *client)
{
    assert(client->held > 0);
    client->held--;
}
