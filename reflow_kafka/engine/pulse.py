"""Tells those who rely on it that an engine's loop turns, and whoever looks on how its lanes do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Self

from reflow_kafka import clock
from reflow_kafka.engine.crowd import Crowd, Lanes
from reflow_kafka.engine.runner import Runner
from reflow_kafka.lane.pace import Lateness, Load
from reflow_kafka.log.api import Membership
from reflow_kafka.observe.stall import TICK, StallWatch

logger = logging.getLogger(__name__)


class Pulse:
    """Beats while it is entered, on a clock that runs by itself: not on one that a test moves.

    Args:
        runners: of the engine's flows.
        memberships: which give lanes away if the loop turns no more.
        load: how busy the process is.
        lateness: how long results wait for their commits.
    """

    def __init__(
        self, runners: Sequence[Runner], memberships: Sequence[Membership], load: Load, lateness: Lateness
    ) -> None:
        self._runners = runners
        self._memberships = memberships
        self._load = load
        self._lateness = lateness
        self._crowd = Crowd()
        self._stalls = StallWatch()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if clock.current().runs:
            self._stalls.start()
            self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stalls.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            self._stalls.turned()
            for membership in self._memberships:
                membership.alive()
            self._look(clock.monotonic())
            await asyncio.sleep(TICK)

    def _look(self, now: float) -> None:
        lanes = Lanes(
            sum(runner.lanes for runner in self._runners),
            sum(runner.running for runner in self._runners),
            *self._lateness.lately(now),
            self._load.busy,
            self._load.granted,
        )
        if told := self._crowd.look(now, lanes):
            logger.warning("%s", told)
