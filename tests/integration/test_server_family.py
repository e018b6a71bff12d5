# SPDX-License-Identifier: BSD-2-Clause
"""Commands about the server are answered through pointsman as a plain redis-server answers them.

A plain server and pointsman get the same commands, one client each, and every reply is compared byte for byte, but
for the exceptions that are named here: what comes in the order of a random hash, and what counts, measures or
names the server itself. Pointsman stands once in front of a server alone and once of a master with replicas.
"""

import re
import shlex

import pytest

from harness import Pointsman, Replication, Server, encode, talk, wait_for

# The same elements in another order: Redis goes through tables hashed with a random seed.
ANY_ORDER = re.compile(
    r"CONFIG GET .*[* ]|ACL CAT|COMMAND$|COMMAND (INFO$|LIST|DOCS)|LATENCY HISTOGRAM|DEBUG DIGEST-VALUE", re.I
)
# Times, counters, addresses in memory, chance: the kind of reply is the same, and an error is an error.
OF_ITS_OWN = re.compile(
    r"TIME|LASTSAVE|INFO( |$)|MEMORY (STATS|MALLOC-STATS)|SLOWLOG (GET|LEN)|DEBUG (OBJECT|HTSTATS|LISTPACK|QUICKLIST|"
    r"STRUCTSIZE|JMAP|CLIENT)|LOLWUT|ACL GENPASS|OBJECT IDLETIME|LATENCY (DOCTOR|HISTOGRAM)|ACL LOG|COMMAND DOCS$|"
    r"MEMORY DOCTOR",
    re.I,
)

KEYS = ["SET fam:k v", "SET fam:n 12", "RPUSH fam:list a b c", "SADD fam:set 1 2 3", "ZADD fam:z 1 a", "HSET fam:h f v",
        "XADD fam:s 1-1 f v", "PFADD fam:hll a"]  # fmt: skip

