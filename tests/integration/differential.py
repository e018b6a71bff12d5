#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The same random commands to a plain Redis and, through Pointsman, to another one: every reply must be the same.

    differential.py [--seconds 300] [--seed N] [--round N] [--protocol 2|3|mixed] [--replicas 2] [--cluster]

A Generator makes steps from a seed, a Comparison plays them over pairs of connections and raises a Difference at the
first reply that differs, as bytes or by what differential_exceptions.py says of the command. A run is rounds of some
thousand steps; each begins with empty servers and new connections and follows from (seed, round) alone, so that one
round is enough to see a difference again, and to make it small.
"""

import argparse
import dataclasses
import functools
import hashlib
import random
import re
import sys
import time

import differential_commands as commands
import harness
import redis_cluster
from differential_exceptions import COMPARISONS, UNEQUAL_IN_TRANSACTIONS, are_same_messages

CONNECTIONS = 5
SUBSCRIBERS = 1  # the last ones of them
STEPS_OF_A_ROUND = 1500
SHRINKING_SECONDS = 40
WAITED_SECONDS = 15  # a blocking command waits for 10
SHOWN_BYTES = 600
SHOWN_STEPS = 25
CLOSED = b"<closed>"
HTTP = b"POST / HTTP/1.1\r\n"  # closes at once: answers to what came in the same packet may be lost
SILENT = b"<silent>"
RESP2_MESSAGES = (b"*3\r\n$7\r\nmessage\r\n", b"*4\r\n$8\r\npmessage\r\n", b"*3\r\n$8\r\nsmessage\r\n")
RESP3_PUSHES = tuple(b">" + head[1:] for head in RESP2_MESSAGES) + (b">2\r\n$10\r\ninvalidate\r\n",)
CONFIG_AT_FIRST = {
    "hash-max-listpack-entries": 128, "set-max-intset-entries": 512, "zset-max-listpack-entries": 128,
    "list-max-listpack-size": -2, "notify-keyspace-events": "", "slowlog-max-len": 128, "maxmemory-policy": "noeviction",
}  # fmt: skip
KEY_WORD = re.compile(rb"(%s):\d+" % "|".join(commands.KINDS).encode())
SETTINGS = {"slowlog-log-slower-than": -1, "latency-tracking": "no"}


@dataclasses.dataclass(frozen=True)
class Command:
    words: tuple
    wire: bytes  # as it is sent: an array, or an inline command
    ends: bool = False  # the connection does not live on

    @property
    def name(self):
        return self.words[0].upper() if self.words else b""

    def __str__(self):
        return " ".join(shown(word, 80) for word in self.words) if self.words else repr(self.wire)


@dataclasses.dataclass(frozen=True)
class Step:
    connection: int
    commands: tuple
    is_awaited: bool = True  # else its replies are read before the connection's next step
    is_cut: bool = False  # sent in two pieces, one a moment after the other


class Difference(Exception):
    def __init__(self, link, command, plain, proxied):
        super().__init__(f"connection {link.number}: {command}\n  plain: {shown(plain)}\n  proxy: {shown(proxied)}")
        self.name = getattr(command, "name", command)
        self.is_silence = SILENT in plain + proxied
        self.steps = []

    def is_like(self, other):
        return (self.name, self.is_silence) == (other.name, other.is_silence)


def shown(data, limit=SHOWN_BYTES):
    text = repr(data)[1:]
    return text if len(text) <= limit else f"{text[:limit]}... ({len(data)} bytes)"


def first_of(connection, protocol):
    """What a new connection begins with."""
    is_resp3 = protocol == "3" or (protocol == "mixed" and connection % 2 == 0)
    return [command_of([b"HELLO", b"3"])] if is_resp3 else []


def command_of(words):
    return Command(tuple(words), harness.encode(*words))


# ---------------------------------------------------------------------------------------------- generator


class Generator:
    """Steps, without an end; the same for the same seed and the same dumps."""

    def __init__(self, seed, protocol="2", dumps=()):
        self.chance = random.Random(seed)
        versions = {"2": (2,), "3": (3,), "mixed": (2, 3)}[protocol]
        self.values = commands.Values(self.chance, dumps, versions)
        self.values.shas = [hashlib.sha1(script).hexdigest().encode() for script in commands.CALLED_BY_SHA] + [b"0" * 40, b"x"]
        self.groups = [commands.Templates(text) for text, _ in commands.GROUPS]
        self.weights = [weight for _, weight in commands.GROUPS]
        self.subscriber = commands.Templates(commands.SUBSCRIBER)
        self.exact = commands.Templates(commands.EXACT)
        self.handovers = commands.HANDOVERS.strip().splitlines()
        self.may_be_in_multi = [False] * CONNECTIONS
        self.kinds = {self.plain: 70, self.transaction: 10, self.pubsub: 8, self.subscribed_for_a_while: 3, self.unchanged: 4, self.handover: 2, self.inline: 4,
                      self.reply_mode: 1, self.broken: 0.5}  # fmt: skip

    def __iter__(self):
        while True:
            for step in self.chance.choices(list(self.kinds), list(self.kinds.values()))[0]():
                yield self.without_the_unequal(step)

    def without_the_unequal(self, step):
        """The step without what is not the same inside a transaction, where it may be in one."""
        kept = []
        for command in step.commands:
            # A script that is queued can be called by its SHA1 before EXEC, or although it was discarded.
            is_early = bool(set(command.words) & set(commands.CALLED_BY_SHA)) and command.name in (b"EVAL", b"EVAL_RO", b"SCRIPT")
            if self.may_be_in_multi[step.connection] and (is_early or name_in(UNEQUAL_IN_TRANSACTIONS, command)):
                continue
            kept.append(command)
            if command.name in (b"MULTI", b"EXEC", b"DISCARD", b"RESET") and len(command.words) == 1:
                self.may_be_in_multi[step.connection] = command.name == b"MULTI"
        return dataclasses.replace(step, commands=tuple(kept))

    def any_connection(self):
        return self.chance.randrange(CONNECTIONS - SUBSCRIBERS)

    def depth(self):
        return self.chance.choice((1, 1, 1, 2, 3, 5, 8, 20, self.chance.randrange(1, 80)))

    def command(self):
        group = self.chance.choices(self.groups, self.weights)[0]
        return command_of(self.changed(self.values.fill(group.pick(self.chance))))

    def changed(self, words):
        """Now and then with another spelling, or something too much, too little or wrong."""
        chance = self.chance
        draw = chance.random()
        if draw < 0.1:
            words[0] = chance.choice((words[0].lower(), words[0].title()))
        elif draw < 0.12:
            words.pop(chance.randrange(1, len(words)) if len(words) > 1 else 0)
        elif draw < 0.135:
            words.append(chance.choice(commands.GARBAGE))
        elif draw < 0.15:
            words[chance.randrange(len(words))] = chance.choice(commands.GARBAGE)
        elif draw < 0.155:
            del words[1:]
        return words or [b"PING"]

    # Each kind of step gives one or several.

    def plain(self):
        batch = tuple(self.command() for _ in range(self.depth()))
        yield Step(self.any_connection(), batch, is_cut=self.chance.random() < 0.05)

    def transaction(self):
        connection, other = self.any_connection(), self.any_connection()
        batch = [command_of([b"WATCH", self.values.any()])] if self.chance.random() < 0.3 else []
        if batch and self.chance.random() < 0.5:
            yield Step(connection, tuple(batch))
            batch = []
            yield Step(other, (self.command(),))
        batch += [command_of([b"MULTI"])]
        for _ in range(self.chance.randrange(6)):
            batch.append(self.command())
            if self.chance.random() < 0.3:
                yield Step(connection, tuple(batch))
                batch = []
                if self.chance.random() < 0.5:
                    yield Step(other, (self.command(),))
        batch.append(command_of([self.chance.choice((b"EXEC",) * 8 + (b"DISCARD", b"RESET", b"exec"))]))
        yield Step(connection, tuple(batch))

    def pubsub(self):
        subscriber = CONNECTIONS - 1 - self.chance.randrange(SUBSCRIBERS)
        batch = [command_of(self.values.fill(self.subscriber.pick(self.chance))) for _ in range(self.chance.choice((1, 1, 2, 4)))]
        yield Step(subscriber, tuple(batch))
        words = [[b"PUBLISH", self.values.channel(), self.values.v()] for _ in range(self.chance.randrange(4))]
        if words:
            yield Step(self.any_connection(), tuple(map(command_of, words)))
            yield Step(subscriber, (command_of([b"PING"]),))

    def subscribed_for_a_while(self):
        """Any connection: in RESP3 it may do everything meanwhile, in RESP2 next to nothing."""
        connection, other = self.chance.sample(range(CONNECTIONS - SUBSCRIBERS), 2)
        if self.may_be_in_multi[connection]:
            return
        channel = self.values.channel()
        yield Step(connection, (command_of([b"SUBSCRIBE", channel]), command_of([b"PSUBSCRIBE", self.values.pattern()])))
        for _ in range(self.chance.randrange(1, 4)):
            publish = command_of([b"PUBLISH", self.values.channel(), self.values.v()])
            yield Step(self.chance.choice((connection, other)), (publish, self.command()))
            batch = [self.command() for _ in range(self.chance.randrange(6))]
            yield Step(connection, tuple(command for command in batch if command.name not in (b"MULTI", b"QUIT")))
        yield Step(connection, tuple(command_of([word]) for word in (b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE")))

    def unchanged(self):
        batch = [command_of(self.values.fill(self.exact.pick(self.chance)))]
        batch += [self.command() for _ in range(self.chance.randrange(3))]
        yield Step(self.any_connection(), tuple(batch))

    def handover(self):
        waiting, other = self.chance.sample(range(CONNECTIONS - SUBSCRIBERS), 2)
        database = command_of([b"SELECT", b"0"])
        texts = self.chance.choice(self.handovers).split(";")
        wait, give = (command_of(self.values.fill(commands.parse(commands.split_words(text)))) for text in texts[:2])
        key = self.values.literal(texts[2].strip())
        # Neither is in a transaction or another database, and nothing is there yet.
        end = command_of([b"DISCARD"])
        yield Step(waiting, (end, database))
        yield Step(other, (end, database, command_of([b"DEL", key])))
        yield Step(waiting, (wait,), is_awaited=False)
        yield Step(other, (give,))
        yield Step(waiting, (command_of([b"DEL", key]),))

    def inline(self):
        lines = []
        for _ in range(self.chance.choice((1, 1, 3))):
            words = self.values.fill(self.groups[0].pick(self.chance))
            quoted = [self.quoted(word) for word in words]
            end = self.chance.choice((b"\r\n", b"\n"))
            lines.append(Command(tuple(words), b" ".join(quoted) + end))
        if self.chance.random() < 0.2:
            nothing = self.chance.choice((b"\r\n", b"*0\r\n", b"*-1\r\n", b"\n", b"   \r\n", b"*0\r\n\r\n*-5\r\n"))
            lines.append(Command((b"PING",), nothing + b"PING\r\n"))
        yield Step(self.any_connection(), tuple(line for line in lines if len(line.wire) < 30000))

    def quoted(self, word):
        if re.fullmatch(rb"[!-~]+", word) and not set(b"\"'\\*") & set(word):
            return word
        escaped = b"".join(bytes([c]) if 32 <= c < 127 and c not in b'"\\' else b"\\x%02x" % c for c in word)
        return b'"' + escaped + b'"'

    def reply_mode(self):
        """Answered again before another connection's turn, or it would be chance who comes first."""
        connection = self.any_connection()
        if self.may_be_in_multi[connection]:
            return
        mode = self.chance.choice((b"ON", b"OFF", b"SKIP", b"skip", b"x"))
        batch = [self.command() for _ in range(self.chance.randrange(4))]
        batch = [command for command in batch if command.name not in (b"MULTI", b"QUIT")]
        yield Step(connection, (command_of([b"CLIENT", b"REPLY", mode]), *batch, command_of([b"CLIENT", b"REPLY", b"ON"])))

    def broken(self):
        wire = self.chance.choice((b"*1\r\n$x\r\n", b"*x\r\n", b'GET "unbalanced\r\n', b"*1\r\n+PING\r\n", b"*1\r\n$-1\r\n",
                                   b"*3000000000\r\n", b"*1\r\n$999999999999\r\n", HTTP))  # fmt: skip
        batch = [self.command() for _ in range(0 if wire == HTTP else self.chance.randrange(3))]
        yield Step(self.any_connection(), (*batch, Command((), wire, ends=True)))


