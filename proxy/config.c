/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/config.h"

#include "proxy/config_key.h"
#include "proxy/ini.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_MAX = 1024 * 1024, /* bytes in a configuration file */
    SECRET_MAX = 64 * 1024, /* bytes in a password's file */
    ERRORS_MAX = 100,       /* more are counted, not told: the file is no configuration at all */
    PATH_SIZE = 128,        /* "section.name" */
};

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

static struct config *config_create(void);
static void loader_start(struct loader *loader, FILE *errors);
static struct config *loader_end(struct loader *loader);
static void read_command_line(struct loader *loader, int argc, char **argv, struct command_line *command_line);
static void load_text(struct loader *loader, const char *text, size_t size, const char *name);
static void load_file(struct loader *loader, const char *path);
static void load_environment(struct loader *loader, char **environment);
static void load_arguments(struct loader *loader, const struct command_line *command_line);
static void assign(struct loader *loader, struct place place, const char *section, const char *name,
                   const char *value);
static void check_together(struct loader *loader);
static void fault(struct loader *loader, struct place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct config *config_load(int argc, char **argv, char **environment, enum config_action *action, FILE *errors)
{
    struct loader loader;
    struct command_line command_line;
    loader_start(&loader, errors);
    read_command_line(&loader, argc, argv, &command_line);
    *action = command_line.action;

    bool wants_config = command_line.action == CONFIG_RUN || command_line.action == CONFIG_CHECK;
    if (wants_config) {
        if (command_line.file) load_file(&loader, command_line.file);
        load_environment(&loader, environment);
        load_arguments(&loader, &command_line);
    }
    free(command_line.arguments);
    struct config *config = loader_end(&loader);
    if (wants_config) return config;
    config_destroy(config);
    return NULL;
}

struct config *config_load_text(const char *text, size_t size, const char *name, FILE *errors)
{
    struct loader loader;
    loader_start(&loader, errors);
    load_text(&loader, text, size, name);
    return loader_end(&loader);
}

void config_destroy(struct config *config)
{
    if (!config) return;
    for (size_t i = 0; i < config_key_count; i++)
        config_keys[i].type->release(config_field(&config_keys[i], config));
    free(config->upstreams[0].name);
    free(config->upstreams);
    free(config);
}

/* With nothing set. */
static struct config *config_create(void)
{
    struct config *config = config_memory(sizeof *config);
    memset(config, 0, sizeof *config);
    config->upstreams = config_memory(sizeof *config->upstreams);
    memset(config->upstreams, 0, sizeof *config->upstreams);
    config->upstreams[0].name = config_copy("");
    config->upstream_count = 1;
    return config;
}

/* ---- the loader ---- */

static void loader_start(struct loader *loader, FILE *errors)
{
    *loader = (struct loader){.config = config_create(), .file = "", .errors = errors};
    loader->settings = config_memory(config_key_count * sizeof *loader->settings);
    memset(loader->settings, 0, config_key_count * sizeof *loader->settings);
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        struct config_wrong wrong;
        if (!key->type->set(key, key->fallback, config_field(key, loader->config), &wrong))
            fault(loader, (struct place){ORIGIN_DEFAULT, 0}, "%s.%s: %s", key->section, key->name, wrong.text);
    }
}

/* The config if all was well, NULL if not. */
static struct config *loader_end(struct loader *loader)
{
    check_together(loader);
    free(loader->settings);
    if (loader->error_count > ERRORS_MAX)
        fprintf(loader->errors, "%s: and %zu more errors\n", *loader->file ? loader->file : "command line",
                loader->error_count - ERRORS_MAX);
    if (loader->error_count == 0) return loader->config;
    config_destroy(loader->config);
    return NULL;
}

