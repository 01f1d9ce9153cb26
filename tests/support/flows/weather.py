"""Moving averages per station, and alerts: re-keyed source, state, an async stage, two topic sinks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from reflow_kafka import Flow

NAME = os.environ["FLOW_NAME"]

flow = Flow(NAME, partitions=8)
readings = flow.source("readings", topic=f"{NAME}-readings", key="station")


@dataclass
class Last24:
    temps: list[float] = field(default_factory=list)


@flow.stage(after=readings, state=Last24)
def average(last: Last24, reading: dict[str, Any]) -> dict[str, Any]:
    last.temps = [*last.temps, reading["temp_f"]][-24:]
    return {**reading, "average": sum(last.temps) / len(last.temps)}


@flow.stage(after=average, when=lambda r: r["temp_f"] > r["average"] + 15)
async def alert(reading: dict[str, Any]) -> dict[str, Any]:
    return {"station": reading["station"], "n": reading["n"]}


flow.sink("averages", after=average, topic=f"{NAME}-averages")
flow.sink("alerts", after=alert, topic=f"{NAME}-alerts")
