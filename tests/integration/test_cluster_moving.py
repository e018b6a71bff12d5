# SPDX-License-Identifier: BSD-2-Clause
"""Slots move, nodes come and go, and no client sees more of it than a short wait."""

import contextlib
import hashlib
import random
import socket
import threading
import time

import pytest
import redis

from harness import HOST, SLOWNESS, Pointsman, Raw, encode, wait_for
from redis_cluster import Flipper, RedisCluster, slot_of

REDIRECTS = (b"MOVED", b"ASK", b"TRYAGAIN", b"CLUSTERDOWN")


@pytest.fixture(scope="module")
def nodes():
    cluster = RedisCluster(3, 1).start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def through(nodes):
    with Pointsman(nodes.seeds, upstream_kind="cluster", reads_policy="master", failover_hold_time="60s") as pointsman:
        yield pointsman


@pytest.fixture
def link(through):
    with Raw(through.port, timeout=30 * SLOWNESS) as connection:
        connection.ask("FLUSHALL")
        yield connection


class Streams:
    """Clients that count up, each with one connection and keys of its own, until they are stopped."""

    def __init__(self, port, count=4, keys=50):
        self.port, self.keys = port, keys
        self.told = [dict() for _ in range(count)]
        self.problems = []
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(count)]

    def run(self, number):
        told, chance = self.told[number], random.Random(number)
        try:
            with Raw(self.port, timeout=60 * SLOWNESS) as link:
                while not self.ending.is_set():
                    keys = [f"stream:{number}:{chance.randrange(self.keys)}" for _ in range(chance.randint(1, 20))]
                    link.send(b"".join(encode("INCR", key) for key in keys))
                    for key in keys:
                        reply = link.read()
                        told[key] = told.get(key, 0) + 1
                        if reply != told[key]:
                            self.problems.append((key, reply, told[key]))
                            return
        except Exception as problem:  # noqa: BLE001 - told by the test
            self.problems.append(problem)

    def total(self):
        return sum(sum(told.values()) for told in self.told)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join(60 * SLOWNESS)
        assert not self.problems, self.problems[:3]
        with Raw(self.port) as link:
            for told in self.told:
                if told:
                    stored = link.ask("MGET", *told)
                    assert stored == [str(value).encode() for value in told.values()]


def seconds(duration):
    until = time.monotonic() + duration
    while time.monotonic() < until:
        yield


def test_pipelines_on_one_key_are_in_order_while_its_slot_goes_back_and_forth(through, nodes, link):
    slot = slot_of("flip")
    problems, counts = [], []

    def run(number):
        chance, key, value, pipelines = random.Random(number), "{flip}%d" % number, 0, 0
        with Raw(through.port, timeout=60 * SLOWNESS) as one:
            one.ask("SET", key, 0)
            for _ in seconds(6):
                commands, expected = [], []
                for _ in range(chance.randint(1, 40)):
                    what = chance.random()
                    if what < 0.2:
                        value = chance.randint(0, 1000)
                        commands.append(("SET", key, value))
                        expected.append(b"OK")
                    elif what < 0.7:
                        value += 1
                        commands.append(("INCR", key))
                        expected.append(value)
                    elif what < 0.8:
                        commands.append(("MGET", key, "{flip}absent", key))
                        expected.append([str(value).encode(), None, str(value).encode()])
                    elif what < 0.9:
                        value += 1
                        commands.append(("EVAL", "return redis.call('INCR', KEYS[1])", 1, key))
                        expected.append(value)
                    else:
                        commands.append(("GET", key))
                        expected.append(str(value).encode())
                one.send(b"".join(encode(*command) for command in commands))
                got = [one.read() for _ in commands]
                pipelines += 1
                if got != expected:
                    problems.append([each for each in zip(commands, got, expected) if each[1] != each[2]][0])
                    return
        counts.append(pipelines)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    with Flipper(nodes, slot) as flipper:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems
    assert flipper.flips >= 5 and sum(counts) > 50


def test_what_follows_a_script_that_is_redirected_does_not_overtake_it(nodes):
    """Scripts have a connection of their own to each node."""
    with Pointsman(nodes.seeds, upstream_kind="cluster", reads_policy="master", proxy_threads=1) as pointsman:
        one, two = nodes.masters()[:2]
        with pointsman.raw(timeout=30 * SLOWNESS) as link:
            assert link.ask("SET", nodes.key_of(two, 1), 1) == b"OK"
            for number in range(4):
                key = nodes.key_of(one, 700 + number)
                nodes.move_slot(slot_of(key), two, one)
                script = encode("EVAL", "return redis.call('SET', KEYS[1], 100)", 1, key)
                link.send(script + encode("INCR", key) + encode("GET", key))
                assert [link.read() for _ in range(3)] == [b"OK", 101, b"101"]


