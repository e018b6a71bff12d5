# SPDX-License-Identifier: BSD-2-Clause
"""Several masters as one keyspace.

Guards against: a key that is looked for on another server than the one to which twemproxy wrote it, a shard whose
failover disturbs the others, a node that counts for the wrong master.
"""

import contextlib
import os
import pathlib
import random
import shutil
import socket
import subprocess
import threading

import pytest

import harness
from harness import HOST, POINTSMAN, ROOT, SLOWNESS, Pointsman, Process, Raw, Replication, Sentinel, Server
from harness import encode, free_port, wait_for

KEYS = 100_000
NAMES = ["delta", "b", "alpha", "c2", "zz"]  # twemproxy's order of them is b, c2, zz, alpha, delta
WEIGHTS = [1, 3, 2, 1, 5]
HASHES = (
    "one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32 fnv1a_32 hsieh murmur jenkins".split()
)
BUILD = pathlib.Path(POINTSMAN).parent


# ------------------------------------------------------------------------------------------------- keys


def make_keys():
    """Of all lengths and all bytes, with and without tags, and the empty one."""
    chance = random.Random(4)
    keys = {b"", b"{", b"}", b"{}", b"{}x", b"x{}", b"}{", b"{a}{b}", b"{{a}}", b"$$", b"$a", b"a$b$"}
    kinds = [
        lambda: b"user:%d" % chance.randrange(10**7),
        lambda: b"%d" % chance.randrange(10**9),
        lambda: b"cart:{%d}:items:%d" % (chance.randrange(10**5), chance.randrange(100)),
        lambda: b"s$%d$%d" % (chance.randrange(10**5), chance.randrange(100)),
        lambda: chance.randbytes(chance.randrange(1, 60)),
        lambda: "straße:%d:日本".encode() % chance.randrange(10**6),
        lambda: chance.randbytes(8).hex().encode() * chance.randrange(1, 17),
    ]
    while len(keys) < KEYS:
        keys.add(chance.choice(kinds)())
    return sorted(keys)


class Keys:
    """The keys, in the forms in which they are needed many times."""

    def __init__(self):
        self.keys = make_keys()
        self.bulks = [b"$%d\r\n%s\r\n" % (len(key), key) for key in self.keys]
        sets = [b"*3\r\n$3\r\nSET\r\n%s$1\r\n1\r\n" % bulk for bulk in self.bulks]
        self.batches = [b"".join(sets[start : start + 1000]) for start in range(0, KEYS, 1000)]
        self.hexadecimal = b"".join(key.hex().encode() + b"\n" for key in self.keys)

    def write_through(self, port):
        with Raw(port, timeout=30) as link:
            for number, batch in enumerate(self.batches):
                link.send(batch)
                if number:
                    self.take_answers(link)
            self.take_answers(link)

    @staticmethod
    def take_answers(link):
        assert link.input.read(5 * 1000) == b"+OK\r\n" * 1000

    def shards(self, **keys):
        """The number of the master that each has, as pointsman's library says for keys of [upstream]."""
        command = [BUILD / "key_shard"] + [f"--upstream.{name}={value}" for name, value in keys.items()]
        done = subprocess.run(command, input=self.hexadecimal, stdout=subprocess.PIPE, check=True, timeout=60)
        return [int(line) for line in done.stdout.split()]

    def assert_on(self, servers, shards):
        """Each server has the keys of its number and no other."""
        for number, server in enumerate(servers):
            expected = [bulk for bulk, shard in zip(self.bulks, shards) if shard == number]
            with server() as link:
                assert link.ask("DBSIZE") == len(expected), f"server {number} has others than the {len(expected)} expected"
                for start in range(0, len(expected), 5000):
                    part = expected[start : start + 5000]
                    link.send(b"*%d\r\n$6\r\nEXISTS\r\n%s" % (len(part) + 1, b"".join(part)))
                    assert link.read() == len(part), f"server {number} lacks keys"


@pytest.fixture(scope="module")
def keys():
    return Keys()


# -------------------------------------------------------------------------------------------- nutcracker


