"""Latency and commits against load, and a burst: ``python -m benchmarks.load --help``."""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import orjson
import uvloop
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.job import EXACTLY_ONCE, Job
from benchmarks.load_report import Burst, Commits, LoadReport, Step
from benchmarks.processes import Worker, python
from benchmarks.throughput import RunFailed
from benchmarks.topics import KafkaTopics
from benchmarks.workers.growing import Shape
from reflow_kafka.devbroker import DevBroker

RATES = (100, 300, 1_000, 3_000, 10_000, 20_000, 40_000, 80_000, 120_000)
LANES = 8
KEYS = 1000
WARM_UP = 3.0
SECONDS = 8.0
DRAIN = 30.0
TICK = 0.001

Phase = tuple[float, float]
"""Seconds, and events per second."""
BURST: Sequence[Phase] = ((5.0, 1000.0), (1.0, 200_000.0), (14.0, 1000.0))


def dues(phases: Sequence[Phase]) -> Iterator[float]:
    """When each event is due, in seconds from the beginning."""
    begin = 0.0
    for seconds, rate in phases:
        yield from (begin + at / rate for at in range(int(seconds * rate)))
        begin += seconds


class Traffic:
    """Sends events when they are due, and notes when a reader of committed records has them."""

    def __init__(self, bootstrap: str, input: str, output: str) -> None:
        client = {"bootstrap.servers": bootstrap, "log_level": 2}
        self._input = input
        self._producer = Producer(
            {
                **client,
                "linger.ms": 0,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 2_000_000,
            }
        )
        self._consumer = Consumer(
            {
                **client,
                "group.id": "load",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 1,
            }
        )
        self._consumer.assign([TopicPartition(output, lane, 0) for lane in range(LANES)])
        self._sent = 0
        self._stop = threading.Event()
        self.begun = 0.0
        self.seen = array("d")
        """Pairs of the time an event was due and the time it was read, seconds from the beginning."""

    def run(self, phases: Sequence[Phase], drain: float) -> bool:
        """Whether everything came out in time."""
        reading = threading.Thread(target=self._read)
        reading.start()
        self.begun = time.perf_counter()
        self._send(phases)
        deadline = time.perf_counter() + drain
        while len(self.seen) < 2 * self._sent and time.perf_counter() < deadline:
            time.sleep(0.02)
        self._stop.set()
        reading.join()
        self._consumer.close()
        return len(self.seen) == 2 * self._sent

    def _send(self, phases: Sequence[Phase]) -> None:
        produce = self._producer.produce
        for due in dues(phases):
            while (early := self.begun + due - time.perf_counter()) > 0:
                self._producer.poll(0)
                time.sleep(min(early, TICK))
            produce(self._input, b'{"at":%d}' % int(due * 1e9), b"k-%d" % (self._sent % KEYS))
            self._sent += 1
        self._producer.flush(DRAIN)

    def _read(self) -> None:
        while not self._stop.is_set():
            first = self._consumer.poll(0.1)
            if first is None:
                continue
            messages = [first, *self._consumer.consume(10_000, timeout=0)]
            now = time.perf_counter() - self.begun
            for message in messages:
                if message.error() is None:
                    value = message.value() or b""
                    self.seen.append(int(value[6 : value.index(b",")]) / 1e9)  # {"at":…,"count":…}
                    self.seen.append(now)


async def measure(
    kafka: KafkaTopics, name: str, phases: Sequence[Phase]
) -> tuple[Traffic, bool, list[Commits]]:
    """Send through a flow of one stage with state."""
    input, output = f"{name}-in", f"{name}-out"
    with TemporaryDirectory(prefix="reflow-bench-") as folder:
        shape = Shape(state=1, watch=1)
        job = Job(str(shape), EXACTLY_ONCE, kafka.bootstrap, LANES, input, output, name, folder)
        kafka.create(input, output, lanes=LANES)
        try:
            with Worker(
                python("benchmarks.workers.growing", *job.arguments()), Path(folder, "worker.log")
            ) as worker:
                traffic = Traffic(kafka.bootstrap, input, output)
                complete = await asyncio.to_thread(traffic.run, phases, DRAIN)
                if not worker.running or not traffic.seen:
                    raise RunFailed(f"nothing came out: {worker.last_words()}")
            return traffic, complete, _commits(Path(folder, "commits.jsonl"), traffic.begun)
        finally:
            kafka.delete(name)


