# SPDX-License-Identifier: BSD-2-Clause
"""Nodes that fail, or are slow, in ways that their health checks do not show: reads go elsewhere, and come back.

The relays below stand in front of replicas. They let pass what the proxy's own checks say, on connections that carry no
GET, and do to the others what the test wants.
"""

import itertools
import threading
import time

import pytest

from harness import SLOWNESS, Forwarder, Pointsman, Reply, Replication, Server, encode, wait_for

RESERVE = 1000  # of the retry budget, in ten seconds


class Relay(Forwarder):
    GET = b"\nGET\r\n"

    def __init__(self, target_port):
        self.is_mute = False  # connections that come now, and carried GET before, are never answered
        self.delay_s = 0.0  # before each reply on a connection that has carried GET
        self.seen = 0  # GETs
        self.carriers = set()
        super().__init__(target_port)

    def _pump(self, source, sink, gate, chunk):
        is_request = gate is not self._replies_flow
        was_mute = self.is_mute
        near = source if is_request else sink
        last = b""
        try:
            while data := source.recv(1 << 16):
                count = (last + data).count(self.GET) if is_request else 0
                last = data[-len(self.GET) + 1 :]
                self.seen += count
                if count:
                    self.carriers.add(near)
                if was_mute or (self.is_mute and near in self.carriers):
                    continue
                if not is_request and near in self.carriers:
                    time.sleep(self.delay_s)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(2)
            except OSError:
                pass

    def cut_carriers(self):
        carriers, self.carriers = self.carriers, set()
        for near in carriers:
            try:
                near.shutdown(2)
            except OSError:
                pass


class Scene:
    """A master and replicas behind relays, found by their own words."""

    def __init__(self, replicas):
        self.replication = Replication(replicas=replicas, sentinels=0).start()
        self.master, *self.replicas = self.replication.servers
        self.relays = [Relay(server.port) for server in self.replicas]
        with self.master.client() as client:
            client.set("k", "value")
        self.replication.wait_synced()

    def pointsman(self, **keys):
        nodes = ", ".join([self.master.address] + [relay.address for relay in self.relays])
        return Pointsman(nodes, upstream_kind="static", proxy_threads=keys.pop("proxy_threads", 1), **keys)

    def reads_reach(self, pointsman, servers):
        """True if some reads were answered by each of them."""
        with self.replication.counting() as counts, pointsman.client() as client:
            for _ in range(60):
                assert client.get("k") == b"value"
        return all(count > 0 for count in counts.each(servers, "get"))

    def stop(self):
        for relay in self.relays:
            relay.close()
        self.replication.stop()


@pytest.fixture
def scene(request):
    made = Scene(request.param)
    yield made
    made.stop()


one_replica = pytest.mark.parametrize("scene", [1], indirect=True)
two_replicas = pytest.mark.parametrize("scene", [2], indirect=True)


def info(pointsman):
    """Lines of INFO proxy; nodes by their name, as dictionaries."""
    with pointsman.raw() as link:
        text = link.ask("INFO", "proxy").decode()
    assert text.startswith("# Proxy\r\n")
    lines = dict(line.split(":", 1) for line in text.split("\r\n")[1:] if line)
    nodes = [dict(pair.split("=", 1) for pair in value.split(",")) for key, value in lines.items() if key.startswith("node")]
    numbers = {key: int(value) for key, value in lines.items() if not key.startswith(("node", "thread"))}
    return numbers, {node["name"]: node for node in nodes}


def is_error(answer):
    return isinstance(answer, Reply) and answer.startswith(b"ERR ")


@one_replica
def test_replica_that_accepts_and_never_answers_loses_its_reads_and_gets_them_back(scene):
    relay = scene.relays[0]
    with scene.pointsman(proxy_request_timeout="300ms", breaker_open_time="2s") as pointsman:
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), what="reads to reach the replica")
        relay.is_mute = True
        relay.cut_carriers()
        answers = []

        def is_open():
            with pointsman.raw() as link:
                answers.extend(link.ask("GET", "k") for _ in range(20))
            return info(pointsman)[1][relay.address]["breaker"] != "closed"

        wait_for(is_open, 30, "the breaker to open")
        errors = [answer for answer in answers if is_error(answer)]
        assert all(b"no reply within proxy.request_timeout" in error for error in errors), set(errors)
        assert len(errors) == 5 and set(answers) - set(errors) == {b"value"}
        numbers, nodes = info(pointsman)
        assert nodes[relay.address]["fit"] == "1"
        assert numbers["breaker_openings"] == 1 and numbers["ejections"] == 1
        assert numbers["failures_timed_out"] == len(errors)
        assert f"node {relay.address}: breaker open" in pointsman.log_text()
        relay.is_mute = False
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), 20, what="reads to come back")
        wait_for(lambda: info(pointsman)[1][relay.address]["breaker"] == "closed", what="the breaker to close")


