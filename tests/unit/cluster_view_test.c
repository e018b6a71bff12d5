/* SPDX-License-Identifier: BSD-2-Clause */
/* What nodes of a Redis Cluster say of it. Replies are written short: [ ] is an array, 12 an integer, 'x' or
 * x a bulk string, ~ null. */
#include "routing/cluster_view.h"

#include "routing/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#define REPLY_SIZE 200000
#define ID_A       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B       "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C       "cccccccccccccccccccccccccccccccccccccccc"
#define NODE(id, port, ip, endpoint, role, health)                                                           \
    "[id " id " port " port " ip " ip " endpoint " endpoint " role " role                                    \
    " replication-offset 7 health " health "]"

/* ---- replies from short text ---- */

struct writer {
    const char *text;
    char *out;
    size_t size;
};

static void put(struct writer *writer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(writer->out + writer->size, REPLY_SIZE - writer->size, format, arguments);
    va_end(arguments);
    assert_true(size >= 0 && (size_t)size < REPLY_SIZE - writer->size);
    writer->size += (size_t)size;
}

static void put_value(struct writer *writer);

static void skip_blanks(struct writer *writer)
{
    writer->text += strspn(writer->text, " ");
}

static void put_array(struct writer *writer)
{
    char *body = malloc(REPLY_SIZE);
    struct writer inner = {.text = writer->text + 1, .out = body};
    int count = 0;
    for (skip_blanks(&inner); *inner.text != ']'; skip_blanks(&inner), count++)
        put_value(&inner);
    put(writer, "*%d\r\n%.*s", count, (int)inner.size, body);
    writer->text = inner.text + 1;
    free(body);
}

static void put_value(struct writer *writer)
{
    skip_blanks(writer);
    const char *text = writer->text;
    size_t size = strcspn(text, " ]");
    if (*text == '[') {
        put_array(writer);
        return;
    }
    if (*text == '\'') {
        size = strcspn(text + 1, "'");
        put(writer, "$%zu\r\n%.*s\r\n", size, (int)size, text + 1);
        size += 2;
    } else if (*text == '~') {
        put(writer, "$-1\r\n");
    } else if (strspn(text, "-0123456789") == size) {
        put(writer, ":%.*s\r\n", (int)size, text);
    } else {
        put(writer, "$%zu\r\n%.*s\r\n", size, (int)size, text);
    }
    writer->text += size;
}

typedef struct cluster_view *reader(struct slice reply, const char *asked_host,
                                    enum cluster_view_status *status);

static struct cluster_view *read_text(reader *read, const char *text, enum cluster_view_status *status)
{
    struct writer writer = {.text = text, .out = malloc(REPLY_SIZE)};
    put_value(&writer);
    struct cluster_view *view = read((struct slice){writer.out, writer.size}, "asked.example", status);
    free(writer.out); /* a view keeps nothing of the reply */
    assert_int_equal(view != NULL, *status == CLUSTER_VIEW_GOOD);
    return view;
}

static struct cluster_view *good(reader *read, const char *text)
{
    enum cluster_view_status status;
    struct cluster_view *view = read_text(read, text, &status);
    assert_int_equal(status, CLUSTER_VIEW_GOOD);
    return view;
}

static void assert_status(reader *read, const char *text, enum cluster_view_status wanted)
{
    enum cluster_view_status status;
    cluster_view_destroy(read_text(read, text, &status));
    if (status != wanted) print_error("%.200s\n", text);
    assert_int_equal(status, wanted);
}

/* Whose the slot is: the master's host:port. */
static const char *owner(const struct cluster_view *view, uint32_t slot)
{
    static char text[CLUSTER_HOST_SIZE + 8];
    uint16_t shard = view->slots[slot];
    if (shard == TOPOLOGY_NO_SHARD) return "nobody";
    uint32_t master = view->shards[shard].master;
    if (master == TOPOLOGY_NO_NODE) return "unknown";
    snprintf(text, sizeof(text), "%s:%u", view->nodes[master].host, view->nodes[master].port);
    return text;
}

