"""What a worker shows while it runs: a banner, progress, and a line at the end.

On a terminal progress is drawn below the log lines; elsewhere it is a log line every few seconds. All of it
goes to standard error: standard output belongs to the flow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from reflow_kafka.cli.goals import Goals
from reflow_kafka.log.kafka.claim import WARM
from reflow_kafka.observe.logging import LogFormat, chosen, configure, stderr_console

if TYPE_CHECKING:
    from reflow_kafka.engine.engine import Engine
    from reflow_kafka.engine.statistics import Statistics
    from reflow_kafka.flow import Flow

logger = logging.getLogger("reflow_kafka.worker")

_DRAW_EVERY = 0.25
_LOG_EVERY = 5.0


class Display:
    """Configures logging, and shows what an engine does."""

    def __init__(self, level: str, format: LogFormat, *, shared_by: str = "") -> None:
        self._console = stderr_console() if chosen(format) == "console" else None
        self._draws = self._console is not None and self._console.is_terminal and not shared_by
        configure(level, format, console=self._console, engine=shared_by.rpartition("-")[2])

    def banner(
        self, flows: Sequence[Flow], bootstrap: str | None, data_dir: Path, *, engines: int = 1
    ) -> None:
        """What is started, on which log, and where its data are."""
        log = f"embedded in {data_dir}" if bootstrap is None else f"Kafka at {bootstrap}"
        for flow in flows:
            stages = [stage.name for stage in flow.spec().stages]
            if self._console is None:
                about = {"flow": flow.name, "group": flow.name, "log": log, "stages": stages}
                logger.info("starting", extra={**about, "data_dir": str(data_dir), "engines": engines})
                continue
            from rich.table import Table

            grid = Table.grid(padding=(0, 2))
            grid.add_column(style="dim")
            grid.add_row("reflow-kafka", version("reflow-kafka"))
            grid.add_row("flow", f"{flow.name}, {flow.partitions} partitions, group {flow.name}")
            grid.add_row("stages", ", ".join(stages))
            grid.add_row("log", log)
            grid.add_row("data", str(data_dir))
            if engines > 1:
                grid.add_row("engines", str(engines))
            self._console.print(grid)

    @contextmanager
    def beside(self, engine: Engine) -> Iterator[None]:
        """Show the engine's progress, and at its orderly end what it did."""
        begun = time.monotonic()
        with (
            self._progress() as show,
            _every(_DRAW_EVERY if self._draws else _LOG_EVERY, lambda: show(engine.statistics())),
        ):
            yield
        summarise(engine.statistics(), time.monotonic() - begun)

    @contextmanager
    def _progress(self) -> Iterator[Callable[[Statistics], None]]:
        if self._console is None or not self._draws:
            yield Lines().show
            return
        from reflow_kafka.cli.bars import Bars

        with Bars(self._console) as bars:
            yield bars.show


class Lines:
    """Progress as log lines."""

    def __init__(self) -> None:
        self._goals = Goals()

    def show(self, statistics: Statistics) -> None:
        """Log where things stand."""
        for flow, goal in self._goals.look(statistics, time.monotonic()).items():
            if goal is not None and goal.done < goal.total:
                about = {"flow": flow, "done": goal.done, "total": goal.total, "rate": round(goal.rate)}
                line = f"{goal.what}: {goal.done:,} of {goal.total:,} events, {goal.rate:,.0f} events/s"
                logger.info("%s", line, extra=about)
        for flow, counted in statistics.flows.items():
            behind = [copy.lag for copy in counted.standbys if copy.lag is not None and copy.lag > WARM]
            if behind:
                about = {"flow": flow, "behind": len(behind), "lag": sum(behind)}
                line = (
                    f"standbys: {len(behind)} of {len(counted.standbys)} are {sum(behind):,} records behind"
                )
                logger.info("%s", line, extra=about)


def summarise(statistics: Statistics, seconds: float) -> None:
    """One line per flow about what was done; an event counts at every stage that processed it."""
    for name, flow in statistics.flows.items():
        stages = {stage: counted.events for stage, counted in flow.stages.items()}
        dead_letters = sum(counted.dead_letters for counted in flow.stages.values())
        events = sum(stages.values())
        rate = round(events / seconds) if seconds > 0 else 0
        line = f"{events:,} events in {seconds:.1f} s, {rate:,} events/s"
        if len(stages) > 1:
            line += f" ({', '.join(f'{stage} {count:,}' for stage, count in stages.items())})"
        if dead_letters:
            line += f", {dead_letters:,} dead-lettered"
        if late := sum(counted.late for counted in flow.stages.values()):
            line += f", {late:,} late"
        about = {
            "events": events,
            "seconds": round(seconds, 3),
            "rate": rate,
            "dead_letters": dead_letters,
            "late": late,
        }
        logger.info("%s", line, extra={"flow": name, **about, "stages": stages})


@contextmanager
def _every(interval: float, call: Callable[[], None]) -> Iterator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(interval)
            call()

    task = asyncio.get_running_loop().create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
