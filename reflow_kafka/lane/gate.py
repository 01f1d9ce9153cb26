"""Between the workers of a lane and its commits: how much may be begun, and what wakes the committer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MAX_BYTES = 2 * 1024 * 1024
"""Bytes of results one worker may have waiting: then it waits for a commit."""
MAX_DIRTY = 20_000
"""Keys of changed state one worker may have waiting, …"""
MAX_WEIGHT = 8 * 1024 * 1024
"""… and bytes of it, if it goes by time."""


class Gate:
    """Shared by the workers of one lane. Events are counted from one commit to the next."""

    def __init__(self, limit: Callable[[], int | None]) -> None:
        self._limit = limit
        self._begun = 0
        self._taken = asyncio.Event()
        self.changed = asyncio.Event()
        """Set whenever there may be something to do for the committer."""
        self.moved = asyncio.Event()
        """Set whenever there may be room for more input."""
        self.stopping = False
        self.full = False
        self.pending = False
        """Whether anything has been done since the last commit."""

    async def admit(self, wanted: int, full: Callable[[], bool], *, counted: bool = True) -> int:
        """How many of `wanted` events may be begun now; waits while none may; 0 = stop.

        Args:
            wanted: events at hand.
            full: whether this worker has as much waiting for a commit as it may.
            counted: whether a limit of events per commit concerns this worker.
        """
        while not self.stopping:
            limit = self._limit() if counted else None
            if full():
                self.full = True
            elif limit is None:
                self._begun += wanted
                return wanted
            elif self._begun < limit:
                admitted = min(wanted, limit - self._begun)
                self._begun += admitted
                return admitted
            else:
                self.full = True
            self.changed.set()
            self._taken.clear()
            await self._taken.wait()
        return 0

    def worked(self) -> None:
        """There are new results, or work in hand has come to its end."""
        self.pending = True
        self.changed.set()
        self.moved.set()

    def taken(self) -> None:
        """A commit has taken everything that was waiting."""
        self._begun = 0
        self.full = False
        self.pending = False
        self._taken.set()

    def stop(self) -> None:
        """Admit nothing more."""
        self.stopping = True
        self._taken.set()
        self.changed.set()
