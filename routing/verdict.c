/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/verdict.h"

#include <stddef.h>

static enum verdict verdict_of_reply(const struct request_history *history);
static enum verdict fail(enum error *error, enum error cause);

enum refusal refusal_of(struct slice reply)
{
    static const struct {
        struct slice word;
        enum refusal refusal;
    } words[] = {
        {{"-READONLY ", 10}, REFUSAL_READONLY},
        {{"-LOADING ", 9}, REFUSAL_LOADING},
        {{"-MASTERDOWN ", 12}, REFUSAL_MASTERDOWN},
        {{"-UNBLOCKED force unblock", 24}, REFUSAL_UNBLOCKED}, /* others are answers: CLIENT UNBLOCK, a deleted stream */
        {{"-MOVED ", 7}, REFUSAL_MOVED},
        {{"-ASK ", 5}, REFUSAL_ASK},
        {{"-TRYAGAIN ", 10}, REFUSAL_TRYAGAIN},
        {{"-CLUSTERDOWN ", 13}, REFUSAL_CLUSTERDOWN},
        {{"-ERR WAIT cannot be used with replica", 37}, REFUSAL_READONLY},
        {{"-ERR WAITAOF cannot be used with replica", 40}, REFUSAL_READONLY},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (slice_starts_with(reply, words[i].word))
            return words[i].refusal;
    }
    return REFUSAL_NONE;
}

enum refusal refusal_of_script(struct slice reply)
{
    static const struct slice words[] = {
        {"-READONLY You can't write against a read only ", 46},
        {"-LOADING Redis is loading the dataset in memory", 47},
        {"-MASTERDOWN Link with MASTER is down and ", 41},
        {"-MOVED ", 7},
        {"-ASK ", 5},
        {"-TRYAGAIN Multiple keys request during rehashing of slot", 56},
        {"-CLUSTERDOWN Hash slot not served", 33},
        {"-CLUSTERDOWN The cluster is down", 32},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (slice_starts_with(reply, words[i]))
            return refusal_of(reply);
    }
    return REFUSAL_NONE;
}

enum verdict verdict_of(const struct request_history *history, enum error *error)
{
    *error = ERROR_NONE;
    if (!history->was_sent && history->outcome != OUTCOME_ANSWERED)
        return VERDICT_AGAIN;
    if (history->is_blocking && history->outcome != OUTCOME_ANSWERED) {
        bool was_waiting = history->waited_ms >= VERDICT_WAITED_MS && history->outcome != OUTCOME_TIMED_OUT;
        if (history->is_for_data && was_waiting)
            return VERDICT_AGAIN;
        if (!history->is_read)
            return fail(error, ERROR_SESSION_LOST);
    }

    switch (history->outcome) {
    case OUTCOME_ANSWERED:
        return verdict_of_reply(history);
    case OUTCOME_LOST:
        if (!history->is_read)
            return fail(error, ERROR_WRITE_LOST);
        break;
    case OUTCOME_TIMED_OUT:
        return fail(error, history->is_read ? ERROR_READ_TIMED_OUT : ERROR_WRITE_TIMED_OUT);
    case OUTCOME_CUT:
        if (!history->is_read)
            return fail(error, ERROR_WRITE_ABANDONED);
        break;
    }
    return history->attempts < history->max_attempts ? VERDICT_AGAIN : fail(error, ERROR_READ_LOST);
}

bool verdict_is_repeat(const struct request_history *history)
{
    return history->was_sent && history->outcome == OUTCOME_LOST && !history->is_blocking;
}

/* A refused command did not run: it may go again whatever it is, and holding bounds how often. */
static enum verdict verdict_of_reply(const struct request_history *history)
{
    switch (history->refusal) {
    case REFUSAL_NONE:
        return VERDICT_DELIVER;
    case REFUSAL_READONLY:
        return VERDICT_HOLD;
    case REFUSAL_UNBLOCKED:
        return history->is_for_data ? VERDICT_HOLD : VERDICT_DELIVER;
    case REFUSAL_LOADING:
    case REFUSAL_MASTERDOWN:
        return history->needs_master ? VERDICT_HOLD : VERDICT_AGAIN;
    case REFUSAL_MOVED:
    case REFUSAL_ASK:
        return VERDICT_AGAIN;
    case REFUSAL_TRYAGAIN:
    case REFUSAL_CLUSTERDOWN:
        return VERDICT_HOLD;
    case REFUSAL_COUNT:
        break;
    }
    return VERDICT_DELIVER;
}

static enum verdict fail(enum error *error, enum error cause)
{
    *error = cause;
    return VERDICT_FAIL;
}
