/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>

static struct topology_node nodes[] = {
    {.name = "a:1", .address = "10.0.0.1", .port = 1, .role = NODE_ROLE_MASTER, .is_fit = true, .reason = ""},
    {.name = "b:2",
     .address = "10.0.0.2",
     .port = 2,
     .role = NODE_ROLE_REPLICA,
     .is_fit = true,
     .reason = ""},
    {.name = "c:3",
     .address = "10.0.0.3",
     .port = 3,
     .role = NODE_ROLE_REPLICA,
     .is_fit = false,
     .reason = "loading"},
    {.name = "d:4",
     .address = "10.0.0.4",
     .port = 4,
     .role = NODE_ROLE_UNKNOWN,
     .is_fit = true,
     .reason = ""},
    {.name = "e:5",
     .address = "10.0.0.5",
     .port = 5,
     .role = NODE_ROLE_REPLICA,
     .is_fit = true,
     .reason = ""},
};

static int make_gauges(void **state)
{
    (void)state;
    for (size_t i = 0; i < 5; i++)
        nodes[i].gauge = node_gauge_create();
    return 0;
}

static int release_gauges(void **state)
{
    (void)state;
    for (size_t i = 0; i < 5; i++)
        node_gauge_release(nodes[i].gauge);
    return 0;
}

static struct topology_draft draft(void)
{
    return (struct topology_draft){.version = 3,
                                   .epoch = 7,
                                   .confirmed_us = 1234,
                                   .kind = "sentinel",
                                   .server_version = "7.0.15",
                                   .nodes = nodes,
                                   .node_count = 5,
                                   .master = 0};
}

static void snapshot_is_one_shard_with_all_slots_and_fit_replicas(void **state)
{
    (void)state;
    struct topology_draft given = draft();
    struct topology *topology = topology_create(&given);
    assert_non_null(topology);
    assert_int_equal(topology->version, 3);
    assert_int_equal(topology->epoch, 7);
    assert_int_equal(topology->shard_count, 1);
    for (uint32_t slot = 0; slot < TOPOLOGY_SLOTS; slot++)
        assert_int_equal(topology_shard_of(topology, slot), 0);

    const struct topology_shard *shard = topology->shards;
    assert_int_equal(shard->master, 0);
    assert_int_equal(shard->confirmed_us, 1234);
    assert_int_equal(shard->replica_count, 2);
    assert_string_equal(topology->nodes[shard->replicas[0]].name, "b:2");
    assert_string_equal(topology->nodes[shard->replicas[1]].name, "e:5");
    assert_ptr_not_equal(topology->nodes[1].name, nodes[1].name); /* copied */
    assert_ptr_equal(topology->nodes[1].gauge, nodes[1].gauge);   /* shared */
    topology_release(topology);
}

static void snapshot_may_have_no_master_and_no_nodes(void **state)
{
    (void)state;
    struct topology_draft given = draft();
    given.master = TOPOLOGY_NO_NODE;
    struct topology *topology = topology_create(&given);
    assert_int_equal(topology->shards->master, TOPOLOGY_NO_NODE);
    assert_int_equal(topology->shards->replica_count, 2);
    topology_release(topology);

    given = (struct topology_draft){.master = TOPOLOGY_NO_NODE};
    topology = topology_create(&given);
    assert_int_equal(topology->shards->replica_count, 0);
    assert_string_equal(topology->kind, "");
    assert_non_null(topology->commands);
    topology_release(topology);
}

static void gauge_lives_as_long_as_somebody_holds_it(void **state)
{
    (void)state;
    struct node_gauge *gauge = node_gauge_create();
    struct topology_node node = {.name = "a:1", .address = "::1", .reason = "", .gauge = gauge};
    struct topology_draft given = {.nodes = &node, .node_count = 1, .master = 0};
    struct topology *topology = topology_create(&given);
    assert_int_equal(atomic_load(&gauge->references), 2);
    node_gauge_release(gauge);
    atomic_store(&gauge->round_trip_us, 42); /* a sanitizer objects if it is gone */
    assert_ptr_equal(topology_take(topology), topology);
    topology_release(topology);
    assert_int_equal(atomic_load(&topology->nodes[0].gauge->round_trip_us), 42);
    topology_release(topology);
}

static void changes(struct topology_draft *given, struct topology_node *copy, int what)
{
    memcpy(copy, nodes, sizeof(nodes));
    given->nodes = copy;
    switch (what) {
    case 0:
        given->master = 1;
        break;
    case 1:
        given->master = TOPOLOGY_NO_NODE;
        break;
    case 2:
        given->node_count = 4;
        break;
    case 3:
        given->kind = "static";
        break;
    case 4:
        given->server_version = "7.2";
        break;
    case 5:
        copy[1].is_fit = false;
        break;
    case 6:
        copy[1].role = NODE_ROLE_UNKNOWN;
        break;
    case 7:
        copy[1].address = "10.0.0.9";
        break;
    case 8:
        copy[1].name = "x:2";
        break;
    case 9:
        copy[2].reason = "silent";
        break;
    case 10:
        copy[1].port = 9;
        break;
    case 11:
        given->confirmed_us = 0;
        break;
    case 12:
        copy[1].is_silent = true;
        break;
    case 13:
        given->version = 4;
        break;
    case 14:
        given->epoch = 8;
        break;
    case 15:
        given->confirmed_us = 9;
        break;
    }
}

