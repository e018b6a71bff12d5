/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Answers to COMMAND and its subcommands. Where there was a node, its own bytes are passed on; else rows are
 * printed as Redis 7.0 prints its own.
 */
#include "routing/command_set.h"

#include "routing/command_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A client can ask for the longest description again and again in one command. Beyond this size a node
 * answers. */
#define MAX_ANSWER_BYTES (64 << 20)

/* RESP as it is written. Once memory was short or a node must answer, nothing more is added. */
struct answer {
    char *bytes;
    size_t size, room;
    bool is_short_of_memory;
    bool is_for_node; /* too long, or not known here */
};

struct question {
    const struct command_set *set;
    const struct slice *arguments;
    size_t count;
};

typedef void (*describe_function)(struct answer *answer, const struct question *question);

static void describe_all(struct answer *answer, const struct question *question);
static void describe_count(struct answer *answer, const struct question *question);
static void describe_info(struct answer *answer, const struct question *question);
static void describe_list(struct answer *answer, const struct question *question);
static void describe_keys(struct answer *answer, const struct question *question);

/* Any other subcommand, and any other number of words, is for a node: DOCS, LIST FILTERBY, and wrong ones. */
static const struct {
    const char *word;
    size_t least, most;
    describe_function describe;
} descriptions[] = {
    {"COUNT", 2, 2, describe_count},
    {"INFO", 2, SIZE_MAX, describe_info},
    {"LIST", 2, 2, describe_list},
    {"GETKEYS", 4, SIZE_MAX, describe_keys},
};

static describe_function find_description(const struct question *question);
static const struct command *row_of_full_name(const struct command_set *set, struct slice full_name);
static bool is_listed(const struct command_set *set, const struct command *row);
static size_t listed_count(bool with_subcommands);
static void put_row(struct answer *answer, const struct command *row);
static void put_words(struct answer *answer, const char *words);
static void put_key_specification(struct answer *answer, const struct command *row);
static bool has_redis_keys(const struct command *row);
static void put_bulk(struct answer *answer, struct slice text);
static void put_number(struct answer *answer, char type, int64_t number);
static void put_text(struct answer *answer, const char *text);
static void put_bytes(struct answer *answer, const char *bytes, size_t size);

char *command_describe(const struct command_set *set, const struct slice *arguments, size_t count,
                       size_t *size, bool *forward)
{
    const struct question question = {set, arguments, count};
    struct answer answer = {.bytes = NULL};
    describe_function describe = find_description(&question);

    if (describe) describe(&answer, &question);
    *forward = !describe || answer.is_for_node;
    if (*forward || answer.is_short_of_memory) {
        free(answer.bytes);
        answer.bytes = NULL;
        answer.size = 0;
    }
    *size = answer.size;
    return answer.bytes;
}

static describe_function find_description(const struct question *question)
{
    if (question->count == 1) return describe_all;
    for (size_t i = 0; i < sizeof(descriptions) / sizeof(descriptions[0]); i++) {
        if (slice_is(question->arguments[1], descriptions[i].word) &&
            question->count >= descriptions[i].least && question->count <= descriptions[i].most)
            return descriptions[i].describe;
    }
    return NULL;
}

static void describe_all(struct answer *answer, const struct question *question)
{
    const struct command_set *set = question->set;
    if (set->reply) {
        put_bytes(answer, set->reply, set->reply_size);
        return;
    }
    put_number(answer, '*', (int64_t)listed_count(false));
    for (size_t i = 0; i < command_table_size; i++) {
        if (is_listed(set, &command_table[i])) put_row(answer, &command_table[i]);
    }
}

static void describe_count(struct answer *answer, const struct question *question)
{
    const struct command_set *set = question->set;
    put_number(answer, ':', (int64_t)(set->reply ? set->command_count : listed_count(false)));
}

static void describe_info(struct answer *answer, const struct question *question)
{
    const struct command_set *set = question->set;
    if (question->count == 2) {
        describe_all(answer, question);
        return;
    }
    put_number(answer, '*', (int64_t)(question->count - 2));
    for (size_t i = 2; i < question->count; i++) {
        struct slice name = question->arguments[i];
        const struct command_entry *entry = command_set_entry(set, name);
        const struct command *row = set->reply ? NULL : row_of_full_name(set, name);
        if (entry)
            put_bytes(answer, entry->bytes.bytes, entry->bytes.size);
        else if (row && is_listed(set, row))
            put_row(answer, row);
        else
            put_text(answer, set->reply_is_old ? "*-1\r\n" : "$-1\r\n");
    }
}

