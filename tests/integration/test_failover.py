# SPDX-License-Identifier: BSD-2-Clause
"""Clients live through the loss of any node, and nothing they are told is untrue."""

import statistics
import threading
import time

import pytest
import redis

from harness import (
    HOST, SLOWNESS, Forwarder, Monitor, Pointsman, Raw, Replication, Server, SwitchWatch, encode, free_port, wait_for,
)  # fmt: skip

NO_MASTER = b"ERR pointsman: no master within failover.hold_time; not executed"
HOLD_FULL = b"ERR pointsman: no master, and failover.hold_requests or failover.hold_bytes is used up; not executed"
WRITE_LOST = b"ERR pointsman: connection to master lost after the write was sent; outcome unknown"
PATIENT = "60s"  # a hold_time for failovers: an election may have to be repeated, which takes 20 s
WRITE_COMMANDS = ("set", "incr", "incrby", "del", "lpush", "multi", "exec")


class Counter(threading.Thread):
    """A client that increments a key of its own in a closed loop and keeps book of what it was told."""

    def __init__(self, pointsman, number, pause=0.002):
        super().__init__(daemon=True)
        self.link = pointsman.raw(timeout=60)
        self.key = f"counter:{number}"
        self.pause = pause
        self.identity = self.link.ask("CLIENT", "ID")
        self.values, self.times, self.errors = [], [], []
        self.unknown = 0
        self.broken = None  # why the connection ended, if it did
        self.ending = False
        self.longest = 0.0

    def run(self):
        try:
            while not self.ending:
                start = time.monotonic()
                reply = self.link.ask("INCR", self.key)
                now = time.monotonic()
                self.longest = max(self.longest, now - start)
                if isinstance(reply, int):
                    self.values.append(reply)
                    self.times.append(now)
                elif reply.endswith(b"outcome unknown"):
                    self.unknown += 1
                    self.errors.append(bytes(reply))
                else:
                    self.errors.append(bytes(reply))
                    self.broken = reply
                time.sleep(self.pause)
        except (OSError, EOFError) as error:
            self.broken = error

    def finish(self):
        self.ending = True
        self.join(70)
        assert not self.is_alive(), f"{self.key} still waits for an answer"
        if not self.broken:
            assert self.link.ask("CLIENT", "ID") == self.identity
        self.link.close()


def start_counters(pointsman, count):
    counters = [Counter(pointsman, number) for number in range(count)]
    for counter in counters:
        counter.start()
    wait_for(lambda: all(counter.values for counter in counters), what="all counters to count")
    return counters


def check_counters(counters, master, since):
    """No disconnection; what the new master holds is what it acknowledged, nothing twice, nothing less."""
    assert not [counter.broken for counter in counters if counter.broken]
    with master.client() as client:
        stored = [int(value or 0) for value in client.mget([counter.key for counter in counters])]
    unreplicated = 0
    for counter, value in zip(counters, stored):
        acknowledged = len(counter.values)
        assert counter.times[-1] > since, "it wrote nothing to the new master"
        assert counter.unknown <= 1, counter.errors
        assert value == counter.values[-1], "a write acknowledged by the new master is lost, or one was repeated"
        assert value <= acknowledged + counter.unknown, "a write was counted twice"
        steps = [b - a for a, b in zip(counter.values, counter.values[1:])]
        jumps = [step for step in steps if step != 1]
        assert len(jumps) <= 1, f"{counter.key}: {jumps}"
        # Replication is asynchronous: what the old master acknowledged in its last moment may not have left it.
        missing = max(0, acknowledged - value)
        assert missing <= 1
        unreplicated += missing
    unknown = sum(counter.unknown for counter in counters)
    longest = max(counter.longest for counter in counters)
    print(f"{sum(stored)} increments, {unknown} of unknown outcome, {unreplicated} lost by replication itself, "
          f"longest wait {longest:.2f} s")  # fmt: skip


def test_fifty_clients_live_through_kill_9_of_the_master(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster, failover_hold_time=PATIENT)).wait_for_replicas(2)
    counters = start_counters(pointsman, 50)
    time.sleep(0.5)
    _, new = own_cluster.failover(lambda master: master.kill())
    switched = time.monotonic()
    wait_for(lambda: all(c.broken or c.times[-1] > switched for c in counters), 10, "all to write again")
    for counter in counters:
        counter.finish()
    check_counters(counters, new, switched)


