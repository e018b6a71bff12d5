/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config_key.h - one row for each key that a user can set, and the types of their values.
 *
 * config_table.c has the rows, config_value.c, config_address.c and config_distribution.c the types,
 * config_print.c prints what the rows say, config.c fills a struct config by them. Only the files of this
 * module and its tests include this header.
 *
 * Threads: rows and types are constants.
 */
#ifndef PROXY_CONFIG_KEY_H
#define PROXY_CONFIG_KEY_H

#include "proxy/config.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config_key;

/* What is wrong with a value and what would be right, for a person. */
struct config_wrong {
    char text[512];
};

struct config_type {
    const char *noun;   /* "duration" */
    const char *syntax; /* how values are written, for help */
    bool is_secret;     /* never printed; NAME_file names a file to take it from */
    /* Replaces what is in field by what text says. If text is wrong, returns false, says why and leaves
     * field. */
    bool (*set)(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
    void (*release)(void *field);
    /* Writes a bound as a user would; NULL for types without bounds. */
    void (*write_bound)(int64_t bound, char *text, size_t size);
};

extern const struct config_type config_duration, config_size, config_integer, config_enum;
extern const struct config_type config_addresses, config_listen_addresses, config_mappings, config_word, config_log_target,
    config_secret, config_dangers;
extern const struct config_type config_names, config_servers, config_hash_tag;

enum config_home { HOME_CONFIG, HOME_UPSTREAM }; /* the struct that field is an offset in */

struct config_key {
    const char *section, *name;
    const struct config_type *type;
    enum config_home home;
    size_t field;
    const char *fallback;       /* the default, as a user would write it */
    int64_t min, max;           /* for numbers */
    const char *const *choices; /* for config_enum, in the order of the C enum; ends with NULL */
    bool is_listen;             /* for config_addresses: no host means all interfaces */
    bool at_reload;             /* a reload may change it */
    const char *help;           /* sentences, for the manual */
};

/* What stands above the keys of a section. */
struct config_section {
    const char *name;
    const char *help;
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;
extern const struct config_section config_sections[]; /* in the order of config_keys[] */
extern const size_t config_section_count;

/* The place of key's value in config. */
void *config_field(const struct config_key *key, struct config *config);

/* "threads" is row [proxy] threads. "password_file" is row [proxy] password, with *by_file set. NULL if none.
 */
const struct config_key *config_find_key(const char *section, const char *name, bool *by_file);

/* One option of the command line that is no key. */
struct config_option {
    char letter;               /* 0: has only its name */
    const char *name;          /* without -- */
    const char *value;         /* of its value, for help; NULL if it takes none */
    bool value_is_optional;    /* then only behind = */
    enum config_action action; /* CONFIG_RUN: changes none */
    const char *help;
};

extern const struct config_option config_options[];
extern const size_t config_option_count;

/* The nearest to text among words, or NULL if none is near enough to be what was meant. */
struct config_guess {
    const char *text;
    size_t distance;
    char nearest[128];
};
void config_guess_begin(struct config_guess *guess, const char *text);
void config_guess_offer(struct config_guess *guess, const char *word);
const char *config_guess_end(const struct config_guess *guess);

/* Writes what is wrong. Always false, so that a setter can end with it. */
bool config_say(struct config_wrong *wrong, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for: this value is `what`; `right` would be right. */
void config_write_bad(struct config_wrong *wrong, const char *text, const char *what, const char *right);
static inline bool config_say_bad(struct config_wrong *wrong, const char *text, const char *what,
                                  const char *right)
{
    config_write_bad(wrong, text, what, right);
    return false;
}

/* Reads the digits at text; false if there are none or the number is too large for any key. */
bool config_read_digits(const char *text, int64_t *number, const char **rest);

/* Writes a value for an error message: in quotes, on one line, cut if long. Never for secrets. */
void config_quote(const char *value, char *text, size_t size);

/* True if both mean the same place, whatever their personas. */
bool config_address_equals(const struct config_address *a, const struct config_address *b);
bool config_address_is_unix(const struct config_address *address);
enum { CONFIG_ADDRESS_SIZE = 320, CONFIG_ADDRESSES_MAX = 1024 /* in one list */ };
/* As a user would write it, in CONFIG_ADDRESS_SIZE bytes. */
void config_address_write(const struct config_address *address, char *text, size_t size);

/* Takes the next item between commas, without the blanks around it. *rest is NULL at the end, then NULL is
 * returned. The caller frees it. */
char *config_next_item(const char **rest);

/* Never NULL: who cannot allocate a few bytes at start says so and ends. */
void *config_memory(size_t size);
void *config_resize(void *memory, size_t size);
char *config_copy(const char *text);
char *config_copy_range(const char *begin, const char *end);

#endif
