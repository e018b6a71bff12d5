/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * census.h - the clients of the proxy, over all workers: CLIENT LIST and CLIENT KILL.
 *
 * Both are handlers as local.h has them: they reply now if the options are wrong, else when all workers have
 * been asked (gather.h).
 *
 * Threads: one worker only.
 */
#ifndef PROXY_CENSUS_H
#define PROXY_CENSUS_H

#include "proxy/client.h"

enum { CENSUS_ADDRESS_MAX = 128, CENSUS_FLAGS_MAX = 16, CENSUS_LINE_MAX = 2048 };

bool census_list(struct client *client, const struct command_at_hand *at_hand);
bool census_kill(struct client *client, const struct command_at_hand *at_hand);

/* Writes the line that CLIENT INFO and CLIENT LIST have for a client, with its line end. asked: of the client
 * that asks, the bytes of its command, else 0. Returns its length, below size. */
size_t census_describe(const struct client *client, size_t asked, char *line, size_t size);

/* Its address or the one it came to, "127.0.0.1:6379", "[::1]:6379" or "/path:0". */
void census_address(const struct client *client, bool is_peer, char *text, size_t size);

/* Its flags, "N" if it has none. */
void census_flags(const struct client *client, char flags[CENSUS_FLAGS_MAX]);

#endif
