"""A flow that answers; what it answers with shows what happened to the request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reflow_kafka import Event, Flow, Reject, State


@dataclass
class Order:
    item: str
    pieces: int = 1


@dataclass
class Bill:
    item: str
    total: int
    nth: int
    """Which order of this item it was."""
    at: datetime


def shop(name: str, topic: str = "orders") -> Flow:
    """Orders are counted per item, priced, and answered; some fail, some are never answered."""
    flow = Flow(name, partitions=4)
    orders = flow.source("orders", topic=topic, type=Order, key="item")

    @flow.stage(after=orders, state=int, outputs=["forgotten"])
    def count(seen: State[int], event: Event[Order | None]) -> Event[dict[str, Any]] | Event[None] | None:
        order = event.value
        if order is None:
            seen.clear()
            return Event(None, to="forgotten")
        if order.pieces < 0:
            raise Reject(f"{order.pieces} pieces")
        seen.value += 1
        if order.item == "silent":
            return None
        return event.replace({"item": order.item, "pieces": order.pieces, "nth": seen.value})

    @flow.stage(after=count)
    async def price(event: Event[dict[str, Any]]) -> AsyncIterator[Bill]:
        order = event.value
        if order["item"] == "slow":
            await asyncio.sleep(order["pieces"])
        bill = Bill(order["item"], 3 * order["pieces"], order["nth"], event.time)
        yield bill
        yield bill  # a second answer counts for nothing

    flow.reply(after=[price, "count.forgotten"])
    flow.sink("bills", after=price, topic=f"{topic}-bills")
    return flow
