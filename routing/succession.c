/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/succession.h"

static size_t first_in_line(const struct succession_replica *replicas, size_t count, size_t besides);
static struct succession_answer decide_for(const struct succession_replica *replicas, size_t count, size_t wanted);

struct succession_answer succession_decide(const struct succession_replica *replicas, size_t count, size_t wanted,
                                           bool *is_heir)
{
    size_t first = first_in_line(replicas, count, SUCCESSION_NONE);
    for (size_t i = 0; i < count; i++)
        is_heir[i] = i == wanted;
    if (wanted != SUCCESSION_NONE) return decide_for(replicas, count, wanted);
    if (first == SUCCESSION_NONE) return (struct succession_answer){.verdict = SUCCESSION_NOBODY, .about = first};
    for (size_t i = 0; i < count; i++) {
        is_heir[i] = replicas[i].is_well && replicas[i].priority == replicas[first].priority;
        if (is_heir[i] && !replicas[i].is_fit)
            return (struct succession_answer){.verdict = SUCCESSION_UNFIT, .about = i};
    }
    return (struct succession_answer){.verdict = SUCCESSION_READY, .about = first};
}

static struct succession_answer decide_for(const struct succession_replica *replicas, size_t count, size_t wanted)
{
    const struct succession_replica *replica = &replicas[wanted];
    struct succession_answer answer = {.verdict = SUCCESSION_READY, .about = wanted};
    size_t rival = first_in_line(replicas, count, wanted);
    if (replica->priority == 0) {
        answer.verdict = SUCCESSION_BARRED;
    } else if (!replica->is_well) {
        answer.verdict = SUCCESSION_UNWELL;
    } else if (!replica->is_fit) {
        answer.verdict = SUCCESSION_UNFIT;
    } else if (rival != SUCCESSION_NONE && replicas[rival].priority <= replica->priority) {
        answer.priority = replicas[rival].priority - 1;
        answer.verdict = answer.priority > 0 ? SUCCESSION_RAISE : SUCCESSION_OVERRULED;
        if (answer.verdict == SUCCESSION_OVERRULED) answer.about = rival;
    }
    return answer;
}

/* The first of those that a Sentinel may promote that has the least priority. */
static size_t first_in_line(const struct succession_replica *replicas, size_t count, size_t besides)
{
    size_t first = SUCCESSION_NONE;
    for (size_t i = 0; i < count; i++) {
        if (i == besides || !replicas[i].is_well || replicas[i].priority <= 0) continue;
        if (first == SUCCESSION_NONE || replicas[i].priority < replicas[first].priority) first = i;
    }
    return first;
}
