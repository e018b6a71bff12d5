/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/merge_info.h"

#include <stdint.h>
#include <stdio.h>

enum rule {
    RULE_FIRST,
    RULE_SUM,
    RULE_MAX,
    RULE_MIN,
    RULE_TOTAL,    /* the sum, but 0 if any is 0, which means without bound */
    RULE_WORST,    /* the first that is not "ok" */
    RULE_HUMAN,    /* 1.50K, of the field of this name without _human */
    RULE_RATIO,    /* over / under */
    RULE_PERCENT,  /* 100 * over / (under - less) */
    RULE_LIST_SUM, /* a=1,b=2: each of them by itself */
    RULE_LIST_MAX,
};

/* name: # stands for digits, * for anything, at the beginning or the end. */
struct row {
    const char *name;
    enum rule rule;
    const char *over, *under, *less;
};

/* The first row that fits counts. What has a row says something of the whole, what has none of one server. */
static const struct row rows[] = {
    {.name = "*_human", .rule = RULE_HUMAN},

    /* Server, Clients */
    {.name = "uptime_in_*", .rule = RULE_MIN},
    {.name = "io_threads_active", .rule = RULE_MAX},
    {.name = "connected_clients", .rule = RULE_SUM},
    {.name = "cluster_connections", .rule = RULE_SUM},
    {.name = "maxclients", .rule = RULE_SUM},
    {.name = "client_recent_max_*", .rule = RULE_MAX},
    {.name = "blocked_clients", .rule = RULE_SUM},
    {.name = "pubsub_clients", .rule = RULE_SUM},
    {.name = "watching_clients", .rule = RULE_SUM},
    {.name = "clients_in_timeout_table", .rule = RULE_SUM},

    /* Memory. Scripts and functions are the same everywhere. */
    {.name = "used_memory_peak_perc",
     .rule = RULE_PERCENT,
     .over = "used_memory",
     .under = "used_memory_peak"},
    {.name = "used_memory_dataset_perc",
     .rule = RULE_PERCENT,
     .over = "used_memory_dataset",
     .under = "used_memory",
     .less = "used_memory_startup"},
    {.name = "used_memory_peak_time", .rule = RULE_MAX},
    {.name = "used_memory*", .rule = RULE_SUM},
    {.name = "allocator_frag_ratio",
     .rule = RULE_RATIO,
     .over = "allocator_active",
     .under = "allocator_allocated"},
    {.name = "allocator_rss_ratio",
     .rule = RULE_RATIO,
     .over = "allocator_resident",
     .under = "allocator_active"},
    {.name = "rss_overhead_ratio",
     .rule = RULE_RATIO,
     .over = "used_memory_rss",
     .under = "allocator_resident"},
    {.name = "mem_fragmentation_ratio",
     .rule = RULE_RATIO,
     .over = "used_memory_rss",
     .under = "used_memory"},
    {.name = "allocator_*", .rule = RULE_SUM},
    {.name = "rss_overhead_bytes", .rule = RULE_SUM},
    {.name = "mem_allocator", .rule = RULE_FIRST},
    {.name = "mem_*", .rule = RULE_SUM},
    {.name = "maxmemory", .rule = RULE_TOTAL},
    {.name = "number_of_*", .rule = RULE_MAX},
    {.name = "active_defrag_running", .rule = RULE_MAX},
    {.name = "lazyfree*", .rule = RULE_SUM},

    /* Persistence */
    {.name = "loading", .rule = RULE_MAX},
    {.name = "async_loading", .rule = RULE_MAX},
    {.name = "current_cow_*", .rule = RULE_MAX},
    {.name = "current_fork_perc", .rule = RULE_MAX},
    {.name = "current_save_keys_*", .rule = RULE_SUM},
    {.name = "rdb_changes_since_last_save", .rule = RULE_SUM},
    {.name = "rdb_bgsave_in_progress", .rule = RULE_MAX},
    {.name = "rdb_last_save_time", .rule = RULE_MIN},
    {.name = "rdb_saves", .rule = RULE_SUM},
    {.name = "rdb_last_load_keys_*", .rule = RULE_SUM},
    {.name = "aof_rewrite_in_progress", .rule = RULE_MAX},
    {.name = "aof_rewrite_scheduled", .rule = RULE_MAX},
    {.name = "aof_rewrites*", .rule = RULE_SUM},
    {.name = "aof_current_size", .rule = RULE_SUM},
    {.name = "aof_base_size", .rule = RULE_SUM},
    {.name = "aof_buffer_length", .rule = RULE_SUM},
    {.name = "aof_pending_rewrite", .rule = RULE_MAX},
    {.name = "aof_pending_bio_fsync", .rule = RULE_SUM},
    {.name = "aof_delayed_fsync", .rule = RULE_SUM},
    {.name = "module_fork_in_progress", .rule = RULE_MAX},
    {.name = "rdb_last_bgsave_status", .rule = RULE_WORST},
    {.name = "aof_last_bgrewrite_status", .rule = RULE_WORST},
    {.name = "aof_last_write_status", .rule = RULE_WORST},
    {.name = "*_time_sec", .rule = RULE_MAX},
    {.name = "*_last_cow_size", .rule = RULE_MAX},

    /* Stats */
    {.name = "total_*", .rule = RULE_SUM},
    {.name = "instantaneous_eventloop_duration_usec", .rule = RULE_MAX},
    {.name = "instantaneous_*", .rule = RULE_SUM},
    {.name = "rejected_*", .rule = RULE_SUM},
    {.name = "sync_*", .rule = RULE_SUM},
    {.name = "expired_stale_perc", .rule = RULE_MAX},
    {.name = "expired_*", .rule = RULE_SUM},
    {.name = "expire_cycle_cpu_milliseconds", .rule = RULE_SUM},
    {.name = "evicted_*", .rule = RULE_SUM},
    {.name = "current_eviction_exceeded_time", .rule = RULE_MAX},
    {.name = "keyspace_*", .rule = RULE_SUM},
    {.name = "pubsub_*", .rule = RULE_SUM},
    {.name = "pubsubshard_*", .rule = RULE_SUM},
    {.name = "latest_fork_usec", .rule = RULE_MAX},
    {.name = "migrate_cached_sockets", .rule = RULE_SUM},
    {.name = "slave_expires_tracked_keys", .rule = RULE_SUM},
    {.name = "active_defrag_*", .rule = RULE_SUM},
    {.name = "current_active_defrag_time", .rule = RULE_MAX},
    {.name = "tracking_*", .rule = RULE_SUM},
    {.name = "unexpected_error_replies", .rule = RULE_SUM},
    {.name = "dump_payload_sanitizations", .rule = RULE_SUM},
    {.name = "io_threaded_*", .rule = RULE_SUM},
    {.name = "client_query_buffer_limit_disconnections", .rule = RULE_SUM},
    {.name = "client_output_buffer_limit_disconnections", .rule = RULE_SUM},
    {.name = "reply_buffer_*", .rule = RULE_SUM},
    {.name = "eventloop_*", .rule = RULE_SUM},
    {.name = "acl_access_denied_*", .rule = RULE_SUM},

    /* CPU, Commandstats, Errorstats, Latencystats, Keyspace, Keysizes */
    {.name = "used_cpu_*", .rule = RULE_SUM},
    {.name = "cmdstat_*", .rule = RULE_LIST_SUM},
    {.name = "errorstat_*", .rule = RULE_LIST_SUM},
    {.name = "latency_percentiles_usec_*", .rule = RULE_LIST_MAX},
    {.name = "db#", .rule = RULE_LIST_SUM},
    {.name = "db#_distrib_*", .rule = RULE_LIST_SUM},
};

