/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/client_filter.h"

#include "proxy/census.h"
#include "proxy/local.h"
#include "proxy/worker.h"
#include "routing/number.h"

#include <stdio.h>
#include <stdlib.h>

enum client_type { TYPE_NORMAL, TYPE_MASTER, TYPE_REPLICA, TYPE_PUBSUB };

/* What is wrong goes to error, in Redis' words. */
struct reader {
    enum client_filter_ids ids;
    char *error;
    size_t error_size;
};

/* Reads the value in words[0] (or more of the `count` words there) and returns how many words it took; 0 =
 * wrong. */
typedef size_t read_function(struct client_criterion_value *value, const struct slice *words, size_t count,
                             const struct reader *reader);
typedef bool match_function(const struct client_criterion_value *value, const struct client *client);

static read_function read_ids, read_type, read_text, read_user, read_yes_or_no, read_age, read_idle,
    read_flags, read_database;
static match_function has_id, has_type, has_address, has_local_address, is_any, has_age, has_idled, has_name,
    has_flags, has_database, has_library_name, has_library_version, has_ip;

static const struct {
    const char *word;
    read_function *read;
    match_function *matches;
} rows[CRITERION_COUNT] = {
    [CRITERION_ID] = {"ID", read_ids, has_id},
    [CRITERION_TYPE] = {"TYPE", read_type, has_type},
    [CRITERION_ADDR] = {"ADDR", read_text, has_address},
    [CRITERION_LADDR] = {"LADDR", read_text, has_local_address},
    [CRITERION_USER] = {"USER", read_user, is_any}, /* there is one user */
    [CRITERION_SKIPME] = {"SKIPME", read_yes_or_no, is_any},
    [CRITERION_MAXAGE] = {"MAXAGE", read_age, has_age},
    [CRITERION_IDLE] = {"IDLE", read_idle, has_idled},
    [CRITERION_NAME] = {"NAME", read_text, has_name},
    [CRITERION_FLAGS] = {"FLAGS", read_flags, has_flags},
    [CRITERION_DB] = {"DB", read_database, has_database},
    [CRITERION_LIB_NAME] = {"LIB-NAME", read_text, has_library_name},
    [CRITERION_LIB_VER] = {"LIB-VER", read_text, has_library_version},
    [CRITERION_IP] = {"IP", read_text, has_ip},
};

static const struct {
    const char *word;
    enum client_type type;
} types[] = {{"normal", TYPE_NORMAL},
             {"master", TYPE_MASTER},
             {"replica", TYPE_REPLICA},
             {"slave", TYPE_REPLICA},
             {"pubsub", TYPE_PUBSUB}};

static size_t find_row(struct slice word, bool *is_negated);
static size_t complain(const struct reader *reader, const char *format, struct slice word);
static size_t read_seconds(struct client_criterion_value *value, struct slice word, const char *not_a_number,
                           const char *too_small, const struct reader *reader);
static void forget(struct client_criterion_value *value);
static bool is_text(const struct client_criterion_value *value, const char *text);

bool client_filter_read(struct client_filter *filter, const struct slice *words, size_t count,
                        enum client_filter_ids ids, char *error, size_t error_size)
{
    const struct reader reader = {.ids = ids, .error = error, .error_size = error_size};
    for (size_t i = 0; i < count;) {
        bool is_negated;
        size_t row = find_row(words[i], &is_negated);
        if (row == CRITERION_COUNT || i + 1 == count)
            return complain(&reader, "-ERR syntax error", SLICE("")) > 0;
        struct client_criterion_value *value = &filter->values[is_negated][row];
        forget(value);
        size_t taken = rows[row].read(value, words + i + 1, count - i - 1, &reader);
        if (taken == 0) return false;
        value->is_set = true;
        i += 1 + taken;
    }
    return true;
}

bool client_filter_address(struct client_filter *filter, struct slice address)
{
    struct client_criterion_value *value = &filter->values[false][CRITERION_ADDR];
    value->text = strndup(address.bytes, address.size);
    value->is_set = true;
    return value->text != NULL;
}

void client_filter_skip_asker(struct client_filter *filter, bool is_skipped)
{
    struct client_criterion_value *value = &filter->values[false][CRITERION_SKIPME];
    if (!value->is_set) *value = (struct client_criterion_value){.is_set = true, .number = is_skipped};
}

