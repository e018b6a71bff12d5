/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* Below PIPE_BUF, so that a line also stays whole in a pipe. */
enum { LINE_SIZE = 2048 };

static const struct {
    const char *name;
    int priority; /* of syslog(3) */
} levels[] = {
    [LOG_ERROR_LEVEL] = {"error", LOG_ERR},
    [LOG_WARNING_LEVEL] = {"warning", LOG_WARNING},
    [LOG_INFO_LEVEL] = {"info", LOG_INFO},
    [LOG_DEBUG_LEVEL] = {"debug", LOG_DEBUG},
};

enum { TO_SYSLOG = -2 }; /* not -1, which is a failed open(2) */

/* Set by log_open() and log_close() before and after the threads live; atomics, since any thread reads them.
 */
static atomic_int level_now = LOG_INFO_LEVEL;
static atomic_int target_now = STDERR_FILENO; /* a descriptor, or TO_SYSLOG */

static void emit(enum log_level level, const char *format, va_list arguments);
static size_t put_prefix(char *line, enum log_level level);
static size_t put_message(char *message, size_t room, const char *format, va_list arguments);
static void write_once(int descriptor, const char *line, size_t size);

bool log_open(const char *target, enum log_level level)
{
    int descriptor = STDERR_FILENO;
    if (strcmp(target, "syslog") == 0)
        descriptor = TO_SYSLOG;
    else if (strcmp(target, "stderr") != 0)
        descriptor = open(target, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (descriptor == -1) return false;

    log_close();
    if (descriptor == TO_SYSLOG) openlog("pointsman", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    atomic_store(&level_now, (int)level);
    atomic_store(&target_now, descriptor);
    return true;
}

void log_close(void)
{
    int descriptor = atomic_exchange(&target_now, STDERR_FILENO);
    atomic_store(&level_now, LOG_INFO_LEVEL);
    if (descriptor == TO_SYSLOG)
        closelog();
    else if (descriptor != STDERR_FILENO)
        close(descriptor);
}

bool log_has(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&level_now, memory_order_relaxed);
}

#define DEFINE_LEVEL(function, level)                                                                        \
    void function(const char *format, ...)                                                                   \
    {                                                                                                        \
        va_list arguments;                                                                                   \
        va_start(arguments, format);                                                                         \
        if (log_has(level)) emit(level, format, arguments);                                                  \
        va_end(arguments);                                                                                   \
    }
DEFINE_LEVEL(log_error, LOG_ERROR_LEVEL)
DEFINE_LEVEL(log_warning, LOG_WARNING_LEVEL)
DEFINE_LEVEL(log_info, LOG_INFO_LEVEL)
DEFINE_LEVEL(log_debug, LOG_DEBUG_LEVEL)
#undef DEFINE_LEVEL

/* Leaves errno alone: people log between a failed call and looking at why it failed. */
static void emit(enum log_level level, const char *format, va_list arguments)
{
    int saved_errno = errno;
    char line[LINE_SIZE];
    int target = atomic_load(&target_now);
    size_t size = target == TO_SYSLOG ? 0 : put_prefix(line, level);
    size += put_message(line + size, sizeof line - size - 1, format, arguments);
    if (target == TO_SYSLOG) {
        syslog(levels[level].priority, "%s", line);
    } else {
        line[size++] = '\n';
        write_once(target, line, size);
    }
    errno = saved_errno;
}

/* "2026-11-20T18:30:43.123Z info " */
static size_t put_prefix(char *line, enum log_level level)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t size = strftime(line, LINE_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
    return size + (size_t)sprintf(line + size, ".%03ldZ %s ", now.tv_nsec / 1000000, levels[level].name);
}

/* Formats into room bytes with the terminating zero, on one line, and says how long it is. */
static size_t put_message(char *message, size_t room, const char *format, va_list arguments)
{
    static const char ellipsis[] = "...";
    int wanted = vsnprintf(message, room, format, arguments);
    if (wanted < 0) wanted = snprintf(message, room, "(a message that cannot be formatted)");
    size_t size = (size_t)wanted;
    if (size >= room) {
        size = room - sizeof ellipsis;
        while (size > 0 && ((unsigned char)message[size] & 0xc0) == 0x80)
            size--; /* not through the middle of a UTF-8 character */
        memcpy(message + size, ellipsis, sizeof ellipsis);
        size += sizeof ellipsis - 1;
    }
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)message[i] < 0x20 || message[i] == 0x7f) message[i] = '?';
    return size;
}

/* A line that cannot be written is lost: there is nobody left to tell. */
static void write_once(int descriptor, const char *line, size_t size)
{
    ssize_t written;
    do
        written = write(descriptor, line, size);
    while (written < 0 && errno == EINTR);
}
