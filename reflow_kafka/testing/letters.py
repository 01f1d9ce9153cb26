"""Dead letters, as a test sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from reflow_kafka.lane.dead_letter import PREFIX
from reflow_kafka.log.api import Record
from reflow_kafka.serde.keys import decode_key


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could not be processed, and why."""

    stage: str
    error: str
    """Type of the error: ``ValueError``, ``shop.errors.OutOfStock``."""
    message: str
    value: Any
    """As JSON tells it; the bytes if they are none."""
    key: str
    timestamp: int
    headers: Mapping[str, bytes]
    """The event's own."""
    attempts: int
    traceback: str


def read_letter(record: Record) -> DeadLetter:
    """The dead letter that a record holds."""
    headers = {name: data or b"" for name, data in record.headers}
    facts = {
        name.removeprefix(PREFIX): data.decode() for name, data in headers.items() if name.startswith(PREFIX)
    }
    return DeadLetter(
        stage=facts["stage"],
        error=facts["type"],
        message=facts["message"],
        value=_value(record.value),
        key="" if record.key is None else decode_key(record.key),
        timestamp=record.timestamp,
        headers={name: data for name, data in headers.items() if not name.startswith(PREFIX)},
        attempts=int(facts["attempts"]),
        traceback=facts["traceback"],
    )


def _value(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return data
