"""Windows and timers of the kinds that the other flows leave out.

events ─► hops, counted, updates, sketched, reminded
dues   ─► due                                         by the clock of the machine
"""

from __future__ import annotations

import os
from typing import Any

from reflow_kafka import Context, Count, Flow, Hopping, Timer, Tumbling, Window
from reflow_kafka import aggregations as made
from reflow_kafka.sketches import ApproxDistinct, Quantiles

SIZE, EVERY = 1.0, 0.5
"""Seconds; of the windows that hop."""
FEW = 7
"""Events of a window that counts them."""
SPAN = 4
"""Seconds of windows from which sketches are told."""
SOON = 0.25
"""Seconds until a timer fires."""
NAME = os.environ["FLOW_NAME"]

Row = dict[str, Any]

flow = Flow(NAME, partitions=8)
events = flow.source("events", topic=f"{NAME}-events", timestamp="at", idle_after=2)
dues = flow.source("dues", topic=f"{NAME}-dues", timestamp="at")


def hold(held: list[int], event: Row) -> None:
    held.append(event["id"])


def told(held: list[int], window: Window) -> list[Any]:
    return [window.start, held]


def members(held: list[int], window: Window) -> list[int]:
    return held


def remind(timer: Timer) -> list[int]:
    return [timer.at, int(timer.name)]


@flow.stage(after=events, on_timer=remind)
def reminded(event: Row, ctx: Context) -> None:
    """Every second event takes back the timer of the one before it."""
    if event["id"] % 2:
        ctx.cancel_timer(str(event["id"] - 1))
    ctx.timer(str(event["id"]), clock="event-time", delay=SOON)


flow.stage(hold, name="hops", after=events, state=list, window=Hopping(SIZE, EVERY), on_close=told)
flow.stage(hold, name="counted", after=events, state=list, window=Count(FEW), on_close=members)
flow.stage(
    hold, name="due", after=dues, state=list, window=Tumbling(SIZE), close_on="wall-clock", on_close=told
)
flow.aggregate(
    "updates",
    after=events,
    window=Tumbling(SIZE),
    of={"count": made.Count(), "last": made.Latest("id")},
    emit="update",
)
flow.aggregate(
    "sketched",
    after=events,
    window=Tumbling(SPAN),
    of={
        "top": made.TopK(3, "id"),
        "users": ApproxDistinct("user"),
        "ranks": Quantiles("id", [0.5]),
    },
)

for name in ("hops", "counted", "updates", "sketched", "reminded", "due"):
    flow.sink(f"{name}_told", after=name, topic=f"{NAME}-{name}")
flow.sink("late", after=["hops.late", "updates.late", "sketched.late"], topic=f"{NAME}-late")
flow.sink("overdue", after="due.late", topic=f"{NAME}-overdue")
