# SPDX-License-Identifier: BSD-2-Clause
"""What one mechanism does to another: the pool to transactions, restoring to those who wait, asking to lending."""

import socket
import threading
import time

import pytest

from harness import Forwarder, Pointsman, Reply, Server, encode, wait_for

REFUSAL = b"-ERR max number of clients reached\r\n"


class Gate:
    """In the way of what the server says on one connection."""

    def __init__(self, door, near):
        self.door = door
        self.near = near

    def wait(self):
        while self.door.holds(self.door.begins.get(self.near, b"")):
            time.sleep(0.01)


class Doorkeeper(Forwarder):
    """Knows connections by the words that they begin with. Turns one away, as a server at its maxclients does; ends
    one; lets what the server says on some wait."""

    def __init__(self, target_port):
        self.word = None
        self.is_stubborn = False  # turns all such away, not just the first
        self.has_come = threading.Event()
        self.may_refuse = threading.Event()
        self.begins = {}
        self.holds = lambda begin: False
        super().__init__(target_port)

    def _pump(self, source, sink, gate, chunk):
        try:
            is_from_proxy = source.getsockname()[1] == self.port
            if is_from_proxy and self._turns_away(source):
                return
            if not is_from_proxy:
                gate = Gate(self, sink)
            super()._pump(source, sink, gate, chunk)
        except OSError:
            pass  # ended by us

    def end(self, word):
        for near in [near for near, begin in self.begins.items() if word in begin and b"BLPOP" not in begin]:
            near.shutdown(socket.SHUT_RDWR)

    def _turns_away(self, source):
        begin = self.begins[source] = source.recv(1 << 16, socket.MSG_PEEK)
        if not self.word or self.word not in begin:
            return False
        if not self.is_stubborn:
            self.word = None
        self.has_come.set()
        self.may_refuse.wait(60)
        source.recv(1 << 16)
        source.sendall(REFUSAL)
        source.shutdown(socket.SHUT_RDWR)
        return True


@pytest.fixture
def server(processes):
    return processes(Server("behind")).ready()


@pytest.fixture
def door(server):
    with Doorkeeper(server.port) as forwarder:
        yield forwarder


def in_info(server, field):
    return server.info("clients")[field]


def test_rest_of_a_transaction_is_not_carried_out_without_its_beginning(server, door, processes):
    """MULTI waits for a connection in vain, when the commands after it are on their way already."""
    pointsman = processes(
        Pointsman(door.address, proxy_threads=1, pool_dedicated_connections=1, pool_wait="1s", failover_hold_time="30s")
    )
    door.word = b"MULTI"
    with pointsman.raw(timeout=60) as client, pointsman.raw(timeout=60) as blocker:
        client.send(encode("MULTI") + encode("SET", "x", 1) + encode("SET", "y", 1) + encode("EXEC"))
        assert door.has_come.wait(30)
        blocker.command("BLPOP", "nothing", 0)
        with pointsman.raw() as other:
            wait_for(lambda: b"cmd=blpop" in other.ask("CLIENT", "LIST"), what="the blocker to have sent its command")
        door.may_refuse.set()
        wait_for(lambda: in_info(server, "blocked_clients") == 1, what="the blocker to have the only connection")
        first = client.read()
        door.cut()  # whatever was held is looked at once more
        rest = [client.read() for _ in range(3)]
        with server.client() as direct:
            found = direct.mget("x", "y")
        if isinstance(rest[2], Reply):
            assert isinstance(first, Reply) and all(isinstance(answer, Reply) for answer in rest)
            assert found == [None, None]
        else:
            assert rest[2] == [b"OK", b"OK"] and found == [b"1", b"1"]


def test_connection_that_is_given_back_does_not_serve_a_suspect_master(server, door, processes):
    """Another connection to the master broke, and it was not asked since whether it still is the master."""
    pointsman = processes(
        Pointsman(door.address, proxy_threads=1, pool_dedicated_connections=1, pool_wait="60s", failover_hold_time="60s")
    )
    with pointsman.raw(timeout=60) as blocker, pointsman.raw(timeout=60) as client, server.client() as direct:
        blocker.command("BLPOP", "list", 0)
        wait_for(lambda: in_info(server, "blocked_clients") == 1, what="the blocker to have the only connection")
        client.command("MULTI")
        assert client.is_silent(0.3)
        with pointsman.raw() as another:
            assert another.ask("SELECT", 1) == b"OK" and another.ask("SET", "x", 0) == b"OK"
        door.holds = lambda begin: b"BLPOP" not in begin
        door.end(b"SELECT")
        time.sleep(0.1)  # it has read that end before the next command comes
        with pointsman.raw(timeout=60) as other:
            other.command("SET", "x", 1)
            wait_for(lambda: "requests are held" in pointsman.log_text(), what="pointsman to suspect the master")
        direct.rpush("list", "e")
        assert blocker.read() == [b"list", b"e"]
        assert client.is_silent(0.5)
        door.holds = lambda begin: False
        assert client.read() == b"OK"


