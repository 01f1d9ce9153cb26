"""Who answers for a lane that is not ours: its lane record says so."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from reflow_kafka.clock import monotonic
from reflow_kafka.errors import LogError, StateUnavailable
from reflow_kafka.lane.env import LaneEnv
from reflow_kafka.lane.tail import last_record
from reflow_kafka.log.api import TopicPartition

PATIENCE: Final = 5.0
"""Seconds that reading a lane record may take."""
AGAIN: Final = 0.5
"""Seconds for which a lane record that was read is not read again, however wrong it turned out to be."""


class Owner(NamedTuple):
    """The owner of a lane, as the lane record tells."""

    http: str
    """Address at which it answers queries."""
    incarnation: str
    """Of the lane: who has another runs another flow of the same name."""


class Owners:
    """The owners of one flow's lanes: looked up when they are asked for, and remembered."""

    def __init__(self, env: LaneEnv) -> None:
        self._env = env
        self._known: dict[int, tuple[Owner | None, float]] = {}
        self._reading: dict[int, asyncio.Lock] = {}

    async def of(self, lane: int, *, not_: Owner | None = None) -> Owner:
        """The owner of a lane; `not_` one who turned out not to be.

        Raises:
            StateUnavailable: the lane knows of none.
        """
        async with self._reading.setdefault(lane, asyncio.Lock()):
            owner, read = self._known.get(lane, (None, float("-inf")))
            if (owner is None or not owner.http or owner == not_) and monotonic() - read > AGAIN:
                owner = await self._read(lane)
                self._known[lane] = owner, monotonic()
        where = f"lane {lane} of {self._env.plan.flow.name!r}"
        if owner is None:
            raise StateUnavailable(f"{where} has not begun yet")
        if not owner.http:
            raise StateUnavailable(
                f"{where} runs in an engine that does not answer queries: give all engines http= (--http)"
            )
        if owner == not_:
            raise StateUnavailable(f"{where} moves, or restores its state: it is not at {owner.http} now")
        return owner

    async def _read(self, lane: int) -> Owner | None:
        partition = TopicPartition(self._env.plan.progress_topic, lane)
        try:
            async with asyncio.timeout(PATIENCE):
                record = await last_record(self._env.log, partition)
        except (LogError, TimeoutError) as error:
            why = str(error) or f"not read within {PATIENCE:g} s"
            raise StateUnavailable(f"the record of lane {lane} cannot be read: {why}") from error
        return None if record is None else Owner(record.http, record.incarnation)
