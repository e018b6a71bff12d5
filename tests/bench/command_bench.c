/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What it costs to find a command's row and its keys: the best of several rounds, since everything else that
 * runs on the machine only adds.
 */
#include "routing/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PASSES = 1000000, ROUNDS = 11, MAX_WORDS = 8 };

struct sample {
    const char *text;
    size_t count;
    struct slice words[MAX_WORDS];
};

static struct sample samples[] = {
    {.text = "GET k"},
    {.text = "set k v"},
    {.text = "HINCRBY k f 1"},
    {.text = "MGET a b c d"},
    {.text = "ZREVRANGEBYSCORE k 1 2"},
    {.text = "GEORADIUSBYMEMBER_RO k m 1 m"},
    {.text = "CLIENT SETNAME x"},
    {.text = "EVALSHA s 1 k v"},
    {.text = "XREAD COUNT 1 STREAMS k 0"},
    {.text = "NOSUCH k"},
};

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void split(struct sample *sample)
{
    for (const char *text = sample->text; sample->count < MAX_WORDS; text += strcspn(text, " ") + 1) {
        sample->words[sample->count++] = (struct slice){text, strcspn(text, " ")};
        if (!text[strcspn(text, " ")]) break;
    }
}

static size_t find(const struct sample *sample)
{
    return command_find(command_set_builtin(), sample->words, sample->count) != NULL;
}

static size_t find_keys(const struct sample *sample)
{
    uint32_t positions[MAX_WORDS];
    const struct command *row = command_find(command_set_builtin(), sample->words, sample->count);
    return row ? (size_t)command_keys(row, sample->words, sample->count, positions, MAX_WORDS) : 0;
}

static double best_ns(const struct sample *sample, size_t (*question)(const struct sample *))
{
    double best = 0;
    size_t answers = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start_ns = now_ns();
        for (int pass = 0; pass < PASSES; pass++)
            answers += question(sample);
        double each_ns = (now_ns() - start_ns) / PASSES;
        if (round == 0 || each_ns < best) best = each_ns;
    }
    if (answers == SIZE_MAX) abort();
    return best;
}

int main(void)
{
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        split(&samples[i]);
        printf("%-30s find %5.1f ns   find and keys %5.1f ns\n", samples[i].text, best_ns(&samples[i], find),
               best_ns(&samples[i], find_keys));
    }
    return 0;
}
