# SPDX-License-Identifier: BSD-2-Clause
"""A script that was loaded once can be called by its SHA1 for ever, whichever node is asked."""

import hashlib

import pytest

from harness import Monitor, Pointsman, Replication, Reply, Server, encode, wait_for

NOSCRIPT = b"NOSCRIPT No matching script. Please use EVAL."
ADD = "return redis.call('incrby', KEYS[1], ARGV[1])"
READ = "return redis.call('get', KEYS[1])"


def sha(script):
    return hashlib.sha1(script.encode()).hexdigest()


_numbers = iter(range(1000000))


def fresh(script):
    """The same script under a SHA1 that nothing has seen yet."""
    return f"{script} -- {next(_numbers)}"


@pytest.fixture(scope="module")
def one_thread(pair):
    """So what one client has done is known to the next."""
    pointsman = Pointsman(pair, upstream_kind="static", proxy_threads=1).start()
    pointsman.wait_for_replicas(1)
    yield pointsman
    pointsman.stop()


@pytest.fixture
def steady(one_thread):
    """Has heard of what the test before has done to the nodes."""
    with one_thread.raw() as link:
        wait_until_written(link)
    return one_thread


def switch(pair, *links):
    """The replica becomes the master by hand, and the master its replica; the clients' threads write to it then."""
    old = pair.master
    pair.wait_synced()
    new = next(server for server in pair.servers if server is not old)
    new.replicaof(None)
    old.replicaof(new)
    wait_for(old.link_is_up, what="the old master to follow")
    for link in links:
        wait_until_written(link)
    return new


def wait_until_written(link):
    wait_for(lambda: link.ask("SET", "written", 1) == b"OK", what="a write to the master")


def flush_behind_the_proxys_back(*servers):
    for server in servers:
        with server.client() as client:
            client.script_flush()


def exists(server, script):
    with server.client() as client:
        return client.script_exists(sha(script))[0]


# ----------------------------------------------------------------------------------------- another master


@pytest.mark.parametrize("how", ["LOAD", "EVAL"])
def test_script_is_there_on_the_new_master_alone_and_in_a_pipeline(pair, steady, how):
    alone, piped = fresh(ADD), fresh(ADD)
    with steady.raw() as link:
        for script in (alone, piped):
            if how == "LOAD":
                assert link.ask("SCRIPT", "LOAD", script) == sha(script).encode()
            else:
                assert isinstance(link.ask("EVAL", script, 1, "n", 0), int)
        link.ask("DEL", "n")
        new = switch(pair, link)
        assert not exists(new, alone)
        assert link.ask("EVALSHA", sha(alone), 1, "n", 5) == 5
        call = encode("EVALSHA", sha(piped).upper(), 1, "n", 1)
        link.send(call + encode("SET", "n", 100) + call + encode("GET", "n") + call + encode("DEL", "n"))
        assert [link.read() for _ in range(6)] == [6, b"OK", 101, b"101", 102, 1]
        assert exists(new, piped)


def test_script_is_there_for_a_transaction_on_the_new_master(pair, steady):
    with steady.raw() as link:
        for packets in (1, 5):
            script, other = fresh(ADD), fresh(ADD)
            link.ask("SCRIPT", "LOAD", script)
            link.ask("SCRIPT", "LOAD", other)
            link.ask("DEL", "n")
            switch(pair, link)
            commands = [
                encode("MULTI"), encode("SET", "n", 10), encode("EVALSHA", sha(script), 1, "n", 1),
                encode("EVALSHA", sha(other), 1, "n", 1), encode("EVALSHA", sha(script), 1, "n", 1), encode("EXEC"),
            ]  # fmt: skip
            replies = []
            if packets == 1:
                link.send(b"".join(commands))
                replies = [link.read() for _ in commands]
            else:
                for command in commands:
                    replies.append(link.send(command).read())
            assert replies == [b"OK"] + [b"QUEUED"] * 4 + [[b"OK", 11, 12, 13]]


