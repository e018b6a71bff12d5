# SPDX-License-Identifier: BSD-2-Clause
"""What a run has found: on the terminal, as JSON, as a chart, and in README.md."""

import json
import os
import platform
import re
import statistics
import subprocess
from dataclasses import asdict

import chart
from backends import DIRECT, FLOOR, HAPROXY, NUTCRACKER, POINTSMAN, POINTSMAN_MASTER, POINTSMAN_ONE
from load import SCENARIOS
from rig import ROOT, Failure, choose_cpus, pointsman_binary

README = os.path.join(ROOT, "README.md")
README_CHART = os.path.join(ROOT, "tests", "bench", "costs.svg")

HEADINGS = ("scenario", "proxy", "req/s", "proxy us", "min-max", "sys%", "redis us", "p+r us")
HEADINGS += ("p50 ms", "p99 ms", "p99.9 ms", "/haproxy", "/nutcracker")
WIDTHS = (11, 16, 8, 9, 13, 5, 9, 7, 7, 7, 8, 9, 12)
FIGURES = {"proxy_us": "proxy us", "redis_us": "redis us", "both_us": "p+r us", "p99_ms": "p99 ms"}
IN_WORDS = {
    "proxy_us": "proxy's CPU",
    "redis_us": "Redis' CPU",
    "both_us": "CPU of proxy and Redis",
    "p99_ms": "p99 latency",
}
NAMES = {
    DIRECT: "no proxy",
    HAPROXY: "HAProxy, TCP",
    NUTCRACKER: "nutcracker",
    FLOOR: "the floor",
    POINTSMAN: "Pointsman",
    POINTSMAN_ONE: "Pointsman before one",
    POINTSMAN_MASTER: "Pointsman, all to the master",
}
DISTURBED_UNTOLD = 0.001
WORLDS_IN_WORDS = {"one": "", "three": " over 3 masters", "replicas": " with 2 replicas"}


def median(samples, figure):
    return statistics.median(getattr(sample, figure) for sample in samples)


def ratio(ours, theirs, figure):
    """None where either was not measured, or the peer has no such figure."""
    if not ours or not theirs or not getattr(theirs[0], figure):
        return None
    return statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in zip(ours, theirs))


# ---------------------------------------------------------------------------------------------- terminal


def print_setting(settings):
    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}")
    print("; ".join(describe_programs(settings.proxies).values()))
    server_cpu, load_cpu = choose_cpus()
    where = f"servers on CPU {server_cpu}, load on {load_cpu}"
    if load_cpu is None:
        where = "servers and load on the same CPU"
    print(f"{settings.rounds} rounds, {settings.p1_requests} requests in a p1 run; {where}\n")


def print_headings():
    print(row(HEADINGS), flush=True)


def row(cells):
    left = [cell.ljust(width) for cell, width in zip(cells[:2], WIDTHS)]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], WIDTHS[2:])]
    return " ".join(left + right)


def print_scenario(scenario, contestants, results):
    for name in contestants:
        own = results.samples.get((scenario.name, name))
        if not own:
            continue
        print(row(cells(scenario.name, name, own, results.samples)), flush=True)
        disturbed = median(own, "disturbed")
        if disturbed > DISTURBED_UNTOLD:
            results.note(f"{scenario.name} {name}: {100 * disturbed:.1f} % left out, as the load itself did not run")
        if own[0].replica_share:
            results.note(f"{scenario.name} {name}: {100 * median(own, 'replica_share'):.1f} % of reads by replicas")
    if scenario.name in results.rates:
        results.note(f"{scenario.name}: {results.rates[scenario.name]} requests per second were due")


def cells(scenario, name, own, samples):
    beside = [ratio(own, samples.get((scenario, peer)), "proxy_us") for peer in (HAPROXY, NUTCRACKER)]
    proxy_cells, beside_cells = ["-", "-", "-"], ["-", "-"]
    if name != DIRECT:
        costs = [sample.proxy_us for sample in own]
        share = statistics.mean(sample.proxy_system_share for sample in own)
        spread = f"{min(costs):.2f}-{max(costs):.2f}"
        proxy_cells = [decimal(median(own, "proxy_us")), spread, f"{100 * share:.0f}"]
        beside_cells = [decimal(value) for value in beside]
    figures = ("redis_us", "both_us", "p50_ms", "p99_ms", "p999_ms")
    return [
        scenario,
        name,
        f"{median(own, 'requests_per_second'):.0f}",
        *proxy_cells,
        *[decimal(median(own, figure)) for figure in figures],
        *beside_cells,
    ]


def decimal(value):
    return "-" if value is None else f"{value:.2f}"


