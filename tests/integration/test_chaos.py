# SPDX-License-Identifier: BSD-2-Clause
"""Clients that do what they should not, in front of nodes that come and go: what is answered stays true.

Each client has keys of its own and values that name it, so that a reply of somebody else is seen. What it sends
is drawn from a fixed seed; what the nodes do meanwhile is a matter of time.
"""

import os
import random
import signal
import socket
import struct
import threading
import time

import pytest

from harness import HOST, SLOWNESS, Pointsman, Replication, Reply, Server, encode, wait_for

SECONDS = float(os.environ.get("CHAOS_SECONDS", 12))
CLIENTS = int(os.environ.get("CHAOS_CLIENTS", 24))
SEED = int(os.environ.get("CHAOS_SEED", 7))
FIXED = 50  # keys that all know: "fixed:N" is "value of N"
BIG = 200_000
DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxclients": 2000}

DEFINITE = (b"not executed", b"nothing of it was executed", b"EXECABORT")


class Wrong(AssertionError):
    pass


class ChaosClient(threading.Thread):
    """Connects, talks, leaves in some rude way, and again, until told to stop. error is what it found wrong."""

    def __init__(self, proxy, number, seed, is_calm):
        super().__init__(daemon=True)
        self.is_calm = is_calm  # all nodes are well
        self.is_leaving = False  # after this the proxy closes
        self.proxy = proxy
        self.random = random.Random(seed * 1000 + number)
        self.me = f"c{number}"
        self.is_over = threading.Event()
        self.acked = self.unknown = 0  # of INCR on its counter
        self.tokens = 0
        self.ended_well = self.answered = self.errors = 0
        self.error = None

    def run(self):
        try:
            while not self.is_over.is_set():
                self.one_connection()
        except Wrong as error:
            self.error = f"{self.me}: {error}"
        except Exception as error:  # pylint: disable=broad-except
            self.error = f"{self.me}: {type(error).__name__} {error}"

    def one_connection(self):
        try:
            link = self.proxy.raw(timeout=30)
        except OSError:
            time.sleep(0.05)
            return
        self.is_leaving = False
        with link:
            try:
                for _ in range(self.random.randint(1, 15)):
                    if self.is_over.is_set():
                        return
                    if not self.one_pipeline(link):
                        return
            except socket.timeout:
                raise Wrong("no reply for 30 s") from None
            except (EOFError, OSError):
                # A lost node in the middle of a long reply may close us; what was answered was checked.
                if self.is_calm and not self.is_leaving:
                    raise Wrong("closed for no reason") from None

    def token(self):
        self.tokens += 1
        return f"{self.me}-{self.tokens}".encode()

    def one_pipeline(self, link):
        """Sends some commands at once and reads what comes of them; False if it left."""
        batch = []
        for _ in range(self.random.choice((1, 1, 2, 5, 30))):
            batch += self.random.choice(self.SOME)(self)
        data = b"".join(bytes_of for bytes_of, _, _ in batch)
        increments = sum(is_increment for _, _, is_increment in batch)
        self.unknown += increments
        leaves = self.random.random()
        if leaves < 0.05:
            link.send(data[: self.random.randrange(len(data) + 1)])
            return self.leave(link)
        if leaves < 0.08:  # all of it, then nothing more: every reply still comes, unless one has to be waited for
            self.is_leaving |= any(word in data for word in (b"BLPOP", b"XREAD", b"SUBSCRIBE"))
            link.send(data)
            link.socket.shutdown(socket.SHUT_WR)
            self.read_all(link, batch)
            return False
        link.send(data)
        if leaves < 0.12:
            return self.leave(link)
        if leaves < 0.18:
            time.sleep(self.random.random() * 0.5)
        self.read_all(link, batch)
        return True

    def leave(self, link):
        if self.random.random() < 0.5:  # RST
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def read_all(self, link, batch):
        for sent, is_right, is_increment in batch:
            if is_right is None:
                continue
            answer = link.read()
            self.answered += 1
            if isinstance(answer, Reply) and answer.startswith((b"ERR pointsman:", b"EXECABORT")):
                self.errors += 1
                if self.is_calm:
                    raise Wrong(f"{sent[:200]!r} failed: {answer}")
                if is_increment and any(word in answer for word in DEFINITE):
                    self.unknown -= 1
                continue
            if not is_right(answer):
                raise Wrong(f"{sent[:200]!r} was answered with {str(answer)[:300]}")
            if is_increment and isinstance(answer, (int, list)):
                self.unknown -= 1
                self.acked += 1

    # What one command, or several that belong together, may be: (bytes, check of the reply, counts as INCR).

    def echo(self):
        token = self.token()
        return [(encode("ECHO", token), lambda answer: answer == token, False)]

    def evaluate(self):
        token = self.token()
        return [(encode("EVAL", "return ARGV[1]", 0, token), lambda answer: answer == token, False)]

    def fixed(self):
        number = self.random.randrange(FIXED)
        value = b"value of %d" % number
        return [(encode("GET", f"fixed:{number}"), lambda answer: answer == value, False)]

    def several_fixed(self):
        numbers = [self.random.randrange(FIXED) for _ in range(5)]
        values = [b"value of %d" % number for number in numbers]
        return [(encode("MGET", *(f"fixed:{number}" for number in numbers)), lambda answer: answer == values, False)]

    def set_and_get(self):
        key = f"{self.me}:k{self.random.randrange(4)}"
        value = f"{key}={self.token().decode()}".encode()
        mine = lambda answer: answer is None or answer.startswith(key.encode() + b"=")
        return [(encode("SET", key, value), lambda answer: answer == b"OK", False), (encode("GET", key), mine, False)]

    def big(self):
        key, size = f"{self.me}:big", self.random.randrange(BIG)
        is_mine = lambda answer: answer is None or answer == answer[:1] * len(answer)
        return [
            (encode("SET", key, b"x" * size), lambda answer: answer == b"OK", False),
            (encode("GET", key), is_mine, False),
            (encode("GET", "fixed:big"), lambda answer: len(answer) == BIG, False),
        ]

    def increment(self):
        return [(encode("INCR", f"{self.me}:n"), lambda answer: isinstance(answer, int), True)]

    def transaction(self):
        key = f"{self.me}:t"
        queued = lambda answer: answer == b"QUEUED"
        ok = lambda answer: answer == b"OK"
        token = self.token()
        whole = lambda answer: isinstance(answer, list) and len(answer) == 2 and answer[1] == token
        parts = [
            (encode("MULTI"), ok, False),
            (encode("INCR", key), queued, False),
            (encode("ECHO", token), queued, False),
        ]
        if self.random.random() < 0.2:
            return parts + [(encode("DISCARD"), ok, False)]
        if self.random.random() < 0.3:
            watch = [(encode("WATCH", f"{self.me}:w"), ok, False)]
            return watch + parts + [(encode("EXEC"), lambda answer: answer is None or whole(answer), False)]
        return parts + [(encode("EXEC"), whole, False)]

    def pop(self):
        wait = self.random.choice(("0.01", "0.05", "0.2"))
        return [(encode("BLPOP", f"{self.me}:empty", wait), lambda answer: answer is None, False)]

    def read_stream(self):
        return [(encode("XREAD", "BLOCK", 30, "STREAMS", f"{self.me}:x", "$"), lambda answer: answer is None, False)]

    def subscription(self):
        channel = self.token()
        pong, end = ([b"pong", b""], b"PONG"), (channel, None)  # the latter where SUBSCRIBE has failed
        loading = lambda answer: isinstance(answer, Reply) and answer.startswith(b"LOADING") and not self.is_calm
        if self.is_calm:
            pong, end = pong[:1], end[:1]
        return [
            (encode("SUBSCRIBE", channel), lambda answer: answer == [b"subscribe", channel, 1], False),
            (encode("PING"), lambda answer: answer in pong or loading(answer), False),
            (encode("UNSUBSCRIBE"), lambda answer: answer in [[b"unsubscribe", name, 0] for name in end], False),
            (encode("PING", channel), lambda answer: answer == channel, False),
        ]

    def database(self):
        key = f"{self.me}:db"
        ok = lambda answer: answer == b"OK"
        return [
            (encode("SELECT", 3), ok, False),
            (encode("SET", key, 3), ok, False),
            (encode("GET", key), lambda answer: answer in (None, b"3"), False),
            (encode("SELECT", 0), ok, False),
            (encode("EXISTS", key), lambda answer: answer == 0 or not self.is_calm, False),
        ]

    def silence(self):
        token = self.token()
        exact = lambda answer: answer == token
        return [
            (encode("CLIENT", "REPLY", "OFF"), None, False),
            (encode("SET", f"{self.me}:silent", 1), None, False),
            (encode("GET", "fixed:1"), None, False),
            (encode("CLIENT", "REPLY", "ON"), lambda answer: answer == b"OK", False),
            (encode("CLIENT", "REPLY", "SKIP"), None, False),
            (encode("GET", "fixed:2"), None, False),
            (encode("ECHO", token), exact, False),
        ]

    def news(self):
        is_text = lambda answer: isinstance(answer, bytes) and not isinstance(answer, Reply) and answer
        return [
            (encode("CLIENT", "LIST"), is_text, False),
            (encode("INFO", "server"), is_text, False),
            (encode("CLIENT", "INFO"), is_text, False),
        ]

    def inline(self):
        token = self.token()
        return [
            (b"ECHO " + token + b"\r\n", lambda answer: answer == token, False),
            (b"GET fixed:3\r\n", lambda answer: answer == b"value of 3", False),
        ]

    def reset(self):
        return [(encode("RESET"), lambda answer: answer == b"RESET", False)]

    def wrong(self):
        is_error = lambda answer: isinstance(answer, Reply)
        return [(encode("GET"), is_error, False), (encode("NOSUCH", "a"), is_error, False)]

    def garbage(self):
        self.is_leaving = True
        return [(b"*1\r\n$-5\r\n", lambda answer: b"Protocol error" in answer, False)]

    def quit(self):
        self.is_leaving = True
        return [(encode("QUIT"), lambda answer: answer == b"OK", False)]

    SOME = (
        [echo, evaluate, fixed, several_fixed, set_and_get, increment] * 6
        + [big, transaction, transaction, pop, read_stream, subscription, database, silence, inline] * 2
        + [news, reset, wrong, garbage, quit]
    )


