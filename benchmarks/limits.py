"""What happens far beyond the usual: many lanes, partitions, stages, keys, and large events.

Each case is started three times: with everything to be made, again with all that is there, and once more
without the local state, which then is restored.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.job import EXACTLY_ONCE, Job
from benchmarks.names import Names
from benchmarks.numbers import Numbers, fault
from benchmarks.processes import growing
from benchmarks.report import machine, table, write
from benchmarks.throughput import RunFailed, Watch
from benchmarks.topics import KafkaTopics
from benchmarks.workers.growing import Shape
from reflow_kafka.devbroker import DevBroker

_MORE = 1_000
"""Events that wait for it at each further start."""


@dataclass(frozen=True)
class Case:
    """A flow and its events."""

    name: str
    about: str
    numbers: Numbers
    shape: Shape = field(default_factory=lambda: Shape(state=1))
    lanes: int = 8
    engines: int = 1


_ALL = (
    Case("lanes", "64 lanes in one engine, a count per key", Numbers(200_000), lanes=64),
    Case("partitions", "1,000 partitions in one engine, a count per key", Numbers(100_000), lanes=1_000),
    Case("engines", "1,000 partitions in two engines", Numbers(100_000), lanes=1_000, engines=2),
    Case("stages", "200 stages in a row, one lane", Numbers(2_000), Shape(hops=200), lanes=1),
    Case("size", "events of 900 kB in and out", Numbers(500, size=900_000), Shape(), lanes=1),
    Case(
        "huge", "events of 10 MB in, small ones out", Numbers(50, size=10_000_000), Shape(shrink=1), lanes=1
    ),
    Case("keys", "10,000,000 keys, a count per key", Numbers(10_000_000, keys=10_000_000, evenly=True)),
)
CASES = {case.name: case for case in _ALL}


@dataclass(frozen=True)
class Figures:
    """What came of a case."""

    name: str
    about: str
    events: int
    starts: tuple[float, ...]
    """Seconds from the start of the process to the first new output: fresh, again, without local state."""
    wall: float
    """Seconds from the first start until all outputs were there."""
    peak_memory: tuple[float, ...]
    """MB, of the largest process at each start."""
    local: float
    """MB of local state."""
    fault: str


async def measure(case: Case, kafka: KafkaTopics, name: str, limit: float) -> Figures:
    """Measure one.

    Raises:
        RunFailed: it came to no end.
    """
    more = min(_MORE, case.numbers.count)
    events = replace(case.numbers, count=case.numbers.count + 2 * more)
    left = iter(events)
    starts, memory, wall = [], [], 0.0
    with TemporaryDirectory(prefix="reflow-bench-") as folder:
        local = Path(folder, "data")
        job = Job(
            str(case.shape), EXACTLY_ONCE, kafka.bootstrap, case.lanes, f"{name}-in", f"{name}-out", name,
            str(local),
        )  # fmt: skip
        kafka.create(job.input, job.output, lanes=case.lanes, max_bytes=16_000_000)
        try:
            done = 0
            for batch in (case.numbers.count, more, more):
                kafka.publish(job.input, (next(left) for _ in range(batch)))
                if len(starts) == 2:
                    shutil.rmtree(local, ignore_errors=True)
                first, whole, peak = await _run(job, kafka, case.engines, done, batch, limit)
                starts.append(first)
                memory.append(peak)
                wall = wall or whole
                done = await kafka.end(job.output, case.lanes)
                size = _size(local)
            wrong = await fault(events, kafka, job.output, case.lanes)
        finally:
            kafka.delete(name)
    return Figures(case.name, case.about, case.numbers.count, tuple(starts), wall, tuple(memory), size, wrong)


async def _run(
    job: Job, kafka: KafkaTopics, engines: int, done: int, expected: int, limit: float
) -> tuple[float, float, float]:
    """Run until so many further outputs have come; seconds until the first and all of them; peak MB."""
    with ExitStack() as stack:
        crew = growing(stack, job, engines, Path(job.directory).parent)
        watch = Watch(crew, kafka, job, lambda: 0.0, time.monotonic() + limit)
        first = await watch.until(done + 1, quiet=0.0)
        last = await watch.until(done + expected)
        started = crew.workers[0].started
        return first.at - started, last.at - started, crew.peak_memory()


def _size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


@dataclass
class Report:
    """All that came out of one call."""

    machine: dict[str, Any] = field(default_factory=machine)
    figures: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write ``limits.json`` and ``limits.md``."""
        write(folder / "limits", asdict(self), self.markdown())

    def markdown(self) -> str:
        """The table."""
        lines = [f"- {name}: {value}" for name, value in self.machine.items()]
        lines += ["", *table(_COLUMNS, _rows(self.figures)), ""]
        return "\n".join([*lines, *(f"- **failed**: {failure}" for failure in self.failures)]) + "\n"


_COLUMNS = (
    "case", "events", "first output: fresh / again / restored, s", "all outputs, s", "peak MB", "local MB",
    "outputs",
)  # fmt: skip


def _rows(figures: Iterable[Figures]) -> Iterable[tuple[str, ...]]:
    for each in figures:
        yield (
            each.about,
            f"{each.events:,}",
            " / ".join(f"{seconds:.1f}" for seconds in each.starts),
            f"{each.wall:.1f}",
            " / ".join(f"{mb:.0f}" for mb in each.peak_memory),
            f"{each.local:.0f}",
            each.fault or "ok",
        )


@click.command()
@click.option("--cases", type=Names(*CASES), default="all", show_default=True)
@click.option("--scale", type=float, default=1.0, show_default=True, help="More or fewer events and keys.")
@click.option("--time-limit", type=float, default=600.0, show_default=True, help="Seconds per start.")
@click.option("--into", type=click.Path(path_type=Path), default="benchmarks/results", show_default=True,
              help="Folder for limits.json and limits.md.")  # fmt: skip
def main(cases: Sequence[str], scale: float, time_limit: float, into: Path) -> None:
    """Measure what is far beyond the usual, on a real Kafka of its own."""
    report, numbers = Report(), count(1)
    with DevBroker() as broker:
        kafka = KafkaTopics(broker.bootstrap)
        for case in (_scaled(CASES[name], scale) for name in cases):
            name = f"limits-{next(numbers)}-{int(time.time()) % 100_000}"
            try:
                figures = asyncio.run(measure(case, kafka, name, time_limit))
            except RunFailed as error:
                report.failures.append(f"{case.name}: {error}")
                click.echo(f"FAILED {case.name}: {error}")
            else:
                report.figures.append(figures)
                click.echo(f"{case.name}: {figures.wall:.1f} s, {figures.fault or 'ok'}")
            report.write(into)
    click.echo(f"\n{report.markdown()}\nAlso in {into}.")
    raise SystemExit(1 if report.failures or any(each.fault for each in report.figures) else 0)


def _scaled(case: Case, scale: float) -> Case:
    numbers = case.numbers
    keys = max(int(numbers.keys * scale), 10) if numbers.keys > 1_000 else numbers.keys
    return replace(case, numbers=replace(numbers, count=max(int(numbers.count * scale), 10), keys=keys))


if __name__ == "__main__":
    main()
