/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * histogram.h - how often which latency was seen, to within 1 %.
 *
 * Log-linear: values below 128 have a bucket each, every power of two above is divided into 128.
 *
 * Owner: embedded; allocates nothing. Threads: one.
 */
#ifndef OPENLOOP_HISTOGRAM_H
#define OPENLOOP_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_BITS = 7,
    HISTOGRAM_LINEAR = 1 << HISTOGRAM_BITS,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_BITS + 1) * HISTOGRAM_LINEAR,
};

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t highest;
    double sum;
};

void histogram_add(struct histogram *histogram, uint64_t value);

/* What `share` of all values do not exceed, rounded up to the end of its bucket; 0 if there is none. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);

double histogram_mean(const struct histogram *histogram);

#endif