FAMILY = {
    "config": [
        "CONFIG GET maxmemory", "CONFIG GET maxmemory save", "CONFIG GET max*", "CONFIG GET nosuch",
        "CONFIG GET MAXMEMORY", "CONFIG GET timeout", "CONFIG GET *max-*-entries* timeout", "CONFIG SET nosuch 1",
        "CONFIG SET maxmemory abc", "CONFIG SET maxmemory 0 maxmemory 0", "CONFIG SET maxmemory 1gb",
        "CONFIG GET maxmemory", "CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy nosuch",
        "CONFIG SET hz 20 slowlog-max-len 64", "CONFIG GET hz slowlog-max-len", "CONFIG SET hz 10 nosuch 1",
        "CONFIG SET port abc", "CONFIG SET daemonize yes", "CONFIG SET maxmemory 1 hz", "CONFIG RESETSTAT",
        "CONFIG REWRITE", "CONFIG HELP",
    ],
    "slowlog": [
        "SLOWLOG RESET", "SLOWLOG LEN", "SLOWLOG GET 0", "SLOWLOG GET -2", "SLOWLOG GET x", "SLOWLOG GET -1",
        "SLOWLOG GET 1 2", "SLOWLOG HELP", "SLOWLOG NOSUCH x",
    ],
    "latency": [
        "LATENCY LATEST", "LATENCY HISTORY command", "LATENCY HISTORY nosuch", "LATENCY GRAPH nosuch",
        "LATENCY RESET", "LATENCY RESET a b", "LATENCY DOCTOR", "LATENCY HISTOGRAM nosuch", "LATENCY HISTOGRAM set",
        "LATENCY HELP",
    ],
    "memory": KEYS + [
        "MEMORY USAGE fam:k", "MEMORY USAGE fam:list SAMPLES 0", "MEMORY USAGE fam:k SAMPLES", "MEMORY USAGE fam:none",
        "MEMORY USAGE fam:k SAMPLES -1", "MEMORY USAGE fam:k NOSUCH 1", "MEMORY USAGE fam:k SAMPLES x",
        "MEMORY PURGE", "MEMORY STATS", "MEMORY MALLOC-STATS", "MEMORY DOCTOR", "MEMORY HELP",
    ],
    "object": KEYS + [f"OBJECT ENCODING fam:{key}" for key in "k n list set z h s hll none".split()] + [
        "OBJECT FREQ fam:k", "OBJECT IDLETIME fam:k", "OBJECT IDLETIME fam:none", "OBJECT REFCOUNT fam:k",
        "OBJECT REFCOUNT fam:none", "OBJECT HELP", "OBJECT NOSUCH fam:k",
    ],
    "debug": KEYS + [
        "DEBUG SLEEP 0", "DEBUG SLEEP", "DEBUG JMAP", "DEBUG OBJECT fam:k", "DEBUG OBJECT fam:none",
        "DEBUG SDSLEN fam:k", "DEBUG SDSLEN fam:list", "DEBUG DIGEST-VALUE fam:k", "DEBUG SET-ACTIVE-EXPIRE 1",
        "DEBUG QUICKLIST-PACKED-THRESHOLD 0", "DEBUG STRINGMATCH-LEN 10 a*", "DEBUG ERROR MINE", "DEBUG ERROR x\ny",
        "DEBUG LOG hello", "DEBUG PAUSE-CRON 0", "DEBUG REPLYBUFFER RESIZING 1", "DEBUG HTSTATS 0",
        "DEBUG LISTPACK fam:h", "DEBUG QUICKLIST fam:list", "DEBUG STRUCTSIZE", "DEBUG NOSUCH", "DEBUG HELP",
        *(f"DEBUG PROTOCOL {kind}" for kind in "string integer double bignum null array set map attrib verbatim true "
          "false nosuch".split()),
    ],
    "module": [
        "MODULE LIST", "MODULE LOAD /nosuch/module.so", "MODULE LOADEX /nosuch", "MODULE LOADEX /nosuch CONFIG a",
        "MODULE UNLOAD nosuch", "MODULE HELP",
    ],
    "acl": [
        "ACL WHOAMI", "ACL CAT", "ACL CAT read", "ACL CAT nosuch", "ACL LIST", "ACL USERS", "ACL GETUSER default",
        "ACL GETUSER nosuch", "ACL LOG RESET", "ACL LOG", "ACL LOG x", "ACL LOG 1 2", "ACL GENPASS", "ACL GENPASS 32",
        "ACL GENPASS x", "ACL GENPASS -1", "ACL DRYRUN default GET k", "ACL DRYRUN nosuch GET k",
        "ACL DRYRUN default NOSUCH k", "ACL DRYRUN default GET", "ACL SETUSER fam on >p ~a* &c +@read -get",
        "ACL GETUSER fam", "ACL DRYRUN fam SET a b", "ACL DRYRUN fam GET a", "ACL DRYRUN fam HGET b f", "ACL LIST",
        "ACL USERS", "ACL SETUSER fam NOSUCH", "ACL DELUSER fam nosuch", "ACL DELUSER default", "ACL LOAD", "ACL SAVE",
        "ACL HELP",
    ],
    "databases": [
        "FLUSHALL", "SET fam:a 1", "DBSIZE", "SELECT 1", "DBSIZE", "SET fam:b 1", "SET fam:c 1", "DBSIZE",
        "SWAPDB 0 1", "DBSIZE", "KEYS *", "SELECT 0", "DBSIZE", "SWAPDB 0 0", "SWAPDB 0 99", "SWAPDB a 1",
        "SWAPDB 0 b", "SWAPDB 0 -1", "FLUSHDB SYNC", "FLUSHDB ASYNC", "FLUSHDB NOSUCH", "FLUSHDB SYNC x", "DBSIZE",
        "SELECT 1", "DBSIZE", "FLUSHALL NOSUCH", "FLUSHALL SYNC x", "FLUSHALL ASYNC", "DBSIZE",
    ],
    "command": [
        "COMMAND", "COMMAND COUNT", "COMMAND HELP", "COMMAND INFO", "COMMAND INFO get nosuch config|get config|nosuch",
        "COMMAND INFO CONFIG|GET", "COMMAND INFO acl|whoami debug", "COMMAND LIST", "COMMAND LIST FILTERBY",
        "COMMAND LIST FILTERBY ACLCAT read", "COMMAND LIST FILTERBY ACLCAT nosuch",
        "COMMAND LIST FILTERBY PATTERN xr*", "COMMAND LIST FILTERBY MODULE nosuch",
        "COMMAND LIST FILTERBY NOSUCH a", "COMMAND LIST x", "COMMAND DOCS", "COMMAND DOCS get nosuch",
        "COMMAND DOCS config|get", "COMMAND DOCS CONFIG", "COMMAND NOSUCH",
        *(f"COMMAND GETKEYS {words}" for words in [
            "GET", "GET a", "GET a b", "MSET a b c", "nosuch", "PING x", "CONFIG GET x", "CONFIG", "CONFIG NOSUCH",
            "OBJECT ENCODING k", "XGROUP CREATE a b c", "XREAD STREAMS a b", "SORT abc STORE x", "EVAL x 0",
            "EVAL x 1", "EVAL x a b", "MEMORY USAGE k", "ZUNION 2 a", "GEORADIUS k 1 2 3 m STORE x",
            'MIGRATE h p "" 0 10 KEYS a b', "FCALL f 1 k", "SPUBLISH a b", "DEBUG OBJECT k", "LMPOP 1 a LEFT",
            "BLMPOP 0 1 a LEFT", "SINTERCARD 1 a", "WATCH a b", "SUBSCRIBE a", "ACL WHOAMI", "SHUTDOWN",
        ]),
        *(f"COMMAND GETKEYSANDFLAGS {words}" for words in [
            "GET", "GET a", "MSET a 1 b 2", "nosuch a", "PING", "LMOVE a b LEFT LEFT", "SORT a STORE b", "EVAL x 1 k",
        ]),
    ],
    "lolwut": [
        "LOLWUT", "LOLWUT VERSION", "LOLWUT VERSION 5", "LOLWUT VERSION 6", "LOLWUT VERSION 1", "LOLWUT VERSION x",
        "LOLWUT VERSION 5 1 1 1", "LOLWUT x",
    ],
    "time": ["TIME", "LASTSAVE"],
    "cluster": [
        "CLUSTER INFO", "CLUSTER SLOTS", "CLUSTER MYID", "CLUSTER NOSUCH", "CLUSTER nosuch a b", "CLUSTER HELP",
        "CLUSTER MEET 127.0.0.1 1", "CLUSTER FAILOVER", "CLUSTER RESET", "CLUSTER KEYSLOT k", "READONLY",
        "READWRITE", "ASKING", "CLUSTER " + "n" * 300,
    ],
    "info": [
        "INFO", "INFO all", "INFO everything", "INFO default", "INFO server", "INFO SERVER keyspace", "INFO nosuch",
        "INFO modules", "INFO errorstats",
    ],
    "help": [f"{name} HELP" for name in "PUBSUB SCRIPT FUNCTION XINFO XGROUP CLIENT".split()],
    "pubsub": ["PUBSUB CHANNELS", "PUBSUB NUMSUB a", "PUBSUB NUMPAT", "PUBSUB SHARDNUMSUB a", "PUBSUB NOSUCH"],
    "unknown": [
        "NOSUCH", "NOSUCH a b", "nosuch " + "x" * 200, "NOSUCH " + " ".join(["word"] * 60), "n" * 200,
        "SENTINEL MASTERS", "SENTINEL " + " ".join(["word"] * 60), "'no such' 'a b'",
    ],
    "select": [["SELECT", word] for word in [
        "0", "15", "16", "-1", "-0", "00", "01", "+1", " 1", "1 ", "1.0", "0x1", "x", "", "-", "--1", "-01", "1000000000",
        "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967296", "9223372036854775807",
        "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "1" * 40, "1\0",
    ]],
    "save": ["SAVE", "LASTSAVE"],
    "inside_multi": [
        "MULTI", "CONFIG GET maxmemory", "DBSIZE", "ACL WHOAMI", "SWAPDB 2 3", "COMMAND COUNT", "CLUSTER INFO",
        "DEBUG SLEEP 0", "LATENCY LATEST", "EXEC", "MULTI", "CONFIG GET", "EXEC", "MULTI", "CLUSTER NOSUCH", "EXEC",
        "MULTI", "SAVE", "EXEC", "MULTI", "MONITOR", "RESET", "PING",
    ],
}  # fmt: skip


