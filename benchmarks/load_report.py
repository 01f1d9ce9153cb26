"""Latency and commits against load, as JSON, as tables and as plots."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import machine, table, write


class Commits(NamedTuple):
    """What a worker had done at one moment."""

    at: float
    """Seconds from the beginning of the traffic."""
    commits: int
    commit_cpu: float
    """Seconds, as the pace reckons them."""
    cpu: float


@dataclass(frozen=True)
class Step:
    """One rate."""

    rate: float
    p50: float
    p99: float
    longest: float
    """Milliseconds."""
    commits: float
    """Per second."""
    commit_cpu: float
    worker_cpu: float
    """Shares of a core."""
    complete: bool
    """Whether all events came out in time."""


@dataclass(frozen=True)
class Burst:
    """A burst on a steady stream."""

    latency: list[tuple[float, float, float]]
    """When events were due, s; median and longest latency of those, ms."""
    commits: list[tuple[float, float, float]]
    """When; commits per second; share of a core that they took."""
    complete: bool

    def recovered(self) -> float | None:
        """Seconds from which on the median latency stays below three times what it was before the burst."""
        usual = sorted(p50 for at, p50, _ in self.latency if 2 <= at < 5)
        limit = 3 * usual[len(usual) // 2]
        late = [at for at, p50, _ in self.latency if p50 > limit]
        return None if late and late[-1] == self.latency[-1][0] else max(late, default=0.0)


@dataclass
class LoadReport:
    """All that came out of one call."""

    settings: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=machine)
    steps: list[Step] = field(default_factory=list)
    burst: Burst | None = None

    def write(self, folder: Path, plots: Path | None) -> None:
        """Write ``load.json`` and ``load.md``, and the plots if there is a folder for them."""
        self.machine["load after"] = f"{os.getloadavg()[0]:.1f}"
        write(folder / "load", asdict(self), self.markdown())
        if plots is not None:
            from benchmarks.plots import draw_burst, draw_load

            plots.mkdir(parents=True, exist_ok=True)
            draw_load(self.steps, plots / "load.svg")
            if self.burst is not None:
                draw_burst(self.burst, plots / "burst.svg")

    def markdown(self) -> str:
        """The table."""
        lines = [f"- {name}: {value}" for name, value in (self.machine | self.settings).items()]
        rows = [
            (
                f"{step.rate:,.0f}",
                f"{step.p50:.1f}",
                f"{step.p99:.1f}",
                f"{step.longest:.1f}",
                f"{step.commits:.0f}",
                f"{step.commit_cpu:.0%}",
                f"{step.worker_cpu:.0%}",
                "yes" if step.complete else "**no**",
            )
            for step in self.steps
        ]
        lines += ["", *table(_COLUMNS, rows)]
        if self.burst is not None:
            recovered = self.burst.recovered()
            when = "not within the time measured" if recovered is None else f"by second {recovered:.2f}"
            lines += ["", f"Burst: back to less than three times the usual latency {when}."]
        return "\n".join(lines) + "\n"


_COLUMNS = (
    "events / s", "p50 ms", "p99 ms", "max ms", "commits / s", "commits, share of a core",
    "worker, share of a core", "kept up",
)  # fmt: skip
