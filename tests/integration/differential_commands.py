# SPDX-License-Identifier: BSD-2-Clause
"""Random commands of Redis 7.0 for differential.py: templates of their syntax, and values to fill them with.

A template has literal words and

    <kind>          a value that VALUES makes
    [ ... ]         perhaps
    ( a | b c )     one of these
    { ... }         one to four times

Every word stands between blanks. Commands whose answer no two servers share (SPOP of one of many, TIME) are either
asked in a form that has one answer or have a line in differential_exceptions.py. No template may make a key that
expires while the test runs, or wait without an end.
"""

import random

KINDS = ("string", "list", "hash", "set", "zset", "stream", "hll", "geo", "bits")
KEYS_OF_A_KIND = 4
LATER = 4102444800  # the year 2100
WORDS = (b"a", b"b", b"c", b"hello", b"Hello World", b"", b"1", b"0", b"-1", b"10", b"3.5", b"nan", b"inf", b"ohmytext",
         b"mynewtext", b"\x00\xff\r\n\x80", b"*1\r\n$4\r\nPING\r\n", b"+OK\r\n", b"{tag}", b"with \"quotes\" and 'these'",
         b"9223372036854775807", b"9223372036854775808", b"x" * 70, b"\xe2\x82\xac")  # fmt: skip
GARBAGE = (b"", b"nosuch", b"-1", b"0", b"abc", b"3.x", b"\xff\x00", b"99999999999999999999", b"NX", b"LIMIT")
PATTERNS = (b"*", b"a*", b"string:?", b"[a-c]", b"", b"news.*", b"\\*", b"*" * 20 + b"b")
CHANNELS = (b"news.one", b"news.two", b"a", b"other", b"")

STRINGS = """
SET <string> <v>
SET <string> <v> [ (NX|XX) ] [ GET ] [ (EX <sec>|PX <ms>|EXAT <at>|PXAT <atms>|KEEPTTL) ]
SET <string> <i>
GET <string>
GETDEL <string>
GETEX <string> [ (EX <sec>|PX <ms>|EXAT <at>|PXAT <atms>|PERSIST) ]
GETSET <string> <v>
MGET { <any> }
MSET { <string> <v> }
MSETNX { <string> <v> }
SETNX <string> <v>
SETEX <string> <sec> <v>
PSETEX <string> <ms> <v>
APPEND <string> <v>
STRLEN <string>
SUBSTR <string> <n> <i>
GETRANGE <string> <i> <i>
SETRANGE <string> <offset> <v>
INCR <string>
DECR <string>
INCRBY <string> <i>
DECRBY <string> <i>
INCRBYFLOAT <string> <f>
LCS <string> <string> [ LEN ] [ IDX ] [ MINMATCHLEN <n> ] [ WITHMATCHLEN ]
"""

BITS = """
SETBIT <bits> <offset> (0|1)
GETBIT <bits> <offset>
BITCOUNT <bits> [ <i> <i> [ (BYTE|BIT) ] ]
BITPOS <bits> (0|1|2) [ <i> [ <i> [ (BYTE|BIT) ] ] ]
BITOP (AND|OR|XOR) <bits> { <bits> }
BITOP NOT <bits> <bits>
BITFIELD <bits> { (GET <bitkind> <offset>|SET <bitkind> <offset> <i>|INCRBY <bitkind> <offset> <i>|OVERFLOW (WRAP|SAT|FAIL)) }
BITFIELD_RO <bits> { GET <bitkind> <offset> }
"""

HASHES = """
HSET <hash> { <field> <v> }
HMSET <hash> { <field> <v> }
HSETNX <hash> <field> <v>
HGET <hash> <field>
HMGET <hash> { <field> }
HDEL <hash> { <field> }
HEXISTS <hash> <field>
HLEN <hash>
HSTRLEN <hash> <field>
HGETALL <hash>
HKEYS <hash>
HVALS <hash>
HINCRBY <hash> <field> <i>
HINCRBYFLOAT <hash> <field> <f>
HRANDFIELD <hash> [ <n> [ WITHVALUES ] ]
"""

