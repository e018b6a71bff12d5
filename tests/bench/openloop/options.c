/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/bench/openloop/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIPELINE_OPEN = 1024 };

enum option_type { OPTION_TEXT, OPTION_WHOLE, OPTION_REAL, OPTION_FLAG };

struct option_row {
    const char *name;
    enum option_type type;
    size_t offset;
    double low;
    double high;
    double fallback;
    const char *help;
};

#define FIELD(name) offsetof(struct options, name)

static const struct option_row rows[] = {
    {"host", OPTION_TEXT, FIELD(host), 0, 0, 0, "IPv4 address (127.0.0.1)"},
    {"port", OPTION_WHOLE, FIELD(port), 1, 65535, 0, "must be given"},
    {"connections", OPTION_WHOLE, FIELD(connections), 1, 100000, 50, "connections (50)"},
    {"rate", OPTION_REAL, FIELD(rate), 0, 1e7, 0,
     "requests per second; 0: a closed loop, as fast as it goes (0)"},
    {"poisson", OPTION_FLAG, FIELD(is_poisson), 0, 0, 0,
     "with --rate: arrivals of a Poisson process, not evenly"},
    {"lockstep", OPTION_FLAG, FIELD(is_lockstep), 0, 0, 0,
     "all connections send, then all wait for all replies"},
    {"fill", OPTION_FLAG, FIELD(is_fill), 0, 0, 0, "set each key once, and nothing else"},
    {"pipeline", OPTION_WHOLE, FIELD(pipeline), 1, 65536, 0,
     "requests sent together on a connection (1); with --rate: the most on their way on one (1024)"},
    {"writes", OPTION_REAL, FIELD(writes_percent), 0, 100, 0, "per cent of requests that are SET (0)"},
    {"mget", OPTION_WHOLE, FIELD(mget_keys), 0, 1000, 0, "read by MGET of so many keys instead of GET (0)"},
    {"keys", OPTION_WHOLE, FIELD(keys), 1, 1e9, 100000, "keys, key:000000000000 and so on (100000)"},
    {"value-bytes", OPTION_WHOLE, FIELD(value_bytes), 0, 16777216, 64,
     "size of each value, of those read as well (64)"},
    {"seconds", OPTION_REAL, FIELD(seconds), 0, 3600, 0, "how long to send what is measured"},
    {"requests", OPTION_WHOLE, FIELD(requests), 0, 1e9, 0,
     "how many to send and measure; one of both must be given"},
    {"warmup", OPTION_REAL, FIELD(warmup_seconds), 0, 600, 0, "seconds of load before it is measured (0)"},
    {"warmup-requests", OPTION_WHOLE, FIELD(warmup_requests), 0, 1e9, 0,
     "requests before they are measured (0)"},
    {"late-us", OPTION_WHOLE, FIELD(late_us), 1, 1e7, 1000, "not to run for so long disturbs what waits meanwhile (1000)"},
    {"timeout", OPTION_REAL, FIELD(timeout_seconds), 0.1, 600, 10,
     "seconds without any reply that end it (10)"},
    {"seed", OPTION_WHOLE, FIELD(seed), 0, 1e15, 1, "of keys, kinds and arrivals (1)"},
    {"by-hand", OPTION_FLAG, FIELD(is_by_hand), 0, 0, 0,
     "say \"ready\" after the warm-up and wait for a line; at the end wait for the end of input"},
    {"help", OPTION_FLAG, FIELD(is_help), 0, 0, 0, "this"},
};

#undef FIELD

enum { ROWS = sizeof rows / sizeof *rows };

static char problem_text[300];

static void set_fallbacks(struct options *options);
static const struct option_row *row_of(const char *word);
static bool read_value(struct options *options, const struct option_row *row, const char *text);
static void set_number(struct options *options, const struct option_row *row, double number);
static const char *check(const struct options *options);
static void settle(struct options *options);

