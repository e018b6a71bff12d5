# SPDX-License-Identifier: BSD-2-Clause
"""PROXY PAUSE and RESUME: whoever looks after the nodes can work on them while clients wait."""

import contextlib
import socket
import threading
import time

import pytest

from harness import HOST, Pointsman, Raw, Replication, Server, free_port, wait_for

MANY = 12  # clients, over all threads


@pytest.fixture
def resumed(proxy):
    yield
    with proxy.raw() as link:
        assert link.ask("PROXY", "RESUME") == b"OK"


def links(proxy, count=MANY):
    stack = contextlib.ExitStack()
    return stack, [stack.enter_context(proxy.raw()) for _ in range(count)]


def wait_until_sent(operator, command):
    wait_for(lambda: f"cmd={command.lower()} " in operator.ask("CLIENT", "LIST").decode(), what="the command to be under way")


class Writer(threading.Thread):
    """Writes without a pause, and counts what was acknowledged."""

    def __init__(self, proxy, number):
        super().__init__(daemon=True)
        self.link, self.key = proxy.raw(timeout=60), f"operate:{number}"
        self.acknowledged, self.ending = 0, False

    def run(self):
        while not self.ending:
            self.acknowledged = self.link.ask("INCR", self.key)


@contextlib.contextmanager
def writers(proxy, count=8):
    all_of_them = [Writer(proxy, number) for number in range(count)]
    with proxy.raw() as link:
        link.ask("DEL", *[writer.key for writer in all_of_them])
    for writer in all_of_them:
        writer.start()
    wait_for(lambda: all(writer.acknowledged for writer in all_of_them), what="all to write")
    yield all_of_them
    for writer in all_of_them:
        writer.ending = True
    for writer in all_of_them:
        writer.join(30)
        writer.link.close()


def test_when_pause_is_answered_nothing_is_at_the_master_any_more(cluster, proxy, resumed):
    with writers(proxy) as writing, proxy.raw() as operator, cluster.master.client() as master:
        for mode in ("ALL", "WRITES"):
            assert operator.ask("PROXY", "PAUSE", mode) == b"OK"
            stored = [int(value) for value in master.mget([writer.key for writer in writing])]
            calls = cluster.master.commandstats()["incr"]
            time.sleep(0.3)
            assert cluster.master.commandstats()["incr"] == calls
            assert [writer.acknowledged for writer in writing] == stored
            assert operator.ask("PROXY", "RESUME") == b"OK"
            wait_for(lambda: all(w.acknowledged > before for w, before in zip(writing, stored)), what="all to go on")


def test_a_pause_of_writes_lets_reads_go_on_and_one_of_all_does_not(proxy, resumed):
    stack, many = links(proxy)
    with stack, proxy.raw() as operator:
        assert operator.ask("PROXY", "PAUSE", "writes") == b"OK"
        assert [link.ask("GET", "operate:x") for link in many] == [None] * MANY
        assert operator.ask("PROXY", "PAUSE") == b"OK"
        for link in many:
            link.command("GET", "operate:x")
        assert all(link.is_silent(0.02) for link in many)
        with proxy.raw() as other:  # neither who began it nor anybody that was there
            assert other.ask("PROXY", "RESUME") == b"OK"
        assert [link.read() for link in many] == [None] * MANY


def test_a_pause_is_over_after_its_time(proxy, resumed):
    with proxy.raw() as operator, proxy.raw() as link:
        began = time.monotonic()
        assert operator.ask("PROXY", "PAUSE", 600) == b"OK"
        assert link.ask("PING") == b"PONG"
        assert time.monotonic() - began >= 0.6


def test_a_pause_is_over_after_its_limit_also_if_who_began_it_has_gone(cluster, processes):
    proxy = processes(Pointsman(cluster, admin_pause_limit="800ms"))
    with proxy.raw() as operator, proxy.raw() as link:
        for wrong in (801, 0, -1):
            assert operator.ask("PROXY", "PAUSE", wrong) == (
                b"ERR timeout must be between 1 and 800 ms, which is admin.pause_limit")  # fmt: skip
        assert operator.ask("PROXY", "PAUSE") == b"OK"
        operator.close()
        assert link.command("PING").is_silent(0.1)
        assert link.read() == b"PONG"


