/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * command.h - what is this command: may it be read from a replica, where are its keys, does it need a
 * connection of its own, is it answered here?
 *
 * One table has all commands of Redis 7.0 and later with their subcommands; what it does not have can be
 * learned from a node's own COMMAND output (modules), which gives a command_set with more rows. Callers ask the
 * row, never compare names.
 *
 * Owner:   rows of the table are static; a command_set owns the rows it has learned, is immutable once made
 *          and counted (take/release), since a topology snapshot carries it from the control thread to workers.
 * Threads: immutable, so any.
 */
#ifndef ROUTING_COMMAND_H
#define ROUTING_COMMAND_H

#include "routing/merge.h"
#include "routing/slice.h"

#include <stdint.h>

/* What a command does to keys. Commands that Redis itself flags as write are writes, also where one of their
 * options would only read (SORT, GEORADIUS, BITFIELD GET, GETEX): a replica refuses them. */
enum command_access {
    COMMAND_OTHER, /* neither reads nor writes keys by name: goes to the master */
    COMMAND_READ,
    COMMAND_WRITE,
};

/* Which state of a connection of its own the command begins, ends or needs. */
enum command_pin {
    PIN_NONE,
    PIN_MULTI,
    PIN_EXEC,
    PIN_DISCARD,
    PIN_WATCH,
    PIN_UNWATCH,
    PIN_BLOCK,           /* always may block: BLPOP, WAIT */
    PIN_BLOCK_OPTION,    /* blocks only with its BLOCK option: XREAD, XREADGROUP */
    PIN_SUBSCRIBE,       /* SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE */
    PIN_UNSUBSCRIBE,     /* and their undoing */
    PIN_MONITOR,
    PIN_SYNC,            /* SYNC, PSYNC, REPLCONF: the connection is a replication link from then on */
};

/* What a blocking command waits for and where its timeout stands; see routing/blocking.h. */
enum command_block {
    BLOCK_UNKNOWN,       /* does not block, or a module's: nobody knows where its timeout is */
    BLOCK_SECONDS_LAST,  /* for data; seconds, the last word: BLPOP */
    BLOCK_SECONDS_FIRST, /* for data; seconds, behind the command word: BLMPOP */
    BLOCK_OPTION,        /* for data; milliseconds, behind BLOCK: XREAD */
    BLOCK_REPLICAS,      /* for replicas to have this client's writes; milliseconds, the last word: WAIT */
};

/* Answered by the proxy itself; proxy/local.c has one handler for each. */
enum command_local {
    LOCAL_NONE,
    LOCAL_PING,
    LOCAL_ECHO,
    LOCAL_SELECT,
    LOCAL_QUIT,
    LOCAL_RESET,
    LOCAL_AUTH,
    LOCAL_HELLO,
    LOCAL_CLIENT_ID,
    LOCAL_CLIENT_SETNAME,
    LOCAL_CLIENT_GETNAME,
    LOCAL_CLIENT_SETINFO,
    LOCAL_CLIENT_INFO,
    LOCAL_CLIENT_LIST,
    LOCAL_CLIENT_NO_EVICT,
    LOCAL_CLIENT_NO_TOUCH,
    LOCAL_CLIENT_REPLY,
    LOCAL_CLIENT_TRACKING, /* goes to the master on a connection of its own; with REDIRECT answered here */
    LOCAL_CLIENT_KILL,
    LOCAL_CLIENT_UNBLOCK,
    LOCAL_CLIENT_PAUSE,
    LOCAL_CLIENT_UNPAUSE,
    LOCAL_CLIENT_REFUSED, /* CLIENT MAINT_NOTIFICATIONS: an error says so */
    LOCAL_COMMAND,        /* COMMAND without arguments, and its COUNT, INFO, LIST, GETKEYS, GETKEYSANDFLAGS */
    LOCAL_ROLE,
    LOCAL_INFO,           /* asked of the master, with the lines that would lead a client past us rewritten */
    LOCAL_ACL_WHOAMI,     /* the client's user, not the one that the proxy is at the node */
    LOCAL_UNKNOWN,        /* what a plain Redis does not know either: SENTINEL -> ERR unknown command */
    LOCAL_SCRIPT_DEBUG,   /* refused: EVAL would run elsewhere, and for good */
    LOCAL_CLUSTER,        /* CLUSTER *: ERR This instance has cluster support disabled */
    LOCAL_PROXY,          /* PROXY PAUSE and the like: of the proxy itself, for those who look after it */
    LOCAL_HTTP,           /* POST, Host: -> a browser was made to speak to us; the connection is closed, as Redis does */
    LOCAL_COUNT,
};

