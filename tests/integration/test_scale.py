# SPDX-License-Identifier: BSD-2-Clause
"""Many clients: what each costs while it does nothing, that each has its turn, and that none fills the queues of all."""

import pytest

from harness import SANITIZED, Pointsman, Server, encode, wait_for

MANY = 2000
AT_ONCE = 20
KIB, MIB = 1 << 10, 1 << 20
PER_IDLE_CLIENT = 1.5 * KIB
VALUE = b"x" * 64


@pytest.fixture
def alone(processes):
    return processes(Server("alone")).ready()


def started(server, processes, **keys):
    return processes(Pointsman(server.address, upstream_kind="static", **keys))


def ask_all(links, *commands):
    for first in range(0, len(links), AT_ONCE):
        for link in links[first : first + AT_ONCE]:
            link.send(b"".join(encode(*command) for command in commands))
        for link in links[first : first + AT_ONCE]:
            for _ in commands:
                link.read()


def close_all(links):
    while links:
        links.pop().close()


def warm_up(pointsman):
    """What is kept for all clients, however many there are, is there from now on."""
    links = [pointsman.raw(timeout=60) for _ in range(200)]
    ask_all(links, *[("GET", "value")] * 100)
    ask_all(links, ("GET", "large"))
    close_all(links)
    wait_for(lambda: "connected_clients:1\r" in pointsman.raw().ask("INFO", "clients").decode(), what="these to be gone")


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_an_idle_client_costs_little_memory_whatever_it_has_done_before(alone, processes):
    alone.client().set("value", VALUE)
    alone.client().set("large", b"y" * 64 * KIB)
    pointsman = started(alone, processes, proxy_threads=1)
    warm_up(pointsman)
    before = pointsman.rss()

    def costs_little():
        return (pointsman.rss() - before) / MANY < PER_IDLE_CLIENT

    links = [pointsman.raw(timeout=60) for _ in range(MANY)]
    wait_for(costs_little, 15, "memory of clients that have connected")
    ask_all(links, ("GET", "value"), ("SET", "other", "v"))
    ask_all(links, ("HELLO", 3), ("CLIENT", "SETINFO", "LIB-NAME", "redis-py"), ("CLIENT", "SETNAME", "me"), ("SELECT", 0))
    wait_for(costs_little, 15, "memory of clients that have said who they are")
    ask_all(links, *[("GET", "value")] * 100)
    wait_for(costs_little, 15, "memory of clients that have sent pipelines")
    ask_all(links, ("GET", "large"))
    ask_all(links, ("SET", "large", b"z" * 64 * KIB))
    wait_for(costs_little, 15, "memory of clients that have moved large values")
    close_all(links)
    wait_for(lambda: pointsman.rss() - before < 2 * MIB, 15, "memory of clients that have gone")


def test_each_of_many_clients_is_found_idle_though_others_come_and_go(alone, processes):
    pointsman = started(alone, processes, proxy_client_idle_timeout="2s", proxy_threads=1)
    links = [pointsman.raw(timeout=60) for _ in range(300)]
    assert all(link.ask("PING") == b"PONG" for link in links)
    for number in range(0, len(links), 3):
        links[number].close()
        links[number] = pointsman.raw(timeout=60)
    for link in links:
        assert link.input.read(1) == b"", "not closed"
        link.close()


def test_a_request_does_not_wait_behind_all_that_others_have_sent_in_pipelines(alone, processes):
    count, each = 40, 1000
    pointsman = started(alone, processes, proxy_threads=1, pool_health_interval="60s", proxy_request_timeout="60s")
    with pointsman.raw(timeout=60) as modest:
        assert modest.ask("SET", "counter", 0) == b"OK"
        links = [pointsman.raw(timeout=60) for _ in range(count)]
        alone.pause()
        try:
            for link in links:
                link.send(encode("INCR", "counter") * each)
            assert modest.ask("PING") == b"PONG"  # answered by the proxy itself, behind what it has read before
            modest.command("GET", "counter")
        finally:
            alone.resume()
        done_before = int(modest.read())
        assert done_before < 20000  # 8192 on the connection, and 256 of each client that comes on top of these
        seen = [link.read() for link in links for _ in range(each)]
        assert sorted(seen) == list(range(1, count * each + 1))
        for number in range(count):
            own = seen[number * each : (number + 1) * each]
            assert own == sorted(own)
    close_all(links)
