"""How a request says where its answer goes: headers, which events inherit along the flow. Pure.

All clients of a flow share one topic of replies, `<flow>.replies`, and each reads one partition of it. So a
lane never writes to a topic that may be gone, a client leaves nothing behind, and what a request says can
do no more than choose a partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

CORRELATION_ID: Final = "reflow.correlation-id"
"""Which request it is: chosen by the client, given back with the answer."""
REPLY_TO: Final = "reflow.reply-to"
"""Where the answer goes: `<topic>/<partition>`."""
REPLY_FROM: Final = "reflow.reply-from"
"""In an answer: the output that gave it, ``stage`` or ``stage.output``. An answer without is an error."""

MAX_LENGTH: Final = 300
"""Bytes of a correlation id, and of an address, beyond which it is none: it must fit into every answer."""

Header = tuple[str, bytes | None]


def reply_address(topic: str, partition: int) -> bytes:
    """The value of `REPLY_TO`."""
    return f"{topic}/{partition}".encode()


def header(headers: Sequence[Header], name: str) -> bytes | None:
    """The value of a header; of a repeated one the last."""
    found = None
    for each, value in headers:
        if each == name:
            found = value
    return found


def request_headers(headers: Sequence[Header]) -> list[Header]:
    """What makes an event a request, nothing if it is none: its `CORRELATION_ID` and `REPLY_TO`."""
    id, address = header(headers, CORRELATION_ID), header(headers, REPLY_TO)
    if id is None or address is None or max(len(id), len(address)) > MAX_LENGTH:
        return []
    return [(CORRELATION_ID, id), (REPLY_TO, address)]
