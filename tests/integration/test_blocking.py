# SPDX-License-Identifier: BSD-2-Clause
"""Blocking commands wait for as long as they were told to, whatever happens to the master meanwhile."""

import socket
import struct
import threading
import time

import pytest

from harness import SLOWNESS, Forwarder, Monitor, Pointsman, Replication, Server, encode, wait_for

LOST = b"ERR pointsman: connection to master lost while the command was waiting; outcome unknown"
ELSEWHERE = b"ERR pointsman: master changed after the last write of this client and may lack it"
NOT_ALLOWED = (
    b"ERR pointsman: upstream.username may not SPUBLISH to __pointsman:wait, which WAIT needs; not executed"
)
LATE = 1.5 * SLOWNESS  # how late an answer may be on a machine that is busy


@pytest.fixture
def pair(processes):
    """A master and a replica without Sentinels: failovers are made by hand."""
    return processes(Replication(replicas=1, sentinels=0))


def blocked(server, count):
    wait_for(lambda: server.info("clients")["blocked_clients"] == count, what=f"{count} blocked clients")


def long_blocked(server, count):
    """They are blocked, and for so long that nobody takes them for commands that were on their way."""
    blocked(server, count)
    time.sleep(0.25 * SLOWNESS)


def switch(pair):
    """A planned failover: the replica is promoted, then the master follows it. Returns (old, new)."""
    old, new = pair.servers
    new.replicaof(None)
    old.replicaof(new)
    return old, new


def kill_and_promote(pair):
    old, new = pair.servers
    old.kill()
    new.replicaof(None)
    return old, new


class Elapsed:
    def __enter__(self):
        self.start = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.start


# --------------------------------------------------------------------------------- time of its own


