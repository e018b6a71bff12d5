/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The same bytes as a reply to CLUSTER SHARDS, SLOTS and INFO. Whatever is read must hold together, and agree
 * with itself.
 */
#include "routing/cluster_view.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void expect(bool is_right, const char *what)
{
    if (is_right) return;
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

static void check_view(const struct cluster_view *view)
{
    uint32_t owned = 0, counted = 0;
    for (uint32_t slot = 0; slot < TOPOLOGY_SLOTS; slot++) {
        uint16_t shard = view->slots[slot];
        expect(shard == TOPOLOGY_NO_SHARD || shard < view->shard_count, "a slot is of a shard that is there");
        owned += shard != TOPOLOGY_NO_SHARD;
    }
    for (uint32_t i = 0; i < view->shard_count; i++) {
        uint32_t master = view->shards[i].master;
        counted += view->shards[i].slot_count;
        expect(master == TOPOLOGY_NO_NODE || master < view->node_count, "a master is a node that is there");
    }
    expect(owned == view->slot_count && counted == owned, "slots are counted");
    expect(view->node_count <= CLUSTER_NODES_MAX, "nodes are bounded");
    for (uint32_t i = 0; i < view->node_count; i++) {
        expect(view->nodes[i].port && view->nodes[i].host[0], "a node has a place");
        expect(view->nodes[i].shard < view->shard_count, "a node is of a shard");
        cluster_view_names(view, &view->nodes[i], true);
    }
    expect(cluster_view_agrees(view, view), "a view agrees with itself");
}

static void read_as(struct cluster_view *(*read)(struct slice, const char *, enum cluster_view_status *),
                    struct slice reply)
{
    enum cluster_view_status status;
    struct cluster_view *view = read(reply, "asked", &status);
    expect((view != NULL) == (status == CLUSTER_VIEW_GOOD), "a status tells whether there is a view");
    if (!view) return;
    check_view(view);
    struct cluster_view *again = read(reply, "asked", &status);
    expect(again && cluster_view_agrees(view, again), "the same reply makes the same view");
    cluster_view_read_info(view, reply);
    cluster_view_destroy(view);
    cluster_view_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *copy = malloc(size ? size : 1); /* so that one byte too far is seen */
    if (!copy) return 0;
    if (size) memcpy(copy, bytes, size);
    struct slice reply = {copy, size};
    struct cluster_view view = {.nodes = NULL};
    read_as(cluster_view_read_shards, reply);
    read_as(cluster_view_read_slots, reply);
    cluster_view_read_info(&view, reply);
    free(copy);
    return 0;
}
