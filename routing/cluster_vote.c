/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/cluster_vote.h"

static bool is_better(const struct cluster_view *const *views, size_t count, size_t a, size_t b,
                      const struct cluster_view *accepted);
static bool is_elected(const struct cluster_view *const *views, size_t count, size_t candidate);
static size_t votes_for(const struct cluster_view *const *views, size_t count,
                        const struct cluster_view *view);
static bool is_new_enough(struct cluster_vote *vote, bool is_older, uint64_t now_ms);
static bool is_older(const struct cluster_vote *vote, const struct cluster_view *winner, bool has_own_word,
                     const struct cluster_view *accepted);
static void keep(struct cluster_vote *vote, const struct cluster_view *winner, bool has_own_word);
static bool is_any_well(const struct cluster_view *const *views, size_t count);
static int compare(uint64_t a, uint64_t b);

struct cluster_choice cluster_vote_decide(struct cluster_vote *vote, const struct cluster_view *const *views,
                                          size_t count, const struct cluster_view *accepted, uint64_t now_ms)
{
    struct cluster_choice choice = {.winner = CLUSTER_VOTE_NOBODY};
    for (size_t i = 0; i < count; i++) {
        if (!views[i]) continue;
        choice.heard++;
        if (choice.winner == CLUSTER_VOTE_NOBODY || is_better(views, count, i, choice.winner, accepted))
            choice.winner = i;
    }
    if (choice.winner == CLUSTER_VOTE_NOBODY) return choice;

    const struct cluster_view *winner = views[choice.winner];
    choice.votes = votes_for(views, count, winner);
    choice.is_elected = is_elected(views, count, choice.winner);
    if (is_new_enough(vote, is_older(vote, winner, choice.is_elected, accepted), now_ms))
        keep(vote, winner, choice.is_elected);
    else
        choice.winner = CLUSTER_VOTE_NOBODY;
    return choice;
}

bool cluster_vote_confirms(const struct cluster_view *const *views, size_t count,
                           const struct cluster_node *master, bool has_slots)
{
    size_t named = 0;
    for (size_t i = 0; i < count; i++)
        named += cluster_vote_counts(views, count, i) && cluster_view_names(views[i], master, has_slots);
    return named * 2 > count;
}

bool cluster_vote_counts(const struct cluster_view *const *views, size_t count, size_t index)
{
    return views[index] && !(views[index]->is_down && is_any_well(views, count));
}

bool cluster_vote_is_settled(const struct cluster_view *const *views, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!views[i] || views[i]->is_down) continue;
        if (votes_for(views, count, views[i]) * 2 > count) return true;
    }
    return false;
}

static bool is_better(const struct cluster_view *const *views, size_t count, size_t a, size_t b,
                      const struct cluster_view *accepted)
{
    int by_state = compare(!views[a]->is_down, !views[b]->is_down);
    if (by_state) return by_state > 0;
    int by_election = compare(is_elected(views, count, a), is_elected(views, count, b));
    if (by_election) return by_election > 0;
    int by_votes = compare(votes_for(views, count, views[a]), votes_for(views, count, views[b]));
    if (by_votes) return by_votes > 0;
    int by_epoch = compare(views[a]->epoch, views[b]->epoch);
    if (by_epoch) return by_epoch > 0;
    return accepted && cluster_view_agrees(views[a], accepted) && !cluster_view_agrees(views[b], accepted);
}

/* None of the others that are well has heard of an epoch above its own. */
static bool is_elected(const struct cluster_view *const *views, size_t count, size_t candidate)
{
    size_t others = 0;
    if (views[candidate]->is_down) return false;
    for (size_t i = 0; i < count; i++) {
        if (i == candidate || !views[i] || views[i]->is_down) continue;
        if (views[i]->epoch > views[candidate]->own_epoch) return false;
        others++;
    }
    return others > 0;
}

/* Views of the same state of mind: what a node says that is in trouble adds nothing to what well ones say. */
static size_t votes_for(const struct cluster_view *const *views, size_t count,
                        const struct cluster_view *view)
{
    size_t votes = 0;
    for (size_t i = 0; i < count; i++) {
        if (!views[i] || views[i]->is_down != view->is_down) continue;
        votes += views[i] == view || cluster_view_agrees(views[i], view);
    }
    return votes;
}

static bool is_older(const struct cluster_vote *vote, const struct cluster_view *winner, bool has_own_word,
                     const struct cluster_view *accepted)
{
    if (winner->epoch != vote->epoch) return winner->epoch < vote->epoch;
    return vote->is_firsthand && !has_own_word && accepted && !cluster_view_agrees(winner, accepted);
}

static bool is_new_enough(struct cluster_vote *vote, bool is_older, uint64_t now_ms)
{
    if (is_older && !vote->older_since_ms) vote->older_since_ms = now_ms ? now_ms : 1;
    if (is_older && now_ms - vote->older_since_ms < CLUSTER_VOTE_RESET_MS) return false;
    vote->older_since_ms = 0;
    return true;
}

/* Agreement with what was told firsthand does not make it hearsay. */
static void keep(struct cluster_vote *vote, const struct cluster_view *winner, bool has_own_word)
{
    bool is_firsthand = has_own_word && winner->own_epoch >= winner->epoch;
    bool is_kept = vote->is_firsthand && vote->epoch == winner->epoch;
    vote->is_firsthand = is_firsthand || is_kept;
    vote->epoch = winner->epoch;
}

static bool is_any_well(const struct cluster_view *const *views, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (views[i] && !views[i]->is_down) return true;
    }
    return false;
}

static int compare(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}
