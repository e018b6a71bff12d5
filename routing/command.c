/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Questions to a row: which one is it, does it block, where are its keys. The rows are in command_table.c,
 * sets of them in command_set.c, answers to COMMAND in command_describe.c.
 */
#include "routing/command.h"

#include "routing/command_set.h"
#include "routing/number.h"

#include <limits.h>

/* Takes note of keys as they are found. */
struct key_list {
    uint32_t *positions;
    size_t room;
    size_t found;
};

/* An option and how many words belong to it, for passing over them. */
struct option {
    const char *word;
    uint8_t values;
};

typedef bool (*key_finder_function)(const struct command_keys *keys, const struct slice *arguments,
                                    size_t count, struct key_list *list);

static bool find_none(const struct command_keys *keys, const struct slice *arguments, size_t count,
                      struct key_list *list);
static bool find_range(const struct command_keys *keys, const struct slice *arguments, size_t count,
                       struct key_list *list);
static bool find_counted(const struct command_keys *keys, const struct slice *arguments, size_t count,
                         struct key_list *list);
static bool find_streams(const struct command_keys *keys, const struct slice *arguments, size_t count,
                         struct key_list *list);
static bool find_sort(const struct command_keys *keys, const struct slice *arguments, size_t count,
                      struct key_list *list);
static bool find_georadius(const struct command_keys *keys, const struct slice *arguments, size_t count,
                           struct key_list *list);
static bool find_migrate(const struct command_keys *keys, const struct slice *arguments, size_t count,
                         struct key_list *list);
static bool find_debug(const struct command_keys *keys, const struct slice *arguments, size_t count,
                       struct key_list *list);

/* Each returns false if the arguments do not make sense. */
static const key_finder_function finders[] = {
    [KEYS_NONE] = find_none,       [KEYS_RANGE] = find_range, [KEYS_COUNTED] = find_counted,
    [KEYS_STREAMS] = find_streams, [KEYS_SORT] = find_sort,   [KEYS_GEORADIUS] = find_georadius,
    [KEYS_MIGRATE] = find_migrate, [KEYS_DEBUG] = find_debug,
};

static const struct option stream_options[] = {{"GROUP", 2}, {"COUNT", 1}, {"CLAIM", 1}, {"NOACK", 0}};
static const struct option sort_options[] = {{"LIMIT", 2}, {"GET", 1}, {"BY", 1}};
static const struct option migrate_options[] = {{"AUTH", 1}, {"AUTH2", 2}};

#define OPTIONS(table) (table), sizeof(table) / sizeof((table)[0])

/* Those that end the process come first. */
const char *const command_dangers[] = {
    "shutdown",      "debug|assert",   "debug|crash-and-recover", "debug|oom",
    "debug|panic",   "debug|restart",  "debug|segfault",          "failover",
    "replicaof",     "slaveof",        "replconf",      "psync",                  "sync",
    NULL,
};
enum { DANGERS_ENDING_NODE = 7 };

static inline uint64_t text_of(const char *bytes, size_t size);
static bool names_danger(const char *danger, const struct command *command, const struct slice *arguments,
                         size_t count);
static bool copies_elsewhere(const struct slice *arguments, size_t count);
static size_t values_of_option(const struct option *options, size_t option_count, struct slice word);
static size_t find_word(const struct slice *arguments, size_t count, size_t from, const char *word);
static bool read_count(struct slice text, size_t *number);
static void add_key(struct key_list *list, size_t position);
static void add_range(struct key_list *list, size_t first, size_t end, size_t step);

const struct command *command_find(const struct command_set *set, const struct slice *arguments, size_t count)
{
    const struct command *command = command_set_lookup(set, NULL, arguments[0]);
    if (!command || !(command->flags & COMMAND_CONTAINER) || count < 2) return command;
    const struct command *subcommand = command_set_lookup(set, command, arguments[1]);
    return subcommand ? subcommand : command;
}

const struct command *command_recall(struct command_memo *memo, const struct command_set *set,
                                     const struct slice *arguments, size_t count)
{
    size_t size = arguments[0].size;
    if (size < 3 || size > COMMAND_MEMO_MOST_BYTES) return command_find(set, arguments, count);
    uint64_t text = text_of(arguments[0].bytes, size);
    size_t place = (text + size) * 0x9e3779b97f4a7c15 >> (64 - COMMAND_MEMO_BITS);
    if (memo->places[place].text == text && memo->places[place].size == size) return memo->places[place].row;
    const struct command *row = command_find(set, arguments, 1);
    if (!row || (row->flags & COMMAND_CONTAINER)) return command_find(set, arguments, count);
    memo->places[place].text = text;
    memo->places[place].size = size;
    memo->places[place].row = row;
    return row;
}

