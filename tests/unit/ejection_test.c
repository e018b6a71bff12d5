/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/ejection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

/* One letter for each replica: '.' well, 'b' broken, 'g' gray, 'B' both; what is expected: 'x' out, '.' not. */
static const struct sample {
    const char *replicas;
    uint32_t percent;
    bool has_other;
    const char *expected;
} samples[] = {
    {"", 50, true, ""},
    {".", 50, true, "."},
    {"b", 50, true, "x"},
    {"g", 50, true, "x"},
    {"b", 50, false, "."},  /* the last that could answer */
    {"g", 100, false, "."},
    {"b", 0, true, "."},
    {"bb", 50, true, "x."}, /* the other is spared */
    {"bg", 50, true, "x."},
    {"gb", 50, true, ".x"}, /* broken ones first */
    {"gg", 100, false, "x."},
    {"gg", 100, true, "xx"},
    {".g", 50, false, ".x"},
    {"bbbb", 50, true, "xx.."},
    {"gggb", 50, true, "x..x"},
    {"B.B.", 50, true, "x.x."},
    {"bbb", 34, true, "x.."},
    {"bbb", 33, true, "x.."},
    {"bbb", 66, true, "x.."},
    {"bbb", 67, true, "xx."},
    {"..........", 50, true, ".........."},
    {"gggggggggg", 50, true, "xxxxx....."},
    {"bbbbbbbbbb", 100, false, "xxxxxxxxx."},
};

static void no_more_are_out_than_the_bound_and_never_the_last(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        const struct sample *sample = &samples[i];
        struct ejection replicas[10] = {0};
        size_t count = strlen(sample->replicas);
        for (size_t k = 0; k < count; k++) {
            char letter = sample->replicas[k];
            replicas[k] = (struct ejection){.is_broken = letter == 'b' || letter == 'B',
                                            .is_gray = letter == 'g' || letter == 'B',
                                            .is_out = k % 2};
        }
        ejection_decide(replicas, count, sample->percent, sample->has_other);
        for (size_t k = 0; k < count; k++) {
            if (replicas[k].is_out != (sample->expected[k] == 'x'))
                fail_msg("\"%s\", %u %%: replica %zu", sample->replicas, sample->percent, k);
        }
    }
}

/* All there are of up to six replicas, each bound. */
static void in_every_case_the_bound_holds_and_nobody_well_is_out(void **unused)
{
    (void)unused;
    for (size_t count = 0; count <= 6; count++) {
        for (uint32_t all = 0; all < 1U << (2 * count); all++) {
            for (uint32_t percent = 0; percent <= 100; percent += 10) {
                for (int has_other = 0; has_other < 2; has_other++) {
                    struct ejection replicas[6];
                    size_t out = 0, wanted = 0;
                    for (size_t k = 0; k < count; k++)
                        replicas[k] = (struct ejection){.is_broken = all >> (2 * k) & 1, .is_gray = all >> (2 * k) & 2};
                    ejection_decide(replicas, count, percent, has_other);
                    for (size_t k = 0; k < count; k++) {
                        bool is_wanted = replicas[k].is_broken || replicas[k].is_gray;
                        assert_false(replicas[k].is_out && !is_wanted);
                        out += replicas[k].is_out;
                        wanted += is_wanted;
                    }
                    size_t bound = percent ? count * percent / 100 : 0;
                    if (percent && bound == 0)
                        bound = 1;
                    if (!has_other && bound + 1 > count)
                        bound = count ? count - 1 : 0;
                    assert_int_equal(out, wanted < bound ? wanted : bound);
                }
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_more_are_out_than_the_bound_and_never_the_last),
        cmocka_unit_test(in_every_case_the_bound_holds_and_nobody_well_is_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
