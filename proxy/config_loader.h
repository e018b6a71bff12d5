/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config_loader.h - a config being filled: from where each key came, and how many errors there were.
 *
 * config.c owns the loader; config_command_line.c, config_environment.c, config_secret.c and config_check.c
 * work for it.
 *
 * Threads: one, before any other starts.
 */
#ifndef PROXY_CONFIG_LOADER_H
#define PROXY_CONFIG_LOADER_H

#include "proxy/config.h"
#include "proxy/config_key.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { CONFIG_PATH_SIZE = 128 /* "section.name" */ };

/* In rising precedence. */
enum origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_COMMAND_LINE };

struct place {
    enum origin origin;
    int line; /* 0: none */
};

/* Where a key was last set. */
struct setting {
    struct place place;
    bool by_file; /* as NAME_file */
    bool is_bad;  /* told; the value in the config is of an earlier origin */
};

struct loader {
    struct config *config;
    struct setting *settings; /* one for each of config_keys[] */
    const char *file;         /* name for messages */
    FILE *errors;
    size_t error_count;
    bool section_is_known; /* of the line being read; what stands in an unknown one has been told once */
};

/* --section.name=value, pointing into argv. */
struct argument {
    const char *option; /* without -- */
    const char *value;
};

struct command_line {
    enum config_action action;
    const char *file;
    struct argument *arguments;
    size_t count;
};

/* Writes an error, with place before it, and counts it. */
void config_fault(struct loader *loader, struct place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Sets a key, or says what is wrong with its section, name or value. */
void config_assign(struct loader *loader, struct place place, const char *section, const char *name,
                   const char *value);

bool config_section_exists(const char *section);
void config_fault_unknown_section(struct loader *loader, struct place place, const char *section);

struct setting *config_setting(struct loader *loader, const struct config_key *key);

/* Reads at most max bytes of a descriptor and leaves room for one more. Returns NULL with errno set; EFBIG if
 * there is more. */
char *config_read_all(int descriptor, size_t max, size_t *size);

/* config_command_line.c: what the arguments of the program ask for. The caller frees arguments. */
void config_read_command_line(struct loader *loader, int argc, char **argv,
                              struct command_line *command_line);
void config_load_arguments(struct loader *loader, const struct command_line *command_line);

/* config_environment.c */
void config_load_environment(struct loader *loader, char **environment);

/* config_secret.c: sets key from the file that path names. */
bool config_set_from_file(const struct config_key *key, const char *path, void *field,
                          struct config_wrong *wrong);

/* config_distribution.c: sets upstream->distribution; its keys have been checked. */
void config_make_distribution(struct config_upstream *upstream);

/* config_check.c: what must be right between keys. */
void config_check(struct loader *loader);

#endif
