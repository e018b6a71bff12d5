/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/gray.h"

#include <stdlib.h>

static int by_size(const void *a, const void *b);
static bool looks_gray(const struct gray *gray, uint64_t latency_us, uint64_t siblings_us);

uint32_t gray_median_us(uint32_t *latencies_us, size_t count)
{
    qsort(latencies_us, count, sizeof *latencies_us, by_size);
    size_t unmeasured = 0;
    while (unmeasured < count && latencies_us[unmeasured] == 0)
        unmeasured++;
    return unmeasured == count ? 0 : latencies_us[unmeasured + (count - unmeasured) / 2];
}

static int by_size(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return (first > second) - (first < second);
}

bool gray_update(struct gray *gray, uint32_t latency_us, uint32_t siblings_us, uint64_t now_ms)
{
    if (looks_gray(gray, latency_us, siblings_us) == gray->is_gray) {
        gray->since_ms = 0;
        return false;
    }
    if (gray->since_ms == 0)
        gray->since_ms = now_ms;
    if (now_ms - gray->since_ms < (gray->is_gray ? GRAY_UNTIL_MS : GRAY_AFTER_MS))
        return false;
    *gray = (struct gray){.is_gray = !gray->is_gray};
    return true;
}

/* One that is gray must come nearer than it had to go away, so that it does not change at every breath. */
static bool looks_gray(const struct gray *gray, uint64_t latency_us, uint64_t siblings_us)
{
    if (latency_us == 0 || siblings_us == 0)
        return false;
    if (gray->is_gray)
        return latency_us > siblings_us * (GRAY_FACTOR - 1) && latency_us > siblings_us + GRAY_MARGIN_US / 2;
    return latency_us > siblings_us * GRAY_FACTOR && latency_us > siblings_us + GRAY_MARGIN_US;
}
