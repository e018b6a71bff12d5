/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/handover.h"

#include "routing/number.h"

enum { WORDS_MAX = 8 };

static size_t split(struct slice text, struct slice words[WORDS_MAX]);
static bool read_address(struct slice host, struct slice port, struct handover_address *address);

/* "slave NAME HOST PORT @ MASTER HOST PORT", or "master MASTER HOST PORT". */
struct handover_event handover_read(struct slice channel, struct slice message)
{
    static const struct slice promote = SLICE("+failover-state-send-slaveof-noone"), give_up = SLICE("-failover-abort-"),
                              near = SLICE("+failover-state-select-slave");
    const struct handover_event nothing = {.kind = HANDOVER_EVENT_NONE};
    struct handover_event event = nothing;
    struct slice words[WORDS_MAX];
    size_t count = split(message, words);
    if (slice_equals(channel, promote) && count == 8 && slice_equals(words[0], SLICE("slave")) &&
        slice_equals(words[4], SLICE("@"))) {
        event.kind = HANDOVER_EVENT_PROMOTE;
        event.master_name = words[5];
        bool makes_sense = read_address(words[2], words[3], &event.heir) && read_address(words[6], words[7], &event.master);
        return makes_sense ? event : nothing;
    }
    bool is_near = slice_equals(channel, near);
    if ((is_near || slice_starts_with(channel, give_up)) && count == 4 && slice_equals(words[0], SLICE("master"))) {
        event.kind = is_near ? HANDOVER_EVENT_NEAR : HANDOVER_EVENT_GIVE_UP;
        event.master_name = words[1];
        return read_address(words[2], words[3], &event.master) ? event : nothing;
    }
    return nothing;
}

void handover_begin(struct handover *handover, uint64_t now_us)
{
    *handover = (struct handover){.state = HANDOVER_HOLDING, .since_us = now_us};
}

void handover_end(struct handover *handover)
{
    handover->state = HANDOVER_NONE;
}

void handover_hear_master(struct handover *handover, int64_t offset, uint64_t asked_us)
{
    if (handover->state == HANDOVER_HOLDING && asked_us >= handover->since_us + HANDOVER_SETTLE_US)
        handover->master_offset = offset;
}

int64_t handover_missing(const struct handover *handover, int64_t heir_offset)
{
    return handover->master_offset > heir_offset ? handover->master_offset - heir_offset : 0;
}

bool handover_is_done(struct handover *handover, const struct handover_heir *heir, uint64_t now_us)
{
    if (handover->state == HANDOVER_NONE)
        return false;
    uint64_t age_us = now_us - handover->since_us;
    bool has_taken_over = heir->is_master && heir->role_asked_us >= handover->since_us;
    if (has_taken_over || age_us >= HANDOVER_WATCH_US)
        handover_end(handover);
    else if (age_us >= HANDOVER_HOLD_US)
        handover->state = HANDOVER_LATE;
    return has_taken_over;
}

/* How many words there are; one more than fits, if there are more. */
static size_t split(struct slice text, struct slice words[WORDS_MAX])
{
    size_t count = 0;
    const char *at = text.bytes, *end = text.bytes + text.size;
    while (at < end) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        if (!space)
            space = end;
        if (count == WORDS_MAX)
            return WORDS_MAX + 1;
        words[count++] = (struct slice){at, (size_t)(space - at)};
        at = space + 1;
    }
    return count;
}

static bool read_address(struct slice host, struct slice port, struct handover_address *address)
{
    int64_t number = 0;
    if (host.size == 0 || !number_read(port, &number) || number <= 0 || number > UINT16_MAX)
        return false;
    *address = (struct handover_address){.host = host, .port = (uint16_t)number};
    return true;
}