/* Members of lists that are not to be added up: the mean of a member, weighed by another. */
static const struct {
    const char *name, *weight;
    const char *sum; /* of what is measured, where the list has it; NULL: name times weight is */
} means[] = {
    {"usec_per_call", "calls", "usec"},
    {"avg_ttl", "expires", NULL},
};

enum { MAX_PLACES = 6, MAX_DIGITS = 18 };

/* A number as INFO prints it: units of 10 to the power of -places. */
struct decimal {
    int64_t units;
    int places;
};

struct info {
    struct merge_item *texts;
    uint32_t count;
    struct merge_buffer *buffer;
};

struct field {
    struct slice name, value;
};

static bool merge_section_end(const struct info *info, struct slice section);
static bool put_missing(const struct info *info, uint32_t text, struct slice section);
static bool is_in_text_before(const struct info *info, uint32_t text, struct slice name);
static bool put_field(const struct info *info, struct field field);
static bool put_by_rule(const struct info *info, const struct row *row, struct field field);
static bool put_number(const struct info *info, enum rule rule, struct field field);
static bool put_human(const struct info *info, struct field field);
static bool put_quotient(const struct info *info, const struct row *row, struct field field);
static struct slice worst(const struct info *info, struct field field);
static bool put_list(const struct info *info, enum rule rule, struct field field);
static bool put_member(const struct info *info, enum rule rule, struct slice list, struct field member);
static bool put_mean(const struct info *info, size_t mean, struct slice list, struct field member);
static bool is_in_list_before(const struct info *info, uint32_t text, struct slice list, struct slice name);
static bool sum_of(const struct info *info, enum rule rule, struct slice name, struct decimal *result);
static const struct row *row_of(struct slice name);
static bool fits(const char *pattern, struct slice name);
static bool next_line(struct slice text, size_t *position, struct slice *line);
static bool split_line(struct slice line, struct field *field);
static bool find_field(struct merge_item *text, struct slice name, struct slice *value);
static bool find_section(struct slice text, struct slice section, size_t *position);
static bool next_member(struct slice list, size_t *position, struct field *member);
static bool find_member(struct slice list, struct slice name, struct slice *value);
static bool read_decimal(struct slice text, struct decimal *decimal);
static bool combine(enum rule rule, struct decimal *result, struct decimal more);
static bool scale(struct decimal *decimal, int places);
static double real_of(struct decimal decimal);
static bool put_decimal(struct merge_buffer *buffer, struct decimal decimal);
static bool put_hundredths(struct merge_buffer *buffer, double number, const char *unit);