LISTS = """
LPUSH <list> { <v> }
RPUSH <list> { <v> }
LPUSHX <list> { <v> }
RPUSHX <list> { <v> }
LPOP <list> [ <n> ]
RPOP <list> [ <n> ]
LLEN <list>
LRANGE <list> <i> <i>
LRANGE <list> 0 -1
LINDEX <list> <i>
LSET <list> <i> <v>
LINSERT <list> (BEFORE|AFTER) <v> <v>
LREM <list> <i> <v>
LTRIM <list> <i> <i>
LPOS <list> <v> [ RANK <i> ] [ COUNT <n> ] [ MAXLEN <n> ]
RPOPLPUSH <list> <list>
LMOVE <list> <list> (LEFT|RIGHT) (LEFT|RIGHT)
LMPOP <n> { <list> } (LEFT|RIGHT) [ COUNT <n> ]
"""

SETS = """
SADD <set> { <member> }
SADD <set> { <i> }
SREM <set> { <member> }
SCARD <set>
SISMEMBER <set> <member>
SMISMEMBER <set> { <member> }
SMEMBERS <set>
SMOVE <set> <set> <member>
SRANDMEMBER <set> [ <n> ]
SINTER { <set> }
SUNION { <set> }
SDIFF { <set> }
SINTERCARD <n> { <set> } [ LIMIT <n> ]
SINTERSTORE <set> { <set> }
SUNIONSTORE <set> { <set> }
SDIFFSTORE <set> { <set> }
"""

ZSETS = """
ZADD <zset> [ (NX|XX) ] [ (GT|LT) ] [ CH ] { <f> <member> }
ZADD <zset> { <f> <member> }
ZADD <zset> [ XX ] INCR <f> <member>
ZINCRBY <zset> <f> <member>
ZREM <zset> { <member> }
ZCARD <zset>
ZSCORE <zset> <member>
ZMSCORE <zset> { <member> }
ZRANK <zset> <member>
ZREVRANK <zset> <member>
ZCOUNT <zset> <scorebound> <scorebound>
ZLEXCOUNT lex:<n> <lexbound> <lexbound>
ZRANGE <zset> <i> <i> [ REV ] [ WITHSCORES ]
ZRANGE <zset> <scorebound> <scorebound> BYSCORE [ REV ] [ LIMIT <n> <i> ] [ WITHSCORES ]
ZRANGE lex:<n> <lexbound> <lexbound> BYLEX [ REV ] [ LIMIT <n> <i> ]
ZREVRANGE <zset> <i> <i> [ WITHSCORES ]
ZRANGEBYSCORE <zset> <scorebound> <scorebound> [ WITHSCORES ] [ LIMIT <n> <i> ]
ZREVRANGEBYSCORE <zset> <scorebound> <scorebound> [ WITHSCORES ] [ LIMIT <n> <i> ]
ZRANGEBYLEX lex:<n> <lexbound> <lexbound> [ LIMIT <n> <i> ]
ZREVRANGEBYLEX lex:<n> <lexbound> <lexbound>
ZRANGESTORE <zset> <zset> <i> <i> [ REV ]
ZREMRANGEBYRANK <zset> <i> <i>
ZREMRANGEBYSCORE <zset> <scorebound> <scorebound>
ZREMRANGEBYLEX lex:<n> <lexbound> <lexbound>
ZPOPMIN <zset> [ <n> ]
ZPOPMAX <zset> [ <n> ]
ZMPOP <n> { <zset> } (MIN|MAX) [ COUNT <n> ]
ZRANDMEMBER <zset> [ <n> [ WITHSCORES ] ]
ZUNION <n> { <zset> } [ WEIGHTS <f> <f> ] [ AGGREGATE (SUM|MIN|MAX) ] [ WITHSCORES ]
ZINTER 2 <zset> <zset> [ WEIGHTS <f> <f> ] [ AGGREGATE (SUM|MIN|MAX) ] [ WITHSCORES ]
ZDIFF 2 <zset> <set> [ WITHSCORES ]
ZINTERCARD <n> { <zset> } [ LIMIT <n> ]
ZUNIONSTORE <zset> 2 <zset> <set> [ WEIGHTS <f> <f> ] [ AGGREGATE (SUM|MIN|MAX) ]
ZINTERSTORE <zset> 2 <zset> <zset>
ZDIFFSTORE <zset> 2 <zset> <zset>
"""

