# SPDX-License-Identifier: BSD-2-Clause
"""A scan that is begun is brought to its end, and nothing that was there all the time is missing from it."""

import subprocess

import pytest

from harness import HOST, Pointsman, Server, encode, wait_for

COUNT = 2000
KINDS = ["SCAN", "SSCAN", "HSCAN", "ZSCAN"]
MEMBERS = {b"m:%d" % number for number in range(COUNT)}


def fill(client, kind):
    """Puts 2,000 elements where a scan of that kind finds them; nothing else is there that it could find."""
    client.flushall()
    numbers = range(COUNT)
    if kind == "SCAN":
        client.mset({f"m:{number}": number for number in numbers})
    elif kind == "SSCAN":
        client.sadd("big", *(f"m:{number}" for number in numbers))
    elif kind == "HSCAN":
        client.hset("big", mapping={f"m:{number}": number for number in numbers})
    else:
        client.zadd("big", {f"m:{number}": number for number in numbers})


class Scan:
    """One client that scans by itself, step by step."""

    def __init__(self, link, kind, count=10, options=()):
        self.link = link
        self.words = [kind] if kind == "SCAN" else [kind, "big"]
        self.step_size = 2 if kind in ("HSCAN", "ZSCAN") else 1
        self.options = ["COUNT", count, *options]
        self.cursor = b"0"
        self.cursors = []
        self.found = []
        self.is_done = False

    def step(self):
        reply = self.link.ask(*self.words, self.cursor, *self.options)
        assert isinstance(reply, list), reply
        self.cursor, elements = reply
        assert self.cursor.isdigit() and b"%d" % int(self.cursor) == self.cursor and int(self.cursor) < 2**53
        self.found += elements[:: self.step_size]
        self.cursors.append(int(self.cursor))
        self.is_done = self.cursor == b"0"

    def steps(self, number):
        for _ in range(number):
            self.step()
            assert not self.is_done, "over too soon"

    def finish(self):
        while not self.is_done:
            self.step()
            assert len(self.cursors) < 10 * COUNT, "it has no end"

    def check_nothing_is_missing(self):
        assert not MEMBERS - set(self.found)


@pytest.fixture(scope="module")
def steady(pair):
    pointsman = Pointsman(pair, upstream_kind="static", proxy_threads=2).start()
    yield pointsman
    pointsman.stop()


def switch(pair):
    """The replica becomes the master by hand, and the master its replica."""
    old = pair.master
    pair.wait_synced()
    new = next(server for server in pair.servers if server is not old)
    new.replicaof(None)
    old.replicaof(new)
    wait_for(old.link_is_up, what="the old master to follow")
    return new


@pytest.mark.parametrize("kind", KINDS)
def test_scan_of_a_master_that_stays_finds_all_and_nothing_twice(steady, kind):
    with steady.client() as client, steady.raw() as link:
        fill(client, kind)
        scan = Scan(link, kind)
        scan.finish()
        assert sorted(scan.found) == sorted(MEMBERS)
        assert len(scan.cursors) > 50


@pytest.mark.parametrize("kind", KINDS)
def test_scan_lives_through_a_failover(pair, steady, kind):
    with steady.client() as client, steady.raw() as link:
        fill(client, kind)
        scan = Scan(link, kind)
        scan.steps(50)
        new = switch(pair)
        wait_for(lambda: client.set("harness:switched", 1) and new.commandstats().get("set"), what="the new master")
        scan.finish()
        scan.check_nothing_is_missing()


@pytest.mark.parametrize("kind", KINDS)
def test_scan_lives_through_a_restart_of_the_only_master(processes, kind):
    server = processes(Server("alone", settings={"appendonly": "yes", "appendfsync": "always"})).ready()
    pointsman = processes(Pointsman(server.address, upstream_kind="static"))
    with pointsman.client() as client, pointsman.raw() as link:
        fill(client, kind)
        scan = Scan(link, kind)
        scan.steps(50)
        server.restart()
        scan.step()
        assert len(scan.found) < COUNT
        scan.finish()
        scan.check_nothing_is_missing()


def test_cursor_that_comes_first_on_a_new_connection_is_understood(processes):
    """The proxy that continues a scan need not be the one that began it, nor have a connection yet."""
    server = processes(Server("alone")).ready()
    one, two = (processes(Pointsman(server.address, upstream_kind="static", pool_idle_time="1s")) for _ in range(2))
    with one.client() as client, one.raw() as link:
        fill(client, "SSCAN")
        scan = Scan(link, "SSCAN")
        scan.steps(50)
    with two.raw() as link:
        scan.link = link
        scan.steps(50)
        with server.client() as direct:
            direct.execute_command("CLIENT", "KILL", "TYPE", "normal")
        scan.finish()
    assert sorted(set(scan.found)) == sorted(MEMBERS)
    assert len(scan.found) < 1.1 * COUNT, "it began again"


