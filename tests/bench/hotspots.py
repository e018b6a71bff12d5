# SPDX-License-Identifier: BSD-2-Clause
"""
Where a proxy's time goes under one scenario: its hot symbols, and its system calls per request.

Symbols come from `perf record -g`, by cycles where the machine counts them, by CPU clock where it does not
(most virtual machines; there the kernel's time with interrupts off is booked on whatever turns them on
again, such as _raw_spin_unlock_irqrestore). Without perf, or with BENCH_PROFILER=callgrind, from callgrind:
user code alone, but as instructions per request, which hardly vary from run to run.

System calls come from `strace -c -f`. It slows its subject, so more requests wait at each turn of the loop
and leave together: calls that serve a batch come out fewer than untraced.
"""

import glob
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass

from backends import WORLDS
from load import Scenario, fill, run, served, start_endless
from rig import Failure, Rig, pointsman_binary, program

TOP_SYMBOLS = 30
ATTACH_SECONDS = 10
REPORT_SECONDS = 120
STRACE_SHARE = 0.25  # of the requests of a measuring run: traced, each takes many times as long
CALLGRIND_SHARE = 0.1


def report(scenario, proxies, seconds, p1_requests):
    pointsman_binary()
    profiler = choose_profiler()
    unknown = [name for name in proxies if name not in WORLDS[scenario.world].contestants]
    if unknown:
        raise Failure(f"{scenario.name} is not for {', '.join(unknown)}")
    with Rig() as rig:
        world = WORLDS[scenario.world](rig)
        for name in proxies:
            subject = Subject(rig, world, name, scenario)
            if profiler:
                profile_with_perf(subject, seconds, profiler)
            else:
                profile_with_callgrind(subject, scenario.requests(p1_requests * CALLGRIND_SHARE))
            count_system_calls(subject, scenario.requests(p1_requests * STRACE_SHARE))


@dataclass(frozen=True)
class Subject:
    rig: Rig
    world: object
    name: str
    scenario: Scenario

    def start(self, wrapper=()):
        proxy = self.world.start(self.name, wrapper)
        fill(self.rig, self.world, self.scenario, {self.name: proxy})
        return proxy

    def run(self, proxy, requests):
        run(self.rig, proxy.port, self.scenario, requests)

    def served(self):
        return served(self.world.nodes_of(self.name))


def choose_profiler():
    """The event for perf, or None for callgrind."""
    if os.environ.get("BENCH_PROFILER") == "callgrind" or not shutil.which("perf"):
        return None
    return next((event for event in ("cycles", "cpu-clock") if perf_can_count(event)), None)


def perf_can_count(event):
    # Not by `perf record`: where there are no cycles it takes the clock and does not say so.
    trial = ask(["perf", "stat", "-e", event, "true"])
    return trial.returncode == 0 and "<not " not in trial.stderr