static void fault(struct loader *loader, struct place place, const char *format, ...)
{
    static const char *const origins[] = {
        [ORIGIN_DEFAULT] = "default",
        [ORIGIN_ENVIRONMENT] = "environment",
        [ORIGIN_COMMAND_LINE] = "command line",
    };
    if (++loader->error_count > ERRORS_MAX) return;
    fputs(place.origin == ORIGIN_FILE ? loader->file : origins[place.origin], loader->errors);
    if (place.line > 0) fprintf(loader->errors, ":%d", place.line);
    fputs(": ", loader->errors);

    va_list arguments;
    va_start(arguments, format);
    vfprintf(loader->errors, format, arguments);
    va_end(arguments);
    fputc('\n', loader->errors);
}

/* ---- one key ---- */

static struct setting *setting_of(struct loader *loader, const struct config_key *key)
{
    return &loader->settings[key - config_keys];
}

/* Words about a line, or nothing where there are no lines. */
static void write_line(struct place place, const char *words, char *text, size_t size)
{
    text[0] = '\0';
    if (place.line > 0) snprintf(text, size, "%s line %d", words, place.line);
}

/* False, and told, if this key has been set at the same origin before. */
static bool is_first(struct loader *loader, const struct config_key *key, struct place place, bool by_file,
                     const char *path)
{
    struct setting *before = setting_of(loader, key);
    char line[32];
    if (before->place.origin != place.origin) return true;
    write_line(before->place, before->by_file == by_file ? ", first on" : ", on", line, sizeof line);
    if (before->by_file == by_file)
        fault(loader, place, "%s: is given twice%s; keep one of them", path, line);
    else
        fault(loader, place, "%s: %s.%s%s is given as well%s; keep one of them", path, key->section, key->name,
              by_file ? "" : "_file", line);
    return false;
}

/* Names the section that has such a key, or the nearest name of this section. */
static void fault_unknown_key(struct loader *loader, struct place place, const char *section, const char *name)
{
    struct config_guess guess;
    config_guess_begin(&guess, name);
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        char file_name[PATH_SIZE];
        if (strcmp(key->section, section) != 0) continue;
        config_guess_offer(&guess, key->name);
        snprintf(file_name, sizeof file_name, "%s_file", key->name);
        if (key->type->is_secret) config_guess_offer(&guess, file_name);
    }
    if (config_guess_end(&guess)) {
        fault(loader, place, "%s.%s: there is no such key; did you mean %s?", section, name, config_guess_end(&guess));
        return;
    }
    for (size_t i = 0; i < config_section_count; i++) {
        bool by_file;
        if (!config_find_key(config_sections[i].name, name, &by_file)) continue;
        fault(loader, place, "%s.%s: there is no such key; %s is a key of section [%s]", section, name, name,
              config_sections[i].name);
        return;
    }
    fault(loader, place, "%s.%s: there is no such key; --help-config lists the keys of [%s]", section, name, section);
}

static bool section_exists(const char *section)
{
    for (size_t i = 0; i < config_section_count; i++)
        if (strcmp(config_sections[i].name, section) == 0) return true;
    return false;
}

/* "proxy, upstream, ..." */
static void write_sections(char *text, size_t size)
{
    text[0] = '\0';
    for (size_t i = 0; i < config_section_count; i++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "", config_sections[i].name);
    }
}

static void fault_unknown_section(struct loader *loader, struct place place, const char *section)
{
    struct config_guess guess;
    char quoted[PATH_SIZE], sections[PATH_SIZE];
    config_quote(section, quoted, sizeof quoted);
    config_guess_begin(&guess, section);
    for (size_t i = 0; i < config_section_count; i++)
        config_guess_offer(&guess, config_sections[i].name);
    write_sections(sections, sizeof sections);
    if (config_guess_end(&guess))
        fault(loader, place, "there is no section %s; did you mean %s?", quoted, config_guess_end(&guess));
    else
        fault(loader, place, "there is no section %s; the sections are %s", quoted, sections);
}

