# SPDX-License-Identifier: BSD-2-Clause
"""Whom to ask, whom to believe, and how to reach them."""

import subprocess
import time

import pytest

from harness import (
    HOST, SLOWNESS, Forwarder, Pointsman, Replication, Sentinel, Server, free_port, wait_for,
)  # fmt: skip


@pytest.fixture
def pair():
    replication = Replication(replicas=1, sentinels=0).start()
    yield replication
    replication.stop()


def write_many(pointsman, count=50):
    with pointsman.client() as client:
        for number in range(count):
            assert client.set(f"d:{number}", number)


def usable(pointsman, replication):
    """Writes arrive at the master, reads at a replica."""
    pointsman.wait_for_replicas(min(1, len(replication.servers) - 1))
    with replication.counting() as counts:
        write_many(pointsman)
    assert counts.calls(replication.master, "set") >= 50
    assert not counts.rejected(replication.servers)


@pytest.mark.parametrize("kind", ["auto", "sentinel"])
def test_sentinels_are_understood(cluster, processes, kind):
    usable(processes(Pointsman(cluster, upstream_kind=kind)), cluster)


@pytest.mark.parametrize("kind", ["auto", "static"])
def test_servers_without_sentinels_are_understood(pair, processes, kind):
    usable(processes(Pointsman(pair, upstream_kind=kind)), pair)


def test_order_of_static_nodes_does_not_matter(pair, processes):
    nodes = ", ".join(server.address for server in reversed(pair.servers))
    pointsman = Pointsman(pair, upstream_nodes=nodes)
    usable(processes(pointsman), pair)


def test_dead_and_foreign_seeds_do_no_harm(cluster, processes):
    nodes = f"{HOST}:{free_port()}, {cluster.nodes}, {HOST}:{free_port()}"
    usable(processes(Pointsman(cluster, upstream_nodes=nodes)), cluster)


def test_one_seed_is_enough_for_all_sentinels_to_be_known(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster, upstream_nodes=own_cluster.sentinels[0].address))
    usable(pointsman, own_cluster)
    time.sleep(1.5)
    seed = own_cluster.sentinels.pop(0)
    seed.kill()
    own_cluster.failover(lambda master: master.kill())
    wait_for(pointsman.writes, 10, "writes to the new master that the seed cannot tell of")


def test_replica_that_is_added_later_is_read_from(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    added = processes(Server("added", replica_of=own_cluster.master)).ready()
    wait_for(added.link_is_up, what="the new replica to follow")
    own_cluster.servers.append(added)
    wait_for(lambda: _reads(pointsman, added), 25, "reads to reach the new replica", every=0.3)


def _reads(pointsman, server):
    before = server.commandstats().get("get", 0)
    with pointsman.client() as client:
        for _ in range(30):
            client.get("d:nothing")
    return server.commandstats().get("get", 0) > before


def test_static_roles_follow_a_swap(pair, processes):
    pointsman = processes(Pointsman(pair))
    write_many(pointsman)
    old, new = pair.servers
    new.replicaof(None)
    old.replicaof(new)
    wait_for(lambda: old.role() == "slave" and old.link_is_up(), 20, "the swap to be done")
    wait_for(lambda: _writes_arrive(pointsman, new), 5, "writes to arrive at the new master", every=0.1)
    with pair.counting() as counts:
        write_many(pointsman)
    assert counts.calls(new, "set") == 50
    assert not counts.rejected(old)


def _writes_arrive(pointsman, server):
    before = server.commandstats().get("set", 0)
    pointsman.writes()
    return server.commandstats().get("set", 0) > before


def test_of_two_masters_at_once_the_older_gets_no_write(pair, processes):
    pointsman = processes(Pointsman(pair))
    write_many(pointsman)
    old, new = pair.servers
    new.replicaof(None)
    time.sleep(2.5 * SLOWNESS)
    with pair.counting() as counts:
        write_many(pointsman)
    assert counts.calls(old, "set") == 0
    assert counts.calls(new, "set") == 50
    assert "two masters" in pointsman.log_text() or "masters" in pointsman.log_text()


def test_passwords_of_servers_and_sentinels_are_separate(processes):
    cluster = Replication(replicas=1, password="server;secret", sentinel_password="sentinel#secret").start()
    pointsman = processes(
        Pointsman(cluster, upstream_password="server;secret", upstream_sentinel_password="sentinel#secret")
    )
    usable(pointsman, cluster)
    old, _ = cluster.failover(lambda master: master.kill())
    wait_for(pointsman.writes, 10, "writes after a failover")
    assert "secret" not in pointsman.log_text()
    cluster.stop()


def test_wrong_password_is_told_in_the_log_and_not_to_death(processes):
    cluster = Replication(replicas=0, sentinels=0, password="right").start()
    pointsman = processes(Pointsman(cluster, wait="listen", upstream_password="wrong"))
    wait_for(lambda: "WRONGPASS" in pointsman.log_text() or "password" in pointsman.log_text(), 10, "the log to tell")
    time.sleep(2)
    assert len(pointsman.log_text().splitlines()) < 60
    with cluster.servers[0].client() as client:
        client.config_set("requirepass", "wrong")
    wait_for(pointsman.writes, 10, "writes once the password is right")
    cluster.stop()


def test_user_of_the_access_control_list_is_used_on_every_connection(processes):
    users = {"user": "app on >app-secret ~* &* +@all"}
    cluster = Replication(replicas=1, settings=users).start()
    before = {server: _users(server) for server in cluster.servers}
    assert all("app" not in users for users in before.values())
    pointsman = processes(Pointsman(cluster, upstream_username="app", upstream_password="app-secret"))
    usable(pointsman, cluster)
    with pointsman.raw() as link:
        link.ask("SUBSCRIBE", "c")
        with cluster.master.client() as client:
            addresses = {row["user"] for row in client.client_list() if row["cmd"] not in ("client|list", "client")}
    assert "app" in addresses
    for server in cluster.servers:
        with server.client() as client:
            foreign = [
                row for row in client.client_list()
                if row["user"] == "default" and row["flags"] == "N" and row["name"] == "" and "client" not in row["cmd"]
            ]  # fmt: skip
        # Sentinels name their connections; replication has its own flags. What is left would be pointsman's.
        assert not foreign, foreign
    cluster.stop()


def _users(server):
    with server.client() as client:
        return {row["user"] for row in client.client_list()}


def test_addresses_are_mapped(processes):
    cluster = Replication(replicas=1).start()
    relays = {node: Forwarder(node.port) for node in cluster.servers + cluster.sentinels}
    try:
        mapping = ", ".join(f"{node.address} = {relay.address}" for node, relay in relays.items())
        seeds = cluster.sentinels[0].address
        pointsman = processes(Pointsman(cluster, upstream_nodes=seeds, upstream_map=mapping))
        usable(pointsman, cluster)
        assert all(relays[server].accepted for server in cluster.servers)
        # Nothing but through the relays: with them gone, nothing passes.
        for relay in relays.values():
            relay.close()
        with pointsman.raw(timeout=2) as link:
            link.command("SET", "unmapped", 1)
            assert link.is_silent(1)
    finally:
        for relay in relays.values():
            relay.close()
        cluster.stop()


class WithHosts(Pointsman):
    """With a hosts file of its own."""

    def __init__(self, hosts, nodes, **keys):
        super().__init__(nodes, **keys)
        self.hosts = hosts

    def command(self):
        return ["unshare", "-m", "sh", "-c", f'mount --bind {self.hosts} /etc/hosts && exec "$@"', "sh", *super().command()]


def may_mount():
    return subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="only who may mount can give a process its own hosts file")
