/* SPDX-License-Identifier: BSD-2-Clause */
/* Options and keys from the command line. */
#include "proxy/config_loader.h"

#include <ctype.h>
#include <string.h>

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
    char option[CONFIG_PATH_SIZE], quoted[CONFIG_PATH_SIZE], word[CONFIG_PATH_SIZE];
    snprintf(option, sizeof option, "%.*s", (int)strcspn(text, "="), text);
    config_quote(option, quoted, sizeof quoted);
    const struct config_key *key = find_key_by_name(option + 2);
    if (key) {
        config_fault(loader, AT_COMMAND_LINE, "there is no option %s; did you mean --%s.%s?", quoted,
                     key->section, key->name);
        return;
    }
    config_guess_begin(&guess, option);
    for (size_t i = 0; i < config_option_count; i++) {
        snprintf(word, sizeof word, "--%s", config_options[i].name);
        config_guess_offer(&guess, word);
    }
    const char *nearest = config_guess_end(&guess);
    config_fault(loader, AT_COMMAND_LINE, "there is no option %s; %s%s%s", quoted,
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
        config_fault(loader, AT_COMMAND_LINE,
                     "--help-config: there is no such format; write --help-config, "
                     "--help-config=ini or --help-config=roff");
}

static void apply_option(struct loader *loader, const struct config_option *option, const char *value,
                         struct command_line *command_line)
{
    if (option->action != CONFIG_RUN) command_line->action = option->action;
    if (option->action == CONFIG_HELP_CONFIG) set_help_format(loader, value, command_line);
    if (option->action != CONFIG_RUN) return;
    if (!value || *value == '\0')
        config_fault(loader, AT_COMMAND_LINE, "--%s: needs a file; write --%s=FILE", option->name,
                     option->name);
    else if (command_line->file)
        config_fault(loader, AT_COMMAND_LINE, "--%s: is given twice; keep one of them", option->name);
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
            config_fault(loader, AT_COMMAND_LINE, "--%s: takes no value; write --%s", option->name,
                         option->name);
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
            config_fault(loader, AT_COMMAND_LINE, "there is no option -%c; --help lists them",
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
        config_fault(loader, AT_COMMAND_LINE, "%s: needs a value; write %s=VALUE", text + 2, text);
        return;
    }
    command_line->arguments[command_line->count++] = (struct argument){text + 2, value};
}

static bool has_section(const char *text)
{
    const char *dot = strchr(text, '.');
    return dot && dot < text + strcspn(text, "=");
}

void config_read_command_line(struct loader *loader, int argc, char **argv, struct command_line *command_line)
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
            config_fault(loader, AT_COMMAND_LINE,
                         "argument %d is not an option; give a configuration file with -c FILE, a key with "
                         "--section.key=value",
                         position);
        bool is_question = command_line->action != CONFIG_RUN && command_line->action != CONFIG_CHECK;
        if (is_question && loader->error_count == 0) return; /* to be answered whatever else there is */
    }
    if (loader->error_count > 0 && command_line->action != CONFIG_CHECK) command_line->action = CONFIG_RUN;
}

void config_load_arguments(struct loader *loader, const struct command_line *command_line)
{
    for (size_t i = 0; i < command_line->count; i++) {
        const struct argument *argument = &command_line->arguments[i];
        char section[CONFIG_PATH_SIZE], name[CONFIG_PATH_SIZE];
        int section_size = (int)strcspn(argument->option, ".");
        const char *rest = argument->option + section_size + 1;
        snprintf(section, sizeof section, "%.*s", section_size, argument->option);
        snprintf(name, sizeof name, "%.*s", (int)strcspn(rest, "="), rest);
        if (config_section_exists(section))
            config_assign(loader, AT_COMMAND_LINE, section, name, argument->value);
        else
            config_fault_unknown_section(loader, AT_COMMAND_LINE, section);
    }
}