GEO = """
GEOADD <geo> [ (NX|XX) ] [ CH ] { <longitude> <latitude> <member> }
GEODIST <geo> <member> <member> [ (M|KM|FT|MI|PARSEC) ]
GEOHASH <geo> { <member> }
GEOPOS <geo> { <member> }
GEORADIUS <geo> <longitude> <latitude> <n> (KM|M) [ WITHCOORD ] [ WITHDIST ] [ WITHHASH ] [ COUNT <n> [ ANY ] ] [ ASC ]
GEORADIUS <geo> <longitude> <latitude> 20000 KM (STORE|STOREDIST) <geo>
GEORADIUS_RO <geo> <longitude> <latitude> 9000 KM ASC
GEORADIUSBYMEMBER <geo> <member> 9000 KM [ WITHDIST ] [ DESC ]
GEORADIUSBYMEMBER_RO <geo> <member> 9000 KM [ STORE <geo> ]
GEOSEARCH <geo> (FROMMEMBER <member>|FROMLONLAT <longitude> <latitude>) (BYRADIUS 9000 KM|BYBOX 9000 9000 KM) [ ASC ] [ COUNT <n> [ ANY ] ] [ WITHCOORD ] [ WITHDIST ]
GEOSEARCHSTORE <geo> <geo> FROMLONLAT <longitude> <latitude> BYBOX 9000 9000 KM [ STOREDIST ]
"""

HLL = """
PFADD <hll> { <v> }
PFCOUNT { <hll> }
PFMERGE <hll> { <hll> }
PFDEBUG ENCODING <hll>
"""

STREAMS = """
XADD <stream> [ NOMKSTREAM ] [ (MAXLEN|MINID) [ (=|~) ] <n> ] <id> { <field> <v> }
XADD <stream> 99-* { <field> <v> }
XLEN <stream>
XRANGE <stream> (-|<id>) (+|<id>) [ COUNT <n> ]
XREVRANGE <stream> (+|<id>) (-|<id>) [ COUNT <n> ]
XDEL <stream> { <id> }
XTRIM <stream> (MAXLEN|MINID) [ (=|~) ] <n> [ LIMIT <n> ]
XREAD [ COUNT <n> ] STREAMS <stream> <stream> <id> (<id>|$)
XGROUP CREATE <stream> <group> ($|0|<id>) [ MKSTREAM ] [ ENTRIESREAD <n> ]
XGROUP SETID <stream> <group> ($|0|<id>)
XGROUP DESTROY <stream> <group>
XGROUP CREATECONSUMER <stream> <group> <consumer>
XGROUP DELCONSUMER <stream> <group> <consumer>
XREADGROUP GROUP <group> <consumer> [ COUNT <n> ] [ NOACK ] STREAMS <stream> (>|0|<id>)
XACK <stream> <group> { <id> }
XPENDING <stream> <group>
XPENDING <stream> <group> [ IDLE 0 ] - + 10 [ <consumer> ]
XCLAIM <stream> <group> <consumer> 0 <id> <id> [ JUSTID ] [ FORCE ]
XAUTOCLAIM <stream> <group> <consumer> 0 (0|<id>) [ COUNT <n> ] [ JUSTID ]
XINFO STREAM <stream> [ FULL [ COUNT <n> ] ]
XINFO GROUPS <stream>
XINFO CONSUMERS <stream> <group>
XINFO HELP
XGROUP HELP
XSETID <stream> 99-99 [ ENTRIESADDED 5 MAXDELETEDID 0-1 ]
"""

