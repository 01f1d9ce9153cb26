"""When a lane commits (pure).

A quiet lane commits as soon as its work in hand is done, so an event leaves within milliseconds. A busy
one waits: a commit costs about a millisecond of CPU whatever it holds, plus encoding and writing its dirty
state, so committing less often is where throughput comes from. The interval stretches until commits take
a tenth of the CPU, but not beyond a second, unless even that would take more than half of it.
"""

from __future__ import annotations

from dataclasses import dataclass

COMMIT_CPU = 0.001
"""Seconds of CPU that a commit costs beside what is measured each time (0.7-1.4 ms on Kafka)."""
BUSY = 0.7
"""Share of CPU above which throughput goes before latency."""
SHARE_BUSY = 0.1
SHARE_QUIET = 0.4
"""Share of CPU that the commits of all lanes may take together."""
SHARE_MOST = 0.5
"""And what they never take, however late they are: with hundreds of lanes nothing else would be done."""


class Load:
    """How busy the process is, smoothed over about a quarter of a second."""

    def __init__(self) -> None:
        self.busy = 0.0
        """CPU seconds used per second in which it was not kept waiting for a processor."""
        self.granted = 1.0
        """The part that it gets of the CPU it wants."""
        self._at = 0.0
        self._used = 0.0
        self._missed = 0.0

    def stale(self, now: float) -> bool:
        """Whether it is time for another sample."""
        return now - self._at >= 0.05

    def sample(self, now: float, used: float, missed: float = 0.0) -> None:
        """Take note of the CPU seconds used up to `now`, and of those that were wanted but not had."""
        elapsed = now - self._at
        if elapsed <= 0:
            return
        got, lost = used - self._used, missed - self._missed
        busy = min(got / max(elapsed - lost, got, 1e-9), 1.0)
        granted = min(max(got / (got + lost), 0.1), 1.0) if got + lost > 0 else 1.0
        weight = 1.0 if self._at == 0.0 else min(elapsed / 0.25, 1.0)
        self.busy += weight * (busy - self.busy)
        self.granted += weight * (granted - self.granted)
        self._at, self._used, self._missed = now, used, missed


class Lateness:
    """How long the results of all lanes wait until they are committed, smoothed."""

    def __init__(self) -> None:
        self._wait = 0.0
        self._commit = 0.0
        self._at = float("-inf")

    def note(self, now: float, wait: float, commit: float) -> None:
        """A commit is done: its results have waited for up to so many seconds, of which it took so many."""
        self._at = now
        self._wait += 0.05 * (wait - self._wait)
        self._commit += 0.05 * (commit - self._commit)

    def lately(self, now: float) -> tuple[float, float]:
        """Seconds of waiting, and of the commit; nothing, when there was none for ten seconds."""
        return (self._wait, self._commit) if now - self._at < 10.0 else (0.0, 0.0)


@dataclass(slots=True)
class Pace:
    """Decides when one lane commits."""

    interval: float = 0.1
    """Seconds after which results are committed at the latest, unless the process is busy; 0: at once."""
    ceiling: float = 1.0
    """Seconds up to which the interval stretches when it is, with up to some hundred lanes."""
    _since: float | None = None
    _last: float = float("-inf")
    _cost: float = COMMIT_CPU

    def worked(self, now: float) -> None:
        """There is something to commit."""
        if self._since is None:
            self._since = now

    def committing(self, now: float) -> float:
        """A commit starts; returns for how many seconds its results have waited."""
        waited = 0.0 if self._since is None else max(now - self._since, 0.0)
        self._since = None
        self._last = now
        return waited

    def committed(self, cpu: float) -> None:
        """It took `cpu` seconds of CPU to encode its content and to write it."""
        self._cost += 0.3 * (cpu + COMMIT_CPU - self._cost)

    def due(self, *, quiet: bool, full: bool, busy: float, lanes: int, granted: float = 1.0) -> float | None:
        """The moment of the next commit (perhaps past: now); None while there is nothing to commit.

        Args:
            quiet: no work is in hand, so nothing is gained by waiting.
            full: as much is waiting as may wait.
            busy: share of CPU in use.
            lanes: lanes in this process, which share the CPU.
            granted: part of the CPU wanted that is had: commits take their share of that.
        """
        if self._since is None:
            return None
        if full or not self.interval:
            return self._since
        if quiet and busy <= BUSY:
            return max(self._since, self._last + self._cost * lanes / SHARE_QUIET)
        interval = self.interval
        if busy > BUSY:
            cost = self._cost * lanes / granted
            interval = min(max(interval, cost / SHARE_BUSY), max(interval, self.ceiling, cost / SHARE_MOST))
        return max(self._last, self._since - interval) + interval
