# SPDX-License-Identifier: BSD-2-Clause
"""PROXY SWITCHOVER: another node becomes the master because somebody wants it so; no write is lost, whatever happens."""

import os
import statistics
import threading
import time

import pytest
import redis

from harness import MASTER_NAME, SLOWNESS, Pointsman, Replication, wait_for
from redis_cluster import RedisCluster
from test_distribution import Shards
from test_failover import start_counters
from test_handover import longest_pause

COUNTERS = 10
ROUNDS = int(os.environ.get("SWITCHOVER_ROUNDS", 2))
REFUSED = b"the master is the one before"


@pytest.fixture(scope="module")
def replication():
    """A master, two replicas and three Sentinels, which the tests leave well, whoever is the master then."""
    made = Replication().start()
    for sentinel in made.sentinels:
        sentinel.hurry()  # what a Sentinel asks its nodes for every ten seconds it asks for now all the time
    yield made
    made.stop()


@pytest.fixture
def through(replication, processes):
    wait_until_well(replication)
    return processes(Pointsman(replication)).wait_for_replicas(2)


def wait_until_well(replication):
    """All Sentinels agree, and find both replicas well."""

    def is_well(sentinel):
        with sentinel.client() as client:
            replicas = client.sentinel_slaves(MASTER_NAME)
        return sentinel.state()["flags"] == "master" and len(replicas) == 2 and all(
            replica["flags"] == "slave" and replica["master-link-status"] == "ok" for replica in replicas)  # fmt: skip

    wait_for(lambda: all(is_well(sentinel) for sentinel in replication.sentinels), 60, "all to be well", every=0.2)


def switch(link, *wanted):
    """Again while a Sentinel has not yet got over the last time."""
    transient = (b"INPROG", b"NOGOODSLAVE", b"choosing a replica")

    def is_done():
        reply = link.ask("PROXY", "SWITCHOVER", *wanted)
        return None if isinstance(reply, bytes) and any(word in reply for word in transient) else reply

    return wait_for(is_done, 60, "a switchover to begin", every=0.5)


def finish(counters, master):
    for counter in counters:
        counter.finish()
        assert not counter.broken and not counter.errors
    with master.client() as client:
        assert [int(client.get(counter.key)) for counter in counters] == [len(counter.values) for counter in counters]


def priorities(replication):
    found = []
    for server in replication.servers:
        with server.client() as client:
            found.append(client.config_get("replica-priority")["replica-priority"])
    return found


def lets_all_write(server):
    """Directly: nobody is paused there any more."""
    with server.client(socket_timeout=2 * SLOWNESS) as client:
        return client.set("switchover:direct", 1)


def clear(through):
    with through.client() as client:
        client.delete(*[f"counter:{number}" for number in range(COUNTERS)])


def test_the_best_replica_becomes_the_master_and_no_acknowledged_write_is_lost(replication, through):
    clear(through)
    counters = start_counters(through, COUNTERS)
    pauses = []
    with through.raw(timeout=60) as link:
        for _ in range(ROUNDS):
            wait_until_well(replication)
            old = replication.master
            began = time.monotonic()
            report = switch(link)
            assert isinstance(report, list) and all(line.endswith(b" ms") for line in report), report
            words = b"; ".join(report)
            for step in (b"chosen: ", b"writes are held", b"every byte", b"failover begun", b"is the master", b"done: "):
                assert step in words
            assert old.role() == "slave"
            assert link.ask("SET", "switchover:x", 1) == b"OK"
            told = time.monotonic()
            wait_for(lambda: all(counter.times[-1] > told for counter in counters), what="all to write")
            pauses += [longest_pause(counter, began) for counter in counters]
            wait_for(lambda: replication.master is not old, 20)
    finish(counters, replication.master)
    print(f"{sum(len(counter.values) for counter in counters)} increments, pauses of {min(pauses) * 1e3:.0f} to "
          f"{max(pauses) * 1e3:.0f} ms, median {statistics.median(pauses) * 1e3:.0f} ms; {words.decode()}")  # fmt: skip
    assert statistics.median(pauses) < 0.5 * SLOWNESS
    wait_for(old.link_is_up, 20)