def test_blocking_commands_outlast_the_timeouts_of_others(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(
        Pointsman(server.address, proxy_request_timeout="300ms", proxy_client_idle_timeout="300ms", pool_wait="200ms")
    )
    commands = (["BLPOP", "q", 0], ["BLMPOP", 0, 1, "r", "LEFT"], ["XREAD", "BLOCK", 0, "STREAMS", "s", "$"])
    links = [pointsman.raw() for _ in commands]
    try:
        for link, command in zip(links, commands):
            link.command(*command)
        blocked(server, 3)
        time.sleep(2.5)  # clients are looked at every second
        assert all(link.is_silent(0.05) for link in links)
        with pointsman.client() as client:
            client.rpush("q", "a")
            client.rpush("r", "b")
            client.xadd("s", {"f": "v"}, id="1-1")
        assert [link.read() for link in links] == [[b"q", b"a"], [b"r", [b"b"]], [[b"s", [[b"1-1", [b"f", b"v"]]]]]]
        with Elapsed() as elapsed:
            assert links[0].ask("BLPOP", "q", "0.8") is None
        assert elapsed.seconds >= 0.8
    finally:
        for link in links:
            link.close()


def test_shortest_timeout_still_takes_what_is_there(cluster, proxy):
    with proxy.raw() as link:
        for number in range(30):
            assert link.ask("RPUSH", "short", number) == 1
            assert link.ask("BLPOP", "short", "0.001") == [b"short", b"%d" % number]
            assert link.ask("BLPOP", "short", "0.001") is None


def test_wrong_timeouts_are_answered_by_the_node(direct, proxy):
    with direct.raw() as plain, proxy.raw() as link:
        for command in (
            ["BLPOP", "a", "abc"], ["BLPOP", "a", "-1"], ["BLPOP", "a", "inf"], ["BLPOP", "a", "9999999999999999"],
            ["BLPOP", "a"], ["BLMPOP", "x", 1, "a", "LEFT"], ["XREAD", "BLOCK", "0.5", "STREAMS", "a", "$"],
            ["XREAD", "COUNT", "1", "BLOCK"], ["WAIT", 1, "-1"], ["WAIT", "x", 1], ["WAITAOF", 0, 0, "x"],
        ):  # fmt: skip
            assert link.command(*command).read_bytes() == plain.command(*command).read_bytes(), command


def test_clients_are_served_in_the_order_in_which_they_blocked(cluster, proxy):
    links = [proxy.raw() for _ in range(8)]
    try:
        for number, link in enumerate(links):
            link.command("BLPOP", "queue", 0)
            blocked(cluster.master, number + 1)
        with proxy.client() as client:
            client.rpush("queue", *range(8))
        assert [int(link.read()[1]) for link in links] == list(range(8))
    finally:
        for link in links:
            link.close()


def test_memory_behind_a_blocked_client_is_bounded(cluster, processes):
    pointsman = processes(Pointsman(cluster, proxy_threads=1))
    with pointsman.raw() as link, pointsman.client() as other:
        link.command("BLPOP", "queue", 0)
        blocked(cluster.master, 1)
        before = pointsman.rss()
        link.socket.settimeout(0.5)
        data = encode("SET", "behind", "x" * 100_000)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 100 << 20:
                sent += link.socket.send(data)
        assert pointsman.rss() - before < 4 << 20
        assert other.set("other", 1)
        link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    blocked(cluster.master, 0)


def test_client_that_leaves_is_noticed_also_where_nothing_is_read_from_it(cluster, proxy):
    with proxy.raw() as link:
        link.command("BLPOP", "queue", 0)
        blocked(cluster.master, 1)
        link.send(encode("SET", "behind", "x" * 30_000) * 3)
        assert link.is_silent(0.3)
    blocked(cluster.master, 0)
    with proxy.client() as client:
        assert client.rpush("queue", "item") == 1
        assert client.lpop("queue") == b"item"


# ------------------------------------------------------------------------------------ failover

POPS = [
    (["BLPOP", "q", 0], ["RPUSH", "q", "v"], [b"q", b"v"]),
    (["BLMOVE", "a", "b", "LEFT", "RIGHT", 0], ["RPUSH", "a", "v"], b"v"),
    (["BZMPOP", 0, 1, "z", "MIN"], ["ZADD", "z", 1, "v"], [b"z", [[b"v", b"1"]]]),
    (["XREAD", "BLOCK", 0, "STREAMS", "x", "$"], ["XADD", "x", "5-1", "f", "v"], [[b"x", [[b"5-1", [b"f", b"v"]]]]]),
    (["XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", ">"], ["XADD", "s", "5-1", "f", "v"],
     [[b"s", [[b"5-1", [b"f", b"v"]]]]]),
]  # fmt: skip


@pytest.mark.parametrize("fail_over", [switch, kill_and_promote])
def test_waiting_goes_on_at_the_new_master(pair, processes, fail_over):
    pointsman = processes(Pointsman(pair, proxy_threads=1))
    with pointsman.client() as client:
        client.execute_command("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    pair.wait_synced()
    links = [pointsman.raw(timeout=30) for _ in POPS]
    try:
        for link, (command, _, _) in zip(links, POPS):
            link.command(*command)
        long_blocked(pair.master, len(POPS))
        _, new = fail_over(pair)
        blocked(new, len(POPS))
        with pointsman.raw(timeout=30) as other:
            for link, (_, push, answer) in zip(links, POPS):
                other.ask(*push)
                assert link.read() == answer
                assert link.ask("SET", "after", 1) == b"OK"
    finally:
        for link in links:
            link.close()


@pytest.mark.parametrize(
    "command",
    [["BLPOP", "q", "4"], ["BLMPOP", "4.0", 1, "q", "LEFT"], ["XREAD", "BLOCK", 4000, "STREAMS", "q", "$"]],
    ids=lambda command: command[0],
)
def test_time_left_is_what_the_new_master_is_told(pair, processes, command):
    pointsman = processes(Pointsman(pair, proxy_threads=1))
    with pointsman.raw(timeout=30) as link, Elapsed() as elapsed:
        link.command(*command)
        blocked(pair.master, 1)
        time.sleep(1.5)
        with Monitor(pair.servers[1]) as monitor:
            _, new = switch(pair)
            blocked(new, 1)
            (line,) = wait_for(lambda: monitor.commands(command[0].lower()), what="the command to be sent again")
        assert link.read() is None
    left = float(next(word for word in line[2].split('"') if word.replace(".", "").isdigit() and word != "1"))
    assert 0 < (left / 1000 if command[0] == "XREAD" else left) <= 2.5
    assert 4 <= elapsed.seconds < 4 + LATE


def test_own_timeout_goes_on_while_there_is_no_master(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_threads=1, failover_hold_time="60s"))
    with pointsman.raw(timeout=30) as one, pointsman.raw(timeout=30) as two, pointsman.raw(timeout=30) as three:
        with Elapsed() as elapsed:
            one.command("BLPOP", "q", "2")
            long_blocked(pair.master, 1)
            pair.servers[0].kill()
            two.command("BLMOVE", "a", "b", "LEFT", "LEFT", "2.2")  # never sent to any node
            three.command("WAIT", 1, 2300)
            assert one.read() is None
        assert 2 <= elapsed.seconds < 2 + LATE
        assert two.read() is None
        assert three.read() == 0
        assert one.send(encode("PING")).read() == b"PONG"


def test_holding_is_bounded_for_what_waits_for_ever(pair, processes):
    pointsman = processes(Pointsman(pair, failover_hold_time="1s"))
    with pointsman.raw(timeout=30) as link:
        link.command("BLPOP", "q", 0)
        long_blocked(pair.master, 1)
        pair.servers[0].kill()
        assert link.read() == b"ERR pointsman: no master within failover.hold_time; not executed"


def test_a_node_that_hangs_keeps_nobody_beyond_the_commands_time_and_one_answers(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, upstream_kind="static", proxy_request_timeout="1s"))
    with pointsman.raw(timeout=30) as one, pointsman.raw(timeout=30) as two, pointsman.raw(timeout=30) as three:
        assert two.ask("SET", "k", 1) == b"OK" and one.ask("BLPOP", "l", "1.5") is None
        server.pause()
        one.command("BLPOP", "l", 1)
        two.command("WAIT", 0, 100)
        three.command("XREAD", "BLOCK", 100, "STREAMS", "s", "$")
        assert one.read() == two.read() == LOST
        assert three.read() in (None, b"ERR pointsman: no reply within proxy.request_timeout")
        server.resume()
        for link in (one, two, three):
            wait_for(lambda: link.ask("GET", "k") == b"1", 20, "the node to serve again")


