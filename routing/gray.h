/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gray.h - is this replica so much slower than the other nodes of its shard that reads had better go elsewhere?
 *
 * A node may fail by and by: it answers PING, but everything else late. It is gray when it takes more than GRAY_FACTOR
 * times the median of its siblings, and GRAY_MARGIN_US longer, for GRAY_AFTER_MS without a break; and no longer when it
 * has been nearer to them, by a bound that is lower, for GRAY_UNTIL_MS. Where there are fewer than two other replicas
 * the master is a sibling as well. A sibling that was not measured says nothing; without any, nobody is gray.
 *
 * Owner:   embedded in a worker's view of one node; allocates nothing. Pure: time is an argument.
 */
#ifndef ROUTING_GRAY_H
#define ROUTING_GRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GRAY_FACTOR = 3,
    GRAY_MARGIN_US = 5000,
    GRAY_AFTER_MS = 1000,
    GRAY_UNTIL_MS = 5000,
    GRAY_SIBLINGS_MOST = 64, /* more of them tell no more */
};

struct gray {
    uint64_t since_ms; /* it has looked otherwise than is_gray says; 0 = it looks as it says */
    bool is_gray;
};

/* An average of what it takes, in which the last sample counts an eighth. 0 = not measured. */
static inline uint32_t gray_average_us(uint32_t average_us, uint32_t sample_us)
{
    uint32_t sample = sample_us ? sample_us : 1;
    if (average_us == 0)
        return sample;
    uint32_t next = (uint32_t)(((uint64_t)average_us * 7 + sample) / 8);
    return next ? next : 1;
}

/* Of those that were measured; of an even number the larger of the two in the middle. 0 if none was. Sorts them. */
uint32_t gray_median_us(uint32_t *latencies_us, size_t count);

/* True if is_gray changes. siblings_us is their median. */
bool gray_update(struct gray *gray, uint32_t latency_us, uint32_t siblings_us, uint64_t now_ms);

#endif