class Ends:
    def __init__(self, plain, pointsman, cluster):
        self.plain, self.pointsman, self.cluster = plain, pointsman, cluster


@pytest.fixture(scope="module", params=["alone", "with_replicas"])
def ends(request):
    """A fresh plain server, and a pointsman in front of as fresh a master."""
    plain = Server("plain").start().ready()
    cluster = Replication(replicas=2 if request.param == "with_replicas" else 0, sentinels=0).start()
    pointsman = Pointsman(cluster).start()
    for node in (plain, cluster.servers[0]):
        with node.client() as client:
            client.flushall()
            wait_for(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], what="no BGSAVE to be running")
    yield Ends(plain, pointsman, cluster)
    pointsman.stop()
    cluster.stop()
    plain.kill()


def parsed(reply):
    return Parser(reply).value()


class Parser:
    """A reply as nested tuples, for comparing without order."""

    def __init__(self, data):
        self.lines = data
        self.at = 0

    def value(self):
        end = self.lines.index(b"\r\n", self.at)
        line, self.at = self.lines[self.at : end], end + 2
        if line[:1] == b"$" and line != b"$-1":
            self.at += int(line[1:]) + 2
            return self.lines[end + 2 : self.at - 2]
        if line[:1] == b"*" and line != b"*-1":
            return tuple(self.value() for _ in range(int(line[1:])))
        return line


