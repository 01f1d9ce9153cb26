"""Orders split and gathered again, two sides zipped, aggregations in windows and from the beginning on.

orders ─► split ─► price ─► total          gathered by order, after parts went by item
      ├─► left, right ─► pair              zipped by customer
      ├─► spent                            a running aggregate
      ├─► busy                             windows, told of when they are closed
      └─► last                             a fold
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from reflow_kafka import Event, Flow, Reject, Tumbling
from reflow_kafka.aggregations import Collect, Count, Sum

NAME = os.environ["FLOW_NAME"]

Row = dict[str, Any]

flow = Flow(NAME, partitions=8)
orders = flow.source("orders", topic=f"{NAME}-orders", timestamp="at")


@flow.stage(after=orders)
def split(order: Row) -> Iterator[Event[Row]]:
    for n, item in enumerate(order["items"]):
        yield Event({"order": order["id"], "of": len(order["items"]), "n": n, "item": item}, key=item)


@flow.stage(after=split)
def price(part: Row) -> Row:
    if part["item"] == "bad":
        raise Reject("no such item")
    return {**part, "price": len(part["item"])}


@flow.gather(after=price, key="order", expect="of", within=3600)
def total(parts: list[Row]) -> Row:
    return {"parts": sorted(part["n"] for part in parts), "total": sum(part["price"] for part in parts)}


@flow.stage(after=orders)
def left(order: Row) -> int:
    return order["n"]  # type: ignore[no-any-return]


@flow.stage(after=orders)
def right(order: Row) -> int:
    return order["n"] * 10  # type: ignore[no-any-return]


@flow.zip(after=[left, right], limit=20)
def pair(left: int, right: int) -> list[int]:
    return [left, right]


flow.aggregate("spent", after=orders, of={"orders": Count(), "sum": Sum("id")})
flow.aggregate("busy", after=orders, window=Tumbling(1), of={"all": Collect("n")})


@flow.reduce(after=orders)
def last(before: Row, order: Row) -> Row:
    return {**order, "n": before["n"] + 1}


flow.sink("totals", after=total, topic=f"{NAME}-totals")
flow.sink("incomplete", after="total.timeout", topic=f"{NAME}-incomplete")
flow.sink("pairs", after=pair, topic=f"{NAME}-pairs")
flow.sink("spendings", after="spent", topic=f"{NAME}-spent")
flow.sink("windows", after="busy", topic=f"{NAME}-busy")
flow.sink("lasts", after=last, topic=f"{NAME}-last")
flow.sink("odd", after=["busy.late", "total.late", "pair.timeout"], topic=f"{NAME}-odd")
