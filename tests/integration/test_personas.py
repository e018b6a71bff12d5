# SPDX-License-Identifier: BSD-2-Clause
"""Addresses that are taken for a Redis Cluster, for Sentinels, for replicas, by clients that know nothing of Pointsman.

What these addresses say has the shape of what a real node of a cluster and real Sentinels say, which are asked beside.
The JavaScript is in clients/personas.js, run as in test_clients.py.
"""

import json
import random
import re
import subprocess
import threading
import time

import pytest
import redis
import redis_cluster
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import MasterNotFoundError, Sentinel as SentinelClient

from harness import HOST, MASTER_NAME, POINTSMAN, ROOT, SLOWNESS, Pointsman, Raw, Replication, Server
from harness import Sentinel as SentinelServer
from harness import encode, free_port, wait_for
from test_clients import CLIENTS, Counting, node, run, skip_what_cannot_be_here, wait_until_written  # noqa: F401

SLOTS = 16384
READONLY = b"READONLY You can't write against a read only replica."


class Personas(Pointsman):
    """A pointsman with one address of each kind, and two `as cluster` and `as sentinel` each."""

    def __init__(self, upstream, peers=True, **keys):
        self.cluster_ports = [free_port(), free_port()]
        self.sentinel_ports = [free_port(), free_port()]
        self.replica_port = free_port()
        plain = free_port()
        named = [(plain, "plain"), (self.replica_port, "replica")]
        named += [(port, "cluster") for port in self.cluster_ports]
        named += [(port, "sentinel") for port in self.sentinel_ports]
        keys.setdefault("proxy_listen", ", ".join(f"{HOST}:{port} as {persona}" for port, persona in named))
        if peers:
            keys.setdefault("proxy_peers", ", ".join(f"{HOST}:{port}" for port in self.cluster_ports))
        super().__init__(upstream, **keys)
        self.port = plain

    def at(self, port, **options):
        return redis.Redis(HOST, port, password=self.password, socket_timeout=20 * SLOWNESS, **options)


@pytest.fixture(scope="module")
def personas(cluster):
    """Reads see the writes before them at the plain address and at those of the cluster."""
    pointsman = Personas(cluster, reads_policy="master").start()
    wait_until_replicas_are_read(pointsman)
    yield pointsman
    pointsman.stop()


def wait_until_replicas_are_read(pointsman):
    """Connections are spread by their ids, so several are made."""
    replicas = pointsman.upstream.replicas

    def spread():
        before = [server.commandstats().get("exists", 0) for server in replicas]
        for _ in range(12):
            with pointsman.at(pointsman.replica_port) as client:
                client.exists("harness:ready")
        after = [server.commandstats().get("exists", 0) for server in replicas]
        return all(b > a for a, b in zip(before, after))

    wait_for(spread, 20, "reads to reach all replicas", every=0.1)


@pytest.fixture(scope="module")
def cluster_node():
    """A real node that has all slots."""
    settings = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    server = Server("cluster-node", settings=settings).start().ready()
    with server.client() as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
        wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", what="the cluster to be well")
    yield server
    server.kill()


