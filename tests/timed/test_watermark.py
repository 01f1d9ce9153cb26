"""How the times of several lanes become one, and for how long a lane is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.timed.watermark import UNKNOWN, Board, Habits, Heard, LaneTime, combine
from reflow_kafka.units import LONG_AGO, NEVER

HABITS = Habits()


def counts(watermark: int) -> LaneTime:
    return LaneTime(watermark)


def idle(watermark: int, gone_on: int) -> LaneTime:
    return LaneTime(watermark, idle=gone_on)


ENDED = LaneTime(50, ended=True)


@pytest.mark.parametrize(
    ("times", "clock"),
    [
        ([counts(5)], 5),
        ([counts(5), counts(3), counts(9)], 3),
        ([counts(5), UNKNOWN], LONG_AGO),
        ([counts(0), counts(-7)], -7),
        ([counts(5), idle(1, 100)], 5),
        ([counts(5), ENDED], 5),
        ([idle(1, 100), idle(7, 60)], 100),
        ([idle(1, 100), ENDED], 100),
        ([idle(LONG_AGO, LONG_AGO), idle(7, 60)], 60),
        ([idle(LONG_AGO, LONG_AGO)], LONG_AGO),
        ([ENDED, ENDED], NEVER),
        ([], NEVER),
    ],
)
def test_what_counts(times: list[LaneTime], clock: int) -> None:
    assert combine(times).clock == clock


@pytest.mark.parametrize(
    ("sources", "stages", "clock"),
    [
        ([], [[counts(5), counts(3)]], 3),
        ([], [[idle(1, 100), idle(1, 60)]], 60),  # one has not heard yet what the other has
        ([], [[idle(1, 100), counts(50)]], 50),
        ([], [[idle(1, 40), counts(50)]], 40),
        ([], [[idle(1, 40), counts(50)], [counts(60)]], 40),
        ([], [[idle(1, 40), UNKNOWN]], LONG_AGO),
        ([], [[idle(1, 40), ENDED]], 40),
        ([], [[ENDED]], NEVER),
        ([], [[ENDED], [counts(8)]], 8),
        ([], [[idle(1, 40), idle(1, 50)], [counts(70), counts(90)]], 70),
        ([], [[idle(1, 40), idle(1, 50)], [idle(1, 60)]], 60),
        ([idle(1, 70), idle(1, 90)], [[idle(1, 100)]], 100),
        ([idle(1, 70), idle(1, 90)], [[idle(1, 80)]], 90),
        ([counts(70)], [[idle(1, 40)]], 70),
        ([counts(70)], [[idle(LONG_AGO, LONG_AGO)]], 70),
        ([idle(1, 70)], [[counts(80)]], 80),
        ([ENDED], [[idle(1, 80)]], 80),
    ],
)
def test_an_idle_stage_does_not_count_but_an_idle_lane_of_one_that_is_not(
    sources: list[LaneTime], stages: list[list[LaneTime]], clock: int
) -> None:
    found = combine(sources, stages)
    assert found.clock == clock
    all_of_them = [*sources, *(time for lanes in stages for time in lanes)]
    assert (found.idle is None) == any(t.idle is None and not t.ended for t in all_of_them) or found.ended


def test_it_is_idle_only_if_nothing_counts_and_something_is() -> None:
    assert combine([counts(5), idle(1, 9)]).idle is None
    assert combine([ENDED, idle(1, 9)]).idle == 9
    assert not combine([ENDED, idle(1, 9)]).ended
    assert combine([ENDED]).ended


TIMES = st.lists(
    st.one_of(
        st.integers(-100, 100).map(counts),
        st.tuples(st.integers(-100, 100), st.integers(0, 50)).map(lambda t: idle(t[0], t[0] + t[1])),
        st.just(ENDED),
    ),
    min_size=1,
)


@given(TIMES, TIMES)
def test_it_makes_no_difference_who_combines(some: list[LaneTime], others: list[LaneTime]) -> None:
    together = combine([*some, *others])
    assert combine([*others, *some]) == together
    assert combine([combine(some), combine(others)]).clock == together.clock


def test_that_a_lane_does_not_count_is_believed_for_a_while() -> None:
    heard = Heard(idle(5, 8), 100)
    assert heard.at(99) == idle(5, 8)
    assert heard.at(100) == counts(5)
    assert Heard(ENDED, 100).at(100) == counts(50)
    assert Heard(counts(5), LONG_AGO).at(7) == counts(5)


def test_a_lane_that_has_told_nothing_holds_time_up() -> None:
    board = Board({"a": 2}, HABITS)
    board.learned(0, {"a": counts(5)}, now=0)
    assert combine(h.at(0) for h in board.snapshot("a")).clock == LONG_AGO
    board.learned(1, {"a": counts(9), "b": counts(1)}, now=0)
    assert combine(h.at(0) for h in board.snapshot("a")).clock == 5


def test_only_what_is_new_is_news() -> None:
    board = Board({"a": 1}, HABITS)
    assert board.version("a") == board.version("unknown") == 0
    board.learned(0, {"a": counts(5)}, now=0)
    first = board.version("a")
    assert first > 0
    board.learned(0, {"a": counts(5)}, now=1)
    board.learned(0, {"other": counts(6)}, now=1)
    board.learned(7, {"a": counts(6)}, now=1)  # a lane that another plan had
    assert board.version("a") == first
    board.learned(0, {"a": idle(5, 6)}, now=1)
    board.learned(0, {"a": idle(5, 6)}, now=2)  # said again: it is believed for longer
    assert board.version("a") == first + 2
    assert board.snapshot("a")[0].at(1 + HABITS.believed) == idle(5, 6)


def test_what_was_idle_in_another_run_counts() -> None:
    board = Board({"a": 1}, HABITS)
    board.learned(0, {"a": idle(5, 60)}, now=0, current=False)
    assert [h.at(0) for h in board.snapshot("a")] == [counts(5)]
    board.learned(0, {"a": ENDED}, now=0, current=False)
    assert [h.at(0) for h in board.snapshot("a")] == [counts(50)]
