/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs the control thread alone and prints every snapshot it publishes, one line each:
 *
 *     TIME_US version=3 kind=sentinel epoch=1 confirmed=TIME_US redis=7.0.15 master=HOST:PORT fit
 *         replicas=HOST:PORT,... unfit=HOST:PORT(reason),...   (on the same line)
 *
 * of the first shard, and if there are several, masters=HOST:PORT,... of all, "none" for one without.
 *
 * Of a cluster this is the first shard, and more follows on the line:
 *
 *     shards=SHARD;SHARD;...   with SHARD=FIRST-LAST+FIRST-LAST...|MASTER|CONFIRMED_US|REPLICA,REPLICA,...
 *     uncovered=NUMBER nodes=HOST:PORT,...
 *
 * Takes the program's command line. Each line on standard input is a report: "master" (of all), "master HOST:PORT",
 * "replica HOST:PORT", "moved HOST:PORT" or "uncovered"; "moved HOST:PORT NUMBER" makes it so many times, as fast
 * as it can. Ends at the end of standard input.
 */
#include "proxy/clock.h"
#include "proxy/config.h"
#include "proxy/control.h"
#include "proxy/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static void print_snapshot(void *subscriber, uint32_t upstream, struct topology *topology);
static void print_nodes(const struct topology *topology, bool are_fit);
static void print_masters(const struct topology *topology);
static void print_cluster(const struct topology *topology);
static void print_slots(const struct topology *topology, uint32_t shard);
static void report_moved(struct control *control, char *words);

int main(int argc, char **argv)
{
    enum config_action action;
    struct config *config = config_load(argc, argv, environ, &action, stderr);
    if (!config || !log_open(config->log_target, (enum log_level)config->log_level)) return 2;

    struct control *control = control_create(config);
    if (!control) return 1;
    control_subscribe(control, print_snapshot, NULL);
    if (!control_start(control)) return 1;

    char line[512];
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "master") == 0) control_report(control, 0, REPORT_MASTER_LOST, "");
        if (strncmp(line, "master ", 7) == 0) control_report(control, 0, REPORT_MASTER_LOST, line + 7);
        if (strncmp(line, "replica ", 8) == 0) control_report(control, 0, REPORT_REPLICA_LOST, line + 8);
        if (strncmp(line, "moved ", 6) == 0) report_moved(control, line + 6);
        if (strcmp(line, "uncovered") == 0) control_report(control, 0, REPORT_UNCOVERED, "");
    }
    control_destroy(control);
    config_destroy(config);
    log_close();
    return 0;
}

static void print_snapshot(void *subscriber, uint32_t upstream, struct topology *topology)
{
    (void)subscriber;
    (void)upstream;
    const struct topology_shard *shard = &topology->shards[0];
    const struct topology_node *master =
        shard->master == TOPOLOGY_NO_NODE ? NULL : &topology->nodes[shard->master];
    printf("%" PRIu64 " version=%" PRIu64 " kind=%s epoch=%" PRIu64 " confirmed=%" PRIu64
           " redis=%s master=%s %s",
           clock_us(), topology->version, topology->kind, topology->epoch, shard->confirmed_us,
           topology->server_version, master ? master->name : "none",
           master && master->is_fit ? "fit" : "unfit");
    printf(" replicas=");
    print_nodes(topology, true);
    printf(" unfit=");
    print_nodes(topology, false);
    if (topology->is_cluster)
        print_cluster(topology);
    else if (topology->shard_count > 1)
        print_masters(topology);
    printf("\n");
    fflush(stdout);
    topology_release(topology);
}

static void print_nodes(const struct topology *topology, bool are_fit)
{
    const struct topology_shard *shard = &topology->shards[0];
    for (uint32_t i = 0; i < topology->node_count; i++) {
        const struct topology_node *node = &topology->nodes[i];
        bool is_listed = false;
        for (uint32_t j = 0; j < shard->replica_count; j++)
            is_listed |= shard->replicas[j] == i;
        if (topology->is_cluster && !are_fit) is_listed = node->is_fit;
        if (i == shard->master || is_listed != are_fit) continue;
        if (are_fit)
            printf("%s,", node->name);
        else
            printf("%s(%s),", node->name, node->reason);
    }
}

static void print_masters(const struct topology *topology)
{
    for (uint32_t i = 0; i < topology->shard_count; i++) {
        uint32_t master = topology->shards[i].master;
        printf("%s%s",
               i ? "," : " masters=", master == TOPOLOGY_NO_NODE ? "none" : topology->nodes[master].name);
    }
}

static void print_cluster(const struct topology *topology)
{
    uint32_t uncovered = 0;
    for (uint32_t slot = 0; slot < TOPOLOGY_SLOTS; slot++)
        uncovered += topology->slots[slot] == TOPOLOGY_NO_SHARD;
    printf(" uncovered=%u nodes=", uncovered);
    for (uint32_t i = 0; i < topology->node_count; i++)
        printf("%s,", topology->nodes[i].name);
    printf(" shards=");
    for (uint32_t i = 0; i < topology->shard_count; i++) {
        const struct topology_shard *shard = &topology->shards[i];
        print_slots(topology, i);
        printf("|%s|%" PRIu64 "|",
               shard->master == TOPOLOGY_NO_NODE ? "none" : topology->nodes[shard->master].name,
               shard->confirmed_us);
        for (uint32_t j = 0; j < shard->replica_count; j++)
            printf("%s,", topology->nodes[shard->replicas[j]].name);
        printf(";");
    }
}

static void print_slots(const struct topology *topology, uint32_t shard)
{
    for (uint32_t slot = 0, first = 0; slot < TOPOLOGY_SLOTS; slot++) {
        if (topology->slots[slot] != shard) continue;
        if (slot == 0 || topology->slots[slot - 1] != shard) first = slot;
        if (slot + 1 == TOPOLOGY_SLOTS || topology->slots[slot + 1] != shard) printf("%u-%u+", first, slot);
    }
}

static void report_moved(struct control *control, char *words)
{
    char *number = strchr(words, ' ');
    if (number) *number++ = '\0';
    for (long left = number ? strtol(number, NULL, 10) : 1; left > 0; left--)
        control_report(control, 0, REPORT_MOVED, words);
}
