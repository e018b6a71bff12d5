/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/plan.h"

#include "routing/command_table.h"
#include "routing/resp.h"
#include "routing/slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

enum { SHARDS = 3, MOST_WORDS = 64 };

static const char *const kinds[] = {
    [PLAN_ANYWHERE] = "anywhere", [PLAN_PLACE] = "place",     [PLAN_SPLIT] = "split",
    [PLAN_CROSS] = "cross",       [PLAN_MASTERS] = "masters",   [PLAN_NODES] = "nodes",
};
static const char *const policies[MERGE_POLICY_COUNT] = {
    [MERGE_FIRST] = "first",   [MERGE_OK] = "ok",         [MERGE_SUM] = "sum",
    [MERGE_MIN] = "min",       [MERGE_MAX] = "max",       [MERGE_AND] = "and",
    [MERGE_OR] = "or",         [MERGE_ONE_OK] = "one_ok", [MERGE_PLACES] = "places",
    [MERGE_CONCAT] = "concat", [MERGE_LATEST] = "latest", [MERGE_UNION] = "union",
    [MERGE_PAIRS] = "pairs",   [MERGE_ANY] = "any",       [MERGE_TEXT] = "text",
    [MERGE_INFO] = "info",
};

/* Behind us, as each test wants it. */
static struct topology *cluster, *cluster_of_one, *single, *apart;
static struct planner planner;
static struct command_set *commands; /* NULL: the builtin ones */

static struct topology *topology_of(uint32_t shard_count, bool is_cluster)
{
    struct topology_node nodes[SHARDS] = {{.name = "a:1"}, {.name = "b:2"}, {.name = "c:3"}};
    struct topology_draft_shard shards[SHARDS] = {{.master = 0}, {.master = 1}, {.master = 2}};
    for (int i = 0; i < SHARDS; i++) {
        nodes[i].role = NODE_ROLE_MASTER;
        nodes[i].shard = (uint16_t)i;
        nodes[i].is_fit = true;
    }
    struct topology *topology = topology_create(&(struct topology_draft){
        .nodes = nodes,
        .node_count = shard_count,
        .shards = shards,
        .shard_count = shard_count,
        .is_cluster = is_cluster,
    });
    assert_non_null(topology);
    return topology;
}

static int make_topologies(void **state)
{
    (void)state;
    cluster = topology_of(SHARDS, true);
    cluster_of_one = topology_of(1, true);
    single = topology_of(1, false);
    apart = topology_of(SHARDS, false);
    return 0;
}

static int release_topologies(void **state)
{
    (void)state;
    topology_release(cluster);
    topology_release(cluster_of_one);
    topology_release(single);
    topology_release(apart);
    planner_finish(&planner);
    return 0;
}

/* The words of a text, which they point into. */
static size_t words_of(const char *text, struct slice *words)
{
    size_t count = 0;
    while (*text) {
        size_t size = strcspn(text, " ");
        assert_true(count < MOST_WORDS);
        words[count++] = (struct slice){text, size};
        text += size + (text[size] == ' ');
    }
    return count;
}

static const struct command *row_of(const struct slice *words, size_t count)
{
    return command_find(commands ? commands : command_set_builtin(), words, count);
}

/* The words of a RESP array. */
static void print_command(FILE *out, const char *bytes, size_t size)
{
    static const struct resp_limits limits = {INT32_MAX, 1 << 20, 1 << 24, false};
    struct resp_command state = {0};
    struct resp_arguments arguments = {0};
    const char *error;
    size_t used;
    assert_int_equal(resp_command_scan(&state, &limits, bytes, size, &arguments, &used, &error), RESP_DONE);
    assert_int_equal(used, size);
    assert_true(arguments.is_canonical);
    for (size_t i = 0; i < arguments.count; i++)
        fprintf(out, " %.*s", (int)arguments.items[i].size, arguments.items[i].bytes);
    resp_arguments_finish(&arguments);
}