def unordered(value, has_pairs=False):
    if not isinstance(value, tuple):
        return value
    values = [unordered(each, has_pairs) for each in value]
    if has_pairs and len(values) % 2 == 0:  # name, value, name, value
        values = list(zip(values[::2], values[1::2]))
    return tuple(sorted(values, key=repr))


def is_same(line, plain, through):
    if plain == through:
        return True
    if plain[:1] == b"-" or through[:1] == b"-":
        return False
    if ANY_ORDER.match(line):
        has_pairs = line.upper().startswith(("CONFIG", "LATENCY"))
        if unordered(parsed(plain), has_pairs) == unordered(parsed(through), has_pairs):
            return True
    return bool(OF_ITS_OWN.match(line)) and plain[:1] == through[:1]


def assert_all_same(ends, lines):
    different = []
    with ends.plain.raw(timeout=30) as plain, ends.pointsman.raw(timeout=30) as through:
        for line in lines:
            words = line if isinstance(line, list) else shlex.split(line)
            expected, got = plain.command(*words).read_bytes(), through.command(*words).read_bytes()
            text = " ".join(words)
            if not is_same(text, expected, got):
                different.append((text[:100], expected[:200], got[:200]))
    assert not different


@pytest.mark.parametrize("lines", list(FAMILY.values()), ids=list(FAMILY))
def test_replies_are_those_of_a_plain_server(ends, lines):
    assert_all_same(ends, lines)


def rows_of(server):
    with server.raw() as link:
        for row in link.ask("COMMAND"):
            yield row[0].decode(), row[1], False
            for subcommand in row[9]:
                yield subcommand[0].decode(), subcommand[1], True


def test_wrong_arity_of_every_command_and_subcommand_has_the_words_of_redis(ends):
    lines = []
    for name, arity, is_subcommand in rows_of(ends.plain):
        words = name.split("|")
        least = abs(arity)
        if least > len(words):
            lines.append(words + ["x"] * (least - 1 - len(words)))
        if arity > 0:
            lines.append(words + ["x"] * (arity + 1 - len(words)))
        if is_subcommand:
            lines.append([words[0]])
            lines.append([words[0], "NOSUCH", "x"])
    lines = [line for line in lines if line[0] != "client"]  # those have tests of their own
    assert len(lines) > 400
    assert_all_same(ends, lines)


def test_saving_in_the_background_is_answered_and_done(ends):
    with ends.plain.raw() as plain, ends.pointsman.raw() as through:
        for line in ("BGSAVE x", "BGSAVE SCHEDULE x", "BGREWRITEAOF x"):
            assert through.command(*line.split()).read_bytes() == plain.command(*line.split()).read_bytes()
        for line in ("BGSAVE", "BGSAVE SCHEDULE", "BGREWRITEAOF"):
            for link in (plain, through):
                is_quiet = lambda: b"in_progress:1" not in link.ask("INFO", "persistence")
                wait_for(is_quiet, what="no child of the server to be running")
            assert through.command(*line.split()).read_bytes() == plain.command(*line.split()).read_bytes()


def test_what_is_set_is_set_on_the_master(ends):
    with ends.pointsman.raw() as link, ends.cluster.servers[0].raw() as master:
        link.ask("CONFIG", "SET", "lua-time-limit", 4321)
        assert master.ask("CONFIG", "GET", "lua-time-limit") == [b"lua-time-limit", b"4321"]
        link.ask("CONFIG", "SET", "lua-time-limit", 5000)


