/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Both scanners have two gears. The first takes whole headers and whole arguments out of contiguous bytes and
 * knows only what well-behaved peers send: plain lengths without sign or leading zero. Whatever it does not
 * know, or what is not all there, is left to the second gear, which can stop anywhere and words the errors.
 */
#include "routing/resp.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* Redis' PROTO_INLINE_MAX_SIZE: no header line and no inline command is longer. */
#define COMMAND_LINE_MAX_BYTES ((size_t)64 * 1024)

/* What Redis takes from a client that has yet to authenticate. */
#define UNAUTHENTICATED_MAX_ARGUMENTS  10
#define UNAUTHENTICATED_MAX_BULK_BYTES 16384

/* A reply beyond one of these is no reply: the stream has lost its step. Redis' status lines are short, but
 * modules and scripts choose their own; strings are 512 MiB unless proto-max-bulk-len was raised. */
#define REPLY_LINE_MAX_BYTES ((int64_t)1024 * 1024)
#define REPLY_BULK_MAX_BYTES ((int64_t)4 * 1024 * 1024 * 1024)
#define REPLY_MAX_ELEMENTS   ((uint64_t)1 << 40)

/* The first gear reads numbers of up to this many digits, which cannot overflow. */
#define PLAIN_DIGITS 10

#define FIRST_CAPACITY 16

static const char out_of_memory[] = "Protocol error: out of memory";
static const char too_big_command[] = "Protocol error: too big request";

/* ---- what both scanners need ---- */

/* Reads a number that a CR ends, between at and end. Returns the place of the CR, or NULL if the number is
 * not a plain one or its end is not there. */
static inline const char *read_plain_number(const char *at, const char *end, int64_t *number)
{
    const char *first = at;
    const char *last = end - at > PLAIN_DIGITS + 1 ? at + PLAIN_DIGITS + 1 : end;
    int64_t value = 0;
    for (; at < last; at++) {
        unsigned digit = (unsigned)(unsigned char)*at - '0';
        if (digit > 9) break;
        value = value * 10 + digit;
    }
    if (at == last || at == first || *at != '\r') return NULL;
    if (*first == '0' && at - first > 1) return NULL;
    *number = value;
    return at;
}

/* Appends a digit to a signed number; false if it does not fit. */
static inline bool append_digit(int64_t *number, bool is_negative, int digit)
{
    if (__builtin_mul_overflow(*number, 10, number)) return false;
    return !(is_negative ? __builtin_sub_overflow(*number, digit, number)
                         : __builtin_add_overflow(*number, digit, number));
}

/* Reads a whole number as strictly as Redis: no plus, no leading zero, no "-0", no overflow. */
static bool read_number(struct slice text, int64_t *number)
{
    bool is_negative = text.size > 0 && text.bytes[0] == '-';
    size_t at = is_negative ? 1 : 0;
    if (at == text.size) return false;
    if (text.bytes[at] == '0' && text.size > 1) return false;
    for (*number = 0; at < text.size; at++) {
        if (text.bytes[at] < '0' || text.bytes[at] > '9') return false;
        if (!append_digit(number, is_negative, text.bytes[at] - '0')) return false;
    }
    return true;
}

static inline bool is_line_end(const char *at)
{
    return memcmp(at, "\r\n", 2) == 0;
}

/* Passes over the header line at `at`, if it is of this type and its number has up to three digits, as most have; NULL if it is
 * another, or fewer than eight bytes are there. */
static inline const char *pass_short_header(const char *at, const char *end, char type, int64_t *number)
{
    if (end - at < 8 || *at != type) return NULL;
    unsigned first = (unsigned)(unsigned char)at[1] - '0';
    unsigned second = (unsigned)(unsigned char)at[2] - '0';
    unsigned third = (unsigned)(unsigned char)at[3] - '0';
    if (is_line_end(at + 2)) {
        *number = first;
        return first <= 9 ? at + 4 : NULL;
    }
    if (first - 1 > 8 || second > 9) return NULL;
    if (is_line_end(at + 3)) {
        *number = first * 10 + second;
        return at + 5;
    }
    *number = first * 100 + second * 10 + third;
    return third <= 9 && is_line_end(at + 4) ? at + 6 : NULL;
}

