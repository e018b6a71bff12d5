# SPDX-License-Identifier: BSD-2-Clause
"""The judge of histories accuses whom it should, and nobody else: small histories made by hand."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

from checker import APPEND, COUNT, OK, READ, REFUSED, UNKNOWN, Op, check, errors, longest_pause  # noqa: E402


def append(value, start, end, outcome=OK, session="0.1", key="k", text=""):
    return Op(session, APPEND, key, value, start, end, outcome, text)


def read(value, start, end, session="1.1", key="k", outcome=OK):
    return Op(session, READ, key, value, start, end, outcome, "")


def count(value, outcome=OK, session="0.1", start=0):
    return Op(session, COUNT, "n", value, start, start + 1, outcome, "")


def accused(history, stored=(), counter=None, known_at=None):
    findings = check(history, {"k": list(stored)}, {} if counter is None else {"n": counter}, known_at).counts()
    return {name: number for name, number in findings.items() if number and name not in ("judged", "overdue")}


def test_history_without_fault_is_accused_of_nothing():
    history = [append("a", 0, 1), read("a", 2, 3), append("b", 4, 5), read("b", 6, 7), read("b", 8, 9, session="0.1")]
    assert accused(history, ["a", "b"]) == {}
    assert check(history, {"k": ["a", "b"]}, {}).judged == 3


def test_acknowledged_write_that_is_not_there_is_lost():
    assert accused([append("a", 0, 1)], []) == {"lost": 1}


@pytest.mark.parametrize("known_at, late", [(0.5, 0), (-1, 1)])
def test_lost_write_is_late_if_it_began_when_the_new_master_was_known(known_at, late):
    assert accused([append("a", 0, 1)], [], known_at=known_at) == {"lost": 1} | ({"lost_late": 1} if late else {})


def test_write_of_unknown_outcome_may_be_there_or_not():
    assert accused([append("a", 0, 1, UNKNOWN)], []) == {}
    assert accused([append("a", 0, 1, UNKNOWN)], ["a"]) == {}


def test_write_that_was_refused_must_not_be_there():
    assert accused([append("a", 0, 1, REFUSED)], []) == {}
    assert accused([append("a", 0, 1, REFUSED)], ["a"]) == {"refused_done": 1}


def test_write_that_took_effect_twice_is_seen():
    assert accused([append("a", 0, 1, UNKNOWN)], ["a", "a"]) == {"twice": 1}


def test_value_that_nobody_wrote_there_is_invented():
    assert accused([append("a", 0, 1)], ["a", "z"]) == {"invented": 1}
    assert accused([append("a", 0, 1), read("z", 2, 3)], ["a"]) == {"invented": 1}
    assert accused([append("a", 5, 6), read("a", 2, 3)], ["a"]) == {"invented": 1}, "read before it was written"
    elsewhere = [append("a", 0, 1), read("a", 2, 3, key="other")]
    assert accused(elsewhere, ["a"]) == {"invented": 1}, "the value of another key"


def test_read_that_begins_after_an_acknowledgement_and_is_older_is_stale():
    writes = [append("a", 0, 1), append("b", 2, 3)]
    assert accused([*writes, read("a", 4, 5)], ["a", "b"]) == {"stale": 1}
    assert accused([*writes, read(None, 4, 5)], ["a", "b"]) == {"stale": 1}, "nothing is older than everything"


@pytest.mark.parametrize("start, overdue", [(3.5, 0), (5.5, 1)])
def test_stale_read_is_overdue_when_the_write_is_too_long_ago(start, overdue):
    history = [append("a", 0, 1), append("b", 2, 3), read("a", start, 6)]
    counts = check(history, {"k": ["a", "b"]}, {}, age=2).counts()
    assert counts["stale"] == 1 and counts["overdue"] == overdue


def test_read_that_overlaps_a_write_may_see_it_or_not():
    for value in ("a", "b"):
        assert accused([append("a", 0, 1), append("b", 2, 5), read(value, 4, 6)], ["a", "b"]) == {}


def test_order_of_acknowledgements_is_not_the_order_of_writes():
    """b was written first and its answer came last: who reads it after a's answer alone reads the past."""
    writes = [append("b", 0, 9), append("a", 0, 3, session="2.1")]
    assert accused([*writes, read("b", 4, 5)], ["b", "a"]) == {"stale": 1}
    assert accused([*writes, read("a", 10, 11)], ["b", "a"]) == {}


