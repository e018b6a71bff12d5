# SPDX-License-Identifier: BSD-2-Clause
"""The control thread alone against real Redis and real Sentinels, through build/topology_watch.

Guards against: a master that is not named or does not agree, an old master that is shown again after it came
back, a switch that is noticed late, reports that are not answered.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest
import redis

from harness import POINTSMAN, free_port, wait_for

WATCH = os.path.join(os.path.dirname(POINTSMAN), "topology_watch")


def now_us():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


class Servers:
    """One master, its replicas and its Sentinels, in a directory of their own."""

    def __init__(self, nodes=3, sentinels=3):
        self.directory = tempfile.mkdtemp(prefix="pointsman-control-")
        self.nodes = [free_port() for _ in range(nodes)]
        self.sentinels = [free_port() for _ in range(sentinels)]
        self.processes = {}

    def start_node(self, port, master=None, *settings):
        words = ["redis-server", "--port", str(port), "--save", "", "--repl-diskless-sync-delay", "0", *settings]
        self.start(port, words + (["--replicaof", "127.0.0.1", str(master)] if master else []))

    def start_sentinel(self, port, down_after_ms=2000):
        path = os.path.join(self.directory, f"{port}.conf")
        with open(path, "w", encoding="ascii") as conf:
            conf.write(f"port {port}\nsentinel monitor main 127.0.0.1 {self.nodes[0]} {len(self.sentinels) // 2 + 1}\n")
            conf.write(f"sentinel down-after-milliseconds main {down_after_ms}\nsentinel failover-timeout main 5000\n")
        self.start(port, ["redis-sentinel", path])

    def start(self, port, words):
        place = os.path.join(self.directory, str(port))
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, "log"), "ab") as log:
            self.processes[port] = subprocess.Popen(words, cwd=place, stdout=log, stdin=subprocess.DEVNULL)

    def start_all(self):
        for port in self.nodes:
            self.start_node(port, None if port == self.nodes[0] else self.nodes[0])
        for port in self.sentinels:
            self.start_sentinel(port)

    def signal(self, port, number):
        self.processes[port].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[port].wait()

    def can_fail_over(self, sentinel):
        client = self.client(sentinel)
        fine = [replica["master-link-status"] == "ok" for replica in client.sentinel_slaves("main")]
        others = client.sentinel_master("main")["num-other-sentinels"]
        return others == len(self.sentinels) - 1 and fine == [True] * (len(self.nodes) - 1)

    def client(self, port):
        return redis.Redis(port=port, decode_responses=True)

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Watch:
    """The snapshots as they come: (time in us, fields)."""

    def __init__(self, *arguments):
        self.snapshots = []
        self.process = subprocess.Popen([WATCH, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            words = line.split()
            self.snapshots.append((int(words[0]), dict(word.split("=", 1) for word in words if "=" in word)))

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait(self, is_right, since_us=0, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for at_us, fields in list(self.snapshots):
                if at_us > since_us and is_right(fields):
                    return at_us, fields
            time.sleep(0.002)
        raise AssertionError(f"no such snapshot; the last: {self.snapshots[-3:]}")

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0


@pytest.fixture
def servers():
    started = Servers()
    yield started
    started.close()


def address(port):
    return f"127.0.0.1:{port}"


def has_replicas(count):
    return lambda fields: fields["master"] != "none" and fields["replicas"].count(",") == count


def watch_sentinels(servers):
    watch = Watch(f"--upstream.nodes={address(servers.sentinels[0])}", "--upstream.master_name=main")
    watch.wait(has_replicas(2))
    wait_for(lambda: all(map(servers.can_fail_over, servers.sentinels)), 30, "the Sentinels to know each other and the nodes")
    return watch


def first_to_name_another(servers, old, found):
    clients = [servers.client(port) for port in servers.sentinels]
    while not found:
        for client in clients:
            named = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
            if int(named[1]) != old:
                found.append(now_us())
        time.sleep(0.005)


def fail_over(servers, patience_s=20):
    """A Sentinel that has not heard of the replicas for a while finds none of them good: it is asked again."""
    last = time.monotonic() + patience_s
    while True:
        try:
            return servers.client(servers.sentinels[0]).execute_command("SENTINEL", "FAILOVER", "main")
        except redis.ResponseError as error:
            if "NOGOODSLAVE" not in str(error) or time.monotonic() > last:
                raise
            time.sleep(0.2)


@pytest.mark.parametrize("how", ["kill", "stop", "failover"])
def test_switch_is_published_at_once_and_the_old_master_never_comes_back(servers, how):
    servers.start_all()
    watch = watch_sentinels(servers)
    old, found, began_us = servers.nodes[0], [], now_us()
    threading.Thread(target=first_to_name_another, args=(servers, old, found), daemon=True).start()
    if how == "kill":
        servers.signal(old, signal.SIGKILL)
    elif how == "stop":
        servers.signal(old, signal.SIGSTOP)
    else:
        fail_over(servers)

    at_us, fields = watch.wait(lambda f: f["master"] not in ("none", address(old)), began_us)
    while not found:
        time.sleep(0.01)
    assert at_us - found[0] < 200_000

    if how == "kill":
        servers.start_node(old)
    elif how == "stop":
        servers.signal(old, signal.SIGCONT)
    watch.wait(lambda f: address(old) in f["replicas"], at_us, 30)
    assert {f["master"] for t, f in watch.snapshots if t >= at_us} == {fields["master"]}
    watch.close()


def test_starts_before_redis_and_heals_within_a_second(servers):
    watch = Watch("--upstream.nodes=" + ",".join(map(address, servers.sentinels)))
    time.sleep(2)
    servers.start_all()
    for port in servers.nodes + servers.sentinels:
        wait_for(lambda: servers.client(port).ping(), what=f"{port} to answer")
    up_us = now_us()
    at_us, fields = watch.wait(lambda f: f["master"] != "none")
    assert fields["master"] == address(servers.nodes[0])
    assert at_us - up_us < 1_000_000
    watch.close()


def test_report_is_answered_by_a_newer_confirmation(servers):
    servers.start_all()
    watch = watch_sentinels(servers)
    for _ in range(3):
        asked_us = now_us()
        watch.tell("master")
        at_us, _ = watch.wait(lambda f, t=asked_us: int(f["confirmed"]) >= t, asked_us)
        assert at_us - asked_us < 200_000
    before = len(watch.snapshots)
    for _ in range(2000):
        watch.tell("master")
    time.sleep(1)
    assert len(watch.snapshots) - before < 30
    watch.close()


def test_master_that_says_it_is_a_replica_is_vetoed(servers):
    servers.start_all()
    watch = watch_sentinels(servers)
    for port in servers.sentinels:
        servers.signal(port, signal.SIGSTOP)
    began_us = now_us()
    servers.client(servers.nodes[0]).execute_command("REPLICAOF", "127.0.0.1", servers.nodes[1])
    _, fields = watch.wait(lambda f: f["master"] == "none", began_us)
    assert fields["replicas"].count(",") >= 1  # reads go on
    watch.close()


def test_replica_that_sentinels_have_no_link_to_yet_serves(servers):
    """They list it as "disconnected" from when they find it; here for long, as nothing is where it announces to be."""
    replica, announced = servers.nodes[1], free_port()
    servers.start_node(servers.nodes[0])
    servers.start_node(replica, servers.nodes[0], "--replica-announce-port", str(announced))
    sentinel = servers.sentinels[0]
    servers.start_sentinel(sentinel, down_after_ms=60000)
    watch = Watch(
        f"--upstream.nodes={address(sentinel)}",
        "--upstream.master_name=main",
        f"--upstream.map={address(announced)}={address(replica)}",
    )
    watch.wait(lambda f: address(replica) in f["replicas"])
    listed = servers.client(sentinel).sentinel_slaves("main")
    assert [(node["port"], node["flags"]) for node in listed] == [(announced, "slave,disconnected")]
    watch.close()


def test_replica_is_unfit_when_killed_and_fit_when_back(servers):
    servers.start_all()
    watch = watch_sentinels(servers)
    replica, began_us = servers.nodes[1], now_us()
    servers.signal(replica, signal.SIGKILL)
    at_us, _ = watch.wait(lambda f: address(replica) not in f["replicas"], began_us)
    assert at_us - began_us < 500_000
    servers.start_node(replica, servers.nodes[0])
    watch.wait(lambda f: address(replica) in f["replicas"], at_us)
    watch.close()


def test_static_set_follows_the_node_promoted_by_hand(servers):
    for port in servers.nodes:
        servers.start_node(port, None if port == servers.nodes[0] else servers.nodes[0])
    watch = Watch("--upstream.nodes=" + ",".join(map(address, servers.nodes)))
    _, fields = watch.wait(has_replicas(2))
    assert fields["kind"] == "static" and fields["master"] == address(servers.nodes[0])
    servers.signal(servers.nodes[0], signal.SIGKILL)
    began_us = now_us()
    servers.client(servers.nodes[1]).execute_command("REPLICAOF", "NO", "ONE")
    at_us, _ = watch.wait(lambda f: f["master"] == address(servers.nodes[1]), began_us)
    servers.start_node(servers.nodes[0])
    watch.wait(lambda f: f"{address(servers.nodes[0])}(says" in f["unfit"], at_us)
    assert {f["master"] for t, f in watch.snapshots if t >= at_us} == {address(servers.nodes[1])}
    watch.close()
