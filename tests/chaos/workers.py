# SPDX-License-Identifier: BSD-2-Clause
"""Makes a history: clients in a process of their own that append, read and count through Pointsman, and write down all.

    workers.py PORT SEED OUTPUT RUDE [ERROR...]

goes on until its input ends, then writes the history to OUTPUT. So many of the clients of rude.py take part, who may be
told the errors named. What each client asks is drawn from SEED; when, and what it is answered, is a matter of time.
"""

import json
import pathlib
import random
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from checker import APPEND, COUNT, OK, READ, REFUSED, UNKNOWN, Op  # noqa: E402
from harness import Raw, Reply, encode  # noqa: E402
from rude import RudeClient  # noqa: E402

KEYS = 24
PATIENCE_S = 60  # longer than any deadline of the proxy
CLOSED = "connection closed"

# Said of a command that did not run. Whatever else is said leaves open whether it did.
DEFINITE = (
    "not executed", "nothing of it was executed", "EXECABORT", "READONLY", "LOADING", "MISCONF", "NOREPLICAS", "CLUSTERDOWN",
    "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK ", "ERR max number of clients",
)  # fmt: skip

APPENDING = "return redis.call('rpush',KEYS[1],ARGV[1])"
READING = "#!lua flags=no-writes\nreturn redis.call('lindex',KEYS[1],-1)"

# Ways to append and to read: commands, the last of which is answered with what counts. Common ones stand here more than once.
APPENDS = [
    lambda key, value: [("RPUSH", key, value)],
    lambda key, value: [("RPUSH", key, value)],
    lambda key, value: [("EVAL", APPENDING, 1, key, value)],
    lambda key, value: [("MULTI",), ("RPUSH", key, value), ("EXEC",)],
    lambda key, value: [
        ("LPUSH", feed_of(key, value), value), ("BLMOVE", feed_of(key, value), key, "LEFT", "RIGHT", 0.5)
    ],  # fmt: skip
]
READS = [
    lambda key: [("LINDEX", key, -1)],
    lambda key: [("LINDEX", key, -1)],
    lambda key: [("LINDEX", key, -1)],
    lambda key: [("LRANGE", key, -1, -1)],
    lambda key: [("EVAL", READING, 1, key)],
    lambda key: [("MULTI",), ("LINDEX", key, -1), ("EXEC",)],
]

# Share of writes, operations in one go at most, clients of this kind.
PROFILES = {
    "writer": (1.0, 1, 4),
    "reader": (0.0, 1, 5),
    "mixed": (0.3, 1, 4),
    "pipelined": (0.3, 5, 3),
    "counter": (None, 1, 2),
}
REST_S = 0.003  # between two goes


