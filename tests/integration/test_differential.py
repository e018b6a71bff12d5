# SPDX-License-Identifier: BSD-2-Clause
"""An application cannot tell Pointsman from a plain Redis: the same random commands get the same replies.

`make differential` does the same for longer; what it has found and could be said in a few commands is in ONCE_DIFFERENT.
"""

import re

import pytest

import differential
import differential_commands
import differential_exceptions
from harness import Server, encode, talk

ROUNDS = [1, 2]
STEPS = 600

# Sent at once on a new connection; what is made is deleted by the last command.
ONCE_DIFFERENT = {
    "unknown_subcommand_of_cluster": ["CLUSTER NOSUCH", "CLUSTER INFO"],
    "select_that_fails_after_one_that_does_not": ["MULTI", "SELECT 2", "SELECT -1", "EXEC", "SET k 1", "SELECT 0", "EXISTS k", "FLUSHALL"],
    "select_beyond_the_databases_after_a_good_one": ["MULTI", "SELECT 2", "SELECT 99", "EXEC", "SET k 1", "SELECT 0", "EXISTS k", "FLUSHALL"],
    "numbers_of_select": ["SELECT 1000000000", "SELECT 2147483648", "SELECT -2147483649", "SELECT -0", "SELECT 01", "SELECT -5"],
    "versions_of_hello": ["HELLO -1", "HELLO 10000000000", "HELLO 03", "HELLO 9223372036854775808", "PING"],
    "exec_with_an_argument_ends_the_transaction": ["MULTI", "EXEC x", "WATCH k", "SET k 1", "MULTI", "GET k", "EXEC", "DEL k"],
    "versions_in_quick_succession": ["HELLO 3", "WATCH k", "HELLO 2", "HELLO 3", "DEBUG PROTOCOL false", "HELLO 2", "HELLO 3", "HELLO 2", "DEBUG PROTOCOL map"],
    "reset_after_reply_skip": ["CLIENT REPLY SKIP", "RESET", "PING"],
}  # fmt: skip


@pytest.fixture(scope="module", params=[0, 2], ids=["one_server", "master_with_replicas"])
def comparison(request):
    with differential.Setup(request.param, protocol="mixed") as comparison:
        yield comparison


@pytest.mark.parametrize("number", ROUNDS)
def test_random_commands_get_the_replies_of_a_plain_server(comparison, number):
    try:
        comparison.run_round(1, number, STEPS)
    except differential.Difference as difference:
        pytest.fail(differential.report_of(difference))


@pytest.fixture(scope="module")
def one_slot():
    with differential.ClusterSetup(protocol="mixed") as comparison:
        yield comparison


@pytest.mark.parametrize("number", ROUNDS)
def test_random_commands_on_one_slot_of_a_cluster_get_the_replies_of_a_plain_server(one_slot, number):
    try:
        one_slot.run_round(1, number, STEPS)
    except differential.Difference as difference:
        pytest.fail(differential.report_of(difference))


@pytest.mark.parametrize("commands", list(ONCE_DIFFERENT.values()), ids=list(ONCE_DIFFERENT))
def test_what_once_was_different_is_the_same(direct, proxy, commands):
    data = b"".join(encode(*command.split(" ")) for command in commands)
    without_id = lambda answer: re.sub(rb"(\$2\r\nid\r\n:)\d+", rb"\1", answer)
    assert without_id(talk(proxy.port, data)) == without_id(talk(direct.port, data))


@pytest.mark.parametrize("head", [b"", encode("MULTI"), encode("SUBSCRIBE", "a")])
def test_http_is_hung_up_on_in_every_state(direct, proxy, head):
    data = head + b"POST / HTTP/1.1\r\n"
    assert talk(proxy.port, data, end=None) == talk(direct.port, data, end=None)


def test_a_difference_is_found_and_made_small(direct):
    """Two servers that are not alike."""
    other = Server("other", settings={"databases": "1"}).start().ready()
    comparison = differential.Comparison(direct, other, other)
    with pytest.raises(differential.Difference) as found:
        comparison.run_round(1, 1)
    small = comparison.shrink(found.value, seconds=5)
    assert len(small.steps) < len(found.value.steps)
    assert small.steps[-1].commands


def test_every_exception_names_commands_that_are_sent():
    texts = [text for text, _ in differential_commands.GROUPS]
    sent = "\n".join([*texts, differential_commands.SUBSCRIBER, differential_commands.EXACT])
    words = {word for line in sent.splitlines() for word in line.split()[:1]}
    for name in differential_exceptions.COMPARISONS:
        assert name.split()[0] in words, name
