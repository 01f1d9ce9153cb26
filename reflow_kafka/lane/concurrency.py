"""How many calls of a worker may be in progress (pure).

Each turn of the event loop runs whatever is ready, so with thousands of calls ready a turn takes long; a
commit needs several turns, and so do the other lanes. More calls than the loop gets done gain nothing. So a
worker begins as many as its stage allows only while few of them end in one turn, or turns are short.
"""

from __future__ import annotations

from typing import Final

LONG_TURN: Final = 0.02
"""Seconds from which on a turn of the loop counts as long."""
PER_TURN: Final = 100
"""Calls of one worker that may end in a long turn: they take about as long as a slice of a serial worker."""


class Concurrency:
    """The limit of one worker; it falls at once and grows again by an eighth a turn.

    Args:
        most: what the stage allows.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = min(most, PER_TURN)
        """Calls that may be in progress now."""

    def turned(self, seconds: float, ended: int, running: int) -> None:
        """A turn of the loop took so long; of `running` calls, so many ended in it."""
        if seconds > LONG_TURN and ended > PER_TURN:
            self.limit = max(PER_TURN, min(self.limit, running) - (ended - PER_TURN))
        elif running >= self.limit:
            self.limit = min(self._most, self.limit + max(1, self.limit // 8))
