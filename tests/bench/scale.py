#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
What many clients, many nodes and too much load cost, beside the goals.

  memory      RSS growth by idle client, whatever it has done before, beside HAProxy and nutcracker; what is left
              of a burst
  held        connections held at one time, and how fast they are taken
  idle        CPU per request with thousands of idle clients, beside the same without
  nodes       CPU per request with nodes that are not asked, and what those cost in the background
  decisions   command lookup, plan and pick, by the number of nodes (decision_bench)
  overload    throughput at twice what the peak is, memory meanwhile, latency of a client that waits for its replies

Environment:
  SCALE_PARTS      names with commas between       default: all
  SCALE_CLIENTS    idle clients                    default: 10000
  SCALE_HELD       connections to be held          default: 50000
  SCALE_ROUNDS     rounds of what is compared      default: 5
  BENCH_POINTSMAN  the program to measure          default: build/pointsman
  QUICK=1          fewer of everything
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from crowd import Crowd, Flood, connect, read_exactly
from rig import ROOT, Failure, Link, Rig, encode, free_port, pointsman_binary, program

KIB, MIB = 1 << 10, 1 << 20
GET = encode("GET", "k")
VALUE = b"x" * 64
GET_REPLY_BYTES = len(b"$64\r\n") + len(VALUE) + 2
BIG_REPLY_BYTES = len(b"$1048576\r\n") + MIB + 2
DESCRIPTORS_KEPT = 1000  # of a process, for what is not a client
PEER_CLIENTS = 4000
ACTIVE_CLIENTS = 50
HELD_SECONDS = 300  # no holder outlives its parent by more
NODE_COUNTS = (3, 30, 300)
LIBRARY = encode("CLIENT", "SETINFO", "lib-name", "redis-py") + encode("CLIENT", "SETINFO", "lib-ver", "5.0.1")
LIBRARY += encode("CLIENT", "SETNAME", "worker-1") + encode("SELECT", "0")


@dataclass(frozen=True)
class Row:
    part: str
    what: str
    value: float
    unit: str
    goal: str = ""
    ok: bool = None