static void describe_list(struct answer *answer, const struct question *question)
{
    const struct command_set *set = question->set;
    if (set->reply) {
        put_number(answer, '*', (int64_t)set->entry_count);
        for (size_t i = 0; i < set->entry_count; i++)
            put_bulk(answer, set->entries[i].full_name);
        return;
    }
    put_number(answer, '*', (int64_t)listed_count(true));
    for (size_t i = 0; i < command_table_size; i++) {
        const struct command *row = &command_table[i];
        if (is_listed(set, row)) put_bulk(answer, slice_of(row->full_name));
        for (size_t k = 0; k < row->subcommand_count; k++) {
            if (is_listed(set, &row->subcommands[k]))
                put_bulk(answer, slice_of(row->subcommands[k].full_name));
        }
    }
}

static void describe_keys(struct answer *answer, const struct question *question)
{
    const struct slice *words = question->arguments + 2;
    size_t count = question->count - 2;
    const struct command *row = command_find(question->set, words, count);

    if (!row || !is_listed(question->set, row) || (row->flags & COMMAND_CONTAINER && count > 1)) {
        put_text(answer, "-ERR Invalid command specified\r\n");
        return;
    }
    if (row->flags & COMMAND_LEARNED && row->keys.finder == KEYS_NONE) {
        answer->is_for_node = true;
        return;
    }
    if (!has_redis_keys(row)) {
        put_text(answer, "-ERR The command has no key arguments\r\n");
        return;
    }
    if (!command_arity_is_right(row, count)) {
        put_text(answer, "-ERR Invalid number of arguments specified for command\r\n");
        return;
    }
    int keys = command_keys(row, words, count, NULL, 0);
    if (keys <= 0) {
        bool does_without = row->keys.finder == KEYS_COUNTED && row->keys.least == 0;
        put_text(answer, does_without ? "*0\r\n" : "-ERR Invalid arguments specified for command\r\n");
        return;
    }
    uint32_t *positions = malloc((size_t)keys * sizeof(*positions));
    answer->is_short_of_memory |= !positions;
    put_number(answer, '*', keys);
    if (positions) command_keys(row, words, count, positions, (size_t)keys);
    for (int i = 0; positions && i < keys; i++)
        put_bulk(answer, words[positions[i]]);
    free(positions);
}

/* The row of "get" or of "config|get". */
static const struct command *row_of_full_name(const struct command_set *set, struct slice full_name)
{
    const char *bar = memchr(full_name.bytes, '|', full_name.size);
    if (!bar) return command_set_lookup(set, NULL, full_name);
    size_t size = (size_t)(bar - full_name.bytes);
    const struct command *parent = command_set_lookup(set, NULL, (struct slice){full_name.bytes, size});
    struct slice word = {bar + 1, full_name.size - size - 1};
    return parent ? command_set_lookup(set, parent, word) : NULL;
}

/* True if Redis has this command: the one that was asked, or any, where none was. One before 7.0 does not say
 * what subcommands it has. */
static bool is_listed(const struct command_set *set, const struct command *row)
{
    struct slice name = slice_of(row->full_name);
    if (!set->reply) return !(row->flags & COMMAND_UNLISTED);
    if (set->reply_is_old) name.size = strcspn(row->full_name, "|");
    return command_set_entry(set, name) != NULL;
}

static size_t listed_count(bool with_subcommands)
{
    size_t count = 0;
    for (size_t i = 0; i < command_table_size; i++) {
        const struct command *row = &command_table[i];
        count += !(row->flags & COMMAND_UNLISTED);
        for (size_t k = 0; with_subcommands && k < row->subcommand_count; k++)
            count += !(row->subcommands[k].flags & COMMAND_UNLISTED);
    }
    return count;
}

/* ---- rows as Redis 7.0 prints them ---- */

