/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/local.h"

#include "proxy/census.h"
#include "proxy/connection.h"
#include "proxy/handler.h"
#include "proxy/local_client.h"
#include "proxy/log.h"
#include "proxy/operate.h"
#include "proxy/pause.h"
#include "proxy/persona.h"
#include "proxy/reply.h"
#include "proxy/tracking.h"
#include "proxy/unblock.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "routing/number.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { INFO_GROWS_BY = 1024 }; /* at most, by numbers and lines of ours */

/* What HELLO asks for. */
struct hello {
    uint8_t protocol;
    struct slice name; /* bytes is NULL where no name is given */
};

static local_handler answer_ping, answer_echo, answer_select, answer_quit, answer_reset, answer_auth, answer_hello,
    answer_client_id, answer_client_setname, answer_client_getname, answer_client_setinfo, answer_client_info,
    answer_client_switch, answer_client_reply, refuse_client, answer_command, answer_acl_whoami,
    answer_script_debug, answer_cluster, hang_up;

/* NULL: goes to a node (INFO and ROLE come back rewritten). */
static local_handler *const handlers[LOCAL_COUNT] = {
    [LOCAL_PING] = answer_ping,
    [LOCAL_ECHO] = answer_echo,
    [LOCAL_SELECT] = answer_select,
    [LOCAL_QUIT] = answer_quit,
    [LOCAL_RESET] = answer_reset,
    [LOCAL_AUTH] = answer_auth,
    [LOCAL_HELLO] = answer_hello,
    [LOCAL_CLIENT_ID] = answer_client_id,
    [LOCAL_CLIENT_SETNAME] = answer_client_setname,
    [LOCAL_CLIENT_GETNAME] = answer_client_getname,
    [LOCAL_CLIENT_SETINFO] = answer_client_setinfo,
    [LOCAL_CLIENT_INFO] = answer_client_info,
    [LOCAL_CLIENT_LIST] = census_list,
    [LOCAL_CLIENT_KILL] = census_kill,
    [LOCAL_CLIENT_UNBLOCK] = unblock_client,
    [LOCAL_CLIENT_PAUSE] = pause_begin,
    [LOCAL_CLIENT_UNPAUSE] = pause_end,
    [LOCAL_CLIENT_NO_EVICT] = answer_client_switch,
    [LOCAL_CLIENT_NO_TOUCH] = answer_client_switch,
    [LOCAL_CLIENT_REPLY] = answer_client_reply,
    [LOCAL_CLIENT_TRACKING] = tracking_answer,
    [LOCAL_CLIENT_REFUSED] = refuse_client,
    [LOCAL_COMMAND] = answer_command,
    [LOCAL_ACL_WHOAMI] = answer_acl_whoami,
    [LOCAL_UNKNOWN] = local_answer_unknown,
    [LOCAL_SCRIPT_DEBUG] = answer_script_debug,
    [LOCAL_CLUSTER] = answer_cluster,
    [LOCAL_PROXY] = operate_answer,
    [LOCAL_HTTP] = hang_up,
};

static void reply_ok(struct client *client);
static void answer_bulk(struct client *client, struct slice text);
static bool is_name(struct slice word);
static bool set_text(char **field, struct slice word);
static bool authenticate(struct client *client, struct slice user, struct slice password);
static bool equals_in_constant_time(struct slice given, const char *secret);
static bool read_hello(struct client *client, const struct command_at_hand *at_hand, struct hello *hello);
static bool read_protocol(struct client *client, struct slice word, uint8_t *protocol);
static bool nodes_speak_resp3(const struct client *client);
static void speak(struct client *client, uint8_t protocol);
static void reply_hello(struct client *client);
static struct chunk *rewrite_info(const struct client *client, struct slice reply);
static bool append_instead(struct chunk *body, const struct client *client, struct slice line);
static void append_role(struct chunk *body, const struct client *client);
static struct chunk *rewrite_role(const struct client *client, struct slice reply);
static struct chunk *role_of_replica(const struct client *client, int64_t offset);
static bool leads_past_us(struct slice line);
static void append(struct chunk *chunk, struct slice text);

