/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any bytes as a configuration file: they are loaded or refused with errors, never anything else. The seeds
 * are in corpus/config/.
 */
#include "proxy/config.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;
    size_t text_size;
    FILE *errors = open_memstream(&text, &text_size);
    if (!errors) abort();
    struct config *config = config_load_text((const char *)data, size, "fuzz.ini", errors);
    fclose(errors);
    if ((config == NULL) != (text_size > 0)) abort(); /* refused without a word, or loaded with one */
    config_destroy(config);
    free(text);
    return 0;
}
