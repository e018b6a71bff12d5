/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/spread.h"

enum {
    BUSY_FROM_PERCENT = 50,
    WEIGHT = 100,
    WEIGHT_BY_PERCENT = 6, /* 4 times that at 100 % */
    SLACK_SHARE = 8,
};

static uint64_t weight_of(const struct spread_load *load);
static uint64_t cost_with_one_more(const struct spread_load *load);

size_t spread_choose(const struct spread_load *loads, size_t count)
{
    size_t best = 0;
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        uint64_t cost = cost_with_one_more(&loads[i]);
        if (loads[i].is_closed || cost >= least)
            continue;
        best = i;
        least = cost;
    }
    uint64_t one = weight_of(&loads[best]);
    uint64_t slack = least / SLACK_SHARE > one ? least / SLACK_SHARE : one;
    bool stays = !loads[0].is_closed && cost_with_one_more(&loads[0]) <= least + slack;
    return stays ? 0 : best;
}

static uint64_t cost_with_one_more(const struct spread_load *load)
{
    return ((uint64_t)load->clients + 1) * weight_of(load);
}

static uint64_t weight_of(const struct spread_load *load)
{
    uint32_t busy_percent = load->busy_percent < 100 ? load->busy_percent : 100;
    return busy_percent > BUSY_FROM_PERCENT ? WEIGHT + (busy_percent - BUSY_FROM_PERCENT) * WEIGHT_BY_PERCENT : WEIGHT;
}
