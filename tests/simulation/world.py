"""Machines around one broker, and everything that can happen to them, by a seed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterator
from typing import Any

import orjson

from reflow_kafka.log.api import Record, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.kafka import member, membership
from reflow_kafka.log.local import LocalLog
from reflow_kafka.observe.stall import StallWatch
from tests.simulation.broker import TRANSACTION_TIMEOUT, SimulatedLog
from tests.simulation.coordinator import SESSION
from tests.simulation.group import SimulatedGroup, SimulatedMember
from tests.simulation.hosts import RECORD_LIMIT, Case, Host, Topics
from tests.simulation.loop import SimulatedLoop, this_machine
from tests.simulation.network import Network

WAYS = ("crash", "crash", "crash", "kill", "stop", "freeze", "freeze", "cut", "cut", "away", "weather")
CALM = 400.0
"""Virtual seconds after the last trouble by which everything must be done."""


class World:
    """One simulated history."""

    def __init__(self, case: Case, rng: random.Random, *, troubles: int = 0) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self.loop = loop
        self.case = case
        self.rng = rng
        self.troubles = troubles
        self.network = Network(rng)
        self.group_network = Network(rng)
        self.log = SimulatedLog(
            self.network, self.group_network, record_limit=RECORD_LIMIT, marker=rng.choice((0, 1, 1))
        )
        self.hosts = [Host(self, number) for number in range(1, rng.choice((1, 1, 2, 2, 3)) + 1)]
        self.standbys = 0
        """Copies of each lane, kept by other engines."""
        self.static = False
        """Whether an engine that is started again is the same member of the group."""
        self.finite = True
        """Whether runs end by themselves, perhaps before all of the input is there."""
        self.steps = 0
        """Of the first host, in a history with a crash at a certain step."""

    # ---- the history

    async def run(self) -> None:
        """Let the flow run through all kinds of trouble, then in peace, and judge what came out."""
        await self._open()
        finite = self.finite = self.rng.random() < 0.5
        self._take_ways()
        producing = asyncio.create_task(self._produce(at_once=finite))
        await self._weather()
        for host in self.hosts:
            if self.rng.random() < 0.7:
                host.start(until_end=finite)
        for _ in range(self.troubles):
            await self._trouble(finite)
        await producing
        await self._calm(finite)
        await self.judge()

    async def run_with_crash(self, at: int) -> None:
        """Let the flow run to its end, in peace but for a crash before the step `at` of the first host."""
        await self._open()
        await self._produce(at_once=True)
        for host in self.hosts:
            host.start(until_end=True)
        first = self.hosts[0].machine
        assert first is not None
        first.dies_at = at
        await self._end()
        self.steps = first.steps
        await self.judge()

    async def _open(self) -> None:
        """The log is there, and the topic of the input."""
        await self.log.start()
        await self.log.ensure_topics([TopicSpec("in", self.case.lanes, TopicKind.EXTERNAL)])

    async def _produce(self, *, at_once: bool) -> None:
        for number, (partition, record) in enumerate(self.case.records()):
            if not at_once and number and self.rng.random() < 0.2:
                await self._while()
            await self.log.publish("in", partition, [record])

    def _take_ways(self) -> None:
        """Choose how engines are run, of numbers of their own."""
        rng = random.Random()
        rng.setstate(self.rng.getstate())
        rng = random.Random(rng.getrandbits(64))
        self.standbys, self.static = rng.choice((0, 0, 1)), rng.random() < 0.3

    async def _weather(self) -> None:
        """How bad things are in general."""
        self.network.loss = self.rng.choice((0.0, 0.0, 0.02, 0.2))
        self.network.slow = self.rng.choice((0.0, 0.0, 0.05, 0.3))
        self.group_network.loss = self.rng.choice((0.0, 0.0, 0.05))
        self.group_network.slow = self.rng.choice((0.0, 0.0, 0.1))

    async def _trouble(self, finite: bool) -> None:
        """Something happens to a host, or between the hosts and the broker."""
        rng, host = self.rng, self.rng.choice(self.hosts)
        self._bury()
        if not host.up:
            host.start(until_end=finite)
        machine = host.machine
        assert machine is not None
        match rng.choice(WAYS):
            case "crash":
                machine.dies_at = machine.steps + rng.randint(1, rng.choice((30, 300, 2_000)))
            case "kill":
                await self._while()
                if host.up:
                    host.kill()
            case "stop":
                await self._while()
                if host.up:
                    host.stop()
            case "freeze":
                await self._while()
                self.loop.freeze(machine)
                await asyncio.sleep(rng.choice((0.1, 3.0, SESSION + 2, SESSION + 20)))
                self.loop.thaw(machine)
            case "cut":
                cut = rng.choice(([self.network], [self.group_network], [self.network, self.group_network]))
                for network in cut:
                    network.cut[machine.number] = self.loop.time() + rng.choice((0.5, 8.0, 25.0))
            case "away":
                back = self.loop.time() + rng.choice((0.2, 2.0, 20.0))
                self.network.back_at = self.group_network.back_at = back
            case "weather":
                await self._weather()
        await self._while()
        if rng.random() < 0.3:
            host.backup = host.disk.copy()

    async def _while(self) -> None:
        """Wait for some time, or until some more was done."""
        if self.rng.random() < 0.7:
            done = self.loop.passed(self.rng.randint(1, self.rng.choice((10, 100, 1_000))))
            await asyncio.wait([done], timeout=5.0)  # it may be that nobody does anything
        else:
            await asyncio.sleep(self.rng.choice((0.05, 0.3, 1.0, 6.0)))

    def _bury(self) -> None:
        """Take note of the hosts that have died, or come to an end, since."""
        for host in self.hosts:
            if host.machine is not None and host.running is not None:
                if host.running.done() and not host.running.cancelled():
                    host.running.result()
                if not host.machine.alive or host.running.done():
                    host._gone()

    async def _calm(self, finite: bool) -> None:
        """Everything works again; all must come to its end."""
        self._heal()
        if not finite:
            for host in self.hosts:
                if host.machine is not None:
                    if self.rng.random() < 0.5:
                        host.kill()
                    else:
                        host.stop()
                        async with asyncio.timeout(CALM):
                            await host.ended()
        for host in self.hosts:
            if host.machine is None:
                host.start(until_end=True)
        await self._end()

    def _heal(self) -> None:
        """Everything works again."""
        for network in (self.network, self.group_network):
            network.loss, network.slow, network.back_at = 0.0, 0.0, 0.0
            network.cut.clear()
            network.deaf.clear()
        self.case.calm()
        self._bury()

    async def _end(self) -> None:
        """Wait until all hosts have come to the end of the run."""
        async with asyncio.timeout(CALM):
            for host in self.hosts:
                await host.ended()
                while not host.at_end:  # a crash that was still due, or a stop that was under way
                    host.start(until_end=True)
                    await host.ended()

    # ---- what is left

    async def judge(self) -> None:
        """Whether the guarantees have been kept."""
        await asyncio.sleep(2 * TRANSACTION_TIMEOUT)  # what was late is there by now
        assert not self.log.left_open(), f"open transactions: {self.log.left_open()}"
        left = await self.unfinished()
        assert not left, f"not committed are so many records of {left}"
        self.case.check(await self.topics())
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        left_behind = [task for task in tasks if "wait_for" not in repr(task)]
        assert not left_behind, f"left behind: {left_behind}"

    async def unfinished(self) -> dict[TopicPartition, int]:
        """How many records lie behind the committed positions."""
        positions = self.log.positions.get(self.case.name, {})
        sources = {TopicPartition("in", lane) for lane in range(self.case.lanes)}
        left = {
            tp: len(await self._read(tp, positions[tp].offset if tp in positions else None))
            for tp in sorted(sources | positions.keys())
        }
        return {tp: count for tp, count in left.items() if count}

    async def topics(self) -> Topics:
        """What is in all topics."""
        return {
            name: [
                (r.key, None if r.value is None else orjson.loads(r.value), r.headers)
                for partition in range(spec.partitions)
                for r in await self._read(TopicPartition(name, partition), None)
            ]
            for name, spec in self.log._topics.items()
            if name not in ("sim.progress", "sim.parked.changelog")  # no events
        }

    async def _read(self, tp: TopicPartition, offset: int | None) -> list[Record]:
        reader = self.log.reader(committed=True)
        start = (await LocalLog.start_offsets(self.log, [tp]))[tp]
        reader.assign({tp: start if offset is None else offset})
        records: list[Record] = []
        while fetched := await reader.fetch(timeout=0):
            records += [record for batch in fetched.values() for record in batch]
        await reader.close()
        return records


class Complaints(logging.Handler):
    """Errors that nobody should have had reason to log; what a machine says while it dies is not heard."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        machine, text = this_machine(), logging.Formatter().format(record)
        if machine is not None and not machine.alive:
            return
        self.texts.append(text)


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


def simulated_parts() -> list[tuple[object, str, Any]]:
    """What takes the place of threads and connections."""
    return [
        (membership, "GroupMember", SimulatedMember),
        (member, "PrivateGroup", SimulatedGroup),
        (StallWatch, "start", lambda _: None),
    ]
