/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/bench/openloop/load.h"

#include "tests/bench/openloop/chance.h"
#include "tests/bench/openloop/reply.h"
#include "tests/bench/openloop/schedule.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 256,
    INPUT_BYTES = 256 * 1024,
    OUTPUT_BYTES_MIN = 16 * 1024,
    KEY_BYTES = 16,
    KEY_DIGITS = 12,
    ONE_KEY_BYTES = 5 + KEY_BYTES + 2, /* "$16\r\nkey:000000000000\r\n" */
    HEADER_BYTES = 64,                 /* of a command, and of the value of a SET; they are less */
    SPIN_NS = 20 * 1000,               /* waking up takes about as long */
    LONGEST_WAIT_NS = 100 * 1000 * 1000,
    SEND_NS = 20 * 1000,   /* much for a send: while we work we do run, and what that delays counts */
    DISTURBING_SHARE = 10, /* what we have made a tenth longer ourselves says nothing of the server */
    NS_PER_SECOND = 1000 * 1000 * 1000,
};

enum request_kind { REQUEST_GET, REQUEST_MGET, REQUEST_SET };

struct pending {
    uint64_t since_ns;
    uint64_t stopped_ns; /* for how long we had not run until then */
    enum request_kind kind;
    bool is_measured;
};

struct connection {
    int fd;
    uint32_t first; /* of the ring */
    uint32_t count;
    struct pending *pending;
    char *output;
    size_t output_begin;
    size_t output_end;
    bool is_dirty;   /* in load->dirty */
    bool is_blocked; /* the socket takes no more; epoll tells when it does */
    struct reply_reader reader;
};

struct load {
    const struct options *options;
    struct outcome outcome;
    struct connection *connections;
    struct pending *pending;
    char *outputs;
    size_t output_bytes;
    char *input;
    char *set_tail; /* from the size of the value on */
    size_t set_tail_bytes;
    char mget_header[HEADER_BYTES];
    uint32_t *dirty; /* have output that is not sent */
    size_t dirty_count;
    uint32_t *idle; /* in a closed loop: wait for nothing */
    size_t idle_count;
    uint32_t turn; /* whose turn the next request is, where they go round */
    int epoll;
    uint64_t chance;
    struct schedule schedule;
    uint64_t start_ns, now_ns, measured_from_ns, last_reply_ns, held_until_ns;
    uint64_t stopped_ns; /* all times when we did not run though we were to */
    uint64_t last_stop_ns, stopped_until_ns;
    uint64_t sends; /* since we last looked at the clock */
    uint64_t in_flight, next_key;
    double cpu_before;
    bool is_measuring;
    bool has_failed;
};

static struct load *give_up(struct load *load, const char **failure, const char *what);
static bool allocate(struct load *load);
static bool prepare_texts(struct load *load);
static size_t request_bytes_max(const struct options *options);
static bool connect_all(struct load *load);
static int connect_one(const struct options *options);
static void raise_descriptor_limit(void);
static uint64_t clock_ns(void);
static double cpu_seconds(void);