def test_fifty_clients_live_through_a_hung_master_and_none_writes_to_it_when_it_wakes(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster, failover_hold_time=PATIENT)).wait_for_replicas(2)
    counters = start_counters(pointsman, 50)
    with Monitor(own_cluster.master) as monitor:
        old, new = own_cluster.failover(lambda master: master.pause())
        switched = time.monotonic()
        wait_for(lambda: all(c.broken or c.times[-1] > switched for c in counters), 10, "all to write again")
        in_flight = [counter.key for counter in counters if counter.unknown]
        resumed = time.time()
        old.resume()  # what lay in its socket is still run: those are the ones of unknown outcome
        wait_for(old.answers, what="the old master to answer")
        time.sleep(2)
        late = [line[2].strip(' "') for line in monitor.commands("incr", besides=[new.address], since=resumed)]
        assert len(late) == len(set(late)), "a write was sent twice"
        assert set(late) <= set(in_flight), "a write was run of which its client was told something else"
        assert not set(old.rejected()) & set(WRITE_COMMANDS)
    for counter in counters:
        counter.finish()
    check_counters(counters, new, switched)


def test_old_master_that_is_started_again_gets_not_one_write(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    old, new = own_cluster.failover(lambda master: master.kill())
    counters = start_counters(pointsman, 20)
    old.restart(old_config=True)
    with Monitor(old) as monitor:
        assert old.role() == "master", "it came back as a replica, so nothing is proven"
        assert not set(old.commandstats()) & set(WRITE_COMMANDS)
        wait_for(lambda: old.role() == "slave", 30, "Sentinel to make it a replica", every=0.2)
        time.sleep(0.5)
        assert not monitor.commands(*WRITE_COMMANDS, besides=[new.address])
        assert not set(old.rejected()) & set(WRITE_COMMANDS)
    for counter in counters:
        counter.finish()
        assert not counter.errors and not counter.broken
        assert counter.values == list(range(1, len(counter.values) + 1))


def test_writes_resume_within_half_a_second_of_the_first_sentinel_naming_the_new_master(processes):
    cluster = Replication(replicas=3).start()
    pointsman = processes(Pointsman(cluster, failover_hold_time=PATIENT))
    delays, pauses = [], []
    for turn in range(3):
        watch = SwitchWatch(cluster.sentinels)
        counter = Counter(pointsman, turn, pause=0.001)
        counter.start()
        time.sleep(0.3)
        killed = time.monotonic()
        cluster.failover(lambda master: master.kill())
        wait_for(lambda: watch.first, what="a Sentinel's message")
        wait_for(lambda: counter.broken or counter.times[-1] > watch.first, 10, "writes to resume")
        counter.finish()
        assert not counter.broken
        # The write behind the longest gap is the first one to the new master. It may come before the event: a
        # Sentinel names the promoted replica when asked for the master a little earlier than it publishes so.
        moments = [moment for moment in zip(counter.times, counter.times[1:]) if moment[1] > killed]
        resumed = max(moments, key=lambda pair: pair[1] - pair[0])[1]
        delays.append(resumed - watch.first)
        pauses.append(resumed - killed)
        wait_for(lambda: all(s.role() == "master" or s.link_is_up() for s in cluster.servers if s.is_alive()), 20)
        time.sleep(0.5)
    text = lambda seconds: ", ".join(f"{1000 * s:.0f} ms" for s in seconds)
    print(f"writes resumed {text(delays)} after the first +switch-master; from kill to write {text(pauses)}")
    assert statistics.median(delays) <= 0.5 * SLOWNESS


def test_write_sent_while_there_is_no_master_is_held_and_answered_late(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster, failover_hold_time=PATIENT)).wait_for_replicas(2)
    old = own_cluster.master
    with pointsman.raw(timeout=60) as link:
        assert link.ask("SET", "held", 0) == b"OK"
        own_cluster.wait_synced()
        old.kill()
        time.sleep(0.3)
        link.send(encode("INCR", "held") * 3 + encode("GET", "held"))
        assert link.is_silent(0.3)
        own_cluster.wait_switched(old)
        assert [link.read() for _ in range(4)] == [1, 2, 3, b"3"]
    with own_cluster.master.client() as client:
        assert client.get("held") == b"3"


