"""Joins two tables: the result is a table, and changes with each of them (pure).

A result that has been and is no more is emitted as a tombstone. On the shelves of the left rows (``r``) and
the right ones (``R``) stands the row of a key behind its time, or a later one: no result is older than the
one whose place it takes, also if the row that brought that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from reflow_kafka.event import Event
from reflow_kafka.serde.typed import Codec
from reflow_kafka.state.ordered import number, read_number
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.program import LONG_AGO, Act, Call, Emit, Incoming
from reflow_kafka.timed.timeless import Timeless

How = Literal["inner", "left", "outer"]


class TableJoin(Timeless):
    """Calls the handler with both rows of a key, as often as one changes."""

    def __init__(
        self, rows: tuple[Shelf[bytes], Shelf[bytes]], codecs: tuple[Codec, Codec], how: How
    ) -> None:
        self._rows = rows
        self._codecs = codecs
        self._how = how

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """A row has changed, and the result with it."""
        key, side = incoming.key, incoming.side
        assert key is not None
        before, other = self._rows[side].get(key), self._rows[1 - side].get(key)
        row = None if incoming.value is None else self._codecs[side].encode(incoming.value)
        if row is None and before is None:
            return
        own_time = max(incoming.timestamp, _time(before))
        timestamp = max(own_time, _time(other))
        if row is not None:
            self._rows[side].put(key, number(own_time) + row)
        else:
            self._rows[side].delete(key)
            if other is not None and _time(other) < timestamp:
                self._rows[1 - side].put(key, number(timestamp) + other[8:])
        if self._is_result(side, row, other):
            own = incoming.value
            met = None if other is None else self._codecs[1 - side].decode(other[8:])
            yield Call((met, own) if side else (own, met), key, timestamp, incoming.headers)
        elif self._is_result(side, before, other):
            yield Emit(Event(None), key, timestamp, incoming.headers)

    def _is_result(self, side: int, own: bytes | None, other: bytes | None) -> bool:
        left, right = (other, own) if side else (own, other)
        if self._how == "inner":
            return left is not None and right is not None
        return left is not None or (self._how == "outer" and right is not None)


def _time(row: bytes | None) -> int:
    return LONG_AGO if row is None else read_number(row)
