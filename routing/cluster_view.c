/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/cluster_view.h"

#include "routing/resp.h"

#include <stdlib.h>

/* Progress through a reply. Once the status is not good, nothing more is read. */
struct reading {
    struct slice reply;
    size_t position;
    const char *asked_host;
    struct cluster_view *view;
    enum cluster_view_status status;
};

/* What is told of one node; all slices are empty where nothing is. */
struct told_node {
    struct slice id, endpoint, hostname, ip, role, health;
    int64_t port, tls_port;
};

/* Where the value of a key of a node goes. */
struct told_field {
    const char *key;
    size_t offset;
    bool is_number;
};

#define TOLD(name)        offsetof(struct told_node, name)
#define READING_NO_NUMBER INT64_MIN

static const struct told_field told_fields[] = {
    {"id", TOLD(id), false},     {"port", TOLD(port), true},          {"tls-port", TOLD(tls_port), true},
    {"ip", TOLD(ip), false},     {"endpoint", TOLD(endpoint), false}, {"hostname", TOLD(hostname), false},
    {"role", TOLD(role), false}, {"health", TOLD(health), false},
};

typedef void read_body(struct reading *reading);

static struct cluster_view *view_read(struct slice reply, const char *asked_host, read_body *body,
                                      enum cluster_view_status *status);
static void read_shards(struct reading *reading);
static void read_shard(struct reading *reading);
static void read_shard_slots(struct reading *reading, uint16_t shard);
static void read_shard_nodes(struct reading *reading, uint16_t shard);
static void read_node_of_shard(struct reading *reading, uint16_t shard);
static void read_node_field(struct reading *reading, struct told_node *told);
static void settle_master(struct reading *reading, uint16_t shard, uint32_t first_node);
static void read_slots(struct reading *reading);
static void read_range(struct reading *reading);
static uint32_t read_node_of_range(struct reading *reading);
static void read_metadata(struct reading *reading, struct told_node *told);
static uint16_t shard_of_master(struct reading *reading, uint32_t master);
static uint16_t add_shard(struct reading *reading);
static uint32_t add_node(struct reading *reading, const struct told_node *told);
static bool told_place(const struct reading *reading, const struct told_node *told,
                       struct cluster_node *node);
static bool told_host(const struct reading *reading, const struct told_node *told, struct slice *host);
static bool is_unknown(struct slice endpoint);
static bool text_copy(char *out, size_t size, struct slice text);
static void give_slots(struct reading *reading, int64_t first, int64_t last, uint16_t shard);
static bool next(struct reading *reading, struct resp_value *value);
static void skip(struct reading *reading);
static int64_t next_count(struct reading *reading);
static int64_t next_number(struct reading *reading);
static struct slice next_text(struct reading *reading);
static void fail(struct reading *reading, enum cluster_view_status status);
static bool is_good(const struct reading *reading);
static uint32_t find_node(const struct cluster_view *view, const struct cluster_node *node);
static bool owners_agree(const struct cluster_view *a, const struct cluster_view *b, uint16_t in_a,
                         uint16_t in_b);
static bool info_number(struct slice text, const char *key, uint64_t *number);

struct cluster_view *cluster_view_read_shards(struct slice reply, const char *asked_host,
                                              enum cluster_view_status *status)
{
    return view_read(reply, asked_host, read_shards, status);
}

struct cluster_view *cluster_view_read_slots(struct slice reply, const char *asked_host,
                                             enum cluster_view_status *status)
{
    return view_read(reply, asked_host, read_slots, status);
}

void cluster_view_destroy(struct cluster_view *view)
{
    if (!view) return;
    free(view->nodes);
    free(view->shards);
    free(view);
}

void cluster_view_read_info(struct cluster_view *view, struct slice reply)
{
    struct resp_value value;
    size_t position = 0;
    if (!resp_value_next(reply, &position, &value) || value.is_null) return;
    if (value.type != '$' && value.type != '=') return;

    static const char state[] = "cluster_state:";
    const char *found = memmem(value.text.bytes, value.text.size, state, sizeof(state) - 1);
    if (found) {
        struct slice word = {found + sizeof(state) - 1, 0};
        word.size = value.text.size - (size_t)(word.bytes - value.text.bytes);
        view->is_down = !slice_starts_with(word, SLICE("ok"));
    }
    info_number(value.text, "cluster_current_epoch:", &view->epoch);
    info_number(value.text, "cluster_my_epoch:", &view->own_epoch);
}

