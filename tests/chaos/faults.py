# SPDX-License-Identifier: BSD-2-Clause
"""The faults, one row each. A fault acts on a world and ends by itself, or is ended by world.revive()."""

import collections
import contextlib
import shutil
import time

from harness import HOST, wait_for
from redis_cluster import Flipper, RedisCluster, slot_of
from worlds import mute_listener

EVERYWHERE = ("sentinel", "cluster", "static")
LOSABLE, KEPT = "unreplicated", "none"

# What clients may be told. Everything else is told on behalf of no fault.
NOTHING = ()
IN_FLIGHT = ("outcome unknown",)  # a write that was with the master when this was lost
WITHOUT_MASTER = IN_FLIGHT + ("no master within failover.hold_time", "EXECABORT", "no connection to master for this transaction")
SLOW_READS = ("no reply within proxy.request_timeout",)

Fault = collections.namedtuple("Fault", "name act worlds losable told relayed")
FAULTS = {}


def fault(worlds=EVERYWHERE, losable=KEPT, told=NOTHING, relayed=False):
    def enter(act):
        name = act.__name__
        FAULTS[name] = Fault(name, act, worlds, losable, told, relayed)
        return act

    return enter


def rest(chance, least, most):
    time.sleep(least + chance.random() * (most - least))


@contextlib.contextmanager
def admin(node):
    """A connection that is there before the node takes no more of them."""
    link = node.raw(timeout=30)
    link.ask("CLIENT", "SETNAME", "admin")
    with link:
        yield link


# ----------------------------------------------------------------------------------------------- nodes that die


@fault(worlds=("sentinel", "cluster"), losable=LOSABLE, told=WITHOUT_MASTER)
def kill_master(world, chance):
    """And it comes back later, as the master that it was."""
    world.victim.kill()
    world.wait_switched(world.victim)
    rest(chance, 0.1, 1)
    world.victim.start().ready()
    rest(chance, 1, 2)


@fault(told=WITHOUT_MASTER)
def restart_master(world, chance):
    """So fast that nobody else becomes the master."""
    world.victim.kill()
    rest(chance, 0, 0.3)
    world.victim.start().ready()
    rest(chance, 0.5, 1)


@fault()
def kill_replica(world, chance):
    replica = chance.choice(world.replicas)
    replica.kill()
    rest(chance, 0.2, 2)
    replica.start().ready()
    rest(chance, 0.5, 1)


@fault(worlds=("static",))
def kill_all_replicas(world, chance):
    for replica in world.replicas:
        replica.kill()
    rest(chance, 1, 2)


@fault(told=WITHOUT_MASTER)
def flapping_master(world, chance):
    for _ in range(3):
        world.victim.kill()
        rest(chance, 0, 0.2)
        world.victim.start().ready()
        rest(chance, 0.2, 0.8)


@fault()
def stuttering_master(world, chance):
    """Frozen again and again, never for long."""
    for _ in range(6):
        with frozen(world.victim):
            rest(chance, 0.05, 0.4)
        rest(chance, 0.05, 0.4)


@fault(told=WITHOUT_MASTER)
def one_after_another(world, chance):
    """What may happen to any node, without order."""
    for _ in range(8):
        node = chance.choice(world.nodes)
        chance.choice((cut, cut, freeze, kill))(node, chance)
        rest(chance, 0.1, 0.5)


def cut(node, _chance):
    with node.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def freeze(node, chance):
    with frozen(node):
        time.sleep(chance.choice((0.1, 0.5, 1.3)))


def kill(node, chance):
    node.kill()
    time.sleep(chance.random() * 0.5)
    node.start().ready()


# -------------------------------------------------------------------------------------------- nodes that freeze


@contextlib.contextmanager
def frozen(*processes):
    for process in processes:
        process.pause()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@fault(worlds=("sentinel", "cluster"), losable=LOSABLE, told=WITHOUT_MASTER)
def freeze_master(world, chance):
    """Until there is another; then it wakes up and takes itself for the master."""
    with frozen(world.victim):
        world.wait_switched(world.victim)
        rest(chance, 0.1, 1)
    rest(chance, 2, 3)


@fault()
def freeze_replica(world, chance):
    for _ in range(2):
        with frozen(chance.choice(world.replicas)):
            rest(chance, 0.1, 2.5)
        rest(chance, 0.1, 0.5)


@fault(told=WITHOUT_MASTER)
def mute_replica(world, chance):
    """Something in its place that takes connections and never answers."""
    replica = chance.choice(world.replicas)
    replica.kill()
    with mute_listener(replica):
        rest(chance, 2, 4)


