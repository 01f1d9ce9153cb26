"""Pictures of the documentation, drawn from real runs: ``python -m benchmarks.pictures``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

from reflow_kafka import Context, Count, Flow, Hopping, Session, Sliding, State, Tumbling, Window
from reflow_kafka.testing import FlowTest
from reflow_kafka.windows import WindowSpec

TIMES = (2, 4, 9, 11, 12, 21, 29, 31)
"""Seconds, in the order in which the events come."""
SIZE = 10
BEGIN = 1_750_000_000
"""Second of event time at which the events begin whose watermark is drawn."""
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


def draw_watermark(path: Path) -> None:
    """Events in the order in which they come, the watermark, and what is late."""
    seen: list[tuple[int, float]] = []
    flow = Flow("watermark", partitions=1)
    source = flow.source("events", topic="events", timestamp="at", out_of_orderness=3)

    def look(count: State[int], event: dict[str, Any], ctx: Context) -> None:
        count.value += 1
        seen.append((event["number"], ctx.watermark / 1000 - BEGIN))

    flow.stage(look, after=source, state=int, window=Tumbling(5))
    flow.sink("late", topic="late", after="look.late")
    chance = random.Random(7)
    times = [number * 0.4 - round(chance.expovariate(1 / 2), 3) for number in range(120)]
    with FlowTest(flow) as test:
        for number, at in enumerate(times):
            test.send("events", {"number": number, "at": int(1000 * (BEGIN + at))}, key="k")
        late = {event["number"] for event in test.outputs("late")}
    figure, axes = pyplot.subplots(figsize=(8, 4))
    on_time = [number for number in range(len(times)) if number not in late]
    axes.plot(on_time, [times[n] for n in on_time], "o", ms=3, label="events")
    axes.plot(
        sorted(late), [times[n] for n in sorted(late)], "o", ms=4, label="late: their window has closed"
    )
    steps = [(number, at) for number, at in seen if at > times[0] - 5]
    axes.step(*zip(*steps, strict=True), where="post", color="black", lw=1, label="watermark")
    axes.set_yticks(range(0, 51, 5))
    axes.grid(axis="y", alpha=0.3)
    axes.set(xlabel="events in the order in which they come", ylabel="event time, s; lines: ends of windows")
    axes.legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    mpl.rcParams.update({"svg.hashsalt": "pictures", "svg.fonttype": "none", "font.size": 9})
    draw_windows(IMAGES / "windows.svg")
    draw_watermark(IMAGES / "watermark.svg")
