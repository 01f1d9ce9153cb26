"""Joins a stream with a table: each event meets the row of its key (pure).

The table's side only stores: a row takes the place of the one before, None deletes it. `Latest` takes the row
as it is when the event comes. `AsOf` takes the row that held at the event's time: rows are kept with their
times, and an event waits until time has passed its own and the grace, so that all rows up to it have come.
That of the table is enough; while it is idle, that of the events goes on with the wall clock as soon as none
has come for `QUIET`.

On the shelf of rows (``r``) stands the row of a key; in `AsOf` its *history*. The agendas of `AsOf` (``x``)
tell of events that wait, under their time and key, and of keys whose row was deleted, to forget them; beside
them stands one time for all keys (``f``), before which such a key may have had rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from reflow_kafka.event import Event
from reflow_kafka.serde.typed import Codec
from reflow_kafka.state.ordered import number, read_number
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.agenda import Agenda
from reflow_kafka.timed.program import LONG_AGO, NEVER, NO_HEADERS, Act, Call, Due, Emit, Incoming
from reflow_kafka.timed.timeless import Timeless
from reflow_kafka.units import moment

How = Literal["inner", "left"]

STREAM: Final = 0
TABLE: Final = 1

QUIET: Final = 1_000
"""Milliseconds without a newer event after which time goes on with the wall clock, if the table is idle."""

_WAITS: Final = b"w"
_DELETED: Final = b"z"
_FORGOTTEN: Final = b"f"


class Latest(Timeless):
    """Each event meets the row that its key has when it comes."""

    def __init__(self, rows: Shelf[bytes], codec: Codec, how: How) -> None:
        self._rows = rows
        self._codec = codec
        self._how = how

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """Store a row, or call the handler with the event and its row."""
        key, value = incoming.key, incoming.value
        if key is None:
            yield from _alone(incoming, self._how)
        elif incoming.side == TABLE:
            if value is not None:
                self._rows.put(key, self._codec.encode(value))
            elif self._rows.get(key) is not None:
                self._rows.delete(key)
        elif value is not None:
            row = self._rows.get(key)
            if row is not None or self._how == "left":
                arguments = (value, None if row is None else self._codec.decode(row))
                yield Call(arguments, key, incoming.timestamp, incoming.headers)


def _alone(incoming: Incoming, how: How) -> Iterator[Act]:
    """An event without key asks for no row: there is nothing to wait for."""
    if incoming.value is not None and how == "left":
        yield Call((incoming.value, None), None, incoming.timestamp, incoming.headers)


class History(msgspec.Struct, array_like=True):
    """The rows that a key has had, in order of their times."""

    times: list[int] = []
    rows: list[bytes | None] = []
    cut: bool = False
    """Whether there were others before."""

    def at(self, time: int, forgotten: int = LONG_AGO) -> tuple[bool, bytes | None]:
        """Whether it is known what held at a time, and the row; before `forgotten` may have been others."""
        place = bisect_right(self.times, time)
        known = place > 0 or not (self.cut or time < forgotten)
        return known, self.rows[place - 1] if place else None

    def add(self, time: int, row: bytes | None) -> None:
        """A row from now on; the later to come of two with the same time counts."""
        place = bisect_right(self.times, time)
        if place and self.times[place - 1] == time:
            self.rows[place - 1] = row
        else:
            self.times.insert(place, time)
            self.rows.insert(place, row)

    def forget(self, before: int) -> None:
        """Nobody asks for times before this one any more."""
        place = bisect_right(self.times, before) - 1
        if place > 0:
            del self.times[:place], self.rows[:place]
            self.cut = True

    def ends(self, before: int) -> bool:
        """Whether it says no more than that there is no row since before this time."""
        return self.times[-1] <= before and not any(row is not None for row in self.rows)


class _Waiting(msgspec.Struct, array_like=True, gc=False):
    """An event that waits until the rows up to its time have come."""

    timestamp: int
    value: bytes
    headers: list[tuple[str, bytes | None]]


encode_history: Final = msgspec.msgpack.Encoder().encode
decode_history: Final = msgspec.msgpack.Decoder(History).decode
_encode_waiting: Final = msgspec.msgpack.Encoder().encode
_decode_waiting: Final = msgspec.msgpack.Decoder(list[_Waiting]).decode


class AsOf:
    """Each event meets the row that its key had at the event's time."""

    def __init__(
        self,
        rows: Shelf[History],
        agenda: Shelf[bytes],
        codecs: tuple[Codec, Codec],
        how: How,
        grace: int = 0,
    ) -> None:
        self._rows = rows
        self._entries = agenda
        self._waiting = Agenda(agenda, _WAITS)
        self._deleted = Agenda(agenda, _DELETED)
        self._codecs = codecs
        self._how = how
        self._grace = grace
        self._until = self._newest = self._newest_at = LONG_AGO
        """How far the table has come; the newest event, and when it came by the wall clock."""
        self._looked = False
        """Whether that is the newest of all that wait: some may be of before a restart."""
        self._put_off: frozenset[bytes] = frozenset()

    # ---- an event

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """Store a row, or let an event wait for those up to its time."""
        if incoming.key is None:
            yield from _alone(incoming, self._how)
        elif incoming.side == TABLE:
            self._store(incoming.key, incoming.value, incoming.timestamp, watermark)
        elif incoming.value is None:
            return
        elif self._comes(incoming.timestamp) > watermark:
            self._came(incoming.timestamp, now)
            self._wait(incoming)
        else:
            yield from self._behind(incoming)

    def _came(self, timestamp: int, now: int) -> None:
        if timestamp > self._newest:
            self._newest, self._newest_at = timestamp, now

    def _comes(self, timestamp: int) -> int:
        """The watermark at which everything up to this time has come."""
        return min(timestamp + self._grace + 1, NEVER)

    def _store(self, key: bytes, value: Any, timestamp: int, watermark: int) -> None:
        history = self._rows.get(key)
        if history is None:
            if value is None and self._comes(timestamp) <= watermark:
                return
            history = History([], [])
        history.forget(self._asked_from(watermark))  # the row before this one stays, for events behind
        history.add(timestamp, None if value is None else self._codecs[TABLE].encode(value))
        self._rows.put(key, history)
        if value is None:
            self._deleted.add(self._comes(timestamp), key)

    def _asked_from(self, watermark: int) -> int:
        """No event will ask for an older row, but those that are behind anyway."""
        first = self._waiting.first()
        waits = NEVER if first is None else self._waiting.read(first)[0] - 1
        return min(watermark, waits) - self._grace

    def _wait(self, incoming: Incoming) -> None:
        assert incoming.key is not None
        at = self._comes(incoming.timestamp)
        data = self._codecs[STREAM].encode(incoming.value)
        event = _Waiting(incoming.timestamp, data, list(incoming.headers))
        before = self._entries.get(self._waiting.key(at, incoming.key))
        events = [] if before is None else _decode_waiting(before)
        self._waiting.add(at, incoming.key, _encode_waiting([*events, event]))

    def _behind(self, incoming: Incoming) -> Iterator[Act]:
        """An event older than the watermark and the grace: it does not wait, if what it asks for is known."""
        assert incoming.key is not None
        history = self._rows.get(incoming.key) or History()
        known, row = history.at(incoming.timestamp, self._forgotten())
        if known:
            yield from self._meet(incoming.key, incoming.value, row, incoming.timestamp, incoming.headers)
        else:
            late = Event(incoming.value, to="late")
            yield Emit(late, incoming.key, incoming.timestamp, incoming.headers)

    def _meet(self, key: bytes, value: Any, row: bytes | None, timestamp: int, headers: Any) -> Iterator[Act]:
        if row is not None or self._how == "left":
            found = None if row is None else self._codecs[TABLE].decode(row)
            yield Call((value, found), key, timestamp, headers)

    # ---- what time has brought

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        """An event that has waited long enough; when there are none, a deleted row to be forgotten."""
        self._put_off = put_off
        time = max(watermark, self._of_rows(now))
        id = self._waiting.first(time, put_off.__contains__ if put_off else None)
        if id is not None:
            at, key = self._waiting.read(id)
            return Due(id, at - 1 - self._grace, self._asked(id), key)
        id = None if put_off else self._deleted.first(watermark)
        if id is None:
            return None
        at, key = self._deleted.read(id)
        return Due(id, at, self._forget(id), key)

    def _asked(self, id: bytes) -> Iterator[Act]:
        key, event = self._take(id)
        history = self._rows.get(key)
        _, row = (True, None) if history is None else history.at(event.timestamp)
        value = self._codecs[STREAM].decode(event.value)
        yield from self._meet(key, value, row, event.timestamp, event.headers or NO_HEADERS)

    def _take(self, id: bytes) -> tuple[bytes, _Waiting]:
        """The first of the events that wait in one place is taken out; its key with it."""
        at, key = self._waiting.read(id)
        entry = self._entries.need(id)
        event, *others = _decode_waiting(entry)
        if others:
            self._waiting.add(at, key, _encode_waiting(others))
        else:
            self._waiting.remove(at, key)
        return key, event

    def _forget(self, id: bytes) -> Iterator[Act]:
        at, key = self._deleted.read(id)
        self._deleted.remove(at, key)
        history = self._rows.get(key)
        if history is not None:
            time = at - 1 - self._grace
            history.forget(time)
            if history.ends(time):
                self._rows.delete(key)
                if history.cut and history.times[0] > self._forgotten():
                    self._entries.put(_FORGOTTEN, number(history.times[0]))
            else:
                self._rows.put(key, history)
        yield from ()

    def _forgotten(self) -> int:
        """From then on there was no row of any key that is forgotten; what was before, nobody knows."""
        time = self._entries.get(_FORGOTTEN)
        return LONG_AGO if time is None else read_number(time)

    @property
    def apart(self) -> int:
        """The time of the table counts by itself."""
        return TABLE

    def heard(self, until: int) -> bool:
        """How far the table has come."""
        news, self._until = until != self._until, until
        return news

    def _of_rows(self, now: int) -> int:
        """No older row is expected, but for the grace."""
        if self._until != NEVER:
            return self._until
        if not self._looked:
            self._looked = True
            if (latest := self._waiting.latest()) is not None:
                self._came(latest - 1 - self._grace, now)
        quiet = now - self._newest_at - QUIET
        return LONG_AGO if self._newest == LONG_AGO or quiet < 0 else self._newest + 1 + quiet

    def wake(self, now: int) -> int | None:
        """While the table is idle, time goes on with the wall clock."""
        if self._until != NEVER or self._newest == LONG_AGO:
            return None
        first = self._waiting.first(skip=self._put_off.__contains__ if self._put_off else None)
        if first is None:
            return None
        return self._newest_at + QUIET + max(self._waiting.read(first)[0] - self._newest - 1, 0)

    def tell(self, id: bytes) -> str:
        """Which event."""
        return f"event of {moment(self._waiting.read(id)[0] - 1 - self._grace)} that has waited for its row"

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """An event that waited is forgotten."""
        key, event = self._take(id)
        return key, event.value

    def holds(self, watermark: int) -> int:
        """Events that wait are emitted with their times."""
        first = self._waiting.first()
        if first is None:
            return watermark if watermark == NEVER else max(watermark - self._grace, LONG_AGO)
        return max(min(watermark, self._waiting.read(first)[0] - 1) - self._grace, LONG_AGO)

    def pending(self) -> bool:
        """Events that wait are."""
        return self._waiting.first() is not None

    def rewound(self) -> None:
        """The shelves hold something else now."""
        self._waiting.rewound()
        self._deleted.rewound()
        self._until = self._newest = self._newest_at = LONG_AGO
        self._looked = False
