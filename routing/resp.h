/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * resp.h - where does a command or a reply end, and where are its arguments?
 *
 * Frames the Redis protocol in place (https://redis.io/docs/latest/develop/reference/protocol-spec/):
 * commands of clients (RESP arrays of bulk strings, and inline commands) and replies of nodes (RESP2 and
 * RESP3). Nothing is copied, nothing is allocated but the argument list, which is reused. Both scanners can
 * stop at any byte and go on when more bytes have come.
 *
 * Owner:   the state lies in the client or the connection it belongs to; all zero means "between two".
 * Threads: one worker only, no locks.
 */
#ifndef ROUTING_RESP_H
#define ROUTING_RESP_H

#include "routing/slice.h"

#include <stdint.h>

enum resp_status {
    RESP_MORE, /* all given bytes were good, the end is not among them */
    RESP_DONE, /* one command or reply is complete */
    RESP_BAD,  /* not the Redis protocol, or beyond a limit; the connection must be closed */
};

/* ---- commands ---- */

/* What one client may send. Redis' own defaults: proto-max-bulk-len 512 MiB, 1,048,576 arguments (INT_MAX
 * since 7.0), inline commands of 64 KiB, client-query-buffer-limit 1 GiB. */
struct resp_limits {
    int64_t max_arguments;
    int64_t max_bulk_bytes;
    size_t max_command_bytes; /* the whole command, headers included; must be below 4 GiB */
    bool is_unauthenticated;  /* as Redis before AUTH: no more than 10 arguments, none above 16 KiB */
};

/* The arguments of one command. Owned by the worker and reused; items grow as needed and never shrink. */
struct resp_arguments {
    struct slice *items;
    size_t count;
    size_t capacity;
    bool is_canonical;    /* the command's bytes may go to a node as they are. False for inline commands and for
                             arrays with line ends that only Redis overlooks: send resp_encode() then, so that no
                             node can see other commands in them than we do */
    char *text;           /* what quoted words of an inline command say */
    size_t text_capacity;
    char error[48];       /* an error that names the offending byte */
};

/* Progress within one command; see resp_command_scan(). All zero before its first byte. */
struct resp_command {
    size_t scanned;     /* bytes that need not be looked at again: here begins a header line or an argument */
    size_t searched;    /* bytes of the header line that were searched for its end */
    size_t wanted;      /* what resp_command_wanted() tells */
    int64_t total;      /* arguments announced; 0 while the first line is not complete */
    int64_t seen;       /* arguments complete so far */
    int64_t bulk_bytes; /* size of the argument being read when has_bulk */
    bool has_bulk;
    bool has_nul;       /* the header line has a NUL byte, behind which Redis sees no line end */
};

/*
 * Looks for the end of one command in bytes[0 .. size), which starts at the command's first byte.
 *
 * RESP_DONE: *used is the command's length in bytes and arguments lists its arguments, pointing into bytes
 *            (or, for an inline command with quotes or escapes, into storage owned by arguments: valid until
 *            the next call with the same arguments). An empty line, "*0" and "*-1" give zero arguments and
 *            are to be skipped. state is reset to zero.
 * RESP_MORE: call again with the same command's bytes from its start, and more of them; they may have moved
 *            meanwhile. resp_command_wanted() tells how many bytes are needed at least.
 * RESP_BAD:  *error is Redis' own wording without the "-ERR " ("Protocol error: invalid bulk length") or,
 *            beyond max_command_bytes, one in the same manner.
 * Memory exhausted while growing arguments counts as RESP_BAD too.
 */
enum resp_status resp_command_scan(struct resp_command *state, const struct resp_limits *limits, const char *bytes,
                                   size_t size, struct resp_arguments *arguments, size_t *used, const char **error);

/* The least number of bytes, counted from the command's first, that the command can have; at least 1, and after
 * RESP_MORE more than were given. For an argument that is being read this is its end, as announced by the client:
 * within the limits, but not yet backed by bytes. */
size_t resp_command_wanted(const struct resp_command *state);

/* True if the command was sent inline (its bytes are not what a node must be sent). */
static inline bool resp_is_inline(const char *bytes) { return bytes[0] != '*'; }

/* Frees what arguments hold; the struct may be used again. */
void resp_arguments_finish(struct resp_arguments *arguments);

/* Bytes that the command with these arguments takes as a RESP array, and the encoding itself; out must have
 * room for that many. Returns the bytes written. */
size_t resp_encoded_size(const struct slice *items, size_t count);
size_t resp_encode(char *out, const struct slice *items, size_t count);

/* ---- replies ---- */

/* Progress within one reply. Nesting costs nothing: only the number of elements still owed is counted. */
struct resp_reply {
    uint64_t owed;       /* elements still to come, this one included; 0 between two replies */
    uint64_t bulk_bytes; /* payload bytes (with CR LF) still to be passed over */
    int64_t number;      /* the length being read, digit by digit */
    uint8_t step;        /* what the next byte is; private to resp.c */
    char type;           /* first byte of the top-level reply: '+', '-', ':', '$', '*', '>', ...; of the reply
                            itself as soon as it is there, where an attribute stands before it */
    char element;        /* first byte of the element being read */
    bool is_negative;
    bool has_digits;
};

/*
 * Consumes bytes of one reply. RESP_DONE: *used tells where the reply ends (and the state is reset but for
 * type, so that the caller can still ask what it was). RESP_MORE: all size bytes were consumed; the next call
 * gets the bytes that follow. RESP_BAD: not a reply, or a length beyond any that Redis can send.
 * An attribute ('|') counts as part of the reply that follows it; a push ('>') is a reply of its own. Redis before
 * 7.2 puts the push of a client's own PUBLISH into the midst of EXEC's array: there it counts as no element.
 */
enum resp_status resp_reply_scan(struct resp_reply *state, const char *bytes, size_t size, size_t *used);

/* True between two replies. */
static inline bool resp_reply_is_idle(const struct resp_reply *state) { return state->owed == 0; }

/* ---- values: reading one complete reply ---- */

/* One element of a complete reply, found without building a tree. */
struct resp_value {
    char type;
    bool is_null;
    int64_t integer;     /* ':' and '#' (0/1): the value; aggregates: the number of elements (pairs count twice) */
    struct slice text;   /* '+', '-', '$', '=', '!', ',', '(' : the payload ('=' without its format prefix) */
};

/* Reads the element at *position of a reply that resp_reply_scan() has found complete, and moves *position
 * behind its header (aggregates) or behind it (all else). False at the end or if the bytes are not good. */
bool resp_value_next(struct slice reply, size_t *position, struct resp_value *value);

/* Moves *position behind the whole element that starts there, children included. */
bool resp_value_skip(struct slice reply, size_t *position);

#endif