def _commits(path: Path, begun: float) -> list[Commits]:
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return [Commits(at - begun, *rest) for at, *rest in lines]


def step(rate: float, traffic: Traffic, complete: bool, commits: Sequence[Commits]) -> Step:
    """The figures of one rate, its warm-up left out."""
    pairs = zip(traffic.seen[::2], traffic.seen[1::2], strict=True)
    latencies = sorted(read - due for due, read in pairs if due >= WARM_UP)
    window = [c for c in commits if WARM_UP <= c.at <= WARM_UP + SECONDS]
    first, last = window[0], window[-1]
    elapsed = last.at - first.at
    p50, p99, longest = (latencies[min(int(len(latencies) * q), len(latencies) - 1)] for q in (0.5, 0.99, 1))
    return Step(
        rate=rate,
        p50=p50 * 1000,
        p99=p99 * 1000,
        longest=longest * 1000,
        commits=(last.commits - first.commits) / elapsed,
        commit_cpu=(last.commit_cpu - first.commit_cpu) / elapsed,
        worker_cpu=(last.cpu - first.cpu) / elapsed,
        complete=complete,
    )


def burst(traffic: Traffic, complete: bool, commits: Sequence[Commits], *, every: float = 0.25) -> Burst:
    """Latency by the time events were due, and commits, in intervals of `every` seconds."""
    buckets: dict[int, list[float]] = {}
    for due, read in zip(traffic.seen[::2], traffic.seen[1::2], strict=True):
        buckets.setdefault(int(due / every), []).append(read - due)
    latency = [
        (at * every, sorted(found)[len(found) // 2] * 1000, max(found) * 1000)
        for at, found in sorted(buckets.items())
    ]
    paced = [
        (b.at, (b.commits - a.commits) / (b.at - a.at), (b.commit_cpu - a.commit_cpu) / (b.at - a.at))
        for a, b in pairwise(commits)
        if a.at >= 0
    ]
    return Burst(latency, paced, complete)


async def run(rates: Sequence[int], into: Path, plots: Path | None) -> LoadReport:
    """Measure; what is known so far is written after each step."""
    report = LoadReport({"seconds per rate": SECONDS, "lanes": LANES, "keys": KEYS, "burst": BURST})
    stamp = int(time.time()) % 100_000
    with DevBroker() as broker:
        kafka = KafkaTopics(broker.bootstrap)
        await measure(kafka, f"load-warm-up-{stamp}", [(5.0, 5000.0)])  # unrecorded, for the broker
        for rate in rates:
            found = await measure(kafka, f"load-{rate}-{stamp}", [(WARM_UP + SECONDS, float(rate))])
            report.steps.append(step(rate, *found))
            report.write(into, plots)
            click.echo(f"{report.steps[-1]}")
        report.burst = burst(*await measure(kafka, f"load-burst-{stamp}", BURST))
        report.write(into, plots)
    return report


@click.command()
@click.option(
    "--rate", "rates", type=int, multiple=True, default=RATES, help="Events per second; repeatable."
)
@click.option("--into", type=click.Path(path_type=Path), default="benchmarks/results", show_default=True,
              help="Folder for load.json and load.md.")  # fmt: skip
@click.option("--plots", type=click.Path(path_type=Path), help="Folder for load.svg and burst.svg.")
def main(rates: Sequence[int], into: Path, plots: Path | None) -> None:
    """Measure latency and commits against load, on a real Kafka of its own."""
    report: Any = uvloop.run(run(rates, into, plots))
    click.echo(f"\n{report.markdown()}\nAlso in {into}.")


if __name__ == "__main__":
    main()
