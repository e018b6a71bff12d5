# SPDX-License-Identifier: BSD-2-Clause
"""What faults happen to: nodes behind Sentinels, in a Redis Cluster, or without anybody who looks after them.

A world has a victim, a master, and the replicas of this one. It knows how to become whole again after a fault, and what
is stored in the end. Its nodes lose nothing that they have acknowledged when they are killed and come back; what is lost
is what a replica that takes over has not got.
"""

import itertools
import socket
import subprocess
import threading
import time

import redis

from harness import HOST, MASTER_NAME, Forwarder, Pointsman, Replication, wait_for
from redis_cluster import RedisCluster, slot_of

DURABLE = {
    "appendonly": "yes", "appendfsync": "always", "auto-aof-rewrite-percentage": "0",
    "loading-process-events-interval-bytes": "1024", "client-output-buffer-limit": "replica 0 0 0",
}  # fmt: skip


class Relay(Forwarder):
    """Between the proxy and a node. Silent, it still takes connections and bytes, and lets none of them pass."""

    def __init__(self, target_port, **place):
        self._flows = threading.Event()
        self._flows.set()
        super().__init__(target_port, **place)

    def _pump(self, source, sink, gate, chunk):
        super()._pump(source, sink, self._flows, chunk)

    def be_silent(self):
        self._flows.clear()

    def speak(self):
        self._flows.set()

    def close(self):
        self.speak()
        super().close()


class World:
    """relayed: the proxy reaches each node through a relay of its own, so that the way alone can fail."""

    kind = None
    sentinels = ()
    rude = 4  # clients of rude.py

    def __init__(self, relayed=False):
        self.relayed = relayed
        self.relays = {}
        self.known_at = None  # the moment at which another master was known

    def start(self):
        self.make()
        if self.relayed:
            self.relays = {node: Relay(node.port) for node in self.nodes}
        self.victim = self.choose_victim()
        self.replicas = self.replicas_of(self.victim)
        return self

    def addresses(self, nodes):
        return ", ".join(self.relays[node].address if node in self.relays else node.address for node in nodes)

    def pointsman(self, **keys):
        if self.relays:
            keys["upstream_map"] = ", ".join(f"{node.address} = {relay.address}" for node, relay in self.relays.items())
        return Pointsman(self.seeds(), upstream_kind=self.kind, pool_idle_time="1s", **keys)

    def revive(self):
        """All run, all ways are open, with the limits that they were started with."""
        for relay in self.relays.values():
            relay.speak()
        for process in itertools.chain(self.nodes, self.sentinels):
            if process.is_alive():
                process.resume()
            else:
                process.kill()
                process.start()
        for process in itertools.chain(self.nodes, self.sentinels):
            process.ready()

    def heal(self):
        self.revive()
        wait_for(self.is_whole, 60, f"the {self.kind} to be whole again", every=0.1)

    def stored(self, keys):
        """Of these: those that are lists, those that are counters, by the word of the masters."""
        lists, counters = {}, {}
        for key in keys:
            with self.master_of(key).client() as client:
                if not key.startswith("list:"):
                    counters[key] = int(client.get(key) or 0)
                else:
                    lists[key] = [value.decode() for value in client.lrange(key, 0, -1)]
        return lists, counters

    def proxy_connections(self):
        """Connections of the proxy to all nodes: all but those of Sentinels and the one that asks."""
        count = 0
        for node in self.nodes:
            with node.client() as client:
                count += sum(not line["name"].startswith("sentinel") for line in client.client_list(_type="normal")) - 1
        return count

    def stop(self):
        for relay in self.relays.values():
            relay.close()
        for process in itertools.chain(self.sentinels, self.nodes):
            process.kill()


class ReplicationWorld(World):
    count_of_sentinels = 0
    count_of_replicas = 2

    def make(self):
        self.replication = Replication(replicas=self.count_of_replicas, sentinels=self.count_of_sentinels, settings=DURABLE).start()
        self.nodes, self.sentinels = self.replication.servers, self.replication.sentinels

    def choose_victim(self):
        return self.replication.master

    def replicas_of(self, master):
        return [node for node in self.nodes if node is not master]

    def master_of(self, _key):
        return self.replication.master

    def masters(self):
        return [self.replication.master]

    def is_whole(self):
        master = self.replication.master
        return master.role() == "master" and all(
            node.info("replication").get("master_port") == master.port and node.link_is_up()
            for node in self.nodes
            if node is not master
        )


