# SPDX-License-Identifier: BSD-2-Clause
"""Commands that need a connection of their own get one from a bounded pool, and it is given back clean."""

import signal
import threading
import time

import pytest
import redis

from harness import Pointsman, Server, encode, talk, wait_for

POOL_EMPTY = (
    b"ERR pointsman: no dedicated connection to the master free within pool.wait; "
    b"see pool.dedicated_connections; not executed"
)


@pytest.fixture(autouse=True)
def clean(cluster):
    with cluster.master.client() as client:
        client.flushall()
    cluster.wait_synced()  # or a read would still find on a replica what was flushed


def blocked(cluster):
    return cluster.master.info("clients")["blocked_clients"]


TRANSACTIONS = {
    "exec": ["MULTI", "SET a 1", "INCR a", "GET a", "EXEC"],
    "discard": ["MULTI", "SET a 1", "DISCARD", "GET a"],
    "empty": ["MULTI", "EXEC", "MULTI", "DISCARD"],
    "without_multi": ["EXEC", "DISCARD", "UNWATCH"],
    "nested": ["MULTI", "MULTI", "SET a 1", "EXEC"],
    "watch_inside": ["MULTI", "WATCH a", "SET a 1", "EXEC"],
    "unknown_command_aborts": ["MULTI", "NOSUCH a", "SET a 1", "EXEC", "GET a"],
    "wrong_arity_aborts": ["MULTI", "GET", "SET a 1", "EXEC", "GET a"],
    "error_while_running_does_not": ["SET a x", "MULTI", "INCR a", "SET b 1", "EXEC", "GET b"],
    "watch_untouched": ["SET a 1", "WATCH a b", "MULTI", "INCR a", "EXEC"],
    "watch_touched_by_itself": ["WATCH a", "SET a 5", "MULTI", "INCR a", "EXEC", "GET a"],
    "unwatch": ["WATCH a", "SET a 5", "UNWATCH", "MULTI", "INCR a", "EXEC"],
    "select_inside": ["MULTI", "SELECT 3", "SET a 3", "EXEC", "GET a", "SELECT 0", "GET a"],
    "local_commands_inside": ["MULTI", "PING", "ECHO x", "CLIENT GETNAME", "CLIENT SETNAME me", "EXEC", "CLIENT GETNAME"],
    "blocking_inside": ["MULTI", "BLPOP nothing 0", "EXEC"],
    "subscribe_inside_is_no_more_than_redis": ["MULTI", "PUBLISH c m", "EXEC"],
    "reset_ends_it": ["MULTI", "SET a 1", "RESET", "EXEC", "GET a"],
    "quit_ends_it": ["MULTI", "SET a 1", "QUIT"],
    "reads_and_writes_around": ["SET a 1", "GET a", "MULTI", "INCR a", "EXEC", "GET a", "INCR a"],
    "in_a_database": ["SELECT 4", "MULTI", "SET a 4", "EXEC", "GET a", "SELECT 0", "EXISTS a"],
    "eval_inside": ["MULTI", "EVAL return~redis.call('incr',KEYS[1]) 1 a", "EXEC"],
}  # fmt: skip


def script(commands):
    return b"".join(encode(*(word.replace("~", " ") for word in command.split(" "))) for command in commands)


@pytest.mark.parametrize("at_once", [True, False], ids=["pipelined", "one_by_one"])
@pytest.mark.parametrize("commands", list(TRANSACTIONS.values()), ids=list(TRANSACTIONS))
def test_transaction_is_answered_as_by_a_plain_server(cluster, direct, proxy, commands, at_once):
    with direct.client() as client:
        client.flushall()
    if at_once:
        assert talk(proxy.port, script(commands)) == talk(direct.port, script(commands))
        return
    with direct.raw() as plain, proxy.raw() as link:
        for command in commands:
            data = script([command])
            if command.startswith("GET a") or command.startswith("EXISTS"):
                cluster.wait_synced()
            assert link.send(data).read_bytes() == plain.send(data).read_bytes(), command


