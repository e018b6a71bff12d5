# SPDX-License-Identifier: BSD-2-Clause
"""Writes go to the master and reads to replicas, proven by what each server counted."""

import os
import re
import time

import pytest
import redis

from harness import POINTSMAN, Pointsman, Replication, Server, encode, wait_for

READS = 200


@pytest.fixture(scope="module")
def data(cluster):
    """One key of each type, on every server."""
    with cluster.master.client() as client:
        client.set("s", "abc")
        client.rpush("l", 3, 1, 2)
        client.sadd("u", 1, 2)
        client.zadd("z", {"a": 1, "b": 2})
        client.hset("h", "f", "v")
        client.xadd("x", {"f": "v"}, id="1-1")
        client.pfadd("p", "a")
        client.geoadd("g", [13.4, 52.5, "berlin"])
    cluster.wait_synced()


def read_many(pointsman, count=READS):
    with pointsman.client() as client:
        for number in range(count):
            client.get(f"split:{number}")


def test_by_default_writes_reach_the_master_alone_and_reads_all_replicas_but_not_the_master(cluster, proxy):
    master, replicas = cluster.master, cluster.replicas
    with cluster.counting() as counts, proxy.client() as client:
        for number in range(READS):
            client.set(f"split:{number}", number)
        cluster.wait_synced()
        proxy.wait_fresh()
        for number in range(READS):
            assert client.get(f"split:{number}") == b"%d" % number
    assert counts.calls(master, "set") == READS + 1  # one is the harness waiting
    assert counts.rejected(replicas) == {}
    assert counts.calls(master, "get") == 0
    assert counts.calls(replicas, "get") == READS
    assert all(share > READS / 10 for share in counts.each(replicas, "get")), counts.each(replicas, "get")


@pytest.mark.parametrize(
    "policy, on_master, on_replicas",
    [
        ("master", READS, 0),
        ("prefer-master", READS, 0),
        ("replica", 0, READS),
        ("prefer-replica", 0, READS),
    ],
)
def test_reads_follow_the_policy(cluster, processes, policy, on_master, on_replicas):
    pointsman = processes(Pointsman(cluster, reads_policy=policy))
    if on_replicas:
        pointsman.wait_for_replicas(2)
    with cluster.counting() as counts:
        read_many(pointsman)
    assert counts.calls(cluster.master, "get") == on_master
    assert counts.calls(cluster.replicas, "get") == on_replicas
    if on_replicas:
        assert all(counts.each(cluster.replicas, "get"))


def test_policy_nearest_reads_from_fit_nodes_and_writes_to_the_master(cluster, processes):
    pointsman = processes(Pointsman(cluster, reads_policy="nearest"))
    with cluster.counting() as counts:
        read_many(pointsman)
        with pointsman.client() as client:
            client.set("split:nearest", 1)
    assert counts.calls(cluster.servers, "get") == READS
    assert counts.calls(cluster.master, "set") == 1
    assert counts.rejected(cluster.servers) == {}


READ_COMMANDS = """
    get s | mget s nothing | strlen s | getrange s 0 1 | getbit s 1 | bitcount s | bitpos s 1 | bitfield_ro s get u8 0
    exists s | ttl s | pttl s | type s | expiretime s | dump s | lcs s s
    lrange l 0 -1 | llen l | lindex l 0 | lpos l 1
    smembers u | sismember u 1 | smismember u 1 | scard u | sinter u u | sunion u u | sdiff u u | srandmember u
    sintercard 1 u | zrange z 0 -1 | zscore z a | zmscore z a | zrank z a | zcard z | zcount z 0 9 | zunion 2 z z
    zinter 2 z z | zdiff 2 z z | zrandmember z | zrangebyscore z 0 9 | zlexcount z - +
    hget h f | hgetall h | hmget h f | hlen h | hkeys h | hvals h | hexists h f | hstrlen h f | hrandfield h
    xrange x - + | xrevrange x + - | xlen x | xread count 1 streams x 0
    geopos g berlin | geodist g berlin berlin | geohash g berlin | geosearch g fromlonlat 13 52 byradius 99 km
    georadius_ro g 13 52 99 km | georadiusbymember_ro g berlin 99 km | substr s 0 1
"""

