"""Gathering: sets of parts, each handed over once, or given up, or told to have come too late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reflow_kafka.event import Event
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.timed.gather import INLINE, GatherProgram
from reflow_kafka.timed.program import LONG_AGO, NEVER
from tests.timed.driver import Driver, shelf_of, values

KEYS = [b"a", b"b"]
CODECS = (edge_codec(Any), edge_codec(Any))


def gathering(code: Callable[..., Any] = list, **options: Any) -> Driver:
    options = {"expect": 3, "within": 10, **options}
    return Driver(lambda *where: GatherProgram(shelf_of(*where), CODECS, **options), handler=partial(code))


def outputs(driver: Driver) -> list[tuple[str | None, Any, int]]:
    return [(out.to, out.value, out.timestamp) for out in driver.out]


def outputs_of(out: Sequence[Any] | None) -> list[tuple[str | None, Any]]:
    return [(each.to, each.value) for each in out or []]


# ---- complete sets


def test_a_set_is_handed_over_when_it_is_complete_and_not_before() -> None:
    driver = gathering()
    assert driver.event("a", timestamp=7, headers=[("from", b"first")]) == []
    assert driver.event("b", timestamp=9, side=1) == []
    (out,) = driver.event("c", timestamp=8) or []
    assert (out.value, out.timestamp, out.key) == (["a", "b", "c"], 9, b"key")
    assert list(out.headers) == [("from", b"first")]


def test_keys_do_not_meet() -> None:
    driver = gathering(expect=2)
    for key in (b"", b"\x00", b"\x00\xff", b"a", b"a\x00"):
        driver.event(key.hex(), key=key)
    for key in (b"a\x00", b"a", b"\x00\xff", b"\x00", b""):
        assert values(driver.event("2", key=key)) == [[key.hex(), "2"]]


def test_one_part_may_be_all() -> None:
    assert values(gathering(expect=1).event("a")) == [["a"]]


def test_a_part_counts_once() -> None:
    driver = gathering(expect=2)
    driver.event("a", id="1")
    assert driver.event("a", id="1") == []
    driver.commit()
    driver.restart()
    assert driver.event("a", id="1") == []
    assert values(driver.event("b", id="2")) == [["a", "b"]]


def test_the_id_may_stand_in_the_value() -> None:
    driver = gathering(expect=2, id_of=lambda value: value["part"].encode())
    driver.event({"part": "1", "n": 1})
    assert driver.event({"part": "1", "n": 2}) == []
    assert values(driver.event({"part": "2"})) == [[{"part": "1", "n": 1}, {"part": "2"}]]
    driver = gathering(expect=2, id_of=lambda value: None)
    assert driver.event({}) is None
    assert "id of a part" in str(driver.failures[-1])


def test_tombstones_are_parts_too() -> None:
    driver = gathering(expect=2)
    driver.event(None)
    assert values(driver.event("b")) == [[None, "b"]]


def test_large_sets_keep_their_order_and_ids() -> None:
    count = 50
    driver = gathering(expect=count)
    texts = [f"{n:04}" * (INLINE // 40) for n in range(count)]
    for n, value in enumerate(texts[:-1]):
        driver.event(value, id=f"{n * 7 % count}")
        assert driver.event(value, id=f"{n * 7 % count}") == []
        if n % 9 == 0:
            driver.commit()
            driver.restart()
    assert values(driver.event(texts[-1], id="last")) == [texts]
    driver.advance(NEVER)
    assert driver.stored() == {}


def test_parts_are_handed_over_as_events_if_they_are_asked_for() -> None:
    seen: list[list[Event[Any]]] = []
    driver = gathering(seen.append, expect=2, events=True)
    driver.event(Event("a"), timestamp=3, id="t/0/1", upstream="left", headers=[("h", b"1"), ("n", None)])
    driver.event(Event("b"), timestamp=4, id="t/0/2", upstream="right", side=1)
    ((first, second),) = seen
    assert (first.value, first.timestamp, first.id, first.upstream) == ("a", 3, "t/0/1", "left")
    assert (first.key, dict(first.headers)) == ("key", {"h": b"1", "n": b""})
    assert (second.value, second.timestamp, second.id, second.upstream) == ("b", 4, "t/0/2", "right")


def test_each_side_is_kept_as_its_edge_has_it() -> None:
    codecs = (edge_codec(str), edge_codec(bytes))
    driver = Driver(
        lambda *where: GatherProgram(shelf_of(*where), codecs, expect=3, within=10), handler=partial(list)
    )
    driver.event("ä", side=0)
    driver.event(b"\xff", side=1)
    assert values(driver.event("b", side=0)) == [["ä", b"\xff", "b"]]


# ---- how many


def told(value: Any) -> Any:
    return value.get("of")


def test_any_part_may_tell_how_many_there_are() -> None:
    for place in range(3):
        driver = gathering(expect=told)
        parts = [{"n": n, "of": 3} if n == place else {"n": n} for n in range(3)]
        assert [values(driver.event(part)) for part in parts] == [[], [], [parts]]


def test_all_of_them_may_tell() -> None:
    driver = gathering(expect=told)
    assert [len(driver.event({"of": 2}) or []) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize(("before", "last", "why"), [
    ([{"of": 3}], {"of": 4}, "set 'key' has 4 parts, one before it said 3"),
    ([{}, {}], {"of": 2}, "set 'key' has 2 parts, but 2 are there"),
    ([{}, {}], {"of": 1}, "set 'key' has 1 parts, but 2 are there"),
    ([], {"of": 0}, "found 0 as the number of parts"),
    ([], {"of": "2"}, "found '2' as the number of parts"),
    ([], {"of": True}, "found True as the number of parts"),
])  # fmt: skip
def test_a_part_that_contradicts_its_set_fails_and_is_none_of_it(
    before: list[Any], last: Any, why: str
) -> None:
    driver = gathering(expect=told)
    for part in before:
        assert driver.event(part) == []
    assert driver.event(last) is None
    assert why in str(driver.failures[-1])
    driver.advance(NEVER)
    assert [out.value for out in driver.out] == ([before] if before else [])


# ---- incomplete sets


def test_an_incomplete_set_is_given_up_after_its_time() -> None:
    driver = gathering()
    driver.event("a", timestamp=5, headers=[("from", b"first")])
    driver.event("b", timestamp=14, headers=[("from", b"second")])
    assert driver.advance(14) == []
    (out,) = driver.advance(15)
    assert (out.to, out.value, out.timestamp, out.key) == ("timeout", ["a", "b"], 15, b"key")
    assert list(out.headers) == [("from", b"first")]
    assert driver.calls == 0


@pytest.mark.parametrize("begin", [-20, -10, -5, 0, 5])
def test_sets_end_at_all_times(begin: int) -> None:
    driver = gathering()
    driver.event("a", timestamp=begin)
    assert driver.advance(begin + 9) == []
    assert [out.timestamp for out in driver.advance(begin + 10)] == [begin + 10]


def test_sets_end_in_the_order_of_their_times_then_keys() -> None:
    driver = gathering()
    for key, timestamp in ((b"d", 3), (b"c", 1), (b"b", 1), (b"a", 2)):
        driver.event("x", key=key, timestamp=timestamp)
    assert [out.key for out in driver.advance(NEVER)] == [b"b", b"c", b"a", b"d"]


def test_a_set_complete_at_its_last_moment_is_no_time_out() -> None:
    driver = gathering(expect=2)
    driver.event("a", timestamp=0)
    assert values(driver.event("b", timestamp=9)) == [["a", "b"]]
    assert driver.advance(NEVER) == []


def test_a_part_that_is_too_young_ends_the_set_wherever_the_watermark_is() -> None:
    driver = gathering(expect=2)
    driver.event("a", timestamp=0)
    assert outputs_of(driver.event("b", timestamp=10)) == [("timeout", ["a"]), ("late", "b")]
    assert values(driver.event("c", timestamp=20)) == []  # nothing is left of the first
    assert values(driver.event("d", timestamp=29)) == [["c", "d"]]


def test_a_part_that_is_as_much_too_old_is_late() -> None:
    driver = gathering(expect=2)
    driver.event("a", timestamp=20)
    assert outputs_of(driver.event("b", timestamp=10)) == [("late", "b")]
    assert values(driver.event("c", timestamp=11)) == [["a", "c"]]


def test_the_time_counts_from_the_first_to_arrive() -> None:
    driver = gathering()
    driver.event("a", timestamp=20)
    driver.event("b", timestamp=11)
    assert driver.advance(29) == []
    assert len(driver.advance(30)) == 1


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 80)), max_size=20), st.data())
def test_sets_do_not_depend_on_when_time_goes_on(found: list[tuple[bytes, int]], data: st.DataObject) -> None:
    """In order of time: one by one, or with the watermark anywhere behind."""
    found.sort(key=itemgetter(1))

    def run(watermark: Callable[[int], int]) -> list[tuple[Any, ...]]:
        driver = gathering(expect=2)
        for number, (key, at) in enumerate(found):
            driver.event(number, key=key, timestamp=at, id=f"{number}")
            driver.advance(max(driver.watermark, watermark(at)))
        driver.advance(NEVER - 1)
        return sorted((out.key, str(out.to), str(out.value), out.timestamp) for out in driver.out)

    assert run(lambda at: at) == run(lambda at: data.draw(st.integers(LONG_AGO, at)))


def test_a_part_that_is_late_already_begins_a_set_that_is_given_up_at_once() -> None:
    driver = gathering()
    driver.advance(100)
    assert driver.event("a", timestamp=0) == []
    assert [(out.to, out.timestamp) for out in driver.advance(100)] == [("timeout", 10)]


@pytest.mark.parametrize("timestamp", [NEVER, NEVER - 5, LONG_AGO])
def test_times_at_the_end_of_time(timestamp: int) -> None:
    driver = gathering()
    driver.event("a", timestamp=timestamp)
    assert [out.value for out in driver.advance(NEVER)] == [["a"]]
    assert driver.stored() == {}


def test_a_part_finds_its_set_given_up_if_nobody_has_looked_at_the_time_before() -> None:
    driver = gathering(expect=2)
    driver.event("a", timestamp=0)
    driver.watermark = 10
    assert [(out.to, out.value) for out in driver.event("b", timestamp=12) or []] == [
        ("timeout", ["a"]),
        ("late", "b"),
    ]
    driver.watermark = 20
    assert driver.event("c", timestamp=20) == []
    assert values(driver.event("d", timestamp=20)) == [["c", "d"]]
    driver.watermark = NEVER - 1
    driver.event("e", timestamp=30)
    assert [out.value for out in driver.advance(NEVER)] == [["e"]]
    assert driver.stored() == {}


# ---- what comes for a closed set


def test_what_comes_for_a_complete_set_is_late_until_its_time_is_over() -> None:
    driver = gathering(expect=2)
    driver.event("a", timestamp=0)
    driver.event("b", timestamp=1)
    driver.advance(9)
    (late,) = driver.event("c", timestamp=9, headers=[("of", b"c")]) or []
    assert (late.to, late.value, late.timestamp, list(late.headers)) == ("late", "c", 9, [("of", b"c")])
    assert driver.advance(10) == []
    assert driver.event("d", timestamp=11) == []  # another set
    assert values(driver.event("e", timestamp=11)) == [["d", "e"]]


def test_what_comes_for_a_set_that_was_given_up_is_late_for_as_long_again() -> None:
    driver = gathering(expect=2)
    driver.event("a", timestamp=0)
    driver.advance(10)
    assert [out.to for out in driver.event("b", timestamp=5) or []] == ["late"]
    driver.advance(19)
    assert [out.to for out in driver.event("c", timestamp=5) or []] == ["late"]
    driver.advance(20)
    assert driver.event("d", timestamp=20) == []


def test_a_small_set_is_two_keys_and_a_closed_one_no_more() -> None:
    driver = gathering(expect=5)
    for n in range(4):
        driver.event("x" * 100, id=f"{n}")
    assert len(driver.stored()) == 2
    driver.event("x" * 5_000, id="large")
    closed = driver.stored()
    assert (len(closed), sum(map(len, closed.values())) < 50) == (2, True)


def test_nothing_is_kept_of_what_is_over() -> None:
    driver = gathering(expect=2)
    for n in range(100):
        driver.event("x" * 100, key=b"%d" % (n % 60), timestamp=n)
    driver.commit()
    driver.advance(1000)
    assert driver.stored() == {}


# ---- the wall clock


def test_on_the_wall_clock_the_time_counts_from_when_the_first_came() -> None:
    driver = gathering(clock="wall-clock")
    driver.advance(1_000, now=50)
    driver.event("a", timestamp=5)
    assert driver.program.wake(50) == 60
    assert driver.advance(5_000, now=59) == []
    (out,) = driver.advance(now=60)
    assert (out.to, out.value, out.timestamp) == ("timeout", ["a"], 5_000)
    assert driver.program.wake(60) == 70
    driver.advance(now=70)
    assert driver.program.wake(70) is None


def test_on_the_wall_clock_a_time_out_is_as_old_as_its_parts_while_no_watermark_is_known() -> None:
    driver = gathering(clock="wall-clock")
    driver.event("a", timestamp=5)
    driver.event("b", timestamp=3)
    assert [out.timestamp for out in driver.advance(now=60)] == [5]
    assert driver.program.holds(LONG_AGO) == LONG_AGO


def test_a_set_whose_time_out_is_put_off_wakes_nobody() -> None:
    driver = gathering(clock="wall-clock")
    driver.event("a", timestamp=5)
    due = driver.program.due(LONG_AGO, 60)
    assert due is not None
    assert driver.program.due(LONG_AGO, 60, frozenset({due.id})) is None
    assert driver.program.wake(60) is None
    assert driver.program.due(LONG_AGO, 60) is not None
    assert driver.program.wake(60) == 10


def test_the_end_of_a_run_ends_what_waits_for_the_wall_clock() -> None:
    driver = gathering(clock="wall-clock")
    driver.event("a", timestamp=5)
    assert driver.program.pending()
    assert [(out.to, out.timestamp) for out in driver.advance(NEVER)] == [("timeout", 5)]
    assert driver.stored() == {}
    assert not driver.program.pending()


def test_by_the_time_of_events_no_wall_clock_wakes_anybody() -> None:
    driver = gathering()
    driver.event("a")
    assert driver.program.wake(1_000) is None
    assert driver.advance(now=10_000) == []


# ---- failures


def test_a_part_whose_set_fails_is_as_if_it_had_not_come() -> None:
    driver = gathering(expect=2)
    driver.event("a", id="1")
    assert driver.event("b", id="2", fail=1) is None
    assert values(driver.event("b", id="2")) == [["a", "b"]]


def test_a_part_that_is_a_dead_letter_leaves_its_set_incomplete() -> None:
    driver = gathering(expect=2)
    driver.event("a", timestamp=0)
    assert driver.event("b", timestamp=0, fail=1) is None
    assert [out.value for out in driver.advance(10)] == [["a"]]


def test_a_time_out_that_cannot_be_told_is_given_up() -> None:
    driver = gathering()
    driver.event("a", timestamp=0)
    due = driver.program.due(10, 0)
    assert due is not None
    assert (due.at, due.key) == (10, b"key")
    assert driver.program.tell(due.id) == "the set given up at 1970-01-01T00:00:00.010Z"
    assert driver.program.due(10, 0, frozenset([due.id])) is None
    assert driver.program.holds(10) == 10
    assert driver.program.holds(12) == 10
    assert driver.give_up(due.id) == (b"key", ["a"])
    assert driver.program.holds(12) == 12
    assert driver.advance(12) == []
    assert [out.to for out in driver.event("b", timestamp=1) or []] == ["late"]
    driver.advance(NEVER)
    assert driver.stored() == {}


def test_a_set_of_which_a_part_cannot_be_read_any_more_is_given_up_with_its_text() -> None:
    types: list[Any] = [str]
    driver = Driver(
        lambda *where: GatherProgram(shelf_of(*where), [edge_codec(types[0])], expect=3, within=10),
        handler=list,
    )
    driver.event("a", timestamp=0)
    driver.event("1", timestamp=0)
    driver.commit()
    types[0] = int
    driver.restart()
    assert driver.advance(10) == []
    (id,) = driver.put_off
    assert driver.give_up(id) == (b"key", ["a", 1])
    driver.advance(NEVER)
    assert driver.stored() == {}


# ---- against a plain model


class AgainstAModel(RuleBasedStateMachine):
    """Sets in dictionaries; commits, restarts and going back at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = gathering(expect=told)
        self.watermark = -50
        self.parts = 0
        self.sets: dict[bytes, dict[str, Any]] = {}
        self.expected: list[tuple[str | None, bytes, Any, int]] = []
        self.kept: tuple[Any, ...] = ({}, [])
        self.driver.advance(self.watermark)

    @rule(key=st.sampled_from(KEYS), timestamp=st.integers(-50, 50), of=st.sampled_from([None, 2, 3, 4]),
          size=st.sampled_from([1, 3_000]), again=st.booleans(), fail=st.booleans())  # fmt: skip
    def part(self, key: bytes, timestamp: int, of: int | None, size: int, again: bool, fail: bool) -> None:
        self.parts += not again
        id = f"{self.parts}"
        value = {"n": self.parts, "of": of, "text": "x" * size}
        before = list(self.expected), dict(self.sets)
        out = self.driver.event(value, key=key, timestamp=timestamp, id=id, fail=1 if fail else None)
        self.settle([key], max(self.watermark, timestamp))
        found, self.fails = self.sets.get(key), False
        if found is not None and (found["closed"] or timestamp <= found["until"] - 20):
            self.expected.append(("late", key, value, timestamp))
        elif found is None or id not in found["parts"]:
            self.take(key, id, value, timestamp, fail)
        if out is None:
            self.expected, self.sets = before
        assert (out is None) == self.fails

    def take(self, key: bytes, id: str, value: Any, timestamp: int, fail: bool) -> None:
        found = self.sets.get(key)
        found = found or {
            "parts": {},
            "until": timestamp + 10,
            "newest": timestamp,
            "of": None,
            "closed": False,
        }
        of, there = value["of"], len(found["parts"])
        if of is not None and ((found["of"] or of) != of or there >= of):
            self.fails = True
            return
        parts = {**found["parts"], id: value}
        changed = {
            **found,
            "parts": parts,
            "of": of or found["of"],
            "newest": max(found["newest"], timestamp),
        }
        if len(parts) == changed["of"]:
            if fail:
                self.fails = True
                return
            self.expected.append((None, key, list(parts.values()), changed["newest"]))
            changed |= {"closed": True}
        self.sets[key] = changed

    @rule(by=st.integers(1, 15), commit=st.booleans())
    def time_goes_on(self, by: int, commit: bool) -> None:
        if commit:
            self.commit()
        self.watermark += by
        self.driver.advance(self.watermark)
        self.settle(KEYS, self.watermark)

    def settle(self, keys: list[bytes], time: int) -> None:
        while due := sorted(
            (s["until"], k) for k, s in self.sets.items() if k in keys and s["until"] <= time
        ):
            until, key = due[0]
            found = self.sets.pop(key)
            if not found["closed"]:
                self.expected.append(("timeout", key, list(found["parts"].values()), until))
                self.sets[key] = {**found, "closed": True, "until": until + 10}

    @rule()
    def commit(self) -> None:
        self.driver.commit()
        self.kept = ({key: dict(found) for key, found in self.sets.items()}, list(self.expected))

    @rule(restart=st.booleans())
    def back_to_the_last_commit(self, restart: bool) -> None:
        self.driver.restart() if restart else self.driver.rewind()
        self.sets = {key: dict(found) for key, found in self.kept[0].items()}
        self.expected = list(self.kept[1])
        del self.driver.out[len(self.expected) :]
        self.time_goes_on(0, False)  # the watermark stays

    @invariant()
    def emits_the_same(self) -> None:
        assert [(o.to, o.key, o.value, o.timestamp) for o in self.driver.out] == self.expected

    def teardown(self) -> None:
        self.watermark = NEVER - 1_000
        self.time_goes_on(0, False)
        self.emits_the_same()
        self.driver.advance(NEVER)
        assert self.driver.stored() == {}


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
