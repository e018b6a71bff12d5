/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/quorum.h"

#include <stdio.h>
#include <string.h>

static size_t quorum_heard(const struct quorum_view *views, size_t count);
static uint64_t quorum_asked_us(const struct quorum_view *views, size_t count, size_t needed);
static size_t quorum_winner(const struct quorum *quorum, const struct quorum_view *views, size_t count);
static size_t votes(const struct quorum_view *views, size_t count, const char *name, uint64_t epoch);
static enum quorum_verdict quorum_judge(struct quorum *quorum, const struct quorum_view *winner,
                                        size_t winner_votes, size_t needed, uint64_t now_ms);

#define NO_WINNER SIZE_MAX

struct quorum_answer quorum_decide(struct quorum *quorum, const struct quorum_view *views, size_t count,
                                   size_t known, uint64_t now_ms)
{
    struct quorum_answer answer = {.verdict = QUORUM_SILENT, .heard = quorum_heard(views, count)};
    answer.needed = (known > answer.heard ? known : answer.heard) / 2 + 1;
    if (answer.heard < answer.needed) {
        quorum->older_since_ms = 0;
        return answer;
    }

    answer.asked_us = quorum_asked_us(views, count, answer.needed);
    answer.winner = quorum_winner(quorum, views, count);
    if (answer.winner == NO_WINNER) {
        quorum->older_since_ms = 0;
        answer.verdict = QUORUM_UNDECIDED;
        return answer;
    }

    const struct quorum_view *winner = &views[answer.winner];
    size_t winner_votes = votes(views, count, winner->name, winner->epoch);
    answer.verdict = quorum_judge(quorum, winner, winner_votes, answer.needed, now_ms);
    if (answer.verdict != QUORUM_STALE) {
        answer.name = winner->name;
        answer.epoch = winner->epoch;
    }
    return answer;
}

void quorum_accept(struct quorum *quorum, const char *name, uint64_t epoch)
{
    snprintf(quorum->name, sizeof(quorum->name), "%s", name);
    quorum->epoch = epoch;
    quorum->older_since_ms = 0;
}

static size_t quorum_heard(const struct quorum_view *views, size_t count)
{
    size_t heard = 0;
    for (size_t i = 0; i < count; i++)
        heard += views[i].is_heard;
    return heard;
}

/* The needed-th newest of the times at which the heard ones were asked. */
static uint64_t quorum_asked_us(const struct quorum_view *views, size_t count, size_t needed)
{
    uint64_t best = 0;
    for (size_t i = 0; i < count; i++) {
        if (!views[i].is_heard) continue;
        size_t not_older = 0;
        for (size_t j = 0; j < count; j++)
            not_older += views[j].is_heard && views[j].asked_us >= views[i].asked_us;
        if (not_older >= needed && views[i].asked_us > best) best = views[i].asked_us;
    }
    return best;
}

/* The view of the highest epoch; where those of one epoch differ (they were set up by hand), the node that
 * most of them name, or the accepted one if it is among equals. */
static size_t quorum_winner(const struct quorum *quorum, const struct quorum_view *views, size_t count)
{
    size_t best = NO_WINNER, best_votes = 0;
    bool is_tie = false;
    for (size_t i = 0; i < count; i++) {
        const struct quorum_view *view = &views[i];
        if (!view->is_heard) continue;
        if (best != NO_WINNER && view->epoch < views[best].epoch) continue;
        if (best != NO_WINNER && view->epoch == views[best].epoch &&
            strcmp(view->name, views[best].name) == 0)
            continue;

        size_t mine = votes(views, count, view->name, view->epoch);
        bool is_newer = best == NO_WINNER || view->epoch > views[best].epoch;
        if (is_newer || mine > best_votes) {
            best = i;
            best_votes = mine;
            is_tie = false;
        } else if (mine == best_votes) {
            if (strcmp(view->name, quorum->name) == 0) best = i;
            is_tie = strcmp(views[best].name, quorum->name) != 0;
        }
    }
    return is_tie ? NO_WINNER : best;
}

static size_t votes(const struct quorum_view *views, size_t count, const char *name, uint64_t epoch)
{
    size_t number = 0;
    for (size_t i = 0; i < count; i++)
        number += views[i].is_heard && views[i].epoch == epoch && strcmp(views[i].name, name) == 0;
    return number;
}

static enum quorum_verdict quorum_judge(struct quorum *quorum, const struct quorum_view *winner,
                                        size_t winner_votes, size_t needed, uint64_t now_ms)
{
    bool is_first = !quorum->name[0];
    bool is_accepted = !is_first && strcmp(winner->name, quorum->name) == 0;
    if (is_first || winner->epoch > quorum->epoch || (is_accepted && winner->epoch == quorum->epoch)) {
        quorum->older_since_ms = 0;
        return is_accepted ? QUORUM_KEEPS : QUORUM_NAMES;
    }

    if (winner_votes < needed) {
        quorum->older_since_ms = 0;
        return QUORUM_STALE;
    }
    if (!quorum->older_since_ms || strcmp(quorum->older_name, winner->name) != 0) {
        quorum->older_since_ms = now_ms ? now_ms : 1;
        snprintf(quorum->older_name, sizeof(quorum->older_name), "%s", winner->name);
    }
    return now_ms - quorum->older_since_ms >= QUORUM_RESET_MS ? QUORUM_RESETS : QUORUM_STALE;
}
