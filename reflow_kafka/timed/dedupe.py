"""Passes an event on unless one with the same id came within a time of it (pure).

On the shelf ``d`` stand, under the key of the event and its id, the event times of those that were passed on
and that others may still be found equal to: one, unless events come out of order by more than the time. On
the agenda ``x`` stands when the watermark has passed so far that nothing can be equal any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from reflow_kafka.event import Event
from reflow_kafka.state.ordered import number, read_number, text
from reflow_kafka.state.shelf import Shelf, as_is
from reflow_kafka.timed.agenda import AHEAD, Agenda
from reflow_kafka.timed.keyed import MakeShelf
from reflow_kafka.timed.program import LONG_AGO, NEVER, Act, Due, Emit, Incoming
from reflow_kafka.timed.timeless import Timeless


class Dedupe(Timeless):
    """The program of such a stage; `id_of` finds what makes events of a key equal (None: all are).

    An event whose time is `within` ms or less before or after that of one passed on is not passed on. Events
    so late that the watermark is further ahead than that always are: nothing is remembered of their time.
    """

    def __init__(
        self, shelf: MakeShelf[Any], id_of: Callable[[Any], bytes | None] | None, within: int
    ) -> None:
        self._passed: Shelf[list[int]] = shelf(b"d", _encode, _decode)
        self._agenda = Agenda(shelf(b"x", as_is, as_is))
        self._id_of = id_of
        self._within = within

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """Pass it on, or say that it is a duplicate."""
        what, at = self._what(incoming), incoming.timestamp
        passed = [other for other in self._passed.get(what) or () if self._end(other) >= watermark]
        if any(abs(at - other) <= self._within for other in passed):
            duplicate = Event(incoming.value, to="duplicate")
            yield Emit(duplicate, incoming.key, at, incoming.headers)
            return
        if (end := self._end(at)) >= watermark:
            self._passed.put(what, [*passed, at])
            self._agenda.add(end, what)
        # In an event, as None by itself is nothing to emit, and a tombstone is passed on, too.
        yield Emit(Event(incoming.value), incoming.key, at, incoming.headers)

    def _what(self, incoming: Incoming) -> bytes:
        assert incoming.key is not None  # whoever drives it sees to that
        id = b"" if self._id_of is None else self._id_of(incoming.value)
        if id is None:
            raise ValueError("found None as what makes events equal (by=), wanted an id")
        return text(incoming.key) + id

    def _end(self, at: int) -> int:
        """The latest watermark at which an event may come that is equal to one of this time."""
        return min(at + self._within, NEVER - 1)

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        """Forgets some of what nothing can be equal to any more."""
        if watermark == LONG_AGO or self._agenda.first(watermark - 1) is None:
            return None
        return Due(b"x", NEVER, self._sweep(list(islice(self._agenda.entries(watermark - 1), AHEAD))))

    def _sweep(self, entries: list[bytes]) -> Iterator[Act]:
        for entry in entries:
            end, what = self._agenda.read(entry)
            self._agenda.remove(end, what)
            left = [at for at in self._passed.get(what) or () if self._end(at) > end]
            if left:
                self._passed.put(what, left)
            else:
                self._passed.delete(what)
        yield from ()

    def rewound(self) -> None:
        """The shelves hold something else now."""
        self._agenda.rewound()


def _encode(times: list[int]) -> bytes:
    return b"".join(map(number, times))


def _decode(raw: bytes) -> list[int]:
    return [read_number(raw, at) for at in range(0, len(raw), 8)]
