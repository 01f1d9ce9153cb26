"""Two stages with many events in progress, re-keyed in between; each event says how its calls go (`fate`)."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from reflow_kafka import Context, Flow, Reject, Retry, RetryLater

NAME = os.environ["FLOW_NAME"]
TIMEOUT = 1.0

flow = Flow(NAME, partitions=8, retry=Retry(3, backoff=0.02, max_backoff=0.1))
calls = flow.source("calls", topic=f"{NAME}-calls", key="key")


async def ask(stage: str, call: dict[str, Any], attempt: int) -> None:
    """A service that takes a few milliseconds, and fails as the event says."""
    await asyncio.sleep(random.expovariate(1 / 0.004))
    if call["at"] != stage:
        return
    match call["fate"]:
        case "fails once" if attempt < 2:
            raise ConnectionError("once")
        case "fails twice" if attempt < 3:
            raise ConnectionError("twice")
        case "fails":
            raise ConnectionError("for ever")
        case "hangs once" if attempt < 2:
            await asyncio.sleep(60)
        case "hangs":
            await asyncio.sleep(60)
        case "waits" if random.random() < 0.5:
            raise RetryLater(0.03)
        case "is bad":
            raise Reject("no good")
        case _:
            return


@flow.stage(after=calls, concurrency=100, timeout=TIMEOUT)
async def look_up(call: dict[str, Any], ctx: Context) -> dict[str, Any]:
    await ask("look_up", call, ctx.attempt)
    return call


@flow.stage(after=look_up, key="group", state=dict, concurrency=100, timeout=TIMEOUT)
async def tally(state: dict[str, int], call: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Each output tells what was processed before it; half of a change is visible while it waits."""
    before = state.get("last", -1)
    state["last"] = call["id"]
    await ask("tally", call, ctx.attempt)
    state["count"] = state.get("count", 0) + 1
    state["sum"] = state.get("sum", 0) + call["id"]
    return {**call, "before": before, **state}


flow.sink("looked", after=look_up, topic=f"{NAME}-looked")
flow.sink("tallied", after=tally, topic=f"{NAME}-tallied")
