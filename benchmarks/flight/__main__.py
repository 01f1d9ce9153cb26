"""The command line: ``python -m benchmarks.flight --help``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
import msgspec

from benchmarks.flight.cases import CASES
from benchmarks.flight.measure import Flight, measure
from benchmarks.processes import cpu_seconds
from benchmarks.report import machine, table, write
from benchmarks.throughput import RunFailed
from benchmarks.topics import KafkaTopics
from reflow_kafka.devbroker import DevBroker

_COLUMNS = (
    "case", "what", "events/s", "events / worker-CPU-s", "commit interval p50 / p99 / max, ms",
    "MB at start, ¼, ½, ¾, end", "peak MB", "load", "outputs",
)  # fmt: skip


@click.command()
@click.option("--cases", default="all", help=f"Of these, separated by commas: {', '.join(CASES)}.")
@click.option("--events", type=click.IntRange(100), help="Per run, instead of the case's own number.")
@click.option("--time-limit", type=float, default=300.0, show_default=True, help="Seconds per run.")
@click.option("--into", type=click.Path(path_type=Path), default="benchmarks/results", show_default=True,
              help="Folder for flight.json and flight.md.")  # fmt: skip
def main(cases: str, events: int | None, time_limit: float, into: Path) -> None:
    """Measure stages with many events in progress, on a real Kafka of its own."""
    names = list(CASES) if cases == "all" else cases.split(",")
    if unknown := [name for name in names if name not in CASES]:
        raise click.UsageError(f"found {', '.join(unknown)}, wanted some of {', '.join(CASES)}")
    report = Report()
    with DevBroker() as broker:
        kafka, cpu = KafkaTopics(broker.bootstrap), partial(cpu_seconds, broker.pid)
        for number, name in enumerate(names):
            case = CASES[name] if events is None else msgspec.structs.replace(CASES[name], events=events)
            run = f"flight-{name}-{number}-{int(time.time()) % 100_000}"
            try:
                report.add(asyncio.run(measure(case, kafka, cpu, run, time_limit)))
            except RunFailed as error:
                report.failures.append(f"{name}: {error}")
                click.echo(f"FAILED {name}: {error}")
            report.write(into)
    click.echo(f"\n{report.markdown()}\nAlso in {into}.")
    raise SystemExit(0 if report.ok else 1)


class Report:
    """All that came out of one call."""

    def __init__(self) -> None:
        self.machine = machine()
        self.flights: dict[str, Flight] = {}
        self.failures: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether everything ran and every output was right."""
        return not self.failures and all(flight.ok for flight in self.flights.values())

    def add(self, flight: Flight) -> None:
        """Take note of a run."""
        self.flights[flight.case] = flight
        click.echo(f"{flight.case}: {flight.rate:,.0f} events/s, {flight.check}")

    def write(self, folder: Path) -> None:
        """Write ``flight.json`` and ``flight.md``."""
        flights = [{**asdict(flight), "rate": flight.rate} for flight in self.flights.values()]
        content = {"machine": self.machine, "flights": flights, "failures": self.failures}
        write(folder / "flight", content, self.markdown())

    def markdown(self) -> str:
        """The figures, and what they say against each other."""
        lines = [f"- {name}: {value}" for name, value in self.machine.items()]
        lines += ["", *table(_COLUMNS, map(_row, self.flights.values())), ""]
        lines += [f"- {line}" for line in _comparisons(self.flights)]
        lines += [f"- **failed**: {failure}" for failure in self.failures]
        return "\n".join(lines) + "\n"


def _row(flight: Flight) -> tuple[str, ...]:
    return (
        flight.case,
        flight.about,
        f"**{flight.rate:,.0f}**",
        f"{flight.finished / max(flight.worker_cpu, 0.01):,.0f}",
        " / ".join(f"{ms:,.0f}" for ms in flight.commits),
        ", ".join(map(str, flight.memory)),
        str(flight.peak_memory),
        f"{flight.load:.1f}",
        flight.check,
    )


def _comparisons(flights: Mapping[str, Flight]) -> Iterable[str]:
    for name, against in (
        ("wait-failing", "wait"),
        ("count-failing", "count"),
        ("compute-process", "compute"),
        ("compute-engines", "compute"),
    ):
        if name in flights and against in flights:
            yield f"{name} is {flights[name].rate / flights[against].rate:.2f} times as fast as {against}"


if __name__ == "__main__":
    main()
