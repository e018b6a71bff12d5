/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * probe.h - what does this node say of itself?
 *
 * One probe follows one node: a connection on which PING and ROLE (INFO replication too, where that is wanted) are
 * asked every interval, and at once when somebody has a reason to doubt. It records answers and when they
 * were asked for; whether the node is master or fit is decided elsewhere.
 *
 * A connection that ends while nothing is asked is opened again at once and judged by the next answer:
 * servers close idle clients. Any other end counts as not answering, until the next PONG.
 *
 * Owner:   the upstream. changed() only marks; a probe is never destroyed from a handler.
 * Threads: the control thread only.
 */
#ifndef PROXY_PROBE_H
#define PROXY_PROBE_H

#include "proxy/reconnect.h"
#include "proxy/link.h"
#include "proxy/resolver.h"
#include "routing/freshness.h"
#include "routing/topology.h"

#define PROBE_RUN_ID_SIZE  FRESHNESS_HISTORY_SIZE
#define PROBE_VERSION_SIZE 32
#define PROBE_MODE_SIZE    16

struct probe;

/* What all probes of one upstream share. Borrowed for the probes' life. */
struct probe_setup {
    struct ev_loop *loop;
    struct resolver *resolver;
    const char *username, *password;
    uint64_t connect_timeout_ms;
    uint64_t interval_ms;
    uint64_t silence_ms; /* a node that has said nothing for so long is found to be silent by then */
    void (*changed)(void *owner, struct probe *probe); /* it has answered, or stopped answering */
    void (*replicated)(void *owner, struct probe *probe); /* it has answered INFO replication */
    void (*commands)(void *owner, struct slice reply); /* the reply to COMMAND */
    void *owner;
    bool is_quiet; /* log nothing */
};

struct probe {
    const struct probe_setup *setup;
    struct probe *next;
    char *name, *host; /* host:port, and its parts */
    uint16_t port;
    struct node_gauge *gauge;

    bool answers;    /* the last PING was answered with PONG (or BUSY) and the connection has not broken since */
    bool is_busy;    /* ... with BUSY: a script runs, fault says so, and all else is as it was */
    bool has_refused; /* the last PING was answered with another error */
    char fault[200]; /* why it does not answer, in words */

    enum node_role role;    /* by its ROLE; unknown until asked */
    uint64_t role_asked_us; /* when the question was sent that told so; 0 = never */
    int64_t role_offset;    /* the replication offset that came with it: of a replica, of what it has taken; -1 = none */
    uint64_t pong_asked_us;
    char role_fault[200];  /* why the role is unknown, in words */
    char master_host[256]; /* of a replica: as it says, before any address map */
    uint16_t master_port;
    bool is_linked; /* of a replica: its link to the master is up */

    bool wants_replication; /* set by discovery or freshening: ask INFO replication too */
    bool owes_replication;  /* it has been asked, and has not answered */
    char replid[PROBE_RUN_ID_SIZE], replid2[PROBE_RUN_ID_SIZE];
    int64_t offset;
    int64_t applied; /* of a replica whose link is up: the offset up to which it has taken its master's history; -1 = not so */
    uint64_t replication_asked_us;

    bool wants_commands;              /* set by the upstream: ask COMMAND on connecting and now and then */
    char version[PROBE_VERSION_SIZE]; /* redis_version; "" until told */
    char mode[PROBE_MODE_SIZE];       /* redis_mode */

    /* For the upstream, which alone reads and writes these. */
    bool was_fit, is_logged, was_linked;
    bool is_rival;   /* says that it is the master of a shard that has another: two masters */
    bool is_watched; /* it answers but is not fit: asked more often, to be used again soon */
    char reason[300];

    /* For discovery. */
    uint16_t shard; /* index in the verdict, or TOPOLOGY_NO_SHARD; 0 where there is but one */
    bool is_called_down;
    uint64_t called_down_until; /* the round of questions to a cluster with which that is over */
    unsigned listers, listers_down; /* Sentinels that list it, and those of them that call it down */
    uint64_t listed_us;             /* when it last had a reason to keep the node */
    bool is_listed;                 /* the cluster's view has it */
    bool owes_view;                 /* it has been asked for its view of the cluster, and has not answered */
    bool lacks_shards;              /* it knows or allows no CLUSTER SHARDS */
    uint8_t view_fault;             /* enum cluster_view_status: what the log has told of it */


    /* For freshening (freshening.h). */
    struct freshness_samples *samples; /* of a master; NULL until it has told one */
    bool is_sampled;                   /* ... and its replicas are to be asked when it has told the next */

    /* Private to probe.c. */
    struct link *link;
    struct resolved_name *resolved;
    struct resolved_name *master_resolved; /* of master_host */
    size_t address_index;                  /* which address of the name is being used */
    size_t addresses_tried;                /* since one has answered */
    char address[256];                     /* the one of the link */
    bool has_answered;                     /* since the link was opened */
    bool is_password_noted, is_history_noted; /* in the log */
    ev_timer tick; /* next questions, or next attempt to connect */
    struct reconnect reconnect;
    uint64_t tried_us, info_asked_us, commands_asked_us;
};

/* NULL if memory is short. Starts to connect at once. */
struct probe *probe_create(const struct probe_setup *setup, const char *host, uint16_t port);
void probe_destroy(struct probe *probe);

/* Asks now instead of at the next interval; connects now if it is not connected. Bounded: not before
 * min_gap_us have passed since the last time. */
void probe_hurry(struct probe *probe, uint64_t min_gap_us);

/* Asks INFO replication alone, now. False if it is not connected, owes too many answers, or owes this one. */
bool probe_ask_replication(struct probe *probe);

/* Asks what discovery wants to know, on the probe's connection; the answer's owner is the probe. False if it is not
 * connected, or owes too many answers. */
bool probe_question(struct probe *probe, const char *const *words, uint64_t timeout_ms, link_answered_raw *answered);

/* Others cannot reach it, whatever its answers here: has its name resolved anew. */
void probe_doubt_address(struct probe *probe);

/* The numeric address in use; "" while there is none. */
const char *probe_address(const struct probe *probe);

/* True if host (a name or an address) and port are this node. */
bool probe_is_at(const struct probe *probe, const char *host, uint16_t port);

/* True if a replica that names host and port (after the address map) as its master means this master. */
bool probe_follows(const struct probe *probe, const struct probe *master, const char *host, uint16_t port);

/* "host:port", IPv6 addresses in brackets, "unix:/path". */
void probe_format_name(char *out, size_t size, const char *host, uint16_t port);

#endif
