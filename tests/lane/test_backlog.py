"""What waits is in memory within bounds, or parked with all that is known about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reflow_kafka import Batch
from reflow_kafka.lane import backlog, parking
from reflow_kafka.lane.backlog import Backlog
from reflow_kafka.lane.gate import Gate
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.lane.line import Item, Stay
from reflow_kafka.lane.lines import Lines
from reflow_kafka.lane.parking import Parking
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local import LocalRecord
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.store import StoreMark
from reflow_kafka.topology.topics import PARKED

IN = TopicPartition("in", 0)
LIMIT = 10
"""Events that may be in line in memory."""


def record(offset: int, key: bytes | None, size: int = 1) -> LocalRecord:
    return LocalRecord(offset, 0, key, b"x" * size, [])


class Life:
    """A backlog from its take-over to its end; the store outlives it."""

    def __init__(self, former: Life | None = None, batch: Batch | None = None) -> None:
        self.stores = MemoryBackend().open("f", 0, [PARKED]) if former is None else former.stores
        self.lines = Lines(batch)
        self.parking = Parking("s", self.stores, lambda: 0)
        self.inbox = Inbox({IN: Mark(0)} if former is None else former.inbox.marks())
        gate = Gate(lambda: None)
        self.backlog = Backlog(self.lines, self.inbox, gate, self.parking, lambda partition: None)
        self.backlog.restore()

    def commit(self) -> None:
        changes = self.backlog.snapshot()
        self.stores.write({PARKED: changes.items()}, StoreMark("i", {PARKED: 1}, 0))
        self.backlog.settled()

    def in_memory(self) -> int:
        return sum(item.size for item in self.lines)

    def finish(self, each: Callable[[], None] = lambda: None) -> list[int]:
        """Finish all that may begin; returns the offsets, in this order."""
        offsets = []
        while unit := self.lines.next(1e9):
            offsets += [item.record.offset for item in unit.items]
            self.backlog.close(unit, list(unit.items))
            each()
        return offsets


def test_memory_is_bounded_whatever_is_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large event of each of many keys, and then larger ones behind them."""
    monkeypatch.setattr(backlog, "MAX_LINED_UP", 4_000)
    monkeypatch.setattr(backlog, "MAX_HEADS", 20_000)
    monkeypatch.setattr(backlog, "REFILL_SIZE", 2_000)
    life = Life()
    keys = 0
    while not life.backlog.crowded(1_000) or life.backlog.relieve(1_000):
        life.backlog.line_up(IN, record(keys, b"%d" % keys, 500), 0.0)
        keys += 1
    assert 30 < keys < 60
    offset = keys
    for key in range(keys):
        for _ in range(8):
            if life.lines.parked(b"%d" % key) is not None:
                life.backlog.line_up(IN, record(offset, b"%d" % key, 1_500), 0.0)
                offset += 1
    assert offset > 5 * keys

    def check() -> None:
        assert life.in_memory() < 4_000 + 20_000 + 2_000 + 2 * 1_600

    check()
    life.commit()
    life = Life(life)
    check()
    open_before = keys - life.lines.parked_lines
    found = life.finish(check)
    assert len(set(found)) == len(found) == offset - open_before
    assert not life.lines.parked_lines
    assert not life.lines.stored


def test_an_event_that_cannot_be_parked_waits_behind_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parking, "MAX_RECORD", 1_000)
    life = Life()
    for offset in range(LIMIT):
        life.backlog.line_up(IN, record(offset, b"hot"), 0.0)
    assert life.backlog.relieve(LIMIT)
    for offset, size in enumerate([1, 900, 1, 1], LIMIT):
        life.backlog.line_up(IN, record(offset, b"hot", size), 0.0)
    life.inbox.reach(IN, 14)
    assert life.inbox.position(IN) == 11, "it is read again after a crash, with what is behind it"
    assert life.finish() == list(range(14))
    assert life.inbox.position(IN) == 14
    life.commit()
    assert life.backlog.ended
    assert not Life(life).lines.keys


@pytest.mark.parametrize("headers", [False, True])
def test_a_line_with_an_event_that_cannot_be_parked_is_not(
    headers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "MAX_RECORD", 1_000)
    life = Life()
    big = LocalRecord(0, 0, b"big", b"", [("name", b"x" * 900)]) if headers else record(0, b"big", 900)
    life.backlog.line_up(IN, big, 0.0)
    for offset in range(1, LIMIT):
        life.backlog.line_up(IN, record(offset, b"big"), 0.0)
    assert not life.backlog.relieve(LIMIT)
    unit = life.lines.next(0.0)
    assert unit is not None
    life.backlog.close(unit, list(unit.items))
    life.backlog.line_up(IN, record(LIMIT, b"big"), 0.0)
    assert life.backlog.relieve(LIMIT)
    assert life.finish() == list(range(1, LIMIT + 1))


def test_what_was_finished_out_of_order_is_not_counted() -> None:
    former = Life()
    stay = Stay(b"k", 0)
    places = [0, *range(250, 255)]
    for place in places:
        former.parking.put(Item(IN, record(place, b"k"), stay=stay, place=place))
    former.commit()
    life = Life(former)
    assert life.finish() == places
    assert not life.lines.stored
    assert not life.lines.parked_lines


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("parked_first", [False, True])
def test_events_that_are_tried_alone_stay_so(crash: bool, parked_first: bool) -> None:
    life = Life(batch=Batch(3, per_key=True))
    for offset in range(LIMIT):
        life.backlog.line_up(IN, record(offset, b"k"), 0.0)
    unit = life.lines.next(0.0)
    assert unit is not None
    unit.tries = 2
    if parked_first:
        assert life.backlog.relieve(LIMIT)
    life.backlog.take_apart(unit)
    assert parked_first or life.backlog.relieve(LIMIT)
    life.commit()
    if crash:
        life = Life(life, batch=Batch(3, per_key=True))
    tries = []
    while unit := life.lines.next(1e9):
        tries.append((len(unit.items), unit.tries))
        life.backlog.close(unit, list(unit.items))
    assert tries == [(1, 2), (1, 2), (1, 2), (3, 0), (3, 0), (1, 0)]