/* Reads at most max bytes of a descriptor. Returns NULL with errno set; EFBIG if there is more. */
static char *read_all(int descriptor, size_t max, size_t *size)
{
    char *bytes = config_memory(max + 1);
    *size = 0;
    while (*size <= max) {
        ssize_t got = read(descriptor, bytes + *size, max + 1 - *size);
        if (got == 0) return bytes;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        *size += (size_t)got;
    }
    int error = *size > max ? EFBIG : errno;
    free(bytes);
    errno = error;
    return NULL;
}

/* Terminal and devices are no place for a secret, and could keep us waiting. */
static bool is_file_or_pipe(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 && (S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode));
}

/* The first line's end may be there or not; all else in the file is the secret. NULL if told what is wrong. */
static char *read_secret(const char *path, struct config_wrong *wrong)
{
    char quoted[PATH_SIZE];
    config_quote(path, quoted, sizeof quoted);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (descriptor < 0) {
        snprintf(wrong->text, sizeof wrong->text, "%s cannot be opened: %s", quoted, strerror(errno));
        return NULL;
    }
    size_t size = 0;
    bool is_file = is_file_or_pipe(descriptor);
    char *secret = is_file ? read_all(descriptor, SECRET_MAX, &size) : NULL;
    int error = errno;
    close(descriptor);

    if (!is_file)
        snprintf(wrong->text, sizeof wrong->text, "%s is not a file; name a file with the secret in it", quoted);
    else if (!secret && error == EFBIG)
        snprintf(wrong->text, sizeof wrong->text, "%s has more than 65536 bytes; that is no secret", quoted);
    else if (!secret)
        snprintf(wrong->text, sizeof wrong->text, "%s cannot be read: %s", quoted, strerror(error));
    if (!secret) return NULL;

    if (size > 0 && secret[size - 1] == '\n') size--;
    secret[size] = '\0';
    if (size > 0 && strlen(secret) == size) return secret;
    snprintf(wrong->text, sizeof wrong->text, "%s %s", quoted,
             size == 0 ? "is empty; leave the key out if there is no secret" : "has a NUL byte in it; a secret has none");
    explicit_bzero(secret, size);
    free(secret);
    return NULL;
}

static bool set_from_file(const struct config_key *key, const char *path, void *field, struct config_wrong *wrong)
{
    char *secret = read_secret(path, wrong);
    if (!secret) return false;
    bool is_good = key->type->set(key, secret, field, wrong);
    explicit_bzero(secret, strlen(secret));
    free(secret);
    return is_good;
}

/* Every value is checked, also one that a later origin replaces. */
static void assign(struct loader *loader, struct place place, const char *section, const char *name,
                   const char *value)
{
    bool by_file;
    const struct config_key *key = config_find_key(section, name, &by_file);
    if (!key) {
        fault_unknown_key(loader, place, section, name);
        return;
    }
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s.%s", section, name);
    if (!is_first(loader, key, place, by_file, path)) return;
    *setting_of(loader, key) = (struct setting){.place = place, .by_file = by_file};

    struct config_wrong wrong;
    void *field = config_field(key, loader->config);
    bool is_good =
        by_file ? set_from_file(key, value, field, &wrong) : key->type->set(key, value, field, &wrong);
    setting_of(loader, key)->is_bad = !is_good;
    if (!is_good) fault(loader, place, "%s: %s", path, wrong.text);
}

/* ---- from a file ---- */

static void found_section(void *user, int line, const char *section)
{
    struct loader *loader = user;
    loader->section_is_known = section_exists(section);
    if (!loader->section_is_known) fault_unknown_section(loader, (struct place){ORIGIN_FILE, line}, section);
}

static void found_entry(void *user, int line, const char *section, const char *name, const char *value)
{
    struct loader *loader = user;
    struct place place = {ORIGIN_FILE, line};
    if (*section == '\0')
        fault(loader, place, "%s: stands before any section; write [proxy] or another section above it", name);
    else if (loader->section_is_known)
        assign(loader, place, section, name, value);
}

static void found_fault(void *user, int line, const char *what)
{
    fault(user, (struct place){ORIGIN_FILE, line}, "%s", what);
}

