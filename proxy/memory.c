/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/memory.h"

#include "proxy/client.h"
#include "proxy/log.h"
#include "proxy/worker.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CLOSED_AT_ONCE = 64,
    LOOK_AGAIN_MS = 5,
    WORTH_CLOSING = 256 * 1024,     /* who has less is not the reason, unless very many have it: */
    WORTH_CLOSING_SOON = 16 * 1024, /* where there is a quarter too much */
    WORTH_TRIMMING = 2 * 1024 * 1024,
    TICKS_OF_SECOND = 10,
    RECENT_SECONDS = sizeof((struct memory_trim *)NULL)->recent_bytes / sizeof(uint64_t),
};

_Atomic uint64_t memory_used_bytes;

static struct client *largest_client(const struct worker *worker, uint64_t *bytes);
static uint64_t bytes_of(const struct client *client);
static bool is_largest_of_all(const struct worker *worker, uint64_t bytes);
static uint64_t worth_closing(uint64_t max_bytes, uint64_t used_bytes);
static void enforce(struct worker *worker);
static uint64_t highest_of_all(const struct worker_group *group, uint64_t used);
static void tell(struct worker_group *group, bool is_over);
static uint64_t read_limit(const char *path);

uint64_t memory_default_max(void)
{
    static const char *const limits[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t most = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        uint64_t limit = read_limit(limits[i]);
        most = limit < most ? limit : most;
    }
    return most / 2;
}

void memory_tick(struct worker *worker)
{
    bool is_over = memory_is_over(worker->group->max_memory);
    uint64_t used = atomic_load_explicit(&memory_used_bytes, memory_order_relaxed);
    tell(worker->group, is_over);
    if (is_over)
        enforce(worker);
    else
        atomic_store_explicit(&worker->memory.largest_bytes, 0, memory_order_relaxed);
    if (worker->ticks % TICKS_OF_SECOND == 0)
        chunk_pool_rest(&worker->chunks);
    if (worker->index != 0)
        return;
    uint64_t clients = atomic_load_explicit(&worker->group->client_count, memory_order_relaxed);
    uint64_t needed = highest_of_all(worker->group, used) + clients * sizeof(struct client);
    if (memory_should_trim(&worker->memory.trim, needed))
        malloc_trim(0);
}

/* A burst may be over before the next tick. */
static uint64_t highest_of_all(const struct worker_group *group, uint64_t used)
{
    for (uint32_t i = 0; i < group->count; i++) {
        uint64_t seen = atomic_exchange_explicit(&group->workers[i]->memory.highest_bytes, 0, memory_order_relaxed);
        used = seen > used ? seen : used;
    }
    return used;
}

void memory_turn(struct worker *worker)
{
    uint64_t used = atomic_load_explicit(&memory_used_bytes, memory_order_relaxed);
    if (used > atomic_load_explicit(&worker->memory.highest_bytes, memory_order_relaxed))
        atomic_store_explicit(&worker->memory.highest_bytes, used, memory_order_relaxed);
    if (used > worker->group->max_memory && worker->now_ms >= worker->memory.looked_ms + LOOK_AGAIN_MS)
        enforce(worker);
}

static void enforce(struct worker *worker)
{
    struct worker_group *group = worker->group;
    worker->memory.looked_ms = worker->now_ms;
    tell(group, true);
    uint64_t freed = 0, used = atomic_load_explicit(&memory_used_bytes, memory_order_relaxed);
    for (int i = 0; i < CLOSED_AT_ONCE && used - freed > group->max_memory; i++) {
        uint64_t bytes = 0;
        struct client *client = largest_client(worker, &bytes);
        atomic_store_explicit(&worker->memory.largest_bytes, bytes, memory_order_relaxed);
        if (!client || bytes < worth_closing(group->max_memory, used - freed) || !is_largest_of_all(worker, bytes))
            break;
        log_warning("client %llu: closed: requests and replies take more than proxy.max_memory, and it has most, %.1f MiB",
                    (unsigned long long)client->id, (double)bytes / (1 << 20));
        client_close(client, "proxy.max_memory reached");
        freed += bytes < used - freed ? bytes : used - freed;
    }
}

static uint64_t worth_closing(uint64_t max_bytes, uint64_t used_bytes)
{
    return used_bytes - max_bytes > max_bytes / 4 ? WORTH_CLOSING_SOON : WORTH_CLOSING;
}

static void tell(struct worker_group *group, bool is_over)
{
    if (atomic_load_explicit(&group->is_memory_over, memory_order_relaxed) == is_over ||
        atomic_exchange_explicit(&group->is_memory_over, is_over, memory_order_relaxed) == is_over)
        return;
    if (is_over)
        log_warning("requests and replies of all clients take more than proxy.max_memory (%.1f MiB): clients have to wait, "
                    "those with most are closed", (double)group->max_memory / (1 << 20));
    else
        log_info("requests and replies take less than proxy.max_memory again");
}

static struct client *largest_client(const struct worker *worker, uint64_t *bytes)
{
    struct client *largest = NULL;
    for (struct client *client = worker->clients; client; client = client->next) {
        uint64_t of_this = bytes_of(client);
        if (of_this > *bytes) {
            largest = client;
            *bytes = of_this;
        }
    }
    return largest;
}

/* What closing it frees at once: not what is on its way to a node. */
static uint64_t bytes_of(const struct client *client)
{
    uint64_t bytes = client->output.bytes + client->pushed.bytes + client->stored_bytes;
    bytes += client->input ? client->input->capacity : 0;
    if (client->held == client->inflight) /* else few of them are */
        bytes += client->inflight_bytes;
    return bytes;
}

static bool is_largest_of_all(const struct worker *worker, uint64_t bytes)
{
    const struct worker_group *group = worker->group;
    for (uint32_t i = 0; i < group->count; i++) {
        if (atomic_load_explicit(&group->workers[i]->memory.largest_bytes, memory_order_relaxed) > bytes)
            return false;
    }
    return true;
}

bool memory_should_trim(struct memory_trim *trim, uint64_t used_bytes)
{
    uint64_t *recent = trim->recent_bytes;
    if (used_bytes > recent[0])
        recent[0] = used_bytes;
    if (++trim->ticks < TICKS_OF_SECOND)
        return false;
    trim->ticks = 0;
    uint64_t needed = recent[0];
    for (size_t i = RECENT_SECONDS - 1; i > 0; i--) {
        needed = recent[i] > needed ? recent[i] : needed;
        recent[i] = recent[i - 1];
    }
    recent[0] = used_bytes;
    if (needed > trim->highest_bytes)
        trim->highest_bytes = needed;
    if (trim->highest_bytes - needed < WORTH_TRIMMING)
        return false;
    trim->highest_bytes = needed;
    return true;
}

/* Where there is none the file says "max", or a number beyond all memory, or is missing. */
static uint64_t read_limit(const char *path)
{
    char text[32] = "";
    FILE *file = fopen(path, "re");
    if (!file)
        return UINT64_MAX;
    bool is_read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    return is_read && text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10) : UINT64_MAX;
}