GENERIC = """
DEL { <any> }
UNLINK { <any> }
EXISTS { <any> }
TOUCH { <any> }
TYPE <any>
RENAME <any> <any>
RENAMENX <any> <any>
COPY <any> <any> [ DB <db> ] [ REPLACE ]
MOVE <any> <db>
EXPIRE <any> (<sec>|-1) [ (NX|XX|GT|LT) ]
PEXPIRE <any> (<ms>|0) [ (NX|XX|GT|LT) ]
EXPIREAT <any> (<at>|1) [ (NX|XX|GT|LT) ]
PEXPIREAT <any> (<atms>|1)
EXPIRETIME <any>
PEXPIRETIME <any>
TTL <any>
PTTL <any>
PERSIST <any>
KEYS <pattern>

DBSIZE
RANDOMKEY
SORT (<list>|<set>|<zset>) [ LIMIT <n> <n> ] [ GET # ] [ GET string:* ] [ DESC ] [ ALPHA ]
SORT <list> ALPHA STORE <list>
SORT_RO <list> [ ALPHA ]
OBJECT ENCODING <any>
OBJECT REFCOUNT nosuchkey
OBJECT IDLETIME <any>
OBJECT FREQ <any>
OBJECT (HELP|NOSUCH)
DUMP (<string>|<list>|<bits>)
RESTORE <any> (0|<ms>) (<dump>|<v>) [ REPLACE ] [ IDLETIME 10 ]
DEBUG DIGEST-VALUE { <string> }
WAIT x 0
WAIT 0 -1
MEMORY USAGE <any>
FLUSHDB [ (SYNC|ASYNC|NOSUCH) ]
"""

SERVER = """
PING [ <v> ]
ECHO <v>
SELECT (<db>|16|-1|x|01|00|+1|1000000000|2147483648|-2147483649|9223372036854775808)
SWAPDB (<db>|x) (<db>|99)
FLUSHALL [ (SYNC|ASYNC) ]
DBSIZE
TIME
LASTSAVE
ROLE
LOLWUT VERSION 5 1 1 1
INFO [ (server|clients|replication|keyspace|everything|all|nosuch|memory cpu) ]
CONFIG GET (maxmemory|maxmemory-policy|slowlog-max-len|appendonly|databases|timeout|nosuch|hash-max-*)
CONFIG GET maxmemory save databases
CONFIG SET (slowlog-max-len (64|x)|hash-max-listpack-entries (4|128)|set-max-intset-entries (3|512)|zset-max-listpack-entries (3|128)|list-max-listpack-size (2|-2)|maxmemory-policy (noeviction|nosuch)|nosuch 1|notify-keyspace-events (KEA|Kg$|))
CONFIG SET slowlog-max-len 64 hash-max-listpack-entries x
CONFIG (RESETSTAT|HELP|NOSUCH|REWRITE now)
COMMAND
COMMAND (COUNT|LIST|INFO|DOCS|HELP|NOSUCH)
COMMAND LIST FILTERBY (ACLCAT (hash|nosuch)|PATTERN (x*|*r|nosuch)|MODULE nosuch|NOSUCH x)
COMMAND INFO { (get|SET|xgroup|nosuch|config\\|get|client|eval) }
COMMAND DOCS { (get|SET|xgroup|nosuch|config\\|get|sort) }
COMMAND (GETKEYS|GETKEYSANDFLAGS) (SET a 1|MSET a 1 b 2|EVAL x 2 k1 k2 a|ZUNIONSTORE d 2 a b|SORT a STORE b|XREAD STREAMS a b 0 0|GEORADIUS a 1 1 1 m STORE b|EVAL x 0|PING|NOSUCH a|GET|MIGRATE h 1 k 0 10|COPY a b|OBJECT ENCODING x|XGROUP CREATE s g 0|EVAL x nan k|MEMORY USAGE x|BLPOP a b 0|ZMPOP 2 a b MIN|GETEX a EX 10|SINTERCARD 1 a)
SLOWLOG (LEN|RESET|GET 0|GET -2|GET x|HELP|NOSUCH)
LATENCY (LATEST|RESET|RESET x|HISTORY x|HELP|NOSUCH)
LATENCY HISTOGRAM nosuch
MEMORY (DOCTOR|STATS|PURGE|HELP|NOSUCH|USAGE)
MODULE (LIST|HELP|NOSUCH|UNLOAD nosuch)
ACL (WHOAMI|LIST|USERS|CAT|CAT hash|CAT nosuch|HELP|NOSUCH|GETUSER default|GETUSER nosuch|LOG 0|LOG RESET|DRYRUN default GET a|GENPASS x|SETUSER x)
DEBUG (HELP|NOSUCH|OBJECT nosuchkey|SLEEP 0|STRINGMATCH-LEN 10 x|SET-ACTIVE-EXPIRE 1|LISTPACK nosuchkey)
DEBUG PROTOCOL (string|integer|double|bignum|null|array|set|map|attrib|verbatim|true|false|nosuch)
DEBUG DIGEST
MIGRATE 127.0.0.1 1 nosuchkey 0 10
MIGRATE 127.0.0.1 1 "" 0 x KEYS a
RESTORE-ASKING a 0 x
MODULE LOAD /nosuch
LATENCY DOCTOR
CLUSTER (INFO|SLOTS|NODES|KEYSLOT a|NOSUCH|HELP|MYID)
SENTINEL MASTERS
READONLY
READWRITE
ASKING
NOSUCH { <v> }
<v> <v>
"""