# ---------------------------------------------------------------------------------------------- comparison


def parse_reply(frame):
    """A reply as differential_exceptions.py takes it. Attributes are not sent by Redis of themselves."""
    reply, rest = parse_at(frame, 0)
    assert rest == len(frame), frame
    return reply


def parse_at(data, place):
    end = data.index(b"\r\n", place)
    kind, text = data[place : place + 1], data[place + 1 : end]
    place = end + 2
    if kind in harness.BULKS and text != b"-1":
        return (kind, data[place : place + int(text)]), place + int(text) + 2
    if kind in harness.CHILDREN and text != b"-1":
        children, missing = [], harness.CHILDREN[kind] * int(text)
        while missing:
            child, place = parse_at(data, place)
            children.append(child)
            missing -= not (child[0] == b">" and kind != b">")  # a push between the elements is none of them
        if kind == b"%":  # pairs stay together
            children = [(b"pair", children[i : i + 2]) for i in range(0, len(children), 2)]
        return (kind, children), place
    return (kind, None if text == b"-1" and kind in b"$*" else text), place


def split_array(frame):
    """The frames of an array's elements."""
    place = frame.index(b"\r\n") + 2
    while place < len(frame):
        _, end = parse_at(frame, place)
        yield frame[place:end]
        place = end


