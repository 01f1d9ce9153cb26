"""Records as JSON lines, there and back.

A plain line is the value. An envelope is an object of key, value, timestamp (epoch milliseconds, or text in
ISO 8601) and headers; `consume` adds partition and offset. Bytes that are no text stand as ``{"base64": …}``.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from reflow_kafka.errors import UsageError
from reflow_kafka.log.api import Headers, OutRecord, Record
from reflow_kafka.serde.json import encode_any, loads
from reflow_kafka.serde.keys import encode_key, key_getter, timestamp_getter
from reflow_kafka.units import epoch_ms

_timestamp_of = timestamp_getter("timestamp")


def parser(*, envelope: bool, key: str | None) -> Callable[[bytes], OutRecord]:
    """What makes a record of a line.

    Raises (when called):
        ValueError: the line is no JSON, or no envelope.
        KeyError: the field that holds the key is missing.
    """
    if envelope:
        return _from_envelope
    find = key_getter(key)

    def plain(line: bytes) -> OutRecord:
        value = loads(line)
        return OutRecord(None if find is None else find(value), line, _now())

    return plain


def _from_envelope(line: bytes) -> OutRecord:
    fields = loads(line)
    if not isinstance(fields, dict) or "value" not in fields:
        raise ValueError('found no envelope, wanted an object with a "value"')
    value, headers = fields["value"], fields.get("headers") or {}
    if not isinstance(headers, dict):
        raise ValueError(f"found {headers!r} as headers, wanted an object")
    return OutRecord(
        key=_raw(fields.get("key")),
        value=None if value is None else encode_any(value),
        timestamp=_timestamp(fields),
        headers=[(name, _raw(value)) for name, value in headers.items()],
    )


def _timestamp(fields: dict[str, Any]) -> int:
    given = fields.get("timestamp")
    if type(given) is int:  # never seconds: what `consume` has written comes back as it was
        return epoch_ms(given)
    return _now() if given is None else _timestamp_of(fields)


def _raw(given: Any) -> bytes | None:
    if isinstance(given, dict) and list(given) == ["base64"]:
        try:
            return base64.b64decode(given["base64"], validate=True)
        except (TypeError, binascii.Error):
            raise ValueError(f"found {given['base64']!r}, wanted base64") from None
    return encode_key(given)


def plain_line(record: Record) -> bytes:
    """The value alone, on one line."""
    value = record.value
    if value is None:
        return b"null"
    if _is_json(value):
        return value.replace(b"\n", b" ")  # (within texts JSON has no line ends)
    return orjson.dumps(_readable(value))


def envelope_line(record: Record, partition: int) -> bytes:
    """Everything about a record, on one line."""
    fields = {
        "key": _readable(record.key),
        "value": orjson.Fragment(plain_line(record)),
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "headers": _shown_headers(record.headers),
    }
    return orjson.dumps(fields)


def _shown_headers(headers: Any) -> Mapping[str, object]:
    found: Headers = list(headers)
    return {name: _readable(value) for name, value in found}


def _readable(raw: bytes | None) -> object:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _is_json(value: bytes) -> bool:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


def _now() -> int:
    return time.time_ns() // 1_000_000


def told(line: int, error: Exception) -> UsageError:
    """The one sentence about a line that cannot be used."""
    return UsageError(f"line {line:,}: {error}")