static void print_pieces(FILE *out, const struct plan *plan, const struct command *row,
                         const struct slice *words)
{
    size_t most = plan_most_bytes(plan, row, words), used = 0;
    char *bytes = malloc(most); /* exactly, so that a sanitizer sees what goes beyond */
    size_t sizes[MOST_WORDS], starts[MOST_WORDS];
    assert_non_null(bytes);
    plan_encode(plan, row, words, bytes, sizes);
    for (uint32_t turn = 0; turn < plan->piece_count; turn++) {
        starts[plan->sequence[turn]] = used;
        used += sizes[plan->sequence[turn]];
    }
    assert_true(used <= most);
    for (uint32_t i = 0; i < plan->piece_count; i++) {
        fprintf(out, i == 0 ? ":" : " |");
        print_command(out, bytes + starts[i], sizes[i]);
        for (uint32_t k = 0; k < plan->pieces[i].count; k++) {
            uint32_t key = plan->order[plan->pieces[i].first + k];
            struct slice word = words[row->keys.first + (int)key * row->keys.step];
            assert_int_equal(plan->pieces[i].place, slot_of(word));
        }
    }
    free(bytes);
}

/* "split places: MGET a | MGET b"; the caller frees it. */
static char *plan_of(const struct topology *topology, const char *text, bool may_split)
{
    struct slice words[MOST_WORDS];
    size_t count = words_of(text, words), size;
    const struct command *row = row_of(words, count);
    struct plan plan;
    char *printed;
    FILE *out = open_memstream(&printed, &size);

    assert_true(plan_make(&planner, topology, row, words, count, may_split, &plan));
    fprintf(out, "%s", kinds[plan.kind]);
    if (plan.kind == PLAN_PLACE && plan.has_several_keys) fprintf(out, " several");
    if (plan.kind == PLAN_SPLIT || plan.kind == PLAN_MASTERS || plan.kind == PLAN_NODES) fprintf(out, " %s", policies[plan.merge]);
    if (plan.limit > 0) fprintf(out, " %u", plan.limit);
    if (plan.kind == PLAN_SPLIT) print_pieces(out, &plan, row, words);
    fclose(out);
    return printed;
}

static void assert_plan(const struct topology *topology, const char *text, bool may_split,
                        const char *expected)
{
    char *plan = plan_of(topology, text, may_split);
    if (strcmp(plan, expected) != 0) fail_msg("%s: %s, not %s", text, plan, expected);
    free(plan);
}

/* ---- keys ---- */

static void a_command_is_split_into_one_piece_per_slot_in_the_order_in_which_slots_occur(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"MGET {a}1 {b}1 {a}2", "split places: MGET {a}1 {a}2 | MGET {b}1"},
        {"MGET {b}1 {a}1 {b}2 {c}", "split places: MGET {b}1 {b}2 | MGET {a}1 | MGET {c}"},
        {"mget x y", "split places: mget x | mget y"},
        {"MGET x y x", "split places: MGET x x | MGET y"},
        {"MSET {a}1 v {b}1 w {a}2 x", "split ok: MSET {a}1 v {a}2 x | MSET {b}1 w"},
        {"MSET x 1 y 2 x 3", "split ok: MSET x 1 x 3 | MSET y 2"},
        {"DEL {a}1 {b}1 {a}1", "split sum: DEL {a}1 {a}1 | DEL {b}1"},
        {"UNLINK x y z", "split sum: UNLINK x | UNLINK y | UNLINK z"},
        {"EXISTS x x y", "split sum: EXISTS x x | EXISTS y"},
        {"TOUCH x y", "split sum: TOUCH x | TOUCH y"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_plan(cluster, cases[i][0], true, cases[i][1]);
}

static void what_is_in_one_slot_stays_whole(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"GET x", "place"},
        {"MGET x", "place"},
        {"MGET x x", "place several"},
        {"MGET {a}1 {a}2 {a}3", "place several"},
        {"MSET {a}1 v {a}2 w", "place several"},
        {"MSETNX {a}1 v {a}2 w", "place several"},
        {"RENAME {a}1 {a}2", "place several"},
        {"SUNIONSTORE {a}1 {a}2 {a}3", "place several"},
        {"EVAL s 2 {a}1 {a}2 {b}argument", "place several"},
        {"XREAD COUNT 1 STREAMS {a}1 {a}2 0 0", "place several"},
        {"MIGRATE h p {a} 0 1", "place"},
        {"WATCH {a}1 {a}2", "place several"},
        {"MGET a{x}1 a{x}2 a{x}3 a{x}4 a{x}5 a{x}6 a{x}7 a{x}8 a{x}9 a{x}10 a{x}11 a{x}12 a{x}13 a{x}14 "
         "a{x}15 "
         "a{x}16 a{x}17 a{x}18 a{x}19",
         "place several"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_plan(cluster, cases[i][0], true, cases[i][1]);
}

