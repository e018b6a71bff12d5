# SPDX-License-Identifier: BSD-2-Clause
"""A failover of a master that works loses no write that was acknowledged, and clients see a short pause at most."""

import os
import statistics
import threading
import time

import pytest
import redis

from harness import MASTER_NAME, SLOWNESS, Pointsman, Replication, encode, wait_for
from test_failover import start_counters

ROUNDS = int(os.environ.get("HANDOVER_ROUNDS", 3))
COUNTERS = 10


def fail_over(cluster):
    """By a Sentinel, as an operator asks for it. Returns when that was, the old master and the new one."""
    old = cluster.master
    asked = None

    def ask():
        nonlocal asked
        with cluster.sentinels[0].client() as client:
            try:
                asked = time.monotonic()
                return client.execute_command("SENTINEL", "FAILOVER", MASTER_NAME)
            except redis.ResponseError as error:  # not all of the replicas were asked lately, or the last one still goes on
                assert "NOGOODSLAVE" in str(error) or "INPROG" in str(error)
                return None

    wait_for(ask, 40, "the Sentinel to begin a failover", every=0.2)
    cluster.wait_switched(old)
    return asked, old, cluster.master


def longest_pause(counter, since):
    moments = [moment for moment in zip(counter.times, counter.times[1:]) if moment[1] > since]
    return max(after - before for before, after in moments)


def test_failovers_by_command_lose_no_acknowledged_write_and_tell_no_error(processes):
    cluster = Replication(replicas=2).start()
    pointsman = processes(Pointsman(cluster)).wait_for_replicas(2)
    pauses, counts = [], [0] * COUNTERS
    for turn in range(ROUNDS):
        counters = start_counters(pointsman, COUNTERS)
        time.sleep(0.5)
        asked, old, new = fail_over(cluster)
        wait_for(lambda: old.role() == "slave", 30, "the old master to be a replica", every=0.1)
        for number, counter in enumerate(counters):
            counter.finish()
            assert not counter.broken and not counter.errors
            counts[number] += len(counter.values)
        with new.client() as client:
            assert [int(client.get(counter.key)) for counter in counters] == counts, f"round {turn}: not what was acknowledged"
        pauses += [longest_pause(counter, asked) for counter in counters]
        wait_for(lambda: all(s.role() == "master" or s.link_is_up() for s in cluster.servers), 20, every=0.1)
    print(f"{sum(counts)} increments, pauses of {min(pauses) * 1e3:.0f} to {max(pauses) * 1e3:.0f} ms, "
          f"median {statistics.median(pauses) * 1e3:.0f} ms")  # fmt: skip
    assert statistics.median(pauses) < 0.15 * SLOWNESS
    cluster.stop()


class Transactor(threading.Thread):
    """Moves one from a key to another in transactions that take a while: half of them in one go, half step by step."""

    def __init__(self, pointsman, number):
        super().__init__(daemon=True)
        self.link = pointsman.raw(timeout=60)
        self.number = number
        self.keys = f"from:{number}", f"to:{number}"
        self.carried_out = 0
        self.wrong = None
        self.ending = False

    def run(self):
        try:
            while not self.ending and not self.wrong:
                self.one(self.carried_out % 2 == 0)
        except (OSError, EOFError) as error:
            self.wrong = error

    def one(self, is_in_one_go):
        words = [("MULTI",), ("DECR", self.keys[0]), ("INCR", self.keys[1]), ("EXEC",)]
        if is_in_one_go:
            self.link.send(b"".join(encode(*each) for each in words))
            replies = [self.link.read() for _ in words]
        else:
            replies = []
            for each in words:
                replies.append(self.link.ask(*each))
                time.sleep(0.01)
        self.carried_out += 1
        if replies != [b"OK", b"QUEUED", b"QUEUED", [-self.carried_out, self.carried_out]]:
            self.wrong = replies


