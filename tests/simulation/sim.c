/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/simulation/sim.h"

#include "routing/backoff.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_earlier(const struct sim_event *a, const struct sim_event *b);
static void sift_down(struct sim_event *events, size_t count);

void sim_at(struct sim *sim, uint64_t at_us, sim_handler *handler, void *subject, uint64_t detail)
{
    sim->events = sim_grow(sim->events, &sim->event_room, sim->event_count, sizeof(*sim->events));
    struct sim_event event = {at_us > sim->now_us ? at_us : sim->now_us, sim->event_order++, handler, subject, detail};
    size_t at = sim->event_count++;
    for (; at > 0 && is_earlier(&event, &sim->events[(at - 1) / 2]); at = (at - 1) / 2)
        sim->events[at] = sim->events[(at - 1) / 2];
    sim->events[at] = event;
}

void sim_after(struct sim *sim, uint64_t wait_us, sim_handler *handler, void *subject, uint64_t detail)
{
    sim_at(sim, sim->now_us + wait_us, handler, subject, detail);
}

bool sim_step(struct sim *sim, uint64_t until_us)
{
    if (sim->event_count == 0 || sim->events[0].at_us > until_us) return false;
    struct sim_event event = sim->events[0];
    sim->events[0] = sim->events[--sim->event_count];
    sift_down(sim->events, sim->event_count);
    sim->now_us = event.at_us;
    sim->events_done++;
    event.handler(sim, event.subject, event.detail);
    return true;
}

static void sift_down(struct sim_event *events, size_t count)
{
    struct sim_event event = events[0];
    size_t at = 0;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && is_earlier(&events[child + 1], &events[child])) child++;
        if (!is_earlier(&events[child], &event)) break;
        events[at] = events[child];
        at = child;
    }
    events[at] = event;
}

static bool is_earlier(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

uint64_t sim_between(struct sim *sim, uint64_t least, uint64_t most)
{
    return least + random_next(&sim->random) % (most - least + 1);
}

bool sim_chance(struct sim *sim, uint32_t percent)
{
    return random_below(&sim->random, 100) < percent;
}

void sim_tell(const struct sim *sim, const char *format, ...)
{
    if (!sim->setup.is_told) return;
    va_list arguments;
    va_start(arguments, format);
    printf("%12.6f  ", (double)sim->now_us / SIM_S);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

void *sim_allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory) {
        fputs("simulation: out of memory\n", stderr);
        abort();
    }
    return memory;
}

void *sim_grow(void *list, size_t *room, size_t count, size_t size)
{
    if (count < *room) return list;
    size_t more = *room ? *room * 2 : 64;
    void *grown = sim_allocate(more, size);
    if (count > 0) memcpy(grown, list, count * size);
    free(list);
    *room = more;
    return grown;
}
