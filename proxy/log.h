/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h - one event, one line.
 *
 * error: a human must act. warning: something went wrong and is being handled. info: something changed.
 * debug: for finding faults. A line is written with one system call, so lines of threads never mix.
 * Passwords and clients' data never appear.
 *
 * Threads: any, after log_open(); before it, lines go to stderr at level info.
 */
#ifndef PROXY_LOG_H
#define PROXY_LOG_H

#include <stdbool.h>

enum log_level {
    LOG_ERROR_LEVEL, /* same order as enum log_level_name of config.h */
    LOG_WARNING_LEVEL,
    LOG_INFO_LEVEL,
    LOG_DEBUG_LEVEL,
};

/* target: "stderr", "syslog", or the path of a file to append to. False with errno set if the file cannot be
 * opened. */
bool log_open(const char *target, enum log_level level);
void log_close(void);
bool log_has(enum log_level level);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
