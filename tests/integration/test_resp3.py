# SPDX-License-Identifier: BSD-2-Clause
"""A client that says HELLO 3 gets, byte for byte, what a plain Redis gives it; one that does not, neither."""

import re
import threading

import pytest

from harness import Pointsman, Server, encode, talk, wait_for


def script(*commands):
    return b"".join(encode(*command.split(" ")) for command in commands)


def without_identity(data):
    return re.sub(rb"\$2\r\nid\r\n:\d+\r\n", b"$2\r\nid\r\n:N\r\n", data)


@pytest.fixture(scope="module")
def behind():
    server = Server("behind").start().ready()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def pointsman(behind):
    with Pointsman(behind.address) as proxy:
        yield proxy


@pytest.fixture
def empty(direct, behind):
    for server in (direct, behind):
        with server.client() as client:
            client.flushall()


DATA = ["HSET h a 1", "SADD s a", "ZADD z 1.5 m 2 n", "RPUSH l a b c", "SET t text", "XADD x 1-1 f v"]
TYPES = [
    "HGETALL h", "HGETALL none", "SMEMBERS s", "ZSCORE z m", "ZSCORE z none", "ZRANGE z 0 -1 WITHSCORES", "GET none",
    "HRANDFIELD h -2 WITHVALUES", "LPOS l none", "SISMEMBER s a", "XRANGE x - +", "XREAD STREAMS x 0", "SMISMEMBER s a q",
    "EVAL redis.setresp(3);return{map={a=1}} 0", "EVAL redis.setresp(3);return{double=3.25} 0", "EVAL return(true) 0",
    "EVAL redis.setresp(3);return(true) 0", "EVAL return{{},false,'x'} 0", "ZPOPMIN z", "CONFIG GET maxmemory",
    "DEBUG PROTOCOL attrib", "DEBUG PROTOCOL bignum", "DEBUG PROTOCOL verbatim", "DEBUG PROTOCOL null",
    "DEBUG PROTOCOL set", "DEBUG PROTOCOL double", "DEBUG PROTOCOL true", "OBJECT ENCODING none", "GETDEL none",
]  # fmt: skip

