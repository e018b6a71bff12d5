#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
What a request costs through Pointsman, HAProxy (TCP mode), nutcracker, the floor (floor.c: parses nothing), and with no
proxy between, in one run; and how long it waits.

For each scenario the contestants take turns, in an order that rotates from round to round, before the same nodes: one
Redis (get_p1 and so on), three masters (c_...: a Redis Cluster for Pointsman, three servers for nutcracker, and
Pointsman before one of these), a master with two replicas (r_...: reads from replicas, and all from the master). The
figure that counts is the CPU time (user + system, all threads) of the proxy's process per request beside a peer in the
same run; requests per second depend on the machine and on what else it does. A ratio is the median of the rounds'
ratios. open_70 sends at 70 % of the lowest of the peaks that the contestants have just shown (peak), at times that do
not depend on replies, and latency counts from when a request was due; open_70_own at 70 % of Pointsman's peak, beside
those that can follow. A request that waited for a tenth of its time or more because the machine kept the load
itself from running, for more than a millisecond, is left out of the latencies; if so do more than a tenth of all, nothing
is judged.

Environment:
  BENCH_SCENARIOS  names with commas between       default: all
  BENCH_PROXIES    names with commas between       default: all that a scenario has
  BENCH_ROUNDS     rounds per scenario             default: 5
  BENCH_REQUESTS   requests of one p1 run, the other scenarios are scaled from it    default: 100000
  BENCH_KEYS       keys at most                    default: 100000
  BENCH_POINTSMAN  the program to measure          default: build/pointsman
  QUICK=1          3 rounds of 20000 requests of some scenarios: about a minute, good for a first look
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace

import hotspots
import report
from backends import DIRECT, HAPROXY, NUTCRACKER, POINTSMAN, POINTSMAN_MASTER, POINTSMAN_ONE, WORLDS
from load import LOWEST, SCENARIOS, check_that_nodes_did_the_work, fill, run, served
from rig import Failure, Rig, openloop_binary, pointsman_binary

SETTLE_SECONDS = 0.5
SHARE_OF_PEAK = 0.7
CAN_FOLLOW = 0.95  # a rate above so much of a contestant's peak is not for it
KEYS_MAX = 100_000
REPLICA_SHARE_MIN = 0.5  # less is no split
CONTESTANTS = list(dict.fromkeys(name for world in WORLDS.values() for name in world.contestants))
QUICK_SCENARIOS = ("get_p1", "get_p16", "peak", "open_70", "c_get_p16", "c_mget10", "r_mix_p1")


@dataclass(frozen=True)
class Sample:
    """One run. Times are microseconds of CPU per request; proxy_* is 0 when there is none between."""

    requests_per_second: float
    proxy_us: float
    proxy_system_share: float
    redis_us: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    load_was_the_limit: bool
    disturbed: float  # see load.Outcome
    replica_share: float = 0.0  # of the hits

    @property
    def both_us(self):
        return self.proxy_us + self.redis_us


@dataclass(frozen=True)
class Goal:
    """Pointsman's figure in a scenario, divided by the same figure of a peer, is at most this."""

    scenario: str
    figure: str
    beside: str
    at_most: float


GOALS = (
    Goal("get_p1", "proxy_us", HAPROXY, 0.62),
    Goal("set_p1", "proxy_us", HAPROXY, 0.62),
    Goal("get_p16", "proxy_us", NUTCRACKER, 0.24),
    Goal("set_p16", "proxy_us", NUTCRACKER, 0.30),
    Goal("get_p16", "proxy_us", HAPROXY, 0.90),
    Goal("get_c1000", "proxy_us", HAPROXY, 0.41),
    Goal("set_c1000", "proxy_us", HAPROXY, 0.41),
    Goal("get_c1000", "both_us", DIRECT, 1.07),
    Goal("set_c1000", "both_us", DIRECT, 1.07),
    Goal("get_16k", "proxy_us", HAPROXY, 0.58),
    Goal("get_p1", "redis_us", DIRECT, 0.34),
    Goal("set_p1", "redis_us", DIRECT, 0.34),
    Goal("c_mget10", "proxy_us", NUTCRACKER, 0.60),
    Goal("c_get_p1", "proxy_us", NUTCRACKER, 0.70),
    Goal("c_get_p16", "proxy_us", NUTCRACKER, 0.30),
    Goal("c_get_p16", "proxy_us", POINTSMAN_ONE, 1.3),
    Goal("r_get_p1", "proxy_us", POINTSMAN_MASTER, 1.1),
    Goal("r_mix_p1", "proxy_us", POINTSMAN_MASTER, 1.1),
    Goal("open_70", "p99_ms", HAPROXY, 1.0),
    Goal("open_70_own", "p99_ms", HAPROXY, 1.0),
    Goal("tls", "proxy_us", HAPROXY, 0.8),
)
NOT_MEASURED = {("tls", HAPROXY): "Pointsman does not speak TLS to clients yet"}


