/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/pick.h"

#include "routing/backoff.h"
#include "routing/freshness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

enum { MAX_NODES = 12, DRAWS = 60000, UNMEASURED = 0 };

/* One shard: node 0 is the master unless there is none, all others are its replicas. */
struct scene {
    struct topology_node nodes[MAX_NODES];
    struct pick_load loads[MAX_NODES];
    struct topology *topology;
    uint64_t seed;
    bool takes_gray; /* what allowed_nodes() thinks of them */
};

static const struct topology_shard *shard_of(const struct scene *scene)
{
    return scene->topology->shards;
}

/* Fit, usable and idle, all of them; round trips are not measured. */
static void scene_init(struct scene *scene, uint32_t node_count)
{
    static const char *const names[MAX_NODES] = {"10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379",  "10.0.0.4:6379",
                                                 "10.0.0.5:6379", "10.0.0.6:6379", "10.0.0.7:6379",  "10.0.0.8:6379",
                                                 "10.0.0.9:6379", "10.0.1.1:6379", "10.0.1.2:6379", "10.0.1.3:6379"};
    *scene = (struct scene){.seed = 4711};
    for (uint32_t i = 0; i < node_count; i++) {
        scene->nodes[i] = (struct topology_node){.name = names[i], .role = NODE_ROLE_REPLICA, .is_fit = true};
        scene->loads[i].is_usable = true;
    }
    scene->nodes[0].role = NODE_ROLE_MASTER;
    scene->topology =
        topology_create(&(struct topology_draft){.nodes = scene->nodes, .node_count = node_count});
    assert_non_null(scene->topology);
}

/* The first of the scene's nodes, as another snapshot. */
static struct topology *snapshot(struct scene *scene, uint32_t node_count, uint64_t version)
{
    return topology_create(
        &(struct topology_draft){.nodes = scene->nodes, .node_count = node_count, .version = version});
}

static void set_round_trip(struct scene *scene, uint32_t node, uint32_t us)
{
    atomic_store(&scene->topology->nodes[node].gauge->round_trip_us, us);
}

static uint32_t read_node(struct scene *scene, enum pick_policy policy, uint32_t avoid)
{
    return pick_read(scene->topology, shard_of(scene), scene->loads, policy, FRESHNESS_ANY, avoid, &scene->seed);
}

static void count_reads(struct scene *scene, enum pick_policy policy, uint32_t avoid,
                        unsigned counts[MAX_NODES])
{
    for (int i = 0; i < MAX_NODES; i++)
        counts[i] = 0;
    for (int draw = 0; draw < DRAWS; draw++) {
        uint32_t node = read_node(scene, policy, avoid);
        assert_true(node < scene->topology->node_count);
        counts[node]++;
    }
}

static void assert_share(unsigned count, unsigned numerator, unsigned denominator)
{
    unsigned expected = DRAWS * numerator / denominator;
    assert_in_range(count, expected - DRAWS / 50, expected + DRAWS / 50);
}

/* ---- who may be asked ---- */

/* Nodes: master m, replicas a and b. "m-" is a master that is unfit, "m!" one that this worker cannot reach,
 * "" none at all. What is expected names all that may be picked and must each be at some time. */
static const struct policy_sample {
    enum pick_policy policy;
    const char *nodes, *avoid, *expected;
} policy_samples[] = {
    {PICK_MASTER, "m a b", "", "m"},
    {PICK_MASTER, "m! a b", "", ""},
    {PICK_MASTER, "m- a b", "", ""},
    {PICK_MASTER, "a b", "", ""},
    {PICK_MASTER, "m a b", "m", "m"},
    {PICK_PREFER_MASTER, "m a b", "", "m"},
    {PICK_PREFER_MASTER, "m! a b", "", "ab"},
    {PICK_PREFER_MASTER, "m- a b", "", "ab"},
    {PICK_PREFER_MASTER, "a b", "", "ab"},
    {PICK_PREFER_MASTER, "m a b", "m", "ab"},
    {PICK_PREFER_MASTER, "m a! b-", "m", "m"},
    {PICK_PREFER_MASTER, "m! a! b-", "", ""},
    {PICK_REPLICA, "m a b", "", "ab"},
    {PICK_REPLICA, "m a! b", "", "b"},
    {PICK_REPLICA, "m a b-", "", "a"},
    {PICK_REPLICA, "m a! b-", "", ""},
    {PICK_REPLICA, "m", "", ""},
    {PICK_REPLICA, "m a b", "a", "b"},
    {PICK_REPLICA, "m a b!", "a", "a"},
    {PICK_REPLICA, "m a! b!", "a", ""},
    {PICK_PREFER_REPLICA, "m a b", "", "ab"},
    {PICK_PREFER_REPLICA, "m a! b-", "", "m"},
    {PICK_PREFER_REPLICA, "m", "", "m"},
    {PICK_PREFER_REPLICA, "m a b", "a", "b"},
    {PICK_PREFER_REPLICA, "m a b!", "a", "m"},
    {PICK_PREFER_REPLICA, "m! a b!", "a", "a"},
    {PICK_PREFER_REPLICA, "m", "m", "m"},
    {PICK_PREFER_REPLICA, "m- a! b!", "", ""},
    {PICK_PREFER_REPLICA, "", "", ""},
    {PICK_NEAREST, "m a b", "", "mab"},
    {PICK_NEAREST, "a b", "", "ab"},
    {PICK_NEAREST, "m! a b-", "", "a"},
    {PICK_NEAREST, "m a b", "m", "ab"},
    {PICK_NEAREST, "m a! b-", "m", "m"},
    {PICK_NEAREST, "m! a! b-", "", ""},
    {PICK_NEAREST, "", "", ""},
};