SESSIONS = {
    "types": ["HELLO 3", *DATA, *TYPES],
    "types_in_a_transaction": ["HELLO 3", *DATA, "MULTI", *TYPES, "EXEC"],
    "types_of_resp2": [*DATA, *TYPES],
    "versions": ["HELLO 3", "HELLO", "HELLO 2", "HELLO", "HELLO 3", "HELLO 1", "HELLO 4", "HELLO three", "HELLO"],
    "options": [
        "HELLO 3 SETNAME bob", "CLIENT GETNAME", "HELLO 3 AUTH default any", "HELLO 3 AUTH nobody x", "HELLO 3 SETNAME",
        "HELLO 3 NOSUCH", "HELLO 2 SETNAME eve", "CLIENT GETNAME",
    ],
    "in_the_middle": [*DATA, "HGETALL h", "HELLO 3", "HGETALL h", "HELLO 2", "HGETALL h"],
    "around_a_watch": [*DATA, "WATCH h", "HELLO 3", "MULTI", "HGETALL h", "EXEC", "HELLO 2", "HGETALL h"],
    "aborted": ["HELLO 3", *DATA, "WATCH t", "SET t other", "MULTI", "GET t", "EXEC", "MULTI", "NOSUCH", "EXEC"],
    "reset": ["HELLO 3", *DATA, "SUBSCRIBE a", "RESET", "HGETALL h", "PING", "HELLO"],
    "reset_in_a_transaction": ["HELLO 3", *DATA, "MULTI", "HGETALL h", "RESET", "HGETALL h"],
    "local": ["HELLO 3", "CLIENT GETNAME", "PING", "PING x", "ECHO y", "SELECT 1", "SELECT x", "COMMAND COUNT"],
    "command": [
        "HELLO 3", "COMMAND INFO get mget nosuch", "COMMAND GETKEYS MSET a 1 b 2", "COMMAND LIST FILTERBY PATTERN xadd",
        "COMMAND GETKEYSANDFLAGS SET a 1", "COMMAND DOCS xadd",
    ],
    "role": ["HELLO 3", "ROLE", "INFO nosuch"],
    "blocking": ["HELLO 3", "BLPOP no 0.01", "XREAD BLOCK 5 STREAMS no $", "BLMOVE no n LEFT LEFT 0.01", "BZPOPMIN no 0.01"],
    "subscribed": [
        "HELLO 3", *DATA, "SUBSCRIBE a b", "HGETALL h", "PING", "PING x", "PUBLISH a 1", "PSUBSCRIBE p*", "GET none",
        "PUBLISH pa 2", "UNSUBSCRIBE a", "PUBLISH b 3", "UNSUBSCRIBE", "PUNSUBSCRIBE", "HGETALL h", "UNSUBSCRIBE",
    ],
    "sharded": ["HELLO 3", "SSUBSCRIBE a b", "SPUBLISH a 1", "GET none", "SUNSUBSCRIBE a", "SUNSUBSCRIBE", "GET none"],
    "transaction_while_subscribed": [
        "HELLO 3", *DATA, "SUBSCRIBE a", "MULTI", "HGETALL h", "PUBLISH a 1", "EXEC", "WATCH t", "UNWATCH", "PUBLISH a 2",
    ],
    "back_to_resp2_while_subscribed": [
        "HELLO 3", "SUBSCRIBE a", "HELLO 2", "PING", "GET x", "UNSUBSCRIBE", "HELLO 3", "GET x",
    ],
    "hello_while_subscribed_in_resp2": ["SUBSCRIBE a", "HELLO 3", "UNSUBSCRIBE", "HELLO 3"],
    "tracking_errors": [
        "CLIENT TRACKING ON REDIRECT 99999", "CLIENT TRACKING maybe REDIRECT 99", "CLIENT TRACKING ON NOSUCH REDIRECT 1",
        "CLIENT TRACKING OFF REDIRECT x", "CLIENT TRACKING ON BCAST PREFIX a REDIRECT 99999", "CLIENT TRACKING maybe",
        "CLIENT TRACKING ON OPTIN OPTOUT", "CLIENT TRACKING on PREFIX a", "CLIENT CACHING YES", "CLIENT TRACKING",
        "CLIENT CACHING", "CLIENT GETREDIR", "CLIENT TRACKINGINFO", "CLIENT TRACKING OFF",
    ],
    "tracking_in_resp2": ["CLIENT TRACKING ON", "CLIENT GETREDIR", "CLIENT TRACKINGINFO", "GET a", "SET a 1", "PING"],
    "tracking": [
        "HELLO 3", "CLIENT TRACKING ON", "GET a", "SET a 2", "GET a", "MSET a 3 b 4", "GET b", "SET b 1", "PING", "ECHO x",
        "CLIENT TRACKINGINFO", "CLIENT GETREDIR", "CLIENT TRACKING ON BCAST", "MULTI", "GET a", "SET a 1", "EXEC",
        "GET a", "FLUSHALL", "CLIENT TRACKING OFF", "GET a", "SET a 1", "CLIENT GETREDIR",
    ],
    "tracking_by_prefix": [
        "HELLO 3", "CLIENT TRACKING ON BCAST PREFIX x PREFIX y NOLOOP", "SET x 1", "CLIENT TRACKING ON BCAST PREFIX z",
        "CLIENT TRACKING ON BCAST PREFIX zz", "SET z 1", "CLIENT TRACKINGINFO", "RESET", "CLIENT GETREDIR",
    ],
    "tracking_by_option": [
        "HELLO 3", "CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES", "GET a", "GET b", "SET a 1", "SET b 1",
        "CLIENT CACHING NO", "CLIENT CACHING maybe", "CLIENT TRACKINGINFO", "CLIENT CACHING YES", "MULTI", "GET a",
        "GET b", "EXEC", "SET a 2", "SET b 2", "RESET", "CLIENT CACHING YES",
    ],
    "tracking_and_subscribed": [
        "HELLO 3", "SUBSCRIBE x", "CLIENT TRACKING ON", "GET a", "SET a 5", "PUBLISH x 1", "UNSUBSCRIBE", "GET a", "SET a 6",
        "CLIENT TRACKING OFF", "GET a",
    ],
    "bad_commands": ["HELLO 3", "NOSUCH", "GET", "HSET h", "SUBSCRIBE", "CLIENT NOSUCH"],
}  # fmt: skip


