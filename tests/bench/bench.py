#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
What a request costs through Pointsman, HAProxy (TCP mode), nutcracker, and with no proxy between, in one run.

For each scenario the proxies take turns, in an order that rotates from round to round, in front of one
Redis. The figure that counts is the CPU time (user + system, all threads) of the proxy's process per
request beside a peer in the same run; requests per second depend on the machine and on what else it does. A
ratio is the median of the rounds' ratios.

Environment:
  BENCH_SCENARIOS  names with commas between       default: all
  BENCH_PROXIES    names with commas between       default: direct,haproxy,nutcracker,pointsman
  BENCH_ROUNDS     rounds per scenario             default: 5
  BENCH_REQUESTS   requests of one p1 run, the other scenarios are scaled from it    default: 200000
  BENCH_POINTSMAN  the program to measure          default: build/pointsman
  QUICK=1          3 rounds of 30000 requests: about a minute, good for a first look
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import hotspots
from load import SCENARIOS, check_that_redis_did_the_work, fill, run, served
from rig import PROXIES, Failure, Rig, pointsman_binary

DIRECT = "direct"
SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Sample:
    """One run. Times are microseconds of CPU per request; proxy_* is 0 when there is none between."""

    requests_per_second: float
    proxy_us: float
    proxy_system_share: float
    redis_us: float
    p50_ms: float
    p99_ms: float

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


FIGURES = {"proxy_us": "proxy us", "redis_us": "redis us", "both_us": "p+r us"}

GOALS = (
    Goal("get_p1", "proxy_us", "haproxy", 0.62),
    Goal("set_p1", "proxy_us", "haproxy", 0.62),
    Goal("get_p16", "proxy_us", "nutcracker", 0.24),
    Goal("set_p16", "proxy_us", "nutcracker", 0.30),
    Goal("get_p16", "proxy_us", "haproxy", 0.90),
    Goal("get_c1000", "proxy_us", "haproxy", 0.41),
    Goal("set_c1000", "proxy_us", "haproxy", 0.41),
    Goal("get_c1000", "both_us", DIRECT, 1.07),
    Goal("set_c1000", "both_us", DIRECT, 1.07),
    Goal("get_16k", "proxy_us", "haproxy", 0.58),
    Goal("get_p1", "redis_us", DIRECT, 0.34),
    Goal("set_p1", "redis_us", DIRECT, 0.34),
)

HEADINGS = ("scenario", "proxy", "req/s", "proxy us", "min-max", "sys%", "redis us", "p+r us")
HEADINGS += ("p50 ms", "p99 ms", "/haproxy", "/nutcracker")
WIDTHS = (10, 10, 8, 9, 13, 5, 9, 7, 7, 7, 9, 12)


def main():
    options = parse_command_line()
    try:
        settings = Settings(os.environ)
        if options.perf:
            scenario = SCENARIOS[options.perf]
            hotspots.report(scenario, settings.perf_proxies, options.seconds, settings.p1_requests)
            return 0
        return bench(settings, options.json)
    except (Failure, OSError) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parse_command_line():
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--json", metavar="FILE", help="write every figure of every round there as well")
    parser.add_argument(
        "--perf",
        metavar="SCENARIO",
        choices=SCENARIOS,
        help="show where the time goes instead: hot symbols and system calls per request, of pointsman "
        "or of BENCH_PROXIES; BENCH_PROFILER=callgrind counts instructions",
    )
    parser.add_argument("--seconds", type=float, default=5, help="of load for --perf (default: 5)")
    return parser.parse_args()


class Settings:
    def __init__(self, environment):
        quick = environment.get("QUICK", "") not in ("", "0")
        self.rounds = number(environment, "BENCH_ROUNDS", 3 if quick else 5, 1, 1000)
        requests = 30_000 if quick else 200_000
        self.p1_requests = number(environment, "BENCH_REQUESTS", requests, 1000, 100_000_000)
        self.scenarios = names(environment, "BENCH_SCENARIOS", SCENARIOS)
        self.proxies = names(environment, "BENCH_PROXIES", (DIRECT, *PROXIES))
        chosen = self.proxies if environment.get("BENCH_PROXIES") else ["pointsman"]
        self.perf_proxies = [name for name in chosen if name != DIRECT]


