"""All the ways in which a stage may run, in rows from one source; each event says where it fails, and how.

events ─► stamp ─► look ─► tally ─► note        batches, threads; re-keyed: processes with state, chained
      ├─► digest ─► meter ─► trail              processes; re-keyed: a rate with state, chained
      └─► pack                                  batches of one key with state, in threads
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from typing import Any

from reflow_kafka import Batch, Context, Flow, Rate, Reject, Retry

NAME = os.environ["FLOW_NAME"]
LONGEST = 3.0

Event = dict[str, Any]

flow = Flow(NAME, partitions=8, retry=Retry(3, backoff=0.02, max_backoff=0.1))
events = flow.source("events", topic=f"{NAME}-events", key="key")


def suffer(event: Event, ctx: Context) -> None:
    """What is wrong with the event, if this is the stage for it."""
    if event["at"] != ctx.stage:
        return
    match event["fate"]:
        case "fails once" if ctx.attempt < 2:
            raise ConnectionError("once")
        case "fails":
            raise ConnectionError("for ever")
        case "is bad":
            raise Reject("no good")
        case "ends its process once" if ctx.attempt < 2:
            os._exit(1)
        case "ends its process":
            os._exit(1)
        case "hangs once" if ctx.attempt < 2:
            time.sleep(60)
        case "hangs":
            time.sleep(60)
        case _:
            return


def fold(state: dict[str, int], event: Event, ctx: Context) -> Event:
    """Tell what was processed before it; half of the change is made when it fails."""
    before = state.get("last", -1)
    state["last"] = event["id"]
    state["count"] = state.get("count", 0) + 1
    suffer(event, ctx)
    state["sum"] = state.get("sum", 0) + event["id"]
    return {**event, "before": before, **state}


@flow.stage(after=events, batch=Batch(40, within=0.05), concurrency=4)
async def stamp(given: list[Event], ctx: Context) -> list[Event]:
    await asyncio.sleep(random.expovariate(1 / 0.004))
    for event in given:
        suffer(event, ctx)
    return [{**event, "stamp": event["id"] * 3} for event in given]


@flow.stage(after=stamp, run_in="thread", concurrency=8, timeout=LONGEST)
def look(event: Event, ctx: Context) -> Event:
    time.sleep(random.expovariate(1 / 0.001))
    suffer(event, ctx)
    return event


@flow.stage(after=look, key="group", state=dict, run_in="process", timeout=LONGEST)
def tally(state: dict[str, int], event: Event, ctx: Context) -> Event:
    return fold(state, event, ctx)


@flow.stage(after=tally, state=dict, chain=True)
def note(state: dict[str, int], event: Event, ctx: Context) -> Event:
    return fold(state, event, ctx)


@flow.stage(after=events, run_in="process", timeout=LONGEST)
def digest(event: Event, ctx: Context) -> Event:
    suffer(event, ctx)
    return {**event, "digest": hashlib.sha256(str(event["id"]).encode()).hexdigest()}


@flow.stage(after=digest, key="group", state=dict, rate=Rate(3000))
def meter(state: dict[str, int], event: Event, ctx: Context) -> Event:
    return fold(state, event, ctx)


@flow.stage(after=meter, state=dict, chain=True)
def trail(state: dict[str, int], event: Event, ctx: Context) -> Event:
    return fold(state, event, ctx)


@flow.stage(
    after=events, state=dict, batch=Batch(10, within=0.05, per_key=True), run_in="thread", concurrency=4
)
def pack(state: dict[str, int], given: list[Event], ctx: Context) -> list[Event]:
    return [fold(state, event, ctx) for event in given]


for stage in (look, tally, note, meter, trail, pack):
    flow.sink(f"{stage.__name__}_out", after=stage, topic=f"{NAME}-{stage.__name__}")
