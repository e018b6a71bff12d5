# SPDX-License-Identifier: BSD-2-Clause
"""The control thread alone against real Redis Clusters, through build/topology_watch.

Guards against: nodes or slots that are not found, a lost master that is noticed late, an old one that is shown
again, addresses that are of no use to us, a map of slots that is asked for too often or never again.
"""

import time

import pytest
import redis

from harness import HOST, Raw, Server, free_port, wait_for
from test_control import Watch, now_us

SLOTS = 16384


class DiscoveredCluster:
    """Masters with an equal range of slots each, then their replicas."""

    def __init__(self, masters=3, replicas=0, settings=None, host=HOST, bind=None):
        self.host = host
        self.bind = bind or host
        self.buses = {}
        self.servers = [self.make(f"node{i}", settings) for i in range(masters * (1 + replicas))]
        self.masters = self.servers[:masters]

    def make(self, name, settings=None):
        bus = free_port()
        server = Server(
            name,
            bind=self.bind,
            settings={
                "cluster-enabled": "yes", "cluster-node-timeout": "1000", "cluster-port": bus,
                "cluster-replica-validity-factor": "0", **(settings or {}),
            },
        )
        if callable(server.settings.get("cluster-announce-port")):
            server.settings["cluster-announce-port"] = server.settings["cluster-announce-port"](server)
        self.buses[server] = bus
        return server

    def link(self, server):
        return redis.Redis(self.host, server.port, decode_responses=True, socket_timeout=10)

    def ask(self, server, *words):
        with self.link(server) as link:
            return link.execute_command(*words)

    def start(self):
        for server in self.servers:
            server.start()
        for server in self.servers:
            wait_for(lambda: self.ask(server, "PING"), what=f"{server.name} to answer")
        for i, server in enumerate(self.masters):
            first, after = SLOTS * i // len(self.masters), SLOTS * (i + 1) // len(self.masters)
            self.ask(server, "CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            self.ask(server, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for server in self.servers[1:]:
            self.meet(server)
        self.wait_until_known()
        for i, server in enumerate(self.servers[len(self.masters) :]):
            self.replicate(server, self.masters[i % len(self.masters)])
        self.settle()
        return self

    def meet(self, server):
        known = self.servers[0]
        self.ask(server, "CLUSTER", "MEET", self.host, known.port, self.buses[known])

    def wait_until_known(self):
        """Until each knows all others: then replicas can be told whom to follow."""
        ids = {self.id(server) for server in self.servers}
        knows_all = lambda server: {node[0] for node in self.nodes(server)} == ids
        wait_for(lambda: all(knows_all(server) for server in self.servers), 20, "all nodes to know each other")

    def replicate(self, server, master):
        self.ask(server, "CLUSTER", "REPLICATE", self.id(master))
        wait_for(lambda: self.ask(server, "ROLE")[3:4] == ["connected"], 20, f"{server.name} to follow")

    def settle(self):
        """Until all nodes say the same."""
        wait_for(lambda: len({self.picture(server) for server in self.servers if server.is_alive()}) == 1, 20)
        for server in self.servers:
            if server.is_alive():
                wait_for(lambda: self.is_well(server), 20, f"{server.name} to be well")

    def picture(self, server):
        return tuple(sorted((node[0], "master" in node[2], node[3], *node[8:]) for node in self.nodes(server)))

    def nodes(self, server):
        with Raw(server.port, self.host) as raw:
            return [line.split() for line in raw.ask("CLUSTER", "NODES").decode().splitlines()]

    def is_well(self, server):
        with Raw(server.port, self.host) as raw:
            return b"cluster_state:ok" in raw.ask("CLUSTER", "INFO")

    def id(self, server):
        return self.ask(server, "CLUSTER", "MYID")

    def address(self, server):
        return f"[{self.host}]:{server.port}" if ":" in self.host else f"{self.host}:{server.port}"

    def replicas_of(self, master):
        at = self.masters.index(master)
        return [s for i, s in enumerate(self.servers[len(self.masters) :]) if i % len(self.masters) == at]

    def move(self, slot, source, target):
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id(target))
        for server in (target, source):
            self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", self.id(target))

    def questions(self):
        """How often its nodes have been asked for the topology."""
        return sum(
            calls
            for server in self.servers
            for name, calls in server.commandstats().items()
            if name in ("cluster|shards", "cluster|slots", "cluster|nodes")
        )

    def stop(self):
        for server in self.servers:
            server.kill()


