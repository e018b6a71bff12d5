# SPDX-License-Identifier: BSD-2-Clause
"""Real Redis Clusters for the tests: made by hand, which is faster than redis-cli --cluster create, and in known order."""

import subprocess
import threading
import time

import redis

import harness
from harness import HOST, SLOWNESS, Server, wait_for

SLOTS = 16384
CRC = []
for _byte in range(256):
    _crc = _byte << 8
    for _ in range(8):
        _crc = (_crc << 1 ^ 0x1021) & 0xFFFF if _crc & 0x8000 else _crc << 1 & 0xFFFF
    CRC.append(_crc)


def slot_of(key):
    data = key if isinstance(key, bytes) else str(key).encode()
    begin = data.find(b"{")
    end = data.find(b"}", begin + 1) if begin >= 0 else -1
    if end > begin + 1:
        data = data[begin + 1 : end]
    crc = 0
    for byte in data:
        crc = (crc << 8 ^ CRC[(crc >> 8 ^ byte) & 0xFF]) & 0xFFFF
    return crc % SLOTS


def bus_port():
    """Nodes talk to each other on a port of their own."""
    return harness.free_port()


class ClusterNode(Server):
    def __init__(self, name, settings, password=None, bind=HOST):
        self.bus = bus_port()
        settings = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": str(int(1500 * SLOWNESS)),
            "cluster-port": str(self.bus),
            "cluster-replica-validity-factor": "0",
            "notify-keyspace-events": "KEA",
            "appendonly": "no",
            **settings,
        }
        super().__init__(name, password=password, settings=settings, bind=bind)

    @property
    def id(self):
        return self.ask("CLUSTER", "MYID")

    def ask(self, *words):
        """Texts, whatever python3-redis would make of the reply."""
        with self.client(decode_responses=True) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    def cluster_info(self):
        return dict(line.split(":", 1) for line in self.ask("CLUSTER", "INFO").split("\r\n") if ":" in line)

    def own_slots(self):
        """Those that it says are its own, without those on their way."""
        line = next(line for line in self.ask("CLUSTER", "NODES").splitlines() if "myself" in line.split()[2])
        slots = set()
        for word in line.split()[8:]:
            if word.startswith("["):
                continue
            first, _, last = word.partition("-")
            slots.update(range(int(first), int(last or first) + 1))
        return slots

    def is_master(self):
        return self.ask("ROLE")[0] == "master"


