/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets of rows: the table alone, or the table and what a node's reply to COMMAND has beyond it.
 *
 * The builtin set is the one thing here that lies in a file-level variable and is written: by a constructor,
 * before main() and hence before there is a second thread. A constant index would have to be generated at
 * build time; one made at first use would put a lock, or a barrier, on the way of each request.
 */
#include "routing/command_set.h"

#include "routing/command_table.h"
#include "routing/resp.h"

#include <assert.h>
#include <stdlib.h>

/* Bounds of what a node may say. Redis 8 with all its modules has some 700 rows in 400 kB. */
#define MAX_REPLY_BYTES (16 << 20)
#define MAX_ROWS        16384
#define MAX_NAME_BYTES  128
#define MAX_WORDS       64 /* flags or categories of one row */

#define BUILTIN_BITS 10 /* at least twice as many places as rows */

/* One row as a node prints it, up to its tips. */
struct node_row {
    struct slice name;
    int64_t arity, first, last, step;
    size_t flags_at, categories_at; /* where these arrays start in the reply; 0: not there */
    bool is_write, is_readonly, is_admin, is_blocking, has_movable_keys;
    enum command_spread spread; /* from the tips; SPREAD_NONE without */
    enum merge_policy merge;
};

/* A tip of Redis' and what it means here (https://redis.io/docs/latest/develop/reference/command-tips/). */
struct tip {
    const char *text;
    uint8_t meaning;
};

static const struct tip request_tips[] = {
    {"request_policy:multi_shard", SPREAD_KEYS},
    {"request_policy:all_shards", SPREAD_MASTERS},
    {"request_policy:all_nodes", SPREAD_NODES},
};
static const struct tip response_tips[] = {
    {"response_policy:all_succeeded", MERGE_OK},      {"response_policy:one_succeeded", MERGE_ONE_OK},
    {"response_policy:agg_logical_and", MERGE_AND},   {"response_policy:agg_logical_or", MERGE_OR},
    {"response_policy:agg_min", MERGE_MIN},           {"response_policy:agg_max", MERGE_MAX},
    {"response_policy:agg_sum", MERGE_SUM},
};

#define TIPS(table) (table), sizeof(table) / sizeof((table)[0])

/* Reading one reply. */
struct node_reader {
    struct command_set *set;
    struct slice reply;
    size_t position;
    size_t entry_room;
};

static struct command_place builtin_places[1 << BUILTIN_BITS];
static struct command_set builtin = {
    .is_builtin = true,
    .index = {.places = builtin_places, .bits = BUILTIN_BITS},
};

static bool read_reply(struct node_reader *reader);
static bool read_command(struct node_reader *reader, const struct command *parent);
static bool read_row(struct node_reader *reader, struct node_row *row, bool has_categories);
static bool is_name(struct slice text);
static bool read_flags(struct node_reader *reader, struct node_row *row);
static bool read_tips(struct node_reader *reader, struct node_row *row);
static int meaning_of(const struct tip *tips, size_t count, struct slice text);
static bool read_subcommands(struct node_reader *reader, const struct command *parent);
static bool read_integer(struct node_reader *reader, int64_t *integer);
static bool read_text(struct node_reader *reader, struct slice *text);
static bool read_array(struct node_reader *reader, int64_t max, int64_t *length);
static bool add_entry(struct node_reader *reader, struct slice name, size_t start);
static const struct command *learn(struct node_reader *reader, const struct command *parent,
                                   const struct node_row *row);
static struct slice own_word(struct slice full_name);
static struct command row_of_node(const struct command *parent, const struct node_row *row);
static struct command_learned *learned_create(const struct node_reader *reader, const struct node_row *row);
static char *put_text(char *out, struct slice text, const char **start);
static char *put_words(char *out, struct slice reply, size_t position, const char **start);
static int compare_entries(const void *a, const void *b);
static int compare_names(struct slice a, struct slice b);
static bool index_table(struct command_index *index);
static bool index_put(struct command_index *index, const struct command *parent, const struct command *row);
static bool index_grow(struct command_index *index);
static struct command_place *index_place(const struct command_index *index, const struct command *parent,
                                         struct slice text);
static inline struct command_word word_of(struct slice text);

__attribute__((constructor)) static void builtin_init(void)
{
    bool is_complete = index_table(&builtin.index);
    assert(is_complete && builtin.index.places == builtin_places);
    (void)is_complete;
}