bool local_handles(const struct client *client, const struct command *command)
{
    const struct session *session = &client->session;
    if (!handlers[command->local])
        return false;
    switch ((enum command_local)command->local) {
    case LOCAL_QUIT:
    case LOCAL_RESET:
    case LOCAL_PROXY: /* of which no node knows */
    case LOCAL_HTTP:
        return true;
    case LOCAL_PING:
    case LOCAL_ECHO: /* behind the pushes that what was sent before brings */
        if (client->dedicated && !session->is_broken)
            return false;
        return !session_forwards_all(session) || (session->is_broken && !session_is_confined(session));
    case LOCAL_COMMAND: /* made from what nodes say in RESP2 */
        return !session->is_resp3 && !session_forwards_all(session);
    default:
        return !session_forwards_all(session) || (session->is_broken && !session_is_confined(session));
    }
}

bool local_answer(struct client *client, const struct command_at_hand *at_hand)
{
    const struct command *command = at_hand->command;
    if (!command_arity_is_right(command, at_hand->count)) {
        client_reply_error(client, "-ERR wrong number of arguments for '%s' command", command->full_name);
        return true;
    }
    return handlers[command->local](client, at_hand);
}

/* ---- connection ---- */

static bool answer_ping(struct client *client, const struct command_at_hand *at_hand)
{
    if (at_hand->count > 2)
        client_reply_error(client, "-ERR wrong number of arguments for 'ping' command");
    else if (at_hand->count == 2)
        answer_bulk(client, at_hand->words[1]);
    else
        client_reply(client, SLICE("+PONG\r\n"));
    return true;
}

void local_answer_confined_ping(struct client *client, const struct command_at_hand *at_hand)
{
    struct reply reply;
    reply_begin(&reply, client);
    reply_array(&reply, 2);
    reply_text(&reply, "pong");
    reply_bulk(&reply, at_hand->count == 2 ? at_hand->words[1] : SLICE(""));
    reply_end(&reply);
}

void local_refuse_confined(struct client *client, const char *full_name)
{
    client_reply_error(client,
                       "-ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
                       "allowed in this context",
                       full_name);
}

static bool answer_echo(struct client *client, const struct command_at_hand *at_hand)
{
    answer_bulk(client, at_hand->words[1]);
    return true;
}

/* What lies at or below a database that a node has accepted is good as well; anything else is asked of a node. */
static bool answer_select(struct client *client, const struct command_at_hand *at_hand)
{
    int64_t database;
    if (!number_read(at_hand->words[1], &database)) {
        client_reply_error(client, "-ERR value is not an integer or out of range");
    } else if (database < INT32_MIN || database > INT32_MAX) {
        client_reply_error(client, "-ERR value is out of range, value must between -2147483648 and 2147483647");
    } else if (database < 0 && client->persona != PERSONA_CLUSTER) {
        client_reply_error(client, "-ERR DB index is out of range");
    } else if (client->persona == PERSONA_CLUSTER && database != 0) {
        client_reply_error(client, "-ERR SELECT is not allowed in cluster mode");
    } else if (!client->dedicated && !client->restoring && database <= client->upstream->highest_database) {
        client->database = (uint32_t)database;
        reply_ok(client);
    } else {
        return handler_try_database(client, at_hand, (uint32_t)database);
    }
    return true;
}

static bool answer_quit(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    reply_ok(client);
    client->is_quitting = true;
    client->is_ending = true;
    return true;
}

/* Back to the state of a new connection (https://redis.io/docs/latest/commands/reset/). */
static bool answer_reset(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    if (client->inflight > 0)
        return client_stall(client, STALL_DRAINED);
    client_reset_session(client);
    client->database = 0;
    if (client->reply_mode == REPLY_OFF) /* one that skips the next reply skips this */
        client->reply_mode = REPLY_ON;
    client->is_authenticated = client->worker->group->config->password[0] == '\0';
    free(client->name);
    client->name = NULL;
    client_reply(client, SLICE("+RESET\r\n"));
    return true;
}