OVERTAKEN = b"ERR pointsman: the node refused this and carried out what came behind it; not executed"


@contextlib.contextmanager
def told_late(nodes, client, key):
    """The slot has moved, but the node that it left is slow, and does not say so before the other ones have answered."""
    one, two = nodes.masters()[:2]
    for master in nodes.masters():
        client.ask("GET", nodes.key_of(master, 1))
    nodes.move_slot(slot_of(key), two, one)
    one.pause()
    try:
        yield
        time.sleep(0.3)
    finally:
        one.resume()


def test_what_a_busy_node_refuses_late_is_not_done_after_what_came_behind_it(nodes, link):
    with Pointsman(nodes.seeds, upstream_kind="cluster", reads_policy="master") as pointsman, pointsman.raw(timeout=30) as client:
        for attempt in range(3):
            link.ask("FLUSHALL")
            key = f"{{{nodes.key_of(nodes.masters()[0], 900 + attempt)}}}late"
            with told_late(nodes, client, key):
                client.send(encode("SET", key, 1) + encode("DBSIZE"))
            answers = client.read(), client.read()
            if answers[0] == OVERTAKEN:
                break
            assert answers == (b"OK", 1)  # it has looked at the slots just now, by chance, and sent all where it belongs
        assert answers == (OVERTAKEN, 0)
        assert client.ask("GET", key) is None


@pytest.mark.parametrize("command", [("FLUSHALL",), ("KEYS", "*late")])
def test_what_goes_over_a_lane_of_its_own_waits_for_what_a_busy_node_refuses_late(nodes, link, command):
    with Pointsman(nodes.seeds, upstream_kind="cluster", reads_policy="master") as pointsman, pointsman.raw(timeout=30) as client:
        link.ask("FLUSHALL")
        key = f"{{{nodes.key_of(nodes.masters()[0], 900)}}}late"
        with told_late(nodes, client, key):
            client.send(encode("SET", key, 1) + encode(*command))
        assert (client.read(), client.read()) == (b"OK", [key.encode()] if command[0] == "KEYS" else b"OK")
        assert client.ask("GET", key) == (b"1" if command[0] == "KEYS" else None)


def test_what_follows_goes_where_the_key_is_now_when_all_is_answered_where_it_was():
    """However long that takes."""
    own = RedisCluster(3, 0, settings={"cluster-node-timeout": "30000"}).start()
    try:
        one, two, three = own.masters()
        other = own.key_of(three, 20)
        with Pointsman(own.seeds, upstream_kind="cluster") as pointsman, pointsman.raw(timeout=60) as client:
            for number in range(9):
                for master in own.masters():
                    client.ask("GET", own.key_of(master, 1))
                key = own.key_of(one, 10 + number)
                own.move_slot(slot_of(key), two, one)
                three.ask("CLUSTER", "SETSLOT", slot_of(key), "NODE", two.id)
                one.pause()
                client.command("SET", key, 100)
                if client.is_silent(0.2):
                    break
                one.resume()  # the proxy has asked for the map just now
                client.read()
            with pointsman.raw(timeout=30) as another:
                own.move_slot(slot_of(other), two, three)
                assert another.ask("GET", other) is None  # MOVED, whereupon the proxy asks for the map
                time.sleep(3)
                assert another.ask("GET", key) is None
                client.send(encode("INCR", key))
                assert client.is_silent(0.3)
                one.resume()
                assert [client.read(), client.read()] == [b"OK", 101]
                assert another.ask("GET", key) == b"101"
    finally:
        own.stop()


def test_what_goes_again_does_not_wait_for_a_node_that_hangs_elsewhere():
    own = RedisCluster(3, 0, settings={"cluster-node-timeout": "60000"}).start()
    try:
        one, two, three = own.masters()
        key, elsewhere = own.key_of(one, 50), own.key_of(three, 3)
        with Pointsman(own.seeds, upstream_kind="cluster") as pointsman, pointsman.raw(timeout=10) as client:
            for master in own.masters():
                client.ask("GET", own.key_of(master, 1))
            own.move_slot(slot_of(key), two, one)
            three.pause()
            client.send(encode("SET", key, 1) + encode("INCR", key) + encode("SET", elsewhere, 1))
            assert [client.read(), client.read()] == [b"OK", 2]
            three.resume()
            assert client.read() == b"OK"
    finally:
        own.stop()