CONNECTION = """
AUTH <v>
AUTH (default|nobody) <v>
AUTH a b c
HELLO (1|4|x|-1|-0|10000000000|03)
HELLO <protocol>
HELLO <protocol> AUTH (default|nobody) <v>
HELLO <protocol> (NOSUCH|AUTH default|SETNAME)
CLIENT SETNAME <clientname>
CLIENT SETNAME (<v>|)
CLIENT GETNAME
CLIENT (NO-EVICT (on|off|x)|HELP|NOSUCH|ID x|GETNAME x|SETNAME)
CLIENT ID
CLIENT INFO
CLIENT GETREDIR
CLIENT TRACKINGINFO
CLIENT LIST ID 999999999
CLIENT LIST (ID x|TYPE nosuch|TYPE replica|TYPE pubsub x|NOSUCH|ID)
CLIENT KILL (ID 999999999|127.0.0.1:1|TYPE nosuch|ID x|ADDR 127.0.0.1:1|SKIPME maybe|USER nobody|LADDR 1.2.3.4:5|NOSUCH x|ID)
CLIENT UNBLOCK (999999999 [ (TIMEOUT|ERROR|NOSUCH) ]|x)
CLIENT PAUSE (x|-1|1 NOSUCH|99999999999999999999)
CLIENT UNPAUSE
CLIENT UNPAUSE x
CLIENT CACHING (YES|x)
CLIENT TRACKING (OFF|x|ON REDIRECT 999999999|ON PREFIX a|ON REDIRECT x|ON OPTIN OPTOUT)
CLIENT (CAPA redirect|MAINT_NOTIFICATIONS ON|NO-TOUCH on)
CLIENT SETINFO (LIB-NAME|LIB-VER) w
RESET
QUIT x
COMMAND COUNT
PING <v>
ECHO <v>
"""

TRANSACTION_WORDS = """
MULTI
EXEC
DISCARD
UNWATCH
WATCH { <any> }
MULTI x
EXEC x
"""

SCRIPTING = """
EVAL <script> <n> <any> <any> <v>
EVAL <script> 1 <any> <v> <i>
EVAL <script> 2 <string> <list> <v> <i>
EVAL <script> (x|-1|5) a
EVAL_RO <script> 1 <any> <v> <i>
EVALSHA <sha> 1 <any> <v> <i>
EVALSHA_RO <sha> 1 <any> <v> <i>
SCRIPT LOAD <script>
SCRIPT EXISTS { <sha> }
SCRIPT (FLUSH [ (SYNC|ASYNC|NOSUCH) ]|HELP|NOSUCH|KILL|LOAD)
FUNCTION LOAD [ REPLACE ] <library>
FUNCTION LIST [ LIBRARYNAME (lib*|nosuch) ] [ WITHCODE ]
FUNCTION (DELETE (lib1|lib2|nosuch)|FLUSH [ (SYNC|ASYNC|NOSUCH) ]|HELP|NOSUCH|STATS|KILL|DUMP x|RESTORE x)
FCALL (f1|f2|ro1|nosuch) 1 <string> <v>
FCALL_RO (f1|f2|ro1|nosuch) 1 <string> <v>
FCALL f1 (x|-1|9) a
"""

PUBSUB = """
PUBLISH <channel> <v>
SPUBLISH <channel> <v>
PUBSUB (CHANNELS [ <pattern> ]|NUMSUB { <channel> }|NUMPAT|SHARDCHANNELS|SHARDNUMSUB <channel>|HELP|NOSUCH)
"""