static void load_text(struct loader *loader, const char *text, size_t size, const char *name)
{
    static const struct ini_events events = {found_section, found_entry, found_fault};
    loader->file = name;
    ini_read(text, size, &events, loader);
}

static void load_file(struct loader *loader, const char *path)
{
    struct place place = {ORIGIN_FILE, 0};
    loader->file = path;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (descriptor < 0) {
        fault(loader, place, "cannot be opened: %s; give a configuration file with -c FILE", strerror(errno));
        return;
    }
    size_t size;
    char *text = read_all(descriptor, FILE_MAX, &size);
    int error = errno;
    close(descriptor);
    if (text)
        load_text(loader, text, size, path);
    else if (error == EISDIR)
        fault(loader, place, "is a directory; name a configuration file");
    else if (error == EFBIG)
        fault(loader, place, "has more than 1 MiB; that is no configuration");
    else
        fault(loader, place, "cannot be read: %s", strerror(error));
    if (text) explicit_bzero(text, size);
    free(text);
}

/* ---- from the environment ---- */

static const char PREFIX[] = "POINTSMAN_";

/* POINTSMAN_SECTION_KEY of a key, or of its file. */
static void write_variable(const struct config_key *key, bool by_file, char *text, size_t size)
{
    snprintf(text, size, "%s%s_%s%s", PREFIX, key->section, key->name, by_file ? "_file" : "");
    for (char *c = text; *c; c++)
        *c = (char)toupper((unsigned char)*c);
}

static const struct config_key *find_variable(const char *variable, bool *by_file)
{
    for (size_t i = 0; i < config_key_count; i++) {
        char name[PATH_SIZE];
        for (int pass = 0; pass <= (int)config_keys[i].type->is_secret; pass++) {
            *by_file = pass == 1;
            write_variable(&config_keys[i], *by_file, name, sizeof name);
            if (strcmp(name, variable) == 0) return &config_keys[i];
        }
    }
    return NULL;
}

/*
 * Kubernetes tells every container about every service by such variables: a service named pointsman or
 * pointsman-cache gives POINTSMAN_SERVICE_HOST, POINTSMAN_CACHE_PORT_6380_TCP_ADDR and so on. They are not meant
 * for us.
 */
static bool is_of_kubernetes(const char *variable)
{
    static const char *const signs[] = {"_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (strstr(variable, signs[i])) return true;
    size_t size = strlen(variable);
    return size > 5 && strcmp(variable + size - 5, "_PORT") == 0;
}

static void fault_unknown_variable(struct loader *loader, const char *variable)
{
    struct config_guess guess;
    char name[PATH_SIZE], quoted[PATH_SIZE];
    config_guess_begin(&guess, variable);
    for (size_t i = 0; i < config_key_count; i++) {
        write_variable(&config_keys[i], false, name, sizeof name);
        config_guess_offer(&guess, name);
        write_variable(&config_keys[i], true, name, sizeof name);
        if (config_keys[i].type->is_secret) config_guess_offer(&guess, name);
    }
    config_quote(variable, quoted, sizeof quoted);
    const char *nearest = config_guess_end(&guess);
    fault(loader, (struct place){ORIGIN_ENVIRONMENT, 0}, "there is no variable %s; %s%s%s", quoted,
          nearest ? "did you mean " : "names are POINTSMAN_SECTION_KEY", nearest ? nearest : "", nearest ? "?" : "");
}

static void load_environment(struct loader *loader, char **environment)
{
    for (char **entry = environment; entry && *entry; entry++) {
        const char *equals = strchr(*entry, '=');
        if (!equals || strncmp(*entry, PREFIX, sizeof PREFIX - 1) != 0) continue;
        char *variable = config_copy(*entry);
        variable[equals - *entry] = '\0';

        bool by_file;
        const struct config_key *key = find_variable(variable, &by_file);
        char name[PATH_SIZE];
        if (key) {
            snprintf(name, sizeof name, "%s%s", key->name, by_file ? "_file" : "");
            assign(loader, (struct place){ORIGIN_ENVIRONMENT, 0}, key->section, name, equals + 1);
        } else if (!is_of_kubernetes(variable)) {
            fault_unknown_variable(loader, variable);
        }
        explicit_bzero(variable, strlen(variable));
        free(variable);
    }
}

/* ---- from the command line ---- */

static const struct place AT_COMMAND_LINE = {ORIGIN_COMMAND_LINE, 0};

/* The arguments of the program, one by one. */
struct argument_list {
    int next, count;
    char **items;
};

/* Compares the part of text before any '='. */
static bool is_named(const char *text, const char *name)
{
    size_t size = strcspn(text, "=");
    return strlen(name) == size && strncmp(text, name, size) == 0;
}

static const char *behind_equals(const char *text)
{
    const char *equals = strchr(text, '=');
    return equals ? equals + 1 : NULL;
}

/* What follows may be the value, but hardly when it begins with "--": then a value has been forgotten. */
static const char *take_value(struct argument_list *list)
{
    if (list->next >= list->count || strncmp(list->items[list->next], "--", 2) == 0) return NULL;
    return list->items[list->next++];
}

/* "--threads" may be meant to be --proxy.threads. */
static const struct config_key *find_key_by_name(const char *name)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].name, name) == 0) return &config_keys[i];
    return NULL;
}