def test_writes_wait_while_the_breaker_of_the_master_is_open(processes):
    server = processes(Server("master")).ready()
    with Relay(server.port) as relay, Pointsman(
        relay.address, upstream_kind="static", proxy_request_timeout="300ms", retry_max_delay="500ms", breaker_open_time="5s"
    ) as pointsman, pointsman.raw(timeout=30) as writer:
        with pointsman.raw() as reader:
            assert reader.ask("GET", "k") is None
            relay.is_mute = True
            relay.cut_carriers()

            def is_open():
                reader.command("GET", "k")  # it may be held, too
                return info(pointsman)[1][relay.address]["breaker"] == "open"

            wait_for(is_open, 30, "it to open")
        writer.command("SET", "k", "written")
        wait_for(lambda: info(pointsman)[0]["held_requests"] == 1, what="the write to be held")
        relay.is_mute = False
        assert writer.read() == b"OK" and writer.ask("GET", "k") == b"written"
        numbers, nodes = info(pointsman)
        assert numbers["failures_outcome_unknown"] == numbers["held_requests"] == 0
        wait_for(lambda: info(pointsman)[1][relay.address]["breaker"] == "closed", what="it to close")


@two_replicas
def test_trials_are_made_by_one_for_all_threads(scene):
    relay = scene.relays[0]
    with scene.pointsman(proxy_threads=4, proxy_request_timeout="300ms", breaker_open_time="400ms") as pointsman:
        clients = [pointsman.raw() for _ in range(16)]
        for client in clients:
            assert client.ask("GET", "k") == b"value"
        relay.is_mute = True
        relay.cut_carriers()

        def is_open():
            for client in clients:
                client.command("GET", "k")
            for client in clients:
                client.read()
            return info(pointsman)[1][relay.address]["breaker"] != "closed"

        wait_for(is_open, 20, "the breaker to open")
        wait_for(lambda: not any(is_error(client.ask("GET", "k")) for client in clients), what="all threads to know")
        before, began = relay.accepted, time.monotonic()
        time.sleep(4)
        trials, seconds = relay.accepted - before, time.monotonic() - began
        # Each waits at least a moment and then a second for its PING; four threads on their own would make four times
        # as many. The probe tries as well, and one may have begun before.
        assert 1 <= trials <= 2 * seconds + 1
        for client in clients:
            client.close()


@two_replicas
def test_slow_replica_loses_its_reads_before_it_fails_and_gets_them_back(scene):
    slow, quick = scene.relays
    with scene.pointsman() as pointsman:
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), what="reads to reach both replicas")
        slow.delay_s = 0.1

        def is_slow():
            with pointsman.client() as client:
                for _ in range(10):
                    assert client.get("k") == b"value"
            return info(pointsman)[1][slow.address]["slow"] == "1"

        wait_for(is_slow, 30, "the replica to be found slow")
        numbers, nodes = info(pointsman)
        assert nodes[slow.address]["fit"] == "1" and nodes[slow.address]["breaker"] == "closed"
        assert int(nodes[slow.address]["latency_us"]) > 3 * int(nodes[quick.address]["latency_us"])
        assert numbers["ejections"] >= 1 and numbers["breaker_openings"] == 0
        before = slow.seen
        with pointsman.client() as client:
            for _ in range(200):
                assert client.get("k") == b"value"
        assert slow.seen == before
        slow.delay_s = 0.0
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), 40, "reads to come back")


@one_replica
def test_only_node_that_may_be_read_from_is_read_from_though_it_is_slow(scene):
    relay = scene.relays[0]
    with scene.pointsman(reads_policy="replica") as pointsman:
        relay.delay_s = 0.05
        with pointsman.client() as client:
            for _ in range(40):
                assert client.get("k") == b"value"
        assert info(pointsman)[1][relay.address]["slow"] == "0"


