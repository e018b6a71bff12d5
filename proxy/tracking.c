/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/tracking.h"

#include "proxy/handler.h"

static bool redirects(const struct command_at_hand *at_hand);
static bool is_integer(struct slice word);

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
    for (size_t i = 3; i < at_hand->count; i++) {
        bool has_value = i + 1 < at_hand->count;
        if (slice_is(words[i], "REDIRECT") && has_value)
            return is_integer(words[i + 1]);
        if (slice_is(words[i], "PREFIX") && has_value)
            i++;
        else if (!slice_is(words[i], "BCAST") && !slice_is(words[i], "OPTIN") && !slice_is(words[i], "OPTOUT") &&
                 !slice_is(words[i], "NOLOOP"))
            return false;
    }
    return false;
}

static bool is_integer(struct slice word)
{
    struct slice digits = word;
    if (digits.size > 1 && digits.bytes[0] == '-')
        digits = (struct slice){word.bytes + 1, word.size - 1};
    if (digits.size == 0 || digits.size > 18 || (digits.size > 1 && digits.bytes[0] == '0'))
        return false;
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.bytes[i] < '0' || digits.bytes[i] > '9')
            return false;
    }
    return true;
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
