# SPDX-License-Identifier: BSD-2-Clause
"""
The scenarios, and their load: redis-benchmark, or openloop of our own where it is asked for what redis-benchmark
does not know: a mix, a rate, lock steps.
"""

import json
import re
import subprocess
from dataclasses import dataclass

from rig import Failure, info, openloop_binary, program

SLOWEST_PER_SECOND = 5000  # a run that is slower than this, and the time to start, has hung
START_SECONDS = 30
ENDLESS = 2_000_000_000  # requests: hours
WARM_UP_SECONDS = 0.3  # of an open loop
FILL = ("--fill", "--connections", "4", "--pipeline", "100")

KEY = "key:__rand_int__"
BENCHMARK_WORDS = {
    "get": ("-t", "get"),
    "set": ("-t", "set"),
    "mget": ("mget", *[KEY] * 10),
    "mset": ("mset", *[KEY, "value"] * 10),
}
OPENLOOP_WORDS = {
    "get": (),
    "set": ("--writes", "100"),
    "mix": ("--writes", "5"),
    "mget": ("--mget", "10"),
}
READS = {"get": 1, "mix": 0.94, "mget": 10}  # keys that a request finds, at least


@dataclass(frozen=True)
class Scenario:
    name: str
    kind: str
    share: float  # of the requests of a p1 run, so that all runs take about as long
    what: str  # in words, for people
    world: str = "one"
    clients: int = 50
    pipeline: int = 1
    value_bytes: int = 64
    keys: int = 100_000
    by: str = "redis-benchmark"
    rate_of_peak: str = ""  # openloop at 70 % of the peak of: a contestant, or the lowest
    without: tuple = ()  # contestants that have no part in it

    def requests(self, p1_requests):
        return max(int(p1_requests * self.share), 2 * self.clients * self.pipeline)


BIG = {"value_bytes": 16384, "keys": 1000}  # 16 MiB of values
OPEN = {"by": "openloop", "without": ("nutcracker", "floor")}
LOWEST = "the lowest"

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("get_p1", "get", 1, "GET, 50 clients"),
        Scenario("set_p1", "set", 1, "SET, 50 clients"),
        Scenario("get_p16", "get", 5, "GET, pipelines of 16", pipeline=16),
        Scenario("set_p16", "set", 5, "SET, pipelines of 16", pipeline=16),
        Scenario("get_c1000", "get", 0.75, "GET, 1,000 clients", clients=1000),
        Scenario("set_c1000", "set", 0.75, "SET, 1,000 clients", clients=1000),
        Scenario("get_16k", "get", 0.4, "GET of 16 KiB", **BIG),
        Scenario("set_16k", "set", 0.4, "SET of 16 KiB", without=("floor",), **BIG),
        Scenario("mget10", "mget", 0.5, "MGET of 10 keys"),
        Scenario("peak", "get", 1, "GET, 50 clients, by openloop", **OPEN),
        Scenario("open_70", "get", 1, "GET at 70 % of the lower peak", rate_of_peak=LOWEST, **OPEN),
        Scenario("open_70_own", "get", 1, "GET at 70 % of Pointsman's peak", rate_of_peak="pointsman", **OPEN),
        Scenario("c_get_p1", "get", 1, "GET, 50 clients", "three"),
        Scenario("c_set_p1", "set", 1, "SET, 50 clients", "three"),
        Scenario("c_get_p16", "get", 4, "GET, pipelines of 16", "three", pipeline=16),
        Scenario("c_set_p16", "set", 4, "SET, pipelines of 16", "three", pipeline=16),
        Scenario("c_mget10", "mget", 0.5, "MGET of 10 keys", "three"),
        Scenario("c_mset10", "mset", 0.5, "MSET of 10 keys", "three"),
        Scenario("r_get_p1", "get", 1, "GET, 50 clients", "replicas", by="openloop"),
        Scenario("r_mix_p1", "mix", 1, "19 GET to 1 SET, 50 clients", "replicas", by="openloop"),
    )
}


@dataclass(frozen=True)
class Outcome:
    """As the load saw it."""

    requests: int  # sent, whether measured or not
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    was_the_limit: bool = False
    disturbed: float = 0.0  # of the requests, which the latencies are without


@dataclass(frozen=True)
class Served:
    """As the nodes counted it."""

    commands: int
    hits: int
    hits_of_first: int

    def __sub__(self, earlier):
        return Served(
            self.commands - earlier.commands,
            self.hits - earlier.hits,
            self.hits_of_first - earlier.hits_of_first,
        )


def fill(rig, world, scenario, started):
    """Gives every key that the scenario may ask for a value of its size, and removes all others."""
    world.empty()
    for port in dict.fromkeys(world.fill_ports(started)):
        openloop(rig, port, *FILL, *openloop_size(scenario), limit_seconds=START_SECONDS)
    world.settle()


