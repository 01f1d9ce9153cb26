"""A million open windows that close at once: how long that takes, and what comes beside it meanwhile.

One lane on an embedded log, in this process, so that the turns of its event loop can be watched: how long
each was, and how much of that the loop itself worked (the rest it waited for a processor, or for the disk).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import uvloop

from benchmarks.report import machine, table, write
from reflow_kafka import Flow, Session, Tumbling, Window
from reflow_kafka.engine.engine import Engine
from reflow_kafka.log.api import OutRecord, TopicKind, TopicSpec
from reflow_kafka.log.embedded import LogClient, open_client
from reflow_kafka.windows import WindowSpec

KINDS: dict[str, WindowSpec] = {
    "tumbling": Tumbling(3600),
    "sessions": Session(3600, merge=lambda older, younger: None),
}
_FIRST = 1_000_000
_FAR = 100_000_000
"""Timestamps of the events that open windows, and of those by which they close."""
_TICK = 0.002
_BESIDE = 0.25
"""Seconds between two events of other keys."""


@dataclass
class Turns:
    """Watches the turns of this event loop."""

    longest: float = 0.0
    longest_work: float = 0.0

    async def watch(self) -> None:
        """Until it is cancelled."""
        last, worked = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(_TICK)
            now, work = time.perf_counter(), time.thread_time()
            self.longest = max(self.longest, now - last)
            self.longest_work = max(self.longest_work, work - worked)
            last, worked = now, work


@dataclass(frozen=True)
class Figures:
    """What came of one kind."""

    kind: str
    windows: int
    seconds: float
    """From the event that lets time go on until the last window has closed."""
    cpu: float
    """Seconds of this process meanwhile."""
    turn: float
    """The longest turn of the loop, seconds."""
    work: float
    """The longest that the loop worked in one turn, seconds of CPU."""
    quiet_turn: float
    """The longest turn before, with nothing to do: what the machine adds."""
    beside: float
    """The longest that an event of another key took, seconds."""
    usual: float
    """And the median of these."""


async def measure(kind: str, count: int, folder: Path) -> Figures:
    """Open so many windows, and close them."""
    closed = 0

    def add(state: dict[str, int], value: object) -> None:
        state["n"] = state.get("n", 0) + 1

    def close(state: dict[str, int], window: Window) -> dict[str, int]:
        nonlocal closed
        closed += 1
        return state

    flow = Flow("closing", partitions=1)
    flow.source("events", topic="events")
    flow.stage(add, name="windows", after="events", state=dict, window=KINDS[kind], on_close=close)
    flow.sink("told", after="windows", topic="told")
    async with Engine(flow, data_dir=folder) as engine, open_client(folder) as client:

        def seen() -> int:
            return engine.statistics().flows["closing"].stages["windows"].events

        await client.ensure_topics([TopicSpec("events", 1, TopicKind.EXTERNAL)])
        for first in range(0, count, 1_000):
            await _publish(client, _FIRST, range(first, min(first + 1_000, count)))
        await _until(lambda: seen() == count)
        quiet, turns = Turns(), Turns()
        await _beside(quiet, asyncio.sleep(2))
        cpu, began = time.process_time(), time.perf_counter()
        await _publish(client, _FAR, [count])
        times: list[float] = []

        async def others() -> None:
            while closed < count or not times:
                await asyncio.sleep(_BESIDE)
                sent, before = time.perf_counter(), seen()
                await _publish(client, _FAR, [count + 1 + len(times)])
                await _until(lambda before=before: seen() > before)  # type: ignore[misc]
                times.append(time.perf_counter() - sent)

        await _beside(turns, others())
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Figures(
        kind, count, seconds, cpu, turns.longest, turns.longest_work, quiet.longest, max(times), median(times)
    )


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 — statistics tell nobody when they change
        await asyncio.sleep(_TICK)


async def _beside(turns: Turns, work: Any) -> None:
    watching = asyncio.create_task(turns.watch())
    await work
    watching.cancel()


async def _publish(client: LogClient, timestamp: int, ids: Iterable[int]) -> None:
    await client.publish("events", 0, [OutRecord(b"key-%d" % id, b"{}", timestamp) for id in ids])


@dataclass
class Report:
    """All that came out of one call."""

    machine: dict[str, Any] = field(default_factory=machine)
    figures: list[Figures] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write ``closing.json`` and ``closing.md``."""
        write(folder / "closing", asdict(self), self.markdown())

    def markdown(self) -> str:
        """The table."""
        lines = [f"- {name}: {value}" for name, value in self.machine.items()]
        return "\n".join([*lines, "", *table(_COLUMNS, map(_row, self.figures))]) + "\n"


_COLUMNS = (
    "windows", "closed, s", "CPU, µs each", "longest turn, ms", "its work, ms of CPU", "when quiet, ms",
    "other events, ms: longest / median",
)  # fmt: skip


def _row(each: Figures) -> tuple[str, ...]:
    return (
        f"{each.windows:,} {each.kind}",
        f"{each.seconds:.1f}",
        f"{each.cpu / each.windows * 1e6:.0f}",
        f"{each.turn * 1e3:.0f}",
        f"{each.work * 1e3:.0f}",
        f"{each.quiet_turn * 1e3:.0f}",
        f"{each.beside * 1e3:.0f} / {each.usual * 1e3:.0f}",
    )


@click.command()
@click.option("--windows", default=1_000_000, show_default=True, help="How many.")
@click.option("--into", type=click.Path(path_type=Path), default="benchmarks/results", show_default=True,
              help="Folder for closing.json and closing.md.")  # fmt: skip
def main(windows: int, into: Path) -> None:
    """Close many windows at once."""
    report = Report()
    for kind in KINDS:
        with TemporaryDirectory(prefix="reflow-bench-") as folder:
            report.figures.append(uvloop.run(measure(kind, windows, Path(folder))))
        report.write(into)
    click.echo(f"{report.markdown()}\nAlso in {into}.")


if __name__ == "__main__":
    main()
