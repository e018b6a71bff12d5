# SPDX-License-Identifier: BSD-2-Clause
"""Publish and subscribe over a whole cluster, by a client that takes it for one Redis."""

import contextlib
import threading
import time
from collections import Counter

import pytest

from harness import HOST, SLOWNESS, Pointsman, Push, Raw, Refuser, encode, free_port, wait_for
from redis_cluster import Flipper, RedisCluster, slot_of


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


def test_a_subscriber_blocks_on_keys_of_every_shard_and_goes_on_listening(subscriber, link, nodes):
    """In RESP3; its subscription is at one of them."""
    subscriber.ask("HELLO", 3)
    subscriber.send(encode("SUBSCRIBE", "while:blocked"))
    assert subscriber.read()[:2] == [b"subscribe", b"while:blocked"]
    calls = nodes.calls("blpop")
    for number, master in enumerate(nodes.masters()):
        key = nodes.key_of(master, 900 + number)
        assert link.ask("RPUSH", key, "first") == 1
        assert subscriber.ask("BLPOP", key, 5) == [key.encode(), b"first"]
        subscriber.send(encode("BLPOP", key, 5))
        time.sleep(0.2)
        assert link.ask("RPUSH", key, "second") == 1
        assert subscriber.read() == [key.encode(), b"second"]
        link.ask("PUBLISH", "while:blocked", number)
        assert subscriber.read() == [b"message", b"while:blocked", str(number).encode()]
    assert nodes.calls("blpop") - calls < 20


