# SPDX-License-Identifier: BSD-2-Clause
"""Reads from replicas show what they must: reads.consistency and reads.max_staleness.

Guards against: a client that misses its own write, or one that anybody has been told of; going back in time; all reads
at the master for the sake of that; questions to nodes without end.
"""

import contextlib
import os
import random
import signal
import threading
import time

import pytest

from harness import HOST, SANITIZED, SLOWNESS, Counts, Forwarder, Pointsman, Server, encode, free_port, wait_for
from redis_cluster import RedisCluster, slot_of

LEVELS = ("proxy", "session", "eventual")


class Lagging:
    """A master and a replica, up to which nothing comes while the relay between them holds it."""

    def __init__(self, processes, replicas=1):
        self.master = processes(Server("master", settings={"repl-timeout": "600", "repl-ping-replica-period": "1"})).ready()
        self.relay = Forwarder(self.master.port)
        self.replica = processes(Server("behind", replica_of=self.relay, settings={"repl-timeout": "600"})).ready()
        wait_for(self.replica.link_is_up, what="the replica to follow")
        self.others = [processes(Server(f"other{i}", replica_of=self.master)).ready() for i in range(replicas - 1)]
        self.servers = [self.master, self.replica, *self.others]
        with self.master.client() as client:
            client.set("streams", 1)
        for server in self.servers:  # a replica gets nothing until its first acknowledgement
            wait_for(lambda server=server: server.client().get("streams"), what=f"{server.name} to follow")

    def pointsman(self, processes, **keys):
        nodes = ",".join(server.address for server in self.servers)
        mapping = f"{self.relay.address} = {self.master.address}"
        return processes(Pointsman(nodes, upstream_kind="static", upstream_map=mapping, **keys))

    @contextlib.contextmanager
    def behind(self):
        self.relay.hold_replies()
        try:
            yield
        finally:
            self.relay.release_replies()

    def gets(self, server):
        return server.commandstats().get("get", 0)


@pytest.fixture
def lagging(processes):
    lagging = Lagging(processes)
    yield lagging
    lagging.relay.close()


def wait_for_reads_by(lagging, client, key, server=None):
    """Until the replica answers reads of the key."""
    server = server or lagging.replica

    def does():
        before = lagging.gets(server)
        client.get(key)
        return lagging.gets(server) == before + 1

    wait_for(does, what=f"{server.name} to answer reads of {key}")


@pytest.mark.parametrize("level, own, others", [("proxy", b"2", b"2"), ("session", b"2", b"1"), ("eventual", b"1", b"1")])
def test_what_a_replica_that_is_behind_may_show(lagging, processes, level, own, others):
    pointsman = lagging.pointsman(processes, reads_consistency=level)
    with pointsman.client() as writer, pointsman.client() as reader:
        writer.set("key", 1)
        wait_for(lambda: lagging.replica.client().get("key"), what="the replica to have the key")
        wait_for_reads_by(lagging, writer, "key")
        wait_for_reads_by(lagging, reader, "key")
        with lagging.behind():
            assert writer.set("key", 2)
            for _ in range(20):
                assert writer.get("key") == own
                assert reader.get("key") == others
        wait_for(lambda: reader.get("key") == b"2", what="the replica to show the write")
        wait_for_reads_by(lagging, writer, "key")


@pytest.mark.parametrize("level", LEVELS)
def test_a_replica_that_is_behind_answers_reads_of_keys_that_nobody_has_written_since(lagging, processes, level):
    pointsman = lagging.pointsman(processes, reads_consistency=level)
    with pointsman.client() as client:
        client.set("old", 1)
        wait_for_reads_by(lagging, client, "old")
        with lagging.behind():
            client.set("new", 1)
            before = lagging.gets(lagging.master), lagging.gets(lagging.replica)
            for _ in range(50):
                assert client.get("old") == b"1"
            assert lagging.gets(lagging.master) == before[0]
            assert lagging.gets(lagging.replica) == before[1] + 50


