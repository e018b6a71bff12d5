/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/census.h"

#include "proxy/client_filter.h"
#include "proxy/ears.h"
#include "proxy/gather.h"
#include "proxy/worker.h"

#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A client's line in the text that was gathered. */
struct line {
    uint64_t id;
    size_t offset, size;
};

struct census {
    struct gather gather; /* first: the gather is the census */
    struct client_filter filter;
    size_t asked; /* bytes of the command */

    FILE *stream;
    char *text;
    size_t text_size;
    struct line *lines;
    size_t line_count, line_room;
    bool is_short; /* of memory: some line is missing */

    uint64_t killed;
    bool kills_asker;
    bool is_old_form; /* CLIENT KILL addr */
};

static enum gather_way list_visit(struct gather *gather, struct worker *worker);
static void list_conclude(struct gather *gather, struct client *client);
static enum gather_way kill_visit(struct gather *gather, struct worker *worker);
static void kill_conclude(struct gather *gather, struct client *client);
static void census_destroy(struct gather *gather);

static const struct gather_kind list_kind = {list_visit, list_conclude, census_destroy};
static const struct gather_kind kill_kind = {kill_visit, kill_conclude, census_destroy};

static struct census *census_create(struct client *client, const struct command_at_hand *at_hand);
static bool refuse(struct census *census, struct client *client, const char *error);
static void add_line(struct census *census, const struct client *client);
static void append_lines(const struct census *census, FILE *out);
static int by_id(const void *a, const void *b);

bool census_list(struct client *client, const struct command_at_hand *at_hand)
{
    char error[256];
    struct census *census = census_create(client, at_hand);
    if (!census || !(census->stream = open_memstream(&census->text, &census->text_size)))
        return refuse(census, client, "-ERR pointsman: out of memory; not executed");
    if (!client_filter_read(&census->filter, at_hand->words + 2, at_hand->count - 2, FILTER_MANY_IDS, error,
                            sizeof error))
        return refuse(census, client, error);
    return gather_send(&census->gather, &list_kind, client);
}

/* CLIENT KILL addr:port, or CLIENT KILL with criteria, which spares the one who asks unless SKIPME no. */
bool census_kill(struct client *client, const struct command_at_hand *at_hand)
{
    char error[256] = "-ERR pointsman: out of memory; not executed";
    struct census *census = census_create(client, at_hand);
    if (!census) return refuse(census, client, error);
    census->is_old_form = at_hand->count == 3;
    bool is_good = census->is_old_form
                       ? client_filter_address(&census->filter, at_hand->words[2])
                       : client_filter_read(&census->filter, at_hand->words + 2, at_hand->count - 2,
                                            FILTER_ONE_ID, error, sizeof error);
    if (!is_good) return refuse(census, client, error);
    client_filter_skip_asker(&census->filter, !census->is_old_form);
    return gather_send(&census->gather, &kill_kind, client);
}

static struct census *census_create(struct client *client, const struct command_at_hand *at_hand)
{
    struct census *census = calloc(1, sizeof *census);
    if (census) {
        census->asked = at_hand->bytes.size;
        census->filter.asker_id = client->id;
    }
    return census;
}

static bool refuse(struct census *census, struct client *client, const char *error)
{
    if (census) census_destroy(&census->gather);
    client_reply_error(client, "%s", error);
    return true;
}

static void census_destroy(struct gather *gather)
{
    struct census *census = (struct census *)gather;
    if (census->stream) fclose(census->stream);
    free(census->text);
    free(census->lines);
    client_filter_finish(&census->filter);
    free(census);
}

/* ---- CLIENT LIST ---- */

static enum gather_way list_visit(struct gather *gather, struct worker *worker)
{
    struct census *census = (struct census *)gather;
    for (const struct client *client = worker->clients; client; client = client->next) {
        if (client_filter_matches(&census->filter, client)) add_line(census, client);
    }
    return GATHER_ON;
}

static void add_line(struct census *census, const struct client *client)
{
    if (census->line_count == census->line_room) {
        size_t room = census->line_room ? 2 * census->line_room : 64;
        struct line *larger = realloc(census->lines, room * sizeof *larger);
        census->is_short |= !larger;
        if (!larger) return;
        census->lines = larger;
        census->line_room = room;
    }
    assert(census->lines);
    char text[CENSUS_LINE_MAX];
    size_t size = census_describe(client, client->id == census->gather.client_id ? census->asked : 0, text,
                                  sizeof text);
    struct line *last = census->line_count ? &census->lines[census->line_count - 1] : NULL;
    size_t offset = last ? last->offset + last->size : 0;
    census->is_short |= fwrite(text, 1, size, census->stream) != size;
    census->lines[census->line_count++] = (struct line){client->id, offset, size};
}

static void list_conclude(struct gather *gather, struct client *client)
{
    struct census *census = (struct census *)gather;
    char *text = NULL;
    size_t text_size = 0;
    FILE *lines = open_memstream(&text, &text_size);
    census->is_short |= fflush(census->stream) != 0 || !lines;
    if (lines) {
        append_lines(census, lines);
        census->is_short |= fclose(lines) != 0;
    }
    if (census->is_short)
        client_reply(client, error_reply(ERROR_MEMORY));
    else
        client_reply_text(client, (struct slice){text, text_size});
    free(text);
}

/* In the order of their ids, which is that in which they came, or in the order in which ids were asked for.
 */