static void a_place_is_that_of_the_key(void **state)
{
    (void)state;
    struct slice words[MOST_WORDS];
    struct plan plan;
    size_t count = words_of("XADD {user}:7 * f v", words);
    assert_true(plan_make(&planner, cluster, row_of(words, count), words, count, true, &plan));
    assert_int_equal(plan.place, slot_of(SLICE("user")));
    assert_int_equal(plan.key_count, 1);
}

static void what_cannot_be_split_is_told_to_cross_slots(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "MSETNX x 1 y 2",
        "SUNION x y",
        "SINTER x y",
        "SDIFFSTORE d x y",
        "BITOP AND d x y",
        "RENAME x y",
        "RENAMENX x y",
        "COPY x y",
        "SMOVE x y m",
        "LMOVE x y LEFT LEFT",
        "RPOPLPUSH x y",
        "PFCOUNT x y",
        "PFMERGE d x y",
        "BLPOP x y 0",
        "ZUNION 2 x y",
        "ZUNIONSTORE d 1 x",
        "EVAL s 2 x y",
        "EVALSHA s 2 x y",
        "FCALL f 2 x y",
        "EVAL_RO s 2 x y",
        "SORT x STORE y",
        "XREAD STREAMS x y 0 0",
        "WATCH x y",
        "SSUBSCRIBE x y",
        "SUNSUBSCRIBE x y",
        "LCS x y",
        "SINTERCARD 2 x y",
        "LMPOP 2 x y LEFT",
        "ZRANGESTORE x y 0 -1",
        "GEORADIUS x 1 2 3 m STORE y",
        "XREADGROUP GROUP g c STREAMS x y > >",
        "BRPOPLPUSH x y 0",
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_plan(cluster, cases[i], true, "cross");
}

static void channels_of_shards_have_places_as_keys_have(void **state)
{
    (void)state;
    struct slice words[MOST_WORDS];
    struct plan plan;
    static const char *const cases[] = {"SPUBLISH news m", "SSUBSCRIBE news", "SUNSUBSCRIBE news"};
    for (size_t i = 0; i < LENGTH(cases); i++) {
        size_t count = words_of(cases[i], words);
        assert_true(plan_make(&planner, cluster, row_of(words, count), words, count, true, &plan));
        assert_int_equal(plan.kind, PLAN_PLACE);
        assert_int_equal(plan.place, slot_of(SLICE("news")));
    }
    assert_plan(cluster, "SUNSUBSCRIBE", true, "anywhere");
    assert_plan(cluster, "DEBUG OBJECT k", true, "place");
    assert_plan(cluster, "DEBUG SLEEP 0", true, "anywhere");
}

static void what_a_node_must_complain_of_goes_to_one(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "MSET x 1 y",   "MSET x 1 y 2 z", "MGET",        "DEL",        "EVAL s many x", "EVAL s 3 x y",
        "ZUNION 0 x",   "XREAD COUNT 1",  "NOSUCH x y",  "DBSIZE now", "KEYS",          "WAIT 1",
        "CONFIG SET a", "EVAL s 0",       "PUBLISH x m", "SCAN 0",
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_plan(cluster, cases[i], true, "anywhere");
    assert_plan(cluster, "MSET {a}1 v {a}2", true, "place several");
}

static void nothing_is_split_in_a_transaction(void **state)
{
    (void)state;
    assert_plan(cluster, "MGET x y", false, "cross");
    assert_plan(cluster, "MSET x 1 y 2", false, "cross");
    assert_plan(cluster, "FLUSHALL", false, "cross");
    assert_plan(cluster, "DBSIZE", false, "cross");
    assert_plan(cluster, "MGET {a}1 {a}2", false, "place several");
    assert_plan(cluster, "TIME", false, "anywhere");
}

