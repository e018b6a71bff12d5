# SPDX-License-Identifier: BSD-2-Clause
"""CLIENT: what a plain Redis does with its clients, Pointsman does with its own, over all threads."""

import contextlib
import time

import pytest

from harness import HOST, SLOWNESS, Pointsman, Raw, Replication, encode, talk, wait_for

MANY = 12  # connections enough for both threads to have some
TIMEOUT = b"*-1\r\n"
UNBLOCKED = b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"


def script(*commands):
    return b"".join(encode(*command.split(" ")) for command in commands)


def fields(line):
    return dict(pair.split("=", 1) for pair in line.decode().split())


def listing(link, *filters):
    return [fields(line) for line in link.ask("CLIENT", "LIST", *filters).splitlines()]


def ids(link, *filters):
    return [int(client["id"]) for client in listing(link, *filters)]


@contextlib.contextmanager
def links(server, count=MANY):
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(server.raw()) for _ in range(count)]
        for link in many:
            assert link.ask("PING") == b"PONG"  # else it may be on its way to its thread still, and nobody knows of it
        yield many


def is_closed(link):
    return link.read_to_end() == b""


@pytest.fixture(scope="module")
def proxy():
    """In front of one server, with both threads in use."""
    cluster = Replication(replicas=0, sentinels=0).start()
    pointsman = Pointsman(cluster, proxy_threads=2).start()
    pointsman.node = cluster.servers[0]
    yield pointsman
    pointsman.stop()
    cluster.stop()


# --------------------------------------------------------------------------------------- as a plain server

SAME = {
    "kill": [
        "CLIENT KILL", "CLIENT KILL TYPE", "CLIENT KILL 1.2.3.4:5", "CLIENT KILL ID x", "CLIENT KILL ID 0",
        "CLIENT KILL ID -1", "CLIENT KILL ID 999999", "CLIENT KILL ID 999999 2", "CLIENT KILL ID 999999 SKIPME",
        "CLIENT KILL ID 99999999999999999999", "CLIENT KILL ID 01", "CLIENT KILL TYPE foo", "CLIENT KILL USER nobody",
        "CLIENT KILL USER default ID 999999", "CLIENT KILL SKIPME maybe", "CLIENT KILL TYPE master",
        "CLIENT KILL TYPE slave", "CLIENT KILL TYPE replica", "CLIENT KILL TYPE pubsub", "CLIENT KILL foo bar",
        "CLIENT KILL ADDR 1.2.3.4:5 LADDR 1.2.3.4:6", "CLIENT KILL ID 1 ID 999999 TYPE normal SKIPME yes",
        "client kill id 999999 skipme YES", "CLIENT KILL ID",
    ],
    "list": [
        "CLIENT LIST ID", "CLIENT LIST ID x", "CLIENT LIST ID 1 x", "CLIENT LIST ID 999999", "CLIENT LIST ID -1",
        "CLIENT LIST TYPE", "CLIENT LIST TYPE foo", "CLIENT LIST TYPE master", "CLIENT LIST TYPE slave",
        "CLIENT LIST TYPE pubsub", "CLIENT LIST foo", "CLIENT LIST foo bar", "CLIENT LIST TYPE normal x",
    ],
    "unblock": [
        "CLIENT UNBLOCK", "CLIENT UNBLOCK x", "CLIENT UNBLOCK 999999", "CLIENT UNBLOCK 999999 foo",
        "CLIENT UNBLOCK x foo", "CLIENT UNBLOCK x error", "CLIENT UNBLOCK 1 timeout x", "CLIENT UNBLOCK -5",
        "CLIENT UNBLOCK 1.5", "CLIENT UNBLOCK 999999 TIMEOUT", "CLIENT UNBLOCK 999999 error",
    ],
    "pause": [
        "CLIENT PAUSE", "CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 0", "CLIENT PAUSE 1.5",
        "CLIENT PAUSE 10 foo", "CLIENT PAUSE x foo", "CLIENT PAUSE 10 ALL x", "CLIENT PAUSE 99999999999999999999",
        "CLIENT PAUSE 1 write", "SET paused 1", "CLIENT PAUSE 1", "GET paused", "CLIENT UNPAUSE", "CLIENT UNPAUSE x",
        "CLIENT PAUSE 9223372036854775807 WRITE", "GET paused", "CLIENT UNPAUSE", "SET paused 2",
    ],
    "tracking_is_off": ["CLIENT GETREDIR", "CLIENT GETREDIR x", "CLIENT TRACKINGINFO", "CLIENT TRACKINGINFO x"],
    "no_evict": ["CLIENT NO-EVICT on", "CLIENT NO-EVICT foo", "CLIENT NO-EVICT", "CLIENT NO-EVICT off"],
    "reply": [
        "CLIENT REPLY foo", "CLIENT REPLY", "CLIENT REPLY on x", "CLIENT REPLY OFF", "PING", "CLIENT ID",
        "CLIENT KILL ID 999999", "CLIENT UNBLOCK 999999", "CLIENT REPLY ON", "CLIENT REPLY SKIP", "CLIENT LIST ID 999",
        "PING", "CLIENT REPLY SKIP", "CLIENT KILL ID 999999", "PING",
    ],
    "unknown": ["CLIENT", "CLIENT FOO", "CLIENT FOO a b", "CLIENT HELP", "CLIENT HELP x"],
    "arity": ["CLIENT ID x", "CLIENT INFO x", "CLIENT SETNAME", "CLIENT GETNAME x", "CLIENT SETNAME a b"],
}  # fmt: skip