def test_what_is_sent_behind_many_pieces_when_a_slot_has_moved_costs_little():
    """Of each it is asked whether something on its way to another node has to come before it."""
    own = RedisCluster(3, 0, settings={"cluster-node-timeout": "60000"}).start()
    try:
        one, two, three = own.masters()
        names = list({slot_of(f"k{i}"): f"k{i}" for i in range(60000)}.values())
        moving, chance = names.pop(), random.Random(1)

        def commands():
            for number in range(300):
                keys = chance.sample(names, 60)
                yield encode("MSET", *(word for key in keys for word in (key, 1))) if number % 2 else encode("MGET", *keys)

        with Pointsman(
            own.seeds, upstream_kind="cluster", proxy_threads=1, reads_policy="master"
        ) as pointsman, pointsman.raw(timeout=60) as link, pointsman.raw(timeout=20) as another:  # fmt: skip
            source = own.master_of(slot_of(moving))
            hanging = next(master for master in (one, two, three) if master is not source)
            target = next(master for master in (one, two, three) if master not in (source, hanging))
            assert link.ask("MSET", *(word for key in names for word in (key, 1))) == b"OK"
            assert another.ask("SET", moving, 1) == b"OK"
            hanging.pause()
            link.send(b"".join(commands()))
            assert link.is_silent(0.5)
            own.begin_move(slot_of(moving), source, target)
            own.move_keys(slot_of(moving), source, target)
            own.end_move(slot_of(moving), source, target)
            assert another.ask("SET", moving, 2) == b"OK"
            before = pointsman.cpu()
            link.send(b"".join(commands()))
            assert link.is_silent(2)
            assert pointsman.cpu() - before < 0.5 * SLOWNESS
            hanging.resume()
            assert [link.read() for _ in range(600)] == [[b"1"] * 60, b"OK"] * 300
    finally:
        own.stop()


def test_a_transaction_that_waits_for_a_connection_is_not_cut_in_two(nodes):
    """It begins again elsewhere, where another client has the only connection: nobody else gets it in the midst of it."""
    settings = {"upstream_kind": "cluster", "proxy_threads": 1, "pool_dedicated_connections": 1, "pool_wait": "20s"}
    with Pointsman(nodes.seeds, **settings) as pointsman:
        one, two = nodes.masters()[:2]
        listed = nodes.key_of(two, 3)
        for number in range(2):
            key = nodes.key_of(one, 800 + number)
            with pointsman.raw(timeout=30) as link, pointsman.raw(timeout=30) as first, pointsman.raw(timeout=30) as second:
                for master in (one, two):
                    link.ask("GET", nodes.key_of(master, 1))
                nodes.move_slot(slot_of(key), two, one)
                first.command("BLPOP", listed, 0.5)
                time.sleep(0.1)
                link.send(encode("MULTI") + encode("INCR", key) + encode("SET", key, 10) + encode("INCR", key) + encode("EXEC"))
                time.sleep(0.1)
                second.command("BLPOP", listed, 0.3)
                assert [link.read() for _ in range(5)] == [b"OK", b"QUEUED", b"QUEUED", b"QUEUED", [1, b"OK", 11]]
                assert first.read() is second.read() is None


def test_a_slot_left_on_its_way_is_served_on_both_sides(through, nodes, link):
    slot = slot_of("{half}")
    keys = ["{half}%d" % i for i in range(20)]
    for key in keys:
        assert link.ask("SET", key, "of " + key) == b"OK"
    source = nodes.master_of(slot)
    target = next(node for node in nodes.masters() if node is not source)
    nodes.begin_move(slot, source, target)
    nodes.move_keys(slot, source, target, most=10)
    try:
        for key in keys + keys:
            assert link.ask("GET", key) == b"of " + key.encode()
            assert link.ask("APPEND", key, "") == len("of " + key)
        assert link.ask("SET", "{half}new", 1) == b"OK"
        assert link.ask("DEL", "{half}new") == 1
        with Raw(through.port) as other:  # ASK has taught nobody that the slot is elsewhere
            assert other.ask("GET", keys[0]) == b"of " + keys[0].encode()
        assert slot in source.own_slots()

        # Several keys, some here and some there: they wait for the end.
        link.send(encode("MGET", *keys) + encode("SET", keys[0], "later"))
        assert link.is_silent(0.5)
        nodes.move_keys(slot, source, target)
        nodes.end_move(slot, source, target)
        assert link.read() == [b"of " + key.encode() for key in keys]
        assert link.read() == b"OK"
    finally:
        if slot in source.own_slots():
            nodes.move_keys(slot, source, target)
            nodes.end_move(slot, source, target)


