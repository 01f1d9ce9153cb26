"""How long from the start of the process to the first output: with everything to be made, and later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.events import Event, Readings
from benchmarks.job import EXACTLY_ONCE, Job
from benchmarks.processes import Worker
from benchmarks.systems import System
from benchmarks.throughput import LANES, RunFailed
from benchmarks.topics import EmbeddedTopics, KafkaTopics

_TIME_LIMIT = 60.0
_INTERVAL = 0.003


@dataclass(frozen=True)
class Start:
    """Seconds until a committed output was seen."""

    system: str
    first: float
    """Topics and state are made."""
    later: float
    """Everything is there."""


async def measure(system: System, kafka: KafkaTopics, name: str) -> Start:
    """Start twice, with an event waiting each time."""
    input, output = f"{name}-in", f"{name}-out"
    first, second = list(Readings(2))
    with TemporaryDirectory(prefix="reflow-bench-") as folder:
        directory = Path(folder) / "data"
        bootstrap = "" if system.embedded else kafka.bootstrap
        job = Job("W2", EXACTLY_ONCE, bootstrap, LANES, input, output, name, str(directory))
        if not system.embedded:
            kafka.create(input, output, lanes=LANES)
        try:
            times = [await _start(system, job, kafka, [event]) for event in (first, second)]
        finally:
            if not system.embedded:
                kafka.delete(name)
    return Start(system.name, *times)


async def _start(system: System, job: Job, kafka: KafkaTopics, events: Iterable[Event]) -> float:
    directory = Path(job.directory)
    topics: EmbeddedTopics | KafkaTopics
    if system.embedded:
        topics = EmbeddedTopics(directory)
        await topics.publish(job.input, events, lanes=LANES)
        before = await topics.settled_end(job.output, LANES)
    else:
        topics = kafka
        topics.publish(job.input, events)
        before = await topics.end(job.output, LANES)
    with Worker([*system.command(), *job.arguments()], directory.parent / "worker.log") as worker:
        while perf_counter() - worker.started < _TIME_LIMIT:
            if await topics.end(job.output, LANES) > before:
                took = perf_counter() - worker.started
                if isinstance(topics, EmbeddedTopics):
                    await topics.close()
                return took
            if not worker.running:
                raise RunFailed(f"it ended by itself: {worker.last_words()}")
            await asyncio.sleep(_INTERVAL)
        raise RunFailed(f"no output within {_TIME_LIMIT:.0f} s: {worker.last_words()}")
