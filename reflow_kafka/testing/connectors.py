"""What stands in for the connectors of a flow that is tested."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from reflow_kafka.connector import ConnectorContext
from reflow_kafka.event import Event

A_WHILE: Final = 1.0
"""Seconds after which a source that has nothing says so: from then on it counts as idle."""


class GivenSource:
    """A source of what a test sends."""

    def __init__(self) -> None:
        self.events: list[Event[Any]] = []
        self.committed = 0
        """How many of them are done for good."""
        self.ended = False
        self._readers: set[GivenReader] = set()

    def give(self, event: Event[Any]) -> None:
        """One more event."""
        self.events.append(event)
        self._wake()

    def end(self) -> None:
        """There will be no more."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.news.set()

    async def parts(self) -> Sequence[str]:
        """One."""
        return [""]

    async def open(self, part: str, position: Any | None, ctx: ConnectorContext) -> GivenReader:
        """Read on after so many events."""
        reader = GivenReader(self, position or 0)
        self._readers = {reader}
        return reader


class GivenReader:
    """Reads them; waits as long as there are none."""

    def __init__(self, source: GivenSource, at: int) -> None:
        self.news = asyncio.Event()
        self._source = source
        self._at = at
        self._silent = False

    async def read(self, max_events: int) -> Sequence[Event[Any]] | None:
        """The next events; None once there will be no more. If there are none, it says so once."""
        while self._at == len(self._source.events):
            if self._source.ended:
                return None
            self.news.clear()
            try:
                async with asyncio.timeout(None if self._silent else A_WHILE):
                    await self.news.wait()
            except TimeoutError:
                self._silent = True
                return []
        self._silent = False
        events = self._source.events[self._at : self._at + max_events]
        self._at += len(events)
        return events

    def position(self) -> int:
        """How many were read."""
        return self._at

    async def committed(self, position: int) -> None:
        """So many are done."""
        self._source.committed = position

    async def close(self) -> None:
        """Nothing to release."""


class Nowhere:
    """A sink that takes everything."""

    async def open(self, ctx: ConnectorContext) -> Nowhere:
        """It is open."""
        return self

    async def write(self, events: Sequence[Event[Any]]) -> None:
        """Take them."""

    async def flush(self) -> None:
        """Nothing is kept back."""

    async def close(self) -> None:
        """Nothing to release."""