def main():
    options = parse_command_line()
    try:
        settings = Settings(os.environ)
        if options.perf:
            scenario = SCENARIOS[options.perf]
            hotspots.report(scenario, settings.perf_proxies, options.seconds, settings.p1_requests)
            return 0
        if options.renew:
            report.renew_readme(options.renew)
            return 0
        return bench(settings, options)
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parse_command_line():
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--json", metavar="FILE", help="write every figure of every round there as well")
    parser.add_argument("--chart", metavar="FILE", help="draw the costs there as well, in SVG")
    parser.add_argument(
        "--perf",
        metavar="SCENARIO",
        choices=[name for name, scenario in SCENARIOS.items() if not scenario.rate_of_peak],
        help="show where the time goes instead: hot symbols and system calls per request, of pointsman "
        "or of BENCH_PROXIES; BENCH_PROFILER=callgrind counts instructions",
    )
    parser.add_argument("--seconds", type=float, default=5, help="of load for --perf (default: 5)")
    parser.add_argument(
        "--renew",
        metavar="JSON",
        nargs="+",
        help="measure nothing, but write what is in these files into README.md and its chart",
    )
    return parser.parse_args()


class Settings:
    def __init__(self, environment):
        quick = environment.get("QUICK", "") not in ("", "0")
        self.rounds = number(environment, "BENCH_ROUNDS", 3 if quick else 5, 1, 1000)
        requests = 20_000 if quick else 100_000
        self.p1_requests = number(environment, "BENCH_REQUESTS", requests, 1000, 100_000_000)
        self.keys = number(environment, "BENCH_KEYS", KEYS_MAX, 1, KEYS_MAX)
        self.scenarios = names(environment, "BENCH_SCENARIOS", SCENARIOS, QUICK_SCENARIOS if quick else None)
        self.proxies = names(environment, "BENCH_PROXIES", CONTESTANTS)
        chosen = self.proxies if environment.get("BENCH_PROXIES") else [POINTSMAN]
        self.perf_proxies = [name for name in chosen if name != DIRECT]

    def scenarios_of(self, world):
        """In the order of the table: peaks come before what depends on them, and are measured for its sake."""
        chosen = [SCENARIOS[name] for name in self.scenarios]
        if any(scenario.rate_of_peak for scenario in chosen):
            chosen.append(SCENARIOS["peak"])
        here = [scenario for scenario in SCENARIOS.values() if scenario in chosen and scenario.world == world]
        return [with_keys(scenario, self.keys) for scenario in here]


def number(environment, key, default, low, high):
    text = environment.get(key) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise Failure(f"{key}={text}: must be a number between {low} and {high}")
    return int(text)


def with_keys(scenario, keys_max):
    return replace(scenario, keys=min(scenario.keys, keys_max))


