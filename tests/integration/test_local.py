# SPDX-License-Identifier: BSD-2-Clause
"""What pointsman answers itself is, byte for byte, what a plain Redis answers."""

import re
import threading

import pytest

from harness import HOST, Pointsman, Replication, Server, encode, talk


def script(*commands):
    return b"".join(encode(*command.split(" ")) for command in commands)


SAME = {
    "ping": ["PING", "PING hello", "ping"],
    "echo": ["ECHO x", "ECHO " + "y" * 5000],
    "select": ["SELECT 0", "SELECT 15", "SELECT 16", "SELECT -1", "SELECT abc", "SELECT 99999999999999999999"],
    "reset": ["RESET", "SELECT 3", "RESET", "PING"],
    "auth_without_a_password_set": ["AUTH secret", "AUTH default secret", "AUTH nobody secret"],
    "hello_bad_version": ["HELLO 1", "HELLO 4", "HELLO abc", "HELLO 99999999999999999999"],
    "hello_bad_options": ["HELLO 2 NOSUCH", "HELLO 2 AUTH default", "HELLO 2 SETNAME", "HELLO 2 AUTH nobody secret"],
    "client_names": [
        "CLIENT GETNAME", "CLIENT SETNAME worker-1", "CLIENT GETNAME", "CLIENT SETNAME ", "CLIENT GETNAME",
        "CLIENT SETNAME a\nb", "CLIENT SETNAME \x7f\xff",
    ],
    "client_name_ends_with_reset": ["CLIENT SETNAME worker-1", "RESET", "CLIENT GETNAME"],
    "client_no_evict": ["CLIENT NO-EVICT on", "CLIENT NO-EVICT off", "CLIENT NO-EVICT maybe", "CLIENT NO-EVICT"],
    "client_arity": ["CLIENT", "CLIENT ID x", "CLIENT GETNAME x", "CLIENT SETNAME", "CLIENT INFO x"],
    "command_count": ["COMMAND COUNT", "COMMAND COUNT x"],
    "command_getkeys": [
        "COMMAND GETKEYS MSET a 1 b 2", "COMMAND GETKEYS EVAL x 2 k1 k2 a", "COMMAND GETKEYS PING",
        "COMMAND GETKEYS NOSUCH a", "COMMAND GETKEYS SORT a STORE b", "COMMAND GETKEYS XREAD STREAMS a b 0 0",
        "COMMAND GETKEYS GET", "COMMAND GETKEYS ZUNIONSTORE d 2 a b",
    ],
    "command_getkeysandflags": ["COMMAND GETKEYSANDFLAGS SET a 1"],
    "command_docs": ["COMMAND DOCS NOSUCH"],
    "cluster": ["CLUSTER INFO", "CLUSTER SLOTS", "CLUSTER NODES", "READONLY", "READWRITE", "ASKING"],
    "sentinel": ["SENTINEL MASTERS"],
}  # fmt: skip


@pytest.mark.parametrize("commands", list(SAME.values()), ids=list(SAME))
def test_answer_is_byte_for_byte_that_of_a_plain_server(direct, proxy, commands):
    data = script(*commands)
    assert talk(proxy.port, data) == talk(direct.port, data)


@pytest.mark.parametrize("data", [encode("QUIT"), encode("QUIT") + encode("SET", "after:quit", 1), b"PING\r\nQUIT\r\n"])
def test_quit_is_answered_and_closes_and_nothing_behind_it_is_run(cluster, direct, proxy, data):
    assert talk(proxy.port, data, end=None) == talk(direct.port, data, end=None)
    with cluster.master.client() as client:
        assert not client.exists("after:quit")


def test_hello_2_answers_as_a_plain_master(direct, proxy):
    def hello(node, *options):
        with node.raw() as link:
            flat = link.ask("HELLO", *options)
        pairs = dict(zip(flat[::2], flat[1::2]))
        assert isinstance(pairs.pop(b"id"), int)
        return pairs

    for options in ([], ["2"], ["2", "SETNAME", "worker"]):
        assert hello(proxy, *options) == hello(direct, *options)


