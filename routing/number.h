/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * number.h - whole numbers as clients write them.
 *
 * Threads: pure, so any.
 */
#ifndef ROUTING_NUMBER_H
#define ROUTING_NUMBER_H

#include "routing/slice.h"

#include <stdint.h>

/* True if the text is a decimal number of 64 bits as Redis reads them: no blanks, no plus sign, no leading
 * zeros. */
bool number_read(struct slice text, int64_t *number);

#endif
