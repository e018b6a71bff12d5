/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/config.h"

#include "proxy/config_loader.h"
#include "proxy/ini.h"
#include "routing/distribution.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILE_MAX = 1024 * 1024, /* bytes in a configuration file */
    ERRORS_MAX = 100,       /* more are counted, not told: the file is no configuration at all */
};

static struct config *config_create(void);
static void loader_start(struct loader *loader, FILE *errors);
static struct config *loader_end(struct loader *loader);
static void load_text(struct loader *loader, const char *text, size_t size, const char *name);
static void load_file(struct loader *loader, const char *path);

struct config *config_load(int argc, char **argv, char **environment, enum config_action *action,
                           FILE *errors)
{
    struct loader loader;
    struct command_line command_line;
    loader_start(&loader, errors);
    config_read_command_line(&loader, argc, argv, &command_line);
    *action = command_line.action;

    bool wants_config = command_line.action == CONFIG_RUN || command_line.action == CONFIG_CHECK;
    if (wants_config) {
        if (command_line.file) load_file(&loader, command_line.file);
        config_load_environment(&loader, environment);
        config_load_arguments(&loader, &command_line);
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
    distribution_destroy(config->upstreams[0].distribution);
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
            config_fault(loader, (struct place){ORIGIN_DEFAULT, 0}, "%s.%s: %s", key->section, key->name,
                         wrong.text);
    }
}

/* The config if all was well, NULL if not. */
static struct config *loader_end(struct loader *loader)
{
    config_check(loader);
    free(loader->settings);
    if (loader->error_count > ERRORS_MAX)
        fprintf(loader->errors, "%s: and %zu more errors\n", *loader->file ? loader->file : "command line",
                loader->error_count - ERRORS_MAX);
    if (loader->error_count == 0) {
        config_make_distribution(&loader->config->upstreams[0]);
        return loader->config;
    }
    config_destroy(loader->config);
    return NULL;
}

void config_fault(struct loader *loader, struct place place, const char *format, ...)
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

struct setting *config_setting(struct loader *loader, const struct config_key *key)
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
    struct setting *before = config_setting(loader, key);
    char line[32];
    if (before->place.origin != place.origin) return true;
    write_line(before->place, before->by_file == by_file ? ", first on" : ", on", line, sizeof line);
    if (before->by_file == by_file)
        config_fault(loader, place, "%s: is given twice%s; keep one of them", path, line);
    else
        config_fault(loader, place, "%s: %s.%s%s is given as well%s; keep one of them", path, key->section,
                     key->name, by_file ? "" : "_file", line);
    return false;
}

/* Names the section that has such a key, or the nearest name of this section. */
static void fault_unknown_key(struct loader *loader, struct place place, const char *section,
                              const char *name)
{
    struct config_guess guess;
    config_guess_begin(&guess, name);
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        char file_name[CONFIG_PATH_SIZE];
        if (strcmp(key->section, section) != 0) continue;
        config_guess_offer(&guess, key->name);
        snprintf(file_name, sizeof file_name, "%s_file", key->name);
        if (key->type->is_secret) config_guess_offer(&guess, file_name);
    }
    if (config_guess_end(&guess)) {
        config_fault(loader, place, "%s.%s: there is no such key; did you mean %s?", section, name,
                     config_guess_end(&guess));
        return;
    }
    for (size_t i = 0; i < config_section_count; i++) {
        bool by_file;
        if (!config_find_key(config_sections[i].name, name, &by_file)) continue;
        config_fault(loader, place, "%s.%s: there is no such key; %s is a key of section [%s]", section, name,
                     name, config_sections[i].name);
        return;
    }
    config_fault(loader, place, "%s.%s: there is no such key; --help-config lists the keys of [%s]", section,
                 name, section);
}

bool config_section_exists(const char *section)
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

void config_fault_unknown_section(struct loader *loader, struct place place, const char *section)
{
    struct config_guess guess;
    char quoted[CONFIG_PATH_SIZE], sections[CONFIG_PATH_SIZE];
    config_quote(section, quoted, sizeof quoted);
    config_guess_begin(&guess, section);
    for (size_t i = 0; i < config_section_count; i++)
        config_guess_offer(&guess, config_sections[i].name);
    write_sections(sections, sizeof sections);
    if (config_guess_end(&guess))
        config_fault(loader, place, "there is no section %s; did you mean %s?", quoted,
                     config_guess_end(&guess));
    else
        config_fault(loader, place, "there is no section %s; the sections are %s", quoted, sections);
}

/* Every value is checked, also one that a later origin replaces. */
void config_assign(struct loader *loader, struct place place, const char *section, const char *name,
                   const char *value)
{
    bool by_file;
    const struct config_key *key = config_find_key(section, name, &by_file);
    if (!key) {
        fault_unknown_key(loader, place, section, name);
        return;
    }
    char path[CONFIG_PATH_SIZE];
    snprintf(path, sizeof path, "%s.%s", section, name);
    if (!is_first(loader, key, place, by_file, path)) return;
    *config_setting(loader, key) = (struct setting){.place = place, .by_file = by_file};

    struct config_wrong wrong;
    void *field = config_field(key, loader->config);
    bool is_good =
        by_file ? config_set_from_file(key, value, field, &wrong) : key->type->set(key, value, field, &wrong);
    config_setting(loader, key)->is_bad = !is_good;
    if (!is_good) config_fault(loader, place, "%s: %s", path, wrong.text);
}

/* ---- from a file ---- */

static void found_section(void *user, int line, const char *section)
{
    struct loader *loader = user;
    loader->section_is_known = config_section_exists(section);
    if (!loader->section_is_known)
        config_fault_unknown_section(loader, (struct place){ORIGIN_FILE, line}, section);
}

static void found_entry(void *user, int line, const char *section, const char *name, const char *value)
{
    struct loader *loader = user;
    struct place place = {ORIGIN_FILE, line};
    if (*section == '\0')
        config_fault(loader, place,
                     "%s: stands before any section; write [proxy] or another section above it", name);
    else if (loader->section_is_known)
        config_assign(loader, place, section, name, value);
}

static void found_fault(void *user, int line, const char *what)
{
    config_fault(user, (struct place){ORIGIN_FILE, line}, "%s", what);
}

static void load_text(struct loader *loader, const char *text, size_t size, const char *name)
{
    static const struct ini_events events = {found_section, found_entry, found_fault};
    loader->file = name;
    ini_read(text, size, &events, loader);
}

char *config_read_all(int descriptor, size_t max, size_t *size)
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

static void load_file(struct loader *loader, const char *path)
{
    struct place place = {ORIGIN_FILE, 0};
    loader->file = path;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (descriptor < 0) {
        config_fault(loader, place, "cannot be opened: %s; give a configuration file with -c FILE",
                     strerror(errno));
        return;
    }
    size_t size;
    char *text = config_read_all(descriptor, FILE_MAX, &size);
    int error = errno;
    close(descriptor);
    if (text)
        load_text(loader, text, size, path);
    else if (error == EISDIR)
        config_fault(loader, place, "is a directory; name a configuration file");
    else if (error == EFBIG)
        config_fault(loader, place, "has more than 1 MiB; that is no configuration");
    else
        config_fault(loader, place, "cannot be read: %s", strerror(error));
    if (text) explicit_bzero(text, size);
    free(text);
}