static void snapshots_are_the_same_but_for_versions_epochs_and_times(void **state)
{
    (void)state;
    struct topology_draft given = draft();
    struct topology *first = topology_create(&given);
    for (int what = 0; what <= 15; what++) {
        struct topology_node copy[5];
        given = draft();
        changes(&given, copy, what);
        struct topology *second = topology_create(&given);
        if (topology_is_same(first, second) != (what >= 13)) fail_msg("change %d", what);
        topology_release(second);
    }
    given = draft();
    struct topology_draft_shard shard = {.master = given.master, .confirmed_us = given.confirmed_us};
    given.shards = &shard;
    given.shard_count = 1;
    for (int yields = 0; yields <= 1; yields++) {
        shard.is_yielding = yields;
        struct topology *second = topology_create(&given);
        assert_int_equal(second->shards[0].is_yielding, yields);
        assert_int_equal(topology_is_same(first, second), !yields);
        topology_release(second);
    }
    topology_release(first);
}

/* The order stays when a replica takes over and when a master is lost; a shard without slots is told apart. */
static void shards_are_ranked_by_the_least_name_of_their_nodes(void **state)
{
    (void)state;
    static const struct {
        uint16_t shard_of[5];
        uint32_t masters[3];
        uint16_t ranked[3];
    } cases[] = {
        {{2, 1, 0, 1, 2}, {2, 1, 0}, {2, 1, 0}},
        {{2, 1, 0, 1, 2}, {2, 3, 4}, {2, 1, 0}},
        {{2, 1, 0, 1, 2}, {TOPOLOGY_NO_NODE, 1, TOPOLOGY_NO_NODE}, {2, 1, 0}},
        {{0, 0, 0, 2, 2}, {0, TOPOLOGY_NO_NODE, 3}, {1, 0, 2}}, /* one that has no node at all */
    };
    uint16_t slots[TOPOLOGY_SLOTS];
    for (uint32_t slot = 0; slot < TOPOLOGY_SLOTS; slot++)
        slots[slot] = slot < 100 ? TOPOLOGY_NO_SHARD : slot % 2;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct topology_draft given = draft();
        struct topology_node copy[5];
        struct topology_draft_shard shards[3] = {{.master = 0}};
        for (size_t node = 0; node < 5; node++) {
            copy[node] = nodes[node];
            copy[node].shard = cases[i].shard_of[node];
        }
        for (size_t shard = 0; shard < 3; shard++)
            shards[shard].master = cases[i].masters[shard];
        given.nodes = copy;
        given.shards = shards;
        given.shard_count = 3;
        given.slots = slots;
        struct topology *topology = topology_create(&given);
        for (size_t rank = 0; rank < 3; rank++)
            assert_int_equal(topology->ranked[rank].shard, cases[i].ranked[rank]);
        assert_int_equal(topology->slots_owned, TOPOLOGY_SLOTS - 100);
        assert_false(topology->shards[0].is_spare);
        assert_true(topology->shards[2].is_spare);
        topology_release(topology);
    }
}

/* One of each shard is enough, and whoever is accepted is nobody's rival. */
static void shards_with_two_masters_are_counted(void **state)
{
    (void)state;
    static const struct {
        bool is_rival[5];
        uint32_t masters[2], rivals[2]; /* nodes 0, 1, 2 are of the first shard */
        uint32_t disputed;
    } cases[] = {
        {{false}, {0, 3}, {TOPOLOGY_NO_NODE, TOPOLOGY_NO_NODE}, 0},
        {{false, true}, {0, 3}, {1, TOPOLOGY_NO_NODE}, 1},
        {{false, true, true}, {0, 3}, {1, TOPOLOGY_NO_NODE}, 1},
        {{false, true, false, false, true}, {0, 3}, {1, 4}, 2},
        {{true}, {0, 3}, {TOPOLOGY_NO_NODE, TOPOLOGY_NO_NODE}, 0},
        {{false, true, true}, {TOPOLOGY_NO_NODE, 3}, {1, TOPOLOGY_NO_NODE}, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct topology_node given[5];
        struct topology_draft_shard shards[2] = {{.master = cases[i].masters[0]}, {.master = cases[i].masters[1]}};
        struct topology_draft whole = draft();
        memcpy(given, nodes, sizeof(given));
        for (size_t n = 0; n < 5; n++) {
            given[n].shard = n >= 3;
            given[n].is_rival = cases[i].is_rival[n];
        }
        whole.nodes = given;
        whole.shards = shards;
        whole.shard_count = 2;
        struct topology *topology = topology_create(&whole);
        assert_int_equal(topology->disputed, cases[i].disputed);
        for (size_t n = 0; n < 2; n++)
            assert_int_equal(topology->shards[n].rival, cases[i].rivals[n]);
        given[2].is_rival = !given[2].is_rival;
        struct topology *other = topology_create(&whole);
        assert_false(topology_is_same(topology, other));
        topology_release(topology);
        topology_release(other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_is_one_shard_with_all_slots_and_fit_replicas),
        cmocka_unit_test(snapshot_may_have_no_master_and_no_nodes),
        cmocka_unit_test(gauge_lives_as_long_as_somebody_holds_it),
        cmocka_unit_test(snapshots_are_the_same_but_for_versions_epochs_and_times),
        cmocka_unit_test(shards_are_ranked_by_the_least_name_of_their_nodes),
        cmocka_unit_test(shards_with_two_masters_are_counted),
    };
    return cmocka_run_group_tests(tests, make_gauges, release_gauges);
}
