# SPDX-License-Identifier: BSD-2-Clause
"""
What stands behind what is measured: one Redis, three masters, or a master with two replicas; and the contestants that
take turns before it.

A contestant is a proxy with a configuration, or `direct`: none at all.
"""

from rig import IS_ANYBODY_THERE, PROXIES, ask, free_port, info, nutcracker_command, pointsman_before, wait_for

DIRECT, HAPROXY, NUTCRACKER, FLOOR, POINTSMAN = "direct", "haproxy", "nutcracker", "floor", "pointsman"
POINTSMAN_ONE, POINTSMAN_MASTER = "pointsman_one", "pointsman_master"
MASTERS, REPLICAS = 3, 2
SLOTS = 16384


class World:
    contestants = ()

    def __init__(self, rig):
        self.rig = rig
        self.start_nodes()

    def start_nodes(self):
        raise NotImplementedError

    def command(self, name, port):
        """The command line of a contestant that is to listen on port."""
        raise NotImplementedError

    def nodes_of(self, name):
        """The servers that do the work of a contestant."""
        raise NotImplementedError

    def fill_ports(self, started):
        """Where all keys are to be set so that all contestants find them; started: the contestants, by name."""
        raise NotImplementedError

    def settle(self):
        """Waits until everything that was written is everywhere."""

    def start(self, name, wrapper=()):
        """wrapper: words before the contestant's own command line, for a tool that must start its subject."""
        port = free_port()
        return self.rig.start(name, [*wrapper, *self.command(name, port)], port, IS_ANYBODY_THERE)

    def masters(self):
        raise NotImplementedError

    def empty(self):
        for node in self.masters():
            ask(node, "FLUSHALL")


class OneNode(World):
    contestants = (DIRECT, HAPROXY, NUTCRACKER, FLOOR, POINTSMAN)

    def start_nodes(self):
        self.redis = self.rig.start_redis("redis")

    def command(self, name, port):
        return PROXIES[name](self.rig, port)

    def nodes_of(self, name):
        return [self.redis]

    def masters(self):
        return [self.redis]

    def fill_ports(self, started):
        return [self.redis.port]


class ThreeMasters(World):
    """For Pointsman a Redis Cluster; for nutcracker, which knows none, as many plain servers."""

    contestants = (NUTCRACKER, POINTSMAN_ONE, POINTSMAN)

    def start_nodes(self):
        enabled = ("--cluster-enabled", "yes")
        self.cluster = [self.rig.start_redis(f"node{number}", *enabled) for number in range(MASTERS)]
        self.plain = [self.rig.start_redis(f"server{number}") for number in range(MASTERS)]
        for number, node in enumerate(self.cluster):
            first, end = (SLOTS * which // MASTERS for which in (number, number + 1))
            ask(node, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            ask(node, "CLUSTER", "MEET", "127.0.0.1", self.cluster[0].port)
        wait_for(lambda: all(map(has_all_slots, self.cluster)), "the cluster is not made")

    def command(self, name, port):
        if name == NUTCRACKER:
            return nutcracker_command(self.rig, port, self.plain)
        kind = "static" if name == POINTSMAN_ONE else "cluster"
        return pointsman_before(port, kind, self.nodes_of(name), "master")

    def nodes_of(self, name):
        return {NUTCRACKER: self.plain, POINTSMAN_ONE: self.plain[:1]}.get(name, self.cluster)

    def masters(self):
        return self.cluster + self.plain

    def fill_ports(self, started):
        return [self.plain[0].port if name == POINTSMAN_ONE else server.port for name, server in started.items()]


class MasterWithReplicas(World):
    contestants = (POINTSMAN_MASTER, POINTSMAN)

    def start_nodes(self):
        self.master = self.rig.start_redis("master", "--repl-diskless-sync-delay", "0")
        of = ("--replicaof", f"127.0.0.1 {self.master.port}")
        self.replicas = [self.rig.start_redis(f"replica{number}", *of) for number in range(REPLICAS)]
        self.settle()

    def command(self, name, port):
        policy = "master" if name == POINTSMAN_MASTER else "prefer-replica"
        return [*pointsman_before(port, "static", self.nodes_of(name), policy), "--reads.consistency=proxy"]

    def nodes_of(self, name):
        return [self.master, *self.replicas]

    def masters(self):
        return [self.master]

    def fill_ports(self, started):
        return [self.master.port]

    def settle(self):
        wait_for(lambda: all(map(self.has_caught_up, self.replicas)), "a replica does not catch up")

    def has_caught_up(self, replica):
        its, masters = info(replica, "replication"), info(self.master, "replication")
        is_linked = its["role"] == "slave" and its["master_link_status"] == "up"
        return is_linked and int(its["slave_repl_offset"]) >= int(masters["master_repl_offset"])


WORLDS = {"one": OneNode, "three": ThreeMasters, "replicas": MasterWithReplicas}


def has_all_slots(node):
    state = ask(node, "CLUSTER", "INFO")
    return b"cluster_state:ok" in state and b"cluster_known_nodes:%d" % MASTERS in state