def print_goals(document):
    print("\ngoals: pointsman beside a peer, at most")
    print(f"{'scenario':<12} {'figure':<9} {'beside':<17} {'measured':>8} {'goal':>6} {'floor':>6}  ok")
    for goal in document["goals"]:
        verdict = {None: "-", True: "yes", False: "NO"}[goal["ok"]]
        verdict += f" (not measured: {goal['why_not']})" if goal["why_not"] else ""
        verdict += f" ({goal['doubt']})" if goal["doubt"] else ""
        what = f"{goal['scenario']:<12} {FIGURES[goal['figure']]:<9} {goal['beside']:<17}"
        print(f"{what} {decimal(goal['measured']):>8} {goal['at_most']:>6.2f} {decimal(goal['floor']):>6}  {verdict}")
    print(f"\n{document['seconds']:.0f} s")


def print_loads(loads):
    for name, own in loads.items():
        figures = f"{median(own, 'requests_per_second'):.0f}/s, p50 {median(own, 'p50_ms'):.2f} ms"
        print(f"  without a proxy {name} gets {figures}, and Redis takes {median(own, 'redis_us'):.2f} us each")


# -------------------------------------------------------------------------------------------------- JSON


def document_of(settings, results, goals, seconds):
    rows = [json_row(scenario, name, own, results.rates) for (scenario, name), own in results.samples.items()]
    return {
        "machine": describe_machine(),
        "programs": describe_programs(settings.proxies),
        "rounds": settings.rounds,
        "p1_requests": settings.p1_requests,
        "seconds": seconds,
        "rows": rows,
        "goals": [goal_result(goal, results) for goal in goals],
        "loads": {name: [asdict(sample) for sample in own] for name, own in results.loads.items()},
        "notes": results.notes,
        "failures": results.failures,
    }


def goal_result(goal, results):
    ours, theirs = (results.samples.get((goal.scenario, name)) for name in (POINTSMAN, goal.beside))
    measured = ratio(ours, theirs, goal.figure)
    why_not = results.why_not.get((goal.scenario, goal.beside), "")
    is_doubtful = measured is not None and (was_disturbed(ours) or was_disturbed(theirs))
    doubt = "the load itself was disturbed" if is_doubtful else ""
    met = None if measured is None or doubt else measured <= goal.at_most
    floor = ratio(results.samples.get((goal.scenario, FLOOR)), theirs, goal.figure)
    return {**asdict(goal), "measured": measured, "floor": floor, "ok": met, "why_not": why_not, "doubt": doubt}


def was_disturbed(samples):
    return 2 * sum(sample.load_was_the_limit for sample in samples) > len(samples)


def json_row(scenario, name, own, rates):
    share = statistics.mean(sample.proxy_system_share for sample in own)
    figures = ("requests_per_second", "proxy_us", "redis_us", "both_us", "p50_ms", "p99_ms", "p999_ms", "replica_share")
    medians = {figure: median(own, figure) for figure in figures}
    split = {
        "proxy_user_us": medians["proxy_us"] * (1 - share) if name != DIRECT else 0.0,
        "proxy_system_us": medians["proxy_us"] * share,
    }
    rounds = [asdict(sample) for sample in own]
    return {"scenario": scenario, "proxy": name, "rate": rates.get(scenario), **medians, **split, "rounds": rounds}


def write(document, json_path, chart_path):
    if json_path:
        with open(json_path, "w") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
    if chart_path:
        write_chart(document, chart_path)