/* Builds what the words say; names[] tells which node has which letter. */
static void scene_of_words(struct scene *scene, const char *words, char names[MAX_NODES])
{
    uint32_t count = 0, master = TOPOLOGY_NO_NODE;
    *scene = (struct scene){.seed = 815};
    for (const char *at = words; *at; at++) {
        if (*at == ' ') continue;
        if (*at == '-') {
            scene->nodes[count - 1].is_fit = false;
            continue;
        }
        if (*at == '!') {
            scene->loads[count - 1].is_usable = false;
            continue;
        }
        if (*at == 'm') master = count;
        names[count] = *at;
        scene->nodes[count].name = "node";
        scene->nodes[count].role = *at == 'm' ? NODE_ROLE_MASTER : NODE_ROLE_REPLICA;
        scene->nodes[count].is_fit = true;
        scene->loads[count++].is_usable = true;
    }
    scene->topology = topology_create(
        &(struct topology_draft){.nodes = scene->nodes, .node_count = count, .master = master});
    assert_non_null(scene->topology);
}

static uint32_t node_of_name(const char names[MAX_NODES], char name)
{
    for (uint32_t i = 0; i < MAX_NODES; i++) {
        if (name && names[i] == name) return i;
    }
    return PICK_NONE;
}

static void each_policy_asks_those_it_allows(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(policy_samples); i++) {
        const struct policy_sample *sample = &policy_samples[i];
        struct scene scene;
        char names[MAX_NODES] = {0};
        scene_of_words(&scene, sample->nodes, names);
        uint32_t avoid = node_of_name(names, sample->avoid[0]);
        unsigned expected = 0, seen = 0;
        for (const char *name = sample->expected; *name; name++)
            expected |= 1u << node_of_name(names, *name);
        for (int draw = 0; draw < 200; draw++) {
            uint32_t node = read_node(&scene, sample->policy, avoid);
            if (node != PICK_NONE) seen |= 1u << node;
            assert_int_equal(node == PICK_NONE, expected == 0);
        }
        if (seen != expected)
            print_error("policy %d, nodes %s, avoid %s\n", (int)sample->policy, sample->nodes, sample->avoid);
        assert_int_equal(seen, expected);
        topology_release(scene.topology);
    }
}

static void writes_go_to_a_master_that_is_fit_and_reached_or_nowhere(void **unused)
{
    (void)unused;
    static const struct {
        const char *nodes;
        char expected;
    } samples[] = {
        {"m a b", 'm'}, {"a m b", 'm'}, {"m! a b", 0}, {"m- a b", 0}, {"a b", 0}, {"", 0}, {"m a! b-", 'm'},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct scene scene;
        char names[MAX_NODES] = {0};
        scene_of_words(&scene, samples[i].nodes, names);
        uint32_t expected = node_of_name(names, samples[i].expected);
        assert_int_equal(pick_write(scene.topology, shard_of(&scene), scene.loads), expected);
        topology_release(scene.topology);
    }
}

static void a_master_about_to_hand_over_is_read_from_and_not_written_to(void **unused)
{
    (void)unused;
    struct scene scene;
    scene_init(&scene, 3);
    const struct topology_draft_shard yielding = {.master = 0, .is_yielding = true};
    topology_release(scene.topology);
    scene.topology = topology_create(
        &(struct topology_draft){.nodes = scene.nodes, .node_count = 3, .shards = &yielding, .shard_count = 1});
    assert_non_null(scene.topology);
    assert_int_equal(pick_write(scene.topology, shard_of(&scene), scene.loads), PICK_NONE);
    assert_int_equal(read_node(&scene, PICK_MASTER, PICK_NONE), 0);
    topology_release(scene.topology);
}

/* ---- how they are spread ---- */

static void replicas_that_are_alike_are_asked_alike(void **unused)
{
    (void)unused;
    for (uint32_t replicas = 1; replicas < MAX_NODES; replicas++) {
        struct scene scene;
        unsigned counts[MAX_NODES];
        scene_init(&scene, replicas + 1);
        count_reads(&scene, PICK_PREFER_REPLICA, PICK_NONE, counts);
        assert_int_equal(counts[0], 0);
        for (uint32_t i = 1; i <= replicas; i++)
            assert_share(counts[i], 1, replicas);
        topology_release(scene.topology);
    }
}

