# SPDX-License-Identifier: BSD-2-Clause
"""A subscriber sees exactly the messages and the answers to its commands, whatever becomes of the nodes."""

import random
import socket
import struct
import threading
import time

import pytest

from harness import SANITIZED, SLOWNESS, Forwarder, Pointsman, Replication, Server, encode, talk, wait_for

NOT_IN_MULTI = b"-ERR Command not allowed inside a transaction\r\n"
ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


def bulk(text):
    data = text if isinstance(text, bytes) else text.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def frame(protocol, *items):
    """What a node says unasked: an array in RESP2, a push in RESP3."""
    parts = [b"%s%d\r\n" % (b">" if protocol == 3 else b"*", len(items))]
    parts += [b":%d\r\n" % item if isinstance(item, int) else bulk(item) for item in items]
    return b"".join(parts)


def expect(link, data):
    """The next bytes are these."""
    got = b""
    while len(got) < len(data):
        part = link.socket.recv(len(data) - len(got))
        assert part, f"closed after {got!r}"
        got += part
        assert data.startswith(got), f"{got[-300:]!r} instead of {data[max(0, len(got) - 300):len(got)]!r}"


def expect_nothing_more(link, protocol=3):
    """Nothing has come, and nothing is on its way: PING is answered next."""
    link.command("PING", "end")
    expect(link, bulk("end") if protocol == 3 else b"*2\r\n" + bulk("pong") + bulk("end"))


def speaking(pointsman, protocol):
    link = pointsman.raw(timeout=30)
    if protocol == 3:
        link.command("HELLO", 3)
        got = b""
        while not got.endswith(b"modules\r\n*0\r\n"):
            got += link.socket.recv(1 << 12)
    return link


def break_off(link):
    """Closes such that the other side reads an error, not an end."""
    link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def subscribers(server, channel):
    with server.client() as client:
        return client.pubsub_numsub(channel)[0][1]


def subscribed_clients(server):
    with server.client() as client:
        return len(client.client_list(_type="pubsub"))


def warnings(pointsman):
    """What it found worth one, but for clients that were closed: a node suspected, requests held."""
    lines = pointsman.log_text().splitlines()
    return [line for line in lines if " warning " in line and ": closed" not in line]


def switch(pair, how):
    """Makes the other server of the two the master, and returns it."""
    old, new = pair.master, pair.replicas[0]
    if how == "killed":
        old.kill()
    new.replicaof(None)
    if how == "demoted":
        old.replicaof(new)
    return new


@pytest.fixture
def pair(processes):
    return processes(Replication(replicas=1, sentinels=0))


@pytest.fixture
def alone(processes):
    return processes(Server("alone")).ready()


# ------------------------------------------------------------------------------------------ surviving


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("how", ["killed", "demoted"])
def test_subscriptions_go_on_at_the_new_master_and_nothing_else_is_seen(pair, processes, how, protocol):
    pointsman = processes(Pointsman(pair))
    with speaking(pointsman, protocol) as link, pointsman.client() as publisher:
        begun = [("SUBSCRIBE a", 1), ("SUBSCRIBE gone", 2), ("PSUBSCRIBE p*", 3), ("UNSUBSCRIBE gone", 2)]
        for words, count in begun + [("SSUBSCRIBE s", 1)]:
            command, name = words.split()
            link.command(command, name)
            expect(link, frame(protocol, command.lower(), name, count))
        new = switch(pair, how)
        wait_for(lambda: subscribers(new, "a") == 1, 20, "the subscription at the new master")
        wait_for(lambda: subscribed_clients(new) == 1, what="one client with subscriptions")
        wait_for(pointsman.writes, 20, "writes to pass again")
        wait_for(lambda: publisher.execute_command("SPUBLISH", "s", "3") == 1, what="the last subscription")
        assert publisher.publish("a", "1") == 1
        assert publisher.publish("gone", "no") == 0
        assert publisher.publish("pa", "2") == 1
        expect(link, frame(protocol, "smessage", "s", "3"))
        expect(link, frame(protocol, "message", "a", "1"))
        expect(link, frame(protocol, "pmessage", "p*", "pa", "2"))
        link.command("SUBSCRIBE", "late")
        expect(link, frame(protocol, "subscribe", "late", 3))
        link.command("UNSUBSCRIBE", "a")
        expect(link, frame(protocol, "unsubscribe", "a", 2))
        assert publisher.publish("a", "no") == 0
        expect_nothing_more(link, protocol)


@pytest.mark.parametrize("protocol", [2, 3])
def test_subscriptions_that_the_node_ends_are_begun_anew_there(alone, processes, protocol):
    pointsman = processes(Pointsman(alone.address))
    with speaking(pointsman, protocol) as link, alone.client() as node:
        link.command("SUBSCRIBE", "a")
        expect(link, frame(protocol, "subscribe", "a", 1))
        for turn in range(5):
            before = alone.connections_received()
            assert node.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
            wait_for(lambda: subscribers(alone, "a") == 1 and alone.connections_received() > before, what="the next")
            assert node.publish("a", str(turn)) == 1
            expect(link, frame(protocol, "message", "a", str(turn)))
        expect_nothing_more(link, protocol)