bool cluster_node_is(const struct cluster_node *a, const struct cluster_node *b)
{
    if (a->id[0] && b->id[0]) return strcmp(a->id, b->id) == 0;
    return a->port == b->port && strcasecmp(a->host, b->host) == 0;
}

bool cluster_view_agrees(const struct cluster_view *a, const struct cluster_view *b)
{
    uint16_t last_a = TOPOLOGY_NO_SHARD, last_b = TOPOLOGY_NO_SHARD;
    for (uint32_t slot = 0; slot < TOPOLOGY_SLOTS; slot++) {
        uint16_t in_a = a->slots[slot], in_b = b->slots[slot];
        if (slot && in_a == last_a && in_b == last_b) continue;
        if (!owners_agree(a, b, in_a, in_b)) return false;
        last_a = in_a;
        last_b = in_b;
    }
    return true;
}

bool cluster_view_is_same(const struct cluster_view *a, const struct cluster_view *b)
{
    if (a->node_count != b->node_count || a->shard_count != b->shard_count) return false;
    for (uint32_t i = 0; i < a->node_count; i++) {
        const struct cluster_node *in_a = &a->nodes[i];
        uint32_t at = i;
        if (!cluster_node_is(in_a, &b->nodes[at])) at = find_node(b, in_a);
        if (at == TOPOLOGY_NO_NODE) return false;
        const struct cluster_node *in_b = &b->nodes[at];
        bool is_alike = in_a->is_master == in_b->is_master && in_a->is_failing == in_b->is_failing &&
                        in_a->port == in_b->port && strcmp(in_a->host, in_b->host) == 0;
        if (!is_alike || !owners_agree(a, b, in_a->shard, in_b->shard)) return false;
    }
    return cluster_view_agrees(a, b);
}

bool cluster_view_names(const struct cluster_view *view, const struct cluster_node *master, bool has_slots)
{
    uint32_t at = find_node(view, master);
    if (at == TOPOLOGY_NO_NODE || view->nodes[at].is_failing) return false;
    if (view->nodes[at].shard >= view->shard_count) return false;
    const struct cluster_shard *shard = &view->shards[view->nodes[at].shard];
    return shard->master == at && (shard->slot_count || !has_slots);
}

const char *cluster_view_fault(enum cluster_view_status status)
{
    static const char *const words[] = {
        [CLUSTER_VIEW_GOOD] = "",
        [CLUSTER_VIEW_REFUSED] = "refuses to tell",
        [CLUSTER_VIEW_BAD] = "an odd reply",
        [CLUSTER_VIEW_VAGUE] = "it names two masters of one shard",
        [CLUSTER_VIEW_LARGE] = "more nodes than the 1000 that can be used",
        [CLUSTER_VIEW_NO_MEMORY] = "out of memory",
    };
    return words[status];
}

static struct cluster_view *view_read(struct slice reply, const char *asked_host, read_body *body,
                                      enum cluster_view_status *status)
{
    struct reading reading = {.reply = reply, .asked_host = asked_host, .status = CLUSTER_VIEW_GOOD};
    reading.view = calloc(1, sizeof(*reading.view));
    if (!reading.view) {
        *status = CLUSTER_VIEW_NO_MEMORY;
        return NULL;
    }
    for (uint32_t slot = 0; slot < TOPOLOGY_SLOTS; slot++)
        reading.view->slots[slot] = TOPOLOGY_NO_SHARD;

    if (reply.size && reply.bytes[0] == '-')
        fail(&reading, CLUSTER_VIEW_REFUSED);
    else
        body(&reading);
    *status = reading.status;
    if (is_good(&reading)) return reading.view;
    cluster_view_destroy(reading.view);
    return NULL;
}

/* ---- CLUSTER SHARDS: shards of "slots" [first, last, ...] and "nodes" of keys and values ---- */

static void read_shards(struct reading *reading)
{
    int64_t count = next_count(reading);
    for (int64_t i = 0; i < count && is_good(reading); i++)
        read_shard(reading);
}

static void read_shard(struct reading *reading)
{
    int64_t words = next_count(reading);
    uint16_t shard = add_shard(reading);
    uint32_t first_node = is_good(reading) ? reading->view->node_count : 0;
    for (int64_t i = 0; i + 1 < words && is_good(reading); i += 2) {
        struct slice key = next_text(reading);
        if (slice_is(key, "slots"))
            read_shard_slots(reading, shard);
        else if (slice_is(key, "nodes"))
            read_shard_nodes(reading, shard);
        else
            skip(reading);
    }
    if (words % 2) fail(reading, CLUSTER_VIEW_BAD);
    if (is_good(reading)) settle_master(reading, shard, first_node);
}