@pytest.fixture
def alone():
    server = Server("alone").start().ready()
    yield server
    server.kill()


def test_pause_waits_for_what_is_under_way_and_gives_up_if_that_takes_too_long(alone, processes):
    proxy = processes(Pointsman(alone.address, upstream_kind="static", admin_pause_wait="500ms"))
    stack, many = links(proxy)
    with stack, proxy.raw() as operator:
        for mode, command in (("ALL", ("SET", "operate:slow", 1)), ("WRITES", ("DEL", "operate:slow")), ("ALL", ("GET", "operate:slow"))):
            alone.pause()
            many[0].command(*command)
            wait_until_sent(operator, command[0])
            assert operator.ask("PROXY", "PAUSE", mode) == (
                b"ERR pointsman: requests under way were not answered within admin.pause_wait; nothing is paused by this")  # fmt: skip
            assert [link.ask("PING") for link in many[1:]] == [b"PONG"] * (MANY - 1)
            alone.resume()
            many[0].read()
            assert many[0].ask("SET", "operate:other", 1) == b"OK"


def test_pause_of_writes_does_not_wait_for_reads(alone, processes):
    proxy = processes(Pointsman(alone.address, upstream_kind="static", admin_pause_wait="5s"))
    with proxy.raw() as reader, proxy.raw() as operator:
        alone.pause()
        reader.command("GET", "operate:x")
        wait_until_sent(operator, "GET")
        assert operator.ask("PROXY", "PAUSE", "WRITES") == b"OK"
        assert operator.command("PROXY", "PAUSE", "ALL").is_silent(0.2)
        alone.resume()
        assert operator.read() == b"OK"
        assert operator.ask("PROXY", "RESUME") == b"OK"


def test_resume_ends_a_pause_that_still_waits(alone, processes):
    proxy = processes(Pointsman(alone.address, upstream_kind="static", admin_pause_wait="60s"))
    with proxy.raw(timeout=60) as slow, proxy.raw(timeout=60) as operator, proxy.raw() as other:
        alone.pause()
        slow.command("SET", "operate:slow", 1)
        wait_until_sent(operator, "SET")
        assert operator.command("PROXY", "PAUSE").is_silent(0.2)
        assert other.ask("PROXY", "RESUME") == b"OK"
        assert operator.read() == (
            b"ERR pointsman: PROXY RESUME came before all requests under way were answered; nothing is paused")  # fmt: skip
        assert slow.is_silent(0.01)
        alone.resume()


def test_what_blocks_by_intent_is_not_waited_for_and_goes_on_after_it(proxy, resumed):
    with proxy.raw() as blocked, proxy.raw() as operator:
        blocked.command("BLPOP", "operate:queue", 0)
        assert blocked.is_silent(0.1)
        assert operator.ask("PROXY", "PAUSE") == b"OK"
        assert operator.ask("PROXY", "RESUME") == b"OK"
        assert operator.ask("RPUSH", "operate:queue", "x") == 1
        assert blocked.read() == [b"operate:queue", b"x"]


def test_a_server_can_be_restarted_while_paused_and_no_client_notices(processes):
    server = Server(settings={"appendonly": "yes"}).start().ready()
    proxy = processes(Pointsman(server.address, upstream_kind="static"))
    with writers(proxy) as writing, proxy.raw(timeout=60) as operator:
        assert operator.ask("PROXY", "PAUSE") == b"OK"
        with server.client() as direct:
            direct.bgrewriteaof()
            wait_for(lambda: direct.info("persistence")["aof_rewrite_in_progress"] == 0)
        stored = [writer.acknowledged for writer in writing]
        server.kill()
        server.start().ready()
        assert operator.ask("PROXY", "RESUME") == b"OK"
        wait_for(lambda: all(w.acknowledged > before for w, before in zip(writing, stored)), 20, "all to go on")
    with server.client() as direct:
        assert [int(direct.get(writer.key)) for writer in writing] == [writer.acknowledged for writer in writing]
    proxy.stop()
    server.kill()