/* Of n replicas with different loads, the one that r others undercut is the better of a pair in n-1-r of the
 * n(n-1)/2 pairs. */
static void the_more_a_replica_has_to_do_the_less_it_is_asked(void **unused)
{
    (void)unused;
    struct scene scene;
    unsigned counts[MAX_NODES];
    scene_init(&scene, 5);
    static const uint32_t outstanding[] = {0, 30, 0, 20, 10}; /* of the master, then of the replicas */
    for (uint32_t i = 0; i < 5; i++)
        scene.loads[i].outstanding = outstanding[i];
    count_reads(&scene, PICK_REPLICA, PICK_NONE, counts);
    assert_share(counts[2], 3, 6);
    assert_share(counts[4], 2, 6);
    assert_share(counts[3], 1, 6);
    assert_int_equal(counts[1], 0);
    topology_release(scene.topology);
}

static void unanswered_requests_stay_level_among_replicas(void **unused)
{
    (void)unused;
    struct scene scene;
    scene_init(&scene, 9);
    for (int request = 0; request < 8 * 1000; request++)
        scene.loads[read_node(&scene, PICK_REPLICA, PICK_NONE)].outstanding++;
    for (uint32_t i = 1; i < 9; i++)
        assert_in_range(scene.loads[i].outstanding, 995, 1005);
    topology_release(scene.topology);
}

static void a_replica_that_fell_behind_catches_up_before_it_is_asked_again(void **unused)
{
    (void)unused;
    struct scene scene;
    scene_init(&scene, 4);
    scene.loads[2].outstanding = 500;
    for (int request = 0; request < 900; request++) {
        uint32_t node = read_node(&scene, PICK_REPLICA, PICK_NONE);
        if (node == 2) assert_true(scene.loads[1].outstanding >= 500 || scene.loads[3].outstanding >= 500);
        scene.loads[node].outstanding++;
    }
    assert_in_range(scene.loads[1].outstanding, 440, 460);
    assert_in_range(scene.loads[3].outstanding, 440, 460);
    topology_release(scene.topology);
}

static void one_replica_that_is_not_reached_leaves_the_others_alike(void **unused)
{
    (void)unused;
    struct scene scene;
    unsigned counts[MAX_NODES];
    scene_init(&scene, 5);
    scene.loads[3].is_usable = false;
    count_reads(&scene, PICK_REPLICA, PICK_NONE, counts);
    assert_int_equal(counts[3], 0);
    assert_share(counts[1], 1, 3);
    assert_share(counts[2], 1, 3);
    assert_share(counts[4], 1, 3);
    topology_release(scene.topology);
}

static void the_last_replica_that_is_reached_gets_everything(void **unused)
{
    (void)unused;
    for (uint32_t last = 1; last < MAX_NODES; last++) {
        struct scene scene;
        unsigned counts[MAX_NODES];
        scene_init(&scene, MAX_NODES);
        for (uint32_t i = 0; i < MAX_NODES; i++)
            scene.loads[i].is_usable = i == last;
        count_reads(&scene, PICK_REPLICA, PICK_NONE, counts);
        assert_int_equal(counts[last], DRAWS);
        topology_release(scene.topology);
    }
}

/* ---- the nearest ---- */

/* Round trips of the master and of two replicas; who is near enough to the best, by index. */
static void near_are_those_within_a_quarter_or_100_us_of_the_best(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t us[3];
        unsigned expected; /* a bit for each node */
    } samples[] = {
        {{1000, 5000, 9000}, 1},
        {{5000, 1000, 9000}, 2},
        {{1000, 1250, 1251}, 1 | 2},
        {{1251, 1250, 1000}, 2 | 4},
        {{50, 150, 151}, 1 | 2},
        {{10, 20, 109}, 1 | 2 | 4},
        {{400, 500, 501}, 1 | 2},
        {{404, 505, 506}, 1 | 2},
        {{UNMEASURED, 90000, 3000000}, 2},
        {{UNMEASURED, UNMEASURED, UNMEASURED}, 1 | 2 | 4},
        {{UNMEASURED, UINT32_MAX, UNMEASURED}, 1 | 2 | 4}, /* over an hour is no nearer than unknown */
        {{UINT32_MAX, UINT32_MAX, UINT32_MAX}, 1 | 2 | 4},
        {{4000000000, 4100000000, 4200000000}, 1 | 2 | 4},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct scene scene;
        scene_init(&scene, 3);
        for (uint32_t node = 0; node < 3; node++)
            set_round_trip(&scene, node, samples[i].us[node]);
        unsigned seen = 0;
        for (int draw = 0; draw < 200; draw++) {
            uint32_t node = read_node(&scene, PICK_NEAREST, PICK_NONE);
            assert_true(node < 3);
            seen |= 1u << node;
        }
        assert_int_equal(seen, samples[i].expected);
        topology_release(scene.topology);
    }
}

