# SPDX-License-Identifier: BSD-2-Clause
"""A client that keeps copies of keys (CLIENT TRACKING) is told when they change, whoever changes them."""

import pytest

from harness import Pointsman, Server, encode, wait_for
from redis_cluster import RedisCluster
from test_resp3 import wait_for_bytes

INVALIDATE = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$%d\r\n%s\r\n"


@pytest.fixture(scope="module")
def pointsman(pair):
    with Pointsman(pair) as proxy:
        yield proxy


def tracking(pointsman, *options):
    link = pointsman.raw()
    link.send(encode("HELLO", 3) + encode("CLIENT", "TRACKING", "ON", *options))
    wait_for_bytes(link, b"*0\r\n+OK\r\n")
    return link


def invalidation(key):
    return INVALIDATE % (len(key), key)


def test_writes_of_others_through_the_proxy_and_past_it_invalidate(pointsman, pair):
    with tracking(pointsman) as link, pointsman.client() as other, pair.servers[0].client() as past:
        for writer, key in ((other, b"through"), (past, b"past")):
            writer.set(key, 1)
            link.command("GET", key)
            wait_for_bytes(link, b"$1\r\n1\r\n")
            writer.set(key, 2)
            assert wait_for_bytes(link, key + b"\r\n") == invalidation(key)
        other.flushall()
        assert wait_for_bytes(link, b"_\r\n") == b">2\r\n$10\r\ninvalidate\r\n_\r\n"


def test_list_of_clients_shows_how_each_tracks(pointsman):
    def flags(link):
        link.command("CLIENT", "INFO")
        return dict(word.split(b"=", 1) for word in wait_for_bytes(link, b"resp=3").split() if b"=" in word)[b"flags"]

    with tracking(pointsman) as one, tracking(pointsman, "BCAST", "PREFIX", "p:") as two:
        assert (flags(one), flags(two)) == (b"t", b"tB")
        two.command("CLIENT", "TRACKING", "OFF")
        wait_for_bytes(two, b"+OK\r\n")
        assert flags(two) == b"N"


def test_what_a_tracking_client_reads_is_read_where_it_is_tracked(pointsman, pair):
    with tracking(pointsman) as link, pair.counting() as counts:
        for number in range(20):
            link.command("GET", f"read:{number}")
        wait_for_bytes(link, b"_\r\n", times=20)
    assert counts.each(pair.servers, "get") == [20, 0]


def test_a_cluster_of_one_master_tells_of_what_was_read_there():
    cluster = RedisCluster(1, 1).start()
    try:
        with Pointsman(cluster.seeds, upstream_kind="cluster") as proxy, tracking(proxy) as link, proxy.client() as other:
            other.set("key", 1)
            link.command("GET", "key")
            wait_for_bytes(link, b"$1\r\n1\r\n")
            other.set("key", 2)
            assert wait_for_bytes(link, b"key\r\n") == invalidation(b"key")
            cluster.add_node()
            with pytest.raises(EOFError):  # what it has read may be anywhere from now on
                link.read()
            assert "CLIENT TRACKING is not supported" in proxy.log_text() and other.get("key") == b"2"
    finally:
        cluster.stop()


def test_each_gets_what_concerns_it(pointsman):
    with tracking(pointsman) as one, tracking(pointsman, "BCAST", "PREFIX", "p:") as two, pointsman.client() as writer:
        one.command("GET", "mine")
        wait_for_bytes(one, b"_\r\n")
        writer.set("mine", 1)
        writer.set("p:theirs", 1)
        assert wait_for_bytes(one, b"mine\r\n") == invalidation(b"mine")
        assert wait_for_bytes(two, b"theirs\r\n") == invalidation(b"p:theirs")
        for link in (one, two):
            link.command("PING")
            assert wait_for_bytes(link, b"PONG\r\n") == b"+PONG\r\n"


def test_redirection_to_a_client_of_the_proxy_is_refused_as_to_one_that_is_not_there(pointsman):
    """Ids of the proxy's clients are none of the node's: a stranger there might have that number."""
    with pointsman.raw() as link:
        number = link.ask("CLIENT", "ID")
        answer = link.ask("CLIENT", "TRACKING", "ON", "REDIRECT", number)
        assert answer == b"ERR The client ID you want redirect to does not exist"
        assert link.ask("CLIENT", "GETREDIR") == -1


def test_connection_of_its_own_goes_back_when_tracking_ends(processes):
    server = processes(Server("tracked")).ready()
    pointsman = processes(Pointsman(server.address, pool_dedicated_connections=1, pool_wait="10s"))
    for end in (encode("CLIENT", "TRACKING", "OFF"), encode("RESET"), None):
        with tracking(pointsman) as link:
            if end:
                link.send(end)
                wait_for_bytes(link, b"\r\n")
                with pointsman.raw() as other:
                    assert other.ask("BLPOP", "nothing", "0.01") is None
    with pointsman.raw() as other:
        assert other.ask("BLPOP", "nothing", "0.01") is None


def test_client_whose_invalidations_may_be_lost_is_told_to_forget_all_and_tracks_on(processes):
    """It and one of RESP3 that follows prefixes, subscribed as well: on the same connections, at the same node."""
    server = processes(Server("lost")).ready()
    pointsman = processes(Pointsman(server.address, failover_hold_time="30s"))
    with tracking(pointsman) as one, tracking(pointsman, "BCAST", "PREFIX", "p:", "PREFIX", "q:") as two:
        one.command("GET", "a")
        wait_for_bytes(one, b"_\r\n")
        two.command("SUBSCRIBE", "news")
        wait_for_bytes(two, b":1\r\n")
        two.command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "r:")
        wait_for_bytes(two, b"+OK\r\n")
        server.restart()
        for link in (one, two):
            assert wait_for_bytes(link, b"_\r\n") == b">2\r\n$10\r\ninvalidate\r\n_\r\n"
        one.command("GET", "a")
        assert wait_for_bytes(one, b"\r\n") == b"_\r\n"
        two.command("PING")
        assert wait_for_bytes(two, b"\r\n") == b"+PONG\r\n"
        with pointsman.raw() as writer:
            for key in ("a", "q:1", "r:1", "other"):
                assert writer.ask("SET", key, 1) == b"OK"
            assert wait_for_bytes(one, b"a\r\n") == invalidation(b"a")
            assert wait_for_bytes(two, b"r:1\r\n") == invalidation(b"q:1") + invalidation(b"r:1")
            assert writer.ask("PUBLISH", "news", "x") == 1


def test_client_that_opts_in_key_by_key_is_disconnected_with_its_connection(processes):
    """CLIENT CACHING YES may have been for a command that another connection answers."""
    server = processes(Server("lost")).ready()
    pointsman = processes(Pointsman(server.address))
    with tracking(pointsman, "OPTIN") as link:
        link.send(encode("CLIENT", "CACHING", "YES") + encode("GET", "a"))
        wait_for_bytes(link, b"_\r\n")
        server.restart()
        assert link.socket.recv(100) == b""
    wait_for(lambda: pointsman.writes(), what="a write after the restart")
