/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sample_module.c - a module for redis-server with three commands that no proxy has heard of:
 *
 *   SAMPLE.PUT key value   writes
 *   SAMPLE.HAS key         reads: 1 or 0
 *   SAMPLE.ABOUT           reads nothing that a key names
 *
 * Debian has no redismodule.h, so the few functions are declared here and looked up as the module API says: the
 * first word of the context at load is the function that finds the others
 * (https://redis.io/docs/latest/develop/reference/modules/modules-api-ref/).
 *
 * Threads: redis-server's own; the function pointers are set once, at load.
 */
#define API_VERSION 1
#define MODE_READ   1
#define MODE_WRITE  2

struct context;
struct text;
struct key;

typedef int get_api(const char *name, void **target);
typedef int command(struct context *context, struct text **words, int count);

static void (*set_attributes)(struct context *context, const char *name, int version, int api_version);
static int (*create_command)(struct context *context, const char *name, command *run, const char *flags, int first,
                             int last, int step);
static struct key *(*open_key)(struct context *context, struct text *name, int mode);
static void (*close_key)(struct key *key);
static int (*string_set)(struct key *key, struct text *value);
static int (*replicate_verbatim)(struct context *context);
static int (*reply_simple)(struct context *context, const char *text);
static int (*reply_integer)(struct context *context, long long number);
static int (*wrong_arity)(struct context *context);

static int put(struct context *context, struct text **words, int count)
{
    if (count != 3)
        return wrong_arity(context);
    struct key *key = open_key(context, words[1], MODE_READ | MODE_WRITE);
    string_set(key, words[2]);
    close_key(key);
    replicate_verbatim(context);
    return reply_simple(context, "OK");
}

static int has(struct context *context, struct text **words, int count)
{
    if (count != 2)
        return wrong_arity(context);
    struct key *key = open_key(context, words[1], MODE_READ);
    int is_there = key ? 1 : 0;
    if (key)
        close_key(key);
    return reply_integer(context, is_there);
}

static int about(struct context *context, struct text **words, int count)
{
    (void)words;
    (void)count;
    return reply_simple(context, "sample");
}

__attribute__((visibility("default"))) int RedisModule_OnLoad(struct context *context, void **words, int count);

int RedisModule_OnLoad(struct context *context, void **words, int count)
{
    (void)words;
    (void)count;
    get_api *find = *(get_api **)(void *)context;
    const struct {
        const char *name;
        void *target;
    } needed[] = {
        {"RedisModule_SetModuleAttribs", (void *)&set_attributes},
        {"RedisModule_CreateCommand", (void *)&create_command},
        {"RedisModule_OpenKey", (void *)&open_key},
        {"RedisModule_CloseKey", (void *)&close_key},
        {"RedisModule_StringSet", (void *)&string_set},
        {"RedisModule_ReplicateVerbatim", (void *)&replicate_verbatim},
        {"RedisModule_ReplyWithSimpleString", (void *)&reply_simple},
        {"RedisModule_ReplyWithLongLong", (void *)&reply_integer},
        {"RedisModule_WrongArity", (void *)&wrong_arity},
    };
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (find(needed[i].name, needed[i].target) != 0)
            return 1;
    }
    set_attributes(context, "sample", 1, API_VERSION);
    return create_command(context, "sample.put", put, "write deny-oom", 1, 1, 1) ||
           create_command(context, "sample.has", has, "readonly fast", 1, 1, 1) ||
           create_command(context, "sample.about", about, "readonly", 0, 0, 0);
}
