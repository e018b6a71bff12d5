/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * resolver.h - host names followed to their addresses, without ever blocking the loop.
 *
 * A followed name is asked for (in /etc/hosts, then DNS) at once, every RESOLVER_REFRESH_S, and when its user
 * says that its addresses fail. Addresses that an answer lacks are kept for one more answer: names with
 * rotating answers do not flap. Numeric addresses and paths of unix sockets are their own and only address.
 *
 * Owner:   the resolver owns its names; each name belongs to its one follower, who must forget it before the
 *          resolver is destroyed.
 * Threads: the control thread only.
 */
#ifndef PROXY_RESOLVER_H
#define PROXY_RESOLVER_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

#define RESOLVER_REFRESH_S     30.0
#define RESOLVER_RETRY_S       1.0 /* at least this long between two queries for one name */
#define RESOLVER_ADDRESSES_MAX 16

struct resolver;
struct resolved_name;

/* NULL if memory is short or c-ares cannot be set up. */
struct resolver *resolver_create(struct ev_loop *loop);
void resolver_destroy(struct resolver *resolver);

/* changed (may be NULL) is called from the loop, never from here, when the addresses have changed, or none could be found
 * for the first time. host is copied. NULL if memory is short. */
typedef void resolver_changed(void *follower);
struct resolved_name *resolver_follow(struct resolver *resolver, const char *host, resolver_changed *changed,
                                      void *follower);
void resolver_forget(struct resolved_name *name);

/* Asks again soon: what was connected to does not answer. */
void resolver_refresh(struct resolved_name *name);

/* The addresses known now; none until the first answer. Valid until the loop runs on. */
size_t resolver_count(const struct resolved_name *name);
const char *resolver_address(const struct resolved_name *name, size_t index);
bool resolver_has(const struct resolved_name *name, const char *address);

/* Why there is no address, in words; NULL while it is being asked for. */
const char *resolver_fault(const struct resolved_name *name);

#endif