def test_replica_that_is_killed_takes_no_read_with_it_and_is_read_from_again_later(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    replica = own_cluster.replicas[0]
    with pointsman.client() as client:
        client.set("key", "value")
    own_cluster.wait_synced()
    problems, ending = [], threading.Event()

    def read():
        with pointsman.client(retry_on_timeout=False) as client:
            while not ending.is_set():
                try:
                    assert client.get("key") == b"value"
                except (redis.RedisError, AssertionError) as error:
                    problems.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(10)]
    for reader in readers:
        reader.start()
    time.sleep(0.3)
    replica.kill()
    time.sleep(1.5)
    replica.restart()
    wait_for(replica.link_is_up, 20, "the replica to follow again")
    replica.reset_stats()
    wait_for(lambda: replica.commandstats().get("get", 0) > 0, 15, "reads to return to the replica")
    ending.set()
    for reader in readers:
        reader.join()
    assert not problems, problems[:5]


def test_sentinels_may_all_be_restarted_and_the_next_failover_is_still_followed(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster, failover_hold_time=PATIENT)).wait_for_replicas(2)
    counters = start_counters(pointsman, 5)
    for sentinel in own_cluster.sentinels:
        sentinel.kill()
    time.sleep(1.5)
    for counter in counters:
        assert not counter.broken and not counter.errors
    for sentinel in own_cluster.sentinels:
        sentinel.start(old_config=False)
    for sentinel in own_cluster.sentinels:
        sentinel.ready()
    own_cluster.wait_until_agreed()
    time.sleep(1)
    _, new = own_cluster.failover(lambda master: master.kill())
    switched = time.monotonic()
    wait_for(lambda: all(c.broken or c.times[-1] > switched for c in counters), 10, "all to write again")
    for counter in counters:
        counter.finish()
    check_counters(counters, new, switched)


