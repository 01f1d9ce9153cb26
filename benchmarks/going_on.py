"""Events that go on at a steady rate while something else happens in their lane."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.events import FIRST_TIMESTAMP
from benchmarks.workers.closing import SIZE

RATE = 1_000
"""Events a second."""
LIVE_KEYS = 1_000
WINDOW_START = FIRST_TIMESTAMP - FIRST_TIMESTAMP % (SIZE * 1000)
"""Of the windows that are open; epoch ms."""


@dataclass(frozen=True)
class Going:
    """How events went on for a while; milliseconds."""

    handled: float
    """The longest time between two that were handled."""
    cpu: float
    """The most CPU time that the lane's thread used between two that were handled."""
    seen: float
    """The longest time between two looks at which new outputs were there."""
    p50: float
    """From the time an event was due until its output was seen."""
    p99: float
    longest: float


class Live:
    """Events that go on: sent when they are due whatever comes back, and looked for."""

    def __init__(self, bootstrap: str, input: str, output: str) -> None:
        self._input = input
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
        self._consumer = AIOKafkaConsumer(
            output,
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        self._begun = 0.0
        self.sent = 0
        self.outputs: list[tuple[float, float, float, float]] = []
        """When each was due, handled, seen, and handled by CPU time."""
        self._ids: set[int] = set()
        self._passed = asyncio.Event()
        self._ended = asyncio.Event()
        self.first_passing = 0
        """The event with which the windows are over."""

    async def open(self) -> None:
        """Connect."""
        await asyncio.gather(self._producer.start(), self._consumer.start())

    async def close(self) -> None:
        """Hang up."""
        await asyncio.gather(self._producer.stop(), self._consumer.stop())

    async def probe(self) -> None:
        """Send an event behind those that are there, and wait for its output."""
        await self._producer.send(self._input, b'{"id":-1,"live":true}', b"probe", timestamp_ms=WINDOW_START)
        while not await self._consumer.getmany(timeout_ms=1000):
            pass

    def pass_windows(self) -> None:
        """From now on the events are behind the end of the windows."""
        self._passed.set()

    def end(self) -> None:
        """Send no more."""
        self._ended.set()

    def due(self, id: int) -> float:
        """When an event is to be sent, by `perf_counter`."""
        return self._begun + id / RATE

    async def run(self) -> None:
        """Send until `end`, and wait for all outputs."""
        self._begun = perf_counter()
        await asyncio.gather(self._send(), self._read())

    async def _send(self) -> None:
        while not self._ended.is_set():
            if (early := self.due(self.sent) - perf_counter()) > 0:
                await asyncio.sleep(early)
            if self._passed.is_set():
                self.first_passing = self.first_passing or self.sent
            timestamp = WINDOW_START + (SIZE * 1000 if self.first_passing else 0) + self.sent
            value = b'{"id":%d,"live":true}' % self.sent
            await self._producer.send(self._input, value, live_key(self.sent), timestamp_ms=timestamp)
            self.sent += 1

    async def _read(self) -> None:
        while not self._ended.is_set() or len(self._ids) < self.sent:
            got = await self._consumer.getmany(timeout_ms=100)
            now = perf_counter()
            for record in (record for records in got.values() for record in records):
                output = orjson.loads(record.value)
                self._ids.add(output["id"])
                self.outputs.append((self.due(output["id"]), output["handled"], now, output["cpu"]))

    def going(self, begin: float, end: float) -> Going:
        """How those due between two moments went on."""
        within = [output for output in self.outputs if begin <= output[0] < end]
        latencies = sorted(seen - due for due, _, seen, _ in within)
        p50, p99, longest = (
            latencies[min(int(len(latencies) * q), len(latencies) - 1)] for q in (0.5, 0.99, 1)
        )
        gaps = [longest_gap(sorted({output[which] for output in within})) for which in (1, 3, 2)]
        return Going(*(1000 * value for value in (*gaps, p50, p99, longest)))

    def fault(self) -> str:
        """What is wrong with all outputs, or nothing."""
        lost, doubled = self.sent - len(self._ids), len(self.outputs) - len(self._ids)
        return f"{lost:,} going-on events lost, {doubled:,} doubled" if lost or doubled else ""


def live_key(id: int) -> bytes:
    """The key of an event that goes on."""
    return b"live-%03d" % (id % LIVE_KEYS)


def longest_gap(times: Sequence[float]) -> float:
    """Between two that follow each other."""
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)
