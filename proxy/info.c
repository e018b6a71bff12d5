/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/info.h"

bool info_copy(struct slice text, const char *key, char *out, size_t size)
{
    size_t key_size = strlen(key);
    const char *end = text.bytes + text.size;
    out[0] = '\0';
    for (const char *line = text.bytes; line < end;) {
        const char *line_end = memchr(line, '\n', (size_t)(end - line));
        if (!line_end) line_end = end;
        size_t length = (size_t)(line_end - line);
        if (length > key_size && line[key_size] == ':' && memcmp(line, key, key_size) == 0) {
            const char *value = line + key_size + 1;
            size_t value_size = (size_t)(line_end - value);
            if (value_size && value[value_size - 1] == '\r') value_size--;
            if (value_size >= size) value_size = size - 1;
            memcpy(out, value, value_size);
            out[value_size] = '\0';
            return true;
        }
        line = line_end + 1;
    }
    return false;
}