def profile_with_perf(subject, seconds, event):
    rig, name, scenario = subject.rig, subject.name, subject.scenario
    proxy = subject.start()
    load = start_endless(rig, proxy.port, scenario)
    time.sleep(0.5)  # connections are made, buffers have grown
    data = rig.path(f"{name}.perf")
    started, before, cpu_before = time.monotonic(), subject.served(), proxy.cpu_time()
    command = ["perf", "record", "-e", event, "-F", "1999", "-g", "-p", str(proxy.pid), "-o", data]
    command += ["--", "sleep", str(seconds)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    recorder = rig.spawn(command, cpu=rig.load_cpu, **streams)
    errors = finish(recorder, seconds + REPORT_SECONDS)
    cpu, requests = proxy.cpu_time() - cpu_before, (subject.served() - before).commands
    rate = requests / (time.monotonic() - started)
    rig.end(recorder)
    rig.end(load)
    if recorder.returncode != 0:
        raise Failure(f"perf record failed: {errors.strip()[-500:]}")
    print(f"\n{scenario.name} {name}: {rate:.0f} requests/s while watched, by perf ({event}); ", end="")
    cost_us = cpu.total_ns / 1000 / max(requests, 1)
    print(f"{cost_us:.2f} us of CPU each, {100 * cpu.system_share:.0f} % in the kernel")
    print_symbols(data, "time in the function itself", "--no-children")
    print_symbols(data, "time in it and in what it calls", "--children")
    rig.end(proxy.process)


def finish(process, seconds):
    """Waits for the end of a process and returns what it wrote to its standard error."""
    try:
        return process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        raise Failure(f"{process.args[0]} was not done after {seconds:.0f} s") from None


def print_symbols(data, title, order):
    command = ["perf", "report", "-i", data, "--stdio", order, "-g", "none", "--percent-limit", "0.3", "-F"]
    command += ["overhead_children,overhead,dso,symbol" if order == "--children" else "overhead,dso,symbol"]
    answer = ask(command)
    lines = re.findall(r"^ +\d.*?(?= *$)", answer.stdout, re.MULTILINE)
    print(f"\n  {title}:")
    print("\n".join(lines[:TOP_SYMBOLS]) or f"  (nothing: {answer.stderr.strip()[-300:]})")


def ask(command):
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(command, timeout=REPORT_SECONDS, **streams)


def profile_with_callgrind(subject, requests):
    rig, name, scenario = subject.rig, subject.name, subject.scenario
    out = rig.path(f"{name}.callgrind")
    wrapper = [program("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out}", "--instr-atstart=no"]
    proxy = subject.start(wrapper)
    subject.run(proxy, scenario.requests(0))
    control(proxy, "--instr=on")
    subject.run(proxy, requests)
    control(proxy, "--dump")
    dumps = glob.glob(out + ".*")
    if not dumps:
        raise Failure(f"callgrind left no profile of {name}{proxy.last_words()}")
    print_instructions(max(dumps, key=os.path.getmtime), scenario, name, requests)
    rig.end(proxy.process)


def control(proxy, order):
    ask([program("callgrind_control"), order, str(proxy.pid)])


def print_instructions(dump, scenario, name, requests):
    command = [program("callgrind_annotate"), "--auto=no", dump]
    text = ask(command).stdout
    total = re.search(r"^\s*([\d,]+) .*PROGRAM TOTALS", text, re.MULTILINE)
    if not total:
        raise Failure(f"callgrind_annotate could not read the profile of {name}")
    instructions = int(total[1].replace(",", ""))
    each = instructions / requests
    print(f"\n{scenario.name} {name}: {each:.0f} instructions per request in user code, by callgrind")
    rows = re.findall(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+(.*)$", text[total.end() :], re.MULTILINE)
    for count, where in rows[:TOP_SYMBOLS]:
        print(f"{int(count.replace(',', '')) / requests:10.1f}  {where}")


def count_system_calls(subject, requests):
    rig, name, scenario = subject.rig, subject.name, subject.scenario
    proxy = subject.start()
    subject.run(proxy, scenario.requests(0))
    summary = rig.path(f"{name}.strace")
    tracer = attach(rig, proxy.pid, summary, "-f")
    subject.run(proxy, requests)
    tracer.send_signal(signal.SIGINT)
    tracer.wait(ATTACH_SECONDS)
    rig.end(tracer)
    print(f"\n{scenario.name} {name}: system calls per request, by strace over {requests} requests")
    print_system_calls(summary, requests)
    rig.end(proxy.process)


def attach(rig, pid, summary, *options):
    log_path = rig.path("strace.log")
    with open(log_path, "w") as log:
        command = [program("strace"), "-c", *options, "-o", summary, "-p", str(pid)]
        tracer = rig.spawn(command, cpu=rig.load_cpu, stdout=subprocess.DEVNULL, stderr=log)
    deadline = time.monotonic() + ATTACH_SECONDS
    while time.monotonic() < deadline and tracer.poll() is None:
        with open(log_path) as log:
            if "attached" in log.read():
                return tracer
        time.sleep(0.05)
    with open(log_path) as log:
        raise Failure(f"strace did not attach to process {pid}: {log.read().strip()}")


def print_system_calls(summary, requests):
    calls = read_system_calls(summary)
    for count, errors, call in calls:
        failed = f"  ({100 * errors / count:.0f} % failed)" if errors else ""
        print(f"{count / requests:10.3f}  {call}{failed}")
    print(f"{sum(count for count, _, _ in calls) / requests:10.3f}  in all")


def read_system_calls(summary):
    """(calls, of them failed, name), the most frequent first."""
    with open(summary) as file:
        rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(\d+\s+)?(\w+)$", file.read(), re.MULTILINE)
    calls = [(int(count), int(errors or 0), call) for count, errors, call in rows if call != "total"]
    return sorted(calls, reverse=True)
