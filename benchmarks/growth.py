"""How cost grows with lanes, size, keys, hops, flows and backlog: ``python -m benchmarks.growth --help``."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from benchmarks.growth_report import Growth, GrowthReport
from benchmarks.job import EXACTLY_ONCE, Job
from benchmarks.names import Names
from benchmarks.numbers import Numbers, fault
from benchmarks.processes import Crew, cpu_seconds, growing
from benchmarks.throughput import RunFailed, Sample, Watch
from benchmarks.topics import KafkaTopics
from benchmarks.workers.growing import Shape
from reflow_kafka.devbroker import DevBroker

_TIME_LIMIT = 300.0
_SETTLE = 3.0
IDLE_SECONDS = 20.0


@dataclass(frozen=True)
class Point:
    """One measurement to be made."""

    group: str
    value: int
    numbers: Numbers
    shape: Shape = field(default_factory=lambda: Shape(state=1))
    lanes: int = 8
    engines: int = 1


def points(scale: float) -> Iterator[Point]:
    """All of them; `scale`: more or fewer events."""

    def some(thousands: float, **options: int) -> Numbers:
        return Numbers(max(int(thousands * 1000 * scale), 2000), **options)

    for lanes in (1, 2, 4, 8, 16, 32, 64):
        yield Point("lanes", lanes, some(400), lanes=lanes)
    for size, thousands in ((100, 400), (1_000, 200), (10_000, 30), (100_000, 4)):
        yield Point("size", size, some(thousands, size=size), Shape())
    for keys in (1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        yield Point("keys", keys, some(600, keys=keys))
    for hops in (1, 2, 4, 8):
        yield Point("hops", hops, some(200), Shape(hops=hops))
    for flows in (1, 2, 4, 8, 16):
        yield Point("flows", flows, some(400 / flows), Shape(state=1, flows=flows), lanes=4)
    for thousands in (100, 1_000, 4_000):
        numbers = some(thousands)
        yield Point("backlog", numbers.count, numbers)
    for engines in (1, 2):
        yield Point("engines", engines, some(200), Shape(burn=4_000), engines=engines)
    for lanes in (1, 8, 24, 64):
        yield Point("idle", lanes, Numbers(lanes * 20), Shape(hops=2, state=1), lanes=lanes)


GROUPS = tuple(dict.fromkeys(point.group for point in points(1)))


@dataclass(frozen=True)
class Meter:
    """Where points are measured."""

    kafka: KafkaTopics
    broker_cpu: Callable[[], float]

    async def measure(self, point: Point, name: str) -> Growth:
        """Measure one point.

        Raises:
            RunFailed: it came to no end.
        """
        with TemporaryDirectory(prefix="reflow-bench-") as folder:
            input, output = f"{name}-in", f"{name}-out"
            job = Job(
                str(point.shape), EXACTLY_ONCE, self.kafka.bootstrap, point.lanes, input, output, name, folder
            )
            self.kafka.create(input, output, lanes=point.lanes)
            try:
                async with asyncio.timeout(_TIME_LIMIT):
                    return await (self._idle if point.group == "idle" else self._busy)(point, job)
            except TimeoutError:
                raise RunFailed(f"no end within {_TIME_LIMIT:.0f} s") from None
            finally:
                self.kafka.delete(name)

    async def _busy(self, point: Point, job: Job) -> Growth:
        load = os.getloadavg()[0]
        numbers, flows = point.numbers, point.shape.flows
        warm_up = min(numbers.count // 10, 20_000)
        events = iter(numbers)
        self.kafka.publish(job.input, (next(events) for _ in range(warm_up)))
        with self.kafka.hold_back(job.input, events) as gate, ExitStack() as stack:
            crew, watch = self._watched(stack, point, job)
            await watch.until(warm_up * flows)
            if point.engines > 1:
                await asyncio.sleep(_SETTLE)  # until lanes have been shared out
            begin = await watch.look()
            gate.open()
            end = await watch.until(numbers.count * flows)
            found = await fault(numbers, self.kafka, job.output, job.lanes, times=flows)
            return _growth(point, (numbers.count - warm_up) * flows, begin, end, crew, load, found)

    async def _idle(self, point: Point, job: Job) -> Growth:
        load = os.getloadavg()[0]
        self.kafka.publish(job.input, point.numbers)
        with ExitStack() as stack:
            crew, watch = self._watched(stack, point, job)
            await watch.until(point.numbers.count)
            await asyncio.sleep(_SETTLE)
            begin = await watch.look()
            await asyncio.sleep(IDLE_SECONDS)
            end = await watch.look()
            return _growth(point, 0, begin, end, crew, load, "")

    def _watched(self, stack: ExitStack, point: Point, job: Job) -> tuple[Crew, Watch]:
        crew = growing(stack, job, point.engines, Path(job.directory))
        return crew, Watch(crew, self.kafka, job, self.broker_cpu, time.monotonic() + _TIME_LIMIT)


def _growth(
    point: Point, events: int, begin: Sample, end: Sample, crew: Crew, load: float, found: str
) -> Growth:
    return Growth(
        group=point.group,
        value=point.value,
        events=events,
        wall=end.at - begin.at,
        worker_cpu=end.worker - begin.worker,
        broker_cpu=end.broker - begin.broker,
        peak_memory=crew.peak_memory(),
        load=load,
        fault=found,
    )


async def run(
    groups: Sequence[str], scale: float, rounds: int, into: Path, plots: Path | None
) -> GrowthReport:
    """Measure; what is known so far is written after each step."""
    report = GrowthReport({"scale": scale, "rounds": rounds})
    numbers = count(1)
    with DevBroker() as broker:
        meter = Meter(KafkaTopics(broker.bootstrap), partial(cpu_seconds, broker.pid))
        warm = Point(
            "warm-up", 0, Numbers(100_000)
        )  # a broker that has just been started is slow for a while
        await meter.measure(warm, f"warm-up-{int(time.time()) % 100_000}")
        for turn in range(1, rounds + 1):
            for point in (point for point in points(scale) if point.group in groups):
                title = f"round {turn}, {point.group} {point.value:,}"
                try:
                    growth = await meter.measure(
                        point, f"growth-{next(numbers)}-{int(time.time()) % 100_000}"
                    )
                except RunFailed as error:
                    report.failures.append(f"{title}: {error}")
                    click.echo(f"FAILED {title}: {error}")
                    continue
                report.figures.append(growth)
                report.write(into, plots)
                click.echo(f"{title}: {growth.cost:.2f} µs per event, {growth.wall:.1f} s {growth.fault}")
    return report


@click.command()
@click.option("--groups", type=Names(*GROUPS), default="all", show_default=True)
@click.option("--scale", type=float, default=1.0, show_default=True, help="More or fewer events.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--into", type=click.Path(path_type=Path), default="benchmarks/results", show_default=True,
              help="Folder for growth.json and growth.md.")  # fmt: skip
@click.option("--plots", type=click.Path(path_type=Path), help="Folder for growth.svg.")
def main(groups: list[str], scale: float, rounds: int, into: Path, plots: Path | None) -> None:
    """Measure how cost grows, on a real Kafka of its own."""
    report = uvloop.run(run(groups, scale, rounds, into, plots))
    click.echo(f"\n{report.markdown()}\nAlso in {into}.")
    raise SystemExit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
