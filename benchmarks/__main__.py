"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import click
import uvloop

from benchmarks import latency, startup
from benchmarks.events import PER_MS, WINDOW_MS, Readings
from benchmarks.job import AT_LEAST_ONCE, EXACTLY_ONCE
from benchmarks.names import Names
from benchmarks.oracle import CLOSED
from benchmarks.peers.environment import Unavailable
from benchmarks.processes import cpu_seconds
from benchmarks.report import Report, machine
from benchmarks.systems import COMMON, SYSTEMS, WORKLOADS, System
from benchmarks.throughput import LANES, Bench, Input, RunFailed
from benchmarks.topics import KafkaTopics
from reflow_kafka.devbroker import DevBroker

QUICK_EVENTS, EVENTS = 300_000, 1_000_000
QUICK_SYSTEMS = "reflow,reflow-typed,reflow-embedded,bare-lane"


@click.command()
@click.option("--quick", is_flag=True,
              help=f"One round of {QUICK_EVENTS:,} events, {','.join(COMMON)}: {QUICK_SYSTEMS}.")  # fmt: skip
@click.option("--systems", type=Names(*SYSTEMS), help="Of these (all).")
@click.option("--workloads", type=Names(*WORKLOADS), help=f"Of these (all; quick: {','.join(COMMON)}).")
@click.option(
    "--guarantees", type=Names(EXACTLY_ONCE, AT_LEAST_ONCE), help="Of these (all; quick: exactly-once)."
)
@click.option("--events", type=click.IntRange(1), help=f"Per run ({EVENTS:,}).")
@click.option("--rounds", type=click.IntRange(1), help="How often each run is repeated, in turns (3).")
@click.option("--warm-up", type=click.IntRange(0),
              help="Events before those that count (a tenth as many).")  # fmt: skip
@click.option("--time-limit", type=float, help="Seconds per run (600; quick: 60).")
@click.option("--throughput/--no-throughput", default=True)
@click.option("--latency/--no-latency", "latencies", default=True)
@click.option("--start/--no-start", "starts", default=True)
@click.option("--into", type=click.Path(path_type=Path), default="benchmarks/results", show_default=True,
              help="Folder for benchmarks.json and benchmarks.md.")  # fmt: skip
def main(quick: bool, into: Path, **options: Any) -> None:
    """Measure this library, and others beside it, on a real Kafka of its own."""
    options["quick"] = quick
    options["systems"] = options["systems"] or (QUICK_SYSTEMS.split(",") if quick else list(SYSTEMS))
    options["workloads"] = options["workloads"] or list(COMMON if quick else WORKLOADS)
    options["guarantees"] = options["guarantees"] or [EXACTLY_ONCE, *([] if quick else [AT_LEAST_ONCE])]
    options["events"] = options["events"] or (QUICK_EVENTS if quick else EVENTS)
    if options["warm_up"] is None:
        options["warm_up"] = options["events"] // 10
    options["time_limit"] = options["time_limit"] or (60.0 if quick else 600.0)
    options["rounds"] = options["rounds"] or (1 if quick else 3)
    report = uvloop.run(Session(options, into).run())
    click.echo(f"\n{report.markdown()}\nAlso in {into}.")
    raise SystemExit(0 if report.ok else 1)