@pytest.mark.parametrize("commands", list(SAME.values()), ids=list(SAME))
def test_answer_is_byte_for_byte_that_of_a_plain_server(direct, proxy, commands):
    data = script(*commands)
    assert talk(proxy.port, data) == talk(direct.port, data)


NUMBERS = ("id", "addr", "laddr", "fd", "age", "idle", "qbuf-free", "rbs", "rbp", "tot-mem")


@pytest.mark.parametrize(
    "before",
    [
        (),
        ("CLIENT SETNAME worker-1", "SELECT 5", "CLIENT NO-EVICT on"),
        ("MULTI", "SET a 1", "GET a"),
        ("SUBSCRIBE a",),
        ("MONITOR",),
        ("BLPOP nothing 0",),
    ],
)
def test_line_of_a_client_is_that_of_a_plain_server(direct, proxy, before):
    lines = []
    for server in (direct, proxy):
        with server.raw() as link, server.raw() as other:
            number = link.ask("CLIENT", "ID")
            for command in before:
                link.send(script(command))
                if not command.startswith("BLPOP"):
                    link.read()
            wait_for(lambda: not before or listing(other, "ID", number)[0]["cmd"] == before[-1].split()[0].lower()
                     or " " in before[-1])
            if "BLPOP nothing 0" in before:
                wait_for(lambda: listing(other, "ID", number)[0]["flags"] == "b")
            (client,) = listing(other, "ID", number)
            memory = ("argv-mem", "multi-mem", "omem", "obl", "oll", "lib-name", "lib-ver")
            lines.append({name: value for name, value in client.items() if name not in NUMBERS + memory})
    assert lines[1] == lines[0]


def test_the_one_who_asks_sees_its_command_as_redis_shows_it(direct, proxy):
    for server in (direct, proxy):
        with server.raw() as link:
            (client,) = listing(link, "ID", link.ask("CLIENT", "ID"))
            assert client["cmd"] == "client|list" and int(client["qbuf"]) > 0 and client["events"] == "r"
            assert fields(link.ask("CLIENT", "INFO"))["cmd"] == "client|info"
            assert b" qbuf=26 " in link.ask("CLIENT", "LIST")


# ------------------------------------------------------------------------------------------------ LIST


def test_list_has_the_clients_of_all_threads_in_the_order_in_which_they_came(proxy):
    with links(proxy) as many:
        numbers = [link.ask("CLIENT", "ID") for link in many]
        listed = [number for number in ids(many[0]) if number in numbers]
        assert listed == sorted(numbers)
        backwards = numbers[::-1] + numbers[:1]
        assert ids(many[0], "ID", *backwards) == backwards


