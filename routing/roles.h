/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * roles.h - without Sentinels, which node is the master; and which replica may serve reads?
 *
 * roles_decide() answers the first question from what each node of a static set says of itself. One that says
 * master is the master. When several do, somebody promoted a replica by hand, or an old master came back: the
 * one with the newer replication history wins, by the first of these rules that tells two apart:
 *
 *   1. descent: its second replication id is the other's id, so it was a replica of the other when promoted
 *   2. it is the one accepted so far
 *   3. more of our other nodes replicate from it
 *   4. its replication offset is higher
 *
 * roles_replica_fault() answers the second for static sets, Sentinels and clusters alike.
 *
 * Owner:   borrows everything; allocates nothing.
 * Threads: any.
 */
#ifndef ROUTING_ROLES_H
#define ROUTING_ROLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROLES_NONE SIZE_MAX

struct roles_node {
    bool is_heard;         /* answers now */
    bool claims_master;    /* its ROLE says so */
    const char *replid;    /* master_replid; "" if not known */
    const char *replid2;   /* master_replid2; all zeros or "" if there is none */
    int64_t offset;        /* master_repl_offset */
    uint32_t our_replicas; /* nodes of the set that say they replicate from it and are connected */
};

struct roles_answer {
    size_t master;      /* index, or ROLES_NONE */
    size_t claims;      /* how many say master */
    const char *reason; /* why this one, when several claim; "" else */
};

/* accepted: index of the master so far, or ROLES_NONE. One that does not answer stays master as long as no
 * other claims to be. */
struct roles_answer roles_decide(const struct roles_node *nodes, size_t count, size_t accepted);

/* What is known of a node that is not the master. */
struct roles_replica {
    bool is_heard;         /* answers our PING now */
    bool is_called_down;   /* by most of the Sentinels that list it, or by nodes of its cluster */
    bool is_in_cluster;    /* a Redis Cluster: there are no Sentinels */
    bool says_replica;     /* ROLE: slave */
    bool follows_master;   /* ... of the master (of the last one accepted, while there is none) */
    bool is_linked;        /* ... and its link to it is up */
    bool was_linked;       /* it was fit until now */
    bool master_works;     /* the master has been seen to answer since this node's ROLE was asked */
    const char *no_answer; /* why it is not heard, in words */
};

/*
 * Why the replica may not serve reads, in words; NULL if it may. A replica whose link is down only because
 * there is no working master has the newest data there is and goes on serving.
 */
const char *roles_replica_fault(const struct roles_replica *replica);

#endif