/* ---- the argument list ---- */

static bool arguments_grow(struct resp_arguments *arguments)
{
    size_t capacity = arguments->capacity ? arguments->capacity * 2 : FIRST_CAPACITY;
    if (capacity > SIZE_MAX / sizeof *arguments->items) return false;
    struct slice *items = realloc(arguments->items, capacity * sizeof *items);
    if (!items) return false;
    arguments->items = items;
    arguments->capacity = capacity;
    return true;
}

static inline bool arguments_add(struct resp_arguments *arguments, const char *bytes, size_t size)
{
    if (arguments->count == arguments->capacity && !arguments_grow(arguments)) return false;
    arguments->items[arguments->count++] = (struct slice){bytes, size};
    return true;
}

/* Room for `size` bytes of unquoted text, whatever was there before; NULL if memory is short. */
static char *arguments_reserve_text(struct resp_arguments *arguments, size_t size)
{
    if (arguments->text_capacity >= size) return arguments->text;
    char *text = realloc(arguments->text, size);
    if (!text) return NULL;
    arguments->text = text;
    arguments->text_capacity = size;
    return text;
}

void resp_arguments_finish(struct resp_arguments *arguments)
{
    free(arguments->items);
    free(arguments->text);
    *arguments = (struct resp_arguments){0};
}