struct command_set *command_set_builtin(void)
{
    return &builtin;
}

struct command_set *command_set_create(struct slice reply)
{
    if (reply.size == 0 || reply.size > MAX_REPLY_BYTES) return NULL;
    struct command_set *set = calloc(1, sizeof(*set));
    if (!set) return NULL;
    atomic_init(&set->references, 1);
    set->reply_size = reply.size;
    set->reply = malloc(reply.size);
    if (!set->reply) goto failed;
    memcpy(set->reply, reply.bytes, reply.size);

    struct node_reader reader = {.set = set, .reply = {set->reply, reply.size}};
    if (!read_reply(&reader)) goto failed;
    qsort(set->entries, set->entry_count, sizeof(*set->entries), compare_entries);
    return set;

failed:
    command_set_release(set);
    return NULL;
}

struct command_set *command_set_take(struct command_set *set)
{
    if (!set->is_builtin) atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
    return set;
}

void command_set_release(struct command_set *set)
{
    if (!set || set->is_builtin || atomic_fetch_sub_explicit(&set->references, 1, memory_order_acq_rel) > 1)
        return;
    for (struct command_learned *learned = set->learned, *next; learned; learned = next) {
        next = learned->next;
        free(learned);
    }
    free(set->index.places);
    free(set->entries);
    free(set->reply);
    free(set);
}

const struct command *command_set_lookup(const struct command_set *set, const struct command *parent,
                                         struct slice word)
{
    return index_place(&set->index, parent, word)->row;
}

const struct command_entry *command_set_entry(const struct command_set *set, struct slice full_name)
{
    const struct command_entry wanted = {.full_name = full_name};
    if (set->entry_count == 0) return NULL;
    return bsearch(&wanted, set->entries, set->entry_count, sizeof(wanted), compare_entries);
}

/* ---- reading a node's reply ---- */

static bool read_reply(struct node_reader *reader)
{
    struct command_set *set = reader->set;
    int64_t commands;
    if (!read_array(reader, MAX_ROWS, &commands) || commands == 0 || !index_table(&set->index)) return false;
    for (int64_t i = 0; i < commands; i++) {
        if (!read_command(reader, NULL)) return false;
    }
    set->command_count = (size_t)commands;
    return reader->position == reader->reply.size;
}

/*
 * One command, with its subcommands if it is not one itself:
 *     name, arity, [flags], first, last, step            before Redis 6
 *     ..., [categories]                                  Redis 6
 *     ..., [tips], [key specifications], [subcommands]   since Redis 7
 */
static bool read_command(struct node_reader *reader, const struct command *parent)
{
    size_t start = reader->position;
    struct node_row row = {.flags_at = 0};
    int64_t elements;

    if (!read_array(reader, MAX_WORDS, &elements) || elements < 6 || !read_row(reader, &row, elements > 6))
        return false;
    reader->set->reply_is_old |= elements < 10;

    if (elements > 7 && !read_tips(reader, &row)) return false;
    const struct command *known = learn(reader, parent, &row);
    if (!known) return false;
    for (int64_t i = 8; i < elements; i++) {
        bool is_good = i == 9 && !parent ? read_subcommands(reader, known)
                                         : resp_value_skip(reader->reply, &reader->position);
        if (!is_good) return false;
    }
    return add_entry(reader, row.name, start);
}

static bool read_row(struct node_reader *reader, struct node_row *row, bool has_categories)
{
    if (!read_text(reader, &row->name) || !is_name(row->name) || !read_integer(reader, &row->arity))
        return false;
    row->flags_at = reader->position;
    if (!read_flags(reader, row) || !read_integer(reader, &row->first) || !read_integer(reader, &row->last) ||
        !read_integer(reader, &row->step))
        return false;
    if (!has_categories) return true;

    int64_t categories;
    struct slice ignored;
    row->categories_at = reader->position;
    if (!read_array(reader, MAX_WORDS, &categories)) return false;
    for (int64_t i = 0; i < categories; i++) {
        if (!read_text(reader, &ignored)) return false;
    }
    return true;
}

static bool is_name(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] <= ' ' || text.bytes[i] > '~') return false;
    }
    return text.size > 0 && text.size <= MAX_NAME_BYTES;
}

