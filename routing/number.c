/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/number.h"

bool number_read(struct slice text, int64_t *number)
{
    bool is_negative = text.size > 0 && text.bytes[0] == '-';
    struct slice digits = {text.bytes + is_negative, text.size - is_negative};
    if (digits.size == 0 || digits.size > 19 || (digits.bytes[0] == '0' && text.size > 1)) return false;
    uint64_t magnitude = 0;
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.bytes[i] < '0' || digits.bytes[i] > '9') return false;
        magnitude = magnitude * 10 + (uint64_t)(digits.bytes[i] - '0');
    }
    if (magnitude > (uint64_t)INT64_MAX + is_negative) return false;
    *number = is_negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}
