# SPDX-License-Identifier: BSD-2-Clause
"""Every row of the command table against a real server.

Guards against a table that has drifted from Redis: a command that is missing, a write that would be sent to a
replica, a key that is looked for in the wrong place. The table is asked through build/command_probe.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROBE = os.environ.get("COMMAND_PROBE", os.path.join(ROOT, "build", "command_probe"))

# As in routing/command.h.
OTHER, READ, WRITE = 0, 1, 2
FLAGS = {
    name: 1 << bit
    for bit, name in enumerate(
        "MASTER_ONLY WITHOUT_AUTH WHILE_SUBSCRIBED IN_MULTI ADMIN UNKEYED_WRITE SLOW CONTAINER LEARNED "
        "STATEFUL NO_TIMEOUT SLOT_ONLY UNLISTED WHILE_BUSY DANGEROUS".split()
    )
}
PIN_NONE, PIN_MULTI, PIN_EXEC, PIN_DISCARD, PIN_WATCH, PIN_UNWATCH, PIN_BLOCK, PIN_BLOCK_OPTION = range(8)
KEYS_NONE, KEYS_RANGE, KEYS_COUNTED = range(3)
SPREAD_NONE, SPREAD_KEYS, SPREAD_MASTERS, SPREAD_APART, SPREAD_NODES = range(5)
POLICIES = (
    "FIRST OK SUM MIN MAX AND OR ONE_OK PLACES CONCAT LATEST UNION PAIRS ANY TEXT INFO".split()
)  # enum merge_policy, in its order

# What Redis' tips mean in the table (https://redis.io/docs/latest/develop/reference/command-tips/).
REQUEST_TIPS = {
    "request_policy:multi_shard": SPREAD_KEYS,
    "request_policy:all_shards": SPREAD_MASTERS,
    "request_policy:all_nodes": SPREAD_NODES,
}
RESPONSE_TIPS = {
    "response_policy:all_succeeded": ("OK", "FIRST"),
    "response_policy:one_succeeded": ("ONE_OK",),
    "response_policy:agg_logical_and": ("AND",),
    "response_policy:agg_logical_or": ("OR",),
    "response_policy:agg_min": ("MIN",),
    "response_policy:agg_max": ("MAX",),
    "response_policy:agg_sum": ("SUM",),
    "response_policy:special": ("TEXT", "CONCAT", "INFO"),
}
WITHOUT_RESPONSE_TIP = {SPREAD_KEYS: ("PLACES",), SPREAD_MASTERS: ("CONCAT",), SPREAD_NODES: ("CONCAT",)}
# Where the table does not do as the tips say, and why.
OTHER_SPREAD = {
    # A part of it would be set although another part must not be: told to cross slots, as a node does.
    "msetnx": SPREAD_NONE,
    # Answered by the proxy.
    "ping": SPREAD_NONE,
    # Reports of one node, not to be added up: one master's.
    "function|stats": SPREAD_NONE,
    "memory|stats": SPREAD_NONE,
    "latency|histogram": SPREAD_NONE,
    # What tips leave out: every master has it, and to ask or tell but one would be wrong.
    **dict.fromkeys(
        "bgrewriteaof bgsave lastsave pubsub|channels pubsub|numpat pubsub|numsub pubsub|shardchannels "
        "pubsub|shardnumsub save".split(),
        SPREAD_MASTERS,
    ),
    # The same for what each node, also a replica, has for itself.
    **dict.fromkeys(
        "acl|deluser acl|load acl|log acl|save acl|setuser config|resetstat config|rewrite module|load module|loadex "
        "module|unload".split(),
        SPREAD_NODES,
    ),
    # The masters that the client has written to: proxy/waits.h.
    "wait": SPREAD_NONE,
    # A Redis Cluster has one database.
    "swapdb": SPREAD_APART,
}
OTHER_POLICY = {
    "slowlog|get": "LATEST",  # the newest of all, not those of the first node
    "randomkey": "ANY",  # one key, as the client expects
    "latency|reset": "SUM",  # its reply is a number, although the tip says all_succeeded
}

# What changes something although Redis does not flag it as a write, and what only looks although Redis does
# not flag it as a read: a wrong answer here means a command sent twice, or a read that fails needlessly.
EFFECTS_WITHOUT_WRITE_FLAG = """
    acl|deluser acl|load acl|log acl|save acl|setuser bgrewriteaof bgsave client|caching
    config|resetstat config|rewrite config|set debug eval evalsha failover fcall function|kill latency|reset
    memory|purge module|load module|loadex module|unload publish replicaof save script|debug script|flush
    script|kill script|load shutdown slaveof slowlog|reset spublish
