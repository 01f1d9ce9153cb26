"""One run: a program works off a topic that is full already, and is watched from outside."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.events import Event, Readings
from benchmarks.job import Job
from benchmarks.oracle import Verdict, oracle_of
from benchmarks.processes import Crew, Worker
from benchmarks.systems import System
from benchmarks.topics import EmbeddedTopics, KafkaTopics, Topics

LANES = 8
_INTERVAL = 0.05  # between two looks
_QUIET = 1.0  # so long without a new output, and what should be there is counted


class RunFailed(Exception):
    """A run came to no end, and what is known of it."""


@dataclass(frozen=True)
class Input:
    """Readings, of which the first so many warm a program up."""

    readings: Readings
    warm_up: int

    @cached_property
    def events(self) -> list[Event]:
        """All of them, as they stand in the topic."""
        return list(self.readings)


@dataclass(frozen=True)
class Sample:
    """What a look from outside shows: CPU seconds so far, and how far the output has been written."""

    at: float
    worker: float
    broker: float
    end: int


@dataclass(frozen=True)
class Run:
    """The figures of one run; `wall` and what follows it leave start-up and warm-up out."""

    system: str
    workload: str
    guarantee: str
    events: int
    wall: float
    worker_cpu: float
    broker_cpu: float
    whole_events: int
    whole_worker_cpu: float
    """Since the process was started."""
    peak_memory: float
    """MB."""
    load: float
    """How many programs wanted a processor when it began, on average over a minute."""
    ok: bool
    check: str

    @property
    def rate(self) -> float:
        """Events per CPU second of the worker."""
        return self.events / max(self.worker_cpu, 0.01)  # the clock's resolution


@dataclass(frozen=True)
class Bench:
    """Where runs take place."""

    kafka: KafkaTopics
    broker_cpu: Callable[[], float]
    time_limit: float

    async def run(self, system: System, workload: str, guarantee: str, input: Input, name: str) -> Run:
        """Measure once.

        Raises:
            Unavailable: the system cannot be run here.
            RunFailed: it did not finish.
        """
        measure = self._on_embedded_log if system.embedded else self._on_kafka
        with TemporaryDirectory(prefix="reflow-bench-") as folder:
            bootstrap = "" if system.embedded else self.kafka.bootstrap
            job = Job(workload, guarantee, bootstrap, LANES, f"{name}-in", f"{name}-out", name, folder)
            try:
                async with asyncio.timeout(2 * self.time_limit):  # filling and checking included
                    return await measure(system, job, input)
            except TimeoutError as error:
                raise RunFailed(f"no end within {2 * self.time_limit:.0f} s: {error}") from None

    async def _on_kafka(self, system: System, job: Job, input: Input) -> Run:
        """All events are in the topic before the worker starts; those that count are in an open transaction.

        It is committed when the warm-up is done and the worker has nothing to do: what is measured has a
        clear beginning and a clear end.
        """
        load = os.getloadavg()[0]
        self.kafka.create(job.input, job.output, lanes=LANES)
        try:
            self.kafka.publish(job.input, input.events[: input.warm_up])
            with (
                self.kafka.hold_back(job.input, input.events[input.warm_up :]) as gate,
                Worker([*system.command(), *job.arguments()], Path(job.directory, "worker.log")) as worker,
            ):
                watch = Watch(worker, self.kafka, job, self.broker_cpu, time.monotonic() + self.time_limit)
                expected = oracle_of(job.workload, input.readings).expected
                if system.committed:
                    await watch.until(oracle_of(job.workload, input.readings, input.warm_up).expected)
                    begin = await watch.look()
                    if begin.end >= expected:
                        raise RunFailed("it read what was held back: its figures would mean nothing")
                    gate.open()
                else:
                    gate.open()
                    begin = Sample(worker.started, 0, self.broker_cpu(), 0)
                while True:
                    end = await watch.until(expected)
                    verdict = await check(job, self.kafka, input.readings)
                    # Transaction markers count in offsets: what looked complete may not have been.
                    if not verdict.missing or watch.late:
                        break
                return _figures(system, job, input, begin, end, worker.peak_memory(), load, verdict)
        finally:
            self.kafka.delete(job.name)

    async def _on_embedded_log(self, system: System, job: Job, input: Input) -> Run:
        """Two runs, as only the worker could write further events: the difference is what counts."""
        load = os.getloadavg()[0]
        ends: list[Sample] = []
        peak, verdict = 0.0, Verdict(0)
        for count in (input.warm_up, len(input.events)):
            topics = EmbeddedTopics(Path(job.directory, str(count)))
            await topics.publish(job.input, input.events[:count], lanes=LANES)
            part = Job(
                job.workload, job.guarantee, "", LANES, job.input, job.output, job.name, str(topics.directory)
            )
            oracle = oracle_of(job.workload, input.readings, count)
            with Worker([*system.command(), *part.arguments()], Path(job.directory, "worker.log")) as worker:
                watch = Watch(worker, topics, part, self.broker_cpu, time.monotonic() + self.time_limit)
                end = await watch.until(oracle.expected)
                ends.append(Sample(end.at - worker.started, end.worker, 0, end.end))
                peak = worker.peak_memory()
                await topics.close()
            verdict = await check(part, topics, input.readings, count)
        begin, done = ends
        return _figures(system, job, input, begin, done, peak, load, verdict)


class Watch:
    """Looks at a worker and at its output."""

    def __init__(
        self,
        worker: Worker | Crew,
        topics: Topics,
        job: Job,
        broker_cpu: Callable[[], float],
        deadline: float,
    ) -> None:
        self._worker = worker
        self._topics = topics
        self._output = job.output
        self._lanes = job.lanes
        self._broker_cpu = broker_cpu
        self._deadline = deadline

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._deadline

    async def look(self) -> Sample:
        """How it stands."""
        if not self._worker.running:
            raise RunFailed(f"it ended by itself: {self._worker.last_words()}")
        end = await self._topics.end(self._output, self._lanes)
        return Sample(time.perf_counter(), self._worker.cpu(), self._broker_cpu(), end)

    async def until(self, expected: int, *, quiet: float | None = None) -> Sample:
        """The first look at which as much as expected was there and nothing more came for `quiet` seconds."""
        if quiet is None:
            quiet = max(_QUIET, self._lanes / 100)  # many lanes commit seldom
        done = await self.look()
        pause = _INTERVAL
        while done.end < expected or time.perf_counter() - done.at < quiet:
            if self.late:
                raise RunFailed(f"{done.end:,} of {expected:,} outputs in time: {self._worker.last_words()}")
            await asyncio.sleep(pause)
            began = time.perf_counter()
            if (now := await self.look()).end != done.end:
                done = now
            # With a thousand lanes a look takes so long that looking on would be what is measured.
            pause = max(_INTERVAL, 10 * (time.perf_counter() - began))
        return done


async def check(job: Job, topics: Topics, readings: Readings, count: int | None = None) -> Verdict:
    """Compare all outputs with what they must be."""
    oracle = oracle_of(job.workload, readings, count)
    async for key, value in topics.read(job.output, LANES):
        oracle.take(key, value)
    return oracle.verdict()


def _figures(
    system: System,
    job: Job,
    input: Input,
    begin: Sample,
    end: Sample,
    peak_memory: float,
    load: float,
    verdict: Verdict,
) -> Run:
    return Run(
        system=system.name,
        workload=job.workload,
        guarantee=job.guarantee,
        events=len(input.events) - (input.warm_up if system.committed else 0),
        wall=end.at - begin.at,
        worker_cpu=end.worker - begin.worker,
        broker_cpu=end.broker - begin.broker,
        whole_events=len(input.events),
        whole_worker_cpu=end.worker,
        peak_memory=peak_memory,
        load=load,
        ok=verdict.ok,
        check=str(verdict),
    )
