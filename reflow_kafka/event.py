"""The event: what travels along the edges of a flow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from reflow_kafka.serde.keys import decode_key, encode_key
from reflow_kafka.units import Instant, epoch_ms

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")


class _Inherited:
    """Marks what a new event leaves out, and so inherits from the event being processed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<inherited>"

    def __reduce__(self) -> str:
        return "INHERITED"  # there is but one, in other processes, too


INHERITED: Final[Any] = _Inherited()
NO_HEADERS: Final[Mapping[str, bytes]] = {}


class Event(Generic[T_co]):
    """A value with its key, timestamp (event time, epoch ms) and headers.

    An event that a handler *receives* (annotate the parameter ``Event[T]``) has everything set. An event
    that a handler *emits* overrides what it names and inherits the rest from the input event:
    ``Event(value, key="k")``. ``to="big"`` emits to the named output ``big``; ``Event(None)`` is a
    tombstone.
    """

    __slots__ = ("_headers", "_key", "_timestamp", "id", "to", "upstream", "value")

    def __init__(
        self,
        value: T_co,
        *,
        key: object = INHERITED,
        timestamp: Instant = INHERITED,
        headers: Mapping[str, bytes] = INHERITED,
        to: str | None = None,
    ) -> None:
        self.value = value
        self._key = key if key is INHERITED else encode_key(key)
        self._timestamp = timestamp if timestamp is INHERITED else epoch_ms(timestamp)
        self._headers = headers
        self.to = to
        self.upstream = ""
        self.id = ""

    @property
    def key_bytes(self) -> bytes | None:
        """The raw key, None if the event has none."""
        return None if self._key is INHERITED else self._key

    @property
    def key(self) -> str:
        """The key as text, ``""`` if absent; bytes that are not UTF-8 survive as surrogate escapes."""
        raw = self.key_bytes
        return "" if raw is None else decode_key(raw)

    @property
    def timestamp(self) -> int:
        """Event time in epoch milliseconds; -1 if it is still to be inherited."""
        return -1 if self._timestamp is INHERITED else self._timestamp

    @property
    def time(self) -> datetime:
        """Event time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.timestamp / 1000, UTC)

    @property
    def headers(self) -> Mapping[str, bytes]:
        """The headers by name; of a repeated name the last value."""
        return NO_HEADERS if self._headers is INHERITED else self._headers

    def replace(
        self,
        value: R,
        *,
        key: object = INHERITED,
        timestamp: Instant = INHERITED,
        headers: Mapping[str, bytes] = INHERITED,
        to: str | None = None,
    ) -> Event[R]:
        """A new event with this value; what is not named is taken from this event."""
        event = Event(value, timestamp=timestamp, headers=headers, to=to)
        event._key = self._key if key is INHERITED else encode_key(key)
        if timestamp is INHERITED:
            event._timestamp = self._timestamp
        if headers is INHERITED:
            event._headers = self._headers
        return event

    def __repr__(self) -> str:
        parts = [repr(self.value)]
        if self._key is not INHERITED:
            parts.append(f"key={self.key!r}")
        if self._timestamp is not INHERITED:
            parts.append(f"timestamp={self._timestamp}")
        if self._headers is not INHERITED and self._headers:
            parts.append(f"headers={dict(self._headers)!r}")
        if self.to is not None:
            parts.append(f"to={self.to!r}")
        return f"Event({', '.join(parts)})"


def received(
    value: T_co,  # type: ignore[misc]
    key: bytes | None,
    timestamp: int,
    headers: Mapping[str, bytes],
    upstream: str,
    id: str,
) -> Event[T_co]:
    """An event as a handler receives it: everything known, nothing encoded again (hot path)."""
    event: Event[T_co] = Event.__new__(Event)
    event.value = value
    event._key = key
    event._timestamp = timestamp
    event._headers = headers
    event.to = None
    event.upstream = upstream
    event.id = id
    return event
