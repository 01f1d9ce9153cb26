"""Requests as the flow sees them: events whose headers say where an answer is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from reflow_kafka import ConnectorContext, Event, Flow, Reject
from reflow_kafka.lane.env import Guarantee
from reflow_kafka.log.api import OutRecord, Record, TopicPartition
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.topology.replies import CORRELATION_ID, REPLY_FROM, REPLY_TO, reply_address
from tests.engine.memory import error_of, new_log, put, records, run


async def ask(log: MemoryLog, *values: object, flow: str = "f", partition: int = 1) -> None:
    for n, value in enumerate(values):
        headers = [(CORRELATION_ID, b"%d" % n), (REPLY_TO, reply_address(f"{flow}.replies", partition))]
        await log.publish("in", 0, [OutRecord(b"k", orjson.dumps(value), 1_000, headers)])


async def answers(log: MemoryLog) -> dict[int, Any]:
    """By the number of the request; of an error its type, stage and message."""
    found: dict[int, Any] = {}
    for record in await records(log, "f.replies"):
        number = int(dict(record.headers)[CORRELATION_ID] or b"")
        assert number not in found, "answered once"
        found[number] = answer(record)
    return found


def answer(record: Record) -> Any:
    headers = dict(record.headers)
    if REPLY_FROM in headers:
        return None if record.value is None else orjson.loads(record.value)
    assert record.value is None
    return tuple(error_of(record, fact) for fact in ("type", "stage", "message"))


def pricing() -> Flow:
    """Two stages, an edge between them; some of what they are asked fails."""
    flow = Flow("f", partitions=2)

    @flow.stage(after=flow.source("orders", topic="in"))
    def check(order: dict[str, Any]) -> dict[str, Any] | Event[None]:
        if "item" not in order:
            raise Reject("no item")
        return order if order["item"] else Event(None)

    @flow.stage(after=check, key="item")
    async def price(order: dict[str, Any] | None) -> Any:
        await asyncio.sleep(0)
        match order:
            case None:
                return Event(None)
            case {"item": "huge"}:
                return "x" * 2_000_000
            case {"item": "odd"}:
                return object()
            case {"item": "silent"}:
                return None
        return {"price": len(order["item"])}

    flow.reply(after=price)
    flow.sink("prices", after=price, topic="out")
    return flow


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
async def test_each_request_is_answered_with_its_result_or_its_error(guarantee: Guarantee) -> None:
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", ("k", {"item": "nobody asks"}))
    await ask(log, {"item": "pen"}, {}, {"item": "huge"}, {"item": "odd"}, {"item": "silent"}, {"item": ""})
    await run(log, pricing(), guarantee=guarantee)
    found = await answers(log)
    assert found.pop(2) == (
        "reflow_kafka.lane.outbox.OversizedOutput",
        "price",
        "result of 2,000,006 bytes, limit 1,000,000: emit a reference to it, or split it",
    )
    kind, stage, message = found.pop(3)
    assert (kind, stage) == ("reflow_kafka.serde.json.EncodeError", "price")
    assert "object" in message
    assert found == {0: {"price": 3}, 1: ("reflow_kafka.errors.Reject", "check", "no item"), 5: None}
    assert {r.offset for r in await records(log, "f.replies")} == set(range(5))
    ends = await log.end_offsets([TopicPartition("f.replies", p) for p in range(2)])
    assert list(ends.values()) == [0, 5], "in the partition asked for"
    assert len(await records(log, "f.dead-letters")) == 3
    await log.stop()


async def test_an_answer_has_the_headers_key_and_time_of_its_event() -> None:
    log = await new_log("in", "out", partitions=1)
    await ask(log, {"item": "pen"})
    await run(log, pricing())
    (record,) = await records(log, "f.replies")
    assert (record.key, record.timestamp, dict(record.headers)[REPLY_FROM]) == (b"pen", 1_000, b"price")
    await log.stop()


async def test_requests_to_other_flows_pass_through(caplog: pytest.LogCaptureFixture) -> None:
    log = await new_log("in", "out", partitions=1)
    await ask(log, {"item": "pen"}, {}, flow="other")
    await run(log, pricing())
    assert await records(log, "f.replies") == []
    assert len(await records(log, "out")) == 1
    assert (await log.partition_counts(["other.replies"]))["other.replies"] is None
    assert "answers only in f.replies" in caplog.text
    await log.stop()


async def test_an_error_that_is_followed_is_no_failure() -> None:
    """What follows "error" may answer for it."""
    flow = Flow("f", partitions=2)

    @flow.stage(after=flow.source("orders", topic="in"))
    def price(order: dict[str, Any]) -> int:
        return 10 // int(order["pieces"])

    @flow.stage(after="price.error")
    def excuse(event: Event[dict[str, Any]]) -> dict[str, str]:
        return {"sorry": event.headers["reflow.error.type"].decode()}

    flow.reply(after=[price, excuse])
    log = await new_log("in", partitions=1)
    await ask(log, {"pieces": 5}, {"pieces": 0})
    await run(log, flow)
    assert await answers(log) == {0: 2, 1: {"sorry": "ZeroDivisionError"}}
    await log.stop()


async def test_an_error_can_be_the_answer_itself() -> None:
    flow = Flow("f", partitions=2)

    @flow.stage(after=flow.source("orders", topic="in"))
    def price(order: dict[str, Any]) -> int:
        return 10 // int(order["pieces"])

    flow.reply(after="price.error")
    log = await new_log("in", partitions=1)
    await ask(log, {"pieces": 0})
    await run(log, flow)
    assert await answers(log) == {0: {"pieces": 0}}, "the event, and no failure although it tells of one"
    await log.stop()


class Picky:
    """A sink that takes no threes."""

    async def open(self, ctx: ConnectorContext) -> Picky:
        return self

    async def write(self, events: Sequence[Event[Any]]) -> None:
        if 3 in [event.value["n"] for event in events]:
            raise Reject("three")

    async def flush(self) -> None: ...

    async def close(self) -> None: ...


async def test_what_a_sink_rejects_is_answered_too() -> None:
    flow = Flow("f", partitions=2)
    orders = flow.source("orders", topic="in")
    flow.sink("picky", Picky(), after=orders)
    flow.reply(after=orders, when=lambda order: order["n"] != 3)
    log = await new_log("in", partitions=1)
    await ask(log, {"n": 1}, {"n": 3})
    await run(log, flow)
    assert await answers(log) == {0: {"n": 1}, 1: ("reflow_kafka.errors.Reject", "picky", "three")}
    await log.stop()