def test_every_filter_of_the_list_picks_those_it_names(proxy):
    with links(proxy, 6) as (asker, named, other, subscriber, multi, library):
        names = "asker", "named", "other", "subscriber", "multi", "library"
        number = dict(zip(names, (link.ask("CLIENT", "ID") for link in (asker, named, other, subscriber, multi, library))))
        named.ask("CLIENT", "SETNAME", "worker")
        other.ask("SELECT", 7)
        subscriber.ask("SUBSCRIBE", "news")
        multi.ask("MULTI")
        library.ask("CLIENT", "SETINFO", "LIB-NAME", "redis-rs")
        library.ask("CLIENT", "SETINFO", "LIB-VER", "1.2.3")
        address = "%s:%d" % named.socket.getsockname()
        wait_for(lambda: listing(asker, "ID", number["subscriber"])[0]["sub"] == "1")

        def picked(*filters):
            return {name for name in names if number[name] in ids(asker, *filters)}

        everybody = set(names)
        assert picked() == everybody
        assert picked("TYPE", "pubsub") == {"subscriber"}
        assert picked("TYPE", "normal") == everybody - {"subscriber"}
        assert picked("NAME", "worker") == {"named"}
        assert picked("ADDR", address) == {"named"}
        assert picked("LADDR", f"{HOST}:{proxy.port}") == everybody
        assert picked("IP", HOST) == everybody and picked("IP", "127.0.0.2") == set()
        assert picked("DB", 7) == {"other"}
        assert picked("FLAGS", "x") == {"multi"}
        assert picked("LIB-NAME", "redis-rs", "LIB-VER", "1.2.3") == {"library"}
        assert picked("USER", "default") == everybody
        assert picked("SKIPME", "yes") == everybody - {"asker"}
        assert picked("NOT-TYPE", "pubsub", "NOT-NAME", "worker") == everybody - {"subscriber", "named"}
        assert picked("ID", number["named"], number["other"], "DB", 0) == {"named"}
        assert picked("MAXAGE", 1000000) == set() and picked("IDLE", 1000000) == set()


@pytest.mark.parametrize(
    "filters, error",
    [
        ("MAXAGE x", b"-ERR maxage is not an integer or out of range\r\n"),
        ("MAXAGE 0", b"-ERR maxage should be greater than 0\r\n"),
        ("FLAGS y", b"-ERR Unknown flags found in the provided filter: y\r\n"),
        ("NOT-SKIPME yes", b"-ERR syntax error\r\n"),
        ("NAME", b"-ERR syntax error\r\n"),
    ],
)
def test_a_filter_of_later_versions_with_a_bad_value_is_an_error(proxy, filters, error):
    for command in ("LIST", "KILL"):
        if command == "LIST" or " " in filters:
            assert talk(proxy.port, script(f"CLIENT {command} {filters}")).startswith(error)


def test_a_client_on_a_unix_socket_has_the_path_for_address_and_can_be_killed_by_it(processes, proxy):
    path = proxy.directory / "socket"
    other = processes(Pointsman(proxy.upstream, wait=None, proxy_listen=f"unix:{path}"))
    wait_for(lambda: path.exists() and Raw(path=str(path)).ask("PING") == b"PONG")
    with Raw(path=str(path)) as one, Raw(path=str(path)) as two:
        info = fields(one.ask("CLIENT", "INFO"))
        assert (info["addr"], info["laddr"], info["flags"]) == (f"{path}:0", f"{path}:0", "U")
        number = two.ask("CLIENT", "ID")
        assert one.ask("CLIENT", "KILL", "ADDR", f"{path}:0", "ID", number) == 1
        assert is_closed(two)
    assert other.is_alive()


def test_questions_to_all_threads_keep_their_place_in_a_pipeline(direct, proxy):
    commands = ["SET q:x 1", "CLIENT LIST ID 999999", "GET q:x", "CLIENT KILL ID 999999", "CLIENT UNBLOCK 999999",
                "INCR q:x", "CLIENT UNPAUSE", "GET q:x", "CLIENT LIST TYPE master", "ECHO end"]  # fmt: skip
    data = script(*commands) * 20
    assert talk(proxy.port, data) == talk(direct.port, data)


# ------------------------------------------------------------------------------------------------ KILL


def test_kill_by_address_closes_that_client_on_whichever_thread(proxy):
    with links(proxy) as many, proxy.raw() as asker:
        for link in many:
            assert asker.ask("CLIENT", "KILL", "%s:%d" % link.socket.getsockname()) == b"OK"
            assert is_closed(link)
        assert asker.ask("CLIENT", "KILL", "%s:%d" % many[0].socket.getsockname()) == b"ERR No such client"
        assert asker.ask("PING") == b"PONG"


