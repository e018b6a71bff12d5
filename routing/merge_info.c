/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/merge_info.h"

#include <stdio.h>
#include <stdlib.h>

enum info_rule {
    INFO_FIRST,
    INFO_SUM,   /* whole numbers, or fractions where there is a point */
    INFO_MOST,
    INFO_HUMAN, /* made of the field of the same name without _human */
    INFO_SHARE, /* made of two others */
    INFO_PARTS, /* name=number,name=number: added up part by part */
    INFO_PARTS_MOST,
};

/* Names, or beginnings of names that end with *. The first that fits holds. */
static const struct info_row {
    const char *name;
    enum info_rule rule;
} info_rows[] = {
    {"cmdstat_*", INFO_PARTS}, {"errorstat_*", INFO_PARTS}, {"latency_percentiles_*", INFO_PARTS_MOST},
    {"mem_fragmentation_ratio", INFO_SHARE}, {"used_memory_peak_perc", INFO_SHARE},
    {"connected_clients", INFO_SUM}, {"cluster_connections", INFO_SUM}, {"blocked_clients", INFO_SUM},
    {"tracking_clients", INFO_SUM}, {"clients_in_timeout_table", INFO_SUM}, {"maxclients", INFO_SUM},
    {"client_recent_max_*", INFO_MOST}, {"pubsub_clients", INFO_SUM}, {"watching_clients", INFO_SUM},
    {"total_watched_keys", INFO_SUM}, {"total_blocking_keys*", INFO_SUM},
    {"total_system_memory", INFO_FIRST}, {"maxmemory", INFO_SUM},
    {"used_memory*", INFO_SUM}, {"allocator_allocated", INFO_SUM}, {"allocator_active", INFO_SUM},
    {"allocator_resident", INFO_SUM}, {"allocator_muzzy", INFO_SUM}, {"allocator_frag_bytes", INFO_SUM},
    {"allocator_rss_bytes", INFO_SUM}, {"rss_overhead_bytes", INFO_SUM}, {"mem_fragmentation_bytes", INFO_SUM},
    {"mem_not_counted_for_evict", INFO_SUM}, {"mem_replication_backlog", INFO_SUM},
    {"mem_total_replication_buffers", INFO_SUM}, {"mem_clients_*", INFO_SUM}, {"mem_cluster_links", INFO_SUM},
    {"mem_aof_buffer", INFO_SUM}, {"mem_overhead*", INFO_SUM}, {"lazyfree*", INFO_SUM},
    {"loading", INFO_MOST}, {"async_loading", INFO_MOST}, {"current_cow_*", INFO_MOST},
    {"current_save_keys_*", INFO_SUM}, {"rdb_changes_since_last_save", INFO_SUM}, {"rdb_bgsave_in_progress", INFO_MOST},
    {"rdb_saves", INFO_SUM}, {"rdb_last_load_keys_*", INFO_SUM}, {"aof_rewrite_in_progress", INFO_MOST},
    {"aof_rewrites*", INFO_SUM}, {"aof_current_size", INFO_SUM}, {"aof_base_size", INFO_SUM},
    {"module_fork_in_progress", INFO_MOST},
    {"total_*", INFO_SUM}, {"instantaneous_*", INFO_SUM}, {"rejected_connections", INFO_SUM}, {"sync_*", INFO_SUM},
    {"expired_keys", INFO_SUM}, {"expired_subkeys", INFO_SUM}, {"expired_time_cap_reached_count", INFO_SUM},
    {"expire_cycle_cpu_milliseconds", INFO_SUM}, {"evicted_*", INFO_SUM}, {"current_eviction_exceeded_time", INFO_MOST},
    {"keyspace_hits", INFO_SUM}, {"keyspace_misses", INFO_SUM}, {"pubsub*", INFO_SUM}, {"latest_fork_usec", INFO_MOST},
    {"migrate_cached_sockets", INFO_SUM}, {"slave_expires_tracked_keys", INFO_SUM}, {"active_defrag_*", INFO_SUM},
    {"current_active_defrag_time", INFO_MOST}, {"tracking_total_*", INFO_SUM}, {"unexpected_error_replies", INFO_SUM},
    {"dump_payload_sanitizations", INFO_SUM}, {"io_threaded_*", INFO_SUM}, {"reply_buffer_*", INFO_SUM},
    {"eventloop_*", INFO_SUM}, {"number_of_*", INFO_MOST}, /* scripts and functions are the same on all */
    {"connected_slaves", INFO_SUM}, {"used_cpu_*", INFO_SUM},
};

