/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/subscriptions.h"

#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element)                                                                         \
    ((void)(element)) /* subscriptions_add() looks whether it is in the table */
#include <uthash.h>

struct subscription {
    UT_hash_handle hh;
    size_t size;
    char name[];
};

static struct subscription *find(const struct subscriptions *names, struct slice name);

uint32_t subscriptions_count(const struct subscriptions *names)
{
    return HASH_COUNT(names->first);
}

bool subscriptions_add(struct subscriptions *names, struct slice name)
{
    if (find(names, name)) return true;
    struct subscription *subscription = calloc(1, sizeof *subscription + name.size);
    if (!subscription) return false;
    subscription->size = name.size;
    memcpy(subscription->name, name.bytes, name.size);
    HASH_ADD_KEYPTR(hh, names->first, subscription->name, subscription->size, subscription);
    if (!subscription->hh.tbl) {
        free(subscription);
        return false;
    }
    names->bytes += sizeof *subscription + name.size;
    return true;
}

void subscriptions_remove(struct subscriptions *names, struct slice name)
{
    struct subscription *subscription = find(names, name);
    if (!subscription) return;
    names->bytes -= sizeof *subscription + subscription->size;
    HASH_DEL(names->first, subscription);
    free(subscription);
}

void subscriptions_clear(struct subscriptions *names)
{
    struct subscription *subscription = names->first;
    HASH_CLEAR(hh, names->first);
    while (subscription) {
        struct subscription *next = subscription->hh.next;
        free(subscription);
        subscription = next;
    }
    *names = (struct subscriptions){0};
}

const struct subscription *subscriptions_next(const struct subscriptions *names,
                                              const struct subscription *after)
{
    return after ? after->hh.next : names->first;
}

struct slice subscription_name(const struct subscription *subscription)
{
    return (struct slice){subscription->name, subscription->size};
}

bool subscriptions_has(const struct subscriptions *names, struct slice name)
{
    return find(names, name) != NULL;
}

static struct subscription *find(const struct subscriptions *names, struct slice name)
{
    struct subscription *found = NULL;
    HASH_FIND(hh, names->first, name.bytes, name.size, found);
    return found;
}