static void begin(struct load *load);
static void look_whether_warm(struct load *load);
static void wait_for_line(void);
static bool is_sending_over(const struct load *load);
static bool is_past_end(const struct load *load, uint64_t at_ns);
static void send_what_is_due(struct load *load);
static struct connection *connection_with_room(struct load *load);
static bool has_room(const struct load *load, const struct connection *connection);
static void note_lateness(struct load *load, uint64_t due_ns);
static void send_bursts(struct load *load);
static void send_burst(struct load *load, struct connection *connection);
static void add_request(struct load *load, struct connection *connection, uint64_t since_ns);
static enum request_kind kind_of_next(struct load *load);
static char *put_request(struct load *load, char *at, enum request_kind kind);
static char *put(char *at, const char *text);
static char *put_key(struct load *load, char *at);
static void mark_dirty(struct load *load, struct connection *connection);
static void flush_dirty(struct load *load);
static void flush(struct load *load, struct connection *connection);
static void watch(const struct load *load, struct connection *connection, bool is_blocked);
static void wait_and_read(struct load *load);
static void note_stop(struct load *load, uint64_t awaited_ns);
static uint64_t stopped_until(const struct load *load, uint64_t at_ns);
static uint64_t time_to_wait_ns(const struct load *load);
static void read_replies(struct load *load, struct connection *connection);
static void take_reply(struct load *load, struct connection *connection);
static bool is_as_asked(const struct load *load, const struct pending *pending, const struct reply *reply);
static void complain(struct load *load, const struct pending *pending, const struct reply *reply);
static void look_whether_stuck(struct load *load);
static void count_what_is_left(struct load *load);
static void fail(struct load *load, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct load *load_create(const struct options *options, const char **failure)
{
    struct load *load = calloc(1, sizeof *load);
    if (!load) return give_up(load, failure, "memory");
    load->options = options;
    load->chance = options->seed;
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (options->mode == LOAD_OPEN)
        schedule_init(&load->schedule, options->rate, options->is_poisson, options->seed + 1);
    if (!allocate(load) || !prepare_texts(load)) return give_up(load, failure, "memory");
    raise_descriptor_limit();
    if (!connect_all(load)) return give_up(load, failure, "connecting");
    return load;
}

static struct load *give_up(struct load *load, const char **failure, const char *what)
{
    static char text[OUTCOME_TEXT_MAX];
    snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    *failure = text;
    load_destroy(load);
    return NULL;
}

static bool allocate(struct load *load)
{
    const struct options *options = load->options;
    size_t burst_bytes = request_bytes_max(options) * (options->mode == LOAD_OPEN ? 1 : options->pipeline);
    load->output_bytes = burst_bytes > OUTPUT_BYTES_MIN ? burst_bytes : OUTPUT_BYTES_MIN;
    load->connections = calloc(options->connections, sizeof *load->connections);
    load->pending = calloc(options->connections * options->pipeline, sizeof *load->pending);
    load->outputs = calloc(options->connections, load->output_bytes);
    load->dirty = calloc(options->connections, sizeof *load->dirty);
    load->idle = calloc(options->connections, sizeof *load->idle);
    load->input = malloc(INPUT_BYTES);
    if (!load->connections || !load->pending || !load->outputs || !load->input) return false;
    if (!load->dirty || !load->idle) return false;
    for (uint32_t i = 0; i < options->connections; i++) {
        load->idle[load->idle_count++] = i;
        load->connections[i].fd = -1;
        load->connections[i].pending = load->pending + i * options->pipeline;
        load->connections[i].output = load->outputs + i * load->output_bytes;
    }
    return true;
}

static size_t request_bytes_max(const struct options *options)
{
    size_t read_bytes = options->mget_keys * ONE_KEY_BYTES,
           write_bytes = ONE_KEY_BYTES + options->value_bytes;
    return (size_t)2 * HEADER_BYTES + (read_bytes > write_bytes ? read_bytes : write_bytes);
}

static bool prepare_texts(struct load *load)
{
    size_t value_bytes = load->options->value_bytes;
    if (!(load->set_tail = malloc(HEADER_BYTES + value_bytes))) return false;
    int header_bytes = snprintf(load->set_tail, HEADER_BYTES, "$%zu\r\n", value_bytes);
    char *value = load->set_tail + header_bytes;
    memset(value, 'x', value_bytes);
    load->set_tail_bytes = (size_t)(put(value + value_bytes, "\r\n") - load->set_tail);
    snprintf(load->mget_header, sizeof load->mget_header, "*%llu\r\n$4\r\nMGET\r\n",
             (unsigned long long)load->options->mget_keys + 1);
    return true;
}

static bool connect_all(struct load *load)
{
    for (size_t i = 0; i < load->options->connections; i++) {
        struct connection *connection = &load->connections[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        if ((connection->fd = connect_one(load->options)) < 0) return false;
        if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->fd, &event) != 0) return false;
    }
    return true;
}

