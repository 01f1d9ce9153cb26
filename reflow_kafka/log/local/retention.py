"""Which records of topics that keep them for a time are old enough to go (pure: time is an argument)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from reflow_kafka.log.api import TopicPartition

REPLY_RETENTION = 3600.0
"""Seconds for which answers to requests are kept."""
_STEPS = 10


class Retention:
    """Remembers how far partitions reached at what time.

    What was there before this object saw it counts as written when it first did.
    """

    def __init__(self, keep: float = REPLY_RETENTION) -> None:
        self._keep = keep
        self._marks: dict[TopicPartition, deque[tuple[float, int]]] = {}

    def expired(self, ends: Mapping[TopicPartition, int], now: float) -> dict[TopicPartition, int]:
        """The offsets below which everything is older than `keep` s, given where partitions end at `now`."""
        starts: dict[TopicPartition, int] = {}
        for tp, end in ends.items():
            marks = self._marks.setdefault(tp, deque())
            if not marks or now - marks[-1][0] >= self._keep / _STEPS:
                marks.append((now, end))
            while marks and now - marks[0][0] >= self._keep:
                starts[tp] = marks.popleft()[1]
        return starts
