"""Events of several inputs are taken in the order of their timestamps, and nothing waits without reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.order import Head, before_others, first
from reflow_kafka.log.local import LocalRecord


def record(timestamp: int) -> LocalRecord:
    return LocalRecord(0, timestamp, None, None, [])


@pytest.mark.parametrize(
    ("heads", "wanted"),
    [
        ([], None),
        ([(5, False)], 0),
        ([(None, False)], None),
        ([(5, True), (4, True)], 1),
        ([(4, True), (5, True)], 0),
        ([(5, True), (5, True)], 1),  # of the same time: what is on the right
        ([(-5, False), (0, False)], 0),
        ([(5, True), (None, False)], 0),  # idle, or read to its end
        ([(5, True), (None, True)], None),  # something older may come
        ([(5, True), (4, False), (None, True)], None),
    ],
)
def test_the_oldest_goes_first(heads: list[tuple[int | None, bool]], wanted: int | None) -> None:
    assert first([Head(side, at, more) for side, (at, more) in enumerate(heads)]) == wanted


@pytest.mark.parametrize(
    ("other", "more", "wanted"),
    [(None, False, 4), (None, True, 0), (10, True, 4), (3, True, 2), (2, False, 1), (0, False, 0)],
)
def test_events_are_taken_up_to_the_next_of_another_input(other: int | None, more: bool, wanted: int) -> None:
    heads = [Head(0, 1, True), Head(1, other, more)]
    assert before_others(heads, 0, [record(at) for at in (1, 2, 3, 2)]) == wanted


def test_what_is_on_the_right_is_taken_with_those_of_the_same_time() -> None:
    heads = [Head(0, 2, True), Head(1, 1, True)]
    assert before_others(heads, 1, [record(1), record(2), record(3)]) == 2


SIDES = st.lists(st.lists(st.integers(-5, 5), max_size=6), min_size=1, max_size=3)


@given(sides=SIDES)
def test_taken_to_the_end_they_are_in_order_as_far_as_each_input_is(sides: list[list[int]]) -> None:
    left = [sorted(side) for side in sides]
    taken: list[tuple[int, int]] = []

    def heads() -> list[Head]:
        return [Head(side, times[0] if times else None, False) for side, times in enumerate(left)]

    while (place := first(heads())) is not None:
        count = before_others(heads(), place, [record(at) for at in left[place]])
        assert count > 0
        taken += [(at, -place) for at in left[place][:count]]
        del left[place][:count]
    assert taken == sorted((at, -place) for place, times in enumerate(sides) for at in times)