def test_script_is_there_while_a_client_watches(pair, steady):
    script = fresh(ADD)
    with steady.raw() as link:
        link.ask("SCRIPT", "LOAD", script)
        link.ask("DEL", "n")
        switch(pair, link)
        link.send(encode("WATCH", "n") + encode("EVALSHA", sha(script), 1, "other", 1) + encode("MULTI"))
        link.send(encode("EVALSHA", sha(script), 1, "n", 1) + encode("EXEC") + encode("DEL", "n", "other"))
        assert [link.read() for _ in range(6)] == [b"OK", 1, b"OK", b"QUEUED", [1], 2]


def test_script_is_there_after_a_restart_of_the_only_master(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, upstream_kind="static"))
    script, other = fresh(ADD), fresh(ADD)
    with pointsman.client() as client, pointsman.raw() as link:
        assert client.script_load(script) == sha(script)
        assert client.evalsha(sha(script), 1, "n", 1) == 1
        client.eval(other, 1, "n", 1)
        server.restart()
        assert link.ask("EVALSHA", sha(script), 1, "n", 1) == 1
        link.send(encode("EVALSHA", sha(other), 1, "n", 1) + encode("EVALSHA", sha(script), 1, "n", 1))
        assert [link.read(), link.read()] == [2, 3]


def test_script_that_one_client_has_loaded_is_there_for_clients_of_other_threads(processes, pair):
    pointsman = processes(Pointsman(pair, upstream_kind="static", proxy_threads=2))
    script = fresh(ADD)
    with pointsman.client() as client:
        client.delete("n")
        client.script_load(script)
    links = [pointsman.raw() for _ in range(12)]
    switch(pair, *links)
    for turn in range(2):
        for link in links:
            link.command("EVALSHA", sha(script), 1, "n", 1)
        assert sorted(link.read() for link in links) == list(range(turn * 12 + 1, turn * 12 + 13))
    for link in links:
        link.close()


# ------------------------------------------------------------------------------------------------ replicas


def test_read_only_scripts_with_keys_are_served_by_replicas(pair, steady):
    replica, master = pair.replicas[0], pair.master
    called, evaluated = fresh(READ), fresh(READ)
    with steady.client() as client, steady.raw() as link:
        client.set("n", 7)
        client.script_load(called)
        client.function_load("#!lua name=lib\nredis.register_function{function_name='look', "
                             "callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}",
                             replace=True)  # fmt: skip
        pair.wait_synced()
        steady.wait_fresh()
        with pair.counting() as counts:
            for _ in range(4):
                assert link.ask("EVALSHA_RO", sha(called), 1, "n") == b"7"
                assert link.ask("EVAL_RO", evaluated, 1, "n") == b"7"
                assert link.ask("FCALL_RO", "look", 1, "n") == b"7"
            link.send(encode("EVALSHA_RO", sha(evaluated), 1, "n") + encode("GET", "n"))
            assert [link.read(), link.read()] == [b"7", b"7"]
        assert counts.calls(replica, "evalsha_ro") == 5
        assert counts.calls(replica, "eval_ro") == counts.calls(replica, "fcall_ro") == 4
        assert counts.calls(replica, "script|load") == 2, "a script is loaded once"
        with pair.counting() as counts:
            assert all(isinstance(link.ask(*words), Reply) for words in (
                ["EVALSHA_RO", sha(called), 0], ["EVAL_RO", READ, 0], ["FCALL_RO", "look", 0],
            ))  # fmt: skip
        assert counts.calls(master, "evalsha_ro") == counts.calls(master, "eval_ro") == 1
        assert counts.calls(master, "fcall_ro") == 1