static void put_row(struct answer *answer, const struct command *row)
{
    const struct command_keys *keys = &row->keys;
    bool has_range = keys->finder == KEYS_RANGE;
    int first = row->flags & COMMAND_SLOT_ONLY && !has_range ? 0 : keys->first;
    size_t listed = 0;

    put_number(answer, '*', 10);
    put_bulk(answer, slice_of(row->full_name));
    put_number(answer, ':', row->arity);
    put_words(answer, row->redis_flags);
    put_number(answer, ':', first);
    put_number(answer, ':', has_range ? keys->last : first);
    put_number(answer, ':', has_range ? keys->step : first > 0);
    put_words(answer, row->categories);
    put_number(answer, '*', 0);
    put_key_specification(answer, row);
    for (size_t i = 0; i < row->subcommand_count; i++)
        listed += !(row->subcommands[i].flags & COMMAND_UNLISTED);
    put_number(answer, '*', (int64_t)listed);
    for (size_t i = 0; i < row->subcommand_count; i++) {
        if (!(row->subcommands[i].flags & COMMAND_UNLISTED)) put_row(answer, &row->subcommands[i]);
    }
}

/* "write fast" as an array of simple strings. */
static void put_words(struct answer *answer, const char *words)
{
    size_t count = words[0] != 0;
    for (const char *c = words; *c; c++)
        count += *c == ' ';
    put_number(answer, '*', (int64_t)count);
    while (*words) {
        size_t size = strcspn(words, " ");
        put_text(answer, "+");
        put_bytes(answer, words, size);
        put_text(answer, "\r\n");
        words += size + (words[size] == ' ');
    }
}

/* One specification that is right for keys in a row; for all other forms Redis' own "unknown", which tells a
 * client to ask COMMAND GETKEYS. */
static void put_key_specification(struct answer *answer, const struct command *row)
{
    const struct command_keys *keys = &row->keys;
    if (!has_redis_keys(row)) {
        put_number(answer, '*', 0);
        return;
    }
    put_text(answer, "*1\r\n*6\r\n$5\r\nflags\r\n*1\r\n");
    put_text(answer, row->access == COMMAND_WRITE ? "+RW\r\n" : "+RO\r\n");
    put_text(answer, "$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n");
    if (keys->finder == KEYS_RANGE) {
        put_text(answer, "$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n");
        put_number(answer, ':', keys->first);
        put_text(answer, "$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n");
        put_text(answer, "$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n");
        put_number(answer, ':', keys->last < 0 ? keys->last : keys->last - keys->first);
        put_text(answer, "$7\r\nkeystep\r\n");
        put_number(answer, ':', keys->step);
        put_text(answer, "$5\r\nlimit\r\n:0\r\n");
        return;
    }
    put_text(answer, "$7\r\nunknown\r\n$4\r\nspec\r\n*0\r\n");
    put_text(answer, "$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$7\r\nunknown\r\n$4\r\nspec\r\n*0\r\n");
}

/* True if what the finder finds are keys to Redis too. */
static bool has_redis_keys(const struct command *row)
{
    return row->keys.finder != KEYS_NONE && !(row->flags & COMMAND_SLOT_ONLY);
}

static void put_bulk(struct answer *answer, struct slice text)
{
    put_number(answer, '$', (int64_t)text.size);
    put_bytes(answer, text.bytes, text.size);
    put_bytes(answer, "\r\n", 2);
}

/* A line of a number, or the header of what has that many bytes or elements. */
static void put_number(struct answer *answer, char type, int64_t number)
{
    char line[32];
    int size = snprintf(line, sizeof(line), "%c%" PRId64 "\r\n", type, number);
    put_bytes(answer, line, (size_t)size);
}

static void put_text(struct answer *answer, const char *text)
{
    put_bytes(answer, text, strlen(text));
}

static void put_bytes(struct answer *answer, const char *bytes, size_t size)
{
    if (answer->is_short_of_memory || answer->is_for_node || size == 0) return;
    if (size > MAX_ANSWER_BYTES - answer->size) {
        answer->is_for_node = true;
        return;
    }
    if (!answer->bytes || answer->size + size > answer->room) {
        size_t room = (answer->size + size) * 2;
        char *grown = realloc(answer->bytes, room);
        if (!grown) {
            answer->is_short_of_memory = true;
            return;
        }
        answer->bytes = grown;
        answer->room = room;
    }
    memcpy(answer->bytes + answer->size, bytes, size);
    answer->size += size;
}
