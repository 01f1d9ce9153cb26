"""Kinds of windows: which windows an event is in, what is kept, what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka import Count, DefinitionError, Hopping, Session, Sliding, Tumbling, Window

TIMES = st.integers(-(10**13), 10**13)
SIZES = st.integers(1, 10**6)

Spans = tuple[tuple[int, int], ...]


@pytest.mark.parametrize(
    ("timestamp", "windows"),
    [
        (0, ((0, 10),)),
        (9, ((0, 10),)),
        (10, ((10, 20),)),
        (-1, ((-10, 0),)),
        (-10, ((-10, 0),)),
        (-11, ((-20, -10),)),
    ],
)
def test_tumbling_windows_hold_their_start_and_not_their_end(timestamp: int, windows: Spans) -> None:
    assert Tumbling(0.01).windows_of(timestamp) == windows


@pytest.mark.parametrize(
    ("size", "every", "timestamp", "windows"),
    [
        (10, 5, 0, ((-5, 5), (0, 10))),
        (10, 5, 4, ((-5, 5), (0, 10))),
        (10, 5, 5, ((0, 10), (5, 15))),
        (10, 5, -1, ((-10, 0), (-5, 5))),
        (10, 10, 10, ((10, 20),)),
        (10, 4, 3, ((-4, 6), (0, 10))),
        (10, 4, 2, ((-4, 6), (0, 10))),
        (10, 4, 1, ((-8, 2), (-4, 6), (0, 10))),
        (3, 1, 0, ((-2, 1), (-1, 2), (0, 3))),
    ],
)
def test_hopping_windows_overlap(size: int, every: int, timestamp: int, windows: Spans) -> None:
    assert Hopping(size / 1000, every / 1000).windows_of(timestamp) == windows


@given(TIMES, SIZES, st.data())
def test_hopping_windows_are_all_that_hold_an_event(timestamp: int, size: int, data: st.DataObject) -> None:
    every = data.draw(st.integers(max(1, size // 20), size))
    windows = Hopping(timedelta(milliseconds=size), timedelta(milliseconds=every)).windows_of(timestamp)
    starts = [start for start, _ in windows]
    assert all(start % every == 0 and start <= timestamp < end == start + size for start, end in windows)
    assert starts == list(range(starts[0], starts[-1] + 1, every))
    assert starts[0] - every + size <= timestamp < starts[-1] + every


@given(TIMES, SIZES)
def test_windows_that_hop_by_their_size_tumble(timestamp: int, size: int) -> None:
    length = timedelta(milliseconds=size)
    assert Hopping(length, length).windows_of(timestamp) == Tumbling(length).windows_of(timestamp)


def test_sliding_windows_end_with_an_event_and_begin_behind_one() -> None:
    assert Sliding(0.01).windows_of(0) == ((-10, 0), (1, 11))


def test_a_session_begins_with_one_event() -> None:
    assert Session(0.01).windows_of(7) == ((7, 7),)


def test_durations_are_kept_in_milliseconds() -> None:
    kind = Hopping(timedelta(minutes=1), 0.5, grace=timedelta(seconds=2))
    assert (kind.size, kind.every, kind.grace) == (60_000, 500, 2_000)
    assert (Tumbling(10).size, Tumbling(10).grace) == (10_000, 0)
    assert (Sliding(0.001).size, Session(1.5).gap, Count(3).size) == (1, 1_500, 3)


@pytest.mark.parametrize(
    "kind",
    [Tumbling(1, grace=2), Hopping(2, 1), Sliding(1), Session(1, merge=max), Count(2), Window(0, 1, "key")],
)
def test_they_are_values(kind: Any) -> None:
    again = pickle.loads(pickle.dumps(kind))
    assert again == kind
    assert hash(again) == hash(kind)
    assert repr(again) == repr(kind)


async def waits(left: int, right: int) -> int:
    return left + right


NONSENSE: dict[str, Callable[[], Any]] = {
    "Tumbling(size=0)": lambda: Tumbling(0),
    "Tumbling(size=-1)": lambda: Tumbling(-1),
    "Tumbling(size=0.0009)": lambda: Tumbling(0.0009),
    "Tumbling(size='1m')": lambda: Tumbling("1m"),  # type: ignore[arg-type]
    "Tumbling(size=inf)": lambda: Tumbling(float("inf")),
    "Tumbling(size=1e+300)": lambda: Tumbling(1e300),
    "Tumbling(size=True)": lambda: Tumbling(True),
    "Tumbling(grace=-0.1)": lambda: Tumbling(1, grace=-0.1),
    "Tumbling(grace=nan)": lambda: Tumbling(1, grace=float("nan")),
    "Hopping(size=0)": lambda: Hopping(0, 1),
    "Hopping(every=0)": lambda: Hopping(1, 0),
    "Hopping(every=-1)": lambda: Hopping(1, -1),
    "Hopping(every=2)": lambda: Hopping(1, 2),
    "Hopping(grace=None)": lambda: Hopping(2, 1, grace=None),  # type: ignore[arg-type]
    "Sliding(size=0)": lambda: Sliding(0),
    "Sliding(grace=-1)": lambda: Sliding(1, grace=-1),
    "Session(gap=0)": lambda: Session(0),
    "Session(grace=-1)": lambda: Session(1, grace=-1),
    "Session(merge=) is 7": lambda: Session(1, merge=7),  # type: ignore[arg-type]
    "Session(merge=) is async": lambda: Session(1, merge=waits),
    "Session(merge=) does not take 2 arguments": lambda: Session(1, merge=lambda one: one),  # type: ignore[misc]
    "Count(size=0)": lambda: Count(0),
    "Count(size=1.5)": lambda: Count(1.5),  # type: ignore[arg-type]
    "Count(size=True)": lambda: Count(True),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused(what: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        NONSENSE[what]()
    assert caught.value.message.startswith(what)
    assert "test_windows.py:" in caught.value.where
