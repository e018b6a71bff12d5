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


def test_other_subscriptions_go_along_with_a_shard_channel(subscriber, link, nodes):
    subscriber.ask("SUBSCRIBE", "beside")
    for master in nodes.masters():
        channel = nodes.key_of(master, 70)
        assert list(subscriber.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
        assert link.ask("SPUBLISH", channel, "shard") == 1
        link.ask("PUBLISH", "beside", "all")
        frames = read_all(subscriber)
        assert sorted(frame[-1] for frame in frames) == [b"all", b"shard"]
        other = nodes.key_of(next(node for node in nodes.masters() if node is not master), 71)
        assert b"shard channels of several masters" in subscriber.ask("SSUBSCRIBE", other)
        subscriber.ask("SUNSUBSCRIBE", channel)


def test_a_shard_channel_is_followed_when_its_slot_moves(subscriber, link, nodes):
    masters = nodes.masters()
    channel = nodes.key_of(masters[0], 50)
    assert list(subscriber.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
    for target in (masters[1], masters[2], masters[0]):
        nodes.move_slot(slot_of(channel), target)
        wait_for(lambda: target.ask("PUBSUB", "SHARDNUMSUB", channel)[1] == 1, 20, "it to be subscribed at the new master")  # noqa: B023
        assert link.ask("SPUBLISH", channel, target.name) == 1
        assert list(subscriber.read())[1:] == [channel.encode(), target.name.encode()]
        assert subscriber.is_silent()


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