/* What the proxy does besides sending it. */
enum command_special {
    SPECIAL_NONE,
    SPECIAL_SCAN,         /* its cursor is word 1, and stands at the head of the reply */
    SPECIAL_SCAN_KEY,     /* the same for word 2: SSCAN, HSCAN, ZSCAN */
    SPECIAL_EVAL,         /* word 1 is the text of a script */
    SPECIAL_EVALSHA,      /* word 1 is its SHA1 */
    SPECIAL_SCRIPT_LOAD,  /* word 2 is the text of a script */
    SPECIAL_SCRIPT_FLUSH, /* empties the node's cache of scripts */
    SPECIAL_FCALL,        /* word 1 is the name of a function */
};

/* How it reaches into another database: what a Redis Cluster, which has one, refuses. */
enum command_reach {
    REACH_NONE,
    REACH_MOVE,
    REACH_SWAPDB,
    REACH_COPY, /* only with its option DB, and another one there than 0 */
};

/* Where it goes if there are several shards and no single one has all that it is about; see routing/plan.h. */
enum command_spread {
    SPREAD_NONE,    /* to one node */
    SPREAD_KEYS,    /* can be split into commands of the same name with fewer keys; the row's keys are a range */
    SPREAD_MASTERS, /* to all masters */
    SPREAD_APART,   /* to all masters, but only if they know nothing of each other: a Redis Cluster has one database and
                       refuses SWAPDB */
    SPREAD_NODES,   /* to all masters and replicas: what a node keeps for itself, as CONFIG SET */
};

enum command_flag {
    COMMAND_MASTER_ONLY = 1 << 0,     /* a read that only the master may answer: SCAN, OBJECT, KEYS ... */
    COMMAND_WITHOUT_AUTH = 1 << 1,    /* allowed before AUTH: AUTH, HELLO, QUIT, RESET */
    COMMAND_WHILE_SUBSCRIBED = 1 << 2,/* allowed in a RESP2 connection with subscriptions */
    COMMAND_IN_MULTI = 1 << 3,        /* runs at once inside MULTI instead of being queued: EXEC, DISCARD, WATCH, MULTI, QUIT, RESET */
    COMMAND_ADMIN = 1 << 4,           /* Redis' own admin flag */
    COMMAND_UNKEYED_WRITE = 1 << 5,   /* writes keys that its arguments do not name: FLUSHALL, SWAPDB; where the
                                         row has a key finder (EVAL, FCALL), only if that finds none */
    COMMAND_SLOW = 1 << 6,            /* O(N) over the keyspace or scripts: KEYS, FLUSHALL, EVAL, SORT; see routing/lane.h */
    COMMAND_CONTAINER = 1 << 7,       /* has subcommands; the row of the word alone */
    COMMAND_LEARNED = 1 << 8,         /* not in our table; read off a node's COMMAND output */
    COMMAND_STATEFUL = 1 << 9,        /* changes the state of the connection it travels on and must never share one */
    COMMAND_NO_TIMEOUT = 1 << 10,     /* request_timeout does not hold: it may rightly take long (MIGRATE, SAVE, DEBUG) */
    COMMAND_SLOT_ONLY = 1 << 11,      /* its keys name a slot but are none to Redis: SPUBLISH, DEBUG OBJECT */
    COMMAND_UNLISTED = 1 << 12,       /* a row of ours that no Redis lists in COMMAND: SENTINEL */
    COMMAND_WHILE_BUSY = 1 << 13,     /* works while a script runs (SCRIPT KILL): must not queue behind one */
    COMMAND_DANGEROUS = 1 << 14,      /* would take the node away from all others, or a replica's place: refused unless
                                         allowed; for DEBUG with some words only, see command_danger() */
    COMMAND_MAY_REPLICATE = 1 << 15,  /* no write to Redis, but replicas may hear of it: EVAL, PUBLISH, PFCOUNT */
    COMMAND_NOT_IN_MULTI = 1 << 16,   /* of the proxy or its client's connection, not of what a node does at EXEC */
};

