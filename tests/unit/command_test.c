/* SPDX-License-Identifier: BSD-2-Clause */
/* The command table: what is found, where keys are, what is learned from a node, how COMMAND is answered.
 * That the rows say what Redis says is checked against a real server in
 * tests/integration/test_command_table.py. */
#include "routing/command.h"

#include "routing/command_table.h"
#include "routing/resp.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX_WORDS     64
#define LENGTH(table) (sizeof(table) / sizeof((table)[0]))

/* The words of a text, split at blanks; "''" is an empty word. Valid until the next call. */
struct words {
    struct slice items[MAX_WORDS];
    size_t count;
};

static struct words split(const char *text)
{
    struct words words = {.count = 0};
    while (*text) {
        size_t size = strcspn(text, " ");
        words.items[words.count++] =
            size == 2 && memcmp(text, "''", 2) == 0 ? (struct slice){text, 0} : (struct slice){text, size};
        text += size + (text[size] == ' ');
    }
    return words;
}

static const struct command *find_in(const struct command_set *set, const char *text)
{
    struct words words = split(text);
    return command_find(set, words.items, words.count);
}

static const struct command *find(const char *text)
{
    return find_in(command_set_builtin(), text);
}

/* ---- finding ---- */

static void commands_are_found_whatever_the_case_of_their_letters(void **state)
{
    static const struct {
        const char *given, *expected;
    } cases[] = {
        {"GET k", "get"},
        {"get k", "get"},
        {"gEt k", "get"},
        {"SET", "set"},
        {"zrevrangebyscore", "zrevrangebyscore"},
        {"ZREMRANGEBYSCORE", "zremrangebyscore"},
        {"georadiusbymember_ro", "georadiusbymember_ro"},
        {"GEORADIUSBYMEMBER_RO", "georadiusbymember_ro"},
        {"restore-asking", "restore-asking"},
        {"client setname x", "client|setname"},
        {"CLIENT No-Evict on", "client|no-evict"},
        {"CLUSTER COUNT-FAILURE-REPORTS x", "cluster|count-failure-reports"},
        {"cluster cancelslotmigrations", "cluster|cancelslotmigrations"},
        {"HPEXPIRETIME", "hpexpiretime"},
        {"VSIM", "vsim"},
        {"MSETEX", "msetex"},
        {"delifeq", "delifeq"},
        {"commandlog get 1 slow", "commandlog|get"},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        const struct command *command = find(cases[i].given);
        assert_non_null(command);
        assert_string_equal(command->full_name, cases[i].expected);
    }
}