/* ---- CLUSTER SHARDS ---- */

#define TWO_SHARDS                                                                                           \
    "[[slots [0 99 200 299] nodes [" NODE(ID_A, "1", "10.0.0.1", "10.0.0.1", "master", "online")             \
        NODE(ID_B, "2", "10.0.0.2", "10.0.0.2", "replica",                                                   \
             "loading") "]]"                                                                                 \
                        " [slots [100 199] nodes [" NODE(ID_C, "3", "10.0.0.3", "10.0.0.3", "master",        \
                                                         "fail") "]]]"

static void shards_have_slots_a_master_and_replicas(void **state)
{
    (void)state;
    struct cluster_view *view = good(cluster_view_read_shards, TWO_SHARDS);
    assert_int_equal(view->shard_count, 2);
    assert_int_equal(view->node_count, 3);
    assert_int_equal(view->slot_count, 300);
    assert_int_equal(view->shards[0].slot_count, 200);
    assert_string_equal(owner(view, 0), "10.0.0.1:1");
    assert_string_equal(owner(view, 99), "10.0.0.1:1");
    assert_string_equal(owner(view, 100), "10.0.0.3:3");
    assert_string_equal(owner(view, 299), "10.0.0.1:1");
    assert_string_equal(owner(view, 300), "nobody");
    assert_string_equal(view->nodes[1].id, ID_B);
    assert_int_equal(view->nodes[1].shard, 0);
    assert_false(view->nodes[1].is_master);
    assert_false(view->nodes[0].is_failing);
    assert_true(view->nodes[2].is_failing);
    cluster_view_destroy(view);
}

static void a_replaced_master_that_fails_is_not_the_master(void **state)
{
    (void)state;
    struct cluster_view *view = good(
        cluster_view_read_shards, "[[slots [0 16383] nodes [" NODE(ID_A, "1", "h1", "h1", "master", "online")
                                      NODE(ID_B, "2", "h2", "h2", "master", "fail") "]]]");
    assert_string_equal(owner(view, 5), "h1:1");
    assert_false(view->nodes[1].is_master);
    cluster_view_destroy(view);
    assert_status(cluster_view_read_shards,
                  "[[slots [0 16383] nodes [" NODE(ID_A, "1", "h1", "h1", "master", "online")
                      NODE(ID_B, "2", "h2", "h2", "master", "online") "]]]",
                  CLUSTER_VIEW_VAGUE);
}

static void endpoints_may_be_unknown(void **state)
{
    (void)state;
    static const struct {
        const char *ip, *endpoint, *host;
    } examples[] = {
        {"10.0.0.1", "10.0.0.1", "10.0.0.1"},
        {"10.0.0.1", "name.example", "name.example"},
        {"10.0.0.1", "?", "10.0.0.1"},
        {"10.0.0.1", "''", "asked.example"},
        {"10.0.0.1", "~", "asked.example"},
        {"''", "?", "asked.example"},
        {"''", "''", "asked.example"},
        {"~", "~", "asked.example"},
        {"::1", "::1", "::1"},
    };
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        char text[600], wanted[300];
        snprintf(wanted, sizeof(wanted), "%s:7000", examples[i].host);
        snprintf(text, sizeof(text),
                 "[[slots [0 1] nodes [[id " ID_A " port 7000 ip %s endpoint %s role master "
                 "health online]]]]",
                 examples[i].ip, examples[i].endpoint);
        struct cluster_view *view = good(cluster_view_read_shards, text);
        assert_string_equal(owner(view, 0), wanted);
        cluster_view_destroy(view);

        snprintf(text, sizeof(text), "[[0 1 [%s 7000 " ID_A " [ip %s]]]]", examples[i].endpoint,
                 examples[i].ip);
        view = good(cluster_view_read_slots, text);
        assert_string_equal(owner(view, 0), wanted);
        cluster_view_destroy(view);
    }
}

