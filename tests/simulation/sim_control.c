/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/simulation/sim_control.h"

#include "routing/roles.h"
#include "tests/simulation/sim_worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VIEW_AGE_MS = 3000,
    QUESTION_TIMEOUT_MS = 1000,
    WAKE_MS = 20, /* what a frozen Sentinel was asked it answers when it goes on */
    HURRY_FIRST_MS = 20,
    HURRY_LAST_MS = 100,
    HURRY_URGENT_MS = 10,
    NODE_TURN_US = 5, /* what a turn of the loop takes longer for each node */
    REPLID_SIZE = 12,
};

static sim_handler poll, probe_regularly, time_out, lose_probe, ask_sentinel, hear_sentinel, hurry, next_round;
static sim_handler hear_promotion, hear_end, turn, hear_report, hear_news;
static sim_receiver hear_probe;
static void ask_probe(struct sim *sim, uint32_t node, bool is_for_freshness);
static void probe_lost(struct sim *sim, struct sim_probe *probe);
static void touch(struct sim *sim);
static void judge(struct sim *sim, uint32_t index);
static void hand_over(struct sim *sim, struct sim_control_shard *shard);
static struct quorum_answer ask_quorum(struct sim *sim, struct sim_control_shard *shard);
static void stand_alone(struct sim *sim, struct sim_control_shard *shard);
static void keep(struct sim *sim, struct sim_control_shard *shard, const struct quorum_answer *answer);
static void consider(struct sim *sim, struct sim_control_shard *shard, const struct quorum_answer *answer,
                     uint32_t named);
static void accept(struct sim *sim, struct sim_control_shard *shard, uint64_t epoch, uint64_t asked_us);
static void confirm(struct sim *sim, struct sim_control_shard *shard, uint64_t asked_us);
static void judge_node(struct sim *sim, uint32_t index);
static void offer(struct sim *sim);
static bool answer_reports(struct sim *sim);
static struct topology *snapshot(struct sim *sim);
static void ask_all(struct sim *sim, uint32_t shard);
static void set_hurry(struct sim *sim);
static void begin_round(struct sim *sim);
static void take_sample(struct sim *sim, const struct sim_message *message);
static void judge_freshness(struct sim *sim, const struct sim_message *message);

void sim_control_create(struct sim *sim)
{
    struct sim_control *control = sim->control = sim_allocate(1, sizeof(*control));
    uint32_t count = sim->nodes->count, shards = sim->nodes->shard_count;
    control->probes = sim_allocate(count, sizeof(*control->probes));
    control->shards = sim_allocate(shards, sizeof(*control->shards));
    control->draft = sim_allocate(count, sizeof(*control->draft));
    control->draft_shards = sim_allocate(shards, sizeof(*control->draft_shards));
    control->freshness = freshness_create(sim->random);
    control->hurry_us = HURRY_FIRST_MS * SIM_MS;
    for (uint32_t i = 0; i < count; i++) {
        control->probes[i].gauge = node_gauge_create();
        control->probes[i].reason = "";
        sim_after(sim, sim_between(sim, 0, SIM_HEALTH_INTERVAL_MS * SIM_MS), probe_regularly, &control->probes[i], i);
    }
    for (uint32_t i = 0; i < shards; i++) {
        struct sim_control_shard *shard = &control->shards[i];
        shard->accepted = shard->candidate = shard->heir = shard->master = shard->followed = SIM_NONE;
    }
    sim_after(sim, SIM_MS, poll, control, 0);
}

void sim_control_destroy(struct sim *sim)
{
    struct sim_control *control = sim->control;
    for (uint32_t i = 0; i < sim->nodes->count; i++) {
        node_gauge_release(control->probes[i].gauge);
        free(control->probes[i].samples);
    }
    topology_release(control->last);
    freshness_destroy(control->freshness);
    free(control->draft);
    free(control->draft_shards);
    free(control->probes);
    free(control->shards);
    free(control);
}

bool sim_control_is_settled(const struct sim *sim, uint32_t index, uint32_t master)
{
    const struct sim_control_shard *shard = &sim->control->shards[index];
    return shard->master == master && !shard->is_unsettled && !shard->reported_us && shard->heir == SIM_NONE &&
           sim->control->probes[master].answers;
}

/* ---- nodes ---- */

static void probe_regularly(struct sim *sim, void *subject, uint64_t node)
{
    ask_probe(sim, (uint32_t)node, false);
    sim_after(sim, SIM_HEALTH_INTERVAL_MS * SIM_MS, probe_regularly, subject, node);
}