def names(environment, key, known, default=None):
    chosen = [name.strip() for name in environment.get(key, "").split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise Failure(f"{key}: no {', '.join(unknown)}; there are {', '.join(known)}")
    return list(dict.fromkeys(chosen or default or known))


@dataclass
class Results:
    samples: dict = field(default_factory=dict)  # (scenario, contestant): a list of one for each round
    rates: dict = field(default_factory=dict)  # of open loops: scenario: requests per second
    failures: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    loads: dict = field(default_factory=dict)  # the program that makes load: samples without a proxy between
    why_not: dict = field(default_factory=lambda: dict(NOT_MEASURED))  # (scenario, contestant): why it was not measured

    def cannot_follow(self, scenario, name, how):
        self.why_not[scenario, name] = f"{report.NAMES[name]} cannot follow"
        self.note(f"{scenario}: {name} cannot follow {how}")

    def note(self, text):
        self.notes.append(text)
        print(f"  {text}", flush=True)

    def failed(self, text):
        self.failures.append(text)
        print(f"bench: {text}", file=sys.stderr, flush=True)


def bench(settings, options):
    if any(name.startswith(POINTSMAN) for name in settings.proxies):
        pointsman_binary()
    openloop_binary()
    results = Results()
    started = time.monotonic()
    report.print_setting(settings)
    report.print_headings()
    try:
        for world in WORLDS:
            scenarios = settings.scenarios_of(world)
            if scenarios:
                with Rig() as rig:
                    measure_world(rig, WORLDS[world], scenarios, settings, results)
    finally:  # whoever loses patience keeps what there is
        document = report.document_of(settings, results, GOALS, time.monotonic() - started)
        report.print_goals(document)
        report.write(document, options.json, options.chart)
    if results.failures:
        print(f"bench: {len(results.failures)} measurements failed, see above", file=sys.stderr)
    return 1 if results.failures else 0


def measure_world(rig, world_kind, scenarios, settings, results):
    world = world_kind(rig)
    started = {}
    for name in world.contestants:
        if name in settings.proxies and name != DIRECT:
            started[name] = world.start(name)
    contestants = [name for name in world.contestants if name in settings.proxies]
    for scenario in scenarios:
        alive = [name for name in contestants if name not in scenario.without]
        rate = 0.0
        if scenario.rate_of_peak:
            rate, alive = rate_for(scenario, alive, results)
        measure(rig, world, started, scenario, alive, rate, settings, results)
        report.print_scenario(scenario, alive, results)
        if scenario.name == "peak" and DIRECT in alive:
            cross_check(rig, world, settings, results)


def cross_check(rig, world, settings, results):
    """Both programs ask the same of the same Redis, by turns."""
    scenarios = [with_keys(SCENARIOS[name], settings.keys) for name in ("get_p1", "peak")]
    try:
        for scenario in settings.rounds * scenarios:
            requests = scenario.requests(settings.p1_requests)
            sample = measure_once(rig, world, DIRECT, None, scenario, requests, 0.0)
            results.loads.setdefault(scenario.by, []).append(sample)
    except (Failure, OSError) as failure:
        results.failed(f"cross-check of the load programs: {failure}")
    report.print_loads(results.loads)


def rate_for(scenario, contestants, results):
    """Requests per second of an open loop, and the contestants that can follow."""
    samples = {name: results.samples.get(("peak", name)) for name in contestants}
    peaks = {name: report.median(own, "requests_per_second") for name, own in samples.items() if own}
    proxies = {name: peak for name, peak in peaks.items() if name != DIRECT}
    if not proxies or (scenario.rate_of_peak != LOWEST and scenario.rate_of_peak not in proxies):
        results.failed(f"{scenario.name}: there is no peak to take 70 % of")
        return 0.0, []
    peak = min(proxies.values()) if scenario.rate_of_peak == LOWEST else proxies[scenario.rate_of_peak]
    rate = results.rates[scenario.name] = round(SHARE_OF_PEAK * peak)
    following = [name for name in peaks if rate <= CAN_FOLLOW * peaks[name]]
    for name in peaks:
        if name not in following:
            results.cannot_follow(scenario.name, name, f"at {rate}/s; its peak is {peaks[name]:.0f}/s")
    return rate, following


def measure(rig, world, started, scenario, alive, rate, settings, results):
    """Adds a list of samples, one a round, for each contestant that came through all of them."""
    requests = scenario.requests(settings.p1_requests)
    alive = list(alive)
    fill(rig, world, scenario, {name: started[name] for name in alive if name != DIRECT})
    for turn in range(-1, settings.rounds):  # turn -1 warms up
        for name in rotated(list(alive), turn):
            wanted = requests if turn >= 0 else scenario.requests(settings.p1_requests // 10)
            try:
                sample = measure_once(rig, world, name, started.get(name), scenario, wanted, rate)
            except (Failure, OSError) as failure:
                results.failed(f"{scenario.name} {name}: {failure}")
                alive.remove(name)
                results.samples.pop((scenario.name, name), None)
                continue
            if turn >= 0:
                results.samples.setdefault((scenario.name, name), []).append(sample)


def rotated(items, by):
    by %= len(items) or 1
    return items[by:] + items[:by]


def measure_once(rig, world, name, proxy, scenario, requests, rate):
    nodes = world.nodes_of(name)
    watched = [*nodes, proxy] if proxy else nodes
    served_before = served(nodes)
    before = [server.cpu_time() for server in watched]
    outcome = run(rig, watched[-1].port, scenario, requests, rate)
    settle(watched)
    used = [server.cpu_time() - earlier for server, earlier in zip(watched, before)]
    did = served(nodes) - served_before
    check_that_nodes_did_the_work(scenario, outcome.requests, did)
    sample = Sample(
        requests_per_second=outcome.requests_per_second,
        proxy_us=used[-1].total_ns / 1000 / outcome.requests if proxy else 0.0,
        proxy_system_share=used[-1].system_share if proxy else 0.0,
        redis_us=sum(one.total_ns for one in used[: len(nodes)]) / 1000 / outcome.requests,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        p999_ms=outcome.p999_ms,
        load_was_the_limit=outcome.was_the_limit,
        disturbed=outcome.disturbed,
        replica_share=1 - did.hits_of_first / did.hits if scenario.world == "replicas" and did.hits else 0.0,
    )
    check_that_reads_were_split(scenario, name, sample)
    return sample


def check_that_reads_were_split(scenario, name, sample):
    if scenario.world == "replicas" and name == POINTSMAN and sample.replica_share < REPLICA_SHARE_MIN:
        raise Failure(f"replicas answered {100 * sample.replica_share:.0f} % of the reads")


def settle(servers):
    """The load has gone; its connections are still being closed, and that belongs to the bill."""
    deadline = time.monotonic() + SETTLE_SECONDS
    used_ns = -1
    while time.monotonic() < deadline:
        now_ns = sum(server.cpu_time().total_ns for server in servers)
        if now_ns - used_ns < 200_000:
            return
        used_ns = now_ns
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
