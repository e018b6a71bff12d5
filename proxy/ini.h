/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ini.h - the lines of an INI text, with their numbers, whole.
 *
 *     ; comment                a line that begins with ; or # (blanks before it are fine), or a blank line
 *     [section]
 *     name = value             the value is all the rest of the line, without the blanks around it
 *     name = " value "         one pair of quotes around a value keeps its blanks; nothing inside is special
 *
 * There are no comments behind a value and no values over several lines. inih does the parsing of sections
 * and names, but it splits lines beyond 199 bytes, cuts values at " ;" and counts no lines for its caller. So
 * our line reader keeps each value aside and shows inih "name=@" instead: every line that inih sees is short
 * and plain, and the value arrives as it was written.
 *
 * Owner:   nothing is kept; strings given to the events live until they return.
 * Threads: any; no state between calls.
 */
#ifndef PROXY_INI_H
#define PROXY_INI_H

#include <stddef.h>

enum {
    INI_LINE_MAX = 64 * 1024, /* bytes in a line, without its end */
    INI_SECTION_MAX = 48,     /* inih cuts longer names */
    INI_NAME_MAX = 64,
};

struct ini_events {
    void (*section)(void *user, int line, const char *section);
    /* section is "" before the first section. Not called for what follows a broken [section line, since
     * nobody knows where it belongs. */
    void (*entry)(void *user, int line, const char *section, const char *name, const char *value);
    void (*fault)(void *user, int line, const char *what);
};

/* Reads all of text and calls the events in the order of lines, one per line at most. */
void ini_read(const char *text, size_t size, const struct ini_events *events, void *user);

#endif
