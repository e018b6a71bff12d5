/* SPDX-License-Identifier: BSD-2-Clause */
/* Which view of a cluster is believed. A view is made of one letter a shard: who is its master. */
#include "routing/cluster_vote.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#define VIEWS_MAX 5

struct said {
    const char *masters; /* NULL: asked and not answered */
    uint64_t epoch, own_epoch;
    bool is_down;
};

#define SAID(list, newest, own)                                                                              \
    {                                                                                                        \
        .masters = (list), .epoch = (newest), .own_epoch = (own)                                             \
    }
#define DOWN(list, newest, own)                                                                              \
    {                                                                                                        \
        .masters = (list), .epoch = (newest), .own_epoch = (own), .is_down = true                            \
    }
#define SILENT                                                                                               \
    {                                                                                                        \
        .masters = NULL                                                                                      \
    }

static struct cluster_view *view_of(const struct said *said)
{
    struct cluster_view *view = calloc(1, sizeof(*view));
    uint32_t count = (uint32_t)strlen(said->masters);
    view->nodes = calloc(count, sizeof(*view->nodes));
    view->shards = calloc(count, sizeof(*view->shards));
    view->node_count = view->shard_count = count;
    for (uint32_t slot = 0; slot < TOPOLOGY_SLOTS; slot++)
        view->slots[slot] = (uint16_t)(slot * count / TOPOLOGY_SLOTS);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(view->nodes[i].id, CLUSTER_ID_SIZE, "%c", said->masters[i]);
        view->nodes[i].shard = (uint16_t)i;
        view->shards[i] = (struct cluster_shard){.master = i, .slot_count = 1};
    }
    view->epoch = said->epoch;
    view->own_epoch = said->own_epoch;
    view->is_down = said->is_down;
    return view;
}

static size_t make_views(const struct said *said, size_t count, const struct cluster_view **views)
{
    for (size_t i = 0; i < count; i++)
        views[i] = said[i].masters ? view_of(&said[i]) : NULL;
    return count;
}

static void free_views(const struct cluster_view **views, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cluster_view_destroy((struct cluster_view *)views[i]);
}

static void the_first_rule_that_tells_views_apart_decides(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t asked;
        struct said said[VIEWS_MAX];
        const char *accepted;
        const char *winner; /* NULL: nobody */
        size_t votes;
    } examples[] = {
        {"nobody answers", 2, {SILENT, SILENT}, NULL, NULL, 0},
        {"one of one", 1, {SAID("abc", 3, 1)}, NULL, "abc", 1},
        {"most of them", 3, {SAID("abd", 3, 1), SAID("abc", 3, 2), SAID("abc", 3, 3)}, NULL, "abc", 2},
        {"most of them, with a gap", 3, {SAID("abc", 3, 1), SILENT, SAID("abc", 3, 3)}, "abd", "abc", 2},
        {"most of them, though one has heard of a newer epoch",
         3,
         {SAID("abd", 4, 1), SAID("abc", 3, 2), SAID("abc", 3, 3)},
         NULL,
         "abc",
         2},
        {"as many: the newer epoch", 2, {SAID("abc", 3, 1), SAID("abd", 4, 1)}, "abc", "abd", 1},
        {"as many, as new: what was accepted", 2, {SAID("abc", 3, 1), SAID("abd", 3, 1)}, "abd", "abd", 1},
        {"who was elected, against most",
         3,
         {SAID("abc", 3, 1), SAID("abd", 4, 4), SAID("abc", 3, 3)},
         "abc",
         "abd",
         1},
        {"who was elected, though those that voted know of that epoch",
         3,
         {SAID("abd", 4, 4), SAID("abc", 4, 2), SAID("abc", 3, 3)},
         "abc",
         "abd",
         1},
        {"who was elected, and the replica that is the master no more",
         3,
         {SAID("abc", 4, 3), SAID("abd", 4, 4), SAID("abd", 4, 4)},
         "abc",
         "abd",
         2},
        {"others know of a newer epoch: it was not the last that was elected",
         3,
         {SAID("abd", 4, 4), SAID("abc", 5, 2), SAID("abc", 3, 3)},
         "abc",
         "abc",
         2},
        {"one alone is not elected by being alone", 1, {SAID("abc", 9, 9)}, NULL, "abc", 1},
        {"who is well, against most",
         3,
         {DOWN("abd", 9, 9), DOWN("abd", 9, 2), SAID("abc", 3, 1)},
         NULL,
         "abc",
         1},
        {"those in trouble do not swell the votes of others",
         4,
         {DOWN("abd", 3, 1), DOWN("abd", 3, 1), SAID("abd", 3, 1), SAID("abc", 4, 1)},
         NULL,
         "abc",
         1},
        {"all are in trouble: most of them",
         3,
         {DOWN("abc", 3, 1), DOWN("abd", 3, 2), DOWN("abc", 3, 3)},
         NULL,
         "abc",
         2},
        {"a master in a minority that was promoted by force is not elected",
         3,
         {DOWN("abd", 9, 9), SAID("abc", 3, 2), SAID("abc", 3, 3)},
         NULL,
         "abc",
         2},
    };
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        const struct cluster_view *views[VIEWS_MAX], *accepted[1] = {NULL};
        size_t count = make_views(examples[i].said, examples[i].asked, views);
        struct said before = {.masters = examples[i].accepted};
        make_views(&before, 1, accepted);
        struct cluster_vote vote = {.epoch = 0};
        struct cluster_choice choice = cluster_vote_decide(&vote, views, count, accepted[0], 1000);
        const char *won =
            choice.winner == CLUSTER_VOTE_NOBODY ? NULL : examples[i].said[choice.winner].masters;
        bool is_right =
            won && examples[i].winner ? strcmp(won, examples[i].winner) == 0 : won == examples[i].winner;
        if (!is_right) fail_msg("%s: %s won", examples[i].name, won ? won : "nobody");
        assert_int_equal(choice.votes, examples[i].votes);
        free_views(views, count);
        free_views(accepted, 1);
    }
}