static void ask_probe(struct sim *sim, uint32_t node, bool is_for_freshness)
{
    struct sim_probe *probe = &sim->control->probes[node];
    if (!is_for_freshness) probe->is_of_interest = true;
    if (probe->is_asked) return;
    struct sim_message *message = sim_message_take(sim);
    probe->is_asked = true;
    probe->asked_us = sim->now_us;
    message->question = SIM_PROBE;
    message->node = node;
    message->generation = probe->generation;
    message->wire = &probe->wire;
    message->receiver = hear_probe;
    sim_message_send(sim, message);
    sim_after(sim, QUESTION_TIMEOUT_MS * SIM_MS, time_out, probe, sim->now_us);
}

static void time_out(struct sim *sim, void *subject, uint64_t asked_us)
{
    struct sim_probe *probe = subject;
    if (probe->is_asked && probe->asked_us == asked_us) probe_lost(sim, probe);
}

static void probe_lost(struct sim *sim, struct sim_probe *probe)
{
    probe->generation++;
    probe->wire = (struct sim_wire){0};
    probe->is_asked = probe->answers = false;
    if (!sim_is_broken(sim, SIM_MUTATION_IGNORE_RESTARTS)) atomic_store(&probe->gauge->fresh_us, 0);
    touch(sim);
}

void sim_control_node_lost(struct sim *sim, uint32_t node)
{
    struct sim_probe *probe = &sim->control->probes[node];
    sim_after(sim, sim_latency_us(sim), lose_probe, probe, probe->generation);
}

static void lose_probe(struct sim *sim, void *subject, uint64_t generation)
{
    struct sim_probe *probe = subject;
    if (probe->generation == generation) probe_lost(sim, probe);
}

static void hear_probe(struct sim *sim, struct sim_message *message)
{
    struct sim_probe *probe = &sim->control->probes[message->node];
    if (message->generation != probe->generation) return;
    if (message->answer == SIM_GONE) {
        probe_lost(sim, probe);
        return;
    }
    probe->is_asked = false;
    probe->answers = true;
    probe->run = message->run;
    probe->role = message->is_master ? NODE_ROLE_MASTER : NODE_ROLE_REPLICA;
    probe->role_asked_us = probe->asked_us;
    probe->follows = message->follows;
    probe->is_linked = message->is_linked;
    const struct sim_control_shard *shard = &sim->control->shards[sim->nodes->nodes[message->node].shard];
    if (shard->master == message->node)
        take_sample(sim, message);
    else
        judge_freshness(sim, message);
    if (probe->is_of_interest) touch(sim);
    probe->is_of_interest = false;
}

/* ---- how fresh they are ---- */

static void take_sample(struct sim *sim, const struct sim_message *message)
{
    struct sim_probe *master = &sim->control->probes[message->node];
    char replid[REPLID_SIZE];
    if (master->role != NODE_ROLE_MASTER) return;
    if (!master->samples) master->samples = sim_allocate(1, sizeof(*master->samples));
    snprintf(replid, sizeof(replid), "%x", message->history);
    freshness_sample(master->samples, replid, (int64_t)message->offset, master->asked_us);
    atomic_store(&master->gauge->fresh_us, 0);
    if (!master->is_sampled) return;
    master->is_sampled = false;
    const struct sim_shard *shard = &sim->nodes->shards[sim->nodes->nodes[message->node].shard];
    for (uint32_t i = 0; i < shard->node_count; i++) {
        if (shard->first_node + i != message->node) ask_probe(sim, shard->first_node + i, true);
    }
}

static void judge_freshness(struct sim *sim, const struct sim_message *message)
{
    struct sim_probe *replica = &sim->control->probes[message->node];
    uint32_t index = sim->control->shards[sim->nodes->nodes[message->node].shard].master;
    const struct sim_probe *master = index == SIM_NONE ? NULL : &sim->control->probes[index];
    char replid[REPLID_SIZE];
    if (!master || !master->samples || replica->role != NODE_ROLE_REPLICA) return;
    snprintf(replid, sizeof(replid), "%x", message->history);
    uint64_t fresh_us = freshness_of(master->samples, replid, (int64_t)message->offset);
    if (fresh_us > atomic_load(&replica->gauge->fresh_us)) atomic_store(&replica->gauge->fresh_us, fresh_us);
}