def test_writes_and_reads_go_on_while_every_sentinel_is_away(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    for sentinel in own_cluster.sentinels:
        sentinel.kill()
    with pointsman.client() as client:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert client.set("key", "value")
            client.get("key")
            time.sleep(0.01)


def test_pointsman_started_before_redis_listens_at_once_and_heals(processes):
    cluster = Replication()
    pointsman = processes(Pointsman(cluster, wait="listen", failover_hold_time="60s"))
    with pointsman.raw(timeout=30) as link:
        assert link.ask("PING") == b"PONG"
        link.command("SET", "early", 1)
        assert link.is_silent(0.5)
        cluster.start()
        up = time.monotonic()
        assert link.read() == b"OK"
        print(f"healed {time.monotonic() - up:.2f} s after the nodes were up and agreed")
        assert time.monotonic() - up < 2 * SLOWNESS
    with cluster.master.client() as client:
        assert client.get("early") == b"1"


@pytest.fixture
def pair():
    """A master and a replica without Sentinels, so that nobody makes a new master."""
    replication = Replication(replicas=1, sentinels=0).start()
    yield replication
    replication.stop()


def test_swap_of_roles_by_hand_shows_no_client_the_word_readonly(pair, processes):
    old, new = pair.servers
    pointsman = processes(Pointsman(pair))
    counters = start_counters(pointsman, 10)
    new.replicaof(None)
    old.replicaof(new)
    switched = time.monotonic()
    wait_for(lambda: all(c.broken or c.times[-1] > switched + 1 for c in counters), 10, "all to write again")
    for counter in counters:
        counter.finish()
        assert not counter.broken
        assert all(error.endswith(b"outcome unknown") for error in counter.errors)
        assert counter.unknown <= 1
    with new.client() as client:
        assert [int(client.get(c.key)) for c in counters] == [c.values[-1] for c in counters]


def test_write_held_longer_than_hold_time_fails_clearly_and_was_not_executed(pair, processes):
    pointsman = processes(Pointsman(pair, failover_hold_time="1s"))
    pair.servers[0].kill()
    with pointsman.raw(timeout=30) as link:
        start = time.monotonic()
        assert link.ask("SET", "late", 1) == NO_MASTER
        assert 0.8 < time.monotonic() - start < 3 * SLOWNESS
        assert link.ask("PING") == b"PONG"
        pair.servers[0].start().ready()
        wait_for(pointsman.writes, 10, "writes to pass again")
        assert link.ask("EXISTS", "late") == 0


def test_hold_time_of_zero_holds_nothing_and_is_what_the_error_names(processes):
    pointsman = processes(Pointsman(f"{HOST}:{free_port()}", wait="listen", failover_hold_time="0"))
    with pointsman.raw() as link:
        link.send(encode("SET", "a", 1) + encode("MULTI") + encode("GET", "a"))
        assert [link.read() for _ in range(2)] == [NO_MASTER, NO_MASTER]


def test_commands_of_a_pipeline_are_held_together_and_not_one_after_the_other(pair, processes):
    pointsman = processes(Pointsman(pair, failover_hold_time="2s"))
    with pointsman.raw(timeout=30) as link:
        assert link.ask("SET", "held:key", 1) == b"OK"
        pair.servers[0].kill()
        start = time.monotonic()
        link.send(encode("SET", "held:key", 2) * 12 + encode("PING"))
        assert [link.read() for _ in range(13)] == [NO_MASTER] * 12 + [b"PONG"]
        assert time.monotonic() - start < 12 * 2
        start = time.monotonic()
        threading.Thread(target=link.send, args=(encode("SET", "held:key", "x" * 1000) * 3000,), daemon=True).start()
        assert [link.read() for _ in range(3000)] == [NO_MASTER] * 3000  # more than is read before it is looked at
        assert time.monotonic() - start < 6
        time.sleep(1.1)
        start = time.monotonic()
        assert link.ask("SET", "held:key", 3) == NO_MASTER  # what was sent later has that time again
        assert time.monotonic() - start > 1.5
        link.send(encode("SET", "held:key", 4) + encode("GET", "held:key"))
        pair.servers[0].start().ready()
        assert link.read() == b"OK" and link.read() == b"4"


def test_commands_sent_before_anything_is_known_wait_together(processes):
    pointsman = processes(Pointsman(f"{HOST}:{free_port()}", wait="listen", upstream_kind="cluster", failover_hold_time="2s"))
    with pointsman.raw(timeout=30) as link:
        start = time.monotonic()
        link.send(encode("SET", "a", 1) * 12)
        assert [link.read() for _ in range(12)] == [NO_MASTER] * 12
        assert time.monotonic() - start < 12 * 2


def test_hold_requests_bounds_what_is_held_and_the_rest_fails_at_once(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_threads=1, failover_hold_requests=5, failover_hold_time="60s"))
    pair.servers[0].kill()
    time.sleep(0.5)
    links = [pointsman.raw(timeout=30) for _ in range(12)]
    try:
        for number, link in enumerate(links):
            link.command("SET", f"held:{number}", 1)
        wait_for(lambda: sum(not link.is_silent(0.01) for link in links) >= 7, what="the others to be refused")
        waiting = [link for link in links if link.is_silent(0.05)]
        refused = [link for link in links if link not in waiting]
        assert len(waiting) == 5
        assert [link.read() for link in refused] == [HOLD_FULL] * 7
        pair.servers[0].start().ready()
        assert [link.read() for link in waiting] == [b"OK"] * 5
    finally:
        for link in links:
            link.close()


def test_hold_bytes_bounds_what_is_held(pair, processes):
    pointsman = processes(Pointsman(pair, proxy_threads=1, failover_hold_bytes=1 << 20, failover_hold_time="3s"))
    pair.servers[0].kill()
    time.sleep(0.5)
    with pointsman.raw(timeout=30) as small, pointsman.raw(timeout=30) as big:
        small.command("SET", "small", "x" * 1000)
        big.command("SET", "big", "x" * (2 << 20))
        assert big.read() == HOLD_FULL
        assert small.is_silent(0.1)
        assert small.read() == NO_MASTER


