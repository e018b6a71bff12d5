/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/scripts.h"

#include <stdlib.h>

#include "proxy/backend.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

enum { HOLDS_MS = 1000 };

struct script_queued {
    struct script_queued *older;
    enum script_use use;
    uint32_t place; /* among those of its transaction, from 1 */
    size_t size;
    char body[];
};

static void saw(struct worker *worker, struct slice body, enum script_use use);
static bool queue(struct client *client, struct slice body, enum script_use use);
static uint64_t hash_of(struct slice body, uint64_t seed);
static bool load(struct connection *connection, const struct script_sha *sha);
static enum script_place place_of(struct backend *backend, const struct script_sha *sha,
                                  const struct connection *connection);
static bool will_always_fail(struct slice error);
static void wake(const struct backend *backend, bool is_in_vain);
static bool sha_of_request(const struct request *request, struct script_sha *sha);

static struct worker *worker_of(const struct backend *backend)
{
    return backend->upstream->worker;
}

/* ---- the store, as one worker sees it ---- */

void scripts_sent(struct client *client, struct slice body, enum script_use use, bool is_queued)
{
    if (body.size > SCRIPT_BODY_MOST) return;
    if (!is_queued || !queue(client, body, use)) saw(client->worker, body, use);
}

/* False if there are too many, or memory is short. A command that had to wait comes twice. */
static bool queue(struct client *client, struct slice body, enum script_use use)
{
    struct script_queued *older = client->queued_scripts;
    if (older && older->use == use && slice_equals(body, (struct slice){older->body, older->size})) return true;
    uint32_t place = older ? older->place + 1 : 1;
    struct script_queued *script = place <= SCRIPTS_QUEUED_MOST ? malloc(sizeof *script + body.size) : NULL;
    if (!script) return false;
    *script = (struct script_queued){.older = older, .use = use, .place = place, .size = body.size};
    memcpy(script->body, body.bytes, body.size);
    client->queued_scripts = script;
    return true;
}

/* An array, and not the null one of a key that was watched and has changed. */
void scripts_carried_out(struct client *client, const struct request *request)
{
    const struct span *first = request->reply.first;
    bool is_done = first && first->bytes[0] == '*' && !(first->size > 1 && first->bytes[1] == '-');
    for (const struct script_queued *script = client->queued_scripts; script && is_done; script = script->older)
        saw(client->worker, (struct slice){script->body, script->size}, script->use);
    scripts_forget_queued(client);
}

void scripts_forget_queued(struct client *client)
{
    while (client->queued_scripts) {
        struct script_queued *script = client->queued_scripts;
        client->queued_scripts = script->older;
        free(script);
    }
}

/* Two bodies with the same hash: the second is not kept, which is no harm. */
static void saw(struct worker *worker, struct slice body, enum script_use use)
{
    struct script_store *store = worker->group->scripts;
    uint64_t flushes = script_store_flushes(store);
    uint64_t hash = hash_of(body, worker->scripts.seed);
    struct script_seen *seen = &worker->scripts.seen[hash % SCRIPTS_SEEN];
    bool is_same = seen->until_ms && seen->hash == hash && seen->size == body.size;
    if (is_same && use == SCRIPT_EVALUATED && seen->flushes == flushes && worker->now_ms < seen->until_ms)
        return;
    if (!is_same) script_sha_of(body, &seen->sha);
    seen->hash = hash;
    seen->size = body.size;
    seen->flushes = flushes;
    seen->until_ms = worker->now_ms + HOLDS_MS;
    script_store_add(store, &seen->sha, body, use);
}

bool scripts_has(struct worker *worker, struct slice word)
{
    struct script_store *store = worker->group->scripts;
    struct script_sha sha;
    if (!script_sha_read(word, &sha)) return false;
    uint64_t flushes = script_store_flushes(store);
    uint64_t additions = script_store_additions(store);
    struct script_asked *asked = &worker->scripts.asked[sha.bytes[0] % SCRIPTS_ASKED];
    bool holds = asked->flushes == flushes && asked->additions == additions &&
                 worker->now_ms < asked->until_ms && script_sha_equals(&asked->sha, &sha);
    if (!holds)
        *asked = (struct script_asked){.flushes = flushes,
                                       .additions = additions,
                                       .until_ms = worker->now_ms + HOLDS_MS,
                                       .sha = sha,
                                       .is_there = script_store_has(store, &sha)};
    return asked->is_there;
}

void scripts_flush(struct worker *worker)
{
    script_store_flush(worker->group->scripts);
}

void scripts_flushed(struct worker *worker)
{
    script_store_doubt(worker->group->scripts);
}

/* Eight bytes a step, each multiplied and folded; the seed keeps others from choosing what collides. */
static uint64_t hash_of(struct slice body, uint64_t seed)
{
    const uint64_t factor = 0x9e3779b97f4a7c15U;
    uint64_t hash = seed ^ (body.size * factor);
    size_t at = 0;
    for (; at + 8 <= body.size; at += 8) {
        uint64_t word;
        memcpy(&word, body.bytes + at, 8);
        hash = (hash ^ word) * factor;
        hash ^= hash >> 29;
    }
    for (; at < body.size; at++)
        hash = (hash ^ (unsigned char)body.bytes[at]) * factor;
    return hash ^ hash >> 32;
}

/* ---- the nodes ---- */

