# SPDX-License-Identifier: BSD-2-Clause
"""The scenarios, and redis-benchmark as their load."""

import csv
import re
import subprocess
from dataclasses import dataclass

from rig import Failure, Link, program

SLOWEST_PER_SECOND = 5000  # a run that is slower than this, and the time to start, has hung
START_SECONDS = 30
FILL_BATCH = 500
ENDLESS = 2_000_000_000  # requests: hours


@dataclass(frozen=True)
class Scenario:
    name: str
    command: tuple  # what redis-benchmark is told to send
    share: float  # of the requests of a p1 run, so that all runs take about as long
    clients: int = 50
    pipeline: int = 1
    value_bytes: int = 64
    keys: int = 100_000
    reads_per_request: int = 0

    def arguments(self, requests):
        numbers = {"-n": requests, "-c": self.clients, "-P": self.pipeline}
        numbers |= {"-d": self.value_bytes, "-r": self.keys}
        options = [str(word) for pair in numbers.items() for word in pair]
        return [*options, *self.command]

    def requests(self, p1_requests):
        return max(int(p1_requests * self.share), 2 * self.clients * self.pipeline)


GET, SET = ("-t", "get"), ("-t", "set")
MGET10 = ("mget", *["key:__rand_int__"] * 10)
BIG = {"value_bytes": 16384, "keys": 1000}  # 16 MiB of values

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("get_p1", GET, 1, reads_per_request=1),
        Scenario("set_p1", SET, 1),
        Scenario("get_p16", GET, 5, pipeline=16, reads_per_request=1),
        Scenario("set_p16", SET, 5, pipeline=16),
        Scenario("get_c1000", GET, 0.75, clients=1000, reads_per_request=1),
        Scenario("set_c1000", SET, 0.75, clients=1000),
        Scenario("get_16k", GET, 0.4, reads_per_request=1, **BIG),
        Scenario("set_16k", SET, 0.4, **BIG),
        Scenario("mget10", MGET10, 0.5, reads_per_request=10),
    )
}


@dataclass(frozen=True)
class Outcome:
    """As redis-benchmark saw it."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Served:
    """As Redis counted it."""

    commands: int
    hits: int

    def __sub__(self, earlier):
        return Served(self.commands - earlier.commands, self.hits - earlier.hits)


def fill(redis, scenario):
    """Gives every key that the scenario may ask for a value of its size, and removes all others."""
    value = b"x" * scenario.value_bytes
    with Link(redis.port) as link:
        link.ask("FLUSHALL")
        for first in range(0, scenario.keys, FILL_BATCH):
            numbers = range(first, min(first + FILL_BATCH, scenario.keys))
            link.ask_all([("SET", f"key:{number:012}", value) for number in numbers])


def served(redis):
    with Link(redis.port) as link:
        text = link.ask("INFO", "stats").decode()
    count = dict(re.findall(r"^(\w+):(\d+)\r?$", text, re.MULTILINE))
    return Served(int(count["total_commands_processed"]), int(count["keyspace_hits"]))


def run(rig, port, scenario, requests):
    """One bounded run of redis-benchmark."""
    command = benchmark(port, "--csv", *scenario.arguments(requests))
    limit_seconds = START_SECONDS + requests / SLOWEST_PER_SECOND
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = rig.spawn(command, cpu=rig.load_cpu, **streams)
    try:
        output, errors = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        raise Failure(f"redis-benchmark was not done after {limit_seconds:.0f} s") from None
    finally:
        rig.end(process)
    return parse(output, errors)


def start_endless(rig, port, scenario):
    """Load until it is ended with rig.end()."""
    command = benchmark(port, "-q", *scenario.arguments(ENDLESS))
    return rig.spawn(command, cpu=rig.load_cpu, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def benchmark(port, *arguments):
    return [program("redis-benchmark"), "-h", "127.0.0.1", "-p", str(port), *arguments]


def parse(output, errors):
    lines = output.splitlines()
    header = next((number for number, line in enumerate(lines) if line.startswith('"test"')), None)
    rows = list(csv.DictReader(lines[header:])) if header is not None else []
    if len(rows) != 1 or "Error from server" in output + errors:
        said = " ".join(line for line in [*errors.splitlines(), *lines] if not line.startswith('"'))
        raise Failure(f"redis-benchmark failed: {said[-500:] or 'it said nothing'}")
    row = rows[0]
    return Outcome(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


def check_that_redis_did_the_work(scenario, requests, did):
    """A proxy that answers without asking, or asks for something else, must not look cheap."""
    if did.commands < requests * 0.999 or did.hits < requests * scenario.reads_per_request * 0.999:
        saw = f"Redis saw {did.commands} commands and {did.hits} hits"
        raise Failure(f"{requests} requests were answered, but {saw}")