def test_name_that_moves_is_followed_though_its_old_address_still_answers_who_is_connected(processes):
    server = processes(Server("moving")).ready()
    hosts = server.directory / "hosts"
    hosts.write_text("127.0.0.2 redis.pointsman.test\n")
    with Forwarder(server.port, host="127.0.0.2") as old:
        pointsman = processes(WithHosts(hosts, f"redis.pointsman.test:{old.port}", upstream_kind="static"))
        with Forwarder(server.port, host="127.0.0.3", port=old.port) as new:
            hosts.write_text("127.0.0.3 redis.pointsman.test\n")
            old.drain()
            with server.client() as direct:
                for row in direct.client_list():
                    if row["cmd"] in ("set", "ping", "get"):  # workers'; the probe has asked for more
                        direct.client_kill_filter(_id=row["id"])
            wait_for(pointsman.writes, 8, "the name to be asked for anew")
            assert new.accepted > 0


def test_names_of_hosts_are_resolved(cluster, processes):
    nodes = cluster.nodes.replace(HOST, "localhost")
    usable(processes(Pointsman(cluster, upstream_nodes=nodes)), cluster)


def test_name_that_does_not_resolve_delays_nothing(cluster, processes):
    nodes = f"no-such-host.invalid:26379, {cluster.nodes}"
    usable(processes(Pointsman(cluster, upstream_nodes=nodes)), cluster)


def test_sentinels_that_speak_of_host_names_are_followed_over_a_failover(processes):
    cluster = Replication(
        sentinel_settings=["sentinel resolve-hostnames yes", "sentinel announce-hostnames yes"],
        settings={"replica-announce-ip": "localhost"}, monitor_host="localhost",
    ).start()  # fmt: skip
    pointsman = processes(Pointsman(cluster))
    usable(pointsman, cluster)
    cluster.failover(lambda master: master.kill())
    wait_for(pointsman.writes, 10, "writes to the new master")
    cluster.stop()


def test_master_name_chooses_among_several_and_its_lack_is_told(processes):
    one, two = (Replication(replicas=0, sentinels=0).start().servers[0] for _ in range(2))
    sentinel = processes(Sentinel("both", one, quorum=1, names={"one": one, "two": two})).ready()
    chosen = processes(Pointsman(sentinel.address, upstream_master_name="two"))
    with chosen.client() as client:
        client.set("which", "two")
    for server, expected in ((one, None), (two, b"two")):
        with server.client() as client:
            assert client.get("which") == expected
    for arguments in ({}, {"upstream_master_name": "three"}):
        lost = processes(Pointsman(sentinel.address, wait="listen", failover_hold_time="500ms", **arguments))
        with lost.raw() as link:
            assert b"no master" in link.ask("SET", "which", "x")
        assert "master_name" in lost.log_text() or "three" in lost.log_text()


def test_sentinel_that_is_alone_with_an_old_opinion_is_not_followed(own_cluster, processes):
    """One of three Sentinels is paused over a failover and wakes with the old master still in its head."""
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    late = own_cluster.sentinels.pop()
    late.pause()
    old, new = own_cluster.failover(lambda master: master.kill())
    wait_for(pointsman.writes, 10, "writes after the failover")
    late.resume()
    old.start(old_config=True).ready()
    with own_cluster.counting() as counts:
        write_many(pointsman, 300)
    assert counts.calls(new, "set") == 300
    assert counts.calls(old, "set") == 0 or old.role() == "slave"
    assert not counts.rejected(old)


def test_polls_keep_what_servers_remember_small(cluster, processes):
    processes(Pointsman(cluster)).wait_for_replicas(2)
    cluster.reset_stats()
    time.sleep(3)
    for server in cluster.servers:
        asked = sum(server.commandstats().values())
        assert asked < 200 * SLOWNESS, server.commandstats()
