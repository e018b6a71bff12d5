/* SPDX-License-Identifier: BSD-2-Clause */
/* What the table says, printed: help, proxy.ini.example, and the keys of the manual page. */
#include "proxy/config_key.h"

#include <string.h>

enum { WIDTH = 100, RANGE_SIZE = 320 };

/* ---- shared ---- */

/* Writes words, each line begun with indent and no longer than WIDTH. column says how far the first line is.
 */
static void write_wrapped(FILE *out, const char *indent, size_t column, const char *words)
{
    while (*words) {
        size_t size = strcspn(words, " ");
        if (column > strlen(indent) && column + 1 + size > WIDTH) {
            fprintf(out, "\n");
            column = 0;
        }
        if (column == 0)
            fputs(indent, out);
        else if (column > strlen(indent))
            fputc(' ', out);
        column = (column == 0 ? strlen(indent) : column + (column > strlen(indent))) + size;
        fprintf(out, "%.*s", (int)size, words);
        words += size + strspn(words + size, " ");
    }
    fputc('\n', out);
}

/* "duration, from 1ms to 1h" */
static void write_range(const struct config_key *key, char *text, size_t size)
{
    char min[32], max[32];
    size_t used = (size_t)snprintf(text, size, "%s", key->type->noun);
    if (key->type->write_bound) {
        key->type->write_bound(key->min, min, sizeof min);
        key->type->write_bound(key->max, max, sizeof max);
        snprintf(text + used, size - used, ", from %s to %s", min, max);
    }
    for (size_t i = 0; key->choices && key->choices[i]; i++) {
        used = strlen(text);
        snprintf(text + used, size - used, "%s%s", i == 0 ? ": " : ", ", key->choices[i]);
    }
}

static bool is_in(const struct config_key *key, const struct config_section *section)
{
    return strcmp(key->section, section->name) == 0;
}

static const struct config_type *const types[] = {
    &config_duration,         &config_size,     &config_integer,    &config_enum,    &config_addresses,
    &config_listen_addresses, &config_mappings, &config_log_target, &config_word,    &config_secret,
    &config_dangers,          &config_names,    &config_hash_tag,   &config_servers,
};
enum { TYPE_COUNT = sizeof types / sizeof *types };

static void write_type(FILE *out, const char *margin, const struct config_type *type)
{
    enum { NOUN_WIDTH = 12 };
    char indent[32];
    int used = snprintf(indent, sizeof indent, "%s%*s", margin, NOUN_WIDTH + 2, "");
    fprintf(out, "%s%-*s  ", margin, NOUN_WIDTH, type->noun);
    write_wrapped(out, indent, (size_t)used, type->syntax);
}

/* ---- --help ---- */

static void write_option(FILE *out, const struct config_option *option)
{
    static const char indent[] = "                                ";
    char left[64];
    size_t used = 0;
    if (option->letter)
        used = (size_t)snprintf(left, sizeof left, "  -%c, ", option->letter);
    else
        used = (size_t)snprintf(left, sizeof left, "      ");
    snprintf(left + used, sizeof left - used, "--%s%s%s%s", option->name,
             option->value ? (option->value_is_optional ? "[=" : "=") : "",
             option->value ? option->value : "", option->value_is_optional ? "]" : "");
    fprintf(out, "%-*s", (int)strlen(indent), left);
    write_wrapped(out, indent, strlen(indent), option->help);
}

void config_print_usage(FILE *out)
{
    fputs("Usage: pointsman [-c FILE] [--section.key=value ...]\n"
          "       pointsman --check-config [-c FILE] [--section.key=value ...]\n"
          "\n"
          "A routing proxy for Redis: clients connect to one address; writes go to the master, reads to "
          "replicas,\n"
          "and a failover happens behind it.\n"
          "\n"
          "Options:\n",
          out);
    for (size_t i = 0; i < config_option_count; i++)
        write_option(out, &config_options[i]);
    fputs(
        "      --section.key=value       Set a key, for instance --upstream.nodes=127.0.0.1:26379. The value "
        "may also\n"
        "                                be the next argument.\n"
        "\n"
        "A key is taken from the first of these that has it: the command line; the environment, as\n"
        "POINTSMAN_SECTION_KEY, for instance POINTSMAN_UPSTREAM_NODES; the file; its default. A secret may "
        "stand in\n"
        "a file of its own, named by its key with _file behind it, for instance upstream.password_file.\n"
        "\n"
        "Exit status: 0 fine, 1 failure while running, 2 wrong configuration or usage, 3 an address to "
        "listen on\n"
        "cannot be bound.\n"
        "\n"
        "Signals: TERM and INT stop accepting, finish what is in flight within proxy.drain_time and end; a "
        "second\n"
        "one ends at once. HUP is reserved. PIPE is ignored.\n",
        out);
}

