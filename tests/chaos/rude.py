# SPDX-License-Identifier: BSD-2-Clause
"""Clients that do what they should not: leave in the middle, read late, ask for what is refused, and look at each reply.

Each has keys of its own and values that name it, so that a reply of somebody else is seen. What it sends is drawn from
a seed.
"""

import random
import socket
import struct
import threading
import time

from harness import Raw, Reply, encode

FIXED = 50  # keys that all know: "fixed:N" is "value of N"
BIG = 200_000
PATIENCE_S = 30  # longer than any deadline of the proxy but that of a request, which is not reached

DEFINITE = (b"not executed", b"nothing of it was executed", b"EXECABORT")


class Wrong(AssertionError):
    pass


class RudeClient(threading.Thread):
    """Connects, talks, leaves in some rude way, and again, until told to stop. error is what it found wrong."""

    def __init__(self, port, number, seed, is_calm, told=()):
        super().__init__(daemon=True)
        self.is_calm = is_calm  # all nodes are well
        self.is_leaving = False  # after this the proxy closes
        self.port = port
        self.told = tuple(word.encode() for word in told)  # errors of nodes that may be told besides those of the proxy
        self.random = random.Random(f"{seed}/{number}")
        self.me = f"c{number}"
        self.is_over = threading.Event()
        self.acked = self.unknown = 0  # of INCR on its counter
        self.tokens = 0
        self.ended_well = self.answered = self.errors = 0
        self.error = None

    def run(self):
        try:
            while not self.is_over.is_set():
                self.one_connection()
        except Wrong as error:
            self.error = f"{self.me}: {error}"
        except Exception as error:  # pylint: disable=broad-except
            self.error = f"{self.me}: {type(error).__name__} {error}"

    def one_connection(self):
        try:
            link = Raw(self.port, timeout=PATIENCE_S)
        except OSError:
            time.sleep(0.05)
            return
        self.is_leaving = False
        with link:
            try:
                for _ in range(self.random.randint(1, 15)):
                    if self.is_over.is_set():
                        return
                    if not self.one_pipeline(link):
                        return
            except socket.timeout:
                raise Wrong(f"no reply for {PATIENCE_S} s") from None
            except (EOFError, OSError):
                # A lost node in the middle of a long reply may close us; what was answered was checked.
                if self.is_calm and not self.is_leaving:
                    raise Wrong("closed for no reason") from None

    def token(self):
        self.tokens += 1
        return f"{self.me}-{self.tokens}".encode()

    def one_pipeline(self, link):
        """Sends some commands at once and reads what comes of them; False if it left."""
        batch = []
        for _ in range(self.random.choice((1, 1, 2, 5, 30))):
            batch += self.random.choice(self.SOME)(self)
        data = b"".join(bytes_of for bytes_of, _, _ in batch)
        increments = sum(is_increment for _, _, is_increment in batch)
        self.unknown += increments
        leaves = self.random.random()
        if leaves < 0.05:
            link.send(data[: self.random.randrange(len(data) + 1)])
            return self.leave(link)
        if leaves < 0.08:  # all of it, then nothing more: every reply still comes, unless one has to be waited for
            self.is_leaving |= any(word in data for word in (b"BLPOP", b"XREAD", b"SUBSCRIBE"))
            link.send(data)
            link.socket.shutdown(socket.SHUT_WR)
            self.read_all(link, batch)
            return False
        link.send(data)
        if leaves < 0.12:
            return self.leave(link)
        if leaves < 0.18:
            time.sleep(self.random.random() * 0.5)
        self.read_all(link, batch)
        return True

    def leave(self, link):
        if self.random.random() < 0.5:  # RST
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def read_all(self, link, batch):
        for sent, is_right, is_increment in batch:
            if is_right is None:
                continue
            answer = link.read()
            self.answered += 1
            if self.may_be_told(answer):
                self.errors += 1
                if self.is_calm:
                    raise Wrong(f"{sent[:200]!r} failed: {answer}")
                if is_increment and any(word in answer for word in DEFINITE):
                    self.unknown -= 1
                continue
            if not is_right(answer):
                raise Wrong(f"{sent[:200]!r} was answered with {str(answer)[:300]}")
            if is_increment and isinstance(answer, (int, list)):
                self.unknown -= 1
                self.acked += 1

    def may_be_told(self, answer):
        if not isinstance(answer, Reply):
            return False
        return answer.startswith((b"ERR pointsman:", b"EXECABORT")) or any(word in answer for word in self.told)

    def book(self):
        """Its counter, and how often that counted: at least and at most."""
        return f"{self.me}:n", self.acked, self.acked + self.unknown

    # What one command, or several that belong together, may be: (bytes, check of the reply, counts as INCR).

    def echo(self):
        token = self.token()
        return [(encode("ECHO", token), lambda answer: answer == token, False)]

    def evaluate(self):
        token = self.token()
        return [(encode("EVAL", "return ARGV[1]", 0, token), lambda answer: answer == token, False)]

    def fixed(self):
        number = self.random.randrange(FIXED)
        value = b"value of %d" % number
        return [(encode("GET", f"fixed:{number}"), lambda answer: answer == value, False)]

    def several_fixed(self):
        numbers = [self.random.randrange(FIXED) for _ in range(5)]
        values = [b"value of %d" % number for number in numbers]
        return [(encode("MGET", *(f"fixed:{number}" for number in numbers)), lambda answer: answer == values, False)]

    def set_and_get(self):
        key = f"{self.me}:k{self.random.randrange(4)}"
        value = f"{key}={self.token().decode()}".encode()
        mine = lambda answer: answer is None or answer.startswith(key.encode() + b"=")
        return [(encode("SET", key, value), lambda answer: answer == b"OK", False), (encode("GET", key), mine, False)]

    def big(self):
        key, size = f"{self.me}:big", self.random.randrange(BIG)
        is_mine = lambda answer: answer is None or answer == answer[:1] * len(answer)
        return [
            (encode("SET", key, b"x" * size), lambda answer: answer == b"OK", False),
            (encode("GET", key), is_mine, False),
            (encode("GET", "fixed:big"), lambda answer: len(answer) == BIG, False),
        ]

    def increment(self):
        return [(encode("INCR", f"{self.me}:n"), lambda answer: isinstance(answer, int), True)]

    def transaction(self):
        key = f"{self.me}:t"
        queued = lambda answer: answer == b"QUEUED"
        ok = lambda answer: answer == b"OK"
        token = self.token()
        whole = lambda answer: isinstance(answer, list) and len(answer) == 2 and answer[1] == token
        parts = [
            (encode("MULTI"), ok, False),
            (encode("INCR", key), queued, False),
            (encode("ECHO", token), queued, False),
        ]
        if self.random.random() < 0.2:
            return parts + [(encode("DISCARD"), ok, False)]
        if self.random.random() < 0.3:
            watch = [(encode("WATCH", f"{self.me}:w"), ok, False)]
            return watch + parts + [(encode("EXEC"), lambda answer: answer is None or whole(answer), False)]
        return parts + [(encode("EXEC"), whole, False)]

    def pop(self):
        wait = self.random.choice(("0.01", "0.05", "0.2"))
        return [(encode("BLPOP", f"{self.me}:empty", wait), lambda answer: answer is None, False)]

    def read_stream(self):
        return [(encode("XREAD", "BLOCK", 30, "STREAMS", f"{self.me}:x", "$"), lambda answer: answer is None, False)]

    def subscription(self):
        channel = self.token()
        pong, end = ([b"pong", b""], b"PONG"), (channel, None)  # the latter where SUBSCRIBE has failed
        loading = lambda answer: isinstance(answer, Reply) and answer.startswith(b"LOADING") and not self.is_calm
        if self.is_calm:
            pong, end = pong[:1], end[:1]
        return [
            (encode("SUBSCRIBE", channel), lambda answer: answer == [b"subscribe", channel, 1], False),
            (encode("PING"), lambda answer: answer in pong or loading(answer), False),
            (encode("UNSUBSCRIBE"), lambda answer: answer in [[b"unsubscribe", name, 0] for name in end], False),
            (encode("PING", channel), lambda answer: answer == channel, False),
        ]

    def database(self):
        key = f"{self.me}:db"
        ok = lambda answer: answer == b"OK"
        return [
            (encode("SELECT", 3), ok, False),
            (encode("SET", key, 3), ok, False),
            (encode("GET", key), lambda answer: answer in (None, b"3"), False),
            (encode("SELECT", 0), ok, False),
            (encode("EXISTS", key), lambda answer: answer == 0 or not self.is_calm, False),
        ]

    def silence(self):
        token = self.token()
        exact = lambda answer: answer == token
        return [
            (encode("CLIENT", "REPLY", "OFF"), None, False),
            (encode("SET", f"{self.me}:silent", 1), None, False),
            (encode("GET", "fixed:1"), None, False),
            (encode("CLIENT", "REPLY", "ON"), lambda answer: answer == b"OK", False),
            (encode("CLIENT", "REPLY", "SKIP"), None, False),
            (encode("GET", "fixed:2"), None, False),
            (encode("ECHO", token), exact, False),
        ]

    def news(self):
        is_text = lambda answer: isinstance(answer, bytes) and not isinstance(answer, Reply) and answer
        return [
            (encode("CLIENT", "LIST"), is_text, False),
            (encode("INFO", "server"), is_text, False),
            (encode("CLIENT", "INFO"), is_text, False),
        ]

    def inline(self):
        token = self.token()
        return [
            (b"ECHO " + token + b"\r\n", lambda answer: answer == token, False),
            (b"GET fixed:3\r\n", lambda answer: answer == b"value of 3", False),
        ]

    def reset(self):
        return [(encode("RESET"), lambda answer: answer == b"RESET", False)]

    def wrong(self):
        is_error = lambda answer: isinstance(answer, Reply)
        return [(encode("GET"), is_error, False), (encode("NOSUCH", "a"), is_error, False)]

    def garbage(self):
        self.is_leaving = True
        return [(b"*1\r\n$-5\r\n", lambda answer: b"Protocol error" in answer, False)]

    def quit(self):
        self.is_leaving = True
        return [(encode("QUIT"), lambda answer: answer == b"OK", False)]

    SOME = (
        [echo, evaluate, fixed, several_fixed, set_and_get, increment] * 6
        + [big, transaction, transaction, pop, read_stream, subscription, database, silence, inline] * 2
        + [news, reset, wrong, garbage, quit]
    )


def fill(master):
    """What all of them know."""
    with master.client() as client:
        for number in range(FIXED):
            client.set(f"fixed:{number}", f"value of {number}")
        client.set("fixed:big", b"b" * BIG)