/* ---- inline commands ---- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Vertical tabs and form feeds stand between words, but do not end one: so Redis has it. */
static bool ends_word(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static bool is_quote(char c)
{
    return c == '"' || c == '\'';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static char escaped_char(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return c;
    }
}

/* Reads what follows a backslash within quotes into *out and returns where it ends. Within single quotes only
 * the quote itself can be escaped. */
static const char *unescape(const char *at, const char *end, char quote, char *out)
{
    *out = '\\';
    if (at == end || (quote == '\'' && *at != '\'')) return at;
    if (quote == '"' && *at == 'x' && end - at >= 3 && hex_digit(at[1]) >= 0 && hex_digit(at[2]) >= 0) {
        *out = (char)(hex_digit(at[1]) * 16 + hex_digit(at[2]));
        return at + 3;
    }
    *out = escaped_char(*at);
    return at + 1;
}

/* Writes the word that starts at `at`, without its quotes, to *out, which is moved behind it. Returns where
 * the word ends, or NULL if a quote is not closed or is closed within a word. */
static const char *unquote_word(const char *at, const char *end, char **out)
{
    char quote = '\0';
    while (at < end) {
        char c = *at++;
        if (!quote && ends_word(c)) return at - 1;
        if (!quote && is_quote(c)) {
            quote = c;
        } else if (quote && c == quote) {
            return at == end || is_space(*at) ? at : NULL;
        } else if (quote && c == '\\') {
            at = unescape(at, end, quote, (*out)++);
        } else {
            *(*out)++ = c;
        }
    }
    return quote ? NULL : at;
}

/* Lists the words of an inline command. Returns NULL, or the error. */
static const char *split_line(struct slice line, int64_t max_words, struct resp_arguments *arguments)
{
    const char *at = line.bytes;
    const char *end = line.bytes + line.size;
    char *text = NULL;
    for (;;) {
        while (at < end && is_space(*at))
            at++;
        if (at == end) return NULL;
        if ((int64_t)arguments->count >= max_words) return "Protocol error: too big inline request";

        const char *word = at;
        while (at < end && !ends_word(*at) && !is_quote(*at))
            at++;
        size_t size = (size_t)(at - word);
        if (at < end && is_quote(*at)) {
            if (!text && !(text = arguments_reserve_text(arguments, line.size))) return out_of_memory;
            char *unquoted = text;
            at = unquote_word(word, end, &text);
            if (!at) return "Protocol error: unbalanced quotes in request";
            word = unquoted;
            size = (size_t)(text - unquoted);
        }
        if (!arguments_add(arguments, word, size)) return out_of_memory;
    }
}

/* ---- commands, second gear: line by line ---- */

/* Looks for the byte that ends the line at state->scanned. RESP_BAD if the line is too long to have an end.
 */
static enum resp_status find_line_end(struct resp_command *state, const char *bytes, size_t size, char last,
                                      size_t *line_size)
{
    const char *line = bytes + state->scanned;
    size_t there = size - state->scanned;
    size_t window = there <= COMMAND_LINE_MAX_BYTES ? there : COMMAND_LINE_MAX_BYTES + 1;
    if (!state->has_nul && state->searched < window) {
        const char *from = line + state->searched;
        const char *found = memchr(from, last, window - state->searched);
        size_t passed = found ? (size_t)(found - from) : window - state->searched;
        state->has_nul = memchr(from, '\0', passed) != NULL;
        state->searched += passed;
        if (found && !state->has_nul) {
            *line_size = state->searched;
            return RESP_DONE;
        }
    }
    state->wanted = size + 1;
    return there > COMMAND_LINE_MAX_BYTES ? RESP_BAD : RESP_MORE;
}

/* Finds a header line, whose CR must be followed by one more byte. Redis takes any for the LF. */
static enum resp_status find_header(struct resp_command *state, const char *bytes, size_t size,
                                    struct slice *line)
{
    size_t line_size;
    enum resp_status status = find_line_end(state, bytes, size, '\r', &line_size);
    if (status != RESP_DONE) return status;
    if (size - state->scanned < line_size + 2) {
        state->wanted = size + 1;
        return RESP_MORE;
    }
    *line = (struct slice){bytes + state->scanned, line_size};
    return RESP_DONE;
}

static inline void begin_next(struct resp_command *state, size_t passed)
{
    if (passed == 0) return;
    state->scanned += passed;
    state->searched = 0;
}

static enum resp_status read_count_header(struct resp_command *state, const struct resp_limits *limits,
                                          const char *bytes, size_t size, struct resp_arguments *arguments,
                                          const char **error)
{
    struct slice line = {0};
    enum resp_status status = find_header(state, bytes, size, &line);
    if (status == RESP_BAD) *error = "Protocol error: too big mbulk count string";
    if (status != RESP_DONE) return status;

    int64_t total;
    if (!read_number((struct slice){line.bytes + 1, line.size - 1}, &total) ||
        total > limits->max_arguments) {
        *error = "Protocol error: invalid multibulk length";
        return RESP_BAD;
    }
    if (limits->is_unauthenticated && total > UNAUTHENTICATED_MAX_ARGUMENTS) {
        *error = "Protocol error: unauthenticated multibulk length";
        return RESP_BAD;
    }
    if (line.bytes[line.size + 1] != '\n') arguments->is_canonical = false;
    state->total = total > 0 ? total : 0;
    begin_next(state, line.size + 2);
    return RESP_DONE;
}

/* Redis' wording; a CR or LF would break its error line, so Redis shows a blank. */
static const char *expected_dollar(struct resp_arguments *arguments, char got)
{
    bool is_break = got == '\r' || got == '\n';
    snprintf(arguments->error, sizeof arguments->error, "Protocol error: expected '$', got '%c'",
             is_break ? ' ' : got);
    return arguments->error;
}

static enum resp_status read_bulk_header(struct resp_command *state, const struct resp_limits *limits,
                                         const char *bytes, size_t size, struct resp_arguments *arguments,
                                         const char **error)
{
    struct slice line = {0};
    enum resp_status status = find_header(state, bytes, size, &line);
    if (status == RESP_BAD) *error = "Protocol error: too big bulk count string";
    if (status != RESP_DONE) return status;

    int64_t length = -1;
    if (line.bytes[0] != '$') {
        *error = expected_dollar(arguments, line.bytes[0]);
    } else if (!read_number((struct slice){line.bytes + 1, line.size - 1}, &length) || length < 0 ||
               length > limits->max_bulk_bytes) {
        *error = "Protocol error: invalid bulk length";
    } else if (limits->is_unauthenticated && length > UNAUTHENTICATED_MAX_BULK_BYTES) {
        *error = "Protocol error: unauthenticated bulk length";
    } else if ((uint64_t)length + state->scanned + line.size + 4 > limits->max_command_bytes) {
        *error = too_big_command;
    }
    if (*error) return RESP_BAD;

    if (line.bytes[line.size + 1] != '\n') arguments->is_canonical = false;
    state->has_bulk = true;
    state->bulk_bytes = length;
    begin_next(state, line.size + 2);
    return RESP_DONE;
}

/* ---- commands, first gear ---- */

/* Passes over the first line if it is plain, within the limits and all there. */
static inline void pass_plain_count(struct resp_command *state, const struct resp_limits *limits,
                                    const char *bytes, size_t size)
{
    int64_t total = 0;
    const char *end = bytes + size;
    const char *cr = read_plain_number(bytes + 1, end, &total);
    if (!cr || end - cr < 2 || cr[1] != '\n' || total > limits->max_arguments) return;
    if (total == 0 || (limits->is_unauthenticated && total > UNAUTHENTICATED_MAX_ARGUMENTS)) return;
    state->total = total;
    begin_next(state, (size_t)(cr + 2 - bytes));
}

/* Passes over arguments as long as they are plain, within the limits and all there. With is_listing, lists
 * them; false if memory is short for that. */
static inline bool pass_plain_bulks(struct resp_command *state, const struct resp_limits *limits,
                                    const char *bytes, size_t size, struct resp_arguments *arguments,
                                    bool is_listing)
{
    int64_t max_length = limits->max_bulk_bytes;
    if (limits->is_unauthenticated && max_length > UNAUTHENTICATED_MAX_BULK_BYTES)
        max_length = UNAUTHENTICATED_MAX_BULK_BYTES;
    const char *end = bytes + (size < limits->max_command_bytes ? size : limits->max_command_bytes);
    const char *at = bytes + state->scanned;
    int64_t owed = state->total - state->seen;
    bool is_canonical = true;

    while (owed > 0 && at < end && *at == '$') {
        int64_t length = 0;
        const char *cr = read_plain_number(at + 1, end, &length);
        if (!cr || length > max_length || end - cr < length + 4) break;
        const char *payload = cr + 2;
        is_canonical &= cr[1] == '\n' && is_line_end(payload + length);
        if (is_listing && !arguments_add(arguments, payload, (size_t)length)) return false;
        at = payload + length + 2;
        owed--;
    }
    begin_next(state, (size_t)(at - bytes) - state->scanned);
    state->seen = state->total - owed;
    arguments->is_canonical &= is_canonical;
    return true;
}

/* Passes over the argument whose header was read. */
static enum resp_status pass_bulk(struct resp_command *state, const char *bytes, size_t size,
                                  struct resp_arguments *arguments, bool is_listing, const char **error)
{
    size_t length = (size_t)state->bulk_bytes;
    if (size - state->scanned < length + 2) {
        state->wanted = state->scanned + length + 2;
        return RESP_MORE;
    }
    const char *payload = bytes + state->scanned;
    if (!is_line_end(payload + length)) arguments->is_canonical = false;
    if (is_listing && !arguments_add(arguments, payload, length)) {
        *error = out_of_memory;
        return RESP_BAD;
    }
    state->has_bulk = false;
    state->seen++;
    begin_next(state, length + 2);
    return RESP_DONE;
}

static enum resp_status scan_array(struct resp_command *state, const struct resp_limits *limits,
                                   const char *bytes, size_t size, struct resp_arguments *arguments,
                                   bool is_listing, const char **error)
{
    enum resp_status status = RESP_DONE;
    if (state->total == 0) pass_plain_count(state, limits, bytes, size);
    if (state->total == 0) status = read_count_header(state, limits, bytes, size, arguments, error);
    while (status == RESP_DONE && state->seen < state->total) {
        if (state->has_bulk) {
            status = pass_bulk(state, bytes, size, arguments, is_listing, error);
            continue;
        }
        if (!pass_plain_bulks(state, limits, bytes, size, arguments, is_listing)) {
            *error = out_of_memory;
            return RESP_BAD;
        }
        if (state->seen < state->total)
            status = read_bulk_header(state, limits, bytes, size, arguments, error);
    }
    return status;
}

static enum resp_status scan_inline(struct resp_command *state, const struct resp_limits *limits,
                                    const char *bytes, size_t size, struct resp_arguments *arguments,
                                    const char **error)
{
    size_t line_size;
    enum resp_status status = find_line_end(state, bytes, size, '\n', &line_size);
    if (status == RESP_BAD) *error = "Protocol error: too big inline request";
    if (status != RESP_DONE) return status;
    if (line_size + 1 > limits->max_command_bytes) {
        *error = too_big_command;
        return RESP_BAD;
    }

    state->scanned = line_size + 1;
    arguments->is_canonical = false;
    if (line_size > 0 && bytes[line_size - 1] == '\r') line_size--;
    *error = split_line((struct slice){bytes, line_size}, limits->max_arguments, arguments);
    return *error ? RESP_BAD : RESP_DONE;
}

/* The length of a command that is all there, plain and within the limits, with its arguments listed; 0 if it has to be looked at
 * line by line. */
static inline size_t pass_plain_command(const struct resp_limits *limits, const char *bytes, size_t size,
                                        struct resp_arguments *arguments)
{
    const char *end = bytes + (size < limits->max_command_bytes ? size : limits->max_command_bytes);
    int64_t count = 0, length = 0;
    const char *at = limits->is_unauthenticated ? NULL : pass_short_header(bytes, end, '*', &count);
    if (!at || count == 0 || count > limits->max_arguments) return 0;
    for (; count > 0; count--) {
        at = pass_short_header(at, end, '$', &length);
        if (!at || length > limits->max_bulk_bytes || end - at < length + 2 || !is_line_end(at + length)) break;
        if (!arguments_add(arguments, at, (size_t)length)) break;
        at += length + 2;
    }
    if (count == 0) return (size_t)(at - bytes);
    arguments->count = 0;
    return 0;
}

/*
 * The list is shared by all clients of a worker, so it cannot be kept from call to call: a command that comes
 * in pieces is only measured until its end is there, then walked once more to list its arguments.
 */
enum resp_status resp_command_scan(struct resp_command *state, const struct resp_limits *limits,
                                   const char *bytes, size_t size, struct resp_arguments *arguments,
                                   size_t *used, const char **error)
{
    arguments->count = 0;
    arguments->is_canonical = true;
    *used = 0;
    *error = NULL;
    if (size == 0) return RESP_MORE;

    bool is_first = state->wanted == 0;
    if (is_first && (*used = pass_plain_command(limits, bytes, size, arguments)) > 0) return RESP_DONE;
    enum resp_status status = resp_is_inline(bytes)
                                  ? scan_inline(state, limits, bytes, size, arguments, error)
                                  : scan_array(state, limits, bytes, size, arguments, is_first, error);
    if (status != RESP_DONE) return status;

    *used = state->scanned;
    if (!is_first && !resp_is_inline(bytes)) {
        *state = (struct resp_command){0};
        arguments->is_canonical = true;
        status = scan_array(state, limits, bytes, *used, arguments, true, error);
    }
    *state = (struct resp_command){0};
    return status;
}

size_t resp_command_wanted(const struct resp_command *state)
{
    return state->wanted > 0 ? state->wanted : 1;
}

/* ---- encoding ---- */

static size_t digits_of(size_t number)
{
    size_t digits = 1;
    for (; number >= 10; number /= 10)
        digits++;
    return digits;
}

static char *put_header(char *out, char type, size_t number)
{
    size_t digits = digits_of(number);
    *out++ = type;
    for (size_t i = digits; i > 0; i--, number /= 10)
        out[i - 1] = (char)('0' + number % 10);
    out[digits] = '\r';
    out[digits + 1] = '\n';
    return out + digits + 2;
}

size_t resp_encoded_size(const struct slice *items, size_t count)
{
    size_t size = 1 + digits_of(count) + 2;
    for (size_t i = 0; i < count; i++)
        size += 1 + digits_of(items[i].size) + 2 + items[i].size + 2;
    return size;
}

size_t resp_encode(char *out, const struct slice *items, size_t count)
{
    char *at = put_header(out, '*', count);
    for (size_t i = 0; i < count; i++) {
        at = put_header(at, '$', items[i].size);
        if (items[i].size > 0) memcpy(at, items[i].bytes, items[i].size);
        at += items[i].size;
        *at++ = '\r';
        *at++ = '\n';
    }
    return (size_t)(at - out);
}

/* ---- replies, second gear: any piece, however small ---- */

enum reply_step {
    STEP_TYPE, /* first byte of an element */
    STEP_NUMBER,
    STEP_LINE,
    STEP_BOOL,
    STEP_CR,
    STEP_LF,
    STEP_PAYLOAD,
};

/* What follows the type byte; STEP_TYPE where there is no such type. */
static const uint8_t step_behind_type[UCHAR_MAX + 1] = {
    ['+'] = STEP_LINE,   ['-'] = STEP_LINE,   [','] = STEP_LINE,   ['('] = STEP_LINE,   ['#'] = STEP_BOOL,
    ['_'] = STEP_CR,     [':'] = STEP_NUMBER, ['$'] = STEP_NUMBER, ['='] = STEP_NUMBER, ['!'] = STEP_NUMBER,
    ['*'] = STEP_NUMBER, ['%'] = STEP_NUMBER, ['~'] = STEP_NUMBER, ['>'] = STEP_NUMBER, ['|'] = STEP_NUMBER,
};

static bool begin_element(struct resp_reply *state, char type)
{
    state->element = type;
    state->step = step_behind_type[(unsigned char)type];
    state->number = 0;
    state->is_negative = false;
    state->has_digits = false;
    return state->step != STEP_TYPE;
}

static bool end_element(struct resp_reply *state)
{
    state->owed--;
    state->step = STEP_TYPE;
    return true;
}

/* Reads one byte of a number, digit, sign or the CR behind it. */
static bool take_number_byte(struct resp_reply *state, char c)
{
    if (c == '\r') {
        state->step = STEP_LF;
        return state->has_digits && !(state->is_negative && state->number == 0);
    }
    bool is_at_start = !state->has_digits && !state->is_negative;
    if (c == '-' && is_at_start) {
        state->is_negative = true;
        return true;
    }
    if (c < '0' || c > '9' || (state->has_digits && state->number == 0)) return false;
    state->has_digits = true;
    return append_digit(&state->number, state->is_negative, c - '0');
}

/* Passes over text up to its CR; number counts the bytes. */
static const char *pass_line(struct resp_reply *state, const char *at, const char *end)
{
    int64_t room = REPLY_LINE_MAX_BYTES - state->number;
    int64_t span = end - at <= room ? end - at : room + 1;
    const char *cr = memchr(at, '\r', (size_t)span);
    if (cr) {
        state->step = STEP_LF;
        return cr + 1;
    }
    if (span > room) return NULL;
    state->number += span;
    return at + span;
}

static const char *pass_payload(struct resp_reply *state, const char *at, const char *end)
{
    if (state->bulk_bytes > 2) {
        uint64_t there = (uint64_t)(end - at);
        uint64_t passed = there < state->bulk_bytes - 2 ? there : state->bulk_bytes - 2;
        state->bulk_bytes -= passed;
        return at + passed;
    }
    if (*at != (state->bulk_bytes == 2 ? '\r' : '\n')) return NULL;
    state->bulk_bytes--;
    if (state->bulk_bytes == 0) end_element(state);
    return at + 1;
}

static bool begin_payload(struct resp_reply *state)
{
    if (state->element == '$' && state->number == -1) return end_element(state);
    int64_t least = state->element == '=' ? 4 : 0; /* "txt:" */
    if (state->number < least || state->number > REPLY_BULK_MAX_BYTES) return false;
    state->bulk_bytes = (uint64_t)state->number + 2;
    state->step = STEP_PAYLOAD;
    return true;
}

/* Adds the children of an aggregate to what is owed. */
static bool begin_children(struct resp_reply *state)
{
    if (state->element == '*' && state->number == -1) return end_element(state);
    if (state->number < 0 || (uint64_t)state->number > REPLY_MAX_ELEMENTS) return false;
    bool is_paired = state->element == '%' || state->element == '|';
    uint64_t children = (uint64_t)state->number * (is_paired ? 2 : 1);
    if (children > REPLY_MAX_ELEMENTS - state->owed) return false;
    state->owed += children;
    bool is_between = state->element == '>' && state->type != '>';
    if (state->element != '|' && !is_between) return end_element(state);
    state->step = STEP_TYPE; /* what the attribute belongs to, or the push came before, is still owed */
    return true;
}

static bool end_header(struct resp_reply *state)
{
    switch (state->element) {
    case '$':
    case '=':
    case '!':
        return begin_payload(state);
    case '*':
    case '%':
    case '~':
    case '>':
    case '|':
        return begin_children(state);
    default:
        return end_element(state);
    }
}

/* Takes one byte, or as many as need no look. Returns where it stopped, or NULL if this is no reply. */
static const char *take_piece(struct resp_reply *state, const char *at, const char *end)
{
    bool is_good = false;
    switch ((enum reply_step)state->step) {
    case STEP_LINE:
        return pass_line(state, at, end);
    case STEP_PAYLOAD:
        return pass_payload(state, at, end);
    case STEP_TYPE:
        is_good = begin_element(state, *at);
        break;
    case STEP_NUMBER:
        is_good = take_number_byte(state, *at);
        break;
    case STEP_BOOL:
        is_good = *at == 't' || *at == 'f';
        state->step = STEP_CR;
        break;
    case STEP_CR:
        is_good = *at == '\r';
        state->step = STEP_LF;
        break;
    case STEP_LF:
        is_good = *at == '\n' && end_header(state);
        break;
    }
    return is_good ? at + 1 : NULL;
}

/* ---- replies, first gear ---- */

static inline const char *pass_plain_line(const char *at, const char *end)
{
    int64_t span = end - at <= REPLY_LINE_MAX_BYTES ? end - at : REPLY_LINE_MAX_BYTES + 1;
    if (span >= 4 && memcmp(at, "OK\r\n", 4) == 0) return at + 4;
    const char *cr = memchr(at, '\r', (size_t)span);
    return cr && end - cr >= 2 && cr[1] == '\n' ? cr + 2 : NULL;
}

/* Passes over the element at `at` (an aggregate's header) if it is plain and all there, and keeps *owed; NULL
 * if it is not. */
static inline const char *pass_plain_element(const char *at, const char *end, uint64_t *owed)
{
    char type = *at++;
    if (type == '+' || type == '-') {
        at = pass_plain_line(at, end);
        if (at) --*owed;
        return at;
    }
    if (type != '$' && type != ':' && type != '*') return NULL;

    int64_t number = 0;
    const char *cr = read_plain_number(at, end, &number);
    if (!cr && type == '$' && end - at >= 4 && memcmp(at, "-1\r\n", 4) == 0) {
        --*owed;
        return at + 4;
    }
    if (!cr || end - cr < 2 || cr[1] != '\n') return NULL;
    const char *next = cr + 2;
    uint64_t children = 0;
    if (type == '$') {
        if (number > REPLY_BULK_MAX_BYTES || end - next < number + 2 || !is_line_end(next + number))
            return NULL;
        next += number + 2;
    } else if (type == '*') {
        children = (uint64_t)number;
        if (children > REPLY_MAX_ELEMENTS - *owed) return NULL;
    }
    *owed += children - 1;
    return next;
}

/* Passes over plain elements until the reply ends or one is not plain. Returns where that one starts. */
static inline const char *pass_plain_elements(struct resp_reply *state, const char *at, const char *end)
{
    uint64_t owed = state->owed;
    while (at < end) {
        if (owed == 0) {
            owed = 1;
            state->type = *at;
        } else if (owed == 1 && state->type == '|') {
            state->type = *at; /* the attribute is over, here is what it belongs to */
        }
        const char *next = pass_plain_element(at, end, &owed);
        if (!next) break;
        at = next;
        if (owed == 0) break;
    }
    state->owed = owed;
    return at;
}

/* Behind a reply that is one short string, as most are; NULL if it is another. */
static inline const char *pass_plain_bulk_reply(struct resp_reply *state, const char *at, const char *end)
{
    int64_t length;
    at = pass_short_header(at, end, '$', &length);
    if (!at || end - at < length + 2 || !is_line_end(at + length)) return NULL;
    state->type = '$';
    return at + length + 2;
}

enum resp_status resp_reply_scan(struct resp_reply *state, const char *bytes, size_t size, size_t *used)
{
    const char *at = bytes;
    const char *end = bytes + size;
    if (resp_reply_is_idle(state) && (at = pass_plain_bulk_reply(state, bytes, end))) {
        *used = (size_t)(at - bytes);
        return RESP_DONE;
    }
    at = bytes;
    while (at < end) {
        if (state->step == STEP_TYPE) at = pass_plain_elements(state, at, end);
        if (state->owed > 0 && at < end) at = take_piece(state, at, end);
        if (!at) return RESP_BAD;
        if (state->owed == 0) {
            *used = (size_t)(at - bytes);
            return RESP_DONE;
        }
    }
    *used = size;
    return RESP_MORE;
}

/* ---- values ---- */

/* Reads the payload whose length value->integer holds from *at on. */
static bool read_payload(struct resp_value *value, const char **at, const char *end)
{
    int64_t length = value->integer;
    value->integer = 0;
    value->is_null = value->type == '$' && length == -1;
    if (value->is_null) return true;
    if (length < 0 || end - *at < 2 || length > end - *at - 2 || !is_line_end(*at + length)) return false;

    value->text = (struct slice){*at, (size_t)length};
    *at += length + 2;
    if (value->type == '=') {
        if (length < 4) return false;
        value->text.bytes += 4;
        value->text.size -= 4;
    }
    return true;
}

/* Makes a number of elements out of the number in the header. */
static bool count_children(struct resp_value *value)
{
    value->is_null = value->type == '*' && value->integer == -1;
    if (value->is_null) value->integer = 0;
    if (value->integer < 0 || (uint64_t)value->integer > REPLY_MAX_ELEMENTS) return false;
    if (value->type == '%' || value->type == '|') value->integer *= 2;
    return true;
}

static bool read_bool(struct resp_value *value, struct slice line)
{
    value->integer = line.size == 1 && line.bytes[0] == 't';
    return line.size == 1 && (line.bytes[0] == 't' || line.bytes[0] == 'f');
}

/* Understands what stands behind the type byte; *at is behind the header line. */
static bool read_value(struct resp_value *value, struct slice line, const char **at, const char *end)
{
    switch (value->type) {
    case '+':
    case '-':
    case ',':
    case '(':
        value->text = line;
        return true;
    case '_':
        value->is_null = true;
        return line.size == 0;
    case '#':
        return read_bool(value, line);
    case ':':
        return read_number(line, &value->integer);
    case '$':
    case '=':
    case '!':
        return read_number(line, &value->integer) && read_payload(value, at, end);
    case '*':
    case '%':
    case '~':
    case '>':
    case '|':
        return read_number(line, &value->integer) && count_children(value);
    default:
        return false;
    }
}

bool resp_value_next(struct slice reply, size_t *position, struct resp_value *value)
{
    *value = (struct resp_value){0};
    if (*position >= reply.size) return false;
    const char *at = reply.bytes + *position;
    const char *end = reply.bytes + reply.size;
    value->type = *at++;
    const char *cr = memchr(at, '\r', (size_t)(end - at));
    if (!cr || end - cr < 2 || cr[1] != '\n') return false;

    struct slice line = {at, (size_t)(cr - at)};
    at = cr + 2;
    if (!read_value(value, line, &at, end)) return false;
    *position = (size_t)(at - reply.bytes);
    return true;
}

bool resp_value_skip(struct slice reply, size_t *position)
{
    if (*position >= reply.size) return false;
    struct resp_reply state = {0};
    size_t used;
    if (resp_reply_scan(&state, reply.bytes + *position, reply.size - *position, &used) != RESP_DONE)
        return false;
    *position += used;
    return true;
}
