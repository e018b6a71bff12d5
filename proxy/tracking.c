/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/tracking.h"

#include "proxy/handler.h"
#include "routing/number.h"

static bool redirects(const struct command_at_hand *at_hand);

bool tracking_answer(struct client *client, const struct command_at_hand *at_hand)
{
    if (!redirects(at_hand))
        return handler_forward(client, at_hand);
    client_reply_error(client, "-ERR The client ID you want redirect to does not exist");
    return true;
}

/* True where Redis would look up the client to redirect to: options before it are good, and its id is a number. */
static bool redirects(const struct command_at_hand *at_hand)
{
    const struct slice *words = at_hand->words;
    int64_t id;
    for (size_t i = 3; i < at_hand->count; i++) {
        bool has_value = i + 1 < at_hand->count;
        if (slice_is(words[i], "REDIRECT") && has_value)
            return number_read(words[i + 1], &id);
        if (slice_is(words[i], "PREFIX") && has_value)
            i++;
        else if (!slice_is(words[i], "BCAST") && !slice_is(words[i], "OPTIN") && !slice_is(words[i], "OPTOUT") &&
                 !slice_is(words[i], "NOLOOP"))
            return false;
    }
    return false;
}

bool tracking_begins(const struct command_at_hand *at_hand)
{
    return slice_is(at_hand->words[2], "ON");
}

enum request_inspection tracking_inspection(const struct command_at_hand *at_hand)
{
    struct slice what = at_hand->words[2];
    if (slice_is(what, "OFF"))
        return INSPECT_TRACKING_OFF;
    if (!tracking_begins(at_hand))
        return INSPECT_NOTHING;
    for (size_t i = 3; i < at_hand->count; i++) {
        if (slice_is(at_hand->words[i], "PREFIX"))
            i++;
        else if (slice_is(at_hand->words[i], "OPTIN"))
            return INSPECT_TRACKING_OPTIN;
        else if (slice_is(at_hand->words[i], "BCAST"))
            return INSPECT_TRACKING_BCAST; /* never with OPTIN */
    }
    return INSPECT_TRACKING_ON;
}

void tracking_answered(struct request *request, bool is_good)
{
    struct client *client = request->client;
    struct session *session = &client->session;
    if (!is_good)
        return;
    if (request->inspection == INSPECT_TRACKING_OFF) {
        session_tracks_not(session);
        return;
    }
    session->tracks_by_option |= request->inspection == INSPECT_TRACKING_OPTIN;
    session->tracks_by_prefix |= request->inspection == INSPECT_TRACKING_BCAST;
    if (!session_tracks(session, (struct slice){request->bytes, request->size}))
        client_close(client, "what it tracks cannot be kept");
}

bool tracking_lost(struct client *client)
{
    const struct session *session = &client->session;
    if (!session->is_tracking)
        return true;
    if (session->tracks_by_option) {
        client_close(client, "connection to the node lost, and with it what CLIENT CACHING YES was for");
        return false;
    }
    if (session->is_resp3)
        client_push_text(client, SLICE(">2\r\n$10\r\ninvalidate\r\n_\r\n"));
    return !client->is_closed;
}