static void fault_unknown_option(struct loader *loader, const char *text)
{
    struct config_guess guess;
    char option[PATH_SIZE], quoted[PATH_SIZE], word[PATH_SIZE];
    snprintf(option, sizeof option, "%.*s", (int)strcspn(text, "="), text);
    config_quote(option, quoted, sizeof quoted);
    const struct config_key *key = find_key_by_name(option + 2);
    if (key) {
        fault(loader, AT_COMMAND_LINE, "there is no option %s; did you mean --%s.%s?", quoted, key->section, key->name);
        return;
    }
    config_guess_begin(&guess, option);
    for (size_t i = 0; i < config_option_count; i++) {
        snprintf(word, sizeof word, "--%s", config_options[i].name);
        config_guess_offer(&guess, word);
    }
    const char *nearest = config_guess_end(&guess);
    fault(loader, AT_COMMAND_LINE, "there is no option %s; %s%s%s", quoted,
          nearest ? "did you mean " : "--help lists them", nearest ? nearest : "", nearest ? "?" : "");
}

static void set_help_format(struct loader *loader, const char *format, struct command_line *command_line)
{
    if (!format) return;
    if (strcmp(format, "ini") == 0)
        command_line->action = CONFIG_EXAMPLE;
    else if (strcmp(format, "roff") == 0)
        command_line->action = CONFIG_HELP_ROFF;
    else
        fault(loader, AT_COMMAND_LINE, "--help-config: there is no such format; write --help-config, "
                                       "--help-config=ini or --help-config=roff");
}

static void apply_option(struct loader *loader, const struct config_option *option, const char *value,
                         struct command_line *command_line)
{
    if (option->action != CONFIG_RUN) command_line->action = option->action;
    if (option->action == CONFIG_HELP_CONFIG) set_help_format(loader, value, command_line);
    if (option->action != CONFIG_RUN) return;
    if (!value || *value == '\0')
        fault(loader, AT_COMMAND_LINE, "--%s: needs a file; write --%s=FILE", option->name, option->name);
    else if (command_line->file)
        fault(loader, AT_COMMAND_LINE, "--%s: is given twice; keep one of them", option->name);
    else
        command_line->file = value;
}

static void read_long_option(struct loader *loader, const char *text, struct argument_list *list,
                             struct command_line *command_line)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        if (!is_named(text + 2, option->name)) continue;
        const char *value = behind_equals(text);
        if (!option->value && value) {
            fault(loader, AT_COMMAND_LINE, "--%s: takes no value; write --%s", option->name, option->name);
            return;
        }
        if (option->value && !option->value_is_optional && !value) value = take_value(list);
        apply_option(loader, option, value, command_line);
        return;
    }
    fault_unknown_option(loader, text);
}