class Session:
    """Everything that one call measures."""

    def __init__(self, options: dict[str, Any], into: Path) -> None:
        shown = ("events", "rounds", "warm_up", "systems", "workloads", "guarantees")
        self.report = Report({name: options[name] for name in shown} | {"lanes": LANES}, machine())
        self._options = options
        self._into = into
        self._systems = [SYSTEMS[name] for name in options["systems"]]
        self._numbers = count(1)
        self._inputs: dict[tuple[int, bool], Input] = {}

    async def run(self) -> Report:
        """Measure; what is known so far is written after each step."""
        self._prepare()
        with ExitStack() as stack:
            broker = stack.enter_context(DevBroker())
            self._kafka = KafkaTopics(broker.bootstrap)
            cpu = partial(cpu_seconds, broker.pid)
            self._bench = Bench(self._kafka, cpu, self._options["time_limit"])
            # In this order: a broker that has just been started is slow for a while.
            if self._options["throughput"]:
                await self._throughput()
            if self._options["latencies"]:
                await self._latencies()
            if self._options["starts"]:
                await self._starts()
        return self.report

    def _prepare(self) -> None:
        """Build what has to be built, before anything is measured."""
        for system in list(self._systems):
            try:
                system.command()
            except Unavailable as error:
                self._failed(f"{system.name}: not available: {error}")
                self._systems.remove(system)

    async def _throughput(self) -> None:
        for turn, system, workload, guarantee in self._plan():
            title = f"round {turn}, {workload}, {system.name}, {guarantee}"
            try:
                run = await self._bench.run(
                    system, workload, guarantee, self._input(system, workload), self._name(system)
                )
            except RunFailed as error:
                self._failed(f"{title}: {error}")
                continue
            self.report.runs.append(run)
            self._step(f"{title}: {run.rate / 1000:.0f} k events per worker-CPU-second, {run.check}")

    def _plan(self) -> Iterator[tuple[int, System, str, str]]:
        """In turns, so that whatever else happens on the machine meets all systems alike."""
        for turn in range(1, self._options["rounds"] + 1):
            for workload in self._options["workloads"]:
                for system in self._systems:
                    for guarantee in self._guarantees(system):
                        if workload in system.workloads:
                            yield turn, system, workload, guarantee

    def _input(self, system: System, workload: str) -> Input:
        """As many events as the system is given, made at their first use."""
        windows = workload in CLOSED
        share = min(1.0, (system.limit or self._options["events"]) / self._options["events"])
        warm_up, events = (int(self._options[name] * share) for name in ("warm_up", "events"))
        if (events, windows) not in self._inputs:
            if windows:  # so that the first of them are closed in the warm-up
                warm_up = max(warm_up, 2 * WINDOW_MS * PER_MS)
            self._inputs[events, windows] = Input(Readings(warm_up + events, closing=windows), warm_up)
        return self._inputs[events, windows]

    async def _latencies(self) -> None:
        quick = self._options["quick"]
        seconds = 3.0 if quick else 10.0
        for system in [s for s in self._systems if s.latency][:1]:  # unrecorded, for the broker
            with suppress(RunFailed):
                await latency.measure(
                    system, system.guarantees[0], LANES, 1, self._kafka, self._name(system), seconds
                )
        for lanes, hops in ((1, 1), (8, 1)) if quick else ((1, 1), (8, 1), (1, 2), (8, 2)):
            for system in (system for system in self._systems if system.latency):
                for guarantee in self._guarantees(system):
                    title = f"latency, {system.name}, {guarantee}, lanes {lanes}, hops {hops}"
                    name = self._name(system)
                    try:
                        found = await latency.measure(
                            system, guarantee, lanes, hops, self._kafka, name, seconds
                        )
                    except RunFailed as error:
                        self._failed(f"{title}: {error}")
                        continue
                    self.report.latencies.append(found)
                    self._step(f"{title}: p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms")

    async def _starts(self) -> None:
        for system in (system for system in self._systems if "W2" in system.workloads and system.recovers):
            try:
                start = await startup.measure(system, self._kafka, self._name(system))
            except RunFailed as error:
                self._failed(f"start, {system.name}: {error}")
                continue
            self.report.starts.append(start)
            self._step(f"start, {system.name}: first {start.first:.2f} s, later {start.later:.2f} s")

    def _guarantees(self, system: System) -> list[str]:
        return [g for g in system.guarantees if g in self._options["guarantees"]]

    def _name(self, system: System) -> str:
        return f"{system.name}-{next(self._numbers)}-{int(time.time()) % 100_000}"

    def _failed(self, what: str) -> None:
        self.report.failures.append(what)
        self._step(f"FAILED {what}")

    def _step(self, what: str) -> None:
        click.echo(what)
        self.report.write(self._into)


if __name__ == "__main__":
    main()
