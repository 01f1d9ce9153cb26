"""Whether windows that close all at once hold up their lane: ``python -m benchmarks.closing_kafka --help``.

One lane. Each key has an event, and so an open window; other keys go on at a steady rate. Then their
timestamps pass the end of all windows. For some seconds before that, and from then until all windows have
been told of, it is measured for how long none of the going-on events was *handled*, and for how long a reader
of committed records saw no output of theirs. The first is measured in CPU time of the thread, too: what
the lane itself did meanwhile, however many programs want the processor. Afterwards each window must have been
told of once, with what it held.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import click
import orjson
import uvloop

from benchmarks.events import Event
from benchmarks.going_on import LIVE_KEYS, WINDOW_START, Going, Live, live_key
from benchmarks.job import AT_LEAST_ONCE, EXACTLY_ONCE, Job
from benchmarks.processes import Worker, python
from benchmarks.report import machine, table, write
from benchmarks.throughput import RunFailed
from benchmarks.topics import KafkaTopics
from reflow_kafka.devbroker import DevBroker

STEADY = 5.0
"""Seconds for which they do before the windows close."""
_SETTLE = 1.0  # seconds at their beginning that do not count
_QUIET = 1.0
_LOOK = 0.02
_TIME_LIMIT = 600.0


@dataclass(frozen=True)
class Closing:
    """What came of closing so many windows at once."""

    windows: int
    guarantee: str
    before: Going
    meanwhile: Going
    took: float
    """Seconds from the event that closes them until all were told of."""
    cpu: float
    """CPU seconds of the worker in that time."""
    open_memory: float
    """MB resident at most until then."""
    peak_memory: float
    load: float
    """Average load of the last minute, on this machine."""
    fault: str


def opening(windows: int) -> Iterator[Event]:
    """An event for each window."""
    for n in range(windows):
        yield Event(b"w-%07d" % n, b'{"id":-1,"live":false}', WINDOW_START)


def wrong(results: Iterator[tuple[bytes | None, bytes]], windows: int, live: int) -> str:
    """What is wrong with what was told of the windows, or nothing.

    Args:
        results: keys and values.
        windows: of which each held one event.
        live: how many events went on before the windows were over.
    """
    held = Counter({b"w-%07d" % n: 1 for n in range(windows)})
    held.update(live_key(id) for id in range(live))
    held[b"probe"] = 1
    expected, odd = len(held), 0
    told = 0
    for key, value in results:
        told += 1
        result = orjson.loads(value)
        key = key or b""
        odd += result != {"key": key.decode(), "start": WINDOW_START, "count": held.pop(key, None)}
    if not held and not odd:
        return ""
    return f"{len(held):,} of {expected:,} windows not told of, {odd:,} of {told:,} results doubled or wrong"


async def measure(
    kafka: KafkaTopics, name: str, windows: int, guarantee: str, steady: float = STEADY
) -> Closing:
    """Close so many windows once, after so many seconds.

    Raises:
        RunFailed: not all came out in time.
    """
    input, output = f"{name}-in", f"{name}-out"
    closed = f"{output}-closed"
    with TemporaryDirectory(prefix="reflow-bench-") as folder:
        job = Job("closing", guarantee, kafka.bootstrap, 1, input, output, name, folder)
        kafka.create(input, output, closed, lanes=1)
        kafka.publish(input, opening(windows))
        command = python("benchmarks.workers.closing", *job.arguments())
        live = Live(kafka.bootstrap, input, output)
        try:
            with Worker(command, Path(folder, "worker.log")) as worker:
                await live.open()
                try:
                    async with asyncio.timeout(_TIME_LIMIT):
                        return await _closed(kafka, live, worker, closed, windows, guarantee, steady)
                except TimeoutError as error:
                    raise RunFailed(f"in vain: {error or 'the end'}; {worker.last_words()}") from error
                finally:
                    await live.close()
        finally:
            kafka.delete(name)


async def _closed(
    kafka: KafkaTopics,
    live: Live,
    worker: Worker,
    closed: str,
    windows: int,
    guarantee: str,
    steady: float,
) -> Closing:
    await live.probe()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(live.run())
        await asyncio.sleep(_SETTLE + steady)
        open_memory, used = worker.peak_memory(), worker.cpu()
        live.pass_windows()
        done = await _until_quiet(lambda: kafka.end(closed, 1), windows + LIVE_KEYS + 1)
        used, load = worker.cpu() - used, os.getloadavg()[0]
        live.end()
    passed = live.due(live.first_passing)
    results = kafka.records(closed, 1)
    fault = live.fault() or await asyncio.to_thread(wrong, results, windows, live.first_passing)
    return Closing(
        windows,
        guarantee,
        live.going(passed - steady, passed),
        live.going(passed, done),
        done - passed,
        used,
        open_memory,
        worker.peak_memory(),
        load,
        fault,
    )


async def _until_quiet(end: Callable[[], Any], expected: int) -> float:
    """When the last was written: as much as is expected is there, and nothing more comes."""
    before, since = -1, perf_counter()
    while before < expected or perf_counter() - since < _QUIET:
        await asyncio.sleep(_LOOK)
        if (now := await end()) != before:
            before, since = now, perf_counter()
    return since


COLUMNS = (
    "windows", "guarantee", "", "longest without one handled, ms", "of that CPU, ms",
    "longest without an output seen, ms",
    "latency p50, ms", "p99, ms", "max, ms", "s until all were told of", "windows / s", "worker CPU-s",
    "peak MB", "load", "outputs",
)  # fmt: skip


def rows(figure: Closing) -> Iterator[list[str]]:
    """Two lines of the table."""
    for when, going in (("before", figure.before), ("meanwhile", figure.meanwhile)):
        times = (going.handled, going.cpu, going.seen, going.p50, going.p99, going.longest)
        line = [f"{figure.windows:,}", figure.guarantee, when, *(f"{value:.0f}" for value in times)]
        if going is figure.before:
            yield [*line, "", "", "", f"{figure.open_memory:.0f}", "", ""]
        else:
            yield [
                *line,
                f"{figure.took:.1f}",
                f"{figure.windows / figure.took:,.0f}",
                f"{figure.cpu:.1f}",
                f"{figure.peak_memory:.0f}",
                f"{figure.load:.0f}",
                figure.fault or "ok",
            ]


def markdown(about: dict[str, Any], figures: list[Closing]) -> str:
    """What is known so far."""
    lines = [f"- {fact}: {value}" for fact, value in about.items()]
    return "\n".join([*lines, "", *table(COLUMNS, (row for f in figures for row in rows(f)))]) + "\n"


async def run(windows: int, guarantee: str, rounds: int, into: Path) -> bool:
    """Measure all; whether all outputs were right."""
    figures: list[Closing] = []
    about = machine()
    with DevBroker() as broker:
        kafka = KafkaTopics(broker.bootstrap)
        await measure(kafka, f"closing-warm-up-{int(time.time()) % 100_000}", 10_000, EXACTLY_ONCE)
        for turn in range(rounds):
            name = f"closing-{turn}-{int(time.time()) % 100_000}"
            figures.append(await measure(kafka, name, windows, guarantee))
            for row in rows(figures[-1]):
                click.echo(" | ".join(row), err=True)
            content = {"machine": about, "figures": [asdict(figure) for figure in figures]}
            write(into / "closing-kafka", content, markdown(about, figures))
    click.echo(f"{markdown(about, figures)}\nAlso in {into}.")
    return not any(figure.fault for figure in figures)


@click.command()
@click.option("--windows", type=click.IntRange(1_000), default=1_000_000, show_default=True)
@click.option("--guarantee", type=click.Choice([EXACTLY_ONCE, AT_LEAST_ONCE]), default=EXACTLY_ONCE,
              show_default=True)  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--into", type=click.Path(path_type=Path), default="benchmarks/results", show_default=True,
              help="Folder for closing-kafka.json and closing-kafka.md.")  # fmt: skip
def main(windows: int, guarantee: str, rounds: int, into: Path) -> None:
    """Close many windows of one lane at once, on a real Kafka of its own, while other events go on."""
    raise SystemExit(0 if uvloop.run(run(windows, guarantee, rounds, into)) else 1)


if __name__ == "__main__":
    main()
