/* SPDX-License-Identifier: BSD-2-Clause */
/* Keys from the environment. */
#include "proxy/config_loader.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

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
        char name[CONFIG_PATH_SIZE];
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
 * pointsman-cache gives POINTSMAN_SERVICE_HOST, POINTSMAN_CACHE_PORT_6380_TCP_ADDR and so on. They are not
 * meant for us.
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
    char name[CONFIG_PATH_SIZE], quoted[CONFIG_PATH_SIZE];
    config_guess_begin(&guess, variable);
    for (size_t i = 0; i < config_key_count; i++) {
        write_variable(&config_keys[i], false, name, sizeof name);
        config_guess_offer(&guess, name);
        write_variable(&config_keys[i], true, name, sizeof name);
        if (config_keys[i].type->is_secret) config_guess_offer(&guess, name);
    }
    config_quote(variable, quoted, sizeof quoted);
    const char *nearest = config_guess_end(&guess);
    config_fault(loader, (struct place){ORIGIN_ENVIRONMENT, 0}, "there is no variable %s; %s%s%s", quoted,
                 nearest ? "did you mean " : "names are POINTSMAN_SECTION_KEY", nearest ? nearest : "",
                 nearest ? "?" : "");
}

void config_load_environment(struct loader *loader, char **environment)
{
    for (char **entry = environment; entry && *entry; entry++) {
        const char *equals = strchr(*entry, '=');
        if (!equals || strncmp(*entry, PREFIX, sizeof PREFIX - 1) != 0) continue;
        char *variable = config_copy(*entry);
        variable[equals - *entry] = '\0';

        bool by_file;
        const struct config_key *key = find_variable(variable, &by_file);
        char name[CONFIG_PATH_SIZE];
        if (key) {
            snprintf(name, sizeof name, "%s%s", key->name, by_file ? "_file" : "");
            config_assign(loader, (struct place){ORIGIN_ENVIRONMENT, 0}, key->section, name, equals + 1);
        } else if (!is_of_kubernetes(variable)) {
            fault_unknown_variable(loader, variable);
        }
        explicit_bzero(variable, strlen(variable));
        free(variable);
    }
}
