"""Progress drawn on a terminal, below the log lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from reflow_kafka.cli.goals import Goal, Goals

if TYPE_CHECKING:
    from rich.console import Console

    from reflow_kafka.engine.statistics import Statistics


class Bars:
    """A bar per flow that restores, or has an end to reach; nothing while there is neither."""

    def __init__(self, console: Console) -> None:
        # Redrawn when there is something new, not by a thread that takes time from the engine's.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("events"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._goals = Goals()
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, statistics: Statistics) -> None:
        """Draw where things stand."""
        for flow, goal in self._goals.look(statistics, time.monotonic()).items():
            self._show(flow, goal)
        self._progress.refresh()

    def _show(self, flow: str, goal: Goal | None) -> None:
        if flow not in self._bars:
            self._bars[flow] = self._progress.add_task(flow, visible=False)
        bar = self._bars[flow]
        if goal is None or not goal.total:
            self._progress.update(bar, visible=False)
        else:
            what = f"{flow} {goal.what}"
            self._progress.update(bar, description=what, completed=goal.done, total=goal.total, visible=True)
