# SPDX-License-Identifier: BSD-2-Clause
"""Judges a history: what clients were told, held against what the nodes have in the end. Pure: no I/O, no clock.

Clients append values that exist once to lists, so that a list as it is in the end tells which writes took effect, in which
order and how often. A read answers the last element of a list, and its place in that list is how new it was. So writes
that are lost with their master need no special treatment: what is judged is only what survives. A write of unknown
outcome may appear late, in its proper place, and accuses nobody.

    proxy rule     a read that begins after a write was acknowledged, to whomever, is not older than that write
    own rule       a connection reads nothing older than what it has written itself
    backward rule  a connection reads nothing older than what it has read before
    age rule       a read that begins so long after a write was acknowledged is not older than that write

Counters are each incremented by one client alone: what is counted lies between what was acknowledged and that with
what is unknown on top.
"""

import bisect
import collections
import re

APPEND, READ, COUNT = "append", "read", "count"
OK, REFUSED, UNKNOWN = "ok", "refused", "unknown"

# session: the connection, "worker.number"; value: what was appended, read or counted; in order of sending per session.
Op = collections.namedtuple("Op", "session kind key value start end outcome text")

NUMBER = re.compile(r"\d+")
EMPTY = -1  # the place of what a read of a list without elements has seen


class Findings:
    """Lists of operations, each of which is an accusation; `lost` is one only where the fault may not lose anything."""

    def __init__(self):
        self.lost = []  # acknowledged, and not there
        self.lost_late = []  # of these, those that began when the new master was known
        self.twice = []  # took effect more than once
        self.refused_done = []  # took effect although it was answered that it did not
        self.invented = []  # read, but never written, or not yet
        self.stale, self.own, self.backward, self.overdue = [], [], [], []
        self.judged = 0  # reads whose place is known

    def counts(self):
        return {name: value if name == "judged" else len(value) for name, value in vars(self).items()}


def check(history, lists, counters, known_at=None, age=0.0):
    """lists: key -> elements in the end; counters: key -> number; known_at: when the new master was known, if there is one;
    age: of the age rule."""
    findings = Findings()
    first, last = _places(lists)
    _check_appends(history, lists, first, known_at, findings)
    _check_invented(history, findings)
    _check_counters(history, counters, known_at, findings)
    reads = [(op, place) for op in history if (place := _place_read(op, last)) is not None]
    findings.judged = len(reads)
    acknowledged = _acknowledged(history, first)
    findings.stale += _older(reads, acknowledged, 0)
    findings.overdue += _older(reads, acknowledged, age)
    _check_sessions(history, first, last, findings)
    return findings


def _places(lists):
    """value -> its first and its last place in its list."""
    first, last = {}, {}
    for values in lists.values():
        for place, value in enumerate(values):
            first.setdefault(value, place)
            last[value] = place
    return first, last


def _place_read(op, last):
    if op.kind != READ or op.outcome != OK:
        return None
    return EMPTY if op.value is None else last.get(op.value)


def _check_appends(history, lists, first, known_at, findings):
    times = collections.Counter(value for values in lists.values() for value in values)
    appended_to = {op.value: op.key for op in history if op.kind == APPEND}
    findings.twice += [value for value, count in times.items() if count > 1]
    findings.invented += [
        value for key, values in lists.items() for value in values if appended_to.get(value) != key
    ]
    for op in history:
        if op.kind != APPEND:
            continue
        if op.outcome == REFUSED and op.value in first:
            findings.refused_done.append(op)
        if op.outcome == OK and op.value not in first:
            _note_lost(op, known_at, findings)


def _note_lost(op, known_at, findings):
    findings.lost.append(op)
    if known_at is not None and op.start > known_at:
        findings.lost_late.append(op)


def _check_invented(history, findings):
    begun = {op.value: op for op in history if op.kind == APPEND}
    for op in history:
        if op.kind != READ or op.outcome != OK or op.value is None:
            continue
        source = begun.get(op.value)
        if source is None or source.key != op.key or source.start > op.end:
            findings.invented.append(op)


def _check_counters(history, counters, known_at, findings):
    """Where a counter goes back, what had been counted from there on is lost."""
    possible = collections.Counter()
    counted = collections.defaultdict(list)  # acknowledged and not seen to be lost
    for op in history:
        if op.kind != COUNT:
            continue
        possible[op.key] += op.outcome != REFUSED
        if op.outcome == OK:
            _lose_counted(counted[op.key], op.value, known_at, findings)
            counted[op.key].append(op)
            if op.value > possible[op.key]:
                findings.twice.append(op)
    for key, value in counters.items():
        _lose_counted(counted[key], value + 1, known_at, findings)
        if value > possible[key]:
            findings.twice.append((key, value, possible[key]))


def _lose_counted(counted, value, known_at, findings):
    while counted and counted[-1].value >= value:
        _note_lost(counted.pop(), known_at, findings)


def _acknowledged(history, first):
    """For each list: moments of acknowledgements, and how far what was acknowledged until then reaches."""
    moments, reached = collections.defaultdict(list), collections.defaultdict(list)
    surviving = [op for op in history if op.kind == APPEND and op.outcome == OK and op.value in first]
    for op in sorted(surviving, key=lambda op: op.end):
        furthest = reached[op.key][-1] if reached[op.key] else EMPTY
        moments[op.key].append(op.end)
        reached[op.key].append(max(furthest, first[op.value]))
    return moments, reached


def _older(reads, acknowledged, age):
    """Those that are older than what was acknowledged so long before they began."""
    moments, reached = acknowledged
    for op, place in reads:
        before = bisect.bisect_left(moments[op.key], op.start - age)
        if before and place < reached[op.key][before - 1]:
            yield op


def _check_sessions(history, first, last, findings):
    written, seen = {}, {}
    for op in history:
        here = op.session, op.key
        if op.kind == APPEND and op.outcome == OK and op.value in first:
            written[here] = max(written.get(here, EMPTY), first[op.value])
        place = _place_read(op, last)
        if place is None:
            continue
        if place < written.get(here, EMPTY):
            findings.own.append(op)
        if place < seen.get(here, EMPTY):
            findings.backward.append(op)
        seen[here] = max(seen.get(here, EMPTY), place)


# --------------------------------------------------------------------------------------------- what is measured


def errors(history):
    """Wording, with its numbers as N -> how often."""
    return collections.Counter(NUMBER.sub("N", op.text) for op in history if op.text)


def longest_pause(history, kinds, end):
    """The longest time for which one client had no success with operations of these kinds, at most until `end`."""
    before, longest = {}, 0.0
    for op in history:
        if op.kind not in kinds:
            continue
        worker = op.session.partition(".")[0]
        if op.outcome == OK:
            longest = max(longest, op.end - before.get(worker, op.start))
            before[worker] = op.end
        else:
            before.setdefault(worker, op.start)
    return max([longest, *(end - moment for moment in before.values())])