def test_hello_sets_the_name(proxy):
    with proxy.raw() as link:
        link.ask("HELLO", 2, "SETNAME", "worker")
        assert link.ask("CLIENT", "GETNAME") == b"worker"


def test_handshake_may_be_one_packet(proxy):
    with proxy.raw() as link:
        link.send(script("HELLO 2", "CLIENT SETINFO LIB-NAME redis-py", "CLIENT SETNAME w", "SELECT 4", "SET hs 1"))
        link.send(script("GET hs", "CLIENT GETNAME"))
        assert link.read()[0] == b"server"
        assert [link.read() for _ in range(6)] == [b"OK", b"OK", b"OK", b"OK", b"1", b"w"]


def test_client_id_is_of_the_connection_and_its_own(proxy):
    with proxy.raw() as one, proxy.raw() as two:
        first, second = one.ask("CLIENT", "ID"), two.ask("CLIENT", "ID")
        assert first > 0 and second > 0 and first != second
        assert one.ask("CLIENT", "ID") == first


def test_client_info_and_list_speak_of_the_clients_of_pointsman(proxy):
    with proxy.raw() as one, proxy.raw() as two:
        for link, name in ((one, "first"), (two, "second")):
            link.ask("CLIENT", "SETNAME", name)
        one.ask("SELECT", 5)
        info = fields(one.ask("CLIENT", "INFO"))
        assert info["addr"] == "%s:%d" % one.socket.getsockname()
        assert info["laddr"] == f"{HOST}:{proxy.port}"
        assert (info["id"], info["name"], info["db"]) == (str(one.ask("CLIENT", "ID")), "first", "5")
        names = {fields(line)["name"] for line in one.ask("CLIENT", "LIST").splitlines()}
        assert {"first", "second"} <= names


def fields(line):
    return dict(pair.split("=", 1) for pair in line.decode().split())


def test_client_info_has_the_fields_of_redis(direct, proxy):
    with direct.raw() as plain, proxy.raw() as link:
        expected, got = fields(plain.ask("CLIENT", "INFO")), fields(link.ask("CLIENT", "INFO"))
    assert [name for name in got if not name.startswith("lib-")] == list(expected)  # lib-* came with Redis 7.2


def test_command_describes_what_the_server_has(direct, proxy):
    with direct.raw() as plain, proxy.raw() as link:
        names = lambda rows: sorted(row[0] for row in rows)
        assert names(link.ask("COMMAND")) == names(plain.ask("COMMAND"))
        assert sorted(link.ask("COMMAND", "LIST")) == sorted(plain.ask("COMMAND", "LIST"))
        for words in (["INFO", "GET"], ["INFO", "nosuch"], ["INFO", "mset", "ZUNIONSTORE", "eval"], ["DOCS", "get"]):
            assert link.ask("COMMAND", *words) == plain.ask("COMMAND", *words), words


def test_role_and_info_are_those_of_a_plain_master(cluster, direct, proxy):
    with proxy.raw() as link, direct.raw() as plain:
        role = link.ask("ROLE")
        info = link.ask("INFO").decode()
        everything = link.ask("INFO", "everything").decode()
        replication = link.ask("INFO", "replication").decode()
        plain_keys = re.findall(r"^(\w+):", plain.ask("INFO", "replication").decode(), re.M)
    assert role[0] == b"master" and isinstance(role[1], int)
    for text in (info, everything, replication):
        assert "\r\nrole:master\r\n" in text
        assert not re.search(r"^slave\d+:", text, re.M)
        assert not any(f"port={server.port}" in text for server in cluster.replicas)
    for text in (info, everything):
        assert "\r\ncluster_enabled:0\r\n" in text
        assert f"redis_version:{cluster.master.info('server')['redis_version']}" in text
        assert "\r\nloading:0\r\n" in text
    assert re.findall(r"^(\w+):", replication, re.M) == plain_keys
    assert "# Replication" in replication and "# Server" not in replication


PASSWORD = "correct horse"