def test_pop_that_may_have_run_is_not_sent_again(processes):
    server = processes(Server("alone")).ready()
    with server.client() as client:
        client.rpush("q", "a", "b")
    with Forwarder(server.port) as relay:
        pointsman = processes(Pointsman(relay.address, proxy_threads=1))
        with pointsman.raw(timeout=30) as link:
            link.ask("BLPOP", "nothing", "0.001")  # opens the connection that is lent next
            server.pause()  # the node cannot look at it ...
            link.command("BLPOP", "q", 0)
            relay.cut()  # ... and nobody can tell whether it will
            server.resume()
            with server.client() as client:
                answer = link.read()
                assert (answer == [b"q", b"a"]) or (answer == LOST and client.llen("q") >= 1), answer


def test_pop_whose_answer_may_be_lost_is_not_sent_again(processes):
    """The node takes an element and the answer is lost at once; where the machine was too slow for that, once more."""
    server = processes(Server("alone")).ready()
    with Forwarder(server.port) as relay, server.client() as client:
        pointsman = processes(Pointsman(relay.address, proxy_threads=1))
        for attempt in range(1, 30):
            with pointsman.raw(timeout=30) as link:
                client.rpush("q", attempt)
                assert link.ask("WATCH", "w") == b"OK"  # so that nothing is asked of the connection before the pop
                relay.hold_replies()
                link.command("BLPOP", "q", "1")
                wait_for(lambda: client.llen("q") == 0, what="the pop to run", every=0.001)
                relay.cut()
                relay.release_replies()
                if link.read() == LOST:
                    assert server.commandstats()["blpop"] <= 2 * attempt - 1
                    return
        raise AssertionError("every time it was sent again")


def test_commands_behind_a_pop_that_is_sent_again_stay_behind_it(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_threads=1))
    with pointsman.raw(timeout=30) as link, pointsman.raw(timeout=30) as other:
        link.send(encode("SELECT", 3) + encode("BLPOP", "q", 0) + encode("INCR", "n") + encode("PING"))
        assert link.read() == b"OK"
        long_blocked(pair.master, 1)
        _, new = kill_and_promote(pair)
        blocked(new, 1)
        other.send(encode("SELECT", 3) + encode("RPUSH", "q", "v"))
        assert [other.read(), other.read()] == [b"OK", 1]
        assert [link.read() for _ in range(3)] == [[b"q", b"v"], 1, b"PONG"]


def test_client_that_leaves_while_its_pop_is_held_is_not_served_later(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_threads=1, failover_hold_time="60s"))
    with pointsman.raw(timeout=30) as link:
        link.command("BLPOP", "q", 0)
        long_blocked(pair.master, 1)
        pair.servers[0].kill()
        wait_for(lambda: "requests are held" in pointsman.log_text(), what="the pop to be held")
    pair.servers[1].replicaof(None)
    wait_for(pointsman.writes, 20, "writes to pass again")
    with pointsman.client() as client:
        assert client.rpush("q", "item") == 1
        assert client.llen("q") == 1