bool client_filter_matches(const struct client_filter *filter, const struct client *client)
{
    const struct client_criterion_value *skip_me = &filter->values[false][CRITERION_SKIPME];
    if (skip_me->is_set && skip_me->number && client->id == filter->asker_id) return false;
    for (int negated = 0; negated < 2; negated++) {
        for (size_t row = 0; row < CRITERION_COUNT; row++) {
            const struct client_criterion_value *value = &filter->values[negated][row];
            if (value->is_set && rows[row].matches(value, client) == (bool)negated) return false;
        }
    }
    return true;
}

void client_filter_finish(struct client_filter *filter)
{
    for (size_t row = 0; row < CRITERION_COUNT; row++) {
        forget(&filter->values[false][row]);
        forget(&filter->values[true][row]);
    }
}

/* CRITERION_COUNT if there is none. NOT- makes sense where being otherwise does. */
static size_t find_row(struct slice word, bool *is_negated)
{
    *is_negated = word.size > 4 && strncasecmp(word.bytes, "NOT-", 4) == 0;
    if (*is_negated) word = (struct slice){word.bytes + 4, word.size - 4};
    for (size_t row = 0; row < CRITERION_COUNT; row++) {
        bool is_absolute = row == CRITERION_SKIPME || row == CRITERION_MAXAGE || row == CRITERION_IDLE;
        if (slice_is(word, rows[row].word) && !(*is_negated && is_absolute)) return row;
    }
    return CRITERION_COUNT;
}

/* format may have one %.*s, for the word. */
static size_t complain(const struct reader *reader, const char *format, struct slice word)
{
    int shown = (int)(word.size < 128 ? word.size : 128);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(reader->error, reader->error_size, format, shown, word.bytes);
#pragma GCC diagnostic pop
    return 0;
}

/* ---- reading ---- */

static size_t read_ids(struct client_criterion_value *value, const struct slice *words, size_t count,
                       const struct reader *reader)
{
    bool is_one = reader->ids == FILTER_ONE_ID;
    size_t taken = 0;
    value->ids = calloc(is_one ? 1 : count, sizeof *value->ids);
    while (value->ids && taken < (is_one ? 1 : count)) {
        bool is_negated;
        if (taken > 0 && find_row(words[taken], &is_negated) < CRITERION_COUNT) break;
        int64_t id;
        if (!number_read(words[taken], &id) || (is_one && id < 1))
            return complain(reader,
                            is_one ? "-ERR client-id should be greater than 0" : "-ERR Invalid client ID",
                            SLICE(""));
        value->ids[taken++] = id;
    }
    value->id_count = taken;
    return value->ids ? taken : complain(reader, "-ERR pointsman: out of memory; not executed", SLICE(""));
}

static size_t read_type(struct client_criterion_value *value, const struct slice *words, size_t count,
                        const struct reader *reader)
{
    (void)count;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (slice_is(words[0], types[i].word)) {
            value->number = types[i].type;
            return 1;
        }
    }
    return complain(reader, "-ERR Unknown client type '%.*s'", words[0]);
}

static size_t read_text(struct client_criterion_value *value, const struct slice *words, size_t count,
                        const struct reader *reader)
{
    (void)count;
    value->text = strndup(words[0].bytes, words[0].size);
    return value->text ? 1 : complain(reader, "-ERR pointsman: out of memory; not executed", SLICE(""));
}

static size_t read_user(struct client_criterion_value *value, const struct slice *words, size_t count,
                        const struct reader *reader)
{
    (void)value, (void)count;
    return slice_equals(words[0], SLICE("default")) ? 1
                                                    : complain(reader, "-ERR No such user '%.*s'", words[0]);
}

static size_t read_yes_or_no(struct client_criterion_value *value, const struct slice *words, size_t count,
                             const struct reader *reader)
{
    (void)count;
    value->number = slice_is(words[0], "yes");
    return value->number || slice_is(words[0], "no") ? 1 : complain(reader, "-ERR syntax error", SLICE(""));
}

static size_t read_age(struct client_criterion_value *value, const struct slice *words, size_t count,
                       const struct reader *reader)
{
    (void)count;
    return read_seconds(value, words[0], "-ERR maxage is not an integer or out of range",
                        "-ERR maxage should be greater than 0", reader);
}