void sim_control_want(struct sim *sim, uint32_t index)
{
    struct sim_control *control = sim->control;
    uint32_t master = control->shards[index].master;
    if (master == SIM_NONE) return;
    atomic_store(&control->probes[master].gauge->is_behind, true);
    if (control->is_round_due) return;
    control->is_round_due = true;
    uint64_t due_us = control->round_us + SIM_FRESHNESS_INTERVAL_MS * SIM_MS;
    uint64_t heard_us = sim->now_us + sim_between(sim, 10, 100);
    sim_at(sim, due_us > heard_us ? due_us : heard_us, next_round, control, 0);
}

static void next_round(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_control *control = subject;
    control->is_round_due = false;
    begin_round(sim);
}

static void begin_round(struct sim *sim)
{
    struct sim_control *control = sim->control;
    control->round_us = sim->now_us;
    for (uint32_t i = 0; i < sim->nodes->shard_count; i++) {
        uint32_t index = control->shards[i].master;
        struct sim_probe *master = index == SIM_NONE ? NULL : &control->probes[index];
        if (!master || !master->answers || !atomic_load(&master->gauge->is_behind)) continue;
        master->is_sampled = true;
        if (master->is_asked) continue;
        atomic_store(&master->gauge->is_behind, false);
        ask_probe(sim, index, true);
    }
}

/* ---- Sentinels ---- */

static void poll(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    for (uint32_t i = 0; i < sim->nodes->shard_count; i++)
        ask_all(sim, i);
    touch(sim);
    sim_after(sim, SIM_POLL_INTERVAL_MS * SIM_MS, poll, subject, 0);
}

/* Its Sentinels, and the nodes that matter. */
static void ask_all(struct sim *sim, uint32_t index)
{
    struct sim_control_shard *shard = &sim->control->shards[index];
    const uint32_t nodes[] = {shard->heir, shard->candidate, shard->accepted};
    for (uint32_t i = 0; i < SIM_SENTINELS; i++) {
        struct sim_peer_view *view = &shard->views[i];
        bool is_open = view->is_asked && sim->now_us - view->tried_us < QUESTION_TIMEOUT_MS * SIM_MS;
        if (is_open) continue;
        view->is_asked = true;
        view->tried_us = sim->now_us;
        sim_after(sim, sim_latency_us(sim), ask_sentinel, shard, i);
    }
    for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++) {
        if (nodes[i] != SIM_NONE) ask_probe(sim, nodes[i], false);
    }
}

static void ask_sentinel(struct sim *sim, void *subject, uint64_t index)
{
    const struct sim_control_shard *shard = subject;
    const struct sim_sentinel *sentinel = &sim->sentinels->items[index];
    bool is_open = shard->views[index].is_asked &&
                   sim->now_us - shard->views[index].tried_us < QUESTION_TIMEOUT_MS * SIM_MS;
    if (sentinel->is_frozen && is_open) sim_after(sim, WAKE_MS * SIM_MS, ask_sentinel, subject, index);
    if (sentinel->is_frozen) return;
    const struct sim_view *view = &sentinel->views[shard - sim->control->shards];
    sim_after(sim, sim_latency_us(sim), hear_sentinel, subject, index << 56 | (uint64_t)view->node << 32 | view->epoch);
}

static void hear_sentinel(struct sim *sim, void *subject, uint64_t said)
{
    struct sim_control_shard *shard = subject;
    struct sim_peer_view *view = &shard->views[said >> 56];
    if (!view->is_asked) return;
    *view = (struct sim_peer_view){.has_view = true,
                                   .node = (uint32_t)(said >> 32) & 0xffffff,
                                   .epoch = (uint32_t)said,
                                   .asked_us = view->tried_us,
                                   .tried_us = view->tried_us};
    touch(sim);
}

void sim_control_hear_promotion(struct sim *sim, uint32_t shard, uint32_t master, uint32_t heir)
{
    if (sim_is_broken(sim, SIM_MUTATION_DEAF)) return;
    sim_after(sim, sim_latency_us(sim), hear_promotion, &sim->control->shards[shard], (uint64_t)master << 32 | heir);
}

static void hear_promotion(struct sim *sim, void *subject, uint64_t said)
{
    struct sim_control_shard *shard = subject;
    if (shard->accepted != (uint32_t)(said >> 32) || shard->accepted == (uint32_t)said) return;
    shard->heir = (uint32_t)said;
    handover_begin(&shard->handover, sim->now_us);
    ask_all(sim, (uint32_t)(shard - sim->control->shards));
    touch(sim);
}

