"""For how long a lane stands still when its engine dies: ``python -m benchmarks.failover --help``.

One lane, two engines. Every key has an event, so that each has state; then events go on at a steady rate, and
the owner is killed with SIGKILL. The *failure is noticed* when the broker takes the dead member out of the
group, as another client sees it; the lane works again when a reader of committed records sees an output that
was written after that. Afterwards all outputs must be there once, with the right counts.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import orjson
import uvloop
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from benchmarks.events import FIRST_TIMESTAMP, Event
from benchmarks.job import EXACTLY_ONCE, Job
from benchmarks.processes import Worker, python
from benchmarks.report import machine, table, write
from benchmarks.throughput import RunFailed
from benchmarks.topics import KafkaTopics
from reflow_kafka.devbroker import DevBroker

_TIME_LIMIT = 300.0
_LOOK = 0.005
_RATE = 1_000  # events a second while the owner dies
_STEADY = 3.0  # seconds of that before
_RUNNING = re.compile(r"running \(taken over in ([\d.]+) s, (\d+) changelog records read")


@dataclass(frozen=True)
class FailOver:
    """What came of killing an owner."""

    standbys: int
    keys: int
    noticed: float
    """Seconds from the kill until the broker took the member out."""
    idle: float
    """Seconds from then until a new output was committed."""
    take_over: float
    """Seconds of these that the take-over of the lane took, as the engine says."""
    cpu: float
    """CPU seconds of the engine from the notice to the output."""
    restored: int
    """Changelog records that it read."""
    load: float
    """Average load of the last minute, on this machine."""
    fault: str

    @property
    def rate(self) -> float:
        """Records restored per second, with everything else that a take-over does."""
        return self.restored / self.take_over


def events(first: int, end: int, keys: int) -> Iterator[Event]:
    """Each key in turn."""
    for id in range(first, end):
        yield Event(b"k-%07d" % (id % keys), b'{"id":%d}' % id, FIRST_TIMESTAMP + id)


class Stream:
    """Events at a steady rate, from a thread."""

    def __init__(self, kafka: KafkaTopics, topic: str, keys: int) -> None:
        self._kafka, self._topic, self._keys = kafka, topic, keys
        self.next = keys
        """Number of the event that comes next."""

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Write until left."""
        stop = threading.Event()
        thread = threading.Thread(target=self._write, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _write(self, stop: threading.Event) -> None:
        begun, first = time.perf_counter(), self.next
        while not stop.wait(0.05):
            due = first + int((time.perf_counter() - begun) * _RATE)
            self._kafka.publish(self._topic, events(self.next, due, self._keys))
            self.next = due


async def until(condition: Callable[[], Any], what: str, worker: Worker) -> float:
    """Wait; returns when it was so."""
    deadline = time.perf_counter() + _TIME_LIMIT
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return time.perf_counter()
        if time.perf_counter() > deadline or not worker.running:
            raise RunFailed(f"in vain: {what}; {worker.last_words()}")
        await asyncio.sleep(_LOOK)


async def measure(kafka: KafkaTopics, name: str, keys: int, standbys: int) -> FailOver:
    """Kill an owner once."""
    input, output = f"{name}-in", f"{name}-out"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 2})
    with TemporaryDirectory(prefix="reflow-bench-") as folder:
        logs = [Path(folder, f"{which}.log") for which in ("owner", "other")]

        def worker(which: int) -> Worker:
            data = str(Path(folder, str(which)))
            job = Job("keep", EXACTLY_ONCE, kafka.bootstrap, 1, input, output, name, data)
            return Worker(python("benchmarks.workers.keeping", str(standbys), *job.arguments()), logs[which])

        async def written(count: int) -> bool:
            return await kafka.end(output, 1) >= count

        kafka.create(input, output, lanes=1)
        try:
            kafka.publish(input, events(0, keys, keys))
            stream = Stream(kafka, input, keys)
            with worker(0) as owner:
                await until(lambda: written(keys), "all keys have state", owner)
                with worker(1) as other:
                    await until(lambda: members(admin, name) == 2, "both are members", other)
                    if standbys:
                        await until(lambda: "standing by" in logs[1].read_text(), "it is copied", other)
                    with stream.flowing():
                        await asyncio.sleep(_STEADY)
                        killed = time.perf_counter()
                        owner.kill()
                        noticed = await until(lambda: members(admin, name) != 2, "it is noticed", other)
                        before, used = await kafka.end(output, 1), other.cpu()
                        working = await until(lambda: written(before + 1), "the lane works again", other)
                        used, load = other.cpu() - used, os.getloadavg()[0]
                    found = await until_right(kafka, output, stream.next, keys, other)
            (took, records), *_ = reversed(_RUNNING.findall(logs[1].read_text()))
        finally:
            kafka.delete(name)
    return FailOver(
        standbys, keys, noticed - killed, working - noticed, float(took), used, int(records), load, found
    )


