/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/operate.h"

#include "proxy/local.h"
#include "proxy/log.h"
#include "proxy/pause.h"
#include "proxy/quiet.h"
#include "proxy/reply.h"
#include "proxy/worker.h"
#include "routing/number.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { SWITCH_QUIET_MS = 1000 };

struct pause_order {
    struct quiet quiet; /* first: the gather is the order */
    struct pause_change change;
    enum error error; /* why nothing is paused */
};

struct switch_order {
    struct quiet quiet; /* first: the gather is the order */
    struct switchover_order order;
    struct worker_group *group;
};

static local_handler answer_help, answer_pause, answer_resume, answer_switchover;

static const struct {
    const char *name, *full_name;
    size_t least, most; /* words, PROXY counted */
    local_handler *handler;
    const char *usage, *help;
} subcommands[] = {
    {"PAUSE", "proxy|pause", 2, 4, answer_pause, "PAUSE [WRITES|ALL] [<milliseconds>]",
     "Let commands wait, or writes alone; answered when those under way are answered."},
    {"RESUME", "proxy|resume", 2, 2, answer_resume, "RESUME", "Let all go on that waits."},
    {"SWITCHOVER", "proxy|switchover", 2, 3, answer_switchover, "SWITCHOVER [<host:port>]",
     "Make that replica the master, or the best one, without losing a write."},
    {"HELP", "proxy|help", 2, 2, answer_help, "HELP", "Print this help."},
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static bool is_let_in(const struct client *client);
static bool is_local(const struct client *client);
static bool is_loopback(const struct sockaddr_storage *address);
static bool read_pause(struct client *client, const struct command_at_hand *at_hand, bool *is_for_all, int64_t *time_ms);
static bool begin_pause(struct client *client, bool is_for_all, uint64_t time_ms);
static enum gather_way pause_visit(struct gather *gather, struct worker *worker);
static bool is_resumed(const struct quiet *quiet, const struct worker *worker);
static void lift(struct pause_order *order, struct worker *worker, enum error error);
static void pause_conclude(struct gather *gather, struct client *client);
static void pause_destroy(struct gather *gather);

static enum gather_way switch_visit(struct gather *gather, struct worker *worker);
static void switch_conclude(struct gather *gather, struct client *client);
static void switch_destroy(struct gather *gather);
static void switch_quieten(struct switchover_order *order);
static void switch_done(struct switchover_order *order);
static void switch_drop(struct switchover_order *order);
static struct switch_order *switch_of(struct switchover_order *order);

static const struct gather_kind switch_kind = {switch_visit, switch_conclude, switch_destroy};
static const struct switchover_events switch_events = {switch_quieten, switch_done, switch_drop};
static const struct gather_kind pause_kind = {pause_visit, pause_conclude, pause_destroy};

bool operate_answer(struct client *client, const struct command_at_hand *at_hand)
{
    if (client->worker->group->config->admin_commands == ADMIN_COMMANDS_OFF)
        return local_answer_unknown(client, at_hand);
    if (session_is_confined(&client->session)) {
        local_refuse_confined(client, at_hand->command->full_name);
        return true;
    }
    if (!is_let_in(client)) {
        client_reply(client, error_reply(ERROR_PROXY_FOREIGN));
        return true;
    }
    if (at_hand->count < 2) {
        client_reply_error(client, "-ERR wrong number of arguments for 'proxy' command");
        return true;
    }
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        if (!slice_is(at_hand->words[1], subcommands[i].name)) continue;
        if (at_hand->count >= subcommands[i].least && at_hand->count <= subcommands[i].most)
            return subcommands[i].handler(client, at_hand);
        client_reply_error(client, "-ERR wrong number of arguments for '%s' command", subcommands[i].full_name);
        return true;
    }
    return local_answer_unknown_subcommand(client, at_hand);
}

/* ---- who may ---- */

static bool is_let_in(const struct client *client)
{
    return client->worker->group->config->admin_commands == ADMIN_COMMANDS_ON || is_local(client);
}