/* ---- --help-config ---- */

static void write_help_of(FILE *out, const struct config_key *key)
{
    char range[RANGE_SIZE];
    write_range(key, range, sizeof range);
    fprintf(out, "\n  %s.%s = %s\n", key->section, key->name, *key->fallback ? key->fallback : "(empty)");
    fprintf(out, "      (%s)\n", range);
    write_wrapped(out, "      ", 0, key->help);
    if (key->type->is_secret)
        fprintf(out, "      Or %s.%s_file: the path of a file with it.\n", key->section, key->name);
}

void config_print_help(FILE *out)
{
    fputs("Every key with its default. Values are written so:\n\n", out);
    for (size_t i = 0; i < TYPE_COUNT; i++)
        write_type(out, "  ", types[i]);
    for (size_t i = 0; i < config_section_count; i++) {
        fprintf(out, "\n[%s]  %s\n", config_sections[i].name, config_sections[i].help);
        for (size_t k = 0; k < config_key_count; k++)
            if (is_in(&config_keys[k], &config_sections[i])) write_help_of(out, &config_keys[k]);
    }
}

/* ---- proxy.ini.example ---- */

static void write_example_of(FILE *out, const struct config_key *key)
{
    char range[RANGE_SIZE];
    write_range(key, range, sizeof range);
    fputc('\n', out);
    write_wrapped(out, "# ", 0, key->help);
    if (key->type->is_secret) fprintf(out, "# Or %s_file = PATH of a file with it.\n", key->name);
    fprintf(out, "# (%s)\n;%s =%s%s\n", range, key->name, *key->fallback ? " " : "", key->fallback);
}

void config_print_example(FILE *out)
{
    fputs("# SPDX-License-Identifier: BSD-2-Clause\n"
          "# Every key of Pointsman with its default. To set one, remove the ; before it.\n"
          "# Printed by: pointsman --help-config=ini\n"
          "#\n"
          "# A line that begins with # or ; is a comment. There are no comments behind a value: all of the "
          "line\n"
          "# counts, so that secrets may have any characters. Blanks around a value do not count; to keep "
          "them, put\n"
          "# the value in double quotes (those inside need nothing). A value ends with its line.\n"
          "#\n"
          "# Each key can also be given as --section.key=value or in the environment as "
          "POINTSMAN_SECTION_KEY; the\n"
          "# command line comes before the environment, and that before this file.\n"
          "#\n"
          "# Values are written so:\n",
          out);
    for (size_t i = 0; i < TYPE_COUNT; i++)
        write_type(out, "#   ", types[i]);
    for (size_t i = 0; i < config_section_count; i++) {
        fputc('\n', out);
        write_wrapped(out, "# ", 0, config_sections[i].help);
        fprintf(out, "[%s]\n", config_sections[i].name);
        for (size_t k = 0; k < config_key_count; k++)
            if (is_in(&config_keys[k], &config_sections[i])) write_example_of(out, &config_keys[k]);
    }
}

/* ---- the manual page ---- */

/* A leading '.' or '\'' would be a request; '-' shall stay one and '\' be seen. */
static void write_roff(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'') fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

/* Each sentence on its own line, as roff wants it. */
static void write_roff_sentences(FILE *out, const char *text)
{
    while (*text) {
        const char *end = strstr(text, ". ");
        size_t size = end ? (size_t)(end - text) + 1 : strlen(text);
        char sentence[512];
        snprintf(sentence, sizeof sentence, "%.*s", (int)size, text);
        write_roff(out, sentence);
        fputc('\n', out);
        text += size + (end != NULL);
    }
}

static void write_roff_of(FILE *out, const struct config_key *key)
{
    char range[RANGE_SIZE];
    write_range(key, range, sizeof range);
    fprintf(out, ".TP\n.B %s = ", key->name);
    write_roff(out, *key->fallback ? key->fallback : "(empty)");
    fputs("\n(", out);
    write_roff(out, range);
    fputs(")\n.br\n", out);
    write_roff_sentences(out, key->help);
    if (key->type->is_secret) fprintf(out, "Or\n.BR %s_file :\nthe path of a file with it.\n", key->name);
}

void config_print_roff(FILE *out)
{
    fputs(".SS Types\n", out);
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        fprintf(out, ".TP\n.I %s\n", types[i]->noun);
        write_roff(out, types[i]->syntax);
        fputs(".\n", out);
    }
    for (size_t i = 0; i < config_section_count; i++) {
        fprintf(out, ".SS [%s]\n", config_sections[i].name);
        write_roff_sentences(out, config_sections[i].help);
        for (size_t k = 0; k < config_key_count; k++)
            if (is_in(&config_keys[k], &config_sections[i])) write_roff_of(out, &config_keys[k]);
    }
}
