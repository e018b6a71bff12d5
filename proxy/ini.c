/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/ini.h"

#include <ini.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* A line within the text; not terminated. */
struct span {
    const char *begin, *end;
};

struct ini_text {
    const char *next, *end;
    const struct ini_events *events;
    void *user;
    int line;
    bool section_is_broken;
    char value[INI_LINE_MAX + 1]; /* of the line that inih is looking at */
};

/* What inih sees of a line that is none of its business. */
static const char NOTHING[] = "\n";

static char *next_line(char *room, int room_size, void *stream);
static int found_entry(void *stream, const char *section, const char *name, const char *value);
static struct span take_line(struct ini_text *text);
static void show_line(struct ini_text *text, struct span line, char *room, size_t room_size);
static void show_section(struct ini_text *text, struct span line, char *room, size_t room_size);
static void show_entry(struct ini_text *text, struct span line, char *room, size_t room_size);
static bool is_utf8(struct span span);
static const char *fault_of_bytes(struct span line);
static const char *fault_of_section(struct span line, struct span name);
static const char *fault_of_name(struct span name);
static bool keep_value(struct ini_text *text, struct span value);
static void report(struct ini_text *text, const char *what);

void ini_read(const char *text, size_t size, const struct ini_events *events, void *user)
{
    static const char mark[] = "\xef\xbb\xbf"; /* a byte order mark, which some editors write */
    struct ini_text source = {.next = text, .end = text + size, .events = events, .user = user};
    if (size >= 3 && memcmp(text, mark, 3) == 0) source.next += 3;
    ini_parse_stream(next_line, &source, found_entry, &source);
}

/* inih asks for one line at a time and calls found_entry() before it asks for the next. */
static char *next_line(char *room, int room_size, void *stream)
{
    struct ini_text *text = stream;
    if (text->next == text->end) return NULL;
    text->line++;
    snprintf(room, (size_t)room_size, "%s", NOTHING);
    show_line(text, take_line(text), room, (size_t)room_size);
    return room;
}

static int found_entry(void *stream, const char *section, const char *name, const char *value)
{
    (void)value; /* "@" */
    struct ini_text *text = stream;
    if (!text->section_is_broken) text->events->entry(text->user, text->line, section, name, text->value);
    return 1;
}

/* ---- lines ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r';
}

static struct span trim(struct span span)
{
    while (span.begin < span.end && is_blank(*span.begin))
        span.begin++;
    while (span.end > span.begin && is_blank(span.end[-1]))
        span.end--;
    return span;
}

static size_t span_size(struct span span)
{
    return (size_t)(span.end - span.begin);
}

static struct span take_line(struct ini_text *text)
{
    const char *end = memchr(text->next, '\n', (size_t)(text->end - text->next));
    struct span line = {text->next, end ? end : text->end};
    text->next = end ? end + 1 : text->end;
    return line;
}

/* Writes to room what inih shall see of the line. room has NOTHING in it. */
static void show_line(struct ini_text *text, struct span line, char *room, size_t room_size)
{
    struct span inner = trim(line);
    const char *fault = fault_of_bytes(line);
    if (fault) {
        report(text, fault);
        return;
    }
    if (span_size(inner) == 0 || *inner.begin == ';' || *inner.begin == '#') return;
    if (!is_utf8(line))
        report(text, "is not UTF-8; a secret of other bytes may come from a file");
    else if (is_blank(*line.begin))
        report(text,
               "begins with a blank; remove it (a value ends with its line, it cannot continue on the next)");
    else if (*inner.begin == '[')
        show_section(text, inner, room, room_size);
    else
        show_entry(text, inner, room, room_size);
}

