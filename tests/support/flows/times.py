"""Event times as they come: through an edge, a state, and out into a topic."""

from __future__ import annotations

import os
from typing import Any

from reflow_kafka import Flow, State

NAME = os.environ["FLOW_NAME"]

flow = Flow(NAME, partitions=8)
events = flow.source("events", topic=f"{NAME}-events", key="key")


@flow.stage(after=events, state=lambda: 0)
def number(seen: State[int], event: dict[str, Any]) -> dict[str, Any]:
    seen.value += 1
    return {**event, "seen": seen.value}


flow.sink("out", after=number, topic=f"{NAME}-out")
