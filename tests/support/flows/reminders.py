"""A stage with a state, timers and a store: each event sets a timer, some take one back."""

from __future__ import annotations

import os
from typing import Any

from reflow_kafka import Context, Flow, Timer

FAR = 3600
NAME = os.environ["FLOW_NAME"]

flow = Flow(NAME, partitions=8)
notes = flow.source("notes", topic=f"{NAME}-notes")


def remind(state: dict[str, int], timer: Timer, ctx: Context) -> dict[str, int]:
    id, kept = int(timer.name), ctx.store("open")
    if kept.get(f"{ctx.key}/{id}") != id:
        raise AssertionError(f"timer {id} fires, and its note is not open")
    kept.delete(f"{ctx.key}/{id}")
    state["reminded"] = state.get("reminded", 0) + 1
    return {"id": id, "reminded": state["reminded"]}


@flow.stage(after=notes, state=dict, stores={"open": int}, on_timer=remind)
def take(state: dict[str, int], note: dict[str, Any], ctx: Context) -> dict[str, int]:
    id, kept = note["id"], ctx.store("open")
    kept.put(f"{ctx.key}/{id}", id if note["delay"] < FAR else -1)
    ctx.timer(f"{id:06}", clock="wall-clock", delay=note["delay"])
    if (other := note["cancels"]) is not None:
        ctx.cancel_timer(f"{other:06}")
        kept.delete(f"{ctx.key}/{other}")
    state["n"] = state.get("n", 0) + 1
    state["sum"] = state.get("sum", 0) + id
    far = [key for key, value in kept.range(prefix=f"{ctx.key}/") if value == -1]
    return {"id": id, "n": state["n"], "sum": state["sum"], "far": len(far)}


flow.sink("taken", after=take, when=lambda found: "n" in found, topic=f"{NAME}-taken")
flow.sink("reminded", after=take, when=lambda found: "reminded" in found, topic=f"{NAME}-reminded")