void sim_control_hear_end(struct sim *sim, uint32_t shard)
{
    sim_after(sim, sim_latency_us(sim), hear_end, &sim->control->shards[shard], 0);
}

static void hear_end(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_control_shard *shard = subject;
    handover_end(&shard->handover);
    shard->heir = SIM_NONE;
    touch(sim);
}

void sim_control_hear_news(struct sim *sim, uint32_t shard)
{
    sim_after(sim, sim_latency_us(sim), hear_news, sim->control, shard);
}

static void hear_news(struct sim *sim, void *subject, uint64_t shard)
{
    (void)subject;
    ask_all(sim, (uint32_t)shard);
}

void sim_control_report(struct sim *sim, uint32_t node)
{
    sim_after(sim, sim_between(sim, 10, 200), hear_report, sim->control, node);
}

static void hear_report(struct sim *sim, void *subject, uint64_t node)
{
    (void)subject;
    struct sim_control_shard *shard = &sim->control->shards[sim->nodes->nodes[node].shard];
    if (shard->master != node) {
        ask_probe(sim, (uint32_t)node, false);
        return;
    }
    shard->reported_us = sim->now_us;
    ask_all(sim, (uint32_t)(shard - sim->control->shards));
    touch(sim);
}

/* ---- a turn of the loop ---- */

static void touch(struct sim *sim)
{
    if (sim->control->is_touched) return;
    sim->control->is_touched = true;
    sim_after(sim, 50 + (uint64_t)NODE_TURN_US * sim->nodes->count, turn, sim->control, 0);
}

static void turn(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_control *control = subject;
    control->is_touched = false;
    for (uint32_t i = 0; i < sim->nodes->shard_count; i++)
        judge(sim, i);
    for (uint32_t i = 0; i < sim->nodes->count; i++)
        judge_node(sim, i);
    offer(sim);
    set_hurry(sim);
}

static void set_hurry(struct sim *sim)
{
    struct sim_control *control = sim->control;
    bool is_urgent = false, is_open = false;
    for (uint32_t i = 0; i < sim->nodes->shard_count; i++) {
        is_urgent |= control->shards[i].is_yielding;
        is_open |= control->shards[i].is_unsettled || control->shards[i].reported_us;
    }
    if (!is_urgent && !is_open) control->hurry_us = HURRY_FIRST_MS * SIM_MS;
    if ((!is_urgent && !is_open) || control->is_hurrying) return;
    control->is_hurrying = true;
    sim_after(sim, is_urgent ? HURRY_URGENT_MS * SIM_MS : control->hurry_us, hurry, control, 0);
    control->hurry_us += control->hurry_us / 2;
    if (control->hurry_us > HURRY_LAST_MS * SIM_MS) control->hurry_us = HURRY_LAST_MS * SIM_MS;
}

static void hurry(struct sim *sim, void *subject, uint64_t detail)
{
    (void)detail;
    struct sim_control *control = subject;
    control->is_hurrying = false;
    for (uint32_t i = 0; i < sim->nodes->shard_count; i++) {
        const struct sim_control_shard *shard = &control->shards[i];
        if (shard->is_unsettled || shard->heir != SIM_NONE || shard->reported_us) ask_all(sim, i);
    }
    touch(sim);
}

/* ---- who is the master ---- */

static void judge(struct sim *sim, uint32_t index)
{
    struct sim_control_shard *shard = &sim->control->shards[index];
    hand_over(sim, shard);
    struct quorum_answer answer = ask_quorum(sim, shard);
    switch (answer.verdict) {
    case QUORUM_SILENT:
    case QUORUM_STALE:
        stand_alone(sim, shard);
        break;
    case QUORUM_UNDECIDED:
        shard->master = SIM_NONE;
        break;
    case QUORUM_KEEPS:
        keep(sim, shard, &answer);
        break;
    case QUORUM_RESETS:
    case QUORUM_NAMES:
        consider(sim, shard, &answer, shard->views[answer.winner].node);
        break;
    }
    shard->is_yielding = shard->handover.state == HANDOVER_HOLDING;
    bool differ = false;
    for (uint32_t i = 0; i < SIM_SENTINELS; i++)
        differ |= shard->views[i].epoch != shard->views[0].epoch;
    shard->is_unsettled = differ || shard->master == SIM_NONE;
}