static const struct config_option *find_letter(char letter)
{
    for (size_t i = 0; i < config_option_count; i++)
        if (config_options[i].letter == letter) return &config_options[i];
    return NULL;
}

/* -t, -c FILE, -cFILE, -tc FILE */
static void read_letters(struct loader *loader, const char *text, struct argument_list *list,
                         struct command_line *command_line)
{
    for (const char *letter = text + 1; *letter; letter++) {
        const struct config_option *option = find_letter(*letter);
        if (!option) {
            fault(loader, AT_COMMAND_LINE, "there is no option -%c; --help lists them",
                  isprint((unsigned char)*letter) ? *letter : '?');
            return;
        }
        if (option->value) {
            apply_option(loader, option, letter[1] ? letter + 1 : take_value(list), command_line);
            return;
        }
        apply_option(loader, option, NULL, command_line);
    }
}

/* --section.name=value or --section.name value */
static void read_key_option(struct loader *loader, const char *text, struct argument_list *list,
                            struct command_line *command_line)
{
    const char *value = behind_equals(text);
    if (!value) value = take_value(list);
    if (!value) {
        fault(loader, AT_COMMAND_LINE, "%s: needs a value; write %s=VALUE", text + 2, text);
        return;
    }
    command_line->arguments[command_line->count++] = (struct argument){text + 2, value};
}

static bool has_section(const char *text)
{
    const char *dot = strchr(text, '.');
    return dot && dot < text + strcspn(text, "=");
}

static void read_command_line(struct loader *loader, int argc, char **argv, struct command_line *command_line)
{
    struct argument_list list = {.next = 1, .count = argc, .items = argv};
    *command_line = (struct command_line){.action = CONFIG_RUN};
    command_line->arguments = config_memory(((size_t)argc + 1) * sizeof *command_line->arguments);
    while (list.next < list.count) {
        int position = list.next;
        const char *text = list.items[list.next++];
        if (strncmp(text, "--", 2) == 0 && has_section(text))
            read_key_option(loader, text, &list, command_line);
        else if (strncmp(text, "--", 2) == 0 && text[2] != '\0')
            read_long_option(loader, text, &list, command_line);
        else if (text[0] == '-' && text[1] != '\0' && text[1] != '-')
            read_letters(loader, text, &list, command_line);
        else /* not shown: it may be the second word of a password */
            fault(loader, AT_COMMAND_LINE,
                  "argument %d is not an option; give a configuration file with -c FILE, a key with "
                  "--section.key=value", position);
        bool is_question = command_line->action != CONFIG_RUN && command_line->action != CONFIG_CHECK;
        if (is_question && loader->error_count == 0) return; /* to be answered whatever else there is */
    }
    if (loader->error_count > 0 && command_line->action != CONFIG_CHECK) command_line->action = CONFIG_RUN;
}

static void load_arguments(struct loader *loader, const struct command_line *command_line)
{
    for (size_t i = 0; i < command_line->count; i++) {
        const struct argument *argument = &command_line->arguments[i];
        char section[PATH_SIZE], name[PATH_SIZE];
        int section_size = (int)strcspn(argument->option, ".");
        const char *rest = argument->option + section_size + 1;
        snprintf(section, sizeof section, "%.*s", section_size, argument->option);
        snprintf(name, sizeof name, "%.*s", (int)strcspn(rest, "="), rest);
        if (section_exists(section))
            assign(loader, AT_COMMAND_LINE, section, name, argument->value);
        else
            fault_unknown_section(loader, AT_COMMAND_LINE, section);
    }
}

/* ---- what must be right between keys ---- */

