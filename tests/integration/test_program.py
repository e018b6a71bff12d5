# SPDX-License-Identifier: BSD-2-Clause
"""The program as its user starts, stops and configures it."""

import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import HOST, POINTSMAN, SLOWNESS, Pointsman, Raw, Replication, encode, free_port, run_pointsman, wait_for


@pytest.fixture(scope="module")
def alone():
    """One master is enough here."""
    replication = Replication(replicas=0, sentinels=0).start()
    yield replication
    replication.stop()


def test_help_tells_the_usage_and_ends_with_0():
    done = run_pointsman("--help")
    assert done.returncode == 0 and "Usage" in done.stdout and "--check-config" in done.stdout
    assert done.stderr == ""


def test_version_is_printed():
    done = run_pointsman("--version")
    assert done.returncode == 0 and re.search(r"\d+\.\d+", done.stdout)


def test_help_config_names_every_key_that_the_example_has():
    help_text, example = run_pointsman("--help-config").stdout, run_pointsman("--help-config=ini").stdout
    keys = set(re.findall(r"^[;# ]*(\w+) *=", example, re.M))
    assert {"listen", "nodes", "policy", "hold_time"} <= keys
    assert not [key for key in keys if key not in help_text]


def test_example_of_the_configuration_is_accepted_as_it_is():
    example = run_pointsman("--help-config=ini").stdout
    done = run_pointsman("-t", config=example)
    assert done.returncode == 0, done.stderr


def test_good_file_passes_the_check_and_nothing_is_started():
    done = run_pointsman("-t", config="[upstream]\nnodes = 127.0.0.1:26379\n")
    assert done.returncode == 0, done.stderr


BAD_LINES = {
    "unknown key": ("[proxy]\nlistn = 127.0.0.1:1\n", 2, "listn"),
    "unknown section": ("[proxi]\nlisten = 127.0.0.1:1\n", None, "proxi"),
    "bad unit": ("[failover]\nhold_time = 10 parsecs\n", 2, "hold_time"),
    "not a number": ("[proxy]\nthreads = many\n", 2, "threads"),
    "out of bounds": ("[proxy]\nthreads = -3\n", 2, "threads"),
    "no such policy": ("[reads]\npolicy = sometimes\n", 2, "policy"),
    "no such port": ("[proxy]\nlisten = 127.0.0.1:99999\n", 2, "listen"),
    "address without port": ("[upstream]\nnodes = localhost:\n", 2, "nodes"),
    "empty list": ("[upstream]\nnodes =\n", 2, "nodes"),
    "duplicate": ("[proxy]\nthreads = 1\nthreads = 2\n", 3, "threads"),
    "no value": ("[proxy]\nthreads\n", 2, ""),
    "section not closed": ("[proxy\nthreads = 1\n", 1, ""),
    "key before any section": ("threads = 1\n", 1, "threads"),
    "bad map": ("[upstream]\nnodes = a:1\nmap = a:1 b:2\n", 3, "map"),
}


@pytest.mark.parametrize("text, line, key", list(BAD_LINES.values()), ids=list(BAD_LINES))
def test_bad_line_is_named_with_file_line_and_key(text, line, key):
    done = run_pointsman("-t", config=text)
    assert done.returncode == 2
    assert re.search(rf"proxy\.ini:{line or '[0-9]+'}: ", done.stderr), done.stderr
    assert key in done.stderr


def test_all_errors_of_a_file_are_told_in_one_go():
    text = "[proxy]\nthreads = many\nlistn = x\n[reads]\npolicy = sometimes\n[failover]\nhold_time = soon\n"
    done = run_pointsman("-t", config=text)
    assert done.returncode == 2
    for line in (2, 3, 5, 7):
        assert f"proxy.ini:{line}: " in done.stderr, done.stderr