static int connect_one(const struct options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    errno = inet_pton(AF_INET, options->host, &address.sin_addr) == 1 ? errno : EINVAL;
    if (fd < 0 || errno == EINVAL) return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static double cpu_seconds(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

const struct outcome *load_run(struct load *load)
{
    prctl(PR_SET_TIMERSLACK, 1UL);
    begin(load);
    while (!load->has_failed) {
        look_whether_warm(load);
        bool is_over = is_sending_over(load);
        if (is_over && load->in_flight == 0) break;
        if (!is_over && load->options->mode == LOAD_OPEN) send_what_is_due(load);
        if (!is_over && load->options->mode != LOAD_OPEN) send_bursts(load);
        flush_dirty(load);
        wait_and_read(load);
        look_whether_stuck(load);
    }
    count_what_is_left(load);
    return &load->outcome;
}

static void begin(struct load *load)
{
    load->now_ns = load->start_ns = load->last_reply_ns = clock_ns();
}

/* In a lock step, only between two of them. */
static void look_whether_warm(struct load *load)
{
    const struct options *options = load->options;
    if (load->is_measuring || load->outcome.sent < options->warmup_requests) return;
    if ((double)(load->now_ns - load->start_ns) < options->warmup_seconds * 1e9) return;
    if (options->mode == LOAD_LOCKSTEP && load->in_flight > 0) return;
    if (options->is_by_hand) wait_for_line();
    load->is_measuring = true;
    load->measured_from_ns = load->now_ns = load->last_reply_ns = clock_ns();
    load->cpu_before = cpu_seconds();
}

static void wait_for_line(void)
{
    puts("ready");
    fflush(stdout);
    for (int byte = getchar(); byte != '\n' && byte != EOF;)
        byte = getchar();
}

static bool is_sending_over(const struct load *load)
{
    if (!load->is_measuring) return false;
    if (load->options->requests > 0 && load->outcome.requests >= load->options->requests) return true;
    uint64_t next_ns = load->now_ns;
    if (load->options->mode == LOAD_OPEN) next_ns = load->start_ns + schedule_due_ns(&load->schedule);
    return is_past_end(load, next_ns);
}

static bool is_past_end(const struct load *load, uint64_t at_ns)
{
    double seconds = load->options->seconds;
    return seconds > 0 && (double)at_ns >= (double)load->measured_from_ns + seconds * 1e9;
}

static void send_what_is_due(struct load *load)
{
    while (!is_sending_over(load)) {
        uint64_t due_ns = load->start_ns + schedule_due_ns(&load->schedule);
        if (due_ns > load->now_ns) return;
        struct connection *connection = connection_with_room(load);
        if (!connection) {
            load->held_until_ns = load->now_ns;
            return;
        }
        add_request(load, connection, due_ns);
        note_lateness(load, due_ns);
        schedule_advance(&load->schedule);
    }
}

static struct connection *connection_with_room(struct load *load)
{
    for (uint64_t tried = 0; tried < load->options->connections; tried++) {
        struct connection *connection = &load->connections[load->turn];
        load->turn = load->turn + 1 < load->options->connections ? load->turn + 1 : 0;
        if (has_room(load, connection)) return connection;
    }
    return NULL;
}

static bool has_room(const struct load *load, const struct connection *connection)
{
    size_t used = connection->output_end - connection->output_begin;
    return connection->count < load->options->pipeline &&
           used + request_bytes_max(load->options) <= load->output_bytes;
}

static void note_lateness(struct load *load, uint64_t due_ns)
{
    uint64_t late_ns = load->now_ns - due_ns;
    if (!load->is_measuring || due_ns < load->measured_from_ns) return;
    if (due_ns <= load->held_until_ns) {
        load->outcome.held++;
        return;
    }
    if (late_ns > load->options->late_us * 1000) load->outcome.late++;
    if (late_ns > load->outcome.worst_late_ns) load->outcome.worst_late_ns = late_ns;
}

/* In a lock step always in the same order. */
static void send_bursts(struct load *load)
{
    bool is_lockstep = load->options->mode == LOAD_LOCKSTEP;
    if (is_lockstep && load->in_flight > 0) return;
    size_t count = load->idle_count;
    load->idle_count = 0;
    for (uint32_t i = 0; i < count; i++)
        send_burst(load, &load->connections[is_lockstep ? i : load->idle[i]]);
}

/* A lock step is whole, whatever number was asked for. */
static void send_burst(struct load *load, struct connection *connection)
{
    bool is_lockstep = load->options->mode == LOAD_LOCKSTEP;
    for (uint64_t i = 0; i < load->options->pipeline && (is_lockstep || !is_sending_over(load)); i++)
        add_request(load, connection, load->now_ns);
}

static void add_request(struct load *load, struct connection *connection, uint64_t since_ns)
{
    if (connection->output_begin > 0) {
        size_t left = connection->output_end - connection->output_begin;
        memmove(connection->output, connection->output + connection->output_begin, left);
        connection->output_begin = 0;
        connection->output_end = left;
    }
    enum request_kind kind = kind_of_next(load);
    char *end = put_request(load, connection->output + connection->output_end, kind);
    connection->output_end = (size_t)(end - connection->output);
    uint64_t at = (connection->first + connection->count++) % load->options->pipeline;
    bool is_measured = load->is_measuring && since_ns >= load->measured_from_ns;
    connection->pending[at] = (struct pending){since_ns, stopped_until(load, since_ns), kind, is_measured};
    load->outcome.sent++;
    load->in_flight++;
    load->outcome.requests += is_measured;
    load->outcome.writes += is_measured && kind == REQUEST_SET;
    mark_dirty(load, connection);
}

static enum request_kind kind_of_next(struct load *load)
{
    double writes = load->options->writes_percent;
    if (writes >= 100 || (writes > 0 && chance_share(&load->chance) * 100 < writes)) return REQUEST_SET;
    return load->options->mget_keys > 0 ? REQUEST_MGET : REQUEST_GET;
}

static char *put_request(struct load *load, char *at, enum request_kind kind)
{
    switch (kind) {
    case REQUEST_GET:
        return put_key(load, put(at, "*2\r\n$3\r\nGET\r\n"));
    case REQUEST_MGET:
        at = put(at, load->mget_header);
        for (uint64_t i = 0; i < load->options->mget_keys; i++)
            at = put_key(load, at);
        return at;
    case REQUEST_SET:
        at = put_key(load, put(at, "*3\r\n$3\r\nSET\r\n"));
        memcpy(at, load->set_tail, load->set_tail_bytes);
        return at + load->set_tail_bytes;
    }
    return at;
}

static char *put(char *at, const char *text)
{
    size_t size = strlen(text);
    memcpy(at, text, size);
    return at + size;
}

static char *put_key(struct load *load, char *at)
{
    uint64_t number = load->options->mode == LOAD_FILL ? load->next_key++
                                                       : chance_below(&load->chance, load->options->keys);
    at = put(at, "$16\r\nkey:");
    for (int digit = KEY_DIGITS - 1; digit >= 0; digit--, number /= 10)
        at[digit] = (char)('0' + number % 10);
    return put(at + KEY_DIGITS, "\r\n");
}

static void mark_dirty(struct load *load, struct connection *connection)
{
    if (connection->is_dirty || connection->is_blocked) return;
    connection->is_dirty = true;
    load->dirty[load->dirty_count++] = (uint32_t)(connection - load->connections);
}

static void flush_dirty(struct load *load)
{
    for (size_t i = 0; i < load->dirty_count; i++)
        flush(load, &load->connections[load->dirty[i]]);
    load->dirty_count = 0;
}

static void flush(struct load *load, struct connection *connection)
{
    connection->is_dirty = false;
    while (connection->output_begin < connection->output_end) {
        ssize_t sent = send(connection->fd, connection->output + connection->output_begin,
                            connection->output_end - connection->output_begin, MSG_NOSIGNAL);
        load->sends++;
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN) {
            watch(load, connection, true);
            return;
        }
        if (sent < 0) {
            fail(load, "sending: %s", strerror(errno));
            return;
        }
        connection->output_begin += (size_t)sent;
    }
    connection->output_begin = connection->output_end = 0;
    watch(load, connection, false);
}

static void watch(const struct load *load, struct connection *connection, bool is_blocked)
{
    if (connection->is_blocked == is_blocked) return;
    connection->is_blocked = is_blocked;
    struct epoll_event event = {.events = EPOLLIN | (is_blocked ? EPOLLOUT : 0U), .data.ptr = connection};
    epoll_ctl(load->epoll, EPOLL_CTL_MOD, connection->fd, &event);
}

static void wait_and_read(struct load *load)
{
    struct epoll_event events[EVENTS];
    uint64_t looked_ns = load->now_ns, wait_ns = time_to_wait_ns(load);
    struct timespec wait = {.tv_nsec = wait_ns > SPIN_NS ? (long)(wait_ns - SPIN_NS) : 0};
    int count = epoll_pwait2(load->epoll, events, EVENTS, &wait, NULL);
    load->now_ns = clock_ns();
    note_stop(load, looked_ns + wait_ns + load->sends * SEND_NS);
    load->sends = 0;
    for (int i = 0; i < count && !load->has_failed; i++) {
        struct connection *connection = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) flush(load, connection);
        if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) read_replies(load, connection);
    }
    load->now_ns = clock_ns();
}

