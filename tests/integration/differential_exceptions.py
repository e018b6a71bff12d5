# SPDX-License-Identifier: BSD-2-Clause
"""Replies that two servers which were told the same may give differently, and what must be equal nonetheless.

Everything that is not listed is compared byte for byte, and so is what is listed wherever it happens to be equal. A
command is named by its word, or by its word and the next one; inside EXEC each reply is judged by its own command.
"""

import re

# A reply is a (kind, payload): a bytes payload, or a list of replies.


def canonical(reply):
    kind, payload = reply
    return (kind, sorted(map(canonical, payload), key=repr)) if isinstance(payload, list) else reply


def in_any_order(one, other):
    return canonical(one) == canonical(other)


def shape(reply):
    kind, payload = reply
    return (kind, [shape(child) for child in payload] if isinstance(payload, list) else payload is None)


def of_one_shape(one, other):
    return shape(one) == shape(other)


def of_one_type(one, other):
    return one[0] == other[0]


def of_any_kind(_, other):
    return other[0] in b"+-"


def numbers_within(limit):
    """Alike but for integers that differ by less than this."""

    def compare(one, other):
        if one[0] != other[0] or isinstance(one[1], list) != isinstance(other[1], list):
            return False
        if isinstance(one[1], list):
            return len(one[1]) == len(other[1]) and all(map(compare, one[1], other[1]))
        if one[0] == b":" and one[1] != other[1]:
            return min(int(one[1]), int(other[1])) >= 0 and abs(int(one[1]) - int(other[1])) < limit
        return one[1] == other[1]

    return compare


OF_PROXY = re.compile(rb"slave\d+|master_.*|repl_.*|second_repl_offset|connected_slaves|min_slaves_good_slaves")
OF_ONE_SERVER = {b"port", b"dir"}
COUNTED = re.compile(rb"(cmdstat|errorstat|latency_percentiles_usec)_.*")


def field_names(one, other):
    names = []
    for kind, text in (one, other):
        if kind not in (b"$", b"=") or text is None:
            return False
        fields = [line.split(b":")[0] for line in text.splitlines()]
        names.append([name for name in fields if not OF_PROXY.fullmatch(name) and not COUNTED.fullmatch(name)])
    return names[0] == names[1]


def but_for_the_id(one, other):
    """HELLO's answer: an array of names and values, or a map, which has pairs of them."""

    def without(reply):
        kind, children = reply
        if not isinstance(children, list):
            return reply
        if kind == b"%":
            children = [child for _, pair in children for child in pair]
        place = next((i for i, child in enumerate(children) if child[1] == b"id"), len(children))
        return kind, children[: place + 1] + children[place + 2 :]

    return without(one) == without(other)


def settings_but_for_the_place(one, other):
    """Parameters and values of CONFIG GET, but for those that two servers side by side cannot share."""

    def settings(reply):
        kind, children = reply
        pairs = [pair for _, pair in children] if kind == b"%" else zip(children[::2], children[1::2])
        return {name[1]: value for name, value in pairs if name[1] not in OF_ONE_SERVER}

    return one[0] == other[0] and isinstance(one[1], list) and isinstance(other[1], list) and settings(one) == settings(other)


def words_of_client_info(one, other):
    """The names of the fields, without those that came with Redis 7.2."""

    def names(reply):
        words = [word.split(b"=")[0] for word in (reply[1] or b"").split()]
        return [word for word in words if not word.startswith(b"lib-")]

    return names(one) == names(other)


EXCEPTIONS = [
    (
        "a hash table's order follows from a seed that each server draws when it starts",
        in_any_order,
        ["SMEMBERS", "SUNION", "SINTER", "SDIFF", "SPOP", "SSCAN", "HGETALL", "HKEYS", "HVALS", "HSCAN", "ZSCAN", "KEYS",
         "SCAN", "PUBSUB CHANNELS", "PUBSUB SHARDCHANNELS", "COMMAND", "COMMAND LIST", "COMMAND DOCS",
         "COMMAND INFO", "FUNCTION LIST", "SORT", "ACL CAT", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"],
    ),
    ("picked at random", of_one_shape, ["SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER", "ACL GENPASS"]),
    ("picked at random, of any type", of_one_type, ["RANDOMKEY"]),
    ("what is left of a time, or has passed since", numbers_within(20000), ["TTL", "PTTL"]),
    ("relative to the moment at which it was set", numbers_within(20000), ["EXPIRETIME", "PEXPIRETIME"]),
    ("idle time of consumers and messages", numbers_within(60000), ["XPENDING", "XINFO CONSUMERS", "XINFO STREAM", "OBJECT IDLETIME"]),
    ("the time", of_one_shape, ["TIME", "LASTSAVE"]),
    ("bytes of memory follow from allocation and the network buffer", of_one_shape, ["MEMORY USAGE"]),
    ("names databases seen and clients", of_one_type, ["MEMORY STATS", "MEMORY DOCTOR"]),
    ("a hash's or set's order is in it", of_one_type, ["DUMP", "FUNCTION DUMP"]),
    ("values are the server's own", field_names, ["INFO"]),
    ("the directory and port; the order", settings_but_for_the_place, ["CONFIG GET"]),
    ("wrong passwords are refused by the proxy, which has no such log", of_one_type, ["ACL LOG"]),
    ("the replication offset", of_one_shape, ["ROLE"]),
    ("drawn at random", of_one_shape, ["LOLWUT"]),
    ("a client's id is unique", but_for_the_id, ["HELLO"]),
    ("a client's id is unique", of_one_shape, ["CLIENT ID"]),
    ("kept by the proxy also where the node is too old to know it", of_any_kind, ["CLIENT SETINFO"]),
    ("not of Redis 7.0, so not known to it before it is allowed", of_any_kind, ["CLIENT MAINT_NOTIFICATIONS", "CLIENT CAPA", "CLIENT NO-TOUCH"]),
    ("address, id and age of the client", words_of_client_info, ["CLIENT INFO"]),
    ("the clients that there are", of_one_type, ["CLIENT LIST"]),
]  # fmt: skip

# Queued by Redis like everything else, to change or to describe the connection when EXEC comes. Through Pointsman a
# transaction runs on a connection of the pool, so these are answered at once, refused, or of that connection; ROLE is
# the node's own, with its replicas. None of them is sent there.
UNEQUAL_IN_TRANSACTIONS = {
    "AUTH", "HELLO", "CLIENT", "ROLE", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
}  # fmt: skip


def are_same_messages(ours, others):
    """What a subscriber got. For one message, the order of patterns is that of a hash table."""
    without_patterns = [[frame for frame in frames if b"pmessage" not in frame[:20]] for frames in (ours, others)]
    return sorted(ours) == sorted(others) and without_patterns[0] == without_patterns[1]


COMPARISONS = {name: compare for _, compare, names in EXCEPTIONS for name in names}
