"""What connectors share: values become events, and records that cannot be read are dealt with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from logging import LoggerAdapter
from typing import Any, Literal

from reflow_kafka.errors import ReflowError
from reflow_kafka.event import Event
from reflow_kafka.units import Instant, since_1970

KeyOf = str | Callable[[Any], object]
"""A field's name, or a function of the value."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that could not be read."""

    source: str
    """The file, or topic and partition."""
    offset: int
    raw: bytes
    error: str


OnBad = Literal["skip", "stop"] | Callable[[BadRecord], Any]
"""What happens to a record that cannot be read: it is logged, counted and skipped; it stops the flow; or a
function's result is delivered as its value (None: skipped)."""


class BadRecords:
    """Deals with one reader's bad records, and counts them."""

    def __init__(self, source: str, on_bad: OnBad, log: LoggerAdapter[Any]) -> None:
        self.count = 0
        self._source = source
        self._on_bad = on_bad
        self._log = log

    def take(self, offset: int, raw: bytes, error: object) -> Any:
        """The value to deliver in its place, None to skip it.

        Raises:
            ReflowError: with ``on_bad="stop"``.
        """
        self.count += 1
        if callable(self._on_bad):
            return self._on_bad(BadRecord(self._source, offset, raw, str(error)))
        if self._on_bad == "stop":
            raise ReflowError(f"{self._source}: the record at offset {offset} cannot be read: {error}")
        # A file full of nonsense must not fill the disk with warnings: 1 to 10, then 100, 1,000, …
        if self.count <= 10 or str(self.count).strip("0") == "1":
            self._log.warning(
                "%s: skipped the record at offset %d (%d so far): %s", self._source, offset, self.count, error
            )
        return None


def event_maker(key: KeyOf | None, timestamp: KeyOf | None) -> Callable[[Any], Event[Any]]:
    """A function value → event, specialised so that nothing is asked per event that is known before."""
    if key is None and timestamp is None:
        return Event
    if timestamp is None:
        assert key is not None
        key_of = getter(key)
        return lambda value: Event(value, key=key_of(value))
    time_of = getter(timestamp)
    if key is None:
        return lambda value: Event(value, timestamp=instant(time_of(value)))
    key_of = getter(key)
    return lambda value: Event(value, key=key_of(value), timestamp=instant(time_of(value)))


def getter(of: KeyOf) -> Callable[[Any], Any]:
    """A field by name, of a mapping or an object; or the function itself."""
    if callable(of):
        return of

    def get(value: Any) -> Any:
        try:
            return value[of]
        except TypeError:
            return getattr(value, of)
        except KeyError:
            raise KeyError(f"there is no field {of!r}") from None

    return get


def instant(value: Any) -> Instant:
    """An instant from data: ISO 8601 (without offset: UTC), a datetime, or a number (`since_1970`)."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return since_1970(int(value))
    if isinstance(value, datetime):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return since_1970(value)
    raise ValueError(f"found {value!r} as timestamp, wanted ISO 8601, or milliseconds or seconds since 1970")
