"""State that is forgotten and stores beside it: tables, and any history against dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reflow_kafka.state.cache import UnreadableState
from reflow_kafka.timed.keyed import OWN
from reflow_kafka.timed.program import NEVER
from reflow_kafka.timed.stores import NamedStore
from reflow_kafka.timers import Timer
from reflow_kafka.value import State
from tests.timed.driver import Driver, values
from tests.timed.keyed import book, keyed, store_kind


def counting(ttl: int | None = None) -> Driver:
    """A stage that counts its events in a box."""

    def handler(count: State[int], value: Any, call: Any) -> int:
        count.value += 1
        call.cleared = value == "clear"
        found = count.value
        if value == "box":
            count.clear()
        return found

    return keyed(state=int, boxed=True, ttl=ttl, timers=False, handler=handler)


# ---- a time to live


@pytest.mark.parametrize(
    ("after", "kept"), [(0, True), (99, True), (159, True), (160 + 9, True), (170, False)]
)
def test_a_state_lives_for_its_time_and_at_most_a_sixteenth_more(after: int, kept: bool) -> None:
    driver = counting(ttl=160)
    driver.event(1)
    driver.now += after
    assert values(driver.event(1)) == [2 if kept else 1]


def test_what_is_over_counts_as_forgotten_before_it_is_swept_away() -> None:
    driver = counting(ttl=160)
    driver.event(1)
    driver.commit()
    driver.now = 170
    assert values(driver.event(1)) == [1]
    driver.now = 339
    assert values(driver.event(1)) == [2]


def test_what_is_over_costs_nothing_after() -> None:
    driver = counting(ttl=160)
    for key in range(1000):
        driver.event(1, key=b"%d" % key)
    assert driver.program.wake(0) == 170
    assert len(driver.stored()) == 3000
    driver.advance(now=169)
    assert len(driver.stored()) == 3000
    driver.restart()
    driver.advance(now=170)
    assert driver.stored() == {}
    assert driver.program.wake(170) is None


def test_touching_costs_a_write_only_now_and_then() -> None:
    driver = counting(ttl=1600)
    driver.event(1)
    writes = 0
    for _ in range(1000):
        driver.commit()
        driver.now += 1
        driver.event(1)
        writes += len(driver.commit()["stage"]) > 1
    assert writes == 9  # once in 101 ms
    assert len(driver.stored()) == 3


def test_a_clock_that_was_ahead_for_a_while_keeps_nothing_for_longer() -> None:
    driver = counting(ttl=160)
    driver.now = 10**9
    driver.event(1)
    driver.now = 0
    driver.event(1)
    assert driver.program.wake(0) == 170


def test_a_time_to_live_beyond_the_end_of_time_is_cut() -> None:
    driver = counting(ttl=2**62)
    driver.now = 2**62
    assert values(driver.event(1)) == [1]
    assert driver.program.wake(0) == NEVER - 1


@pytest.mark.parametrize("how", ["clear", "box"])
def test_a_cleared_state_leaves_nothing(how: str) -> None:
    driver = counting(ttl=160)
    driver.event(1)
    driver.event(how)
    assert driver.stored() == {}
    assert values(driver.event(1)) == [1]


def test_a_timer_touches_its_state_but_outlives_it() -> None:
    def on_timer(state: list[str], timer: Timer) -> list[str]:
        state.append(timer.name)
        return list(state)

    def handler(state: list[str], value: Any) -> None:
        state.append("event")
        book(driver).timer("early", "wall-clock", 100, 0)
        book(driver).timer("late", "wall-clock", 1000, 0)

    driver = keyed(ttl=160, handler=handler, on_timer=on_timer)
    driver.event(1)
    assert values(driver.advance(now=100)) == [["event", "early"]]
    driver.advance(now=269)
    assert values(driver.advance(now=1000)) == [["late"]]


def test_a_state_that_cannot_be_read_says_so() -> None:
    driver = counting()
    driver.event(1)
    driver.commit()
    driver.stores.write({"stage": [(b"key", b"no number")]}, driver._mark())
    driver.restart()
    assert driver.event(1) is None
    assert isinstance(driver.failures[-1], UnreadableState)


def test_a_stage_without_state_calls_its_code_with_the_value_alone() -> None:
    driver = keyed(state=None, timers=False, handler=lambda value: value + 1)
    assert values(driver.event(1)) == [2]
    assert driver.stored() == {}


# ---- named stores


def with_stores(*commands: Any, ttl: int | None = None) -> Driver:
    """A stage whose events are functions of its store ``one``; `commands` are done at once."""

    def handler(command: Any) -> Any:
        found = command(book(driver).store("one"))
        return list(found) if isinstance(found, Iterator) else found

    stores = {"one": store_kind(list, ttl), "one\x00": store_kind(int), "two": store_kind(list)}
    driver = keyed(state=None, timers=False, stores=stores, handler=handler)
    for command in commands:
        assert driver.event(command) is not None, driver.failures
    return driver


def letters(*keys: str, ttl: int | None = None) -> Driver:
    return with_stores(*(lambda store, key=key: store.put(key, [key]) for key in keys), ttl=ttl)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["", "a", "a\x00", "a/1", "a/2", "b", "é", "\U0001f600"]),
        ({"start": "a"}, ["a", "a\x00", "a/1", "a/2", "b", "é", "\U0001f600"]),
        ({"start": "a", "end": "a"}, []),
        ({"start": "b", "end": "a"}, []),
        ({"end": ""}, []),
        ({"end": "a/2"}, ["", "a", "a\x00", "a/1"]),
        ({"start": "a", "end": "b"}, ["a", "a\x00", "a/1", "a/2"]),
        ({"prefix": "a"}, ["a", "a\x00", "a/1", "a/2"]),
        ({"prefix": "a/"}, ["a/1", "a/2"]),
        ({"prefix": "a/", "start": "a/2"}, ["a/2"]),
        ({"prefix": "a/", "end": "a/2"}, ["a/1"]),
        ({"prefix": "a/", "start": "b"}, []),
        ({"prefix": "a/", "start": "a", "end": "c"}, ["a/1", "a/2"]),
        ({"prefix": "c"}, []),
        ({"prefix": "\U0001f600"}, ["\U0001f600"]),
    ],
)
def test_ranges_are_in_the_order_of_the_text(asked: dict[str, str], found: list[str]) -> None:
    driver = letters("é", "b", "a/2", "", "a\x00", "\U0001f600", "a", "a/1")
    for _ in range(2):
        (out,) = values(driver.event(lambda store: store.range(**asked)))
        assert out == [(key, [key]) for key in found]
        driver.commit()


def test_stores_do_not_meet() -> None:
    driver = letters("k")
    driver.event(lambda store: book(driver).store("two").put("k", [2]))
    driver.event(lambda store: book(driver).store("one\x00").put("k", 3))
    assert values(driver.event(lambda store: store.range())) == [[("k", ["k"])]]
    assert values(driver.event(lambda store: book(driver).store("one\x00").range())) == [[("k", 3)]]


def test_an_event_reads_what_it_has_put_and_a_failing_one_leaves_no_trace() -> None:
    def change(store: NamedStore) -> Iterator[Any]:
        store.put("a", [1])
        store.delete("b")
        assert store.get("a") == [1]
        assert store.get("b") is None
        return store.range()

    driver = letters("b")
    assert driver.event(change, fail=1) is None
    assert values(driver.event(lambda store: store.range())) == [[("b", ["b"])]]
    assert values(driver.event(change)) == [[("a", [1])]]


def test_a_value_that_is_changed_is_not_put() -> None:
    driver = letters("a")
    driver.event(lambda store: store.get("a").append("b"))
    assert values(driver.event(lambda store: store.get("a"))) == [["a"]]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (lambda store: store.put("a", None), "found None as the value of 'a' in store 'one'"),
        (lambda store: store.put(1, []), "found 1 as a key of store 'one', wanted text"),
        (lambda store: store.get(b"a"), "found b'a' as a key"),
        (lambda store: store.delete(None), "found None as a key"),
        (lambda store: store.range(end=1), "found 1 as a key"),
        (lambda store: store.put("a", [object()]), "object"),
        (lambda store: store.put("a", {"a": 1}), "found dict where list was expected"),
    ],
)
def test_what_cannot_be_put_fails_where_it_is_put(command: Any, message: str) -> None:
    driver = letters("a")
    assert driver.event(command) is None
    assert message in str(driver.failures[-1])


def test_a_value_that_cannot_be_read_says_so() -> None:
    driver = letters("a")
    (key,) = driver.stored()
    driver.stores.write({"stage": [(key, b"{")]}, driver._mark())
    driver.restart()
    assert driver.event(lambda store: store.get("a")) is None
    assert "the value of 'a' in store 'one' cannot be read" in str(driver.failures[-1])


def test_entries_live_for_their_time_after_they_were_put() -> None:
    driver = letters("a", "b", ttl=160)
    driver.now = 100
    driver.event(lambda store: store.put("a", ["again"]))
    driver.event(lambda store: store.get("b"))
    driver.now = 170
    assert values(driver.event(lambda store: store.range())) == [[("a", ["again"])]]
    assert values(driver.event(lambda store: store.get("b") or "none")) == ["none"]
    driver.advance()
    assert len(driver.stored()) == 3
    driver.event(lambda store: store.delete("a"))
    assert driver.stored() == {}


def test_entries_of_a_store_that_is_gone_are_swept_away_in_silence() -> None:
    driver = letters("a", ttl=160)
    driver.commit()
    expiry = driver.program._expiry  # type: ignore[attr-defined]
    del driver.program._stores["one"]  # type: ignore[attr-defined]
    assert expiry is not None
    assert driver.advance(now=1000) == []
    assert len(driver.stored()) == 1


# ---- any history

KEYS = st.sampled_from(["", "a", "a\x00", "ab", "\udcff"])
TTL = 32


class OneStage(RuleBasedStateMachine):
    """Against dictionaries: key → (value, when it was touched first since it was written down)."""

    def __init__(self) -> None:
        super().__init__()
        stores = {"mortal": store_kind(int, TTL), "for ever": store_kind(int)}
        self.driver = keyed(
            ttl=TTL, timers=False, stores=stores, handler=lambda state, command: command(state)
        )
        self.mortal: dict[Any, tuple[Any, int]] = {}
        self.for_ever: dict[str, int] = {}
        self.stored: Any = ({}, {})

    @property
    def now(self) -> int:
        return self.driver.now

    def end(self, key: Any) -> int:
        """When something touched now is over."""
        end = self.mortal[key][1] if key in self.mortal else -1
        return end if self.now + TTL <= end <= self.now + TTL + TTL // 16 else self.now + TTL + TTL // 16

    def living(self) -> dict[Any, tuple[Any, int]]:
        """What is not over; what is has not gone yet, and if the clock goes back it lives again."""
        return {key: entry for key, entry in self.mortal.items() if entry[1] > self.now}

    def sweep(self) -> None:
        self.driver.advance()
        self.mortal = self.living()

    @rule(key=KEYS, fails=st.booleans(), clear=st.booleans())
    def touch_state(self, key: str, fails: bool, clear: bool) -> None:
        def handler(state: list[int], value: Any, call: Any) -> list[int]:
            state.append(self.now)
            call.cleared = clear
            return list(state)

        self.driver._code["handler"] = (handler, True)
        out = self.driver.event(1, key=key.encode("utf-8", "surrogateescape"), fail=1 if fails else None)
        assert (out is None) == fails
        if fails:
            return
        state = [*self.living().get(("state", key), ([], 0))[0], self.now]
        assert values(out) == [state]
        self.mortal["state", key] = (state, self.end(("state", key)))
        if clear:
            del self.mortal["state", key]

    def do(self, fails: bool, command: Any) -> bool:
        """Do something to the stores in the course of an event; whether it has succeeded."""

        def handler(state: list[int], value: Any, call: Any) -> None:
            call.cleared = True
            command(book(self.driver))

        self.driver._code["handler"] = (handler, True)
        return self.driver.event(1, key=b"nobody's", fail=1 if fails else None) is not None

    @rule(key=KEYS, value=st.integers(), fails=st.booleans())
    def put(self, key: str, value: int, fails: bool) -> None:
        def command(stores: Any) -> None:
            for name in ("mortal", "for ever"):
                stores.store(name).put(key, value)
                assert stores.store(name).get(key) == value

        if self.do(fails, command):
            self.mortal["entry", key] = (value, self.end(("entry", key)))
            self.for_ever[key] = value

    @rule(key=KEYS, fails=st.booleans())
    def delete(self, key: str, fails: bool) -> None:
        def command(stores: Any) -> None:
            for name in ("mortal", "for ever"):
                stores.store(name).delete(key)
                assert stores.store(name).get(key) is None

        if self.do(fails, command):
            self.mortal.pop(("entry", key), None)
            self.for_ever.pop(key, None)

    @rule(start=KEYS, end=st.one_of(st.none(), KEYS), prefix=KEYS)
    def look(self, start: str, end: str | None, prefix: str) -> None:
        found: dict[str, list[Any]] = {}

        def command(stores: Any) -> None:
            for name in ("mortal", "for ever"):
                found[name] = list(stores.store(name).range(start, end, prefix=prefix))

        self.do(False, command)
        mortal = {key: value for (kind, key), (value, _) in self.living().items() if kind == "entry"}
        for name, entries in (("mortal", mortal), ("for ever", self.for_ever)):
            assert found[name] == [
                (key, value)
                for key, value in sorted(entries.items())
                if key >= start and (end is None or key < end) and key.startswith(prefix)
            ]

    @rule(by=st.integers(-5, 2 * TTL), sweeps=st.booleans())
    def time_passes(self, by: int, sweeps: bool) -> None:
        self.driver.now += by
        if sweeps:
            self.sweep()

    @rule()
    def commit(self) -> None:
        self.driver.commit()
        self.stored = dict(self.mortal), dict(self.for_ever)

    @rule(same_program=st.booleans())
    def go_back(self, same_program: bool) -> None:
        if same_program:
            self.driver.rewind()
        else:
            self.driver.restart()
        self.mortal, self.for_ever = dict(self.stored[0]), dict(self.stored[1])

    @rule()
    def nothing_is_left_behind(self) -> None:
        self.sweep()
        found = {shelf.prefix: len(list(shelf.keys())) for shelf in self.driver.shelves._shelves[:3]}
        assert found[OWN + b"x"] == found[OWN + b"l"] == len(self.mortal)
        stored = {key for key in self.driver.stored() if not key.startswith(OWN)}
        assert len(stored) == sum(kind == "state" for kind, _ in self.mortal)
        self.stored = dict(self.mortal), dict(self.for_ever)

    @invariant()
    def wakes_when_the_first_is_over(self) -> None:
        wake = self.driver.program.wake(self.now)
        ends = [end for _, end in self.mortal.values()]
        assert wake is None or wake <= min(ends, default=wake)


TestOneStage = OneStage.TestCase
