/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * health.h - what a worker knows of how a node is: it tells the node's breaker what happens, makes its trials, and measures
 * what requests take.
 *
 * Whether a node fails is one breaker's to say for all workers (routing/breaker.h, in the node's gauge). That one of this
 * worker's own connections has failed (is_failing) makes this worker wait before it opens another; others that work are
 * not disturbed. A trial is a connection of its own with a PING on it, so that no client's request is staked on it.
 *
 * Owner:   the fields are the backend's. Threads: its worker only.
 */
#ifndef PROXY_HEALTH_H
#define PROXY_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

struct backend;
struct connection;

/* What happens: it is this connection whose failure is told next; a connection has failed (backend->lost requests with it); a
 * request was refused; a connection is ready; one has ended, for whatever reason. */
void health_connection_fails(struct connection *connection);
void health_failed(struct backend *backend);
void health_refused(struct backend *backend);
void health_connected(struct backend *backend);
void health_connection_ended(struct connection *connection);

/* It has another role: what was is no matter. */
void health_forget(struct backend *backend);

/* The control thread finds it fit, as it was not before. */
void health_is_fit_again(struct backend *backend);

/* Makes the trial if that is due, and sees whether the breaker has closed. */
void health_look(struct backend *backend);

/* Every 100 ms: what was answered. */
void health_tick(struct backend *backend);

/* True if its breaker is not closed. */
bool health_is_broken(const struct backend *backend);

/* True if this worker may send it requests, and open connections for them. */
bool health_admits(const struct backend *backend);

/* When that may change; 0 = it has not failed. */
uint64_t health_due_ms(const struct backend *backend);

/* Requests have taken so long; what they take, 0 where that is not known; has one sent that tells. */
void health_timed(struct backend *backend, uint64_t took_us);
uint32_t health_latency_us(const struct backend *backend);
void health_measure(struct backend *backend);

#endif
