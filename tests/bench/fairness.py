#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
What small GETs of many clients wait beside one client that wants much: 10 MiB values read or written in a loop, KEYS,
SORT, deep pipelines, big values among many small ones. Directly, through HAProxy (TCP, a connection to Redis for each
client) and through Pointsman, by turns within each round, so that only ratios of the same round are compared: each
figure beside that of the same way with nobody else there, and Pointsman's beside the others' in the same company.

The small ones send at a fixed rate, whether they are answered or not. The greedy one (redis-benchmark) runs with the
least priority on the CPU of the load, so that it keeps them waiting in what is measured and not in what measures.

Redis is behind a link of 1 Gbit/s in each direction, which takes turns between connections, as a network does: on the
loopback interface 10 MiB pass in no time, and what one waits for is the CPU that all of this shares.

Environment: FAIRNESS_ROUNDS (5), FAIRNESS_SECONDS (1, of each run), FAIRNESS_COMPANY (names, all), FAIRNESS_WAYS
(names), FAIRNESS_MBIT (1000; 0: no link), FAIRNESS_BEFORE (another program to compare with), QUICK.
"""

import gc
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import rig as rigs
from rig import Failure, Link, Rig, pointsman_binary, program

MIB = 1 << 20
BIG_BYTES = 10 * MIB
ENDLESS = 2_000_000_000  # requests: it is ended when the small ones are done
SMALL_KEYS = 10_000
SMALL_BYTES = 64
SMALL_CLIENTS = 20
SMALL_PER_SECOND = 4000  # of all of them
SMALL_GET = rigs.encode("GET", "key:000000000007")
SMALL_REPLY = b"$%d\r\n%s\r\n" % (SMALL_BYTES, b"x" * SMALL_BYTES)
LIST_LENGTH = 10_000
SETTLE_SECONDS = 0.2
LINK_PART_BYTES = 16 * 1024
LINK_BURST_BYTES = 64 * 1024
LINK_PAUSE_SECONDS = 0.0001
RUN_SECONDS = 60  # a run that takes longer has hung
BATCH = 500


@dataclass(frozen=True)
class Company:
    """What one other redis-benchmark does meanwhile."""

    name: str
    arguments: tuple = ()


COMPANY = (
    Company("alone"),
    Company("get_10m", ("-c", 1, "get", "big")),
    Company("set_10m", ("-c", 1, "-d", BIG_BYTES, "-t", "set")),
    Company("keys", ("-c", 1, "keys", "*")),
    Company("sort", ("-c", 1, "sort", "list", "alpha")),
    Company("get_p500", ("-c", 1, "-P", 500, "-r", SMALL_KEYS, "-t", "get")),
    Company("set_16k_p500", ("-c", 1, "-P", 500, "-r", 100, "set", "written:__rand_int__", "x" * 16384)),
    Company("pool_1m", ("-c", 10, "-r", 100, "get", "mixed:__rand_int__")),
)
WAYS = ("direct", "haproxy", "pointsman")


def main():
    if len(sys.argv) > 1:
        role, *figures = sys.argv[1:]
        ROLES[role](*map(float, figures))
        return 0
    try:
        measure(os.environ)
        return 0
    except (Failure, OSError, ValueError, subprocess.SubprocessError) as failure:
        print(f"fairness: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def measure(environment):
    quick = bool(environment.get("QUICK"))
    rounds = int(environment.get("FAIRNESS_ROUNDS", 1 if quick else 5))
    ways = chosen(environment.get("FAIRNESS_WAYS"), WAYS)
    names = chosen(environment.get("FAIRNESS_COMPANY"), [company.name for company in COMPANY])
    if before := environment.get("FAIRNESS_BEFORE"):
        rigs.PROXIES["before"] = lambda rig, port: [os.path.abspath(before), *rigs.PROXIES["pointsman"](rig, port)[1:]]
        ways = [*ways, "before"]
    if "pointsman" in ways:
        pointsman_binary()
    with Rig() as rig:
        rig.start_redis()
        fill(rig.redis)
        if mbit := int(environment.get("FAIRNESS_MBIT", 1000)):
            rig.redis = start_link(rig, mbit)
        ports = {way: rig.redis.port if way == "direct" else rig.start_proxy(way).port for way in ways}
        print(head(rounds, ways), flush=True)
        seen = {}
        for turn in range(rounds):
            for company in (company for company in COMPANY if company.name in names):
                for way in ways if turn % 2 == 0 else reversed(ways):
                    outcome = beside(rig, ports[way], company, environment)
                    seen.setdefault((company.name, way), []).append(outcome)
    for name in names:
        print(row(name, ways, seen))


def chosen(text, all_of_them):
    names = text.split(",") if text else list(all_of_them)
    if unknown := [name for name in names if name not in all_of_them]:
        raise Failure(f"unknown: {', '.join(unknown)}; there are {', '.join(all_of_them)}")
    return names


def fill(redis):
    value = b"x" * SMALL_BYTES
    with Link(redis.port) as link:
        for first in range(0, SMALL_KEYS, BATCH):
            link.ask_all([("SET", f"key:{number:012}", value) for number in range(first, first + BATCH)])
        for first in range(0, LIST_LENGTH, BATCH):
            link.ask("RPUSH", "list", *(f"element:{number * 7919 % LIST_LENGTH}" for number in range(first, first + BATCH)))
        for number in range(100):  # one of a hundred is big
            link.ask("SET", f"mixed:{number:012}", b"x" * (MIB if number == 0 else SMALL_BYTES))
        link.ask("SET", "big", b"x" * BIG_BYTES)


def beside(rig, port, company, environment):
    """(p50, p99) of the small ones, in milliseconds."""
    greedy = None
    if company.arguments:
        command = benchmark(port, "-q", "-n", ENDLESS, *company.arguments)
        greedy = rig.spawn(["nice", "-n", "19", *command], cpu=rig.load_cpu, **quiet())
        time.sleep(SETTLE_SECONDS)
        if greedy.poll() is not None:
            raise Failure(f"{company.name}: redis-benchmark ended at once")
    try:
        command = [sys.executable, os.path.abspath(__file__), "small", str(port), environment.get("FAIRNESS_SECONDS", "1")]
        process = rig.spawn(command, cpu=rig.load_cpu, stdout=subprocess.PIPE, text=True)
        output, _ = process.communicate(timeout=RUN_SECONDS)
        rig.end(process)
    finally:
        if greedy:
            rig.end(greedy)
            time.sleep(SETTLE_SECONDS)  # what is on its way to it comes to nothing
    if process.returncode != 0:
        raise Failure(f"beside {company.name}: the small clients failed")
    return tuple(map(float, output.split()))


def be_small(port, seconds):
    """Prints p50 and p99 in milliseconds of GETs that go out at a fixed rate, each client's in turn."""
    links = [socket.create_connection(("127.0.0.1", int(port))) for _ in range(SMALL_CLIENTS)]
    for link in links:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(SMALL_GET)
        assert link.recv(len(SMALL_REPLY), socket.MSG_WAITALL) == SMALL_REPLY
    gc.disable()
    sent_at = {link: [] for link in links}
    taken, parts = [], dict.fromkeys(links, b"")
    total, sent, start = int(seconds * SMALL_PER_SECOND), 0, time.perf_counter()
    while len(taken) < total:
        now = time.perf_counter()
        while sent < total and now >= start + sent / SMALL_PER_SECOND:
            link = links[sent % SMALL_CLIENTS]
            sent_at[link].append(time.perf_counter())
            link.sendall(SMALL_GET)
            sent += 1
        due = start + sent / SMALL_PER_SECOND - time.perf_counter() if sent < total else 1
        for link in select.select(links, [], [], max(due, 0))[0]:
            now = time.perf_counter()
            data = parts[link] + link.recv(1 << 16)
            count, rest = divmod(len(data), len(SMALL_REPLY))
            assert data == SMALL_REPLY * count + SMALL_REPLY[:rest], "another reply"
            taken += [now - moment for moment in sent_at[link][:count]]
            del sent_at[link][:count]
            parts[link] = data[len(data) - rest :]
    taken.sort()
    print(1000 * taken[len(taken) // 2], 1000 * taken[len(taken) * 99 // 100])


def start_link(rig, mbit):
    port = rigs.free_port()
    command = [sys.executable, os.path.abspath(__file__), "link", str(port), str(rig.redis.port), str(mbit)]
    log_path = rig.path("link.log")
    with open(log_path, "w") as log:
        process = rig.spawn(command, cpu=rig.load_cpu, stdout=log, stderr=log)
    server = rigs.Server("link", port, process, log_path)
    rigs.wait_until_it_answers(server)
    return server


def be_link(port, target_port, mbit):
    """Passes bytes on, no more of them in a second than the link has room for, a part of each connection's in turn."""
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=100)
    gc.disable()
    peer, direction = {}, {}
    room, refilled = [0.0, 0.0], time.perf_counter()
    bytes_per_second = mbit * 1e6 / 8
    while True:
        for end in select.select([listener, *peer], [], [])[0]:
            if end is listener:
                near, far = listener.accept()[0], socket.create_connection(("127.0.0.1", int(target_port)))
                for each, other, number in ((near, far, 0), (far, near, 1)):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    peer[each], direction[each] = other, number
                continue
            now = time.perf_counter()
            gained, refilled = (now - refilled) * bytes_per_second, now
            room = [min(left + gained, LINK_BURST_BYTES) for left in room]
            if end in peer and room[direction[end]] > 0:
                room[direction[end]] -= pass_on(end, peer)
        if min(room) <= 0:
            time.sleep(LINK_PAUSE_SECONDS)


def pass_on(end, peer):
    try:
        data = end.recv(LINK_PART_BYTES)
        peer[end].sendall(data)
    except OSError:
        data = b""
    if not data:
        for each in (peer[end], end):
            del peer[each]
            each.close()
    return len(data)


ROLES = {"small": be_small, "link": be_link}


def quiet():
    return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def benchmark(port, *arguments):
    return [program("redis-benchmark"), "-h", "127.0.0.1", "-p", str(port), *map(str, arguments)]


def head(rounds, ways):
    text = f"{rounds} rounds; ms, medians; least: of any round, so with the least of what else the machine does; /alone: p99\n"
    text += "beside that of the same way with nobody else there; then Pointsman's p99 beside that of the others\n"
    text += f"{'company':<14}" + "".join(f"{way + ' p50':>15}{'p99':>8}{'least':>8}{'/alone':>8}" for way in ways)
    return text + "".join(f"{'/' + way:>11}" for way in ways if way != "pointsman")


def row(name, ways, seen):
    def p99s(way, company=name):
        return [p99 for _, p99 in seen[company, way]]

    def ratio(these, those):
        return statistics.median(a / b for a, b in zip(these, those))

    text = f"{name:<14}"
    for way in ways:
        p50 = statistics.median(p50 for p50, _ in seen[name, way])
        alone = f"{ratio(p99s(way), p99s(way, 'alone')):>8.2f}" if ("alone", way) in seen else f"{'':>8}"
        text += f"{p50:>15.2f}{statistics.median(p99s(way)):>8.2f}{min(p99s(way)):>8.2f}{alone}"
    if "pointsman" in ways:
        text += "".join(f"{ratio(p99s('pointsman'), p99s(way)):>11.2f}" for way in ways if way != "pointsman")
    return text


if __name__ == "__main__":
    sys.exit(main())