static void keys_that_nobody_knows_are_passed_over(void **state)
{
    (void)state;
    struct cluster_view *view =
        good(cluster_view_read_shards, "[[future [1 [2 ~] x] nodes [[zone [a b] id " ID_A
                                       " tls-port 9 ip h endpoint h role master health online]]"
                                       " slots [7 7] more ~]]");
    assert_string_equal(owner(view, 7), "h:9");
    cluster_view_destroy(view);
}

static void a_node_without_a_place_is_left_out(void **state)
{
    (void)state;
    struct cluster_view *view =
        good(cluster_view_read_shards, "[[slots [0 5] nodes [" NODE(ID_A, "0", "h1", "h1", "master", "online")
                                           NODE(ID_B, "70000", "h2", "h2", "replica", "online")
                                               NODE(ID_C, "3", "h3", "h3", "replica", "online") "]]]");
    assert_int_equal(view->node_count, 1);
    assert_string_equal(owner(view, 0), "unknown");
    cluster_view_destroy(view);
}

static void an_empty_cluster_has_no_slots(void **state)
{
    (void)state;
    struct cluster_view *view = good(cluster_view_read_shards, "[]");
    assert_int_equal(view->slot_count, 0);
    cluster_view_destroy(view);
    view = good(cluster_view_read_shards,
                "[[slots [] nodes [" NODE(ID_A, "1", "''", "''", "master", "online") "]]]");
    assert_int_equal(view->shard_count, 1);
    assert_int_equal(view->shards[0].master, 0);
    cluster_view_destroy(view);
}

static void bad_shards_are_refused(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "12",
        "~",
        "x",
        "[12]",
        "[~]",
        "[[slots]]",
        "[[slots 12]]",
        "[[slots [0]]]",
        "[[slots [0 x]]]",
        "[[slots [-1 5]]]",
        "[[slots [5 4]]]",
        "[[slots [0 16384]]]",
        "[[slots [0 9223372036854775807]]]",
        "[[slots [0 5 5 6]]]",
        "[[slots [0 5]] [slots [5 6]]]",
        "[[nodes 5]]",
        "[[nodes [5]]]",
        "[[nodes [[id]]]]",
        "[[nodes [[id 5]]]]",
        "[[nodes [[port x]]]]",
        "[[12 12]]",
    };
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
        assert_status(cluster_view_read_shards, replies[i], CLUSTER_VIEW_BAD);
}

static void replies_cut_anywhere_are_refused(void **state)
{
    (void)state;
    struct writer writer = {.text = TWO_SHARDS, .out = malloc(REPLY_SIZE)};
    put_value(&writer);
    for (size_t size = 0; size < writer.size; size++) {
        char *cut = malloc(size ? size : 1);
        enum cluster_view_status status;
        memcpy(cut, writer.out, size);
        assert_null(cluster_view_read_shards((struct slice){cut, size}, "h", &status));
        assert_int_equal(status, CLUSTER_VIEW_BAD);
        free(cut);
    }
    free(writer.out);
}

static void an_error_is_told_apart(void **state)
{
    (void)state;
    enum cluster_view_status status;
    assert_null(cluster_view_read_shards(SLICE("-ERR unknown subcommand\r\n"), "h", &status));
    assert_int_equal(status, CLUSTER_VIEW_REFUSED);
    assert_null(cluster_view_read_slots(SLICE("-LOADING\r\n"), "h", &status));
    assert_int_equal(status, CLUSTER_VIEW_REFUSED);
}

static void maps_of_resp3_are_read(void **state)
{
    (void)state;
    enum cluster_view_status status;
    struct slice reply = SLICE("*1\r\n%2\r\n$5\r\nslots\r\n*2\r\n:0\r\n:1\r\n$5\r\nnodes\r\n*1\r\n%4\r\n"
                               "$2\r\nid\r\n$1\r\na\r\n$4\r\nport\r\n:1\r\n$8\r\nendpoint\r\n_\r\n"
                               "$4\r\nrole\r\n$6\r\nmaster\r\n");
    struct cluster_view *view = cluster_view_read_shards(reply, "h", &status);
    assert_int_equal(status, CLUSTER_VIEW_GOOD);
    assert_string_equal(owner(view, 1), "h:1");
    cluster_view_destroy(view);
}