def is_monitored(server):
    with server.client() as client:
        return any("O" in line["flags"] for line in client.client_list())


def test_monitor_and_subscriptions_of_one_client_go_on_together(pair, processes):
    pointsman = processes(Pointsman(pair))
    with pointsman.raw(timeout=30) as link:
        link.send(encode("MONITOR") + encode("SUBSCRIBE", "a") + encode("MONITOR"))
        while not link.read_line().startswith(b"-ERR Can't execute 'monitor': only"):
            pass
        new = switch(pair, "killed")
        wait_for(lambda: is_monitored(new) and subscribers(new, "a") == 1, 20, "both at the new master")
        with new.client() as client:
            assert client.publish("a", "the message") == 1
        seen = []
        while not {b"$11\r\n", b"the message\r\n"} <= set(seen):
            seen.append(link.read_line())
            assert seen[-1] != b"+OK\r\n" and b"subscribe\r\n" not in seen[-1], "what restores it is not for it"


def test_monitor_goes_on_at_the_new_master(pair, processes):
    pointsman = processes(Pointsman(pair))
    with pointsman.raw(timeout=30) as link:
        assert link.ask("MONITOR") == b"OK"
        link.command("MONITOR")  # Redis does not answer this one
        new = switch(pair, "killed")
        wait_for(lambda: is_monitored(new), 20, "MONITOR at the new master")
        with new.client() as client:
            client.set("seen", "by all")
        line = link.read_line()
        while not line.endswith(b'"SET" "seen" "by all"\r\n'):
            assert line[:1] == b"+" and line[1:2].isdigit(), line
            line = link.read_line()


def test_subscriber_waits_for_a_master_longer_than_requests_are_held(pair, processes):
    pointsman = processes(Pointsman(pair, failover_hold_time="300ms"))
    with speaking(pointsman, 2) as link, pointsman.raw() as other:
        link.command("SUBSCRIBE", "a")
        expect(link, frame(2, "subscribe", "a", 1))
        pair.servers[0].kill()
        wait_for(lambda: b"no master within" in (other.ask("SET", "x", 1) or b""), what="a request to be held in vain")
        link.command("SUBSCRIBE", "b")  # what is asked of a subscription waits with it
        assert b"no master within" in other.ask("SET", "x", 1)
        assert link.is_silent(0.5)
        pair.servers[1].replicaof(None)
        expect(link, frame(2, "subscribe", "b", 2))
        assert subscribers(pair.servers[1], "a") == 1
        expect_nothing_more(link, 2)


def test_commands_that_come_meanwhile_are_answered_in_order_behind_the_subscriptions(pair, processes):
    pointsman = processes(Pointsman(pair, failover_hold_time="60s"))
    with speaking(pointsman, 3) as link:
        link.command("SUBSCRIBE", "a")
        expect(link, frame(3, "subscribe", "a", 1))
        pair.servers[0].kill()
        with pointsman.client(socket_timeout=0.3, retry=None) as other:
            with pytest.raises(Exception):
                other.set("the", "loss is known")
        link.send(encode("SET", "k", "v") + encode("GET", "k") + encode("PUBLISH", "a", "self"))
        link.send(encode("SELECT", 3) + encode("GET", "k") + encode("UNSUBSCRIBE") + encode("GET", "k"))
        assert link.is_silent(0.3)
        pair.servers[1].replicaof(None)
        expect(link, b"+OK\r\n" + bulk("v") + frame(3, "message", "a", "self") + b":1\r\n+OK\r\n_\r\n")
        expect(link, frame(3, "unsubscribe", "a", 0) + b"_\r\n")
        expect_nothing_more(link)


