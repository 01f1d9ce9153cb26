"""How cost grows, as JSON, as tables and as a plot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import machine, table, write


@dataclass(frozen=True)
class Growth:
    """What came of one measurement."""

    group: str
    value: int
    events: int
    """Those that were measured, once for each flow."""
    wall: float
    worker_cpu: float
    broker_cpu: float
    peak_memory: float
    """MB, of the largest engine."""
    load: float
    fault: str = ""

    @property
    def cost(self) -> float:
        """Microseconds of CPU per event."""
        return self.worker_cpu / max(self.events, 1) * 1e6


TITLES = {
    "lanes": "lanes (400,000 events, a count per key)",
    "size": "bytes per event (no state)",
    "keys": "keys (600,000 events, a count per key)",
    "hops": "stages in a row (200,000 events, no state)",
    "flows": "flows in one engine, 4 lanes each, reading the same topic",
    "backlog": "events waiting (a count per key)",
    "engines": "engines, a stage that burns CPU",
    "idle": "lanes of an idle engine, two stages",
}


@dataclass
class GrowthReport:
    """All that came out of one call."""

    settings: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=machine)
    figures: list[Growth] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything ran and every output was right."""
        return not self.failures and not any(growth.fault for growth in self.figures)

    def write(self, folder: Path, plots: Path | None) -> None:
        """Write ``growth.json`` and ``growth.md``, and the plot if there is a folder for it."""
        write(folder / "growth", asdict(self), self.markdown())
        if plots is not None:
            from benchmarks.plots import draw_growth

            plots.mkdir(parents=True, exist_ok=True)
            draw_growth(self.figures, plots / "growth.svg")

    def markdown(self) -> str:
        """The tables."""
        lines = [f"- {name}: {value}" for name, value in (self.machine | self.settings).items()]
        for group, title in TITLES.items():
            found: dict[int, list[Growth]] = {}
            for growth in self.figures:
                if growth.group == group:
                    found.setdefault(growth.value, []).append(growth)
            if found:
                rows = _idle_rows(found) if group == "idle" else _rows(found)
                columns = _IDLE_COLUMNS if group == "idle" else _COLUMNS
                lines += ["", *table((title, *columns), rows)]
        lines += [f"- **failed**: {failure}" for failure in self.failures]
        return "\n".join(lines) + "\n"


_COLUMNS = (
    "events", "µs of CPU per event", "min – max", "k events / s", "broker µs per event", "peak MB", "outputs",
)  # fmt: skip
_IDLE_COLUMNS = ("CPU, share of a core", "broker", "peak MB")


def _rows(found: dict[int, list[Growth]]) -> Iterable[tuple[str, ...]]:
    for value, group in found.items():
        costs = [growth.cost for growth in group]
        yield (
            f"{value:,}",
            f"{group[0].events:,}",
            f"**{median(costs):.2f}**",
            f"{min(costs):.2f} – {max(costs):.2f}" if len(group) > 1 else "",
            f"{median(growth.events / growth.wall / 1000 for growth in group):.0f}",
            f"{median(growth.broker_cpu / growth.events * 1e6 for growth in group):.1f}",
            f"{max(growth.peak_memory for growth in group):.0f}",
            "; ".join(dict.fromkeys(growth.fault or "ok" for growth in group)),
        )


def _idle_rows(found: dict[int, list[Growth]]) -> Iterable[tuple[str, ...]]:
    for value, group in found.items():
        yield (
            f"{value:,}",
            f"**{median(growth.worker_cpu / growth.wall for growth in group):.1%}**",
            f"{median(growth.broker_cpu / growth.wall for growth in group):.1%}",
            f"{max(growth.peak_memory for growth in group):.0f}",
        )