class Settings:
    def __init__(self, environment):
        self.is_quick = environment.get("QUICK", "") not in ("", "0")
        room = descriptors() - DESCRIPTORS_KEPT
        self.clients = min(number(environment, "SCALE_CLIENTS", 2000 if self.is_quick else 10000), room)
        self.held = number(environment, "SCALE_HELD", 5000 if self.is_quick else 50000)
        self.rounds = number(environment, "SCALE_ROUNDS", 3 if self.is_quick else 5)
        self.requests = 20_000 if self.is_quick else 100_000
        self.seconds = 2 if self.is_quick else 8
        self.room = room
        wanted = [name for name in environment.get("SCALE_PARTS", "").split(",") if name]
        unknown = [name for name in wanted if name not in PARTS]
        if unknown:
            raise Failure(f"SCALE_PARTS: no {', '.join(unknown)}; there are {', '.join(PARTS)}")
        self.parts = wanted or list(PARTS)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", metavar="FILE", help="write every figure there as well")
    json_path = options.parse_args().json
    rows, failures = [], []
    try:
        settings = Settings(os.environ)
        pointsman_binary()
        print(f"{'part':<10} {'what':<62} {'measured':>10} {'unit':<8} goal", flush=True)
        for part in settings.parts:
            run_part(part, settings, rows, failures)
    except (Failure, OSError) as failure:
        print(f"scale: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if json_path:
        write_json(json_path, settings, rows, failures)
    return 1 if failures else 0


def run_part(part, settings, rows, failures):
    try:
        for row in PARTS[part](settings):
            rows.append(row)
            verdict = {None: "", True: "met", False: "NOT MET"}[row.ok]
            print(f"{row.part:<10} {row.what:<62} {row.value:>10.2f} {row.unit:<8} {row.goal} {verdict}".rstrip(), flush=True)
    except (Failure, OSError) as failure:
        failures.append(f"{part}: {failure}")
        print(f"scale: {failures[-1]}", file=sys.stderr)


def write_json(path, settings, rows, failures):
    document = {
        "clients": settings.clients,
        "descriptors": descriptors(),
        "rows": [asdict(row) for row in rows],
        "failures": failures,
    }
    with open(path, "w") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


def number(environment, key, default):
    text = environment.get(key) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise Failure(f"{key}={text}: must be a number from 1 on")
    return int(text)


def at_most(part, what, value, unit, limit):
    return Row(part, what, value, unit, f"at most {limit:g}", value <= limit)


def at_least(part, what, value, unit, limit):
    return Row(part, what, value, unit, f"at least {limit:g}", value >= limit)


# ---- processes ----


def descriptors():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def rss(server):
    with open(f"/proc/{server.pid}/status") as file:
        return int(re.search(r"VmRSS:\s*(\d+)", file.read()).group(1)) * KIB


class Bench(Rig):
    """A Rig whose load, which is this process, keeps off the CPU of what is measured."""

    def __enter__(self):
        super().__enter__()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.start_redis()
        with Link(self.redis.port) as link:
            link.ask_all([("SET", "k", VALUE), ("SET", "big", b"y" * MIB)])
        self.limits, self.cpus = (soft, hard), os.sched_getaffinity(0)
        if self.load_cpu is not None:
            os.sched_setaffinity(0, {self.load_cpu})
        return self

    def __exit__(self, *arguments):
        os.sched_setaffinity(0, self.cpus)
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)
        super().__exit__(*arguments)

    def start_pointsman(self, nodes=None, **keys):
        port = free_port()
        keys = {
            "proxy.threads": 1,
            "proxy.max_clients": 100_000,
            "upstream.kind": "static",
            "upstream.nodes": nodes or f"127.0.0.1:{self.redis.port}",
            "reads.policy": "master",
            "log.level": "error",  # not that a low limit on open files allows fewer clients
            **keys,
        }
        words = [f"--{key}={value}" for key, value in keys.items()]
        return self.start("pointsman", [pointsman_binary(), f"--proxy.listen=127.0.0.1:{port}", *words], port)

    def benchmark(self, port, requests, clients=ACTIVE_CLIENTS, pipeline=1):
        """One key, so that one node is asked."""
        command = [program("redis-benchmark"), "-h", "127.0.0.1", "-p", str(port), "-n", str(requests)]
        command += ["-c", str(clients), "-P", str(pipeline), "-q", "GET", "k"]
        process = self.spawn(command, cpu=self.load_cpu, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if process.wait(120) != 0:
                raise Failure(f"redis-benchmark ended with status {process.returncode}")
        finally:
            self.end(process)

    def cost_us(self, server, requests):
        before = server.cpu_time().total_ns
        self.benchmark(server.port, requests)
        return (server.cpu_time().total_ns - before) / 1000 / requests


def settled_rss(server, seconds=4):
    """Memory goes back two or three seconds after a burst (proxy/memory.h)."""
    time.sleep(seconds)
    server.must_be_alive()
    return rss(server)


# ---- memory ----


def measure_memory(settings):
    yield from idle_memory(settings)
    yield from memory_after_bursts(settings)
    for name, command in PEERS.items():
        yield from peer_memory(settings, name, command)


def idle_memory(settings):
    count = settings.clients
    with Bench() as bench:
        server = bench.start_pointsman()
        base = settled_rss(server)

        def row(what):
            growth = (settled_rss(server) - base) / count / KIB
            return at_most("memory", f"idle client of {count}: {what}", growth, "KiB", 1.5)

        with Crowd(server.port, count) as crowd:
            yield row("connected")
            crowd.ask(GET, GET_REPLY_BYTES)
            yield row("one GET")
            crowd.ask_for_lines(encode("HELLO", "3"), b"$7\r\nmodules\r\n*0\r\n")
            crowd.ask(LIBRARY, 4 * len(b"+OK\r\n"))
            yield row("HELLO 3, CLIENT SETINFO and SETNAME, SELECT")
            crowd.ask(GET * 100, GET_REPLY_BYTES * 100)
            yield row("a pipeline of 100 GET")


def memory_after_bursts(settings):
    count = settings.clients
    with Bench() as bench:
        server = bench.start_pointsman()
        base = settled_rss(server)
        with Crowd(server.port, count) as crowd:
            crowd.ask(GET * 50, GET_REPLY_BYTES * 50, at_once=count)
            growth = (settled_rss(server, 5) - base) / count / KIB
            yield at_most("memory", f"idle client of {count}: 50 GET, all at the same time", growth, "KiB", 1.5)
            crowd.ask(encode("GET", "big"), BIG_REPLY_BYTES, at_once=20)
            growth = (settled_rss(server, 5) - base) / count / KIB
            yield at_most("memory", f"idle client of {count}: moved 1 MiB", growth, "KiB", 1.5)
        left = (settled_rss(server, 5) - base) / MIB
        yield at_most("memory", f"left when these {count} have gone", left, "MiB", 8)


def haproxy_command(bench, port):
    config = f"""\
global
    maxconn {PEER_CLIENTS + 200}
    nbthread 1
defaults
    mode tcp
    timeout connect 60s
    timeout client 600s
    timeout server 600s
listen redis
    bind 127.0.0.1:{port} backlog 4096
    server redis 127.0.0.1:{bench.redis.port}
"""
    return [program("haproxy"), "-db", "-f", bench.write("many.cfg", config)]


def nutcracker_command(bench, port):
    config = f"""\
redis:
  listen: 127.0.0.1:{port}
  redis: true
  hash: fnv1a_64
  distribution: ketama
  backlog: 4096
  servers:
    - 127.0.0.1:{bench.redis.port}:1
"""
    path = bench.write("many.yml", config)
    return [program("nutcracker"), "-c", path, "-a", "127.0.0.1", "-s", str(free_port())]


PEERS = {"haproxy": haproxy_command, "nutcracker": nutcracker_command}


def peer_memory(settings, name, command):
    count = min(PEER_CLIENTS, settings.clients)
    with Bench() as bench:
        port = free_port()
        server = bench.start(name, command(bench, port), port)
        base = settled_rss(server)
        with Crowd(port, count) as crowd:
            crowd.ask(GET, GET_REPLY_BYTES)
            growth = (settled_rss(server) - base) / count / KIB
            yield Row("memory", f"{name}: idle client of {count}: one GET", growth, "KiB")
            crowd.ask(GET * 100, GET_REPLY_BYTES * 100)
            growth = (settled_rss(server) - base) / count / KIB
            yield Row("memory", f"{name}: idle client of {count}: a pipeline of 100 GET", growth, "KiB")


# ---- connections held ----


def measure_held(settings):
    """A process has no more connections than it may have files: with a low limit it takes several, of both sides."""
    groups = -(-settings.held // settings.room)
    counts = [settings.held // groups + (group < settings.held % groups) for group in range(groups)]
    with Bench() as bench:
        servers = [bench.start_pointsman() for _ in counts]
        alone_ms = latencies_ms(servers[0].port)
        before = [settled_rss(server) for server in servers]
        start = time.monotonic()
        holders = []
        try:
            for server, count in zip(servers, counts):
                holders.append(Holder(server.port, count, sum(holder.count for holder in holders)))
            for holder in holders:
                holder.wait()
            took = time.monotonic() - start
            held = sum(clients_of(server) for server in servers)
            growth = sum(rss(server) - base for server, base in zip(servers, before)) / held / KIB
            among_ms = latencies_ms(servers[0].port)
            idle_ms = cpu_of_idle(servers, 5)
        finally:
            for holder in holders:
                holder.end()
    where = f"{groups} process{'es' if groups > 1 else ''}, `ulimit -n` {descriptors()}"
    yield at_least("held", f"connections at one time ({where})", held, "", settings.held)
    yield Row("held", "taken and answered, in a second", held / took, "1/s")
    yield at_most("held", "memory of each", growth, "KiB", 1.5)
    yield Row("held", "CPU of a process that holds its share and does nothing else", idle_ms, "ms/s")
    yield Row("held", "p99 of GET, one after another, with nobody else", percentile(alone_ms, 0.99), "ms")
    yield Row("held", "p99 of GET, one after another, among them", percentile(among_ms, 0.99), "ms")


class Holder:
    """A process of its own that holds connections: its number of files is limited as well."""

    def __init__(self, port, count, first):
        self.count = count
        self.here, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=hold, args=(there, port, count, first), daemon=True)
        self.process.start()

    def wait(self):
        if not self.here.poll(120):
            raise Failure("connections were not taken within two minutes")
        said = self.here.recv()
        if said:
            raise Failure(f"connections were not taken: {said}")

    def end(self):
        if self.process.is_alive():
            self.here.send("")
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()


def hold(pipe, port, count, first):
    try:
        with Crowd(port, count, first) as crowd:
            crowd.ask(GET, GET_REPLY_BYTES)
            pipe.send("")
            pipe.poll(HELD_SECONDS)
    except (Failure, OSError, KeyboardInterrupt) as failure:
        pipe.send(str(failure) or "interrupted")


def clients_of(server):
    with Link(server.port) as link:
        return int(re.search(rb"connected_clients:(\d+)", link.ask("INFO", "clients")).group(1)) - 1


def cpu_of_idle(servers, seconds):
    before = [server.cpu_time().total_ns for server in servers]
    time.sleep(seconds)
    used = sum(server.cpu_time().total_ns for server in servers) - sum(before)
    return used / 1e6 / seconds / len(servers)


def latencies_ms(port, seconds=5, pause=0.001):
    taken = []
    link = connect(port)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        link.sendall(GET)
        read_exactly(link, GET_REPLY_BYTES)
        taken.append((time.monotonic() - start) * 1000)
        time.sleep(pause)
    link.close()
    return taken


def percentile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


# ---- idle clients beside active ones ----


def measure_idle(settings):
    with Bench() as bench:
        few, many = bench.start_pointsman(), bench.start_pointsman()
        idle = settings.clients - ACTIVE_CLIENTS
        with Crowd(many.port, idle) as crowd:
            crowd.ask(GET, GET_REPLY_BYTES)
            ratios = []
            for turn in range(-1, settings.rounds):  # turn -1 warms up
                order = (few, many) if turn % 2 else (many, few)
                cost = {server.port: bench.cost_us(server, settings.requests) for server in order}
                ratios += [cost[many.port] / cost[few.port]] if turn >= 0 else []
    what = f"CPU per GET, {ACTIVE_CLIENTS} active and {idle} idle clients / the {ACTIVE_CLIENTS} alone"
    yield at_most("idle", what, statistics.median(ratios), "", 1.1)


# ---- nodes that are not asked ----


def measure_nodes(settings):
    """One redis-server at many addresses is a replica at each of them; all that is asked goes to its master."""
    with Bench() as bench:
        port = start_replica(bench)
        servers = {}
        for count in NODE_COUNTS:
            replicas = [f"127.0.{1 + each // 200}.{1 + each % 200}:{port}" for each in range(count - 1)]
            nodes = ",".join([f"127.0.0.1:{bench.redis.port}", *replicas])
            servers[count] = bench.start_pointsman(nodes)
        time.sleep(2)
        background = {count: cpu_of_idle([server], settings.seconds / 2) for count, server in servers.items()}
        costs = {count: [] for count in NODE_COUNTS}
        for turn in range(settings.rounds):
            for count in NODE_COUNTS if turn % 2 else reversed(NODE_COUNTS):
                start = time.monotonic()
                cost = bench.cost_us(servers[count], settings.requests)
                beside = background[count] * (time.monotonic() - start) * 1000 / settings.requests
                costs[count].append((cost - beside, cost))
    for count in NODE_COUNTS:
        yield Row("nodes", f"background of {count} nodes", background[count], "ms/s")
    for count in NODE_COUNTS[1:]:
        for number_of, what in enumerate(("without the background", "all in all")):
            ratio = statistics.median(a[number_of] / b[number_of] for a, b in zip(costs[count], costs[NODE_COUNTS[0]]))
            text = f"CPU per GET, {count} nodes / {NODE_COUNTS[0]} nodes, {what}"
            yield at_most("nodes", text, ratio, "", 1.1) if number_of == 0 else Row("nodes", text, ratio, "")


def start_replica(bench):
    port = free_port()
    command = [program("redis-server"), "--bind", "0.0.0.0", "--protected-mode", "no", "--port", str(port)]
    command += ["--replicaof", f"127.0.0.1 {bench.redis.port}", "--save", "", "--dir", bench.directory]
    command += ["--maxclients", "10000", "--loglevel", "warning"]
    bench.start("replica", command, port)
    deadline = time.monotonic() + 20
    with Link(port) as link:
        while b"master_link_status:up" not in link.ask("INFO", "replication"):
            if time.monotonic() > deadline:
                raise Failure("the replica does not reach its master")
            time.sleep(0.1)
    return port


def measure_decisions(_):
    path = os.path.join(ROOT, "build/bench/decision_bench")
    if not os.access(path, os.X_OK):
        raise Failure("build/bench/decision_bench is missing: `make build/bench/decision_bench`")
    answer = subprocess.run([path], capture_output=True, text=True, timeout=120, check=False)
    found = re.findall(r"^(\S.*?): 1000 nodes / 3 nodes ([\d.]+)$", answer.stdout, re.MULTILINE)
    if answer.returncode != 0 or not found:
        raise Failure(f"decision_bench ended with status {answer.returncode}")
    for what, ratio in found:
        yield at_most("decisions", f"{what}, 1000 nodes / 3 nodes", float(ratio), "", 1.1)


# ---- overload ----


def measure_overload(settings):
    with Bench() as bench:
        server = bench.start_pointsman()
        flood = Flood(server.port, ACTIVE_CLIENTS, GET, GET_REPLY_BYTES)
        seconds = settings.seconds
        flood.closed_loop(16, 1)
        rounds = [peak_and_beyond(server, flood, seconds) for _ in range(settings.rounds)]
        peak = statistics.median(peak for peak, _, _, _ in rounds)
        seen = []
        flood.open_loop(2 * peak, 2 * seconds, 1.0, lambda: seen.append(rss(server)))
        after = settled_rss(server, 5)
        flood.close()
    peak_ms, beyond_ms = (sum((one[which] for one in rounds), []) for which in (1, 3))
    early, late = max(seen[len(seen) // 4 : len(seen) // 2]), max(seen[3 * len(seen) // 4 :])
    yield Row("overload", f"peak: {ACTIVE_CLIENTS} clients, 64 requests in flight each", peak / 1000, "1000/s")
    share = statistics.median(beyond / peak for peak, _, beyond, _ in rounds)
    yield at_least("overload", "throughput where twice as much is sent / peak, by turns", share, "", 0.9)
    yield Row("overload", "memory meanwhile", late / MIB, "MiB")
    yield at_most("overload", "memory in the last quarter of the time / in the second", late / early, "", 1.05)
    yield Row("overload", "memory after it", after / MIB, "MiB")
    yield Row("overload", "p99 of a client that waits for its replies, at the peak", percentile(peak_ms, 0.99), "ms")
    yield Row("overload", "p99 of a client that waits for its replies, at twice the peak", percentile(beyond_ms, 0.99), "ms")


def peak_and_beyond(server, flood, seconds):
    """The machine may have more time for us now than in a while: each peak is beside what comes right after it."""
    peak, peak_ms = beside_a_patient_client(server, seconds / 2, lambda: flood.closed_loop(64, seconds / 2))
    beyond, beyond_ms = beside_a_patient_client(
        server, seconds / 2, lambda: flood.open_loop(2 * peak, seconds / 2, seconds / 8, lambda: None)
    )
    return peak, peak_ms, beyond, beyond_ms


def beside_a_patient_client(server, seconds, load):
    here, there = multiprocessing.Pipe()
    client = multiprocessing.Process(target=tell_latencies, args=(there, server.port, seconds), daemon=True)
    client.start()
    outcome = load()
    taken = here.recv() if here.poll(60) else []
    client.join(10)
    if not taken:
        raise Failure("the client beside the load was not answered")
    return outcome, taken


def tell_latencies(pipe, port, seconds):
    pipe.send(latencies_ms(port, seconds, pause=0.005))


PARTS = {
    "memory": measure_memory,
    "held": measure_held,
    "idle": measure_idle,
    "nodes": measure_nodes,
    "decisions": measure_decisions,
    "overload": measure_overload,
}

if __name__ == "__main__":
    sys.exit(main())
