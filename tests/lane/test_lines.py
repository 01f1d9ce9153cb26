from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reflow_kafka import Batch
from reflow_kafka.lane.line import Item, Stay, Unit
from reflow_kafka.lane.lines import Lines
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local import LocalRecord

IN = TopicPartition("in", 0)
LARGE = 15
"""Bytes of the largest event that can be parked."""
HEADS = 30
"""Bytes of parked events in memory from which on no more are read back."""


def item(offset: int, key: bytes | None, size: int = 1) -> Item:
    return Item(IN, LocalRecord(offset, 0, key, b"x" * size, []))


class Machine(RuleBasedStateMachine):
    """Events that arrive, are worked on in any order, fail and wait, by the clock of a test."""

    @initialize(
        batch=st.one_of(
            st.none(),
            st.builds(
                lambda events, size, within, per_key: Batch(
                    events, max_bytes=size, within=within, per_key=per_key
                ),
                st.integers(1, 4),
                st.integers(1, 30),
                st.sampled_from([0.0, 1.0]),
                st.booleans(),
            ),
        )
    )
    def start(self, batch: Batch | None) -> None:
        self.batch = batch
        self.lines = Lines(batch)
        self.now = 0.0
        self.arrived = 0
        self.running: list[Unit] = []
        self.alone: dict[int, int] = {}
        self.store: dict[tuple[Stay | None, int], Item] = {}
        self.waiting: list[tuple[float, Unit]] = []
        self.finished: dict[bytes | None, list[int]] = defaultdict(list)
        self.expected: dict[bytes | None, list[int]] = defaultdict(list)

    def begun(self, unit: Unit) -> None:
        busy = [i.record.key for other in self.running for i in other.items]
        busy += [i.record.key for _, other in self.waiting for i in other.items]
        assert unit.items
        for each in unit.items:
            key = each.record.key
            assert key is None or key not in busy, "two units of one key at once"
            if key is not None:  # what is before it has been finished, or is in the same unit
                before = [i.record.offset for i in unit.items if i.record.key == key]
                rest = self.expected[key][len(self.finished[key]) :]
                assert rest[: len(before)] == before, "out of order"
        self.running.append(unit)

    @rule(key=st.sampled_from([b"a", b"b", b"c", None]), size=st.integers(0, 20))
    def arrive(self, key: bytes | None, size: int) -> None:
        stay = self.lines.parked(key)
        arrived = item(self.arrived, key, size)
        if stay is None or size > LARGE:
            self.lines.add(arrived, self.now)
        else:
            self.lines.push(stay, arrived)
            self.store[stay, arrived.place] = arrived
        self.expected[key].append(self.arrived)
        self.arrived += 1

    @rule(key=st.sampled_from([b"d", None]), wait=st.sampled_from([0.0, 0.5, 2.0]))
    def fail_outside(self, key: bytes | None, wait: float) -> None:
        if key is not None and key in self.lines.keys:
            with pytest.raises(ValueError, match="in line already"):
                self.lines.hold(item(-1, key), self.now)
            return
        unit = self.lines.hold(item(self.arrived, key), self.now + wait)
        self.expected[key].append(self.arrived)
        self.arrived += 1
        self.waiting.append((self.now + wait, unit))

    @rule(alone=st.booleans(), crowded=st.booleans())
    def begin(self, alone: bool, crowded: bool) -> None:
        ready = self.lines.ready
        unit = self.lines.next(self.now, alone=alone, crowded=crowded)
        assert unit is not None or not (ready and (alone or crowded))
        if unit is not None:
            self.begun(unit)
            if self.batch is None or alone:
                assert len(unit.items) == 1
            elif (first := unit.items[0]).alone is not None:
                assert len(unit.items) == 1
                assert unit.tries == first.alone == self.alone[first.record.offset]
            else:
                assert not any(each.alone is not None for each in unit.items)
                assert not any(line.items[0].alone is not None for line in self.lines._ready)
                assert len(unit.items) <= self.batch.max_events
                size = sum(i.size for i in unit.items)
                assert size <= self.batch.max_bytes or len(unit.items) == 1
                if self.batch.per_key:
                    assert len({i.record.key for i in unit.items}) == 1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        unit = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        for each in unit.items:
            self.finished[each.record.key].append(each.record.offset)
        self.lines.finished(unit, self.now)
        self.refill(2)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tries=st.integers(0, 3))
    def take_apart(self, data: st.DataObject, tries: int) -> None:
        """A batch has failed, though its first events may be finished."""
        unit = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        for each in unit.items[: data.draw(st.integers(0, len(unit.items) - 1))]:
            each.finished = True
            self.finished[each.record.key].append(each.record.offset)
        unit.tries = tries
        left = {each.record.offset for each in unit.items if not each.finished}
        self.lines.take_apart(unit, self.now)
        self.alone |= dict.fromkeys(left, tries)
        self.refill(2)

    def refill(self, count: int) -> None:
        """Read as much back as there is room for; some of what is parked is finished, out of order."""
        while self.lines.parked_size <= HEADS and (line := self.lines.hungry()) is not None:
            stay = line.stay
            assert stay is not None
            places = range(stay.first, min(stay.next, stay.first + count))
            found = [self.store[stay, place] for place in places if (stay, place) in self.store]
            items = [Item(IN, old.record, place=old.place, alone=old.alone) for old in found]
            if items:
                self.lines.restore(line, items, self.now, tries=0, delay=0.0)
            else:
                self.lines.skip(stay, stay.next)
                self.lines.gone(line, self.now)

    @precondition(lambda self: len(self.lines))
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        lines = [line for line in self.lines.longest() if line.items[0].record.key is not None]
        lines = [line for line in lines if all(each.size <= LARGE for each in line.items)]
        if lines:
            line = data.draw(st.sampled_from(lines))
            for parked, unit in self.lines.park(line, 0):
                self.store[line.stay, parked.place] = parked
                assert unit is None or (unit.due, unit) in self.waiting

    @precondition(lambda self: len(self.lines) and not self.lines.unparked)
    @rule()
    def crash(self) -> None:
        """All that is known is in the store; but this is told of each key only."""
        if self.running or self.waiting:
            return
        self.lines = Lines(self.batch)
        for key, expected in self.expected.items():
            left = len(expected) - len(self.finished[key])
            if key is None or not left:
                continue
            stay = Stay(key, 0, 0, left)
            for place, offset in enumerate(expected[len(self.finished[key]) :]):
                self.store[stay, place] = item(offset, key)
                self.store[stay, place].place = place
                self.store[stay, place].alone = self.alone.get(offset)
            self.lines.take_over(stay)
        self.refill(1)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), wait=st.sampled_from([0.0, 0.5, 2.0]))
    def fail(self, data: st.DataObject, wait: float) -> None:
        unit = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.lines.wait(unit, self.now + wait)
        self.waiting.append((self.now + wait, unit))

    @rule()
    def try_again(self) -> None:
        unit = self.lines.due(self.now)
        due = [(at, u) for at, u in self.waiting if at <= self.now]
        assert (unit is None) == (not due)
        if unit is not None:
            assert (min(at for at, _ in due), unit) in due
            self.waiting = [(at, u) for at, u in self.waiting if u is not unit]
            self.begun(unit)

    @rule(time=st.sampled_from([0.1, 1.0]))
    def wait(self, time: float) -> None:
        self.now += time

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "lines"):
            return
        done = sum(len(offsets) for offsets in self.finished.values())
        assert len(self.lines) == len(list(self.lines))
        assert len(self.lines) + self.lines.stored == self.arrived - done
        assert self.lines.unparked == sum(i.stay is None for i in self.lines)
        assert self.lines.unparked_size == sum(i.size for i in self.lines if i.stay is None)
        assert self.lines.parked_size == sum(i.size for i in self.lines if i.stay is not None)
        assert self.lines.retrying == len(self.waiting)

    @invariant()
    def somebody_knows_when_to_wake(self) -> None:
        if not hasattr(self, "lines"):
            return
        at = self.lines.wake_at()
        if self.waiting:
            assert at is not None
            assert at <= min(at for at, _ in self.waiting)
        if self.batch is not None and at is None:
            assert not self.lines._ready

    def teardown(self) -> None:
        """Everything comes to its end."""
        if not hasattr(self, "lines"):
            return
        for _ in range(10_000):
            while self.running:
                unit = self.running.pop()
                for each in unit.items:
                    self.finished[each.record.key].append(each.record.offset)
                self.lines.finished(unit, self.now)
                self.refill(100)
            if not len(self.lines):
                break
            self.now += 1.0
            while unit := self.lines.due(self.now):
                self.waiting = [(at, u) for at, u in self.waiting if u is not unit]
                self.begun(unit)
            while unit := self.lines.next(self.now):
                self.begun(unit)
        assert not len(self.lines)
        for key, offsets in self.expected.items():
            assert self.finished[key] == offsets or (key is None and set(self.finished[key]) == set(offsets))
        assert self.lines.wake_at() is None
        assert not self.lines.stored
        assert not self.lines.parked_lines


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLines = Machine.TestCase


def test_a_full_batch_does_not_wait() -> None:
    lines = Lines(Batch(2, within=10))
    lines.add(item(0, b"a"), 0.0)
    assert lines.next(0.0) is None
    assert lines.wake_at() == 10.0
    lines.add(item(1, b"b"), 5.0)
    unit = lines.next(5.0)
    assert unit is not None
    assert [i.record.offset for i in unit.items] == [0, 1]


def test_an_old_batch_goes_as_it_is() -> None:
    lines = Lines(Batch(100, within=10))
    lines.add(item(0, b"a"), 0.0)
    assert lines.next(9.9) is None
    assert lines.next(10.0) is not None


def test_batches_of_one_key_fill_each_for_itself() -> None:
    lines = Lines(Batch(2, within=10, per_key=True))
    for offset, key in enumerate([b"a", b"b", b"c", b"b"]):
        lines.add(item(offset, key), 0.0)
    unit = lines.next(0.0)
    assert unit is not None
    assert [i.record.offset for i in unit.items] == [1, 3]
    assert lines.next(0.0) is None
