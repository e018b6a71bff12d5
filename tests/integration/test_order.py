# SPDX-License-Identifier: BSD-2-Clause
"""Replies leave in the client's order, a client sees its own writes in a pipeline, nobody waits for another."""

import random
import signal
import threading
import time

from harness import SLOWNESS, Pointsman, Refuser, Server, encode, wait_for
from redis_cluster import RedisCluster


def test_replies_keep_the_order_of_commands_that_go_to_master_and_replicas(cluster, proxy):
    with cluster.master.client() as master:
        master.mset({f"fixed:{i}": i for i in range(50)})
    cluster.wait_synced()
    chance = random.Random(7)
    with cluster.counting() as counts, proxy.raw(timeout=30) as link:
        for _ in range(20):
            expected, data = [], b""
            for number in range(100):
                kind = chance.randrange(4)
                if kind == 0:
                    data += encode("GET", f"fixed:{number % 50}")
                    expected.append(b"%d" % (number % 50))
                elif kind == 1:
                    data += encode("SET", f"w:{number}", number)
                    expected.append(b"OK")
                elif kind == 2:
                    data += encode("ECHO", number)
                    expected.append(b"%d" % number)
                else:
                    data += encode("STRLEN", f"fixed:{number % 50}")
                    expected.append(len(str(number % 50)))
            link.send(data)
            assert [link.read() for _ in expected] == expected
    assert counts.calls(cluster.replicas, "get") > 0
    assert counts.calls(cluster.master, "set") > 0


def test_read_behind_a_write_in_one_pipeline_sees_it(cluster, proxy):
    wrong = []

    def work(number):
        with proxy.raw(timeout=30) as link:
            for turn in range(100):
                key = f"own:{number}"
                link.send(encode("SET", key, turn) + encode("GET", key) + encode("INCR", key) + encode("GET", key))
                replies = [link.read() for _ in range(4)]
                if replies != [b"OK", b"%d" % turn, turn + 1, b"%d" % (turn + 1)]:
                    wrong.append((number, turn, replies))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:5]


def test_commands_of_one_client_take_effect_in_its_order_also_around_a_transaction(cluster, proxy):
    with proxy.raw(timeout=30) as link:
        link.ask("DEL", "steps")
        for turn in range(25):
            link.send(encode("RPUSH", "steps", f"{turn}a"))
            link.send(encode("MULTI") + encode("RPUSH", "steps", f"{turn}b") + encode("EXEC"))
            link.send(encode("RPUSH", "steps", f"{turn}c") + encode("BLPOP", "nothing", "0.001"))
            link.send(encode("RPUSH", "steps", f"{turn}d"))
        for _ in range(25 * 7):
            link.read()
    with cluster.master.client() as master:
        steps = [step.decode() for step in master.lrange("steps", 0, -1)]
    assert steps == [f"{turn}{letter}" for turn in range(25) for letter in "abcd"]


def test_client_waiting_for_a_hung_replica_delays_no_other(cluster, processes):
    pointsman = processes(Pointsman(cluster, proxy_threads=1)).wait_for_replicas(2)
    hung = cluster.replicas[0]
    links = [pointsman.raw(timeout=30) for _ in range(20)]
    try:
        hung.pause()
        try:
            for link in links:
                link.command("GET", "order:nothing")
            slowest = 0
            with pointsman.client() as client:
                for number in range(200):
                    start = time.monotonic()
                    assert client.set("order:other", number)
                    slowest = max(slowest, time.monotonic() - start)
            assert slowest < 0.5 * SLOWNESS, f"a write waited {slowest:.3f} s"
            answered = sum(not link.is_silent(0.05) for link in links)
            print(f"{answered} of 20 reads were answered at once, slowest write {slowest * 1000:.1f} ms")
            assert answered >= 5  # those that went to the other replica
        finally:
            hung.resume()
        for link in links:
            assert link.read() is None
    finally:
        for link in links:
            link.close()
    # Sentinel may have called it down; the module's other tests want it fit.
    wait_for(lambda: "s_down" not in _flags(cluster, hung), 20, "Sentinel to see the replica again")


def _flags(cluster, server):
    with cluster.sentinels[0].client() as client:
        return next(r["flags"] for r in client.sentinel_slaves("mymaster") if r["port"] == server.port)


def test_client_with_a_slow_command_delays_no_reader_of_replicas(cluster, proxy):
    with proxy.raw(timeout=30) as slow, proxy.client() as client:
        slow.command("DEBUG", "SLEEP", "0.7")
        time.sleep(0.05)
        for _ in range(20):
            client.get("order:nothing")
        assert slow.is_silent(0.001), "the reads were not answered before the command that they have nothing to do with"
        assert slow.read() == b"OK"


def test_what_a_node_refused_is_not_overtaken_by_what_came_behind_it(processes):
    server = processes(Server("hesitant")).ready()
    with Refuser(server.port, "LOADING Redis is loading the dataset in memory") as refuser:
        pointsman = processes(Pointsman(refuser.address))
        wait_for(pointsman.writes, what="writes to pass")
        with pointsman.raw(timeout=30) as link:
            check_refusals(link, refuser)
            link.ask("RPUSH", "list", 1)
            refuser.left = {b"SET list": 1}
            link.send(encode("SET", "list", 1) + encode("GET", "list"))  # which has seen the list
            assert link.read() == OVERTAKEN and link.read().startswith(b"WRONGTYPE")


