"""Windows of so many events."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.timed.counted import CountWindows
from reflow_kafka.timed.program import NEVER, Call
from reflow_kafka.timed.states import States
from reflow_kafka.windows import Count
from tests.timed.driver import Driver, values
from tests.timed.windowing import driving, making


def test_the_last_event_of_a_window_closes_it() -> None:
    driver = driving(CountWindows, Count(2))
    assert values(driver.event(1, timestamp=50)) == [(1,)]
    found = driver.event(2, timestamp=20) or []
    assert values(found) == [(1, 2), ("key", 20, 50, (1, 2))]
    assert [out.timestamp for out in found] == [20, 50]
    assert driver.stored() == {}
    assert values(driver.event(3, timestamp=1)) == [(3,)]


def test_windows_of_one_close_at_once() -> None:
    driver = driving(CountWindows, Count(1))
    assert values(driver.event(1, timestamp=-5)) == [(1,), ("key", -5, -5, (1,))]
    assert driver.advance(NEVER) == []


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-100, 100), st.integers(0, 5)), max_size=40),
)
def test_each_event_is_in_one_window_whatever_fails(size: int, events: list[tuple[str, int, int]]) -> None:
    driver = driving(CountWindows, Count(size))
    expected: dict[str, list[int]] = {}
    for n, (key, timestamp, what) in enumerate(events):
        if what == 0:
            driver.commit()
            driver.restart()
        out = driver.event(n, key=key.encode(), timestamp=timestamp, fail=what if what in (1, 2) else None)
        if out is not None:
            expected.setdefault(key, []).append(n)
    assert driver.advance(10**6) == []
    found: dict[str, list[tuple[int, ...]]] = {}
    driver.advance(NEVER)
    for out in driver.out:
        if isinstance(out.value[0], str):
            key, _, end, held = out.value
            assert out.timestamp == end
            found.setdefault(key, []).append(held)
    assert found == {
        key: [tuple(seen[n : n + size]) for n in range(0, len(seen), size)] for key, seen in expected.items()
    }
    assert driver.stored() == {}


def test_what_is_incomplete_closes_at_the_end_of_a_run_only() -> None:
    driver = driving(CountWindows, Count(3))
    driver.event(1, key=b"b", timestamp=7)
    driver.event(2, key=b"a", timestamp=9)
    assert driver.advance(NEVER - 1) == []
    assert driver.program.holds(100) == 100
    assert not driver.program.pending(), "it may wait for ever"
    assert values(driver.advance(NEVER, fail=1)) == [("b", 7, 7, (1,))]
    driver.event(3, key=b"", timestamp=1)
    assert sorted(values(driver.retry())) == [("", 1, 1, (3,)), ("a", 9, 9, (2,))]


def test_a_closing_can_be_given_up() -> None:
    driver = driving(CountWindows, Count(3))
    driver.event(1, timestamp=7)
    driver.advance(NEVER, fail=1)
    assert driver.give_up(b"key") == (b"key", msgspec.Raw(b'{"start":7,"end":7,"state":[1]}'))
    assert driver.retry() == []


def test_a_closing_that_fails_fails_its_event() -> None:
    driver = driving(CountWindows, Count(2))
    driver.event(1)
    assert driver.event(2, fail=2) is None
    assert values(driver.event(3)) == [(1, 3), ("key", 0, 0, (1, 3))]


def test_a_cleared_state_begins_anew() -> None:
    def clear(state: list[int], value: int, call: Call) -> None:
        call.cleared = value < 0
        state.append(value)

    driver = Driver(
        making(CountWindows, Count(2), States(list, boxed=False, encode=bytes, decode=list)),
        handler=clear,
        on_close=lambda state, window: state,
    )
    found: list[Any] = []
    for value in (1, -1, 2, 3):
        found += values(driver.event(value))
    assert found == [[2, 3]]


def test_without_code_to_tell_windows_just_go() -> None:
    driver = driving(CountWindows, Count(2), tells=False)
    for value in range(5):
        driver.event(value)
    assert len(driver.stored()) == 1
    assert driver.advance(NEVER) == []
    assert driver.stored() == {}