WRITES_BY_NAME = """
    set w 1 | setex w 9 1 | append w 1 | setrange w 0 x | getset w 1 | incr w | incrby w 2 | decr w | incrbyfloat w 1.5
    mset w 1 w2 2 | setnx w 1 | getdel w | expire s 1000 | persist s | setbit wb 1 1 | bitop not wo s
    copy s wc replace | rename wc wd | del wd | unlink wc | lpush wl 1 | rpush wl 2 | linsert wl before 1 0 | lset wl 0 9
    lmove wl wl left right | rpoplpush wl wl | lpop wl | ltrim wl 0 9 | sadd wu 1 | smove wu wv 1 | spop wv | srem wu 1
    sinterstore wi u u | zadd wz 1 a | zincrby wz 1 a | zunionstore wy 2 z z | zrangestore wr z 0 -1 | zpopmin wz
    hset wh f 1 | hincrby wh f 1 | hdel wh f | xadd wx * f v | xtrim wx maxlen 5 | xdel wx 1-1 | pfadd wp a
    pfmerge wq p p | geoadd wg 13 52 a | geosearchstore wk g fromlonlat 13 52 byradius 99 km | flushdb
"""

# They read by their name but write, or a replica refuses them all the same.
WRITES_BY_OPTION = """
    getex s | getex s ex 1000 | sort l | sort l store ws | bitfield s get u8 0 | bitfield wf set u8 0 1
    georadius g 13 52 99 km | georadius g 13 52 99 km store wst | georadiusbymember g berlin 99 km
"""

# Neither keyed nor of one connection: the master's.
MASTER_BY_DEFAULT = """
    dbsize | scan 0 | randomkey | keys nothing | time | lastsave | eval 'return~1' 0 | publish channel message
    spublish channel message | config get maxmemory | memory usage s | object encoding s | slowlog len | pubsub channels
    sort_ro l
"""


def words(text):
    for line in text.strip().splitlines():
        for command in filter(str.strip, line.split("|")):
            yield [word.strip("'").replace("~", " ") for word in command.split()]


def stat_name(command, stats):
    """The row of INFO commandstats: "get", or "config|get" for a container."""
    pair = f"{command[0]}|{command[1]}" if len(command) > 1 else ""
    return pair if pair in stats else command[0]


@pytest.mark.parametrize("command", list(words(READ_COMMANDS)), ids=" ".join)
def test_read_command_goes_to_a_replica(cluster, data, proxy, command):
    with cluster.counting() as counts, proxy.raw() as link:
        reply = link.send(encode(*command)).read_bytes()
    assert not reply.startswith(b"-"), reply
    assert counts.calls(cluster.replicas, command[0]) == 1
    assert counts.calls(cluster.master, command[0]) == 0


@pytest.mark.parametrize("command", list(words(WRITES_BY_OPTION + WRITES_BY_NAME)), ids=" ".join)
def test_write_command_goes_to_the_master(cluster, data, proxy, command):
    with cluster.counting() as counts, proxy.raw() as link:
        link.send(encode("SELECT", 9)).read()  # a database of its own: some of these write, one flushes
        reply = link.send(encode(*command)).read_bytes()
    assert not reply.startswith((b"-READONLY", b"-ERR pointsman", b"-ERR unknown")), reply
    assert counts.calls(cluster.master, command[0]) == 1
    assert not counts.rejected(cluster.replicas)


@pytest.mark.parametrize("command", list(words(MASTER_BY_DEFAULT)), ids=" ".join)
def test_command_without_a_key_of_its_own_goes_to_the_master(cluster, data, proxy, command):
    with cluster.counting() as counts, proxy.raw() as link:
        reply = link.send(encode(*command)).read_bytes()
    assert not reply.startswith(b"-"), reply
    name = stat_name(command, cluster.master.commandstats())
    assert counts.calls(cluster.master, name) == 1
    if command[0] not in ("publish", "spublish"):  # these travel on to replicas, as they should
        assert counts.calls(cluster.replicas, name) == 0


def test_unknown_command_goes_to_the_master_unchanged(cluster, proxy):
    def errors(server):
        with server.raw() as link:
            found = re.search(rb"errorstat_ERR:count=(\d+)", link.ask("INFO", "errorstats"))
        return int(found[1]) if found else 0

    before = [errors(server) for server in cluster.servers]
    with proxy.raw() as link:
        answer = link.ask("NOSUCH.Command", "one", "two")
    assert answer == b"ERR unknown command 'NOSUCH.Command', with args beginning with: 'one' 'two' "
    after = [errors(server) for server in cluster.servers]
    assert [b - a for a, b in zip(before, after)] == [int(server is cluster.master) for server in cluster.servers]