static void words_that_only_resemble_a_command_are_not_found(void **state)
{
    static const char *const cases[] = {
        "GE",
        "GETT",
        "G",
        "T",
        "GAT",
        "GET\r",
        "GETVEX",
        "client|setname",
        "GEORADIUSBYMEMBER_RX",
        "GEORAXIUSBYMEMBER_RO",
        "''",
        "''  ",
        "\x01\x02",
        "gE\x14",
        "[ET",
        "{ET",
        "@ET",
        "SETNAME",
        "ZREVRANGEBYSCORF",
        "\xc7\x45T",
        "GETRANGEGETRANGEGETRANGEGETRANGEGETRANGE",
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_null(find(cases[i]));
    assert_null(command_find(command_set_builtin(), &(struct slice){"GET\0", 4}, 1));
    assert_null(command_find(command_set_builtin(), &(struct slice){"\0\0\0", 3}, 1));
}

static void an_unknown_subcommand_gives_the_row_of_its_container(void **state)
{
    static const char *const cases[][2] = {
        {"CLIENT FOO", "client"},    {"CLIENT", "client"},       {"CONFIG ''", "config"},
        {"COMMAND FOO", "command"},  {"OBJECT GET k", "object"}, {"XGROUP STREAM k", "xgroup"},
        {"DEBUG OBJECT k", "debug"}, {"GET SETNAME", "get"},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        const struct command *command = find(cases[i][0]);
        assert_non_null(command);
        assert_string_equal(command->full_name, cases[i][1]);
    }
    assert_int_equal(find("CLIENT FOO")->local, LOCAL_NONE);
}

/* Calls check for every row of the table; parent is NULL for a command's own row. */
static void for_each_row(void (*check)(const struct command *row, const struct command *parent))
{
    for (size_t i = 0; i < command_table_size; i++) {
        check(&command_table[i], NULL);
        for (size_t k = 0; k < command_table[i].subcommand_count; k++)
            check(&command_table[i].subcommands[k], &command_table[i]);
    }
}

static void check_that_row_is_found(const struct command *row, const struct command *parent)
{
    char lower[128];
    size_t size = strlen(row->full_name);
    for (size_t i = 0; i <= size; i++)
        lower[i] = row->full_name[i] == '|' ? ' ' : row->full_name[i];
    assert_ptr_equal(find(lower), row);
    for (size_t i = 0; i < size; i++)
        lower[i] = (char)toupper(lower[i]);
    assert_ptr_equal(find(lower), row);
    assert_string_equal(strchr(lower, ' ') ? strchr(lower, ' ') + 1 : lower, row->name);
    assert_true(!parent || parent->flags & COMMAND_CONTAINER);
}

static void every_row_is_found_by_its_name_and_no_other(void **state)
{
    (void)state;
    for_each_row(check_that_row_is_found);
}

/* ---- what rows promise to those who route by them ---- */

static void check_promises_of_row(const struct command *row, const struct command *parent)
{
    bool has_keys = row->keys.finder != KEYS_NONE;
    bool is_forwarded = row->local == LOCAL_NONE && row->pin == PIN_NONE;
    (void)parent;

    if (row->access == COMMAND_READ && !has_keys) assert_true(row->flags & COMMAND_MASTER_ONLY);
    if (row->access == COMMAND_OTHER) assert_false(is_forwarded);
    if (strstr(row->redis_flags, "write")) assert_int_equal(row->access, COMMAND_WRITE);
    if (row->flags & COMMAND_MASTER_ONLY) assert_int_equal(row->access, COMMAND_READ);
    if (row->flags & COMMAND_UNKEYED_WRITE) assert_int_equal(row->access, COMMAND_WRITE);
    if (row->keys.finder == KEYS_RANGE) assert_true(row->keys.first > 0 && row->keys.step > 0);
    if (row->keys.finder == KEYS_COUNTED) assert_true(row->keys.count_at > 0 && row->keys.step > 0);
    assert_true(row->arity != 0);
    assert_int_equal((row->flags & COMMAND_CONTAINER) != 0, row->subcommands != NULL);
}

static void rows_keep_the_promises_that_routing_relies_on(void **state)
{
    (void)state;
    for_each_row(check_promises_of_row);
}

static void rows_tell_where_a_command_goes(void **state)
{
    static const struct {
        const char *given;
        int access, pin, local;
        uint32_t flags; /* these at least */
    } cases[] = {
        {"GET", COMMAND_READ, PIN_NONE, LOCAL_NONE, 0},
        {"GETEX", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, 0},
        {"SORT", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, COMMAND_SLOW},
        {"BITFIELD", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, 0},
        {"BITFIELD_RO", COMMAND_READ, PIN_NONE, LOCAL_NONE, 0},
        {"GEORADIUS", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, 0},
        {"PUBLISH", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, 0},
        {"SPUBLISH", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, COMMAND_SLOT_ONLY},
        {"EVAL", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, COMMAND_UNKEYED_WRITE},
        {"EVAL_RO", COMMAND_READ, PIN_NONE, LOCAL_NONE, 0},
        {"EVALSHA_RO", COMMAND_READ, PIN_NONE, LOCAL_NONE, 0},
        {"FCALL_RO", COMMAND_READ, PIN_NONE, LOCAL_NONE, 0},
        {"PFCOUNT", COMMAND_READ, PIN_NONE, LOCAL_NONE, 0},
        {"SCAN", COMMAND_READ, PIN_NONE, LOCAL_NONE, COMMAND_MASTER_ONLY},
        {"HSCAN", COMMAND_READ, PIN_NONE, LOCAL_NONE, COMMAND_MASTER_ONLY},
        {"OBJECT FREQ", COMMAND_READ, PIN_NONE, LOCAL_NONE, COMMAND_MASTER_ONLY},
        {"MEMORY USAGE", COMMAND_READ, PIN_NONE, LOCAL_NONE, COMMAND_MASTER_ONLY},
        {"TOUCH", COMMAND_READ, PIN_NONE, LOCAL_NONE, COMMAND_MASTER_ONLY},
        {"DBSIZE", COMMAND_READ, PIN_NONE, LOCAL_NONE, COMMAND_MASTER_ONLY},
        {"CONFIG GET", COMMAND_READ, PIN_NONE, LOCAL_NONE, COMMAND_MASTER_ONLY},
        {"CONFIG SET", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, 0},
        {"FLUSHALL", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, COMMAND_UNKEYED_WRITE},
        {"SWAPDB", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, COMMAND_UNKEYED_WRITE},
        {"SCRIPT LOAD", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, 0},
        {"SCRIPT DEBUG", COMMAND_WRITE, PIN_NONE, LOCAL_SCRIPT_DEBUG, COMMAND_STATEFUL},
        {"CLIENT CAPA", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, COMMAND_STATEFUL},
        {"CLIENT FOO", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, COMMAND_STATEFUL},
        {"CLIENT PAUSE", COMMAND_OTHER, PIN_NONE, LOCAL_CLIENT_PAUSE, 0},
        {"CLIENT KILL", COMMAND_OTHER, PIN_NONE, LOCAL_CLIENT_KILL, 0},
        {"CLIENT TRACKING", COMMAND_OTHER, PIN_NONE, LOCAL_CLIENT_TRACKING, 0},
        {"CLIENT REPLY", COMMAND_OTHER, PIN_NONE, LOCAL_CLIENT_REPLY, 0},
        {"READONLY", COMMAND_OTHER, PIN_NONE, LOCAL_CLUSTER, 0},
        {"CLUSTER", COMMAND_OTHER, PIN_NONE, LOCAL_CLUSTER, 0},
        {"CLUSTER FOO", COMMAND_OTHER, PIN_NONE, LOCAL_CLUSTER, 0},
        {"CLUSTER SLOTS", COMMAND_OTHER, PIN_NONE, LOCAL_CLUSTER, 0},
        {"SENTINEL MASTERS", COMMAND_OTHER, PIN_NONE, LOCAL_UNKNOWN, COMMAND_UNLISTED},
        {"COMMAND DOCS", COMMAND_READ, PIN_NONE, LOCAL_NONE, COMMAND_MASTER_ONLY},
        {"COMMAND", COMMAND_OTHER, PIN_NONE, LOCAL_COMMAND, 0},
        {"COMMAND GETKEYS", COMMAND_OTHER, PIN_NONE, LOCAL_COMMAND, 0},
        {"AUTH", COMMAND_OTHER, PIN_NONE, LOCAL_AUTH, COMMAND_WITHOUT_AUTH},
        {"HELLO", COMMAND_OTHER, PIN_NONE, LOCAL_HELLO, COMMAND_WITHOUT_AUTH},
        {"QUIT", COMMAND_OTHER, PIN_NONE, LOCAL_QUIT, COMMAND_WITHOUT_AUTH | COMMAND_IN_MULTI},
        {"PING", COMMAND_OTHER, PIN_NONE, LOCAL_PING, COMMAND_WHILE_SUBSCRIBED},
        {"MULTI", COMMAND_OTHER, PIN_MULTI, LOCAL_NONE, COMMAND_IN_MULTI},
        {"WATCH", COMMAND_OTHER, PIN_WATCH, LOCAL_NONE, COMMAND_IN_MULTI},
        {"SUBSCRIBE", COMMAND_OTHER, PIN_SUBSCRIBE, LOCAL_NONE, COMMAND_WHILE_SUBSCRIBED},
        {"PSYNC", COMMAND_OTHER, PIN_SYNC, LOCAL_NONE, COMMAND_ADMIN},
        {"MIGRATE", COMMAND_WRITE, PIN_NONE, LOCAL_NONE, COMMAND_NO_TIMEOUT},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        const struct command *command = find(cases[i].given);
        assert_non_null(command);
        if (command->access != cases[i].access || command->pin != cases[i].pin ||
            command->local != cases[i].local || (command->flags & cases[i].flags) != cases[i].flags)
            fail_msg("%s: access %d, pin %d, local %d, flags %x", cases[i].given, command->access,
                     command->pin, command->local, command->flags);
    }
    assert_false(find("PFCOUNT")->flags & COMMAND_MASTER_ONLY);
    assert_false(find("UNWATCH")->flags & COMMAND_IN_MULTI);
}

static void what_would_end_the_node_or_change_its_role_is_known_by_name(void **state)
{
    static const struct {
        const char *given, *danger;
        bool ends_node;
    } cases[] = {
        {"SHUTDOWN NOSAVE", "shutdown", true},
        {"REPLICAOF NO ONE", "replicaof", false},
        {"slaveof NO ONE", "slaveof", false},
        {"FAILOVER", "failover", false},
        {"DEBUG segfault", "debug|segfault", true},
        {"DEBUG CRASH-AND-RECOVER 1", "debug|crash-and-recover", true},
        {"DEBUG OOM", "debug|oom", true},
        {"DEBUG OBJECT oom", NULL, false},
        {"DEBUG", NULL, false},
        {"PSYNC ? -1", "psync", false},
        {"SYNC", "sync", false},
        {"FLUSHALL", NULL, false},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct words words = split(cases[i].given);
        const struct command *command = command_find(command_set_builtin(), words.items, words.count);
        int danger = command_danger(command, words.items, words.count);
        assert_int_equal(danger >= 0, cases[i].danger != NULL);
        if (danger >= 0) assert_string_equal(command_dangers[danger], cases[i].danger);
        assert_int_equal(command_danger_ends_node(danger), cases[i].ends_node);
    }
    for (int i = 0; command_dangers[i]; i++) {
        assert_true(i < 63); /* a bit each */
        struct slice name = {command_dangers[i], strcspn(command_dangers[i], "|")};
        assert_true(command_find(command_set_builtin(), &name, 1)->flags & COMMAND_DANGEROUS);
    }
}

static void what_reaches_into_another_database_is_known(void **state)
{
    static const struct {
        const char *given;
        bool expected;
    } cases[] = {
        {"MOVE a 1", true},           {"MOVE a 0", true},
        {"SWAPDB 0 1", true},         {"SELECT 1", false},
        {"RENAME a b", false},        {"COPY a b", false},
        {"COPY a b DB 1", true},      {"copy a b replace db 2", true},
        {"COPY a b DB 1 REPLACE", true}, {"COPY a b DB 0", false},
        {"COPY a b DB 1 DB 0", false}, {"COPY a b DB 0 DB 1", true},
        {"COPY a b DB", false},       {"COPY a b DB x", false},
        {"COPY a b DB 01", false},    {"COPY a b DB -1", false},
        {"COPY a b DB 1 FOO", false}, {"COPY a b DB 99999999999", false},
        {"COPY DB 1", false},         {"COPY a", false},
    };
    (void)state;

    for (size_t i = 0; i < LENGTH(cases); i++) {
        const struct command *row = find(cases[i].given);
        struct words words = split(cases[i].given);
        if (command_reaches(row, words.items, words.count) != cases[i].expected) fail_msg("%s", cases[i].given);
        assert_true(!cases[i].expected || !command_is_plain(row));
    }
}

static void arity_counts_the_words_or_the_least_of_them(void **state)
{
    static const struct {
        const char *given;
        bool expected;
    } cases[] = {
        {"GET", false},           {"GET k", true},           {"GET k l", false},
        {"MGET", false},          {"MGET k", true},          {"MGET k l m", true},
        {"PING", true},           {"PING x", true},          {"CLIENT ID", true},
        {"CLIENT ID x", false},   {"CLIENT SETNAME", false}, {"CLIENT SETNAME x", true},
        {"HELLO", true},          {"HELLO 3 AUTH", true},    {"CONFIG GET", false},
        {"CONFIG GET a b", true},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct words words = split(cases[i].given);
        const struct command *command = command_find(command_set_builtin(), words.items, words.count);
        assert_int_equal(command_arity_is_right(command, words.count), cases[i].expected);
    }
}

static void only_what_may_wait_for_others_blocks(void **state)
{
    static const struct {
        const char *given;
        bool expected;
    } cases[] = {
        {"BLPOP a 0", true},
        {"WAIT 1 0", true},
        {"WAITAOF 1 0 0", true},
        {"BZMPOP 0 1 a MIN", true},
        {"LPOP a", false},
        {"XREAD STREAMS a $", false},
        {"XREAD COUNT 1 STREAMS block 0", false},
        {"XREAD STREAMS BLOCK 0", false},
        {"XREAD BLOCK 0 STREAMS a $", true},
        {"XREAD COUNT 1 block 100 STREAMS a $", true},
        {"XREADGROUP GROUP g c STREAMS a >", false},
        {"XREADGROUP GROUP BLOCK BLOCK STREAMS a >", false},
        {"XREADGROUP GROUP STREAMS c BLOCK 0 STREAMS a >", true},
        {"XREADGROUP GROUP g c NOACK COUNT 1 BLOCK 0 STREAMS a >", true},
        {"XREADGROUP GROUP g c CLAIM 5 BLOCK 0 STREAMS a >", true},
        {"XREAD", false},
        {"XREADGROUP GROUP", false},
        {"GET BLOCK", false},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct words words = split(cases[i].given);
        const struct command *command = command_find(command_set_builtin(), words.items, words.count);
        if (command_is_blocking(command, words.items, words.count) != cases[i].expected)
            fail_msg("%s", cases[i].given);
    }
}

/* ---- keys ---- */

/* Positions as a text: "1 3", "" or "-1". Valid until the next call. */
static const char *keys_in(const struct command_set *set, const char *given)
{
    static char text[256];
    uint32_t positions[MAX_WORDS];
    struct words words = split(given);
    const struct command *command = command_find(set, words.items, words.count);
    int keys = command_keys(command, words.items, words.count, positions, MAX_WORDS);
    size_t size = 0;

    text[0] = 0;
    if (keys < 0) return "-1";
    for (int i = 0; i < keys; i++)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%s%u", i ? " " : "", positions[i]);
    return text;
}

static void keys_are_found_where_the_command_has_them(void **state)
{
    static const char *const cases[][2] = {
        {"GET k", "1"},
        {"GET", "-1"},
        {"PING k", ""},
        {"MGET a b c", "1 2 3"},
        {"MGET", ""},
        {"MSET a 1 b 2", "1 3"},
        {"MSET a 1 b", "1 3"},
        {"RENAME a b", "1 2"},
        {"RENAME a", "-1"},
        {"BLPOP a b 0", "1 2"},
        {"BITOP AND d a b", "2 3 4"},
        {"OBJECT ENCODING k", "2"},
        {"MEMORY USAGE k", "2"},
        {"XGROUP CREATE k g $", "2"},
        {"XINFO STREAM k", "2"},
        {"PFDEBUG GETREG k", "2"},
        {"DEBUG OBJECT k", "2"},
        {"DEBUG object k", "2"},
        {"DEBUG SLEEP 1", ""},
        {"DEBUG OBJECT", ""},
        {"EVAL s 2 a b c", "3 4"},
        {"EVAL s 0 a b c", ""},
        {"EVAL s 1", "-1"},
        {"EVAL s", "-1"},
        {"EVAL s -1 a", "-1"},
        {"EVAL s x a", "-1"},
        {"EVAL s 1x a", "-1"},
        {"EVAL s 01 a", "-1"},
        {"EVAL s +1 a", "-1"},
        {"EVAL s '' a", "-1"},
        {"EVAL s 4294967297 a", "-1"},
        {"EVAL s 18446744073709551617 a", "-1"},
        {"ZUNIONSTORE d 2 a b WEIGHTS 1 2", "1 3 4"},
        {"ZUNIONSTORE d 0 a", "-1"},
        {"ZUNIONSTORE d 2 a", "-1"},
        {"ZUNION 2 a b", "2 3"},
        {"BLMPOP 0 2 a b LEFT", "3 4"},
        {"MSETEX 2 a 1 b 2 EX 10", "2 4"},
        {"MSETEX 2 a 1 b", "-1"},
        {"MSETEX 1 a 1", "2"},
        {"XREAD COUNT 2 STREAMS a b 0 0", "4 5"},
        {"XREAD STREAMS", "-1"},
        {"XREAD COUNT 2", "-1"},
        {"XREAD", "-1"},
        {"XREADGROUP GROUP STREAMS c STREAMS a >", "5"},
        {"XREADGROUP GROUP g STREAMS NOACK STREAMS a >", "6"},
        {"SORT k", "1"},
        {"SORT k BY w_* LIMIT 0 1 GET # STORE d", "1 10"},
        {"SORT k GET STORE GET x", "1"},
        {"SORT k STORE", "1"},
        {"SORT k STORE limit STORE e", "1 5"},
        {"SORT", "-1"},
        {"SORT_RO k STORE x", "1"},
        {"GEORADIUS k 1 2 3 m STOREDIST d", "1 7"},
        {"GEORADIUS k 1 2 3 m STOREDIST d STORE e", "1 9 7"},
        {"GEORADIUS k 1 2 3 m STORE", "1"},
        {"GEORADIUSBYMEMBER k STORE 3 m STORE d", "1 6"},
        {"MIGRATE h p k 0 1", "3"},
        {"MIGRATE h p '' 0 1 KEYS a b", "7 8"},
        {"MIGRATE h p '' 0 1 AUTH KEYS KEYS a", "9"},
        {"MIGRATE h p '' 0 1 AUTH2 u KEYS KEYS a", "10"},
        {"MIGRATE h p k 0 1 KEYS a", "-1"},
        {"MIGRATE h p", "-1"},
        {"SUNSUBSCRIBE", ""},
        {"SUNSUBSCRIBE a b", "1 2"},
        {"SPUBLISH c m", "1"},
        {"HEXPIRE k 1 FIELDS 1 f", "1"},
        {"VADD k VALUES 1 1 e", "1"},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        const char *found = keys_in(command_set_builtin(), cases[i][0]);
        if (strcmp(found, cases[i][1]) != 0)
            fail_msg("%s: found \"%s\", expected \"%s\"", cases[i][0], found, cases[i][1]);
    }
}

static void keys_beyond_the_room_are_counted_but_not_written(void **state)
{
    uint32_t positions[3] = {77, 77, 77};
    struct words words = split("DEL a b c d e");
    (void)state;
    assert_int_equal(command_keys(find("DEL"), words.items, words.count, positions, 2), 5);
    assert_int_equal(positions[0], 1);
    assert_int_equal(positions[1], 2);
    assert_int_equal(positions[2], 77);
    assert_int_equal(command_keys(find("DEL"), words.items, words.count, NULL, 0), 5);
}

static void check_that_few_words_are_no_trouble(const struct command *row, const struct command *parent)
{
    static const char *const fillers[] = {"0", "1", "3", "STORE", "KEYS", "STREAMS", "BLOCK", "AUTH2", "''"};
    uint32_t positions[16];
    struct slice words[10];
    (void)parent;

    for (size_t filler = 0; filler < LENGTH(fillers); filler++) {
        for (size_t count = 1; count <= 10; count++) {
            for (size_t i = 0; i < count; i++)
                words[i] =
                    strcmp(fillers[filler], "''") == 0 ? (struct slice){"", 0} : slice_of(fillers[filler]);
            int keys = command_keys(row, words, count, positions, LENGTH(positions));
            assert_true(keys <= (int)count);
            for (int i = 0; i < keys; i++)
                assert_true(positions[i] > 0 && positions[i] < count);
            command_is_blocking(row, words, count);
        }
    }
}

static void key_positions_lie_within_the_command_whatever_it_says(void **state)
{
    (void)state;
    for_each_row(check_that_few_words_are_no_trouble);
}

/* ---- learning ---- */

/* Replies are written with blanks for line ends; the last one may be left out: "*1 $3 get". */
static struct slice reply_of(const char *text)
{
    static char bytes[8192];
    size_t size = 0;
    for (const char *c = text; *c; c++) {
        assert_true(size + 2 < sizeof(bytes));
        if (*c == ' ') {
            bytes[size++] = '\r';
            bytes[size++] = '\n';
        } else {
            bytes[size++] = *c;
        }
    }
    if (size == 0 || bytes[size - 1] != '\n') {
        bytes[size++] = '\r';
        bytes[size++] = '\n';
    }
    return (struct slice){bytes, size};
}

static struct command_set *learn(const char *text)
{
    return command_set_create(reply_of(text));
}

#define GET_ROW "*10 $3 get :2 *2 +readonly +fast :1 :1 :1 *1 +@read *0 *0 *0 "

static void commands_of_modules_are_learned_from_their_flags(void **state)
{
    static const struct {
        const char *row;
        int access;
        uint32_t flags;
        const char *given, *keys;
    } cases[] = {
        {":-2 *1 +write :1 :1 :1", COMMAND_WRITE, 0, "MOD.X a b", "1"},
        {":-2 *2 +write +denyoom :1 :-1 :2", COMMAND_WRITE, 0, "MOD.X a 1 b 2", "1 3"},
        {":-2 *1 +readonly :2 :2 :1", COMMAND_READ, 0, "MOD.X x a", "2"},
        {":-2 *1 +readonly :0 :0 :0", COMMAND_READ, COMMAND_MASTER_ONLY, "MOD.X a", ""},
        {":-2 *2 +readonly +movablekeys :1 :1 :1", COMMAND_READ, COMMAND_MASTER_ONLY, "MOD.X a", ""},
        {":-2 *2 +write +movablekeys :1 :1 :1", COMMAND_WRITE, COMMAND_UNKEYED_WRITE, "MOD.X a", ""},
        {":-2 *1 +write :0 :0 :0", COMMAND_WRITE, COMMAND_UNKEYED_WRITE, "MOD.X a", ""},
        {":-2 *1 +admin :0 :0 :0", COMMAND_WRITE, COMMAND_UNKEYED_WRITE | COMMAND_ADMIN, "MOD.X a", ""},
        {":-2 *0 :1 :1 :0", COMMAND_WRITE, COMMAND_UNKEYED_WRITE, "MOD.X a", ""},
        {":-2 *2 +write +readonly :1 :1 :1", COMMAND_WRITE, 0, "MOD.X a", "1"},
        {":-2 *1 +readonly :-1 :-3 :-1", COMMAND_READ, COMMAND_MASTER_ONLY, "MOD.X a", ""},
        {":-2 *1 +readonly :3 :3 :1", COMMAND_READ, 0, "MOD.X a", "-1"},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        char text[512];
        snprintf(text, sizeof(text), "*2 " GET_ROW "*10 $5 mod.x %s *2 +@a +@b *0 *0 *0", cases[i].row);
        struct command_set *set = learn(text);
        assert_non_null(set);
        const struct command *command = find_in(set, cases[i].given);
        assert_non_null(command);
        assert_string_equal(command->full_name, "mod.x");
        assert_string_equal(command->name, "MOD.X");
        assert_string_equal(command->categories, "@a @b");
        assert_int_equal(command->access, cases[i].access);
        assert_int_equal(command->flags, cases[i].flags | COMMAND_LEARNED);
        assert_string_equal(keys_in(set, cases[i].given), cases[i].keys);
        assert_ptr_equal(find_in(set, "get k"), find("get k"));
        assert_null(find("MOD.X"));
        command_set_release(set);
    }
}

static void learned_flags_are_words_and_a_blocking_command_is_pinned(void **state)
{
    struct command_set *set = learn("*1 *7 $5 mod.x :3 *3 +write +blocking +fast :1 :1 :1 *0");
    (void)state;
    assert_non_null(set);
    assert_string_equal(find_in(set, "mod.x")->redis_flags, "write blocking fast");
    assert_string_equal(find_in(set, "mod.x")->categories, "");
    assert_int_equal(find_in(set, "mod.x")->pin, PIN_BLOCK);
    assert_int_equal(find_in(set, "mod.x")->arity, 3);
    command_set_release(set);
}

static void replies_of_older_nodes_are_understood(void **state)
{
    static const char *const cases[] = {
        "*1 *6 $7 stralgo :-2 *2 +readonly +movablekeys :0 :0 :0",
        "*1 *7 $7 stralgo :-2 *2 +readonly +movablekeys :0 :0 :0 *2 +@read +@string",
        "*1 *8 $7 stralgo :-2 *2 +readonly +movablekeys :0 :0 :0 *2 +@read +@string *3 :1 *1 :2 *-1",
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct command_set *set = learn(cases[i]);
        assert_non_null(set);
        assert_int_equal(find_in(set, "STRALGO LCS")->access, COMMAND_READ);
        assert_true(find_in(set, "CLIENT SETNAME x")->local == LOCAL_CLIENT_SETNAME);
        command_set_release(set);
    }
}

static void subcommands_are_learned_for_containers_known_and_unknown(void **state)
{
    struct command_set *set =
        learn("*4 *10 $6 client :-2 *0 :0 :0 :0 *0 *0 *0 *2 "
              "*10 $10 client|new :2 *0 :0 :0 :0 *0 *0 *0 *0 *10 $9 client|id :2 *0 :0 :0 :0 *0 *0 *0 *0 "
              "*10 $4 mod. :-2 *0 :0 :0 :0 *0 *0 *0 *2 "
              "*10 $8 mod.|get :3 *1 +readonly :2 :2 :1 *0 *0 *0 *0 *10 $8 mod.|set :4 *1 +write :2 :2 :1 *0 "
              "*0 *0 *0 "
              "*10 $6 xgroup :-2 *0 :0 :0 :0 *0 *0 *0 *1 *10 $11 xgroup|rest :3 *1 +write :2 :2 :1 *0 *0 *0 "
              "*0 " GET_ROW);
    (void)state;
    assert_non_null(set);
    assert_string_equal(find_in(set, "CLIENT NEW")->full_name, "client|new");
    assert_string_equal(find_in(set, "CLIENT NEW")->name, "NEW");
    assert_true(find_in(set, "CLIENT NEW")->flags & COMMAND_STATEFUL);
    assert_ptr_equal(find_in(set, "CLIENT ID"), find("CLIENT ID"));
    assert_int_equal(find_in(set, "MOD. GET k")->access, COMMAND_READ);
    assert_string_equal(keys_in(set, "mod. set k v"), "2");
    assert_true(find_in(set, "MOD.")->flags & COMMAND_CONTAINER);
    assert_string_equal(find_in(set, "MOD. FOO")->full_name, "mod.");
    assert_string_equal(find_in(set, "XGROUP REST k")->full_name, "xgroup|rest");
    assert_null(find_in(set, "NEW"));
    command_set_release(set);
}

static void the_node_is_right_about_arity_but_not_about_what_is_answered_here(void **state)
{
    struct command_set *set = learn("*3 *10 $3 gEt :-2 *1 +readonly :1 :1 :1 *0 *0 *0 *0 "
                                    "*10 $4 ping :7 *0 :0 :0 :0 *0 *0 *0 *0 "
                                    "*10 $6 client :5 *0 :0 :0 :0 *0 *0 *0 *0");
    (void)state;
    assert_non_null(set);
    assert_int_equal(find_in(set, "GET")->arity, -2);
    assert_string_equal(find_in(set, "GET")->full_name, "get");
    assert_string_equal(find_in(set, "GET")->name, "GET");
    assert_int_equal(find_in(set, "GET")->access, COMMAND_READ);
    assert_false(find_in(set, "GET")->flags & COMMAND_LEARNED);
    assert_string_equal(keys_in(set, "GET k"), "1");
    assert_int_equal(find_in(set, "PING")->arity, -1);
    assert_int_equal(find_in(set, "CLIENT")->arity, -2);
    assert_int_equal(find("GET")->arity, 2);
    command_set_release(set);
}

static void many_learned_commands_are_all_found(void **state)
{
    enum { COUNT = 3000, ROW_BYTES = 80 };
    char *text = malloc((size_t)COUNT * ROW_BYTES), word[16];
    size_t size = (size_t)sprintf(text, "*%d\r\n", COUNT);
    (void)state;
    for (int i = 0; i < COUNT; i++)
        size += (size_t)sprintf(text + size,
                                "*6\r\n$7\r\nmod%04d\r\n:2\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n", i);
    struct command_set *set = command_set_create((struct slice){text, size});
    assert_non_null(set);
    for (int i = 0; i < COUNT; i++) {
        snprintf(word, sizeof(word), "MOD%04d", i);
        assert_non_null(find_in(set, word));
        assert_true(find_in(set, word)->flags & COMMAND_LEARNED);
    }
    for_each_row(check_that_row_is_found);
    command_set_release(set);
    free(text);
}

static void replies_that_are_not_of_command_are_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "+OK",
        "-ERR unknown command",
        ":1",
        "*0",
        "*-1",
        "$-1",
        "$3 get",
        "*1 $3 get",
        "*1 *0",
        "*1 *-1",
        ("*2 " GET_ROW "*0"),
        "*1 *5 $3 get :2 *0 :1 :1",
        "*1 *6 $3 get :2 *0 :1 :1",
        "*1 *6 $3 get :2 *0 :1 :1 :1 :1",
        "*1 *6 :3 :2 *0 :1 :1 :1",
        "*1 *6 $-1 :2 *0 :1 :1 :1",
        "*1 *6 $0  :2 *0 :1 :1 :1",
        "*1 *6 $3 get $1 2 *0 :1 :1 :1",
        "*1 *6 $3 get :2 *-1 :1 :1 :1",
        "*1 *6 $3 get :2 *1 *0 :1 :1 :1",
        "*1 *6 $3 get :32768 *0 :1 :1 :1",
        "*1 *6 $3 get :2 *0 :1 :-99999 :1",
        "*1 *6 $3 get :9223372036854775808 *0 :1 :1 :1",
        "*1 *7 $3 get :2 *0 :1 :1 :1 +@read",
        "*1 *10 $3 get :2 *0 :1 :1 :1 *0 *0 *0 $3 foo",
        "*1 *10 $3 get :2 *0 :1 :1 :1 *0 *0 *0 *9223372036854775807",
        ("*9223372036854775807 " GET_ROW),
        ("*100000 " GET_ROW),
        "*1 *6 $3 get :2 *100 :1 :1 :1",
        "*1 *6 $3 g\x01t :2 *0 :1 :1 :1",
        "*1 *999999999 $3 get :2 *0 :1 :1 :1 *0",
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct command_set *set = learn(cases[i]);
        if (set) fail_msg("accepted: %s", cases[i]);
    }
    assert_null(command_set_create((struct slice){NULL, 0}));
}

