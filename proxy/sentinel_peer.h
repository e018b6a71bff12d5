/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sentinel_peer.h - one Sentinel: what it says, and whether it is there.
 *
 * Two connections: on one it is asked (which master, at which epoch, which replicas, which other Sentinels)
 * every poll interval and whenever somebody doubts; on the other it tells events, which are never believed
 * but make us ask. The second is pinged too, since a subscription that has died in silence looks like peace.
 *
 * Owner:   sentinel.c. changed() and heard_event() only mark; a peer is never destroyed from a handler.
 * Threads: the control thread only.
 */
#ifndef PROXY_SENTINEL_PEER_H
#define PROXY_SENTINEL_PEER_H

#include "proxy/reconnect.h"
#include "proxy/link.h"
#include "proxy/resolver.h"

#include <stdbool.h>

#define PEER_HOST_SIZE   256
#define PEER_RUN_ID_SIZE 41
#define PEER_LIST_MAX    512 /* replicas, or other Sentinels, that one of them may list */

/* What all peers of one upstream share. */
struct peer_setup {
    struct ev_loop *loop;
    struct resolver *resolver;
    const char *label; /* begins log lines */
    const char *username, *password;
    uint64_t connect_timeout_ms;
    uint64_t poll_interval_ms;
    const char *master_name; /* "" until known: then they are asked which masters there are */
    void (*changed)(void *owner);
    void (*told_failover)(void *owner, struct slice reply, uint64_t asked_us); /* see peer_fail_over() */
    void (*heard_event)(void *owner, const char *sentinel, const char *channel, const char *message);
    void *owner;
};

/* A replica or a Sentinel as a Sentinel lists it, before any address map. */
struct peer_listed {
    char host[PEER_HOST_SIZE];
    uint16_t port;
    char run_id[PEER_RUN_ID_SIZE];
    int64_t priority; /* of a replica, as the Sentinel knows it */
    bool is_disconnected;
    bool is_down; /* s_down or o_down; "disconnected" is also one that it has only just found */
};

struct peer_list {
    struct peer_listed *items;
    size_t count;
};

struct peer_view {
    char host[PEER_HOST_SIZE]; /* of the master, before any address map */
    uint16_t port;
    uint64_t epoch;
    uint64_t others;  /* Sentinels that it knows beside itself */
    bool is_troubled; /* it calls the master down, or a failover is under way */
    uint64_t asked_us;
};

/* One direction of talk: a link and when to try again. */
struct peer_channel {
    struct link *link;
    ev_timer tick;
    struct reconnect reconnect;
    bool has_answered; /* since it was opened */
};

struct sentinel_peer {
    const struct peer_setup *setup;
    struct sentinel_peer *next;
    char *name, *host;
    uint16_t port;
    bool is_seed; /* configured, not learned */
    char run_id[PEER_RUN_ID_SIZE];

    bool has_view;
    struct peer_view view;
    struct peer_list replicas, others;
    uint64_t replicas_us, replicas_wanted_us; /* when these were asked for that are known, and those asked for last */
    size_t masters;                    /* how many it monitors; told while master_name is not known */
    char master_names[PEER_HOST_SIZE]; /* ... and their names: "a, b" */

    /* For sentinel.c, which alone reads and writes these. */
    bool is_twin;       /* another entry is the same Sentinel and counts instead */
    uint64_t listed_us; /* when another Sentinel last listed it */
    bool is_warned;     /* of the addresses that it announces */

    /* Private to sentinel_peer.c. */
    struct peer_channel questions, events;
    struct resolved_name *resolved;
    size_t address_index, addresses_tried;
    char address[PEER_HOST_SIZE];
    struct peer_view next_view; /* being asked for */
    bool is_asking, is_wanted_again;
    bool knows_replicas; /* false: an old one that knows only SENTINEL SLAVES */
    bool was_up, is_logged, is_password_noted, is_ignorance_noted;
};

/* NULL if memory is short. Starts to connect at once. run_id may be "". */
struct sentinel_peer *peer_create(const struct peer_setup *setup, const char *host, uint16_t port,
                                  bool is_seed, const char *run_id);
void peer_destroy(struct sentinel_peer *peer);

/* Asks it for everything, as at every poll interval. */
void peer_ask_all(struct sentinel_peer *peer);

/* Asks it for its view, now; if it is being asked, once more afterwards. Does nothing while it is not
 * connected. */
void peer_ask(struct sentinel_peer *peer);

/* Has it fail over; told_failover() brings what it says, in RESP. False if it is not connected. */
bool peer_fail_over(struct sentinel_peer *peer);

/* True if host and port are this Sentinel. */
bool peer_is_at(const struct sentinel_peer *peer, const char *host, uint16_t port);

/* The numeric address it was reached at; "" before that. */
const char *peer_address(const struct sentinel_peer *peer);

#endif