static void nodes_that_are_equally_near_are_asked_alike(void **unused)
{
    (void)unused;
    for (uint32_t count = 1; count < MAX_NODES; count++) {
        struct scene scene;
        unsigned counts[MAX_NODES];
        scene_init(&scene, count);
        for (uint32_t i = 0; i < count; i++)
            set_round_trip(&scene, i, 200 + i);
        count_reads(&scene, PICK_NEAREST, PICK_NONE, counts);
        for (uint32_t i = 0; i < count; i++)
            assert_share(counts[i], 1, count);
        topology_release(scene.topology);
    }
}

static void among_the_near_the_less_loaded_of_two_is_asked(void **unused)
{
    (void)unused;
    struct scene scene;
    unsigned counts[MAX_NODES];
    scene_init(&scene, 5);
    static const uint32_t outstanding[] = {30, 0, 20, 10, 0};
    for (uint32_t i = 0; i < 5; i++) {
        scene.loads[i].outstanding = outstanding[i];
        set_round_trip(&scene, i, i == 4 ? 7000 : 300);
    }
    count_reads(&scene, PICK_NEAREST, PICK_NONE, counts);
    assert_share(counts[1], 3, 6);
    assert_share(counts[3], 2, 6);
    assert_share(counts[2], 1, 6);
    assert_int_equal(counts[0], 0);
    assert_int_equal(counts[4], 0); /* idle, but far */
    topology_release(scene.topology);
}

/* ---- whatever there is ---- */

static bool is_open(const struct scene *scene, uint32_t node, uint32_t avoid)
{
    return node != avoid && scene->topology->nodes[node].is_fit && scene->loads[node].is_usable &&
           (!scene->loads[node].is_gray || scene->takes_gray);
}

/* Bits of the nodes that one look at the shard may yield. */
static unsigned open_nodes(const struct scene *scene, bool masters, bool replicas, uint32_t avoid)
{
    unsigned open = 0;
    for (uint32_t i = 0; i < scene->topology->node_count; i++) {
        bool is_master = i == shard_of(scene)->master;
        bool is_replica = !is_master && scene->topology->nodes[i].role == NODE_ROLE_REPLICA;
        if (((is_master && masters) || (is_replica && replicas)) && is_open(scene, i, avoid)) open |= 1u << i;
    }
    return open;
}

static unsigned nearest_of(const struct scene *scene, unsigned open)
{
    uint64_t us[MAX_NODES], best = UINT64_MAX;
    for (uint32_t i = 0; i < scene->topology->node_count; i++) {
        uint32_t measured = atomic_load(&scene->topology->nodes[i].gauge->round_trip_us);
        us[i] = measured ? measured : UINT32_MAX / 2;
        if ((open & 1u << i) && us[i] < best) best = us[i];
    }
    uint64_t limit = best + (best / 4 > 100 ? best / 4 : 100);
    for (uint32_t i = 0; i < scene->topology->node_count; i++)
        open &= us[i] <= limit ? ~0u : ~(1u << i);
    return open;
}

static unsigned allowed_nodes(const struct scene *scene, enum pick_policy policy, uint32_t avoid)
{
    unsigned first = 0, then = 0;
    switch (policy) {
    case PICK_MASTER:
        return open_nodes(scene, true, false, avoid);
    case PICK_REPLICA:
        return open_nodes(scene, false, true, avoid);
    case PICK_PREFER_MASTER:
        first = open_nodes(scene, true, false, avoid);
        then = open_nodes(scene, false, true, avoid);
        break;
    case PICK_PREFER_REPLICA:
        first = open_nodes(scene, false, true, avoid);
        then = open_nodes(scene, true, false, avoid);
        break;
    case PICK_NEAREST:
        return nearest_of(scene, open_nodes(scene, true, true, avoid));
    case PICK_POLICY_COUNT:
        break;
    }
    return first ? first : then;
}

static void scene_of_chance(struct scene *scene, uint64_t *seed)
{
    *scene = (struct scene){.seed = random_next(seed)};
    uint32_t count = random_below(seed, MAX_NODES + 1);
    for (uint32_t i = 0; i < count; i++) {
        scene->nodes[i] = (struct topology_node){.name = "node",
                                                 .role = (enum node_role)random_below(seed, 3),
                                                 .is_fit = random_below(seed, 3) > 0};
        scene->loads[i] = (struct pick_load){
            .outstanding = random_below(seed, 4),
            .is_usable = random_below(seed, 3) > 0,
            .is_gray = random_below(seed, 3) == 0,
            .held_back = random_below(seed, 2) ? 200 : 0,
        };
    }
    scene->topology = topology_create(&(struct topology_draft){
        .nodes = scene->nodes, .node_count = count, .master = random_below(seed, MAX_NODES + 1)});
    assert_non_null(scene->topology);
    for (uint32_t i = 0; i < count; i++)
        set_round_trip(scene, i, random_below(seed, 5) ? 50 + random_below(seed, 500) : UNMEASURED);
}

