"""A worker that goes back, or stops, in the middle of something: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reflow_kafka import Batch, Flow, Retry
from reflow_kafka.engine.engine import Engine
from reflow_kafka.errors import FlowStopped
from reflow_kafka.lane import serial, worker
from reflow_kafka.lane.calm import Calm
from reflow_kafka.lane.serial import SerialWorker
from reflow_kafka.lane.share import DeadLetterShare
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import DEADLINE, new_log, put, run, until_seen, values
from tests.support.waiting import until


async def test_a_slice_that_waited_for_a_commit_is_void_if_that_sent_the_worker_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The state cannot be encoded, which shows at the commit; the next slice has been admitted already."""
    monkeypatch.setattr(serial, "LONG", -1.0)  # every handler counts as one that blocks
    flow, spoiled = Flow("f", partitions=1), asyncio.Event()

    @flow.stage(after=flow.source("source", topic="in"), state=list)
    def add(seen: list[Any], n: int) -> int:
        time.sleep(0.003)  # a slice is one event, or few
        seen.append(object() if n == 5 else n)
        if n == 5:
            spoiled.set()
        return n

    flow.sink("out", after=add, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *[("k", n) for n in range(20)])
    engine = Engine(flow, log=log, state=MemoryBackend())
    enter = Calm.blocking

    @contextlib.asynccontextmanager
    async def later(calm: Calm) -> AsyncIterator[None]:
        if spoiled.is_set():  # until the commit has found it out
            await until(lambda: engine.statistics().flows["f"].stages["add"].rewinds, "it has gone back")
        async with enter(calm):
            yield

    monkeypatch.setattr(Calm, "blocking", later)
    async with asyncio.timeout(DEADLINE), engine:
        await until_seen(log, "out", 19)
    assert await values(log, "out") == [n for n in range(20) if n != 5]
    assert await values(log, "f.dead-letters") == [5]


async def test_what_was_parked_is_tried_again_though_nothing_new_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parked events succeed at last, the worker sleeps, and then the commit sends it back."""
    monkeypatch.setattr(serial, "MAX_HELD", 1)
    flow, away = Flow("f", partitions=1), True

    @flow.stage(
        after=flow.source("source", topic="in"), state=list, retry=Retry(None, backoff=0.01, factor=1)
    )
    def add(seen: list[Any], n: int) -> int:
        if away:
            raise OSError("away")
        seen.append(object())  # cannot be encoded, which shows at the commit
        return n

    flow.sink("out", after=add, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", ("k", 1), ("k", 2))
    engine = Engine(flow, log=log, state=MemoryBackend())
    async with asyncio.timeout(DEADLINE), engine:
        await until(lambda: engine.statistics().flows["f"].stages["add"].parked, "they are parked")
        away = False
        await until_seen(log, "f.dead-letters", 2)


async def test_a_batch_that_stops_the_flow_is_committed_as_a_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its results are written when it shows that too many events failed, and others take time to end."""
    monkeypatch.setattr(worker, "JUDGE_EVERY", 1)
    stop = False
    monkeypatch.setattr(DeadLetterShare, "exceeded", lambda share, now: stop)
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("source", topic="in"), batch=Batch(4, within=0), concurrency=2)
    async def work(numbers: list[int]) -> list[int]:
        nonlocal stop
        await asyncio.sleep(0)
        try:
            if stop is False and 0 not in numbers:
                stop = True
            elif not stop:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
            raise
        return numbers

    flow.sink("out", after=work, topic="out")
    log, state = await new_log("in", "out", partitions=1), MemoryBackend()
    await put(log, "in", *[(n, n) for n in range(8)])
    with pytest.raises(FlowStopped, match="became dead letters"):
        await run(log, flow, state=state)
    monkeypatch.setattr(DeadLetterShare, "exceeded", lambda share, now: False)
    await run(log, flow, state=state)
    assert sorted(await values(log, "out")) == list(range(8))


async def test_what_a_slice_has_written_before_it_stops_the_flow_is_not_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, ended = {5}, SerialWorker.run

    async def linger(worker: SerialWorker) -> None:
        try:
            await ended(worker)
        except FlowStopped:
            await asyncio.sleep(0.3)  # a commit begins before it is told
            raise

    monkeypatch.setattr(SerialWorker, "run", linger)
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("source", topic="in"), on_error="stop", retry=Retry(1))
    def check(n: int) -> int:
        if n in bad:
            raise ValueError("bad")
        return n

    flow.sink("out", after=check, topic="out")
    log, state = await new_log("in", "out", partitions=1), MemoryBackend()
    await put(log, "in", *[("k", n) for n in range(20)])
    with pytest.raises(FlowStopped, match="on_error='stop'"):
        await run(log, flow, state=state)
    bad.clear()
    await run(log, flow, state=state)
    assert await values(log, "out") == list(range(20))


@pytest.mark.parametrize("options", [{}, {"concurrency": 3}, {"batch": Batch(3, within=0)}])
async def test_a_handler_that_stops_the_flow_is_not_tried_again(options: dict[str, Any]) -> None:
    flow, tries = Flow("f", partitions=1), []

    async def check(numbers: Any) -> Any:
        if numbers == 3 or (isinstance(numbers, list) and 3 in numbers):
            tries.append(numbers)
            raise FlowStopped("no more of this")
        return numbers

    flow.stage(check, after=flow.source("source", topic="in"), **options)
    log = await new_log("in", partitions=1)
    await put(log, "in", *[("k", n) for n in range(6)])
    with pytest.raises(FlowStopped, match="no more of this"):
        await run(log, flow)
    assert len(tries) == 1
    assert await values(log, "f.dead-letters") == []
