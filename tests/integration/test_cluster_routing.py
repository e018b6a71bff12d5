# SPDX-License-Identifier: BSD-2-Clause
"""A client that knows nothing of Redis Cluster uses one: commands over one slot, over many, over all nodes."""

import pathlib
import random
import time

import pytest
import redis

from harness import HOST, SLOWNESS, Counts, Pointsman, Raw, encode, free_port, run_pointsman, wait_for
from redis_cluster import RedisCluster, slot_of

CROSSSLOT = b"CROSSSLOT Keys in request don't hash to the same slot"


@pytest.fixture(scope="module")
def nodes():
    cluster = RedisCluster(3, 1).start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def through(nodes):
    with Pointsman(nodes.seeds, upstream_kind="cluster", reads_policy="master") as pointsman:
        yield pointsman


@pytest.fixture
def client(nodes, through):
    with through.client() as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def link(client, through):
    with Raw(through.port) as connection:
        yield connection


def test_keys_of_all_slots_are_where_they_belong(client, nodes):
    keys = [f"key:{i}" for i in range(1000)]
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.set(key, f"of {key}")
        assert all(pipe.execute())
        for key in keys:
            pipe.get(key)
        assert pipe.execute() == [f"of {key}".encode() for key in keys]
    stored = {}
    for master in nodes.masters():
        slots = master.own_slots()
        for key in master.ask("KEYS", "*"):
            stored[key] = slot_of(key) in slots
    assert set(keys) <= set(stored) and all(stored.values())


def test_a_seed_alone_is_enough_and_auto_finds_that_it_is_a_cluster(nodes):
    with Pointsman(nodes.nodes[4].address) as pointsman, pointsman.client() as client:
        for i in range(50):
            client.set(f"auto:{i}", i)
        assert [client.exists(f"auto:{i}") for i in range(50)] == [1] * 50


@pytest.mark.parametrize("protocol", [2, 3])
def test_several_keys_are_answered_in_the_order_of_the_client(link, protocol):
    link.ask("HELLO", protocol)
    keys = [f"m:{i}" for i in range(200)]
    assert link.ask("MSET", *(word for key in keys for word in (key, "of " + key))) == b"OK"
    random.Random(7).shuffle(keys)
    asked = keys + ["absent"] + keys[:20]
    assert link.ask("MGET", *asked) == [None if key == "absent" else b"of " + key.encode() for key in asked]
    assert link.ask("EXISTS", *asked) == 220
    assert link.ask("TOUCH", *asked[:100], "absent") == 100
    assert link.ask("DEL", *keys[:50], *keys[:50]) == 50
    assert link.ask("UNLINK", *keys) == 150
    assert link.ask("EXISTS", *keys) == 0


def test_the_last_of_the_same_keys_wins_in_mset(link):
    assert link.ask("MSET", "a", 1, "b", 2, "a", 3, "c", 4, "b", 5) == b"OK"
    assert link.ask("MGET", "a", "b", "c") == [b"3", b"5", b"4"]


def test_one_slot_is_not_split(client, nodes, link):
    with Counts(nodes.nodes) as counts:
        link.ask("MSET", "{one}a", 1, "{one}b", 2, "{one}c", 3)
        assert link.ask("MGET", "{one}c", "{one}a") == [b"3", b"1"]
        link.ask("MGET", "alone")
    assert counts.calls(nodes.nodes, "mget") == 2
    assert counts.calls(nodes.masters(), "mset") == 1


