# SPDX-License-Identifier: BSD-2-Clause
"""What measures is right itself: the load generator, the harness of `make bench`, the counts of bench-instructions."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

import pytest

from harness import HOST, POINTSMAN, ROOT, SANITIZED, SLOWNESS, Raw, Server, encode, free_port, wait_for

BENCH = ROOT / "tests" / "bench"
OPENLOOP = str(pathlib.Path(POINTSMAN).parent / "openloop")
FLOOR = str(pathlib.Path(POINTSMAN).parent / "floor")
RATE = 2000
STALL_SECONDS = 0.5

sys.path.insert(0, str(BENCH))

import instructions  # noqa: E402
import report  # noqa: E402


def openloop(port, *words, status=0):
    done = subprocess.run(
        [OPENLOOP, "--port", str(port), *map(str, words)], capture_output=True, text=True, timeout=60 * SLOWNESS
    )
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


@contextlib.contextmanager
def server(answer):
    """answer(number of the request): its bytes, or None to hang up; for one connection, which sends GETs alone."""
    with socket.create_server((HOST, free_port())) as listener:
        thread = threading.Thread(target=serve, args=(listener, answer), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(10 * SLOWNESS)


REQUEST_BYTES = len(b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n")


def serve(listener, answer):
    with contextlib.suppress(OSError):
        connection, _ = listener.accept()
        number, pending = 0, b""
        with connection:
            while data := connection.recv(65536):
                pending += data
                while len(pending) >= REQUEST_BYTES:
                    pending = pending[REQUEST_BYTES:]
                    if (reply := answer(number)) is None:
                        return
                    connection.sendall(reply)
                    number += 1


def stalls_once(number):
    if number == 300:
        time.sleep(STALL_SECONDS)
    return b"$2\r\nok\r\n"


# --------------------------------------------------------------------------------------- the load generator


def test_open_loop_counts_the_waiting_of_those_that_were_due_while_the_server_stalled():
    with server(stalls_once) as port:
        said = openloop(port, "--connections", 1, "--rate", RATE, "--requests", 1500, "--value-bytes", 2)
    # Two thirds of them were due meanwhile, and half of these waited for more than half of the stall.
    assert said["answered"] == said["requests"] == 1500
    assert said["latency_us"]["max"] >= STALL_SECONDS * 1e6
    assert said["latency_us"]["p90"] >= STALL_SECONDS * 1e6 / 4
    assert said["undisturbed_us"]["p90"] >= STALL_SECONDS * 1e6 / 4, "the server's stall is none of the load's"


def test_open_loop_leaves_out_what_waited_while_it_did_not_run_itself():
    with server(lambda number: b"$2\r\nok\r\n") as port:
        words = ("--connections", "1", "--rate", str(RATE), "--requests", "3000", "--value-bytes", "2")
        process = subprocess.Popen([OPENLOOP, "--port", str(port), *words], stdout=subprocess.PIPE, text=True)
        time.sleep(0.4)
        process.send_signal(signal.SIGSTOP)
        time.sleep(STALL_SECONDS)
        process.send_signal(signal.SIGCONT)
        said = json.loads(process.communicate(timeout=60 * SLOWNESS)[0])
    due_meanwhile = RATE * STALL_SECONDS
    assert due_meanwhile * 0.9 <= said["disturbed"] <= said["requests"] == said["answered"] == 3000
    assert said["latency_us"]["max"] >= STALL_SECONDS * 0.9e6 > said["undisturbed_us"]["max"]
    assert said["was_the_limit"]


def test_closed_loop_asks_less_meanwhile_and_sees_one():
    with server(stalls_once) as port:
        said = openloop(port, "--connections", 1, "--requests", 1500, "--value-bytes", 2)
    assert said["latency_us"]["max"] >= STALL_SECONDS * 1e6
    assert said["latency_us"]["p99"] < STALL_SECONDS * 1e6 / 4


def test_open_loop_waits_for_room_and_says_so_and_sends_all_in_the_end():
    with server(stalls_once) as port:
        words = ("--connections", 1, "--rate", RATE, "--requests", 1000, "--value-bytes", 2, "--pipeline", 10)
        said = openloop(port, *words)
    assert said["answered"] == 1000 and said["unsent"] == 0
    assert said["held"] > 0


@pytest.mark.parametrize(
    "answer, counter",
    [
        (b"$3\r\nnot\r\n", "wrong"),
        (b"+OK\r\n", "wrong"),
        (b"$-1\r\n", "missing"),
        (b"-ERR no\r\n", "errors"),
    ],
)
def test_reply_that_was_not_asked_for_is_counted_and_fails_the_run(answer, counter):
    with server(lambda number: answer) as port:
        said = openloop(port, "--connections", 1, "--requests", 20, "--value-bytes", 2, status=1)
    assert {name: said[name] for name in ("wrong", "missing", "errors")} == {
        "wrong": 0,
        "missing": 0,
        "errors": 0,
        counter: 20,
    }
    assert said["first_complaint"].startswith("GET was answered ")


@pytest.mark.parametrize("answer, words", [(b"what\r\n", "no reply"), (b"$2\r\nok\r\n" * 2, "nobody has asked")])
def test_bytes_out_of_turn_end_the_run(answer, words):
    with server(lambda number: answer) as port:
        said = openloop(port, "--connections", 1, "--requests", 20, "--value-bytes", 2, status=1)
    assert words in said["failure"]


def test_server_that_never_answers_ends_the_run():
    with server(lambda number: b"") as port:
        said = openloop(port, "--connections", 1, "--requests", 20, "--timeout", 0.3, status=1)
    assert said["unanswered"] == 1
    assert "no reply" in said["failure"]


def test_server_that_hangs_up_ends_the_run():
    with server(lambda number: None if number else b"$2\r\nok\r\n") as port:
        said = openloop(port, "--connections", 1, "--requests", 20, "--value-bytes", 2, status=1)
    assert said["answered"] == 1
    assert "closed after 1 replies: by the server" in said["failure"]
    assert "refused" in openloop(port, "--requests", 1, status=1)


def test_mistakes_on_the_command_line_are_told():
    assert "--port" in openloop(0, "--requests", 1, status=2)
    assert "no such option" in openloop(1, "--what", status=2)


# ----------------------------------------------------------------------------------------------- the harness


def run_bench(program, *words, **environment):
    names = {"BENCH_POINTSMAN": POINTSMAN, "BENCH_OPENLOOP": OPENLOOP, "BENCH_FLOOR": FLOOR, "BENCH_KEYS": "1000"}
    return subprocess.run(
        ["/usr/bin/python3", str(BENCH / program), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=100 * SLOWNESS,
        env={**os.environ, **names, **environment},
        cwd=ROOT,
    )


def test_harness_measures_each_kind_of_scenario_and_draws_it(tmp_path):
    scenarios = "get_16k,peak,open_70,c_mget10,r_mix_p1"
    done = run_bench(
        "bench.py",
        *("--json", tmp_path / "bench.json", "--chart", tmp_path / "bench.svg"),
        BENCH_SCENARIOS=scenarios,
        BENCH_ROUNDS="1",
        BENCH_REQUESTS="1000",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "bench.json").read_text())
    measured = {(row["scenario"], row["proxy"]) for row in document["rows"]}
    one = {(name, proxy) for name in ("peak", "get_16k") for proxy in ("direct", "haproxy", "pointsman")}
    one.add(("get_16k", "floor"))
    others = {("c_mget10", "nutcracker"), ("c_mget10", "pointsman"), ("r_mix_p1", "pointsman_master")}
    assert one | others | {("r_mix_p1", "pointsman")} <= measured
    assert {name for name, _ in measured} == set(scenarios.split(","))
    assert all(row["proxy_us"] > 0 for row in document["rows"] if row["proxy"] != "direct")
    assert {name: len(rounds) for name, rounds in document["loads"].items()} == {"redis-benchmark": 1, "openloop": 1}
    split = [row for row in document["rows"] if row["scenario"] == "r_mix_p1"]
    assert {row["proxy"]: row["replica_share"] > 0.5 for row in split} == {"pointsman": True, "pointsman_master": False}
    goals = {(goal["scenario"], goal["beside"]): goal["measured"] for goal in document["goals"]}
    assert goals["get_16k", "haproxy"] > 0 and goals["c_mget10", "nutcracker"] > 0
    floors = {(goal["scenario"], goal["beside"]): goal["floor"] for goal in document["goals"]}
    assert floors["get_16k", "haproxy"] > 0 and floors["open_70", "haproxy"] is None
    assert goals["get_c1000", "haproxy"] is None and goals["tls", "haproxy"] is None
    assert "does not speak TLS" in done.stdout
    bars = ElementTree.parse(tmp_path / "bench.svg").findall(".//{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 4 + 3 + 2  # the page, and a bar for each proxy of get_16k, c_mget10 and r_mix_p1


def test_harness_fails_if_a_proxy_answers_without_its_nodes(tmp_path):
    done = run_bench("bench.py", BENCH_POINTSMAN=shutil.which("true"), BENCH_SCENARIOS="get_p1", BENCH_REQUESTS="1000")
    assert done.returncode == 2
    assert "pointsman ended with status 0" in done.stderr


def test_harness_says_which_names_there_are():
    done = run_bench("bench.py", BENCH_SCENARIOS="get_p1,what")
    assert done.returncode == 2
    assert "no what; there are get_p1" in done.stderr


def row_of(scenario, proxy, cost):
    figures = dict.fromkeys(("redis_us", "both_us", "p50_ms", "p99_ms", "p999_ms", "requests_per_second"), 1.0)
    return {"scenario": scenario, "proxy": proxy, "proxy_us": cost, **figures}


def goal_of(scenario, measured):
    return {
        "scenario": scenario,
        "figure": "proxy_us",
        "beside": "haproxy",
        "at_most": 0.6,
        "measured": measured,
        "floor": 0.41,
        "ok": measured and measured <= 0.6,
        "why_not": "",
        "doubt": "",
    }


def test_readme_is_written_from_what_was_measured_last(tmp_path, monkeypatch):
    setting = {"machine": {"cpu": "a CPU", "cpus": 2, "kernel": "6"}, "programs": {"redis-server": "redis 7"}}
    setting |= {"rounds": 3, "p1_requests": 1000}
    runs = [
        {"rows": [row_of("get_p1", "haproxy", 7.0)], "goals": [goal_of("get_p1", 0.7), goal_of("set_p1", None)]},
        {"rows": [row_of("get_p1", "haproxy", 8.0)], "goals": [goal_of("get_p1", None), goal_of("set_p1", 0.5)]},
    ]
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for path, run in zip(files, runs):
        path.write_text(json.dumps(setting | run))
    readme = tmp_path / "README.md"
    costs, goals = "<!-- costs: begin -->\nold\n<!-- costs: end -->", "<!-- goals: begin --><!-- goals: end -->"
    readme.write_text(f"a\n{costs}\nb\n{goals}\nc\n")
    monkeypatch.setattr(report, "README", str(readme))
    monkeypatch.setattr(report, "README_CHART", str(tmp_path / "costs.svg"))
    report.renew_readme(files)
    text = readme.read_text()
    assert "old" not in text and text.startswith("a\n") and text.endswith("\nc\n")
    assert "8.00 + 1.00 µs" in text and "7.00" not in text
    assert "| 0.60 | 0.41 | 0.70 |" in text and "| 0.60 | 0.41 | **0.50** |" in text
    assert "8.00 µs" in (tmp_path / "costs.svg").read_text()


def test_readme_of_the_project_has_a_place_for_them():
    text = (ROOT / "README.md").read_text()
    for name in ("costs", "goals"):
        assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1
    assert "tests/bench/costs.svg" in text and (BENCH / "costs.svg").exists()


# ------------------------------------------------------------------------------------------------- the floor


def test_floor_gives_each_client_its_own_replies_and_lets_go_who_sends_what_it_is_not_for(processes):
    server = processes(Server("alone")).ready()
    port = free_port()
    process = subprocess.Popen([FLOOR, str(port), str(server.port)], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: can_connect(port), what="the floor to listen")
        clients = [Raw(port) for _ in range(20)]
        values = [bytes([65 + i]) * 40_000 for i in range(20)]
        with server.raw() as direct:
            for i, value in enumerate(values):
                direct.ask("SET", f"key:{i:02}", value)
        for _ in range(10):
            for i, client in enumerate(clients):
                client.send(encode("GET", f"key:{i:02}") * 5)
            for client, value in zip(clients, values):
                assert [client.read() for _ in range(5)] == [value] * 5
        clients[0].send(encode("GET", "key:00") + encode("PING"))
        assert clients[0].read_to_end() == b""
        assert clients[1].ask("GET", "key:01") == values[1]
    finally:
        process.kill()
        assert "several lengths" in process.communicate()[1]


def can_connect(port):
    with contextlib.suppress(OSError), socket.create_connection((HOST, port)):
        return True
    return False


# ------------------------------------------------------------------------------- instructions, allocations


@pytest.mark.skipif(SANITIZED, reason="valgrind does not run what a sanitizer has built")
def test_instructions_more_than_expected_fail(tmp_path):
    expected, counted = tmp_path / "expected.json", tmp_path / "counted.json"
    words = ("--expected", expected, "--json", counted)
    few = {"BENCH_SCENARIOS": "get_p1", "BENCH_BURSTS": "3"}
    assert run_bench("instructions.py", *words, "--renew", **few).returncode == 0
    own = json.loads(counted.read_text())["scenarios"]["get_p1"]
    assert own["allocations"] == 0
    assert own["instructions"] > 100 and own["calls"]["sendto"] >= 1
    document = json.loads(expected.read_text())
    document["scenarios"]["get_p1"]["instructions"] *= 0.8
    expected.write_text(json.dumps(document))
    done = run_bench("instructions.py", *words, **few)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "MORE: get_p1" in done.stdout


def counts_of(instructions_each=100.0, calls=2.0, allocations=0):
    allocators = {"malloc by f": allocations} if allocations else {}
    return instructions.Counts(instructions_each, calls, {}, allocations, allocators)


@pytest.mark.parametrize(
    "scenario, counts, status, said",
    [
        ("get_p1", counts_of(), 0, "all as expected"),
        ("get_p1", counts_of(instructions_each=100.9), 0, "all as expected"),
        ("get_p1", counts_of(instructions_each=101.1), 1, "MORE: get_p1: 101.100 instructions instead of 100.000"),
        ("get_p1", counts_of(instructions_each=90), 0, "less: get_p1: 90.000 instructions"),
        ("get_p1", counts_of(calls=2.2), 1, "MORE: get_p1: 2.200 system calls"),
        ("get_p1", counts_of(allocations=3), 1, "3 x malloc by f"),
        ("r_get_p1", counts_of(instructions_each=101.1), 0, "all as expected"),
        ("r_get_p1", counts_of(instructions_each=102.1), 1, "MORE: r_get_p1"),
        ("mget10", counts_of(allocations=3), 0, "nothing is expected yet of mget10"),
    ],
)
def test_counts_are_judged_by_what_is_expected(capsys, scenario, counts, status, said):
    known = {"instructions": 100.0, "system_calls": 2.0}
    expected = {"scenarios": {"get_p1": known, "r_get_p1": known}}
    assert instructions.judge({scenario: counts}, expected) == status
    assert said in capsys.readouterr().out


def test_allocations_are_read_from_a_profile_with_who_asked_for_them(tmp_path):
    profile = tmp_path / "profile"
    lines = ["fn=(1) handler_take", "0 5", "cfn=(2) malloc", "calls=3 0", "0 9", "cfn=(3) memcpy", "calls=7 0", "0 1"]
    lines += ["fn=(4) worker_run", "cfn=(2)", "calls=2 0", "0 9", "fn=(2)", "cfn=(2)", "calls=1 0", "totals: 24"]
    profile.write_text("\n".join(lines) + "\n")
    read = instructions.Profile(profile)
    assert read.instructions == 24
    assert read.allocators == {"malloc by handler_take": 3, "malloc by worker_run": 2}
