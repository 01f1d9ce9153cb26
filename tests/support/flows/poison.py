"""A running sum per key, whose handler changes its state and then fails for some events."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from reflow_kafka import Flow

NAME = os.environ["FLOW_NAME"]

flow = Flow(NAME, partitions=8)
numbers = flow.source("numbers", topic=f"{NAME}-numbers")


class Poison(Exception):
    """What is wrong with a bad event."""


@dataclass
class Sum:
    total: int = 0
    seen: list[int] = field(default_factory=list)


@flow.stage(after=numbers, state=Sum)
def add(sums: Sum, event: dict[str, Any]) -> dict[str, Any]:
    sums.total += event["n"]
    sums.seen = [*sums.seen, event["n"]][-3:]
    if event["n"] % 100 == 0:
        raise Poison(f"{event['n']} is poison")
    return {"n": event["n"], "total": sums.total, "seen": sums.seen}


flow.sink("sums", after=add, topic=f"{NAME}-sums")