/* How keys are found. Positions count the command word as 0; negative ones count from the end (-1 is last). */
enum key_finder {
    KEYS_NONE,
    KEYS_RANGE,    /* first .. last, every step-th: MSET is 1, -1, 2 */
    KEYS_COUNTED,  /* the number of keys stands at `count_at`, at least `least`; keys follow it, every step-th; a
                      key at `first` before it if > 0 (ZUNIONSTORE: first 1, count_at 2) */
    KEYS_STREAMS,  /* XREAD, XREADGROUP: the first half of what follows STREAMS */
    KEYS_SORT,     /* 1, and the one behind STORE */
    KEYS_GEORADIUS,/* 1, and those behind STORE and STOREDIST */
    KEYS_MIGRATE,  /* 3, or all behind KEYS when 3 is empty */
    KEYS_DEBUG,    /* 2, behind the words that look at one key: DEBUG OBJECT key */
};

struct command_keys {
    enum key_finder finder;
    int16_t first, last, step;
    int16_t count_at;
    int16_t least;       /* COUNTED: 0 if it does without keys (EVAL), else 1 */
    int16_t search_from; /* STREAMS, SORT, GEORADIUS, MIGRATE: where options begin */
    bool has_patterns;   /* of BY and GET, which stand for more keys: command_sort_pattern() */
};

struct command {
    const char *name;  /* upper case; a subcommand carries its own word only ("SETNAME") */
    const char *full_name; /* lower case as Redis prints it: "get", "client|setname" */
    int16_t arity;     /* as in Redis: the words counted, negative = at least */
    uint8_t access;    /* enum command_access */
    uint8_t pin;       /* enum command_pin */
    uint8_t local;     /* enum command_local */
    uint8_t block;     /* enum command_block */
    uint8_t special;   /* enum command_special */
    uint8_t spread;    /* enum command_spread */
    uint8_t merge;     /* enum merge_policy: how the replies of several nodes become one */
    uint8_t reach;     /* enum command_reach */
    uint16_t subcommand_count;
    uint32_t flags;    /* enum command_flag */
    struct command_keys keys;
    const char *redis_flags; /* flags as COMMAND prints them, space-separated: "readonly fast" */
    const char *categories;  /* ACL categories as COMMAND prints them: "@read @string @fast" */
    const struct command *subcommands; /* NULL, or rows; only in a container's row */
};

struct command_set;

/* The table that is compiled in, as a set that need not be released. */
struct command_set *command_set_builtin(void);

/*
 * Makes a set of the table and of what a node's reply to COMMAND has beyond it. reply is one complete RESP2
 * reply; it is copied. Returns NULL if it is not the reply of COMMAND or memory is short. The caller holds one
 * reference.
 */
struct command_set *command_set_create(struct slice reply);
struct command_set *command_set_take(struct command_set *set);
void command_set_release(struct command_set *set);

/* The row of a command (or, where its second word names one, of a subcommand); NULL if nobody knows it.
 * arguments[0] is the command word; count is at least 1. Costs about ten nanoseconds. */
const struct command *command_find(const struct command_set *set, const struct slice *arguments, size_t count);

/* What was found last of each, for one set: commands mostly come again, spelt as before. All zero is a good beginning, and to be
 * gone back to when the set is another. */
enum { COMMAND_MEMO_BITS = 4, COMMAND_MEMO_MOST_BYTES = 8 };
struct command_memo {
    struct {
        uint64_t text; /* the word as it came */
        size_t size;
        const struct command *row; /* NULL: nothing yet */
    } places[1 << COMMAND_MEMO_BITS];
};

