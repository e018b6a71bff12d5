/* SPDX-License-Identifier: BSD-2-Clause */
/* The types of values: each reads text into a field, or says what is wrong and what would be right. */
#include "proxy/config_key.h"

#include "routing/command.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number's unit and what it stands for. The first one is for bounds that no larger unit divides. */
struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit duration_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};

#define KIB INT64_C(1024)
static const struct unit size_units[] = {
    {"", 1},
    {"k", KIB},
    {"m", KIB *KIB},
    {"g", KIB *KIB *KIB},
    {"kb", KIB},
    {"mb", KIB *KIB},
    {"gb", KIB *KIB *KIB},
    {"kib", KIB},
    {"mib", KIB *KIB},
    {"gib", KIB *KIB *KIB},
};
enum { SIZE_UNITS_WRITTEN = 4 };
#undef KIB

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { QUOTE_SIZE = 96 };

static bool set_duration(const struct config_key *key, const char *text, void *field,
                         struct config_wrong *wrong);
static bool set_size(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_integer(const struct config_key *key, const char *text, void *field,
                        struct config_wrong *wrong);
static bool set_enum(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_word(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_log_target(const struct config_key *key, const char *text, void *field,
                           struct config_wrong *wrong);
static bool set_secret(const struct config_key *key, const char *text, void *field,
                       struct config_wrong *wrong);
static bool set_dangers(const struct config_key *key, const char *text, void *field,
                        struct config_wrong *wrong);
static void release_nothing(void *field);
static void release_text(void *field);
static void release_secret(void *field);
static void write_duration(int64_t bound, char *text, size_t size);
static void write_size(int64_t bound, char *text, size_t size);
static void write_integer(int64_t bound, char *text, size_t size);

const struct config_type config_duration = {
    .noun = "duration",
    .syntax = "a whole number with its unit: 250ms, 5s, 2m, 1h; 0 needs none",
    .set = set_duration,
    .release = release_nothing,
    .write_bound = write_duration,
};
const struct config_type config_size = {
    .noun = "size",
    .syntax = "a whole number of bytes, or with a unit of 1024: 64k, 512m, 1g (also kb, kib and so on)",
    .set = set_size,
    .release = release_nothing,
    .write_bound = write_size,
};
const struct config_type config_integer = {
    .noun = "number",
    .syntax = "a whole number",
    .set = set_integer,
    .release = release_nothing,
    .write_bound = write_integer,
};
const struct config_type config_enum = {
    .noun = "choice",
    .syntax = "one of the words given",
    .set = set_enum,
    .release = release_nothing,
};
const struct config_type config_word = {
    .noun = "word",
    .syntax = "text without blanks",
    .set = set_word,
    .release = release_text,
};
const struct config_type config_log_target = {
    .noun = "log target",
    .syntax = "stderr, syslog, or a path with a / in it",
    .set = set_log_target,
    .release = release_text,
};
const struct config_type config_secret = {
    .noun = "secret",
    .syntax = "any text; everything behind the = counts, ; and # too",
    .is_secret = true,
    .set = set_secret,
    .release = release_secret,
};

const struct config_type config_dangers = {
    .noun = "commands",
    .syntax = "shutdown, failover, replicaof, slaveof, sync, psync, replconf, debug|segfault (or assert, "
              "crash-and-recover, oom, panic, restart behind the |), several separated by commas",
    .set = set_dangers,
    .release = release_nothing,
};

bool config_say(struct config_wrong *wrong, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(wrong->text, sizeof wrong->text, format, arguments);
    va_end(arguments);
    return false;
}

/* A comment behind the value is the likeliest reason. */
void config_write_bad(struct config_wrong *wrong, const char *text, const char *what, const char *right)
{
    char quoted[QUOTE_SIZE];
    config_quote(text, quoted, sizeof quoted);
    const char *mark = strpbrk(text, ";#");
    if (mark && mark > text && isblank((unsigned char)mark[-1])) right = "a comment needs a line of its own";
    config_say(wrong, "%s %s; %s", quoted, what, right);
}

/* ---- numbers ---- */

bool config_read_digits(const char *text, int64_t *number, const char **rest)
{
    if (!isdigit((unsigned char)*text)) return false;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    *number = value;
    *rest = end;
    return errno == 0;
}

static bool multiply(int64_t *number, const char *unit_name, const struct unit *units, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(units[i].name, unit_name) == 0)
            return !__builtin_mul_overflow(*number, units[i].factor, number);
    return false;
}

static void write_with_unit(int64_t number, const struct unit *units, size_t count, char *text, size_t size)
{
    const struct unit *unit = units;
    for (size_t i = 0; i < count; i++)
        if (number != 0 && number % units[i].factor == 0) unit = &units[i];
    snprintf(text, size, "%lld%s", (long long)(number / unit->factor), number == 0 ? "" : unit->name);
}

static void write_duration(int64_t bound, char *text, size_t size)
{
    write_with_unit(bound, duration_units, COUNT(duration_units), text, size);
}

static void write_size(int64_t bound, char *text, size_t size)
{
    write_with_unit(bound, size_units, SIZE_UNITS_WRITTEN, text, size);
}

static void write_integer(int64_t bound, char *text, size_t size)
{
    snprintf(text, size, "%lld", (long long)bound);
}

static bool store_number(const struct config_key *key, int64_t number, void *field,
                         struct config_wrong *wrong)
{
    if (number < key->min || number > key->max) {
        char min[32], max[32];
        key->type->write_bound(key->min, min, sizeof min);
        key->type->write_bound(key->max, max, sizeof max);
        return config_say(wrong, "must be between %s and %s", min, max);
    }
    memcpy(field, &number, sizeof number);
    return true;
}

static bool set_duration(const struct config_key *key, const char *text, void *field,
                         struct config_wrong *wrong)
{
    int64_t number;
    const char *unit;
    if (!config_read_digits(text, &number, &unit))
        return config_say_bad(wrong, text, "is not a duration",
                              "write a whole number with its unit: 250ms, 5s, 2m, 1h");
    if (*unit == '\0' && number != 0)
        return config_say(wrong, "%s has no unit; write %sms, %ss, %sm or %sh", text, text, text, text, text);
    for (const char *c = unit; *c; c++)
        if (isupper((unsigned char)*c))
            return config_say_bad(wrong, text, "is not a duration", "units are written small: ms, s, m, h");
    if (*unit != '\0' && !multiply(&number, unit, duration_units, COUNT(duration_units)))
        return config_say_bad(wrong, text, "is not a duration",
                              "write a whole number with its unit: 250ms, 5s, 2m, 1h");
    return store_number(key, number, field, wrong);
}

static bool set_size(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    int64_t number;
    const char *unit;
    if (!config_read_digits(text, &number, &unit) || !multiply(&number, unit, size_units, COUNT(size_units)))
        return config_say_bad(wrong, text, "is not a size",
                              "write a whole number of bytes or with a unit: 64k, 512m, 1g");
    return store_number(key, number, field, wrong);
}

static bool set_integer(const struct config_key *key, const char *text, void *field,
                        struct config_wrong *wrong)
{
    int64_t number;
    const char *rest;
    if (!config_read_digits(text + (*text == '-'), &number, &rest) || *rest != '\0')
        return config_say_bad(wrong, text, "is not a whole number", "write digits only");
    return store_number(key, *text == '-' ? -number : number, field, wrong);
}

static bool set_enum(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    char choices[256] = "";
    struct config_guess guess;
    config_guess_begin(&guess, text);
    for (int i = 0; key->choices[i]; i++) {
        if (strcmp(key->choices[i], text) == 0) {
            memcpy(field, &i, sizeof i);
            return true;
        }
        config_guess_offer(&guess, key->choices[i]);
        size_t used = strlen(choices);
        snprintf(choices + used, sizeof choices - used, "%s%s", i > 0 ? ", " : "", key->choices[i]);
    }
    char right[512];
    if (config_guess_end(&guess))
        snprintf(right, sizeof right, "did you mean %s? It is one of %s", config_guess_end(&guess), choices);
    else
        snprintf(right, sizeof right, "write one of %s", choices);
    return config_say_bad(wrong, text, "is not known here", right);
}

/* ---- names of commands ---- */

static bool say_no_danger(struct config_wrong *wrong, const char *name)
{
    struct config_guess guess;
    char right[200];
    const struct slice word = slice_of(name);
    const struct command *command = command_find(command_set_builtin(), &word, 1);
    config_guess_begin(&guess, name);
    for (int i = 0; command_dangers[i]; i++)
        config_guess_offer(&guess, command_dangers[i]);
    if (command && !(command->flags & COMMAND_DANGEROUS))
        return config_say_bad(wrong, name, "is not refused", "leave it out");
    if (config_guess_end(&guess))
        snprintf(right, sizeof right, "did you mean %s?", config_guess_end(&guess));
    else
        snprintf(right, sizeof right, "write %s", config_dangers.syntax);
    return config_say_bad(wrong, name, "is no command that is refused", right);
}

static bool add_danger(int64_t *allowed, const char *name, struct config_wrong *wrong)
{
    if (*name == '\0') return config_say(wrong, "has a comma with no command beside it; remove the comma");
    for (int i = 0; command_dangers[i]; i++) {
        if (strcasecmp(command_dangers[i], name) != 0) continue;
        *allowed |= INT64_C(1) << i;
        return true;
    }
    return say_no_danger(wrong, name);
}

static bool set_dangers(const struct config_key *key, const char *text, void *field,
                        struct config_wrong *wrong)
{
    (void)key;
    int64_t allowed = 0;
    bool is_good = true;
    for (const char *rest = text[strspn(text, " \t")] ? text : NULL; is_good && rest;) {
        const char *begin = rest + strspn(rest, " \t"), *comma = strchr(begin, ',');
        const char *end = comma ? comma : begin + strlen(begin);
        while (end > begin && isblank((unsigned char)end[-1]))
            end--;
        char *name = config_copy_range(begin, end);
        is_good = add_danger(&allowed, name, wrong);
        free(name);
        rest = comma ? comma + 1 : NULL;
    }
    if (is_good) memcpy(field, &allowed, sizeof allowed);
    return is_good;
}

static void release_nothing(void *field)
{
    (void)field;
}

/* ---- text ---- */

static void replace_text(void *field, const char *text)
{
    char *copy = config_copy(text);
    release_text(field);
    memcpy(field, &copy, sizeof copy);
}

static bool has_control(const char *text)
{
    for (const char *c = text; *c; c++)
        if (iscntrl((unsigned char)*c)) return true;
    return false;
}

static bool set_word(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    (void)key;
    if (strchr(text, ' ') || has_control(text))
        return config_say_bad(wrong, text, "has a blank or a control character in it", "write one word");
    replace_text(field, text);
    return true;
}

static bool set_log_target(const struct config_key *key, const char *text, void *field,
                           struct config_wrong *wrong)
{
    (void)key;
    bool is_name = strcmp(text, "stderr") == 0 || strcmp(text, "syslog") == 0;
    if (!is_name && !strchr(text, '/'))
        return config_say_bad(wrong, text, "is no target", "write stderr, syslog, or a path with a / in it");
    if (strstr(text, " ;") || strstr(text, " #") || has_control(text))
        return config_say_bad(wrong, text, "is not a path that can be meant",
                              "write a path without control characters");
    replace_text(field, text);
    return true;
}

static void release_text(void *field)
{
    char *text;
    memcpy(&text, field, sizeof text);
    free(text);
    text = NULL;
    memcpy(field, &text, sizeof text);
}

static bool set_secret(const struct config_key *key, const char *text, void *field,
                       struct config_wrong *wrong)
{
    (void)key;
    (void)wrong;
    char *copy = config_copy(text);
    release_secret(field);
    memcpy(field, &copy, sizeof copy);
    return true;
}

static void release_secret(void *field)
{
    char *text;
    memcpy(&text, field, sizeof text);
    if (text) explicit_bzero(text, strlen(text));
    release_text(field);
}

void config_quote(const char *value, char *text, size_t size)
{
    static const char ending[] = "...\"";
    size_t used = 0;
    text[used++] = '"';
    for (; *value && used + sizeof ending < size; value++)
        text[used++] = iscntrl((unsigned char)*value) ? '?' : *value;
    while (*value && used > 1 && ((unsigned char)*value & 0xc0) == 0x80) {
        value--; /* not through the middle of a UTF-8 character */
        used--;
    }
    snprintf(text + used, size - used, "%s", *value ? ending : "\"");
}

void *config_memory(size_t size)
{
    void *memory = malloc(size);
    if (!memory) abort();
    return memory;
}

void *config_resize(void *memory, size_t size)
{
    void *resized = realloc(memory, size);
    if (!resized) abort();
    return resized;
}

char *config_copy_range(const char *begin, const char *end)
{
    size_t size = (size_t)(end - begin);
    char *copy = config_memory(size + 1);
    memcpy(copy, begin, size);
    copy[size] = '\0';
    return copy;
}

char *config_copy(const char *text)
{
    return config_copy_range(text, text + strlen(text));
}
