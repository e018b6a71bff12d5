/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.h - connections to a node that no request has asked for: opened ahead of need, and retired for their age.
 *
 *   - The shared connections of a node are opened when it becomes known, and again when that has failed or has
 *     another role, so that the first request finds them; not when they were closed since nobody used them.
 *   - So many dedicated ones to a master are kept as pool.warm_connections says.
 *   - A connection older than pool.lifetime gets no new requests and goes when those on it are answered. One that a client
 *     has to itself goes when that gives it back.
 *
 * After a failure a node is tried with one connection first; then no more than a few are on their way to it at a time, over all
 * workers (node_gauge.connecting). What those are is decided in routing/pooling.h.
 *
 * Owner:   nobody; it looks at a backend. Threads: the backend's worker only.
 */
#ifndef PROXY_POOL_H
#define PROXY_POOL_H

#include <stdbool.h>
#include <stdint.h>

struct backend;
struct connection;

/* Every 100 ms, and when the backend may be used again or for the first time. */
void pool_fill(struct backend *backend);

/* Every 100 ms. */
void pool_retire(struct backend *backend);

/* True if another dedicated connection may be opened now. */
bool pool_may_connect(const struct backend *backend);

/* True if it has lived long enough. */
bool pool_is_old(const struct connection *connection);

/* This worker's part of pool.warm_connections to this node. */
uint32_t pool_warm_share(const struct backend *backend);

#endif