static void note_stop(struct load *load, uint64_t awaited_ns)
{
    if (load->now_ns <= awaited_ns + load->options->late_us * 1000) return;
    load->last_stop_ns = load->now_ns - awaited_ns;
    load->stopped_until_ns = load->now_ns;
    load->stopped_ns += load->last_stop_ns;
}

/* For how long in all, until a moment that is not before the last time. */
static uint64_t stopped_until(const struct load *load, uint64_t at_ns)
{
    if (at_ns >= load->stopped_until_ns) return load->stopped_ns;
    uint64_t behind_ns = load->stopped_until_ns - at_ns;
    return load->stopped_ns - (behind_ns < load->last_stop_ns ? behind_ns : load->last_stop_ns);
}

static uint64_t time_to_wait_ns(const struct load *load)
{
    if (load->options->mode != LOAD_OPEN || is_sending_over(load)) return LONGEST_WAIT_NS;
    uint64_t due_ns = load->start_ns + schedule_due_ns(&load->schedule);
    if (due_ns <= load->now_ns) return load->held_until_ns == load->now_ns ? LONGEST_WAIT_NS : 0;
    return due_ns - load->now_ns < LONGEST_WAIT_NS ? due_ns - load->now_ns : LONGEST_WAIT_NS;
}

static void read_replies(struct load *load, struct connection *connection)
{
    ssize_t got = recv(connection->fd, load->input, INPUT_BYTES, 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) {
        fail(load, "a connection was closed after %llu replies: %s",
             (unsigned long long)load->outcome.answered, got == 0 ? "by the server" : strerror(errno));
        return;
    }
    load->now_ns = load->last_reply_ns = clock_ns();
    for (size_t at = 0, used; at < (size_t)got && !load->has_failed; at += used) {
        enum reply_progress progress =
            reply_read(&connection->reader, load->input + at, (size_t)got - at, &used);
        if (progress == REPLY_BAD) fail(load, "bytes that are no reply: %.40s", load->input + at);
        if (progress == REPLY_DONE) take_reply(load, connection);
    }
}

