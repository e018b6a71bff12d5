# SPDX-License-Identifier: BSD-2-Clause
"""Faults, one after the other, each with servers and clients of its own; and what became of what clients were told.

    chaos.py [--seconds N] [--seed N] [--faults a,b] [--worlds a,b] [--levels a,b] [--output DIRECTORY]

The seed says in which order faults come, when each of them begins and ends, and what clients ask for; it is not the
master of the kernel's timing. A run is wrong if anything happened that its fault does not excuse; then the status is 1.
Behind "stale" stand reads that are older than a write acknowledged to anybody, than one of their own connection, than what
this has read before, and than a write of AGE_S ago.
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys
import time
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

import checker  # noqa: E402
import harness  # noqa: E402
from faults import FAULTS, LOSABLE  # noqa: E402
from harness import SANITIZED, SLOWNESS, wait_for  # noqa: E402
from rude import fill  # noqa: E402
from workers import KEYS, Load  # noqa: E402
from worlds import WORLDS, NamedWorld  # noqa: E402

IDLE_S = 2.0  # until the proxy has closed what it needed to begin
CALM_S = 1.0  # before a fault, and after all is well again
MEMORY_SLACK = 8 << 20
CONNECTION_SLACK = 4
LINE = 120  # characters of an error that are shown
# Writes that began so long after the naming of a new master go there, or nowhere.
LATE_S = 0.2
AGE_S = 0.2

# How reads are to be: settings, what is promised of them.
Level = collections.namedtuple("Level", "settings promises")
LEVELS = {
    "proxy": Level({"reads_consistency": "proxy"}, ("stale", "own", "backward")),
    "session": Level({"reads_consistency": "session"}, ("own", "backward")),
    "aged": Level({"reads_consistency": "eventual", "reads_max_staleness": f"{AGE_S * 1000:.0f}ms"}, ("overdue",)),
    "eventual": Level({"reads_consistency": "eventual"}, ()),
}


class Run:
    """One fault in one world. `wrong` are sentences; `result` is all that was seen."""

    def __init__(self, fault, world, level, seed):
        self.fault, self.level = fault, level
        self.seed = f"{seed}/{fault.name}/{world}"
        self.world_name = world
        self.wrong = []
        self.result = {"fault": fault.name, "world": world, "level": level, "seed": seed, "wrong": self.wrong}
        self.world = self.pointsman = self.load = None

    def carry_out(self):
        began = time.monotonic()
        try:
            self.world = WORLDS[self.world_name](relayed=self.fault.relayed).start()
            self.begin()
            self.trouble()
            self.judge()
            self.leave_no_trace()
        except (AssertionError, OSError, harness.redis.RedisError, subprocess.TimeoutExpired) as problem:
            self.wrong.append(f"{type(problem).__name__}: {problem}"[:1500])
        finally:
            self.end()
        self.result["seconds"] = round(time.monotonic() - began, 1)
        return self.result

    def begin(self):
        threads = random.Random(self.seed).choice((1, 2, 4))
        self.pointsman = self.world.pointsman(proxy_threads=threads, **LEVELS[self.level].settings).start()
        time.sleep(IDLE_S)
        self.memory = self.pointsman.rss()
        self.connections = self.world.proxy_connections()
        rude = self.world.rude
        if rude:
            fill(self.world.victim)
        self.load = Load(self.pointsman.port, self.seed, self.pointsman.directory, rude, self.fault.told)

    def trouble(self):
        time.sleep(CALM_S)
        self.fault.act(self.world, random.Random(self.seed))
        self.world.heal()
        time.sleep(CALM_S)
        self.ended_at = time.monotonic()
        self.load.finish()
        self.history = self.load.history
        if self.load.stuck:
            self.wrong.append(f"clients were not answered at all: {self.load.stuck}")
        self.wrong += self.load.complaints
        self.world.heal()  # what the fault has set off may have waited until now

    def judge(self):
        keys = sorted({op.key for op in self.history} | {f"list:{number}" for number in range(KEYS)})
        lists, counters = self.world.stored(keys)
        known_at = self.world.known_at and self.world.known_at + LATE_S * SLOWNESS
        findings = checker.check(self.history, lists, counters, known_at, AGE_S)
        self.result |= findings.counts() | {
            "operations": len(self.history),
            "pause_of_writes": round(checker.longest_pause(self.history, (checker.APPEND, checker.COUNT), self.ended_at), 2),
            "pause_of_reads": round(checker.longest_pause(self.history, (checker.READ,), self.ended_at), 2),
            "errors": dict(checker.errors(self.history)),
        }
        self.accuse(findings)
        self.audit()
        self.look_through_proxy(lists)

    def accuse(self, findings):
        forbidden = ["twice", "refused_done", "invented", "lost_late", *LEVELS[self.level].promises]
        if self.fault.losable != LOSABLE:
            forbidden.append("lost")
        for name in forbidden:
            found = getattr(findings, name)
            if found:
                self.wrong.append(f"{name} {len(found)}, first {found[0]}")
        if not findings.judged:
            self.wrong.append("nothing was read")
        for text in self.result["errors"]:
            if not any(excuse in text for excuse in self.fault.told):
                self.wrong.append(f"told {self.result['errors'][text]} times: {text}")

    def audit(self):
        """What rude clients have counted."""
        _, counters = self.world.stored([key for key, _, _ in self.load.books])
        for key, least, most in self.load.books:
            if counters[key] > most or (counters[key] < least and self.fault.losable != LOSABLE):
                self.wrong.append(f"{key} is {counters[key]}, should be {least} to {most}")

    def look_through_proxy(self, lists):
        """It answers what is stored, by whichever node."""
        with self.pointsman.client(decode_responses=True) as client:
            for key, values in lists.items():
                last = values[-1] if values else None
                wait_for(lambda: client.lindex(key, -1) == last, 10, f"{key} to be read as it is stored")
            assert client.set("harness:after", 1)

    def replicas_are_read(self):
        """No key is left over that only its master may be asked for."""
        if not self.world.replicas:
            return True
        masters = self.world.masters()
        before = [master.commandstats().get("lindex", 0) for master in masters]
        with self.pointsman.client() as client:
            for number in range(KEYS):
                client.lindex(f"list:{number}", -1)
        return before == [master.commandstats().get("lindex", 0) for master in masters]

    def leave_no_trace(self):
        bound = self.connections + CONNECTION_SLACK
        wait_for(self.replicas_are_read, 10, "reads to go to replicas again", every=0.1)
        try:
            wait_for(lambda: self.world.proxy_connections() <= bound, 10, "connections to be closed", every=0.1)
        except AssertionError:
            self.wrong.append(f"{self.world.proxy_connections()} connections to nodes, {self.connections} before")
        self.result["connections_left"] = self.world.proxy_connections() - self.connections
        growth = self.pointsman.rss() - self.memory
        self.result["memory_growth"] = growth
        if growth > MEMORY_SLACK and not SANITIZED:
            self.wrong.append(f"memory grew by {growth >> 20} MB")

    def end(self):
        if self.load:
            self.load.kill()
        if self.wrong and self.pointsman:
            self.result["log"] = self.pointsman.log_text()[-6000:]
        try:
            if self.pointsman:
                self.pointsman.stop()
        except AssertionError as problem:
            self.wrong.append(str(problem)[:4000])
        if self.world:
            self.world.stop()


# ----------------------------------------------------------------------------------------------- which, and when


def schedule(seed, faults, worlds, levels):
    """Every fault in every world where it can happen, shuffled; levels in turn, each next seed begins at another."""
    rows = [(fault, world) for fault in FAULTS.values() for world in fault.worlds]
    rows = [(fault, world) for fault, world in rows if not faults or fault.name in faults]
    rows = [(fault, world) for fault, world in rows if not worlds or world in worlds]
    random.Random(seed).shuffle(rows)
    turn = lambda fault, world: (zlib.crc32(f"{fault.name}/{world}".encode()) + seed) % len(levels)
    return [(fault, world, levels[turn(fault, world)]) for fault, world in rows]


def line_of(result):
    words = [f"{'WRONG' if result['wrong'] else 'ok':5} {result['world']:8} {result['fault']:22} {result['level']:8}"]
    if "operations" in result:
        words.append(
            f"{result['operations']:6} ops  lost {result['lost']:3} late {result['lost_late']} twice {result['twice']}"
            f"  stale {result['stale']}/{result['own']}/{result['backward']}/{result['overdue']} of {result['judged']}"
            f"  pause w {result['pause_of_writes']:.2f} r {result['pause_of_reads']:.2f} s"
            f"  left {result.get('connections_left', '?')}  {result.get('memory_growth', 0) / 1e6:+.1f} MB"
        )
    return "  ".join(words)


def details_of(result):
    for text, count in sorted(result.get("errors", {}).items()):
        yield f"        {count:5} x {text[:LINE]}"
    for sentence in result["wrong"]:
        yield f"      > {sentence[: 3 * LINE]}"


def table_of(results):
    """One row for each fault and world: sums, and the longest of pauses."""
    rows = collections.defaultdict(list)
    for result in results:
        rows[result["fault"], result["world"]].append(result)
    yield f"{'fault':24}{'world':10}{'runs':>5}{'wrong':>6}{'lost':>6}{'twice':>6}{'stale':>6}{'write s':>9}{'read s':>8}  errors"
    for (fault, world), those in sorted(rows.items()):
        total = lambda name: sum(result.get(name, 0) for result in those)
        most = lambda name: max(result.get(name, 0) for result in those)
        errors = sum(sum(result.get("errors", {}).values()) for result in those)
        wrong = sum(bool(result["wrong"]) for result in those)
        yield (f"{fault:24}{world:10}{len(those):5}{wrong:6}{total('lost'):6}{total('twice'):6}{total('stale'):6}"
               f"{most('pause_of_writes'):9.2f}{most('pause_of_reads'):8.2f}  {errors}")  # fmt: skip


def carry_out(seconds, seed, faults=(), worlds=(), levels=(), output=None, say=print):
    """Until the time is used up, beginning anew with the next seed if there is more than all of them need."""
    harness.raise_descriptor_limit()
    end = time.monotonic() + seconds
    results = []
    levels = levels or list(LEVELS)
    can_name = NamedWorld.is_possible()
    while time.monotonic() < end:
        rows = schedule(seed, faults, worlds, levels)
        for fault, world, level in rows:
            if time.monotonic() >= end:
                break
            if world == "named" and not can_name:
                say(f"{fault.name}: needs the right to mount, left out")
                continue
            result = Run(fault, world, level, seed).carry_out()
            results.append(result)
            say(line_of(result))
            for line in details_of(result):
                say(line)
            if output:
                write(results, output)
        seed += 1
        if not rows:
            raise SystemExit("there is no such fault in such a world")
    return results


def write(results, output):
    directory = pathlib.Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "runs.json").write_text(json.dumps(results, indent=1, default=str), encoding="utf-8")


def main():
    listed = lambda text: [word for word in text.split(",") if word]
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=300)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--faults", type=listed, default=[])
    options.add_argument("--worlds", type=listed, default=[])
    options.add_argument("--levels", type=listed, default=[])
    options.add_argument("--output", default="build/chaos")
    given = options.parse_args()
    try:
        say = lambda text: print(text, flush=True)
        results = carry_out(given.seconds, given.seed, given.faults, given.worlds, given.levels, given.output, say)
    finally:
        harness.stop_everything()
        harness.remove_home()
    print("\n".join(["", *table_of(results)]))
    wrong = sum(bool(result["wrong"]) for result in results)
    print(f"{len(results)} runs, {wrong} wrong; {given.output}/runs.json has them")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