/* Where replies end is the end of what was malloc()ed, so that a sanitizer sees every byte too far. */
static struct command_set *learn_exactly(const char *bytes, size_t size)
{
    char *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    struct command_set *set = command_set_create((struct slice){copy, size});
    free(copy);
    return set;
}

static void replies_broken_anywhere_are_refused_or_read_but_never_trusted(void **state)
{
    struct slice good =
        reply_of("*3 " GET_ROW "*10 $4 mod. :-2 *1 +write :0 :0 :0 *1 +@a *1 $3 tip *1 *2 $5 flags *1 +RO *1 "
                 "*10 $8 mod.|get :3 *1 +readonly :2 :2 :1 *0 *0 *0 *0 "
                 "*7 $5 mod.x :-2 *1 +write :1 :-1 :2 *1 +@b");
    static const char bytes[] = "*$:+-_0129x\r\n|~%\xff";
    struct command_set *set = learn_exactly(good.bytes, good.size);
    char broken[1024];
    (void)state;

    assert_non_null(set);
    command_set_release(set);
    assert_true(good.size < sizeof(broken));
    for (size_t size = 0; size < good.size; size++)
        assert_null(learn_exactly(good.bytes, size));
    for (size_t i = 0; i < good.size; i++) {
        for (size_t k = 0; k < sizeof(bytes); k++) {
            memcpy(broken, good.bytes, good.size);
            broken[i] = bytes[k];
            set = learn_exactly(broken, good.size);
            if (set) {
                size_t size;
                bool forward;
                struct words words = split("COMMAND LIST");
                assert_non_null(find_in(set, "SET k v"));
                free(command_describe(set, words.items, words.count, &size, &forward));
            }
            command_set_release(set);
        }
    }
}

