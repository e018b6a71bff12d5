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