def test_reads_of_a_slot_that_is_known_to_be_on_its_way_go_to_its_master(nodes, link):
    """Replicas do not know of it: of a key that has gone they would say that there is none."""
    slot, keys = slot_of("{read}"), ["{read}%d" % i for i in range(10)]
    link.ask("MSET", *(word for key in keys for word in (key, 1)))
    source = nodes.master_of(slot)
    target = next(node for node in nodes.masters() if node is not source)
    nodes.begin_move(slot, source, target)
    nodes.move_keys(slot, source, target, most=5)
    try:
        with Pointsman(nodes.seeds, upstream_kind="cluster", reads_policy="prefer-replica", proxy_threads=1) as other:
            with other.raw() as one:
                for key in keys:
                    one.ask("INCR", key)
                assert [one.ask("GET", key) for key in keys] == [b"2"] * 10
    finally:
        nodes.move_keys(slot, source, target)
        nodes.end_move(slot, source, target)


def test_what_waits_in_vain_for_a_slot_is_told_in_the_words_of_redis(nodes, link):
    slot = slot_of("{never}")
    for i in range(4):
        link.ask("SET", "{never}%d" % i, i)
    source = nodes.master_of(slot)
    target = next(node for node in nodes.masters() if node is not source)
    nodes.begin_move(slot, source, target)
    nodes.move_keys(slot, source, target, most=2)
    try:
        with Pointsman(
            nodes.seeds, upstream_kind="cluster", reads_policy="master", failover_hold_time="2s"
        ) as short, short.raw() as one:
            assert one.ask("MGET", *("{never}%d" % i for i in range(4))) == (
                b"TRYAGAIN Multiple keys request during rehashing of slot")  # fmt: skip
            assert one.ask("GET", "{never}1") == b"1"
            began = time.monotonic()
            for timeout in (0, 20):
                assert one.ask("BLPOP", "{never}1", "{never}2", timeout) == (
                    b"TRYAGAIN Multiple keys request during rehashing of slot")  # fmt: skip
            assert time.monotonic() - began < 15
    finally:
        nodes.move_keys(slot, source, target)
        nodes.end_move(slot, source, target)


def test_wait_is_answered_while_the_slot_of_its_mark_is_on_its_way(nodes, link):
    """What goes before a WAIT writes a key of the master that is asked; its slot may be about to leave."""
    masters = nodes.masters()
    moves = []
    for master, target in zip(masters, masters[1:] + masters[:1]):
        slots = master.own_slots()
        names = (slot_of(f"__pointsman:wait{{{number}}}") for number in range(1000))
        slot = next(name for name in names if name in slots)
        nodes.begin_move(slot, master, target)
        moves.append((slot, master, target))
    try:
        for master in masters:
            with Raw(link.socket.getpeername()[1]) as fresh:
                assert fresh.ask("SET", nodes.key_of(master, 6), 1) == b"OK"
                assert fresh.ask("WAIT", 1, 5000) == 1
        for master in masters:
            assert link.ask("SET", nodes.key_of(master, 6), 1) == b"OK"
        assert link.ask("WAIT", 1, 5000) == 1
    finally:
        for move in moves:
            nodes.end_move(*move)


def test_a_slot_without_owner_waits_and_others_go_on(nodes):
    own = RedisCluster(3, 0, settings={"cluster-require-full-coverage": "no"}).start()
    try:
        with Pointsman(own.seeds, upstream_kind="cluster", failover_hold_time="7s") as pointsman, pointsman.raw(timeout=30) as one:
            key = "{uncovered}x"
            slot, owner = slot_of(key), own.master_of(key)
            assert one.ask("SET", key, 1) == b"OK"
            one.ask("DEL", key)
            for node in own.nodes:
                with contextlib.suppress(redis.ResponseError):  # it has heard of it already
                    node.ask("CLUSTER", "DELSLOTS", slot)
            others = [own.key_of(master, 1) for master in own.masters()]
            assert one.ask("GET", key) == b"CLUSTERDOWN Hash slot not served"
            assert [one.ask("SET", other, 1) for other in others] == [b"OK"] * 3
            one.send(encode("SET", key, 2))
            time.sleep(0.2)
            owner.ask("CLUSTER", "ADDSLOTS", slot)
            assert one.read() == b"OK"
            assert one.ask("GET", key) == b"2"
    finally:
        own.stop()