def test_watching_client_that_blocks_still_fails_its_transaction(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_threads=1))
    with pointsman.raw(timeout=30) as link, pointsman.raw(timeout=30) as other:
        assert link.ask("WATCH", "w") == b"OK"
        link.command("BLPOP", "q", 0)
        long_blocked(pair.master, 1)
        _, new = switch(pair)
        blocked(new, 1)
        assert other.ask("RPUSH", "q", "v") == 1
        assert link.read() == [b"q", b"v"]
        assert link.ask("MULTI") == b"OK"
        link.ask("SET", "w", 1)
        assert link.ask("EXEC").startswith(b"EXECABORT")
        assert link.ask("SET", "w", 2) == b"OK"


def test_sentinel_failover_delivers_every_item_exactly_once_to_clients_that_stay(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster, failover_hold_time="60s"))
    count = 6
    links = [pointsman.raw(timeout=60) for _ in range(count)]
    got, problems = [], []

    def consume(link):
        try:
            while True:
                key, item = link.ask("BLPOP", "jobs", 0)
                if item == b"end":
                    return
                got.append(item)
        except Exception as error:  # noqa: BLE001, whatever it is: the test shows it
            problems.append(error)

    threads = [threading.Thread(target=consume, args=(link,)) for link in links]
    for thread in threads:
        thread.start()
    try:
        long_blocked(own_cluster.master, count)
        _, new = own_cluster.failover(lambda master: master.kill())
        with pointsman.client(socket_timeout=60) as client:
            for number in range(50):
                client.rpush("jobs", f"item:{number}")
            wait_for(lambda: len(got) >= 50, 30, "all items to be taken")
            client.rpush("jobs", *["end"] * count)
        for thread in threads:
            thread.join(30)
        assert not problems and not any(thread.is_alive() for thread in threads)
        assert sorted(got) == sorted(b"item:%d" % number for number in range(50))
        assert new.info("clients")["blocked_clients"] == 0
    finally:
        for link in links:
            link.close()


# ---------------------------------------------------------------------------------------- WAIT


@pytest.fixture
def paused(processes):
    """A master with a replica that runs and one that is stopped, and a pointsman whose reads go to the master."""
    cluster = processes(Replication(replicas=2, sentinels=0))
    cluster.wait_synced()
    pointsman = processes(Pointsman(cluster, reads_policy="master", pool_health_interval="60s"))
    with pointsman.client() as client:
        wait_for(lambda: client.set("first", 1) and client.wait(2, 1000) == 2, 20, "both replicas to acknowledge")
    cluster.servers[2].pause()
    yield cluster, pointsman
    cluster.servers[2].resume()


def test_wait_speaks_of_writes_that_went_over_shared_connections(paused):
    cluster, pointsman = paused
    with pointsman.raw() as link, pointsman.raw() as idle:
        for turn in range(3):
            assert link.ask("SET", "a", turn) == b"OK"
            with Elapsed() as elapsed:
                assert link.ask("WAIT", 2, 300) == 1
            assert elapsed.seconds >= 0.3
        link.send(encode("SET", "a", 9) + encode("WAIT", 2, 300) + encode("PING"))
        assert [link.read() for _ in range(3)] == [b"OK", 1, b"PONG"]
        link.send(encode("MULTI") + encode("SET", "a", 9) + encode("EXEC") + encode("WAIT", 2, 300))
        assert [link.read() for _ in range(4)] == [b"OK", b"QUEUED", [b"OK"], 1]
        assert link.ask("WAIT", 0, 0) == 1
        cluster.servers[2].resume()
        assert link.ask("WAIT", 2, 20000 * SLOWNESS) == 2
        assert idle.ask("WAIT", 2, 0) == 2


def test_wait_of_a_client_that_has_not_written_does_not_wait(paused):
    """Redis before 7.2 counts from the last command of the connection, whatever it was: so it gets that before."""
    cluster, pointsman = paused
    with pointsman.raw() as writer, pointsman.raw() as reader:
        cluster.servers[2].resume()
        assert reader.ask("WAIT", 0, 0) >= 0  # on a connection that nobody has written on
        cluster.wait_synced()
        cluster.servers[2].pause()
        assert writer.ask("SET", "a", 1) == b"OK"
        assert reader.ask("GET", "a") == b"1"
        assert reader.ask("WAIT", 2, 0) == 2


