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

enum request_inspection tracking_inspection(const struct command_at_hand *at_hand)
{
    struct slice what = at_hand->words[2];
    return slice_is(what, "ON") ? INSPECT_TRACKING_ON : slice_is(what, "OFF") ? INSPECT_TRACKING_OFF : INSPECT_NOTHING;
}

void tracking_answered(struct request *request, bool is_good)
{
    struct client *client = request->client;
    if (is_good)
        client->session.is_tracking = request->inspection == INSPECT_TRACKING_ON;
}
