"""How long a request takes, from the call to the answer: ``python -m benchmarks.requests --help``."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import click
import uvloop

from benchmarks.job import EXACTLY_ONCE, Job
from benchmarks.latency import WARM_UP
from benchmarks.processes import Worker, python
from benchmarks.report import machine, table
from benchmarks.throughput import LANES, RunFailed
from benchmarks.topics import KafkaTopics
from benchmarks.workers.answering import answering
from reflow_kafka import Client
from reflow_kafka.devbroker import DevBroker

_TIME_LIMIT = 60.0
_COLUMNS = (
    "requests at once", "hops", "p50 ms", "p99 ms", "max ms", "requests/s", "worker CPU", "client CPU",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """Milliseconds from the call to the answer."""

    at_once: int
    hops: int
    p50: float
    p99: float
    longest: float
    rate: float
    """Requests per second."""
    worker_cpu: float
    """Share of one core."""
    client_cpu: float

    def row(self) -> tuple[str, ...]:
        """A row of the table."""
        times = (f"{value:.1f}" for value in (self.p50, self.p99, self.longest))
        shares = (f"{value:.0%}" for value in (self.worker_cpu, self.client_cpu))
        return str(self.at_once), str(self.hops), *times, f"{self.rate:,.0f}", *shares


async def measure(kafka: KafkaTopics, name: str, at_once: int, hops: int, seconds: float) -> Asked:
    """Keep so many requests in flight for so many seconds.

    Raises:
        RunFailed: not every request was answered.
    """
    with TemporaryDirectory(prefix="reflow-bench-") as folder:
        job = Job("R", EXACTLY_ONCE, kafka.bootstrap, LANES, f"{name}-in", "", name, folder)
        kafka.create(job.input, lanes=LANES)
        command = python("benchmarks.workers.answering", str(hops))
        worker = Worker([*command, *job.arguments()], Path(folder) / "worker.log")
        try:
            with worker:
                async with asyncio.timeout(_TIME_LIMIT + seconds):
                    return await _ask(worker, job, at_once, hops, seconds)
        except TimeoutError:
            raise RunFailed(f"not every request was answered: {worker.last_words()}") from None
        finally:
            kafka.delete(name)


async def _ask(worker: Worker, job: Job, at_once: int, hops: int, seconds: float) -> Asked:
    latencies: list[float] = []
    numbers = itertools.count()

    async def keep_asking(client: Client, begun: float) -> None:
        while (asked := perf_counter()) < begun + WARM_UP + seconds:
            await client.request("requests", {"customer": f"c-{next(numbers) % 1000}"}, timeout=_TIME_LIMIT)
            if asked >= begun + WARM_UP:
                latencies.append(perf_counter() - asked)

    async with Client(answering(job, hops), job.bootstrap) as client:
        await client.request("requests", {"customer": "first"}, timeout=_TIME_LIMIT)
        begun = perf_counter()
        asking = [asyncio.create_task(keep_asking(client, begun)) for _ in range(at_once)]
        await asyncio.sleep(WARM_UP)
        cpu, own = worker.cpu(), process_time()
        await asyncio.gather(*asking)
        took = perf_counter() - begun - WARM_UP
        cpu, own = worker.cpu() - cpu, process_time() - own
    latencies.sort()
    count = len(latencies)
    p50, p99, longest = (latencies[min(int(count * q), count - 1)] * 1000 for q in (0.5, 0.99, 1))
    return Asked(at_once, hops, p50, p99, longest, count / took, cpu / took, own / took)


async def _all(at_once: list[int], hops: list[int], seconds: float) -> None:
    found: list[Asked] = []
    with DevBroker() as broker:
        kafka = KafkaTopics(broker.bootstrap)
        for number, (many, far) in enumerate(itertools.product(at_once, hops)):
            if not number:  # unrecorded, for the broker
                await measure(kafka, "requests-warm-up", many, far, seconds)
            found.append(await measure(kafka, f"requests-{number}", many, far, seconds))
            click.echo(" ".join(found[-1].row()), err=True)
    for name, value in machine().items():
        click.echo(f"- {name}: {value}")
    click.echo("")
    for line in table(_COLUMNS, [each.row() for each in found]):
        click.echo(line)


@click.command()
@click.option("--at-once", type=int, multiple=True, default=(1, 100, 1000), show_default=True)
@click.option("--hops", type=int, multiple=True, default=(1, 2), show_default=True, help="Stages in a row.")
@click.option("--seconds", type=float, default=10.0, show_default=True)
def main(at_once: tuple[int, ...], hops: tuple[int, ...], seconds: float) -> None:
    """Measure requests to a flow with eight lanes on a Kafka of its own, worker and client apart."""
    uvloop.run(_all(list(at_once), list(hops), seconds))


if __name__ == "__main__":
    main()