def test_nobody_is_stale_with_regard_to_a_write_that_is_lost():
    assert accused([append("a", 0, 1), append("b", 2, 3), read("a", 4, 5)], ["a"]) == {"lost": 1}
    assert accused([append("a", 0, 1), append("b", 2, 3), read("b", 4, 5), read("a", 6, 7)], ["a"]) == {"lost": 1}


def test_write_of_unknown_outcome_that_comes_late_makes_no_read_stale():
    history = [append("a", 0, 1, UNKNOWN), append("b", 2, 3, session="2.1"), read("b", 4, 5), read("a", 6, 7)]
    assert accused(history, ["b", "a"]) == {}


def test_connection_that_does_not_see_its_own_write_is_seen():
    history = [append("a", 0, 1), append("b", 2, 3), read("a", 2, 4, session="0.1")]
    assert accused(history, ["a", "b"]) == {"own": 1}, "sent in one go, so by order and not by time"


def test_connection_that_goes_back_in_time_is_seen():
    history = [append("a", 0, 1), append("b", 2, 9, UNKNOWN), read("b", 3, 4), read("a", 5, 6)]
    assert accused(history, ["a", "b"]) == {"backward": 1}
    history[-1] = history[-1]._replace(session="1.2")
    assert accused(history, ["a", "b"]) == {}, "another connection may"


def test_keys_have_nothing_to_do_with_each_other():
    history = [append("a", 0, 1), append("b", 2, 3, key="other"), read("a", 4, 5)]
    assert check(history, {"k": ["a"], "other": ["b"]}, {}).counts()["stale"] == 0


def test_increment_that_counted_twice_is_seen():
    assert accused([count(1), count(2)], counter=2) == {}
    assert accused([count(1), count(2)], counter=3) == {"twice": 1}
    assert accused([count(1), count(3)], counter=3) == {"twice": 2}, "by its reply, and in the end"
    assert accused([count(1), count(None, UNKNOWN), count(3)], counter=3) == {}
    assert accused([count(1), count(None, REFUSED), count(3)], counter=3) == {"twice": 2}


def test_increments_that_are_lost_are_counted():
    assert accused([count(1), count(2), count(3, start=5)], counter=1, known_at=4) == {"lost": 2, "lost_late": 1}


def test_increments_that_are_lost_are_those_before_the_counter_went_back():
    history = [count(1), count(2), count(3), count(2, start=5), count(3, start=6)]
    assert accused(history, counter=3, known_at=4) == {"lost": 2}


def test_failed_reads_are_not_judged():
    history = [append("a", 0, 1), read(None, 2, 3, outcome=UNKNOWN)]
    assert accused(history, ["a"]) == {}
    assert check(history, {"k": ["a"]}, {}).judged == 0


def test_errors_are_counted_by_wording():
    texts = ["ERR 12 of 3", "ERR 4 of 5", ""]
    assert errors([append("a", 0, 1, text=text) for text in texts]) == {"ERR N of N": 2}


def test_pause_is_the_longest_time_without_success_of_one_client():
    history = [append("a", 0, 1), append("b", 2, 7), append("c", 8, 8.5, UNKNOWN)]
    others = [append("d", 0, 1, session="2.1"), append("e", 1, 9, session="2.2")]
    assert longest_pause(history, (APPEND,), 9) == 6
    assert longest_pause(history, (APPEND,), 20) == 13, "it has no success until the end"
    assert longest_pause(history + others, (APPEND,), 9) == 8, "another connection, the same client"
    assert longest_pause(history, (READ,), 9) == 0
