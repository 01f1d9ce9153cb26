"""Histories in which time passes although little happens."""

from __future__ import annotations

import asyncio
import random

from reflow_kafka.clock import now
from reflow_kafka.lane.record import RECORD_KEY, decode
from reflow_kafka.log.api import TopicPartition
from tests.simulation.silences import Silences
from tests.simulation.world import World

LIVELY = 120.0
"""Virtual seconds after the last trouble by which all windows have closed that time has passed."""


class SilentWorld(World):
    """One of them."""

    def __init__(self, case: Silences, rng: random.Random, *, troubles: int) -> None:
        super().__init__(case, rng, troubles=troubles)
        self.silences = case
        self.finite = False

    async def run(self) -> None:
        """Let the flow run while partitions fall silent, see that windows close, and judge what came out."""
        case, rng = self.silences, self.rng
        await self._open()
        case.began = now()
        producing = asyncio.create_task(self._produce_in_time())
        await self._weather()
        for host in self.hosts:
            if rng.random() < 0.7:
                host.start(until_end=False)
        for _ in range(self.troubles):
            for host in self.hosts:
                if rng.random() < 0.3:
                    until = self.loop.time() + rng.choice((3.0, 10.0, 40.0))
                    self.network.deaf[host.number, rng.randint(0, 1)] = until
            await self._trouble(finite=False)
            await asyncio.sleep(rng.choice((0.0, 2.0, 15.0)))
        await producing
        self._heal()
        for host in self.hosts:
            if host.machine is not None and host.stopping:
                await host.ended()
            if host.machine is None:
                host.start(until_end=False)
            host.machine.dies_at = 0
        if case.idle_after < LIVELY:
            await self._all_close()
        await self._calm(finite=False)
        await self.judge()

    async def _produce_in_time(self) -> None:
        began = self.loop.time()
        for at, lane, event_time in self.silences.plan:
            await asyncio.sleep(max(began + at - self.loop.time(), 0.0))
            await self._publish(lane, self.silences.began + round(event_time * 1000))

    async def _publish(self, lane: int, event_time: int) -> None:
        await self.log.publish("in", lane, [self.silences.event(lane, now(), min(event_time, now()))])

    async def _all_close(self) -> None:
        """Windows close although some partitions are silent, whether or not others have traffic."""
        case, until, began = self.silences, now(), self.loop.time()
        talking = [lane for lane in range(case.lanes) if case.steady[lane] and self.rng.random() < 0.5]
        while not case.all_closed(await self.topics(), until):
            waited = self.loop.time() - began
            assert waited < LIVELY, f"after {waited:g} s of calm not all windows have closed"
            for _ in range(4):
                for lane in talking:
                    await self._publish(lane, now())
                await asyncio.sleep(0.8)

    async def judge(self) -> None:
        await super().judge()
        self.silences.check_times(
            {
                lane: [
                    (record.timestamp, decode(record.value))
                    for record in await self._read(TopicPartition("sim.progress", lane), None)
                    if record.key == RECORD_KEY and record.value is not None
                ]
                for lane in range(self.silences.lanes)
            }
        )
