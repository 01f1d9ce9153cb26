"""Two stages with a rate, one of which takes batches in processes: when each event began."""

from __future__ import annotations

import os
import time
from typing import Any

from reflow_kafka import Batch, Flow, Rate

NAME = os.environ["FLOW_NAME"]
RATE = Rate(400)

flow = Flow(NAME, partitions=8)
events = flow.source("events", topic=f"{NAME}-events")


@flow.stage(after=events, rate=RATE)
def single(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "began": time.time(), "by": os.getpid()}


@flow.stage(after=events, rate=RATE, batch=Batch(20, within=0.05), run_in="process")
def batched(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**event, "began": time.time(), "by": os.getppid()} for event in given]


for stage in (single, batched):
    flow.sink(f"{stage.__name__}_out", after=stage, topic=f"{NAME}-{stage.__name__}")