static bool answer_auth(struct client *client, const struct command_at_hand *at_hand)
{
    const struct slice *words = at_hand->words;
    if (at_hand->count > 3) {
        client_reply_error(client, "-ERR syntax error");
        return true;
    }
    bool has_user = at_hand->count == 3;
    if (!has_user && client->worker->group->config->password[0] == '\0')
        client_reply_error(client, "-ERR AUTH <password> called without any password configured for the default "
                                   "user. Are you sure your configuration is correct?");
    else if (authenticate(client, has_user ? words[1] : SLICE("default"), words[at_hand->count - 1]))
        reply_ok(client);
    else
        client_reply_error(client, "-WRONGPASS invalid username-password pair or user is disabled.");
    return true;
}

static bool answer_hello(struct client *client, const struct command_at_hand *at_hand)
{
    struct hello hello = {.protocol = session_protocol(&client->session)};
    if (client->inflight > 0 || (client->dedicated && client->dedicated->queue.first))
        return client_stall(client, STALL_DRAINED); /* replies to what came before are in the protocol of then */
    if (client->restoring && client->dedicated)
        return client_stall(client, STALL_RESTORED);
    if (!read_hello(client, at_hand, &hello))
        return true;
    if (hello.name.bytes && !set_text(&client->name, hello.name)) {
        client_close(client, "out of memory");
        return true;
    }
    speak(client, hello.protocol);
    reply_hello(client);
    return true;
}

/* HELLO [protover [AUTH username password] [SETNAME clientname]]; false if an error was replied. */
static bool read_hello(struct client *client, const struct command_at_hand *at_hand, struct hello *hello)
{
    const struct slice *words = at_hand->words;
    size_t count = at_hand->count;
    if (count > 1 && !read_protocol(client, words[1], &hello->protocol))
        return false;
    for (size_t i = 2; i < count;) {
        if (slice_is(words[i], "AUTH") && i + 2 < count) {
            if (!authenticate(client, words[i + 1], words[i + 2])) {
                client_reply_error(client, "-WRONGPASS invalid username-password pair or user is disabled.");
                return false;
            }
            i += 3;
        } else if (slice_is(words[i], "SETNAME") && i + 1 < count) {
            hello->name = words[i + 1];
            if (!is_name(hello->name)) {
                client_reply_error(client, "-ERR Client names cannot contain spaces, newlines or special characters.");
                return false;
            }
            i += 2;
        } else {
            client_reply_error(client, "-ERR Syntax error in HELLO option '%.*s'",
                               (int)(words[i].size < 128 ? words[i].size : 128), words[i].bytes);
            return false;
        }
    }
    if (!client->is_authenticated) {
        client_reply_error(client,
                           "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
                           "AUTH <user> <pass> option can be used to authenticate the client and select the "
                           "RESP protocol version at the same time");
        return false;
    }
    return true;
}

static bool read_protocol(struct client *client, struct slice word, uint8_t *protocol)
{
    int64_t version = 0;
    bool is_integer = number_read(word, &version);
    bool is_known = version == 2 || (version == 3 && nodes_speak_resp3(client));
    if (!is_integer)
        client_reply_error(client, "-ERR Protocol version is not an integer or out of range");
    else if (!is_known)
        client_reply_error(client, "-NOPROTO unsupported protocol version");
    else
        *protocol = (uint8_t)version;
    return is_integer && is_known;
}

/* Redis has RESP3 since version 6. */
static bool nodes_speak_resp3(const struct client *client)
{
    const char *version = client->upstream->topology->server_version;
    return !version[0] || strtol(version, NULL, 10) >= 6;
}

static void speak(struct client *client, uint8_t protocol)
{
    if (protocol == session_protocol(&client->session))
        return;
    client->session.is_resp3 = protocol == 3;
    if (client->dedicated)
        connection_speak(client->dedicated, protocol);
    else if (client->restoring)
        client_lost_dedicated(client, false, false); /* it is begun anew, in that protocol */
}

/* Field by field as Redis 7 has it. Before any node was seen the version is the oldest that this proxy is for. */
static void reply_hello(struct client *client)
{
    const char *version = client->upstream->topology->server_version;
    const char *role = persona_role(client);
    struct reply reply;
    reply_begin(&reply, client);
    reply_map(&reply, role ? 7 : 6);
    reply_text(&reply, "server");
    reply_text(&reply, "redis");
    reply_text(&reply, "version");
    reply_text(&reply, version[0] ? version : "7.0.0");
    reply_text(&reply, "proto");
    reply_number(&reply, session_protocol(&client->session));
    reply_text(&reply, "id");
    reply_number(&reply, (int64_t)client->id);
    reply_text(&reply, "mode");
    reply_text(&reply, persona_mode(client));
    if (role) {
        reply_text(&reply, "role");
        reply_text(&reply, role);
    }
    reply_text(&reply, "modules");
    reply_array(&reply, 0);
    reply_end(&reply);
}

