"""What the system tests of Kafka Streams compute, in windows of ten seconds of event time.

data ─► echo
     ├─► smallest ─┬─► difference        joined per key and window
     ├─► largest ──┘
     ├─► total ────┬─► mean              joined per key and window
     ├─► number ───┘
     │       └─► counts                  how many windows have had so many events: by another key
     └─► so_far                          every update
"""

from __future__ import annotations

import os
from typing import Any

from reflow_kafka import Flow, State, Tumbling, Window

NAME = os.environ["FLOW_NAME"]

Row = dict[str, Any]

flow = Flow(NAME, partitions=8)
data = flow.source(
    "data", topic=f"{NAME}-data", key="key", timestamp="time", out_of_orderness=2, idle_after=2
)
TEN_SECONDS = Tumbling(10)


@flow.stage(after=data)
def echo(row: Row) -> Row:
    return row


def result(state: State[Any], window: Window) -> Row:
    return {"key": window.key, "window": window.start, "is": state.value}


@flow.stage(after=data, state=lambda: None, window=TEN_SECONDS, on_close=result)
def smallest(state: State[int | None], row: Row) -> None:
    state.value = row["n"] if state.value is None else min(state.value, row["n"])


@flow.stage(after=data, state=lambda: None, window=TEN_SECONDS, on_close=result)
def largest(state: State[int | None], row: Row) -> None:
    state.value = row["n"] if state.value is None else max(state.value, row["n"])


@flow.stage(after=data, state=int, window=TEN_SECONDS, on_close=result)
def total(state: State[int], row: Row) -> None:
    state.value += row["n"]


@flow.stage(after=data, state=int, window=TEN_SECONDS, on_close=result)
def number(state: State[int], row: Row) -> None:
    state.value += 1


@flow.stage(after=data, state=int, window=TEN_SECONDS)
def so_far(state: State[int], row: Row) -> Row:
    state.value += row["n"]
    return {"key": row["key"], "window": row["time"] // 10_000 * 10_000, "is": state.value}


@flow.join(largest, smallest, within=0)
def difference(high: Row, low: Row) -> Row:
    return {**high, "is": high["is"] - low["is"]}


@flow.join(total, number, within=0)
def mean(sum: Row, count: Row) -> Row:
    return {**sum, "is": sum["is"] / count["is"]}


@flow.stage(after=number, key="is", state=int)
def counts(state: State[int], row: Row) -> Row:
    state.value += 1
    return {"key": str(row["is"]), "is": state.value}


for stage in ("echo", "smallest", "largest", "total", "number", "so_far", "difference", "mean", "counts"):
    flow.sink(f"{stage}_out", after=stage, topic=f"{NAME}-{stage}")

for stage in ("smallest", "largest", "total", "number", "so_far", "difference", "mean"):
    flow.sink(f"{stage}_late", after=f"{stage}.late", topic=f"{NAME}-late-{stage}")