def shape_of(value):
    """What kinds of values stand where, and every key of every map."""
    if isinstance(value, dict):
        return {key: shape_of(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [shape_of(item) for item in value]]
    return type(value).__name__


def field_names(text):
    return [line.split(":", 1)[0] for line in text.decode().split("\r\n")]


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


# ------------------------------------------------------------------------------------------ as cluster


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("words", ["SLOTS", "SHARDS", "MYID", "COUNT-FAILURE-REPORTS id", "REPLICAS id"])
def test_cluster_is_described_as_a_node_of_a_cluster_does(cluster, cluster_node, protocol, words):
    with Personas(cluster, peers=False) as pointsman, cluster_node.raw() as real:
        ours = Raw(pointsman.cluster_ports[0])
        answers = []
        for link in (real, ours):
            hello = link.ask("HELLO", protocol)
            identity = link.ask("CLUSTER", "MYID").decode()
            assert re.fullmatch("[0-9a-f]{40}", identity)
            answers.append((shape_of(hello), shape_of(link.ask("CLUSTER", *words.replace("id", identity).split()))))
        assert answers[0] == answers[1]
        ours.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_hello_and_info_say_cluster(personas, cluster_node, protocol):
    with cluster_node.raw() as real, Raw(personas.cluster_ports[0]) as ours:
        replies = [link.ask("HELLO", protocol) for link in (real, ours)]
        hellos = [pairs(reply) if protocol == 2 else reply for reply in replies]
        for hello in hellos:
            del hello[b"id"]
        assert hellos[0] == hellos[1]
        assert real.ask("INFO", "cluster") == ours.ask("INFO", "cluster") == b"# Cluster\r\ncluster_enabled:1\r\n"
        assert b"redis_mode:cluster\r\n" in ours.ask("INFO", "server")
        info = field_names(ours.ask("CLUSTER", "INFO"))
        assert [name for name in info if name not in field_names(real.ask("CLUSTER", "INFO"))] == []
        said = ours.ask("CLUSTER", "INFO")
        assert b"cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n" in said
    with Raw(personas.port) as plain:  # and nobody else does
        assert b"redis_mode:standalone\r\n" in plain.ask("INFO", "server")
        assert plain.ask("CLUSTER", "SLOTS") == plain.ask("ASKING") == b"ERR This instance has cluster support disabled"


ALIKE_IN_A_CLUSTER = [
    "ASKING", "READONLY", "READWRITE", "READONLY x", "ASKING x", "SELECT 0", "SELECT 1", "SELECT -1", "SELECT x", "SELECT 99",
    "SELECT", "CLUSTER", "CLUSTER foo", "CLUSTER KEYSLOT", "CLUSTER KEYSLOT a b", "CLUSTER KEYSLOT foo{bar}{zap}",
    "CLUSTER KEYSLOT {}", "CLUSTER SLOTS x", "CLUSTER MYID x", "CLUSTER REPLICAS nope", "CLUSTER SLAVES nope",
    "CLUSTER REPLICAS", "CLUSTER COUNT-FAILURE-REPORTS nope", "CLUSTER COUNTKEYSINSLOT", "CLUSTER COUNTKEYSINSLOT x",
    "CLUSTER COUNTKEYSINSLOT -1", "CLUSTER COUNTKEYSINSLOT 16384", "CLUSTER COUNTKEYSINSLOT 99999999999999999999",
    "CLUSTER GETKEYSINSLOT 1", "CLUSTER GETKEYSINSLOT 1 -1", "CLUSTER GETKEYSINSLOT 16384 1", "CLUSTER GETKEYSINSLOT 1 x",
    "CLUSTER GETKEYSINSLOT x 1", "CLUSTER LINKS",
    "MOVE", "MOVE a", "MOVE a 1", "MOVE a 0", "MOVE a x", "MOVE a b c", "SWAPDB", "SWAPDB 0", "SWAPDB 0 1", "SWAPDB x y",
    "COPY a", "COPY a a DB 1", "COPY a a DB 0", "COPY {a}1 {a}2 DB 1", "COPY {a}1 {a}2 DB x", "COPY {a}1 {a}2 DB -1",
    "COPY {a}1 {a}2 DB", "COPY {a}1 {a}2 DB 1 FOO", "COPY {a}1 {a}2 DB 1 DB 0", "COPY {a}1 {a}2 DB 1 REPLACE",
    "COPY {a}1 {a}2 REPLACE DB 0", "COPY {a}1 {a}2 DB 99999999999",
]  # fmt: skip


@pytest.mark.parametrize("line", ALIKE_IN_A_CLUSTER)
def test_what_a_cluster_refuses_and_accepts(personas, cluster_node, line):
    with cluster_node.raw() as real, Raw(personas.cluster_ports[0]) as ours:
        assert real.ask(*line.split()) == ours.ask(*line.split())
        assert real.ask(*line.lower().split()) == ours.ask(*line.lower().split())


def test_a_cluster_is_not_changed_through_its_address(personas):
    with Raw(personas.cluster_ports[0]) as ours:
        for line in ["MEET 127.0.0.1 1", "ADDSLOTS 1", "FAILOVER", "RESET", "FORGET x", "SETSLOT 1 STABLE", "REPLICATE x"]:
            answer = ours.ask("CLUSTER", *line.split())
            assert answer == b"ERR unknown subcommand '%s'. Try CLUSTER HELP." % line.split()[0].encode()
        text = b"\n".join(ours.ask("CLUSTER", "HELP"))
        assert b"KEYSLOT <key>" in text and b"MEET" not in text
        for words in ("COUNTKEYSINSLOT", "1"), ("GETKEYSINSLOT", "1", "10"):  # nothing is made up
            assert ours.ask("CLUSTER", *words).startswith(b"ERR pointsman: the servers behind this address are no")


def test_select_stays_out_of_transactions_in_a_cluster(personas):
    with Raw(personas.cluster_ports[0]) as ours:
        assert ours.ask("MULTI") == b"OK"
        assert ours.ask("SELECT", 1) == b"ERR Command not allowed inside a transaction"
        assert ours.ask("EXEC").startswith(b"EXECABORT")
        assert ours.ask("SET", "personas:db", 1) == b"OK"
    with personas.client() as plain:
        assert plain.get("personas:db") == b"1"


REACHES = {
    "MOVE personas:k 1": b"ERR MOVE is not allowed in cluster mode",
    "SWAPDB 0 1": b"ERR SWAPDB is not allowed in cluster mode",
    "COPY personas:k personas:k DB 1": b"ERR Copying to another database is not allowed in cluster mode",
}


@pytest.mark.parametrize("line", REACHES)
def test_no_key_gets_into_a_database_that_cannot_be_selected(personas, line):
    with personas.client() as plain, Raw(personas.cluster_ports[0]) as ours:
        plain.delete("personas:other")
        plain.set("personas:k", 1)
        assert ours.ask(*line.split()) == REACHES[line]
        assert ours.ask("MULTI") == b"OK"
        assert ours.ask("SET", "personas:other", 1) == b"QUEUED"
        assert ours.ask(*line.split()) == REACHES[line]
        assert ours.ask("EXEC") == b"EXECABORT Transaction discarded because of previous errors."
        assert ours.ask("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        assert ours.ask(*line.split()).startswith(b"ERR Can't execute")
        assert (plain.get("personas:k"), plain.exists("personas:other")) == (b"1", 0)


def test_without_peers_the_address_that_one_is_connected_to_has_all_slots(cluster):
    ports = [free_port(), free_port()]
    listen = f"{HOST}:{free_port()}, *:{ports[0]} as cluster, {HOST}:{ports[1]} as cluster"
    with Pointsman(cluster, wait=None, proxy_listen=listen) as pointsman:
        identities = set()
        for host, port in (("127.0.0.1", ports[0]), ("127.0.0.2", ports[0]), ("::1", ports[0]), (HOST, ports[1])):
            wait_for(lambda: Raw(port, host=host).close() or True, what="pointsman to listen")
            with Raw(port, host=host) as link:
                [[first, last, node_]] = link.ask("CLUSTER", "SLOTS")
                assert (first, last, node_[0].decode(), node_[1]) == (0, SLOTS - 1, host, port)
                assert link.ask("CLUSTER", "MYID") == node_[2]
                line = link.ask("CLUSTER", "NODES").decode()
                bus = port + 10000
                assert line == f"{node_[2].decode()} {host}:{port}@{bus} myself,master - 0 0 1 connected 0-16383\n"
                identities.add(node_[2])
        assert len(identities) == 4


def test_peers_share_the_slots_and_all_of_them_tell_the_same(cluster):
    """Also between processes: the second does not listen on the addresses of the first."""
    first, second = free_port(), free_port()
    peers = f"{HOST}:{first}, {HOST}:{second}, [::1]:7000, far.example.org:7001"
    keys = {"proxy_peers": peers, "wait": None}
    with Pointsman(cluster, proxy_listen=f"*:{first} as cluster", **keys) as one, Pointsman(
        cluster, proxy_listen=f"{HOST}:{second} as cluster", **keys
    ):
        told = []
        for port in (first, second):
            wait_for(lambda: Raw(port).close() or True, what="pointsman to listen")
            with Raw(port) as link:
                slots, nodes = link.ask("CLUSTER", "SLOTS"), link.ask("CLUSTER", "NODES").decode().splitlines()
                told.append((slots, sorted(line.replace("myself,", "") for line in nodes)))
                [mine] = [line for line in nodes if "myself" in line]
                assert mine.startswith(link.ask("CLUSTER", "MYID").decode()) and f":{port}@" in mine
                assert nodes[3].split()[1].endswith(",far.example.org")
                assert dict(zip(*[iter(link.ask("CLUSTER", "SHARDS")[3][3][0])] * 2))[b"hostname"] == b"far.example.org"
        assert told[0] == told[1]
        ranges = [(entry[0], entry[1]) for entry in told[0][0]]
        assert ranges == [(0, 4095), (4096, 8191), (8192, 12287), (12288, 16383)]
        assert len({entry[2][2] for entry in told[0][0]}) == 4
        with Raw(first, host="::1") as link:  # not in the list; taken for the one with that port
            assert "myself" in link.ask("CLUSTER", "NODES").decode().splitlines()[0]
        assert one.is_alive()


def connect_cluster(pointsman):
    return RedisCluster(startup_nodes=[ClusterNode(HOST, pointsman.cluster_ports[0])], password=pointsman.password)


def test_redis_py_cluster(personas):
    cluster = connect_cluster(personas)
    assert sorted(n.port for n in cluster.get_primaries()) == sorted(personas.cluster_ports)
    keys = [f"py:cluster:{number}" for number in range(300)]
    for key in keys:
        cluster.set(key, key)
    assert [cluster.get(key) for key in keys] == [key.encode() for key in keys]
    assert cluster.mget_nonatomic(keys[:50]) == [key.encode() for key in keys[:50]]
    pipe = cluster.pipeline()
    for key in keys:
        pipe.incr(f"{key}:n").get(key)
    assert pipe.execute() == [value for key in keys for value in (1, key.encode())]
    assert cluster.delete(*[f"{key}:n" for key in keys]) == len(keys)
    assert cluster.cluster_keyslot("foo") == 12182 and cluster.cluster_info()["cluster_state"] == "ok"
    assert cluster.eval("return redis.call('incr', KEYS[1])", 1, "py:cluster:script") == 1
    pubsub = cluster.pubsub()
    pubsub.subscribe("py:cluster")
    assert pubsub.get_message(timeout=5)["type"] == "subscribe"
    cluster.publish("py:cluster", "hello")
    assert pubsub.get_message(timeout=5)["data"] == b"hello"
    cluster.close()


def test_redis_py_cluster_that_reads_from_replicas(personas):
    cluster = RedisCluster(host=HOST, port=personas.cluster_ports[0], read_from_replicas=True)
    cluster.set("py:cluster:replicas", 1)
    assert cluster.get("py:cluster:replicas") == b"1"
    cluster.close()


def cli(port, *arguments, text=None):
    return run(["redis-cli", "-p", str(port), *arguments], text=text)


def test_redis_cli_of_clusters(personas):
    port = personas.cluster_ports[0]
    assert cli(port, "-c", text="SET cli:a 1\nINCR cli:a\nGET cli:a\nSELECT 1\n").startswith("OK\n2\n2\nERR SELECT is")
    check = run(["redis-cli", "--cluster", "check", f"{HOST}:{port}"])
    assert "All nodes agree about slots configuration" in check and "All 16384 slots covered" in check
    info = run(["redis-cli", "--cluster", "info", f"{HOST}:{personas.cluster_ports[1]}"])
    assert info.count("8192 slots") == 2 and "in 2 masters" in info
    assert "WARN" not in check + info and "ERR" not in check + info


def test_redis_benchmark_of_clusters(personas):
    arguments = ["--cluster", "-p", str(personas.cluster_ports[0]), "-n", "1000", "-t", "set,get,lpush,mset", "--csv"]
    output = run(["redis-benchmark", *arguments])
    assert len(re.findall(r'^"[^"]+","[0-9.]+"', output, re.M)) == 4, output
    assert "Master 1" in output and "rror" not in output


# ------------------------------------------------------------------------------------------ as sentinel


@pytest.mark.parametrize("protocol", [2, 3])
def test_instances_have_the_fields_of_a_real_sentinel(personas, cluster, protocol):
    with cluster.sentinels[0].raw() as real, Raw(personas.sentinel_ports[0]) as ours:
        real.ask("HELLO", protocol), ours.ask("HELLO", protocol)
        for subcommand in ("MASTER", "MASTERS", "REPLICAS", "SLAVES", "SENTINELS"):
            words = ["SENTINEL", subcommand] + [MASTER_NAME] * (subcommand != "MASTERS")
            theirs, mine = [link.ask(*words) for link in (real, ours)]
            if subcommand != "MASTER":
                theirs, mine = theirs[0], mine[0]
            if protocol == 2:
                theirs, mine = pairs(theirs), pairs(mine)
            assert isinstance(mine, dict)
            assert shape_of(mine) == shape_of(theirs)


def test_sentinel_tells_our_own_addresses(personas):
    with personas.at(personas.sentinel_ports[0]) as sentinel:
        assert sentinel.sentinel_get_master_addr_by_name(MASTER_NAME) == (HOST.encode(), personas.port)
        master = sentinel.sentinel_master(MASTER_NAME)
        assert (master["name"], master["ip"], master["port"]) == (MASTER_NAME, HOST, personas.port)
        assert (master["flags"], master["num-slaves"], master["num-other-sentinels"]) == ("master", 1, 1)
        assert list(sentinel.sentinel_masters()) == [MASTER_NAME]
        [replica] = sentinel.sentinel_slaves(MASTER_NAME)
        assert (replica["ip"], replica["port"], replica["flags"]) == (HOST, personas.replica_port, "slave")
        assert (replica["master-host"], replica["master-port"]) == (HOST, personas.port)
        [other] = sentinel.sentinel_sentinels(MASTER_NAME)
        assert other["port"] == personas.sentinel_ports[1]
        with personas.at(personas.sentinel_ports[1]) as second:
            assert second.execute_command("SENTINEL MYID").decode() == other["runid"]
        assert sentinel.execute_command("ROLE") == [b"sentinel", [MASTER_NAME.encode()]]
        info = sentinel.info()
        assert (info["redis_mode"], info["tcp_port"]) == ("sentinel", personas.sentinel_ports[0])
        told = {"name": MASTER_NAME, "status": "ok", "address": f"{HOST}:{personas.port}", "slaves": 1, "sentinels": 2}
        assert info["master0"] == told and info["sentinel_masters"] == 1
        only = sentinel.info("sentinel")
        assert "redis_mode" not in only and only["master0"] == told
    with Raw(personas.sentinel_ports[0]) as link:
        quorum = link.ask("SENTINEL", "CKQUORUM", MASTER_NAME)
        assert quorum == b"OK 2 usable Sentinels. Quorum and failover authorization can be reached"


@pytest.mark.parametrize("protocol", [2, 3])
def test_hello_of_a_sentinel(personas, cluster, protocol):
    with cluster.sentinels[0].raw() as real, Raw(personas.sentinel_ports[0]) as ours:
        hellos = [link.ask("HELLO", protocol) for link in (real, ours)]
        hellos = [pairs(hello) if protocol == 2 else hello for hello in hellos]
        for hello in hellos:
            del hello[b"id"]
        assert hellos[0] == hellos[1]


ALIKE_IN_A_SENTINEL = [
    "PING", "PING a", "PING a b", "GET a", "SET a b c", "ECHO a", "MULTI", "SELECT 1", "CONFIG GET x", "MONITOR", "NOSUCH",
    "SENTINEL", "SENTINEL foo", "SENTINEL MASTER", "SENTINEL MASTER a b", "SENTINEL MASTER nope", "SENTINEL MASTERS x",
    "SENTINEL REPLICAS nope", "SENTINEL SLAVES nope", "SENTINEL SENTINELS nope", "SENTINEL GET-MASTER-ADDR-BY-NAME nope",
    "SENTINEL GET-MASTER-ADDR-BY-NAME", "SENTINEL CKQUORUM nope", "SENTINEL MYID x", "SENTINEL PENDING-SCRIPTS",
    "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1", "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *", "SUBSCRIBE",
    "PUBLISH a b", "PUBLISH a", "ROLE", "ROLE x", "CLIENT", "CLIENT foo", "CLIENT SETNAME a", "CLIENT GETNAME", "AUTH x",
    "ACL WHOAMI", "HELLO 4", "HELLO x", "INFO nosuch", "UNSUBSCRIBE", "PUNSUBSCRIBE x", "SSUBSCRIBE a",
    "COMMAND COUNT", "COMMAND COUNT x", "COMMAND foo", "COMMAND LIST x", "COMMAND INFO nope sentinel| |", "COMMAND INFO role",
    "COMMAND INFO SENTINEL|myid sentinel|help auth client|setname acl|whoami",
]  # fmt: skip


@pytest.mark.parametrize("line", ALIKE_IN_A_SENTINEL)
def test_what_a_sentinel_knows_and_what_not(personas, cluster, line):
    for protocol in (2, 3):
        with cluster.sentinels[0].raw() as real, Raw(personas.sentinel_ports[0]) as ours:
            real.ask("HELLO", protocol), ours.ask("HELLO", protocol)
            answers = [link.command(*line.split()).read_bytes() for link in (real, ours)]
            assert answers[0] == answers[1]


@pytest.mark.parametrize("protocol", [2, 3])
def test_commands_are_listed_as_by_a_sentinel_but_for_what_is_not_there(personas, cluster, protocol):
    """Tips are not told: they are for clients of a cluster."""

    def rows_of(link, *words):
        link.ask("HELLO", protocol)
        return flat(link.ask("COMMAND", *words))

    def flat(rows):
        own = {row[0]: [row[1], set(row[2]), row[3:6], set(row[6]), len(row[8])] for row in rows}
        return own | {name: row for each in rows for name, row in flat(each[9]).items()}

    with cluster.sentinels[0].raw() as real, Raw(personas.sentinel_ports[0]) as ours:
        theirs, told = rows_of(real), rows_of(ours)
        assert {name: theirs[name] for name in told if name in theirs} == {n: row for n, row in told.items() if n in theirs}
        assert {name for name in theirs if b"|" not in name} == {name for name in told if b"|" not in name}
        assert set(ours.ask("COMMAND", "LIST")) == set(told) == set(rows_of(ours, "INFO"))
    for name in told:
        with Raw(personas.sentinel_ports[0]) as ours:
            assert "unknown" not in repr(ours.ask(*name.split(b"|")))


def test_a_sentinel_is_not_changed_through_its_address(personas):
    with Raw(personas.sentinel_ports[0]) as ours:
        for line in ("FAILOVER mymaster", "RESET *", "REMOVE mymaster", "MONITOR a 127.0.0.1 1 1", "SET mymaster quorum 1",
                     "FLUSHCONFIG", "CONFIG SET a b", "DEBUG", "SIMULATE-FAILURE crash-after-election"):  # fmt: skip
            answer = ours.ask("SENTINEL", *line.split())
            assert answer == b"ERR unknown subcommand '%s'. Try SENTINEL HELP." % line.split()[0].encode()
        assert ours.ask("SHUTDOWN").startswith(b"ERR pointsman: refused by the proxy")
        assert ours.ask("CLIENT", "PAUSE", 1000) == b"ERR unknown subcommand 'PAUSE'. Try CLIENT HELP."
        assert b"CKQUORUM <master-name>" in ours.ask("SENTINEL", "HELP")
    assert personas.is_alive()


@pytest.mark.parametrize("protocol", [2, 3])
def test_subscribers_are_confirmed_as_by_a_sentinel(personas, cluster, protocol):
    lines = ["SUBSCRIBE +switch-master +sdown", "PING", "PING x", "PSUBSCRIBE *", "SUBSCRIBE +sdown", "UNSUBSCRIBE +sdown",
             "GET a", "SENTINEL MYID x", "UNSUBSCRIBE nope", "PUNSUBSCRIBE", "PUNSUBSCRIBE", "UNSUBSCRIBE",
             "SENTINEL MYID x", "PING"]  # fmt: skip
    data = b"".join(encode(*line.split()) for line in lines)
    frames = len(lines) + 1  # two of the first
    with cluster.sentinels[0].raw() as real, Raw(personas.sentinel_ports[0]) as ours:
        real.ask("HELLO", protocol), ours.ask("HELLO", protocol)
        answers = []
        for link in (real, ours):
            link.send(data)
            answers.append([link.read_bytes() for _ in range(frames)])
            if link is ours:
                assert link.is_silent(0.05)
    assert answers[1] == answers[0]


def test_undoing_all_subscriptions_confirms_each(personas):
    with Raw(personas.sentinel_ports[0]) as link:
        names = [b"c%d" % number for number in range(50)]
        link.command("SUBSCRIBE", *names)
        assert [link.read() for _ in names] == [[b"subscribe", name, count + 1] for count, name in enumerate(names)]
        link.command("UNSUBSCRIBE")
        confirmed = [link.read() for _ in names]
        assert {c[1] for c in confirmed} == set(names) and [c[2] for c in confirmed] == list(range(49, -1, -1))
        assert link.ask("SENTINEL", "MYID")  # an ordinary connection again


def test_redis_py_sentinel(personas):
    sentinel = SentinelClient([(HOST, port) for port in personas.sentinel_ports], min_other_sentinels=1)
    assert sentinel.discover_master(MASTER_NAME) == (HOST, personas.port)
    assert sentinel.discover_slaves(MASTER_NAME) == [(HOST, personas.replica_port)]
    with pytest.raises(MasterNotFoundError):
        sentinel.discover_master("nope")
    master, replica = sentinel.master_for(MASTER_NAME), sentinel.slave_for(MASTER_NAME)
    assert master.set("py:sentinel", 1) and master.incr("py:sentinel") == 2
    wait_for(lambda: replica.get("py:sentinel") == b"2", what="the replica to have it")
    with pytest.raises(redis.ReadOnlyError):
        replica.set("py:sentinel", 3)
    master.close(), replica.close()


def test_master_has_the_name_that_it_has_at_the_sentinels(cluster):
    with Personas(cluster, upstream_master_name=MASTER_NAME) as pointsman:
        with Raw(pointsman.sentinel_ports[0]) as link:
            assert link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME) == [HOST.encode(), b"%d" % pointsman.port]
    with Personas("127.0.0.1:1", wait=None, upstream_kind="sentinel", upstream_master_name="orders") as pointsman:
        wait_for(lambda: Raw(pointsman.sentinel_ports[0]).close() or True, what="pointsman to listen")
        with Raw(pointsman.sentinel_ports[0]) as link:  # also while no Redis is known
            assert link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME) is None
            assert link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "orders") == [HOST.encode(), b"%d" % pointsman.port]
            assert link.ask("ROLE") == [b"sentinel", [b"orders"]]


