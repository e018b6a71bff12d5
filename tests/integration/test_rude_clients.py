# SPDX-License-Identifier: BSD-2-Clause
"""Clients that do what they should not get true answers and leave nothing behind; test_faults.py has them in front of
nodes that come and go."""

import pathlib
import signal
import socket
import sys
import threading
import time

import pytest

from harness import HOST, SLOWNESS, Pointsman, Replication, Server, encode, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

from rude import RudeClient, fill  # noqa: E402

CLIENTS = 24
SEED = 7
DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxclients": 2000}


def run_clients(proxy, seconds, is_calm=False):
    """Lets clients talk for so long; returns them."""
    clients = [RudeClient(proxy.port, number, SEED, is_calm) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end and not any(client.error for client in clients):
        time.sleep(0.1)
    return clients


def end_clients(clients):
    for client in clients:
        client.is_over.set()
    for client in clients:
        client.join(60 * SLOWNESS)
        assert not client.is_alive(), f"{client.me} hangs"
    errors = [client.error for client in clients if client.error]
    assert not errors, "\n".join(errors)
    assert sum(client.answered for client in clients) > 100
    print("answered", sum(c.answered for c in clients), "errors", sum(c.errors for c in clients))


def check_books(cluster, clients):
    with cluster.master.client() as direct:
        for client in clients:
            value = int(direct.get(f"{client.me}:n") or 0)
            assert client.acked <= value <= client.acked + client.unknown, (
                f"{client.me}: {client.acked} acknowledged, {client.unknown} unknown, counted {value}"
            )


def check_baseline(cluster, pointsman, descriptors, connections):
    wait_for(lambda: pointsman.descriptors() <= descriptors + 30, 20, "descriptors to come down")
    wait_for(lambda: cluster.master.connected_clients() <= connections + 30, 20, "connections to come down")
    with pointsman.raw() as link:
        wait_for(lambda: len(link.ask("CLIENT", "LIST").splitlines()) == 1, 20, "all other clients to be gone")
    with cluster.master.client() as client:
        subscribed = client.execute_command("CLIENT", "LIST", "TYPE", "pubsub")
        blocked = client.info("clients")["blocked_clients"]
    assert blocked == 0 and not subscribed


@pytest.fixture
def static_cluster():
    cluster = Replication(replicas=2, sentinels=0, settings=DURABLE).start()
    yield cluster
    cluster.stop()


def test_clients_that_come_and_go_get_true_answers_and_leave_nothing_behind(static_cluster, processes):
    cluster = static_cluster
    fill(cluster.master)
    cluster.wait_synced()
    pointsman = processes(Pointsman(cluster, pool_wait="20s", pool_dedicated_connections=20, pool_idle_time="1s"))
    descriptors, connections = pointsman.descriptors(), cluster.master.connected_clients()
    clients = run_clients(pointsman, 6, is_calm=True)
    end_clients(clients)
    check_books(cluster, clients)
    check_baseline(cluster, pointsman, descriptors, connections)


def test_end_in_the_middle_of_everything_is_an_orderly_end(static_cluster, processes):
    """The loop is left between a client's event and the end of the loop turn."""
    fill(static_cluster.master)
    static_cluster.wait_synced()
    for signals in ([signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]):
        for drain_time in ("0", "300ms"):
            pointsman = processes(Pointsman(static_cluster, proxy_drain_time=drain_time))
            clients = run_clients(pointsman, 0.5)
            for number in signals:
                pointsman.signal(number)
                time.sleep(0.05)
            status = pointsman.wait(20)
            for client in clients:
                client.is_over.set()
            for client in clients:
                client.join(30)
            pointsman.check_log()
            assert status == 0


# ------------------------------------------------------------------------- one defect each, found by reading


@pytest.fixture(scope="module")
def alone():
    server = Server("alone").start().ready()
    yield server
    server.kill()


@pytest.mark.parametrize("command", ["HELLO 3", "CLIENT REPLY OFF", "AUTH secret", "SUBSCRIBE news", "SCRIPT DEBUG SYNC"])
def test_what_a_transaction_does_to_its_connection_is_not_lent_on(alone, processes, command):
    """Redis runs these at EXEC; the pool's only connection must not come back like that."""
    pointsman = processes(Pointsman(alone.address, pool_dedicated_connections=1, proxy_threads=1))
    with pointsman.raw() as first, pointsman.raw() as second:
        first.send(encode("MULTI") + encode(*command.split()) + encode("EXEC"))
        time.sleep(0.1)
        first.close()
        assert second.ask("BLPOP", "nothing", "0.01") is None
        second.send(encode("MULTI") + encode("HGETALL", "nothing") + encode("PUBLISH", "news", 1) + encode("EXEC"))
        assert [second.read() for _ in range(3)] == [b"OK", b"QUEUED", b"QUEUED"]
        assert second.read() == [[], 0]


def test_select_between_watch_and_exec_reaches_the_database_it_names(alone, processes):
    pointsman = processes(Pointsman(alone.address))
    commands = ["WATCH a", "SELECT 3", "SET a three", "UNWATCH", "MULTI", "SELECT 4", "SET a four", "EXEC", "GET a"]
    commands += ["SELECT 0", "GET a", "MULTI", "SELECT 99", "PING", "EXEC", "SET a zero", "WATCH a", "SELECT 98"]
    commands += ["MULTI", "GET a", "EXEC"]
    for at_once in (False, True):
        with pointsman.raw() as link, alone.client() as client:
            client.flushall()
            if at_once:
                link.send(b"".join(encode(*command.split()) for command in commands))
                answers = [link.read() for _ in commands]
            else:
                answers = [link.ask(*command.split()) for command in commands]
            assert answers[:11] == [b"OK"] * 5 + [b"QUEUED"] * 2 + [[b"OK", b"OK"], b"four", b"OK", None]
            assert answers[14][0] == b"ERR DB index is out of range"
            assert answers[15:] == [b"OK", b"OK", b"ERR DB index is out of range", b"OK", b"QUEUED", [b"zero"]]
            assert client.get("a") == b"zero"
            for number, value in ((3, b"three"), (4, b"four")):
                with alone.client(db=number) as other:
                    assert other.get("a") == value


def test_refused_transaction_of_a_subscriber_leaves_no_state(alone, processes):
    pointsman = processes(Pointsman(alone.address, pool_dedicated_connections=1, pool_wait="500ms"))
    commands = ["SUBSCRIBE c", "MULTI", "WATCH a", "MONITOR", "PING", "UNSUBSCRIBE c", "SET a 1", "PING"]
    for at_once in (False, True):
        with pointsman.raw() as link:
            if at_once:
                link.send(b"".join(encode(*command.split()) for command in commands))
                answers = [link.read() for _ in commands]
            else:
                answers = [link.ask(*command.split()) for command in commands]
            assert answers[0] == [b"subscribe", b"c", 1]
            assert all(b"Can't execute" in answer for answer in answers[1:4])
            assert answers[4:] == [[b"pong", b""], [b"unsubscribe", b"c", 0], b"OK", b"PONG"]
            with pointsman.raw() as other:
                assert other.ask("BLPOP", "nothing", "0.01") is None


def test_half_closed_client_gets_its_client_list(alone, processes):
    pointsman = processes(Pointsman(alone.address))
    with pointsman.raw() as link:
        own = b"id=%d " % link.ask("CLIENT", "ID")
        link.command("CLIENT", "LIST").socket.shutdown(socket.SHUT_WR)
        # Another thread may not have seen yet that a client of before this test has gone.
        assert [line.startswith(own) for line in link.read().splitlines()].count(True) == 1
        assert link.socket.recv(1) == b""


def test_held_requests_that_end_their_client_end_it_once(processes):
    """Their errors go beyond its output limit while the others are still held."""
    server = processes(Server("lost")).ready()
    pointsman = processes(
        Pointsman(server.address, proxy_threads=1, failover_hold_time="300ms", proxy_client_output_limit="1k")
    )
    with pointsman.raw() as link:
        server.pause()
        link.send(encode("GET", "a") * 200)
        time.sleep(0.3)
        server.kill()
        with pytest.raises((EOFError, ConnectionError)):
            for _ in range(200):
                link.read()
    with pointsman.raw() as link:
        assert link.ask("PING") == b"PONG"


def test_reads_go_to_replicas_again_after_a_write_was_held(static_cluster, processes):
    cluster = static_cluster
    pointsman = processes(Pointsman(cluster, proxy_threads=1)).wait_for_replicas(2)
    master = cluster.servers[0]
    with pointsman.raw() as link:
        master.client().execute_command("REPLICAOF", HOST, cluster.servers[1].port)
        link.send(encode("SET", "a", 1))
        time.sleep(0.3)
        master.replicaof(None)
        assert link.read() == b"OK"
        pointsman.wait_for_replicas(2)
        with cluster.counting() as counts:
            for _ in range(50):
                link.ask("STRLEN", "a")
        assert counts.calls(master, "strlen") == 0


def test_held_write_has_its_time_for_a_reply_when_it_is_sent(processes):
    server = processes(Server("late")).ready()
    pointsman = processes(Pointsman(server.address, proxy_threads=1, proxy_request_timeout="1500ms"))
    with pointsman.raw() as link, pointsman.raw() as other:
        server.kill()
        time.sleep(0.2)
        link.send(encode("EVAL", "for i = 1, 6000000 do end return 1", 0))  # longer than a tick
        time.sleep(2)
        assert other.ask("PING") == b"PONG"
        server.start()
        assert link.read() == 1


def test_command_of_many_words_costs_no_more_than_its_size(alone, processes):
    pointsman = processes(Pointsman(alone.address, proxy_threads=1))
    words = 400_000
    data = encode("DEL", *(b"key-of-some-length-%029d" % number for number in range(words)))
    with pointsman.raw(timeout=60) as link:
        before = pointsman.cpu()
        for start in range(0, len(data), 5000):
            link.send(data[start : start + 5000])
        assert link.read() == 0
        assert pointsman.cpu() - before < 2 * SLOWNESS


def test_client_that_does_not_read_a_large_array_is_closed_at_its_limit(alone, processes):
    pointsman = processes(Pointsman(alone.address, proxy_threads=1, proxy_client_output_limit="4m"))
    with alone.client() as client:
        for _ in range(10):
            client.rpush("long", *([b"x" * 100_000] * 50))
    before = pointsman.rss()
    with pointsman.raw() as link:
        link.command("LRANGE", "long", 0, -1)
        wait_for(lambda: "client_output_limit reached" in pointsman.log_text(), 10, "the limit to be seen")
        if not SLOWNESS > 1:
            assert pointsman.rss() - before < 40 * 1024 * 1024


def test_subscriber_of_a_loading_node_gets_its_answers_in_order(processes):
    """PING is refused while the node loads, SUBSCRIBE is not, and confirmations do not wait for replies."""
    server = processes(Server("loading", settings={"key-load-delay": 500, "loading-process-events-interval-bytes": 1024}))
    server.ready()
    pointsman = processes(Pointsman(server.address, proxy_threads=1))
    with server.client() as client, pointsman.raw() as link:
        client.execute_command("DEBUG", "POPULATE", 4000, "k", 100)
        assert link.ask("SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
        reload = threading.Thread(target=client.execute_command, args=("DEBUG", "RELOAD"))
        reload.start()
        wait_for(lambda: server.raw().ask("GET", "a") is not None, 5, "the node to load", every=0.01)
        link.send(encode("PING") + encode("UNSUBSCRIBE", "c"))
        first, second = link.read(), link.read()
        assert first == [b"pong", b""] or first.startswith(b"LOADING")
        assert second == [b"unsubscribe", b"c", 0]
        reload.join()


@pytest.mark.parametrize("limit", ["128k", "256k"])
def test_who_reads_is_not_closed_for_what_one_turn_brings_of_a_reply_larger_than_the_limit(processes, limit):
    alone = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(alone.address, upstream_kind="static", proxy_client_output_limit=limit))
    size = 1 << 20
    with pointsman.raw() as link:
        link.ask("SET", "large", "x" * size)
        for _ in range(100):
            assert len(link.ask("GET", "large")) == size
