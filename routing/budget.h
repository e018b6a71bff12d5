/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * budget.h - may one more lost request be sent again?
 *
 * A token bucket: a request that is sent for the first time earns a share of a token, one that is sent again spends one. What was
 * earned and spent is forgotten after BUDGET_WINDOW_MS, so that an hour of good traffic does not pay for a storm. A
 * reserve for each window lets a quiet proxy send again as well. So what is granted keeps the retries of the
 * window that ends there within that share of its requests and the reserve, whatever dies how often: retries cannot become
 * the outage.
 *
 * Owner:   embedded in a worker's view of one upstream; allocates nothing.
 * Threads: one worker only, no locks. The reserve of the process is split among workers.
 */
#ifndef ROUTING_BUDGET_H
#define ROUTING_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

enum {
    BUDGET_WINDOW_MS = 10000,
    BUDGET_SLICES = 10,
    BUDGET_FLOOR_PER_SECOND = 100, /* of the process */
};

struct budget {
    int64_t slices[BUDGET_SLICES]; /* hundredths of tokens, earned less spent in each part of the window */
    uint64_t slice;                /* the present one, counted from the beginning of time */
    int64_t balance;               /* the sum of all slices */
    int64_t reserve;               /* hundredths */
    uint32_t percent;              /* 0 = nothing is sent again */
};

/* For one of so many workers. */
struct budget budget_share(uint32_t percent, uint32_t workers);

void budget_earn(struct budget *budget, uint64_t requests, uint64_t now_ms);

/* True if there was a token for it. */
bool budget_spend(struct budget *budget, uint64_t now_ms);

#endif