class Nutcracker(Process):
    """Pools of twemproxy. Each is (settings, lines of its servers, port)."""

    def __init__(self, pools):
        super().__init__("nutcracker")
        self.conf = self.directory / "nutcracker.yml"
        self.ports = [port for _, _, port in pools]
        with open(self.conf, "w", encoding="ascii") as conf:
            for settings, servers, port in pools:
                conf.write(f"pool{port}:\n  listen: {HOST}:{port}\n  redis: true\n  timeout: 20000\n")
                conf.writelines(f'  {name}: "{value}"\n' for name, value in settings.items() if value)
                conf.write("  servers:\n")
                conf.writelines(f"  - {server}\n" for server in servers)

    def command(self):
        program = shutil.which("nutcracker", path=os.environ["PATH"] + ":/usr/sbin")
        assert program, "nutcracker is missing: make test-deps"
        return [program, "-c", self.conf, "-a", HOST, "-s", str(free_port()), "-o", self.log, "-p", self.directory / "pid"]

    def start(self):
        super().start()
        for port in self.ports:
            wait_for(lambda: socket.create_connection((HOST, port)).close() or True, what="nutcracker to listen")
        return self


class Pools:
    """Five servers and, in front of them, a pool of nutcracker for each rule."""

    def __init__(self):
        self.servers = [Server(f"shard{number}").start() for number in range(len(NAMES))]
        self.ports = {}
        pools = []
        for rule in [(d, h, t) for d in ("modula", "ketama") for h in HASHES for t in ("", "{}", "$$")]:
            self.ports[rule] = free_port()
            settings = dict(zip(("distribution", "hash", "hash_tag"), rule))
            pools.append((settings, self.lines(WEIGHTS), self.ports[rule]))
        for server in self.servers:
            server.ready()
        self.nutcracker = Nutcracker(pools).start()

    def lines(self, weights, names=NAMES):
        names = names or [""] * len(weights)
        return [f"{s.address}:{w} {n}".strip() for s, w, n in zip(self.servers, weights, names)]

    def flush(self):
        for server in self.servers:
            with server.raw() as link:
                assert link.ask("FLUSHALL") == b"OK"

    def stop(self):
        for process in [self.nutcracker, *self.servers]:
            process.kill()


@pytest.fixture(scope="module")
def pools():
    made = Pools()
    yield made
    made.stop()


# -------------------------------------------------------------------------- the same servers as twemproxy


@pytest.mark.parametrize("hash_name", HASHES)
@pytest.mark.parametrize("distribution", ["modula", "ketama"])
def test_keys_are_on_the_servers_to_which_twemproxy_writes_them(pools, keys, distribution, hash_name):
    shards = {}
    tags = ("", "{}", "$$") if distribution == "modula" else ("",)  # what counts of a key is found before it is hashed
    for tag in tags:
        pools.flush()
        keys.write_through(pools.ports[distribution, hash_name, tag])
        shards[tag] = keys.shards(
            master_name="a,b,c,d,e", distribution=distribution, hash=hash_name, hash_tag=tag,
            twemproxy_servers=",".join(pools.lines(WEIGHTS)),
        )  # fmt: skip
        keys.assert_on([server.raw for server in pools.servers], shards[tag])
    # crc16 and crc32 give numbers too small for ketama: twemproxy puts (nearly) all on one server, and so do we.
    if distribution == "modula" or not hash_name in ("crc16", "crc32"):
        assert all(set(found) == set(range(len(NAMES))) for found in shards.values())
        assert len(tags) == 1 or shards[""] != shards["{}"] != shards["$$"]


def test_weights_and_servers_without_names_make_the_points_that_twemproxy_makes(pools, keys):
    """Each set of weights another number of points, some of them where floats are rounded."""
    chance = random.Random(5)
    cases = [([1] * 5, None), ([1, 1, 1, 1, 2], None), (WEIGHTS, None), ([7, 11, 13, 17, 19], NAMES), ([1000, 1, 1, 500, 3], NAMES)]
    cases += [([chance.randrange(1, 101) for _ in NAMES], NAMES) for _ in range(3)]
    made = [({"distribution": "ketama", "hash": "fnv1a_64"}, pools.lines(*case), free_port()) for case in cases]
    made += [({"distribution": "modula", "hash": "murmur"}, pools.lines(*cases[2]), free_port())]
    made += [({"distribution": "ketama"}, pools.lines(WEIGHTS), free_port())]  # fnv1a_64 is the default of both
    nutcracker = Nutcracker(made).start()
    for settings, lines, port in made:
        pools.flush()
        keys.write_through(port)
        shards = keys.shards(master_name="a,b,c,d,e", twemproxy_servers=",".join(lines), **settings)
        keys.assert_on([server.raw for server in pools.servers], shards)
    nutcracker.kill()


