"""The list of faults: the same from the same seed, nothing hit twice at once, every kind in its time."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.schedule import KINDS, MUST, overlapping, schedule


def test_a_seed_gives_the_same_faults_again() -> None:
    assert schedule(7, 120) == schedule(7, 120)
    assert schedule(7, 120) != schedule(8, 120)


def test_faults_end_in_time_and_do_not_share_a_target() -> None:
    for seed in range(200):
        faults = schedule(seed, 60)
        assert all(fault.at > 0 and fault.until <= 60 for fault in faults)
        assert overlapping(faults) == []


def test_every_kind_happens_and_only_those_wanted() -> None:
    counts = Counter(fault.kind for seed in range(300) for fault in schedule(seed, 60))
    assert counts.keys() == KINDS.keys()
    few = {fault.kind for seed in range(50) for fault in schedule(seed, 60, ("kill", "cut"))}
    assert few == {"kill", "cut"}


def test_no_run_is_without_what_matters_most() -> None:
    for seed in range(300):
        happens = {fault.kind for fault in schedule(seed, 30)}
        assert all(happens & some for some in MUST)


def test_a_run_too_short_for_that_is_refused() -> None:
    with pytest.raises(ValueError, match="12 s are too short for a fault of each of"):
        schedule(7, 12)
