/* SPDX-License-Identifier: BSD-2-Clause */
/* The types of values: each reads text into a field, or says what is wrong and what would be right. */
#include "proxy/config_key.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* A number's unit and what it stands for. The first one is for bounds that no larger unit divides. */
struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit duration_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}};

#define KIB INT64_C(1024)
static const struct unit size_units[] = {
    {"", 1},
    {"k", KIB},
    {"m", KIB * KIB},
    {"g", KIB * KIB * KIB},
    {"kb", KIB},
    {"mb", KIB * KIB},
    {"gb", KIB * KIB * KIB},
    {"kib", KIB},
    {"mib", KIB * KIB},
    {"gib", KIB * KIB * KIB},
};
enum { SIZE_UNITS_WRITTEN = 4 };
#undef KIB

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { QUOTE_SIZE = 96, HOST_MAX = 253 };

static bool set_duration(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_size(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_integer(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_enum(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_addresses(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_mappings(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_word(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_log_target(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static bool set_secret(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong);
static void release_nothing(void *field);
static void release_addresses(void *field);
static void release_mappings(void *field);
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
const struct config_type config_addresses = {
    .noun = "addresses",
    .syntax = "host:port, [IPv6 address]:port or unix:/path, several separated by commas",
    .set = set_addresses,
    .release = release_addresses,
};
const struct config_type config_mappings = {
    .noun = "address map",
    .syntax = "announced:port = reachable:port, several separated by commas",
    .set = set_mappings,
    .release = release_mappings,
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

/* Always false, so that a setter can end with it. */
__attribute__((format(printf, 2, 3))) static bool say(struct config_wrong *wrong, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(wrong->text, sizeof wrong->text, format, arguments);
    va_end(arguments);
    return false;
}

/* "x" is wrong: `right` says what would be right. A comment behind the value is the likeliest reason. */
static bool say_bad(struct config_wrong *wrong, const char *text, const char *what, const char *right)
{
    char quoted[QUOTE_SIZE];
    config_quote(text, quoted, sizeof quoted);
    const char *mark = strpbrk(text, ";#");
    if (mark && mark > text && isblank((unsigned char)mark[-1]))
        return say(wrong, "%s %s; a comment needs a line of its own", quoted, what);
    return say(wrong, "%s %s; %s", quoted, what, right);
}

/* ---- numbers ---- */

/* Reads the digits at text; false if there are none or the number is too large for any key. */
static bool read_digits(const char *text, int64_t *number, const char **rest)
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
        if (strcasecmp(units[i].name, unit_name) == 0) return !__builtin_mul_overflow(*number, units[i].factor, number);
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

static void write_integer(int64_t bound, char *text, size_t size) { snprintf(text, size, "%lld", (long long)bound); }

static bool store_number(const struct config_key *key, int64_t number, void *field, struct config_wrong *wrong)
{
    if (number < key->min || number > key->max) {
        char min[32], max[32];
        key->type->write_bound(key->min, min, sizeof min);
        key->type->write_bound(key->max, max, sizeof max);
        return say(wrong, "must be between %s and %s", min, max);
    }
    memcpy(field, &number, sizeof number);
    return true;
}

static bool set_duration(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    int64_t number;
    const char *unit;
    if (!read_digits(text, &number, &unit))
        return say_bad(wrong, text, "is not a duration", "write a whole number with its unit: 250ms, 5s, 2m, 1h");
    if (*unit == '\0' && number != 0)
        return say(wrong, "%s has no unit; write %sms, %ss, %sm or %sh", text, text, text, text, text);
    for (const char *c = unit; *c; c++)
        if (isupper((unsigned char)*c))
            return say_bad(wrong, text, "is not a duration", "units are written small: ms, s, m, h");
    if (*unit != '\0' && !multiply(&number, unit, duration_units, COUNT(duration_units)))
        return say_bad(wrong, text, "is not a duration", "write a whole number with its unit: 250ms, 5s, 2m, 1h");
    return store_number(key, number, field, wrong);
}

static bool set_size(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    int64_t number;
    const char *unit;
    if (!read_digits(text, &number, &unit) || !multiply(&number, unit, size_units, COUNT(size_units)))
        return say_bad(wrong, text, "is not a size", "write a whole number of bytes or with a unit: 64k, 512m, 1g");
    return store_number(key, number, field, wrong);
}

static bool set_integer(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    int64_t number;
    const char *rest;
    if (!read_digits(text + (*text == '-'), &number, &rest) || *rest != '\0')
        return say_bad(wrong, text, "is not a whole number", "write digits only");
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
    return say_bad(wrong, text, "is not known here", right);
}

static void release_nothing(void *field) { (void)field; }

/* ---- addresses ---- */

static const char TERMS[] = "write host:port, [IPv6 address]:port or unix:/path";

static char *copy_range(const char *begin, const char *end)
{
    size_t size = (size_t)(end - begin);
    char *copy = config_memory(size + 1);
    memcpy(copy, begin, size);
    copy[size] = '\0';
    return copy;
}

static char *copy_trimmed(const char *begin, const char *end)
{
    while (begin < end && isblank((unsigned char)*begin))
        begin++;
    while (end > begin && isblank((unsigned char)end[-1]))
        end--;
    return copy_range(begin, end);
}

static bool is_ipv4_shaped(const char *host) { return host[strspn(host, "0123456789.")] == '\0'; }

static bool is_host_name(const char *host)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    return *host != '\0' && *host != '-' && *host != '.' && strlen(host) <= HOST_MAX &&
           host[strspn(host, letters)] == '\0';
}

static bool is_ipv6(const char *host)
{
    struct in6_addr address;
    char bare[INET6_ADDRSTRLEN];
    size_t size = strcspn(host, "%"); /* a zone may follow: fe80::1%eth0 */
    if (size >= sizeof bare || (host[size] == '%' && !is_host_name(host + size + 1))) return false;
    memcpy(bare, host, size);
    bare[size] = '\0';
    return inet_pton(AF_INET6, bare, &address) == 1;
}

static bool read_port(const char *text, uint16_t *port)
{
    int64_t number;
    const char *rest;
    if (!read_digits(text, &number, &rest) || *rest != '\0' || number < 1 || number > UINT16_MAX) return false;
    *port = (uint16_t)number;
    return true;
}

static bool read_unix(const char *text, struct config_address *address, struct config_wrong *wrong)
{
    const char *path = text + strlen("unix:");
    if (*path != '/') return say_bad(wrong, text, "is not a socket's path", "write unix:/path, from the root");
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return say_bad(wrong, text, "is too long for a socket's path", "107 bytes are allowed");
    if (strpbrk(path, ";#")) return say_bad(wrong, text, "is not a socket's path", "; and # are not allowed in it");
    *address = (struct config_address){.host = config_copy(path), .port = 0};
    return true;
}

/* [::1]:6380 */
static bool read_bracketed(const char *text, struct config_address *address, struct config_wrong *wrong)
{
    const char *close = strchr(text, ']');
    if (!close) return say_bad(wrong, text, "has no ]", "write [::1]:6379");
    char *host = copy_range(text + 1, close);
    uint16_t port;
    bool is_good = false;
    if (!is_ipv6(host))
        say_bad(wrong, text, "has no IPv6 address between [ and ]", TERMS);
    else if (close[1] != ':')
        say_bad(wrong, text, "has no port", "write [::1]:6379");
    else if (!read_port(close + 2, &port))
        say_bad(wrong, text, "has no good port", "a port is a number from 1 to 65535");
    else
        is_good = true;
    if (is_good)
        *address = (struct config_address){.host = host, .port = port};
    else
        free(host);
    return is_good;
}

/* Says what is wrong with the host of text, or returns true. */
static bool check_host(const char *text, const char *host, bool is_listen, struct config_wrong *wrong)
{
    struct in_addr ipv4;
    if (*host == '\0') {
        if (is_listen) return true;
        return say_bad(wrong, text, "has no host", "write host:port, for instance 127.0.0.1:6379");
    }
    if (is_ipv4_shaped(host) && inet_pton(AF_INET, host, &ipv4) != 1)
        return say_bad(wrong, text, "has no good IPv4 address", "it has four numbers up to 255: 10.0.0.1");
    if (!is_host_name(host)) return say_bad(wrong, text, "is not an address", TERMS);
    return true;
}

static bool read_address(const char *text, bool is_listen, struct config_address *address, struct config_wrong *wrong)
{
    if (strncmp(text, "unix:", 5) == 0) return read_unix(text, address, wrong);
    if (*text == '[') return read_bracketed(text, address, wrong);
    if (*text == '/') return say_bad(wrong, text, "is not an address", "a socket's path is written unix:/path");
    if (text[strcspn(text, " \t")] != '\0')
        return say_bad(wrong, text, "has a blank in it", "several addresses are separated by commas");

    const char *colon = strrchr(text, ':');
    if (colon && strchr(text, ':') != colon)
        return say_bad(wrong, text, "is not an address", "an IPv6 address stands in brackets: [::1]:6379");
    if (!colon)
        return say_bad(wrong, text, "has no port",
                       is_listen ? "write host:port, for instance 127.0.0.1:6380"
                                 : "add it: Redis listens mostly on :6379, Sentinel on :26379");
    uint16_t port;
    if (!read_port(colon + 1, &port))
        return say_bad(wrong, text, "has no good port", "a port is a number from 1 to 65535");
    char *host = copy_range(text, colon);
    if (is_listen && strcmp(host, "*") == 0) *host = '\0';
    if (!check_host(text, host, is_listen, wrong)) {
        free(host);
        return false;
    }
    *address = (struct config_address){.host = host, .port = port};
    return true;
}

/* Takes the next item between commas. NULL at the end. The caller frees it. */
static char *next_item(const char **rest)
{
    if (!*rest) return NULL;
    const char *begin = *rest, *comma = strchr(begin, ',');
    *rest = comma ? comma + 1 : NULL;
    return copy_trimmed(begin, comma ? comma : begin + strlen(begin));
}

static bool is_empty(const char *text) { return text[strspn(text, " \t")] == '\0'; }

static void *resize(void *memory, size_t size)
{
    void *resized = realloc(memory, size);
    if (!resized) abort();
    return resized;
}

static bool append_address(struct config_address_list *list, const char *item, bool is_listen,
                           struct config_wrong *wrong)
{
    struct config_address address;
    if (list->count == CONFIG_ADDRESSES_MAX) return say(wrong, "has more than %d entries", CONFIG_ADDRESSES_MAX);
    if (*item == '\0') return say(wrong, "has a comma with no address beside it; remove the comma");
    if (!read_address(item, is_listen, &address, wrong)) return false;
    list->items = resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = address;
    return true;
}

static bool set_addresses(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    struct config_address_list list = {NULL, 0};
    bool is_good = true;
    const char *rest = is_empty(text) ? NULL : text;
    for (char *item; is_good && (item = next_item(&rest)) != NULL; free(item))
        is_good = append_address(&list, item, key->is_listen, wrong);
    if (!is_good) {
        release_addresses(&list);
        return false;
    }
    release_addresses(field);
    memcpy(field, &list, sizeof list);
    return true;
}

static void release_addresses(void *field)
{
    struct config_address_list *list = field;
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i].host);
    free(list->items);
    *list = (struct config_address_list){NULL, 0};
}

static bool read_mapped(const char *begin, const char *end, struct config_address *address,
                        struct config_wrong *wrong)
{
    char *text = copy_trimmed(begin, end);
    bool is_good = read_address(text, false, address, wrong);
    if (is_good && config_address_is_unix(address)) {
        free(address->host);
        is_good = say_bad(wrong, text, "cannot be mapped", "only addresses with a port can");
    }
    free(text);
    return is_good;
}

static bool append_mapping(struct config_mapping_list *list, const char *item, struct config_wrong *wrong)
{
    struct config_mapping mapping;
    if (list->count == CONFIG_ADDRESSES_MAX) return say(wrong, "has more than %d entries", CONFIG_ADDRESSES_MAX);
    if (*item == '\0') return say(wrong, "has a comma with no mapping beside it; remove the comma");
    const char *equals = strchr(item, '=');
    if (!equals)
        return say_bad(wrong, item, "has no second address", "write announced:port = reachable:port");
    if (!read_mapped(item, equals, &mapping.from, wrong)) return false;
    if (!read_mapped(equals + 1, item + strlen(item), &mapping.to, wrong)) {
        free(mapping.from.host);
        return false;
    }
    list->items = resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = mapping;
    return true;
}

static bool set_mappings(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    (void)key;
    struct config_mapping_list list = {NULL, 0};
    bool is_good = true;
    const char *rest = is_empty(text) ? NULL : text;
    for (char *item; is_good && (item = next_item(&rest)) != NULL; free(item))
        is_good = append_mapping(&list, item, wrong);
    if (!is_good) {
        release_mappings(&list);
        return false;
    }
    release_mappings(field);
    memcpy(field, &list, sizeof list);
    return true;
}

static void release_mappings(void *field)
{
    struct config_mapping_list *list = field;
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].from.host);
        free(list->items[i].to.host);
    }
    free(list->items);
    *list = (struct config_mapping_list){NULL, 0};
}

bool config_address_is_unix(const struct config_address *address) { return address->host[0] == '/'; }

bool config_address_equals(const struct config_address *a, const struct config_address *b)
{
    if (a->port != b->port) return false;
    return config_address_is_unix(a) ? strcmp(a->host, b->host) == 0 : strcasecmp(a->host, b->host) == 0;
}

void config_address_write(const struct config_address *address, char *text, size_t size)
{
    const char *format = strchr(address->host, ':') ? "[%s]:%u" : "%s:%u";
    if (config_address_is_unix(address))
        snprintf(text, size, "unix:%s", address->host);
    else
        snprintf(text, size, format, address->host, (unsigned)address->port);
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
        return say_bad(wrong, text, "has a blank or a control character in it", "write one word");
    replace_text(field, text);
    return true;
}

static bool set_log_target(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
{
    (void)key;
    bool is_name = strcmp(text, "stderr") == 0 || strcmp(text, "syslog") == 0;
    if (!is_name && !strchr(text, '/'))
        return say_bad(wrong, text, "is no target", "write stderr, syslog, or a path with a / in it");
    if (strstr(text, " ;") || strstr(text, " #") || has_control(text))
        return say_bad(wrong, text, "is not a path that can be meant", "write a path without control characters");
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

static bool set_secret(const struct config_key *key, const char *text, void *field, struct config_wrong *wrong)
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

char *config_copy(const char *text) { return copy_range(text, text + strlen(text)); }

/* ---- what was meant ---- */

enum { GUESS_WORD_MAX = 100, GUESS_DISTANCE_MAX = 4 };

/* Levenshtein's distance without regard to case. */
static size_t distance_between(const char *a, const char *b)
{
    size_t row[GUESS_WORD_MAX + 1];
    size_t columns = strlen(b);
    for (size_t k = 0; k <= columns; k++)
        row[k] = k;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t k = 0; k < columns; k++) {
            size_t change = diagonal + (tolower((unsigned char)a[i]) != tolower((unsigned char)b[k]));
            size_t removal = row[k + 1] + 1, insertion = row[k] + 1;
            diagonal = row[k + 1];
            row[k + 1] = change < removal ? change : removal;
            if (insertion < row[k + 1]) row[k + 1] = insertion;
        }
    }
    return row[columns];
}

void config_guess_begin(struct config_guess *guess, const char *text)
{
    size_t size = strlen(text), near = 1 + size / 4;
    guess->text = size <= GUESS_WORD_MAX ? text : "";
    guess->distance = 1 + (near < GUESS_DISTANCE_MAX ? near : GUESS_DISTANCE_MAX); /* to be beaten */
    guess->nearest[0] = '\0';
}

void config_guess_offer(struct config_guess *guess, const char *word)
{
    if (guess->text[0] == '\0' || strlen(word) > GUESS_WORD_MAX) return;
    size_t distance = distance_between(guess->text, word);
    if (distance >= guess->distance) return;
    guess->distance = distance;
    snprintf(guess->nearest, sizeof guess->nearest, "%s", word);
}

const char *config_guess_end(const struct config_guess *guess)
{
    return guess->nearest[0] ? guess->nearest : NULL;
}
