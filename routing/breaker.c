/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/breaker.h"

#include "routing/backoff.h"

/*
 *      word:    time in ms (40) | chance (10) | level (6) | failures (6) | state (2)
 *      window:  began at, in ms (40) | requests (12) | failed ones (12)
 */
enum {
    STATE_BITS = 2,
    FAILURES_BITS = 6,
    LEVEL_BITS = 6,
    CHANCE_BITS = 10,
    COUNT_BITS = 12,
    FAILURES_MOST = (1 << FAILURES_BITS) - 1,
    LEVEL_MOST = (1 << LEVEL_BITS) - 1,
    CHANCE_RANGE = 1 << CHANCE_BITS,
    COUNT_MOST = (1 << COUNT_BITS) - 1,
};

struct unpacked {
    enum breaker_state state;
    uint32_t failures; /* in a row, while it is closed */
    uint32_t level;    /* how often it opened, or a trial failed, since a request was answered */
    uint32_t chance;
    uint64_t at_ms;
};

static struct unpacked unpack(uint64_t word);
static uint64_t pack(struct unpacked breaker);
static struct unpacked failed(struct unpacked breaker, const struct breaker_limits *limits, uint64_t now_ms,
                              uint64_t *seed);
static struct unpacked proven(struct unpacked breaker, const struct breaker_limits *limits, uint64_t now_ms);
static struct unpacked opened(struct unpacked breaker, uint64_t now_ms, uint64_t *seed);
static uint64_t ceiling_ms(uint32_t failures, uint64_t base_ms, uint64_t max_ms);
static uint32_t next_of(uint32_t count, uint32_t most);
static uint32_t larger(uint32_t a, uint32_t b);

enum breaker_state breaker_state_of(uint64_t word) { return unpack(word).state; }

uint32_t breaker_failures_of(uint64_t word)
{
    struct unpacked breaker = unpack(word);
    return breaker.state == BREAKER_CLOSED ? breaker.failures : breaker.level;
}

uint64_t breaker_due_ms(uint64_t word, const struct breaker_limits *limits)
{
    struct unpacked breaker = unpack(word);
    bool is_open = breaker.state == BREAKER_OPEN;
    uint32_t count = is_open ? breaker.level : breaker.failures;
    uint64_t max_ms = is_open ? limits->open_max_ms : limits->rest_max_ms;
    if (breaker.state == BREAKER_HALF_OPEN)
        return breaker.at_ms + limits->trial_max_ms;
    if (count == 0)
        return 0;
    return breaker.at_ms + ceiling_ms(count, limits->base_ms, max_ms) * breaker.chance / CHANCE_RANGE + 1;
}

uint64_t breaker_next(uint64_t word, enum breaker_event event, const struct breaker_limits *limits, uint64_t now_ms,
                      uint64_t *seed)
{
    struct unpacked breaker = unpack(word);
    bool is_due = now_ms >= breaker_due_ms(word, limits);
    switch (event) {
    case BREAKER_FAILED:
        if (breaker.state == BREAKER_HALF_OPEN || is_due)
            breaker = failed(breaker, limits, now_ms, seed);
        break; /* else many connections that break together: they are one failure */
    case BREAKER_OVERRUN:
        if (breaker.state == BREAKER_CLOSED)
            breaker = opened(breaker, now_ms, seed);
        break;
    case BREAKER_SUCCEEDED:
        if (breaker.state == BREAKER_CLOSED && breaker.failures + breaker.level > 0)
            breaker = (struct unpacked){.at_ms = now_ms};
        break;
    case BREAKER_RELEASED:
        if (breaker.state == BREAKER_CLOSED)
            breaker.chance = 0;
        break;
    case BREAKER_TRY:
        if (breaker.state != BREAKER_CLOSED && is_due) {
            breaker.state = BREAKER_HALF_OPEN;
            breaker.at_ms = now_ms;
        }
        break;
    case BREAKER_PROVEN:
        if (breaker.state == BREAKER_HALF_OPEN)
            breaker = proven(breaker, limits, now_ms);
        break;
    case BREAKER_ABANDONED:
        if (breaker.state == BREAKER_HALF_OPEN) {
            breaker.state = BREAKER_OPEN;
            breaker.chance = 0;
        }
        break;
    case BREAKER_SEEN:
        if (breaker.state == BREAKER_OPEN)
            breaker.chance = 0;
        break;
    case BREAKER_RESET:
        breaker = (struct unpacked){.at_ms = now_ms};
        break;
    case BREAKER_EVENT_COUNT:
        break;
    }
    return pack(breaker);
}

static struct unpacked failed(struct unpacked breaker, const struct breaker_limits *limits, uint64_t now_ms,
                              uint64_t *seed)
{
    breaker.failures = next_of(breaker.failures, FAILURES_MOST);
    if (breaker.state != BREAKER_CLOSED || breaker.failures >= limits->failures)
        return opened(breaker, now_ms, seed);
    breaker.chance = random_below(seed, CHANCE_RANGE);
    breaker.at_ms = now_ms;
    return breaker;
}

