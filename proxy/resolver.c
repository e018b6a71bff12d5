/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RESOLVER_SOCKETS_MAX  ARES_GETSOCK_MAXNUM
#define RESOLVER_TRY_MS       1000
#define RESOLVER_TRIES        2
#define RESOLVER_ANSWERS_KEPT 2 /* an address is dropped when so many answers in a row lack it */

struct resolver_socket {
    ev_io io;
    bool is_used;
};

struct resolver {
    struct ev_loop *loop;
    ares_channel channel;
    struct resolver_socket sockets[RESOLVER_SOCKETS_MAX];
    ev_timer deadline; /* of the channel's oldest query */
};

struct resolved_address {
    char text[INET6_ADDRSTRLEN];
    unsigned missed; /* answers in a row that lacked it */
};

struct resolved_name {
    struct resolver *resolver;
    resolver_changed *changed;
    void *follower; /* NULL changed and follower once forgotten while a query is under way */
    char *host;
    bool is_own_address; /* numeric or a path: nothing to ask */
    bool is_asking;
    bool is_forgotten;
    ev_timer refresh;
    ev_tstamp asked_at;
    struct resolved_address addresses[RESOLVER_ADDRESSES_MAX];
    size_t count;
    const char *fault;
};

static bool is_own_address(const char *host);
static void name_ask(struct resolved_name *name);
static void name_refresh_due(struct ev_loop *loop, ev_timer *watcher, int events);
static void name_answered(void *argument, int status, int timeouts, struct ares_addrinfo *result);
static bool name_merge(struct resolved_name *name, const struct ares_addrinfo *result);
static struct resolved_address *name_find(struct resolved_name *name, const char *text);
static void name_free(struct resolved_name *name);
static void socket_changed(void *argument, ares_socket_t descriptor, int readable, int writable);
static struct resolver_socket *socket_of(struct resolver *resolver, int descriptor);
static void socket_ready(struct ev_loop *loop, ev_io *watcher, int events);
static void deadline_passed(struct ev_loop *loop, ev_timer *watcher, int events);
static void resolver_set_deadline(struct resolver *resolver);

struct resolver *resolver_create(struct ev_loop *loop)
{
    struct resolver *resolver = calloc(1, sizeof(*resolver));
    if (!resolver) return NULL;

    resolver->loop = loop;
    ev_init(&resolver->deadline, deadline_passed);
    resolver->deadline.data = resolver;
    char lookups[] = "fb"; /* files before DNS */
    struct ares_options options = {.timeout = RESOLVER_TRY_MS,
                                   .tries = RESOLVER_TRIES,
                                   .lookups = lookups,
                                   .sock_state_cb = socket_changed,
                                   .sock_state_cb_data = resolver};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
    if (ares_init_options(&resolver->channel, &options, mask) != ARES_SUCCESS) {
        free(resolver);
        return NULL;
    }
    return resolver;
}

void resolver_destroy(struct resolver *resolver)
{
    if (!resolver) return;
    ares_destroy(resolver->channel); /* answers every open query with ARES_EDESTRUCTION */
    for (size_t i = 0; i < RESOLVER_SOCKETS_MAX; i++)
        ev_io_stop(resolver->loop, &resolver->sockets[i].io);
    ev_timer_stop(resolver->loop, &resolver->deadline);
    free(resolver);
}

struct resolved_name *resolver_follow(struct resolver *resolver, const char *host, resolver_changed *changed,
                                      void *follower)
{
    struct resolved_name *name = calloc(1, sizeof(*name));
    if (!name) return NULL;
    name->host = strdup(host);
    if (!name->host) {
        free(name);
        return NULL;
    }

    name->resolver = resolver;
    name->changed = changed;
    name->follower = follower;
    name->is_own_address = is_own_address(host);
    ev_init(&name->refresh, name_refresh_due);
    name->refresh.data = name;
    if (!name->is_own_address) {
        ev_timer_set(&name->refresh, 0.,
                     0.); /* asked from the loop, so that changed() is never called from here */
        ev_timer_start(resolver->loop, &name->refresh);
    }
    return name;
}

void resolver_forget(struct resolved_name *name)
{
    if (!name) return;
    ev_timer_stop(name->resolver->loop, &name->refresh);
    name->is_forgotten = true;
    if (!name->is_asking) name_free(name);
}

void resolver_refresh(struct resolved_name *name)
{
    if (name->is_own_address || name->is_asking) return;
    ev_tstamp wait_s = name->asked_at + RESOLVER_RETRY_S - ev_now(name->resolver->loop);
    if (wait_s < 0) wait_s = 0;
    if (ev_is_active(&name->refresh) && ev_timer_remaining(name->resolver->loop, &name->refresh) <= wait_s)
        return;
    ev_timer_stop(name->resolver->loop, &name->refresh);
    ev_timer_set(&name->refresh, wait_s, 0.);
    ev_timer_start(name->resolver->loop, &name->refresh);
}

size_t resolver_count(const struct resolved_name *name)
{
    return name->is_own_address ? 1 : name->count;
}

const char *resolver_address(const struct resolved_name *name, size_t index)
{
    if (name->is_own_address) return name->host;
    return index < name->count ? name->addresses[index].text : NULL;
}

bool resolver_has(const struct resolved_name *name, const char *address)
{
    for (size_t i = 0; i < resolver_count(name); i++) {
        if (strcmp(resolver_address(name, i), address) == 0) return true;
    }
    return false;
}

