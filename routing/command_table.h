/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * command_table.h - the rows that are compiled in. For routing/command*.c alone; all others ask command.h.
 *
 * Threads: constant.
 */
#ifndef ROUTING_COMMAND_TABLE_H
#define ROUTING_COMMAND_TABLE_H

#include "routing/command.h"

extern const struct command command_table[];
extern const size_t command_table_size;

#endif