class StaticWorld(ReplicationWorld):
    kind = "static"

    def seeds(self):
        return self.addresses(self.nodes)


class NamedWorld(StaticWorld):
    """One master, known by a name. The proxy has a hosts file of its own, by which the name can lead elsewhere."""

    count_of_replicas = 0
    name = "redis.pointsman.test"

    def make(self):
        super().make()
        self.hosts = self.nodes[0].directory / "hosts"
        self.numbers = itertools.count(2)
        self.relays = {self.nodes[0]: Relay(self.nodes[0].port, host=self.next_host())}

    @staticmethod
    def is_possible():
        """Only who may mount can give a process its own hosts file."""
        return subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0

    def next_host(self):
        host = f"127.0.0.{next(self.numbers)}"
        self.hosts.write_text(f"{host} {self.name}\n")
        return host

    def move_name(self):
        old = self.relays[self.nodes[0]]
        self.relays[self.nodes[0]] = Relay(self.nodes[0].port, host=self.next_host(), port=old.port)
        old.close()

    def pointsman(self, **keys):
        nodes = f"{self.name}:{self.relays[self.nodes[0]].port}"
        return WithHosts(self.hosts, nodes, upstream_kind=self.kind, pool_idle_time="1s", **keys)


class WithHosts(Pointsman):
    def __init__(self, hosts, nodes, **keys):
        super().__init__(nodes, **keys)
        self.hosts = hosts

    def command(self):
        mounting = f'mount --bind {self.hosts} /etc/hosts && exec "$@"'
        return ["unshare", "-m", "sh", "-c", mounting, "sh", *super().command()]


class SentinelWorld(ReplicationWorld):
    kind = "sentinel"
    count_of_sentinels = 3

    def seeds(self):
        return ", ".join(sentinel.address for sentinel in self.sentinels)

    def is_whole(self):
        """And no Sentinel is in the middle of something: for a second they go on naming whom they have just replaced."""
        states = [sentinel.state() for sentinel in self.sentinels]
        is_calm = all(state["flags"] == "master" for state in states)
        return is_calm and len({state["port"] for state in states}) == 1 and super().is_whole()

    def wait_switched(self, old):
        """Until most Sentinels name another master."""

        def is_switched():
            named = [sentinel.master_address()[1] for sentinel in self.sentinels[-2:]]
            return old.port not in named

        wait_for(is_switched, 60, "another master to be named")
        self.known_at = time.monotonic()

    def fail_over(self, sentinel):
        def is_begun():
            try:
                with sentinel.client() as client:
                    return client.execute_command("SENTINEL", "FAILOVER", MASTER_NAME)
            except redis.ResponseError as problem:
                assert "NOGOODSLAVE" in str(problem) or "INPROG" in str(problem)
                return None

        wait_for(is_begun, 40, "the Sentinel to begin a failover", every=0.2)


class ClusterWorld(World):
    kind = "cluster"
    rude = 0  # what they ask for needs one master

    def make(self):
        self.cluster = RedisCluster(settings=DURABLE | {"cluster-node-timeout": "1500"}).start()
        self.nodes = self.cluster.nodes

    def seeds(self):
        return self.addresses(self.nodes[:3])

    def choose_victim(self):
        victim = self.cluster.masters()[1]
        self.slot = min(victim.own_slots())  # one by which a new master is known
        return victim

    def replicas_of(self, master):
        return self.cluster.replicas_of(master)

    def master_of(self, key):
        return self.cluster.master_of(slot_of(key))

    def masters(self):
        return self.cluster.masters()

    def wait_switched(self, old):
        self.cluster.wait_new_master(self.slot, old, 60)
        self.known_at = time.monotonic()

    def is_whole(self):
        self.cluster.wait_ok(60)
        self.cluster.wait_whole(1, 60)
        return True


WORLDS = {"sentinel": SentinelWorld, "cluster": ClusterWorld, "static": StaticWorld, "named": NamedWorld}


def mute_listener(node):
    """Takes a dead node's place: accepts every connection and never says a word."""
    return socket.create_server((HOST, node.port), backlog=500)