static void a_set_lives_until_its_last_holder_lets_go(void **state)
{
    struct command_set *set = learn("*1 *7 $5 mod.x :3 *1 +write :1 :1 :1 *0");
    struct command_set *builtin = command_set_builtin();
    (void)state;
    assert_ptr_equal(command_set_take(set), set);
    command_set_release(set);
    assert_non_null(find_in(set, "mod.x"));
    command_set_release(set);
    command_set_release(NULL);
    assert_ptr_equal(command_set_take(builtin), builtin);
    command_set_release(builtin);
    command_set_release(builtin);
    assert_non_null(find("GET"));
}

/* ---- describing ---- */

/* The answer as a text that ends in NUL, to be freed; NULL if a node must be asked. */
static char *describe(const struct command_set *set, const char *given, size_t *size)
{
    struct words words = split(given);
    bool forward = false;
    char *answer = command_describe(set, words.items, words.count, size, &forward);
    assert_int_equal(answer == NULL, forward);
    if (!answer) {
        assert_int_equal(*size, 0);
        return NULL;
    }
    char *text = realloc(answer, *size + 1);
    text[*size] = 0;
    return text;
}

static void expect_answer(const struct command_set *set, const char *given, const char *expected)
{
    size_t size;
    char *answer = describe(set, given, &size);
    if (!answer || !expected)
        assert_null(answer == NULL ? expected : answer);
    else
        assert_string_equal(answer, expected);
    free(answer);
}

