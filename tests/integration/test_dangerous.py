# SPDX-License-Identifier: BSD-2-Clause
"""What would end the master or change its role is refused, and let through only where admin.allow_dangerous says so."""

import pytest

from harness import Pointsman, Replication, Server, encode, run_pointsman, talk, wait_for

REFUSED = (
    b"-ERR pointsman: refused by the proxy, since it would end the master or change its role; "
    b"admin.allow_dangerous can let it through\r\n"
)
NO_REPLICATION = b"-ERR pointsman: replication through the proxy is refused; admin.allow_dangerous can let it through\r\n"
EXECABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"

DANGEROUS = [
    "SHUTDOWN", "shutdown nosave", "SHUTDOWN NOSAVE NOW FORCE", "SHUTDOWN ABORT", "REPLICAOF NO ONE",
    "REPLICAOF 127.0.0.1 1", "SLAVEOF NO ONE", "FAILOVER", "FAILOVER ABORT", "DEBUG SEGFAULT", "debug panic",
    "DEBUG ASSERT", "DEBUG OOM", "DEBUG RESTART", "DEBUG RESTART 10", "DEBUG CRASH-AND-RECOVER", "Debug Segfault x",
]  # fmt: skip
NOT_IN_MULTI = b"-ERR Command not allowed inside a transaction\r\n"  # Redis' own words
REPLICATION = ["SYNC", "PSYNC ? -1", "REPLCONF", "REPLCONF listening-port 1", "REPLCONF ACK 0"]
ALL = [(line, REFUSED) for line in DANGEROUS] + [(line, NO_REPLICATION) for line in REPLICATION]


@pytest.mark.parametrize("line, answer", ALL, ids=[line for line, _ in ALL])
def test_refused_command_gets_its_error_and_does_nothing(cluster, proxy, line, answer):
    master = cluster.master
    with proxy.raw() as link:
        assert link.command(*line.split()).read_bytes() == answer
        assert link.ask("PING") == b"PONG"
        assert link.ask("SET", "dangerous:alive", line) == b"OK"
    assert master.is_alive() and master.role() == "master"


@pytest.mark.parametrize("line, answer", ALL, ids=[line for line, _ in ALL])
def test_refused_command_ends_the_transaction_that_it_is_sent_in(cluster, proxy, line, answer):
    if line.split()[0].upper() in ("SHUTDOWN", "SYNC", "PSYNC"):
        answer = NOT_IN_MULTI
    with cluster.master.client() as client:
        client.delete("dangerous:multi")
    with proxy.raw() as link:
        link.send(encode("MULTI") + encode("SET", "dangerous:multi", 1) + encode(*line.split()))
        link.send(encode("SET", "dangerous:multi", 2) + encode("EXEC") + encode("GET", "dangerous:multi"))
        assert [link.read_bytes() for _ in range(6)] == [
            b"+OK\r\n", b"+QUEUED\r\n", answer, b"+QUEUED\r\n", EXECABORT, b"$-1\r\n",
        ]  # fmt: skip
        link.send(encode("MULTI") + encode("SET", "dangerous:multi", 3) + encode("EXEC"))
        assert [link.read_bytes() for _ in range(3)] == [b"+OK\r\n", b"+QUEUED\r\n", b"*1\r\n+OK\r\n"]
    assert cluster.master.role() == "master"


def test_transaction_with_a_refused_command_can_be_discarded(proxy):
    with proxy.raw() as link:
        for words in (["WATCH", "dangerous:w"], ["MULTI"], ["SHUTDOWN"], ["DISCARD"], ["PING"]):
            link.command(*words)
        answers = [link.read_bytes() for _ in range(5)]
    assert answers == [b"+OK\r\n", b"+OK\r\n", NOT_IN_MULTI, b"+OK\r\n", b"+PONG\r\n"]


@pytest.mark.parametrize("state", ["", "MULTI"])
@pytest.mark.parametrize("line", ["REPLICAOF", "REPLICAOF a", "SLAVEOF a b c", "SYNC x", "PSYNC", "PSYNC a", "DEBUG"])
def test_wrong_arity_comes_first(direct, proxy, state, line):
    data = (encode(state) if state else b"") + encode(*line.split()) + (encode("EXEC") if state else b"")
    assert talk(proxy.port, data) == talk(direct.port, data)


def test_refused_command_keeps_its_place_in_a_pipeline(proxy):
    with proxy.raw() as link:
        link.send(encode("SET", "dangerous:p", 1) + encode("SHUTDOWN") + encode("GET", "dangerous:p"))
        assert [link.read_bytes() for _ in range(3)] == [b"+OK\r\n", REFUSED, b"$1\r\n1\r\n"]