class Link:
    """The two ends of one client: its connection to the plain server and that through the proxy.

    It follows what the plain server answers, to know how many frames a command brings and what EXEC's mean.
    """

    def __init__(self, number, plain_port, proxy_port):
        self.number = number
        self.sides = [harness.Raw(plain_port, timeout=WAITED_SECONDS), harness.Raw(proxy_port, timeout=WAITED_SECONDS)]
        self.outstanding = []
        self.pushes = ([], [])
        self.is_open = True
        self.forget()

    def forget(self):
        self.is_in_multi = False
        self.queued = []
        self.subscriptions = {b"": 0, b"P": 0, b"S": 0}
        self.reply_mode = b"ON"
        self.protocol = 2

    def send(self, batch, is_cut=False):
        data = b"".join(command.wire for command in batch)
        pieces = (data[: len(data) // 2], data[len(data) // 2 :]) if is_cut else (data,)
        for piece in pieces:
            for side in self.sides:
                try:
                    side.send(piece)
                except OSError:
                    pass  # told when the replies are read
            if is_cut:
                time.sleep(0.0005)
        self.outstanding += batch

    def settle(self):
        """Reads and compares what is outstanding."""
        outstanding, self.outstanding = self.outstanding, []
        for command in outstanding:
            if not self.is_open:
                return
            self.compare(command)
        if any(self.subscriptions.values()) and self.is_open and not self.is_in_multi and self.reply_mode == b"ON":
            self.drain()

    def drain(self):
        """Messages on their way are in front of the answer to a PING, or come soon behind it."""
        ping = command_of([b"PING", b"differential"])
        for side in self.sides:
            side.send(ping.wire)
        self.compare(ping)
        plain, proxied = self.pushes
        while len(proxied) < len(plain):
            frame = self.read_frame(1)
            if not frame.startswith(RESP3_PUSHES):
                raise Difference(self, ping, b"".join(plain), b"".join(proxied) + frame)
        if not are_same_messages(plain, proxied):
            raise Difference(self, ping, b"".join(plain), b"".join(proxied))
        self.pushes = ([], [])

    def compare(self, command):
        frames = self.frames_of(command, 0, None)
        theirs = [] if SILENT in frames else self.frames_of(command, 1, len(frames))
        if frames == theirs or self.is_excused(command, frames, theirs):
            self.follow(command, frames)
            return
        raise Difference(self, command, b"".join(frames), b"".join(theirs))

    def frames_of(self, command, side, count):
        frames = []
        if count is None:
            if self.is_unanswered(command):
                return []
            frames.append(self.read_reply(side))
            count = self.count_of(command, frames[0]) + (command.ends and frames[0] != CLOSED)
        while len(frames) < count:
            frames.append(self.read_reply(side))
        return frames

    def is_unanswered(self, command):
        if self.reply_mode == b"ON":
            return is_reply_mode(command, b"SKIP") or is_reply_mode(command, b"OFF")
        return not (is_reply_mode(command, b"ON"))

    def count_of(self, command, frame):
        match = re.fullmatch(rb"(P|S|)(UN)?SUBSCRIBE", command.name)
        if not match or frame[:1] not in b"*>":
            return 1
        kind, is_undone = match.groups()
        if len(command.words) > 1:
            return len(command.words) - 1
        return max(1, self.subscriptions[kind]) if is_undone else 1

    def read_reply(self, side):
        while True:
            frame = self.read_frame(side)
            if not frame.startswith(RESP3_PUSHES):
                return frame

    def read_frame(self, side):
        """A frame; pushes are kept aside as well."""
        try:
            frame = self.sides[side].read_bytes()
        except (EOFError, ConnectionError):
            return CLOSED
        except OSError:  # a socket that has timed out once cannot be read from again
            return SILENT
        if frame.startswith(RESP3_PUSHES):
            self.pushes[side].append(frame)
        elif frame.startswith(RESP2_MESSAGES) and any(self.subscriptions.values()):
            self.pushes[side].append(frame)
            return self.read_frame(side)
        return frame

    def is_excused(self, command, frames, theirs):
        if len(frames) != len(theirs) or {CLOSED, SILENT} & {*frames, *theirs}:
            return False
        if command.name == b"EXEC" and self.is_in_multi and len(frames) == 1 and frames[0][:1] == theirs[0][:1] == b"*":
            ours, others = list(split_array(frames[0])), list(split_array(theirs[0]))
            return len(ours) == len(others) == len(self.queued) and all(map(are_alike, self.queued, ours, others))
        if len(frames) > 1:
            frames, theirs = sorted(frames), sorted(theirs)  # of UNSUBSCRIBE; the counts in them fall in any case
            frames, theirs = [re.sub(rb":\d+\r\n$", b"", f) for f in frames], [re.sub(rb":\d+\r\n$", b"", f) for f in theirs]
            return command.name.endswith(b"UNSUBSCRIBE") and sorted(frames) == sorted(theirs)
        return are_alike(command, frames[0], theirs[0])

    def follow(self, command, frames):
        """What the plain server's answer tells of the connection's state."""
        name = command.name
        if CLOSED in frames or SILENT in frames:
            self.close()
            return
        if self.reply_mode == b"SKIP":
            self.reply_mode = b"ON"
        for mode in (b"ON", b"OFF", b"SKIP"):
            if is_reply_mode(command, mode) and not self.is_in_multi and not (mode == b"SKIP" and self.reply_mode == b"OFF"):
                self.reply_mode = mode
        first = frames[0] if frames else b""
        if first == b"+QUEUED\r\n":
            self.queued.append(command)
        elif name == b"MULTI" and first == b"+OK\r\n":
            self.is_in_multi, self.queued = True, []
        elif name in (b"EXEC", b"DISCARD") and len(command.words) == 1 and self.is_in_multi:
            self.is_in_multi = False
        elif first == b"+RESET\r\n" and name == b"RESET":
            self.forget()
        for frame in frames:
            if match := re.match(rb"[*>]3\r\n\$\d+\r\n([ps]?)(?:un)?subscribe\r\n", frame):
                count = int(frame.rpartition(b":")[2])
                kind = match[1].upper()
                others = {b"": b"P", b"P": b""}.get(kind)
                self.subscriptions[kind] = count - (self.subscriptions[others] if others is not None else 0)
        if name == b"HELLO" and first[:1] in b"*%" and first:
            self.protocol = 3 if first[:1] == b"%" else 2

    def close(self):
        self.is_open = False
        for side in self.sides:
            side.close()


def is_reply_mode(command, mode):
    words = [word.upper() for word in command.words]
    return words == [b"CLIENT", b"REPLY", mode]


def name_in(table, command):
    """The name under which a command stands in a table by its word and the next one, or its word; None if not."""
    words = [word.upper().decode("latin-1") for word in command.words[:2]]
    names = (" ".join(words), words[0] if words else "")
    return next((name for name in names if name in table), None)


def are_alike(command, frame, other):
    if frame == other:
        return True
    name = name_in(COMPARISONS, command)
    return bool(name) and COMPARISONS[name](parse_reply(frame), parse_reply(other))


class Comparison:
    """A plain server and a proxy in front of another, and pairs of connections to both."""

    def __init__(self, plain, pointsman, backend, protocol="2"):
        self.plain, self.pointsman, self.backend = plain, pointsman, backend
        self.protocol = protocol
        self.links = {}
        self.played = 0

    @functools.cached_property
    def dumps(self):
        with self.plain.client() as client:
            client.flushall()
            client.set("a", "text")
            client.rpush("b", 1, "x")
            client.zadd("c", {"m": 1.5})
            return tuple(client.dump(key) for key in "abc")

    def begin(self):
        """Empty servers as they were at first, told through the same ways as everything else."""
        self.end()
        for port in (self.plain.port, self.pointsman.port):
            with harness.Raw(port) as link:
                for name, value in CONFIG_AT_FIRST.items():
                    assert link.ask("CONFIG", "SET", name, value) == b"OK"
                for words in (["FLUSHALL"], ["SCRIPT", "FLUSH"], ["FUNCTION", "FLUSH"]):
                    assert link.ask(*words) == b"OK"

    def end(self):
        for link in self.links.values():
            if link.is_open:
                link.close()
        self.links = {}

    def play(self, step):
        link = self.links.get(step.connection)
        if not link or not link.is_open:
            link = self.links[step.connection] = Link(step.connection, self.plain.port, self.pointsman.port)
            link.send(first_of(step.connection, self.protocol))
        if step.commands and step.commands[-1].wire == HTTP:
            link.settle()
        link.send(step.commands, step.is_cut)
        self.played += len(step.commands)
        if step.is_awaited:
            link.settle()

    def play_all(self, steps):
        """Raises a Difference that knows the steps up to it."""
        self.begin()
        done = []
        try:
            for step in steps:
                done.append(step)
                self.play(step)
            for link in self.links.values():
                link.settle()
            self.compare_data()
        except Difference as difference:
            difference.steps = done
            raise
        finally:
            self.end()

    def compare_data(self):
        """What all keys of all databases hold."""
        digests = [server.client().execute_command("DEBUG", "DIGEST") for server in (self.plain, self.backend)]
        if digests[0] != digests[1]:
            link = next(iter(self.links.values()))
            raise Difference(link, "DEBUG DIGEST at the end", *digests)

    def run_round(self, seed, number, count=STEPS_OF_A_ROUND):
        generator = Generator(f"{seed}/{number}", self.protocol, self.dumps)
        self.play_all(step for _, step in zip(range(count), generator))

    def shrink(self, difference, seconds=SHRINKING_SECONDS):
        """A difference seen with fewer steps and commands, as few as are found in that time."""
        deadline = time.monotonic() + seconds
        size = len(difference.steps) // 2
        while size >= 1 and time.monotonic() < deadline:
            place, has_shrunk = 0, False
            while place < len(difference.steps) and time.monotonic() < deadline:
                fewer = difference.steps[:place] + difference.steps[place + size :]
                found = self.difference_of(fewer)
                if found and found.is_like(difference):
                    difference, has_shrunk = found, True
                else:
                    place += size
            size = size // 2 if size > 1 or not has_shrunk else 1
        return self.shrink_batches(difference, deadline)

    def shrink_batches(self, difference, deadline):
        place = len(difference.steps) - 1
        while place >= 0:
            batch = difference.steps[place].commands
            for i in range(len(batch) - 1, -1, -1):
                if time.monotonic() > deadline:
                    return difference
                step = dataclasses.replace(difference.steps[place], commands=batch[:i] + batch[i + 1 :])
                found = self.difference_of(difference.steps[:place] + [step] + difference.steps[place + 1 :])
                if found and found.is_like(difference) and len(found.steps) == len(difference.steps):
                    difference, batch = found, step.commands
            place -= 1
        return difference

    def difference_of(self, steps):
        try:
            self.play_all(steps)
        except Difference as difference:
            return difference
        return None


def report_of(difference):
    lines = [str(difference), "after:"]
    for step in difference.steps[-SHOWN_STEPS:]:
        lines += [f"  {step.connection}: {command}" for command in step.commands]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------ program


class Setup:
    """The servers of a comparison: with replicas, reads and writes of the proxy go to their master alone."""

    def __init__(self, replicas=0, protocol="2", **keys):
        self.plain = harness.Server("plain", settings=SETTINGS)
        self.behind = harness.Replication(replicas, sentinels=0, settings=SETTINGS)
        self.keys = keys
        self.protocol = protocol

    def __enter__(self):
        self.plain.start().ready()
        self.behind.start()
        self.pointsman = harness.Pointsman(self.behind, reads_policy="master", **self.keys).start()
        return Comparison(self.plain, self.pointsman, self.behind.servers[0], self.protocol)

    def __exit__(self, kind, *_):
        if kind is None:
            self.pointsman.stop()
        else:
            self.pointsman.kill()
        self.behind.stop()
        self.plain.kill()


class OneSlot(Comparison):
    """The same before a Redis Cluster: commands whose keys are in one slot, and transactions of them.

    Which keys a command has says the plain server. What is about databases or other servers is left out.
    """

    TAG = b"{slot}"
    STATE = (b"MULTI", b"EXEC", b"DISCARD", b"UNWATCH")
    LEFT_OUT = (b"COPY", b"MOVE", b"SORT", b"SORT_RO", b"MIGRATE", b"SWAPDB", b"SELECT", b"DEBUG", b"OBJECT", b"WAIT", b"WAITAOF")

    def play(self, step):
        kept = tuple(command for command in map(self.tagged, step.commands) if command)
        if kept:
            super().play(dataclasses.replace(step, commands=kept, is_cut=False))

    def tagged(self, command):
        if command.name in self.STATE and len(command.words) == 1:
            return command
        if not command.words or command.name in self.LEFT_OUT or command.ends or b"'select'" in b" ".join(command.words):
            return None
        with_tags = [self.TAG + word if KEY_WORD.fullmatch(word) else word for word in command.words]
        with self.plain.client() as client:
            client.response_callbacks.clear()
            try:
                keys = client.execute_command("COMMAND", "GETKEYS", *with_tags)
            except Exception:  # noqa: BLE001 - none, or not known
                return None
        return command_of(with_tags) if keys and all(key.startswith(self.TAG) for key in keys) else None


class ClusterSetup:
    def __init__(self, protocol="2"):
        self.plain = harness.Server("plain", settings=SETTINGS)
        self.behind = redis_cluster.RedisCluster(3, 0, settings=SETTINGS)
        self.protocol = protocol

    def __enter__(self):
        self.plain.start().ready()
        self.behind.start()
        self.pointsman = harness.Pointsman(self.behind.seeds, upstream_kind="cluster", reads_policy="master").start()
        owner = self.behind.master_of(redis_cluster.slot_of(OneSlot.TAG))
        with self.pointsman.client() as client:
            client.flushall()
        return OneSlot(self.plain, self.pointsman, owner, self.protocol)

    def __exit__(self, kind, *_):
        if kind is None:
            self.pointsman.stop()
        else:
            self.pointsman.kill()
        self.behind.stop()
        self.plain.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--round", type=int, default=None, help="this one alone")
    parser.add_argument("--protocol", choices=("2", "3", "mixed"), default="mixed")
    parser.add_argument("--cluster", action="store_true", help="a Redis Cluster behind the proxy, all keys in one slot")
    parser.add_argument("--replicas", type=int, default=None, help="behind the proxy; else none and 2 in turn")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}", flush=True)
    deadline = time.monotonic() + arguments.seconds
    layouts = (0,) if arguments.cluster else (0, 2) if arguments.replicas is None else (arguments.replicas,)
    try:
        for place, replicas in enumerate(layouts):
            until = deadline - arguments.seconds * (len(layouts) - 1 - place) / len(layouts)
            if not run(seed, arguments, replicas, until):
                return 1
    finally:
        harness.stop_everything()
        harness.remove_home()
    return 0


def run(seed, arguments, replicas, until):
    setup = ClusterSetup(arguments.protocol) if arguments.cluster else Setup(replicas, arguments.protocol)
    with setup as comparison:
        number = arguments.round or 0
        while time.monotonic() < until:
            try:
                comparison.run_round(seed, number)
            except Difference as difference:
                print(f"seed {seed}, round {number}, {replicas} replicas: a difference\n{difference}\nshrinking", flush=True)
                print(report_of(comparison.shrink(difference)))
                return False
            if arguments.round is not None:
                break
            number += 1
        print(f"{replicas} replicas: {comparison.played} commands in {number} rounds, no difference", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
