"""What a worker has taken in and not finished: in line in memory, or parked in the lane's store.

Positions are kept beside it: an event in line is open in the inbox, so that a restart reads it again; a
parked one is not, for it is in the store. Nothing here awaits: no commit sees one without the other.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Final

from reflow_kafka.lane.gate import Gate
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.line import Item, Stay, Unit
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
"""Keys that may be parked: the first event of each is in memory."""
REFILL: Final = 100
"""Events of a parked line that are read at once."""
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
        """An event goes into its line, or behind the parked events of its key."""
        item = Item(partition, record)
        stay = self.lines.parked(record.key)
        if stay is None:
            self._inbox.open(partition, record.offset)
            self.lines.add(item, now)
        else:
            assert self._parking is not None
            self.lines.push(stay, item)
            self._parking.put(item)
            self._inbox.reach(partition, record.offset + 1)  # both in the same commit
            self._gate.worked()

    def hold(self, item: Item, delay: float) -> Unit:
        """An event that failed outside any line waits for its next try, in seconds."""
        self._inbox.open(item.partition, item.record.offset)
        return self.lines.hold(item, time.monotonic() + delay)

    def wait(self, unit: Unit, delay: float) -> None:
        """A unit waits for its next try, in seconds."""
        self.lines.wait(unit, time.monotonic() + delay)
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
            self.lines.finished(unit, time.monotonic())
            self._refill()

    def take_apart(self, unit: Unit) -> None:
        """The events of a batch, which failed as a whole, are each tried alone."""
        self.lines.take_apart(unit, time.monotonic())
        self._refill()

    # ---- parking

    def relieve(self, limit: int) -> bool:
        """Park lines, the longest first, so that other keys may come in; whether that was possible."""
        lines, parking = self.lines, self._parking
        if parking is None or lines.stored >= MAX_PARKED or lines.parked_lines >= MAX_PARKED_LINES:
            return False
        if parking.unsaved >= MAX_UNSAVED:
            return False  # the next commit makes room
        now = time.monotonic()
        for line in lines.longest():
            if lines.unparked <= limit // 2 and lines.unparked_size <= MAX_LINED_UP // 2:
                break
            for item, unit in lines.park(line, next(self._numbers)):
                self._inbox.close(item.partition, item.record.offset)
                if unit is None or unit.due is None:
                    parking.put(item)
                else:
                    parking.put(item, tries=unit.tries, delay=max(unit.due - now, 0.0))
        self._gate.worked()
        return True

    def restore(self) -> None:
        """Line up what is parked, as it was when the lane was taken over, or went back."""
        if self._parking is not None:
            for stay in self._parking.stays():
                self._fetch(stay, 1)
                self._numbers = itertools.count(max(next(self._numbers), stay.number + 1))

    def _refill(self) -> None:
        """Fetch the next events of parked lines that have none in memory, many at once if there is room."""
        for stay in self.lines.hungry():
            self._fetch(stay, REFILL if len(self.lines) < MAX_REFILLED else 1)

    def _fetch(self, stay: Stay, count: int) -> None:
        assert self._parking is not None
        while stay.stored:
            found = list(self._parking.load(stay, count))
            if found:
                _, tries, delay = found[0]
                items = [item for item, _, _ in found]
                for item in items:
                    self._adopt(item.partition)
                self.lines.restore(stay, items, time.monotonic(), tries=tries, delay=delay)
                return
            stay.first = min(stay.first + count, stay.next)
        self.lines.gone(stay)

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
