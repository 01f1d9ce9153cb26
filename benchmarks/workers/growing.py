"""A flow of any shape. Argument: a job whose workload is a `Shape` as text."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from benchmarks.job import Job
from reflow_kafka import Flow, State, run
from reflow_kafka.lane.pace import COMMIT_CPU, Pace

_INTERVAL = 0.1


@dataclass(frozen=True)
class Shape:
    """What the flow looks like."""

    hops: int = 1
    """Stages in a row, with a topic between each two of them."""
    state: int = 0
    """Whether the last one counts the events of each key."""
    flows: int = 1
    """So many of these flows in one process, all reading the same topic."""
    burn: int = 0
    """Iterations of an empty loop in the first stage."""
    shrink: int = 0
    """Whether the first stage leaves the padding out."""
    watch: int = 0
    """Whether commits are noted in ``commits.jsonl``."""

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in asdict(self).items())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reverse of `str`."""
        return cls(
            **{name: int(value) for name, _, value in (part.partition("=") for part in text.split(","))}
        )


def define(job: Job, shape: Shape, number: int) -> Flow:
    """One of the flows."""
    flow = Flow(f"{job.name}-{number}" if number else job.name, partitions=job.lanes)
    after: Any = flow.source("events", topic=job.input)
    for hop in range(1, shape.hops + 1):
        last = hop == shape.hops
        if last and shape.state:
            after = flow.stage(count, after=after, state=int, name=f"hop{hop}")
        else:
            after = flow.stage(_passing(shape if hop == 1 else Shape()), after=after, name=f"hop{hop}")
    flow.sink("out", after=after, topic=job.output)
    return flow


def count(total: State[int], event: dict[str, Any]) -> dict[str, Any]:
    """Which event of its key this is."""
    total.value += 1
    event["count"] = total.value
    return event


def _passing(shape: Shape) -> Callable[[dict[str, Any]], dict[str, Any]]:
    burn, shrinks = shape.burn, bool(shape.shrink)

    def passed_on(event: dict[str, Any]) -> dict[str, Any]:
        for _ in range(burn):
            pass
        if shrinks:
            event["pad"] = ""
        return event

    return passed_on


class CommitWatch:
    """Notes every so often how many commits there were and what CPU they cost, as the pace reckons it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._commits = 0
        self._cpu = 0.0

    def start(self) -> None:
        """Listen to all lanes of this process."""
        committed = Pace.committed

        def noting(pace: Pace, cpu: float) -> None:
            self._commits += 1
            self._cpu += cpu + COMMIT_CPU
            committed(pace, cpu)

        Pace.committed = noting  # type: ignore[method-assign]
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            while True:
                now = (time.perf_counter(), self._commits, self._cpu, time.process_time())
                file.write(orjson.dumps(now) + b"\n")
                time.sleep(_INTERVAL)


def main() -> None:
    """Run until told to stop."""
    job = Job.from_arguments()
    shape = Shape.parse(job.workload)
    if shape.watch:
        CommitWatch(Path(job.directory, "commits.jsonl")).start()
    flows = [define(job, shape, number) for number in range(shape.flows)]
    guarantee: Any = job.guarantee
    run(*flows, bootstrap=job.bootstrap, data_dir=job.directory, guarantee=guarantee)


if __name__ == "__main__":
    main()