@pytest.mark.parametrize("reads_when_down", ["no", "yes"])
def test_a_cluster_that_is_down_for_one_slot_says_of_each_what_its_nodes_say(reads_when_down):
    own = RedisCluster(3, 0, settings={"cluster-allow-reads-when-down": reads_when_down}).start()
    try:
        with Pointsman(own.seeds, upstream_kind="cluster", failover_hold_time="1s") as pointsman, pointsman.raw() as one:
            slot, master = slot_of("{uncovered}x"), own.masters()[0]
            owned = own.key_of(master, 1)
            assert one.ask("SET", owned, 1) == b"OK"
            for node in own.nodes:
                with contextlib.suppress(redis.ResponseError):  # it has heard of it already
                    node.ask("CLUSTER", "DELSLOTS", slot)
            wait_for(lambda: {node.cluster_info()["cluster_state"] for node in own.nodes} == {"fail"}, 20, "all to be down")
            with master.raw() as node:
                for words in ("SET", owned, 2), ("GET", owned):
                    said = node.ask(*words)
                    assert said == b"1" or said.startswith(b"CLUSTERDOWN The cluster is down")
                    assert one.ask(*words) == said
            assert one.ask("GET", "{uncovered}x") == b"CLUSTERDOWN Hash slot not served"
    finally:
        own.stop()


def test_transactions_and_blocking_clients_see_no_redirect(through, nodes, link):
    """While their slot goes back and forth, none gets an error: a transaction begins again where the slot is, and one that
    watches is told that what it watched was changed."""
    slot = slot_of("{tx}")
    done, watched, popped, others, ending = [], [], [], [], threading.Event()

    def repeat(what):
        with Raw(through.port, timeout=60 * SLOWNESS) as one:
            while not ending.is_set():
                what(one)

    def in_one_packet(one):
        transaction = encode("MULTI") + encode("INCR", "{tx}a") + encode("INCR", "{tx}b") + encode("EXEC")
        one.send((transaction + encode("WATCH", "{tx}a") + encode("UNWATCH")) * 3)
        for _ in range(3):
            done.append([one.read() for _ in range(4)])
            assert [one.read(), one.read()] == [b"OK", b"OK"]

    def one_by_one(one):
        done.append([one.ask(*words) for words in (("MULTI",), ("INCR", "{tx}a"), ("INCR", "{tx}b"), ("EXEC",))])

    def with_watch(one):
        before = [one.ask("WATCH", "{tx}w"), one.ask("GET", "{tx}w")]
        watched.append([*before, one.ask("MULTI"), one.ask("SET", "{tx}w", int(before[1] or 0) + 1), one.ask("EXEC")])

    threads = [
        threading.Thread(target=repeat, args=(what,), daemon=True)
        for what in (in_one_packet, one_by_one, with_watch, lambda one: popped.append(one.ask("BLPOP", "{tx}list", 0.3)),
                     lambda one: others.append(one.ask("EVAL", "return redis.call('INCR', KEYS[1])", 1, "{tx}c")))
    ]  # fmt: skip
    with Flipper(nodes, slot, rest=0.2) as flipper:
        for thread in threads:
            thread.start()
        pushed = 0
        for _ in seconds(5):
            pushed += link.ask("RPUSH", "{tx}list", pushed) > 0
            time.sleep(0.02)
        ending.set()
        for thread in threads:
            thread.join(30)
    assert flipper.flips >= 5
    assert len(done) > 100 and len(watched) > 20
    for replies in done:
        assert replies[:3] == [b"OK", b"QUEUED", b"QUEUED"] and replies[3][0] == replies[3][1], replies
    assert sorted(replies[3][0] for replies in done) == list(range(1, len(done) + 1))
    for replies in watched:
        assert replies[0] == b"OK" and replies[2:4] == [b"OK", b"QUEUED"] and replies[4] in ([b"OK"], None), replies
    carried_out = sum(replies[4] is not None for replies in watched)
    assert link.ask("GET", "{tx}w") == str(carried_out).encode() and carried_out
    assert others == list(range(1, len(others) + 1))
    taken = [reply[1] for reply in popped if reply]
    left = link.ask("LRANGE", "{tx}list", 0, -1)
    assert sorted(map(int, taken + left)) == list(range(pushed))


