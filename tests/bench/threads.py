#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
What a second thread brings: one beside two, in one run and taking turns.

The first part is served by the threads alone: clients send 4,000 PINGs in one go and read as many bytes as all
answers have, so that the load costs a fifth of what is measured and two threads can be kept busy on two CPUs. The
second goes through to Redis, which with its load needs a CPU of its own, so that the threads have to share the
other one: what counts there is the CPU time of a request, with the switches from thread to thread in it. Each
thread has as many clients as the one alone, since what a request costs depends on how many come in one turn of a
loop. Had each thread a CPU, two would serve twice as much, divided by how much dearer a request is.

Requests per second are also those of who else uses the machine. A round in which the threads had less than four
fifths of a CPU each was one of others, and does not count for throughput as long as there are some that do.

Environment:
  BENCH_ROUNDS     rounds                      default: 7
  BENCH_SECONDS    of a round of the first part      default: 1.5
  BENCH_REQUESTS   of a run without pipeline   default: 100000
  BENCH_POINTSMAN  the program to measure      default: build/pointsman
  QUICK=1          3 rounds of half a second and 30000 requests
"""

import os
import select
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from rig import Failure, Link, Rig, Server, cpu_time, free_port, pointsman_binary, program, wait_until_it_answers

THREADS = (1, 2)
CONNECTIONS = 8  # of the first part, in all
PINGS = 4000  # that one of them has on their way
PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
KEYS = 10000
CPU_LEAST = 0.8  # of each thread
SETTLE_SECONDS = 0.3
LIMIT_SECONDS = 60

# Name, share of the requests of a run without pipeline, clients of each thread, words for redis-benchmark.
SCENARIOS = (
    ("get_p1", 1, 50, ("-t", "get")),
    ("get_p16", 5, 50, ("-t", "get", "-P", "16")),
    ("set_p16", 5, 50, ("-t", "set", "-P", "16")),
    ("get_c500", 1, 500, ("-t", "get")),
)


@dataclass(frozen=True)
class Round:
    threads: int
    per_second: float
    proxy_us: float  # of CPU, for a request
    other_us: float  # the load's, or Redis'
    proxy_cpus: float  # that it had while the round took

    @property
    def is_starved(self):
        return self.proxy_cpus < CPU_LEAST * self.threads


def main():
    if sys.argv[1:2] == ["--load"]:
        load(int(sys.argv[2]), float(sys.argv[3]))
        return 0
    quick = os.environ.get("QUICK") == "1"
    rounds = int(os.environ.get("BENCH_ROUNDS", 3 if quick else 7))
    seconds = float(os.environ.get("BENCH_SECONDS", 0.5 if quick else 1.5))
    requests = int(os.environ.get("BENCH_REQUESTS", 30000 if quick else 100000))
    try:
        with Rig() as rig:
            proxies_cpu, rig.server_cpu = rig.server_cpu, rig.load_cpu
            rig.start_redis()
            fill(rig.redis)
            cpus = len(os.sched_getaffinity(0))
            print(f"{cpus} CPUs, {rounds} rounds; us of CPU for a request, medians", flush=True)
            serve_alone(rig, start_both(rig, None), rounds, seconds)
            serve_from_redis(rig, start_both(rig, proxies_cpu), rounds, requests)
        return 0
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def start_both(rig, cpu):
    return {threads: start(rig, threads, cpu) for threads in THREADS}


def start(rig, threads, cpu):
    port = free_port()
    command = [
        pointsman_binary(), f"--proxy.listen=127.0.0.1:{port}", f"--proxy.threads={threads}",
        "--upstream.kind=static", f"--upstream.nodes=127.0.0.1:{rig.redis.port}", "--reads.policy=master",
    ]  # fmt: skip
    log_path = rig.path(f"threads{threads}-{cpu}.log")
    with open(log_path, "w") as log:
        process = rig.spawn(command, cpu=cpu, stdout=log, stderr=subprocess.STDOUT)
    server = Server(f"pointsman with {threads} thread(s)", port, process, log_path)
    wait_until_it_answers(server)
    return server


def fill(redis):
    with Link(redis.port) as link:
        link.ask_all([("SET", f"key:{number:012}", b"x" * 64) for number in range(KEYS)])


# ---- what threads answer themselves ----


def serve_alone(rig, proxies, rounds, seconds):
    results = {threads: [] for threads in THREADS}
    for number in range(-1, rounds):  # the first warms up
        for threads in ordered(number):
            measured = one_round_alone(rig, proxies[threads], threads, seconds)
            if number >= 0:
                results[threads].append(measured)
    print(f"\n{'answered by the threads alone':<32}{'requests/s':>11}{'proxy us':>9}{'load us':>9}{'CPUs':>6}")
    for threads, all_rounds in results.items():
        print(f"{threads} thread(s){'':<20}{figures(unstarved(all_rounds))}")
    pairs = list(zip(results[1], results[2]))
    whole = [pair for pair in pairs if not any(each.is_starved for each in pair)]
    ratios = [two.per_second / one.per_second for one, two in whole or pairs]
    lack = "" if whole else "; the threads had too little CPU in all of them"
    print(f"throughput of two over one: {spread(ratios)}, of {len(whole)} rounds of {len(pairs)}{lack}")
    print_capacity(results)


def figures(some):
    def middle(name):
        return statistics.median(getattr(each, name) for each in some)

    return (f"{middle('per_second'):>11.0f}{middle('proxy_us'):>9.3f}{middle('other_us'):>9.3f}"
            f"{middle('proxy_cpus'):>6.2f}")  # fmt: skip


def spread(ratios):
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def unstarved(all_rounds):
    return [each for each in all_rounds if not each.is_starved] or all_rounds


def one_round_alone(rig, proxy, threads, seconds):
    command = [sys.executable, os.path.abspath(__file__), "--load", str(proxy.port), str(seconds)]
    process = rig.spawn(command, stdout=subprocess.PIPE, text=True)
    if process.stdout.readline() != "ready\n":
        raise Failure("the load did not start")
    before, load_before, began = proxy.cpu_time(), cpu_time(process.pid), time.monotonic()
    answered = process.stdout.readline()  # it is done, and waits to be ended, so that its time is still known
    took, proxy_ns = time.monotonic() - began, (proxy.cpu_time() - before).total_ns
    load_ns = (cpu_time(process.pid) - load_before).total_ns
    rig.end(process)
    if not answered.strip().isdigit() or int(answered) == 0:
        raise Failure("the load was not answered")
    count = int(answered)
    costs_us = [used_ns / 1000 / count for used_ns in (proxy_ns, load_ns)]
    return Round(threads, count / took, *costs_us, proxy_ns / 1e9 / took)


def load(port, seconds):
    """Says "ready", and how many were answered; then it waits until it is ended."""
    burst, wanted = PING * PINGS, len(PONG) * PINGS
    poll, waiting, room = select.epoll(), {}, bytearray(1 << 20)
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for link in links:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.settimeout(LIMIT_SECONDS)
        poll.register(link, select.EPOLLIN)
    answered, end = 0, time.monotonic() + seconds
    print("ready", flush=True)
    for link in links:
        link.sendall(burst)
        waiting[link.fileno()] = (link, wanted)
    while time.monotonic() < end:
        for number, _ in poll.poll(1):
            link, left = waiting[number]
            left -= link.recv_into(room)
            if left == 0:
                answered += PINGS
                left = wanted
                link.sendall(burst)
            waiting[number] = (link, left)
    print(answered, flush=True)
    time.sleep(LIMIT_SECONDS)


# ---- what Redis answers ----


def serve_from_redis(rig, proxies, rounds, requests):
    for name, share, clients, words in SCENARIOS:
        results = {threads: [] for threads in THREADS}
        for number in range(-1, rounds):
            for threads in ordered(number):
                options = ["-n", requests * share, "-c", clients * threads, *words]
                measured = one_round_from_redis(rig, proxies[threads], threads, requests * share, options)
                if number >= 0:
                    results[threads].append(measured)
        print(f"\n{name:<32}{'requests/s':>11}{'proxy us':>9}{'Redis us':>9}{'CPUs':>6}")
        for threads, all_rounds in results.items():
            print(f"{threads} thread(s){'':<20}{figures(all_rounds)}")
        print_capacity(results)
        redis = [two.other_us / one.other_us for one, two in zip(results[1], results[2])]
        print(f"CPU of Redis, two over one: {statistics.median(redis):.2f}", flush=True)


def one_round_from_redis(rig, proxy, threads, requests, options):
    command = [program("redis-benchmark"), "-p", proxy.port, "-r", KEYS, "-d", 64, "-q", *options]
    before, redis_before, began = proxy.cpu_time(), rig.redis.cpu_time(), time.monotonic()
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = rig.spawn(list(map(str, command)), cpu=rig.load_cpu, **streams)
    status = process.wait(LIMIT_SECONDS)
    took, proxy_ns = time.monotonic() - began, (proxy.cpu_time() - before).total_ns
    redis_ns = (rig.redis.cpu_time() - redis_before).total_ns
    rig.end(process)
    if status != 0:
        raise Failure(f"redis-benchmark ended with status {status}")
    time.sleep(SETTLE_SECONDS)  # its connections are being closed
    costs_us = [used_ns / 1000 / requests for used_ns in (proxy_ns, redis_ns)]
    return Round(threads, requests / took, *costs_us, proxy_ns / 1e9 / took)


def ordered(number):
    return THREADS if number % 2 else THREADS[::-1]


def print_capacity(results):
    costs = [two.proxy_us / one.proxy_us for one, two in zip(results[1], results[2])]
    times = 2 / statistics.median(costs)
    print(f"CPU of a request, two threads over one: {spread(costs)}")
    print(f"so two that have a CPU each serve {times:.2f} times as much as one", flush=True)


if __name__ == "__main__":
    sys.exit(main())