bool scripts_ready(struct client *client, struct slice word)
{
    struct backend *backend = client->dedicated ? client->dedicated->backend : NULL;
    struct script_sha sha;
    bool was_in_vain = client->script_is_missing;
    client->script_is_missing = false;
    if (was_in_vain || !backend || !backend->load->is_usable || !script_sha_read(word, &sha) ||
        place_of(backend, &sha, NULL) == SCRIPT_LOADED)
        return true;
    struct connection *lane = backend_lane(backend, client->database, client, LANE_ORDINARY);
    if (!lane || (place_of(backend, &sha, lane) == SCRIPT_ABSENT && !load(lane, &sha))) return true;
    client->worker->scripts.has_waiters = true;
    return client_stall(client, STALL_SCRIPT);
}

void scripts_prepare(struct connection *connection, const struct request *request)
{
    struct script_sha sha;
    if (sha_of_request(request, &sha)) scripts_bring(connection, &sha);
}

void scripts_bring(struct connection *connection, const struct script_sha *sha)
{
    if (place_of(connection->backend, sha, connection) == SCRIPT_ABSENT) load(connection, sha);
}

/* False if the script is not kept any more, or memory is short. */
static bool load(struct connection *connection, const struct script_sha *sha)
{
    struct backend *backend = connection->backend;
    struct worker *worker = worker_of(backend);
    struct chunk *body = script_store_copy(worker->group->scripts, sha);
    if (!body || !backend->scripts) {
        chunk_release(&worker->chunks, body);
        return false;
    }
    const struct slice words[] = {SLICE("SCRIPT"), SLICE("LOAD"), {body->bytes, body->filled}};
    bool is_asked = connection_ask(connection, words, 3, QUESTION_SCRIPT_LOAD);
    chunk_release(&worker->chunks, body);
    if (!is_asked) return false;
    script_book_loading(backend->scripts, sha, connection);
    connection->loads_scripts = true;
    return true;
}

/* The book is made when it is first needed. */
static enum script_place place_of(struct backend *backend, const struct script_sha *sha,
                                  const struct connection *connection)
{
    if (!backend->scripts) backend->scripts = script_book_create();
    if (!backend->scripts) return SCRIPT_ABSENT;
    script_book_follow(backend->scripts, script_store_flushes(worker_of(backend)->group->scripts));
    return script_book_find(backend->scripts, sha, connection);
}

/* An error is not told to anybody: it is the answer to EVALSHA that is. */
void scripts_loaded(struct connection *connection, const struct request *request, struct slice reply)
{
    struct backend *backend = connection->backend;
    struct script_sha sha;
    bool is_error = reply.bytes[0] == '-';
    if (backend->scripts && sha_of_request(request, &sha)) {
        script_book_follow(backend->scripts, script_store_flushes(worker_of(backend)->group->scripts));
        if (is_error && !will_always_fail(reply))
            script_book_drop(backend->scripts, &sha);
        else
            script_book_loaded(backend->scripts, &sha, connection);
    }
    wake(backend, is_error);
}

/* Not a script, or not allowed: trying again with each EVALSHA would help nobody. */
static bool will_always_fail(struct slice error)
{
    return slice_starts_with(error, SLICE("-ERR ")) || slice_starts_with(error, SLICE("-NOPERM "));
}

/* The node's own words, whole: a script that has run could answer with a similar error. */
bool scripts_should_repeat(struct connection *connection, struct request *request, struct slice error)
{
    struct backend *backend = connection->backend;
    struct script_sha sha;
    if (!slice_equals(error, SLICE("-NOSCRIPT No matching script. Please use EVAL.\r\n"))) return false;
    scripts_lost(backend);
    if (!request->client || request->client->inflight > 1 || request->was_repeated ||
        !sha_of_request(request, &sha) || !script_store_has(worker_of(backend)->group->scripts, &sha))
        return false;
    request->was_repeated = true;
    return true;
}

void scripts_lost(struct backend *backend)
{
    if (backend->scripts) script_book_clear(backend->scripts);
}

void scripts_connection_closed(struct connection *connection, enum outcome outcome)
{
    struct backend *backend = connection->backend;
    if (!backend->scripts) return;
    bool is_doubtful =
        outcome != OUTCOME_CUT || !backend->connections; /* nobody would notice that it restarts */
    if (is_doubtful)
        script_book_clear(backend->scripts);
    else if (connection->loads_scripts)
        script_book_drop_connection(backend->scripts, connection);
    if (connection->loads_scripts) wake(backend, true);
}

/* Those that wait in a transaction go on; in vain: without looking for the script once more, if they wait for this
 * node. */
static void wake(const struct backend *backend, bool is_in_vain)
{
    struct worker *worker = worker_of(backend);
    if (!worker->scripts.has_waiters) return;
    worker->scripts.has_waiters = false;
    for (struct client *client = worker->clients; client; client = client->next) {
        if (client->stall != STALL_SCRIPT) continue;
        client->script_is_missing = is_in_vain && client->dedicated && client->dedicated->backend == backend;
        client->stall = STALL_NONE;
        worker_resume_client(worker, client);
    }
}

/* EVALSHA names it; of a SCRIPT LOAD of ours it is made anew. */
static bool sha_of_request(const struct request *request, struct script_sha *sha)
{
    struct slice bytes = {request->bytes, request->size};
    size_t position = 0;
    struct resp_value value = {0};
    int word = request->question ? 2 : 1;
    bool is_there = resp_value_next(bytes, &position, &value);
    for (; is_there && word >= 0; word--)
        is_there = resp_value_next(bytes, &position, &value);
    if (!is_there) return false;
    if (!request->question) return script_sha_read(value.text, sha);
    script_sha_of(value.text, sha);
    return true;
}
