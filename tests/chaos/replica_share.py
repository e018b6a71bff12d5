# SPDX-License-Identifier: BSD-2-Clause
"""Which share of reads do replicas answer, by the nodes' own count? A table: levels, keys, share of writes.

    replica_share.py [--seconds N] [--keys N] [--levels a,b] [--clients N] [--output FILE]

One master, two replicas; clients in processes of their own send GET and SET one by one. The share depends on how many
writes there are in a second for each key, so these numbers stand in the table too.
"""

import argparse
import itertools
import json
import multiprocessing
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

import harness  # noqa: E402
from harness import Counts, Pointsman, Raw, Replication, encode  # noqa: E402

LEVELS = ("proxy", "session", "eventual")
WRITES = (0.01, 0.05, 0.20)
PROCESSES = 2
BATCH = 500  # operations drawn at once


def uniform(keys):
    return [1] * keys


def zipf(keys):
    return [1 / rank for rank in range(1, keys + 1)]


def talk(port, clients, weights, writes, seconds, seed):
    """Several clients in turn: each sends one command, then each reads its reply."""
    chance = random.Random(seed)
    links = [Raw(port) for _ in range(clients)]
    names = [f"key:{number}" for number in range(len(weights))]
    cumulative = list(itertools.accumulate(weights))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        drawn = iter(chance.choices(names, cum_weights=cumulative, k=BATCH * clients))
        for _ in range(BATCH):
            for link in links:
                key = next(drawn)
                link.send(encode("SET", key, 1) if chance.random() < writes else encode("GET", key))
            for link in links:
                link.read()
            if time.monotonic() > end:
                break


def measure(cluster, pointsman, options, weights, writes):
    with Counts(cluster.servers) as counts:
        talkers = [
            multiprocessing.Process(
                target=talk, args=(pointsman.port, options.clients // PROCESSES, weights, writes, options.seconds, number)
            )
            for number in range(PROCESSES)
        ]
        for talker in talkers:
            talker.start()
        for talker in talkers:
            talker.join()
            assert talker.exitcode == 0
    master, *replicas = cluster.servers
    at_replicas, reads = counts.calls(replicas, "get"), counts.calls(cluster.servers, "get")
    rate = (reads + counts.calls(master, "set")) / options.seconds
    return {"share": at_replicas / reads, "operations_per_s": round(rate)}


def rows(options):
    for level in options.levels or LEVELS:
        cluster = Replication(replicas=2, sentinels=0).start()
        pointsman = Pointsman(cluster, upstream_kind="static", reads_consistency=level).start().wait_for_replicas(2)
        for spread, writes in itertools.product((uniform, zipf), WRITES):
            measured = measure(cluster, pointsman, options, spread(options.keys), writes)
            yield {"level": level, "keys": spread.__name__, "writes": writes, **measured}
        pointsman.stop()
        cluster.stop()


def main():
    given = argparse.ArgumentParser()
    given.add_argument("--seconds", type=float, default=3)
    given.add_argument("--keys", type=int, default=10000)
    given.add_argument("--clients", type=int, default=16)
    given.add_argument("--levels", type=lambda text: [word for word in text.split(",") if word], default=[])
    given.add_argument("--output", default="build/chaos/replica_share.json")
    options = given.parse_args()
    measured = []
    print(f"{'consistency':12}{'keys':10}{'writes':>8}{'reads at replicas':>20}{'operations/s':>15}")
    try:
        for row in rows(options):
            measured.append(row)
            print(f"{row['level']:12}{row['keys']:10}{row['writes']:8.0%}{row['share']:20.1%}{row['operations_per_s']:15}",
                  flush=True)  # fmt: skip
    finally:
        harness.stop_everything()
        harness.remove_home()
    output = pathlib.Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(measured, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
