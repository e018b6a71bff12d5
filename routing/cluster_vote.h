/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cluster_vote.h - which of the views that nodes of a Redis Cluster have of it is to be believed?
 *
 * Every election and every slot that is moved gives a node an epoch above all others, and the claim of the
 * highest epoch wins wherever it is heard of; gossip spreads it within a second or two. A few nodes are asked.
 * Of what they answer, by the first of these rules that tells two apart:
 *
 *   1. a node whose cluster_state is ok knows more than one whose is not: that one may be in a minority, or
 *      have been started this moment with what it knew when it ended
 *   2. a node whose own epoch is the newest that any other has heard of is the last that was elected, or given
 *      a slot: it knows what it has, while those that voted for it know its epoch before they know the rest
 *   3. what more of them say (agree in who has which slot)
 *   4. the newer epoch
 *   5. what has been accepted already
 *
 * What was accepted is not given up for a view with a lower epoch, nor what won by rule 2 for another view with
 * the same epoch that did not, unless nothing newer is heard for CLUSTER_VOTE_RESET_MS: then the cluster was
 * made anew.
 *
 * Owner:   struct cluster_vote is embedded in the discovery of one upstream; borrows views, allocates nothing.
 * Time:    every call is given now_ms; no clock is read here.
 * Threads: one only, no locks.
 */
#ifndef ROUTING_CLUSTER_VOTE_H
#define ROUTING_CLUSTER_VOTE_H

#include "routing/cluster_view.h"

#define CLUSTER_VOTE_RESET_MS 5000
#define CLUSTER_VOTE_NOBODY   SIZE_MAX

/* What was accepted; all zero means nothing yet. */
struct cluster_vote {
    uint64_t epoch;
    bool is_firsthand;       /* who has that epoch has told so itself */
    uint64_t older_since_ms; /* since when nothing but what is older is heard; 0 = it is not so */
};

struct cluster_choice {
    size_t winner; /* index, or CLUSTER_VOTE_NOBODY: no view, or none that is new enough */
    size_t votes;  /* views that agree with it, itself included */
    size_t heard;
    bool is_elected; /* the winner, by rule 2 */
};

/* views: of the nodes asked, NULL for those that have not answered. accepted: the view accepted last, or
 * NULL. Keeps the winner's epoch. */
struct cluster_choice cluster_vote_decide(struct cluster_vote *vote, const struct cluster_view *const *views,
                                          size_t count, const struct cluster_view *accepted, uint64_t now_ms);

/* True if most of the nodes asked name the master, as far as their word counts by rule 1. */
bool cluster_vote_confirms(const struct cluster_view *const *views, size_t count,
                           const struct cluster_node *master, bool has_slots);

/* True if there is such a view, and what it says counts by rule 1. */
bool cluster_vote_counts(const struct cluster_view *const *views, size_t count, size_t index);

/* True if the answers still to come cannot change what wins: most of the nodes asked are well and agree. */
bool cluster_vote_is_settled(const struct cluster_view *const *views, size_t count);

#endif
