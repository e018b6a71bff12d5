/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/roles.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>

#define NODES_MAX 3
#define NONE      ROLES_NONE

#define MASTER(...)                                                                                          \
    {                                                                                                        \
        .is_heard = true, .claims_master = true, __VA_ARGS__                                                 \
    }
#define REPLICA                                                                                              \
    {                                                                                                        \
        .is_heard = true, .replid = "", .replid2 = ""                                                        \
    }
#define SILENT                                                                                               \
    {                                                                                                        \
        .is_heard = false, .claims_master = true, .replid = "", .replid2 = ""                                \
    }
#define HISTORY(a, b) .replid = (a), .replid2 = (b)

struct example {
    const char *name;
    struct roles_node nodes[NODES_MAX];
    size_t accepted, master, claims;
};

static const struct example examples[] = {
    {"the only one that claims it is the master", {REPLICA, MASTER(HISTORY("x", "")), REPLICA}, NONE, 1, 1},
    {"nobody claims it, nobody is", {REPLICA, REPLICA, REPLICA}, NONE, NONE, 0},
    {"a master that says it is a replica now is none", {REPLICA, REPLICA, REPLICA}, 0, NONE, 0},
    {"a silent master stays while nobody else claims it", {SILENT, REPLICA, REPLICA}, 0, 0, 0},
    {"a silent master gives way to one that claims it",
     {SILENT, MASTER(HISTORY("y", "x")), REPLICA},
     0,
     1,
     1},
    {"silent claims do not count", {SILENT, SILENT, SILENT}, NONE, NONE, 0},
    {"the promoted replica wins against the master it had",
     {MASTER(HISTORY("x", ""), .offset = 900, .our_replicas = 1), MASTER(HISTORY("y", "x")), REPLICA},
     0,
     1,
     2},
    {"an old master that comes back does not win",
     {MASTER(HISTORY("y", "x")), MASTER(HISTORY("x", "")), REPLICA},
     0,
     0,
     2},
    {"strangers: the accepted one stays",
     {MASTER(HISTORY("x", "")), MASTER(HISTORY("y", ""), .our_replicas = 1)},
     0,
     0,
     2},
    {"strangers: the one with replicas wins",
     {MASTER(HISTORY("x", ""), .offset = 9), MASTER(HISTORY("y", ""), .our_replicas = 1)},
     NONE,
     1,
     2},
    {"strangers without replicas: the higher offset wins",
     {MASTER(HISTORY("x", ""), .offset = 9), MASTER(HISTORY("y", ""), .offset = 10)},
     NONE,
     1,
     2},
    {"nothing tells them apart, nobody is",
     {MASTER(HISTORY("x", "")), MASTER(HISTORY("y", ""))},
     NONE,
     NONE,
     2},
    {"of three the youngest descendant wins",
     {MASTER(HISTORY("x", "")), MASTER(HISTORY("z", "y")), MASTER(HISTORY("y", "x"), .offset = 5)},
     1,
     1,
     3},
    {"no second history matches no empty one",
     {MASTER(HISTORY("", "")), MASTER(HISTORY("", ""), .offset = 1)},
     NONE,
     1,
     2},
};

static void master_is_decided_by_claims_and_then_by_history(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        const struct example *example = &examples[i];
        size_t count = example->nodes[2].replid ? 3 : 2;
        struct roles_answer answer = roles_decide(example->nodes, count, example->accepted);
        if (answer.master != example->master || answer.claims != example->claims)
            fail_msg("%s: node %zu of %zu claims", example->name, answer.master, answer.claims);
        assert_int_equal(answer.reason[0] != '\0', example->claims > 1);
    }
}

static void replica_is_fit_unless_something_is_wrong(void **state)
{
    (void)state;
    const struct roles_replica fit = {.is_heard = true,
                                      .says_replica = true,
                                      .follows_master = true,
                                      .is_linked = true,
                                      .was_linked = true,
                                      .master_works = true,
                                      .no_answer = "silence"};
    assert_null(roles_replica_fault(&fit));

    struct roles_replica replica = fit;
    replica.is_heard = false;
    assert_string_equal(roles_replica_fault(&replica), "silence");
    replica = fit;
    replica.says_replica = false;
    assert_non_null(roles_replica_fault(&replica));
    replica = fit;
    replica.is_called_down = true;
    assert_string_equal(roles_replica_fault(&replica), "the Sentinels call it down");
    replica.is_in_cluster = true;
    assert_string_equal(roles_replica_fault(&replica), "the cluster calls it failing");
    replica = fit;
    replica.follows_master = false;
    assert_string_equal(roles_replica_fault(&replica), "follows another master");
    replica = fit;
    replica.is_linked = false;
    assert_string_equal(roles_replica_fault(&replica), "its link to the master is down");
}

static void replica_serves_on_when_its_link_fell_with_the_master(void **state)
{
    (void)state;
    struct roles_replica replica = {
        .is_heard = true, .says_replica = true, .follows_master = true, .was_linked = true, .no_answer = ""};
    assert_null(roles_replica_fault(&replica));
    replica.was_linked = false; /* was not in step before */
    assert_non_null(roles_replica_fault(&replica));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(master_is_decided_by_claims_and_then_by_history),
        cmocka_unit_test(replica_is_fit_unless_something_is_wrong),
        cmocka_unit_test(replica_serves_on_when_its_link_fell_with_the_master),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
