"""Tumbling and hopping windows: one state per key and window, told of exactly once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from reflow_kafka.event import Event
from reflow_kafka.timed.program import LONG_AGO, NEVER, Call
from reflow_kafka.timed.windowed import TimeWindows, TumblingWindows
from reflow_kafka.windows import Hopping, Tumbling, Window
from tests.timed.driver import Driver, values
from tests.timed.windowing import KEYS, NEAR, Held, Windows, boxing, driving


class SideBySide:
    """All times are looked at that a window might begin at."""

    def __init__(self, kind: Any) -> None:
        self.size, self.every, self.grace = kind.size, getattr(kind, "every", kind.size), kind.grace
        self.windows: list[Held] = []

    def closes(self, window: Held, watermark: int) -> bool:
        return watermark >= window.end + self.grace

    def event(self, key: str, timestamp: int, value: int, watermark: int) -> list[tuple[int, ...]] | None:
        updates = []
        for start in range(timestamp - self.size + 1, timestamp + 1):
            if start % self.every:
                continue
            if watermark >= start + self.size + self.grace:
                continue
            held = [w for w in self.windows if (w.key, w.start) == (key, start)]
            if not held:
                held = [Held(key, start, start + self.size)]
                self.windows += held
            held[0].values.append(value)
            updates.append(tuple(held[0].values))
        return updates or None


MS = st.integers(1, 12)
GRACE = st.sampled_from([0, 0, 1, 7])


class TumblingMachine(Windows):
    program = TumblingWindows
    model = SideBySide
    kinds = st.builds(lambda size, grace: Tumbling(size / 1000, grace=grace / 1000), MS, GRACE)


class ShortMachine(TumblingMachine):
    """The short way of events whose state is at hand leads to the same."""

    in_short = True

    @rule(key=KEYS, near=NEAR)
    def once_more(self, key: str, near: int) -> None:
        """Events of one window one after the other: its state is at hand."""
        for fail in (None, 1, None):
            self.event(key, near, fail)


class HoppingMachine(Windows):
    program = TimeWindows
    model = SideBySide
    kinds = st.builds(
        lambda size, every, grace: Hopping(size / 1000, min(size, every) / 1000, grace=grace / 1000),
        MS, MS, GRACE,
    )  # fmt: skip


TestTumbling = TumblingMachine.TestCase
TestShort = ShortMachine.TestCase
TestHopping = HoppingMachine.TestCase
TestTumbling.settings = TestHopping.settings = TestShort.settings = settings(max_examples=60, deadline=None)


# ---- cases


def tumbling(size: int = 10, grace: int = 0, **options: Any) -> Driver:
    return driving(TumblingWindows, Tumbling(size / 1000, grace=grace / 1000), **options)


def hopping(size: int, every: int, grace: int = 0) -> Driver:
    return driving(TimeWindows, Hopping(size / 1000, every / 1000, grace=grace / 1000))


def test_each_event_tells_an_update_and_each_window_closes_once() -> None:
    driver = tumbling()
    assert values(driver.event(1, timestamp=0)) == [(1,)]
    assert values(driver.event(2, timestamp=9)) == [(1, 2)]
    assert values(driver.event(3, timestamp=10)) == [(3,)]
    assert driver.advance(9) == []
    assert values(driver.advance(10)) == [("key", 0, 10, (1, 2))]
    assert driver.advance(19) == []
    assert values(driver.advance(20)) == [("key", 10, 20, (3,))]
    assert driver.advance(NEVER) == []
    assert driver.stored() == {}


@pytest.mark.parametrize(
    ("watermark", "timestamp", "late"),
    [
        (9, 0, False),
        (10, 0, True),
        (10, 9, True),
        (10, 10, False),
        (LONG_AGO, -(10**15), False),
        (0, -1, True),
        (-1, -1, False),
        (-1, -10, False),
        (0, 0, False),
        (10, 10**15, False),
        (NEVER, 10**15, True),
    ],
)
def test_an_event_is_late_once_its_window_has_closed(watermark: int, timestamp: int, late: bool) -> None:
    driver = tumbling()
    driver.advance(watermark)
    (out,) = driver.event(7, timestamp=timestamp) or []
    assert (out.value, out.to) == ((7, "late") if late else ((7,), None))
    assert out.timestamp == timestamp


@pytest.mark.parametrize("in_short", [False, True])
def test_nothing_comes_into_a_window_once_it_is_time_to_close_it(in_short: bool) -> None:
    driver = tumbling()
    driver.in_short = in_short
    driver.event(1, timestamp=0)
    driver.watermark = 9
    assert values(driver.event(2, timestamp=9)) == [(1, 2)]
    driver.watermark = 10
    assert [out.to for out in driver.event(3, timestamp=9) or []] == ["late"]
    assert values(driver.advance()) == [("key", 0, 10, (1, 2))]


def test_grace_keeps_a_window_open() -> None:
    driver = tumbling(grace=5)
    driver.event(1, timestamp=0)
    assert driver.advance(14) == []
    assert values(driver.event(2, timestamp=3)) == [(1, 2)]
    assert values(driver.advance(15)) == [("key", 0, 10, (1, 2))]
    assert [out.to for out in driver.event(3, timestamp=3) or []] == ["late"]


def test_results_of_a_closing_bear_the_last_moment_of_the_window() -> None:
    driver = tumbling()
    driver.event(1, key=b"k", timestamp=-3)
    (out,) = driver.advance(100)
    assert (out.timestamp, out.key, out.value) == (-1, b"k", ("k", -10, 0, (1,)))


def test_windows_close_in_order_of_time_then_key() -> None:
    driver = tumbling()
    for key, timestamp in ((b"b", 25), (b"b", 5), (b"a", 15), (b"a", 5)):
        driver.event(1, key=key, timestamp=timestamp)
    assert [(v[0], v[1]) for v in values(driver.advance(NEVER))] == [("a", 0), ("b", 0), ("a", 10), ("b", 20)]


def test_an_event_is_in_all_its_windows_that_are_open() -> None:
    driver = hopping(10, 5)
    assert values(driver.event(1, timestamp=7)) == [(1,), (1,)]
    assert values(driver.advance(10)) == [("key", 0, 10, (1,))]
    assert values(driver.event(2, timestamp=8)) == [(1, 2)]
    assert [out.to for out in driver.event(3, timestamp=4) or []] == ["late"]
    assert values(driver.advance(15)) == [("key", 5, 15, (1, 2))]


def test_windows_go_on_after_a_restart() -> None:
    driver = tumbling()
    driver.event(1, timestamp=1)
    driver.commit()
    driver.event(2, timestamp=2)
    driver.restart()
    driver.event(3, timestamp=3)
    assert values(driver.advance(10)) == [("key", 0, 10, (1, 3))]
    driver.commit()
    driver.restart()
    assert driver.advance(NEVER) == []


def test_an_event_late_by_far_is_unchanged_with_its_headers() -> None:
    driver = tumbling()
    driver.advance(100)
    given = Event({"a": 1}, key="other", timestamp=3)
    (out,) = driver.event(given, timestamp=3, headers=[("h", b"x")]) or []
    assert (out.value, out.key, out.timestamp, out.headers) == ({"a": 1}, b"key", 3, [("h", b"x")])


def test_a_handler_that_fails_half_way_leaves_no_trace() -> None:
    driver = hopping(10, 5)
    driver.event(1, timestamp=7)
    assert driver.event(2, timestamp=7, fail=2) is None
    assert values(driver.event(3, timestamp=7)) == [(1, 3), (1, 3)]
    assert driver.event(4, timestamp=107, fail=1) is None
    assert values(driver.advance(NEVER)) == [("key", 0, 10, (1, 3)), ("key", 5, 15, (1, 3))]


def test_a_closing_that_fails_is_done_later_and_holds_nothing_up() -> None:
    driver = tumbling()
    for value, timestamp in enumerate((1, 11, 21)):
        driver.event(value, timestamp=timestamp)
    assert [v[1] for v in values(driver.advance(20, fail=1))] == [10]
    assert driver.program.holds(20) == 9
    assert [v[1] for v in values(driver.advance(30))] == [20]
    driver.commit()
    assert values(driver.retry()) == [("key", 0, 10, (0,))]
    assert driver.program.holds(30) == 30
    assert driver.stored() == {}


def test_going_back_forgets_what_has_failed() -> None:
    driver = tumbling()
    driver.event(1, timestamp=1)
    driver.commit()
    driver.advance(30, fail=1)
    driver.advance(31)
    driver.rewind()
    assert values(driver.advance(31)) == [("key", 0, 10, (1,))]
    assert len(driver.failures) == 1


def test_a_closing_can_be_given_up() -> None:
    driver = tumbling()
    driver.event(5, timestamp=1)
    driver.advance(10, fail=1)
    (id,) = driver.put_off
    assert driver.give_up(id) == (b"key", msgspec.Raw(b'{"start":0,"end":10,"state":[5]}'))
    assert driver.retry() == []
    assert driver.program.holds(10) == 10
    assert driver.stored() == {}


def test_without_code_to_tell_windows_just_go() -> None:
    driver = tumbling(tells=False)
    for n in range(1, 1_201):
        driver.event(n, key=b"%d" % (n % 7), timestamp=n * 10)
    assert driver.advance(6_000) == []
    assert len(driver.stored()) == 601
    assert driver.advance(NEVER) == []
    assert driver.stored() == {}
    assert driver.calls == 1_200


def test_what_is_held_back_is_the_grace_and_what_is_still_to_be_closed() -> None:
    driver = tumbling(grace=5)
    driver.event(1, timestamp=0)
    driver.event(1, timestamp=10)
    assert [driver.program.holds(w) for w in (LONG_AGO, 3, 14, 16, 30)] == [LONG_AGO, -2, 9, 9, 9]
    driver.advance(15)
    assert [driver.program.holds(w) for w in (15, 24, 30)] == [10, 19, 19]
    assert driver.program.pending()
    driver.advance(NEVER)
    assert driver.program.holds(NEVER) == NEVER
    assert not driver.program.pending()


def test_a_cleared_state_is_no_window() -> None:
    def clear(state: list[int], value: int, call: Call) -> None:
        call.cleared = value < 0
        state.append(value)

    driver = driving(TumblingWindows, Tumbling(0.01))
    driver._code["handler"] = (clear, True)
    for value in (1, 2, -1):
        driver.event(value, timestamp=1)
    assert driver.advance(10) == []
    driver.event(4, key=b"b", timestamp=11)
    driver.event(-1, key=b"b", timestamp=11)
    driver.event(5, key=b"b", timestamp=11)
    assert values(driver.advance(20)) == [("b", 10, 20, (5,))]


def test_boxes_hold_values_that_cannot_be_changed() -> None:
    driver = boxing(TumblingWindows, Tumbling(1))
    for value in (1, 2):
        driver.event(value, timestamp=0)
    driver.commit()
    driver.restart()
    driver.event(4, timestamp=0)
    driver.event(5, key=b"b", timestamp=0)
    driver.event(-5, key=b"b", timestamp=0)
    assert values(driver.advance(NEVER)) == [(Window(0, 1000, "key"), 7)]


# ---- the wall clock


def test_the_wall_clock_closes_windows_whatever_the_watermark_says() -> None:
    driver = tumbling(grace=2, by_wall=True)
    driver.event(1, timestamp=0)
    assert driver.program.wake(0) == 12
    assert driver.advance(500, now=11) == []
    assert values(driver.event(2, timestamp=9)) == [(1, 2)]
    assert values(driver.advance(now=12)) == [("key", 0, 10, (1, 2))]
    assert [out.to for out in driver.event(3, timestamp=9) or []] == ["late"]
    assert driver.program.wake(12) is None


def test_a_wall_clock_that_goes_back_opens_no_window_again() -> None:
    driver = tumbling(by_wall=True)
    driver.event(1, timestamp=0)
    driver.advance(now=10)
    driver.commit()
    driver.restart()
    driver.now = 5
    assert [out.to for out in driver.event(2, timestamp=9) or []] == ["late"]
    assert [out.to for out in driver.event(3, timestamp=10) or []] == [None]


def test_the_end_of_a_run_closes_windows_of_the_wall_clock_too() -> None:
    driver = tumbling(by_wall=True)
    driver.event(1, timestamp=50)
    assert values(driver.advance(NEVER, now=3)) == [("key", 50, 60, (1,))]
    driver.commit()
    driver.restart()
    driver.watermark = LONG_AGO
    assert values(driver.event(2, timestamp=50)) == [(2,)]


def test_events_of_the_watermark_need_no_waking() -> None:
    driver = tumbling()
    driver.event(1, timestamp=0)
    assert driver.program.wake(10**15) is None


# ---- many


def test_many_windows_close_piece_by_piece_and_are_looked_for_once() -> None:
    driver = tumbling()
    for n in range(2_500):
        driver.event(n, key=b"%d" % n, timestamp=n % 10)
    driver.commit()
    read = 0
    range_ = driver.stores.range

    def counted(*arguments: Any) -> Any:
        nonlocal read
        for pair in range_(*arguments):
            read += 1
            yield pair

    driver.stores.range = counted  # type: ignore[method-assign]
    assert len(driver.advance(10)) == 2_500
    assert read <= 2_500 + 20
    assert driver.stored() == {}