def test_kill_by_name_or_laddr_or_user_counts_and_spares_the_one_who_asks(proxy):
    for filters in (("NAME", "victim"), ("NAME", "victim", "LADDR", f"{HOST}:{proxy.port}", "USER", "default")):
        with links(proxy) as many, proxy.raw() as asker:
            for link in [*many, asker]:
                link.ask("CLIENT", "SETNAME", "victim")
            assert asker.ask("CLIENT", "KILL", *filters) == MANY
            assert all(is_closed(link) for link in many)
            assert asker.ask("CLIENT", "KILL", *filters) == 0
            assert asker.ask("GET", "x") is None


def test_who_kills_itself_gets_its_reply_and_nothing_behind_it_is_run(direct, proxy):
    for server in (direct, proxy):
        with server.raw() as link:
            number = link.ask("CLIENT", "ID")
            link.send(script(f"CLIENT KILL ID {number} SKIPME no", "SET after:kill 1"))
            assert link.read_to_end() == b":1\r\n"
        with server.raw() as link:
            link.send(script("CLIENT KILL %s:%d" % link.socket.getsockname(), "SET after:kill 1"))
            assert link.read_to_end() == b"+OK\r\n"
        with server.raw() as link:
            assert link.ask("EXISTS", "after:kill") == 0


def test_kill_ends_what_the_client_blocked_on_or_subscribed_to_at_the_node(proxy):
    with proxy.node.client() as node, proxy.raw() as asker, links(proxy, 4) as many:
        numbers = [link.ask("CLIENT", "ID") for link in many]
        many[0].command("BLPOP", "killed:list", 0)
        many[1].command("XREAD", "BLOCK", 0, "STREAMS", "killed:stream", "$")
        many[2].ask("SUBSCRIBE", "killed:channel")
        many[3].ask("PSUBSCRIBE", "killed:*")
        wait_for(lambda: node.info("clients")["blocked_clients"] == 2)
        for link, number in zip(many, numbers):
            assert asker.ask("CLIENT", "KILL", "ID", number) == 1
            assert is_closed(link)
        wait_for(lambda: node.info("clients")["blocked_clients"] == 0)
        wait_for(lambda: node.pubsub_numsub("killed:channel")[0][1] == 0 and node.pubsub_numpat() == 0)
        node.rpush("killed:list", "kept")
        assert asker.ask("LLEN", "killed:list") == 1
        asker.ask("DEL", "killed:list")


def test_kill_of_everybody_leaves_the_connections_to_the_node_alone(proxy):
    with links(proxy) as many, proxy.raw() as asker:
        for link in many:
            link.ask("SET", "killed:all", 1)
        before = proxy.node.connections_received()
        killed = asker.ask("CLIENT", "KILL", "TYPE", "normal")
        assert killed >= MANY and asker.ask("CLIENT", "KILL", "TYPE", "master") == 0
        assert all(is_closed(link) for link in many)
        assert asker.ask("GET", "killed:all") == b"1"
        ours = 1  # the connection that asks just this
        assert proxy.node.connections_received() - before <= ours


def test_within_a_transaction_kill_is_refused_and_the_transaction_is_not_run(proxy):
    node_clients = proxy.node.client()
    for command in ("CLIENT KILL TYPE normal", "CLIENT PAUSE 60000", "CLIENT UNPAUSE", "CLIENT UNBLOCK 1"):
        before = {client["id"] for client in node_clients.client_list()}
        with proxy.raw() as link:
            assert link.ask("MULTI") == b"OK" and link.ask("SET", "in:multi", 1) == b"QUEUED"
            assert link.send(script(command)).read() == b"ERR Command not allowed inside a transaction"
            assert link.ask("EXEC") == b"EXECABORT Transaction discarded because of previous errors."
            assert link.ask("EXISTS", "in:multi") == 0
        assert before <= {client["id"] for client in node_clients.client_list()}


# --------------------------------------------------------------------------------------------- UNBLOCK

