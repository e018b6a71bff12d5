/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asks the command table, or, given a file with a node's reply to COMMAND, the set made of both. Reads one
 * command per line, words separated by tabs; prints one line of JSON for each: the row that command_find()
 * gives (or null), the positions of the keys (or -1), whether it would block, and for COMMAND itself the
 * answer of command_describe() in hexadecimal ("" where a node must be asked).
 */
#include "routing/command.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_WORDS 1024

static struct command_set *read_set(const char *path);
static size_t split(char *line, struct slice *words);
static void print_answer(const struct command_set *set, const struct slice *words, size_t count);
static void print_description(const struct command_set *set, const struct slice *words, size_t count);
static void print_keys(const struct command *row, const struct slice *words, size_t count);

int main(int argc, char **argv)
{
    static struct slice words[MAX_WORDS];
    struct command_set *set = argc > 1 ? read_set(argv[1]) : command_set_builtin();
    char *line = NULL;
    size_t room = 0;
    ssize_t size;

    if (!set) {
        fprintf(stderr, "%s: not a reply to COMMAND\n", argv[1]);
        return 1;
    }
    while ((size = getline(&line, &room, stdin)) > 0) {
        if (line[size - 1] == '\n') line[size - 1] = 0;
        print_answer(set, words, split(line, words));
        fflush(stdout);
    }
    free(line);
    command_set_release(set);
    return 0;
}

static struct command_set *read_set(const char *path)
{
    static char reply[4 << 20];
    FILE *file = fopen(path, "r");
    if (!file) return NULL;
    size_t size = fread(reply, 1, sizeof(reply), file);
    fclose(file);
    return command_set_create((struct slice){reply, size});
}

static size_t split(char *line, struct slice *words)
{
    size_t count = 0;
    while (count < MAX_WORDS) {
        size_t size = strcspn(line, "\t");
        words[count++] = (struct slice){line, size};
        if (line[size] == 0) break;
        line += size + 1;
    }
    return count;
}

static void print_answer(const struct command_set *set, const struct slice *words, size_t count)
{
    const struct command *row = command_find(set, words, count);
    if (!row) {
        printf("null\n");
        return;
    }
    printf("{\"name\": \"%s\", \"arity\": %d, \"access\": %d, \"pin\": %d, \"local\": %d, \"flags\": %u, "
           "\"spread\": %d, \"merge\": %d, \"finder\": %d, \"first\": %d, \"last\": %d, \"step\": %d, "
           "\"redis_flags\": \"%s\", "
           "\"categories\": \"%s\", \"blocks\": %s, ",
           row->full_name, row->arity, row->access, row->pin, row->local, row->flags, row->spread, row->merge,
           (int)row->keys.finder, row->keys.first, row->keys.last, row->keys.step, row->redis_flags,
           row->categories, command_is_blocking(row, words, count) ? "true" : "false");
    if (row->local == LOCAL_COMMAND) print_description(set, words, count);
    print_keys(row, words, count);
}

static void print_description(const struct command_set *set, const struct slice *words, size_t count)
{
    size_t size;
    bool forward;
    char *answer = command_describe(set, words, count, &size, &forward);

    printf("\"answer\": \"");
    for (size_t i = 0; i < size; i++)
        printf("%02x", (unsigned char)answer[i]);
    printf("\", \"forward\": %s, ", forward ? "true" : "false");
    free(answer);
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
