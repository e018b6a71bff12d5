# SPDX-License-Identifier: BSD-2-Clause
"""Publish and subscribe over a whole cluster, by a client that takes it for one Redis."""

import time

import pytest

from harness import SLOWNESS, Pointsman, Raw, encode, wait_for
from redis_cluster import RedisCluster, slot_of


@pytest.fixture(scope="module")
def nodes():
    cluster = RedisCluster(3, 1).start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def through(nodes):
    with Pointsman(nodes.seeds, upstream_kind="cluster", failover_hold_time="60s") as pointsman:
        yield pointsman


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def subscriber(request, through):
    with Raw(through.port, timeout=20 * SLOWNESS) as link:
        link.ask("HELLO", request.param)
        yield link


@pytest.fixture
def link(through):
    with Raw(through.port, timeout=20 * SLOWNESS) as connection:
        yield connection


def read_all(subscriber, quiet=0.4):
    """All that has come when it has been quiet for a while; the PING stands behind it."""
    time.sleep(quiet)
    subscriber.send(encode("PING", "end"))
    frames = []
    while True:
        frame = subscriber.read()
        if frame in (b"end", [b"pong", b"end"]):
            return frames
        frames.append(list(frame))


def test_messages_come_once_from_wherever_they_are_published(subscriber, link, nodes):
    assert list(subscriber.ask("SUBSCRIBE", "news")) == [b"subscribe", b"news", 1]
    assert list(subscriber.ask("PSUBSCRIBE", "*")) == [b"psubscribe", b"*", 2]
    for node in nodes.nodes:
        node.ask("PUBLISH", "news", node.name)
    link.ask("PUBLISH", "news", "proxy")
    frames = read_all(subscriber)
    texts = sorted(frame[-1].decode() for frame in frames if frame[0] == b"message")
    assert texts == sorted([*(node.name for node in nodes.nodes), "proxy"])
    assert sorted(frame[-1].decode() for frame in frames if frame[0] == b"pmessage" and frame[2] == b"news") == texts


def test_keyspace_notifications_come_once_from_every_master(subscriber, link, nodes):
    keys = [nodes.key_of(master, 10 + i) for master in nodes.masters() for i in range(3)]
    assert list(subscriber.ask("PSUBSCRIBE", "__keyevent@0__:*")) == [b"psubscribe", b"__keyevent@0__:*", 1]
    for key in keys:
        link.ask("SET", key, 1)
    for key in keys:
        link.ask("DEL", key)
    frames = read_all(subscriber)
    expected = sorted([[b"__keyevent@0__:" + what, key.encode()] for key in keys for what in (b"set", b"del")])
    assert sorted(frame[2:] for frame in frames) == expected
    assert list(subscriber.ask("PUNSUBSCRIBE", "__keyevent@0__:*")) == [b"punsubscribe", b"__keyevent@0__:*", 0]
    link.ask("SET", keys[0], 1)
    assert subscriber.is_silent(0.3)
    assert subscriber.ask("PING") == b"PONG"


def test_a_channel_of_notifications_and_others_beside_it(subscriber, link, nodes):
    keys = [nodes.key_of(master, 20) for master in nodes.masters()]
    subscriber.ask("SUBSCRIBE", "plain")
    for key in keys:
        subscriber.ask("SUBSCRIBE", f"__keyspace@0__:{key}")
    for key in keys:
        link.ask("SET", key, 1)
        link.ask("PUBLISH", "plain", key)
    frames = read_all(subscriber)
    assert sorted(frame[1:] for frame in frames) == sorted(
        [[b"plain", key.encode()] for key in keys] + [[b"__keyspace@0__:" + key.encode(), b"set"] for key in keys]
    )


