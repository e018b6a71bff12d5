# SPDX-License-Identifier: BSD-2-Clause
"""Where SYNC, PSYNC and REPLCONF are let through, a client of pointsman can be a replica of the master."""

import subprocess

import pytest

from harness import HOST, SLOWNESS, Pointsman, Replication, Server, encode, wait_for

ALLOWED = "sync, psync, replconf"


@pytest.fixture
def pair():
    replication = Replication(replicas=1, sentinels=0).start()
    yield replication
    replication.stop()


def test_server_replicates_through_the_proxy_both_ways(processes, pair):
    """Its acknowledgements go up, so WAIT counts it; a large value and many small ones come down."""
    pointsman = processes(Pointsman(pair, admin_allow_dangerous=ALLOWED))
    with pointsman.client() as client:
        client.set("before", "x" * 3_000_000)
        behind = processes(Server("behind", replica_of=pointsman)).ready()
        wait_for(behind.link_is_up, 20, "it to follow")
        with client.pipeline(transaction=False) as pipe:
            for number in range(20_000):
                pipe.rpush("list", f"element {number}")
            pipe.execute()
        wait_for(lambda: client.wait(2, 1000) == 2, 20, "both replicas to acknowledge")
    with behind.client() as own:
        assert (own.strlen("before"), own.llen("list")) == (3_000_000, 20_000)


def test_link_ends_when_another_master_is_chosen_and_begins_again_there(processes, pair):
    pointsman = processes(Pointsman(pair, admin_allow_dangerous=ALLOWED))
    old, new = pair.servers
    behind = processes(Server("behind", replica_of=pointsman)).ready()
    wait_for(behind.link_is_up, 20, "it to follow")
    new.replicaof(None)
    old.replicaof(new)
    wait_for(pointsman.writes, 20, "writes to reach the new master")
    with pointsman.client() as client, behind.client() as own:
        client.set("k", "from the new master")
        wait_for(lambda: own.get("k") == b"from the new master", 30, "it to follow the new master")


@pytest.mark.parametrize("password", [None, "secret"])
def test_redis_cli_takes_a_dump_of_the_master(processes, tmp_path, password):
    server = processes(Server("alone", password=password)).ready()
    pointsman = processes(Pointsman(server.address, admin_allow_dangerous=ALLOWED, upstream_password=password or ""))
    with pointsman.client() as client:
        client.mset({f"key:{number}": "v" * 100 for number in range(5000)})
        keys = client.dbsize()
    file = tmp_path / "dump.rdb"
    command = ["redis-cli", "-h", HOST, "-p", str(pointsman.port), "--rdb", str(file)]
    done = subprocess.run(command, timeout=30 * SLOWNESS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check = subprocess.run(["redis-check-rdb", str(file)], capture_output=True, text=True, check=False)
    assert check.returncode == 0 and "RDB looks OK" in check.stdout and f"{keys} keys read" in check.stdout


def test_commands_before_and_behind_keep_their_places(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, admin_allow_dangerous=ALLOWED))
    with pointsman.raw() as link:
        link.send(encode("SET", "a", 1) + encode("GET", "a") + encode("REPLCONF", "capa", "eof") + encode("PING"))
        assert [link.read() for _ in range(4)] == [b"OK", b"1", b"OK", b"PONG"]
        link.send(b"SYNC\r\n")
        assert link.socket.recv(1)[:1] in (b"\n", b"$")


def test_what_is_not_named_is_still_refused_and_nothing_stays_behind(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, admin_allow_dangerous="replconf"))
    before = server.connected_clients()
    with pointsman.raw() as link:
        assert b"replication through the proxy is refused" in link.ask("SYNC")
        assert link.ask("REPLCONF", "listening-port", 1) == b"OK"
        wait_for(lambda: server.connected_clients() == before + 1, what="a connection of its own")
    wait_for(lambda: server.connected_clients() == before, what="that to be gone with its client")


def test_node_that_cannot_be_reached_ends_the_client_not_the_proxy(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, admin_allow_dangerous=ALLOWED))
    with pointsman.raw() as link:
        server.kill()
        try:
            answer = link.ask("PSYNC", "?", -1)
        except (EOFError, ConnectionError):
            answer = b""
        assert not answer or b"no master" in answer
    server.start().ready()
    wait_for(pointsman.writes, 20, "writes to pass again")
