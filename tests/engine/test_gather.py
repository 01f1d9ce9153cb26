"""Split events gathered again by a running flow: complete, given up, too late, exactly once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reflow_kafka import Event, Flow, Reject, Retry
from reflow_kafka.engine.engine import Engine
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.testing import FlowTest
from tests.engine.memory import by_key, error_of, new_log, put, records, run, until_seen, values
from tests.support.waiting import until


def together(parts: list[Any]) -> list[Any]:
    return parts


def splitting(**options: Any) -> Flow:
    """An order is split into its items, which are priced one by one and gathered again."""
    flow = Flow("orders", partitions=2)
    orders = flow.source("orders", topic="orders")

    @flow.stage(after=orders)
    def split(order: dict):  # type: ignore[no-untyped-def,type-arg]
        for n, item in enumerate(order["items"]):
            yield Event({"order": order["id"], "of": len(order["items"]), "n": n, "item": item}, key=item)

    @flow.stage(after=split)
    def price(part: dict) -> dict:  # type: ignore[type-arg]
        if part["item"] == "bad":
            raise Reject("no such item")
        return {**part, "price": len(part["item"])}

    @flow.gather(after=price, key="order", **{"expect": "of", "within": 10, **options})
    def total(parts: list[dict]) -> dict:  # type: ignore[type-arg]
        return {"items": sorted(p["item"] for p in parts), "total": sum(p["price"] for p in parts)}

    flow.sink("out", after=total, topic="out")
    flow.sink("incomplete", after="total.timeout", topic="incomplete")
    return flow


async def test_a_split_event_is_put_together_again() -> None:
    log = await new_log("orders", "out", "incomplete")
    orders = [{"id": f"o{n}", "items": [f"{'x' * (i + 1)}{n}" for i in range(n % 5 + 1)]} for n in range(40)]
    await put(log, "orders", *((order["id"], order) for order in orders))
    await run(log, splitting())
    found = await by_key(log, "out")
    assert found == {
        order["id"]: [{"items": sorted(order["items"]), "total": sum(map(len, order["items"]))}]
        for order in orders
    }
    assert await values(log, "incomplete") == []


async def test_a_dead_letter_leaves_its_set_incomplete() -> None:
    log = await new_log("orders", "out", "incomplete")
    await put(log, "orders", *(
        (key, {"id": key, "items": items}) for key, items in (("o1", ["a", "bad", "bb"]), ("o2", ["c"]))
    ))  # fmt: skip
    await run(log, splitting())
    assert await by_key(log, "out") == {"o2": [{"items": ["c"], "total": 1}]}
    ((key, (parts,)),) = (await by_key(log, "incomplete")).items()
    assert (key, sorted(part["item"] for part in parts)) == ("o1", ["a", "bb"])
    (letter,) = await records(log, "orders.dead-letters")
    assert error_of(letter, "message") == "no such item"


async def test_headers_are_those_of_the_first_part_and_the_time_that_of_the_latest() -> None:
    log = await new_log("left", "right", "out", partitions=1)
    flow = Flow("pairs", partitions=1)
    flow.source("left", topic="left")
    flow.source("right", topic="right")
    seen: list[list[tuple[Any, str, int]]] = []

    @flow.stage(after="left")
    def first(value: dict) -> Event[dict]:  # type: ignore[type-arg]
        return Event(value, headers={"from": b"first"})

    @flow.gather(after=[first, "right"], expect=2, within=10)
    def both(parts: list[Event[dict]]) -> dict:  # type: ignore[type-arg]
        seen.append([(part.value, part.upstream, part.timestamp) for part in parts])
        return {"n": len(parts)}

    flow.sink("out", after=both, topic="out")
    await put(log, "left", ("a", {"l": 1}), timestamp=2_000)
    async with Engine(flow, log=log, state=MemoryBackend()) as engine:
        await until(lambda: engine.statistics().flows["pairs"].stages["both"].events == 1, "the first part")
        await put(log, "right", ("a", {"r": 1}), timestamp=1_000)
        await until_seen(log, "out", 1)
    (result,) = await records(log, "out")
    assert (result.key, result.timestamp, dict(result.headers)) == (b"a", 2_000, {"from": b"first"})
    assert seen == [[({"l": 1}, "first", 2_000), ({"r": 1}, "right", 1_000)]]


async def test_time_gives_sets_up_and_tells_what_is_late() -> None:
    log = await new_log("parts", "out", "incomplete", "late", partitions=1)
    flow = Flow("sets", partitions=1)
    flow.source("parts", topic="parts")
    flow.gather(together, name="sets", after="parts", expect=2, within=0.01)
    flow.sink("out", after="sets", topic="out")
    flow.sink("incomplete", after="sets.timeout", topic="incomplete")
    flow.sink("late", after="sets.late", topic="late")
    for key, value, timestamp in (
        ("a", 1, 100), ("b", 1, 101), ("b", 2, 105), ("b", 3, 106), ("c", 1, 110), ("a", 2, 111),
    ):  # fmt: skip
        await put(log, "parts", (key, value), timestamp=timestamp)
    await run(log, flow)
    assert await by_key(log, "out") == {"b": [[1, 2]]}
    assert await by_key(log, "incomplete") == {"a": [[1]], "c": [[1]]}
    assert await by_key(log, "late") == {"b": [3], "a": [2]}


async def test_the_wall_clock_gives_sets_up_without_traffic() -> None:
    log = await new_log("parts", "incomplete", partitions=1)
    flow = Flow("sets", partitions=1)
    flow.source("parts", topic="parts")
    flow.gather(together, name="sets", after="parts", expect=2, within=0.05, close_on="wall-clock")
    flow.sink("incomplete", after="sets.timeout", topic="incomplete")
    await put(log, "parts", ("a", 1), ("b", 2))
    async with Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "incomplete", 2)
    assert await by_key(log, "incomplete") == {"a": [[1]], "b": [[2]]}


@pytest.mark.parametrize("keep", [True, False])
async def test_sets_outlive_a_restart(keep: bool) -> None:
    log, state = await new_log("parts", "out", partitions=1), MemoryBackend(keep=keep)

    def flow() -> Flow:
        flow = Flow("sets", partitions=1)
        flow.source("parts", topic="parts")
        flow.gather(together, name="sets", after="parts", expect=3, within=10)
        flow.sink("out", after="sets", topic="out")
        return flow

    for n in range(3):
        await put(log, "parts", ("a", f"{n}" * 3_000), ("b", n))
        async with Engine(flow(), log=log, state=state) as engine:
            await until(lambda: engine.statistics().flows["sets"].stages["sets"].events == 2, "both")
    assert await by_key(log, "out") == {"a": [[f"{n}" * 3_000 for n in range(3)]], "b": [[0, 1, 2]]}


async def test_a_set_that_fails_is_tried_again_with_all_its_parts() -> None:
    log = await new_log("parts", "out")
    flow = Flow("sets", partitions=2, retry=Retry(attempts=3, backoff=0.01))
    flow.source("parts", topic="parts")
    tries: list[int] = []

    @flow.gather(after="parts", expect=2, within=10)
    async def sets(parts: list[int]) -> int:
        await asyncio.sleep(0)
        tries.append(sum(parts))
        if len(tries) < 3:
            raise OSError("away")
        return sum(parts)

    flow.sink("out", after=sets, topic="out")
    await put(log, "parts", ("a", 1), ("a", 2))
    await run(log, flow)
    assert (tries, await by_key(log, "out")) == ([3, 3, 3], {"a": [3]})


async def test_parts_that_contradict_their_set_are_dead_letters() -> None:
    log = await new_log("orders", "out", "incomplete")
    flow = Flow("sets", partitions=2)
    flow.source("parts", topic="orders")
    flow.gather(together, name="sets", after="parts", expect=lambda part: part.get("of"), within=10, id="id")
    flow.sink("out", after="sets", topic="out")
    parts = [{"id": 1}, {"id": 2, "of": 3}, {"id": 2, "of": 3}, {"id": 3, "of": 4}, {"id": 4}]
    await put(log, "orders", *(("a", part) for part in parts))
    await run(log, flow)
    assert await by_key(log, "out") == {"a": [[parts[0], parts[1], parts[4]]]}
    (letter,) = await records(log, "sets.dead-letters")
    assert error_of(letter, "message") == "a part says that set 'a' has 4 parts, one before it said 3"


def test_a_request_that_was_split_is_answered_once_by_what_was_gathered() -> None:
    flow = Flow("asked", partitions=2)
    flow.source("orders", topic="orders", key="id")

    @flow.stage(after="orders")
    def split(order: dict):  # type: ignore[no-untyped-def,type-arg]
        for item in order["items"]:
            yield Event({"order": order["id"], "of": len(order["items"]), "item": item}, key=item)

    @flow.gather(after=split, key="order", expect="of", within=10)
    def together(parts: list[dict]) -> list[str]:  # type: ignore[type-arg]
        return sorted(part["item"] for part in parts)

    flow.reply(after=[together, "together.timeout"])
    with FlowTest(flow) as test:
        assert test.request("orders", {"id": "o1", "items": ["c", "a", "b"]}) == ["a", "b", "c"]
        assert test.request("orders", {"id": "o2", "items": ["d"]}) == ["d"]