def test_notifications_go_on_after_a_failover_and_from_a_new_node(subscriber, link, nodes):
    subscriber.ask("PSUBSCRIBE", "__keyevent@0__:set")
    master = nodes.masters()[1]
    key = nodes.key_of(master, 30)
    nodes.fail_over(nodes.replicas_of(master)[0], master)

    def is_heard():
        link.ask("SET", key, time.monotonic_ns())
        return not subscriber.is_silent(0.2)

    wait_for(is_heard, 20, "the new master's notifications")
    read_all(subscriber)
    link.ask("SET", key, "once")
    assert [frame[-1] for frame in read_all(subscriber)] == [key.encode()]
    nodes.wait_ok()
    nodes.wait_whole(1)


def test_shard_channels_are_where_their_slot_is(subscriber, link, nodes):
    channel = nodes.key_of(nodes.masters()[2], 40)
    same = "{%s}other" % channel
    assert list(subscriber.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
    assert list(subscriber.ask("SSUBSCRIBE", same)) == [b"ssubscribe", same.encode(), 2]
    assert link.ask("SPUBLISH", channel, "one") == 1
    nodes.master_of(channel).ask("SPUBLISH", same, "two")
    assert [list(subscriber.read())[1:], list(subscriber.read())[1:]] == [[channel.encode(), b"one"], [same.encode(), b"two"]]
    assert list(subscriber.ask("SUNSUBSCRIBE", same)) == [b"sunsubscribe", same.encode(), 1]
    assert list(subscriber.ask("SUNSUBSCRIBE")) == [b"sunsubscribe", channel.encode(), 0]
    assert subscriber.ask("PING") == b"PONG"
    assert subscriber.ask("SSUBSCRIBE", "a", "b") == b"CROSSSLOT Keys in request don't hash to the same slot"


def test_one_client_has_shard_channels_of_all_masters_and_others_beside_them(subscriber, link, nodes):
    channels = [nodes.key_of(master, 70) for master in nodes.masters()]
    for count, channel in enumerate(channels, 1):
        assert list(subscriber.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), count]
    assert list(subscriber.ask("SUBSCRIBE", "beside")) == [b"subscribe", b"beside", 1]
    assert list(subscriber.ask("PSUBSCRIBE", "besi*")) == [b"psubscribe", b"besi*", 2]
    assert list(subscriber.ask("SSUBSCRIBE", channels[0])) == [b"ssubscribe", channels[0].encode(), 3]
    for number, (channel, master) in enumerate(zip(channels, nodes.masters())):
        assert link.ask("SPUBLISH", channel, f"{number}:proxy") == 1
        assert master.ask("SPUBLISH", channel, f"{number}:node") == 1
    link.ask("PUBLISH", "beside", "all")
    frames = read_all(subscriber)
    assert sorted(frame for frame in frames if frame[0] == b"smessage") == sorted(
        [b"smessage", channel.encode(), b"%d:%s" % (number, where)]
        for number, channel in enumerate(channels)
        for where in (b"proxy", b"node")
    )
    assert [frame for frame in frames if frame[0] != b"smessage"] == [
        [b"message", b"beside", b"all"],
        [b"pmessage", b"besi*", b"beside", b"all"],
    ]
    assert list(subscriber.ask("SUNSUBSCRIBE", channels[1])) == [b"sunsubscribe", channels[1].encode(), 2]
    assert list(subscriber.ask("SUNSUBSCRIBE", channels[1])) == [b"sunsubscribe", channels[1].encode(), 2]
    wait_for(lambda: link.ask("SPUBLISH", channels[1], "nobody") == 0, 5, "the node to have forgotten the subscriber")
    assert list(subscriber.ask("UNSUBSCRIBE", "beside")) == [b"unsubscribe", b"beside", 1]
    undone = [list(subscriber.ask("SUNSUBSCRIBE")), list(subscriber.read())]
    assert sorted(frame[1] for frame in undone) == sorted([channels[0].encode(), channels[2].encode()])
    assert [(frame[0], frame[2]) for frame in undone] == [(b"sunsubscribe", 1), (b"sunsubscribe", 0)]
    assert list(subscriber.ask("SUNSUBSCRIBE")) == [b"sunsubscribe", None, 0]
    assert list(subscriber.ask("SUNSUBSCRIBE", "a", "a")) == [b"sunsubscribe", b"a", 0]
    assert list(subscriber.read()) == [b"sunsubscribe", b"a", 0]
    assert list(subscriber.ask("PUNSUBSCRIBE")) == [b"punsubscribe", b"besi*", 0]
    assert subscriber.ask("GET", "besides:key") is None


