/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one command and one reply cost to frame, in pipelines of 16: the best of several rounds, since
 * everything else that runs on the machine only adds.
 */
#include "routing/resp.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PIPELINE = 16, PASSES = 20000, ROUNDS = 11 };

#define VALUE_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define BULK_64  "$64\r\n" VALUE_64 "\r\n"

struct pipeline {
    char bytes[PIPELINE * 512];
    size_t size;
};

struct sample {
    const char *name;
    const char *bytes;
};

static const struct sample commands[] = {
    {"GET", "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n"},
    {"SET of 64 bytes", "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n" BULK_64},
    {"MGET of 8",
     "*9\r\n$4\r\nMGET\r\n$2\r\nk1\r\n$2\r\nk2\r\n$2\r\nk3\r\n$2\r\nk4\r\n$2\r\nk5\r\n$2\r\nk6\r\n"
     "$2\r\nk7\r\n$2\r\nk8\r\n"},
    {"inline GET", "GET key:000000000001\r\n"},
};

static const struct sample replies[] = {
    {"+OK", "+OK\r\n"},
    {"-MOVED", "-MOVED 1234 127.0.0.1:6379\r\n"},
    {"integer", ":1234\r\n"},
    {"negative integer", ":-2\r\n"},
    {"missing value", "$-1\r\n"},
    {"bulk of 64 bytes", BULK_64},
    {"array of 4 bulks", "*4\r\n" BULK_64 "$3\r\nfoo\r\n$3\r\nbar\r\n$0\r\n\r\n"},
};

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void fill(struct pipeline *pipeline, const char *bytes)
{
    size_t size = strlen(bytes);
    pipeline->size = 0;
    for (int i = 0; i < PIPELINE; i++, pipeline->size += size)
        memcpy(pipeline->bytes + pipeline->size, bytes, size);
}

static void scan_commands(const struct pipeline *pipeline)
{
    static const struct resp_limits limits = {
        .max_arguments = INT32_MAX, .max_bulk_bytes = 512 << 20, .max_command_bytes = 1 << 30};
    struct resp_command state = {0};
    struct resp_arguments arguments = {0};
    const char *error;
    for (int pass = 0; pass < PASSES; pass++) {
        for (size_t at = 0, used = 0; at < pipeline->size; at += used)
            if (resp_command_scan(&state, &limits, pipeline->bytes + at, pipeline->size - at, &arguments,
                                  &used, &error) != RESP_DONE)
                abort();
    }
    resp_arguments_finish(&arguments);
}

static void scan_replies(const struct pipeline *pipeline)
{
    struct resp_reply state = {0};
    for (int pass = 0; pass < PASSES; pass++) {
        for (size_t at = 0, used = 0; at < pipeline->size; at += used)
            if (resp_reply_scan(&state, pipeline->bytes + at, pipeline->size - at, &used) != RESP_DONE)
                abort();
    }
}

static void measure(const char *kind, const struct sample *sample, void (*scan)(const struct pipeline *))
{
    struct pipeline pipeline;
    fill(&pipeline, sample->bytes);
    double best_ns = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start_ns = now_ns();
        scan(&pipeline);
        double each_ns = (now_ns() - start_ns) / PASSES / PIPELINE;
        if (round == 0 || each_ns < best_ns) best_ns = each_ns;
    }
    printf("%-8s %-18s %6.1f ns\n", kind, sample->name, best_ns);
}

int main(void)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        measure("command", &commands[i], scan_commands);
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++)
        measure("reply", &replies[i], scan_replies);
    return 0;
}