def number(environment, key, default, low, high):
    text = environment.get(key) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise Failure(f"{key}={text}: must be a number between {low} and {high}")
    return int(text)


def names(environment, key, known):
    chosen = [name.strip() for name in environment.get(key, "").split(",") if name.strip()] or list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise Failure(f"{key}: no {', '.join(unknown)}; there are {', '.join(known)}")
    return list(dict.fromkeys(chosen))


def bench(settings, json_path):
    if "pointsman" in settings.proxies:
        pointsman_binary()
    samples, failures = {}, []
    with Rig() as rig:
        rig.start_redis()
        servers = {name: rig.start_proxy(name) for name in settings.proxies if name != DIRECT}
        print_setting(rig, settings)
        print(row(HEADINGS), flush=True)
        for name in settings.scenarios:
            measure(rig, servers, SCENARIOS[name], settings, samples, failures)
            print_scenario(name, settings.proxies, samples)
    results = [goal_result(goal, samples) for goal in GOALS]
    print_goals(results)
    if json_path:
        write_json(json_path, settings, samples, results, failures)
    if failures:
        print(f"bench: {len(failures)} measurements failed, see above", file=sys.stderr)
    return 1 if failures else 0


def measure(rig, servers, scenario, settings, samples, failures):
    """Adds a list of samples, one a round, for each proxy that came through all of them."""
    requests = scenario.requests(settings.p1_requests)
    alive = list(settings.proxies)
    fill(rig.redis, scenario)
    for turn in range(-1, settings.rounds):  # turn -1 warms up
        for name in rotated(list(alive), turn):
            try:
                wanted = requests if turn >= 0 else scenario.requests(settings.p1_requests // 10)
                sample = measure_once(rig, servers.get(name), scenario, wanted)
            except (Failure, OSError) as failure:
                failures.append(f"{scenario.name} {name}: {failure}")
                print(f"bench: {failures[-1]}", file=sys.stderr)
                alive.remove(name)
                samples.pop((scenario.name, name), None)
                continue
            if turn >= 0:
                samples.setdefault((scenario.name, name), []).append(sample)


def rotated(items, by):
    by %= len(items) or 1
    return items[by:] + items[:by]


def measure_once(rig, proxy, scenario, requests):
    watched = [rig.redis] + ([proxy] if proxy else [])
    served_before = served(rig.redis)
    before = [server.cpu_time() for server in watched]
    outcome = run(rig, watched[-1].port, scenario, requests)
    settle(watched)
    used = [server.cpu_time() - earlier for server, earlier in zip(watched, before)]
    check_that_redis_did_the_work(scenario, requests, served(rig.redis) - served_before)
    return Sample(
        requests_per_second=outcome.requests_per_second,
        proxy_us=used[1].total_ns / 1000 / requests if proxy else 0.0,
        proxy_system_share=used[1].system_share if proxy else 0.0,
        redis_us=used[0].total_ns / 1000 / requests,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
    )


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


def median(samples, figure):
    return statistics.median(getattr(sample, figure) for sample in samples)


def ratio(ours, theirs, figure):
    """None where either was not measured, or the peer has no such figure."""
    if not ours or not theirs or not getattr(theirs[0], figure):
        return None
    return statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in zip(ours, theirs))


def row(cells):
    left = [cell.ljust(width) for cell, width in zip(cells[:2], WIDTHS)]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], WIDTHS[2:])]
    return " ".join(left + right)


def decimal(value):
    return "-" if value is None else f"{value:.2f}"


def print_setting(rig, settings):
    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}")
    print("; ".join(describe_programs(settings.proxies).values()))
    where = f"servers on CPU {rig.server_cpu}, load on {rig.load_cpu}"
    if rig.load_cpu is None:
        where = "servers and load on the same CPU"
    print(f"{settings.rounds} rounds, {settings.p1_requests} requests in a p1 run; {where}\n")