static struct quorum_answer ask_quorum(struct sim *sim, struct sim_control_shard *shard)
{
    struct quorum_view views[SIM_SENTINELS];
    bool is_first = true;
    for (uint32_t i = 0; i < SIM_SENTINELS; i++) {
        const struct sim_peer_view *view = &shard->views[i];
        bool is_heard = view->has_view && sim->now_us - view->asked_us < VIEW_AGE_MS * SIM_MS;
        views[i] = (struct quorum_view){is_heard, sim->nodes->nodes[view->node].name, view->epoch, view->asked_us};
        if (!sim_is_broken(sim, SIM_MUTATION_LOWER_EPOCH) || !is_heard) continue;
        views[i].epoch = is_first ? 1000 + shard->quorum.epoch : 1;
        is_first = false;
    }
    return quorum_decide(&shard->quorum, views, SIM_SENTINELS, SIM_SENTINELS, sim_now_ms(sim));
}

static void hand_over(struct sim *sim, struct sim_control_shard *shard)
{
    if (shard->heir == SIM_NONE) return;
    const struct sim_probe *heir = &sim->control->probes[shard->heir];
    uint32_t index = shard->heir;
    struct handover_heir said = {.is_master = heir->role == NODE_ROLE_MASTER, .role_asked_us = heir->role_asked_us};
    bool is_done = handover_is_done(&shard->handover, &said, sim->now_us);
    if (shard->handover.state == HANDOVER_NONE) shard->heir = SIM_NONE;
    if (!is_done) return;
    quorum_accept(&shard->quorum, sim->nodes->nodes[index].name, shard->quorum.epoch + 1);
    shard->accepted = index;
    shard->candidate = SIM_NONE;
    shard->is_refuted = false;
    accept(sim, shard, shard->quorum.epoch, heir->role_asked_us);
}

/* No majority to ask, or one that knows less than we do: the last master, while it says so itself. */
static void stand_alone(struct sim *sim, struct sim_control_shard *shard)
{
    if (shard->accepted == SIM_NONE) return;
    bool agrees = !shard->is_refuted && sim->control->probes[shard->accepted].role == NODE_ROLE_MASTER;
    shard->master = agrees ? shard->accepted : SIM_NONE;
    if (agrees) confirm(sim, shard, UINT64_MAX);
}

static void keep(struct sim *sim, struct sim_control_shard *shard, const struct quorum_answer *answer)
{
    shard->is_refuted = false;
    shard->candidate = SIM_NONE;
    if (shard->accepted == SIM_NONE || sim->control->probes[shard->accepted].role != NODE_ROLE_MASTER) {
        shard->master = SIM_NONE;
        return;
    }
    if (answer->epoch != shard->quorum.epoch) quorum_accept(&shard->quorum, answer->name, answer->epoch);
    accept(sim, shard, answer->epoch, answer->asked_us);
}

static void consider(struct sim *sim, struct sim_control_shard *shard, const struct quorum_answer *answer,
                     uint32_t named)
{
    const struct sim_probe *probe = &sim->control->probes[named];
    if (named != shard->candidate) {
        shard->candidate = named;
        shard->candidate_us = sim->now_us;
        ask_probe(sim, named, false);
    }
    shard->is_refuted = true;
    if (probe->role != NODE_ROLE_MASTER || probe->role_asked_us < shard->candidate_us) {
        shard->master = SIM_NONE;
        return;
    }
    quorum_accept(&shard->quorum, answer->name, answer->epoch);
    handover_end(&shard->handover);
    shard->accepted = named;
    shard->candidate = shard->heir = SIM_NONE;
    shard->is_refuted = false;
    accept(sim, shard, answer->epoch, answer->asked_us);
}

static void accept(struct sim *sim, struct sim_control_shard *shard, uint64_t epoch, uint64_t asked_us)
{
    if (shard->followed != shard->accepted)
        sim_tell(sim, "control: %s is the master, epoch %llu", sim->nodes->nodes[shard->accepted].name,
                 (unsigned long long)epoch);
    if (shard->followed != shard->accepted) shard->confirmed_us = 0;
    shard->master = shard->followed = shard->accepted;
    shard->epoch = epoch;
    confirm(sim, shard, asked_us);
}

static void confirm(struct sim *sim, struct sim_control_shard *shard, uint64_t asked_us)
{
    uint64_t role_asked_us = sim->control->probes[shard->accepted].role_asked_us;
    uint64_t began_us = asked_us < role_asked_us ? asked_us : role_asked_us;
    if (sim_is_broken(sim, SIM_MUTATION_NEVER_CONFIRM) && shard->confirmed_us) return;
    if (began_us > shard->confirmed_us) shard->confirmed_us = began_us;
}

