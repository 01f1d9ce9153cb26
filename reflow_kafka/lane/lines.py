"""Events that wait for their turn: those of one key in line, and lines do not wait for each other (pure).

A line is *ready* when its first event may begin, and *busy* while a unit of it is being worked on or waits
for its next try. A *unit* is what one call of the handler gets: an event, or the events of a batch. Events
without a key wait for nobody: each is a line of its own.

A line can be *parked*: its events are in a store, and only those that are begun, or about to be, are here
too. What arrives for a parked line goes behind the rest of it, into the store; or, from the first event on
that cannot be parked, behind that in memory, until nothing else is left of the line.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence

from reflow_kafka.lane.line import Item, Line, Stay, Unit
from reflow_kafka.options import Batch


class Lines:
    """All events of a worker that wait, or are being worked on."""

    def __init__(self, batch: Batch | None = None) -> None:
        self._batch = batch
        self._lines: dict[object, Line] = {}
        self._ready: OrderedDict[Line, None] = OrderedDict()  # in order of `since`
        self._full: deque[Line] = deque()  # per key: those that may have a whole batch ready
        self._apart: deque[Line] = deque()  # those that may have a first event that is tried alone
        self._waiting: list[tuple[float, int, Unit]] = []
        self._numbers = itertools.count()
        self._events = 0
        self._ready_events = 0
        self._ready_size = 0
        self._hungry: deque[Line] = deque()
        self.unparked = 0
        """Events that stand in the log and in memory …"""
        self.unparked_size = 0
        """… and their bytes."""
        self.parked_size = 0
        """Bytes of the parked events that are in memory, too."""
        self.parked_lines = 0
        self.stored = 0
        """Events that are in the store alone."""

    def __len__(self) -> int:
        """Events in memory, those being worked on included."""
        return self._events

    @property
    def keys(self) -> Collection[object]:
        """The keys of which events are in line, now and later."""
        return self._lines

    def __iter__(self) -> Iterator[Item]:
        """All events, line by line."""
        lines = self._lines.values()
        return itertools.chain.from_iterable((*line.items, *line.behind) for line in lines)

    @property
    def ready(self) -> bool:
        """Whether any line is ready, though its batch may still wait for more."""
        return bool(self._ready)

    @property
    def retrying(self) -> int:
        """Units that wait for another try."""
        return len(self._waiting)

    @property
    def next_try(self) -> float | None:
        """When the first of them is due."""
        return self._waiting[0][0] if self._waiting else None

    def add(self, item: Item, now: float) -> None:
        """An event arrives: it goes to the end of its line, in memory."""
        item.number = next(self._numbers)
        self._events += 1
        self.unparked += 1
        self.unparked_size += item.size
        id = item if item.record.key is None else item.record.key
        line = self._lines.get(id)
        if line is None:
            line = self._lines[id] = Line(id, now)
            self._ready[line] = None
        if line.stay is not None:
            line.behind.append(item)
            return
        line.items.append(item)
        line.size += item.size
        if not line.taken:
            self._ready_events += 1
            self._ready_size += item.size
            self._note_full(line)

    def hold(self, item: Item, due: float) -> Unit:
        """An event that failed outside any line: it waits for its next try, and others wait behind it.

        Raises:
            ValueError: there is a line of its key already.
        """
        if item.record.key in self._lines:
            raise ValueError(f"events of key {item.record.key!r} are in line already")
        self.add(item, due)
        unit = self._take([next(reversed(self._ready))], 1)
        self.wait(unit, due)
        return unit

    def next(self, now: float, *, alone: bool = False, crowded: bool = False) -> Unit | None:
        """A unit that may begin now.

        Args:
            now: the time.
            alone: a single event, even where the handler takes batches.
            crowded: there is no room for more events, so no batch waits for them.
        """
        batch = self._batch
        if batch is None or alone:
            return self._take([next(iter(self._ready))], 1) if self._ready else None
        while self._apart:
            line = self._apart.popleft()
            if line in self._ready and line.items[0].alone is not None:
                return self._take([line], 1)
        if batch.per_key:
            return self._next_of_one_key(batch, now, crowded)
        whole = self._ready_events >= batch.max_events or self._ready_size >= batch.max_bytes
        if not whole and not self._waited(batch, now, crowded):
            return None
        lines: list[Line] = []
        events = size = 0
        for line in self._ready:
            lines.append(line)
            events, size = events + len(line.items), size + line.size
            if events >= batch.max_events or size >= batch.max_bytes:
                break
        return self._take(lines, batch.max_events, batch.max_bytes)

    def finished(self, unit: Unit, now: float) -> None:
        """The events of a unit are finished: their lines move up."""
        for line in unit.lines:
            self._passed(line, [line.items.popleft() for _ in range(line.taken)], now)

    def take_apart(self, unit: Unit, now: float) -> None:
        """Each event of a unit is tried alone from now on, in order of its key."""
        for line in unit.lines:
            taken = [line.items.popleft() for _ in range(line.taken)]
            left = [item for item in taken if not item.finished]
            for item in left:
                item.alone = unit.tries
            line.items.extendleft(reversed(left))
            line.size += sum(item.size for item in left)
            self._passed(line, [item for item in taken if item.finished], now)

    def wait(self, unit: Unit, due: float) -> None:
        """A unit waits for its next try."""
        unit.due = due
        heapq.heappush(self._waiting, (due, unit.items[0].number, unit))

    def due(self, now: float) -> Unit | None:
        """A unit whose next try is due."""
        if not self._waiting or self._waiting[0][0] > now:
            return None
        unit = heapq.heappop(self._waiting)[2]
        unit.due = None
        return unit

    def wake_at(self) -> float | None:
        """When something will be due, or a batch be old enough, that is not now; None: nothing will."""
        times = [] if self.next_try is None else [self.next_try]
        if self._batch is not None and self._ready:
            times.append(next(iter(self._ready)).since + self._batch.within)
        return min(times, default=None)

    def clear(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self._ready.clear()
        self._full.clear()
        self._apart.clear()
        self._waiting.clear()
        self._hungry.clear()
        self._events = self._ready_events = self._ready_size = 0
        self.unparked = self.unparked_size = self.parked_size = self.parked_lines = self.stored = 0

    # ---- parked lines

    def longest(self) -> list[Line]:
        """The lines that are not parked, those with the most events first."""
        lines = [line for line in self._lines.values() if line.stay is None]
        return sorted(lines, key=lambda line: -len(line.items))

    def park(self, line: Line, number: int) -> list[tuple[Item, Unit | None]]:
        """Park a line; what is begun, or about to be, stays in memory too.

        Args:
            line: one that is not parked.
            number: for an event without key: tells it from others.

        Returns:
            Its events that are not finished, to be stored; the first with its unit, if that waits for its
            next try.
        """
        key = line.items[0].record.key
        stay = line.stay = Stay(key, number if key is None else 0)
        # The tries of a batch of several lines are not those of an event.
        waits = line.unit is not None and line.unit.due is not None and len(line.unit.lines) == 1
        parked: list[tuple[Item, Unit | None]] = []
        for place, item in enumerate(line.items):
            if item.finished:
                continue
            item.stay, item.place = stay, place
            parked.append((item, line.unit if waits and not parked else None))
            self.unparked -= 1
            self.unparked_size -= item.size
        stay.next = len(line.items)
        stay.first = line.taken or 1
        if not line.taken:
            self._ready_events -= len(line.items)
            self._ready_size -= line.size
        while len(line.items) > stay.first:
            item = line.items.pop()
            line.size -= item.size
            self._events -= 1
        if not line.taken:
            self._ready_events += len(line.items)
            self._ready_size += line.size
        self.parked_size += sum(item.size for item in line.items if item.stay is not None)
        self.stored += stay.stored
        self.parked_lines += 1
        return parked

    def parked(self, key: bytes | None) -> Stay | None:
        """Where the next event of this key is parked; None: it is in line in memory."""
        line = None if key is None else self._lines.get(key)
        return None if line is None or line.behind else line.stay

    def push(self, stay: Stay, item: Item) -> None:
        """An event arrives for a parked line, to be stored."""
        item.stay, item.place = stay, stay.next
        stay.next += 1
        self.stored += 1

    def take_over(self, stay: Stay) -> None:
        """A line was parked in a former life; nothing of it is in memory."""
        id = stay if stay.key is None else stay.key
        line = self._lines[id] = Line(id, 0.0, stay=stay)
        self.parked_lines += 1
        self.stored += stay.stored
        self._hungry.append(line)

    def hungry(self) -> Line | None:
        """The next parked line of which nothing is in memory any more: to be restored, or gone."""
        return self._hungry.popleft() if self._hungry else None

    def restore(self, line: Line, items: Sequence[Item], now: float, *, tries: int, delay: float) -> None:
        """The next events of a parked line have been read from the store; the first has failed so often."""
        assert line.stay is not None
        self.skip(line.stay, items[-1].place + 1)
        for item in items:
            item.number = next(self._numbers)
            item.stay = line.stay
            line.items.append(item)
            line.size += item.size
        self._events += len(items)
        self.parked_size += line.size
        self._move_up(line, now)
        if tries or delay:
            unit = self._take([line], 1)
            unit.tries = tries
            self.wait(unit, now + delay)

    def skip(self, stay: Stay, place: int) -> None:
        """What is parked below this place is in memory, or finished."""
        self.stored -= place - stay.first
        stay.first = place

    def gone(self, line: Line, now: float) -> None:
        """Nothing is left in the store of a parked line after all."""
        self._emptied(line, now)

    def _passed(self, line: Line, finished: Sequence[Item], now: float) -> None:
        """The unit of a line is over; these events of it, which are not in line any more, are finished."""
        for item in finished:
            if item.stay is None:
                self.unparked -= 1
                self.unparked_size -= item.size
            else:
                self.parked_size -= item.size
        self._events -= len(finished)
        line.taken, line.unit = 0, None
        if line.items:
            self._move_up(line, now)
        else:
            self._emptied(line, now)

    def _emptied(self, line: Line, now: float) -> None:
        if line.stay is not None and line.stay.stored:
            self._hungry.append(line)
            return
        self.parked_lines -= line.stay is not None
        if not line.behind:
            del self._lines[line.id]
            return
        line.stay = None
        line.items, line.behind = line.behind, line.items
        line.size = sum(item.size for item in line.items)
        self._move_up(line, now)

    def _move_up(self, line: Line, now: float) -> None:
        """A line that has events, none of them taken, is ready."""
        line.since = now
        self._ready[line] = None
        self._ready_events += len(line.items)
        self._ready_size += line.size
        self._note_full(line)
        if line.items[0].alone is not None:
            self._apart.append(line)

    # ---- units

    def _next_of_one_key(self, batch: Batch, now: float, crowded: bool) -> Unit | None:
        while self._full:
            line = self._full.popleft()
            if line in self._ready and self._is_full(line, batch):
                return self._take([line], batch.max_events, batch.max_bytes)
        if not self._waited(batch, now, crowded):
            return None
        return self._take([next(iter(self._ready))], batch.max_events, batch.max_bytes)

    def _waited(self, batch: Batch, now: float, crowded: bool) -> bool:
        """Whether something is ready, and has waited long enough for more."""
        return bool(self._ready) and (crowded or next(iter(self._ready)).since + batch.within <= now)

    def _is_full(self, line: Line, batch: Batch) -> bool:
        return len(line.items) >= batch.max_events or line.size >= batch.max_bytes

    def _note_full(self, line: Line) -> None:
        if self._batch is not None and self._batch.per_key and self._is_full(line, self._batch):
            self._full.append(line)

    def _take(self, lines: list[Line], events: int, size: int | None = None) -> Unit:
        """A unit of the first events of these lines, in order of arrival; at least one, whatever its size."""
        items: list[Item] = []
        used: list[Line] = []
        taken = 0
        for line in lines:
            self._ready_events -= len(line.items)
            self._ready_size -= line.size
            del self._ready[line]
            while line.taken < len(line.items) and len(items) < events:
                item = line.items[line.taken]
                if items and size is not None and taken + item.size > size:
                    break
                items.append(item)
                taken += item.size
                line.taken += 1
                line.size -= item.size
            if line.taken:
                used.append(line)
            else:  # nothing of it fits any more: it stays the oldest
                self._ready[line] = None
                self._ready.move_to_end(line, last=False)
                self._ready_events += len(line.items)
                self._ready_size += line.size
        items.sort(key=lambda item: item.number)
        unit = Unit(items, used, tries=items[0].alone or 0)
        for line in used:
            line.unit = unit
        return unit