bool merge_info(struct merge_item *texts, uint32_t count, struct merge_buffer *buffer)
{
    const struct info info = {texts, count, buffer};
    struct slice line, section = SLICE("");
    size_t position = 0;

    for (uint32_t i = 0; i < count; i++)
        texts[i].position = 0;
    while (next_line(texts[0].bytes, &position, &line)) {
        struct field field;
        bool is_field = split_line(line, &field);
        if (!is_field && section.size > 0) {
            if (!merge_section_end(&info, section)) return false;
            section = SLICE("");
        }
        if (line.size > 0 && line.bytes[0] == '#') section = line;
        bool is_put = is_field ? put_field(&info, field)
                               : merge_buffer_put(buffer, line) && merge_buffer_put(buffer, SLICE("\r\n"));
        if (!is_put) return false;
    }
    return section.size == 0 || merge_section_end(&info, section);
}

/* ---- lines ---- */

/* What only others have. */
static bool merge_section_end(const struct info *info, struct slice section)
{
    for (uint32_t i = 1; i < info->count; i++) {
        if (!put_missing(info, i, section)) return false;
    }
    return true;
}

static bool put_missing(const struct info *info, uint32_t text, struct slice section)
{
    size_t position;
    struct slice line;
    struct field field;

    if (!find_section(info->texts[text].bytes, section, &position)) return true;
    while (next_line(info->texts[text].bytes, &position, &line) && split_line(line, &field)) {
        if (row_of(field.name)->rule == RULE_FIRST || is_in_text_before(info, text, field.name)) continue;
        if (!put_field(info, field)) return false;
    }
    return true;
}

static bool is_in_text_before(const struct info *info, uint32_t text, struct slice name)
{
    struct slice ignored;
    for (uint32_t i = 0; i < text; i++) {
        if (find_field(&info->texts[i], name, &ignored)) return true;
    }
    return false;
}

static bool put_field(const struct info *info, struct field field)
{
    return merge_buffer_put(info->buffer, field.name) && merge_buffer_put(info->buffer, SLICE(":")) &&
           put_by_rule(info, row_of(field.name), field) && merge_buffer_put(info->buffer, SLICE("\r\n"));
}

/* ---- values ---- */

static bool put_by_rule(const struct info *info, const struct row *row, struct field field)
{
    switch (row->rule) {
    case RULE_FIRST:
        break;
    case RULE_SUM:
    case RULE_MAX:
    case RULE_MIN:
    case RULE_TOTAL:
        return put_number(info, row->rule, field);
    case RULE_WORST:
        return merge_buffer_put(info->buffer, worst(info, field));
    case RULE_HUMAN:
        return put_human(info, field);
    case RULE_RATIO:
    case RULE_PERCENT:
        return put_quotient(info, row, field);
    case RULE_LIST_SUM:
    case RULE_LIST_MAX:
        return put_list(info, row->rule, field);
    }
    return merge_buffer_put(info->buffer, field.value);
}

