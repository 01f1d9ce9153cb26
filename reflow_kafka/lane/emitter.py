"""Turns what a handler gives back into records on the edges that follow it.

`prepare` does everything that can fail, `deliver` nothing that can: an event that fails leaves no part of
its results behind. Compiled stages have the commonest case (one plain value, no overrides) inlined; all
others come through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from reflow_kafka.event import INHERITED, Event
from reflow_kafka.lane.outbox import NO_HEADERS, Channel, check_size
from reflow_kafka.log.api import Headers


class Place(Protocol):
    """What takes a result: a topic, or one partition of it."""

    def append(self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Add a record; it cannot fail."""


@dataclass(slots=True)
class Lead:
    """One edge that leaves a stage, ready for use in one lane."""

    output: str | None
    stage: str
    when: Callable[[Any], object] | None
    key: Callable[[Any], bytes | None] | None
    encode: Callable[[Any], bytes]
    channel: Channel | None
    """None where the place is found for each event."""
    route: Callable[[Any, Headers], Place | None] | None = None
    """Finds it, by the value and headers; None: this event does not go along this edge."""
    link: Any = None
    """The `Link` of a chained stage, which takes values as they are; then there is no place."""


class Cause(Protocol):
    """What results inherit from."""

    @property
    def key(self) -> bytes | None:
        """The key."""

    @property
    def headers(self) -> Any:
        """The headers, as a log has them."""


Prepared = list[tuple[Any, int, bytes | None, Any, Headers]]
"""Place, timestamp, key, value and headers of each result; or a `Link`, and the value itself."""


class UnknownTopic(LookupError):
    """A sink's function named a topic whose partition count is not known yet."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"topic {topic!r} is not known yet")
        self.topic = topic


class UndeclaredOutput(ValueError):
    """An event was emitted to an output that its stage does not declare."""


class RekeyedInChain(ValueError):
    """An event was emitted with another key into a stage that is chained."""

    def __init__(self, stage: str, key: bytes | None, before: bytes | None) -> None:
        super().__init__(
            f"an event of key {before!r} was emitted with key={key!r} into {stage!r}, which is chained, so "
            "that its events keep their keys: another key may belong to another lane. Take chain=True out "
            f"of {stage!r}, so that a topic carries its events to their lanes, or key= out of the Event"
        )


class Emitter:
    """Knows the leads of one worker by output name."""

    def __init__(self, leads: Iterable[Lead], outputs: Iterable[str]) -> None:
        self._leads: dict[str | None, list[Lead]] = {None: [], **{name: [] for name in outputs}}
        for lead in leads:
            self._leads.setdefault(lead.output, []).append(lead)

    def follows(self, output: str) -> bool:
        """Whether anything follows this output."""
        return bool(self._leads.get(output))

    def prepare(self, results: Iterable[Any], record: Cause, timestamp: int) -> Prepared:
        """Key, encode and route results, without any effect.

        Raises:
            Exception: whatever a predicate, a key function or an encoder raises; the event has failed.
        """
        prepared: Prepared = []
        for result in results:
            if result is None:
                continue
            if isinstance(result, Event):
                self._one(
                    prepared,
                    record,
                    result.value,
                    result.to,
                    record.key if result._key is INHERITED else result._key,
                    timestamp if result._timestamp is INHERITED else result._timestamp,
                    _inherited(record) if result._headers is INHERITED else headers_of(result._headers),
                )
            else:
                self._one(prepared, record, result, None, record.key, timestamp, _inherited(record))
        return prepared

    def _one(
        self,
        prepared: Prepared,
        record: Cause,
        value: Any,
        output: str | None,
        key: bytes | None,
        timestamp: int,
        headers: Headers,
    ) -> None:
        leads = self._leads.get(output)
        if leads is None:
            known = ", ".join(sorted(name for name in self._leads if name)) or "none"
            raise UndeclaredOutput(
                f"event emitted to output {output!r}, declared are: {known}; add it to outputs=[…]"
            )
        for lead in leads:
            if lead.when is not None and not lead.when(value):
                continue
            place: Place | None = lead.channel
            if place is None:
                if lead.link is not None:
                    if key != record.key:
                        raise RekeyedInChain(lead.stage, key, record.key)
                    prepared.append((lead.link, timestamp, key, value, headers))
                    continue
                assert lead.route is not None
                place = lead.route(value, headers)
                if place is None:
                    continue
            data = None if value is None else lead.encode(value)
            placed = key if lead.key is None or value is None else lead.key(value)
            check_size(placed, data)
            prepared.append((place, timestamp, placed, data, headers))

    @staticmethod
    def deliver(prepared: Prepared) -> None:
        """Append prepared results to their places; cannot fail."""
        for place, timestamp, key, data, headers in prepared:
            place.append(timestamp, key, data, headers)


def _inherited(record: Cause) -> Headers:
    return list(record.headers) if record.headers else NO_HEADERS


def headers_of(given: Any) -> Headers:
    """Headers that an event names, as a log takes them: it takes them when nothing may fail any more.

    Raises:
        TypeError: they are no names with bytes.
        ValueError: a name that cannot be written.
    """
    if not given:
        return NO_HEADERS
    if not isinstance(given, Mapping | list | tuple):
        raise TypeError(f"found {given!r:.100} as headers, wanted a mapping of names to bytes")
    headers = list(given.items() if isinstance(given, Mapping) else given)
    for header in headers:
        if not (type(header) is tuple and len(header) == 2 and isinstance(header[0], str)):
            raise TypeError(f"found {header!r} among the headers, wanted names (text) with bytes")
        name, value = header
        if not isinstance(value, bytes | None):
            raise TypeError(f"found {value!r:.100} as header {name!r}, wanted bytes")
        name.encode()  # (half a surrogate pair has no UTF-8)
    return headers