BLOCKING = [
    "BLPOP u:list 0", "BRPOP u:list 0", "BRPOPLPUSH u:list u:to 0", "BLMOVE u:list u:to LEFT LEFT 0",
    "BLMPOP 0 1 u:list LEFT", "BZPOPMIN u:zset 0", "BZPOPMAX u:zset 0", "BZMPOP 0 1 u:zset MIN",
    "XREAD BLOCK 0 STREAMS u:stream $", "WAIT 3 0",
]  # fmt: skip


@pytest.mark.parametrize("command", BLOCKING)
def test_unblock_ends_a_blocked_command_as_a_plain_server_does(direct, proxy, command):
    seen = []
    for server in (direct, proxy):
        for reason in ((), ("TIMEOUT",), ("ERROR",)):
            with server.raw() as link, server.raw() as asker:
                number = link.ask("CLIENT", "ID")
                link.send(script(command))
                wait_for(lambda: "b" in listing(asker, "ID", number)[0]["flags"])
                answer = asker.ask("CLIENT", "UNBLOCK", number, *reason)
                reply = link.read_bytes()
                seen.append((server is proxy, reason, answer, reply, asker.ask("CLIENT", "UNBLOCK", number)))
                assert link.ask("PING") == b"PONG"
    half = len(seen) // 2
    assert [line[1:] for line in seen[half:]] == [line[1:] for line in seen[:half]]
    assert all(line[2] == 1 and line[4] == 0 for line in seen)


def test_unblock_reaches_clients_of_every_thread_one_by_one(proxy):
    with links(proxy) as many, proxy.raw() as asker:
        numbers = [link.ask("CLIENT", "ID") for link in many]
        for link in many:
            link.command("BLPOP", "u:many", 0)
        with proxy.node.client() as node:
            wait_for(lambda: node.info("clients")["blocked_clients"] == MANY)
        for link, number in list(zip(many, numbers))[1:]:
            assert asker.ask("CLIENT", "UNBLOCK", number, "ERROR") == 1
            assert link.read_bytes() == UNBLOCKED
        assert asker.ask("RPUSH", "u:many", "x") == 1
        assert many[0].read() == [b"u:many", b"x"]  # the one that was not named goes on to wait, and is served


def test_unblock_right_behind_the_blocking_command_waits_until_it_blocks(proxy):
    """The command may not have reached the node when another client asks, although the proxy says it is blocked."""
    with links(proxy) as many, proxy.raw() as asker:
        numbers = [link.ask("CLIENT", "ID") for link in many]
        for link, number in zip(many, numbers):
            link.command("BLPOP", "u:at:once", 0)
            wait_for(lambda: "b" in listing(asker, "ID", number)[0]["flags"], every=0)
            assert asker.ask("CLIENT", "UNBLOCK", number) == 1
            assert link.read_bytes() == TIMEOUT


def test_unblock_and_an_element_at_the_same_moment_never_lose_the_element(proxy):
    """Whatever UNBLOCK says is true: 1 and the list keeps the element, or 0 and the client has got it."""
    with proxy.raw() as asker, proxy.raw() as pusher, proxy.raw() as link:
        number = link.ask("CLIENT", "ID")
        outcomes = set()
        for round_ in range(60):
            link.command("BLPOP", "u:race", 0)
            wait_for(lambda: "b" in listing(asker, "ID", number)[0]["flags"], every=0)
            first, second = (pusher, asker) if round_ % 2 else (asker, pusher)
            for side in (first, second):
                side.command(*(("RPUSH", "u:race", round_) if side is pusher else ("CLIENT", "UNBLOCK", number)))
            unblocked, reply = asker.read(), link.read()
            assert pusher.read() == 1
            left = pusher.ask("LRANGE", "u:race", 0, -1)
            element = b"%d" % round_
            assert (unblocked, reply, left) in ((1, None, [element]), (0, [b"u:race", element], []))
            outcomes.add(unblocked)
            pusher.ask("DEL", "u:race")


