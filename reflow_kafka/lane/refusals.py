"""Finds the events whose results the log refuses (pure).

A refused commit (a timestamp out of bounds, a record too large) would be refused for ever. The lane halves
the number of events per commit until a commit of one event is refused: that event is the culprit and is
dead-lettered. While it is looked for the number does not grow: events that wait for each other (those of a
key, for a retry) would come together again and again in a commit that is refused. Once past the events of
the first refusal, commits are whole again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reflow_kafka.log.api import TopicPartition

MAX_KNOWN: Final = 1_000
"""Culprits that are remembered: one may be parked, below its input's position, so that does not tell when."""
MAX_LIMIT: Final = 10_000
"""Events per commit from which on commits are whole again, although some event holds a position up."""

PATIENCE: Final = 1_000
"""Commits that are accepted in a row before the search is given up: its events wait for something else."""


class Refusals:
    """What is known about refused events of one lane; outlives the lane's writers."""

    def __init__(self) -> None:
        self._limit: int | None = None
        self._patience = 0
        """Commits for which the search still goes on."""
        self._until: dict[TopicPartition, int] = {}
        self._culprits: dict[tuple[TopicPartition, int], str] = {}

    @property
    def limit(self) -> int | None:
        """How many events a commit may hold at present (None: any number)."""
        return self._limit

    def reason(self, partition: TopicPartition, offset: int) -> str | None:
        """Why this event may not be processed, if it is known to be refused."""
        return self._culprits.get((partition, offset)) if self._culprits else None

    def refused(
        self,
        events: int,
        last: tuple[TopicPartition, int] | None,
        positions: Mapping[TopicPartition, int],
        reason: str,
    ) -> bool:
        """A commit of so many events that reached these positions was refused; `last` is one of its events.

        Returns whether there is something to be done about it: False if it held no event that could be
        given up, or nothing but the dead letter of one that was.
        """
        if last is None:
            return False
        for tp, at in positions.items():
            self._until[tp] = max(self._until.get(tp, 0), at)
        self._patience = PATIENCE if events > 1 else 0
        if events > 1:
            self._limit = max(1, min(events, self._limit or events) // 2)
            return True
        searching, self._limit = self._limit is not None, 1
        if last in self._culprits:
            return not searching  # while none are looked for, one may be met again as if it were unknown
        self._culprits[last] = reason
        if len(self._culprits) > MAX_KNOWN:
            del self._culprits[next(iter(self._culprits))]
        return True

    def accepted(self, positions: Mapping[TopicPartition, int]) -> None:
        """A commit that reached these positions succeeded."""
        if self._limit is None:
            return
        for tp, at in positions.items():
            if at >= self._until.get(tp, at + 1):
                del self._until[tp]
        if self._patience:
            self._patience -= 1
        else:
            self._limit *= 2
        if not self._until or self._limit > MAX_LIMIT:
            self._limit = None
            self._until.clear()