def test_proxy_ends_in_order_while_a_pause_waits(alone, processes):
    proxy = processes(Pointsman(alone.address, upstream_kind="static", admin_pause_wait="60s", proxy_drain_time="300ms"))
    with proxy.raw(timeout=60) as slow, proxy.raw(timeout=60) as operator:
        alone.pause()
        slow.command("SET", "operate:slow", 1)
        wait_until_sent(operator, "SET")
        assert operator.command("PROXY", "PAUSE").is_silent(0.2)
        proxy.stop()
        alone.resume()


# ----------------------------------------------------------------------------------------- words


def test_proxy_is_answered_in_the_words_of_redis(proxy):
    with proxy.raw() as link:
        assert link.ask("PROXY") == b"ERR wrong number of arguments for 'proxy' command"
        assert link.ask("PROXY", "NOSUCH") == b"ERR unknown subcommand 'NOSUCH'. Try PROXY HELP."
        assert link.ask("PROXY", "RESUME", "x") == b"ERR wrong number of arguments for 'proxy|resume' command"
        assert link.ask("PROXY", "PAUSE", "SOME") == b"ERR PROXY PAUSE mode must be WRITES or ALL"
        assert link.ask("PROXY", "PAUSE", "ALL", "x") == b"ERR timeout is not an integer or out of range"
        assert link.ask("PROXY", "PAUSE", "10", "10") == b"ERR syntax error"
        help_text = link.ask("PROXY", "help")
        assert help_text[0].startswith(b"PROXY <subcommand>")
        assert b"RESUME" in help_text and b"HELP" in help_text


def test_proxy_is_not_listed_and_not_for_transactions_or_subscribers(proxy):
    with proxy.raw() as link:
        assert link.ask("COMMAND", "INFO", "PROXY") == [None]
        assert not [name for name in link.ask("COMMAND", "LIST") if name.startswith(b"proxy")]
        assert link.ask("COMMAND", "DOCS", "proxy") == []
        assert link.ask("MULTI") == b"OK"
        assert link.ask("PROXY", "PAUSE") == b"ERR Command not allowed inside a transaction"
        assert link.ask("EXEC").startswith(b"EXECABORT")
        assert link.ask("SUBSCRIBE", "operate") == [b"subscribe", b"operate", 1]
        assert link.ask("PROXY", "PAUSE").startswith(b"ERR Can't execute 'proxy': only (P|S)SUBSCRIBE")
    with proxy.raw() as link:
        assert link.ask("PING") == b"PONG"  # nothing is paused


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            return probe.getsockname()[0]
        except OSError:
            return HOST


def test_commands_of_other_machines_are_refused_unless_they_are_let_in(cluster, processes):
    elsewhere = own_address()
    if elsewhere.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    for allowed in ("local", "on", "off"):
        port = free_port()
        proxy = processes(Pointsman(cluster, wait=None, proxy_listen=f"0.0.0.0:{port}", admin_commands=allowed))
        proxy.port = port
        wait_for(proxy.listens, what="it to listen")
        with Raw(port, host=elsewhere) as far, Raw(port) as near:
            answers = {
                "local": (b"ERR pointsman: PROXY commands are for clients on this machine; admin.commands = on lets others send them",
                          b"OK"),
                "on": (b"OK", b"OK"),
                "off": (b"ERR unknown command 'PROXY', with args beginning with: 'RESUME' ",) * 2,
            }  # fmt: skip
            assert (far.ask("PROXY", "RESUME"), near.ask("PROXY", "RESUME")) == answers[allowed]


def test_clients_of_a_unix_socket_are_let_in(cluster, processes, tmp_path):
    path = tmp_path / "proxy.sock"
    proxy = processes(Pointsman(cluster, wait=None, proxy_listen=f"unix:{path}"))
    wait_for(path.exists, what="the socket")
    with Raw(path=str(path)) as link:
        assert link.ask("PROXY", "RESUME") == b"OK"
    assert proxy.is_alive()


def test_nobody_may_without_the_password(cluster, processes):
    proxy = processes(Pointsman(cluster, proxy_password="secret"))
    with proxy.raw(log_in=False) as link:
        assert link.ask("PROXY", "PAUSE") == b"NOAUTH Authentication required."
        assert link.ask("AUTH", "secret") == b"OK"
        assert link.ask("PROXY", "RESUME") == b"OK"