@fault(worlds=("sentinel",))
def freeze_sentinel(world, chance):
    with frozen(chance.choice(world.sentinels)):
        rest(chance, 2, 4)


@fault(worlds=("sentinel",))
def freeze_all_sentinels(world, chance):
    with frozen(*world.sentinels):
        rest(chance, 3, 5)
    rest(chance, 0.5, 1)


@fault(worlds=("sentinel",))
def stale_sentinel(world, chance):
    """One Sentinel sleeps through a failover and then tells of the old master."""
    with frozen(world.sentinels[0]):
        world.fail_over(world.sentinels[2])
        world.wait_switched(world.victim)
        rest(chance, 0.1, 1)
    rest(chance, 1, 2)


# ------------------------------------------------------------------------------------------------ planned changes


@fault(worlds=("sentinel",))
def sentinel_failover(world, chance):
    """The old master says that it is one for ten seconds more."""
    world.fail_over(chance.choice(world.sentinels))
    world.wait_switched(world.victim)
    wait_for(lambda: world.victim.role() == "slave", 40, "the old master to be a replica", every=0.1)


@fault(worlds=("sentinel",), losable=LOSABLE, told=IN_FLIGHT)
def lagging_failover(world, chance):
    """Sentinel does not ask whether the replica has all that its master had."""
    for replica in world.replicas:
        with replica.client() as client:
            client.execute_command("CLIENT", "PAUSE", int(100 + chance.random() * 900), "WRITE")
    sentinel_failover(world, chance)


@fault(worlds=("cluster",))
def cluster_failover(world, chance):
    RedisCluster.fail_over(chance.choice(world.replicas), world.victim)
    rest(chance, 0.5, 1)


@fault(worlds=("cluster",), losable=LOSABLE, told=IN_FLIGHT)
def cluster_takeover(world, chance):
    """Without a word to the old master."""
    RedisCluster.fail_over(chance.choice(world.replicas), world.victim, "TAKEOVER")
    world.known_at = time.monotonic()
    rest(chance, 0.5, 1)


@fault(worlds=("cluster",))
def moving_slots(world, chance):
    with Flipper(world.cluster, slot_of("list:1")), Flipper(world.cluster, slot_of("count:18")):
        rest(chance, 3, 4)


# ----------------------------------------------------------------------------------------- replicas that are behind


@fault()
def lagging_replica(world, chance):
    """Answers, and does not hear what is new."""
    for _ in range(5):
        with chance.choice(world.replicas).client() as client:
            client.execute_command("CLIENT", "PAUSE", int(100 + chance.random() * 500), "WRITE")
        rest(chance, 0.3, 0.8)


@fault()
def lagging_replicas(world, chance):
    """All of them, and each for as long as it takes."""
    for _ in range(4):
        for replica in world.replicas:
            with replica.client() as client:
                client.execute_command("CLIENT", "PAUSE", int(100 + chance.random() * 400), "WRITE")
        rest(chance, 0.3, 0.7)


@fault()
def pausing_replica(world, chance):
    for _ in range(3):
        with chance.choice(world.replicas).client() as client:
            client.execute_command("CLIENT", "PAUSE", int(100 + chance.random() * 700), "ALL")
        rest(chance, 0.5, 1)


@fault()
def sleeping_replica(world, chance):
    for _ in range(3):
        with chance.choice(world.replicas).client() as client:
            client.execute_command("DEBUG", "SLEEP", 0.2 + chance.random())
        rest(chance, 0.1, 0.3)


@fault(worlds=("static",))
def replica_without_master(world, chance):
    """It goes on answering with what it had when it lost its master."""
    replica = chance.choice(world.replicas)
    with replica.client() as client:
        client.execute_command("REPLICAOF", HOST, 1)
        rest(chance, 1, 3)
        client.execute_command("REPLICAOF", HOST, world.victim.port)


@fault()
def amnesiac_replica(world, chance):
    """It comes back with nothing, and its master has no time to tell it."""
    replica = chance.choice(world.replicas)
    for _ in range(3):
        with frozen(world.victim):
            replica.kill()
            shutil.rmtree(replica.directory / "appendonlydir", ignore_errors=True)
            (replica.directory / "dump.rdb").unlink(missing_ok=True)
            replica.start()
            rest(chance, 0.1, 0.5)
        replica.ready()
        rest(chance, 0.5, 1)


