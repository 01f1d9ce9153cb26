from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reflow_kafka.lane.inflight import MAX_METADATA, PREFIX, InFlight, Mark, decode, encode
from reflow_kafka.log.local import LocalRecord


def record(offset: int) -> LocalRecord:
    return LocalRecord(offset, 0, None, None, [])


class Machine(RuleBasedStateMachine):
    """A log with gaps, events that finish in any order, commits, going back and crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []
        self.end = 0
        self.flight = InFlight(Mark(0))
        self.mark = Mark(0)
        self.read = 0
        self.given: list[int] = []
        self.running: set[int] = set()
        self.finished: set[int] = set()
        self.committed: set[int] = set()

    @rule(gap=st.integers(0, 3), count=st.integers(1, 5))
    def write(self, gap: int, count: int) -> None:
        self.end += gap
        self.log += range(self.end, self.end + count)
        self.end += count

    @rule(count=st.integers(1, 6))
    def fetch(self, count: int) -> None:
        found = [offset for offset in self.log if offset >= self.read][:count]
        if found:
            self.read = found[-1] + 1
            self.given += [r.offset for r in self.flight.fresh([record(offset) for offset in found])]

    @precondition(lambda self: self.given)
    @rule(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        for offset in self.given[:count]:
            assert offset not in self.finished, "a repeat"
            self.flight.open(offset)
            self.running.add(offset)
        del self.given[:count]
        if not self.given:
            self.flight.reach(self.read)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.running)))
        self.flight.close(offset)
        self.running.remove(offset)
        self.finished.add(offset)

    @rule()
    def commit(self) -> None:
        self.mark = self.flight.mark()
        self.committed = set(self.finished)

    @rule()
    def crash_or_go_back(self) -> None:
        self.mark = decode(self.mark.position, encode(self.mark))
        self.flight = InFlight(self.mark)
        self.finished = set(self.committed)
        self.running.clear()
        self.given.clear()
        self.read = self.mark.position

    @invariant()
    def nothing_is_lost_and_nothing_comes_twice(self) -> None:
        mark = self.flight.mark()
        done = {offset for offset in self.log if offset < mark.position}
        for start, end in mark.runs:
            done |= {offset for offset in self.log if start <= offset < end}
        assert done == self.finished
        assert mark.position == self.flight.position

    @invariant()
    def the_position_does_not_stay_behind(self) -> None:
        unfinished = [offset for offset in self.log if offset not in self.finished]
        if unfinished and self.running and unfinished[0] in self.running:
            assert self.flight.position == unfinished[0]

    @invariant()
    def runs_are_in_order_and_apart(self) -> None:
        at = self.flight.mark().position
        for start, end in self.flight.mark().runs:
            assert at < start < end
            at = end


TestInFlight = Machine.TestCase

lengths = st.integers(1, 2**40)
marks = st.builds(
    lambda position, pairs: Mark(position, tuple(_runs(position, pairs))),
    st.integers(0, 2**62),
    st.lists(st.tuples(lengths, lengths), max_size=20),
)


def _runs(position: int, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    runs = []
    for gap, length in pairs:
        runs.append((position + gap, position + gap + length))
        position += gap + length
    return runs


@given(marks)
def test_a_mark_survives_as_text(mark: Mark) -> None:
    assert decode(mark.position, encode(mark)) == mark


@given(st.text(max_size=30), st.booleans())
def test_any_other_text_is_refused(text: str, ours: bool) -> None:
    text = PREFIX + text if ours else text
    with contextlib.suppress(ValueError):
        assert encode(decode(7, text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("somebody's own", "does not start"),
        (PREFIX, "within a run"),
        (PREFIX + "A", "base64"),
        (PREFIX + "AQ", "within a run"),
        (PREFIX + "AAE", "no length"),
        (PREFIX + "AYA", "within a number"),
        (PREFIX + "gQAB", "shortest"),
        (PREFIX + "AQE=", "shortest"),
        (PREFIX + "_____________w8B", "longer"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode(0, text)


def test_a_thousand_slow_events_among_many_fit_into_the_metadata() -> None:
    flight = InFlight(Mark(10**12))
    for n in range(100_000):
        flight.open(10**12 + n)
        if n % 100:
            flight.close(10**12 + n)
    assert len(flight) == 1000
    assert len(encode(flight.mark())) < MAX_METADATA
