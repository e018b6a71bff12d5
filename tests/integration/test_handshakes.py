# SPDX-License-Identifier: BSD-2-Clause
"""What each client library sends when it connects gets what a plain Redis gives: one reply per command, in order.

Whatever is refused, the connection stays: most libraries take an error for "not supported" and a close for "try
again". Rows are the words that libraries send, PASSWORD and all; each is sent one by one as well as in one packet, to
servers with that password, with another one and with none.
"""

import contextlib

import pytest

from differential import Difference, Link, command_of
from harness import Pointsman, Replication, Server

PASSWORD = "secret"

HANDSHAKES = {
    "redis_py_5": [
        "AUTH PASSWORD", "CLIENT SETNAME app", "CLIENT SETINFO LIB-NAME redis-py", "CLIENT SETINFO LIB-VER 5.2.1", "SELECT 2",
    ],
    "redis_py_with_user": ["AUTH default PASSWORD", "CLIENT SETINFO LIB-NAME redis-py", "SELECT 2"],
    "redis_py_7_in_resp3": ["HELLO 3 AUTH default PASSWORD", "CLIENT SETNAME app", "CLIENT SETINFO LIB-NAME redis-py", "SELECT 2"],
    "redis_py_8": [
        "HELLO 3 AUTH default PASSWORD", "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip",
        "CLIENT SETINFO LIB-NAME redis-py", "CLIENT SETINFO LIB-VER 8.0.0", "SELECT 2",
    ],
    "redis_py_8_without_credentials": ["HELLO 3", "CLIENT SETINFO LIB-NAME redis-py", "PING"],
    "ioredis_5": [
        "AUTH PASSWORD", "SELECT 2", "CLIENT SETNAME worker", "CLIENT SETINFO LIB-VER 5.8.0", "CLIENT SETINFO LIB-NAME ioredis",
        "INFO",
    ],
    "ioredis_6": [
        "HELLO 3 AUTH default PASSWORD", "CLIENT SETNAME worker", "SELECT 2", "CLIENT SETINFO LIB-NAME ioredis",
        "CLIENT SETINFO LIB-VER 6.0.0", "INFO",
    ],
    "ioredis_6_downgrading": ["HELLO 4", "HELLO 2 AUTH default PASSWORD", "SELECT 2", "INFO"],
    "node_redis_4": ["AUTH PASSWORD", "SELECT 2", "CLIENT SETNAME app"],
    "node_redis_5": [
        "AUTH default PASSWORD", "SELECT 2", "CLIENT SETNAME app", "CLIENT SETINFO LIB-VER 5.1.0", "CLIENT SETINFO LIB-NAME node-redis",
    ],
    "node_redis_main": [
        "HELLO 3 AUTH default PASSWORD SETNAME app", "SELECT 2", "CLIENT SETINFO LIB-VER 5.9.0", "CLIENT SETINFO LIB-NAME node-redis",
        "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type external-ip", "CLIENT TRACKING ON",
        "SUBSCRIBE news", "PSUBSCRIBE news.*", "GET after",
    ],
    "go_redis_9": [
        "HELLO 3 AUTH default PASSWORD SETNAME app", "SELECT 2", "READONLY", "CLIENT SETNAME app",
        "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type none", "CLIENT SETINFO LIB-NAME go-redis(,go1.22)",
        "CLIENT SETINFO LIB-VER 9.7.0",
    ],
    "go_redis_9_falling_back": ["HELLO 3 AUTH nobody PASSWORD", "AUTH default PASSWORD", "SELECT 2", "CLIENT SETNAME app"],
    "jedis_5": ["AUTH PASSWORD", "CLIENT SETNAME app", "CLIENT SETINFO LIB-NAME jedis", "CLIENT SETINFO LIB-VER 5.1.0", "SELECT 2"],
    "jedis_8": ["HELLO 3 AUTH default PASSWORD", "CLIENT SETINFO LIB-NAME jedis", "CLIENT SETINFO LIB-VER 8.0.0", "READONLY", "SELECT 2"],
    "jedis_8_falling_back": ["HELLO 3 AUTH nobody PASSWORD", "AUTH PASSWORD", "HELLO 2", "SELECT 2"],
    "lettuce_6": [
        "HELLO 3 AUTH default PASSWORD SETNAME app", "SELECT 2", "READONLY", "CLIENT SETINFO lib-name Lettuce", "CLIENT SETINFO lib-ver 6.3",
    ],
    "lettuce_7": [
        "HELLO 3 AUTH default PASSWORD", "CLIENT SETNAME app", "CLIENT SETINFO lib-name Lettuce",
        "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type external-ip", "INFO replication", "ROLE", "PING",
    ],
    "lettuce_falling_back": ["HELLO 3", "AUTH PASSWORD", "PING", "CLIENT SETNAME app"],
    "stackexchange_redis": [
        "AUTH PASSWORD", "HELLO 2", "CLIENT SETNAME app(SE.Redis-v2)", "CLIENT SETINFO lib-name SE.Redis", "CLIENT SETINFO lib-ver 2.8",
        "CLIENT ID", "CONFIG GET timeout", "CONFIG GET replica-read-only", "CONFIG GET databases", "SENTINEL MASTERS",
        "INFO replication", "INFO server", "CLUSTER NODES", "GET __Booksleeve_TieBreak", "ECHO \x8f\x02\xfe\x00unique",
    ],
    "stackexchange_redis_3": [
        "AUTH default PASSWORD", "HELLO 3 AUTH default PASSWORD SETNAME app", "CLIENT ID", "CONFIG GET timeout", "INFO replication", "INFO server",
        "CLUSTER NODES", "GET __Booksleeve_TieBreak", "ECHO unique",
    ],
    "stackexchange_redis_subscriptions": ["AUTH PASSWORD", "SUBSCRIBE __Booksleeve_MasterChanged", "PING"],
    "phpredis_6": ["AUTH PASSWORD", "SELECT 2", "ECHO phpredis_66f1a2", "GET x"],
    "phpredis_6_with_user": ["AUTH default PASSWORD", "ECHO phpredis_66f1a2"],
    "predis_3": [
        "HELLO 2 AUTH default PASSWORD SETNAME predis", "CLIENT SETINFO LIB-NAME predis", "CLIENT SETINFO LIB-VER 3.0.0", "SELECT 2",
    ],
    "predis_3_in_resp3": ["HELLO 3 AUTH default PASSWORD SETNAME predis", "CLIENT SETINFO LIB-NAME predis", "SELECT 2"],
    "redis_rb_5": [
        "HELLO 3 AUTH default PASSWORD", "SELECT 2", "CLIENT SETINFO LIB-NAME redis-client(redis-rb_v5.0.0)", "CLIENT SETINFO LIB-VER 0.22",
        "CLIENT SETNAME app", "ROLE",
    ],
    "redis_client_in_resp2": ["AUTH default PASSWORD", "SELECT 2", "ROLE"],
    "redis_cli": ["AUTH PASSWORD", "SELECT 2", "COMMAND DOCS", "INFO SERVER", "COMMAND"],
    "redis_cli_in_resp3": ["AUTH PASSWORD", "SELECT 2", "HELLO 3", "COMMAND DOCS"],
    "redisinsight": [
        "AUTH PASSWORD", "CLIENT SETNAME redisinsight-common-1", "INFO", "MODULE LIST", "CONFIG GET databases", "CLUSTER INFO", "COMMAND INFO",
        "DBSIZE", "SCAN 0 MATCH * COUNT 500", "MEMORY USAGE none SAMPLES 0", "SLOWLOG GET 50", "CONFIG GET slowlog*", "FT._LIST", "CLIENT LIST TYPE x",
    ],
    "sidekiq_8": [
        "HELLO 3 AUTH default PASSWORD", "CLIENT SETNAME Sidekiq-server", "INFO", "SADD processes host:1", "SCRIPT LOAD return(1)",
        "EVALSHA 0000000000000000000000000000000000000000 0", "SSCAN processes 0", "MULTI", "HSET host:1 beat 1", "EXPIRE host:1 60", "EXEC",
        "BRPOP queue:default 0.01", "DEL processes host:1",
    ],
    "celery": [
        "AUTH PASSWORD", "PING", "PSUBSCRIBE celeryev/*", "PUNSUBSCRIBE", "PUBLISH celeryev/worker x", "BRPOP celery celery3 0.01",
        "WATCH unacked", "HGET unacked tag", "MULTI", "ZREM unacked_index tag", "HDEL unacked tag", "EXEC",
        "EVAL return(redis.call('del',KEYS[1])) 1 lock token",
    ],
    "bullmq": [
        "AUTH PASSWORD", "INFO", "CLIENT SETNAME bull:cXVldWU=", "EVAL return({KEYS[1],ARGV[1]}) 1 bull:q:id x",
        "EVALSHA 0000000000000000000000000000000000000000 1 bull:q:wait", "BZPOPMIN bull:q:marker 0.01", "XREAD BLOCK 5 STREAMS bull:q:events 0",
    ],
    "spring_health_and_sessions": [
        "HELLO 3 AUTH default PASSWORD", "CLIENT SETNAME app", "INFO", "INFO server", "CONFIG GET notify-keyspace-events", "PSUBSCRIBE __keyevent@0__:expired",
    ],
    "redisson_3": ["AUTH PASSWORD", "SELECT 2", "CLIENT SETNAME app", "CLIENT CAPA redirect", "READONLY", "PING"],
    "redisson_3_in_resp3": ["AUTH PASSWORD", "HELLO 3", "PING", "EVAL return(redis.call('pttl',KEYS[1])) 1 lock"],
    "redlock": [
        "SET lock token NX PX 30000", "SET lock other NX PX 30000", "SCRIPT LOAD return(1)", "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 lock token",
        "EVAL if(redis.call('get',KEYS[1])==ARGV[1])then(redis.call('del',KEYS[1]))end 1 lock token", "DEL lock",
    ],
}  # fmt: skip