def test_transaction_of_a_subscriber_is_broken_and_its_subscriptions_are_not(pair, processes):
    pointsman = processes(Pointsman(pair))
    with speaking(pointsman, 3) as link:
        link.send(encode("SUBSCRIBE", "a") + encode("WATCH", "w") + encode("MULTI") + encode("SET", "k", "v"))
        expect(link, frame(3, "subscribe", "a", 1) + b"+OK\r\n+OK\r\n+QUEUED\r\n")
        new = switch(pair, "killed")
        wait_for(lambda: subscribers(new, "a") == 1, 20, "the subscription at the new master")
        link.command("EXEC")
        expect(link, ABORTED)
        wait_for(pointsman.writes, 20, "writes to pass again")
        link.send(encode("GET", "k") + encode("MULTI") + encode("SET", "k", "2") + encode("EXEC"))
        expect(link, b"_\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
        with new.client() as client:
            assert client.publish("a", "m") == 1
        expect(link, frame(3, "message", "a", "m"))
        expect_nothing_more(link)


def stand_in_line(pointsman, link):
    """For the one connection of the pool."""
    link.command("BLPOP", "queue", 0)
    with pointsman.client() as client:
        wait_for(lambda: any(line["cmd"] == "blpop" for line in client.client_list()), what="the other to wait for it")


def test_subscriber_that_finds_no_free_connection_waits_its_turn_without_an_error(alone, processes):
    pointsman = processes(
        Pointsman(alone.address, proxy_threads=1, pool_dedicated_connections=1, pool_wait="2500ms")
    )
    with speaking(pointsman, 2) as link, pointsman.raw(timeout=30) as other, alone.client() as node:
        link.command("SUBSCRIBE", "a")
        expect(link, frame(2, "subscribe", "a", 1))
        stand_in_line(pointsman, other)
        node.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        wait_for(lambda: alone.info("clients")["blocked_clients"] == 1, what="the other to have it")
        link.command("PING")
        assert link.is_silent(3)
        node.rpush("queue", "item")
        assert other.read() == [b"queue", b"item"]
        expect(link, b"*2\r\n" + bulk("pong") + bulk(""))
        assert node.publish("a", "m") == 1
        expect(link, frame(2, "message", "a", "m"))
        expect_nothing_more(link, 2)


def test_subscriber_whose_turn_never_came_goes_on_at_the_next_master(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_threads=1, pool_dedicated_connections=1, pool_wait="20s"))
    first, second = pair.servers
    with speaking(pointsman, 2) as link, pointsman.raw(timeout=30) as other:
        link.command("SUBSCRIBE", "a")
        expect(link, frame(2, "subscribe", "a", 1))
        stand_in_line(pointsman, other)
        with first.client() as node:
            node.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        wait_for(lambda: first.info("clients")["blocked_clients"] == 1, what="the other to have it")
        link.command("SUBSCRIBE", "b")
        assert link.is_silent(0.3)
        first.kill()
        other.close()  # it would wait on as well, on the only connection
        second.replicaof(None)
        expect(link, frame(2, "subscribe", "b", 2))
        assert subscribers(second, "a") == 1
        expect_nothing_more(link, 2)


def test_reset_ends_what_was_to_be_restored(pair, processes):
    pointsman = processes(Pointsman(pair))
    with speaking(pointsman, 2) as link:
        link.command("SUBSCRIBE", "a")
        expect(link, frame(2, "subscribe", "a", 1))
        pair.servers[0].kill()
        time.sleep(0.1)
        link.command("RESET")
        expect(link, b"+RESET\r\n")
        pair.servers[1].replicaof(None)
        wait_for(pointsman.writes, 20, "writes to pass again")
        link.send(encode("SET", "k", "v") + encode("GET", "k"))
        expect(link, b"+OK\r\n" + bulk("v"))
        assert subscribers(pair.servers[1], "a") == 0


def test_shutdown_does_not_wait_for_subscribers_without_a_master(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_drain_time="20s"))
    links = [speaking(pointsman, 2) for _ in range(5)]
    for link in links:
        link.command("SUBSCRIBE", "a")
        expect(link, frame(2, "subscribe", "a", 1))
    pair.servers[0].kill()
    time.sleep(0.1)
    start = time.monotonic()
    pointsman.stop()
    assert time.monotonic() - start < 10 * SLOWNESS
    for link in links:
        assert link.read_to_end() == b""
        link.close()


def test_subscriber_whom_the_node_refuses_from_now_on_is_closed(alone, processes):
    pointsman = processes(Pointsman(alone.address))
    with speaking(pointsman, 2) as link, alone.client() as node:
        link.command("SUBSCRIBE", "a")
        expect(link, frame(2, "subscribe", "a", 1))
        node.execute_command("ACL", "SETUSER", "default", "resetchannels", "&b")  # ends those with other channels
        assert link.read_to_end() == b""
        assert "its subscriptions cannot be restored: node" in pointsman.log_text()
        with pointsman.raw() as other:
            assert other.ask("SUBSCRIBE", "b") == [b"subscribe", b"b", 1]
            assert other.ask("SUBSCRIBE", "a").startswith(b"NOPERM")
            assert node.publish("b", "m") == 1
            assert other.read() == [b"message", b"b", b"m"]


def test_hundreds_of_subscribers_live_through_a_failover(own_cluster, processes):
    count = 300
    pointsman = processes(Pointsman(own_cluster, pool_dedicated_connections=count + 50))
    links = [speaking(pointsman, 2 + number % 2) for number in range(count)]
    try:
        for number, link in enumerate(links):
            link.send(encode("SUBSCRIBE", "all", f"own:{number}") + encode("PSUBSCRIBE", "n*"))
        for number, link in enumerate(links):
            protocol = 2 + number % 2
            expect(link, frame(protocol, "subscribe", "all", 1) + frame(protocol, "subscribe", f"own:{number}", 2))
            expect(link, frame(protocol, "psubscribe", "n*", 3))
        before = pointsman.cpu()
        _, new = own_cluster.failover(lambda master: master.kill())
        wait_for(lambda: subscribers(new, "all") == count, 30, "all to be subscribed at the new master")
        assert pointsman.cpu() - before < 3 * SLOWNESS, "it was busy while there was nothing to do"
        wait_for(pointsman.writes, 20, "writes to pass again")
        with pointsman.client() as publisher:
            assert publisher.pubsub_numsub("all", "own:7") == [(b"all", count), (b"own:7", 1)]
            wait_for(lambda: new.info("stats")["pubsub_patterns"] == 1, what="the pattern")
            wait_for(lambda: publisher.publish("all", "m") == count, what="the message to reach all")
            for number, link in enumerate(links):
                expect(link, frame(2 + number % 2, "message", "all", "m"))
                assert publisher.publish(f"own:{number}", "yours") == 1
                expect(link, frame(2 + number % 2, "message", f"own:{number}", "yours"))
        for number, link in enumerate(links):
            expect_nothing_more(link, 2 + number % 2)
    finally:
        for link in links:
            link.close()


