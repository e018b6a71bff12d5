# SPDX-License-Identifier: BSD-2-Clause
"""Clusters of other shapes: more masters, IPv6, names, nodes that do not say where they are, a password."""

import time

import pytest

from harness import Pointsman, Raw, encode, wait_for
from redis_cluster import RedisCluster, slot_of

SHAPES = {
    "six masters": dict(masters=6, replicas=0),
    "IPv6": dict(masters=3, replicas=0, announce="ipv6"),
    "host names": dict(masters=3, replicas=0, announce="hostname"),
    "unknown endpoints": dict(masters=3, replicas=0, announce="unknown"),
    "password": dict(masters=3, replicas=0, password="secret"),
    "one master": dict(masters=1, replicas=1),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_clusters_of_all_shapes(shape):
    cluster = RedisCluster(**SHAPES[shape]).start()
    try:
        keys = {"upstream_password": "secret"} if shape == "password" else {}
        with Pointsman(cluster.nodes[0].address, upstream_kind="cluster", reads_policy="master", **keys) as pointsman:
            with pointsman.raw() as link:
                names = [f"shape:{i}" for i in range(100)]
                assert link.ask("MSET", *(word for name in names for word in (name, name))) == b"OK"
                assert link.ask("MGET", *names) == [name.encode() for name in names]
                assert link.ask("DBSIZE") >= 100
                cursor, found = b"0", set()
                while True:
                    cursor, page = link.ask("SCAN", cursor)
                    found |= set(page)
                    if cursor == b"0":
                        break
                assert {name.encode() for name in names} <= found
                if len(cluster.masters()) == 1:
                    return
                move_under_load(cluster, link, names[0])
    finally:
        cluster.stop()


def move_under_load(cluster, link, name):
    """The redirects of these nodes are understood, whatever they call each other."""
    slot, source = slot_of(name), cluster.master_of(name)
    target = next(node for node in cluster.masters() if node is not source)
    link.ask("SET", name, 0)
    cluster.begin_move(slot, source, target)
    assert link.ask("INCR", name) == 1
    cluster.move_keys(slot, source, target)
    assert link.ask("INCR", name) == 2  # ASK
    cluster.end_move(slot, source, target)
    link.send(b"".join(encode("INCR", name) for _ in range(50)))
    assert [link.read() for _ in range(50)] == list(range(3, 53))  # MOVED
    wait_for(lambda: target.commandstats().get("incr", 0) >= 50, 5, "it to be served by its new master")


def test_a_name_that_cannot_be_resolved_concerns_its_own_node_alone():
    own = RedisCluster(3, 0, announce="hostname").start()
    try:
        known, lost = own.masters()[:2]
        with lost.client() as client:
            client.config_set("cluster-announce-hostname", "nowhere.invalid")
        wait_for(lambda: all("nowhere.invalid" in node.ask("CLUSTER", "NODES") for node in own.nodes), 20, "the name")
        settings = {"upstream_kind": "cluster", "failover_hold_time": "500ms", "wait": "listen"}
        with Pointsman(known.address, **settings) as pointsman, pointsman.raw(timeout=30) as link:
            wait_for(lambda: link.ask("SET", own.key_of(known, 1), 1) == b"OK", 20, "writes to pass")
            assert b"no master" in link.ask("SET", own.key_of(lost, 1), 1)
            assert "nowhere.invalid" in pointsman.log_text() and "out of memory" not in pointsman.log_text()
    finally:
        own.stop()


def test_an_announced_address_is_mapped(processes):
    """Nodes that announce what cannot be reached from here, as in containers."""
    cluster = RedisCluster(3, 0, settings={"cluster-announce-ip": "203.0.113.7"})
    for node in cluster.nodes:
        node.settings["cluster-announce-ip"] = "127.0.0.1"
    cluster.start()
    try:
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "cluster-announce-ip", "203.0.113.7")
        told = lambda: all("203.0.113.7" in node.ask("CLUSTER", "SLOTS").__repr__() for node in cluster.nodes)
        wait_for(told, 20, "the address to be announced")
        mapping = ", ".join(f"203.0.113.7:{node.port}=127.0.0.1:{node.port}" for node in cluster.nodes)
        with Pointsman(cluster.nodes[0].address, upstream_kind="cluster", upstream_map=mapping) as pointsman:
            with pointsman.raw() as link:
                for i in range(30):
                    assert link.ask("SET", f"mapped:{i}", i) == b"OK"
                name = "mapped:1"
                target = next(node for node in cluster.masters() if node is not cluster.master_of(name))
                source = cluster.master_of(name)
                cluster.move_slot(slot_of(name), target, source)
                assert link.ask("INCR", name) == 2
                with Raw(target.port) as node:
                    assert node.ask("GET", name) == b"2"
    finally:
        cluster.stop()


def test_nodes_that_have_not_met_yet_are_waited_for_quietly():
    """The proxy may be there before the cluster is made: seeds that know nothing of each other are no strangers."""
    cluster = RedisCluster(3, 0)
    cluster.start_nodes()
    try:
        with Pointsman(cluster.seeds, upstream_kind="cluster", wait="listen", failover_hold_time="60s") as pointsman:
            time.sleep(5)  # a node is asked every two seconds
            assert "forgotten" not in pointsman.log_text()
            with pointsman.raw(timeout=60) as link:
                link.send(encode("SET", "first", 1))
                cluster.make()
                assert link.read() == b"OK"
            assert "forgotten" not in pointsman.log_text()
    finally:
        cluster.stop()
