"""Joins two streams: events of one key whose times are not far apart (pure).

A right event belongs to a left one if it is at most `before` older and `after` younger, both inclusive; so
each event has a window, which closes once the watermark has passed its end and the grace. Events wait for
those of the other side in *chunks*: lists of the events of one key and a stretch of time as long as the
window, so that a look at the other side reads two records at most. A full chunk gets a number and is left as
it is; the one without a number is filled next. On the shelves of the left (``j``) and of the right (``J``) a
chunk stands under

    key | stretch | number, if it has one

The agenda (``x``) says for each chunk when its first event that has met no other closes its window (left and
outer joins emit it then, alone), or when the last one has and the chunk goes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

import msgspec

from reflow_kafka.event import Event
from reflow_kafka.serde.typed import Codec
from reflow_kafka.state.ordered import number, read_number, read_text, text
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.agenda import Agenda
from reflow_kafka.timed.program import LONG_AGO, NEVER, Act, Call, Due, Emit, Incoming
from reflow_kafka.units import moment

How = Literal["inner", "left", "outer"]

FULL: Final = 32
"""Events of a full chunk."""
FULL_BYTES: Final = 16_384
"""Bytes of values of a full chunk."""
TOGETHER: Final = 200
"""Chunks that are looked at in one step, if there is nothing to emit."""
AT_HAND: Final = 4_000
"""Chunks of a side that are kept decoded: a full one takes some 10 to 20 kB."""
LEFT: Final = 0
RIGHT: Final = 1


class Waiting(msgspec.Struct, array_like=True, gc=False):
    """An event that has come and may meet others."""

    timestamp: int
    value: bytes
    alone: bool
    """It has met none yet, and is emitted alone if it stays so."""
    headers: list[tuple[str, bytes | None]]


class Chunk(msgspec.Struct, array_like=True):
    """Events of one key, one side and one stretch of time, in order of their times."""

    at: int
    """When the agenda looks at it."""
    numbered: int = 0
    """How many full chunks there are beside it."""
    size: int = 0
    events: list[Waiting] = []


encode_chunk: Final = msgspec.msgpack.Encoder().encode
decode_chunk: Final = msgspec.msgpack.Decoder(Chunk).decode


@dataclass(frozen=True, slots=True)
class Span:
    """What events belong together; all in ms."""

    before: int
    after: int
    grace: int = 0


@dataclass(frozen=True, slots=True)
class _Side:
    place: int
    shelf: Shelf[Chunk]
    codec: Codec
    preserved: bool
    """Whether its events are emitted even if they meet no other."""
    back: int
    """How much older an event of the other side may be."""
    on: int
    """How much younger it may be."""

    def arguments(self, own: Any, other: Any) -> tuple[Any, Any]:
        """Left and right."""
        return (own, other) if self.place == LEFT else (other, own)


class StreamJoin:
    """Calls the handler with each pair, and with what has stayed alone, as `how` says."""

    def __init__(
        self,
        chunks: tuple[Shelf[Chunk], Shelf[Chunk]],
        agenda: Shelf[bytes],
        codecs: tuple[Codec, Codec],
        how: How,
        span: Span,
    ) -> None:
        left = _Side(LEFT, chunks[0], codecs[0], how != "inner", span.before, span.after)
        right = _Side(RIGHT, chunks[1], codecs[1], how == "outer", span.after, span.before)
        self._sides = (left, right)
        self._agenda = Agenda(agenda)
        self._grace = span.grace
        self._stretch = span.before + span.after + 1
        self._holds_back = max((side.on for side in self._sides if side.preserved), default=None)

    # ---- an event

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """It meets all of the other side that it belongs to, in order of their times, and waits for more."""
        value, timestamp, headers = incoming.value, incoming.timestamp, incoming.headers
        if value is None:
            return
        own, other = self._sides[incoming.side], self._sides[1 - incoming.side]
        if self._closes(own, timestamp) <= watermark:
            yield Emit(Event(value, to="late"), incoming.key, timestamp, headers)
            return
        assert incoming.key is not None
        key = text(incoming.key)
        data = own.codec.encode(value)
        alone = own.preserved
        first = True
        for met in self._met(other, key, timestamp - own.back, timestamp + own.on, watermark):
            alone = False
            if not first:
                value = own.codec.decode(data)  # the code may have changed the one it has been given
            first = False
            arguments = own.arguments(value, other.codec.decode(met.value))
            yield Call(arguments, incoming.key, max(timestamp, met.timestamp), headers)
        kept = list(headers) if alone else []
        self._keep(own, key, Waiting(timestamp, data, alone, kept))

    def _met(self, side: _Side, key: bytes, start: int, end: int, watermark: int) -> list[Waiting]:
        """Events of a side from `start` to `end` whose windows are open; they are alone no more."""
        found: list[Waiting] = []
        for stretch in range(start // self._stretch, end // self._stretch + 1):
            for place, chunk in self._chunks(side, key + number(stretch)):
                changed = False
                for event in chunk.events:
                    if start <= event.timestamp <= end and self._closes(side, event.timestamp) > watermark:
                        found.append(event)
                        changed |= event.alone
                        event.alone = False
                if changed:
                    side.shelf.put(place, chunk)
        found.sort(key=_timestamp)
        return found

    def _chunks(self, side: _Side, head: bytes) -> Iterator[tuple[bytes, Chunk]]:
        last = side.shelf.get(head)
        if last is None:
            return
        for n in range(last.numbered):
            chunk = side.shelf.get(head + number(n))
            if chunk is not None:
                yield head + number(n), chunk
        yield head, last

    def _keep(self, side: _Side, key: bytes, event: Waiting) -> None:
        stretch = event.timestamp // self._stretch
        head = key + number(stretch)
        at = self._closes(side, event.timestamp) if event.alone else self._goes(side, stretch)
        chunk = side.shelf.get(head)
        if chunk is None:
            chunk = Chunk(at)
            self._agenda.add(at, _what(side, head))
        elif len(chunk.events) >= FULL or chunk.size >= FULL_BYTES:
            chunk = self._numbered(side, head, chunk, at)
        elif at < chunk.at:
            self._agenda.remove(chunk.at, _what(side, head))
            self._agenda.add(at, _what(side, head))
            chunk.at = at
        insort(chunk.events, event, key=_timestamp)
        chunk.size += len(event.value)
        side.shelf.put(head, chunk)

    def _numbered(self, side: _Side, head: bytes, full: Chunk, at: int) -> Chunk:
        """Give a full chunk its number; the chunk that takes its place."""
        place = head + number(full.numbered)
        side.shelf.put(place, Chunk(full.at, 0, full.size, full.events))
        self._agenda.remove(full.at, _what(side, head))
        self._agenda.add(full.at, _what(side, place))
        self._agenda.add(at, _what(side, head))
        return Chunk(at, full.numbered + 1, 0, [])

    def _closes(self, side: _Side, timestamp: int) -> int:
        """The first watermark at which the window of an event is closed."""
        return min(timestamp + side.on + self._grace + 1, NEVER)

    def _goes(self, side: _Side, stretch: int) -> int:
        """The same for all events of a stretch."""
        return self._closes(side, (stretch + 1) * self._stretch - 1)

    # ---- what time has brought

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        """An event that stays alone, or some chunks to be looked at."""
        skip = put_off.__contains__ if put_off else None
        id = self._agenda.first(watermark, skip)
        if id is None:
            return None
        at, what = self._agenda.read(id)
        side, key = self._sides[what[0]], read_text(what, 1)[0]
        if self._alone(id) is not None:
            return Due(id, at - 1 - self._grace - side.on, self._emitted(id, key), key, side.place)
        ids = [id for id in islice(self._agenda.entries(watermark), TOGETHER) if not (skip and skip(id))]
        return Due(id, at, self._looked_at(ids), key)

    def _alone(self, id: bytes) -> Waiting | None:
        """The event of a chunk that has stayed alone and whose window has closed by now."""
        at, what = self._agenda.read(id)
        side = self._sides[what[0]]
        if not side.preserved:
            return None
        chunk = side.shelf.need(what[1:])
        event = next((event for event in chunk.events if event.alone), None)
        return event if event is not None and self._closes(side, event.timestamp) <= at else None

    def _emitted(self, id: bytes, key: bytes) -> Iterator[Act]:
        event = self._alone(id)
        assert event is not None
        side = self._sides[self._agenda.read(id)[1][0]]
        event.alone = False
        self._look_at(id)
        arguments = side.arguments(side.codec.decode(event.value), None)
        yield Call(arguments, key, event.timestamp, event.headers)

    def _looked_at(self, ids: Sequence[bytes]) -> Iterator[Act]:
        for id in ids:
            if self._alone(id) is not None:
                return
            self._look_at(id)
        yield from ()

    def _look_at(self, id: bytes) -> None:
        """Enter a chunk anew for what comes next in it, or forget it."""
        at, what = self._agenda.read(id)
        side, place = self._sides[what[0]], what[1:]
        self._agenda.remove(at, what)
        if not side.preserved:  # then it was entered for when it goes
            side.shelf.delete(place)
            return
        chunk = side.shelf.need(place)
        event = next((event for event in chunk.events if event.alone), None)
        if event is not None:
            chunk.at = self._closes(side, event.timestamp)
        elif chunk.numbered:  # it is known by this one that there are others
            chunk.at = self._goes(side, read_number(place, read_text(place)[1]))
        else:
            chunk.at = self._closes(side, chunk.events[-1].timestamp)
        if event is None and chunk.at <= at:
            side.shelf.delete(place)
        else:
            self._agenda.add(chunk.at, what)
            side.shelf.put(place, chunk)

    def wake(self, now: int) -> int | None:
        """The wall clock brings nothing."""
        return None

    def tell(self, id: bytes) -> str:
        """Which event."""
        event = self._alone(id)
        if event is None:
            return "events to be forgotten"
        return f"event of {moment(event.timestamp)} that met no other"

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """The event that stays alone is forgotten."""
        event = self._alone(id)
        key = read_text(self._agenda.read(id)[1], 1)[0]
        if event is not None:
            event.alone = False
        self._look_at(id)
        return key, None if event is None else event.value

    def holds(self, watermark: int) -> int:
        """Events within the grace may meet others yet; those that stay alone keep their times."""
        oldest = NEVER
        if self._holds_back is not None and (first := self._agenda.first()) is not None:
            oldest = self._agenda.read(first)[0] - 1 - self._grace - self._holds_back
        elif watermark == NEVER:
            return NEVER
        return max(min(watermark - self._grace, oldest), LONG_AGO)

    def pending(self) -> bool:
        """Events that may stay alone are."""
        return self._holds_back is not None and self._agenda.first() is not None

    def rewound(self) -> None:
        """The shelves hold something else now."""
        self._agenda.rewound()


def _what(side: _Side, place: bytes) -> bytes:
    return bytes((side.place,)) + place


def _timestamp(event: Waiting) -> int:
    return event.timestamp
