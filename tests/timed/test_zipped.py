"""Zip: strict pairs per key, in the order of each side; what is left over at the end of a run."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.timed.program import LONG_AGO, NEVER, Emit, Incoming
from reflow_kafka.timed.zipped import INLINE, ZipProgram
from tests.timed.driver import Driver, shelf_of, values

CODECS = (edge_codec(Any), edge_codec(Any))


def pair(left: Any, right: Any) -> list[Any]:
    return [left, right]


def zipping(limit: int = 100, code: Callable[..., Any] = pair) -> Driver:
    return Driver(lambda *where: ZipProgram(shelf_of(*where), CODECS, limit=limit), handler=code)


def test_the_first_meets_the_first_the_second_the_second() -> None:
    driver = zipping()
    for n in range(3):
        assert driver.event(f"a{n}", side=0) == []
    assert [values(driver.event(f"b{n}", side=1)) for n in range(4)] == [
        [["a0", "b0"]], [["a1", "b1"]], [["a2", "b2"]], [],
    ]  # fmt: skip
    assert values(driver.event("a3", side=0)) == [["a3", "b3"]]
    assert driver.stored() == {}


@pytest.mark.parametrize("first", [0, 1])
def test_a_pair_is_as_young_as_its_younger_half_and_bears_the_headers_of_the_left(first: int) -> None:
    for timestamps in ((3, 5), (5, 3), (-5, -3), (0, 0)):
        driver = zipping()
        for side in (first, 1 - first):
            driver.event(side, side=side, timestamp=timestamps[side], headers=[("side", b"%d" % side)])
        (out,) = driver.out
        assert (out.value, out.timestamp, out.key) == ([0, 1], max(timestamps), b"key")
        assert list(out.headers) == [("side", b"0")]


def test_tombstones_are_halves_too() -> None:
    driver = zipping()
    driver.event(None, side=1)
    assert values(driver.event("a", side=0)) == [["a", None]]


def test_each_side_is_kept_as_its_edge_has_it() -> None:
    codecs = (edge_codec(str), edge_codec(bytes))
    driver = Driver(lambda *where: ZipProgram(shelf_of(*where), codecs, limit=9), handler=pair)
    driver.event("ä", side=0)
    assert values(driver.event(b"\xff", side=1)) == [["ä", b"\xff"]]
    driver.event(b"\xfe", side=1)
    assert values(driver.event("b", side=0)) == [["b", b"\xfe"]]


def test_much_may_wait() -> None:
    driver = zipping()
    texts = [f"{n:04}" * (INLINE // 40) for n in range(60)]
    for n, text in enumerate(texts):
        driver.event(text, side=1)
        if n % 13 == 0:
            driver.commit()
            driver.restart()
    assert [values(driver.event(n, side=0)) for n in range(40)] == [[[n, texts[n]]] for n in range(40)]
    driver.event("more", side=1)
    driver.commit()
    driver.restart()
    assert values(driver.event(40, side=0)) == [[40, texts[40]]]
    assert [out.value for out in driver.advance(NEVER)] == [[None, t] for t in [*texts[41:], "more"]]
    assert driver.stored() == {}


def test_what_is_small_is_one_key_however_much_has_passed() -> None:
    driver = zipping()
    driver.event("first", side=0)
    for n in range(300):
        driver.event(f"{n}" * 20, side=0)
        driver.event("other", side=1)
    assert len(driver.stored()) == 1


# ---- the limit


def takes(driver: Driver, side: int, *keys: bytes | None) -> int:
    program: Any = driver.program
    found: int = program.takes(side, keys)
    return found


def test_a_side_that_is_ahead_is_to_wait_for_the_other() -> None:
    driver = zipping(limit=2)
    assert takes(driver, 0, b"key", b"other", b"key", b"key") == 3
    assert takes(driver, 0, *[b"key", b"other", None] * 2, b"more") == 7
    driver.event("a0", side=0)
    assert takes(driver, 0, b"other", b"key", b"other", b"key") == 3
    driver.event("a1", side=0)
    assert takes(driver, 0, b"key") == 0
    assert takes(driver, 0, b"other", b"key") == 1
    assert takes(driver, 1, *[b"key"] * 5) == 4
    driver.event("b0", side=1)
    assert takes(driver, 0, b"key", b"key") == 1
    assert takes(driver, 0) == 0


def test_what_is_taken_beyond_the_limit_is_paired_all_the_same() -> None:
    driver = zipping(limit=1)
    for n in range(3):
        driver.event(n, side=0)
    assert [values(driver.event(n, side=1)) for n in range(3)] == [[[n, n]] for n in range(3)]


# ---- the end of a run


def test_what_is_left_over_times_out_at_the_end_of_a_run_and_not_before() -> None:
    driver = zipping()
    driver.event("b", key=b"b", side=1, timestamp=3, headers=[("h", b"b")])
    driver.event("a0", key=b"a", side=0, timestamp=2)
    driver.event("a1", key=b"a", side=0, timestamp=1)
    assert driver.advance(NEVER - 1, now=NEVER) == []
    out = driver.advance(NEVER)
    assert [(o.to, o.key, o.value, o.timestamp) for o in out] == [
        ("timeout", b"a", ["a0", None], 2),
        ("timeout", b"a", ["a1", None], 1),
        ("timeout", b"b", [None, "b"], 3),
    ]
    assert list(out[-1].headers) == [("h", b"b")]
    assert driver.calls == 0
    assert driver.stored() == {}


def test_the_watermark_tells_of_what_is_left_over() -> None:
    driver = zipping()
    driver.event("a0", side=0, timestamp=2)
    driver.event("a1", side=0, timestamp=1)
    assert [driver.program.holds(at) for at in (LONG_AGO, 0, 50, NEVER)] == [LONG_AGO, 0, 50, 1]
    assert not driver.program.pending(), "it may wait for ever"
    driver.advance(NEVER)
    assert driver.program.holds(NEVER) == NEVER


def test_left_over_halves_that_cannot_be_told_are_given_up() -> None:
    driver = zipping()
    for key in (b"a", b"b", b"c"):
        driver.event("x" * 3_000, key=key, side=1)
        driver.event("y" * 3_000, key=key, side=1)
    first = driver.program.due(NEVER, 0)
    assert first is not None
    second = driver.program.due(NEVER, 0, frozenset([first.id]))
    assert second is not None
    assert (first.key, second.key) == (b"a", b"b")
    driver.put_off = {first.id}
    driver.advance(NEVER)
    assert {out.key for out in driver.out} == {b"b", b"c"}
    again = driver.program.due(NEVER, 0)
    assert again is not None
    assert again.id == first.id
    assert driver.program.tell(first.id) == "what is left over of pairs"
    assert driver.give_up(first.id) == (b"a", ["x" * 3_000, "y" * 3_000])
    assert driver.stored() == {}


def with_an_unreadable_half() -> Driver:
    """What waits on side 1 was text, and its type is another since a restart."""
    types: list[Any] = [str, str]
    driver = Driver(
        lambda *where: ZipProgram(shelf_of(*where), [edge_codec(each) for each in types], limit=9),
        handler=pair,
    )
    driver.event("a", side=1)
    driver.commit()
    types[1] = int
    driver.restart()
    return driver


def test_halves_that_cannot_be_read_any_more_are_given_up_with_their_text() -> None:
    driver = with_an_unreadable_half()
    assert driver.advance(NEVER) == []
    (id,) = driver.put_off
    assert driver.give_up(id) == (b"key", ["a"])
    assert driver.stored() == {}


def test_a_half_that_cannot_be_read_any_more_shifts_no_pairs() -> None:
    driver = with_an_unreadable_half()
    assert driver.event("b", side=0) is None  # a dead letter
    assert isinstance(driver.program, ZipProgram)
    (emit,) = driver.program.gone(Incoming(b"key", None, 0, "before", ""))
    assert isinstance(emit, Emit)
    assert (emit.event.to, emit.event.value) == ("timeout", [None, "a"])


def test_the_end_of_one_run_is_not_that_of_the_next() -> None:
    driver = zipping()
    driver.event("a", key=b"z", side=0)
    driver.advance(NEVER)
    driver.advance(5)
    driver.event("a", key=b"a", side=0)
    assert [out.key for out in driver.advance(NEVER)] == [b"a"]


# ---- failures


def test_a_half_whose_pair_fails_is_as_if_it_had_not_come() -> None:
    driver = zipping()
    for n in range(2):
        driver.event(f"a{n}" * 2_000, side=0)
    assert driver.event("b", side=1, fail=1) is None
    assert values(driver.event("b", side=1)) == [["a0" * 2_000, "b"]]
    assert driver.event("c", side=1, fail=1) is None
    assert values(driver.event("c", side=1)) == [["a1" * 2_000, "c"]]


# ---- against a plain model


class AgainstAModel(RuleBasedStateMachine):
    """Two queues per key; commits, restarts and going back at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = zipping(limit=3)
        self.number = 0
        self.queues: dict[bytes, tuple[deque[Any], deque[Any]]] = defaultdict(lambda: (deque(), deque()))
        self.expected: list[Any] = []
        self.kept: Any = ({}, [])

    @rule(key=st.sampled_from([b"a", b"b"]), side=st.sampled_from([0, 1]), size=st.sampled_from([1, 2_000]),
          fail=st.booleans())  # fmt: skip
    def half(self, key: bytes, side: int, size: int, fail: bool) -> None:
        self.number += 1
        value = f"{self.number}" * size
        out = self.driver.event(value, key=key, side=side, fail=1 if fail else None)
        own, other = self.queues[key][side], self.queues[key][1 - side]
        if not other:
            own.append(value)
            assert out == []
        elif fail:
            assert out is None
        else:
            met = other.popleft()
            self.expected.append((key, [value, met] if side == 0 else [met, value]))

    @rule()
    def commit(self) -> None:
        self.driver.commit()
        self.kept = self.copied(self.queues), list(self.expected)

    @rule(restart=st.booleans())
    def back_to_the_last_commit(self, restart: bool) -> None:
        self.driver.restart() if restart else self.driver.rewind()
        self.queues.clear()
        self.queues.update(self.copied(self.kept[0]))
        self.expected = list(self.kept[1])
        del self.driver.out[len(self.expected) :]

    @staticmethod
    def copied(queues: Any) -> Any:
        return {key: (deque(left), deque(right)) for key, (left, right) in queues.items()}

    @invariant()
    def pairs_and_waits_as_the_model(self) -> None:
        assert [(out.key, out.value) for out in self.driver.out] == self.expected
        for key, sides in self.queues.items():
            room = [max(3 - len(sides[n]) + len(sides[1 - n]), 0) for n in (0, 1)]
            assert [takes(self.driver, n, *[key] * 50) for n in (0, 1)] == room

    def teardown(self) -> None:
        self.driver.advance(NEVER)
        assert self.driver.stored() == {}


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