def test_transactions_go_on_through_a_failover_by_command(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    transactors = [Transactor(pointsman, number) for number in range(20)]
    for each in transactors:
        each.start()
    wait_for(lambda: all(each.carried_out > 4 for each in transactors), what="transactions")
    _, _, new = fail_over(own_cluster)
    since = [each.carried_out for each in transactors]
    wait_for(lambda: all(each.wrong or each.carried_out > count + 4 for each, count in zip(transactors, since)), 20)
    for each in transactors:
        each.ending = True
        each.join(30)
    assert not [each.wrong for each in transactors if each.wrong]
    with new.client() as client:
        assert [int(client.get(each.keys[1])) for each in transactors] == [each.carried_out for each in transactors]


def test_what_a_client_watches_is_not_watched_beyond_a_failover(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    with pointsman.raw(timeout=60) as link:
        assert link.ask("WATCH", "watched") == b"OK"
        assert link.ask("MULTI") == b"OK"
        assert link.ask("SET", "watched", 1) == b"QUEUED"
        fail_over(own_cluster)
        assert link.ask("EXEC").startswith(b"EXECABORT")
        assert link.ask("EXISTS", "watched") == 0


def test_who_blocks_gets_what_comes_after_a_failover_by_command_once(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    with pointsman.raw(timeout=60) as blocked, pointsman.raw(timeout=60) as link:
        blocked.command("BLPOP", "queue", 0)
        time.sleep(0.3)
        fail_over(own_cluster)
        assert link.ask("RPUSH", "queue", "first", "second") in (1, 2)
        assert blocked.read() == [b"queue", b"first"]
        assert link.ask("LRANGE", "queue", 0, -1) == [b"second"]


def test_who_listens_and_writes_on_one_connection_goes_on_doing_both(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    with pointsman.raw(timeout=60) as listener, pointsman.raw(timeout=60) as link:
        listener.ask("HELLO", 3)
        listener.ask("SUBSCRIBE", "channel")
        count, ending = 0, threading.Event()
        failing_over = threading.Thread(target=lambda: (fail_over(own_cluster), ending.set()))
        failing_over.start()
        while not ending.is_set():
            count += 1
            assert listener.ask("INCR", "written") == count
        failing_over.join()
        assert link.ask("INCRBY", "written", 0) == count
        wait_for(lambda: link.ask("PUBLISH", "channel", "after") == 1, what="the subscription to be restored")
        assert list(listener.read()) == [b"message", b"channel", b"after"]


@pytest.fixture
def small():
    """One replica, so that it is known who is promoted."""
    replication = Replication(replicas=1).start()
    yield replication
    replication.stop()


def test_a_replica_that_is_not_promoted_after_all_keeps_no_write_waiting_for_long(small, processes):
    pointsman = processes(Pointsman(small)).wait_for_replicas(1)
    counters = start_counters(pointsman, 5)
    master, (replica,) = small.master, small.replicas
    replica.pause()
    with small.sentinels[0].client() as client:
        client.execute_command("SENTINEL", "FAILOVER", MASTER_NAME)
    wait_for(lambda: "about to make" in pointsman.log_text(), what="the failover to be heard of")
    heard = time.monotonic()
    wait_for(lambda: all(counter.broken or counter.times[-1] > heard + 0.5 for counter in counters), 10, "writes to go on")
    wait_for(lambda: small.sentinels[0].state()["flags"] == "master", 40, "the Sentinel to give up", every=0.2)
    given_up = time.monotonic()
    wait_for(lambda: all(counter.broken or counter.times[-1] > given_up for counter in counters), 10, "writes to go on")
    assert "has given up its failover" in pointsman.log_text()
    for counter in counters:
        counter.finish()
        assert not counter.broken and not counter.errors
        assert 1 < counter.longest < 5 * SLOWNESS, "it was not held, or for too long"
    with master.client() as client:
        assert [int(client.get(counter.key)) for counter in counters] == [len(counter.values) for counter in counters]


def test_where_replicas_lag_writes_are_held_one_step_earlier(processes):
    """CLIENT PAUSE WRITE at a replica keeps it from hearing its master, too."""
    cluster = Replication(replicas=1).start()
    pointsman = processes(Pointsman(cluster)).wait_for_replicas(1)
    counters = start_counters(pointsman, COUNTERS)
    (replica,) = cluster.replicas

    def fails_over_under_lag():
        try:
            with replica.client() as lagging, cluster.sentinels[0].client() as sentinel:
                lagging.execute_command("CLIENT", "PAUSE", 400, "WRITE")
                time.sleep(0.1)
                return sentinel.execute_command("SENTINEL", "FAILOVER", MASTER_NAME)
        except redis.ResponseError as error:
            assert "NOGOODSLAVE" in str(error) or "INPROG" in str(error)
            return None

    time.sleep(0.5)
    wait_for(fails_over_under_lag, 40, "the Sentinel to begin a failover", every=0.5)
    cluster.wait_switched(cluster.servers[0])
    assert "ms behind; writes are held" in pointsman.log_text()
    for counter in counters:
        counter.finish()
        assert not counter.broken and not counter.errors
    cluster.stop()
