# SPDX-License-Identifier: BSD-2-Clause
"""Memory is bounded over all clients, and given back when it is not needed any more."""

import threading
import time

import pytest

from harness import SANITIZED, Pointsman, Server, encode, wait_for

MIB = 1 << 20
BOUND = 64 * MIB
SLACK = 64 * MIB  # the program itself, bytes on their way through it, what the allocator keeps


@pytest.fixture
def alone(processes):
    return processes(Server("alone")).ready()


def started(server, processes, **keys):
    return processes(Pointsman(server.address, upstream_kind="static", **keys))


def in_parallel(work, count):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Peak:
    """The most memory that a process has while this is entered."""

    def __init__(self, process):
        self.process, self.most = process, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self._stop.is_set():
            self.most = max(self.most, self.process.rss())
            time.sleep(0.01)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def read_all(link, size):
    while size > 0:
        part = link.input.read1(1 << 16)
        assert part, "closed"
        size -= len(part)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_memory_goes_back_after_pipelines_of_a_million_commands_and_values_of_100_mib(alone, processes):
    pointsman = started(alone, processes)
    before = pointsman.rss()
    answered = []

    def pipeline(number):
        with pointsman.raw(timeout=60) as link:
            data = encode("SET", f"k{number}", "v") * 5000
            sender = threading.Thread(target=lambda: [link.send(data) for _ in range(10)])
            sender.start()
            read_all(link, 50000 * len(b"+OK\r\n"))
            sender.join()
            answered.append(number)

    def large(number):
        value = b"x" * (100 * MIB)
        with pointsman.raw(timeout=60) as link:
            assert link.ask("SET", f"large{number}", value) == b"OK"
            assert len(link.ask("GET", f"large{number}")) == len(value)
            assert link.ask("DEL", f"large{number}") == 1
            answered.append(number)

    in_parallel(pipeline, 20)
    in_parallel(large, 2)
    assert len(answered) == 22
    wait_for(lambda: pointsman.rss() - before < 40 * MIB, 15, "memory to go back")


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_memory_of_a_hundred_thousand_requests_that_waited_goes_back(alone, processes):
    pointsman = started(alone, processes)
    before = pointsman.rss()
    links = [pointsman.raw(timeout=60) for _ in range(1600)]
    alone.pause()
    try:
        for link in links:
            link.send(encode("GET", "nothing") * 64)
        wait_for(lambda: pointsman.rss() - before > 20 * MIB, what="requests to wait")
    finally:
        alone.resume()
    for link in links:
        read_all(link, 64 * len(b"$-1\r\n"))
    wait_for(lambda: pointsman.rss() - before < 10 * MIB, 15, "memory to go back")
    for link in links:
        link.close()


def closed_for_memory(pointsman):
    return pointsman.log_text().count("closed: requests and replies take more than proxy.max_memory")


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_commands_that_never_end_are_bounded_over_all_clients(alone, processes):
    pointsman = started(alone, processes, proxy_max_memory=BOUND)
    before = pointsman.rss()
    part = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$%d\r\n" % (100 * MIB) + b"x" * (8 * MIB)
    with pointsman.raw(timeout=30) as modest, Peak(pointsman) as peak:
        links = [pointsman.raw(timeout=30) for _ in range(50)]
        for link in links:
            try:
                link.send(part)
            except OSError:
                pass  # closed in the midst of it
            assert modest.ask("SET", "b", 1) == b"OK"
        wait_for(lambda: "less than proxy.max_memory again" in pointsman.log_text(), what="the sum to be below the bound")
    for link in links:
        link.close()
    assert closed_for_memory(pointsman) >= 30
    assert peak.most - before < BOUND + SLACK
    assert pointsman.log_text().count("clients have to wait, those with most are closed") < 60


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_replies_that_nobody_reads_are_bounded_over_all_clients(alone, processes):
    pointsman = started(alone, processes, proxy_max_memory=BOUND)
    before = pointsman.rss()
    with pointsman.raw(timeout=30) as modest, Peak(pointsman) as peak:
        assert modest.ask("SET", "value", b"x" * (8 * MIB)) == b"OK"
        links = [pointsman.raw(timeout=30, receive_buffer=4096) for _ in range(40)]
        for link in links:
            link.command("GET", "value")
            assert modest.ask("EXISTS", "value") == 1
        wait_for(lambda: closed_for_memory(pointsman) >= 20, what="those with most to be closed")
        wait_for(lambda: "less than proxy.max_memory again" in pointsman.log_text(), what="the sum to be below the bound")
        assert modest.ask("PING") == b"PONG"
    for link in links:
        link.close()
    assert peak.most - before < BOUND + SLACK + 32 * MIB


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_pipelines_to_a_node_that_hangs_wait_at_their_clients_and_all_are_answered(alone, processes):
    pointsman = started(alone, processes, proxy_max_memory=BOUND, pool_health_interval="60s", proxy_request_timeout="60s")
    before = pointsman.rss()
    count, value = 100, b"v" * 16384
    pipeline = b"".join(encode("SET", f"k{number % 10}", value) for number in range(256))
    answered = []

    def work(_):
        with pointsman.raw(timeout=60) as link:
            link.send(pipeline)
            read_all(link, 256 * len(b"+OK\r\n"))
            answered.append(1)

    alone.pause()
    with Peak(pointsman) as peak:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        wait_for(lambda: "clients have to wait" in pointsman.log_text(), what="the bound to be reached")
        alone.resume()
        for thread in threads:
            thread.join()
    assert len(answered) == count
    assert closed_for_memory(pointsman) == 0
    assert peak.most - before < BOUND + SLACK


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_requests_that_are_held_are_bounded_over_all_clients(alone, processes):
    pointsman = started(alone, processes, proxy_max_memory=BOUND, failover_hold_bytes="1g", failover_hold_time="60s")
    before = pointsman.rss()
    alone.kill()
    with Peak(pointsman) as peak:
        links = [pointsman.raw(timeout=30) for _ in range(40)]
        for link in links:
            try:
                link.command("SET", "a", b"x" * (8 * MIB))
            except OSError:
                pass
        wait_for(lambda: closed_for_memory(pointsman) >= 20, what="those with most to be closed")
        wait_for(lambda: "less than proxy.max_memory again" in pointsman.log_text(), what="the sum to be below the bound")
    for link in links:
        link.close()
    assert peak.most - before < BOUND + SLACK + 32 * MIB
