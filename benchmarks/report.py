"""Figures as JSON for programs and as Markdown for people."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks.latency import Latency
from benchmarks.processes import ROOT
from benchmarks.startup import Start
from benchmarks.throughput import Run
from reflow_kafka.devbroker import KAFKA_VERSION

_PACKAGES = ("reflow-kafka", "aiokafka", "confluent-kafka", "rocksdict", "orjson", "msgspec", "uvloop")


@dataclass
class Report:
    """All that came out of one call."""

    settings: dict[str, Any]
    machine: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Systems that could not be had, and runs that came to no end."""

    @property
    def ok(self) -> bool:
        """Whether everything ran and every output was right."""
        return not self.failures and all(run.ok for run in self.runs)

    def write(self, folder: Path) -> None:
        """Write ``benchmarks.json`` and ``benchmarks.md``."""
        content = {**asdict(self), "runs": [{**asdict(run), "rate": run.rate} for run in self.runs]}
        write(folder / "benchmarks", content, self.markdown())

    def markdown(self) -> str:
        """The tables."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterable[str]:
        yield from (f"- {name}: {value}" for name, value in (self.machine | self.settings).items())
        if self.runs:
            yield ""
            yield from table(_RUN_COLUMNS, _run_rows(self.runs))
        if self.latencies:
            yield ""
            yield from table(_LATENCY_COLUMNS, [_latency_row(latency) for latency in self.latencies])
        if self.starts:
            yield ""
            columns = ("start to first output", "first start, s", "later start, s")
            yield from table(columns, [(s.system, f"{s.first:.2f}", f"{s.later:.2f}") for s in self.starts])
        if self.failures:
            yield ""
            yield from (f"- **failed**: {failure}" for failure in self.failures)


_RUN_COLUMNS = (
    "work", "system", "guarantee", "k events / worker-CPU-s", "min – max", "whole run", "k events / s",
    "worker CPU-s / M", "broker CPU-s / M", "peak MB", "outputs",
)  # fmt: skip
_LATENCY_COLUMNS = (
    "latency at 1,000 events/s", "guarantee", "lanes", "hops", "p50 ms", "p99 ms", "max ms", "worker CPU",
)  # fmt: skip


def _run_rows(runs: Sequence[Run]) -> Iterable[tuple[str, ...]]:
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.workload, run.system, run.guarantee), []).append(run)
    for (workload, system, guarantee), group in sorted(groups.items(), key=lambda item: item[0][0]):
        rates = [run.rate / 1000 for run in group]
        yield (
            workload,
            system,
            guarantee,
            f"**{median(rates):.0f}**",
            f"{min(rates):.0f} – {max(rates):.0f}" if len(group) > 1 else "",
            f"{median(run.whole_events / run.whole_worker_cpu / 1000 for run in group):.0f}",
            f"{median(run.events / run.wall / 1000 for run in group):.0f}",
            f"{median(run.worker_cpu / run.events * 1e6 for run in group):.1f}",
            f"{median(run.broker_cpu / run.events * 1e6 for run in group):.1f}",
            f"{max(run.peak_memory for run in group):.0f}",
            "; ".join(dict.fromkeys(run.check for run in group)),
        )


def _latency_row(latency: Latency) -> tuple[str, ...]:
    times = (f"{value:.1f}" for value in (latency.p50, latency.p99, latency.longest))
    share = f"{latency.worker_cpu:.0%}"
    return latency.system, latency.guarantee, str(latency.lanes), str(latency.hops), *times, share


def write(path: Path, content: Any, markdown: str) -> None:
    """Keep figures twice, for programs and for people: ``PATH.json`` and ``PATH.md``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    path.with_suffix(".md").write_text(markdown)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """A table in Markdown."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def machine() -> dict[str, Any]:
    """Where and with what it was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores ({_processor()}), shared by broker and worker",
        "load before": f"{os.getloadavg()[0]:.1f} (average of a minute)",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"Kafka {KAFKA_VERSION}",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "commit": commit.stdout.strip() or "unknown",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