# ----------------------------------------------------------------- lost in the middle of an answer


class Cutter(Forwarder):
    """Ends a connection after so many bytes of the first answer that has the word."""

    def __init__(self, target_port):
        super().__init__(target_port)
        self.word, self.after = None, 0
        self.held_word = b""

    def cut_within(self, word, after):
        self.after, self.word = after, word

    def hold_after(self, word):
        """Such an answer waits for release_replies(), and all after it."""
        self.held_word = word
        self.hold_replies()

    def _pump(self, source, sink, gate, chunk):
        is_reply = gate is self._replies_flow
        try:
            while data := source.recv(1 << 16):
                start = data.find(self.word) if is_reply and self.word else -1
                if start >= 0:
                    self.word = None
                    sink.sendall(data[: data.rfind(b"3\r\n$", 0, start) - 1 + self.after])
                    break
                if is_reply and self.held_word and self.held_word in data:
                    gate.wait()
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(2)
            except OSError:
                pass


@pytest.mark.parametrize("protocol", [2, 3])
def test_confirmations_come_once_each_however_many_were_there_when_the_connection_broke(alone, processes, protocol):
    with Cutter(alone.port) as relay:
        pointsman = processes(Pointsman(relay.address, proxy_threads=1))
        with speaking(pointsman, protocol) as link:
            link.command("SUBSCRIBE", "kept")
            expect(link, frame(protocol, "subscribe", "kept", 1))
            one = len(frame(protocol, "subscribe", "a", 2))
            for after in (0, 1, one - 1, one, one + 5, 2 * one, 3 * one - 1):
                relay.cut_within(b"subscribe\r\n$1\r\na", after)
                link.command("SUBSCRIBE", "a", "b", "c")
                for number, name in enumerate("abc"):
                    expect(link, frame(protocol, "subscribe", name, 2 + number))
                assert relay.word is None
                if after % 2:
                    relay.cut_within(b"unsubscribe\r\n$1\r\na", after)
                link.command("UNSUBSCRIBE", "a", "b", "c")
                for number, name in enumerate("abc"):
                    expect(link, frame(protocol, "unsubscribe", name, 3 - number))
                assert relay.word is None
            expect_nothing_more(link, protocol)
            assert subscribers(alone, "kept") == 1 and subscribers(alone, "a") == 0


def test_undoing_of_all_is_confirmed_once_for_each_however_many_were_there(alone, processes):
    names = [f"c{number}" for number in range(6)]
    with Cutter(alone.port) as relay:
        pointsman = processes(Pointsman(relay.address, proxy_threads=1))
        with speaking(pointsman, 2) as link:
            one = len(frame(2, "unsubscribe", "c0", 5))
            for after in (0, one, 3 * one + 7, 6 * one - 1):
                link.command("SUBSCRIBE", *names)
                for number, name in enumerate(names):
                    expect(link, frame(2, "subscribe", name, number + 1))
                relay.cut_within(b"unsubscribe\r\n", after)
                link.command("UNSUBSCRIBE")
                answers = [link.read() for _ in names]
                assert [answer[0] for answer in answers] == [b"unsubscribe"] * 6
                assert sorted(answer[1].decode() for answer in answers) == names
                assert [answer[2] for answer in answers] == [5, 4, 3, 2, 1, 0]
                assert relay.word is None
                assert link.ask("ECHO", "free again") == b"free again"


def test_restoration_that_is_cut_short_itself_begins_again(alone, processes):
    names = [f"n{number}" for number in range(600)]
    with Cutter(alone.port) as relay, alone.client() as node:
        pointsman = processes(Pointsman(relay.address, proxy_threads=1))
        with speaking(pointsman, 2) as link:
            link.command("SUBSCRIBE", *names)
            for number, name in enumerate(names):
                expect(link, frame(2, "subscribe", name, number + 1))
            for after in (0, 10, 31, 4000, 12000):
                relay.cut_within(b"subscribe\r\n$2\r\nn0", after)
                node.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                wait_for(lambda: relay.word is None, what="the cut")
                wait_for(lambda: subscribers(alone, names[-1]) == 1, what="all to be restored")
                assert node.publish("n0", "m") == 1
                expect(link, frame(2, "message", "n0", "m"))
            expect_nothing_more(link, 2)


