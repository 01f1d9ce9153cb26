"""Stages with windows: one state per key and window, told of once when the window closes (pure).

`Windowed` is what all kinds have in common. Tumbling and hopping windows are here: all of a stage have one
size, so that they close in the order in which they begin, and one key of a shelf is all there is to one:

    w <start> <key>   its state

An event is late if all windows that it belongs to have closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from reflow_kafka.event import Event
from reflow_kafka.serde.keys import decode_key
from reflow_kafka.serde.typed import Codec
from reflow_kafka.state.ordered import number, read_number
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.closing import ALL, AT_ONCE, Closing
from reflow_kafka.timed.program import LONG_AGO, NEVER, NO_HEADERS, Act, Call, Due, Emit, Incoming
from reflow_kafka.timed.states import States
from reflow_kafka.units import moment
from reflow_kafka.value import CLEARED
from reflow_kafka.windows import Hopping, Tumbling, Window


@dataclass(frozen=True, slots=True)
class Stock:
    """What a stage with windows works with."""

    shelf: Callable[[bytes, Callable[[Any], bytes], Callable[[bytes], Any]], Shelf[Any]]
    """Makes a shelf, of the first byte of its keys and how values are encoded and decoded."""
    states: States
    tells: bool = True
    """Whether there is code for `on_close`; without it windows just go."""
    by_wall: bool = False
    """Whether the wall clock closes them."""
    codecs: Sequence[Codec] = ()
    """How values are written, for each of the stage's inputs."""
    values_only: bool = False
    """Whether events without value are in no window."""


class Wall:
    """The wall clock as the time of a stage: it goes back neither here nor where the lane runs next.

    i   the time at which a window was closed last
    """

    def __init__(self, stock: Stock) -> None:
        self._shelf = stock.shelf(b"i", number, read_number)
        self._reached: int | None = None

    def at(self, now: int) -> int:
        """The time."""
        reached = self._reached
        if reached is None:
            stored: int | None = self._shelf.get(b"")
            reached = LONG_AGO if stored is None else stored
        self._reached = max(reached, now)
        return self._reached

    @property
    def reached(self) -> int:
        """The time that was told last."""
        return LONG_AGO if self._reached is None else self._reached

    def closed(self) -> None:
        """Something has been closed at the time told last."""
        if self._reached is not None:
            self._shelf.put(b"", self._reached)


class Windowed(ABC):
    """A program whose windows lie on a shelf in the order in which they close.

    One whose place there begins with `time` closes when the clock says ``time + after``, and what that leads
    to is not older than ``time + stamp``.
    """

    def __init__(self, stock: Stock, shelf: Shelf[Any], *, after: int, stamp: int) -> None:
        self._shelf = shelf
        self._new = stock.states.new
        self._is_cleared = stock.states.is_cleared
        self._tells = stock.tells
        self._values_only = stock.values_only
        self._wall = Wall(stock) if stock.by_wall else None
        self._closing = Closing(shelf)
        self._after = after
        self._stamp = stamp

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """What an event leads to."""
        if incoming.value is None and self._values_only:
            return iter(())
        return self._event(incoming, watermark, now)

    @abstractmethod
    def _event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """What an event leads to that may be in windows."""

    @abstractmethod
    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """Forget a window that cannot be closed: its key, and what its dead letter tells."""

    @abstractmethod
    def open(self, key: bytes) -> Iterator[tuple[int, int, Any]]:
        """The windows of a key that are there: start, end, state; for who looks at them from outside."""

    @abstractmethod
    def _close(self, place: bytes) -> Iterator[Act]:
        """Close the window at a place of the shelf."""

    @abstractmethod
    def _owner(self, place: bytes) -> bytes:
        """Whose window lies at a place of the shelf."""

    def _time(self, watermark: int, now: int) -> int:
        """The time that counts."""
        if self._wall is None or watermark == NEVER:
            return watermark
        return self._wall.at(now)

    def _late(self, incoming: Incoming) -> Emit:
        value = incoming.value
        unchanged = value.value if isinstance(value, Event) else value
        return Emit(Event(unchanged, to="late"), incoming.key, incoming.timestamp, incoming.headers)

    def _on_close(self, state: Any, start: int, end: int, key: bytes, timestamp: int) -> Call:
        window = Window(start, end, decode_key(key))
        return Call((state, window), key, timestamp, NO_HEADERS, "on_close", span=(start, end))

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        """The first window to be closed; without code to be told, many at once."""
        time = self._time(watermark, now)
        bound = ALL if time == NEVER else time - self._after + 1
        places = self._closing.ripe(bound, put_off, 1 if self._tells else AT_ONCE)
        if not places:
            return None
        first = places[0]
        return Due(first, self._at(first), self._closed(places, time != NEVER), self._owner(first))

    def _closed(self, places: Sequence[bytes], for_good: bool) -> Iterator[Act]:
        for place in places:
            yield from self._close(place)
        if self._wall is not None and for_good:
            self._wall.closed()

    def tell(self, id: bytes) -> str:
        """Which window."""
        start, end = self._span(id)
        return f"window from {moment(start)} to {moment(end)}"

    @abstractmethod
    def _span(self, place: bytes) -> tuple[int, int]:
        """The start and end of the window at a place of the shelf."""

    def _at(self, place: bytes) -> int:
        return read_number(place) + self._stamp

    def wake(self, now: int) -> int | None:
        """When the wall clock closes the next window."""
        if self._wall is None or (time := self._closing.following()) is None:
            return None
        return time + self._after

    def holds(self, watermark: int) -> int:
        """Older than what closes next: what is open now, or may be opened by events that still count."""
        if not self._tells:
            return watermark
        oldest = self._closing.oldest()
        there = NEVER if oldest is None else oldest + self._stamp
        if watermark == NEVER:
            return there
        time = watermark if self._wall is None else min(watermark, self._wall.reached)
        return min(there, max(time + 1 - self._after + self._stamp, LONG_AGO))

    def pending(self) -> bool:
        """Open windows are."""
        return self._tells and self._closing.oldest() is not None

    def rewound(self) -> None:
        """Look again at what there is."""
        self._closing.rewound()


