/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/cores.h"

#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CPUS_FIRST = 1024,
    CPUS_MOST = 1 << 20,
    MOUNT_ROOT = 3, /* fields of a line of mountinfo, see proc(5) */
    MOUNT_POINT = 4,
    MOUNT_OPTIONAL = 6, /* as many as there are, up to "-" */
};

#define NO_QUOTA UINT64_MAX

/* Where one hierarchy is mounted. The strings lie in a line that is read. */
struct mount {
    const char *root; /* the group that its top shows */
    char *point;
    bool is_unified;
};

typedef uint64_t quota_reader(const char *directory);

static uint64_t quota_of_hierarchy(const char *root, const struct mount *mount);
static bool read_mount(char *line, struct mount *mount);
static bool has_option(const char *options, const char *wanted);
static void unescape(char *text);
static bool find_group(const char *root, bool is_unified, char *group, size_t size);
static const char *below(const char *group, const char *top);
static bool leads_upwards(const char *path);
static uint64_t quota_upwards(char *directory, size_t top, quota_reader *read);
static uint64_t read_unified(const char *directory);
static uint64_t read_old(const char *directory);
static uint64_t percent_of(const char *quota, const char *period);
static bool read_number(const char *text, uint64_t *number);
static bool read_line(const char *directory, const char *name, char *line, size_t size);
static FILE *open_below(const char *root, const char *path);

uint32_t cores_allowed(void)
{
    for (size_t cpus = CPUS_FIRST; cpus <= CPUS_MOST; cpus *= 2) { /* the kernel refuses a set that is too small */
        cpu_set_t *set = CPU_ALLOC(cpus);
        size_t size = CPU_ALLOC_SIZE(cpus);
        bool is_known = set && sched_getaffinity(0, size, set) == 0;
        int count = is_known ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (is_known)
            return count > 0 ? (uint32_t)count : 1;
    }
    return 1;
}

struct cores cores_find(const char *root, uint32_t allowed)
{
    struct cores cores = {.count = allowed > 0 ? allowed : 1, .allowed = allowed};
    uint64_t least = NO_QUOTA;
    FILE *mounts = open_below(root, "/proc/self/mountinfo");
    char *line = NULL;
    size_t room = 0;
    struct mount mount;
    while (mounts && getline(&line, &room, mounts) >= 0) {
        uint64_t quota = read_mount(line, &mount) ? quota_of_hierarchy(root, &mount) : NO_QUOTA;
        least = quota < least ? quota : least;
    }
    free(line);
    if (mounts)
        fclose(mounts);
    if (least == NO_QUOTA)
        return cores;
    cores.quota_percent = least < UINT32_MAX ? (uint32_t)least : UINT32_MAX;
    uint32_t worth = cores.quota_percent / 100 + (cores.quota_percent % 100 > 0);
    cores.count = worth < cores.count ? worth : cores.count;
    return cores;
}

void cores_describe(const struct cores *cores, char *text, size_t size)
{
    int used = snprintf(text, size, "it may run on %" PRIu32 " CPU%s", cores->allowed, cores->allowed == 1 ? "" : "s");
    if (cores->quota_percent > 0 && used > 0 && (size_t)used < size)
        snprintf(text + used, size - (size_t)used, ", and its control group has a quota of %" PRIu32 ".%02" PRIu32,
                 cores->quota_percent / 100, cores->quota_percent % 100);
}

/* ---- hierarchies ---- */

/* The least quota, as a percentage of one CPU, that holds for this process in there. */
static uint64_t quota_of_hierarchy(const char *root, const struct mount *mount)
{
    char group[PATH_MAX], directory[PATH_MAX];
    if (!find_group(root, mount->is_unified, group, sizeof group))
        return NO_QUOTA;
    const char *rest = below(group, mount->root);
    if (!rest)
        return NO_QUOTA; /* a part of the hierarchy that this process is not in */
    int top = snprintf(directory, sizeof directory, "%s%s", root, mount->point);
    int used = snprintf(directory, sizeof directory, "%s%s%s", root, mount->point, rest);
    if (top < 0 || used < top || (size_t)used >= sizeof directory)
        return NO_QUOTA;
    return quota_upwards(directory, (size_t)top, mount->is_unified ? read_unified : read_old);
}

/* True if the line is about a hierarchy that may grant CPU time. The line is cut into pieces. */
static bool read_mount(char *line, struct mount *mount)
{
    *mount = (struct mount){0};
    const char *type = NULL, *options = NULL;
    char *rest = line;
    int field = 0, after_dash = 0;
    for (char *word; (word = strsep(&rest, " \n")); field++) {
        if (field == MOUNT_ROOT)
            mount->root = word;
        else if (field == MOUNT_POINT)
            mount->point = word;
        else if (after_dash == 1)
            type = word;
        else if (after_dash == 3)
            options = word;
        if (after_dash > 0 || (field >= MOUNT_OPTIONAL && strcmp(word, "-") == 0))
            after_dash++;
    }
    if (!mount->point || !type || !options)
        return false;
    unescape(mount->point);
    mount->is_unified = strcmp(type, "cgroup2") == 0;
    return mount->is_unified || (strcmp(type, "cgroup") == 0 && has_option(options, "cpu"));
}