static void too_many_nodes_are_told(void **state)
{
    (void)state;
    char *text = malloc(REPLY_SIZE);
    size_t size = (size_t)snprintf(text, REPLY_SIZE, "[[slots [0 16383] nodes [");
    for (int i = 0; i <= CLUSTER_NODES_MAX; i++)
        size += (size_t)snprintf(text + size, REPLY_SIZE - size, "[id n%039d port %d endpoint h role %s]", i,
                                 i + 1, i ? "replica" : "master");
    snprintf(text + size, REPLY_SIZE - size, "]]]");
    assert_status(cluster_view_read_shards, text, CLUSTER_VIEW_LARGE);
    free(text);
}

/* ---- CLUSTER SLOTS ---- */

#define TWO_RANGES                                                                                           \
    "[[0 99 [10.0.0.1 1 " ID_A " []] [10.0.0.2 2 " ID_B " []]] [100 199 [10.0.0.3 3 " ID_C " []]]"           \
    " [200 299 [10.0.0.1 1 " ID_A "] [10.0.0.2 2 " ID_B "]]]"

static void ranges_make_the_same_view_as_shards(void **state)
{
    (void)state;
    struct cluster_view *ranges = good(cluster_view_read_slots, TWO_RANGES);
    struct cluster_view *shards = good(cluster_view_read_shards, TWO_SHARDS);
    assert_true(cluster_view_agrees(ranges, shards));
    assert_false(cluster_view_is_same(ranges, shards)); /* one is called failing, which ranges do not tell */
    shards->nodes[2].is_failing = false;
    assert_true(cluster_view_is_same(ranges, shards));
    cluster_view_destroy(ranges);
    cluster_view_destroy(shards);
}

static void servers_before_4_0_give_no_ids(void **state)
{
    (void)state;
    struct cluster_view *view =
        good(cluster_view_read_slots, "[[0 1 [h1 1] [h2 2]] [2 3 [h1 1] [h2 2]] [4 5 [h2 3]]]");
    assert_int_equal(view->node_count, 3);
    assert_int_equal(view->shard_count, 2);
    assert_string_equal(owner(view, 3), "h1:1");
    assert_string_equal(owner(view, 4), "h2:3");
    cluster_view_destroy(view);
}

static void bad_ranges_are_refused(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "12",
        "[12]",
        "[[]]",
        "[[0 1]]",
        "[[0 1 x]]",
        "[[0 1 [h]]]",
        "[[0 1 [h x]]]",
        "[[0 1 [1 1]]]",
        "[[0 1 [h 1 2]]]",
        "[[0 1 [h 1 a x]]]",
        "[[0 1 [h 1 a [x]]]]",
        "[[0 1 [h 1]] [1 2 [h 1]]]",
        "[[0 16384 [h 1]]]",
        "[[x 1 [h 1]]]",
    };
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
        assert_status(cluster_view_read_slots, replies[i], CLUSTER_VIEW_BAD);
}

/* ---- CLUSTER INFO ---- */

static void info_tells_state_and_epochs(void **state)
{
    (void)state;
    struct cluster_view *view = good(cluster_view_read_slots, TWO_RANGES);
    cluster_view_read_info(view, SLICE("-NOPERM\r\n"));
    assert_false(view->is_down);
    cluster_view_read_info(view, SLICE("$82\r\ncluster_state:fail\r\ncluster_size:3\r\n"
                                       "cluster_current_epoch:17\r\ncluster_my_epoch:9\r\n\r\n"));
    assert_true(view->is_down);
    assert_int_equal(view->epoch, 17);
    assert_int_equal(view->own_epoch, 9);
    cluster_view_read_info(view, SLICE("$16\r\ncluster_state:ok\r\n"));
    assert_false(view->is_down);
    cluster_view_destroy(view);
}

/* ---- comparing ---- */