/* The next failure opens it again, and then it waits longer than before: it has answered a trial, and no request yet. */
static struct unpacked proven(struct unpacked breaker, const struct breaker_limits *limits, uint64_t now_ms)
{
    return (struct unpacked){.failures = limits->failures - 1, .level = breaker.level, .at_ms = now_ms};
}

static struct unpacked opened(struct unpacked breaker, uint64_t now_ms, uint64_t *seed)
{
    return (struct unpacked){
        .state = BREAKER_OPEN,
        .level = next_of(breaker.level, LEVEL_MOST),
        .chance = random_below(seed, CHANCE_RANGE),
        .at_ms = now_ms,
    };
}

static uint64_t ceiling_ms(uint32_t failures, uint64_t base_ms, uint64_t max_ms)
{
    uint64_t ceiling = base_ms;
    for (uint32_t i = 1; i < failures && ceiling < max_ms; i++)
        ceiling *= 2;
    return ceiling < max_ms ? ceiling : max_ms;
}

uint64_t breaker_window_next(uint64_t window, uint32_t requests, uint32_t failed, uint64_t now_ms)
{
    uint64_t began_ms = window >> (2 * COUNT_BITS);
    uint32_t before = (uint32_t)(window >> COUNT_BITS) & COUNT_MOST, failed_before = (uint32_t)window & COUNT_MOST;
    if (now_ms >= began_ms + BREAKER_WINDOW_MS) {
        began_ms = now_ms;
        before = failed_before = 0;
    }
    uint64_t all = (uint64_t)before + larger(requests, failed), bad = (uint64_t)failed_before + failed;
    for (; all > COUNT_MOST; all /= 2) /* what counts is their ratio */
        bad /= 2;
    return began_ms << (2 * COUNT_BITS) | all << COUNT_BITS | bad;
}

bool breaker_window_is_over(uint64_t window, uint32_t ratio)
{
    uint64_t requests = window >> COUNT_BITS & COUNT_MOST, failed = window & COUNT_MOST;
    return requests >= BREAKER_WINDOW_LEAST && failed * 100 > requests * ratio;
}

bool breaker_tell(struct breaker *breaker, enum breaker_event event, const struct breaker_limits *limits, uint64_t now_ms,
                  uint64_t *seed, enum breaker_state *was)
{
    uint64_t word = atomic_load_explicit(&breaker->word, memory_order_relaxed), next;
    do {
        next = breaker_next(word, event, limits, now_ms, seed);
        if (next == word)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&breaker->word, &word, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    *was = breaker_state_of(word);
    if (*was == BREAKER_HALF_OPEN || breaker_state_of(next) != *was)
        atomic_store_explicit(&breaker->window, 0, memory_order_relaxed); /* what was before its end speaks of that */
    return breaker_state_of(next) != *was || (event == BREAKER_TRY && breaker_state_of(next) == BREAKER_HALF_OPEN);
}

bool breaker_count(struct breaker *breaker, uint32_t requests, uint32_t failed, const struct breaker_limits *limits,
                   uint64_t now_ms)
{
    uint64_t window = atomic_load_explicit(&breaker->window, memory_order_relaxed), next;
    do
        next = breaker_window_next(window, requests, failed, now_ms);
    while (!atomic_compare_exchange_weak_explicit(&breaker->window, &window, next, memory_order_relaxed,
                                                  memory_order_relaxed));
    return failed > 0 && breaker_window_is_over(next, limits->ratio);
}

static uint32_t next_of(uint32_t count, uint32_t most) { return count < most ? count + 1 : most; }

static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

static struct unpacked unpack(uint64_t word)
{
    return (struct unpacked){
        .state = (enum breaker_state)(word & ((1U << STATE_BITS) - 1)),
        .failures = (uint32_t)(word >> STATE_BITS) & FAILURES_MOST,
        .level = (uint32_t)(word >> (STATE_BITS + FAILURES_BITS)) & LEVEL_MOST,
        .chance = (uint32_t)(word >> (STATE_BITS + FAILURES_BITS + LEVEL_BITS)) & (CHANCE_RANGE - 1),
        .at_ms = word >> (STATE_BITS + FAILURES_BITS + LEVEL_BITS + CHANCE_BITS),
    };
}

static uint64_t pack(struct unpacked breaker)
{
    return breaker.at_ms << (STATE_BITS + FAILURES_BITS + LEVEL_BITS + CHANCE_BITS) |
           (uint64_t)breaker.chance << (STATE_BITS + FAILURES_BITS + LEVEL_BITS) |
           (uint64_t)breaker.level << (STATE_BITS + FAILURES_BITS) | (uint64_t)breaker.failures << STATE_BITS |
           (uint64_t)breaker.state;
}