# Sent on a connection that has subscriptions, or is to have some.
SUBSCRIBER = """
SUBSCRIBE { <channel> }
PSUBSCRIBE { (<pattern>|__key*__:*) }
SSUBSCRIBE { <channel> }
UNSUBSCRIBE [ { <channel> } ]
PUNSUBSCRIBE [ { <pattern> } ]
SUNSUBSCRIBE [ { <channel> } ]
PING [ <v> ]
SUBSCRIBE
GET <string>
NOSUCH a
ECHO a
SELECT 1
MULTI
DISCARD
CLIENT GETNAME
RESET
"""

# Never changed at random: they would wait for ever, or what comes of them would be a matter of chance.
EXACT = """
SCAN 0 COUNT 1000000 [ MATCH <pattern> ] [ TYPE (string|list|hash|nosuch) ]
SCAN (x|0) COUNT 0
HSCAN <hash> 0 COUNT 100000 [ MATCH <pattern> ]
SSCAN <set> 0 COUNT 100000 [ MATCH <pattern> ]
ZSCAN <zset> 0 COUNT 100000
SCAN
SPOP <set> 100000
SPOP lone:set
ZADD lex:<n> { 0 <member> }
SADD lone:set lonely
EXPIRE <any> -1
HELLO <protocol> SETNAME <clientname>
SAVE
BGSAVE x
RPUSH sorted:<n> { <i> }
LTRIM sorted:<n> -9 -1
SORT sorted:<n> BY (nosort|string:*|hash:*->f1) [ LIMIT <n> <n> ] [ GET # ] [ GET string:* ] [ DESC ] [ ALPHA ]
SORT sorted:<n> BY string:* STORE <list>
BLPOP { empty:<n> } 0.01
BRPOP empty:list (-1|x|0.01|nan|99999999999999999999)
BLPOP <list> empty:list 0.01
BRPOPLPUSH (<list>|empty:list) <list> 0.01
BLMOVE (<list>|empty:list) <list> LEFT (RIGHT|UP) 0.01
BLMPOP 0.01 2 empty:list <list> (LEFT|RIGHT) [ COUNT 2 ]
BZPOPMIN <zset> empty:zset 0.01
BZPOPMAX empty:zset 0.01
BZMPOP 0.01 1 <zset> MAX
XREAD BLOCK (5|-1|x) STREAMS empty:stream (0|$)
XREADGROUP GROUP <group> <consumer> BLOCK 5 STREAMS <stream> >
"""

# What one connection waits for and what another then does; both are answered alike whoever comes first.
HANDOVERS = """
BLPOP wait:<n> 10 ; RPUSH wait:@ <v> ; wait:@
BRPOPLPUSH wait:<n> <list> 10 ; LPUSH wait:@ <v> ; wait:@
BZPOPMIN wait:<n> 10 ; ZADD wait:@ 1 <member> ; wait:@
BLMPOP 10 1 wait:<n> LEFT ; RPUSH wait:@ <v> ; wait:@
XREAD BLOCK 10000 STREAMS wait:<n> 0 ; XADD wait:@ 1-1 f <v> ; wait:@
"""

GROUPS = (
    (STRINGS, 10), (BITS, 4), (HASHES, 8), (LISTS, 8), (SETS, 8), (ZSETS, 12), (GEO, 4), (HLL, 2), (STREAMS, 10),
    (GENERIC, 8), (SERVER, 7), (CONNECTION, 4), (SCRIPTING, 7), (PUBSUB, 2), (TRANSACTION_WORDS, 1),
)  # fmt: skip
SELDOM = {"FLUSHALL": 0.1, "FLUSHDB": 0.3, "COMMAND": 0.4, "SWAPDB": 0.3, "RESET": 0.3, "INFO": 0.5, "QUIT": 0.3}