def test_a_client_is_told_addresses_that_it_can_reach(cluster):
    """On all interfaces: the one that it came to; else the one that is most like that."""
    plain, other, sentinel, replica = (free_port() for _ in range(4))
    everywhere = f"*:{plain}, *:{sentinel} as sentinel, *:{replica} as replica"
    two = f"127.0.0.3:{plain}, 127.0.0.2:{other}, *:{sentinel} as sentinel, 127.0.0.1:{replica} as replica"
    asked = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME]
    for listen, expected in [
        (everywhere, {"127.0.0.1": (b"127.0.0.1", plain), "127.0.0.2": (b"127.0.0.2", plain), "::1": (b"::1", plain)}),
        (two, {"127.0.0.2": (b"127.0.0.2", other), "127.0.0.3": (b"127.0.0.3", plain), "127.0.0.1": (b"127.0.0.3", plain)}),
    ]:
        with Pointsman(cluster, wait=None, proxy_listen=listen):
            wait_for(lambda: Raw(sentinel).close() or True, what="pointsman to listen")
            for host, (told, port) in expected.items():
                with Raw(sentinel, host=host) as link:
                    assert link.ask(*asked) == [told, b"%d" % port]
                    [replica_told] = link.ask("SENTINEL", "REPLICAS", MASTER_NAME)
                    assert pairs(replica_told)[b"port"] == b"%d" % replica