static void fault_of(struct loader *loader, const char *section, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static struct setting *setting_named(struct loader *loader, const char *section, const char *name)
{
    bool by_file;
    return setting_of(loader, config_find_key(section, name, &by_file));
}

/* Keys whose own value is wrong are not compared with others. */
static bool is_sound(struct loader *loader, const char *section, const char *name)
{
    return !setting_named(loader, section, name)->is_bad;
}

static void fault_of(struct loader *loader, const char *section, const char *name, const char *format, ...)
{
    char what[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    fault(loader, setting_named(loader, section, name)->place, "%s.%s: %s", section, name, what);
}

static void check_addresses(struct loader *loader, const char *section, const char *name,
                            const struct config_address_list *list)
{
    if (list->count == 0) fault_of(loader, section, name, "is empty; give at least one address");
    for (size_t i = 0; i < list->count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (!config_address_equals(&list->items[i], &list->items[k])) continue;
            char text[CONFIG_ADDRESS_SIZE];
            config_address_write(&list->items[i], text, sizeof text);
            fault_of(loader, section, name, "%s is given twice; keep one of them", text);
            break;
        }
    }
}

static void check_unix_nodes(struct loader *loader, const struct config_upstream *upstream)
{
    if (upstream->kind == UPSTREAM_STATIC) return;
    for (size_t i = 0; i < upstream->nodes.count; i++)
        if (config_address_is_unix(&upstream->nodes.items[i]))
            fault_of(loader, "upstream", "nodes",
                     "unix:%s cannot be a Sentinel; write host:port, or set upstream.kind = static",
                     upstream->nodes.items[i].host);
}

static void check_map(struct loader *loader, const struct config_mapping_list *map)
{
    for (size_t i = 0; i < map->count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (!config_address_equals(&map->items[i].from, &map->items[k].from)) continue;
            char text[CONFIG_ADDRESS_SIZE];
            config_address_write(&map->items[i].from, text, sizeof text);
            fault_of(loader, "upstream", "map", "%s is mapped twice; keep one of them", text);
            break;
        }
    }
}

static void check_user(struct loader *loader, const char *name, const char *username, const char *password_name,
                       const char *password)
{
    if (is_sound(loader, "upstream", password_name) && *username && !*password)
        fault_of(loader, "upstream", name, "is given without a password; set upstream.%s, too", password_name);
}

/* Blames the one of the two that the user has set later in the order of precedence. */
static void check_delays(struct loader *loader, const struct config_upstream *upstream)
{
    if (!is_sound(loader, "retry", "base_delay") || !is_sound(loader, "retry", "max_delay")) return;
    if (upstream->retry_base_delay_ms <= upstream->retry_max_delay_ms) return;
    if (setting_named(loader, "retry", "base_delay")->place.origin >=
        setting_named(loader, "retry", "max_delay")->place.origin)
        fault_of(loader, "retry", "base_delay", "must not be more than retry.max_delay, which is %lldms",
                 (long long)upstream->retry_max_delay_ms);
    else
        fault_of(loader, "retry", "max_delay", "must not be less than retry.base_delay, which is %lldms",
                 (long long)upstream->retry_base_delay_ms);
}

static void check_together(struct loader *loader)
{
    const struct config *config = loader->config;
    const struct config_upstream *upstream = &config->upstreams[0];
    if (is_sound(loader, "proxy", "listen")) check_addresses(loader, "proxy", "listen", &config->listen);
    if (is_sound(loader, "upstream", "nodes")) check_addresses(loader, "upstream", "nodes", &upstream->nodes);
    if (is_sound(loader, "upstream", "nodes") && is_sound(loader, "upstream", "kind"))
        check_unix_nodes(loader, upstream);
    if (is_sound(loader, "upstream", "map")) check_map(loader, &upstream->map);
    check_user(loader, "username", upstream->username, "password", upstream->password);
    check_user(loader, "sentinel_username", upstream->sentinel_username, "sentinel_password",
               upstream->sentinel_password);
    check_delays(loader, upstream);
}