static bool authenticate(struct client *client, struct slice user, struct slice password)
{
    const char *secret = client->worker->group->config->password;
    bool is_good = slice_equals(user, SLICE("default")) && (!secret[0] || equals_in_constant_time(password, secret));
    if (is_good)
        client->is_authenticated = true;
    return is_good;
}

/* Takes the same time wherever the first difference is. */
static bool equals_in_constant_time(struct slice given, const char *secret)
{
    size_t size = strlen(secret);
    unsigned difference = given.size != size;
    for (size_t i = 0; i < given.size; i++)
        difference |= (unsigned)(unsigned char)given.bytes[i] ^ (unsigned)(unsigned char)secret[i % size];
    return difference == 0;
}

int64_t local_read_database(struct slice word)
{
    int64_t number;
    return number_read(word, &number) && number >= 0 && number <= INT32_MAX ? number : -1;
}

/* ---- CLIENT ---- */

static bool answer_client_id(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    char text[32];
    int size = snprintf(text, sizeof text, ":%" PRIu64 "\r\n", client->id);
    client_reply(client, (struct slice){text, (size_t)size});
    return true;
}

static bool answer_client_setname(struct client *client, const struct command_at_hand *at_hand)
{
    if (local_set_name(client, at_hand->words[2]))
        reply_ok(client);
    else
        client_reply_error(client, "-ERR Client names cannot contain spaces, newlines or special characters.");
    return true;
}

bool local_set_name(struct client *client, struct slice name)
{
    if (!is_name(name))
        return false;
    if (!set_text(&client->name, name))
        client_close(client, "out of memory");
    return true;
}

static bool answer_client_getname(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    if (client->name)
        answer_bulk(client, slice_of(client->name));
    else
        client_reply(client, client->session.is_resp3 ? SLICE("_\r\n") : SLICE("$-1\r\n"));
    return true;
}

/* CLIENT SETINFO LIB-NAME|LIB-VER value (https://redis.io/docs/latest/commands/client-setinfo/) */
static bool answer_client_setinfo(struct client *client, const struct command_at_hand *at_hand)
{
    struct slice option = at_hand->words[2], value = at_hand->words[3];
    bool is_library = slice_is(option, "LIB-NAME");
    if (!is_library && !slice_is(option, "LIB-VER"))
        client_reply_error(client, "-ERR Unrecognized option '%.*s'", (int)(option.size < 100 ? option.size : 100),
                           option.bytes);
    else if (!is_name(value))
        client_reply_error(client, "-ERR %s cannot contain spaces, newlines or special characters.",
                           is_library ? "lib-name" : "lib-ver");
    else if (set_text(is_library ? &client->library_name : &client->library_version, value))
        reply_ok(client);
    else
        client_close(client, "out of memory");
    return true;
}

static bool answer_client_info(struct client *client, const struct command_at_hand *at_hand)
{
    char line[CENSUS_LINE_MAX];
    client_reply_text(client, (struct slice){line, census_describe(client, at_hand->bytes.size, line, sizeof line)});
    return true;
}

/* NO-EVICT and NO-TOUCH concern the server's treatment of one connection: accepted, of no effect behind shared
 * ones. */
static bool answer_client_switch(struct client *client, const struct command_at_hand *at_hand)
{
    bool is_on = slice_is(at_hand->words[2], "ON");
    if (!is_on && !slice_is(at_hand->words[2], "OFF")) {
        client_reply_error(client, "-ERR syntax error");
        return true;
    }
    if (at_hand->command->local == LOCAL_CLIENT_NO_EVICT)
        client->is_not_evicted = is_on;
    reply_ok(client);
    return true;
}

