"""Dead letters: an event that could not be processed, as it came, with what is known about why.

Key, value, headers and timestamp stay unchanged; the cause stands in headers `reflow.error.*`, all text.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from types import CodeType
from typing import Final

from reflow_kafka.lane.outbox import MAX_RECORD, Channel
from reflow_kafka.log.api import Headers, Record, TopicPartition
from reflow_kafka.topology.replies import request_headers

PREFIX: Final = "reflow.error."
MAX_MESSAGE: Final = 2_000
MAX_TRACEBACK: Final = 8_000
MAX_PLACES: Final = 200
"""Places in the code that are kept as text."""
MAX_KEY: Final = 100_000
"""Longest key that is kept where the event as a whole is too large."""


def error_headers(
    record: Record, origin: TopicPartition, flow: str, stage: str, error: BaseException, attempts: int = 1
) -> Headers:
    """The event's headers followed by those that tell its cause and origin."""
    kept = [(name, value) for name, value in record.headers if not name.startswith(PREFIX)]
    return [*kept, *_cause(record.offset, origin, flow, stage, error, attempts)]


def fitting(
    key: bytes | None, value: bytes | None, headers: Headers
) -> tuple[bytes | None, bytes | None, Headers]:
    """What of a dead letter a topic surely takes: all, or all but what is too large of it."""
    room = MAX_RECORD - sum(len(name) + len(data or b"") for name, data in headers)
    size = len(key or b"") + len(value or b"")
    if size <= room:
        return key, value, headers
    needed = [header for header in headers if header[0].startswith(PREFIX)]
    kept = headers if room > MAX_KEY else [*request_headers(headers), *needed]
    omitted = (PREFIX + "omitted", b"%d" % size)
    return (key if key is not None and len(key) <= MAX_KEY else None), None, [*kept, omitted]


class DeadLetterPlace:
    """Where the dead letter of one event goes: the partition of its whole key, even if that is too long."""

    __slots__ = ("_channel", "_key")

    def __init__(self, channel: Channel, key: bytes | None) -> None:
        self._channel = channel
        self._key = key

    def append(self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Write the dead letter, as far as it fits."""
        key, value, headers = fitting(key, value, headers)
        self._channel.append_to(self._channel.place(self._key), timestamp, key, value, headers)


def _cause(
    offset: int, origin: TopicPartition, flow: str, stage: str, error: BaseException, attempts: int
) -> Sequence[tuple[str, bytes]]:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    trace = _told(error)
    facts = {
        "flow": flow,
        "stage": stage,
        "topic": origin.topic,
        "partition": str(origin.partition),
        "offset": str(offset),
        "attempts": str(attempts),
        "type": name,
        "message": str(error)[:MAX_MESSAGE],
        "traceback": trace[-MAX_TRACEBACK:],
    }
    return [(PREFIX + fact, text.encode("utf-8", "replace")) for fact, text in facts.items()]


def _told(error: BaseException) -> str:
    """An error and where it was raised, as Python tells it.

    The same handler fails in the same places again and again, and telling a place takes longer than all the
    rest of a dead letter: places are told once.
    """
    stack = error.__traceback__
    if stack is None or error.__cause__ or error.__context__ or isinstance(error, BaseExceptionGroup):
        return "".join(traceback.format_exception(error))
    places = []
    while stack is not None:
        places.append((stack.tb_frame.f_code, stack.tb_lasti))
        stack = stack.tb_next
    key = tuple(places)
    text = _places.get(key)
    if text is None:
        if len(_places) >= MAX_PLACES:
            _places.clear()
        text = _places[key] = "".join(traceback.format_tb(error.__traceback__))
    only = "".join(traceback.format_exception_only(error))
    return f"Traceback (most recent call last):\n{text}{only}"


_places: dict[tuple[tuple[CodeType, int], ...], str] = {}
