/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/freshness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t hash, uint64_t word);
static void thin_out(struct freshness_samples *samples);

struct freshness *freshness_create(uint64_t seed)
{
    struct freshness *freshness = calloc(1, sizeof(*freshness));
    if (freshness) freshness->seed = seed;
    return freshness;
}

void freshness_destroy(struct freshness *freshness)
{
    free(freshness);
}

/* A multiplicative hash of eight bytes at a time; that keys are spread well is all it is for. */
uint32_t freshness_cell_of(const struct freshness *freshness, struct slice key)
{
    uint64_t hash = freshness->seed ^ key.size, word;
    const char *at = key.bytes;
    size_t left = key.size;
    for (; left >= sizeof(word); at += sizeof(word), left -= sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        hash = mix(hash, word);
    }
    word = 0;
    if (left > 0) memcpy(&word, at, left);
    return (uint32_t)(mix(mix(hash, word), 0) >> 32) % FRESHNESS_CELLS;
}

/* Each bit of a word must reach the lower half, and from there, by the next mixing, all bits. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash ^= word;
    hash = (hash ^ (hash >> 32)) * UINT64_C(0x9e3779b97f4a7c15); /* 2^64 divided by the golden ratio */
    return hash ^ (hash >> 29);
}

/* The time first: who finds nothing in flight any more finds it. Answers that two workers have read at about the same
 * time may come in either order. */
void freshness_end(struct freshness_cell *cell, uint64_t now_us)
{
    uint64_t before = atomic_load_explicit(&cell->answered_us, memory_order_relaxed);
    while (before < now_us && !atomic_compare_exchange_weak_explicit(&cell->answered_us, &before, now_us,
                                                                     memory_order_relaxed, memory_order_relaxed)) {
    }
    freshness_cancel(cell);
}

void freshness_session_saw(struct freshness_session *session, uint32_t cell, uint64_t now_us)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < FRESHNESS_SEEN_MAX; i++) {
        bool is_it = session->seen_us[i] && session->seen[i] == cell;
        if (is_it || session->seen_us[i] < session->seen_us[at]) at = i;
        if (is_it) break;
    }
    if (session->seen[at] != cell) freshness_session_raise(session, session->seen_us[at]);
    session->seen[at] = cell;
    session->seen_us[at] = now_us;
}

uint64_t freshness_session_asked(const struct freshness_session *session, uint32_t cell)
{
    uint64_t asked_us = session->floor_us;
    for (uint32_t i = 0; i < FRESHNESS_SEEN_MAX; i++) {
        if (session->seen[i] == cell && session->seen_us[i] > asked_us) asked_us = session->seen_us[i];
    }
    return asked_us;
}

void freshness_sample(struct freshness_samples *samples, const char *history, int64_t offset, uint64_t asked_us)
{
    struct freshness_sample *newest = samples->count ? &samples->samples[samples->count - 1] : NULL;
    bool goes_on = newest && strcmp(samples->history, history) == 0 && offset >= newest->offset;
    if (goes_on && offset == newest->offset) {
        newest->asked_us = asked_us; /* nothing was written in between */
        return;
    }
    if (!goes_on) {
        samples->count = 0;
        snprintf(samples->history, sizeof(samples->history), "%s", history);
    }
    if (samples->count == FRESHNESS_SAMPLES_MAX) thin_out(samples);
    samples->samples[samples->count++] = (struct freshness_sample){asked_us, offset};
}

/* Every second of the older half goes: a replica that lags far behind still finds one, if a coarser one. */
static void thin_out(struct freshness_samples *samples)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < samples->count; i++) {
        if (i >= FRESHNESS_SAMPLES_MAX / 2 || i % 2 == 0) samples->samples[kept++] = samples->samples[i];
    }
    samples->count = kept;
}

uint64_t freshness_of(const struct freshness_samples *samples, const char *history, int64_t offset)
{
    if (!history[0] || strcmp(samples->history, history) != 0) return 0;
    for (uint32_t i = samples->count; i-- > 0;) {
        if (samples->samples[i].offset <= offset) return samples->samples[i].asked_us;
    }
    return 0;
}