@fault(worlds=("cluster",))
def moving_replica(world, chance):
    """To another master, whose data it has not got for a while; then back."""
    replica = world.replicas[0]
    other = next(master for master in world.masters() if master is not world.victim)
    for master in (other, world.victim):
        master_id = master.id
        with master.client() as client:
            client.config_set("repl-diskless-sync-delay", 1)
        rest(chance, 0.2, 0.5)
        replica.ask("CLUSTER", "REPLICATE", master_id)
        rest(chance, 2, 3)


@fault()
def full_resynchronization(world, chance):
    """The master's history gets another name, and all replicas begin anew, with the whole of its data to read."""
    for replica in world.replicas:
        with replica.client() as client:
            client.config_set("key-load-delay", 400)
    with world.victim.client() as client:
        client.execute_command("DEBUG", "POPULATE", 3000, "filling", 100)
        client.execute_command("DEBUG", "CHANGE-REPL-ID")
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")
    rest(chance, 3, 4)


# ---------------------------------------------------------------------------------------------- ways that fail


@fault(relayed=True)
def half_open_replica(world, chance):
    relay = world.relays[chance.choice(world.replicas)]
    relay.be_silent()
    rest(chance, 2, 4)
    relay.speak()


@fault(relayed=True, told=WITHOUT_MASTER + SLOW_READS)
def half_open_master(world, chance):
    relay = world.relays[world.victim]
    relay.be_silent()
    rest(chance, 2, 4)
    relay.speak()
    rest(chance, 0.5, 1)


@fault(told=WITHOUT_MASTER)
def cut_connections(world, chance):
    for _ in range(12):
        cut(chance.choice(world.nodes), chance)
        rest(chance, 0.05, 0.3)


@fault(worlds=("named",), told=WITHOUT_MASTER)
def moving_name(world, chance):
    """The name of the master leads to another address, and the old one is gone."""
    for _ in range(2):
        world.move_name()
        rest(chance, 1, 2)


# --------------------------------------------------------------------------------------------- nodes that refuse


@fault(told=WITHOUT_MASTER)
def loading_master(world, chance):
    """Nobody takes its place: it answers those who watch it."""
    with world.victim.client() as client:
        client.execute_command("DEBUG", "POPULATE", 3000, "filling", 100)
    world.victim.kill()
    world.victim.settings = world.victim.settings | {"key-load-delay": 500}
    world.victim.start()
    wait_for(lambda: not world.victim.info("persistence")["loading"], 30, "the master to have read its data")
    rest(chance, 0.5, 1)


@fault()
def loading_replica(world, chance):
    with world.victim.client() as client:
        client.execute_command("DEBUG", "POPULATE", 3000, "filling", 100)
    rest(chance, 0.2, 0.4)
    replica = chance.choice(world.replicas)
    replica.kill()
    replica.settings = replica.settings | {"key-load-delay": 500}
    replica.start()
    rest(chance, 3, 4)


@fault(told=("MISCONF", "EXECABORT"))
def misconf(world, chance):
    """The master cannot save its data: a directory has the name of its file."""
    obstacle = world.victim.directory / "dump.rdb"
    if obstacle.is_file():
        obstacle.unlink()
    (obstacle / "in-the-way").mkdir(parents=True)
    with world.victim.client() as client:
        client.config_set("save", "3600 1000000")
        client.bgsave()
        failed = lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err"
        wait_for(failed, 10, "saving to fail")
        rest(chance, 0.5, 1.5)
        shutil.rmtree(obstacle)
        client.bgsave()
        wait_for(lambda: not failed(), 10, "saving to succeed")
        client.config_set("save", "")


@fault(told=("NOREPLICAS", "EXECABORT"))
def too_few_replicas(world, chance):
    with world.victim.client() as client:
        client.config_set("min-replicas-to-write", 5)
        rest(chance, 0.5, 1.5)
        client.config_set("min-replicas-to-write", 0)


@fault(told=WITHOUT_MASTER + ("max number of clients",))
def full_master(world, chance):
    refuse_connections(world.victim, chance)


@fault()
def full_replica(world, chance):
    refuse_connections(chance.choice(world.replicas), chance)


def refuse_connections(node, chance):
    """The node is full of others and has just thrown out all it knew."""
    with admin(node) as link:
        link.ask("CONFIG", "SET", "maxclients", 1)
        link.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        rest(chance, 1, 2)
        link.ask("CONFIG", "SET", "maxclients", 6000)
    rest(chance, 0.3, 0.6)
