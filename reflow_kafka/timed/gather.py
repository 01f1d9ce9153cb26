"""Gathering: the parts of a split event, collected until all are there (pure).

A set begins with its first part and is named by its key. When it has as many parts as are expected it is
handed over, in order of arrival, and closed; if it has not by `within` after its first part, what is there
goes to the output ``timeout``, and it is closed as well. A closed set is remembered until `within` after its
first part, or after the time-out: what comes for it meanwhile goes to the output ``late``, as it would begin
a set that cannot be completed any more. Each part counts once, by its id; another try is dropped.

By event time the part's own time counts as well as the watermark, or the sets of a key that is used again
would depend on how far the watermark happens to be behind: parts of one set are less than `within` from the
first.

On the shelves, under ``g``:

- ``gs``: text(key) → the set. The first few kilobytes of parts stand in it, so most sets are one key;
- ``gp``: text(key) + id → a part beyond these;
- ``gt``: time, key → when a set is given up, or forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from reflow_kafka.event import Event, received
from reflow_kafka.log.api import Headers
from reflow_kafka.serde.keys import decode_key
from reflow_kafka.serde.typed import Codec
from reflow_kafka.state.ordered import after, text
from reflow_kafka.state.shelf import MakeShelf, Shelf, as_is
from reflow_kafka.timed.agenda import Agenda
from reflow_kafka.timed.program import LONG_AGO, NEVER, Act, Call, Due, Emit, Incoming
from reflow_kafka.units import Clock, moment

INLINE: Final = 4_096
"""Bytes of parts that stand in the set itself."""


class Part(msgspec.Struct, array_like=True, frozen=True):
    """A part, as it waits."""

    id: bytes
    place: int
    """Which it was to arrive."""
    side: int
    upstream: str
    timestamp: int
    headers: Headers
    value: bytes | None
    """Written as the edge that it came by has it."""

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        headers = sum(len(name) + len(data or b"") for name, data in self.headers)
        return 32 + len(self.id) + headers + len(self.value or b"")


class Gathered(msgspec.Struct, array_like=True):
    """A set, as it waits."""

    until: int
    """When it is given up; once it is closed, when it is forgotten."""
    newest: int
    """The latest timestamp of its parts."""
    expect: int | None = None
    """How many parts it has in all; None: no part has told yet."""
    count: int = 0
    size: int = 0
    """Bytes of the parts that stand in it."""
    closed: bool = False
    parts: list[Part] = []


class GatherProgram:
    """Hands over sets of parts, see `Program`."""

    def __init__(
        self,
        shelf: MakeShelf,
        codecs: Sequence[Codec],
        *,
        expect: int | Callable[[Any], object],
        within: int,
        clock: Clock = "event-time",
        id_of: Callable[[Any], bytes | None] | None = None,
        events: bool = False,
    ) -> None:
        """`codecs` are those of the inputs; `within` is in ms; with `events` the code takes `Event`s.

        `expect` is how many parts a set has, or finds it in a part (None: this one does not tell);
        `id_of` finds the id of a part in its value (None: the event's own).
        """
        pack, sets = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Gathered).decode
        part = msgspec.msgpack.Decoder(Part).decode
        self._sets: Shelf[Gathered] = shelf(b"gs", pack, sets)
        self._parts: Shelf[Part] = shelf(b"gp", pack, part)
        self._ends = Agenda(shelf(b"gt", as_is, as_is))
        self._put_off: frozenset[bytes] = frozenset()
        self._codecs = codecs
        self._expect = expect
        self._within = within
        self._clock = clock
        self._id_of = id_of
        self._events = events

    # ---- parts

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        key = incoming.key
        assert key is not None
        at = text(key)
        time = self._time(watermark, now)
        if self._clock == "event-time":
            time = max(time, incoming.timestamp)
        while (found := self._sets.get(at)) is not None and found.until <= time:
            yield from self._end(found.until, key, watermark)  # it was due before this event
        value = incoming.value.value if self._events else incoming.value
        if found is not None and (found.closed or self._precedes(incoming, found)):
            yield Emit(Event(value, to="late"), key, incoming.timestamp, incoming.headers)
            return
        id = self._id(incoming, value)
        if found is None:
            begun = now if self._clock == "wall-clock" else incoming.timestamp
            found = Gathered(min(begun + self._within, NEVER), incoming.timestamp)
            self._ends.add(found.until, key)
        elif self._holds(at, found, id):
            return
        found.expect = self._expected(key, found, value)
        self._add(at, found, incoming, id, value)
        if found.count == found.expect:
            parts = self._all(at, found)
            yield Call((self._given(key, parts),), key, found.newest, parts[0].headers)
            self._close(at, found)
        self._sets.put(at, found)

    def _precedes(self, incoming: Incoming, found: Gathered) -> bool:
        """Whether a part is as long before the first of the set as none may be after it."""
        return self._clock == "event-time" and incoming.timestamp <= found.until - 2 * self._within

    def _id(self, incoming: Incoming, value: Any) -> bytes:
        if self._id_of is None:
            return incoming.id.encode()
        id = self._id_of(value)
        if id is None:
            raise ValueError("found None as the id of a part, wanted what tells it from the others")
        return id

    def _holds(self, at: bytes, found: Gathered, id: bytes) -> bool:
        """Whether a part of this id is there already."""
        if any(part.id == id for part in found.parts):
            return True
        return found.count > len(found.parts) and self._parts.get(at + id) is not None

    def _expected(self, key: bytes, found: Gathered, value: Any) -> int | None:
        """How many parts the set has, now that this one may tell, too."""
        told = self._expect if isinstance(self._expect, int) else self._expect(value)
        if told is None:
            return found.expect
        if type(told) is not int or told < 1:
            raise ValueError(f"found {told!r} as the number of parts, wanted a whole number from 1 on")
        name = decode_key(key)
        if found.expect is not None and told != found.expect:
            raise ValueError(
                f"a part says that set {name!r} has {told} parts, one before it said {found.expect}"
            )
        if found.count >= told:
            raise ValueError(f"a part says that set {name!r} has {told} parts, but {found.count} are there")
        return told

    def _add(self, at: bytes, found: Gathered, incoming: Incoming, id: bytes, value: Any) -> None:
        part = Part(
            id,
            found.count,
            incoming.side,
            incoming.upstream,
            incoming.timestamp,
            list(incoming.headers),
            None if value is None else self._codecs[incoming.side].encode(value),
        )
        found.count += 1
        found.newest = max(found.newest, incoming.timestamp)
        if found.size + (size := part.size) <= INLINE:
            found.parts.append(part)
            found.size += size
        else:
            self._parts.put(at + id, part)

    def _all(self, at: bytes, found: Gathered) -> list[Part]:
        """All parts, in order of arrival."""
        if found.count == len(found.parts):
            return found.parts
        others = (part for _, part in self._parts.under(at))
        return sorted([*found.parts, *others], key=attrgetter("place"))

    def _given(self, key: bytes, parts: Sequence[Part]) -> list[Any]:
        """Parts as the code takes them."""
        values = self._values(parts)
        if not self._events:
            return values
        return [
            received(
                value, key, p.timestamp, {n: d or b"" for n, d in p.headers}, p.upstream, decode_key(p.id)
            )
            for value, p in zip(values, parts, strict=True)
        ]

    def _values(self, parts: Sequence[Part]) -> list[Any]:
        return [None if p.value is None else self._codecs[p.side].decode(p.value) for p in parts]

    def _close(self, at: bytes, found: Gathered) -> None:
        if found.count > len(found.parts):
            for other in self._parts.keys(at, after(at)):
                self._parts.delete(other)
        found.closed, found.parts, found.size = True, [], 0

    # ---- time

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        self._put_off = put_off
        entry = self._ends.first(self._time(watermark, now), put_off.__contains__)
        if entry is None:
            return None
        at, key = self._ends.read(entry)
        return Due(entry, at, self._end(at, key, watermark), key)

    def _time(self, watermark: int, now: int) -> int:
        """The time by which sets are given up."""
        return now if self._clock == "wall-clock" and watermark != NEVER else watermark

    def _end(self, at: int, key: bytes, watermark: int) -> Iterator[Act]:
        """A set is given up, or forgotten."""
        place = text(key)
        self._ends.remove(at, key)
        found = self._sets.need(place)
        if found.closed:
            self._sets.delete(place)
            return
        parts = self._all(place, found)
        yield Emit(
            Event(self._values(parts), to="timeout"),
            key,
            self._time_of(at, found, watermark),
            parts[0].headers,
        )
        self._give_up(at, key, found)

    def _time_of(self, at: int, found: Gathered, watermark: int) -> int:
        """The timestamp of what has timed out: none that the watermark has passed, if it is known."""
        if self._clock == "event-time":
            return at
        return max(found.newest, watermark) if watermark != NEVER else found.newest

    def _give_up(self, at: int, key: bytes, found: Gathered) -> None:
        self._close(text(key), found)
        found.until = min(at + self._within, NEVER)
        self._ends.add(found.until, key)
        self._sets.put(text(key), found)

    def wake(self, now: int) -> int | None:
        if self._clock == "event-time":
            return None
        entry = self._ends.first(skip=self._put_off.__contains__)
        return None if entry is None else self._ends.read(entry)[0]

    def tell(self, id: bytes) -> str:
        at, _ = self._ends.read(id)
        return f"the set given up at {moment(at)}"

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        at, key = self._ends.read(id)
        found = self._sets.need(text(key))
        parts = self._all(text(key), found)
        values = [None if p.value is None else self._codecs[p.side].told(p.value) for p in parts]
        self._ends.remove(at, key)
        self._give_up(at, key, found)
        return key, values

    def holds(self, watermark: int) -> int:
        if self._clock == "wall-clock" or watermark == LONG_AGO:
            return watermark
        entry = self._ends.first(watermark)
        return watermark if entry is None else min(watermark, self._ends.read(entry)[0])

    def pending(self) -> bool:
        return self._ends.first() is not None

    def rewound(self) -> None:
        self._ends.rewound()
