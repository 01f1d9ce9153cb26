"""Machines with disks, on which one engine after the other runs a case."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Iterator
from typing import Any, Protocol

from reflow_kafka import Flow
from reflow_kafka.engine.engine import Engine
from reflow_kafka.errors import BrokerUnavailable, LogError
from reflow_kafka.log.api import Headers, Log, OutRecord
from reflow_kafka.state.memory import MemoryBackend
from tests.simulation.loop import Machine, SimulatedLoop

RECORD_LIMIT = 20_000
"""Bytes of a record that the simulated log takes at most."""

Found = tuple[bytes | None, Any, Headers]
Topics = dict[str, list[Found]]
"""Per topic the key, value and headers of everything that a reader of committed records sees."""


class Case(Protocol):
    """A flow, what goes in, and what must come out."""

    name: str
    lanes: int
    exactly_once: bool

    def flow(self) -> Flow: ...
    def records(self) -> Iterator[tuple[int, OutRecord]]: ...
    def calm(self) -> None: ...
    def check(self, topics: Topics) -> None: ...


class Disk(MemoryBackend):
    """What a machine keeps when its processes are killed."""

    def unlocked(self) -> Disk:
        """As the next process finds it."""
        for content in self._lanes.values():
            if content.opened is not None:
                content.opened._content = None  # whatever still wants to write has come too late
                content.opened = None
        return self

    def copy(self) -> Disk:
        """As it is now: what a crash of the machine, or a snapshot of its disk, may bring back."""
        other = Disk()
        for where, content in self._lanes.items():
            held = copy.copy(content)
            held.opened = None
            held.stores = {name: dict(pairs) for name, pairs in content.stores.items()}
            other._lanes[where] = held
        return other


class Surroundings(Protocol):
    """What a host needs of the world."""

    loop: SimulatedLoop
    rng: random.Random
    log: Log
    case: Case
    standbys: int
    static: bool


class Host:
    """Where one engine after the other runs."""

    def __init__(self, world: Surroundings, number: int) -> None:
        self.world = world
        self.number = number
        self.disk = Disk()
        self.backup = Disk()
        self.machine: Machine | None = None
        self.engine: Engine | None = None
        self.running: asyncio.Task[None] | None = None
        self.started = self.stopping = False
        """The engine is; before that there is nothing to be drained."""
        self.at_end = False
        """The engine has said that its run has ended."""

    @property
    def up(self) -> bool:
        return self.machine is not None

    def start(self, *, until_end: bool) -> None:
        """Switch it on."""
        assert self.machine is None
        world = self.world
        self.started = self.stopping = self.at_end = False
        self.machine = Machine(self.number, f"host-{self.number}")
        self.running = world.loop.spawn(self.machine, self._program(until_end))

    async def _program(self, until_end: bool) -> None:
        """What `reflow-kafka worker` does, and whoever starts it again if there is no broker."""
        world = self.world
        while True:
            self.engine = Engine(
                world.case.flow(),
                log=world.log,
                state=self.disk,
                started=1,
                instance=f"seat-{self.number}" if world.static else None,
                standbys=world.standbys,
                guarantee="exactly-once" if world.case.exactly_once else "at-least-once",
            )
            try:
                async with self.engine:
                    self.started = True
                    await self.engine.wait(until_end=until_end)
                self.at_end = not self.stopping
                return
            except (LogError, BrokerUnavailable):
                await asyncio.sleep(0.5)

    async def ended(self) -> None:
        """Wait until it is dead, or has come to its end by itself."""
        if self.machine is None or self.running is None:
            return
        machine, running = self.machine, self.running
        await asyncio.wait([running, machine.death], return_when=asyncio.FIRST_COMPLETED)
        if running.done() and not running.cancelled():
            running.result()
        self._gone()

    def stop(self) -> None:
        """SIGTERM."""
        assert self.machine is not None
        assert self.running is not None
        self.stopping = True
        stop = self.engine.stop if self.engine is not None and self.started else self.running.cancel
        self.world.loop.on(self.machine, stop)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.machine is not None
        self.world.loop.kill(self.machine)
        self._gone()

    def _gone(self) -> None:
        self.machine = self.engine = self.running = None
        disk = self.disk.unlocked()
        self.disk = self.world.rng.choice((disk, disk, disk, Disk(), self.backup.copy()))