@two_replicas
def test_breakers_do_not_take_the_last_replica(scene):
    """Both fail, so one is spared: it is tried as soon as if its breaker were closed, whatever breaker.open_time is."""
    with scene.pointsman(
        reads_policy="replica", proxy_request_timeout="200ms", failover_hold_time="300ms", breaker_failures=1,
        breaker_open_time="1h", retry_base_delay="1h", retry_max_delay="1h",
    ) as pointsman, pointsman.raw() as link:
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), what="reads to reach both replicas")
        for relay in scene.relays:
            relay.is_mute = True
            relay.cut_carriers()
        wait_for(
            lambda: is_error(link.ask("GET", "k"))
            and [node["breaker"] for node in info(pointsman)[1].values() if node["role"] == "replica"] == ["open"] * 2,
            what="both breakers to open",
        )
    with scene.pointsman(
        reads_policy="replica", proxy_request_timeout="200ms", failover_hold_time="300ms", breaker_failures=1,
        breaker_open_time="1h", retry_base_delay="300ms", retry_max_delay="300ms",
    ) as pointsman, pointsman.raw() as link:
        for relay in scene.relays:
            relay.is_mute = False
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), what="reads to reach both replicas")
        for relay in scene.relays:
            relay.is_mute = True
            relay.cut_carriers()
        deadline = time.monotonic() + 5 * SLOWNESS  # by now trials of what is not spared are rare
        while time.monotonic() < deadline:
            link.ask("GET", "k")
        for relay in scene.relays:
            relay.is_mute = False
        wait_for(lambda: link.ask("GET", "k") == b"value", 5, "a read to be answered")


@one_replica
def test_connection_that_is_closed_while_idle_is_no_failure(scene):
    for server in scene.replication.servers:
        with server.client() as client:
            client.config_set("timeout", 1)
    with scene.pointsman(breaker_failures=1) as pointsman, pointsman.client() as client:
        for _ in range(4):
            assert client.get("k") == b"value" and client.set("other", 1)
            time.sleep(2.7)  # the server looks for idle clients now and then
        numbers, nodes = info(pointsman)
        assert numbers["breaker_openings"] == 0 and {node["breaker"] for node in nodes.values()} == {"closed"}
        assert client.get("k") == b"value"
        assert scene.relays[0].accepted > 2  # one for checks, one for reads, and another since that was closed


class Reader(threading.Thread):
    """Reads until told to stop; error is the first answer that was wrong."""

    def __init__(self, pointsman):
        super().__init__(daemon=True)
        self.link = pointsman.raw(timeout=60)
        self.is_over = threading.Event()
        self.error, self.count = None, 0
        self.start()

    def run(self):
        while not self.is_over.is_set() and not self.error:
            answer = self.link.ask("GET", "k")
            self.count += 1
            if answer != b"value":
                self.error = answer

    def stop(self):
        self.is_over.set()
        self.join(60)
        self.link.close()
        assert self.error is None and self.count > 0


@two_replicas
def test_no_read_fails_while_a_replica_comes_and_goes(scene):
    """Straight to the servers: the process itself goes."""
    nodes = ", ".join(server.address for server in scene.replication.servers)
    flapping = scene.replicas[0]
    with Pointsman(nodes, upstream_kind="static", breaker_slow_start="0") as pointsman:
        readers = [Reader(pointsman) for _ in range(8)]
        for _ in range(4):
            flapping.kill()
            time.sleep(0.3)
            flapping.start().ready()
            wait_for(flapping.link_is_up, what="the replica to follow")
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), 20, "reads to come back")
        for reader in readers:
            reader.stop()
        numbers, _ = info(pointsman)
        assert not any(count for key, count in numbers.items() if key.startswith("failures"))


@two_replicas
def test_what_is_sent_again_is_bounded_by_the_budget(scene):
    """Both replicas swallow long pipelines and die: of what was lost its share and the reserve are sent again, and no more."""
    clients, each = 4, 1000
    count = clients * each
    with scene.pointsman(reads_policy="replica", breaker_failure_ratio=100) as pointsman:
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), what="reads to reach both replicas")
        links = [pointsman.raw(timeout=60) for _ in range(clients)]
        for relay in scene.relays:
            relay.seen = 0
        seen = lambda: sum(relay.seen for relay in scene.relays)
        for relay in scene.relays:
            relay.is_mute = True
        for link in links:
            link.send(encode("GET", "k") * each)
        wait_for(lambda: seen() == count, what="the pipelines to be sent")
        max(scene.relays, key=lambda relay: relay.seen).cut_carriers()
        granted = RESERVE + count // 5
        wait_for(lambda: seen() >= count + granted, what="what the budget has to be sent again")
        for _ in range(3):
            time.sleep(0.2)
            for relay in scene.relays:
                relay.cut_carriers()
        answers = [link.read() for link in links for _ in range(each)]
        for link in links:
            link.close()
        assert count + granted <= seen() <= count + granted + 100  # a few for what was read before
        text = b"ERR pointsman: connection lost while reading, and not sent again since retry.budget is used up"
        assert set(answers) == {text}
        numbers, _ = info(pointsman)
        assert numbers["failures_budget_exhausted"] == count
        assert numbers["retries_lost_read"] == seen() - count