BEFORE_AUTH = {
    "nothing_but_auth": ["GET k", "PING", "ECHO x", "SELECT 1", "CLIENT ID", "COMMAND COUNT", "MULTI", "NOSUCH x"],
    "wrong": ["AUTH wrong", "AUTH default wrong", "AUTH nobody x", "PING"],
    "arity": ["AUTH", "AUTH a b c", "GET"],
    "hello": ["HELLO", "HELLO 2", "HELLO 2 AUTH default wrong", "HELLO 4"],
    "reset": ["RESET", "PING"],
}


@pytest.fixture(scope="module")
def locked():
    """A plain server and a pointsman that ask for the same password."""
    plain = Server("locked", settings={"requirepass": f'"{PASSWORD}"'}).start().ready()
    cluster = Replication(replicas=0, sentinels=0).start()
    pointsman = Pointsman(cluster, proxy_password=PASSWORD).start()
    yield plain, pointsman
    pointsman.stop()
    cluster.stop()
    plain.kill()


@pytest.mark.parametrize("commands", list(BEFORE_AUTH.values()), ids=list(BEFORE_AUTH))
def test_before_auth_the_answers_are_those_of_a_plain_server(locked, commands):
    plain, pointsman = locked
    data = script(*commands) + encode("QUIT")
    assert talk(pointsman.port, data, end=None) == talk(plain.port, data, end=None)


@pytest.mark.parametrize(
    "handshake",
    [
        encode("AUTH", PASSWORD),
        encode("AUTH", "default", PASSWORD),
        encode("AUTH", "wrong") + encode("AUTH", PASSWORD),
    ],
)
def test_after_auth_commands_pass_and_reset_asks_for_it_again(locked, handshake):
    plain, pointsman = locked
    data = handshake + script("SET k v", "GET k", "RESET", "GET k", "QUIT")
    assert talk(pointsman.port, data, end=None) == talk(plain.port, data, end=None)


def test_hello_with_auth_opens_the_door(locked):
    with locked[1].raw(log_in=False) as link:
        assert link.ask("HELLO", 2, "AUTH", "default", PASSWORD)[0] == b"server"
        assert link.ask("SET", "k", "v") == b"OK"


@pytest.mark.parametrize("data", [b"*11\r\n", b"*2\r\n$4\r\nAUTH\r\n$16385\r\n"], ids=["words", "bytes"])
def test_before_auth_big_commands_are_refused_in_the_words_of_redis(locked, data):
    plain, pointsman = locked
    assert talk(pointsman.port, data, end=None) == talk(plain.port, data, end=None)


def test_database_of_a_client_never_leaks_to_another(cluster, proxy):
    with cluster.master.client() as client:
        client.flushall()
    clients, rounds, wrong = 64, 30, []

    def work(number):
        database = number % 16
        with proxy.raw(timeout=30) as link:
            link.ask("SELECT", database)
            for turn in range(rounds):
                link.send(script(f"SET c:{number}:{turn} {database}", f"INCR in:{database}"))
                if turn % 10 == 5:  # away and back in one packet
                    link.send(script(f"SELECT {(database + 1) % 16}", f"INCR visits:{number}", f"SELECT {database}"))
                    replies = [link.read() for _ in range(5)]
                else:
                    replies = [link.read() for _ in range(2)]
                if replies[0] != b"OK" or not isinstance(replies[1], int):
                    wrong.append((number, replies))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for database in range(16):
        with cluster.master.client(db=database) as client:
            here = [number for number in range(clients) if number % 16 == database]
            visitors = [number for number in range(clients) if (number + 1) % 16 == database]
            expected = {f"c:{n}:{turn}": str(database) for n in here for turn in range(rounds)}
            expected |= {f"visits:{n}": "3" for n in visitors} | {f"in:{database}": str(len(here) * rounds)}
            keys = client.keys()
            assert dict(zip((k.decode() for k in keys), (v.decode() for v in client.mget(keys)))) == expected


def test_reads_see_the_database_of_their_client_on_every_replica(cluster, proxy):
    with cluster.master.client() as master:
        for database in range(16):
            master.execute_command("SELECT", database)
            master.set("which", database)
        master.execute_command("SELECT", 0)
    cluster.wait_synced()
    with proxy.raw() as link:
        for database in list(range(16)) * 10:
            link.send(script(f"SELECT {database}", "GET which"))
            assert [link.read(), link.read()] == [b"OK", b"%d" % database]
