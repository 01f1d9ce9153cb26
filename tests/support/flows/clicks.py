"""Windows two hops away from a source most of whose partitions have no traffic."""

from __future__ import annotations

import os
from typing import Any

from reflow_kafka import Flow, State, Tumbling, Window

NAME = os.environ["FLOW_NAME"]

flow = Flow(NAME, partitions=4)
clicks = flow.source("clicks", topic=f"{NAME}-clicks", idle_after=3)


@flow.stage(after=clicks)
def seen(click: dict[str, Any]) -> dict[str, Any]:
    return click


def close(count: State[int], window: Window) -> dict[str, Any]:
    return {"from": window.start, "clicks": count.value}


@flow.stage(after=seen, key="page", window=Tumbling(10), state=lambda: 0, on_close=close)
def count(count: State[int], click: dict[str, Any]) -> None:
    count.value += 1


flow.sink("counted", after=count, topic=f"{NAME}-counted")
flow.sink("late", after="count.late", topic=f"{NAME}-late")
