"""How far time may have come, where events are dated by the clock that producers and engines share.

As far as the slowest partition that surely counts, and no farther than the clock.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence

from reflow_kafka.units import LONG_AGO

DELAYS = 30_000
"""Milliseconds by which machines that are frozen, and requests that are late, outdate what is known."""
BELIEFS = 4
"""In a row, at most: that a source is idle, and then from stage to stage."""

Published = tuple[int, int, int]
"""When an event was written (wall clock, ms), its partition, and its own time."""


class Bounds:
    """How far time may have come, at each moment.

    Args:
        published: all events, in the order in which they were written.
        began: when the flow did.
        lanes: how many partitions there are.
        behind: by how much (ms) an event may be older than one before it.
        after: after how much silence a partition does not count.
        believed: for how long that is believed.
    """

    def __init__(
        self,
        published: Sequence[Published],
        began: int,
        lanes: int,
        *,
        behind: int,
        after: int,
        believed: int,
    ) -> None:
        self._published = published
        self._behind = behind
        self._lanes = range(lanes)
        believed = BELIEFS * believed + DELAYS
        self._rests = [self._rests_of(lane, began, after, believed) for lane in self._lanes]
        moments = {began, *(when for when, _, _ in published)}
        moments |= {int(edge) for rests in self._rests for span in rests for edge in span if edge < math.inf}
        self._moments = sorted(moments)
        self._highest: list[float] = []
        """At each of these moments."""
        highest: float = LONG_AGO
        for moment in self._moments:
            highest = max(highest, self._slowest(moment - 1), self._slowest(moment))
            self._highest.append(highest)

    def _rests_of(self, lane: int, began: int, after: int, believed: int) -> list[tuple[int, float]]:
        """From when to when a partition may be believed to be idle."""
        traffic = [began, *(when for when, where, _ in self._published if where == lane)]
        rests = [(a + after, b + believed) for a, b in itertools.pairwise(traffic) if b - a >= after]
        return [*rests, (traffic[-1] + after, math.inf)]

    def counts_again(self, lane: int, now: int) -> float:
        """When a partition surely counts, from `now` on."""
        return max((end for start, end in self._rests[lane] if start <= now < end), default=now)

    def _slowest(self, now: int) -> float:
        """How far the slowest partition has come that surely counts; the clock, if none does."""
        counting = [lane for lane in self._lanes if self.counts_again(lane, now) == now]
        return min((self._reached(lane, now) for lane in counting), default=now)

    def _reached(self, lane: int, now: int) -> float:
        tops = (at for when, where, at in self._published if where == lane and when <= now)
        return max((top - self._behind for top in tops), default=LONG_AGO)

    def before(self, lane: int, now: int) -> float:
        """The highest watermark there may be until an event that was written then is in its window."""
        return max(self.at(self.counts_again(lane, now)), self._reached(lane, now))

    def at(self, now: float) -> float:
        """The highest watermark that anybody may have known by then."""
        if now == math.inf:
            return now
        before = bisect.bisect_right(self._moments, now)
        highest = self._highest[before - 1] if before else LONG_AGO
        return max(highest, self._slowest(int(now)))
