/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/blocking.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Longer ones would end beyond what Redis can count in milliseconds since 1970, and it refuses them. */
static const uint64_t LONGEST_MS = (uint64_t)INT64_MAX / 4;

typedef bool (*timeout_reader)(struct slice text, uint64_t *timeout_ms);

static uint32_t position_none(const struct command *command, const struct slice *arguments, size_t count);
static uint32_t position_last(const struct command *command, const struct slice *arguments, size_t count);
static uint32_t position_first(const struct command *command, const struct slice *arguments, size_t count);
static bool read_nothing(struct slice text, uint64_t *timeout_ms);
static bool read_seconds(struct slice text, uint64_t *timeout_ms);
static bool read_milliseconds(struct slice text, uint64_t *timeout_ms);

static const struct {
    uint32_t (*position)(const struct command *command, const struct slice *arguments, size_t count);
    timeout_reader read;
    bool is_in_seconds;
    bool is_for_data;
} kinds[] = {
    [BLOCK_UNKNOWN] = {position_none, read_nothing, false, false},
    [BLOCK_SECONDS_LAST] = {position_last, read_seconds, true, true},
    [BLOCK_SECONDS_FIRST] = {position_first, read_seconds, true, true},
    [BLOCK_OPTION] = {command_block_position, read_milliseconds, false, true},
    [BLOCK_REPLICAS] = {position_last, read_milliseconds, false, false},
};

struct blocking_timeout blocking_timeout_of(const struct command *command, const struct slice *arguments,
                                            size_t count)
{
    struct blocking_timeout timeout = {0, 0};
    uint32_t position = kinds[command->block].position(command, arguments, count);
    if (position > 0 && position < count &&
        kinds[command->block].read(arguments[position], &timeout.timeout_ms))
        timeout.position = position;
    return timeout;
}

struct slice blocking_write_timeout(enum command_block block, uint64_t timeout_ms, char *text)
{
    int size = kinds[block].is_in_seconds ? snprintf(text, BLOCKING_TEXT_SIZE, "%" PRIu64 ".%03u",
                                                     timeout_ms / 1000, (unsigned)(timeout_ms % 1000))
                                          : snprintf(text, BLOCKING_TEXT_SIZE, "%" PRIu64, timeout_ms);
    return (struct slice){text, (size_t)size};
}

bool blocking_is_for_data(enum command_block block)
{
    return kinds[block].is_for_data;
}

/* Redis has one nil for all of them, that of an array, also where the reply would be a string (BLMOVE). */
struct slice blocking_reply_of_end(const struct command *command, int protocol)
{
    if (command->block == BLOCK_REPLICAS)
        return command->arity == 3 ? SLICE(":0\r\n") : SLICE("*2\r\n:0\r\n:0\r\n"); /* WAIT; WAITAOF */
    return protocol >= 3 ? SLICE("_\r\n") : SLICE("*-1\r\n");
}

static uint32_t position_none(const struct command *command, const struct slice *arguments, size_t count)
{
    (void)command, (void)arguments, (void)count;
    return 0;
}

static uint32_t position_last(const struct command *command, const struct slice *arguments, size_t count)
{
    (void)command, (void)arguments;
    return (uint32_t)(count - 1);
}

static uint32_t position_first(const struct command *command, const struct slice *arguments, size_t count)
{
    (void)command, (void)arguments, (void)count;
    return 1;
}

static bool read_nothing(struct slice text, uint64_t *timeout_ms)
{
    (void)text, (void)timeout_ms;
    return false;
}

/* Whatever strtold() takes whole, as Redis does: .5, 1e-3, 0x1; rounded up to milliseconds. */
static bool read_seconds(struct slice text, uint64_t *timeout_ms)
{
    char copy[128];
    char *end;
    if (text.size == 0 || text.size >= sizeof copy || strchr(" \t\n\v\f\r", text.bytes[0])) return false;
    memcpy(copy, text.bytes, text.size);
    copy[text.size] = '\0';
    errno = 0;
    long double milliseconds = strtold(copy, &end) * 1000;
    if (end != copy + text.size || errno == ERANGE ||
        !(milliseconds >= 0 && milliseconds <= (long double)LONGEST_MS))
        return false;
    *timeout_ms = (uint64_t)milliseconds;
    if ((long double)*timeout_ms < milliseconds) ++*timeout_ms;
    return true;
}

/* Digits alone, without a leading zero. */
static bool read_milliseconds(struct slice text, uint64_t *timeout_ms)
{
    uint64_t number = 0;
    if (text.size == 0 || (text.bytes[0] == '0' && text.size > 1)) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9' || number > LONGEST_MS / 10) return false;
        number = number * 10 + (uint64_t)(text.bytes[i] - '0');
    }
    *timeout_ms = number;
    return true;
}