bool options_read(struct options *options, int count, char **words, const char **problem)
{
    set_fallbacks(options);
    *problem = problem_text;
    for (int i = 1; i < count; i++) {
        const struct option_row *row = row_of(words[i]);
        bool needs_value = row && row->type != OPTION_FLAG;
        if (!row) {
            snprintf(problem_text, sizeof problem_text, "%s: there is no such option; --help names all",
                     words[i]);
            return false;
        }
        if (needs_value && i + 1 == count) {
            snprintf(problem_text, sizeof problem_text, "%s: its value is missing", words[i]);
            return false;
        }
        if (!read_value(options, row, needs_value ? words[++i] : NULL)) return false;
    }
    *problem = options->is_help ? NULL : check(options);
    settle(options);
    return !*problem;
}

static void set_fallbacks(struct options *options)
{
    *options = (struct options){.host = "127.0.0.1"};
    for (int i = 0; i < ROWS; i++)
        set_number(options, &rows[i], rows[i].fallback);
}

static const struct option_row *row_of(const char *word)
{
    for (int i = 0; i < ROWS; i++)
        if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, rows[i].name) == 0) return &rows[i];
    return NULL;
}

static bool read_value(struct options *options, const struct option_row *row, const char *text)
{
    void *field = (char *)options + row->offset;
    if (row->type == OPTION_FLAG) {
        *(bool *)field = true;
        return true;
    }
    if (row->type == OPTION_TEXT) {
        *(const char **)field = text;
        return true;
    }
    char *end;
    errno = 0;
    double number = row->type == OPTION_WHOLE ? (double)strtoimax(text, &end, 10) : strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(number >= row->low && number <= row->high)) {
        snprintf(problem_text, sizeof problem_text, "--%s %s: must be a %snumber between %.10g and %.10g",
                 row->name, text, row->type == OPTION_WHOLE ? "whole " : "", row->low, row->high);
        return false;
    }
    set_number(options, row, number);
    return true;
}

static void set_number(struct options *options, const struct option_row *row, double number)
{
    void *field = (char *)options + row->offset;
    if (row->type == OPTION_WHOLE) *(uint64_t *)field = (uint64_t)number;
    if (row->type == OPTION_REAL) *(double *)field = number;
}

static const char *check(const struct options *options)
{
    if (options->port == 0) return "--port must be given";
    if ((options->rate > 0) + options->is_lockstep + options->is_fill > 1)
        return "--rate, --lockstep and --fill exclude each other";
    if (options->is_poisson && options->rate <= 0) return "--poisson needs --rate";
    if (options->is_by_hand && options->rate > 0)
        return "--by-hand and --rate exclude each other: requests would be due meanwhile";
    if (!options->is_fill && options->seconds <= 0 && options->requests == 0)
        return "--seconds or --requests must be given, else it would never end";
    if (options->is_fill && (options->seconds > 0 || options->requests > 0))
        return "--fill ends when each key is set; --seconds and --requests do not go with it";
    return NULL;
}

static void settle(struct options *options)
{
    bool is_open = options->rate > 0;
    options->mode = is_open ? LOAD_OPEN : LOAD_CLOSED;
    if (options->is_lockstep) options->mode = LOAD_LOCKSTEP;
    if (options->pipeline == 0) options->pipeline = is_open ? PIPELINE_OPEN : 1;
    if (!options->is_fill) return;
    options->mode = LOAD_FILL;
    options->requests = options->keys;
    options->writes_percent = 100;
}

void options_print_help(void)
{
    puts("openloop: load for a server that speaks RESP, and how long it lets each request wait.\n\n"
         "With --rate requests are sent at times fixed in advance, and latency counts from the time at which "
         "a\n"
         "request was due, whether or not the server let it be sent then. Prints JSON. Exit status: 0 all "
         "was\n"
         "answered as asked, 1 something was not, 2 usage.\n");
    for (int i = 0; i < ROWS; i++)
        printf("  --%-16s %s\n", rows[i].name, rows[i].help);
}
