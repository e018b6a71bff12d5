/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.h - a failover that a Sentinel carries out: when are writes held, and when has the replica taken over?
 *
 * The other Sentinels, and even the one that carries it out, name the new master up to a second after it has become
 * that, and the old one goes on taking writes for ten: all of them are lost. So it is followed step by step:
 *
 *          the Sentinel is about to promote a replica          that replica says that it is a master
 *     NONE ----------------------------------------> HOLDING ----------------------------------------> NONE, it is
 *      ^                                              |   ^                                               the master
 *      |  the Sentinel gives it up                    |   '- again                   the same
 *      +----------------------------------------------+  HANDOVER_HOLD_US have passed  |
 *      '------------------------------------------- LATE <-----------------------------'
 *
 * Where the replicas lag, writes are held one step earlier, when the Sentinel is about to choose one of them: so they have a
 * tenth of a second more to hear all that was acknowledged.
 *
 * While HOLDING the master gets no writes, and the replica is asked again and again; when LATE the master is written to
 * as if nothing were on its way, and the replica is still asked, now and then.
 *
 * Sentinel's events: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#pubsub-messages
 *
 * Owner:   struct handover is embedded in the discovery of one master; allocates nothing.
 * Time:    every call is given now_us; no clock is read here.
 * Threads: one only, no locks.
 */
#ifndef ROUTING_HANDOVER_H
#define ROUTING_HANDOVER_H

#include "routing/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define HANDOVER_HOLD_US  2000000U   /* it takes a tenth of a second, or something is wrong with the replica */
#define HANDOVER_WATCH_US 180000000U /* Sentinel's own failover-timeout, as it is set unless somebody changes it */

enum handover_event_kind {
    HANDOVER_EVENT_NONE,    /* of no interest here */
    HANDOVER_EVENT_NEAR,    /* a replica is about to be chosen: master is set */
    HANDOVER_EVENT_PROMOTE, /* a replica is about to be promoted: heir and master are set */
    HANDOVER_EVENT_GIVE_UP, /* the failover has come to nothing: master is set */
};

/* An address as a Sentinel says it, before any address map; the host points into the event's text. */
struct handover_address {
    struct slice host;
    uint16_t port;
};

struct handover_event {
    enum handover_event_kind kind;
    struct slice master_name;
    struct handover_address master, heir;
};

/* Reads an event as Sentinels publish it, by its channel and its message. What makes no sense is of no interest. */
struct handover_event handover_read(struct slice channel, struct slice message);

enum handover_state { HANDOVER_NONE, HANDOVER_HOLDING, HANDOVER_LATE };

struct handover {
    enum handover_state state;
    uint64_t since_us;     /* when the event was heard */
    int64_t master_offset; /* the replication offset of the master since writes are held; 0 = not known */
};

/* What is known of the replica that is about to be promoted. */
struct handover_heir {
    bool is_master;         /* its ROLE says so */
    uint64_t role_asked_us; /* when that was asked */
};

#define HANDOVER_LAG_US 50000U /* replicas that far behind are known to lag, and not to be asked too seldom */
#define HANDOVER_SETTLE_US 20000U /* after which what was on its way to the master has reached it */

/* Heard HANDOVER_EVENT_PROMOTE, or HANDOVER_EVENT_NEAR where replicas lag. The same once more changes nothing but begins the time anew. */
void handover_begin(struct handover *handover, uint64_t now_us);

/* Heard HANDOVER_EVENT_GIVE_UP, or another master is named. */
void handover_end(struct handover *handover);

/* The master's ROLE, asked at this time, told its offset. */
void handover_hear_master(struct handover *handover, int64_t offset, uint64_t asked_us);

/* How many bytes of what the master has taken are missing where the heir has this offset, as far as is known; still to be
 * asked when the handover has ended. Such writes are lost, since the Sentinel has not waited for them. */
int64_t handover_missing(const struct handover *handover, int64_t heir_offset);

/* Moves the state on with time; true, and it ends, if the heir is the master from now on. */
bool handover_is_done(struct handover *handover, const struct handover_heir *heir, uint64_t now_us);

#endif