# ---- INFO ----


def fields_of(info):
    return [line.split(b":")[0] for line in info.split(b"\r\n") if line]


@pytest.mark.parametrize(
    "sections",
    [[], ["all"], ["everything"], ["default"], ["server"], ["REPLICATION", "clients"], ["nosuch"], ["nosuch", "stats"],
     ["modules"], ["cluster"], ["keyspace"], ["cpu", "cpu"]],
    ids=" ".join,
)  # fmt: skip
def test_info_has_the_sections_and_fields_of_a_plain_server(ends, sections):
    counted = re.compile(rb"(cmdstat|errorstat|latency_percentiles_usec)_|db\d+$")
    with ends.plain.raw() as plain, ends.pointsman.raw() as through:
        expected, got = fields_of(plain.ask("INFO", *sections)), fields_of(through.ask("INFO", *sections))
    assert [f for f in got if not counted.match(f)] == [f for f in expected if not counted.match(f)]


def test_info_and_role_name_no_replica(ends):
    with ends.pointsman.raw() as link:
        for sections in ([], ["everything"], ["replication"]):
            info = link.ask("INFO", *sections)
            assert b"\r\nrole:master\r\n" in info
            assert b"\r\nconnected_slaves:%d\r\n" % (len(ends.cluster.servers) - 1) in info  # what WAIT can count on
            assert not re.search(rb"^(slave\d+|master_host|master_port):", info, re.M)
        assert link.ask("ROLE")[2] == []


def test_info_of_a_master_that_was_demoted_a_moment_ago_names_no_other_node(processes):
    cluster = Replication(replicas=1, sentinels=0)
    processes(cluster)
    hours = {"upstream_poll_interval": "1h", "pool_health_interval": "1h"}
    pointsman = processes(Pointsman(cluster, upstream_kind="static", admin_allow_dangerous="replicaof", **hours))
    master, replica = cluster.servers
    with pointsman.raw() as link:  # one packet: the node answers all of it before anybody can have heard
        link.send(encode("REPLICAOF", "127.0.0.1", replica.port) + encode("INFO", "replication") + encode("ROLE"))
        assert link.read() == b"OK"
        info = link.read()
        assert b"\r\nrole:master\r\n" in info
        assert str(replica.port).encode() not in info
        assert not re.search(rb"^(master_(host|port|link|last|sync)|slave_)", info, re.M)
        assert link.read() == [b"master", 0, []]
    with master.raw() as demoted:
        assert b"\r\nmaster_host:" in demoted.ask("INFO", "replication")


def test_statistics_count_the_applications_commands(ends):
    with ends.pointsman.raw() as link:
        assert link.ask("CONFIG", "RESETSTAT") == b"OK"
        for _ in range(3):
            link.ask("SET", "fam:counted", 1)
        link.ask("INCR", "fam:counted", "x")
        stats, errors = link.ask("INFO", "commandstats"), link.ask("INFO", "errorstats")
        assert re.search(rb"^cmdstat_set:calls=3,.*rejected_calls=0", stats, re.M)
        assert re.search(rb"^cmdstat_incr:calls=0,.*rejected_calls=1", stats, re.M)
        assert b"errorstat_ERR:count=1\r\n" in errors


def test_slowlog_has_the_applications_commands(ends):
    with ends.pointsman.raw() as link:
        link.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
        link.ask("SLOWLOG", "RESET")
        link.ask("SET", "fam:slow", "v")
        link.ask("CONFIG", "SET", "slowlog-log-slower-than", 10000)
        entries = link.ask("SLOWLOG", "GET", -1)
        assert [b"SET", b"fam:slow", b"v"] in [entry[3] for entry in entries]
        assert link.ask("SLOWLOG", "RESET") == b"OK" and link.ask("SLOWLOG", "LEN") == 0


def test_debug_sleep_may_take_longer_than_the_request_timeout(processes):
    server = Server("sleeper").start().ready()
    pointsman = processes(Pointsman(server.address, upstream_kind="static", proxy_request_timeout="200ms"))
    with pointsman.raw() as link:
        assert link.command("DEBUG", "SLEEP", "0.6").read_bytes() == b"+OK\r\n"
    pointsman.stop()
    server.kill()