static bool is_local(const struct client *client)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;
    if (client->is_unix) return true;
    return getpeername(client->io.fd, (struct sockaddr *)&address, &size) == 0 && is_loopback(&address);
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    enum { LOOPBACK_NET = 127, V4_AT = 12 };
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == LOOPBACK_NET;
    if (address->ss_family != AF_INET6) return false;
    const struct in6_addr *host = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(host) || (IN6_IS_ADDR_V4MAPPED(host) && host->s6_addr[V4_AT] == LOOPBACK_NET);
}

/* ---- HELP ---- */

/* As Redis prints the help of its containers. */
static bool answer_help(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    struct reply reply;
    char line[160];
    reply_begin(&reply, client);
    reply_array(&reply, 1 + 2 * SUBCOMMANDS);
    reply_line(&reply, "PROXY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        reply_line(&reply, subcommands[i].usage);
        snprintf(line, sizeof line, "    %s", subcommands[i].help);
        reply_line(&reply, line);
    }
    reply_end(&reply);
    return true;
}

/* ---- PAUSE and RESUME ---- */

static bool answer_pause(struct client *client, const struct command_at_hand *at_hand)
{
    bool is_for_all = true;
    int64_t limit_ms = client->worker->group->config->admin_pause_limit_ms, time_ms = limit_ms;
    if (!read_pause(client, at_hand, &is_for_all, &time_ms)) return true;
    if (time_ms <= 0 || time_ms > limit_ms) {
        client_reply_error(client, "-ERR timeout must be between 1 and %" PRId64 " ms, which is admin.pause_limit",
                           limit_ms);
        return true;
    }
    return begin_pause(client, is_for_all, (uint64_t)time_ms);
}

/* False if an error was replied. */
static bool read_pause(struct client *client, const struct command_at_hand *at_hand, bool *is_for_all, int64_t *time_ms)
{
    const struct slice *words = at_hand->words;
    size_t at = 2;
    bool is_mode = at < at_hand->count && !number_read(words[at], time_ms);
    bool is_for_writes = is_mode && (slice_is(words[at], "WRITES") || slice_is(words[at], "WRITE"));
    if (is_mode && !is_for_writes && !slice_is(words[at], "ALL")) {
        client_reply_error(client, "-ERR PROXY PAUSE mode must be WRITES or ALL");
        return false;
    }
    *is_for_all = !is_for_writes;
    at += is_mode;
    if (at < at_hand->count && !number_read(words[at], time_ms)) {
        client_reply_error(client, "-ERR timeout is not an integer or out of range");
        return false;
    }
    if (at + 1 < at_hand->count) {
        client_reply_error(client, "-ERR syntax error");
        return false;
    }
    return true;
}

static bool begin_pause(struct client *client, bool is_for_all, uint64_t time_ms)
{
    struct worker *worker = client->worker;
    uint64_t wait_ms = (uint64_t)worker->group->config->admin_pause_wait_ms;
    struct pause_order *order = calloc(1, sizeof *order);
    if (!order) {
        client_reply(client, error_reply(ERROR_MEMORY));
        return true;
    }
    order->quiet.is_about_reads = is_for_all;
    order->quiet.is_void = is_resumed;
    order->quiet.deadline_ms = worker->now_ms + (wait_ms < time_ms ? wait_ms : time_ms);
    order->change = pause_extend(&worker->group->pause, worker->now_ms + time_ms, is_for_all, worker->now_ms);
    log_info("client %" PRIu64 ": PROXY PAUSE: %s wait for %" PRIu64 " ms, or until PROXY RESUME", client->id,
             is_for_all ? "all commands" : "writes", time_ms);
    return gather_send(&order->quiet.gather, &pause_kind, client);
}

/* From here on all that this worker's clients send waits, so what is counted gets less. */
static enum gather_way pause_visit(struct gather *gather, struct worker *worker)
{
    struct pause_order *order = (struct pause_order *)gather;
    if (order->error != ERROR_NONE) {
        pause_release(worker);
        return GATHER_ON;
    }
    enum gather_way way = is_resumed(&order->quiet, worker) ? GATHER_HOME : quiet_visit(&order->quiet, worker);
    if (way != GATHER_HOME) return way;
    lift(order, worker, is_resumed(&order->quiet, worker) ? ERROR_PAUSE_RESUMED : ERROR_PAUSE_UNQUIET);
    return GATHER_KEPT;
}

