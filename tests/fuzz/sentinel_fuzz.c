/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a Sentinel may answer to any of our questions, and what it may publish, from hostile bytes. The peer is not
 * connected to anything; its readers are called as its link would call them.
 */
#include "proxy/sentinel_peer.c"

#include "routing/resp.h"

#include <stdint.h>

static void ignore_change(void *owner) { (void)owner; }

static void ignore_event(void *owner, const char *sentinel, const char *channel, const char *message)
{
    (void)owner;
    (void)sentinel;
    if (strlen(channel) + strlen(message) == SIZE_MAX) abort(); /* both are texts with an end */
}

static struct sentinel_peer *new_peer(void)
{
    static struct peer_setup setup = {.label = "fuzz", .username = "", .password = "", .connect_timeout_ms = 1000,
                                      .poll_interval_ms = 1000, .changed = ignore_change, .heard_event = ignore_event};
    setup.master_name = "mymaster";
    if (!setup.loop) setup.loop = ev_loop_new(EVFLAG_NOENV);
    if (!setup.resolver) setup.resolver = resolver_create(setup.loop);
    return peer_create(&setup, "127.0.0.1", 1, true, "");
}

static void tell(struct sentinel_peer *peer, const redisReply *reply)
{
    static link_answered *const readers[] = {peer_told_id,      peer_told_masters,  peer_told_master,
                                             peer_told_address, peer_told_replicas, peer_told_others};
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        readers[i](peer, reply, 1);
    bool is_message = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements >= 3; /* as link.c sees to */
    if (is_message) peer_pushed(peer->events.link, peer, reply);
    if (peer->replicas.count > PEER_LIST_MAX || peer->others.count > PEER_LIST_MAX) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct sentinel_peer *peer;
    if (!peer) peer = new_peer();
    if (!peer) abort();
    struct resp_reply state = {0};
    for (size_t used = size; size > 0; bytes += used, size -= used, used = size) {
        if (resp_reply_scan(&state, (const char *)bytes, size, &used) != RESP_DONE) break; /* as link.c does first */
        redisReader *reader = redisReaderCreate();
        void *reply = NULL;
        if (!reader) abort();
        redisReaderFeed(reader, (const char *)bytes, used);
        if (redisReaderGetReply(reader, &reply) == REDIS_OK && reply) tell(peer, reply);
        if (reply) freeReplyObject(reply);
        redisReaderFree(reader);
    }
    tell(peer, NULL);
    return 0;
}
