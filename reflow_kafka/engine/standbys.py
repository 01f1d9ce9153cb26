"""The copies that one engine keeps of lanes of others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from reflow_kafka.engine.statistics import StandbyStatistics
from reflow_kafka.errors import LogError
from reflow_kafka.lane.env import LaneEnv
from reflow_kafka.lane.standby import Standby

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 1.0
_LOOK_TIMEOUT: Final = 10.0
_AT_ONCE: Final = 2  # copies that are made at the same time; any number is kept up to date


class Standbys:
    """Keeps the copies that are wanted, and tells the membership how far behind they are.

    `changed` is called when a copy has been closed: only then may its lane, or another copy of it, be opened.
    """

    def __init__(self, env: LaneEnv, changed: Callable[[], None]) -> None:
        self._env = env
        self._changed = changed
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._copies: dict[int, tuple[Standby, asyncio.Task[None]]] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def lanes(self) -> frozenset[int]:
        """Lanes whose state is open here."""
        return frozenset(self._copies)

    def follow(self, wanted: frozenset[int]) -> None:
        """Begin and end copies, so that these are kept."""
        for number in sorted(wanted - self._copies.keys()):
            copy = Standby(self._env, number, self._turn)
            task = copy.start()
            self._copies[number] = copy, task
            task.add_done_callback(lambda _, number=number: self._closed(number))  # type: ignore[misc]
        for number in self._copies.keys() - wanted:
            self._copies[number][0].stop()
        if self._copies and self._looking is None:
            self._looking = asyncio.create_task(self._look())

    def statistics(self) -> tuple[StandbyStatistics, ...]:
        """How far each copy is behind."""
        return tuple(StandbyStatistics(n, copy.lag) for n, (copy, _) in sorted(self._copies.items()))

    async def close(self) -> None:
        """End all copies."""
        self.follow(frozenset())
        tasks = [task for _, task in self._copies.values()]
        if self._looking is not None:
            self._looking.cancel()
            tasks.append(self._looking)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _closed(self, number: int) -> None:
        del self._copies[number]
        self._changed()

    async def _look(self) -> None:
        """Find out again and again how far behind the copies are: one question for all of them."""
        while True:
            copies = [copy for copy, _ in self._copies.values()]
            partitions = [partition for copy in copies for partition in copy.partitions]
            try:
                asked = self._env.now()
                async with asyncio.timeout(_LOOK_TIMEOUT):
                    ends = await self._env.log.end_offsets(partitions) if partitions else {}
                for copy in copies:
                    copy.seen(ends, asked)
            except (LogError, TimeoutError) as error:
                logger.debug("nobody tells where changelogs end: %s", error)
            except Exception:
                logger.exception("asking where changelogs end failed")
            self._env.membership.lags({copy.number: copy.distance for copy in copies})
            await asyncio.sleep(_LOOK_EVERY)
