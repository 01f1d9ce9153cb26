"""Keeps the time short in which a transaction is open.

A transaction is open for a few round trips. A synchronous handler that blocked the loop for seconds right
then would let it time out at the coordinator, each time anew, and the lane would never move. So a worker
whose events take long has the loop for itself: commits wait for it, and it waits for them, in order of
arrival.

Nor may too many commits be under way: with a thousand lanes that all begin to commit, none would be done in
time, all would be taken over again, and so on for ever. A commit that waits for its turn has not begun, so it
will hold what has been done until then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

LONG: Final = 1.0
"""Seconds per event from which on a handler counts as blocking."""
COMMITS: Final = 32
"""Commits of an engine that are under way at once: enough to keep a broker busy that is milliseconds away."""


class Calm:
    """Commits, `COMMITS` at once, or one blocking handler; first come, first served."""

    def __init__(self) -> None:
        self._commits = 0
        self._blocking = False
        self._queue: deque[tuple[asyncio.Future[None], bool]] = deque()

    @asynccontextmanager
    async def commit(self) -> AsyncIterator[None]:
        """A commit is under way."""
        await self._enter(blocking=False)
        try:
            yield
        finally:
            self._commits -= 1
            self._admit()

    @asynccontextmanager
    async def blocking(self) -> AsyncIterator[None]:
        """A handler blocks the loop; no commit is under way."""
        await self._enter(blocking=True)
        try:
            yield
        finally:
            self._blocking = False
            self._admit()

    async def _enter(self, *, blocking: bool) -> None:
        if not self._queue and self._free(blocking):
            self._take(blocking)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, blocking))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn had come: give it on
                self._blocking = False if blocking else self._blocking
                self._commits -= 0 if blocking else 1
            self._admit()
            raise

    def _free(self, blocking: bool) -> bool:
        return not self._blocking and self._commits < (1 if blocking else COMMITS)

    def _take(self, blocking: bool) -> None:
        if blocking:
            self._blocking = True
        else:
            self._commits += 1

    def _admit(self) -> None:
        while self._queue and (self._queue[0][0].cancelled() or self._free(self._queue[0][1])):
            turn, blocking = self._queue.popleft()
            if not turn.cancelled():
                self._take(blocking)
                turn.set_result(None)
