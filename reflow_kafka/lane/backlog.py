"""What a worker has taken in and not finished: in line in memory, or parked in the lane's store.

Positions are kept beside it: an event in line is open in the inbox, so that a restart reads it again; a
parked one is not, for it is in the store. Nothing here awaits: no commit sees one without the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

from reflow_kafka.clock import monotonic
from reflow_kafka.lane.gate import Gate
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.line import Item, Line, Unit
from reflow_kafka.lane.lines import Lines
from reflow_kafka.lane.parking import Parking
from reflow_kafka.log.api import Record, TopicPartition

MAX_LINED_UP: Final = 16 * 1024 * 1024
"""Bytes of events that may be in line in memory."""
MAX_PARKED: Final = 1_000_000
"""Events of one stage in one lane that may be parked; with more nothing is taken in."""
MAX_UNSAVED: Final = 16 * 1024 * 1024
"""Bytes of events that may be parked from one commit to the next."""
MAX_PARKED_LINES: Final = 20_000
"""Keys that may be parked: the first event of each is in memory, if there is room."""
MAX_HEADS: Final = 64 * 1024 * 1024
"""Bytes of the first events of parked lines from which on nothing more is parked, or read back."""
REFILL: Final = 100
"""Events of a parked line that are read at once …"""
REFILL_SIZE: Final = 1024 * 1024
"""… and bytes of them from which on no more are."""
MAX_REFILLED: Final = 10_000
"""Events in line in memory from which on those of parked lines are read one by one."""


class Backlog:
    """The events of one worker that wait, or are being worked on.

    Args:
        lines: their order.
        inbox: where they come from; knows which are open.
        gate: is told of what only a commit can take further.
        parking: where events go that wait long; None: they wait in memory.
        adopt: told of the input of each event that was parked, which may be none any more.
    """

    def __init__(
        self,
        lines: Lines,
        inbox: Inbox,
        gate: Gate,
        parking: Parking | None,
        adopt: Callable[[TopicPartition], None],
    ) -> None:
        self.lines = lines
        self._inbox = inbox
        self._gate = gate
        self._parking = parking
        self._adopt = adopt
        self._numbers = itertools.count(1)
        """Tell parked events without key from each other."""

    @property
    def ended(self) -> bool:
        """Whether nothing is parked, or was a moment ago: the positions do not tell of that."""
        return not self.lines.parked_lines and (self._parking is None or self._parking.settled_down)

    def crowded(self, limit: int) -> bool:
        """Whether so many events are in line, or parked, that nothing more may be taken in."""
        lines = self.lines
        return (
            lines.unparked >= limit
            or lines.unparked_size >= MAX_LINED_UP
            or lines.stored >= MAX_PARKED
            or (self._parking is not None and self._parking.unsaved >= MAX_UNSAVED)
        )

    # ---- how events come and go

    def line_up(self, partition: TopicPartition, record: Record, now: float) -> None:
        """An event goes into its line, or behind the parked events of its key.

        One that cannot be parked waits behind them in memory, and those that come after it behind it.
        """
        item = Item(partition, record)
        stay = self.lines.parked(record.key)
        if stay is None or self._parking is None or not self._parking.takes(item):
            self._inbox.open(partition, record.offset)
            self.lines.add(item, now)
        else:
            self.lines.push(stay, item)
            self._parking.put(item)
            self._inbox.reach(partition, record.offset + 1)  # both in the same commit
            self._gate.worked()

    def hold(self, item: Item, delay: float) -> Unit:
        """An event that failed outside any line waits for its next try, in seconds."""
        self._inbox.open(item.partition, item.record.offset)
        return self.lines.hold(item, monotonic() + delay)

    def wait(self, unit: Unit, delay: float) -> None:
        """A unit waits for its next try, in seconds."""
        self.lines.wait(unit, monotonic() + delay)
        if self._parking is not None and unit.items[0].stay is not None:
            self._parking.put(unit.items[0], tries=unit.tries, delay=delay)

    def close(self, unit: Unit, items: Sequence[Item]) -> None:
        """Some events of a unit are finished; with the last of them the unit is."""
        for item in items:
            item.finished = True
            if item.stay is None:
                self._inbox.close(item.partition, item.record.offset)
            elif self._parking is not None:
                self._parking.remove(item)
        unit.items = [item for item in unit.items if not item.finished]
        if not unit.items:
            self.lines.finished(unit, monotonic())
            self._refill(REFILL)

    def take_apart(self, unit: Unit) -> None:
        """The events of a batch, which failed as a whole, are each tried alone."""
        self.lines.take_apart(unit, monotonic())
        if self._parking is not None:
            for item in unit.items:
                if item.stay is not None:
                    self._parking.put(item)  # with the tries it has had
        self._refill(REFILL)

    # ---- parking

    def relieve(self, limit: int) -> bool:
        """Park lines, the longest first, so that other keys may come in; whether that was possible."""
        lines, parking = self.lines, self._parking
        if parking is None or lines.stored >= MAX_PARKED or lines.parked_lines >= MAX_PARKED_LINES:
            return False
        if parking.unsaved >= MAX_UNSAVED or lines.parked_size >= MAX_HEADS:
            return False  # the next commit makes room, or events that finish do
        now = monotonic()
        before = lines.parked_lines
        for line in lines.longest():
            if lines.unparked <= limit // 2 and lines.unparked_size <= MAX_LINED_UP // 2:
                break
            if not self._takes(line, parking):
                continue
            for item, unit in lines.park(line, next(self._numbers)):
                self._inbox.close(item.partition, item.record.offset)
                if unit is None or unit.due is None:
                    parking.put(item)
                else:
                    parking.put(item, tries=unit.tries, delay=max(unit.due - now, 0.0))
        if lines.parked_lines == before:
            return False
        self._gate.worked()
        return True

    def _takes(self, line: Line, parking: Parking) -> bool:
        """Whether all events of a line can be parked; looks at them anew only once the obstacle is gone."""
        if line.large is None or line.large.finished:
            line.large = next((item for item in line.items if not parking.takes(item)), None)
        return line.large is None

    def restore(self) -> None:
        """Line up what is parked, as it was when the lane was taken over, or went back."""
        if self._parking is not None:
            for stay in self._parking.stays():
                self.lines.take_over(stay)
                self._numbers = itertools.count(max(next(self._numbers), stay.number + 1))
            self._refill(1)

    def _refill(self, count: int) -> None:
        """Fetch the next events of parked lines that have none in memory, as far as there is room."""
        while self.lines.parked_size < MAX_HEADS and (line := self.lines.hungry()) is not None:
            self._fetch(line, count if len(self.lines) < MAX_REFILLED else 1)

    def _fetch(self, line: Line, count: int) -> None:
        parking, stay = self._parking, line.stay
        assert parking is not None
        assert stay is not None
        while stay.stored:
            found = list(parking.load(stay, count, REFILL_SIZE))
            if found:
                _, tries, delay = found[0]
                items = [item for item, _, _ in found]
                for item in items:
                    self._adopt(item.partition)
                self.lines.restore(line, items, monotonic(), tries=tries, delay=delay)
                return
            self.lines.skip(stay, min(stay.first + count, stay.next))
        self.lines.gone(line, monotonic())

    # ---- commits

    def snapshot(self) -> dict[bytes, bytes | None]:
        """What changed in the store of parked events since the last one; pending until `settled`."""
        if self._parking is None:
            return {}
        if changes := self._parking.snapshot():
            self._inbox.wake.set()  # there is room again for events to be parked
        return changes

    def settled(self) -> None:
        """The last snapshot is in the store."""
        if self._parking is not None:
            self._parking.settled()

    def rewind(self) -> None:
        """Return to the last snapshot; what is read again comes through the inbox."""
        self.lines.clear()
        if self._parking is not None:
            self._parking.rewind()
        self.restore()