static void show_section(struct ini_text *text, struct span line, char *room, size_t room_size)
{
    const char *close = memchr(line.begin, ']', span_size(line));
    struct span name = trim((struct span){line.begin + 1, close ? close : line.end});
    const char *fault = fault_of_section(line, name);
    text->section_is_broken = fault != NULL;
    if (fault) {
        report(text, fault);
        return;
    }
    snprintf(room, room_size, "[%.*s]\n", (int)span_size(name), name.begin);

    char section[INI_SECTION_MAX + 1];
    snprintf(section, sizeof section, "%.*s", (int)span_size(name), name.begin);
    text->events->section(text->user, text->line, section);
}

static void show_entry(struct ini_text *text, struct span line, char *room, size_t room_size)
{
    const char *equals = memchr(line.begin, '=', span_size(line));
    if (!equals) {
        report(text, "has no '='; write name = value, or begin a comment with ; or #");
        return;
    }
    struct span name = trim((struct span){line.begin, equals});
    const char *fault = fault_of_name(name);
    if (fault) {
        report(text, fault);
        return;
    }
    if (!keep_value(text, trim((struct span){equals + 1, line.end}))) {
        report(text, "the value begins with \" but does not end with it; put the whole value in quotes "
                     "(quotes inside need nothing) and a comment on a line of its own");
        return;
    }
    snprintf(room, room_size, "%.*s=@\n", (int)span_size(name), name.begin);
}

/* False if the value is a quote that is not closed. */
static bool keep_value(struct ini_text *text, struct span value)
{
    if (span_size(value) > 0 && *value.begin == '"') {
        if (span_size(value) < 2 || value.end[-1] != '"') return false;
        value.begin++;
        value.end--;
    }
    memcpy(text->value, value.begin, span_size(value));
    text->value[span_size(value)] = '\0';
    return true;
}

static void report(struct ini_text *text, const char *what)
{
    text->events->fault(text->user, text->line, what);
}

/* ---- what can be wrong with a line; NULL if nothing is ---- */

/* The bytes of the UTF-8 character at p (RFC 3629, section 4), 0 if there is none. */
static size_t utf8_size(const unsigned char *p, size_t available)
{
    static const struct {
        unsigned char first_low, first_high, second_low, second_high, size;
    } shapes[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (*p < shapes[i].first_low || *p > shapes[i].first_high) continue;
        if (available < shapes[i].size) return 0;
        if (shapes[i].size > 1 && (p[1] < shapes[i].second_low || p[1] > shapes[i].second_high)) return 0;
        for (size_t k = 2; k < shapes[i].size; k++)
            if ((p[k] & 0xc0) != 0x80) return 0;
        return shapes[i].size;
    }
    return 0;
}

static bool is_utf8(struct span span)
{
    const unsigned char *p = (const unsigned char *)span.begin, *end = (const unsigned char *)span.end;
    while (p < end) {
        size_t size = utf8_size(p, (size_t)(end - p));
        if (size == 0) return false;
        p += size;
    }
    return true;
}

static const char *fault_of_bytes(struct span line)
{
    if (span_size(line) > INI_LINE_MAX)
        return "is longer than 65536 bytes; a long secret may come from a file";
    if (memchr(line.begin, '\0', span_size(line)))
        return "has a NUL byte in it; a configuration is plain text";
    return NULL;
}

static const char *fault_of_section(struct span line, struct span name)
{
    const char *close = memchr(line.begin, ']', span_size(line));
    if (!close) return "the section's name is not closed; write [name]";
    if (close + 1 != line.end) return "something follows the ]; put a comment on a line of its own";
    if (span_size(name) == 0) return "the section has no name; write [name]";
    if (span_size(name) > INI_SECTION_MAX) return "the section's name is longer than 48 bytes";
    return NULL;
}

static const char *fault_of_name(struct span name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    if (span_size(name) == 0) return "has no name before the '='; write name = value";
    if (span_size(name) > INI_NAME_MAX) return "the name before the '=' is longer than 64 bytes";
    for (const char *c = name.begin; c < name.end; c++)
        if (!memchr(letters, *c, sizeof letters - 1))
            return "what stands before the '=' is no name of a key; a name has letters, digits and _ only";
    return NULL;
}
