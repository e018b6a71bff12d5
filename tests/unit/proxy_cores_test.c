/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/cores.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

#define UNIFIED "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define OLD "33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
#define OLD_CPUSET "34 32 0:30 / /sys/fs/cgroup/cpuset rw shared:10 - cgroup cgroup rw,cpuset\n"
#define HYBRID "35 32 0:31 / /sys/fs/cgroup/unified rw shared:11 - cgroup2 cgroup2 rw\n"
#define OTHERS "23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n24 23 0:5 / /proc rw - proc proc rw\n"

#define GROUP "/sys/fs/cgroup/"
#define CPU "/sys/fs/cgroup/cpu,cpuacct/"

struct file {
    const char *path, *text;
};

/* A machine, the CPUs that a process may run on there, what it is to use, and its quota. */
static const struct sample {
    const char *title;
    struct file files[9];
    uint32_t allowed, count, quota_percent;
} samples[] = {
    {"nothing is known", {{0}}, 8, 8, 0},
    {"nothing is allowed", {{0}}, 0, 1, 0},
    {"not in any group", {{"/proc/self/mountinfo", OTHERS UNIFIED}, {GROUP "cpu.max", "100000 100000\n"}}, 8, 8, 0},
    {"no hierarchy is mounted",
     {{"/proc/self/mountinfo", OTHERS}, {"/proc/self/cgroup", "0::/\n"}, {GROUP "cpu.max", "100000 100000\n"}},
     8, 8, 0},
    {"without a quota",
     {{"/proc/self/mountinfo", OTHERS UNIFIED},
      {"/proc/self/cgroup", "0::/app\n"},
      {GROUP "app/cpu.max", "max 100000\n"}},
     8, 8, 0},
    {"a container that sees itself as the root",
     {{"/proc/self/mountinfo", OTHERS UNIFIED}, {"/proc/self/cgroup", "0::/\n"}, {GROUP "cpu.max", "200000 100000\n"}},
     8, 2, 200},
    {"a container that knows its place",
     {{"/proc/self/mountinfo", OTHERS "31 23 0:26 /docker/ab /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
      {"/proc/self/cgroup", "0::/docker/ab\n"},
      {GROUP "cpu.max", "300000 100000\n"}},
     8, 3, 300},
    {"a group in the container's",
     {{"/proc/self/mountinfo", OTHERS "31 23 0:26 /docker/ab /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
      {"/proc/self/cgroup", "0::/docker/ab/inner\n"},
      {GROUP "inner/cpu.max", "100000 100000\n"},
      {GROUP "cpu.max", "300000 100000\n"}},
     8, 1, 100},
    {"another's group is mounted",
     {{"/proc/self/mountinfo", OTHERS "31 23 0:26 /docker/ab /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
      {"/proc/self/cgroup", "0::/docker/abc\n"},
      {GROUP "c/cpu.max", "100000 100000\n"},
      {GROUP "cpu.max", "100000 100000\n"}},
     8, 8, 0},
    {"beside the namespace",
     {{"/proc/self/mountinfo", OTHERS UNIFIED},
      {"/proc/self/cgroup", "0::/../other\n"},
      {"/sys/fs/other/cpu.max", "100000 100000\n"}},
     8, 8, 0},
    {"above the namespace",
     {{"/proc/self/mountinfo", OTHERS UNIFIED}, {"/proc/self/cgroup", "0::/..\n"}, {"/sys/fs/cpu.max", "100000 100000\n"}},
     8, 8, 0},
    {"a name that begins with dots",
     {{"/proc/self/mountinfo", OTHERS UNIFIED},
      {"/proc/self/cgroup", "0::/..a\n"},
      {GROUP "..a/cpu.max", "100000 100000\n"}},
     8, 1, 100},
    {"the least of all on the way up",
     {{"/proc/self/mountinfo", OTHERS UNIFIED},
      {"/proc/self/cgroup", "0::/a/b/c\n"},
      {GROUP "a/b/c/cpu.max", "700000 100000\n"},
      {GROUP "a/b/cpu.max", "max 100000\n"},
      {GROUP "a/cpu.max", "150000 50000\n"},
      {GROUP "a/b/c/d/cpu.max", "100000 100000\n"}},
     8, 3, 300},
    {"its own is the least",
     {{"/proc/self/mountinfo", OTHERS UNIFIED},
      {"/proc/self/cgroup", "0::/a/b\n"},
      {GROUP "a/b/cpu.max", "200000 100000\n"},
      {GROUP "a/cpu.max", "400000 100000\n"}},
     8, 2, 200},
    {"part of a CPU counts as one",
     {{"/proc/self/mountinfo", UNIFIED}, {"/proc/self/cgroup", "0::/\n"}, {GROUP "cpu.max", "100001 100000\n"}},
     8, 2, 101},
    {"less than one CPU",
     {{"/proc/self/mountinfo", UNIFIED}, {"/proc/self/cgroup", "0::/\n"}, {GROUP "cpu.max", "1000 1000000\n"}},
     8, 1, 1},
    {"more than there are CPUs",
     {{"/proc/self/mountinfo", UNIFIED}, {"/proc/self/cgroup", "0::/\n"}, {GROUP "cpu.max", "1600000 100000\n"}},
     2, 2, 1600},
    {"the old kind",
     {{"/proc/self/mountinfo", OTHERS OLD_CPUSET OLD},
      {"/proc/self/cgroup", "5:cpuset:/elsewhere\n4:cpu,cpuacct:/app\n"},
      {CPU "app/cpu.cfs_quota_us", "250000\n"},
      {CPU "app/cpu.cfs_period_us", "100000\n"}},
     8, 3, 250},
    {"the old kind, of the group above",
     {{"/proc/self/mountinfo", OTHERS OLD},
      {"/proc/self/cgroup", "4:cpu,cpuacct:/app/part\n"},
      {CPU "app/part/cpu.cfs_quota_us", "-1\n"},
      {CPU "app/part/cpu.cfs_period_us", "100000\n"},
      {CPU "app/cpu.cfs_quota_us", "400000\n"},
      {CPU "app/cpu.cfs_period_us", "100000\n"}},
     8, 4, 400},
    {"the old kind without a quota",
     {{"/proc/self/mountinfo", OTHERS OLD},
      {"/proc/self/cgroup", "4:cpu,cpuacct:/\n"},
      {CPU "cpu.cfs_quota_us", "-1\n"},
      {CPU "cpu.cfs_period_us", "100000\n"}},
     8, 8, 0},
    {"one of each kind",
     {{"/proc/self/mountinfo", OTHERS OLD HYBRID},
      {"/proc/self/cgroup", "4:cpu,cpuacct:/app\n0::/session\n"},
      {CPU "app/cpu.cfs_quota_us", "600000\n"},
      {CPU "app/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/unified/session/cgroup.procs", "1\n"}},
     8, 6, 600},
    {"a path with a space",
     {{"/proc/self/mountinfo", "29 23 0:26 / /sys/my\\040groups rw - cgroup2 cgroup2 rw\n"},
      {"/proc/self/cgroup", "0::/a:b c\n"},
      {"/sys/my groups/a:b c/cpu.max", "100000 100000\n"}},
     8, 1, 100},
    {"garbage",
     {{"/proc/self/mountinfo", "\n- - -\n1 2 3\n4 5 6 / /x rw -\n" UNIFIED},
      {"/proc/self/cgroup", "\n:\n0:\n::x\nnonsense\n0::/\n"},
      {GROUP "cpu.max", "many few\n"}},
     8, 8, 0},
    {"no period", {{"/proc/self/mountinfo", UNIFIED}, {"/proc/self/cgroup", "0::/\n"}, {GROUP "cpu.max", "100000\n"}},
     8, 8, 0},
    {"a period of nothing",
     {{"/proc/self/mountinfo", UNIFIED}, {"/proc/self/cgroup", "0::/\n"}, {GROUP "cpu.max", "100000 0\n"}}, 8, 8, 0},
    {"a quota beyond all numbers",
     {{"/proc/self/mountinfo", UNIFIED},
      {"/proc/self/cgroup", "0::/\n"},
      {GROUP "cpu.max", "18446744073709551615 100000\n"}},
     8, 8, 0},
    {"empty files", {{"/proc/self/mountinfo", UNIFIED}, {"/proc/self/cgroup", "0::/\n"}, {GROUP "cpu.max", ""}}, 8, 8, 0},
};

static void write_file(const char *root, const struct file *file)
{
    char path[PATH_MAX];
    assert_true((size_t)snprintf(path, sizeof path, "%s%s", root, file->path) < sizeof path);
    for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    fputs(file->text, out);
    assert_int_equal(fclose(out), 0);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void as_many_as_both_bounds_allow(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        const struct sample *sample = &samples[i];
        char root[] = "/tmp/pointsman-cores-XXXXXX";
        assert_non_null(mkdtemp(root));
        for (size_t k = 0; k < COUNT_OF(sample->files) && sample->files[k].path; k++)
            write_file(root, &sample->files[k]);
        struct cores cores = cores_find(root, sample->allowed);
        nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        if (cores.count != sample->count || cores.quota_percent != sample->quota_percent)
            fail_msg("%s: %u CPUs, quota %u %%", sample->title, cores.count, cores.quota_percent);
    }
}

static void here_it_is_at_least_one_and_no_more_than_allowed(void **unused)
{
    (void)unused;
    uint32_t allowed = cores_allowed();
    struct cores cores = cores_find("", allowed);
    assert_in_range(cores.count, 1, allowed);
}

static void the_log_is_told_what_bounds_it(void **unused)
{
    (void)unused;
    char text[100];
    cores_describe(&(struct cores){.count = 1, .allowed = 1}, text, sizeof text);
    assert_string_equal(text, "it may run on 1 CPU");
    cores_describe(&(struct cores){.count = 2, .allowed = 8, .quota_percent = 150}, text, sizeof text);
    assert_string_equal(text, "it may run on 8 CPUs, and its control group has a quota of 1.50");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_as_both_bounds_allow),
        cmocka_unit_test(here_it_is_at_least_one_and_no_more_than_allowed),
        cmocka_unit_test(the_log_is_told_what_bounds_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