def describe_machine():
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    return {"cpu": cpu, "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release()}


def describe_programs(contestants):
    questions = {name: [name, "--version"] for name in ("redis-server", "redis-benchmark")}
    if HAPROXY in contestants:
        questions["haproxy"] = ["haproxy", "-v"]
    if NUTCRACKER in contestants:
        questions["nutcracker"] = ["nutcracker", "--version"]
    if POINTSMAN in contestants:
        questions["pointsman"] = [pointsman_binary(), "--version"]
    return {name: first_line(command) for name, command in questions.items()}


def first_line(command):
    answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    lines = (answer.stdout + answer.stderr).strip().splitlines()
    words = lines[0].removeprefix("This is ").split() if lines else [os.path.basename(command[0])]
    return " ".join(words[:3]).partition(" (")[0]


# ------------------------------------------------------------------------------------------------- chart


def write_chart(document, path):
    """Bars of a scenario share a scale of their own, since a pipelined request costs a tenth of another."""
    groups = []
    for scenario in SCENARIOS.values():
        rows = [one for one in document["rows"] if one["scenario"] == scenario.name and one["proxy"] != DIRECT]
        if rows and scenario.by == "redis-benchmark" or scenario.world == "replicas" and rows:
            bars = [chart.Bar(NAMES[one["proxy"]], one["proxy"] == POINTSMAN, one["proxy_us"]) for one in rows]
            groups.append(chart.Group(scenario.what + WORLDS_IN_WORDS[scenario.world], bars))
    title = "CPU time of the proxy for each request, in microseconds"
    below = f"{document['machine']['cpu']}; less is better; bars of a group are to scale"
    with open(path, "w") as file:
        file.write(chart.draw(title, below, groups, "µs"))


# ------------------------------------------------------------------------------------------------ README


def renew_readme(paths):
    """Later files add to earlier ones, and replace what both have."""
    document = merge([read(path) for path in paths])
    with open(README) as file:
        text = file.read()
    for name, table in (("costs", costs_table(document)), ("goals", goals_table(document))):
        text = replace_between(text, name, table)
    with open(README, "w") as file:
        file.write(text)
    write_chart(document, README_CHART)
    print(f"README.md and {os.path.relpath(README_CHART, ROOT)} are renewed")


def read(path):
    with open(path) as file:
        return json.load(file)


def merge(documents):
    merged = dict(documents[-1])
    rows, goals = {}, {}
    for document in documents:
        rows |= {(one["scenario"], one["proxy"]): one for one in document["rows"]}
        for goal in document["goals"]:
            key = (goal["scenario"], goal["figure"], goal["beside"])
            if goal["measured"] is not None or goals.get(key, goal)["measured"] is None:
                goals[key] = goal
    order = list(SCENARIOS)
    merged["rows"] = sorted(rows.values(), key=lambda one: order.index(one["scenario"]))
    merged["goals"] = list(goals.values())
    return merged


def replace_between(text, name, new):
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise Failure(f"README.md has no {begin}")
    return pattern.sub(lambda _: f"{begin}\n{new}\n{end}", text)


def costs_table(document):
    lines = [f"{programs_in_words(document)}\n"]
    for world, columns in (
        ("one", (HAPROXY, NUTCRACKER, FLOOR, POINTSMAN, DIRECT)),
        ("three", (NUTCRACKER, POINTSMAN, POINTSMAN_ONE)),
        ("replicas", (POINTSMAN, POINTSMAN_MASTER)),
    ):
        lines += world_table(document, world, columns)
    return "\n".join(lines[:-1])


def programs_in_words(document):
    machine, programs = document["machine"], ", ".join(document["programs"].values())
    size = f"{document['rounds']} rounds of {document['p1_requests']} requests without a pipeline, others in proportion"
    return f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}; {programs}; {size}."


def world_table(document, world, columns):
    rows = {(one["scenario"], one["proxy"]): one for one in document["rows"]}
    titles = {"one": "One Redis", "three": "Three masters", "replicas": "A master and two replicas"}
    lines = [f"| {titles[world]} | {' | '.join(NAMES[name] for name in columns)} |"]
    lines.append("|" + " --- |" * (len(columns) + 1))
    for scenario in SCENARIOS.values():
        own = [rows.get((scenario.name, name)) for name in columns]
        if scenario.world == world and any(own):
            is_open = bool(scenario.rate_of_peak)
            lines.append(f"| {scenario.what} | {' | '.join(table_cell(one, is_open) for one in own)} |")
    return [*lines, ""] if len(lines) > 2 else []


def table_cell(one, is_open):
    if not one:
        return ""
    cost = f"{one['proxy_us']:.2f} + " if one["proxy_us"] else ""
    waited = "p50 {p50_ms:.2f}, p99 {p99_ms:.2f}, p99.9 {p999_ms:.2f} ms".format(**one)
    rate = f"{one['requests_per_second'] / 1000:.0f} k/s"
    return f"{waited} at {rate}" if is_open else f"{cost}{one['redis_us']:.2f} µs, {rate}, p99 {one['p99_ms']:.2f} ms"


def goals_table(document):
    lines = ["| | figure | beside | goal | the floor | measured |", "| --- | --- | --- | --- | --- | --- |"]
    for goal in document["goals"]:
        scenario = SCENARIOS.get(goal["scenario"])
        what = scenario.what + WORLDS_IN_WORDS[scenario.world] if scenario else "TLS towards clients"
        measured = measured_in_words(goal)
        floor = "" if goal["floor"] is None else decimal(goal["floor"])
        wanted = f"{IN_WORDS[goal['figure']]} | {NAMES[goal['beside']]} | {goal['at_most']:.2f}"
        lines.append(f"| {what} | {wanted} | {floor} | {measured} |")
    return "\n".join(lines)


def measured_in_words(goal):
    if goal["measured"] is None:
        return "not measured" + (f": {goal['why_not']}" if goal["why_not"] else "")
    figure = decimal(goal["measured"])
    return (f"**{figure}**" if goal["ok"] else figure) + (f" ({goal['doubt']})" if goal["doubt"] else "")