const char *resolver_fault(const struct resolved_name *name)
{
    return name->fault;
}

static bool is_own_address(const char *host)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *found;
    if (host[0] == '/') return true;
    if (getaddrinfo(host, NULL, &hints, &found)) return false;
    freeaddrinfo(found);
    return true;
}

/* ---- queries ---- */

static void name_ask(struct resolved_name *name)
{
    name->is_asking = true;
    name->asked_at = ev_now(name->resolver->loop);
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    ares_getaddrinfo(name->resolver->channel, name->host, NULL, &hints, name_answered, name);
}

static void name_refresh_due(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct resolved_name *name = watcher->data;
    struct resolver *resolver = name->resolver;
    name_ask(name);
    resolver_set_deadline(resolver);
}

static void name_answered(void *argument, int status, int timeouts, struct ares_addrinfo *result)
{
    (void)timeouts;
    struct resolved_name *name = argument;
    name->is_asking = false;
    if (name->is_forgotten || status == ARES_EDESTRUCTION) {
        if (result) ares_freeaddrinfo(result);
        if (name->is_forgotten) name_free(name);
        return;
    }

    bool has_changed = false, had_failed = name->fault && *name->fault;
    name->fault = status == ARES_SUCCESS ? "" : ares_strerror(status);
    if (status == ARES_SUCCESS) has_changed = name_merge(name, result);
    if (result) ares_freeaddrinfo(result);

    ev_timer_stop(name->resolver->loop, &name->refresh);
    ev_timer_set(&name->refresh, name->count ? RESOLVER_REFRESH_S : RESOLVER_RETRY_S, 0.);
    ev_timer_start(name->resolver->loop, &name->refresh);
    bool has_failed = !name->count && *name->fault && !had_failed;
    if ((has_changed || has_failed) && name->changed) name->changed(name->follower);
}

/* True if an address has come or gone; their order alone is no change. */
static bool name_merge(struct resolved_name *name, const struct ares_addrinfo *result)
{
    bool has_changed = false;
    for (size_t i = 0; i < name->count; i++)
        name->addresses[i].missed++;

    for (const struct ares_addrinfo_node *node = result->nodes; node; node = node->ai_next) {
        char text[INET6_ADDRSTRLEN];
        if (getnameinfo(node->ai_addr, node->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST))
            continue;
        struct resolved_address *known = name_find(name, text);
        if (known) {
            known->missed = 0;
        } else if (name->count < RESOLVER_ADDRESSES_MAX) {
            known = &name->addresses[name->count++];
            *known = (struct resolved_address){.missed = 0};
            snprintf(known->text, sizeof(known->text), "%s", text);
            has_changed = true;
        }
    }

    size_t kept = 0;
    for (size_t i = 0; i < name->count; i++) {
        if (name->addresses[i].missed < RESOLVER_ANSWERS_KEPT)
            name->addresses[kept++] = name->addresses[i];
        else
            has_changed = true;
    }
    name->count = kept;
    return has_changed;
}

static struct resolved_address *name_find(struct resolved_name *name, const char *text)
{
    for (size_t i = 0; i < name->count; i++) {
        if (strcmp(name->addresses[i].text, text) == 0) return &name->addresses[i];
    }
    return NULL;
}

static void name_free(struct resolved_name *name)
{
    free(name->host);
    free(name);
}

/* ---- c-ares in the loop ---- */

static void socket_changed(void *argument, ares_socket_t descriptor, int readable, int writable)
{
    struct resolver *resolver = argument;
    struct resolver_socket *used = socket_of(resolver, descriptor);
    if (!used) return; /* more sockets than c-ares itself can wait for: this one is served by the deadline */
    if (used->is_used) ev_io_stop(resolver->loop, &used->io);

    used->is_used = readable || writable;
    if (!used->is_used) return;
    ev_io_init(&used->io, socket_ready, descriptor, (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
    used->io.data = resolver;
    ev_io_start(resolver->loop, &used->io);
}

/* The entry of this descriptor, or a free one. */
static struct resolver_socket *socket_of(struct resolver *resolver, int descriptor)
{
    struct resolver_socket *unused = NULL;
    for (size_t i = 0; i < RESOLVER_SOCKETS_MAX; i++) {
        struct resolver_socket *entry = &resolver->sockets[i];
        if (entry->is_used && entry->io.fd == descriptor) return entry;
        if (!entry->is_used) unused = entry;
    }
    return unused;
}

static void socket_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct resolver *resolver = watcher->data;
    int descriptor = watcher->fd;
    ares_process_fd(resolver->channel, events & EV_READ ? descriptor : ARES_SOCKET_BAD,
                    events & EV_WRITE ? descriptor : ARES_SOCKET_BAD);
    resolver_set_deadline(resolver);
}

static void deadline_passed(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct resolver *resolver = watcher->data;
    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    resolver_set_deadline(resolver);
}

static void resolver_set_deadline(struct resolver *resolver)
{
    struct timeval wait;
    ev_timer_stop(resolver->loop, &resolver->deadline);
    if (!ares_timeout(resolver->channel, NULL, &wait)) return;
    ev_timer_set(&resolver->deadline, (double)wait.tv_sec + (double)wait.tv_usec / 1e6, 0.);
    ev_timer_start(resolver->loop, &resolver->deadline);
}