static bool answer_client_reply(struct client *client, const struct command_at_hand *at_hand)
{
    struct slice mode = at_hand->words[2];
    if (slice_is(mode, "ON")) {
        client->reply_mode = REPLY_ON;
        reply_ok(client);
    } else if (slice_is(mode, "OFF")) {
        client->reply_mode = REPLY_OFF;
    } else if (slice_is(mode, "SKIP")) {
        if (client->reply_mode == REPLY_ON)
            client->reply_mode = REPLY_SKIP_NEXT;
    } else {
        client_reply_error(client, "-ERR syntax error");
    }
    return true;
}

/* A server that is too old for TRACKING has these words, and clients go on without. */
static bool refuse_client(struct client *client, const struct command_at_hand *at_hand)
{
    struct slice word = at_hand->words[1];
    int size = (int)(word.size < 128 ? word.size : 128);
    client_reply_error(client, "-ERR unknown subcommand '%.*s'. Try CLIENT HELP.", size, word.bytes);
    return true;
}

/* ---- the server ---- */

static bool answer_command(struct client *client, const struct command_at_hand *at_hand)
{
    size_t size = 0;
    bool forward = false;
    char *reply = command_describe(client->upstream->topology->commands, at_hand->words, at_hand->count, &size, &forward);
    if (forward)
        return handler_forward(client, at_hand);
    if (reply)
        client_reply(client, (struct slice){reply, size});
    else
        client_reply(client, error_reply(ERROR_MEMORY));
    free(reply);
    return true;
}

/* Whoever may connect is the one user that there is. */
static bool answer_acl_whoami(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    answer_bulk(client, SLICE("default"));
    return true;
}

/* In Redis' words, whose list of arguments is cut at 128 bytes. */
bool local_answer_unknown(struct client *client, const struct command_at_hand *at_hand)
{
    char arguments[160] = "";
    size_t used = 0;
    for (size_t i = 1; i < at_hand->count && used < 128; i++) {
        struct slice word = at_hand->words[i];
        size_t shown = word.size < 128 - used ? word.size : 128 - used;
        used += (size_t)snprintf(arguments + used, sizeof arguments - used, "'%.*s' ", (int)shown, word.bytes);
    }
    struct slice name = at_hand->words[0];
    client_reply_error(client, "-ERR unknown command '%.*s', with args beginning with: %s",
                       (int)(name.size < 128 ? name.size : 128), name.bytes, arguments);
    return true;
}

bool local_answer_unknown_subcommand(struct client *client, const struct command_at_hand *at_hand)
{
    struct slice word = at_hand->words[1];
    client_reply_error(client, "-ERR unknown subcommand '%.*s'. Try %s HELP.",
                       (int)(word.size < 128 ? word.size : 128), word.bytes, at_hand->command->name);
    return true;
}

static bool answer_script_debug(struct client *client, const struct command_at_hand *at_hand)
{
    struct slice mode = at_hand->words[2];
    if (slice_is(mode, "NO"))
        reply_ok(client);
    else if (slice_is(mode, "YES") || slice_is(mode, "SYNC"))
        client_reply(client, error_reply(ERROR_SCRIPT_DEBUG));
    else
        client_reply_error(client, "-ERR Use SCRIPT DEBUG YES/SYNC/NO");
    return true;
}

static bool answer_cluster(struct client *client, const struct command_at_hand *at_hand)
{
    if (client->persona == PERSONA_CLUSTER)
        return persona_cluster_answer(client, at_hand);
    if (at_hand->command->flags & COMMAND_CONTAINER)
        return local_answer_unknown_subcommand(client, at_hand);
    client_reply_error(client, "-ERR This instance has cluster support disabled");
    return true;
}

/* A web page that makes a browser speak to a Redis port sends these words; Redis hangs up on them as well. */
static bool hang_up(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    log_warning("client %" PRIu64 ": spoke HTTP, perhaps a web page that attacks from inside: closed", client->id);
    client_close(client, "spoke HTTP");
    return true;
}

/* ---- replies of nodes, rewritten ---- */

