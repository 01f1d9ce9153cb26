"""Which share of a stage's events became dead letters of late (pure).

One bad event is the event's fault. If half of them are bad, something else is broken (a service, a
deployment), and to go on would empty the backlog into the dead letters.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from reflow_kafka.errors import FlowStopped

PARTS: Final = 60
"""Parts of the time looked back at that are counted together; the oldest one leaves as a whole."""


class DeadLetterShare:
    """Counts the events of one stage in one engine over the last minute.

    Args:
        limit: the share that is still bearable; 1.0: all of them are.
        at_least: dead letters before there can be talk of a share.
        span: seconds that are looked back.
    """

    def __init__(self, limit: float, at_least: int = 100, span: float = 60.0) -> None:
        self.limit = limit
        self._at_least = at_least
        self._part = span / PARTS
        self._counts: deque[list[int]] = deque()  # number of the part, events, dead letters
        self.events = 0
        """Those of the last minute, as of the last call."""
        self.dead_letters = 0
        """How many of them became dead letters."""

    def event(self, now: float, n: int = 1) -> None:
        """So many events have been finished, dead letters among them."""
        self._count(now)[1] += n
        self.events += n

    def dead_letter(self, now: float) -> None:
        """One of them became a dead letter."""
        self._count(now)[2] += 1
        self.dead_letters += 1

    def exceeded(self, now: float) -> bool:
        """Whether more than the bearable share of the last minute's events became dead letters."""
        self._forget(now)
        if self.limit >= 1 or self.dead_letters < self._at_least:
            return False
        return self.dead_letters > self.limit * self.events

    def _count(self, now: float) -> list[int]:
        self._forget(now)
        number = int(now // self._part)
        if not self._counts or self._counts[-1][0] < number:
            self._counts.append([number, 0, 0])
        return self._counts[-1]

    def _forget(self, now: float) -> None:
        oldest = int(now // self._part) - PARTS
        while self._counts and self._counts[0][0] <= oldest:
            _, events, dead_letters = self._counts.popleft()
            self.events -= events
            self.dead_letters -= dead_letters


class Watch:
    """Stops a stage before its backlog ends up in the dead letters; one for each of its workers."""

    def __init__(self, flow: str, stage: str, share: DeadLetterShare) -> None:
        self._flow = flow
        self._stage = stage
        self._share = share

    def judge(self, now: float, events: int, dead_letters: int) -> None:
        """So many events were finished, and so many of them became dead letters, since the last time.

        Raises:
            FlowStopped: too many of the stage's events became dead letters.
        """
        share = self._share
        share.event(now, events)
        for _ in range(dead_letters):
            share.dead_letter(now)
        if share.exceeded(now):
            found = f"{share.dead_letters} of {share.events} events of the last minute became dead letters"
            raise FlowStopped(
                f"stage {self._stage!r} stopped the flow: {found}, more than dead_letter_limit="
                f"{share.limit:g} allows; mend what they have in common (the newest stand in "
                f"{self._flow}.dead-letters), or raise the limit in Flow(dead_letter_limit=...)"
            )