@pytest.mark.parametrize(
    "line", ["DEBUG OBJECT dangerous:none", "DEBUG SLEEP 0", "DEBUG JMAP", "DEBUG", "DEBUG HELP", "DEBUG SEGFAULTS"]
)
def test_debug_that_harms_nobody_passes(direct, proxy, line):
    data = encode(*line.split())
    assert talk(proxy.port, data) == talk(direct.port, data)


def test_refusal_is_the_same_before_a_master_was_seen(processes):
    pointsman = processes(Pointsman("127.0.0.1:1", wait="listen", upstream_kind="static"))
    with pointsman.raw() as link:
        assert link.command("SHUTDOWN").read_bytes() == REFUSED


def test_stranger_is_asked_for_the_password_first(processes):
    pointsman = processes(Pointsman("127.0.0.1:1", wait="listen", upstream_kind="static", proxy_password="secret"))
    with pointsman.raw(log_in=False) as link:
        assert link.command("SHUTDOWN").read_bytes() == b"-NOAUTH Authentication required.\r\n"


@pytest.fixture
def pair():
    cluster = Replication(replicas=1, sentinels=0).start()
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("line", ["SHUTDOWN NOSAVE", "DEBUG SEGFAULT", "DEBUG PANIC"])
def test_what_ends_the_node_reaches_the_master_where_allowed_and_closes_the_client(processes, pair, line):
    pointsman = processes(Pointsman(pair, admin_allow_dangerous="SHUTDOWN, debug|segfault,Debug|Panic"))
    master, replica = pair.servers
    with pointsman.raw() as link:
        assert link.ask("SET", "k", 1) == b"OK"
        link.send(encode("ECHO", "last") + encode(*line.split()))
        assert link.read_to_end() == b"$4\r\nlast\r\n"
    master.wait()
    assert replica.is_alive()


def test_only_what_is_named_is_let_through(processes, pair):
    pointsman = processes(Pointsman(pair, admin_allow_dangerous="failover,slaveof"))
    master, replica = pair.servers
    with pointsman.raw() as link:
        for line in ("SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "DEBUG SEGFAULT"):
            assert link.command(*line.split()).read_bytes() == REFUSED
        assert link.ask("SLAVEOF", "NO", "ONE") == b"OK"
        assert link.ask("FAILOVER") == b"OK"
    wait_for(lambda: replica.role() == "master" and master.role() == "slave", what="the roles to change")
    wait_for(pointsman.writes, 20, "writes to reach the new master")


def test_allowed_command_inside_multi_is_for_the_node_to_judge(processes, pair, direct):
    pointsman = processes(Pointsman(pair, admin_allow_dangerous="shutdown"))
    data = encode("MULTI") + encode("SHUTDOWN") + encode("EXEC")
    assert talk(pointsman.port, data) == talk(direct.port, data)


@pytest.mark.parametrize(
    "value, words",
    [
        ("shutdwn", '"shutdwn" is no command that is refused; did you mean shutdown?'),
        ("flushall", '"flushall" is not refused; leave it out'),
        ("shutdown,,failover", "has a comma with no command beside it; remove the comma"),
        ("debug", '"debug" is no command that is refused; write shutdown, failover'),
        ("debug|sleep", '"debug|sleep" is no command that is refused'),
        ("shutdown failover", '"shutdown failover" is no command that is refused'),
    ],
)
def test_wrong_name_is_a_clear_error(value, words):
    result = run_pointsman("--check-config", f"--admin.allow_dangerous={value}")
    assert result.returncode == 2
    assert result.stderr.startswith("command line: admin.allow_dangerous: " + words)


@pytest.mark.parametrize("value", ["", " ", "shutdown", "SYNC,psync, replconf", " SHUTDOWN , Debug|OOM,replicaof ", "shutdown,shutdown"])
def test_right_names_are_taken(value):
    assert run_pointsman("--check-config", f"--admin.allow_dangerous={value}").returncode == 0


def test_no_refused_command_ever_reaches_a_server(processes):
    server = Server("counted").start().ready()
    try:
        pointsman = processes(Pointsman(server.address, upstream_kind="static"))
        with pointsman.raw() as link:
            for state in ([], ["MULTI"], ["SUBSCRIBE", "c"]):
                if state:
                    link.command(*state).read()
                for line in DANGEROUS + REPLICATION:
                    link.command(*line.split()).read_bytes()
                link.ask("RESET")
        calls = {name for name in server.commandstats() | server.rejected()}
        assert not calls & {"shutdown", "replicaof", "slaveof", "failover", "debug", "sync", "psync"}
    finally:
        server.kill()