static bool read_flags(struct node_reader *reader, struct node_row *row)
{
    const struct {
        const char *word;
        bool *field;
    } meanings[] = {
        {"write", &row->is_write},       {"readonly", &row->is_readonly},         {"admin", &row->is_admin},
        {"blocking", &row->is_blocking}, {"movablekeys", &row->has_movable_keys},
    };
    int64_t flags;
    struct slice flag;

    if (!read_array(reader, MAX_WORDS, &flags)) return false;
    for (int64_t i = 0; i < flags; i++) {
        if (!read_text(reader, &flag)) return false;
        for (size_t k = 0; k < sizeof(meanings) / sizeof(meanings[0]); k++)
            *meanings[k].field |= slice_is(flag, meanings[k].word);
    }
    return true;
}

/* Without a response policy, replies are put where their keys stood, or one behind the other. What is special
 * nobody can know; it goes to one node, as without tips. So does what has tips that are none. */
static bool read_tips(struct node_reader *reader, struct node_row *row)
{
    struct node_reader tips = *reader;
    int spread = SPREAD_NONE, merge = -1;
    int64_t count;
    struct slice tip;

    if (!resp_value_skip(reader->reply, &reader->position)) return false;
    if (!read_array(&tips, MAX_WORDS, &count)) return true;
    for (int64_t i = 0; i < count; i++) {
        if (!read_text(&tips, &tip)) return true;
        int request = meaning_of(TIPS(request_tips), tip), response = meaning_of(TIPS(response_tips), tip);
        if (request >= 0) spread = request;
        if (response >= 0) merge = response;
        if (slice_is(tip, "request_policy:special") || slice_is(tip, "response_policy:special")) return true;
    }
    if (spread == SPREAD_NONE) return true;
    row->spread = (enum command_spread)spread;
    row->merge = merge >= 0 ? (enum merge_policy)merge : spread == SPREAD_KEYS ? MERGE_PLACES : MERGE_CONCAT;
    return true;
}

static int meaning_of(const struct tip *tips, size_t count, struct slice text)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_is(text, tips[i].text)) return tips[i].meaning;
    }
    return -1;
}

static bool read_subcommands(struct node_reader *reader, const struct command *parent)
{
    struct command_learned *newest = reader->set->learned;
    int64_t subcommands;

    if (!read_array(reader, MAX_ROWS, &subcommands)) return false;
    if (subcommands > 0 && newest && parent == &newest->row && parent->flags & COMMAND_LEARNED)
        newest->row.flags |= COMMAND_CONTAINER;
    for (int64_t i = 0; i < subcommands; i++) {
        if (!read_command(reader, parent)) return false;
    }
    return true;
}

/* What stands in a row must fit its fields. */
static bool read_integer(struct node_reader *reader, int64_t *integer)
{
    struct resp_value value;
    if (!resp_value_next(reader->reply, &reader->position, &value) || value.type != ':' ||
        value.integer < INT16_MIN || value.integer > INT16_MAX)
        return false;
    *integer = value.integer;
    return true;
}

static bool read_text(struct node_reader *reader, struct slice *text)
{
    struct resp_value value;
    if (!resp_value_next(reader->reply, &reader->position, &value) || value.is_null ||
        (value.type != '$' && value.type != '+'))
        return false;
    *text = value.text;
    return true;
}

static bool read_array(struct node_reader *reader, int64_t max, int64_t *length)
{
    struct resp_value value;
    if (!resp_value_next(reader->reply, &reader->position, &value) || value.is_null || value.type != '*' ||
        value.integer < 0 || value.integer > max)
        return false;
    *length = value.integer;
    return true;
}

static bool add_entry(struct node_reader *reader, struct slice name, size_t start)
{
    struct command_set *set = reader->set;
    if (set->entry_count == MAX_ROWS) return false;
    if (set->entry_count == reader->entry_room) {
        size_t room = reader->entry_room ? reader->entry_room * 2 : 512;
        struct command_entry *entries = realloc(set->entries, room * sizeof(*entries));
        if (!entries) return false;
        set->entries = entries;
        reader->entry_room = room;
    }
    set->entries[set->entry_count++] = (struct command_entry){
        .full_name = name,
        .bytes = {reader->reply.bytes + start, reader->position - start},
    };
    return true;
}

/* ---- rows for what is not in the table ---- */