def members(admin: AdminClient, group: str) -> int:
    """How many a settled group has; -1 while it is about to come together anew."""
    (future,) = admin.describe_consumer_groups([group]).values()
    found = future.result(10)
    return len(found.members) if found.state == ConsumerGroupState.STABLE else -1


async def until_right(kafka: KafkaTopics, output: str, count: int, keys: int, worker: Worker) -> str:
    """Wait for the last output; what is wrong with all of them, or nothing."""
    seen = bytearray(count)
    wrong = 0

    async def complete() -> bool:
        """Offsets are of markers, too: it has come far enough, and no further since."""
        before = await kafka.end(output, 1)
        await asyncio.sleep(_STEADY)
        return before >= count and await kafka.end(output, 1) == before

    await until(complete, "all outputs", worker)
    for _, value in kafka.records(output, 1):
        event = orjson.loads(value)
        seen[event["id"]] += 1
        wrong += event["count"] != event["id"] // keys + 1
    unlike = count - seen.count(1)
    return f"{unlike:,} lost or doubled, {wrong:,} wrong" if unlike or wrong else ""


COLUMNS = (
    "standbys", "keys", "s until noticed", "s from then to the first commit", "s of take-over",
    "CPU-s", "records restored", "records / s", "records / CPU-s", "load", "outputs",
)  # fmt: skip


def row(figure: FailOver) -> list[str]:
    """One line of the table."""
    full = figure.restored >= figure.keys
    return [
        str(figure.standbys),
        f"{figure.keys:,}",
        f"{figure.noticed:.1f}",
        f"**{figure.idle:.2f}**",
        f"{figure.take_over:.2f}",
        f"{figure.cpu:.2f}",
        f"{figure.restored:,}",
        *((f"**{figure.rate:,.0f}**", f"{figure.restored / figure.cpu:,.0f}") if full else ("", "")),
        f"{figure.load:.0f}",
        figure.fault or "ok",
    ]


def markdown(about: dict[str, Any], figures: list[FailOver]) -> str:
    """What is known so far."""
    lines = [f"- {fact}: {value}" for fact, value in about.items()]
    lines += ["", *table(COLUMNS, map(row, figures))]
    for standbys in (1, 0):
        if idle := [figure.idle for figure in figures if figure.standbys == standbys]:
            lines += [
                "",
                f"Median with {standbys} standbys: {median(idle):.2f} s from notice to the first commit.",
            ]
    return "\n".join(lines) + "\n"


async def run(keys: int, rounds: int, into: Path) -> bool:
    """Measure all; whether all outputs were right."""
    figures: list[FailOver] = []
    about = machine()
    with DevBroker() as broker:
        kafka = KafkaTopics(broker.bootstrap)
        await measure(kafka, f"failover-warm-up-{int(time.time()) % 100_000}", 20_000, 1)
        for turn in range(rounds):
            for standbys in (1, 0):
                name = f"failover-{turn}-{standbys}-{int(time.time()) % 100_000}"
                figures.append(await measure(kafka, name, keys, standbys))
                click.echo(" | ".join(row(figures[-1])), err=True)
                content = {"machine": about, "figures": [asdict(figure) for figure in figures]}
                write(into / "failover", content, markdown(about, figures))
    click.echo(f"{markdown(about, figures)}\nAlso in {into}.")
    return not any(figure.fault for figure in figures)


@click.command()
@click.option("--keys", type=click.IntRange(1_000), default=1_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--into", type=click.Path(path_type=Path), default="benchmarks/results", show_default=True,
              help="Folder for failover.json and failover.md.")  # fmt: skip
def main(keys: int, rounds: int, into: Path) -> None:
    """Measure fail-over of a lane with a standby and without, on a real Kafka of its own."""
    raise SystemExit(0 if uvloop.run(run(keys, rounds, into)) else 1)


if __name__ == "__main__":
    main()