def test_a_node_without_a_free_connection_is_told_of(nodes):
    channel = nodes.key_of(nodes.masters()[0], 79)
    settings = {"proxy_threads": 1, "pool_dedicated_connections": 1, "pool_wait": "1s"}
    with Pointsman(nodes.seeds, upstream_kind="cluster", **settings) as small:
        with small.raw(timeout=20) as first, small.raw(timeout=20) as second:
            assert first.ask("BLPOP", channel, 0.01) is None  # its connection is idle now, and makes room
            assert list(first.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
            assert b"pool.dedicated_connections" in second.ask("SSUBSCRIBE", channel)
            assert second.ask("PING") == b"PONG"
            first.ask("SUNSUBSCRIBE", channel)
            assert list(second.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
        assert small.log_text().count("no connection free for what it is to hear") == 1


def test_a_node_at_its_maxclients_refuses_a_subscription_that_is_not_wholly_written_yet(nodes):
    """It says so before it has read anything, so that there is no command which the error answers."""
    owner = nodes.masters()[1]
    channel = nodes.key_of(owner, 78).ljust(6_000_000, "x")
    owner = nodes.master_of(channel)
    with Pointsman(nodes.seeds, upstream_kind="cluster", proxy_threads=1) as through, through.raw(timeout=20) as link:
        link.ask("PING")
        with Raw(owner.port) as node:
            most = node.ask("CONFIG", "GET", "maxclients")[1]
            node.ask("CONFIG", "SET", "maxclients", 1)
            try:
                link.send(encode("SSUBSCRIBE", channel))
                wait_for(lambda: "has reached its maxclients" in through.log_text(), 20, "the node to refuse the connection")
                assert through.is_alive()
            finally:
                node.ask("CONFIG", "SET", "maxclients", most)
        assert list(link.read()) == [b"ssubscribe", channel.encode(), 1]


def test_a_message_comes_before_or_behind_a_long_reply_and_not_in_it(link, through, nodes):
    """The one comes over another connection than the other."""
    value = b"x" * 20_000_000
    ending, published = threading.Event(), []

    def publish():
        with Raw(through.port) as publisher:
            while not ending.is_set():
                published.append(publisher.ask("PUBLISH", "beside", f"message {len(published)}"))

    publisher = threading.Thread(target=publish)
    assert link.ask("SET", "long", value) == b"OK" and link.ask("WAIT", 1, 20000) == 1
    with through.raw(timeout=30 * SLOWNESS) as listener:
        listener.ask("HELLO", 3)
        listener.ask("SUBSCRIBE", "beside")
        publisher.start()
        try:
            heard = 0
            for _ in range(5):
                listener.send(encode("GET", "long"))
                while isinstance(frame := listener.read(), Push):
                    assert list(frame) == [b"message", b"beside", f"message {heard}".encode()]
                    heard += 1
                assert frame == value
        finally:
            ending.set()
            publisher.join()
        assert heard > 0
    link.ask("DEL", "long")


def test_what_was_refused_while_a_subscription_was_being_restored_goes_again_after_that(nodes):
    masters = nodes.masters()
    with contextlib.ExitStack() as stack:
        between = [stack.enter_context(Refuser(node.port, "TRYAGAIN It is on its way")) for node in masters]
        mapping = ", ".join(f"{node.address} = {each.address}" for node, each in zip(masters, between))
        settings = {"upstream_kind": "cluster", "upstream_map": mapping, "proxy_threads": 1}
        through = stack.enter_context(Pointsman(nodes.seeds, **settings))
        with through.raw(timeout=20) as link:
            link.ask("HELLO", 3)
            link.ask("SUBSCRIBE", "kept")
            (home,) = [node for node in nodes.nodes if node.ask("PUBSUB", "NUMSUB", "kept")[1]]
            late, refused = {b"SUBSCRIBE kept": 1}, {}
            for each in between:
                each.late_s, each.left = late, refused
            home.ask("CLIENT", "KILL", "TYPE", "pubsub")
            wait_for(lambda: not late, what="the subscription to be on its way")
            key = nodes.key_of(next(node for node in masters if node is not home), 77)
            refused[f"SET {key}".encode()] = 1
            assert link.ask("SET", key, "after") == b"OK"
            assert not refused[f"SET {key}".encode()]
            assert link.ask("GET", key) == b"after"


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


def test_a_slot_with_very_many_channels_moves_at_little_cost(nodes):
    """The node that has lost it says so once for each of them, and so does it when it is asked for them again."""
    masters, count = nodes.masters(), 8000
    tag = nodes.key_of(masters[0], 52)
    channels = [f"{i}{{{tag}}}" for i in range(count)]
    with Pointsman(nodes.seeds, upstream_kind="cluster", proxy_threads=1) as own, own.raw(timeout=30) as subscriber:
        for i in range(0, count, 500):
            subscriber.send(encode("SSUBSCRIBE", *channels[i : i + 500]))
            for number in range(i, i + 500):
                assert list(subscriber.read()) == [b"ssubscribe", channels[number].encode(), number + 1]
        for target in (masters[1], masters[0]):
            before = own.cpu()
            nodes.move_slot(slot_of(tag), target)
            wait_for(lambda: len(target.ask("PUBSUB", "SHARDCHANNELS", f"*{{{tag}}}")) == count, 30,  # noqa: B023
                     "all to be subscribed at the new master")  # fmt: skip
            assert own.cpu() - before < 1 * SLOWNESS
            with own.raw() as link:
                for channel in (channels[0], channels[-1]):
                    assert link.ask("SPUBLISH", channel, target.name) == 1
                    assert list(subscriber.read()) == [b"smessage", channel.encode(), target.name.encode()]
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


def test_while_a_slot_goes_back_and_forth_messages_come_in_order_and_once(subscriber, link, nodes):
    channel = nodes.key_of(nodes.masters()[0], 90)
    calm = nodes.key_of(nodes.masters()[1], 91)
    for name in (channel, "{%s}same" % channel, calm):
        subscriber.ask("SSUBSCRIBE", name)
    heard = {channel: [], "{%s}same" % channel: [], calm: []}
    sent = 0
    with Flipper(nodes, slot_of(channel)) as flipper:
        wait_for(lambda: flipper.flips > 2, 20, "the slot to move")
        while flipper.flips < 15:
            for name in heard:
                assert type(link.ask("SPUBLISH", name, sent)) is int
            sent += 1
    wait_for(lambda: link.ask("SPUBLISH", channel, sent) == 1, 20, "it to be subscribed at the last master")
    for kind, name, number in read_all(subscriber):
        assert kind == b"smessage"
        heard[name.decode()].append(int(number))
    for numbers in heard.values():
        assert numbers == sorted(set(numbers))
    assert heard[calm] == list(range(sent))
    assert heard[channel][-1] == sent


def test_notifications_come_at_most_once_while_connections_are_lost(subscriber, through, nodes):
    keys = [nodes.key_of(master, 93) for master in nodes.masters()]
    subscriber.ask("PSUBSCRIBE", "__keyspace@0__:key:93:*")
    is_over, written = threading.Event(), []

    def write():
        with through.raw(timeout=20) as link:
            while not is_over.is_set():
                written.append([link.ask("INCR", key) for key in keys])

    writer = threading.Thread(target=write)
    writer.start()
    for master in nodes.masters() * 3:
        master.ask("CLIENT", "KILL", "TYPE", "pubsub")
        time.sleep(0.2)
    is_over.set()
    writer.join()
    heard = Counter(frame[-2] for frame in read_all(subscriber, 1))
    for key in keys:
        assert len(written) / 4 < heard[b"__keyspace@0__:" + key.encode()] <= len(written)


def test_nodes_that_come_and_go_are_heard():
    cluster = RedisCluster(3, 0).start()
    try:
        with (
            Pointsman(cluster.seeds, upstream_kind="cluster") as through,
            through.raw(timeout=20) as link,
            through.raw(timeout=20) as subscriber,
        ):
            channel = cluster.key_of(cluster.masters()[0], 3)
            subscriber.ask("PSUBSCRIBE", "__keyevent@0__:set")
            subscriber.ask("SSUBSCRIBE", channel)
            keys = [cluster.key_of(master, 5) for master in cluster.masters()]
            others = [cluster.key_of(master, 6) for master in cluster.masters()]

            def is_heard():
                link.ask("SET", keys[0], "again")
                return not subscriber.is_silent(0.2) and link.ask("SPUBLISH", channel, "again") == 1

            def assert_all_are_heard():
                wait_for(is_heard, 20, "the new master to be listened to")
                read_all(subscriber)
                for key in keys + others:
                    link.ask("SET", key, 1)
                assert link.ask("SPUBLISH", channel, "message") == 1
                heard = sorted(frame[-1].decode() for frame in read_all(subscriber))
                assert heard == sorted([*keys, *others, "message"])

            new = cluster.add_node()
            for name in [*keys, channel]:
                cluster.move_slot(slot_of(name), new)
            assert_all_are_heard()
            for name in [*keys, channel]:
                cluster.move_slot(slot_of(name), cluster.masters()[0], new)
            cluster.remove_node(new)
            assert_all_are_heard()
    finally:
        cluster.stop()


def test_lists_know_the_subscriber_and_end_it(through, link, nodes):
    channels = [nodes.key_of(master, 94) for master in nodes.masters()]
    with through.raw(timeout=20) as subscriber:
        subscriber.ask("CLIENT", "SETNAME", "listening")
        for channel in channels:
            subscriber.ask("SSUBSCRIBE", channel)
        line = next(line for line in link.ask("CLIENT", "LIST", "TYPE", "pubsub").splitlines() if b"name=listening" in line)
        assert b" flags=P " in line and b" ssub=3 " in line
        assert link.ask("CLIENT", "KILL", "ID", line.split()[0].removeprefix(b"id=")) == 1
        assert subscriber.read_to_end() == b""
    wait_for(lambda: not any(link.ask("SPUBLISH", name, "nobody") for name in channels), 5, "the nodes to be told")


def test_a_subscriber_is_never_idle_and_may_not_keep_too_much_waiting(nodes):
    channel = nodes.key_of(nodes.masters()[1], 95)
    settings = {"proxy_client_output_limit": "1m", "proxy_client_input_limit": "100k", "proxy_client_idle_timeout": "1s"}
    with Pointsman(nodes.seeds, upstream_kind="cluster", **settings) as small, small.raw(timeout=20) as subscriber:
        subscriber.ask("SSUBSCRIBE", channel)
        time.sleep(2.5 * SLOWNESS)
        node = nodes.master_of(channel)
        assert node.ask("SPUBLISH", channel, "not idle") == 1
        assert subscriber.read()[2] == b"not idle"
        wait_for(lambda: node.ask("SPUBLISH", channel, "x" * 100_000) == 0, 20, "it to be closed")
        assert "client_output_limit reached" in small.log_text()
        with small.raw(timeout=20) as greedy, pytest.raises((EOFError, ConnectionError)):
            for number in range(3000):
                greedy.ask("SSUBSCRIBE", f"a:name:that:is:kept:{number}")
        assert "names that it is subscribed to are beyond" in small.log_text()


def test_what_the_node_has_against_a_channel_is_told(nodes):
    for node in nodes.nodes:
        node.ask("ACL", "SETUSER", "limited", "on", ">secret", "+@all", "~*", "resetchannels", "&good*")
    settings = {"upstream_username": "limited", "upstream_password": "secret"}
    with Pointsman(nodes.seeds, upstream_kind="cluster", **settings) as limited, limited.raw(timeout=20) as subscriber:
        assert list(subscriber.ask("SSUBSCRIBE", "good")) == [b"ssubscribe", b"good", 1]
        assert subscriber.ask("SSUBSCRIBE", "bad").startswith(b"NOPERM ")
        assert subscriber.ask("SSUBSCRIBE", "{good}bad", "good").startswith(b"NOPERM ")
        assert list(subscriber.ask("SUNSUBSCRIBE", "good")) == [b"sunsubscribe", b"good", 0]
        assert subscriber.ask("PING") == b"PONG"


def test_a_subscriber_at_an_address_of_replicas_may_change_its_protocol(nodes, link):
    port = free_port()
    with Pointsman(nodes.seeds, upstream_kind="cluster", proxy_listen=f"{HOST}:{port} as replica", wait=None) as pointsman:
        wait_for(lambda: not Raw(port).close(), 20, "it to listen")
        with Raw(port, timeout=20) as subscriber:
            subscriber.ask("HELLO", 3)
            assert list(subscriber.ask("SUBSCRIBE", "both")) == [b"subscribe", b"both", 1]
            assert b"server" in subscriber.ask("HELLO", 2)
            link.ask("PUBLISH", "both", "heard")
            assert subscriber.read() == [b"message", b"both", b"heard"]
        assert "refused" not in pointsman.log_text()


def test_a_subscriber_at_an_address_of_replicas_hears_all_once(nodes, link):
    channel = nodes.key_of(nodes.masters()[1], 96)
    keys = [nodes.key_of(master, 97) for master in nodes.masters()]
    port = free_port()
    settings = {"proxy_listen": f"{HOST}:{port} as replica", "wait": None}
    with Pointsman(nodes.seeds, upstream_kind="cluster", **settings):
        wait_for(lambda: not Raw(port).close(), 20, "it to listen")
        with Raw(port, timeout=20) as subscriber:
            wait_for(lambda: subscriber.ask("GET", keys[0]) is None, 20, "it to know its nodes")
            assert list(subscriber.ask("PSUBSCRIBE", "__keyevent@0__:set")) == [b"psubscribe", b"__keyevent@0__:set", 1]
            assert list(subscriber.ask("SSUBSCRIBE", channel)) == [b"ssubscribe", channel.encode(), 1]
            for key in keys:
                link.ask("SET", key, 1)
            assert link.ask("SPUBLISH", channel, "message") == 1
            heard = sorted(frame[-1].decode() for frame in read_all(subscriber, 1))
            assert heard == sorted([*keys, "message"])


def test_a_master_that_does_not_answer_keeps_no_other_channel_from_being_heard(nodes, link):
    frozen = nodes.masters()[0]
    healthy = nodes.masters()[1]
    channel, other = nodes.key_of(frozen, 98), nodes.key_of(healthy, 98)
    with Pointsman(nodes.seeds, upstream_kind="cluster", failover_hold_time="2s", wait="write") as short:
        with short.raw(timeout=30) as subscriber, short.raw(timeout=30) as gone:
            assert list(subscriber.ask("SSUBSCRIBE", other)) == [b"ssubscribe", other.encode(), 1]
            frozen.pause()
            try:
                gone.send(encode("SSUBSCRIBE", channel))
                subscriber.send(encode("SSUBSCRIBE", channel))
                gone.close()
                assert healthy.ask("SPUBLISH", other, "heard") == 1
                assert subscriber.read()[2] == b"heard"
            finally:
                frozen.resume()
            assert list(subscriber.read()) == [b"ssubscribe", channel.encode(), 2]


def test_one_that_listens_in_RESP3_scans_all_masters_and_keeps_its_order(link, nodes):
    keys = sorted(nodes.key_of(master, 100 + i) for master in nodes.masters() for i in range(4))
    for key in keys:
        link.ask("SET", key, "")
    link.ask("HELLO", 3)
    for words in (("SSUBSCRIBE", "one"), ("SUBSCRIBE", "another")):
        link.ask(*words)
        cursor, found = b"0", set()
        while found == set() or cursor != b"0":
            cursor, page = link.ask("SCAN", cursor, "MATCH", "key:10*", "COUNT", 1000)
            found.update(key.decode() for key in page)
        assert found.issuperset(keys)
    text = "x" * 4_000_000  # takes its time on another connection than that of WATCH
    link.send(encode("SET", keys[0], text) + encode("WATCH", keys[0]) + encode("STRLEN", keys[0]) + encode("UNWATCH"))
    assert [link.read() for _ in range(4)] == [b"OK", b"OK", len(text), b"OK"]
