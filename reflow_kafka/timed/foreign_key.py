"""Joins a table with another one that its rows refer to by key: three programs, one after the other (pure).

    left rows ──► References ──by the key referred to──► Meetings ──by the left key──► Answers ──► results
                                        right rows ─────────►

`References` knows what each left row refers to, and tells the lane that holds the right row: that it refers
to it now, or does no more. `Meetings` keeps the right rows and who refers to them, and answers whenever one
of them changes. Answers to one left row may come from different lanes, so they carry a number that grows with
each change of the left row, and `Answers` ignores what is older than what it knows: a result that has been
replaced never comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple

from reflow_kafka.definition.references import Answer, Reference
from reflow_kafka.event import Event
from reflow_kafka.serde.typed import Codec
from reflow_kafka.state.ordered import number, read_number, text
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.agenda import Agenda
from reflow_kafka.timed.program import LONG_AGO, NEVER, Act, Call, Due, Emit, Incoming
from reflow_kafka.timed.timeless import Timeless

How = Literal["inner", "left"]

REFERENCES: Final = 0
RIGHT: Final = 1


class References(Timeless):
    """Takes left rows, emits a `Reference` under each key that has to know.

    On the shelf of what rows refer to (``r``) stands, for each left key, the latest time that was told of it,
    and ``+`` and the key it refers to, or ``-`` if it refers to none; on that of numbers (``n``) the last
    number given away, of all keys.
    """

    def __init__(
        self, keys: Shelf[bytes], numbers: Shelf[bytes], codec: Codec, on: Callable[[Any], bytes | None]
    ) -> None:
        self._keys = keys
        self._numbers = numbers
        self._codec = codec
        self._on = on

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """A left row has changed."""
        key, value = incoming.key, incoming.value
        assert key is not None
        known = self._keys.get(key)
        before = None if known is None else known[8:]
        latest = incoming.timestamp if known is None else max(incoming.timestamp, read_number(known))
        if value is None:
            if before is not None:
                self._keys.delete(key)
                gone = Reference(key, self._change(), None, until=max(latest, watermark))
                yield self._told(incoming, before, gone)
            return
        on = self._on(value)
        refers = b"-" if on is None else b"+" + on
        change = self._change()
        if before is not None and before != refers and before != b"-":
            yield self._told(incoming, before, Reference(key, change, None, answered=False))
        self._keys.put(key, number(latest) + refers)
        row = self._codec.encode(value)
        yield self._told(incoming, refers, Reference(key, change, row, stays=on is not None))

    def _change(self) -> int:
        last = self._numbers.get(b"")
        change = 1 if last is None else read_number(last) + 1
        self._numbers.put(b"", number(change))
        return change

    @staticmethod
    def _told(incoming: Incoming, refers: bytes, reference: Reference) -> Emit:
        """Who refers to nothing tells the lane of its own key, which answers for itself."""
        key = incoming.key if refers == b"-" else refers[1:]
        return Emit(Event(reference, key=key), incoming.key, incoming.timestamp, incoming.headers)


class Meetings(Timeless):
    """Takes references and right rows, emits an `Answer` under the left key whenever one changes.

    On the shelf of right rows (``r``) stands the row of a key behind its time, on that of references (``f``)
    under the right and the left key what the left row is: its time, the number of its change, and the row.
    """

    def __init__(self, rows: Shelf[bytes], references: Shelf[bytes], codec: Codec) -> None:
        self._rows = rows
        self._references = references
        self._codec = codec

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """A left row has changed, or the right row."""
        assert incoming.key is not None
        if incoming.side == REFERENCES:
            yield from self._referred(incoming.key, incoming.value, incoming)
        else:
            yield from self._changed(incoming.key, incoming.value, incoming)

    def _referred(self, key: bytes, reference: Reference, incoming: Incoming) -> Iterator[Act]:
        place = text(key) + reference.left
        row = None
        if reference.stays:
            assert reference.row is not None
            row = self._rows.get(key)
            times = number(incoming.timestamp) + number(reference.change)
            self._references.put(place, times + reference.row)
        elif self._references.get(place) is not None:
            self._references.delete(place)
        if reference.answered:
            timestamp = incoming.timestamp if row is None else max(incoming.timestamp, read_number(row))
            right = None if row is None else row[8:]
            answer = Answer(reference.change, reference.row, right, reference.until)
            yield Emit(Event(answer, key=reference.left), key, timestamp, incoming.headers)

    def _changed(self, key: bytes, value: Any, incoming: Incoming) -> Iterator[Act]:
        row = None if value is None else self._codec.encode(value)
        if row is not None:
            self._rows.put(key, number(incoming.timestamp) + row)
        elif self._rows.get(key) is not None:
            self._rows.delete(key)
        else:
            return
        prefix = text(key)
        for place, reference in self._references.under(prefix):
            timestamp = max(incoming.timestamp, read_number(reference))
            answer = Answer(read_number(reference, 8), reference[16:], row)
            yield Emit(Event(answer, key=place[len(prefix) :]), key, timestamp, incoming.headers)


class _Known(NamedTuple):
    """What `Answers` knows of a left key."""

    change: int = 0
    state: bytes = b""
    latest: int = LONG_AGO
    forgotten: int = LONG_AGO


class Answers(Timeless):
    """Takes answers and calls the handler with both rows, or emits a tombstone for a result that is no more.

    On the shelf of results (``r``) stands, for each left key, the number of the last change, ``+`` if it has
    a result, ``-`` if it has none, ``0`` if the left row is gone, and the latest time of all answers: what
    takes the place of a result is no older than it. The agenda (``x``) says when a row that is gone can be
    forgotten: when nothing can come any more of what was told before. That time stands behind ``0``, too.
    """

    def __init__(
        self, results: Shelf[bytes], agenda: Shelf[bytes], codecs: tuple[Codec, Codec], how: How
    ) -> None:
        self._results = results
        self._agenda = Agenda(agenda)
        self._codecs = codecs
        self._how = how

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """An answer, unless a newer one has come."""
        key, answer = incoming.key, incoming.value
        assert key is not None
        before = self._known(key)
        if before.change > answer.change:
            return
        timestamp = max(incoming.timestamp, before.latest)
        forgotten = b""
        if answer.left is None:
            state = b"0"
            at = min(max(answer.until, timestamp) + 1, NEVER)
            self._agenda.add(at, key)
            forgotten = number(at)
        elif answer.right is None and self._how == "inner":
            state = b"-"
        else:
            state = b"+"
            left, right = self._codecs
            found = None if answer.right is None else right.decode(answer.right)
            yield Call((left.decode(answer.left), found), key, timestamp, incoming.headers)
        if state != b"+" and before.state == b"+":
            yield Emit(Event(None), key, timestamp, incoming.headers)
        self._results.put(key, number(answer.change) + state + number(timestamp) + forgotten)

    def _known(self, key: bytes) -> _Known:
        """What stands on the shelf; what was stored without times has none."""
        result = self._results.get(key)
        if result is None:
            return _Known()
        times = [read_number(result, at) if result[at:] else LONG_AGO for at in (9, 17)]
        return _Known(read_number(result), result[8:9], *times)

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        """A left row that is gone, to be forgotten."""
        id = self._agenda.first(watermark)
        if id is None:
            return None
        at, key = self._agenda.read(id)
        return Due(id, at, self._forget(at, key), key)

    def _forget(self, at: int, key: bytes) -> Iterator[Act]:
        self._agenda.remove(at, key)
        known = self._known(key)
        # It may have been gone before, and there in between, and gone again: then its own time comes later.
        if known.state == b"0" and known.forgotten <= at:
            self._results.delete(key)
        yield from ()

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """To forget cannot fail."""
        at, key = self._agenda.read(id)
        self._agenda.remove(at, key)
        return key, None

    def rewound(self) -> None:
        """The shelves hold something else now."""
        self._agenda.rewound()
