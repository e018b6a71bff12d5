/* SPDX-License-Identifier: BSD-2-Clause */
/* What was meant by a word that is unknown. */
#include "proxy/config_key.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { GUESS_WORD_MAX = 100, GUESS_DISTANCE_MAX = 4 };

/* Levenshtein's distance without regard to case. */
static size_t distance_between(const char *a, const char *b)
{
    size_t row[GUESS_WORD_MAX + 1];
    size_t columns = strlen(b);
    for (size_t k = 0; k <= columns; k++)
        row[k] = k;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t k = 0; k < columns; k++) {
            size_t change = diagonal + (tolower((unsigned char)a[i]) != tolower((unsigned char)b[k]));
            size_t removal = row[k + 1] + 1, insertion = row[k] + 1;
            diagonal = row[k + 1];
            row[k + 1] = change < removal ? change : removal;
            if (insertion < row[k + 1]) row[k + 1] = insertion;
        }
    }
    return row[columns];
}

void config_guess_begin(struct config_guess *guess, const char *text)
{
    size_t size = strlen(text), near = 1 + size / 4;
    guess->text = size <= GUESS_WORD_MAX ? text : "";
    guess->distance = 1 + (near < GUESS_DISTANCE_MAX ? near : GUESS_DISTANCE_MAX); /* to be beaten */
    guess->nearest[0] = '\0';
}

void config_guess_offer(struct config_guess *guess, const char *word)
{
    if (guess->text[0] == '\0' || strlen(word) > GUESS_WORD_MAX) return;
    size_t distance = distance_between(guess->text, word);
    if (distance >= guess->distance) return;
    guess->distance = distance;
    snprintf(guess->nearest, sizeof guess->nearest, "%s", word);
}

const char *config_guess_end(const struct config_guess *guess)
{
    return guess->nearest[0] ? guess->nearest : NULL;
}
