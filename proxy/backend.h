/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backend.h - one worker's view of one node: its lanes, its pool of dedicated connections, its health.
 *
 * A lane (routing/lane.h) is the set of shared connections for one database and protocol version; a client always uses the same one
 * of them, so its commands stay in order. Dedicated connections are lent to one client at a time and are given back clean or
 * closed; their number is bounded for the whole process (node_gauge.dedicated).
 *
 * A master whose connection broke, or that refused a write, is suspect: is_usable stays false until a topology
 * snapshot says that it was confirmed later than that. So a node that came back is not written to before it was
 * asked whether it still is the master.
 *
 * Whether it fails is a matter of health.h.
 *
 * Owner:   its upstream. Threads: one worker only.
 */
#ifndef PROXY_BACKEND_H
#define PROXY_BACKEND_H

#include "proxy/connection.h"
#include "routing/gray.h"
#include "routing/lane.h"
#include "routing/pick.h"
#include "routing/topology.h"

#include <sys/socket.h>

struct upstream;
struct script_book;

struct backend {
    struct upstream *upstream;
    struct backend *next;
    char *name;
    struct sockaddr_storage address;
    socklen_t address_size;
    struct node_gauge *gauge; /* one reference */
    uint32_t node;            /* index in the upstream's topology; TOPOLOGY_NO_NODE = retired */
    enum node_role role;
    uint32_t reign;           /* upstream->master_epoch when it became master; 0 = it never was. Of several shards */
    bool was_replica;         /* since then */
    uint16_t run_mark;        /* of its run, as one of its connections was told last (cursors.h); 0 = never */
    uint16_t next_shard;      /* while a topology is adopted */
    uint16_t shard;           /* in the upstream's topology; TOPOLOGY_NO_SHARD = it is of none */
    struct pick_load *load;         /* in the upstream's list, or own_load when retired */
    struct pick_load own_load;
    struct connection *connections; /* all that are open */
    uint32_t connection_count;
    uint32_t dedicated_count;      /* of them */
    uint8_t lane_protocol;         /* that was last asked of a shared one; 0 = none was */
    bool wants_lanes;              /* the shared ones that most clients use are to be opened (pool.h) ... */
    uint64_t lanes_at_ms;          /* ... not before */
    enum node_role lanes_role;     /* that it had when this was looked at last */
    struct connection *idle;       /* dedicated ones to lend, last used first */
    struct request_queue waiting;  /* requests that wait for a dedicated connection */
    unsigned mark_number;          /* of the key that the last mark on it has written, in a cluster */
    struct script_book *scripts;   /* those that the node has; NULL until one is called */
    uint64_t lost_us;              /* when its connection broke or it refused a write; 0 = never */
    uint64_t unfit_since_ms;       /* 0 = fit */
    uint64_t drained_by_ms;        /* it was the master: what it has not answered by then is cut off; 0 = no matter */
    uint64_t returned_ms;          /* when it came back after it was unfit, open or gray; 0 = it never went */
    uint32_t answered;             /* requests on connections that have ended, not yet counted */
    uint32_t lost;                 /* requests on the connection that fails now */
    uint32_t latency_us;           /* what requests take; 0 = not measured */
    struct gray gray;
    struct inquiry trial;
    bool trial_has_failed;         /* until that is told */
    bool is_failing;               /* a connection has failed, and nothing was answered since */
    bool is_reported;              /* its present failure is in the log */
    bool was_fit;                  /* before unfit_since_ms */
    bool was_open;                 /* its breaker, when looked at last */
    bool is_ejected;               /* it has no reads for now */
    bool is_spared;                /* its breaker is open, but it is tried as if not, since too many others are */
};

struct backend *backend_create(struct upstream *upstream, const struct topology_node *node);

/* Closes all connections (their requests get verdicts with outcome) and frees it. */
void backend_destroy(struct backend *backend, enum outcome outcome, const char *reason);

bool backend_is_node(const struct backend *backend, const struct topology_node *node);

/* True if it is not known to be out of reach, whoever it says it is. */
bool backend_may_be_tried(const struct backend *backend);

/* True if the node, a replica, says that it runs a script and answers nothing else. */
bool backend_is_busy(const struct backend *backend);

/* Closes every connection: the node lost its role. */
void backend_cut(struct backend *backend, enum outcome outcome, const char *reason);

/* Closes every connection once what is on it is answered. */
void backend_retire_connections(struct backend *backend);

/* Appends what waits for a dedicated connection to the queue, to be dispatched anew: ahead of what is held, since
 * that may be behind it. */
void backend_take_waiting(struct backend *backend, struct request_queue *queue);

/* The shared connection for this database and client on that lane; NULL if none could be opened (then load.is_usable
 * is false). */
struct connection *backend_lane(struct backend *backend, uint32_t database, const struct client *client, enum lane lane);

/* For what a node of a cluster has sent here: the backend may be known as a replica still. */
struct connection *backend_redirected_lane(struct backend *backend, const struct request *request);

/* Since when, or earlier, connections lead to the process that is there now, as far as we have heard; 0 = there are none. */
uint64_t backend_established_us(const struct backend *backend);

/* A dedicated connection for the request's client, whose first use the request is; NULL if the bound is reached or
 * none can be opened. */
struct connection *backend_borrow(struct backend *backend, const struct request *request);

/* The shared connection of this index for database 0, ahead of need: one that is there, or is opened. NULL likewise. */
struct connection *backend_open_lane(struct backend *backend, uint16_t lane_index);

/* Opens a dedicated connection for whoever needs one next, unless the bound is reached. */
void backend_open_idle(struct backend *backend);

/* A dedicated connection for an ear (ears.h); NULL likewise. */
struct connection *backend_open_ear(struct backend *backend, uint8_t protocol);

/* Takes back a dedicated connection with an empty queue and no state. */
void backend_give_back(struct connection *connection);

/* What a connection has to say: it is ready; it failed; it was refused. */
void backend_connected(struct backend *backend);
void backend_failed(struct backend *backend, const char *reason);

/* A new connection has become ready: another may be on its way now. */
void backend_may_connect(struct backend *backend);

void backend_refused(struct backend *backend, enum refusal refusal);

/* A connection ended without harm. If this is the master, it must be confirmed before it is written to again. */
void backend_suspect(struct backend *backend);

/* Takes a closed connection out of the backend's lists and counts. */
void backend_unlink(struct connection *connection);

/* Refreshes, looks after its health, and sees that it is looked at again when that may have changed. */
void backend_look(struct backend *backend);

/* Brings load.is_usable up to date with time and topology. */
void backend_refresh(struct backend *backend);

/* The same after a new topology. A master that was lost since that was found out, perhaps as a replica, which nobody has to
 * confirm, is asked for once more. */
void backend_adopted(struct backend *backend);

/* Every 100 ms: deadlines, idle connections, waiting requests. */
void backend_tick(struct backend *backend);

#endif