@pytest.mark.parametrize("reason", ["script", "size"])
def test_a_transaction_that_cannot_begin_again_is_refused_without_a_redirect(nodes, link, reason):
    """The other node may not have a script that the proxy does not know, and there is a bound to what is kept; nothing of it
    is done."""
    key = nodes.key_of(nodes.masters()[0], 5)
    [sha] = {node.ask("SCRIPT", "LOAD", "return redis.call('SET', KEYS[1], 'not sent through the proxy')") for node in nodes.nodes}
    long = b"x" * 700_000
    commands = [("EVALSHA", sha, 1, key)] if reason == "script" else [("SET", key, long), ("APPEND", key, long)]
    assert link.ask("MULTI") == b"OK"
    assert [link.ask(*words) for words in commands] == [b"QUEUED"] * len(commands)
    nodes.move_slot(slot_of(key), nodes.masters()[1])
    assert link.ask("SET", key, "after").startswith(b"TRYAGAIN ")
    assert link.ask("EXEC").startswith(b"EXECABORT ")
    assert link.ask("GET", key) is None
    replies = [link.ask(*words) for words in [("MULTI",), *commands, ("EXEC",)]]
    assert replies[:-1] == [b"OK"] + [b"QUEUED"] * len(commands) and len(replies[-1]) == len(commands)


@pytest.mark.parametrize("how", ["script", "transaction", "scan"])
def test_what_the_proxy_asks_itself_does_not_come_between_ASKING_and_the_command(nodes, through, how):
    """ASKING holds for one command only, so that the node would send the other one back."""
    source, target = nodes.masters()[:2]
    key = f"{{{nodes.key_of(source, 8)}}}:{how}"
    with through.raw(timeout=30) as link:
        link.ask("SADD", key, 1, 2, 3)
        script = f"return redis.call('SCARD', KEYS[1]) -- {how}"
        assert link.ask("EVAL", script, 1, key) == 3
        sha = hashlib.sha1(script.encode()).hexdigest()
        nodes.begin_move(slot_of(key), source, target)
        nodes.move_keys(slot_of(key), source, target)
        target.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # nothing is known of a new connection
        target.reset_stats()
        if how == "script":
            assert link.ask("EVALSHA", sha, 1, key) == 3
        elif how == "transaction":
            assert [link.ask(*words) for words in [("MULTI",), ("EVALSHA", sha, 1, key)]] == [b"OK", b"QUEUED"]
            assert link.ask("EXEC") == [3]
        else:
            assert sorted(link.ask("SSCAN", key, 0)[1]) == [b"1", b"2", b"3"]
        assert target.commandstats()["asking"] == 1
        nodes.end_move(slot_of(key), source, target)
        link.ask("DEL", key)


@pytest.mark.parametrize("how", ["moved", "lost"])
def test_a_transaction_of_which_a_command_was_refused_is_not_carried_out_elsewhere(nodes, link, how):
    """There it would be queued: what has kept it from that is over."""
    source, target = nodes.masters()[:2]
    key, other = (f"{{{nodes.key_of(source, 6)}}}:{number}" for number in range(2))
    assert [link.ask(*words) for words in [("MULTI",), ("GET", key)]] == [b"OK", b"QUEUED"]
    source.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        assert link.ask("SET", key, "refused").startswith(b"OOM ")
    finally:
        source.ask("CONFIG", "SET", "maxmemory", 0)
    if how == "moved":
        nodes.move_slot(slot_of(key), target)
    else:
        source.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert link.ask("SET", other, "queued") == b"QUEUED"
    assert link.ask("EXEC").startswith(b"EXECABORT ")
    assert [link.ask("GET", each) for each in (key, other)] == [None, None]
    replies = [link.ask(*words) for words in [("MULTI",), ("SET", key, "good"), ("EXEC",)]]
    assert replies == [b"OK", b"QUEUED", [b"OK"]]


def test_a_transaction_waits_for_keys_that_are_on_their_way(nodes, link):
    slot = slot_of("{half}")
    source = nodes.master_of(slot)
    target = next(node for node in nodes.masters() if node is not source)
    for name in "abcd":
        link.ask("SET", "{half}" + name, 1)
    nodes.begin_move(slot, source, target)
    nodes.move_keys(slot, source, target, most=2)
    try:
        assert link.ask("MULTI") == b"OK"
        link.send(encode("MGET", *("{half}" + name for name in "abcd")))
        assert link.is_silent(0.5)
    finally:
        nodes.move_keys(slot, source, target)
        nodes.end_move(slot, source, target)
    assert link.read() == b"QUEUED" and link.ask("EXEC") == [[b"1"] * 4]