static void one_shard_that_is_no_cluster_gets_everything_whole(void **state)
{
    (void)state;
    static const char *const with_keys[] = {"GET x", "MGET x y", "MSET x 1 y", "MSETNX x 1 y 2",
                                            "RENAME x y"};
    static const char *const without[] = {"DBSIZE", "FLUSHALL",    "KEYS *",
                                          "INFO",   "PUBLISH c m", "SWAPDB 0 1"};
    for (size_t i = 0; i < LENGTH(with_keys); i++)
        assert_plan(single, with_keys[i], true, "place");
    for (size_t i = 0; i < LENGTH(without); i++)
        assert_plan(single, without[i], true, "anywhere");
    assert_plan(single, "DBSIZE", false, "anywhere");
}

static void a_cluster_of_one_shard_still_refuses_several_slots(void **state)
{
    (void)state;
    assert_plan(cluster_of_one, "MGET x y", true, "split places: MGET x | MGET y");
    assert_plan(cluster_of_one, "RENAME x y", true, "cross");
    assert_plan(cluster_of_one, "DBSIZE", true, "anywhere");
    assert_plan(cluster_of_one, "FLUSHALL", false, "anywhere");
}

static void masters_that_know_nothing_of_each_other_are_all_told(void **state)
{
    (void)state;
    assert_plan(apart, "PUBLISH c m", true, "anywhere");
    assert_plan(apart, "SORT k BY w*", true, "cross");
    assert_plan(apart, "SORT_RO k LIMIT 0 BY GET # GET w*", true, "cross");
    assert_plan(apart, "SORT k BY w* GET #", false, "cross");
    assert_plan(apart, "SWAPDB 0 1", true, "masters ok");
    assert_plan(apart, "DBSIZE", true, "masters sum");
    assert_plan(cluster, "PUBLISH c m", true, "anywhere");
    assert_plan(cluster, "SWAPDB 0 1", true, "anywhere");
}

/* ---- all masters ---- */

static const struct {
    const char *text, *plan;
} spread[] = {
    {"ACL DELUSER u", "nodes max"},
    {"ACL LOAD", "nodes ok"},
    {"ACL LOG", "nodes concat"},
    {"ACL SAVE", "nodes ok"},
    {"ACL SETUSER u on", "nodes ok"},
    {"BGREWRITEAOF", "masters ok"},
    {"BGSAVE", "masters ok"},
    {"COMMANDLOG GET -1 slow", "nodes latest"},
    {"COMMANDLOG LEN slow", "nodes sum"},
    {"COMMANDLOG RESET slow", "nodes ok"},
    {"CONFIG RESETSTAT", "nodes ok"},
    {"CONFIG REWRITE", "nodes ok"},
    {"CONFIG SET maxmemory 0", "nodes ok"},
    {"DBSIZE", "masters sum"},
    {"DEL x y", "split sum: DEL x | DEL y"},
    {"EXISTS x y", "split sum: EXISTS x | EXISTS y"},
    {"FLUSHALL ASYNC", "masters ok"},
    {"FLUSHDB", "masters ok"},
    {"FUNCTION DELETE f", "masters ok"},
    {"FUNCTION FLUSH", "masters ok"},
    {"FUNCTION KILL", "masters one_ok"},
    {"FUNCTION LOAD text", "masters first"},
    {"FUNCTION RESTORE dump", "masters ok"},
    {"INFO memory", "masters info"},
    {"KEYS *", "masters concat"},
    {"LASTSAVE", "masters min"},
    {"LATENCY DOCTOR", "nodes text"},
    {"LATENCY GRAPH e", "nodes text"},
    {"LATENCY HISTORY e", "nodes concat"},
    {"LATENCY LATEST", "nodes concat"},
    {"LATENCY RESET", "nodes sum"},
    {"MEMORY DOCTOR", "masters text"},
    {"MEMORY MALLOC-STATS", "masters text"},
    {"MEMORY PURGE", "masters ok"},
    {"MGET x y", "split places: MGET x | MGET y"},
    {"MODULE LOAD m", "nodes ok"},
    {"MODULE LOADEX m", "nodes ok"},
    {"MODULE UNLOAD m", "nodes ok"},
    {"MSET x 1 y 2", "split ok: MSET x 1 | MSET y 2"},
    {"PUBSUB CHANNELS", "masters union"},
    {"PUBSUB NUMPAT", "masters sum"},
    {"PUBSUB NUMSUB c", "masters pairs"},
    {"PUBSUB SHARDCHANNELS", "masters union"},
    {"PUBSUB SHARDNUMSUB c", "masters pairs"},
    {"RANDOMKEY", "masters any"},
    {"SAVE", "masters ok"},
    {"SCRIPT EXISTS sha", "masters and"},
    {"SCRIPT FLUSH", "nodes ok"},
    {"SCRIPT KILL", "masters one_ok"},
    {"SCRIPT LOAD text", "nodes first"},
    {"SLOWLOG GET", "nodes latest 10"},
    {"SLOWLOG LEN", "nodes sum"},
    {"SLOWLOG RESET", "nodes ok"},
    {"TOUCH x y", "split sum: TOUCH x | TOUCH y"},
    {"UNLINK x y", "split sum: UNLINK x | UNLINK y"},
};