/* ---- which nodes are fit ---- */

static void judge_node(struct sim *sim, uint32_t index)
{
    struct sim_probe *probe = &sim->control->probes[index];
    const struct sim_control_shard *shard = &sim->control->shards[sim->nodes->nodes[index].shard];
    if (shard->master == index) {
        probe->was_linked = false;
        probe->is_fit = probe->answers;
        probe->reason = probe->answers ? "" : "does not answer";
        return;
    }
    const struct sim_probe *master = shard->master == SIM_NONE ? NULL : &sim->control->probes[shard->master];
    struct roles_replica replica = {
        .is_heard = probe->answers && probe->role != NODE_ROLE_UNKNOWN,
        .says_replica = probe->role == NODE_ROLE_REPLICA,
        .follows_master = probe->role == NODE_ROLE_REPLICA && probe->follows == shard->followed,
        .is_linked = probe->is_linked,
        .was_linked = probe->was_linked,
        .master_works = master && master->answers && master->role_asked_us >= probe->role_asked_us,
        .no_answer = "does not answer",
    };
    const char *fault = roles_replica_fault(&replica);
    if (replica.is_heard) probe->was_linked = !fault;
    probe->is_fit = !fault;
    probe->reason = fault ? fault : "";
}

/* ---- snapshots ---- */

static void offer(struct sim *sim)
{
    struct sim_control *control = sim->control;
    struct topology *topology = snapshot(sim);
    bool answers_report = answer_reports(sim);
    if (control->last && !answers_report && topology_is_same(topology, control->last)) {
        topology_release(topology);
        return;
    }
    control->version++;
    topology_release(control->last);
    control->last = topology;
    sim_tell(sim, "control: topology %llu", (unsigned long long)control->version);
    sim_workers_publish(sim, topology);
}

static bool answer_reports(struct sim *sim)
{
    bool is_any = false;
    for (uint32_t i = 0; i < sim->nodes->shard_count; i++) {
        struct sim_control_shard *shard = &sim->control->shards[i];
        if (!shard->reported_us || shard->master == SIM_NONE || shard->confirmed_us < shard->reported_us) continue;
        shard->reported_us = 0;
        is_any = true;
    }
    return is_any;
}

static struct topology *snapshot(struct sim *sim)
{
    struct sim_control *control = sim->control;
    const struct sim_nodes *nodes = sim->nodes;
    for (uint32_t i = 0; i < nodes->shard_count; i++) {
        const struct sim_control_shard *shard = &control->shards[i];
        control->draft_shards[i] = (struct topology_draft_shard){.master = shard->master,
                                                                 .confirmed_us = shard->confirmed_us,
                                                                 .epoch = shard->epoch,
                                                                 .is_yielding = shard->is_yielding};
    }
    for (uint32_t i = 0; i < nodes->count; i++) {
        const struct sim_probe *probe = &control->probes[i];
        bool is_master = control->shards[nodes->nodes[i].shard].master == i;
        control->draft[i] = (struct topology_node){
            .name = nodes->nodes[i].name,
            .address = "127.0.0.1",
            .port = 6379,
            .role = is_master                          ? NODE_ROLE_MASTER
                    : probe->role == NODE_ROLE_REPLICA ? NODE_ROLE_REPLICA
                                                       : NODE_ROLE_UNKNOWN,
            .shard = (uint16_t)nodes->nodes[i].shard,
            .is_fit = probe->is_fit,
            .is_silent = !probe->answers,
            .says_master = !is_master && probe->answers && probe->role == NODE_ROLE_MASTER,
            .reason = probe->reason,
            .gauge = probe->gauge,
        };
    }
    struct topology_draft draft = {.version = control->version + 1,
                                   .kind = "sentinel",
                                   .server_version = "",
                                   .nodes = control->draft,
                                   .node_count = nodes->count,
                                   .shards = control->draft_shards,
                                   .shard_count = nodes->shard_count};
    return topology_create(&draft);
}

/* ---- to be timed ---- */

uint64_t sim_control_judge_all(struct sim *sim, uint32_t times)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < times; i++) {
        for (uint32_t shard = 0; shard < sim->nodes->shard_count; shard++) {
            judge(sim, shard);
            sum += sim->control->shards[shard].master;
        }
    }
    return sum;
}

uint64_t sim_control_snapshot_once(struct sim *sim)
{
    struct topology *topology = snapshot(sim);
    bool is_same = topology_is_same(topology, sim->control->last);
    topology_release(topology);
    return is_same;
}