class ClusterWatch(Watch):
    def masters(self, fields):
        return [master for _, master, _, _ in shards_of(fields)]

    def is_whole(self, count):
        return lambda fields: (
            fields["uncovered"] == "0"
            and len(shards_of(fields)) == count
            and all(master != "none" and confirmed for _, master, confirmed, _ in shards_of(fields))
        )


def shards_of(fields):
    """(slots, master, confirmed, replicas) of each shard."""
    found = []
    for text in fields["shards"].split(";")[:-1]:
        slots, master, confirmed, replicas = text.split("|")
        ranges = [tuple(map(int, part.split("-"))) for part in slots.split("+")[:-1]]
        found.append((ranges, master, int(confirmed), set(replicas.split(",")[:-1])))
    return found


def master_of(fields, slot):
    for ranges, master, _, _ in shards_of(fields):
        if any(first <= slot <= last for first, last in ranges):
            return master
    return None


@pytest.fixture
def watching():
    """Starts a watch on a cluster; all ends after the test."""
    started = []

    def start(cluster, *options, seed=0, kind="cluster"):
        seeds = cluster.address(cluster.servers[seed])
        watch = ClusterWatch(f"--upstream.nodes={seeds}", f"--upstream.kind={kind}", *options)
        started.append(watch)
        return watch

    yield start
    for watch in started:
        watch.close()


@pytest.fixture
def made():
    clusters = []

    def make(*words, **options):
        clusters.append(DiscoveredCluster(*words, **options).start())
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.stop()