SCRIPTS = (
    b"return 1", b"return {1,2,{3,'x'},false,nil,4}", b"return redis.call('get', KEYS[1])", b"return {KEYS, ARGV}",
    b"return redis.call('set', KEYS[1], ARGV[1])", b"return redis.pcall('incr', KEYS[1])", b"return redis.call('nosuch')",
    b"return redis.call('incr', KEYS[1])", b"return redis.status_reply('FINE')", b"return redis.error_reply('MY ERR')",
    b"return {err='bare'}", b"error('thrown')", b"return nosuch", b"return 3.99", b"return {double=3.5}", b"return true",
    b"return redis.sha1hex('x')", b"return cjson.encode({1,2,'x'})", b"return cmsgpack.pack({1})", b"syntax error here",
    b"redis.call('rpush', KEYS[1], 'a', 'b') return redis.call('lrange', KEYS[1], 0, -1)", b"", b"return string.rep('x', 70000)",
    b"return redis.call('type', KEYS[1])", b"#!lua flags=no-writes\nreturn redis.call('set', KEYS[1], '1')",
    b"#!lua flags=nosuch\nreturn 1", b"#!lua\nreturn redis.call('exists', KEYS[1])", b"redis.setresp(3) return redis.call('hget', KEYS[1], 'f1')",
    b"return redis.call('select', 2)", b"return redis.call('subscribe', 'a')", b"return redis.call('blpop', 'empty:list', 0)",
    b"return {map={a=1}}", b"return redis.setresp(4)", b"return redis.REDIS_VERSION", b"return math.floor(2.5)",
)  # fmt: skip

CALLED_BY_SHA = SCRIPTS[:12]

