/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/bench/openloop/histogram.h"

#include <math.h>

static uint32_t bucket_of(uint64_t value);
static uint64_t last_of(uint32_t bucket);

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->counts[bucket_of(value)]++;
    histogram->total++;
    histogram->sum += (double)value;
    if (value > histogram->highest) histogram->highest = value;
}

static uint32_t bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_LINEAR) return (uint32_t)value;
    uint32_t shift = 63U - (uint32_t)__builtin_clzll(value) - HISTOGRAM_BITS;
    return shift * HISTOGRAM_LINEAR + (uint32_t)(value >> shift);
}

uint64_t histogram_percentile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)ceil(share * (double)histogram->total), seen = 0;
    if (wanted == 0) return 0;
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen >= wanted)
            return last_of(bucket) < histogram->highest ? last_of(bucket) : histogram->highest;
    }
    return histogram->highest;
}

static uint64_t last_of(uint32_t bucket)
{
    if (bucket < HISTOGRAM_LINEAR) return bucket;
    uint32_t shift = bucket / HISTOGRAM_LINEAR - 1;
    return ((uint64_t)(bucket - shift * HISTOGRAM_LINEAR + 1) << shift) - 1;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->total ? histogram->sum / (double)histogram->total : 0;
}