/* The share of one field in another. */
static const struct info_share {
    const char *name, *part, *whole;
    double factor; /* 100: in percent */
} info_shares[] = {
    {"mem_fragmentation_ratio", "used_memory_rss", "used_memory", 1.},
    {"used_memory_peak_perc", "used_memory", "used_memory_peak", 100.},
};

struct info {
    const struct slice *texts;
    uint32_t count;
    struct merge_buffer *out;
    size_t section; /* where the section begins in the output */
    struct slice heading;
};

static void put_line(struct info *info, struct slice line);
static void put_others(struct info *info);
static enum info_rule rule_of(struct slice name);
static bool is_database(struct slice name);
static void put_sum(struct info *info, struct slice name);
static void put_most(struct info *info, struct slice name, struct slice value);
static void put_human(struct info *info, struct slice name);
static void put_share(struct info *info, struct slice name, struct slice value);
static void put_parts(struct info *info, struct slice name, struct slice value, bool is_most);
static double part_sum(const struct info *info, struct slice name, struct slice part, bool is_most);
static double sum_of(const struct info *info, struct slice name);
static struct slice find(struct slice text, struct slice name);
static struct slice part_of(struct slice value, struct slice name);
static bool next_line(struct slice *text, struct slice *line);
static bool split(struct slice line, char sign, struct slice *name, struct slice *value);
static double number_of(struct slice text);
static bool has_point(struct slice text);
static void put_number(struct info *info, double number, bool is_fraction);

void merge_info(const struct slice *texts, uint32_t count, struct merge_buffer *buffer)
{
    struct info info = {.texts = texts, .count = count, .out = buffer, .section = buffer->size};
    struct slice rest = texts[0], line;
    while (next_line(&rest, &line)) {
        bool is_heading = line.size > 0 && line.bytes[0] == '#';
        if (line.size == 0) put_others(&info);
        if (is_heading) {
            info.section = buffer->size;
            info.heading = line;
        }
        put_line(&info, line);
        merge_append(buffer, SLICE("\r\n"));
    }
    put_others(&info);
}

static void put_line(struct info *info, struct slice line)
{
    struct slice name, value;
    if (!split(line, ':', &name, &value)) {
        merge_append(info->out, line);
        return;
    }
    merge_append(info->out, name);
    merge_append(info->out, SLICE(":"));
    switch (rule_of(name)) {
    case INFO_FIRST:
        merge_append(info->out, value);
        return;
    case INFO_SUM:
        put_sum(info, name);
        return;
    case INFO_MOST:
        put_most(info, name, value);
        return;
    case INFO_HUMAN:
        put_human(info, name);
        return;
    case INFO_SHARE:
        put_share(info, name, value);
        return;
    case INFO_PARTS:
        put_parts(info, name, value, false);
        return;
    case INFO_PARTS_MOST:
        put_parts(info, name, value, true);
        return;
    }
}

/* A database, a command or an error that the first one does not know of. */
static void put_others(struct info *info)
{
    if (info->heading.size == 0) return;
    for (uint32_t i = 1; i < info->count; i++) {
        struct slice rest = info->texts[i], line, name, value;
        bool is_here = false;
        while (next_line(&rest, &line)) {
            if (line.size > 0 && line.bytes[0] == '#') is_here = slice_equals(line, info->heading);
            if (!is_here || !split(line, ':', &name, &value)) continue;
            enum info_rule rule = rule_of(name);
            bool is_open = rule == INFO_PARTS || rule == INFO_PARTS_MOST;
            struct slice written = {info->out->bytes + info->section, info->out->size - info->section};
            if (!is_open || find(written, name).bytes) continue;
            put_line(info, line);
            merge_append(info->out, SLICE("\r\n"));
        }
    }
    info->heading.size = 0;
}