/* All bytes of a word of three to eight: its halves overlap. */
static inline uint64_t text_of(const char *bytes, size_t size)
{
    uint32_t head = 0, tail = 0;
    if (size == 3) {
        memcpy(&head, bytes, 2);
        return head | (uint64_t)(unsigned char)bytes[2] << 32;
    }
    memcpy(&head, bytes, 4);
    memcpy(&tail, bytes + size - 4, 4);
    return head | (uint64_t)tail << 32;
}

bool command_is_blocking(const struct command *command, const struct slice *arguments, size_t count)
{
    if (command->pin != PIN_BLOCK_OPTION) return command->pin == PIN_BLOCK;
    return command_block_position(command, arguments, count) > 0;
}

uint32_t command_block_position(const struct command *command, const struct slice *arguments, size_t count)
{
    (void)command;
    uint32_t position = 0;
    for (size_t i = 1; i < count && !slice_is(arguments[i], "STREAMS"); i++) {
        if (slice_is(arguments[i], "BLOCK"))
            position = (uint32_t)++i;
        else
            i += values_of_option(OPTIONS(stream_options), arguments[i]);
    }
    return position;
}

bool command_reaches(const struct command *command, const struct slice *arguments, size_t count)
{
    switch ((enum command_reach)command->reach) {
    case REACH_NONE: return false;
    case REACH_MOVE:
    case REACH_SWAPDB: return true;
    case REACH_COPY: return copies_elsewhere(arguments, count);
    }
    return false;
}

/* COPY source destination [DB number] [REPLACE]; of several numbers the last holds. */
static bool copies_elsewhere(const struct slice *arguments, size_t count)
{
    int64_t database = 0;
    for (size_t i = 3; i < count; i++) {
        if (slice_is(arguments[i], "REPLACE")) continue;
        if (!slice_is(arguments[i], "DB") || ++i == count) return false;
        if (!number_read(arguments[i], &database) || database < 0 || database > INT_MAX) return false;
    }
    return database != 0;
}

bool command_may_change(const struct command *command)
{
    return command_is_write(command) || (command->flags & COMMAND_MAY_REPLICATE);
}

bool command_is_write(const struct command *command)
{
    static const char word[] = "write";
    const char *at = command->redis_flags ? strstr(command->redis_flags, word) : NULL;
    return at && (at == command->redis_flags || at[-1] == ' ') && strchr(" ", at[sizeof word - 1]);
}

int command_danger(const struct command *command, const struct slice *arguments, size_t count)
{
    if (!(command->flags & COMMAND_DANGEROUS)) return DANGER_NONE;
    for (int i = 0; command_dangers[i]; i++) {
        if (names_danger(command_dangers[i], command, arguments, count)) return i;
    }
    return DANGER_NONE;
}

bool command_danger_ends_node(int danger)
{
    return danger >= 0 && danger < DANGERS_ENDING_NODE;
}

/* Redis counts the words of DEBUG among its arguments, so they have no rows. */
static bool names_danger(const char *danger, const struct command *command, const struct slice *arguments,
                         size_t count)
{
    const char *bar = strchr(danger, '|');
    if (!bar) return strcmp(danger, command->full_name) == 0;
    return count > 1 && strncmp(danger, command->full_name, (size_t)(bar - danger)) == 0 &&
           slice_is(arguments[1], bar + 1);
}

size_t command_sort_pattern(const struct slice *arguments, size_t count, size_t from)
{
    for (size_t i = 2; i < count; i++) {
        size_t values = values_of_option(OPTIONS(sort_options), arguments[i]);
        bool is_pattern = values == 1 && i + 1 < count && memchr(arguments[i + 1].bytes, '*', arguments[i + 1].size);
        if (is_pattern && i + 1 >= from) return i + 1;
        i += values;
    }
    return 0;
}

int command_keys(const struct command *command, const struct slice *arguments, size_t count,
                 uint32_t *positions, size_t room)
{
    struct key_list list = {.positions = positions, .room = room};
    if (count > INT_MAX || !finders[command->keys.finder](&command->keys, arguments, count, &list)) return -1;
    return (int)list.found;
}

static bool find_none(const struct command_keys *keys, const struct slice *arguments, size_t count,
                      struct key_list *list)
{
    (void)keys, (void)arguments, (void)count, (void)list;
    return true;
}

static bool find_range(const struct command_keys *keys, const struct slice *arguments, size_t count,
                       struct key_list *list)
{
    (void)arguments;
    int64_t end = keys->last < 0 ? (int64_t)count + keys->last + 1 : keys->last + 1;
    if (end > (int64_t)count) return false;
    if (end > keys->first) add_range(list, (size_t)keys->first, (size_t)end, (size_t)keys->step);
    return true;
}

