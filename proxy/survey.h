/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * survey.h - what the control thread knows of one upstream, from which snapshots are made.
 *
 *    Sentinels, nodes --> discovery (a kind of discovery.h) --> verdict: who is master
 *    nodes ------------> probes ------------------------------> which replicas are fit
 *                                                                   |
 *                        survey_run(), once per loop turn: snapshot, published if it says something new
 *
 * Handlers only note what they heard and call survey_touch(); survey_run() is the one place that decides,
 * destroys and publishes.
 *
 * Owner:   the control thread's list of upstreams; it owns its probes and its discovery.
 * Threads: the control thread only.
 */
#ifndef PROXY_SURVEY_H
#define PROXY_SURVEY_H

#include "proxy/config.h"
#include "proxy/discovery.h"
#include "proxy/freshening.h"
#include "proxy/probe.h"
#include "proxy/switchover.h"
#include "routing/topology.h"

/* What discovery has found of one shard. */
struct survey_shard {
    struct probe *master;  /* whom writes may go to; NULL while there is none */
    struct probe
        *followed; /* whose replicas may be read from: the master, or the last one while there is none */
    uint64_t epoch;
    uint64_t confirmed_us; /* see topology.h */
    bool is_yielding;      /* the same */
    const struct probe *reigning; /* the survey's: the last master, never looked into, and */
    uint64_t reign_us;     /* ... since when */
    bool is_disputed;      /* ... two masters: in the log */
    uint64_t reported_us;  /* the survey's: the newest report that waits for a confirmation; 0 = none */
};

/* What discovery has found. A kind that knows of one shard only leaves all but is_unsettled alone, and sets
 * `only` of the survey, which shards points to. Other kinds (Sentinels too) own their lists, which stand as
 * long as the verdict does; each of their probes names its shard. */
struct survey_verdict {
    struct survey_shard *shards;
    uint32_t shard_count;
    const uint16_t *slots; /* as in topology_draft */
    bool is_cluster;
    const struct distribution *distribution;
    bool is_unsettled; /* discovery wants ask() again soon */
    bool is_urgent;    /* ... and as often as the rate of questions allows */
};

/* Takes one reference to the snapshot. */
typedef void survey_publish(void *owner, uint32_t index, struct topology *topology);

struct survey {
    const struct config_upstream *config;
    uint32_t index;
    struct ev_loop *loop;
    struct resolver *resolver;
    struct probe_setup setup;
    struct probe *probes;
    const struct discovery_kind *kind, *next_kind;
    void *discovery;
    struct survey_verdict verdict;
    struct survey_shard only;
    struct freshening freshening;
    struct switchover *switchover; /* NULL mostly */
    bool is_touched, is_mode_noted;

    /* Private to survey.c. */
    survey_publish *publish;
    void *owner;
    struct topology *last;
    uint64_t version;
    uint64_t asked_us;
    ev_timer hurry;
    double hurry_s;
    struct command_set *commands;
    char *command_bytes;
    size_t command_size;
};

/* NULL if memory is short. */
struct survey *survey_create(const struct config_upstream *config, uint32_t index, struct ev_loop *loop,
                             struct resolver *resolver, survey_publish *publish, void *owner);
void survey_destroy(struct survey *survey);

/* Something was heard: decide before the loop waits again. */
void survey_touch(struct survey *survey);
void survey_run(struct survey *survey);

/* A worker doubts a master, or a replica. Which master is told by its name's mark, which is never 0. */
#define SURVEY_MARK_ALL UINT64_MAX
uint64_t survey_mark(const char *node_name); /* "": of all */
void survey_report_master(struct survey *survey, uint64_t mark);
void survey_report_node(struct survey *survey, const char *node_name);
/* A worker was sent to another node ("host:port" as announced), or found a slot that nobody has (""). */
void survey_report_map(struct survey *survey, const char *moved_to);

/* For discovery: has ask() called now, or as soon as the rate of questions allows. */
void survey_ask(struct survey *survey);

/* For discovery: go on with another kind, from the next run on. */
void survey_become(struct survey *survey, const struct discovery_kind *kind);

/* The probe of the node there (after the address map), made if there is none; NULL if memory is short. */
struct probe *survey_node(struct survey *survey, const char *host, uint16_t port);

/* The same, but NULL if it is not known yet. */
struct probe *survey_known_node(struct survey *survey, const char *host, uint16_t port);
/* Forgets the node; never from a handler, and never one of the verdict. */
void survey_drop(struct survey *survey, struct probe *probe);

/* The shard whose master this is, or whose nodes it is one of; NULL if it is of none. */
struct survey_shard *survey_shard_of(struct survey *survey, const struct probe *probe);
bool survey_is_master(const struct survey *survey, const struct probe *probe);

/* True if the node says that it is a replica of that master. */
bool survey_follows(const struct survey *survey, const struct probe *followed, const struct probe *probe);

/* The address to use instead of an announced one: upstream.map applied. */
void survey_map(const struct survey *survey, const char **host, uint16_t *port);

/* "upstream" or "upstream NAME", for the beginning of a log line. */
const char *survey_label(const struct survey *survey);

#endif