def test_wait_in_a_loop_speaks_of_the_same_moment(paused):
    cluster, pointsman = paused
    with pointsman.raw() as link, Monitor(cluster.master) as monitor:
        assert link.ask("SET", "a", 1) == b"OK"
        for _ in range(3):
            assert link.ask("WAIT", 2, 50) == 1
        assert link.ask("SET", "a", 2) == b"OK"
        assert link.ask("WAIT", 2, 50) == 1
        assert link.ask("SET", "seen", 1) == b"OK"
        wait_for(lambda: any('"seen"' in line[2] for line in monitor.seen), what="the last command")
        assert [line[1] for line in monitor.commands("set", "wait", "spublish")] == [
            "set", "spublish", "wait", "wait", "wait", "set", "spublish", "wait", "set",
        ]  # fmt: skip


def test_wait_inside_a_transaction_does_not_wait(paused):
    _, pointsman = paused
    with pointsman.raw() as link, Elapsed() as elapsed:
        link.send(encode("SET", "a", 1) + encode("MULTI") + encode("WAIT", 2, 0) + encode("EXEC"))
        assert [link.read() for _ in range(3)] == [b"OK", b"OK", b"QUEUED"]
        (count,) = link.read()
        assert count in (0, 1, 2)
    assert elapsed.seconds < 5 * SLOWNESS


def test_wait_without_replicas_is_answered_as_by_a_plain_server(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address))
    with pointsman.raw() as link:
        assert link.ask("WAIT", 0, 0) == 0
        assert link.ask("SET", "a", 1) == b"OK"
        assert link.ask("WAIT", 0, 1000) == 0
        with Elapsed() as elapsed:
            assert link.ask("WAIT", 1, 300) == 0
        assert elapsed.seconds >= 0.3
        link.send(encode("CLIENT", "REPLY", "SKIP") + encode("WAIT", 0, 10) + encode("WAIT", 0, 10) + encode("PING"))
        assert [link.read(), link.read()] == [0, b"PONG"]


def test_wait_is_not_carried_on_at_another_master(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_threads=1))
    with pointsman.raw(timeout=30) as link, pointsman.raw(timeout=30) as other, pointsman.raw(timeout=30) as third:
        assert other.ask("SET", "b", 1) == b"OK"
        assert link.ask("SET", "a", 1) == b"OK"
        link.command("WAIT", 5, 0)
        long_blocked(pair.master, 1)
        switch(pair)
        assert link.read().startswith(b"UNBLOCKED ")
        wait_for(pointsman.writes, 20, "writes to pass again")
        for one in (link, other):
            assert one.ask("WAIT", 1, 100) == ELSEWHERE
            assert one.ask("SET", "a", 2) == b"OK"
            assert one.ask("WAIT", 1, 20000 * SLOWNESS) == 1
        third.send(encode("SET", "c", 1) + encode("WAIT", 5, 0))
        assert third.read() == b"OK"
        long_blocked(pair.servers[1], 1)
        pair.servers[1].kill()
        pair.servers[0].replicaof(None)
        assert third.read() == LOST


def test_wait_of_a_user_who_may_not_mark_is_refused_rather_than_wrong(processes):
    server = processes(Server("alone", settings={"user": "app on >secret ~* resetchannels +@all"})).ready()
    pointsman = processes(
        Pointsman(server.address, upstream_username="app", upstream_password="secret", proxy_threads=1)
    )
    with pointsman.raw() as link:
        assert link.ask("WAIT", 0, 10) == 0
        assert link.ask("SET", "a", 1) == b"OK"
        assert link.ask("WAIT", 0, 10) == NOT_ALLOWED
        assert link.ask("SET", "a", 1) == b"OK"
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "app", "&__pointsman:wait")
        assert link.ask("WAIT", 0, 10) == 0


def test_stream_that_is_deleted_under_a_waiting_group_is_told_of_as_by_redis(processes):
    """-UNBLOCKED has many causes: only a change of role means that the command belongs elsewhere."""
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address))
    with pointsman.raw() as link, pointsman.raw() as other:
        assert other.ask("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM") == b"OK"
        link.command("XREADGROUP", "GROUP", "g", "one", "BLOCK", 0, "STREAMS", "s", ">")
        wait_for(lambda: server.info("clients")["blocked_clients"] == 1, what="it to wait")
        assert other.ask("DEL", "s") == 1
        assert link.read() == b"UNBLOCKED the stream key no longer exists"
    assert "refused" not in pointsman.log_text() and "answered UNBLOCKED" not in pointsman.log_text()