static void take_reply(struct load *load, struct connection *connection)
{
    if (connection->count == 0) {
        fail(load, "a reply that nobody has asked for: %c%s", connection->reader.reply.kind,
             connection->reader.reply.line);
        return;
    }
    const struct pending *pending = &connection->pending[connection->first];
    connection->first = connection->first + 1 < load->options->pipeline ? connection->first + 1 : 0;
    connection->count--;
    load->in_flight--;
    if (connection->count == 0 && load->options->mode != LOAD_OPEN)
        load->idle[load->idle_count++] = (uint32_t)(connection - load->connections);
    if (!is_as_asked(load, pending, &connection->reader.reply))
        complain(load, pending, &connection->reader.reply);
    if (!pending->is_measured) return;
    load->outcome.answered++;
    uint64_t latency_ns = load->now_ns - pending->since_ns;
    histogram_add(&load->outcome.latency_ns, latency_ns);
    if (load->stopped_ns - pending->stopped_ns > latency_ns / DISTURBING_SHARE)
        load->outcome.disturbed++;
    else
        histogram_add(&load->outcome.undisturbed_ns, latency_ns);
}

static bool is_as_asked(const struct load *load, const struct pending *pending, const struct reply *reply)
{
    uint64_t value_bytes = load->options->value_bytes, keys = load->options->mget_keys;
    switch (pending->kind) {
    case REQUEST_GET:
        return reply->kind == '$' && reply->missing == 0 && reply->value_bytes == value_bytes;
    case REQUEST_SET:
        return reply->kind == '+' && strcmp(reply->line, "OK") == 0;
    case REQUEST_MGET:
        return reply->kind == '*' && reply->missing == 0 && (uint64_t)reply->elements == keys &&
               reply->value_bytes == keys * value_bytes;
    }
    return false;
}