static void questions_about_commands_are_answered_in_the_words_of_redis(void **state)
{
    static const struct {
        const char *given, *expected; /* NULL: a node is asked */
    } cases[] = {
        {"COMMAND INFO nosuch", "*1\r\n$-1\r\n"},
        {"COMMAND INFO sentinel client|maint_notifications", "*2\r\n$-1\r\n$-1\r\n"},
        {"COMMAND INFO config|nosuch nosuch|get | config|", "*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n"},
        {"COMMAND GETKEYS get k", "*1\r\n$1\r\nk\r\n"},
        {"command getkeys MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"},
        {"COMMAND GETKEYS get k l", "-ERR Invalid number of arguments specified for command\r\n"},
        {"COMMAND GETKEYS nosuch k", "-ERR Invalid command specified\r\n"},
        {"COMMAND GETKEYS sentinel masters", "-ERR Invalid command specified\r\n"},
        {"COMMAND GETKEYS object nosuch k", "-ERR Invalid command specified\r\n"},
        {"COMMAND GETKEYS ping k", "-ERR The command has no key arguments\r\n"},
        {"COMMAND GETKEYS spublish c m", "-ERR The command has no key arguments\r\n"},
        {"COMMAND GETKEYS zunion 9 k", "-ERR Invalid arguments specified for command\r\n"},
        {"COMMAND GETKEYS eval s 0", "*0\r\n"},
        {"COMMAND GETKEYS eval s 9 k", "*0\r\n"},
        {"COMMAND GETKEYS get", NULL},
        {"COMMAND DOCS", NULL},
        {"COMMAND DOCS get", NULL},
        {"COMMAND LIST FILTERBY MODULE x", NULL},
        {"COMMAND GETKEYSANDFLAGS get k", NULL},
        {"COMMAND COUNT x", NULL},
        {"COMMAND NOSUCH", NULL},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++)
        expect_answer(command_set_builtin(), cases[i].given, cases[i].expected);
}

