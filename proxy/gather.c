/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/gather.h"

#include "proxy/mailbox.h"
#include "proxy/worker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

enum client_type { TYPE_ANY, TYPE_NORMAL, TYPE_MASTER, TYPE_REPLICA, TYPE_PUBSUB };

struct gather {
    struct letter letter; /* first: the letter is the gather */
    struct worker *origin;
    uint64_t client_id;
    uint32_t visited;
    enum client_type type;
    uint64_t *ids; /* NULL = all */
    size_t id_count;
    FILE *stream;
    char *text;
    size_t text_size;
};

static bool read_options(struct gather *gather, struct client *client, const struct command_at_hand *at_hand);
static bool read_type(struct gather *gather, struct client *client, struct slice word);
static bool read_ids(struct gather *gather, struct client *client, const struct slice *words, size_t count);
static void gather_visit(struct letter *letter, void *receiver);
static void gather_come_home(struct gather *gather);
static bool is_wanted(const struct gather *gather, const struct client *client);
static void gather_destroy(struct gather *gather);
static void describe_address(int fd, bool is_peer, char *text, size_t size);

bool gather_clients(struct client *client, const struct command_at_hand *at_hand)
{
    struct gather *gather = calloc(1, sizeof *gather);
    if (!gather || !(gather->stream = open_memstream(&gather->text, &gather->text_size))) {
        free(gather);
        client_close(client, "out of memory");
        return true;
    }
    if (!read_options(gather, client, at_hand)) {
        gather_destroy(gather);
        return true;
    }
    gather->origin = client->worker;
    gather->client_id = client->id;
    gather->letter.deliver = gather_visit;
    mailbox_post(&client->worker->group->workers[0]->mailbox, &gather->letter);
    client_stall(client, STALL_GATHER);
    return true;
}

size_t gather_describe(const struct client *client, char *line, size_t size)
{
    char address[128], local_address[128];
    describe_address(client->io.fd, true, address, sizeof address);
    describe_address(client->io.fd, false, local_address, sizeof local_address);
    const struct session *session = &client->session;
    uint64_t now_ms = client->worker->now_ms;
    size_t kept = client->input ? client->input->filled - client->input_start : 0;
    char flags[8];
    snprintf(flags, sizeof flags, "%s%s%s%s", session->is_monitoring ? "O" : "", session_is_subscribed(session) ? "P" : "",
             session->in_multi ? "x" : "", client->blocking ? "b" : "");
    int written = snprintf(
        line, size,
        "id=%llu addr=%s laddr=%s fd=%d name=%s age=%llu idle=%llu flags=%s db=%u sub=%u psub=%u ssub=%u multi=%d "
        "qbuf=%zu qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=%u omem=%zu tot-mem=%zu events=%s%s "
        "cmd=%s user=default redir=-1 resp=%d lib-name=%s lib-ver=%s\n",
        (unsigned long long)client->id, address, local_address, client->io.fd, client->name ? client->name : "",
        (unsigned long long)((now_ms - client->created_ms) / 1000), (unsigned long long)((now_ms - client->active_ms) / 1000),
        flags[0] ? flags : "N", client->database, subscriptions_count(&session->subscriptions[SESSION_CHANNELS]),
        subscriptions_count(&session->subscriptions[SESSION_PATTERNS]),
        subscriptions_count(&session->subscriptions[SESSION_SHARD_CHANNELS]),
        session->in_multi ? (int)session->queued : -1, kept, client->pending, client->output.bytes,
        sizeof *client + kept + client->output.bytes + session_bytes(session), client->io.events & EV_READ ? "r" : "",
        client->io.events & EV_WRITE ? "w" : "", client->last_command, session_protocol(session), client->library_name ? client->library_name : "",
        client->library_version ? client->library_version : "");
    if (written < 0)
        return 0;
    if ((size_t)written < size)
        return (size_t)written;
    line[size - 2] = '\n';
    return size - 1;
}

