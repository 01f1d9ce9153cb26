"""Pictures of the documentation, drawn from real runs: ``python -m benchmarks.pictures``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

from reflow_kafka import Context, Count, Flow, Hopping, Session, Sliding, Tumbling, Window
from reflow_kafka.testing import FlowTest
from reflow_kafka.windows import WindowSpec

TIMES = (2, 4, 9, 11, 12, 21, 29, 31)
"""Seconds, in the order in which the events come."""
SIZE = 10
IMAGES = Path(__file__).parent.parent / "docs" / "images"


@dataclass(frozen=True)
class Told:
    """A window that was told of; times in seconds."""

    start: float
    end: float
    held: Sequence[float]


def unite(older: list[float], younger: list[float]) -> None:
    """Make one session of two."""
    older.extend(younger)


KINDS: dict[str, WindowSpec] = {
    f"Tumbling({SIZE})": Tumbling(SIZE),
    f"Hopping({SIZE}, every={SIZE // 2})": Hopping(SIZE, every=SIZE // 2),
    "Sliding(5)": Sliding(5),
    "Session(6, merge=...)": Session(6, merge=unite),
    "Count(3)": Count(3),
}


def windows_of(kind: WindowSpec) -> list[Told]:
    """What a stage with such windows tells of the events."""
    flow = Flow("picture", partitions=1)
    flow.source("events", topic="events")

    def collect(held: list[float], at: float) -> None:
        held.append(at)

    def tell(held: list[float], window: Window, ctx: Context) -> dict[str, Any]:
        return {"start": window.start, "end": window.end, "held": held}

    flow.stage(collect, name="windows", after="events", state=list, window=kind, on_close=tell)
    flow.sink("told", after="windows", topic="told")
    with FlowTest(flow) as test:
        for at in TIMES:
            test.send("events", float(at), key="key", timestamp=at * 1000)
        test.end()
        found = test.outputs("windows")
    return [Told(told["start"] / 1000, told["end"] / 1000, told["held"]) for told in found]


def draw_windows(path: Path) -> None:
    """The events, and below them the windows of each kind with what they hold."""
    mpl.rcParams.update({"svg.hashsalt": "pictures", "svg.fonttype": "none", "font.size": 9})
    figure, axes = pyplot.subplots(figsize=(8, 7))
    row, names = 0.0, [(0.0, "events")]
    axes.plot(TIMES, [row] * len(TIMES), "o", color="black", ms=4)
    for number, (name, kind) in enumerate(KINDS.items()):
        row -= 1.2
        first = row
        for told in windows_of(kind):
            axes.plot(
                [told.start, told.end],
                [row, row],
                lw=5,
                alpha=0.35,
                color=f"C{number}",
                solid_capstyle="butt",
            )
            axes.plot(told.held, [row] * len(told.held), "o", color=f"C{number}", ms=4)
            row -= 0.5
        names.append(((first + row + 0.5) / 2, name))
    axes.set_yticks([at for at, _ in names], [name for _, name in names])
    axes.set(xlabel="seconds", xlim=(-8, 42))
    axes.set_xticks(range(-5, 41, 5))
    axes.grid(axis="x", alpha=0.3)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    draw_windows(IMAGES / "windows.svg")