/* What is no number, somewhere, is the first one's. */
static bool put_number(const struct info *info, enum rule rule, struct field field)
{
    struct decimal result;
    if (!sum_of(info, rule, field.name, &result)) return merge_buffer_put(info->buffer, field.value);
    return put_decimal(info->buffer, result);
}

/* As Redis shortens bytes. */
static bool put_human(const struct info *info, struct field field)
{
    static const char *const units[] = {"K", "M", "G", "T", "P"};
    struct slice name = {field.name.bytes, field.name.size - (sizeof("_human") - 1)};
    enum rule rule = row_of(name)->rule;
    struct decimal bytes;

    if (rule == RULE_FIRST || !sum_of(info, rule, name, &bytes))
        return merge_buffer_put(info->buffer, field.value);
    if (bytes.units < 1024)
        return merge_buffer_put_number(info->buffer, bytes.units) &&
               merge_buffer_put(info->buffer, SLICE("B"));
    double number = (double)bytes.units / 1024;
    size_t unit = 0;
    for (; number >= 1024 && unit < sizeof(units) / sizeof(units[0]) - 1; unit++)
        number /= 1024;
    return put_hundredths(info->buffer, number, units[unit]);
}

static bool put_quotient(const struct info *info, const struct row *row, struct field field)
{
    struct decimal over, under, less = {0, 0};
    if (!sum_of(info, RULE_SUM, slice_of(row->over), &over) ||
        !sum_of(info, RULE_SUM, slice_of(row->under), &under) ||
        (row->less && !sum_of(info, RULE_SUM, slice_of(row->less), &less)) || real_of(under) <= real_of(less))
        return merge_buffer_put(info->buffer, field.value);

    double quotient = real_of(over) / (real_of(under) - real_of(less));
    bool is_percent = row->rule == RULE_PERCENT;
    return put_hundredths(info->buffer, is_percent ? quotient * 100 : quotient, is_percent ? "%" : "");
}

static struct slice worst(const struct info *info, struct field field)
{
    for (uint32_t i = 0; i < info->count; i++) {
        struct slice value;
        if (find_field(&info->texts[i], field.name, &value) && !slice_is(value, "ok")) return value;
    }
    return field.value;
}

/* Over all texts that have it; false if it is no number somewhere, or nowhere at all. */
static bool sum_of(const struct info *info, enum rule rule, struct slice name, struct decimal *result)
{
    bool is_found = false, is_unbounded = false;

    *result = (struct decimal){0, 0};
    for (uint32_t i = 0; i < info->count; i++) {
        struct slice value;
        struct decimal number;
        if (!find_field(&info->texts[i], name, &value)) continue;
        if (!read_decimal(value, &number)) return false;
        is_unbounded |= rule == RULE_TOTAL && number.units == 0;
        if (is_found ? !combine(rule, result, number) : false) return false;
        if (!is_found) *result = number;
        is_found = true;
    }
    if (is_unbounded) result->units = 0;
    return is_found;
}

/* ---- lists: keys=1,expires=0 ---- */

/* Texts where this line is no list of numbers change nothing. */
static bool put_list(const struct info *info, enum rule rule, struct field field)
{
    bool is_first = true;
    struct slice list;

    for (uint32_t i = 0; i < info->count; i++) {
        struct field member;
        size_t position = 0;
        if (!find_field(&info->texts[i], field.name, &list)) continue;
        while (next_member(list, &position, &member)) {
            if (is_in_list_before(info, i, field.name, member.name)) continue;
            if (!is_first && !merge_buffer_put(info->buffer, SLICE(","))) return false;
            if (!put_member(info, rule, field.name, member)) return false;
            is_first = false;
        }
    }
    return !is_first || merge_buffer_put(info->buffer, field.value);
}

static bool is_in_list_before(const struct info *info, uint32_t text, struct slice list, struct slice name)
{
    struct slice value, ignored;
    for (uint32_t i = 0; i < text; i++) {
        if (find_field(&info->texts[i], list, &value) && find_member(value, name, &ignored)) return true;
    }
    return false;
}