static enum info_rule rule_of(struct slice name)
{
    static const char human[] = "_human";
    size_t size = sizeof human - 1;
    if (name.size > size && memcmp(name.bytes + name.size - size, human, size) == 0)
        return slice_starts_with(name, SLICE("total_system")) ? INFO_FIRST : INFO_HUMAN;
    if (is_database(name)) return INFO_PARTS;
    for (size_t i = 0; i < sizeof info_rows / sizeof *info_rows; i++) {
        struct slice row = slice_of(info_rows[i].name);
        bool is_beginning = row.bytes[row.size - 1] == '*';
        if (is_beginning) row.size--;
        if (is_beginning ? slice_starts_with(name, row) : slice_equals(name, row)) return info_rows[i].rule;
    }
    return INFO_FIRST;
}

static bool is_database(struct slice name)
{
    return name.size > 2 && memcmp(name.bytes, "db", 2) == 0 && name.bytes[2] >= '0' && name.bytes[2] <= '9';
}

static void put_sum(struct info *info, struct slice name)
{
    struct slice first = find(info->texts[0], name);
    bool is_share = memchr(first.bytes ? first.bytes : "", '%', first.size) != NULL;
    if (is_share)
        merge_append(info->out, first);
    else
        put_number(info, sum_of(info, name), has_point(first));
}

static void put_most(struct info *info, struct slice name, struct slice value)
{
    for (uint32_t i = 1; i < info->count; i++) {
        struct slice other = find(info->texts[i], name);
        if (other.bytes && number_of(other) > number_of(value)) value = other;
    }
    merge_append(info->out, value);
}

/* As Redis writes it (bytesToHuman). */
static void put_human(struct info *info, struct slice name)
{
    static const char units[] = "BKMGTP";
    name.size -= sizeof "_human" - 1;
    double bytes = sum_of(info, name);
    size_t unit = 0;
    char text[64];
    while (bytes >= 1024. && unit + 2 < sizeof units) {
        bytes /= 1024.;
        unit++;
    }
    int size = snprintf(text, sizeof text, unit ? "%.2f%c" : "%.0f%c", bytes, units[unit]);
    merge_append(info->out, (struct slice){text, (size_t)size});
}

static void put_share(struct info *info, struct slice name, struct slice value)
{
    for (size_t i = 0; i < sizeof info_shares / sizeof *info_shares; i++) {
        const struct info_share *share = &info_shares[i];
        double whole = sum_of(info, slice_of(share->whole));
        if (!slice_equals(name, slice_of(share->name)) || whole <= 0.) continue;
        char number[64], text[72];
        bool is_percent = share->factor > 1.;
        snprintf(number, sizeof number, "%.2f", share->factor * sum_of(info, slice_of(share->part)) / whole);
        int size = snprintf(text, sizeof text, "%s%s", number, is_percent ? "%" : "");
        merge_append(info->out, (struct slice){text, (size_t)size});
        return;
    }
    merge_append(info->out, value);
}

/* calls=10,usec=30,usec_per_call=3.00 and keys=5,expires=2,avg_ttl=100: an average is that of all. */
static void put_parts(struct info *info, struct slice name, struct slice value, bool is_most)
{
    bool is_first = true;
    while (value.size > 0) {
        const char *comma = memchr(value.bytes, ',', value.size);
        size_t size = comma ? (size_t)(comma - value.bytes) : value.size;
        struct slice part = {value.bytes, size}, part_name, part_value;
        value = (struct slice){value.bytes + size + (comma ? 1 : 0), value.size - size - (comma ? 1 : 0)};
        if (!is_first) merge_append(info->out, SLICE(","));
        is_first = false;
        if (!split(part, '=', &part_name, &part_value)) {
            merge_append(info->out, part);
            continue;
        }
        merge_append(info->out, part_name);
        merge_append(info->out, SLICE("="));
        double number = part_sum(info, name, part_name, is_most);
        if (slice_is(part_name, "usec_per_call")) {
            double calls = part_sum(info, name, SLICE("calls"), false);
            number = calls > 0. ? part_sum(info, name, SLICE("usec"), false) / calls : 0.;
        }
        put_number(info, number, has_point(part_value));
    }
}