def test_a_client_that_does_not_block_is_not_unblocked(proxy):
    with proxy.raw() as idle, proxy.raw() as multi, proxy.raw() as subscriber, proxy.raw() as asker:
        multi.ask("MULTI")
        multi.ask("BLPOP", "u:multi", 0)
        subscriber.ask("SUBSCRIBE", "u")
        for link in (idle, asker):
            assert asker.ask("CLIENT", "UNBLOCK", link.ask("CLIENT", "ID")) == 0
        names = {client["flags"]: int(client["id"]) for client in listing(asker)}
        assert asker.ask("CLIENT", "UNBLOCK", names["x"]) == 0
        assert asker.ask("CLIENT", "UNBLOCK", names["P"]) == 0
        assert multi.ask("EXEC") == [None]


def test_a_command_of_an_own_connection_can_be_unblocked_too(proxy):
    """WATCH has already pinned the connection on which it blocks."""
    with proxy.raw() as link, proxy.raw() as asker:
        number = link.ask("CLIENT", "ID")
        for _ in range(3):
            assert link.ask("WATCH", "u:watched") == b"OK"
            link.command("BLPOP", "u:pinned", 0)
            wait_for(lambda: "b" in listing(asker, "ID", number)[0]["flags"])
            assert asker.ask("CLIENT", "UNBLOCK", number) == 1
            assert link.read() is None
            assert link.ask("UNWATCH") == b"OK"


@pytest.mark.parametrize(
    "command, timeout_reply", [("BLPOP u:list 0", TIMEOUT), ("XREAD BLOCK 0 STREAMS u:s $", TIMEOUT), ("WAIT 1 0", b":0\r\n")]
)
def test_a_command_that_waits_for_a_connection_is_unblocked_by_the_proxy(processes, command, timeout_reply):
    cluster = processes(Replication(replicas=0, sentinels=0))
    proxy = processes(Pointsman(cluster, pool_dedicated_connections=1, pool_wait="60s"))
    with proxy.raw() as owner, proxy.raw() as asker, proxy.raw() as link:
        assert owner.ask("WATCH", "x") == b"OK"  # has the one connection there is
        number = link.ask("CLIENT", "ID")
        for reason, reply in (("TIMEOUT", timeout_reply), ("ERROR", UNBLOCKED)):
            link.send(script(command))
            wait_for(lambda: "b" in listing(asker, "ID", number)[0]["flags"])
            assert asker.ask("CLIENT", "UNBLOCK", number, reason) == 1
            assert link.read_bytes() == reply
            assert link.ask("PING") == b"PONG"


def test_a_command_that_is_held_without_a_master_is_unblocked_by_the_proxy(processes):
    cluster = processes(Replication(replicas=0, sentinels=0))
    proxy = processes(Pointsman(cluster, failover_hold_time="120s"))
    with proxy.raw() as asker, proxy.raw() as link:
        number = link.ask("CLIENT", "ID")
        cluster.servers[0].kill()
        for reason, reply in (("TIMEOUT", TIMEOUT), ("ERROR", UNBLOCKED)):
            link.command("BLPOP", "u:held", 0)
            wait_for(lambda: "b" in listing(asker, "ID", number)[0]["flags"])
            assert asker.ask("CLIENT", "UNBLOCK", number, reason) == 1
            assert link.read_bytes() == reply
        cluster.servers[0].start().ready()


def test_where_the_node_does_not_tell_its_id_unblock_says_so_and_nothing_is_unblocked(processes):
    rules = "default on nopass ~* &* +@all -client|id"
    cluster = processes(Replication(replicas=0, sentinels=0, settings={"user": rules}))
    proxy = processes(Pointsman(cluster))
    with proxy.raw() as asker, proxy.raw() as link:
        number = link.ask("CLIENT", "ID")
        link.command("BLPOP", "u:nameless", 0)
        wait_for(lambda: "b" in listing(asker, "ID", number)[0]["flags"])
        assert asker.ask("CLIENT", "UNBLOCK", number).startswith(b"ERR pointsman: the node does not answer CLIENT ID")
        assert asker.ask("RPUSH", "u:nameless", "x") == 1
        assert link.read() == [b"u:nameless", b"x"]


# ----------------------------------------------------------------------------------------------- PAUSE


@pytest.fixture
def unpaused(proxy):
    yield
    with proxy.raw() as link:
        wait_for(lambda: not is_paused(proxy), 10, "the pause to end")
        link.ask("CLIENT", "UNPAUSE")


def is_paused(proxy):
    with proxy.raw() as link:
        return link.command("PING").is_silent(0.05)


