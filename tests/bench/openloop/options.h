/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.h - what load to make, from the command line.
 *
 * Owner: main, which lends it to all others, unchanged.
 */
#ifndef OPENLOOP_OPTIONS_H
#define OPENLOOP_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum load_mode {
    LOAD_CLOSED,   /* the next requests of a connection leave when all of its replies are there */
    LOAD_OPEN,     /* requests leave when they are due */
    LOAD_LOCKSTEP, /* the next requests of all connections leave when all replies are there */
    LOAD_FILL,     /* closed, and sets each key once */
};

struct options {
    enum load_mode mode;
    const char *host;
    uint64_t port;
    uint64_t connections;
    uint64_t pipeline;
    double rate;
    bool is_poisson;
    bool is_lockstep;
    bool is_fill;
    bool is_by_hand;
    double writes_percent;
    uint64_t mget_keys;
    uint64_t keys;
    uint64_t value_bytes;
    double seconds;
    uint64_t requests;
    double warmup_seconds;
    uint64_t warmup_requests;
    uint64_t late_us;
    double timeout_seconds;
    uint64_t seed;
    bool is_help;
};

/* False: *problem says what is wrong, in static memory. */
bool options_read(struct options *options, int count, char **words, const char **problem);

void options_print_help(void);

#endif
