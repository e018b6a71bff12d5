#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Instructions in user code, system calls, and allocations for each request that Pointsman serves, compared with what is
expected (instructions.json).

All clients send, then all wait for all replies, and every process has the same CPU and interrupts no other (rig.py,
lock step): so the same requests are read, sent and answered together in every run, and the counts hardly vary. Only
the worker's thread is counted: instructions and allocations by callgrind, where each call of malloc and its kin is on
record, system calls by strace.

More instructions or system calls than expected, by more than their tolerance, or any allocation where there must be
none, is a failure; fewer is a reason to renew what is expected. What is expected belongs to one compiler and C library.

Environment:
  BENCH_SCENARIOS  names with commas between       default: all
  BENCH_BURSTS     lock steps that are counted     default: 100
  BENCH_KEYS       keys at most                    default: 100000
  BENCH_POINTSMAN  the program to measure          default: build/pointsman
"""

import argparse
import collections
import contextlib
import glob
import json
import os
import platform
import re
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass

import hotspots
from backends import POINTSMAN, WORLDS
from bench import KEYS_MAX, names, number, with_keys
from load import SCENARIOS as LOADS
from load import Scenario, fill, openloop_arguments
from report import describe_machine
from rig import ROOT, Failure, Rig, openloop_binary, pointsman_binary, program, thread_cpu_ns, thread_ids

EXPECTED = os.path.join(ROOT, "tests", "bench", "instructions.json")
# Not free: what is freed has been allocated, here or in the control thread, whose snapshots end with the last worker.
ALLOCATORS = ("malloc", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc")
BURSTS = 100
WARM_UP_BURSTS = 20
LIMIT_SECONDS = 180
TRIES = 3  # of a scenario that must not allocate: libev may still make room for a burst larger than all before

R_GET_P16 = Scenario("r_get_p16", "get", 1, "GET, pipelines of 16", "replicas", pipeline=16)
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        *(LOADS[name] for name in ("get_p1", "set_p1", "get_p16", "set_p16", "get_c1000", "get_16k", "mget10")),
        *(LOADS[name] for name in ("c_get_p1", "c_set_p1", "c_get_p16", "c_set_p16", "c_mget10")),
        *(LOADS[name] for name in ("r_get_p1", "r_mix_p1")),
        R_GET_P16,
    )
}
MUST_NOT_ALLOCATE = ("get", "set", "mix")


@dataclass(frozen=True)
class Figure:
    """A row of what is compared. By how much it may exceed what is expected without a word: see CONTRIBUTING.md."""

    name: str
    heading: str
    tolerance: float


WITH_REPLICAS = 2  # times the tolerance: how fresh replicas are known to be goes by the clock
FIGURES = (Figure("instructions", "instructions", 0.01), Figure("system_calls", "system calls", 0.05))


@dataclass(frozen=True)
class Counts:
    """Each but the last for one request."""

    instructions: float
    system_calls: float
    calls: dict  # by name
    allocations: int  # in all
    allocators: dict  # the functions that asked for them


def main():
    options = parse_command_line()
    try:
        chosen = names(os.environ, "BENCH_SCENARIOS", SCENARIOS)
        bursts = number(os.environ, "BENCH_BURSTS", BURSTS, 1, 100_000)
        keys = number(os.environ, "BENCH_KEYS", KEYS_MAX, 1, KEYS_MAX)
        counts = count_all([with_keys(SCENARIOS[name], keys) for name in chosen], bursts)
        expected = read_expected(options.expected)
        document = document_of(counts)
        write(options.json, document)
        if options.renew:
            known = expected["scenarios"] if len(chosen) < len(SCENARIOS) else {}
            write(options.expected, {**without_details(document), "scenarios": known | figures_of(document)})
            print(f"\n{os.path.relpath(options.expected)} is renewed")
            return 1 if allocating(counts) else 0
        return judge(counts, expected)
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parse_command_line():
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--json", metavar="FILE", help="write all counts there as well")
    parser.add_argument("--expected", metavar="FILE", default=EXPECTED, help="compare with what is there")
    parser.add_argument("--renew", action="store_true", help="what was counted is what is expected from now on")
    return parser.parse_args()


# --------------------------------------------------------------------------------------------- counting


def count_all(scenarios, bursts):
    pointsman_binary()
    openloop_binary()
    print("for each request, in the worker's thread; all clients send, then all wait:\n")
    print(f"{'scenario':<11} {'instructions':>12} {'system calls':>13} {'allocations':>12}  system calls by name")
    counts = {}
    for world, kind in WORLDS.items():
        own = [scenario for scenario in scenarios if scenario.world == world]
        if not own:
            continue
        with Rig(in_lock_step=True) as rig:
            nodes = kind(rig)
            for scenario in own:
                counts[scenario.name] = count(rig, nodes, scenario, bursts)
                print_counts(scenario.name, counts[scenario.name])
    return counts


def count(rig, world, scenario, bursts):
    for _ in range(TRIES):
        instructions, allocators = under_callgrind(rig, world, scenario, bursts)
        if not allocators or scenario.kind not in MUST_NOT_ALLOCATE:
            break
    calls = under_strace(rig, world, scenario, bursts)
    return Counts(instructions, sum(calls.values()), calls, sum(allocators.values()), allocators)


def print_counts(name, counts):
    by_name = ", ".join(f"{call} {each:.3f}" for call, each in counts.calls.items() if each >= 0.0005)
    figures = f"{counts.instructions:12.1f} {counts.system_calls:13.3f} {counts.allocations:12d}"
    print(f"{name:<11} {figures}  {by_name}", flush=True)


def under_callgrind(rig, world, scenario, bursts):
    """Instructions for each request, and calls of allocators by who called."""
    out = rig.path("callgrind")
    wrapper = [program("valgrind"), "--tool=callgrind", "--separate-threads=yes", "--instr-atstart=no"]
    proxy = world.start(POINTSMAN, [*wrapper, f"--callgrind-out-file={out}"])
    fill(rig, world, scenario, {POINTSMAN: proxy})
    with lock_steps(rig, proxy, scenario, bursts) as go:
        hotspots.control(proxy, "--instr=on")
        requests = go()
        hotspots.control(proxy, "--dump")
    profiles = [Profile(path) for path in glob.glob(f"{out}.*-*")]
    rig.end(proxy.process)
    for path in glob.glob(f"{out}*"):
        os.remove(path)
    if not profiles:
        raise Failure(f"callgrind left no profile{proxy.last_words()}")
    worker = max(profiles, key=lambda profile: profile.instructions)
    return worker.instructions / requests, dict(worker.allocators)


class Profile:
    """What callgrind has counted in one thread."""

    def __init__(self, path):
        self.instructions = 0
        self.allocators = collections.Counter()
        names, caller, callee = {}, "", ""
        with open(path) as file:
            for line in file:
                word, _, rest = line.partition("=")
                if word in ("fn", "cfn"):
                    number, _, name = rest.strip().partition(" ")
                    name = names.setdefault(number, name)
                    caller, callee = (name, callee) if word == "fn" else (caller, name)
                elif word == "calls" and callee in ALLOCATORS and caller not in ALLOCATORS:
                    self.allocators[f"{callee} by {caller}"] += int(rest.split()[0])
                elif line.startswith("totals:"):
                    self.instructions = int(line.split()[1])


def under_strace(rig, world, scenario, bursts):
    proxy = world.start(POINTSMAN)
    fill(rig, world, scenario, {POINTSMAN: proxy})
    summary = rig.path("strace")
    with lock_steps(rig, proxy, scenario, bursts) as go:
        tracer = hotspots.attach(rig, busiest_thread(proxy), summary)
        requests = go()
        tracer.send_signal(signal.SIGINT)
        tracer.wait(hotspots.ATTACH_SECONDS)
        rig.end(tracer)
    rig.end(proxy.process)
    return {call: calls / requests for calls, _, call in hotspots.read_system_calls(summary)}


def busiest_thread(proxy):
    proxy.must_be_alive()
    return int(os.path.basename(max(thread_ids(proxy.pid), key=thread_cpu_ns)))


@contextlib.contextmanager
def lock_steps(rig, proxy, scenario, bursts):
    """Clients that are connected and warm; what is yielded makes them go on, and says how many requests they sent."""
    at_once = scenario.clients * scenario.pipeline
    words = [openloop_binary(), "--port", str(proxy.port), "--lockstep", "--by-hand", *openloop_arguments(scenario)]
    words += ["--pipeline", str(scenario.pipeline), "--requests", str(bursts * at_once)]
    words += ["--warmup-requests", str(WARM_UP_BURSTS * at_once), "--timeout", "60"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = rig.spawn(words, cpu=rig.load_cpu, **streams)
    alarm = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT_SECONDS)
    try:
        if process.stdout.readline() != "ready\n":
            raise Failure(f"the load for {scenario.name} did not begin")
        yield lambda: go_on(process)
        process.stdin.close()
        if process.wait() != 0:
            raise Failure(f"the load for {scenario.name} ended with status {process.returncode}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, alarm)
        rig.end(process)


def too_long(*_):
    raise Failure(f"a scenario was not done after {LIMIT_SECONDS} s")


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()
    said = json.loads(process.stdout.readline())
    if said["failure"] or said["first_complaint"]:
        raise Failure(f"openloop: {said['failure'] or said['first_complaint']}")
    return said["requests"]


# --------------------------------------------------------------------------------------------- judging


def judge(counts, expected):
    """The exit status: 1 if anything costs more than it may."""
    findings = []
    for name, own in counts.items():
        known = expected["scenarios"].get(name)
        for figure in FIGURES if known else ():
            findings += compare(name, figure, own, known[figure.name])
    less = [text for is_more, text in findings if not is_more]
    more = [text for is_more, text in findings if is_more] + allocating(counts)
    unknown = [name for name in counts if name not in expected["scenarios"]]
    print()
    if unknown:
        print(f"nothing is expected yet of {', '.join(unknown)}; make bench-instructions RENEW=1 notes it")
    for text in less:
        print(f"less: {text}")
    for text in more:
        print(f"MORE: {text}")
    if less and not more:
        print("make bench-instructions RENEW=1 notes what is less now, so that it stays so")
    if not findings and not more and not unknown:
        print("all as expected")
    if more and not same_tools(expected):
        print(f"what is expected was counted with {expected.get('tools')}, this with {tools()}")
    return 1 if more else 0


def compare(name, figure, own, wanted):
    measured = getattr(own, figure.name)
    change = measured / wanted - 1
    if abs(change) <= figure.tolerance * (WITH_REPLICAS if SCENARIOS[name].world == "replicas" else 1):
        return []
    return [(change > 0, f"{name}: {measured:.3f} {figure.heading} instead of {wanted:.3f} ({100 * change:+.1f} %)")]


def allocating(counts):
    must_not = {name: own for name, own in counts.items() if SCENARIOS[name].kind in MUST_NOT_ALLOCATE}
    return [
        f"{name}: {own.allocations} allocations: {in_words(own.allocators)}"
        for name, own in must_not.items()
        if own.allocations
    ]


def in_words(allocators):
    return ", ".join(f"{calls} x {who}" for who, calls in allocators.items())


def read_expected(path):
    if not os.path.exists(path):
        return {"scenarios": {}}
    with open(path) as file:
        return json.load(file)


def document_of(counts):
    scenarios = {name: asdict(own) for name, own in counts.items()}
    return {"machine": describe_machine(), "tools": tools(), "scenarios": scenarios}


def without_details(document):
    return {"tools": document["tools"]}


def figures_of(document):
    return {
        name: {figure.name: round(own[figure.name], 3) for figure in FIGURES}
        for name, own in document["scenarios"].items()
    }


def tools():
    return {"compiler": compiler_of(pointsman_binary()), "library": " ".join(platform.libc_ver())}


def compiler_of(path):
    with open(path, "rb") as file:
        found = re.findall(rb"(?:GCC: \([^)]*\)|clang version) [\d.]+", file.read())
    return found[0].decode() if found else "unknown"


def same_tools(expected):
    return expected.get("tools") == tools()


def write(path, document):
    if path:
        with open(path, "w") as file:
            json.dump(document, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
