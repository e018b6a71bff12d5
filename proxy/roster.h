/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * roster.h - discovery among the configured nodes alone: kind = static.
 *
 * Every node is asked for its ROLE and its replication history; routing/roles decides. Nobody votes here, so
 * the answer is only as good as the nodes' own words: one that claims to be master is believed while it is
 * the only one, and two at once are an alarm.
 *
 * The functions are in the table roster_discovery of discovery.h.
 *
 * Threads: the control thread only.
 */
#ifndef PROXY_ROSTER_H
#define PROXY_ROSTER_H

#include "proxy/discovery.h"

enum roster_stance {
    ROSTER_UNKNOWN,  /* nobody has answered yet */
    ROSTER_SETTLED,  /* one master */
    ROSTER_NONE,     /* all that answer say they are replicas */
    ROSTER_RIVALS,   /* several say master; one of them was chosen */
    ROSTER_DISPUTED, /* several say master and nothing tells which is newer */
};

#endif
