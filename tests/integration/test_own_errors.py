# SPDX-License-Identifier: BSD-2-Clause
"""Errors that pointsman makes itself have the words of Redis where Redis has words: both are provoked and compared."""

import shlex

import pytest

from harness import Pointsman, Server, encode, talk

PASSWORD = "pw"
WRONG = [
    "CONFIG NOSUCH", "CLUSTER NOSUCH", "CLIENT NOSUCH", "COMMAND NOSUCH", "ACL NOSUCH x", "config nosuch", "CONFIG",
    "CLIENT", "CLUSTER", "NOSUCH", "NOSUCH a b", "SENTINEL x", "sentinel", "SENTINEL", "GET", "GET a", "GET a b", "DEBUG",
    "CONFIG GET", "CONFIG GET x y", "CLUSTER INFO", "CLUSTER MEET", "ACL WHOAMI x", "REPLICAOF x", "SYNC x", "PSYNC",
    "EXEC", "EXEC x", "DISCARD", "DISCARD x", "WATCH", "MULTI x", "UNWATCH x", "SUBSCRIBE", "ASKING", "READONLY x", "PING",
    "PING a b", "ECHO", "ECHO a b", "SELECT", "SELECT x", "SELECT 99", "SELECT -1", "SELECT 99999999999", "RESET x",
    "ROLE x", "AUTH", "CLIENT REPLY", "HELLO x", "HELLO 2 NOSUCH", "CLIENT SETNAME", "CLIENT ID x", "CLIENT GETNAME x", "COMMAND COUNT x",
    "COMMAND GETKEYS", "COMMAND INFO x", "EVAL", "CLUSTER " + "x" * 300, "SENTINEL " + "word " * 60, "MONITOR x",
    "SLOWLOG NOSUCH", "OBJECT NOSUCH x", "XINFO NOSUCH", "'a\r\nb' 'c\nd'", "'a\0b' c", "SENTINEL 'a\0b' 'c\r\nd'",
    "CLUSTER 'a\r\nb'",
]  # fmt: skip

STATES = {
    "before_auth": [],
    "after_auth": [f"AUTH {PASSWORD}"],
    "watching": [f"AUTH {PASSWORD}", "WATCH own:k"],
    "subscribed": [f"AUTH {PASSWORD}", "SUBSCRIBE own:c"],
    "in_multi": [f"AUTH {PASSWORD}", "MULTI"],
    "after_a_failed_auth": ["AUTH wrong"],
    "after_reset": [f"AUTH {PASSWORD}", "RESET"],
}
# Carried out at once rather than queued, since queued they would hold for the node's connection.
NOT_QUEUED = ("AUTH ", "HELLO", "CLIENT REPLY ")


@pytest.fixture(scope="module")
def both():
    plain = Server("plain", settings={"requirepass": PASSWORD}).start().ready()
    node = Server("node").start().ready()
    pointsman = Pointsman(node.address, upstream_kind="static", proxy_password=PASSWORD).start()
    yield plain, pointsman
    pointsman.stop()
    node.kill()
    plain.kill()


@pytest.mark.parametrize("state", list(STATES))
def test_error_is_that_of_a_plain_server_in_every_state(both, state):
    different = []
    for line in WRONG:
        if state == "in_multi" and line.startswith(NOT_QUEUED):
            continue
        words = [encode(*shlex.split(each)) for each in [*STATES[state], line]]
        data = b"".join(words) + (encode("EXEC") if state == "in_multi" else b"") + encode("QUIT")
        plain, through = (talk(node.port, data, end=None) for node in both)
        if plain != through:
            different.append((line[:60], plain, through))
    assert not different