def test_hundred_pipelined_transactions_are_answered_in_order(proxy):
    with proxy.raw() as link:
        one = encode("MULTI") + encode("SET", "a", "x") + encode("INCR", "n") + encode("EXEC") + encode("PING")
        link.send(one * 100)
        for number in range(100):
            assert [link.read() for _ in range(5)] == [b"OK", b"QUEUED", b"QUEUED", [b"OK", number + 1], b"PONG"]


def test_watched_key_that_another_client_changes_fails_the_transaction(proxy):
    with proxy.raw() as one, proxy.raw() as two:
        assert one.ask("WATCH", "stock") == b"OK"
        assert one.ask("GET", "stock") is None
        assert two.ask("SET", "stock", 5) == b"OK"
        assert one.ask("MULTI") == b"OK"
        assert one.ask("SET", "stock", 1) == b"QUEUED"
        assert one.ask("EXEC") is None
        assert two.ask("MULTI") == b"OK" and two.ask("GET", "stock") == b"QUEUED"
        assert two.ask("EXEC") == [b"5"]


def test_check_and_set_by_many_clients_loses_no_increment(proxy):
    def work():
        with proxy.client() as client:
            for _ in range(20):
                with client.pipeline() as pipe:
                    while True:
                        try:
                            pipe.watch("cas")
                            value = int(pipe.get("cas") or 0)
                            pipe.multi()
                            pipe.set("cas", value + 1)
                            pipe.execute()
                            break
                        except redis.WatchError:
                            continue

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with proxy.raw() as link:
        assert link.ask("INCR", "cas") == 161


def test_state_of_a_client_that_left_does_not_reach_the_next(cluster, processes):
    pointsman = processes(Pointsman(cluster, proxy_threads=1, pool_dedicated_connections=1))
    with pointsman.raw() as link:
        link.send(encode("SELECT", 7) + encode("WATCH", "w") + encode("MULTI") + encode("SET", "lost", 1))
        assert [link.read() for _ in range(4)] == [b"OK", b"OK", b"OK", b"QUEUED"]
    with cluster.master.client(db=7) as client:
        client.set("w", "touched")
    with pointsman.raw(timeout=20) as link:
        link.send(encode("MULTI") + encode("SET", "kept", 1) + encode("CLIENT", "GETNAME") + encode("EXEC"))
        assert [link.read() for _ in range(4)] == [b"OK", b"QUEUED", b"QUEUED", [b"OK", None]]
    with cluster.master.client() as client:
        assert client.exists("kept") and not client.exists("lost")


def test_pop_waits_for_a_push_of_another_client(cluster, proxy):
    with proxy.raw() as one, proxy.raw() as two:
        one.command("BLPOP", "queue", 0)
        wait_for(lambda: blocked(cluster) == 1, what="the pop to block")
        assert two.ask("RPUSH", "queue", "item") == 1
        assert one.read() == [b"queue", b"item"]
        assert one.ask("SET", "after", 1) == b"OK"


