"""Three stages with state, re-keyed twice, the first with many events in progress; each shows its fold."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from reflow_kafka import Context, Flow

NAME = os.environ["FLOW_NAME"]
ROUND = 50
"""A group begins anew after so many events: its state is deleted."""

flow = Flow(NAME, partitions=6)
orders = flow.source("orders", topic=f"{NAME}-orders")


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


flow.sink("looked", after=look_up, topic=f"{NAME}-looked")
flow.sink("counted", after=count, topic=f"{NAME}-counted")
flow.sink("totalled", after=total, topic=f"{NAME}-totalled")
