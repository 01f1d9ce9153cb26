"""Engines on one memory log, and everything that can happen to them, by a seed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from reflow_kafka import Retry
from reflow_kafka.engine.engine import Engine
from reflow_kafka.errors import LaneLost, LogDoubt, LogError
from reflow_kafka.log.api import OutRecord, Reader, Record, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.local import Faults, LocalReader
from reflow_kafka.log.local.reader import Fetched
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.serde.keys import partition_of
from reflow_kafka.state.memory import MemoryBackend
from tests.simulation.flows import (
    LANES,
    RECORD_LIMIT,
    Table,
    Topics,
    Ways,
    check,
    check_answers,
    encoded,
    make_flow,
    make_input,
    request,
)

FAULTS = {
    "take-over": lambda: LogDoubt("injected: no answer to the take-over"),
    "before-commit": lambda: LogDoubt("injected: no answer to the commit"),
    "after-commit": lambda: LogDoubt("injected: the answer was lost"),
    "fetch": lambda: LogError("injected: no answer to the fetch"),
}


class NumberedReader(LocalReader):
    """A reader whose place in a set does not depend on where it lies in memory.

    What it returns may be on its way for a while, as it is from a broker.
    """

    number = 0
    delay: Callable[[], float]

    async def fetch(self, *arguments: Any, **options: Any) -> Fetched:
        found = await super().fetch(*arguments, **options)
        if found and (delay := self.delay()):
            await asyncio.sleep(delay)
        return found

    def __hash__(self) -> int:
        return self.number


class SimulatedLog(MemoryLog):
    """A memory log on which the same things happen in the same order each time."""

    def __init__(self, faults: Faults, delay: Callable[[], float]) -> None:
        super().__init__(max_record_bytes=RECORD_LIMIT, faults=faults)
        self._numbers = itertools.count()
        self._delay = delay

    def reader(self, *, committed: bool = True) -> Reader:
        reader = NumberedReader(self, committed=committed)
        reader.number = next(self._numbers)
        reader.delay = self._delay
        return reader


class Host:
    """A machine on which an engine runs, is killed and started again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.disk = MemoryBackend()
        self.engine: Engine | None = None

    async def start(self) -> None:
        """Start an engine, as often as it takes."""
        while self.engine is None:
            engine = Engine(
                make_flow(self.world.rng, self.world.table, self.world.ways),
                log=self.world.log,
                state=self.disk,
                started=1,
            )
            try:
                self.engine = await engine.__aenter__()
                await asyncio.sleep(0.01)  # it has looked at what it was given before others come
            except LogError:
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        engine, self.engine = self.engine, None
        if engine is not None:
            await engine.__aexit__(None, None, None)

    async def kill(self) -> None:
        """Nothing of the engine is left; by chance not even its disk."""
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.abort()
            await engine.__aexit__(None, None, None)
        if self.world.rng.random() < 0.3:
            self.disk = MemoryBackend()

    def forsake(self) -> None:
        """The group gives its lanes to others, but it goes on as if it knew nothing of it."""
        assert self.engine is not None
        self.world.log._groups["sim"].leave(self.engine._memberships[0])  # type: ignore[arg-type]

    async def finish(self) -> None:
        assert self.engine is not None
        await self.engine.wait(until_end=True)


class World:
    """One simulated history."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.fault_rate = 0.0
        self.log = SimulatedLog(self.fault, lambda: self.rng.choice((0.0, 0.0, 0.0, 0.02)))
        self.table = Table(self.rng)
        self.hosts = [Host(self) for _ in range(self.rng.choice((1, 1, 2, 3)))]
        self.ways = Ways(
            concurrency=self.rng.choice((1, 2, 5)),
            retry=self.rng.choice((Retry(), Retry(2, backoff=1.0), Retry(1))),
            chain=self.rng.random() < 0.5,
            echo_waits=self.rng.random() < 0.5,
        )
        self.input = make_input(self.rng, self.rng.choice((20, 100, 300)))

    def fault(self, point: str, flow: str, lane: int) -> None:
        if self.rng.random() < self.fault_rate * (0.1 if point == "fetch" else 1.0):
            if point == "before-commit" and self.rng.random() < 0.2:
                raise LaneLost("injected: fenced")
            raise FAULTS[point]()

    async def run(self) -> None:
        """Run the flow over the input through all kinds of trouble, then in peace to its end."""
        await self.log.start()
        await self.log.ensure_topics([TopicSpec("in", LANES, TopicKind.EXTERNAL)])
        producing = asyncio.create_task(self.produce())
        self.fault_rate = self.rng.choice((0.0, 0.02, 0.2))
        self.table.faults = self.rng.choice((0.0, 0.1))
        for _ in range(self.rng.randrange(8)):
            await self.trouble(self.rng.choice(self.hosts))
        await producing
        for host in self.hosts:
            await (host.stop if self.rng.random() < 0.5 else host.kill)()
        self.fault_rate = self.rng.choice((0.0, self.fault_rate))
        for host in self.hosts:
            await host.start()
        await asyncio.gather(*(host.finish() for host in self.hosts))
        for host in self.hosts:
            await host.stop()
        self.fault_rate = 0.0
        check(self.input, await self.topics(), self.table)
        check_answers(self.input, await self.records("sim.replies"))
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not {task for task in left if "wait_for" not in repr(task)}, f"left behind: {left}"

    async def produce(self) -> None:
        waiting = list(self.input)
        while waiting:
            for reading in waiting[: (count := self.rng.randrange(1, 60))]:
                key = reading["station"].encode()
                record = OutRecord(key, encoded(reading), 1_000, request(reading))
                await self.log.publish("in", partition_of(key, LANES), [record])
            del waiting[:count]
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.1, 0.6)))

    async def trouble(self, host: Host) -> None:
        if host.engine is None:
            await host.start()
        if self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.choice((0.001, 0.05, 0.3, 1.0, 8.0)))
        for _ in range(self.rng.randrange(120)):
            await asyncio.sleep(0)
        match self.rng.choice(("kill", "kill", "stop", "forsake", "nothing")):
            case "kill":
                await host.kill()
            case "stop":
                await host.stop()
            case "forsake":
                host.forsake()
                await asyncio.sleep(self.rng.choice((0.0, 1.0)))
                others = [other for other in self.hosts if other.engine is None]
                if others:
                    await self.rng.choice(others).start()
                    await asyncio.sleep(self.rng.choice((0.0, 0.5)))
                await host.kill()

    async def topics(self) -> Topics:
        """Everything that a reader of committed records sees."""
        return {
            name: [
                (r.key, None if r.value is None else orjson.loads(r.value)) for r in await self.records(name)
            ]
            for name in self.log._topics
            if name not in ("sim.progress", "sim.parked.changelog")  # no events
        }

    async def records(self, topic: str) -> list[Record]:
        reader = self.log.reader(committed=True)
        partitions = [TopicPartition(topic, p) for p in range(self.log._topics[topic].partitions)]
        reader.assign(await self.log.start_offsets(partitions))
        records: list[Record] = []
        while fetched := await reader.fetch(timeout=0):
            records += [record for batch in fetched.values() for record in batch]
        await reader.close()
        return records


class Complaints(logging.Handler):
    """Errors that nobody should have had reason to log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter().format(record))


@contextlib.contextmanager
def no_complaints() -> Iterator[None]:
    complaints = Complaints()
    root = logging.getLogger()
    root.addHandler(complaints)
    try:
        yield
    finally:
        root.removeHandler(complaints)
    assert not complaints.texts, "\n".join(complaints.texts)