static void read_shard_slots(struct reading *reading, uint16_t shard)
{
    int64_t count = next_count(reading);
    if (count % 2) fail(reading, CLUSTER_VIEW_BAD);
    for (int64_t i = 0; i < count && is_good(reading); i += 2) {
        int64_t first = next_number(reading);
        give_slots(reading, first, next_number(reading), shard);
    }
}

static void read_shard_nodes(struct reading *reading, uint16_t shard)
{
    int64_t count = next_count(reading);
    for (int64_t i = 0; i < count && is_good(reading); i++)
        read_node_of_shard(reading, shard);
}

static void read_node_of_shard(struct reading *reading, uint16_t shard)
{
    struct told_node told = {.port = 0};
    int64_t words = next_count(reading);
    for (int64_t i = 0; i + 1 < words && is_good(reading); i += 2)
        read_node_field(reading, &told);
    if (words % 2) fail(reading, CLUSTER_VIEW_BAD);
    if (!is_good(reading)) return;

    uint32_t at = add_node(reading, &told);
    if (at == TOPOLOGY_NO_NODE) return;
    reading->view->nodes[at].shard = shard;
    reading->view->nodes[at].is_master = slice_is(told.role, "master");
    reading->view->nodes[at].is_failing = slice_is(told.health, "fail") || slice_is(told.health, "failed");
}

static void read_node_field(struct reading *reading, struct told_node *told)
{
    struct slice key = next_text(reading);
    for (size_t i = 0; i < sizeof(told_fields) / sizeof(told_fields[0]); i++) {
        const struct told_field *field = &told_fields[i];
        void *to = (char *)told + field->offset;
        if (!slice_is(key, field->key)) continue;
        if (field->is_number) {
            *(int64_t *)to = next_number(reading);
            return;
        }
        *(struct slice *)to = next_text(reading);
        return;
    }
    skip(reading);
}

/* Redis 7.2 keeps a master that was replaced in its shard, still called a master, until it is back as a
 * replica. */
static void settle_master(struct reading *reading, uint16_t shard, uint32_t first_node)
{
    struct cluster_view *view = reading->view;
    uint32_t *master = &view->shards[shard].master;
    uint32_t well = 0;
    for (uint32_t i = first_node; i < view->node_count; i++) {
        const struct cluster_node *node = &view->nodes[i];
        if (!node->is_master) continue;
        if (*master == TOPOLOGY_NO_NODE || !node->is_failing) *master = i;
        well += !node->is_failing;
    }
    if (well > 1) fail(reading, CLUSTER_VIEW_VAGUE);
    for (uint32_t i = first_node; i < view->node_count; i++)
        view->nodes[i].is_master = i == *master;
}

/* ---- CLUSTER SLOTS: ranges [first, last, master, replica ...], nodes [endpoint, port, id, metadata] ---- */

static void read_slots(struct reading *reading)
{
    int64_t count = next_count(reading);
    for (int64_t i = 0; i < count && is_good(reading); i++)
        read_range(reading);
}

static void read_range(struct reading *reading)
{
    int64_t count = next_count(reading);
    int64_t first = next_number(reading), last = next_number(reading);
    if (count < 3) fail(reading, CLUSTER_VIEW_BAD);
    if (!is_good(reading)) return;

    uint32_t master = read_node_of_range(reading);
    uint16_t shard = shard_of_master(reading, master);
    give_slots(reading, first, last, shard);
    for (int64_t i = 3; i < count && is_good(reading); i++) {
        uint32_t replica = read_node_of_range(reading);
        if (is_good(reading) && replica != TOPOLOGY_NO_NODE && !reading->view->nodes[replica].is_master)
            reading->view->nodes[replica].shard = shard;
    }
}

