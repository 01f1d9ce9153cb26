"""What is to happen at which time, in that order (pure).

An entry's key on its shelf is the kind of agenda, the time and what is to happen, so that the store keeps the
order. The next few entries are known without a look at the store: to ask costs next to nothing while nothing
is due, and an entry costs no search of its own when many are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from sortedcontainers import SortedSet

from reflow_kafka.state.ordered import after, number, read_number
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.program import LONG_AGO, NEVER

AHEAD: Final = 256
"""Entries that are read, or swept away, at a time."""


class Agenda:
    """Entries of one kind: a time, and bytes that say what is to happen."""

    def __init__(self, shelf: Shelf[bytes], kind: bytes = b"") -> None:
        self._shelf = shelf
        self._kind = kind
        self._end = after(kind) or None
        self._next: SortedSet = SortedSet()
        """Keys of all entries before `_known`; some may be gone."""
        self._known: bytes | None = kind
        """None: all are known."""
        self._unsure: set[bytes] = set()
        """Keys that steps have changed since it was looked whether they are there: a step may be dropped."""
        self._soonest = LONG_AGO
        """No entry is for an earlier time."""

    def key(self, at: int, what: bytes) -> bytes:
        """The key of an entry on the shelf: sorts as entries come, and names one among all of this shelf."""
        return self._kind + number(at) + what

    def read(self, key: bytes) -> tuple[int, bytes]:
        """The time of an entry, and what is to happen."""
        at = len(self._kind)
        return read_number(key, at), key[at + 8 :]

    def add(self, at: int, what: bytes, note: bytes = b"") -> None:
        """Enter something, with a note that stands on the shelf under its key."""
        key = self.key(at, what)
        self._shelf.put(key, note)
        if at < self._soonest:
            self._soonest = at
        if self._known is not None and key >= self._known:
            return
        self._next.add(key)
        self._unsure.add(key)
        if len(self._next) > 2 * AHEAD:
            self._known = self._next[AHEAD]
            del self._next[AHEAD:]
            self._unsure.intersection_update(self._next)

    def remove(self, at: int, what: bytes) -> None:
        """Strike an entry out."""
        key = self.key(at, what)
        self._shelf.delete(key)
        if key in self._next:  # which keeps it, as the step may be dropped
            self._unsure.add(key)

    def first(self, until: int = NEVER, skip: Callable[[bytes], bool] | None = None) -> bytes | None:
        """The key of the first entry whose time is not after `until`, but for those to be skipped."""
        if until < self._soonest:
            return None
        for key in self.entries(until):
            if skip is None or not skip(key):
                return key
        following = self._next[0] if self._next else self._known
        if following is None:
            self._soonest = NEVER + 1
        elif following != self._kind:
            self._soonest = read_number(following, len(self._kind))
        return None

    def latest(self) -> int | None:
        """The time of the last entry; costs some dozens of looks at the store."""
        first = self._shelf.first(self._kind, self._end)
        if first is None:
            return None
        found, bound = self.read(first)[0], NEVER + 1
        while bound - found > 1:
            middle = (found + bound) // 2
            key = self._shelf.first(self.key(middle, b""), self._end)
            if key is None:
                bound = middle
            else:
                found = self.read(key)[0]
        return found

    def entries(self, until: int = NEVER) -> Iterator[bytes]:
        """The keys of entries whose time is not after `until`, in order.

        To be asked between steps, when what is not on the shelf is gone for good.
        """
        end = None if until == NEVER else self.key(until + 1, b"")
        at = 0
        while at < len(self._next) or self._read(end):
            key: bytes = self._next[at]
            if end is not None and key >= end:
                return
            if key in self._unsure:
                self._unsure.discard(key)
                if self._shelf.get(key) is None:
                    del self._next[at]
                    continue
            at += 1
            yield key

    def _read(self, end: bytes | None) -> bool:
        """Get to know more entries, if there may be some before `end`; whether there are."""
        if self._known is None or (end is not None and self._known >= end):
            return False
        more = list(islice(self._shelf.keys(self._known, self._end), AHEAD))
        self._known = None if len(more) < AHEAD else more[-1] + b"\x00"
        self._next.update(more)
        return bool(more)

    def rewound(self) -> None:
        """The shelf holds something else now."""
        self._next.clear()
        self._unsure.clear()
        self._known = self._kind
        self._soonest = LONG_AGO