# ---- the user ----


def test_application_is_the_default_user_whoever_the_proxy_is_at_the_node(processes):
    server = Server("users", settings={"user": "relay on >secret ~* &* +@all"}).start().ready()
    pointsman = processes(
        Pointsman(
            server.address, upstream_kind="static", upstream_username="relay", upstream_password="secret",
            proxy_password="word",
        )
    )  # fmt: skip
    with pointsman.raw() as link:
        assert link.ask("ACL", "WHOAMI") == b"default"
        assert link.command("acl", "whoami", "x").read_bytes().startswith(b"-ERR wrong number of arguments")
    with pointsman.raw(log_in=False) as link:
        assert link.command("ACL", "WHOAMI").read_bytes() == b"-NOAUTH Authentication required.\r\n"
    pointsman.stop()
    server.kill()


# ---- SWAPDB with clients in both databases ----


def test_swapdb_swaps_under_clients_that_share_connections(ends):
    with ends.pointsman.raw() as zero, ends.pointsman.raw() as one, ends.pointsman.raw() as swapper:
        for database, link in ((0, zero), (1, one)):
            assert link.ask("SELECT", database) == b"OK"
            assert link.ask("SET", "fam:where", database) == b"OK"
        for turn in range(1, 8):
            assert swapper.ask("SWAPDB", 0, 1) == b"OK"
            for database, link in ((0, zero), (1, one)):
                link.send(encode("APPEND", "fam:where", "") + encode("EVAL", "return redis.call('get','fam:where')", 0))
                assert [link.read(), link.read()] == [1, b"%d" % ((database + turn) % 2)]


# ---- MONITOR ----

MONITOR_LINE = re.compile(rb'^\+\d+\.\d{6} \[(\d+) ([^\]]+)\] (".*")\r\n$')


def read_monitor(link, wanted):
    """Lines of MONITOR until one has these bytes in it; its database and words."""
    while True:
        line = link.read_bytes()
        match = MONITOR_LINE.match(line)
        assert match, line
        if wanted in line:
            return int(match[1]), match[3]


def test_monitor_shows_commands_as_a_plain_server_writes_them(ends):
    strange = [b"SET", b'fam:mon\x00\r\n"\\\xff', b"\x07v"]
    seen = []
    for node in (ends.plain, ends.pointsman):
        with node.raw() as monitor, node.raw() as other:
            assert monitor.command("MONITOR").read_bytes() == b"+OK\r\n"
            assert other.ask("SELECT", 3) == b"OK"
            assert other.ask(*strange) == b"OK"
            other.ask("EVAL", "return redis.call('SET','fam:mon:lua','1')", 0)
            seen.append([read_monitor(monitor, b"fam:mon"), read_monitor(monitor, b"fam:mon:lua")])
    assert seen[0] == seen[1]
    assert seen[0][0][0] == 3


def after_monitor(node, *lines):
    """The replies to these while monitoring, without what MONITOR shows."""
    with node.raw() as link:
        assert link.ask("MONITOR") == b"OK"
        replies = []
        for line in lines:
            link.command(*line.split())
            try:
                reply = link.read_bytes()
                while MONITOR_LINE.match(reply):
                    reply = link.read_bytes()
            except (EOFError, ConnectionResetError):
                reply = b"<closed>"
            replies.append(reply)
        return replies


@pytest.mark.parametrize(
    "lines",
    [["RESET", "PING", "SET fam:k 1", "GET fam:k"], ["QUIT", "PING"], ["PING", "PING x", "RESET", "PING"],
     ["GET fam:k", "SET fam:k 1", "RESET", "GET fam:k"], ["ECHO a", "SELECT 2", "RESET"],
     ["RESET x", "NOSUCH", "RESET"], ["MULTI", "RESET", "GET fam:k"], ["CONFIG GET maxmemory", "RESET", "DBSIZE x"]],
    ids=" - ".join,
)  # fmt: skip
def test_monitor_is_left_as_at_a_plain_server(ends, lines):
    for node in (ends.plain, ends.pointsman):
        with node.raw() as link:
            link.ask("SET", "fam:k", 1)
    assert after_monitor(ends.pointsman, *lines) == after_monitor(ends.plain, *lines)


