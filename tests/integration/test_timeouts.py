# SPDX-License-Identifier: BSD-2-Clause
"""Requests without a reply in time: each class by its own time, and a late reply is nobody's."""

import os
import threading
import time

import pytest

from harness import Pointsman, Server, encode, wait_for

READ_LATE = b"ERR pointsman: no reply within proxy.request_timeout"
UNKNOWN = b"outcome unknown"


@pytest.fixture
def alone(processes):
    return processes(Server("alone")).ready()


def started(server, processes, **keys):
    keys.setdefault("pool_health_interval", "60s")  # a node that sleeps is let be by the probe
    return processes(Pointsman(server.address, upstream_kind="static", proxy_threads=1, **keys))


def sleeping(server, seconds):
    """A connection on which the node is put to sleep; to be read from when it wakes."""
    link = server.raw(timeout=30)
    link.command("DEBUG", "SLEEP", seconds)
    time.sleep(0.1)
    return link


def test_read_is_given_up_in_its_time_and_the_write_on_the_same_connection_is_not(alone, processes):
    pointsman = started(alone, processes, proxy_read_timeout="300ms", proxy_write_timeout="20s")
    with pointsman.raw(timeout=30) as writer, pointsman.raw(timeout=30) as reader:
        assert writer.ask("SET", "n", 1) == b"OK"
        before = alone.connections_received()
        with sleeping(alone, 2) as nap:
            start = time.monotonic()
            reader.command("GET", "n")
            time.sleep(0.05)
            writer.command("INCR", "n")
            assert reader.read() == READ_LATE
            assert time.monotonic() - start < 1.8
            assert nap.read() == b"OK"
        assert writer.read() == 2
        assert reader.ask("GET", "n") == b"2"
        assert alone.connections_received() - before < 8


def test_write_is_given_up_in_its_time_and_the_read_before_it_is_answered(alone, processes):
    pointsman = started(alone, processes, proxy_read_timeout="20s", proxy_write_timeout="300ms")
    with pointsman.raw(timeout=30) as writer, pointsman.raw(timeout=30) as reader:
        assert writer.ask("SET", "n", 1) == b"OK"
        with sleeping(alone, 2) as nap:
            start = time.monotonic()
            reader.command("GET", "n")
            time.sleep(0.05)
            writer.command("INCR", "n")
            assert UNKNOWN in writer.read()
            assert time.monotonic() - start < 1.8
            assert nap.read() == b"OK"
        assert reader.read() == b"1"
        assert writer.ask("SET", "m", 5) == b"OK"


def test_each_class_has_the_common_time_unless_it_has_its_own(alone, processes):
    pointsman = started(alone, processes, proxy_request_timeout="300ms", proxy_write_timeout="20s")
    with pointsman.raw(timeout=30) as link, pointsman.raw(timeout=30) as other:
        with sleeping(alone, 1.5) as nap:
            other.command("SET", "a", 1)
            link.command("GET", "a")
            assert link.read() == READ_LATE
            assert nap.read() == b"OK"
        assert other.read() == b"OK"


def test_transaction_and_script_have_the_time_of_writes(alone, processes):
    pointsman = started(alone, processes, proxy_read_timeout="200ms", proxy_write_timeout="20s")
    with pointsman.raw(timeout=30) as link, pointsman.raw(timeout=30) as script:
        assert script.ask("EVAL", "return 1", 0) == 1
        with sleeping(alone, 1):
            script.command("EVAL", "return 2", 0)
            link.send(encode("MULTI") + encode("INCR", "a") + encode("EXEC"))
            assert [link.read(), link.read(), link.read()] == [b"OK", b"QUEUED", [1]]
            assert script.read() == 2


def test_blocking_command_is_not_cut_by_the_times_of_reads_and_writes(alone, processes):
    pointsman = started(alone, processes, proxy_read_timeout="200ms", proxy_write_timeout="200ms")
    with pointsman.raw(timeout=30) as link, pointsman.raw() as pusher:
        link.command("BLPOP", "q", 0)
        assert link.is_silent(1)
        assert pusher.ask("RPUSH", "q", "x") == 1
        assert link.read() == [b"q", b"x"]


def test_node_that_stays_silent_keeps_no_connection_for_ever(alone, processes):
    pointsman = started(alone, processes, proxy_read_timeout="200ms", proxy_write_timeout="1s")
    with pointsman.raw(timeout=30) as writer, pointsman.raw(timeout=30) as reader:
        assert writer.ask("SET", "n", 1) == b"OK"
        before = pointsman.descriptors()
        alone.pause()
        try:
            writer.command("INCR", "n")
            reader.command("GET", "n")
            assert reader.read() == READ_LATE
            assert UNKNOWN in writer.read()
        finally:
            alone.resume()
        wait_for(pointsman.writes, 20, "writes to pass again")
        wait_for(lambda: pointsman.descriptors() <= before + 1, 20, "the old connection to be closed")


@pytest.mark.parametrize("keys", [{"proxy_request_timeout": "300ms"},
                                  {"proxy_read_timeout": "300ms", "proxy_write_timeout": "400ms"}])
def test_late_reply_is_given_to_nobody(alone, processes, keys):
    """Thirty clients read values that are theirs alone, while the node falls asleep for longer than they wait."""
    pointsman = started(alone, processes, failover_hold_time="20s", **keys)
    count, rounds = 30, 3
    with alone.client() as client:
        for number in range(count):
            client.set(f"own:{number}", f"value:{number}")
    wrong, late, right = [], [], []
    stop = threading.Event()

    def read(number):
        with pointsman.raw(timeout=30) as link:
            while not stop.is_set():
                answer = link.ask("SET", f"w:{number}", number) if len(right) % 5 == 0 else link.ask("GET", f"own:{number}")
                if answer in (b"OK", f"value:{number}".encode()):
                    right.append(answer)
                elif b"pointsman:" in (answer or b""):
                    late.append(answer)
                else:
                    wrong.append((number, answer))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(rounds):
            before = len(right)
            with sleeping(alone, 1) as nap:
                assert nap.read() == b"OK"
            wait_for(lambda: len(right) > before + 5 * count, 20, "reads to go on")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert late and right


def test_a_client_whose_machine_has_gone_is_found_by_probes_of_tcp_that_begin_after_five_minutes(alone, processes):
    pointsman = started(alone, processes)
    with pointsman.raw() as link:
        assert link.ask("PING") == b"PONG"
        here = f"{link.socket.getsockname()[1]:04X}"
        kind, ticks = "", ""
        for line in open("/proc/net/tcp"):  # see proc(5)
            fields = line.split()
            if fields[2].endswith(f":{here}"):
                kind, ticks = fields[5].split(":")
        assert kind == "02", "the keepalive timer runs"
        assert 280 < int(ticks, 16) / os.sysconf("SC_CLK_TCK") <= 300
