/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asks the command table. Reads one command per line, words separated by tabs; prints one line of JSON for each:
 * the row that command_find() gives (or null), the positions of the keys (or -1), and whether it would block.
 */
#include "routing/command.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_WORDS 1024

static size_t split(char *line, struct slice *words);
static void print_answer(const struct slice *words, size_t count);
static void print_keys(const struct command *row, const struct slice *words, size_t count);

int main(void)
{
    static struct slice words[MAX_WORDS];
    char *line = NULL;
    size_t room = 0;
    ssize_t size;

    while ((size = getline(&line, &room, stdin)) > 0) {
        if (line[size - 1] == '\n')
            line[size - 1] = 0;
        print_answer(words, split(line, words));
        fflush(stdout);
    }
    free(line);
    return 0;
}

static size_t split(char *line, struct slice *words)
{
    size_t count = 0;
    while (count < MAX_WORDS) {
        size_t size = strcspn(line, "\t");
        words[count++] = (struct slice){line, size};
        if (line[size] == 0)
            break;
        line += size + 1;
    }
    return count;
}

static void print_answer(const struct slice *words, size_t count)
{
    const struct command *row = command_find(command_set_builtin(), words, count);
    if (!row) {
        printf("null\n");
        return;
    }
    printf("{\"name\": \"%s\", \"arity\": %d, \"access\": %d, \"pin\": %d, \"local\": %d, \"flags\": %u, "
           "\"finder\": %d, \"first\": %d, \"last\": %d, \"step\": %d, \"redis_flags\": \"%s\", "
           "\"categories\": \"%s\", \"blocks\": %s, ",
           row->full_name, row->arity, row->access, row->pin, row->local, row->flags, (int)row->keys.finder,
           row->keys.first, row->keys.last, row->keys.step, row->redis_flags, row->categories,
           command_is_blocking(row, words, count) ? "true" : "false");
    print_keys(row, words, count);
}

static void print_keys(const struct command *row, const struct slice *words, size_t count)
{
    uint32_t positions[MAX_WORDS];
    int keys = command_keys(row, words, count, positions, MAX_WORDS);
    if (keys < 0) {
        printf("\"keys\": -1}\n");
        return;
    }
    printf("\"keys\": [");
    for (int i = 0; i < keys && i < MAX_WORDS; i++)
        printf("%s%u", i ? ", " : "", positions[i]);
    printf("]}\n");
}
