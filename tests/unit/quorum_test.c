/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/quorum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>

#define VIEWS_MAX 5

struct example {
    const char *name;
    const char *accepted; /* "" = nothing yet */
    uint64_t accepted_epoch;
    size_t known;
    struct quorum_view views[VIEWS_MAX]; /* unused entries are not heard */
    enum quorum_verdict verdict;
    const char *named; /* NULL = nobody */
    uint64_t epoch;
};

static const struct example examples[] = {
    {"the first master is the one a majority is heard of",
     "",
     0,
     3,
     {{true, "a", 0, 1}, {true, "a", 0, 1}},
     QUORUM_NAMES,
     "a",
     0},
    {"one of three is no majority", "", 0, 3, {{true, "a", 9, 1}}, QUORUM_SILENT, NULL, 0},
    {"two of four are no majority",
     "a",
     1,
     4,
     {{true, "b", 9, 1}, {true, "b", 9, 1}},
     QUORUM_SILENT,
     NULL,
     0},
    {"one of one is a majority", "", 0, 1, {{true, "a", 3, 1}}, QUORUM_NAMES, "a", 3},
    {"more heard than known count all",
     "a",
     1,
     1,
     {{true, "a", 1, 1}, {true, "a", 1, 1}, {true, "a", 1, 1}},
     QUORUM_KEEPS,
     "a",
     1},
    {"the leader of a failover alone names the new master",
     "a",
     1,
     3,
     {{true, "a", 1, 1}, {true, "b", 2, 1}, {true, "a", 1, 1}},
     QUORUM_NAMES,
     "b",
     2},
    {"the dead leader's news is believed while a majority is heard",
     "a",
     1,
     5,
     {{true, "a", 1, 1}, {true, "b", 2, 1}, {true, "a", 1, 1}},
     QUORUM_NAMES,
     "b",
     2},
    {"a stale one asked first does not matter",
     "a",
     5,
     3,
     {{true, "old", 2, 1}, {true, "a", 5, 1}, {true, "a", 5, 1}},
     QUORUM_KEEPS,
     "a",
     5},
    {"the accepted master with a newer epoch is kept",
     "a",
     1,
     3,
     {{true, "a", 4, 1}, {true, "a", 4, 1}},
     QUORUM_KEEPS,
     "a",
     4},
    {"a lower epoch is never gone back to",
     "a",
     5,
     3,
     {{true, "b", 4, 1}, {true, "b", 4, 1}, {true, "b", 4, 1}},
     QUORUM_STALE,
     NULL,
     0},
    {"the accepted master at a lower epoch is old news too",
     "a",
     5,
     3,
     {{true, "a", 4, 1}, {true, "a", 4, 1}},
     QUORUM_STALE,
     NULL,
     0},
    {"another node at the same epoch is not believed at once",
     "a",
     5,
     3,
     {{true, "b", 5, 1}, {true, "b", 5, 1}},
     QUORUM_STALE,
     NULL,
     0},
    {"of one epoch, most votes win",
     "",
     0,
     3,
     {{true, "b", 0, 1}, {true, "a", 0, 1}, {true, "a", 0, 1}},
     QUORUM_NAMES,
     "a",
     0},
    {"of one epoch and as many votes, the accepted one wins",
     "b",
     0,
     2,
     {{true, "a", 0, 1}, {true, "b", 0, 1}},
     QUORUM_KEEPS,
     "b",
     0},
    {"of one epoch and as many votes, nobody is the first master",
     "",
     0,
     2,
     {{true, "a", 0, 1}, {true, "b", 0, 1}},
     QUORUM_UNDECIDED,
     NULL,
     0},
    {"interleaved names are counted right",
     "",
     0,
     5,
     {{true, "a", 1, 1}, {true, "b", 1, 1}, {true, "a", 1, 1}, {true, "b", 1, 1}, {true, "b", 1, 1}},
     QUORUM_NAMES,
     "b",
     1},
    {"who is not heard has no say",
     "a",
     1,
     3,
     {{false, "b", 9, 1}, {true, "a", 1, 1}, {true, "a", 1, 1}},
     QUORUM_KEEPS,
     "a",
     1},
};