static void without_a_node_rows_are_printed_as_redis_7_does(void **state)
{
    (void)state;
    expect_answer(
        command_set_builtin(), "COMMAND INFO get",
        "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
        "*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n"
        "*1\r\n*6\r\n$5\r\nflags\r\n*1\r\n+RO\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n"
        "$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n"
        "$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n");
    expect_answer(
        command_set_builtin(), "COMMAND INFO config|get",
        "*1\r\n*10\r\n$10\r\nconfig|get\r\n:-3\r\n*4\r\n+admin\r\n+noscript\r\n+loading\r\n+stale\r\n"
        ":0\r\n:0\r\n:0\r\n*3\r\n+@admin\r\n+@slow\r\n+@dangerous\r\n*0\r\n*0\r\n*0\r\n");
}

static void check_that_set_has_row(const struct command_set *set, const struct command *row)
{
    char question[160];
    size_t size;
    snprintf(question, sizeof(question), "COMMAND INFO %s", row->full_name);
    char *answer = describe(set, question, &size);
    assert_non_null(answer);
    assert_int_equal(strcmp(answer, "*1\r\n$-1\r\n") == 0, (row->flags & COMMAND_UNLISTED) != 0);
    free(answer);
}

/* What we print must be what we read: a proxy may stand behind a proxy. */
static void the_whole_answer_without_a_node_teaches_another_set_nothing_new(void **state)
{
    size_t size, used, number_size;
    struct resp_reply scan = {0};
    char *whole = describe(command_set_builtin(), "COMMAND", &size);
    (void)state;

    assert_int_equal(resp_reply_scan(&scan, whole, size, &used), RESP_DONE);
    assert_int_equal(used, size);
    struct command_set *set = command_set_create((struct slice){whole, size});
    assert_non_null(set);
    for (size_t i = 0; i < command_table_size; i++) {
        assert_ptr_equal(find_in(set, command_table[i].full_name), &command_table[i]);
        check_that_set_has_row(set, &command_table[i]);
        for (size_t k = 0; k < command_table[i].subcommand_count; k++)
            check_that_set_has_row(set, &command_table[i].subcommands[k]);
    }
    expect_answer(set, "COMMAND", whole);
    expect_answer(set, "COMMAND INFO", whole);
    char *count = describe(set, "COMMAND COUNT", &number_size);
    expect_answer(command_set_builtin(), "COMMAND COUNT", count);
    assert_int_equal(strncmp(whole + 1, count + 1, number_size - 1), 0);
    free(count);
    free(whole);
    command_set_release(set);
}

