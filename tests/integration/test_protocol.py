# SPDX-License-Identifier: BSD-2-Clause
"""What stands on the wire: any byte boundary, any size, any nonsense, and Redis' own words for it."""

import os
import subprocess
import threading
import time

import pytest

from harness import HOST, SANITIZED, SLOWNESS, Forwarder, Pointsman, Raw, Server, encode, talk, wait_for

MIB = 1 << 20


@pytest.fixture(scope="module")
def master_proxy(cluster):
    """Reads from the master too: so answers compare with those of one plain server."""
    pointsman = Pointsman(cluster, reads_policy="master", proxy_threads=1).start()
    yield pointsman
    pointsman.stop()


@pytest.fixture(autouse=True)
def clean(cluster, direct):
    for server in (cluster.master, direct):
        with server.client() as client:
            client.flushall()


# Every kind of reply, inline and multibulk, empty words and binary ones, errors amid the rest.
CORPUS = [
    b"PING\r\n",
    encode("SET", "k", "v"),
    b"GET k\r\n",
    b'SET "a b" "x\\x00\\n\\"y"\r\n',
    b"GET 'a b'\n",
    encode("SET", "", ""),
    encode("GET", ""),
    encode("GET", "nothing"),
    b"\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    encode("INCR", "n"),
    encode("INCR", "k"),
    encode("RPUSH", "l", "", b"\r\n", b"\x00\xff"),
    encode("LRANGE", "l", 0, -1),
    encode("MGET", "k", "nothing", "l"),
    encode("NOSUCH", "a", ""),
    encode("GET"),
    encode("EVAL", "return {1,{2,{3,'x'},{}},{err='MINE e'},false}", 0),
    encode("BLPOP", "missing", "l", 0),
    encode("MULTI"),
    encode("SET", "t", "1"),
    encode("EXEC"),
    encode("SELECT", 3),
    encode("DBSIZE"),
    encode("SELECT", 0),
    encode("echo", "x" * 40),
]


def test_mixed_corpus_is_answered_as_by_a_plain_server(direct, master_proxy):
    data = b"".join(CORPUS)
    assert talk(master_proxy.port, data) == talk(direct.port, data)


def in_pieces(pointsman, pieces):
    """Sends each piece after the one before has surely been read: a PING between them went through the same loop."""
    with pointsman.raw() as link, pointsman.raw() as other:
        for piece in pieces:
            link.send(piece)
            assert other.ask("PING") == b"PONG"
        link.send(encode("ECHO", "harness-end"))
        answer = b""
        while not answer.endswith(b"$11\r\nharness-end\r\n"):
            answer += link.read_bytes()
        return answer


def test_mixed_corpus_may_arrive_one_byte_at_a_time(direct, master_proxy):
    data = b"".join(CORPUS)
    expected = talk(direct.port, data)
    assert in_pieces(master_proxy, [data[i : i + 1] for i in range(len(data))]) == expected


def test_mixed_corpus_may_be_split_at_every_byte(cluster, direct, master_proxy):
    data = b"".join(CORPUS)
    expected = talk(direct.port, data)
    with cluster.master.client() as client:
        for boundary in range(1, len(data)):
            client.flushall()
            assert in_pieces(master_proxy, [data[:boundary], data[boundary:]]) == expected, boundary


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_replies_of_a_node_may_arrive_in_pieces(direct, processes, chunk):
    data = b"".join(CORPUS)
    plain = processes(Server("plain")).ready()
    expected = talk(direct.port, data)
    with Forwarder(plain.port, reply_chunk=chunk) as relay:
        pointsman = processes(Pointsman(relay.address))
        assert talk(pointsman.port, data) == expected


