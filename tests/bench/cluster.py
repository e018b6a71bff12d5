#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
What a request costs where keys are spread over three masters: Pointsman before a Redis Cluster, beside nutcracker
before three servers, and beside Pointsman before one. Figures are microseconds of the proxy's CPU time per
request, ratios medians of the rounds' ratios; see bench.py.

Environment: BENCH_ROUNDS, BENCH_REQUESTS, BENCH_POINTSMAN and QUICK as for bench.py.
"""

import os
import statistics
import subprocess
import sys
import time

from bench import Settings, settle
from load import GET, SCENARIOS, SET, Scenario, run
from rig import Failure, Link, Rig, Server, free_port, pointsman_binary, program

MASTERS = 3
START_SECONDS = 30
BUS = 10000  # a node's port for the others, above its own
MSET10 = ("mset", *["key:__rand_int__", "value"] * 10)
WANTED = [SCENARIOS[name] for name in ("get_p1", "set_p1", "get_p16", "set_p16")]
WANTED += [Scenario("get_c500", GET, 0.75, clients=500), Scenario("set_c500", SET, 0.75, clients=500)]
WANTED += [SCENARIOS["mget10"], Scenario("mset10", MSET10, 0.5)]
NAMES = ("cluster", "nutcracker", "one")


def main():
    try:
        settings = Settings(os.environ)
        with Rig() as rig:
            proxies = start(rig)
            print(f"{settings.rounds} rounds, {settings.p1_requests} requests in a p1 run; us of the proxy's CPU")
            print(f"{'scenario':<10}" + "".join(f"{name:>12}" for name in NAMES) + f"{'/nutcracker':>13}{'/one':>7}")
            for scenario in WANTED:
                measure(rig, proxies, scenario, settings)
        return 0
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def measure(rig, proxies, scenario, settings):
    costs = {name: [] for name in NAMES}
    for turn in range(-1, settings.rounds):  # turn -1 warms up, and fills
        requests = scenario.requests(settings.p1_requests if turn >= 0 else settings.p1_requests // 10)
        for name in NAMES:
            before = proxies[name].cpu_time()
            run(rig, proxies[name].port, scenario, requests)
            settle([proxies[name]])
            used = proxies[name].cpu_time() - before
            if turn >= 0:
                costs[name].append(used.total_ns / 1000 / requests)
    print_costs(scenario, costs)


def print_costs(scenario, costs):
    def ratio(peer):
        return statistics.median(ours / theirs for ours, theirs in zip(costs["cluster"], costs[peer]))

    figures = "".join(f"{statistics.median(costs[name]):>12.2f}" for name in NAMES)
    print(f"{scenario.name:<10}{figures}{ratio('nutcracker'):>13.2f}{ratio('one'):>7.2f}", flush=True)


def start(rig):
    cluster = start_cluster(rig)
    servers = [start_server(rig, f"server{number}", free_port()) for number in range(MASTERS)]
    rig.redis = servers[0]
    port = free_port()
    nodes = ",".join(f"127.0.0.1:{node.port}" for node in cluster)
    before_cluster = [
        pointsman_binary(), f"--proxy.listen=127.0.0.1:{port}", "--proxy.threads=1", "--upstream.kind=cluster",
        f"--upstream.nodes={nodes}", "--reads.policy=master",
    ]  # fmt: skip
    return {
        "cluster": rig.start("cluster", before_cluster, port),
        "nutcracker": start_nutcracker(rig, servers),
        "one": rig.start_proxy("pointsman"),
    }


def start_nutcracker(rig, servers):
    port = free_port()
    lines = ["redis:", f"  listen: 127.0.0.1:{port}", "  redis: true", "  hash: fnv1a_64", "  distribution: ketama"]
    lines += ["  client_connections: 5000", "  servers:", *(f"    - 127.0.0.1:{server.port}:1" for server in servers)]
    path = rig.write("three.yml", "\n".join(lines) + "\n")
    command = [program("nutcracker"), "-c", path, "-a", "127.0.0.1", "-s", str(free_port())]
    return rig.start("nutcracker", command, port)


def start_cluster(rig):
    nodes = [start_server(rig, f"node{number}", node_port(), cluster=True) for number in range(MASTERS)]
    addresses = [f"127.0.0.1:{node.port}" for node in nodes]
    command = [program("redis-cli"), "--cluster", "create", *addresses, "--cluster-yes"]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    wait_for(lambda: all(b"cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in nodes), "the cluster")
    return nodes


def node_port():
    port = free_port()
    while port + BUS > 65535:
        port = free_port()
    return port


def start_server(rig, name, port, cluster=False):
    directory = rig.path(name)
    os.mkdir(directory)
    command = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--dir", directory]
    command += ["--save", "", "--cluster-enabled", "yes" if cluster else "no"]
    with open(rig.path(f"{name}.log"), "w") as log:
        process = rig.spawn(command, cpu=rig.server_cpu, stdout=log, stderr=subprocess.STDOUT)
    server = Server(name, port, process, rig.path(f"{name}.log"))
    wait_for(lambda: ask(server, "PING") == b"PONG", name)
    return server


def ask(server, *words):
    server.must_be_alive()
    try:
        with Link(server.port) as link:
            return link.ask(*words)
    except OSError:
        return b""


def wait_for(question, what):
    deadline = time.monotonic() + START_SECONDS
    while not question():
        if time.monotonic() > deadline:
            raise Failure(f"{what} is not ready after {START_SECONDS} s")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