@pytest.fixture(scope="module", params=["right_password", "wrong_password", "no_password"])
def servers(request):
    """A plain server, a pointsman before a replication, and the password that the client believes in."""
    password = None if request.param == "no_password" else PASSWORD
    settings = {"slowlog-log-slower-than": -1}
    plain = Server("plain", password=password, settings=settings).start().ready()
    behind = Replication(1, sentinels=0, password=password, settings=settings).start()
    keys = {"proxy_password": password, "upstream_password": password, "reads_policy": "master"}
    with contextlib.ExitStack() as stack:
        stack.callback(behind.stop)
        stack.callback(plain.kill)
        pointsman = stack.enter_context(Pointsman(behind, **keys))
        with behind.master.client() as client:
            client.flushall()
        yield plain, pointsman, "wrong" if request.param == "wrong_password" else PASSWORD


@pytest.mark.parametrize("name", list(HANDSHAKES))
def test_handshake_is_answered_as_by_a_plain_server(servers, name):
    plain, pointsman, password = servers
    texts = HANDSHAKES[name]
    words = [[word.replace("PASSWORD", password).encode("latin-1") for word in text.split(" ")] for text in texts]
    batch = [command_of(command) for command in words]
    for packets in ([[command] for command in batch], [batch]):
        link = Link(0, plain.port, pointsman.port)
        try:
            for packet in packets:
                link.send(packet)
                link.settle()
            assert link.is_open, "both have closed the connection"
            link.send([command_of([b"PING"])])
            link.settle()
            assert link.sides[1].is_silent(0.02), "more replies than commands"
        except Difference as difference:
            pytest.fail(str(difference))
        finally:
            link.close()
