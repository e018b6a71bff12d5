# SPDX-License-Identifier: BSD-2-Clause
"""What the plan makes of a command over several nodes is what Redis' own COMMAND tips say, or there is a reason."""

import pathlib
import re

from harness import Server

PLAN = pathlib.Path(__file__).resolve().parents[2] / "routing" / "plan.c"

# response policy -> what merges accordingly
POLICIES = {
    "one_succeeded": {"ONE_OK"},
    "all_succeeded": {"OK", "FIRST", "SUM"},  # all answer alike; LATENCY RESET tells how many
    "agg_sum": {"SUM"},
    "agg_min": {"MIN"},
    "agg_logical_and": {"AND"},
    "special": {"ANY", "CONCAT", "INFO", "TEXT", "PAIRS", "UNION", "SUM", "OK"},
    None: {"PLACES", "CONCAT", "UNION", "OK", "FIRST", "TEXT", "ANY"},
}

# Names that tips speak of and the plan does not, and why.
ELSEWHERE = {
    "scan": "goes from master to master (proxy/scan.h)",
    "wait": "asks the master that was written to (README)",
    "waitaof": "the same",
    "msetnx": "must be one step, so it keeps to one slot",
    "ping": "answered by the proxy",
    "client|setname": "answered by the proxy, for its clients",
    "client|setinfo": "the same",
    "client|no-evict": "the same",
    "client|no-touch": "the same",
    "memory|stats": "numbers of one node that cannot be added up",
    "function|stats": "tells of what runs at one node",
    "latency|graph": "a picture of one node",
    "latency|histogram": "a table of one node",
}


def rows_of_the_plan():
    return {name: (kind, merge) for name, kind, merge in re.findall(
        r'\{"([a-z|-]+)", PLAN_(SPLIT|MASTERS), MERGE_([A-Z_]+)\}', PLAN.read_text())}  # fmt: skip


def commands_of(link):
    def visit(entry):
        tips = [tip.decode() for tip in entry[7]]
        policy = lambda kind: next((tip.split(":")[1] for tip in tips if tip.startswith(kind)), None)
        yield entry[0].decode(), policy("request_policy"), policy("response_policy")
        for subcommand in entry[9]:
            yield from visit(subcommand)

    for entry in link.ask("COMMAND"):
        yield from visit(entry)


def test_the_plan_follows_the_tips():
    rows = rows_of_the_plan()
    assert len(rows) > 40
    server = Server("tips").start().ready()
    try:
        with server.raw() as link:
            commands = list(commands_of(link))
    finally:
        server.kill()
    problems = []
    for name, request, response in commands:
        kind = {"multi_shard": "SPLIT", "all_shards": "MASTERS", "all_nodes": "MASTERS"}.get(request)
        if not kind or name in ELSEWHERE:
            continue
        if name not in rows:
            problems.append(f"{name}: {request} {response}, and the plan does not know it")
        elif rows[name][0] != kind or rows[name][1] not in POLICIES[response]:
            problems.append(f"{name}: {request} {response}, and the plan says {rows[name]}")
    assert not problems, "\n".join(problems)
