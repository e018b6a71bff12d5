/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/cluster_refresh.h"

#include "proxy/cluster.h"
#include "proxy/log.h"
#include "proxy/survey.h"

enum {
    ANSWER_MS = 2000,     /* a node that takes longer has not answered */
    PATIENCE_US = 300000, /* all wait no longer for the others than this and ... */
    ROUND_TRIPS = 4,      /* ... so many times what they take to answer PING */
};

static uint64_t patience_us_of(const struct cluster_refresh *refresh);
static void choose(struct cluster_refresh *refresh, bool must_answer);
static bool choose_one(struct cluster_refresh *refresh, struct probe *probe, bool must_answer);
static bool question_ask(struct cluster_question *question);
static struct cluster_refresh *refresh_of(const struct probe *probe);
static struct cluster_question *question_of(struct cluster_refresh *refresh, const struct probe *probe,
                                            uint64_t asked_us);
static void told_info(void *owner, struct slice reply, uint64_t asked_us);
static void told_view(void *owner, struct slice reply, uint64_t asked_us);
static void question_read(struct cluster_refresh *refresh, struct cluster_question *question, struct slice reply);
static bool lacks_shards(struct slice reply);
static void log_fault(const struct cluster_refresh *refresh, struct probe *probe, enum cluster_view_status status,
                      struct slice reply);

void cluster_refresh_begin(struct cluster_refresh *refresh, uint64_t now_us)
{
    cluster_refresh_clear(refresh);
    refresh->began_us = now_us;
    choose(refresh, true);
    if (!refresh->asked) choose(refresh, false);
    refresh->hint = NULL;
    refresh->is_under_way = true;
    refresh->patience_us = patience_us_of(refresh);
}

bool cluster_refresh_is_over(const struct cluster_refresh *refresh, uint64_t now_us)
{
    const struct cluster_view *views[CLUSTER_ASKED_MAX];
    size_t over = 0, count = cluster_refresh_views(refresh, views);
    for (size_t i = 0; i < count; i++)
        over += refresh->questions[i].is_over;
    if (over == count || now_us - refresh->began_us >= refresh->patience_us) return true;
    return cluster_vote_is_settled(views, count);
}

size_t cluster_refresh_views(const struct cluster_refresh *refresh, const struct cluster_view **views)
{
    for (size_t i = 0; i < refresh->asked; i++) {
        const struct cluster_view *view = refresh->questions[i].view;
        views[i] = view && refresh->had_slots && !view->slot_count ? NULL : view;
    }
    return refresh->asked;
}

void cluster_refresh_forget(struct cluster_refresh *refresh, const struct probe *probe)
{
    if (refresh->hint == probe) refresh->hint = NULL;
    if (refresh->elected == probe) refresh->elected = NULL;
    for (size_t i = 0; i < refresh->asked; i++) {
        if (refresh->questions[i].probe == probe) refresh->questions[i].probe = NULL;
    }
}

void cluster_refresh_clear(struct cluster_refresh *refresh)
{
    for (size_t i = 0; i < refresh->asked; i++)
        cluster_view_destroy(refresh->questions[i].view);
    refresh->asked = 0;
}

static uint64_t patience_us_of(const struct cluster_refresh *refresh)
{
    uint64_t slowest_us = 0;
    for (size_t i = 0; i < refresh->asked; i++) {
        const struct node_gauge *gauge = refresh->questions[i].probe->gauge;
        uint64_t round_trip_us = atomic_load_explicit(&gauge->round_trip_us, memory_order_relaxed);
        if (!round_trip_us) return (uint64_t)ANSWER_MS * 1000;
        if (round_trip_us > slowest_us) slowest_us = round_trip_us;
    }
    return PATIENCE_US + ROUND_TRIPS * slowest_us;
}

/* The node that a redirect has named and the one elected last, then others in turn, none of them left out. */
static void choose(struct cluster_refresh *refresh, bool must_answer)
{
    struct survey *survey = refresh->survey;
    size_t at = 0, next = refresh->turn;

    if (refresh->hint) choose_one(refresh, refresh->hint, must_answer);
    if (refresh->elected) choose_one(refresh, refresh->elected, must_answer);
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        if (at++ >= refresh->turn && choose_one(refresh, probe, must_answer)) next = at;
    }
    at = 0;
    for (struct probe *probe = survey->probes; probe; probe = probe->next) {
        at++;
        if (choose_one(refresh, probe, must_answer)) next = at;
    }
    refresh->turn = next;
}