class Outsider(threading.Thread):
    """Writes to the master as long as it takes writes, past the proxy."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.acknowledged = server, 0

    def run(self):
        with self.server.client(socket_timeout=30) as client:
            try:
                while True:
                    self.acknowledged = client.incr("switchover:outside")
            except (redis.ReadOnlyError, redis.ConnectionError):
                pass


def test_who_writes_past_the_proxy_loses_nothing_either(replication, through):
    with through.client() as client:
        client.delete("switchover:outside")
    outsider = Outsider(replication.master)
    outsider.start()
    wait_for(lambda: outsider.acknowledged > 100)
    with through.raw(timeout=60) as link:
        assert isinstance(switch(link), list)
        outsider.join(20)
        assert not outsider.is_alive()
        assert int(link.ask("GET", "switchover:outside")) >= outsider.acknowledged


def test_the_replica_that_is_named_becomes_the_master_and_priorities_are_as_before(replication, through):
    clear(through)
    counters = start_counters(through, COUNTERS)
    with through.raw(timeout=60) as link:
        for _ in range(2):
            wait_until_well(replication)
            wanted = sorted(replication.replicas, key=lambda server: server.port)[0]
            report = switch(link, wanted.address)
            assert isinstance(report, list), report
            assert any(b"replica-priority of %s set from 100 to 99" % wanted.address.encode() in line for line in report)
            assert wanted.role() == "master"
            assert priorities(replication) == ["100"] * 3
            assert "replica-priority" not in wanted_file(wanted).replace("replica-priority 100", "")
    finish(counters, wanted)


def wanted_file(server):
    return next(path for path in server.directory.iterdir() if path.name.endswith(".conf")).read_text()


def test_what_cannot_be_is_refused_before_anything_is_done(replication, through):
    wait_until_well(replication)
    master, (one, other) = replication.master, replication.replicas
    counts = [server.commandstats().get("client|pause", 0) for server in replication.servers]
    with through.raw(timeout=60) as link:
        assert b"no node 127.0.0.1:1 is known; " + REFUSED in link.ask("PROXY", "SWITCHOVER", "127.0.0.1:1")
        assert b"is the master already; " + REFUSED in link.ask("PROXY", "SWITCHOVER", master.address)
        assert link.ask("PROXY", "SWITCHOVER", "a", "b") == b"ERR wrong number of arguments for 'proxy|switchover' command"
        try:
            for about, priority, wanted, words in (
                (one, 0, one, b"has replica-priority 0: it is never promoted"),
                (one, 1, other, b"%s has replica-priority 1, so that a Sentinel promotes no other" % one.address.encode()),
            ):  # fmt: skip
                with about.client() as client:
                    client.config_set("replica-priority", priority)
                wait_for(lambda: words in link.ask("PROXY", "SWITCHOVER", wanted.address) if known(replication, about, priority) else False, 20)  # fmt: skip
        finally:
            for server in (one, other):
                with server.client() as client:
                    client.config_set("replica-priority", 100)
            wait_for(lambda: known(replication, one, 100), 20)
    assert replication.master is master and priorities(replication) == ["100"] * 3
    assert [server.commandstats().get("client|pause", 0) for server in replication.servers] == counts


def known(replication, server, priority):
    """All Sentinels know it, and the proxy, which asks them every second, soon does."""
    for sentinel in replication.sentinels:
        with sentinel.client() as client:
            replicas = {replica["port"]: replica for replica in client.sentinel_slaves(MASTER_NAME)}
        if int(replicas[server.port]["slave-priority"]) != priority:
            return False
    time.sleep(1.2)
    return True


def test_a_replica_that_does_not_catch_up_ends_it_and_all_is_as_before(replication, through):
    clear(through)
    wait_until_well(replication)
    counters = start_counters(through, COUNTERS)
    master, slow = replication.master, replication.replicas[0]
    with through.raw(timeout=60) as link, slow.client() as direct:
        direct.client_pause(60000, all=False)  # takes no write from its master, and answers all else
        try:
            reply = link.ask("PROXY", "SWITCHOVER")
        finally:
            direct.client_unpause()
        assert reply == (
            b"ERR pointsman: switchover failed, waiting until the replica has every byte: %s has not all of it; %s"
            % (slow.address.encode(), REFUSED))  # fmt: skip
        assert lets_all_write(master) and master.role() == "master"
    held = [counter.times[-1] for counter in counters]
    wait_for(lambda: all(c.times[-1] > since for c, since in zip(counters, held)), what="writes to go on")
    assert replication.master is master
    finish(counters, master)


def test_replicas_that_hang_end_it_and_all_is_as_before(replication, through):
    clear(through)
    wait_until_well(replication)
    counters = start_counters(through, COUNTERS)
    master, replicas = replication.master, replication.replicas
    with through.raw(timeout=60) as link:
        for replica in replicas:
            replica.pause()
        try:
            reply = link.ask("PROXY", "SWITCHOVER")
        finally:
            for replica in replicas:
                replica.resume()
        assert reply.startswith(b"ERR pointsman: switchover failed, ") and reply.endswith(REFUSED), reply
        assert lets_all_write(master) and master.role() == "master"
    held = [counter.times[-1] for counter in counters]
    wait_for(lambda: all(c.times[-1] > since for c, since in zip(counters, held)), what="writes to go on")
    finish(counters, master)


def test_a_sentinel_that_refuses_ends_it_and_all_is_as_before(replication, processes):
    """It does so only when writes are held already, and the master is paused."""
    wait_until_well(replication)
    for sentinel in replication.sentinels:
        with sentinel.client() as client:
            client.execute_command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-sentinel|failover")
    through = processes(
        Pointsman(replication, upstream_sentinel_username="limited", upstream_sentinel_password="secret")
    ).wait_for_replicas(2)
    clear(through)
    counters = start_counters(through, COUNTERS)
    master = replication.master
    pauses = master.commandstats().get("client|pause", 0)
    with through.raw(timeout=60) as link:
        for wanted in ([], [replication.replicas[0].address]):
            reply = link.ask("PROXY", "SWITCHOVER", *wanted)
            assert reply.startswith(b"ERR pointsman: switchover failed, asking for the failover: NOPERM"), reply
            assert REFUSED in reply
            assert lets_all_write(master)
    assert master.commandstats()["client|pause"] == pauses + 2
    assert priorities(replication) == ["100"] * 3
    held = [counter.times[-1] for counter in counters]
    wait_for(lambda: all(c.times[-1] > since for c, since in zip(counters, held)), what="writes to go on")
    assert replication.master is master
    finish(counters, master)


def with_user(replication, processes, *forbidden):
    for server in replication.servers:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "&*", "+@all", *forbidden)
    return processes(Pointsman(replication, upstream_username="limited", upstream_password="secret")).wait_for_replicas(2)


def test_a_master_that_may_not_be_paused_ends_it_before_anything_is_done(replication, processes):
    wait_until_well(replication)
    through, master = with_user(replication, processes, "-client|pause"), replication.master
    with through.raw(timeout=60) as link:
        reply = link.ask("PROXY", "SWITCHOVER")
        assert reply.startswith(b"ERR pointsman: switchover failed, CLIENT PAUSE at the master: NOPERM"), reply
        assert reply.endswith(REFUSED)
        assert link.ask("SET", "switchover:x", 1) == b"OK"
    assert master.role() == "master" and replication.master is master


def test_what_fails_behind_the_new_master_is_told_and_undoes_nothing(replication, processes):
    """The old one is then made a replica by the Sentinels, after a while, as after any failover."""
    wait_until_well(replication)
    through, old = with_user(replication, processes, "-replicaof"), replication.master
    clear(through)
    counters = start_counters(through, COUNTERS)
    with through.raw(timeout=60) as link:
        report = switch(link)
        assert isinstance(report, list), report
        assert any(line.startswith(b"not done, making the old master a replica: NOPERM") for line in report)
        assert any(line.startswith(b"writes of others go on") for line in report)
    for sentinel in replication.sentinels:
        sentinel.hurry(False)  # in a hurry they never come to that
    wait_for(lambda: old.role() == "slave", 40, "the Sentinels to make it a replica", every=0.2)
    for sentinel in replication.sentinels:
        sentinel.hurry()
    finish(counters, replication.master)


def test_one_at_a_time_and_it_goes_on_when_who_asked_for_it_goes(replication, through):
    wait_until_well(replication)
    for sentinel in replication.sentinels:
        sentinel.hurry(False)  # so that it takes a while until they know of a priority
    old, wanted = replication.master, replication.replicas[0]
    try:
        with through.raw(timeout=60) as link, through.raw(timeout=60) as other:
            link.command("PROXY", "SWITCHOVER", wanted.address)
            wait_for(lambda: "set from 100 to 99" in through.log_text(), 10, "the priority to be set")
            assert other.ask("PROXY", "SWITCHOVER") == (
                b"ERR pointsman: a switchover is under way already; nothing was changed")  # fmt: skip
            assert other.ask("SET", "switchover:x", 1) == b"OK"  # nobody is disturbed meanwhile
        wait_for(lambda: wanted.role() == "master", 40, "the wanted one to be the master", every=0.1)
        wait_for(lambda: priorities(replication) == ["100"] * 3, 20)
        assert old.role() == "slave"
    finally:
        for sentinel in replication.sentinels:
            sentinel.hurry()


def test_proxy_that_ends_meanwhile_says_what_it_leaves(replication, processes):
    wait_until_well(replication)
    through = processes(Pointsman(replication, proxy_drain_time="100ms")).wait_for_replicas(2)
    for sentinel in replication.sentinels:
        sentinel.hurry(False)
    wanted = replication.replicas[0]
    try:
        with through.raw(timeout=60) as link:
            link.command("PROXY", "SWITCHOVER", wanted.address)
            wait_for(lambda: "set from 100 to 99" in through.log_text(), 10, "the priority to be set")
            through.stop()
        assert f"{wanted.address} has replica-priority 99; set it to 100 again" in through.log_text()
    finally:
        with wanted.client() as client:
            client.config_set("replica-priority", 100)
        for sentinel in replication.sentinels:
            sentinel.hurry()


def test_nodes_that_are_listed_by_hand_are_not_switched(pair, processes):
    proxy = processes(Pointsman(pair))
    with proxy.raw() as link:
        assert link.ask("PROXY", "SWITCHOVER", pair.replicas[0].address).startswith(
            b"ERR pointsman: switchover needs Sentinels or a Redis Cluster")  # fmt: skip
        assert link.ask("SET", "switchover:x", 1) == b"OK"


def test_of_several_masters_that_of_the_named_replica_is_replaced(processes):
    shards = Shards()
    keys = {f"upstream_{key}": value for key, value in shards.settings.items()}
    proxy = processes(Pointsman(None, upstream_kind="sentinel", upstream_distribution="slots", **keys))
    before = shards.ports()
    counters = start_counters(proxy, COUNTERS)
    wanted = shards.groups[1].servers[1]
    with proxy.raw(timeout=60) as link:
        assert b"there are several masters: name the replica; " + REFUSED in link.ask("PROXY", "SWITCHOVER")
        report = switch(link, wanted.address)
        assert isinstance(report, list), report
        assert wanted.role() == "master"
    told = time.monotonic()
    wait_for(lambda: all(counter.times[-1] > told for counter in counters), what="all to write")
    wait_for(lambda: shards.ports() == [before[0], wanted.port, before[2]], 20)
    for counter in counters:
        counter.finish()
        assert not counter.broken and not counter.errors
    with proxy.client() as client:
        assert [int(client.get(counter.key)) for counter in counters] == [len(counter.values) for counter in counters]
    proxy.stop()
    shards.stop()


# ------------------------------------------------------------------------------------ a Redis Cluster


@pytest.fixture(scope="module")
def nodes():
    cluster = RedisCluster(3, 1).start()
    yield cluster
    cluster.stop()


def test_a_replica_of_a_redis_cluster_becomes_the_master_of_its_shard(nodes, processes):
    proxy = processes(Pointsman(nodes.seeds, upstream_kind="cluster", reads_policy="master"))
    counters = start_counters(proxy, COUNTERS)
    with proxy.raw(timeout=60) as link:
        assert b"there are several masters: name the replica; " + REFUSED in link.ask("PROXY", "SWITCHOVER")
        for _ in range(2):
            old = nodes.master_of("counter:0")
            (new,) = wait_for(lambda: nodes.replicas_of(nodes.master_of("counter:0")), 20, "the replica to be one")
            assert b"is the master already" in link.ask("PROXY", "SWITCHOVER", old.address)
            lines = link.ask("PROXY", "SWITCHOVER", new.address)
            assert isinstance(lines, list) and any(b"is the master" in line for line in lines), lines
            wait_for(lambda: old.role() == "slave", 10)
            assert new.role() == "master"
    told = [counter.times[-1] for counter in counters]
    wait_for(lambda: all(c.times[-1] > since for c, since in zip(counters, told)), 20, "all to write")
    for counter in counters:
        counter.finish()
        assert not counter.broken and not counter.errors
    longest = max(counter.longest for counter in counters)
    print(f"longest pause {longest * 1e3:.0f} ms; {lines}")
    with proxy.client() as client:
        assert [int(client.get(counter.key)) for counter in counters] == [len(counter.values) for counter in counters]
