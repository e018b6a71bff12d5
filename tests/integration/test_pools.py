# SPDX-License-Identifier: BSD-2-Clause
"""Connections to the nodes: how many, how old, how fast they come back."""

import threading
import time

import pytest

from harness import Forwarder, Pointsman, Replication, Server, encode, wait_for

PACE = 16  # connections on their way to a node at a time


@pytest.fixture
def alone(processes):
    return processes(Server("alone")).ready()


@pytest.fixture(scope="module")
def pair():
    replication = Replication(replicas=1, sentinels=0).start()
    yield replication
    replication.stop()


def started(server, processes, **keys):
    return processes(Pointsman(server.address, upstream_kind="static", **keys))


def connections(server, *names):
    """CLIENT LIST of a node without ourselves and the probe: those that sent one of these last, or all."""
    with server.client() as client:
        listed = [entry for entry in client.client_list() if entry["cmd"] not in ("client|list", "client")]
    return [entry for entry in listed if not names or entry["cmd"] in names]


def in_parallel(work, count):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


# ------------------------------------------------------------------------------------------------------ lifetime


def test_old_connections_are_replaced_and_nobody_notices(alone, processes):
    """Every client's answers are right and in order while the connections below it change all the time."""
    pointsman = started(alone, processes, pool_lifetime="500ms", proxy_threads=2)
    before, wrong, stop, rounds = alone.connections_received(), [], threading.Event(), []
    warnings = pointsman.log_text().count("warning")

    def work(number):
        with pointsman.raw(timeout=20) as link:
            expected = 0
            while not stop.is_set():
                link.send(encode("INCR", f"n{number}") * 50 + encode("GET", f"n{number}"))
                answers = [link.read() for _ in range(51)]
                if answers != [*range(expected + 1, expected + 51), str(expected + 50).encode()]:
                    wrong.append(answers)
                expected += 50
                link.send(encode("MULTI") + encode("INCR", f"t{number}") + encode("EXEC"))
                if [link.read(), link.read()] != [b"OK", b"QUEUED"] or len(link.read()) != 1:
                    wrong.append("transaction")
                rounds.append(1)

    threads = in_parallel(work, 8)
    try:
        wait_for(lambda: alone.connections_received() - before > 25, 30, "connections to be replaced")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == [] and len(rounds) > 8
    assert pointsman.log_text().count("warning") == warnings


def test_connection_of_a_client_in_a_transaction_or_with_subscriptions_is_not_cut_for_its_age(alone, processes):
    pointsman = started(alone, processes, pool_lifetime="300ms", proxy_threads=1)
    with pointsman.raw() as link, pointsman.raw() as subscriber, pointsman.raw() as publisher:
        assert link.ask("WATCH", "w") == b"OK"
        assert link.ask("MULTI") == b"OK"
        assert link.ask("SET", "w", 1) == b"QUEUED"
        subscriber.ask("SUBSCRIBE", "news")
        busy = lambda: [entry["id"] for entry in connections(alone) if entry["multi"] != "-1" or entry["sub"] != "0"]
        before = busy()
        time.sleep(1)
        assert len(before) == 2 and busy() == before
        assert publisher.ask("PUBLISH", "news", "x") == 1
        assert subscriber.read() == [b"message", b"news", b"x"]
        assert link.ask("EXEC") == [b"OK"]


def test_lifetime_of_zero_keeps_connections(alone, processes):
    pointsman = started(alone, processes, pool_lifetime="0", proxy_threads=1)
    with pointsman.raw() as link:
        assert link.ask("SET", "a", 1) == b"OK"
        received = alone.connections_received()
        for _ in range(10):
            time.sleep(0.1)
            assert link.ask("GET", "a") == b"1"
        assert alone.connections_received() - received <= 2  # our own questions


# ---------------------------------------------------------------------------------------------- ahead of need


def test_shared_connections_are_there_before_the_first_client(pair, processes):
    before = [server.connected_clients() for server in pair.servers]
    processes(Pointsman(pair, wait="listen", proxy_threads=3, pool_shared_connections=2))
    expected = 3 * 2 + 1  # and the probe
    for server, count in zip(pair.servers, before):
        wait_for(lambda s=server, c=count: s.connected_clients() - c == expected, what="shared connections to be open")


def test_shared_connections_come_back_when_they_are_lost(alone, processes):
    pointsman = started(alone, processes, wait="listen", proxy_threads=2)
    wait_for(lambda: len(connections(alone, "ping")) == 2, what="shared connections to be open")
    alone.restart()
    wait_for(lambda: len(connections(alone, "ping")) == 2, what="shared connections to be open again")
    wait_for(pointsman.writes, what="writes to pass")


def test_shared_connections_that_nobody_uses_are_closed_and_not_opened_again(alone, processes):
    started(alone, processes, wait="listen", proxy_threads=2, pool_idle_time="500ms")
    wait_for(lambda: len(connections(alone, "ping")) == 2, what="shared connections to be open")
    wait_for(lambda: not connections(alone, "ping"), what="them to be closed")
    time.sleep(1)
    assert not connections(alone, "ping")


