"""The contract of connectors: how events enter a flow from elsewhere, and leave it to elsewhere.

A connector in a flow is configuration only: building it opens nothing. `Source.open` and `Sink.open`
return the object that holds the connection. A connector contains no retry loop: it raises, and the engine
retries with back-off, with a reader or writer newly opened at the last committed position. What it raises
says what is the matter: `Reject` (from `Writer.write`): an event among these is bad; any other `ReflowError`
(`UsageError`, `DataLoss`, …): no retry helps, stop the flow with this message; `LaneLost`: another owner has
written meanwhile, take the lane over again; everything else: try again later.

The methods of one reader or writer are never called while another call is still running; only `close` may
follow a call that raised or was cancelled. Third-party packages register their connectors through the
entry-point groups ``reflow_kafka.sources`` and ``reflow_kafka.sinks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from logging import LoggerAdapter
from typing import Any, Protocol, runtime_checkable

from reflow_kafka.event import Event


@dataclass(frozen=True, slots=True)
class ConnectorContext:
    """Where a connector is opened."""

    flow: str
    stage: str
    lane: int
    log: LoggerAdapter[Any]


@runtime_checkable
class Reader(Protocol):
    """Reads one part of a source. A plain `def` method is called in a thread."""

    async def read(self, max_events: int) -> Sequence[Event[Any]] | None:
        """Up to `max_events` events; ``[]`` = nothing just now (it may wait a little first), None = ended."""

    def position(self) -> Any:
        """A JSON value from which `Source.open` continues just after the last event that was read."""

    async def committed(self, position: Any) -> None:
        """Everything up to `position` is durable in the flow now: acknowledge, answer, delete."""

    async def close(self) -> None:
        """Release the connection."""


@runtime_checkable
class Source(Protocol):
    """Where events come from."""

    async def parts(self) -> Sequence[str]:
        """Names of independent parts, spread over the lanes (``[""]``: one, indivisible)."""

    async def open(self, part: str, position: Any | None, ctx: ConnectorContext) -> Reader:
        """Start reading `part`, from its beginning (None) or just after a committed `position`."""


@runtime_checkable
class Writer(Protocol):
    """Writes one lane's events, in order, at least once; a plain `def` method is called in a thread.

    A writer that stores a position with its data gives exactly once: it then also has
    ``async def position(self) -> Any`` (the position stored, or None), and the engine calls
    ``flush(position)`` so that data and position are stored together, the position compared and set.
    """

    async def write(self, events: Sequence[Event[Any]]) -> None:
        """Take these events, all or none; they need not be durable before `flush`."""

    async def flush(self) -> None:
        """Make everything written durable; awaited before the lane commits its position."""

    async def close(self) -> None:
        """Release the connection; what was not flushed may be dropped: it will be written again."""


@runtime_checkable
class Sink(Protocol):
    """Where events go to."""

    async def open(self, ctx: ConnectorContext) -> Writer:
        """Start writing for the lane of `ctx`."""