def fill(cluster):
    with cluster.master.client() as client:
        for number in range(FIXED):
            client.set(f"fixed:{number}", f"value of {number}")
        client.set("fixed:big", b"b" * BIG)
    cluster.wait_synced()


def run_clients(proxy, seconds, trouble=None, is_calm=False):
    """Lets clients talk for so long while trouble(random) is made again and again; returns them."""
    clients = [ChaosClient(proxy, number, SEED, is_calm) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    end = time.monotonic() + seconds
    chance = random.Random(SEED)
    while time.monotonic() < end and not any(client.error for client in clients):
        time.sleep(0.2 + chance.random() * 0.5)
        if trouble:
            trouble(chance)
    return clients


def end_clients(clients):
    for client in clients:
        client.is_over.set()
    for client in clients:
        client.join(60 * SLOWNESS)
        assert not client.is_alive(), f"{client.me} hangs"
    errors = [client.error for client in clients if client.error]
    assert not errors, "\n".join(errors)
    assert sum(client.answered for client in clients) > 100
    print("answered", sum(c.answered for c in clients), "errors", sum(c.errors for c in clients))


def check_books(cluster, clients):
    with cluster.master.client() as direct:
        for client in clients:
            value = int(direct.get(f"{client.me}:n") or 0)
            assert client.acked <= value <= client.acked + client.unknown, (
                f"{client.me}: {client.acked} acknowledged, {client.unknown} unknown, counted {value}"
            )


def check_baseline(cluster, pointsman, descriptors, connections):
    wait_for(lambda: pointsman.descriptors() <= descriptors + 30, 20, "descriptors to come down")
    wait_for(lambda: cluster.master.connected_clients() <= connections + 30, 20, "connections to come down")
    with pointsman.raw() as link:
        wait_for(lambda: len(link.ask("CLIENT", "LIST").splitlines()) == 1, 20, "all other clients to be gone")
    with cluster.master.client() as client:
        subscribed = client.execute_command("CLIENT", "LIST", "TYPE", "pubsub")
        blocked = client.info("clients")["blocked_clients"]
    assert blocked == 0 and not subscribed


@pytest.fixture
def static_cluster():
    cluster = Replication(replicas=2, sentinels=0, settings=DURABLE).start()
    yield cluster
    cluster.stop()


def test_clients_that_come_and_go_get_true_answers_and_leave_nothing_behind(static_cluster, processes):
    cluster = static_cluster
    fill(cluster)
    pointsman = processes(Pointsman(cluster, pool_wait="20s", pool_dedicated_connections=20, pool_idle_time="1s"))
    descriptors, connections = pointsman.descriptors(), cluster.master.connected_clients()
    clients = run_clients(pointsman, SECONDS / 2, is_calm=True)
    end_clients(clients)
    check_books(cluster, clients)
    check_baseline(cluster, pointsman, descriptors, connections)


def test_answers_stay_true_while_nodes_die_hang_and_cut_connections(static_cluster, processes):
    cluster = static_cluster
    fill(cluster)
    pointsman = processes(Pointsman(cluster, pool_dedicated_connections=20, pool_idle_time="1s"))
    descriptors, connections = pointsman.descriptors(), cluster.master.connected_clients()
    master, *replicas = cluster.servers

    def cut(chance):
        server = chance.choice(cluster.servers)
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def hang(chance):
        server = chance.choice(cluster.servers)
        server.pause()
        time.sleep(chance.choice((0.1, 0.5, 1.5)))
        server.resume()

    def kill_replica(chance):
        server = chance.choice(replicas)
        server.kill()
        time.sleep(chance.random() * 0.5)
        server.start()
        wait_for(server.answers, what=server.name)

    def kill_master(chance):
        master.kill()
        time.sleep(chance.random() * 0.5)
        master.start()
        wait_for(master.answers, what="the master")

    def trouble(chance):
        chance.choice((cut, cut, hang, kill_replica, kill_master))(chance)

    clients = run_clients(pointsman, SECONDS, trouble)
    end_clients(clients)
    check_books(cluster, clients)
    check_baseline(cluster, pointsman, descriptors, connections)


def test_end_in_the_middle_of_everything_is_an_orderly_end(static_cluster, processes):
    """The loop is left between a client's event and the end of the loop turn."""
    fill(static_cluster)
    for signals in ([signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]):
        for drain_time in ("0", "300ms"):
            pointsman = processes(Pointsman(static_cluster, proxy_drain_time=drain_time))
            clients = run_clients(pointsman, 0.5)
            for number in signals:
                pointsman.signal(number)
                time.sleep(0.05)
            status = pointsman.wait(20)
            for client in clients:
                client.is_over.set()
            for client in clients:
                client.join(30)
            pointsman.check_log()
            assert status == 0


# ------------------------------------------------------------------------- one defect each, found by reading


@pytest.fixture(scope="module")
def alone():
    server = Server("alone").start().ready()
    yield server
    server.kill()


@pytest.mark.parametrize("command", ["HELLO 3", "CLIENT REPLY OFF", "AUTH secret", "SUBSCRIBE news", "SCRIPT DEBUG SYNC"])
def test_what_a_transaction_does_to_its_connection_is_not_lent_on(alone, processes, command):
    """Redis runs these at EXEC; the pool's only connection must not come back like that."""
    pointsman = processes(Pointsman(alone.address, pool_dedicated_connections=1, proxy_threads=1))
    with pointsman.raw() as first, pointsman.raw() as second:
        first.send(encode("MULTI") + encode(*command.split()) + encode("EXEC"))
        time.sleep(0.1)
        first.close()
        assert second.ask("BLPOP", "nothing", "0.01") is None
        second.send(encode("MULTI") + encode("HGETALL", "nothing") + encode("PUBLISH", "news", 1) + encode("EXEC"))
        assert [second.read() for _ in range(3)] == [b"OK", b"QUEUED", b"QUEUED"]
        assert second.read() == [[], 0]


def test_select_between_watch_and_exec_reaches_the_database_it_names(alone, processes):
    pointsman = processes(Pointsman(alone.address))
    commands = ["WATCH a", "SELECT 3", "SET a three", "UNWATCH", "MULTI", "SELECT 4", "SET a four", "EXEC", "GET a"]
    commands += ["SELECT 0", "GET a", "MULTI", "SELECT 99", "PING", "EXEC", "SET a zero", "WATCH a", "SELECT 98"]
    commands += ["MULTI", "GET a", "EXEC"]
    for at_once in (False, True):
        with pointsman.raw() as link, alone.client() as client:
            client.flushall()
            if at_once:
                link.send(b"".join(encode(*command.split()) for command in commands))
                answers = [link.read() for _ in commands]
            else:
                answers = [link.ask(*command.split()) for command in commands]
            assert answers[:11] == [b"OK"] * 5 + [b"QUEUED"] * 2 + [[b"OK", b"OK"], b"four", b"OK", None]
            assert answers[14][0] == b"ERR DB index is out of range"
            assert answers[15:] == [b"OK", b"OK", b"ERR DB index is out of range", b"OK", b"QUEUED", [b"zero"]]
            assert client.get("a") == b"zero"
            for number, value in ((3, b"three"), (4, b"four")):
                with alone.client(db=number) as other:
                    assert other.get("a") == value


def test_refused_transaction_of_a_subscriber_leaves_no_state(alone, processes):
    pointsman = processes(Pointsman(alone.address, pool_dedicated_connections=1, pool_wait="500ms"))
    commands = ["SUBSCRIBE c", "MULTI", "WATCH a", "MONITOR", "PING", "UNSUBSCRIBE c", "SET a 1", "PING"]
    for at_once in (False, True):
        with pointsman.raw() as link:
            if at_once:
                link.send(b"".join(encode(*command.split()) for command in commands))
                answers = [link.read() for _ in commands]
            else:
                answers = [link.ask(*command.split()) for command in commands]
            assert answers[0] == [b"subscribe", b"c", 1]
            assert all(b"Can't execute" in answer for answer in answers[1:4])
            assert answers[4:] == [[b"pong", b""], [b"unsubscribe", b"c", 0], b"OK", b"PONG"]
            with pointsman.raw() as other:
                assert other.ask("BLPOP", "nothing", "0.01") is None


def test_half_closed_client_gets_its_client_list(alone, processes):
    pointsman = processes(Pointsman(alone.address))
    with pointsman.raw() as link:
        own = b"id=%d " % link.ask("CLIENT", "ID")
        link.command("CLIENT", "LIST").socket.shutdown(socket.SHUT_WR)
        # Another thread may not have seen yet that a client of before this test has gone.
        assert [line.startswith(own) for line in link.read().splitlines()].count(True) == 1
        assert link.socket.recv(1) == b""


def test_held_requests_that_end_their_client_end_it_once(processes):
    """Their errors go beyond its output limit while the others are still held."""
    server = processes(Server("lost")).ready()
    pointsman = processes(
        Pointsman(server.address, proxy_threads=1, failover_hold_time="300ms", proxy_client_output_limit="1k")
    )
    with pointsman.raw() as link:
        server.pause()
        link.send(encode("GET", "a") * 200)
        time.sleep(0.3)
        server.kill()
        with pytest.raises((EOFError, ConnectionError)):
            for _ in range(200):
                link.read()
    with pointsman.raw() as link:
        assert link.ask("PING") == b"PONG"


def test_reads_go_to_replicas_again_after_a_write_was_held(static_cluster, processes):
    cluster = static_cluster
    pointsman = processes(Pointsman(cluster, proxy_threads=1)).wait_for_replicas(2)
    master = cluster.servers[0]
    with pointsman.raw() as link:
        master.client().execute_command("REPLICAOF", HOST, cluster.servers[1].port)
        link.send(encode("SET", "a", 1))
        time.sleep(0.3)
        master.replicaof(None)
        assert link.read() == b"OK"
        pointsman.wait_for_replicas(2)
        with cluster.counting() as counts:
            for _ in range(50):
                link.ask("STRLEN", "a")
        assert counts.calls(master, "strlen") == 0


def test_held_write_has_its_time_for_a_reply_when_it_is_sent(processes):
    server = processes(Server("late")).ready()
    pointsman = processes(Pointsman(server.address, proxy_threads=1, proxy_request_timeout="1500ms"))
    with pointsman.raw() as link, pointsman.raw() as other:
        server.kill()
        time.sleep(0.2)
        link.send(encode("EVAL", "for i = 1, 6000000 do end return 1", 0))  # longer than a tick
        time.sleep(2)
        assert other.ask("PING") == b"PONG"
        server.start()
        assert link.read() == 1


def test_command_of_many_words_costs_no_more_than_its_size(alone, processes):
    pointsman = processes(Pointsman(alone.address, proxy_threads=1))
    words = 400_000
    data = encode("DEL", *(b"key-of-some-length-%029d" % number for number in range(words)))
    with pointsman.raw(timeout=60) as link:
        before = pointsman.cpu()
        for start in range(0, len(data), 5000):
            link.send(data[start : start + 5000])
        assert link.read() == 0
        assert pointsman.cpu() - before < 2 * SLOWNESS


def test_client_that_does_not_read_a_large_array_is_closed_at_its_limit(alone, processes):
    pointsman = processes(Pointsman(alone.address, proxy_threads=1, proxy_client_output_limit="4m"))
    with alone.client() as client:
        for _ in range(10):
            client.rpush("long", *([b"x" * 100_000] * 50))
    before = pointsman.rss()
    with pointsman.raw() as link:
        link.command("LRANGE", "long", 0, -1)
        wait_for(lambda: "client_output_limit reached" in pointsman.log_text(), 10, "the limit to be seen")
        if not SLOWNESS > 1:
            assert pointsman.rss() - before < 40 * 1024 * 1024


def test_subscriber_of_a_loading_node_gets_its_answers_in_order(processes):
    """PING is refused while the node loads, SUBSCRIBE is not, and confirmations do not wait for replies."""
    server = processes(Server("loading", settings={"key-load-delay": 500, "loading-process-events-interval-bytes": 1024}))
    server.ready()
    pointsman = processes(Pointsman(server.address, proxy_threads=1))
    with server.client() as client, pointsman.raw() as link:
        client.execute_command("DEBUG", "POPULATE", 4000, "k", 100)
        assert link.ask("SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
        reload = threading.Thread(target=client.execute_command, args=("DEBUG", "RELOAD"))
        reload.start()
        wait_for(lambda: server.raw().ask("GET", "a") is not None, 5, "the node to load", every=0.01)
        link.send(encode("PING") + encode("UNSUBSCRIBE", "c"))
        first, second = link.read(), link.read()
        assert first == [b"pong", b""] or first.startswith(b"LOADING")
        assert second == [b"unsubscribe", b"c", 0]
        reload.join()
