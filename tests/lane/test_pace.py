from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.pace import COMMIT_CPU, SHARE_BUSY, SHARE_MOST, SHARE_QUIET, Load, Pace

shares = st.floats(0, 1)
costs = st.floats(0, 0.5)


def test_nothing_is_due_while_there_is_nothing() -> None:
    assert Pace().due(quiet=True, full=True, busy=0.0, lanes=1) is None


@pytest.mark.parametrize(
    ("quiet", "full", "busy", "due"),
    [
        pytest.param(True, False, 0.1, 100.05, id="quiet: at once"),
        pytest.param(False, False, 0.1, 100.1, id="work in hand: the interval"),
        pytest.param(False, True, 0.9, 100.05, id="full: at once"),
        pytest.param(True, False, 0.9, 100.1, id="busy: nothing is gained by haste"),
    ],
)
def test_the_next_commit(quiet: bool, full: bool, busy: float, due: float) -> None:
    pace = Pace()
    pace.committing(100.0)
    pace.worked(100.05)
    assert pace.due(quiet=quiet, full=full, busy=busy, lanes=1) == pytest.approx(due)


def test_a_quiet_lane_leaves_time_between_commits() -> None:
    pace = Pace()
    pace.committing(100.0)
    pace.worked(100.0)
    due = pace.due(quiet=True, full=False, busy=0.0, lanes=8)
    assert due == pytest.approx(100.0 + 8 * COMMIT_CPU / SHARE_QUIET)


@pytest.mark.parametrize("quiet", [True, False])
def test_an_interval_of_nothing_commits_at_once(quiet: bool) -> None:
    pace = Pace(interval=0)
    pace.committing(100.0)
    pace.worked(100.001)
    assert pace.due(quiet=quiet, full=False, busy=0.9, lanes=8) == 100.001


@given(encodings=st.lists(costs, max_size=20), busy=shares, lanes=st.integers(1, 2000))
def test_a_commit_waits_no_longer_than_the_ceiling_or_a_round_of_commits(
    encodings: list[float], busy: float, lanes: int
) -> None:
    pace, now, most = Pace(), 100.0, COMMIT_CPU
    for encoding in encodings:
        pace.worked(now)
        due = pace.due(quiet=False, full=False, busy=busy, lanes=lanes)
        assert due is not None
        assert now - pace.interval <= due <= now + max(pace.ceiling, lanes * most / SHARE_MOST) + 1e-9
        now = max(now, due)
        pace.committing(now)
        pace.committed(encoding)
        most = max(most, encoding + COMMIT_CPU)


@pytest.mark.parametrize(
    ("lanes", "interval"),
    [
        pytest.param(8, 8 * COMMIT_CPU / SHARE_BUSY, id="few: a tenth of the CPU"),
        pytest.param(400, 1.0, id="hundreds: a second"),
        pytest.param(2000, 2000 * COMMIT_CPU / SHARE_MOST, id="thousands: half of the CPU"),
    ],
)
def test_lanes_of_a_busy_process_share_the_cpu(lanes: int, interval: float) -> None:
    pace = Pace(interval=0.01)
    pace.committing(100.0)
    pace.worked(100.0)
    assert pace.due(quiet=False, full=False, busy=0.9, lanes=lanes) == pytest.approx(100.0 + interval)


def test_commits_of_a_busy_process_take_a_tenth_of_it() -> None:
    pace, now = Pace(), 100.0
    for _ in range(50):
        pace.worked(now)
        due = pace.due(quiet=False, full=False, busy=0.9, lanes=4)
        assert due is not None
        now = max(now, due)
        pace.committing(now)
        pace.committed(0.014)
    pace.worked(now)
    due = pace.due(quiet=False, full=False, busy=0.9, lanes=4)
    assert due == pytest.approx(now + 4 * (0.014 + COMMIT_CPU) / SHARE_BUSY, rel=0.01)


def test_who_gets_half_of_what_he_wants_commits_half_as_often() -> None:
    pace = Pace()
    pace.committing(100.0)
    pace.worked(100.0)
    whole, half = (
        pace.due(quiet=False, full=False, busy=0.9, lanes=40, granted=granted) for granted in (1.0, 0.5)
    )
    assert whole == pytest.approx(100.0 + 40 * COMMIT_CPU / SHARE_BUSY)
    assert half == pytest.approx(100.0 + 40 * COMMIT_CPU / SHARE_BUSY * 2)


@given(st.lists(st.tuples(st.floats(0.001, 1), shares, shares), min_size=1, max_size=50))
def test_the_load_stays_between_idle_and_busy(steps: list[tuple[float, float, float]]) -> None:
    load, now, used, missed = Load(), 0.0, 0.0, 0.0
    for elapsed, share, waited in steps:
        now += elapsed
        used += elapsed * share
        missed += elapsed * waited
        load.sample(now, used, missed)
        assert 0.0 <= load.busy <= 1.0
        assert 0.1 - 1e-9 <= load.granted <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("used", "missed", "busy", "granted"),
    [
        pytest.param(0.3, 0.7, 1.0, 0.3, id="it has a backlog and a third of a processor"),
        pytest.param(0.2, 0.5, 0.4, 0.2 / 0.7, id="it has little to do, and waits for its turn each time"),
        pytest.param(0.2, 0.0, 0.2, 1.0, id="it has little to do, and the machine for itself"),
    ],
)
def test_a_shared_machine(used: float, missed: float, busy: float, granted: float) -> None:
    load = Load()
    for tenth in range(1, 20):
        load.sample(tenth / 10, used * tenth / 10, missed * tenth / 10)
    assert load.busy == pytest.approx(busy)
    assert load.granted == pytest.approx(granted)


def test_samples_are_worth_taking_some_time_apart() -> None:
    load = Load()
    load.sample(10.0, 1.0)
    assert not load.stale(10.04)
    assert load.stale(10.06)


def test_the_load_follows_within_half_a_second() -> None:
    load = Load()
    for tenth in range(1, 20):
        load.sample(tenth / 10, tenth / 10)
    assert load.busy > 0.9
    for tenth in range(20, 27):
        load.sample(tenth / 10, 1.9)
    assert load.busy < 0.1