static size_t read_idle(struct client_criterion_value *value, const struct slice *words, size_t count,
                        const struct reader *reader)
{
    (void)count;
    return read_seconds(value, words[0], "-ERR idle is not an integer or out of range",
                        "-ERR idle should be greater than 0", reader);
}

static size_t read_seconds(struct client_criterion_value *value, struct slice word, const char *not_a_number,
                           const char *too_small, const struct reader *reader)
{
    if (!number_read(word, &value->number)) return complain(reader, not_a_number, SLICE(""));
    return value->number > 0 ? 1 : complain(reader, too_small, SLICE(""));
}

static size_t read_flags(struct client_criterion_value *value, const struct slice *words, size_t count,
                         const struct reader *reader)
{
    for (size_t i = 0; i < words[0].size; i++) {
        if (!words[0].bytes[i] || !strchr("OSMPxbtRBduAcUreTIiN", words[0].bytes[i]))
            return complain(reader, "-ERR Unknown flags found in the provided filter: %.*s", words[0]);
    }
    return read_text(value, words, count, reader);
}

static size_t read_database(struct client_criterion_value *value, const struct slice *words, size_t count,
                            const struct reader *reader)
{
    (void)count;
    value->number = local_read_database(words[0]);
    return value->number >= 0
               ? 1
               : complain(reader, "-ERR DB number is not an integer or out of range", SLICE(""));
}

static void forget(struct client_criterion_value *value)
{
    free(value->text);
    free(value->ids);
    *value = (struct client_criterion_value){0};
}

/* ---- matching ---- */

static bool is_any(const struct client_criterion_value *value, const struct client *client)
{
    (void)value, (void)client;
    return true;
}

static bool has_id(const struct client_criterion_value *value, const struct client *client)
{
    for (size_t i = 0; i < value->id_count; i++) {
        if (value->ids[i] == (int64_t)client->id) return true;
    }
    return false;
}

static bool has_type(const struct client_criterion_value *value, const struct client *client)
{
    switch ((enum client_type)value->number) {
    case TYPE_NORMAL:
        return !session_is_subscribed(&client->session);
    case TYPE_PUBSUB:
        return session_is_subscribed(&client->session);
    case TYPE_MASTER:
    case TYPE_REPLICA:
        break; /* links of replication do not come through the proxy */
    }
    return false;
}

static bool has_address(const struct client_criterion_value *value, const struct client *client)
{
    char address[CENSUS_ADDRESS_MAX];
    census_address(client, true, address, sizeof address);
    return is_text(value, address);
}

static bool has_local_address(const struct client_criterion_value *value, const struct client *client)
{
    char address[CENSUS_ADDRESS_MAX];
    census_address(client, false, address, sizeof address);
    return is_text(value, address);
}

/* The address without its port, and an IPv6 one without its brackets. */
static bool has_ip(const struct client_criterion_value *value, const struct client *client)
{
    char address[CENSUS_ADDRESS_MAX];
    census_address(client, true, address, sizeof address);
    char *end = strrchr(address, ':');
    char *ip = address[0] == '[' ? address + 1 : address;
    if (end) end[ip == address ? 0 : -1] = '\0';
    return is_text(value, ip);
}

static bool has_age(const struct client_criterion_value *value, const struct client *client)
{
    return (client->worker->now_ms - client->created_ms) / 1000 >= (uint64_t)value->number;
}

static bool has_idled(const struct client_criterion_value *value, const struct client *client)
{
    return (client->worker->now_ms - client->active_ms) / 1000 >= (uint64_t)value->number;
}

static bool has_name(const struct client_criterion_value *value, const struct client *client)
{
    return is_text(value, client->name);
}

static bool has_library_name(const struct client_criterion_value *value, const struct client *client)
{
    return is_text(value, client->library_name);
}

static bool has_library_version(const struct client_criterion_value *value, const struct client *client)
{
    return is_text(value, client->library_version);
}

static bool has_flags(const struct client_criterion_value *value, const struct client *client)
{
    char flags[CENSUS_FLAGS_MAX];
    census_flags(client, flags);
    return strspn(value->text, flags) == strlen(value->text);
}

static bool has_database(const struct client_criterion_value *value, const struct client *client)
{
    return client->database == (uint64_t)value->number;
}

static bool is_text(const struct client_criterion_value *value, const char *text)
{
    return strcmp(value->text, text ? text : "") == 0;
}