/* Its index; one that was told before is not added again. */
static uint32_t read_node_of_range(struct reading *reading)
{
    struct told_node told = {.port = 0};
    int64_t count = next_count(reading);
    told.endpoint = next_text(reading);
    told.port = next_number(reading);
    if (count < 2) fail(reading, CLUSTER_VIEW_BAD);
    if (count > 2) told.id = next_text(reading);
    if (count > 3) read_metadata(reading, &told);
    for (int64_t i = 4; i < count && is_good(reading); i++)
        skip(reading);
    if (!is_good(reading)) return TOPOLOGY_NO_NODE;

    struct cluster_node node = {.port = 0};
    if (!told_place(reading, &told, &node)) return TOPOLOGY_NO_NODE;
    uint32_t known = find_node(reading->view, &node);
    return known == TOPOLOGY_NO_NODE ? add_node(reading, &told) : known;
}

static void read_metadata(struct reading *reading, struct told_node *told)
{
    int64_t words = next_count(reading);
    if (words % 2) fail(reading, CLUSTER_VIEW_BAD);
    for (int64_t i = 0; i < words && is_good(reading); i += 2) {
        if (slice_is(next_text(reading), "ip"))
            told->ip = next_text(reading);
        else
            skip(reading);
    }
}

static uint16_t shard_of_master(struct reading *reading, uint32_t master)
{
    if (!is_good(reading)) return TOPOLOGY_NO_SHARD;
    struct cluster_view *view = reading->view;
    bool is_known = master != TOPOLOGY_NO_NODE && view->nodes[master].is_master;
    if (is_known) return view->nodes[master].shard;

    uint16_t shard = add_shard(reading);
    if (!is_good(reading) || master == TOPOLOGY_NO_NODE) return shard;
    view->nodes[master].is_master = true;
    view->nodes[master].shard = shard;
    view->shards[shard].master = master;
    return shard;
}

/* ---- what a view consists of ---- */

static uint16_t add_shard(struct reading *reading)
{
    struct cluster_view *view = reading->view;
    if (!is_good(reading)) return TOPOLOGY_NO_SHARD;
    if (view->shard_count == TOPOLOGY_SHARDS_MAX) {
        fail(reading, CLUSTER_VIEW_LARGE);
        return TOPOLOGY_NO_SHARD;
    }
    if (view->shard_count == view->shard_capacity) {
        uint32_t capacity = view->shard_capacity ? view->shard_capacity * 2 : 16;
        struct cluster_shard *shards = realloc(view->shards, capacity * sizeof(*shards));
        if (!shards) {
            fail(reading, CLUSTER_VIEW_NO_MEMORY);
            return TOPOLOGY_NO_SHARD;
        }
        view->shards = shards;
        view->shard_capacity = capacity;
    }
    view->shards[view->shard_count] = (struct cluster_shard){.master = TOPOLOGY_NO_NODE};
    return (uint16_t)view->shard_count++;
}

/* TOPOLOGY_NO_NODE if it has no place where it could be reached: then it is left out, or reading has failed.
 */
static uint32_t add_node(struct reading *reading, const struct told_node *told)
{
    struct cluster_view *view = reading->view;
    struct cluster_node node = {.shard = TOPOLOGY_NO_SHARD};
    if (!told_place(reading, told, &node)) return TOPOLOGY_NO_NODE;
    if (view->node_count == CLUSTER_NODES_MAX) {
        fail(reading, CLUSTER_VIEW_LARGE);
        return TOPOLOGY_NO_NODE;
    }
    if (view->node_count == view->node_capacity) {
        uint32_t capacity = view->node_capacity ? view->node_capacity * 2 : 16;
        struct cluster_node *nodes = realloc(view->nodes, capacity * sizeof(*nodes));
        if (!nodes) {
            fail(reading, CLUSTER_VIEW_NO_MEMORY);
            return TOPOLOGY_NO_NODE;
        }
        view->nodes = nodes;
        view->node_capacity = capacity;
    }
    view->nodes[view->node_count] = node;
    return view->node_count++;
}

static bool told_place(const struct reading *reading, const struct told_node *told, struct cluster_node *node)
{
    struct slice host;
    int64_t port = told->port ? told->port : told->tls_port;
    if (port <= 0 || port > UINT16_MAX) return false;
    node->port = (uint16_t)port;
    return text_copy(node->id, sizeof(node->id), told->id) && told_host(reading, told, &host) &&
           text_copy(node->host, sizeof(node->host), host);
}

static bool told_host(const struct reading *reading, const struct told_node *told, struct slice *host)
{
    *host = told->endpoint;
    if (slice_equals(*host, SLICE("?"))) *host = told->ip;
    if (is_unknown(*host)) *host = slice_of(reading->asked_host);
    return host->size != 0;
}

