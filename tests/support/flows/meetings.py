"""All kinds of joins, fed from one topic.

events ─► shows, clicks ─► seen                  streams, outer
       ├─► orders, prices ─► bill                a stream and a table as of the event's time
       ├─► people, phones ─► entry ─► address    two tables; a table and what its rows refer to
       └─► towns ────────────────────┘
"""

from __future__ import annotations

import os
from typing import Any

from reflow_kafka import Event, Flow

NAME = os.environ["FLOW_NAME"]

Row = dict[str, Any]

flow = Flow(NAME, partitions=8)
events = flow.source("events", topic=f"{NAME}-events", timestamp="at")


def of(kind: str) -> Any:
    return lambda event: event["kind"] == kind


def same(event: Row) -> Row:
    return event


def row(event: Row) -> Event[Any]:
    return Event(None if event.get("gone") else event)


shows = flow.stage(same, name="shows", after=events, when=of("show"))
clicks = flow.stage(same, name="clicks", after=events, when=of("click"))
orders = flow.stage(same, name="orders", after=events, when=of("order"))
prices = flow.table("prices", after=flow.stage(row, name="price_rows", after=events, when=of("price")))
people = flow.table("people", after=flow.stage(row, name="person_rows", after=events, when=of("person")))
phones = flow.table("phones", after=flow.stage(row, name="phone_rows", after=events, when=of("phone")))
towns = flow.table("towns", after=flow.stage(row, name="town_rows", after=events, when=of("town")))


@flow.join(shows, clicks, how="outer", within=(0.1, 0.2))
def seen(show: Row | None, click: Row | None) -> list[Any]:
    return [show and show["id"], click and click["id"]]


@flow.join(orders, prices, how="left", on="item")
def bill(order: Row, price: Row | None) -> list[Any]:
    return [order["id"], price and price["id"]]


@flow.join(people, phones, how="left")
def entry(person: Row, phone: Row | None) -> Row:
    return {"ids": [person["id"], phone and phone["id"]], "town": person["town"]}


@flow.join(entry, towns, how="inner", on="town")
def address(entry: Row, town: Row) -> list[Any]:
    return [*entry["ids"], town["id"]]


flow.sink("views", after=seen, topic=f"{NAME}-seen")
flow.sink("bills", after=bill, topic=f"{NAME}-bills")
flow.sink("addresses", after=address, topic=f"{NAME}-addresses")
flow.sink("odd", after=["seen.late", "bill.late"], topic=f"{NAME}-odd")