def test_reads_go_on_from_replicas_while_there_is_no_master(pair, processes):
    pointsman = processes(Pointsman(pair))
    with pointsman.client() as client, pointsman.raw() as writer:
        client.set("key", "value")
        pair.wait_synced()
        wait_for(lambda: client.get("key") and pair.servers[1].commandstats().get("get"), what="a read of the replica")
        pair.servers[0].kill()
        time.sleep(0.2)
        writer.command("SET", "held", 1)
        before = pair.servers[1].commandstats()["get"]
        for _ in range(50):
            assert client.get("key") == b"value"
        # The replica has lost its master, so it is no longer fit; but it is the best there is.
        assert pair.servers[1].commandstats()["get"] - before == 50
        assert writer.is_silent(0.05)
        pair.servers[0].start().ready()
        assert writer.read() == b"OK"


@pytest.fixture
def relayed(processes):
    """One server behind a relay of ours that can lose replies, and a pointsman before it."""
    server = processes(Server("alone")).ready()
    with Forwarder(server.port) as relay:
        yield server, relay, processes(Pointsman(relay.address, proxy_threads=1))


def test_write_whose_reply_was_lost_is_not_sent_again_and_the_client_is_told_once(relayed):
    server, relay, pointsman = relayed
    with pointsman.raw(timeout=30) as link:
        assert link.ask("INCR", "once") == 1
        relay.hold_replies()
        link.command("INCR", "once")
        wait_for(lambda: server.commandstats()["incr"] == 2, what="the write to arrive")
        relay.cut()
        relay.release_replies()
        assert link.read() == WRITE_LOST
        assert link.ask("GET", "once") == b"2"
        assert link.ask("INCR", "once") == 3
    assert server.commandstats()["incr"] == 3


def test_read_whose_reply_was_lost_is_sent_again(relayed):
    server, relay, pointsman = relayed
    with pointsman.raw(timeout=30) as link:
        link.ask("SET", "key", "value")
        relay.hold_replies()
        link.command("GET", "key")
        wait_for(lambda: server.commandstats().get("get") == 1, what="the read to arrive")
        relay.cut()
        relay.release_replies()
        assert link.read() == b"value"
    assert server.commandstats()["get"] == 2


def test_pipeline_that_was_cut_is_answered_completely_and_in_order(relayed):
    server, relay, pointsman = relayed
    with pointsman.raw(timeout=30) as link:
        link.ask("SET", "key", "value")
        relay.hold_replies()
        link.send((encode("INCR", "n") + encode("GET", "key") + encode("PING")) * 100)
        wait_for(lambda: server.commandstats().get("incr") == 100, what="all to arrive")
        relay.cut()
        relay.release_replies()
        for _ in range(100):
            assert [link.read() for _ in range(3)] == [WRITE_LOST, b"value", b"PONG"]
        assert link.ask("GET", "n") == b"100"


def test_request_that_gets_no_reply_ends_at_its_deadline(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, proxy_request_timeout="1s"))
    with pointsman.raw(timeout=30) as link:
        server.pause()
        try:
            link.command("SET", "key", 1)
            assert b"outcome unknown" in link.read()
        finally:
            server.resume()
        wait_for(pointsman.writes, 10, "writes to pass again")
        assert link.ask("PING") == b"PONG"


def test_master_that_is_loading_is_waited_for(processes):
    server = processes(Server("alone", settings={"save": '"100000 1"'})).ready()
    with server.client() as client:
        client.execute_command("DEBUG", "POPULATE", 20000)
        client.config_set("key-load-delay", 100)
        client.config_set("loading-process-events-interval-bytes", 1024)
    pointsman = processes(Pointsman(server.address))
    with pointsman.raw(timeout=30) as link, server.raw(timeout=30) as reloading, Raw(server.port) as asking:
        reloading.command("DEBUG", "RELOAD")
        wait_for(lambda: (asking.ask("GET", "x") or b"").startswith(b"LOADING"), 10, "the server to load")
        link.send(encode("SET", "key", 1) + encode("GET", "key"))
        assert [link.read(), link.read()] == [b"OK", b"1"]
