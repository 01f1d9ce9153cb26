"""Windows over windows: readings of stations, their sessions by region, and counts of what was closed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from reflow_kafka import Flow, Session, Tumbling, Window

NAME = os.environ["FLOW_NAME"]

flow = Flow(NAME, partitions=8)
readings = flow.source("readings", topic=f"{NAME}-readings", out_of_orderness=1)


@dataclass
class Sum:
    n: int = 0
    sum: int = 0
    ids: list[int] = field(default_factory=list)


def add(sum: Sum, reading: dict[str, Any]) -> dict[str, Any]:
    sum.n += 1
    sum.sum += reading["id"]
    sum.ids.append(reading["id"])
    return reading


def closed(sum: Sum, window: Window) -> dict[str, Any]:
    """What a window of a station held."""
    region = window.key.partition("/")[0]
    return {"region": region, "start": window.start, "n": sum.n, "sum": sum.sum, "ids": sorted(sum.ids)}


def unite(older: Sum, younger: Sum) -> None:
    older.n += younger.n
    older.sum += younger.sum
    older.ids += younger.ids


def note(sum: Sum, reading: dict[str, Any]) -> None:
    add(sum, reading)


def ended(sum: Sum, window: Window) -> dict[str, Any]:
    """What a session of a region held."""
    return {"start": window.start, "end": window.end, "ids": sorted(sum.ids)}


def count(sum: Sum, closed: dict[str, Any]) -> None:
    sum.n += closed["n"]
    sum.sum += 1


def counted(sum: Sum, window: Window) -> dict[str, Any]:
    """How many windows of a region were closed in a minute, and how much they held."""
    return {"start": window.start, "windows": sum.sum, "readings": sum.n}


def is_closed(value: dict[str, Any]) -> bool:
    return "sum" in value


flow.stage(add, name="station", after=readings, state=Sum, window=Tumbling(10, grace=1), on_close=closed)
flow.stage(
    note,
    name="region",
    after="station",
    when=lambda value: not is_closed(value),
    key="region",
    state=Sum,
    window=Session(2, grace=1, merge=unite),
    on_close=ended,
)
flow.stage(
    count,
    name="count",
    after="station",
    when=is_closed,
    key="region",
    state=Sum,
    window=Tumbling(60),
    on_close=counted,
)
flow.sink("closed", after="station", when=is_closed, topic=f"{NAME}-closed")
flow.sink("sessions", after="region", topic=f"{NAME}-sessions")
flow.sink("counts", after="count", topic=f"{NAME}-counts")
flow.sink("late", after="station.late", topic=f"{NAME}-late")
flow.sink("never", after=["region.late", "count.late"], topic=f"{NAME}-never")
