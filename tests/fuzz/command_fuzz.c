/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes as a node's reply to COMMAND, and as the words of a client's command. Whatever a reply teaches, the
 * table's own commands must still be found, keys must lie within the command, and answers must be whole
 * replies.
 */
#include "routing/command.h"
#include "routing/resp.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_WORDS = 64 };

static void expect(bool is_true, const char *promise)
{
    if (is_true) return;
    fprintf(stderr, "broken: %s\n", promise);
    abort();
}

/* The words of the text, each of which ends with a byte below '!'. */
static size_t split(struct slice text, struct slice *words)
{
    size_t count = 0, start = 0;
    for (size_t i = 0; i <= text.size && count < MAX_WORDS; i++) {
        if (i < text.size && (unsigned char)text.bytes[i] >= '!') continue;
        words[count++] = (struct slice){text.bytes + start, i - start};
        start = i + 1;
    }
    return count;
}

static void check_keys(const struct command_set *set, const struct slice *words, size_t count)
{
    uint32_t positions[MAX_WORDS];
    const struct command *row = command_find(set, words, count);
    struct command_memo memo = {0};
    for (int i = 0; i < 2 && count > 0; i++)
        expect(command_recall(&memo, set, words, count) == row, "what is recalled is what is found");
    if (!row) return;
    int keys = command_keys(row, words, count, positions, MAX_WORDS);
    expect(keys >= -1 && keys <= (int)count, "no more keys than words");
    for (int i = 0; i < keys; i++)
        expect(positions[i] > 0 && positions[i] < count, "keys lie within the command");
    command_is_blocking(row, words, count);
}

static void check_description(const struct command_set *set, const struct slice *words, size_t count)
{
    size_t size, used;
    bool forward;
    struct resp_reply scan = {0};
    char *answer = command_describe(set, words, count, &size, &forward);
    expect((answer != NULL) == !forward, "an answer, or none and a node is asked");
    if (answer)
        expect(resp_reply_scan(&scan, answer, size, &used) == RESP_DONE && used == size, "one whole reply");
    free(answer);
}

static void check_questions(const struct command_set *set, struct slice text)
{
    struct slice words[MAX_WORDS + 2] = {SLICE("COMMAND"), SLICE("INFO")};
    size_t count = split(text, words + 2);

    check_keys(set, words + 2, count);
    check_description(set, words, count + 2);
    words[1] = SLICE("GETKEYS");
    check_description(set, words, count + 2);
}

static void check_taught_set(const struct command_set *set)
{
    struct slice words[] = {SLICE("COMMAND"), SLICE("LIST")};
    const struct slice get = SLICE("get");

    check_description(set, words, 1);
    check_description(set, words, 2);
    words[1] = SLICE("COUNT");
    check_description(set, words, 2);
    expect(strcmp(command_find(set, &get, 1)->full_name, "get") == 0, "GET is found");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct slice input = {(const char *)bytes, size};
    struct command_set *set = command_set_create(input);
    check_questions(command_set_builtin(), input);
    if (set) {
        check_questions(set, input);
        check_taught_set(set);
    }
    command_set_release(set);
    return 0;
}
