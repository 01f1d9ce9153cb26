"""The end of a finite run (`--until-end`), as the lane records of all lanes tell it.

A stage of a lane is done when everything before it is done *in every lane* and it has finished all that its
edge held when that was known. Each lane says so in its record, under the identity of the run, so that what
a former run said does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from reflow_kafka.lane.record import LaneRecord
from reflow_kafka.topology.plan import Plan


class FiniteRun:
    """What is known of a run that is to end; shared by the lanes of an engine."""

    def __init__(self, plan: Plan, run: Callable[[], str]) -> None:
        self.wanted = asyncio.Event()
        """Set once the run is to end by itself."""
        self.ended = asyncio.Event()
        self._plan = plan
        self._run = run
        self._records: dict[int, LaneRecord] = {}
        self._news = asyncio.Event()

    def learned(self, lane: int, record: LaneRecord) -> None:
        """A lane wrote this record."""
        self._records[lane] = record
        self._news.set()

    def done(self, stage: str, lanes: int) -> bool:
        """Whether a stage is done in all of its lanes."""
        run = self._run()
        return all(
            (record := self._records.get(lane)) is not None and record.run == run and stage in record.done
            for lane in range(lanes)
        )

    def all_done(self) -> bool:
        """Whether nothing is left to do anywhere."""
        return all(self.done(node.name, node.lanes) for node in self._plan.nodes)

    async def news(self, timeout: float) -> None:
        """Wait for the next record, but not for longer than `timeout` seconds."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._news.wait()