@pytest.mark.parametrize(
    "command, push, answer",
    [
        (["BRPOP", "q", 0], ["RPUSH", "q", "v"], [b"q", b"v"]),
        (["BLMOVE", "q", "d", "LEFT", "RIGHT", 0], ["RPUSH", "q", "v"], b"v"),
        (["BRPOPLPUSH", "q", "d", 0], ["RPUSH", "q", "v"], b"v"),
        (["BLMPOP", 0, 1, "q", "LEFT"], ["RPUSH", "q", "v"], [b"q", [b"v"]]),
        (["BZPOPMIN", "q", 0], ["ZADD", "q", 1, "v"], [b"q", b"v", b"1"]),
        (["BZPOPMAX", "q", 0], ["ZADD", "q", 1, "v"], [b"q", b"v", b"1"]),
        (["BZMPOP", 0, 1, "q", "MIN"], ["ZADD", "q", 1, "v"], [b"q", [[b"v", b"1"]]]),
        (["XREAD", "BLOCK", 0, "STREAMS", "q", "$"], ["XADD", "q", "5-1", "f", "v"], [[b"q", [[b"5-1", [b"f", b"v"]]]]]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and isinstance(value[0], str) else "",
)  # fmt: skip
def test_each_blocking_command_waits_and_is_answered(cluster, proxy, command, push, answer):
    with proxy.raw() as one, proxy.raw() as two:
        one.command(*command)
        wait_for(lambda: blocked(cluster) == 1, what="the command to block")
        two.ask(*push)
        assert one.read() == answer


def test_pop_that_times_out_answers_nil_and_the_client_goes_on(proxy):
    with proxy.raw() as link:
        link.send(encode("BLPOP", "nothing", "0.1") + encode("PING") + encode("XREAD", "BLOCK", 50, "STREAMS", "x", "$"))
        assert [link.read() for _ in range(3)] == [None, b"PONG", None]


def test_blocked_client_that_leaves_loses_no_item(cluster, proxy):
    for _ in range(5):
        with proxy.raw() as link:
            link.command("BLPOP", "queue", 0)
            wait_for(lambda: blocked(cluster) == 1, what="the pop to block")
        wait_for(lambda: blocked(cluster) == 0, what="the pop to be given up")
    with proxy.client() as client:
        assert client.rpush("queue", "item") == 1
    with cluster.master.client() as client:
        assert client.llen("queue") == 1


def test_commands_behind_a_blocked_one_wait_and_are_answered_in_order(cluster, proxy):
    with proxy.raw() as one, proxy.raw() as two:
        one.send(encode("SET", "a", 1) + encode("BLPOP", "queue", 0) + encode("INCR", "a") + encode("PING"))
        one.send(encode("MULTI") + encode("INCR", "a") + encode("EXEC") + encode("ECHO", "end"))
        assert one.read() == b"OK"
        wait_for(lambda: blocked(cluster) == 1, what="the pop to block")
        assert one.is_silent()
        two.ask("RPUSH", "queue", "item")
        assert [one.read() for _ in range(7)] == [[b"queue", b"item"], 2, b"PONG", b"OK", b"QUEUED", [3], b"end"]


def test_blocked_clients_delay_nobody(cluster, processes):
    pointsman = processes(Pointsman(cluster, proxy_threads=1))
    links = [pointsman.raw() for _ in range(30)]
    try:
        for link in links:
            link.command("BLPOP", "queue", 0)
        wait_for(lambda: blocked(cluster) == 30, what="all to block")
        with pointsman.client() as client:
            for number in range(100):
                assert client.set("other", number)
            assert client.rpush("queue", *range(30)) == 30
        assert sorted(int(link.read()[1]) for link in links) == list(range(30))
    finally:
        for link in links:
            link.close()


def test_wait_counts_the_replicas_that_have_this_clients_writes(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    with pointsman.raw() as link:
        assert link.ask("SET", "a", 1) == b"OK"
        assert link.ask("WAIT", 2, 2000) == 2
        replica = own_cluster.replicas[0]
        replica.pause()
        try:
            for turn in range(3):
                assert link.ask("SET", "a", turn) == b"OK"
                assert link.ask("WAIT", 2, 200) == 1
        finally:
            replica.resume()
        assert link.ask("WAIT", 2, 5000) == 2
        link.send(encode("SET", "a", 3) + encode("WAIT", 1, 1000))
        assert link.read() == b"OK" and link.read() >= 1


def test_messages_reach_subscribers_and_the_publisher_is_told_how_many(proxy):
    with proxy.raw() as one, proxy.raw() as two, proxy.raw() as publisher:
        one.command("SUBSCRIBE", "news", "weather")
        assert [one.read(), one.read()] == [[b"subscribe", b"news", 1], [b"subscribe", b"weather", 2]]
        assert two.ask("PSUBSCRIBE", "n*") == [b"psubscribe", b"n*", 1]
        assert publisher.ask("PUBLISH", "news", "hello") == 2
        assert one.read() == [b"message", b"news", b"hello"]
        assert two.read() == [b"pmessage", b"n*", b"news", b"hello"]
        publisher.send(encode("PUBLISH", "weather", "rain") * 200)
        assert [publisher.read() for _ in range(200)] == [1] * 200
        assert [one.read() for _ in range(200)] == [[b"message", b"weather", b"rain"]] * 200


SUBSCRIBED = {
    "ping": ["SUBSCRIBE c", "PING", "PING x", "UNSUBSCRIBE c", "PING"],
    "refused_commands": ["SUBSCRIBE c", "GET a", "SET a 1", "MULTI", "NOSUCH", "ECHO x", "UNSUBSCRIBE c", "ECHO x"],
    "unsubscribe_of_nothing": ["UNSUBSCRIBE", "PUNSUBSCRIBE x", "UNSUBSCRIBE a b", "SET a 1"],
    "patterns_and_channels": ["SUBSCRIBE a", "PSUBSCRIBE b*", "UNSUBSCRIBE a", "PUNSUBSCRIBE b*", "SET a 1"],
    "twice": ["SUBSCRIBE a a", "SUBSCRIBE a", "UNSUBSCRIBE a", "SET a 1"],
    "reset": ["SUBSCRIBE a", "RESET", "SET a 1"],
    "quit": ["SUBSCRIBE a", "QUIT"],
    "sharded": ["SSUBSCRIBE a", "SUNSUBSCRIBE a", "SET a 1"],
    "select_before": ["SELECT 3", "SUBSCRIBE a", "UNSUBSCRIBE a", "SET only:here 1", "SELECT 0", "EXISTS only:here"],
}


@pytest.mark.parametrize("commands", list(SUBSCRIBED.values()), ids=list(SUBSCRIBED))
def test_subscriptions_begin_and_end_as_on_a_plain_server(cluster, direct, proxy, commands):
    assert talk(proxy.port, script(commands)) == talk(direct.port, script(commands))


def test_messages_and_replies_of_one_subscriber_do_not_mix(proxy):
    with proxy.raw() as one, proxy.client() as publisher:
        assert one.ask("SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
        for number in range(50):
            publisher.publish("c", number)
            one.command("SUBSCRIBE", f"d{number}")
        got = [one.read() for _ in range(100)]
        assert [m[2] for m in got if m[0] == b"message"] == [b"%d" % n for n in range(50)]
        assert [m[1] for m in got if m[0] == b"subscribe"] == [b"d%d" % n for n in range(50)]


def test_monitor_shows_what_reaches_the_master(proxy):
    with proxy.raw() as watcher, proxy.client() as client:
        assert watcher.ask("MONITOR") == b"OK"
        client.set("monitored", "yes")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            line = watcher.read()
            if line.endswith(b'"SET" "monitored" "yes"'):
                return
        raise AssertionError("the write was not shown")


def test_pool_is_bounded_and_the_one_too_many_waits_and_then_fails_clearly(cluster, processes):
    pointsman = processes(Pointsman(cluster, pool_dedicated_connections=2, pool_wait="2s"))
    with pointsman.raw() as one, pointsman.raw() as two, pointsman.raw() as three:
        for link in (one, two):
            link.command("BLPOP", "queue", 0)
        wait_for(lambda: blocked(cluster) == 2, what="two to block")
        start = time.monotonic()
        assert three.ask("BLPOP", "queue", 0) == POOL_EMPTY
        assert time.monotonic() - start > 1.5
        assert three.ask("SET", "shared", 1) == b"OK"
        three.command("BLPOP", "queue", 0)
        assert three.is_silent(0.1)
        with pointsman.client() as client:
            client.rpush("queue", "x", "y")
        assert one.read() and two.read()
        wait_for(lambda: blocked(cluster) == 1, what="the third to get its turn")
        assert three.is_silent(0.1)
        with pointsman.client() as client:
            client.rpush("queue", "z")
        assert three.read() == [b"queue", b"z"]


def test_pool_bounds_all_threads_together(cluster, processes):
    pointsman = processes(
        Pointsman(cluster, proxy_threads=2, pool_dedicated_connections=3, pool_wait="20s")
    )
    links = [pointsman.raw(timeout=30) for _ in range(12)]
    try:
        for link in links:
            link.command("BLPOP", "queue", 0)
        wait_for(lambda: blocked(cluster) == 3, what="three to block")
        time.sleep(0.3)
        assert blocked(cluster) == 3
        with cluster.master.client() as client:
            client.rpush("queue", *range(12))
        assert sorted(int(link.read()[1]) for link in links) == list(range(12))
    finally:
        for link in links:
            link.close()


def test_thousand_transactions_use_few_connections(cluster, proxy):
    before = cluster.master.connections_received()

    def work(number):
        with proxy.raw(timeout=30) as link:
            for _ in range(50):
                link.send(encode("MULTI") + encode("INCR", f"t:{number}") + encode("EXEC"))
                assert [link.read(), link.read()] == [b"OK", b"QUEUED"]
                assert len(link.read()) == 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with cluster.master.client() as client:
        assert [client.get(f"t:{number}") for number in range(20)] == [b"50"] * 20
    assert cluster.master.connections_received() - before < 60


def test_five_hundred_subscriptions_leave_no_connection_behind(cluster, proxy):
    def cycle(count):
        for number in range(count):
            with proxy.raw() as link:
                assert link.ask("SUBSCRIBE", "c")[0] == b"subscribe"
                if number % 2:
                    assert link.ask("UNSUBSCRIBE", "c")[0] == b"unsubscribe"
                if number % 3:
                    link.ask("QUIT")

    cycle(10)
    time.sleep(0.3)
    connections, descriptors = cluster.master.connected_clients(), proxy.descriptors()
    cycle(500)
    wait_for(lambda: cluster.master.connected_clients() <= connections + 2, what="connections to be at baseline")
    wait_for(lambda: proxy.descriptors() <= descriptors + 2, what="descriptors to be at baseline")
    with cluster.master.client() as client:
        assert client.pubsub_numsub("c") == [(b"c", 0)]


@pytest.mark.parametrize("database", [0, 9])
def test_script_that_runs_long_can_be_killed_over_another_connection(processes, database):
    """Also over one that was last used in another database: a busy node refuses SELECT."""
    server = processes(Server("alone", settings={"busy-reply-threshold": 100})).ready()
    pointsman = processes(Pointsman(server.address, proxy_threads=1))
    with pointsman.raw(timeout=30) as one, pointsman.raw(timeout=30) as two:
        one.ask("SELECT", database)
        assert one.ask("BLPOP", "nothing", "0.01") is None
        one.command("EVAL", "while true do end", 0)
        with server.raw() as asking:
            wait_for(lambda: (asking.ask("GET", "a") or b"").startswith(b"BUSY"), what="the script to be found busy")
        two.command("SCRIPT", "KILL")
        done = two.read()
        if done != b"OK":
            with server.client() as client:
                client.execute_command("SCRIPT", "KILL")
        assert done == b"OK"
        assert b"Script killed by user" in one.read()


def test_transaction_cut_short_by_a_lost_master_begins_again_when_there_is_one(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address))
    with pointsman.raw(timeout=30) as link:
        for next_command in ("EXEC", "INCR", "DISCARD"):
            link.send(encode("SET", "a", 0) + encode("MULTI") + encode("INCR", "a"))
            assert [link.read() for _ in range(3)] == [b"OK", b"OK", b"QUEUED"]
            server.restart()
            if next_command == "DISCARD":
                assert link.ask("DISCARD") == b"OK"
                wait_for(pointsman.writes, 10, "writes to pass again")
                assert link.ask("GET", "a") is None
                continue
            if next_command == "INCR":
                assert link.ask("INCR", "a") == b"QUEUED"
            assert link.ask("EXEC") == ([1, 2] if next_command == "INCR" else [1])
            assert link.ask("INCR", "a") == (3 if next_command == "INCR" else 2)


def test_connection_on_which_a_transaction_that_began_again_has_left_traces_is_not_lent_again(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address))
    flags = lambda: [client["flags"] for client in past.client_list()]
    with pointsman.raw(timeout=30) as link, server.client() as past:
        assert [link.ask(*words) for words in [("MULTI",), ("CLIENT", "NO-EVICT", "ON")]] == [b"OK", b"QUEUED"]
        past.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert link.ask("INCR", "a") == b"QUEUED"
        assert link.ask("EXEC") == [b"OK", 1]
        wait_for(lambda: not any("e" in each for each in flags()), 5, "the connection to be closed")
        assert link.ask("INCR", "a") == 2


@pytest.mark.parametrize("why", ["watched", "long", "unknown script"])
def test_transaction_cut_short_that_cannot_begin_again_is_reported_as_not_executed(processes, why):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address))
    with server.client() as past:
        sha = past.script_load("return redis.call('SET', 'a', 1)")
    commands = {"watched": ("SET", "a", 1), "long": ("SET", "a", "x" * 1_100_000), "unknown script": ("EVALSHA", sha, 0)}
    with pointsman.raw(timeout=30) as link:
        if why == "watched":
            assert link.ask("WATCH", "a") == b"OK"
        assert link.ask("MULTI") == b"OK"
        assert link.ask(*commands[why]) == b"QUEUED"
        server.restart()
        assert link.ask("EXEC").startswith(b"EXECABORT")
        wait_for(pointsman.writes, 10, "writes to pass again")
        assert link.ask("GET", "a") is None
        assert link.ask("SET", "a", 2) == b"OK"


