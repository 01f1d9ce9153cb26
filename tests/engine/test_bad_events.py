"""Events that fail in ways which must not end the work of their lane."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from reflow_kafka import Event, Flow
from reflow_kafka.engine.engine import Engine
from reflow_kafka.lane.env import Guarantee
from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend

DEADLINE = 20


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


async def written(log: MemoryLog, topic: str) -> list[Any]:
    reader = log.reader()
    reader.assign({TopicPartition(topic, 0): 0})
    return [orjson.loads(r.value) for rs in (await reader.fetch(timeout=0)).values() for r in rs if r.value]


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
