# SPDX-License-Identifier: BSD-2-Clause
"""What is large or slow goes over a connection of its own to the node, so that nobody waits behind it; each client's
commands take effect in its order all the same."""

import random
import re
import socket
import threading

import pytest

from harness import HOST, Monitor, Pointsman, Server, encode, wait_for

KIB = 1 << 10
MIB = 1 << 20
LARGE = b"l" * (128 * KIB)  # beyond what a request or a reply on the ordinary connection may be
BIG = bytes(range(256)) * (10 * MIB // 256)
STUCK_AFTER = 32 * KIB
HABIT = 16  # routing/lane.h


@pytest.fixture
def alone(processes):
    server = processes(Server("alone")).ready()
    with server.client() as client:
        client.set("big", BIG)
        client.set("small", "s")
        client.rpush("list", *(f"element:{number:08}" for number in range(20000)))
        client.mset({f"key:{number:08}": number for number in range(10000)})
    return server


def started(server_or_address, processes, **keys):
    address = getattr(server_or_address, "address", server_or_address)
    return processes(Pointsman(address, upstream_kind="static", proxy_threads=1, **keys))


class Ways:
    """By which connections keys were asked for, as the node saw it."""

    def __init__(self, monitor):
        self.monitor = monitor

    def of(self, mark, count=1):
        """Of the commands that have this word."""
        found = lambda: [line[0] for line in list(self.monitor.seen) if f'"{mark}"' in line[2]]
        wait_for(lambda: len(found()) >= count, what=f"{count} times {mark}")
        return found()

    def one(self, mark):
        (way,) = set(self.of(mark))
        return way


def test_what_is_large_or_slow_goes_over_a_connection_of_its_own_and_scripts_over_another(alone, processes):
    pointsman = started(alone, processes)
    with Monitor(alone) as monitor, pointsman.raw() as small, pointsman.raw() as other:
        ways = Ways(monitor)
        small.ask("GET", "by:small")
        other.ask("GET", "by:other")
        assert other.ask("SET", "by:size", LARGE) == b"OK"
        other.ask("MGET", "by:words", *("absent" for _ in range(1100)))
        other.ask("KEYS", "by:keys")
        other.ask("SORT", "by:sort")
        other.ask("EVAL", "return 1", "1", "by:script")
        other.ask("GET", "after:all")
        ordinary, bulk, scripts = ways.one("by:small"), ways.one("by:size"), ways.one("by:script")
        assert len({ordinary, bulk, scripts}) == 3
        assert ways.one("by:other") == ways.one("after:all") == ordinary
        assert ways.one("by:words") == ways.one("by:keys") == ways.one("by:sort") == bulk


def test_client_that_was_sent_a_large_value_is_kept_apart_until_it_asks_for_small_ones_again(alone, processes):
    pointsman = started(alone, processes)
    with Monitor(alone) as monitor, pointsman.raw(timeout=30) as small, pointsman.raw(timeout=30) as bulk:
        ways = Ways(monitor)
        small.ask("GET", "by:small")
        assert bulk.ask("GET", "big") == BIG
        for number in range(2 * HABIT):
            bulk.ask("GET", f"then:{number}")
        small.ask("GET", "by:small:again")
        ordinary = ways.one("by:small")
        later = [ways.one(f"then:{number}") for number in range(2 * HABIT)]
        assert ordinary not in later[:HABIT]
        assert len(set(later[:HABIT])) == 1
        assert set(later[HABIT:]) == {ordinary}
        assert ways.one("by:small:again") == ordinary


def test_what_brought_one_client_a_large_value_is_foreseen_for_all(alone, processes):
    """And does not make a habit: small ones of the same clients stay with those of others."""
    pointsman = started(alone, processes)
    with Monitor(alone) as monitor, pointsman.raw(timeout=30) as first:
        ways = Ways(monitor)
        first.ask("GET", "by:first")
        assert first.ask("GET", "big") == BIG
        for number in range(5):
            with pointsman.raw(timeout=30) as other:
                assert other.ask("STRLEN", "big") == len(BIG)
                assert other.ask("GET", "big") == BIG
                other.ask("GET", f"by:{number}")
        ordinary = ways.one("by:first")
        assert {ways.one(f"by:{number}") for number in range(5)} == {ordinary}
        gets = [line[0] for line in monitor.commands("get") if '"big"' in line[2]]
        assert gets[0] == ordinary and len(set(gets[1:])) == 1 and gets[1] != ordinary
        assert {line[0] for line in monitor.commands("strlen")} == {ordinary}


def test_client_that_never_waits_for_its_replies_comes_to_the_connection_for_large_ones_too(alone, processes):
    """It always has something on its way, so it is held up once, until that is answered."""
    pointsman = started(alone, processes)
    rounds = 8
    with Monitor(alone) as monitor, pointsman.raw(timeout=60) as small, pointsman.raw(timeout=60) as bulk:
        ways = Ways(monitor)
        small.ask("GET", "by:small")
        bulk.send(encode("GET", "big") * 2)
        for _ in range(rounds):
            bulk.send(encode("GET", "big"))
            assert bulk.read() == BIG
        assert bulk.read() == bulk.read() == BIG
        bulk.ask("GET", "by:bulk")
        assert ways.one("by:bulk") != ways.one("by:small")
        assert ways.of("big", rounds + 2)[-1] == ways.one("by:bulk")


def test_pipelines_that_are_large_together_are_kept_apart(alone, processes):
    pointsman = started(alone, processes)
    data = encode("SET", "own", "v" * 8 * KIB) * 500
    with Monitor(alone) as monitor, pointsman.raw(timeout=30) as small, pointsman.raw(timeout=30) as bulk:
        ways = Ways(monitor)
        small.ask("GET", "by:small")
        for _ in range(2):
            bulk.send(data)
            assert [bulk.read() for _ in range(500)] == [b"OK"] * 500
        bulk.ask("GET", "by:bulk")
        sets = [line[0] for line in monitor.commands("set") if '"own"' in line[2]]
        assert len(sets) == 1000
        assert ways.one("by:bulk") != ways.one("by:small")
        assert set(sets[-500:]) == {ways.one("by:bulk")}


def test_one_clients_commands_take_effect_in_its_order_whatever_they_travel_on(alone, processes):
    """Small and large, slow ones and scripts, in pipelines of several clients at once."""
    pointsman = started(alone, processes)
    commands, clients = 120, 4
    kinds = {  # and how often, and what is answered
        lambda mark, key: (("SET", key, mark), b"OK"): 6,
        lambda mark, key: (("SET", key, mark.encode() + LARGE[len(mark) :]), b"OK"): 1,
        lambda mark, key: (("MGET", "big", mark), [BIG, None]): 1,
        lambda mark, key: (("KEYS", mark), []): 1,
        lambda mark, key: (("EVAL", "return ARGV[1]", "1", key, mark), mark.encode()): 1,
    }

    def work(number):
        chance, sent, expected = random.Random(number), b"", []
        for turn in range(commands):
            (kind,) = chance.choices(list(kinds), kinds.values())
            command, reply = kind(f"{number}:{turn:04}", f"own:{number}")
            sent += encode(*command)
            expected.append(reply)
        with pointsman.raw(timeout=60) as link:
            writer = threading.Thread(target=link.send, args=(sent,))
            writer.start()
            replies = [link.read() for _ in expected]
            writer.join()
        failures.extend((number, turn) for turn in range(commands) if replies[turn] != expected[turn])

    failures = []
    with Monitor(alone) as monitor:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[:3]
        for number in range(clients):
            marks = lambda: seen_marks(monitor, number)
            wait_for(lambda: len(marks()) >= commands, what="all commands at the node")
            assert marks() == [f"{number}:{turn:04}" for turn in range(commands)]
        used = {line[0] for line in list(monitor.seen) if '"own:' in line[2]}
        assert len(used) == 3


def seen_marks(monitor, number):
    """In the order in which the node carried them out; a script's own calls are not of interest."""
    found = (re.search(rf'"({number}:\d{{4}})', line[2]) for line in list(monitor.seen))
    return [match.group(1) for match in found if match]


def test_write_a_large_read_and_a_write_in_one_pipeline_stay_in_order(alone, processes):
    pointsman = started(alone, processes)
    with pointsman.raw(timeout=60) as link:
        for turn in range(6):
            link.send(
                encode("SET", "small", f"before:{turn}")
                + encode("MGET", "small", "big")
                + encode("SET", "small", f"after:{turn}")
                + encode("SET", "large", LARGE)
                + encode("STRLEN", "large")
                + encode("GET", "small")
            )
            assert link.read() == b"OK"
            assert link.read() == [f"before:{turn}".encode(), BIG]
            assert link.read() == b"OK"
            assert link.read() == b"OK"
            assert link.read() == len(LARGE)
            assert link.read() == f"after:{turn}".encode()


class StickyRelay:
    """Passes bytes between Pointsman and a node; once it is told to, a connection on which much passes sticks, each for
    itself, and all of it stays where it is until it goes on."""

    def __init__(self, node_port):
        self.node_port = node_port
        self.is_sticky = False
        self.stuck = set()
        self.goes_on = threading.Event()
        self.sockets = []
        self.listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        try:
            while True:
                client, _ = self.listener.accept()
                node = socket.create_connection((HOST, self.node_port))
                self.sockets += [client, node]
                for pair in ((client, node), (node, client)):
                    threading.Thread(target=self._pass, args=(*pair, client), daemon=True).start()
        except OSError:
            pass

    def _pass(self, source, target, name):
        passed = 0
        try:
            while data := source.recv(16 * KIB):
                passed = passed + len(data) if self.is_sticky else 0
                if passed > STUCK_AFTER:
                    self.stuck.add(name)
                    self.goes_on.wait(60)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.goes_on.set()
        for each in (self.listener, *self.sockets):
            each.close()


@pytest.mark.parametrize(
    "command",
    [("GET", "big"), ("MGET", "small", "big"), ("KEYS", "*"), ("SORT", "list", "ALPHA"), ("SET", "large", LARGE * 8)],
    ids=lambda command: command[0].lower(),
)
def test_small_get_is_answered_while_something_large_of_another_client_is_on_its_way(alone, processes, command):
    with StickyRelay(alone.port) as relay:
        pointsman = started(relay.address, processes)
        with pointsman.raw(timeout=60) as bulk, pointsman.raw(timeout=20) as small, pointsman.raw(timeout=20) as late:
            expected = bulk.ask(*command)
            relay.is_sticky = True
            bulk.command(*command)
            wait_for(lambda: relay.stuck, what="what is large to be on its way")
            for number in range(20):
                assert small.ask("GET", "small") == late.ask("GET", "small") == b"s"
                assert small.ask("SET", f"own:{number}", number) == b"OK"
            assert len(relay.stuck) == 1
            relay.goes_on.set()
            assert bulk.read() == expected
            assert bulk.ask("GET", "small") == b"s"


def test_client_that_stops_reading_in_the_middle_of_10_mib_holds_nobody_up(alone, processes):
    """Neither others who fetch large values over the same connection, nor small ones."""
    pointsman = started(alone, processes)
    with pointsman.raw(receive_buffer=4096, timeout=60) as idle, pointsman.raw(timeout=60) as bulk:
        assert idle.ask("GET", "big") == BIG
        idle.command("GET", "big")
        assert idle.input.read(100 * KIB)
        with pointsman.raw(timeout=60) as small:
            for number in range(20):
                assert small.ask("GET", "small") == b"s"
                assert bulk.ask("GET", "big") == BIG
        before = pointsman.rss()
        for _ in range(20):
            assert bulk.ask("GET", "big") == BIG
        assert pointsman.rss() < before + 3 * len(BIG)
        rest = len(BIG) + len(b"$%d\r\n\r\n" % len(BIG)) - 100 * KIB
        assert len(idle.input.read(rest)) == rest
        assert idle.ask("GET", "small") == b"s"


def test_large_values_are_whole_both_ways_with_many_small_ones_beside(alone, processes):
    """Sockets are written to in parts, so that others have their turn."""
    pointsman = started(alone, processes)
    failures = []

    def copy(number):
        with pointsman.raw(timeout=60) as link:
            for turn in range(5):
                value = bytes([number, turn]) + BIG[: (3 + number) * MIB]
                ok, seen = link.ask("SET", f"copy:{number}", value), link.ask("GET", f"copy:{number}")
                if (ok, seen) != (b"OK", value):
                    failures.append((number, turn))

    def count(number):
        with pointsman.raw(timeout=60) as link:
            for turn in range(500):
                if link.ask("INCR", f"count:{number}") != turn + 1:
                    failures.append((number, turn))

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(3)]
    threads += [threading.Thread(target=count, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_large_reply_that_is_kept_costs_no_more_than_one_that_is_sent_on(alone, processes):
    """It comes in thousands of parts, and the command that brings it has very many words."""
    pointsman = started(alone, processes)
    command = encode("MGET", *["part"] * 200_000)
    with pointsman.raw(timeout=60) as link:
        link.ask("SET", "part", b"p" * 400)
        before = pointsman.cpu()
        assert len(link.send(command).read()) == 200_000
        sent_on = pointsman.cpu() - before
        link.send(encode("CLIENT", "REPLY", "SKIP") + command)
        assert link.ask("PING") == b"PONG"
        kept = pointsman.cpu() - before - sent_on
    assert kept < 4 * (sent_on + 0.05), (kept, sent_on)
