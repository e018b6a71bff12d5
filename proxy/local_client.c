/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/local_client.h"

bool local_client_bad_count(struct client *client, const struct command_at_hand *at_hand)
{
    struct slice word = at_hand->words[1];
    client_reply_error(client,
                       "-ERR unknown subcommand or wrong number of arguments for '%.*s'. Try CLIENT HELP.",
                       (int)(word.size < 128 ? word.size : 128), word.bytes);
    return true;
}

/* Nobody tracks. */
bool local_client_getredir(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    client_reply(client, SLICE(":-1\r\n"));
    return true;
}

bool local_client_trackinginfo(struct client *client, const struct command_at_hand *at_hand)
{
    (void)at_hand;
    client_reply(
        client,
        SLICE("*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n"));
    return true;
}