def test_read_only_call_of_a_script_that_only_the_master_has_is_its_business(pair, steady):
    script = fresh(READ)
    with pair.master.client() as direct:
        direct.script_load(script)
    with steady.raw() as link:
        link.ask("SET", "n", 7)
        assert link.ask("EVALSHA_RO", sha(script), 1, "n") == b"7"
        assert link.ask("EVALSHA_RO", "0" * 40, 1, "n") == NOSCRIPT


# ----------------------------------------------------------------------------------------------- NOSCRIPT


def test_scripts_flushed_behind_the_proxys_back_are_loaded_again(pair, steady):
    script, other = fresh(ADD), fresh(READ)
    with steady.raw() as link:
        link.ask("DEL", "n")
        link.ask("SCRIPT", "LOAD", script)
        link.ask("SCRIPT", "LOAD", other)
        assert link.ask("EVALSHA", sha(script), 1, "n", 1) == 1
        flush_behind_the_proxys_back(*pair.servers)
        assert link.ask("EVALSHA", sha(script), 1, "n", 1) == 2
        assert link.ask("EVALSHA_RO", sha(other), 1, "n") == b"2"
        flush_behind_the_proxys_back(*pair.servers)
        link.send(encode("SET", "n", 5) + encode("EVALSHA", sha(script), 1, "n", 1))
        assert [link.read(), link.read()] == [b"OK", 6]


def test_call_is_not_repeated_where_a_later_command_may_have_run_before_it(pair, steady):
    script = fresh(ADD)
    with steady.raw() as link:
        link.ask("DEL", "n")
        link.ask("SCRIPT", "LOAD", script)
        assert link.ask("EVALSHA", sha(script), 1, "n", 1) == 1
        flush_behind_the_proxys_back(pair.master)
        link.send(encode("EVALSHA", sha(script), 1, "n", 1) + encode("SET", "n", 10))
        assert [link.read(), link.read()] == [NOSCRIPT, b"OK"]
        assert link.ask("EVALSHA", sha(script), 1, "n", 1) == 11


def test_script_that_itself_says_noscript_is_not_run_twice(steady):
    script = fresh("redis.call('incr', KEYS[1]) return redis.error_reply('NOSCRIPT of my own')")
    with steady.raw() as link:
        link.ask("DEL", "n")
        link.ask("SCRIPT", "LOAD", script)
        assert b"NOSCRIPT of my own" in link.ask("EVALSHA", sha(script), 1, "n")
        assert link.ask("GET", "n") == b"1"


def test_script_that_says_what_a_full_node_says_runs_once(processes):
    """As the first thing that is asked of the node, when that may well say so itself."""
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, upstream_kind="static"))
    with pointsman.raw(timeout=20) as link:
        words = "ERR max number of clients reached"
        assert link.ask("EVAL", f"redis.call('INCR', KEYS[1]) return redis.error_reply('{words}')", 1, "n") == words.encode()
        assert link.ask("GET", "n") == b"1"


@pytest.mark.parametrize("words", [["FLUSH"], ["FLUSH", "ASYNC"], ["flush", "sync"]])
def test_after_a_flush_scripts_are_gone_as_on_a_plain_server(pair, steady, words):
    script, other = fresh(ADD), fresh(READ)
    with steady.raw() as link:
        link.ask("SCRIPT", "LOAD", script)
        link.ask("EVAL_RO", other, 1, "n")
        assert isinstance(link.ask("EVALSHA", sha(script), 1, "n", 1), int)
        assert link.ask("EVALSHA_RO", sha(other), 1, "n") is not None
        assert link.ask("SCRIPT", *words) == b"OK"
        assert link.ask("EVALSHA", sha(script), 1, "n", 1) == NOSCRIPT
        assert link.ask("EVALSHA_RO", sha(other), 1, "n") == NOSCRIPT
        link.send(encode("EVAL", script, 1, "n", 1) + encode("SCRIPT", *words) + encode("EVALSHA", sha(script), 1, "n", 1))
        assert [isinstance(link.read(), int), link.read(), link.read()] == [True, b"OK", NOSCRIPT]
        link.send(encode("SCRIPT", *words) + encode("EVAL", script, 1, "n", 1) + encode("EVALSHA", sha(script), 1, "n", 1))
        assert link.read() == b"OK" and isinstance(link.read(), int) and isinstance(link.read(), int)