@pytest.mark.parametrize("how", ["in_one_packet", "one_by_one"])
@pytest.mark.parametrize("commands", list(SESSIONS.values()), ids=list(SESSIONS))
def test_session_is_byte_for_byte_that_of_a_plain_server(direct, pointsman, empty, commands, how):
    if how == "in_one_packet" and "BCAST" in "".join(commands):
        commands = [command for command in commands if "BCAST" not in command]  # sent when a packet has been read
    if how == "in_one_packet":
        answers = [talk(node.port, script(*commands)) for node in (direct, pointsman)]
    else:
        answers = [one_by_one(node, commands, b"the end") for node in (direct, pointsman)]
    assert without_identity(answers[1]) == without_identity(answers[0])


def one_by_one(node, commands, end):
    """Sends the next command when something has come for the last one."""
    answer = b""
    with node.raw() as link:
        for command in commands:
            link.send(script(command))
            answer += link.socket.recv(1 << 16)
        link.send(encode("PING", end))
        while not answer.endswith(b"%s\r\n" % end):
            answer += link.socket.recv(1 << 16)
    return answer


def test_clients_of_both_protocols_side_by_side_get_each_their_own(pointsman, behind):
    """They share backends, never a connection: types must not leak, neither pooled nor shared."""
    problems = []

    def run(number):
        is_resp3 = number % 2
        with pointsman.raw() as link:
            if is_resp3:
                link.command("HELLO", 3)
            key = f"both:{number}"
            for _ in range(60):
                link.send(script(f"HSET {key} f v", f"HGETALL {key}", f"GET none:{number}", f"BLPOP none:{number} 0.001"))
                link.send(script("MULTI", f"HGETALL {key}", "EXEC"))
            link.send(encode("ECHO", "last"))
            answer = b""
            while not answer.endswith(b"$4\r\nlast\r\n"):
                answer += link.socket.recv(1 << 16)
        wrong = (b"*2\r\n$1\r\nf", b"$-1", b"*-1") if is_resp3 else (b"%1", b"_\r\n")
        problems.extend(f"client {number}: {word!r}" for word in wrong if word in answer)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_push_comes_between_replies_and_to_the_one_who_subscribed(pointsman):
    with pointsman.raw() as listener, pointsman.raw() as other, pointsman.raw() as speaker:
        for link in (listener, other):
            link.command("HELLO", 3)
            wait_for_bytes(link, b"modules\r\n*0\r\n")
        listener.command("SUBSCRIBE", "news")
        wait_for_bytes(listener, b":1\r\n")
        for number in range(20):
            listener.send(encode("ECHO", f"e{number}") * 3)
            assert speaker.ask("PUBLISH", "news", f"m{number}") == 1
            other.send(encode("GET", "nothing"))
        seen = wait_for_bytes(listener, b"$3\r\nm19\r\n", also=b"e19\r\n", times=3)
        messages = re.findall(rb">3\r\n\$7\r\nmessage\r\n\$4\r\nnews\r\n\$\d+\r\n(m\d+)\r\n", seen)
        assert messages == [b"m%d" % number for number in range(20)]
        rest = re.sub(rb">3\r\n\$7\r\nmessage\r\n\$4\r\nnews\r\n\$\d+\r\nm\d+\r\n", b"", seen)
        assert rest == b"".join(b"$%d\r\ne%d\r\n" % (len(f"e{number}"), number) * 3 for number in range(20))
        assert wait_for_bytes(other, b"_\r\n", times=20) == b"_\r\n" * 20


def wait_for_bytes(link, mark, also=b"", times=1):
    """Reads until the mark is there, and `also` (or the mark) that many times."""
    data = b""
    while mark not in data or data.count(also or mark) < times:
        data += link.socket.recv(1 << 16)
    return data


def test_node_sees_no_connection_of_a_protocol_that_nobody_speaks(processes, behind):
    """One shared connection per protocol version, however many clients."""
    pointsman = processes(Pointsman(behind.address, proxy_threads=1))
    links = [pointsman.raw() for _ in range(20)]
    for link in links[:10]:
        link.command("HELLO", 3)
        wait_for_bytes(link, b"modules\r\n*0\r\n")
    for link in links:
        link.command("HGETALL", "nothing")
        wait_for_bytes(link, b"\r\n")

    def protocols():
        with behind.client() as client:
            lines = [line for line in client.client_list() if line["cmd"] == "hgetall"]
        return sorted(line["resp"] for line in lines)

    wait_for(lambda: protocols() == ["2", "3"], what="one connection of each protocol")
    for link in links:
        link.close()
