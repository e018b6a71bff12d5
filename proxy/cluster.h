/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cluster.h - discovery of a Redis Cluster: which shards are there, who is their master, who has which slot?
 *
 *    nodes (at first the seeds) -> up to 3 are asked (cluster_refresh.h) -> views -> routing/cluster_vote.h
 *                                                                                              |
 *                        verdict  <-- named masters, by their own ROLE  <-- shards, nodes, slots
 *
 * One refresh is under way at a time. When one begins:
 *
 *    every 10 s or so                           the cluster is quiet
 *    2 s after the last one                     a redirect was met, or a slot has no owner
 *    20 ms after it (100 ms when it lasts,      a master is lost, failing, or does not agree
 *    2 s after half a minute)
 *    0.1 s .. 2 s after it                      nobody has answered; then the seeds are tried as well
 *
 * So slots that move cost 3 questions in 2 s, whatever their number. Questions travel on the probes'
 * connections.
 *
 * A shard is what has slots, or a master without slots that is well. Its index stays over refreshes, unless
 * shards go and leave gaps. A master counts as confirmed as of the beginning of the last refresh in which
 * most of the nodes asked named it, or of its own ROLE if that was asked before.
 *
 * A node that others call failing is failing until all have been heard once more and none says so any more; but not who
 * was elected since by its own word, nor a master in whose place no other node of its shard could be elected.
 *
 * The functions are in the table cluster_discovery of discovery.h.
 *
 * Threads: the control thread only.
 */
#ifndef PROXY_CLUSTER_H
#define PROXY_CLUSTER_H

#include "proxy/discovery.h"

#endif