""".split()
LOOKS_WITHOUT_READ_FLAG = """
    acl|cat acl|dryrun acl|genpass acl|getuser acl|list acl|users acl|whoami config|get function|dump
    function|list function|stats info lastsave latency|doctor latency|graph latency|histogram latency|history
    latency|latest memory|doctor memory|malloc-stats memory|stats module|list pfselftest pubsub|channels
    pubsub|numpat pubsub|numsub pubsub|shardchannels pubsub|shardnumsub role script|exists slowlog|get
    slowlog|len time command|docs client|getredir client|trackinginfo
""".split()


class Error(str):
    """An error reply."""


class Server:
    """A redis-server of our own, and one plain connection to it."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.directory = tempfile.mkdtemp(prefix="command_table")
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command + ["--dir", self.directory], stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.file = self.socket.makefile("rb")

    def stop(self):
        self.file.close()
        self.socket.close()
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.directory)

    def ask(self, *words):
        return self.ask_all([words])[0]

    def ask_all(self, commands):
        for words in commands:
            parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in (str(word).encode() for word in words)]
            self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(parts))
        return [self.read() for _ in commands]

    def ask_raw(self, *words):
        """The reply as it came."""
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in (str(word).encode() for word in words)]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(parts))
        return self.read_raw()

    def read_raw(self):
        line = self.file.readline()
        if line[:1] == b"$" and line[1:2] != b"-":
            return line + self.file.read(int(line[1:]) + 2)
        if line[:1] == b"*" and line[1:2] != b"-":
            return line + b"".join(self.read_raw() for _ in range(int(line[1:])))
        return line

    def read(self):
        line = self.file.readline()[:-2]
        kind, rest = line[:1], line[1:].decode()
        if kind == b"-":
            return Error(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == "-1" else [self.read() for _ in range(int(rest))]
        return rest


class Table:
    """The table, asked through the probe."""

    def __init__(self, *arguments):
        command = [PROBE, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0

    def ask(self, *words):
        self.process.stdin.write("\t".join(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def table():
    table = Table()
    yield table
    table.stop()


@pytest.fixture(scope="module")
def taught(server, tmp_path_factory):
    """The table and what the server's own COMMAND taught it."""
    path = tmp_path_factory.mktemp("command") / "reply"
    path.write_bytes(server.ask_raw("COMMAND"))
    table = Table(str(path))
    yield table
    table.stop()


@pytest.fixture(scope="module")
def rows(server):
    """What the server says, subcommands included: full name -> row."""
    found = {}
    for row in server.ask("COMMAND"):
        for entry in [row] + row[9]:
            found[entry[0]] = entry
    assert len(found) > 300
    return found


def words_of(full_name):
    return full_name.split("|")


def has(row, flag):
    return bool(row["flags"] & FLAGS[flag])


def each(rows, table):
    for name, theirs in sorted(rows.items()):
        yield name, theirs, table.ask(*words_of(name))


def test_no_command_of_the_server_is_missing(rows, table):
    missing = [name for name, _, ours in each(rows, table) if not ours or ours["name"] != name]
    assert missing == []


def test_arity_flags_and_categories_are_the_servers(rows, table):
    # 7.2 added "blocking" to WAIT and others; the table holds what 7.0 says.
    wrong = []
    for name, theirs, ours in each(rows, table):
        flags, categories = set(ours["redis_flags"].split()), set(ours["categories"].split())
        if ours["arity"] != theirs[1] or flags != set(theirs[2]) or categories != set(theirs[6]):
            wrong.append((name, ours, theirs[:7]))
    assert wrong == []


def test_key_ranges_are_the_servers(rows, table):
    wrong = []
    for name, theirs, ours in each(rows, table):
        if theirs[3] > 0 and "movablekeys" not in theirs[2]:
            expected = (KEYS_RANGE, theirs[3], theirs[4], theirs[5])
            if (ours["finder"], ours["first"], ours["last"], ours["step"]) != expected:
                wrong.append((name, ours, theirs))
        if theirs[3] == 0 and ours["finder"] == KEYS_RANGE:
            wrong.append((name, ours, theirs))
        # SORT_RO is flagged for the keys that BY and GET make up; those it names stand still.
        if "movablekeys" in theirs[2] and ours["finder"] in (KEYS_NONE, KEYS_RANGE) and name != "sort_ro":
            wrong.append((name, ours, theirs))
    assert wrong == []


def test_what_writes_is_a_write_and_only_what_reads_keys_is_a_read_for_replicas(rows, table):
    wrong = []
    for name, theirs, ours in each(rows, table):
        flags = theirs[2]
        is_container = has(ours, "CONTAINER")
        if "write" in flags or name in EFFECTS_WITHOUT_WRITE_FLAG:
            is_right = ours["access"] == WRITE
        elif "readonly" in flags:
            is_right = ours["access"] == READ and (ours["finder"] != KEYS_NONE or has(ours, "MASTER_ONLY"))
        elif name in LOOKS_WITHOUT_READ_FLAG or (name.endswith("|help") and not ours["local"]):
            is_right = ours["access"] == READ and has(ours, "MASTER_ONLY")
        elif is_container and not ours["local"]:
            is_right = ours["access"] == WRITE
        else:
            is_right = ours["access"] == OTHER and bool(ours["pin"] or ours["local"])
        if not is_right:
            wrong.append((name, ours, flags))
    assert wrong == []


def request_of(tips):
    return next((REQUEST_TIPS[tip] for tip in tips if tip in REQUEST_TIPS), SPREAD_NONE)


def policies_of(tips, spread):
    return next((RESPONSE_TIPS[tip] for tip in tips if tip in RESPONSE_TIPS), WITHOUT_RESPONSE_TIP[spread])


def test_several_nodes_are_asked_where_tips_of_the_server_say_so(rows, table):
    wrong, excepted = [], set()
    for name, theirs, ours in each(rows, table):
        tipped = request_of(theirs[7])
        expected = OTHER_SPREAD.get(name, tipped)
        excepted |= {name} if name in OTHER_SPREAD and expected != tipped else set()
        if ours["spread"] != expected:
            wrong.append((name, ours["spread"], theirs[7]))
    assert wrong == []
    unknown_here = {name for name in OTHER_SPREAD if name not in rows}
    assert excepted | unknown_here == set(OTHER_SPREAD)  # an exception that is none has no business there


def test_replies_become_one_as_tips_of_the_server_say(rows, table):
    compared, wrong = 0, []
    for name, theirs, ours in each(rows, table):
        tipped = request_of(theirs[7])
        if tipped == SPREAD_NONE or ours["spread"] != tipped:
            continue
        policies = (OTHER_POLICY[name],) if name in OTHER_POLICY else policies_of(theirs[7], tipped)
        compared += 1
        if POLICIES[ours["merge"]] not in policies:
            wrong.append((name, POLICIES[ours["merge"]], theirs[7]))
    assert wrong == []
    assert compared > 25


def test_flags_of_connections_are_the_servers(rows, table):
    wrong = []
    for name, theirs, ours in each(rows, table):
        for flag, word in ("WITHOUT_AUTH", "no_auth"), ("WHILE_BUSY", "allow_busy"), ("ADMIN", "admin"):
            if has(ours, flag) != (word in theirs[2]):
                wrong.append(name)
        if has(ours, "CONTAINER") != bool(theirs[9]):
            wrong.append(name)
        if "blocking" in theirs[2] and ours["pin"] not in (PIN_BLOCK, PIN_BLOCK_OPTION):
            wrong.append(name)
        if has(ours, "LEARNED") or has(ours, "UNLISTED"):
            wrong.append(name)
    assert wrong == []


def compare_keys(server, table, commands):
    """Asks both for the keys of each command; returns those where they differ."""
    replies = server.ask_all([("COMMAND", "GETKEYS") + tuple(words) for words in commands])
    wrong = []
    for words, reply in zip(commands, replies):
        ours = table.ask(*words)
        found = "fail" if ours["keys"] == -1 else [words[position] for position in ours["keys"]]
        if isinstance(reply, Error) and "no key arguments" in reply:
            is_right = found == [] or has(ours, "SLOT_ONLY")
        elif isinstance(reply, Error):
            assert "Invalid arguments" in reply, (words, reply)
            is_right = found in ([], "fail")
        elif reply == []:  # a command that does without keys, or whose number of keys is wrong
            is_right = found in ([], "fail")
        else:
            is_right = found == reply
        if not is_right:
            wrong.append((words, found, reply))
    return wrong


def test_keys_of_every_command_stand_where_the_server_finds_them(server, rows, table):
    commands = []
    for name, theirs in sorted(rows.items()):
        words, arity = words_of(name), theirs[1]
        if theirs[9] and "|" not in name:
            continue  # a container's own word takes a subcommand next
        counts = [arity] if arity > 0 else range(-arity, -arity + 6)
        for count in counts:
            arguments = [f"w{i}" for i in range(len(words), count)]
            if len(words + arguments) >= 2:
                commands.append(words + arguments)
    # PFMERGE takes a target alone, COMMAND GETKEYS does not know that it does.
    commands.remove(["pfmerge", "w1"])
    assert len(commands) > 1000
    assert compare_keys(server, table, commands) == []


MOVABLE = """
    SORT k | SORT k BY w_* GET # GET STORE STORE d | SORT k STORE d STORE e | SORT k STORE
    SORT k LIMIT 0 STORE | SORT k LIMIT STORE STORE STORE x | sort k desc store d | SORT_RO k BY STORE GET x
    GEORADIUS k 1 2 3 m STORE d | GEORADIUS k 1 2 3 m STOREDIST e STORE d | GEORADIUS k 1 2 3 m WITHDIST STORE
    GEORADIUS k STORE 2 STORE m | GEORADIUSBYMEMBER k STORE 3 m WITHDIST STORE x
    GEORADIUSBYMEMBER k m 3 m COUNT 3 STOREDIST x
    GEORADIUS_RO k 1 2 3 m STORE d | GEORADIUSBYMEMBER_RO k m 3 m STORE d
    MIGRATE h p k 0 1 | MIGRATE h p k 0 1 COPY | MIGRATE h p "" 0 1 KEYS a b c | MIGRATE h p "" 0 1 KEYS
    MIGRATE h p "" 0 1 COPY REPLACE AUTH KEYS KEYS a b | MIGRATE h p "" 0 1 AUTH2 KEYS KEYS KEYS a
    MIGRATE h p k 0 1 KEYS a b | MIGRATE h p "" 0 1 COPY | migrate h p "" 0 1 keys a
    EVAL s 0 | EVAL s 1 | EVAL s 1 a | EVAL s 2 a b x y | EVAL s foo a | EVAL s -1 a | EVAL s 99999999999 a
    EVALSHA s 2 a b x | EVAL_RO s 1 a x | EVALSHA_RO s 1 a x | FCALL f 2 a b x | FCALL_RO f 1 a | FCALL f 0 a
    ZUNIONSTORE d 2 a b WEIGHTS 1 2 | ZUNIONSTORE d 0 a | ZUNIONSTORE d 3 a b | ZINTERSTORE d 1 a
    ZDIFFSTORE d 2 a b | ZUNION 2 a b WITHSCORES | ZINTER 1 a | ZDIFF 2 a b | ZDIFF x a b
    ZINTERCARD 2 a b LIMIT 1
    SINTERCARD 2 a b LIMIT 0 | SINTERCARD 0 a | SINTERCARD 1 a | LMPOP 2 a b LEFT | LMPOP 1 a LEFT COUNT 2
    ZMPOP 2 a b MIN | BLMPOP 0 2 a b RIGHT | BZMPOP 1.5 1 a MAX | BLMPOP 2 0 a LEFT
    XREAD STREAMS a 0 | XREAD COUNT 2 BLOCK 0 STREAMS a b c 0 0 0 | XREAD STREAMS a b 0
    XREAD COUNT 1 STREAMS
    XREAD COUNT 1 NOTHING x | xread streams a $ | XREAD COUNT 1 STREAMS STREAMS 0
    XREADGROUP GROUP g c STREAMS a > | XREADGROUP GROUP STREAMS STREAMS STREAMS a b > >
    XREADGROUP GROUP g c COUNT 1 NOACK BLOCK 5 STREAMS a b > > | XREADGROUP GROUP g c NOACK x y
    BITOP AND d a b | BITOP NOT d a | OBJECT ENCODING k | OBJECT FREQ k | MEMORY USAGE k SAMPLES 0
    PFDEBUG GETREG k
    DEBUG OBJECT k | DEBUG SLEEP 0 | DEBUG | XGROUP CREATE k g $ | XINFO STREAM k FULL | PFCOUNT a b
    PFMERGE d a b
    MSET a 1 b 2 | MSETNX a 1 b 2 | BLPOP a b c 0 | BRPOPLPUSH a b 0 | LCS a b LEN | COPY a b DB 1
    RENAME a b
    SUBSCRIBE a b | SSUBSCRIBE a b | SPUBLISH a m | PUBLISH a m | WATCH a b | PING x | CONFIG GET x | SCAN 0
"""


def samples():
    for line in MOVABLE.strip().splitlines():
        for sample in line.split("|"):
            words = [word.replace('""', "") for word in sample.split()]
            if len(words) > 1:
                yield words


def test_keys_that_move_with_options_are_found_where_the_server_finds_them(server, table):
    commands = list(samples())
    assert len(commands) > 80
    assert compare_keys(server, table, commands) == []


GRAMMARS = {
    "SORT": (1, "k STORE STORE LIMIT GET BY ASC ALPHA 0 x"),
    "SORT_RO": (1, "k STORE LIMIT GET BY ASC ALPHA 0 x"),
    "GEORADIUS": (5, "k STORE STOREDIST 1 m WITHDIST x"),
    "GEORADIUSBYMEMBER": (4, "k STORE STOREDIST 1 m WITHDIST x"),
    "ZUNIONSTORE": (3, "d 0 1 2 3 a b WEIGHTS"),
    "ZINTER": (2, "0 1 2 3 a b"),
    "LMPOP": (3, "0 1 2 3 a b LEFT"),
    "BZMPOP": (4, "0 1 2 3 a b MAX"),
    "EVAL": (2, "0 1 2 3 a b"),
    "FCALL_RO": (2, "0 1 2 3 a b"),
}


def has_keyword_for_target(words):
    """SORT takes any word behind STORE for a key; COMMAND GETKEYS also takes it for an option."""
    return any(a == "STORE" and b in "STORE LIMIT GET BY".split() for a, b in zip(words, words[1:]))


def test_keys_agree_with_the_server_for_random_arguments(server, table):
    chance = random.Random(7)
    commands = []
    for name, (least, vocabulary) in GRAMMARS.items():
        for _ in range(400):
            count = least + chance.randrange(8)
            words = [name] + [chance.choice(vocabulary.split()) for _ in range(count)]
            if name != "SORT" or not has_keyword_for_target(words):
                commands.append(words)
    assert len(commands) > 3000
    assert compare_keys(server, table, commands) == []


def test_a_node_that_knows_no_more_than_the_table_changes_no_row(rows, table, taught):
    for name in rows:
        if words_of(name)[0] != "command":  # whose answers are compared below
            assert taught.ask(*words_of(name)) == table.ask(*words_of(name))
    assert taught.ask("HEXPIRE", "k") == table.ask("HEXPIRE", "k")


SAME_ANSWERS = """
    COMMAND ; command info ; COMMAND COUNT ; Command Info get ; COMMAND INFO get SET nosuch config config|get
    COMMAND INFO config|nosuch ; COMMAND INFO config|get|x ; COMMAND INFO | ; COMMAND INFO hexpire sentinel
    COMMAND GETKEYS get k ; COMMAND GETKEYS get k l ; COMMAND GETKEYS get ; COMMAND GETKEYS nosuch k
    COMMAND GETKEYS hexpire k 1 FIELDS 1 f ; COMMAND GETKEYS ping k ; COMMAND GETKEYS config get k
    COMMAND GETKEYS config nosuch k ; COMMAND GETKEYS config|get k l ; COMMAND GETKEYS object encoding k
    COMMAND GETKEYS client nosuch ; COMMAND GETKEYS spublish c m ; COMMAND GETKEYS ssubscribe c
    COMMAND GETKEYS debug object k ; COMMAND GETKEYS eval s 0 ; COMMAND GETKEYS eval s 7 k
    COMMAND GETKEYS zunion 7 k l ; COMMAND GETKEYS xread STREAMS ; COMMAND GETKEYS xread COUNT 1 STREAMS
    COMMAND GETKEYS mset a 1 b 2 ; COMMAND GETKEYS sort a GET # STORE b ; COMMAND GETKEYS zunionstore d 2 a b
    COMMAND GETKEYS sentinel masters
"""


def test_answers_to_command_are_the_servers_byte_for_byte(server, taught):
    compared = 0
    for sample in SAME_ANSWERS.replace("\n", ";").split(";"):
        words = sample.split()
        if not words:
            continue
        ours, theirs = taught.ask(*words), server.ask_raw(*words)
        if ours["forward"]:
            assert theirs.startswith(b"-ERR wrong number"), words
        else:
            assert bytes.fromhex(ours["answer"]) == theirs, words
        compared += 1
    assert compared > 30


def test_the_list_of_commands_is_the_servers_in_any_order(server, taught):
    ours = bytes.fromhex(taught.ask("COMMAND", "LIST")["answer"]).split(b"\r\n")
    theirs = server.ask_raw("COMMAND", "LIST").split(b"\r\n")
    assert ours[0] == theirs[0]
    assert sorted(ours) == sorted(theirs)


FOR_A_NODE = ["DOCS get", "LIST FILTERBY MODULE x", "GETKEYSANDFLAGS get k", "COUNT x", "HELP"]


@pytest.mark.parametrize("words", FOR_A_NODE)
def test_what_only_a_node_can_answer_is_left_to_it(taught, words):
    row = taught.ask("COMMAND", *words.split())
    assert row.get("forward", True) and not row.get("answer")