/* Each name once, subcommands behind their container; as many as the head of the array says. */
static void the_list_without_a_node_names_every_row_that_redis_has(void **state)
{
    size_t size, position = 0, listed = 0;
    char *list = describe(command_set_builtin(), "COMMAND LIST", &size);
    const struct slice reply = {list, size};
    struct resp_value head, name;
    (void)state;

    assert_true(resp_value_next(reply, &position, &head));
    assert_int_equal(head.type, '*');
    for (size_t i = 0; i < command_table_size; i++) {
        for (size_t k = 0; k <= command_table[i].subcommand_count; k++) {
            const struct command *row = k ? &command_table[i].subcommands[k - 1] : &command_table[i];
            if (row->flags & COMMAND_UNLISTED) continue;
            assert_true(resp_value_next(reply, &position, &name));
            assert_true(slice_equals(name.text, slice_of(row->full_name)));
            listed++;
        }
    }
    assert_int_equal(position, size);
    assert_int_equal(head.integer, listed);
    free(list);
}

static void the_nodes_own_words_are_passed_on(void **state)
{
    static const char reply[] =
        "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*1\r\n+x\r\n:1\r\n:1\r\n:1\r\n*0\r\n*1\r\n$3\r\ntip\r\n"
        "*0\r\n*0\r\n*10\r\n$3\r\nm.c\r\n:-2\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*1\r\n"
        "*10\r\n$5\r\nm.c|x\r\n:3\r\n*1\r\n+movablekeys\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n";
    struct command_set *set = command_set_create(slice_of(reply));
    (void)state;
    assert_non_null(set);
    expect_answer(set, "COMMAND", reply);
    expect_answer(set, "COMMAND INFO", reply);
    expect_answer(set, "COMMAND COUNT", ":2\r\n");
    expect_answer(set, "COMMAND LIST", "*3\r\n$3\r\nget\r\n$3\r\nm.c\r\n$5\r\nm.c|x\r\n");
    expect_answer(set, "COMMAND INFO GET",
                  "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*1\r\n+x\r\n:1\r\n:1\r\n:1\r\n*0\r\n*1\r\n"
                  "$3\r\ntip\r\n*0\r\n*0\r\n");
    expect_answer(set, "COMMAND INFO M.C|X set",
                  "*2\r\n*10\r\n$5\r\nm.c|x\r\n:3\r\n*1\r\n+movablekeys\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*"
                  "0\r\n*0\r\n$-1\r\n");
    expect_answer(set, "COMMAND GETKEYS get k", "*1\r\n$1\r\nk\r\n");
    expect_answer(set, "COMMAND GETKEYS set k v", "-ERR Invalid command specified\r\n");
    expect_answer(set, "COMMAND GETKEYS m.c x k", NULL);
    command_set_release(set);
}

static void an_old_node_has_its_own_word_for_nothing_and_names_no_subcommands(void **state)
{
    struct command_set *set = learn("*2 *7 $3 get :2 *0 :1 :1 :1 *0 *7 $6 object :-2 *0 :2 :2 :1 *0");
    (void)state;
    expect_answer(set, "COMMAND INFO nosuch", "*1\r\n*-1\r\n");
    expect_answer(set, "COMMAND GETKEYS object encoding k", "*1\r\n$1\r\nk\r\n");
    expect_answer(set, "COMMAND GETKEYS xinfo stream k", "-ERR Invalid command specified\r\n");
    command_set_release(set);
}

static void a_question_whose_answer_would_be_huge_is_left_to_the_node(void **state)
{
    enum { COUNT = 100000 };
    struct slice *words = malloc(COUNT * sizeof(*words));
    size_t size = 1;
    bool forward = false;
    (void)state;
    words[0] = SLICE("COMMAND");
    words[1] = SLICE("INFO");
    for (size_t i = 2; i < COUNT; i++)
        words[i] = SLICE("client");
    assert_null(command_describe(command_set_builtin(), words, COUNT, &size, &forward));
    assert_true(forward);
    assert_int_equal(size, 0);
    free(words);
}