def test_flush_counts_for_clients_of_all_threads(processes, pair):
    pointsman = processes(Pointsman(pair, upstream_kind="static", proxy_threads=2))
    script = fresh(ADD)
    links = [pointsman.raw() for _ in range(8)]
    links[0].ask("SCRIPT", "LOAD", script)
    assert all(isinstance(link.ask("EVALSHA", sha(script), 1, "n", 1), int) for link in links)
    assert links[0].ask("SCRIPT", "FLUSH") == b"OK"
    assert [link.ask("EVALSHA", sha(script), 1, "n", 1) for link in links] == [NOSCRIPT] * 8
    links[0].ask("EVAL", script, 1, "n", 1)
    assert all(isinstance(link.ask("EVALSHA", sha(script), 1, "n", 1), int) for link in links)
    for link in links:
        link.close()


def test_flush_in_a_transaction_counts_when_it_is_carried_out(pair, steady):
    script = fresh(ADD)
    with steady.raw() as link, steady.raw() as other:
        link.ask("SCRIPT", "LOAD", script)
        link.send(encode("MULTI") + encode("SCRIPT", "FLUSH"))
        assert [link.read(), link.read()] == [b"OK", b"QUEUED"]
        assert isinstance(other.ask("EVAL", script, 1, "n", 1), int)
        assert isinstance(other.ask("EVALSHA", sha(script), 1, "n", 1), int)
        assert link.ask("EXEC") == [b"OK"]
        assert other.ask("EVALSHA", sha(script), 1, "n", 1) == NOSCRIPT
        other.ask("SCRIPT", "LOAD", script)
        link.send(encode("MULTI") + encode("SCRIPT", "FLUSH") + encode("DISCARD"))
        assert [link.read() for _ in range(3)] == [b"OK", b"QUEUED", b"OK"]
        assert isinstance(other.ask("EVALSHA", sha(script), 1, "n", 1), int)


def test_script_in_a_transaction_counts_when_it_is_carried_out(pair, steady):
    script, later, loaded = fresh(ADD), fresh(ADD), fresh(ADD)

    def called(script):
        return other.ask("EVALSHA", sha(script), 1, "n", 1)

    with steady.raw() as link, steady.raw() as other:
        for ending in ("DISCARD", "RESET", "NOSUCH", "EXEC"):
            assert [link.ask("MULTI"), link.ask("EVAL", script, 1, "n", 1)] == [b"OK", b"QUEUED"]
            assert [link.ask("SCRIPT", "LOAD", loaded), called(script), called(loaded)] == [b"QUEUED", NOSCRIPT, NOSCRIPT]
            link.ask(ending)
            if ending == "NOSUCH":
                assert link.ask("EXEC").startswith(b"EXECABORT")
            if ending != "EXEC":
                assert [called(script), called(loaded)] == [NOSCRIPT, NOSCRIPT]
        assert isinstance(called(script), int) and isinstance(called(loaded), int)

        assert [link.ask("WATCH", "w"), other.ask("SET", "w", 1), link.ask("MULTI")] == [b"OK"] * 3
        assert [link.ask("EVAL", later, 1, "n", 1), link.ask("EXEC"), called(later)] == [b"QUEUED", None, NOSCRIPT]

        switch(pair, link, other)
        assert isinstance(called(script), int) and isinstance(called(loaded), int)