LIBRARIES = (
    b"#!lua name=lib1\nredis.register_function('f1', function(keys, args) return redis.call('set', keys[1], args[1]) end)",
    b"#!lua name=lib1\nredis.register_function('f1', function(keys, args) return {keys[1], args[1]} end)",
    b"#!lua name=lib2\nredis.register_function('f2', function(keys, args) return redis.call('strlen', keys[1]) end)\n"
    b"redis.register_function{function_name='ro1', callback=function(k, a) return redis.call('get', k[1]) end, flags={'no-writes'}}",
    b"#!lua name=bad\nnonsense here", b"no shebang", b"#!python name=x\n1", b"#!lua name=empty\nreturn 1",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------- templates

def split_words(text):
    """The words of a template. A blank may be left out around ( | ) since literal words have none of these; in
    "config\\|get" the bar is part of the word."""
    text = text.replace("\\|", "\1")
    for mark in "(|)":
        text = text.replace(mark, f" {mark} ")
    return [word.replace("\1", "|") for word in text.split()]

def parse(words, closing=None):
    """A list of parts: a literal, ("<", kind), or ("[", parts), ("{", parts), ("(", [parts, ...])."""
    parts, choices = [], []
    while words:
        word = words.pop(0)
        if word == closing:
            return choices + [parts] if closing == ")" else parts
        if word == "|":
            choices.append(parts)
            parts = []
        elif word in ("[", "{", "("):
            parts.append((word, parse(words, {"[": "]", "{": "}", "(": ")"}[word])))
        elif word.startswith("<") and word.endswith(">"):
            parts.append(("<", word[1:-1]))
        else:
            parts.append(word)
    assert closing is None, f"no {closing}"
    return parts

class Values:
    """Fills templates; everything it makes follows from its random generator."""

    def __init__(self, chance, dumps=(), protocols=(2,)):
        self.chance = chance
        self.dumps = dumps
        self.protocols = protocols
        self.shas = []
        self.last_number = 0

    def fill(self, parts):
        words = []
        for part in parts:
            if isinstance(part, str):
                words.append(self.literal(part))
                continue
            mark, inside = part
            if mark == "<":
                words.append(getattr(self, inside)() if inside not in KINDS else self.key(inside))
            elif mark == "(":
                words += self.fill(self.chance.choice(inside)) or [b""]
            elif mark == "[":
                words += self.fill(inside) if self.chance.random() < 0.4 else []
            else:
                for _ in range(self.chance.choice((1, 1, 2, 2, 3, 4))):
                    words += self.fill(inside)
        return words

    def literal(self, word):
        if "<n>" in word:
            self.last_number = self.chance.randrange(4)
            word = word.replace("<n>", str(self.last_number))
        return word.replace("@", str(self.last_number)).encode()

    def key(self, kind):
        if self.chance.random() < 0.06:
            kind = self.chance.choice(KINDS)
        return b"%s:%d" % (kind.encode(), self.chance.randrange(KEYS_OF_A_KIND))

    def any(self):
        return self.key(self.chance.choice(KINDS))

    def v(self):
        draw = self.chance.random()
        if draw < 0.002:
            return self.chance.randbytes(64) * self.chance.randrange(320, 3200)  # 20 to 200 KB
        if draw < 0.02:
            return self.chance.randbytes(self.chance.randrange(1, 4000))
        if draw < 0.3:
            return self.i()
        return self.chance.choice(WORDS)

    def i(self):
        if self.chance.random() < 0.05:
            return self.chance.choice((b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"1.5", b"x", b"", b"007"))
        return str(self.chance.randrange(-5, 12)).encode()

    def n(self):
        return str(self.chance.choice((0, 1, 1, 2, 2, 3, 5))).encode()

    def f(self):
        if self.chance.random() < 0.05:
            return self.chance.choice((b"inf", b"-inf", b"nan", b"x", b"1e308", b"1e-5", b"", b"0x10"))
        return self.chance.choice((str(self.chance.randrange(-3, 9)), f"{self.chance.uniform(-5, 5):.3f}")).encode()

    def member(self):
        return b"m%d" % self.chance.randrange(8) if self.chance.random() < 0.9 else self.v()

    def field(self):
        return b"f%d" % self.chance.randrange(8) if self.chance.random() < 0.95 else self.v()

    def offset(self):
        draw = self.chance.random()
        if draw < 0.04:
            return self.chance.choice((b"-1", b"x", b"4294967296", b"99999999999", b"#3"))
        return str(self.chance.randrange(200)).encode()

    def bitkind(self):
        return self.chance.choice((b"u8", b"i5", b"u1", b"i64", b"u63", b"u64", b"x"))

    def scorebound(self):
        return self.chance.choice((b"-inf", b"+inf", b"(1", b"(0", self.f(), self.f()))

    def lexbound(self):
        return self.chance.choice((b"-", b"+", b"[m1", b"(m3", b"[m5", b"m2"))

    def longitude(self):
        return f"{self.chance.uniform(-181, 181):.4f}".encode()

    def latitude(self):
        return f"{self.chance.uniform(-86, 86):.4f}".encode()

    def id(self):
        return self.chance.choice((b"%d-%d" % (self.chance.randrange(1, 60), self.chance.randrange(9)),
                                   b"%d" % self.chance.randrange(1, 99), b"0", b"0-0", b"x-1"))  # fmt: skip

    def group(self):
        return b"g%d" % self.chance.randrange(2)

    def consumer(self):
        return b"c%d" % self.chance.randrange(2)

    def sec(self):
        return str(self.chance.randrange(100000, 900000)).encode()

    def ms(self):
        return str(self.chance.randrange(100000000, 900000000)).encode()

    def at(self):
        return str(LATER + self.chance.randrange(1000)).encode()

    def atms(self):
        return str(LATER * 1000 + self.chance.randrange(1000)).encode()

    def db(self):
        return str(self.chance.choice((0, 0, 1, 2))).encode()

    def pattern(self):
        return self.chance.choice(PATTERNS)

    def channel(self):
        return self.chance.choice(CHANNELS)

    def clientname(self):
        return self.chance.choice((b"worker-1", b"w", b"", b"with space", b"line\n", b"\xff"))

    def protocol(self):
        return str(self.chance.choice(self.protocols)).encode()

    def dump(self):
        return self.chance.choice(self.dumps or (b"",))

    def script(self):
        return self.chance.choice(SCRIPTS)

    def sha(self):
        return self.chance.choice(self.shas)

    def library(self):
        return self.chance.choice(LIBRARIES)

class Templates:
    """One group of commands; pick() draws a line of it, each about as often but for those of SELDOM."""

    def __init__(self, text):
        lines = [line for line in text.strip().splitlines() if line]
        self.parts = [parse(split_words(line)) for line in lines]
        self.weights = [SELDOM.get(line.split()[0], 1) for line in lines]

    def pick(self, chance):
        return chance.choices(self.parts, self.weights)[0]