class TimeWindows(Windowed):
    """Windows of one size that begin at multiples of a time."""

    def __init__(self, stock: Stock, kind: Tumbling | Hopping) -> None:
        self._size = kind.size
        self._every = kind.every if isinstance(kind, Hopping) else kind.size
        shelf = stock.shelf(b"w", stock.states.encode, stock.states.decode)
        super().__init__(stock, shelf, after=kind.size + kind.grace, stamp=kind.size - 1)

    def _event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """One call for each of its windows that has not closed, the oldest first."""
        timestamp, every = incoming.timestamp, self._every
        newest = timestamp - timestamp % every
        if newest + self._after <= (time := self._time(watermark, now)):
            yield self._late(incoming)
            return
        oldest = newest - (self._size - 1 - timestamp % every) // every * every
        for start in range(oldest, newest + 1, every):
            if start + self._after > time:
                yield from self._in(start, incoming)

    def _in(self, start: int, incoming: Incoming) -> Iterator[Act]:
        """The event in one of its windows."""
        shelf, place = self._shelf, number(start) + incoming.key  # type: ignore[operator]
        state = shelf.get(place)
        if state is None:
            state = self._new()
            self._closing.put(place)
        span = (start, start + self._size)
        call = Call((state, incoming.value), incoming.key, incoming.timestamp, incoming.headers, span=span)
        yield call
        if self._is_cleared(state, call):
            shelf.delete(place)
        else:
            shelf.put(place, state)

    def open(self, key: bytes) -> Iterator[tuple[int, int, Any]]:
        """The windows of a key that are there: one look for each time at which any begins."""
        place = self._shelf.first()
        while place is not None:
            start = read_number(place)
            state = self._shelf.get(number(start) + key)
            if state is not None:
                yield start, start + self._size, state
            place = self._shelf.first(number(start + 1))

    def _close(self, place: bytes) -> Iterator[Act]:
        if self._tells:
            start, end = read_number(place), read_number(place) + self._size
            yield self._on_close(self._shelf.get(place), start, end, place[8:], end - 1)
        self._shelf.delete(place)

    def _span(self, place: bytes) -> tuple[int, int]:
        start = read_number(place)
        return start, start + self._size

    def _owner(self, place: bytes) -> bytes:
        return place[8:]

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """Forget a window that cannot be closed."""
        start, raw = read_number(id), self._shelf.raw(id)
        self._shelf.delete(id)
        self._closing.gone(id)
        return id[8:], told(start, start + self._size, raw)


class TumblingWindows(TimeWindows):
    """The same with windows side by side; it saves steps, as this is the most common kind."""

    def __init__(self, stock: Stock, kind: Tumbling) -> None:
        super().__init__(stock, kind)
        self._start = 0
        self._prefix = number(0)
        self._found = b""
        self._boxed = stock.states.boxed

    def _event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """One call."""
        timestamp, key = incoming.timestamp, incoming.key
        start = timestamp - timestamp % self._size
        if start + self._after <= (watermark if self._wall is None else self._time(watermark, now)):
            yield self._late(incoming)
            return
        if start != self._start:
            self._start, self._prefix = start, number(start)
        shelf, place = self._shelf, self._prefix + key  # type: ignore[operator]
        state = shelf.get(place)
        if state is None:
            state = self._new()
            self._closing.put(place)
        span = (start, start + self._size)
        call = Call((state, incoming.value), key, timestamp, incoming.headers, span=span)
        yield call
        if self._is_cleared(state, call):
            shelf.delete(place)
        else:
            shelf.put(place, state)

    # ---- in short

    def find(self, key: bytes, timestamp: int, watermark: int) -> Any | None:
        """The state of an open window, if it is at hand."""
        start = timestamp - timestamp % self._size
        if self._wall is not None or start + self._after <= watermark:
            return None
        if start != self._start:
            self._start, self._prefix = start, number(start)
        self._found = self._prefix + key
        return self._shelf.at_hand(self._found)

    def keep(self, state: Any) -> None:
        """The handler has changed it."""
        if self._boxed and state.value is CLEARED:
            self._shelf.delete(self._found)
            self._shelf.encode()
            self._shelf.accept()
        else:
            self._shelf.replace(self._found, state)

    def lose(self) -> None:
        """The handler has failed."""
        self._shelf.spoiled(self._found)


def told(start: int, end: int, state: bytes | None) -> msgspec.Raw:
    """What the dead letter of a window says, as JSON; `state` is JSON already."""
    state = b"null" if state is None else state
    return msgspec.Raw(b'{"start":%d,"end":%d,"state":%s}' % (start, end, state))
