"""Joins in running flows: what meets, with topics of different widths, in one run and in several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from reflow_kafka import Context, Event, Flow, Retry
from reflow_kafka.log.api import TopicKind, TopicSpec
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.testing import FlowTest
from tests.engine.memory import by_key, new_log, put, run


async def test_two_streams_of_topics_of_different_widths() -> None:
    log = await new_log("clicks", partitions=3)
    await log.ensure_topics([TopicSpec("shown", 5, TopicKind.EXTERNAL)])
    flow = Flow("ads", partitions=2)
    flow.source("shown", topic="shown", key="ad")
    flow.source("clicks", topic="clicks", key="ad")

    @flow.join("shown", "clicks", how="outer", within=(0, 10))
    def seen(shown: dict[str, Any] | None, click: dict[str, Any] | None) -> Any:
        return [shown and shown["n"], click and click["n"]]

    flow.sink("out", after=seen, topic="out")
    for ad in range(20):
        await put(log, "shown", (None, {"ad": ad, "n": 1}), timestamp=1_000)
        if ad % 2:
            await put(log, "clicks", (None, {"ad": ad, "n": 2}), timestamp=11_000)
        else:
            await put(log, "clicks", (None, {"ad": ad, "n": 2}), timestamp=11_001)
    await run(log, flow)
    out = await by_key(log, "out")
    assert out.keys() == {str(ad) for ad in range(20)}
    for ad, values in out.items():
        alone = [[None, 2], [1, None]]
        assert sorted(values, key=repr) == sorted([[1, 2]] if int(ad) % 2 else alone, key=repr)


@dataclass
class Order:
    customer: str
    total: int


@dataclass
class Customer:
    name: str


@pytest.mark.parametrize("as_of", ["event-time", "latest"])
async def test_a_stream_and_a_table_by_the_key_of_the_row(as_of: Any) -> None:
    log = await new_log("orders", "customers")
    flow = Flow("shop", partitions=2)
    orders = flow.source("orders", topic="orders", type=Order)
    customers = flow.table("customers", topic="customers", type=Customer)

    @flow.join(orders, customers, how="left", on="customer", as_of=as_of)
    def priced(order: Order, customer: Customer | None, ctx: Context) -> Any:
        assert isinstance(order, Order)
        assert customer is None or isinstance(customer, Customer)
        return [order.total, customer and customer.name, ctx.timestamp]

    flow.sink("out", after=priced, topic="out")
    state = MemoryBackend()
    await put(log, "customers", ("a", {"name": "Ann"}), ("b", {"name": "Bob"}), timestamp=1)
    await put(log, "customers", ("b", None), timestamp=2)
    await run(log, flow, state=state)
    for n, customer in enumerate("abc"):
        await put(log, "orders", (f"o{n}", {"customer": customer, "total": n}), timestamp=5)
    await run(log, flow, state=state)
    assert await by_key(log, "out") == {"a": [[0, "Ann", 5]], "b": [[1, None, 5]], "c": [[2, None, 5]]}


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("as_of", ["event-time", "latest"])
def test_an_event_that_asks_for_no_row_finds_none(how: Any, as_of: Any) -> None:
    flow = Flow("shop", partitions=2)
    orders = flow.source("orders", topic="orders")
    prices = flow.table("prices", topic="prices")

    @flow.join(orders, prices, how=how, on="item", as_of=as_of)
    def priced(order: Any, price: Any) -> Any:
        return [order["n"], price]

    with FlowTest(flow) as test:
        test.send("prices", 4.5, key="tea", timestamp=2_000)
        for n, (item, at) in enumerate([("tea", 5_000), (None, 5_000), (None, 1_000), ("cup", 5_000)]):
            test.send("orders", {"n": n, "item": item}, key="o", timestamp=at)
        test.send("orders", None, timestamp=5_000)
        test.end()
        found = [(*event.value, event.key_bytes, event.timestamp) for event in test.events("priced")]
        assert test.dead_letters() == []
    alone = [(1, None, None, 5_000), (2, None, None, 1_000), (3, None, b"cup", 5_000)]
    assert sorted(found) == [(0, 4.5, b"tea", 5_000), *(alone if how == "left" else [])]


async def test_two_tables_whose_result_is_one() -> None:
    log = await new_log("names", "ages", "towns")
    flow = Flow("people", partitions=2)
    names = flow.table("names", topic="names")
    ages = flow.table("ages", topic="ages")
    flow.source("moves", topic="towns")

    @flow.stage(after="moves")
    def town(value: Any) -> Event[Any]:
        return Event(None if value == "nowhere" else value)

    towns = flow.table("towns", after=town)

    @flow.join(names, ages, how="outer")
    def person(name: Any, age: Any) -> Any:
        return [name, age]

    @flow.join(person, towns)
    def settled(person: Any, town: Any) -> Any:
        return [*person, town]

    flow.sink("out", after=settled, topic="out")
    state = MemoryBackend()
    for topic, key, value in [
        ("names", "a", "Ann"), ("towns", "a", "Bonn"), ("ages", "a", 7), ("ages", "a", None),
        ("towns", "a", "nowhere"), ("names", "a", None), ("towns", "a", "Köln"),
    ]:  # fmt: skip
        await put(log, topic, (key, value))
        await run(log, flow, state=state)
    assert await by_key(log, "out") == {
        "a": [["Ann", None, "Bonn"], ["Ann", 7, "Bonn"], ["Ann", None, "Bonn"], None]
    }


@pytest.mark.parametrize("how", ["inner", "left"])
async def test_a_table_whose_rows_refer_to_another(how: Any) -> None:
    log = await new_log("employees", "offices")
    flow = Flow("company", partitions=3)
    employees = flow.table("employees", topic="employees")
    offices = flow.table("offices", topic="offices", type=Customer)

    @flow.join(employees, offices, how=how, on="office")
    def placed(employee: Any, office: Customer | None) -> Any:
        return [employee["office"], office and office.name]

    flow.sink("out", after=placed, topic="out")
    state = MemoryBackend()
    for topic, key, value in [
        ("employees", "e", {"office": "o1"}), ("offices", "o1", {"name": "One"}),
        ("employees", "e", {"office": "o2"}), ("offices", "o2", {"name": "Two"}),
        ("offices", "o2", {"name": "2"}), ("employees", "f", {"office": "o2"}), ("offices", "o2", None),
        ("employees", "e", {"office": None}), ("employees", "e", None), ("employees", "f", None),
    ]:  # fmt: skip
        await put(log, topic, (key, value))
        await run(log, flow, state=state)
    inner = {"e": [["o1", "One"], None, ["o2", "Two"], ["o2", "2"], None], "f": [["o2", "2"], None]}
    left = {
        "e": [["o1", None], ["o1", "One"], ["o2", None], ["o2", "Two"], ["o2", "2"], ["o2", None],
              [None, None], None],
        "f": [["o2", "2"], ["o2", None], None],
    }  # fmt: skip
    assert await by_key(log, "out") == (inner if how == "inner" else left)


@pytest.mark.parametrize("caught", [False, True])
def test_a_row_whose_reference_fails_is_an_error_of_the_first_stage(caught: bool) -> None:
    """What a function gives for it, as for what fails in the handler, would be no reference."""
    flow = Flow("company", on_error=lambda error, event: "of the flow")
    people = flow.table("people", topic="people")
    towns = flow.table("towns", topic="towns")

    @flow.join(
        people, towns, on="town", retry=Retry(1), on_error=lambda error, event: f"{event.key}: {error}"
    )
    def placed(person: Any, town: Any) -> Any:
        raise ValueError("nobody lives there")

    @flow.join(people, towns, on="town", on_error="skip")
    def skipped(person: Any, town: Any) -> Any: ...

    if caught:
        flow.sink("lost", after=flow["placed_references"].output("error"), topic="lost")
    with FlowTest(flow) as test:
        test.send("towns", {}, key="oslo")
        test.send("people", {"town": "oslo"}, key="7")
        test.send("people", {"name": "Ann"}, key="7")
        assert test.outputs("placed") == ["7: nobody lives there"]
        if caught:
            assert test.outputs("lost") == [{"name": "Ann"}]
        letters = [(letter.stage, letter.message, letter.value) for letter in test.dead_letters()]
    missing = "the key is missing: found fields name, wanted town"
    assert letters == ([] if caught else [("placed_references", missing, {"name": "Ann"})])


@pytest.mark.parametrize("table_first", [False, True])
async def test_topics_that_are_partitioned_alike_are_read_in_order(table_first: bool) -> None:
    """Whatever there is of either when the flow starts: each order meets the price of its time."""
    log = await new_log("orders", "prices")
    flow = Flow("shop", partitions=2)
    flow.source("orders", topic="orders")
    flow.table("prices", topic="prices")

    @flow.join("orders", "prices", how="left", as_of="latest", copartitioned=True)
    def priced(order: Any, price: Any) -> Any:
        return [order, price]

    flow.sink("out", after=priced, topic="out")
    orders = [("ab"[at % 2], at) for at in range(1_000, 1_900)]
    prices = [(key, at) for key, at in orders if at % 3 == 0]
    for topic, events in sorted({"orders": orders, "prices": prices}.items(), reverse=table_first):
        for key, at in events:
            await put(log, topic, (key, at), timestamp=at)
    state = MemoryBackend()
    await run(log, flow, state=state)
    wanted: dict[str, list[Any]] = {"a": [], "b": []}
    for key, at in orders:
        wanted[key].append([at, max((p for k, p in prices if k == key and p <= at), default=None)])
    assert await by_key(log, "out") == wanted
    assert await log.partition_counts(["shop.orders.priced"]) == {"shop.orders.priced": None}
