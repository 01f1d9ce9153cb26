"""How long an event takes from its due time, through a flow, to a reader of committed records."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.job import Job
from benchmarks.processes import Worker
from benchmarks.systems import System
from benchmarks.throughput import RunFailed
from benchmarks.topics import KafkaTopics

RATE = 1000
KEYS = 1000
WARM_UP = 2.0
_TIME_LIMIT = 60.0


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the time an event was due, late sending included."""

    system: str
    guarantee: str
    lanes: int
    hops: int
    p50: float
    p99: float
    longest: float
    events: int
    worker_cpu: float
    """Share of one core."""


async def measure(
    system: System, guarantee: str, lanes: int, hops: int, kafka: KafkaTopics, name: str, seconds: float
) -> Latency:
    """Send events on time whatever comes back, for so many seconds.

    Raises:
        RunFailed: not every event came out.
    """
    input, output = f"{name}-in", f"{name}-out"
    command = system.command()
    with TemporaryDirectory(prefix="reflow-bench-") as folder:
        job = Job(f"L{hops}", guarantee, kafka.bootstrap, lanes, input, output, name, folder)
        kafka.create(input, output, lanes=lanes)
        worker = Worker([*command, *job.arguments()], Path(folder) / "worker.log")
        try:
            with worker:
                client = Client(kafka.bootstrap, input, output)
                try:
                    async with asyncio.timeout(_TIME_LIMIT + seconds):
                        await client.open()
                        cpu, begun = worker.cpu(), perf_counter()
                        latencies = sorted(await client.run(seconds))
                        share = (worker.cpu() - cpu) / (perf_counter() - begun)
                except TimeoutError:
                    raise RunFailed(f"not every event came out: {worker.last_words()}") from None
                finally:
                    await client.close()
        finally:
            kafka.delete(name)
    count = len(latencies)
    p50, p99, longest = (latencies[min(int(count * q), count - 1)] * 1000 for q in (0.5, 0.99, 1))
    return Latency(system.name, guarantee, lanes, hops, p50, p99, longest, count, share)


class Client:
    """Sends to one topic and reads another."""

    def __init__(self, bootstrap: str, input: str, output: str) -> None:
        self._input = input
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        self._consumer = AIOKafkaConsumer(
            output,
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )

    async def open(self) -> None:
        """Connect, and wait until the worker answers."""
        await asyncio.gather(self._producer.start(), self._consumer.start())
        await self._send(-1)
        while not await self._consumer.getmany(timeout_ms=1000):
            pass

    async def run(self, seconds: float) -> list[float]:
        """The latencies of all events after the warm-up, in the order of arrival."""
        count = int(RATE * (WARM_UP + seconds))
        begun = perf_counter()
        _, latencies = await asyncio.gather(self._send_all(begun, count), self._read_all(begun, count))
        return latencies

    async def close(self) -> None:
        """Hang up."""
        await asyncio.gather(self._producer.stop(), self._consumer.stop())

    async def _send_all(self, begun: float, count: int) -> None:
        for number in range(count):
            if (early := begun + number / RATE - perf_counter()) > 0:
                await asyncio.sleep(early)
            await self._send(number)

    async def _send(self, number: int) -> None:
        key = b"k-%d" % (number % KEYS)
        await self._producer.send(self._input, orjson.dumps({"number": number}), key)

    async def _read_all(self, begun: float, count: int) -> list[float]:
        latencies: list[float] = []
        seen: set[int] = set()
        while len(seen) < count:
            got = await self._consumer.getmany(timeout_ms=1000)
            now = perf_counter()
            for record in (record for records in got.values() for record in records):
                number = orjson.loads(record.value)["number"]
                if number < 0 or number in seen:
                    continue
                seen.add(number)
                if number >= WARM_UP * RATE:
                    latencies.append(now - begun - number / RATE)
        return latencies