/* Marks what the rows say is spread; returns how many that are. */
static size_t count_spread(const struct command *rows, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        bool is_for_many = rows[i].spread == SPREAD_MASTERS || rows[i].spread == SPREAD_NODES;
        bool is_spread = rows[i].spread == SPREAD_KEYS || is_for_many;
        assert_true(rows[i].spread != SPREAD_KEYS ||
                    (rows[i].keys.finder == KEYS_RANGE && rows[i].keys.last == -1));
        assert_true(!is_for_many || rows[i].keys.finder == KEYS_NONE);
        found += is_spread + count_spread(rows[i].subcommands, rows[i].subcommand_count);
    }
    return found;
}

static void every_command_for_several_nodes_has_its_policy(void **state)
{
    (void)state;
    assert_int_equal(count_spread(command_table, command_table_size),
                     LENGTH(spread)); /* none is missing here */
    for (size_t i = 0; i < LENGTH(spread); i++)
        assert_plan(cluster, spread[i].text, true, spread[i].plan);
}

static void what_is_of_one_node_goes_to_one(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "WAIT 1 0",
        "WAITAOF 1 1 0",
        "CONFIG GET *",
        "FUNCTION LIST",
        "FUNCTION DUMP",
        "FUNCTION STATS",
        "MEMORY STATS",
        "LATENCY HISTOGRAM",
        "ACL LIST",
        "MODULE LIST",
        "SCRIPT NOSUCH",
        "TIME",
        "LOLWUT",
        "ROLE",
        "SLOWLOG HELP",
        "CONFIG HELP",
        "SUBSCRIBE channel",
        "CLUSTER INFO",
        "EXEC",
        "MULTI",
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_plan(cluster, cases[i], true, "anywhere");
}

static void the_number_of_entries_asked_for_is_known(void **state)
{
    (void)state;
    assert_plan(cluster, "SLOWLOG GET 3", true, "nodes latest 3");
    assert_plan(cluster, "SLOWLOG GET 0", true, "nodes latest");
    assert_plan(cluster, "SLOWLOG GET -1", true, "nodes latest");
    assert_plan(cluster, "SLOWLOG GET x", true, "nodes latest");
    assert_plan(cluster, "SLOWLOG GET 99999999999", true, "nodes latest");
    assert_plan(cluster, "COMMANDLOG GET 7 slow", true, "nodes latest 7");
}

/* ---- learned from a node ---- */

/* Blanks stand for line ends. */
static struct command_set *learn(const char *text)
{
    char bytes[2048];
    size_t size = 0;
    for (const char *c = text; *c; c++) {
        assert_true(size + 2 < sizeof(bytes));
        if (*c == ' ') bytes[size++] = '\r';
        bytes[size++] = *c == ' ' ? '\n' : *c;
    }
    struct command_set *set = command_set_create((struct slice){bytes, size});
    assert_non_null(set);
    return set;
}

#define KEYED(name, last, tips) "*10 " name " :-2 *1 +write :1 " last " :1 *0 " tips "*0 *0 "
#define KEYLESS(name, tips)     "*10 " name " :-1 *1 +readonly :0 :0 :0 *0 " tips "*0 *0 "

