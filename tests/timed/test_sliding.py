"""Sliding windows: one for each different set of events that are close to each other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow_kafka.event import Event, received
from reflow_kafka.timed.program import LONG_AGO, NEVER, Call
from reflow_kafka.timed.sliding import SlidingWindows
from reflow_kafka.windows import Sliding
from tests.timed.driver import Driver, values
from tests.timed.windowing import Held, Windows, driving, listing, making


def defined(times: set[int], size: int) -> set[int]:
    """Where the windows begin that there are because of events at these times."""
    behind = {time + 1 for time in times if any(time < other <= time + 1 + size for other in times)}
    return {time - size for time in times} | behind


class Distinct:
    """An event is late if of all windows that there would be with it no open one holds it."""

    def __init__(self, kind: Sliding) -> None:
        self.size, self.grace = kind.size, kind.grace
        self.windows: list[Held] = []
        self.events: list[tuple[str, int, int]] = []

    def closes(self, window: Held, watermark: int) -> bool:
        return watermark > window.end + self.grace

    def event(self, key: str, timestamp: int, value: int, watermark: int) -> list[tuple[int, ...]] | None:
        times = {t for k, t, _ in self.events if k == key} | {timestamp}
        wanted = [Held(key, start, start + self.size) for start in sorted(defined(times, self.size))]
        wanted = [window for window in wanted if not self.closes(window, watermark)]
        if not any(window.start <= timestamp <= window.end for window in wanted):
            return None
        self.events.append((key, timestamp, value))
        there = {window.start: window for window in self.windows if window.key == key}
        changed = []
        for window in wanted:
            values = [v for k, t, v in self.events if k == key and window.start <= t <= window.end]
            if window.start not in there:
                self.windows.append(window)
            elif there[window.start].values == values:
                continue
            there.setdefault(window.start, window).values = values
            changed.append(window)
            window.values = values
        return [tuple(window.values) for window in changed]


class SlidingMachine(Windows):
    program = SlidingWindows
    model = Distinct
    kinds = st.builds(
        lambda size, grace: Sliding(size / 1000, grace=grace / 1000),
        st.integers(1, 10),
        st.sampled_from([0, 0, 1, 9]),
    )


TestSliding = SlidingMachine.TestCase
TestSliding.settings = settings(max_examples=100, deadline=None)


@given(st.lists(st.integers(-30, 30), max_size=12), st.integers(1, 12))
def test_in_any_order_there_is_a_window_for_each_different_content(times: list[int], size: int) -> None:
    driver = driving(SlidingWindows, Sliding(size / 1000))
    for n, timestamp in enumerate(times):
        driver.event(n, timestamp=timestamp)
    found = {out.value[1]: out.value[3] for out in driver.advance(NEVER)}
    assert found == {
        start: tuple(n for n, timestamp in enumerate(times) if start <= timestamp <= start + size)
        for start in defined(set(times), size)
    }
    assert len(set(found.values())) == len(found)
    assert driver.stored() == {}


# ---- cases


def sliding(size: int = 10, grace: int = 0, **options: Any) -> Driver:
    return driving(SlidingWindows, Sliding(size / 1000, grace=grace / 1000), **options)


@pytest.mark.parametrize(
    ("times", "windows"),
    [
        ([0], [(-10, 0, (0,))]),
        ([0, 0], [(-10, 0, (0, 0))]),
        ([-10, 0], [(-20, -10, (-10,)), (-10, 0, (-10, 0)), (-9, 1, (0,))]),
        ([0, 10], [(-10, 0, (0,)), (0, 10, (0, 10)), (1, 11, (10,))]),
        ([0, 11], [(-10, 0, (0,)), (1, 11, (11,))]),
        ([0, 12], [(-10, 0, (0,)), (2, 12, (12,))]),
        ([10, 0], [(-10, 0, (0,)), (0, 10, (10, 0)), (1, 11, (10,))]),
    ],
)
def test_both_ends_belong_to_a_window(times: list[int], windows: list[Any]) -> None:
    driver = sliding()
    for timestamp in times:
        driver.event(timestamp, timestamp=timestamp)
    found = driver.advance(NEVER)
    assert [out.value[1:] for out in found] == windows
    assert [out.timestamp for out in found] == [end for _, end, _ in windows]


def test_updates_are_told_of_the_windows_that_an_event_is_in() -> None:
    driver = sliding()
    assert values(driver.event(1, timestamp=0)) == [(1,)]
    assert values(driver.event(2, timestamp=5)) == [(1, 2), (2,)]
    assert values(driver.event(3, timestamp=7)) == [(1, 2, 3), (2, 3), (3,)]
    assert driver.calls == 1 + (2 + 1) + (3 + 1 + 1)


def test_an_event_that_comes_late_makes_the_window_behind_it() -> None:
    driver = sliding(grace=20)
    driver.event(1, timestamp=10)
    found = driver.event(2, timestamp=5) or []
    assert [(out.value, out.timestamp) for out in found] == [((2,), 5), ((1, 2), 5), ((1,), 10)]


@pytest.mark.parametrize(
    ("watermark", "timestamp", "late"),
    [
        (0, 0, False),
        (1, 0, True),
        (-1, -1, False),
        (0, -1, True),
        (NEVER, 10**15, True),
        (LONG_AGO, -(10**15), False),
    ],
)
def test_an_event_alone_is_late_when_the_window_that_ends_with_it_has_closed(
    watermark: int, timestamp: int, late: bool
) -> None:
    driver = sliding()
    driver.advance(watermark)
    (out,) = driver.event(1, timestamp=timestamp) or []
    assert (out.to == "late") == late


def test_an_event_that_would_be_late_may_be_in_a_window_that_is_open() -> None:
    driver = sliding()
    driver.event(1, timestamp=8)
    driver.advance(8)
    assert values(driver.event(2, timestamp=2)) == [(1, 2), (1,)]
    assert [out.to for out in driver.event(3, timestamp=-3) or []] == ["late"]
    assert values(driver.advance(NEVER)) == [("key", -2, 8, (1, 2)), ("key", 3, 13, (1,))]


def test_events_are_kept_as_long_as_a_window_may_hold_them_and_no_longer() -> None:
    driver = sliding(grace=5)
    driver.event(1, timestamp=0)
    driver.advance(15)
    assert any(key.startswith(b"e") for key in driver.stored())
    assert values(driver.event(2, timestamp=10)) == [(1, 2), (2,)]
    driver.advance(17)
    (left,) = (key for key in driver.stored() if key.startswith(b"e"))
    assert b"key" in left
    driver.advance(27)
    assert driver.stored() == {}


def test_events_are_handed_over_anew_as_they_came() -> None:
    seen: list[Any] = []

    def handler(state: list[int], event: Event[Any], call: Call) -> None:
        facts = (event.key, event.timestamp, dict(event.headers), event.upstream, event.id)
        seen.append((dict(event.value), *facts))
        event.value["changed"] = True
        assert call.timestamp == event.timestamp

    driver = Driver(making(SlidingWindows, Sliding(0.01), listing()), handler=handler)
    for n, timestamp in enumerate((0, 5)):
        event = received({"n": n}, b"k", timestamp, {"h": b"x"}, "up", f"id-{n}")
        driver.event(event, key=b"k", timestamp=timestamp, upstream="up", id=f"id-{n}", headers=[("h", b"x")])
    first, second = (({"n": n}, "k", 5 * n, {"h": b"x"}, "up", f"id-{n}") for n in (0, 1))
    assert seen == [first, first, second, (second[0] | {"changed": True}, *second[1:])]


def test_a_tombstone_is_handed_over_anew() -> None:
    driver = driving(SlidingWindows, Sliding(0.01))
    seen: list[Any] = []
    driver._code["handler"] = (lambda state, value: seen.append(value), False)
    driver.event(None, timestamp=0)
    driver.event(7, timestamp=5)
    assert seen == [None, None, 7, 7]


def test_a_handler_that_fails_half_way_leaves_no_trace() -> None:
    driver = sliding()
    driver.event(1, timestamp=0)
    for fail in (1, 2, 3):
        assert driver.event(2, timestamp=5, fail=fail) is None
    assert values(driver.event(3, timestamp=5)) == [(1, 3), (3,)]
    assert values(driver.advance(NEVER)) == [
        ("key", -10, 0, (1,)),
        ("key", -5, 5, (1, 3)),
        ("key", 1, 11, (3,)),
    ]


def test_a_window_that_was_cleared_does_not_remember_what_it_held() -> None:
    def handler(state: list[int], value: int, call: Call) -> None:
        call.cleared = value < 0
        state.append(value)

    driver = driving(SlidingWindows, Sliding(0.01))
    driver._code["handler"] = (handler, True)
    for value, timestamp in ((1, 0), (-1, 0), (2, 0), (-1, 50)):
        driver.event(value, timestamp=timestamp)
    driver.commit()
    driver.restart()
    assert values(driver.advance(NEVER)) == [("key", -10, 0, (2,))]
    assert driver.stored() == {}


def test_a_closing_can_be_given_up() -> None:
    driver = sliding()
    driver.event(5, timestamp=0)
    driver.event(6, timestamp=3)
    driver.advance(NEVER, fail=1)
    (id,) = driver.put_off
    assert driver.give_up(id) == (b"key", msgspec.Raw(b'{"start":-10,"end":0,"state":[5]}'))
    assert driver.retry() == []
    assert driver.stored() == {}


def test_without_code_to_tell_windows_just_go() -> None:
    driver = sliding(tells=False)
    for n in range(700):
        driver.event(n, timestamp=n * 4)
    assert driver.advance(NEVER) == []
    assert driver.stored() == {}


def test_the_wall_clock_closes_windows() -> None:
    driver = sliding(by_wall=True)
    driver.event(1, timestamp=10)
    assert driver.program.wake(0) == 11
    assert driver.advance(now=10) == []
    assert values(driver.advance(now=11)) == [("key", 0, 10, (1,))]
    assert driver.program.wake(11) == 22
    driver.advance(now=22)
    assert driver.stored().keys() == {b"i"}


def test_what_is_held_back_is_the_grace() -> None:
    driver = sliding(grace=5)
    driver.event(1, timestamp=0)
    assert driver.program.holds(4) == -1
    assert driver.program.holds(NEVER) == 0
    driver.advance(NEVER)
    assert driver.program.holds(NEVER) == NEVER