def test_a_transaction_takes_its_scripts_along(nodes, link):
    master, target = nodes.masters()[:2]
    key = nodes.key_of(master, 11)
    script = "return redis.call('INCRBY', KEYS[1], ARGV[1]) -- of a transaction"
    assert link.ask("EVAL", script, 1, key, 1) == 1  # no other node has it
    sha = hashlib.sha1(script.encode()).hexdigest()
    assert target.ask("SCRIPT", "EXISTS", sha) == [0]
    assert [link.ask("MULTI"), link.ask("EVALSHA", sha, 1, key, 2), link.ask("GET", key)] == [b"OK", b"QUEUED", b"QUEUED"]
    nodes.move_slot(slot_of(key), target)
    assert [link.ask("EVALSHA", sha, 1, key, 3), link.ask("EXEC")] == [b"QUEUED", [3, b"3", 6]]
    other = nodes.key_of(nodes.masters()[2], 11)  # nor this one, which is first asked for it in a transaction
    link.send(b"".join(encode(*words) for words in (("MULTI",), ("PING",), ("EVALSHA", sha, 1, other, 7), ("EXEC",))))
    assert [link.read() for _ in range(4)] == [b"OK", b"QUEUED", b"QUEUED", [b"PONG", 7]]


def test_a_blocked_client_follows_its_key(through, nodes, link):
    slot = slot_of("{follow}")
    target = next(node for node in nodes.masters() if node is not nodes.master_of(slot))
    with Raw(through.port, timeout=30 * SLOWNESS) as blocked:
        blocked.send(encode("BLPOP", "{follow}list", 20))
        source = nodes.master_of(slot)
        wait_for(lambda: source.info("clients")["blocked_clients"] == 1, what="the client to block")
        nodes.move_slot(slot, target)
        wait_for(lambda: target.info("clients")["blocked_clients"] == 1, what="the client to block at the new master")
        assert link.ask("RPUSH", "{follow}list", "x") == 1
        assert blocked.read() == [b"{follow}list", b"x"]


@pytest.mark.parametrize("words", ["TRYAGAIN later", "READONLY mode", "LOADING the ship", "CLUSTERDOWN it says", "MOVED 1 host:1", "ASK 1 host:1"])
def test_what_a_script_says_itself_is_its_answer_and_it_runs_once(link, words, nodes, through):
    script = f"redis.call('INCR', KEYS[1]) return redis.error_reply('{words}')"
    assert link.ask("EVAL", script, 1, "{once}n") == words.encode()
    assert link.ask("GET", "{once}n") == b"1"
    hashes = {node.ask("SCRIPT", "LOAD", script + " -- by others") for node in nodes.nodes}  # not known to the proxy
    assert link.ask("EVALSHA", *hashes, 1, "{once}n") == words.encode()
    with Raw(through.port) as listening:
        listening.ask("HELLO", 3)
        listening.ask("SUBSCRIBE", "news")
        assert listening.ask("EVAL", script, 1, "{once}n") == words.encode()
    assert link.ask("GET", "{once}n") == b"3"


def test_a_script_cannot_send_the_proxy_to_a_stranger(nodes):
    """Its error text may look like a redirect; the passwords of the nodes are for the nodes alone."""
    with socket.create_server((HOST, 0)) as stranger, Pointsman(
        nodes.seeds, upstream_kind="cluster", failover_hold_time="1s"
    ) as through, through.raw(timeout=30) as link:
        port = stranger.getsockname()[1]
        for word in ("MOVED", "ASK"):
            script = f"return redis.error_reply('{word} {slot_of('k')} {HOST}:{port}')"
            assert not link.ask("EVAL", script, 1, "k").startswith((b"MOVED", b"ASK"))
        stranger.settimeout(2)
        with pytest.raises(TimeoutError):
            stranger.accept()
        assert link.ask("SET", "k", 1) == b"OK"


