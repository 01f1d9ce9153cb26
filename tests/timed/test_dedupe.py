"""Dedupe: a table of what is equal to what, and any history against a list of all that has come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reflow_kafka.timed.dedupe import Dedupe
from reflow_kafka.timed.program import LONG_AGO, NEVER, Incoming
from tests.timed.driver import Driver, values
from tests.timed.keyed import shelf_maker


def dedupe(within: int = 10) -> Driver:
    """A stage whose events are their own ids."""
    return Driver(lambda lane, shelves: Dedupe(shelf_maker(lane, shelves), lambda value: value, within))


@pytest.mark.parametrize(
    ("times", "passed"),
    [
        ([0, 0], [True, False]),
        ([0, 10], [True, False]),
        ([0, 11], [True, True]),
        ([0, 10, 11], [True, False, True]),  # the time counts from the one that was passed on
        ([0, 11, 12, 21, 22], [True, True, False, False, True]),
        ([0, -10], [True, False]),
        ([0, -11], [True, True]),
        ([0, -11, -5, -1, 11], [True, True, False, False, True]),
        ([-20, -10, -9], [True, False, True]),
        ([0, 20, 10], [True, True, False]),
        ([NEVER, NEVER - 10, NEVER - 11], [True, False, True]),
    ],
)
def test_what_comes_within_the_time_is_not_passed_on(times: list[int], passed: list[bool]) -> None:
    driver = dedupe()
    assert [bool(values(driver.event(b"a", timestamp=at))) for at in times] == passed


def test_within_nothing_only_equal_times_are_equal() -> None:
    driver = dedupe(within=0)
    passed = [bool(values(driver.event(b"a", timestamp=at))) for at in (5, 5, 6, 4)]
    assert passed == [True, False, True, True]


def test_an_event_is_passed_on_as_it_is() -> None:
    driver = dedupe()
    driver.event(b"a", key=b"k", timestamp=7, headers=[("h", b"1")])
    (out,) = driver.out
    assert (out.value, out.key, out.timestamp, out.headers, out.to) == (b"a", b"k", 7, [("h", b"1")], None)


def test_a_duplicate_goes_to_an_output_of_its_own_as_it_is() -> None:
    driver = dedupe()
    driver.event(b"a", key=b"k", timestamp=7)
    driver.event(b"a", key=b"k", timestamp=8, headers=[("h", b"1")])
    out = driver.out[1]
    assert (out.value, out.key, out.timestamp, out.headers, out.to) == (
        b"a", b"k", 8, [("h", b"1")], "duplicate"
    )  # fmt: skip


def test_without_ids_all_of_a_key_are_equal() -> None:
    driver = Driver(lambda lane, shelves: Dedupe(shelf_maker(lane, shelves), None, 10))
    passed = [bool(values(driver.event(n, key=key))) for n, key in ((1, b"a"), (2, b"a"), (1, b"b"))]
    assert passed == [True, False, True]


def test_an_id_must_be_there() -> None:
    driver = dedupe()
    assert driver.event(None) is None
    assert "found None as what makes events equal (by=)" in str(driver.failures[0])


def test_ids_belong_to_their_key() -> None:
    driver = dedupe()
    for key, id in ((b"a", b"b"), (b"a\x00", b"b"), (b"", b"ab"), (b"a", b""), (b"ab", b"")):
        assert values(driver.event(id, key=key)) == [id]
        assert values(driver.event(id, key=key)) == []


@pytest.mark.parametrize(("watermark", "kept"), [(LONG_AGO, 2), (9, 2), (10, 2), (11, 0), (NEVER, 0)])
def test_the_watermark_takes_away_what_nothing_can_be_equal_to(watermark: int, kept: int) -> None:
    driver = dedupe()
    driver.event(b"a")
    driver.advance(watermark)
    assert len(driver.stored()) == kept


@pytest.mark.parametrize(("watermark", "passed"), [(10, False), (11, True)])
def test_it_does_not_matter_when_it_is_swept_away(watermark: int, passed: bool) -> None:
    driver = dedupe()
    driver.event(b"a")
    driver.watermark = watermark
    assert bool(values(driver.event(b"a", timestamp=5))) == passed


def test_of_what_is_too_late_nothing_is_remembered() -> None:
    driver = dedupe()
    driver.advance(100)
    assert [bool(values(driver.event(b"a", timestamp=89))) for _ in range(2)] == [True, True]
    assert driver.stored() == {}
    assert [bool(values(driver.event(b"a", timestamp=90))) for _ in range(2)] == [True, False]


def test_one_of_several_times_is_taken_away() -> None:
    driver = dedupe()
    for at in (0, 20, 40):
        driver.event(b"a", timestamp=at)
    driver.advance(31)
    assert [bool(values(driver.event(b"a", timestamp=at))) for at in (35, 50, 51)] == [False, False, True]
    driver.advance(62)
    assert driver.stored() == {}


class OneStage(RuleBasedStateMachine):
    """Against a list of what was passed on."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = dedupe(within=5)
        self.passed: list[tuple[bytes, bytes, int]] = []
        self.stored: list[tuple[bytes, bytes, int]] = []

    @rule(
        key=st.sampled_from([b"", b"a"]),
        id=st.sampled_from([b"", b"a", b"\x00"]),
        at=st.integers(-20, 20),
        fails=st.booleans(),
    )
    def event(self, key: bytes, id: bytes, at: int, fails: bool) -> None:
        if fails:
            self.drop(key, id, at)
        known = self.driver.watermark - 5
        equal = any(
            (key, id) == other[:2] and abs(at - other[2]) <= 5 and other[2] >= known for other in self.passed
        )
        assert bool(values(self.driver.event(id, key=key, timestamp=at))) != equal
        if not equal:
            self.passed.append((key, id, at))

    def drop(self, key: bytes, id: bytes, at: int) -> None:
        """The event has got as far as its emission, which has failed."""
        acts = self.driver.program.event(Incoming(key, id, at, "", ""), self.driver.watermark, 0)
        next(acts, None)
        acts.close()  # type: ignore[attr-defined]
        self.driver.shelves.drop()

    @rule(watermark=st.one_of(st.integers(-20, 30), st.just(NEVER)), sweeps=st.booleans())
    def advance(self, watermark: int, sweeps: bool) -> None:
        self.driver.watermark = max(self.driver.watermark, watermark)
        if sweeps:
            assert self.driver.advance() == []
            assert self.kept() == sorted(
                entry for entry in self.passed if entry[2] + 5 >= self.driver.watermark
            )

    def kept(self) -> list[tuple[bytes, bytes, int]]:
        times, agenda = self.driver.shelves._shelves
        entries: list[Any] = [(what, at) for what, found in times.items() for at in found]
        assert len(entries) == len(list(agenda.keys()))
        return sorted((*what.split(b"\x00\x00", 1), at) for what, at in entries)

    @rule()
    def commit(self) -> None:
        self.driver.commit()
        self.stored = list(self.passed)

    @rule(same_program=st.booleans())
    def go_back(self, same_program: bool) -> None:
        if same_program:
            self.driver.rewind()
        else:
            self.driver.restart()
        self.passed = list(self.stored)

    @invariant()
    def asks_for_no_clock(self) -> None:
        assert self.driver.program.wake(0) is None
        assert self.driver.program.holds(self.driver.watermark) == self.driver.watermark


TestOneStage = OneStage.TestCase