/*
 * Makes sure that the set has a row for this command and returns it; NULL if memory is short. Of a row in our
 * table only the arity is taken from the node, whose release may be older or younger than the table, and only
 * where the node is asked at all.
 */
static const struct command *learn(struct node_reader *reader, const struct command *parent,
                                   const struct node_row *row)
{
    struct command_set *set = reader->set;
    const struct command *known = command_set_lookup(set, parent, parent ? own_word(row->name) : row->name);
    if (known && (known->arity == row->arity || known->local != LOCAL_NONE ||
                  known->flags & (COMMAND_CONTAINER | COMMAND_LEARNED)))
        return known;

    struct command_learned *learned = learned_create(reader, row);
    if (!learned) return NULL;
    learned->next = set->learned;
    set->learned = learned;

    struct command made = known ? *known : row_of_node(parent, row);
    made.arity = (int16_t)row->arity;
    if (!known) {
        made.full_name = learned->row.full_name;
        made.name = parent ? own_word(slice_of(learned->row.name)).bytes : learned->row.name;
        made.redis_flags = learned->row.redis_flags;
        made.categories = learned->row.categories;
    }
    learned->row = made;
    return index_put(&set->index, parent, &learned->row) ? &learned->row : NULL;
}

/* A subcommand's word: "get" of "config|get". */
static struct slice own_word(struct slice full_name)
{
    const char *bar = memchr(full_name.bytes, '|', full_name.size);
    size_t skip = bar ? (size_t)(bar - full_name.bytes) + 1 : 0;
    return (struct slice){full_name.bytes + skip, full_name.size - skip};
}

/* What its flags tell of a command. One that neither writes nor only reads may do anything (a function that
 * is called, a module's own administration), and so may one whose keys cannot be told from its row. */
static struct command row_of_node(const struct command *parent, const struct node_row *row)
{
    bool has_keys = row->first > 0 && row->step > 0 && (row->last >= row->first || row->last < 0) &&
                    !row->has_movable_keys;
    struct command learned = {
        .access = row->is_readonly && !row->is_write ? COMMAND_READ : COMMAND_WRITE,
        .pin = row->is_blocking ? PIN_BLOCK : PIN_NONE,
        .flags = COMMAND_LEARNED | (row->is_admin ? COMMAND_ADMIN : 0),
        .spread = (uint8_t)row->spread,
        .merge = (uint8_t)row->merge,
    };
    if (has_keys) {
        learned.keys = (struct command_keys){
            .finder = KEYS_RANGE,
            .first = (int16_t)row->first,
            .last = (int16_t)row->last,
            .step = (int16_t)row->step,
        };
    } else {
        learned.flags |= learned.access == COMMAND_READ ? COMMAND_MASTER_ONLY : COMMAND_UNKEYED_WRITE;
    }
    if (parent) learned.flags |= parent->flags & COMMAND_STATEFUL;
    return learned;
}

/* A row with its texts behind it, and nothing but these texts yet; they take no more room than in the reply.
 */
static struct command_learned *learned_create(const struct node_reader *reader, const struct node_row *row)
{
    size_t words_size = reader->position - row->flags_at;
    struct command_learned *learned = calloc(1, sizeof(*learned) + 2 * (row->name.size + 1) + words_size + 2);
    if (!learned) return NULL;

    char *out = put_text(learned->texts, row->name, &learned->row.name);
    for (char *c = learned->texts; c < out; c++)
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
    out = put_text(out, row->name, &learned->row.full_name);
    out = put_words(out, reader->reply, row->flags_at, &learned->row.redis_flags);
    put_words(out, reader->reply, row->categories_at, &learned->row.categories);
    return learned;
}

static char *put_text(char *out, struct slice text, const char **start)
{
    *start = out;
    memcpy(out, text.bytes, text.size);
    out[text.size] = 0;
    return out + text.size + 1;
}

/* The words of the array that starts at position (0: there is none), with blanks between them. */
static char *put_words(char *out, struct slice reply, size_t position, const char **start)
{
    struct resp_value value;
    int64_t words = 0;

    *start = out;
    if (position > 0 && resp_value_next(reply, &position, &value)) words = value.integer;
    for (int64_t i = 0; i < words && resp_value_next(reply, &position, &value); i++) {
        if (i > 0) *out++ = ' ';
        memcpy(out, value.text.bytes, value.text.size);
        out += value.text.size;
    }
    *out = 0;
    return out + 1;
}

