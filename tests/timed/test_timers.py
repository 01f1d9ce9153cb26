"""Timers: tables of what fires when, and any history against a sorted list."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reflow_kafka.errors import UsageError
from reflow_kafka.timed.keyed import OWN, place_of, timers_at
from reflow_kafka.timed.program import LONG_AGO, NEVER
from reflow_kafka.timed.timers import read_timer
from reflow_kafka.timers import Timer
from reflow_kafka.units import Clock
from tests.timed.driver import Driver, Out, values
from tests.timed.keyed import book, keyed

EVENT: Clock = "event-time"
WALL: Clock = "wall-clock"


def setting(*timers: tuple[str, Clock, int], state: bool = False) -> Driver:
    """A stage whose first event sets timers, and that emits those that fire."""
    asked = list(timers)

    def handler(*arguments: Any) -> None:
        while asked:
            name, clock, at = asked.pop(0)
            book(driver).timer(name, clock, at, 0)

    driver = keyed(state=list if state else None, handler=handler, on_timer=lambda *arguments: arguments[-1])
    return driver


def names(out: list[Out]) -> list[str]:
    return [timer.name for timer in values(out)]


@pytest.mark.parametrize(
    ("at", "watermark", "fires"),
    [
        (10, 9, False),
        (10, 10, True),
        (10, 11, True),
        (0, -1, False),
        (0, 0, True),
        (-5, -6, False),
        (-5, -5, True),
        (-5, LONG_AGO, False),
        (10, NEVER, True),
        (NEVER - 1, NEVER - 2, False),
        (NEVER, NEVER, True),
    ],
)
def test_by_event_time_it_fires_when_the_watermark_reaches_it(at: int, watermark: int, fires: bool) -> None:
    driver = setting(("t", EVENT, at))
    driver.event(1)
    out = driver.advance(watermark, now=99)
    assert values(out) == ([Timer("t", at, EVENT)] if fires else [])
    assert [o.timestamp for o in out] == ([at] if fires else [])
    assert driver.advance(NEVER) == [] or not fires


@pytest.mark.parametrize(
    ("watermark", "timestamp"), [(LONG_AGO, 20), (-3, -3), (0, 0), (5, 5), (50, 50), (NEVER, 20)]
)
def test_by_the_wall_clock_it_fires_at_its_time_and_emits_at_the_watermark(
    watermark: int, timestamp: int
) -> None:
    driver = setting(("t", WALL, 20))
    driver.event(1)
    assert driver.advance(watermark, now=19) == []
    assert driver.program.wake(19) == 20
    assert values(driver.advance(now=20)) == [Timer("t", 20, WALL)]
    assert [(out.timestamp, out.key) for out in driver.out] == [(timestamp, b"key")]
    assert driver.program.wake(20) is None


@pytest.mark.parametrize("clock", [EVENT, WALL])
def test_one_that_is_set_for_the_past_fires_at_once(clock: Clock) -> None:
    driver = setting(("t", clock, 5))
    driver.advance(1000, now=1000)
    driver.event(1, timestamp=2000)
    assert names(driver.advance()) == ["t"]


def test_a_name_is_one_timer_whatever_its_clock() -> None:
    driver = setting(("a", EVENT, 10), ("a", WALL, 20), ("b", WALL, 5), ("b", EVENT, 7))
    driver.event(1)
    assert values(driver.advance(100, now=100)) == [Timer("b", 7, EVENT), Timer("a", 20, WALL)]


def test_equal_times_go_by_key_then_name_and_clocks_are_mixed_by_time() -> None:
    driver = setting(("b", EVENT, 10), ("a", EVENT, 10), ("c", WALL, 9), ("ab", EVENT, 10), ("d", WALL, 11))
    driver.event(1)
    assert names(driver.advance(100, now=100)) == ["c", "a", "ab", "b", "d"]


def test_a_cancelled_timer_does_not_fire_and_one_never_set_cannot_be_cancelled() -> None:
    def handler(value: str) -> None:
        timers = book(driver)
        if value == "cancel":
            timers.cancel_timer("t")
            timers.cancel_timer("other")
        else:
            timers.timer("t", EVENT, 10, 0)

    driver = keyed(state=None, handler=handler, on_timer=lambda timer: timer)
    driver.event("set", key=b"a")
    driver.event("set", key=b"b")
    driver.event("cancel", key=b"a")
    assert [out.key for out in driver.advance(10)] == [b"b"]
    assert driver.stored() == {}


@pytest.mark.parametrize(("clock", "at"), [(EVENT, 107), (WALL, 37)])
def test_a_delay_counts_from_the_event_or_from_now(clock: Clock, at: int) -> None:
    driver = keyed(
        state=None,
        handler=lambda value: book(driver).timer("t", clock, None, 7),
        on_timer=lambda timer: timer,
    )
    driver.advance(50, now=30)
    driver.event(1, timestamp=100)
    assert values(driver.advance(NEVER, now=NEVER - 1)) == [Timer("t", at, clock)]


def test_a_delay_beyond_the_end_of_time_is_cut() -> None:
    driver = keyed(state=None, handler=lambda value: book(driver).timer("t", EVENT, None, 2**53))
    assert driver.event(1, timestamp=NEVER - 3) == []
    assert driver.program.holds(NEVER) == NEVER - 1


def test_a_timer_may_set_itself_again() -> None:
    def on_timer(state: list[int], timer: Timer) -> list[int]:
        state.append(timer.at)
        if timer.at < 30:
            book(driver).timer(timer.name, EVENT, timer.at + 10, 0)
        return list(state)

    driver = keyed(handler=lambda state, value: book(driver).timer("t", EVENT, 10, 0), on_timer=on_timer)
    driver.event(1)
    assert values(driver.advance(25)) == [[10], [10, 20]]
    driver.commit()
    driver.restart()
    assert values(driver.advance(100)) == [[10, 20, 30]]


@pytest.mark.parametrize("clock", [EVENT, WALL])
def test_one_that_is_put_off_again_and_again_moves_only_when_its_first_time_has_come(clock: Clock) -> None:
    driver = keyed(
        state=None, handler=lambda at: book(driver).timer("t", clock, at, 0), on_timer=lambda timer: timer
    )
    driver.event(10)
    driver.commit()
    for at in range(11, 100):
        driver.event(at)
        assert len(driver.commit()["stage"]) == 1
        assert read_timer(b"t", driver.stored()[timers_at(b"key") + b"t"]) == Timer("t", at, clock)
    assert driver.advance(98, now=98) == []
    assert len(driver.commit()["stage"]) == 3
    driver.event(50)
    driver.event(51)
    driver.event(30)
    assert values(driver.advance()) == [Timer("t", 30, clock)]
    driver.event(200)
    driver.event(300)
    driver.advance(250, now=250)
    assert values(driver.advance(300, now=300)) == [Timer("t", 300, clock)]
    assert driver.stored() == {}


def test_one_that_sets_itself_again_lets_a_run_end_and_goes_on_in_the_next() -> None:
    def again(timer: Timer) -> Timer:
        book(driver).timer(timer.name, EVENT, timer.at + 10, 0)
        return timer

    driver = keyed(state=None, handler=lambda value: book(driver).timer("t", EVENT, 10, 0), on_timer=again)
    driver.event(1)
    assert [timer.at for timer in values(driver.advance(25))] == [10, 20]
    assert [timer.at for timer in values(driver.advance(NEVER))] == [30]
    assert driver.program.holds(NEVER) == NEVER
    driver.commit()
    driver.restart()
    driver.watermark = 25
    assert driver.program.holds(45) == 40
    assert [timer.at for timer in values(driver.advance(45))] == [40]
    assert [timer.at for timer in values(driver.advance(NEVER))] == [50]


def test_those_that_an_end_has_left_can_be_cancelled_and_replaced() -> None:
    def handler(value: str) -> None:
        if value == "cancel":
            book(driver).cancel_timer("a")
        else:
            book(driver).timer(value, EVENT, 10, 0)

    driver = keyed(state=None, handler=handler, on_timer=lambda timer: timer)
    driver.watermark = NEVER
    for name in ("a", "b", "c"):
        driver.event(name)
    driver.watermark = 5
    for value in ("cancel", "b"):
        driver.event(value)
    assert driver.advance() == []
    assert names(driver.advance(10)) == ["b", "c"]
    assert driver.stored() == {}


def test_many_that_an_end_has_left_all_count() -> None:
    driver = keyed(
        state=None,
        handler=lambda value: book(driver).timer("t", EVENT, value, 0),
        on_timer=lambda timer: timer.at,
    )
    driver.watermark = NEVER
    for at in range(1000):
        driver.event(at, key=b"%d" % at)
    driver.watermark = 0
    assert values(driver.advance(2000)) == list(range(1000))


def test_what_fails_is_put_off_and_holds_the_others_of_its_key_up() -> None:
    driver = setting(("a", EVENT, 10), ("b", EVENT, 11), ("w", WALL, 5))
    driver.event(1)
    driver.event(1, key=b"other")
    assert names(driver.advance(100, now=0, fail=1)) == []
    assert driver.program.holds(100) == 10
    assert driver.program.wake(0) is None
    assert names(driver.advance(now=100)) == []
    assert names(driver.retry()) == ["w", "a", "b"]
    assert driver.program.holds(100) == 100


@pytest.mark.parametrize("clock", [EVENT, WALL])
def test_it_is_pending_until_it_has_fired(clock: Clock) -> None:
    driver = setting(("t", clock, 10))
    assert not driver.program.pending()
    driver.event(1)
    assert driver.program.pending()
    driver.advance(10, now=10)
    assert not driver.program.pending()


def test_what_cannot_be_done_is_given_up() -> None:
    driver = setting(("a", EVENT, 10), ("b", WALL, 11))
    driver.event(1, key=b"k")
    driver.advance(20, now=20, fail=1)
    (id,) = driver.put_off
    assert driver.give_up(id) == (b"k", Timer("a", 10, EVENT))
    assert names(driver.advance()) == ["b"]
    assert driver.stored() == {}


def test_a_name_that_is_no_text_can_be_told_of() -> None:
    driver = setting(("\udcff", EVENT, 10))
    driver.event(1, key=b"k")
    driver.advance(20, fail=1)
    (id,) = driver.put_off
    assert driver.give_up(id) == (b"k", Timer(r"\udcff", 10, EVENT))
    assert driver.stored() == {}


def test_a_state_goes_along_and_may_be_cleared() -> None:
    def on_timer(state: list[int], timer: Timer, call: Any) -> int:
        call.cleared = timer.name == "clear"
        state.append(timer.at)
        return len(state)

    driver = setting(("count", EVENT, 1), ("clear", EVENT, 2), ("more", EVENT, 3), state=True)
    driver._code["on_timer"] = (on_timer, True)
    driver.event(1)
    assert values(driver.advance(2)) == [1, 2]
    assert b"key" not in driver.stored()
    assert values(driver.advance(3)) == [1]


def test_a_stage_without_timers_and_stores_says_what_to_write() -> None:
    driver = keyed(timers=False, handler=lambda state, value: None)
    with pytest.raises(UsageError, match="on_timer="):
        book(driver).timer("t", EVENT, 1, 0)
    with pytest.raises(UsageError, match="on_timer="):
        book(driver).cancel_timer("t")
    with pytest.raises(UsageError, match=r"'seen' \(it has none\): say stores="):
        book(driver).store("seen")


# ---- any history

ALL_KEYS = [b"", b"a", b"a\x00", b"ab", b"\xff", OWN, OWN + b"t"]
KEYS = st.sampled_from(ALL_KEYS)
NAMES = st.sampled_from(["t", "u", "again", "again2", ""])
TIMES = st.integers(-30, 60)
CLOCKS: st.SearchStrategy[Clock] = st.sampled_from([EVENT, WALL])
COMMANDS = st.lists(st.tuples(NAMES, st.one_of(st.none(), st.tuples(CLOCKS, TIMES))), max_size=4)

Model = dict[tuple[bytes, str], tuple[str, int]]


class OneStage(RuleBasedStateMachine):
    """Against a dictionary: key and name → clock (or ``another run``) and time."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = keyed(handler=self.handler, on_timer=self.on_timer)
        self.timers: Model = {}
        self.fired: dict[bytes, list[str]] = {}
        self.stored: tuple[Model, dict[bytes, list[str]]] = ({}, {})
        self.held_up: set[bytes] = set()
        self.looked = False
        """Whether it was looked for what is due since something has changed."""

    def handler(self, state: list[str], commands: list[Any]) -> None:
        for name, timer in commands:
            if timer is None:
                book(self.driver).cancel_timer(name)
            else:
                book(self.driver).timer(name, timer[0], timer[1], 0)
        state.append("event")

    def on_timer(self, state: list[str], timer: Timer) -> str:
        state.append(timer.name)
        if timer.name.startswith("again") and timer.at < 60:
            book(self.driver).timer(timer.name, timer.clock, timer.at + 7, 0)
        return f"{timer.name}/{timer.at}/{timer.clock}"

    # ---- the model

    def ordered(self) -> tuple[Model, dict[bytes, list[str]]]:
        return dict(self.timers), {key: list(state) for key, state in self.fired.items()}

    def set(self, key: bytes, name: str, clock: str, at: int) -> None:
        at_the_end = clock == EVENT and self.driver.watermark == NEVER
        self.timers[key, name] = ("another run" if at_the_end else clock, at)

    def due(self) -> list[tuple[int, bytes, str, str]]:
        limits = {EVENT: self.driver.watermark, WALL: self.driver.now}
        if self.driver.watermark < NEVER:
            for entry, (clock, at) in self.timers.items():
                self.timers[entry] = (EVENT if clock == "another run" else clock, at)
        return sorted(
            (at, key, name, clock)
            for (key, name), (clock, at) in self.timers.items()
            if at <= limits.get(clock, LONG_AGO) and key not in self.held_up
        )

    def fires(self, fail: int | None) -> list[tuple[str, bytes]]:
        out, calls = [], 0
        while due := self.due():
            at, key, name, clock = due[0]
            calls += 1
            if calls == fail:
                self.held_up.add(key)
                continue
            del self.timers[key, name]
            self.fired.setdefault(key, []).append(name)
            if name.startswith("again") and at < 60:
                self.set(key, name, clock, at + 7)
            out.append((f"{name}/{at}/{clock}", key))
        return out

    # ---- what happens

    @rule(key=KEYS, commands=COMMANDS, fails=st.booleans())
    def event(self, key: bytes, commands: list[Any], fails: bool) -> None:
        self.looked = False
        out = self.driver.event(commands, key=key, fail=1 if fails else None)
        assert (out is None) == fails
        if fails:
            return
        self.fired.setdefault(key, []).append("event")
        for name, timer in commands:
            if timer is None:
                self.timers.pop((key, name), None)
            else:
                self.set(key, name, *timer)

    @rule(watermark=st.one_of(TIMES, st.just(NEVER)), now=TIMES, fail=st.one_of(st.none(), st.integers(1, 4)))
    def advance(self, watermark: int, now: int, fail: int | None) -> None:
        found = self.driver.advance(watermark, now=now, fail=fail)
        assert [(out.value, out.key) for out in found] == self.fires(fail)
        self.looked = True

    @precondition(lambda self: self.held_up)
    @rule()
    def retry(self) -> None:
        self.held_up.clear()
        assert [(out.value, out.key) for out in self.driver.retry()] == self.fires(None)
        self.looked = True

    @rule()
    def commit(self) -> None:
        self.driver.commit()
        self.stored = self.ordered()

    @rule(same_program=st.booleans())
    def go_back(self, same_program: bool) -> None:
        if same_program:
            self.driver.rewind()
        else:
            self.driver.restart()
        self.held_up.clear()
        self.looked = False
        self.timers, self.fired = dict(self.stored[0]), {k: list(v) for k, v in self.stored[1].items()}

    @invariant()
    def tells_when_it_has_to_be_asked(self) -> None:
        walls = [
            at for (key, _), (clock, at) in self.timers.items() if clock == WALL and key not in self.held_up
        ]
        wake = self.driver.program.wake(self.driver.now)
        assert (wake is None) == (not walls)
        assert wake is None or wake <= min(walls)
        watermark = self.driver.watermark
        events = [at for clock, at in self.timers.values() if clock != WALL and watermark < NEVER]
        events += [at for clock, at in self.timers.values() if clock == EVENT]
        assert self.driver.program.holds(watermark) <= min([*events, watermark])
        if self.looked:
            assert self.driver.program.holds(watermark) == min([*events, watermark])
            assert wake is None or wake > self.driver.now

    @invariant()
    def keeps_nothing_else(self) -> None:
        shelves = self.driver.shelves._shelves
        found = {shelf.prefix: list(shelf.items()) for shelf in shelves[1:]}
        assert len(found[OWN + b"t"]) == len(found[OWN + b"T"]) == len(self.timers)
        states = {key: shelves[0].get(place_of(key)) for key in ALL_KEYS}
        assert {key: state for key, state in states.items() if state is not None} == self.fired


TestOneStage = OneStage.TestCase