@pytest.mark.parametrize(
    "command",
    [
        ("MSETNX", "a", 1, "b", 2), ("RENAME", "a", "b"), ("SUNION", "a", "b"), ("SUNIONSTORE", "c", "a", "b"),
        ("BITOP", "AND", "c", "a", "b"), ("PFCOUNT", "a", "b"), ("LMOVE", "a", "b", "LEFT", "LEFT"),
        ("BLPOP", "a", "b", 1), ("XREAD", "STREAMS", "a", "b", 0, 0), ("EVAL", "return 1", 2, "a", "b"),
        ("SORT", "a", "STORE", "b"), ("COPY", "a", "b"), ("ZUNIONSTORE", "c", 2, "a", "b"), ("WATCH", "a", "b"),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_what_cannot_be_split_is_refused_in_the_words_of_redis(link, nodes, command):
    assert link.ask(*command) == CROSSSLOT
    with Raw(nodes.nodes[0].port) as node:
        assert node.ask(*command) == CROSSSLOT  # those words


def test_msetnx_within_one_slot(link):
    assert link.ask("MSETNX", "{t}a", 1, "{t}b", 2) == 1
    assert link.ask("MSETNX", "{t}b", 3, "{t}c", 4) == 0
    assert link.ask("EXISTS", "{t}c") == 0


def test_wrong_commands_get_the_errors_of_a_node(link, nodes):
    with Raw(nodes.nodes[0].port) as node:
        for command in (("MSET", "a"), ("MGET",), ("DEL",), ("GET",), ("NOSUCH", "a", "b"), ("EVAL", "x", "nan", "a")):
            assert link.ask(*command) == node.ask(*command), command


@pytest.mark.parametrize("seed", range(4))
def test_pipelines_over_many_slots_are_as_on_one_redis(link, direct, seed):
    """Replies in order, and effects in the order of each slot; what is split stands among what is not."""
    chance = random.Random(seed)
    keys = [f"p:{i}" for i in range(12)]

    def command():
        some = chance.choices(keys, k=chance.randint(1, 6))
        return chance.choice(
            [
                ("SET", some[0], chance.randint(0, 99)), ("GET", some[0]), ("INCR", some[0]), ("MGET", *some), ("DEL", *some),
                ("EXISTS", *some), ("MSET", *(word for key in some for word in (key, chance.randint(0, 99)))),
                ("APPEND", some[0], 1), ("STRLEN", some[0]), ("DBSIZE",), ("TOUCH", *some),
            ]
        )  # fmt: skip

    with direct.raw() as plain:
        plain.ask("FLUSHALL")
        for _ in range(20):
            commands = [command() for _ in range(chance.randint(1, 60))]
            replies = []
            for connection in (link, plain):
                connection.send(b"".join(encode(*each) for each in commands))
                replies.append([connection.read() for _ in commands])
            for each, ours, theirs in zip(commands, *replies):
                assert ours == theirs, (each, commands)
        plain.ask("FLUSHALL")


def test_a_piece_that_fails_is_told_and_what_was_done_as_well(client, nodes, link):
    victim = nodes.masters()[1]
    keys = [nodes.key_of(master, 1) for master in nodes.masters()]
    victim.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        reply = link.ask("MSET", *(word for key in keys for word in (key, 1)))
        assert reply.startswith(b"OOM ") and reply.endswith(b"(2 of 3 parts of the command were carried out)")
        assert link.ask("MGET", *keys) == [b"1", None, b"1"]
    finally:
        victim.ask("CONFIG", "SET", "maxmemory", "0")


def test_commands_over_all_masters(client, nodes, link):
    masters = nodes.masters()
    keys = [f"all:{i}" for i in range(60)]
    for key in keys:
        client.set(key, 1)
    assert client.dbsize() == 60
    assert sorted(client.keys("all:*")) == sorted(key.encode() for key in keys)
    assert {client.randomkey() for _ in range(60)} <= {key.encode() for key in keys}
    assert link.ask("CONFIG", "SET", "maxmemory-samples", 7) == b"OK"
    assert {master.ask("CONFIG", "GET", "maxmemory-samples")[1] for master in masters} == {"7"}
    info = client.info()
    assert info["db0"]["keys"] == 60
    assert info["total_commands_processed"] >= max(m.info("stats")["total_commands_processed"] for m in masters)
    assert isinstance(link.ask("SLOWLOG", "GET"), list) and link.ask("SLOWLOG", "RESET") == b"OK"
    assert link.ask("MEMORY", "PURGE") == b"OK"
    assert client.flushall() is True
    assert [master.ask("DBSIZE") for master in masters] == [0, 0, 0]
    assert client.randomkey() is None


def reaches_all(link, nodes, number):
    """In the first moment of a cluster not everybody knows who is a replica."""
    assert link.ask("CONFIG", "SET", "maxmemory-samples", number) == b"OK"
    return {node.ask("CONFIG", "GET", "maxmemory-samples")[1] for node in nodes.nodes} == {str(number)}


def test_what_each_node_has_for_itself_concerns_replicas_as_well(nodes, link):
    wait_for(lambda: reaches_all(link, nodes, 8), 10, "all nodes to be known")
    assert link.ask("ACL", "SETUSER", "somebody", "on", "nopass", "+@all") == b"OK"
    assert all("somebody" in node.ask("ACL", "USERS") for node in nodes.nodes)
    assert link.ask("ACL", "DELUSER", "somebody") == 1
    assert not any("somebody" in node.ask("ACL", "USERS") for node in nodes.nodes)
    assert link.ask("SLOWLOG", "RESET") == b"OK"
    replica = nodes.replicas_of(nodes.masters()[1])[0]
    replica.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
    replica.ask("ECHO", "slow at the replica")
    replica.ask("CONFIG", "SET", "slowlog-log-slower-than", 10_000_000)
    assert link.ask("SLOWLOG", "LEN") == replica.ask("SLOWLOG", "LEN") > 0
    assert [b"ECHO", b"slow at the replica"] in [entry[3] for entry in link.ask("SLOWLOG", "GET", -1)]
    assert link.ask("MULTI") == b"OK" and link.ask("CONFIG", "SET", "maxmemory-samples", 5).startswith(b"CROSSSLOT")
    assert link.ask("DISCARD") == b"OK"


def test_a_replica_that_cannot_be_reached_is_not_waited_for(nodes):
    replica = nodes.replicas_of(nodes.masters()[2])[0]
    settings = {"upstream_kind": "cluster", "reads_policy": "master", "proxy_request_timeout": "1s"}
    with Pointsman(nodes.seeds, **settings) as pointsman, pointsman.raw(timeout=30) as link:
        wait_for(lambda: reaches_all(link, nodes, 6), 10, "all nodes to be known")
        replica.pause()
        try:
            reply = link.ask("CONFIG", "SET", "maxmemory-samples", 7)
            is_told = b"outcome unknown" in reply and reply.endswith(b"(5 of 6 parts of the command were carried out)")
            assert reply == b"OK" or is_told, reply
            wait_for(lambda: link.ask("CONFIG", "SET", "maxmemory-samples", 5) == b"OK", 20, "it to be left out")
        finally:
            replica.resume()
        others = [node for node in nodes.nodes if node is not replica]
        assert {node.ask("CONFIG", "GET", "maxmemory-samples")[1] for node in others} == {"5"}


def test_a_replica_that_is_frozen_is_waited_for_no_longer_than_it_takes_to_find_out(nodes):
    """... and not at all by those who ask later; a reply may take proxy.request_timeout, which is 30 s."""
    replica = nodes.replicas_of(nodes.masters()[2])[0]
    with Pointsman(nodes.seeds, upstream_kind="cluster", reads_policy="master") as pointsman:
        with pointsman.raw(timeout=60) as link, pointsman.raw(timeout=60) as later:
            wait_for(lambda: reaches_all(link, nodes, 6), 10, "all nodes to be known")
            replica.pause()
            start = time.monotonic()
            try:
                reply = link.ask("SCRIPT", "LOAD", "return 1")
                assert len(reply) == 40 or reply.endswith(b"(5 of 6 parts of the command were carried out)"), reply
                for _ in range(3):
                    assert len(later.ask("SCRIPT", "LOAD", "return 1")) == 40
                assert time.monotonic() - start < 20
            finally:
                replica.resume()


def test_scripts_and_functions_are_on_every_master(client, nodes, link):
    sha = client.script_load("return redis.call('INCR', KEYS[1])")
    assert client.script_exists(sha, "0" * 40) == [True, False]
    keys = [nodes.key_of(master, 2) for master in nodes.masters()]
    assert [client.evalsha(sha, 1, key) for key in keys] == [1, 1, 1]
    assert [client.eval("return redis.call('INCR', KEYS[1])", 1, key) for key in keys] == [2, 2, 2]
    library = "#!lua name=lib\nredis.register_function('f', function(keys) return redis.call('INCR', keys[1]) end)"
    assert link.ask("FUNCTION", "LOAD", "REPLACE", library) == b"lib"
    assert [link.ask("FCALL", "f", 1, key) for key in keys] == [3, 3, 3]
    assert link.ask("FUNCTION", "DELETE", "lib") == b"OK"
    assert link.ask("SCRIPT", "FLUSH") == b"OK"
    assert client.script_exists(sha) == [False]
    assert all(master.ask("SCRIPT", "EXISTS", sha) == [0] for master in nodes.masters())


def test_all_or_an_error_where_a_master_does_not_answer():
    """Nothing is counted that was not asked."""
    own = RedisCluster(3, 0).start()
    try:
        with Pointsman(
            own.seeds, upstream_kind="cluster", failover_hold_time="500ms", proxy_request_timeout="1s"
        ) as pointsman, pointsman.client() as client:
            assert client.dbsize() == 1
            own.masters()[2].pause()
            for command in (("DBSIZE",), ("KEYS", "*"), ("SCRIPT", "LOAD", "return 1"), ("SCAN", 0)):
                with pytest.raises(redis.ResponseError, match="pointsman|CLUSTERDOWN"):
                    client.execute_command(*command)
            own.nodes[2].resume()
            wait_for(lambda: client.dbsize() == 1 and client.script_load("return 1"), 30, "all masters to be asked again")
    finally:
        own.stop()


def test_reads_go_to_replicas_of_the_right_shard(nodes):
    with Pointsman(nodes.seeds, upstream_kind="cluster", reads_policy="replica") as pointsman, pointsman.client() as client:
        keys = [nodes.key_of(master, 3) for master in nodes.masters()]
        for key in keys:
            client.set(key, "here")
        wait_for(lambda: [client.get(key) for key in keys] == [b"here"] * 3, 20, "replicas to have it")
        with Counts(nodes.nodes) as counts:
            for _ in range(20):
                assert [client.get(key) for key in keys] == [b"here"] * 3
                assert client.mget(keys) == [b"here"] * 3
                client.set(keys[0], "here")
        masters = nodes.masters()
        replicas = [node for node in nodes.nodes if node not in masters]
        assert counts.calls(masters, "get") == 0 and counts.calls(masters, "mget") == 0
        assert counts.calls(replicas, "get") == 60 and counts.calls(replicas, "mget") == 60
        assert not counts.rejected(nodes.nodes)


def test_a_transaction_is_where_its_first_key_is(client, nodes, link):
    for number, master in enumerate(nodes.masters()):
        key = nodes.key_of(master, 4)
        assert [link.ask(*c) for c in (("MULTI",), ("PING",), ("SET", key, 1), ("INCR", key), ("ECHO", "e"))] == [
            b"OK", b"QUEUED", b"QUEUED", b"QUEUED", b"QUEUED"]  # fmt: skip
        assert link.ask("EXEC") == [b"PONG", b"OK", 2, b"e"], number
    assert [link.ask("MULTI"), link.ask("EXEC")] == [b"OK", []]
    assert [link.ask("MULTI"), link.ask("PING"), link.ask("DISCARD")] == [b"OK", b"QUEUED", b"OK"]
    assert link.ask("DISCARD") == b"ERR DISCARD without MULTI"


def test_a_transaction_over_two_slots_is_refused_and_does_nothing(link):
    assert [link.ask("MULTI"), link.ask("SET", "a", 1)] == [b"OK", b"QUEUED"]
    assert link.ask("SET", "b", 1) == CROSSSLOT
    assert link.ask("MGET", "a", "c") == CROSSSLOT
    assert link.ask("DBSIZE") == CROSSSLOT  # of one master it would be no answer
    assert link.ask("EXEC") == b"EXECABORT Transaction discarded because of previous errors."
    assert link.ask("EXISTS", "a", "b") == 0
    assert [link.ask("MULTI"), link.ask("SET", "b", 1), link.ask("EXEC")] == [b"OK", b"QUEUED", [b"OK"]]


def test_watched_keys_and_their_transaction(client, through, link):
    link.ask("SET", "{w}a", 1)
    for is_changed in (False, True):
        assert link.ask("WATCH", "{w}a") == b"OK"
        assert link.ask("WATCH", "other") == CROSSSLOT
        assert link.ask("GET", "other") is None  # where that is
        assert link.ask("GET", "{w}a") == b"1"
        if is_changed:
            client.set("{w}a", 1)
        assert link.ask("MULTI") == b"OK" and link.ask("SET", "{w}b", 2) == b"QUEUED"
        assert link.ask("EXEC") == (None if is_changed else [b"OK"])
    assert link.ask("WATCH", "{w}a") == b"OK" and link.ask("UNWATCH") == b"OK"
    assert link.ask("WATCH", "other") == b"OK"
    assert link.ask("UNWATCH") == b"OK"


def test_blocking_commands_on_each_shard(client, through, nodes):
    for master in nodes.masters():
        key = nodes.key_of(master, 5)
        with Raw(through.port) as blocked:
            blocked.send(encode("BLPOP", key, 10))
            wait_for(lambda: master.info("clients")["blocked_clients"] == 1, what="the client to block")
            assert client.rpush(key, "value") == 1
            assert blocked.read() == [key.encode(), b"value"]
            blocked.send(encode("BLPOP", key, 0.1))
            assert blocked.read() is None


def test_what_is_wrong_with_a_command_over_several_masters_is_told_in_the_words_of_redis(link, nodes):
    """Not only when the masters are asked."""
    with Raw(nodes.nodes[0].port) as node:
        for options in (("BOGUS",), ("BOGUS", 1), ("COUNT",), ("COUNT", 0), ("COUNT", "abc"), ("TYPE",), ("MATCH", "a*", "COUNT", -1)):
            answer = node.ask("SCAN", 0, *options)
            assert link.ask("SCAN", 0, *options) == answer and b"ERR" in answer
    a, b = nodes.key_of(nodes.masters()[0], 1), nodes.key_of(nodes.masters()[1], 1)
    assert link.ask("MSET", a, 1, b) == b"ERR wrong number of arguments for 'mset' command"
    assert link.ask("MSETNX", a, 1, b) == CROSSSLOT
    assert link.ask("EXISTS", a, b) == 0


def test_scan_returns_each_key_once_while_nothing_moves(client, nodes):
    keys = {f"scan:{i}".encode() for i in range(3000)}
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.set(key, 1)
        pipe.execute()
    cursor, found, pages = 0, [], 0
    while True:
        cursor, page = client.scan(cursor, match="scan:*", count=100)
        found += page
        pages += 1
        assert 0 <= cursor < 1 << 53
        if cursor == 0:
            break
    assert len(found) == len(set(found)) == 3000 and set(found) == keys
    assert pages >= 30


def test_wait_counts_replicas_of_the_shard_that_was_written_to(client, nodes, link):
    for master in nodes.masters():
        link.ask("WAIT", 0, 1)  # forgets what was written before
        key = nodes.key_of(master, 6)
        with Raw(link.socket.getpeername()[1]) as fresh:
            assert fresh.ask("SET", key, 1) == b"OK"
            assert fresh.ask("WAIT", 1, 5000) == 1
            assert fresh.ask("WAIT", 2, 50) == 1
    assert [key for node in nodes.masters() for key in node.ask("KEYS", "*pointsman*")] == []


def scan(ask, *options):
    """All pages, each from the next of the links."""
    found, cursor, pages = set(), b"0", 0
    while True:
        cursor, keys = ask(pages)("SCAN", cursor, *options)
        found |= set(keys)
        pages += 1
        assert pages < 2000
        if cursor == b"0":
            return found


@pytest.mark.parametrize("is_known", [True, False], ids=["that was known", "that nobody knew"])
def test_a_master_with_its_first_slots_is_asked_for_what_all_are_asked(is_known):
    own = RedisCluster(3, 0).start()
    try:
        new = own.add_node() if is_known else None
        with Pointsman(own.seeds, upstream_kind="cluster", reads_policy="master") as pointsman, pointsman.raw() as link:
            keys = {own.key_in(slot).encode() for slot in range(5)} | {b"harness:ready"} | {b"k:%d" % i for i in range(300)}
            for key in keys:
                assert link.ask("SET", key, 1) == b"OK"
            cursor, pages = b"0", set()
            for _ in range(3):
                cursor, page = link.ask("SCAN", cursor, "COUNT", 20)
                pages |= set(page)
            new = new or own.add_node()
            for slot in range(5):
                own.move_slot(slot, new)
            while cursor != b"0":
                cursor, page = link.ask("SCAN", cursor, "COUNT", 20)
                pages |= set(page)
            assert pages == keys
            assert link.ask("DBSIZE") == len(keys) and set(link.ask("KEYS", "*")) == keys
            assert link.ask("FLUSHALL") == b"OK"
            assert [node.ask("DBSIZE") for node in own.masters()] == [0] * 4
    finally:
        own.stop()


def test_a_master_without_slots_that_is_gone_is_not_missed():
    own = RedisCluster(2, 0).start()
    try:
        new = own.add_node()
        with Pointsman(own.seeds, upstream_kind="cluster", failover_hold_time="5s") as pointsman, pointsman.raw(timeout=3) as link:
            wait_for(lambda: "3 shards" in pointsman.log_text(), 20, "the third to be known")
            keys = [own.key_of(node, 1).encode() for node in own.masters() if node is not new]
            assert link.ask("MSET", *(word for key in keys for word in (key, 1))) == b"OK"
            new.kill()
            for _ in range(5):
                assert link.ask("DBSIZE") == 3 and set(keys) < set(link.ask("KEYS", "*"))
                assert set(keys) < scan(lambda page: link.ask)
                assert link.ask("WAIT", 0, 100) == 0
                time.sleep(0.2)
    finally:
        own.stop()


def test_scan_at_an_address_of_replicas_misses_nothing_whichever_replica_its_client_has():
    own = RedisCluster(2, 2).start()
    port = free_port()
    try:
        with Pointsman(own.seeds, upstream_kind="cluster") as pointsman, Pointsman(
            own.seeds, upstream_kind="cluster", proxy_listen=f"{HOST}:{port} as replica", wait=None
        ), pointsman.raw() as link:
            keys = {b"k:%d" % i for i in range(2000)}
            link.send(b"".join(encode("SET", key, 1) for key in keys))
            assert all(link.read() == b"OK" for _ in keys)
            wait_for(lambda: not Raw(port).close(), 20, "it to listen")
            links = [Raw(port, timeout=20) for _ in range(6)]
            for number in range(3):
                assert keys <= scan(lambda page: links[page % (number * 2 + 1)].ask, "COUNT", 50)
            for each in links:
                each.close()
    finally:
        own.stop()


def test_scan_goes_on_where_it_was_when_a_master_was_away_in_its_midst():
    own = RedisCluster(3, 0, settings={"cluster-require-full-coverage": "no", "cluster-node-timeout": "1000"}).start()
    try:
        with Pointsman(own.seeds, upstream_kind="cluster", reads_policy="master", failover_hold_time="500ms") as pointsman:
            with pointsman.raw(timeout=30) as link:
                keys = {b"k:%d" % i for i in range(600)}
                link.send(b"".join(encode("SET", key, 1) for key in keys))
                assert all(link.read() == b"OK" for _ in keys)
                masters = sorted(own.masters(), key=lambda node: node.address)  # the order in which they are scanned
                first = set(masters[0].client().keys())
                found, cursor = set(), b"0"
                while not first <= found:
                    cursor, page = link.ask("SCAN", cursor, "COUNT", 20)
                    found |= set(page)
                away = masters[2]
                away.pause()
                wait_for(lambda: "its writes are held" in pointsman.log_text(), 30, "the master to be lost")
                for _ in range(5):
                    cursor, page = link.ask("SCAN", cursor, "COUNT", 20)
                    found |= set(page)
                assert cursor != b"0" and not keys <= found
                away.resume()
                key = next(iter(away.client().keys()))
                wait_for(lambda: link.ask("SET", key, 1) == b"OK", 30, "the master to be back")
                while cursor != b"0":
                    cursor, page = link.ask("SCAN", cursor, "COUNT", 20)
                    found |= set(page)
                assert keys <= found
    finally:
        own.stop()


def test_info_is_answered_while_a_master_is_missing():
    """Clients begin with it: ioredis and BullMQ are not ready before."""
    own = RedisCluster(3, 0, settings={"cluster-require-full-coverage": "no"}).start()
    try:
        with Pointsman(own.seeds, upstream_kind="cluster", failover_hold_time="60s") as pointsman, pointsman.raw(timeout=20) as link:
            one, two, lost = own.masters()
            assert link.ask("MSET", *(word for node in own.masters() for word in (own.key_of(node, 2), 1))) == b"OK"
            lost.kill()
            wait_for(lambda: "its writes are held" in pointsman.log_text(), 30, "the master to be lost")
            assert link.ask("SET", own.key_of(one, 1), 1) == link.ask("SET", own.key_of(two, 1), 1) == b"OK"
            assert b"redis_version" in link.ask("INFO") and b"db0:keys=" in link.ask("INFO", "keyspace")
            assert link.ask("SCRIPT", "KILL").startswith(b"NOTBUSY")
    finally:
        own.stop()


def test_a_script_that_keeps_a_replica_busy_can_be_killed_where_there_are_several_masters():
    own = RedisCluster(2, 1, settings={"busy-reply-threshold": "100"}).start()
    try:
        with Pointsman(own.seeds, upstream_kind="cluster") as pointsman:
            key = own.key_of(own.masters()[0], 1)
            wait_for(lambda: pointsman.log_text().count("fit as replica") == 2, 20, "the replicas")
            with pointsman.raw(timeout=20) as busy, pointsman.raw(timeout=20) as killer:
                busy.send(encode("EVAL_RO", "while true do end", 1, key))
                wait_for(lambda: killer.ask("SCRIPT", "KILL") == b"OK", 20, "the script to be killed")
                assert b"killed by user" in busy.read()
    finally:
        own.stop()


def test_a_script_that_has_cost_its_master_the_role_can_still_be_killed():
    """While it does not even say that it is busy, for five seconds, a node is replaced; it hears of that when the script is over."""
    own = RedisCluster(3, 1, settings={"cluster-node-timeout": "2000"}).start()
    try:
        with Pointsman(own.seeds, upstream_kind="cluster", failover_hold_time="60s") as pointsman:
            old = own.masters()[0]
            key = own.key_of(old, 1)
            with pointsman.raw(timeout=60) as busy, pointsman.raw(timeout=60) as killer:
                assert busy.ask("SET", key, "before") == b"OK"
                busy.send(encode("EVAL", "while true do end", 1, key))
                assert b"outcome unknown" in busy.read()
                assert killer.ask("SET", key, "after") == b"OK"
                wait_for(lambda: killer.ask("SCRIPT", "KILL") == b"OK", 20, "the script to be killed", every=0.2)
                wait_for(lambda: not old.is_master(), 20, "the old master to be a replica")
    finally:
        own.stop()


@pytest.mark.parametrize(
    "words", [("NODES",), ("INFO",), ("FORGET", "0" * 40), ("DELSLOTSRANGE", 1, 9), ("BUMPEPOCH",), ("RESET",), ("FAILOVER",), ("NEW", 1)]
)
@pytest.mark.parametrize("first", [("PING",), ("GET", "k")])
def test_a_transaction_does_nothing_to_the_cluster_and_tells_nothing_of_it(link, nodes, words, first):
    before = nodes.masters()[0].ask("CLUSTER", "SHARDS")
    link.send(b"".join(encode(*each) for each in (("MULTI",), first, ("CLUSTER", *words), ("EXEC",))))
    replies = [link.read() for _ in range(4)]
    assert replies[2] == b"ERR Command not allowed inside a transaction"
    assert replies[3].startswith(b"EXECABORT")
    assert [len(shard[1]) for shard in before] == [len(shard[1]) for shard in nodes.masters()[0].ask("CLUSTER", "SHARDS")]


def test_scan_is_queued_where_one_master_has_all():
    own = RedisCluster(1, 0).start()
    try:
        with Pointsman(own.seeds, upstream_kind="cluster") as pointsman, pointsman.raw() as link:
            assert link.ask("SET", "k", 1) == b"OK"
            link.send(encode("MULTI") + encode("SCAN", 0, "COUNT", 100) + encode("EXEC"))
            assert [link.read(), link.read()] == [b"OK", b"QUEUED"]
            [[cursor, keys]] = link.read()
            assert cursor == b"0" and b"k" in keys
    finally:
        own.stop()


def test_a_subscriber_is_refused_other_commands_wherever_their_keys_are(nodes, link, through):
    with Raw(through.port) as subscriber:
        subscriber.ask("SUBSCRIBE", "news")
        for node in nodes.masters():
            for words in (("GET", "K"), ("BLPOP", "K", 1), ("SET", "K", 1), ("MGET", "K", "other"), ("EVAL", "return 1", 1, "K")):
                words = [nodes.key_of(node, 5) if word == "K" else word for word in words]
                assert subscriber.ask(*words).startswith(b"ERR Can't execute '%s': only" % words[0].lower().encode())
        assert subscriber.ask("PING") == [b"pong", b""]


@pytest.mark.parametrize("reason", ["TIMEOUT", "ERROR"])
def test_a_wait_for_several_masters_can_be_ended(link, nodes, through, reason):
    with Raw(through.port, timeout=20) as waiting:
        number = waiting.ask("CLIENT", "ID")
        assert waiting.ask("MSET", *(word for node in nodes.masters() for word in (nodes.key_of(node, 4), 1))) == b"OK"
        waiting.send(encode("WAIT", 5, 0))
        wait_for(lambda: b" flags=b " in link.ask("CLIENT", "LIST", "ID", number), 20, "it to block")
        assert link.ask("CLIENT", "UNBLOCK", number, reason) == 1
        assert waiting.read() == (0 if reason == "TIMEOUT" else b"UNBLOCKED client unblocked via CLIENT UNBLOCK")
        assert waiting.ask("GET", nodes.key_of(nodes.masters()[0], 4)) == b"1"


@pytest.mark.parametrize("state", ["nothing", "subscriptions", "watched keys"])
def test_wait_asks_the_master_that_was_written_to_wherever_the_clients_own_connection_leads(link, nodes, through, state):
    home, written = nodes.masters()[:2]
    key = nodes.key_of(written, 8)
    [replica] = nodes.replicas_of(written)
    replica.pause()
    try:
        with Raw(through.port, timeout=20) as client:
            client.ask("HELLO", 3)
            if state == "subscriptions":
                client.ask("SUBSCRIBE", "news")
            if state == "watched keys":
                client.ask("WATCH", nodes.key_of(home, 8))
            assert client.ask("SET", key, 1) == b"OK"
            assert client.ask("WAIT", 1, 300) == 0
            replica.resume()
            assert client.ask("WAIT", 1, 5000) == 1
            if state == "subscriptions":
                assert link.ask("PUBLISH", "news", "still heard") == 1
                assert list(client.read())[-1] == b"still heard"
            if state == "watched keys":
                assert client.ask("BLPOP", key, 1) == CROSSSLOT
                client.send(encode("MULTI") + encode("INCR", nodes.key_of(home, 8)) + encode("EXEC"))
                assert isinstance([client.read() for _ in range(3)][-1], list)
    finally:
        replica.resume()
        link.ask("DEL", nodes.key_of(home, 8))


def test_wait_after_writes_to_several_masters_is_the_least_of_all(link, nodes, through):
    keys = [nodes.key_of(master, 9) for master in nodes.masters()]
    for _ in range(3):
        link.send(b"".join(encode(*c) for c in (*(("SET", key, 1) for key in keys), ("WAIT", 1, 5000), ("GET", keys[0]))))
        assert [link.read() for _ in range(5)] == [b"OK", b"OK", b"OK", 1, b"1"]
    assert link.ask("MSET", *(word for key in keys for word in (key, 2))) == b"OK"
    began = time.monotonic()
    assert link.ask("WAIT", 2, 100) == 1 and time.monotonic() - began > 0.09
    with Raw(nodes.nodes[0].port) as node:
        for wrong in (("WAIT", "a", "b"), ("WAIT", 1, "b"), ("WAIT", 1, -1), ("WAIT", 1)):
            assert link.ask("MSET", *(word for key in keys for word in (key, 2))) == b"OK"
            assert link.ask(*wrong) == node.ask(*wrong)
    with Raw(through.port) as gone:  # a client that does not wait for the answer
        gone.ask("MSET", *(word for key in keys for word in (key, 3)))
        gone.send(encode("WAIT", 5, 0))
        wait_for(lambda: all(node.info("clients")["blocked_clients"] > 0 for node in nodes.masters()), what="all to be asked")
    wait_for(lambda: not any(node.info("clients")["blocked_clients"] for node in nodes.masters()), what="nobody to wait")


def test_wait_ends_in_time_also_if_a_master_hangs():
    own = RedisCluster(2, 0).start()
    try:
        with Pointsman(own.seeds, upstream_kind="cluster") as pointsman, pointsman.raw(timeout=20) as link:
            keys = [own.key_of(node, 7) for node in own.masters()]
            assert link.ask("MSET", *(word for key in keys for word in (key, 1))) == b"OK"
            own.masters()[0].pause()
            assert link.ask("WAIT", 0, 300) == 0
    finally:
        own.stop()


def test_wait_does_not_confirm_the_second_time_what_it_did_not_the_first(link, nodes):
    masters = nodes.masters()
    write = ("MSET", *(word for master in masters for word in (nodes.key_of(master, 3), 1)))
    for [replica] in [nodes.replicas_of(master) for master in masters]:
        replica.pause()
        try:
            assert link.ask(*write) == b"OK"
            assert [link.ask("WAIT", 1, 300), link.ask("WAIT", 1, 300)] == [0, 0]
        finally:
            replica.resume()


def test_wait_costs_little_at_a_master_that_has_no_slot_any_more():
    """There is no key that could be written ahead of it there, so none is searched for."""
    own = RedisCluster(2, 0, settings={"cluster-allow-replica-migration": "no"}).start()
    links = []
    try:
        left = own.add_node()
        with Pointsman(own.seeds, upstream_kind="cluster", proxy_threads=1) as pointsman:
            wait_for(lambda: "3 shards" in pointsman.log_text(), 20, "the third to be known")
            own.move_slot(0, left)
            links = [pointsman.raw(timeout=30) for _ in range(30)]
            for link in links:
                assert link.ask("SET", own.key_in(0), 1) == b"OK"
            own.move_slot(0, own.masters()[1], left)
            assert left.is_master() and not left.own_slots()
            before = pointsman.cpu()
            for link in links:  # each is tried again until its time is over
                link.send(encode("WAIT", 0, 1500))
            assert [link.read() for link in links] == [0] * len(links)
            assert pointsman.cpu() - before < 0.4 * SLOWNESS
            assert links[0].ask("SET", own.key_in(0), 2) == b"OK"
    finally:
        for link in links:
            link.close()
        own.stop()


def test_publish_reaches_subscribers_wherever_they_are(through, nodes):
    subscribers = [Raw(through.port) for _ in range(6)]
    for subscriber in subscribers:
        assert subscriber.ask("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
    with through.client() as client:
        client.publish("news", "one")
    nodes.nodes[5].ask("PUBLISH", "news", "two")
    for subscriber in subscribers:
        assert [subscriber.read()[2], subscriber.read()[2]] == [b"one", b"two"]
        assert subscriber.is_silent()
        subscriber.close()


def test_select_is_refused_as_a_cluster_does(link, nodes):
    with Raw(nodes.nodes[0].port) as node:
        assert link.ask("SELECT", 1) == node.ask("SELECT", 1)
    assert link.ask("SELECT", 0) == b"OK"


@pytest.mark.parametrize("name", ["cluster", "personas"])
def test_the_files_of_conf_are_sound(name):
    done = run_pointsman("--check-config", "-c", str(pathlib.Path(__file__).resolve().parents[2] / "conf" / f"{name}.ini"))
    assert done.returncode == 0, done.stderr


def test_what_one_connection_cannot_hear_is_refused_clearly(link):
    for command in (("MONITOR",), ("CLIENT", "TRACKING", "ON")):
        assert b"not supported where keys are spread over several masters" in link.ask(*command)


ALIKE_ALTHOUGH_NOTHING_IS_HEARD = [
    "MONITOR x", "SYNC x", "CLIENT TRACKING", "CLIENT TRACKING OFF", "CLIENT TRACKING off", "CLIENT TRACKING OFF BCAST",
    "CLIENT TRACKING OFF FOO", "CLIENT TRACKING MAYBE", "CLIENT TRACKING OFF REDIRECT 999999",
]  # fmt: skip


@pytest.mark.parametrize("line", ALIKE_ALTHOUGH_NOTHING_IS_HEARD)
def test_what_asks_to_hear_nothing_is_answered_as_by_a_node(nodes, through, line):
    key = nodes.key_of(nodes.masters()[1], 1)
    for protocol in (2, 3):
        with nodes.masters()[0].raw() as real, Raw(through.port) as ours:
            real.ask("HELLO", protocol), ours.ask("HELLO", protocol)
            assert ours.ask("SET", key, 1) == b"OK"
            assert ours.ask(*line.split()) == real.ask(*line.split())
            assert ours.ask("GET", key) == b"1"
            assert [ours.ask("MULTI"), ours.ask("GET", key), ours.ask("EXEC")] == [b"OK", b"QUEUED", [b"1"]]
