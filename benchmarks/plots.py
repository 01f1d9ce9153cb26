"""Plots for the documentation. Needs the extra ``bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.ticker import NullLocator

from benchmarks.growth_report import Growth
from benchmarks.load_report import Burst, Step

# The same input gives the same file.
mpl.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9})


def draw_load(steps: Sequence[Step], path: Path) -> None:
    """Latency, and what commits and everything cost, against events per second."""
    figure, (latency, cost) = pyplot.subplots(2, 1, figsize=(7, 6), sharex=True)
    rates = [step.rate for step in steps]
    latency.plot(rates, [step.p50 for step in steps], marker="o", label="p50")
    latency.plot(rates, [step.p99 for step in steps], marker="o", label="p99")
    latency.set(xscale="log", yscale="log", ylabel="latency, ms")
    cost.plot(rates, [100 * step.worker_cpu for step in steps], marker="o", label="worker, % of a core")
    cost.plot(rates, [100 * step.commit_cpu for step in steps], marker="o", label="its commits, % of a core")
    cost.set(xscale="log", xlabel="events per second", ylabel="CPU, % of a core", ylim=(0, None))
    commits = cost.twinx()
    commits.plot(
        rates, [step.commits for step in steps], marker=".", color="grey", ls=":", label="commits per second"
    )
    commits.set(ylabel="commits per second", ylim=(0, None))
    for axes in (latency, cost):
        axes.grid(alpha=0.3)
    latency.legend()
    lines = cost.get_lines() + commits.get_lines()
    cost.legend(lines, [line.get_label() for line in lines])
    _save(figure, path)


def draw_burst(burst: Burst, path: Path) -> None:
    """Latency and commits while a burst comes and goes."""
    figure, (latency, commits) = pyplot.subplots(2, 1, figsize=(7, 5), sharex=True)
    at = [entry[0] for entry in burst.latency]
    latency.plot(at, [entry[1] for entry in burst.latency], label="median")
    latency.plot(at, [entry[2] for entry in burst.latency], label="longest")
    latency.set(yscale="log", ylabel="latency of events due then, ms")
    commits.plot([entry[0] for entry in burst.commits], [entry[1] for entry in burst.commits])
    commits.set(xlabel="seconds; 200,000 events between 5 and 6, else 1,000 per second", ylabel="commits / s")
    for axes in (latency, commits):
        axes.axvspan(5, 6, color="orange", alpha=0.2)
        axes.grid(alpha=0.3)
    latency.legend()
    _save(figure, path)


_LABELS = {
    "lanes": ("lanes", "µs per event"),
    "keys": ("keys", "µs per event"),
    "backlog": ("events waiting", "µs per event"),
    "flows": ("flows", "µs per event"),
    "hops": ("stages in a row", "µs per event and stage"),
    "size": ("bytes per event", "µs per event"),
}


def draw_growth(figures: Sequence[Growth], path: Path) -> None:
    """Cost per event against everything that grows."""
    figure, grid = pyplot.subplots(2, 3, figsize=(9, 5))
    for axes, (group, (x, y)) in zip(grid.flat, _LABELS.items(), strict=True):
        found = [growth for growth in figures if growth.group == group]
        costs = [growth.cost / (growth.value if group == "hops" else 1) for growth in found]
        values = [growth.value for growth in found]
        axes.plot(values, costs, marker="o", ls="none")
        axes.set(xscale="log", xlabel=x, ylabel=y)
        axes.set_xticks(values, [_short(value) for value in values], fontsize=7)
        axes.xaxis.set_minor_locator(NullLocator())
        if group == "size":
            axes.set(yscale="log")
        else:
            axes.set(ylim=(0, 1.15 * max(costs, default=1.0)))
        axes.grid(alpha=0.3)
    _save(figure, path)


def _short(value: int) -> str:
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if value >= unit:
            return f"{value / unit:g} {name}"
    return str(value)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