def test_monitor_says_nothing_while_replies_are_off_and_messages_come(ends):
    with ends.pointsman.raw() as link, ends.pointsman.raw() as other:
        link.ask("MONITOR")
        link.send(encode("CLIENT", "REPLY", "OFF") + encode("SUBSCRIBE", "fam:ch"))
        wait_for(lambda: other.ask("PUBLISH", "fam:ch", "early") == 1, what="the subscription")
        while not (frame := link.read_bytes()).startswith(b"*3") or b"early" not in frame:
            pass
        for text in ("one", "two"):
            other.ask("PUBLISH", "fam:ch", text)
        frames = [link.read_bytes(), link.read_bytes()]
    assert [frame.split(b"\r\n")[-2] for frame in frames] == [b"one", b"two"]


def test_second_monitor_is_passed_over_in_silence_as_by_redis(ends):
    with ends.pointsman.raw() as link:
        for words in (["MONITOR"], ["MONITOR"], ["RESET"], ["PING"]):
            link.command(*words)
        replies = [link.read_bytes()]
        while replies[-1] != b"+PONG\r\n":
            replies.append(link.read_bytes())
    assert [reply for reply in replies if not MONITOR_LINE.match(reply)] == [b"+OK\r\n", b"+RESET\r\n", b"+PONG\r\n"]


def test_monitor_ends_at_the_node_with_its_client(ends):
    master = ends.cluster.servers[0]
    with master.client() as client:
        monitors = lambda: sum("O" in each["flags"] for each in client.client_list())
        for end in ("RESET", "QUIT", None):
            with ends.pointsman.raw() as link:
                link.ask("MONITOR")
                wait_for(lambda: monitors() == 1, what="the monitor to be seen")
                if end:
                    link.command(end)
                    wait_for(lambda: monitors() == 0, what=f"{end} to end it")
            wait_for(lambda: monitors() == 0, what="the monitor to be gone")


# ---- RESET and QUIT, whatever the state ----

STATES = {
    "fresh": [],
    "in_multi": ["MULTI", "SET fam:r 1"],
    "in_dirty_multi": ["MULTI", "NOSUCH"],
    "watching": ["WATCH fam:r"],
    "watching_in_multi": ["WATCH fam:r", "MULTI", "SET fam:r 2"],
    "subscribed": ["SUBSCRIBE fam:c"],
    "subscribed_to_all_kinds": ["SUBSCRIBE a b", "PSUBSCRIBE p*", "SSUBSCRIBE s"],
    "in_another_database": ["SELECT 5", "SET fam:r 5"],
    "named": ["CLIENT SETNAME fam"],
}
ENDINGS = {
    "reset": ["RESET", "PING", "CLIENT GETNAME", "DBSIZE x", "EXEC", "GET fam:none", "MULTI", "SET fam:r 9", "EXEC"],
    "reset_twice": ["RESET", "RESET", "GET fam:none"],
    "reset_arity": ["RESET x"],
    "quit": ["QUIT", "SET fam:quit 1"],
    "quit_words": ["QUIT a b c", "SET fam:quit 1"],
    "pipeline_then_quit": ["SET fam:p 1", "GET fam:p", "NOSUCH", "DBSIZE x", "QUIT", "SET fam:quit 1"],
}


@pytest.mark.parametrize("ending", list(ENDINGS))
@pytest.mark.parametrize("state", list(STATES))
def test_reset_and_quit_leave_every_state_as_at_a_plain_server(ends, state, ending):
    lines = STATES[state] + ENDINGS[ending]
    data = b"".join(encode(*line.split()) for line in lines)
    if "quit" not in ending:
        data += encode("QUIT")
    assert talk(ends.pointsman.port, data, end=None) == talk(ends.plain.port, data, end=None)
    with ends.cluster.servers[0].client() as client:
        assert not client.exists("fam:quit")


def test_info_counts_the_clients_of_the_proxy(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, proxy_max_clients=321))
    with pointsman.client() as client:
        before = wait_for(lambda: client.info("clients")["connected_clients"] == 1 and 1, what="others to be gone")
        links = [pointsman.raw() for _ in range(7)]
        for link in links:
            assert link.ask("PING") == b"PONG"
        info = client.info("clients")
        assert (info["connected_clients"], info["maxclients"]) == (before + 7, 321)
        for link in links:
            link.close()