static void nothing_but_what_is_allowed_fit_and_reached_is_ever_picked(void **unused)
{
    (void)unused;
    uint64_t seed = 1234567;
    unsigned picked = 0, none = 0;
    for (int round = 0; round < 3000; round++) {
        struct scene scene;
        scene_of_chance(&scene, &seed);
        for (int policy = 0; policy < PICK_POLICY_COUNT; policy++) {
            uint32_t avoid = random_below(&seed, 2) ? random_below(&seed, MAX_NODES) : PICK_NONE;
            unsigned allowed = allowed_nodes(&scene, (enum pick_policy)policy, avoid);
            scene.takes_gray = true;
            if (!allowed) allowed = allowed_nodes(&scene, (enum pick_policy)policy, PICK_NONE);
            scene.takes_gray = false;
            for (int draw = 0; draw < 5; draw++) {
                uint32_t node = read_node(&scene, (enum pick_policy)policy, avoid);
                if (node == PICK_NONE)
                    assert_int_equal(allowed, 0);
                else
                    assert_true(node < scene.topology->node_count && (allowed & 1u << node));
                *(node == PICK_NONE ? &none : &picked) += 1;
            }
        }
        uint32_t writer = pick_write(scene.topology, shard_of(&scene), scene.loads);
        scene.takes_gray = true;
        unsigned masters = open_nodes(&scene, true, false, PICK_NONE);
        assert_int_equal(writer == PICK_NONE ? 0 : 1u << writer, masters);
        topology_release(scene.topology);
    }
    assert_true(picked > 10000 && none > 10000);
}

/* ---- the nearest, asked for often ---- */

static uint32_t read_near(struct scene *scene, struct topology *topology, struct pick_near *near, uint64_t now_ms)
{
    return pick_near_read(topology, topology->shards, scene->loads, FRESHNESS_ANY, &scene->seed, near, now_ms);
}

/* With few replicas all are looked at, with more a part is remembered: it must come to the same. */
static void the_nearest_are_asked_alike_however_many_there_are(void **unused)
{
    (void)unused;
    for (uint32_t count = 4; count <= MAX_NODES; count += MAX_NODES - 4) {
        struct scene scene;
        struct pick_near near = {0};
        unsigned counts[MAX_NODES] = {0};
        scene_init(&scene, count);
        struct topology *topology = snapshot(&scene, count, 1);
        for (uint32_t i = 0; i < count; i++)
            atomic_store(&topology->nodes[i].gauge->round_trip_us, i < 3 ? 500 : 5000);
        for (uint64_t draw = 0; draw < DRAWS; draw++)
            counts[read_near(&scene, topology, &near, draw)]++;
        for (uint32_t i = 0; i < 3; i++)
            assert_share(counts[i], 1, 3);
        topology_release(topology);
        topology_release(scene.topology);
    }
}

static void what_is_remembered_of_the_nearest_is_not_asked_where_it_cannot_be(void **unused)
{
    (void)unused;
    struct scene scene;
    struct pick_near near = {0};
    scene_init(&scene, MAX_NODES);
    struct topology *topology = snapshot(&scene, MAX_NODES, 1);
    for (uint32_t i = 0; i < MAX_NODES; i++)
        atomic_store(&topology->nodes[i].gauge->round_trip_us, i == 4 ? 500 : i == 7 ? 2000 : 9000);
    assert_int_equal(read_near(&scene, topology, &near, 1000), 4);
    scene.loads[4].is_usable = false;
    assert_int_equal(read_near(&scene, topology, &near, 1001), 7);
    scene.loads[4].is_usable = true;
    assert_int_equal(read_near(&scene, topology, &near, 1002), 4);
    atomic_store(&topology->nodes[9].gauge->round_trip_us, 50);
    assert_int_equal(read_near(&scene, topology, &near, 1099), 4);
    assert_int_equal(read_near(&scene, topology, &near, 1100), 9);

    struct topology *other = snapshot(&scene, MAX_NODES - 2, 2); /* without the node 10 and 11, and another gauge for each */
    for (uint32_t i = 0; i < MAX_NODES - 2; i++)
        atomic_store(&other->nodes[i].gauge->round_trip_us, i == 2 ? 50 : 9000);
    assert_int_equal(read_near(&scene, other, &near, 1101), 2);
    for (uint32_t i = 0; i < MAX_NODES; i++)
        scene.loads[i].is_usable = false;
    assert_int_equal(read_near(&scene, other, &near, 1102), PICK_NONE);
    assert_int_equal(read_near(&scene, other, &near, 1300), PICK_NONE);
    topology_release(other);
    topology_release(topology);
    topology_release(scene.topology);
}