@pytest.mark.parametrize("kind, seed", [("auto", 0), ("cluster", 5)])
def test_all_is_found_through_one_seed(made, watching, kind, seed):
    cluster = made(3, 1)
    watch = watching(cluster, kind=kind, seed=seed)
    _, fields = watch.wait(lambda f: "shards" in f and watch.is_whole(3)(f) and all(s[3] for s in shards_of(f)))
    assert fields["kind"] == "cluster"
    assert set(fields["nodes"].split(",")[:-1]) == {cluster.address(server) for server in cluster.servers}
    for i, master in enumerate(cluster.masters):
        slots = [(SLOTS * i // 3, SLOTS * (i + 1) // 3 - 1)]
        replicas = {cluster.address(server) for server in cluster.replicas_of(master)}
        assert (slots, cluster.address(master), replicas) in [(s[0], s[1], s[3]) for s in shards_of(fields)]


def test_a_killed_master_is_replaced_and_others_stay(made, watching):
    cluster = made(3, 1)
    watch = watching(cluster)
    watch.wait(watch.is_whole(3))
    lost = cluster.masters[0]
    heir = cluster.address(cluster.replicas_of(lost)[0])
    lost.kill()
    killed_us = now_us()
    watch.tell("master")
    watch.wait(lambda f: master_of(f, 0) == "none", killed_us)
    taken_us, _ = watch.wait(lambda f: master_of(f, 0) == heir, killed_us)
    others = [cluster.address(server) for server in cluster.masters[1:]]
    lost.start()
    wait_for(lambda: cluster.ask(lost, "ROLE")[0] == "slave", 20, "the old master to be a replica")
    watch.tell("moved " + heir)
    watch.wait(lambda f: any(cluster.address(lost) in shard[3] for shard in shards_of(f)), taken_us - 1)
    for at_us, fields in watch.snapshots:
        if at_us > killed_us:
            assert set(others) <= set(watch.masters(fields)), "a shard that nothing happened to lost its master"
        if at_us > taken_us:
            assert master_of(fields, 0) == heir, "the old master was shown again, or none"


def test_a_frozen_master_is_replaced_and_does_not_come_back(made, watching):
    cluster = made(3, 1)
    watch = watching(cluster)
    watch.wait(watch.is_whole(3))
    frozen = cluster.masters[2]
    heir = cluster.address(cluster.replicas_of(frozen)[0])
    frozen.pause()
    paused_us = now_us()
    taken_us, _ = watch.wait(lambda f: master_of(f, SLOTS - 1) == heir, paused_us, 30)
    frozen.resume()
    watch.wait(lambda f: any(cluster.address(frozen) in shard[3] for shard in shards_of(f)), taken_us - 1, 30)
    others = {cluster.address(server) for server in cluster.masters[:2]}
    for at_us, fields in watch.snapshots:
        if at_us > paused_us:
            assert others <= set(watch.masters(fields))
        if at_us > taken_us:
            assert master_of(fields, SLOTS - 1) == heir


@pytest.mark.parametrize("how", [(), ("FORCE",), ("TAKEOVER",)])
def test_a_failover_by_hand_is_seen(made, watching, how):
    cluster = made(3, 1)
    watch = watching(cluster)
    watch.wait(watch.is_whole(3))
    old = cluster.masters[1]
    heir = cluster.replicas_of(old)[0]
    asked_us = now_us()
    cluster.ask(heir, "CLUSTER", "FAILOVER", *how)
    wait_for(lambda: cluster.ask(heir, "ROLE")[0] == "master", 20)
    slot = SLOTS // 2
    seen_us, _ = watch.wait(lambda f: master_of(f, slot) == cluster.address(heir), asked_us, 10)
    watch.wait(lambda f: any(cluster.address(old) in shard[3] for shard in shards_of(f)), seen_us - 1, 20)


def test_a_master_that_most_nodes_name_later_is_confirmed_then(made, watching):
    """The first to be asked may be the one that has just been elected, and no other knows of it; after that nothing else
    changes."""
    cluster = made(3, 1)
    watch = watching(cluster)
    watch.wait(watch.is_whole(3))
    heir, old = cluster.masters[0], cluster.replicas_of(cluster.masters[0])[0]
    for _ in range(6):
        heir, old = old, heir
        frozen_us = now_us()
        old.pause()
        wait_for(lambda: cluster.ask(heir, "ROLE")[0] == "master", 30, "the replica to be elected")
        watch.wait(lambda f: master_of(f, 0) == cluster.address(heir) and watch.is_whole(3)(f), frozen_us, 10)
        old.resume()
        wait_for(lambda: cluster.ask(old, "ROLE")[3:4] == ["connected"], 20, "the old master to follow")
        cluster.settle()  # a replica that has not heard of its master's slots yet would not stand for election


def test_a_failover_that_a_redirect_tells_of_is_seen_at_once(made, watching):
    cluster = made(3, 1)
    watch = watching(cluster, "--pool.health_interval=30s")
    watch.wait(watch.is_whole(3))
    heir = cluster.replicas_of(cluster.masters[1])[0]
    cluster.ask(heir, "CLUSTER", "FAILOVER")
    wait_for(lambda: cluster.ask(heir, "ROLE")[0] == "master", 20)
    asked_us = now_us()
    watch.tell("moved " + cluster.address(heir))
    watch.wait(lambda f: master_of(f, SLOTS // 2) == cluster.address(heir), asked_us, 5)


def test_a_doubted_master_that_is_well_is_confirmed_soon(made, watching):
    cluster = made(3, 1)
    watch = watching(cluster)
    watch.wait(watch.is_whole(3))
    took_us = []
    for _ in range(5):
        time.sleep(0.3)
        asked_us = now_us()
        watch.tell("master")
        seen_us, _ = watch.wait(lambda f: all(shard[2] > asked_us for shard in shards_of(f)), asked_us, 5)
        took_us.append(seen_us - asked_us)
    assert min(took_us) < 100_000

    one = cluster.address(cluster.masters[1])
    asked_us = now_us()
    watch.tell("master " + one)
    watch.wait(lambda f: any(shard[1] == one and shard[2] > asked_us for shard in shards_of(f)), asked_us, 5)


def test_a_slot_that_was_moved_is_seen_after_a_report(made, watching):
    cluster = made(3)
    watch = watching(cluster)
    _, fields = watch.wait(watch.is_whole(3))
    source, target = cluster.masters[0], cluster.masters[2]
    before = watch.masters(fields)
    moved_us = now_us()
    cluster.move(0, source, target)
    watch.tell("moved " + cluster.address(target))
    _, fields = watch.wait(lambda f: master_of(f, 0) == cluster.address(target), moved_us, 6)
    assert master_of(fields, 1) == cluster.address(source)
    assert watch.masters(fields) == before, "shards keep their places"


def test_moving_many_slots_costs_few_questions(made, watching):
    cluster = made(3)
    watch = watching(cluster)
    watch.wait(watch.is_whole(3))
    source, target = cluster.masters[0], cluster.masters[1]
    target_id = cluster.id(target)
    time.sleep(2.5)
    asked_before, began = cluster.questions(), time.monotonic()
    with cluster.link(source) as from_link, cluster.link(target) as to_link:
        for slot in range(1000):
            for link in (to_link, from_link):
                link.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
            watch.tell(f"moved {cluster.address(target)} 100")
            time.sleep(max(0, began + slot * 0.008 - time.monotonic()))
    seconds = time.monotonic() - began
    asked = cluster.questions() - asked_before
    assert 2 <= asked < 2 * seconds, f"{asked} questions in {seconds:.1f} s"
    moved_us = now_us()
    watch.tell("moved " + cluster.address(target))
    watch.wait(lambda f: all(master_of(f, s) == cluster.address(target) for s in (0, 500, 999)), moved_us - 5_000_000)


def test_a_slot_without_owner_is_told_and_found_again(made, watching):
    cluster = made(3, settings={"cluster-require-full-coverage": "no"})
    watch = watching(cluster)
    watch.wait(watch.is_whole(3))
    for server in cluster.servers:
        cluster.ask(server, "CLUSTER", "DELSLOTS", 5)
    watch.tell("uncovered")
    gone_us, _ = watch.wait(lambda f: f["uncovered"] == "1", 0, 6)
    cluster.ask(cluster.masters[1], "CLUSTER", "ADDSLOTS", 5)
    watch.wait(lambda f: master_of(f, 5) == cluster.address(cluster.masters[1]), gone_us, 20)


def test_nodes_come_and_go(made, watching):
    cluster = made(3)
    watch = watching(cluster)
    watch.wait(watch.is_whole(3))
    new = cluster.make("new")
    new.start()
    wait_for(lambda: cluster.ask(new, "PING"))
    cluster.servers.append(new)
    cluster.meet(new)
    cluster.wait_until_known()
    cluster.settle()
    come_us = now_us()
    watch.tell("moved " + cluster.address(new))
    watch.wait(lambda f: cluster.address(new) in f["nodes"], come_us)  # no shard yet: it has no slots

    cluster.servers.remove(new)
    gone_id = cluster.id(new)
    for server in cluster.servers:
        cluster.ask(server, "CLUSTER", "FORGET", gone_id)
    new.kill()
    gone_us = now_us()
    watch.tell("uncovered")
    watch.wait(lambda f: cluster.address(new) not in f["nodes"] and len(shards_of(f)) == 3, gone_us)


def test_names_are_resolved(made, watching):
    settings = {"cluster-announce-hostname": "localhost", "cluster-preferred-endpoint-type": "hostname"}
    cluster = made(3, 1, settings=settings)
    watch = watching(cluster)
    watch.wait(lambda f: watch.is_whole(3)(f) and all(shard[3] for shard in shards_of(f)))
    named = {f"localhost:{server.port}" for server in cluster.servers}
    seed = {cluster.address(cluster.servers[0])}  # is known by one of its two names
    watch.wait(lambda f: len(set(f["nodes"].split(",")[:-1]) - named) <= 1 and f["nodes"].count(",") == 6)
    assert set(watch.snapshots[-1][1]["nodes"].split(",")[:-1]) <= named | seed


def test_names_that_are_not_set_are_replaced_by_addresses(made, watching):
    cluster = made(3, settings={"cluster-preferred-endpoint-type": "hostname"})
    watch = watching(cluster)
    _, fields = watch.wait(watch.is_whole(3))
    assert set(watch.masters(fields)) == {cluster.address(server) for server in cluster.masters}


def test_unknown_endpoints_mean_the_host_that_was_asked(made, watching):
    cluster = made(3, settings={"cluster-preferred-endpoint-type": "unknown-endpoint"})
    watch = ClusterWatch(f"--upstream.nodes=localhost:{cluster.servers[0].port}", "--upstream.kind=cluster")
    _, fields = watch.wait(watch.is_whole(3))
    watch.close()
    assert set(watch.masters(fields)) == {f"localhost:{server.port}" for server in cluster.masters}


def test_replicas_that_know_their_master_by_another_address_are_of_use(made):
    """Behind a router: the nodes know each other by addresses of their own network, we reach them at others."""
    cluster = made(3, 1, settings={"cluster-preferred-endpoint-type": "unknown-endpoint"}, bind=f"{HOST} 127.0.0.2")
    watch = ClusterWatch(f"--upstream.nodes=127.0.0.2:{cluster.servers[0].port}", "--upstream.kind=cluster")
    _, fields = watch.wait(lambda f: watch.is_whole(3)(f) and all(shard[3] for shard in shards_of(f)))
    watch.close()
    assert {name.split(":")[0] for name in fields["nodes"].split(",")[:-1]} == {"127.0.0.2"}


def test_announced_addresses_are_mapped(made, watching):
    cluster = made(3, settings={"cluster-announce-port": lambda server: free_port()})
    announced = {server: server.settings["cluster-announce-port"] for server in cluster.servers}
    mapping = ",".join(f"{HOST}:{port}={HOST}:{server.port}" for server, port in announced.items())
    watch = watching(cluster, f"--upstream.map={mapping}")
    _, fields = watch.wait(watch.is_whole(3))
    assert set(fields["nodes"].split(",")[:-1]) == {cluster.address(server) for server in cluster.servers}
    moved_us = now_us()  # it may be seen at once, before anybody tells of it
    cluster.move(0, cluster.masters[0], cluster.masters[1])
    watch.tell(f"moved {HOST}:{announced[cluster.masters[1]]}")
    watch.wait(lambda f: master_of(f, 0) == cluster.address(cluster.masters[1]), moved_us, 6)


def test_ipv6(made, watching):
    cluster = made(3, 1, host="::1")
    watch = watching(cluster)
    _, fields = watch.wait(lambda f: watch.is_whole(3)(f) and all(shard[3] for shard in shards_of(f)))
    assert set(watch.masters(fields)) == {cluster.address(server) for server in cluster.masters}
    moved_us = now_us()  # it may be seen at once, before anybody tells of it
    cluster.move(0, cluster.masters[0], cluster.masters[1])
    watch.tell(f"moved ::1:{cluster.masters[1].port}")
    watch.wait(lambda f: master_of(f, 0) == cluster.address(cluster.masters[1]), moved_us, 6)


def test_servers_without_cluster_shards_are_asked_for_slots(made, watching):
    cluster = made(3, 1, settings={"user": "proxy on >secret ~* &* +@all -cluster|shards"})
    watch = watching(cluster, "--upstream.username=proxy", "--upstream.password=secret")
    watch.wait(lambda f: watch.is_whole(3)(f) and all(shard[3] for shard in shards_of(f)))
    lost = cluster.masters[0]
    heir = cluster.address(cluster.replicas_of(lost)[0])
    lost.kill()
    killed_us = now_us()
    watch.tell("master")
    watch.wait(lambda f: master_of(f, 0) == heir, killed_us)
    asked = [server.rejected().get("cluster|shards", 0) for server in cluster.servers if server.is_alive()]
    assert sum(asked) <= 2 * len(asked)  # once each, or once more where the first answer came late


def test_a_cluster_that_was_gone_is_found_again(made, watching):
    cluster = made(3)
    watch = watching(cluster)
    watch.wait(watch.is_whole(3))
    for server in cluster.servers:
        server.kill()
    killed_us = now_us()
    watch.tell("master")
    time.sleep(2)
    for server in cluster.servers:
        server.start()
    started_us = now_us()
    watch.wait(lambda f: all(shard[2] > started_us for shard in shards_of(f)) and watch.is_whole(3)(f), killed_us)


def test_a_cluster_on_other_nodes_is_found_through_its_seed(made, watching):
    """The seed is one name for whoever is there: the nodes that were found go, others answer at the seed's place."""
    first = made(1)
    watch = watching(first)
    watch.wait(watch.is_whole(1))
    port = first.servers[0].port
    first.stop()
    (first.servers[0].directory / "nodes.conf").unlink()
    second = DiscoveredCluster(2)
    second.servers[0].port = port
    try:
        second.start()
        watch.wait(watch.is_whole(2), seconds=30)
    finally:
        second.stop()