def test_a_subscriber_to_shard_channels_is_confined_in_RESP2_alone(link, nodes):
    channel = nodes.key_of(nodes.masters()[1], 75)
    keys = [nodes.key_of(master, 76) for master in nodes.masters()]
    assert list(link.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
    for words in (("GET", "a"), ("SET", "a", 1), ("MULTI",), ("WATCH", "a"), ("DEL", *keys), ("DBSIZE",), ("HELLO", 3)):
        assert link.ask(*words) == (
            b"ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            % words[0].lower().encode()
        )
    assert link.ask("CLIENT", "ID").startswith(b"ERR Can't execute 'client|id': only ")
    assert link.ask("GET") == b"ERR wrong number of arguments for 'get' command"
    assert link.ask("NOSUCH", "a").startswith(b"ERR unknown command 'NOSUCH'")
    assert link.ask("PING") == [b"pong", b""]
    assert link.ask("PING", "text") == [b"pong", b"text"]
    assert link.ask("SSUBSCRIBE", "a", "b") == b"CROSSSLOT Keys in request don't hash to the same slot"
    assert link.ask("RESET") == b"RESET"
    assert link.ask("PING") == b"PONG"
    wait_for(lambda: link.ask("SPUBLISH", channel, "nobody") == 0, 5, "the node to have forgotten the subscriber")

    link.ask("HELLO", 3)
    assert list(link.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
    for key in keys:
        assert link.ask("SET", key, 1) == b"OK"
    assert [link.ask(*words) for words in (("WATCH", keys[0]), ("MULTI",), ("INCR", keys[0]), ("EXEC",))] == [
        b"OK", b"OK", b"QUEUED", [2],
    ]  # fmt: skip
    assert link.ask("DEL", *keys) == 3
    assert link.ask("PING") == b"PONG"
    assert list(link.ask("HELLO", 2)[:2]) == [b"server", b"redis"]
    nodes.master_of(channel).ask("SPUBLISH", channel, "in RESP2")
    frame = link.read()
    assert frame == [b"smessage", channel.encode(), b"in RESP2"] and type(frame) is list
    assert link.ask("GET", "a").startswith(b"ERR Can't execute 'get'")


def test_SSUBSCRIBE_stands_in_its_place_of_a_pipeline(subscriber, nodes):
    channels = [nodes.key_of(master, 77) for master in nodes.masters()]
    subscriber.send(b"".join(
        [encode("SET", "pipelined", 1), encode("GET", "pipelined")]
        + [encode("SSUBSCRIBE", channel) for channel in channels]
        + [encode("SUNSUBSCRIBE"), encode("SET", "pipelined", 2), encode("PING")]
    ))  # fmt: skip
    assert [subscriber.read(), subscriber.read()] == [b"OK", b"1"]
    for count, channel in enumerate(channels, 1):
        assert list(subscriber.read()) == [b"ssubscribe", channel.encode(), count]
    assert [subscriber.read()[2] for _ in channels] == [2, 1, 0]
    assert [subscriber.read(), subscriber.read()] == [b"OK", b"PONG"]


def test_a_shard_channel_is_heard_again_after_its_connection_is_lost_and_after_a_failover(subscriber, link, nodes):
    masters = nodes.masters()
    channels = [nodes.key_of(master, 78) for master in masters]
    for channel in channels:
        subscriber.ask("SSUBSCRIBE", channel)
    masters[0].ask("CLIENT", "KILL", "TYPE", "pubsub")
    wait_for(lambda: link.ask("SPUBLISH", channels[0], "after kill") == 1, 20, "it to be subscribed again")
    assert list(subscriber.read()) == [b"smessage", channels[0].encode(), b"after kill"]
    nodes.fail_over(nodes.replicas_of(masters[2])[0], masters[2])
    wait_for(lambda: link.ask("SPUBLISH", channels[2], "after failover") == 1, 20, "it to be subscribed at the new master")
    link.ask("SPUBLISH", channels[1], "still")
    assert sorted(read_all(subscriber)) == [
        [b"smessage", channel.encode(), text]
        for channel, text in sorted(zip(channels[1:], (b"still", b"after failover")))
    ]  # fmt: skip
    nodes.wait_ok()
    nodes.wait_whole(1)


def test_a_node_without_a_free_connection_is_told_of(nodes):
    channel = nodes.key_of(nodes.masters()[0], 79)
    with Pointsman(nodes.seeds, upstream_kind="cluster", pool_dedicated_connections=1, failover_hold_time="1s") as small:
        with small.raw(timeout=20 * SLOWNESS) as first, small.raw(timeout=20 * SLOWNESS) as second:
            assert list(first.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
            assert b"pool.dedicated_connections" in second.ask("SSUBSCRIBE", channel)
            assert second.ask("PING") == b"PONG"
            first.ask("SUNSUBSCRIBE", channel)
            assert list(second.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
        assert small.log_text().count("no connection free for what it is to hear") == 1


def test_a_shard_channel_is_followed_when_its_slot_moves(subscriber, link, nodes):
    masters = nodes.masters()
    channel = nodes.key_of(masters[0], 50)
    others = [nodes.key_of(master, 51) for master in masters]
    for count, other in enumerate(others, 1):
        assert list(subscriber.ask("SSUBSCRIBE", other)) == [b"ssubscribe", other.encode(), count]
    assert list(subscriber.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 4]
    for target in (masters[1], masters[2], masters[0]):
        nodes.move_slot(slot_of(channel), target)
        wait_for(lambda: target.ask("PUBSUB", "SHARDNUMSUB", channel)[1] == 1, 20, "it to be subscribed at the new master")  # noqa: B023
        assert link.ask("SPUBLISH", channel, target.name) == 1
        assert list(subscriber.read())[1:] == [channel.encode(), target.name.encode()]
        assert subscriber.is_silent()
        for other in others:
            assert link.ask("SPUBLISH", other, "still") == 1
        assert sorted(frame[1] for frame in read_all(subscriber)) == sorted(other.encode() for other in others)
    assert list(subscriber.ask("SUNSUBSCRIBE", channel)) == [b"sunsubscribe", channel.encode(), 3]


def test_pubsub_tells_of_all_masters(through, link, nodes):
    subscribers = [Raw(through.port) for _ in range(4)]
    for number, one in enumerate(subscribers):
        one.ask("SUBSCRIBE", f"told:{number}", "told")
    shards = [Raw(through.port) for _ in nodes.masters()]
    channels = [nodes.key_of(master, 60) for master in nodes.masters()]
    for one, channel in zip(shards, channels):
        one.ask("SSUBSCRIBE", channel)
    try:
        assert sorted(link.ask("PUBSUB", "CHANNELS", "told*")) == [b"told", *(b"told:%d" % i for i in range(4))]
        assert link.ask("PUBSUB", "NUMSUB", "told", "told:1", "nobody") == [b"told", 4, b"told:1", 1, b"nobody", 0]
        assert sorted(link.ask("PUBSUB", "SHARDCHANNELS")) == sorted(channel.encode() for channel in channels)
        assert link.ask("PUBSUB", "SHARDNUMSUB", channels[0]) == [channels[0].encode(), 1]
    finally:
        for one in subscribers + shards:
            one.close()
