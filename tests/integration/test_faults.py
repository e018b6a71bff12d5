# SPDX-License-Identifier: BSD-2-Clause
"""A few of the faults of tests/chaos, each for some seconds; `make chaos` has all of them."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

import chaos  # noqa: E402
from faults import FAULTS  # noqa: E402

SEED = 1
SHORT = [
    ("sentinel", "kill_master"),
    ("cluster", "lagging_replicas"),
    ("static", "one_after_another"),
]


@pytest.mark.parametrize("world, name", SHORT, ids=[f"{name}-{world}" for world, name in SHORT])
def test_what_clients_are_told_is_true_through(world, name):
    result = chaos.Run(FAULTS[name], world, "proxy", SEED).carry_out()
    print(chaos.line_of(result))
    assert not result["wrong"], "\n".join(chaos.details_of(result))
    assert result["operations"] > 1000 and result["judged"] > 500


def test_reads_that_are_stale_are_seen_to_be_so(monkeypatch):
    """From any replica, and judged as if they were not."""
    monkeypatch.setitem(chaos.LEVELS, "careless", chaos.LEVELS["proxy"]._replace(settings={"reads_consistency": "eventual"}))
    result = chaos.Run(FAULTS["lagging_replicas"], "static", "careless", SEED).carry_out()
    assert min(result["stale"], result["own"], result["backward"]) > 0
    assert {sentence.split()[0] for sentence in result["wrong"]} == {"stale", "own", "backward"}


def test_the_same_seed_gives_the_same_order_of_faults_and_covers_them_all():
    levels = sorted(chaos.LEVELS)
    rows = chaos.schedule(SEED, (), (), levels)
    assert rows == chaos.schedule(SEED, (), (), levels)
    assert rows != chaos.schedule(SEED + 1, (), (), levels)
    assert {(fault.name, world) for fault, world, _ in rows} == {
        (fault.name, world) for fault in FAULTS.values() for world in fault.worlds
    }
    others = {(fault.name, world): level for seed in (2, 3, 4) for fault, world, level in chaos.schedule(seed, (), (), levels)}
    assert all(others[fault.name, world] != level for fault, world, level in rows), "each seed has another level"
