/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * plan.h - where does this command go, where there are several shards?
 *
 *      no key                            ANYWHERE, or MASTERS: to each of them, or NODES: to their replicas as well
 *      all keys in one place             PLACE
 *      several places, can be split      SPLIT: one piece per place, in the order in which the places first
 *                                        occur
 *      several places else               CROSS
 *
 * In a Redis Cluster a piece is a slot: nodes refuse a command whose keys are in several slots, also if they
 * have them all. Where a distribution spreads keys over plain masters a piece is a shard, so that a command
 * whose keys are all on one node is kept whole.
 *
 * What is split, and what goes to all masters or nodes, stands in the command's row, with the way in which the replies
 * become one (merge.h); a command learned from a node's COMMAND brings its policies along, as the tips there
 * name them.
 *
 * Owner:   a planner owns the lists that a plan points to, until the next plan; planner_finish() frees them.
 *          All zero before its first plan.
 * Threads: one worker only, no locks. No state but these lists, and they only grow.
 */
#ifndef ROUTING_PLAN_H
#define ROUTING_PLAN_H

#include "routing/merge.h"
#include "routing/topology.h"

enum plan_kind {
    PLAN_ANYWHERE,
    PLAN_PLACE,
    PLAN_SPLIT,
    PLAN_CROSS,
    PLAN_MASTERS,
    PLAN_NODES,
};

/* The keys of one place. */
struct plan_piece {
    uint32_t place;
    uint32_t first; /* in plan->order */
    uint32_t count; /* of keys */
};

struct plan {
    enum plan_kind kind;
    uint32_t place;                  /* of PLACE */
    bool has_several_keys;           /* of PLACE: a node that is losing the place may have but some of them */
    enum merge_policy merge;         /* of SPLIT, MASTERS and NODES */
    const struct plan_piece *pieces; /* of SPLIT */
    uint32_t piece_count;
    const uint32_t *order; /* of SPLIT: the keys' numbers, from 0 in the client's order, piece by piece */
    const uint32_t *sequence; /* of SPLIT: all pieces by their numbers, those of one shard side by side */
    uint32_t key_count;
    uint32_t word_count; /* of SPLIT: of the whole command */
    uint32_t limit;      /* of NODES with MERGE_LATEST: how many entries the client asked for; 0: all */
};

struct planner {
    uint32_t *positions; /* of keys among the words */
    struct plan_piece *pieces;
    uint32_t *order;
    uint32_t *piece_of; /* key -> its piece */
    uint32_t *sequence;
    uint32_t *group_of; /* piece -> its group: */
    struct plan_group {
        uint32_t end; /* in the sequence */
        uint16_t shard;
    } *groups;
    size_t room;        /* of the lists above */
    uint32_t *at_place; /* place -> its piece, if that is of this plan and says the same */
    uint32_t *at_shard; /* shard -> its group, likewise */
};

void planner_finish(struct planner *planner);

/*
 * command may be NULL (nobody knows it). may_split: false inside a transaction, where what cannot be kept
 * whole is CROSS, and so is what would go to all masters or nodes (its key_count is 0). A command whose keys cannot be
 * told (a wrong numkeys), or that cannot be split for it lacks a word (MSET a 1 b), is ANYWHERE: the node
 * says what is wrong with it, but to the latter, which has a key_count, it would say CROSSSLOT. Where there is but one shard, and no Redis Cluster, what names keys is of place
 * 0. False if memory is short.
 */
bool plan_make(struct planner *planner, const struct topology *topology, const struct command *command,
               const struct slice *words, size_t count, bool may_split, struct plan *plan);

/* The word that is a piece's key, of those the one with this number, from 0. */
static inline const struct slice *plan_piece_key(const struct plan *plan, const struct plan_piece *piece,
                                                 const struct command *command, const struct slice *words, uint32_t number)
{
    size_t key = plan->order[piece->first + number];
    return words + command->keys.first + key * (size_t)command->keys.step;
}

/* Encodes all pieces of SPLIT as commands of their own, one behind the other as in the sequence. sizes: of each piece, by its
 * number. out has room for plan_most_bytes(), which are a few more than are needed. */
void plan_encode(const struct plan *plan, const struct command *command, const struct slice *words, char *out,
                 size_t *sizes);
size_t plan_most_bytes(const struct plan *plan, const struct command *command, const struct slice *words);

#endif
