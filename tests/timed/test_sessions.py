"""Sessions: they grow, meet, and close once nothing can join them any more."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from reflow_kafka.serde.typed import state_codec
from reflow_kafka.state.cache import UnreadableState
from reflow_kafka.state.ordered import number, text
from reflow_kafka.state.store import StoreMark
from reflow_kafka.timed.program import LONG_AGO, NEVER, Call
from reflow_kafka.timed.sessions import SessionWindows
from reflow_kafka.timed.states import States
from reflow_kafka.units import moment
from reflow_kafka.value import State
from reflow_kafka.windows import Session, Window
from tests.timed.driver import STORE, Driver, values
from tests.timed.windowing import KEYS, NEAR, Held, Windows, boxing, driving, making


def append(older: list[int], younger: list[int]) -> None:
    older += younger


def session(gap: int, grace: int = 0, merge: Any = append) -> Session:
    return Session(gap / 1000, grace=grace / 1000, merge=merge)


class Neighbours:
    """An event takes in all open sessions near it."""

    def __init__(self, kind: Session) -> None:
        self.gap, self.grace = kind.gap, kind.grace
        self.windows: list[Held] = []

    def closes(self, window: Held, watermark: int) -> bool:
        return watermark > window.end + self.gap + self.grace

    def event(self, key: str, timestamp: int, value: int, watermark: int) -> list[tuple[int, ...]] | None:
        near = [
            window
            for window in self.windows
            if window.key == key
            and window.start - self.gap <= timestamp <= window.end + self.gap
            and not self.closes(window, watermark)
        ]
        alone = Held(key, timestamp, timestamp)
        if not near and self.closes(alone, watermark):
            return None
        near.sort(key=lambda window: window.start)
        whole = Held(
            key,
            min([timestamp, *(window.start for window in near)]),
            max([timestamp, *(window.end for window in near)]),
            [value for window in near for value in window.values] + [value],
        )
        self.windows = [window for window in self.windows if window not in near] + [whole]
        return [tuple(whole.values)]


class SessionMachine(Windows):
    program = SessionWindows
    model = Neighbours
    kinds = st.builds(session, st.integers(1, 8), st.sampled_from([0, 0, 1, 9, 30]))


class ShortMachine(SessionMachine):
    """The short way of events that join the newest session leads to the same."""

    in_short = True

    @rule(key=KEYS, near=NEAR, on=st.lists(st.integers(-3, 8), min_size=1, max_size=3))
    def some_more(self, key: str, near: int, on: list[int]) -> None:
        """Events of a key one after the other: its session is at hand."""
        for step in on:
            near += step
            for fail in (1, None):
                self.event(key, near, fail)


TestSessions = SessionMachine.TestCase
TestShort = ShortMachine.TestCase
TestSessions.settings = TestShort.settings = settings(max_examples=120, deadline=None)


# ---- cases


def sessions(gap: int = 10, grace: int = 0, **options: Any) -> Driver:
    return driving(SessionWindows, session(gap, grace), **options)


@pytest.mark.parametrize(
    ("times", "windows"),
    [
        ([0], [(0, 0)]),
        ([0, 10], [(0, 10)]),
        ([0, 11], [(0, 0), (11, 11)]),
        ([0, 0], [(0, 0)]),
        ([-5, 5], [(-5, 5)]),
        ([0, 20], [(0, 0), (20, 20)]),
        ([0, 20, 10], [(0, 20)]),
        ([20, 0, 10], [(0, 20)]),
        ([0, 21, 10], [(0, 10), (21, 21)]),
        ([0, 5, 10, 15, 20, 25], [(0, 25)]),
        ([10, 0], [(0, 10)]),
        ([10, -1], [(-1, -1), (10, 10)]),
        ([0, 11, 22, 5, 16], [(0, 22)]),
    ],
)
def test_events_at_most_the_gap_apart_are_one_session(times: list[int], windows: list[Any]) -> None:
    driver = sessions()
    for timestamp in times:
        driver.event(timestamp, timestamp=timestamp)
    found = driver.advance(NEVER)
    assert [(out.value[1], out.value[2]) for out in found] == windows
    assert [out.timestamp for out in found] == [end for _, end in windows]
    assert sorted(time for out in found for time in out.value[3]) == sorted(times)
    assert driver.stored() == {}


def test_a_third_event_makes_one_session_of_two_the_older_first() -> None:
    driver = sessions()
    driver.event(1, timestamp=20)
    driver.event(2, timestamp=0)
    assert values(driver.event(3, timestamp=10)) == [(2, 1, 3)]
    assert values(driver.advance(31)) == [("key", 0, 20, (2, 1, 3))]


def test_a_session_closes_when_nothing_can_join_it() -> None:
    driver = sessions(grace=5)
    driver.event(1, timestamp=0)
    driver.event(2, timestamp=7)
    assert driver.advance(22) == []
    assert values(driver.advance(23)) == [("key", 0, 7, (1, 2))]


@pytest.mark.parametrize(
    ("watermark", "timestamp", "late"),
    [
        (10, 0, False),
        (11, 0, True),
        (0, -10, False),
        (0, -11, True),
        (NEVER, 10**15, True),
        (LONG_AGO, -(10**15), False),
    ],
)
def test_an_event_is_late_when_its_session_would_have_closed(
    watermark: int, timestamp: int, late: bool
) -> None:
    driver = sessions()
    driver.advance(watermark)
    (out,) = driver.event(1, timestamp=timestamp) or []
    assert (out.to == "late") == late


def test_an_event_that_would_be_late_may_join_a_session_that_is_open() -> None:
    driver = sessions()
    driver.event(1, timestamp=8)
    driver.advance(13)
    assert values(driver.event(2, timestamp=0)) == [(1, 2)]
    assert [out.to for out in driver.event(3, timestamp=-11) or []] == ["late"]
    assert values(driver.advance(NEVER)) == [("key", 0, 8, (1, 2))]


def test_sessions_of_keys_do_not_meet() -> None:
    driver = sessions()
    driver.event(1, key=b"a", timestamp=0)
    driver.event(2, key=b"a\x00", timestamp=1)
    driver.event(3, key=b"", timestamp=1)
    assert sorted(values(driver.advance(NEVER))) == [
        ("", 1, 1, (3,)),
        ("a", 0, 0, (1,)),
        ("a\x00", 1, 1, (2,)),
    ]


def test_an_event_in_order_changes_its_session_only() -> None:
    driver = sessions(gap=100)
    driver.event(0, timestamp=0)
    driver.commit()
    for timestamp in range(1, 200):
        driver.event(timestamp, timestamp=timestamp)
    (changes,) = driver.commit().values()
    assert {key[:1] for key in changes} == {b"z"}


def test_a_session_that_went_on_closes_in_its_turn() -> None:
    driver = sessions()
    for key, timestamp in ((b"a", 0), (b"b", 5), (b"a", 9)):
        driver.event(1, key=key, timestamp=timestamp)
    assert [out.value[0] for out in driver.advance(NEVER)] == ["b", "a"]


def test_a_closed_session_whose_closing_has_failed_takes_no_events() -> None:
    driver = sessions()
    driver.event(1, timestamp=10)
    assert driver.advance(21, fail=1) == []
    assert values(driver.event(2, timestamp=13)) == [(2,)]
    assert values(driver.event(3, timestamp=10)) == [(2, 3)]  # it would be late, but joins the one at 13
    assert values(driver.retry()) == [("key", 10, 10, (1,))]
    assert values(driver.advance(NEVER)) == [("key", 10, 13, (2, 3))]
    assert driver.stored() == {}


def test_nothing_joins_a_session_once_it_is_time_to_close_it() -> None:
    driver = sessions()
    driver.event(1, timestamp=10)
    driver.watermark = 20
    assert values(driver.event(2, timestamp=10)) == [(1, 2)]
    driver.watermark = 21
    assert values(driver.event(3, timestamp=11)) == [(3,)]
    assert values(driver.advance()) == [("key", 10, 10, (1, 2))]


def test_going_back_forgets_what_has_failed() -> None:
    driver = sessions()
    driver.event(1, timestamp=10)
    driver.commit()
    driver.advance(30, fail=1)
    driver.advance(31)
    driver.rewind()
    assert values(driver.advance(31)) == [("key", 10, 10, (1,))]
    assert driver.failures[1:] == []


def test_a_failing_event_leaves_two_sessions_apart() -> None:
    driver = sessions()
    driver.event(1, timestamp=0)
    driver.event(2, timestamp=20)
    assert driver.event(3, timestamp=10, fail=1) is None
    assert values(driver.advance(NEVER)) == [("key", 0, 0, (1,)), ("key", 20, 20, (2,))]


def test_a_merge_that_fails_leaves_them_apart_too() -> None:
    def merge(older: list[int], younger: list[int]) -> None:
        older.clear()
        raise ValueError("no")

    driver = driving(SessionWindows, session(10, merge=merge))
    driver.event(1, timestamp=0)
    driver.event(2, timestamp=20)
    assert driver.event(3, timestamp=10) is None
    assert values(driver.advance(NEVER)) == [("key", 0, 0, (1,)), ("key", 20, 20, (2,))]


def test_a_merge_may_return_another_state() -> None:
    driver = driving(SessionWindows, session(10, merge=lambda older, younger: younger + older))
    for value, timestamp in ((1, 0), (2, 20), (3, 10)):
        driver.event(value, timestamp=timestamp)
    assert values(driver.advance(NEVER)) == [("key", 0, 20, (2, 1, 3))]


@pytest.mark.parametrize("merge", [list.__add__, list.extend])
def test_boxes_are_merged_by_their_values(merge: Any) -> None:
    codec = state_codec(list[int])
    boxes = States(list, boxed=True, encode=codec.encode, decode=codec.decode)

    def add(held: State[list[int]], value: int) -> None:
        held.value = [*held.value, value]

    driver = Driver(
        making(SessionWindows, session(10, merge=merge), boxes),
        handler=add,
        on_close=lambda held, window: (window, held.value),
    )
    for value, timestamp in ((1, 0), (2, 20), (3, 10)):
        driver.event(value, timestamp=timestamp)
    driver.commit()
    driver.restart()
    assert values(driver.advance(NEVER)) == [(Window(0, 20, "key"), [1, 2, 3])]


def test_a_cleared_session_is_gone() -> None:
    def clear(state: list[int], value: int, call: Call) -> None:
        call.cleared = value < 0
        state.append(value)

    driver = Driver(
        making(SessionWindows, session(10), States(list, boxed=False, encode=bytes, decode=list)),
        handler=clear,
        on_close=lambda state, window: state,
    )
    for value, timestamp in ((1, 0), (-1, 5), (-1, 50), (2, 60)):
        driver.event(value, timestamp=timestamp)
    assert values(driver.advance(71)) == [[2]]
    driver.event(3, key=b"a", timestamp=80)
    for timestamp in (81, 89):
        driver.event(4, key=b"b", timestamp=timestamp)
    assert values(driver.advance(92, most=1)) == [[3]]
    driver.event(-1, key=b"b", timestamp=90)  # it was about to be looked at
    assert driver.advance(NEVER) == []
    assert driver.failures == []
    assert driver.stored() == {}


@pytest.mark.parametrize("in_short", [False, True])
def test_nothing_comes_into_a_session_once_it_is_time_to_close_it(in_short: bool) -> None:
    driver = sessions()
    driver.in_short = in_short
    driver.event(1, timestamp=0)
    driver.watermark = 10
    assert values(driver.event(2, timestamp=0)) == [(1, 2)]
    driver.watermark = 11
    assert values(driver.event(3, timestamp=5)) == [(3,)]
    assert values(driver.advance()) == [("key", 0, 0, (1, 2))]
    assert values(driver.event(4, timestamp=6)) == [(3, 4)]
    assert values(driver.advance(NEVER)) == [("key", 5, 6, (3, 4))]


@pytest.mark.parametrize("in_short", [False, True])
def test_an_emptied_box_is_no_session(in_short: bool) -> None:
    driver = boxing(SessionWindows, session(10, merge=max))
    driver.in_short = in_short
    for timestamp, value in ((0, 1), (20, 2), (25, -2), (27, 4), (60, 5), (62, -5)):
        driver.event(value, timestamp=timestamp)
    assert values(driver.advance(30)) == [(Window(0, 0, "key"), 1)]
    assert values(driver.advance(NEVER)) == [(Window(27, 27, "key"), 4)]
    assert driver.stored() == {}
    assert driver.failures == []


def test_a_closing_can_be_given_up() -> None:
    driver = sessions()
    driver.event(5, timestamp=1)
    driver.event(6, timestamp=3)
    driver.event(7, timestamp=50)
    driver.advance(20, fail=1)
    (id,) = driver.put_off
    assert driver.give_up(id) == (b"key", msgspec.Raw(b'{"start":1,"end":3,"state":[5,6]}'))
    assert values(driver.advance(NEVER)) == [("key", 50, 50, (7,))]
    assert driver.stored() == {}


def test_a_session_whose_state_cannot_be_read_is_told_of_and_given_up() -> None:
    driver = sessions()
    driver.event(5, timestamp=1)
    driver.event(6, timestamp=3)
    (place,) = (key for key in driver.stored() if key.startswith(b"z"))
    numbers = driver.stored()[place][: -len(b"[5,6]")]
    driver.stores.write({STORE: [(place, numbers + b'"old"')]}, driver._mark())
    driver.restart()
    assert driver.advance(20) == []
    assert isinstance(driver.failures[-1], UnreadableState)
    (id,) = driver.put_off
    assert driver.program.tell(id) == f"window from {moment(1)} to {moment(3)}"
    assert driver.give_up(id) == (b"key", msgspec.Raw(b'{"start":1,"end":3,"state":"old"}'))
    assert driver.stored() == {}


def test_without_code_to_tell_sessions_just_go() -> None:
    driver = sessions(tells=False)
    for n in range(1_200):
        driver.event(n, key=b"%d" % (n % 2), timestamp=n * 11)
    assert driver.advance(NEVER) == []
    assert driver.stored() == {}


def test_the_wall_clock_closes_sessions() -> None:
    driver = sessions(by_wall=True)
    driver.event(1, timestamp=0)
    assert driver.program.wake(0) == 11
    driver.event(2, timestamp=6)
    assert driver.advance(now=11) == []
    assert driver.program.wake(11) == 17
    assert values(driver.advance(now=17)) == [("key", 0, 6, (1, 2))]


def test_what_is_held_back_is_what_an_event_may_still_begin_or_join() -> None:
    driver = sessions()
    assert driver.program.holds(LONG_AGO) == LONG_AGO
    driver.event(1, timestamp=3)
    assert driver.program.holds(12) == 2
    driver.advance(14)
    assert driver.program.holds(14) == 4
    driver.event(1, timestamp=4)
    assert driver.program.holds(NEVER) == 4
    driver.advance(NEVER)
    assert driver.program.holds(NEVER) == NEVER


@pytest.mark.parametrize("which", [b"key", b"ghost"], ids=["of another time", "of no session"])
def test_what_somebody_else_put_on_the_agenda_does_not_keep_sessions_from_closing(which: bytes) -> None:
    driver = sessions()
    driver.event(1, timestamp=10)
    driver.commit()
    stale = b"v" + number(5) + text(which) + number(0)
    driver.stores.write({STORE: {stale: b""}.items()}, StoreMark("incarnation", {STORE: 2}, 0))
    driver.restart()
    assert values(driver.advance(NEVER, most=4)) == [("key", 10, 10, (1,))]
    assert driver.stored() == {}