static void of_the_nearest_those_are_asked_that_are_fresh(void **unused)
{
    (void)unused;
    struct scene scene;
    struct pick_near near = {0};
    scene_init(&scene, MAX_NODES);
    struct topology *topology = snapshot(&scene, MAX_NODES, 1);
    scene.loads[0].is_usable = false;
    for (uint32_t i = 0; i < MAX_NODES; i++)
        atomic_store(&topology->nodes[i].gauge->fresh_us, i == 6 ? 2000 : 1000);
    for (int draw = 0; draw < 100; draw++)
        assert_int_equal(pick_near_read(topology, topology->shards, scene.loads, 1500, &scene.seed, &near, 1), 6);
    assert_int_equal(pick_near_read(topology, topology->shards, scene.loads, 2500, &scene.seed, &near, 1), PICK_NONE);
    topology_release(topology);
    topology_release(scene.topology);
}

/* ---- clients that keep to one replica ---- */

static uint32_t own_replica(const struct scene *scene, uint64_t client_id)
{
    return pick_own_replica(scene->topology, shard_of(scene), scene->loads, client_id, NULL);
}

static void clients_are_spread_over_replicas_and_each_keeps_to_one(void **state)
{
    (void)state;
    enum { CLIENTS = 3000 };
    struct scene scene;
    unsigned counts[MAX_NODES] = {0}, moved[MAX_NODES] = {0};
    uint32_t first[CLIENTS];
    scene_init(&scene, 4);
    for (uint64_t id = 0; id < CLIENTS; id++) {
        first[id] = own_replica(&scene, id);
        assert_int_equal(own_replica(&scene, id), first[id]);
        counts[first[id]]++;
    }
    assert_int_equal(counts[0], 0); /* the master */
    for (int i = 1; i < 4; i++)
        assert_in_range(counts[i], CLIENTS / 3 - 150, CLIENTS / 3 + 150);

    scene.loads[2].is_usable = false;
    for (uint64_t id = 0; id < CLIENTS; id++) {
        uint32_t now = own_replica(&scene, id);
        assert_int_not_equal(now, 2);
        if (first[id] != 2)
            assert_int_equal(now, first[id]); /* nobody moves but those who must */
        else
            moved[now]++;
    }
    assert_in_range(moved[1], counts[2] / 2 - 80, counts[2] / 2 + 80);
    topology_release(scene.topology);
}

static void what_a_client_drew_is_remembered_and_is_what_it_would_draw_again(void **unused)
{
    (void)unused;
    enum { CLIENTS = 200, SIX = 6 };
    struct scene scene;
    struct pick_memo memos[CLIENTS] = {0};
    scene_init(&scene, MAX_NODES);
    const uint32_t counts[] = {SIX, MAX_NODES, SIX, MAX_NODES};
    for (uint32_t i = 0; i < COUNT_OF(counts); i++) {
        struct topology *now = snapshot(&scene, counts[i], i + 1);
        assert_non_null(now);
        const struct topology_shard *shard = now->shards;
        scene.loads[1].is_usable = i % 2 == 0;
        scene.loads[2].is_gray = i > 1;
        for (uint64_t id = 0; id < CLIENTS; id++) {
            for (int again = 0; again < 2; again++) {
                uint32_t own = pick_own_replica(now, shard, scene.loads, id, &memos[id]);
                assert_int_equal(own, pick_own_replica(now, shard, scene.loads, id, NULL));
                uint32_t read = pick_session_read(now, shard, scene.loads, PICK_PREFER_REPLICA, FRESHNESS_ANY, id, &memos[id]);
                assert_int_equal(read, pick_session_read(now, shard, scene.loads, PICK_PREFER_REPLICA, FRESHNESS_ANY, id, NULL));
            }
            assert_int_equal(memos[id].version, i + 1);
        }
        topology_release(now);
    }
    topology_release(scene.topology);
}

static void without_a_usable_replica_a_client_has_none(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, 1);
    assert_int_equal(own_replica(&scene, 1), PICK_NONE);
    topology_release(scene.topology);
    scene_init(&scene, 2);
    scene.loads[1].is_usable = false;
    assert_int_equal(own_replica(&scene, 1), PICK_NONE);
    topology_release(scene.topology);
}

/* ---- slow ones, and those that come back ---- */

static void a_gray_node_is_read_from_only_if_there_is_no_other(void **unused)
{
    (void)unused;
    static const enum pick_policy policies[] = {PICK_REPLICA, PICK_PREFER_REPLICA, PICK_NEAREST};
    for (size_t i = 0; i < COUNT_OF(policies); i++) {
        struct scene scene;
        unsigned counts[MAX_NODES];
        scene_init(&scene, 4);
        scene.loads[0].is_usable = false;
        scene.loads[2].is_gray = true;
        count_reads(&scene, policies[i], PICK_NONE, counts);
        assert_int_equal(counts[2], 0);
        assert_share(counts[1], 1, 2);
        count_reads(&scene, policies[i], 1, counts);
        assert_int_equal(counts[3], DRAWS);
        scene.loads[1].is_usable = scene.loads[3].is_usable = false;
        count_reads(&scene, policies[i], PICK_NONE, counts);
        assert_int_equal(counts[2], DRAWS);
        topology_release(scene.topology);
    }
}