def test_nothing_is_lost_doubled_or_out_of_order_however_often_connections_break(alone, processes):
    """Clients that subscribe and undo at random, in pipelines, while the node ends their connections all the time."""
    pointsman = processes(Pointsman(alone.address, proxy_threads=2, retry_attempts=100))
    problems, is_over = [], threading.Event()
    commands = [
        ("SUBSCRIBE", "channels"), ("PSUBSCRIBE", "patterns"), ("SSUBSCRIBE", "shards"), ("UNSUBSCRIBE", "channels"),
        ("PUNSUBSCRIBE", "patterns"), ("SUNSUBSCRIBE", "shards"), ("PING", None), ("SUBSCRIBE", "channels"),
    ]  # fmt: skip

    def work(seed):
        chance, protocol = random.Random(seed), 2 + seed % 2
        names = {"channels": {"keep"}, "patterns": set(), "shards": set()}
        try:
            with speaking(pointsman, protocol) as link:
                link.command("SUBSCRIBE", "keep")
                expect(link, frame(protocol, "subscribe", "keep", 1))
                rounds = 0
                while not is_over.is_set() or rounds < 100:
                    rounds += 1
                    sent, answer = b"", b""
                    for _ in range(chance.randrange(1, 6)):
                        word, kind = chance.choice(commands)
                        if not kind:
                            sent += encode(word)
                            answer += b"+PONG\r\n" if protocol == 3 else b"*2\r\n" + bulk("pong") + bulk("")
                            continue
                        chosen = [f"{kind}:{chance.randrange(20)}" for _ in range(chance.choice((1, 2, 3, 30)))]
                        sent += encode(word, *chosen)
                        for name in chosen:
                            (names[kind].discard if "UNSUB" in word else names[kind].add)(name)
                            shown = names["shards"] if kind == "shards" else names["channels"] | names["patterns"]
                            answer += frame(protocol, word.lower(), name, len(shown))
                    link.send(sent)
                    expect(link, answer)
                expect_nothing_more(link, protocol)
        except (AssertionError, OSError) as error:
            problems.append(f"client {seed}: {error}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    with alone.client() as node:
        for _ in range(80):
            time.sleep(0.05)
            node.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    is_over.set()
    for thread in threads:
        thread.join(60 * SLOWNESS)
    assert not problems, problems
    wait_for(lambda: subscribed_clients(alone) == 0, what="nobody to be subscribed")


def test_subscriber_whose_database_the_new_master_lacks_is_closed(processes):
    many = processes(Server("many", settings={"databases": 16})).ready()
    few = processes(Server("few", settings={"databases": 4})).ready()
    few.replicaof(many)
    wait_for(few.link_is_up, what="the replica to follow")
    pointsman = processes(Pointsman(f"{many.address}, {few.address}", reads_policy="master"))
    with speaking(pointsman, 2) as link, speaking(pointsman, 2) as other:
        link.send(encode("SELECT", 9) + encode("SUBSCRIBE", "a"))
        expect(link, b"+OK\r\n" + frame(2, "subscribe", "a", 1))
        other.send(encode("SELECT", 3) + encode("SUBSCRIBE", "a"))
        expect(other, b"+OK\r\n" + frame(2, "subscribe", "a", 1))
        many.kill()
        few.replicaof(None)
        assert link.read_to_end() == b""
        assert "cannot be restored: node" in pointsman.log_text()
        wait_for(lambda: subscribers(few, "a") == 1, what="the other at the new master")
        expect_nothing_more(other, 2)


@pytest.mark.parametrize("protocol", [2, 3])
def test_client_that_breaks_off_before_it_is_subscribed_harms_nobody(alone, processes, protocol):
    with Cutter(alone.port) as relay:
        pointsman = processes(Pointsman(relay.address, proxy_threads=1))
        with pointsman.client() as other:
            other.ping()
            connections, calm = alone.connected_clients(), warnings(pointsman)
            for _ in range(10):
                link = speaking(pointsman, protocol)
                relay.hold_after(b"subscribe")
                link.command("SUBSCRIBE", "a", "b", "c")
                wait_for(lambda: subscribers(alone, "c") == 1, what="the node to have it")
                break_off(link)
                time.sleep(0.02)
                relay.release_replies()
                assert other.set("others", "go on")
            wait_for(lambda: alone.connected_clients() <= connections + 1, what="connections to be at baseline")
            assert subscribed_clients(alone) == 0
            assert warnings(pointsman) == calm


# ------------------------------------------------------------------------------- slow subscribers


@pytest.mark.parametrize("protocol", [2, 3])
def test_slow_subscriber_is_cut_at_the_output_limit_and_nobody_else_notices(alone, processes, protocol):
    limit, size, count = 2 << 20, 1000, 20_000
    pointsman = processes(Pointsman(alone.address, proxy_threads=1, proxy_client_output_limit="2m"))
    message = frame(protocol, "message", "news", b"x" * size)
    with speaking(pointsman, protocol) as quick, speaking(pointsman, protocol) as slow, pointsman.client() as other:
        for link in (quick, slow):
            link.command("SUBSCRIBE", "news")
            expect(link, frame(protocol, "subscribe", "news", 1))
        before, calm = pointsman.rss(), warnings(pointsman)
        most = 0
        with alone.client() as node:
            for _ in range(count // 100):
                with node.pipeline(transaction=False) as pipe:
                    for _ in range(100):
                        pipe.publish("news", b"x" * size)
                    pipe.execute()
                expect(quick, message * 100)
                other.set("others", "go on")
                most = max(most, pointsman.rss())
        wait_for(lambda: subscribers(alone, "news") == 1, what="the slow one to be unsubscribed")
        expect_nothing_more(quick, protocol)
        assert "does not read its replies, proxy.client_output_limit reached: closed" in pointsman.log_text()
        assert warnings(pointsman) == calm
        got = slow.read_to_end()
        assert (message * count).startswith(got) and len(got) < len(message) * count
        if not SANITIZED:
            assert most - before < 4 * limit + (16 << 20)


def test_what_waits_for_a_slow_subscriber_takes_no_more_memory_than_its_bytes(alone, processes):
    """Small messages among the large replies of others: none keeps more alive than itself."""
    pointsman = processes(Pointsman(alone.address, proxy_threads=1, proxy_client_output_limit="512m"))
    with pointsman.raw(receive_buffer=4096) as slow, pointsman.client() as other, alone.client() as node:
        slow.command("SUBSCRIBE", "news")
        expect(slow, frame(2, "subscribe", "news", 1))
        node.set("large", b"y" * 60_000)
        for _ in range(4000):  # more than the sockets between take
            node.publish("news", b"x" * 2000)
        before = pointsman.rss()
        for _ in range(1500):
            node.publish("news", b"x" * 2000)
            other.get("large")
        assert subscribers(alone, "news") == 1
        if not SANITIZED:
            assert pointsman.rss() - before < 30 << 20


# ----------------------------------------------------------------------- nothing is left behind


def test_ten_thousand_cycles_leave_no_connection_behind(alone, processes):
    """Left at each step: not answered, in the middle of the confirmations, subscribed, in the middle of the undoing."""
    cycles, threads = (2_000 if SANITIZED else 10_000), 5
    pointsman = processes(
        Pointsman(alone.address, pool_dedicated_connections=20, pool_wait="20s", pool_idle_time="1s")
    )
    channels = [f"channel:{number}" for number in range(50)]
    problems = []

    def cycle(link, protocol, turn):
        names = channels[: 1 + turn % 50]
        link.command("SUBSCRIBE", *names)
        if turn % 5 == 0:
            return
        first = frame(protocol, "subscribe", names[0], 1)
        expect(link, first)
        if turn % 5 == 1:
            return
        for number, name in enumerate(names[1:]):
            expect(link, frame(protocol, "subscribe", name, number + 2))
        link.command("PSUBSCRIBE", "p*")
        expect(link, frame(protocol, "psubscribe", "p*", len(names) + 1))
        if turn % 5 == 2:
            return
        link.send(encode("UNSUBSCRIBE") + encode("PUNSUBSCRIBE"))
        if turn % 5 == 3:
            return
        for _ in range(len(names) + 1):
            for _ in range(6):
                link.read_line()
        if turn % 2:
            link.command("PING")
            expect_line(link, b"+PONG\r\n")

    def expect_line(link, line):
        assert link.read_line() == line

    def work(seed):
        chance = random.Random(seed)
        try:
            for _ in range(cycles // threads):
                protocol = chance.choice((2, 3))
                with speaking(pointsman, protocol) as link:
                    cycle(link, protocol, chance.randrange(1000))
                    if chance.randrange(2):
                        break_off(link)
        except (AssertionError, OSError, EOFError) as error:
            problems.append(error)

    def run():
        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not problems, problems[:3]

    with pointsman.client() as client:
        client.ping()
    connections, descriptors, calm = alone.connected_clients(), pointsman.descriptors(), warnings(pointsman)
    run()
    wait_for(lambda: subscribed_clients(alone) == 0, what="nobody to be subscribed")
    wait_for(lambda: alone.connected_clients() <= connections + 2, what="connections to be at baseline")
    wait_for(lambda: pointsman.descriptors() <= descriptors + 2, what="descriptors to be at baseline")
    assert warnings(pointsman) == calm
    with pointsman.client() as client:
        assert client.pubsub_channels() == [] and client.pubsub_numpat() == 0
        wait_for(lambda: len(client.client_list()) == 1, what="one client to be left")


def test_clients_that_leave_while_their_subscriptions_wait_are_forgotten(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_threads=1))
    descriptors = None
    for turn in range(2):
        links = [speaking(pointsman, 2 + number % 2) for number in range(20)]
        for number, link in enumerate(links):
            link.command("SUBSCRIBE", "a")
            expect(link, frame(2 + number % 2, "subscribe", "a", 1))
        old, new = pair.master, pair.replicas[0]
        old.pause() if turn else old.kill()
        time.sleep(0.2)
        for link in links[:15]:
            link.close()
        if turn:
            old.resume()
            old.replicaof(new)
        new.replicaof(None)
        wait_for(lambda: subscribers(new, "a") == 5, 20, "those who stayed to be subscribed")
        wait_for(pointsman.writes, 20, "writes to pass again")
        with pointsman.client() as client:
            assert client.publish("a", "m") == 5
        for number, link in enumerate(links[15:], 15):
            expect(link, frame(2 + number % 2, "message", "a", "m"))
            link.close()
        wait_for(lambda: subscribers(new, "a") == 0, what="nobody to be subscribed")
        if not turn:
            old.start().ready()
            old.replicaof(new)
            wait_for(old.link_is_up, 20, "the old master to follow")


# --------------------------------------------------------------------------------- what is asked


def test_pubsub_tells_of_the_proxys_clients_before_and_after_a_failover(pair, processes):
    pointsman = processes(Pointsman(pair))
    links = [speaking(pointsman, 2 + number % 2) for number in range(6)]
    with pointsman.client() as client:
        for number, link in enumerate(links):
            link.send(encode("SUBSCRIBE", "all", f"own:{number}") + encode("PSUBSCRIBE", "p*", f"q{number % 2}*"))
            link.send(encode("SSUBSCRIBE", "shard"))
            expected = [("subscribe", "all", 1), ("subscribe", f"own:{number}", 2), ("psubscribe", "p*", 3)]
            expected += [("psubscribe", f"q{number % 2}*", 4), ("ssubscribe", "shard", 1)]
            for one in expected:
                expect(link, frame(2 + number % 2, *one))

        def tell():
            return {
                "numsub": client.pubsub_numsub("all", "own:3", "none"),
                "channels": sorted(client.pubsub_channels()),
                "own": len(client.pubsub_channels("own:*")),
                "numpat": client.pubsub_numpat(),
                "shardchannels": client.execute_command("PUBSUB", "SHARDCHANNELS"),
                "shardnumsub": client.execute_command("PUBSUB", "SHARDNUMSUB", "shard"),
                "publish": [client.publish("all", "1"), client.publish("px", "2"), client.publish("none", "3")],
                "spublish": client.execute_command("SPUBLISH", "shard", "4"),
                "listed": sorted((line["sub"], line["psub"], line["ssub"]) for line in client.client_list(_type="pubsub")),
            }

        truth = {
            "numsub": [(b"all", 6), (b"own:3", 1), (b"none", 0)],
            "channels": sorted([b"all"] + [b"own:%d" % number for number in range(6)]),
            "own": 6,
            "numpat": 3,
            "shardchannels": [b"shard"],
            "shardnumsub": [b"shard", 6],
            "publish": [6, 6, 0],
            "spublish": 6,
            "listed": [("2", "2", "1")] * 6,
        }
        assert tell() == truth
        new = switch(pair, "killed")
        wait_for(lambda: subscribers(new, "all") == 6, 20, "all at the new master")
        wait_for(pointsman.writes, 20, "writes to pass again")
        wait_for(lambda: client.execute_command("PUBSUB", "SHARDNUMSUB", "shard") == [b"shard", 6], what="the last of all")
        assert tell() == truth
    for number, link in enumerate(links):
        protocol = 2 + number % 2
        once = frame(protocol, "message", "all", "1") + frame(protocol, "pmessage", "p*", "px", "2")
        expect(link, (once + frame(protocol, "smessage", "shard", "4")) * 2)
        expect_nothing_more(link, protocol)
        link.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_keyspace_notifications_come_before_and_after_a_failover(pair, processes, protocol):
    pointsman = processes(Pointsman(pair))
    with speaking(pointsman, protocol) as link, pointsman.client() as client:
        assert client.config_set("notify-keyspace-events", "KEA")
        link.command("PSUBSCRIBE", "__keyspace@0__:k*", "__keyevent@0__:expired")
        expect(link, frame(protocol, "psubscribe", "__keyspace@0__:k*", 1))
        expect(link, frame(protocol, "psubscribe", "__keyevent@0__:expired", 2))
        client.set("k1", "v")
        client.rpush("k2", "v")
        client.set("other", "v")
        expect(link, frame(protocol, "pmessage", "__keyspace@0__:k*", "__keyspace@0__:k1", "set"))
        expect(link, frame(protocol, "pmessage", "__keyspace@0__:k*", "__keyspace@0__:k2", "rpush"))
        with pair.replicas[0].client() as node:
            node.config_set("notify-keyspace-events", "KEA")
        new = switch(pair, "killed")
        wait_for(lambda: new.info("stats")["pubsub_patterns"] == 2, 20, "the patterns at the new master")
        wait_for(pointsman.writes, 20, "writes to pass again")
        client.set("k3", "v", px=50)
        expect(link, frame(protocol, "pmessage", "__keyspace@0__:k*", "__keyspace@0__:k3", "set"))
        expect(link, frame(protocol, "pmessage", "__keyspace@0__:k*", "__keyspace@0__:k3", "expire"))
        wait_for(lambda: client.get("k3") is None, what="the key to expire")
        expect(link, frame(protocol, "pmessage", "__keyspace@0__:k*", "__keyspace@0__:k3", "expired"))
        expect(link, frame(protocol, "pmessage", "__keyevent@0__:expired", "__keyevent@0__:expired", "k3"))
        expect_nothing_more(link, protocol)


@pytest.mark.parametrize("protocol", [2, 3])
def test_ten_thousand_channels_in_one_command_survive_a_failover(pair, processes, protocol):
    names = [f"a:channel:with:a:longer:name:{number}" for number in range(10_000)]
    pointsman = processes(Pointsman(pair))
    with speaking(pointsman, protocol) as link, pointsman.client() as client:
        link.command("SUBSCRIBE", *names)
        expect(link, b"".join(frame(protocol, "subscribe", name, i + 1) for i, name in enumerate(names)))
        new = switch(pair, "killed")
        wait_for(lambda: subscribers(new, names[-1]) == 1, 20, "the last at the new master")
        wait_for(pointsman.writes, 20, "writes to pass again")
        assert len(client.pubsub_channels()) == 10_000
        for name in names[::997]:
            assert client.publish(name, "m") == 1
            expect(link, frame(protocol, "message", name, "m"))
        link.command("UNSUBSCRIBE")
        wait_for(lambda: client.pubsub_channels() == [], what="all to be undone")
        for _ in range(10_000 * 6):
            link.read_line()
        assert link.ask("ECHO", "free again") == b"free again"


def test_names_beyond_the_input_limit_close_the_client(alone, processes):
    pointsman = processes(Pointsman(alone.address, proxy_client_input_limit="1m", proxy_max_bulk_length="1m"))
    with pointsman.raw() as link, pointsman.raw() as other:
        other.ask("SUBSCRIBE", "b")
        with pytest.raises((EOFError, OSError)):
            for number in range(100):
                link.ask("SUBSCRIBE", f"{number}:" + "x" * 50_000)
        assert number > 10
        assert "subscribed to are beyond proxy.client_input_limit: closed" in pointsman.log_text()
        assert other.ask("PING") == [b"pong", b""]
        wait_for(lambda: subscribed_clients(alone) == 1, what="the other alone to be left")


# ------------------------------------------------------------------------------ what is allowed

INSIDE = ["SUBSCRIBE a", "PSUBSCRIBE a b", "UNSUBSCRIBE", "UNSUBSCRIBE a", "PUNSUBSCRIBE", "SUNSUBSCRIBE"]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("command", INSIDE)
def test_subscribing_inside_a_transaction_is_refused_and_aborts_it(alone, processes, command, protocol):
    pointsman = processes(Pointsman(alone.address))
    with speaking(pointsman, protocol) as link:
        link.send(encode("MULTI") + encode("SET", "k", "v") + encode(*command.split()) + encode("EXEC"))
        expect(link, b"+OK\r\n+QUEUED\r\n" + NOT_IN_MULTI + ABORTED)
        link.send(command.encode().join([b"MULTI\r\n", b"\r\n"]) + b"DISCARD\r\nEXISTS k\r\n")
        expect(link, b"+OK\r\n" + NOT_IN_MULTI + b"+OK\r\n:0\r\n")
        expect_line = b"*1\r\n+OK\r\n"
        link.send(encode("MULTI") + encode("SET", "k", "v") + encode("EXEC"))
        expect(link, b"+OK\r\n+QUEUED\r\n" + expect_line)
        assert subscribed_clients(alone) == 0


def test_shard_subscription_and_monitor_inside_a_transaction_are_errors_of_its_own(alone, processes, direct):
    pointsman = processes(Pointsman(alone.address))
    script = encode("MULTI") + encode("SSUBSCRIBE", "s") + encode("MONITOR") + encode("SUBSCRIBE") + encode("DISCARD")
    script += encode("MULTI") + encode("SSUBSCRIBE", "s") + encode("MONITOR") + encode("SET", "k", "v") + encode("EXEC")
    assert talk(pointsman.port, script) == talk(direct.port, script)


CONFINED = [
    "GET a", "SET a 1", "MULTI", "EXEC", "DISCARD", "WATCH a", "UNWATCH", "MONITOR", "NOSUCH", "ECHO x", "SELECT 1",
    "CLIENT ID", "CLIENT SETNAME x", "HELLO", "HELLO 3", "AUTH x", "INFO", "COMMAND", "CONFIG GET x", "EVAL x 0", "GET",
    "PUBLISH a m", "PUBSUB CHANNELS", "BLPOP a 0", "SCRIPT LOAD x", "CLUSTER INFO", "DEBUG HELP", "PING a b", "SUBSCRIBE",
]  # fmt: skip


@pytest.mark.parametrize("end", ["UNSUBSCRIBE", "RESET", "QUIT"])
def test_subscriber_in_resp2_may_do_what_a_plain_server_lets_it(alone, processes, direct, end):
    pointsman = processes(Pointsman(alone.address))
    script = encode("SUBSCRIBE", "a") + b"".join(encode(*command.split()) for command in CONFINED)
    script += encode("PING") + encode("PING", "x") + encode("PSUBSCRIBE", "p*") + encode("PUNSUBSCRIBE")
    script += encode(end) + encode("GET", "a")
    assert talk(pointsman.port, script) == talk(direct.port, script)


def test_publish_and_pubsub_go_to_the_master(pair, processes):
    """Without Sentinels, which PUBLISH themselves, to every server."""
    pointsman = processes(Pointsman(pair)).wait_for_replicas(1)
    master, replica = pair.servers
    with pair.counting() as counts, pointsman.client() as client:
        for number in range(20):
            client.publish("c", number)
            client.execute_command("SPUBLISH", "c", number)
            client.pubsub_numsub("c")
        pair.wait_synced()
    for command in ("publish", "spublish", "pubsub|numsub"):
        assert counts.calls(master, command) == 20
    assert counts.calls(replica, "pubsub|numsub") == 0
    assert counts.calls(replica, "publish") == 20, "what replication carries to it, and no more"
