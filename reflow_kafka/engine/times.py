"""Time from lane to lane: what the lane records of a flow tell reaches the clocks of its lanes here.

A clock that wants to go by what the lanes before it have told must know where its edge ended afterwards:
what they had written by then lies below. All lanes of an engine ask in one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Final

from reflow_kafka.errors import LogError, NotPermitted
from reflow_kafka.lane.env import LaneEnv
from reflow_kafka.lane.lane import Lane
from reflow_kafka.lane.record import LaneRecord
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.timed.watermark import Board

logger = logging.getLogger(__name__)

SOON: Final = 0.001
"""Seconds after which is looked again at what is waited for, where looking costs nothing."""
SHARE: Final = 100
"""While nothing moves the clocks, this part of the time for which nothing has."""
AGAIN: Final = 1.0
"""Seconds after which it is tried again if the log does not answer."""


class Times:
    """The time of one flow in one engine."""

    def __init__(self, env: LaneEnv, lanes: Callable[[], Iterable[Lane]]) -> None:
        self._env = env
        self._lanes = lanes
        telling = {node.name: node.lanes for node in env.plan.nodes if node.tells_time}
        self._board = Board(telling, env.habits)
        self._news = asyncio.Event()
        self.listens = bool(telling)
        """Whether lanes tell each other of their time."""

    def learned(self, lane: int, record: LaneRecord) -> None:
        """A lane wrote this record."""
        current = record.run == self._env.membership.run
        if self._board.learned(lane, record.times, self._env.now(), current=current):
            self._news.set()

    def settled(self) -> bool:
        """Whether time has come as far as events have brought it, as long as nothing is heard."""
        return all(clock.at_rest(self._board) for lane in self._lanes() for clock in lane.clocks)

    async def run(self) -> None:
        """Keep the clocks going, for good."""
        every = self._env.habits.every
        while True:
            self._news.clear()
            try:
                pause = await self._look()
            except NotPermitted:
                raise
            except LogError as error:
                name = self._env.plan.flow.name
                logger.warning("flow %r: where edges end cannot be read (%s); again soon", name, error)
                pause = AGAIN
            await asyncio.sleep(every)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause - every):
                    await self._news.wait()

    async def _look(self) -> float:
        """Look at all clocks once; in how many seconds to look again if nothing is heard."""
        lanes = {lane: lane.keep_time() for lane in self._lanes()}
        clocks = [clock for lane, runs in lanes.items() if runs for clock in lane.clocks]
        asked: dict[TopicPartition, Callable[[int], None]] = {}
        for clock in clocks:
            asked.update(clock.asks(self._board))
        if asked:
            ends = await self._env.log.end_offsets(asked, committed=False)
            for tp, answer in asked.items():
                answer(ends[tp])
            for lane in self._lanes():
                lane.keep_time()
        soon = max(self._env.habits.every, SOON)
        if not clocks or not all(lanes.values()) or any(clock.waits for clock in clocks):
            return soon
        moved = max(clock.moved_at for clock in clocks)
        quiet = (self._env.now() - moved) / 1000 / SHARE
        return min(max(quiet, soon), self._env.habits.renewal / 2000)