def test_cursors_of_another_run_begin_again_and_those_without_a_mark_pass(pair, steady):
    with steady.client() as client, steady.raw() as link, pair.master.raw() as direct:
        fill(client, "SSCAN")
        scan = Scan(link, "SSCAN")
        scan.steps(10)
        own, first = scan.cursor, scan.link.ask("SSCAN", "big", 0, "COUNT", 10)
        raw = b"%d" % (int(own) % 2**40)
        plain = direct.ask("SSCAN", "big", raw, "COUNT", 10)
        other = b"%d" % ((int(own) % 2**40) + ((int(own) >> 40) % 4095 + 1 << 40))
        assert link.ask("SSCAN", "big", other, "COUNT", 10) == first
        assert link.ask("SSCAN", "big", own, "COUNT", 10)[1] == plain[1]
        assert link.ask("SSCAN", "big", raw, "COUNT", 10)[1] == plain[1]
        assert int(link.ask("SSCAN", "big", raw, "COUNT", 10)[0]) % 2**40 == int(plain[0])


def test_inside_a_transaction_cursors_are_the_nodes_own(pair, steady):
    with steady.client() as client, steady.raw() as link, pair.master.raw() as direct:
        fill(client, "SSCAN")
        outside = link.ask("SSCAN", "big", 0, "COUNT", 10)
        link.send(encode("MULTI") + encode("SSCAN", "big", 0, "COUNT", 10) + encode("SSCAN", "big", outside[0]))
        link.send(encode("EXEC") + encode("SSCAN", "big", 0, "COUNT", 10))
        assert [link.read() for _ in range(3)] == [b"OK", b"QUEUED", b"QUEUED"]
        inside = link.read()
        assert inside[0] == direct.ask("SSCAN", "big", 0, "COUNT", 10)
        assert inside[1] == direct.ask("SSCAN", "big", inside[0][0])
        assert link.read() == outside
        link.send(encode("WATCH", "big") + encode("SSCAN", "big", outside[0], "COUNT", 10) + encode("UNWATCH"))
        assert [link.read() for _ in range(3)][1][1] == direct.ask("SSCAN", "big", inside[0][0], "COUNT", 10)[1]


def test_scans_in_a_pipeline_keep_their_order(steady):
    with steady.client() as client, steady.raw() as link:
        fill(client, "HSCAN")
        scan = Scan(link, "HSCAN")
        scan.steps(3)
    with steady.raw() as link:
        step = encode("HSCAN", "big", scan.cursor, "COUNT", 10)
        link.send(encode("SET", "a", 1) + step + encode("INCR", "a") + step + encode("GET", "a") + encode("DEL", "a"))
        replies = [link.read() for _ in range(6)]
    assert replies[0] == b"OK" and replies[2] == 2 and replies[4] == b"2" and replies[5] == 1
    assert replies[1] == replies[3] and len(replies[1][1]) >= 20


def test_large_replies_are_marked_as_well(steady):
    with steady.client() as client, steady.raw() as link:
        client.flushall()
        client.hset("big", mapping={f"m:{number}": "x" * 1000 for number in range(COUNT)})
        scan = Scan(link, "HSCAN", count=900)
        scan.finish()
        assert sorted(scan.found) == sorted(MEMBERS)
        assert any(cursor >= 2**40 for cursor in scan.cursors)


def test_options_and_errors_are_redis_own(direct, steady):
    with steady.client() as client, direct.client() as other:
        fill(client, "SCAN")
        fill(other, "SCAN")
        client.sadd("aset", 1)
        other.sadd("aset", 1)
    commands = [
        ["SCAN", "0", "COUNT", "10000", "TYPE", "set"], ["SCAN", "0", "COUNT", "10000", "MATCH", "as*"],
        ["SCAN", "0", "COUNT", "0"], ["SCAN", "0", "COUNT"], ["SCAN", "x"], ["SCAN", "-x"], ["SCAN", " 1"], ["SCAN"],
        ["SCAN", "1x"], ["SCAN", "99999999999999999999999"], ["SSCAN", "aset"], ["SSCAN", "m:1", "0"],
        ["SSCAN", "aset", "x"], ["SSCAN", "aset", "0"], ["HSCAN", "nothing", "0"], ["ZSCAN", "nothing", "7"],
        ["HSCAN", "aset", "0"], ["SCAN", "0", "FOO"],
    ]  # fmt: skip
    with steady.raw() as link, direct.raw() as plain:
        for command in commands:
            assert link.command(*command).read_bytes() == plain.command(*command).read_bytes(), command
        assert link.ask("SCAN", "x") == b"ERR invalid cursor"


def test_redis_cli_scans_through_the_proxy(steady):
    with steady.client() as client:
        fill(client, "SCAN")
    command = ["redis-cli", "-h", HOST, "-p", str(steady.port), "--scan", "--pattern", "m:*"]
    result = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert set(result.stdout.split()) == MEMBERS
