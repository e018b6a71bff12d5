/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/error.h"

#define ERROR_REPLY(name, text) {"-ERR pointsman: " text "\r\n", sizeof("-ERR pointsman: " text "\r\n") - 1},
static const struct slice replies[ERROR_COUNT] = {ERROR_TABLE(ERROR_REPLY)};
#undef ERROR_REPLY

struct slice error_reply(enum error error) { return replies[error]; }
