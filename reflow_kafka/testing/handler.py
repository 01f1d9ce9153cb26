"""For tests of one handler, which is a plain function: what it takes as `ctx`."""

from __future__ import annotations

from collections.abc import Mapping

from reflow_kafka.context import Context
from reflow_kafka.event import NO_HEADERS
from reflow_kafka.serde.keys import encode_key
from reflow_kafka.units import Instant, epoch_ms


def context(
    *,
    key: object = None,
    timestamp: Instant = 0,
    headers: Mapping[str, bytes] = NO_HEADERS,
    upstream: str = "",
    flow: str = "test",
    stage: str = "test",
    lane: int = 0,
    attempt: int = 1,
) -> Context:
    """A `Context` as a handler gets it: ``assert visit(State(0), {...}, ctx=context(key="ada")) == ...``."""
    made = Context(flow, stage, lane)
    made.key_bytes = encode_key(key)
    made.timestamp = epoch_ms(timestamp)
    made.upstream = upstream
    made.attempt = attempt
    made._headers = list(headers.items())
    return made