CLOSING = {
    "dollar_expected": b"*1\r\n#3\r\nGET\r\n",
    "dollar_expected_amid_words": b"*2\r\n$3\r\nGET\r\n:1\r\n",
    "negative_bulk": b"*3\r\n$3\r\nSET\r\n$-5\r\n",
    "bulk_beyond_limit": b"*1\r\n$536870913\r\n",
    "bulk_beyond_64_bits": b"*2\r\n$3\r\nGET\r\n$99999999999999999999\r\n",
    "bulk_not_a_number": b"*1\r\n$abc\r\n",
    "bulk_with_plus": b"*1\r\n$+4\r\nPING\r\n",
    "bulk_with_leading_zero": b"*1\r\n$04\r\nPING\r\n",
    "bulk_empty": b"*1\r\n$\r\n",
    "count_beyond_limit": b"*2147483648\r\n",
    "count_not_a_number": b"*abc\r\n",
    "count_empty": b"*\r\n",
    "count_with_space": b"* 1\r\n",
    "count_line_endless": b"*" + b"1" * 66000,
    "bulk_line_endless": b"*1\r\n$" + b"1" * 66000,
    "inline_endless": b"a" * 66000,
    "quotes_unbalanced": b'SET "a b\r\n',
    "quotes_followed_by_letter": b'SET "a"b c\r\n',
    "after_good_commands": encode("SET", "k", 1) + encode("GET", "k") + b"*1\r\n!\r\n",
    "nothing_behind_it_is_run": b"*1\r\n!\r\n" + encode("SET", "k", 1),
    "http_post": b"POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    "http_host": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("data", list(CLOSING.values()), ids=list(CLOSING))
def test_malformed_command_gets_the_words_of_redis_and_the_connection_is_closed(direct, master_proxy, data):
    expected = talk(direct.port, data, end=None)
    assert expected.endswith(b"<closed>")
    assert talk(master_proxy.port, data, end=None) == expected


FORGIVEN = {
    "negative_count": b"*-99\r\n",
    "zero_count": b"*0\r\n*0\r\n",
    "empty_lines": b"\r\n\n\r\n",
    "spaces_alone": b"   \r\n",
    "inline_dollar": b"$5\r\nnosuch\r\n",
    "bulk_without_its_line_end": b"*1\r\n$4\r\nPINGxx",
    "inline_without_return": b"PING\nECHO a\n",
    "inline_with_tabs": b"\tSET\ta\t1 \r\n",
    "inline_with_escapes": b'ECHO "\\x41\\n\\t\\\\\\"" \r\n',
    "inline_in_single_quotes": b"ECHO 'it\\'s'\r\n",
    "inline_empty_word": b'ECHO ""\r\n',
    "binary_command_word": b"*1\r\n$3\r\n\x00\xff\r\r\n",
    "long_unknown_command": encode("x" * 200, "y" * 200, "z"),
    "unknown_command_with_line_ends": encode("NO\r\nSUCH", "a\r\nb"),
    "empty_command_word": encode("", "a"),
    "lower_and_mixed_case": encode("sEt", "k", "v") + encode("gEt", "k"),
}


@pytest.mark.parametrize("data", list(FORGIVEN.values()), ids=list(FORGIVEN))
def test_odd_but_legal_input_is_answered_as_by_a_plain_server(direct, master_proxy, data):
    expected = talk(direct.port, data)
    assert not expected.endswith(b"<closed>")
    assert talk(master_proxy.port, data) == expected


ERRORS = [
    ["NOSUCH"], ["NOSUCH", "a", "b", "c"], ["nosuch", "x" * 150], ["CLIENT", "NOSUCH"], ["CONFIG", "NOSUCH", "a"],
    ["OBJECT", "NOSUCH", "k"], ["OBJECT", "ENCODING"], ["XGROUP", "NOSUCH"], ["CLIENT", "GETNAME", "x"],
    ["CLIENT", "SETNAME"], ["CLIENT", "ID", "x"], ["CONFIG", "GET"], ["MEMORY", "USAGE"], ["SCRIPT", "LOAD"],
    ["FUNCTION", "NOSUCH"], ["COMMAND", "NOSUCH"], ["COMMAND", "GETKEYS"], ["COMMAND", "GETKEYS", "GET"],
    ["COMMAND", "GETKEYS", "PING"], ["PUBSUB", "NOSUCH"], ["SLOWLOG", "NOSUCH"], ["CLUSTER", "INFO"], ["CLUSTER"],
    ["SENTINEL", "MASTERS"], ["SET", "k"], ["SET", "k", "v", "NOSUCH"], ["PING", "a", "b"], ["ECHO"], ["ECHO", "a", "b"],
    ["SELECT"], ["SELECT", "x"], ["SELECT", "16"], ["SELECT", "-1"], ["SELECT", "1", "2"], ["AUTH"],
    ["AUTH", "a", "b", "c"], ["EVAL", "return 1"], ["EVAL", "return 1", "x"], ["EVAL", "return 1", "5", "a"],
    ["EVALSHA", "x" * 40, "0"], ["EVAL", "broken(", "0"], ["BLPOP", "k"], ["BLPOP", "k", "x"], ["BLPOP", "k", "-1"],
    ["SUBSCRIBE"], ["WAIT", "1"], ["XREAD", "STREAMS", "k"], ["XREAD", "COUNT", "1"], ["ZUNION", "x", "k"],
    ["MIGRATE"], ["SORT"], ["GEORADIUS", "k", "1"], ["EXEC"], ["DISCARD"], ["EXEC", "x"], ["RESET", "x"], ["QUIT", "x"],
    ["MONITOR", "x"], ["READONLY"], ["ASKING"], ["READWRITE"],
]  # fmt: skip


@pytest.mark.parametrize("command", ERRORS, ids=lambda c: " ".join(w[:12] for w in c))
def test_refused_command_gets_the_words_of_redis(direct, master_proxy, command):
    data = encode(*command)
    assert talk(master_proxy.port, data) == talk(direct.port, data)


def test_each_command_alone_without_its_words_gets_the_arity_error_of_redis(direct, master_proxy):
    with direct.client() as client:
        rows = client.execute_command("COMMAND").values()
    names = sorted(row["name"] for row in rows if row["arity"] not in (1, -1))
    assert len(names) > 200
    wrong = []
    with direct.raw() as plain, master_proxy.raw() as link:
        for name in names:
            expected, got = plain.ask(name), link.ask(name)
            if expected != got:
                wrong.append((name, expected, got))
    assert not wrong


def test_pipeline_of_ten_thousand_commands_is_answered_in_order(proxy, cluster):
    with proxy.raw(timeout=60) as link:
        data = b"".join(
            encode("SET", f"p:{i}", i) + encode("INCR", "counter") + encode("ECHO", i) + encode("GET", "never:set")
            for i in range(2500)
        )
        sender = threading.Thread(target=link.send, args=(data,))
        sender.start()
        for number in range(2500):
            assert link.read() == b"OK"
            assert link.read() == number + 1
            assert link.read() == b"%d" % number
            assert link.read() is None
        sender.join()
        assert link.is_silent()
    with cluster.master.client() as client:
        assert client.dbsize() == 2501


def test_ten_thousand_commands_may_be_sent_before_one_reply_is_read(proxy):
    with proxy.raw(timeout=60) as link:
        link.send(encode("PING") * 10000)
        time.sleep(0.2)
        assert link.input.read(70000) == b"+PONG\r\n" * 10000


def test_value_of_64_mib_passes_both_ways(cluster, master_proxy, proxy):
    value = os.urandom(MIB) * 64
    value = value[:-5] + b"\r\n+OK"
    with master_proxy.client(socket_timeout=120) as client:
        assert client.set("big", value)
        assert client.strlen("big") == len(value)
        assert client.get("big") == value
    cluster.wait_synced()
    with proxy.client(socket_timeout=120) as client:
        assert client.get("big") == value
        assert client.mget("big", "nothing", "big") == [value, None, value]


def test_memory_for_large_values_is_given_back(cluster, master_proxy):
    value = b"x" * (16 * MIB)
    with master_proxy.client(socket_timeout=120) as client:
        for _ in range(20):
            client.set("big", value)
            assert len(client.get("big")) == len(value)
    assert master_proxy.rss() < (300 if not SANITIZED else 1500) * MIB


def test_two_thousand_clients_share_few_connections_to_the_nodes(cluster, processes):
    pointsman = processes(Pointsman(cluster, reads_policy="master"))
    before = cluster.master.connected_clients()
    links = []
    try:
        for _ in range(2000):
            links.append(pointsman.raw(timeout=60))
        for turn in range(3):
            for number, link in enumerate(links):
                link.send(encode("INCR", f"c:{number}") + encode("GET", f"c:{number}"))
            for link in links:
                assert link.read() == turn + 1
                assert link.read() == b"%d" % (turn + 1)
        assert cluster.master.connected_clients() - before < 50
    finally:
        for link in links:
            link.close()
    wait_for(lambda: pointsman.descriptors() < 100, 10, "the proxy to close its clients")


def test_client_that_does_not_read_neither_delays_others_nor_fills_memory(cluster, processes):
    limit = 32 * MIB
    pointsman = processes(
        Pointsman(cluster, reads_policy="master", proxy_threads=1, proxy_client_output_limit=limit)
    )
    value = os.urandom(MIB)
    with pointsman.client() as client:
        client.set("mib", value)
        before = pointsman.rss()
        with pointsman.raw(receive_buffer=65536, timeout=60) as slow:
            slow.send(encode("GET", "mib") * 400)
            slowest, most = 0, 0
            for number in range(300):
                start = time.monotonic()
                assert client.set(f"other:{number}", number)
                assert client.get(f"other:{number}") == b"%d" % number
                slowest = max(slowest, time.monotonic() - start)
                most = max(most, pointsman.rss() - before)
                time.sleep(0.002)
            assert slowest < 1.5 * SLOWNESS, "somebody waited for the one that does not read"
            if not SANITIZED:
                assert most < limit + 64 * MIB
            # It reads again: what comes is right, to the end or up to the point where it was cut off.
            answers = 0
            try:
                for _ in range(400):
                    assert slow.read() == value
                    answers += 1
            except (EOFError, ConnectionResetError):
                assert "output" in pointsman.log_text()
            print(f"slow reader got {answers} of 400, {most / MIB:.0f} MiB more memory, others waited {slowest:.3f} s")


def test_slow_reader_within_the_limit_gets_everything(processes, cluster):
    pointsman = processes(Pointsman(cluster, reads_policy="master", proxy_client_output_limit=64 * MIB))
    value = os.urandom(MIB // 4)
    with pointsman.client() as client:
        client.set("quarter", value)
    with pointsman.raw(receive_buffer=65536, timeout=60) as slow:
        slow.send(encode("GET", "quarter") * 80)
        time.sleep(0.5)
        for _ in range(80):
            assert slow.read() == value
        assert slow.ask("PING") == b"PONG"


@pytest.mark.parametrize("depth", [1, 7, 100, 1000])
def test_nested_reply_passes_whatever_its_depth(direct, master_proxy, depth):
    script = "local t = {'core', 1} for i = 1, tonumber(ARGV[1]) do t = {i, t, 'x'} end return t"
    with direct.raw() as plain, master_proxy.raw() as link:
        expected = plain.command("EVAL", script, 0, depth).read_bytes()
        assert link.command("EVAL", script, 0, depth).read_bytes() == expected
        assert link.ask("PING") == b"PONG"


def test_reply_of_a_hundred_thousand_elements_passes(direct, master_proxy):
    script = "local t = {} for i = 1, 100000 do t[i] = i end redis.call('DEL','wide') return t"
    with direct.raw(timeout=60) as plain, master_proxy.raw(timeout=60) as link:
        expected = plain.command("EVAL", script, 0).read_bytes()
        assert link.command("EVAL", script, 0).read_bytes() == expected


def test_command_of_many_arguments_passes(master_proxy):
    with master_proxy.client() as client:
        assert client.rpush("many", *range(50000)) == 50000
        assert client.mset({f"m:{i}": i for i in range(20000)})
        assert client.mget([f"m:{i}" for i in range(20000)]) == [b"%d" % i for i in range(20000)]


@pytest.mark.parametrize("inline", [False, True], ids=["multibulk", "inline"])
def test_redis_cli_pipe_loads_all_it_is_given(cluster, proxy, inline):
    lines = [b"SET pipe:%d %d\r\n" % (i, i) if inline else encode("SET", f"pipe:{i}", i) for i in range(3000)]
    command = ["redis-cli", "-h", HOST, "-p", str(proxy.port), "--pipe"]
    done = subprocess.run(command, input=b"".join(lines), capture_output=True, timeout=60, check=False)
    assert b"errors: 0, replies: 3000" in done.stdout, done
    with cluster.master.client() as client:
        assert client.dbsize() == 3000


def test_client_that_leaves_amid_a_command_or_a_reply_harms_nobody(proxy, cluster):
    with proxy.client() as client:
        client.set("mib", b"x" * MIB)
        for number in range(50):
            with proxy.raw() as link:
                link.send(encode("SET", "half", "value")[: number % 30])
            with proxy.raw() as link:
                link.send(encode("GET", "mib") * 3)
                link.input.read(number * 10)
        assert client.get("half") is None
        assert client.ping()


def test_limits_of_the_configuration_are_kept(cluster, processes):
    pointsman = processes(
        Pointsman(cluster, proxy_max_arguments=16, proxy_max_bulk_length=1024, proxy_max_clients=10)
    )
    assert talk(pointsman.port, b"*17\r\n", end=None) == b"-ERR Protocol error: invalid multibulk length\r\n<closed>"
    assert talk(pointsman.port, b"*1\r\n$1025\r\n", end=None) == b"-ERR Protocol error: invalid bulk length\r\n<closed>"
    links = []

    def is_let_in():
        link = pointsman.raw()
        if link.ask("PING") != b"PONG":
            link.close()
            return False
        links.append(link)
        return True

    try:
        for _ in range(10):  # a thread may not have seen yet that a client of before has left
            wait_for(is_let_in, what="a client to be let in")
        with pointsman.raw() as one_more:
            assert one_more.read_to_end() == b"-ERR max number of clients reached\r\n"
    finally:
        for link in links:
            link.close()
