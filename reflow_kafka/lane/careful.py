"""For how long a worker works careful after it had to go back (pure).

Each time it had to go back, it stays careful for twice as long, so a stage in which one event in a hundred
fails soon stops going back; after a long time without failures it starts from the shortest period again.
"""

from __future__ import annotations

SHORTEST = 1.0
LONGEST = 300.0


class CarefulPeriod:
    """Keeps the period of one worker; outlives its sessions only if the worker does."""

    def __init__(self) -> None:
        self._until = float("-inf")
        self._length = 0.0

    def went_back(self, now: float) -> None:
        """The worker had to go back to its last commit."""
        if now > self._until + 10 * self._length:
            self._length = 0.0
        self._length = min(self._length * 2, LONGEST) if self._length else SHORTEST
        self._until = now + self._length

    def failed(self, now: float) -> None:
        """An event failed in the careful period: it is worth its while."""
        if now < self._until:
            self._until = max(self._until, now + self._length / 2)

    def over(self, now: float) -> bool:
        """Whether the worker may work at full speed again."""
        return now >= self._until
