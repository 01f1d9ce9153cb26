"""The rate of a stage, shared by those of its lanes that run in this engine."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Final

from reflow_kafka.clock import monotonic
from reflow_kafka.lane.bucket import Bucket
from reflow_kafka.options import Rate

CHUNK: Final = 0.01
"""Seconds of the rate that are given to a lane in its turn, so that fast ones do not wait event by event."""


class Throttle:
    """Admits the events of one stage in one engine, its lanes in turns.

    The engine's part of the rate is that of its lanes among all lanes of the stage. While lanes move, both
    sides may have counted one for a moment, and each bucket starts with what it may begin at once.

    Args:
        rate: of the stage as a whole.
        lanes: how many run it, in all engines.
    """

    def __init__(self, rate: Rate, lanes: int) -> None:
        self._lanes = lanes
        self._here = 0
        self._bucket = Bucket(rate.events, rate.per, monotonic(), 1 / lanes)
        self._turn = asyncio.Lock()  # first come, first served
        self._waiting = 0
        self._changed = asyncio.Event()

    def joined(self) -> None:
        """A lane of the stage has come to this engine."""
        self._moved(1)

    def left(self) -> None:
        """A lane of the stage has gone."""
        self._moved(-1)

    def _moved(self, by: int) -> None:
        self._here += by
        self._bucket.resize(monotonic(), self._here / self._lanes)
        self._changed.set()

    def grab(self, wanted: int) -> int:
        """How many of `wanted` events may begin at once, without waiting; 0 if other lanes are first."""
        if self._waiting:
            return 0
        now = monotonic()
        granted = min(wanted, self._bucket.available(now))
        if granted:
            self._bucket.take(now, granted)
        return granted

    async def admit(self, wanted: int) -> int:
        """Wait for the lane's turn; how many of `wanted` events may begin now, at least one.

        It can be cancelled at any time: nothing is used up then.
        """
        if granted := self.grab(wanted):
            return granted
        self._waiting += 1
        try:
            async with self._turn:
                chunk = min(wanted, max(1, int(self._bucket.rate * CHUNK)))
                self._bucket.take(monotonic(), chunk)
                try:
                    await self._paid_off()
                except BaseException:
                    self._bucket.give_back(monotonic(), chunk)
                    raise
                return chunk
        finally:
            self._waiting -= 1

    async def admit_all(self, wanted: int) -> int:
        """Wait until all of `wanted` events, which belong together, may begin; in turns with other lanes."""
        left = wanted
        while left > 0:
            left -= await self.admit(left)
        return wanted

    async def _paid_off(self) -> None:
        while (wait := self._bucket.wait(monotonic())) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait == math.inf else wait):
                    await self._changed.wait()