static bool is_unknown(struct slice endpoint)
{
    return endpoint.size == 0 || slice_equals(endpoint, SLICE("?"));
}

static bool text_copy(char *out, size_t size, struct slice text)
{
    if (text.size >= size || memchr(text.bytes ? text.bytes : "", '\0', text.size)) return false;
    if (text.size && text.bytes) memcpy(out, text.bytes, text.size);
    out[text.size] = '\0';
    return true;
}

/* Each slot is given once, which bounds the work. */
static void give_slots(struct reading *reading, int64_t first, int64_t last, uint16_t shard)
{
    if (!is_good(reading)) return;
    if (first < 0 || last < first || last >= TOPOLOGY_SLOTS) {
        fail(reading, CLUSTER_VIEW_BAD);
        return;
    }
    for (int64_t slot = first; slot <= last; slot++) {
        if (reading->view->slots[slot] != TOPOLOGY_NO_SHARD) {
            fail(reading, CLUSTER_VIEW_BAD);
            return;
        }
        reading->view->slots[slot] = shard;
    }
    uint32_t count = (uint32_t)(last - first + 1);
    reading->view->shards[shard].slot_count += count;
    reading->view->slot_count += count;
}

/* ---- reading ---- */

static bool next(struct reading *reading, struct resp_value *value)
{
    *value = (struct resp_value){.type = '\0'};
    if (is_good(reading) && !resp_value_next(reading->reply, &reading->position, value))
        fail(reading, CLUSTER_VIEW_BAD);
    return is_good(reading);
}

static void skip(struct reading *reading)
{
    if (is_good(reading) && !resp_value_skip(reading->reply, &reading->position))
        fail(reading, CLUSTER_VIEW_BAD);
}

/* The number of elements of a list, or of keys and values of a map; 0 after a failure. */
static int64_t next_count(struct reading *reading)
{
    struct resp_value value;
    if (!next(reading, &value)) return 0;
    bool is_list = value.type == '*' || value.type == '%' || value.type == '~';
    if (is_list && !value.is_null) return value.integer;
    fail(reading, CLUSTER_VIEW_BAD);
    return 0;
}

static int64_t next_number(struct reading *reading)
{
    struct resp_value value;
    if (next(reading, &value) && value.type == ':') return value.integer;
    fail(reading, CLUSTER_VIEW_BAD);
    return READING_NO_NUMBER;
}

/* Null is as good as empty. */
static struct slice next_text(struct reading *reading)
{
    struct resp_value value;
    if (!next(reading, &value)) return SLICE("");
    bool is_text = value.type == '$' || value.type == '+' || value.type == '=';
    if (!is_text && !value.is_null) fail(reading, CLUSTER_VIEW_BAD);
    return is_text && !value.is_null ? value.text : SLICE("");
}

/* What failed first counts. */
static void fail(struct reading *reading, enum cluster_view_status status)
{
    if (is_good(reading)) reading->status = status;
}

static bool is_good(const struct reading *reading)
{
    return reading->status == CLUSTER_VIEW_GOOD;
}

/* ---- comparing ---- */

static uint32_t find_node(const struct cluster_view *view, const struct cluster_node *node)
{
    for (uint32_t i = 0; i < view->node_count; i++) {
        if (cluster_node_is(&view->nodes[i], node)) return i;
    }
    return TOPOLOGY_NO_NODE;
}

static bool owners_agree(const struct cluster_view *a, const struct cluster_view *b, uint16_t in_a,
                         uint16_t in_b)
{
    if (in_a >= a->shard_count || in_b >= b->shard_count)
        return in_a >= a->shard_count && in_b >= b->shard_count;
    uint32_t master_a = a->shards[in_a].master, master_b = b->shards[in_b].master;
    if (master_a == TOPOLOGY_NO_NODE || master_b == TOPOLOGY_NO_NODE) return master_a == master_b;
    return cluster_node_is(&a->nodes[master_a], &b->nodes[master_b]);
}

/* ---- CLUSTER INFO ---- */

static bool info_number(struct slice text, const char *key, uint64_t *number)
{
    const char *found = memmem(text.bytes, text.size, key, strlen(key));
    if (!found) return false;
    uint64_t sum = 0;
    for (const char *at = found + strlen(key); at < text.bytes + text.size && *at >= '0' && *at <= '9'; at++)
        sum = sum * 10 + (uint64_t)(*at - '0');
    *number = sum;
    return true;
}