def test_what_a_node_of_a_cluster_refused_is_not_overtaken_either():
    nodes = RedisCluster(1, 0).start()
    try:
        node = nodes.nodes[0]
        with Refuser(node.port, "CLUSTERDOWN The cluster is down") as refuser, Pointsman(
            nodes.seeds, upstream_kind="cluster", upstream_map=f"{node.address} = {refuser.address}"
        ) as pointsman, pointsman.raw(timeout=30) as link:
            check_refusals(link, refuser)
    finally:
        nodes.stop()


OVERTAKEN = b"ERR pointsman: the node refused this and carried out what came behind it; not executed"


def check_refusals(link, refuser):
    """Each with keys of its own, since a slot that was refused is asked for one by one for a while."""

    def ask(tag, commands, refused):
        refuser.left = {b"%s {%s}n" % (name, tag): refused.count(name) for name in refused}
        link.send(b"".join(encode(name, b"{%s}n" % tag, *rest) for name, *rest in commands))
        return [link.read() for _ in commands]

    three = [(b"SET", 1), (b"INCR",), (b"GET",)]
    all_of_them = [b"SET", b"INCR", b"GET"]
    assert ask(b"all", three, all_of_them) == [b"OK", 2, b"2"]
    for turn in range(3):  # one that is refused again and again keeps its place
        assert ask(b"again:%d" % turn, three, all_of_them + [b"SET"] * 3 + [b"GET"]) == [b"OK", 2, b"2"]
    assert ask(b"first", three, [b"SET"]) == [OVERTAKEN, 1, b"1"]
    assert ask(b"middle", three, [b"INCR"]) == [b"OK", OVERTAKEN, b"1"]
    assert ask(b"last", three, [b"GET"]) == [b"OK", 2, b"2"]
    assert ask(b"read", [(b"GET",), (b"GET",), (b"STRLEN",)], [b"GET"]) == [None, None, 0]
    assert ask(b"write", [(b"GET",), (b"INCR",), (b"STRLEN",)], [b"GET"]) == [OVERTAKEN, 1, 1]
    assert ask(b"ends", [(b"MGET",), (b"GET",), (b"INCR",)], [b"MGET", b"INCR"]) == [[None], None, 1]


def test_what_was_refused_on_a_connection_of_the_clients_own_is_not_overtaken_either(processes):
    server = processes(Server("hesitant")).ready()
    with Refuser(server.port, "LOADING Redis is loading the dataset in memory") as refuser:
        pointsman = processes(Pointsman(refuser.address))
        wait_for(pointsman.writes, what="writes to pass")
        with pointsman.raw(timeout=30) as link, server.client() as node:
            link.ask("HELLO", 3)
            assert link.ask("CLIENT", "TRACKING", "ON") == b"OK"
            refuser.left = {b"SET k": 1}
            link.send(encode("SET", "k", 100) + encode("INCR", "k"))
            assert [link.read(), link.read()] == [OVERTAKEN, 1] and node.get("k") == b"1"


def test_what_waits_for_those_behind_it_is_told_when_the_proxy_ends(processes):
    class Swallower(Refuser):
        """Also passes some on very late."""

        def _instead(self, words):
            if words[0] == b"STRLEN":
                time.sleep(5)
            return super()._instead(words)

    server = processes(Server("hesitant")).ready()
    with Swallower(server.port, "LOADING Redis is loading the dataset in memory") as refuser:
        pointsman = processes(Pointsman(refuser.address, proxy_drain_time="500ms"))
        wait_for(pointsman.writes, what="writes to pass")
        with pointsman.raw(timeout=30) as link:
            refuser.left = {b"SET k": 1}
            link.send(encode("SET", "k", 1) + encode("STRLEN", "k"))
            time.sleep(1)
            pointsman.signal(signal.SIGTERM)
            assert link.read() == b"ERR pointsman: shutting down; not executed"
        with server.client() as node:
            assert node.get("k") is None


def test_a_read_that_a_replica_refuses_needs_no_hold_time(processes):
    master = processes(Server("master")).ready()
    replica = processes(Server("replica", replica_of=master)).ready()
    wait_for(replica.link_is_up)
    with Refuser(replica.port, "LOADING Redis is loading the dataset in memory") as refuser:
        nodes = f"{master.address}, {refuser.address}"
        pointsman = processes(Pointsman(nodes, upstream_kind="static", failover_hold_time="0"))
        with pointsman.raw(timeout=30) as link:
            wait_for(lambda: f"node {refuser.address}: fit as replica" in pointsman.log_text(), what="the replica")
            assert link.ask("SET", "k", 1) == b"OK"
            for _ in range(3):
                refuser.left = {b"GET k": 1}
                assert link.ask("GET", "k") == b"1"
                time.sleep(0.3)


def test_what_goes_again_and_what_is_held_for_another_shard_do_not_wait_for_each_other():
    own = RedisCluster(3, 1, settings={"cluster-require-full-coverage": "no"}).start()
    try:
        one, two = own.masters()[:2]
        first, second, elsewhere = own.key_of(one, 1), own.key_of(one, 2), own.key_of(two, 1)
        with Refuser(one.port, "CLUSTERDOWN The cluster is down") as refuser, Pointsman(
            own.seeds, upstream_kind="cluster", reads_policy="master", failover_hold_time="60s",
            upstream_map=f"{one.address} = {refuser.address}",
        ) as pointsman, pointsman.raw(timeout=40) as link:  # fmt: skip
            assert link.ask("MSET", first, 0, second, 0, elsewhere, 0) == b"OK"
            slot = min(two.own_slots())
            two.kill()
            time.sleep(0.5)
            refuser.left = {b"SET " + first.encode(): 1}
            link.send(b"".join(encode("SET", key, 5) for key in (first, second, elsewhere)))
            own.wait_new_master(slot, two)
            assert [link.read() for _ in range(3)] == [b"OK"] * 3
    finally:
        own.stop()
