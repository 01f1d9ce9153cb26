"""An event in line, the line of its key, and what a handler gets of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from reflow_kafka.log.api import Record, TopicPartition


@dataclass(slots=True, eq=False)
class Stay:
    """The parked events of a line."""

    key: bytes | None
    number: int
    """Tells an event without key from others; 0 if there is a key."""
    first: int = 0
    """Place of the first event that is not in memory."""
    next: int = 0
    """Place of the event that is parked next."""

    @property
    def stored(self) -> int:
        """Events that are in the store alone."""
        return self.next - self.first


@dataclass(slots=True, eq=False)
class Item:
    """An event in line."""

    partition: TopicPartition
    record: Record
    number: int = 0
    """Its place in the order of arrival."""
    stay: Stay | None = None
    """Where it is parked, if it is."""
    place: int = 0
    """Its place there."""
    finished: bool = False
    """It is done with, though others of its unit may not be."""
    alone: int | None = None
    """Tried alone, having failed so often as part of a batch; None: it may be part of one."""

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.record.key or b"") + len(self.record.value or b"")


@dataclass(slots=True, eq=False)
class Line:
    """The events of one key, in order; the first `taken` of them belong to a unit."""

    id: object
    since: float
    """When its first event became ready."""
    items: deque[Item] = field(default_factory=deque)
    taken: int = 0
    unit: Unit | None = None
    """To which those belong."""
    size: int = 0
    """Bytes of the events that are not taken."""
    stay: Stay | None = None
    """Where it is parked, if it is."""
    behind: deque[Item] = field(default_factory=deque)
    """Events behind all that are parked, in memory: the first of them cannot be parked."""
    large: Item | None = None
    """One that cannot be parked, if any is known: the line is not parked before that is finished."""


@dataclass(slots=True, eq=False)
class Unit:
    """What one call of the handler gets."""

    items: list[Item]
    lines: list[Line]
    tries: int = 0
    """How many have failed."""
    due: float | None = None
    """When its next try is, while it waits for that."""