def test_a_pipeline_reads_what_it_wrote_from_replicas_or_not_while_slots_move(nodes):
    """Its commands may have to go one by one then, and the read must not go to a replica since the write is answered."""
    source, target = nodes.masters()[:2]
    wrong, rounds, ending = [], [0], threading.Event()

    def work(port, number):
        keys = [f"rw:{number}:{i}" for i in range(20)]
        with Raw(port, timeout=60 * SLOWNESS) as link:
            while not ending.is_set():
                rounds[0] += 1
                value = b"%d" % rounds[0]
                commands = [("SET", key, value) for key in keys] + [("GET", key) for key in keys]
                commands += [("DEL", key) for key in keys] + [("EXISTS", key) for key in keys]
                link.send(b"".join(encode(*words) for words in commands))
                replies = [link.read() for _ in commands]
                if replies != [b"OK"] * 20 + [value] * 20 + [1] * 20 + [0] * 20:
                    wrong.append(replies)

    with Pointsman(nodes.seeds, upstream_kind="cluster", failover_hold_time="60s") as pointsman:
        threads = [threading.Thread(target=work, args=(pointsman.port, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for here, there in ((source, target), (target, source)):
            nodes.redis_cli("reshard", here.address, "--cluster-from", here.id, "--cluster-to", there.id,
                            "--cluster-slots", 500, "--cluster-yes", "--cluster-pipeline", 50)  # fmt: skip
        ending.set()
        for thread in threads:
            thread.join()
    assert rounds[0] > 20 and not wrong, (rounds, len(wrong), wrong[:1])


def test_resharding_under_load_costs_few_questions_and_no_error(through, nodes, link):
    source, target = nodes.masters()[:2]
    with Streams(through.port) as streams:
        wait_for(lambda: streams.total() > 500, 20, "the load to begin")
        before, began = nodes.calls("cluster|shards", "cluster|slots"), time.monotonic()
        nodes.redis_cli("reshard", source.address, "--cluster-from", source.id, "--cluster-to", target.id,
                        "--cluster-slots", 400, "--cluster-yes", "--cluster-pipeline", 50)  # fmt: skip
        total = streams.total()
        wait_for(lambda: streams.total() > total + 500, 20, "the load to go on")
        took = time.monotonic() - began
        asked = nodes.calls("cluster|shards", "cluster|slots") - before
    # redis-cli asks each node a little itself, before and behind it.
    assert asked <= 2 * took + 12, (asked, took)


def test_nodes_come_and_go_under_load(through, nodes, link):
    with Streams(through.port) as streams:
        wait_for(lambda: streams.total() > 200, 20, "the load to begin")
        new = nodes.add_node()
        replica = nodes.add_node(replica_of=new)
        giver = nodes.masters()[1]
        nodes.redis_cli("reshard", giver.address, "--cluster-from", giver.id, "--cluster-to", new.id,
                        "--cluster-slots", 200, "--cluster-yes", "--cluster-pipeline", 50)  # fmt: skip
        total = streams.total()
        wait_for(lambda: streams.total() > total + 200, 20, "the load to go on")
        wait_for(lambda: new.commandstats().get("incr", 0) > 0, 20, "the new node to work")
        nodes.redis_cli("reshard", giver.address, "--cluster-from", new.id, "--cluster-to", giver.id,
                        "--cluster-slots", 200, "--cluster-yes", "--cluster-pipeline", 50)  # fmt: skip
        wait_for(lambda: is_idle(new), 20, "nobody to ask the node that has no slots any more")
        for node in (replica, new):
            nodes.remove_node(node)
        total = streams.total()
        wait_for(lambda: streams.total() > total + 200, 20, "the load to go on")
    wait_for(lambda: f"{new.address}: forgotten" in through.log_text(), 40, "the node that left to be forgotten")


def is_idle(node):
    """It has to redirect nobody any more. It may be a replica by now, as Redis has it of a master without slots."""
    before = node.rejected().get("incr", 0)
    time.sleep(2.5)
    return node.rejected().get("incr", 0) == before


def test_scan_misses_no_key_while_slots_move(through, nodes, link):
    keys = {b"s:%d" % i for i in range(2000)}
    link.send(b"".join(encode("SET", key, 1) for key in keys))
    assert {link.read() for _ in keys} == {b"OK"}
    ending = threading.Event()
    problems, moved = [], []

    def move():
        chance = random.Random(5)
        try:
            while not ending.is_set():
                slot = slot_of(chance.choice(sorted(keys)))
                source = nodes.master_of(slot)
                target = chance.choice([node for node in nodes.masters() if node is not source])
                nodes.move_slot(slot, target, source)
                moved.append(slot)
                time.sleep(0.02)
        except Exception as problem:  # noqa: BLE001 - told below
            problems.append(problem)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        found, cursor = set(), b"0"
        for _ in seconds(3):
            cursor, page = link.ask("SCAN", cursor, "COUNT", 20)
            found |= set(page)
    finally:
        ending.set()
        mover.join(30)
    assert not problems and len(moved) > 5
    while cursor != b"0":
        cursor, page = link.ask("SCAN", cursor, "COUNT", 20)
        found |= set(page)
    assert keys <= found