def names_of_blocked(link):
    return {client["name"] for client in listing(link) if client["flags"] == "b"}


WRITES = [
    "SET p:x 1", "EVAL return(1) 0", "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0", "PUBLISH p:x 1",
    "SPUBLISH p:x 1", "PFCOUNT p:hll", "FCALL nosuch 0", "BLPOP p:none 0.01", "FUNCTION FLUSH", "FLUSHDB",
]  # fmt: skip
READS = [
    "GET p:x", "EVAL_RO return(1) 0", "PING", "CLIENT ID", "SCRIPT LOAD return(1)", "WAIT 0 0", "SUBSCRIBE p:x",
    "WATCH p:x", "MULTI", "INFO server", "CLIENT LIST ID 999999",
]  # fmt: skip


def test_pause_of_writes_lets_writes_of_all_threads_wait_and_reads_go_on(proxy, unpaused):
    with links(proxy, len(WRITES)) as writers, links(proxy, len(READS)) as readers, proxy.raw() as asker:
        for link, command in zip(writers, WRITES):
            link.ask("CLIENT", "SETNAME", command.split()[0].lower())
        assert asker.ask("CLIENT", "PAUSE", 60000, "WRITE") == b"OK"
        for link, command in zip(writers, WRITES):
            link.send(script(command))
        for link, command in zip(readers, READS):
            link.send(script(command)).read()  # is answered
        wait_for(lambda: names_of_blocked(asker) == {command.split()[0].lower() for command in WRITES})
        assert all(link.is_silent(0.01) for link in writers)
        assert asker.ask("CLIENT", "UNPAUSE") == b"OK"
        for link, command in zip(writers, WRITES):
            link.read()  # each has its answer


def test_exec_waits_only_if_the_transaction_writes(proxy, unpaused):
    with links(proxy, 3) as (reading, writing, publishing), proxy.raw() as asker:
        for link, command in ((reading, "GET p:y"), (writing, "SET p:y 1"), (publishing, "PUBLISH p:y 1")):
            assert link.ask("MULTI") == b"OK" and link.send(script(command)).read() == b"QUEUED"
        assert asker.ask("CLIENT", "PAUSE", 60000, "WRITE") == b"OK"
        assert reading.ask("EXEC") == [None]
        for link in (writing, publishing):
            assert link.command("EXEC").is_silent(0.05)
        assert reading.ask("MULTI") == b"OK" and reading.ask("GET", "p:y") == b"QUEUED"
        assert reading.ask("EXEC") == [None]
        assert reading.ask("MULTI") == b"OK" and reading.command("SET", "p:y", 2).is_silent(0.05)
        assert asker.ask("CLIENT", "UNPAUSE") == b"OK"
        assert writing.read() == [b"OK"] and publishing.read() == [0]
        assert reading.read() == b"QUEUED" and reading.ask("DISCARD") == b"OK"


def test_pause_of_everything_ends_by_itself_and_errors_do_not_wait(direct, proxy, unpaused):
    """CLIENT UNPAUSE waits as well, as in Redis: only the time ends such a pause."""
    for server in (direct, proxy):
        with links(server) as many, server.raw() as asker:
            began = time.monotonic()
            assert asker.ask("CLIENT", "PAUSE", 700) == b"OK"
            for link in many:
                link.command("PING")
            asker.command("CLIENT", "UNPAUSE")
            with server.raw() as wrong:
                assert wrong.ask("GET") == b"ERR wrong number of arguments for 'get' command"
                assert wrong.ask("NOSUCH").startswith(b"ERR unknown command 'NOSUCH'")
            assert [link.read() for link in many] == [b"PONG"] * MANY
            assert asker.read() == b"OK"
            assert time.monotonic() - began >= 0.7


def test_a_later_pause_makes_it_longer_or_wider_but_never_shorter_or_narrower(direct, proxy, unpaused):
    seconds = 2 * SLOWNESS
    with contextlib.ExitStack() as stack:
        sides = [[stack.enter_context(server.raw()) for _ in range(3)] for server in (direct, proxy)]
        began = time.monotonic()
        for asker, writer, reader in sides:
            assert asker.ask("CLIENT", "PAUSE", seconds * 1000, "WRITE") == b"OK"
            assert asker.ask("CLIENT", "PAUSE", 1, "WRITE") == b"OK"  # not shorter
            assert writer.command("SET", "p:z", 1).is_silent(0.02)
            assert asker.ask("CLIENT", "PAUSE", 1, "ALL") == b"OK"  # wider, for as long as the longer one
            assert reader.command("GET", "p:z").is_silent(0.02)
        for asker, writer, reader in sides:
            assert writer.read() == b"OK"
            reader.read()
            assert time.monotonic() - began >= seconds