static void tips_of_a_node_say_what_becomes_of_its_own_commands(void **state)
{
    (void)state;
    static const struct {
        const char *row, *text, *plan;
    } cases[] = {
        {KEYED("$3 m.x", ":-1", "*1 +request_policy:multi_shard "), "M.X a b", "split places: M.X a | M.X b"},
        {KEYED("$3 m.x", ":-2", "*1 +request_policy:multi_shard "), "m.x a b {a}2 $.path",
         "split places: m.x a {a}2 $.path | m.x b $.path"},
        {KEYED("$3 m.x", ":-1", "*2 $26 request_policy:multi_shard $23 response_policy:agg_sum "), "M.X a b",
         "split sum: M.X a | M.X b"},
        {KEYED("$3 m.x", ":-1", "*0 "), "M.X a b", "cross"},
        {KEYLESS("$3 m.x", "*2 +request_policy:all_shards +response_policy:agg_max "), "M.X", "masters max"},
        {KEYLESS("$3 m.x", "*2 +request_policy:all_nodes +response_policy:one_succeeded "), "M.X",
         "nodes one_ok"},
        {KEYLESS("$3 m.x", "*2 +response_policy:agg_logical_or +request_policy:all_shards "), "M.X",
         "masters or"},
        {KEYLESS("$3 m.x", "*2 +nondeterministic_output +request_policy:all_shards "), "M.X",
         "masters concat"},
        {KEYLESS("$3 m.x", "*2 +request_policy:all_shards +response_policy:special "), "M.X", "anywhere"},
        {KEYLESS("$3 m.x", "*1 +request_policy:special "), "M.X", "anywhere"},
        {KEYLESS("$3 m.x", "*1 +request_policy:unheard_of "), "M.X", "anywhere"},
        {KEYLESS("$3 m.x", "*1 +response_policy:agg_sum "), "M.X", "anywhere"},
        {KEYLESS("$3 m.x", "*2 +request_policy:all_shards :7 "), "M.X", "anywhere"},
        {KEYLESS("$3 m.x", "*-1 "), "M.X", "anywhere"},
        /* A command of ours stays what it is. */
        {KEYLESS("$6 dbsize", "*1 +request_policy:special "), "DBSIZE", "masters sum"},
        {"*10 $4 mget :-3 *1 +readonly :1 :-1 :1 *0 *0 *0 *0 ", "MGET a b", "split places: MGET a | MGET b"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        char text[512];
        snprintf(text, sizeof(text), "*1 %s", cases[i].row);
        commands = learn(text);
        assert_plan(cluster, cases[i].text, true, cases[i].plan);
        command_set_release(commands);
        commands = NULL;
    }
}

/* ---- many keys ---- */

/* Each piece once, those of a shard in one run and in their order. */
static void assert_sequence(const struct topology *topology, const struct plan *plan)
{
    bool is_left[SHARDS] = {false};
    uint32_t sum = 0;
    for (uint32_t i = 0; i < plan->piece_count; i++) {
        uint32_t piece = plan->sequence[i], before = i > 0 ? plan->sequence[i - 1] : 0;
        assert_true(piece < plan->piece_count);
        sum += piece;
        uint16_t shard = topology_shard_of(topology, plan->pieces[piece].place);
        uint16_t shard_before = topology_shard_of(topology, plan->pieces[before].place);
        assert_false(is_left[shard]);
        if (i > 0 && shard == shard_before) assert_true(before < piece);
        if (i > 0 && shard != shard_before) is_left[shard_before] = true;
    }
    assert_int_equal(sum, plan->piece_count * (plan->piece_count - 1) / 2);
}

static void pieces_of_one_shard_are_side_by_side_in_the_sequence(void **state)
{
    (void)state;
    const struct topology *const topologies[] = {cluster, cluster_of_one, apart};
    static const char *const texts[] = {"MGET a b", "MGET a b c d e f g h i j k l m n o p", "MSET x 1 y 2 z 3 x 4",
                                        "DEL {a}1 {b}1 {c}1 {a}2 {d}1 {e}1 {b}2 {f}1"};
    for (size_t i = 0; i < LENGTH(topologies) * LENGTH(texts); i++) {
        const struct topology *topology = topologies[i % LENGTH(topologies)];
        struct slice words[MOST_WORDS];
        struct plan plan;
        size_t count = words_of(texts[i / LENGTH(topologies)], words);
        assert_true(plan_make(&planner, topology, row_of(words, count), words, count, true, &plan));
        if (plan.kind == PLAN_SPLIT)
            assert_sequence(topology, &plan);
    }
}

/* A planner that has seen much must not let it show in what comes after. */
static void many_keys_are_all_there_once_and_the_next_plan_knows_nothing_of_them(void **state)
{
    (void)state;
    enum { KEYS = 20000 };
    static struct slice words[KEYS + 1];
    static char texts[KEYS][16];
    static bool is_seen[KEYS];
    struct plan plan;
    words[0] = SLICE("MGET");
    for (int i = 0; i < KEYS; i++)
        words[i + 1] = (struct slice){texts[i], (size_t)snprintf(texts[i], sizeof(texts[i]), "key:%d", i)};

    assert_true(plan_make(&planner, cluster, row_of(words, 1), words, KEYS + 1, true, &plan));
    assert_int_equal(plan.kind, PLAN_SPLIT);
    assert_int_equal(plan.key_count, KEYS);
    uint32_t next = 0;
    for (uint32_t i = 0; i < plan.piece_count; i++) {
        const struct plan_piece *piece = &plan.pieces[i];
        assert_int_equal(piece->first, next);
        assert_true(piece->count > 0);
        for (uint32_t k = 0; k < piece->count; k++) {
            uint32_t key = plan.order[piece->first + k];
            assert_false(is_seen[key]);
            is_seen[key] = true;
            assert_int_equal(slot_of(words[key + 1]), piece->place);
            assert_true(k == 0 || plan.order[piece->first + k - 1] < key); /* the client's order */
            assert_true(k > 0 || i == 0 ||
                        plan.order[plan.pieces[i - 1].first] < key); /* where slots first occur */
        }
        next += piece->count;
    }
    assert_int_equal(next, KEYS);
    assert_sequence(cluster, &plan);
    assert_plan(cluster, "MGET key:7 key:3 key:7", true, "split places: MGET key:7 key:7 | MGET key:3");
}

static void planner_that_is_finished_can_be_used_again(void **state)
{
    (void)state;
    struct planner own = {0};
    struct slice words[] = {SLICE("DEL"), SLICE("a"), SLICE("b")};
    struct plan plan;
    for (int i = 0; i < 2; i++) {
        assert_true(plan_make(&own, cluster, row_of(words, 3), words, 3, true, &plan));
        assert_int_equal(plan.piece_count, 2);
        planner_finish(&own);
    }
    planner_finish(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_is_split_into_one_piece_per_slot_in_the_order_in_which_slots_occur),
        cmocka_unit_test(what_is_in_one_slot_stays_whole),
        cmocka_unit_test(a_place_is_that_of_the_key),
        cmocka_unit_test(what_cannot_be_split_is_told_to_cross_slots),
        cmocka_unit_test(channels_of_shards_have_places_as_keys_have),
        cmocka_unit_test(what_a_node_must_complain_of_goes_to_one),
        cmocka_unit_test(nothing_is_split_in_a_transaction),
        cmocka_unit_test(one_shard_that_is_no_cluster_gets_everything_whole),
        cmocka_unit_test(a_cluster_of_one_shard_still_refuses_several_slots),
        cmocka_unit_test(masters_that_know_nothing_of_each_other_are_all_told),
        cmocka_unit_test(every_command_for_several_nodes_has_its_policy),
        cmocka_unit_test(what_is_of_one_node_goes_to_one),
        cmocka_unit_test(the_number_of_entries_asked_for_is_known),
        cmocka_unit_test(tips_of_a_node_say_what_becomes_of_its_own_commands),
        cmocka_unit_test(pieces_of_one_shard_are_side_by_side_in_the_sequence),
        cmocka_unit_test(many_keys_are_all_there_once_and_the_next_plan_knows_nothing_of_them),
        cmocka_unit_test(planner_that_is_finished_can_be_used_again),
    };
    return cmocka_run_group_tests(tests, make_topologies, release_topologies);
}