def test_replicas_get_no_connections_where_reads_go_to_the_master_alone(pair, processes):
    replica = pair.servers[1]
    before = replica.connected_clients()
    pointsman = processes(Pointsman(pair, proxy_threads=2, reads_policy="master"))
    with pointsman.raw() as link:
        assert link.ask("GET", "nothing") is None
    time.sleep(0.5)
    assert replica.connected_clients() - before == 1  # the probe


@pytest.mark.parametrize("threads, warm", [(1, 3), (4, 6)])
def test_warm_connections_are_kept_and_used(alone, processes, threads, warm):
    keys = {"pool_warm_connections": warm, "pool_idle_time": "300ms", "proxy_threads": threads}
    pointsman = started(alone, processes, wait="listen", **keys)
    idle = lambda: len(connections(alone, "NULL"))  # nothing was ever asked on them
    wait_for(lambda: idle() == warm, what="connections to be warm")
    time.sleep(1)
    assert idle() == warm
    received = alone.connections_received()
    with pointsman.raw() as link:
        link.send(encode("MULTI") + encode("INCR", "a") + encode("EXEC"))
        assert [link.read(), link.read(), link.read()] == [b"OK", b"QUEUED", [1]]
    assert alone.connections_received() - received <= 3  # a shared one perhaps, and our own questions
    with alone.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    wait_for(lambda: len(connections(alone, "NULL")) == warm, what="connections to be warm again")


# --------------------------------------------------------------------------------------------------------- bounds


def test_pool_of_four_threads_is_never_larger_than_configured_and_serves_all_who_wait(alone, processes):
    pointsman = started(alone, processes, proxy_threads=4, pool_dedicated_connections=7, pool_wait="60s")
    most, stop = [0], threading.Event()

    def watch():
        with alone.raw() as link:
            while not stop.is_set():
                text = link.ask("CLIENT", "LIST").decode()
                most[0] = max(most[0], text.count("cmd=multi") + text.count("cmd=incr") + text.count("cmd=exec"))

    done = []

    def work(number):
        with pointsman.raw(timeout=60) as link:
            for _ in range(20):
                assert link.ask("MULTI") == b"OK"
                assert link.ask("INCR", "sum") == b"QUEUED"
                assert len(link.ask("EXEC")) == 1
            done.append(number)

    watching = in_parallel(lambda _: watch(), 1)
    threads = in_parallel(work, 60)
    for thread in threads:
        thread.join()
    stop.set()
    for thread in watching:
        thread.join()
    assert len(done) == 60
    with pointsman.raw() as link:
        assert link.ask("GET", "sum") == b"1200"
    assert 0 < most[0] <= 7


@pytest.mark.parametrize("threads", [1, 2])
def test_connections_on_their_way_to_a_node_are_few_at_a_time(processes, threads):
    """A node that takes connections and is slow to greet them, as one that two thousand come back to."""
    server = processes(Server("guarded", password="secret")).ready()
    with Forwarder(server.port) as relay:
        pointsman = processes(
            Pointsman(relay.address, upstream_kind="static", upstream_password="secret", proxy_threads=threads,
                      pool_dedicated_connections=500, pool_wait="60s", upstream_connect_timeout="20s",
                      pool_health_interval="60s")
        )
        links = [pointsman.raw(timeout=60) for _ in range(300)]
        try:
            before = relay.accepted
            relay.hold_replies()
            for link in links:
                link.command("MULTI")
            wait_for(lambda: relay.accepted - before >= PACE // 2, what="connections to be on their way")
            time.sleep(1)
            assert relay.accepted - before <= PACE + 2 * threads
            relay.release_replies()
            for link in links:
                assert link.read() == b"OK"
            assert relay.accepted - before <= 300 + 3 * threads
        finally:
            for link in links:
                link.close()


def test_restarted_master_is_not_buried_by_two_thousand_clients_in_transactions(alone, processes):
    pointsman = started(alone, processes, proxy_threads=2, pool_wait="60s", failover_hold_time="60s")
    links = [pointsman.raw(timeout=60) for _ in range(2000)]
    try:
        def transact(values):
            for link in links:
                link.send(encode("MULTI") + encode("INCR", "sum") + encode("EXEC"))
            for link in links:
                assert [link.read(), link.read()] == [b"OK", b"QUEUED"]
                values.append(link.read())

        first = []
        transact(first)
        assert sorted(value[0] for value in first) == list(range(1, 2001))
        alone.restart()
        second = []
        transact(second)
        assert sorted(value[0] for value in second) == list(range(1, 2001))
        assert alone.connections_received() < 50 + 30  # the pool; shared ones, the probe, trials, our own
    finally:
        for link in links:
            link.close()