static int compare_entries(const void *a, const void *b)
{
    return compare_names(((const struct command_entry *)a)->full_name,
                         ((const struct command_entry *)b)->full_name);
}

static int compare_names(struct slice a, struct slice b)
{
    int order = strncasecmp(a.bytes, b.bytes, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* ---- the index ---- */

static inline size_t index_size(const struct command_index *index)
{
    return index->places ? (size_t)1 << index->bits : 0;
}

static bool index_table(struct command_index *index)
{
    for (size_t i = 0; i < command_table_size; i++) {
        const struct command *row = &command_table[i];
        if (!index_put(index, NULL, row)) return false;
        for (size_t k = 0; k < row->subcommand_count; k++) {
            if (!index_put(index, row, &row->subcommands[k])) return false;
        }
    }
    return true;
}

/* Adds the row, or puts it in the place of the one with the same name. */
static bool index_put(struct command_index *index, const struct command *parent, const struct command *row)
{
    if (index->used * 2 >= index_size(index) && !index_grow(index)) return false;
    struct slice name = slice_of(row->name);
    struct command_place *place = index_place(index, parent, name);
    index->used += place->row == NULL;
    *place = (struct command_place){.word = word_of(name), .parent = parent, .row = row};
    return true;
}

static bool index_grow(struct command_index *index)
{
    struct command_index grown = {.bits = index->places ? index->bits + 1 : BUILTIN_BITS,
                                  .used = index->used};
    grown.places = calloc((size_t)1 << grown.bits, sizeof(*grown.places));
    if (!grown.places) return false;
    for (size_t i = 0; i < index_size(index); i++) {
        const struct command_place *place = &index->places[i];
        if (place->row) *index_place(&grown, place->parent, slice_of(place->row->name)) = *place;
    }
    free(index->places);
    *index = grown;
    return true;
}

static inline uint64_t load_word(const char *bytes, size_t size)
{
    uint64_t word = 0;
    memcpy(&word, bytes, size);
    return word;
}

/* Turns the lower-case letters among eight bytes into upper case: for each byte below 128, the first sum has
 * bit 7 set from 'a' on, the second one behind 'z'. */
static inline uint64_t fold(uint64_t word)
{
    const uint64_t each = 0x0101010101010101;
    uint64_t low = word & each * 0x7f;
    uint64_t is_letter = ((low + each * (0x80 - 'a')) ^ (low + each * (0x7f - 'z'))) & ~word & each * 0x80;
    return word - (is_letter >> 2);
}

static inline struct command_word word_of(struct slice text)
{
    struct command_word word = {.size = text.size};
    const char *bytes = text.bytes;
    if (text.size >= 8) {
        word.head = fold(load_word(bytes, 8));
        word.tail = fold(load_word(bytes + text.size - 8, 8));
    } else if (text.size >= 4) {
        word.head = fold(load_word(bytes, 4) | load_word(bytes + text.size - 4, 4) << 32);
    } else if (text.size > 0) {
        word.head =
            fold((uint64_t)(unsigned char)bytes[0] | (uint64_t)(unsigned char)bytes[text.size / 2] << 8 |
                 (uint64_t)(unsigned char)bytes[text.size - 1] << 16);
    }
    return word;
}

static inline size_t first_place(const struct command_index *index, const struct command_word *word,
                                 const struct command *parent)
{
    uint64_t mixed = word->head * 0x9e3779b97f4a7c15 ^ (word->tail + word->size) * 0xc2b2ae3d27d4eb4f ^
                     (uint64_t)(uintptr_t)parent;
    return (mixed * 0xff51afd7ed558ccd) >> (64 - index->bits);
}

/* The place of this word, or the free one where it would be put. */
static struct command_place *index_place(const struct command_index *index, const struct command *parent,
                                         struct slice text)
{
    const struct command_word word = word_of(text);
    const size_t mask = index_size(index) - 1;
    for (size_t i = first_place(index, &word, parent);; i = (i + 1) & mask) {
        struct command_place *place = &index->places[i];
        if (!place->row) return place;
        if (place->word.head == word.head && place->word.tail == word.tail && place->word.size == word.size &&
            place->parent == parent &&
            (word.size <= 16 || strncasecmp(place->row->name, text.bytes, text.size) == 0))
            return place;
    }
}
