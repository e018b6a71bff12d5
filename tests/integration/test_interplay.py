# SPDX-License-Identifier: BSD-2-Clause
"""What one mechanism does to another: the pool to transactions, restoring to those who wait, asking to lending."""

import socket
import threading

import pytest

from harness import Forwarder, Pointsman, Reply, Server, encode, wait_for

REFUSAL = b"-ERR max number of clients reached\r\n"


class Doorkeeper(Forwarder):
    """Turns away the connections that begin with a word, as a server at its maxclients does, when told to."""

    def __init__(self, target_port):
        self.word = None
        self.has_come = threading.Event()
        self.may_refuse = threading.Event()
        super().__init__(target_port)

    def _pump(self, source, sink, gate, chunk):
        is_from_proxy = source.getsockname()[1] == self.port
        if is_from_proxy and self.word:
            try:
                begin = source.recv(1 << 16, socket.MSG_PEEK)
                if self.word and self.word in begin:
                    self.word = None
                    self.has_come.set()
                    self.may_refuse.wait(60)
                    source.recv(1 << 16)
                    source.sendall(REFUSAL)
                    source.shutdown(socket.SHUT_RDWR)
                    return
            except OSError:
                return
        super()._pump(source, sink, gate, chunk)


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