def test_password_is_asked_for_at_all_addresses(cluster):
    with Personas(cluster, proxy_password="secret") as pointsman:
        for port in (*pointsman.cluster_ports, *pointsman.sentinel_ports, pointsman.replica_port):
            with Raw(port) as link:
                for words in ("PING",), ("CLUSTER", "SLOTS"), ("SENTINEL", "MASTERS"), ("SUBSCRIBE", "a"):
                    assert link.ask(*words).startswith((b"NOAUTH", b"ERR unknown command"))
                assert link.ask("AUTH", "wrong").startswith(b"WRONGPASS")
                assert link.ask("AUTH", "secret") == b"OK" and link.ask("PING") == b"PONG"
        sentinel = SentinelClient(
            [(HOST, pointsman.sentinel_ports[0])], password="secret", sentinel_kwargs={"password": "secret"}
        )
        assert sentinel.master_for(MASTER_NAME).ping()


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        (["--proxy.listen=:1 as sentinel, :2 as cluster"], 2, "add a plain host:port"),
        (["-c", ROOT / "conf" / "personas.ini"], 0, ""),
    ],
)
def test_configurations_that_are_good_and_bad(arguments, status, says):
    done = subprocess.run([POINTSMAN, "-t", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == status and says in done.stderr


# ------------------------------------------------------------------------------------------ as replica


def test_reads_go_to_replicas_and_writes_are_refused(personas, cluster):
    with personas.client() as plain:
        plain.set("replica:a", 1)
    cluster.wait_synced()
    with cluster.counting() as counts:
        for _ in range(40):
            with personas.at(personas.replica_port) as client:
                assert client.get("replica:a") == b"1"
                for write in ("SET", "replica:a", 2), ("DEL", "replica:a"), ("FLUSHALL",), ("BLPOP", "replica:q", 0):
                    with pytest.raises(redis.ReadOnlyError):
                        client.execute_command(*write)
    assert counts.calls(cluster.master, "get") == 0
    assert min(counts.each(cluster.replicas, "get")) > 0
    assert counts.calls(cluster.servers, "set") == counts.calls(cluster.servers, "flushall") == 0
    with personas.client() as plain:
        assert plain.get("replica:a") == b"1"


def test_transactions_and_scripts_are_for_reading(personas, cluster):
    with personas.client() as plain:
        plain.set("replica:b", 1)
    cluster.wait_synced()
    get, put = "return redis.call('get', KEYS[1])", "return redis.call('set', KEYS[1], 2)"
    with cluster.counting() as counts, Raw(personas.replica_port) as link:
        assert [link.ask("MULTI"), link.ask("GET", "replica:b"), link.ask("EXEC")] == [b"OK", b"QUEUED", [b"1"]]
        assert [link.ask("MULTI"), link.ask("SET", "replica:b", 2)] == [b"OK", READONLY]
        assert link.ask("GET", "replica:b") == b"QUEUED"
        assert link.ask("EXEC") == b"EXECABORT Transaction discarded because of previous errors."
        assert link.ask("EVAL", get, 1, "replica:b") == b"1"
        assert link.ask("EVAL", put, 1, "replica:b").startswith(READONLY)
        assert [link.ask("MULTI"), link.ask("EVAL", put, 1, "replica:b")] == [b"OK", b"QUEUED"]
        assert link.ask("EXEC")[0].startswith(READONLY)
        sha = link.ask("SCRIPT", "LOAD", put)
        assert link.ask("EVALSHA", sha, 1, "replica:b").startswith(READONLY)
        assert [link.ask("WATCH", "replica:b"), link.ask("GET", "replica:b"), link.ask("UNWATCH")] == [b"OK", b"1", b"OK"]
    assert counts.calls(cluster.master, "set") == counts.calls(cluster.master, "eval") == 0
    assert counts.calls(cluster.master, "multi") == counts.calls(cluster.master, "evalsha") == 0
    with personas.client() as plain:
        assert plain.get("replica:b") == b"1"


def test_what_only_a_master_can_do_is_answered_as_by_a_replica(personas, cluster):
    real = cluster.replicas[0]
    with real.raw() as theirs, Raw(personas.replica_port) as ours:
        for line in ("SET a 1", "WAIT 1 0", "SORT a", "GETEX a", "PFADD a 1", "XGROUP CREATE a b 0", "SPOP a", "RESTORE a 0 x",
                     "FUNCTION FLUSH", "SWAPDB 0 1", "XREAD COUNT 1 STREAMS nosuch 0", "READONLY", "PUBLISH nobody x",
                     "SET a", "NOSUCH"):  # fmt: skip
            assert ours.ask(*line.split()) == theirs.ask(*line.split()), line


def test_role_and_info_of_a_replica(personas, cluster):
    with Raw(personas.replica_port) as ours, cluster.replicas[0].raw() as real:
        role = ours.ask("ROLE")
        assert role[:4] == [b"slave", HOST.encode(), personas.port, b"connected"] and role[4] > 0
        lines = dict(line.split(b":", 1) for line in ours.ask("INFO", "replication").split(b"\r\n") if b":" in line)
        assert lines[b"role"] == b"slave" and lines[b"master_link_status"] == b"up"
        assert (lines[b"master_host"], lines[b"master_port"]) == (HOST.encode(), b"%d" % personas.port)
        theirs = {line.split(b":", 1)[0] for line in real.ask("INFO", "replication").split(b"\r\n") if b":" in line}
        assert set(lines) == theirs
        for protocol in (2, 3):
            hello = ours.ask("HELLO", protocol)
            assert (hello if protocol == 3 else pairs(hello))[b"role"] == b"replica"


def test_scans_and_messages_of_a_replica(personas, cluster):
    with personas.client() as plain, personas.at(personas.replica_port) as client:
        plain.mset({f"replica:scan:{number}": 1 for number in range(3000)})
        cluster.wait_synced()
        assert len(set(client.scan_iter("replica:scan:*", count=100))) == 3000
        assert client.dbsize() == plain.dbsize()
        pubsub = client.pubsub()
        pubsub.subscribe("replica:channel")
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        plain.publish("replica:channel", "hello")
        assert pubsub.get_message(timeout=5)["data"] == b"hello"
        pubsub.close()


@pytest.mark.parametrize("policy", ["prefer-replica", "master", "replica"])
def test_without_a_replica_plain_reads_go_to_the_master_if_the_policy_lets_them(processes, policy):
    lonely = processes(Replication(replicas=0, sentinels=0))
    pointsman = processes(Personas(lonely, reads_policy=policy, wait=None, upstream_kind="static"))
    wait_for(lambda: pointsman.is_alive() and pointsman.writes(), 20, "a first write")
    refusal = b"ERR pointsman: no replica is fit, and this address is one of replicas; not executed"
    with Raw(pointsman.replica_port) as link:
        read = link.ask("GET", "harness:ready")
        assert read == (refusal if policy == "replica" else b"1")
        assert link.ask("SET", "harness:ready", 2) == READONLY
        for words in ("EVAL", "return redis.call('set', 'harness:ready', 2)", 0), ("MULTI",), ("PUBLISH", "a", "b"):
            with Raw(pointsman.replica_port) as other:
                assert other.ask(*words) == refusal
    with lonely.master.client() as master:
        assert master.get("harness:ready") == b"1"


@pytest.mark.parametrize("words", [("SUBSCRIBE", "news"), ("MULTI",), ("GET", "k")])
def test_nothing_is_refused_for_lack_of_a_replica_while_that_is_still_being_asked(processes, words):
    pair = processes(Replication(replicas=1, sentinels=0))
    pair.replicas[0].pause()
    pointsman = processes(Personas(pair, reads_policy="replica", wait=None, upstream_kind="static"))
    wait_for(lambda: pointsman.is_alive() and pointsman.writes(), 20, "a first write")
    with Raw(pointsman.replica_port, timeout=20) as link:
        link.command(*words)
        assert link.is_silent(0.3)
        pair.replicas[0].resume()
        reply = link.read()
        assert reply in ([b"subscribe", b"news", 1], b"OK", None)


@pytest.mark.parametrize("command", ["SCAN", "HSCAN", "SSCAN"])
def test_the_pages_of_a_scan_may_come_over_any_connections_to_replicas(own_cluster, processes, command):
    """Those of a pool, or of a client that connects anew for each."""
    pointsman = processes(Personas(own_cluster))
    wait_until_replicas_are_read(pointsman)
    with pointsman.raw() as link:
        link.ask("HSET", "hash", *(word for i in range(1000) for word in (f"f{i}", i)))
        link.ask("SADD", "set", *range(-500, 500), "so that it is a table")
        link.send(b"".join(encode("SET", f"k:{i}", i) for i in range(500)))
        assert all(link.read() == b"OK" for _ in range(500))
        assert link.ask("WAIT", 2, 5000) == 2
    links = [Raw(pointsman.replica_port, timeout=20) for _ in range(6)]
    key = {"SCAN": [], "HSCAN": ["hash"], "SSCAN": ["set"]}[command]
    found, cursor, pages = set(), b"0", 0
    while cursor != b"0" or pages == 0:
        cursor, page = links[pages % 6].ask(command, *key, cursor, "COUNT", 20)
        found |= set(page)
        pages += 1
        assert pages < 300
    assert len(found) >= {"SCAN": 502, "HSCAN": 1000, "SSCAN": 1001}[command]
    for each in links:
        each.close()


def test_commands_for_all_nodes_concern_each_replica_of_the_address_once(processes):
    nodes = redis_cluster.RedisCluster(2, 1).start()
    try:
        pointsman = processes(Personas(nodes.seeds, upstream_kind="cluster"))
        replicas = [nodes.replicas_of(master)[0] for master in nodes.masters()]
        for node in nodes.nodes:
            node.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
            node.ask("SLOWLOG", "RESET")
        for replica in replicas:
            replica.ask("CONFIG", "SET", "slowlog-log-slower-than", -1)
        wait_for(lambda: pointsman.log_text().count("fit as replica") == 2, 20, "replicas to be known")
        with Raw(pointsman.replica_port, timeout=20) as link:
            count = sum(replica.ask("SLOWLOG", "LEN") for replica in replicas)
            assert count > 0
            wait_for(lambda: link.ask("SLOWLOG", "LEN") == count, what="the replicas to be asked once each")
    finally:
        nodes.stop()


def test_a_replica_that_dies_is_left_for_another(own_cluster, processes):
    pointsman = processes(Personas(own_cluster))
    wait_until_replicas_are_read(pointsman)
    own_cluster.wait_synced()
    clients = [pointsman.at(pointsman.replica_port) for _ in range(10)]
    assert all(client.get("harness:ready") == b"1" for client in clients)
    own_cluster.replicas[0].kill()
    for _ in range(20):
        assert all(client.get("harness:ready") == b"1" for client in clients)
    for client in clients:
        with pytest.raises(redis.ReadOnlyError):
            client.set("harness:ready", 2)
        client.close()


# ------------------------------------------------------------------------------------------ JavaScript

COUNTING = ["ioredis_cluster_counts", "ioredis_sentinels_count", "redis5_cluster_counts"]
AT_CLUSTER = [f"{library}_cluster{what}" for library in ("ioredis", "ioredis6", "redis4", "redis5", "redis6")
              for what in ("", "_reads_from_replicas")]  # fmt: skip
AT_SENTINEL = ["ioredis_sentinels", "ioredis_sentinels_followed", "ioredis6_sentinels", "ioredis6_sentinels_followed",
               "redis5_sentinel", "redis6_sentinel"]  # fmt: skip


def test_every_scenario_of_personas_is_run(node):
    program = f"JSON.stringify(Object.keys(require(`{CLIENTS}/personas.js`)))"
    assert sorted(json.loads(run(["node", "-p", program], node))) == sorted(COUNTING + AT_CLUSTER + AT_SENTINEL)


@pytest.mark.parametrize("scenario", AT_CLUSTER + AT_SENTINEL)
def test_javascript_at_its_persona(node, personas, scenario):
    skip_what_cannot_be_here(scenario.partition("_")[0])
    port = personas.cluster_ports[0] if scenario in AT_CLUSTER else personas.sentinel_ports[0]
    assert run(["node", str(CLIENTS / "run.js"), "personas", scenario, str(port)], node) == ""


# ------------------------------------------------------------------------------------------ PHP and Ruby

PHP_CLUSTER = """
$redis = new RedisCluster(null, ['127.0.0.1:' . $argv[1]]);
for ($i = 0; $i < 100; $i++) $redis->set("php:$i", $i);
for ($i = 0; $i < 100; $i++) if ($redis->get("php:$i") !== "$i") exit(1);
$redis->multi(); $redis->incr('php:n'); $redis->get('php:n'); if ($redis->exec() !== [1, '1']) exit(2);
if (count($redis->_masters()) !== 2) exit(3);
if ($redis->eval("return redis.call('incr', KEYS[1])", ['php:n'], 1) !== 2) exit(4);
"""
PHP_SENTINEL = """
$sentinel = new RedisSentinel('127.0.0.1', (int)$argv[1]);
[$host, $port] = $sentinel->getMasterAddrByName('mymaster');
if (!$sentinel->ping() || !$sentinel->ckquorum('mymaster') || $sentinel->getMasterAddrByName('nope')) exit(1);
$redis = new Redis(); $redis->connect($host, (int)$port); $redis->set('php:sentinel', 1);
$replica = $sentinel->slaves('mymaster')[0];
$reader = new Redis(); $reader->connect($replica['ip'], (int)$replica['port']);
try { $reader->set('php:sentinel', 2); exit(2); } catch (RedisException $e) {}
if (strpos($reader->getLastError() ?? $e->getMessage(), 'READONLY') !== 0) exit(3);
"""
RUBY_CLUSTER = """
redis = Redis.new(cluster: ["redis://127.0.0.1:#{ARGV[0]}"])
100.times { |i| redis.set("ruby:#{i}", i) }
raise unless (0...100).all? { |i| redis.get("ruby:#{i}") == i.to_s }
raise unless redis.pipelined { |p| 50.times { |i| p.incr("ruby:{same}") } } == (1..50).to_a
"""
RUBY_SENTINEL = """
where = { host: 'mymaster', sentinels: [{ host: '127.0.0.1', port: ARGV[0].to_i }] }
master, replica = Redis.new(**where, role: :master), Redis.new(**where, role: :slave)
master.set('ruby:sentinel', 1)
raise unless replica.role[0] == 'slave' && master.role[0] == 'master'
begin
  replica.set('ruby:sentinel', 2)
  raise 'written'
rescue Redis::CommandError => e
  raise unless e.message.start_with?('READONLY')
end
"""


@pytest.mark.parametrize("persona", ["cluster", "sentinel"])
@pytest.mark.parametrize("language", ["php", "ruby"])
def test_php_and_ruby_at_their_personas(personas, language, persona):
    port = str((personas.cluster_ports if persona == "cluster" else personas.sentinel_ports)[0])
    with personas.client() as plain:
        plain.delete("php:n", "ruby:{same}")
    if language == "php":
        program = PHP_CLUSTER if persona == "cluster" else PHP_SENTINEL
        assert run(["php", "-r", program, "--", port]) == ""
    else:
        program = RUBY_CLUSTER if persona == "cluster" else RUBY_SENTINEL
        run(["ruby", "-rredis", "-W0", "-e", program, port])


# ------------------------------------------------------------------------------- several masters behind


def test_personas_in_front_of_several_masters(processes):
    """Three masters that know nothing of each other: any client is served as if they were one."""
    groups = [processes(Replication(replicas=1, sentinels=0)) for _ in range(3)]
    names = {f"shard{number}": group.servers[0] for number, group in enumerate(groups)}
    sentinel = processes(SentinelServer("sentinel-of-three", groups[0].servers[0], quorum=1, names=names))
    sentinel.ready().hurry()
    pointsman = processes(
        Personas(sentinel.address, upstream_kind="sentinel", upstream_distribution="slots", wait=None,
                 upstream_master_name=",".join(names), reads_policy="master")
    )  # fmt: skip
    masters, replicas = [group.servers[0] for group in groups], [group.servers[1] for group in groups]
    wait_for(lambda: all(pointsman.client().set(f"key:{number}", 1) for number in range(30)), 20, "all shards")

    cluster = connect_cluster(pointsman)
    keys = [f"sharded:{number}" for number in range(60)]
    assert all(cluster.set(key, key) for key in keys)
    assert [cluster.get(key) for key in keys] == [key.encode() for key in keys]
    assert all(len(master.client().keys("sharded:*")) > 5 for master in masters)
    with Raw(pointsman.sentinel_ports[0]) as link:
        assert [pairs(master)[b"name"] for master in link.ask("SENTINEL", "MASTERS")] == [name.encode() for name in names]
        for name in names:
            told = link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
            assert told == [HOST.encode(), b"%d" % pointsman.port]
        assert link.ask("ROLE") == [b"sentinel", [name.encode() for name in names]]

    with pointsman.at(pointsman.replica_port) as client:
        count_gets = lambda servers: [server.commandstats().get("get", 0) for server in servers]
        wait_for(lambda: client.mget(keys) == [key.encode() for key in keys], 20, "the replicas to have all")
        wait_for(lambda: all(client.get(key) for key in keys) and all(count_gets(replicas)), 20, "all replicas to be read")
        masters_before = count_gets(masters)
        assert [client.get(key) for key in keys] == [key.encode() for key in keys]
        assert sorted(client.keys("sharded:*")) == sorted(key.encode() for key in keys)
        assert {key for key in client.scan_iter("sharded:*")} == {key.encode() for key in keys}
        assert client.pipeline().get(keys[0]).strlen(keys[0]).execute() == [keys[0].encode(), len(keys[0])]
        for words in ("SET", keys[0], 1), ("DEL", *keys), ("MSET", keys[0], 1, keys[1], 2), ("FLUSHALL",):
            with pytest.raises(redis.ReadOnlyError):
                client.execute_command(*words)
        assert count_gets(masters) == masters_before
    cluster.close()


# --------------------------------------------------------------------------------- a Redis Cluster behind


@pytest.fixture(scope="module")
def before_cluster():
    """A real cluster of three masters with a replica each, and personas in front of it."""
    nodes = redis_cluster.RedisCluster(3, 1).start()
    pointsman = Personas(nodes.seeds, upstream_kind="cluster", reads_policy="master").start()
    with pointsman.client() as plain:  # nodes may be taken for masters before all have heard that they are replicas
        wait_for(lambda: plain.dbsize() is not None, 30, "all masters to answer")
    yield pointsman, nodes
    pointsman.stop()
    nodes.stop()


def test_cluster_in_front_of_a_cluster(before_cluster):
    pointsman, nodes = before_cluster
    cluster = connect_cluster(pointsman)
    keys = [f"both:{number}" for number in range(200)]
    assert all(cluster.set(key, key) for key in keys)
    assert [cluster.get(key) for key in keys] == [key.encode() for key in keys]
    slot = redis_cluster.slot_of("both:{tag}")
    cluster.mset({"both:{tag}1": 1, "both:{tag}2": 2})
    with Raw(pointsman.cluster_ports[1]) as link:
        assert len(link.ask("CLUSTER", "SLOTS")) == 2  # the proxy's addresses, not the masters behind
        assert link.ask("CLUSTER", "KEYSLOT", "both:{tag}1") == slot
        assert link.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 2
        assert sorted(link.ask("CLUSTER", "GETKEYSINSLOT", slot, 10)) == [b"both:{tag}1", b"both:{tag}2"]
        counts = []
        for each in range(0, SLOTS, 7):
            link.command("CLUSTER", "COUNTKEYSINSLOT", each)
        for each in range(0, SLOTS, 7):
            counts.append(link.read())
        truth = [sum(1 for key in [*keys, "both:{tag}", "both:{tag}"] if redis_cluster.slot_of(key) == each)
                 for each in range(0, SLOTS, 7)]  # fmt: skip
        assert sum(counts) >= sum(truth) and all(a >= b for a, b in zip(counts, truth))
        assert [link.ask("ASKING"), link.ask("GET", keys[0])] == [b"OK", keys[0].encode()]
    cluster.close()


def test_nothing_is_lost_while_slots_move_behind(before_cluster):
    pointsman, nodes = before_cluster
    cluster = connect_cluster(pointsman)
    key = "moving"
    cluster.set(key, 0)
    with redis_cluster.Flipper(nodes, redis_cluster.slot_of(key)) as flipper:
        deadline = time.monotonic() + 3
        values = []
        while time.monotonic() < deadline:
            values.append(cluster.incr(key))
    assert flipper.flips > 2 and values == list(range(1, len(values) + 1))
    check = run(["redis-cli", "--cluster", "check", f"{HOST}:{pointsman.cluster_ports[0]}"])
    assert "All 16384 slots covered" in check
    cluster.close()


def test_replicas_of_a_cluster_are_read_and_never_written(before_cluster):
    pointsman, nodes = before_cluster
    masters = nodes.masters()
    replicas = [replica for master in masters for replica in nodes.replicas_of(master)]
    calls = lambda servers, name: [server.commandstats().get(name, 0) for server in servers]
    keys = [nodes.key_of(master) for master in masters]
    with pointsman.client() as plain, pointsman.at(pointsman.replica_port) as client:
        assert all(plain.set(key, key) for key in keys)
        wait_for(lambda: all(client.get(key) == key.encode() for key in keys) and all(calls(replicas, "get")), 30,
                 "all replicas to be read")  # fmt: skip
        read_before, written_before = calls(masters, "get"), calls(masters, "set")
        for key in keys:
            assert client.get(key) == key.encode()
            assert client.pipeline().get(key).strlen(key).execute() == [key.encode(), len(key)]
            assert client.eval("return redis.call('get', KEYS[1])", 1, key) == key.encode()
            with pytest.raises(redis.ReadOnlyError):
                client.set(key, "x")
            with pytest.raises(redis.ResponseError):
                client.eval("return redis.call('set', KEYS[1], 'x')", 1, key)
        with pytest.raises(redis.ResponseError, match="WAIT cannot be used with replica instances"):
            client.wait(0, 1)
        assert client.mget(keys) == [key.encode() for key in keys]
        assert set(key.encode() for key in keys) <= set(client.scan_iter(count=1000))
        assert calls(masters, "get") == read_before and calls(masters, "set") == written_before
        assert [plain.get(key) for key in keys] == [key.encode() for key in keys]


# ------------------------------------------------------------------------------------------ a failover behind


class PythonCounting(threading.Thread):
    """Increments keys through redis-py's client of a cluster or of Sentinels, and keeps what it was told."""

    def __init__(self, client, name):
        super().__init__(daemon=True)
        self.client = client
        self.keys = [f"counting:{name}:{number}" for number in range(4)]
        self.values = {key: [] for key in self.keys}
        self.errors = []
        self.is_ending = False
        self.start()

    def run(self):
        while not self.is_ending:
            for key in self.keys:
                try:
                    self.values[key].append(self.client.incr(key))
                except redis.RedisError as error:
                    self.errors.append(str(error))
            time.sleep(0.002)

    def end(self):
        self.is_ending = True
        self.join(20 * SLOWNESS)


def test_clients_of_all_personas_live_through_a_failover(node, own_cluster, processes):
    pointsman = processes(Personas(own_cluster, failover_hold_time="60s"))
    ports = [pointsman.cluster_ports[0], pointsman.sentinel_ports[0], pointsman.cluster_ports[0]]
    sentinel = SentinelClient([(HOST, pointsman.sentinel_ports[0])])
    counting = []
    clients = {"cluster": connect_cluster(pointsman), "sentinel": sentinel.master_for(MASTER_NAME)}
    python = [PythonCounting(client, name) for name, client in clients.items()]
    try:
        for scenario, port in zip(COUNTING, ports):
            counting.append(PersonaCounting(node, scenario, port))
        for each in counting:
            each.wait_until_counting()
        with Raw(pointsman.sentinel_ports[0]) as listener:
            assert listener.ask("SUBSCRIBE", "+switch-master") == [b"subscribe", b"+switch-master", 1]
            _, new = own_cluster.failover(lambda master: master.kill())
            switched_ms = wait_until_written(pointsman)
            assert listener.is_silent(0.05)  # our address is the same
        for each in python:
            each.end()
        with new.client() as connection:
            for each in counting:
                report = each.report()
                assert report["seen"] == [] and report["sameConnection"]
                for counter in report["counters"]:
                    check_counter(connection, counter["key"], counter["values"], counter["errors"])
                    assert counter["lastMs"] > switched_ms
            for each in python:
                for key, values in each.values.items():
                    check_counter(connection, key, values, each.errors)
    finally:
        for each in counting:
            each.process.kill()
            each.process.wait()


def check_counter(connection, key, values, errors):
    """Nothing was repeated, and no more is missing than what replication had not carried over."""
    assert all("outcome unknown" in error for error in errors)
    assert int(connection.get(key)) == values[-1] <= len(values) + len(errors)
    assert len(values) - values[-1] <= 1 + len(errors)


class PersonaCounting(Counting):
    def __init__(self, node, scenario, port):  # pylint: disable=super-init-not-called
        self.process = subprocess.Popen(
            ["node", str(CLIENTS / "run.js"), "personas", scenario, str(port)], env=node, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.client = scenario


# ------------------------------------------------------------------------------------------ hostile input

VOCABULARY = (
    "CLUSTER SENTINEL SLOTS SHARDS NODES INFO MYID KEYSLOT COUNTKEYSINSLOT GETKEYSINSLOT REPLICAS MASTER MASTERS SENTINELS "
    "CKQUORUM GET-MASTER-ADDR-BY-NAME SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE PING HELLO 2 3 RESET CLIENT REPLY ON "
    "SETNAME AUTH READONLY ASKING SELECT MULTI EXEC DISCARD EVAL ROLE GET SET WATCH SCAN 0 1 -1 16383 16384 mymaster LIST "
    "ACL WHOAMI HELP PUBLISH"
).split()  # fmt: skip


def random_command(rng):
    words = [rng.choice(VOCABULARY) for _ in range(rng.randrange(1, 6))]
    if rng.random() < 0.3:
        junk = bytes(rng.randrange(256) for _ in range(rng.choice([0, 1, 40, 300, 5000])))
        words[rng.randrange(len(words))] = junk
    return words


@pytest.mark.parametrize("persona", ["cluster", "sentinel", "replica"])
def test_whatever_is_sent_gets_whole_answers(personas, persona):
    port = {"cluster": personas.cluster_ports[0], "sentinel": personas.sentinel_ports[0], "replica": personas.replica_port}
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        with Raw(port[persona]) as link:
            link.send(b"".join(encode(*random_command(rng)) for _ in range(50)))
            link.send(encode("RESET") + encode("CLIENT", "GETNAME") + encode("QUIT"))
            data = link.read_to_end()
            assert b"+RESET\r\n" in data and data.endswith(b"+OK\r\n"), data[-500:]
    assert personas.is_alive()
    with personas.client() as plain:
        assert plain.ping()


def test_names_of_a_subscriber_are_bounded(cluster):
    with Personas(cluster, proxy_client_input_limit="100k") as pointsman:
        with Raw(pointsman.sentinel_ports[0]) as link:
            for number in range(3000):
                try:
                    link.command("SUBSCRIBE", f"channel:{number}")
                except OSError:
                    break
            link.read_to_end()
        assert "beyond proxy.client_input_limit" in pointsman.log_text()
        assert pointsman.writes()