void local_rewrite(struct request *request)
{
    struct chunk_pool *pool = &request->client->worker->chunks;
    struct chunk *whole = spans_join(&request->reply);
    if (!whole)
        return;
    struct slice reply = {whole->bytes, whole->filled};
    struct chunk *rewritten = NULL;
    if (reply.bytes[0] != '-')
        rewritten = request->inspection == INSPECT_INFO ? rewrite_info(request->client, reply)
                                                        : rewrite_role(request->client, reply);
    if (rewritten) {
        spans_clear(pool, &request->reply);
        spans_add(pool, &request->reply, rewritten, rewritten->bytes, rewritten->filled);
        chunk_release(pool, rewritten);
    }
    chunk_release(pool, whole);
}

/* Line by line: what would lead a client past the proxy goes, and clients are those of the proxy. */
static struct chunk *rewrite_info(const struct client *client, struct slice reply)
{
    size_t position = 0;
    struct resp_value value;
    if (!resp_value_next(reply, &position, &value) || value.is_null)
        return NULL;
    struct chunk *body = chunk_create_sized(value.text.size + INFO_GROWS_BY);
    if (!body)
        return NULL;
    for (struct slice rest = value.text; rest.size > 0;) {
        const char *end = memchr(rest.bytes, '\n', rest.size);
        struct slice line = {rest.bytes, end ? (size_t)(end - rest.bytes) + 1 : rest.size};
        rest = (struct slice){rest.bytes + line.size, rest.size - line.size};
        if (!leads_past_us(line) && !append_instead(body, client, line))
            append(body, line);
    }
    char head[32];
    bool is_verbatim = value.type == '='; /* in RESP3 */
    int head_size = snprintf(head, sizeof head, "%c%zu\r\n%s", value.type, body->filled + (is_verbatim ? 4 : 0),
                             is_verbatim ? "txt:" : "");
    struct chunk *whole = chunk_create_sized(body->filled + (size_t)head_size + 2);
    if (whole) {
        append(whole, (struct slice){head, (size_t)head_size});
        append(whole, (struct slice){body->bytes, body->filled});
        append(whole, SLICE("\r\n"));
    }
    free(body);
    return whole;
}

/* True if another line stands there instead. What the node says of blocked clients is of those that it knows. */
static bool append_instead(struct chunk *body, const struct client *client, struct slice line)
{
    const struct worker_group *group = client->worker->group;
    const struct {
        struct slice name;
        const char *value;
    } fixed[] = {
        {SLICE("redis_mode:"), persona_mode(client)},
        {SLICE("cluster_enabled:"), client->persona == PERSONA_CLUSTER ? "1" : "0"},
    };
    const struct {
        struct slice name;
        bool adds; /* to what the node says */
        uint32_t number;
    } counted[] = {
        {SLICE("connected_clients:"), false, atomic_load_explicit(&group->client_count, memory_order_relaxed)},
        {SLICE("maxclients:"), false, group->max_clients},
        {SLICE("blocked_clients:"), true, atomic_load_explicit(&group->pause.waiting, memory_order_relaxed)},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        if (slice_starts_with(line, fixed[i].name)) {
            append(body, fixed[i].name);
            append(body, slice_of(fixed[i].value));
            append(body, SLICE("\r\n"));
            return true;
        }
    }
    if (slice_starts_with(line, SLICE("role:"))) {
        append_role(body, client);
        return true;
    }
    if (client->persona == PERSONA_REPLICA && slice_starts_with(line, SLICE("master_repl_offset:"))) {
        struct slice offset = {line.bytes + strlen("master_"), line.size - strlen("master_")};
        append(body, SLICE("slave_read_"));
        append(body, offset);
        append(body, SLICE("slave_"));
        append(body, offset);
        append(body, line);
        return true;
    }
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++) {
        if (!slice_starts_with(line, counted[i].name))
            continue;
        char text[64];
        unsigned long said = counted[i].adds ? strtoul(line.bytes + counted[i].name.size, NULL, 10) : 0;
        int size = snprintf(text, sizeof text, "%s%lu\r\n", counted[i].name.bytes, said + counted[i].number);
        append(body, (struct slice){text, (size_t)size});
        return true;
    }
    return false;
}

