"""Stages that read topics of others, or remember for a time.

events ─► once ─► asof             duplicates are dropped; each event meets the row of its time
            └───► near             and is told of with those close to it
orders, labels ─► direct           the same with topics that are read as they are
asks, countries ─► named           what each engine holds as a whole; how often, forgotten after a time
clock ─► firings
"""

from __future__ import annotations

import os
from typing import Any

from reflow_kafka import Flow, Sliding, Table, Window

KEPT = 8
"""Seconds for which it is known how often a key has asked."""
EVERY = 2
"""Seconds between firings."""
NAME = os.environ["FLOW_NAME"]

Row = dict[str, Any]

flow = Flow(NAME, partitions=8)
events = flow.source("events", topic=f"{NAME}-events", timestamp="at", idle_after=1)
rows = flow.table("rows", topic=f"{NAME}-rows", timestamp="at")
orders = flow.source("orders", topic=f"{NAME}-orders")
labels = flow.table("labels", topic=f"{NAME}-labels")
asks = flow.source("asks", topic=f"{NAME}-asks")
flow.global_table("countries", topic=f"{NAME}-countries", type=dict)

once = flow.dedupe("once", after=events, key="key", by="id", within=3600)


@flow.join(once, rows, how="left")
def asof(event: Row, row: Row | None) -> list[Any]:
    return [event["id"], row and row["id"]]


@flow.join(orders, labels, how="left", as_of="latest", copartitioned=True)
def direct(order: Row, label: Row | None) -> list[Any]:
    return [order["id"], label and label["id"]]


def told(held: list[int], window: Window) -> list[int]:
    return held


@flow.stage(after=once, window=Sliding(0.15), state=list, on_close=told)
def near(held: list[int], event: Row) -> None:
    held.append(event["id"])


@flow.stage(after=asks, state=dict, ttl=KEPT)
def named(state: dict[str, int], ask: Row, *, countries: Table[Row]) -> list[Any]:
    state["asked"] = state.get("asked", 0) + 1
    country = countries.get(ask["code"])
    return [ask["id"], state["asked"], country and country["name"]]


flow.sink("asofs", after=asof, topic=f"{NAME}-asof")
flow.sink("directs", after=direct, topic=f"{NAME}-direct")
flow.sink("nears", after=near, topic=f"{NAME}-near")
flow.sink("names", after=named, topic=f"{NAME}-named")
flow.sink("odd", after=["asof.late", "near.late"], topic=f"{NAME}-odd")
flow.sink("duplicates", after="once.duplicate", topic=f"{NAME}-duplicates")
flow.sink(
    "firings",
    after=flow.source("clock", cron=f"*/{EVERY} * * * * *", missed="all"),
    topic=f"{NAME}-firings",
)