static void the_order_of_answers_does_not_matter(void **state)
{
    (void)state;
    static const struct said said[] = {DOWN("abd", 9, 9), SAID("abe", 5, 5), SAID("abc", 4, 1),
                                       SAID("abc", 4, 2)};
    for (size_t turn = 0; turn < 4; turn++) {
        struct said turned[4];
        for (size_t i = 0; i < 4; i++)
            turned[i] = said[(i + turn) % 4];
        const struct cluster_view *views[4];
        make_views(turned, 4, views);
        struct cluster_vote vote = {.epoch = 0};
        struct cluster_choice choice = cluster_vote_decide(&vote, views, 4, NULL, 1000);
        assert_string_equal(turned[choice.winner].masters, "abe");
        free_views(views, 4);
    }
}

static size_t decide(struct cluster_vote *vote, struct said said, uint64_t now_ms)
{
    const struct cluster_view *views[1];
    make_views(&said, 1, views);
    size_t winner = cluster_vote_decide(vote, views, 1, NULL, now_ms).winner;
    free_views(views, 1);
    return winner;
}

static void an_older_epoch_is_not_believed_before_it_has_lasted(void **state)
{
    (void)state;
    struct cluster_vote vote = {.epoch = 0};
    const struct said newer = SAID("abd", 7, 1), older = SAID("abc", 3, 1);
    assert_int_equal(decide(&vote, newer, 1000), 0);
    assert_int_equal(decide(&vote, older, 2000), CLUSTER_VOTE_NOBODY);
    assert_int_equal(decide(&vote, older, 2000 + CLUSTER_VOTE_RESET_MS - 1), CLUSTER_VOTE_NOBODY);
    assert_int_equal(decide(&vote, newer, 7100), 0); /* begins anew */
    assert_int_equal(decide(&vote, older, 7200), CLUSTER_VOTE_NOBODY);
    assert_int_equal(decide(&vote, older, 7200 + CLUSTER_VOTE_RESET_MS), 0);
    assert_int_equal(decide(&vote, older, 20000), 0);
}

/* In a failover of a replica d, its master's epoch is known to a and b before that is so. */
static void what_the_elected_says_of_itself_is_not_taken_back_by_those_that_know_its_epoch(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct said said[2];
        const char *winner;
    } steps[] = {
        {"before", {SAID("abc", 3, 1), SAID("abc", 3, 2)}, "abc"},
        {"most say so and know the epoch", {SAID("abc", 4, 1), SAID("abc", 4, 2)}, "abc"},
        {"the elected tells", {SAID("abd", 4, 4), SAID("abc", 4, 2)}, "abd"},
        {"most say otherwise", {SAID("abc", 4, 1), SAID("abc", 4, 2)}, NULL},
        {"the elected tells again", {SAID("abd", 4, 4), SAID("abc", 4, 2)}, "abd"},
        {"others have heard of it", {SAID("abd", 4, 1), SAID("abd", 4, 2)}, "abd"},
        {"that does not make it hearsay", {SAID("abc", 4, 1), SAID("abc", 4, 2)}, NULL},
        {"the next election", {SAID("abd", 5, 1), SAID("aed", 5, 5)}, "aed"},
        {"an epoch of nobody's own", {SAID("aed", 6, 1), SAID("aed", 6, 4)}, "aed"},
        {"which most may contradict", {SAID("abd", 6, 1), SAID("abd", 6, 4)}, "abd"},
    };
    struct cluster_vote vote = {.epoch = 0};
    struct said before = SAID("abc", 0, 0);
    const struct cluster_view *accepted[1];
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        const struct cluster_view *views[2];
        make_views(steps[i].said, 2, views);
        make_views(&before, 1, accepted);
        size_t at = cluster_vote_decide(&vote, views, 2, accepted[0], 1000 + i).winner;
        const char *won = at == CLUSTER_VOTE_NOBODY ? NULL : steps[i].said[at].masters;
        if (!!won != !!steps[i].winner || (won && strcmp(won, steps[i].winner) != 0))
            fail_msg("%s: %s won", steps[i].name, won ? won : "nobody");
        if (won) before.masters = won;
        free_views(views, 2);
        free_views(accepted, 1);
    }
}