static void append_role(struct chunk *body, const struct client *client)
{
    struct persona_address master;
    char text[PERSONA_HOST_MAX + 512];
    if (client->persona != PERSONA_REPLICA) {
        append(body, SLICE("role:master\r\n"));
        return;
    }
    persona_master(client, &master);
    int size = snprintf(text, sizeof text,
                        "role:slave\r\nmaster_host:%s\r\nmaster_port:%u\r\nmaster_link_status:up\r\n"
                        "master_last_io_seconds_ago:0\r\nmaster_sync_in_progress:0\r\nslave_priority:100\r\n"
                        "slave_read_only:1\r\nreplica_announced:1\r\n",
                        master.host, (unsigned)master.port);
    append(body, (struct slice){text, (size_t)size});
}

/* "slave0:ip=...", and what a master that has just become a replica says of its own master. */
static bool leads_past_us(struct slice line)
{
    static const struct slice of_replica[] = {
        {"master_host:", 12},      {"master_port:", 12},         {"master_link_", 12},     {"master_last_io_", 15},
        {"master_sync_", 12},      {"slave_read_repl_", 16},     {"slave_repl_offset:", 18}, {"slave_priority:", 15},
        {"slave_read_only:", 16},  {"replica_announced:", 18},
    };
    for (size_t k = 0; k < sizeof of_replica / sizeof *of_replica; k++) {
        if (slice_starts_with(line, of_replica[k]))
            return true;
    }
    size_t i = 5;
    if (!slice_starts_with(line, SLICE("slave")))
        return false;
    while (i < line.size && isdigit((unsigned char)line.bytes[i]))
        i++;
    return i > 5 && i < line.size && line.bytes[i] == ':';
}

/* [master, offset, []], or [slave, host, port, connected, offset] */
static struct chunk *rewrite_role(const struct client *client, struct slice reply)
{
    size_t position = 0;
    struct resp_value kind, role, offset = {0};
    if (!resp_value_next(reply, &position, &kind) || !resp_value_next(reply, &position, &role))
        return NULL;
    if (client->persona == PERSONA_REPLICA) {
        bool is_there = true;
        for (int i = slice_is(role.text, "slave") ? 4 : 1; is_there && i > 0; i--)
            is_there = resp_value_next(reply, &position, &offset);
        return role_of_replica(client, is_there ? offset.integer : 0);
    }
    bool is_master = slice_is(role.text, "master") && resp_value_next(reply, &position, &offset);
    char text[80];
    int size = snprintf(text, sizeof text, "*3\r\n$6\r\nmaster\r\n:%" PRId64 "\r\n*0\r\n",
                        is_master ? offset.integer : (int64_t)0);
    return chunk_copy((struct slice){text, (size_t)size});
}

static struct chunk *role_of_replica(const struct client *client, int64_t offset)
{
    struct persona_address master;
    char text[PERSONA_HOST_MAX + 128];
    persona_master(client, &master);
    int size = snprintf(text, sizeof text,
                        "*5\r\n$5\r\nslave\r\n$%zu\r\n%s\r\n:%u\r\n$9\r\nconnected\r\n:%" PRId64 "\r\n",
                        strlen(master.host), master.host, (unsigned)master.port, offset);
    return chunk_copy((struct slice){text, (size_t)size});
}

/* ---- small things ---- */

static void append(struct chunk *chunk, struct slice text)
{
    if (text.size > chunk_room(chunk))
        return; /* cannot be: chunks are made to measure */
    memcpy(chunk->bytes + chunk->filled, text.bytes, text.size);
    chunk->filled += text.size;
}

static void reply_ok(struct client *client) { client_reply(client, SLICE("+OK\r\n")); }

static void answer_bulk(struct client *client, struct slice text)
{
    char head[32];
    int size = snprintf(head, sizeof head, "$%zu\r\n", text.size);
    client_reply_parts(client, (struct slice){head, (size_t)size}, text);
}

/* Redis takes printable ASCII without blanks; an empty name clears. */
static bool is_name(struct slice word)
{
    for (size_t i = 0; i < word.size; i++) {
        if (word.bytes[i] < '!' || word.bytes[i] > '~')
            return false;
    }
    return true;
}

static bool set_text(char **field, struct slice word)
{
    char *copy = word.size ? strndup(word.bytes, word.size) : NULL;
    if (word.size && !copy)
        return false;
    free(*field);
    *field = copy;
    return true;
}