static double part_sum(const struct info *info, struct slice name, struct slice part, bool is_most)
{
    double sum = 0., weights = 0.;
    bool is_average = slice_is(part, "avg_ttl");
    for (uint32_t i = 0; i < info->count; i++) {
        struct slice value = find(info->texts[i], name);
        double number = value.bytes ? number_of(part_of(value, part)) : 0.;
        double weight = is_average && value.bytes ? number_of(part_of(value, SLICE("expires"))) : 1.;
        weights += weight;
        if (is_most)
            sum = number > sum ? number : sum;
        else
            sum += number * weight;
    }
    if (is_average) return weights > 0. ? (double)(int64_t)(sum / weights) : 0.;
    return sum;
}

static double sum_of(const struct info *info, struct slice name)
{
    double sum = 0.;
    for (uint32_t i = 0; i < info->count; i++)
        sum += number_of(find(info->texts[i], name));
    return sum;
}

/* ---- reading ---- */

/* The value of a field; bytes are NULL if it is not there. */
static struct slice find(struct slice text, struct slice name)
{
    struct slice rest = text;
    while (rest.size > name.size) {
        const char *at = memmem(rest.bytes, rest.size, name.bytes, name.size);
        if (!at) break;
        size_t offset = (size_t)(at - rest.bytes);
        bool begins_line = at == text.bytes || at[-1] == '\n';
        bool is_whole = offset + name.size < rest.size && at[name.size] == ':';
        rest = (struct slice){at + name.size, rest.size - offset - name.size};
        if (!begins_line || !is_whole) continue;
        struct slice line, field, value;
        rest = (struct slice){at, (size_t)(text.bytes + text.size - at)};
        if (next_line(&rest, &line) && split(line, ':', &field, &value)) return value;
    }
    return (struct slice){NULL, 0};
}

static struct slice part_of(struct slice value, struct slice name)
{
    while (value.size > 0) {
        const char *comma = memchr(value.bytes, ',', value.size);
        size_t size = comma ? (size_t)(comma - value.bytes) : value.size;
        struct slice part_name, part_value;
        if (split((struct slice){value.bytes, size}, '=', &part_name, &part_value) && slice_equals(part_name, name))
            return part_value;
        value = (struct slice){value.bytes + size + (comma ? 1 : 0), value.size - size - (comma ? 1 : 0)};
    }
    return (struct slice){NULL, 0};
}

static bool next_line(struct slice *text, struct slice *line)
{
    if (text->size == 0) return false;
    const char *end = memchr(text->bytes, '\n', text->size);
    size_t size = end ? (size_t)(end - text->bytes) : text->size;
    size_t taken = end ? size + 1 : size;
    *line = (struct slice){text->bytes, size > 0 && text->bytes[size - 1] == '\r' ? size - 1 : size};
    *text = (struct slice){text->bytes + taken, text->size - taken};
    return true;
}

static bool split(struct slice line, char sign, struct slice *name, struct slice *value)
{
    const char *at = line.size && line.bytes[0] != '#' ? memchr(line.bytes, sign, line.size) : NULL;
    if (!at) return false;
    size_t size = (size_t)(at - line.bytes);
    *name = (struct slice){line.bytes, size};
    *value = (struct slice){at + 1, line.size - size - 1};
    return true;
}

static double number_of(struct slice text)
{
    char copy[32];
    size_t size = text.size < sizeof copy - 1 ? text.size : sizeof copy - 1;
    if (size > 0) memcpy(copy, text.bytes, size);
    copy[size] = '\0';
    return strtod(copy, NULL);
}

static bool has_point(struct slice text)
{
    return text.bytes && text.size > 0 && memchr(text.bytes, '.', text.size);
}

static void put_number(struct info *info, double number, bool is_fraction)
{
    char text[64];
    int size = snprintf(text, sizeof text, is_fraction ? "%.2f" : "%.0f", number);
    merge_append(info->out, (struct slice){text, (size_t)size});
}