/* The same as command_find(), sooner where a word of up to COMMAND_MEMO_MOST_BYTES comes again. */
const struct command *command_recall(struct command_memo *memo, const struct command_set *set,
                                     const struct slice *arguments, size_t count);

/* True if a command with `count` words satisfies the row's arity. */
static inline bool command_arity_is_right(const struct command *command, size_t count)
{
    return command->arity >= 0 ? count == (size_t)command->arity : count >= (size_t)-command->arity;
}

/* True if CLIENT PAUSE in mode WRITE keeps it waiting: a write, or what may reach replicas. Takes its time. */
bool command_may_change(const struct command *command);

/* True if Redis calls it a write, which a replica refuses. Takes its time. */
bool command_is_write(const struct command *command);

/* True if nothing about it is special: it is sent to a node over a shared connection, and its reply is what it is. */
static inline bool command_is_plain(const struct command *command)
{
    return !(command->pin | command->local | command->special | command->reach) &&
           !(command->flags & (COMMAND_STATEFUL | COMMAND_WHILE_BUSY | COMMAND_NO_TIMEOUT | COMMAND_DANGEROUS |
                               COMMAND_NOT_IN_MULTI | COMMAND_SLOW));
}

/* Where its key stands, for one that has a single key, always in the same place; else 0. */
static inline uint32_t command_only_key(const struct command *command)
{
    const struct command_keys *keys = &command->keys;
    return keys->finder == KEYS_RANGE && keys->first > 0 && keys->last == keys->first ? (uint32_t)keys->first : 0;
}

/* True if these arguments make it block (PIN_BLOCK, or PIN_BLOCK_OPTION with the option given). */
bool command_is_blocking(const struct command *command, const struct slice *arguments, size_t count);

/* True if these arguments make it reach into another database than 0. Options that are wrong are the node's to refuse. */
bool command_reaches(const struct command *command, const struct slice *arguments, size_t count);

/* Where the milliseconds of the last BLOCK option stand (may be behind the end); 0 if there is none. */
uint32_t command_block_position(const struct command *command, const struct slice *arguments, size_t count);

/*
 * What may be let through by name although it would end the node or change its role. The place of a name in
 * command_dangers, which NULL ends, stands for it; there are at most 63.
 */
extern const char *const command_dangers[];
enum { DANGER_NONE = -1 };

/* The place of what these arguments ask for, or DANGER_NONE. Always DANGER_NONE where the row lacks
 * COMMAND_DANGEROUS. */
int command_danger(const struct command *command, const struct slice *arguments, size_t count);

/* True if, once it is carried out, the node is gone and no reply comes: SHUTDOWN, DEBUG SEGFAULT. */
bool command_danger_ends_node(int danger);

/*
 * Positions of the keys among the arguments. Writes up to `room` of them and returns how many there are (may be
 * more than room), 0 if there are none, -1 if the arguments do not make sense (numkeys not a number, too few).
 */
int command_keys(const struct command *command, const struct slice *arguments, size_t count, uint32_t *positions,
                 size_t room);

/* SORT: the position of the first pattern of BY or GET from there on that stands for keys, so has a star; 0 if there is none
 * (https://redis.io/docs/latest/commands/sort/). */
size_t command_sort_pattern(const struct slice *arguments, size_t count, size_t from);

/*
 * Redis' answers to COMMAND, COMMAND COUNT|INFO|LIST|GETKEYS as RESP2, built from the set: the node's own
 * words where there was a node, ours else. arguments are the client's whole command. Returns malloc()ed bytes
 * and their number in *size, or NULL if memory is short. Errors (wrong arity, "ERR Invalid command specified",
 * "ERR The command has no key arguments") are replies too. COMMAND DOCS and LIST FILTERBY are not answered
 * here: *size is 0 and the result NULL with *forward true, meaning "ask a node".
 */
char *command_describe(const struct command_set *set, const struct slice *arguments, size_t count, size_t *size,
                       bool *forward);

#endif