static bool find_counted(const struct command_keys *keys, const struct slice *arguments, size_t count,
                         struct key_list *list)
{
    size_t count_at = (size_t)keys->count_at, step = (size_t)keys->step, number;
    if (count_at >= count || !read_count(arguments[count_at], &number)) return false;
    if (number < (size_t)keys->least || number > (count - count_at - 1) / step) return false;
    if (keys->first > 0) add_key(list, (size_t)keys->first);
    add_range(list, count_at + 1, count_at + 1 + number * step, step);
    return true;
}

/* With an odd number of words behind STREAMS, Redis refuses the command, but its COMMAND GETKEYS still takes
 * the smaller half for keys; so do we. */
static bool find_streams(const struct command_keys *keys, const struct slice *arguments, size_t count,
                         struct key_list *list)
{
    size_t at = find_word(arguments, count, (size_t)keys->search_from, "STREAMS");
    size_t number = at < count ? (count - at - 1) / 2 : 0;
    add_range(list, at + 1, at + 1 + number, 1);
    return number > 0;
}

/* The last STORE holds, as in Redis. */
static bool find_sort(const struct command_keys *keys, const struct slice *arguments, size_t count,
                      struct key_list *list)
{
    size_t target = 0;
    if (count <= (size_t)keys->first) return false;
    for (size_t i = (size_t)keys->search_from; i < count; i++) {
        if (slice_is(arguments[i], "STORE") && i + 1 < count)
            target = ++i;
        else
            i += values_of_option(OPTIONS(sort_options), arguments[i]);
    }
    add_key(list, (size_t)keys->first);
    if (target) add_key(list, target);
    return true;
}

static bool find_georadius(const struct command_keys *keys, const struct slice *arguments, size_t count,
                           struct key_list *list)
{
    static const char *const options[] = {"STORE", "STOREDIST"};

    if (count <= (size_t)keys->first) return false;
    add_key(list, (size_t)keys->first);
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        size_t at = find_word(arguments, count, (size_t)keys->search_from, options[i]);
        if (at + 1 < count) add_key(list, at + 1);
    }
    return true;
}

static bool find_migrate(const struct command_keys *keys, const struct slice *arguments, size_t count,
                         struct key_list *list)
{
    size_t single = (size_t)keys->first;
    if (count <= single) return false;
    for (size_t i = (size_t)keys->search_from; i < count; i++) {
        if (slice_is(arguments[i], "KEYS")) {
            if (arguments[single].size > 0) return false;
            add_range(list, i + 1, count, 1);
            if (list->found > 0) return true;
        }
        i += values_of_option(OPTIONS(migrate_options), arguments[i]);
    }
    add_key(list, single);
    return true;
}

static bool find_debug(const struct command_keys *keys, const struct slice *arguments, size_t count,
                       struct key_list *list)
{
    static const char *const words[] = {"OBJECT",    "SDSLEN",      "LISTPACK",    "ZIPLIST",
                                        "QUICKLIST", "HTSTATS-KEY", "DIGEST-VALUE"};

    if (count <= (size_t)keys->first) return true;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (slice_is(arguments[1], words[i])) {
            add_key(list, (size_t)keys->first);
            break;
        }
    }
    return true;
}

/* How many words behind this one belong to it. */
static size_t values_of_option(const struct option *options, size_t option_count, struct slice word)
{
    for (size_t i = 0; i < option_count; i++) {
        if (slice_is(word, options[i].word)) return options[i].values;
    }
    return 0;
}

/* The first place at or behind `from` where this word stands, or count. */
static size_t find_word(const struct slice *arguments, size_t count, size_t from, const char *word)
{
    for (size_t i = from; i < count; i++) {
        if (slice_is(arguments[i], word)) return i;
    }
    return count;
}

/* A number of keys as Redis accepts it: digits alone, no leading zero. */
static bool read_count(struct slice text, size_t *number)
{
    *number = 0;
    if (text.size == 0 || text.size > 9 || (text.bytes[0] == '0' && text.size > 1)) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9') return false;
        *number = *number * 10 + (size_t)(text.bytes[i] - '0');
    }
    return true;
}

static void add_key(struct key_list *list, size_t position)
{
    if (list->found < list->room) list->positions[list->found] = (uint32_t)position;
    list->found++;
}

static void add_range(struct key_list *list, size_t first, size_t end, size_t step)
{
    for (size_t position = first; position < end; position += step)
        add_key(list, position);
}
