/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * openloop: load at times fixed in advance, and how long its requests had to wait; see options.c.
 */
#include "tests/bench/openloop/load.h"

#include <stdio.h>

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* More than one in ten was disturbed: this program could not keep up, or the machine has no time for it. */
static const double disturbed_share_max = 0.1;

static void print(const struct options *options, const struct outcome *outcome);
static void print_latency(const char *name, const struct histogram *latency_ns);
static void print_text(const char *name, const char *text);
static void wait_for_end_of_input(void);

int main(int count, char **words)
{
    struct options options;
    const char *problem;
    if (!options_read(&options, count, words, &problem)) {
        fprintf(stderr, "openloop: %s\n", problem);
        return EXIT_USAGE;
    }
    if (options.is_help) {
        options_print_help();
        return EXIT_FINE;
    }
    struct load *load = load_create(&options, &problem);
    if (!load) {
        fprintf(stderr, "openloop: %s\n", problem);
        return EXIT_FAILED;
    }
    const struct outcome *outcome = load_run(load);
    print(&options, outcome);
    bool is_fine = outcome->failure[0] == '\0' && outcome->first_complaint[0] == '\0';
    if (options.is_by_hand) wait_for_end_of_input();
    load_destroy(load);
    return is_fine ? EXIT_FINE : EXIT_FAILED;
}

static void print(const struct options *options, const struct outcome *outcome)
{
    static const char *const modes[] = {"closed", "open", "lockstep", "fill"};
    double disturbed_share = outcome->requests ? (double)outcome->disturbed / (double)outcome->requests : 0;
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"connections", options->connections},
        {"pipeline", options->pipeline},
        {"requests", outcome->requests},
        {"writes", outcome->writes},
        {"answered", outcome->answered},
        {"errors", outcome->errors},
        {"missing", outcome->missing},
        {"wrong", outcome->wrong},
        {"unanswered", outcome->unanswered},
        {"unsent", outcome->unsent},
        {"held", outcome->held},
        {"late", outcome->late},
        {"disturbed", outcome->disturbed},
        {"sent", outcome->sent},
    };
    printf("{\"mode\": \"%s\", \"rate\": %.3f", modes[options->mode], options->rate);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        printf(", \"%s\": %llu", counts[i].name, (unsigned long long)counts[i].value);
    printf(", \"worst_late_us\": %.1f, \"was_the_limit\": %s", (double)outcome->worst_late_ns / 1e3,
           disturbed_share > disturbed_share_max ? "true" : "false");
    printf(", \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"requests_per_second\": %.1f", outcome->seconds,
           outcome->cpu_seconds, outcome->seconds > 0 ? (double)outcome->answered / outcome->seconds : 0);
    print_latency("latency_us", &outcome->latency_ns);
    print_latency("undisturbed_us", &outcome->undisturbed_ns);
    print_text("first_complaint", outcome->first_complaint);
    print_text("failure", outcome->failure);
    puts("}");
    fflush(stdout);
}

static void print_latency(const char *name, const struct histogram *latency_ns)
{
    static const struct {
        const char *name;
        double share;
    } rows[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99_9", 0.999}};
    printf(", \"%s\": {\"mean\": %.1f", name, histogram_mean(latency_ns) / 1e3);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        printf(", \"%s\": %.1f", rows[i].name, (double)histogram_percentile(latency_ns, rows[i].share) / 1e3);
    printf(", \"max\": %.1f}", (double)latency_ns->highest / 1e3);
}

static void print_text(const char *name, const char *text)
{
    printf(", \"%s\": \"", name);
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        bool is_plain = byte >= ' ' && byte < 0x7f && byte != '"' && byte != '\\';
        putchar(is_plain ? byte : '?');
    }
    putchar('"');
}

static void wait_for_end_of_input(void)
{
    for (int byte = getchar(); byte != EOF;)
        byte = getchar();
}
