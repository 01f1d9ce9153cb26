"""Histories of engines that keep copies of each other's lanes, or are the same members when they are back."""

from __future__ import annotations

import asyncio
import random

from tests.simulation.hosts import Case, Host
from tests.simulation.world import World

LIVELY = 120.0
"""Virtual seconds after the last trouble by which everything is done, with no more coming and going."""


class MembersWorld(World):
    """One of them: hosts come and go, and are soon back."""

    def __init__(self, case: Case, rng: random.Random, *, troubles: int) -> None:
        super().__init__(case, rng, troubles=troubles)
        self.hosts = [Host(self, number) for number in range(1, rng.choice((2, 3)) + 1)]
        self.standbys, self.static = rng.choice(((1, False), (0, True), (1, True), (2, True)))
        self.finite = False
        self._calmed = asyncio.Event()

    async def run(self) -> None:
        """Let the flow run while hosts come and go, and judge what came out."""
        await self._open()
        producing = asyncio.create_task(self._produce_until_calm())
        for host in self.hosts:
            host.start(until_end=False)
        host = self.rng.choice(self.hosts)
        for _ in range(self.troubles):
            await self._restart(host)
            # What is on its way to one is best disturbed at another.
            host = self.rng.choice([other for other in self.hosts if other is not host])
        self._heal()
        self._calmed.set()
        await producing
        await self._all_done()
        await self._calm(finite=False)
        await self.judge()

    async def _produce_until_calm(self) -> None:
        """Some of the events wait for the end of all trouble: then every lane must have an owner."""
        records = list(self.case.records())
        for number, (partition, record) in enumerate(records):
            if number < len(records) * 2 // 3:
                await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.0, 1.0, 3.0)))
            else:
                await self._calmed.wait()
            await self.log.publish("in", partition, [record])

    async def _restart(self, host: Host) -> None:
        rng = self.rng
        # Lanes that go back to who has just come are under way in the first seconds.
        await asyncio.sleep(rng.choice((rng.uniform(0.0, 1.0), rng.uniform(0.0, 5.0), 10.0)))
        self._bury()
        if host.up:
            if rng.random() < 0.7:
                host.kill()
            else:
                host.stop()
                await host.ended()
        await asyncio.sleep(rng.choice((0.0, 0.3, 3.0, 15.0)))
        host.start(until_end=False)

    async def _all_done(self) -> None:
        """Every lane has an owner that goes on."""
        began = self.loop.time()
        for host in self.hosts:
            if not host.up:
                host.start(until_end=False)
        while left := await self.unfinished():
            waited = self.loop.time() - began
            assert waited < LIVELY, f"after {waited:g} s of calm there is still so much left of {left}"
            await asyncio.sleep(1.0)