static void who_was_elected_is_told(void **state)
{
    (void)state;
    static const struct said said[] = {SAID("abc", 4, 1), SAID("abd", 4, 4)},
                             equals[] = {SAID("abc", 4, 1), SAID("abc", 5, 2)};
    struct cluster_vote vote = {.epoch = 0};
    const struct cluster_view *views[2];
    make_views(said, 2, views);
    assert_true(cluster_vote_decide(&vote, views, 2, NULL, 1000).is_elected);
    free_views(views, 2);
    make_views(equals, 2, views);
    assert_false(cluster_vote_decide(&vote, views, 2, NULL, 1000).is_elected);
    free_views(views, 2);
}

static void a_master_is_confirmed_by_most_of_those_asked(void **state)
{
    (void)state;
    static const struct {
        size_t asked;
        struct said said[VIEWS_MAX];
        bool is_confirmed; /* b */
    } examples[] = {
        {1, {SAID("abc", 0, 0)}, true},
        {2, {SAID("abc", 0, 0), SILENT}, false},
        {3, {SAID("abc", 0, 0), SAID("xby", 0, 0), SILENT}, true}, /* other shards do not matter */
        {3, {SAID("abc", 0, 0), SAID("axc", 0, 0), SILENT}, false},
        {3, {SAID("abc", 0, 0), SAID("axc", 0, 0), SAID("axc", 0, 0)}, false},
        {3, {SAID("abc", 0, 0), DOWN("abc", 1, 1), SAID("axc", 0, 0)}, false},
        {3, {DOWN("abc", 1, 1), DOWN("abc", 1, 1), DOWN("axc", 1, 1)}, true},
        {0, {SILENT}, false},
    };
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        const struct cluster_view *views[VIEWS_MAX];
        size_t count = make_views(examples[i].said, examples[i].asked, views);
        const struct cluster_node node = {.id = "b"};
        assert_int_equal(cluster_vote_confirms(views, count, &node, true), examples[i].is_confirmed);
        free_views(views, count);
    }
}

static void what_a_node_in_trouble_says_counts_where_all_are_in_trouble(void **state)
{
    static const struct {
        struct said said[3];
        bool counts[3];
    } cases[] = {
        {{SAID("abc", 3, 1), SAID("abc", 3, 2), SILENT}, {true, true, false}},
        {{SAID("abc", 3, 1), DOWN("abc", 3, 2), DOWN("xbc", 4, 4)}, {true, false, false}},
        {{DOWN("abc", 3, 1), DOWN("abc", 3, 2), SILENT}, {true, true, false}},
        {{SILENT, SILENT, SILENT}, {false, false, false}},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct cluster_view *views[VIEWS_MAX];
        size_t count = make_views(cases[i].said, 3, views);
        for (size_t k = 0; k < count; k++)
            assert_int_equal(cluster_vote_counts(views, count, k), cases[i].counts[k]);
        free_views(views, count);
    }
}

static void a_vote_is_settled_when_the_rest_cannot_change_it(void **state)
{
    (void)state;
    static const struct {
        size_t asked;
        struct said said[VIEWS_MAX];
        bool is_settled;
    } examples[] = {
        {3, {SAID("abc", 0, 0), SILENT, SILENT}, false},
        {3, {SAID("abc", 0, 0), SILENT, SAID("abc", 0, 0)}, true},
        {3, {SAID("abc", 0, 0), SAID("abd", 0, 0), SILENT}, false},
        {3, {DOWN("abc", 1, 1), DOWN("abc", 1, 1), SILENT}, false},
        {1, {SAID("abc", 0, 0)}, true},
    };
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        const struct cluster_view *views[VIEWS_MAX];
        size_t count = make_views(examples[i].said, examples[i].asked, views);
        assert_int_equal(cluster_vote_is_settled(views, count), examples[i].is_settled);
        free_views(views, count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_that_tells_views_apart_decides),
        cmocka_unit_test(the_order_of_answers_does_not_matter),
        cmocka_unit_test(an_older_epoch_is_not_believed_before_it_has_lasted),
        cmocka_unit_test(what_the_elected_says_of_itself_is_not_taken_back_by_those_that_know_its_epoch),
        cmocka_unit_test(who_was_elected_is_told),
        cmocka_unit_test(a_master_is_confirmed_by_most_of_those_asked),
        cmocka_unit_test(what_a_node_in_trouble_says_counts_where_all_are_in_trouble),
        cmocka_unit_test(a_vote_is_settled_when_the_rest_cannot_change_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