def test_the_port_of_memcached_and_unix_sockets_are_named_as_twemproxy_names_them(processes, keys):
    """Without names; host:11211 is named by its host alone."""
    host = "127.%d.%d.%d" % tuple(random.SystemRandom().randrange(1, 255) for _ in range(3))
    plain, unix = (processes(Server(name, settings=settings)) for name, settings in (("plain", {}), ("unix", {"unixsocket": "s"})))
    old = processes(Server("old", port=11211, bind=host))
    path = str(unix.directory / "s")
    links = [lambda: Raw(11211, host=host), plain.raw, lambda: Raw(path=path)]
    for link in links:
        wait_for(lambda: link().ask("PING") == b"PONG", what="a server to answer")
    lines = [f"{host}:11211:2", f"{plain.address}:1", f"{path}:3"]
    for distribution in ("ketama", "modula"):
        port = free_port()
        processes(Nutcracker([({"distribution": distribution, "hash": "md5"}, lines, port)]))
        for link in links:
            assert link().ask("FLUSHALL") == b"OK"
        keys.write_through(port)
        shards = keys.shards(master_name="a,b,c", distribution=distribution, hash="md5", twemproxy_servers=",".join(lines))
        keys.assert_on(links, shards)
    assert old.is_alive()


def port_with_a_bus():
    """Nodes of a cluster use the port 10000 above as well: below the ephemeral range too."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            if port < 22000 and probe.connect_ex((HOST, port + 10000)) != 0:
                return port


def test_slots_are_those_of_a_redis_cluster_made_by_redis_cli(processes, keys):
    """A cluster of three masters and this distribution over three masters have each key in the same third."""
    settings = {"cluster-enabled": "yes"}
    nodes = [processes(Server(f"node{n}", port=port_with_a_bus(), settings=settings)).ready() for n in range(3)]
    command = ["redis-cli", "--cluster", "create", *(node.address for node in nodes), "--cluster-yes"]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    shards = keys.shards(master_name="a,b,c", distribution="slots")
    with nodes[0].raw() as link:
        ranges = [(first, last, owner[1]) for first, last, owner, *_ in link.ask("CLUSTER", "SLOTS")]
        sample = random.Random(6).sample(range(KEYS), 5000)
        for start in range(0, len(sample), 500):
            part = sample[start : start + 500]
            link.send(b"".join(encode("CLUSTER", "KEYSLOT", keys.keys[number]) for number in part))
            for number in part:
                slot = link.read()
                port = next(owner for first, last, owner in ranges if first <= slot <= last)
                assert nodes[shards[number]].port == port


# ------------------------------------------------------------------------------------ Sentinels and masters


class Watch(Process):
    """The snapshots of the control thread, by build/topology_watch."""

    def __init__(self, **keys):
        super().__init__("watch")
        self.keys = keys

    def command(self):
        return [BUILD / "topology_watch"] + [f"--upstream.{name}={value}" for name, value in self.keys.items()]

    def start(self):
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.directory,
                preexec_fn=harness._die_with_parent,
            )  # fmt: skip
        harness.running.append(self)
        return self

    def snapshots(self):
        lines = [line.split() for line in self.log_text().splitlines() if " version=" in line]
        return [dict(word.split("=", 1) for word in words if "=" in word) for words in lines]

    def masters(self):
        """Of the last snapshot: ports, or None where there is no master."""
        last = self.snapshots()[-1:] or [{"masters": ""}]
        return [int(name.rpartition(":")[2]) if ":" in name else None for name in last[0]["masters"].split(",")]

    def replicas_of_the_first(self):
        last = self.snapshots()[-1:] or [{"replicas": ""}]
        return {int(name.rpartition(":")[2]) for name in last[0]["replicas"].split(",") if name}


class Shards:
    """Three masters with a replica each, watched by the same three Sentinels."""

    def __init__(self):
        self.names = ["orders", "carts", "users"]
        self.groups = [Replication(replicas=1, sentinels=0).start() for _ in self.names]
        masters = {name: group.servers[0] for name, group in zip(self.names, self.groups)}
        first = self.groups[0].servers[0]
        self.sentinels = [Sentinel(f"sentinel{n}", first, 2, names=masters).start() for n in range(3)]
        for sentinel in self.sentinels:
            sentinel.ready().hurry()
        for sentinel in self.sentinels:
            for name in self.names:
                wait_for(lambda: self._knows_all(sentinel, name), 20, f"{sentinel.name} to know all of {name}")

    @staticmethod
    def _knows_all(sentinel, name):
        with sentinel.client() as client:
            replicas = client.sentinel_slaves(name)
        return sentinel.state(name)["num-other-sentinels"] == 2 and [r["master-link-status"] for r in replicas] == ["ok"]

    @property
    def settings(self):
        return {"master_name": ",".join(self.names), "nodes": ",".join(s.address for s in self.sentinels)}

    def ports(self):
        """Of the masters as the Sentinels name them."""
        return [self.sentinels[0].master_address(name)[1] for name in self.names]

    def stop(self):
        for process in self.sentinels:
            process.kill()
        for group in self.groups:
            group.stop()


@pytest.fixture
def shards():
    made = Shards()
    yield made
    made.stop()


def test_each_name_is_a_shard_and_fails_over_while_the_others_stay(shards, processes):
    watch = processes(Watch(distribution="slots", **shards.settings))
    before = shards.ports()
    wait_for(lambda: watch.masters() == before, what="all three masters")
    wait_for(lambda: watch.replicas_of_the_first() == {shards.groups[0].servers[1].port}, what="the first one's replica")
    seen = len(watch.snapshots())

    shards.groups[1].servers[0].kill()
    replica = shards.groups[1].servers[1].port
    wait_for(lambda: watch.masters() == [before[0], replica, before[2]], 30, "the promoted replica")
    for snapshot in watch.snapshots()[seen:]:
        first, second, third = snapshot["masters"].split(",")
        assert (first, third) == (f"{HOST}:{before[0]}", f"{HOST}:{before[2]}")
        assert second in ("none", f"{HOST}:{before[1]}", f"{HOST}:{replica}")

    shards.groups[1].servers[0].start().ready()  # it comes back and is made a replica, of its own shard
    wait_for(lambda: shards.groups[1].servers[0].role() == "slave", 20, "the old master to be a replica")
    assert watch.masters() == [before[0], replica, before[2]]
    assert watch.replicas_of_the_first() == {shards.groups[0].servers[1].port}


def test_a_replica_that_is_moved_to_another_master_serves_that_shard_at_once(shards, processes):
    watch = processes(Watch(distribution="modula", **shards.settings))
    wait_for(lambda: watch.masters() == shards.ports(), what="all three masters")
    moved = shards.groups[2].servers[1]
    moved.replicaof(shards.groups[0].servers[0])
    for sentinel in shards.sentinels:
        with sentinel.client() as client:
            client.execute_command("SENTINEL", "RESET", "users")
    both = {shards.groups[0].servers[1].port, moved.port}
    wait_for(lambda: watch.replicas_of_the_first() == both, 15, "the replica to be one of the first master")
    assert watch.masters() == shards.ports()


def test_two_names_for_one_master_are_told_and_only_one_has_it(processes):
    master = processes(Server("master")).ready()
    sentinel = processes(Sentinel("sentinel", master, 1, names={"one": master, "same": master})).ready()
    watch = processes(Watch(master_name="one,same", distribution="slots", nodes=sentinel.address))
    wait_for(lambda: sorted(watch.masters(), key=str) == [master.port, None], what="one of the two to be the master")
    wait_for(lambda: "is the master of another name" in watch.log_text(), what="the other to be told")


@pytest.mark.parametrize("kind", ["auto", "static"])
def test_a_distribution_over_a_plain_server_is_refused(processes, kind):
    server = processes(Server("plain")).ready()
    watch = processes(Watch(kind=kind, master_name="a,b", distribution="slots", nodes=server.address))
    wait_for(lambda: "upstream.distribution" in watch.log_text(), what="the mistake to be told")
    assert watch.snapshots() == []


# ------------------------------------------------------------------------------------------ through pointsman

@pytest.mark.parametrize("distribution", ["modula", "ketama"])
def test_what_twemproxy_has_written_pointsman_reads_and_the_other_way_round(shards, processes, keys, distribution):
    masters = [group.servers[0] for group in shards.groups]
    lines = [f"{server.address}:{weight} {name}" for server, weight, name in zip(masters, (1, 3, 2), ("s1", "s2", "s10"))]
    rule = {"distribution": distribution, "hash": "murmur", "hash_tag": "{}"}
    port = free_port()
    processes(Nutcracker([(rule, lines, port)]))
    settings = {**shards.settings, **rule, "twemproxy_servers": ",".join(lines)}
    pointsman = processes(
        Pointsman(None, reads_policy="master", **{f"upstream_{name}": value for name, value in settings.items()})
    )
    sample = random.Random(7).sample(keys.keys, 5000)
    for writer, reader in ((port, pointsman.port), (pointsman.port, port)):
        for server in masters:
            with server.client() as client:
                client.flushall()
        with Raw(writer) as link:
            link.send(b"".join(encode("SET", key, b"of " + key) for key in sample))
            assert [link.read() for _ in sample] == [b"OK"] * len(sample)
        with Raw(reader) as link:
            link.send(b"".join(encode("GET", key) for key in sample))
            assert [link.read() for _ in sample] == [b"of " + key for key in sample]


def test_a_master_that_freezes_is_left_out_of_what_need_not_wait_for_it(shards, processes):
    """Also where that was sent before anybody could know."""
    settings = {**shards.settings, "distribution": "slots"}
    pointsman = processes(
        Pointsman(None, proxy_request_timeout="120s", **{f"upstream_{name}": value for name, value in settings.items()})
    )
    frozen = shards.groups[2].servers
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(pointsman.raw(timeout=60)) for _ in range(4)]
        for server in frozen:
            server.pause()
        try:
            for number, link in enumerate(links):
                link.command("INFO", "server") if number % 2 else link.command("SCRIPT", "KILL")
            replies = [link.read() for link in links]
            assert all(reply.startswith(b"NOTBUSY") for reply in replies[::2])
            assert all(b"redis_version" in reply for reply in replies[1::2])
            assert links[0].ask("SCRIPT", "KILL").startswith(b"NOTBUSY")
            assert all(link.ask("PING") == b"PONG" for link in links)
        finally:
            for server in frozen:
                server.resume()
        wait_for(lambda: isinstance(links[0].ask("DBSIZE"), int), what="all masters to answer")


def test_commands_over_keys_of_all_masters_are_those_of_twemproxy(shards, processes, keys):
    masters = [group.servers[0] for group in shards.groups]
    lines = [server.address + ":1" for server in masters]
    port = free_port()
    processes(Nutcracker([({"distribution": "ketama"}, lines, port)]))
    settings = {**shards.settings, "distribution": "ketama", "twemproxy_servers": ",".join(lines)}
    pointsman = processes(
        Pointsman(None, reads_policy="master", **{f"upstream_{name}": value for name, value in settings.items()})
    )
    many = random.Random(8).sample(keys.keys, 200)
    pairs = [word for key in many for word in (key, b"of " + key)]
    with Raw(pointsman.port) as ours, Raw(port) as twemproxy:
        assert ours.ask("MSET", *pairs) == b"OK"
        assert twemproxy.ask("MGET", *many) == pairs[1::2]
        assert ours.ask("MGET", *many) == pairs[1::2]
        assert ours.ask("DEL", *many) == len(many)
        assert twemproxy.ask("MGET", *many) == [None] * len(many)


def test_sort_does_not_take_for_missing_what_other_masters_have(shards, processes):
    pointsman = processes(
        Pointsman(None, reads_policy="master", upstream_distribution="slots",
                  **{f"upstream_{name}": value for name, value in shards.settings.items()})
    )  # fmt: skip
    crossed = b"CROSSSLOT Keys in request don't hash to the same slot"
    with pointsman.raw() as link:
        for name in ("plain", "{tag}"):
            link.ask("DEL", f"{name}ids")
            link.ask("RPUSH", f"{name}ids", 1, 2, 3)
            for number in (1, 2, 3):
                link.ask("SET", f"{name}w{number}", 9 - number)
        assert link.ask("SORT", "{tag}ids", "BY", "{tag}w*", "GET", "{tag}w*") == [b"6", b"7", b"8"]
        assert link.ask("SORT", "plainids", "BY", "nosort", "GET", "#", "LIMIT", 0, 2) == [b"1", b"2"]
        for words in (("BY", "plainw*"), ("GET", "plainw*"), ("BY", "nosort", "GET", "#", "GET", "x*"), ("BY", "{tag*}w")):
            assert link.ask("SORT", "plainids", *words) == link.ask("SORT_RO", "{tag}ids", *words) == crossed
        assert link.ask("MULTI") == b"OK"
        assert link.ask("SORT", "plainids", "BY", "plainw*") == crossed
        assert link.ask("EXEC").startswith(b"EXECABORT")


def test_a_transaction_may_begin_with_another_database(shards, processes, keys):
    pointsman = processes(
        Pointsman(None, reads_policy="master", upstream_distribution="slots",
                  **{f"upstream_{name}": value for name, value in shards.settings.items()})
    )  # fmt: skip
    for key in ("a", "b", "c", "d", "e", "f"):
        with pointsman.raw() as link:
            link.send(b"".join(encode(*words) for words in (("MULTI",), ("SELECT", 3), ("SET", key, "in 3"), ("EXEC",))))
            assert [link.read() for _ in range(4)] == [b"OK", b"QUEUED", b"QUEUED", [b"OK", b"OK"]]
            assert link.ask("GET", key) == b"in 3" and link.ask("DEL", "a", "b", "c", "d", "e", "f") == 1
            link.send(b"".join(encode(*words) for words in (("MULTI",), ("PING",), ("SELECT", 0), ("EXEC",))))
            assert [link.read() for _ in range(4)][-1] == [b"PONG", b"OK"]
            assert link.ask("SET", key, "in 0") == b"OK"
        with pointsman.raw() as link:
            assert link.ask("GET", key) == b"in 0" and link.ask("DEL", key) == 1


def test_writes_of_a_shard_without_master_wait_and_those_of_others_do_not(shards, processes, keys):
    pointsman = processes(
        Pointsman(None, upstream_distribution="slots", failover_hold_time="60s",
                  **{f"upstream_{name}": value for name, value in shards.settings.items()})
    )  # fmt: skip
    number_of = dict(zip(keys.keys, keys.shards(distribution="slots", master_name=shards.settings["master_name"])))
    text = [key for key in keys.keys if key.startswith(b"user:")][:300]
    of_second = [key for key in text if number_of[key] == 1]
    of_others = [key for key in text if number_of[key] != 1]
    assert of_second and of_others

    shards.groups[1].servers[0].kill()
    waiting = pointsman.raw(timeout=60)
    waiting.send(b"".join(encode("SET", key, "held") for key in of_second))
    answers = []
    reader = threading.Thread(target=lambda: answers.extend(waiting.read() for _ in of_second), daemon=True)
    reader.start()
    with pointsman.client() as client:
        for key in of_others:
            assert client.set(key, "at once")
    assert answers == [], "the shard had a master again before the others were written to"
    reader.join(60 * SLOWNESS)
    assert answers == [b"OK"] * len(of_second)
    with shards.groups[1].servers[1].client() as client:
        assert client.mget(of_second) == [b"held"] * len(of_second)
    waiting.close()


def test_subscribers_hear_messages_and_shard_channels_also_while_they_have_transactions(shards, processes):
    pointsman = processes(Pointsman(None, upstream_distribution="modula", **{f"upstream_{k}": v for k, v in shards.settings.items()}))
    with pointsman.raw(timeout=20) as link, pointsman.raw(timeout=20) as subscriber:
        subscriber.ask("HELLO", 3)
        channels = [f"shard:{i}".encode() for i in range(9)]
        assert subscriber.ask("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        for count, channel in enumerate(channels, 1):
            assert subscriber.ask("SSUBSCRIBE", channel) == [b"ssubscribe", channel, count]
        assert link.ask("PUBLISH", "news", "first") == 1
        assert subscriber.read() == [b"message", b"news", b"first"]
        for channel in channels:
            assert link.ask("SPUBLISH", channel, "m") == 1
        assert sorted(subscriber.read() for _ in channels) == [[b"smessage", channel, b"m"] for channel in channels]
        for i in range(9):  # on all masters, of which one hears of PUBLISH
            subscriber.send(encode("MULTI") + encode("INCR", f"count:{i}") + encode("EXEC"))
            assert [subscriber.read() for _ in range(3)] == [b"OK", b"QUEUED", [1]]
            wait_for(lambda: link.ask("PUBLISH", "news", i) == 1, 10, "it to be subscribed")
            assert subscriber.read() == [b"message", b"news", b"%d" % i]
        assert subscriber.ask("SUBSCRIBE", "more") == [b"subscribe", b"more", 2]
        assert link.ask("PUBLISH", "more", "last") == 1
        assert subscriber.read() == [b"message", b"more", b"last"]
        assert subscriber.is_silent()


@pytest.mark.parametrize("name", ["twemproxy", "predixy", "several-masters"])
def test_the_files_in_conf_are_good(name):
    done = subprocess.run([POINTSMAN, "-t", "-c", ROOT / "conf" / f"{name}.ini"], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