static void append_lines(const struct census *census, FILE *out)
{
    const struct client_criterion_value *wanted = &census->filter.values[false][CRITERION_ID];
    size_t count = wanted->is_set ? wanted->id_count : census->line_count;
    if (census->line_count > 0) qsort(census->lines, census->line_count, sizeof *census->lines, by_id);
    for (size_t i = 0; census->line_count > 0 && i < count; i++) {
        const struct line *line = &census->lines[i];
        if (wanted->is_set) {
            struct line key = {.id = (uint64_t)wanted->ids[i]};
            line = bsearch(&key, census->lines, census->line_count, sizeof key, by_id);
        }
        if (line) fwrite(census->text + line->offset, 1, line->size, out);
    }
}

static int by_id(const void *a, const void *b)
{
    uint64_t one = ((const struct line *)a)->id, other = ((const struct line *)b)->id;
    return (one > other) - (one < other);
}

/* ---- CLIENT KILL ---- */

/* The one who asks gets its reply first. */
static enum gather_way kill_visit(struct gather *gather, struct worker *worker)
{
    struct census *census = (struct census *)gather;
    for (struct client *client = worker->clients, *next; client; client = next) {
        next = client->next;
        if (!client_filter_matches(&census->filter, client)) continue;
        census->killed++;
        if (client->id == gather->client_id)
            census->kills_asker = true;
        else
            client_close(client, "killed by CLIENT KILL");
    }
    return GATHER_ON;
}

static void kill_conclude(struct gather *gather, struct client *client)
{
    const struct census *census = (const struct census *)gather;
    char count[32];
    int size = snprintf(count, sizeof count, ":%" PRIu64 "\r\n", census->killed);
    if (!census->is_old_form)
        client_reply(client, (struct slice){count, (size_t)size});
    else if (census->killed > 0)
        client_reply(client, SLICE("+OK\r\n"));
    else
        client_reply_error(client, "-ERR No such client");
    if (census->kills_asker) client->is_quitting = client->is_ending = true;
}

/* ---- a line ---- */

size_t census_describe(const struct client *client, size_t asked, char *line, size_t size)
{
    char address[CENSUS_ADDRESS_MAX], local_address[CENSUS_ADDRESS_MAX], flags[CENSUS_FLAGS_MAX];
    census_address(client, true, address, sizeof address);
    census_address(client, false, local_address, sizeof local_address);
    census_flags(client, flags);
    const struct session *session = &client->session;
    uint64_t now_ms = client->worker->now_ms;
    size_t names = session_bytes(session) + ears_bytes(client);
    size_t kept = asked + (client->input ? client->input->filled - client->input_start : 0);
    int written = snprintf(
        line, size,
        "id=%llu addr=%s laddr=%s fd=%d name=%s age=%llu idle=%llu flags=%s db=%u sub=%u psub=%u ssub=%u "
        "multi=%d "
        "qbuf=%zu qbuf-free=0 argv-mem=%zu multi-mem=0 rbs=0 rbp=0 obl=0 oll=%u omem=%zu tot-mem=%zu "
        "events=%s%s "
        "cmd=%s user=default redir=%d resp=%u lib-name=%s lib-ver=%s\n",
        (unsigned long long)client->id, address, local_address, client->io.fd,
        client->name ? client->name : "", (unsigned long long)((now_ms - client->created_ms) / 1000),
        (unsigned long long)((now_ms - client->active_ms) / 1000), flags, client->database,
        subscriptions_count(&session->subscriptions[SESSION_CHANNELS]),
        subscriptions_count(&session->subscriptions[SESSION_PATTERNS]),
        subscriptions_count(&session->subscriptions[SESSION_SHARD_CHANNELS]), session->in_multi ? (int)session->queued : -1, kept,
        asked, client->pending, client->output.bytes, sizeof *client + kept + client->output.bytes + client->pushed.bytes + names,
        client->io.events & EV_READ ? "r" : "", client->io.events & EV_WRITE ? "w" : "", client->last_command,
        session->is_tracking ? 0 : -1, session_protocol(session), client->library_name ? client->library_name : "",
        client->library_version ? client->library_version : "");
    if (written < 0) return 0;
    if ((size_t)written < size) return (size_t)written;
    line[size - 2] = '\n';
    return size - 1;
}

/* In Redis' order. */
void census_flags(const struct client *client, char flags[CENSUS_FLAGS_MAX])
{
    const struct session *session = &client->session;
    const struct {
        char letter;
        bool is_set;
    } all[] = {
        {'O', session->is_monitoring}, {'P', session_is_subscribed(session)},
        {'x', session->in_multi},      {'b', client->blocking || client->waits || client->stall == STALL_PAUSED},
        {'t', session->is_tracking},   {'B', session->tracks_by_prefix},
        {'U', client->is_unix},        {'e', client->is_not_evicted},
    };
    size_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].is_set) flags[count++] = all[i].letter;
    }
    if (count == 0) flags[count++] = 'N';
    flags[count] = '\0';
}

/* Both ends of a unix socket have the path that is listened on. */
void census_address(const struct client *client, bool is_peer, char *text, size_t size)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN] = "";
    int status = is_peer && !client->is_unix
                     ? getpeername(client->io.fd, (struct sockaddr *)&address, &length)
                     : getsockname(client->io.fd, (struct sockaddr *)&address, &length);
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
    const struct sockaddr_un *local = (const struct sockaddr_un *)&address;
    if (status != 0) {
        snprintf(text, size, "?:0");
    } else if (address.ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(text, size, "%s:%u", host, ntohs(v4->sin_port));
    } else if (address.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(text, size, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        snprintf(text, size, "%s:0", length > sizeof(sa_family_t) ? local->sun_path : "unix");
    }
}