static void the_master_is_read_from_before_a_gray_replica_where_it_may_be(void **unused)
{
    (void)unused;
    struct scene scene;
    unsigned counts[MAX_NODES];
    scene_init(&scene, 2);
    scene.loads[1].is_gray = true;
    count_reads(&scene, PICK_PREFER_REPLICA, PICK_NONE, counts);
    assert_int_equal(counts[0], DRAWS);
    count_reads(&scene, PICK_REPLICA, PICK_NONE, counts);
    assert_int_equal(counts[1], DRAWS);
    assert_int_not_equal(pick_own_replica(scene.topology, shard_of(&scene), scene.loads, 7, NULL), PICK_NONE);
    topology_release(scene.topology);
}

static void that_it_is_gray_is_of_no_matter_to_writes(void **unused)
{
    (void)unused;
    struct scene scene;
    scene_init(&scene, 3);
    scene.loads[0].is_gray = true;
    assert_int_equal(pick_write(scene.topology, shard_of(&scene), scene.loads), 0);
    topology_release(scene.topology);
}

static void a_client_of_replicas_leaves_a_gray_one_while_there_are_others(void **unused)
{
    (void)unused;
    struct scene scene;
    scene_init(&scene, 3);
    scene.loads[1].is_gray = true;
    for (uint64_t id = 1; id < 100; id++)
        assert_int_equal(pick_own_replica(scene.topology, shard_of(&scene), scene.loads, id, NULL), 2);
    topology_release(scene.topology);
}

