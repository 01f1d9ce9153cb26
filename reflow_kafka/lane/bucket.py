"""A token bucket: how many events may begin, so that they are no more than so many per time (pure)."""

from __future__ import annotations

import math
from typing import Final

BURST: Final = 0.1
"""Seconds of the rate that may come at once after a pause, so that an hourly rate is none of bursts."""


class Bucket:
    """Lets no more than ``rate * t + capacity`` events begin in any time `t`.

    What is taken beyond what is there is owed: it is paid off as time passes, and until then nothing more
    begins. Times are seconds on any clock that does not go back.

    Args:
        events, per: the rate: so many events in so many seconds.
        now: the time; the bucket starts full.
        share: part of the rate that is this bucket's.
    """

    def __init__(self, events: int, per: float, now: float, share: float = 1.0) -> None:
        self._events = events
        self._per = per
        self._at = now
        self._share(share)
        self._level = self.capacity

    def _share(self, share: float) -> None:
        self.rate = self._events / self._per * share
        """Events per second."""
        self.capacity = max(1.0, self.rate * min(self._per, BURST))
        """Events that may begin at once."""

    def take(self, now: float, n: int = 1) -> float:
        """Take `n`; they may begin after so many seconds."""
        self._flow(now)
        self._level -= n
        return self.wait(now)

    def wait(self, now: float) -> float:
        """Seconds until everything that was taken may have begun."""
        self._flow(now)
        if self._level >= 0:
            return 0.0
        return -self._level / self.rate if self.rate else math.inf

    def available(self, now: float) -> int:
        """How many could begin now, without waiting."""
        self._flow(now)
        return max(0, math.floor(self._level))

    def give_back(self, now: float, n: int) -> None:
        """These were taken and will not begin."""
        self._flow(now)
        self._level = min(self.capacity, self._level + n)

    def resize(self, now: float, share: float) -> None:
        """Another part of the rate is this bucket's from now on."""
        self._flow(now)
        self._share(share)
        self._level = min(self.capacity, self._level)

    def _flow(self, now: float) -> None:
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self.rate)
            self._at = now