def test_wrong_calls_are_answered_as_by_a_plain_server(direct, steady):
    script = fresh(ADD)
    commands = [
        ["EVALSHA"], ["EVALSHA", sha(script)], ["EVALSHA", sha(script), "1"], ["EVALSHA", sha(script), "x", "n", "1"],
        ["EVALSHA", sha(script), "-1"], ["EVALSHA", sha(script), "1", "n", "1"], ["EVALSHA", "short", "0"],
        ["EVAL", script, "x"], ["EVALSHA", sha(script), "1", "n", "1"], ["SCRIPT", "LOAD"], ["SCRIPT", "FLUSH", "NOW"],
        ["SCRIPT", "LOAD", "broken("], ["EVALSHA", sha("broken("), "0"], ["EVALSHA", sha("broken("), "0"],
        ["EVAL", "broken(", "0"], ["EVALSHA", sha("broken("), "0"], ["SCRIPT", "EXISTS", sha(script), sha("broken(")],
        ["EVAL_RO", script, "1", "n", "1"], ["EVALSHA_RO", sha("x"), "1", "n"], ["SCRIPT", "KILL"],
    ]  # fmt: skip
    with steady.raw() as link, direct.raw() as plain:
        for command in commands:
            assert link.command(*command).read_bytes() == plain.command(*command).read_bytes(), command


# ---------------------------------------------------------------------------------------------- busy nodes


def is_busy(direct):
    return direct.ask("PING") != b"PONG"


def test_script_that_keeps_a_replica_busy_stays_there_can_be_killed_and_stops_nobody(processes):
    pair = processes(Replication(replicas=1, sentinels=0, settings={"busy-reply-threshold": "100"}))
    pointsman = processes(Pointsman(pair, upstream_kind="static", pool_health_interval="200ms"))
    pointsman.wait_for_replicas(1)
    with pointsman.client() as client, pointsman.raw() as busy, pointsman.raw() as killer, \
            pair.replicas[0].raw() as direct:  # fmt: skip
        client.set("n", 7)
        pair.wait_synced()
        pointsman.wait_fresh()
        busy.command("EVAL_RO", "while true do end", 1, "n")
        wait_for(lambda: is_busy(direct), what="the replica to be busy")
        wait_for(lambda: client.get("n") == b"7", what="reads to go elsewhere")
        for _ in range(20):
            assert client.get("n") == b"7"
        assert busy.is_silent(2)
        wait_for(lambda: killer.ask("SCRIPT", "KILL") == b"OK", what="the script to be killed")
        assert b"Script killed by user" in busy.read()
        assert killer.ask("SET", "n", 8) == b"OK"
        assert "eval_ro" not in pair.master.commandstats()
        pointsman.wait_for_replicas(1)


@pytest.mark.parametrize("sentinels", [0, 3])
def test_master_that_a_script_keeps_busy_stays_the_master_and_is_reached_by_script_kill(processes, sentinels):
    patience = ["sentinel down-after-milliseconds %s 60000"]  # else Sentinel kills the script itself
    pair = processes(Replication(replicas=1, sentinels=sentinels, settings={"busy-reply-threshold": "100"},
                                 sentinel_settings=patience))  # fmt: skip
    pointsman = processes(Pointsman(pair, pool_health_interval="200ms"))
    with pointsman.raw() as busy, pointsman.raw() as killer, pair.master.raw() as direct:
        busy.command("EVAL", "while true do end", 1, "n")
        wait_for(lambda: is_busy(direct), what="the master to be busy")
        assert busy.is_silent(1), "the proxy has asked it meanwhile and thinks none the worse of it"
        assert killer.ask("SCRIPT", "KILL") == b"OK"
        assert b"Script killed by user" in busy.read()
        assert busy.ask("SET", "n", 1) == b"OK"