static void the_share_of_one_that_comes_back_grows_evenly(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t since_ms, slow_start_ms;
        uint8_t held_back;
    } rows[] = {{0, 10000, 230}, {5000, 10000, 115}, {9999, 10000, 0}, {10000, 10000, 0}, {UINT64_MAX, 10000, 0}, {0, 0, 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_int_equal(pick_held_back(rows[i].since_ms, rows[i].slow_start_ms), rows[i].held_back);

    struct scene scene;
    unsigned before = 0, counts[MAX_NODES];
    scene_init(&scene, 4);
    for (uint64_t since_ms = 0; since_ms <= 10000; since_ms += 2500) {
        scene.loads[1].held_back = pick_held_back(since_ms, 10000);
        count_reads(&scene, PICK_REPLICA, PICK_NONE, counts);
        assert_true(counts[1] > before + DRAWS / 50);
        before = counts[1];
    }
    assert_share(counts[1], 1, 3);
    scene.loads[2].is_usable = scene.loads[3].is_usable = false;
    scene.loads[1].held_back = 230;
    count_reads(&scene, PICK_REPLICA, PICK_NONE, counts);
    assert_int_equal(counts[1], DRAWS);
    topology_release(scene.topology);
}

/* ---- batches ---- */

static uint32_t batched(struct scene *scene, enum pick_policy policy, struct pick_batch *batch, uint64_t turn)
{
    return pick_batched_read(scene->topology, shard_of(scene), scene->loads, policy, FRESHNESS_ANY, batch, turn, &scene->seed);
}

static void scene_of_quick(struct scene *scene)
{
    scene_init(scene, 4);
    for (uint32_t i = 0; i < 4; i++)
        scene->loads[i].is_quick = true;
}

static void reads_of_one_turn_go_together_as_far_as_a_batch_goes(void **state)
{
    (void)state;
    struct scene scene;
    struct pick_batch batch = {0};
    scene_of_quick(&scene);
    uint32_t first = batched(&scene, PICK_PREFER_REPLICA, &batch, 1);
    for (int i = 1; i < PICK_BATCH; i++) {
        scene.loads[first].outstanding++;
        assert_int_equal(batched(&scene, PICK_PREFER_REPLICA, &batch, 1), first);
    }
    for (uint32_t other = 1; other < 4; other++)
        scene.loads[other].outstanding += other != first ? 0 : PICK_BATCH;
    unsigned others = 0;
    for (int turn = 2; turn < 100; turn++)
        others += batched(&scene, PICK_PREFER_REPLICA, &batch, (uint64_t)turn) != first;
    assert_in_range(others, 97, 98); /* it is never the less loaded of two, and never drawn twice */
    topology_release(scene.topology);
}

static void all_replicas_have_their_share_of_the_turns(void **state)
{
    (void)state;
    struct scene scene;
    struct pick_batch batch = {0};
    unsigned counts[4] = {0};
    scene_of_quick(&scene);
    for (uint64_t turn = 1; turn <= DRAWS; turn++) {
        uint32_t node = batched(&scene, PICK_REPLICA, &batch, turn);
        assert_int_equal(batched(&scene, PICK_REPLICA, &batch, turn), node);
        counts[node]++;
    }
    for (int i = 1; i < 4; i++)
        assert_share(counts[i], 1, 3);
    topology_release(scene.topology);
}

/* Each of these ends it, so that of many turns not all have their second read where the first was. */
static void a_batch_goes_only_to_who_may_have_all_of_it(void **state)
{
    (void)state;
    for (int what = 0; what < 6; what++) {
        struct scene scene;
        unsigned moved = 0;
        scene_of_quick(&scene);
        for (uint64_t turn = 1; turn <= 200; turn++) {
            struct pick_batch batch = {0};
            for (uint32_t i = 1; i < 4; i++) {
                scene.loads[i].is_quick = what != 0;
                scene.loads[i].held_back = what == 1 ? 100 : 0;
                scene.loads[i].is_usable = true;
                scene.loads[i].is_gray = false;
                atomic_store(&scene.topology->nodes[i].gauge->fresh_us, 100);
            }
            uint32_t first = batched(&scene, PICK_REPLICA, &batch, turn);
            scene.loads[first].is_usable = what != 2;
            scene.loads[first].is_gray = what == 3;
            atomic_store(&scene.topology->nodes[first].gauge->fresh_us, what == 4 ? 50 : 100);
            uint32_t second = pick_batched_read(scene.topology, shard_of(&scene), scene.loads, PICK_REPLICA, 70, &batch,
                                                turn + (what == 5), &scene.seed);
            assert_int_not_equal(second, PICK_NONE);
            moved += second != first;
        }
        if (moved < 100 || (what >= 2 && what <= 4 && moved != 200)) fail_msg("%d: %u", what, moved);
        topology_release(scene.topology);
    }
}

static void the_master_has_no_batches(void **state)
{
    (void)state;
    struct scene scene;
    struct pick_batch batch = {0};
    scene_of_quick(&scene);
    for (uint32_t i = 1; i < 4; i++)
        scene.loads[i].is_usable = false;
    assert_int_equal(batched(&scene, PICK_PREFER_REPLICA, &batch, 1), 0);
    scene.loads[1].is_usable = true; /* the next read of the turn finds a replica again */
    assert_int_equal(batched(&scene, PICK_PREFER_REPLICA, &batch, 1), 1);
    assert_int_equal(batched(&scene, PICK_MASTER, &batch, 1), 0);
    assert_int_equal(batched(&scene, PICK_PREFER_MASTER, &batch, 1), 0);
    topology_release(scene.topology);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_policy_asks_those_it_allows),
        cmocka_unit_test(writes_go_to_a_master_that_is_fit_and_reached_or_nowhere),
        cmocka_unit_test(a_master_about_to_hand_over_is_read_from_and_not_written_to),
        cmocka_unit_test(replicas_that_are_alike_are_asked_alike),
        cmocka_unit_test(the_more_a_replica_has_to_do_the_less_it_is_asked),
        cmocka_unit_test(unanswered_requests_stay_level_among_replicas),
        cmocka_unit_test(a_replica_that_fell_behind_catches_up_before_it_is_asked_again),
        cmocka_unit_test(one_replica_that_is_not_reached_leaves_the_others_alike),
        cmocka_unit_test(the_last_replica_that_is_reached_gets_everything),
        cmocka_unit_test(near_are_those_within_a_quarter_or_100_us_of_the_best),
        cmocka_unit_test(nodes_that_are_equally_near_are_asked_alike),
        cmocka_unit_test(among_the_near_the_less_loaded_of_two_is_asked),
        cmocka_unit_test(nothing_but_what_is_allowed_fit_and_reached_is_ever_picked),
        cmocka_unit_test(clients_are_spread_over_replicas_and_each_keeps_to_one),
        cmocka_unit_test(the_nearest_are_asked_alike_however_many_there_are),
        cmocka_unit_test(what_is_remembered_of_the_nearest_is_not_asked_where_it_cannot_be),
        cmocka_unit_test(of_the_nearest_those_are_asked_that_are_fresh),
        cmocka_unit_test(what_a_client_drew_is_remembered_and_is_what_it_would_draw_again),
        cmocka_unit_test(without_a_usable_replica_a_client_has_none),
        cmocka_unit_test(a_gray_node_is_read_from_only_if_there_is_no_other),
        cmocka_unit_test(the_master_is_read_from_before_a_gray_replica_where_it_may_be),
        cmocka_unit_test(that_it_is_gray_is_of_no_matter_to_writes),
        cmocka_unit_test(a_client_of_replicas_leaves_a_gray_one_while_there_are_others),
        cmocka_unit_test(the_share_of_one_that_comes_back_grows_evenly),
        cmocka_unit_test(reads_of_one_turn_go_together_as_far_as_a_batch_goes),
        cmocka_unit_test(all_replicas_have_their_share_of_the_turns),
        cmocka_unit_test(a_batch_goes_only_to_who_may_have_all_of_it),
        cmocka_unit_test(the_master_has_no_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
