/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sentinel.h - discovery by Sentinels: who do they name, does that node agree, which replicas do they list?
 *
 *    seeds -> peers (+ those that peers list) -> views -> routing/quorum -> named node -> its ROLE -> verdict
 *
 *                 named by a majority, newest epoch              its ROLE says master
 *    UNKNOWN ------------------------------------> ASKING ------------------------------> SETTLED
 *                                                    ^   another is named                   |  ^
 *                                                    '--------------------------------------'  |
 *                                                         its ROLE says slave: VETOED <--------'
 *
 * A node that is not named any more is no master from that moment, whether or not the new one agrees already.
 * With fewer than a majority heard (ALONE) the last master stays while it says so itself.
 *
 * While a Sentinel promotes a replica of a master that works (routing/handover.h), writes are held, and that replica is
 * the master as soon as it says so: it is named up to a second later (AHEAD), and what the old master took meanwhile would
 * be lost.
 *
 * Where there are several masters (upstream.master_name = a, b), this goes on for each by itself, over
 * connections of its own; each is a shard, in the order of the names, and a node belongs to one of them.
 *
 * The functions are in the table sentinel_discovery of discovery.h.
 *
 * Threads: the control thread only.
 */
#ifndef PROXY_SENTINEL_H
#define PROXY_SENTINEL_H

#include "proxy/discovery.h"

enum sentinel_stance {
    STANCE_UNKNOWN,   /* no master was ever named */
    STANCE_ASKING,    /* one is named and does not say master yet */
    STANCE_SETTLED,   /* one is named and says master */
    STANCE_VETOED,    /* the accepted one says it is a replica, or another was named and is not confirmed */
    STANCE_TAKEN,     /* one is named that another name has as its master */
    STANCE_UNDECIDED, /* a majority is heard but disagrees */
    STANCE_AHEAD,     /* the last master was seen to take over, and most of the Sentinels are still to name it */
    STANCE_ALONE, /* fewer than a majority are heard, or only older news: the last master, while it agrees */
};

#endif