static void views_differ_by_owner_node_and_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool agrees, is_same;
    } examples[] = {
        {TWO_RANGES, true, true},
        {"[[200 299 [10.0.0.1 1 " ID_A "] [10.0.0.2 2 " ID_B "]] [100 199 [10.0.0.3 3 " ID_C "]]"
         " [0 99 [10.0.0.1 1 " ID_A "]]]",
         true, true},
        {"[[0 98 [10.0.0.1 1 " ID_A "] [10.0.0.2 2 " ID_B "]] [99 199 [10.0.0.3 3 " ID_C "]]"
         " [200 299 [10.0.0.1 1 " ID_A "]]]",
         false, false},
        {"[[0 99 [10.0.0.1 1 " ID_A "]] [100 199 [10.0.0.3 3 " ID_C "]] [200 299 [10.0.0.1 1 " ID_A "]]]",
         true, false},
        {"[[0 99 [10.0.0.1 1 " ID_A "] [10.0.0.9 2 " ID_B "]] [100 199 [10.0.0.3 3 " ID_C "]]"
         " [200 299 [10.0.0.1 1 " ID_A "]]]",
         true, false},
        {"[[0 99 [10.0.0.1 1 " ID_A "]] [100 199 [10.0.0.3 3 " ID_C "] [10.0.0.2 2 " ID_B "]]"
         " [200 299 [10.0.0.1 1 " ID_A "]]]",
         true, false},
        {"[[0 99 [10.0.0.2 2 " ID_B "] [10.0.0.1 1 " ID_A "]] [100 199 [10.0.0.3 3 " ID_C "]]"
         " [200 299 [10.0.0.2 2 " ID_B "] [10.0.0.1 1 " ID_A "]]]",
         false, false},
    };
    struct cluster_view *view = good(cluster_view_read_slots, TWO_RANGES);
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        struct cluster_view *other = good(cluster_view_read_slots, examples[i].text);
        assert_int_equal(cluster_view_agrees(view, other), examples[i].agrees);
        assert_int_equal(cluster_view_is_same(view, other), examples[i].is_same);
        assert_int_equal(cluster_view_is_same(other, view), examples[i].is_same);
        cluster_view_destroy(other);
    }
    cluster_view_destroy(view);
}

static void a_view_names_masters_that_are_well(void **state)
{
    (void)state;
    struct cluster_view *view =
        good(cluster_view_read_shards,
             "[[slots [0 9] nodes [" NODE(ID_A, "1", "h", "h", "master", "online")
                 NODE(ID_B, "2", "h", "h", "replica",
                      "online") "]]"
                                " [slots [] nodes [" NODE(ID_C, "3", "h", "h", "master", "online") "]]]");
    assert_true(cluster_view_names(view, &view->nodes[0], true));
    assert_false(cluster_view_names(view, &view->nodes[1], true));
    assert_false(cluster_view_names(view, &view->nodes[2], true));
    assert_true(cluster_view_names(view, &view->nodes[2], false));
    view->nodes[0].is_failing = true;
    assert_false(cluster_view_names(view, &view->nodes[0], true));
    cluster_view_destroy(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_have_slots_a_master_and_replicas),
        cmocka_unit_test(a_replaced_master_that_fails_is_not_the_master),
        cmocka_unit_test(endpoints_may_be_unknown),
        cmocka_unit_test(keys_that_nobody_knows_are_passed_over),
        cmocka_unit_test(a_node_without_a_place_is_left_out),
        cmocka_unit_test(an_empty_cluster_has_no_slots),
        cmocka_unit_test(bad_shards_are_refused),
        cmocka_unit_test(replies_cut_anywhere_are_refused),
        cmocka_unit_test(an_error_is_told_apart),
        cmocka_unit_test(maps_of_resp3_are_read),
        cmocka_unit_test(too_many_nodes_are_told),
        cmocka_unit_test(ranges_make_the_same_view_as_shards),
        cmocka_unit_test(servers_before_4_0_give_no_ids),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(info_tells_state_and_epochs),
        cmocka_unit_test(views_differ_by_owner_node_and_place),
        cmocka_unit_test(a_view_names_masters_that_are_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