/* In a list with commas between. */
static bool has_option(const char *options, const char *wanted)
{
    size_t size = strlen(wanted);
    for (const char *at = options; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, wanted, size) == 0 && (at[size] == ',' || at[size] == '\0'))
            return true;
    }
    return false;
}

/* Spaces and the like in a path are written as \040, in octal. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        bool is_escape = from[0] == '\\' && strspn(from + 1, "01234567") >= 3;
        *to = is_escape ? (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0')) : *from;
        from += is_escape ? 4 : 1;
    }
    *to = '\0';
}

/* Lines are "0::/path" for the unified hierarchy and "number:controllers:/path" for others. */
static bool find_group(const char *root, bool is_unified, char *group, size_t size)
{
    FILE *file = open_below(root, "/proc/self/cgroup");
    char *line = NULL;
    size_t room = 0;
    bool is_found = false;
    while (file && !is_found && getline(&line, &room, file) >= 0) {
        char *rest = line;
        const char *number = strsep(&rest, ":"), *controllers = strsep(&rest, ":"), *path = strsep(&rest, "\n");
        if (!path || path[0] != '/')
            continue;
        bool is_it = is_unified ? strcmp(number, "0") == 0 && controllers[0] == '\0' : has_option(controllers, "cpu");
        is_found = is_it && (size_t)snprintf(group, size, "%s", path) < size;
    }
    free(line);
    if (file)
        fclose(file);
    return is_found;
}

/* What is left of a group's path beneath that one, "" or with a slash first; NULL if it is elsewhere. */
static const char *below(const char *group, const char *top)
{
    size_t size = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(group, top, size) != 0 || (group[size] != '/' && group[size] != '\0') || leads_upwards(group))
        return NULL;
    return strcmp(group + size, "/") == 0 ? "" : group + size;
}

/* So groups are written that are outside of the namespace. */
static bool leads_upwards(const char *path)
{
    for (const char *at = path; (at = strstr(at, "/..")); at += 3) {
        if (at[3] == '/' || at[3] == '\0')
            return true;
    }
    return false;
}

/* Of a directory and of those it is in, as far as the one whose path has this length. */
static uint64_t quota_upwards(char *directory, size_t top, quota_reader *read)
{
    uint64_t least = NO_QUOTA;
    for (;;) {
        uint64_t quota = read(directory);
        least = quota < least ? quota : least;
        char *slash = strrchr(directory, '/');
        if (!slash || (size_t)(slash - directory) < top)
            return least;
        *slash = '\0';
    }
}

/* ---- one group ---- */

static uint64_t read_unified(const char *directory)
{
    char line[64];
    if (!read_line(directory, "cpu.max", line, sizeof line))
        return NO_QUOTA;
    char *period = line;
    const char *quota = strsep(&period, " ");
    return period ? percent_of(quota, period) : NO_QUOTA;
}

static uint64_t read_old(const char *directory)
{
    char quota[64], period[64];
    if (!read_line(directory, "cpu.cfs_quota_us", quota, sizeof quota) ||
        !read_line(directory, "cpu.cfs_period_us", period, sizeof period))
        return NO_QUOTA;
    return percent_of(quota, period);
}

/* Rounded up. Where there is no quota it is "max", or -1. */
static uint64_t percent_of(const char *quota, const char *period)
{
    uint64_t quota_us, period_us;
    if (!read_number(quota, &quota_us) || !read_number(period, &period_us))
        return NO_QUOTA;
    return (quota_us * 100 + period_us - 1) / period_us;
}

/* Digits alone; neither 0 nor so large that a hundred of it would not fit. */
static bool read_number(const char *text, uint64_t *number)
{
    size_t digits = strspn(text, "0123456789");
    *number = digits > 0 && digits < 17 && text[digits] == '\0' ? strtoull(text, NULL, 10) : 0;
    return *number > 0;
}

static bool read_line(const char *directory, const char *name, char *line, size_t size)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    bool is_read = file && fgets(line, (int)size, file);
    if (file)
        fclose(file);
    if (is_read)
        line[strcspn(line, "\n")] = '\0';
    return is_read;
}

static FILE *open_below(const char *root, const char *path)
{
    char whole[PATH_MAX];
    if ((size_t)snprintf(whole, sizeof whole, "%s%s", root, path) >= sizeof whole)
        return NULL;
    return fopen(whole, "re");
}