@pytest.mark.parametrize("end, answer", [("EXEC", b"EXECABORT"), ("DISCARD", b"OK")])
def test_what_ends_a_lost_transaction_is_answered_alike_if_it_was_sent_before_that(processes, end, answer):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address))
    with pointsman.raw(timeout=30) as link:
        assert link.ask("MULTI") == b"OK"
        server.pause()
        link.send(encode("SET", "a", b"x" * 30_000_000) + encode(end) + encode("PING"))
        time.sleep(0.3)  # so much is not taken by a node that is stopped
        server.kill()
        assert link.read().startswith(b"ERR pointsman: no connection to master for this transaction")
        assert link.read().split()[0] == answer
        server.start().ready()
        assert link.read() == b"PONG"


def test_nothing_that_changes_nothing_is_told_to_be_an_unknown_write(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address))
    with pointsman.raw(timeout=30) as one, pointsman.raw(timeout=30) as two, pointsman.raw(timeout=30) as other:
        assert [one.ask(*words) for words in (("MULTI",), ("GET", "a"), ("PING",))] == [b"OK", b"QUEUED", b"QUEUED"]
        assert two.ask("WATCH", "a") == b"OK"
        assert [other.ask("MULTI"), other.ask("CONFIG", "SET", "slowlog-max-len", 100)] == [b"OK", b"QUEUED"]
        server.pause()
        one.command("EXEC")
        other.command("EXEC")
        two.command("UNWATCH")
        time.sleep(0.3)
        server.kill()
        assert one.read() == b"EXECABORT Transaction discarded because of previous errors."
        assert two.read() == b"OK"
        assert other.read().endswith(b"outcome unknown")
        server.start().ready()
        for link in (one, two):
            assert link.ask("SET", "a", 1) == b"OK"
            assert [link.ask("MULTI"), link.ask("GET", "a"), link.ask("EXEC")] == [b"OK", b"QUEUED", [b"1"]]


def test_who_waits_for_a_connection_is_told_when_the_proxy_ends(processes):
    server = processes(Server("alone")).ready()
    settings = {"pool_dedicated_connections": 1, "pool_wait": "60s", "proxy_drain_time": "500ms", "proxy_threads": 1}
    pointsman = processes(Pointsman(server.address, **settings))
    with pointsman.raw(timeout=30) as one, pointsman.raw(timeout=30) as two:
        assert [one.ask("MULTI"), one.ask("SET", "a", 1)] == [b"OK", b"QUEUED"]
        two.command("MULTI")
        time.sleep(0.3)
        pointsman.signal(signal.SIGTERM)
        assert two.read() == b"ERR pointsman: shutting down; not executed"


def test_pop_cut_short_by_a_lost_master_ends_with_an_error_and_the_client_stays(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address))
    with pointsman.raw(timeout=30) as link:
        link.command("BLPOP", "queue", 0)
        wait_for(lambda: server.info("clients")["blocked_clients"] == 1, what="the pop to block")
        server.restart()
        assert link.read() == b"ERR pointsman: connection to master lost while the command was waiting; outcome unknown"
        wait_for(pointsman.writes, 10, "writes to pass again")
        assert link.ask("PING") == b"PONG"
