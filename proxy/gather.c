/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/gather.h"

#include "proxy/worker.h"

static void arrive(struct letter *letter, void *receiver);
static void come_home(struct letter *letter, void *receiver);

bool gather_send(struct gather *gather, const struct gather_kind *kind, struct client *client)
{
    gather->kind = kind;
    gather->origin = client->worker;
    gather->client_id = client->id;
    gather_again(gather, client->worker->group->workers[0]);
    client_stall(client, STALL_GATHER);
    return true;
}

void gather_again(struct gather *gather, struct worker *worker)
{
    if (atomic_load(&worker->group->is_ending)) { /* nobody opens letters any more */
        gather->kind->destroy(gather);
        return;
    }
    gather->letter.deliver = arrive;
    mailbox_post(&worker->mailbox, &gather->letter);
}

void gather_home(struct gather *gather)
{
    if (atomic_load(&gather->origin->group->is_ending)) { /* there may be no home any more */
        gather->kind->destroy(gather);
        return;
    }
    gather->letter.deliver = come_home;
    mailbox_post(&gather->origin->mailbox, &gather->letter);
}

static void arrive(struct letter *letter, void *receiver)
{
    struct gather *gather = (struct gather *)letter;
    struct worker *worker = receiver;
    struct worker_group *group = worker->group;
    if (atomic_load(&group->is_ending)) {
        gather->kind->destroy(gather);
        return;
    }
    switch (gather->kind->visit(gather, worker)) {
    case GATHER_KEPT:
        return;
    case GATHER_HOME:
        break;
    case GATHER_ON:
        if (++gather->visited < group->count) {
            gather_again(gather, group->workers[gather->visited]);
            return;
        }
        break;
    }
    gather_home(gather);
}

static void come_home(struct letter *letter, void *receiver)
{
    struct gather *gather = (struct gather *)letter;
    struct worker *worker = receiver;
    struct client *client = worker->clients;
    while (client && client->id != gather->client_id)
        client = client->next;
    if (client && client->stall == STALL_GATHER && !atomic_load(&worker->group->is_ending)) {
        gather->kind->conclude(gather, client);
        client->stall = STALL_NONE;
        worker_resume_client(worker, client);
    }
    gather->kind->destroy(gather);
}