def openloop_size(scenario):
    return ("--keys", str(scenario.keys), "--value-bytes", str(scenario.value_bytes))


def served(nodes):
    counts = [info(node, "stats") for node in nodes]
    commands = sum(int(count["total_commands_processed"]) for count in counts)
    hits = [int(count["keyspace_hits"]) for count in counts]
    return Served(commands, sum(hits), hits[0])


def run(rig, port, scenario, requests, rate=0.0):
    """One bounded run. rate: requests per second, for an open loop; 0: as many as go."""
    if scenario.by == "openloop":
        return run_openloop(rig, port, scenario, requests, rate)
    command = benchmark(port, *benchmark_arguments(scenario, requests))
    status, output, errors = finish(rig, command, limit_of(requests))
    return parse_benchmark(status, output, errors, requests)


def limit_of(requests):
    return START_SECONDS + requests / SLOWEST_PER_SECOND


def run_openloop(rig, port, scenario, requests, rate):
    words = [*openloop_arguments(scenario), "--requests", str(requests)]
    if rate:
        words += ["--rate", str(rate), "--poisson", "--warmup", str(WARM_UP_SECONDS)]
    else:
        words += ["--pipeline", str(scenario.pipeline)]
    said = openloop(rig, port, *words, limit_seconds=limit_of(requests))
    disturbed = said["disturbed"] / max(said["answered"], 1) if rate else 0.0
    latency = said["undisturbed_us" if 0.0 < disturbed < 1.0 else "latency_us"]
    percentiles = [latency[name] / 1000 for name in ("p50", "p99", "p99_9")]
    return Outcome(said["sent"], said["requests_per_second"], *percentiles, said["was_the_limit"], disturbed)


def openloop_arguments(scenario):
    return [*OPENLOOP_WORDS[scenario.kind], "--connections", str(scenario.clients), *openloop_size(scenario)]


def openloop(rig, port, *words, limit_seconds):
    command = [openloop_binary(), "--port", str(port), *words]
    status, output, errors = finish(rig, command, limit_seconds)
    if not output:
        raise Failure(errors.strip() or f"openloop ended with status {status}")
    said = json.loads(output)
    if status != 0:
        raise Failure(f"openloop: {said['failure'] or said['first_complaint']}")
    return said


def finish(rig, command, limit_seconds):
    """Runs it on the CPU of the load: exit status, output, errors."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = rig.spawn(command, cpu=rig.load_cpu, **streams)
    try:
        output, errors = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        raise Failure(f"{command[0]} was not done after {limit_seconds:.0f} s") from None
    finally:
        rig.end(process)
    return process.returncode, output, errors


def start_endless(rig, port, scenario):
    """Load until it is ended with rig.end()."""
    command = benchmark(port, "-q", *benchmark_arguments(scenario, ENDLESS))
    if scenario.by == "openloop":
        command = [openloop_binary(), "--port", str(port), *openloop_arguments(scenario), "--seconds", "3600"]
    return rig.spawn(command, cpu=rig.load_cpu, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def benchmark(port, *arguments):
    return [program("redis-benchmark"), "-h", "127.0.0.1", "-p", str(port), "--precision", "3", *arguments]


def benchmark_arguments(scenario, requests):
    numbers = {"-n": requests, "-c": scenario.clients, "-P": scenario.pipeline}
    numbers |= {"-d": scenario.value_bytes, "-r": scenario.keys}
    options = [str(word) for pair in numbers.items() for word in pair]
    return [*options, *BENCHMARK_WORDS[scenario.kind]]


def parse_benchmark(status, output, errors, requests):
    rate = re.search(r"throughput summary: ([\d.]+)", output)
    summary = re.search(r"latency summary .*\n.*\n\s*([\d. ]+)$", output, re.MULTILINE)
    if status != 0 or not rate or not summary or "Error from server" in output + errors:
        said = " ".join([*errors.splitlines(), *output.splitlines()])
        raise Failure(f"redis-benchmark failed: {said[-500:] or 'it said nothing'}")
    _, _, p50, _, p99, _ = map(float, summary[1].split())
    steps = re.findall(r"^([\d.]+)% <= ([\d.]+) milliseconds", output, re.MULTILINE)
    p999 = min(float(latency) for share, latency in steps if float(share) >= 99.9)
    return Outcome(requests, float(rate[1]), p50, p99, p999)


def check_that_nodes_did_the_work(scenario, requests, did):
    """A proxy that answers without asking, or asks for something else, must not look cheap."""
    if did.commands < requests * 0.999 or did.hits < requests * READS.get(scenario.kind, 0) * 0.999:
        saw = f"Redis saw {did.commands} commands and {did.hits} hits"
        raise Failure(f"{requests} requests were answered, but {saw}")
