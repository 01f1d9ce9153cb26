"""One run of a case: a worker as a user starts it, watched from outside."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.flight.cases import Case
from benchmarks.flight.outcome import Outcome, make_input
from benchmarks.oracle import Verdict
from benchmarks.processes import Worker, python
from benchmarks.throughput import RunFailed
from benchmarks.topics import KafkaTopics, KeyValue

_INTERVAL = 0.1  # between two looks
_QUIET = 2.0  # so long without a new output, and what should be there is counted


@dataclass(frozen=True)
class Flight:
    """The figures of one run; start-up and warm-up are left out."""

    case: str
    about: str
    events: int
    finished: int
    """How many came out, or became dead letters."""
    wall: float
    """Seconds from when the events could be seen until the last commit."""
    worker_cpu: float
    broker_cpu: float
    commits: tuple[float, float, float]
    """Milliseconds from one commit of a lane to its next: median, 99th percentile, longest."""
    memory: tuple[int, ...]
    """MB resident, all processes of the worker: at the beginning, each quarter, and at the end."""
    peak_memory: int
    load: float
    ok: bool
    check: str

    @property
    def rate(self) -> float:
        """Events per second by the clock."""
        return self.finished / self.wall


async def measure(
    case: Case, kafka: KafkaTopics, broker_cpu: Callable[[], float], name: str, limit: float
) -> Flight:
    """Measure once.

    Raises:
        RunFailed: it did not finish.
    """
    load = os.getloadavg()[0]
    warm_up = case.events // 10 if case.lasts is None else 0
    readings = make_input(case, warm_up + case.events)
    events = list(readings)
    input, output = f"{name}-in", f"{name}-out"
    kafka.create(input, output, lanes=case.lanes)
    with TemporaryDirectory(prefix="reflow-bench-") as folder:
        try:
            kafka.publish(input, events[:warm_up])
            with (
                kafka.hold_back(input, events[warm_up:]) as gate,
                Worker(
                    _command(kafka, folder, case), Path(folder, "worker.log"), _environment(case, name)
                ) as worker,
            ):
                watch = _Watch(case, kafka, worker, name, time.monotonic() + limit)
                await watch.ready()
                if warm_up:
                    await watch.until(Outcome(case, readings, warm_up))
                cpu, broker, began = worker.tree_cpu(), broker_cpu(), time.time()
                watch.memory.clear()
                gate.open()
                outcome = Outcome(case, readings, len(events))
                if case.lasts is None:
                    check, ok = await watch.until(outcome)
                else:
                    await watch.for_a_while(case.lasts)
                cpu, broker, ended = worker.tree_cpu() - cpu, broker_cpu() - broker, time.time()
            if case.lasts is not None:
                check, ok = watch.so_far(outcome)
            commits = kafka.times(f"{name}.progress", case.lanes)
        finally:
            kafka.delete(name)
    marks = [[at / 1000 for at in lane if began < at / 1000 <= ended] for lane in commits]
    if case.lasts is None:
        ended = max(lane[-1] for lane in marks if lane)
    return Flight(
        case=case.name,
        about=case.about,
        events=case.events,
        finished=watch.finished - (len(events) - case.events),
        wall=ended - began,
        worker_cpu=cpu,
        broker_cpu=broker,
        commits=_distribution([(b - a) * 1000 for lane in marks for a, b in pairwise(lane)]),
        memory=_quarters(watch.memory),
        peak_memory=max(watch.memory),
        load=load,
        ok=ok,
        check=check,
    )


def _command(kafka: KafkaTopics, folder: str, case: Case) -> list[str]:
    options = ["--bootstrap", kafka.bootstrap, "--data-dir", folder, "--engines", str(case.engines)]
    return [*python("reflow_kafka"), "worker", "benchmarks.flight.flow:flow", *options]


def _environment(case: Case, name: str) -> dict[str, str]:
    return {"FLIGHT_NAME": name, "FLIGHT_CASE": msgspec.json.encode(case).decode()}


def _distribution(intervals: Sequence[float]) -> tuple[float, float, float]:
    if len(intervals) < 2:
        return 0.0, 0.0, max(intervals, default=0.0)
    cuts = quantiles(intervals, n=100, method="inclusive")
    return cuts[49], cuts[98], max(intervals)


def _quarters(memory: Sequence[int]) -> tuple[int, ...]:
    return tuple(memory[min(len(memory) * quarter // 4, len(memory) - 1)] for quarter in range(5))


class _Watch:
    """Looks at a worker and at its output, again and again."""

    def __init__(self, case: Case, kafka: KafkaTopics, worker: Worker, name: str, deadline: float) -> None:
        self.memory: list[int] = []
        """MB at each look."""
        self.finished = 0
        self._case = case
        self._kafka = kafka
        self._worker = worker
        self._name = name
        self._deadline = deadline

    async def ready(self) -> None:
        """Return when every lane has been taken over."""
        while not self._kafka.exists(f"{self._name}.progress") or not all(
            self._kafka.times(f"{self._name}.progress", self._case.lanes)
        ):
            await self._pause("no lane runs")

    async def until(self, outcome: Outcome) -> tuple[str, bool]:
        """Return when everything that must come out has; how it compares, and whether it is right."""
        end, since = -1, time.monotonic()
        while True:
            await self._pause(f"{self.finished:,} finished")
            now = await self._kafka.end(f"{self._name}-out", self._case.lanes)
            now += await self._kafka.end(f"{self._name}.dead-letters", self._case.lanes)
            if now != end:
                end, since = now, time.monotonic()
            elif end >= outcome.expected + outcome.dead and time.monotonic() - since > _QUIET:
                check, ok, missing = self._judge(outcome)
                if not missing:
                    return check, ok
                since = time.monotonic()

    async def for_a_while(self, seconds: float) -> None:
        """Let it run for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self._pause("stopped")

    def so_far(self, outcome: Outcome) -> tuple[str, bool]:
        """How what came out compares, although it need not be all."""
        verdict, letters = self._found(outcome)
        right = not (verdict.duplicated or verdict.wrong or verdict.disordered or letters)
        return f"{verdict.right:,} outputs, {'right so far' if right else verdict}", right

    def _judge(self, outcome: Outcome) -> tuple[str, bool, int]:
        """How it compares, whether it is right, and how much is missing."""
        verdict, letters = self._found(outcome)
        if missing := max(verdict.missing, 0) + max(outcome.dead - len(letters), 0):
            return str(verdict), False, missing
        dead = outcome.dead_ids(letters)
        return f"{verdict}, {len(letters):,} dead letters{'' if dead else ' (wrong)'}", verdict.ok and dead, 0

    def _found(self, outcome: Outcome) -> tuple[Verdict, list[KeyValue]]:
        lanes = self._case.lanes
        verdict = outcome.judge(self._kafka.records(f"{self._name}-out", lanes))
        letters = list(self._kafka.records(f"{self._name}.dead-letters", lanes))
        self.finished = verdict.right + len(letters)
        return verdict, letters

    async def _pause(self, known: str) -> None:
        if not self._worker.running:
            raise RunFailed(f"it ended by itself: {self._worker.last_words()}")
        if time.monotonic() > self._deadline:
            raise RunFailed(f"no end in time, {known}: {self._worker.last_words()}")
        self.memory.append(self._worker.tree_memory() // 2**20)
        await asyncio.sleep(_INTERVAL)