/* Whether it was measured or not. */
static void complain(struct load *load, const struct pending *pending, const struct reply *reply)
{
    static const char *const names[] = {"GET", "MGET", "SET"};
    struct outcome *outcome = &load->outcome;
    if (reply->kind == '-')
        outcome->errors++;
    else if (reply->missing > 0)
        outcome->missing += reply->missing;
    else
        outcome->wrong++;
    if (outcome->first_complaint[0] == '\0')
        snprintf(outcome->first_complaint, sizeof outcome->first_complaint, "%s was answered %c%s",
                 names[pending->kind], reply->kind, reply->line);
}

static void look_whether_stuck(struct load *load)
{
    if (load->in_flight == 0 ||
        (double)(load->now_ns - load->last_reply_ns) < load->options->timeout_seconds * 1e9)
        return;
    fail(load, "no reply for %.1f s, with %llu requests on their way", load->options->timeout_seconds,
         (unsigned long long)load->in_flight);
}

static void count_what_is_left(struct load *load)
{
    struct outcome *outcome = &load->outcome;
    bool is_open = load->options->mode == LOAD_OPEN;
    outcome->cpu_seconds = cpu_seconds() - load->cpu_before;
    outcome->unanswered = outcome->requests - outcome->answered;
    outcome->seconds = (double)(load->last_reply_ns - load->measured_from_ns) / 1e9;
    for (; is_open && load->is_measuring && load->has_failed && !is_sending_over(load); outcome->unsent++) {
        if (load->start_ns + schedule_due_ns(&load->schedule) > load->now_ns) break;
        schedule_advance(&load->schedule);
    }
}

static void fail(struct load *load, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(load->outcome.failure, sizeof load->outcome.failure, format, arguments);
    va_end(arguments);
    load->has_failed = true;
}

void load_destroy(struct load *load)
{
    if (!load) return;
    for (size_t i = 0; load->connections && i < load->options->connections; i++)
        if (load->connections[i].fd >= 0) close(load->connections[i].fd);
    if (load->epoll >= 0) close(load->epoll);
    free(load->set_tail);
    free(load->input);
    free(load->idle);
    free(load->dirty);
    free(load->outputs);
    free(load->pending);
    free(load->connections);
    free(load);
}
