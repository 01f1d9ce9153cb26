"""Four stages with state, re-keyed at each hop, the first with many events in progress; each shows its fold.

The last one has windows: an event is noted in one, which closes once, or it is late.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from reflow_kafka import Context, Event, Flow, Tumbling, Window

NAME = os.environ["FLOW_NAME"]
ROUND = 50
"""A group begins anew after so many events: its state is deleted."""

flow = Flow(NAME, partitions=6)
# Never idle: so it is known how far time may have come, whatever is away for however long.
orders = flow.source("orders", topic=f"{NAME}-orders", out_of_orderness=15, idle_after=3600)


@flow.stage(after=orders, state=dict, concurrency=16)
async def look_up(state: dict[str, int], order: dict[str, Any]) -> dict[str, Any]:
    """A service that takes a few milliseconds; half of a change is visible while it does."""
    before = state.get("last", -1)
    state["last"] = order["id"]
    await asyncio.sleep(random.expovariate(1 / 0.004))
    state["n"] = state.get("n", 0) + 1
    return {**order, "customer_n": state["n"], "customer_before": before}


@flow.stage(after=look_up, key="group", state=dict)
def count(state: dict[str, int], order: dict[str, Any], ctx: Context) -> dict[str, Any]:
    before = state.get("last", -1)
    state["last"] = order["id"]
    state["n"] = state.get("n", 0) + 1
    state["sum"] = state.get("sum", 0) + order["id"]
    if state["n"] == ROUND:
        ctx.clear_state()
    return {**order, "group_n": state["n"], "group_sum": state["sum"], "group_before": before}


@flow.stage(after=count, key="customer", state=dict)
def total(state: dict[str, int], order: dict[str, Any]) -> dict[str, Any]:
    before = state.get("last", -1)
    state["last"] = order["id"]
    state["sum"] = state.get("sum", 0) + order["group_sum"]
    return {**order, "total_sum": state["sum"], "total_before": before}


def close(ids: list[int], window: Window) -> Event[dict[str, Any]]:
    return Event({"start": window.start, "ids": ids}, to="closed")


@flow.stage(
    after=count,
    key="customer",
    state=list,
    window=Tumbling(5, grace=10),
    on_close=close,
    outputs=["closed"],
)
def note(ids: list[int], order: dict[str, Any]) -> dict[str, Any]:
    """Which event was the how manieth of its window."""
    ids.append(order["id"])
    return {**order, "window_n": len(ids)}


flow.sink("looked", after=look_up, topic=f"{NAME}-looked")
flow.sink("counted", after=count, topic=f"{NAME}-counted")
flow.sink("totalled", after=total, topic=f"{NAME}-totalled")
flow.sink("noted", after=note, topic=f"{NAME}-noted")
flow.sink("closed", after="note.closed", topic=f"{NAME}-closed")
flow.sink("late", after="note.late", topic=f"{NAME}-late")