@pytest.mark.parametrize("before", [("PING",), ("SET", "n", 1)])
def test_script_that_keeps_a_lone_master_busy_keeps_nobody_waiting(processes, before):
    server = processes(Server("alone", settings={"busy-reply-threshold": "100"})).ready()
    pointsman = processes(Pointsman(server.address, upstream_kind="static", proxy_threads=1))
    with pointsman.raw() as busy, pointsman.raw() as other, pointsman.raw() as far, pointsman.raw() as killer:
        assert other.ask("SET", "n", 1) == b"OK"
        assert far.ask("SELECT", 5) == b"OK"
        busy.send(encode(*before) + encode("EVAL", "while true do end", 1, "n"))
        for link, command in [(other, ("GET", "n")), (other, ("SET", "n", 2)), (far, ("GET", "n"))]:
            wait_for(lambda link=link, command=command: b"BUSY Redis is busy" in (link.ask(*command) or b""),
                     what=f"{command} to be answered BUSY")  # fmt: skip
        assert killer.ask("SCRIPT", "KILL") == b"OK"
        busy.read()
        assert b"Script killed by user" in busy.read()
        assert other.ask("SET", "n", 3) == b"OK"


# ------------------------------------------------------------------------------------------------ the rest


def test_script_that_was_to_be_debugged_does_not_run_for_good_instead(pair, steady):
    refusal = b"ERR pointsman: debugging of scripts through the proxy is not supported"
    with steady.raw() as link, pair.master.raw() as direct:
        assert link.ask("SCRIPT", "DEBUG", "YES") == refusal
        assert link.ask("SCRIPT", "DEBUG", "sync") == refusal
        for command in [("SCRIPT", "DEBUG", "no"), ("SCRIPT", "DEBUG", "maybe"), ("SCRIPT", "DEBUG")]:
            assert link.command(*command).read_bytes() == direct.command(*command).read_bytes(), command


def test_script_in_steady_use_is_loaded_once_for_a_node(pair, steady):
    script = fresh(ADD)
    with steady.raw() as link:
        link.ask("SCRIPT", "LOAD", script)
        switch(pair, link)
        link.ask("SET", "n", 0)
        with pair.counting() as counts:
            for _ in range(3):
                link.send(encode("EVALSHA", sha(script), 1, "n", 1) * 20)
                assert all(isinstance(link.read(), int) for _ in range(20))
        assert counts.calls(pair.master, "script|load") == 1
        assert counts.calls(pair.master, "evalsha") == 60


def test_number_of_scripts_kept_is_bounded_and_those_in_use_stay(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, upstream_kind="static"))
    used, unused = fresh("return 'used'"), fresh("return 'unused'")
    large = "return 'large' --" + "x" * (128 * 1024)
    with pointsman.raw() as link:
        link.ask("SCRIPT", "LOAD", used)
        link.ask("EVAL", unused, 0)
        assert link.ask("EVAL", large, 0) == b"large"
        assert link.ask("EVALSHA", sha(large), 0) == b"large", "the node has it"
        for start in range(0, 3000, 500):
            link.send(b"".join(encode("EVAL", f"return {number}", 0) for number in range(start, start + 500)))
            assert [link.read() for _ in range(500)] == list(range(start, start + 500))
        server.restart()
        assert link.ask("EVALSHA", sha("return 2999"), 0) == 2999
        assert link.ask("EVALSHA", sha(used), 0) == b"used"
        assert link.ask("EVALSHA", sha(unused), 0) == NOSCRIPT
        assert link.ask("EVALSHA", sha(large), 0) == NOSCRIPT


def test_registered_script_of_a_client_library_lives_through_a_failover(pair, steady):
    with steady.client() as client:
        add = client.register_script(fresh(ADD))
        client.delete("n")
        assert add(keys=["n"], args=[2]) == 2
        with Monitor(pair.master) as monitor:
            pipeline = client.pipeline(transaction=True)
            add(keys=["n"], args=[3], client=pipeline)
            assert pipeline.execute() == [5]
            assert not monitor.commands("eval")
        with steady.raw() as link:
            switch(pair, link)
        assert add(keys=["n"], args=[4]) == 9
        pipeline = client.pipeline(transaction=False)
        add(keys=["n"], args=[1], client=pipeline)
        pipeline.get("n")
        assert pipeline.execute() == [10, b"10"]