static bool put_member(const struct info *info, enum rule rule, struct slice list, struct field member)
{
    struct decimal result = {0, 0};
    bool is_found = false;

    if (!merge_buffer_put(info->buffer, member.name) || !merge_buffer_put(info->buffer, SLICE("=")))
        return false;
    for (size_t i = 0; i < sizeof(means) / sizeof(means[0]); i++) {
        if (slice_is(member.name, means[i].name)) return put_mean(info, i, list, member);
    }
    for (uint32_t i = 0; i < info->count; i++) {
        struct slice value, text;
        struct decimal number;
        if (!find_field(&info->texts[i], list, &value) || !find_member(value, member.name, &text)) continue;
        if (!read_decimal(text, &number) ||
            (is_found && !combine(rule == RULE_LIST_MAX ? RULE_MAX : RULE_SUM, &result, number)))
            return merge_buffer_put(info->buffer, member.value);
        if (!is_found) result = number;
        is_found = true;
    }
    return put_decimal(info->buffer, result);
}

static bool put_mean(const struct info *info, size_t mean, struct slice list, struct field member)
{
    double weights = 0, sum = 0;
    struct decimal as_printed;

    if (!read_decimal(member.value, &as_printed)) return merge_buffer_put(info->buffer, member.value);
    for (uint32_t i = 0; i < info->count; i++) {
        struct slice value, text;
        struct decimal weight, part;
        if (!find_field(&info->texts[i], list, &value)) continue;
        if (!find_member(value, slice_of(means[mean].weight), &text) || !read_decimal(text, &weight))
            continue;
        const char *measured = means[mean].sum ? means[mean].sum : means[mean].name;
        if (!find_member(value, slice_of(measured), &text) || !read_decimal(text, &part)) continue;
        weights += real_of(weight);
        sum += means[mean].sum ? real_of(part) : real_of(part) * real_of(weight);
    }
    double result = weights > 0 ? sum / weights : 0;
    if (as_printed.places > 0) return put_hundredths(info->buffer, result, "");
    if (result < 0 || result > 9e17) return merge_buffer_put(info->buffer, member.value);
    return merge_buffer_put_number(info->buffer, (int64_t)(result + 0.5));
}

/* ---- the table ---- */

static const struct row *row_of(struct slice name)
{
    static const struct row unlisted = {.name = "", .rule = RULE_FIRST};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (fits(rows[i].name, name)) return &rows[i];
    }
    return &unlisted;
}

static bool fits(const char *pattern, struct slice name)
{
    if (*pattern == '*') {
        size_t size = strlen(pattern + 1);
        return name.size > size && memcmp(name.bytes + name.size - size, pattern + 1, size) == 0;
    }
    for (; *pattern && *pattern != '*'; pattern++) {
        size_t passed = *pattern == '#' ? 0 : name.size > 0 && name.bytes[0] == *pattern;
        while (*pattern == '#' && passed < name.size && name.bytes[passed] >= '0' &&
               name.bytes[passed] <= '9')
            passed++;
        if (passed == 0) return false;
        name = (struct slice){name.bytes + passed, name.size - passed};
    }
    return *pattern == '*' || name.size == 0;
}

/* ---- reading texts ---- */

/* A line without its end; false behind the last. */
static bool next_line(struct slice text, size_t *position, struct slice *line)
{
    if (*position >= text.size) return false;
    const char *start = text.bytes + *position;
    const char *end = memchr(start, '\n', text.size - *position);
    size_t size = end ? (size_t)(end - start) : text.size - *position;
    *position += size + (end ? 1 : 0);
    if (size > 0 && start[size - 1] == '\r') size--;
    *line = (struct slice){start, size};
    return true;
}

static bool split_line(struct slice line, struct field *field)
{
    const char *colon = line.size > 0 && line.bytes[0] != '#' ? memchr(line.bytes, ':', line.size) : NULL;
    if (!colon || colon == line.bytes) return false;
    size_t size = (size_t)(colon - line.bytes);
    *field = (struct field){{line.bytes, size}, {colon + 1, line.size - size - 1}};
    return true;
}