# What is written, by which commands, and what a read of it then says; each of them changes it.
WRITES = {
    "MSET": ([("MSET", "other", "x", "key", "2")], ("GET", "key"), b"2"),
    "DEL": ([("DEL", "other", "key")], ("GET", "key"), None),
    "RENAME": ([("SET", "other", "2"), ("RENAME", "other", "key")], ("GET", "key"), b"2"),
    "EXPIRE": ([("PEXPIRE", "key", "0")], ("GET", "key"), None),
    "transaction": ([("MULTI",), ("SET", "key", "2"), ("INCR", "key"), ("EXEC",)], ("GET", "key"), b"3"),
    "script that names its key": ([("EVAL", "return redis.call('SET', KEYS[1], '2')", "1", "key")], ("GET", "key"), b"2"),
    "script that does not": ([("EVAL", "return redis.call('SET', 'key', '2')", "0")], ("GET", "key"), b"2"),
    "script in a transaction": (
        [("MULTI",), ("EVAL", "return redis.call('SET', 'key', '2')", "0"), ("EXEC",)], ("GET", "key"), b"2",
    ),
    "FLUSHALL": ([("FLUSHALL",)], ("GET", "key"), None),
    "SORT STORE": ([("RPUSH", "list", "2"), ("SORT", "list", "STORE", "sorted")], ("LRANGE", "sorted", "0", "-1"), [b"2"]),
    "BLPOP": ([("RPUSH", "list", "2"), ("BLPOP", "list", "0")], ("LLEN", "list"), 0),
    "many keys at once": (
        [("MSET", *(word for i in range(500) for word in (f"many:{i}", "2")))],
        ("MGET", *(f"many:{i}" for i in range(500))), [b"2"] * 500,
    ),
    "more keys than are kept apart": (
        [("MSET", *(word for i in range(3000) for word in (f"many:{i}", "2")))], ("GET", "many:2999"), b"2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("level", ["proxy", "session"])
@pytest.mark.parametrize("name", WRITES)
def test_whatever_writes_a_key_is_seen_by_the_next_read(lagging, processes, name, level):
    commands, read, expected = WRITES[name]
    pointsman = lagging.pointsman(processes, reads_consistency=level)
    with pointsman.client() as client:
        client.set("key", 1)
        wait_for_reads_by(lagging, client, "key")
    with pointsman.raw() as writer, pointsman.raw() as reader, lagging.behind():
        for command in commands:
            writer.ask(*command)
        assert writer.ask(*read) == expected
        assert level == "session" or reader.ask(*read) == expected


def test_a_pipeline_of_reads_and_writes_sees_its_writes(lagging, processes):
    pointsman = lagging.pointsman(processes)
    with pointsman.client() as client:
        client.set("key", 0)
        wait_for_reads_by(lagging, client, "key")
    with pointsman.raw() as link, lagging.behind():
        link.send(b"".join(encode("GET", "key") + encode("INCR", "key") for _ in range(100)))
        replies = [link.read() for _ in range(200)]
    assert replies == [reply for n in range(100) for reply in (b"%d" % n, n + 1)]


def test_max_staleness_bounds_what_others_have_written_past_the_proxy(lagging, processes):
    pointsman = lagging.pointsman(processes, reads_consistency="eventual", reads_max_staleness="300ms")
    with pointsman.client() as client, lagging.master.client() as direct:
        direct.set("key", 1)
        wait_for_reads_by(lagging, client, "key")
        with lagging.behind():
            direct.set("key", 2)
            wait_for(lambda: client.get("key") == b"2", what="the replica to be too old")
            for _ in range(20):
                assert client.get("key") == b"2"
        wait_for_reads_by(lagging, client, "key")


def test_with_replicas_only_a_read_waits_until_one_is_fresh(lagging, processes):
    pointsman = lagging.pointsman(processes, reads_policy="replica")
    with pointsman.raw() as link:
        link.ask("SET", "key", 1)
        assert link.ask("GET", "key") == b"1"
        with lagging.behind():
            link.ask("SET", "key", 2)
            before = lagging.gets(lagging.master)
            link.command("GET", "key")
            assert link.is_silent(0.3)
        assert link.read() == b"2"
        assert lagging.gets(lagging.master) == before


def test_a_session_does_not_go_back_in_time_when_its_replica_goes(processes):
    lagging = Lagging(processes, replicas=2)
    pointsman = lagging.pointsman(processes, reads_consistency="session")
    ahead = lagging.others[0]
    clients = [pointsman.client() for _ in range(12)]
    wait_for(lambda: lagging.replica.client().exists("harness:ready"), what="the replica to have what all read")
    with lagging.behind():
        wait_for(lambda: all(client.exists("harness:ready") for client in clients), what="the others' reads")
        lagging.master.client().set("key", 2)  # past the proxy: nobody has written it as far as that knows
        wait_for(lambda: ahead.client().get("key") == b"2", what="one of two replicas to have the write")
        have_seen = [client for client in clients if client.get("key") == b"2"]
        assert 0 < len(have_seen) < len(clients), "all clients read from one replica"
        ahead.kill()
        for _ in range(40):
            assert [client.get("key") for client in have_seen] == [b"2"] * len(have_seen)
            time.sleep(0.01)
    for client in clients:
        client.close()
    lagging.relay.close()


class Reader(threading.Thread):
    """Counts up versions of keys and reads them, and keeps what was seen that must not be."""

    def __init__(self, pointsman, number, known, is_session, keys, operations, writes):
        super().__init__(daemon=True)
        self.arguments = pointsman, random.Random(number), known, is_session, keys, operations, writes
        self.stale, self.problem = [], None

    def run(self):
        pointsman, chance, known, is_session, keys, operations, writes = self.arguments
        seen = {} if is_session else known
        try:
            with pointsman.client() as client:
                for _ in range(operations):
                    key = f"version:{chance.randrange(keys)}"
                    if chance.random() < writes:
                        seen[key] = max(client.incr(key), seen.get(key, 0))
                        continue
                    least, found = seen.get(key, 0), int(client.get(key) or 0)
                    if found < least:
                        self.stale.append((key, least, found))
                    if is_session:
                        seen[key] = max(found, least)
        except Exception as problem:  # pylint: disable=broad-except
            self.problem = problem


def read_and_write(pointsman, level, keys=300, writes=0.1, operations=1500):
    known = {}  # what any client has been told; a number only grows, so that no lock is needed
    readers = [Reader(pointsman, i, known, level == "session", keys, operations, writes) for i in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [reader.problem for reader in readers] == [None] * len(readers)
    return [stale for reader in readers for stale in reader.stale]


@pytest.mark.parametrize("level", ["proxy", "session"])
def test_of_several_workers_none_shows_old_values_and_nearly_all_reads_go_to_replicas(cluster, processes, level):
    pointsman = processes(Pointsman(cluster, reads_consistency=level, proxy_threads=3))
    pointsman.wait_for_replicas(2)
    with cluster.counting() as counts:
        assert not read_and_write(pointsman, level)
    on_master, on_replicas = counts.calls(cluster.master, "get"), counts.calls(cluster.replicas, "get")
    assert on_replicas > 3 * on_master, "reads have gone to the master"


@pytest.mark.parametrize("level", ["proxy", "session"])
def test_the_same_in_a_redis_cluster(processes, level):
    nodes = RedisCluster(3, 1).start()
    try:
        pointsman = processes(Pointsman(nodes.seeds, upstream_kind="cluster", reads_consistency=level))
        masters, replicas = nodes.masters(), [node for node in nodes.alive() if node not in nodes.masters()]
        with pointsman.client() as client:
            wait_for(lambda: [client.get(f"version:{i}") for i in range(100)] and
                     all(node.commandstats().get("get") for node in replicas), what="replicas to be read from")
        with Counts(nodes.alive()) as counts:
            assert not read_and_write(pointsman, level)
        assert counts.calls(replicas, "get") > 3 * counts.calls(masters, "get"), "reads have gone to the masters"
    finally:
        nodes.stop()


def test_nodes_are_asked_how_far_they_are_at_a_bounded_rate_and_hardly_when_idle(cluster, processes):
    pointsman = processes(Pointsman(cluster, reads_freshness_interval="20ms"))
    pointsman.wait_for_replicas(2)
    with cluster.counting() as counts:
        began = time.monotonic()
        read_and_write(pointsman, "proxy", keys=3, writes=0.5, operations=1000)
        rounds = (time.monotonic() - began) / 0.020
    for server in cluster.servers:
        assert 0 < counts.calls(server, "info") <= rounds + 5 + rounds / 50
    time.sleep(0.5)
    with cluster.counting() as counts:
        time.sleep(2)
    for server in cluster.servers:
        assert counts.calls(server, "info") <= 8


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_a_read_without_a_key_is_refused_and_looks_at_no_key_of_before(cluster, processes):
    """What the words of the last command pointed to, so large that it was given back, is gone."""
    pointsman = processes(Pointsman(cluster, proxy_threads=1))
    with pointsman.raw() as link, pointsman.raw() as other:
        before = pointsman.rss()
        assert link.ask("GET", b"k" * (8 << 20)) is None
        wait_for(lambda: pointsman.rss() < before + (4 << 20), what="the command's memory to be given back")
        for _ in range(3):
            assert other.ask("GET") == b"ERR wrong number of arguments for 'get' command"


@pytest.mark.parametrize("attempt", range(3))
def test_a_read_of_what_a_held_write_will_change_is_answered_by_the_replica_while_there_is_no_master(
    lagging, processes, attempt
):
    """Also if the write was given to a connection that had ended, so that no byte of it has left."""
    pointsman = lagging.pointsman(processes, failover_hold_time="3s")
    with pointsman.raw(timeout=30) as writer, pointsman.client() as reader:
        writer.ask("SET", "key", 1)
        wait_for_reads_by(lagging, reader, "key")
        os.kill(pointsman.pid, signal.SIGSTOP)  # a thread is told of the end and of the write at once
        lagging.master.kill()
        writer.command("SET", "key", 2)
        os.kill(pointsman.pid, signal.SIGCONT)
        assert writer.is_silent(0.2)
        assert reader.get("key") == b"1"


@pytest.mark.parametrize("attempt", range(3))
def test_a_read_of_what_a_held_transaction_will_change_is_answered_by_the_replica(lagging, processes, attempt):
    pointsman = lagging.pointsman(processes, failover_hold_time="3s")
    with pointsman.raw(timeout=30) as writer, pointsman.client() as reader:
        writer.ask("SET", "key", 1)
        wait_for_reads_by(lagging, reader, "key")
        assert writer.ask("MULTI") == b"OK"
        assert writer.ask("SET", "key", 2) == b"QUEUED"
        os.kill(pointsman.pid, signal.SIGSTOP)  # a thread is told of the end and of the EXEC at once
        lagging.master.kill()
        writer.command("EXEC")
        os.kill(pointsman.pid, signal.SIGCONT)
        assert writer.is_silent(0.2)
        assert reader.get("key") == b"1"


def test_a_transaction_writes_what_it_did_before_a_multi_that_was_refused(lagging, processes):
    pointsman = lagging.pointsman(processes)
    with pointsman.client() as client:
        client.set("key", 1)
        wait_for_reads_by(lagging, client, "key")
    with pointsman.raw() as writer, pointsman.raw() as reader, lagging.behind():
        for command in (("MULTI",), ("SET", "key", "2"), ("MULTI",), ("EXEC",)):
            writer.ask(*command)
        assert reader.ask("GET", "key") == b"2"


def test_a_read_without_a_key_is_answered_with_an_error(lagging, processes):
    pointsman = lagging.pointsman(processes)
    with pointsman.client() as client:
        client.set("key", 1)
        wait_for_reads_by(lagging, client, "key")
    with pointsman.raw() as link:
        for _ in range(3):
            assert link.ask("SET", "k" * 4_000_000, "1") == b"OK"
            assert link.ask("GET").startswith(b"ERR wrong number of arguments")
        assert link.ask("GET", "key") == b"1"


def test_with_replicas_only_a_read_that_would_be_the_masters_waits_for_a_replica(lagging, processes):
    pointsman = lagging.pointsman(processes, reads_policy="replica")
    keys = [f"many:{i}" for i in range(1500)]  # more than are kept apart
    with pointsman.raw() as link, pointsman.raw() as writer, lagging.master.client() as direct:
        link.ask("SET", keys[-1], "1")
        assert link.ask("MGET", *keys)[-1] == b"1"
        direct.client_pause(1000, all=False)
        writer.command("SET", "key", "2")
        assert writer.is_silent(0.1)
        assert link.ask("GET", "key") in (None, b"2")
        assert writer.read() == b"OK"
        assert link.ask("GET", "key") == b"2"


def test_a_session_knows_what_it_has_read_where_only_the_master_may_answer(lagging, processes):
    pointsman = lagging.pointsman(processes, reads_consistency="session")
    with pointsman.client() as client:
        client.rpush("list", 1)
        client.set("key", 1)
        wait_for_reads_by(lagging, client, "key")
    with pointsman.raw() as reader, lagging.behind(), lagging.master.client() as direct:
        direct.rpush("list", 2)  # past the proxy
        assert reader.ask("SORT_RO", "list") == [b"1", b"2"]
        for _ in range(20):
            assert reader.ask("LRANGE", "list", "0", "-1") == [b"1", b"2"]


def test_a_session_whose_only_other_replica_is_behind_waits_for_that(processes):
    lagging = Lagging(processes, replicas=2)
    pointsman = lagging.pointsman(processes, reads_consistency="session", reads_policy="replica")
    ahead = lagging.others[0]
    links = [pointsman.raw() for _ in range(12)]
    with lagging.behind():
        for link in links:
            wait_for(lambda link=link: link.ask("EXISTS", "streams") == 1, what="a replica to answer")
        lagging.master.client().set("key", 2)  # past the proxy
        wait_for(lambda: ahead.client().get("key") == b"2", what="one of two replicas to have the write")
        have_seen = [link for link in links if link.ask("GET", "key") == b"2"]
        assert 0 < len(have_seen) < len(links), "all clients read from one replica"
        ahead.kill()
        for link in have_seen:
            link.command("GET", "key")
        for link in have_seen:
            assert link.is_silent(0.1)
        time.sleep(1)
    assert [link.read() for link in have_seen] == [b"2"] * len(have_seen)
    for link in links:
        link.close()
    lagging.relay.close()


def test_a_write_that_was_given_up_leaves_its_key_to_replicas(lagging, processes):
    pointsman = lagging.pointsman(
        processes, proxy_read_timeout="8s", proxy_write_timeout="300ms", pool_shared_connections="1",
        proxy_threads="1",
    )
    with pointsman.raw(timeout=20) as first, pointsman.raw(timeout=20) as second, pointsman.client() as reader:
        first.ask("SET", "key", "1")
        wait_for_reads_by(lagging, reader, "key")
        lagging.master.pause()
        first.command("DBSIZE")  # not due for long, and ahead of the write
        assert first.is_silent(0.05)
        second.command("SET", "key", "2")
        assert b"pointsman" in second.read()
        lagging.master.resume()
        first.read()
        wait_for_reads_by(lagging, reader, "key")


def test_a_session_knows_what_its_transaction_has_read(lagging, processes):
    pointsman = lagging.pointsman(processes, reads_consistency="session")
    with pointsman.client() as client, pointsman.raw() as reader, lagging.master.client() as direct:
        client.set("key", 1)
        wait_for_reads_by(lagging, client, "key")
        reader.ask("MULTI")
        reader.ask("GET", "key")
        client.set("new", 1)
        wait_for_reads_by(lagging, client, "new")  # so the replica shows all that there was when GET was queued
        with lagging.behind():
            direct.set("key", 2)  # past the proxy
            reader.ask("SET", "other", "1")
            assert reader.ask("EXEC") == [b"2", b"OK"]
            for _ in range(20):
                assert reader.ask("GET", "key") == b"2"


def test_who_watches_a_key_of_one_shard_reads_as_fresh_from_the_others(processes):
    """Such a read leaves the client's own connection, and goes to a replica if that may answer."""
    nodes = RedisCluster(3, 1).start()
    try:
        pointsman = processes(Pointsman(nodes.seeds, upstream_kind="cluster"))
        watched, written = (nodes.key_of(master) for master in nodes.masters()[:2])
        master = nodes.master_of(written)
        replicas = nodes.replicas_of(master)
        with pointsman.raw() as watcher, pointsman.raw() as writer, Counts([master, *replicas]) as counts:
            writer.ask("SET", written, "1")
            wait_for(lambda: watcher.ask("GET", written) and
                     sum(node.commandstats().get("get", 0) for node in replicas), what="the replica to be read from")
            assert watcher.ask("WATCH", watched) == b"OK"
            assert watcher.ask("GET", written) == b"1"
            writer.ask("MULTI")  # on a connection of its own, so that nobody waits behind it
            writer.ask("SET", written, "2")
            master.ask("CLIENT", "PAUSE", "60000", "WRITE")
            writer.command("EXEC")
            assert writer.is_silent(0.1)
            before = counts.calls(replicas, "get")
            for _ in range(20):
                assert watcher.ask("GET", written) == b"1"
            assert counts.calls(replicas, "get") == before
            master.ask("CLIENT", "UNPAUSE")
            assert writer.read() == [b"OK"]
    finally:
        nodes.stop()


def test_a_session_that_reads_again_and_again_comes_back_to_its_replica(lagging, processes):
    """What it reads from the master obliges the replica, too: were that asked before each such read only, it never would."""
    pointsman = lagging.pointsman(processes, reads_consistency="session", pool_health_interval="10m")
    with pointsman.client() as client:
        client.set("key", 1)
        wait_for_reads_by(lagging, client, "key")
        with Counts(lagging.servers) as counts:
            for i in range(8):
                client.set("key", i)
                for _ in range(10):
                    assert client.get("key") == b"%d" % i
                    time.sleep(0.03)
        assert counts.calls(lagging.replica, "get") > 2 * counts.calls(lagging.master, "get")


def test_what_was_written_while_its_slot_moves_is_seen_by_all_workers(processes):
    """The old master's replica has heard that the key is gone, and of nothing else."""
    nodes = RedisCluster(3, 1).start()
    try:
        pointsman = processes(Pointsman(nodes.seeds, upstream_kind="cluster", proxy_threads=4))
        source, target = nodes.masters()[:2]
        key = nodes.key_of(source)
        slot = slot_of(key)
        readers = [pointsman.client() for _ in range(24)]
        with pointsman.client() as writer:
            writer.set(key, "before")
            wait_for(lambda: all(client.get(key) == b"before" for client in readers), what="the key to be read")
            nodes.begin_move(slot, source, target)
            nodes.move_keys(slot, source, target)
            writer.set(key, "after")
            time.sleep(0.3)
            for _ in range(5):
                assert [client.get(key) for client in readers] == [b"after"] * len(readers)
            nodes.end_move(slot, source, target)
            for _ in range(20):
                assert [client.get(key) for client in readers] == [b"after"] * len(readers)
                time.sleep(0.05)
        for client in readers:
            client.close()
    finally:
        nodes.stop()