/* False if it is not asked, or was chosen before. */
static bool choose_one(struct cluster_refresh *refresh, struct probe *probe, bool must_answer)
{
    if (refresh->asked == CLUSTER_ASKED_MAX || probe->owes_view || (must_answer && !probe->answers)) return false;
    for (size_t i = 0; i < refresh->asked; i++) {
        if (refresh->questions[i].probe == probe) return false;
    }
    struct cluster_question *question = &refresh->questions[refresh->asked];
    *question = (struct cluster_question){.probe = probe, .is_by_slots = probe->lacks_shards};
    if (!question_ask(question)) return false;
    refresh->asked++;
    return true;
}

static bool question_ask(struct cluster_question *question)
{
    static const char *const info[] = {"CLUSTER", "INFO", NULL};
    static const char *const shards[] = {"CLUSTER", "SHARDS", NULL};
    static const char *const slots[] = {"CLUSTER", "SLOTS", NULL};
    struct probe *probe = question->probe;
    if (!probe_question(probe, info, ANSWER_MS, told_info)) return false;
    probe->owes_view =
        probe_question(probe, question->is_by_slots ? slots : shards, ANSWER_MS, told_view);
    return probe->owes_view;
}

/* ---- answers ---- */

/* NULL when the survey is coming to its end. */
static struct cluster_refresh *refresh_of(const struct probe *probe)
{
    struct survey *survey = probe->setup->owner;
    return survey->kind == &cluster_discovery && survey->discovery ? cluster_refresh_of(survey->discovery) : NULL;
}

static struct cluster_question *question_of(struct cluster_refresh *refresh, const struct probe *probe,
                                                    uint64_t asked_us)
{
    if (!refresh || !refresh->is_under_way || asked_us < refresh->began_us) return NULL;
    for (size_t i = 0; i < refresh->asked; i++) {
        if (refresh->questions[i].probe == probe) return &refresh->questions[i];
    }
    return NULL;
}

static void told_info(void *owner, struct slice reply, uint64_t asked_us)
{
    struct probe *probe = owner;
    struct cluster_question *question = question_of(refresh_of(probe), probe, asked_us);
    if (question && reply.bytes) cluster_view_read_info(&question->info, reply);
}

static void told_view(void *owner, struct slice reply, uint64_t asked_us)
{
    struct probe *probe = owner;
    struct cluster_refresh *refresh = refresh_of(probe);
    probe->owes_view = false;
    struct cluster_question *question = question_of(refresh, probe, asked_us);
    if (!question || question->is_over) return;
    question->is_over = true;
    if (reply.bytes) question_read(refresh, question, reply);
    survey_touch(refresh->survey);
}

static void question_read(struct cluster_refresh *refresh, struct cluster_question *question, struct slice reply)
{
    struct probe *probe = question->probe;
    enum cluster_view_status status;
    question->view = question->is_by_slots ? cluster_view_read_slots(reply, probe->host, &status)
                                           : cluster_view_read_shards(reply, probe->host, &status);
    if (question->view) {
        question->view->is_down = question->info.is_down;
        question->view->epoch = question->info.epoch;
        question->view->own_epoch = question->info.own_epoch;
        probe->view_fault = CLUSTER_VIEW_GOOD;
        return;
    }
    bool is_unable = status == CLUSTER_VIEW_REFUSED && lacks_shards(reply);
    if (!question->is_by_slots && (is_unable || status == CLUSTER_VIEW_VAGUE)) {
        probe->lacks_shards |= is_unable;
        question->is_by_slots = true;
        question->is_over = !question_ask(question);
        return;
    }
    log_fault(refresh, probe, status, reply);
}

/* An old server, or a user that may not ask; not one that is loading or busy. */
static bool lacks_shards(struct slice reply)
{
    return slice_starts_with(reply, SLICE("-ERR")) || slice_starts_with(reply, SLICE("-NOPERM"));
}

/* Once, until it is understood again. */
static void log_fault(const struct cluster_refresh *refresh, struct probe *probe,
                              enum cluster_view_status status, struct slice reply)
{
    if (status == probe->view_fault) return;
    probe->view_fault = (uint8_t)status;
    if (status == CLUSTER_VIEW_REFUSED) {
        size_t size = strcspn(reply.bytes + 1, "\r");
        log_warning("%s: node %s: does not tell of its cluster: %.*s", survey_label(refresh->survey),
                    probe->name, size < 150 ? (int)size : 150, reply.bytes + 1);
    } else {
        log_error("%s: node %s: what it tells of its cluster cannot be used: %s",
                  survey_label(refresh->survey), probe->name, cluster_view_fault(status));
    }
}