/* CLIENT LIST [TYPE normal|master|replica|pubsub] [ID id ...] (https://redis.io/docs/latest/commands/client-list/) */
static bool read_options(struct gather *gather, struct client *client, const struct command_at_hand *at_hand)
{
    const struct slice *words = at_hand->words;
    if (at_hand->count == 2)
        return true;
    if (at_hand->count == 4 && slice_is(words[2], "TYPE"))
        return read_type(gather, client, words[3]);
    if (at_hand->count > 3 && slice_is(words[2], "ID"))
        return read_ids(gather, client, words + 3, at_hand->count - 3);
    client_reply_error(client, "-ERR syntax error");
    return false;
}

static bool read_type(struct gather *gather, struct client *client, struct slice word)
{
    static const struct {
        const char *name;
        enum client_type type;
    } types[] = {{"normal", TYPE_NORMAL}, {"master", TYPE_MASTER}, {"replica", TYPE_REPLICA},
                 {"slave", TYPE_REPLICA}, {"pubsub", TYPE_PUBSUB}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (slice_is(word, types[i].name)) {
            gather->type = types[i].type;
            return true;
        }
    }
    client_reply_error(client, "-ERR Unknown client type '%.*s'", (int)(word.size < 100 ? word.size : 100), word.bytes);
    return false;
}

static bool read_ids(struct gather *gather, struct client *client, const struct slice *words, size_t count)
{
    gather->ids = calloc(count, sizeof *gather->ids);
    for (size_t i = 0; gather->ids && i < count; i++) {
        char number[24];
        char *end = number;
        size_t size = words[i].size < sizeof number ? words[i].size : 0;
        memcpy(number, words[i].bytes, size);
        number[size] = '\0';
        gather->ids[i] = strtoull(number, &end, 10);
        if (size == 0 || *end || number[0] < '0' || number[0] > '9') {
            client_reply_error(client, "-ERR Invalid client ID");
            return false;
        }
    }
    gather->id_count = count;
    return gather->ids != NULL;
}

static void gather_visit(struct letter *letter, void *receiver)
{
    struct gather *gather = (struct gather *)letter;
    struct worker *worker = receiver;
    struct worker_group *group = worker->group;
    if (atomic_load(&group->is_ending)) {
        gather_destroy(gather);
        return;
    }
    if (gather->visited == group->count) {
        gather_come_home(gather);
        return;
    }
    for (const struct client *client = worker->clients; client; client = client->next) {
        char line[2048];
        if (is_wanted(gather, client))
            fwrite(line, 1, gather_describe(client, line, sizeof line), gather->stream);
    }
    gather->visited++;
    struct worker *next = gather->visited < group->count ? group->workers[gather->visited] : gather->origin;
    mailbox_post(&next->mailbox, &gather->letter);
}

static void gather_come_home(struct gather *gather)
{
    fclose(gather->stream);
    gather->stream = NULL;
    struct worker *worker = gather->origin;
    struct client *client = worker->clients;
    while (client && client->id != gather->client_id)
        client = client->next;
    if (client && client->stall == STALL_GATHER) {
        client_reply_text(client, (struct slice){gather->text, gather->text_size});
        client->stall = STALL_NONE;
        worker_resume_client(worker, client);
    }
    gather_destroy(gather);
}

static bool is_wanted(const struct gather *gather, const struct client *client)
{
    bool is_pubsub = session_is_subscribed(&client->session);
    switch (gather->type) {
    case TYPE_ANY:
        break;
    case TYPE_NORMAL:
        return !is_pubsub;
    case TYPE_PUBSUB:
        return is_pubsub;
    case TYPE_MASTER:
    case TYPE_REPLICA:
        return false;
    }
    for (size_t i = 0; i < gather->id_count; i++) {
        if (gather->ids[i] == client->id)
            return true;
    }
    return gather->ids == NULL;
}

static void gather_destroy(struct gather *gather)
{
    if (gather->stream)
        fclose(gather->stream);
    free(gather->text);
    free(gather->ids);
    free(gather);
}

static void describe_address(int fd, bool is_peer, char *text, size_t size)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN] = "";
    int status = is_peer ? getpeername(fd, (struct sockaddr *)&address, &length)
                         : getsockname(fd, (struct sockaddr *)&address, &length);
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