static bool is_resumed(const struct quiet *quiet, const struct worker *worker)
{
    const struct pause_order *order = (const struct pause_order *)quiet;
    return atomic_load(&worker->group->pause.until) == 0 && worker->now_ms < order->change.after / 2;
}

/* The letter goes round once more, so that who waits goes on. */
static void lift(struct pause_order *order, struct worker *worker, enum error error)
{
    if (error == ERROR_PAUSE_UNQUIET)
        log_warning("PROXY PAUSE failed: %" PRIu32 " requests were not answered in time; nothing is paused by it",
                    order->quiet.left);
    pause_undo(&worker->group->pause, &order->change);
    order->error = error;
    order->quiet.gather.visited = 0;
    gather_again(&order->quiet.gather, worker->group->workers[0]);
}

static void pause_conclude(struct gather *gather, struct client *client)
{
    const struct pause_order *order = (const struct pause_order *)gather;
    client_reply(client, order->error == ERROR_NONE ? SLICE("+OK\r\n") : error_reply(order->error));
}

static void pause_destroy(struct gather *gather)
{
    free(gather);
}

static bool answer_resume(struct client *client, const struct command_at_hand *at_hand)
{
    log_info("client %" PRIu64 ": PROXY RESUME", client->id);
    return pause_end(client, at_hand);
}

/* ---- SWITCHOVER ---- */

/* The letter goes to the control thread, from there once round all workers, and home when all is done. */
static bool answer_switchover(struct client *client, const struct command_at_hand *at_hand)
{
    struct switch_order *order = NULL;
    struct slice wanted = at_hand->count == 3 ? at_hand->words[2] : SLICE("");
    if (wanted.size >= SWITCHOVER_NAME_SIZE || memchr(wanted.bytes, '\0', wanted.size)) {
        client_reply_error(client, "-ERR the replica is named as host:port");
        return true;
    }
    order = calloc(1, sizeof *order);
    if (!order) {
        client_reply(client, error_reply(ERROR_MEMORY));
        return true;
    }
    log_info("client %" PRIu64 ": PROXY SWITCHOVER", client->id);
    order->group = client->worker->group;
    order->order.events = &switch_events;
    order->order.upstream = client->upstream->index;
    memcpy(order->order.wanted, wanted.bytes, wanted.size);
    order->quiet.master = order->order.master;
    return gather_send(&order->quiet.gather, &switch_kind, client);
}

static enum gather_way switch_visit(struct gather *gather, struct worker *worker)
{
    struct switch_order *order = (struct switch_order *)gather;
    bool is_last = gather->visited + 1 == worker->group->count;
    if (order->order.number) {
        if (!order->quiet.deadline_ms) order->quiet.deadline_ms = worker->now_ms + SWITCH_QUIET_MS;
        enum gather_way way = quiet_visit(&order->quiet, worker);
        if (way == GATHER_KEPT || (way == GATHER_ON && !is_last)) return way;
        order->order.is_quiet = way == GATHER_ON;
    }
    control_switchover(worker->group->control, &order->order);
    return GATHER_KEPT;
}

/* From here on in the control thread. */
static void switch_quieten(struct switchover_order *order)
{
    struct switch_order *self = switch_of(order);
    self->quiet.gather.visited = 0;
    gather_again(&self->quiet.gather, self->group->workers[0]);
}

static void switch_done(struct switchover_order *order)
{
    gather_home(&switch_of(order)->quiet.gather);
}

static void switch_drop(struct switchover_order *order)
{
    free(switch_of(order));
}

static struct switch_order *switch_of(struct switchover_order *order)
{
    return (struct switch_order *)((char *)order - offsetof(struct switch_order, order));
}

static void switch_conclude(struct gather *gather, struct client *client)
{
    const struct switchover_order *order = &((struct switch_order *)gather)->order;
    struct reply reply;
    if (order->fault[0]) {
        client_reply_error(client, "-ERR pointsman: %s", order->fault);
        return;
    }
    reply_begin(&reply, client);
    reply_array(&reply, order->line_count);
    for (size_t i = 0; i < order->line_count; i++)
        reply_text(&reply, order->lines[i]);
    reply_end(&reply);
}

static void switch_destroy(struct gather *gather)
{
    free(gather);
}
