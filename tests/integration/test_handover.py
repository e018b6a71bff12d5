# SPDX-License-Identifier: BSD-2-Clause
"""A failover of a master that works loses no write that was acknowledged, and clients see a short pause at most."""

import statistics
import time

import redis

from harness import MASTER_NAME, SLOWNESS, Pointsman, Replication, wait_for
from test_failover import Counter, start_counters

ROUNDS = 3
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
