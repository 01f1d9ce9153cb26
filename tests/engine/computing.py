"""A flow whose handler runs in processes, which therefore import it from here."""

from __future__ import annotations

import time
from typing import Any

from reflow_kafka import Context, Flow, Retry, State


def work(total: State[int], number: int, ctx: Context) -> dict[str, Any]:
    time.sleep(0.001)
    total.value += 1
    return {"key": ctx.key, "number": number, "count": total.value}


def computing() -> Flow:
    flow = Flow("computing", partitions=2)
    numbers = flow.source("numbers", topic="numbers")
    stage = flow.stage(
        work, after=numbers, state=int, run_in="process", timeout=30, retry=Retry(20, backoff=0.05)
    )
    flow.sink("out", after=stage, topic="out")
    return flow
