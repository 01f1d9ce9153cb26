"""A record as the event that a handler, a sink or an `on_error` is given."""

from __future__ import annotations

from typing import Any

from reflow_kafka.event import NO_HEADERS, Event, received
from reflow_kafka.log.api import Record, TopicPartition


def given(record: Record, value: Any, *, timestamp: int, origin: TopicPartition, upstream: str) -> Event[Any]:
    """The event of a record whose value has been decoded; compiled stages have the same inlined."""
    headers = {name: data or b"" for name, data in record.headers} if record.headers else NO_HEADERS
    id = f"{origin.topic}/{origin.partition}/{record.offset}"
    return received(value, record.key, timestamp, headers, upstream, id)