class RedisCluster:
    """masters x (1 + replicas) nodes; master i has the i-th range of slots at first, its replicas are behind all masters."""

    def __init__(self, masters=3, replicas=1, settings=None, password=None, announce=None):
        self.settings = dict(settings or {})
        self.bind = HOST
        if announce == "ipv6":
            self.bind = f"{HOST} ::1"
            self.settings["cluster-announce-ip"] = "::1"
        elif announce == "hostname":
            self.settings |= {"cluster-announce-hostname": "localhost", "cluster-preferred-endpoint-type": "hostname"}
        elif announce == "unknown":
            self.settings["cluster-preferred-endpoint-type"] = "unknown-endpoint"
        self.password = password
        self.count = masters
        self.nodes = [self._node(i) for i in range(masters * (1 + replicas))]
        self.is_ipv6 = announce == "ipv6"

    def _node(self, number):
        return ClusterNode(f"node-{number}", self.settings, self.password, self.bind)

    # -------------------------------------------------------------------------------------- beginning and end

    def start(self):
        self.start_nodes()
        return self.make()

    def start_nodes(self):
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.ready()

    def make(self):
        for i, node in enumerate(self.nodes[: self.count]):
            node.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * i // self.count, SLOTS * (i + 1) // self.count - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            self._meet(node)
        wait_for(lambda: all(int(n.cluster_info()["cluster_known_nodes"]) == len(self.nodes) for n in self.nodes), 20,
                 "all nodes to know each other")  # fmt: skip
        ids = [node.id for node in self.nodes[: self.count]]
        for i, node in enumerate(self.nodes[self.count :]):
            self._replicate(node, ids[i % self.count])
        self.wait_ok()
        wait_for(lambda: all(int(n.cluster_info()["cluster_slots_assigned"]) == SLOTS for n in self.nodes), 30,
                 "all nodes to know all slots")  # fmt: skip
        self.wait_whole(len(self.nodes) // self.count - 1)
        return self

    def wait_whole(self, replicas, timeout=30):
        """Until each master is known to have its replicas, as at the beginning."""

        def is_whole():
            return [len(self.replicas_of(master)) for master in self.masters()] == [replicas] * self.count

        wait_for(is_whole, timeout, "each master to have its replicas", every=0.1)

    def _meet(self, node):
        self.nodes[0].ask("CLUSTER", "MEET", "::1" if self.is_ipv6 else HOST, node.port, node.bus)

    @staticmethod
    def _replicate(node, master_id):
        def is_known():
            try:
                return node.ask("CLUSTER", "REPLICATE", master_id) == "OK"
            except redis.ResponseError:
                return False  # it has not heard of its master yet

        wait_for(is_known, 20, f"{node.name} to replicate")

    def wait_ok(self, timeout=30):
        def is_ok():
            for node in self.alive():
                if node.cluster_info()["cluster_state"] != "ok" or not (node.is_master() or node.link_is_up()):
                    return False
            return True

        wait_for(is_ok, timeout, "the cluster to be ok", every=0.1)
        return self

    def stop(self):
        for node in self.nodes:
            if node.popen is not None:
                node.resume()
                node.kill()

    # -------------------------------------------------------------------------------------------------- who is who

    @property
    def seeds(self):
        return ", ".join(node.address for node in self.alive()[:3])

    def alive(self):
        return [node for node in self.nodes if node.is_alive()]

    def masters(self):
        """Those that have slots, in the order of these."""
        found = [(min(slots), node) for node in self.alive() if node.is_master() and (slots := node.own_slots())]
        return [node for _, node in sorted(found, key=lambda pair: pair[0])]

    def master_of(self, slot_or_key):
        slot = slot_or_key if isinstance(slot_or_key, int) else slot_of(slot_or_key)
        return next(node for node in self.alive() if node.is_master() and slot in node.own_slots())

    def replicas_of(self, master):
        master_id = master.id
        lines = [line.split() for line in master.ask("CLUSTER", "NODES").splitlines()]
        ids = {words[0] for words in lines if words[3] == master_id}
        return [node for node in self.alive() if node.id in ids]

    def key_of(self, node, number=0):
        """A key whose slot this master has; other numbers give other slots."""
        slots = node.own_slots()
        return next(key for key in (f"key:{number}:{i}" for i in range(100000)) if slot_of(key) in slots)

    def key_in(self, slot):
        return next(key for key in (f"in:{i}" for i in range(1000000)) if slot_of(key) == slot)

    def calls(self, *names):
        """How often all nodes together were asked for these."""
        return sum(node.commandstats().get(name, 0) for node in self.alive() for name in names)

    # --------------------------------------------------------------------------------------------------- moving slots

    def begin_move(self, slot, source, target):
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, slot, source, target, most=None):
        moved = 0
        while most is None or moved < most:
            keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, min(100, most - moved if most else 100))
            if not keys:
                return moved
            source.ask("MIGRATE", HOST, target.port, "", 0, 5000, *(("AUTH", self.password) if self.password else ()),
                       "KEYS", *keys)  # fmt: skip
            moved += len(keys)
        return moved

    def end_move(self, slot, source, target):
        target_id = target.id
        target.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        try:
            source.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        except redis.ResponseError as error:
            # It has heard of it from the target before, and with its last slot gone has become the target's replica.
            if "only with masters" not in str(error):
                raise

    def move_slot(self, slot, target, source=None):
        source = source or self.master_of(slot)
        self.begin_move(slot, source, target)
        self.move_keys(slot, source, target)
        self.end_move(slot, source, target)

    # ------------------------------------------------------------------------------------------------ nodes come and go

    def add_node(self, replica_of=None):
        node = self._node(len(self.nodes))
        node.start().ready()
        self.nodes.append(node)
        self._meet(node)
        node_id = node.id

        def is_known():
            knows_all = int(node.cluster_info()["cluster_known_nodes"]) == len(self.alive())
            return knows_all and all(node_id in other.ask("CLUSTER", "NODES") for other in self.alive())

        wait_for(is_known, 20, "the new node to be known to all")
        if replica_of:
            self._replicate(node, replica_of.id)
        self.wait_ok()
        return node

    def remove_node(self, node):
        """It must have no slots."""
        node_id = node.id
        node.kill()
        for other in self.alive():
            other.ask("CLUSTER", "FORGET", node_id)

    def wait_agreed(self):
        """Until all nodes say the same of all slots, which redis-cli asks for."""

        def is_agreed():
            said = set()
            for node in self.alive():
                lines = [line.split() for line in node.ask("CLUSTER", "NODES").splitlines()]
                owned = [(words[0], *(word for word in words[8:] if word[0] != "[")) for words in lines]
                said.add(tuple(sorted(line for line in owned if len(line) > 1)))
            return len(said) == 1

        wait_for(is_agreed, 30, "all nodes to agree about slots", every=0.1)

    def redis_cli(self, *arguments, timeout=60):
        self.wait_agreed()
        done = subprocess.run(
            ["redis-cli", *(("-a", self.password) if self.password else ()), "--cluster", *map(str, arguments)],
            timeout=timeout * SLOWNESS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        return done.stdout

    @staticmethod
    def fail_over(replica, master, *how):
        """By command, until both say so: a failover may be given up when the votes do not come in time."""

        def is_done():
            if replica.is_master() and not master.is_master():
                return True
            if not replica.is_master():
                replica.ask("CLUSTER", "FAILOVER", *how)
            return False

        wait_for(is_done, 60, "the replica to take over", every=0.5)

    def wait_new_master(self, slot, old, timeout=30):
        def has_one():
            for node in self.alive():
                if node is not old and node.is_master() and slot in node.own_slots():
                    return node
            return None

        return wait_for(has_one, timeout, "another master", every=0.05)


class Flipper(threading.Thread):
    """Moves a slot back and forth between two masters, with its keys, until it is stopped."""

    def __init__(self, cluster, slot, rest=0.12):
        super().__init__(daemon=True)
        self.cluster, self.slot, self.rest = cluster, slot, rest
        self.source = cluster.master_of(slot)
        self.target = next(node for node in cluster.masters() if node is not self.source)
        self.flips = 0
        self.problem = None
        self.is_ending = threading.Event()

    def run(self):
        try:
            while not self.is_ending.is_set():
                self.cluster.begin_move(self.slot, self.source, self.target)
                time.sleep(0.005)
                self.cluster.move_keys(self.slot, self.source, self.target)
                self.cluster.end_move(self.slot, self.source, self.target)
                self.source, self.target = self.target, self.source
                self.flips += 1
                time.sleep(self.rest)  # so that the others hear of it
        except Exception as problem:  # noqa: BLE001 - told by stop()
            self.problem = problem

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_ending.set()
        self.join(30 * SLOWNESS)
        assert not self.problem, f"moving slot {self.slot}: {self.problem!r}"