def test_client_whose_session_is_lost_gets_errors_for_all_that_it_sends(server, processes):
    """Tracking waits for a master as long as it takes; commands do not."""
    pointsman = processes(Pointsman(server.address, failover_hold_time="1s"))
    with pointsman.raw(timeout=60) as client:
        client.ask("HELLO", 3)
        assert client.ask("CLIENT", "TRACKING", "ON") == b"OK"
        server.kill()
        assert client.read() == [b"invalidate", None]
        client.send(encode("GET", "x") + encode("SET", "x", 1) + encode("GET", "x"))
        for _ in range(3):
            assert b"no master within failover.hold_time" in client.read()
        for protocol in (2, 3):
            assert not isinstance(client.ask("HELLO", protocol), Reply)
        server.start().ready()
        wait_for(lambda: client.ask("SET", "x", 2) == b"OK", what="a write at the master that is back")
        assert client.ask("GET", "x") == b"2"
        with server.client() as direct:
            direct.set("x", 3)
        assert client.read() == [b"invalidate", [b"x"]]


def test_connection_of_a_command_that_was_unblocked_before_it_left_is_given_back(server, door, processes):
    pointsman = processes(Pointsman(door.address, proxy_threads=1, pool_dedicated_connections=1, pool_wait="2s"))
    with pointsman.raw(timeout=60) as first, pointsman.raw(timeout=60) as second, pointsman.raw() as third:
        assert first.ask("SELECT", 1) == second.ask("SELECT", 1) == b"OK"
        number = first.ask("CLIENT", "ID")
        door.holds = lambda begin: b"SELECT" in begin
        first.command("BLPOP", "nothing", 0)
        assert wait_for(lambda: third.ask("CLIENT", "UNBLOCK", number), what="the command to be taken back") == 1
        assert first.read() is None
        door.holds = lambda begin: False
        second.command("BLPOP", "nothing", 0)
        wait_for(lambda: in_info(server, "blocked_clients") == 1, 5, "the next one to get the only connection")
        assert first.ask("PING") == b"PONG"


def test_blocking_command_whose_connection_is_refused_again_and_again_ends_with_an_error(door, processes):
    """It is not held anew each time: no node has had it."""
    pointsman = processes(Pointsman(door.address, failover_hold_time="2s"))
    door.word = b"ID"
    door.is_stubborn = True
    door.may_refuse.set()
    said_before = pointsman.log_text().count("requests are held")
    with pointsman.raw(timeout=20) as client:
        client.command("BLPOP", "list", 0)
        assert b"no master within failover.hold_time" in client.read()
    assert pointsman.log_text().count("requests are held") <= said_before + 3  # not once per attempt


def test_scan_after_a_busy_script_has_cursors_that_know_their_node(server, processes):
    """The script keeps the node from telling which one it is."""
    pointsman = processes(Pointsman(server.address, proxy_threads=1))
    with pointsman.raw(timeout=60) as client, server.client() as direct, server.raw() as busy:
        direct.mset({f"key:{number}": 1 for number in range(100)})
        direct.config_set("busy-reply-threshold", 10)
        busy.command("EVAL", "while true do end", 0)
        wait_for(lambda: client.ask("SCAN", 0, "COUNT", 2).startswith(b"BUSY"), what="the node to be busy")
        direct.execute_command("SCRIPT", "KILL")
        cursor, _ = wait_for(lambda: isinstance(answer := client.ask("SCAN", 0, "COUNT", 2), list) and answer)
        assert int(cursor) >> 40


def test_write_of_a_subscriber_in_resp3_waits_for_a_master_like_any_other(server, processes):
    """A node that has just lost its role refuses it; the subscription goes on, too."""
    pointsman = processes(Pointsman(server.address, failover_hold_time="60s"))
    with pointsman.raw(timeout=60) as client, server.client() as direct:
        client.ask("HELLO", 3)
        client.command("SUBSCRIBE", "news")
        assert client.read() == [b"subscribe", b"news", 1]
        direct.execute_command("REPLICAOF", "127.0.0.1", 1)
        client.command("SET", "x", 1)
        assert client.is_silent(0.5)
        direct.execute_command("REPLICAOF", "NO", "ONE")
        assert client.read() == b"OK"
        wait_for(lambda: direct.publish("news", "hello") == 1, what="the subscription to be restored")
        assert client.read() == [b"message", b"news", b"hello"]
