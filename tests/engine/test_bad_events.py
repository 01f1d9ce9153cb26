"""Events that fail in ways which must not end the work of their lane."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from reflow_kafka import Batch, Event, Flow, Retry
from reflow_kafka.connector import ConnectorContext
from reflow_kafka.engine.engine import Engine
from reflow_kafka.lane.env import Guarantee
from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend

DEADLINE = 20
HALF = "\ud800"  # of a surrogate pair


async def run(flow: Flow, events: Iterable[Any], guarantee: Guarantee = "exactly-once") -> MemoryLog:
    log = MemoryLog()
    await log.start()
    await log.ensure_topics([TopicSpec(name, 1, TopicKind.EXTERNAL) for name in ("in", "out")])
    await log.publish("in", 0, [OutRecord(b"k", orjson.dumps(event), 1000) for event in events])
    async with (
        asyncio.timeout(DEADLINE),
        Engine(flow, log=log, state=MemoryBackend(), guarantee=guarantee) as engine,
    ):
        await engine.wait(until_end=True)
    return log


async def raw(log: MemoryLog, topic: str) -> list[bytes]:
    reader = log.reader()
    reader.assign({TopicPartition(topic, 0): 0})
    return [r.value for records in (await reader.fetch(timeout=0)).values() for r in records if r.value]


async def written(log: MemoryLog, topic: str) -> list[Any]:
    return [orjson.loads(value) for value in await raw(log, topic)]


async def test_a_handler_that_awaits_what_was_cancelled() -> None:
    flow = Flow("cancelled", partitions=1)

    @flow.stage(after=flow.source("readings", topic="in"))
    async def look_up(number: int) -> int:
        if number == 3:
            answer = asyncio.get_running_loop().create_future()
            answer.cancel()  # by a client that was closed, say
            await answer
        return number

    flow.sink("results", after=look_up, topic="out")
    log = await run(flow, range(6))
    assert await written(log, "out") == [0, 1, 2, 4, 5]
    assert await written(log, "cancelled.dead-letters") == [3]


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
async def test_a_result_that_the_log_refuses(guarantee: Guarantee) -> None:
    flow = Flow("refused", partitions=1)

    @flow.stage(after=flow.source("readings", topic="in"))
    def decorate(number: int) -> object:
        return Event(number, headers={"note": b"x" * 2_000_000}) if number == 3 else number

    flow.sink("results", after=decorate, topic="out")
    log = await run(flow, range(6), guarantee)
    assert [n for n in await written(log, "out") if n != 3] == [0, 1, 2, 4, 5]
    assert await written(log, "refused.dead-letters") == [3]


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
async def test_a_result_that_the_log_refuses_beside_a_state_that_cannot_be_encoded(
    guarantee: Guarantee,
) -> None:
    """At least once results are refused before it shows that the state cannot be encoded."""
    flow = Flow("both", partitions=1)

    @flow.stage(after=flow.source("readings", topic="in"), state=list)
    def collect(seen: list[Any], number: int) -> object:
        seen.append(object() if number == 4 else number)
        return Event(number, headers={"note": b"x" * 2_000_000}) if number == 3 else number

    flow.sink("results", after=collect, topic="out")
    log = await run(flow, range(6), guarantee)
    assert {0, 1, 2, 5} <= set(await written(log, "out"))
    assert sorted(await written(log, "both.dead-letters")) == [3, 4]


@pytest.mark.parametrize("per_key", [False, True])
@pytest.mark.parametrize("within", [0.0, 0.2])
async def test_a_result_of_a_batch_that_the_log_refuses(per_key: bool, within: float) -> None:
    """While it is looked for, the other events of the batch have all their tries."""
    flow, failed = Flow("refused", partitions=1), []

    @flow.stage(
        after=flow.source("readings", topic="in"),
        batch=Batch(4, within=within, per_key=per_key),
        retry=Retry(3, backoff=0),
    )
    def decorate(numbers: list[int]) -> list[object]:
        if numbers == [5] and len(failed) < 2:
            failed.append(numbers)
            raise OSError("away")
        return [Event(n, headers={"note": b"x" * 2_000_000}) if n == 3 else n for n in numbers]

    flow.sink("results", after=decorate, topic="out")
    log = await run(flow, range(10))
    assert await written(log, "out") == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert await written(log, "refused.dead-letters") == [3]


class Numbers:
    """A source of three values, one of which cannot be written as JSON."""

    async def parts(self) -> list[str]:
        return [""]

    async def open(self, part: str, position: Any, ctx: ConnectorContext) -> Numbers:
        self.left: list[Any] = [1, HALF, 3][position or 0 :]
        return self

    async def read(self, max_events: int) -> list[Event[Any]] | None:
        return [Event(self.left.pop(0))] if self.left else None

    def position(self) -> int:
        return 3 - len(self.left)

    async def committed(self, position: Any) -> None:
        pass

    async def close(self) -> None:
        pass


async def test_an_event_of_a_source_that_not_even_a_dead_letter_can_express() -> None:
    flow = Flow("numbers", partitions=1)
    flow.sink("results", after=flow.source("readings", Numbers()), topic="out")
    log = await run(flow, [])
    assert await written(log, "out") == [1, 3]
    assert await raw(log, "numbers.dead-letters") == [ascii(HALF).encode()]