def test_prefer_replica_reads_the_master_when_no_replica_is_left(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster))
    with pointsman.client() as client:
        client.set("key", "value")
        own_cluster.wait_synced()
        for replica in own_cluster.replicas:
            replica.kill()
        for _ in range(50):
            assert client.get("key") == b"value"
    assert own_cluster.master.commandstats()["get"] >= 48


def test_policy_replica_fails_with_a_clear_error_when_no_replica_is_left(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster, reads_policy="replica")).wait_for_replicas(2)
    for replica in own_cluster.replicas:
        replica.kill()

    def refused():
        with pointsman.client() as client:
            try:
                client.get("key")
            except redis.ResponseError as error:
                return str(error)
        return None

    text = wait_for(refused, 10, "a read to be refused")
    assert "pointsman" in text and "replica" in text
    with pointsman.client() as client:
        assert client.set("key", "value")
    assert "get" not in own_cluster.master.commandstats()


def test_replica_that_lost_its_master_gets_no_reads_until_it_follows_again(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    lost, other = own_cluster.replicas
    with lost.client() as client:
        client.config_set("masterauth", "wrong")
        client.execute_command("CLIENT", "KILL", "TYPE", "master")
    wait_for(lambda: not lost.link_is_up(), what="the replica to lose its master")
    time.sleep(2)
    with own_cluster.counting() as counts:
        read_many(pointsman)
    assert counts.each([own_cluster.master, lost, other], "get") == [0, 0, READS]

    with lost.client() as client:
        client.config_set("masterauth", "")
    wait_for(lost.link_is_up, 20, "the replica to follow again")

    def read_again():
        before = lost.commandstats().get("get", 0)
        read_many(pointsman, 20)
        return lost.commandstats().get("get", 0) > before

    wait_for(read_again, 5, "reads to return to the replica", every=0.2)


def test_loading_replica_gets_no_reads_and_no_client_sees_the_word(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    replica = own_cluster.replicas[0]
    with replica.client() as client:
        client.execute_command("DEBUG", "POPULATE", 50000, "bulk", 100)
        client.config_set("key-load-delay", 50)  # microseconds: two and a half seconds for all
        client.config_set("loading-process-events-interval-bytes", 1024)
    with replica.raw(timeout=60) as reloading, replica.raw() as asking, pointsman.client() as client:
        reloading.command("DEBUG", "RELOAD")
        answers = set()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            client.get("split:loading")  # an error would be raised
            answers.add(bytes(asking.ask("GET", "split:loading") or b"")[:7])
    assert b"LOADING" in answers, "the replica was not seen loading, so nothing is proven"


def test_commands_of_a_module_like_prefix_pass_with_their_arguments(cluster, proxy, processes):
    plain = processes(Server("plain")).ready()
    command = encode("JSON.GET", b"doc", b"$.a\r\n", b"\x00\xff")
    with plain.raw() as one, proxy.raw() as two:
        assert one.send(command).read_bytes() == two.send(command).read_bytes()


def test_commands_of_a_real_module_are_split_with_no_configuration(processes):
    """Reads by key go to replicas, writes and what has no key to the master, by what COMMAND says of them."""
    module = os.path.join(os.path.dirname(POINTSMAN), "sample_module.so")
    cluster = processes(Replication(sentinels=1, settings={"loadmodule": module}))
    pointsman = processes(Pointsman(cluster)).wait_for_replicas(2)
    question = ("COMMAND", "INFO", "sample.has", "SAMPLE.PUT")
    with cluster.master.raw() as master, pointsman.raw() as link:
        known = master.ask(*question)
        wait_for(lambda: link.ask(*question) == known, what="the node's commands to be known")
    with cluster.counting() as counts, pointsman.raw() as link:
        for number in range(20):
            assert link.ask("SAMPLE.PUT", f"sample:{number}", number) == b"OK"
        cluster.wait_synced()
        pointsman.wait_fresh()
        for number in range(40):
            assert link.ask("sample.has", f"sample:{number}") == (number < 20)
        assert link.ask("SAMPLE.ABOUT") == b"sample"
    assert (counts.calls(cluster.master, "sample.put"), counts.calls(cluster.master, "sample.has")) == (20, 0)
    assert counts.calls(cluster.replicas, "sample.has") == 40
    assert (counts.calls(cluster.master, "sample.about"), counts.calls(cluster.replicas, "sample.about")) == (1, 0)
    assert counts.rejected(cluster.replicas) == {}