/* Begins behind what was found last, since all texts have mostly the same lines in the same order. */
static bool find_field(struct merge_item *text, struct slice name, struct slice *value)
{
    size_t position = text->position;
    for (int round = 0; round < 2; round++) {
        size_t end = round == 0 ? text->bytes.size : text->position;
        struct slice line;
        struct field field;
        while (position < end && next_line(text->bytes, &position, &line)) {
            if (!slice_starts_with(line, name) || !split_line(line, &field) || field.name.size != name.size)
                continue;
            text->position = (size_t)(line.bytes - text->bytes.bytes);
            *value = field.value;
            return true;
        }
        position = 0;
    }
    return false;
}

/* *position: behind its head. */
static bool find_section(struct slice text, struct slice section, size_t *position)
{
    struct slice line;
    for (*position = 0; next_line(text, position, &line);) {
        if (slice_equals(line, section)) return true;
    }
    return false;
}

static bool next_member(struct slice list, size_t *position, struct field *member)
{
    if (*position >= list.size) return false;
    const char *start = list.bytes + *position;
    const char *comma = memchr(start, ',', list.size - *position);
    size_t size = comma ? (size_t)(comma - start) : list.size - *position;
    const char *sign = memchr(start, '=', size);
    if (!sign) return false;
    *position += size + 1;
    size_t name_size = (size_t)(sign - start);
    *member = (struct field){{start, name_size}, {sign + 1, size - name_size - 1}};
    return true;
}

static bool find_member(struct slice list, struct slice name, struct slice *value)
{
    struct field member;
    for (size_t position = 0; next_member(list, &position, &member);) {
        if (!slice_equals(member.name, name)) continue;
        *value = member.value;
        return true;
    }
    return false;
}

/* ---- numbers ---- */

static bool read_decimal(struct slice text, struct decimal *decimal)
{
    bool is_negative = text.size > 0 && text.bytes[0] == '-';
    int digits = 0;
    bool has_point = false;

    *decimal = (struct decimal){0, 0};
    for (size_t i = is_negative; i < text.size; i++) {
        char c = text.bytes[i];
        if (c == '.' && !has_point && digits > 0) {
            has_point = true;
            continue;
        }
        if (c < '0' || c > '9' || ++digits > MAX_DIGITS || decimal->places == MAX_PLACES) return false;
        decimal->units = decimal->units * 10 + (c - '0');
        decimal->places += has_point;
    }
    if (is_negative) decimal->units = -decimal->units;
    return digits > 0;
}

static bool combine(enum rule rule, struct decimal *result, struct decimal more)
{
    int places = result->places > more.places ? result->places : more.places;
    if (!scale(result, places) || !scale(&more, places)) return false;
    if (rule == RULE_MAX || rule == RULE_MIN) {
        if ((more.units > result->units) == (rule == RULE_MAX)) result->units = more.units;
        return true;
    }
    return !__builtin_add_overflow(result->units, more.units, &result->units);
}

static bool scale(struct decimal *decimal, int places)
{
    for (; decimal->places < places; decimal->places++) {
        if (__builtin_mul_overflow(decimal->units, 10, &decimal->units)) return false;
    }
    return true;
}

static double real_of(struct decimal decimal)
{
    double real = (double)decimal.units;
    for (int i = 0; i < decimal.places; i++)
        real /= 10;
    return real;
}

static bool put_decimal(struct merge_buffer *buffer, struct decimal decimal)
{
    char text[40];
    int64_t unit = 1;
    for (int i = 0; i < decimal.places; i++)
        unit *= 10;
    if (decimal.places == 0) return merge_buffer_put_number(buffer, decimal.units);
    uint64_t magnitude = decimal.units < 0 ? 0 - (uint64_t)decimal.units : (uint64_t)decimal.units;
    int size = snprintf(text, sizeof(text), "%s%llu.%0*llu", decimal.units < 0 ? "-" : "",
                        (unsigned long long)(magnitude / (uint64_t)unit), decimal.places,
                        (unsigned long long)(magnitude % (uint64_t)unit));
    return merge_buffer_put(buffer, (struct slice){text, (size_t)size});
}

/* With two places, as Redis prints what it divides. */
static bool put_hundredths(struct merge_buffer *buffer, double number, const char *unit)
{
    double hundredths = number * 100 + (number < 0 ? -0.5 : 0.5);
    if (hundredths > 9e17 || hundredths < -9e17) hundredths = 0;
    return put_decimal(buffer, (struct decimal){(int64_t)hundredths, 2}) &&
           merge_buffer_put(buffer, slice_of(unit));
}