static void verdict_follows_the_highest_epoch_heard_by_a_majority(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        const struct example *example = &examples[i];
        struct quorum quorum = {.epoch = 0};
        if (example->accepted[0]) quorum_accept(&quorum, example->accepted, example->accepted_epoch);
        struct quorum_answer answer = quorum_decide(&quorum, example->views, VIEWS_MAX, example->known, 1000);
        if (answer.verdict != example->verdict)
            fail_msg("%s: verdict %d, expected %d", example->name, answer.verdict, example->verdict);
        if (!example->named) {
            assert_null(answer.name);
            continue;
        }
        assert_non_null(answer.name);
        if (strcmp(answer.name, example->named) != 0) fail_msg("%s: named %s", example->name, answer.name);
        assert_int_equal(answer.epoch, example->epoch);
        assert_string_equal(example->views[answer.winner].name, example->named);
    }
}

static void time_of_asking_is_that_of_the_majority(void **state)
{
    (void)state;
    static const struct {
        uint64_t asked_us[VIEWS_MAX]; /* 0 = not heard */
        size_t known;
        uint64_t expected_us;
    } rows[] = {
        {{10, 20, 30}, 3, 20}, {{30, 20, 10}, 3, 20}, {{30, 20, 0}, 3, 20},    {{7, 7, 7}, 3, 7},
        {{30, 0, 0}, 3, 0},    {{5}, 1, 5},           {{1, 2, 3, 4, 5}, 5, 3}, {{1, 9}, 2, 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct quorum quorum = {.epoch = 0};
        struct quorum_view views[VIEWS_MAX];
        for (size_t j = 0; j < VIEWS_MAX; j++)
            views[j] = (struct quorum_view){rows[i].asked_us[j] != 0, "a", 1, rows[i].asked_us[j]};
        assert_int_equal(quorum_decide(&quorum, views, VIEWS_MAX, rows[i].known, 1).asked_us,
                         rows[i].expected_us);
    }
}

static struct quorum_answer told(struct quorum *quorum, const char *a, const char *b, const char *c,
                                 uint64_t epoch, uint64_t now_ms)
{
    struct quorum_view views[] = {{true, a, epoch, 1}, {true, b, epoch, 1}, {true, c, epoch, 1}};
    return quorum_decide(quorum, views, 3, 3, now_ms);
}

static void sentinels_that_were_reset_are_believed_after_five_seconds(void **state)
{
    (void)state;
    struct quorum quorum = {.epoch = 0};
    quorum_accept(&quorum, "a", 7);
    assert_int_equal(told(&quorum, "b", "b", "b", 0, 1000).verdict, QUORUM_STALE);
    assert_int_equal(told(&quorum, "b", "b", "b", 0, 5999).verdict, QUORUM_STALE);
    struct quorum_answer answer = told(&quorum, "b", "b", "b", 0, 6000);
    assert_int_equal(answer.verdict, QUORUM_RESETS);
    assert_string_equal(answer.name, "b");
    quorum_accept(&quorum, "b", 0);
    assert_int_equal(told(&quorum, "b", "b", "b", 0, 6001).verdict, QUORUM_KEEPS);
}

static void reset_begins_anew_when_the_sentinels_change_their_minds(void **state)
{
    (void)state;
    struct quorum quorum = {.epoch = 0};
    quorum_accept(&quorum, "a", 7);
    told(&quorum, "b", "b", "b", 0, 1000);
    assert_int_equal(told(&quorum, "c", "c", "c", 0, 6000).verdict, QUORUM_STALE); /* another node */
    told(&quorum, "c", "c", "b", 0, 6500);
    assert_int_equal(told(&quorum, "b", "a", "c", 0, 7000).verdict, QUORUM_STALE); /* no majority for one */
    assert_int_equal(told(&quorum, "c", "c", "c", 0, 11900).verdict, QUORUM_STALE);
    assert_int_equal(told(&quorum, "a", "a", "a", 7, 12000).verdict,
                     QUORUM_KEEPS); /* the old epoch is back */
    assert_int_equal(told(&quorum, "c", "c", "c", 0, 20000).verdict, QUORUM_STALE);
    assert_int_equal(told(&quorum, "c", "c", "c", 0, 25000).verdict, QUORUM_RESETS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdict_follows_the_highest_epoch_heard_by_a_majority),
        cmocka_unit_test(time_of_asking_is_that_of_the_majority),
        cmocka_unit_test(sentinels_that_were_reset_are_believed_after_five_seconds),
        cmocka_unit_test(reset_begins_anew_when_the_sentinels_change_their_minds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
