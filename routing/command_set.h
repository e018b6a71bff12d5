/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * command_set.h - the inside of a command_set: an index over rows, and what a node said about its commands.
 * For routing/command*.c alone; all others ask command.h.
 *
 * Owner:   a set owns its index, its learned rows and the node's reply.
 * Threads: nothing changes once command_set_create() has returned, but the count of references.
 */
#ifndef ROUTING_COMMAND_SET_H
#define ROUTING_COMMAND_SET_H

#include "routing/command.h"

#include <stdatomic.h>

/* A word without regard to case: its first and its last eight bytes (which overlap or meet up to 16 bytes, so
 * that these are equal exactly when the words are), letters in upper case. */
struct command_word {
    uint64_t head, tail;
    size_t size;
};

/* One place of the index: open addressing, linear probing, at most half of the places taken. */
struct command_place {
    struct command_word word;
    const struct command *parent; /* the container's row, NULL for a command's own word */
    const struct command *row;    /* NULL: the place is free */
};

struct command_index {
    struct command_place *places;
    unsigned bits; /* 1 << bits places */
    size_t used;
};

/* What a node's reply says of one command or subcommand. */
struct command_entry {
    struct slice full_name;
    struct slice bytes; /* its element of the reply */
};

/* A row of our own making, with its texts behind it. */
struct command_learned {
    struct command_learned *next;
    struct command row;
    char texts[];
};

struct command_set {
    atomic_uint references;
    bool is_builtin;
    struct command_index index;
    struct command_learned *learned;

    /* Empty in the builtin set. */
    char *reply;
    size_t reply_size;
    bool reply_is_old;                 /* of a Redis before 7.0 */
    struct command_entry *entries;     /* sorted by name, without regard to case */
    size_t entry_count, command_count; /* with subcommands; without */
};

/* The row of this word in this container (NULL: of this command), or NULL. */
const struct command *command_set_lookup(const struct command_set *set, const struct command *parent,
                                         struct slice word);

/* What the node said of the command of this full name ("get", "config|get"), or NULL. */
const struct command_entry *command_set_entry(const struct command_set *set, struct slice full_name);

#endif