def print_scenario(scenario, proxies, samples):
    for proxy in proxies:
        if (scenario, proxy) in samples:
            print(row(cells(scenario, proxy, samples)), flush=True)


def cells(scenario, proxy, samples):
    own = samples[scenario, proxy]
    beside = [ratio(own, samples.get((scenario, peer)), "proxy_us") for peer in ("haproxy", "nutcracker")]
    proxy_cells, beside_cells = ["-", "-", "-"], ["-", "-"]
    if proxy != DIRECT:
        costs = [sample.proxy_us for sample in own]
        share = statistics.mean(sample.proxy_system_share for sample in own)
        spread = f"{min(costs):.2f}-{max(costs):.2f}"
        proxy_cells = [decimal(median(own, "proxy_us")), spread, f"{100 * share:.0f}"]
        beside_cells = [decimal(value) for value in beside]
    return [
        scenario,
        proxy,
        f"{median(own, 'requests_per_second'):.0f}",
        *proxy_cells,
        *[decimal(median(own, figure)) for figure in ("redis_us", "both_us", "p50_ms", "p99_ms")],
        *beside_cells,
    ]


def goal_result(goal, samples):
    ours, theirs = (samples.get((goal.scenario, proxy)) for proxy in ("pointsman", goal.beside))
    measured = ratio(ours, theirs, goal.figure)
    met = None if measured is None else measured <= goal.at_most
    return {**asdict(goal), "measured": measured, "ok": met}


def print_goals(results):
    print("\ngoals: pointsman beside a peer, at most")
    print(f"{'scenario':<10} {'figure':<9} {'beside':<11} {'measured':>8} {'goal':>6}  ok")
    for result in results:
        verdict = {None: "-", True: "yes", False: "NO"}[result["ok"]]
        what = f"{result['scenario']:<10} {FIGURES[result['figure']]:<9} {result['beside']:<11}"
        print(f"{what} {decimal(result['measured']):>8} {result['at_most']:>6.2f}  {verdict}")


def write_json(path, settings, samples, results, failures):
    document = {
        "machine": describe_machine(),
        "programs": describe_programs(settings.proxies),
        "rounds": settings.rounds,
        "p1_requests": settings.p1_requests,
        "rows": [json_row(scenario, proxy, own) for (scenario, proxy), own in samples.items()],
        "goals": results,
        "failures": failures,
    }
    with open(path, "w") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


def json_row(scenario, proxy, own):
    share = statistics.mean(sample.proxy_system_share for sample in own)
    figures = ("requests_per_second", "proxy_us", "redis_us", "both_us", "p50_ms", "p99_ms")
    medians = {figure: median(own, figure) for figure in figures}
    split = {
        "proxy_user_us": medians["proxy_us"] * (1 - share) if proxy != DIRECT else 0.0,
        "proxy_system_us": medians["proxy_us"] * share,
    }
    rounds = [asdict(sample) for sample in own]
    return {"scenario": scenario, "proxy": proxy, **medians, **split, "rounds": rounds}


def describe_machine():
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    return {"cpu": cpu, "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release()}


def describe_programs(proxies):
    questions = {name: [name, "--version"] for name in ("redis-server", "redis-benchmark")}
    if "haproxy" in proxies:
        questions["haproxy"] = ["haproxy", "-v"]
    if "nutcracker" in proxies:
        questions["nutcracker"] = ["nutcracker", "--version"]
    if "pointsman" in proxies:
        questions["pointsman"] = [pointsman_binary(), "--version"]
    return {name: first_line(command) for name, command in questions.items()}


def first_line(command):
    answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    lines = (answer.stdout + answer.stderr).strip().splitlines()
    words = lines[0].removeprefix("This is ").split() if lines else [os.path.basename(command[0])]
    return " ".join(words[:3])


if __name__ == "__main__":
    sys.exit(main())