@one_replica
def test_without_a_budget_nothing_that_was_lost_is_sent_again(scene):
    with scene.pointsman(retry_budget=0) as pointsman:
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), what="reads to reach the replica")
        with pointsman.raw() as link:
            relay, before = scene.relays[0], scene.relays[0].seen
            relay.is_mute = True
            link.command("GET", "k")
            wait_for(lambda: relay.seen > before, what="the read to be sent")
            relay.cut_carriers()
            assert b"retry.budget is used up" in link.read()
            assert link.ask("GET", "k") == b"value"  # which never left


@two_replicas
def test_all_times_that_a_read_is_sent_have_one_timeout_together(scene):
    timeout_s, cut_after_s = 3.0, 2.0
    with scene.pointsman(reads_policy="replica", proxy_request_timeout="3s") as pointsman:
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), what="reads to reach both replicas")
        for relay in scene.relays:
            relay.is_mute = True
        with pointsman.raw(timeout=30) as link:
            began = time.monotonic()
            link.command("GET", "k")
            time.sleep(cut_after_s)
            for relay in scene.relays:
                relay.cut_carriers()
            answer = link.read()
            took_s = time.monotonic() - began
        assert b"no reply within proxy.request_timeout" in answer
        assert took_s < (cut_after_s + timeout_s) - 0.7
        for relay in scene.relays:
            relay.is_mute = False


@two_replicas
def test_reads_of_a_replica_that_comes_back_grow_slowly(scene):
    nodes = ", ".join(server.address for server in scene.replication.servers)
    shares = {}
    for slow_start in ("0", "1h"):
        with Pointsman(nodes, upstream_kind="static", proxy_threads=1, breaker_slow_start=slow_start) as pointsman:
            wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), what="reads to reach both replicas")
            back = scene.replicas[0]
            back.kill()
            name = back.address
            wait_for(lambda: info(pointsman)[1][name]["fit"] == "0", what="it to be missed")
            back.start().ready()
            wait_for(lambda: info(pointsman)[1][name]["fit"] == "1", 20, "it to be fit")
            time.sleep(0.3)
            with scene.replication.counting() as counts, pointsman.client() as client:
                for _ in range(600):
                    assert client.get("k") == b"value"
            shares[slow_start] = counts.calls(back, "get")
    assert shares["0"] > 200 and 0 < shares["1h"] < 120, shares


@one_replica
def test_info_proxy_is_ours_and_all_other_info_is_the_nodes(scene):
    with scene.pointsman() as pointsman, pointsman.raw() as link:
        for words in (("INFO",), ("INFO", "server"), ("INFO", "everything"), ("INFO", "proxy", "server")):
            assert b"# Proxy" not in link.ask(*words)
        assert link.ask("INFO", "nosuch") == b""
        assert link.ask("info", "PROXY").startswith(b"# Proxy\r\nreads_on_replicas:")
        assert link.ask("MULTI") == b"OK" and link.ask("INFO", "proxy") == b"QUEUED"
        assert link.ask("EXEC") == [b""]
        numbers, nodes = info(pointsman)
        assert not any(number for name, number in numbers.items() if not name.startswith("reads_"))
        assert [node["role"] for node in nodes.values()] == ["master", "replica"]
        link.send(encode("HELLO", 3) + encode("INFO", "proxy"))
        assert link.read() and b"# Proxy\r\n" in link.read()


@one_replica
def test_refusals_that_are_sent_again_are_counted_by_their_reason(scene):
    with scene.pointsman(upstream_poll_interval="1s") as pointsman, pointsman.client() as client:
        wait_for(lambda: scene.reads_reach(pointsman, scene.replicas), what="reads to reach the replica")
        with scene.replicas[0].client() as replica:
            replica.config_set("replica-serve-stale-data", "no")
            replica.replicaof("127.0.0.1", 1)
            for _ in itertools.count():
                assert client.get("k") == b"value"
                if info(pointsman)[0]["retries_masterdown"]:
                    break
            replica.replicaof("127.0.0.1", scene.master.port)