def test_commands_that_waited_are_run_once_and_in_order(proxy, unpaused):
    with links(proxy) as many, proxy.raw() as asker:
        asker.ask("DEL", "p:list")
        assert asker.ask("CLIENT", "PAUSE", 60000, "WRITE") == b"OK"
        for i, link in enumerate(many):
            link.send(script("GET p:list0", f"RPUSH p:list {i}:a", f"LRANGE p:list{i} 0 -1", f"RPUSH p:list {i}:b", "PING"))
        assert all(link.read() is None for link in many)
        assert asker.ask("LLEN", "p:list") == 0
        assert asker.ask("CLIENT", "UNPAUSE") == b"OK"
        for link in many:
            assert [type(link.read()) for _ in range(4)] == [int, list, int, bytes]
        pushed = asker.ask("LRANGE", "p:list", 0, -1)
        assert sorted(pushed) == sorted(b"%d:%s" % (i, x) for i in range(MANY) for x in (b"a", b"b"))
        assert all(pushed.index(b"%d:a" % i) < pushed.index(b"%d:b" % i) for i in range(MANY))


def test_who_goes_while_paused_has_not_written(direct, proxy, unpaused):
    for server in (direct, proxy):
        with server.raw() as asker:
            assert asker.ask("CLIENT", "PAUSE", 60000, "WRITE") == b"OK"
            with server.raw() as link:
                number = link.ask("CLIENT", "ID")
                assert link.command("SET", "p:gone", 1).is_silent(0.05)
            wait_for(lambda: ids(asker, "ID", number) == [])
            assert asker.ask("CLIENT", "UNPAUSE") == b"OK"
            assert asker.ask("EXISTS", "p:gone") == 0


def test_a_paused_client_is_not_unblocked_but_can_be_killed(direct, proxy, unpaused):
    for server in (direct, proxy):
        with server.raw() as asker, server.raw() as link:
            number = link.ask("CLIENT", "ID")
            assert asker.ask("CLIENT", "PAUSE", 60000, "WRITE") == b"OK"
            assert link.command("SET", "p:killed", 1).is_silent(0.05)
            if server is proxy:  # 7.0 itself crashes on it
                assert asker.ask("CLIENT", "UNBLOCK", number) == 0
            assert asker.ask("CLIENT", "KILL", "ID", number) == 1
            assert is_closed(link)
            assert asker.ask("CLIENT", "UNPAUSE") == b"OK"
            assert asker.ask("EXISTS", "p:killed") == 0


def test_pause_is_of_the_clients_of_the_proxy_and_not_of_the_node(proxy, unpaused):
    with proxy.raw() as asker, proxy.node.raw() as node:
        assert asker.ask("CLIENT", "PAUSE", 2000 * SLOWNESS) == b"OK"
        assert asker.command("PING").is_silent(0.05)
        assert node.ask("SET", "p:node", 1) == b"OK"
        assert asker.is_silent(0.05) and asker.read() == b"PONG"


def test_info_counts_paused_clients_as_blocked(proxy, unpaused):
    with proxy.raw() as admin, proxy.raw() as one, proxy.raw() as two, proxy.client() as watcher:
        assert admin.ask("CLIENT", "PAUSE", 60000, "WRITE") == b"OK"
        for link in (one, two):
            link.command("SET", "paused", 1)
        wait_for(lambda: watcher.info("clients")["blocked_clients"] == 2, what="both to be counted")
        one.close()
        wait_for(lambda: watcher.info("clients")["blocked_clients"] == 1, what="the one that left not to be")
        assert admin.ask("CLIENT", "UNPAUSE") == b"OK"
        assert two.read() == b"OK"
        wait_for(lambda: watcher.info("clients")["blocked_clients"] == 0, what="none to be counted")
