"""Changes by key that are found in order when somebody asks for that, and cost little until then."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sortedcontainers import SortedList

_AT_ONCE = 200
"""Keys that are looked up at a time."""


class Layer:
    """Encoded values by key; None where a key was deleted."""

    __slots__ = ("_order", "new", "values", "weight")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}
        self.new: list[bytes] = []
        """Keys that have no place in the order yet: whoever adds one to `values` adds it here."""
        self._order: SortedList = SortedList()
        self.weight = 0
        """Bytes of what was weighed: only what is not small is."""

    def weigh(self, key: bytes, raw: bytes) -> None:
        """These bytes are about to take the place of those that a key has."""
        self.weight += len(raw) - len(self.values.get(key) or b"")

    def keys(self, start: bytes, end: bytes | None) -> Iterator[bytes]:
        """Keys from `start` to before `end` in order; there may be changes while they are gone through."""
        while True:
            if self.new:
                self._order.update(self.new)
                self.new.clear()
            found = list(islice(self._order.irange(start, end, inclusive=(True, False)), _AT_ONCE))
            yield from found
            if len(found) < _AT_ONCE:
                return
            start = found[-1] + b"\x00"
