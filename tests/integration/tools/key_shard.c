/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which of several masters has a key? Takes the program's command line, of which upstream.distribution and
 * the keys that go with it count. Reads keys, one a line in hexadecimal; prints for each the number of its
 * master in upstream.master_name, from 0.
 */
#include "proxy/config.h"
#include "routing/distribution.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static size_t decode(char *line);

int main(int argc, char **argv)
{
    enum config_action action;
    struct config *config = config_load(argc, argv, environ, &action, stderr);
    if (!config || !config->upstreams[0].distribution) return 2;

    static char line[1 << 16];
    while (fgets(line, sizeof(line), stdin)) {
        struct slice key = {line, decode(line)};
        printf("%u\n", (unsigned)distribution_place_of(config->upstreams[0].distribution, key));
    }
    config_destroy(config);
    return 0;
}

/* In place. Returns how many bytes. */
static size_t decode(char *line)
{
    size_t size = strcspn(line, "\n") / 2;
    for (size_t i = 0; i < size; i++) {
        const char digits[] = {line[2 * i], line[2 * i + 1], '\0'};
        line[i] = (char)strtoul(digits, NULL, 16);
    }
    return size;
}
