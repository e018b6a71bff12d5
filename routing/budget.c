/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/budget.h"

enum { TOKEN = 100 };

static void turn_to(struct budget *budget, uint64_t now_ms);
static void add(struct budget *budget, int64_t hundredths);

struct budget budget_share(uint32_t percent, uint32_t workers)
{
    int64_t reserve = (int64_t)BUDGET_FLOOR_PER_SECOND * BUDGET_WINDOW_MS / 1000;
    return (struct budget){.percent = percent, .reserve = (reserve + workers - 1) / workers * TOKEN};
}

void budget_earn(struct budget *budget, uint64_t requests, uint64_t now_ms)
{
    turn_to(budget, now_ms);
    add(budget, (int64_t)(requests * budget->percent));
}

bool budget_spend(struct budget *budget, uint64_t now_ms)
{
    turn_to(budget, now_ms);
    if (budget->percent == 0 || budget->balance + budget->reserve < TOKEN)
        return false;
    add(budget, -TOKEN);
    return true;
}

/* What lies a whole window back is forgotten. */
static void turn_to(struct budget *budget, uint64_t now_ms)
{
    uint64_t slice = now_ms * BUDGET_SLICES / BUDGET_WINDOW_MS;
    uint64_t passed = slice > budget->slice ? slice - budget->slice : 0;
    for (uint64_t i = 1; i <= passed && i <= BUDGET_SLICES; i++) {
        int64_t *old = &budget->slices[(budget->slice + i) % BUDGET_SLICES];
        budget->balance -= *old;
        *old = 0;
    }
    budget->slice += passed;
}

static void add(struct budget *budget, int64_t hundredths)
{
    budget->slices[budget->slice % BUDGET_SLICES] += hundredths;
    budget->balance += hundredths;
}
