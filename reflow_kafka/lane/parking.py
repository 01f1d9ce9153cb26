"""Events that wait long, moved out of memory: into the lane's store, key and order kept.

They count as finished for the position of their input, so it moves on; what they are is written to the
store's changelog in the same commit. All events of a key are parked, or none: so what comes in for a parked
key goes behind them, and nothing that was read before can be behind what was read later.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from reflow_kafka.errors import DataLoss
from reflow_kafka.lane.line import Item, Stay
from reflow_kafka.lane.outbox import MAX_RECORD
from reflow_kafka.log.api import Headers, TopicPartition
from reflow_kafka.state.store import LaneStores
from reflow_kafka.topology.topics import PARKED

_PLACE: Final = struct.Struct(">Q")
_NUMBERED: Final = struct.Struct(">QQ")
_LENGTH: Final = struct.Struct(">I")
_OVERHEAD: Final = 256
"""Bytes of a parked event's id and entry, at most, but for what `Parking.takes` counts."""
_HEADER: Final = 5
"""Bytes beside a name or a value of a header, at most."""
_WITHOUT_KEY: Final = 0xFFFF_FFFF
"""In the place of a key's length. Such events wait for nobody: each is told from others by its number."""


@dataclass(frozen=True, slots=True)
class ParkedRecord:
    """An event as it was read."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class _Entry(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    tries: int
    due: int
    """Epoch ms of the next try; 0: there was none yet."""
    alone: int | None = None
    """Tried alone, having failed so often as part of a batch."""


# Not JSON, in which a value takes a third more: then the log might refuse what it has let in.
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


class Parking:
    """The parked events of one stage in one lane: what has changed, what is in a commit, and the store."""

    def __init__(self, stage: str, stores: LaneStores, now: Callable[[], int]) -> None:
        self._stage = stage
        self._prefix = stage.encode() + b"\0"
        self._stores = stores
        self._now = now
        self._changed: dict[bytes, bytes | None] = {}
        self._pending: dict[bytes, bytes | None] = {}
        self.unsaved = 0
        """Bytes of events that were parked since the last snapshot."""

    @property
    def settled_down(self) -> bool:
        """Whether everything changed is committed."""
        return not self._changed and not self._pending

    def takes(self, item: Item) -> bool:
        """Whether the changelog surely takes an event, whatever becomes of it; others wait in memory."""
        size = item.size + len(self._prefix) + len(item.partition.topic.encode()) + _OVERHEAD
        for name, value in item.record.headers:
            size += len(name.encode()) + len(value or b"") + 2 * _HEADER
        return size <= MAX_RECORD

    def put(self, item: Item, *, tries: int = 0, delay: float | None = None) -> None:
        """Park an event, or note how often it has failed and in how many seconds it is tried again."""
        record = item.record
        due = 0 if delay is None else self._now() + int(delay * 1000)
        headers = [(name, value) for name, value in record.headers]
        entry = _Entry(
            *item.partition, record.offset, record.timestamp, record.value, headers, tries, due, item.alone
        )
        self._changed[self._id(item.stay, item.place)] = data = _encode(entry)
        self.unsaved += len(data)

    def remove(self, item: Item) -> None:
        """A parked event is finished."""
        self._changed[self._id(item.stay, item.place)] = None

    def load(self, stay: Stay, count: int, size: int) -> Iterator[tuple[Item, int, float]]:
        """The next events, each with its failed tries and the seconds until the next.

        Args:
            stay: of the line.
            count: how many at most; fewer if some are finished.
            size: bytes from which on there are no more.
        """
        for place in range(stay.first, min(stay.first + count, stay.next)):
            raw = self._get(self._id(stay, place))
            if raw is None:
                continue
            try:
                entry = _decode(raw)
            except ValueError as error:
                raise self._unreadable(f"event {place} of key {stay.key!r:.100}", error) from error
            record = ParkedRecord(entry.offset, entry.timestamp, stay.key, entry.value, entry.headers)
            partition = TopicPartition(entry.topic, entry.partition)
            item = Item(partition, record, stay=stay, place=place, alone=entry.alone)
            yield item, entry.tries, max(entry.due - self._now(), 0) / 1000
            size -= item.size
            if size <= 0:
                return

    def stays(self) -> list[Stay]:
        """Everything that is parked, by key."""
        found: dict[tuple[bytes | None, int], Stay] = {}
        changed = {**self._pending, **self._changed}
        stored = (id for id, _ in self._stores.scan(PARKED, self._prefix) if id not in changed)
        for id in itertools.chain(stored, (id for id, raw in changed.items() if raw is not None)):
            key, number, place = self._parts(id)
            stay = found.get((key, number))
            if stay is None:
                found[key, number] = Stay(key, number, place, place + 1)
            else:
                stay.first, stay.next = min(stay.first, place), max(stay.next, place + 1)
        return list(found.values())

    # ---- commits

    def snapshot(self) -> dict[bytes, bytes | None]:
        """What changed since the last one; pending until `settled`."""
        self._pending, self._changed = self._changed, {}
        self.unsaved = 0
        return self._pending

    def settled(self) -> None:
        """The last snapshot is in the store."""
        self._pending = {}

    def rewind(self) -> None:
        """Forget everything since the last snapshot."""
        self._changed = {}
        self.unsaved = 0

    # ---- ids

    def _get(self, id: bytes) -> bytes | None:
        for layer in (self._changed, self._pending):
            if id in layer:
                return layer[id]
        return self._stores.get(PARKED, id)

    def _id(self, stay: Stay | None, place: int) -> bytes:
        assert stay is not None
        if stay.key is None:
            return self._prefix + _LENGTH.pack(_WITHOUT_KEY) + _PLACE.pack(stay.number) + _PLACE.pack(place)
        return self._prefix + _LENGTH.pack(len(stay.key)) + stay.key + _PLACE.pack(place)

    def _parts(self, id: bytes) -> tuple[bytes | None, int, int]:
        body = id[len(self._prefix) :]
        try:
            (length,) = _LENGTH.unpack_from(body)
            key = None if length == _WITHOUT_KEY else body[_LENGTH.size : _LENGTH.size + length]
            rest = body[_LENGTH.size + len(key or b"") :]
            if key is None:
                number, place = _NUMBERED.unpack(rest)
                return None, number, place
            return key, 0, _PLACE.unpack(rest)[0]
        except struct.error as error:
            raise self._unreadable(f"id {id!r:.100}", error) from error

    def _unreadable(self, what: str, error: Exception) -> DataLoss:
        return DataLoss(
            f"what stage {self._stage!r} has parked in store {PARKED!r} cannot be read: {what}: {error}. "
            "Bring the record back in the store's changelog, or reset the flow to give the event up"
        )


def largest(changes: Mapping[bytes, bytes | None]) -> str:
    """The largest event among those that are being parked, for a message."""
    id, raw = max(changes.items(), key=lambda change: len(change[0]) + len(change[1] or b""))
    stage = id.partition(b"\0")[0].decode()
    size = len(id) + len(raw or b"")
    if raw is None:
        return f"the removal of an event of stage {stage!r}, {size:,} bytes"
    entry = _decode(raw)
    return f"event {entry.topic}[{entry.partition}]@{entry.offset} of stage {stage!r}, {size:,} bytes"