def test_long_lines_and_passwords_with_comment_characters_come_through(alone, processes):
    many = ", ".join([f"{HOST}:{alone.servers[0].port}"] + [f"{HOST}:{free_port()}" for _ in range(60)])
    password = "a;b #c ;d=e"
    text = f'[upstream]\nnodes = {many}\n[proxy]\npassword = "{password}"\n'
    if run_pointsman("-t", config=text).returncode != 0:
        text = text.replace(f'"{password}"', password)
    pointsman = processes(Pointsman(None, wait="listen", config=text))
    with pointsman.raw() as link:
        answers = [link.ask("AUTH", candidate) for candidate in (password, f'"{password}"')]
        assert answers[0] == b"OK", answers
        assert link.ask("SET", "long", 1) == b"OK"


@pytest.mark.parametrize("arguments", [["--nosuch"], ["--proxy.nosuch=1"], ["-c"], ["-c", "/no/such/file"], ["word"], ["--reads.policy=x"]])
def test_wrong_usage_ends_with_2_and_says_why(arguments):
    done = run_pointsman(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip()


def test_address_in_use_ends_with_3_and_names_it(alone):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        done = run_pointsman(f"--proxy.listen={HOST}:{port}", f"--upstream.nodes={alone.nodes}")
    assert done.returncode == 3
    assert str(port) in done.stderr


def test_command_line_comes_before_environment_and_that_before_the_file(alone, processes):
    ports = {origin: free_port() for origin in ("file", "environment", "line")}

    def listening(**options):
        pointsman = Pointsman(alone, wait=None, proxy_listen=options.pop("line", None), **options)
        pointsman.start()
        try:
            return wait_for(lambda: [origin for origin, port in ports.items() if _answers(port)], what="a listener")
        finally:
            pointsman.stop()

    text = f"[proxy]\nlisten = {HOST}:{ports['file']}\n"
    variables = {"POINTSMAN_PROXY_LISTEN": f"{HOST}:{ports['environment']}"}
    assert listening(config=text) == ["file"]
    assert listening(config=text, variables=variables) == ["environment"]
    assert listening(config=text, variables=variables, line=f"{HOST}:{ports['line']}") == ["line"]


def _answers(port):
    try:
        with Raw(port) as link:
            return link.ask("PING") == b"PONG"
    except OSError:
        return False


def test_bad_environment_variable_is_named(alone):
    done = run_pointsman(f"--upstream.nodes={alone.nodes}", variables={"POINTSMAN_READS_POLICY": "sometimes"})
    assert done.returncode == 2 and "reads.policy" in done.stderr


def test_only_nodes_given_is_a_complete_start(alone):
    """On the default port; where somebody else has that, pointsman must have wanted it, and may share it with another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, 6380))
        except OSError:
            with Pointsman(alone, wait=None, proxy_listen=None, proxy_threads=None) as started:
                wait_for(lambda: re.search(rf"listen.* {HOST}( port |:)6380", started.log_text()), what="the port in the log")
                started.kill()
            return
    pointsman = Pointsman(alone, proxy_listen=None, proxy_threads=None)
    pointsman.proxy_port, pointsman.port = pointsman.port, 6380
    pointsman.keys.pop("proxy_listen", None)
    with pointsman as started, started.raw() as link:
        assert link.ask("SET", "k", "v") == b"OK"


def test_unix_socket_ipv4_and_ipv6_are_listened_on_side_by_side(alone, processes, tmp_path):
    path = tmp_path / "pointsman.sock"
    port, port6 = free_port(), free_port()
    pointsman = Pointsman(alone, proxy_listen=f"{HOST}:{port}, [::1]:{port6}, unix:{path}")
    pointsman.port = port
    processes(pointsman)
    for number in range(4):  # more than there are threads
        for link in (Raw(port), Raw(port6, host="::1"), Raw(path=str(path))):
            with link:
                link.send(encode("INCR", "listened") + encode("CLIENT", "INFO"))
                assert isinstance(link.read(), int)
                info = link.read().decode()
                assert "addr=" in info
    pointsman.stop()
    assert not path.exists()


def test_socket_left_behind_by_a_killed_pointsman_is_replaced(alone, tmp_path):
    path = tmp_path / "pointsman.sock"
    for ending in ("kill", "stop"):
        pointsman = Pointsman(alone, wait=None, proxy_listen=f"unix:{path}").start()
        wait_for(lambda: _answers_unix(path), what="the unix socket to answer")
        getattr(pointsman, ending)()


def _answers_unix(path):
    with Raw(path=str(path)) as link:
        return link.ask("PING") == b"PONG"


def test_sigterm_answers_what_is_in_flight_and_takes_nothing_new(alone):
    pointsman = Pointsman(alone).start()
    with pointsman.raw(timeout=30) as busy, pointsman.raw(timeout=30) as idle:
        idle.ask("PING")
        busy.send(encode("SET", "drained", 1) + encode("DEBUG", "SLEEP", 1) + encode("INCR", "drained"))
        time.sleep(0.3)
        pointsman.signal(signal.SIGTERM)
        wait_for(lambda: _refuses(pointsman.port), what="no new client to be let in", every=0.005)
        assert [busy.read() for _ in range(3)] == [b"OK", b"OK", 2]
        assert busy.read_to_end() == b""
        assert idle.read_to_end() == b""
        assert pointsman.wait() == 0
    pointsman.check_log()


def _refuses(port):
    try:
        Raw(port).close()
    except OSError:
        return True
    return False


def test_draining_is_bounded_by_drain_time(alone):
    pointsman = Pointsman(alone, proxy_drain_time="500ms").start()
    with pointsman.raw(timeout=30) as busy:
        busy.command("DEBUG", "SLEEP", 2)
        time.sleep(0.2)
        start = time.monotonic()
        pointsman.signal(signal.SIGTERM)
        assert pointsman.wait() == 0
        assert 0.3 < time.monotonic() - start < 1.6 * SLOWNESS
    pointsman.check_log()


def test_client_that_waits_for_an_item_does_not_delay_the_end(alone):
    pointsman = Pointsman(alone, proxy_drain_time="30s").start()
    with pointsman.raw(timeout=30) as blocked:
        blocked.command("BLPOP", "nothing", 0)
        time.sleep(0.2)
        pointsman.signal(signal.SIGTERM)
        assert pointsman.wait(5) == 0
    pointsman.check_log()


def test_second_sigterm_ends_at_once(alone):
    pointsman = Pointsman(alone, proxy_drain_time="30s").start()
    with pointsman.raw(timeout=30) as busy:
        busy.command("DEBUG", "SLEEP", 3)
        time.sleep(0.2)
        pointsman.signal(signal.SIGTERM)
        time.sleep(0.5)
        assert pointsman.is_alive(), "it did not drain at all"
        pointsman.signal(signal.SIGTERM)
        start = time.monotonic()
        pointsman.wait()
        assert time.monotonic() - start < 1.5 * SLOWNESS


def test_sigint_ends_it_as_sigterm_does(alone):
    pointsman = Pointsman(alone).start()
    pointsman.signal(signal.SIGINT)
    assert pointsman.wait() == 0


def test_sighup_and_sigpipe_harm_nothing(alone, processes):
    pointsman = processes(Pointsman(alone))
    with pointsman.raw() as link:
        for number in (signal.SIGPIPE, signal.SIGHUP):
            pointsman.signal(number)
            time.sleep(0.1)
            assert link.ask("SET", "k", "v") == b"OK"


def test_clients_that_vanish_while_replies_are_written_harm_nothing(alone, processes):
    pointsman = processes(Pointsman(alone))
    with pointsman.client() as client:
        client.set("big", b"x" * 1000000)
        for _ in range(50):
            link = pointsman.raw()
            link.send(encode("GET", "big") * 10)
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close by reset
            link.close()
        assert client.ping() and client.set("k", "v")


def test_starts_and_stops_at_any_moment_leave_status_0(alone):
    for delay in (0.05, 0.1, 0.2):
        pointsman = Pointsman(alone, wait="listen").start()
        ending = threading.Event()
        threads = [threading.Thread(target=_use, args=(pointsman.port, ending)) for _ in range(10)]
        for thread in threads:
            thread.start()
        time.sleep(delay)
        pointsman.stop()
        ending.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a client hangs"


def _use(port, ending):
    while not ending.is_set():
        try:
            with Raw(port) as link:
                while True:
                    link.send(encode("SET", "k", 1) + encode("GET", "k"))
                    link.read(), link.read()
        except (OSError, EOFError):
            time.sleep(0.005)


def test_log_goes_to_a_file_and_nothing_to_stderr(alone, processes, tmp_path):
    path = tmp_path / "pointsman.log"
    pointsman = processes(Pointsman(alone, log_target=path))
    wait_for(lambda: alone.master.address in path.read_text(), what="the master to be named in the log")
    assert pointsman.log_text() == ""


def test_changes_are_logged_once_and_passwords_never(processes):
    cluster = Replication(replicas=1, sentinels=0, password="topsecret").start()
    pointsman = processes(Pointsman(cluster, upstream_password="topsecret", proxy_password="clientsecret"))
    first, second = cluster.servers
    with pointsman.raw() as link:
        link.ask("AUTH", "wrongsecret")
    second.replicaof(None)
    first.kill()
    wait_for(lambda: pointsman.writes(), 15, "the other server to be written to")
    time.sleep(1)
    text = pointsman.log_text()
    assert "secret" not in text
    lines = [re.sub(r"^\S+ \S+ ", "", line) for line in text.splitlines() if second.address in line and "master" in line]
    assert lines, "the new master is not in the log"
    assert max(lines.count(line) for line in lines) <= 2, lines


def test_quiet_level_logs_no_news(alone, processes):
    pointsman = processes(Pointsman(alone, log_level="error"))
    with pointsman.client() as client:
        client.set("k", "v")
    assert pointsman.log_text() == ""


def test_log_to_a_place_that_cannot_be_written_is_an_error_at_start(alone):
    done = run_pointsman(f"--upstream.nodes={alone.nodes}", f"--proxy.listen={HOST}:{free_port()}", "--log.target=/no/such/dir/x")
    assert done.returncode in (1, 2) and "/no/such/dir/x" in done.stderr


def test_idle_clients_are_closed_when_asked_for(alone, processes):
    pointsman = processes(Pointsman(alone, proxy_client_idle_timeout="1s"))
    with pointsman.raw() as idle, pointsman.raw() as busy, pointsman.raw() as blocked:
        blocked.command("BLPOP", "nothing", 0)
        start = time.monotonic()
        while time.monotonic() - start < 2.5 * SLOWNESS:
            assert busy.ask("PING") == b"PONG"
            time.sleep(0.2)
        assert idle.read_to_end() == b""
        assert blocked.is_silent(0.1)


def test_it_uses_no_cpu_when_nothing_happens(alone, processes):
    pointsman = processes(Pointsman(alone))
    with pointsman.raw() as link:
        link.ask("PING")
        before = pointsman.cpu()
        time.sleep(2)
        assert pointsman.cpu() - before < 0.1 * SLOWNESS


def test_connections_are_spread_over_all_threads(alone, processes):
    pointsman = processes(Pointsman(alone, proxy_threads=2))
    links = [pointsman.raw() for _ in range(60)]
    try:
        for link in links:
            link.send(encode("PING") * 3000)
        for link in links:
            assert link.input.read(7 * 3000).count(b"PONG") == 3000
        tasks = os.listdir(f"/proc/{pointsman.pid}/task")
        assert sum(_ran_ns(pointsman.pid, task) > 3000000 for task in tasks) >= 2
    finally:
        for link in links:
            link.close()


def _ran_ns(pid, task):
    """Nanoseconds that one thread has been on a processor."""
    with open(f"/proc/{pid}/task/{task}/schedstat") as stat:
        return int(stat.read().split()[0])


def test_libraries_are_those_of_the_system():
    done = subprocess.run(["ldd", POINTSMAN], capture_output=True, text=True, check=False)
    assert "not found" not in done.stdout


def test_the_demo_shows_what_it_says_and_ends_clean():
    """It needs its own port, so both kinds one after the other."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for kind in ("sentinel", "cluster"):
        environment = {**os.environ, "KIND": kind, "DEMO_SECONDS": "1", "POINTSMAN": POINTSMAN}
        done = subprocess.run(
            ["/usr/bin/python3", os.path.join(root, "conf", "demo.py")],
            env=environment, capture_output=True, text=True, timeout=120 * SLOWNESS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("  true ") >= 6 and done.stderr == "", done.stdout + done.stderr