class Worker(threading.Thread):
    """One client after the other with the same habits, each until its connection ends."""

    def __init__(self, port, seed, number, profile, keys, ending):
        super().__init__(daemon=True)
        self.port, self.number, self.keys, self.ending = port, number, keys, ending
        self.writes, self.depth, _ = PROFILES[profile]
        self.random = random.Random(f"{seed}/{number}")
        self.history = []
        self.made = self.connections = 0
        self.error = "it has not come to its end"

    def run(self):
        self.talk()
        self.error = None

    def talk(self):
        while not self.ending.is_set():
            self.connections += 1
            try:
                with Raw(self.port, timeout=PATIENCE_S) as link:
                    if self.number % 3 == 0:
                        link.ask("HELLO", 3)
                    while not self.ending.is_set() and self.one_go(link):
                        time.sleep(self.random.random() * 2 * REST_S)
            except OSError:
                time.sleep(0.05)

    def one_go(self, link):
        """Sends some operations at once and reads what comes of them; False if the connection ended meanwhile."""
        operations = [self.operation() for _ in range(self.random.randint(1, self.depth))]
        start = time.monotonic()
        replies = None
        try:
            link.send(b"".join(encode(*words) for _, _, _, commands in operations for words in commands))
            for kind, key, value, commands in operations:
                replies = None
                replies = [link.read() for _ in commands]
                self.note(kind, key, value, start, commands, replies)
                operations = operations[1:]
        except (OSError, EOFError) as problem:
            for kind, key, value, _ in operations:
                text = f"{CLOSED}: {type(problem).__name__}"
                self.history.append(Op(self.session, kind, key, value, start, time.monotonic(), UNKNOWN, text))
            return False
        return True

    @property
    def session(self):
        return f"{self.number}.{self.connections}"

    def operation(self):
        if self.writes is None:
            key = f"count:{self.number}"
            return COUNT, key, None, [("INCR", key)]
        key = f"list:{self.random.randrange(self.keys)}"
        if self.random.random() >= self.writes:
            return READ, key, None, self.random.choice(READS)(key)
        self.made += 1
        value = f"{self.number}-{self.made}"
        return APPEND, key, value, self.random.choice(APPENDS)(key, value)

    def note(self, kind, key, value, start, commands, replies):
        problems = [str(bytes(reply), "utf-8", "replace") for reply in replies if isinstance(reply, Reply)]
        end = time.monotonic()
        outcome = outcome_of(value, commands, replies)
        if outcome == OK and kind != APPEND:
            value = read_value(replies[-1])
        self.history.append(Op(self.session, kind, key, value, start, end, outcome, problems[0] if problems else ""))


def outcome_of(value, commands, replies):
    last = replies[-1]
    if commands[0][0] == "LPUSH":  # what is left over in the feed may be moved later, in place of another
        return OK if last == value.encode() else UNKNOWN
    if not isinstance(last, Reply):
        return OK
    text = str(bytes(last), "utf-8", "replace")
    return REFUSED if any(words in text for words in DEFINITE) else UNKNOWN


def feed_of(key, value):
    """Of one client and one list, in the slot of this."""
    return f"feed:{value.partition('-')[0]}:{{{key}}}"


def read_value(reply):
    """Of LINDEX, LRANGE of one, INCR, or EXEC of one of them."""
    while isinstance(reply, list):
        reply = reply[0] if reply else None
    return reply.decode() if isinstance(reply, bytes) else reply


def main(port, seed, output, rude, *told):
    ending = threading.Event()
    kinds = [kind for kind, (_, _, count) in PROFILES.items() for _ in range(count)]
    workers = [Worker(int(port), seed, number, kind, KEYS, ending) for number, kind in enumerate(kinds)]
    rude_ones = [RudeClient(int(port), number, seed, False, told) for number in range(int(rude))]
    for client in workers + rude_ones:
        client.start()
    sys.stdin.read()
    ending.set()
    for client in rude_ones:
        client.is_over.set()
    for client in workers + rude_ones:
        client.join(PATIENCE_S)
    told = {
        "history": [op for worker in workers for op in worker.history],
        "stuck": [client.name for client in workers + rude_ones if client.is_alive()],
        "books": [client.book() for client in rude_ones],
        "complaints": [client.error for client in workers + rude_ones if client.error],
    }
    with open(output, "w", encoding="utf-8") as file:
        json.dump(told, file)


class Load:
    """These clients, seen from the process that makes faults."""

    def __init__(self, port, seed, directory, rude=0, told=()):
        self.output = pathlib.Path(directory) / "history.json"
        program = [sys.executable, str(pathlib.Path(__file__))]
        words = [str(word) for word in (port, seed, self.output, rude, *told)]
        self.popen = subprocess.Popen(program + words, stdin=subprocess.PIPE)

    def finish(self):
        """Ends them and takes what they have written."""
        self.popen.stdin.close()
        assert self.popen.wait(2 * PATIENCE_S) == 0, "the clients have ended in an error of their own"
        told = json.loads(self.output.read_text(encoding="utf-8"))
        self.history = [Op(*words) for words in told["history"]]
        self.stuck, self.books, self.complaints = told["stuck"], told["books"], told["complaints"]

    def kill(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
