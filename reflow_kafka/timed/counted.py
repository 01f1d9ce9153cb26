"""Windows of so many events of a key, whatever their time (pure).

    c <key>   how many events there are in the window, its first and last moment, its state

No event is late. What is incomplete is closed at the end of a finite run, and only then.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any, Final

from reflow_kafka.timed.program import LONG_AGO, NEVER, Act, Call, Due, Incoming
from reflow_kafka.timed.windowed import Stock, Windowed, told
from reflow_kafka.windows import Count

_NUMBERS: Final = Struct(">qqq")


class Counted:
    """A window that is not full."""

    __slots__ = ("count", "first", "last", "state")

    def __init__(self, count: int, first: int, last: int, state: Any) -> None:
        self.count = count
        self.first = first
        """The oldest timestamp."""
        self.last = last
        """The newest timestamp."""
        self.state = state


class CountWindows(Windowed):
    """Windows that close with their last event."""

    def __init__(self, stock: Stock, kind: Count) -> None:
        self._size = kind.size
        self._states = stock.states
        super().__init__(stock, stock.shelf(b"c", self._encode, self._decode), after=0, stamp=0)

    def _event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """One call, and that of `on_close` if the window is full with it."""
        key, timestamp = incoming.key, incoming.timestamp
        assert key is not None
        window: Counted | None = self._shelf.get(key)
        if window is None:
            window = Counted(0, timestamp, timestamp, self._new())
            self._closing.rewound()
        window.count += 1
        window.first, window.last = min(window.first, timestamp), max(window.last, timestamp)
        span = (window.first, window.last)
        call = Call((window.state, incoming.value), key, timestamp, incoming.headers, span=span)
        yield call
        if self._is_cleared(window.state, call):
            self._shelf.delete(key)
        elif window.count < self._size:
            self._shelf.put(key, window)
        else:
            yield from self._tell(key, window)

    def _tell(self, key: bytes, window: Counted) -> Iterator[Act]:
        if self._tells:
            yield self._on_close(window.state, window.first, window.last, key, window.last)
        self._shelf.delete(key)

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        """At the end of a finite run, a window that is not full."""
        return super().due(watermark, now, put_off) if watermark == NEVER else None

    def open(self, key: bytes) -> Iterator[tuple[int, int, Any]]:
        """The window that is not full."""
        window: Counted | None = self._shelf.get(key)
        if window is not None:
            yield window.first, window.last, window.state

    def _close(self, place: bytes) -> Iterator[Act]:
        window: Counted = self._shelf.need(place)
        yield from self._tell(place, window)

    def _at(self, place: bytes) -> int:
        raw = self._shelf.raw(place)
        return LONG_AGO if raw is None else int(_NUMBERS.unpack_from(raw)[2])

    def _span(self, place: bytes) -> tuple[int, int]:
        raw = self._shelf.raw(place)
        if raw is None:
            raise self._shelf.missing(place)
        _, first, last = _NUMBERS.unpack_from(raw)
        return first, last

    def _owner(self, place: bytes) -> bytes:
        return place

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """Forget a window that cannot be closed."""
        raw = self._shelf.raw(id)
        self._shelf.delete(id)
        self._closing.gone(id)
        if raw is None:
            return id, None
        _, first, last = _NUMBERS.unpack_from(raw)
        return id, told(first, last, raw[_NUMBERS.size :])

    def holds(self, watermark: int) -> int:
        """Nothing is held back: a window may wait for its last event for ever."""
        return watermark

    def pending(self) -> bool:
        """Only events close a window."""
        return False

    # ---- what is stored

    def _encode(self, window: Counted) -> bytes:
        return _NUMBERS.pack(window.count, window.first, window.last) + self._states.encode(window.state)

    def _decode(self, raw: bytes) -> Counted:
        count, first, last = _NUMBERS.unpack_from(raw)
        return Counted(count, first, last, self._states.decode(raw[_NUMBERS.size :]))
