# SPDX-License-Identifier: BSD-2-Clause
"""Nodes that freeze, load, synchronize or have lost their master serve no reads."""

import threading
import time

import pytest

from harness import Pointsman, Replication, Reply, free_port, wait_for


@pytest.fixture
def pair():
    """A master and a replica of its own for each test."""
    replication = Replication(replicas=1, sentinels=0).start()
    yield replication
    replication.stop()


def unfit(pointsman, server):
    return pointsman.log_text().count(f"node {server.address}: not fit")


def is_fit_again(pointsman, server):
    lines = [line for line in pointsman.log_text().splitlines() if f"node {server.address}: " in line and "fit" in line]
    return "not fit" not in lines[-1]


class Readers:
    """Clients that read all the time; answers that are not the value are kept."""

    def __init__(self, pointsman, value, count=4):
        self.pointsman, self.value, self.count = pointsman, value, count
        self.wrong, self.right = [], 0
        self._stop = threading.Event()

    def _read(self):
        with self.pointsman.raw(timeout=30) as link:
            while not self._stop.is_set():
                answer = link.ask("GET", "key")
                if answer == self.value:
                    self.right += 1
                else:
                    self.wrong.append(answer)
                time.sleep(0.002)

    def __enter__(self):
        self._threads = [threading.Thread(target=self._read) for _ in range(self.count)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_node_that_sleeps_for_longer_than_health_timeout_is_out_of_reach_until_it_wakes(pair, processes):
    """For less than the default, which would not notice it."""
    replica = pair.servers[1]
    pointsman = processes(Pointsman(pair, pool_health_timeout="100ms")).wait_for_replicas(1)
    with replica.raw(timeout=30) as nap:
        assert nap.ask("DEBUG", "SLEEP", 1.3) == b"OK"
    wait_for(lambda: unfit(pointsman, replica) == 1, what="the log to tell of it")
    wait_for(lambda: is_fit_again(pointsman, replica), what="it to be fit again")


def test_frozen_replica_is_found_though_it_takes_connections_and_reads_go_on(pair, processes):
    replica = pair.servers[1]
    pointsman = processes(Pointsman(pair, pool_health_timeout="500ms", pool_health_interval="200ms")).wait_for_replicas(1)
    with pointsman.raw() as link:
        assert link.ask("SET", "key", "value") == b"OK"
    pair.wait_synced()
    with Readers(pointsman, b"value") as readers:
        wait_for(lambda: readers.right > 50, what="reads")
        replica.pause()
        try:
            wait_for(lambda: unfit(pointsman, replica) == 1, what="it to be found")
            right = readers.right
            wait_for(lambda: readers.right > right + 200, what="reads to go on")
        finally:
            replica.resume()
        wait_for(lambda: is_fit_again(pointsman, replica), what="it to be fit again")
    assert readers.wrong == []


def test_replica_of_nobody_that_answers_is_found_and_gets_no_reads(pair, processes):
    """It says PONG, and serves what it has, which is old."""
    master, replica = pair.servers
    pointsman = processes(Pointsman(pair, pool_health_interval="200ms", reads_policy="prefer-replica"))
    pointsman.wait_for_replicas(1)
    with pointsman.raw() as link:
        assert link.ask("SET", "key", "old") == b"OK"
        pair.wait_synced()
        with replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        wait_for(lambda: unfit(pointsman, replica), what="the replica to be found out")
        assert link.ask("SET", "key", "new") == b"OK"
        with pair.counting() as counts:
            assert {link.ask("GET", "key") for _ in range(50)} == {b"new"}
        assert counts.calls(replica, "get") == 0 and counts.calls(master, "get") == 50


def loads(server):
    with server.raw(timeout=30) as asking:
        return isinstance(asking.ask("GET", "key"), Reply)


@pytest.mark.parametrize("stale", ["yes", "no"])
def test_replica_that_synchronizes_or_loads_gives_no_reader_an_error_or_an_empty_answer(processes, stale):
    settings = {"key-load-delay": 200, "loading-process-events-interval-bytes": 1024, "repl-diskless-load": "disabled",
                "replica-serve-stale-data": stale, "repl-backlog-size": "16kb"}
    replication = Replication(replicas=1, sentinels=0, settings=settings).start()
    try:
        master, replica = replication.servers
        pointsman = processes(Pointsman(replication, pool_health_interval="200ms", proxy_threads=2)).wait_for_replicas(1)
        with pointsman.raw() as link:
            assert link.ask("SET", "key", "value") == b"OK"
        with master.client() as client:
            client.execute_command("DEBUG", "POPULATE", 8000, "filler", 100)
        replication.wait_synced()
        with Readers(pointsman, b"value") as readers:
            wait_for(lambda: readers.right > 100, what="reads")
            replica.kill()
            (replica.directory / "dump.rdb").unlink(missing_ok=True)
            replica.start()  # with nothing: takes all from the master, and loads that
            wait_for(lambda: loads(replica), what="the replica to load", every=0.005)
            wait_for(replica.link_is_up, 30, "the replica to have all")
            wait_for(lambda: is_fit_again(pointsman, replica), what="it to be fit again")
            before = replica.commandstats().get("get", 0)
            wait_for(lambda: replica.commandstats().get("get", 0) > before + 20, what="reads to come back to it")
        assert readers.wrong == []
        assert unfit(pointsman, replica) >= 1
    finally:
        replication.stop()