static void what_pause_of_writes_holds_back_is_what_redis_says_may_replicate(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        bool may_change;
    } cases[] = {
        {"SET", true},      {"FLUSHALL", true},  {"BLPOP", true}, {"PFCOUNT", true}, {"PUBLISH", true},
        {"SPUBLISH", true}, {"EVAL", true},      {"FCALL", true}, {"EVALSHA", true}, {"GET", false},
        {"EVAL_RO", false}, {"FCALL_RO", false}, {"WAIT", false}, {"EXEC", false},   {"CONFIG", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice word = slice_of(cases[i].name);
        const struct command *command = command_find(command_set_builtin(), &word, 1);
        if (command_may_change(command) != cases[i].may_change) fail_msg("%s", cases[i].name);
    }
}

static void what_a_replica_refuses_is_what_redis_calls_a_write(void **unused)
{
    (void)unused;
    static const struct {
        const char *words[2];
        bool is_write;
    } cases[] = {
        {{"SET"}, true},         {{"FLUSHALL"}, true},         {{"BLPOP"}, true},         {{"SORT"}, true},
        {{"SWAPDB"}, true},      {{"FUNCTION", "LOAD"}, true}, {{"XGROUP", "CREATE"}, true}, {{"GETEX"}, true},
        {{"GET"}, false},        {{"PFCOUNT"}, false},         {{"PUBLISH"}, false},      {{"EVAL"}, false},
        {{"SORT_RO"}, false},    {{"CONFIG", "SET"}, false},   {{"SCRIPT", "LOAD"}, false}, {{"WAIT"}, false},
        {{"CLIENT", "CACHING"}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool has_two = cases[i].words[1] != NULL;
        struct slice words[] = {slice_of(cases[i].words[0]), slice_of(has_two ? cases[i].words[1] : "")};
        const struct command *command = command_find(command_set_builtin(), words, has_two ? 2 : 1);
        if (command_is_write(command) != cases[i].is_write) fail_msg("%s", command->full_name);
    }
}

/* Twice, so that the second time it is remembered; the words of one round share their places. */
static void what_is_recalled_is_what_would_be_found(void **unused)
{
    (void)unused;
    static const char *const cases[] = {
        "GET k", "get k", "gEt k", "SET k v", "GET", "TTL k", "MGET a b", "mget", "HSET", "HGETALL k", "HGETALL",
        "SETRANGE k 0 v", "EX", "EXECEXEC", "EXEC", "GETT", "TEGT", "ABCD", "ABCDABCD", "CLIENT SETNAME x", "CLIENT FOO",
        "CLIENT", "CONFIG GET x", "OBJECT FREQ k", "XINFO STREAM k", "ZRANGEBYSCORE k", "INCRBY", "APPEND", "''", "''''''",
    };
    struct command_memo memo = {0};
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < LENGTH(cases); i++) {
            struct words words = split(cases[i]);
            for (int again = 0; again < 2; again++) {
                const struct command *row = command_recall(&memo, command_set_builtin(), words.items, words.count);
                if (row != find(cases[i])) fail_msg("%s: %s", cases[i], row ? row->full_name : "nothing");
            }
        }
    }
}

/* A word with NUL bytes is none of those that have blanks where it has none. */
static void a_word_is_recalled_by_all_of_its_bytes(void **unused)
{
    (void)unused;
    struct command_memo memo = {0};
    const struct slice get = SLICE("GET"), longer = {"GET\0", 4}, none = {"\0\0\0", 3};
    assert_null(command_recall(&memo, command_set_builtin(), &none, 1));
    assert_string_equal(command_recall(&memo, command_set_builtin(), &get, 1)->full_name, "get");
    assert_null(command_recall(&memo, command_set_builtin(), &longer, 1));
    assert_null(command_recall(&memo, command_set_builtin(), &none, 1));
    assert_string_equal(command_recall(&memo, command_set_builtin(), &get, 1)->full_name, "get");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_recalled_is_what_would_be_found),
        cmocka_unit_test(a_word_is_recalled_by_all_of_its_bytes),
        cmocka_unit_test(commands_are_found_whatever_the_case_of_their_letters),
        cmocka_unit_test(words_that_only_resemble_a_command_are_not_found),
        cmocka_unit_test(an_unknown_subcommand_gives_the_row_of_its_container),
        cmocka_unit_test(every_row_is_found_by_its_name_and_no_other),
        cmocka_unit_test(rows_keep_the_promises_that_routing_relies_on),
        cmocka_unit_test(rows_tell_where_a_command_goes),
        cmocka_unit_test(what_pause_of_writes_holds_back_is_what_redis_says_may_replicate),
        cmocka_unit_test(what_a_replica_refuses_is_what_redis_calls_a_write),
        cmocka_unit_test(what_would_end_the_node_or_change_its_role_is_known_by_name),
        cmocka_unit_test(what_reaches_into_another_database_is_known),
        cmocka_unit_test(arity_counts_the_words_or_the_least_of_them),
        cmocka_unit_test(only_what_may_wait_for_others_blocks),
        cmocka_unit_test(keys_are_found_where_the_command_has_them),
        cmocka_unit_test(keys_beyond_the_room_are_counted_but_not_written),
        cmocka_unit_test(key_positions_lie_within_the_command_whatever_it_says),
        cmocka_unit_test(commands_of_modules_are_learned_from_their_flags),
        cmocka_unit_test(learned_flags_are_words_and_a_blocking_command_is_pinned),
        cmocka_unit_test(replies_of_older_nodes_are_understood),
        cmocka_unit_test(subcommands_are_learned_for_containers_known_and_unknown),
        cmocka_unit_test(the_node_is_right_about_arity_but_not_about_what_is_answered_here),
        cmocka_unit_test(many_learned_commands_are_all_found),
        cmocka_unit_test(replies_that_are_not_of_command_are_refused),
        cmocka_unit_test(replies_broken_anywhere_are_refused_or_read_but_never_trusted),
        cmocka_unit_test(a_set_lives_until_its_last_holder_lets_go),
        cmocka_unit_test(questions_about_commands_are_answered_in_the_words_of_redis),
        cmocka_unit_test(without_a_node_rows_are_printed_as_redis_7_does),
        cmocka_unit_test(the_whole_answer_without_a_node_teaches_another_set_nothing_new),
        cmocka_unit_test(the_list_without_a_node_names_every_row_that_redis_has),
        cmocka_unit_test(the_nodes_own_words_are_passed_on),
        cmocka_unit_test(an_old_node_has_its_own_word_for_nothing_and_names_no_subcommands),
        cmocka_unit_test(a_question_whose_answer_would_be_huge_is_left_to_the_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
